//! Kinesis streams behind an API Gateway that maps them as AWS's "Kinesis proxy" tutorial does.
//!
//! Its templates decide the form: `record` takes the row as an object and stores its JSON text; `records` stores what it
//! is given as text, so there the row travels as a string. The partition key is pasted into a template unescaped, so only
//! harmless characters are sent. The tutorial answers every Kinesis error with HTTP 200: only a sequence number with a
//! shard proves a record.

use std::{borrow::Cow, fmt, str::FromStr, sync::Arc};

use bytes::{BufMut, BytesMut};
use serde::{Deserialize, de::IgnoredAny};

use super::{
    Answer, Described, Entry, Listed, Method, Reason, Request, Verdict, by_status,
    kafka_rest::digits,
};
use crate::{
    failure::Exit,
    post::{Key, Kind, PerKind},
};

pub(crate) const CONTENT_TYPE: &str = "application/json";
const NO_STREAM: &str =
    "make the stream (pinemu check stream --create), or check the prefix and the gateway's region";
/// Kinesis takes no more in one `PutRecords`.
pub(crate) const MOST_RECORDS: usize = 500;
/// The limit of a `PutRecords` request until 2025-10-29; emulators and older regions still have it.
pub(crate) const MOST_BYTES: u64 = 5 * 1024 * 1024;

/// Which of the gateway's two resources takes the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// One record a request (`PutRecord`).
    Record,
    /// Many records a request (`PutRecords`).
    Records,
}

/// What decides the shard of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PartitionKey {
    /// The row's key.
    Index,
    /// `pin`, `geo` or `user`.
    Kind,
    /// The same for all.
    Text(String),
}

impl FromStr for PartitionKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "index" => Ok(Self::Index),
            "kind" => Ok(Self::Kind),
            _ => {
                let constant = text
                    .strip_prefix("text:")
                    .ok_or("it is index, kind or text:T")?;
                let harmless = |c: char| !c.is_control() && !matches!(c, '"' | '\\' | '$' | '#');
                if constant.is_empty()
                    || constant.chars().count() > 256
                    || !constant.chars().all(harmless)
                {
                    return Err(
                        "the text has 1 to 256 characters, none of them a quote, backslash, $, # or control character"
                            .to_owned(),
                    );
                }
                Ok(Self::Text(constant.to_owned()))
            }
        }
    }
}

impl fmt::Display for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index => f.write_str("index"),
            Self::Kind => f.write_str("kind"),
            Self::Text(text) => write!(f, "text:{text}"),
        }
    }
}

/// Streams below one prefix.
#[derive(Debug, Clone)]
pub(crate) struct KinesisGateway {
    streams: PerKind<String>,
    paths: PerKind<Arc<str>>,
    endpoint: Endpoint,
    partition_key: PartitionKey,
}

impl KinesisGateway {
    pub(crate) fn new(prefix: &str, endpoint: Endpoint, partition_key: PartitionKey) -> Self {
        let streams = PerKind::new(|kind| format!("{prefix}-{kind}"));
        let resource = match endpoint {
            Endpoint::Record => "record",
            Endpoint::Records => "records",
        };
        let paths = PerKind::new(|kind| format!("/streams/{}/{resource}", streams[kind]).into());
        Self {
            streams,
            paths,
            endpoint,
            partition_key,
        }
    }

    pub(crate) fn stream(&self, kind: Kind) -> &str {
        &self.streams[kind]
    }

    pub(crate) fn path(&self, kind: Kind) -> &str {
        &self.paths[kind]
    }

    pub(crate) fn request_limit(&self) -> usize {
        match self.endpoint {
            Endpoint::Record => 1,
            Endpoint::Records => MOST_RECORDS,
        }
    }

