//! What an API Gateway answers in its own name, before any backend is asked. Pure.

use std::fmt::Display;

use hyper::{HeaderMap, StatusCode, header};
use serde_json::Value;

use super::answer::{Answer, Speaker};

/// The payload limit of a REST API, which cannot be raised.
pub(super) const MAX_BODY: usize = 10 * 1024 * 1024;

/// A wrong path, method or stage: a gateway cannot tell them from a request that it should have been able to authenticate.
pub(super) fn missing_authentication_token() -> Answer {
    error(
        StatusCode::FORBIDDEN,
        "MissingAuthenticationTokenException",
        "Missing Authentication Token",
    )
}

pub(super) fn too_large() -> Answer {
    error(
        StatusCode::PAYLOAD_TOO_LARGE,
        "RequestTooLargeException",
        "Request Too Long",
    )
}

/// The template cannot read the body.
pub(super) fn malformed(cause: impl Display) -> Answer {
    let message = format!("Could not parse request body into json: {cause}");
    error(StatusCode::BAD_REQUEST, "BadRequestException", &message)
}

/// There is a template for `application/json` only, which is also what a body without a type is taken for.
pub(super) fn check_media_type(headers: &HeaderMap) -> Result<(), Answer> {
    let Some(content_type) = headers.get(header::CONTENT_TYPE) else {
        return Ok(());
    };
    let media_type = content_type
        .to_str()
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default();
    if media_type.trim().eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(error(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "BadRequestException",
        "Unsupported Media Type",
    ))
}

/// How errors of the backend come out of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GatewayErrors {
    /// With HTTP status 200, as AWS's tutorial maps them.
    Default200,
    /// With the HTTP status that Kinesis gives them.
    Mapped,
}

/// What it says along with a status that a fault asks for.
pub(super) fn refused(status: StatusCode) -> Answer {
    let (error_type, message) = match status.as_u16() {
        400 => ("BadRequestException", "Invalid request body"),
        401 => ("UnauthorizedException", "Unauthorized"),
        403 => ("ForbiddenException", "Forbidden"),
        413 => return too_large(),
        415 => ("BadRequestException", "Unsupported Media Type"),
        429 => ("TooManyRequestsException", "Too Many Requests"),
        500 | 502 => ("InternalServerErrorException", "Internal server error"),
        503 => ("ServiceUnavailableException", "Service Unavailable"),
        504 => ("InternalServerErrorException", "Endpoint request timed out"),
        code => {
            let error_type = if code < 500 {
                "BadRequestException"
            } else {
                "InternalServerErrorException"
            };
            let message = status.canonical_reason().unwrap_or("Unknown");
            (error_type, message)
        }
    };
    error(status, error_type, message)
}

pub(super) fn throttled() -> Answer {
    refused(StatusCode::TOO_MANY_REQUESTS)
}

/// The page that a network shows whose terms nobody has accepted yet.
pub(super) fn stranger() -> Answer {
    let page = "<!DOCTYPE html>\n<html><head><title>Welcome</title></head>\
                <body><h1>Welcome</h1><p>Please sign in to use this network.</p></body></html>\n";
    Answer::new(Speaker::Stranger, StatusCode::OK, page.into())
}

fn error(status: StatusCode, error_type: &'static str, message: &str) -> Answer {
    let body = format!(r#"{{"message":{}}}"#, Value::from(message)).into_bytes();
    Answer {
        error_type: Some(error_type),
        ..Answer::new(Speaker::Gateway, status, body)
    }
}
