//! Everything broken at once, in short: what the books say is what lies in the files. `tests/soak` is the long form.

use std::{collections::HashMap, fs, path::Path};

use serde_json::Value;

use crate::{
    end_to_end::{TABLES, read_with_another_client, records, seeded},
    support::{Database, KINDS, Receiver, Sandbox, assert_balanced},
};

const FAULTS: [&str; 7] = [
    "503=5%",
    "record-error=5%",
    "record-reject=0.5%",
    "hang=0.5%",
    "drop=2%",
    "latency=2ms",
    "empty=1%",
];

/// The rows of each kind by key.
type Rows = [HashMap<i64, Value>; 3];
/// How often each record landed, by kind and key.
type Landed = HashMap<(usize, i64), usize>;

fn rows(database: &Database) -> Rows {
    let tables = read_with_another_client(database);
    let mut tables = tables.into_iter().zip(TABLES);
    std::array::from_fn(|_| {
        let (rows, (_, key)) = tables.next().unwrap();
        rows.into_iter()
            .map(|row| (row[key].as_i64().unwrap(), row))
            .collect()
    })
}

/// What has landed; each value must be its row's.
#[track_caller]
fn landed(receiver: &mut Receiver, prefix: &str, rows: &Rows) -> Landed {
    let mut landed = Landed::new();
    for (kind, word) in KINDS.into_iter().enumerate() {
        for record in records(&receiver.landed(&format!("{prefix}{word}"))) {
            let key = record[TABLES[kind].1].as_i64().unwrap();
            assert!(record == rows[kind][&key], "{record}");
            *landed.entry((kind, key)).or_default() += 1;
        }
    }
    landed
}

/// The outcomes of what was set aside; each value must be its row's.
#[track_caller]
fn set_aside(file: &Path, rows: &Rows) -> HashMap<(usize, i64), String> {
    let mut outcomes = HashMap::new();
    for line in fs::read_to_string(file).unwrap_or_default().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let kind = KINDS.iter().position(|kind| line["kind"] == *kind).unwrap();
        let key = line["index"].as_i64().unwrap();
        assert!(line["record"] == rows[kind][&key], "{line}");
        let outcome = line["outcome"].as_str().unwrap().to_owned();
        let before = outcomes.insert((kind, key), outcome);
        assert_eq!(before, None, "set aside twice: {line}");
    }
    outcomes
}

/// Posts all rows to a receiver that fails in every way, and sends again what it refused for good to one that does not.
#[track_caller]
fn soak(line: &[&str], receiver: &[&str], database: &Database) {
    let rows = rows(database);
    let prefix = if line[0] == "batch" { "t." } else { "t-" };
    let sandbox = Sandbox::new();
    let faults = FAULTS.iter().flat_map(|fault| ["--fault", fault]);
    let options: Vec<_> = faults
        .chain(["--fault-seed", "1"])
        .chain(receiver.iter().copied())
        .collect();
    let mut broken = Receiver::start(&options);
    let (database_url, url) = (database.url(), broken.url());
    let run = [
        "--database-url",
        &database_url,
        "--order",
        "index",
        "--rate",
        "max",
        "--retry-for",
        "2m",
    ];
    let sending = [
        "--state-dir",
        "state",
        "--timeout",
        "1s",
        "--format",
        "json",
        "--max-undelivered",
        "1M",
        "--invoke-url",
    ];
    let ended = sandbox.run(line.iter().chain(&run).chain(&sending).chain(&[&*url]));
    assert_eq!(ended.code(), 1, "{ended:?}");
    let summary = ended.summary();
    assert_eq!(summary["outcome"], "completed", "{summary}");
    assert_balanced(&summary);
    assert_eq!(summary["posts"]["read"], rows[0].len(), "{summary}");
    assert!(summary["retries"].as_u64() > Some(0), "{summary}");

    let file = sandbox.path().join("state/undelivered.jsonl");
    let waiting = set_aside(&file, &rows);
    assert!(!waiting.is_empty());
    for (kind, word) in KINDS.into_iter().enumerate() {
        for fate in ["rejected", "unproven"] {
            let lines = waiting
                .iter()
                .filter(|((of, _), outcome)| *of == kind && *outcome == fate)
                .count();
            assert_eq!(summary["records"][word][fate], lines, "{word}: {summary}");
        }
    }
    let first = landed(&mut broken, prefix, &rows);
    for (kind, rows) in rows.iter().enumerate() {
        for key in rows.keys() {
            let record = (kind, *key);
            assert!(
                first.contains_key(&record) || waiting.contains_key(&record),
                "the {} of {key} is nowhere",
                KINDS[kind]
            );
        }
    }

    let mut healthy = Receiver::start(&[]);
    let url = healthy.url();
    let resend = ["resend", line[0]];
    let ended = sandbox.run(resend.iter().chain(&sending).chain(&[&*url]));
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert!(set_aside(&file, &rows).is_empty());
    let second = landed(&mut healthy, prefix, &rows);
    assert_eq!(
        second,
        waiting.into_keys().map(|record| (record, 1)).collect()
    );
}

const BATCH: [&str; 5] = ["batch", "--topic-prefix", "t", "--batch-size", "100"];

#[test]
fn the_books_are_true_whatever_a_kafka_proxy_does() {
    let database = seeded(3000);
    for dialect in ["confluent", "strimzi", "karapace", "redpanda"] {
        soak(&BATCH, &["--dialect", dialect], &database);
    }
}

#[test]
fn the_books_are_true_whatever_a_kinesis_gateway_does() {
    let line = ["stream", "--stream-prefix", "t", "--endpoint"];
    let database = seeded(3000);
    let records = [&line[..], &["records", "--batch-size", "100"]].concat();
    soak(&records, &[], &database);
    let database = seeded(500);
    soak(&[&line[..], &["record"]].concat(), &[], &database);
}
