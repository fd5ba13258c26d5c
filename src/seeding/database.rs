//! The connection to a seed database in the making. Every error it gives is a sentence about its target.

use std::fs::File;

use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection as _, MySqlConnection, SqliteConnection,
    sqlite::SqliteConnectOptions,
};

use super::sql::{Chunk, MYSQL_TABLE_OPTIONS, SESSION, TABLES};
use crate::{
    failure::{Exit, Failure, OrExit},
    source::{Database, first_cause},
};

/// A connection, and what its errors name.
pub(super) struct Connected<'a> {
    target: &'a Database,
    connection: Connection,
}

enum Connection {
    MySql(MySqlConnection),
    Sqlite(SqliteConnection),
}

impl<'a> Connected<'a> {
    pub(super) async fn open(target: &'a Database) -> Result<Self, Failure> {
        let opened = match target {
            Database::MySql(server) => server.connect().await.map(Connection::MySql),
            Database::Sqlite(file) => {
                let path = &file.path;
                // The operating system gives better reasons than SQLite, so the file is first opened without it.
                let opened = File::options().append(true).create(true).open(path);
                opened.or_exit(Exit::CannotWrite, || cannot_write(target))?;
                let options = SqliteConnectOptions::new()
                    .filename(path)
                    .disable_statement_logging();
                options.connect().await.map(Connection::Sqlite)
            }
        };
        let connection = opened.map_err(|error| failure(target, &error))?;
        let mut database = Self { target, connection };
        if let Database::MySql(_) = target {
            database.execute(SESSION.to_owned()).await?;
        }
        Ok(database)
    }

    pub(super) async fn make_tables(&mut self, replace: bool) -> Result<(), Failure> {
        let existing = self.existing_tables().await?;
        if !existing.is_empty() && !replace {
            let message = format!(
                "the database already has {}; --replace drops what is there and makes it anew",
                existing.join(", ")
            );
            return Err(Failure::new(Exit::Configuration, message));
        }
        for table in existing {
            self.execute(format!("DROP TABLE {table}")).await?;
        }
        let options = match self.connection {
            Connection::MySql(_) => MYSQL_TABLE_OPTIONS,
            Connection::Sqlite(_) => "",
        };
        for table in TABLES {
            self.execute(format!(
                "CREATE TABLE {} ({}){options}",
                table.name, table.columns
            ))
            .await?;
        }
        Ok(())
    }

    /// Which of our tables (or views of the same name) there are.
    async fn existing_tables(&mut self) -> Result<Vec<&'static str>, Failure> {
        let names: sqlx::Result<Vec<String>> = match &mut self.connection {
            Connection::MySql(connection) => {
                let sql = "SELECT CAST(table_name AS CHAR) FROM information_schema.tables WHERE table_schema = DATABASE()";
                sqlx::query_scalar(sql).fetch_all(connection).await
            }
            Connection::Sqlite(connection) => {
                sqlx::query_scalar("SELECT name FROM sqlite_master")
                    .fetch_all(connection)
                    .await
            }
        };
        let names = names.map_err(|error| failure(self.target, &error))?;
        Ok(TABLES
            .iter()
            .map(|table| table.name)
            .filter(|table| names.iter().any(|name| name == table))
            .collect())
    }

    pub(super) async fn write(&mut self, chunk: Chunk) -> Result<(), Failure> {
        self.execute("BEGIN".to_owned()).await?;
        for statement in chunk.into_statements() {
            self.execute(statement).await?;
        }
        self.execute("COMMIT".to_owned()).await
    }

    /// All SQL is written here and in `sql`, which makes the literals.
    pub(super) async fn execute(&mut self, sql: String) -> Result<(), Failure> {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql));
        let done = match &mut self.connection {
            Connection::MySql(connection) => sql.execute(connection).await.map(drop),
            Connection::Sqlite(connection) => sql.execute(connection).await.map(drop),
        };
        done.map_err(|error| failure(self.target, &error))
    }

    pub(super) async fn close(self) -> Result<(), Failure> {
        let closed = match self.connection {
            Connection::MySql(connection) => connection.close().await,
            Connection::Sqlite(connection) => connection.close().await,
        };
        closed.map_err(|error| failure(self.target, &error))
    }
}

fn cannot_write(target: &Database) -> String {
    format!("cannot write the seed database {}", target.name())
}

/// What failed, where, and what to do: a file cannot be written, a server says why not.
fn failure(target: &Database, error: &sqlx::Error) -> Failure {
    match target {
        Database::MySql(_) => target.failure(error),
        Database::Sqlite(_) => {
            let text = format!("{}: {}", cannot_write(target), first_cause(error));
            Failure::new(Exit::CannotWrite, text)
        }
    }
}
