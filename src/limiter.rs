//! How many requests a target gets at a time, how many a second, and when it is left alone. Pure: time is passed in, as the
//! time since a start that all calls share.
//!
//! Three brakes, each for one kind of trouble. Requests without an answer halve the number on the wire. Refusals because of
//! too much set a rate, which is a little under what the target accepted lately and then climbs until the next refusal, or
//! until it holds nothing back and is forgotten. Failure after failure closes a gate that lets one request through at a
//! time, until one succeeds.

use std::{collections::VecDeque, time::Duration};

/// Failed answers in a row that close the gate.
const FAILURES_IN_A_ROW: u32 = 10;
/// The pauses before the gate lets a request through double from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// What is left of the rate that the target accepted when it refuses more.
const CUT: f64 = 0.9;
/// How long after a cut the rate is back at what was accepted then. It climbs as a cubic: flat there, ever faster later
/// (RFC 9438 does so with windows).
const RETURN: Duration = Duration::from_secs(2);
/// Or, at a slow rate, how many requests later, so that not every few of them are refused.
const RETURN_REQUESTS: f64 = 20.0;
/// Between two cuts, so that the second one is based on what the first one did.
const BETWEEN_CUTS: Duration = Duration::from_millis(100);
/// Requests a second, at the least: nothing is learnt of a target that is not asked.
const SLOWEST: f64 = 0.5;
/// A rate that has held nothing back for so long is forgotten.
const FORGET: Duration = Duration::from_secs(5);
/// What a request may be late without being missed by the rate: timers tick in milliseconds. More would make bursts.
const LATE: Duration = Duration::from_millis(2);

/// How far the rate may be above what is accepted before a refusal cuts it: some targets refuse a little at any rate (a hot
/// shard, a noisy neighbour), and slowing down would not help.
const STRAY: f64 = 1.05;
/// This share of the answers of a second, or of at least so many answers, may be such strays, and a standard deviation or
/// three more, since strays come as they like.
const STRAYS: f64 = 0.03;
const EVIDENCE: usize = 100;
/// In the first second of a run, what was accepted says little: a target may have saved up. There, so many refused requests
/// since the last cut make the next one, if they are more than one in so many.
const FIRST_REFUSED: u32 = 3;
const FIRST_IN: u32 = 7;

/// What was accepted lately: in so long,
const LATELY: Duration = Duration::from_secs(1);
/// or at least the last so many answers.
const FEWEST: usize = 10;

/// How many requests may be on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InFlight {
    /// Always so many.
    Fixed(u16),
    /// As many as the target answers in time.
    Auto { first: u16, most: u16 },
}

/// Whether a request may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Now; it counts as on the wire until it has [ended](Limiter::ended).
    Go,
    /// Not before this time: ask again then.
    At(Duration),
    /// Not before another request has ended: ask again then.
    Full,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The target is well and settled records, whatever it made of them.
    Accepted { of: u32 },
    /// It was too much; so many of its records were accepted all the same.
    Throttled { accepted: u32, of: u32 },
    /// No answer in time, or no connection.
    NoAnswer,
    /// An answer that settles nothing.
    Failed,
}

/// Decides when requests go to one target. Those who wait should queue, the first in the queue asks for all: there is
/// nothing here that is fair.
#[derive(Debug)]
pub(crate) struct Limiter {
    in_flight: InFlight,
    /// Requests that may be on the wire now.
    limit: u16,
    on_wire: u16,
    /// Successes at the limit since it changed.
    successes: u16,
    /// When the limit was last halved.
    halved: Option<Duration>,
    lately: Lately,
    /// None: the target never refused anything, or not for long.
    rate: Option<Rate>,
    /// The rate makes somebody wait.
    held: bool,
    failures: u32,
    gate: Option<Gate>,
}

