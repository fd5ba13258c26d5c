//! Writes checkpoints on a thread of its own: the newest wins, so a slow disk delays nobody.
//!
//! A crash of the process costs what was settled during one write and the two milliseconds after it. A loss of power costs a
//! second more, since only then is the disk waited for. No checkpoint gets a name before the undelivered records that it
//! passes are on the disk.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::{
    cannot_write,
    checkpoint::{Checkpoint, FILE, SYNCED},
    private, remove, sync_dir,
    undelivered::Synced,
};
use crate::failure::{Exit, Failure, OrExit};

/// Between two writes: each costs a file, and many a file system sends one that takes another's name to the disk at once.
const REST: Duration = Duration::from_millis(2);
/// How often the disk is waited for.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// What a checkpoint is called while it is written.
const NEW: &str = "checkpoint.json.new";

/// Takes checkpoints until it is finished. Dropping it finishes it too, without a word of what failed.
#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    mail: Mutex<Mail>,
    changed: Condvar,
    failed: CancellationToken,
}

#[derive(Debug, Default)]
struct Mail {
    newest: Option<Checkpoint>,
    closed: bool,
    /// The first.
    failure: Option<Failure>,
}

impl Writer {
    pub(crate) fn start(dir: PathBuf) -> Result<Self, Failure> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("checkpoint".to_owned())
            .spawn(move || work(&theirs, Disk::new(dir)))
            .or_exit(Exit::Bug, || "cannot start a thread")?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Has it written soon, unless a newer one comes first. Never waits for the disk.
    pub(crate) fn schedule(&self, checkpoint: Checkpoint) {
        self.shared.mail().newest = Some(checkpoint);
        self.shared.changed.notify_one();
    }

    /// Cancelled once a write has failed; [`Writer::finish`] says how.
    pub(crate) fn failed(&self) -> CancellationToken {
        self.shared.failed.clone()
    }

    /// Waits until the newest checkpoint is on the disk. Gives the first failure of the whole run.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        self.close();
        let failure = self.shared.mail().failure.take();
        failure.map_or(Ok(()), Err)
    }

    fn close(&mut self) {
        self.shared.mail().closed = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            let bug = "the writer of checkpoints ended by itself; please report this";
            self.shared.fail(Failure::new(Exit::Bug, bug));
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn mail(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, failure: Failure) {
        self.mail().failure.get_or_insert(failure);
        self.failed.cancel();
    }

    /// Waits for a checkpoint, the end or `due`. Whether the end has come is the second.
    fn next(&self, due: Option<Instant>) -> (Option<Checkpoint>, bool) {
        let mut mail = self.mail();
        loop {
            let left = due.map(|due| due.saturating_duration_since(Instant::now()));
            if mail.newest.is_some() || mail.closed || left == Some(Duration::ZERO) {
                return (mail.newest.take(), mail.closed);
            }
            mail = if let Some(left) = left {
                let woken = self.changed.wait_timeout(mail, left);
                woken.unwrap_or_else(PoisonError::into_inner).0
            } else {
                let woken = self.changed.wait(mail);
                woken.unwrap_or_else(PoisonError::into_inner)
            };
        }
    }
}

fn work(shared: &Shared, mut disk: Disk) {
    loop {
        let (checkpoint, closed) = shared.next(disk.sync_due());
        let wrote = checkpoint.is_some();
        let written = checkpoint.map_or(Ok(()), |checkpoint| disk.write(&checkpoint));
        let result = if closed {
            disk.finish()
        } else {
            written.and_then(|()| disk.sync_if_due(Instant::now()))
        };
        if let Err(failure) = result {
            shared.fail(failure);
        }
        if closed {
            return;
        }
        if wrote {
            thread::sleep(REST);
        }
    }
}

struct Disk {
    dir: PathBuf,
    undelivered: Synced,
    /// The newest checkpoint; empty if there was none yet.
    text: Vec<u8>,
    /// It is not known to be on the disk.
    moved: bool,
    next_sync: Instant,
}

