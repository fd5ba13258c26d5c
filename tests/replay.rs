//! Posts in the order of their recorded times, and at their pace.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, sqlite::SqliteConnectOptions};

use crate::{
    fake::{Reply, Target},
    support::{Database, Ended, Receiver, Run, Sandbox, assert_balanced, until},
};

/// A seed database of either kind.
enum Source {
    Server(Database),
    File(Sandbox),
}

impl Source {
    fn both() -> [Self; 2] {
        [Self::Server(Database::new()), Self::File(Sandbox::new())]
    }

    fn url(&self) -> String {
        match self {
            Self::Server(database) => database.url(),
            Self::File(sandbox) => format!("sqlite:{}", sandbox.path().join("s.db").display()),
        }
    }

    fn execute(&self, sql: &str) {
        match self {
            // As lenient as those were that let the times in which are no times.
            Self::Server(database) => database.execute(&format!("SET sql_mode = ''; {sql}")),
            Self::File(sandbox) => execute_in(&sandbox.path().join("s.db"), sql),
        }
    }

    /// Makes the three tables, with these keys and times. `geo`: the columns of where and when; its indexes come with
    /// `more`. A key below 0 is left out of the other tables.
    fn make(&self, geo: &str, rows: &[(i64, Option<String>)], more: &str) {
        let mut others: Vec<_> = rows
            .iter()
            .map(|(key, _)| *key)
            .filter(|key| *key >= 0)
            .collect();
        others.sort_unstable();
        others.dedup();
        let others: Vec<_> = others.iter().map(|key| format!("({key})")).collect();
        let rows: Vec<_> = rows
            .iter()
            .map(|(key, time)| match time {
                Some(time) => format!("({key},'{time}')"),
                None => format!("({key},NULL)"),
            })
            .collect();
        let (rows, others) = (rows.join(","), others.join(","));
        self.execute(&format!(
            "CREATE TABLE geolocation_data ({geo}); INSERT INTO geolocation_data VALUES {rows}; {more};
             CREATE TABLE pinterest_data (`index` BIGINT PRIMARY KEY); INSERT INTO pinterest_data VALUES {others};
             CREATE TABLE user_data (ind BIGINT PRIMARY KEY); INSERT INTO user_data VALUES {others}"
        ));
    }

    /// A run by time, one post after the other as fast as it goes.
    fn run(&self) -> Run {
        Run::batch(&self.url()).with("--order", "time")
    }
}

fn execute_in(path: &Path, sql: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let options = SqliteConnectOptions::new().filename(path);
        let mut connection = options.create_if_missing(true).connect().await.unwrap();
        let sql = AssertSqlSafe(sql.to_owned());
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    });
}

const KEYED: &str = "ind BIGINT PRIMARY KEY, `timestamp` DATETIME(6)";
const INDEX: &str = "CREATE INDEX by_time ON geolocation_data (`timestamp`, ind)";

/// The keys of a kind in the order of landing.
fn keys_of(lines: &[String]) -> Vec<i64> {
    let key = |line: &String| {
        let record: Value = serde_json::from_str(line).unwrap();
        let key = record.get("index").or(record.get("ind"));
        key.and_then(Value::as_i64).unwrap()
    };
    lines.iter().map(key).collect()
}

/// The keys in the order of landing, the same for all kinds.
#[track_caller]
fn keys(landed: &[Vec<String>; 3]) -> Vec<i64> {
    let [pin, geo, user] = [0, 1, 2].map(|kind: usize| keys_of(&landed[kind]));
    assert_eq!(pin, geo);
    assert_eq!(pin, user);
    pin
}

#[track_caller]
fn assert_says(ended: &Ended, words: &[&str]) {
    for word in words {
        assert!(ended.stderr.contains(word), "{word}: {ended:?}");
    }
}

#[track_caller]
fn assert_ended_well(ended: &Ended) -> Value {
    assert_eq!(ended.code(), 0, "{ended:?}");
    let summary = ended.summary();
    assert_balanced(&summary);
    summary
}

