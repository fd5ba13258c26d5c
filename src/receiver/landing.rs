//! Where records come to rest: files that grow under a hidden name and never change under their own. The only file I/O of the receiver; knows no protocol.

mod recovery;

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tracing::error;

use self::recovery::{names_in, open_path, recover};
use super::layout::{FileNames, Layout};
use crate::failure::{Exit, Failure, OrExit};

/// When a file is finished.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flush {
    pub(super) size: u64,
    pub(super) after: Duration,
}

/// The data directory, locked for as long as this lives.
#[derive(Debug)]
pub(super) struct Landing {
    root: Option<PathBuf>,
    flush: Flush,
    _lock: Option<File>,
}

impl Landing {
    /// `root`: `None` keeps nothing.
    pub(super) fn open(root: Option<PathBuf>, flush: Flush) -> Result<Self, Failure> {
        let lock = root.as_deref().map(lock).transpose()?;
        Ok(Self {
            root,
            flush,
            _lock: lock,
        })
    }

    /// What an earlier run has left: names, and how many partitions each has. Finishes the files it did not.
    pub(super) fn found(&self, layout: Layout) -> io::Result<Vec<(String, u32)>> {
        let Some(root) = &self.root else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for name in names_in(&root.join(layout.tree()))? {
            let mut partitions = 0;
            for dir in names_in(&root.join(layout.tree()).join(&name))? {
                if let Some(index) = layout.partition_index(&dir) {
                    self.partition(layout, &name, index).next_position()?;
                    partitions = partitions.max(index + 1);
                }
            }
            found.push((name, partitions));
        }
        Ok(found)
    }

    /// The only one of its kind: two would write to the same file. `name` is safe as the name of a directory.
    pub(super) fn partition(&self, layout: Layout, name: &str, index: u32) -> Partition {
        let dir = self.root.as_ref();
        let dir = dir.map(|root| {
            root.join(layout.tree())
                .join(name)
                .join(layout.partition_dir(index))
        });
        Partition {
            next: dir.is_none().then_some(0),
            dir,
            names: layout.file_names(name, index),
            flush: self.flush,
            open: None,
            landed: 0,
            failing: false,
        }
    }
}

fn lock(root: &Path) -> Result<File, Failure> {
    let unwritable = || format!("cannot write to the data directory {}", root.display());
    fs::create_dir_all(root).or_exit(Exit::CannotWrite, unwritable)?;
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(root.join(".lock"));
    let file = file.or_exit(Exit::CannotWrite, unwritable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Failure::new(
            Exit::Locked,
            format_args!(
                "the data directory {} is in use by another receiver; give each its own (--data-dir)",
                root.display()
            ),
        )),
        Err(TryLockError::Error(error)) => Err(error).or_exit(Exit::CannotWrite, unwritable),
    }
}

/// One partition or shard: positions that only grow, lines in files.
#[derive(Debug)]
pub(super) struct Partition {
    dir: Option<PathBuf>,
    names: FileNames,
    flush: Flush,
    /// The position of the next record; `None` until the directory was asked, and again after a disk error.
    next: Option<u64>,
    open: Option<OpenFile>,
    landed: u64,
    failing: bool,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    start: u64,
    records: u64,
    bytes: u64,
    since: Instant,
}

impl OpenFile {
    fn create(dir: &Path, names: &FileNames, start: u64, now: Instant) -> io::Result<Self> {
        // Made again for each file, since people tidy up while a receiver runs.
        fs::create_dir_all(dir)?;
        let mut options = OpenOptions::new();
        let file = options
            .create_new(true)
            .append(true)
            .open(open_path(dir, &names.name(start)))?;
        Ok(Self {
            file,
            start,
            records: 0,
            bytes: 0,
            since: now,
        })
    }
}

impl Partition {
    /// Lands all of `records`, one line each, and gives the position of the first; the others follow it. After an error
    /// none of them may be acknowledged, though some may have landed.
    pub(super) fn append<R>(
        &mut self,
        records: &[R],
        now: Instant,
        write: impl Fn(&R, u64, &mut Vec<u8>),
    ) -> io::Result<u64> {
        let result = self.next_position().and_then(|first| {
            match self.dir.clone() {
                Some(dir) => self.land(&dir, first, records, now, write)?,
                None => self.next = Some(first + records.len() as u64),
            }
            Ok(first)
        });
        match &result {
            Ok(_) => {
                self.failing = false;
                self.landed += records.len() as u64;
            }
            Err(error) => self.forget(error),
        }
        result
    }

