//! Values, from what a server stores to the bytes that land.

use crate::support::{Database, Run};

/// A column of the pins: its type, its value as SQL, and the JSON that is expected of it.
type Cell<'a> = (&'a str, &'a str, &'a str);

/// Tables with one post, whose pin has these columns beside the key: `c0`, `c1` and so on.
fn one_post(columns: &[Cell]) -> Database {
    let database = Database::new();
    database.execute(
        "CREATE TABLE pinterest_data (`index` BIGINT PRIMARY KEY);
         CREATE TABLE geolocation_data (ind BIGINT PRIMARY KEY);
         CREATE TABLE user_data (ind BIGINT PRIMARY KEY);
         INSERT INTO geolocation_data VALUES (1);
         INSERT INTO user_data VALUES (1);",
    );
    let definitions = columns.iter().map(|(definition, ..)| *definition);
    let statements: Vec<_> = definitions
        .enumerate()
        .map(|(i, definition)| format!("ALTER TABLE pinterest_data ADD c{i} {definition};"))
        .collect();
    let values: Vec<_> = columns.iter().map(|(_, value, _)| *value).collect();
    database.execute(&format!(
        "SET time_zone = '+05:30', sql_mode = 'ALLOW_INVALID_DATES'; {}
         INSERT INTO pinterest_data VALUES ({})",
        statements.concat(),
        [&["1"], values.as_slice()].concat().join(", ")
    ));
    database
}

/// The record that is expected of the pin.
fn expected(columns: &[Cell]) -> String {
    let values = columns.iter().enumerate();
    let values: Vec<_> = values
        .map(|(i, (.., json))| format!(",\"c{i}\":{json}"))
        .collect();
    format!("{{\"index\":1{}}}", values.concat())
}

/// Columns with their types and values land as this JSON, byte for byte.
#[track_caller]
fn assert_landed(columns: &[Cell]) {
    let [pin, ..] = Run::batch(&one_post(columns).url()).landed();
    assert_eq!(pin, [expected(columns)]);
}

#[test]
fn numbers_keep_the_digits_that_the_server_prints() {
    assert_landed(&[
        ("FLOAT", "-89.9787", "-89.9787"),
        ("FLOAT", "45", "45"),
        ("FLOAT", "1e20", "1e20"),
        ("FLOAT(10,4)", "-173.293", "-173.2930"),
        ("DOUBLE", "8.65953", "8.65953"),
        (
            "DOUBLE",
            "-1.7976931348623157e308",
            "-1.7976931348623157e308",
        ),
        ("DOUBLE", "0.1e0 + 0.2e0", "0.30000000000000004"),
        ("DECIMAL(20,10)", "0.0000000001", "0.0000000001"),
        (
            "DECIMAL(20,10)",
            "-1234567890.0123456789",
            "-1234567890.0123456789",
        ),
        ("DECIMAL(20,10)", "1.5", "1.5000000000"),
        (
            "DECIMAL(65,0)",
            "-98765432109876543210987654321098765432109876543210987654321098765",
            "-98765432109876543210987654321098765432109876543210987654321098765",
        ),
        (
            "BIGINT UNSIGNED",
            "18446744073709551615",
            "18446744073709551615",
        ),
        ("BIGINT", "-9223372036854775808", "-9223372036854775808"),
        ("TINYINT", "-128", "-128"),
        ("SMALLINT UNSIGNED", "65535", "65535"),
        ("MEDIUMINT", "-8388608", "-8388608"),
        ("INT", "2147483647", "2147483647"),
        ("YEAR", "2021", "2021"),
        ("YEAR", "0", "0"),
    ]);
}

#[test]
fn truth_values_are_the_numbers_that_they_are_stored_as() {
    assert_landed(&[
        ("TINYINT(1)", "1", "1"),
        ("BOOL", "TRUE", "1"),
        ("BOOLEAN", "FALSE", "0"),
        ("TINYINT(1)", "7", "7"),
    ]);
}

#[test]
fn padding_with_zeros_is_not_part_of_a_number() {
    assert_landed(&[
        ("INT(8) ZEROFILL", "42", "42"),
        ("INT ZEROFILL", "0", "0"),
        ("DECIMAL(8,3) ZEROFILL", "1.5", "1.500"),
        ("DECIMAL(8,3) ZEROFILL", "0.5", "0.500"),
        ("DOUBLE ZEROFILL", "2.25", "2.25"),
    ]);
}

#[test]
fn bits_are_an_unsigned_integer() {
    assert_landed(&[
        ("BIT(1)", "b'1'", "1"),
        ("BIT(1)", "b'0'", "0"),
        ("BIT(12)", "b'100000000010'", "2050"),
        ("BIT(64)", "18446744073709551615", "18446744073709551615"),
    ]);
}

