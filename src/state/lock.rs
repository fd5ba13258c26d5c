//! One run at a time in a state directory. The operating system holds the lock, so a crash frees it; what the file says
//! is only for people.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    process,
    time::SystemTime,
};

use super::{cannot_make, cannot_write, create_dir, if_there, private};
use crate::failure::{Exit, Failure, OrExit};

/// Holds the lock for as long as it lives.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "closing it frees the lock")] File);

/// Why there is no lock.
#[derive(Debug)]
pub(crate) enum NotTaken {
    /// Another process holds it.
    Held(Held),
    Failed(Failure),
}

/// Who is in the way.
#[derive(Debug)]
pub(crate) struct Held {
    dir: PathBuf,
    work: Work,
    /// `process 4711 on host since 2026-01-01T00:00:00Z`.
    pub(crate) holder: String,
}

#[derive(Debug, Clone, Copy)]
enum Work {
    Run,
    Resend,
}

impl Work {
    fn file(self) -> &'static str {
        match self {
            Self::Run => "lock",
            Self::Resend => "resend.lock",
        }
    }
}

impl Lock {
    /// For `batch` and `stream`. Makes the directory; never waits.
    pub(crate) fn run(dir: &Path) -> Result<Self, NotTaken> {
        Self::take(dir, Work::Run)
    }

    /// For `resend`, which may work beside a run.
    pub(crate) fn resend(dir: &Path) -> Result<Self, NotTaken> {
        Self::take(dir, Work::Resend)
    }

    /// Whether a run could have the lock now. Leaves nothing behind, and no lock, nor a directory.
    pub(crate) fn look(dir: &Path) -> Result<(), NotTaken> {
        // A directory that is not there will be made in the nearest one that is.
        let there = dir.ancestors().find(|dir| dir.exists());
        let there = there.filter(|there| !there.as_os_str().is_empty());
        let there = there.unwrap_or(Path::new("."));
        let trial = there.join(format!(".pinemu-check-{}", process::id()));
        private()
            .write(true)
            .create_new(true)
            .open(&trial)
            .and_then(|_| fs::remove_file(&trial))
            .or_exit(Exit::CannotWrite, || {
                if there == dir {
                    cannot_write(dir)
                } else {
                    cannot_make(dir)
                }
            })?;
        let path = dir.join(Work::Run.file());
        let mut options = private();
        let Some(file) = if_there(options.read(true).write(true).open(&path))
            .or_exit(Exit::CannotWrite, || cannot_write(&path))?
        else {
            return Ok(());
        };
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Err(Held::new(dir, Work::Run, &file).into()),
            Err(TryLockError::Error(error)) => Err(cannot_lock(&path, error).into()),
            Ok(()) => Ok(()),
        }
    }

    fn take(dir: &Path, work: Work) -> Result<Self, NotTaken> {
        create_dir(dir)?;
        let path = dir.join(work.file());
        let mut options = private();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .or_exit(Exit::CannotWrite, || cannot_write(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Held::new(dir, work, &file).into()),
            Err(TryLockError::Error(error)) => return Err(cannot_lock(&path, error).into()),
        }
        sign(&mut file).or_exit(Exit::CannotWrite, || cannot_write(&path))?;
        Ok(Self(file))
    }
}

fn cannot_lock(path: &Path, error: io::Error) -> Failure {
    let message = format!(
        "cannot lock {}; give a directory on a file system that knows locks with --state-dir",
        path.display()
    );
    Failure {
        exit: Exit::CannotWrite,
        error: anyhow::Error::new(error).context(message),
    }
}

fn sign(file: &mut File) -> io::Result<()> {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => String::new(),
        host => format!(" on {host}"),
    };
    let now = humantime::format_rfc3339_seconds(SystemTime::now());
    let text = format!("process {}{host} since {now}\n", process::id());
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(text.as_bytes())
}

/// What the holder has written, if it has come to that.
fn holder(file: &File) -> String {
    const LONGEST: u64 = 500;
    let mut text = Vec::new();
    // An error leaves it unknown, which is no reason not to say that the lock is held.
    let _ = file.take(LONGEST).read_to_end(&mut text);
    match String::from_utf8_lossy(&text).trim() {
        "" => "a process that has just started".to_owned(),
        text => text.to_owned(),
    }
}

impl From<Held> for NotTaken {
    fn from(held: Held) -> Self {
        Self::Held(held)
    }
}