    pub(crate) fn request(&self, kind: Kind, entries: &[Entry<'_>]) -> Request {
        let size: usize = entries
            .iter()
            .map(|entry| self.size(entry.key, entry.record))
            .sum();
        let mut body = BytesMut::with_capacity(size + 300);
        // The template takes the stream from the path; the name in the body is for gateways that read it there.
        body.put_slice(format!(r#"{{"StreamName":"{}","#, self.streams[kind]).as_bytes());
        match (self.endpoint, entries) {
            (Endpoint::Record, [entry]) => {
                body.put_slice(br#""Data":"#);
                body.put_slice(entry.record);
                body.put_slice(
                    format!(
                        r#","PartitionKey":"{}"}}"#,
                        self.partition_key(kind, entry.key)
                    )
                    .as_bytes(),
                );
            }
            (_, entries) => {
                body.put_slice(br#""records":["#);
                for (i, entry) in entries.iter().enumerate() {
                    if i > 0 {
                        body.put_u8(b',');
                    }
                    body.put_slice(br#"{"data":""#);
                    put_escaped(&mut body, entry.record);
                    let key = self.partition_key(kind, entry.key);
                    body.put_slice(format!(r#"","partition-key":"{key}"}}"#).as_bytes());
                }
                body.put_slice(b"]}");
            }
        }
        Request {
            method: Method::Put,
            path: Arc::clone(&self.paths[kind]),
            content_type: CONTENT_TYPE,
            accept: CONTENT_TYPE,
            body: body.freeze(),
        }
    }

    /// `CreateStream`, as the tutorial maps it: the name stands in the path.
    pub(crate) fn creation(&self, kind: Kind, shards: u64) -> Request {
        Request {
            method: Method::Post,
            path: format!("/streams/{}", self.streams[kind]).into(),
            content_type: CONTENT_TYPE,
            accept: CONTENT_TYPE,
            body: format!(r#"{{"ShardCount":{shards}}}"#).into(),
        }
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// Whether all records of a stream have the same partition key, and so the same shard.
    pub(crate) fn uses_one_shard(&self) -> bool {
        self.partition_key != PartitionKey::Index
    }

    pub(crate) fn partition_key(&self, kind: Kind, key: Key) -> Cow<'_, str> {
        match &self.partition_key {
            PartitionKey::Index => key.to_string().into(),
            PartitionKey::Kind => kind.as_str().into(),
            PartitionKey::Text(text) => text.into(),
        }
    }

    pub(crate) fn size(&self, key: Key, record: &[u8]) -> usize {
        let partition_key = match &self.partition_key {
            PartitionKey::Index => digits(key),
            PartitionKey::Kind => "user".len(),
            PartitionKey::Text(text) => text.len(),
        };
        let (frame, data) = match self.endpoint {
            Endpoint::Record => (r#""Data":,"PartitionKey":""}"#.len(), record.len()),
            Endpoint::Records => {
                let escapes = record
                    .iter()
                    .filter(|byte| matches!(byte, b'"' | b'\\'))
                    .count();
                (
                    r#"{"data":"","partition-key":""},"#.len(),
                    record.len() + escapes,
                )
            }
        };
        frame + data + partition_key
    }

    pub(crate) fn verdicts(&self, sent: usize, answer: &Answer) -> Vec<Verdict> {
        let put = serde_json::from_slice::<Put<'_>>(&answer.body).ok();
        let whole = match put {
            Some(Put {
                error: Some(error),
                message,
                ..
            }) => by_error(&error, &message.unwrap_or_default(), answer, Verdict::Halve),
            Some(Put {
                records: Some(results),
                ..
            }) if self.endpoint == Endpoint::Records => {
                // Counted from the entries: `FailedRecordCount` has been seen to say 1 with every record failed.
                if results.len() == sent {
                    return results
                        .iter()
                        .map(|result| verdict(result, answer))
                        .collect();
                }
                let text = format!("{} results for {sent} records", results.len());
                Verdict::Retry(Reason {
                    status: Some(answer.status),
                    text: text.into(),
                })
            }
            Some(put)
                if self.endpoint == Endpoint::Record
                    && proves(put.sequence_number.as_deref(), put.shard_id.as_deref()) =>
            {
                Verdict::Acknowledged
            }
            _ => by_status(answer, "streams"),
        };
        vec![whole; sent]
    }
}

/// A JSON text as the inside of a JSON string. It is JSON already, so it holds no raw control characters.
fn put_escaped(body: &mut BytesMut, json: &[u8]) {
    let mut rest = json;
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')) {
        body.put_slice(&rest[..at]);
        body.put_u8(b'\\');
        body.put_u8(rest[at]);
        rest = &rest[at + 1..];
    }
    body.put_slice(rest);
}

/// An answer of `PutRecord` or `PutRecords`, or a Kinesis error.
#[derive(Debug, Deserialize)]
struct Put<'a> {
    #[serde(borrow, rename = "__type")]
    error: Option<Cow<'a, str>>,
    #[serde(borrow, alias = "Message")]
    message: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "Records")]
    records: Option<Vec<Receipt<'a>>>,
    #[serde(borrow, rename = "SequenceNumber")]
    sequence_number: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "ShardId")]
    shard_id: Option<Cow<'a, str>>,
}

/// One entry of `Records`.

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Receipt<'a> {
    #[serde(borrow)]
    sequence_number: Option<Cow<'a, str>>,
    #[serde(borrow)]
    shard_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    error_code: Option<Cow<'a, str>>,
    #[serde(borrow)]
    error_message: Option<Cow<'a, str>>,
}

/// The target's receipt is a place in the stream: both parts of it, or it is none.
fn proves(sequence_number: Option<&str>, shard_id: Option<&str>) -> bool {
    sequence_number.is_some_and(|text| !text.is_empty())
        && shard_id.is_some_and(|text| !text.is_empty())
}

/// What one entry of `Records` says of its record.
fn verdict(result: &Receipt<'_>, answer: &Answer) -> Verdict {
    match result.error_code.as_deref() {
        Some(error) if !error.is_empty() => by_error(
            error,
            result.error_message.as_deref().unwrap_or_default(),
            answer,
            Verdict::Reject,
        ),
        _ if proves(
            result.sequence_number.as_deref(),
            result.shard_id.as_deref(),
        ) =>
        {
            Verdict::Acknowledged
        }
        _ => {
            let text = "the answer holds no sequence number and shard for this record";
            Verdict::Retry(Reason {
                status: Some(answer.status),
                text: text.into(),
            })
        }
    }
}

/// What a Kinesis error means, whatever HTTP status it came with. `refusal`: what a permanent error about the data is,
/// which differs between one that names its record and one that stands for all.
fn by_error(
    error: &str,
    message: &str,
    answer: &Answer,
    refusal: fn(Reason) -> Verdict,
) -> Verdict {
    let error = error.rsplit('#').next().unwrap_or(error);
    let reason = Reason {
        status: Some(answer.status),
        text: format!("{error}: {message}").into(),
    };
    match error {
        "ProvisionedThroughputExceededException"
        | "ThrottlingException"
        | "Throttling"
        | "KMSThrottlingException"
        | "LimitExceededException"
        | "RequestLimitExceeded" => Verdict::Throttled(reason),
        "ResourceNotFoundException" => {
            Verdict::Stop(Exit::Configuration, reason.with_cure(NO_STREAM))
        }
        "UnknownOperationException" => Verdict::Stop(Exit::Configuration, reason),
        "AccessDeniedException"
        | "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "MissingAuthenticationTokenException"
        | "IncompleteSignatureException"
        | "OptInRequired"
        | "KMSDisabledException"
        | "KMSInvalidStateException"
        | "KMSAccessDeniedException"
        | "KMSNotFoundException"
        | "KMSOptInRequired" => Verdict::Stop(Exit::Refused, reason),
        _ if error.starts_with("ExpiredToken") => Verdict::Stop(Exit::Refused, reason),
        "ValidationException"
        | "InvalidArgumentException"
        | "SerializationException"
        | "DryRunOperationException" => refusal(reason),
        // Internal failures, a stream that is still being made, and what nobody knows: no proof of a refusal.
        _ => Verdict::Retry(reason),
    }
}

pub(super) fn is_made(answer: &Answer) -> bool {
    // Kinesis has nothing to say about success; an error has a type, whatever the status is.
    let nothing = |body: &[u8]| matches!(body.trim_ascii(), b"" | b"{}" | b"null");
    let error = serde_json::from_slice::<Put<'_>>(&answer.body)
        .ok()
        .and_then(|put| put.error);
    match error {
        Some(error) => error.ends_with("ResourceInUseException"),
        None => super::is_success(answer) && nothing(&answer.body),
    }
}

pub(super) fn listed(answer: &Answer) -> Option<Listed> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Streams {
        stream_names: Vec<String>,
        #[serde(default)]
        has_more_streams: bool,
    }
    let streams: Streams = serde_json::from_slice(&answer.body).ok()?;
    Some(Listed {
        names: streams.stream_names,
        more: streams.has_more_streams,
    })
}

pub(super) fn described(answer: &Answer) -> Option<Described> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answered {
        stream_description: Description,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Description {
        stream_status: String,
        shards: Vec<Shard>,
        #[serde(default)]
        has_more_shards: bool,
        retention_period_hours: Option<u64>,
        stream_mode_details: Option<Mode>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Mode {
        stream_mode: String,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Shard {
        sequence_number_range: Option<Range>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Range {
        ending_sequence_number: Option<IgnoredAny>,
    }
    // A shard that was split or merged stays until its records have expired, but takes no more.
    let is_open = |shard: &&Shard| {
        let range = shard.sequence_number_range.as_ref();
        range.is_none_or(|range| range.ending_sequence_number.is_none())
    };
    let stream = serde_json::from_slice::<Answered>(&answer.body)
        .ok()?
        .stream_description;
    Some(Described {
        parts: stream.shards.iter().filter(is_open).count(),
        more: stream.has_more_shards,
        on_demand: stream
            .stream_mode_details
            .is_some_and(|mode| mode.stream_mode == "ON_DEMAND"),
        status: Some(stream.stream_status),
        retention_hours: stream.retention_period_hours,
    })
}

pub(super) fn is_missing(answer: &Answer) -> bool {
    let error = serde_json::from_slice::<Put<'_>>(&answer.body)
        .ok()
        .and_then(|put| put.error);
    error.is_some_and(|error| error.ends_with("ResourceNotFoundException"))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn entry(key: i128, record: &str) -> Entry<'_> {
        Entry {
            key: Key(key),
            record: record.as_bytes(),
        }
    }

    fn sink(endpoint: Endpoint) -> KinesisGateway {
        KinesisGateway::new("streaming-0abf7f0cd605", endpoint, PartitionKey::Index)
    }

    fn letters(endpoint: Endpoint, sent: usize, status: u16, body: &str) -> String {
        let answer = Answer {
            status,
            body: Bytes::copy_from_slice(body.as_bytes()),
            ..Answer::default()
        };
        sink(endpoint)
            .verdicts(sent, &answer)
            .iter()
            .map(|verdict| match verdict {
                Verdict::Acknowledged => 'A',
                Verdict::Retry(_) => 'r',
                Verdict::Throttled(_) => 't',
                Verdict::Halve(_) => 'h',
                Verdict::Reject(_) => 'X',
                Verdict::Stop(..) => 'S',
            })
            .collect()
    }

    #[test]
    fn one_record_travels_as_an_object() {
        let request = sink(Endpoint::Record)
            .request(Kind::Pin, &[entry(7, r#"{"index":7,"title":"\"a\""}"#)]);
        assert_eq!(&*request.path, "/streams/streaming-0abf7f0cd605-pin/record");
        assert_eq!(request.content_type, "application/json");
        assert_eq!(
            request.body,
            r#"{"StreamName":"streaming-0abf7f0cd605-pin","Data":{"index":7,"title":"\"a\""},"PartitionKey":"7"}"#
        );
    }

    #[test]
    fn many_records_travel_as_the_json_text_in_a_string() {
        let request = sink(Endpoint::Records).request(
            Kind::Geo,
            &[entry(7, r#"{"a":"\"é\n"}"#), entry(8, r#"{"ind":8}"#)],
        );
        assert_eq!(
            &*request.path,
            "/streams/streaming-0abf7f0cd605-geo/records"
        );
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(body["records"][0]["data"], r#"{"a":"\"é\n"}"#);
        assert_eq!(
            body["records"][1],
            serde_json::json!({"data": r#"{"ind":8}"#, "partition-key": "8"})
        );
    }

    #[test]
    fn the_size_of_a_record_is_what_it_adds_to_the_body() {
        for partition_key in [
            PartitionKey::Index,
            PartitionKey::Text("partition-1".to_owned()),
        ] {
            let sink = KinesisGateway::new("p", Endpoint::Records, partition_key);
            let entry = entry(-120, r#"{"a":"\"\\"}"#);
            let one = sink
                .request(Kind::User, std::slice::from_ref(&entry))
                .body
                .len();
            let two = sink.request(Kind::User, &[entry, entry]).body.len();
            assert_eq!(two - one, sink.size(entry.key, entry.record));
        }
    }

    #[test]
    fn a_description_counts_the_shards_that_take_records() {
        let body = r#"{"StreamDescription":{"HasMoreShards":false,"RetentionPeriodHours":24,"Shards":[
            {"ShardId":"shardId-000000000000","SequenceNumberRange":{"StartingSequenceNumber":"49","EndingSequenceNumber":"50"}},
            {"ShardId":"shardId-000000000001","SequenceNumberRange":{"StartingSequenceNumber":"51"}},
            {"ShardId":"shardId-000000000002","SequenceNumberRange":{"StartingSequenceNumber":"51"}}],
            "StreamARN":"a","StreamModeDetails":{"StreamMode":"ON_DEMAND"},"StreamName":"s","StreamStatus":"UPDATING"}}"#;
        let answer = Answer {
            status: 200,
            body: Bytes::from_static(body.as_bytes()),
            ..Answer::default()
        };
        let expected = Described {
            parts: 2,
            more: false,
            status: Some("UPDATING".to_owned()),
            on_demand: true,
            retention_hours: Some(24),
        };
        assert_eq!(described(&answer), Some(expected));
        assert_eq!(listed(&answer), None);
    }

    #[test]
    fn a_partition_key_that_would_break_the_template_is_refused() {
        for text in [
            "",
            "text:",
            "text:a\"b",
            "text:a\\b",
            "text:a\nb",
            "Index",
            "text:$x",
        ] {
            assert!(text.parse::<PartitionKey>().is_err(), "{text}");
        }
        assert!(
            format!("text:{}", "x".repeat(257))
                .parse::<PartitionKey>()
                .is_err()
        );
        for text in ["index", "kind", "text:partition-1", "text:ключ"] {
            assert_eq!(text.parse::<PartitionKey>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_sequence_number_and_a_shard_are_the_only_proof() {
        let proof = r#"{"SequenceNumber":"49","ShardId":"shardId-000000000004"}"#;
        assert_eq!(letters(Endpoint::Record, 1, 200, proof), "A");
        for body in [
            "",
            "{}",
            r#"{"SequenceNumber":"49"}"#,
            r#"{"SequenceNumber":"","ShardId":"s"}"#,
            "<html>",
        ] {
            assert_eq!(letters(Endpoint::Record, 1, 200, body), "r", "{body}");
            assert_eq!(letters(Endpoint::Records, 2, 200, body), "rr", "{body}");
        }
        let mixed = r#"{"FailedRecordCount":1,"Records":[{"SequenceNumber":"1","ShardId":"s"},
            {"ErrorCode":"ProvisionedThroughputExceededException","ErrorMessage":"Rate exceeded"},
            {"ErrorCode":"InternalFailure","ErrorMessage":"Internal service failure."},
            {"ErrorCode":"ValidationException","ErrorMessage":"x"}]}"#;
        assert_eq!(letters(Endpoint::Records, 4, 200, mixed), "AtrX");
        assert_eq!(letters(Endpoint::Records, 3, 200, mixed), "rrr");
    }

    #[test]
    fn kinesis_errors_count_whatever_the_http_status_says() {
        let cases = [
            (
                r#"{"__type":"ResourceNotFoundException","message":"Stream s not found."}"#,
                "S",
            ),
            (
                r#"{"__type":"com.amazonaws.kinesis#ResourceNotFoundException","Message":"x"}"#,
                "S",
            ),
            (
                r#"{"__type":"ProvisionedThroughputExceededException","message":"x"}"#,
                "t",
            ),
            (r#"{"__type":"SerializationException"}"#, "h"),
            (r#"{"__type":"InternalFailureException"}"#, "r"),
            (r#"{"__type":"AccessDeniedException","Message":"x"}"#, "S"),
            (r#"{"__type":"ExpiredTokenException","message":"x"}"#, "S"),
        ];
        for (body, expected) in cases {
            for status in [200, 400] {
                assert_eq!(
                    letters(Endpoint::Record, 1, status, body),
                    expected,
                    "{body}"
                );
            }
        }
    }
}
