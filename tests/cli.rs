//! The command line: settings and where they come from, and what goes to which of the two outputs.

mod lost;

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    fake::{Asked, Target},
    support::{Ended, Receiver, Running, Sandbox, assert_balanced, finish},
};

/// A short run that succeeds.
fn short_run(more: &[&str]) -> Ended {
    let (sandbox, target) = (Sandbox::new(), Target::healthy());
    let database = sandbox.seeded(3);
    let url = target.url();
    let line = [
        "batch",
        "--topic-prefix",
        "t",
        "--order",
        "index",
        "--rate",
        "max",
        "--invoke-url",
        &url,
    ];
    let ended = sandbox.run(line.iter().chain(&database).chain(more));
    assert_eq!(ended.code(), 0, "{ended:?}");
    ended
}

#[test]
fn help_and_version_are_results() {
    let sandbox = Sandbox::new();
    for (line, part) in [
        ("--help", "pinemu batch --topic-prefix"),
        ("--version", concat!("pinemu ", env!("CARGO_PKG_VERSION"))),
        ("batch --help", "--record-key"),
        ("stream --help", "--partition-key"),
        ("check --help", "Check a run of stream"),
        ("check batch --help", "--probe"),
        ("seed -h", "--replace"),
        ("serve -h", "--flush-size"),
    ] {
        let ended = sandbox.run(line.split(' '));
        assert_eq!(ended.code(), 0, "{line}: {ended:?}");
        assert!(ended.stdout.contains(part), "{line}: {}", ended.stdout);
        assert_eq!(ended.stderr, "", "{line}");
        for text in ended.stdout.lines() {
            assert!(text.chars().count() <= 100, "{line}: {text}");
        }
    }
}

#[test]
fn completions_are_scripts_for_their_shells() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = sandbox.run(["completions", shell]);
        assert_eq!(ended.code(), 0, "{ended:?}");
        assert!(ended.stdout.contains("topic-prefix"), "{shell}");
        if shell == "bash" {
            let mut bash = Command::new("bash")
                .arg("-n")
                .stdin(Stdio::piped())
                .spawn()
                .unwrap();
            bash.stdin
                .take()
                .unwrap()
                .write_all(ended.stdout.as_bytes())
                .unwrap();
            assert!(bash.wait().unwrap().success());
        }
    }
}

/// The value of a setting and where it came from, as `--print-config` says.
#[track_caller]
fn setting<'a>(printed: &'a Ended, name: &str) -> (&'a str, &'a str) {
    assert_eq!(printed.code(), 0, "{printed:?}");
    printed
        .stdout
        .lines()
        .find_map(|line| {
            line.strip_prefix(&format!("{name} = "))?
                .rsplit_once("  # ")
        })
        .unwrap_or_else(|| panic!("no {name} in {}", printed.stdout))
}

