//! Whatever others write is read without a panic: made-up bytes, and real ones that were cut, flipped and patched together.

use std::{fs, time::SystemTime};

use bytes::Bytes;
use proptest::prelude::*;
use secrecy::SecretString;
use serde::de::IgnoredAny;

use crate::{
    config,
    delivery::target::Api,
    http::{Header, InvokeUrl, retry_after},
    pace::Rate,
    receiver::{Fault, Plan},
    shard::Shard,
    sink::{Answer, Verdict, kinesis_gateway::PartitionKey},
    source::Database,
    state::{checkpoint::Checkpoint, undelivered::Undelivered},
    units::{Count, Patience, Size, StreamPrefix, TopicPrefix, duration, duration_or_zero},
};

/// What a parser is known to be given, and the parser.
type Case = (&'static [&'static str], fn(&[u8]));

const KAFKA: Case = (
    &[
        r#"{"key_schema_id":null,"value_schema_id":null,"offsets":[{"partition":2,"offset":100,"error_code":null,"error":null},{"partition":null,"offset":null,"error_code":50003,"error":"later"}]}"#,
        r#"{"offsets":[{"partition":0,"offset":7},{"error_code":500,"message":"broker"}]}"#,
        r#"{"offsets":[{"offset":5,"partition":0},{"error_code":1,"error":"timed out"}]}"#,
        r#"{"offsets":[{"partition":0,"error_code":10,"offset":-1},{"partition":1,"offset":9223372036854775807}]}"#,
        r#"{"error_code":40401,"message":"Topic not found."}"#,
        r#"{"message":"Missing Authentication Token"}"#,
        "<html><body>Service Unavailable</body></html>",
    ],
    |bytes| answers(Api::Kafka, bytes),
);
const RECORD: Case = (
    &[
        r#"{"SequenceNumber":"49","ShardId":"shardId-000000000004","EncryptionType":"KMS"}"#,
        r#"{"__type":"com.amazonaws.kinesis#ResourceNotFoundException","Message":"Stream s not found."}"#,
        r#"{"message":"Forbidden"}"#,
    ],
    |bytes| answers(Api::Record, bytes),
);
const RECORDS: Case = (
    &[
        r#"{"FailedRecordCount":1,"Records":[{"SequenceNumber":"1","ShardId":"s"},{"ErrorCode":"ProvisionedThroughputExceededException","ErrorMessage":"Rate \"exceeded\" é"}]}"#,
        r#"{"FailedRecordCount":0,"Records":[{"SequenceNumber":"1","ShardId":"s","ErrorCode":null,"ErrorMessage":null}]}"#,
        r#"{"__type":"ExpiredTokenException"}"#,
    ],
    |bytes| answers(Api::Records, bytes),
);
const UNDELIVERED: Case = (
    &[
        r#"{"kind":"pin","index":-7,"target":"http://127.0.0.1:8082","path":"/topics/p.pin","key":null,"outcome":"rejected","status":413,"reason":"é","attempts":3,"at":"2026-01-01T00:00:00.000Z","record":{"index":-7,"a":[1.50,"\u00e9"]}}"#,
    ],
    |bytes| drop(serde_json::from_slice::<Undelivered>(bytes)),
);
const CHECKPOINT: Case = (
    &[
        r#"{"version":1,"command":"batch","prefix":"p","invoke_url":"http://h","database":"d","order":"random","from":-9223372036854775808,"to":null,"random_seed":18446744073709551615,"shard":null,"posts":9,"position":{"random":{"pass":0,"low":0,"high":18446744073709551615,"next":36893488147419103239}}}"#,
        r#"{"version":1,"command":"batch","prefix":"p","invoke_url":"http://h","database":"d","order":"index","from":null,"to":5,"random_seed":1,"shard":"1/4","posts":9,"position":{"index":{"after":-5}}}"#,
    ],
    |bytes| drop(serde_json::from_slice::<Checkpoint>(bytes)),
);
const DATABASE: Case = (
    &[
        "mysql://user:p%40ss@host:3306/pinterest_data?ssl-mode=REQUIRED&time_zone=%2B02:00",
        "mysql+pymysql://root:secret@[::1]/d?charset=utf8mb4",
        "mariadb://h/d?socket=/run/mysqld.sock",
        "sqlite:///tmp/x.db",
        "sqlite:x",
    ],
    |bytes| {
        let text = String::from_utf8_lossy(bytes);
        for password in [None, Some(SecretString::from("p"))] {
            let url = SecretString::from(text.as_ref());
            match Database::parse(&url, password.as_ref()) {
                Ok(database) => assert!(!database.name().is_empty()),
                Err(failure) => assert!(!failure.to_string().contains('\n')),
            }
        }
    },
);
const INVOKE_URL: Case = (
    &[
        "http://127.0.0.1:8082/",
        "https://us%20er:p%40s+s@a.execute-api.us-east-1.amazonaws.com/Prod//",
        "http://[::1]:80/streams/a-pin/record",
    ],
    |bytes| {
        let Ok(url) = String::from_utf8_lossy(bytes).parse::<InvokeUrl>() else {
            return;
        };
        // What is shown and written down names the same place, and holds no userinfo.
        let shown = url.to_string();
        let again: InvokeUrl = shown.parse().unwrap();
        assert_eq!(again.to_string(), shown);
        assert!(again.basic().is_none(), "{shown}");
        drop(url.basic());
    },
);
const OPTIONS: Case = (
    &[
        "503=5%",
        "record-error=0.1%",
        "latency=20ms",
        "limit=200/s",
        "hang=100%",
        "1M",
        "10k",
        "512KiB",
        "5 MB",
        "1h 30m",
        "500ms",
        "forever",
        "100years",
        "30/m",
        "3/4",
        "1e3",
        "max",
        "text:partition-1",
        "index",
        "streaming-0abf7f0cd605",
        "X-Api-Key: s3cret",
    ],
    |bytes| {
        let text = &String::from_utf8_lossy(bytes);
        if let Ok(fault) = text.parse::<Fault>() {
            assert!(Plan::new(&[fault], 1).is_ok());
            assert!(Plan::new(&[fault, fault], 1).is_err());
        }
        assert!(
            text.parse::<Count>().is_ok_and(|count| count.0 > 0) || text.parse::<Count>().is_err()
        );
        assert!(text.parse::<Size>().is_ok_and(|size| size.0 > 0) || text.parse::<Size>().is_err());
        // The clock can stand any of them.
        for parsed in [duration(text), duration_or_zero(text)]
            .into_iter()
            .flatten()
        {
            let _ = std::time::Instant::now() + parsed;
        }
        if let Ok(Patience(patience)) = text.parse() {
            let _ = std::time::Instant::now() + patience;
        }
        if let Ok(Rate::PerSecond(rate)) = text.parse() {
            assert!(rate.is_normal() && rate > 0.0);
        }
        if let Ok(shard) = text.parse::<Shard>() {
            assert!((1..=shard.of()).contains(&shard.number()));
            assert_eq!(shard.to_string().parse(), Ok(shard));
        }
        if let Ok(key) = text.parse::<PartitionKey>() {
            assert_eq!(key.to_string().parse(), Ok(key));
        }
        if let Ok(prefix) = text.parse::<TopicPrefix>() {
            assert_eq!(prefix.to_string(), **text);
        }
        drop(text.parse::<StreamPrefix>());
        if let Ok(header) = text.parse::<Header>() {
            assert!(!header.name().is_empty());
        }
    },
);
const RETRY_AFTER: Case = (
    &[
        "120",
        "Fri, 21 Nov 2025 10:00:00 GMT",
        "Friday, 21-Nov-25 10:00:00 GMT",
        "Fri Nov 21 10:00:00 2025",
    ],
    |bytes| {
        let text = String::from_utf8_lossy(bytes);
        for now in [SystemTime::UNIX_EPOCH, SystemTime::now()] {
            let _ = retry_after(&text, now);
        }
    },
);
const CONFIG: Case = (
    &[
        "topic-prefix = \"p\"\nrate = \"50/s\"\nbatch-size = 200\nheader = [\"A: b\"]\n",
        "# é\ninvoke-url = 'http://h'\nretry-for = '5m'\nresume = true\n",
    ],
    |bytes| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pinemu.toml");
        fs::write(&path, bytes).unwrap();
        let line = ["pinemu", "batch", "--config"].map(Into::into);
        let line = [&line[..], &[path.into_os_string()]].concat();
        drop(config::parse(&line));
    },
);

