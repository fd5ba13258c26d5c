//! An answer before it becomes HTTP. What it says is decided by `kafka`, `gateway` and `kinesis`.

use std::{fmt, io::Write};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};

static REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
static ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// Who speaks: the two differ in content type and in headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaker {
    KafkaProxy,
    Gateway,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) speaker: Speaker,
    pub(super) status: StatusCode,
    /// The kind of error the gateway names in a header of its own answers.
    pub(super) error_type: Option<&'static str>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn new(speaker: Speaker, status: StatusCode, body: Vec<u8>) -> Self {
        Self {
            speaker,
            status,
            error_type: None,
            body,
        }
    }

    /// `number` is what makes the request id of a gateway's answer unique.
    pub(super) fn into_response(self, number: u64) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(self.body)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        match self.speaker {
            Speaker::KafkaProxy => {
                headers.insert(
                    CONTENT_TYPE,
                    HeaderValue::from_static("application/vnd.kafka.v2+json"),
                );
            }
            Speaker::Gateway => {
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
        response
    }
}

/// Appends formatted text.
pub(super) fn push(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    // Writing to memory cannot fail.
    let _ = out.write_fmt(text);
}