impl Disk {
    fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            undelivered: Synced::default(),
            text: Vec::new(),
            moved: false,
            next_sync: Instant::now(),
        }
    }

    fn sync_due(&self) -> Option<Instant> {
        self.moved.then_some(self.next_sync)
    }

    fn write(&mut self, checkpoint: &Checkpoint) -> Result<(), Failure> {
        let mut text = serde_json::to_vec(checkpoint)
            .or_exit(Exit::Bug, || "a checkpoint cannot be written as JSON")?;
        text.push(b'\n');
        self.text = text;
        self.moved = true;
        self.replace(FILE, false)
    }

    fn sync_if_due(&mut self, now: Instant) -> Result<(), Failure> {
        if self.sync_due().is_none_or(|due| due > now) {
            return Ok(());
        }
        // Also after a failure, which would else be repeated at once.
        self.next_sync = now + SYNC_EVERY;
        self.replace(SYNCED, true)?;
        self.moved = false;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Failure> {
        if self.text.is_empty() {
            return Ok(());
        }
        self.replace(FILE, true)?;
        let path = self.dir.join(SYNCED);
        remove(&path).or_exit(Exit::CannotWrite, || cannot_write(&path))
    }

    /// At every moment the name stands for a whole checkpoint, the old one or the new.
    fn replace(&mut self, name: &str, sync: bool) -> Result<(), Failure> {
        self.undelivered.catch_up(&self.dir)?;
        let (path, new) = (self.dir.join(name), self.dir.join(NEW));
        let replace = || -> io::Result<()> {
            let mut options = private();
            let mut file = options.write(true).create(true).truncate(true).open(&new)?;
            file.write_all(&self.text)?;
            if sync {
                file.sync_all()?;
            }
            fs::rename(&new, &path)?;
            if sync {
                sync_dir(&self.dir)?;
            }
            Ok(())
        };
        replace().or_exit(Exit::CannotWrite, || cannot_write(&path))
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, thread::sleep};

    use super::*;
    use crate::state::checkpoint::tests::checkpoint;

    fn on_disk(dir: &Path) -> Option<u64> {
        Checkpoint::load(dir)
            .unwrap()
            .map(|checkpoint| checkpoint.posts)
    }

    fn until(what: &str, done: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_mins(1);
        while !done() {
            assert!(Instant::now() < deadline, "{what}");
            sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn a_checkpoint_is_written_without_waiting_for_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let writer = Writer::start(dir.path().to_owned()).unwrap();
        for posts in 1..=3 {
            writer.schedule(checkpoint(posts));
            until("not written", || on_disk(dir.path()) == Some(posts));
        }
        writer.finish().unwrap();
        assert_eq!(on_disk(dir.path()), Some(3));
    }

    #[test]
    fn the_newest_wins_and_readers_see_whole_files_that_never_go_back() {
        const LAST: u64 = 20_000;
        let dir = tempfile::tempdir().unwrap();
        let writer = Writer::start(dir.path().to_owned()).unwrap();
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let (mut last, mut seen) = (0, 0);
                while last < LAST {
                    let Ok(text) = fs::read(dir.path().join(FILE)) else {
                        continue;
                    };
                    let posts = serde_json::from_slice::<Checkpoint>(&text).unwrap().posts;
                    assert!(posts >= last, "{posts} after {last}");
                    seen += u64::from(posts > last);
                    last = posts;
                }
                seen
            });
            for posts in 1..=LAST {
                writer.schedule(checkpoint(posts));
                if posts % 100 == 0 {
                    thread::yield_now();
                }
            }
            writer.finish().unwrap();
            assert!(reader.join().unwrap() > 0);
        });
    }

    #[test]
    fn a_run_that_crashes_leaves_a_synced_copy_and_one_that_ends_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let writer = Writer::start(dir.path().to_owned()).unwrap();
        writer.schedule(checkpoint(9));
        let synced = dir.path().join(SYNCED);
        until("not synced", || synced.exists());
        fs::copy(&synced, dir.path().join("copy")).unwrap();
        writer.finish().unwrap();
        assert!(!synced.exists());
        assert_eq!(
            fs::read(dir.path().join("copy")).unwrap(),
            fs::read(dir.path().join(FILE)).unwrap()
        );
    }

    #[test]
    fn a_writer_that_got_nothing_leaves_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "as it was").unwrap();
        Writer::start(dir.path().to_owned())
            .unwrap()
            .finish()
            .unwrap();
        assert_eq!(
            fs::read_to_string(dir.path().join(FILE)).unwrap(),
            "as it was"
        );
    }

    #[test]
    fn a_failure_is_told_at_once_and_kept_for_the_end() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/full", dir.path().join(NEW)).unwrap();
        let writer = Writer::start(dir.path().to_owned()).unwrap();
        writer.schedule(checkpoint(1));
        let failed = writer.failed();
        until("not told", || failed.is_cancelled());
        let failure = writer.finish().unwrap_err();
        assert_eq!(failure.exit, Exit::CannotWrite);
        assert!(failure.to_string().contains(FILE), "{failure}");
    }

    #[test]
    fn what_could_not_be_written_is_tried_again_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(NEW)).unwrap();
        let writer = Writer::start(dir.path().to_owned()).unwrap();
        writer.schedule(checkpoint(4));
        let failed = writer.failed();
        until("not told", || failed.is_cancelled());
        fs::remove_dir(dir.path().join(NEW)).unwrap();
        writer.finish().unwrap_err();
        assert_eq!(on_disk(dir.path()), Some(4));
    }

    #[test]
    fn no_checkpoint_gets_its_name_before_the_undelivered_records_are_on_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        // A device cannot be synced.
        std::os::unix::fs::symlink("/dev/full", dir.path().join("undelivered.jsonl")).unwrap();
        let writer = Writer::start(dir.path().to_owned()).unwrap();
        writer.schedule(checkpoint(1));
        let failure = writer.finish().unwrap_err();
        assert!(
            failure.to_string().contains("undelivered.jsonl"),
            "{failure}"
        );
        assert_eq!(on_disk(dir.path()), None);
    }

    #[test]
    fn the_disk_is_waited_for_at_most_once_a_second_and_not_without_reason() {
        let dir = tempfile::tempdir().unwrap();
        let mut disk = Disk::new(dir.path().to_owned());
        let start = Instant::now();
        let synced = dir.path().join(SYNCED);
        assert_eq!(disk.sync_due(), None);
        disk.write(&checkpoint(1)).unwrap();
        disk.sync_if_due(start + SYNC_EVERY).unwrap();
        assert_eq!(disk.sync_due(), None);
        fs::remove_file(&synced).unwrap();
        disk.write(&checkpoint(2)).unwrap();
        disk.sync_if_due(start + SYNC_EVERY * 3 / 2).unwrap();
        assert!(!synced.exists());
        assert_eq!(disk.sync_due(), Some(start + SYNC_EVERY * 2));
        disk.sync_if_due(start + SYNC_EVERY * 2).unwrap();
        assert!(synced.exists());
    }
}
