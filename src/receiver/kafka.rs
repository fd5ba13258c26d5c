//! The produce API of a Kafka REST proxy, version 2, as four proxies take it: requests to records, records to partitions. Pure.

mod answers;
mod dialect;
mod headers;
mod refusal;

use hyper::HeaderMap;
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::{error::Category, value::RawValue};

pub(crate) use self::dialect::Dialect;
pub(super) use self::{
    answers::{Fate, no_topic, not_landed, produced, topic, topics},
    refusal::Refusal,
};
use self::{
    dialect::{Flaw, karapace_too_large},
    refusal::MAX_RECORD,
};
use super::{
    answer::Answer,
    json::{Object, split_value},
    partitioner,
};

/// What Kafka adds to key and value when it estimates the size of a record in a batch of its own.
const RECORD_OVERHEAD: usize = 61 + 21 + 1;
/// Karapace's `http_request_max_size`.
const KARAPACE_BODY: usize = 1_048_576;

/// A record as its sender writes it: `key` and `value` are JSON.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    key: Option<&'a str>,
    #[serde(borrow, default, deserialize_with = "present")]
    value: Option<&'a str>,
    partition: Option<i32>,
    // Strimzi's bridge takes these two.
    timestamp: Option<IgnoredAny>,
    headers: Option<IgnoredAny>,
}

/// A null that is there is not the same as nothing.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de str>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(|json| Some(json.get()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Produce<'a> {
    #[serde(borrow, default)]
    records: Option<Vec<Object<Record<'a>>>>,
    // Schemas say nothing about plain JSON, but they may be there.
    #[serde(borrow, rename = "key_schema")]
    _key_schema: Option<&'a RawValue>,
    #[serde(borrow, rename = "key_schema_id")]
    _key_schema_id: Option<&'a RawValue>,
    #[serde(borrow, rename = "value_schema")]
    _value_schema: Option<&'a RawValue>,
    #[serde(borrow, rename = "value_schema_id")]
    _value_schema_id: Option<&'a RawValue>,
}

/// Kafka's rule for names.
pub(super) fn is_legal(topic: &str) -> bool {
    (1..=249).contains(&topic.len())
        && topic != "."
        && topic != ".."
        && topic
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// The records of a produce request, or the answer that refuses all of it.
pub(super) fn parse<'a>(
    dialect: Dialect,
    headers: &HeaderMap,
    body: &'a [u8],
) -> Result<Vec<Record<'a>>, Answer> {
    if dialect == Dialect::Karapace && body.len() > KARAPACE_BODY {
        return Err(karapace_too_large());
    }
    headers::check(dialect, headers)?;
    if matches!(body.trim_ascii(), b"" | b"null") {
        return Err(dialect.malformed(&Flaw::Nothing));
    }
    let records = match plain(body) {
        Some(records) => records,
        None => read(body).map_err(|error| unreadable(dialect, &error))?,
    };
    if records.is_empty() {
        return Err(dialect.malformed(&Flaw::NoRecords));
    }
    match records
        .iter()
        .find_map(|record| record.check(dialect).err())
    {
        Some(flaw) => Err(dialect.malformed(&flaw)),
        None => Ok(records),
    }
}

/// The records of a request in the form that most senders give it, without a blank and with nothing but values and keys;
/// none if it is not quite that.
fn plain(body: &[u8]) -> Option<Vec<Record<'_>>> {
    // One look at all of it is cheaper than one at every string; a sum has no early end and so takes many bytes at a time.
    if body
        .iter()
        .fold(0, |any, &byte| any | u8::from(byte < 0x20))
        != 0
    {
        return None;
    }
    let body = simdutf8::basic::from_utf8(body).ok()?;
    let mut rest = body.strip_prefix(r#"{"records":["#)?;
    let mut records = Vec::new();
    loop {
        let mut record = Record::default();
        rest = rest.strip_prefix('{')?;
        if let Some(json) = rest.strip_prefix(r#""key":"#) {
            let (key, behind) = split_value(json)?;
            record.key = Some(key);
            rest = behind.strip_prefix(',')?;
        }
        let (value, behind) = split_value(rest.strip_prefix(r#""value":"#)?)?;
        record.value = Some(value);
        records.push(record);
        rest = behind.strip_prefix('}')?;
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => return (rest == "]}").then_some(records),
        }
    }
}

/// The records of any request.
fn read(body: &[u8]) -> Result<Vec<Record<'_>>, serde_json::Error> {
    let Object(request) = serde_json::from_slice::<Object<Produce<'_>>>(body)?;
    let records = request.records.unwrap_or_default().into_iter();
    Ok(records.map(|Object(record)| record).collect())
}

