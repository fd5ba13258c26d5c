//! An answer before it becomes HTTP. What it says is decided by `kafka`, `gateway` and `kinesis`.

use std::{fmt, io::Write};

use hyper::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER},
};

use super::reply::{Extent, Reply};

static REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
static ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// Who speaks: they differ in content type and in headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaker {
    KafkaProxy,
    /// In its own name.
    Gateway,
    /// Kinesis, behind the gateway.
    Kinesis,
    /// Who has nothing to do with it, and has a page to show.
    Stranger,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) speaker: Speaker,
    pub(super) status: StatusCode,
    /// The kind of error the gateway names in a header of its own answers.
    pub(super) error_type: Option<&'static str>,
    /// Whether the client is told that it need not wait before it tries again.
    pub(super) retry_at_once: bool,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn new(speaker: Speaker, status: StatusCode, body: Vec<u8>) -> Self {
        Self {
            speaker,
            status,
            error_type: None,
            retry_at_once: false,
            body,
        }
    }

    /// `number` is what makes the request id of a gateway's answer unique.
    pub(super) fn into_response(self, number: u64, extent: Extent) -> Response<Reply> {
        let mut response = Response::new(Reply::new(self.body.into(), extent));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        match self.speaker {
            Speaker::KafkaProxy => {
                headers.insert(
                    CONTENT_TYPE,
                    HeaderValue::from_static("application/vnd.kafka.v2+json"),
                );
            }
            Speaker::Stranger => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
            }
            Speaker::Gateway | Speaker::Kinesis => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                let id = format!(
                    "{:08x}-0000-4000-8000-{:012x}",
                    number >> 48,
                    number & 0xffff_ffff_ffff
                );
                if let Ok(id) = HeaderValue::try_from(id) {
                    headers.insert(REQUEST_ID.clone(), id);
                }
            }
        }
        if let Some(error_type) = self.error_type {
            headers.insert(ERROR_TYPE.clone(), HeaderValue::from_static(error_type));
        }
        if self.retry_at_once {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("0"));
        }
        response
    }
}

/// Appends formatted text.
pub(super) fn push(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    // Writing to memory cannot fail.
    let _ = out.write_fmt(text);
}
