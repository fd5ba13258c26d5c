//! What else there is to find, and how it is told.

use std::fs;

use super::*;
use crate::support::{finish, until};

#[test]
fn a_target_that_is_not_there_or_is_something_else_is_named() {
    let sandbox = seeded();
    let checked = check(&sandbox, "batch", "http://127.0.0.1:1", &[]);
    checked.assert_failed(69, &["target connection"]);
    checked.assert(
        "target connection",
        "failed",
        &["127.0.0.1:1 refused"],
        &["is it running"],
    );
    checked.assert(
        "pin topic",
        "warning",
        &["not tried: there is no answer"],
        &[],
    );
    let checked = check(&sandbox, "batch", "http://no-such-host.invalid", &[]);
    checked.assert_failed(69, &["target name"]);
    checked.assert(
        "target name",
        "failed",
        &["no-such-host.invalid"],
        &["--invoke-url"],
    );
    let page = Target::start(|_| Reply::new(200, "text/html", "<html>Welcome</html>"));
    let checked = check(&sandbox, "stream", &page.url(), &[]);
    checked.assert_failed(78, &["target API"]);
    checked.assert(
        "target API",
        "failed",
        &["Welcome"],
        &["is --invoke-url the stage"],
    );
    let moved =
        Target::start(|_| Reply::json(301, "").with("Location", "https://new.example.com/Prod"));
    let checked = check(&sandbox, "stream", &moved.url(), &[]);
    checked.assert_failed(78, &["target API"]);
    checked.assert(
        "target API",
        "failed",
        &["https://new.example.com/Prod"],
        &["--invoke-url"],
    );
    let lost =
        Target::start(|_| Reply::json(404, r#"{"error_code":404,"message":"HTTP 404 Not Found"}"#));
    let checked = check(&sandbox, "batch", &lost.url(), &[]);
    checked.assert_failed(78, &["target API"]);
    let mute = Target::mute();
    let checked = check(&sandbox, "batch", &mute.url(), &[]);
    checked.assert_failed(69, &["target API"]);
    checked.assert(
        "target API",
        "failed",
        &["no answer within 5s"],
        &["https://"],
    );
}

#[test]
fn a_topic_that_may_not_be_seen_is_refused_and_a_stream_is_not_for_sure() {
    let sandbox = seeded();
    let target = Target::start(|asked| match &*asked.path {
        "/topics" => Reply::json(200, "[\"t.pin\",\"t.user\"]"),
        "/topics/t.geo" => Reply::json(403, r#"{"error_code":40301,"message":"Not authorized"}"#),
        _ => Reply::json(200, r#"{"name":"t","configs":{},"partitions":[{},{},{}]}"#),
    });
    let checked = check(&sandbox, "batch", &target.url(), &[]);
    checked.assert_failed(77, &["geo topic"]);
    checked.assert("geo topic", "failed", &["Not authorized"], &[]);
    checked.assert("pin topic", "ok", &["t.pin: 3 partitions"], &[]);
    let target = Target::start(|asked| match &*asked.path {
        "/streams/s-geo" => Reply::json(
            200,
            r#"{"__type":"AccessDeniedException","Message":"not authorized to perform: kinesis:DescribeStream"}"#,
        ),
        "/streams" => Reply::json(200, r#"{"HasMoreStreams":true,"StreamNames":["a"]}"#),
        _ => gateway(asked),
    });
    let checked = check(&sandbox, "stream", &target.url(), &[]);
    checked.assert_fine();
    checked.assert(
        "geo stream",
        "warning",
        &["kinesis:DescribeStream"],
        &["--probe"],
    );
}

#[test]
fn the_state_directory_is_tried_and_who_holds_it_is_named() {
    let sandbox = seeded();
    let mute = Target::mute();
    let line = [
        "batch",
        "--topic-prefix",
        "t",
        "--database-url",
        "sqlite:seed.db",
    ];
    let url = mute.url();
    let first = sandbox.start(line.iter().chain(&["--invoke-url", &url]));
    until("lock", || {
        let text = fs::read_to_string(sandbox.path().join("state/pinemu/batch-t/lock")).ok()?;
        text.contains("since").then_some(())
    });
    let receiver = Receiver::start(&[]);
    let checked = check(&sandbox, "batch", &receiver.url(), &[]);
    checked.assert_failed(75, &["state directory"]);
    let held = format!("process {}", first.pid());
    checked.assert(
        "state directory",
        "failed",
        &["in use by another run", &held, "since 20"],
        &["--state-dir"],
    );
    let checked = check(
        &sandbox,
        "batch",
        &receiver.url(),
        &["--if-running", "skip"],
    );
    checked.assert_fine();
    checked.assert("state directory", "warning", &["in use", &held], &["skip"]);
    drop(first);
    fs::write(sandbox.path().join("file"), "").unwrap();
    let checked = check(
        &sandbox,
        "batch",
        &receiver.url(),
        &["--state-dir", "file/state"],
    );
    checked.assert_failed(74, &["state directory"]);
    checked.assert(
        "state directory",
        "failed",
        &["file/state"],
        &["--state-dir"],
    );
}

#[test]
fn a_run_that_is_to_be_resumed_is_checked_with_its_checkpoint() {
    let sandbox = seeded();
    let receiver = Receiver::start(&[]);
    let url = receiver.url();
    let line = [
        "batch",
        "--topic-prefix",
        "t",
        "--database-url",
        "sqlite:seed.db",
        "--order",
        "index",
    ];
    let more = ["--rate", "max", "-n", "600", "-q", "--invoke-url", &url];
    let run = line.iter().chain(&more);
    assert_eq!(sandbox.run(run).code(), 0);
    let checked = check(&sandbox, "batch", &url, &["--resume"]);
    checked.assert_fine();
    checked.assert("state directory", "ok", &["goes on after 600 posts"], &[]);
    checked.assert("posts", "ok", &["the first 100 posts are whole"], &[]);
    let checked = check(&sandbox, "batch", &url, &["--resume", "--order", "random"]);
    checked.assert_failed(78, &["state directory"]);
    let before = fs::read_to_string(sandbox.path().join("state/pinemu/batch-t/checkpoint.json"));
    check(&sandbox, "batch", &url, &[]).assert_fine();
    let after = fs::read_to_string(sandbox.path().join("state/pinemu/batch-t/checkpoint.json"));
    assert_eq!(before.unwrap(), after.unwrap());
}

#[test]
fn a_rate_that_the_shards_or_the_gateway_do_not_take_is_told_with_the_cure() {
    let sandbox = seeded();
    let target = Target::start(gateway);
    let look = |more: &[&str]| check(&sandbox, "stream", &target.url(), more);
    let checked = look(&["--rate", "2500"]);
    let cure = [
        "--stream-name s-pin --target-shard-count 3",
        "or --rate 1000",
    ];
    checked.assert(
        "rate",
        "warning",
        &["need 3 shards each", "s-pin has 1 shard"],
        &cure,
    );
    let checked = look(&["--rate", "2500", "--partition-key", "kind"]);
    checked.assert(
        "rate",
        "warning",
        &["one shard"],
        &["--partition-key index"],
    );
    let checked = look(&["--rate", "max"]);
    checked.assert("rate", "ok", &["at most 1,000 posts/s", "s-"], &[]);
    let checked = look(&["--rate", "900", "--endpoint", "records"]);
    checked.assert("rate", "ok", &["need 1 shard each and 5.4 requests/s"], &[]);
    let receiver = Receiver::start(&["--partitions", "9"]);
    let checked = check(&sandbox, "stream", &receiver.url(), &["--rate", "4000"]);
    checked.assert(
        "rate",
        "warning",
        &["12,000 requests/s"],
        &["--endpoint records"],
    );
}

#[test]
fn the_table_the_quiet_line_and_the_exit_status_say_the_same() {
    let sandbox = seeded();
    let receiver = Receiver::start(&["--topics", "t.pin,t.geo"]);
    let url = receiver.url();
    let line = [
        "check",
        "batch",
        "--topic-prefix",
        "t",
        "--database-url",
        "sqlite:seed.db",
        "--invoke-url",
        &url,
    ];
    let run = |more: &[&str]| sandbox.run(line.iter().chain(more));
    let table = run(&[]);
    assert_eq!((table.code(), &*table.stderr), (78, ""), "{table:?}");
    assert!(
        table
            .stdout
            .contains("\nfailed   user topic           there is no topic t.user\n"),
        "{}",
        table.stdout
    );
    assert!(
        table
            .stdout
            .ends_with("1 failed: a run would not do, exit status 78.\n"),
        "{}",
        table.stdout
    );
    assert!(!table.stdout.contains('\u{1b}'), "{}", table.stdout);
    assert!(
        run(&["--color", "always"])
            .stdout
            .contains("\u{1b}[31mfailed")
    );
    let quiet = run(&["-q"]);
    assert_eq!((quiet.code(), &*quiet.stdout), (78, ""));
    let said = quiet.stderr.lines().collect::<Vec<_>>();
    let [said] = said[..] else {
        panic!("{quiet:?}")
    };
    assert!(
        said.starts_with("pinemu: user topic: there is no topic t.user; make it: "),
        "{said}"
    );
    let whole = Receiver::start(&[]);
    let url = whole.url();
    let fine = sandbox.run(line[..line.len() - 1].iter().chain(&[&*url, "-q"]));
    assert_eq!((fine.code(), &*fine.stdout, &*fine.stderr), (0, "", ""));
}

#[test]
fn settings_come_in_layers_and_what_cannot_be_checked_is_refused() {
    let sandbox = seeded();
    let receiver = Receiver::start(&[]);
    let file = "topic-prefix = \"from-file\"\ndatabase-url = \"sqlite:seed.db\"\nrate = 7\n";
    fs::write(sandbox.path().join("c.toml"), file).unwrap();
    let mut command = sandbox.command(["check", "batch", "--format", "json", "--rate", "9"]);
    command
        .env("PINEMU_CONFIG", "c.toml")
        .env("PINEMU_INVOKE_URL", receiver.url())
        .env("PINEMU_PROBE", "true");
    let checked = Checked::new(finish(&mut command));
    checked.assert_fine();
    checked.assert(
        "configuration",
        "ok",
        &["from-file.pin", &receiver.url()],
        &[],
    );
    checked.assert("rate", "ok", &["9 posts/s"], &[]);
    assert!(
        !checked.document.to_string().contains("probe"),
        "{}",
        checked.document
    );
    let printed = sandbox.run(["check", "batch", "--config", "c.toml", "--print-config"]);
    assert_eq!(printed.code(), 0, "{printed:?}");
    assert!(
        printed.stdout.contains("rate = \"7\"  # c.toml"),
        "{}",
        printed.stdout
    );
    for (line, part) in [
        ("check", "batch, stream"),
        ("check batch --demo", "--demo"),
        ("check stream --dry-run", "--dry-run"),
        ("check batch --endpoint record", "--endpoint"),
    ] {
        let ended = sandbox.run(line.split(' '));
        assert_eq!(
            (ended.code(), &*ended.stdout),
            (64, ""),
            "{line}: {ended:?}"
        );
        assert!(ended.stderr.contains(part), "{line}: {}", ended.stderr);
    }
    let checked = Checked::new(sandbox.run(["check", "batch", "--format", "json"]));
    checked.assert_failed(64, &["configuration"]);
    checked.assert(
        "configuration",
        "failed",
        &["--topic-prefix is needed"],
        &[],
    );
}
