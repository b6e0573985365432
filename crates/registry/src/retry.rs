//! When a request is worth repeating, and after how long.

use std::io;
use std::time::Duration;

/// The longest wait between two tries.
const MAX_WAIT: Duration = Duration::from_secs(30);

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

/// How long to wait before try number `attempt` (from 1): what the server asks for, else 0.2 s doubled each time.
pub(crate) fn wait(attempt: u32, retry_after: Option<&str>) -> Duration {
    let asked = retry_after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    asked.unwrap_or_else(|| Duration::from_millis(100 << attempt.min(16))).min(MAX_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_bounded() {
        assert_eq!(wait(1, None), Duration::from_millis(200));
        assert_eq!(wait(3, None), Duration::from_millis(800));
        assert_eq!(wait(4_000_000, None), MAX_WAIT);
        assert_eq!(wait(1, Some("2")), Duration::from_secs(2));
        assert_eq!(wait(1, Some("86400")), MAX_WAIT);
        assert_eq!(wait(1, Some("Wed, 21 Oct 2015 07:28:00 GMT")), Duration::from_millis(200));
    }
}
