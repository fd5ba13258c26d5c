//! Every answer that a proxy, a gateway or Kinesis is known to give, as it is sent, with what it means for each record.

#![expect(clippy::too_many_lines, reason = "tables of cases are long")]

use bytes::Bytes;

use super::{
    Answer, Sink, Verdict,
    kafka_rest::{KafkaRest, RecordKey},
    kinesis_gateway::{Endpoint, KinesisGateway, PartitionKey},
};

/// HTTP status, `x-amzn-ErrorType`, body, and for each of the records that were sent: A acknowledged, r try again, t throttled, h try
/// the halves (alone: rejected), X rejected, S the run stops.
type Case = (u16, &'static str, &'static str, &'static str);

fn kafka() -> Sink {
    Sink::KafkaRest(KafkaRest::new("p", RecordKey::None))
}

fn kinesis(endpoint: Endpoint) -> Sink {
    Sink::KinesisGateway(KinesisGateway::new("p", endpoint, PartitionKey::Index))
}

#[track_caller]
fn check(sink: &Sink, cases: &[Case]) {
    for (status, error_type, body, expected) in cases {
        let answer = Answer {
            status: *status,
            error_type: (!error_type.is_empty()).then(|| (*error_type).to_owned()),
            body: Bytes::copy_from_slice(body.as_bytes()),
            ..Answer::default()
        };
        let letters: String = sink
            .verdicts(expected.len(), &answer)
            .iter()
            .map(letter)
            .collect();
        assert_eq!(letters, *expected, "{status} {error_type} {body}");
    }
}

fn letter(verdict: &Verdict) -> char {
    match verdict {
        Verdict::Acknowledged => 'A',
        Verdict::Retry(_) => 'r',
        Verdict::Throttled(_) => 't',
        Verdict::Halve(_) => 'h',
        Verdict::Reject(_) => 'X',
        Verdict::Stop(..) => 'S',
    }
}

#[test]
fn confluent_tells_the_fate_of_each_record_whatever_the_status_is() {
    check(
        &kafka(),
        &[
            (
                200,
                "",
                r#"{"key_schema_id":null,"value_schema_id":null,"offsets":[{"partition":2,"offset":100,"error_code":null,"error":null}]}"#,
                "A",
            ),
            (
                200,
                "",
                r#"{"offsets":[{"partition":0,"offset":0,"error_code":null,"error":null},{"partition":null,"offset":null,"error_code":50003,"error":"Topic x not present in metadata after 60000 ms."}]}"#,
                "Ar",
            ),
            (
                200,
                "",
                r#"{"offsets":[{"partition":null,"offset":null,"error_code":50002,"error":"The message is 1100038 bytes when serialized which is larger than 1048576"},{"partition":1,"offset":7,"error_code":null,"error":null}]}"#,
                "XA",
            ),
            (
                200,
                "",
                r#"{"offsets":[{"partition":null,"offset":null,"error_code":1,"error":"no"},{"partition":null,"offset":null,"error_code":2,"error":"later"}]}"#,
                "Xr",
            ),
            (
                401,
                "",
                r#"{"offsets":[{"partition":null,"offset":null,"error_code":40101,"error":"Authentication failed"}]}"#,
                "S",
            ),
            (
                403,
                "",
                r#"{"offsets":[{"partition":null,"offset":null,"error_code":40301,"error":"Not authorized to access topics: [p.pin]"}]}"#,
                "S",
            ),
        ],
    );
}

#[test]
fn errors_of_a_whole_request_go_by_their_code() {
    check(
        &kafka(),
        &[
            (
                400,
                "",
                r#"{"error_code":400,"message":"Unexpected end-of-input"}"#,
                "hh",
            ),
            (
                400,
                "",
                r#"{"error_code":40002,"message":"Invalid topic"}"#,
                "hh",
            ),
            (
                401,
                "",
                r#"{"error_code":40101,"message":"Authentication failed"}"#,
                "SS",
            ),
            (
                403,
                "",
                r#"{"error_code":40301,"message":"Not authorized"}"#,
                "SS",
            ),
            (
                404,
                "",
                r#"{"error_code":404,"message":"HTTP 404 Not Found"}"#,
                "SS",
            ),
            (
                404,
                "",
                r#"{"error_code":40401,"message":"Topic not found."}"#,
                "SS",
            ),
            (
                404,
                "",
                r#"{"error_code":40402,"message":"Partition not found."}"#,
                "SS",
            ),
            (
                404,
                "",
                r#"{"error_code":40403,"message":"This server does not host this topic-partition."}"#,
                "SS",
            ),
            (
                404,
                "",
                r#"{"error_code":40404,"message":"Leader not available."}"#,
                "rr",
            ),
            (
                406,
                "",
                r#"{"error_code":406,"message":"HTTP 406 Not Acceptable"}"#,
                "SS",
            ),
            (
                415,
                "",
                r#"{"error_code":415,"message":"HTTP 415 Unsupported Media Type"}"#,
                "SS",
            ),
            (
                408,
                "",
                r#"{"error_code":40801,"message":"Error serializing"}"#,
                "rr",
            ),
            (413, "", r#"{"error_code":413,"message":"too large"}"#, "hh"),
            (
                422,
                "",
                r#"{"error_code":422,"message":"Unrecognized field: ind"}"#,
                "hh",
            ),
            (
                422,
                "",
                r#"{"error_code":42203,"message":"Conversion of JSON failed"}"#,
                "hh",
            ),
            (
                429,
                "",
                r#"{"error_code":429,"message":"Rate limit exceeded"}"#,
                "tt",
            ),
            (
                429,
                "",
                r#"{"error_code":42901,"message":"The throttling quota has been exceeded"}"#,
                "tt",
            ),
            (
                500,
                "",
                r#"{"error_code":500,"message":"Internal Server Error"}"#,
                "rr",
            ),
            (
                500,
                "",
                r#"{"error_code":50002,"message":"Kafka error"}"#,
                "hh",
            ),
            (
                500,
                "",
                r#"{"error_code":50003,"message":"Retriable Kafka error"}"#,
                "rr",
            ),
            (
                501,
                "",
                r#"{"error_code":50101,"message":"Only SSL endpoints were found"}"#,
                "SS",
            ),
            (
                503,
                "",
                r#"{"error_code":50302,"message":"Broker not available"}"#,
                "rr",
            ),
        ],
    );
}

#[test]
fn strimzi_answers_200_with_errors_of_its_own_shape() {
    check(
        &kafka(),
        &[
            (
                200,
                "",
                r#"{"offsets":[{"partition":0,"offset":5},{"error_code":500,"message":"Expiring 1 record(s)"}]}"#,
                "Ar",
            ),
            (
                200,
                "",
                r#"{"offsets":[{"error_code":500,"message":"The request included a message larger than the max message size the server will accept."},{"partition":0,"offset":5}]}"#,
                "XA",
            ),
            (
                200,
                "",
                r#"{"offsets":[{"error_code":500,"message":"The message is 1100038 bytes when serialized which is larger than 1048576, which is the value of the max.request.size configuration."}]}"#,
                "X",
            ),
            (
                200,
                "",
                r#"{"offsets":[{"error_code":404,"message":"Topic p.pin not present in metadata after 60000 ms."}]}"#,
                "S",
            ),
            (
                400,
                "",
                r#"{"error_code":400,"message":"The format of the request body is not supported"}"#,
                "hh",
            ),
            (
                500,
                "",
                r#"{"error_code":500,"message":"Unrecognized content type"}"#,
                "rr",
            ),
            (
                503,
                "",
                r#"{"error_code":503,"message":"Bridge is overloaded, please retry later"}"#,
                "rr",
            ),
        ],
    );
}

#[test]
fn karapace_answers_422_with_results_and_codes_its_timeouts_as_permanent() {
    check(
        &kafka(),
        &[
            (
                200,
                "",
                r#"{"key_schema_id":null,"offsets":[{"offset":3,"partition":0}],"value_schema_id":null}"#,
                "A",
            ),
            (
                422,
                "",
                r#"{"offsets":[{"offset":3,"partition":0},{"error":"timed out waiting for publish","error_code":1},{"error":"Publish message cancelled","error_code":1},{"error":"MessageSizeTooLargeError","error_code":1},{"error":"broker moved","error_code":2}]}"#,
                "ArrXr",
            ),
            (
                404,
                "",
                r#"{"error_code":40401,"message":"Topic p.pin not found"}"#,
                "SS",
            ),
            (
                413,
                "",
                r#"{"error_code":413,"message":"Maximum request body size 1048576 exceeded, actual body size 2097152"}"#,
                "hh",
            ),
            (
                422,
                "",
                r#"{"error_code":422,"message":"Invalid request format"}"#,
                "hh",
            ),
            (503, "", r#"{"message":"Service unavailable"}"#, "rr"),
        ],
    );
}

#[test]
fn redpanda_answers_one_entry_for_each_partition() {
    check(
        &kafka(),
        &[
            (
                200,
                "",
                r#"{"offsets":[{"partition":0,"offset":10}]}"#,
                "AAA",
            ),
            (
                200,
                "",
                r#"{"offsets":[{"partition":0,"offset":10},{"partition":2,"offset":4}]}"#,
                "AAA",
            ),
            (
                200,
                "",
                r#"{"offsets":[{"partition":0,"error_code":3,"offset":-1}]}"#,
                "rrr",
            ),
            (
                200,
                "",
                r#"{"offsets":[{"partition":0,"offset":10},{"partition":1,"error_code":6,"offset":-1}]}"#,
                "rrr",
            ),
            (
                200,
                "",
                r#"{"offsets":[{"partition":0,"error_code":10,"offset":-1}]}"#,
                "hhh",
            ),
            (
                200,
                "",
                r#"{"offsets":[{"partition":0,"error_code":10,"offset":-1}]}"#,
                "X",
            ),
            (
                200,
                "",
                r#"{"offsets":[{"partition":0,"error_code":29,"offset":-1}]}"#,
                "SSS",
            ),
            (
                429,
                "",
                r#"{"error_code":429,"message":"Too many requests"}"#,
                "tt",
            ),
            (
                503,
                "",
                r#"{"error_code":503,"message":"Service unavailable"}"#,
                "rr",
            ),
        ],
    );
}

#[test]
fn a_gateway_is_told_apart_from_what_stands_behind_it() {
    let cases: &[Case] = &[
        (
            403,
            "MissingAuthenticationTokenException",
            r#"{"message":"Missing Authentication Token"}"#,
            "SS",
        ),
        (
            403,
            "ForbiddenException",
            r#"{"message":"Forbidden"}"#,
            "SS",
        ),
        (
            403,
            "InvalidSignatureException",
            r#"{"message":"The request signature we calculated does not match"}"#,
            "SS",
        ),
        (
            403,
            "ExpiredTokenException",
            r#"{"message":"The security token included in the request is expired"}"#,
            "SS",
        ),
        (
            403,
            "AccessDeniedException",
            r#"{"Message":"User: anonymous is not authorized to perform: execute-api:Invoke"}"#,
            "SS",
        ),
        (
            403,
            "WafFilteredException",
            r#"{"message":"Forbidden"}"#,
            "SS",
        ),
        (
            400,
            "BadRequestException",
            r#"{"message":"Invalid request body"}"#,
            "hh",
        ),
        (
            413,
            "RequestTooLargeException",
            r#"{"message":"Request Too Long"}"#,
            "hh",
        ),
        (
            415,
            "BadRequestException",
            r#"{"message":"Unsupported Media Type"}"#,
            "SS",
        ),
        (
            429,
            "TooManyRequestsException",
            r#"{"message":"Too Many Requests"}"#,
            "tt",
        ),
        (
            429,
            "LimitExceededException",
            r#"{"message":"Limit Exceeded"}"#,
            "SS",
        ),
        (
            500,
            "ApiConfigurationException",
            r#"{"message":"Internal server error"}"#,
            "rr",
        ),
        (
            502,
            "InternalServerErrorException",
            r#"{"message":"Internal server error"}"#,
            "rr",
        ),
        (
            504,
            "InternalServerErrorException",
            r#"{"message":"Endpoint request timed out"}"#,
            "rr",
        ),
        (
            504,
            "InternalServerErrorException",
            r#"{"message":"Network error communicating with endpoint"}"#,
            "rr",
        ),
    ];
    check(&kafka(), cases);
    check(&kinesis(Endpoint::Records), cases);
}

#[test]
fn kinesis_errors_come_inside_of_http_200() {
    let retried = [
        "InternalFailureException",
        "InternalFailure",
        "RequestTimeout",
        "ServiceUnavailable",
        "RequestExpired",
        "ResourceInUseException",
    ];
    let throttled = [
        "ProvisionedThroughputExceededException",
        "KMSThrottlingException",
        "ThrottlingException",
        "LimitExceededException",
    ];
    let stopping = [
        "ResourceNotFoundException",
        "AccessDeniedException",
        "UnrecognizedClientException",
        "ExpiredTokenException",
        "KMSDisabledException",
        "KMSInvalidStateException",
        "KMSAccessDeniedException",
        "KMSNotFoundException",
        "KMSOptInRequired",
    ];
    let halved = [
        "InvalidArgumentException",
        "ValidationException",
        "SerializationException",
        "DryRunOperationException",
    ];
    for (errors, expected) in [
        (&retried[..], 'r'),
        (&throttled, 't'),
        (&stopping, 'S'),
        (&halved, 'h'),
    ] {
        for error in errors {
            for body in [
                format!(r#"{{"__type":"{error}","message":"x"}}"#),
                format!(r#"{{"__type":"com.amazonaws.kinesis.v20131202#{error}","Message":"x"}}"#),
                format!(r#"{{"__type":"{error}"}}"#),
            ] {
                for status in [200, 400, 500] {
                    let answer = Answer {
                        status,
                        body: Bytes::from(body.clone()),
                        ..Answer::default()
                    };
                    for (endpoint, sent) in [(Endpoint::Record, 1), (Endpoint::Records, 2)] {
                        let verdicts = kinesis(endpoint).verdicts(sent, &answer);
                        assert!(
                            verdicts.len() == sent
                                && verdicts.iter().all(|verdict| letter(verdict) == expected),
                            "{status} {body}: {verdicts:?}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn put_records_is_judged_by_its_entries_and_not_by_its_count() {
    check(
        &kinesis(Endpoint::Records),
        &[
            (
                200,
                "",
                r#"{"FailedRecordCount":0,"Records":[{"SequenceNumber":"49","ShardId":"shardId-000000000000"},{"SequenceNumber":"50","ShardId":"shardId-000000000001","EncryptionType":"KMS"}]}"#,
                "AA",
            ),
            (
                200,
                "",
                r#"{"FailedRecordCount":1,"Records":[{"ErrorCode":"InternalFailure","ErrorMessage":"Internal service failure."},{"ErrorCode":"ProvisionedThroughputExceededException","ErrorMessage":"Rate exceeded for shard shardId-000000000001"}]}"#,
                "rt",
            ),
            (
                200,
                "",
                r#"{"FailedRecordCount":0,"Records":[{"SequenceNumber":"49","ShardId":"shardId-000000000000"},{}]}"#,
                "Ar",
            ),
            (
                200,
                "",
                r#"{"FailedRecordCount":0,"Records":[{"SequenceNumber":"49","ShardId":"shardId-000000000000"}]}"#,
                "rr",
            ),
            // AWS Solutions Constructs maps an error 500 to this page.
            (500, "", "Error", "rr"),
        ],
    );
    check(
        &kinesis(Endpoint::Record),
        &[
            (
                200,
                "",
                r#"{"SequenceNumber":"49","ShardId":"shardId-000000000004"}"#,
                "A",
            ),
            (200, "", r#"{"SequenceNumber":"49"}"#, "r"),
        ],
    );
}

#[test]
fn what_proves_nothing_is_tried_again() {
    for body in [
        "",
        "{}",
        "[]",
        "null",
        "Hello",
        "<!DOCTYPE html><html>",
        r#"{"offsets":[]}"#,
        r#"{"offsets":[{"partition":0,"off"#,
        r#"{"Records":[]}"#,
        r#"{"SequenceNumber":"4"#,
    ] {
        for sink in [
            kafka(),
            kinesis(Endpoint::Record),
            kinesis(Endpoint::Records),
        ] {
            let answer = Answer {
                status: 200,
                body: Bytes::from_static(body.as_bytes()),
                ..Answer::default()
            };
            assert_eq!(
                letter(&sink.verdicts(1, &answer)[0]),
                'r',
                "{sink:?} {body}"
            );
        }
    }
}
