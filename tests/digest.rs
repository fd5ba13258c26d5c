//! The digest of what left the pacer: the same for the same seed, and one that others can compute.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use crate::support::{Ended, Run, Sandbox};

/// Posts and digest, as `-v` tells them.
fn digest(ended: &Ended) -> Option<(&str, &str)> {
    let line = |line: &'_ str| line.starts_with("digest of ");
    let told = ended.stderr.lines().find(|it| line(it))?;
    told.strip_prefix("digest of ")?.split_once(" posts: ")
}

#[track_caller]
fn told(ended: &Ended) -> (&str, &str) {
    assert_eq!(ended.code(), 0, "{ended:?}");
    digest(ended).unwrap_or_else(|| panic!("{ended:?}"))
}

fn database(posts: u32) -> (Sandbox, String) {
    let sandbox = Sandbox::new();
    sandbox.seeded(posts);
    let url = format!("sqlite:{}", sandbox.path().join("seed.db").display());
    (sandbox, url)
}

#[test]
fn the_same_seed_posts_the_same_at_the_same_times_and_lands_the_same_bytes_in_the_same_order() {
    let (_sandbox, url) = database(70);
    for run in [
        Run::batch(&url)
            .with("--batch-size", 7)
            .with("--linger", "5ms"),
        Run::stream(&url).with("--partition-key", "kind"),
    ] {
        // Two passes, in pauses of a few milliseconds.
        let run = run
            .with("--order", "random")
            .with("--rate", "400/s")
            .with("-n", 120)
            .flag("-v");
        let seeded = |seed: u64| run.clone().with("--random-seed", seed).post();
        let ((first, landed), (again, landed_again)) = (seeded(7), seeded(7));
        assert_eq!(told(&first), told(&again));
        assert_eq!(told(&first).0, "120");
        let records = |landed: &[Vec<String>; 3]| landed.each_ref().map(|lines| data(lines));
        assert_eq!(records(&landed), records(&landed_again));
        assert_eq!(landed[0].len(), 120);

        let (other, landed_other) = seeded(8);
        assert_ne!(told(&other).1, told(&first).1);
        assert_ne!(records(&landed_other), records(&landed));
        // The same posts in the same order, but not the same times.
        let (faster, landed_faster) = run
            .clone()
            .with("--random-seed", 7)
            .with("--rate", "500/s")
            .post();
        assert_ne!(told(&faster).1, told(&first).1);
        assert_eq!(records(&landed_faster), records(&landed));
    }
}

/// What was posted, without what a stream adds to it.
fn data(lines: &[String]) -> Vec<String> {
    let start = "\"data\":";
    let end = ",\"stream\":";
    let data = |line: &String| match (line.find(start), line.find(end)) {
        (Some(from), Some(to)) => line[from + start.len()..to].to_owned(),
        _ => line.clone(),
    };
    lines.iter().map(data).collect()
}

#[test]
fn the_digest_is_that_of_a_text_that_anybody_can_write() {
    let (_sandbox, url) = database(12);
    let (ended, [pins, geos, users]) = Run::batch(&url).flag("-v").post();
    let mut text = String::new();
    for (key, ((pin, geo), user)) in pins.iter().zip(&geos).zip(&users).enumerate() {
        writeln!(text, "{key} -\n{pin}\n{geo}\n{user}").unwrap();
    }
    let expected = Sha256::digest(text);
    let expected = expected
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    assert_eq!(told(&ended), ("12", &*expected));

    let constant = Run::batch(&url)
        .with("--rate", "100/s")
        .with("--arrivals", "constant")
        .with("-n", 3)
        .flag("-v");
    let (ended, [pins, geos, users]) = constant.post();
    let mut text = String::new();
    for (key, ((pin, geo), user)) in pins.iter().zip(&geos).zip(&users).enumerate() {
        writeln!(text, "{key} {}\n{pin}\n{geo}\n{user}", key * 10_000).unwrap();
    }
    let expected = Sha256::digest(text);
    let expected = expected
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    assert_eq!(told(&ended), ("3", &*expected));
}

#[test]
fn nobody_who_does_not_ask_is_told_a_digest() {
    let (_sandbox, url) = database(3);
    let (ended, _) = Run::batch(&url).post();
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(digest(&ended), None, "{ended:?}");
}
