//! Times and coordinates whose texts are the same in every database.

use std::{
    fmt,
    time::{Duration, UNIX_EPOCH},
};

use super::dice::Dice;

/// A second of wall-clock time, shown as `YYYY-MM-DD HH:MM:SS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    /// So many seconds after the start of 1970.
    pub(super) fn at(seconds: u64) -> Self {
        Self(seconds)
    }

    pub(super) fn seconds(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text =
            humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(self.0)).to_string();
        f.write_str(&text.trim_end_matches('Z').replace('T', " "))
    }
}

/// A latitude or longitude in millionths of a degree, with no more than six significant digits: then the shortest text
/// of the `f32` and of the `f64`, and what a `FLOAT` column prints, are all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Degrees(i64);

impl Degrees {
    /// Up to `limit` degrees to either side of 0.
    pub(super) fn draw(dice: &mut Dice, limit: u64) -> Self {
        let size = dice.below(limit * 1_000_000 + 1);
        let unit = match size {
            100..1_000_000 => 1,
            1_000_000..10_000_000 => 10,
            // What is smaller than a ten-thousandth becomes 0: some would print it with an exponent.
            0..100 | 10_000_000..100_000_000 => 100,
            _ => 1_000,
        };
        let size = i64::try_from(size - size % unit).unwrap_or_default();
        Self(if dice.chance(500) { size } else { -size })
    }
}

impl fmt::Display for Degrees {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (whole, fraction) = (
            self.0.unsigned_abs() / 1_000_000,
            self.0.unsigned_abs() % 1_000_000,
        );
        let text = format!("{sign}{whole}.{fraction:06}");
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::tests::samples;

    #[test]
    fn degrees_are_the_same_text_in_every_width() {
        let draws =
            samples().flat_map(|post| [(post.geo.latitude, 90.0), (post.geo.longitude, 180.0)]);
        let edges = [
            (Degrees(0), 0.0),
            (Degrees(-90_000_000), 90.0),
            (Degrees(100), 0.0001),
            (Degrees(-5_344_450), 5.344_45),
        ];
        for (degrees, limit) in draws.chain(edges) {
            let text = degrees.to_string();
            let (single, double): (f32, f64) = (text.parse().unwrap(), text.parse().unwrap());
            assert_eq!(text, single.to_string());
            assert_eq!(text, double.to_string());
            assert!(
                double.abs() <= limit && (double == 0.0 || double.abs() >= 0.0001),
                "{text}"
            );
            let digits = text.replace(['-', '.'], "");
            assert!(digits.trim_start_matches('0').len() <= 6, "{text}");
        }
    }
}
