//! Seed databases as other people have them: their tables, keys, indexes and faults.

use std::{collections::HashSet, ops::RangeInclusive, time::Duration};

use serde_json::Value;
use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};

use crate::support::{Database, KINDS, Receiver, Run, Sandbox, until};

/// The table of each kind and what its key column is called, unless a test says otherwise.
const TABLES: [(&str, &str); 3] = [
    ("pinterest_data", "index"),
    ("geolocation_data", "ind"),
    ("user_data", "ind"),
];

/// Makes a table whose rows have these keys and, in `place`, their place in the list.
fn make_table<K: ToString>(
    database: &Database,
    (table, key): (&str, &str),
    definition: &str,
    keys: &[K],
) {
    database.execute(&format!(
        "CREATE TABLE `{table}` (`{key}` {definition}, place BIGINT)"
    ));
    for (chunk, keys) in keys.chunks(5_000).enumerate() {
        let rows: Vec<_> = (chunk * 5_000..)
            .zip(keys)
            .map(|(place, key)| format!("({},{place})", key.to_string()))
            .collect();
        database.execute(&format!("INSERT INTO `{table}` VALUES {}", rows.join(",")));
    }
}

/// A database whose three tables have the same keys.
fn with_keys<K: ToString>(definition: &str, keys: &[K]) -> Database {
    let database = Database::new();
    for table in TABLES {
        make_table(&database, table, definition, keys);
    }
    database
}

/// The numbers of a range, neighbours parted.
fn scrambled(range: RangeInclusive<i64>) -> Vec<i64> {
    let mut keys: Vec<_> = range.collect();
    // Any order without a pattern does, as long as it is the same every time.
    keys.sort_by_key(|key| key.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64.cast_signed()));
    keys
}

fn field(line: &str, name: &str) -> i128 {
    let record: Value = serde_json::from_str(line).unwrap();
    let number = &record[name];
    number
        .as_i64()
        .map(i128::from)
        .or_else(|| number.as_u64().map(i128::from))
        .unwrap_or_else(|| panic!("no {name} in {line}"))
}

/// The keys of what landed: all three kinds have the same, in the same order.
#[track_caller]
fn keys_of(landed: &[Vec<String>; 3]) -> Vec<i128> {
    let [pin, geo, user] = [0, 1, 2].map(|kind: usize| {
        landed[kind]
            .iter()
            .map(|line| field(line, TABLES[kind].1))
            .collect::<Vec<_>>()
    });
    assert_eq!(pin, geo);
    assert_eq!(pin, user);
    pin
}

/// All keys of a run that lands them.
#[track_caller]
fn landed_keys(run: &Run) -> Vec<i128> {
    keys_of(&run.landed())
}

#[track_caller]
fn assert_each_once(keys: &[i128], expected: impl IntoIterator<Item = i64>) {
    let mut sorted = keys.to_vec();
    sorted.sort_unstable();
    let mut expected: Vec<_> = expected.into_iter().map(i128::from).collect();
    expected.sort_unstable();
    assert_eq!(sorted, expected);
}

/// A run that ends with this status, and whose one line holds these words.
#[track_caller]
fn assert_fails(run: &Run, code: i32, words: &[&str]) {
    let (ended_with, said) = run.fail();
    assert_eq!(ended_with, code, "{said}");
    for word in words {
        assert!(said.contains(word), "{word}: {said}");
    }
}

