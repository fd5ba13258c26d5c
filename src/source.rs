//! Posts out of a seed database: MySQL, MariaDB or SQLite.
//!
//! ```text
//! Reader (one for each table) ──pages of rows──▶ in_order: merged by key ──▶ chunks of posts
//! Reader (one for each table) ──rows looked up─▶ shuffled: by key       ──▶ chunks of posts
//! Reader (of where and when)  ──pages of rows──▶ by_time: the others looked up ──▶ chunks of posts
//! ```
//! A new database is one file below this one and an arm in each `match` here.

mod by_time;
mod encode;
mod facts;
mod history;
mod in_order;
mod mysql;
mod reader;
mod shuffled;
mod sqlite;
mod time_column;
mod tls;

use std::{
    borrow::Cow,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream::BoxStream};
use secrecy::{ExposeSecret, SecretString};
use sqlx::{
    AssertSqlSafe, Connection as _, Either,
    mysql::{MySqlQueryResult, MySqlRow},
    sqlite::{SqliteQueryResult, SqliteRow},
};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use url::Url;

use crate::{
    failure::{Exit, Failure, OrExit},
    pace::History,
    post::{Cursor, Key, Kind, PerKind, Post},
    shard::Shard,
    wall_time::{TimeRange, WallTime},
};
use encode::{Column, Rows, Shape};
pub(crate) use facts::{NoLogin, Rows as RowCount, TableFacts};
use reader::Reader;
use time_column::TimeColumn;

/// A server that takes a connection and says nothing is as good as none.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Posts that travel from the source to the pipeline together.
pub(crate) type Chunk = Vec<Post>;

/// Which posts, in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Every post once in shuffled order, then again in a new shuffle, for ever.
    Random { seed: u64 },
    /// By key, once.
    Index,
    /// By recorded time, then key, once: the times of this range. Without ends also the posts that have no time, last.
    Time(TimeRange),
}

/// What to read.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) tables: PerKind<String>,
    pub(crate) order: Order,
    /// The range of the key, ends included; none in the order of time.
    pub(crate) from: Option<Key>,
    pub(crate) to: Option<Key>,
    /// Whose posts.
    pub(crate) shard: Shard,
    /// Where an earlier run stood; none: from the beginning.
    pub(crate) after: Option<Cursor>,
    /// How many posts will be taken at the most, so that a short run reads little.
    pub(crate) count: Option<u64>,
    /// How long a database that went away is waited for.
    pub(crate) retry_for: Duration,
    /// To be filled with the recorded times that are left of the whole range, if it is to be replayed.
    pub(crate) history: Option<History>,
}

impl Options {
    /// The key behind which an earlier run stood, where posts are read by key.
    fn after_key(&self) -> Option<Key> {
        match self.after {
            Some(Cursor::Index { after }) => Some(after),
            _ => None,
        }
    }
}

/// Where a row stands in the order of time or, without a time, of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    time: Option<WallTime>,
    key: Key,
}

impl Place {
    fn of_key(key: Key) -> Self {
        Self { time: None, key }
    }
}

/// In which order a table is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Walk {
    ByKey,
    /// By recorded time, then key; only rows with a time in the range.
    ByTime,
}

/// The posts of a run, read ahead of the taker.
#[derive(Debug)]
pub(crate) struct Posts {
    chunks: mpsc::Receiver<Result<Chunk, Failure>>,
    oddities: Arc<Mutex<Oddities>>,
    history: Option<History>,
    /// Who reads them, if that is ours to end.
    task: Option<JoinHandle<()>>,
}

impl Posts {
    /// The next posts in order; none when there are no more. Safe to cancel.
    pub(crate) async fn next(&mut self) -> Option<Result<Chunk, Failure>> {
        self.chunks.recv().await
    }

    /// Posts that somebody else reads: what is sent comes out here.
    pub(crate) fn channel() -> (mpsc::Sender<Result<Chunk, Failure>>, Self) {
        let (sender, chunks) = mpsc::channel(1);
        (
            sender,
            Self {
                chunks,
                oddities: Arc::default(),
                history: None,
                task: None,
            },
        )
    }

    /// The recorded times that are left, if they were asked for.
    pub(crate) fn take_history(&mut self) -> Option<History> {
        self.history.take()
    }

