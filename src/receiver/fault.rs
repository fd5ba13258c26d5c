//! What a receiver does wrong on purpose: what was asked for, and the dice. Pure: no socket, no clock of its own.

mod dice;
mod limit;

use std::{str::FromStr, sync::Mutex, time::Duration};

use hyper::StatusCode;

pub(super) use self::dice::{Dice, Passing};
use self::{dice::Arrivals, limit::Bucket};
use crate::{pace::Rate, units::duration};

const KNOWN: [&str; 10] = [
    "STATUS=5% (400 to 599)",
    "record-error=5%",
    "record-reject=1%",
    "hang=0.1%",
    "drop=0.1%",
    "truncate=1%",
    "empty=1%",
    "html=1%",
    "latency=20ms",
    "limit=200/s",
];

/// What happens to a request as a whole: one of these or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whole {
    /// It is refused with this status; nothing lands.
    Status(StatusCode),
    /// Somebody else answers it, with a page and a 200; nothing lands.
    Html,
    /// It is never answered; nothing lands.
    Hang,
    /// It lands and the connection is cut instead of an answer.
    Drop,
    /// It lands and the connection is cut in the middle of the answer.
    Truncate,
    /// It lands and the answer is a 200 without a body.
    Empty,
}

/// One `--fault`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    Whole(Whole, Share),
    RecordError(Share),
    RecordReject(Share),
    Latency(Duration),
    Limit(f64),
}

/// More than 0 and at most 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(crate) struct Share(f64);

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let percent = text
            .strip_suffix('%')
            .and_then(|number| number.parse::<f64>().ok());
        match percent {
            Some(percent) if percent > 0.0 && percent <= 100.0 => Ok(Self(percent / 100.0)),
            _ => Err(format!(
                "a share is a percentage above 0 and up to 100, such as 5% or 0.1%, not {text:?}"
            )),
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || format!("it is one of {}", KNOWN.join(", "));
        let (name, value) = text.split_once('=').ok_or_else(unknown)?;
        let whole = match name {
            "hang" => Whole::Hang,
            "drop" => Whole::Drop,
            "truncate" => Whole::Truncate,
            "empty" => Whole::Empty,
            "html" => Whole::Html,
            "record-error" => return value.parse().map(Self::RecordError),
            "record-reject" => return value.parse().map(Self::RecordReject),
            "latency" => return duration(value).map(Self::Latency),
            "limit" => return limit(value).map(Self::Limit),
            _ => {
                let status = name.parse().ok().filter(|code| (400..=599).contains(code));
                let status = status.and_then(|code| StatusCode::from_u16(code).ok());
                Whole::Status(status.ok_or_else(unknown)?)
            }
        };
        value.parse().map(|share| Self::Whole(whole, share))
    }
}

fn limit(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(Rate::PerSecond(rate)) => Ok(rate),
        _ => Err(format!(
            "a limit is a number of requests such as 200/s or 30/m, not {text:?}"
        )),
    }
}

/// All that goes wrong in a run of the receiver.
#[derive(Debug)]
pub(crate) struct Plan {
    arrivals: Arrivals,
    whole: Vec<(Whole, Share)>,
    record_error: Option<Share>,
    record_reject: Option<Share>,
    latency: Duration,
    limit: Option<Mutex<Bucket>>,
}