#[test]
fn a_flag_wins_over_a_variable_a_variable_over_the_file_and_the_file_over_the_default() {
    let sandbox = Sandbox::new();
    let file = "topic-prefix = \"file\"\nrate = 1\nlinger = \"1ms\"\ndemo = false\nquiet = true\nheader = [\"A: b\", \"C: d\"]\nin-flight = 7\n";
    fs::write(sandbox.path().join("c.toml"), file).unwrap();
    let run = |line: &str, variables: &[(&str, &str)]| {
        let line = format!("batch --print-config {line}");
        let mut command = sandbox.command(line.split_whitespace());
        finish(command.envs(variables.iter().copied()))
    };
    let options = [
        (
            "topic-prefix",
            "PINEMU_TOPIC_PREFIX",
            "file",
            "variable",
            "flag",
        ),
        ("rate", "PINEMU_RATE", "1", "2", "3"),
        ("linger", "PINEMU_LINGER", "1ms", "2ms", "3ms"),
        ("in-flight", "PINEMU_IN_FLIGHT", "7", "8", "9"),
    ];
    for (name, variable, file, in_variable, flag) in options {
        let line = format!("--{name} {flag}");
        let printed = run(
            &format!("--config c.toml {line}"),
            &[(variable, in_variable)],
        );
        assert_eq!(setting(&printed, name), (&*format!("\"{flag}\""), "flag"));
        let printed = run("--config c.toml", &[(variable, in_variable)]);
        assert_eq!(
            setting(&printed, name),
            (&*format!("\"{in_variable}\""), variable)
        );
        for named in [
            run("--config c.toml", &[]),
            run("", &[("PINEMU_CONFIG", "c.toml")]),
        ] {
            assert_eq!(setting(&named, name), (&*format!("\"{file}\""), "c.toml"));
        }
        assert_eq!(setting(&run("", &[]), name).1, "default");
    }
    assert_eq!(setting(&run("", &[]), "rate").0, "\"2/s\"");
    assert_eq!(setting(&run("", &[]), "topic-prefix").0, "(not set)");

    for yes in ["true", "1", "yes"] {
        let printed = run("--config c.toml", &[("PINEMU_DEMO", yes)]);
        let shown = format!("\"{yes}\"");
        assert_eq!(setting(&printed, "demo"), (&*shown, "PINEMU_DEMO"));
    }
    let printed = run("--config c.toml", &[]);
    assert_eq!(setting(&printed, "quiet"), ("\"true\"", "c.toml"));
    assert_eq!(
        setting(&printed, "header"),
        ("\"A: ***, C: ***\"", "c.toml")
    );
    let printed = run("--config c.toml -H X:y --header Z:w", &[]);
    assert_eq!(setting(&printed, "header"), ("\"X: ***, Z: ***\"", "flag"));
    let flags = run("--config other.toml", &[("PINEMU_CONFIG", "c.toml")]);
    assert_eq!(flags.code(), 78, "the flag names the file: {flags:?}");
}

#[test]
fn settings_of_every_layer_reach_the_target() {
    let (sandbox, target) = (Sandbox::new(), Target::healthy());
    sandbox.seeded(4);
    let file = "header = [\"X-File: one\", \"X-Both: file\"]\ndatabase-url = \"sqlite:seed.db\"\norder = \"index\"\n";
    fs::write(sandbox.path().join("c.toml"), file).unwrap();
    let ended = finish(
        sandbox
            .command([
                "batch",
                "--config",
                "c.toml",
                "-q",
                "--rate",
                "max",
                "--record-key",
                "index",
            ])
            .env(
                "PINEMU_INVOKE_URL",
                format!("http://me:s%40me@{}", &target.url()["http://".len()..]),
            )
            .env("PINEMU_TOPIC_PREFIX", "variable")
            .env("PINEMU_API_KEY", "k123"),
    );
    assert_eq!((ended.code(), &*ended.stdout, &*ended.stderr), (0, "", ""));
    let sent = target.sent_to("variable.pin");
    assert_eq!(sent[0].records()[0]["key"], "0");
    for asked in target.asked() {
        assert_eq!(asked.header("x-file"), Some("one"));
        assert_eq!(asked.header("x-both"), Some("file"));
        assert_eq!(asked.header("x-api-key"), Some("k123"));
        assert_eq!(asked.header("authorization"), Some("Basic bWU6c0BtZQ=="));
    }
}

#[test]
fn a_header_of_the_users_takes_the_place_of_the_urls_credentials() {
    let (sandbox, target) = (Sandbox::new(), Target::healthy());
    let database = sandbox.seeded(1);
    let url = target.url().replace("http://", "http://me:secret@");
    let line = [
        "batch",
        "--topic-prefix",
        "t",
        "--order",
        "index",
        "--invoke-url",
        &url,
        "-H",
        "authorization: Bearer x",
    ];
    assert_eq!(sandbox.run(line.iter().chain(&database)).code(), 0);
    let sent = &target.sent_to("t.pin")[0];
    let given: Vec<_> = sent
        .headers
        .iter()
        .filter(|(name, _)| name == "authorization")
        .collect();
    assert_eq!(given.len(), 1);
    assert_eq!(given[0].1, "Bearer x");
}