impl Limiter {
    pub(crate) fn new(in_flight: InFlight) -> Self {
        let limit = match in_flight {
            InFlight::Fixed(limit) => limit,
            InFlight::Auto { first, most } => first.min(most),
        };
        Self {
            in_flight,
            limit: limit.max(1),
            on_wire: 0,
            successes: 0,
            halved: None,
            lately: Lately::default(),
            rate: None,
            held: false,
            failures: 0,
            gate: None,
        }
    }

    /// Whether one more request may go.
    pub(crate) fn admit(&mut self, now: Duration) -> Admission {
        self.lately.pass(now, self.held || self.on_wire > 0);
        self.held = false;
        let limit = if self.gate.is_some() { 1 } else { self.limit };
        if self.on_wire >= limit {
            return Admission::Full;
        }
        if let Some(gate) = &self.gate
            && gate.next > now
        {
            return Admission::At(gate.next);
        }
        if let Some(rate) = &mut self.rate {
            if rate.next > now {
                self.held = true;
                rate.held = now;
                return Admission::At(rate.next);
            }
            if now.saturating_sub(rate.held) >= FORGET {
                self.rate = None;
            } else {
                let gap = Duration::from_secs_f64(1.0 / rate.per_second(self.lately.busy));
                rate.next = rate.next.max(now.saturating_sub(LATE)) + gap;
            }
        }
        self.on_wire += 1;
        Admission::Go
    }

    /// A request that was admitted at `sent` has ended.
    pub(crate) fn ended(&mut self, now: Duration, sent: Duration, how: Ended) {
        self.lately.pass(now, true);
        match how {
            Ended::Accepted { of } => {
                self.lately.refuse(0, of);
                self.settle(1.0);
                self.grow();
            }
            Ended::Throttled { accepted, of } => {
                let share = f64::from(accepted) / f64::from(of.max(1));
                self.lately.refuse(of.saturating_sub(accepted), of);
                if accepted > 0 {
                    self.settle(share);
                    self.grow();
                }
                self.slow_down(now, sent);
            }
            Ended::NoAnswer => {
                self.halve(now, sent);
                self.fail(now, sent);
            }
            Ended::Failed => self.fail(now, sent),
        }
        self.on_wire = self.on_wire.saturating_sub(1);
    }

    /// Requests that have been admitted and have not ended.
    #[cfg(test)]
    pub(crate) fn on_wire(&self) -> u16 {
        self.on_wire
    }

    fn settle(&mut self, share: f64) {
        if let Some(rate) = &mut self.rate {
            rate.taken = rate.taken.saturating_add(1);
        }
        self.lately.accept(share);
        self.failures = 0;
        self.gate = None;
    }

    /// Adds one to the limit for each round trip, if the limit is what holds requests back.
    fn grow(&mut self) {
        let InFlight::Auto { most, .. } = self.in_flight else {
            return;
        };
        if self.on_wire < self.limit || self.limit >= most {
            return;
        }
        self.successes += 1;
        if self.successes >= self.limit {
            self.limit += 1;
            self.successes = 0;
        }
    }

    /// Halves the limit, but once for all requests that were on the wire together.
    fn halve(&mut self, now: Duration, sent: Duration) {
        let fixed = matches!(self.in_flight, InFlight::Fixed(_));
        if fixed || self.halved.is_some_and(|halved| sent < halved) {
            return;
        }
        self.limit = (self.limit / 2).max(1);
        self.successes = 0;
        self.halved = Some(now);
    }

