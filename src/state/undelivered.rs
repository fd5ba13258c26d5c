//! Records that were set aside, until `resend` has delivered them. Processes may add to the file while another resends.

mod resending;

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    os::unix::fs::MetadataExt,
    path::Path,
};

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{cannot_read, cannot_write, if_there, lines, sync_dir};
use crate::{
    failure::{Exit, Failure, OrExit},
    post::{Key, Kind, Record},
};
pub(crate) use resending::Resending;

const FILE: &str = "undelivered.jsonl";
/// What a resend is working on.
const RESENDING: &str = "undelivered.resending.jsonl";

/// A record that was not delivered, as a line of the file; its JSON keys and their order are a contract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Undelivered {
    pub(crate) kind: Kind,
    /// Of its row.
    pub(crate) index: Key,
    /// The invoke URL without userinfo.
    pub(crate) target: String,
    /// Below the target, such as `/topics/p.pin`.
    pub(crate) path: String,
    /// The Kafka record key or the Kinesis partition key.
    pub(crate) key: Option<String>,
    pub(crate) outcome: Outcome,
    /// HTTP status of the last answer; none if there was no answer.
    pub(crate) status: Option<u16>,
    pub(crate) reason: String,
    pub(crate) attempts: u64,
    /// RFC 3339 with milliseconds.
    pub(crate) at: String,
    /// Byte for byte.
    #[serde(with = "raw")]
    pub(crate) record: Record,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// The target refused it for good.
    Rejected,
    /// No answer proved it in time.
    Unproven,
}

/// Adds the records to those that wait, all or none. They survive a crash of the process at once and a loss of power
/// before the next checkpoint does.
pub(crate) fn append(dir: &Path, undelivered: &[Undelivered]) -> Result<(), Failure> {
    if undelivered.is_empty() {
        return Ok(());
    }
    let mut text = Vec::new();
    for undelivered in undelivered {
        serde_json::to_writer(&mut text, undelivered)
            .or_exit(Exit::Bug, || "a record is no JSON")?;
        text.push(b'\n');
    }
    lines::append(dir, FILE, &text)
}

/// How many records wait to be resent.
pub(crate) fn count(dir: &Path) -> Result<u64, Failure> {
    let mut count = 0;
    for name in [FILE, RESENDING] {
        let path = dir.join(name);
        let lines = || {
            let Some(file) = if_there(File::open(&path))? else {
                return Ok(0);
            };
            count_lines(BufReader::with_capacity(64 * 1024, file))
        };
        count += lines().or_exit(Exit::CannotWrite, || cannot_read(&path))?;
    }
    Ok(count)
}

#[expect(
    clippy::naive_bytecount,
    reason = "a disk is slower still, and a crate is dear"
)]
fn count_lines(mut input: impl BufRead) -> io::Result<u64> {
    let mut count = 0;
    loop {
        let part = input.fill_buf()?;
        if part.is_empty() {
            return Ok(count);
        }
        count += part.iter().filter(|byte| **byte == b'\n').count() as u64;
        let len = part.len();
        input.consume(len);
    }
}

/// The records of a file that the user names; `-` is standard input.
pub(crate) fn read(path: &Path) -> Result<Records, Failure> {
    if path == Path::new("-") {
        return Ok(Records::new(io::stdin(), "standard input".to_owned()).telling_of_torn_lines());
    }
    let open = || {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        // What still fails may be appended to this very file; it is not read again.
        let end = if metadata.is_file() {
            metadata.len()
        } else {
            u64::MAX
        };
        Ok::<_, io::Error>(file.take(end))
    };
    let file = open().or_exit(Exit::Configuration, || cannot_read(path))?;
    Ok(Records::new(file, path.display().to_string()))
}

/// Records, one line at a time. After an error it ends.
pub(crate) struct Records {
    input: Box<dyn BufRead + Send>,
    name: String,
    line: Vec<u8>,
    number: u64,
    failed: bool,
    tells: bool,
}

impl Records {
    fn new(input: impl Read + Send + 'static, name: String) -> Self {
        Self {
            input: Box::new(BufReader::with_capacity(64 * 1024, input)),
            name,
            line: Vec::new(),
            number: 0,
            failed: false,
            tells: false,
        }
    }

    /// With a warning about a torn line: what is read more than once tells of it once.
    pub(crate) fn telling_of_torn_lines(mut self) -> Self {
        self.tells = true;
        self
    }

    fn read(&mut self) -> Result<Option<Undelivered>, Failure> {
        loop {
            self.line.clear();
            let read = self.input.read_until(b'\n', &mut self.line);
            let read = read.or_exit(Exit::CannotWrite, || format!("cannot read {}", self.name))?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            if self.line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            if self.line.last() != Some(&b'\n') && !lines::is_whole(&self.line) {
                // Of an unfinished write: the run that was writing has not passed the record, and reads it again.
                if self.tells {
                    warn!(
                        file = self.name,
                        line = self.number,
                        "The last line is torn and is left out."
                    );
                }
                return Ok(None);
            }
            let record = serde_json::from_slice(&self.line).or_exit(Exit::Data, || {
                format!(
                    "{}, line {}: not an undelivered record; mend the line or remove it",
                    self.name, self.number
                )
            })?;
            return Ok(Some(record));
        }
    }
}

impl Iterator for Records {
    type Item = Result<Undelivered, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.read().transpose();
        self.failed = !matches!(next, Some(Ok(_)));
        next
    }
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records")
            .field("name", &self.name)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

/// Which state of the file is known to be on the disk.
#[derive(Debug, Default)]
pub(super) struct Synced(Option<State>);

#[derive(Debug, PartialEq, Eq)]
struct State {
    file: u64,
    len: u64,
    modified: (i64, i64),
}

impl Synced {
    /// Waits until everything that was appended is on the disk. A resend that takes the file away has done so itself.
    pub(super) fn catch_up(&mut self, dir: &Path) -> Result<(), Failure> {
        let path = dir.join(FILE);
        let mut catch_up = || {
            let Some(file) = if_there(File::open(&path))? else {
                return Ok(());
            };
            let metadata = file.metadata()?;
            let state = Some(State {
                file: metadata.ino(),
                len: metadata.len(),
                modified: (metadata.mtime(), metadata.mtime_nsec()),
            });
            if self.0 != state {
                file.sync_all()?;
                sync_dir(dir)?;
                self.0 = state;
            }
            Ok::<_, io::Error>(())
        };
        catch_up().or_exit(Exit::CannotWrite, || cannot_write(&path))
    }
}

/// A record as the JSON that it is.
mod raw {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::Error};
    use serde_json::value::RawValue;

    use crate::post::Record;

    pub(super) fn serialize<S: Serializer>(record: &Record, to: S) -> Result<S::Ok, S::Error> {
        let value: &RawValue = serde_json::from_slice(record).map_err(S::Error::custom)?;
        if value.get().contains('\n') {
            return Err(S::Error::custom("it has a line break"));
        }
        value.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Record, D::Error> {
        let value = Box::<RawValue>::deserialize(from)?;
        Ok(Box::<str>::from(value).into_boxed_bytes().into())
    }
}

#[cfg(test)]
pub(super) mod tests;
