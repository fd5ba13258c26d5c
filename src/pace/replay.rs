//! Recorded time, played again: faster or slower, and without its long silences.

use std::{str::FromStr, time::Duration};

use crate::wall_time::WallTime;

/// Ends of silences that are remembered at the most. Beyond it only every second, fourth, … is, and what lies between is
/// played evenly: a few hundred posts each, out of millions.
const MOST_KNOTS: usize = 1 << 16;

/// How many times as fast as it was recorded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Speed(pub(crate) f64);

/// The error is a sentence about the text.
impl FromStr for Speed {
    type Err = String;

    /// `100`, `0.5` or `100x`.
    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix('x').unwrap_or(text);
        match number.parse() {
            // Beyond these a year passes in less than a microsecond, or a second in a year.
            Ok(speed) if (1e-8..=1e14).contains(&speed) => Ok(Self(speed)),
            _ => Err(
                "a speed is a number above 0: 1 as recorded, 60 a minute in a second".to_owned(),
            ),
        }
    }
}

/// How fast recorded time is played.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Tempo {
    Speed(Speed),
    /// All that is left in this time.
    Fit(Duration),
}

/// A recorded time and how much is played before it, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Knot {
    recorded: i64,
    played: i64,
}

/// The recorded times that a replay goes through, from the first to the last, with longer silences cut. Its size does not
/// depend on their number.
#[derive(Debug, Clone)]
pub(crate) struct History {
    /// In microseconds; none: nothing is cut.
    max_gap: Option<i64>,
    /// The first time and the ends of the silences that are cut; between two neighbours time goes evenly.
    knots: Vec<Knot>,
    /// The last time; none if there are no times at all.
    last: Option<Knot>,
    /// Every how many knots one is remembered, and how many there were.
    stride: usize,
    met: usize,
}

impl History {
    /// One without times. `max_gap`: of recorded time; longer silences are cut to it.
    pub(crate) fn new(max_gap: Option<Duration>) -> Self {
        Self {
            max_gap: max_gap.map(|gap| i64::try_from(gap.as_micros()).unwrap_or(i64::MAX)),
            knots: Vec::new(),
            last: None,
            stride: 1,
            met: 0,
        }
    }

    /// Whether it has to see every time; else the first and the last will do.
    pub(crate) fn needs_all(&self) -> bool {
        self.max_gap.is_some()
    }

    /// Adds a time. One that lies before the last adds nothing.
    pub(crate) fn push(&mut self, time: WallTime) {
        let recorded = time.micros();
        let Some(last) = self.last else {
            let first = Knot {
                recorded,
                played: 0,
            };
            self.remember(first);
            self.last = Some(first);
            return;
        };
        let gap = recorded - last.recorded;
        if gap <= 0 {
            return;
        }
        let cut = self.max_gap.map_or(gap, |most| gap.min(most));
        let knot = Knot {
            recorded,
            played: last.played + cut,
        };
        if cut < gap {
            self.remember(last);
            self.remember(knot);
        }
        self.last = Some(knot);
    }

    fn remember(&mut self, knot: Knot) {
        // Where two silences follow one another the first ends as the second begins.
        if self.knots.last() == Some(&knot) {
            return;
        }
        if self.met.is_multiple_of(self.stride) {
            if self.knots.len() == MOST_KNOTS {
                let mut nth = 0;
                self.knots.retain(|_| {
                    nth += 1;
                    nth % 2 == 1
                });
                self.stride *= 2;
            }
            self.knots.push(knot);
        }
        self.met += 1;
    }

    /// From the first time to the last.
    pub(crate) fn recorded(&self) -> Duration {
        let first = self.knots.first().map_or(0, |first| first.recorded);
        micros(self.last.map_or(0, |last| last.recorded - first))
    }

    /// What of it is played, at the speed at which it was recorded.
    pub(crate) fn played(&self) -> Duration {
        micros(self.last.map_or(0, |last| last.played))
    }