    /// Cuts the rate to a little under what was accepted lately, unless the request is older than the last cut.
    fn slow_down(&mut self, now: Duration, sent: Duration) {
        if self.lately.busy < LATELY && self.rate.is_some() {
            self.slow_down_at_first(now, sent);
            return;
        }
        let last = self.rate.as_ref();
        if last.is_some_and(|rate| sent < rate.cut || now < rate.cut + BETWEEN_CUTS) {
            return;
        }
        // The first cut is the one that costs most if it was none of the rate's doing.
        let deviations = if last.is_some() { 1.0 } else { 3.0 };
        if !self.lately.refuses_more_than_strays(deviations) {
            return;
        }
        let accepted = self.lately.per_second();
        let before = last.map_or_else(
            || f64::from(self.on_wire) / now.saturating_sub(sent).max(LATE).as_secs_f64(),
            |rate| rate.per_second(self.lately.busy),
        );
        // What is accepted lately is still what it was before the cut. A target that counts by the second refuses everything
        // until the second is over: that must not cut the rate again and again.
        if last.is_some() && before <= accepted * STRAY {
            return;
        }
        let next = last.map_or(now, |rate| rate.next);
        let accepted = accepted.max(before / 2.0);
        self.rate = Some(Rate::new(accepted, now, self.lately.busy, next));
    }

    /// Cuts the rate to the share of it that was accepted since the last cut, but not below all that was accepted so far.
    fn slow_down_at_first(&mut self, now: Duration, sent: Duration) {
        let Some(rate) = self.rate.as_mut().filter(|rate| sent >= rate.cut) else {
            return;
        };
        rate.refused += 1;
        let answers = rate.taken + rate.refused;
        if rate.refused < FIRST_REFUSED || rate.refused * FIRST_IN < answers {
            return;
        }
        let share = f64::from(rate.taken) / f64::from(answers);
        let accepted = rate.per_second(self.lately.busy) * share.max(0.5);
        let so_far = self.lately.accepted.iter().map(|(_, share)| share);
        let least = so_far.sum::<f64>() / LATELY.as_secs_f64();
        *rate = Rate::new(accepted.max(least), now, self.lately.busy, now);
    }

    fn fail(&mut self, now: Duration, sent: Duration) {
        if let Some(gate) = &mut self.gate {
            // Requests from before it closed say nothing new.
            if sent > gate.closed {
                gate.pause = (gate.pause * 2).min(LONGEST_PAUSE);
                gate.next = now + gate.pause;
            }
            return;
        }
        self.failures += 1;
        if self.failures >= FAILURES_IN_A_ROW {
            self.gate = Some(Gate {
                closed: now,
                pause: FIRST_PAUSE,
                next: now + FIRST_PAUSE,
            });
        }
    }
}

/// What the rate of requests is held to.
#[derive(Debug)]
struct Rate {
    /// What the target accepted, a second, when it was last cut.
    accepted: f64,
    cut: Duration,
    /// The same, in busy time.
    cut_busy: Duration,
    /// When the next request is due.
    next: Duration,
    /// When it last held a request back.
    held: Duration,
    /// Requests that were accepted, if only in part, and requests that were refused since the cut.
    taken: u32,
    refused: u32,
}

impl Rate {
    fn new(accepted: f64, now: Duration, busy: Duration, next: Duration) -> Self {
        Self {
            accepted,
            cut: now,
            cut_busy: busy,
            next,
            held: now,
            taken: 0,
            refused: 0,
        }
    }

    fn per_second(&self, busy: Duration) -> f64 {
        let since = busy.saturating_sub(self.cut_busy).as_secs_f64();
        let back = RETURN.as_secs_f64().max(RETURN_REQUESTS / self.accepted);
        let beyond = since / back - 1.0;
        (self.accepted * (1.0 + (1.0 - CUT) * beyond.powi(3))).max(SLOWEST)
    }
}

/// The target is out of order.
#[derive(Debug)]
struct Gate {
    closed: Duration,
    pause: Duration,
    next: Duration,
}

/// What was accepted lately. Its clock is busy time, which stands still while there is nothing to send: else a pause of the
/// source would look like a target that accepts little.
#[derive(Debug, Default)]
struct Lately {
    busy: Duration,
    /// When the clock was last set.
    seen: Duration,
    /// When requests were accepted, in busy time, and what share of them.
    accepted: VecDeque<(Duration, f64)>,
    /// When requests were answered, in busy time, and how many of how many records were refused.
    refused: VecDeque<(Duration, u32, u32)>,
    /// The sums of these.
    records: u64,
    records_refused: u64,
}

