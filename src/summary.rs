//! What a run did, in numbers: folded while it goes, then rendered as text and as JSON from one value.

use std::{fmt, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{
    post::{Kind, PerKind, Post},
    sink::{Failed, Fate},
};

/// A histogram of microseconds up to an hour, three digits exact. Its size does not depend on how much it has seen.
pub(crate) fn histogram() -> Histogram<u64> {
    const HOUR: u64 = 3_600_000_000;
    #[expect(
        clippy::expect_used,
        reason = "the bounds are constants that the library takes"
    )]
    Histogram::new_with_bounds(1, HOUR, 3).expect("valid bounds")
}

/// How many were settled, and how. `read` is the sum of the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    pub(crate) read: u64,
    pub(crate) delivered: u64,
    pub(crate) rejected: u64,
    pub(crate) unproven: u64,
}

/// Every post and record whose fate is settled.
#[derive(Debug, Clone, Default)]
pub(crate) struct Books {
    pub(crate) posts: Counts,
    pub(crate) records: PerKind<Counts>,
}

impl Books {
    /// Enters settled posts, with their records that were not delivered.
    pub(crate) fn enter(&mut self, posts: &[Post], failed: &[Failed]) {
        let is_rejected = |failed: &&Failed| matches!(failed.fate, Fate::Rejected(_));
        for kind in Kind::ALL {
            let read = posts
                .iter()
                .filter(|post| post.records[kind].is_some())
                .count();
            let failed = || failed.iter().filter(|failed| failed.kind == kind);
            let rejected = failed().filter(is_rejected).count();
            self.records[kind].add(read, rejected, failed().count() - rejected);
        }
        // A post is what the worst of its records is.
        let mut worst: Vec<(usize, bool)> = failed
            .iter()
            .map(|failed| (failed.post, !is_rejected(&failed)))
            .collect();
        worst.sort_unstable();
        worst.dedup_by_key(|(post, _)| *post);
        let unproven = worst.iter().filter(|(_, unproven)| *unproven).count();
        self.posts
            .add(posts.len(), worst.len() - unproven, unproven);
    }
}

impl Books {
    /// Posts that were set aside.
    pub(crate) fn undelivered(&self) -> u64 {
        self.posts.rejected + self.posts.unproven
    }
}

impl Counts {
    fn add(&mut self, read: usize, rejected: usize, unproven: usize) {
        self.read += read as u64;
        self.rejected += rejected as u64;
        self.unproven += unproven as u64;
        self.delivered += (read - rejected - unproven) as u64;
    }
}

/// The word for how a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// The posts, `-n` or `-d` ended it.
    Completed,
    /// A signal ended it.
    Stopped,
    /// An error ended it.
    Failed,
}

/// The summary of a run; its JSON keys are a contract.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) command: &'static str,
    pub(crate) target: String,
    pub(crate) prefix: String,
    pub(crate) outcome: Outcome,
    pub(crate) error: Option<String>,
    pub(crate) posts: Posts,
    pub(crate) records: Records,
    pub(crate) requests: u64,
    pub(crate) retries: u64,
    pub(crate) throttled: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) latency_ms: Quantiles,
    pub(crate) lateness_ms: Option<Quantiles>,
    pub(crate) elapsed_s: f64,
    pub(crate) posts_per_s: f64,
    pub(crate) asked_posts_per_s: Option<f64>,
    pub(crate) peak_rss_bytes: Option<u64>,
    pub(crate) random_seed: Option<u64>,
    pub(crate) started_at: String,
    pub(crate) version: &'static str,
    pub(crate) run: String,
}

/// Posts: the books, and what is not in them.
#[derive(Debug, Serialize)]
pub(crate) struct Posts {
    #[serde(flatten)]
    pub(crate) counts: Counts,
    pub(crate) returned: u64,
    pub(crate) incomplete: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Records {
    pub(crate) pin: Counts,
    pub(crate) geo: Counts,
    pub(crate) user: Counts,
}

impl From<PerKind<Counts>> for Records {
    fn from(counts: PerKind<Counts>) -> Self {
        let [pin, geo, user] = counts.into_array();
        Self { pin, geo, user }
    }
}

/// Milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Quantiles {
    p50: f64,
    p90: f64,
    p95: f64,
    p99: f64,
    p99_9: f64,
    max: f64,
}

