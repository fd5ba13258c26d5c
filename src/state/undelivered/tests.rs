use std::{
    fs::{self, OpenOptions},
    io::Write,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use proptest::prelude::*;

use super::*;
use crate::state::if_there;

pub(in crate::state) fn undelivered(index: Key) -> Undelivered {
    Undelivered {
        kind: Kind::Pin,
        index,
        target: "http://127.0.0.1:8082".to_owned(),
        path: "/topics/p.pin".to_owned(),
        key: None,
        outcome: Outcome::Rejected,
        status: Some(422),
        reason: "too large".to_owned(),
        attempts: 3,
        at: "2026-01-01T00:00:00.000Z".to_owned(),
        record: Record::from_static(br#"{"index":1.50,"text":"\u00fc"}"#),
    }
}

fn indexes(records: Records) -> Vec<i128> {
    records.map(|record| record.unwrap().index.0).collect()
}

fn parse(text: &[u8]) -> Result<Vec<Undelivered>, Failure> {
    Records::new(io::Cursor::new(text.to_vec()), "x".to_owned()).collect()
}

#[test]
fn a_line_has_the_promised_keys_in_their_order_and_the_record_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    append(dir.path(), &[undelivered(Key::MAX)]).unwrap();
    assert_eq!(
        fs::read_to_string(dir.path().join(FILE)).unwrap(),
        concat!(
            r#"{"kind":"pin","index":18446744073709551615,"target":"http://127.0.0.1:8082","#,
            r#""path":"/topics/p.pin","key":null,"outcome":"rejected","status":422,"#,
            r#""reason":"too large","attempts":3,"at":"2026-01-01T00:00:00.000Z","#,
            r#""record":{"index":1.50,"text":"\u00fc"}}"#,
            "\n"
        )
    );
    assert_eq!(
        parse(&fs::read(dir.path().join(FILE)).unwrap()).unwrap(),
        [undelivered(Key::MAX)]
    );
}

#[test]
fn nothing_to_append_makes_no_file() {
    let dir = tempfile::tempdir().unwrap();
    append(dir.path(), &[]).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    assert_eq!(count(dir.path()).unwrap(), 0);
}

#[test]
fn records_are_counted_in_both_files() {
    let dir = tempfile::tempdir().unwrap();
    append(dir.path(), &[undelivered(Key(1)), undelivered(Key(2))]).unwrap();
    let resending = Resending::begin(dir.path()).unwrap().unwrap();
    append(dir.path(), &[undelivered(Key(3))]).unwrap();
    assert_eq!(count(dir.path()).unwrap(), 3);
    resending.finish().unwrap();
    assert_eq!(count(dir.path()).unwrap(), 1);
}

#[test]
fn only_a_torn_last_line_is_left_out_wherever_it_was_torn() {
    let whole = |index| serde_json::to_string(&undelivered(Key(index))).unwrap();
    let last = whole(3);
    for cut in 0..=last.len() {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("{}\n\n{}\n{}", whole(1), whole(2), &last[..cut]);
        fs::write(dir.path().join(FILE), text).unwrap();
        let resending = Resending::begin(dir.path()).unwrap().unwrap();
        let read = indexes(resending.records().unwrap());
        let expected = if cut == last.len() {
            vec![1, 2, 3]
        } else {
            vec![1, 2]
        };
        assert_eq!(read, expected, "cut at {cut}");
        fs::rename(dir.path().join(RESENDING), dir.path().join(FILE)).unwrap();
        append(dir.path(), &[undelivered(Key(4))]).unwrap();
        let read = indexes(super::read(&dir.path().join(FILE)).unwrap());
        assert_eq!(read, [expected, vec![4]].concat(), "cut at {cut}");
    }
}

#[test]
fn a_strange_line_is_a_failure_that_names_file_and_line_and_removes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let whole = serde_json::to_string(&undelivered(Key(1))).unwrap();
    let text = format!("{whole}\n{{\"torn\n{whole}\n");
    fs::write(dir.path().join(FILE), &text).unwrap();
    let resending = Resending::begin(dir.path()).unwrap().unwrap();
    let mut records = resending.records().unwrap();
    records.next().unwrap().unwrap();
    let failure = records.next().unwrap().unwrap_err();
    assert!(records.next().is_none());
    assert_eq!(failure.exit, Exit::Data);
    assert!(
        failure
            .to_string()
            .contains(&format!("{RESENDING}, line 2")),
        "{failure}"
    );
    drop(resending);
    assert_eq!(
        fs::read_to_string(dir.path().join(RESENDING)).unwrap(),
        text
    );
}

#[test]
fn a_resend_that_crashed_is_taken_up_again_before_newer_records() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Resending::begin(dir.path()).unwrap().is_none());
    append(dir.path(), &[undelivered(Key(1))]).unwrap();
    let crashed = Resending::begin(dir.path()).unwrap().unwrap();
    assert!(!crashed.is_leftover());
    append(dir.path(), &[undelivered(Key(2))]).unwrap();
    let again = Resending::begin(dir.path()).unwrap().unwrap();
    assert!(again.is_leftover());
    assert_eq!(indexes(again.records().unwrap()), [1]);
    again.finish().unwrap();
    let newer = Resending::begin(dir.path()).unwrap().unwrap();
    assert_eq!(indexes(newer.records().unwrap()), [2]);
    newer.finish().unwrap();
    assert!(Resending::begin(dir.path()).unwrap().is_none());
}

