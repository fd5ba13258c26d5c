//! Kinesis behind the mapping templates of AWS's "Kinesis proxy" tutorial: requests to records, and what is refused. Pure.

mod answers;

use std::borrow::Cow;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{error::Category, value::RawValue};

use self::answers::error;
pub(super) use self::answers::{
    Receipt, Refusal, SEQUENCE_DIGITS, SEQUENCE_PREFIX, done, land, not_landed, put_record,
    put_records, shard_id, stream, stream_exists, stream_not_found, streams,
};
use super::{
    answer::Answer,
    gateway,
    json::{Object, java_text},
};

const MAX_RECORDS: usize = 500;
const MAX_RECORD: usize = 1024 * 1024;
const MAX_TOTAL: usize = 5 * 1024 * 1024;
const MAX_SHARDS: u32 = 1000;
/// Kinesis names this many violations and no more.
const MAX_VIOLATIONS: usize = 10;
const ACCOUNT: &str = "000000000000";

/// A record as Kinesis would store it: `data` is what consumers read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) key: Cow<'a, str>,
    pub(super) data: Cow<'a, str>,
}

#[derive(Deserialize)]
struct PutRecord<'a> {
    #[serde(borrow, rename = "Data")]
    data: Option<&'a RawValue>,
    #[serde(borrow, rename = "PartitionKey")]
    key: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct PutRecords<'a> {
    #[serde(borrow, default)]
    records: Option<Vec<Object<Entry<'a>>>>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow, rename = "partition-key")]
    key: Option<&'a RawValue>,
}

/// Names that Kinesis takes and that are safe as the name of a directory.
pub(super) fn is_legal(stream: &str) -> bool {
    stream_violations(stream).is_empty() && stream != "." && stream != ".."
}

/// `PUT /streams/{stream}/record`. The template pastes `Data` as JSON text, so a string is stored with its quotes.
pub(super) fn record<'a>(stream: &str, body: &'a [u8]) -> Result<Record<'a>, Answer> {
    let Object(request) =
        serde_json::from_slice::<Object<PutRecord<'a>>>(body).map_err(|e| unreadable(&e))?;
    let record = Record {
        key: partition_key(request.key)?,
        data: Cow::Borrowed(request.data.map_or("\"\"", RawValue::get)),
    };
    let mut violations = stream_violations(stream);
    violations.extend(record.violation(None));
    refuse(&violations)?;
    Ok(record)
}

/// `PUT /streams/{stream}/records`. The template pastes `data` as the gateway's language prints it: a string as it is, an object not as JSON.
pub(super) fn records<'a>(stream: &str, body: &'a [u8]) -> Result<Vec<Record<'a>>, Answer> {
    let Object(request) =
        serde_json::from_slice::<Object<PutRecords<'a>>>(body).map_err(|e| unreadable(&e))?;
    let entries = request.records.unwrap_or_default();
    let mut records = Vec::with_capacity(entries.len());
    for Object(entry) in entries {
        // A reference to nothing is pasted as its own text, which is not base64.
        let data = java_text(
            entry
                .data
                .ok_or_else(|| error("SerializationException", None))?,
        );
        records.push(Record {
            key: partition_key(entry.key)?,
            data,
        });
    }
    refuse(&all_violations(stream, &records))?;
    if records.iter().map(Record::size).sum::<usize>() > MAX_TOTAL {
        return Err(error(
            "InvalidArgumentException",
            Some("Records size exceeds 5 MB limit"),
        ));
    }
    Ok(records)
}

fn unreadable(cause: &serde_json::Error) -> Answer {
    match cause.classify() {
        // JSON, but not of the shape that the template expects: what it makes of it is no request.
        Category::Data => error("SerializationException", None),
        _ => gateway::malformed(cause),
    }
}

/// The template pastes the key between quotes without escaping it: what is no string then is no request.
fn partition_key(json: Option<&RawValue>) -> Result<Cow<'_, str>, Answer> {
    let key = json.map_or(Cow::Borrowed(""), java_text);
    if key.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') {
        return Ok(key);
    }
    let pasted = serde_json::from_str::<String>(&format!("\"{key}\""));
    pasted
        .map(Cow::Owned)
        .map_err(|_| error("SerializationException", None))
}

impl Record<'_> {
    fn size(&self) -> usize {
        self.data.len() + self.key.len()
    }

    /// What Kinesis has against it. `of`: where it stands in a batch, from 1.
    fn violation(&self, of: Option<usize>) -> Option<String> {
        let at = |member| match (of, member) {
            (Some(n), member) => format!("records.{n}.member.{member}"),
            (None, member) => String::from(member),
        };
        let size = self.size();
        if self.key.is_empty() {
            Some(too_short("", &at("partitionKey")))
        } else if self.key.chars().nth(256).is_some() {
            Some(too_long(&self.key, &at("partitionKey"), 256))
        } else if size > MAX_RECORD {
            let value = format!("java.nio.HeapByteBuffer[pos=0 lim={size} cap={size}]");
            Some(too_long(&value, &at("data"), MAX_RECORD))
        } else {
            None
        }
    }
}

