//! The state directory: what a run leaves for the next one, in files that survive a crash at any moment. Knows no target
//! and no database. Everything here blocks.

pub(crate) mod checkpoint;
pub(crate) mod ledger;
mod lines;
pub(crate) mod lock;
pub(crate) mod runs;
pub(crate) mod undelivered;
pub(crate) mod writer;

use std::{
    env,
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::failure::{Exit, Failure, OrExit};

/// Where runs of this name keep their state unless they are told: `batch-PREFIX`, for example.
pub(crate) fn default_dir(name: &str) -> Result<PathBuf, Failure> {
    dir_below(env::var_os("XDG_STATE_HOME"), env::var_os("HOME"), name)
}

fn dir_below(
    state_home: Option<OsString>,
    home: Option<OsString>,
    name: &str,
) -> Result<PathBuf, Failure> {
    // The XDG specification has relative paths ignored.
    let absolute = |dir: OsString| Some(PathBuf::from(dir)).filter(|dir| dir.is_absolute());
    state_home
        .and_then(absolute)
        .or_else(|| Some(home.and_then(absolute)?.join(".local/state")))
        .map(|dir| dir.join("pinemu").join(name))
        .ok_or_else(|| {
            Failure::new(
                Exit::CannotWrite,
                "there is no place for the state: neither HOME nor XDG_STATE_HOME is set to an absolute path; give a directory with --state-dir",
            )
        })
}

/// Makes the directory, and those above it, for the user alone. One that is there keeps its mode.
pub(crate) fn create_dir(dir: &Path) -> Result<(), Failure> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .or_exit(Exit::CannotWrite, || cannot_make(dir))
}

/// Files that these options create are for the user alone.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

/// Makes names in the directory outlive a power loss.
fn sync_dir(dir: &Path) -> io::Result<()> {
    match File::open(dir)?.sync_all() {
        // Some network file systems do not know the question.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::InvalidInput | ErrorKind::Unsupported
            ) =>
        {
            Ok(())
        }
        result => result,
    }
}

/// None instead of the error that there is no such file.
fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    if_there(fs::remove_file(path)).map(|_| ())
}

fn cannot_make(dir: &Path) -> String {
    format!(
        "cannot make the state directory {}; give another with --state-dir",
        dir.display()
    )
}

fn cannot_read(path: &Path) -> String {
    format!("cannot read {}", path.display())
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::{
        post::Key,
        state::{
            checkpoint::tests::checkpoint, lock::Lock, undelivered::tests::undelivered,
            writer::Writer,
        },
    };

    fn dir(state_home: Option<&str>, home: Option<&str>) -> Option<String> {
        let dir = dir_below(
            state_home.map(OsString::from),
            home.map(OsString::from),
            "batch-p",
        );
        dir.ok().map(|dir| dir.display().to_string())
    }

    #[test]
    fn the_state_lives_where_xdg_says_else_below_home() {
        let below_home = Some("/home/ann/.local/state/pinemu/batch-p".to_owned());
        assert_eq!(
            dir(Some("/var/x"), Some("/home/ann")).as_deref(),
            Some("/var/x/pinemu/batch-p")
        );
        assert_eq!(
            dir(Some("/var/x"), None).as_deref(),
            Some("/var/x/pinemu/batch-p")
        );
        assert_eq!(dir(None, Some("/home/ann")), below_home);
        assert_eq!(dir(Some("relative"), Some("/home/ann")), below_home);
        assert_eq!(dir(Some(""), Some("/home/ann")), below_home);
    }

    #[test]
    fn without_a_home_the_failure_names_the_flag() {
        for home in [None, Some(""), Some("relative")] {
            let failure = dir_below(None, home.map(OsString::from), "batch-p").unwrap_err();
            assert_eq!(failure.exit, Exit::CannotWrite);
            assert!(failure.to_string().contains("--state-dir"), "{failure}");
        }
    }

    #[test]
    fn all_directories_and_files_are_for_the_user_alone() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/b");
        let _lock = Lock::run(&dir).unwrap();
        let _resend = Lock::resend(&dir).unwrap();
        undelivered::append(&dir, &[undelivered(Key(1))]).unwrap();
        runs::append(&dir, "{}").unwrap();
        let writer = Writer::start(dir.clone()).unwrap();
        writer.schedule(checkpoint(1));
        writer.finish().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&root.path().join("a")), 0o700);
        assert_eq!(mode(&dir), 0o700);
        let mut names = Vec::new();
        for entry in fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(mode(&entry.path()), 0o600, "{entry:?}");
            names.push(entry.file_name().into_string().unwrap());
        }
        names.sort();
        assert_eq!(
            names,
            [
                "checkpoint.json",
                "lock",
                "resend.lock",
                "runs.jsonl",
                "undelivered.jsonl",
                "undelivered.lock"
            ]
        );
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named_with_the_flag() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        let failure = Lock::run(&file.join("state")).unwrap_err().into_failure();
        assert_eq!(failure.exit, Exit::CannotWrite);
        assert!(failure.to_string().contains("file/state"), "{failure}");
        assert!(failure.to_string().contains("--state-dir"), "{failure}");
    }
}