#[test]
fn the_requests_of_a_dry_run_are_as_large_as_those_of_a_run() {
    let sandbox = Sandbox::new();
    let seeded = sandbox.seeded(700);
    let line: Vec<_> = ["batch", "--topic-prefix", "t", "--dry-run"]
        .iter()
        .chain(&seeded)
        .copied()
        .collect();
    let sizes = |more: &[&str]| {
        let ended = sandbox.run(line.iter().chain(more));
        assert_eq!(ended.code(), 0, "{ended:?}");
        let requests = printed_requests(&ended.stdout);
        let pins = requests
            .iter()
            .filter(|(first, ..)| first.ends_with("t.pin"));
        pins.map(|(_, _, body)| (records_in(body), body.len()))
            .collect::<Vec<_>>()
    };
    for order in ["random", "index"] {
        let all = sizes(&["-n", "700", "--order", order]);
        let records: Vec<_> = all.iter().map(|(records, _)| *records).collect();
        assert_eq!(records, [500, 200], "{order}");
        let small = ["-n", "700", "--order", order, "--batch-bytes", "20kB"];
        let small = sizes(&small);
        let records: usize = small.iter().map(|(records, _)| records).sum();
        assert_eq!(records, 700);
        let (_, full) = small.split_last().unwrap();
        assert!(
            full.iter()
                .all(|(_, bytes)| (15_000..=20_500).contains(bytes)),
            "{small:?}"
        );
    }
}

/// The requests that a dry run printed: first line, headers, body.
fn printed_requests(text: &str) -> Vec<(String, Vec<(String, String)>, String)> {
    text.split_inclusive("\n\n")
        .collect::<Vec<_>>()
        .chunks(2)
        .map(|request| {
            let mut head = request[0].lines();
            let first = head.next().unwrap().to_owned();
            let headers = head
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect();
            (first, headers, request[1].trim_end().to_owned())
        })
        .collect()
}

#[test]
fn a_dry_run_prints_what_a_run_sends_and_sends_nothing() {
    let targets: [&[&str]; 4] = [
        &["batch", "--topic-prefix", "t"],
        &[
            "batch",
            "--topic-prefix",
            "t",
            "--record-key",
            "index",
            "--batch-size",
            "1",
        ],
        &["stream", "--stream-prefix", "t"],
        &[
            "stream",
            "--stream-prefix",
            "t",
            "--endpoint",
            "records",
            "--partition-key",
            "kind",
        ],
    ];
    for line in targets {
        let (sandbox, target) = (Sandbox::new(), Target::healthy());
        let url = target.url();
        let common = [
            "--order",
            "index",
            "--rate",
            "max",
            "-H",
            "X-Mine: 1",
            "--invoke-url",
            &url,
        ];
        let line: Vec<_> = line
            .iter()
            .chain(&sandbox.seeded(5))
            .chain(&common)
            .copied()
            .collect();
        let dry = sandbox.run(line.iter().chain(&["--dry-run"]));
        assert_eq!(dry.code(), 0, "{dry:?}");
        assert_eq!(dry.stderr, "");
        assert!(target.asked().is_empty(), "{:?}", target.asked());
        let printed = printed_requests(&dry.stdout);
        let records: usize = printed.iter().map(|(_, _, body)| records_in(body)).sum();
        assert_eq!(records, 9, "three posts: {}", dry.stdout);

        // The same posts, all in one request where requests hold many: a run begins with a single one.
        let one = sandbox.run(line.iter().chain(&["--dry-run", "-n", "1"]));
        assert_eq!(sandbox.run(line.iter().chain(&["-n", "1", "-q"])).code(), 0);
        let sent = target
            .asked()
            .into_iter()
            .filter(|asked| !asked.is_question());
        let mut sent: Vec<Asked> = sent.collect();
        let mut printed = printed_requests(&one.stdout);
        assert_eq!((sent.len(), printed.len()), (3, 3));
        sent.sort_by(|a, b| a.path.cmp(&b.path));
        printed.sort();
        for (asked, (first, headers, body)) in sent.iter().zip(printed) {
            assert_eq!(first, format!("{} {url}{}", asked.method, asked.path));
            assert_eq!(asked.body, body);
            for (name, value) in headers {
                let hidden = name == "x-mine" && value == "***";
                assert!(
                    hidden || asked.header(&name) == Some(&value),
                    "{name}: {asked:?}"
                );
            }
        }
    }
}

