//! What the tests have in common: the program, a receiver, a database of their own, and the landed files.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsStr,
    fmt::Display,
    fs,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use serde_json::Value;
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, MySqlConnection, mysql::MySqlConnectOptions,
};
use tempfile::TempDir;
use url::Url;

/// Nothing here takes longer, on the slowest machine; a test that waits longer has failed.
const PATIENCE: Duration = Duration::from_mins(1);

/// A directory of its own and the program in it.
pub(crate) struct Sandbox {
    dir: TempDir,
}

/// How a run of the program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    #[track_caller]
    pub(crate) fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| panic!("ended by a signal: {self:?}"))
    }

    /// What a run said on standard error, but for the lines that tell what it does and how to go on.
    pub(crate) fn said(&self) -> Vec<&str> {
        let usual = ["Posting ", "To go on ", "To send again ", "Starting anew"];
        let is_usual = |line: &&str| usual.iter().any(|start| line.starts_with(start));
        self.stderr.lines().filter(|line| !is_usual(line)).collect()
    }

    /// The summary of a run with `--format json`.
    #[track_caller]
    pub(crate) fn summary(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self {
            dir: TempDir::new().unwrap(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The program, in this directory, without the settings of whoever runs the tests.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pinemu"));
        command
            .args(args)
            .env_clear()
            .env("PATH", env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path())
            .env("XDG_STATE_HOME", self.dir.path().join("state"))
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs the program to its end.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ended {
        finish(&mut self.command(args))
    }

    /// Makes a SQLite seed database in this directory; the option of `batch` and `stream` for it.
    pub(crate) fn seeded(&self, posts: u32) -> [&'static str; 2] {
        let posts = posts.to_string();
        let ended = self.run([
            "seed",
            "--database-url",
            "sqlite:seed.db",
            "--posts",
            &posts,
        ]);
        assert_eq!(ended.code(), 0, "{ended:?}");
        ["--database-url", "sqlite:seed.db"]
    }

    /// Starts the program and leaves it running.
    pub(crate) fn start<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Running {
        Running::start(&mut self.command(args))
    }
}

/// What every summary must keep: each post and each record that was read has one fate.
#[track_caller]
pub(crate) fn assert_balanced(summary: &Value) {
    let records = &summary["records"];
    for counts in [
        &summary["posts"],
        &records["pin"],
        &records["geo"],
        &records["user"],
    ] {
        let [read, delivered, rejected, unproven] = ["read", "delivered", "rejected", "unproven"]
            .map(|name| counts[name].as_u64().unwrap());
        assert_eq!(read, delivered + rejected + unproven, "{summary}");
        assert_eq!(
            read,
            summary["posts"]["read"].as_u64().unwrap(),
            "{summary}"
        );
    }
}

/// Runs a prepared command to its end.
pub(crate) fn finish(command: &mut Command) -> Ended {
    Running::start(command).wait()
}

/// A program on its way. Ends with the test.
pub(crate) struct Running(Option<Child>);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::printing_into(command, Stdio::piped())
    }

    /// With a standard output of its own.
    pub(crate) fn printing_into(command: &mut Command, stdout: Stdio) -> Self {
        let command = command.stdout(stdout).stderr(Stdio::piped());
        Self(Some(command.spawn().unwrap()))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.as_ref().unwrap().id()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.0.as_mut().unwrap().try_wait().unwrap().is_none()
    }

    /// Sends a signal by its name, such as `INT`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.pid().to_string())
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Ended {
        let output = self.0.take().unwrap().wait_with_output().unwrap();
        Ended {
            status: output.status,
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits until something is there.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "no {what} after {PATIENCE:?}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// `pinemu serve` on a free port.
pub(crate) struct Receiver {
    sandbox: Sandbox,
    running: Option<Running>,
    port: u16,
}

impl Receiver {
    /// `args`: further options of `serve`.
    pub(crate) fn start(args: &[&str]) -> Self {
        let sandbox = Sandbox::new();
        let line = ["serve", "--listen", "127.0.0.1:0", "--port-file", "port"];
        let running = sandbox.start(line.iter().chain(args));
        let port_file = sandbox.path().join("port");
        let port = until("port", || {
            fs::read_to_string(&port_file).ok()?.trim().parse().ok()
        });
        Self {
            sandbox,
            running: Some(running),
            port,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Whether something has landed in a topic or stream, or is about to get its name there.
    pub(crate) fn has(&self, target: &str) -> bool {
        let data = self.sandbox.path().join("pinemu-data");
        ["topics", "streams"]
            .iter()
            .any(|tree| data.join(tree).join(target).exists())
    }

    /// Stops it in order, so that every landed file has its name; what it printed last.
    pub(crate) fn stop(&mut self) -> Option<Ended> {
        let running = self.running.take()?;
        running.signal("TERM");
        Some(running.wait())
    }

    /// All lines that landed in a topic or stream, in the order of offsets or sequence numbers within each partition.
    /// Stops the receiver.
    pub(crate) fn landed(&mut self, target: &str) -> Vec<String> {
        if let Some(ended) = self.stop() {
            assert_eq!(ended.code(), 0, "{ended:?}");
        }
        let data = self.sandbox.path().join("pinemu-data");
        ["topics", "streams"]
            .iter()
            .flat_map(|tree| lines_below(&data.join(tree).join(target)))
            .collect()
    }
}

/// The words of the three kinds, in the order that the program posts them.
pub(crate) const KINDS: [&str; 3] = ["pin", "geo", "user"];

/// A run to be: one after the other in key order and as fast as it goes, with a JSON summary, unless it is told otherwise.
#[derive(Clone)]
pub(crate) struct Run {
    /// What the names of its topics or streams begin with, the joint included.
    targets: &'static str,
    command: &'static str,
    options: BTreeMap<String, Option<String>>,
}

impl Run {
    /// To the topics `t.pin`, `t.geo` and `t.user`.
    pub(crate) fn batch(database_url: &str) -> Self {
        Self::new("batch", "t.", database_url).with("--topic-prefix", "t")
    }

    /// To the streams `s-pin`, `s-geo` and `s-user`.
    pub(crate) fn stream(database_url: &str) -> Self {
        Self::new("stream", "s-", database_url).with("--stream-prefix", "s")
    }

    fn new(command: &'static str, targets: &'static str, database_url: &str) -> Self {
        let run = Self {
            targets,
            command,
            options: BTreeMap::new(),
        };
        run.with("--database-url", database_url)
            .with("--order", "index")
            .with("--rate", "max")
            .with("--in-flight", 1)
            .with("--format", "json")
    }

    /// With this option, in place of what it was.
    pub(crate) fn with(mut self, option: &str, value: impl Display + Copy) -> Self {
        self.options
            .insert(option.to_owned(), Some(value.to_string()));
        self
    }

    /// Without this option.
    pub(crate) fn without(mut self, option: &str) -> Self {
        self.options.remove(option);
        self
    }

    /// With an option that takes no value.
    pub(crate) fn flag(mut self, option: &str) -> Self {
        self.options.insert(option.to_owned(), None);
        self
    }

    fn args(&self) -> Vec<&str> {
        let options = self.options.iter();
        let options = options.flat_map(|(option, value)| [Some(option), value.as_ref()]);
        let options = options.flatten().map(String::as_str);
        std::iter::once(self.command).chain(options).collect()
    }

    /// Runs it to its end, to this receiver.
    pub(crate) fn to(&self, receiver: &Receiver) -> Ended {
        Sandbox::new().run(
            self.clone()
                .with("--invoke-url", receiver.url().as_str())
                .args(),
        )
    }

    /// Runs it to its end, to a receiver of its own: how it ended, and the lines that landed for each kind.
    pub(crate) fn post(&self) -> (Ended, [Vec<String>; 3]) {
        let mut receiver = Receiver::start(&[]);
        let ended = self.to(&receiver);
        (ended, self.landed_in(&mut receiver))
    }

    /// Runs it, with success, to a receiver of its own: the lines that landed for each kind.
    #[track_caller]
    pub(crate) fn landed(&self) -> [Vec<String>; 3] {
        let (ended, landed) = self.post();
        assert_eq!(ended.code(), 0, "{ended:?}");
        landed
    }

    /// The lines that landed for each kind. Stops the receiver.
    pub(crate) fn landed_in(&self, receiver: &mut Receiver) -> [Vec<String>; 3] {
        KINDS.map(|kind| receiver.landed(&format!("{}{kind}", self.targets)))
    }

    /// Prints its requests in place of sending them.
    pub(crate) fn dry(&self) -> Ended {
        Sandbox::new().run(self.clone().flag("--dry-run").args())
    }

    /// Lets it fail before it sends anything: its exit status and what it says on standard error.
    #[track_caller]
    pub(crate) fn fail(&self) -> (i32, String) {
        let ended = self.dry();
        assert_ne!(ended.code(), 0, "{ended:?}");
        (ended.code(), ended.stderr)
    }
}

/// The lines of all finished files below a directory, in the order of their names.
pub(crate) fn lines_below(dir: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        let Ok(entries) = fs::read_dir(&dir) else {
            continue;
        };
        for entry in entries.map(Result::unwrap) {
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => dirs.push(entry.path()),
                _ if entry.file_name().to_string_lossy().starts_with('.') => {}
                _ => files.push(entry.path()),
            }
        }
    }
    files.sort();
    files
        .iter()
        .flat_map(|file| {
            fs::read_to_string(file)
                .unwrap()
                .lines()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect()
}

/// A database of its own on the test server; dropped with the test.
pub(crate) struct Database {
    name: String,
    runtime: tokio::runtime::Runtime,
}

/// The server that `tests/run` started, or the one that was given: an account that may create databases.
pub(crate) fn server() -> Url {
    let url = env::var("PINEMU_TEST_DATABASE_URL")
        .expect("PINEMU_TEST_DATABASE_URL names no MySQL or MariaDB server; tests/run starts one");
    Url::parse(&url).unwrap()
}

impl Database {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "pinemu_test_{}_{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let database = Self { name, runtime };
        database.on_server(format!(
            "CREATE DATABASE {} CHARACTER SET utf8mb4",
            database.name
        ));
        database
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn url(&self) -> String {
        let mut url = server();
        url.set_path(&self.name);
        url.to_string()
    }

    fn on_server(&self, sql: String) {
        self.with(&server(), async |connection| {
            sqlx::raw_sql(AssertSqlSafe(sql))
                .execute(connection)
                .await
                .unwrap();
        });
    }

    fn with<T>(&self, url: &Url, act: impl AsyncFnOnce(&mut MySqlConnection) -> T) -> T {
        self.runtime.block_on(async {
            let mut connection = MySqlConnectOptions::from_url(url)
                .unwrap()
                .connect()
                .await
                .unwrap();
            let result = act(&mut connection).await;
            connection.close().await.unwrap();
            result
        })
    }

    /// Runs statements.
    pub(crate) fn execute(&self, sql: &str) {
        self.query(async |connection| {
            sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
                .execute(connection)
                .await
                .unwrap();
        });
    }

    /// Gives `act` a connection to this database.
    pub(crate) fn query<T>(&self, act: impl AsyncFnOnce(&mut MySqlConnection) -> T) -> T {
        self.with(&Url::parse(&self.url()).unwrap(), act)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.on_server(format!("DROP DATABASE IF EXISTS {}", self.name));
    }
}
