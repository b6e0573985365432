//! A registry that does what it is told to, on loopback.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) line: String,
    headers: Vec<(String, String)>,
    /// As much of it as came before the connection was cut.
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// A server on a loopback address; every request is written down.
pub(crate) struct Server {
    pub(crate) address: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

/// An answer: status line and headers without the last empty line, then the body.
pub(crate) fn answer(status: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut out = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for header in headers {
        out.push_str(header);
        out.push_str("\r\n");
    }
    [out.as_bytes(), b"\r\n", body].concat()
}

impl Server {
    /// Answers each request by `act`, which is given the request and how many came before it.
    pub(crate) fn start(ip: &str, act: impl Fn(&Request, usize) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::cutting(ip, u64::MAX, act)
    }

    /// The same, which hangs up on whoever sends a body of more than `cut` bytes once it has that many.
    pub(crate) fn cutting(
        ip: &str,
        cut: u64,
        act: impl Fn(&Request, usize) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (shared, act) = (seen.clone(), Arc::new(act));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (shared, act) = (shared.clone(), act.clone());
                std::thread::spawn(move || serve(stream.unwrap(), cut, &shared, &*act));
            }
        });
        Self { address, seen }
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(stream: TcpStream, cut: u64, seen: &Mutex<Vec<Request>>, act: &dyn Fn(&Request, usize) -> Vec<u8>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut out = stream;
    let first = reader.fill_buf().ok().and_then(|bytes| bytes.first().copied());
    if !first.is_some_and(|byte| byte.is_ascii_uppercase()) {
        // A TLS hello: this server speaks plain HTTP, and says so as others do.
        out.write_all(&answer("400 Bad Request", &[], b"")).unwrap_or_default();
        return;
    }
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            break;
        }
        lines.push(line.trim_end().to_owned());
    }
    let Some((line, headers)) = lines.split_first() else { return };
    let split = |h: &String| h.split_once(':').map(|(n, v)| (n.to_owned(), v.trim().to_owned()));
    let headers = headers.iter().filter_map(split).collect();
    let mut request = Request { line: line.clone(), headers, body: Vec::new() };
    let length = request.header("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
    reader.take(u64::min(length, cut)).read_to_end(&mut request.body).unwrap_or_default();
    let count = {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        seen.len() - 1
    };
    if length > cut {
        return;
    }
    out.write_all(&act(&request, count)).unwrap_or_default();
}