/// `YYYY-MM-DD HH:MM:SS`, so many minutes after the start of 2019.
fn minutes(minutes: i64) -> String {
    let (day, minute) = (minutes / 1440, minutes % 1440);
    let (month, day) = (day / 28 + 1, day % 28 + 1);
    format!(
        "2019-{month:02}-{day:02} {:02}:{:02}:00",
        minute / 60,
        minute % 60
    )
}

/// 1,300 rows in no order; several hundred with the same time lie around the end of the first page, and every fiftieth has
/// no time. With each its minute.
fn rows() -> Vec<(i64, Option<i64>)> {
    (0..1_300)
        .map(|row| {
            let key = row * 811 % 1_300;
            let minute = match key * 37 % 1_301 {
                150..600 => 5_000,
                other if other < 150 => other,
                other => 10_000 + other * 31,
            };
            (key, (key % 50 != 7).then_some(minute))
        })
        .collect()
}

/// The keys of rows in the order of their minutes; those without one last.
fn in_order(mut rows: Vec<(i64, Option<i64>)>) -> Vec<i64> {
    rows.sort_by_key(|(key, minute)| (minute.is_none(), *minute, *key));
    rows.iter().map(|(key, _)| *key).collect()
}

#[test]
fn posts_come_by_time_then_key_and_those_without_a_time_last() {
    const NONE: [&str; 3] = ["0000-00-00 00:00:00", "NULL", "2019-00-00 00:00:00"];
    const NO_TEXT: [&str; 6] = [
        "",
        "NULL",
        "unknown",
        "2019-02-30 00:00:00",
        "0000-00-00 00:00:00",
        "1598586767",
    ];
    let [server, file] = [0, 1];
    #[rustfmt::skip]
    let all: [(usize, &str, &str, &[&str], bool); 9] = [
        (server, KEYED, INDEX, &NONE, false),
        (server, "ind BIGINT PRIMARY KEY, `Timestamp` DATETIME, INDEX (`Timestamp`)", "SELECT 1", &NONE, false),
        (server, "ind BIGINT, `timestamp` DATETIME", "SELECT 1", &NONE, false),
        (server, "ind BIGINT PRIMARY KEY, `timestamp` TIMESTAMP NULL", INDEX, &["0000-00-00 00:00:00", "NULL"], false),
        (server, "ind BIGINT PRIMARY KEY, `timestamp` VARCHAR(40)", INDEX, &NO_TEXT, false),
        (server, "ind INT UNSIGNED UNIQUE, TIMESTAMP TEXT", "SELECT 1", &NO_TEXT, true),
        (file, "ind INTEGER PRIMARY KEY, `TimeStamp` DATETIME", "CREATE INDEX i ON geolocation_data (timestamp)", &NO_TEXT, false),
        (file, "ind BIGINT, `timestamp` TEXT", INDEX, &NO_TEXT, true),
        (file, "ind BIGINT PRIMARY KEY, `timestamp`", "SELECT 1", &NO_TEXT, false),
    ];
    for (kind, geo, index, nothing, t) in all {
        let source = &Source::both()[kind];
        let text = |(key, minute): &(i64, Option<i64>)| {
            let nothing = nothing[usize::try_from(*key).unwrap() % nothing.len()];
            let text = minute.map_or_else(|| nothing.to_owned(), minutes);
            // The same times in another form, among the others, and out of order as texts.
            let text = if t && minute.is_some() && key % 3 == 0 {
                text.replace(' ', "T") + if key % 2 == 0 { "" } else { "Z" }
            } else {
                text
            };
            (*key, (text != "NULL").then_some(text))
        };
        source.make(geo, &rows().iter().map(text).collect::<Vec<_>>(), index);
        let (ended, landed) = source.run().post();
        let summary = assert_ended_well(&ended);
        assert_eq!(summary["posts"]["read"], 1_300, "{geo}");
        assert_eq!(keys(&landed), in_order(rows()), "{geo}");
        assert_says(
            &ended,
            &[
                "No time can be read in geolocation_data for 26 keys (NULL, zero or another text)",
                "posted last: 7, 57, 107",
            ],
        );
    }
}

