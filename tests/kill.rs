//! Runs that are killed at random instants and go on with `--resume`; `tests/kill` does the same more often and measures.

use std::{
    collections::HashMap,
    fs,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::support::{Receiver, Running, Sandbox, assert_balanced};

const KILLS: u32 = 5;
const POSTS: u32 = 6_000;
/// Records of a kind that one kill may make land again: twice the requests in flight, as in `tests/kill`.
const BOUND: usize = 2 * 4 * 50;
/// The kinds and their key columns.
const KINDS: [(&str, &str); 3] = [("pin", "index"), ("geo", "ind"), ("user", "ind")];

/// Settled, as the checkpoint tells it.
fn settled(sandbox: &Sandbox) -> u64 {
    let Ok(text) = fs::read(sandbox.path().join("kept/checkpoint.json")) else {
        return 0;
    };
    serde_json::from_slice::<Value>(&text).unwrap()["posts"]
        .as_u64()
        .unwrap()
}

/// One pass over the table, or what is left of it.
fn start(sandbox: &Sandbox, receiver: &Receiver, order: &str) -> Running {
    let url = receiver.url();
    let left = (u64::from(POSTS) - settled(sandbox)).to_string();
    #[rustfmt::skip]
    let line = [
        "batch", "--topic-prefix", "t", "--database-url", "sqlite:seed.db", "--state-dir", "kept", "--resume",
        "--rate", "max", "--batch-size", "50", "--in-flight", "4", "--format", "json", "--order", order,
        "--random-seed", "7", "-n", &left, "--invoke-url", &url,
    ];
    sandbox.start(line)
}

/// Kills runs with a signal and lets the last go on to the end: how often each record of a kind landed, for each kind.
fn killed_again_and_again(order: &str, signal: &str) -> [HashMap<i64, usize>; 3] {
    let sandbox = Sandbox::new();
    sandbox.seeded(POSTS);
    let mut receiver = Receiver::start(&["--fault", "latency=20ms"]);
    for _ in 0..KILLS {
        let mut run = start(&sandbox, &receiver, order);
        // Any instant will do, before the first post as well as between two.
        let until = Instant::now() + Duration::from_millis(rand::random_range(50..500));
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            std::thread::park_timeout(left);
        }
        assert!(run.is_running(), "{order}: it is done: {:?}", run.wait());
        run.signal(signal);
        let ended = run.wait();
        if signal == "TERM" && ended.status.code().is_some() {
            assert_eq!(ended.code(), 0, "{order}: {ended:?}");
            assert_balanced(&ended.summary());
            assert_eq!(ended.summary()["outcome"], "stopped", "{ended:?}");
        }
    }
    let ended = start(&sandbox, &receiver, order).wait();
    assert_eq!(ended.code(), 0, "{order}: {ended:?}");
    assert_eq!(settled(&sandbox), u64::from(POSTS));
    KINDS.map(|(kind, key)| {
        let mut times = HashMap::new();
        for line in receiver.landed(&format!("t.{kind}")) {
            let record: Value = serde_json::from_str(&line).unwrap();
            *times.entry(record[key].as_i64().unwrap()).or_default() += 1;
        }
        times
    })
}

#[test]
fn a_run_that_is_killed_again_and_again_loses_nothing_and_repeats_little() {
    for order in ["index", "random", "time"] {
        for times in killed_again_and_again(order, "KILL") {
            assert_eq!(times.len(), POSTS as usize, "{order}: some are missing");
            let repeats = times.values().sum::<usize>() - times.len();
            assert!(repeats <= KILLS as usize * BOUND, "{order}: {repeats}");
        }
    }
}

#[test]
fn a_run_that_is_told_to_end_again_and_again_loses_nothing_and_repeats_nothing() {
    for order in ["index", "random", "time"] {
        for times in killed_again_and_again(order, "TERM") {
            assert_eq!(times.len(), POSTS as usize, "{order}: some are missing");
            let repeated: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
            assert!(repeated.is_empty(), "{order}: {repeated:?}");
        }
    }
}
