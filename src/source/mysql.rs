//! MySQL and MariaDB: what of reading is theirs alone. Rows come by the text protocol, which prints the values as they
//! are to be sent.

use std::{io, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use sqlx::{
    ConnectOptions, Decode, MySql, Row, ValueRef,
    mysql::{MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlRow, MySqlSslMode},
};
use tokio::time::timeout;
use url::Url;

use super::{Access, Definition, encode::Shape, facts};
use crate::failure::{Exit, Failure};

/// How long a server may take to let us in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest that a server waits for a reader of one long result, in seconds; a paced run reads it for hours.
const NET_WRITE_TIMEOUT: u32 = 30 * 24 * 3600;

/// Where the database is and how to log in.
#[derive(Clone)]
pub(crate) struct Server {
    options: MySqlConnectOptions,
    /// `user@host:port/database`, for people.
    name: String,
}

/// No password in any output.
impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Server").field(&self.name).finish()
    }
}

impl Server {
    pub(super) fn new(url: &Url, password: Option<&SecretString>) -> Result<Self, Failure> {
        let bad = |what: &str| Failure::new(Exit::Usage, format!("--database-url: {what}"));
        if let Some((_, charset)) = url.query_pairs().find(|(name, _)| name == "charset")
            && charset != "utf8mb4"
        {
            let text = format!(
                "--database-url asks for charset {charset}; pinemu reads utf8mb4, which holds every text"
            );
            return Err(Failure::new(Exit::Configuration, text));
        }
        // A plus is one, as in `time-zone=+02:00`, and not a blank as in a form.
        let mut url = url.clone();
        let query = url.query().map(|query| query.replace('+', "%2B"));
        url.set_query(query.as_deref());
        let mut options = MySqlConnectOptions::from_url(&url)
            .map_err(|error| bad(&super::first_cause(&error)))?;
        if let Some(password) = password {
            options = options.password(password.expose_secret());
        }
        let database = options
            .get_database()
            .ok_or_else(|| bad("names no database; put it behind the port: /pinterest_data"))?;
        let name = format!(
            "{}@{}:{}/{database}",
            options.get_username(),
            options.get_host(),
            options.get_port()
        );
        // The mode of a session changes how rows are read as little as possible.
        let options = options
            .clone()
            .pipes_as_concat(false)
            .no_engine_substitution(false)
            .disable_statement_logging();
        Ok(Self { options, name })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn database(&self) -> &str {
        self.options.get_database().unwrap_or_default()
    }

    /// Whether the URL forbids TLS.
    pub(super) fn is_without_tls(&self) -> bool {
        matches!(self.options.get_ssl_mode(), MySqlSslMode::Disabled)
    }

    /// Host and port; none where it is a socket in the file system.
    pub(super) fn address(&self) -> Option<(&str, u16)> {
        let options = &self.options;
        options
            .get_socket()
            .is_none()
            .then(|| (options.get_host(), options.get_port()))
    }

    /// Gives up after [`CONNECT_TIMEOUT`]: a firewall that drops packets would hold it for minutes.
    pub(crate) async fn connect(&self) -> Result<MySqlConnection, sqlx::Error> {
        match timeout(CONNECT_TIMEOUT, self.options.connect()).await {
            Ok(connection) => connection,
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
    }
}

/// A server cuts off a reader that pauses in the middle of a result; this lets it pause.
pub(super) fn let_reader_pause() -> String {
    format!("SET SESSION net_write_timeout = {NET_WRITE_TIMEOUT}")
}

/// The number of an error that the server sent, if it is one of MySQL's.
pub(super) fn number(error: &sqlx::Error) -> Option<u16> {
    error
        .as_database_error()?
        .try_downcast_ref::<MySqlDatabaseError>()
        .map(MySqlDatabaseError::number)
}

/// Columns in the table's order; empty if there is no such table.
pub(super) async fn columns(
    connection: &mut MySqlConnection,
    table: &str,
) -> Result<Vec<Definition>, sqlx::Error> {
    let sql = "SELECT CAST(column_name AS CHAR), CAST(data_type AS CHAR), CAST(collation_name AS CHAR), \
               CAST(is_nullable AS CHAR) FROM information_schema.columns \
               WHERE table_schema = DATABASE() AND table_name = ? ORDER BY ordinal_position";
    let rows = sqlx::query(sql).bind(table).fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            let data_type: String = row.try_get(1)?;
            let collation: Option<String> = row.try_get(2)?;
            Ok(Definition {
                name: row.try_get(0)?,
                shape: Some(shape(
                    &data_type,
                    collation.is_some_and(|name| name != "binary"),
                )),
                integer: is_integer(&data_type),
                data_type,
                nullable: row.try_get::<String, _>(3)? == "YES",
            })
        })
        .collect()
}

/// How rows are found by the column: an index has to begin with it and to keep its order; one that makes it unique is the
/// best.
pub(super) async fn access(
    connection: &mut MySqlConnection,
    table: &str,
    column: &str,
) -> Result<Access, sqlx::Error> {
    let sql = "SELECT CAST(index_name AS CHAR), CAST(MIN(non_unique) = 0 AND COUNT(*) = 1 AS SIGNED) AS is_unique \
               FROM information_schema.statistics \
               WHERE table_schema = DATABASE() AND table_name = ? AND index_type = 'BTREE' GROUP BY index_name \
               HAVING SUM(seq_in_index = 1 AND column_name = ?) > 0 ORDER BY is_unique DESC, index_name LIMIT 1";
    let index = sqlx::query(sql)
        .bind(table)
        .bind(column)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(index) = index else {
        return Ok(Access {
            view: is_view(connection, table).await?,
            ..Access::default()
        });
    };
    let unique = index.try_get::<i64, _>(1)? > 0;
    let name: String = index.try_get(0)?;
    Ok(Access {
        indexed: true,
        unique,
        view: false,
        // Left to itself the server sorts a small table, and then any of the rows with the same key comes first.
        hint: if unique {
            String::new()
        } else {
            format!(" FORCE INDEX ({})", super::quoted(&name))
        },
    })
}