#[test]
fn times_are_the_text_of_the_server() {
    assert_landed(&[
        (
            "DATETIME",
            "'2020-08-28 03:52:47'",
            "\"2020-08-28 03:52:47\"",
        ),
        (
            "DATETIME(3)",
            "'2020-08-28 03:52:47.5'",
            "\"2020-08-28 03:52:47.500\"",
        ),
        (
            "DATETIME(6)",
            "'2020-08-28 00:00:00'",
            "\"2020-08-28 00:00:00.000000\"",
        ),
        ("DATE", "'2017-12-15'", "\"2017-12-15\""),
        ("TIME", "'-838:59:59'", "\"-838:59:59\""),
        ("TIME(2)", "'12:34:56.78'", "\"12:34:56.78\""),
        (
            "DATETIME",
            "'0000-00-00 00:00:00'",
            "\"0000-00-00 00:00:00\"",
        ),
        ("DATE", "'0000-00-00'", "\"0000-00-00\""),
        ("DATE", "'2021-02-31'", "\"2021-02-31\""),
        (
            "TIMESTAMP",
            "'0000-00-00 00:00:00'",
            "\"0000-00-00 00:00:00\"",
        ),
    ]);
}

#[test]
fn a_timestamp_is_in_utc_unless_the_url_names_a_time_zone() {
    let database = one_post(&[
        ("TIMESTAMP", "'2020-08-28 05:30:00'", ""),
        ("TIMESTAMP(3)", "'2020-08-28 05:30:00.25'", ""),
        ("DATETIME", "'2020-08-28 05:30:00'", ""),
    ]);
    for (query, hour) in [
        ("", "00:00"),
        ("?time-zone=%2B02:00", "02:00"),
        ("?time-zone=+02:00", "02:00"),
        ("?charset=utf8mb4&timezone=%2B05:30", "05:30"),
    ] {
        let [pin, ..] = Run::batch(&format!("{}{query}", database.url())).landed();
        let expected = format!(
            "{{\"index\":1,\"c0\":\"2020-08-28 {hour}:00\",\"c1\":\"2020-08-28 {hour}:00.250\",\"c2\":\"2020-08-28 05:30:00\"}}"
        );
        assert_eq!(pin, [expected], "{query}");
    }
}

#[test]
fn a_time_zone_that_the_server_does_not_know_is_a_wrong_setting() {
    let database = one_post(&[]);
    let (code, said) = Run::batch(&format!("{}?time-zone=Mars/Base", database.url())).fail();
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("Mars/Base"), "{said}");
}

#[test]
fn null_is_null_in_a_column_of_any_type() {
    let types = [
        "TINYINT(1)",
        "INT",
        "BIGINT UNSIGNED",
        "INT ZEROFILL",
        "FLOAT",
        "DOUBLE",
        "DECIMAL(20,10)",
        "BIT(12)",
        "YEAR",
        "DATE",
        "TIME",
        "DATETIME(3)",
        "TIMESTAMP NULL",
        "CHAR(3)",
        "VARCHAR(3)",
        "TEXT",
        "LONGTEXT",
        "JSON",
        "ENUM('a')",
        "SET('a')",
        "BINARY(3)",
        "VARBINARY(3)",
        "BLOB",
        "VARCHAR(3) COLLATE utf8mb4_bin",
    ];
    assert_landed(&types.map(|definition| (definition, "NULL", "null")));
}

#[test]
fn an_empty_text_is_not_null() {
    assert_landed(&[
        ("VARCHAR(3)", "''", "\"\""),
        ("TEXT", "''", "\"\""),
        ("BLOB", "''", "\"\""),
    ]);
}

#[test]
fn bytes_are_base64() {
    assert_landed(&[
        ("VARBINARY(8)", "x'ff0061'", "\"/wBh\""),
        ("BLOB", "x'00'", "\"AA==\""),
        ("LONGBLOB", "'plain'", "\"cGxhaW4=\""),
        ("BINARY(4)", "x'61'", "\"YQAAAA==\""),
        ("VARCHAR(4) CHARACTER SET binary", "'ab'", "\"YWI=\""),
        ("ENUM('ab') CHARACTER SET binary", "'ab'", "\"YWI=\""),
    ]);
}