/// Each record gets a verdict, and nothing is proven by what is not whole.
fn answers(api: Api, bytes: &[u8]) {
    let sink = api.sink();
    for status in [200, 302, 400, 403, 404, 413, 422, 429, 500, 503, 600] {
        let answer = Answer {
            status,
            error_type: Some(String::from_utf8_lossy(bytes).into_owned()),
            body: Bytes::copy_from_slice(bytes),
            ..Answer::default()
        };
        for sent in 1..4 {
            let verdicts = sink.verdicts(sent, &answer);
            assert_eq!(verdicts.len(), sent);
            assert!(
                !verdicts.contains(&Verdict::Acknowledged)
                    || serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
            );
        }
        let _ = sink.is_missing(&answer);
    }
}

#[derive(Debug, Clone)]
enum Edit {
    Truncate,
    Flip(u8),
    Insert(Vec<u8>),
    Cut(usize),
    /// The rest of another one.
    Splice(prop::sample::Index),
    Repeat(usize),
}

fn edits() -> impl Strategy<Value = Edit> {
    // What parsers make something of comes more often than the rest.
    let telling = br#"{}[]",:\/?#@%=&.-+ eE09nulltrue"#.to_vec();
    let byte = prop_oneof![any::<u8>(), prop::sample::select(telling)];
    prop_oneof![
        Just(Edit::Truncate),
        (1..=255_u8).prop_map(Edit::Flip),
        prop::collection::vec(byte, 1..20).prop_map(Edit::Insert),
        any::<String>().prop_map(|text| Edit::Insert(text.into_bytes())),
        prop::sample::select(vec![
            "null",
            "-1",
            "1e400",
            "99999999999999999999999",
            "\"\\ud800\"",
            "{}",
            "[[",
            "İ"
        ])
        .prop_map(|text| Edit::Insert(text.into())),
        (1..20_usize).prop_map(Edit::Cut),
        any::<prop::sample::Index>().prop_map(Edit::Splice),
        (1..40_usize).prop_map(Edit::Repeat),
    ]
}

