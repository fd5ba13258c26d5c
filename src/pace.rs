//! When the next post is due. Pure: no clock, no sleep. Times count from the start of the run, so nothing that happens
//! on the way makes the schedule drift.

mod replay;

use std::{fmt, str::FromStr, time::Duration};

use rand::{Rng, SeedableRng, rngs::ChaCha8Rng};

pub(crate) use self::replay::{History, Replay, Speed, Tempo};
use crate::{shard::Shard, wall_time::WallTime};

/// Sets the random numbers of the schedule apart from all others that a random seed yields.
const PAUSES: u8 = 1;

/// How far a pause moves the stream of random numbers on.
const WORDS_OF_A_PAUSE: u128 = 2;

/// Posts per second, or as fast as the target takes them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Rate {
    PerSecond(f64),
    Max,
}

impl FromStr for Rate {
    type Err = String;

    /// `N`, `N/s`, `N/m`, `N/h` or `max`.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self::Max);
        }
        let (number, seconds) = match text.rsplit_once('/') {
            None => (text, 1.0),
            Some((number, "s")) => (number, 1.0),
            Some((number, "m")) => (number, 60.0),
            Some((number, "h")) => (number, 3600.0),
            Some(_) => {
                return Err(
                    "a rate is a number of posts, with /s, /m or /h behind it, or max".to_owned(),
                );
            }
        };
        let posts: f64 = number
            .parse()
            .map_err(|_| "a rate is a number of posts such as 50, 0.5, 30/m, or max".to_owned())?;
        let rate = posts / seconds;
        // Slower than one a year or faster than any clock tells apart is a slip of the pen.
        if !(1e-8..=1e9).contains(&rate) {
            return Err("a rate is greater than 0; give max for as fast as possible".to_owned());
        }
        Ok(Self::PerSecond(rate))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Four figures are enough for a third of something.
            Self::PerSecond(rate) => {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "a rate has at most ten digits"
                )]
                let digits = 3 - rate.log10().floor() as i32;
                let scale = 10_f64.powi(digits.max(0));
                write!(f, "{}/s", (rate * scale).round() / scale)
            }
            Self::Max => f.write_str("max"),
        }
    }
}

impl Rate {
    /// What each of so many shards does of it.
    pub(crate) fn divided_by(self, shards: u32) -> Self {
        match self {
            Self::PerSecond(rate) => Self::PerSecond(rate / f64::from(shards)),
            Self::Max => Self::Max,
        }
    }
}

/// How the pauses between posts are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrivals {
    /// Like people who do not know of each other: exponential pauses.
    Poisson,
    /// Like a clock.
    Constant,
}

/// The due times of a run, one after the other.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a run has one")]
pub(crate) enum Schedule {
    Rated(Rated),
    Replayed(Replay),
}

impl Schedule {
    /// Whether posts are due at times, and not just as soon as possible.
    pub(crate) fn is_paced(&self) -> bool {
        match self {
            Self::Rated(rated) => matches!(rated.rate, Rate::PerSecond(_)),
            Self::Replayed(_) => true,
        }
    }

    /// When the next post, which has this recorded time, is due, from the start of the run; none if there is nothing to
    /// wait for.
    pub(crate) fn next_due(&mut self, recorded: Option<WallTime>) -> Option<Duration> {
        match self {
            Self::Rated(rated) => rated.next_due(),
            Self::Replayed(replay) => Some(replay.next_due(recorded)),
        }
    }
}

/// Posts at a rate, whatever their recorded times.
#[derive(Debug)]
pub(crate) struct Rated {
    /// Of this shard.
    rate: Rate,
    arrivals: Arrivals,
    pauses: ChaCha8Rng,
    /// Posts scheduled so far.
    position: u64,
    /// Seconds from the start of the run to its first post.
    first: f64,
    /// Seconds from the start of the run to the post at `position`.
    due: f64,
}

impl Rated {
    /// `rate`: of all shards together. Each begins a mean pause of the whole after the one before it, so that constant
    /// arrivals stay even over all of them and nobody gets their first posts at once.
    /// `posts`: how many earlier runs of this shard had behind them; the pauses go on as they would have then. The first post
    /// does not wait for the pause that was before it: the break between two runs takes its place, and runs that are shorter
    /// than that pause would never get beyond it.
    pub(crate) fn new(
        rate: Rate,
        arrivals: Arrivals,
        random_seed: u64,
        shard: Shard,
        posts: u64,
    ) -> Self {
        let mut pauses = ChaCha8Rng::seed_from_u64(random_seed);
        pauses.set_stream(shard.stream(PAUSES));
        pauses.set_word_pos(u128::from(posts) * WORDS_OF_A_PAUSE);
        let first = match rate {
            Rate::PerSecond(rate) => f64::from(shard.remainder()) / rate,
            Rate::Max => 0.0,
        };
        Self {
            rate: rate.divided_by(shard.of()),
            arrivals,
            pauses,
            position: 0,
            first,
            due: first,
        }
    }

