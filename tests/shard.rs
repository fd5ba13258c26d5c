//! Runs that many machines do together, each its share.

use std::{collections::BTreeSet, path::Path};

use serde_json::{Value, json};

use crate::{
    fake::{Asked, Target},
    support::{Database, Ended, Receiver, Run, Sandbox, assert_balanced},
};

const TABLES: [(&str, &str); 3] = [
    ("pinterest_data", "index"),
    ("geolocation_data", "ind"),
    ("user_data", "ind"),
];

/// The keys that were posted, in their order; for each kind the same.
#[track_caller]
fn keys_of(landed: &[Vec<String>; 3]) -> Vec<i128> {
    let [pins, geos, users] = landed.each_ref().map(|lines| {
        let key = |line: &String| {
            let record: Value = serde_json::from_str(line).unwrap();
            let key = record.get("index").or(record.get("ind")).unwrap();
            key.to_string().parse().unwrap()
        };
        lines.iter().map(key).collect::<Vec<i128>>()
    });
    assert_eq!(pins, geos);
    assert_eq!(pins, users);
    pins
}

/// Runs all shards of a run: how each ended and the keys that it posted.
fn all_shards(run: &Run, of: u32) -> Vec<(Ended, Vec<i128>)> {
    let one = |number| {
        let shard = format!("{number}/{of}");
        let (ended, landed) = run.clone().with("--shard", shard.as_str()).post();
        assert_eq!(ended.code(), 0, "{shard}: {ended:?}");
        let summary = ended.summary();
        assert_balanced(&summary);
        let keys = keys_of(&landed);
        assert_eq!(summary["posts"]["read"], keys.len());
        (ended, keys)
    };
    (1..=of).map(one).collect()
}

/// Makes the three tables, whose key columns are defined like this.
fn tables(definition: &str, keys: &[i128]) -> Database {
    let database = Database::new();
    for (table, key) in TABLES {
        let definition = definition.replace("KEY`", &format!("{key}`"));
        let rows: Vec<_> = keys.iter().map(|key| format!("({key})")).collect();
        database.execute(&format!(
            "CREATE TABLE {table} (`{key}` {definition}); INSERT INTO {table} VALUES {}",
            rows.join(",")
        ));
    }
    database
}

#[test]
fn shards_are_disjoint_and_complete_in_every_order_and_for_every_kind_of_key() {
    let ends = [i64::MIN.into(), i64::MAX.into()];
    let signed: Vec<i128> = (-9..=14).chain(ends).collect();
    let unsigned: Vec<i128> = (0..12)
        .chain((0..12).map(|i| i128::from(u64::MAX) - i))
        .collect();
    for (definition, keys) in [
        ("BIGINT PRIMARY KEY", &signed),
        ("BIGINT, INDEX (`KEY`)", &signed),
        ("BIGINT", &signed),
        ("BIGINT UNSIGNED PRIMARY KEY", &unsigned),
    ] {
        let database = tables(definition, keys);
        let by_key = Run::batch(&database.url());
        // Random order visits the keys that are not there as well, so it gets a range without gaps, and one pass.
        let range = if keys == &signed { (-9, 14) } else { (0, 11) };
        let at_random = by_key
            .clone()
            .with("--order", "random")
            .with("--from", range.0)
            .with("--to", range.1)
            .with("-n", range.1 - range.0 + 1);
        for of in [1, 3, 4] {
            for (run, expected) in [
                (&by_key, keys.clone()),
                (&at_random, (range.0..=range.1).map(i128::from).collect()),
            ] {
                let mut all = BTreeSet::new();
                for (shard, (_, posted)) in (0_i128..).zip(all_shards(run, of)) {
                    for key in posted {
                        assert_eq!(key.rem_euclid(of.into()), shard, "{definition}");
                        assert!(all.insert(key), "{key} twice");
                    }
                }
                assert_eq!(all, expected.into_iter().collect(), "{definition}");
            }
        }
    }
}

