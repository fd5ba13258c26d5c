//! What a run with `--resume` takes over from the runs before it, and what it refuses.

use std::{
    env, fs,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::{Value, json};

use crate::{
    fake::{Reply, Target},
    support::{Ended, Receiver, Sandbox, assert_balanced, finish, lines_below, until},
};

/// The options of a run, one post after the other as fast as it goes, but for the order.
fn line<'a>(url: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    #[rustfmt::skip]
    let line = [
        "batch", "--topic-prefix", "t", "--database-url", "sqlite:seed.db", "--invoke-url", url, "--state-dir", "kept",
        "--rate", "max", "--batch-size", "7", "--in-flight", "1", "--format", "json",
    ];
    line.iter().chain(more).copied().collect()
}

#[track_caller]
fn run(sandbox: &Sandbox, url: &str, more: &[&str]) -> Ended {
    let ended = sandbox.run(line(url, more));
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_balanced(&ended.summary());
    ended
}

fn keys_of(lines: &[String]) -> Vec<i64> {
    let key = |line: &String| {
        let record: Value = serde_json::from_str(line).unwrap();
        record["index"].as_i64().unwrap()
    };
    lines.iter().map(key).collect()
}

/// The keys in the order of landing, the same for all kinds.
fn keys(receiver: &mut Receiver) -> Vec<i64> {
    for kind in ["geo", "user"] {
        let text = receiver.landed(&format!("t.{kind}")).join("\n");
        let text = text.replace("\"ind\"", "\"index\"");
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        assert_eq!(keys_of(&lines), keys_of(&receiver.landed("t.pin")));
    }
    keys_of(&receiver.landed("t.pin"))
}

fn checkpoint(sandbox: &Sandbox) -> Vec<u8> {
    fs::read(sandbox.path().join("kept/checkpoint.json")).unwrap()
}

#[test]
fn runs_that_go_on_post_what_one_run_would_have_posted_in_the_same_order() {
    for first in [
        vec!["--order", "index"],
        vec!["--order", "index", "--from", "5", "--to", "30"],
        vec!["--order", "random", "--random-seed", "7"],
        vec![
            "--order",
            "random",
            "--random-seed",
            "8",
            "--from",
            "3",
            "--to",
            "12",
        ],
    ] {
        let random = first.contains(&"random");
        // In random order several passes.
        let counts = [13, 1, if random { 61 } else { 4 }, 8];
        let total = counts.iter().sum::<u64>().to_string();
        let sandbox = Sandbox::new();
        sandbox.seeded(40);
        let mut whole = Receiver::start(&[]);
        let more = [&first[..], &["-n", &total, "--state-dir", "whole"]].concat();
        let more: Vec<_> = line(&whole.url(), &[])
            .into_iter()
            .map(str::to_owned)
            .filter(|word| word != "kept" && word != "--state-dir")
            .chain(more.iter().map(|word| (*word).to_owned()))
            .collect();
        let ended = sandbox.run(&more);
        assert_eq!(ended.code(), 0, "{ended:?}");
        let mut parts = Receiver::start(&[]);
        for (turn, count) in counts.iter().enumerate() {
            let count = count.to_string();
            // Order, range and seed are those of the first run.
            let given = if turn == 0 { &first[..] } else { &["--resume"] };
            let ended = run(&sandbox, &parts.url(), &[given, &["-n", &count]].concat());
            assert_eq!(ended.summary()["posts"]["read"].to_string(), count);
        }
        let landed = keys(&mut parts);
        assert_eq!(landed.len().to_string(), total);
        assert_eq!(landed, keys(&mut whole), "{first:?}");
    }
}

#[test]
fn the_time_that_is_given_is_that_of_each_run() {
    let sandbox = Sandbox::new();
    sandbox.seeded(40);
    let mut receiver = Receiver::start(&[]);
    let paced = [
        "--order",
        "index",
        "--rate",
        "20/s",
        "--arrivals",
        "constant",
    ];
    for resume in [&[][..], &["--resume"], &["--resume"]] {
        let url = receiver.url();
        let mut line = line(&url, &["-d", "300ms"]);
        let rate = line.iter().position(|word| *word == "--rate").unwrap();
        line.drain(rate..rate + 2);
        line.extend(paced.iter().chain(resume));
        let ended = sandbox.run(line);
        assert_eq!(ended.code(), 0, "{ended:?}");
        // Due after 0, 50, …, 300 ms.
        assert_eq!(ended.summary()["posts"]["delivered"], 7, "{ended:?}");
    }
    assert_eq!(keys(&mut receiver).len(), 21);
}

