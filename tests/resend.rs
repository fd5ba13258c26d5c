//! What is set aside and sent again: nothing of it is lost, whatever happens in between, and only it goes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use serde_json::{Value, json};

use crate::{
    fake::{Asked, Reply, Target},
    support::{Ended, Receiver, Running, Sandbox, assert_balanced, finish, until},
};

/// Posts of a run.
const POSTS: u64 = 12;

/// Refuses for good the user records that `is_refused` says, and proves the others.
fn refuses_users(
    reason: &'static str,
    is_refused: impl Fn(i64) -> bool + Send + Sync,
) -> impl Fn(&Asked) -> Reply {
    move |asked| {
        asked.or_there(|asked| {
            let records = asked.records();
            let refused =
                json!({"partition": null, "offset": null, "error_code": 50002, "error": reason});
            asked.proven(|i| {
                let of_user = asked.path == "/topics/t.user";
                (of_user && is_refused(key(&records[i]["value"]))).then(|| refused.clone())
            })
        })
    }
}

/// A target that refuses these user records.
fn refusing(reason: &'static str, keys: &'static [i64]) -> Target {
    Target::start(refuses_users(reason, |key| keys.contains(&key)))
}

/// One that refuses every user record.
fn without_users() -> Target {
    Target::start(refuses_users("The message is too large", |_| true))
}

/// The key of a row.
fn key(record: &Value) -> i64 {
    record["ind"]
        .as_i64()
        .or_else(|| record["index"].as_i64())
        .unwrap()
}

/// Posts the database of this directory.
fn post(sandbox: &Sandbox, line: &[&str], url: &str) -> Ended {
    let more = [
        "--database-url",
        "sqlite:seed.db",
        "--invoke-url",
        url,
        "--order",
        "index",
        "--rate",
        "max",
        "--format",
        "json",
    ];
    sandbox.run(line.iter().chain(&more))
}

/// A directory where a run has set aside what the target refused.
#[track_caller]
fn after_a_run(target: &Target) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.seeded(u32::try_from(POSTS).unwrap());
    let ended = post(&sandbox, &["batch", "--topic-prefix", "t"], &target.url());
    assert_eq!(ended.code(), 1, "{ended:?}");
    sandbox
}

const RESEND: [&str; 5] = ["resend", "batch", "--topic-prefix", "t", "--format=json"];

fn resend(sandbox: &Sandbox, more: &[&str]) -> Ended {
    sandbox.run(RESEND.iter().chain(more))
}

