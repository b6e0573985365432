//! A web server on loopback, which remembers what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// One request.
#[derive(Debug, Clone)]
pub struct Asked {
    /// `GET /path?query HTTP/1.1`.
    pub line: String,
    /// The other lines of its head.
    pub headers: Vec<String>,
    /// What was sent, where its length was told.
    pub body: Vec<u8>,
}

impl Asked {
    /// The path, without its `/` and its query.
    pub fn path(&self) -> &str {
        let path = self.line.split(' ').nth(1).unwrap_or_default();
        path.split('?').next().unwrap_or_default().trim_start_matches('/')
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let named = |line: &&String| line.to_lowercase().starts_with(&format!("{}:", name.to_lowercase()));
        Some(self.headers.iter().find(named)?.split_once(':')?.1.trim())
    }
}

/// A server for as long as the test runs.
#[derive(Debug, Clone)]
pub struct Web {
    /// `http://127.0.0.1:PORT`.
    pub address: String,
    seen: Arc<Mutex<Vec<Asked>>>,
}

impl Web {
    /// Serves what `answer` says: the status, further lines of the head, and the body; its length is told.
    pub fn start(answer: impl Fn(&Asked) -> (&'static str, Vec<String>, Vec<u8>) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind to loopback");
        let address = format!("http://{}", listener.local_addr().expect("it has an address"));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let web = Self { address, seen: Arc::clone(&seen) };
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut reader = BufReader::new(&stream);
                let mut lines = reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty());
                let Some(line) = lines.next() else { continue };
                let mut asked = Asked { line, headers: lines.collect(), body: Vec::new() };
                let length = asked.header("Content-Length").and_then(|length| length.parse().ok()).unwrap_or(0);
                // Whoever breaks off has sent less.
                reader.take(length).read_to_end(&mut asked.body).unwrap_or_default();
                let (status, headers, body) = answer(&asked);
                seen.lock().expect("no thread died with it").push(asked);
                let mut head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
                if !headers.iter().any(|line| line.starts_with("Content-Length")) {
                    head.push_str(&format!("Content-Length: {}\r\n", body.len()));
                }
                headers.iter().for_each(|line| head.push_str(&format!("{line}\r\n")));
                // Whoever asked may have gone.
                stream.write_all(&[head.as_bytes(), b"\r\n", &body].concat()).unwrap_or_default();
            }
        });
        web
    }

    /// Serves the files below a directory, all changed at the same second of 2009.
    pub fn files(directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        Self::start(move |asked| match std::fs::read(directory.join(asked.path())) {
            Ok(body) => ("200 OK", vec!["Last-Modified: Fri, 13 Feb 2009 23:31:30 GMT".to_owned()], body),
            Err(_) => ("404 Not Found", Vec::new(), Vec::new()),
        })
    }

    /// What it was asked so far.
    pub fn seen(&self) -> Vec<Asked> {
        self.seen.lock().expect("no thread died with it").clone()
    }
}