/// The pauses between the posts of a stream, in milliseconds, as the receiver saw them.
fn pauses(receiver: &mut Receiver, posts: std::ops::Range<usize>) -> Vec<f64> {
    let times: Vec<_> = receiver
        .landed("t-pin")
        .iter()
        .map(|line| {
            let record: Value = serde_json::from_str(line).unwrap();
            let time = &record["approximateArrivalTimestamp"];
            time.as_f64().unwrap() * 1000.0
        })
        .collect();
    times[posts]
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .collect()
}

#[test]
fn the_pauses_of_people_go_on_where_they_were() {
    let sandbox = Sandbox::new();
    sandbox.seeded(40);
    // The first pauses of this seed differ much from those that follow, by more than a busy machine adds.
    let post = |receiver: &Receiver, more: &[&str]| {
        let url = receiver.url();
        #[rustfmt::skip]
        let line = [
            "stream", "--stream-prefix", "t", "--database-url", "sqlite:seed.db", "--invoke-url", &url, "--rate", "5/s",
            "--order", "index", "--random-seed", "47", "--partition-key", "kind",
        ];
        let ended = sandbox.run(line.iter().chain(more));
        assert_eq!(ended.code(), 0, "{ended:?}");
    };
    let (mut whole, mut parts) = (Receiver::start(&[]), Receiver::start(&[]));
    post(&whole, &["--state-dir", "whole", "-n", "16"]);
    post(&parts, &["--state-dir", "parts", "-n", "8"]);
    post(&parts, &["--state-dir", "parts", "-n", "8", "--resume"]);
    let as_planned = pauses(&mut whole, 8..16);
    let apart = |others: Vec<f64>| {
        let pairs = as_planned.iter().zip(others);
        pairs.map(|(one, other)| (one - other).abs()).sum::<f64>()
    };
    let resumed = apart(pauses(&mut parts, 8..16));
    let anew = apart(pauses(&mut whole, 0..8));
    assert!(resumed < anew / 2.0, "{resumed} {anew} {as_planned:?}");
}

#[test]
fn without_a_checkpoint_a_run_that_may_go_on_starts_at_the_beginning() {
    let sandbox = Sandbox::new();
    sandbox.seeded(9);
    let mut receiver = Receiver::start(&[]);
    let ended = run(&sandbox, &receiver.url(), &["--order", "index", "--resume"]);
    assert!(ended.said().is_empty(), "{ended:?}");
    assert!(!ended.stderr.contains("Starting anew"), "{ended:?}");
    assert_eq!(keys(&mut receiver), (0..9).collect::<Vec<_>>());
}

#[test]
fn a_run_that_starts_anew_keeps_the_old_checkpoint_and_says_so() {
    let sandbox = Sandbox::new();
    sandbox.seeded(9);
    let receiver = Receiver::start(&[]);
    run(&sandbox, &receiver.url(), &["--order", "index", "-n", "4"]);
    let old = checkpoint(&sandbox);
    let ended = run(&sandbox, &receiver.url(), &["--order", "index", "-n", "2"]);
    assert!(
        ended.stderr.contains("kept/checkpoint.json.old"),
        "{ended:?}"
    );
    let kept = fs::read(sandbox.path().join("kept/checkpoint.json.old")).unwrap();
    assert_eq!(kept, old);
    let new: Value = serde_json::from_slice(&checkpoint(&sandbox)).unwrap();
    assert_eq!(new["posts"], 2);
}

#[test]
fn nothing_left_to_post_is_a_success_that_says_so() {
    let sandbox = Sandbox::new();
    sandbox.seeded(9);
    let mut receiver = Receiver::start(&[]);
    run(&sandbox, &receiver.url(), &["--order", "index"]);
    for _ in 0..2 {
        let ended = run(&sandbox, &receiver.url(), &["--resume"]);
        assert!(
            ended.stderr.contains("Nothing is left to post."),
            "{ended:?}"
        );
        assert_eq!(ended.summary()["posts"]["read"], 0);
        let quiet = run(&sandbox, &receiver.url(), &["--resume", "-q"]);
        assert_eq!(quiet.stderr, "");
    }
    assert_eq!(keys(&mut receiver).len(), 9);
}