#[test]
fn dates_are_times_too_and_so_are_fractions() {
    let source = &Source::both()[0];
    let days = [
        (1, "2020-02-01"),
        (2, "2019-12-31"),
        (3, "2020-02-01"),
        (4, "0000-00-00"),
    ];
    let days = days.map(|(key, day)| (key, Some(day.to_owned())));
    source.make(
        "ind BIGINT PRIMARY KEY, `timestamp` DATE",
        &days,
        "SELECT 1",
    );
    assert_eq!(keys(&source.run().landed()), [2, 1, 3, 4]);

    for source in Source::both() {
        let times = [
            "12:00:01",
            "12:00:00.5",
            "12:00:00.25",
            "12:00:00",
            "12:00:00.500000",
        ];
        let times: Vec<_> = (1..)
            .zip(times)
            .map(|(key, clock)| (key, Some(format!("2020-01-31 {clock}"))))
            .collect();
        source.make(
            "ind BIGINT PRIMARY KEY, `timestamp` VARCHAR(40)",
            &times,
            INDEX,
        );
        assert_eq!(keys(&source.run().landed()), [4, 3, 2, 5, 1]);
        let from = source.run().with("--from", "2020-01-31T12:00:00.26");
        assert_eq!(
            keys(&from.with("--to", "2020-01-31 12:00:00.5").landed()),
            [2, 5]
        );
    }
}

#[test]
fn rows_that_are_no_posts_are_counted_as_in_every_order() {
    for source in Source::both() {
        let times = |all: &[(i64, i64)]| -> Vec<_> {
            all.iter()
                .map(|(key, minute)| (*key, Some(minutes(*minute))))
                .collect()
        };
        // Key 3 at three times and once without, key 5 twice at the same; nobody has the others of key -1.
        let mut rows = times(&[
            (3, 30),
            (1, 20),
            (3, 10),
            (5, 15),
            (5, 15),
            (-1, 1),
            (3, 40),
            (2, 50),
        ]);
        rows.extend([(3, None), (4, None), (4, None)]);
        source.make("ind BIGINT, `timestamp` DATETIME", &rows, "SELECT 1");
        source.execute("INSERT INTO geolocation_data VALUES (NULL, '2019-01-01 00:00:00')");
        source.execute(
            "INSERT INTO pinterest_data VALUES (8), (9); INSERT INTO user_data VALUES (9)",
        );
        let (ended, landed) = source.run().post();
        let summary = assert_ended_well(&ended);
        assert_eq!(keys(&landed), [3, 5, 1, 2, 4], "{ended:?}");
        assert!(landed[1][0].contains(&minutes(10)), "{landed:?}");
        assert_eq!(summary["posts"]["incomplete"], 3);
        #[rustfmt::skip]
        assert_says(&ended, &[
            "3 keys have no row in one of the tables and were not posted: -1, 8, 9",
            "geolocation_data repeats keys; 5 rows beyond the first of their key were not posted: 3, 3, 3, 5, 4",
            "1 row of geolocation_data has no key",
            "No time can be read in geolocation_data for 1 key",
        ]);
        // In a range, the first of its key that lies there.
        let range = source.run().with("--from", "2019-01-01 00:20");
        let (ended, landed) = range.with("--to", "2019-01-01 00:30").post();
        assert_eq!(keys(&landed), [1, 3]);
        assert!(landed[1][1].contains(&minutes(30)), "{landed:?}");
        assert_says(
            &ended,
            &["for 1 key", "not posted, since they are in no range: 4"],
        );
        assert_eq!(ended.summary()["posts"]["incomplete"], 0, "{ended:?}");
    }
}