    fn land<R>(
        &mut self,
        dir: &Path,
        mut position: u64,
        records: &[R],
        now: Instant,
        write: impl Fn(&R, u64, &mut Vec<u8>),
    ) -> io::Result<()> {
        let mut lines = Vec::new();
        let mut rest = records;
        while !rest.is_empty() {
            let open = match &mut self.open {
                Some(open) => open,
                None => self
                    .open
                    .insert(OpenFile::create(dir, &self.names, position, now)?),
            };
            let room = self.flush.size.saturating_sub(open.records).max(1);
            let room = usize::try_from(room).unwrap_or(usize::MAX);
            let (part, later) = rest.split_at(room.min(rest.len()));
            lines.clear();
            for record in part {
                write(record, position, &mut lines);
                lines.push(b'\n');
                position += 1;
            }
            open.file.write_all(&lines)?;
            open.bytes += lines.len() as u64;
            open.records += part.len() as u64;
            self.next = Some(position);
            if open.records >= self.flush.size {
                self.finish()?;
            }
            rest = later;
        }
        Ok(())
    }

    /// Makes the directory, so that the next start knows of this partition.
    pub(super) fn make(&self) -> io::Result<()> {
        self.dir.as_ref().map_or(Ok(()), fs::create_dir_all)
    }

    /// Finishes a file whose time is up, or that an error made it lose sight of.
    pub(super) fn finish_if_due(&mut self, now: Instant) {
        let is_due = |open: &OpenFile| now.duration_since(open.since) >= self.flush.after;
        let finished = if self.failing && self.next.is_none() {
            self.next_position().map(drop)
        } else if self.open.as_ref().is_some_and(is_due) {
            self.finish()
        } else {
            return;
        };
        if let Err(error) = finished {
            self.forget(&error);
        }
    }

