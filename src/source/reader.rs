//! One table, read: page by page in an order, or the rows of some keys. Owns its connection and makes a new one when the
//! database went away; a page that was cut off is read again from its beginning.

use std::{
    fmt::Write,
    mem,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tracing::{info, warn};

use super::{
    Connection, Database, Oddities, Options, Place, Row, RowError, Rows, Table, Walk, all_of, lock,
    mysql,
};
use crate::{failure::Failure, post::Key, retry::Backoff, shard::Shard};

/// JSON that a page holds, about. For each table one is read, one waits and one is taken apart; larger ones are hardly
/// faster.
const PAGE_BYTES: usize = 64 * 1024;
/// The rows of the first page: few, so that the first post goes out soon. No query asks for fewer.
const FIRST_PAGE: usize = 200;
/// The rows that a query asks for at the most.
const MOST_ROWS: usize = 50_000;
/// How long a result may be on its way, about: the server keeps it for as long as it is read.
const QUERY_TIME: Duration = Duration::from_millis(500);

impl RowError {
    /// Whether another try may go well.
    fn is_transient(&self) -> bool {
        matches!(self, Self::Database(error) if is_transient(error))
    }

    /// Whether the server's limit on the time of a statement has ended it: `max_statement_time` of MariaDB,
    /// `max_execution_time` of MySQL.
    fn is_overdue(&self) -> bool {
        matches!(self, Self::Database(error) if matches!(mysql::number(error), Some(1969 | 3024)))
    }
}

/// Whether the database may be back in a moment: the connection broke or the server is going down or coming up.
pub(super) fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(cause) => {
            // Too many connections, server shutdown, query interrupted, lock wait, deadlock, connection killed, idle for
            // too long, …
            matches!(
                mysql::number(error),
                Some(
                    1040 | 1053 | 1077 | 1079 | 1152 | 1158
                        ..=1161 | 1205 | 1213 | 1317 | 1927 | 2006 | 2013 | 4031
                )
            ) || cause.code().is_some_and(|code| code == "5")
        }
        _ => false,
    }
}

/// Reads one table.
#[derive(Debug)]
pub(super) struct Reader {
    database: Arc<Database>,
    pub(super) table: Arc<Table>,
    connection: Option<Connection>,
    retry_for: Duration,
    /// JSON that the next answer may hold, judged by the last one; so that its buffer need not grow.
    room: usize,
    oddities: Arc<Mutex<Oddities>>,
    /// Whether one of the readers of the run has told of the trouble that it is in.
    told: Arc<AtomicBool>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::MySql(_) => "MySql",
            Self::Sqlite(_) => "Sqlite",
        })
    }
}

impl Reader {
    pub(super) fn new(
        database: Arc<Database>,
        table: Arc<Table>,
        retry_for: Duration,
        oddities: Arc<Mutex<Oddities>>,
        told: Arc<AtomicBool>,
    ) -> Self {
        Self {
            database,
            table,
            connection: None,
            retry_for,
            room: 0,
            oddities,
            told,
        }
    }

    /// Another reader in the same run, with a connection of its own.
    pub(super) fn like(&self, table: Arc<Table>) -> Self {
        Self::new(
            Arc::clone(&self.database),
            table,
            self.retry_for,
            Arc::clone(&self.oddities),
            Arc::clone(&self.told),
        )
    }

    /// The rows that a query yields, in its order; of successive rows with the same key the first.
    pub(super) async fn rows(&mut self, sql: &str) -> Result<Rows, Failure> {
        self.page(sql, Walk::ByKey).await
    }

    async fn page(&mut self, sql: &str, walk: Walk) -> Result<Rows, Failure> {
        let (table, room) = (Arc::clone(&self.table), self.room);
        let rows = self
            .fold(
                sql,
                || Rows::with_room(room),
                |rows, row| add(row, &table, walk, rows),
            )
            .await?;
        self.room = rows.room();
        Ok(rows)
    }

    /// Adds the rows that a query yields to a value, in their order; to a fresh one when the database went away meanwhile.
    pub(super) async fn fold<T>(
        &mut self,
        sql: &str,
        fresh: impl Fn() -> T,
        mut add: impl FnMut(&mut T, &Row) -> Result<(), RowError>,
    ) -> Result<T, Failure> {
        let mut patience = Patience::new(self.retry_for);
        loop {
            let rested = self.connection.is_some();
            match Box::pin(self.try_fold(sql, fresh(), &mut add)).await {
                Ok(value) => {
                    self.is_well(&patience);
                    return Ok(value);
                }
                Err(error) if rested && error.is_transient() => self.drop_rested(&error),
                Err(error) => self.wait_or_fail(&error, &mut patience).await?,
            }
        }
    }

    async fn try_fold<T>(
        &mut self,
        sql: &str,
        mut value: T,
        add: &mut impl FnMut(&mut T, &Row) -> Result<(), RowError>,
    ) -> Result<T, RowError> {
        let mut stream = self.connection().await?.fetch(sql.to_owned());
        while let Some(row) = stream.next().await {
            add(&mut value, &row?)?;
        }
        Ok(value)
    }

