//! Signals: the first lets a run settle, the second ends it at once.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    fake::{Reply, Target},
    support::{Receiver, Running, Sandbox, assert_balanced, until},
};

/// A paced run that never ends by itself.
fn endless(sandbox: &Sandbox, url: &str, more: &[&str]) -> Running {
    let database = sandbox.seeded(20);
    let line = [
        "batch",
        "--topic-prefix",
        "t",
        "--rate",
        "2/s",
        "--format",
        "json",
        "--linger",
        "100ms",
        "--invoke-url",
        url,
    ];
    sandbox.start(line.iter().chain(&database).chain(more))
}

#[test]
fn a_signal_lets_a_run_settle_and_end_well() {
    for signal in ["INT", "TERM", "HUP"] {
        let sandbox = Sandbox::new();
        let mut receiver = Receiver::start(&[]);
        let run = endless(&sandbox, &receiver.url(), &[]);
        until("first record", || receiver.has("t.user").then_some(()));
        let told = Instant::now();
        run.signal(signal);
        let ended = run.wait();
        let took = told.elapsed();
        assert_eq!(ended.code(), 0, "{signal}: {ended:?}");
        assert!(took < Duration::from_secs(2), "{signal}: {took:?}");
        let summary = ended.summary();
        assert_balanced(&summary);
        assert_eq!(summary["outcome"], "stopped");
        assert_eq!(summary["posts"]["returned"], 0, "{summary}");
        assert!(
            summary["posts"]["delivered"].as_u64() >= Some(1),
            "{summary}"
        );
        for kind in ["pin", "geo", "user"] {
            let landed = receiver.landed(&format!("t.{kind}")).len();
            assert_eq!(summary["records"][kind]["delivered"], landed, "{summary}");
        }
    }
}

/// Answers nothing but the questions before a run.
fn hanging() -> Target {
    Target::start(|asked| asked.or_there(|_| Reply::Hang))
}

#[test]
fn a_signal_gives_a_hanging_target_its_grace_and_returns_the_posts() {
    let (sandbox, target) = (Sandbox::new(), hanging());
    let run = endless(&sandbox, &target.url(), &["--grace", "500ms"]);
    until("request", || {
        (target.sent_to("t.").len() == 3).then_some(())
    });
    let told = Instant::now();
    run.signal("TERM");
    let ended = run.wait();
    let took = told.elapsed();
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert!(
        took >= Duration::from_millis(500) && took < Duration::from_secs(2),
        "{took:?}"
    );
    let summary = ended.summary();
    assert_balanced(&summary);
    assert_eq!(summary["outcome"], "stopped");
    assert_eq!(summary["posts"]["read"], 0, "{summary}");
    assert_eq!(summary["posts"]["returned"], 1, "{summary}");
    // Cut short, and sent all the same.
    assert_eq!(summary["requests"], 3, "{summary}");
    assert_ne!(summary["bytes_sent"], 0, "{summary}");
}

#[test]
fn a_run_that_is_stopped_before_its_first_post_leaves_the_place_of_the_run_before() {
    let (sandbox, mut receiver) = (Sandbox::new(), Receiver::start(&[]));
    sandbox.seeded(20);
    let start = |url: &str, more: &[&str]| {
        #[rustfmt::skip]
        let line = [
            "batch", "--topic-prefix", "t", "--database-url", "sqlite:seed.db", "--invoke-url", url, "--format", "json",
            "--state-dir", "kept", "--order", "index",
        ];
        sandbox.start(line.iter().chain(more))
    };
    let url = receiver.url();
    let ended = start(&url, &["--rate", "max", "-n", "7"]).wait();
    assert_eq!(ended.code(), 0, "{ended:?}");
    let target = Target::start(|_| Reply::Hang);
    let run = start(&target.url(), &[]);
    until("question", || (!target.asked().is_empty()).then_some(()));
    run.signal("INT");
    let ended = run.wait();
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(ended.summary()["posts"]["read"], 0, "{ended:?}");
    let ended = start(&url, &["--rate", "max", "--resume"]).wait();
    assert_eq!(ended.summary()["posts"]["delivered"], 13, "{ended:?}");
    assert_eq!(receiver.landed("t.pin").len(), 20);
}

