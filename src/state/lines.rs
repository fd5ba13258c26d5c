//! Files of one JSON value a line that several processes add to.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt,
    path::Path,
};

use serde::de::IgnoredAny;

use super::{cannot_write, private};
use crate::failure::{Exit, Failure, OrExit};

/// Held for moments only: nobody adds to a file that someone renames.
const LOCK: &str = "undelivered.lock";

/// Waits for the lock that lives as long as the result.
pub(super) fn lock(dir: &Path) -> Result<File, Failure> {
    let path = dir.join(LOCK);
    let open = || {
        let file = private().create(true).append(true).open(&path)?;
        file.lock()?;
        Ok::<_, io::Error>(file)
    };
    open().or_exit(Exit::CannotWrite, || {
        format!("cannot lock {}", path.display())
    })
}

/// Adds whole `lines`, all or none. Does not wait for the disk.
pub(super) fn append(dir: &Path, name: &str, lines: &[u8]) -> Result<(), Failure> {
    let _lock = lock(dir)?;
    let path = dir.join(name);
    let add = || {
        let mut file = private().read(true).append(true).create(true).open(&path)?;
        let whole = mend(&mut file)?;
        file.write_all(lines).inspect_err(|_| {
            // Should this fail too, the next one mends it.
            let _ = file.set_len(whole);
        })
    };
    add().or_exit(Exit::CannotWrite, || cannot_write(&path))
}

/// Makes the file end with a whole line, and says where.
fn mend(file: &mut File) -> io::Result<u64> {
    let len = file.metadata()?.len();
    let start = last_line(file, len)?;
    if start == len {
        return Ok(len);
    }
    let mut line = vec![0; usize::try_from(len - start).map_err(io::Error::other)?];
    file.read_exact_at(&mut line, start)?;
    if is_whole(&line) {
        // Someone's editor took the end of the line away.
        file.write_all(b"\n")?;
        return Ok(len + 1);
    }
    // A crash tore the write, so the cursor has not passed these records: they will be read again.
    file.set_len(start)?;
    Ok(start)
}

/// Whether a line without an end lacks nothing else: no part of an object is JSON itself.
pub(super) fn is_whole(line: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(line).is_ok()
}

/// Where the part behind the last line break starts.
fn last_line(file: &File, len: u64) -> io::Result<u64> {
    let mut buffer = [0; 8192];
    let mut end = len;
    // Nearly always a single byte answers.
    let mut step = 1;
    while end > 0 {
        let start = end.saturating_sub(step);
        let part = &mut buffer[..usize::try_from(end - start).map_err(io::Error::other)?];
        file.read_exact_at(part, start)?;
        if let Some(place) = part.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + place as u64 + 1);
        }
        end = start;
        step = 8192;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_torn_last_line_is_cut_off_wherever_it_was_torn() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.jsonl");
        let before = "{\"a\":1}\n";
        let long = format!("{{\"b\":\"{}\"}}", "ö".repeat(5_000));
        for (last, steps) in [("{\"b\":[2,\"ü\"]}", 1), (long.as_str(), 97)] {
            for cut in (0..=last.len()).rev().step_by(steps) {
                let torn = [before.as_bytes(), &last.as_bytes()[..cut]].concat();
                fs::write(&path, &torn).unwrap();
                append(dir.path(), "x.jsonl", b"{\"c\":3}\n").unwrap();
                let whole = if cut == last.len() {
                    format!("{before}{last}\n{{\"c\":3}}\n")
                } else {
                    format!("{before}{{\"c\":3}}\n")
                };
                assert_eq!(fs::read_to_string(&path).unwrap(), whole, "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_file_that_is_one_torn_line_is_emptied() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.jsonl");
        fs::write(&path, "{\"a").unwrap();
        append(dir.path(), "x.jsonl", b"{}\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{}\n");
    }

    #[test]
    fn a_full_disk_and_a_path_that_is_no_file_are_failures_that_name_the_file() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/full", dir.path().join("full.jsonl")).unwrap();
        fs::create_dir(dir.path().join("dir.jsonl")).unwrap();
        for name in ["full.jsonl", "dir.jsonl"] {
            let failure = append(dir.path(), name, b"{}\n").unwrap_err();
            assert_eq!(failure.exit, Exit::CannotWrite);
            assert!(failure.to_string().contains(name), "{failure}");
        }
    }
}