impl Lately {
    fn refuse(&mut self, refused: u32, of: u32) {
        self.refused.push_back((self.busy, refused, of));
        self.records += u64::from(of);
        self.records_refused += u64::from(refused);
        let horizon = self.busy.saturating_sub(LATELY);
        while self.refused.len() > EVIDENCE
            && let Some((_, refused, of)) = self.refused.pop_front_if(|(at, ..)| *at < horizon)
        {
            self.records -= u64::from(of);
            self.records_refused -= u64::from(refused);
        }
    }

    /// By records: a small request that was refused whole weighs little beside large ones that were taken.
    #[expect(clippy::cast_precision_loss, reason = "no second holds 2^53 records")]
    fn refuses_more_than_strays(&self, deviations: f64) -> bool {
        let strays = STRAYS * self.records.max(EVIDENCE as u64) as f64;
        self.records_refused as f64 > strays + deviations * strays.sqrt()
    }

    fn pass(&mut self, now: Duration, busy: bool) {
        if busy {
            self.busy += now.saturating_sub(self.seen);
        }
        self.seen = self.seen.max(now);
    }

    fn accept(&mut self, share: f64) {
        self.accepted.push_back((self.busy, share));
        let horizon = self.busy.saturating_sub(LATELY);
        while self.accepted.len() > FEWEST + 1
            && self.accepted.front().is_some_and(|(at, _)| *at < horizon)
        {
            self.accepted.pop_front();
        }
    }

    /// Requests a second. A run that is younger than a second may have met a target that had saved up.
    fn per_second(&self) -> f64 {
        let horizon = self.busy.saturating_sub(LATELY);
        let recent = self.accepted.partition_point(|(at, _)| *at < horizon);
        let fewest = self.accepted.len().saturating_sub(FEWEST);
        let since = match fewest.checked_sub(1) {
            _ if recent <= fewest => horizon,
            Some(before) => self.accepted[before].0,
            None => Duration::ZERO,
        };
        let accepted: f64 = self
            .accepted
            .range(recent.min(fewest)..)
            .map(|(_, share)| share)
            .sum();
        accepted / self.busy.saturating_sub(since).max(LATELY).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};

    use super::*;

    const AUTO: InFlight = InFlight::Auto { first: 4, most: 64 };
    const ACCEPTED: Ended = Ended::Accepted { of: 1 };
    const THROTTLED: Ended = Ended::Throttled { accepted: 0, of: 1 };

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A source that always has more to send, and a target.
    struct Simulation {
        limiter: Limiter,
        target: Target,
        now: Duration,
        /// When the first in the queue asks again; none: once a request has ended.
        ask: Option<Duration>,
        /// When it arrives or ends, when it was sent, how it ends.
        on_wire: Vec<(Duration, Duration, Option<Ended>)>,
        most_on_wire: usize,
        accepted: f64,
        refused: f64,
    }

    struct Target {
        dice: ChaCha8Rng,
        per_second: f64,
        /// Of its bucket of tokens. None: it counts by the second.
        depth: Option<f64>,
        tokens: f64,
        filled: Duration,
        /// The share of requests that it answers with an error, or not in time.
        failing: f64,
        hanging: f64,
        /// How long a request travels there at the most, in seconds.
        way: f64,
        /// It takes of a request what it can.
        partly: bool,
        /// How long an answer takes, about.
        takes: Duration,
        /// The share of requests that it refuses at any rate.
        straying: f64,
        /// Or of which it refuses a few records.
        straying_whole: bool,
    }

