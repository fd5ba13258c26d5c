//! A database that goes away, comes back, loses a table or loses patience. Each test has a server of its own.

use std::{
    env, fs,
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Receiver, Sandbox, assert_balanced, until};

/// A program of MariaDB.
fn program(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let mut programs = dirs.map(|dir| dir.join(name));
    programs
        .find(|program| program.exists())
        .unwrap_or_else(|| panic!("no {name} here: install mariadb-server, or let tests/run do it"))
}

/// What all servers start from: it takes seconds to make. Stays until the next test run has the operating system clean up.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<TempDir> = OnceLock::new();
    let dir = TEMPLATE.get_or_init(|| {
        let dir = TempDir::new().unwrap();
        let data = dir.path().join("data");
        let made = Command::new(program("mariadb-install-db"))
            .args(["--no-defaults", "--auth-root-authentication-method=normal"])
            .args(["--skip-test-db", "--innodb-log-file-size=8M"])
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--user={}", user()))
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        dir
    });
    dir.path()
}

fn user() -> String {
    let id = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(id.stdout).unwrap().trim().to_owned()
}

/// A MariaDB that can be killed and started again, where it was.
pub(crate) struct Server {
    dir: TempDir,
    port: u16,
    options: Vec<String>,
    process: Option<Child>,
}

impl Server {
    /// With a database `seed`.
    fn start() -> Self {
        Self::start_with(Vec::new())
    }

