//! How people write counts, sizes and times on a command line. Pure.

use std::{fmt, str::FromStr, time::Duration};

/// For ever to a run, and unlike the largest duration it can be added to a clock.
const CENTURY: Duration = Duration::from_hours(100 * 365 * 24);

/// A number of things, at least one: `200`, `10k`, `1M`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count(pub(crate) u64);

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (digits, factor) = match text.char_indices().last() {
            Some((at, 'k')) => (&text[..at], 1_000),
            Some((at, 'M')) => (&text[..at], 1_000_000),
            Some((_, 'm')) => return Err("a million is 1M, a minute is -d 1m".to_owned()),
            _ => (text, 1),
        };
        let number: u64 = digits
            .parse()
            .map_err(|_| "a count is a whole number such as 200, 10k or 1M".to_owned())?;
        match number.checked_mul(factor) {
            Some(0) => Err("a count is at least 1".to_owned()),
            Some(count) => Ok(Self(count)),
            None => Err("that is more than 2^64".to_owned()),
        }
    }
}

/// Bytes, at least one: `512KiB`, `1MiB`, `5MB`, `4096`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let at = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (digits, unit) = text.split_at(at);
        let factor = match unit.trim() {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "kB" | "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            _ => return Err("a size is a whole number of B, KiB, MiB, kB or MB".to_owned()),
        };
        let number: u64 = digits
            .parse()
            .map_err(|_| "a size is written 512KiB or 1MiB".to_owned())?;
        match number.checked_mul(factor) {
            None | Some(0) => Err("a size is at least 1 byte and not absurd".to_owned()),
            Some(size) => Ok(Self(size)),
        }
    }
}

/// A time of at least a millisecond: `500ms`, `10m`, `1h 30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let duration = duration_or_zero(text)?;
    if duration < Duration::from_millis(1) {
        Err("it is at least 1ms".to_owned())
    } else {
        Ok(duration)
    }
}

/// A time that may be none at all: `0s`.
pub(crate) fn duration_or_zero(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| match text.parse::<f64>() {
        Ok(_) => format!("a time needs its unit: {text}s, {text}ms, {text}m"),
        Err(_) => error.to_string(),
    })?;
    if duration > CENTURY {
        Err("it is at most 100 years".to_owned())
    } else {
        Ok(duration)
    }
}

/// How long something is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patience(pub(crate) Duration);

impl FromStr for Patience {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "forever" {
            Ok(Self(CENTURY))
        } else {
            duration_or_zero(text).map(Self)
        }
    }
}

/// What topic or stream names begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prefix<const LONGEST: usize>(String);

/// Kafka's names have at most 249 characters, of which `.user` takes five.
pub(crate) type TopicPrefix = Prefix<244>;
/// Kinesis's names have at most 128 characters, of which `-user` takes five.
pub(crate) type StreamPrefix = Prefix<123>;

impl<const LONGEST: usize> FromStr for Prefix<LONGEST> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > LONGEST {
            return Err(format!("a prefix has 1 to {LONGEST} characters"));
        }
        if let Some(c) = text
            .chars()
            .find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '-'))
        {
            return Err(format!(
                "a prefix has only letters, digits, '.', '_' and '-', not {c:?}"
            ));
        }
        if text.ends_with(['.', '-']) {
            return Err(format!(
                "pinemu puts the joint behind the prefix itself; leave it out: {}",
                text.trim_end_matches(['.', '-'])
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl<const LONGEST: usize> fmt::Display for Prefix<LONGEST> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_take_k_and_capital_m() {
        for (text, count) in [("1", 1), ("200", 200), ("10k", 10_000), ("1M", 1_000_000)] {
            assert_eq!(text.parse::<Count>(), Ok(Count(count)));
        }
        for text in [
            "0",
            "-1",
            "",
            "k",
            "1.5",
            "99999999999999999999",
            "18446744073709551615k",
        ] {
            assert!(text.parse::<Count>().is_err(), "{text}");
        }
        assert_eq!(
            "1m".parse::<Count>().unwrap_err(),
            "a million is 1M, a minute is -d 1m"
        );
    }

    #[test]
    fn sizes_take_binary_and_decimal_units() {
        for (text, size) in [
            ("4096", 4096),
            ("512KiB", 524_288),
            ("1 MiB", 1_048_576),
            ("5MB", 5_000_000),
        ] {
            assert_eq!(text.parse::<Size>(), Ok(Size(size)), "{text}");
        }
        for text in ["0", "", "MiB", "1m", "-1", "99999999999GiB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_needs_its_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1h 30m"), Ok(Duration::from_mins(90)));
        assert!(duration("5").unwrap_err().contains("5s"));
        assert!(duration("0s").is_err());
        assert_eq!(duration_or_zero("0s"), Ok(Duration::ZERO));
        assert!(duration("200years").is_err());
    }

    #[test]
    fn a_prefix_leaves_room_for_the_kind_and_holds_what_targets_allow() {
        assert!("0abf7f0cd605".parse::<TopicPrefix>().is_ok());
        assert!("streaming-0abf7f0cd605".parse::<StreamPrefix>().is_ok());
        for text in ["", "a/b", "a b", "a.", "a-", "é"] {
            assert!(text.parse::<TopicPrefix>().is_err(), "{text}");
        }
        assert!("x".repeat(300).parse::<TopicPrefix>().is_err());
        assert!("x".repeat(244).parse::<TopicPrefix>().is_ok());
        assert!("x".repeat(124).parse::<StreamPrefix>().is_err());
    }
}