/// How rows are found by the time column and, where it repeats, by the key: an index has to keep that order, with the whole
/// of the time in it. One of the time alone does where the key is the primary key, which every index ends with.
pub(super) async fn time_access(
    connection: &mut MySqlConnection,
    table: &str,
    time: &str,
    key: &str,
) -> Result<Access, sqlx::Error> {
    let sql = "SELECT CAST(index_name AS CHAR) FROM information_schema.statistics \
               WHERE table_schema = DATABASE() AND table_name = ? AND index_type = 'BTREE' GROUP BY index_name \
               HAVING SUM(seq_in_index = 1 AND column_name = ? AND sub_part IS NULL) > 0 \
               AND (SUM(seq_in_index = 2 AND column_name = ?) > 0 OR COUNT(*) = 1 AND EXISTS (\
               SELECT 1 FROM information_schema.statistics WHERE table_schema = DATABASE() AND table_name = ? \
               AND index_name = 'PRIMARY' HAVING COUNT(*) = 1 AND SUM(column_name = ?) = 1)) ORDER BY index_name LIMIT 1";
    let index: Option<String> = sqlx::query_scalar(sql)
        .bind(table)
        .bind(time)
        .bind(key)
        .bind(table)
        .bind(key)
        .fetch_optional(&mut *connection)
        .await?;
    Ok(match index {
        Some(name) => Access {
            indexed: true,
            hint: format!(" FORCE INDEX ({})", super::quoted(&name)),
            ..Access::default()
        },
        None => Access {
            view: is_view(connection, table).await?,
            ..Access::default()
        },
    })
}

async fn is_view(connection: &mut MySqlConnection, table: &str) -> Result<bool, sqlx::Error> {
    let sql = "SELECT CAST(COUNT(*) AS SIGNED) FROM information_schema.views \
               WHERE table_schema = DATABASE() AND table_name = ?";
    let views: i64 = sqlx::query_scalar(sql)
        .bind(table)
        .fetch_one(connection)
        .await?;
    Ok(views > 0)
}

/// Whether the clock of the session is never set back, as that of a place with summer time is.
pub(super) async fn clock_is_steady(connection: &mut MySqlConnection) -> Result<bool, sqlx::Error> {
    let zone: String = sqlx::query_scalar("SELECT CAST(@@session.time_zone AS CHAR)")
        .fetch_one(connection)
        .await?;
    Ok(zone.starts_with(['+', '-']) || zone.eq_ignore_ascii_case("UTC"))
}

/// Who answers, and whether the connection is encrypted.
pub(super) async fn server(connection: &mut MySqlConnection) -> Result<facts::Server, sqlx::Error> {
    let version: String = sqlx::query_scalar("SELECT CAST(VERSION() AS CHAR)")
        .fetch_one(&mut *connection)
        .await?;
    // MySQL gives its number alone.
    let version = match version.split_once("-MariaDB") {
        Some((number, _)) => format!("MariaDB {number}"),
        None => format!("MySQL {version}"),
    };
    let tls = sqlx::raw_sql("SHOW SESSION STATUS LIKE 'Ssl_version'")
        .fetch_optional(connection)
        .await?;
    let tls = match &tls {
        Some(row) => raw(row, 1)?.map(|text| String::from_utf8_lossy(text).into_owned()),
        None => None,
    };
    Ok(facts::Server {
        version,
        tls: tls.filter(|version| !version.is_empty()),
    })
}

/// What the server believes; none for a view.
pub(super) async fn estimated_rows(
    connection: &mut MySqlConnection,
    table: &str,
) -> Result<Option<u64>, sqlx::Error> {
    let sql = "SELECT CAST(table_rows AS SIGNED) FROM information_schema.tables \
               WHERE table_schema = DATABASE() AND table_name = ?";
    let rows: Option<Option<i64>> = sqlx::query_scalar(sql)
        .bind(table)
        .fetch_optional(connection)
        .await?;
    Ok(rows.flatten().and_then(|rows| u64::try_from(rows).ok()))
}

/// By collation, not by the type's name: a `utf8mb4_bin` column is text and a `VARBINARY` is not.
fn shape(data_type: &str, collated: bool) -> Shape {
    if collated {
        return Shape::Text;
    }
    match data_type {
        "bit" => Shape::Bits,
        "decimal" | "float" | "double" | "year" => Shape::Number,
        _ if is_integer(data_type) => Shape::Number,
        "date" | "time" | "datetime" | "timestamp" | "json" | "uuid" | "inet4" | "inet6" => {
            Shape::Text
        }
        _ => Shape::Bytes,
    }
}

fn is_integer(data_type: &str) -> bool {
    matches!(
        data_type,
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint"
    )
}

/// What the server printed for a column, as bytes.
pub(super) fn raw(row: &MySqlRow, column: usize) -> Result<Option<&[u8]>, sqlx::Error> {
    let value = row.try_get_raw(column)?;
    // `is_null` takes a date that begins with a zero byte for NULL, which the text protocol never prints.
    if value.is_null() {
        Ok(None)
    } else {
        <&[u8] as Decode<MySql>>::decode(value)
            .map(Some)
            .map_err(sqlx::Error::Decode)
    }
}
