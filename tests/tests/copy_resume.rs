//! Downloads that break, processes that are killed, and many that want the same: nothing travels twice.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use hoy_tests::{Sandbox, is_long, need};
use sha2::{Digest as _, Sha256};

/// A registry with one image of one layer, which cuts connections after so many bytes and counts what it sends.
struct Cutter {
    address: String,
    sent: Arc<AtomicU64>,
    layer_requests: Arc<AtomicUsize>,
    /// The requests as they came.
    lines: Arc<Mutex<Vec<String>>>,
    digest: String,
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Byte `at` of the layer: nothing that compresses, and nothing that must be kept in memory.
fn fill(buffer: &mut [u8], at: u64) {
    for (i, byte) in buffer.iter_mut().enumerate() {
        let n = (at + i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        *byte = (n >> 56) as u8;
    }
}

impl Cutter {
    /// The layer has `size` bytes; each connection is cut after `cut` bytes of it.
    fn start(size: u64, cut: u64) -> Self {
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        for at in (0..size).step_by(1 << 20) {
            let count = (size - at).min(1 << 20) as usize;
            fill(&mut buffer[..count], at);
            hasher.update(&buffer[..count]);
        }
        let layer: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["sha256:{layer}"]}}}}"#
        );
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:{}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:{layer}","size":{size}}}]}}"#,
            sha256(config.as_bytes()),
            config.len()
        );
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sent, layer_requests) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicUsize::new(0)));
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let digest = format!("sha256:{}", sha256(manifest.as_bytes()));
        let served = (sent.clone(), layer_requests.clone(), lines.clone());
        let content = Arc::new((config, manifest, layer, size, cut));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (served, content) = (served.clone(), content.clone());
                std::thread::spawn(move || {
                    // A client that goes away is what this is about.
                    serve(stream.unwrap(), &served, &content).unwrap_or_default();
                });
            }
        });
        Self { address, sent, layer_requests, lines, digest }
    }
}

type Served = (Arc<AtomicU64>, Arc<AtomicUsize>, Arc<Mutex<Vec<String>>>);

fn serve(stream: TcpStream, served: &Served, content: &(String, String, String, u64, u64)) -> std::io::Result<()> {
    let (config, manifest, layer, size, cut) = content;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut out = stream;
    if !reader.fill_buf()?.first().is_some_and(u8::is_ascii_uppercase) {
        return out.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    }
    let (mut line, mut range) = (String::new(), 0u64);
    reader.read_line(&mut line)?;
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header == "\r\n" {
            break;
        }
        if let Some(value) = header.to_lowercase().strip_prefix("range: bytes=") {
            range = value.trim().trim_end_matches('-').parse().unwrap();
        }
    }
    served.2.lock().unwrap().push(format!("{} {range}", line.trim()));
    let mut answer = |kind: &str, body: &str| {
        out.write_all(
            format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .as_bytes(),
        )
    };
    if line.contains("/manifests/") {
        return answer("application/vnd.oci.image.manifest.v1+json", manifest);
    }
    if line.contains(&sha256(config.as_bytes())) {
        return answer("application/octet-stream", config);
    }
    if !line.contains(layer.as_str()) {
        return answer("text/plain", "");
    }
    served.1.fetch_add(1, Ordering::Relaxed);
    let status = if range > 0 { "206 Partial Content" } else { "200 OK" };
    let part = if range > 0 { format!("Content-Range: bytes {range}-{}/{size}\r\n", size - 1) } else { String::new() };
    out.write_all(
        format!("HTTP/1.1 {status}\r\nConnection: close\r\n{part}Content-Length: {}\r\n\r\n", size - range).as_bytes(),
    )?;
    let (mut at, end) = (range, (range + cut).min(*size));
    let mut buffer = vec![0; 256 << 10];
    while at < end {
        let count = (end - at).min(buffer.len() as u64) as usize;
        fill(&mut buffer[..count], at);
        out.write_all(&buffer[..count])?;
        served.0.fetch_add(count as u64, Ordering::Relaxed);
        at += count as u64;
    }
    Ok(())
}

/// What a kill can cost: what is in the sockets' buffers.
const IN_FLIGHT: u64 = 12 << 20;