impl From<Failure> for NotTaken {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl NotTaken {
    /// What ends a run that must have the lock.
    pub(crate) fn into_failure(self) -> Failure {
        match self {
            Self::Held(held) => held.into_failure(),
            Self::Failed(failure) => failure,
        }
    }
}

impl Held {
    fn new(dir: &Path, work: Work, file: &File) -> Self {
        Self {
            dir: dir.to_owned(),
            work,
            holder: holder(file),
        }
    }

    fn into_failure(self) -> Failure {
        let (dir, holder) = (self.dir.display(), self.holder);
        let text = match self.work {
            Work::Run => format!(
                "the state directory {dir} is in use by another run: {holder}; wait until it ends, stop it, or give this run a directory of its own with --state-dir"
            ),
            Work::Resend => format!(
                "the undelivered records in {dir} are being resent: {holder}; wait until that ends, or stop it"
            ),
        };
        Failure::new(Exit::Locked, text)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        env,
        process::Command,
        thread::sleep,
        time::{Duration, Instant},
    };

    use super::*;

    const CHILD_DIR: &str = "PINEMU_TEST_LOCK_DIR";

    fn held(result: Result<Lock, NotTaken>) -> Held {
        match result {
            Err(NotTaken::Held(held)) => held,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_second_of_two_hears_at_once_who_holds_it_since_when_and_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::run(dir.path()).unwrap();
        let asked = Instant::now();
        let held = held(Lock::run(dir.path()));
        assert!(asked.elapsed() < Duration::from_millis(100));
        let failure = held.into_failure();
        assert_eq!(failure.exit, Exit::Locked);
        let text = failure.to_string();
        for part in [
            &dir.path().display().to_string(),
            &format!("process {}", process::id()),
            " since 20",
            "--state-dir",
        ] {
            assert!(text.contains(part), "{text}");
        }
        drop(lock);
        Lock::run(dir.path()).unwrap();
    }

    #[test]
    fn who_only_looks_hears_the_same_and_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/b");
        Lock::look(&dir).unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
        let lock = Lock::run(&dir).unwrap();
        let looked = Lock::look(&dir).unwrap_err().into_failure();
        let taken = Lock::run(&dir).unwrap_err().into_failure();
        assert_eq!(looked.exit, Exit::Locked);
        assert_eq!(looked.to_string(), taken.to_string());
        drop(lock);
        Lock::look(&dir).unwrap();
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        fs::write(root.path().join("file"), "").unwrap();
        let failure = Lock::look(&root.path().join("file/state")).unwrap_err();
        let failure = failure.into_failure();
        assert_eq!(failure.exit, Exit::CannotWrite);
        assert!(failure.to_string().contains("--state-dir"), "{failure}");
    }

    #[test]
    fn a_resend_and_a_run_do_not_block_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let _run = Lock::run(dir.path()).unwrap();
        let _resend = Lock::resend(dir.path()).unwrap();
        let failure = Lock::resend(dir.path()).unwrap_err().into_failure();
        assert_eq!(failure.exit, Exit::Locked);
    }

    #[test]
    fn a_file_that_nobody_holds_blocks_nobody_and_is_signed_anew() {
        let dir = tempfile::tempdir().unwrap();
        let stale = "x".repeat(10_000);
        fs::write(dir.path().join("lock"), stale).unwrap();
        let _lock = Lock::run(dir.path()).unwrap();
        let text = fs::read_to_string(dir.path().join("lock")).unwrap();
        assert!(text.starts_with("process ") && text.len() < 300, "{text}");
    }

    #[test]
    fn a_holder_that_was_killed_blocks_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "state::lock::tests::a_child_holds_the_lock"])
            .env(CHILD_DIR, dir.path())
            .stdout(process::Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_mins(1);
        while !dir.path().join("held").exists() {
            assert!(Instant::now() < deadline, "the child did not take the lock");
            sleep(Duration::from_millis(5));
        }
        let holder = held(Lock::run(dir.path())).holder;
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(
            holder.contains(&format!("process {}", child.id())),
            "{holder}"
        );
        Lock::run(dir.path()).unwrap();
    }

    /// Not a test of its own: what the test above starts as another process.
    #[test]
    fn a_child_holds_the_lock() {
        let Some(dir) = env::var_os(CHILD_DIR).map(PathBuf::from) else {
            return;
        };
        let _lock = Lock::run(&dir).unwrap();
        fs::write(dir.join("held"), "").unwrap();
        sleep(Duration::from_mins(5));
    }
}