fn unreadable(dialect: Dialect, cause: &serde_json::Error) -> Answer {
    let text = cause.to_string();
    // serde has no other way to tell which field it did not know.
    let unknown = text
        .strip_prefix("unknown field `")
        .and_then(|rest| rest.split('`').next());
    dialect.malformed(&match (cause.classify(), unknown) {
        (Category::Data, Some(field)) => Flaw::UnknownField(field),
        (Category::Data, None) => Flaw::Shape(cause),
        _ => Flaw::Syntax(cause),
    })
}

impl Record<'_> {
    /// What this proxy has against it.
    fn check(&self, dialect: Dialect) -> Result<(), Flaw<'static>> {
        if dialect != Dialect::Strimzi {
            return match (&self.timestamp, &self.headers) {
                (Some(_), _) => Err(Flaw::UnknownField("timestamp")),
                (_, Some(_)) => Err(Flaw::UnknownField("headers")),
                _ => Ok(()),
            };
        }
        let first = |json: &str| json.as_bytes()[0];
        if self
            .key
            .is_some_and(|key| !matches!(first(key), b'"' | b'{' | b'['))
        {
            return Err(Flaw::Type(
                "Instance type is invalid. Expected array, object, string (key)",
            ));
        }
        match self.value {
            None => Err(Flaw::Type(
                "Instance does not have required property \"value\"",
            )),
            Some(value) if !matches!(first(value), b'"' | b'{' | b'[' | b'n') => Err(Flaw::Type(
                "Instance type is invalid. Expected array, object, string, null (value)",
            )),
            Some(_) => Ok(()),
        }
    }

    /// What lands.
    pub(super) fn value(&self) -> &str {
        self.value.unwrap_or("null")
    }

    /// The partition this record goes to, and why it does not get there if it does not. One without partition and key goes
    /// where `turn` points.
    pub(super) fn place(&self, partitions: u32, turn: u32) -> (i32, Option<Refusal>) {
        let key = self.key.filter(|key| *key != "null");
        let chosen = match (self.partition, key) {
            (Some(asked), _) => {
                if !u32::try_from(asked).is_ok_and(|asked| asked < partitions) {
                    return (asked, Some(Refusal::PartitionMissing { partitions }));
                }
                asked
            }
            (None, Some(key)) => partitioner::of_key(key, partitions).cast_signed(),
            (None, None) => (turn % partitions).cast_signed(),
        };
        let size = self.size(key);
        (
            chosen,
            (size > MAX_RECORD).then_some(Refusal::TooLarge { size }),
        )
    }

    fn size(&self, key: Option<&str>) -> usize {
        let part = |json: Option<&str>| {
            let length = json.map_or(0, str::len);
            // The length is written before the part, as a number of seven bits a byte, its sign in the lowest.
            length
                + if length == 0 {
                    1
                } else {
                    (length.ilog2() as usize + 2).div_ceil(7)
                }
        };
        let value = self.value.filter(|value| *value != "null");
        RECORD_OVERHEAD + part(key) + part(value)
    }
}

#[cfg(test)]
mod tests {
    use hyper::header;

    use super::*;

    fn refusal(dialect: Dialect, body: &str) -> (u16, String) {
        let content_type = (header::CONTENT_TYPE, headers::REQUEST_TYPE.parse().unwrap());
        let headers = HeaderMap::from_iter([content_type]);
        match parse(dialect, &headers, body.as_bytes()) {
            Ok(records) => (200, format!("{} records", records.len())),
            Err(answer) => (
                answer.status.as_u16(),
                String::from_utf8(answer.body).unwrap(),
            ),
        }
    }

