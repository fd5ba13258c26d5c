//! Which topics or streams there are, and their partitions. Knows no protocol and no file.

use std::{
    collections::BTreeMap,
    io, mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use super::{
    landing::{Landing, Partition},
    layout::Layout,
};

/// All topics, or all streams.
#[derive(Debug)]
pub(super) struct Catalog {
    landing: Arc<Landing>,
    layout: Layout,
    /// Whether a name comes to exist by being used.
    any: bool,
    partitions: u32,
    entries: RwLock<BTreeMap<String, Entry>>,
}

#[derive(Debug)]
struct Entry {
    log: Arc<Log>,
    /// When it is ready, if it was asked for; none if it has always been there.
    ready_at: Option<Instant>,
    /// A deleted stream keeps its partitions, so that one made again goes on after what has landed.
    deleted: bool,
}

impl Entry {
    fn is_ready(&self, now: Instant) -> bool {
        self.ready_at.is_none_or(|at| at <= now)
    }
}

/// What is known of a topic or stream that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) partitions: u32,
    /// Whether it takes records yet.
    pub(super) ready: bool,
}

/// One topic or stream.
#[derive(Debug)]
pub(super) struct Log {
    partitions: Vec<Arc<Mutex<Partition>>>,
    turn: AtomicU32,
}

impl Catalog {
    /// `only`: nothing else exists.
    pub(super) fn open(
        landing: Arc<Landing>,
        layout: Layout,
        only: Option<&[String]>,
        partitions: u32,
    ) -> io::Result<Self> {
        let found = landing.found(layout)?;
        let any = only.is_none();
        let catalog = Self {
            landing,
            layout,
            any,
            partitions,
            entries: RwLock::default(),
        };
        let mut entries = BTreeMap::new();
        for name in only.unwrap_or_default() {
            entries.insert(name.clone(), catalog.entry(name, &[], partitions));
        }
        for (name, landed) in found {
            if any || entries.contains_key(&name) {
                let entry = catalog.entry(&name, &[], partitions.max(landed));
                entries.insert(name, entry);
            }
        }
        Ok(Self {
            entries: RwLock::new(entries),
            ..catalog
        })
    }

    fn entry(&self, name: &str, existing: &[Arc<Mutex<Partition>>], partitions: u32) -> Entry {
        let mut all = existing.to_vec();
        for index in (0..partitions).skip(existing.len()) {
            all.push(Arc::new(Mutex::new(self.landing.partition(
                self.layout,
                name,
                index,
            ))));
        }
        Entry {
            log: Arc::new(Log {
                partitions: all,
                turn: AtomicU32::new(0),
            }),
            ready_at: None,
            deleted: false,
        }
    }

    /// The log to write to; `name` is legal. None if there is none or it is not ready yet.
    pub(super) fn log(&self, name: &str, now: Instant) -> Option<Arc<Log>> {
        if let Some(entry) = read(&self.entries).get(name) {
            return (!entry.deleted && entry.is_ready(now)).then(|| Arc::clone(&entry.log));
        }
        if !self.any {
            return None;
        }
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let entry = entries
            .entry(name.to_owned())
            .or_insert_with(|| self.entry(name, &[], self.partitions));
        (!entry.deleted).then(|| Arc::clone(&entry.log))
    }

    /// What there is of this name, or would be once it is used.
    pub(super) fn known(&self, name: &str, now: Instant) -> Option<Known> {
        match read(&self.entries).get(name) {
            Some(entry) => (!entry.deleted).then(|| Known {
                partitions: entry.log.partitions(),
                ready: entry.is_ready(now),
            }),
            None => self.any.then_some(Known {
                partitions: self.partitions,
                ready: true,
            }),
        }
    }

    pub(super) fn names(&self) -> Vec<String> {
        let entries = read(&self.entries);
        entries
            .iter()
            .filter(|(_, entry)| !entry.deleted)
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Makes what does not exist; whether it did. What has been there before keeps at least the partitions it had.
    pub(super) fn create(
        &self,
        name: &str,
        partitions: u32,
        ready_at: Instant,
    ) -> io::Result<bool> {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let existing = match entries.get(name) {
            Some(entry) if !entry.deleted => return Ok(false),
            Some(entry) => entry.log.partitions.as_slice(),
            None => &[],
        };
        let entry = Entry {
            ready_at: Some(ready_at),
            ..self.entry(name, existing, partitions)
        };
        entry.log.each(|partition| partition.make())?;
        entries.insert(name.to_owned(), entry);
        Ok(true)
    }

    /// What has landed stays; whether there was anything to delete.
    pub(super) fn delete(&self, name: &str, now: Instant) -> bool {
        if self.log(name, now).is_none() {
            return false;
        }
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries
            .get_mut(name)
            .is_some_and(|entry| !mem::replace(&mut entry.deleted, true))
    }

    pub(super) fn finish_due(&self, now: Instant) {
        for entry in read(&self.entries).values() {
            let _ = entry.log.each(|partition| {
                partition.finish_if_due(now);
                Ok(())
            });
        }
    }

    pub(super) fn finish(&self) -> io::Result<()> {
        read(&self.entries)
            .values()
            .try_for_each(|entry| entry.log.each(Partition::finish))
    }

    /// The records landed by this run.
    pub(super) fn counts(&self) -> BTreeMap<String, u64> {
        let count = |entry: &Entry| {
            entry
                .log
                .partitions
                .iter()
                .map(|it| lock(it).landed())
                .sum()
        };
        read(&self.entries)
            .iter()
            .map(|(name, entry)| (name.clone(), count(entry)))
            .collect()
    }
}

impl Log {
    pub(super) fn partitions(&self) -> u32 {
        u32::try_from(self.partitions.len()).unwrap_or(u32::MAX)
    }

    /// A number that moves on with every request.
    pub(super) fn turn(&self) -> u32 {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// Lands records in their partitions, in the order given, and gives the position of each. After an error none of
    /// them may be acknowledged.
    pub(super) fn land<R>(
        &self,
        placed: &[(u32, R)],
        now: Instant,
        write: impl Fn(&(u32, R), u64, &mut Vec<u8>),
    ) -> io::Result<Vec<u64>> {
        let mut order: Vec<usize> = (0..placed.len()).collect();
        order.sort_by_key(|&index| placed[index].0);
        let mut positions = vec![0; placed.len()];
        for group in order.chunk_by(|&a, &b| placed[a].0 == placed[b].0) {
            let mut partition = lock(&self.partitions[placed[group[0]].0 as usize]);
            let first = partition.append(group, now, |&index, position, line| {
                write(&placed[index], position, line);
            });
            let first = first.map_err(|error| match partition.dir() {
                Some(dir) => io::Error::new(
                    error.kind(),
                    format!("cannot write to {}: {error}", dir.display()),
                ),
                None => error,
            })?;
            for (position, &index) in (first..).zip(group) {
                positions[index] = position;
            }
        }
        Ok(positions)
    }

    fn each(&self, mut act: impl FnMut(&mut Partition) -> io::Result<()>) -> io::Result<()> {
        self.partitions
            .iter()
            .try_for_each(|partition| act(&mut lock(partition)))
    }
}

/// A thread that panicked left nothing half done: what a partition knows is set only after the disk has it.
fn lock(partition: &Mutex<Partition>) -> MutexGuard<'_, Partition> {
    partition.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}