    /// Counts the rows that have no key, where that can be; they belong to no shard, so the first one does.
    pub(super) async fn count_keyless(&mut self, shard: Shard) -> Result<(), Failure> {
        if self.table.nullable && shard.number() == 1 {
            // The key column of the answer holds the number.
            let (key, name) = (self.table.key_name(), super::quoted(&self.table.name));
            let count = self
                .number(&format!("SELECT COUNT(*) FROM {name} WHERE {key} IS NULL"))
                .await?;
            if let Some(count) = count.and_then(|count| u64::try_from(count.0).ok()) {
                lock(&self.oddities).keyless[self.table.kind] = count;
            }
        }
        Ok(())
    }

    /// The lowest and the highest key in the range, of all shards; none if there is no row.
    pub(super) async fn bounds(
        &mut self,
        options: &Options,
    ) -> Result<Option<(Key, Key)>, Failure> {
        let (key, name) = (self.table.key_name(), super::quoted(&self.table.name));
        // An index knows the ends of a range, but not those of a shard.
        let condition = all_of(&self.table.range(Walk::ByKey, None, options));
        let low = self
            .number(&format!("SELECT MIN({key}) FROM {name}{condition}"))
            .await?;
        let high = self
            .number(&format!("SELECT MAX({key}) FROM {name}{condition}"))
            .await?;
        Ok(low.zip(high))
    }

    /// The one number that a query yields; none for NULL.
    async fn number(&mut self, sql: &str) -> Result<Option<Key>, Failure> {
        let take = |number: &mut Option<Key>, row: &Row| {
            *number = row.key(0)?;
            Ok(())
        };
        self.fold(sql, || None, take).await
    }

    async fn connection(&mut self) -> Result<&mut Connection, sqlx::Error> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.database.connect().await?,
        };
        Ok(self.connection.insert(connection))
    }

    /// After an error of a connection that was there before: a server closes those that rest for longer than its
    /// `wait_timeout`, which says nothing about the database. A new one will tell.
    fn drop_rested(&mut self, error: &RowError) {
        self.connection = None;
        if let RowError::Database(cause) = error {
            info!(table = self.table.name, error = %super::first_cause(cause), "The database closed a connection; making a new one.");
        }
    }

    /// After a success: the next trouble is a new one.
    fn is_well(&self, patience: &Patience) {
        if patience.tries > 0 {
            self.told.store(false, Ordering::Relaxed);
        }
    }

    /// After an error: waits for another try, or says why there is none.
    async fn wait_or_fail(
        &mut self,
        error: &RowError,
        patience: &mut Patience,
    ) -> Result<(), Failure> {
        self.connection = None;
        match error {
            RowError::Database(cause) if is_transient(cause) => match patience.next() {
                Some(pause) => {
                    if patience.tries == 1 && !self.told.swap(true, Ordering::Relaxed) {
                        warn!(table = self.table.name, error = %super::first_cause(cause), "The database went away; trying again.");
                    }
                    sleep(pause).await;
                    Ok(())
                }
                None => Err(error.failure(&self.database, &self.table)),
            },
            error => Err(error.failure(&self.database, &self.table)),
        }
    }

    /// All rows of the range behind a place, in pages that end only between places. Ends early when nobody takes them.
    pub(super) async fn scan(
        mut self,
        walk: Walk,
        after: Option<Place>,
        options: Options,
        pages: mpsc::Sender<Result<Rows, Failure>>,
    ) {
        let ended = match self.scan_all(walk, after, &options, &pages).await {
            Ok(()) => self.count_keyless(options.shard).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = ended {
            let _ = pages.send(Err(failure)).await;
        }
    }

    /// With an index a query for some rows after the other: each costs what it yields, and the server seldom waits for a slow
    /// reader. Without one a single ordered result: every other query would sort the whole table again.
    async fn scan_all(
        &mut self,
        walk: Walk,
        mut after: Option<Place>,
        options: &Options,
        pages: &mpsc::Sender<Result<Rows, Failure>>,
    ) -> Result<(), Failure> {
        let table = Arc::clone(&self.table);
        let mut patience = Patience::new(self.retry_for);
        let access = table.access(walk);
        let mut limit = access.indexed.then_some(FIRST_PAGE);
        let mut left = options.count.and_then(|count| usize::try_from(count).ok());
        loop {
            let mut sql = format!("{}{}", table.select(), access.hint);
            sql.push_str(&table.behind(walk, after, options));
            if let Some(limit) = limit {
                let _ = write!(sql, " LIMIT {limit}");
            }
            let (before, begun) = (after, Instant::now());
            let rested = self.connection.is_some();
            match self.scan_some(sql, walk, limit, pages, &mut after).await {
                Ok(Scanned { rows, more }) => {
                    self.is_well(&patience);
                    patience = Patience::new(self.retry_for);
                    let Some(asked) = limit.filter(|_| more && !pages.is_closed()) else {
                        return Ok(());
                    };
                    left = left.map(|left| left.saturating_sub(rows));
                    limit = Some(if after == before {
                        // Nothing here says where to go on.
                        asked * 4
                    } else {
                        next_limit(asked, begun.elapsed(), left)
                    });
                }
                // What the network still held may be read long after the database went, which others have told, or came back.
                Err(error) if after != before && (error.is_transient() || error.is_overdue()) => {
                    self.is_well(&patience);
                    patience = Patience::new(self.retry_for);
                    self.drop_rested(&error);
                    limit = limit.map(|asked| next_limit(asked, QUERY_TIME, left));
                }
                Err(error) if rested && error.is_transient() => self.drop_rested(&error),
                Err(error) => self.wait_or_fail(&error, &mut patience).await?,
            }
        }
    }

    /// The rows of one query in pages. `after` moves on with every page that was taken. `limit`: the query yields no more,
    /// though there may be more.
    async fn scan_some(
        &mut self,
        sql: String,
        walk: Walk,
        limit: Option<usize>,
        pages: &mpsc::Sender<Result<Rows, Failure>>,
        after: &mut Option<Place>,
    ) -> Result<Scanned, RowError> {
        let table = Arc::clone(&self.table);
        let room = self.room;
        let connection = self.connection().await?;
        if limit.is_none() {
            connection.let_reader_pause().await?;
        }
        // Who writes to the file waits until no query reads it, and the next one waits for him: one that stays open until its
        // page is taken might wait for itself.
        let one_page = limit.is_some() && connection.is_file();
        let mut stream = connection.fetch(sql);
        let mut rows = Rows::with_room(room);
        let mut read = 0;
        let mut cut = false;
        while let Some(row) = stream.next().await {
            let row = row?;
            let full = rows.bytes() >= PAGE_BYTES || (after.is_none() && rows.len() >= FIRST_PAGE);
            if full && row.key(table.key)? != rows.last_key() {
                if one_page {
                    cut = true;
                    break;
                }
                *after = rows.last();
                let room = rows.room();
                if pages.send(Ok(mem::take(&mut rows))).await.is_err() {
                    return Ok(Scanned {
                        rows: read,
                        more: true,
                    });
                }
                rows = Rows::with_room(room);
            }
            read += 1;
            add(&row, &table, walk, &mut rows)?;
        }
        drop(stream);
        self.room = rows.room();
        let full = limit.is_some_and(|limit| read >= limit);
        if full
            && walk == Walk::ByKey
            && !table.access.unique
            && let Some(last) = rows.last_key()
        {
            // More rows with the last key may follow, so that key is left to the next query.
            rows.cut(last);
        }
        if rows.len() > 0 {
            *after = rows.last();
            // Nobody takes it if the run has ended.
            let _ = pages.send(Ok(rows)).await;
        }
        Ok(Scanned {
            rows: read,
            more: full || cut,
        })
    }
}

