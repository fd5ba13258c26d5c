//! State that cannot be written: nowhere, or not any more.

use std::{collections::BTreeSet, fs, process::Command};

use serde_json::{Value, json};

use crate::{
    fake::{Asked, Target},
    support::{Ended, Running, Sandbox, assert_balanced, finish, until},
};

const POSTS: u32 = 60;

fn line(url: &str) -> Vec<&str> {
    #[rustfmt::skip]
    let line = [
        "batch", "--topic-prefix", "t", "--database-url", "sqlite:seed.db", "--invoke-url", url, "--state-dir", "kept",
        "--order", "index", "--batch-size", "1", "--in-flight", "1", "--format", "json",
    ];
    line.to_vec()
}

/// The program with files that can grow to so many bytes at the most, as on a disk that is full then. Its output goes
/// through pipes, which have no such limit.
fn with_little_room(sandbox: &Sandbox, bytes: u32, args: &[&str]) -> Command {
    let program = sandbox.command(args);
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "trap '' XFSZ; exec prlimit --fsize=\"$0\" \"$@\""])
        .arg(bytes.to_string())
        .arg(program.get_program())
        .args(program.get_args())
        .env_clear()
        .envs(
            program
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .current_dir(sandbox.path())
        .stdin(std::process::Stdio::null());
    limited
}

/// The keys of the pins that a target proved, and how many times it took any.
fn pins(target: &Target) -> (BTreeSet<i64>, usize) {
    let sent = target.sent_to("t.pin");
    let keys: Vec<_> = sent
        .iter()
        .flat_map(Asked::records)
        .map(|record| record["value"]["index"].as_i64().unwrap())
        .collect();
    let times = keys.len();
    (keys.into_iter().collect(), times)
}

#[track_caller]
fn assert_cannot_write(ended: &Ended, what: &str) -> Value {
    assert_eq!(ended.code(), 74, "{ended:?}");
    assert!(ended.stderr.contains(what), "{ended:?}");
    let summary = ended.summary();
    assert_balanced(&summary);
    assert_eq!(summary["outcome"], "failed", "{summary}");
    summary
}

#[test]
fn a_state_directory_that_cannot_be_made_is_named() {
    let (sandbox, target) = (Sandbox::new(), Target::healthy());
    sandbox.seeded(3);
    fs::write(sandbox.path().join("file"), "").unwrap();
    let url = target.url();
    let mut line = line(&url);
    let state_dir = line.iter().position(|word| *word == "kept").unwrap();
    line[state_dir] = "file/state";
    let ended = sandbox.run(line);
    assert_eq!(ended.code(), 74, "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    assert!(ended.stderr.contains("file/state"), "{ended:?}");
    assert!(ended.stderr.contains("--state-dir"), "{ended:?}");
    assert!(target.asked().is_empty());
}

#[test]
fn a_disk_that_fills_up_in_the_middle_of_a_run_ends_it_and_the_next_goes_on() {
    let (sandbox, target) = (Sandbox::new(), Target::healthy());
    sandbox.seeded(POSTS);
    let url = target.url();
    let paced: Vec<_> = line(&url)
        .into_iter()
        .chain(["--rate", "50/s", "--arrivals", "constant"])
        .collect();
    let run = Running::start(&mut with_little_room(&sandbox, 1 << 20, &paced));
    until("some posts", || {
        (target.sent_to("t.user").len() >= 5).then_some(())
    });
    let full = Command::new("prlimit")
        .args(["--fsize=20", "--pid", &run.pid().to_string()])
        .status()
        .unwrap();
    assert!(full.success());
    let ended = run.wait();
    let summary = assert_cannot_write(&ended, "kept/checkpoint.json");
    let read = summary["posts"]["read"].as_u64().unwrap();
    assert!((4..u64::from(POSTS)).contains(&read), "{summary}");
    let resumed = sandbox.run(paced.iter().chain(&["--resume"]));
    assert_eq!(resumed.code(), 0, "{resumed:?}");
    let (keys, times) = pins(&target);
    assert_eq!(keys.len(), POSTS as usize);
    // One by one and paced: at most what was settled when the writing failed, and the one after it.
    assert!(times - keys.len() <= 2, "{times}");
}

#[test]
fn what_cannot_be_set_aside_for_want_of_room_is_read_again() {
    let sandbox = Sandbox::new();
    sandbox.seeded(POSTS);
    // Every pin is rejected.
    let target = Target::start(|asked| {
        asked.or_there(|asked| {
            if asked.path.ends_with("t.pin") {
                asked.proven(|_| Some(json!({"partition": null, "offset": null, "error_code": 50002, "error": "The message is too large"})))
            } else {
                asked.all_proven()
            }
        })
    });
    let url = target.url();
    let fast: Vec<_> = line(&url).into_iter().chain(["--rate", "max"]).collect();
    let ended = finish(&mut with_little_room(&sandbox, 16 * 1024, &fast));
    let summary = assert_cannot_write(&ended, "kept/undelivered.jsonl");
    let read = summary["posts"]["read"].as_u64().unwrap();
    assert!((1..u64::from(POSTS)).contains(&read), "{summary}");
    assert_eq!(summary["posts"]["rejected"], read, "{summary}");
    let set_aside = || {
        let text = fs::read_to_string(sandbox.path().join("kept/undelivered.jsonl")).unwrap();
        let records = text.lines().map(|line| {
            let record: Value = serde_json::from_str(line).unwrap();
            record["index"].as_i64().unwrap()
        });
        records.collect::<Vec<_>>()
    };
    assert_eq!(set_aside().len() as u64, read, "{summary}");
    // With room again it goes on where the books ended.
    let resumed = sandbox.run(fast.iter().chain(&["--resume"]));
    assert_eq!(resumed.code(), 1, "{resumed:?}");
    let keys = set_aside();
    assert_eq!(keys.len(), POSTS as usize);
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
}

#[test]
fn a_disk_that_is_full_before_the_first_checkpoint_ends_the_run_and_the_next_starts_at_the_beginning()
 {
    let sandbox = Sandbox::new();
    sandbox.seeded(POSTS);
    let target = Target::healthy();
    let url = target.url();
    let paced: Vec<_> = line(&url)
        .into_iter()
        .chain(["--rate", "50/s", "--arrivals", "constant"])
        .collect();
    // Room for the signature in the lock, and none for a checkpoint.
    let ended = finish(&mut with_little_room(&sandbox, 120, &paced));
    assert_cannot_write(&ended, "kept/checkpoint.json");
    assert!(!sandbox.path().join("kept/checkpoint.json").exists());
    let resumed = sandbox.run(paced.iter().chain(&["--resume"]));
    assert_eq!(resumed.code(), 0, "{resumed:?}");
    assert_eq!(resumed.summary()["posts"]["delivered"], POSTS);
}
