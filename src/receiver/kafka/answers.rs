//! What the proxies answer, each in its shape. Pure.

use std::fmt::Display;

use hyper::StatusCode;
use serde_json::{Value, json};

use super::{dialect::Dialect, refusal::Refusal};
use crate::receiver::answer::{Answer, Speaker, push};

/// What became of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::receiver) enum Fate {
    Landed { partition: u32, offset: u64 },
    Refused { partition: i32, refusal: Refusal },
}

/// The answer to a produce request whose records have met these fates, in the order of the request.
pub(in crate::receiver) fn produced(dialect: Dialect, topic: &str, fates: &[Fate]) -> Answer {
    let mut body = Vec::with_capacity(64 + 64 * fates.len());
    let mut status = StatusCode::OK;
    if dialect == Dialect::Karapace {
        body.extend_from_slice(br#"{"key_schema_id":null,"value_schema_id":null,"offsets":["#);
        if fates
            .iter()
            .any(|fate| matches!(fate, Fate::Refused { .. }))
        {
            status = StatusCode::UNPROCESSABLE_ENTITY;
        }
    } else {
        body.extend_from_slice(br#"{"offsets":["#);
    }
    match dialect {
        Dialect::Confluent => entries(&mut body, fates, |out, fate| confluent(out, fate, topic)),
        Dialect::Strimzi => entries(&mut body, fates, |out, fate| strimzi(out, fate, topic)),
        Dialect::Karapace => entries(&mut body, fates, |out, fate| karapace(out, fate, topic)),
        Dialect::Redpanda => entries(&mut body, &one_a_partition(fates), redpanda),
    }
    body.extend_from_slice(match dialect {
        Dialect::Confluent => br#"],"key_schema_id":null,"value_schema_id":null}"#,
        _ => b"]}",
    });
    Answer::new(Speaker::KafkaProxy, status, body)
}

fn entries(out: &mut Vec<u8>, fates: &[Fate], entry: impl Fn(&mut Vec<u8>, &Fate)) {
    for (index, fate) in fates.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        entry(out, fate);
    }
}

/// The begin of an entry, without the machinery of formats: one is written for each record.
fn landed(out: &mut Vec<u8>, partition: u32, offset: u64) {
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(br#"{"partition":"#);
    out.extend_from_slice(digits.format(partition).as_bytes());
    out.extend_from_slice(br#","offset":"#);
    out.extend_from_slice(digits.format(offset).as_bytes());
}

fn confluent(out: &mut Vec<u8>, fate: &Fate, topic: &str) {
    match fate {
        Fate::Landed { partition, offset } => {
            landed(out, *partition, *offset);
            out.extend_from_slice(br#","error_code":null,"error":null}"#);
        }
        Fate::Refused { partition, refusal } => push(
            out,
            format_args!(
                r#"{{"partition":null,"offset":null,"error_code":{},"error":{}}}"#,
                refusal.confluent_code(),
                Value::from(refusal.java_message(topic, *partition))
            ),
        ),
    }
}

fn strimzi(out: &mut Vec<u8>, fate: &Fate, topic: &str) {
    match fate {
        Fate::Landed { partition, offset } => {
            landed(out, *partition, *offset);
            out.push(b'}');
        }
        Fate::Refused { partition, refusal } => push(
            out,
            format_args!(
                r#"{{"error_code":{},"message":{}}}"#,
                refusal.strimzi_code(),
                Value::from(refusal.java_message(topic, *partition))
            ),
        ),
    }
}

fn karapace(out: &mut Vec<u8>, fate: &Fate, topic: &str) {
    match fate {
        Fate::Landed { partition, offset } => push(
            out,
            format_args!(r#"{{"offset":{offset},"partition":{partition}}}"#),
        ),
        Fate::Refused { refusal, .. } => {
            let (code, message) = refusal.karapace(topic);
            push(
                out,
                format_args!(
                    r#"{{"error_code":{code},"error":{}}}"#,
                    Value::from(message)
                ),
            );
        }
    }
}

fn redpanda(out: &mut Vec<u8>, fate: &Fate) {
    match fate {
        Fate::Landed { partition, offset } => {
            landed(out, *partition, *offset);
            out.push(b'}');
        }
        Fate::Refused { partition, refusal } => push(
            out,
            format_args!(
                r#"{{"partition":{partition},"error_code":{},"offset":-1}}"#,
                refusal.kafka_code()
            ),
        ),
    }
}

/// The first fate of each partition stands for all: its offset is the base of the others.
fn one_a_partition(fates: &[Fate]) -> Vec<Fate> {
    let partition = |fate: &Fate| match *fate {
        Fate::Landed { partition, .. } => i64::from(partition),
        Fate::Refused { partition, .. } => i64::from(partition),
    };
    let mut firsts = fates.to_vec();
    // Stable, so that the first of a partition stays before the others.
    firsts.sort_by_key(partition);
    firsts.dedup_by_key(|fate| partition(fate));
    firsts
}

pub(in crate::receiver) fn topics(names: &[String]) -> Answer {
    let body = json!(names).to_string().into_bytes();
    Answer::new(Speaker::KafkaProxy, StatusCode::OK, body)
}

/// What a proxy tells of a topic; `None`: there is none of this name.
pub(in crate::receiver) fn topic(dialect: Dialect, name: &str, partitions: Option<u32>) -> Answer {
    let not_found = |code, message: &str| Dialect::error(StatusCode::NOT_FOUND, code, message);
    let partitions = match (dialect, partitions) {
        // It has no such route.
        (Dialect::Redpanda, _) => {
            let body = br#"{"message": "Not found", "code": 404}"#.to_vec();
            return Answer::new(Speaker::KafkaProxy, StatusCode::NOT_FOUND, body);
        }
        (_, Some(partitions)) => partitions,
        (Dialect::Confluent, None) => return not_found(40401, "Topic not found."),
        (Dialect::Strimzi, None) => {
            return not_found(404, "This server does not host this topic-partition.");
        }
        (Dialect::Karapace, None) => return not_found(40403, &format!("Topic {name} not found")),
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

/// The answer to a produce request whose topic is refused, for all its records alike.
pub(in crate::receiver) fn no_topic(
    dialect: Dialect,
    topic: &str,
    refusal: Refusal,
    records: usize,
) -> Answer {
    if dialect == Dialect::Karapace {
        let message = format!("Topic {topic} not found");
        return Dialect::error(StatusCode::NOT_FOUND, 40401, message);
    }
    let partition = 0;
    produced(
        dialect,
        topic,
        &vec![Fate::Refused { partition, refusal }; records],
    )
}

/// Nothing of the request is acknowledged.
pub(in crate::receiver) fn not_landed(dialect: Dialect, cause: impl Display) -> Answer {
    let code = match dialect {
        Dialect::Confluent => 50002,
        _ => 500,
    };
    Dialect::error(StatusCode::INTERNAL_SERVER_ERROR, code, cause)
}
