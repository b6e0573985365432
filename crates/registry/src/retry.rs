//! When a request is worth repeating, and after how long.

use std::io;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use ureq::http::{HeaderMap, header};

/// The longest wait that a registry is granted; one that asks for more is taken for one that is down.
const MAX_ASKED: Duration = Duration::from_secs(300);
/// The longest wait of our own choice.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// How often to repeat what failed in a way that may pass, and how long to wait before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// How many times.
    pub times: u32,
    /// How long each time; none waits 0.2 s, and twice as long after each failure.
    pub delay: Option<Duration>,
}

impl Default for Retry {
    fn default() -> Self {
        Self { times: 3, delay: None }
    }
}

impl Retry {
    /// How long to wait before try number `attempt` (from 1).
    pub fn wait(&self, attempt: u32) -> Duration {
        self.delay.unwrap_or_else(|| Duration::from_millis(100 << attempt.min(16)).min(MAX_WAIT))
    }

    /// How long to wait before try number `attempt` of what the server said something about; none when it asks for more
    /// patience than there is.
    pub(crate) fn wait_as_asked(&self, attempt: u32, headers: &HeaderMap) -> Option<Duration> {
        match asked(headers) {
            Some(asked) => (asked <= MAX_ASKED).then_some(asked),
            None => Some(self.wait(attempt)),
        }
    }
}

/// What `Retry-After` asks for: seconds, or a date, which is compared with the server's own clock (RFC 9110, 10.2.3).
fn asked(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let after = text(header::RETRY_AFTER)?;
    if let Ok(seconds) = after.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |text: &str| OffsetDateTime::parse(text, &Rfc2822).ok();
    Some((date(after)? - date(text(header::DATE)?)?).try_into().unwrap_or_default())
}

/// Too many requests, or a server (or what stands before it) that is ill for the moment.
pub(crate) fn is_temporary_status(status: u16) -> bool {
    matches!(status, 429 | 500 | 502 | 503 | 504)
}

/// A connection that broke or went silent, as opposed to one that was never possible.
pub(crate) fn is_temporary_failure(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Io(error) => matches!(
            error.kind(),
            io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof
                | io::ErrorKind::TimedOut
        ),
        ureq::Error::Timeout(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_bounded() {
        let retry = Retry::default();
        assert_eq!(retry.wait(1), Duration::from_millis(200));
        assert_eq!(retry.wait(3), Duration::from_millis(800));
        assert_eq!(retry.wait(4_000_000), Duration::from_millis(6_553_600).min(MAX_WAIT));
        assert_eq!(Retry { times: 1, delay: Some(Duration::ZERO) }.wait(9), Duration::ZERO);
        let answer = |after: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, after.parse().unwrap());
            headers.insert(header::DATE, "Wed, 21 Oct 2015 07:28:00 GMT".parse().unwrap());
            retry.wait_as_asked(1, &headers)
        };
        for (after, want) in [
            ("2", Some(2_000)),
            ("86400", None),
            ("Wed, 21 Oct 2015 07:28:07 GMT", Some(7_000)),
            ("Wed, 21 Oct 2015 07:20:00 GMT", Some(0)),
            ("Thu, 22 Oct 2015 07:28:00 GMT", None),
            ("soon", Some(200)),
        ] {
            assert_eq!(answer(after), want.map(Duration::from_millis), "{after}");
        }
    }
}