impl From<&Histogram<u64>> for Quantiles {
    fn from(microseconds: &Histogram<u64>) -> Self {
        #[expect(
            clippy::cast_precision_loss,
            reason = "an hour of microseconds is exact"
        )]
        let ms = |value: u64| value as f64 / 1000.0;
        let at = |quantile| ms(microseconds.value_at_quantile(quantile));
        Self {
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p99_9: at(0.999),
            max: ms(microseconds.max()),
        }
    }
}

/// Posts per second, to three decimals.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 posts")]
pub(crate) fn per_second(posts: u64, elapsed: Duration) -> f64 {
    let seconds = elapsed.as_secs_f64();
    if seconds > 0.0 {
        (posts as f64 / seconds * 1000.0).round() / 1000.0
    } else {
        0.0
    }
}

/// The most memory this process ever held, where the system tells it.
pub(crate) fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// For people, in at most 80 columns.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match self.outcome {
            Outcome::Completed => "completed",
            Outcome::Stopped => "stopped",
            Outcome::Failed => "failed",
        };
        let elapsed = seconds(self.elapsed_s);
        writeln!(f, "{} {outcome} after {elapsed}", self.command)?;
        writeln!(f, "{:10}{}", "target", self.target)?;
        writeln!(f, "{:10}{}", "prefix", self.prefix)?;
        writeln!(
            f,
            "{:10}{:>12}{:>12}{:>12}{:>12}",
            "", "read", "delivered", "rejected", "unproven"
        )?;
        let records = &self.records;
        let rows = [
            ("posts", &self.posts.counts),
            ("  pin", &records.pin),
            ("  geo", &records.geo),
            ("  user", &records.user),
        ];
        for (name, counts) in rows {
            let [read, delivered, rejected, unproven] = [
                counts.read,
                counts.delivered,
                counts.rejected,
                counts.unproven,
            ]
            .map(grouped);
            writeln!(
                f,
                "{name:10}{read:>12}{delivered:>12}{rejected:>12}{unproven:>12}"
            )?;
        }
        if self.posts.returned > 0 {
            writeln!(
                f,
                "{:10}{} on their way when the run ended; they may have landed",
                "returned",
                grouped(self.posts.returned)
            )?;
        }
        if self.posts.incomplete > 0 {
            let keys = if self.posts.incomplete == 1 {
                "key"
            } else {
                "keys"
            };
            writeln!(
                f,
                "incomplete {} {keys} without all three rows, not posted",
                grouped(self.posts.incomplete)
            )?;
        }
        let asked = self
            .asked_posts_per_s
            .map(|rate| format!(" (asked for {rate})"))
            .unwrap_or_default();
        writeln!(f, "{:10}{} posts/s{asked}", "rate", self.posts_per_s)?;
        writeln!(
            f,
            "{:10}{}, {} retries, {} throttled, {} sent",
            "requests",
            grouped(self.requests),
            grouped(self.retries),
            grouped(self.throttled),
            bytes(self.bytes_sent)
        )?;
        writeln!(f, "{:10}{}", "latency", self.latency_ms)?;
        if let Some(lateness) = self.lateness_ms {
            writeln!(f, "{:10}{lateness}", "lateness")?;
        }
        if let Some(memory) = self.peak_rss_bytes {
            writeln!(f, "{:10}{} at its peak", "memory", bytes(memory))?;
        }
        if let Some(seed) = self.random_seed {
            writeln!(f, "{:10}{seed} (--random-seed)", "seed")?;
        }
        Ok(())
    }
}

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p90, p99, max] =
            [self.p50, self.p90, self.p99, self.max].map(|ms| seconds(ms / 1000.0));
        write!(f, "p50 {p50}  p90 {p90}  p99 {p99}  max {max}")
    }
}

/// `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}

fn bytes(number: u64) -> String {
    indicatif::BinaryBytes(number).to_string()
}

fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 0.001 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s if s < 600.0 => format!("{s:.2} s"),
        s => humantime::format_duration(Duration::from_secs_f64(s.round())).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        post::{Cursor, Key},
        sink::Reason,
    };

    fn post(key: i128) -> Post {
        let key = Key(key);
        let records = PerKind::new(|_| Some(Bytes::from_static(b"{}")));
        Post {
            key,
            records,
            cursor: Cursor::Index { after: key },
        }
    }

    #[test]
    fn a_post_is_rejected_if_any_record_is_else_unproven_if_any_is() {
        let reason = Reason {
            status: None,
            text: "no".into(),
        };
        let rejected = |post, kind| Failed {
            post,
            kind,
            fate: Fate::Rejected(reason.clone()),
            attempts: 1,
        };
        let unproven = |post, kind| Failed {
            post,
            kind,
            fate: Fate::Unproven(reason.clone()),
            attempts: 9,
        };
        let failed = [
            unproven(0, Kind::Pin),
            rejected(0, Kind::User),
            unproven(2, Kind::Geo),
            unproven(2, Kind::Pin),
            rejected(4, Kind::Geo),
        ];
        let mut books = Books::default();
        books.enter(&[0, 1, 2, 3, 4].map(post), &failed);
        assert_eq!(
            books.posts,
            Counts {
                read: 5,
                delivered: 2,
                rejected: 2,
                unproven: 1
            }
        );
        assert_eq!(
            books.records[Kind::Pin],
            Counts {
                read: 5,
                delivered: 3,
                rejected: 0,
                unproven: 2
            }
        );
        assert_eq!(
            books.records[Kind::Geo],
            Counts {
                read: 5,
                delivered: 3,
                rejected: 1,
                unproven: 1
            }
        );
        assert_eq!(
            books.records[Kind::User],
            Counts {
                read: 5,
                delivered: 4,
                rejected: 1,
                unproven: 0
            }
        );
    }

    fn summary() -> Summary {
        let mut latency = histogram();
        latency.saturating_record(1_500);
        let counts = Counts {
            read: 123_456_789,
            delivered: 123_456_789,
            rejected: 0,
            unproven: 0,
        };
        Summary {
            command: "stream",
            target: "https://0123456789.execute-api.ap-southeast-2.amazonaws.com/Pinterest"
                .to_owned(),
            prefix: "streaming-0abf7f0cd605".to_owned(),
            outcome: Outcome::Completed,
            error: None,
            posts: Posts {
                counts,
                returned: 1_000_000,
                incomplete: 3,
            },
            records: PerKind::new(|_| counts).into(),
            requests: 370_370_367,
            retries: 12_345_678,
            throttled: 12_345_678,
            bytes_sent: 120_000_000_000,
            latency_ms: (&latency).into(),
            lateness_ms: Some((&latency).into()),
            elapsed_s: 61_728.394,
            posts_per_s: 2000.001,
            asked_posts_per_s: Some(2000.0),
            peak_rss_bytes: Some(30 << 20),
            random_seed: Some(u64::MAX),
            started_at: "2026-01-01T00:00:00Z".to_owned(),
            version: "0.1.0",
            run: "0123456789abcdef".to_owned(),
        }
    }

    #[test]
    fn the_text_fits_eighty_columns() {
        for line in summary().to_string().lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }

    #[test]
    fn incomplete_keys_are_counted_in_words() {
        for (incomplete, words) in [
            (1, "incomplete 1 key without"),
            (3, "incomplete 3 keys without"),
        ] {
            let mut summary = summary();
            summary.posts.incomplete = incomplete;
            assert!(summary.to_string().contains(words), "{summary}");
        }
    }

    #[test]
    fn the_json_has_the_promised_keys() {
        let json = serde_json::to_value(summary()).unwrap();
        assert_eq!(json["posts"]["read"], 123_456_789);
        assert_eq!(json["posts"]["returned"], 1_000_000);
        assert_eq!(json["records"]["user"]["delivered"], 123_456_789);
        assert_eq!(json["outcome"], "completed");
        assert!((json["latency_ms"]["p99_9"].as_f64().unwrap() - 1.5).abs() < 0.01);
        assert!(json["error"].is_null());
    }
}
