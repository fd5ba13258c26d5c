//! The produce API of a Kafka REST proxy, version 2, as Confluent's takes it: requests to records, records to partitions. Pure.

mod answers;

use hyper::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::{error::Category, value::RawValue};

pub(super) use self::answers::{
    Fate, Refusal, illegal_topic, missing_topic, not_landed, produced, topic, topics,
};
use self::answers::{NOT_RETRIABLE, RETRIABLE, error, http_error};
use super::{answer::Answer, json::Object, partitioner};

const REQUEST_TYPE: &str = "application/vnd.kafka.json.v2+json";
const ANSWER_TYPE: &str = "application/vnd.kafka.v2+json";
/// `max.request.size` of a producer that nobody configured.
const MAX_RECORD: usize = 1_048_576;
/// What Kafka adds to key and value when it estimates the size of a record in a batch of its own.
const RECORD_OVERHEAD: usize = 61 + 21 + 1;
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record<'a> {
    #[serde(borrow)]
    pub(super) key: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) value: Option<&'a RawValue>,
    partition: Option<i32>,
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
pub(super) fn parse<'a>(headers: &HeaderMap, body: &'a [u8]) -> Result<Vec<Record<'a>>, Answer> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if !header(header::CONTENT_TYPE)
        .is_some_and(|value| media_type(value).eq_ignore_ascii_case(REQUEST_TYPE))
    {
        return Err(http_error(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    if !header(header::ACCEPT).is_none_or(accepts) {
        return Err(http_error(StatusCode::NOT_ACCEPTABLE));
    }
    if matches!(body.trim_ascii(), b"" | b"null") {
        return Err(error(
            StatusCode::UNPROCESSABLE_ENTITY,
            422,
            "The request body must not be null",
        ));
    }
    let Object(request) =
        serde_json::from_slice::<Object<Produce<'_>>>(body).map_err(|e| unreadable(&e))?;
    let records = request.records.unwrap_or_default();
    if records.is_empty() {
        return Err(error(
            StatusCode::UNPROCESSABLE_ENTITY,
            422,
            "records must not be empty",
        ));
    }
    Ok(records.into_iter().map(|Object(record)| record).collect())
}

fn media_type(value: &str) -> &str {
    value.split(';').next().unwrap_or_default().trim()
}

fn accepts(accept: &str) -> bool {
    accept.split(',').any(|range| {
        let kind = media_type(range);
        let refused = range.split(';').skip(1).any(|parameter| {
            let weight = parameter
                .trim()
                .strip_prefix("q=")
                .and_then(|q| q.parse::<f32>().ok());
            weight.is_some_and(|q| q <= 0.0)
        });
        !refused
            && (kind == "*/*" || kind == "application/*" || kind.eq_ignore_ascii_case(ANSWER_TYPE))
    })
}

fn unreadable(cause: &serde_json::Error) -> Answer {
    let text = cause.to_string();
    // serde has no other way to tell which field it did not know.
    let unknown = text
        .strip_prefix("unknown field `")
        .and_then(|rest| rest.split('`').next());
    match (cause.classify(), unknown) {
        (Category::Data, Some(field)) => error(
            StatusCode::UNPROCESSABLE_ENTITY,
            422,
            format_args!("Unrecognized field: {field}"),
        ),
        _ => error(StatusCode::BAD_REQUEST, 400, text),
    }
}

impl Record<'_> {
    /// The partition this record goes to; one without partition and key goes where `turn` points.
    pub(super) fn place(&self, topic: &str, partitions: u32, turn: u32) -> Result<u32, Refusal> {
        let size = self.size();
        if size > MAX_RECORD {
            return Err(Refusal {
                code: NOT_RETRIABLE,
                message: format!(
                    "The message is {size} bytes when serialized which is larger than {MAX_RECORD}, \
                     which is the value of the max.request.size configuration."
                ),
            });
        }
        match (self.partition, self.key) {
            (Some(asked), _) => match u32::try_from(asked)
                .ok()
                .filter(|&asked| asked < partitions)
            {
                Some(partition) => Ok(partition),
                None => Err(Refusal {
                    code: RETRIABLE,
                    message: format!(
                        "Partition {asked} of topic {topic} with partition count {partitions} \
                         is not present in metadata after 60000 ms."
                    ),
                }),
            },
            (None, Some(key)) => Ok(partitioner::of_key(key.get(), partitions)),
            (None, None) => Ok(turn % partitions),
        }
    }

    fn size(&self) -> usize {
        let part = |json: Option<&RawValue>| {
            let length = json.map_or(0, |json| json.get().len());
            // The length is written before the part, as a number of seven bits a byte, its sign in the lowest.
            length
                + if length == 0 {
                    1
                } else {
                    (length.ilog2() as usize + 2).div_ceil(7)
                }
        };
        RECORD_OVERHEAD + part(self.key) + part(self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(content_type: &str, accept: &str) -> HeaderMap {
        let pairs = [
            (header::CONTENT_TYPE, content_type),
            (header::ACCEPT, accept),
        ];
        pairs
            .into_iter()
            .map(|(name, value)| (name, value.parse().unwrap()))
            .collect()
    }

    fn refusal(headers: &HeaderMap, body: &str) -> (u16, String) {
        let answer = parse(headers, body.as_bytes()).unwrap_err();
        (
            answer.status.as_u16(),
            String::from_utf8(answer.body).unwrap(),
        )
    }

    #[test]
    fn a_type_that_the_proxy_does_not_take_or_make_is_refused() {
        let body = r#"{"records":[{"value":1}]}"#;
        assert_eq!(
            refusal(&headers("application/json", "*/*"), body),
            (
                415,
                r#"{"error_code":415,"message":"HTTP 415 Unsupported Media Type"}"#.to_owned()
            )
        );
        assert_eq!(refusal(&HeaderMap::new(), body).0, 415);
        assert_eq!(
            refusal(&headers(REQUEST_TYPE, "application/json"), body),
            (
                406,
                r#"{"error_code":406,"message":"HTTP 406 Not Acceptable"}"#.to_owned()
            )
        );
        assert_eq!(refusal(&headers(REQUEST_TYPE, "*/*;q=0"), body).0, 406);
        assert!(
            parse(
                &headers(
                    "application/vnd.kafka.json.v2+json; charset=utf-8",
                    "text/html, */*;q=0.1"
                ),
                body.as_bytes()
            )
            .is_ok()
        );
    }

    #[test]
    fn a_body_that_is_no_produce_request_is_refused() {
        let refusal = |body| refusal(&headers(REQUEST_TYPE, ANSWER_TYPE), body);
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

    fn record(json: &str) -> Record<'_> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_record_goes_where_it_asks_to_else_by_its_key_else_in_turn() {
        assert_eq!(
            record(r#"{"value":1,"partition":2,"key":"a"}"#).place("t", 3, 0),
            Ok(2)
        );
        assert_eq!(
            record(r#"{"key":"a"}"#).place("t", 3, 0),
            record(r#"{"key":"a","value":2}"#).place("t", 3, 1)
        );
        assert_eq!(record(r#"{"value":1,"key":null}"#).place("t", 3, 4), Ok(1));
        let message = "Partition 3 of topic t with partition count 3 is not present in metadata after 60000 ms.";
        assert_eq!(
            record(r#"{"partition":3}"#).place("t", 3, 0),
            Err(Refusal {
                code: 50003,
                message: message.to_owned()
            })
        );
    }

    #[test]
    fn a_record_may_be_as_large_as_a_producer_sends_it() {
        let place = |length: usize| {
            let json = format!(r#"{{"value":"{}"}}"#, "x".repeat(length - 2));
            record(&json).place("t", 1, 0)
        };
        let largest = MAX_RECORD - RECORD_OVERHEAD - 1 - 3;
        assert_eq!(place(largest), Ok(0));
        let message = "The message is 1048577 bytes when serialized which is larger than 1048576, \
                       which is the value of the max.request.size configuration.";
        assert_eq!(
            place(largest + 1),
            Err(Refusal {
                code: 50002,
                message: message.to_owned()
            })
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
