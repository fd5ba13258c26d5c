//! Posts in key order: the three tables are read side by side and merged by key.

use std::sync::{Arc, Mutex};

use tokio::{sync::mpsc, task::JoinSet};

use super::{Chunk, Oddities, Options, Place, Reader, Rows, Walk, lock};
use crate::{
    failure::Failure,
    post::{Cursor, Key, Kind, PerKind, Post, Record},
};

/// Posts that are handed on together.
const CHUNK: usize = 256;

/// Sends every post of the range, once. Ends early when nobody takes them.
pub(super) async fn read(
    readers: PerKind<Reader>,
    options: &Options,
    oddities: &Arc<Mutex<Oddities>>,
    chunks: &mpsc::Sender<Result<Chunk, Failure>>,
) -> Result<(), Failure> {
    // Ends the readers with this function, however it ends.
    let mut tasks = JoinSet::new();
    let after = options.after_key().map(Place::of_key);
    let mut tables = readers
        .into_array()
        .map(|reader| Scan::start(reader, after, options, &mut tasks));
    let mut chunk = Vec::with_capacity(CHUNK);
    loop {
        for table in &mut tables {
            table.advance(oddities).await?;
        }
        let Some(key) = tables.iter().filter_map(Scan::key).min() else {
            break;
        };
        let records = tables
            .each_mut()
            .map(|table| table.take(key).map(|(_, record)| record));
        match records {
            [Some(pin), Some(geo), Some(user)] => {
                chunk.push(Post {
                    key,
                    records: PerKind::from([Some(pin), Some(geo), Some(user)]),
                    cursor: Cursor::Index { after: key },
                });
                if chunk.len() == CHUNK {
                    let full = std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK));
                    if chunks.send(Ok(full)).await.is_err() {
                        return Ok(());
                    }
                }
            }
            _ => lock(oddities).incomplete.add(key),
        }
    }
    if !chunk.is_empty() {
        let _ = chunks.send(Ok(chunk)).await;
    }
    Ok(())
}

/// One table on its way by key: the page at hand and the row that is next.
pub(super) struct Scan {
    pub(super) kind: Kind,
    pages: mpsc::Receiver<Result<Rows, Failure>>,
    rows: Option<Box<dyn Iterator<Item = (Place, Record)> + Send>>,
    next: Option<(Place, Record)>,
}

impl Scan {
    /// `after`: the key behind which it begins.
    pub(super) fn start(
        reader: Reader,
        after: Option<Place>,
        options: &Options,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let kind = reader.table.kind;
        // One page waits while the next one is read.
        let (sender, pages) = mpsc::channel(1);
        tasks.spawn(reader.scan(Walk::ByKey, after, options.clone(), sender));
        Self {
            kind,
            pages,
            rows: None,
            next: None,
        }
    }

    /// Makes sure that `next` is the next row of the table, or none at its end.
    pub(super) async fn advance(&mut self, oddities: &Mutex<Oddities>) -> Result<(), Failure> {
        while self.next.is_none() {
            self.next = self.rows.as_mut().and_then(Iterator::next);
            if self.next.is_none() {
                let Some(page) = self.pages.recv().await else {
                    return Ok(());
                };
                let page = page?;
                if !page.repeated().is_empty() {
                    let tally = &mut lock(oddities).repeated[self.kind];
                    for key in page.repeated() {
                        tally.add(*key);
                    }
                }
                self.rows = Some(Box::new(page.into_placed()));
            }
        }
        Ok(())
    }

    pub(super) fn key(&self) -> Option<Key> {
        self.next.as_ref().map(|(place, _)| place.key)
    }

    /// The next record if it has this key.
    pub(super) fn take(&mut self, key: Key) -> Option<(Place, Record)> {
        self.next.take_if(|(next, _)| next.key == key)
    }
}