fn all_violations(stream: &str, records: &[Record<'_>]) -> Vec<String> {
    let mut violations = Vec::new();
    if records.is_empty() {
        violations.push(too_short("[]", "records"));
    }
    if records.len() > MAX_RECORDS {
        let entry = "com.amazonaws.kinesis.v20131202.PutRecordsRequestEntry@c965e310";
        violations.push(too_long(
            &format!("[{}]", vec![entry; records.len()].join(", ")),
            "records",
            MAX_RECORDS,
        ));
    }
    violations.extend(
        records
            .iter()
            .zip(1..)
            .filter_map(|(record, n)| record.violation(Some(n))),
    );
    violations.extend(stream_violations(stream));
    violations
}

fn stream_violations(stream: &str) -> Vec<String> {
    let mut violations = Vec::new();
    if !stream
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
    {
        let constraint = "Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+";
        violations.push(violation(stream, "streamName", constraint));
    }
    if stream.len() > 128 {
        violations.push(too_long(stream, "streamName", 128));
    }
    violations
}

fn too_short(value: &str, at: &str) -> String {
    violation(
        value,
        at,
        "Member must have length greater than or equal to 1",
    )
}

fn too_long(value: &str, at: &str, limit: usize) -> String {
    violation(
        value,
        at,
        &format!("Member must have length less than or equal to {limit}"),
    )
}

fn violation(value: &str, at: &str, constraint: &str) -> String {
    format!("Value '{value}' at '{at}' failed to satisfy constraint: {constraint}")
}

fn refuse(violations: &[String]) -> Result<(), Answer> {
    let named = &violations[..violations.len().min(MAX_VIOLATIONS)];
    let count = named.len();
    if count == 0 {
        return Ok(());
    }
    let s = if count == 1 { "" } else { "s" };
    let message = format!("{count} validation error{s} detected: {}", named.join("; "));
    Err(error("ValidationException", Some(&message)))
}

/// `POST /streams/{stream}`: how many shards to make.
pub(super) fn create(stream: &str, body: &[u8]) -> Result<u32, Answer> {
    #[derive(Deserialize)]
    struct CreateStream {
        #[serde(rename = "ShardCount")]
        shards: Option<i64>,
    }
    // The tutorial's template.
    const DEFAULT: i64 = 5;

    let asked = if body.trim_ascii().is_empty() {
        None
    } else {
        object::<CreateStream>(body)?.shards
    };
    let asked = asked.unwrap_or(DEFAULT);
    let mut violations = Vec::new();
    if asked < 1 {
        let constraint = "Member must have value greater than or equal to 1";
        violations.push(violation(&asked.to_string(), "shardCount", constraint));
    }
    violations.extend(stream_violations(stream));
    refuse(&violations)?;
    match u32::try_from(asked) {
        Ok(shards) if shards <= MAX_SHARDS => Ok(shards),
        _ => {
            let message = format!(
                "This request would exceed the shard limit for the account {ACCOUNT} in us-east-1. Limit: {MAX_SHARDS}."
            );
            Err(error("LimitExceededException", Some(&message)))
        }
    }
}

fn object<T: DeserializeOwned>(body: &[u8]) -> Result<T, Answer> {
    serde_json::from_slice::<Object<T>>(body)
        .map(|Object(it)| it)
        .map_err(|e| unreadable(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(answer: Answer) -> String {
        assert_eq!(answer.status.as_u16(), 400);
        String::from_utf8(answer.body).unwrap()
    }

    fn invalid(message: &str) -> String {
        format!(r#"{{"__type":"ValidationException","message":"{message}"}}"#)
    }

    #[test]
    fn data_is_stored_as_the_templates_would() {
        let single = |json: &str| record("s", json.as_bytes()).unwrap().data.into_owned();
        assert_eq!(
            single(r#"{"Data":{"index": 1},"PartitionKey":"a","StreamName":"other"}"#),
            r#"{"index": 1}"#
        );
        assert_eq!(
            single(r#"{"Data":"some data","PartitionKey":"a"}"#),
            r#""some data""#
        );
        let batch = |json: &str| {
            records("s", json.as_bytes()).unwrap()[0]
                .data
                .clone()
                .into_owned()
        };
        assert_eq!(
            batch(r#"{"records":[{"data":"{\"a\":1}","partition-key":"k"}]}"#),
            r#"{"a":1}"#
        );
        assert_eq!(
            batch(r#"{"records":[{"data":{"a":1,"b":"x"},"partition-key":"k"}]}"#),
            "{a=1, b=x}"
        );
    }

    #[test]
    fn a_partition_key_is_required() {
        let expected = invalid(
            "1 validation error detected: Value '' at 'partitionKey' failed to satisfy constraint: \
             Member must have length greater than or equal to 1",
        );
        for json in [r#"{"Data":{}}"#, r#"{"Data":{},"PartitionKey":""}"#] {
            assert_eq!(body(record("s", json.as_bytes()).unwrap_err()), expected);
        }
        let long = "ä".repeat(257);
        let json = format!(
            r#"{{"records":[{{"data":"","partition-key":"a"}},{{"data":"","partition-key":"{long}"}}]}}"#
        );
        assert_eq!(
            body(records("s", json.as_bytes()).unwrap_err()),
            invalid(&format!(
                "1 validation error detected: Value '{long}' at 'records.2.member.partitionKey' failed to satisfy \
                 constraint: Member must have length less than or equal to 256"
            ))
        );
    }

    #[test]
    fn a_partition_key_is_pasted_without_escapes() {
        let key = |key: &str| {
            record(
                "s",
                format!(r#"{{"Data":1,"PartitionKey":{key}}}"#).as_bytes(),
            )
            .map(|it| it.key.into_owned())
        };
        assert_eq!(key("17"), Ok("17".to_owned()));
        assert_eq!(key(r#""a\\tb""#), Ok("a\tb".to_owned()));
        for broken in [r#""a\"b""#, r#""a\nb""#, r#""a\\""#] {
            assert_eq!(
                key(broken).map_err(body),
                Err(r#"{"__type":"SerializationException"}"#.to_owned())
            );
        }
    }

    fn many(count: usize, data: &str) -> Vec<u8> {
        let entry = format!(r#"{{"data":"{data}","partition-key":"k"}}"#);
        format!(r#"{{"records":[{}]}}"#, vec![entry; count].join(",")).into_bytes()
    }

    #[test]
    fn limits_are_those_of_kinesis() {
        assert!(records("s", &many(500, "x")).is_ok());
        let too_many = body(records("s", &many(501, "x")).unwrap_err());
        assert!(too_many.starts_with(r#"{"__type":"ValidationException","message":"1 validation error detected: Value '[com.amazonaws"#));
        assert!(too_many.ends_with(r#"at 'records' failed to satisfy constraint: Member must have length less than or equal to 500"}"#));
        assert_eq!(
            body(records("s", br#"{"records":[]}"#).unwrap_err()),
            invalid(
                "1 validation error detected: Value '[]' at 'records' failed to satisfy constraint: Member must have length greater than or equal to 1"
            )
        );
        assert!(records("s", &many(5, &"x".repeat(MAX_RECORD - 1))).is_ok());
        assert_eq!(
            body(records("s", &many(6, &"x".repeat(MAX_RECORD - 1))).unwrap_err()),
            r#"{"__type":"InvalidArgumentException","message":"Records size exceeds 5 MB limit"}"#
        );
        assert_eq!(
            body(records("s", &many(1, &"x".repeat(MAX_RECORD))).unwrap_err()),
            invalid(
                "1 validation error detected: Value 'java.nio.HeapByteBuffer[pos=0 lim=1048577 cap=1048577]' at \
                 'records.1.member.data' failed to satisfy constraint: Member must have length less than or equal to 1048576"
            )
        );
        let ten = format!(r#"{{"records":[{}]}}"#, ["{\"data\":\"\"}"; 12].join(","));
        assert!(
            body(records("s", ten.as_bytes()).unwrap_err())
                .contains("10 validation errors detected")
        );
    }

    #[test]
    fn a_body_that_the_template_cannot_read_is_refused_by_the_gateway() {
        let answer = record("s", br#"{"Data":"#).unwrap_err();
        assert_eq!(
            (answer.status.as_u16(), answer.error_type),
            (400, Some("BadRequestException"))
        );
        assert!(
            answer
                .body
                .starts_with(br#"{"message":"Could not parse request body into json: EOF"#)
        );
        assert_eq!(
            body(records("s", br#"{"records":"x"}"#).unwrap_err()),
            r#"{"__type":"SerializationException"}"#
        );
    }

    #[test]
    fn a_new_stream_has_five_shards_unless_asked() {
        assert_eq!(create("s", b""), Ok(5));
        assert_eq!(create("s", br#"{"ShardCount":2}"#), Ok(2));
        assert!(body(create("s", br#"{"ShardCount":0}"#).unwrap_err()).contains("'shardCount'"));
        assert!(body(create("a b", b"{}").unwrap_err()).contains("[a-zA-Z0-9_.-]+"));
    }
}