    /// Gives the open file, if there is one, its own name.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        let (Some(open), Some(dir)) = (&self.open, &self.dir) else {
            return Ok(());
        };
        let name = self.names.name(open.start);
        fs::rename(open_path(dir, &name), dir.join(name))?;
        self.open = None;
        Ok(())
    }

    pub(super) fn landed(&self) -> u64 {
        self.landed
    }

    pub(super) fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// After an error only the disk knows what has landed: cut off what is in doubt, and ask it the next time.
    fn forget(&mut self, error: &io::Error) {
        if let Some(open) = self.open.take() {
            let _ = open.file.set_len(open.bytes);
        }
        self.next = None;
        if !self.failing {
            self.failing = true;
            let path = self.dir.as_deref().unwrap_or(Path::new("")).display();
            error!(%path, %error, "Records cannot be landed.");
        }
    }

    fn next_position(&mut self) -> io::Result<u64> {
        let next = match (self.next, &self.dir) {
            (Some(next), _) => next,
            (None, Some(dir)) => recover(dir, &self.names)?,
            (None, None) => 0,
        };
        self.next = Some(next);
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLUSH: Flush = Flush {
        size: 3,
        after: Duration::from_secs(1),
    };

    struct Bench {
        dir: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                dir: tempfile::tempdir().unwrap(),
            }
        }

        fn partition(&self) -> Partition {
            let landing = Landing {
                root: Some(self.dir.path().to_owned()),
                flush: FLUSH,
                _lock: None,
            };
            landing.partition(Layout::Topics, "t", 0)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join("topics/t/partition=0").join(name)
        }

        fn files(&self) -> Vec<(String, String)> {
            let mut names = names_in(&self.path("")).unwrap();
            names.sort();
            names
                .into_iter()
                .map(|name| (name.clone(), fs::read_to_string(self.path(&name)).unwrap()))
                .collect()
        }
    }

    fn file(name: &str, text: &str) -> (String, String) {
        (name.to_owned(), text.to_owned())
    }

    fn land(partition: &mut Partition, records: &[&str]) -> u64 {
        partition
            .append(records, Instant::now(), |record, _, line| {
                line.extend_from_slice(record.as_bytes());
            })
            .unwrap()
    }

    #[test]
    fn a_file_is_hidden_until_it_is_full() {
        let bench = Bench::new();
        let mut partition = bench.partition();
        assert_eq!(land(&mut partition, &["1", "2"]), 0);
        assert_eq!(bench.files(), [file(".t+0+0000000000.json.open", "1\n2\n")]);
        assert_eq!(land(&mut partition, &["3", "4", "5", "6", "7"]), 2);
        assert_eq!(
            bench.files(),
            [
                file(".t+0+0000000006.json.open", "7\n"),
                file("t+0+0000000000.json", "1\n2\n3\n"),
                file("t+0+0000000003.json", "4\n5\n6\n")
            ]
        );
        assert_eq!(partition.landed(), 7);
    }

    #[test]
    fn a_file_is_finished_when_its_time_is_up() {
        let bench = Bench::new();
        let mut partition = bench.partition();
        land(&mut partition, &["1"]);
        partition.finish_if_due(Instant::now());
        assert_eq!(bench.files(), [file(".t+0+0000000000.json.open", "1\n")]);
        partition.finish_if_due(Instant::now() + FLUSH.after);
        assert_eq!(bench.files(), [file("t+0+0000000000.json", "1\n")]);
    }

    #[test]
    fn a_restart_after_a_crash_cuts_the_torn_line_and_goes_on() {
        let bench = Bench::new();
        land(&mut bench.partition(), &["1", "2", "3", "4", "5"]);
        let open = bench.path(".t+0+0000000003.json.open");
        OpenOptions::new()
            .append(true)
            .open(&open)
            .unwrap()
            .write_all(b"{\"torn")
            .unwrap();
        fs::write(bench.path("notes.txt"), "not ours").unwrap();
        assert_eq!(land(&mut bench.partition(), &["6"]), 5);
        assert_eq!(
            bench.files(),
            [
                file(".t+0+0000000005.json.open", "6\n"),
                file("notes.txt", "not ours"),
                file("t+0+0000000000.json", "1\n2\n3\n"),
                file("t+0+0000000003.json", "4\n5\n"),
            ]
        );
    }

    #[test]
    fn an_open_file_without_a_whole_line_is_removed() {
        let bench = Bench::new();
        land(&mut bench.partition(), &["1", "2", "3"]);
        fs::write(bench.path(".t+0+0000000003.json.open"), "{").unwrap();
        assert_eq!(bench.partition().next_position().unwrap(), 3);
        assert_eq!(bench.files(), [file("t+0+0000000000.json", "1\n2\n3\n")]);
    }

    #[test]
    fn after_a_disk_error_the_disk_is_asked_again() {
        let bench = Bench::new();
        let mut partition = bench.partition();
        land(&mut partition, &["1"]);
        let dir = bench.path("");
        let away = bench.dir.path().join("away");
        fs::rename(&dir, &away).unwrap();
        fs::write(&dir, "in the way").unwrap_err();
        fs::write(bench.dir.path().join("topics/t/partition=0"), "in the way").unwrap();
        let records = ["2", "3"];
        let write =
            |record: &&str, _, line: &mut Vec<u8>| line.extend_from_slice(record.as_bytes());
        assert!(partition.append(&records, Instant::now(), write).is_err());
        fs::remove_file(bench.dir.path().join("topics/t/partition=0")).unwrap();
        fs::rename(&away, &dir).unwrap();
        partition.finish_if_due(Instant::now());
        let finished = file("t+0+0000000000.json", "1\n2\n3\n");
        assert_eq!(bench.files(), std::slice::from_ref(&finished));
        assert_eq!(land(&mut partition, &["4"]), 3);
        assert_eq!(partition.landed(), 2);
    }

    #[test]
    fn a_data_directory_has_one_receiver() {
        let bench = Bench::new();
        let root = || Some(bench.dir.path().to_owned());
        let first = Landing::open(root(), FLUSH).unwrap();
        let second = Landing::open(root(), FLUSH).unwrap_err();
        assert_eq!(second.exit, Exit::Locked);
        assert!(
            second.to_string().contains("in use by another receiver"),
            "{second}"
        );
        drop(first);
        assert!(Landing::open(root(), FLUSH).is_ok());
    }
}