    #[test]
    fn a_body_that_is_no_produce_request_is_refused() {
        let refusal = |body| refusal(Dialect::Confluent, body);
        let unprocessable = |message| {
            (
                422,
                format!(r#"{{"error_code":422,"message":"{message}"}}"#),
            )
        };
        assert_eq!(
            refusal(r#"{"records":[{"value":1,"ind":2}]}"#),
            unprocessable("Unrecognized field: ind")
        );
        assert_eq!(
            refusal(r#"{"record":[]}"#),
            unprocessable("Unrecognized field: record")
        );
        assert_eq!(
            refusal(r#"{"records":[]}"#),
            unprocessable("records must not be empty")
        );
        assert_eq!(refusal("{}"), unprocessable("records must not be empty"));
        assert_eq!(refusal("null").0, 422);
        for body in [
            r#"{"records":[{"value":1"#,
            "[[]]",
            r#"{"records":[[1,2,3]]}"#,
            r#"{"records":[{"value":1}]} x"#,
        ] {
            let (status, text) = refusal(body);
            assert!(
                status == 400 && text.starts_with(r#"{"error_code":400,"#),
                "{body}: {status} {text}"
            );
        }
    }

    #[test]
    fn every_proxy_refuses_records_by_rules_of_its_own() {
        use Dialect::{Confluent, Karapace, Redpanda, Strimzi};
        let large = format!(r#"{{"value":"{}"}}"#, "x".repeat(KARAPACE_BODY));
        for (record, statuses) in [
            (r#"{"value":{}}"#, [200, 200, 200, 200]),
            (r#"{"value":null}"#, [200, 200, 200, 200]),
            (r#"{"value":1}"#, [200, 400, 200, 200]),
            (r#"{"key":"a"}"#, [200, 400, 200, 200]),
            (r#"{"key":null,"value":{}}"#, [200, 400, 200, 200]),
            (r#"{"key":1,"value":{}}"#, [200, 400, 200, 200]),
            (r#"{"value":{},"timestamp":1}"#, [422, 200, 422, 422]),
            (r#"{"value":{},"ind":1}"#, [422, 400, 422, 422]),
            ("[1]", [400, 400, 400, 422]),
            ("{", [400, 400, 400, 422]),
            (&large, [200, 200, 413, 200]),
        ] {
            let body = format!(r#"{{"records":[{record}]}}"#);
            let dialects = [Confluent, Strimzi, Karapace, Redpanda];
            let got = dialects.map(|dialect| refusal(dialect, &body).0);
            assert_eq!(got, statuses, "{record:.60}");
        }
    }

    #[test]
    fn plain_requests_are_read_as_all_others() {
        let one = [
            r#"{"value":{"index":7,"title":"a \"b\" é 😀","none":null,"list":[1,-2.5e3]}}"#,
            r#"{"key":"7","value":{}}"#,
            r#"{"key":null,"value":null}"#,
        ];
        for records in [&one[..1], &one[1..], &one] {
            let body = format!(r#"{{"records":[{}]}}"#, records.join(","));
            let plain = plain(body.as_bytes()).unwrap();
            assert_eq!(plain, read(body.as_bytes()).unwrap());
            assert_eq!(plain.len(), records.len());
        }
        for other in [
            r#"{"records":[]}"#,
            r#"{"records":[{"value":1}]} "#,
            r#"{"records":[{"value":1},]}"#,
            r#"{"records":[{"value":1}"#,
            r#"{"records":[{"value":"a}]}"#,
            r#"{"records":[{"value":1,"partition":0}]}"#,
            r#"{"records":[{ "value":1}]}"#,
            "{\"records\":[{\"value\":\"a\u{1}\"}]}",
        ] {
            assert_eq!(super::plain(other.as_bytes()), None, "{other}");
        }
    }

    fn record(json: &str) -> Record<'_> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_record_goes_where_it_asks_to_else_by_its_key_else_in_turn() {
        let place = |json, turn| record(json).place(3, turn);
        assert_eq!(
            place(r#"{"value":1,"partition":2,"key":"a"}"#, 0),
            (2, None)
        );
        assert_eq!(
            place(r#"{"key":"a"}"#, 0),
            place(r#"{"key":"a","value":2}"#, 1)
        );
        assert_eq!(place(r#"{"value":1,"key":null}"#, 4), (1, None));
        let missing = Refusal::PartitionMissing { partitions: 3 };
        assert_eq!(place(r#"{"partition":3}"#, 0), (3, Some(missing)));
        assert_eq!(place(r#"{"partition":-1}"#, 0), (-1, Some(missing)));
        assert_eq!(
            (missing.confluent_code(), missing.java_message("t", 3)),
            (
                50003,
                "Partition 3 of topic t with partition count 3 is not present in metadata after 60000 ms.".to_owned()
            )
        );
    }

    #[test]
    fn a_record_may_be_as_large_as_a_producer_sends_it() {
        let place = |length: usize| {
            let json = format!(r#"{{"value":"{}"}}"#, "x".repeat(length - 2));
            record(&json).place(1, 0).1
        };
        let largest = MAX_RECORD - RECORD_OVERHEAD - 1 - 3;
        assert_eq!(place(largest), None);
        let refusal = Refusal::TooLarge { size: 1_048_577 };
        assert_eq!(place(largest + 1), Some(refusal));
        let message = "The message is 1048577 bytes when serialized which is larger than 1048576, \
                       which is the value of the max.request.size configuration.";
        assert_eq!(
            (refusal.confluent_code(), refusal.java_message("t", 0)),
            (50002, message.to_owned())
        );
    }

    #[test]
    fn names_that_are_no_topics_are_told() {
        assert!(is_legal("0a54b96ac143.pin"));
        for name in ["", ".", "..", "a/b", "a b", "%2e%2e", &"x".repeat(250)] {
            assert!(!is_legal(name), "{name}");
        }
    }
}