impl Plan {
    /// The same seed gives the same faults to the same requests in the same order.
    pub(crate) fn new(faults: &[Fault], seed: u64) -> Result<Self, String> {
        let mut plan = Self {
            arrivals: Arrivals::new(seed),
            whole: Vec::new(),
            record_error: None,
            record_reject: None,
            latency: Duration::ZERO,
            limit: None,
        };
        for (index, fault) in faults.iter().enumerate() {
            if faults[..index].iter().any(|other| fault.is_like(other)) {
                return Err("the same --fault is given twice".to_owned());
            }
            match *fault {
                Fault::Whole(whole, share) => plan.whole.push((whole, share)),
                Fault::RecordError(share) => plan.record_error = Some(share),
                Fault::RecordReject(share) => plan.record_reject = Some(share),
                Fault::Latency(latency) => plan.latency = latency,
                Fault::Limit(rate) => plan.limit = Some(Mutex::new(Bucket::new(rate))),
            }
        }
        let total: f64 = plan.whole.iter().map(|(_, Share(share))| share).sum();
        // The sum of ten times 10% is not quite 1.
        if total > 1.0 + 1e-9 {
            return Err(format!(
                "a request meets one of the faults that concern it as a whole, and their shares sum up to {}%, \
                 more than 100%",
                (total * 1e6).round() / 1e4
            ));
        }
        Ok(plan)
    }
}

impl Fault {
    /// Whether only the numbers differ.
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Whole(one, _), Self::Whole(other, _)) => one == other,
            (Self::RecordError(_), Self::RecordError(_))
            | (Self::RecordReject(_), Self::RecordReject(_))
            | (Self::Latency(_), Self::Latency(_))
            | (Self::Limit(_), Self::Limit(_)) => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_as_the_help_shows_them() {
        let status = |code| Whole::Status(StatusCode::from_u16(code).unwrap());
        for (text, fault) in [
            ("503=5%", Fault::Whole(status(503), Share(0.05))),
            ("599=100%", Fault::Whole(status(599), Share(1.0))),
            ("record-error=5%", Fault::RecordError(Share(0.05))),
            ("record-reject=1%", Fault::RecordReject(Share(0.01))),
            ("hang=0.1%", Fault::Whole(Whole::Hang, Share(0.001))),
            ("drop=0.1%", Fault::Whole(Whole::Drop, Share(0.001))),
            ("truncate=1%", Fault::Whole(Whole::Truncate, Share(0.01))),
            ("empty=1%", Fault::Whole(Whole::Empty, Share(0.01))),
            ("html=1%", Fault::Whole(Whole::Html, Share(0.01))),
            ("latency=20ms", Fault::Latency(Duration::from_millis(20))),
            ("limit=200/s", Fault::Limit(200.0)),
            ("limit=30/m", Fault::Limit(0.5)),
        ] {
            assert_eq!(text.parse(), Ok(fault), "{text}");
        }
    }

    #[test]
    fn what_is_no_fault_is_told_what_is() {
        for text in ["", "503", "200=5%", "600=5%", "slow=5%", "99999=1%"] {
            let error = text.parse::<Fault>().unwrap_err();
            assert!(
                KNOWN.iter().all(|known| error.contains(known)),
                "{text}: {error}"
            );
        }
        for text in [
            "hang=5",
            "hang=0%",
            "hang=101%",
            "hang=-1%",
            "503=NaN%",
            "drop=%",
        ] {
            let error = text.parse::<Fault>().unwrap_err();
            assert!(error.starts_with("a share is"), "{text}: {error}");
        }
        for text in [
            "latency=20",
            "latency=0ms",
            "limit=max",
            "limit=0/s",
            "limit=5%",
        ] {
            assert!(text.parse::<Fault>().is_err(), "{text}");
        }
    }

    fn plan(faults: &[&str]) -> Result<Plan, String> {
        let faults: Vec<_> = faults.iter().map(|fault| fault.parse().unwrap()).collect();
        Plan::new(&faults, 1)
    }

    #[test]
    fn shares_of_requests_cannot_exceed_all_of_them() {
        assert!(plan(&["503=10%"; 1]).is_ok());
        assert!(plan(&["503=60%", "hang=40%", "record-error=100%"]).is_ok());
        let error = plan(&["503=60%", "hang=40.5%"]).unwrap_err();
        assert!(error.contains("100.5"), "{error}");
        for (one, other) in [("503=1%", "503=2%"), ("latency=1ms", "latency=2ms")] {
            assert!(plan(&[one, other]).is_err(), "{one} {other}");
        }
        assert!(plan(&["503=1%", "500=1%"]).is_ok());
    }
}
