//! `--create`: makes the streams that are missing, through the gateway, and waits until they take records.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    network::shown,
    rows::{Outcome, Row},
    target::{Place, Target, count},
};
use crate::{
    failure::Exit,
    post::Kind,
    sink::{Described, Verdict},
    telemetry::say,
};

/// Kinesis takes about half a minute.
const PATIENCE: Duration = Duration::from_mins(3);
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Makes the stream for `kind` if it is missing, then waits until it is ready. The row that takes the place of the one
/// that said it is not.
pub(super) async fn stream(
    target: &Target<'_>,
    kind: Kind,
    place: &Place,
    shards: u64,
    quiet: bool,
) -> Option<(Row, Place)> {
    let name = target.place_name(kind);
    let stream = target.sink.target(kind);
    let mut done = "is ready";
    match place {
        Place::Missing => {
            if let Err(row) = ask(target, kind, shards).await {
                return Some((row, Place::Missing));
            }
            done = "was made";
        }
        Place::NotReady => {}
        Place::Here(_) | Place::Unknown => return None,
    }
    if !quiet {
        say(&format!(
            "Waiting for the stream {stream} to become ACTIVE …"
        ));
    }
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Some(described) = ready(target, kind).await {
            let what = format!(
                "{stream} {done}: ACTIVE after {}, {}",
                shown(Duration::from_millis(
                    begun.elapsed().as_millis().try_into().unwrap_or(u64::MAX)
                )),
                count(described.parts, "shard")
            );
            return Some((Row::ok(name, what), Place::Here(described)));
        }
        sleep(LOOK_AGAIN).await;
    }
    let what = format!("{stream} is not ACTIVE after {}", shown(PATIENCE));
    let cure = "look at it in the console, and check again";
    Some((
        Row::failed(name, Exit::Configuration, what, cure),
        Place::NotReady,
    ))
}

/// A row if it cannot be made.
async fn ask(target: &Target<'_>, kind: Kind, shards: u64) -> Result<(), Row> {
    let name = target.place_name(kind);
    let stream = target.sink.target(kind);
    let Some(request) = target.sink.creation(kind, shards) else {
        return Err(Row::untried(name, "the target cannot be asked for it"));
    };
    let answer = match target.http.send(&request).await {
        Ok(answer) => answer,
        Err(no_answer) => {
            let what = format!("{stream} could not be made: {no_answer}");
            return Err(Row::failed(
                name,
                Exit::Unreachable,
                what,
                "check again: it may be in the making",
            ));
        }
    };
    if target.sink.is_made(&answer) {
        return Ok(());
    }
    let (exit, reason) = match target.sink.verdicts(1, &answer).pop() {
        Some(Verdict::Stop(exit, reason)) => (exit, reason),
        Some(
            Verdict::Retry(reason)
            | Verdict::Throttled(reason)
            | Verdict::Halve(reason)
            | Verdict::Reject(reason),
        ) => (Exit::Configuration, reason),
        Some(Verdict::Acknowledged) | None => return Ok(()),
    };
    let sentence = format!("{stream} could not be made: {reason}");
    let mut row = Row::of_sentence(name, Outcome::Failed(exit), &sentence);
    row.cure = Some(format!(
        "the API needs POST /streams/{{stream-name}}, mapped to CreateStream, and a role that may; or make it in the console, or with: aws kinesis create-stream --stream-name {stream} --shard-count {shards}"
    ));
    Err(row)
}

async fn ready(target: &Target<'_>, kind: Kind) -> Option<Described> {
    let answer = target.http.send(&target.sink.existence(kind)).await.ok()?;
    let described = target.sink.described(&answer)?;
    (described.status.as_deref() == Some("ACTIVE")).then_some(described)
}
