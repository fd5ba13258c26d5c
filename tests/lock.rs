//! One run at a time in a state directory, as cron needs it.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::{
    fake::{Reply, Target},
    support::{Receiver, Running, Sandbox, until},
};

/// The options of a run for this prefix.
fn line<'a>(prefix: &'a str, url: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    #[rustfmt::skip]
    let line = [
        "batch", "--topic-prefix", prefix, "--database-url", "sqlite:seed.db", "--invoke-url", url,
        "--order", "index", "--rate", "max", "--format", "json",
    ];
    line.iter().chain(more).copied().collect()
}

/// A run that works until it is told to stop: its target takes records and never answers.
fn holder(sandbox: &Sandbox, target: &Target) -> Running {
    sandbox.seeded(20);
    let run = sandbox.start(line("t", &target.url(), &["--grace", "0s"]));
    until("one request for each topic", || {
        (target.sent_to("t.").len() == 3).then_some(())
    });
    run
}

fn hanging() -> Target {
    Target::start(|asked| asked.or_there(|_| Reply::Hang))
}

#[test]
fn a_second_run_for_the_same_target_ends_at_once_and_says_who_works_since_when() {
    let (sandbox, target) = (Sandbox::new(), hanging());
    let first = holder(&sandbox, &target);
    let asked = target.asked().len();
    // The best of a few: what else the machine does is not the program's.
    let mut best = Duration::MAX;
    for _ in 0..10 {
        let started = Instant::now();
        let second = sandbox.run(line("t", &target.url(), &["--resume"]));
        best = best.min(started.elapsed());
        assert_eq!(second.code(), 75, "{second:?}");
        assert_eq!(second.stdout, "");
        assert_eq!(second.stderr.lines().count(), 1, "{second:?}");
        for part in [
            "state/pinemu/batch-t",
            &format!("process {} ", first.pid()),
            " since 20",
            "--state-dir",
        ] {
            assert!(second.stderr.contains(part), "{part}: {second:?}");
        }
    }
    assert!(best < Duration::from_millis(100), "{best:?}");
    assert_eq!(target.asked().len(), asked, "it asked the target");
}

#[test]
fn a_second_run_that_may_skip_is_a_silent_success() {
    let (sandbox, target) = (Sandbox::new(), hanging());
    let _first = holder(&sandbox, &target);
    let second = sandbox.run(line("t", &target.url(), &["--if-running", "skip"]));
    assert_eq!(second.code(), 0, "{second:?}");
    assert_eq!(
        (second.stdout, second.stderr),
        (String::new(), String::new())
    );
}

#[test]
fn a_run_that_was_killed_blocks_nobody() {
    let (sandbox, target) = (Sandbox::new(), hanging());
    let first = holder(&sandbox, &target);
    first.signal("KILL");
    first.wait();
    let receiver = Receiver::start(&[]);
    let second = sandbox.run(line("t", &receiver.url(), &["--resume"]));
    assert_eq!(second.code(), 0, "{second:?}");
    assert_eq!(second.summary()["posts"]["delivered"], 20);
}

#[test]
fn runs_for_two_prefixes_work_side_by_side() {
    let (sandbox, target) = (Sandbox::new(), hanging());
    let mut first = holder(&sandbox, &target);
    let receiver = Receiver::start(&[]);
    let second = sandbox.run(line("u", &receiver.url(), &[]));
    assert_eq!(second.code(), 0, "{second:?}");
    assert!(first.is_running());
}

#[test]
fn a_dry_run_needs_no_lock_and_leaves_no_state() {
    let (sandbox, target) = (Sandbox::new(), hanging());
    let _first = holder(&sandbox, &target);
    let beside = sandbox.run(line("t", &target.url(), &["--dry-run"]));
    assert_eq!(beside.code(), 0, "{beside:?}");
    let dry = sandbox.run(line("u", &target.url(), &["--dry-run"]));
    assert_eq!(dry.code(), 0, "{dry:?}");
    let states: Vec<_> = fs::read_dir(sandbox.path().join("state/pinemu"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(states, ["batch-t"]);
}

#[test]
fn a_second_receiver_in_a_data_directory_ends_as_a_second_run_does() {
    let sandbox = Sandbox::new();
    let line = ["serve", "--listen", "127.0.0.1:0", "--port-file", "port"];
    let _first = sandbox.start(line);
    until("port", || {
        sandbox.path().join("port").exists().then_some(())
    });
    let second = sandbox.run(["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(second.code(), 75, "{second:?}");
    assert!(second.stderr.contains("--data-dir"), "{second:?}");
}
