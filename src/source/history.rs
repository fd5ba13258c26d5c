//! The recorded times that a replay goes through: those of the whole range that are left, whichever of them are posted
//! here. Two short queries, or all times once where long silences are cut.

use super::{Options, Place, Reader, Row, RowError};
use crate::{failure::Failure, pace::History, post::Cursor, wall_time::WallTime};

/// Rows that are looked at for the first and the last time; there are no more unless many hold no time.
const FEW: usize = 16;

pub(super) async fn fill(
    reader: &mut Reader,
    options: &Options,
    mut history: History,
) -> Result<History, Failure> {
    let after = match options.after {
        // All that is left has no time.
        Some(Cursor::Time { after: None, .. }) => return Ok(history),
        Some(Cursor::Time { after: time, key }) => Some(Place { time, key }),
        _ => None,
    };
    let table = std::sync::Arc::clone(&reader.table);
    let Some(column) = &table.time else {
        return Ok(history);
    };
    let range = column.range;
    let time = column.expression();
    let key = table.key_name();
    let sql = format!(
        "SELECT {} FROM {}{} WHERE {} ORDER BY {time}",
        column.name(),
        super::quoted(&table.name),
        column.access.hint,
        column.conditions(after, &key).join(" AND ")
    );
    let usable = |row: &Row| -> Result<Option<WallTime>, RowError> {
        Ok(row.time(0)?.filter(|time| range.contains(*time)))
    };
    if history.needs_all() {
        let add = |history: &mut History, row: &Row| {
            if let Some(time) = usable(row)? {
                history.push(time);
            }
            Ok(())
        };
        return reader.fold(&sql, || history.clone(), add).await;
    }
    for direction in ["", " DESC"] {
        let mut limit = FEW;
        loop {
            let add = |(found, rows): &mut (Option<WallTime>, usize), row: &Row| {
                *rows += 1;
                if found.is_none() {
                    *found = usable(row)?;
                }
                Ok(())
            };
            let sql = format!("{sql}{direction} LIMIT {limit}");
            let (found, rows) = reader.fold(&sql, || (None, 0), add).await?;
            if let Some(time) = found {
                history.push(time);
            }
            if found.is_some() || rows < limit {
                break;
            }
            limit *= 16;
        }
    }
    Ok(history)
}