fn records_in(body: &str) -> usize {
    let body: Value = serde_json::from_str(body).unwrap();
    body["records"].as_array().map_or(1, Vec::len)
}

#[test]
fn a_dry_run_needs_no_target() {
    let sandbox = Sandbox::new();
    let database = sandbox.seeded(2);
    let ended = sandbox.run(
        ["batch", "--topic-prefix", "t", "--dry-run"]
            .iter()
            .chain(&database),
    );
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert!(
        ended.stdout.starts_with("POST INVOKE-URL/topics/t.pin\n"),
        "{}",
        ended.stdout
    );
}

#[test]
fn an_output_that_nobody_reads_ends_nothing() {
    let (sandbox, target) = (Sandbox::new(), Target::healthy());
    let database = sandbox.seeded(3);
    let url = target.url();
    let run = [
        "batch",
        "--topic-prefix",
        "t",
        "--order",
        "index",
        "--rate",
        "max",
        "-v",
        "--invoke-url",
        &url,
    ];
    let run: Vec<_> = run.iter().chain(&database).copied().collect();
    let with = |more: &[&'static str]| {
        run.iter()
            .copied()
            .chain(more.iter().copied())
            .collect::<Vec<_>>()
    };
    let lines = [
        vec!["--help"],
        vec!["completions", "bash"],
        with(&["--print-config"]),
        with(&["--dry-run"]),
        with(&["--progress", "always"]),
        with(&["--format", "json"]),
    ];
    for line in lines {
        for both in [false, true] {
            let mut command = sandbox.command(&line);
            command
                .stdout(closed_pipe())
                .stderr(if both { closed_pipe() } else { Stdio::piped() });
            let output = command.spawn().unwrap().wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(0), "{line:?}: {output:?}");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(
                !said.contains("bug") && !said.contains("panic"),
                "{line:?}: {said}"
            );
        }
    }
    assert!(target.sent_to("t.user").len() >= 4, "the runs went on");
}

/// The writing end of a pipe whose reading end is closed.
fn closed_pipe() -> Stdio {
    let (_, writer) = std::io::pipe().unwrap();
    writer.into()
}

#[test]
fn print_config_shows_the_state_directory_that_a_run_would_have() {
    let sandbox = Sandbox::new();
    let below = |name: &str| format!("\"{}\"", sandbox.path().join(name).display());
    let cases = [
        ("batch --topic-prefix p", below("state/pinemu/batch-p")),
        (
            "check batch --topic-prefix p",
            below("state/pinemu/batch-p"),
        ),
        ("stream --stream-prefix p", below("state/pinemu/stream-p")),
        (
            "batch --topic-prefix p --shard 2/4",
            below("state/pinemu/batch-p-shard-2-of-4"),
        ),
        (
            "batch --demo",
            "\"pinemu-demo/state/batch-demo\"".to_owned(),
        ),
        ("batch", "(not set)".to_owned()),
    ];
    for (line, expected) in cases {
        let printed = sandbox.run(format!("{line} --print-config").split(' '));
        assert_eq!(
            setting(&printed, "state-dir"),
            (&*expected, "default"),
            "{line}"
        );
    }
    let printed = sandbox.run("batch --topic-prefix p --state-dir d --print-config".split(' '));
    assert_eq!(setting(&printed, "state-dir"), ("\"d\"", "flag"));
    assert_eq!(fs::read_dir(sandbox.path()).unwrap().count(), 0);
}

