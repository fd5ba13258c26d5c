//! What a run writes down while it goes: records that were set aside, and where it stands.

use std::path::PathBuf;

use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::{
    checkpoint::Checkpoint,
    undelivered::{self, Undelivered},
    writer::Writer,
};
use crate::{
    failure::{Exit, Failure, OrExit},
    post::Cursor,
};

/// The files of one run in its state directory.
#[derive(Debug)]
pub(crate) struct Ledger {
    dir: PathBuf,
    /// None for a resend, which has no place in the source.
    place: Option<(Writer, Checkpoint)>,
    failed: CancellationToken,
}

impl Ledger {
    /// For a run that goes on from `checkpoint`.
    pub(crate) fn of_run(dir: PathBuf, checkpoint: Checkpoint) -> Result<Self, Failure> {
        let writer = Writer::start(dir.clone())?;
        let failed = writer.failed();
        Ok(Self {
            dir,
            place: Some((writer, checkpoint)),
            failed,
        })
    }

    /// For a resend.
    pub(crate) fn of_resend(dir: PathBuf) -> Self {
        Self {
            dir,
            place: None,
            failed: CancellationToken::new(),
        }
    }

    /// Writes records down. When this returns they survive the process; before a checkpoint passes them, the power too.
    pub(crate) async fn set_aside(&self, records: Vec<Undelivered>) -> Result<(), Failure> {
        if records.is_empty() {
            return Ok(());
        }
        let dir = self.dir.clone();
        spawn_blocking(move || undelivered::append(&dir, &records))
            .await
            .or_exit(
                Exit::Bug,
                || "writing undelivered records ended by itself; please report this",
            )?
    }

    /// All posts up to this place are settled, `posts` more than before.
    pub(crate) fn pass(&mut self, cursor: Cursor, posts: u64) {
        if let Some((writer, checkpoint)) = &mut self.place {
            checkpoint.position = cursor;
            checkpoint.posts += posts;
            writer.schedule(checkpoint.clone());
        }
    }

    /// Cancelled once the place cannot be written down; [`Ledger::close`] says why.
    pub(crate) fn failed(&self) -> &CancellationToken {
        &self.failed
    }

    /// Waits until everything is on the disk.
    pub(crate) async fn close(self) -> Result<(), Failure> {
        let Some((writer, _)) = self.place else {
            return Ok(());
        };
        spawn_blocking(move || writer.finish()).await.or_exit(
            Exit::Bug,
            || "writing the checkpoint ended by itself; please report this",
        )?
    }
}