/// A database as `DataFrame.to_sql(index=False)` makes one: no primary key, no index, the rows in any order.
fn made_by_pandas(posts: i64) -> Database {
    let database = Database::new();
    for (table, columns) in [
        (
            "pinterest_data",
            "`index` BIGINT, unique_id TEXT, title TEXT, follower_count TEXT, downloaded BIGINT",
        ),
        (
            "geolocation_data",
            "ind BIGINT, timestamp DATETIME, latitude DOUBLE, longitude DOUBLE, country TEXT",
        ),
        (
            "user_data",
            "ind BIGINT, first_name TEXT, last_name TEXT, age BIGINT, date_joined DATETIME",
        ),
    ] {
        let keys = scrambled(0..=posts - 1);
        let rows: Vec<_> = keys
            .iter()
            .map(|key| match table {
                "pinterest_data" => format!("({key},'u{key}','Pin {key}','{key}k',1)"),
                "geolocation_data" => {
                    format!("({key},'2020-08-28 03:52:47',-89.9787,{key}.5,'Albania')")
                }
                _ => format!("({key},'Abigail','Ali',20,'2015-10-24 11:23:51')"),
            })
            .collect();
        database.execute(&format!(
            "CREATE TABLE {table} ({columns}); INSERT INTO {table} VALUES {}",
            rows.join(",")
        ));
    }
    database
}

#[test]
fn tables_that_pandas_made_are_read_in_key_order() {
    let database = made_by_pandas(1_500);
    let [pin, geo, user] = Run::batch(&database.url()).landed();
    let expected = |row: fn(i64) -> String| (0..1_500).map(row).collect::<Vec<_>>();
    assert_eq!(
        pin,
        expected(|key| format!(
            r#"{{"index":{key},"unique_id":"u{key}","title":"Pin {key}","follower_count":"{key}k","downloaded":1}}"#
        ))
    );
    assert_eq!(
        geo,
        expected(|key| format!(
            r#"{{"ind":{key},"timestamp":"2020-08-28 03:52:47","latitude":-89.9787,"longitude":{key}.5,"country":"Albania"}}"#
        ))
    );
    assert_eq!(
        user,
        expected(|key| format!(
            r#"{{"ind":{key},"first_name":"Abigail","last_name":"Ali","age":20,"date_joined":"2015-10-24 11:23:51"}}"#
        ))
    );
}

#[test]
fn tables_without_an_index_can_be_read_in_random_order_but_the_index_to_make_is_told() {
    let database = made_by_pandas(1_500);
    let run = Run::batch(&database.url()).with("--order", "random");
    let (ended, landed) = run.clone().with("-n", 1_500).post();
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_each_once(&keys_of(&landed), 0..1_500);
    let mut statements = Vec::new();
    for (table, key) in TABLES {
        let statement = format!("CREATE INDEX pinemu_key ON `{table}` (`{key}`)");
        assert!(ended.stderr.contains(&statement), "{statement}: {ended:?}");
        statements.push(statement);
    }
    database.execute(&statements.join(";"));
    let (ended, _) = run.with("-n", 10).post();
    assert!(!ended.stderr.contains("CREATE INDEX"), "{ended:?}");
}

