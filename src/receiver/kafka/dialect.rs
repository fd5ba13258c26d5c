//! The four proxies, and how each words what concerns a request as a whole. Pure.

use std::fmt::Display;

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::receiver::answer::{Answer, Speaker};

/// Whose proxy is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Confluent,
    /// Strimzi's bridge.
    Strimzi,
    Karapace,
    /// The proxy inside Redpanda's broker.
    Redpanda,
}

/// What is wrong with the body of a produce request.
#[derive(Debug)]
pub(super) enum Flaw<'a> {
    /// It is not JSON.
    Syntax(&'a serde_json::Error),
    UnknownField(&'a str),
    /// It is JSON of another shape.
    Shape(&'a serde_json::Error),
    Nothing,
    NoRecords,
    /// One of its values has a type that this proxy does not take.
    Type(&'a str),
}

impl Dialect {
    /// The same shape in all of them.
    pub(super) fn error(status: StatusCode, code: u32, message: impl Display) -> Answer {
        let message = Value::from(message.to_string());
        let body = format!(r#"{{"error_code":{code},"message":{message}}}"#);
        Answer::new(Speaker::KafkaProxy, status, body.into_bytes())
    }

    pub(super) fn http_error(status: StatusCode) -> Answer {
        let code = u32::from(status.as_u16());
        Self::error(status, code, format_args!("HTTP {status}"))
    }

    /// A body that cannot be taken.
    pub(super) fn malformed(self, flaw: &Flaw<'_>) -> Answer {
        match self {
            Self::Confluent => confluent_malformed(flaw),
            Self::Strimzi => strimzi_malformed(flaw),
            Self::Karapace => karapace_malformed(flaw),
            Self::Redpanda => {
                let message = match flaw {
                    Flaw::Syntax(error) | Flaw::Shape(error) => {
                        format!("parse error at offset {}", error.column())
                    }
                    _ => "parse error at offset 0".to_owned(),
                };
                Self::error(StatusCode::UNPROCESSABLE_ENTITY, 422, message)
            }
        }
    }

    /// What it says along with a status that a fault asks for.
    pub(in crate::receiver) fn refused(self, status: StatusCode) -> Answer {
        let plain = u32::from(status.as_u16());
        let reason = status.canonical_reason().unwrap_or("Unknown Status");
        let (code, message) = match (self, status.as_u16()) {
            (Self::Confluent, 401) => (40101, "Authentication failed."),
            (Self::Confluent, 403) => (40301, "Not authorized to access topics"),
            (Self::Confluent, 404) => (40401, "Topic not found."),
            (Self::Confluent, 408) => (40801, "Error serializing message"),
            (Self::Confluent, 429) => (42901, "The throttling quota has been exceeded."),
            (Self::Confluent, 503) => (50302, "The broker is not available."),
            (Self::Strimzi, 503) => (plain, "Bridge is overloaded, please retry later"),
            (Self::Confluent, 500) | (Self::Strimzi, _) => (plain, reason),
            (Self::Karapace, 413) => return karapace_too_large(),
            (Self::Karapace, 500) => (plain, "Internal server error"),
            (Self::Karapace, 503) => (plain, "Service unavailable"),
            (Self::Redpanda, 429 | 503) => {
                return Answer {
                    retry_at_once: true,
                    ..Answer::new(Speaker::KafkaProxy, status, Vec::new())
                };
            }
            _ => return Self::http_error(status),
        };
        Self::error(status, code, message)
    }

    /// What it says when there are too many requests. `None`: nothing, it has no such limit.
    pub(in crate::receiver) fn throttled(self) -> Option<Answer> {
        match self {
            Self::Confluent | Self::Redpanda => Some(self.refused(StatusCode::TOO_MANY_REQUESTS)),
            Self::Strimzi => Some(self.refused(StatusCode::SERVICE_UNAVAILABLE)),
            Self::Karapace => None,
        }
    }
}

fn confluent_malformed(flaw: &Flaw<'_>) -> Answer {
    let unprocessable =
        |message: &str| Dialect::error(StatusCode::UNPROCESSABLE_ENTITY, 422, message);
    match flaw {
        Flaw::Syntax(error) | Flaw::Shape(error) => {
            Dialect::error(StatusCode::BAD_REQUEST, 400, error)
        }
        Flaw::UnknownField(field) => unprocessable(&format!("Unrecognized field: {field}")),
        Flaw::Nothing => unprocessable("The request body must not be null"),
        Flaw::NoRecords => unprocessable("records must not be empty"),
        Flaw::Type(message) => unprocessable(message),
    }
}

/// The bridge holds a body against its `OpenAPI` contract before it looks at it.
fn strimzi_malformed(flaw: &Flaw<'_>) -> Answer {
    let what = match flaw {
        Flaw::Syntax(error) | Flaw::Shape(error) => error.to_string(),
        Flaw::UnknownField(field) => {
            format!("Property \"{field}\" does not match additional properties schema")
        }
        Flaw::Nothing => "The related request does not contain the required body".to_owned(),
        Flaw::NoRecords => "Instance does not have required property \"records\"".to_owned(),
        Flaw::Type(message) => (*message).to_owned(),
    };
    let body = json!({
        "error_code": 400,
        "message": format!("Validation error on: {what}"),
        "validation_errors": [what],
    });
    let body = body.to_string().into_bytes();
    Answer::new(Speaker::KafkaProxy, StatusCode::BAD_REQUEST, body)
}

fn karapace_malformed(flaw: &Flaw<'_>) -> Answer {
    let bad = |message: &str| Dialect::error(StatusCode::BAD_REQUEST, 400, message);
    match flaw {
        Flaw::Syntax(_) => Answer::new(
            Speaker::KafkaProxy,
            StatusCode::BAD_REQUEST,
            b"Invalid request JSON body".to_vec(),
        ),
        Flaw::Shape(_) => bad("Produce record must be an object"),
        Flaw::Type(message) => bad(message),
        Flaw::UnknownField(_) | Flaw::Nothing | Flaw::NoRecords => Dialect::error(
            StatusCode::UNPROCESSABLE_ENTITY,
            422,
            "Invalid request format",
        ),
    }
}

pub(super) fn karapace_too_large() -> Answer {
    let message = "HTTP Request Entity Too Large";
    Dialect::error(StatusCode::PAYLOAD_TOO_LARGE, 413, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_proxy_has_words_of_its_own_for_a_status() {
        for (dialect, status, body) in [
            (
                Dialect::Confluent,
                503,
                r#"{"error_code":50302,"message":"The broker is not available."}"#,
            ),
            (
                Dialect::Confluent,
                500,
                r#"{"error_code":500,"message":"Internal Server Error"}"#,
            ),
            (
                Dialect::Confluent,
                429,
                r#"{"error_code":42901,"message":"The throttling quota has been exceeded."}"#,
            ),
            (
                Dialect::Confluent,
                418,
                r#"{"error_code":418,"message":"HTTP 418 I'm a teapot"}"#,
            ),
            (
                Dialect::Strimzi,
                503,
                r#"{"error_code":503,"message":"Bridge is overloaded, please retry later"}"#,
            ),
            (
                Dialect::Strimzi,
                500,
                r#"{"error_code":500,"message":"Internal Server Error"}"#,
            ),
            (
                Dialect::Karapace,
                503,
                r#"{"error_code":503,"message":"Service unavailable"}"#,
            ),
            (
                Dialect::Karapace,
                413,
                r#"{"error_code":413,"message":"HTTP Request Entity Too Large"}"#,
            ),
            (Dialect::Redpanda, 503, ""),
            (Dialect::Redpanda, 429, ""),
        ] {
            let answer = dialect.refused(StatusCode::from_u16(status).unwrap());
            assert_eq!(answer.status.as_u16(), status);
            assert_eq!(
                String::from_utf8(answer.body).unwrap(),
                body,
                "{dialect:?} {status}"
            );
            assert_eq!(answer.retry_at_once, dialect == Dialect::Redpanda);
        }
    }
}