    impl Target {
        fn new(per_second: f64, depth: Option<f64>) -> Self {
            Self {
                dice: ChaCha8Rng::seed_from_u64(1),
                per_second,
                depth,
                tokens: depth.unwrap_or(per_second),
                filled: Duration::ZERO,
                failing: 0.0,
                hanging: 0.0,
                way: 0.0,
                partly: false,
                takes: millis(20),
                straying: 0.0,
                straying_whole: true,
            }
        }

        fn way(&mut self) -> Duration {
            Duration::from_secs_f64(self.way * self.dice.random::<f64>())
        }

        fn answer(&mut self, now: Duration) -> (Duration, Ended) {
            if let Some(depth) = self.depth {
                let since = now.saturating_sub(self.filled).as_secs_f64();
                self.tokens = (self.tokens + since * self.per_second).min(depth);
            } else if self.filled.as_secs() < now.as_secs() {
                self.tokens = self.per_second;
            }
            self.filled = now;
            let how = if self.dice.random_bool(self.hanging) {
                return (millis(1000), Ended::NoAnswer);
            } else if self.dice.random_bool(self.failing) {
                Ended::Failed
            } else if self.dice.random_bool(self.straying) {
                if self.straying_whole {
                    THROTTLED
                } else {
                    let (accepted, of) = (487, 500);
                    Ended::Throttled { accepted, of }
                }
            } else if self.tokens >= 1.0 {
                self.tokens -= 1.0;
                ACCEPTED
            } else if self.partly {
                let accepted = (0..500).take_while(|i| f64::from(*i) < self.tokens * 500.0);
                let accepted = u32::try_from(accepted.count()).unwrap();
                self.tokens = 0.0;
                Ended::Throttled { accepted, of: 500 }
            } else {
                THROTTLED
            };
            (self.takes.mul_f64(self.dice.random_range(0.75..1.75)), how)
        }
    }

    impl Simulation {
        fn new(in_flight: InFlight, target: Target) -> Self {
            Self {
                limiter: Limiter::new(in_flight),
                target,
                now: Duration::ZERO,
                ask: Some(Duration::ZERO),
                on_wire: Vec::new(),
                most_on_wire: 0,
                accepted: 0.0,
                refused: 0.0,
            }
        }

        /// A target without a limit.
        fn unlimited(in_flight: InFlight) -> Self {
            Self::new(in_flight, Target::new(1e9, Some(1e9)))
        }

        /// Goes on for so many seconds. Accepted requests a second, and the share that was refused.
        fn run(&mut self, seconds: u32) -> (f64, f64) {
            let end = self.now + Duration::from_secs(seconds.into());
            (self.accepted, self.refused) = (0.0, 0.0);
            while self.step(end) {}
            let answered = (self.accepted + self.refused).max(1.0);
            (self.accepted / f64::from(seconds), self.refused / answered)
        }

        fn step(&mut self, end: Duration) -> bool {
            let event = (0..self.on_wire.len()).min_by_key(|i| self.on_wire[*i].0);
            let event_at = event.map(|event| self.on_wire[event].0);
            let next = event_at.into_iter().chain(self.ask).min().unwrap();
            self.now = next.min(end);
            if next > end {
                return false;
            }
            if let Some(event) = event.filter(|_| event_at == Some(next)) {
                let (_, sent, how) = self.on_wire.swap_remove(event);
                let Some(how) = how else {
                    let (took, how) = self.target.answer(next);
                    self.on_wire.push((next + took, sent, Some(how)));
                    return true;
                };
                self.limiter.ended(next, sent, how);
                self.ask.get_or_insert(next);
                let accepted = match how {
                    Ended::Accepted { .. } => 1.0,
                    Ended::Throttled { accepted, of } => f64::from(accepted) / f64::from(of),
                    Ended::NoAnswer | Ended::Failed => return true,
                };
                self.accepted += accepted;
                self.refused += 1.0 - accepted;
                return true;
            }
            self.ask = match self.limiter.admit(next) {
                Admission::Full => None,
                Admission::At(at) => {
                    assert!(at > next, "{at:?} is not after {next:?}");
                    // Timers do not wake between milliseconds.
                    Some(millis(
                        at.as_nanos().div_ceil(1_000_000).try_into().unwrap(),
                    ))
                }
                Admission::Go => {
                    let arrives = next + self.target.way();
                    self.on_wire.push((arrives, next, None));
                    self.most_on_wire = self.most_on_wire.max(self.on_wire.len());
                    Some(next)
                }
            };
            assert_eq!(usize::from(self.limiter.on_wire()), self.on_wire.len());
            true
        }
    }