    /// The first post of the first shard is due at once.
    fn next_due(&mut self) -> Option<Duration> {
        let Rate::PerSecond(rate) = self.rate else {
            return None;
        };
        let due = Duration::try_from_secs_f64(self.due).unwrap_or(Duration::MAX);
        self.position += 1;
        match self.arrivals {
            // Not a sum: a million steps of a tenth do not add up to a hundred thousand.
            #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 posts")]
            Arrivals::Constant => self.due = self.first + self.position as f64 / rate,
            Arrivals::Poisson => self.due += exponential(self.pauses.next_u64()) / rate,
        }
        Some(due)
    }
}

/// A pause with mean 1, exponentially distributed, from 64 random bits.
fn exponential(bits: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
    let uniform = (bits >> 11) as f64 / (1_u64 << 53) as f64;
    -(1.0 - uniform).ln()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::shard::tests::shards;

    fn dues(rate: &str, arrivals: Arrivals, seed: u64, count: usize) -> Vec<f64> {
        let mut schedule = Rated::new(rate.parse().unwrap(), arrivals, seed, Shard::WHOLE, 0);
        (0..count)
            .map(|_| schedule.next_due().unwrap().as_secs_f64())
            .collect()
    }

    #[test]
    fn a_rate_is_read_as_people_write_it() {
        for (text, rate) in [
            ("50", 50.0),
            ("50/s", 50.0),
            ("30/m", 0.5),
            ("3600/h", 1.0),
            ("0.1", 0.1),
            ("1e3", 1000.0),
        ] {
            assert_eq!(
                text.parse::<Rate>().unwrap(),
                Rate::PerSecond(rate),
                "{text}"
            );
        }
        assert_eq!("max".parse::<Rate>().unwrap(), Rate::Max);
        for text in [
            "0", "-1", "", "nan", "inf", "5/x", "/s", "fast", "0/m", "5/s/s",
        ] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    #[test]
    fn constant_arrivals_keep_the_rate_in_every_second() {
        for (text, rate, posts) in [
            ("0.1", 0.1, 1_000),
            ("30/m", 0.5, 1_000),
            ("2", 2.0, 1_000),
            ("7.3", 7.3, 10_000),
            ("10000", 10_000.0, 200_000),
        ] {
            let dues = dues(text, Arrivals::Constant, 1, posts);
            let last_second = dues[posts - 1].floor();
            let mut in_second = BTreeMap::new();
            for due in dues.iter().filter(|due| **due < last_second) {
                #[expect(clippy::cast_possible_truncation, reason = "small numbers")]
                let second = due.floor() as i64;
                *in_second.entry(second).or_insert(0.0) += 1.0;
            }
            let mut second = 0;
            let mut checked = 0.0;
            while checked < last_second {
                let posts: f64 = in_second.get(&second).copied().unwrap_or(0.0);
                assert!(
                    (posts - rate).abs() <= 1.0,
                    "{posts} in second {second} at {text}"
                );
                second += 1;
                checked += 1.0;
            }
            assert!(second >= 19, "{text}: {second} seconds were looked at");
        }
    }

    #[test]
    fn a_slow_rate_is_as_even_as_a_fast_one() {
        for (rate, pause) in [("0.1", 10.0), ("30/m", 2.0), ("2", 0.5), ("10000", 0.0001)] {
            let dues = dues(rate, Arrivals::Constant, 1, 1000);
            for pair in dues.windows(2) {
                // A due time is whole nanoseconds.
                assert!(
                    (pair[1] - pair[0] - pause).abs() < 3e-9,
                    "{pair:?} at {rate}"
                );
            }
        }
    }

    #[test]
    fn a_rate_is_told_in_four_figures() {
        for (rate, told) in [
            (25.0, "25/s"),
            (2.0 / 3.0, "0.6667/s"),
            (0.1 / 1000.0, "0.0001/s"),
            (12_345.6, "12346/s"),
            (7.3, "7.3/s"),
        ] {
            assert_eq!(Rate::PerSecond(rate).to_string(), told);
        }
    }

    #[test]
    fn constant_arrivals_do_not_drift() {
        assert!((dues("10", Arrivals::Constant, 1, 1_000_001)[1_000_000] - 100_000.0).abs() < 1e-6);
    }

    /// The Kolmogorov-Smirnov test: whether the pauses between these times are as exponential ones of this rate are in 95 of
    /// 100 cases.
    #[track_caller]
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn assert_exponential(dues: &[f64], rate: f64) {
        let mut pauses: Vec<f64> = dues.windows(2).map(|pair| pair[1] - pair[0]).collect();
        pauses.sort_by(f64::total_cmp);
        let n = pauses.len() as f64;
        let distance = pauses
            .iter()
            .enumerate()
            .map(|(i, pause)| {
                let expected = 1.0 - (-rate * pause).exp();
                (expected - i as f64 / n)
                    .abs()
                    .max(((i + 1) as f64 / n - expected).abs())
            })
            .fold(0.0, f64::max);
        let doubt: f64 = 0.05;
        let critical = (-(doubt / 2.0).ln() / 2.0).sqrt() / n.sqrt();
        assert!(distance < critical, "{distance}, critical is {critical}");
    }

    #[test]
    fn poisson_pauses_are_exponential() {
        for (text, rate) in [("4", 4.0), ("30/m", 0.5), ("10000", 10_000.0)] {
            assert_exponential(&dues(text, Arrivals::Poisson, 100, 20_001), rate);
        }
    }

    /// When the posts of all shards are due, up to the time that all of them reach.
    fn dues_of_shards(rate: f64, arrivals: Arrivals, of: u32, posts: usize) -> Vec<f64> {
        let mut all = Vec::new();
        let mut end = f64::INFINITY;
        for shard in shards(of) {
            let mut schedule = Rated::new(Rate::PerSecond(rate), arrivals, 100, shard, 0);
            let dues = (0..posts).map(|_| schedule.next_due().unwrap().as_secs_f64());
            all.extend(dues);
            end = all.last().copied().map_or(end, |last: f64| end.min(last));
        }
        all.retain(|due| *due <= end);
        all.sort_by(f64::total_cmp);
        all
    }

    #[test]
    fn the_shards_of_a_poisson_run_are_one_together() {
        let dues = dues_of_shards(4.0, Arrivals::Poisson, 5, 5_000);
        let all_have_begun = dues.partition_point(|due| *due <= 4.0 / 4.0);
        assert_exponential(&dues[all_have_begun..][..20_001], 4.0);
    }

    #[test]
    fn the_shards_of_a_constant_run_are_as_even_as_the_whole() {
        let together = dues_of_shards(10.0, Arrivals::Constant, 4, 250);
        let whole = dues("10", Arrivals::Constant, 1, together.len());
        assert!(together.len() > 990);
        for (due, whole) in together.iter().zip(whole) {
            assert!((due - whole).abs() < 1e-8, "{due} {whole}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_pauses_and_another_seed_others() {
        assert_eq!(
            dues("2", Arrivals::Poisson, 5, 100),
            dues("2", Arrivals::Poisson, 5, 100)
        );
        assert_ne!(
            dues("2", Arrivals::Poisson, 5, 100),
            dues("2", Arrivals::Poisson, 6, 100)
        );
        assert!((dues("2", Arrivals::Poisson, 5, 1)[0]).abs() < f64::EPSILON);
    }

    #[test]
    fn a_run_that_goes_on_has_the_pauses_that_it_would_have_had() {
        for arrivals in [Arrivals::Poisson, Arrivals::Constant] {
            for shard in shards(2) {
                let dues = |posts: u64| {
                    let mut schedule = Rated::new(Rate::PerSecond(2.0), arrivals, 5, shard, posts);
                    move || schedule.next_due().unwrap().as_secs_f64()
                };
                let whole: Vec<f64> = std::iter::repeat_with(dues(0)).take(100).collect();
                let rest = std::iter::repeat_with(dues(60)).take(40);
                let begin = f64::from(shard.remainder()) / 2.0;
                for (due, again) in whole[60..].iter().zip(rest) {
                    assert!((again - begin - (due - whole[60])).abs() < 1e-6);
                }
            }
        }
    }

    #[test]
    fn at_the_highest_rate_nothing_is_waited_for() {
        assert_eq!(
            Rated::new(Rate::Max, Arrivals::Poisson, 1, Shard::WHOLE, 0).next_due(),
            None
        );
    }
}