    /// What has been met so far that is no post.
    pub(crate) fn oddities(&self) -> Oddities {
        lock(&self.oddities).clone()
    }
}

impl Drop for Posts {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// How many examples a warning names.
const EXAMPLES: usize = 10;

/// A number of keys, with the first of them as examples.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    pub(crate) count: u64,
    pub(crate) examples: Vec<Key>,
}

impl Tally {
    fn add(&mut self, key: Key) {
        self.count += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(key);
        }
    }
}

/// Rows that make no post.
#[derive(Debug, Clone, Default)]
pub(crate) struct Oddities {
    /// Keys without all three rows.
    pub(crate) incomplete: Tally,
    /// Further rows with a key that was there before.
    pub(crate) repeated: PerKind<Tally>,
    /// Rows whose key is NULL. Of several shards the first counts them.
    pub(crate) keyless: PerKind<u64>,
    /// In the order of time, keys whose recorded time is NULL, zero or none that can be read.
    pub(crate) untimed: Tally,
}

/// A lock that a panic elsewhere cannot poison: the values behind our locks are whole after every statement.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A seed database, not yet connected.
#[derive(Debug, Clone)]
pub(crate) enum Database {
    MySql(Box<mysql::Server>),
    Sqlite(sqlite::File),
}

impl Database {
    /// Reads a database URL as people have it: `mysql://…`, `mariadb://…`, SQLAlchemy's `mysql+pymysql://…?charset=utf8mb4`,
    /// `sqlite:PATH`. `password` takes the place of one in the URL. No error holds the password.
    pub(crate) fn parse(
        url: &SecretString,
        password: Option<&SecretString>,
    ) -> Result<Self, Failure> {
        let text = url.expose_secret().trim();
        let usage = |what: String| Failure::new(Exit::Usage, format!("--database-url {what}"));
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(usage("has no scheme; write mysql://user:password@host:3306/pinterest_data or sqlite:PATH".into()));
        };
        if scheme == "sqlite" {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            if path.is_empty() {
                return Err(usage("names no file; write sqlite:PATH".into()));
            }
            return Ok(Self::Sqlite(sqlite::File::new(Path::new(path))));
        }
        let dialect = scheme
            .split_once('+')
            .map_or(scheme, |(dialect, _)| dialect);
        if !matches!(dialect, "mysql" | "mariadb") || !rest.starts_with("//") {
            return Err(usage("is not one that pinemu reads; write mysql://user:password@host:3306/pinterest_data or sqlite:PATH".into()));
        }
        let cure = "in a user name or password write % as %25, @ as %40, / as %2F, # as %23, ? as %3F and : as %3A, or give the password with --database-password-file";
        let url = Url::parse(&format!("mysql:{rest}"))
            .map_err(|error| usage(format!("does not parse ({error}); {cure}")))?;
        // Else a part of a password would be taken for a port or a database, and be shown as such.
        let misread = url.fragment().is_some()
            || url.path().contains('@')
            || url.query().is_some_and(|query| query.contains('@'));
        if misread {
            return Err(usage(format!("does not parse; {cure}")));
        }
        mysql::Server::new(&url, password).map(|server| Self::MySql(Box::new(server)))
    }

    /// A SQLite file.
    pub(crate) fn file(path: &Path) -> Self {
        Self::Sqlite(sqlite::File::new(path))
    }

    /// For people: `user@host:port/database` or the path of the file. Holds no password.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::MySql(server) => server.name().to_owned(),
            Self::Sqlite(file) => file.path.display().to_string(),
        }
    }

    /// The name of the database itself, which stays the same when its server moves.
    pub(crate) fn database(&self) -> Cow<'_, str> {
        match self {
            Self::MySql(server) => server.database().into(),
            Self::Sqlite(file) => file.path.to_string_lossy(),
        }
    }

    async fn connect(&self) -> Result<Connection, sqlx::Error> {
        let connecting = async {
            Ok(match self {
                Self::MySql(server) => Connection::MySql(server.connect().await?),
                Self::Sqlite(file) => Connection::Sqlite(file.connect().await?),
            })
        };
        timeout(CONNECT_TIMEOUT, connecting)
            .await
            .unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
    }

    /// What failed, on what, and what to do.
    pub(crate) fn failure(&self, error: &sqlx::Error) -> Failure {
        let name = self.name();
        let code = mysql::number(error);
        if let Some(failure) = self.tls_failure(error) {
            return failure;
        }
        let cause = first_cause(error);
        let database = match self {
            Self::MySql(server) => server.database(),
            Self::Sqlite(_) => "",
        };
        let (exit, what) = match (self, code) {
            (_, Some(1045 | 1698)) => (
                Exit::Refused,
                format!(
                    "the database {name} refused the login; check user and password (in a URL % is written %25){}",
                    self.without_tls()
                ),
            ),
            (_, Some(1044 | 1142 | 1143)) => (
                Exit::Refused,
                format!("the user may not read the database {name}; GRANT SELECT on it"),
            ),
            (_, Some(1049)) => (
                Exit::Configuration,
                format!(
                    "there is no database {database} at {name}; check the name in --database-url"
                ),
            ),
            (_, Some(1298)) => (
                Exit::Configuration,
                format!("the database {name} does not take the time zone in --database-url"),
            ),
            (_, Some(1146 | 1054 | 1176)) => (
                Exit::Unreachable,
                format!("a table of the database {name} has changed or gone"),
            ),
            (Self::Sqlite(file), _) if !file.path.exists() => (
                Exit::Unreachable,
                format!(
                    "there is no file {name}; pinemu seed --database-url sqlite:{name} makes one"
                ),
            ),
            (Self::Sqlite(_), _) => (
                Exit::Unreachable,
                format!("cannot read the SQLite database {name}"),
            ),
            (Self::MySql(_), Some(_)) => (
                Exit::Unreachable,
                format!("the database {name} answered with an error"),
            ),
            (Self::MySql(_), None) => (
                Exit::Unreachable,
                format!(
                    "cannot reach the database {name}; is it running, and may this machine connect?"
                ),
            ),
        };
        Failure::new(exit, format!("{what}: {cause}"))
    }

    /// None if it is not TLS that keeps us out.
    fn tls_failure(&self, error: &sqlx::Error) -> Option<Failure> {
        match self {
            Self::MySql(server) => tls::failure(server.name(), error),
            Self::Sqlite(_) => None,
        }
    }

    /// What a refused login may come from that was asked for without encryption: the server does not tell.
    fn without_tls(&self) -> &'static str {
        match self {
            Self::MySql(server) if server.is_without_tls() => {
                "; a user who is let in only over TLS needs ssl-mode=DISABLED taken out of --database-url"
            }
            _ => "",
        }
    }

    /// Finds the three tables and starts reading. Fails at once where a run cannot start: no database, no table, no key.
    pub(crate) async fn read(self, mut options: Options) -> Result<Posts, Failure> {
        let database = Arc::new(self);
        let mut connection = database
            .connect()
            .await
            .map_err(|error| database.failure(&error))?;
        let mut tables = Vec::with_capacity(Kind::ALL.len());
        for kind in Kind::ALL {
            let table = Table::find(&database, &mut connection, kind, &options).await?;
            tables.push(Arc::new(table));
        }
        // Closing is a courtesy to the server's log; a run does not depend on it.
        let _ = connection.close().await;
        let tables = PerKind::new(|kind| Arc::clone(&tables[kind as usize]));
        let oddities = Arc::<Mutex<Oddities>>::default();
        let (sender, chunks) = mpsc::channel(1);
        let told = Arc::default();
        let mut readers = PerKind::new(|kind| {
            Reader::new(
                Arc::clone(&database),
                Arc::clone(&tables[kind]),
                options.retry_for,
                Arc::clone(&oddities),
                Arc::clone(&told),
            )
        });
        let history = match options.history.take() {
            Some(history) => Some(history::fill(&mut readers[Kind::Geo], &options, history).await?),
            None => None,
        };
        let shared = Arc::clone(&oddities);
        let task = tokio::spawn(async move {
            let ended = match options.order {
                Order::Index => in_order::read(readers, &options, &shared, &sender).await,
                Order::Random { seed } => {
                    shuffled::read(readers, &options, seed, &shared, &sender).await
                }
                Order::Time(_) => by_time::read(readers, &options, &shared, &sender).await,
            };
            if let Err(failure) = ended {
                // Nobody listens any more: the run has ended for another reason.
                let _ = sender.send(Err(failure)).await;
            }
        });
        Ok(Posts {
            chunks,
            oddities,
            history,
            task: Some(task),
        })
    }
}