    /// As many requests as may go now.
    fn fill(limiter: &mut Limiter, now: Duration) -> u16 {
        (0..u16::MAX)
            .take_while(|_| limiter.admit(now) == Admission::Go)
            .count()
            .try_into()
            .unwrap()
    }

    #[test]
    fn a_rate_settles_a_little_under_what_the_target_accepts() {
        for (per_second, depth, in_flight) in [
            (200.0, Some(1.0), AUTO),
            (200.0, Some(20.0), AUTO),
            (200.0, Some(200.0), AUTO),
            (200.0, None, AUTO),
            (20.0, Some(1.0), AUTO),
            (20.0, Some(20.0), AUTO),
            (20.0, None, AUTO),
            // Two a millisecond are more than a depth of one lets pass.
            (2000.0, Some(4.0), AUTO),
            (2000.0, Some(20.0), AUTO),
            (2000.0, Some(2000.0), AUTO),
            (2000.0, None, AUTO),
            (200.0, Some(20.0), InFlight::Fixed(16)),
        ] {
            let mut simulation = Simulation::new(in_flight, Target::new(per_second, depth));
            simulation.run(20);
            // Long enough for several rounds of climbing and cutting.
            let (accepted, refused) = simulation.run(60);
            assert!(
                accepted >= 0.85 * per_second,
                "{accepted}/s of {per_second}/s"
            );
            assert!(refused < 0.05, "{refused}");
        }
    }

    #[test]
    fn a_limit_that_doubles_or_halves_is_found_within_ten_seconds() {
        for (per_second, depth) in [
            (100.0, Some(1.0)),
            (200.0, Some(20.0)),
            (200.0, Some(200.0)),
            (200.0, None),
            (20.0, Some(20.0)),
            (800.0, Some(20.0)),
        ] {
            let mut simulation = Simulation::new(AUTO, Target::new(per_second, depth));
            simulation.run(20);
            for per_second in [2.0 * per_second, per_second] {
                simulation.target.per_second = per_second;
                simulation.run(10);
                let (accepted, refused) = simulation.run(5);
                assert!(
                    accepted >= 0.85 * per_second,
                    "{accepted}/s of {per_second}/s"
                );
                assert!(refused < 0.05, "{refused}");
                simulation.run(15);
            }
        }
    }

    #[test]
    fn requests_that_are_late_or_fail_do_not_unsettle_the_rate() {
        let mut simulation = Simulation::new(AUTO, Target::new(200.0, Some(20.0)));
        simulation.target.way = 0.01;
        simulation.target.failing = 0.05;
        simulation.target.hanging = 0.002;
        simulation.run(20);
        let (accepted, refused) = simulation.run(20);
        assert!(accepted >= 0.85 * 200.0, "{accepted}");
        assert!(refused < 0.05, "{refused}");
    }

    #[test]
    fn a_target_that_never_refuses_is_never_kept_waiting() {
        let mut auto = Simulation::unlimited(AUTO);
        let mut fixed = Simulation::unlimited(InFlight::Fixed(64));
        for simulation in [&mut auto, &mut fixed] {
            simulation.run(5);
            assert_eq!(simulation.most_on_wire, 64);
        }
        let (auto, fixed) = (auto.run(5).0, fixed.run(5).0);
        assert!(auto > 0.99 * fixed, "{auto}/s, {fixed}/s");
    }

