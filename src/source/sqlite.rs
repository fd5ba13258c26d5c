//! SQLite: what of reading is its alone. Values carry their own types, and print as MySQL prints them.

use std::path::{Path, PathBuf};

use sqlx::{
    ConnectOptions, Decode, Row, Sqlite, TypeInfo, ValueRef,
    sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow},
};

use super::{Access, Definition, encode::Shape};

/// A database file.
#[derive(Debug, Clone)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
}

impl File {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    pub(super) async fn connect(&self) -> Result<SqliteConnection, sqlx::Error> {
        SqliteConnectOptions::new()
            .filename(&self.path)
            .read_only(true)
            .disable_statement_logging()
            .connect()
            .await
    }
}

/// Columns in the table's order; empty if there is no such table.
pub(super) async fn columns(
    connection: &mut SqliteConnection,
    table: &str,
) -> Result<Vec<Definition>, sqlx::Error> {
    let sql =
        "SELECT name, type, \"notnull\" = 0 AND pk = 0 FROM pragma_table_info(?) ORDER BY cid";
    let rows = sqlx::query(sql).bind(table).fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            let data_type: String = row.try_get(1)?;
            Ok(Definition {
                name: row.try_get(0)?,
                shape: None,
                integer: data_type.to_ascii_uppercase().contains("INT"),
                data_type,
                nullable: row.try_get::<i64, _>(2)? != 0,
            })
        })
        .collect()
}

/// How rows are found by the column: by an index that begins with it, or as row id.
pub(super) async fn access(
    connection: &mut SqliteConnection,
    table: &str,
    column: &str,
) -> Result<Access, sqlx::Error> {
    let indexes = "SELECT COUNT(*), COALESCE(SUM(list.\"unique\" AND list.partial = 0 \
                   AND (SELECT COUNT(*) FROM pragma_index_info(list.name)) = 1), 0) FROM pragma_index_list(?1) AS list \
                   JOIN pragma_index_info(list.name) AS info ON info.seqno = 0 AND info.name = ?2 WHERE list.partial = 0";
    let row_id = is_row_id(connection, table, column).await?;
    let row = sqlx::query(indexes)
        .bind(table)
        .bind(column)
        .fetch_one(&mut *connection)
        .await?;
    let (indexes, unique): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    Ok(Access {
        indexed: row_id || indexes > 0,
        unique: row_id || unique > 0,
        view: is_view(connection, table).await?,
        hint: String::new(),
    })
}

/// How rows are found by the time column and, where it repeats, by the key: an index has to keep that order. One of the
/// time alone does where the key is the row id, which every index ends with.
pub(super) async fn time_access(
    connection: &mut SqliteConnection,
    table: &str,
    time: &str,
    key: &str,
) -> Result<Access, sqlx::Error> {
    let sql = "SELECT COUNT(*) FROM pragma_index_list(?1) AS list \
               JOIN pragma_index_info(list.name) AS info ON info.seqno = 0 AND info.name = ?2 WHERE list.partial = 0 \
               AND (?4 AND (SELECT COUNT(*) FROM pragma_index_info(list.name)) = 1 \
               OR EXISTS (SELECT 1 FROM pragma_index_info(list.name) WHERE seqno = 1 AND name = ?3))";
    let row_id = is_row_id(connection, table, key).await?;
    let indexes: i64 = sqlx::query_scalar(sql)
        .bind(table)
        .bind(time)
        .bind(key)
        .bind(row_id)
        .fetch_one(&mut *connection)
        .await?;
    Ok(Access {
        indexed: indexes > 0,
        view: is_view(connection, table).await?,
        ..Access::default()
    })
}

async fn is_row_id(
    connection: &mut SqliteConnection,
    table: &str,
    column: &str,
) -> Result<bool, sqlx::Error> {
    let sql = "SELECT COUNT(*) FROM pragma_table_info(?1) \
               WHERE pk = 1 AND upper(type) = 'INTEGER' AND name = ?2 \
               AND (SELECT COUNT(*) FROM pragma_table_info(?1) WHERE pk > 0) = 1";
    let columns: i64 = sqlx::query_scalar(sql)
        .bind(table)
        .bind(column)
        .fetch_one(connection)
        .await?;
    Ok(columns > 0)
}

async fn is_view(connection: &mut SqliteConnection, table: &str) -> Result<bool, sqlx::Error> {
    let sql = "SELECT COUNT(*) FROM sqlite_master WHERE type = 'view' AND name = ?";
    let views: i64 = sqlx::query_scalar(sql)
        .bind(table)
        .fetch_one(connection)
        .await?;
    Ok(views > 0)
}

/// `SQLite 3.50.2` and the like; reads the file, which opening does not.
pub(super) async fn version(connection: &mut SqliteConnection) -> Result<String, sqlx::Error> {
    let _: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM sqlite_master")
        .fetch_one(&mut *connection)
        .await?;
    let version: String = sqlx::query_scalar("SELECT sqlite_version()")
        .fetch_one(connection)
        .await?;
    Ok(format!("SQLite {version}"))
}

/// Gives `then` the value of a column as MySQL would print it, with its type.
pub(super) fn with_raw<T>(
    row: &SqliteRow,
    column: usize,
    then: impl FnOnce(Option<(Shape, &[u8])>) -> T,
) -> Result<T, sqlx::Error> {
    let value = row.try_get_raw(column)?;
    if value.is_null() {
        return Ok(then(None));
    }
    let name = value.type_info().name().to_owned();
    let decoded = match name.as_str() {
        "INTEGER" => <i64 as Decode<Sqlite>>::decode(value)
            .map(|number| then(Some((Shape::Number, number.to_string().as_bytes())))),
        // Rust prints the shortest digits that give the number back, as the server does.
        "REAL" => <f64 as Decode<Sqlite>>::decode(value)
            .map(|number| then(Some((Shape::Number, number.to_string().as_bytes())))),
        "BLOB" => {
            <&[u8] as Decode<Sqlite>>::decode(value).map(|bytes| then(Some((Shape::Bytes, bytes))))
        }
        _ => <&[u8] as Decode<Sqlite>>::decode(value).map(|text| then(Some((Shape::Text, text)))),
    };
    decoded.map_err(sqlx::Error::Decode)
}
