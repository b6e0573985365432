//! zstd:chunked: plain zstd to everybody, and files that are found one by one by its table of contents.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine as _;
use hoy_tests::{Sandbox, TarLayer, User, image_of, need};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

const PREFIX: &str = "io.github.containers.zstd-chunked.";

struct Place(Sandbox);

impl Place {
    /// A user's sandbox with an image of a tar of files large and small, links, a named pipe and an attribute.
    fn new(user: User) -> Option<Self> {
        if !need(&["zstd", "skopeo", "tar"]) || !user.available() {
            return None;
        }
        let place = Self(Sandbox::for_user(user));
        place.sh(
            "mkdir -p t/d/e; cd t; echo small >d/small; : >d/empty; ln -s small d/link; ln d/small d/hard; mkfifo d/pipe
             head -c 3000000 /dev/urandom >big; head -c 9000000 /dev/zero >zeros; chmod 4750 big
             touch -d '2001-02-03 04:05:06.789' d/small; printf %0200d 0 >d/$(printf %0150d 0)
             tar --format=pax --pax-option=delete=comment --xattrs -cf ../t.tar .; tar --format=gnu -cf ../g.tar d",
        );
        let layers = ["t.tar", "g.tar"].map(|name| TarLayer::plain(place.read(name)));
        image_of(&place.work("plain"), "x", layers);
        Some(place)
    }

    fn work(&self, name: &str) -> PathBuf {
        self.0.path("work").join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.work(name)).unwrap()
    }

    fn sh(&self, script: &str) -> String {
        self.0.ok("sh", &["-ec", script])
    }

    fn hoy(&self, args: &[&str]) -> String {
        self.0.run("hoy-copy").args(["copy", "-q"]).args(args).ok()
    }

    fn manifest(&self, image: &str) -> Value {
        serde_json::from_str(&self.0.ok("hoy-copy", &["inspect", "--raw", image])).unwrap()
    }

    /// What the frame of `length` bytes at `offset` of a blob holds, uncompressed.
    fn frame(&self, blob: &[u8], offset: usize, length: usize) -> Vec<u8> {
        std::fs::write(self.work("frame.zst"), &blob[offset..offset + length]).unwrap();
        self.sh("zstd -qdf frame.zst -o frame");
        self.read("frame")
    }
}

fn sum(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn blob_name(layer: &Value) -> &str {
    &layer["digest"].as_str().unwrap()["sha256:".len()..]
}

#[test]
fn files_are_found_by_the_table() {
    for user in [User::Root, User::One] {
        let Some(place) = Place::new(user) else { return };
        let once = place.hoy(&["--dest-compress-format", "zstd:chunked", "oci:plain:x", "dir:new"]);
        assert_eq!(once, place.hoy(&["--dest-compress-format", "zstd:chunked", "oci:plain:x", "dir:again"]));
        // What is so already stays so.
        assert_eq!(once, place.hoy(&["--dest-compress-format", "zstd:chunked", "dir:new", "dir:third"]));
        for (layer, tar) in place.manifest("dir:new")["layers"].as_array().unwrap().iter().zip(["t.tar", "g.tar"]) {
            assert!(layer["mediaType"].as_str().unwrap().ends_with("tar+zstd"));
            let name = blob_name(layer);
            place.sh(&format!("zstd -qdc new/{name} | cmp - {tar}"));
            let blob = place.read(&format!("new/{name}"));
            let numbers = |key: &str| -> Vec<usize> {
                let text = layer["annotations"][format!("{PREFIX}{key}")].as_str().unwrap();
                text.split(':').map(|number| number.parse().unwrap()).collect()
            };
            let (at, split) = (numbers("manifest-position"), numbers("tarsplit-position"));
            let footer = &blob[blob.len() - 64..];
            let word = |n: usize| u64::from_le_bytes(footer[n * 8..n * 8 + 8].try_into().unwrap()) as usize;
            assert_eq!([0, 1, 2, 3].map(word).as_slice(), at.as_slice());
            assert_eq!([4, 5, 6].map(word).as_slice(), split.as_slice());
            assert_eq!(&footer[56..], b"GNUlInUx");
            let checksum = &layer["annotations"][format!("{PREFIX}manifest-checksum")];
            assert_eq!(sum(&blob[at[0]..at[0] + at[1]]), checksum.as_str().unwrap());
            let table = place.frame(&blob, at[0], at[1]);
            assert_eq!(table.len(), at[2]);
            let table: Value = serde_json::from_slice(&table).unwrap();
            assert_eq!(table["tarSplitDigest"], sum(&blob[split[0]..split[0] + split[1]]).as_str());
            let lines = place.frame(&blob, split[0], split[1]);
            assert_eq!(lines.len(), split[2]);
            same_as_tar(&place, &table, &blob, &lines, tar);
        }
    }
}

/// The table's files have their bytes where it says, and with tar-split they make up the tar.
fn same_as_tar(place: &Place, table: &Value, blob: &[u8], lines: &[u8], tar: &str) {
    let number = |row: &Value, key: &str| row[key].as_u64().unwrap_or_default() as usize;
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut kinds = Vec::new();
    for row in table["entries"].as_array().unwrap() {
        let name = row["name"].as_str().unwrap().to_owned();
        kinds.push(row["type"].as_str().unwrap());
        if row["digest"].is_string() {
            let bytes = place.frame(blob, number(row, "offset"), number(row, "endOffset") - number(row, "offset"));
            assert_eq!(sum(&bytes), row["digest"].as_str().unwrap(), "{name}");
            assert_eq!(bytes.len(), number(row, "size"));
            files.insert(name, bytes);
        }
        if row["chunkDigest"].is_string() {
            let (at, size) = (number(row, "chunkOffset"), number(row, "chunkSize"));
            let bytes = &files[row["name"].as_str().unwrap()][at..at + size];
            assert_eq!(sum(bytes), row["chunkDigest"].as_str().unwrap());
        }
        if row["name"] == "./d/small" {
            assert_eq!(row["modtime"], "2001-02-03T04:05:06.789Z");
        }
        if row["name"] == "./big" && row["type"] == "reg" {
            assert_eq!(number(row, "mode"), 0o4750);
        }
    }
    for kind in ["reg", "dir", "symlink", "hardlink", "fifo"] {
        assert!(kinds.contains(&kind), "{kind}");
    }
    assert_eq!(kinds.contains(&"chunk"), tar == "t.tar");
    let mut whole = Vec::new();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let line: Value = serde_json::from_slice(line).unwrap();
        match line["type"].as_u64().unwrap() {
            1 if line["size"].is_u64() => whole.extend(&files[line["name"].as_str().unwrap()]),
            1 => assert!(line["payload"].is_null()),
            _ => whole
                .extend(base64::engine::general_purpose::STANDARD.decode(line["payload"].as_str().unwrap()).unwrap()),
        }
    }
    assert!(whole == place.read(tar), "{tar}: tar-split and files make up another tar");
}

