//! Whatever is sent to the receiver is answered, and nothing panics.

use hyper::{HeaderMap, header};
use proptest::prelude::*;
use serde_json::value::RawValue;

use crate::{
    foreign::foreign,
    receiver::{
        kafka::{self, Dialect},
        kinesis,
    },
};

const PRODUCE: &[&str] = &[
    r#"{"records":[{"value":{"index":7,"a":"é\n"}},{"key":"7","value":null,"partition":2}]}"#,
    r#"{"records":[{"key":{"a":1},"value":[1],"timestamp":5,"headers":[{"key":"a","value":"b"}]}]}"#,
    r#"{"value_schema":"\"string\"","records":[{"value":"x"}]}"#,
];
const TYPES: &[&str] = &[
    "application/vnd.kafka.json.v2+json",
    "application/vnd.kafka.v2+json; q=0.5, */*",
    "application/json; charset=utf-8",
];
const PUT: &[&str] = &[
    r#"{"StreamName":"p-pin","Data":{"index":7,"title":"\"a\""},"PartitionKey":"7"}"#,
    r#"{"Data":"some data","PartitionKey":{"a":["\\t",1e5,true]}}"#,
    r#"{"records":[{"data":"{\"a\":\"\\\"\"}","partition-key":"k"},{"data":{"a":"\ud83d\ude00","b":[]},"partition-key":"é"}]}"#,
    r#"{"ShardCount":2}"#,
];

proptest! {
    #[test]
    fn any_produce_request_is_read(
        body in foreign(PRODUCE), content_type in foreign(TYPES), accept in foreign(TYPES), typed: bool,
        partitions in 1..9_u32, turn: u32,
    ) {
        let mut headers = HeaderMap::new();
        let asked = if typed { TYPES[0].as_bytes() } else { &content_type };
        for (name, value) in [(header::CONTENT_TYPE, asked), (header::ACCEPT, &accept)] {
            if let Ok(value) = value.try_into() {
                headers.insert(name, value);
            }
        }
        for dialect in [Dialect::Confluent, Dialect::Strimzi, Dialect::Karapace, Dialect::Redpanda] {
            match kafka::parse(dialect, &headers, &body) {
                Err(answer) => prop_assert!(!answer.status.is_success()),
                Ok(records) => for record in records {
                    let (partition, refusal) = record.place(partitions, turn);
                    prop_assert!(refusal.is_some() || (0..partitions.cast_signed()).contains(&partition));
                    // As raw text: a lone surrogate is JSON by its grammar, and is landed as it came.
                    prop_assert!(serde_json::from_str::<&RawValue>(record.value()).is_ok());
                },
            }
        }
    }

    #[test]
    fn any_put_request_is_read(body in foreign(PUT), stream in foreign(&["p-pin", "a.b_c"])) {
        let stream = &String::from_utf8_lossy(&stream);
        let refused = [
            kinesis::record(stream, &body).err(),
            kinesis::records(stream, &body).err(),
            kinesis::create(stream, &body).err(),
        ];
        for answer in refused.into_iter().flatten() {
            prop_assert!(answer.status.is_client_error());
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&answer.body).is_ok());
        }
    }
}
