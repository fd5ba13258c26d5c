//! What the proxy answers, in Confluent's shape. Pure.

use std::fmt::Display;

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::receiver::answer::{Answer, Speaker, push};

pub(super) const NOT_RETRIABLE: u32 = 50002;
pub(super) const RETRIABLE: u32 = 50003;

/// Why one record of a request was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::receiver) struct Refusal {
    pub(super) code: u32,
    pub(super) message: String,
}

/// What became of one record.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::receiver) enum Fate {
    Landed { partition: u32, offset: u64 },
    Refused(Refusal),
}

/// A proxy finds out that a topic is missing after a minute of asking for it, once for every record.
pub(in crate::receiver) fn missing_topic(topic: &str) -> Refusal {
    Refusal {
        code: RETRIABLE,
        message: format!("Topic {topic} not present in metadata after 60000 ms."),
    }
}

pub(in crate::receiver) fn illegal_topic(topic: &str) -> Refusal {
    Refusal {
        code: NOT_RETRIABLE,
        message: format!("Invalid topics: [{topic}]"),
    }
}

/// The answer to a produce request: one entry a record, in the order of the request.
pub(in crate::receiver) fn produced(fates: &[Fate]) -> Answer {
    let mut body = Vec::with_capacity(64 + 64 * fates.len());
    body.extend_from_slice(br#"{"offsets":["#);
    for (index, fate) in fates.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        match fate {
            Fate::Landed { partition, offset } => push(
                &mut body,
                format_args!(
                    r#"{{"partition":{partition},"offset":{offset},"error_code":null,"error":null}}"#
                ),
            ),
            Fate::Refused(Refusal { code, message }) => push(
                &mut body,
                format_args!(
                    r#"{{"partition":null,"offset":null,"error_code":{code},"error":{}}}"#,
                    Value::from(message.as_str())
                ),
            ),
        }
    }
    body.extend_from_slice(br#"],"key_schema_id":null,"value_schema_id":null}"#);
    Answer::new(Speaker::KafkaProxy, StatusCode::OK, body)
}

pub(in crate::receiver) fn topics(names: &[String]) -> Answer {
    Answer::new(
        Speaker::KafkaProxy,
        StatusCode::OK,
        json!(names).to_string().into_bytes(),
    )
}

/// What a proxy tells of a topic; `None`: there is none of this name.
pub(in crate::receiver) fn topic(name: &str, partitions: Option<u32>) -> Answer {
    let Some(partitions) = partitions else {
        return error(StatusCode::NOT_FOUND, 40401, "Topic not found.");
    };
    let mut body = Vec::new();
    push(
        &mut body,
        format_args!(r#"{{"name":"{name}","configs":{{"cleanup.policy":"delete"}},"partitions":["#),
    );
    for partition in 0..partitions {
        let comma = if partition == 0 { "" } else { "," };
        push(
            &mut body,
            format_args!(
                r#"{comma}{{"partition":{partition},"leader":0,"replicas":[{{"broker":0,"leader":true,"in_sync":true}}]}}"#
            ),
        );
    }
    body.extend_from_slice(b"]}");
    Answer::new(Speaker::KafkaProxy, StatusCode::OK, body)
}

/// Nothing of the request is acknowledged.
pub(in crate::receiver) fn not_landed(cause: impl Display) -> Answer {
    error(StatusCode::INTERNAL_SERVER_ERROR, NOT_RETRIABLE, cause)
}

pub(super) fn http_error(status: StatusCode) -> Answer {
    error(
        status,
        u32::from(status.as_u16()),
        format_args!("HTTP {status}"),
    )
}

pub(super) fn error(status: StatusCode, code: u32, message: impl Display) -> Answer {
    let message = Value::from(message.to_string());
    let body = format!(r#"{{"error_code":{code},"message":{message}}}"#);
    Answer::new(Speaker::KafkaProxy, status, body.into_bytes())
}
