//! What Kinesis answers, and the lines its records land as. Pure.

use hyper::StatusCode;
use serde_json::Value;

use super::{ACCOUNT, Record};
use crate::receiver::{
    answer::{Answer, Speaker, push},
    catalog::Known,
    fault::Passing,
    json::value_or_string,
};

pub(in crate::receiver) fn shard_id(shard: u32) -> String {
    format!("shardId-{shard:012}")
}

/// What all sequence numbers start with; the position follows with the rest of the 56 digits, so that text sorts like numbers.
pub(in crate::receiver) const SEQUENCE_PREFIX: &str = "495";
pub(in crate::receiver) const SEQUENCE_DIGITS: usize = 53;

/// Where a record went.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::receiver) struct Receipt {
    pub(in crate::receiver) shard: u32,
    pub(in crate::receiver) position: u64,
}

/// Why one record was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::receiver) enum Refusal {
    Rejected,
    Failed { shard: u32, how: Passing },
}

impl Refusal {
    fn code(self) -> &'static str {
        match self {
            Self::Rejected => "InvalidArgumentException",
            Self::Failed { how, .. } => match how {
                Passing::Elsewhere => "ProvisionedThroughputExceededException",
                Passing::Late => "InternalFailure",
            },
        }
    }

    fn message(self, stream: &str) -> String {
        match self {
            Self::Rejected => {
                format!("The record is larger than stream {stream} under account {ACCOUNT} takes.")
            }
            Self::Failed { shard, how } => match how {
                Passing::Elsewhere => format!(
                    "Rate exceeded for shard {} in stream {stream} under account {ACCOUNT}.",
                    shard_id(shard)
                ),
                Passing::Late => "Internal service failure.".to_owned(),
            },
        }
    }
}

/// What an operation without a result answers.
pub(in crate::receiver) fn done() -> Answer {
    ok(b"{}".to_vec())
}

pub(in crate::receiver) fn stream_not_found(stream: &str) -> Answer {
    let message = format!("Stream {stream} under account {ACCOUNT} not found.");
    error("ResourceNotFoundException", Some(&message))
}

pub(in crate::receiver) fn stream_exists(stream: &str) -> Answer {
    let message = format!("Stream {stream} under account {ACCOUNT} already exists.");
    error("ResourceInUseException", Some(&message))
}

/// Nothing of the request is acknowledged.
pub(in crate::receiver) fn not_landed(cause: &str) -> Answer {
    error("InternalFailure", Some(cause))
}

pub(in crate::receiver) fn put_record(stream: &str, result: &Result<Receipt, Refusal>) -> Answer {
    match result {
        Ok(receipt) => {
            let mut body = Vec::with_capacity(128);
            receipt.render(&mut body);
            ok(body)
        }
        Err(refusal) => error(refusal.code(), Some(&refusal.message(stream))),
    }
}

pub(in crate::receiver) fn put_records(
    stream: &str,
    results: &[Result<Receipt, Refusal>],
) -> Answer {
    let failed = results.iter().filter(|result| result.is_err()).count();
    let mut body = Vec::with_capacity(64 + 128 * results.len());
    push(
        &mut body,
        format_args!(r#"{{"FailedRecordCount":{failed},"Records":["#),
    );
    for (index, result) in results.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        match result {
            Ok(receipt) => receipt.render(&mut body),
            Err(refusal) => push(
                &mut body,
                format_args!(
                    r#"{{"ErrorCode":"{}","ErrorMessage":{}}}"#,
                    refusal.code(),
                    Value::from(refusal.message(stream))
                ),
            ),
        }
    }
    body.extend_from_slice(b"]}");
    ok(body)
}

impl Receipt {
    fn render(&self, out: &mut Vec<u8>) {
        let Self { shard, position } = self;
        push(
            out,
            format_args!(
                r#"{{"SequenceNumber":"{SEQUENCE_PREFIX}{position:0SEQUENCE_DIGITS$}","ShardId":"shardId-{shard:012}"}}"#
            ),
        );
    }
}

/// The line that a record lands as.
pub(in crate::receiver) fn land(
    record: &Record<'_>,
    stream: &str,
    receipt: &Receipt,
    arrived_ms: u128,
    out: &mut Vec<u8>,
) {
    let Receipt { shard, position } = receipt;
    push(
        out,
        format_args!(
            r#"{{"partitionKey":{},"data":{},"stream":"{stream}","shardId":"shardId-{shard:012}","sequenceNumber":"{SEQUENCE_PREFIX}{position:0SEQUENCE_DIGITS$}","approximateArrivalTimestamp":{}.{:03}}}"#,
            Value::from(&*record.key),
            value_or_string(&record.data),
            arrived_ms / 1000,
            arrived_ms % 1000,
        ),
    );
}

pub(in crate::receiver) fn streams(names: &[String]) -> Answer {
    ok(format!(
        r#"{{"HasMoreStreams":false,"StreamNames":{}}}"#,
        Value::from(names)
    )
    .into_bytes())
}

/// `DescribeStream`. A stream that is not ready has no shards to show.
pub(in crate::receiver) fn stream(name: &str, known: Known) -> Answer {
    let (status, shards) = if known.ready {
        ("ACTIVE", known.partitions)
    } else {
        ("CREATING", 0)
    };
    let mut body = Vec::new();
    push(
        &mut body,
        format_args!(
            r#"{{"StreamDescription":{{"EncryptionType":"NONE","EnhancedMonitoring":[{{"ShardLevelMetrics":[]}}],"HasMoreShards":false,"RetentionPeriodHours":24,"Shards":["#
        ),
    );
    let width = u128::MAX / u128::from(shards.max(1));
    for shard in 0..shards {
        let comma = if shard == 0 { "" } else { "," };
        let start = width * u128::from(shard);
        let end = if shard + 1 == shards {
            u128::MAX
        } else {
            start + width - 1
        };
        push(
            &mut body,
            format_args!(
                r#"{comma}{{"HashKeyRange":{{"EndingHashKey":"{end}","StartingHashKey":"{start}"}},"SequenceNumberRange":{{"StartingSequenceNumber":"{SEQUENCE_PREFIX}{:0SEQUENCE_DIGITS$}"}},"ShardId":"shardId-{shard:012}"}}"#,
                0
            ),
        );
    }
    push(
        &mut body,
        format_args!(
            r#"],"StreamARN":"arn:aws:kinesis:us-east-1:{ACCOUNT}:stream/{name}","StreamModeDetails":{{"StreamMode":"PROVISIONED"}},"StreamName":"{name}","StreamStatus":"{status}"}}}}"#
        ),
    );
    ok(body)
}

fn ok(body: Vec<u8>) -> Answer {
    Answer::new(Speaker::Kinesis, StatusCode::OK, body)
}

/// With the status that Kinesis gives it; the gateway may have another way.
pub(super) fn error(error_type: &str, message: Option<&str>) -> Answer {
    let body = match message {
        Some(message) => format!(
            r#"{{"__type":"{error_type}","message":{}}}"#,
            Value::from(message)
        ),
        None => format!(r#"{{"__type":"{error_type}"}}"#),
    };
    let status = match error_type {
        "InternalFailure" => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    };
    Answer::new(Speaker::Kinesis, status, body.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_have_56_digits() {
        let receipt = Receipt {
            shard: 2,
            position: 17,
        };
        let answer = put_record("s", &Ok(receipt));
        let text = String::from_utf8(answer.body).unwrap();
        let expected = format!(
            r#"{{"SequenceNumber":"495{}17","ShardId":"shardId-000000000002"}}"#,
            "0".repeat(51)
        );
        assert_eq!(text, expected);
    }
}
