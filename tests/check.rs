//! `pinemu check`: what it finds, what it says to do, and that it sends nothing unless it is told to.

mod findings;
mod probing;

use std::{
    fs,
    net::TcpListener,
    time::{Duration, Instant, SystemTime},
};

use serde_json::{Value, json};

use crate::{
    fake::{Asked, Reply, Target},
    support::{Database, Ended, Receiver, Sandbox, server},
};

/// What the gateway says to a wrong path, a wrong stage and to a request that should have been signed.
const NO_TOKEN: &str = r#"{"message":"Missing Authentication Token"}"#;

/// A check with its findings as JSON.
struct Checked {
    ended: Ended,
    document: Value,
}

impl Checked {
    #[track_caller]
    fn new(ended: Ended) -> Self {
        let document = serde_json::from_str(&ended.stdout)
            .unwrap_or_else(|error| panic!("{error}: {ended:?}"));
        Self { ended, document }
    }

    #[track_caller]
    fn row(&self, name: &str) -> &Value {
        let rows = self.document["checks"].as_array().unwrap();
        rows.iter()
            .find(|row| row["name"] == name)
            .unwrap_or_else(|| panic!("no row {name}: {}", self.document))
    }

    fn names(&self, outcome: &str) -> Vec<&str> {
        let rows = self.document["checks"].as_array().unwrap();
        let rows = rows.iter().filter(|row| row["outcome"] == outcome);
        rows.map(|row| row["name"].as_str().unwrap()).collect()
    }

    /// The row has this outcome, and what it says and its cure hold these parts.
    #[track_caller]
    fn assert(&self, name: &str, outcome: &str, what: &[&str], cure: &[&str]) {
        let row = self.row(name);
        assert_eq!(row["outcome"], outcome, "{row}");
        for (field, parts) in [("what", what), ("cure", cure)] {
            for part in parts {
                let text = row[field].as_str().unwrap_or_default();
                assert!(text.contains(part), "{name}: no {part:?} in {field}: {row}");
            }
        }
    }

    /// Only these rows failed, and the exit status is this one.
    #[track_caller]
    fn assert_failed(&self, code: i32, names: &[&str]) {
        assert_eq!(self.ended.code(), code, "{:?}", self.ended);
        assert_eq!(self.names("failed"), names, "{}", self.document);
        assert_eq!(self.document["outcome"], "failed");
    }

    #[track_caller]
    fn assert_fine(&self) {
        assert_eq!(self.ended.code(), 0, "{:?}", self.ended);
        assert_eq!(self.names("failed"), [""; 0], "{}", self.document);
        assert_eq!(self.ended.stderr, "");
    }
}

/// `check batch` of topics `t.*` or `check stream` of streams `s-*`; the seed database of the sandbox if there is one.
#[track_caller]
fn check(sandbox: &Sandbox, command: &str, url: &str, more: &[&str]) -> Checked {
    let (flag, prefix) = match command {
        "batch" => ("--topic-prefix", "t"),
        _ => ("--stream-prefix", "s"),
    };
    let mut line = vec!["check", command, "--format", "json", "--invoke-url", url];
    if !more.contains(&flag) {
        line.extend([flag, prefix]);
    }
    if !more.contains(&"--database-url") {
        line.extend(["--database-url", "sqlite:seed.db"]);
    }
    line.extend(more);
    Checked::new(sandbox.run(line))
}

fn seeded() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.seeded(700);
    sandbox
}

/// A gateway as the tutorial builds it, in front of active streams with one shard each.
fn gateway(asked: &Asked) -> Reply {
    let segments: Vec<&str> = asked.path.trim_matches('/').split('/').collect();
    match (&*asked.method, &segments[..]) {
        ("GET", [.., "streams"]) => {
            let names = ["s-pin", "s-geo", "s-user"];
            Reply::json(
                200,
                &json!({"HasMoreStreams": false, "StreamNames": names}).to_string(),
            )
        }
        ("GET", [.., "streams", stream]) => description(stream, "ACTIVE"),
        _ => asked.all_proven(),
    }
}

fn description(stream: &str, status: &str) -> Reply {
    let description = json!({"StreamDescription": {
        "HasMoreShards": false, "RetentionPeriodHours": 24, "StreamName": stream, "StreamStatus": status,
        "Shards": [{"ShardId": "shardId-000000000000", "SequenceNumberRange": {"StartingSequenceNumber": "49"}}],
    }});
    Reply::json(200, &description.to_string())
}

