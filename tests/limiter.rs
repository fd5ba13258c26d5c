//! The limiter against a target that counts, over real sockets. What was refused while it learnt counts too. The best of
//! three: what else the machine does at the time is not the limiter's.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::{Receiver, Sandbox, assert_balanced};

/// What the target takes in a second.
const LIMIT: f64 = 200.0;
const SECONDS: u32 = 12;
/// Those in which the limit is found.
const FIRST: usize = 3;

#[test]
fn a_target_that_throttles_gets_about_what_it_takes_and_refuses_little() {
    let sandbox = Sandbox::new();
    let database = sandbox.seeded(300);
    let mut wrong = Vec::new();
    for _ in 0..3 {
        match run(&sandbox, database) {
            Ok(()) => return,
            Err(why) => wrong.push(why),
        }
    }
    panic!("{wrong:#?}");
}

/// What was wrong with a run, if anything was.
fn run(sandbox: &Sandbox, database: [&str; 2]) -> Result<(), String> {
    let mut receiver = Receiver::start(&["--fault", "limit=200/s"]);
    let url = receiver.url();
    let duration = format!("{SECONDS}s");
    #[rustfmt::skip]
    let line = [
        "stream", "--stream-prefix", "s", "--endpoint", "record", "--rate", "max", "--format", "json",
        "--invoke-url", &url, "-d", &duration,
    ];
    let ended = sandbox.run(line.iter().chain(&database));
    assert_eq!(ended.code(), 0, "{ended:?}");
    let summary = ended.summary();
    assert_balanced(&summary);

    // When the target took each record, by its own clock.
    let mut seconds = BTreeMap::<u64, f64>::new();
    let arrivals: Vec<f64> = ["s-pin", "s-geo", "s-user"]
        .iter()
        .flat_map(|stream| receiver.landed(stream))
        .map(|line| {
            let line: Value = serde_json::from_str(&line).unwrap();
            line["approximateArrivalTimestamp"].as_f64().unwrap()
        })
        .collect();
    let start = arrivals.iter().copied().fold(f64::INFINITY, f64::min);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a few seconds"
    )]
    for at in arrivals {
        *seconds.entry((at - start) as u64).or_default() += 1.0;
    }
    let accepted: Vec<f64> = seconds.into_values().take(SECONDS as usize).collect();
    let settled = &accepted[FIRST..];
    #[expect(clippy::cast_precision_loss, reason = "a few seconds")]
    let settled = settled.iter().sum::<f64>() / settled.len() as f64;
    let [throttled, requests] =
        ["throttled", "requests"].map(|name| summary[name].as_f64().unwrap());
    assert!(throttled > 0.0, "the limit was met: {summary}");
    if !(0.85 * LIMIT..=1.02 * LIMIT).contains(&settled) {
        return Err(format!("{settled}/s accepted: {accepted:?}"));
    }
    let elapsed = summary["elapsed_s"].as_f64().unwrap();
    // What waits for the target when the time is over does not go.
    if elapsed > f64::from(SECONDS) + 1.0 {
        return Err(format!("{elapsed} s: {summary}"));
    }
    if throttled >= 0.05 * requests {
        return Err(format!(
            "{throttled} of {requests} requests refused: {accepted:?}"
        ));
    }
    Ok(())
}
