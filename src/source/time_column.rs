//! The column of recorded times: how rows are found, ordered and bounded by it.

use super::{Access, Connection, Database, Definition, Place, Table, mysql, quoted, sqlite};
use crate::{
    failure::{Exit, Failure},
    wall_time::{TimeRange, WallTime},
};

/// What the column is called, in any case.
const NAME: &str = "timestamp";
/// Before all times, and behind NULL, the zero date and the empty text.
const EARLIEST: &str = "0001-01-01";

/// The recorded times of a table.
#[derive(Debug, Clone)]
pub(super) struct TimeColumn {
    /// Which of the table's columns it is.
    pub(super) column: usize,
    /// Quoted.
    name: String,
    /// Its texts do not sort as their times do, since some have a `T` or a `Z`.
    mixed: bool,
    /// The times that are posted.
    pub(super) range: TimeRange,
    pub(super) access: Access,
    /// What to run so that an index orders by it; none if there is one or none can be.
    pub(super) cure: Option<String>,
}

impl TimeColumn {
    /// `key`: the name of the key column.
    pub(super) async fn find(
        database: &Database,
        connection: &mut Connection,
        table: &str,
        definitions: &[Definition],
        key: &str,
        range: TimeRange,
    ) -> Result<Self, Failure> {
        let column = definitions
            .iter()
            .position(|column| column.name.eq_ignore_ascii_case(NAME));
        let Some(column) = column else {
            let text = format!(
                "table {table} has no column {NAME}, by which --order time reads; use --order index or --order random"
            );
            return Err(Failure::new(Exit::Data, text));
        };
        let definition = &definitions[column];
        let name = &definition.name;
        let failure = |error: sqlx::Error| database.failure(&error);
        let is_text = is_text(database, connection, table, definition).await?;
        let mixed = is_text && is_mixed(connection, table, name).await.map_err(failure)?;
        let mut access = match connection {
            Connection::MySql(connection) => mysql::time_access(connection, table, name, key).await,
            Connection::Sqlite(connection) => {
                sqlite::time_access(connection, table, name, key).await
            }
        }
        .map_err(failure)?;
        access.indexed &= !mixed;
        let name = quoted(name);
        let can_have_index = !access.view && !mixed && !definition.data_type.ends_with("text");
        let cure = (!access.indexed && can_have_index).then(|| {
            let (table, key) = (quoted(table), quoted(key));
            format!("CREATE INDEX pinemu_time ON {table} ({name}, {key})")
        });
        Ok(Self {
            column,
            name,
            mixed,
            range,
            access,
            cure,
        })
    }

    /// The same in a table that has it at another place.
    pub(super) fn at(&self, column: usize) -> Self {
        Self {
            column,
            ..self.clone()
        }
    }

    /// What rows are ordered by.
    pub(super) fn expression(&self) -> String {
        let name = &self.name;
        if self.mixed {
            format!("REPLACE(REPLACE({name}, 'T', ' '), 'Z', '')")
        } else {
            name.clone()
        }
    }

    /// For a query that selects it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What holds for all rows with a time in the range, behind a place. It may hold for a few others: which time a text is
    /// and whether it is one at all is decided where it is read.
    pub(super) fn conditions(&self, after: Option<Place>, key: &str) -> Vec<String> {
        let time = self.expression();
        let mut conditions = vec![format!("{key} IS NOT NULL")];
        // Not as a comparison of pairs, for which MySQL and MariaDB read the whole table.
        if let Some((after, last)) = after.and_then(|place| Some((place.time?, place.key))) {
            let after = self.literal(after);
            conditions.push(format!(
                "({time} > {after} OR ({time} = {after} AND {key} > {last}))"
            ));
        } else {
            let from = self.range.from.map(WallTime::floor);
            let from = from.map_or_else(|| format!("'{EARLIEST}'"), |from| self.literal(from));
            conditions.push(format!("{time} >= {from}"));
        }
        let end = self.range.to.and_then(WallTime::next);
        conditions.extend(end.map(|end| format!("{time} < {}", self.literal(end))));
        conditions
    }

    /// A time as SQL: digits and what stands between them.
    fn literal(&self, time: WallTime) -> String {
        let time = if self.mixed { time.spaced() } else { time };
        format!("'{time}'")
    }
}

/// Whether the column holds texts in place of the server's own times. A failure says why it can be read by neither.
async fn is_text(
    database: &Database,
    connection: &mut Connection,
    table: &str,
    Definition {
        name, data_type, ..
    }: &Definition,
) -> Result<bool, Failure> {
    let Connection::MySql(connection) = connection else {
        return Ok(true);
    };
    match data_type.as_str() {
        "datetime" | "date" => Ok(false),
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => Ok(true),
        "timestamp" => {
            let steady = mysql::clock_is_steady(connection).await;
            if steady.map_err(|error| database.failure(&error))? {
                return Ok(false);
            }
            // The hour that comes twice when the clock is set back has no order by its text.
            let text = format!(
                "the TIMESTAMP column {name} of table {table} cannot be read by time in the time zone of --database-url; write time-zone=UTC, or an offset such as time-zone=%2B02:00"
            );
            Err(Failure::new(Exit::Configuration, text))
        }
        other => {
            let text = format!(
                "the column {name} of table {table} is {other}, and --order time reads by a date, a datetime, a timestamp or a text; use --order index or --order random"
            );
            Err(Failure::new(Exit::Data, text))
        }
    }
}

/// Whether some of the texts in a column of times have a `T` or a `Z`.
async fn is_mixed(
    connection: &mut Connection,
    table: &str,
    column: &str,
) -> Result<bool, sqlx::Error> {
    let (table, column) = (quoted(table), quoted(column));
    let sql = format!(
        "SELECT 1 FROM {table} WHERE {column} LIKE '____-__-__T%' OR {column} LIKE '%Z' LIMIT 1"
    );
    let row = connection.fetch(sql).next().await;
    Ok(row.transpose()?.is_some())
}

/// Says what makes reading by time slow, where something does.
pub(super) fn advise(table: &Table, column: &TimeColumn) {
    let name = &table.name;
    if let Some(cure) = &column.cure {
        tracing::warn!(
            "The table {name} has no index on its time and key, so all of it is sorted before the first post. If that takes long, this makes one: {cure}"
        );
    } else if !column.access.indexed {
        tracing::info!(
            "The times of {name} are in no index that orders them, so all of it is sorted before the first post."
        );
    }
}
