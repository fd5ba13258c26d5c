//! Look-ups ahead of who takes their posts. Each table is asked by a task of its own, which begins with the next window as
//! soon as it has one: their rows differ in size, and none waits for the slowest.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use tokio::{sync::mpsc, task::JoinSet};

use super::{Found, find, join, list};
use crate::{
    failure::{Exit, Failure},
    post::{Cursor, Key, PerKind},
    source::{Chunk, Oddities, Reader},
};

/// Windows that are looked up or wait to be taken.
const WINDOWS: usize = 3;

pub(super) struct Ahead {
    /// What is being looked up, in order.
    windows: VecDeque<Vec<(Key, Cursor)>>,
    tables: [Asked; 3],
    /// Each gives its reader back.
    tasks: JoinSet<Reader>,
    oddities: Option<Arc<Mutex<Oddities>>>,
}

/// A table that is looked up: lists of keys go in, their rows come out in the same order.
struct Asked {
    lists: mpsc::Sender<Arc<str>>,
    found: mpsc::Receiver<Result<Found, Failure>>,
}

impl Ahead {
    pub(super) fn start(readers: PerKind<Reader>, oddities: Option<&Arc<Mutex<Oddities>>>) -> Self {
        let mut tasks = JoinSet::new();
        let tables = readers.into_array().map(|mut reader| {
            let (lists, mut asked) = mpsc::channel::<Arc<str>>(WINDOWS);
            let (answers, found) = mpsc::channel(WINDOWS);
            let oddities = oddities.cloned();
            tasks.spawn(async move {
                while let Some(list) = asked.recv().await {
                    let found = find(&mut reader, &list, oddities.as_ref()).await;
                    if answers.send(found).await.is_err() {
                        break;
                    }
                }
                reader
            });
            Asked { lists, found }
        });
        Self {
            windows: VecDeque::new(),
            tables,
            tasks,
            oddities: oddities.cloned(),
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.windows.len() < WINDOWS
    }

    /// Has the keys looked up, behind those before.
    pub(super) async fn look_up(&mut self, places: Vec<(Key, Cursor)>) {
        let mut keys: Vec<Key> = places.iter().map(|(key, _)| *key).collect();
        // The server sorts them too, and is faster with those that are sorted.
        keys.sort_unstable();
        let list = Arc::<str>::from(list(keys.into_iter()));
        for table in &self.tables {
            // If nobody takes it any more, `next` will say so.
            let _ = table.lists.send(Arc::clone(&list)).await;
        }
        self.windows.push_back(places);
    }

    /// The posts of the next window; none if there is no window.
    pub(super) async fn next(&mut self) -> Option<Result<Chunk, Failure>> {
        let places = self.windows.pop_front()?;
        let [pin, geo, user] = self.tables.each_mut().map(|table| async {
            let found = table.found.recv().await;
            found.unwrap_or_else(|| Err(ended_by_itself()))
        });
        let found = tokio::try_join!(pin, geo, user);
        Some(found.map(|(pin, geo, user)| join(&places, [pin, geo, user], self.oddities.as_ref())))
    }

    /// The readers again.
    pub(super) async fn end(mut self) -> Result<PerKind<Reader>, Failure> {
        drop(self.tables);
        let mut readers = Vec::new();
        while let Some(ended) = self.tasks.join_next().await {
            readers.extend(ended);
        }
        readers.sort_unstable_by_key(|reader| reader.table.kind as usize);
        let readers: Result<[Reader; 3], _> = readers.try_into();
        readers.map(PerKind::from).map_err(|_| ended_by_itself())
    }
}

fn ended_by_itself() -> Failure {
    Failure::new(Exit::Bug, "a look-up ended by itself; please report this")
}
