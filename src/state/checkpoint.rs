//! Where a run stands and what it was told, so that another can go on.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{cannot_read, cannot_write, if_there, remove};
use crate::{
    failure::{Exit, Failure, OrExit},
    post::{Bound, Cursor},
    shard::Shard,
};

pub(super) const FILE: &str = "checkpoint.json";
/// A copy, at most a second older, that a power loss cannot damage. There while a run works and after a crash.
pub(super) const SYNCED: &str = "checkpoint.json.synced";
const OLD: &str = "checkpoint.json.old";

/// Everything that a run with `--resume` needs to know of those before it. Its JSON keys are a contract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    pub(crate) version: u32,
    pub(crate) command: String,
    pub(crate) prefix: String,
    /// Without userinfo.
    pub(crate) invoke_url: String,
    /// The name of the database, not its address.
    pub(crate) database: String,
    pub(crate) order: String,
    pub(crate) from: Option<Bound>,
    pub(crate) to: Option<Bound>,
    pub(crate) random_seed: u64,
    pub(crate) shard: Option<Shard>,
    /// Settled over all resumed runs: the number of the next pause.
    pub(crate) posts: u64,
    pub(crate) position: Cursor,
}

/// What the user gave, to be compared with what is recorded. None: not given, so what is recorded counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Identity {
    pub(crate) command: String,
    pub(crate) prefix: String,
    /// None too where any will do (`--moved`).
    pub(crate) invoke_url: Option<String>,
    pub(crate) database: Option<String>,
    pub(crate) order: Option<String>,
    pub(crate) from: Option<Bound>,
    pub(crate) to: Option<Bound>,
    pub(crate) random_seed: Option<u64>,
    pub(crate) shard: Option<Shard>,
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Checkpoint {
    /// The version that this pinemu writes.
    pub(crate) const VERSION: u32 = 1;

    /// None: no run has left one.
    pub(crate) fn load(dir: &Path) -> Result<Option<Self>, Failure> {
        let path = dir.join(FILE);
        let Some(text) = read(&path)? else {
            return Ok(None);
        };
        let damaged = match Self::parse(&path, &text) {
            Ok(checkpoint) => return Ok(Some(checkpoint)),
            Err(damaged) => damaged,
        };
        // Some file systems keep the new name but not the content when the power goes.
        let path = dir.join(SYNCED);
        match read(&path)?.map(|text| Self::parse(&path, &text)) {
            Some(Ok(checkpoint)) => {
                warn!(%damaged, "The checkpoint is damaged; going on after its copy, up to a second older.");
                Ok(Some(checkpoint))
            }
            _ => Err(damaged),
        }
    }

    fn parse(path: &Path, text: &[u8]) -> Result<Self, Failure> {
        let path = path.display();
        let damaged =
            || format!("{path} is damaged; leave out --resume to start anew (it is kept as {OLD})");
        let Versioned { version } =
            serde_json::from_slice(text).or_exit(Exit::Configuration, damaged)?;
        if version != Self::VERSION {
            return Err(Failure::new(
                Exit::Configuration,
                format!(
                    "{path} has version {version}, and this pinemu knows version {} only; use the pinemu that wrote it, or leave out --resume to start anew",
                    Self::VERSION
                ),
            ));
        }
        let checkpoint: Self =
            serde_json::from_slice(text).or_exit(Exit::Configuration, damaged)?;
        if checkpoint.order == checkpoint.position.order() {
            Ok(checkpoint)
        } else {
            Err(Failure::new(Exit::Configuration, damaged()))
        }
    }

    /// Whether a run that was given `wanted` can go on here. `dir` is named in the failure.
    pub(crate) fn agree(&self, wanted: &Identity, dir: &Path) -> Result<(), Failure> {
        const OTHER_DIR: &str = "give this run a directory of its own with --state-dir";
        const MOVED: &str = "add --moved if it is the same target at a new address";
        const AS_RECORDED: &str = "leave it out to go on as recorded";
        let some = |text: &str| Some(text.to_owned());
        let bound = |bound: Option<Bound>| bound.map(|bound| bound.to_string());
        let seed = |seed: u64| seed.to_string();
        let shard = |shard: Option<Shard>| shard.map(|shard| shard.to_string());
        // What, as recorded, as given, what to do.
        #[rustfmt::skip]
        let all = [
            ("the subcommand", some(&self.command), some(&wanted.command), OTHER_DIR),
            ("the prefix", some(&self.prefix), some(&wanted.prefix), OTHER_DIR),
            ("--invoke-url", some(&self.invoke_url), wanted.invoke_url.clone(), MOVED),
            ("the database", some(&self.database), wanted.database.clone(), "correct --database-url"),
            ("--order", some(&self.order), wanted.order.clone(), AS_RECORDED),
            ("--from", bound(self.from), bound(wanted.from), AS_RECORDED),
            ("--to", bound(self.to), bound(wanted.to), AS_RECORDED),
            ("--random-seed", Some(seed(self.random_seed)), wanted.random_seed.map(seed), AS_RECORDED),
            ("--shard", shard(self.shard), shard(wanted.shard), AS_RECORDED),
        ];
        for (what, recorded, given, cure) in all {
            let Some(given) = given else { continue };
            if recorded.as_ref() == Some(&given) {
                continue;
            }
            let recorded = recorded.map_or_else(
                || format!("without {what}"),
                |recorded| format!("with {what} {recorded}"),
            );
            return Err(Failure::new(
                Exit::Configuration,
                format!(
                    "{} is of a run {recorded}, and this one has {what} {given}; {cure}, or leave out --resume to start anew",
                    dir.join(FILE).display()
                ),
            ));
        }
        Ok(())
    }
}

