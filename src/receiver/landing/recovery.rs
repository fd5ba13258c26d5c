//! What is on disk when a partition is first used: how far it goes, and what a crash left open.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use crate::receiver::layout::FileNames;

pub(super) fn open_path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!(".{name}.open"))
}

/// Finishes what a crash left open, and gives the position after the last record.
pub(super) fn recover(dir: &Path, names: &FileNames) -> io::Result<u64> {
    let mut last = None;
    for found in names_in(dir)? {
        let path = dir.join(&found);
        let hidden = found
            .strip_prefix('.')
            .and_then(|name| name.strip_suffix(".open"));
        let name = hidden.unwrap_or(&found);
        let Some(start) = names.start(name) else {
            continue;
        };
        if hidden.is_some() && !finish_torn(&path, &dir.join(name))? {
            continue;
        }
        last = last.max(Some((start, dir.join(name))));
    }
    let Some((start, path)) = last else {
        return Ok(0);
    };
    Ok(start + measure(&path)?.0)
}

/// Cuts off a last line without end; whether anything is left to finish.
fn finish_torn(open: &Path, finished: &Path) -> io::Result<bool> {
    let (lines, bytes) = measure(open)?;
    if lines == 0 {
        fs::remove_file(open)?;
        return Ok(false);
    }
    OpenOptions::new().write(true).open(open)?.set_len(bytes)?;
    fs::rename(open, finished)?;
    Ok(true)
}

/// How many lines have an end, and how many bytes they are.
fn measure(path: &Path) -> io::Result<(u64, u64)> {
    let mut reader = BufReader::with_capacity(64 * 1024, File::open(path)?);
    let (mut lines, mut bytes, mut complete) = (0, 0, 0);
    loop {
        let chunk = reader.fill_buf()?;
        if chunk.is_empty() {
            return Ok((lines, complete));
        }
        for (index, _) in chunk.iter().enumerate().filter(|&(_, &byte)| byte == b'\n') {
            lines += 1;
            complete = bytes + index as u64 + 1;
        }
        let length = chunk.len();
        bytes += length as u64;
        reader.consume(length);
    }
}

/// The names in a directory; none if there is no such directory.
pub(super) fn names_in(dir: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(dir) {
        Ok(entries) => {
            let names =
                entries.map(|entry| entry.map(|entry| entry.file_name().into_string().ok()));
            names.filter_map(Result::transpose).collect()
        }
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}