/// The first cause of an error of the database library, on one line and without the library's preface.
pub(crate) fn first_cause(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::Configuration(error) | sqlx::Error::Tls(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// A column as the schema tells it.
#[derive(Debug)]
struct Definition {
    name: String,
    /// None where each value has a type of its own.
    shape: Option<Shape>,
    data_type: String,
    /// Whether its type holds only integers.
    integer: bool,
    nullable: bool,
}

/// One of the three tables.
#[derive(Debug)]
struct Table {
    kind: Kind,
    name: String,
    columns: Vec<Column>,
    /// Which of the columns is the key.
    key: usize,
    /// Whether rows may have no key.
    nullable: bool,
    access: Access,
    /// The recorded times, where posts are read by them.
    time: Option<TimeColumn>,
}

/// How the rows of a table are found in an order.
#[derive(Debug, Clone, Default)]
struct Access {
    /// Whether an index orders them, so that a page costs what it holds.
    indexed: bool,
    /// Whether no two rows have the same key.
    unique: bool,
    /// Whether it is a view, which can have no index of its own.
    view: bool,
    /// What follows the table's name in a query that orders them.
    hint: String,
}

/// What the key column may be called, the usual name first. A table written by pandas may have its row number beside the
/// key, so the order matters.
fn key_names(kind: Kind) -> [&'static str; 3] {
    match kind {
        Kind::Pin => ["index", "ind", "idx"],
        Kind::Geo | Kind::User => ["ind", "idx", "index"],
    }
}

impl Table {
    async fn find(
        database: &Database,
        connection: &mut Connection,
        kind: Kind,
        options: &Options,
    ) -> Result<Self, Failure> {
        let name = options.tables[kind].as_str();
        let definitions = connection
            .columns(name)
            .await
            .map_err(|error| database.failure(&error))?;
        if definitions.is_empty() {
            let text = format!(
                "there is no table {name} in {}; name the table of {kind} rows with --{kind}-table, or make one with pinemu seed",
                database.name()
            );
            return Err(Failure::new(Exit::Configuration, text));
        }
        let key = key_names(kind).iter().find_map(|name| {
            definitions
                .iter()
                .position(|column| column.name.eq_ignore_ascii_case(name))
        });
        let Some(key) = key else {
            let text = format!(
                "table {name} has no key column: none of its columns is called index, ind or idx"
            );
            return Err(Failure::new(Exit::Data, text));
        };
        let column = &definitions[key];
        if !column.integer {
            let text = format!(
                "the key column {} of table {name} is {}; keys are integers",
                column.name, column.data_type
            );
            return Err(Failure::new(Exit::Data, text));
        }
        let access = connection
            .access(name, &column.name)
            .await
            .map_err(|error| database.failure(&error))?;
        let nullable = column.nullable;
        let time = match options.order {
            Order::Time(range) if kind == Kind::Geo => Some(
                TimeColumn::find(
                    database,
                    connection,
                    name,
                    &definitions,
                    &column.name,
                    range,
                )
                .await?,
            ),
            _ => None,
        };
        let columns = definitions
            .iter()
            .enumerate()
            .map(|(i, column)| Column::new(&column.name, column.shape, i == 0))
            .collect();
        Ok(Self {
            kind,
            name: name.to_owned(),
            columns,
            key,
            nullable,
            access,
            time,
        })
    }

    /// The same with no columns but the key and the recorded time.
    fn lean(&self) -> Self {
        let kept = [Some(self.key), self.time.as_ref().map(|time| time.column)];
        let kept = kept.into_iter().flatten();
        let columns = kept.map(|column| self.columns[column].clone()).collect();
        Self {
            kind: self.kind,
            name: self.name.clone(),
            columns,
            key: 0,
            nullable: self.nullable,
            access: self.access.clone(),
            time: self.time.as_ref().map(|time| time.at(1)),
        }
    }

    /// `SELECT` of all columns by name, so that a column added later does not shift the others.
    fn select(&self) -> String {
        let columns: Vec<_> = self
            .columns
            .iter()
            .map(|column| quoted(&column.name))
            .collect();
        format!("SELECT {} FROM {}", columns.join(", "), quoted(&self.name))
    }

    fn key_name(&self) -> String {
        quoted(&self.columns[self.key].name)
    }

    /// The statement that makes an index on the key.
    fn create_index(&self) -> String {
        format!(
            "CREATE INDEX pinemu_key ON {} ({})",
            quoted(&self.name),
            self.key_name()
        )
    }

    fn access(&self, walk: Walk) -> &Access {
        match (walk, &self.time) {
            (Walk::ByTime, Some(time)) => &time.access,
            _ => &self.access,
        }
    }

    /// The condition for what lies in the range behind a place, and the order.
    fn behind(&self, walk: Walk, after: Option<Place>, options: &Options) -> String {
        let condition = self.condition(walk, after, options);
        let key = self.key_name();
        match (walk, &self.time) {
            (Walk::ByTime, Some(time)) => {
                format!("{condition} ORDER BY {}, {key}", time.expression())
            }
            _ => format!("{condition} ORDER BY {key}"),
        }
    }

    /// The condition on the rows that are read: behind one that has been, inside the range, of the shard; the key never
    /// NULL.
    fn condition(&self, walk: Walk, after: Option<Place>, options: &Options) -> String {
        let mut conditions = self.range(walk, after, options);
        conditions.extend(self.share(options.shard));
        all_of(&conditions)
    }

    /// The rows of a shard, so that those of the others do not travel; none if there are no others.
    fn share(&self, shard: Shard) -> Option<String> {
        let (key, of, remainder) = (self.key_name(), shard.of(), shard.remainder());
        // Both databases give the remainder the sign of the key.
        match (of, remainder) {
            (1, _) => None,
            (_, 0) => Some(format!("{key} % {of} = 0")),
            _ => Some(format!(
                "{key} % {of} IN ({remainder}, -{})",
                of - remainder
            )),
        }
    }

    /// What an index finds: behind a row that has been read, inside the range; the key never NULL.
    fn range(&self, walk: Walk, after: Option<Place>, options: &Options) -> Vec<String> {
        let key = self.key_name();
        let mut conditions = Vec::new();
        if let (Walk::ByTime, Some(time)) = (walk, &self.time) {
            conditions.extend(time.conditions(after, &key));
        } else {
            match (after, options.from) {
                (Some(after), _) => conditions.push(format!("{key} > {}", after.key)),
                (None, Some(from)) => conditions.push(format!("{key} >= {from}")),
                (None, None) if self.nullable => conditions.push(format!("{key} IS NOT NULL")),
                (None, None) => {}
            }
            conditions.extend(options.to.map(|to| format!("{key} <= {to}")));
        }
        conditions
    }
}

fn all_of(conditions: &[String]) -> String {
    if conditions.is_empty() {
        String::new()
    } else {
        format!(" WHERE {}", conditions.join(" AND "))
    }
}

/// An identifier found in the schema. Both databases take backticks.
fn quoted(identifier: &str) -> String {
    format!("`{}`", identifier.replace('`', "``"))
}

/// A row of either database.
enum Row {
    MySql(MySqlRow),
    Sqlite(SqliteRow),
}

/// An answer of either database on its way: its rows, and what it says at its end.
enum Fetch<'c> {
    MySql(BoxStream<'c, Result<Either<MySqlQueryResult, MySqlRow>, sqlx::Error>>),
    Sqlite(BoxStream<'c, Result<Either<SqliteQueryResult, SqliteRow>, sqlx::Error>>),
}

impl Fetch<'_> {
    /// The next row; none at the end.
    async fn next(&mut self) -> Option<Result<Row, sqlx::Error>> {
        loop {
            // No adapters: a row would be moved through every one of them.
            let row = match self {
                Self::MySql(steps) => match steps.next().await? {
                    Ok(step) => Ok(step.right().map(Row::MySql)),
                    Err(error) => Err(error),
                },
                Self::Sqlite(steps) => match steps.next().await? {
                    Ok(step) => Ok(step.right().map(Row::Sqlite)),
                    Err(error) => Err(error),
                },
            };
            if let Some(row) = row.transpose() {
                return Some(row);
            }
        }
    }
}

/// A connection to either database.
enum Connection {
    MySql(sqlx::MySqlConnection),
    Sqlite(sqlx::SqliteConnection),
}

impl Connection {
    async fn columns(&mut self, table: &str) -> Result<Vec<Definition>, sqlx::Error> {
        match self {
            Self::MySql(connection) => mysql::columns(connection, table).await,
            Self::Sqlite(connection) => sqlite::columns(connection, table).await,
        }
    }

    async fn access(&mut self, table: &str, column: &str) -> Result<Access, sqlx::Error> {
        match self {
            Self::MySql(connection) => mysql::access(connection, table, column).await,
            Self::Sqlite(connection) => sqlite::access(connection, table, column).await,
        }
    }

    /// The rows of a query, as they come. The SQL holds identifiers of the schema and integers, nothing else.
    fn fetch(&mut self, sql: String) -> Fetch<'_> {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql));
        match self {
            Self::MySql(connection) => Fetch::MySql(sql.fetch_many(connection)),
            Self::Sqlite(connection) => Fetch::Sqlite(sql.fetch_many(connection)),
        }
    }

    /// Makes ready for one long result that is read with pauses.
    async fn let_reader_pause(&mut self) -> Result<(), sqlx::Error> {
        match self {
            Self::MySql(connection) => sqlx::raw_sql(AssertSqlSafe(mysql::let_reader_pause()))
                .execute(connection)
                .await
                .map(drop),
            Self::Sqlite(_) => Ok(()),
        }
    }

    /// Whether the database is a file, which a query that is read keeps from those who would write to it.
    fn is_file(&self) -> bool {
        matches!(self, Self::Sqlite(_))
    }

    async fn close(self) -> Result<(), sqlx::Error> {
        match self {
            Self::MySql(connection) => connection.close().await,
            Self::Sqlite(connection) => connection.close().await,
        }
    }
}

impl Row {
    /// The key column of a row; none for NULL.
    fn key(&self, column: usize) -> Result<Option<Key>, RowError> {
        let key = |raw: Option<&[u8]>| match raw {
            None => Ok(None),
            Some(raw) => encode::key(raw)
                .map(Some)
                .ok_or_else(|| RowError::Key(String::from_utf8_lossy(raw).into())),
        };
        match self {
            Self::MySql(row) => key(mysql::raw(row, column)?),
            Self::Sqlite(row) => sqlite::with_raw(row, column, |raw| key(raw.map(|(_, raw)| raw)))?,
        }
    }

    /// The recorded time in a column; none for NULL, zero, and what is no time.
    fn time(&self, column: usize) -> Result<Option<WallTime>, sqlx::Error> {
        match self {
            Self::MySql(row) => Ok(mysql::raw(row, column)?.and_then(WallTime::parse)),
            Self::Sqlite(row) => sqlite::with_raw(row, column, |raw| match raw {
                Some((Shape::Text, text)) => WallTime::parse(text),
                _ => None,
            }),
        }
    }

    /// Adds the row to `rows` as JSON.
    fn encode(&self, key: Key, table: &Table, rows: &mut Rows) -> Result<(), RowError> {
        for (i, column) in table.columns.iter().enumerate() {
            let put = match (self, column.shape) {
                (Self::MySql(row), shape) => {
                    let raw = mysql::raw(row, i)?;
                    rows.put(column, raw.map(|raw| (shape.unwrap_or(Shape::Text), raw)))
                }
                (Self::Sqlite(row), _) => sqlite::with_raw(row, i, |raw| rows.put(column, raw))?,
            };
            put.map_err(|bad| RowError::Value(bad, key, column.name.clone()))?;
        }
        rows.end(key);
        Ok(())
    }
}

/// Why a row could not be read.
#[derive(Debug, thiserror::Error)]
enum RowError {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("a key that is not an integer: {0}")]
    Key(String),
    #[error("{0} in column {2} of the row with key {1}")]
    Value(encode::BadValue, Key, String),
}

impl RowError {
    /// What ends a run that cannot read on.
    fn failure(&self, database: &Database, table: &Table) -> Failure {
        match self {
            Self::Database(error) => database.failure(error),
            other => Err::<(), _>(anyhow::anyhow!("{other}"))
                .or_exit(Exit::Data, || {
                    format!("table {} holds a row that cannot be posted", table.name)
                })
                .expect_err("made of an error"),
        }
    }
}
