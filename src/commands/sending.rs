//! From the options on target and sending to what the engine takes.

use std::time::Duration;

use crate::{
    cli::{InFlight as Asked, SendingArgs, TargetArgs},
    config::{Origin, secret},
    delivery,
    failure::{Exit, Failure},
    http::{self, Header, Http, InvokeUrl},
    limiter::InFlight,
    pipeline::BatchLimits,
    post::Kind,
    sink::Sink,
};

/// Requests on the wire at a time where the user leaves it to pinemu: where it starts and how far it goes. Large requests
/// keep a target busy with few of them, single records only with many.
const AUTO: InFlight = InFlight::Auto { first: 4, most: 16 };
const AUTO_SINGLE: InFlight = InFlight::Auto {
    first: 16,
    most: 64,
};

/// Whether each batch is a single post.
pub(super) fn is_single(sink: &Sink) -> bool {
    sink.request_limit() == Some(1)
}

/// What every request carries beside its own headers.
pub(super) fn headers(
    args: &TargetArgs,
    invoke_url: Option<&InvokeUrl>,
) -> Result<Vec<Header>, Failure> {
    let mut headers = args.header.clone();
    if let Some(key) = secret(args.api_key_file.as_ref(), "PINEMU_API_KEY")? {
        headers
            .push(Header::api_key(&key).map_err(|error| Failure::new(Exit::Configuration, error))?);
    }
    // Who gives credentials as a header means them to be used.
    let basic = invoke_url.and_then(InvokeUrl::basic);
    headers.extend(basic.filter(|basic| {
        args.header
            .iter()
            .all(|header| header.name() != basic.name())
    }));
    Ok(headers)
}

pub(super) fn http(
    target: &TargetArgs,
    sending: &SendingArgs,
    invoke_url: InvokeUrl,
) -> Result<Http, Failure> {
    Http::new(http::Options {
        headers: headers(target, Some(&invoke_url))?,
        invoke_url,
        cacert: target.cacert.clone(),
        timeout: sending.timeout,
        connect_timeout: sending.connect_timeout,
    })
}

pub(super) fn delivery(args: &SendingArgs, sink: &Sink) -> delivery::Options {
    let in_flight = match args.in_flight {
        // One request at a time for each topic.
        Asked::Most(1) => InFlight::Fixed(Kind::ALL.len().try_into().unwrap_or(u16::MAX)),
        Asked::Most(most) => InFlight::Fixed(most),
        Asked::Auto if is_single(sink) => AUTO_SINGLE,
        Asked::Auto => AUTO,
    };
    delivery::Options {
        in_flight,
        retry_for: args.retry_for.0,
    }
}

pub(super) fn batch_limits(args: &SendingArgs, sink: &Sink) -> BatchLimits {
    if is_single(sink) {
        return BatchLimits {
            posts: 1,
            bytes: usize::MAX,
            linger: Duration::ZERO,
        };
    }
    let clamped = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    BatchLimits {
        posts: clamped(args.batch_size.0),
        bytes: clamped(args.batch_bytes.0),
        linger: args.linger,
    }
}

/// Refuses flags that do nothing where a request takes one post.
pub(super) fn refuse_useless(args: &SendingArgs, origin: &Origin) -> Result<(), Failure> {
    let useless = ["linger", "batch-bytes"];
    let useless = useless.into_iter().find(|flag| origin.is_flag(flag));
    match useless.filter(|_| args.batch_size.0 == 1) {
        None => Ok(()),
        Some(flag) => {
            let text = format!(
                "--{flag} does nothing with --batch-size 1, where a request takes one post and waits for no other"
            );
            Err(Failure::new(Exit::Usage, text))
        }
    }
}

/// Requests on the wire at a time; none where the user leaves it to pinemu.
pub(super) fn in_flight(args: &SendingArgs) -> Option<u16> {
    match args.in_flight {
        Asked::Auto => None,
        Asked::Most(most) => Some(most),
    }
}