fn state(sandbox: &Sandbox, name: &str) -> PathBuf {
    sandbox.path().join("state/pinemu").join(name)
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The lines of `undelivered.jsonl` after runs to topics.
fn waiting(sandbox: &Sandbox) -> Vec<Value> {
    lines(&state(sandbox, "batch-t").join("undelivered.jsonl"))
}

fn indices(lines: &[Value]) -> Vec<i64> {
    let mut indices: Vec<_> = lines
        .iter()
        .map(|line| line["index"].as_i64().unwrap())
        .collect();
    indices.sort_unstable();
    indices
}

/// The keys of all records that were sent to a topic.
fn sent(target: &Target, topic: &str) -> Vec<i64> {
    let asked = target.sent_to(topic);
    let mut keys: Vec<_> = asked
        .iter()
        .flat_map(Asked::records)
        .map(|record| key(&record["value"]))
        .collect();
    keys.sort_unstable();
    keys
}

#[track_caller]
fn assert_posts(ended: &Ended, code: i32, counts: [(&str, u64); 2]) {
    assert_eq!(ended.code(), code, "{ended:?}");
    let posts = &ended.summary()["posts"];
    for (fate, count) in counts {
        assert_eq!(posts[fate], count, "{fate}: {ended:?}");
    }
}

#[test]
fn what_succeeds_is_forgotten_and_what_still_fails_stays_with_its_new_reason() {
    let first = refusing("The message is too large", &[2, 3, 4, 5]);
    let sandbox = after_a_run(&first);
    assert_eq!(indices(&waiting(&sandbox)), [2, 3, 4, 5]);

    let second = refusing("It is still too large", &[3, 4]);
    let ended = resend(&sandbox, &["--invoke-url", &second.url()]);
    assert_posts(&ended, 1, [("delivered", 2), ("rejected", 2)]);
    let left = waiting(&sandbox);
    assert_eq!(indices(&left), [3, 4]);
    for line in &left {
        assert_eq!(
            line["reason"], "error 50002: It is still too large",
            "{line}"
        );
        assert_eq!(line["target"], second.url(), "{line}");
        assert_eq!(line["outcome"], "rejected", "{line}");
        assert_eq!(line["record"]["ind"], line["index"], "{line}");
    }

    let healthy = Target::healthy();
    let to_healthy = ["--invoke-url", &healthy.url()];
    let ended = resend(&sandbox, &to_healthy);
    assert_posts(&ended, 0, [("delivered", 2), ("rejected", 0)]);
    assert_eq!(sent(&healthy, "t.user"), [3, 4]);
    assert!(waiting(&sandbox).is_empty());

    let ended = resend(&sandbox, &to_healthy);
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(ended.stdout, "");
    assert!(ended.stderr.contains("Nothing waits"), "{ended:?}");
    assert_eq!(sent(&healthy, "t.user"), [3, 4], "nothing goes twice");
}

#[test]
fn where_nothing_ever_waited_there_is_nothing_to_do() {
    let ended = resend(&Sandbox::new(), &[]);
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert!(ended.stderr.contains("Nothing waits"), "{ended:?}");
}

#[test]
fn a_post_that_one_topic_has_torn_becomes_whole() {
    let torn = without_users();
    let sandbox = after_a_run(&torn);
    let left = waiting(&sandbox);
    let all: Vec<i64> = (0..i64::try_from(POSTS).unwrap()).collect();
    assert_eq!(indices(&left), all);
    assert!(left.iter().all(|line| line["kind"] == "user"), "{left:?}");
    let healthy = Target::healthy();
    let ended = resend(&sandbox, &["--invoke-url", &healthy.url()]);
    assert_posts(&ended, 0, [("read", POSTS), ("delivered", POSTS)]);
    assert_eq!(ended.summary()["records"]["user"]["delivered"], POSTS);
    assert_eq!(sent(&healthy, "t.user"), all);
    for topic in ["t.pin", "t.geo"] {
        assert_eq!(sent(&torn, topic), all);
        assert!(
            sent(&healthy, topic).is_empty(),
            "only what failed goes again"
        );
    }
}

#[test]
fn records_go_again_with_the_keys_they_had() {
    let cases: [&[&str]; 8] = [
        &["batch", "--topic-prefix", "t"],
        &["batch", "--topic-prefix", "t", "--record-key", "index"],
        &["stream", "--stream-prefix", "t"],
        &["stream", "--stream-prefix", "t", "--partition-key", "kind"],
        &[
            "stream",
            "--stream-prefix",
            "t",
            "--partition-key",
            "text:Zürich",
        ],
        // One that looks like another choice for some of the records.
        &[
            "stream",
            "--stream-prefix",
            "t",
            "--partition-key",
            "text:pin",
        ],
        &[
            "stream",
            "--stream-prefix",
            "t",
            "--partition-key",
            "text:5",
            "--endpoint",
            "records",
        ],
        &[
            "stream",
            "--stream-prefix",
            "t",
            "--partition-key",
            "kind",
            "--endpoint",
            "records",
        ],
    ];
    let broken = Receiver::start(&["--fault", "record-reject=100%"]);
    for line in cases {
        let as_it_went = |target: &Target| {
            let mut all: Vec<_> = target
                .sent_to("")
                .iter()
                .flat_map(|asked| {
                    let path = asked.path.clone();
                    asked
                        .records()
                        .into_iter()
                        .map(move |record| format!("{path} {record}"))
                })
                .collect();
            all.sort();
            all
        };
        let sandbox = Sandbox::new();
        sandbox.seeded(u32::try_from(POSTS).unwrap());
        let direct = Target::healthy();
        let ended = post(&sandbox, line, &direct.url());
        assert_eq!(ended.code(), 0, "{ended:?}");
        let ended = post(&sandbox, line, &broken.url());
        assert_posts(&ended, 1, [("rejected", POSTS), ("delivered", 0)]);
        let again = Target::healthy();
        let ended = sandbox.run(
            ["resend"]
                .iter()
                .chain(&line[..3])
                .chain(&["--invoke-url", &again.url()]),
        );
        assert_eq!(ended.code(), 0, "{ended:?}");
        assert_eq!(as_it_went(&again), as_it_went(&direct), "{line:?}");
        let summaries = ended.stdout.matches("resend completed").count();
        assert!(
            summaries <= 2,
            "{line:?} went in many pieces: {}",
            ended.stdout
        );
    }
}

#[test]
fn resend_works_beside_a_run_that_goes_on_setting_records_aside() {
    let sandbox = Sandbox::new();
    sandbox.seeded(50);
    let mut broken = Receiver::start(&["--fault", "record-reject=20%"]);
    let mut healthy = Receiver::start(&[]);
    let line = [
        "batch",
        "--topic-prefix",
        "t",
        "--database-url",
        "sqlite:seed.db",
        "--invoke-url",
        &broken.url(),
        "--rate",
        "500/s",
        "--batch-size",
        "10",
        "--linger",
        "20ms",
        "--max-undelivered",
        "1M",
        "--format",
        "json",
    ];
    let run = sandbox.start(line);
    let url = healthy.url();
    let to_healthy = ["--invoke-url", &url];
    let mut resent = 0;
    let send = |resent: &mut u64| {
        let ended = resend(&sandbox, &to_healthy);
        assert_eq!(ended.code(), 0, "{ended:?}");
        if !ended.stdout.is_empty() {
            assert_balanced_records(&ended.summary());
            *resent += records(&ended.summary(), "delivered");
        }
    };
    let undelivered = state(&sandbox, "batch-t").join("undelivered.jsonl");
    for _ in 0..10 {
        until("record that was set aside", || {
            fs::metadata(&undelivered)
                .ok()
                .filter(|file| file.len() > 0)
        });
        send(&mut resent);
    }
    run.signal("TERM");
    let ended = run.wait();
    assert_eq!(ended.code(), 1, "{ended:?}");
    assert_balanced(&ended.summary());
    send(&mut resent);
    assert!(waiting(&sandbox).is_empty());
    let rejected = records(&ended.summary(), "rejected");
    assert!(rejected > 0);
    assert_eq!(
        resent, rejected,
        "every record that was set aside goes once"
    );
    let landed = |receiver: &mut Receiver| {
        let landed = ["t.pin", "t.geo", "t.user"].map(|topic| receiver.landed(topic).len() as u64);
        landed.iter().sum::<u64>()
    };
    assert_eq!(landed(&mut healthy), rejected);
    assert_eq!(landed(&mut broken), records(&ended.summary(), "delivered"));
}

/// How many records of all kinds ended so.
fn records(summary: &Value, fate: &str) -> u64 {
    let kinds = summary["records"].as_object().unwrap().values();
    kinds.map(|counts| counts[fate].as_u64().unwrap()).sum()
}

/// The books of a resend: its posts may lack the kinds that have been delivered.
#[track_caller]
fn assert_balanced_records(summary: &Value) {
    for counts in summary["records"]
        .as_object()
        .unwrap()
        .values()
        .chain([&summary["posts"]])
    {
        let [read, delivered, rejected, unproven] = ["read", "delivered", "rejected", "unproven"]
            .map(|name| counts[name].as_u64().unwrap());
        assert_eq!(read, delivered + rejected + unproven, "{summary}");
    }
}

/// A resend of records of which the target proves so many and then hangs.
fn stuck(sandbox: &Sandbox, proven: usize) -> (Running, Target) {
    let answered = AtomicUsize::new(0);
    let target = Target::start(move |asked| {
        asked.or_there(|asked| {
            if answered.fetch_add(asked.records().len(), Ordering::Relaxed) < proven {
                asked.all_proven()
            } else {
                Reply::Hang
            }
        })
    });
    let url = target.url();
    let more = [
        "--invoke-url",
        &url,
        "--batch-size",
        "2",
        "--in-flight",
        "1",
        "--grace",
        "200ms",
    ];
    let running = sandbox.start(RESEND.iter().chain(&more));
    until("request that hangs", || {
        (sent(&target, "t.user").len() > proven).then_some(())
    });
    (running, target)
}

#[test]
fn a_signal_in_the_middle_keeps_what_was_not_sent_and_only_that() {
    let sandbox = after_a_run(&without_users());
    let (resending, target) = stuck(&sandbox, 5);
    resending.signal("INT");
    let ended = resending.wait();
    assert_posts(&ended, 0, [("read", 5), ("delivered", 5)]);
    assert_eq!(ended.summary()["outcome"], "stopped");
    assert!(
        ended.stderr.contains("To send again what waits"),
        "{ended:?}"
    );
    let left = waiting(&sandbox);
    assert_eq!(indices(&left), [5, 6, 7, 8, 9, 10, 11]);
    assert!(
        left.iter()
            .all(|line| line["reason"] == "error 50002: The message is too large"),
        "{left:?}"
    );
    drop(target);
    let healthy = Target::healthy();
    let ended = resend(&sandbox, &["--invoke-url", &healthy.url()]);
    assert_posts(&ended, 0, [("read", 7), ("delivered", 7)]);
    assert_eq!(sent(&healthy, "t.user"), [5, 6, 7, 8, 9, 10, 11]);
    assert!(waiting(&sandbox).is_empty());
}

#[test]
fn after_a_crash_in_the_middle_nothing_is_lost() {
    let sandbox = after_a_run(&without_users());
    let (resending, _target) = stuck(&sandbox, 5);
    // A run beside it says what waits, and sets aside more.
    let counted = post(
        &sandbox,
        &["batch", "--topic-prefix", "t", "--from", "3", "--to", "4"],
        &without_users().url(),
    );
    assert_posts(&counted, 1, [("read", 2), ("rejected", 2)]);
    resending.signal("KILL");
    assert!(resending.wait().status.code().is_none());

    let healthy = Target::healthy();
    let to_healthy = ["--invoke-url", &healthy.url()];
    let ended = resend(&sandbox, &to_healthy);
    assert_posts(&ended, 0, [("read", POSTS), ("delivered", POSTS)]);
    assert_eq!(sent(&healthy, "t.user"), (0..12).collect::<Vec<_>>());
    assert!(ended.stderr.contains("run it once again"), "{ended:?}");
    assert_eq!(indices(&waiting(&sandbox)), [3, 4]);
    let ended = resend(&sandbox, &to_healthy);
    assert_posts(&ended, 0, [("read", 2), ("delivered", 2)]);
    assert!(waiting(&sandbox).is_empty());
}

#[test]
fn two_resends_of_one_directory_do_not_meet() {
    let sandbox = after_a_run(&without_users());
    let (_first, _target) = stuck(&sandbox, 5);
    let ended = resend(&sandbox, &[]);
    assert_eq!(ended.code(), 75, "{ended:?}");
}

#[test]
fn a_file_and_standard_input_are_sent_and_what_fails_is_set_aside() {
    let sandbox = after_a_run(&without_users());
    let file = state(&sandbox, "batch-t").join("undelivered.jsonl");
    let text = fs::read_to_string(&file).unwrap();
    for source in ["copy.jsonl", "-"] {
        let elsewhere = Sandbox::new();
        fs::write(elsewhere.path().join("copy.jsonl"), &text).unwrap();
        let target = refusing("It is still too large", &[7]);
        let mut command = elsewhere.command([
            "resend",
            source,
            "--format",
            "json",
            "--invoke-url",
            &target.url(),
        ]);
        command.stdin(fs::File::open(elsewhere.path().join("copy.jsonl")).unwrap());
        let ended = finish(&mut command);
        assert_posts(&ended, 1, [("delivered", POSTS - 1), ("rejected", 1)]);
        assert_eq!(sent(&target, "t.user"), (0..12).collect::<Vec<_>>());
        assert_eq!(
            fs::read_to_string(elsewhere.path().join("copy.jsonl")).unwrap(),
            text,
            "it is only read"
        );
        let left = waiting(&elsewhere);
        assert_eq!(indices(&left), [7], "{source}");
        assert_eq!(left[0]["reason"], "error 50002: It is still too large");
    }
}

#[test]
fn a_file_that_grows_by_what_fails_is_sent_once() {
    // More than is read ahead of the first failure.
    let posts = 4000;
    let sandbox = Sandbox::new();
    sandbox.seeded(posts);
    let target = without_users();
    let line = ["batch", "--topic-prefix", "t", "--max-undelivered", "10k"];
    let ended = post(&sandbox, &line, &target.url());
    assert_eq!(ended.code(), 1, "{ended:?}");
    let file = state(&sandbox, "batch-t").join("undelivered.jsonl");
    let ended = sandbox.run([
        "resend",
        file.to_str().unwrap(),
        "--format",
        "json",
        "--max-undelivered",
        "10k",
    ]);
    let posts = u64::from(posts);
    assert_posts(&ended, 1, [("read", posts), ("rejected", posts)]);
    assert_eq!(ended.summary()["outcome"], "completed");
}

#[test]
fn what_waits_travels_in_batches_of_the_size_that_is_asked_for() {
    for (size, requests) in [("500", 2), ("3", 5)] {
        let sandbox = after_a_run(&without_users());
        let target = Target::healthy();
        let to_target = ["--invoke-url", &target.url(), "--batch-size", size];
        let ended = resend(&sandbox, &[&to_target[..], &["--linger", "1m"]].concat());
        assert_posts(&ended, 0, [("delivered", POSTS), ("rejected", 0)]);
        // The first one alone, as in every run.
        assert_eq!(target.sent_to("t.user").len(), requests, "{ended:?}");
    }
}

#[test]
fn a_line_that_is_no_record_is_named_and_costs_nothing() {
    let sandbox = after_a_run(&without_users());
    let dir = state(&sandbox, "batch-t");
    let file = dir.join("undelivered.jsonl");
    let text = fs::read_to_string(&file).unwrap();
    let (first, rest) = text.split_at(text.find('\n').unwrap() + 1);
    let bad = format!("{first}{{\"kind\":\"pin\"}}\n{rest}");
    fs::write(&file, &bad).unwrap();
    let healthy = Target::healthy();
    let to_healthy = ["--invoke-url", &healthy.url()];
    for _ in 0..2 {
        let ended = resend(&sandbox, &to_healthy);
        assert_eq!(ended.code(), 65, "{ended:?}");
        assert!(ended.stderr.contains("line 2"), "{ended:?}");
    }
    assert!(sent(&healthy, "t.user").is_empty(), "it is met first");
    let taken = dir.join("undelivered.resending.jsonl");
    assert_eq!(fs::read_to_string(&taken).unwrap(), bad);
    assert!(waiting(&sandbox).is_empty(), "nothing waits twice");
    fs::write(&taken, text).unwrap();
    let ended = resend(&sandbox, &to_healthy);
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(sent(&healthy, "t.user"), (0..12).collect::<Vec<_>>());
}

#[test]
fn a_command_line_that_does_not_say_what_to_send_is_wrong() {
    let wrong: [&[&str]; 7] = [
        &["resend"],
        &["resend", "batch"],
        &["resend", "stream"],
        &["resend", "batch", "--stream-prefix", "s"],
        &["resend", "stream", "--topic-prefix", "t"],
        &["resend", "--topic-prefix", "t"],
        &["resend", "file.jsonl", "--topic-prefix", "t"],
    ];
    for line in wrong {
        let ended = Sandbox::new().run(line);
        assert_eq!(ended.code(), 64, "{line:?}: {ended:?}");
    }
    let ended = Sandbox::new().run(["resend", "none.jsonl"]);
    assert_ne!(ended.code(), 0);
    assert!(ended.stderr.contains("none.jsonl"), "{ended:?}");
}

#[test]
fn what_is_named_and_cannot_be_sent_again_is_refused_with_a_cure() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path().join("dir")).unwrap();
    fs::write(sandbox.path().join("file.jsonl"), "").unwrap();
    let cases: [(&[&str], &str); 5] = [
        (&["resend", "dir"], "pinemu resend --state-dir dir"),
        (&["resend", "none.jsonl"], "a FILE, or - for"),
        (&["resend", "bach"], "batch --topic-prefix P"),
        (
            &["resend", "--state-dir", "file.jsonl"],
            "pinemu resend file.jsonl",
        ),
        (
            &["resend", "batch", "--state-dir", "file.jsonl"],
            "pinemu resend file.jsonl",
        ),
    ];
    for (line, cure) in cases {
        let ended = sandbox.run(line);
        assert_eq!(ended.code(), 78, "{line:?}: {ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{line:?}: {ended:?}");
        assert!(ended.stderr.contains(cure), "{line:?}: {ended:?}");
        assert!(ended.stderr.contains(line.last().unwrap()), "{ended:?}");
    }
    let ended = sandbox.run(["resend", "--state-dir", "none"]);
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert!(
        ended.stderr.starts_with("Nothing waits") && ended.stderr.contains(" none"),
        "{ended:?}"
    );
}