#[test]
fn print_config_says_where_a_secret_comes_from_and_not_what_it_is() {
    let sandbox = Sandbox::new();
    let secrets = [
        ("database-password", "PINEMU_DATABASE_PASSWORD"),
        ("api-key", "PINEMU_API_KEY"),
    ];
    let print = |line: &str, value: &str| {
        let line = format!("batch --print-config {line}");
        let mut command = sandbox.command(line.split_whitespace());
        finish(command.envs(secrets.map(|(_, variable)| (variable, value))))
    };
    let of_variable = print("", "s3cret");
    let of_file = print(
        "--database-password-file database-password.txt --api-key-file api-key.txt",
        "s3cret",
    );
    for (secret, variable) in secrets {
        assert_eq!(setting(&of_variable, secret), ("\"***\"", variable));
        let file = format!("{secret}.txt");
        assert_eq!(setting(&of_file, secret), ("\"***\"", &*file));
        // An empty variable is none.
        let nothing = print("", "");
        let is_secret = |line: &str| line.starts_with(&format!("{secret} = "));
        assert!(!nothing.stdout.lines().any(is_secret), "{nothing:?}");
    }
    assert!(!of_variable.stdout.contains("s3cret"), "{of_variable:?}");
    assert!(!of_file.stdout.contains("s3cret"), "{of_file:?}");
}

#[test]
fn a_command_line_that_is_wrong_leaves_nothing_behind() {
    let cases = [
        ("batch --topic-prefix t", 64),
        ("batch --topic-prefix t --invoke-url http://127.0.0.1:1", 64),
        ("batch --topic-prefix t --database-url sqlite:seed.db", 64),
        (
            "stream --stream-prefix t --database-url sqlite:seed.db --resume",
            64,
        ),
        (
            "batch --topic-prefix t --database-url seed.db --invoke-url http://127.0.0.1:1",
            64,
        ),
        (
            "batch --topic-prefix t --database-url sqlite:seed.db --invoke-url http://127.0.0.1:1 --resume --speed 2",
            64,
        ),
        ("batch --demo --resume --speed 2", 64),
        (
            "batch --topic-prefix t --database-url mysql://u@h/d --invoke-url http://127.0.0.1:1 --database-password-file none",
            78,
        ),
    ];
    for (line, code) in cases {
        let sandbox = Sandbox::new();
        let ended = sandbox.run(line.split(' '));
        assert_eq!(ended.code(), code, "{line}: {ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{line}: {ended:?}");
        let left: Vec<_> = fs::read_dir(sandbox.path()).unwrap().collect();
        assert!(left.is_empty(), "{line}: {left:?}");
    }
    let sandbox = Sandbox::new();
    let mut demo = sandbox.command(["batch", "--demo"]);
    let ended = finish(demo.env("PINEMU_INVOKE_URL", "http://127.0.0.1:1"));
    assert_eq!(ended.code(), 64, "{ended:?}");
    assert_eq!(fs::read_dir(sandbox.path()).unwrap().count(), 0);
    let sandbox = Sandbox::new();
    let record = r#"{"kind":"pin","index":1,"target":"http://127.0.0.1:1","path":"/topics/t.pin","key":null,"outcome":"rejected","status":null,"reason":"no","attempts":1,"at":"2026-01-01T00:00:00.000Z","record":{}}"#;
    fs::write(sandbox.path().join("one.jsonl"), record).unwrap();
    let ended = sandbox.run(["resend", "one.jsonl", "--cacert", "none"]);
    assert_eq!(ended.code(), 78, "{ended:?}");
    assert_eq!(fs::read_dir(sandbox.path()).unwrap().count(), 1);
}

#[test]
fn what_is_said_in_detail_is_said_in_words() {
    for more in [&["-v"][..], &["-vv"]] {
        let ended = short_run(more);
        assert!(ended.stderr.contains("random_seed="), "{ended:?}");
        let dump = ended
            .stderr
            .lines()
            .find(|line| line.contains(['{', '(']) && !line.starts_with("Posting "));
        assert_eq!(dump, None, "{ended:?}");
    }
}