    /// `options`: further ones of the server.
    pub(crate) fn start_with(options: Vec<String>) -> Self {
        let dir = TempDir::new().unwrap();
        let copied = Command::new("cp")
            .arg("-r")
            .arg(template().join("data"))
            .arg(dir.path())
            .status()
            .unwrap();
        assert!(copied.success());
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let mut server = Self {
            dir,
            port,
            options,
            process: None,
        };
        server.start_again();
        server.execute("CREATE DATABASE seed; CREATE USER p@'127.0.0.1' IDENTIFIED BY 'w'; GRANT ALL ON seed.* TO p@'127.0.0.1'");
        server
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn start_again(&mut self) {
        assert!(self.process.is_none());
        let log = File::create(self.path("log")).unwrap();
        let process = Command::new(program("mariadbd"))
            .args([
                "--no-defaults",
                "--bind-address=127.0.0.1",
                "--skip-log-bin",
            ])
            .args([
                "--innodb-flush-log-at-trx-commit=0",
                "--innodb-log-file-size=8M",
            ])
            .arg(format!("--user={}", user()))
            .arg(format!("--port={}", self.port))
            .arg(format!("--datadir={}", self.path("data").display()))
            .arg(format!("--socket={}", self.path("socket").display()))
            .arg(format!("--pid-file={}", self.path("pid").display()))
            .args(&self.options)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(process);
        until("database", || {
            self.client("SELECT 1").success().then_some(())
        });
    }

    fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    fn client(&self, sql: &str) -> std::process::ExitStatus {
        Command::new(program("mariadb"))
            .args(["--no-defaults", "-u", "root", "-e", sql])
            .arg(format!("--socket={}", self.path("socket").display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap()
    }

    pub(crate) fn execute(&self, sql: &str) {
        assert!(self.client(sql).success(), "{sql}");
    }

    /// Three tables with the keys 1 to `posts`; `bytes` in each row of the first, so that pages hold few of them.
    pub(crate) fn fill(&self, posts: u32, bytes: u32, key: &str) {
        for (table, name, bytes) in [
            ("pinterest_data", "index", bytes),
            ("geolocation_data", "ind", 10),
            ("user_data", "ind", 10),
        ] {
            self.execute(&format!(
                "USE seed; CREATE TABLE {table} (`{name}` BIGINT {key}, text TEXT);
                 INSERT INTO {table} SELECT seq, REPEAT('x', {bytes}) FROM seq_1_to_{posts}"
            ));
        }
        // What is killed a moment later has been written.
        self.execute("FLUSH TABLES; SET GLOBAL innodb_flush_log_at_trx_commit = 1; CREATE TABLE seed.last (n INT) ENGINE=InnoDB");
    }

    /// Gives the rows of where and when a time, in no order and without an index, and so many bytes more.
    fn fill_times(&self, bytes: u32) {
        self.execute(&format!(
            "ALTER TABLE seed.geolocation_data ADD timestamp DATETIME, ADD more TEXT;
             UPDATE seed.geolocation_data SET timestamp = '2020-01-01' + INTERVAL ind * 7 % 1000 SECOND, more = REPEAT('x', {bytes});
             FLUSH TABLES"
        ));
    }

    pub(crate) fn url(&self) -> String {
        format!("mysql://p:w@127.0.0.1:{}/seed", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.kill();
        }
    }
}

/// A run whose output can be read while it works.
struct Run {
    process: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Run {
    fn start(sandbox: &Sandbox, server: &Server, receiver: &Receiver, more: &[&str]) -> Self {
        let [stdout, stderr] = ["stdout", "stderr"].map(|name| sandbox.path().join(name));
        let (database, target) = (server.url(), receiver.url());
        #[rustfmt::skip]
        let line = [
            "batch", "--topic-prefix", "t", "--database-url", &database, "--invoke-url", &target, "--state-dir", "kept",
            "--format", "json", "--linger", "20ms",
        ];
        let steady: &[&str] = if more.contains(&"max") {
            &[]
        } else {
            &["--arrivals", "constant"]
        };
        let process = sandbox
            .command(line.iter().chain(more).chain(steady))
            .stdout(File::create(&stdout).unwrap())
            .stderr(File::create(&stderr).unwrap())
            .spawn()
            .unwrap();
        Self {
            process,
            stdout,
            stderr,
        }
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap()
    }

    #[track_caller]
    fn until_said(&self, what: &str) {
        until(what, || self.said().contains(what).then_some(()));
    }

    /// Waits for its end: the exit status and the summary.
    #[track_caller]
    fn end(mut self) -> (Option<i32>, Value, String) {
        let status = self.process.wait().unwrap();
        let summary = fs::read(&self.stdout).unwrap();
        let summary = serde_json::from_slice(&summary)
            .unwrap_or_else(|error| panic!("{error}: {status} {}", self.said()));
        assert_balanced(&summary);
        (status.code(), summary, self.said())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// How often each of the keys 1, 2, … landed with all of its records, in the order of landing.
fn keys(receiver: &mut Receiver) -> Vec<i64> {
    let [pin, geo, user] =
        [("pin", "index"), ("geo", "ind"), ("user", "ind")].map(|(kind, key)| {
            receiver
                .landed(&format!("t.{kind}"))
                .iter()
                .map(|line| {
                    let record: Value = serde_json::from_str(line).unwrap();
                    record[key].as_i64().unwrap()
                })
                .collect::<Vec<_>>()
        });
    let sorted = |mut keys: Vec<_>| {
        keys.sort_unstable();
        keys
    };
    let pin = sorted(pin);
    assert_eq!(pin, sorted(geo));
    assert_eq!(pin, sorted(user));
    pin
}

const WENT_AWAY: &str = "The database went away";

#[test]
fn a_database_that_is_killed_and_started_again_costs_a_run_nothing_but_time() {
    for (order, posts, bytes) in [
        ("index", 3_000, 5_000),
        ("random", 4_000, 100),
        ("time", 3_000, 100),
    ] {
        let (sandbox, mut server) = (Sandbox::new(), Server::start());
        server.fill(posts, bytes, "PRIMARY KEY");
        if order == "time" {
            server.fill_times(5_000);
        }
        let mut receiver = Receiver::start(&[]);
        let count = posts.to_string();
        let more = ["--order", order, "--rate", "1000/s", "-n", &count];
        let run = Run::start(&sandbox, &server, &receiver, &more);
        until("first record", || receiver.has("t.user").then_some(()));
        server.kill();
        run.until_said(WENT_AWAY);
        server.start_again();
        let (code, summary, said) = run.end();
        assert_eq!(code, Some(0), "{order}: {said}");
        assert_eq!(summary["posts"]["delivered"], posts, "{order}: {said}");
        assert_eq!(said.matches(WENT_AWAY).count(), 1, "{order}: {said}");
        assert_eq!(
            keys(&mut receiver),
            (1..=i64::from(posts)).collect::<Vec<_>>(),
            "{order}"
        );
    }
}

/// A run that goes on posts what is left of 3,000, and nothing twice.
#[track_caller]
fn assert_the_rest_follows(
    sandbox: &Sandbox,
    server: &Server,
    receiver: &mut Receiver,
    before: u64,
) {
    let resumed = ["--rate", "max", "--resume"];
    let (code, summary, said) = Run::start(sandbox, server, receiver, &resumed).end();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(summary["posts"]["delivered"], 3_000 - before);
    assert_eq!(keys(receiver), (1..=3_000).collect::<Vec<_>>());
}

#[test]
fn a_database_that_stays_away_ends_the_run_which_can_go_on_later() {
    let (sandbox, mut server) = (Sandbox::new(), Server::start());
    server.fill(3_000, 5_000, "PRIMARY KEY");
    let mut receiver = Receiver::start(&[]);
    let more = ["--order", "index", "--rate", "1000/s", "--retry-for", "2s"];
    let run = Run::start(&sandbox, &server, &receiver, &more);
    until("first record", || receiver.has("t.user").then_some(()));
    let away = Instant::now();
    server.kill();
    run.until_said(WENT_AWAY);
    let (code, summary, said) = run.end();
    assert_eq!(code, Some(69), "{said}");
    assert!(away.elapsed() > Duration::from_secs(2), "{said}");
    assert!(
        away.elapsed() < Duration::from_secs(12),
        "{:?}",
        away.elapsed()
    );
    assert_eq!(summary["outcome"], "failed");
    assert!(said.contains("cannot reach the database"), "{said}");
    let before = summary["posts"]["delivered"].as_u64().unwrap();
    assert!((1..3_000).contains(&before), "{summary}");
    server.start_again();
    assert_the_rest_follows(&sandbox, &server, &mut receiver, before);
}

#[test]
fn a_table_that_goes_in_the_middle_ends_the_run_which_can_go_on_once_it_is_back() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.fill(3_000, 5_000, "PRIMARY KEY");
    let mut receiver = Receiver::start(&[]);
    let more = ["--order", "index", "--rate", "1000/s"];
    let run = Run::start(&sandbox, &server, &receiver, &more);
    until("first record", || receiver.has("t.user").then_some(()));
    server.execute("RENAME TABLE seed.pinterest_data TO seed.gone");
    let (code, summary, said) = run.end();
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("a table of the database"), "{said}");
    assert!(!said.contains(WENT_AWAY), "{said}");
    let before = summary["posts"]["delivered"].as_u64().unwrap();
    assert!((1..3_000).contains(&before), "{summary}");
    server.execute("RENAME TABLE seed.gone TO seed.pinterest_data");
    assert_the_rest_follows(&sandbox, &server, &mut receiver, before);
}

#[test]
fn a_server_that_is_impatient_with_slow_readers_does_not_end_a_slow_run() {
    let made_anew = "The database closed a connection";
    // The rate makes a run rest longer between two look-ups than the server allows. Without an index it reads one long
    // result instead, larger than what the network holds, which takes longer than the server allows a statement.
    let rest = "wait_timeout = 1; SET GLOBAL net_write_timeout = 1";
    #[rustfmt::skip]
    let cases = [
        (rest, "index", "PRIMARY KEY", 2_000, 11_000, "100/s", 500, true),
        (rest, "index", "", 2_000, 15_000, "100/s", 500, false),
        (rest, "random", "PRIMARY KEY", 2_000, 100, "400/s", 2_200, true),
        (rest, "time", "PRIMARY KEY", 10_000, 100, "20/s", 160, true),
        ("max_statement_time = 0.2", "index", "PRIMARY KEY", 4_000, 11_000, "400/s", 2_400, true),
        ("max_statement_time = 1", "index", "", 4_000, 11_000, "400/s", 2_400, true),
    ];
    for (limit, order, key, posts, bytes, rate, count, is_cut) in cases {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        server.fill(posts, bytes, key);
        if order == "time" {
            server.fill_times(3_000);
        }
        server.execute(&format!("SET GLOBAL {limit}"));
        let mut receiver = Receiver::start(&[]);
        let (count, posts) = (count.to_string(), i64::from(posts));
        let more = ["-v", "--order", order, "--rate", rate, "-n", &count];
        let (code, summary, said) = Run::start(&sandbox, &server, &receiver, &more).end();
        assert_eq!(code, Some(0), "{order} {key}: {said}");
        assert_eq!(
            said.contains(made_anew),
            is_cut,
            "{limit} {order} {key}: {said}"
        );
        assert!(!said.contains(WENT_AWAY), "{order} {key}: {said}");
        assert_eq!(summary["posts"]["delivered"].to_string(), count);
        let mut keys = keys(&mut receiver);
        assert_eq!(keys.len().to_string(), count);
        keys.dedup();
        assert_eq!(
            keys.len().to_string(),
            count.parse::<i64>().unwrap().min(posts).to_string()
        );
    }
}

#[test]
fn a_database_that_is_not_there_at_the_start_is_no_reason_to_wait() {
    let (sandbox, mut server) = (Sandbox::new(), Server::start());
    server.kill();
    let started = Instant::now();
    #[rustfmt::skip]
    let ended = sandbox.run([
        "batch", "--topic-prefix", "t", "--database-url", &server.url(), "--invoke-url", "http://127.0.0.1:9",
    ]);
    assert_eq!(ended.code(), 69, "{ended:?}");
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
}