#[test]
fn what_makes_no_post_is_counted_once_over_all_shards() {
    let database = tables("BIGINT, INDEX (`KEY`)", &[-3, -2, -1, 0, 1, 2, 3, 4]);
    database.execute(
        "INSERT INTO user_data VALUES (NULL), (NULL), (1), (2), (2);
         DELETE FROM geolocation_data WHERE ind IN (-3, 4)",
    );
    for order in ["index", "random"] {
        // In random order more than two passes, of which the first counts.
        let run = Run::batch(&database.url())
            .with("--order", order)
            .with("-n", 16);
        let ended = all_shards(&run, 4);
        let sum = |count: fn(&Ended) -> u64| ended.iter().map(|(it, _)| count(it)).sum::<u64>();
        let incomplete = sum(|it| it.summary()["posts"]["incomplete"].as_u64().unwrap());
        assert_eq!(incomplete, 2, "{order}");
        let keyless = "2 rows of user_data have no key (NULL)";
        let tellers: Vec<_> = ended
            .iter()
            .map(|(it, _)| it.stderr.contains(keyless))
            .collect();
        assert_eq!(tellers, [true, false, false, false], "{order}");
        for (shard, repeated) in [(1, "1 row beyond"), (2, "2 rows beyond")] {
            assert!(
                ended[shard].0.stderr.contains(repeated),
                "{order}: {ended:?}"
            );
        }
        for shard in [0, 3] {
            assert!(
                !ended[shard].0.stderr.contains("beyond the first"),
                "{order}"
            );
        }
    }
}

/// A run by key from a file, as fast as it goes.
fn line<'a>(url: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    #[rustfmt::skip]
    let line = [
        "batch", "--topic-prefix", "t", "--database-url", "sqlite:seed.db", "--invoke-url", url, "--order", "index",
        "--format", "json",
    ];
    line.iter().chain(more).copied().collect()
}

#[test]
fn a_shard_does_its_part_of_what_is_asked_of_the_whole_and_says_so() {
    let (sandbox, mut receiver) = (Sandbox::new(), Receiver::start(&[]));
    sandbox.seeded(1000);
    let url = receiver.url();
    let run = |shard: &str, more: &[&str]| {
        let options = [&["--shard", shard], more].concat();
        let ended = sandbox.run(line(&url, &options));
        assert_eq!(ended.code(), 0, "{ended:?}");
        ended
    };
    let all = [
        ("1/4", "shard 1 of 4: 2 of 6 posts at 25/s", 2),
        ("2/4", "shard 2 of 4: 2 of 6 posts at 25/s", 2),
        ("3/4", "shard 3 of 4: 1 of 6 posts at 25/s", 1),
        ("4/4", "shard 4 of 4: 1 of 6 posts at 25/s", 1),
    ];
    for (shard, words, posts) in all {
        let ended = run(shard, &["-n", "6", "--rate", "100/s"]);
        assert!(ended.stderr.contains(words), "{ended:?}");
        let summary = ended.summary();
        assert_eq!(summary["posts"]["delivered"], posts);
        assert_eq!(summary["asked_posts_per_s"], 25.0);
    }
    let ended = run("1/4", &["-n", "1k", "--rate", "max"]);
    let words = "shard 1 of 4: 250 of 1,000 posts as fast as possible";
    assert!(ended.stderr.contains(words), "{ended:?}");
    assert_eq!(ended.summary()["posts"]["delivered"], 250);
    let ended = run("2/3", &["-d", "1ms"]);
    assert!(
        ended.stderr.contains("shard 2 of 3: at 0.6667/s, 1ms"),
        "{ended:?}"
    );
    // Its first post is due half a second after the first of the whole run.
    assert_eq!(ended.summary()["posts"]["read"], 0);
    // More shards than posts: the last have nothing to do.
    let ended = run("4/4", &["-n", "3", "--rate", "max"]);
    assert_eq!(ended.summary()["posts"]["read"], 0);
    let ended = sandbox.run(line(&url, &["--shard", "4/4", "-n", "3", "--dry-run"]));
    assert_eq!((ended.code(), &*ended.stdout), (0, ""), "{ended:?}");
    let ended = sandbox.run(line(&url, &["--shard", "4/4", "--dry-run"]));
    assert_eq!(ended.stdout.matches("\"index\":").count(), 3, "{ended:?}");
    receiver.stop();
}

#[test]
fn a_shard_that_is_none_is_a_usage_error_with_the_cure() {
    let sandbox = Sandbox::new();
    sandbox.seeded(3);
    for (shard, cure) in [
        ("0/4", "1/4 to 4/4"),
        ("5/4", "1/4 to 4/4"),
        ("1/0", "1/1 is the whole run"),
        ("1/99999999999999999999", "at most 1000 shards"),
        ("1", "written I/N"),
        ("-1/4", "written I/N"),
    ] {
        let option = format!("--shard={shard}");
        let ended = sandbox.run(line("http://127.0.0.1:9", &[&option]));
        assert_eq!(ended.code(), 64, "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        assert!(ended.stderr.contains(cure), "{ended:?}");
    }
}

#[test]
fn a_shard_without_keys_says_that_others_may_have_some() {
    let (sandbox, receiver) = (Sandbox::new(), Receiver::start(&[]));
    sandbox.seeded(3);
    let url = receiver.url();
    for order in ["index", "random"] {
        let options = ["--shard", "4/4", "--order", order, "--rate", "max"];
        let with_order: Vec<_> = line(&url, &[])
            .into_iter()
            .filter(|word| !["--order", "index"].contains(word))
            .chain(options)
            .collect();
        let ended = sandbox.run(with_order);
        assert_eq!(ended.code(), 66, "{ended:?}");
        assert!(
            ended.stderr.contains("in shard 4/4; others may"),
            "{ended:?}"
        );
    }
}

fn checkpoint(dir: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(dir.join("checkpoint.json")).unwrap()).unwrap()
}