    /// What is played before this time.
    fn played_before(&self, time: WallTime) -> Duration {
        let time = time.micros();
        let after = self.knots.partition_point(|knot| knot.recorded <= time);
        let Some(low) = after.checked_sub(1).and_then(|low| self.knots.get(low)) else {
            return Duration::ZERO;
        };
        let high = self.knots.get(after).copied().or(self.last);
        let since = time - low.recorded;
        let played = match high {
            Some(high) if time < high.recorded => {
                let (recorded, played) = (high.recorded - low.recorded, high.played - low.played);
                let played = i128::from(since) * i128::from(played) / i128::from(recorded);
                low.played + i64::try_from(played).unwrap_or_default()
            }
            // Later than all: a row that was added meanwhile.
            Some(last) => last.played + (time - last.recorded),
            None => low.played + since,
        };
        micros(played)
    }
}

fn micros(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or_default())
}

/// Posts as they were recorded.
#[derive(Debug)]
pub(crate) struct Replay {
    history: History,
    speed: Speed,
    /// The latest due time so far.
    due: Duration,
}

impl Replay {
    pub(crate) fn new(history: History, tempo: Tempo) -> Self {
        let speed = match tempo {
            Tempo::Speed(speed) => speed,
            Tempo::Fit(_) if history.played().is_zero() => Speed(1.0),
            Tempo::Fit(time) => Speed(history.played().as_secs_f64() / time.as_secs_f64()),
        };
        Self {
            history,
            speed,
            due: Duration::ZERO,
        }
    }

    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    pub(crate) fn speed(&self) -> Speed {
        self.speed
    }

    /// How long all of it takes.
    pub(crate) fn length(&self) -> Duration {
        self.faster(self.history.played())
    }

    /// A post without a recorded time is due with the last that has one. None is due before the one ahead of it.
    pub(super) fn next_due(&mut self, recorded: Option<WallTime>) -> Duration {
        let due = match recorded {
            Some(time) => self.faster(self.history.played_before(time)),
            None => self.length(),
        };
        self.due = self.due.max(due);
        self.due
    }

