//! The options of a replay in recorded time: which of them count, and what they come to in words.

use std::time::Duration;

use crate::{
    cli::{OrderArg, PostArgs},
    config::Origin,
    failure::{Exit, Failure},
    pace::{Rate, Replay, Tempo},
    post::Bound,
    summary::grouped,
};

const DAY: f64 = 86_400.0;
const YEAR: f64 = 365.25 * DAY;

/// How recorded time is to be replayed, if it is. A flag that would do nothing for the pace is refused, as is a range of
/// the wrong kind.
pub(super) fn tempo(args: &PostArgs, origin: &Origin) -> Result<Option<Tempo>, Failure> {
    let by_time = args.order == OrderArg::Time;
    for (flag, bound) in [("from", args.from), ("to", args.to)] {
        match bound {
            Some(Bound::Key(key)) if by_time => {
                return usage(format!(
                    "--{flag} {key} is a key, and --order time takes times, such as 2020-01-31 or 2020-01-31T12:00"
                ));
            }
            Some(Bound::Time(time)) if !by_time => {
                return usage(format!(
                    "--{flag} {time} is a time, and only --order time takes one; add it, or give a key"
                ));
            }
            _ => {}
        }
    }
    let flag = |flags: [&'static str; 3]| flags.into_iter().find(|flag| origin.is_flag(flag));
    if let Some(flag) = flag(["speed", "fit", "max-gap"]).filter(|_| !by_time) {
        return usage(format!("--{flag} does nothing without --order time"));
    }
    // As everywhere, a flag wins over a variable and that over the file.
    let (speed, fit) = (origin.rank("speed"), origin.rank("fit"));
    let tempo = match (args.speed, args.fit) {
        _ if !by_time => None,
        (Some(_), Some(_)) if speed == fit => {
            return usage("--speed and --fit exclude one another; give one of them".to_owned());
        }
        (Some(asked), _) if speed > fit => Some((Tempo::Speed(asked), "speed")),
        (_, Some(asked)) => Some((Tempo::Fit(asked), "fit")),
        (Some(asked), None) => Some((Tempo::Speed(asked), "speed")),
        (None, None) => None,
    };
    match tempo {
        None if by_time && origin.is_flag("max-gap") => {
            usage("--max-gap does nothing without --speed or --fit".to_owned())
        }
        None if args.rate == Rate::Max && origin.is_flag("arrivals") => {
            usage("--arrivals does nothing with --rate max, which makes no pauses".to_owned())
        }
        None => Ok(None),
        Some((tempo, word)) => match ["rate", "arrivals"]
            .into_iter()
            .find(|flag| origin.is_flag(flag))
        {
            Some(flag) => usage(format!(
                "--{flag} does nothing with --{word}, which replays the pauses as they were recorded"
            )),
            None => Ok(Some(tempo)),
        },
    }
}

fn usage<T>(what: String) -> Result<T, Failure> {
    Err(Failure::new(Exit::Usage, what))
}

/// For the announcement: `, replaying 4.1 years in 10m, 215,000x`.
pub(super) fn described(replay: &Replay, max_gap: Option<Duration>) -> String {
    let history = replay.history();
    let cut = match max_gap {
        Some(gap) if history.played() < history.recorded() => format!(
            " ({} with silences cut to {})",
            about(history.played()),
            about(gap)
        ),
        _ => String::new(),
    };
    format!(
        ", replaying {}{cut} in {}, {}x",
        about(history.recorded()),
        about(replay.length()),
        three_digits(replay.speed().0)
    )
}

/// As exact as people want it.
fn about(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds >= YEAR {
        return format!("{:.1} years", seconds / YEAR);
    }
    if seconds >= 2.0 * DAY {
        return format!("{:.1} days", seconds / DAY);
    }
    let rounded = if seconds < 10.0 {
        Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or_default())
    } else {
        Duration::from_secs_f64(seconds.round())
    };
    humantime::format_duration(rounded).to_string()
}

fn three_digits(number: f64) -> String {
    let digits = number.log10().floor();
    if number < 999.5 {
        let unit = 10_f64.powf(2.0 - digits);
        return ((number * unit).round() / unit).to_string();
    }
    let unit = 10_f64.powf(digits - 2.0);
    let rounded = (number / unit).round() * unit;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a speed is positive and small enough"
    )]
    let whole = rounded as u64;
    grouped(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_speeds_are_as_exact_as_people_want_them() {
        for (seconds, text) in [
            (0.0, "0s"),
            (0.25, "250ms"),
            (1.5, "1s 500ms"),
            (599.7, "10m"),
            (86_400.0, "1day"),
            (200_000.0, "2.3 days"),
            (129_384_000.0, "4.1 years"),
        ] {
            assert_eq!(about(Duration::from_secs_f64(seconds)), text);
        }
        for (speed, text) in [
            (1.0, "1"),
            (0.5, "0.5"),
            (0.012_345, "0.0123"),
            (99.96, "100"),
            (999.9, "1,000"),
            (215_376.9, "215,000"),
            (32_140_000.0, "32,100,000"),
            (1e14, "100,000,000,000,000"),
        ] {
            assert_eq!(three_digits(speed), text);
        }
    }
}
