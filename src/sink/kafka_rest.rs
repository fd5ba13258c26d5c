//! Kafka topics behind a REST proxy that speaks the v2 API: Confluent's, Strimzi's bridge, Karapace, Redpanda's.
//!
//! The request is the one that all four take: JSON v2 content type without parameters, keys as JSON strings, absent
//! fields left out. The answers differ, so one tolerant reading serves all: a record is delivered only if its entry in
//! `offsets` holds an offset and no error, whatever the HTTP status is.

use std::{borrow::Cow, collections::HashSet, sync::Arc};

use bytes::{BufMut, BytesMut};
use serde::{Deserialize, de::IgnoredAny};

use super::{Answer, Described, Entry, Listed, Method, Reason, Request, Verdict, by_status};
use crate::{
    failure::Exit,
    post::{Key, Kind, PerKind},
};

const CONTENT_TYPE: &str = "application/vnd.kafka.json.v2+json";
pub(crate) const ACCEPT: &str = "application/vnd.kafka.v2+json";

const NO_RIGHT: &str = "give credentials that may write to it (--header, or in --invoke-url), or the proxy's own user the right";
const NO_TOPIC: &str = "make the topic, or check the prefix";

/// What Kafka records get as key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordKey {
    None,
    /// The row's key as a JSON string: the one form that every proxy takes.
    Index,
}

/// Topics below one prefix.
#[derive(Debug, Clone)]
pub(crate) struct KafkaRest {
    topics: PerKind<String>,
    paths: PerKind<Arc<str>>,
    record_key: RecordKey,
}

impl KafkaRest {
    pub(crate) fn new(prefix: &str, record_key: RecordKey) -> Self {
        let topics = PerKind::new(|kind| format!("{prefix}.{kind}"));
        let paths = PerKind::new(|kind| format!("/topics/{}", topics[kind]).into());
        Self {
            topics,
            paths,
            record_key,
        }
    }

    pub(crate) fn topic(&self, kind: Kind) -> &str {
        &self.topics[kind]
    }

    pub(crate) fn path(&self, kind: Kind) -> &str {
        &self.paths[kind]
    }

    pub(crate) fn key(&self, key: Key) -> Option<String> {
        (self.record_key == RecordKey::Index).then(|| key.to_string())
    }

