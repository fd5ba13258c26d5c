//! A resend takes the whole file under another name, so that runs go on adding to a new one. Until it has finished, a
//! crash makes the next resend send all of it again.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use super::{FILE, RESENDING, Records, Synced};
use crate::{
    failure::{Exit, Failure, OrExit},
    state::{cannot_read, cannot_write, if_there, lines, remove, sync_dir},
};

/// The records that a resend has taken.
#[derive(Debug)]
pub(crate) struct Resending {
    dir: PathBuf,
    path: PathBuf,
    leftover: bool,
}

impl Resending {
    /// Takes what waits, or what a resend before this one has not finished. None: there is nothing. The lock of `resend`
    /// must be held.
    pub(crate) fn begin(dir: &Path) -> Result<Option<Self>, Failure> {
        let path = dir.join(RESENDING);
        let is_there = |path: &Path| path.try_exists();
        let leftover = is_there(&path).or_exit(Exit::CannotWrite, || cannot_read(&path))?;
        if !leftover && !Self::take(dir, &path)? {
            return Ok(None);
        }
        Ok(Some(Self {
            dir: dir.to_owned(),
            path,
            leftover,
        }))
    }

    fn take(dir: &Path, path: &Path) -> Result<bool, Failure> {
        let _lock = lines::lock(dir)?;
        let from = dir.join(FILE);
        // A checkpoint of a run beside this one counts on these records, and will not find them by their name.
        Synced::default().catch_up(dir)?;
        let rename = || -> io::Result<bool> {
            let metadata = if_there(fs::metadata(&from))?;
            if metadata.is_none_or(|metadata| metadata.len() == 0) {
                return Ok(false);
            }
            fs::rename(&from, path)?;
            sync_dir(dir)?;
            Ok(true)
        };
        rename().or_exit(Exit::CannotWrite, || cannot_write(path))
    }

    /// Whether a resend before this one has left it, so that more may wait once it is finished.
    pub(crate) fn is_leftover(&self) -> bool {
        self.leftover
    }

    pub(crate) fn records(&self) -> Result<Records, Failure> {
        let file = File::open(&self.path).or_exit(Exit::CannotWrite, || cannot_read(&self.path))?;
        Ok(Records::new(file, self.path.display().to_string()))
    }

    /// Forgets what was taken. Whatever of it was not delivered must have been appended again.
    pub(crate) fn finish(&self) -> Result<(), Failure> {
        Synced::default().catch_up(&self.dir)?;
        let forget = || {
            remove(&self.path)?;
            sync_dir(&self.dir)
        };
        forget().or_exit(Exit::CannotWrite, || {
            format!("cannot remove {}", self.path.display())
        })
    }
}