#[test]
fn a_run_that_would_not_go_on_with_the_same_is_refused_and_told_both_values() {
    let (sandbox, target) = (Sandbox::new(), Target::healthy());
    sandbox.seeded(20);
    fs::copy(
        sandbox.path().join("seed.db"),
        sandbox.path().join("other.db"),
    )
    .unwrap();
    let url = target.url();
    let first = [
        "--order",
        "random",
        "--random-seed",
        "7",
        "--from",
        "2",
        "--to",
        "18",
        "-n",
        "3",
    ];
    run(&sandbox, &url, &first);
    let (before, asked) = (checkpoint(&sandbox), target.asked().len());
    #[rustfmt::skip]
    let others: [(&[&str], &[&str]); 8] = [
        (&["batch", "--topic-prefix", "u"], &["the prefix t", "the prefix u", "--state-dir"]),
        (&["stream", "--stream-prefix", "t"], &["the subcommand batch", "the subcommand stream", "--state-dir"]),
        (&["--invoke-url", "http://127.0.0.1:9/"], &[&url, "http://127.0.0.1:9", "--moved"]),
        (&["--database-url", "sqlite:other.db"], &["seed.db", "other.db", "--database-url"]),
        (&["--order", "index"], &["--order random", "--order index", "leave it out"]),
        (&["--from", "3"], &["--from 2", "--from 3", "leave it out"]),
        (&["--to", "17"], &["--to 18", "--to 17", "leave it out"]),
        (&["--random-seed", "8"], &["--random-seed 7", "--random-seed 8", "leave it out"]),
    ];
    for (changes, words) in others {
        let command = ["batch", "stream"].contains(&changes[0]);
        let mut line = if command {
            changes.to_vec()
        } else {
            vec!["batch", "--topic-prefix", "t"]
        };
        #[rustfmt::skip]
        line.extend(["--state-dir", "kept", "--resume", "-n", "1"]);
        for option in [["--invoke-url", &url], ["--database-url", "sqlite:seed.db"]] {
            if changes[0] != option[0] {
                line.extend(option);
            }
        }
        if !command {
            line.extend(changes);
        }
        let ended = sandbox.run(&line);
        assert_eq!(ended.code(), 78, "{changes:?}: {ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        for word in words.iter().chain(&["kept/checkpoint.json"]) {
            assert!(ended.stderr.contains(word), "{word}: {ended:?}");
        }
    }
    assert_eq!(checkpoint(&sandbox), before);
    assert_eq!(target.asked().len(), asked, "it asked the target");
    // The same, given again, agrees.
    let same = [&first[..], &["--resume"]].concat();
    run(&sandbox, &format!("{url}/"), &same);
    let with_user = url.replace("//", "//ann:secret@");
    run(&sandbox, &with_user, &same);
    assert!(
        !String::from_utf8(checkpoint(&sandbox))
            .unwrap()
            .contains("secret")
    );
}

#[test]
fn a_target_that_has_moved_is_taken_once_that_is_said() {
    let sandbox = Sandbox::new();
    sandbox.seeded(10);
    let (mut old, mut new) = (Receiver::start(&[]), Receiver::start(&[]));
    run(&sandbox, &old.url(), &["--order", "index", "-n", "4"]);
    run(&sandbox, &new.url(), &["--moved", "--resume", "-n", "2"]);
    // From now on it is the target.
    run(&sandbox, &new.url(), &["--resume"]);
    assert_eq!(keys(&mut old), (0..4).collect::<Vec<_>>());
    assert_eq!(keys(&mut new), (4..10).collect::<Vec<_>>());
}

#[test]
fn a_demo_goes_on_although_its_receiver_has_another_address() {
    let sandbox = Sandbox::new();
    for more in [&["--order", "index"][..], &["--resume"], &["--resume"]] {
        let line = ["batch", "--demo", "--rate", "max", "-n", "5"];
        let ended = sandbox.run(line.iter().chain(more));
        assert_eq!(ended.code(), 0, "{ended:?}");
    }
    let landed = lines_below(&sandbox.path().join("pinemu-demo/topics/demo.pin"));
    assert_eq!(keys_of(&landed), (0..15).collect::<Vec<_>>());
}

#[test]
fn a_damaged_checkpoint_is_refused_with_the_cure_which_works() {
    let sandbox = Sandbox::new();
    sandbox.seeded(9);
    let receiver = Receiver::start(&[]);
    run(&sandbox, &receiver.url(), &["--order", "index", "-n", "4"]);
    let path = sandbox.path().join("kept/checkpoint.json");
    let whole = fs::read(&path).unwrap();
    for damaged in [&whole[..whole.len() / 2], b"", &[0; 200]] {
        fs::write(&path, damaged).unwrap();
        let ended = sandbox.run(line(&receiver.url(), &["--resume"]));
        assert_eq!(ended.code(), 78, "{ended:?}");
        for word in [
            "kept/checkpoint.json is damaged",
            "leave out --resume",
            "checkpoint.json.old",
        ] {
            assert!(ended.stderr.contains(word), "{word}: {ended:?}");
        }
        assert_eq!(fs::read(&path).unwrap(), damaged);
    }
    run(&sandbox, &receiver.url(), &["--order", "index", "-n", "4"]);
    let old = fs::read(sandbox.path().join("kept/checkpoint.json.old")).unwrap();
    assert_eq!(old, [0; 200]);
}