fn forbidden(error_type: &str, body: &str) -> Reply {
    Reply::json(403, body).with("x-amzn-ErrorType", error_type)
}

#[test]
fn a_healthy_set_up_is_fine_at_every_proxy_and_gateway_and_nothing_is_sent() {
    let sandbox = seeded();
    let topics = "t.pin,t.geo,t.user";
    for dialect in ["confluent", "strimzi", "karapace", "redpanda"] {
        let mut receiver = Receiver::start(&["--dialect", dialect, "--topics", topics]);
        let checked = check(&sandbox, "batch", &receiver.url(), &[]);
        checked.assert_fine();
        assert_eq!(
            checked.names("warning"),
            [""; 0],
            "{dialect}: {}",
            checked.document
        );
        checked.assert("pin topic", "ok", &["t.pin"], &[]);
        checked.assert("posts", "ok", &["500 posts are whole"], &[]);
        checked.assert(
            "rate",
            "ok",
            &["2 posts/s at ", "all 700 posts once take 5m 50s"],
            &[],
        );
        assert!(receiver.landed("t.pin").is_empty(), "{dialect}");
    }
    for mapping in ["default-200", "mapped"] {
        let mut receiver =
            Receiver::start(&["--gateway", mapping, "--streams", "s-pin,s-geo,s-user"]);
        let url = format!("{}/Prod", receiver.url());
        let checked = check(&sandbox, "stream", &url, &["--rate", "1000"]);
        checked.assert_fine();
        assert_eq!(
            checked.names("warning"),
            [""; 0],
            "{mapping}: {}",
            checked.document
        );
        checked.assert(
            "pin stream",
            "ok",
            &["s-pin: ACTIVE, 1 shard, kept for 24 h"],
            &[],
        );
        checked.assert("event times", "ok", &["20", "24 h"], &[]);
        let needs = [
            "1,000 posts/s at ",
            "need 1 shard each",
            "3,000 requests/s of the 10,000",
            "(--endpoint records: 6)",
        ];
        checked.assert("rate", "ok", &needs, &[]);
        assert!(receiver.landed("s-pin").is_empty(), "{mapping}");
    }
    let left = fs::read_dir(sandbox.path()).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["seed.db"], "no state directory, no trial file");
}

#[test]
fn a_check_asks_with_get_only() {
    let sandbox = seeded();
    let target = Target::start(gateway);
    check(&sandbox, "stream", &target.url(), &["--exact"]).assert_fine();
    let asked = target.asked();
    assert!(
        asked.len() >= 4 && asked.iter().all(Asked::is_question),
        "{asked:?}"
    );
}

#[test]
fn a_healthy_set_up_takes_less_than_two_seconds() {
    let (sandbox, database) = (Sandbox::new(), Database::new());
    let url = database.url();
    let ended = sandbox.run(["seed", "--posts", "2000", "--database-url", &url]);
    assert_eq!(ended.code(), 0, "{ended:?}");
    let receiver = Receiver::start(&[]);
    // The machine may have other work; the program has not.
    let fastest = (0..3).map(|_| {
        let begun = Instant::now();
        let checked = check(
            &sandbox,
            "batch",
            &receiver.url(),
            &["--database-url", &url],
        );
        checked.assert_fine();
        checked.assert("database connection", "ok", &["takes connections"], &[]);
        checked.assert("database login", "ok", &[database.name(), "encrypted"], &[]);
        checked.assert(
            "geo table",
            "ok",
            &["geolocation_data", "about ", "key column ind, indexed"],
            &[],
        );
        begun.elapsed()
    });
    assert!(fastest.min().unwrap() < Duration::from_secs(2));
    let exact = check(
        &sandbox,
        "batch",
        &receiver.url(),
        &["--exact", "--database-url", &url],
    );
    exact.assert("geo table", "ok", &["geolocation_data: 2,000 rows"], &[]);
}

// The mistakes of learners, one after the other.