#[test]
fn the_command_that_a_summary_ends_with_works_as_it_is() {
    let sandbox = Sandbox::new();
    sandbox.seeded(u32::try_from(POSTS).unwrap());
    let bin = sandbox.path().join("bin");
    fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_pinemu"), bin.join("pinemu")).unwrap();
    let cases: [(&[&str], &str); 4] = [
        (&["batch", "--topic-prefix", "t"], "batch-t"),
        (&["stream", "--stream-prefix", "t"], "stream-t"),
        (
            &["batch", "--topic-prefix", "t", "--state-dir", "my state's"],
            "",
        ),
        (
            &[
                "stream",
                "--stream-prefix",
                "t",
                "--endpoint",
                "records",
                "--state-dir",
                "an other",
            ],
            "",
        ),
    ];
    for (line, default_dir) in cases {
        let broken = Arc::new(AtomicBool::new(true));
        let is_broken = Arc::clone(&broken);
        let target = Target::start(move |asked| {
            asked.or_there(|asked| {
                if asked.path.contains("geo") && is_broken.load(Ordering::Relaxed) {
                    Reply::json(413, "{}")
                } else {
                    asked.all_proven()
                }
            })
        });
        let url = target.url();
        let text = [
            "--format",
            "text",
            "--database-url",
            "sqlite:seed.db",
            "--order",
            "index",
            "--rate",
            "max",
            "--invoke-url",
            &url,
        ];
        let ended = sandbox.run(line.iter().chain(&text));
        assert_eq!(ended.code(), 1, "{ended:?}");
        assert!(
            ended.stdout.contains("12 records to be sent again"),
            "{ended:?}"
        );
        let dir = match line {
            [.., "--state-dir", dir] => sandbox.path().join(dir),
            _ => state(&sandbox, default_dir),
        };
        let pasted = |ended: &Ended| {
            let start = "To send again what waits: ";
            let command = ended
                .stderr
                .lines()
                .find_map(|line| line.strip_prefix(start));
            let command = command.unwrap_or_else(|| panic!("{ended:?}"));
            let mut shell = Command::new("sh");
            let path = format!("{}:/usr/bin:/bin", bin.display());
            shell.args(["-c", command]).env_clear().env("PATH", path);
            shell
                .env("HOME", sandbox.path())
                .env("XDG_STATE_HOME", sandbox.path().join("state"));
            shell.current_dir(sandbox.path()).stdin(Stdio::null());
            finish(&mut shell)
        };
        // Once in vain: what it ends with works as well.
        let ended = pasted(&ended);
        assert_eq!(ended.code(), 1, "{line:?}: {ended:?}");
        assert_eq!(lines(&dir.join("undelivered.jsonl")).len(), 12);
        broken.store(false, Ordering::Relaxed);
        let ended = pasted(&ended);
        assert_eq!(ended.code(), 0, "{line:?}: {ended:?}");
        assert!(!ended.stderr.contains("To send again"), "{ended:?}");
        assert!(lines(&dir.join("undelivered.jsonl")).is_empty());
    }
}

