//! The whole way of a seed database, from `seed` over a run to what lands; compared with what another client reads.

use std::{collections::HashMap, path::Path};

use serde_json::{Map, Number, Value};
use sqlx::{
    AssertSqlSafe, Column, Decode, MySql, Row, TypeInfo, ValueRef,
    mysql::{MySqlRow, MySqlValueRef},
};

use crate::support::{Database, Ended, KINDS, Receiver, Run, Sandbox, lines_below};

/// As many as the seed database that everybody has.
const POSTS: u64 = 11_154;
/// The table of each kind and its key column.
pub(crate) const TABLES: [(&str, &str); 3] = [
    ("pinterest_data", "index"),
    ("geolocation_data", "ind"),
    ("user_data", "ind"),
];

pub(crate) fn seeded(posts: u64) -> Database {
    let database = Database::new();
    let args = [
        "seed",
        "--posts",
        &posts.to_string(),
        "--database-url",
        &database.url(),
    ];
    let ended = Sandbox::new().run(args);
    assert_eq!(ended.code(), 0, "{ended:?}");
    database
}

/// What the binary protocol and typed decoding make of the tables, in key order: nothing here is shared with the program.
pub(crate) fn read_with_another_client(database: &Database) -> [Vec<Value>; 3] {
    TABLES.map(|(table, key)| {
        database.query(async |connection| {
            let sql = format!("SELECT * FROM {table} ORDER BY `{key}`");
            let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(connection).await;
            rows.unwrap().iter().map(record).collect()
        })
    })
}

fn record(row: &MySqlRow) -> Value {
    let columns = row.columns().iter();
    let fields = columns.map(|column| {
        let raw = row.try_get_raw(column.ordinal()).unwrap();
        (
            column.name().to_owned(),
            value(raw, column.type_info().name()),
        )
    });
    Value::Object(fields.collect::<Map<_, _>>())
}

fn value(raw: MySqlValueRef<'_>, column_type: &str) -> Value {
    fn decode<'r, T: Decode<'r, MySql>>(raw: MySqlValueRef<'r>) -> T {
        T::decode(raw).unwrap()
    }
    match column_type {
        _ if raw.is_null() => Value::Null,
        "BIGINT" => decode::<i64>(raw).into(),
        // The shortest text of the single precision is what the column was given.
        "FLOAT" => {
            let shortest = decode::<f32>(raw).to_string();
            Value::Number(shortest.parse::<Number>().unwrap())
        }
        "DATETIME" => moment(decode(raw)).into(),
        "VARCHAR" | "TEXT" => decode::<String>(raw).into(),
        other => panic!("{other}"),
    }
}

