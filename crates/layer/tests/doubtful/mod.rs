//! Archives in which readers are known to see different things, or might.

use crate::raw::{block, padded, pax, sign};

/// A header with these bytes at these places.
fn with(mut header: [u8; 512], changes: &[(usize, &[u8])]) -> Vec<u8> {
    for (at, bytes) in changes {
        header[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    sign(&mut header);
    header.to_vec()
}

fn record(key: &str, value: &str) -> Vec<u8> {
    let payload = key.len() + value.len() + 3;
    let length = (payload + 1..).find(|length| payload + length.to_string().len() == *length).unwrap();
    format!("{length} {key}={value}\n").into_bytes()
}

pub(crate) fn extended(records: &[(&str, &str)]) -> Vec<u8> {
    pax(b'x', &records.iter().flat_map(|(key, value)| record(key, value)).collect::<Vec<_>>())
}

pub(crate) fn long(kind: u8, text: &[u8]) -> Vec<u8> {
    [with(block("././@LongLink", kind, text.len() as u64), &[(257, b"ustar  \0")]), padded(text)].concat()
}

/// A file whose bytes look like an archive with a file `smuggled`.
pub(crate) fn nested() -> Vec<u8> {
    [block("smuggled", b'0', 0).to_vec(), vec![0; 1024]].concat()
}

/// Where readers are known to go apart, and whether Hoy takes it all the same.
pub(crate) fn doubtful() -> Vec<(&'static str, bool, Vec<u8>)> {
    let file = || block("a", b'0', 0);
    let inner = nested();
    let size = inner.len() as u64;
    let in_octal = format!("{size:011o}\0").into_bytes();
    let one = |parts: &[&[u8]]| parts.concat();
    vec![
        ("a file", true, one(&[&file()])),
        (
            "PAX says larger than the header's 0",
            true,
            one(&[&extended(&[("size", &size.to_string())]), &file(), &inner]),
        ),
        (
            "PAX says 0, the header more",
            false,
            one(&[&extended(&[("size", "0")]), &with(file(), &[(124, &in_octal)]), &inner]),
        ),
        (
            "PAX says less than the header",
            false,
            one(&[&extended(&[("size", "512")]), &with(file(), &[(124, &in_octal)]), &inner]),
        ),
        (
            "PAX says more than the header",
            false,
            one(&[&extended(&[("size", &size.to_string())]), &with(file(), &[(124, b"00000001000\0")]), &inner]),
        ),
        (
            "PAX size of a directory",
            false,
            one(&[&extended(&[("size", &size.to_string())]), &block("d/", b'5', 0), &inner]),
        ),
        (
            "PAX size of a hard link",
            false,
            one(&[
                &file(),
                &extended(&[("size", &size.to_string())]),
                &with(block("h", b'1', 0), &[(157, b"a")]),
                &inner,
            ]),
        ),
        (
            "PAX size of a symbolic link",
            false,
            one(&[&extended(&[("size", &size.to_string())]), &with(block("l", b'2', 0), &[(157, b"a")]), &inner]),
        ),
        ("PAX size of a FIFO", false, one(&[&extended(&[("size", &size.to_string())]), &block("p", b'6', 0), &inner])),
        (
            "PAX size of a volume label",
            false,
            one(&[&extended(&[("size", &size.to_string())]), &block("v", b'V', 0), &inner]),
        ),
        ("a directory with a size", false, one(&[&block("d/", b'5', size), &inner])),
        ("a FIFO with a size", false, one(&[&block("p", b'6', size), &inner])),
        ("a symbolic link with a size", false, one(&[&with(block("l", b'2', size), &[(157, b"a")]), &inner])),
        ("a hard link with a size", true, one(&[&file(), &with(block("h", b'1', size), &[(157, b"a")]), &inner])),
        ("two PAX headers", false, one(&[&extended(&[("path", "x")]), &extended(&[("size", "0")]), &file()])),
        (
            "two PAX sizes in one header",
            false,
            one(&[&extended(&[("size", "0"), ("size", &size.to_string())]), &file(), &inner]),
        ),
        ("two PAX paths in one header", false, one(&[&extended(&[("path", "x"), ("path", "y")]), &file()])),
        (
            "a PAX size taken back",
            false,
            one(&[&extended(&[("size", "")]), &with(file(), &[(124, &in_octal)]), &inner]),
        ),
        ("a PAX path taken back", false, one(&[&extended(&[("path", "")]), &file()])),
        ("a PAX size with a sign", false, one(&[&extended(&[("size", "+0")]), &file()])),
        ("a negative PAX size", false, one(&[&extended(&[("size", "-512")]), &file()])),
        ("a PAX size with a blank", false, one(&[&extended(&[("size", " 0")]), &file()])),
        ("a PAX size in hexadecimal", false, one(&[&extended(&[("size", "0x10")]), &file()])),
        ("a PAX size beyond 64 bits", false, one(&[&extended(&[("size", "18446744073709551616")]), &file()])),
        ("a PAX record that is too long", false, one(&[&pax(b'x', b"99 path=x\n"), &file()])),
        ("a PAX record without a newline", false, one(&[&pax(b'x', b"9 path=xy"), &file()])),
        ("a PAX record with NUL in its path", false, one(&[&extended(&[("path", "x\0y")]), &file()])),
        (
            "a PAX record with NUL in its link",
            false,
            one(&[&extended(&[("linkpath", "x\0y")]), &with(block("l", b'2', 0), &[(157, b"a")])]),
        ),
        ("a PAX path with a newline", true, one(&[&extended(&[("path", "x\ny")]), &file()])),
        ("a global path", false, one(&[&pax(b'g', &record("path", "x")), &file()])),
        ("a global size", false, one(&[&pax(b'g', &record("size", "512")), &file(), &inner])),
        ("a global owner", true, one(&[&pax(b'g', &record("uid", "7")), &file()])),
        ("a global comment, as git writes it", true, one(&[&pax(b'g', &record("comment", "hash")), &file()])),
        ("a Solaris extended header", true, one(&[&pax(b'X', &record("path", "x")), &file()])),
        ("a long name, then PAX", false, one(&[&long(b'L', b"long\0"), &extended(&[("path", "pax")]), &file()])),
        ("PAX, then a long name", false, one(&[&extended(&[("path", "pax")]), &long(b'L', b"long\0"), &file()])),
        (
            "a long name and PAX without a path",
            true,
            one(&[&long(b'L', b"long\0"), &extended(&[("mtime", "1")]), &file()]),
        ),
        ("two long names", false, one(&[&long(b'L', b"one\0"), &long(b'L', b"two\0"), &file()])),
        (
            "a long name and a long link",
            true,
            one(&[&long(b'K', b"target\0"), &long(b'L', b"name\0"), &with(block("l", b'2', 0), &[(157, b"a")])]),
        ),
        ("a long name without its NUL", true, one(&[&long(b'L', b"name"), &file()])),
        ("an empty long name", false, one(&[&long(b'L', b"\0"), &file()])),
        ("a long name with NUL inside", false, one(&[&long(b'L', b"one\0two\0"), &file()])),
        ("a long name at the end", false, one(&[&file(), &long(b'L', b"name\0")])),
        ("PAX at the end", false, one(&[&file(), &extended(&[("path", "x")])])),
        ("PAX before the end blocks", false, one(&[&file(), &extended(&[("path", "x")]), &[0; 1024]])),
        ("NUL in the name", true, one(&[&with(file(), &[(0, b"a\0b")])])),
        ("no name", false, one(&[&with(file(), &[(0, b"\0")])])),
        ("a name of 100 bytes", true, one(&[&with(file(), &[(0, &[b'n'; 100])])])),
        ("a prefix", true, one(&[&with(file(), &[(345, b"dir")])])),
        ("a prefix and GNU's magic", false, one(&[&with(file(), &[(257, b"ustar  \0"), (345, b"dir")])])),
        ("a prefix and no magic", false, one(&[&with(file(), &[(257, &[0; 8]), (345, b"dir")])])),
        ("a prefix and PAX", true, one(&[&extended(&[("path", "x")]), &with(file(), &[(345, b"dir")])])),
        ("a magic of neither", true, one(&[&with(file(), &[(257, b"usxar\x0000")])])),
        ("ustar with another version", true, one(&[&with(file(), &[(263, b"99"), (345, b"dir")])])),
        ("a file with a trailing slash", false, one(&[&block("d/", b'0', 0)])),
        ("a file with a trailing slash and a size", false, one(&[&block("d/", b'0', size), &inner])),
        ("an old file with a trailing slash", true, one(&[&block("d/", 0, 0)])),
        ("an old file with a trailing slash and a size", false, one(&[&block("d/", 0, size), &inner])),
        ("a contiguous file", true, one(&[&block("c", b'7', size), &inner])),
        ("an unknown type", false, one(&[&block("z", b'Z', size), &inner])),
        ("a reserved type", false, one(&[&block("z", b'8', size), &inner])),
        ("a dump directory", false, one(&[&block("d/", b'D', 0)])),
        ("a multivolume part", false, one(&[&block("m", b'M', size), &inner])),
        ("a volume label", false, one(&[&block("v", b'V', 0), &file()])),
        ("a size in base 256", true, one(&[&with(file(), &[(124, &[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0])]), &inner])),
        ("a negative size in base 256", false, one(&[&with(file(), &[(124, &[0xff; 12])]), &inner])),
        ("a size of 2^95", false, one(&[&with(file(), &[(124, &[0x80, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0])]), &inner])),
        (
            "a size of 2^64 and some",
            false,
            one(&[&with(file(), &[(124, &[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 6, 0])]), &inner]),
        ),
        (
            "a size with bit 6 of the first byte",
            false,
            one(&[&with(file(), &[(124, &[0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0])]), &inner]),
        ),
        (
            "a size with the first byte's low bits",
            false,
            one(&[&with(file(), &[(124, &[0x81, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0])]), &inner]),
        ),
        ("a negative owner in base 256", false, one(&[&with(file(), &[(108, &[0xff; 8])])])),
        ("an owner of 2^32", false, one(&[&with(file(), &[(108, &[0x80, 0, 0, 1, 0, 0, 0, 0])])])),
        ("a blank size", false, one(&[&with(file(), &[(124, b"            ")])])),
        ("a size of blanks and digits", true, one(&[&with(file(), &[(124, b"       3000 ")]), &inner])),
        ("a size with digits after a NUL", false, one(&[&with(file(), &[(124, b"0\x003000\0\0\0\0\0\0")]), &inner])),
        ("a size with digits after a blank", false, one(&[&with(file(), &[(124, b"0 3000      ")]), &inner])),
        ("a size with a letter", false, one(&[&with(file(), &[(124, b"0000000300x\0")]), &inner])),
        ("a size with digit 9", false, one(&[&with(file(), &[(124, b"00000000900\0")]), &inner])),
        ("a size with a minus", false, one(&[&with(file(), &[(124, b"-0000000600\0")]), &inner])),
        ("a size that fills its field", true, one(&[&with(file(), &[(124, b"000000003000")]), &inner])),
        ("a mode in base 256", true, one(&[&with(file(), &[(100, &[0x80, 0, 0, 0, 0, 0, 1, 0xa4])])])),
        ("a mode with file type bits", true, one(&[&with(file(), &[(100, b"0100644\0")])])),
        ("a checksum of signed bytes", true, {
            let mut header = block("a", b'0', 0);
            header[0] = 0xe9;
            header[148..156].fill(b' ');
            let sum: i32 = header.iter().map(|&byte| i32::from(byte.cast_signed())).sum();
            header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            header.to_vec()
        }),
        ("a blank checksum", false, {
            let mut header = block("a", b'0', 0);
            header[148..156].fill(b' ');
            header.to_vec()
        }),
        ("a wrong checksum in the second entry", false, one(&[&file(), &[7; 512]])),
        ("one empty block, then more", false, one(&[&file(), &[0; 512], &block("b", b'0', 0)])),
        ("two empty blocks, then another archive", true, one(&[&file(), &[0; 1024], &block("b", b'0', 0), &[0; 1024]])),
        ("the end, then anything", true, one(&[&file(), &[0; 1024], b"anything"])),
        ("no end blocks", true, one(&[&block("a", b'0', size), &inner[..size as usize]])),
        ("nothing", true, vec![0; 1024]),
        ("cut in a header", false, file()[..511].to_vec()),
        ("cut in data", false, one(&[&block("a", b'0', size), &inner[..1000]])),
        ("cut in an extended header", false, pax(b'x', &record("path", "x"))[..700].to_vec()),
        ("a hard link to itself", true, one(&[&with(block("h", b'1', 0), &[(157, b"h")])])),
        ("a hard link to nothing", false, one(&[&block("h", b'1', 0)])),
        ("a symbolic link to nothing", false, one(&[&block("l", b'2', 0)])),
        ("a character device without numbers", true, one(&[&with(block("c", b'3', 0), &[(329, &[0; 16])])])),
        (
            "GNU times in place of a prefix",
            false,
            one(&[&with(file(), &[(257, b"ustar  \0"), (345, b"12345670123\x0012345670123\0")])]),
        ),
        (
            "a sparse map in a plain file's PAX",
            true,
            one(&[
                &extended(&[("GNU.sparse.size", "512"), ("GNU.sparse.numblocks", "1"), ("GNU.sparse.map", "0,512")]),
                &block("s", b'0', 512),
                &[1; 512],
            ]),
        ),
        (
            "a sparse size without a map",
            false,
            one(&[&extended(&[("GNU.sparse.realsize", "9999")]), &block("s", b'0', 512), &[1; 512]]),
        ),
        ("a sparse name without a map", false, one(&[&extended(&[("GNU.sparse.name", "other")]), &file()])),
        (
            "a sparse name before a path",
            false,
            one(&[&extended(&[("GNU.sparse.name", "other"), ("path", "path")]), &file()]),
        ),
        (
            "a sparse map of a directory",
            false,
            one(&[
                &extended(&[
                    ("GNU.sparse.major", "1"),
                    ("GNU.sparse.minor", "0"),
                    ("GNU.sparse.name", "x"),
                    ("GNU.sparse.realsize", "5"),
                ]),
                &block("d/", b'5', 0),
            ]),
        ),
        (
            "a sparse format to come",
            false,
            one(&[
                &extended(&[
                    ("GNU.sparse.major", "2"),
                    ("GNU.sparse.minor", "0"),
                    ("GNU.sparse.name", "x"),
                    ("GNU.sparse.realsize", "5"),
                ]),
                &file(),
            ]),
        ),
    ]
}