#[test]
fn a_range_holds_the_times_between_its_ends() {
    for source in Source::both() {
        let rows: Vec<_> = (0..48)
            .map(|half| (half, Some(minutes(half * 30))))
            .collect();
        let more = [(48, Some(minutes(1_440))), (49, None)];
        source.make(KEYED, &[&rows[..], &more].concat(), INDEX);
        #[rustfmt::skip]
        let all: [(&[(&str, &str)], std::ops::Range<i64>); 6] = [
            (&[("--to", "2019-01-01")], 0..48),
            (&[("--from", "2019-01-01"), ("--to", "2019-01-01")], 0..48),
            (&[("--from", "2019-01-01 23:30")], 47..49),
            (&[("--from", "2019-01-01T10:00:00.5"), ("--to", "2019-01-01 11:00")], 21..23),
            (&[("--from", "2019-01-01 10:00"), ("--to", "2019-01-01 10:59:59")], 20..22),
            (&[("--from", "2019-01-02"), ("--to", "2019-01-02")], 48..49),
        ];
        for (range, expected) in all {
            let run = range
                .iter()
                .fold(source.run(), |run, (flag, time)| run.with(flag, *time));
            let (ended, landed) = run.post();
            assert_ended_well(&ended);
            assert_eq!(keys(&landed), expected.collect::<Vec<_>>(), "{range:?}");
            assert_says(&ended, &["for 1 key", "in no range: 49"]);
        }
        let (code, said) = source.run().with("--from", "2019-01-03").fail();
        assert_eq!(code, 66, "{said}");
        assert!(said.contains("between --from and --to"), "{said}");
    }
}

#[test]
fn a_table_that_cannot_be_read_by_time_is_refused_with_the_cure() {
    for (geo, url, code, words) in [
        (
            "ind BIGINT, at DATETIME",
            "",
            65,
            ["no column timestamp", "--order index"],
        ),
        (
            "ind BIGINT, `timestamp` BIGINT",
            "",
            65,
            [
                "timestamp of table geolocation_data is bigint",
                "--order index",
            ],
        ),
        (
            "ind BIGINT, `timestamp` TIMESTAMP",
            "?time-zone=SYSTEM",
            78,
            ["TIMESTAMP column", "time-zone=UTC"],
        ),
    ] {
        let source = &Source::both()[0];
        source.make(geo, &[(1, Some("1".to_owned()))], "SELECT 1");
        let run = Run::batch(&format!("{}{url}", source.url())).with("--order", "time");
        let (ended_with, said) = run.fail();
        assert_eq!(ended_with, code, "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        for word in words {
            assert!(said.contains(word), "{word}: {said}");
        }
        let (ended, _) = run.with("--order", "index").post();
        assert_eq!(ended.code(), 0, "{ended:?}");
    }
    let offset = &Source::both()[0];
    let noon = Some("2020-01-31 12:00:00".to_owned());
    offset.make(
        "ind BIGINT, `timestamp` TIMESTAMP",
        &[(1, noon)],
        "SELECT 1",
    );
    let run = Run::batch(&format!("{}?time-zone=%2B02:00", offset.url())).with("--order", "time");
    let landed = run.with("--from", "2020-01-31 14:00").landed();
    assert!(landed[1][0].contains("2020-01-31 14:00:00"), "{landed:?}");
}

#[test]
fn without_an_index_the_one_to_make_is_told_and_works() {
    for source in Source::both() {
        let rows: Vec<_> = (0..300)
            .map(|key| (key, Some(minutes(key * 7 % 300))))
            .collect();
        source.make("ind BIGINT, `timestamp` DATETIME", &rows, "SELECT 1");
        let (ended, landed) = source.run().post();
        let statement = "CREATE INDEX pinemu_time ON `geolocation_data` (`timestamp`, `ind`)";
        assert_says(&ended, &[statement]);
        source.execute(statement);
        let (again, landed_again) = source.run().post();
        assert!(!again.stderr.contains("pinemu_time"), "{again:?}");
        assert_eq!(landed, landed_again);
    }
}

#[test]
fn all_of_recorded_time_fits_into_the_time_that_is_asked_for() {
    let sandbox = Sandbox::new();
    sandbox.seeded(3_000);
    let url = format!("sqlite:{}", sandbox.path().join("seed.db").display());
    let run = Run::batch(&url).with("--order", "time").without("--rate");
    let (ended, landed) = run.clone().with("--fit", "4s").post();
    let summary = assert_ended_well(&ended);
    let elapsed = summary["elapsed_s"].as_f64().unwrap();
    // A busy machine may need a moment for the last answer.
    assert!((4.0..5.5).contains(&elapsed), "{elapsed}");
    assert_eq!(summary["posts"]["delivered"], 3_000);
    assert!(summary["asked_posts_per_s"].is_null() && summary["random_seed"].is_null());
    assert!(summary["lateness_ms"]["p50"].is_number());
    let times: Vec<_> = landed[1]
        .iter()
        .map(|line| {
            let record: Value = serde_json::from_str(line).unwrap();
            let key = record["ind"].as_i64().unwrap();
            (record["timestamp"].as_str().unwrap().to_owned(), key)
        })
        .collect();
    assert!(times.is_sorted());
    assert_says(
        &ended,
        &["Posting by time, replaying 5.1 years in 4s, 40,100,000x: "],
    );

    // The middle of the recorded time is played in the middle of the run.
    let half = run.with("--fit", "4s").with("-d", "2s");
    let (ended, landed) = half.post();
    assert_ended_well(&ended);
    let middle = "2020-06-16";
    let late = times
        .iter()
        .filter(|(time, _)| time.as_str() < middle)
        .count();
    assert!(
        landed[0].len().abs_diff(late) < 60,
        "{} {late}",
        landed[0].len()
    );
}

