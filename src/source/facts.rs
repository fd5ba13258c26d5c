//! What a seed database tells of itself without its rows being read: who it is, its tables, keys and indexes.

use std::time::Duration;

use tokio::time::timeout;

use super::{Connection, Database, Options, Row, Table, first_cause, mysql, quoted, sqlite};
use crate::{
    failure::{Exit, Failure},
    post::Kind,
};

/// A database that has let us in.
pub(crate) struct Inspection<'a> {
    database: &'a Database,
    connection: Connection,
}

/// Why there is no login. Holds no password.
#[derive(Debug)]
pub(crate) enum NoLogin {
    /// Nothing came in time.
    Silent,
    /// There is no connection, or not one that speaks the language.
    Unreachable(String),
    /// The server said no.
    Refused(Failure),
}

/// Who answers.
#[derive(Debug)]
pub(crate) struct Server {
    /// `MariaDB 10.11.6` and the like.
    pub(crate) version: String,
    /// The version of TLS; none if the connection is not encrypted.
    pub(crate) tls: Option<String>,
}

/// A table as the schema tells it.
#[derive(Debug)]
pub(crate) struct TableFacts {
    pub(crate) key: String,
    pub(crate) columns: usize,
    pub(crate) rows: Rows,
    /// Whether an index begins with the key.
    pub(crate) indexed: bool,
    /// A view can have no index of its own.
    pub(crate) view: bool,
    /// The statement that makes the index.
    pub(crate) create_index: String,
    /// The one that is missing for reading by time, where that is asked for.
    pub(crate) create_time_index: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rows {
    Counted(u64),
    /// From the statistics of the server, which may be half off.
    Estimated(u64),
    /// There are some.
    Some,
}

impl Rows {
    pub(crate) fn number(self) -> Option<u64> {
        match self {
            Self::Counted(rows) | Self::Estimated(rows) => Some(rows),
            Self::Some => None,
        }
    }
}

impl Database {
    /// Host and port of the server; none for a file.
    pub(crate) fn address(&self) -> Option<(&str, u16)> {
        match self {
            Self::MySql(server) => server.address(),
            Self::Sqlite(_) => None,
        }
    }

    pub(crate) async fn log_in(&self, patience: Duration) -> Result<Inspection<'_>, NoLogin> {
        let Ok(connected) = timeout(patience, self.connect()).await else {
            return Err(NoLogin::Silent);
        };
        match connected {
            Ok(connection) => Ok(Inspection {
                database: self,
                connection,
            }),
            // The server's own words, or those of the file system.
            Err(error)
                if error.as_database_error().is_some()
                    || self.tls_failure(&error).is_some()
                    || self.address().is_none() =>
            {
                Err(NoLogin::Refused(self.failure(&error)))
            }
            Err(error) => Err(NoLogin::Unreachable(first_cause(&error))),
        }
    }
}

impl Inspection<'_> {
    pub(crate) async fn server(&mut self) -> Result<Server, Failure> {
        let server = match &mut self.connection {
            Connection::MySql(connection) => mysql::server(connection).await,
            Connection::Sqlite(connection) => sqlite::version(connection)
                .await
                .map(|version| Server { version, tls: None }),
        };
        server.map_err(|error| self.database.failure(&error))
    }

    /// Finds a table as a run does, with the same failures; one without rows is another. `exact`: count the rows, however
    /// long that takes.
    pub(crate) async fn table(
        &mut self,
        kind: Kind,
        options: &Options,
        exact: bool,
    ) -> Result<TableFacts, Failure> {
        let table = Table::find(self.database, &mut self.connection, kind, options).await?;
        let rows = self.rows(&table, exact).await?;
        Ok(TableFacts {
            key: table.columns[table.key].name.clone(),
            columns: table.columns.len(),
            rows,
            indexed: table.access.indexed,
            view: table.access.view,
            create_index: table.create_index(),
            create_time_index: table.time.and_then(|time| time.cure),
        })
    }

    async fn rows(&mut self, table: &Table, exact: bool) -> Result<Rows, Failure> {
        let name = quoted(&table.name);
        let is_cheap = matches!(self.connection, Connection::Sqlite(_));
        let rows = if exact || is_cheap {
            let counted = self.number(format!("SELECT COUNT(*) FROM {name}")).await?;
            Rows::Counted(counted.unwrap_or_default())
        } else {
            // A server may have no statistics yet, or those of a table that was empty then.
            let first = self.number(format!("SELECT 1 FROM {name} LIMIT 1")).await?;
            match (first, self.estimate(&table.name).await?) {
                (None, _) => Rows::Counted(0),
                (Some(_), Some(rows)) if rows > 0 => Rows::Estimated(rows),
                _ => Rows::Some,
            }
        };
        if rows == Rows::Counted(0) {
            let text = format!(
                "table {} is empty; fill it, name another with --{}-table, or make one with pinemu seed",
                table.name, table.kind
            );
            return Err(Failure::new(Exit::NoRows, text));
        }
        Ok(rows)
    }

    async fn estimate(&mut self, table: &str) -> Result<Option<u64>, Failure> {
        let estimate = match &mut self.connection {
            Connection::MySql(connection) => mysql::estimated_rows(connection, table).await,
            Connection::Sqlite(_) => Ok(None),
        };
        estimate.map_err(|error| self.database.failure(&error))
    }

    /// The one number that a query yields; none if it yields no row.
    async fn number(&mut self, sql: String) -> Result<Option<u64>, Failure> {
        let row = self.connection.fetch(sql).next().await;
        let Some(row) = row
            .transpose()
            .map_err(|error| self.database.failure(&error))?
        else {
            return Ok(None);
        };
        let number = Row::key(&row, 0).ok().flatten();
        Ok(number.and_then(|number| u64::try_from(number.0).ok()))
    }

    pub(crate) async fn close(self) {
        // A courtesy to the server's log.
        let _ = self.connection.close().await;
    }
}