/// The binary form of a time: its length, the year, and one byte each for the rest.
fn moment(bytes: &[u8]) -> String {
    let bytes = match bytes {
        [length, rest @ ..] if usize::from(*length) == rest.len() => rest,
        bytes => bytes,
    };
    let part = |at: usize| bytes.get(at).copied().unwrap_or_default();
    let year = u16::from_le_bytes([part(0), part(1)]);
    let [month, day, hour, minute, second] = [2, 3, 4, 5, 6].map(part);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// The records within landed lines: those of a stream are wrapped.
pub(crate) fn records(lines: &[String]) -> Vec<Value> {
    let record = |line: &String| match serde_json::from_str(line).unwrap() {
        Value::Object(mut line) if line.contains_key("data") => line["data"].take(),
        record => record,
    };
    lines.iter().map(record).collect()
}

fn sorted(mut records: Vec<Value>, (_, key): (&str, &str)) -> Vec<Value> {
    records.sort_by_key(|record| record[key].as_i64().unwrap());
    records
}

/// All was delivered: the sums of posts and of each kind agree.
#[track_caller]
fn assert_books(ended: &Ended, posts: u64) {
    assert_eq!(ended.code(), 0, "{ended:?}");
    let summary = ended.summary();
    assert_eq!(summary["outcome"], "completed");
    assert_eq!(summary["error"], Value::Null);
    let kinds = KINDS.map(|kind| &summary["records"][kind]);
    for counts in [&summary["posts"]].into_iter().chain(kinds) {
        let [read, delivered, rejected, unproven] = ["read", "delivered", "rejected", "unproven"]
            .map(|name| counts[name].as_u64().unwrap());
        assert_eq!(read, delivered + rejected + unproven, "{summary}");
        assert_eq!((read, delivered), (posts, posts), "{summary}");
    }
    for none in ["returned", "incomplete"] {
        assert_eq!(summary["posts"][none], 0, "{summary}");
    }
}

fn requests(ended: &Ended) -> u64 {
    assert_eq!(ended.code(), 0, "{ended:?}");
    let summary = ended.summary();
    assert_eq!(summary["retries"], 0, "{summary}");
    summary["requests"].as_u64().unwrap()
}

/// Posts all of a seed database, once in order and once many at a time. The first of them are enough to see the order where
/// that is slow.
fn assert_lands_whole(run: impl Fn(&str) -> Run, in_order: u64) {
    let database = seeded(POSTS);
    let expected = read_with_another_client(&database);
    assert!(expected.iter().all(|table| table.len() as u64 == POSTS));

    let (ended, landed) = run(&database.url()).with("-n", in_order).post();
    assert_books(&ended, in_order);
    for (lines, expected) in landed.iter().zip(&expected) {
        assert!(records(lines) == expected[..lines.len()]);
        assert_eq!(lines.len() as u64, in_order);
    }

    let (ended, landed) = run(&database.url()).with("--in-flight", "auto").post();
    assert_books(&ended, POSTS);
    for ((lines, expected), table) in landed.iter().zip(&expected).zip(TABLES) {
        assert!(sorted(records(lines), table) == *expected, "{}", table.0);
    }
}

#[test]
fn a_whole_seed_database_lands_in_topics() {
    assert_lands_whole(Run::batch, POSTS);
}

#[test]
fn a_whole_seed_database_lands_in_streams_record_by_record() {
    assert_lands_whole(|url| Run::stream(url).with("--endpoint", "record"), 500);
}

#[test]
fn a_whole_seed_database_lands_in_streams_many_records_at_a_time() {
    assert_lands_whole(|url| Run::stream(url).with("--endpoint", "records"), POSTS);
}

#[test]
fn records_have_the_keys_that_were_asked_for() {
    let database = seeded(20);
    let batch = Run::batch(&database.url());
    let (plain, keyed) = (batch.clone(), batch.clone().with("--record-key", "index"));
    let dry = |run: &Run| {
        let ended = run.dry();
        assert_eq!(ended.code(), 0, "{ended:?}");
        ended.stdout
    };
    assert!(dry(&plain).contains(r#"{"records":[{"value":{"index":0,"#));
    assert!(dry(&keyed).contains(r#"{"records":[{"key":"0","value":{"index":0,"#));
    assert!(dry(&keyed).contains(r#",{"key":"2","value":{"ind":2,"#));
    // With keys, the partition depends on nothing but the key; the proxy and its clients agree on which.
    let mut receiver = Receiver::start(&["--partitions", "4"]);
    assert_books(&keyed.to(&receiver), 20);
    assert_books(&keyed.to(&receiver), 20);
    let mut partitions: HashMap<i64, Vec<usize>> = HashMap::new();
    receiver.stop();
    for partition in 0..4 {
        for line in receiver.landed(&format!("t.user/partition={partition}")) {
            let record: Value = serde_json::from_str(&line).unwrap();
            let key = record["ind"].as_i64().unwrap();
            partitions.entry(key).or_default().push(partition);
        }
    }
    assert_eq!(partitions.len(), 20);
    assert!(
        partitions
            .values()
            .all(|seen| seen.len() == 2 && seen[0] == seen[1]),
        "{partitions:?}"
    );
}

#[test]
fn records_have_the_partition_keys_that_were_asked_for() {
    let database = seeded(30);
    for endpoint in ["record", "records"] {
        let run = Run::stream(&database.url()).with("--endpoint", endpoint);
        for (option, expected) in [
            ("index", None),
            ("kind", Some(KINDS)),
            ("text:partition-1", Some(["partition-1"; 3])),
        ] {
            let landed = run.clone().with("--partition-key", option).landed();
            for (kind, lines) in landed.iter().enumerate() {
                assert_eq!(lines.len(), 30);
                for (index, line) in lines.iter().enumerate() {
                    let line: Value = serde_json::from_str(line).unwrap();
                    let key =
                        expected.map_or_else(|| index.to_string(), |keys| keys[kind].to_owned());
                    assert_eq!(line["partitionKey"], key, "{endpoint} {option}");
                }
            }
        }
    }
}

#[test]
fn a_request_holds_at_most_batch_size_posts() {
    let database = seeded(301);
    for run in [
        Run::batch(&database.url()),
        Run::stream(&database.url()).with("--endpoint", "records"),
    ] {
        // The first post goes alone; nothing else ends a batch early.
        let lingering = run.clone().with("--linger", "1m");
        for (run, size, batches) in [
            (&run, 1, 301),
            (&lingering, 30, 1 + 10),
            (&lingering, 70, 1 + 5),
            (&lingering, 300, 1 + 1),
        ] {
            let (ended, landed) = run.clone().with("--batch-size", size).post();
            assert_books(&ended, 301);
            assert_eq!(requests(&ended), 3 * batches, "{size}");
            assert_eq!(landed[0].len(), 301);
        }
    }
}

/// 101 posts whose pins all have the same size, as JSON, in bytes; the other rows are smaller.
fn of_one_size(pin: usize) -> Database {
    let text = "x".repeat(pin - r#"{"index":100,"text":""}"#.len());
    let database = Database::new();
    for (table, key) in TABLES {
        let text = if table == "pinterest_data" {
            text.as_str()
        } else {
            ""
        };
        let rows: Vec<_> = (100..=200)
            .map(|index| format!("({index},'{text}')"))
            .collect();
        database.execute(&format!(
            "CREATE TABLE {table} (`{key}` BIGINT PRIMARY KEY, text TEXT); INSERT INTO {table} VALUES {}",
            rows.join(",")
        ));
    }
    database
}

#[test]
fn a_request_holds_at_most_batch_bytes() {
    let database = of_one_size(1_000);
    let run = Run::batch(&database.url()).with("--linger", "1m");
    // Each record is wrapped into `{"value":…},`.
    for (bytes, batches) in [
        (10 * 1_011 + 20, 1 + 10),
        (20 * 1_011 + 20, 1 + 5),
        (500, 101),
        (1 << 20, 2),
    ] {
        let (ended, _) = run.clone().with("--batch-bytes", bytes).post();
        assert_books(&ended, 101);
        assert_eq!(requests(&ended), 3 * batches, "{bytes}");
    }
}

#[test]
fn a_post_waits_for_company_no_longer_than_linger() {
    let database = seeded(12);
    let run = Run::batch(&database.url())
        .with("--rate", "20")
        .with("--arrivals", "constant");
    let (ended, _) = run.clone().with("--linger", "1m").post();
    assert_eq!(requests(&ended), 3 * 2);
    let (ended, _) = run.with("--linger", "0s").post();
    assert!(requests(&ended) > 3 * 2, "{ended:?}");
}

#[test]
fn a_run_ends_after_its_duration() {
    let database = seeded(100);
    for arrivals in ["constant", "poisson"] {
        let run = Run::batch(&database.url())
            .with("--rate", "25")
            .with("--arrivals", arrivals);
        let (ended, landed) = run.with("-d", "1s").with("--random-seed", 1).post();
        let posts = landed[0].len();
        assert_books(&ended, posts as u64);
        // At 0 s, 0.04 s and so on to 1 s.
        assert!(
            if arrivals == "constant" {
                posts == 26
            } else {
                posts != 26 && (10..45).contains(&posts)
            },
            "{posts}"
        );
        assert!(ended.summary()["lateness_ms"].is_object());
    }
    let (ended, landed) = Run::batch(&database.url()).with("-d", "1m").post();
    assert_books(&ended, 100);
    assert_eq!(landed[2].len(), 100);
    assert_eq!(ended.summary()["lateness_ms"], Value::Null);
}

#[test]
fn a_demo_lands_its_posts_without_any_set_up() {
    let sandbox = Sandbox::new();
    let demo = |command: &str| {
        let ended = sandbox.run([
            command, "--demo", "-n", "200", "--rate", "max", "--format", "json",
        ]);
        assert_books(&ended, 200);
    };
    let landed = |name: &str| lines_below(&sandbox.path().join("pinemu-demo").join(name)).len();
    let seed = sandbox.path().join("pinemu-demo/seed.db");
    let made = |path: &Path| path.metadata().unwrap().modified().unwrap();
    demo("batch");
    let first = made(&seed);
    demo("stream");
    for kind in KINDS {
        assert_eq!(landed(&format!("topics/demo.{kind}")), 200);
        assert_eq!(landed(&format!("streams/demo-{kind}")), 200);
    }
    demo("batch");
    assert_eq!(landed("topics/demo.pin"), 400);
    assert_eq!(made(&seed), first);
}