/// When the pins arrived, in seconds after the first.
fn arrivals(receiver: &mut Receiver) -> Vec<f64> {
    let times: Vec<_> = receiver
        .landed("s-pin")
        .iter()
        .map(|line| {
            let record: Value = serde_json::from_str(line).unwrap();
            record["approximateArrivalTimestamp"].as_f64().unwrap()
        })
        .collect();
    times.iter().map(|time| time - times[0]).collect()
}

#[test]
fn posts_arrive_as_they_were_recorded_and_long_silences_are_cut() {
    // After 0, 1, 1, 3 hours and four days, and one without a time.
    let hours = [0, 1, 1, 3, 99];
    let mut rows: Vec<_> = (0..)
        .zip(hours)
        .map(|(key, hour)| (key, Some(minutes(hour * 60))))
        .collect();
    rows.push((5, None));
    #[rustfmt::skip]
    let all: [(&[(&str, &str)], &[f64], &str); 4] = [
        (&[("--speed", "7200")], &[0.0, 0.5, 0.5, 1.5], "replaying 4.1 days in 50s, 7,200x, 4 posts:"),
        (&[("--speed", "7200x"), ("--max-gap", "90m")], &[0.0, 0.5, 0.5, 1.25, 2.0, 2.0], "replaying 4.1 days (4h with silences cut to 1h 30m) in 2s, 7,200x:"),
        (&[("--fit", "2s"), ("--max-gap", "1h")], &[0.0, 0.67, 0.67, 1.33, 2.0, 2.0], "(3h with silences cut to 1h) in 2s, 5,400x:"),
        (&[("--fit", "1s"), ("--from", "2019-01-01 01:00"), ("--to", "2019-01-01")], &[0.0, 0.0, 1.0], "replaying 2h in 1s, 7,200x:"),
    ];
    for source in Source::both() {
        source.make(KEYED, &rows, INDEX);
        for (options, expected, announced) in all {
            let mut receiver = Receiver::start(&[]);
            let run = Run::stream(&source.url())
                .with("--order", "time")
                .with("--partition-key", "kind")
                .without("--rate");
            let mut run = options
                .iter()
                .fold(run, |run, (flag, value)| run.with(flag, *value));
            if expected.len() == 4 {
                run = run.with("-n", 4);
            }
            let ended = run.to(&receiver);
            assert_ended_well(&ended);
            assert_says(&ended, &[announced]);
            let arrived = arrivals(&mut receiver);
            let near = |(arrived, due): (&f64, &f64)| (due - 0.4..due + 0.4).contains(arrived);
            assert_eq!(arrived.len(), expected.len(), "{ended:?}");
            assert!(
                arrived.iter().zip(expected).all(near),
                "{options:?} {arrived:?}"
            );
        }
    }
}