    #[test]
    fn a_few_errors_do_not_slow_a_run_down() {
        let mut healthy = Simulation::unlimited(AUTO);
        let mut failing = Simulation::unlimited(AUTO);
        failing.target.failing = 0.05;
        let (healthy, failing) = (healthy.run(10).0, failing.run(10).0);
        assert!(failing > 0.9 * healthy, "{failing}/s, {healthy}/s");
    }

    #[test]
    fn a_rate_that_holds_nothing_back_is_forgotten() {
        let mut simulation = Simulation::new(AUTO, Target::new(200.0, Some(20.0)));
        simulation.run(20);
        assert!(simulation.limiter.rate.is_some());
        simulation.target.per_second = 1e9;
        simulation.target.depth = Some(1e9);
        simulation.run(60);
        assert!(simulation.limiter.rate.is_none());
        assert!(simulation.run(5).0 > 2500.0);
    }

    #[test]
    fn what_is_accepted_of_refused_requests_counts() {
        for per_second in [2.0, 20.0] {
            let mut target = Target::new(per_second, Some(per_second));
            target.partly = true;
            let mut simulation = Simulation::new(AUTO, target);
            simulation.run(20);
            let (accepted, refused) = simulation.run(20);
            assert!(
                accepted >= 0.85 * per_second,
                "{accepted}/s of {per_second}/s"
            );
            assert!(refused < 0.05, "{refused}");
        }
    }

    #[test]
    fn refusals_that_no_rate_would_avoid_do_not_slow_a_run_down() {
        for (takes, straying, partly) in [(2, 0.025, false), (20, 0.025, false), (2, 1.0, true)] {
            let throughput = |straying: f64| {
                let mut simulation = Simulation::unlimited(AUTO);
                simulation.target.takes = millis(takes);
                simulation.target.straying = straying;
                simulation.target.straying_whole = !partly;
                simulation.run(5).0
            };
            let (healthy, straying) = (throughput(0.0), throughput(straying));
            assert!(
                straying > 0.9 * healthy,
                "{straying}/s, {healthy}/s, {takes} ms"
            );
        }
    }

    #[test]
    fn little_is_refused_while_the_limit_is_found() {
        for (per_second, depth) in [(200.0, 20.0), (400.0, 40.0), (2000.0, 200.0)] {
            for takes in [1, 5, 20] {
                let mut simulation = Simulation::new(AUTO, Target::new(per_second, Some(depth)));
                simulation.target.takes = millis(takes);
                let (accepted, refused) = simulation.run(12);
                assert!(
                    accepted >= 0.85 * per_second,
                    "{accepted}/s of {per_second}/s"
                );
                assert!(refused < 0.05, "{refused} at {per_second}/s, {takes} ms");
            }
        }
    }

    #[test]
    fn a_pause_of_the_source_does_not_look_like_a_slow_target() {
        let mut limiter = Limiter::new(InFlight::Fixed(1));
        let mut now = Duration::ZERO;
        for how in [[ACCEPTED; 90].as_slice(), &[THROTTLED; 10]].concat() {
            now += millis(990);
            assert_eq!(limiter.admit(now), Admission::Go);
            let sent = now;
            now += millis(10);
            limiter.ended(now, sent, how);
        }
        assert!(limiter.rate.unwrap().accepted > 80.0);
    }

    #[test]
    fn each_round_trip_of_successes_adds_one_up_to_the_most() {
        let mut limiter = Limiter::new(InFlight::Auto { first: 4, most: 10 });
        for round in 0..10 {
            let (sent, now) = (millis(20 * round), millis(20 * round + 20));
            let expected = (4 + u16::try_from(round).unwrap()).min(10);
            assert_eq!(fill(&mut limiter, sent), expected);
            for _ in 0..expected {
                limiter.ended(now, sent, ACCEPTED);
                // Others take the place at once, so that the limit stays what holds requests back.
                assert_eq!(limiter.admit(now), Admission::Go);
            }
            limiter.on_wire = 0;
        }
    }

