//! Results that standard output does not take.

use std::{fs, process::Stdio};

use serde_json::{Value, json};

use crate::{
    fake::Target,
    support::{Running, Sandbox, until},
};

/// Runs the program with a standard output on which nothing has room: its exit status and what it says.
fn into_a_full_disk(sandbox: &Sandbox, line: &[&str]) -> (i32, String) {
    let ended = Running::printing_into(&mut sandbox.command(line), full_disk()).wait();
    (ended.code(), ended.stderr)
}

fn full_disk() -> Stdio {
    let file = fs::OpenOptions::new().write(true).open("/dev/full");
    file.unwrap().into()
}

/// What the runs in this state directory came to.
fn runs(sandbox: &Sandbox, name: &str) -> Vec<Value> {
    let file = sandbox.path().join("state/pinemu").join(name);
    let text = fs::read_to_string(file.join("runs.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_result_that_cannot_be_written_is_a_failure_that_says_what_was_lost() {
    let (sandbox, target) = (Sandbox::new(), Target::healthy());
    sandbox.seeded(3);
    let url = target.url();
    let line = |more: &str| {
        format!(
            "batch --topic-prefix t --database-url sqlite:seed.db --invoke-url {url} --order index --rate max {more}"
        )
    };
    let cases = [
        ("--help".to_owned(), "what was asked for"),
        ("completions bash".to_owned(), "the completion script"),
        ("seed --database-url sqlite:other.db".to_owned(), "filled"),
        (line("--print-config"), "the settings"),
        (line("--dry-run"), "the requests"),
        (line("--dry-run -q"), "the requests"),
        (format!("check {}", line("")), "the findings"),
        (format!("check {}", line("--format json")), "the findings"),
    ];
    for (line, what) in cases {
        let line: Vec<_> = line.split_whitespace().collect();
        let (code, said) = into_a_full_disk(&sandbox, &line);
        assert_eq!(code, 74, "{line:?}: {said}");
        assert!(said.starts_with("pinemu: "), "{line:?}: {said}");
        for part in [what, "standard output", "No space left"] {
            assert!(said.contains(part), "{line:?}: no {part} in {said}");
        }
        assert_eq!(said.lines().count(), 1, "{line:?}: {said}");
    }
    for more in ["", "--format json", "-q --format json"] {
        let line = line(more);
        let line: Vec<_> = line.split_whitespace().collect();
        let (code, said) = into_a_full_disk(&sandbox, &line);
        assert_eq!(code, 74, "{line:?}: {said}");
        let last = said.lines().last().unwrap();
        let kept = runs(&sandbox, "batch-t").pop().unwrap();
        assert_eq!(kept["posts"]["delivered"], 3, "{kept}");
        let path = sandbox.path().join("state/pinemu/batch-t/runs.jsonl");
        let parts = [
            "the summary",
            "No space left",
            kept["run"].as_str().unwrap(),
            path.to_str().unwrap(),
        ];
        for part in parts {
            assert!(last.contains(part), "{line:?}: no {part} in {said}");
        }
    }
    let quiet = line("-q");
    let quiet: Vec<_> = quiet.split_whitespace().collect();
    let told = into_a_full_disk(&sandbox, &quiet);
    assert_eq!(told, (0, String::new()), "nothing was to be written");
}

#[test]
fn a_summary_that_is_lost_hides_neither_what_ended_the_run_nor_what_is_set_aside() {
    let sandbox = Sandbox::new();
    sandbox.seeded(3);
    let run = |url: &str| {
        #[rustfmt::skip]
        let line = [
            "batch", "--topic-prefix", "t", "--database-url", "sqlite:seed.db", "--invoke-url", url, "--order", "index",
            "--rate", "max", "--retry-for", "1s", "--format", "json",
        ];
        into_a_full_disk(&sandbox, &line)
    };
    let (code, said) = run("http://127.0.0.1:1");
    assert_eq!(code, 74, "{said}");
    let last = said.lines().last().unwrap();
    for part in ["127.0.0.1:1", "the summary", "runs.jsonl"] {
        assert!(last.contains(part), "no {part} in {said}");
    }
    let refusing = Target::start(|asked| {
        asked.or_there(|asked| {
            asked
                .proven(|_| Some(json!({"error_code": 50002, "error": "The message is too large"})))
        })
    });
    let (code, said) = run(&refusing.url());
    assert_eq!(code, 74, "{said}");
    let again = "To send again what waits: pinemu resend batch --topic-prefix t\n";
    assert!(said.contains(again), "{said}");
    let healthy = Target::healthy();
    #[rustfmt::skip]
    let line = ["resend", "batch", "--topic-prefix", "t", "--invoke-url", &healthy.url(), "--format", "json"];
    let (code, said) = into_a_full_disk(&sandbox, &line);
    assert_eq!(code, 74, "{said}");
    assert!(said.contains("runs.jsonl"), "{said}");
    let runs = runs(&sandbox, "batch-t");
    assert_eq!(runs.len(), 3, "{runs:?}");
    assert_eq!(runs[2]["posts"]["delivered"], 3, "{runs:?}");
    let ended = sandbox.run(line);
    assert!(ended.stderr.contains("Nothing waits"), "{ended:?}");
}

#[test]
fn a_receiver_that_cannot_write_its_counts_says_so() {
    let sandbox = Sandbox::new();
    let database = sandbox.seeded(3);
    let line = ["serve", "--listen", "127.0.0.1:0", "--port-file", "port"];
    let serve = Running::printing_into(&mut sandbox.command(line), full_disk());
    let port_file = sandbox.path().join("port");
    let port = until("port", || fs::read_to_string(&port_file).ok());
    let url = format!("http://127.0.0.1:{}", port.trim());
    #[rustfmt::skip]
    let run = ["batch", "--topic-prefix", "t", "-n", "1", "--invoke-url", &url];
    let ended = sandbox.run(run.iter().chain(&database));
    assert_eq!(ended.code(), 0, "{ended:?}");
    serve.signal("TERM");
    let ended = serve.wait();
    assert_eq!(ended.code(), 74, "{ended:?}");
    let lost = "cannot write the counts of what landed to standard output";
    assert!(ended.stderr.contains(lost), "{ended:?}");
}
