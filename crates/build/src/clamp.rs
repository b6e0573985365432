//! The one moment that may appear in an image.

use hoy_oci::Timestamp;

use crate::{Error, Result};

/// The latest time in an image: of its files, its history and itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clamp {
    /// Files newer than this get this time.
    At(Timestamp),
    /// Files keep their times; the image is of this moment.
    Now(Timestamp),
}

impl Clamp {
    /// What `--timestamp` says, else `SOURCE_DATE_EPOCH`, else the time of the image it came from, else 1970.
    ///
    /// `now` is asked only where `--timestamp now` wants it.
    ///
    /// # Errors
    /// [`Error::Option`] for what is no number of seconds.
    pub fn choose(
        option: Option<&str>,
        source_date_epoch: Option<&str>,
        base: Option<Timestamp>,
        now: impl FnOnce() -> Timestamp,
    ) -> Result<Self> {
        let seconds = |name, text: &str| {
            let number = text.parse().ok().filter(|n| *n >= 0).and_then(Timestamp::from_unix);
            number.ok_or_else(|| Error::option(name, text, "a time is a number of seconds since 1970, or \"now\""))
        };
        match (option, source_date_epoch.filter(|text| !text.is_empty())) {
            (Some("now"), _) => Ok(Self::Now(now())),
            (Some(text), _) => seconds("--timestamp", text).map(Self::At),
            (None, Some(text)) => seconds("SOURCE_DATE_EPOCH", text).map(Self::At),
            (None, None) => {
                let whole = base.and_then(|base| Timestamp::from_unix(base.unix_seconds()));
                Ok(Self::At(whole.unwrap_or(Timestamp::EPOCH)))
            }
        }
    }

    /// The time of the image.
    pub fn created(&self) -> Timestamp {
        match self {
            Self::At(time) | Self::Now(time) => *time,
        }
    }

    /// The time that newer files get, in seconds since 1970; none where they keep theirs.
    pub fn seconds(&self) -> Option<i64> {
        match self {
            Self::At(time) => Some(time.unix_seconds()),
            Self::Now(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order() {
        let base: Timestamp = "2024-01-01T00:00:00.5Z".parse().unwrap();
        let choose = |option, epoch, base| Clamp::choose(option, epoch, base, || Timestamp::from_unix(9).unwrap());
        let at = |seconds| Clamp::At(Timestamp::from_unix(seconds).unwrap());
        assert_eq!(choose(Some("5"), Some("6"), Some(base)).unwrap(), at(5));
        assert_eq!(choose(None, Some("6"), Some(base)).unwrap(), at(6));
        assert_eq!(choose(None, Some(""), Some(base)).unwrap(), at(1_704_067_200));
        assert_eq!(choose(None, None, None).unwrap(), at(0));
        assert_eq!(choose(Some("now"), Some("6"), None).unwrap().seconds(), None);
        assert!(choose(Some("noon"), None, None).unwrap_err().to_string().contains("--timestamp"));
        assert!(choose(None, Some("-1"), None).unwrap_err().to_string().contains("SOURCE_DATE_EPOCH"));
    }
}