#[test]
fn posts_that_wait_for_company_at_a_signal_are_in_the_books_and_arrive_once() {
    for (grace, waited_go) in [("8s", true), ("0s", false)] {
        let (sandbox, mut receiver) = (Sandbox::new(), Receiver::start(&[]));
        sandbox.seeded(20);
        let url = receiver.url();
        #[rustfmt::skip]
        let line = [
            "batch", "--topic-prefix", "t", "--database-url", "sqlite:seed.db", "--invoke-url", &url, "--format", "json",
            "--state-dir", "kept", "--order", "index",
        ];
        #[rustfmt::skip]
        let paced = ["--rate", "5/s", "--arrivals", "constant", "--linger", "1m", "--grace", grace];
        let run = sandbox.start(line.iter().chain(&paced));
        // The first post went when the second was due.
        until("checkpoint", || {
            let checkpoint = fs::read(sandbox.path().join("kept/checkpoint.json")).ok()?;
            let checkpoint: Value = serde_json::from_slice(&checkpoint).unwrap();
            (checkpoint["posts"] == 1).then_some(())
        });
        run.signal("TERM");
        let ended = run.wait();
        assert_eq!(ended.code(), 0, "{ended:?}");
        let summary = ended.summary();
        assert_balanced(&summary);
        let [read, returned] = ["read", "returned"].map(|name| summary["posts"][name].as_u64());
        let waited = if waited_go { read } else { returned };
        assert!(waited >= Some(1 + u64::from(waited_go)), "{summary}");
        let left = if waited_go { returned } else { read };
        assert_eq!(left, Some(u64::from(!waited_go)), "{summary}");
        assert_eq!(ended.stderr.contains("To go on "), !waited_go, "{ended:?}");

        let resumed = sandbox.run(line.iter().chain(&["--resume", "--rate", "max"]));
        assert_eq!(resumed.code(), 0, "{resumed:?}");
        for topic in ["t.pin", "t.geo", "t.user"] {
            let landed = receiver.landed(topic);
            let different: BTreeSet<_> = landed.iter().collect();
            assert_eq!((landed.len(), different.len()), (20, 20), "{topic}");
        }
        let read = resumed.summary()["posts"]["read"].as_u64().zip(read);
        assert_eq!(read.map(|(later, before)| later + before), Some(20));
    }
}

#[test]
fn a_second_signal_ends_a_run_at_once() {
    let (sandbox, target) = (Sandbox::new(), hanging());
    let run = endless(&sandbox, &target.url(), &["--grace", "1m"]);
    until("request", || {
        (target.sent_to("t.").len() == 3).then_some(())
    });
    run.signal("INT");
    let told = Instant::now();
    // A signal that comes while the first one is still being delivered is the same one to the system.
    let mut run = run;
    while run.is_running() && told.elapsed() < Duration::from_secs(10) {
        run.signal("INT");
        std::thread::park_timeout(Duration::from_millis(50));
    }
    let ended = run.wait();
    assert_eq!(ended.code(), 130, "{ended:?}");
    assert!(
        told.elapsed() < Duration::from_secs(2),
        "{:?}",
        told.elapsed()
    );
}

#[test]
fn a_signal_ends_a_pause_between_attempts() {
    let sandbox = Sandbox::new();
    let target =
        Target::start(|asked| asked.or_there(|_| Reply::json(429, "{}").with("Retry-After", "60")));
    let run = endless(&sandbox, &target.url(), &[]);
    until("request", || {
        (target.sent_to("t.").len() == 3).then_some(())
    });
    let told = Instant::now();
    run.signal("INT");
    let ended = run.wait();
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert!(
        told.elapsed() < Duration::from_secs(2),
        "{:?}",
        told.elapsed()
    );
    assert_balanced(&ended.summary());
    assert_eq!(ended.summary()["posts"]["returned"], 1);
}

#[test]
fn a_signal_ends_a_run_that_is_still_getting_ready() {
    // A target that does not answer the questions before the run; a database that does not say who it is.
    let target = Target::mute();
    let database = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let database_url = format!(
        "mysql://u@127.0.0.1:{}/d",
        database.local_addr().unwrap().port()
    );
    let held = RefCell::new(Vec::new());
    let to_database = ["--database-url", &database_url];
    let cases: [(&str, &[&str], &dyn Fn()); 2] = [
        ("target", &[], &|| {
            until("question", || (!target.asked().is_empty()).then_some(()));
        }),
        ("database", &to_database, &|| {
            held.borrow_mut().push(database.accept().unwrap());
        }),
    ];
    for (name, more, ready) in cases {
        let sandbox = Sandbox::new();
        let seeded = sandbox.seeded(3);
        let more = if more.is_empty() { &seeded } else { more };
        let url = target.url();
        let line = [
            "batch",
            "--topic-prefix",
            "t",
            "--format",
            "json",
            "--invoke-url",
            &url,
        ];
        let run = sandbox.start(line.iter().chain(more));
        ready();
        let told = Instant::now();
        run.signal("TERM");
        let ended = run.wait();
        assert_eq!(ended.code(), 0, "{name}: {ended:?}");
        assert!(
            told.elapsed() < Duration::from_secs(2),
            "{name}: {:?}",
            told.elapsed()
        );
        assert_eq!(ended.summary()["outcome"], "stopped", "{name}");
        assert_eq!(ended.summary()["posts"]["read"], 0, "{name}");
    }
}