    fn faster(&self, played: Duration) -> Duration {
        Duration::try_from_secs_f64(played.as_secs_f64() / self.speed.0).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> WallTime {
        text.parse().unwrap()
    }

    /// The time so many seconds after a certain one.
    fn after(seconds: u64) -> WallTime {
        let at = std::time::UNIX_EPOCH + Duration::from_secs(1_512_086_400 + seconds);
        time(&humantime::format_rfc3339_seconds(at).to_string())
    }

    fn history(max_gap: Option<u64>, seconds: &[u64]) -> History {
        let mut history = History::new(max_gap.map(Duration::from_secs));
        for at in seconds {
            history.push(after(*at));
        }
        history
    }

    fn dues(replay: &mut Replay, seconds: &[u64]) -> Vec<f64> {
        let dues = seconds.iter();
        dues.map(|at| replay.next_due(Some(after(*at))).as_secs_f64())
            .collect()
    }

    #[test]
    fn posts_are_due_as_they_were_recorded_at_any_speed() {
        type Case<'a> = (Tempo, Option<u64>, &'a [u64], &'a [f64]);
        #[rustfmt::skip]
        let all: [Case; 8] = [
            (Tempo::Speed(Speed(1.0)), None, &[5, 5, 7, 105], &[0.0, 0.0, 2.0, 100.0]),
            (Tempo::Speed(Speed(10.0)), None, &[5, 7, 105], &[0.0, 0.2, 10.0]),
            (Tempo::Speed(Speed(0.5)), None, &[0, 1, 2], &[0.0, 2.0, 4.0]),
            (Tempo::Fit(Duration::from_secs(20)), None, &[0, 10, 40], &[0.0, 5.0, 20.0]),
            (Tempo::Speed(Speed(1.0)), Some(10), &[0, 3, 103, 113, 300, 301], &[0.0, 3.0, 13.0, 23.0, 33.0, 34.0]),
            (Tempo::Speed(Speed(2.0)), Some(10), &[0, 100, 200], &[0.0, 5.0, 10.0]),
            (Tempo::Fit(Duration::from_secs(68)), Some(10), &[0, 3, 103, 113, 300, 301], &[0.0, 6.0, 26.0, 46.0, 66.0, 68.0]),
            (Tempo::Fit(Duration::from_secs(9)), None, &[4, 4, 4], &[0.0, 0.0, 0.0]),
        ];
        for (tempo, max_gap, recorded, due) in all {
            let mut replay = Replay::new(history(max_gap, recorded), tempo);
            let length = replay.length().as_secs_f64();
            let got = dues(&mut replay, recorded);
            let same = got
                .iter()
                .zip(due)
                .all(|(got, due)| (got - due).abs() < 1e-6);
            assert!(
                same && got.len() == due.len(),
                "{tempo:?} {max_gap:?}: {got:?}"
            );
            assert!((length - due.last().unwrap()).abs() < 1e-6, "{length}");
        }
    }

    #[test]
    fn a_replay_does_not_drift_and_ends_when_it_should() {
        // Five years, some hundred thousand posts, in twenty seconds.
        let recorded: Vec<u64> = (0..300_000).map(|post| post * 523).collect();
        let ends = [recorded[0], *recorded.last().unwrap()];
        let tempo = Tempo::Fit(Duration::from_secs(20));
        let mut replay = Replay::new(history(None, &ends), tempo);
        let got = dues(&mut replay, &recorded);
        for (post, due) in got.iter().enumerate() {
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let expected = post as f64 * 20.0 / 299_999.0;
            assert!((due - expected).abs() < 1e-6, "{post}: {due} {expected}");
        }
    }

    #[test]
    fn the_first_and_the_last_time_give_the_same_as_all_of_them() {
        let recorded = [3, 4, 9, 9, 200, 1000];
        let whole = history(None, &recorded);
        let ends = history(None, &[3, 1000]);
        let mut one = Replay::new(whole, Tempo::Speed(Speed(7.0)));
        let mut other = Replay::new(ends, Tempo::Speed(Speed(7.0)));
        assert_eq!(dues(&mut one, &recorded), dues(&mut other, &recorded));
    }

    #[test]
    fn posts_without_a_time_and_those_out_of_order_are_never_due_before_the_ones_ahead_of_them() {
        let mut replay = Replay::new(history(None, &[10, 20, 60]), Tempo::Speed(Speed(10.0)));
        assert_eq!(dues(&mut replay, &[20, 10, 5, 60]), [1.0, 1.0, 1.0, 5.0]);
        assert_eq!(replay.next_due(None), Duration::from_secs(5));
        // Added after the history was looked at.
        assert_eq!(replay.next_due(Some(after(70))), Duration::from_secs(6));
        assert_eq!(replay.next_due(None), Duration::from_secs(6));

        let mut nothing = Replay::new(history(None, &[]), Tempo::Fit(Duration::from_secs(5)));
        assert_eq!(nothing.next_due(None), Duration::ZERO);
        assert_eq!(nothing.next_due(Some(after(0))), Duration::ZERO);
    }

    #[test]
    fn a_million_silences_take_no_more_memory_than_a_few_and_the_end_stays_where_it_is() {
        let silences = 1_000_000;
        let mut long = History::new(Some(Duration::from_secs(1)));
        for silence in 0..=silences {
            // Every other one twice as long.
            long.push(after(silence * 30 + silence % 2 * 10));
        }
        let knots = long.knots.len();
        assert!((MOST_KNOTS / 2..=MOST_KNOTS).contains(&knots), "{knots}");
        assert_eq!(long.played(), Duration::from_secs(silences));
        let mut before = Duration::ZERO;
        for silence in (0..=silences).step_by(997) {
            let played = long.played_before(after(silence * 30 + silence % 2 * 10));
            let off = played.as_secs_f64() - Duration::from_secs(silence).as_secs_f64();
            assert!(off.abs() < 20.0 && played >= before, "{silence}: {off}");
            before = played;
        }
    }

    #[test]
    fn a_speed_is_read_as_people_write_it() {
        for (text, speed) in [("1", 1.0), ("0.5", 0.5), ("100x", 100.0), ("1e6", 1e6)] {
            assert_eq!(text.parse::<Speed>().unwrap(), Speed(speed), "{text}");
        }
        for text in ["0", "-1", "", "x", "nan", "inf", "1e20", "fast", "2 x"] {
            assert!(text.parse::<Speed>().is_err(), "{text}");
        }
    }
}