#[test]
fn each_shard_has_a_state_of_its_own_and_goes_on_with_its_own_posts() {
    let (sandbox, mut receiver) = (Sandbox::new(), Receiver::start(&[]));
    sandbox.seeded(40);
    let url = receiver.url();
    let run = |more: &[&str]| sandbox.run(line(&url, &[&["--rate", "max"], more].concat()));
    let state = |shard: &str| {
        sandbox
            .path()
            .join(format!("state/pinemu/batch-t-shard-{shard}"))
    };
    for shard in ["1/3", "2/3", "3/3"] {
        let ended = run(&["--shard", shard, "-n", "12"]);
        assert_eq!(ended.code(), 0, "{ended:?}");
        let dir = state(&shard.replace('/', "-of-"));
        assert_eq!(checkpoint(&dir)["shard"], shard);
        assert_eq!(checkpoint(&dir)["posts"], 4);
        let ended = run(&["--shard", shard, "--resume"]);
        assert_eq!(ended.code(), 0, "{ended:?}");
    }
    // In a directory that is given, what is not given is taken over, and what is given must agree.
    let dir = state("2-of-3");
    let dir = dir.to_str().unwrap();
    let ended = run(&["--state-dir", dir, "--resume"]);
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert!(
        ended.stderr.contains("Nothing is left to post."),
        "{ended:?}"
    );
    for shard in ["1/3", "2/4"] {
        let ended = run(&["--state-dir", dir, "--resume", "--shard", shard]);
        assert_eq!(ended.code(), 78, "{ended:?}");
        for words in ["with --shard 2/3", &format!("--shard {shard};")] {
            assert!(ended.stderr.contains(words), "{ended:?}");
        }
    }
    let whole = run(&["-n", "1"]);
    assert_eq!(whole.code(), 0, "{whole:?}");
    let whole = sandbox.path().join("state/pinemu/batch-t");
    assert_eq!(checkpoint(&whole)["shard"], Value::Null);
    let ended = run(&[
        "--resume",
        "--state-dir",
        whole.to_str().unwrap(),
        "--shard",
        "1/1",
    ]);
    assert_eq!(ended.code(), 78, "{ended:?}");
    assert!(ended.stderr.contains("without --shard"), "{ended:?}");
    let mut keys: Vec<i64> = receiver
        .landed("t.pin")
        .iter()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["index"]
                .as_i64()
                .unwrap()
        })
        .collect();
    keys.sort_unstable();
    // The whole run posted the first one again.
    assert!(keys.into_iter().eq([0].into_iter().chain(0..40)));
}

#[test]
fn the_command_that_sends_again_finds_what_a_shard_set_aside() {
    let sandbox = Sandbox::new();
    sandbox.seeded(8);
    let rejects = |asked: &Asked| {
        asked.proven(|_| Some(json!({"partition": null, "offset": null, "error_code": 50002, "error": "The message is too large"})))
    };
    let target = Target::start(move |asked| {
        asked.or_there(|asked| {
            if asked.path.ends_with("t.pin") && asked.turn == 0 {
                rejects(asked)
            } else {
                asked.all_proven()
            }
        })
    });
    let url = target.url();
    let ended = sandbox.run(line(&url, &["--shard", "2/4", "--rate", "max"]));
    assert_eq!(ended.code(), 1, "{ended:?}");
    let again = ended
        .stderr
        .lines()
        .find_map(|line| line.strip_prefix("To send again what waits: pinemu "));
    let again: Vec<_> = again.unwrap().split(' ').collect();
    assert!(
        again.last().unwrap().ends_with("/batch-t-shard-2-of-4"),
        "{again:?}"
    );
    let resent = sandbox.run(&again);
    assert_eq!(resent.code(), 0, "{resent:?}");
    let waiting = Path::new(again.last().unwrap()).join("undelivered.jsonl");
    assert!(!waiting.exists() || std::fs::read(waiting).unwrap().is_empty());
    assert_eq!(
        target.sent_to("t.pin").len(),
        3,
        "the first post, the other one, and the first again"
    );
}