#[test]
fn shards_post_their_parts_of_the_whole_in_its_order_and_at_its_times() {
    for source in Source::both() {
        let text = |(key, minute): &(i64, Option<i64>)| (*key, minute.map(minutes));
        source.make(KEYED, &rows().iter().map(text).collect::<Vec<_>>(), INDEX);
        let whole = in_order(rows());
        for number in 1..=3 {
            let run = source.run().with("--shard", format_args!("{number}/3"));
            let (ended, landed) = run.post();
            assert_ended_well(&ended);
            let part: Vec<_> = whole
                .iter()
                .copied()
                .filter(|key| key % 3 == number - 1)
                .collect();
            assert_eq!(keys(&landed), part);
            let untimed = part.iter().filter(|key| *key % 50 == 7).count();
            assert_says(&ended, &[&format!("geolocation_data for {untimed} keys")]);
        }
    }
    let source = Source::File(Sandbox::new());
    let rows: Vec<_> = (0..)
        .zip([0, 1, 1, 3, 99])
        .map(|(key, hour)| (key, Some(minutes(hour * 60))))
        .collect();
    source.make(KEYED, &rows, INDEX);
    let mut receiver = Receiver::start(&[]);
    let run = Run::stream(&source.url())
        .with("--order", "time")
        .with("--partition-key", "kind")
        .without("--rate")
        .with("--fit", "2s")
        .with("--max-gap", "1h")
        .with("--shard", "2/2");
    let summary = assert_ended_well(&run.to(&receiver));
    // Of 0, 0.67, 0.67, 1.33 and 2 s the second and the fourth.
    let [_, second] = arrivals(&mut receiver)[..] else {
        panic!("{summary}")
    };
    assert!((0.4..1.0).contains(&second), "{second}");
    let elapsed = summary["elapsed_s"].as_f64().unwrap();
    assert!((1.2..2.4).contains(&elapsed), "{elapsed}");
}

/// The options of runs that keep their state in one directory.
fn line<'a>(url: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    #[rustfmt::skip]
    let line = [
        "batch", "--topic-prefix", "t", "--database-url", "sqlite:s.db", "--invoke-url", url, "--state-dir", "kept",
        "--in-flight", "1", "--batch-size", "1", "--format", "json",
    ];
    line.iter().chain(more).copied().collect()
}

/// A file with two posts at each of four times and three without; the keys in the order of posting.
fn with_few_rows() -> (Sandbox, Vec<i64>) {
    let source = Source::File(Sandbox::new());
    let rows = (0..11).map(|key| (key, (key < 8).then_some(7 - key / 2)));
    let texts: Vec<_> = rows
        .clone()
        .map(|(key, minute)| (key, minute.map(minutes)))
        .collect();
    source.make(KEYED, &texts, INDEX);
    let Source::File(sandbox) = source else {
        unreachable!()
    };
    (sandbox, in_order(rows.collect()))
}

#[test]
fn runs_that_go_on_post_what_one_run_would_have_posted() {
    for (unindexed, parts) in [(false, vec![1; 11]), (true, vec![3, 4, 1, 1, 2])] {
        let (sandbox, expected) = with_few_rows();
        if unindexed {
            execute_in(&sandbox.path().join("s.db"), "DROP INDEX by_time");
        }
        let mut receiver = Receiver::start(&[]);
        let url = receiver.url();
        for (turn, count) in parts.iter().enumerate() {
            let count = count.to_string();
            let order = if turn == 0 {
                "--order=time"
            } else {
                "--resume"
            };
            let more = ["--rate", "max", "-n", &count, order];
            let ended = sandbox.run(line(&url, &more));
            let summary = assert_ended_well(&ended);
            assert_eq!(summary["posts"]["read"].to_string(), count, "{ended:?}");
        }
        let ended = sandbox.run(line(&url, &["--rate", "max", "--resume"]));
        assert_eq!(assert_ended_well(&ended)["posts"]["read"], 0);
        assert_says(&ended, &["Nothing is left to post."]);
        assert_eq!(keys_of(&receiver.landed("t.pin")), expected);
    }
}

