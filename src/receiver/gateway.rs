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

fn error(status: StatusCode, error_type: &'static str, message: &str) -> Answer {
    let body = format!(r#"{{"message":{}}}"#, Value::from(message)).into_bytes();
    Answer {
        error_type: Some(error_type),
        ..Answer::new(Speaker::Gateway, status, body)
    }
}