#[test]
fn as_many_as_may_be_set_aside_end_the_run() {
    for in_flight in ["1", "auto"] {
        let sandbox = Sandbox::new();
        sandbox.seeded(100);
        let target = without_users();
        let line = [
            "batch",
            "--topic-prefix",
            "t",
            "--max-undelivered",
            "3",
            "--batch-size",
            "1",
            "--in-flight",
            in_flight,
        ];
        let ended = post(&sandbox, &line, &target.url());
        assert_eq!(ended.code(), 1, "{ended:?}");
        let summary = ended.summary();
        assert_balanced(&summary);
        assert_eq!(summary["outcome"], "failed");
        assert!(
            summary["error"]
                .as_str()
                .unwrap()
                .contains("--max-undelivered"),
            "{summary}"
        );
        let rejected = summary["posts"]["rejected"].as_u64().unwrap();
        assert!((3..100).contains(&rejected), "{summary}");
        let told = "set aside 3 posts or more";
        assert!(
            summary["error"].as_str().unwrap().contains(told),
            "{summary}"
        );
        assert_eq!(waiting(&sandbox).len() as u64, rejected);
        // The posts after them are still to come.
        let healthy = Target::healthy();
        let ended = post(
            &sandbox,
            &["batch", "--topic-prefix", "t", "--resume", "--moved"],
            &healthy.url(),
        );
        assert_posts(
            &ended,
            0,
            [("read", 100 - rejected), ("delivered", 100 - rejected)],
        );
    }
}