#[test]
fn a_stage_that_is_missing_from_the_invoke_url_is_named() {
    let sandbox = seeded();
    let target = Target::start(|asked| {
        if asked.path.starts_with("/Prod/") {
            return gateway(asked);
        }
        forbidden("MissingAuthenticationTokenException", NO_TOKEN)
    });
    for command in ["batch", "stream"] {
        let checked = check(&sandbox, command, &target.url(), &[]);
        checked.assert_failed(77, &["permission"]);
        let cure = format!("as in {}/Prod", target.url());
        checked.assert(
            "permission",
            "failed",
            &["Missing Authentication Token"],
            &["no stage", &cure],
        );
        checked.assert("target API", "warning", &["not tried"], &[]);
    }
    let right = format!("{}/Prod", target.url());
    check(&sandbox, "stream", &right, &[]).assert_fine();
}

#[test]
fn https_to_a_proxy_that_speaks_http_is_named() {
    let sandbox = seeded();
    let receiver = Receiver::start(&[]);
    let url = receiver.url().replace("http:", "https:");
    let checked = check(&sandbox, "batch", &url, &[]);
    checked.assert_failed(69, &["target TLS"]);
    checked.assert("target connection", "ok", &[], &[]);
    checked.assert(
        "target TLS",
        "failed",
        &[],
        &["speaks no TLS", "http:// in place of https://"],
    );
    // And the same mistake one door further: the gateway takes https, its integration has the wrong scheme.
    let body = r#"{"message":"Internal server error"}"#;
    let target = Target::start(move |_| {
        Reply::json(500, body).with("x-amzn-ErrorType", "InternalServerErrorException")
    });
    let checked = check(&sandbox, "batch", &format!("{}/Prod", target.url()), &[]);
    checked.assert_failed(69, &["target API"]);
    let cure = [
        "gets no answer from the REST proxy",
        "http:// (not https://)",
    ];
    checked.assert("target API", "failed", &["HTTP 500"], &cure);
}

#[test]
fn an_invoke_url_with_the_topic_in_it_is_a_usage_error_with_the_base() {
    for (command, path, base) in [
        (
            "batch",
            "http://h:8082/topics",
            "give the base: http://h:8082",
        ),
        (
            "batch",
            "http://h:8082/topics/t.pin",
            "give the base: http://h:8082",
        ),
        (
            "stream",
            "https://h/Prod/streams/s-pin/record",
            "give the base: https://h/Prod",
        ),
    ] {
        let ended = Sandbox::new().run(["check", command, "--invoke-url", path]);
        assert_eq!(ended.code(), 64, "{ended:?}");
        assert!(ended.stderr.contains(base), "{}", ended.stderr);
    }
}

#[test]
fn a_wrong_prefix_is_told_from_a_topic_that_nobody_made() {
    let sandbox = seeded();
    let others = "0abf7f0cd605.pin,0abf7f0cd605.geo,0abf7f0cd605.user";
    for dialect in ["confluent", "strimzi", "karapace", "redpanda"] {
        let receiver = Receiver::start(&["--dialect", dialect, "--topics", others]);
        let checked = check(
            &sandbox,
            "batch",
            &receiver.url(),
            &["--topic-prefix", "0abf7f0cd60"],
        );
        checked.assert_failed(78, &["pin topic", "geo topic", "user topic"]);
        let cure = ["is --topic-prefix 0abf7f0cd60 right, or should it be 0abf7f0cd605?"];
        checked.assert(
            "pin topic",
            "failed",
            &["there is no topic 0abf7f0cd60.pin"],
            &cure,
        );

        let receiver = Receiver::start(&["--dialect", dialect, "--topics", "t.pin,t.geo"]);
        let checked = check(&sandbox, "batch", &receiver.url(), &[]);
        checked.assert_failed(78, &["user topic"]);
        checked.assert(
            "user topic",
            "failed",
            &["there is no topic t.user"],
            &["kafka-topics.sh", "t.user"],
        );
        checked.assert("geo topic", "ok", &[], &[]);
    }
    let receiver = Receiver::start(&[
        "--streams",
        "streaming-s-pin,streaming-s-geo,streaming-s-user",
    ]);
    let checked = check(&sandbox, "stream", &receiver.url(), &[]);
    checked.assert_failed(78, &["pin stream", "geo stream", "user stream"]);
    let cure = ["--stream-prefix s right, or should it be streaming-s?"];
    checked.assert("user stream", "failed", &["no stream s-user"], &cure);
}

