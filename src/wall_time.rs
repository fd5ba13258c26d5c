//! Recorded times as a database prints them: what a clock on the wall showed, without a zone. Pure.

use std::{cmp::Ordering, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

const DAY: i64 = 24 * 60 * 60;

/// A time of the years 1 to 9999, and the form that it was written in. Two are equal if they are the same instant,
/// however they were written.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct WallTime {
    /// Since the start of 1970.
    seconds: i64,
    nanos: u32,
    form: Form,
}

/// How a time is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Form {
    precision: Precision,
    /// A `T` between date and time, in place of a blank.
    t: bool,
    /// A `Z` at the end.
    z: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Precision {
    Day,
    Minute,
    /// With so many digits behind the point.
    Second(u8),
}

impl WallTime {
    /// `YYYY-MM-DD`, and behind a blank or a `T` `HH:MM`, `HH:MM:SS` or `HH:MM:SS.f` with up to nine digits, and a `Z`.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let (date, clock) = text.split_at_checked(10)?;
        let [year, month, day] = fields(date, b'-', [4, 2, 2])?;
        if !(1..=9999).contains(&year) || !(1..=12).contains(&month) {
            return None;
        }
        let date = days_before_month(year, month) + i64::from(day) - 1;
        if day == 0 || date >= days_before_month(year, month + 1) {
            return None;
        }
        let (t, clock) = match clock {
            [] => {
                return Some(Self::new(date * DAY, 0, Precision::Day));
            }
            [b' ', clock @ ..] => (false, clock),
            [b'T', clock @ ..] => (true, clock),
            _ => return None,
        };
        let (z, clock) = match clock {
            [clock @ .., b'Z'] => (true, clock),
            clock => (false, clock),
        };
        let (hour, minute, second, nanos, precision) = if clock.len() == 5 {
            let [hour, minute] = fields(clock, b':', [2, 2])?;
            (hour, minute, 0, 0, Precision::Minute)
        } else {
            let (whole, fraction) = clock.split_at_checked(8)?;
            let [hour, minute, second] = fields(whole, b':', [2, 2, 2])?;
            let (nanos, digits) = nanos(fraction)?;
            (hour, minute, second, nanos, Precision::Second(digits))
        };
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let clock = i64::from(hour * 3600 + minute * 60 + second);
        let mut time = Self::new(date * DAY + clock, nanos, precision);
        time.form = Form { precision, t, z };
        Some(time)
    }

    fn new(seconds: i64, nanos: u32, precision: Precision) -> Self {
        let form = Form {
            precision,
            t: false,
            z: false,
        };
        Self {
            seconds,
            nanos,
            form,
        }
    }

    /// Microseconds since the start of 1970; below that it is cut off.
    pub(crate) fn micros(self) -> i64 {
        self.seconds * 1_000_000 + i64::from(self.nanos / 1000)
    }

    /// The same instant, written with a blank, with seconds unless it is a date, and with no more digits than it needs.
    pub(crate) fn normal(self) -> Self {
        let digits = (0..9)
            .find(|digits| self.nanos.is_multiple_of(10_u32.pow(9 - digits)))
            .map_or(9, |digits| u8::try_from(digits).unwrap_or(9));
        let precision = match self.form.precision {
            Precision::Day => Precision::Day,
            Precision::Minute | Precision::Second(_) => Precision::Second(digits),
        };
        Self::new(self.seconds, self.nanos, precision)
    }

    /// As it was written, but for the `T` and the `Z`.
    pub(crate) fn spaced(self) -> Self {
        Self::new(self.seconds, self.nanos, self.form.precision)
    }

    /// The shortest text of this minute: no way to write a time from here on sorts before it.
    pub(crate) fn floor(self) -> Self {
        let seconds = self.seconds - self.seconds.rem_euclid(60);
        let midnight = seconds.rem_euclid(DAY) == 0;
        let precision = if midnight {
            Precision::Day
        } else {
            Precision::Minute
        };
        Self::new(seconds, 0, precision)
    }

    /// The start of the next day for a date, of the next minute for a time; none after the last of all.
    pub(crate) fn next(self) -> Option<Self> {
        let unit = match self.form.precision {
            Precision::Day => DAY,
            _ => 60,
        };
        let seconds = self.seconds - self.seconds.rem_euclid(unit) + unit;
        let end = days_before_month(10_000, 1) * DAY;
        (seconds < end).then(|| Self::new(seconds, 0, Precision::Minute).floor())
    }

    /// Whether it is written as a date alone.
    pub(crate) fn is_date(self) -> bool {
        self.form.precision == Precision::Day
    }
}

/// Numbers of these widths with `separator` between them.
fn fields<const N: usize>(text: &[u8], separator: u8, widths: [usize; N]) -> Option<[u32; N]> {
    let mut numbers = [0; N];
    let mut parts = text.split(|byte| *byte == separator);
    for (number, width) in numbers.iter_mut().zip(widths) {
        let part = parts.next().filter(|part| part.len() == width)?;
        for digit in part {
            *number = *number * 10 + u32::from(digit.is_ascii_digit().then(|| digit - b'0')?);
        }
    }
    parts.next().is_none().then_some(numbers)
}