#[test]
fn others_read_it_and_the_table_goes_with_the_compression() {
    let Some(place) = Place::new(User::Root) else { return };
    place.hoy(&["--dest-compress-format", "zstd:chunked", "oci:plain:x", "oci:new:x"]);
    place.0.ok("skopeo", &["--insecure-policy", "copy", "-q", "--dest-decompress", "oci:new:x", "dir:theirs"]);
    let names = |image: &str| -> Vec<String> {
        let manifest = place.manifest(image);
        manifest["layers"].as_array().unwrap().iter().map(|layer| blob_name(layer).to_owned()).collect()
    };
    assert_eq!(names("dir:theirs"), names("oci:plain:x"));
    place.hoy(&["oci:new:x", "store:chunked"]);
    place.0.ok("hoy-storage", &["unpack", "chunked", "tree"]);
    assert_eq!(place.sh("sha256sum <t/big"), place.sh("sha256sum <tree/big"));
    // Compressed in another way, or encrypted, the layer has no such table.
    place.sh("openssl genrsa -out key 2048; openssl rsa -in key -pubout -out pub");
    for args in [["--dest-compress-format", "gzip"], ["--encryption-key", "jwe:pub"]] {
        place.hoy(&[&args[..], &["oci:new:x", "oci:other:x"]].concat());
        assert!(!place.manifest("oci:other:x").to_string().contains(PREFIX), "{args:?}");
    }
    // Zstd as such is good enough where zstd is asked for.
    assert_eq!(
        place.hoy(&["--dest-compress-format", "zstd", "oci:new:x", "oci:same:x"]),
        place.0.ok("hoy-copy", &["digest", "oci:new:x"])
    );
    place.sh("printf x >a; tar -cf twice.tar a a; tar -cf holes.tar -S -C t zeros; truncate -s 100M hole; tar -Scf holes.tar hole");
    for (tar, words) in [("twice.tar", "twice"), ("holes.tar", "holes")] {
        image_of(&place.work(tar).with_extension("layout"), "x", [TarLayer::plain(place.read(tar))]);
        let from = format!("oci:{}:x", tar.replace(".tar", ".layout"));
        let run = place.0.run("hoy-copy").args(["-q", "--dest-compress-format", "zstd:chunked", &from, "oci:no:x"]);
        run.fails(1, &["zstd:chunked cannot hold", words]);
    }
}
