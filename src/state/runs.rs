//! The summaries of all runs, one a line.

use std::path::{Path, PathBuf};

use super::lines;
use crate::failure::Failure;

const FILE: &str = "runs.jsonl";

/// Where the summaries of a state directory are.
pub(crate) fn path(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

/// Adds a summary: JSON on one line, without its end.
pub(crate) fn append(dir: &Path, summary: &str) -> Result<(), Failure> {
    debug_assert!(!summary.contains('\n'));
    lines::append(dir, FILE, format!("{summary}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn each_run_adds_a_line() {
        let dir = tempfile::tempdir().unwrap();
        append(dir.path(), r#"{"run":1}"#).unwrap();
        append(dir.path(), r#"{"run":2}"#).unwrap();
        assert_eq!(
            fs::read_to_string(dir.path().join(FILE)).unwrap(),
            "{\"run\":1}\n{\"run\":2}\n"
        );
    }
}