    pub(crate) fn request(&self, kind: Kind, entries: &[Entry<'_>]) -> Request {
        let size: usize = entries
            .iter()
            .map(|entry| self.size(entry.key, entry.record))
            .sum();
        let mut body = BytesMut::with_capacity(size + 16);
        body.put_slice(br#"{"records":["#);
        for (i, entry) in entries.iter().enumerate() {
            if i > 0 {
                body.put_u8(b',');
            }
            match self.record_key {
                RecordKey::None => body.put_slice(br#"{"value":"#),
                RecordKey::Index => {
                    body.put_slice(format!(r#"{{"key":"{}","value":"#, entry.key).as_bytes());
                }
            }
            body.put_slice(entry.record);
            body.put_u8(b'}');
        }
        body.put_slice(b"]}");
        Request {
            method: Method::Post,
            path: Arc::clone(&self.paths[kind]),
            content_type: CONTENT_TYPE,
            accept: ACCEPT,
            body: body.freeze(),
        }
    }

    pub(crate) fn size(&self, key: Key, record: &[u8]) -> usize {
        let key = match self.record_key {
            RecordKey::None => 0,
            RecordKey::Index => r#""key":"","#.len() + digits(key),
        };
        r#"{"value":},"#.len() + key + record.len()
    }
}

/// How many characters a key takes.
pub(super) fn digits(key: Key) -> usize {
    let sign = usize::from(key.0 < 0);
    key.0
        .unsigned_abs()
        .checked_ilog10()
        .map_or(1, |log| log as usize + 1)
        + sign
}

#[derive(Debug, Deserialize)]
struct Produced<'a> {
    #[serde(borrow)]
    offsets: Option<Vec<Receipt<'a>>>,
    error_code: Option<i64>,
    #[serde(borrow)]
    message: Option<Cow<'a, str>>,
}

/// One entry of `offsets`. Strimzi calls the text `message`, the others `error`.
#[derive(Debug, Deserialize)]
struct Receipt<'a> {
    partition: Option<i64>,
    offset: Option<i64>,
    error_code: Option<i64>,
    #[serde(borrow, alias = "message")]
    error: Option<Cow<'a, str>>,
}

pub(super) fn verdicts(sent: usize, answer: &Answer) -> Vec<Verdict> {
    if is_plain_success(sent, &answer.body) {
        return vec![Verdict::Acknowledged; sent];
    }
    judged(sent, answer)
}

/// Whether an answer acknowledges each of `sent` records in the very words that proxies have when all is well: what is true
/// of nearly every answer need not be parsed as what any proxy could say.
fn is_plain_success(sent: usize, body: &[u8]) -> bool {
    let first = body.strip_prefix(br#"{"offsets":["#).or_else(|| {
        body.strip_prefix(br#"{"key_schema_id":null,"value_schema_id":null,"offsets":["#)
    });
    let behind_last = (0..sent).try_fold(first.unwrap_or_default(), |rest, i| {
        let receipt = if i == 0 {
            rest
        } else {
            rest.strip_prefix(b",")?
        };
        behind_receipt(receipt)
    });
    sent > 0
        && matches!(
            behind_last,
            Some(b"]}" | br#"],"key_schema_id":null,"value_schema_id":null}"#)
        )
}

/// What follows an entry of `offsets` that holds a partition, an offset and no error; none if this is none.
fn behind_receipt(json: &[u8]) -> Option<&[u8]> {
    let behind_number = |json: &'_ [u8]| {
        let digits = json.iter().take_while(|it| it.is_ascii_digit()).count();
        // As many as fit into 64 bits whatever they are; JSON has no leading zeros.
        let is_number = (1..=18).contains(&digits) && (digits == 1 || json[0] != b'0');
        is_number.then_some(digits)
    };
    let (first, second) = if json.starts_with(br#"{"partition""#) {
        (&br#"{"partition":"#[..], &br#","offset":"#[..])
    } else {
        (&br#"{"offset":"#[..], &br#","partition":"#[..])
    };
    let json = json.strip_prefix(first)?;
    let json = json[behind_number(json)?..].strip_prefix(second)?;
    let json = &json[behind_number(json)?..];
    json.strip_prefix(br#","error_code":null,"error":null}"#)
        .or_else(|| json.strip_prefix(b"}"))
}

/// Reads any answer.
fn judged(sent: usize, answer: &Answer) -> Vec<Verdict> {
    let produced = serde_json::from_slice::<Produced<'_>>(&answer.body).ok();
    let whole = match produced {
        // Karapace answers 422, Confluent 401 or 403, with results: the body comes first, the status second.
        Some(Produced {
            offsets: Some(offsets),
            ..
        }) if !offsets.is_empty() => {
            if offsets.len() == sent {
                return offsets
                    .iter()
                    .map(|offset| verdict(offset, answer.status))
                    .collect();
            }
            match by_partition(sent, &offsets, answer.status) {
                Some(verdict) => verdict,
                None => return vec![Verdict::Acknowledged; sent],
            }
        }
        Some(Produced {
            error_code: Some(code),
            message,
            ..
        }) => whole_request(code, &message.unwrap_or_default(), answer),
        _ => by_status(answer, "topics"),
    };
    vec![whole; sent]
}

/// What one entry of `offsets` says of its record.
fn verdict(offset: &Receipt<'_>, status: u16) -> Verdict {
    let said = offset.error.as_deref().unwrap_or_default();
    let reason = |text: String| Reason {
        status: Some(status),
        text: text.into(),
    };
    let Some(code) = offset.error_code else {
        return match offset.offset {
            Some(0..) if offset.error.is_none() => Verdict::Acknowledged,
            // A producer that asks for no acknowledgement (acks=0) knows no offset.
            Some(_) | None if said.is_empty() => Verdict::Retry(reason(
                "the answer holds no offset for this record".to_owned(),
            )),
            _ => Verdict::Retry(reason(said.to_owned())),
        };
    };
    let reason = reason(format!("error {code}: {said}"));
    match code {
        40101 | 40301 | 29 | 31 => Verdict::Stop(Exit::Refused, reason.with_cure(NO_RIGHT)),
        // Strimzi: the topic is not in the brokers' metadata. 17: not a legal name.
        404 | 17 => Verdict::Stop(Exit::Configuration, reason.with_cure(NO_TOPIC)),
        // Karapace codes its own timeouts as permanent although nothing is known of the record.
        1 if said.to_ascii_lowercase().starts_with("timed out")
            || said == "Publish message cancelled" =>
        {
            Verdict::Retry(reason)
        }
        // Strimzi codes this as it codes what passes.
        500 if is_too_large(said) => Verdict::Reject(reason),
        // Permanent: Confluent's, Karapace's, then Kafka's own: message too large, invalid record.
        50002 | 1 | 10 | 18 | 87 => Verdict::Reject(reason),
        // 50003, 2, 500, Kafka's retriable codes; and a code nobody knows is no proof of a refusal.
        _ => Verdict::Retry(reason),
    }
}

/// Whether the text is that of Kafka's `RecordTooLargeException`, of the broker's or of the producer's. The record will be as
/// large next time.
fn is_too_large(said: &str) -> bool {
    said.contains("message larger than the max message size")
        || said.contains("bytes when serialized which is larger than")
}

/// Redpanda answers one entry for each partition, not for each record. None: all are acknowledged.
fn by_partition(sent: usize, offsets: &[Receipt<'_>], status: u16) -> Option<Verdict> {
    let verdicts: Vec<Verdict> = offsets
        .iter()
        .map(|offset| verdict(offset, status))
        .collect();
    let partitions: HashSet<Option<i64>> = offsets.iter().map(|offset| offset.partition).collect();
    let distinct = partitions.len() == offsets.len() && !partitions.contains(&None);
    let acknowledged = verdicts
        .iter()
        .all(|verdict| *verdict == Verdict::Acknowledged);
    if offsets.len() < sent && distinct && acknowledged {
        return None;
    }
    let unlike = || {
        let text = format!("{} results for {sent} records", offsets.len());
        Verdict::Retry(Reason {
            status: Some(status),
            text: text.into(),
        })
    };
    // The worst of them stands for all, and a permanent one for nobody in particular.
    let worst = verdicts.into_iter().max_by_key(|verdict| match verdict {
        Verdict::Stop(..) => 3,
        Verdict::Reject(_) => 2,
        Verdict::Retry(_) => 1,
        _ => 0,
    });
    Some(match worst {
        Some(Verdict::Reject(reason)) => Verdict::Halve(reason),
        Some(other) if other != Verdict::Acknowledged => other,
        _ => unlike(),
    })
}

/// An error that stands for the whole request, in the proxy's own words: `{"error_code":N,"message":"…"}`.
fn whole_request(code: i64, message: &str, answer: &Answer) -> Verdict {
    let reason = Reason {
        status: Some(answer.status),
        text: format!("error {code}: {message}").into(),
    };
    match code {
        401 | 403 | 40101 | 40301 => Verdict::Stop(Exit::Refused, reason.with_cure(NO_RIGHT)),
        40401..=40403 => Verdict::Stop(Exit::Configuration, reason.with_cure(NO_TOPIC)),
        404 | 405 | 406 | 415 | 501 | 50101 => Verdict::Stop(Exit::Configuration, reason),
        429 | 42901 => Verdict::Throttled(reason),
        40404 | 40406 | 408 | 40801 | 500 | 503 | 50003 | 50301 | 50302 => Verdict::Retry(reason),
        50002 | 400 | 40002 | 409 | 413 | 422 | 42201..=42208 => Verdict::Halve(reason),
        _ => by_status(answer, "topics"),
    }
}

pub(super) fn listed(answer: &Answer) -> Option<Listed> {
    let names = serde_json::from_slice(&answer.body).ok()?;
    Some(Listed { names, more: false })
}

pub(super) fn described(answer: &Answer) -> Option<Described> {
    #[derive(Deserialize)]
    struct Topic {
        partitions: Vec<IgnoredAny>,
    }
    let topic: Topic = serde_json::from_slice(&answer.body).ok()?;
    Some(Described {
        parts: topic.partitions.len(),
        more: false,
        status: None,
        on_demand: false,
        retention_hours: None,
    })
}

pub(super) fn is_missing(answer: &Answer) -> bool {
    let error = serde_json::from_slice::<Produced<'_>>(&answer.body)
        .ok()
        .and_then(|body| body.error_code);
    // Confluent 40401, Karapace 40403, Strimzi 404.
    answer.status == 404 && matches!(error, Some(404 | 40401 | 40403))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn body_text(request: &Request) -> &str {
        std::str::from_utf8(&request.body).unwrap()
    }

    fn entry(key: i128, record: &str) -> Entry<'_> {
        Entry {
            key: Key(key),
            record: record.as_bytes(),
        }
    }

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status,
            body: Bytes::copy_from_slice(body.as_bytes()),
            ..Answer::default()
        }
    }

    proptest! {
        #[test]
        fn a_plain_success_is_one_however_it_is_read(
            body in r#"(\{"key_schema_id":null,"value_schema_id":null,"offsets":\[|\{"offsets":\[)((\{"partition":[0-9]{1,2},"offset":-?[0-9]{1,19}(,"error_code":(null|2))?(,"error":(null|""))?\}|\{"offset":[0-9]{0,2},"partition":[0-9]\})(,|,?)){0,4}\](,"key_schema_id":null,"value_schema_id":null)?\}?"#,
            sent in 0..5_usize,
        ) {
            if is_plain_success(sent, body.as_bytes()) {
                let verdicts = judged(sent, &answer(200, &body));
                prop_assert_eq!(verdicts, vec![Verdict::Acknowledged; sent], "{}", body);
            }
        }
    }

    #[test]
    fn the_proxies_own_successes_are_plain() {
        for body in [
            r#"{"offsets":[{"partition":0,"offset":7,"error_code":null,"error":null},{"partition":1,"offset":123456789012,"error_code":null,"error":null}],"key_schema_id":null,"value_schema_id":null}"#,
            r#"{"offsets":[{"partition":0,"offset":7},{"partition":0,"offset":8}]}"#,
            r#"{"key_schema_id":null,"value_schema_id":null,"offsets":[{"offset":7,"partition":0},{"offset":8,"partition":0}]}"#,
        ] {
            assert!(is_plain_success(2, body.as_bytes()), "{body}");
            assert!(!is_plain_success(1, body.as_bytes()), "{body}");
            assert!(!is_plain_success(3, body.as_bytes()), "{body}");
            assert!(
                !is_plain_success(2, &body.as_bytes()[..body.len() - 1]),
                "{body}"
            );
        }
        assert!(!is_plain_success(0, br#"{"offsets":[]}"#));
    }

    /// One letter for each verdict.
    fn letters(sent: usize, status: u16, body: &str) -> String {
        verdicts(sent, &answer(status, body))
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
    fn a_request_holds_the_records_in_order_and_nothing_that_a_proxy_could_refuse() {
        let sink = KafkaRest::new("0abf7f0cd605", RecordKey::None);
        let entries = [entry(1, r#"{"index":1}"#), entry(2, r#"{"index":2}"#)];
        let request = sink.request(Kind::Pin, &entries);
        assert_eq!(&*request.path, "/topics/0abf7f0cd605.pin");
        assert_eq!(request.content_type, "application/vnd.kafka.json.v2+json");
        assert_eq!(
            body_text(&request),
            r#"{"records":[{"value":{"index":1}},{"value":{"index":2}}]}"#
        );
    }

    #[test]
    fn a_record_key_is_a_json_string() {
        let sink = KafkaRest::new("p", RecordKey::Index);
        let request = sink.request(Kind::User, &[entry(-7, r#"{"index":-7}"#)]);
        assert_eq!(
            body_text(&request),
            r#"{"records":[{"key":"-7","value":{"index":-7}}]}"#
        );
    }

    #[test]
    fn the_size_of_a_record_is_what_it_adds_to_the_body() {
        for record_key in [RecordKey::None, RecordKey::Index] {
            let sink = KafkaRest::new("p", record_key);
            for key in [-12, -1, 0, 9, 10, 99, 100, Key::MIN.0, Key::MAX.0] {
                let entry = entry(key, r#"{"index":1}"#);
                let one = sink.request(Kind::Pin, &[entry]).body.len();
                let two = sink.request(Kind::Pin, &[entry, entry]).body.len();
                assert_eq!(two - one, sink.size(entry.key, entry.record), "{key}");
            }
        }
    }

    #[test]
    fn an_offset_without_an_error_is_the_only_proof() {
        let confluent = r#"{"offsets":[{"partition":2,"offset":100,"error_code":null,"error":null},
            {"partition":null,"offset":null,"error_code":50003,"error":"later"},
            {"partition":null,"offset":null,"error_code":50002,"error":"too large"}],
            "key_schema_id":null,"value_schema_id":null}"#;
        assert_eq!(letters(3, 200, confluent), "ArX");
        let strimzi =
            r#"{"offsets":[{"partition":0,"offset":7},{"error_code":500,"message":"broker"}]}"#;
        assert_eq!(letters(2, 200, strimzi), "Ar");
        let karapace = r#"{"offsets":[{"offset":5,"partition":0},{"error_code":1,"error":"timed out"},{"error_code":1,"error":"bad"},{"error_code":2,"error":"x"}]}"#;
        assert_eq!(letters(4, 422, karapace), "ArXr");
        assert_eq!(
            letters(1, 200, r#"{"offsets":[{"partition":0,"offset":-1}]}"#),
            "r"
        );
        assert_eq!(letters(1, 200, r#"{"offsets":[{"partition":0}]}"#), "r");
        assert_eq!(
            letters(1, 403, r#"{"offsets":[{"error_code":40301,"error":"no"}]}"#),
            "S"
        );
        assert_eq!(
            letters(
                1,
                200,
                r#"{"offsets":[{"error_code":404,"message":"not present in metadata"}]}"#
            ),
            "S"
        );
    }

    #[test]
    fn fewer_results_than_records_are_redpandas_partitions_or_no_proof() {
        assert_eq!(
            letters(
                3,
                200,
                r#"{"offsets":[{"partition":0,"offset":4},{"partition":1,"offset":9}]}"#
            ),
            "AAA"
        );
        assert_eq!(
            letters(
                3,
                200,
                r#"{"offsets":[{"partition":0,"offset":4},{"partition":0,"offset":9}]}"#
            ),
            "rrr"
        );
        let error = r#"{"offsets":[{"partition":0,"offset":4},{"partition":1,"error_code":3,"offset":-1}]}"#;
        assert_eq!(letters(3, 200, error), "rrr");
        let large = r#"{"offsets":[{"partition":0,"error_code":10,"offset":-1}]}"#;
        assert_eq!(letters(3, 200, large), "hhh");
        assert_eq!(letters(1, 200, large), "X");
        assert_eq!(
            letters(
                1,
                200,
                r#"{"offsets":[{"partition":0,"offset":4},{"partition":1,"offset":9}]}"#
            ),
            "r"
        );
    }

    #[test]
    fn what_is_not_a_result_proves_nothing() {
        for body in [
            "",
            "{}",
            "[]",
            "null",
            r#"{"offsets":[]}"#,
            r#"{"offsets":[{"parti"#,
            "<html>ok</html>",
        ] {
            assert_eq!(letters(2, 200, body), "rr", "{body}");
        }
    }

    #[test]
    fn errors_of_the_whole_request_are_told_apart_by_code_then_by_status() {
        let cases = [
            (
                404,
                r#"{"error_code":40401,"message":"Topic not found."}"#,
                "S",
            ),
            (
                404,
                r#"{"error_code":40404,"message":"Leader not available."}"#,
                "r",
            ),
            (
                415,
                r#"{"error_code":415,"message":"HTTP 415 Unsupported Media Type"}"#,
                "S",
            ),
            (413, r#"{"error_code":413,"message":"too big"}"#, "h"),
            (
                422,
                r#"{"error_code":422,"message":"Unrecognized field: x"}"#,
                "h",
            ),
            (429, r#"{"error_code":42901,"message":"slow"}"#, "t"),
            (500, r#"{"error_code":50002,"message":"no"}"#, "h"),
            (500, r#"{"error_code":50003,"message":"later"}"#, "r"),
            (
                503,
                r#"{"error_code":503,"message":"Bridge is overloaded, please retry later"}"#,
                "r",
            ),
            (403, r#"{"message":"Missing Authentication Token"}"#, "S"),
            (429, r#"{"message":"Too Many Requests"}"#, "t"),
            (429, r#"{"message":"Limit Exceeded"}"#, "S"),
            (504, r#"{"message":"Endpoint request timed out"}"#, "r"),
            (502, "", "r"),
            (302, "", "S"),
        ];
        for (status, body, expected) in cases {
            assert_eq!(letters(1, status, body), expected, "{status} {body}");
        }
    }

    #[test]
    fn only_a_definite_not_found_says_that_a_topic_is_missing() {
        assert!(is_missing(&answer(
            404,
            r#"{"error_code":40401,"message":"Topic not found."}"#
        )));
        assert!(!is_missing(&answer(404, "<html>")));
        assert!(!is_missing(&answer(
            403,
            r#"{"message":"Missing Authentication Token"}"#
        )));
        assert!(!is_missing(&answer(200, "{}")));
    }
}