/// What a query has come to.
struct Scanned {
    /// The rows it has yielded.
    rows: usize,
    /// Whether there may be more behind them.
    more: bool,
}

/// For how many rows to ask next. One query after the other costs time in which nobody works, and a result that is read
/// slowly costs the server: so many rows as are taken in about [`QUERY_TIME`], and not many more than are `left` to take.
fn next_limit(asked: usize, took: Duration, left: Option<usize>) -> usize {
    let limit = if took < QUERY_TIME {
        asked * 2
    } else {
        asked / 2
    };
    // Where all have been taken, not all of them were posts.
    let left = left.filter(|left| *left > 0).unwrap_or(limit);
    limit.min(left).clamp(FIRST_PAGE, MOST_ROWS)
}

/// Adds a row unless it is nothing to this walk: one without a key; by key, one that follows another with the same, which
/// is counted; by time, one without a time in the range, or at the same place as the one before.
fn add(row: &Row, table: &Table, walk: Walk, rows: &mut Rows) -> Result<(), RowError> {
    let Some(key) = row.key(table.key)? else {
        return Ok(());
    };
    if walk == Walk::ByKey && rows.last_key() == Some(key) {
        rows.repeat(key);
        return Ok(());
    }
    let Some(column) = &table.time else {
        return row.encode(key, table, rows);
    };
    let time = row.time(column.column)?;
    if walk == Walk::ByTime {
        let usable = time.is_some_and(|time| column.range.contains(time));
        if !usable || rows.last() == Some(Place { time, key }) {
            return Ok(());
        }
    }
    row.encode(key, table, rows)?;
    rows.put_time(time);
    Ok(())
}

/// How long to keep trying, and how long to wait between two tries.
struct Patience {
    backoff: Backoff,
    retry_for: Duration,
    /// From the first failure on: a query may take its time before that.
    until: Option<Instant>,
    tries: u32,
}

impl Patience {
    fn new(retry_for: Duration) -> Self {
        Self {
            backoff: Backoff::default(),
            retry_for,
            until: None,
            tries: 0,
        }
    }

    fn next(&mut self) -> Option<Duration> {
        self.tries += 1;
        let now = Instant::now();
        let until = *self.until.get_or_insert(now + self.retry_for);
        (now < until).then(|| self.backoff.pause())
    }
}