/// A fraction of a second with its point, or nothing; how many digits it has.
fn nanos(text: &[u8]) -> Option<(u32, u8)> {
    let digits = match text {
        [] => return Some((0, 0)),
        [b'.', digits @ ..] if (1..=9).contains(&digits.len()) => digits,
        _ => return None,
    };
    let [number] = fields(digits, b'.', [digits.len()])?;
    let count = u8::try_from(digits.len()).ok()?;
    Some((number * 10_u32.pow(9 - u32::from(count)), count))
}

/// Days from the start of 1970 to that of a month; month 13 is the next year's first.
fn days_before_month(year: u32, month: u32) -> i64 {
    // A year that begins in March ends with the leap day, and its months alternate as 153 days in five.
    let (year, month) = match month {
        1 | 2 => (i64::from(year) - 1, i64::from(month) + 9),
        13 => (i64::from(year), 10),
        _ => (i64::from(year), i64::from(month) - 3),
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (153 * month + 2) / 5 - 719_468
}

/// Year, month and day of a day that is counted from the start of 1970.
fn date_of(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let of_era = day.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = (from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, of_year - (153 * from_march + 2) / 5 + 1)
}

/// As it was written.
impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = date_of(self.seconds.div_euclid(DAY));
        write!(f, "{year:04}-{month:02}-{day:02}")?;
        let clock = self.seconds.rem_euclid(DAY);
        let (hour, minute, second) = (clock / 3600, clock / 60 % 60, clock % 60);
        let t = if self.form.t { 'T' } else { ' ' };
        match self.form.precision {
            Precision::Day => {}
            Precision::Minute => write!(f, "{t}{hour:02}:{minute:02}")?,
            Precision::Second(digits) => {
                write!(f, "{t}{hour:02}:{minute:02}:{second:02}")?;
                if digits > 0 {
                    let fraction = self.nanos / 10_u32.pow(9 - u32::from(digits));
                    write!(f, ".{fraction:0width$}", width = usize::from(digits))?;
                }
            }
        }
        f.write_str(if self.form.z { "Z" } else { "" })
    }
}

/// The error is a sentence about the text.
impl FromStr for WallTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text.as_bytes()).ok_or_else(|| {
            "a time is written 2020-01-31, 2020-01-31 12:00 or 2020-01-31T12:00:00.5".to_owned()
        })
    }
}

impl TryFrom<String> for WallTime {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<WallTime> for String {
    fn from(time: WallTime) -> Self {
        time.to_string()
    }
}

impl PartialEq for WallTime {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for WallTime {}

impl PartialOrd for WallTime {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for WallTime {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.seconds, self.nanos).cmp(&(other.seconds, other.nanos))
    }
}

/// The times from one to another, ends included; a date as the end includes the whole day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TimeRange {
    pub(crate) from: Option<WallTime>,
    pub(crate) to: Option<WallTime>,
}

impl TimeRange {
    pub(crate) fn contains(&self, time: WallTime) -> bool {
        let early = self.from.is_some_and(|from| time < from);
        let late = self.to.is_some_and(|to| {
            if to.is_date() {
                to.next().is_some_and(|end| time >= end)
            } else {
                time > to
            }
        });
        !early && !late
    }

