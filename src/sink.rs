//! What differs between the targets, as pure functions: how records become a request, and what an answer proves of each
//! of them. No I/O, no clock. A new target is one file below this one and an arm in each `match` here.

#[cfg(test)]
mod answers;
pub(crate) mod kafka_rest;
pub(crate) mod kinesis_gateway;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use serde::Deserialize;

use crate::{
    failure::Exit,
    post::{Key, Kind, Post},
};
use kafka_rest::KafkaRest;
use kinesis_gateway::KinesisGateway;

/// What to do where a proxy on the way wants to know who sends.
pub(crate) const PROXY_LOGIN: &str =
    "it wants a login: write USER:PASSWORD@ before its host in the variable that names it";

/// Where records go and in which form.
#[derive(Debug, Clone)]
pub(crate) enum Sink {
    KafkaRest(KafkaRest),
    KinesisGateway(KinesisGateway),
}

/// A record on its way, with the key of its row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) key: Key,
    pub(crate) record: &'a [u8],
}

impl<'a> Entry<'a> {
    /// The record of this kind, if the post has one to send.
    pub(crate) fn of(post: &'a Post, kind: Kind) -> Option<Self> {
        Some(Self {
            key: post.key,
            record: post.records[kind].as_ref()?,
        })
    }
}

/// The verb of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Post,
    Put,
}

impl Method {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
        }
    }
}

/// What goes on the wire. `path` starts with `/` and stands below the invoke URL.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) path: Arc<str>,
    pub(crate) content_type: &'static str,
    pub(crate) accept: &'static str,
    pub(crate) body: Bytes,
}

/// What came back, whole.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// `x-amzn-ErrorType`: API Gateway's own word for an error that it made itself.
    pub(crate) error_type: Option<String>,
    pub(crate) retry_after: Option<Duration>,
    /// Where a redirect points.
    pub(crate) location: Option<String>,
    /// The target's clock.
    pub(crate) date: Option<SystemTime>,
    pub(crate) body: Bytes,
}

/// Why a record is not proven, for people and for files; shared by the records of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reason {
    /// HTTP status of the answer; none if there was no answer.
    pub(crate) status: Option<u16>,
    pub(crate) text: Arc<str>,
}

impl Reason {
    /// With what to do about it.
    fn with_cure(self, cure: &str) -> Self {
        Self {
            text: format!("{}; {cure}", self.text).into(),
            ..self
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => write!(f, "HTTP {status}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// What one answer means for one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The body proves it.
    Acknowledged,
    /// Nothing is proven and trying again can help.
    Retry(Reason),
    /// As `Retry`, and the target asks for less.
    Throttled(Reason),
    /// The request is too much, or one of its records is bad and the answer does not say which: try its halves. A single
    /// record is rejected.
    Halve(Reason),
    /// The target refused this record for good.
    Reject(Reason),
    /// The answer would be the same for every record: the run ends with this status.
    Stop(Exit, Reason),
}

/// How a record ended that was not delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The target refused it for good.
    Rejected(Reason),
    /// No answer proved it in time; it may have landed.
    Unproven(Reason),
    /// The run ended first; it may have landed.
    Open,
}

/// A record that was not delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failed {
    /// The place of its post in the batch.
    pub(crate) post: usize,
    pub(crate) kind: Kind,
    pub(crate) fate: Fate,
    /// How many requests carried it.
    pub(crate) attempts: u32,
}

/// A topic or stream as the target describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Described {
    /// Partitions, or shards that take records.
    pub(crate) parts: usize,
    /// Whether there are more of them than the answer lists.
    pub(crate) more: bool,
    /// `ACTIVE` and the like, where the target has such states.
    pub(crate) status: Option<String>,
    /// Whether it grows by itself with what is sent.
    pub(crate) on_demand: bool,
    /// How long it keeps records, where the target says so.
    pub(crate) retention_hours: Option<u64>,
}

/// The names of topics or streams that the target lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) names: Vec<String>,
    /// Whether there are more.
    pub(crate) more: bool,
}

impl Sink {
    /// The name of the topic or stream that takes records of `kind`.
    pub(crate) fn target(&self, kind: Kind) -> &str {
        match self {
            Self::KafkaRest(sink) => sink.topic(kind),
            Self::KinesisGateway(sink) => sink.stream(kind),
        }
    }

    /// Where records of `kind` are sent, below the invoke URL.
    pub(crate) fn path(&self, kind: Kind) -> &str {
        match self {
            Self::KafkaRest(sink) => sink.path(kind),
            Self::KinesisGateway(sink) => sink.path(kind),
        }
    }

