//! The language through the public interface.

use std::collections::{BTreeMap, BTreeSet};

use hoy_containerfile::{Document, Ignore, Kind, Origin, Request, Rules, expand, statements};
use proptest::prelude::*;

#[test]
fn errors_point_at_the_word() {
    for (text, line, column, message) in [
        ("FORM a", 1, 1, "unknown instruction: FORM (did you mean FROM?)"),
        ("FROM a\nRUN --mnt=1 a b", 2, 5, "unknown flag: --mnt (did you mean mount?)"),
        ("FROM a\nRUN --network=nome x", 2, 15, "invalid value for network: nome (did you mean none?)"),
        ("FROM a\nRUN a \\\n  b\nENV x", 4, 5, "ENV must have two arguments"),
        ("FROM a\nENV a=b \\\n  c", 3, 3, "can't find = in \"c\": must be of the form name=value"),
        ("FROM a\nRUN <<EOF\nx", 2, 1, "unterminated heredoc \"EOF\""),
        ("RUN x", 1, 1, "no build stage in current context"),
        ("FROM a\nONBUILD ONBUILD RUN x", 2, 9, "chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("FROM a\nCMD [\"a\", 1]", 2, 5, "when using JSON array syntax, arrays must be comprised of strings only"),
        ("", 1, 1, "file with no instructions"),
    ] {
        let wrong = Document::parse(text.as_bytes()).expect_err(text);
        assert_eq!(wrong.to_string(), format!("line {line}, column {column}: {message}"), "{text:?}");
    }
    let wrong = Document::parse(b"FROM a\nCOPY --chwon=1 a b\n").expect_err("an unknown flag");
    let want = "f:2:6: unknown flag: --chwon; COPY only supports the --chmod=<permissions> --chown=<uid:gid> and the \
                --from=<image|stage> flags, besides --exclude=<pattern>, --link and --parents (did you mean chown?)\n  |\n\
                2 | COPY --chwon=1 a b\n  |      ^^^^^^^^^\n";
    assert_eq!(wrong.render("f"), want);
}

#[test]
fn lines() {
    let text = "\u{feff}# syntax=x\r\n# escape=`\r\n# about\r\nFROM a AS Build\r\nRUN one `\r\n# no\r\n\r\n two\r\nCOPY <<-E 'x' /d\r\n\thi\r\n\tE\r\n";
    let document = Document::parse(text.as_bytes()).expect("a document");
    assert_eq!((document.escape, document.directives.len()), ('`', 2));
    let [from, run, copy] = document.instructions.as_slice() else { panic!("three instructions") };
    assert_eq!(from.statement.comments, ["about"]);
    assert!(matches!(&from.kind, Kind::From(from) if from.name.as_ref().is_some_and(|name| name.text == "build")));
    assert_eq!(run.statement.text, "RUN one  two");
    assert!(run.statement.empty_continuation.is_some());
    let Kind::Copy(transfer) = &copy.kind else { panic!("COPY") };
    assert_eq!(transfer.files.iter().map(|file| file.text()).collect::<Vec<_>>(), ["hi\r\n"]);
    assert_eq!(transfer.sources.iter().map(|word| word.text.as_str()).collect::<Vec<_>>(), ["'x'"]);
}

#[test]
fn stages() {
    let text = "ARG B=base\nFROM x AS base\nONBUILD COPY --from=base a b\nFROM x AS spare\nFROM $B\nRUN --mount=from=0,target=/x --mount=from=spare,target=/y y";
    let document = Document::parse(text.as_bytes()).expect("a document");
    let plan = document.resolve(&Request::default()).expect("a plan");
    assert_eq!((plan.target, plan.needed()), (2, vec![0, 1, 2]));
    assert_eq!(plan.stages[2].base, Origin::Stage(0));
    assert_eq!(plan.stages[2].instructions.len(), 2);
    let only = Request { target: Some("SPARE".into()), ..Request::default() };
    assert_eq!(document.resolve(&only).expect("a plan").needed(), [1]);
    let contexts = BTreeSet::from(["spare".to_owned()]);
    let plan = document.resolve(&Request { contexts, ..Request::default() }).expect("a plan");
    assert_eq!(plan.stages[1].base, Origin::Context("spare".into()));
    let text = "ARG B=zero\nFROM x AS zero\nFROM x AS one\nFROM x\nARG B\nARG C=$B D=o\nCOPY --from=$C a b\nCOPY --from=${D}ne a b";
    let document = Document::parse(text.as_bytes()).expect("a document");
    let given = |args| document.resolve(&Request { args, ..Request::default() }).expect("a plan").needed();
    assert_eq!(
        (given(BTreeMap::new()), given(BTreeMap::from([("B".into(), "image".into())]))),
        (vec![0, 1, 2], vec![1, 2])
    );
    for (text, target, want) in [
        ("FROM a AS build", Some("biuld"), "stage \"biuld\" could not be found (did you mean build?)"),
        (
            "FROM a AS b\nCOPY --from=b c d",
            None,
            "stage: b (COPY --from=b: no stage or image found with that name before it)",
        ),
        ("FROM a\nCOPY --from=7 c d", None, "stage \"7\" could not be found"),
        ("FROM a\nCOPY --from=l c d\nFROM a AS l", None, "needs to be defined before"),
        ("FROM a\nCOPY --from=$x c d\nARG x=a", None, "$x should not be blank"),
        ("ARG IMAGE=a\nFROM $IMAEG", None, "$IMAEG should not be blank (did you mean IMAGE?)"),
    ] {
        let request = Request { target: target.map(str::to_owned), ..Request::default() };
        let wrong = Document::parse(text.as_bytes()).expect(text).resolve(&request).expect_err(text).to_string();
        assert!(wrong.contains(want), "{text:?}: {wrong}");
    }
}

#[test]
fn arguments_of_arguments_are_bounded() {
    let doubled: String = (1..17).map(|n| format!("ARG a{n}=${{a{0}}}${{a{0}}}\n", n - 1)).collect();
    let args = format!("ARG a0=xxxxxxxx\n{doubled}{}", "ARG b=$a16\n".repeat(10));
    for text in [format!("{args}FROM a\n"), format!("FROM a\n{args}COPY --from=b c d\n")] {
        let document = Document::parse(text.as_bytes()).expect("a document");
        let wrong = document.resolve(&Request::default()).expect_err("too much").to_string();
        assert!(wrong.contains("beyond its limits"), "{wrong}");
    }
}

#[test]
fn expansion_reports_what_it_used() {
    let variables = BTreeMap::from([("A".to_owned(), "a b".to_owned()), ("E".to_owned(), String::new())]);
    for (word, text, words) in [
        ("x$A", "xa b", vec!["xa", "b"]),
        ("\"$A\" '$A'", "a b $A", vec!["a b", "$A"]),
        ("${E-w}${E:-w}${N-w}${N:-w}", "www", vec!["www"]),
        ("${A+w}${E+w}${E:+w}${N+w}", "ww", vec!["ww"]),
        ("${A#*' '}${A%% *}", "ba", vec!["ba"]),
        ("${A/b/c}${A// /}", "a cab", vec!["a", "cab"]),
        ("\\$A", "$A", vec!["$A"]),
    ] {
        let got = expand(word, &variables, Rules::words('\\')).expect(word);
        assert_eq!(
            (got.text.as_str(), got.words.iter().map(String::as_str).collect::<Vec<_>>()),
            (text, words),
            "{word}"
        );
    }
    let got = expand("${A:+$E}${N}", &variables, Rules::words('\\')).expect("expands");
    assert_eq!((got.used.len(), got.undefined.len()), (2, 1));
    let deep = "${N:-".repeat(1000);
    assert!(expand(&deep, &variables, Rules::words('\\')).is_err());
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _document = Document::parse(&bytes);
        let _statements = statements(&bytes);
    }

    #[test]
    fn no_text_panics(text in "(FROM a\n)?((RUN|COPY|ENV|ARG|ONBUILD|HEALTHCHECK|LABEL|FROM|CMD|ADD)[ \\-=\\[\\]\",'a<$\\\\{}:#%/\n*?é]{0,40}\n){0,4}") {
        if let Ok(document) = Document::parse(text.as_bytes()) {
            let _plan = document.resolve(&Request::default());
        }
        let variables = BTreeMap::from([("a".to_owned(), "aé/a".to_owned())]);
        let _expanded = expand(&text, &variables, Rules::words('\\'));
        if let Ok(ignore) = Ignore::parse(&text) {
            let _is_excluded = ignore.excludes("a/é");
        }
    }
}