    /// Whether it has an end at all.
    pub(crate) fn is_bounded(&self) -> bool {
        self.from.is_some() || self.to.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use proptest::prelude::*;

    use super::*;

    fn time(text: &str) -> WallTime {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_time_is_read_as_databases_and_people_write_it_and_printed_the_same() {
        #[rustfmt::skip]
        let all = [
            ("1970-01-01", 0),
            ("1970-01-01 00:00", 0),
            ("1970-01-01 00:01:00", 60_000_000),
            ("1969-12-31 23:59:59", -1_000_000),
            ("1969-12-31T23:59:59.999999", -1),
            ("2020-08-28 03:52:47", 1_598_586_767_000_000),
            ("2020-08-28T03:52:47", 1_598_586_767_000_000),
            ("2020-08-28T03:52:47Z", 1_598_586_767_000_000),
            ("2020-08-28 03:52:47.5", 1_598_586_767_500_000),
            ("2020-08-28 03:52:47.500000", 1_598_586_767_500_000),
            ("2020-08-28T03:52:47.123456789Z", 1_598_586_767_123_456),
            ("2000-02-29", 951_782_400_000_000),
            ("0001-01-01 00:00:00", -62_135_596_800_000_000),
            ("9999-12-31 23:59:59.999999", 253_402_300_799_999_999),
        ];
        for (text, micros) in all {
            assert_eq!(time(text).micros(), micros, "{text}");
            assert_eq!(time(text).to_string(), text);
            let json = format!("\"{text}\"");
            assert_eq!(serde_json::to_string(&time(text)).unwrap(), json);
            assert_eq!(serde_json::from_str::<WallTime>(&json).unwrap(), time(text));
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "0000-00-00 00:00:00",
            "0000-01-01",
            "2020-00-10",
            "2020-01-00 00:00:00",
            "2020-13-01",
            "2019-02-29",
            "1900-02-29",
            "2020-04-31 12:00:00",
            "2020-01-01 24:00:00",
            "2020-01-01 12:60",
            "2020-01-01 12:00:60",
            "2020-01-01 12",
            "2020-01-01 ",
            "2020-01-01Z",
            "2020-01-01t12:00:00",
            "2020-01-01 12:00:00.",
            "2020-01-01 12:00:00.1234567890",
            "2020-01-01 12:00:00,5",
            "2020-01-01 12:00:00+02:00",
            "2020-01-01 12:00:00 ",
            " 2020-01-01 12:00:00",
            "2020-1-1",
            "2020:01:01 12:00:00",
            "20200101",
            "20200101120000",
            "1598586767",
            "+020-01-01",
            "yesterday",
            "２０２０-01-01",
        ] {
            assert_eq!(WallTime::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn times_are_equal_however_they_are_written() {
        for text in [
            "2020-01-31 00:00",
            "2020-01-31T00:00:00.000",
            "2020-01-31T00:00:00Z",
        ] {
            assert_eq!(time(text), time("2020-01-31"));
            assert_eq!(time(text).normal().to_string(), "2020-01-31 00:00:00");
        }
        assert_eq!(time("2020-01-31").normal().to_string(), "2020-01-31");
        assert_eq!(
            time("2020-01-31T12:00:00.500Z").normal().to_string(),
            "2020-01-31 12:00:00.5"
        );
        assert_eq!(
            time("2020-01-31T12:00:00.500Z").spaced().to_string(),
            "2020-01-31 12:00:00.500"
        );
        assert!(time("2020-01-31 12:00:00.000001") > time("2020-01-31T12:00"));
    }

    #[test]
    fn a_range_holds_its_ends_and_a_date_at_its_end_the_whole_day() {
        let range = |from: &str, to: &str| TimeRange {
            from: Some(time(from)),
            to: Some(time(to)),
        };
        #[rustfmt::skip]
        let all = [
            (range("2020-01-31", "2020-01-31"), "2020-01-30 23:59:59.9", false),
            (range("2020-01-31", "2020-01-31"), "2020-01-31", true),
            (range("2020-01-31", "2020-01-31"), "2020-01-31 23:59:59.999999", true),
            (range("2020-01-31", "2020-01-31"), "2020-02-01", false),
            (range("2020-01-31", "2020-01-31 12:00"), "2020-01-31 12:00:00.000", true),
            (range("2020-01-31", "2020-01-31 12:00"), "2020-01-31 12:00:00.001", false),
            (range("2020-01-31 12:00:00.5", "9999-12-31"), "2020-01-31 12:00:00.499", false),
            (range("2020-01-31 12:00:00.5", "9999-12-31"), "9999-12-31 23:59:59.999999", true),
        ];
        for (range, text, held) in all {
            assert_eq!(range.contains(time(text)), held, "{range:?} {text}");
        }
        assert!(TimeRange::default().contains(time("0001-01-01")));
    }

    #[test]
    fn the_bounds_of_a_search_leave_no_way_of_writing_a_time_out() {
        for (text, floor, next) in [
            ("2020-01-31", "2020-01-31", Some("2020-02-01")),
            (
                "2020-01-31 00:00:30",
                "2020-01-31",
                Some("2020-01-31 00:01"),
            ),
            (
                "2020-01-31 12:00:59.5",
                "2020-01-31 12:00",
                Some("2020-01-31 12:01"),
            ),
            ("2020-12-31T23:59", "2020-12-31 23:59", Some("2021-01-01")),
            ("9999-12-31", "9999-12-31", None),
            ("9999-12-31 23:59:59", "9999-12-31 23:59", None),
        ] {
            assert_eq!(time(text).floor().to_string(), floor);
            assert_eq!(
                time(text).next().map(|next| next.to_string()).as_deref(),
                next
            );
        }
    }

    proptest! {
        #[test]
        fn any_instant_is_printed_and_read_as_by_others(seconds in 0_u64..253_402_300_800) {
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            let text = humantime::format_rfc3339_seconds(at).to_string();
            prop_assert_eq!(time(&text).micros(), i64::try_from(seconds).unwrap() * 1_000_000);
            prop_assert_eq!(time(&text).to_string(), text);
        }

        #[test]
        fn no_bytes_make_it_panic_and_what_it_reads_it_prints(text in "[0-9]{3,4}[-:][0-9]{2}-[0-9]{2}[ TZ:.0-9]{0,20}", bytes: Vec<u8>) {
            let _ = WallTime::parse(&bytes);
            if let Some(time) = WallTime::parse(text.as_bytes()) {
                prop_assert_eq!(time.to_string(), text);
            }
        }
    }
}