#[test]
fn text_is_told_from_bytes_by_its_collation_and_not_by_its_type() {
    assert_landed(&[
        (
            "VARCHAR(20) COLLATE utf8mb4_bin",
            "'Βάπτιση'",
            "\"Βάπτιση\"",
        ),
        ("LONGTEXT COLLATE utf8mb4_bin", "'long'", "\"long\""),
        ("CHAR(5) COLLATE utf8mb4_bin", "'a'", "\"a\""),
        ("JSON", r#"'{"a": [1, null]}'"#, r#""{\"a\": [1, null]}""#),
        ("ENUM('image','video')", "'video'", "\"video\""),
        ("SET('a','b','c')", "'a,c'", "\"a,c\""),
        ("TINYTEXT", "' blanks stay '", "\" blanks stay \""),
    ]);
}

#[test]
fn text_is_escaped_only_where_json_requires_it() {
    assert_landed(&[
        ("TEXT", "'😀👨‍👩‍👧 Традиционные 〚'", "\"😀👨‍👩‍👧 Традиционные 〚\""),
        ("TEXT", r#"'a "quoted" word'"#, r#""a \"quoted\" word""#),
        ("TEXT", r"'back\\slash / slash'", r#""back\\slash / slash""#),
        (
            "TEXT",
            r"'it''s\0\b\t\n\r\Z'",
            r#""it's\u0000\b\t\n\r\u001a""#,
        ),
        ("TEXT", "x'0c1f7f'", "\"\\f\\u001f\u{7f}\""),
        (
            "TEXT",
            "'\u{2028}\u{2029}… \u{a0}'",
            "\"\u{2028}\u{2029}… \u{a0}\"",
        ),
    ]);
}

#[test]
fn text_in_any_character_set_becomes_utf8() {
    assert_landed(&[
        (
            "VARCHAR(10) CHARACTER SET latin1",
            "'Café é €'",
            "\"Café é €\"",
        ),
        ("TEXT CHARACTER SET utf16", "'😀'", "\"😀\""),
        ("TEXT CHARACTER SET greek", "'Βάπτιση'", "\"Βάπτιση\""),
        ("ENUM('é') CHARACTER SET latin1", "'é'", "\"é\""),
    ]);
}

#[test]
fn generated_columns_are_sent_as_all_others() {
    assert_landed(&[
        ("FLOAT", "1.5", "1.5"),
        ("DOUBLE AS (c0 * 2) VIRTUAL", "DEFAULT", "3"),
        (
            "VARCHAR(20) AS (CONCAT('<', c0, '>')) STORED",
            "DEFAULT",
            "\"<1.5>\"",
        ),
    ]);
}

#[test]
fn a_column_may_have_any_name() {
    let database = one_post(&[]);
    database.execute(
        "ALTER TABLE pinterest_data ADD `a \"b\" ``c`` \\d; --é` INT, ADD `?` INT, ADD `it's` INT;
         UPDATE pinterest_data SET `?` = 2",
    );
    let [pin, ..] = Run::batch(&database.url()).landed();
    assert_eq!(
        pin,
        [r#"{"index":1,"a \"b\" `c` \\d; --é":null,"?":2,"it's":null}"#]
    );
}

#[test]
fn a_text_that_is_not_utf8_ends_the_run_with_its_key_and_column() {
    // The one way to such text that servers leave open: UCS-2 has surrogates without partners.
    let database = one_post(&[("VARCHAR(5) CHARACTER SET ucs2", "x'0061D800'", "")]);
    for order in ["index", "random"] {
        let (code, said) = Run::batch(&database.url()).with("--order", order).fail();
        assert_eq!(code, 65, "{said}");
        for word in ["pinterest_data", "not UTF-8", "column c0", "key 1"] {
            assert!(said.contains(word), "{word}: {said}");
        }
    }
}

#[test]
fn every_way_to_a_target_carries_the_same_bytes() {
    let columns = [
        (
            "TEXT",
            r#"'"\\ \0 \n 😀 \' é'"#,
            r#""\"\\ \u0000 \n 😀 ' é""#,
        ),
        (
            "DECIMAL(30,20)",
            "0.12345678901234567890",
            "0.12345678901234567890",
        ),
        (
            "BIGINT UNSIGNED",
            "18446744073709551615",
            "18446744073709551615",
        ),
        ("TEXT", "NULL", "null"),
    ];
    let database = one_post(&columns);
    let [pin, ..] = Run::batch(&database.url()).landed();
    assert_eq!(pin, [expected(&columns)]);
    for endpoint in ["record", "records"] {
        let [pin, ..] = Run::stream(&database.url())
            .with("--endpoint", endpoint)
            .landed();
        let data = format!("\"data\":{}", expected(&columns));
        assert!(
            pin.len() == 1 && pin[0].contains(&data),
            "{endpoint}: {pin:?}"
        );
    }
}