#[test]
fn a_run_that_is_killed_goes_on_at_the_first_post_that_is_not_settled() {
    // In the middle of equal times, at the last time, at the first post without one, and in the middle of those.
    for (signal, turn) in [
        ("KILL", 2),
        ("TERM", 3),
        ("KILL", 7),
        ("KILL", 8),
        ("TERM", 8),
        ("KILL", 9),
    ] {
        let (sandbox, expected) = with_few_rows();
        let key = expected[turn];
        let stuck = Target::start(move |asked| {
            asked.or_there(|asked| match asked.records().first() {
                Some(record)
                    if record["value"]["ind"] == json!(key)
                        || record["value"]["index"] == json!(key) =>
                {
                    Reply::Hang
                }
                _ => asked.all_proven(),
            })
        });
        let url = stuck.url();
        let more = ["--rate", "max", "--order", "time", "--grace", "0s"];
        let run = sandbox.start(line(&url, &more));
        until("post that hangs", || {
            let hanging = stuck
                .sent_to("t.pin")
                .iter()
                .filter(|asked| asked.body.contains(&format!("\"index\":{key}}}")))
                .count();
            (hanging > 0).then_some(())
        });
        // Settled, and written down by a thread of its own.
        until("checkpoint", || {
            let text = fs::read_to_string(sandbox.path().join("kept/checkpoint.json")).ok()?;
            let checkpoint: Value = serde_json::from_str(&text).ok()?;
            (checkpoint["posts"] == turn).then_some(())
        });
        run.signal(signal);
        run.wait();
        let mut receiver = Receiver::start(&[]);
        let url = receiver.url();
        let ended = sandbox.run(line(&url, &["--rate", "max", "--resume", "--moved"]));
        assert_ended_well(&ended);
        assert_eq!(
            keys_of(&receiver.landed("t.pin")),
            expected[turn..],
            "{signal} {turn}"
        );
    }
}

#[test]
fn a_replay_that_goes_on_starts_its_clock_at_the_first_post_left() {
    let (sandbox, expected) = with_few_rows();
    let mut receiver = Receiver::start(&[]);
    let url = receiver.url();
    // Eight posts within three minutes; two of them are left out of the first part.
    let post = |more: &[&str], posts: u32, seconds: std::ops::Range<f64>| {
        let started = Instant::now();
        let ended = sandbox.run(line(&url, more));
        let summary = assert_ended_well(&ended);
        assert_eq!(summary["posts"]["read"], posts, "{ended:?}");
        let elapsed = summary["elapsed_s"].as_f64().unwrap();
        assert!(seconds.contains(&elapsed), "{elapsed}");
        assert!(started.elapsed() < Duration::from_secs(20));
        ended
    };
    post(
        &["--order", "time", "--speed", "60", "-n", "3"],
        3,
        1.0..1.9,
    );
    // As recorded the next one would be due after a minute.
    post(&["--resume", "--speed", "1", "-n", "1"], 1, 0.0..0.9);
    let ended = post(&["--resume", "--fit", "1s"], 7, 1.0..1.9);
    assert_says(&ended, &["replaying 1m in 1s, 60x, after 4: "]);
    let ended = post(&["--resume", "--fit", "10s"], 0, 0.0..0.9);
    assert_says(&ended, &["Nothing is left to post."]);
    assert_eq!(keys_of(&receiver.landed("t.pin")), expected);
}

#[test]
fn a_resumed_run_has_the_range_that_is_recorded_or_is_refused() {
    let (sandbox, _) = with_few_rows();
    let receiver = Receiver::start(&[]);
    let url = receiver.url();
    let range = ["--from", "2019-01-01", "--to", "2019-01-01T00:06"];
    let first = [&["--order", "time", "--rate", "max", "-n", "1"][..], &range].concat();
    assert_ended_well(&sandbox.run(line(&url, &first)));
    for (more, words) in [
        (
            ["--from", "2019-01-02"],
            ["--from 2019-01-01,", "--from 2019-01-02"],
        ),
        (
            ["--to", "2019-01-01"],
            ["--to 2019-01-01 00:06:00", "--to 2019-01-01;"],
        ),
        (["--from", "5"], ["--from 2019-01-01,", "--from 5"]),
        (["--order", "index"], ["--order time", "--order index"]),
    ] {
        let ended = sandbox.run(line(
            &url,
            &[&["--resume", "--rate", "max"][..], &more].concat(),
        ));
        assert_eq!(ended.code(), 78, "{ended:?}");
        assert_says(&ended, &words);
    }
    let ended = sandbox.run(line(
        &url,
        &[&["--resume", "--rate", "max"][..], &range].concat(),
    ));
    // Six of the eight lie in it.
    assert_eq!(assert_ended_well(&ended)["posts"]["read"], 5);
}