#[test]
fn a_download_that_breaks_and_is_killed_travels_once() {
    let size: u64 = if is_long() { 1 << 30 } else { 192 << 20 };
    let registry = Cutter::start(size, size / 10);
    let sandbox = Sandbox::new();
    let image = format!("docker://{}/big:1", registry.address);
    let copy = || sandbox.run("hoy-copy").args(["copy", "-q", "--src-tls-verify=false", &image, "store:big"]);
    for part in [size / 4, size / 2] {
        let mut child = copy().spawn();
        while registry.sent.load(Ordering::Relaxed) < part {
            assert!(child.try_wait().unwrap().is_none(), "it ended early");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(copy().ok(), registry.digest);
    let sent = registry.sent.load(Ordering::Relaxed);
    assert!(sent <= size * 115 / 100 && sent < size + 2 * IN_FLIGHT, "{sent} bytes of {size} were sent");
    let requests = registry.layer_requests.load(Ordering::Relaxed);
    assert!(requests >= 12, "{requests} requests: ten cuts and two kills");
    sandbox.ok("hoy-storage", &["check"]);
    let blobs = sandbox.path("root/blobs/sha256");
    let names = || std::fs::read_dir(&blobs).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    assert!(!names().any(|name| name.starts_with('.')), "nothing is left over");
}

#[test]
fn what_a_broken_download_leaves_is_pruned_and_spoilt_rests_are_found() {
    let size: u64 = 8 << 20;
    let registry = Cutter::start(size, size);
    let sandbox = Sandbox::new();
    let image = format!("docker://{}/a:1", registry.address);
    let args = ["copy", "-q", "--src-tls-verify=false", image.as_str(), "store:a"];
    sandbox.ok("hoy-copy", &args);
    let blobs = sandbox.path("root/blobs/sha256");
    let largest = || {
        let all = std::fs::read_dir(&blobs).unwrap().map(|e| e.unwrap().path());
        all.max_by_key(|path| path.metadata().unwrap().len()).unwrap()
    };
    let layer = largest();
    let rest = blobs.join(format!(".tmp-partial-{}", layer.file_name().unwrap().to_str().unwrap()));
    // A rest that a power cut has filled with zeros.
    std::fs::write(&rest, vec![0; 3 << 20]).unwrap();
    std::fs::remove_file(&layer).unwrap();
    sandbox.ok("hoy-copy", &args);
    assert!(layer.exists() && !rest.exists());
    assert!(
        registry.lines.lock().unwrap().iter().any(|line| line.ends_with(&format!(" {}", 3 << 20))),
        "it went on there"
    );
    std::fs::write(&rest, vec![0; 3 << 20]).unwrap();
    sandbox.ok("hoy-storage", &["prune", "--force"]);
    assert!(!rest.exists() && layer.exists());
}

#[test]
fn twenty_copies_fetch_each_blob_once() {
    let registry = Cutter::start(24 << 20, u64::MAX >> 1);
    let sandbox = Sandbox::new();
    let mut children = Vec::new();
    for at in 0..20 {
        let args = ["copy", "-q", "--src-tls-verify=false"];
        let image = format!("docker://{}/r{}:1", registry.address, at % 3);
        children.push(sandbox.run("hoy-copy").args(args).args([&image, &format!("store:copy{at}")]).spawn());
    }
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let requests = registry.layer_requests.load(Ordering::Relaxed);
    assert_eq!(requests, 1, "the layer was asked for once: {:?}", registry.lines.lock().unwrap());
    assert_eq!(registry.sent.load(Ordering::Relaxed), 24 << 20);
    assert!(sandbox.ok("hoy-storage", &["images"]).lines().count() >= 20);
    sandbox.ok("hoy-storage", &["check"]);
}

/// Passes connections on to `target`, and cuts the first few that send much after so many bytes from the client.
fn cutting_proxy(target: String, cut: u64, cuts: usize) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let left = Arc::new(AtomicUsize::new(cuts));
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, mut server) = (client.unwrap(), TcpStream::connect(&target).unwrap());
            let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            let left = left.clone();
            std::thread::spawn(move || {
                std::io::copy(&mut from, &mut to).unwrap_or_default();
                to.shutdown(std::net::Shutdown::Both).unwrap_or_default();
            });
            std::thread::spawn(move || {
                let first = std::io::copy(&mut (&mut client).take(cut), &mut server).unwrap_or_default();
                let is_cut = first == cut
                    && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok();
                if !is_cut {
                    std::io::copy(&mut client, &mut server).unwrap_or_default();
                }
                server.shutdown(std::net::Shutdown::Write).unwrap_or_default();
                client.shutdown(std::net::Shutdown::Both).unwrap_or_default();
            });
        }
    });
    address
}

/// Debian's registry forgets an upload whose connection broke; it is begun anew.
#[test]
fn a_broken_upload_is_begun_anew_where_the_registry_forgets_it() {
    if !need(&["docker-registry", "umoci", "busybox", "skopeo"]) {
        return;
    }
    let registry = hoy_tests::Registry::start();
    let sandbox = Sandbox::new();
    let mut tar = tar::Builder::new(Vec::new());
    let mut noise = vec![0; 20 << 20];
    fill(&mut noise, 0);
    let mut header = tar::Header::new_gnu();
    header.set_size(noise.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "noise", &noise[..]).unwrap();
    std::fs::write(sandbox.path("work/noise.tar"), tar.into_inner().unwrap()).unwrap();
    let proxy = cutting_proxy(registry.address(), 6 << 20, 2);
    let image = format!("docker://{proxy}/up:1");
    let args = ["--debug", "--dest-tls-verify=false", "--dest-oci-accept-uncompressed-layers", "--retry-delay", "50ms"];
    let out = sandbox.run("hoy-copy").args(args).args(["tarball:noise.tar", &image]).output();
    assert_eq!(out.status, 0, "{}", out.stderr);
    assert_eq!(out.stderr.lines().filter(|line| line.contains("PATCH")).count(), 3, "{}", out.stderr);
    let real = format!("docker://{}/up:1", registry.address());
    let inspect = ["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &real];
    assert_eq!(sandbox.ok("skopeo", &inspect), out.stdout.trim());
    sandbox.ok("hoy-copy", &["-q", "--src-tls-verify=false", &real, "oci:back:x"]);
}