#[test]
fn a_stream_in_another_region_or_not_yet_active_is_named() {
    let sandbox = seeded();
    for mapping in ["default-200", "mapped"] {
        let receiver = Receiver::start(&["--gateway", mapping, "--streams", ""]);
        let checked = check(&sandbox, "stream", &receiver.url(), &[]);
        checked.assert_failed(78, &["pin stream", "geo stream", "user stream"]);
        checked.assert(
            "pin stream",
            "failed",
            &["there is no stream s-pin"],
            &["--create", "region"],
        );
    }
    let target = Target::start(|asked| {
        if asked.path == "/streams/s-geo" {
            description("s-geo", "CREATING")
        } else {
            gateway(asked)
        }
    });
    let checked = check(&sandbox, "stream", &target.url(), &[]);
    checked.assert_failed(78, &["geo stream"]);
    checked.assert(
        "geo stream",
        "failed",
        &["s-geo is CREATING"],
        &["half a minute", "--create"],
    );
}

#[test]
fn an_api_key_that_is_missing_is_named() {
    let sandbox = seeded();
    let target = Target::start(|asked| match asked.header("x-api-key") {
        Some("k123") => gateway(asked),
        _ => forbidden("ForbiddenException", r#"{"message":"Forbidden"}"#),
    });
    let checked = check(&sandbox, "stream", &target.url(), &[]);
    checked.assert_failed(77, &["permission"]);
    checked.assert(
        "permission",
        "failed",
        &["the API key is missing"],
        &["--api-key-file"],
    );
    fs::write(sandbox.path().join("key"), "k123\n").unwrap();
    let checked = check(
        &sandbox,
        "stream",
        &target.url(),
        &["--api-key-file", "key"],
    );
    checked.assert_fine();
    checked.assert("permission", "ok", &["with the credentials"], &[]);
}

#[test]
fn a_gateway_that_wants_signatures_is_named() {
    let sandbox = seeded();
    let anonymous = r#"{"Message":"User: anonymous is not authorized to perform: execute-api:Invoke on resource: arn:aws:execute-api:us-east-1:********2222:a1/Prod/GET/streams"}"#;
    for (error_type, body) in [
        ("MissingAuthenticationTokenException", NO_TOKEN),
        ("AccessDeniedException", anonymous),
    ] {
        let target = Target::start(move |_| forbidden(error_type, body));
        for command in ["batch", "stream"] {
            let checked = check(&sandbox, command, &format!("{}/Prod", target.url()), &[]);
            checked.assert_failed(77, &["permission"]);
            checked.assert(
                "permission",
                "failed",
                &[],
                &["IAM", "pinemu does not", "NONE", "API key"],
            );
        }
    }
}

#[test]
fn a_database_that_is_asleep_or_closed_is_told_soon() {
    let sandbox = Sandbox::new();
    let receiver = Receiver::start(&[]);
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
    let begun = Instant::now();
    let url = format!("mysql://u:secret@{}/d", place(&mute));
    let checked = check(
        &sandbox,
        "batch",
        &receiver.url(),
        &["--database-url", &url],
    );
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
    checked.assert_failed(69, &["database login"]);
    checked.assert("database connection", "ok", &[&place(&mute)], &[]);
    checked.assert(
        "database login",
        "failed",
        &["says nothing for 3s"],
        &["asleep", "try again"],
    );
    checked.assert("posts", "warning", &["not tried"], &[]);
    checked.assert("pin topic", "ok", &[], &[]);
    drop(mute);
    let checked = check(
        &sandbox,
        "batch",
        &receiver.url(),
        &["--database-url", &url],
    );
    checked.assert_failed(69, &["database connection"]);
    let cure = ["is the database running"];
    checked.assert(
        "database connection",
        "failed",
        &["refused the connection"],
        &cure,
    );
    let url = "mysql://u@no-such-host.invalid/d";
    let checked = check(&sandbox, "batch", &receiver.url(), &["--database-url", url]);
    checked.assert_failed(69, &["database name"]);
    checked.assert(
        "database name",
        "failed",
        &["no-such-host.invalid"],
        &["--database-url"],
    );
    let checked = check(&sandbox, "batch", &receiver.url(), &[]);
    checked.assert_failed(69, &["database login"]);
    checked.assert(
        "database login",
        "failed",
        &["no file seed.db"],
        &["pinemu seed"],
    );
}

#[test]
fn a_wrong_password_is_named() {
    let sandbox = Sandbox::new();
    let receiver = Receiver::start(&[]);
    let mut url = server();
    url.set_path("mysql");
    url.set_password(Some("wrong")).unwrap();
    let checked = check(
        &sandbox,
        "batch",
        &receiver.url(),
        &["--database-url", url.as_str()],
    );
    checked.assert_failed(77, &["database login"]);
    checked.assert("database connection", "ok", &[], &[]);
    checked.assert(
        "database login",
        "failed",
        &["refused the login"],
        &["check user and password"],
    );
    url.set_password(server().password()).unwrap();
    url.set_path("pinemu_test_none");
    let checked = check(
        &sandbox,
        "batch",
        &receiver.url(),
        &["--database-url", url.as_str()],
    );
    checked.assert_failed(78, &["database login"]);
    checked.assert(
        "database login",
        "failed",
        &["no database pinemu_test_none"],
        &["--database-url"],
    );
}

#[test]
fn tables_that_are_empty_misnamed_or_slow_are_named() {
    let (sandbox, database) = (Sandbox::new(), Database::new());
    let receiver = Receiver::start(&[]);
    let url = database.url();
    let look = |more: &[&str]| {
        check(
            &sandbox,
            "batch",
            &receiver.url(),
            &[&["--database-url", &url], more].concat(),
        )
    };
    database.execute(
        "CREATE TABLE pinterest_data (`index` INT PRIMARY KEY);
         CREATE TABLE geolocation_data (ind INT, timestamp DATETIME);
         CREATE TABLE user_data (ind INT PRIMARY KEY)",
    );
    let checked = look(&[]);
    checked.assert_failed(66, &["pin table", "geo table", "user table"]);
    checked.assert(
        "geo table",
        "failed",
        &["geolocation_data is empty"],
        &["--geo-table", "pinemu seed"],
    );
    database.execute(
        "INSERT INTO pinterest_data VALUES (1), (2), (3), (4);
         INSERT INTO geolocation_data VALUES (1, NOW()), (2, NOW()), (2, NOW());
         INSERT INTO user_data VALUES (1), (2), (3)",
    );
    look(&[]).assert_fine();
    let checked = look(&["--exact", "--order", "index"]);
    checked.assert_fine();
    let cure = ["CREATE INDEX pinemu_key ON `geolocation_data` (`ind`)"];
    checked.assert(
        "geo table",
        "warning",
        &["3 rows", "without an index"],
        &cure,
    );
    let odd = [
        "the first 2 posts are whole",
        "2 keys have no row in one of the tables and would not be posted: 3, 4",
        "geolocation_data repeats keys; 1 row beyond the first",
        "4, 3 and 3 rows",
    ];
    checked.assert("posts", "warning", &odd, &["a run posts the others"]);
    let checked = look(&["--user-table", "users"]);
    checked.assert_failed(78, &["user table"]);
    checked.assert(
        "user table",
        "failed",
        &["no table users"],
        &["--user-table"],
    );
    checked.assert("posts", "warning", &["not tried"], &[]);
    let checked = look(&["--from", "100"]);
    checked.assert_failed(66, &["posts"]);
    checked.assert("posts", "failed", &["between --from and --to"], &[]);
}

#[test]
fn a_clock_that_is_ten_minutes_off_is_named() {
    let sandbox = seeded();
    for (ahead, words) in [(true, "behind"), (false, "ahead of")] {
        let target = Target::start(move |asked| {
            let now = SystemTime::now();
            let off = Duration::from_mins(10) + Duration::from_millis(500);
            let date = if ahead { now + off } else { now - off };
            gateway(asked).with("Date", &httpdate::fmt_http_date(date))
        });
        let checked = check(&sandbox, "stream", &target.url(), &[]);
        checked.assert_fine();
        checked.assert("clock", "warning", &[words, "m"], &["set-ntp"]);
        let what = checked.row("clock")["what"].as_str().unwrap().to_owned();
        assert!(what.contains(" 10m") || what.contains(" 9m 5"), "{what}");
    }
    let near = Target::start(|asked| {
        let date = SystemTime::now() - Duration::from_secs(20);
        gateway(asked).with("Date", &httpdate::fmt_http_date(date))
    });
    let checked = check(&sandbox, "stream", &near.url(), &[]);
    checked.assert("clock", "ok", &[], &[]);
}