#[test]
fn the_row_number_that_pandas_writes_is_not_taken_for_the_key() {
    let database = Database::new();
    make_table(&database, TABLES[0], "BIGINT", &[10, 20, 30]);
    for (table, _) in &TABLES[1..] {
        database.execute(&format!(
            "CREATE TABLE {table} (`index` BIGINT, ind BIGINT, name TEXT);
             CREATE INDEX ix_{table}_index ON {table} (`index`);
             INSERT INTO {table} VALUES (0, 30, 'c'), (1, 20, 'b'), (2, 10, 'a')"
        ));
    }
    let [_, geo, user] = Run::batch(&database.url()).landed();
    let expected = [(2, 10, 'a'), (1, 20, 'b'), (0, 30, 'c')]
        .map(|(row, key, name)| format!(r#"{{"index":{row},"ind":{key},"name":"{name}"}}"#));
    assert_eq!(geo, expected);
    assert_eq!(user, expected);
}

#[test]
fn the_key_column_has_any_of_its_names_in_any_case() {
    for [pin, geo, user] in [
        ["idx", "idx", "idx"],
        ["INDEX", "Ind", "IDX"],
        ["ind", "index", "Index"],
    ] {
        let database = Database::new();
        for ((table, _), key) in TABLES.into_iter().zip([pin, geo, user]) {
            make_table(&database, (table, key), "INT PRIMARY KEY", &[3, 1, 2]);
        }
        let landed = Run::batch(&database.url()).landed();
        for (lines, key) in landed.iter().zip([pin, geo, user]) {
            let expected = [(1, 1), (2, 2), (3, 0)]
                .map(|(index, place)| format!(r#"{{"{key}":{index},"place":{place}}}"#));
            assert_eq!(*lines, expected);
        }
    }
}

#[test]
fn columns_of_any_number_and_order_are_sent_in_the_order_of_the_table() {
    let database = with_keys("BIGINT PRIMARY KEY", &[1]);
    database.execute(
        "ALTER TABLE pinterest_data ADD zebra TEXT FIRST, ADD board TEXT, ADD apple INT AFTER `index`;
         UPDATE pinterest_data SET zebra = 'z', board = 'b', apple = 1",
    );
    let [pin, ..] = Run::batch(&database.url()).landed();
    assert_eq!(
        pin,
        [r#"{"zebra":"z","index":1,"apple":1,"place":0,"board":"b"}"#]
    );
}

#[test]
fn tables_may_have_any_name() {
    let names = ["my `pins`; --", "geo.data é", "select"];
    let database = Database::new();
    let mut run = Run::batch(&database.url());
    for ((name, (_, key)), kind) in names.into_iter().zip(TABLES).zip(KINDS) {
        make_table(
            &database,
            (&name.replace('`', "``"), key),
            "BIGINT",
            &[2, 1],
        );
        run = run.with(&format!("--{kind}-table"), name);
    }
    assert_eq!(landed_keys(&run), [1, 2]);
    assert_eq!(
        keys_of(&run.with("--order", "random").with("-n", 2).landed()).len(),
        2
    );
}

#[test]
fn tables_whose_names_differ_in_case_are_told_apart() {
    let database = with_keys("BIGINT PRIMARY KEY", &[1, 2]);
    let apart: bool = database.query(async |connection| {
        let sql = "SELECT @@lower_case_table_names = 0";
        sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
    });
    if apart {
        database.execute("CREATE TABLE Pinterest_Data (other INT)");
    }
    assert_eq!(landed_keys(&Run::batch(&database.url())), [1, 2]);
}

#[test]
fn views_take_the_place_of_tables() {
    let database = with_keys("BIGINT PRIMARY KEY", &scrambled(1..=600));
    let mut run = Run::batch(&database.url());
    for ((table, key), kind) in TABLES.into_iter().zip(KINDS) {
        let view = format!("{kind}_view");
        database.execute(&format!(
            "CREATE VIEW {view} AS SELECT `{key}`, CONCAT('key ', `{key}`) AS text FROM {table} WHERE `{key}` > 100"
        ));
        run = run.with(&format!("--{kind}-table"), view.as_str());
    }
    let landed = run.landed();
    assert_eq!(keys_of(&landed), (101..=600).collect::<Vec<_>>());
    assert_eq!(landed[1][0], r#"{"ind":101,"text":"key 101"}"#);

    let (ended, landed) = run.with("--order", "random").with("-n", 500).post();
    assert_each_once(&keys_of(&landed), 101..=600);
    assert!(
        !ended.stderr.contains("CREATE INDEX"),
        "a view takes no index: {ended:?}"
    );
}

/// Keys of which some repeat: 1 to 500, with 450 rows of key 190 around the end of the first page and 3 of key 500.
fn repeating() -> Vec<i64> {
    let mut keys: Vec<i64> = (1..=500).collect();
    keys.extend([500, 500]);
    keys.extend([190; 449]);
    keys
}

#[test]
fn of_rows_with_the_same_key_the_first_is_posted_and_the_others_are_counted() {
    let keys = repeating();
    for indexed in [true, false] {
        let database = Database::new();
        for (table, key) in TABLES {
            let definition = if indexed {
                format!("BIGINT, INDEX (`{key}`)")
            } else {
                "BIGINT".to_owned()
            };
            make_table(&database, (table, key), &definition, &keys);
        }
        for order in ["index", "random"] {
            let run = Run::batch(&database.url()).with("--order", order);
            // Past the end of the first pass, so that all of it has been read.
            let run = if order == "random" {
                run.with("-n", 500)
            } else {
                run
            };
            let (ended, landed) = run.post();
            assert_eq!(ended.code(), 0, "{ended:?}");
            assert_each_once(&keys_of(&landed), 1..=500);
            // Sorting a table without an index brings any of them to the front.
            let first = indexed || order == "random";
            for line in &landed[0] {
                let (key, place) = (field(line, "index"), field(line, "place"));
                let own = i128::from(keys[usize::try_from(place).unwrap()]) == key;
                assert!(own && (!first || place == key - 1), "{line} {order}");
            }
            for (table, _) in TABLES {
                let warning = format!(
                    "{table} repeats keys; 451 rows beyond the first of their key were not posted: "
                );
                assert!(
                    ended.stderr.contains(&warning),
                    "{indexed} {order}: {ended:?}"
                );
            }
            assert!(ended.stderr.contains("190, 190, "), "{ended:?}");
        }
    }
}

#[test]
fn a_key_that_fills_more_than_a_page_is_one_post() {
    let mut keys = vec![7_i64; 1_000];
    keys.push(8);
    let database = Database::new();
    for (table, key) in TABLES {
        make_table(
            &database,
            (table, key),
            &format!("BIGINT, INDEX (`{key}`)"),
            &keys,
        );
    }
    let (ended, landed) = Run::batch(&database.url()).post();
    assert_eq!(keys_of(&landed), [7, 8]);
    assert!(
        ended.stderr.contains("999 rows beyond the first"),
        "{ended:?}"
    );
}

#[test]
fn rows_without_a_key_are_counted_and_not_posted() {
    for (definition, order) in [
        ("BIGINT", "index"),
        ("BIGINT", "random"),
        ("BIGINT UNIQUE", "index"),
        ("BIGINT UNIQUE", "random"),
    ] {
        let database = with_keys(definition, &["NULL", "2", "NULL", "1", "NULL"]);
        let run = Run::batch(&database.url()).with("--order", order);
        // More than there are in a pass, so that the first is read to its end.
        let run = if order == "random" {
            run.with("-n", 4)
        } else {
            run
        };
        let (ended, landed) = run.post();
        assert_eq!(ended.code(), 0, "{ended:?}");
        let keys = keys_of(&landed);
        assert_each_once(&keys[..2], 1..=2);
        for (table, _) in TABLES {
            let warning = format!("3 rows of {table} have no key (NULL)");
            assert!(
                ended.stderr.contains(&warning),
                "{definition} {order}: {ended:?}"
            );
        }
    }
}

#[test]
fn keys_without_all_three_rows_are_counted_and_not_posted() {
    let database = with_keys("BIGINT PRIMARY KEY", &(0..600).collect::<Vec<_>>());
    database.execute(
        "DELETE FROM pinterest_data WHERE `index` BETWEEN 10 AND 12;
         DELETE FROM geolocation_data WHERE ind IN (0, 300);
         DELETE FROM user_data WHERE ind >= 590 OR ind = 10",
    );
    let missing: HashSet<i64> = [0, 10, 11, 12, 300].into_iter().chain(590..600).collect();
    let whole = || (0..600).filter(|key| !missing.contains(key));
    for order in ["index", "random"] {
        let run = Run::batch(&database.url()).with("--order", order);
        let run = if order == "random" {
            run.with("-n", whole().count() + 1)
        } else {
            run
        };
        let (ended, landed) = run.post();
        assert_eq!(ended.code(), 0, "{ended:?}");
        let keys = keys_of(&landed);
        assert_each_once(&keys[..whole().count()], whole());
        assert_eq!(ended.summary()["posts"]["incomplete"], 15, "{order}");
        if order == "index" {
            let warning = "15 keys have no row in one of the tables and were not posted: 0, 10, 11, 12, 300, 590, 591, 592, 593, 594, …";
            assert!(ended.stderr.contains(warning), "{ended:?}");
        }
    }
}

#[test]
fn keys_have_any_value_that_an_integer_column_holds() {
    for (definition, keys) in [
        (
            "BIGINT PRIMARY KEY",
            vec!["-9223372036854775808", "-9223372036854775807"],
        ),
        ("BIGINT", vec!["9223372036854775806", "9223372036854775807"]),
        ("BIGINT PRIMARY KEY", vec!["-3", "-1", "0", "2"]),
        ("TINYINT", vec!["-128", "127"]),
        (
            "BIGINT UNSIGNED PRIMARY KEY",
            vec![
                "9223372036854775807",
                "9223372036854775808",
                "9223372036854775809",
            ],
        ),
        (
            "BIGINT UNSIGNED",
            vec!["18446744073709551614", "18446744073709551615"],
        ),
        ("INT(8) ZEROFILL PRIMARY KEY", vec!["7", "42", "99"]),
    ] {
        let database = with_keys(definition, &keys);
        let expected: Vec<i128> = keys.iter().map(|key| key.parse().unwrap()).collect();
        let run = Run::batch(&database.url()).with("--record-key", "index");
        assert_eq!(landed_keys(&run), expected, "{definition}");
        let mut shuffled = landed_keys(&run.with("--order", "random").with("-n", keys.len()));
        shuffled.sort_unstable();
        assert_eq!(shuffled, expected, "{definition}");
    }
}

#[test]
fn the_types_of_the_keys_may_differ_between_the_tables() {
    let database = Database::new();
    for (table, definition) in TABLES.into_iter().zip([
        "INT ZEROFILL PRIMARY KEY",
        "BIGINT",
        "SMALLINT UNSIGNED UNIQUE",
    ]) {
        make_table(&database, table, definition, &scrambled(1..=300));
    }
    let run = Run::batch(&database.url());
    assert_eq!(landed_keys(&run), (1..=300).collect::<Vec<_>>());
    assert_each_once(
        &landed_keys(&run.with("--order", "random").with("-n", 300)),
        1..=300,
    );
}

#[test]
fn keys_that_are_no_integers_are_wrong_data() {
    for definition in ["DOUBLE", "TEXT", "DECIMAL(10,0)", "VARCHAR(10)", "BIT(8)"] {
        let database = with_keys("BIGINT", &[1]);
        database.execute(&format!(
            "ALTER TABLE geolocation_data MODIFY ind {definition}"
        ));
        let data_type = definition.split('(').next().unwrap().to_lowercase();
        assert_fails(
            &Run::batch(&database.url()),
            65,
            &["geolocation_data", "ind", &data_type, "integers"],
        );
    }
}

#[test]
fn a_table_without_a_key_column_is_wrong_data() {
    let database = with_keys("BIGINT", &[1]);
    database.execute("ALTER TABLE user_data CHANGE ind id BIGINT");
    assert_fails(
        &Run::batch(&database.url()),
        65,
        &["user_data", "index, ind or idx"],
    );
}

#[test]
fn a_missing_table_is_named_with_the_option_to_name_another() {
    for ((table, _), kind) in TABLES.into_iter().zip(KINDS) {
        let database = with_keys("BIGINT", &[1]);
        database.execute(&format!("DROP TABLE {table}"));
        assert_fails(
            &Run::batch(&database.url()),
            78,
            &[table, &format!("--{kind}-table")],
        );
    }
}

#[test]
fn no_rows_are_no_success() {
    for order in ["index", "random"] {
        let database = with_keys("BIGINT", &[0; 0]);
        let run = Run::batch(&database.url()).with("--order", order);
        assert_fails(&run, 66, &["no rows"]);
        let (ended, landed) = run.post();
        assert_eq!(ended.code(), 66, "{ended:?}");
        assert_eq!(ended.summary()["posts"]["read"], 0);
        assert!(landed.iter().all(Vec::is_empty));

        database.execute("INSERT INTO pinterest_data VALUES (1, 0), (2, 0)");
        assert_fails(&run, 66, &["in all three tables"]);
        assert_fails(&run.with("--from", 3), 66, &["--from"]);
    }
}

#[test]
fn a_range_includes_its_ends() {
    for definition in ["BIGINT PRIMARY KEY", "BIGINT"] {
        let database = with_keys(definition, &scrambled(-300..=700));
        let run = Run::batch(&database.url());
        for (from, to, expected) in [
            (Some(-5), Some(500), -5..=500),
            (Some(650), None, 650..=700),
            (None, Some(-290), -300..=-290),
            (Some(3), Some(3), 3..=3),
            (Some(-1_000), Some(1_000), -300..=700),
        ] {
            let mut run = run.clone();
            for (option, value) in [("--from", from), ("--to", to)] {
                if let Some(value) = value {
                    run = run.with(option, value);
                }
            }
            assert_eq!(
                landed_keys(&run),
                expected.clone().map(i128::from).collect::<Vec<_>>()
            );
            let count = expected.clone().count();
            let random = run.with("--order", "random").with("-n", count);
            assert_each_once(&landed_keys(&random), expected);
        }
    }
}

#[test]
fn a_range_that_holds_no_key_is_no_success() {
    let database = with_keys("BIGINT UNSIGNED PRIMARY KEY", &[1, 9]);
    let run = Run::batch(&database.url());
    for (from, to) in [(2, 8), (-9, -1), (9, 1)] {
        for order in ["index", "random"] {
            let run = run
                .clone()
                .with("--order", order)
                .with("--from", from)
                .with("--to", to);
            assert_fails(&run, 66, &["--from"]);
        }
    }
}

#[test]
fn random_order_posts_each_post_once_in_a_pass_however_large_the_gaps() {
    let keys: Vec<i64> = (0..700)
        .map(|i| i * 31 - 900)
        .chain([60_000, 60_001])
        .collect();
    let database = with_keys("BIGINT PRIMARY KEY", &keys);
    let run = Run::batch(&database.url()).with("--order", "random");
    let posted = landed_keys(&run.clone().with("-n", 2 * keys.len()));
    let (first, second) = posted.split_at(keys.len());
    assert_each_once(first, keys.iter().copied());
    assert_each_once(second, keys.iter().copied());
    assert_ne!(first, second);
    assert!(!first.is_sorted());
}

#[test]
fn a_key_far_away_from_the_others_does_not_make_a_silent_run() {
    let database = with_keys("BIGINT PRIMARY KEY", &[1, 2, 3, 300_000]);
    let run = Run::batch(&database.url())
        .with("--order", "random")
        .with("--random-seed", 1);
    let (ended, landed) = run.clone().with("-n", 4).post();
    assert_each_once(&keys_of(&landed), [1, 2, 3, 300_000]);
    assert!(
        ended.stderr.contains("from 1 to 300000 have rows"),
        "{ended:?}"
    );
    let (ended, _) = run.with("--to", 3).with("-n", 10).post();
    assert_eq!(ended.said(), [""; 0]);
}

#[test]
fn the_same_random_seed_gives_the_same_order() {
    let database = with_keys("BIGINT PRIMARY KEY", &scrambled(1..=400));
    let run = Run::batch(&database.url())
        .with("--order", "random")
        .with("-n", 500);
    let order = |seed: u64| run.clone().with("--random-seed", seed).landed();
    let first = order(7);
    assert_eq!(order(7), first);
    assert_ne!(order(8), first);

    let (ended, drawn) = run.post();
    let seed = ended.summary()["random_seed"].as_u64().unwrap();
    assert_eq!(order(seed), drawn);
}

#[test]
fn keys_that_are_added_join_at_the_next_pass() {
    let database = with_keys("BIGINT PRIMARY KEY", &scrambled(1..=300));
    let run = Run::batch(&database.url())
        .with("--order", "random")
        .with("-n", 1);
    assert_eq!(landed_keys(&run).len(), 1);
    for (table, key) in TABLES {
        database.execute(&format!("INSERT INTO {table} (`{key}`) VALUES (1000)"));
    }
    assert!(landed_keys(&run.with("-n", 301)).contains(&1000));
}

#[test]
fn a_table_of_many_pages_lands_whole_and_in_order() {
    let posts = 12_000;
    let keys: Vec<_> = scrambled(1..=posts).iter().map(|key| key * 3).collect();
    let database = with_keys("BIGINT PRIMARY KEY", &keys);
    // The pins take several pages, the others one large one.
    database.execute("ALTER TABLE pinterest_data ADD text TEXT DEFAULT (REPEAT('x', 500))");
    let expected: Vec<_> = (1..=i128::from(posts)).map(|key| key * 3).collect();
    let run = Run::batch(&database.url());
    assert_eq!(landed_keys(&run), expected);
    for (table, key) in TABLES {
        database.execute(&format!(
            "ALTER TABLE {table} DROP PRIMARY KEY, MODIFY `{key}` BIGINT"
        ));
    }
    assert_eq!(landed_keys(&run), expected);
}

#[test]
fn sqlite_and_mysql_give_the_same_bytes() {
    let sandbox = Sandbox::new();
    let database = Database::new();
    let sqlite = format!("sqlite:{}", sandbox.path().join("seed.db").display());
    let [file, server] = [sqlite, database.url()].map(|url| {
        let seeded = sandbox.run([
            "seed",
            "--posts",
            "3000",
            "--random-seed",
            "42",
            "--database-url",
            &url,
        ]);
        assert_eq!(seeded.code(), 0, "{seeded:?}");
        Run::batch(&url)
    });
    let landed = file.landed();
    assert!(landed == server.landed());
    assert_eq!(keys_of(&landed).len(), 3_000);
    let whole_number = |line: &String| {
        let record: Value = serde_json::from_str(line).unwrap();
        record["latitude"].is_i64() || record["longitude"].is_i64()
    };
    assert!(landed[1].iter().any(whole_number));

    let order = |run: Run| {
        run.with("--order", "random")
            .with("--random-seed", 5)
            .with("-n", 3_500)
            .landed()
    };
    assert!(order(file) == order(server));
}

#[test]
fn a_slow_run_keeps_nobody_from_writing_to_the_file() {
    let (sandbox, mut receiver) = (Sandbox::new(), Receiver::start(&[]));
    sandbox.seeded(2_000);
    let url = receiver.url();
    #[rustfmt::skip]
    let run = sandbox.start([
        "batch", "--topic-prefix", "t", "--database-url", "sqlite:seed.db", "--invoke-url", &url, "--order", "index",
        "--rate", "20/s", "--linger", "0s",
    ]);
    until("first post", || receiver.has("t.user").then_some(()));
    // A page of pins is enough for several seconds.
    let written = tokio::runtime::Runtime::new().unwrap().block_on(async {
        let file = SqliteConnectOptions::new()
            .filename(sandbox.path().join("seed.db"))
            .busy_timeout(Duration::from_secs(2));
        let mut connection = file.connect().await.unwrap();
        sqlx::query("UPDATE pinterest_data SET title = 'new' WHERE \"index\" = 0")
            .execute(&mut connection)
            .await
    });
    assert_eq!(written.unwrap().rows_affected(), 1);
    run.signal("TERM");
    let ended = run.wait();
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert!(receiver.landed("t.pin").len() < 2_000);
}