    /// The record key or partition key that goes with a record; none if none does.
    pub(crate) fn key(&self, kind: Kind, key: Key) -> Option<String> {
        match self {
            Self::KafkaRest(sink) => sink.key(key),
            Self::KinesisGateway(sink) => Some(sink.partition_key(kind, key).into_owned()),
        }
    }

    /// What the target calls the place that takes records: `topic` or `stream`.
    pub(crate) fn noun(&self) -> &'static str {
        match self {
            Self::KafkaRest(_) => "topic",
            Self::KinesisGateway(_) => "stream",
        }
    }

    /// One request for all of `entries`, in their order. Not more of them than [`Sink::request_limit`].
    pub(crate) fn request(&self, kind: Kind, entries: &[Entry<'_>]) -> Request {
        match self {
            Self::KafkaRest(sink) => sink.request(kind, entries),
            Self::KinesisGateway(sink) => sink.request(kind, entries),
        }
    }

    /// One verdict for each of the `sent` records, in the order of the request.
    pub(crate) fn verdicts(&self, sent: usize, answer: &Answer) -> Vec<Verdict> {
        match self {
            Self::KafkaRest(_) => kafka_rest::verdicts(sent, answer),
            Self::KinesisGateway(sink) => sink.verdicts(sent, answer),
        }
    }

    /// How many records a request may carry; none: as many as fit.
    pub(crate) fn request_limit(&self) -> Option<usize> {
        match self {
            Self::KafkaRest(_) => None,
            Self::KinesisGateway(sink) => Some(sink.request_limit()),
        }
    }

    /// What a record adds to the body of its request, in bytes.
    pub(crate) fn size(&self, key: Key, record: &[u8]) -> usize {
        match self {
            Self::KafkaRest(sink) => sink.size(key, record),
            Self::KinesisGateway(sink) => sink.size(key, record),
        }
    }

    /// Asks whether the topic or stream for `kind` is there.
    pub(crate) fn existence(&self, kind: Kind) -> Request {
        let (path, accept) = match self {
            Self::KafkaRest(sink) => (format!("/topics/{}", sink.topic(kind)), kafka_rest::ACCEPT),
            Self::KinesisGateway(sink) => (
                format!("/streams/{}", sink.stream(kind)),
                kinesis_gateway::CONTENT_TYPE,
            ),
        };
        question(path.into(), accept)
    }

    /// Asks which topics or streams there are.
    pub(crate) fn listing(&self) -> Request {
        match self {
            Self::KafkaRest(_) => question("/topics".into(), kafka_rest::ACCEPT),
            Self::KinesisGateway(_) => question("/streams".into(), kinesis_gateway::CONTENT_TYPE),
        }
    }

    /// What the answer to [`Sink::listing`] lists; none if it is no list.
    pub(crate) fn listed(&self, answer: &Answer) -> Option<Listed> {
        match self {
            _ if !is_success(answer) => None,
            Self::KafkaRest(_) => kafka_rest::listed(answer),
            Self::KinesisGateway(_) => kinesis_gateway::listed(answer),
        }
    }

    /// What the answer to [`Sink::existence`] describes; none if it describes nothing.
    pub(crate) fn described(&self, answer: &Answer) -> Option<Described> {
        match self {
            _ if !is_success(answer) => None,
            Self::KafkaRest(_) => kafka_rest::described(answer),
            Self::KinesisGateway(_) => kinesis_gateway::described(answer),
        }
    }

    /// Asks the target to make the topic or stream for `kind`; none if it cannot be asked.
    pub(crate) fn creation(&self, kind: Kind, shards: u64) -> Option<Request> {
        match self {
            // Version 2 of the API only finds topics.
            Self::KafkaRest(_) => None,
            Self::KinesisGateway(sink) => Some(sink.creation(kind, shards)),
        }
    }

    /// Whether the answer to [`Sink::creation`] says that it is there now, or in the making.
    pub(crate) fn is_made(&self, answer: &Answer) -> bool {
        match self {
            Self::KafkaRest(_) => false,
            Self::KinesisGateway(_) => kinesis_gateway::is_made(answer),
        }
    }

    /// Whether the answer to [`Sink::existence`] says in so many words that it is not there. Proxies that do not know
    /// the question answer in other ways, which prove nothing.
    pub(crate) fn is_missing(&self, answer: &Answer) -> bool {
        match self {
            Self::KafkaRest(_) => kafka_rest::is_missing(answer),
            Self::KinesisGateway(_) => kinesis_gateway::is_missing(answer),
        }
    }
}