#[test]
fn nothing_is_coloured_and_no_bar_is_drawn_off_a_terminal() {
    for more in [
        &["-vv"][..],
        &["-vv", "--color", "never"],
        &["-vv", "--progress", "never"],
    ] {
        let ended = short_run(more);
        assert!(
            !ended.stderr.contains(['\u{1b}', '\r']),
            "{more:?}: {:?}",
            ended.stderr
        );
        assert!(
            ended.stderr.starts_with("Posting by key "),
            "{:?}",
            ended.stderr
        );
    }
    let drawn = short_run(&["--progress", "always"]).stderr;
    assert!(
        drawn.contains("3/3") || drawn.contains(" posts "),
        "{drawn:?}"
    );
    let coloured = short_run(&["-v", "--color", "always"]).stderr;
    assert!(coloured.contains("\u{1b}["), "{coloured:?}");
}

#[test]
fn quiet_is_silent_on_success_but_for_a_summary_that_is_asked_for() {
    let ended = short_run(&["-q"]);
    assert_eq!((&*ended.stdout, &*ended.stderr), ("", ""));
    let ended = short_run(&["-q", "--format", "json"]);
    assert_eq!(ended.stderr, "");
    assert_eq!(ended.stdout.lines().count(), 1);
    assert_balanced(&ended.summary());
    assert_eq!(ended.summary()["posts"]["delivered"], 3);
    let mut receiver = Receiver::start(&["-q"]);
    let ended = receiver.stop().unwrap();
    assert_eq!((ended.code(), &*ended.stdout, &*ended.stderr), (0, "", ""));
    let sandbox = Sandbox::new();
    let ended = sandbox.run(["batch", "--demo", "-n", "3", "--rate", "max", "-q"]);
    assert_eq!((ended.code(), &*ended.stdout, &*ended.stderr), (0, "", ""));
}

#[test]
fn the_summary_fits_a_terminal() {
    let ended = short_run(&[]);
    assert!(ended.stdout.contains("delivered"), "{}", ended.stdout);
    for line in ended.stdout.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn every_line_of_a_json_log_is_json() {
    let json = ["--log-format", "json", "-vv"];
    let sandbox = Sandbox::new();
    let database = sandbox.seeded(3);
    let refused = [
        "batch",
        "--topic-prefix",
        "t",
        "--invoke-url",
        "http://127.0.0.1:1",
        "--retry-for",
        "1s",
    ];
    let refused = sandbox.run(refused.iter().chain(&database).chain(&json));
    assert_eq!(refused.code(), 69, "{refused:?}");
    let demo = sandbox.run(
        ["batch", "--demo", "-n", "2", "--rate", "max"]
            .iter()
            .chain(&json),
    );
    assert_eq!(demo.code(), 0, "{demo:?}");
    for ended in [short_run(&json), refused, demo] {
        assert!(!ended.stderr.is_empty());
        for line in ended.stderr.lines() {
            let line: Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert!(
                line["timestamp"].is_string() && line["level"].is_string(),
                "{line}"
            );
            assert!(line["message"].is_string(), "{line}");
        }
    }
}

#[test]
fn a_demo_says_where_its_records_landed() {
    let sandbox = Sandbox::new();
    for (command, folder) in [("batch", "topics/demo.pin"), ("stream", "streams/demo-pin")] {
        let ended =
            Running::start(&mut sandbox.command([command, "--demo", "-n", "4", "--rate", "max"]))
                .wait();
        assert_eq!(ended.code(), 0, "{ended:?}");
        assert!(ended.stderr.starts_with("Demo: "), "{}", ended.stderr);
        assert!(ended.stderr.contains(folder), "{}", ended.stderr);
        assert!(sandbox.path().join("pinemu-demo").join(folder).is_dir());
    }
}
