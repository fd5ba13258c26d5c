//! What a run says at its end: the summary on standard output and among the runs of its state directory, and the command
//! that goes on.

use std::{path::Path, time::SystemTime};

use rand::Rng;
use tokio::task::spawn_blocking;

use crate::{
    delivery::Attempts,
    failure::{Exit, Failure, OrExit},
    pipeline::Ended,
    state::{runs, undelivered},
    summary::{Outcome, Posts, Summary, grouped, peak_rss_bytes, per_second},
    telemetry::{Format, print_result, say},
};

/// What is known of a run before it starts.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) command: &'static str,
    pub(super) target: String,
    pub(super) prefix: String,
    pub(super) asked_posts_per_s: Option<f64>,
    pub(super) random_seed: Option<u64>,
    pub(super) started_at: SystemTime,
    /// The command that sends again what waits; without secrets.
    pub(super) resend: String,
}

/// How and where a summary is given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form<'a> {
    pub(super) format: Format,
    pub(super) quiet: bool,
    pub(super) state_dir: &'a Path,
}

/// The exit status of a run that ended without a failure.
pub(super) fn exit(ended: &Ended) -> Exit {
    if ended.books.undelivered() > 0 {
        Exit::SetAside
    } else {
        Exit::Success
    }
}

/// Prints the summary and keeps it, and the digest if there is one. `incomplete`: keys without all three rows. A failure
/// tells of what ended the run as well.
pub(super) async fn give(
    facts: &Facts,
    ended: &Ended,
    attempts: &Attempts,
    incomplete: u64,
    form: Form<'_>,
) -> Result<(), Failure> {
    if let Some(digest) = &ended.digest {
        let posts = grouped(digest.posts());
        say(&format!("digest of {posts} posts: {digest}"));
    }
    let summary = summary(facts, ended, attempts, incomplete);
    // A struct of numbers and strings always has a JSON form.
    let json = serde_json::to_string(&summary).unwrap_or_default();
    let dir = form.state_dir.to_owned();
    let line = json.clone();
    let (kept, waiting) =
        spawn_blocking(move || (runs::append(&dir, &line), undelivered::count(&dir)))
            .await
            .or_exit(
                Exit::Bug,
                || "writing the summary ended by itself; please report this",
            )?;
    let waiting = waiting.unwrap_or_default();
    let text = match form.format {
        Format::Json => format!("{json}\n"),
        Format::Text if form.quiet => String::new(),
        Format::Text => format!("{summary}{}", still_waiting(waiting)),
    };
    let place = runs::path(form.state_dir);
    let what = match &kept {
        Ok(()) => format!(
            "the summary (kept as run {} in {})",
            summary.run,
            place.display()
        ),
        Err(_) => "the summary".to_owned(),
    };
    let printed = print_result(&what, &text);
    if waiting > 0 && !form.quiet {
        say(&format!("To send again what waits: {}", facts.resend));
    }
    let failed = [kept, printed].into_iter().filter_map(Result::err);
    let failed = failed.fold(None, |before, failure| {
        Some(failure.after(before.as_ref().or(ended.failure.as_ref())))
    });
    failed.map_or(Ok(()), Err)
}

/// A line of the summary.
fn still_waiting(records: u64) -> String {
    match records {
        0 => String::new(),
        1 => "waiting   1 record to be sent again\n".to_owned(),
        records => format!("waiting   {} records to be sent again\n", grouped(records)),
    }
}

fn summary(facts: &Facts, ended: &Ended, attempts: &Attempts, incomplete: u64) -> Summary {
    Summary {
        command: facts.command,
        target: facts.target.clone(),
        prefix: facts.prefix.clone(),
        outcome: match (&ended.failure, ended.stopped) {
            (Some(_), _) => Outcome::Failed,
            (None, true) => Outcome::Stopped,
            (None, false) => Outcome::Completed,
        },
        error: ended.failure.as_ref().map(ToString::to_string),
        posts: Posts {
            counts: ended.books.posts,
            returned: ended.returned,
            incomplete,
        },
        records: ended.books.records.into(),
        requests: attempts.requests,
        retries: attempts.retries,
        throttled: attempts.throttled,
        bytes_sent: attempts.bytes_sent,
        latency_ms: (&attempts.latency).into(),
        lateness_ms: ended.lateness.as_ref().map(Into::into),
        elapsed_s: (ended.elapsed.as_secs_f64() * 1000.0).round() / 1000.0,
        posts_per_s: per_second(ended.books.posts.delivered, ended.elapsed),
        asked_posts_per_s: facts.asked_posts_per_s,
        peak_rss_bytes: peak_rss_bytes(),
        random_seed: facts.random_seed,
        started_at: humantime::format_rfc3339_seconds(facts.started_at).to_string(),
        version: env!("CARGO_PKG_VERSION"),
        run: format!("{:016x}", rand::rng().next_u64()),
    }
}