/// Whether the HTTP status says so, which proves nothing by itself.
fn is_success(answer: &Answer) -> bool {
    (200..300).contains(&answer.status)
}

fn question(path: Arc<str>, accept: &'static str) -> Request {
    Request {
        method: Method::Get,
        path,
        content_type: "",
        accept,
        body: Bytes::new(),
    }
}

/// An error that API Gateway made itself: it has a `message` and neither Kafka REST's `error_code` nor Kinesis's `__type`.
#[derive(Debug, Deserialize)]
struct GatewayError {
    // ACCESS_DENIED alone is written with a capital.
    #[serde(alias = "Message")]
    message: String,
}

/// What an answer means that holds no result for single records and no error in the target's own words: by the gateway's
/// message if there is one, else by the HTTP status.
fn by_status(answer: &Answer, path_word: &str) -> Verdict {
    let gateway = serde_json::from_slice::<GatewayError>(&answer.body).ok();
    let said = gateway.map_or_else(|| excerpt(&answer.body), |error| error.message);
    let reason = |text: &str| Reason {
        status: Some(answer.status),
        text: text.into(),
    };
    let kind = answer.error_type.as_deref().unwrap_or_default();
    match answer.status {
        200..=299 if answer.body.is_empty() => {
            Verdict::Retry(reason("an empty answer proves nothing"))
        }
        200..=299 => Verdict::Retry(reason(&format!("the answer proves nothing: {said}"))),
        300..=399 => {
            let to = answer
                .location
                .as_deref()
                .unwrap_or("an address that it does not name");
            let text =
                format!("redirected to {to}; give the new address as --invoke-url if you trust it");
            Verdict::Stop(Exit::Configuration, reason(&text))
        }
        401 => Verdict::Stop(
            Exit::Refused,
            reason(&format!(
                "{said}; give credentials with --header or --api-key-file"
            )),
        ),
        403 => Verdict::Stop(Exit::Refused, reason(&forbidden(kind, &said, path_word))),
        407 => Verdict::Stop(
            Exit::Refused,
            reason(&format!("the proxy on the way refuses; {PROXY_LOGIN}")),
        ),
        404 | 405 => {
            let text = format!(
                "{said}: no such path; is --invoke-url the address that /{path_word} stands below?"
            );
            Verdict::Stop(Exit::Configuration, reason(&text))
        }
        406 | 415 | 501 => Verdict::Stop(Exit::Configuration, reason(&said)),
        429 if kind.starts_with("LimitExceeded") || said == "Limit Exceeded" => Verdict::Stop(
            Exit::Refused,
            reason("Limit Exceeded: the usage plan's quota is used up"),
        ),
        429 => Verdict::Throttled(reason(&said)),
        408 | 425 | 500 | 502..=599 => Verdict::Retry(reason(&said)),
        400..=499 => Verdict::Halve(reason(&said)),
        // 1xx never gets here and 600 and above is not HTTP.
        _ => Verdict::Retry(reason(&said)),
    }
}

/// What a 403 says, and what to do about it.
fn forbidden(kind: &str, said: &str, path_word: &str) -> String {
    if said == "Missing Authentication Token" {
        format!(
            "{said}: the gateway has no such path; is the stage missing from --invoke-url, or does the API lack /{path_word}? (or the method wants IAM signatures)"
        )
    } else if said == "Forbidden" && !kind.starts_with("Waf") {
        "Forbidden: the API key is missing or not valid for this stage; give it with --api-key-file"
            .to_owned()
    } else if wants_signature(kind, said) {
        format!(
            "{said}; the gateway lets in only who signs (IAM) or comes from an allowed address, and pinemu does not sign: set the authorization of its methods to NONE, or require an API key"
        )
    } else {
        said.to_owned()
    }
}

/// Whether a gateway refuses a request because of its signature, or because it has none.
fn wants_signature(kind: &str, said: &str) -> bool {
    let by_kind = ["AccessDenied", "InvalidSignature", "IncompleteSignature"];
    by_kind.iter().any(|it| kind.starts_with(it)) || said.contains("execute-api:Invoke")
}

/// The beginning of a body on one line, for people.
fn excerpt(body: &[u8]) -> String {
    const LONGEST: usize = 200;
    let text = String::from_utf8_lossy(&body[..body.len().min(LONGEST)]);
    let mut text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if body.len() > LONGEST {
        text.push('…');
    }
    if text.is_empty() {
        "(no text)".to_owned()
    } else {
        text
    }
}
