//! Each build check finds what it is for, and nothing in what is right.

use hoy_containerfile::{Document, Findings, Ignore};

/// What the checks say of a text, or why it is no Containerfile.
fn check(text: &str) -> Result<Findings, String> {
    let ignore = Ignore::parse("secret.txt\n").map_err(|line| format!("pattern {line}"))?;
    let document = Document::parse(text.as_bytes()).map_err(|error| format!("{text:?}: {error}"))?;
    document
        .check(Some(&ignore), &|image| (image == "known").then(|| vec!["FROM_IMAGE=x".to_owned()]), None)
        .map_err(|error| format!("{text:?}: {error}"))
}

#[test]
fn each_finds_its_mistake_alone() {
    let described = "# check=experimental=all\n";
    for (name, line, wrong, right) in [
        ("ConsistentInstructionCasing", 3, "FROM a\nRUN x\nrun y", "from a\nrun x\nrun y"),
        ("ConsistentInstructionCasing", 1, "From a as b\nRUN x\nRUN y", "FROM a AS b\nRUN x\nRUN y"),
        ("CopyIgnoredFile", 2, "FROM a\nCOPY ./secret.txt /", "FROM a\nCOPY other.txt /"),
        ("CopyIgnoredFile", 2, "FROM a\nADD secret.txt /", "FROM a\nCOPY --from=b secret.txt /"),
        ("DuplicateStageName", 2, "FROM a AS b\nFROM c AS b", "FROM a AS b\nFROM c AS d"),
        ("ExposeInvalidFormat", 2, "FROM a\nEXPOSE 127.0.0.1:80:80", "FROM a\nEXPOSE 80 1-2/udp"),
        ("ExposeProtoCasing", 2, "FROM a\nEXPOSE 80/TCP", "FROM a\nEXPOSE 80/tcp"),
        ("FromAsCasing", 1, "FROM a as b", "FROM a AS b"),
        ("FromPlatformFlagConstDisallowed", 1, "FROM --platform=linux/amd64 a", "FROM --platform=$BUILDPLATFORM a"),
        (
            "FromPlatformFlagConstDisallowed",
            1,
            "FROM --platform=linux/arm64 a AS b",
            "FROM --platform=linux/arm64 a AS b_arm64",
        ),
        ("InvalidDefaultArgInFrom", 2, "ARG T\nFROM a:${T}", "ARG T=1\nFROM a:${T}"),
        ("InvalidDefaultArgInFrom", 2, "ARG T\nFROM $T", "ARG T\nFROM a${T:-b}"),
        ("JSONArgsRecommended", 2, "FROM a\nCMD x y", "FROM a\nSHELL [\"x\"]\nCMD x y"),
        ("JSONArgsRecommended", 2, "FROM a\nENTRYPOINT x", "FROM a\nENTRYPOINT [\"x\"]"),
        ("LegacyKeyValueFormat", 2, "FROM a\nENV b c", "FROM a\nENV b=c\nLABEL d=e\nARG f"),
        ("MaintainerDeprecated", 2, "FROM a\nMAINTAINER me", "FROM a\nLABEL by=me"),
        (
            "MultipleInstructionsDisallowed",
            2,
            "FROM a\nCMD [\"a\"]\nCMD [\"b\"]",
            "FROM a AS b\nCMD [\"a\"]\nFROM b\nCMD [\"b\"]",
        ),
        ("NoEmptyContinuation", 4, "FROM a\nRUN b \\\n\n c", "FROM a\nRUN b \\\n# d\n c"),
        ("RedundantTargetPlatform", 1, "FROM --platform=$TARGETPLATFORM a", "FROM a"),
        ("ReservedStageName", 1, "FROM a AS context", "FROM a AS contexts"),
        ("SecretsUsedInArgOrEnv", 2, "FROM a\nARG API_TOKEN", "FROM a\nENV PUBLIC_KEY=1 KEYBOARD=2 KEY_FILE=3"),
        ("StageNameCasing", 1, "FROM a AS Big", "FROM a AS small"),
        ("UndefinedArgInFrom", 1, "FROM a$B", "ARG B=1\nFROM a$B"),
        ("UndefinedVar", 2, "FROM scratch\nCOPY $A /", "FROM scratch\nARG A=1\nCOPY $A $PATH"),
        ("UndefinedVar", 3, "FROM scratch AS a\nFROM a\nENV B=$C", "FROM scratch AS a\nENV C=1\nFROM a\nENV B=$C"),
        ("UndefinedVar", 3, "ARG I=known\nFROM $I\nENV B=$C", "ARG I=known\nFROM $I\nENV B=$FROM_IMAGE:$PATH"),
        ("WorkdirRelativePath", 2, "FROM a\nWORKDIR b", "FROM a\nWORKDIR /a\nWORKDIR b"),
    ] {
        let found = check(wrong).unwrap().found;
        let found: Vec<_> = found.iter().map(|found| (found.check, found.place.line)).collect();
        assert_eq!(found, [(name, line)], "{wrong:?}");
        assert_eq!(check(right).unwrap(), Findings::default(), "{right:?}");
        let skipped = format!("# check=skip={name};error=true\n{wrong}");
        assert_eq!(check(&skipped).unwrap(), Findings { found: Vec::new(), is_error: true }, "{skipped:?}");
    }
    let wrong = "# other\nARG a=1\nFROM b";
    assert_eq!(check(wrong).unwrap().found, []);
    assert_eq!(check(&format!("{described}{wrong}")).unwrap().found.len(), 1);
    assert_eq!(check(&format!("{described}# a is it\nARG a=1\nFROM b")).unwrap().found, []);
}

#[test]
fn the_directive_is_read() {
    assert_eq!(check("# check=skip=all\nFROM a as B").unwrap().found, []);
    assert_eq!(check("# check=skip=FromAsCasing,NotYet,StageNameCasing // so\nFROM a as B").unwrap().found, []);
    assert_eq!(check("#!/bin/hoy-build\n# check=skip=all\nFROM a as B").unwrap().found, []);
    // Above an instruction it is for that one alone.
    let own = check("FROM a\n# check=skip=MaintainerDeprecated // it is me\nMAINTAINER me\nMAINTAINER me").unwrap();
    assert_eq!(own.found.iter().map(|found| found.place.line).collect::<Vec<_>>(), [4]);
    let document = Document::parse(b"# check=skip=all\nFROM a as b").expect("a document");
    let asked = document.check(None, &|_| None, Some("error=true")).expect("a wish");
    assert_eq!((asked.found.len(), asked.is_error), (1, true));
    let found = check("ARG TAG=1\nFROM a:$TAGS").unwrap().found;
    assert_eq!(found[0].message, "FROM argument 'TAGS' is not declared (did you mean TAG?)");
    for wrong in ["error=maybe", "skip", "other=1"] {
        let document = Document::parse(format!("# check={wrong}\nFROM a").as_bytes()).expect("a document");
        let error = document.check(None, &|_| None, None).expect_err(wrong);
        assert!(error.to_string().contains("line 1"), "{error}");
    }
}
