//! How the landed files are called, which is what readers rely on. Touches none of them.

use super::kinesis;

/// Topics and streams land in trees of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    Topics,
    Streams,
}

impl Layout {
    pub(super) fn tree(self) -> &'static str {
        match self {
            Self::Topics => "topics",
            Self::Streams => "streams",
        }
    }

    pub(super) fn partition_dir(self, index: u32) -> String {
        match self {
            Self::Topics => format!("partition={index}"),
            Self::Streams => kinesis::shard_id(index),
        }
    }

    pub(super) fn partition_index(self, dir: &str) -> Option<u32> {
        let index = dir
            .trim_start_matches(|c: char| !c.is_ascii_digit())
            .parse()
            .ok()?;
        (self.partition_dir(index) == dir).then_some(index)
    }

    pub(super) fn file_names(self, name: &str, index: u32) -> FileNames {
        match self {
            Self::Topics => FileNames {
                prefix: format!("{name}+{index}+"),
                digits: 10,
                suffix: ".json",
            },
            Self::Streams => FileNames {
                prefix: kinesis::SEQUENCE_PREFIX.to_owned(),
                digits: kinesis::SEQUENCE_DIGITS,
                suffix: ".jsonl",
            },
        }
    }
}

/// How the files of a partition are named after the position of their first record.
#[derive(Debug)]
pub(super) struct FileNames {
    prefix: String,
    digits: usize,
    suffix: &'static str,
}

impl FileNames {
    pub(super) fn name(&self, start: u64) -> String {
        let Self {
            prefix,
            digits,
            suffix,
        } = self;
        format!("{prefix}{start:0digits$}{suffix}")
    }

    pub(super) fn start(&self, name: &str) -> Option<u64> {
        let start = name
            .strip_prefix(&self.prefix)?
            .strip_suffix(self.suffix)?
            .parse()
            .ok()?;
        (self.name(start) == name).then_some(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_recognised_only_in_full() {
        let names = Layout::Topics.file_names("t", 0);
        assert_eq!(names.start("t+0+0000000012.json"), Some(12));
        assert_eq!(names.start("t+0+12345678901.json"), Some(12_345_678_901));
        for name in [
            "t+0+12.json",
            "t+1+0000000012.json",
            "t+0+0000000012.jsonl",
            "t+0+.json",
        ] {
            assert_eq!(names.start(name), None, "{name}");
        }
        assert_eq!(
            Layout::Streams.partition_index("shardId-000000000012"),
            Some(12)
        );
        assert_eq!(Layout::Streams.partition_index("shardId-12"), None);
        assert_eq!(Layout::Topics.partition_index("partition=0"), Some(0));
    }
}
