//! How many requests are taken in a time: a token bucket. The time is passed in.

use std::time::Instant;

/// Holds what a tenth of a second allows, at least one request: small, so that a client meets the limit soon.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: f64,
    depth: f64,
    tokens: f64,
    at: Option<Instant>,
}

impl Bucket {
    pub(super) fn new(rate: f64) -> Self {
        let depth = (rate / 10.0).max(1.0);
        Self {
            rate,
            depth,
            tokens: depth,
            at: None,
        }
    }

    /// Whether one more is allowed at `now`. What is refused costs nothing.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let passed = self
            .at
            .map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        self.at = self.at.max(Some(now));
        self.tokens = (self.tokens + passed * self.rate).min(self.depth);
        let allowed = self.tokens >= 1.0;
        if allowed {
            self.tokens -= 1.0;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn no_more_pass_than_the_rate_and_one_bucket() {
        let start = Instant::now();
        let mut bucket = Bucket::new(200.0);
        let passed = (0..2000).filter(|&ms| bucket.take(start + Duration::from_millis(ms)));
        let passed = passed.count();
        assert!((399..=420).contains(&passed), "{passed}");
    }

    #[test]
    fn a_slow_limit_lets_one_pass_at_a_time() {
        let start = Instant::now();
        let mut bucket = Bucket::new(0.5);
        let at = |ms| start + Duration::from_millis(ms);
        assert!(bucket.take(at(0)));
        assert!(!bucket.take(at(1000)));
        assert!(bucket.take(at(2000)));
        assert!(!bucket.take(at(1900)));
    }
}