#[test]
fn a_file_that_is_missing_is_named() {
    let failure = read(Path::new("/nowhere/x.jsonl")).unwrap_err();
    assert_eq!(failure.exit, Exit::Configuration);
    assert!(
        failure.to_string().contains("/nowhere/x.jsonl"),
        "{failure}"
    );
}

#[test]
fn a_record_that_would_break_the_line_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    for record in ["{\"a\":\n1}", "{\"a\":", "\u{1}", ""] {
        let bad = Undelivered {
            record: Record::from_static(record.as_bytes()),
            ..undelivered(Key(2))
        };
        let failure = append(dir.path(), &[undelivered(Key(1)), bad]).unwrap_err();
        assert_eq!(failure.exit, Exit::Bug);
    }
    assert_eq!(count(dir.path()).unwrap(), 0);
}

#[test]
fn appends_and_resends_at_the_same_time_lose_nothing_and_repeat_nothing() {
    const THREADS: i128 = 3;
    const EACH: i128 = 300;
    let dir = tempfile::tempdir().unwrap();
    let done = AtomicBool::new(false);
    let mut seen = thread::scope(|scope| {
        let appenders: Vec<_> = (0..THREADS)
            .map(|thread| {
                let dir = dir.path();
                scope.spawn(move || {
                    for number in 0..EACH {
                        append(dir, &[undelivered(Key(thread * EACH + number))]).unwrap();
                    }
                })
            })
            .collect();
        let resender = scope.spawn(|| {
            let mut seen = Vec::new();
            loop {
                let last = done.load(Ordering::SeqCst);
                if let Some(resending) = Resending::begin(dir.path()).unwrap() {
                    seen.extend(indexes(resending.records().unwrap()));
                    resending.finish().unwrap();
                } else if last {
                    return seen;
                }
            }
        });
        for appender in appenders {
            appender.join().unwrap();
        }
        done.store(true, Ordering::SeqCst);
        resender.join().unwrap()
    });
    seen.sort_unstable();
    assert_eq!(seen, (0..THREADS * EACH).collect::<Vec<_>>());
}

#[test]
fn every_change_of_the_file_is_synced_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut synced = Synced::default();
    synced.catch_up(dir.path()).unwrap();
    assert_eq!(synced.0, None);
    append(dir.path(), &[undelivered(Key(1))]).unwrap();
    synced.catch_up(dir.path()).unwrap();
    let len = |synced: &Synced| synced.0.as_ref().map(|state| state.len);
    let first = len(&synced);
    assert_eq!(
        first,
        if_there(fs::metadata(dir.path().join(FILE)))
            .unwrap()
            .map(|metadata| metadata.len())
    );
    let mut options = OpenOptions::new();
    let mut file = options.append(true).open(dir.path().join(FILE)).unwrap();
    file.write_all(b"\n").unwrap();
    synced.catch_up(dir.path()).unwrap();
    assert_eq!(len(&synced), first.map(|len| len + 1));
}

fn any_undelivered() -> impl Strategy<Value = Undelivered> {
    let texts = (".*", ".*", ".*", any::<String>());
    let numbers = (any::<Option<u16>>(), any::<u64>());
    let kind = prop::sample::select(Kind::ALL.to_vec());
    let key = any::<Option<String>>();
    let index = Key::MIN.0..=Key::MAX.0;
    (kind, index, texts, numbers, key, any::<bool>(), ".*").prop_map(
        |(kind, index, (target, path, reason, text), (status, attempts), key, rejected, at)| {
            Undelivered {
                kind,
                index: Key(index),
                target,
                path,
                key,
                outcome: if rejected {
                    Outcome::Rejected
                } else {
                    Outcome::Unproven
                },
                status,
                reason,
                attempts,
                at,
                record: serde_json::to_vec(&serde_json::json!({ "text": text, "n": attempts }))
                    .unwrap()
                    .into(),
            }
        },
    )
}

proptest! {
    #[test]
    fn every_record_comes_back(all in prop::collection::vec(any_undelivered(), 1..5)) {
        let dir = tempfile::tempdir().unwrap();
        append(dir.path(), &all).unwrap();
        prop_assert_eq!(count(dir.path()).unwrap(), all.len() as u64);
        let back: Result<Vec<_>, _> = read(&dir.path().join(FILE)).unwrap().collect();
        prop_assert_eq!(back.unwrap(), all);
    }

    #[test]
    fn no_bytes_make_it_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        place in any::<prop::sample::Index>(),
    ) {
        let _ = parse(&bytes);
        let mut text = serde_json::to_vec(&undelivered(Key(1))).unwrap();
        let place = place.index(text.len());
        text.splice(place..place, bytes);
        text.push(b'\n');
        let _ = parse(&text);
    }
}