#[test]
fn a_resend_that_sets_too_much_aside_keeps_the_rest() {
    let sandbox = after_a_run(&without_users());
    let target = without_users();
    let ended = resend(
        &sandbox,
        &[
            "--invoke-url",
            &target.url(),
            "--max-undelivered",
            "3",
            "--batch-size",
            "1",
            "--in-flight",
            "1",
        ],
    );
    assert_eq!(ended.code(), 1, "{ended:?}");
    assert_eq!(
        indices(&waiting(&sandbox)),
        (0..12).collect::<Vec<_>>(),
        "each once"
    );
    assert!(sent(&target, "t.user").len() < 12);
}

#[test]
fn every_run_adds_its_summary_to_those_of_its_directory() {
    let sandbox = Sandbox::new();
    sandbox.seeded(u32::try_from(POSTS).unwrap());
    let (broken, healthy) = (without_users(), Target::healthy());
    let batch = ["batch", "--topic-prefix", "t"];
    let mut printed = Vec::new();
    for ended in [
        post(&sandbox, &batch, &broken.url()),
        resend(&sandbox, &["--invoke-url", &broken.url()]),
        resend(&sandbox, &["--invoke-url", &healthy.url()]),
        post(&sandbox, &batch, &healthy.url()),
    ] {
        assert_eq!(ended.stdout.lines().count(), 1, "{ended:?}");
        printed.push(ended.stdout);
    }
    let kept = fs::read_to_string(state(&sandbox, "batch-t").join("runs.jsonl")).unwrap();
    assert_eq!(kept, printed.concat());
    let commands: Vec<_> = kept
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["command"].clone())
        .collect();
    assert_eq!(commands, ["batch", "resend", "resend", "batch"]);
}