    #[test]
    fn requests_without_answer_halve_once_for_each_round_trip_down_to_one() {
        let mut limiter = Limiter::new(AUTO);
        limiter.limit = 40;
        let mut now = Duration::ZERO;
        for expected in [40, 20, 10, 5, 2, 1, 1] {
            assert_eq!(fill(&mut limiter, now), expected);
            let sent = now;
            now += millis(1000);
            for _ in 0..expected {
                limiter.ended(now, sent, Ended::NoAnswer);
                limiter.failures = 0;
            }
        }
    }

    #[test]
    fn one_in_flight_is_one_whatever_happens() {
        let mut simulation = Simulation::new(InFlight::Fixed(1), Target::new(20.0, Some(1.0)));
        simulation.target.hanging = 0.05;
        simulation.target.failing = 0.2;
        simulation.run(100);
        assert_eq!(simulation.most_on_wire, 1);
        assert!(simulation.refused > 0.0);
    }

    #[test]
    fn after_ten_failures_in_a_row_one_request_at_a_time_probes() {
        let mut limiter = Limiter::new(InFlight::Fixed(12));
        assert_eq!(fill(&mut limiter, Duration::ZERO), 12);
        let mut now = millis(20);
        for _ in 0..9 {
            limiter.ended(now, Duration::ZERO, Ended::Failed);
        }
        limiter.ended(now, Duration::ZERO, Ended::NoAnswer);
        assert_eq!(limiter.admit(now), Admission::Full);
        limiter.ended(now, Duration::ZERO, Ended::Failed);
        limiter.ended(now, Duration::ZERO, THROTTLED);
        for pause in [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 20_000, 20_000] {
            assert_eq!(limiter.admit(now), Admission::At(now + millis(pause)));
            now += millis(pause);
            assert_eq!(fill(&mut limiter, now), 1);
            let sent = now;
            now += millis(20);
            limiter.ended(now, sent, Ended::Failed);
        }
        now += millis(20_000);
        assert_eq!(fill(&mut limiter, now), 1);
        limiter.ended(now, now, ACCEPTED);
        now += millis(20_000);
        assert_eq!(fill(&mut limiter, now), 12);
    }

    #[test]
    fn whatever_the_target_does_the_limit_holds_and_requests_go_on() {
        for seed in 0..50 {
            let mut dice = ChaCha8Rng::seed_from_u64(seed);
            let most = dice.random_range(1..=16);
            let in_flight = if dice.random() {
                InFlight::Fixed(most)
            } else {
                InFlight::Auto { first: 4, most }
            };
            let depth = dice.random_bool(0.7).then(|| dice.random_range(1.0..50.0));
            let mut target = Target::new(dice.random_range(0.1..500.0), depth);
            target.dice = ChaCha8Rng::seed_from_u64(seed);
            target.way = dice.random_range(0.0..0.05);
            let mut simulation = Simulation::new(in_flight, target);
            for _ in 0..5 {
                simulation.target.failing = f64::powi(dice.random(), 2);
                simulation.target.hanging = f64::powi(dice.random(), 3);
                simulation.target.per_second *= dice.random_range(0.2..3.0);
                simulation.run(10);
                assert!(simulation.most_on_wire <= usize::from(most));
            }
            let Simulation {
                mut limiter,
                on_wire,
                mut now,
                ..
            } = simulation;
            for (_, sent, _) in on_wire {
                limiter.ended(now, sent, Ended::NoAnswer);
            }
            while let Admission::At(at) = limiter.admit(now) {
                assert!(at > now && at <= now + LONGEST_PAUSE, "{at:?} at {now:?}");
                now = at;
            }
            assert_eq!(limiter.on_wire(), 1);
        }
    }
}
