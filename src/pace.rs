//! When the next post is due. Pure: no clock, no sleep. Times count from the start of the run, so nothing that happens
//! on the way makes the schedule drift.

use std::{fmt, str::FromStr, time::Duration};

use rand::{Rng, SeedableRng, rngs::ChaCha8Rng};

/// Sets the random numbers of the schedule apart from all others that a random seed yields.
const PAUSES: u64 = 1;

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
            Self::PerSecond(rate) => write!(f, "{rate}/s"),
            Self::Max => f.write_str("max"),
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
pub(crate) struct Schedule {
    rate: Rate,
    arrivals: Arrivals,
    pauses: ChaCha8Rng,
    /// Posts scheduled so far.
    position: u64,
    /// Seconds from the start of the run to the post at `position`.
    due: f64,
}

impl Schedule {
    /// `posts`: how many an earlier run had behind it; the pauses go on as they would have then.
    pub(crate) fn new(rate: Rate, arrivals: Arrivals, random_seed: u64, posts: u64) -> Self {
        let mut pauses = ChaCha8Rng::seed_from_u64(random_seed);
        pauses.set_stream(PAUSES);
        pauses.set_word_pos(u128::from(posts) * WORDS_OF_A_PAUSE);
        Self {
            rate,
            arrivals,
            pauses,
            position: 0,
            due: 0.0,
        }
    }

    /// Whether posts are due at times, and not just as soon as possible.
    pub(crate) fn is_paced(&self) -> bool {
        matches!(self.rate, Rate::PerSecond(_))
    }

    /// When the next post is due, from the start of the run; none if there is nothing to wait for. The first post is due
    /// at once.
    pub(crate) fn next_due(&mut self) -> Option<Duration> {
        let Rate::PerSecond(rate) = self.rate else {
            return None;
        };
        let due = Duration::try_from_secs_f64(self.due).unwrap_or(Duration::MAX);
        self.position += 1;
        match self.arrivals {
            // Not a sum: a million steps of a tenth do not add up to a hundred thousand.
            #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 posts")]
            Arrivals::Constant => self.due = self.position as f64 / rate,
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
    use super::*;

    fn dues(rate: &str, arrivals: Arrivals, seed: u64, count: usize) -> Vec<f64> {
        let mut schedule = Schedule::new(rate.parse().unwrap(), arrivals, seed, 0);
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
        for rate in ["7", "0.1", "1000", "30/m", "9999"] {
            let Rate::PerSecond(per_second) = rate.parse().unwrap() else {
                panic!()
            };
            let mut second = 0.0;
            let mut posts = 0.0_f64;
            for due in dues(rate, Arrivals::Constant, 1, 20_000) {
                if due.floor() > second {
                    if due.floor() - second < 1.5 && per_second >= 1.0 {
                        assert!(
                            (posts - per_second).abs() <= 1.0,
                            "{posts} in second {second} at {rate}"
                        );
                    }
                    (second, posts) = (due.floor(), 0.0);
                }
                posts += 1.0;
            }
        }
    }

    #[test]
    fn constant_arrivals_do_not_drift() {
        assert!((dues("10", Arrivals::Constant, 1, 1_000_001)[1_000_000] - 100_000.0).abs() < 1e-6);
    }

    #[test]
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn poisson_pauses_are_exponential() {
        // Kolmogorov-Smirnov over 20,000 pauses: the largest distance from the distribution stays under the bound that
        // a true sample passes in 95 of 100 cases.
        let dues = dues("4", Arrivals::Poisson, 100, 20_001);
        let mut pauses: Vec<f64> = dues.windows(2).map(|pair| pair[1] - pair[0]).collect();
        pauses.sort_by(f64::total_cmp);
        let n = pauses.len() as f64;
        let distance = pauses
            .iter()
            .enumerate()
            .map(|(i, pause)| {
                let expected = 1.0 - (-4.0 * pause).exp();
                (expected - i as f64 / n)
                    .abs()
                    .max(((i + 1) as f64 / n - expected).abs())
            })
            .fold(0.0, f64::max);
        assert!(distance < 1.36 / n.sqrt(), "{distance}");
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
            let whole = dues("2", arrivals, 5, 100);
            let mut rest = Schedule::new(Rate::PerSecond(2.0), arrivals, 5, 60);
            for due in &whole[60..] {
                let again = rest.next_due().unwrap().as_secs_f64();
                assert!((again - (due - whole[60])).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn at_the_highest_rate_nothing_is_waited_for() {
        assert_eq!(
            Schedule::new(Rate::Max, Arrivals::Poisson, 1, 0).next_due(),
            None
        );
    }
}