/// Sets the checkpoint of the run before aside, for a run that starts anew. Says where it is now, if there was one.
pub(crate) fn retire(dir: &Path) -> Result<Option<PathBuf>, Failure> {
    let (path, old, synced) = (dir.join(FILE), dir.join(OLD), dir.join(SYNCED));
    // The copy goes first: alone it would be forgotten, but beside a new checkpoint it would be wrong.
    remove(&synced).or_exit(Exit::CannotWrite, || cannot_write(&synced))?;
    let moved =
        if_there(fs::rename(&path, &old)).or_exit(Exit::CannotWrite, || cannot_write(&old))?;
    Ok(moved.map(|()| old))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    if_there(fs::read(path)).or_exit(Exit::CannotWrite, || cannot_read(path))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::post::Key;

    pub(in crate::state) fn checkpoint(posts: u64) -> Checkpoint {
        Checkpoint {
            version: Checkpoint::VERSION,
            command: "batch".to_owned(),
            prefix: "p".to_owned(),
            invoke_url: "http://127.0.0.1:8082".to_owned(),
            database: "pinterest_data".to_owned(),
            order: "random".to_owned(),
            from: Some(Bound::Key(Key::MIN)),
            to: None,
            random_seed: u64::MAX,
            shard: "1/4".parse().ok(),
            posts,
            position: Cursor::Random {
                pass: u64::MAX,
                low: Key::MIN,
                high: Key::MAX,
                next: (1 << 65) + u128::from(posts),
            },
        }
    }

    fn identity() -> Identity {
        Identity {
            command: "batch".to_owned(),
            prefix: "p".to_owned(),
            ..Identity::default()
        }
    }

    fn load(text: &[u8]) -> Result<Option<Checkpoint>, Failure> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), text).unwrap();
        Checkpoint::load(dir.path())
    }

    #[test]
    fn no_file_is_no_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Checkpoint::load(dir.path()).unwrap(), None);
        assert_eq!(Checkpoint::load(&dir.path().join("missing")).unwrap(), None);
    }

    #[test]
    fn the_largest_numbers_come_back_exactly_and_are_numbers_in_the_file() {
        let random = checkpoint(7);
        let text = serde_json::to_string(&random).unwrap();
        assert!(text.contains(r#""from":-9223372036854775808"#), "{text}");
        assert!(text.contains(r#""next":36893488147419103239"#), "{text}");
        assert_eq!(load(text.as_bytes()).unwrap(), Some(random));
        let index = Checkpoint {
            order: "index".to_owned(),
            position: Cursor::Index { after: Key::MAX },
            ..checkpoint(7)
        };
        let text = serde_json::to_string(&index).unwrap();
        assert!(
            text.ends_with(r#""position":{"index":{"after":18446744073709551615}}}"#),
            "{text}"
        );
        assert_eq!(load(text.as_bytes()).unwrap(), Some(index));
    }

    #[test]
    fn times_come_back_as_they_were_written() {
        let bound = |text: &str| Some(text.parse::<Bound>().unwrap());
        let time = |after: Option<&str>| Checkpoint {
            order: "time".to_owned(),
            from: bound("2020-01-31"),
            to: bound("2020-02-01T12:30"),
            position: Cursor::Time {
                after: after.map(|text| text.parse().unwrap()),
                key: Key(-7),
            },
            ..checkpoint(7)
        };
        for (after, position) in [
            (
                Some("2020-01-31T12:00:00.500"),
                r#"{"after":"2020-01-31T12:00:00.500","key":-7}"#,
            ),
            (None, r#"{"after":null,"key":-7}"#),
        ] {
            let text = serde_json::to_string(&time(after)).unwrap();
            assert!(
                text.ends_with(&format!(r#""position":{{"time":{position}}}}}"#)),
                "{text}"
            );
            assert!(
                text.contains(r#""from":"2020-01-31","to":"2020-02-01 12:30:00""#),
                "{text}"
            );
            assert_eq!(load(text.as_bytes()).unwrap(), Some(time(after)));
        }
        let text = serde_json::to_string(&time(None)).unwrap();
        for (good, bad) in [("2020-01-31", "2020-02-31"), ("\"key\":-7", "\"key\":null")] {
            let failure = load(text.replace(good, bad).as_bytes()).unwrap_err();
            assert!(failure.to_string().contains("is damaged"), "{failure}");
        }
    }

    #[test]
    fn a_torn_strange_or_newer_file_is_a_failure_that_names_it_and_the_cure() {
        let text = serde_json::to_string(&checkpoint(1)).unwrap();
        let newer = text.replace(r#""version":1"#, r#""version":2"#);
        let other_order = text.replace(r#""order":"random""#, r#""order":"index""#);
        let no_key = text.replace("-9223372036854775808", "-9223372036854775809");
        let no_shard = text.replace("1/4", "5/4");
        let mut all = vec![newer, other_order, no_key, no_shard, "[]".to_owned()];
        all.extend((0..text.len()).map(|cut| text[..cut].to_owned()));
        for text in all {
            let failure = load(text.as_bytes()).unwrap_err();
            assert_eq!(failure.exit, Exit::Configuration);
            let said = failure.to_string();
            assert!(
                said.contains(FILE) && said.contains("leave out --resume"),
                "{text}: {said}"
            );
        }
    }

    #[test]
    fn a_damaged_file_is_replaced_by_the_synced_copy() {
        let dir = tempfile::tempdir().unwrap();
        let text = serde_json::to_string(&checkpoint(5)).unwrap();
        fs::write(dir.path().join(SYNCED), text).unwrap();
        assert_eq!(Checkpoint::load(dir.path()).unwrap(), None);
        fs::write(dir.path().join(FILE), "").unwrap();
        assert_eq!(Checkpoint::load(dir.path()).unwrap(), Some(checkpoint(5)));
    }

    #[test]
    fn what_is_not_given_agrees_and_so_does_the_same() {
        let here = Path::new("state");
        checkpoint(1).agree(&identity(), here).unwrap();
        let same = Identity {
            invoke_url: Some("http://127.0.0.1:8082".to_owned()),
            database: Some("pinterest_data".to_owned()),
            order: Some("random".to_owned()),
            from: Some(Bound::Key(Key::MIN)),
            random_seed: Some(u64::MAX),
            shard: "1/4".parse().ok(),
            ..identity()
        };
        checkpoint(1).agree(&same, here).unwrap();
    }

    #[test]
    fn a_difference_is_a_failure_that_names_both_values_and_the_flag() {
        let other = |change: fn(&mut Identity)| {
            let mut wanted = identity();
            change(&mut wanted);
            wanted
        };
        #[rustfmt::skip]
        let all: [(Identity, [&str; 3]); 9] = [
            (other(|w| w.command = "stream".into()), ["batch", "stream", "--state-dir"]),
            (other(|w| w.prefix = "q".into()), ["prefix p", "prefix q", "--state-dir"]),
            (other(|w| w.invoke_url = Some("http://b".into())), ["127.0.0.1", "http://b", "--moved"]),
            (other(|w| w.database = Some("d".into())), ["pinterest_data", "database d", "--database-url"]),
            (other(|w| w.order = Some("index".into())), ["random", "index", "--order"]),
            (other(|w| w.from = Some(Bound::Key(Key(5)))), ["-9223372036854775808", "5", "--from"]),
            (other(|w| w.to = Some(Bound::Key(Key(6)))), ["without --to", "6", "--to"]),
            (other(|w| w.random_seed = Some(7)), ["18446744073709551615", "7", "--random-seed"]),
            (other(|w| w.shard = "2/4".parse().ok()), ["1/4", "2/4", "--shard"]),
        ];
        for (wanted, parts) in all {
            let failure = checkpoint(1)
                .agree(&wanted, Path::new("/state"))
                .unwrap_err();
            assert_eq!(failure.exit, Exit::Configuration);
            for part in parts.into_iter().chain(["/state/checkpoint.json"]) {
                assert!(failure.to_string().contains(part), "{part}: {failure}");
            }
        }
    }

    #[test]
    fn a_run_that_starts_anew_keeps_the_old_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(retire(dir.path()).unwrap(), None);
        fs::write(dir.path().join(FILE), "old").unwrap();
        fs::write(dir.path().join(SYNCED), "older").unwrap();
        let old = retire(dir.path()).unwrap().unwrap();
        assert_eq!(fs::read_to_string(old).unwrap(), "old");
        assert!(!dir.path().join(SYNCED).exists());
        assert_eq!(Checkpoint::load(dir.path()).unwrap(), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            place in any::<prop::sample::Index>(),
        ) {
            let _ = Checkpoint::parse(Path::new("x"), &bytes);
            let mut text = serde_json::to_vec(&checkpoint(1)).unwrap();
            let place = place.index(text.len());
            text.splice(place..place, bytes);
            let _ = Checkpoint::parse(Path::new("x"), &text);
        }

        #[test]
        fn every_position_comes_back(
            pass: u64, next: u128, low in Key::MIN.0..=Key::MAX.0, high in Key::MIN.0..=Key::MAX.0,
        ) {
            let position = Cursor::Random { pass, low: Key(low), high: Key(high), next };
            let checkpoint = Checkpoint { position, ..checkpoint(1) };
            let text = serde_json::to_vec(&checkpoint).unwrap();
            prop_assert_eq!(Checkpoint::parse(Path::new("x"), &text).unwrap(), checkpoint);
        }
    }
}
