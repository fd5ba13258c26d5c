//! How long to wait before trying again. Pure but for the dice.

use std::time::Duration;

/// The pauses between attempts: full jitter under a ceiling that doubles. Full, because clients that failed together must
/// not come back together (AWS Architecture Blog, "Exponential Backoff and Jitter").
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    ceiling: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(20);

    /// The next pause.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.ceiling.mul_f64(rand::random_range(0.0..=1.0));
        self.ceiling = (self.ceiling * 2).min(Self::LONGEST);
        pause
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            ceiling: Self::FIRST,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_stay_under_a_ceiling_that_doubles_up_to_twenty_seconds() {
        for _ in 0..100 {
            let mut backoff = Backoff::default();
            for ceiling in [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 20_000, 20_000] {
                assert!(backoff.pause() <= Duration::from_millis(ceiling));
            }
        }
    }
}