#[test]
fn the_requests_of_a_dry_run_come_by_time() {
    let (sandbox, expected) = with_few_rows();
    let ended = sandbox.run([
        "batch",
        "--topic-prefix",
        "t",
        "--database-url",
        "sqlite:s.db",
        "--order",
        "time",
        "--fit",
        "1h",
        "--dry-run",
        "-n",
        "11",
        "--batch-size",
        "1",
    ]);
    assert_eq!(ended.code(), 0, "{ended:?}");
    let pins: Vec<_> = ended.stdout.split("\"index\":").skip(1).collect();
    let shown: Vec<i64> = pins
        .iter()
        .map(|pin| pin.split('}').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(shown, expected);
}

#[test]
fn an_option_that_would_do_nothing_is_refused_with_the_cure() {
    for (options, words) in [
        ("--speed 10", ["--speed", "--order time"]),
        ("--fit 10m --order index", ["--fit", "--order time"]),
        ("--max-gap 1h", ["--max-gap", "--order time"]),
        (
            "--order time --max-gap 1h",
            ["--max-gap", "--speed or --fit"],
        ),
        ("--order time --speed 2 --fit 1h", ["--speed", "--fit"]),
        ("--order time --speed 2 --rate 5", ["--rate", "--speed"]),
        (
            "--order time --fit 1h --arrivals constant",
            ["--arrivals", "--fit"],
        ),
        (
            "--rate max --arrivals constant",
            ["--arrivals", "--rate max"],
        ),
        ("--order time --from 5", ["--from 5 is a key", "2020-01-31"]),
        ("--order time --to=-5", ["--to -5 is a key", "2020-01-31"]),
        (
            "--to 2020-01-31",
            ["--to 2020-01-31 is a time", "--order time"],
        ),
        (
            "--order index --from 2020-01-31T12:00",
            ["--from 2020-01-31 12:00:00 is a time", "--order time"],
        ),
        (
            "--order time --from 31.1.2020",
            ["--from", "2020-01-31 12:00"],
        ),
        (
            "--order time --from 2020-02-30",
            ["--from", "2020-01-31 12:00"],
        ),
        ("--order time --speed 0", ["--speed", "above 0"]),
        ("--order time --speed fast", ["--speed", "above 0"]),
        ("--order time --fit 10", ["--fit", "10s"]),
    ] {
        let sandbox = Sandbox::new();
        let line = format!(
            "batch --topic-prefix t --database-url sqlite:s.db --invoke-url http://x {options}"
        );
        let ended = sandbox.run(line.split(' '));
        assert_eq!(ended.code(), 64, "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        assert_says(&ended, &words);
        assert!(
            !sandbox.path().join("state").exists(),
            "{options}: it made a state directory"
        );
    }
}

#[test]
fn of_speed_and_fit_the_one_that_is_nearer_to_the_user_counts() {
    let (sandbox, _) = with_few_rows();
    let receiver = Receiver::start(&[]);
    let url = receiver.url();
    let file = "order = \"time\"\nspeed = 60\nfrom = 2019-01-01\nto = 2019-01-01T23:00:00\n";
    fs::write(sandbox.path().join("c.toml"), file).unwrap();
    for (flags, announced) in [
        (&["-n", "1"][..], "replaying 3m in 3s, 60x, 1 post"),
        (
            &["-n", "1", "--fit", "6s"],
            "replaying 3m in 6s, 30x, 1 post",
        ),
    ] {
        let ended = sandbox.run(line(&url, &[&["--config", "c.toml"][..], flags].concat()));
        assert_eq!(ended.code(), 0, "{ended:?}");
        assert_says(&ended, &[announced]);
    }
    // Here it is no flag that does nothing.
    let other = [
        "--config", "c.toml", "--order", "index", "--from", "0", "--to", "9", "-n", "1",
    ];
    let ended = sandbox.run(line(&url, &other));
    assert_eq!(ended.code(), 0, "{ended:?}");
    fs::write(
        sandbox.path().join("c.toml"),
        format!("{file}fit = \"1h\"\n"),
    )
    .unwrap();
    let ended = sandbox.run(line(&url, &["--config", "c.toml"]));
    assert_eq!(ended.code(), 64, "{ended:?}");
    assert_says(&ended, &["--speed and --fit exclude one another"]);
}