/// What follows these words on a line of standard error, run in a shell that finds the program, with a secret.
#[track_caller]
fn paste(sandbox: &Sandbox, ended: &Ended, words: &str) -> Ended {
    let mut lines = ended.stderr.lines();
    let told = lines.find_map(|line| line.strip_prefix(words));
    let told = told.unwrap_or_else(|| panic!("{ended:?}"));
    let program = Path::new(env!("CARGO_BIN_EXE_pinemu")).parent().unwrap();
    let path = format!("{}:{}", program.display(), env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell
        .args(["-c", told])
        .env("PATH", path)
        .env("HOME", sandbox.path())
        .env("PINEMU_API_KEY", SECRET)
        .current_dir(sandbox.path());
    finish(&mut shell)
}

const SECRET: &str = "hunter2";

#[test]
fn the_commands_that_go_on_work_when_pasted_and_hold_no_secret() {
    let sandbox = Sandbox::new();
    sandbox.seeded(9);
    let dir = sandbox.path().join("it's my state");
    fs::copy(
        sandbox.path().join("seed.db"),
        sandbox.path().join("my seed.db"),
    )
    .unwrap();
    let well = Arc::new(AtomicBool::new(false));
    let is_well = Arc::clone(&well);
    // While it is not well, it rejects the pin of the first post and keeps silent about all others.
    let target = Target::start(move |asked| {
        asked.or_there(|asked| match (is_well.load(Ordering::SeqCst), asked.turn) {
            (false, 0) if asked.path.ends_with("t.pin") => {
                asked.proven(|_| Some(json!({"partition": null, "offset": null, "error_code": 50002, "error": "The message is too large"})))
            }
            (true, _) | (false, 0) => asked.all_proven(),
            (false, _) => Reply::Hang,
        })
    });
    let url = target.url();
    #[rustfmt::skip]
    let line = [
        "batch", "--topic-prefix", "t", "--database-url", "sqlite:my seed.db", "--invoke-url", &url, "--order", "index",
        "--rate", "max", "--batch-size", "1", "--in-flight", "1", "--grace", "0s", "--state-dir", "it's my state",
    ];
    let mut command = sandbox.command(line);
    command.env("PINEMU_API_KEY", SECRET);
    let run = crate::support::Running::start(&mut command);
    until("second post", || {
        (target.sent_to("t.pin").len() >= 2).then_some(())
    });
    run.signal("TERM");
    let ended = run.wait();
    assert_eq!(ended.code(), 1, "{ended:?}");
    well.store(true, Ordering::SeqCst);
    let resumed = paste(&sandbox, &ended, "To go on where this run ended: ");
    // The rejected record still waits, and is nothing of this run.
    assert_eq!(resumed.code(), 0, "{resumed:?}");
    let checkpoint: Value =
        serde_json::from_slice(&fs::read(dir.join("checkpoint.json")).unwrap()).unwrap();
    assert_eq!(checkpoint["posts"], 9);
    let resent = paste(&sandbox, &ended, "To send again what waits: ");
    assert_eq!(resent.code(), 0, "{resent:?}");
    assert!(
        target
            .sent_to("t.")
            .iter()
            .all(|asked| asked.header("x-api-key") == Some(SECRET))
    );
    let kept = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
    let outputs =
        [&ended, &resumed, &resent].map(|ended| format!("{}{}", ended.stdout, ended.stderr));
    for text in kept.chain(outputs) {
        assert!(!text.contains(SECRET), "{text}");
    }
}

#[test]
fn a_run_that_settled_nothing_goes_on_with_the_seed_that_it_drew() {
    let sandbox = Sandbox::new();
    sandbox.seeded(9);
    let target = Target::start(|asked| asked.or_there(|_| Reply::Hang));
    let url = target.url();
    for (order, is_told) in [("random", true), ("index", false)] {
        let more = ["--order", order, "-n", "1", "-d", "1h", "--grace", "0s"];
        let known = target.sent_to("t.pin").len();
        let run = sandbox.start(line(&url, &more));
        until("first post", || {
            (target.sent_to("t.pin").len() > known).then_some(())
        });
        run.signal("TERM");
        let ended = run.wait();
        let mut said = ended.stderr.lines();
        assert!(ended.stderr.contains(", 1 post, at most 1h: "), "{ended:?}");
        let told = said.find(|line| line.starts_with("To go on ")).unwrap();
        assert_eq!(ended.summary()["posts"]["returned"], 1, "{ended:?}");
        let seed = format!(" --random-seed {}", ended.summary()["random_seed"]);
        assert_eq!(told.ends_with(&seed), is_told, "{ended:?}");
    }
}