/// Real bytes of `samples` after a few accidents, or bytes that nobody wrote.
pub(crate) fn foreign(samples: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let place = any::<prop::sample::Index>();
    let real = (
        0..samples.len(),
        prop::collection::vec((place, edits()), 0..5),
    );
    let damaged = real.prop_map(move |(sample, edits)| {
        let mut bytes = samples[sample].as_bytes().to_vec();
        for (place, edit) in edits {
            let place = place.index(bytes.len() + 1);
            let end = |len: usize| (place + len).min(bytes.len());
            match edit {
                Edit::Truncate => bytes.truncate(place),
                Edit::Flip(bits) => bytes
                    .iter_mut()
                    .skip(place)
                    .take(1)
                    .for_each(|byte| *byte ^= bits),
                Edit::Insert(new) => drop(bytes.splice(place..place, new)),
                Edit::Cut(len) => drop(bytes.drain(place..end(len))),
                Edit::Splice(other) => {
                    let other = samples[other.index(samples.len())].as_bytes();
                    bytes.truncate(place);
                    bytes.extend(&other[place.min(other.len())..]);
                }
                Edit::Repeat(len) => {
                    let again = bytes[place..end(len)].to_vec();
                    drop(bytes.splice(place..place, again));
                }
            }
        }
        bytes
    });
    prop_oneof![
        6 => damaged,
        1 => prop::collection::vec(any::<u8>(), 0..200),
        1 => any::<String>().prop_map(String::into_bytes),
    ]
}

macro_rules! foreign_bytes_do_not_panic {
    ($($name:ident: $case:ident,)*) => {
        proptest! {
            $(#[test]
            fn $name(bytes in foreign($case.0)) {
                $case.1(&bytes);
            })*
        }
    };
}

foreign_bytes_do_not_panic! {
    any_answer_of_a_kafka_proxy_is_read: KAFKA,
    any_answer_for_one_kinesis_record_is_read: RECORD,
    any_answer_for_many_kinesis_records_is_read: RECORDS,
    any_line_of_undelivered_records_is_read: UNDELIVERED,
    any_checkpoint_is_read: CHECKPOINT,
    any_database_url_is_read: DATABASE,
    any_invoke_url_is_read: INVOKE_URL,
    any_value_of_an_option_is_read: OPTIONS,
    any_retry_after_is_read: RETRY_AFTER,
    any_configuration_file_is_read: CONFIG,
}
