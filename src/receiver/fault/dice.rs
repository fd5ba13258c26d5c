//! The dice: which request and which record meets a fault. All of it follows from the seed and the order of arrival.

use std::{
    sync::{
        PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::ChaCha8Rng};

use super::{Plan, Share, Whole};

/// The seed and the number of requests that have arrived.
#[derive(Debug)]
pub(super) struct Arrivals {
    seed: u64,
    count: AtomicU64,
}

impl Arrivals {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            count: AtomicU64::new(0),
        }
    }

    /// Every request has random numbers of its own, so that no fault shifts those of the next.
    fn next(&self) -> ChaCha8Rng {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(self.count.fetch_add(1, Ordering::Relaxed));
        random
    }
}

/// A failure of one record that trying again cures. Servers have two kinds of it, which take turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::receiver) enum Passing {
    /// Its partition has moved, or its shard is busy.
    Elsewhere,
    /// It was not written in time, for reasons of the server's own.
    Late,
}

/// What one request meets.
#[derive(Debug)]
pub(in crate::receiver) struct Dice {
    pub(in crate::receiver) whole: Option<Whole>,
    /// It came sooner than the limit allows.
    pub(in crate::receiver) limited: bool,
    pub(in crate::receiver) latency: Duration,
    random: ChaCha8Rng,
    seed: u64,
    record_error: Option<Share>,
    record_reject: Option<Share>,
    turn: bool,
}

impl Plan {
    /// For the request that arrives now.
    pub(in crate::receiver) fn roll(&self, now: Instant) -> Dice {
        let mut random = self.arrivals.next();
        let mut left = uniform(random.next_u64());
        let whole = self.whole.iter().find(|(_, Share(share))| {
            left -= share;
            left < 0.0
        });
        let turn = random.next_u64().is_multiple_of(2);
        let limited = self.limit.as_ref().is_some_and(|limit| {
            let mut bucket = limit.lock().unwrap_or_else(PoisonError::into_inner);
            !bucket.take(now)
        });
        Dice {
            whole: whole.map(|&(whole, _)| whole),
            limited,
            latency: self.latency,
            random,
            seed: self.arrivals.seed,
            record_error: self.record_error,
            record_reject: self.record_reject,
            turn,
        }
    }
}

impl Dice {
    /// Whether the next record, or the next entry where an entry stands for many, fails this time.
    pub(in crate::receiver) fn fails(&mut self) -> Option<Passing> {
        let Share(share) = self.record_error?;
        if uniform(self.random.next_u64()) >= share {
            return None;
        }
        self.turn = !self.turn;
        Some(if self.turn {
            Passing::Elsewhere
        } else {
            Passing::Late
        })
    }

    /// Whether a record is refused for good: by what it says, so that it is refused however often and in whatever company
    /// it is sent.
    pub(in crate::receiver) fn rejects(&self, value: &str) -> bool {
        let Some(Share(share)) = self.record_reject else {
            return false;
        };
        let hash = value.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        uniform(ChaCha8Rng::seed_from_u64(self.seed ^ hash).next_u64()) < share
    }
}

/// At least 0 and less than 1.
fn uniform(bits: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
    let uniform = (bits >> 11) as f64 / (1_u64 << 53) as f64;
    uniform
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(faults: &[&str], seed: u64) -> Plan {
        let faults: Vec<_> = faults.iter().map(|fault| fault.parse().unwrap()).collect();
        Plan::new(&faults, seed).unwrap()
    }

    fn wholes(plan: &Plan, count: usize) -> Vec<Option<Whole>> {
        let roll = |_| plan.roll(Instant::now()).whole;
        (0..count).map(roll).collect()
    }

    #[test]
    fn the_same_seed_rolls_the_same() {
        let faults = ["hang=30%", "drop=30%"];
        let rolled = wholes(&plan(&faults, 7), 100);
        assert_eq!(rolled, wholes(&plan(&faults, 7), 100));
        assert_ne!(rolled, wholes(&plan(&faults, 8), 100));
    }

    #[test]
    fn how_many_records_a_request_has_does_not_change_the_next_request() {
        let (one, other) = (
            plan(&["hang=50%", "record-error=50%"], 7),
            plan(&["hang=50%", "record-error=50%"], 7),
        );
        for records in 0..100 {
            let mut long = one.roll(Instant::now());
            let short = other.roll(Instant::now());
            for _ in 0..records {
                long.fails();
            }
            assert_eq!(long.whole, short.whole);
        }
    }

    #[test]
    fn faults_come_in_the_shares_asked_for() {
        let rolled = wholes(&plan(&["hang=20%", "drop=5%"], 1), 10_000);
        let count = |whole| rolled.iter().filter(|&&it| it == whole).count();
        assert!(
            (1850..2150).contains(&count(Some(Whole::Hang))),
            "{}",
            count(Some(Whole::Hang))
        );
        assert!(
            (420..580).contains(&count(Some(Whole::Drop))),
            "{}",
            count(Some(Whole::Drop))
        );
        let mut dice = plan(&["record-error=10%"], 1).roll(Instant::now());
        let failed = (0..10_000).filter(|_| dice.fails().is_some()).count();
        assert!((900..1100).contains(&failed), "{failed}");
        assert!(
            wholes(&plan(&["hang=60%", "drop=40%"], 1), 1000)
                .iter()
                .all(Option::is_some)
        );
    }

    #[test]
    fn failures_of_records_take_turns() {
        let mut dice = plan(&["record-error=100%"], 1).roll(Instant::now());
        let kinds: Vec<_> = (0..4).map(|_| dice.fails().unwrap()).collect();
        assert_ne!(kinds[0], kinds[1]);
        assert_eq!(kinds[..2], kinds[2..]);
    }

    #[test]
    fn a_record_is_refused_every_time_or_never() {
        let plan = plan(&["record-reject=10%"], 3);
        let refused = || {
            let dice = plan.roll(Instant::now());
            (0..10_000)
                .filter(|n| dice.rejects(&format!(r#"{{"index":{n}}}"#)))
                .collect::<Vec<_>>()
        };
        let first = refused();
        assert!((900..1100).contains(&first.len()), "{}", first.len());
        assert_eq!(first, refused());
    }
}
