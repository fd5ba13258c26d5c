//! What cannot be run: one line on standard error that names the thing and the cure, and an exit status to branch on.

use std::{fs, net::TcpListener};

use crate::support::{Database, Ended, Sandbox, finish, server};

/// A command line, its exit status, and what its line must say.
type Case<'a> = (&'a str, i32, &'a [&'a str]);

/// Options that no failure below is about.
const TARGET: &str = "--topic-prefix t --invoke-url http://127.0.0.1:1";

#[track_caller]
fn assert_fails(line: &str, ended: &Ended, code: i32, parts: &[&str]) {
    assert_eq!(ended.code(), code, "{line}: {ended:?}");
    assert_eq!(ended.stdout, "", "{line}");
    let said = ended.said();
    let [said] = said[..] else {
        panic!("{line}: not one line: {}", ended.stderr);
    };
    assert!(said.starts_with("pinemu: "), "{line}: {said}");
    for part in parts {
        assert!(said.contains(part), "{line}: no {part:?} in: {said}");
    }
}

/// Words are split at blanks, so none of them holds one.
#[track_caller]
fn assert_all_fail(sandbox: &Sandbox, cases: &[Case<'_>]) {
    for (line, code, parts) in cases {
        let ended = sandbox.run(line.split_whitespace());
        assert_fails(line, &ended, *code, parts);
    }
}

#[test]
fn a_line_that_is_wrong_is_a_usage_error_that_names_the_cure() {
    let long = format!("batch --topic-prefix {}", "x".repeat(300));
    let cases: &[Case<'_>] = &[
        ("", 64, &["no command", "--help"]),
        ("bath", 64, &["'bath'", "'batch'"]),
        (
            "batch --rat 5",
            64,
            &["'--rat'", "a similar argument exists: '--rate'"],
        ),
        ("batch --topic-prefix a/b", 64, &["--topic-prefix", "'/'"]),
        (&long, 64, &["--topic-prefix", "244"]),
        ("batch --topic-prefix a.", 64, &["leave it out: a"]),
        ("batch --topic-prefix a-", 64, &["leave it out: a"]),
        ("stream --stream-prefix a-", 64, &["leave it out: a"]),
        ("batch --rate 0", 64, &["--rate", "greater than 0"]),
        ("batch --rate=-1", 64, &["--rate", "greater than 0"]),
        ("batch --rate 5/y", 64, &["--rate", "/s, /m or /h"]),
        ("batch -n 0", 64, &["--count", "at least 1"]),
        ("batch -n 1m", 64, &["a million is 1M, a minute is -d 1m"]),
        ("batch -d 5", 64, &["--duration", "5s"]),
        ("batch --batch-size 0", 64, &["--batch-size", "at least 1"]),
        ("batch --batch-bytes 0", 64, &["--batch-bytes"]),
        ("batch --in-flight 0", 64, &["--in-flight", "1 to 1024"]),
        ("batch --timeout 0s", 64, &["--timeout", "1ms"]),
        (
            "stream --stream-prefix a --endpoint records --batch-size 501",
            64,
            &["--batch-size", "500"],
        ),
        (
            "stream --stream-prefix a --endpoint records --batch-bytes 6MiB",
            64,
            &["--batch-bytes", "5MiB"],
        ),
        (
            "stream --stream-prefix a --linger 1s",
            64,
            &["--linger", "--endpoint record"],
        ),
        (
            "stream --stream-prefix a --batch-size 5",
            64,
            &["--batch-size", "--endpoint record"],
        ),
        (
            "batch --topic-prefix a --batch-size 1 --linger 1s",
            64,
            &["--linger", "--batch-size 1"],
        ),
        (
            "stream --stream-prefix a --endpoint records --batch-size 1 --batch-bytes 1MiB",
            64,
            &["--batch-bytes", "--batch-size 1"],
        ),
        (
            "stream --partition-key text:",
            64,
            &["--partition-key", "1 to 256"],
        ),
        (
            "batch --demo --database-url sqlite:x",
            64,
            &["--demo", "--database-url"],
        ),
        (
            "batch --demo --invoke-url http://x",
            64,
            &["--demo", "--invoke-url"],
        ),
        (
            "batch --database-url sqlite:x --invoke-url http://x",
            64,
            &["--topic-prefix"],
        ),
        (
            "stream --database-url sqlite:x --invoke-url http://x",
            64,
            &["--stream-prefix"],
        ),
        (
            "batch --topic-prefix t --invoke-url http://x",
            64,
            &["--database-url", "--demo"],
        ),
        (
            "batch --topic-prefix t --database-url sqlite:x",
            64,
            &["--invoke-url", "--demo"],
        ),
        (
            "batch --invoke-url http://h:8082/topics/t.pin",
            64,
            &["--invoke-url", "give the base: http://h:8082"],
        ),
        (
            "stream --invoke-url https://h/Prod/streams/t-pin/record",
            64,
            &["--invoke-url", "give the base: https://h/Prod"],
        ),
        (
            "batch --invoke-url 127.0.0.1:8082",
            64,
            &["--invoke-url", "http://HOST:8082"],
        ),
        (
            "batch --invoke-url localhost:8082",
            64,
            &["--invoke-url", "http://"],
        ),
        ("batch -H Accept", 64, &["--header", "'Name: value'"]),
        ("batch -q -v", 64, &["--quiet", "--verbose"]),
        ("completions tcsh", 64, &["tcsh", "bash"]),
        ("serve --partitions 0", 64, &["--partitions", "1..=1000"]),
        (
            "serve --discard --data-dir x",
            64,
            &["--discard", "--data-dir"],
        ),
        ("seed", 64, &["--database-url"]),
    ];
    assert_all_fail(&Sandbox::new(), cases);
    let ended = Sandbox::new().run(["batch", "--topic-prefix", "a b"]);
    assert_fails("a blank", &ended, 64, &["--topic-prefix", "' '"]);
}

#[test]
fn a_variable_that_is_wrong_is_named() {
    let sandbox = Sandbox::new();
    let ended = finish(sandbox.command(["batch"]).env("PINEMU_RATE", "0"));
    assert_fails(
        "PINEMU_RATE",
        &ended,
        64,
        &["PINEMU_RATE", "greater than 0"],
    );
}

#[test]
fn a_database_url_that_is_wrong_gets_the_cure() {
    let cure = "write % as %25, @ as %40, / as %2F";
    let urls = [
        ("pinterest_data", "write mysql://"),
        ("127.0.0.1:3306/d", "write mysql://"),
        ("postgres://u@h/d", "write mysql://"),
        ("mysql:h/d", "write mysql://"),
        ("mysql://u:12/34@h/d", cure),
        ("mysql://u:p/w@h/d", cure),
        ("mysql://u:p#w@h/d", cure),
        ("mysql://u:p?w@h/d", cure),
        ("mysql://u@h", "names no database"),
        ("mysql://u@h/", "names no database"),
        ("sqlite:", "sqlite:PATH"),
    ];
    let sandbox = Sandbox::new();
    for (url, part) in urls {
        for command in ["batch", "seed"] {
            let line = match command {
                "batch" => format!("batch {TARGET} --database-url {url}"),
                _ => format!("seed --database-url {url}"),
            };
            let ended = sandbox.run(line.split_whitespace());
            assert_fails(&line, &ended, 64, &["--database-url", part]);
        }
    }
}

#[test]
fn a_password_that_is_read_as_percent_encoded_gets_the_cure() {
    let mut url = server();
    url.set_path("mysql");
    // Meant as it stands, read as "wrongA".
    url.set_password(Some("wrong%41")).unwrap();
    let line = format!("batch {TARGET} --database-url {url}");
    assert_all_fail(
        &Sandbox::new(),
        &[(&line, 77, &["check user and password", "%25"])],
    );
}

#[test]
fn a_file_of_settings_that_is_wrong_is_named_with_its_line() {
    let sandbox = Sandbox::new();
    let files = [
        ("# ours\nrat = 5\n", "c.toml, line 2: unknown key rat"),
        ("rate = 0\n", "c.toml, line 1: invalid value '0' for 'rate'"),
        ("\n\nlinger = \"soon\"\n", "c.toml, line 3"),
        ("demo = \"perhaps\"\n", "line 1: demo is true or false"),
        ("rate = 5\nrate = 6\n", "line 2"),
        ("rate\n", "line 1"),
        ("rate = { a = 1 }\n", "rate is a string, a number"),
        ("topic-prefix = \"a.\"\n", "leave it out: a"),
    ];
    for (text, part) in files {
        fs::write(sandbox.path().join("c.toml"), text).unwrap();
        let ended = sandbox.run(["batch", "--config", "c.toml"]);
        assert_fails(text, &ended, 78, &[part]);
    }
    let cases: &[Case<'_>] = &[
        (
            "batch --config nowhere.toml",
            78,
            &["nowhere.toml", "No such file"],
        ),
        ("batch --config=nowhere.toml", 78, &["nowhere.toml"]),
        ("batch --config .", 78, &["--config ."]),
    ];
    assert_all_fail(&sandbox, cases);
}

#[test]
fn files_that_are_not_there_are_named() {
    let sandbox = Sandbox::new();
    sandbox.seeded(3);
    let cases: &[Case<'_>] = &[
        (
            &format!("batch {TARGET} --database-url sqlite:none.db"),
            69,
            &["there is no file none.db", "pinemu seed"],
        ),
        (
            &format!("batch {TARGET} --database-url sqlite:seed.db --cacert none.pem"),
            78,
            &["--cacert none.pem"],
        ),
        (
            &format!("batch {TARGET} --database-url sqlite:seed.db --cacert seed.db"),
            78,
            &["--cacert seed.db"],
        ),
        (
            &format!("batch {TARGET} --database-url sqlite:seed.db --api-key-file none"),
            78,
            &["none"],
        ),
        (
            &format!("batch {TARGET} --database-url mysql://u@h/d --database-password-file none"),
            78,
            &["none"],
        ),
    ];
    assert_all_fail(&sandbox, cases);
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let sandbox = Sandbox::new();
    // Permissions do not bind an administrator; a regular file in the way binds everybody.
    fs::write(sandbox.path().join("file"), "").unwrap();
    fs::write(sandbox.path().join("pinemu-demo"), "").unwrap();
    let cases: &[Case<'_>] = &[
        (
            "serve --listen 127.0.0.1:0 --data-dir file/data",
            74,
            &["file/data"],
        ),
        ("serve --listen 127.0.0.1:0 --data-dir file", 74, &["file"]),
        (
            "serve -q --listen 127.0.0.1:0 --port-file file/port",
            74,
            &["file/port"],
        ),
        ("batch --demo -n 1", 74, &["pinemu-demo"]),
        (
            "seed --database-url sqlite:file/seed.db",
            74,
            &["file/seed.db"],
        ),
    ];
    assert_all_fail(&sandbox, cases);
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let line = format!("serve --listen {address}");
    assert_all_fail(&Sandbox::new(), &[(&line, 69, &[&address])]);
}

#[test]
fn a_database_that_cannot_be_used_is_named() {
    let database = Database::new();
    let with = |change: &dyn Fn(&mut url::Url)| {
        let mut url = server();
        url.set_path(database.name());
        change(&mut url);
        format!("batch {TARGET} --database-url {url}")
    };
    let cases: &[Case<'_>] = &[
        (
            &with(&|url| url.set_host(Some("no-such-host.invalid")).unwrap()),
            69,
            &["no-such-host.invalid", "is it running"],
        ),
        (
            &with(&|url| url.set_port(Some(1)).unwrap()),
            69,
            &[":1/", "refused"],
        ),
        (
            &with(&|url| url.set_password(Some("wrong")).unwrap()),
            77,
            &["check user and password"],
        ),
        (
            &with(&|url| url.set_path("pinemu_test_none")),
            78,
            &["no database pinemu_test_none"],
        ),
        (
            &with(&|url| url.set_query(Some("charset=latin1"))),
            78,
            &["latin1", "utf8mb4"],
        ),
        (
            &with(&|_| ()),
            78,
            &["no table pinterest_data", "--pin-table", "pinemu seed"],
        ),
    ];
    assert_all_fail(&Sandbox::new(), cases);
}

#[test]
fn a_database_that_takes_the_connection_and_says_nothing_is_unreachable() {
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = mute.local_addr().unwrap().port();
    let line = format!("batch {TARGET} --database-url mysql://u@127.0.0.1:{port}/d");
    assert_all_fail(
        &Sandbox::new(),
        &[(&line, 69, &["u@127.0.0.1", "timed out"])],
    );
}

#[test]
fn tables_that_make_no_posts_are_named() {
    let database = Database::new();
    let sandbox = Sandbox::new();
    let line = format!("batch -q {TARGET} --database-url {}", database.url());
    let fails = |code, parts: &[&str]| {
        assert_all_fail(&sandbox, &[(&line, code, parts)]);
    };
    database.execute("CREATE TABLE pinterest_data (`index` INT)");
    fails(78, &["no table geolocation_data", "--geo-table"]);
    database.execute("CREATE TABLE geolocation_data (ind INT)");
    fails(78, &["no table user_data", "--user-table"]);
    database.execute("CREATE TABLE user_data (name TEXT)");
    fails(
        65,
        &["table user_data has no key column", "index, ind or idx"],
    );
    database.execute("ALTER TABLE user_data ADD ind TEXT");
    fails(65, &["ind of table user_data is text", "integers"]);
    database.execute("ALTER TABLE user_data MODIFY ind INT");
    fails(66, &["holds no rows", "pinemu seed"]);
    database.execute("INSERT INTO pinterest_data VALUES (1)");
    fails(66, &["none of the keys in ", "all three tables"]);
    let shard = format!("{line} --shard 2/2");
    let range = format!("{line} --from 1");
    assert_all_fail(
        &sandbox,
        &[
            (&shard, 66, &["none of the keys of shard 2/2 in "]),
            (
                &range,
                66,
                &["none of the keys between --from and --to in "],
            ),
        ],
    );
}

#[test]
fn seeding_over_tables_that_are_there_names_them() {
    let database = Database::new();
    let url = database.url();
    let sandbox = Sandbox::new();
    database.execute("CREATE TABLE geolocation_data (ind INT)");
    let line = format!("seed --posts 5 --database-url {url}");
    assert_all_fail(&sandbox, &[(&line, 78, &["geolocation_data", "--replace"])]);
    let ended = sandbox.run(["seed", "--posts", "5", "--replace", "--database-url", &url]);
    assert_eq!(ended.code(), 0, "{ended:?}");
    let latin = format!("seed --database-url {url}?charset=latin1");
    assert_all_fail(&sandbox, &[(&latin, 78, &["latin1"])]);
}

#[test]
fn a_target_that_refuses_connections_is_unreachable() {
    let sandbox = Sandbox::new();
    let database = sandbox.seeded(5);
    let line = format!("batch {TARGET} -q --rate max --retry-for 1s");
    let ended = sandbox.run(line.split(' ').chain(database));
    assert_fails(
        &line,
        &ended,
        69,
        &["http://127.0.0.1:1 acknowledged nothing", "refused"],
    );
    // Without -q the trouble is told once while it lasts, and the failure is the last line.
    let line = line.replace(" -q", " --format json");
    let ended = sandbox.run(line.split(' ').chain(database));
    assert_eq!(ended.code(), 69);
    let said = ended.said();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[0].contains("WARN") && said[1].starts_with("pinemu: "),
        "{said:?}"
    );
    assert_eq!(ended.summary()["outcome"], "failed");
    assert_eq!(ended.summary()["posts"]["returned"], 1);
}
