//! Why there was no answer, and what to do about it.

use std::{error::Error, fmt};

use super::Hop;
use crate::{failure::Exit, sink::PROXY_LOGIN};

/// Why there was no whole answer. Whether the target took the records is not known. Holds no secret.
#[derive(Debug, Clone, Default)]
pub(crate) struct NoAnswer {
    pub(crate) text: String,
    /// What to do, where that can be told.
    pub(crate) cure: Option<String>,
    /// Whether there was not even a connection, TLS included.
    pub(crate) connecting: bool,
    /// Whether it was a proxy that did not let us through.
    pub(crate) by_proxy: bool,
    /// With what a run ends whose target has settled nothing yet: another try would find the same.
    pub(crate) lasting: Option<Exit>,
}

impl NoAnswer {
    /// `hop`: where the connection went.
    pub(super) fn new(error: &reqwest::Error, hop: &Hop) -> Self {
        let connecting = error.is_connect();
        if error.is_timeout() && !connecting {
            return Self {
                text: "no answer in time".to_owned(),
                ..Self::default()
            };
        }
        // The library wraps the cause that helps in several that do not.
        let cause = causes(error).last().map(ToString::to_string);
        let cause = cause.unwrap_or_default();
        if let Some(no_tls) = Self::of_tls(&cause, hop) {
            return no_tls;
        }
        if hop.is_proxy && connecting {
            return Self::of_proxy(&cause, error.is_timeout(), hop);
        }
        let what = if error.is_timeout() {
            "cannot connect in time"
        } else if connecting {
            "cannot connect"
        } else if is_no_http(error) {
            return Self {
                text: format!("what answers does not speak HTTP: {cause}"),
                cure: Some("if it speaks TLS, write https:// in --invoke-url".to_owned()),
                ..Self::default()
            };
        } else if error.is_body() || error.is_decode() {
            "the answer was cut off"
        } else {
            "the connection broke"
        };
        Self {
            text: format!("{what}: {cause}"),
            connecting,
            ..Self::default()
        }
    }

    /// What keeps a connection from being a trusted one.
    fn of_tls(cause: &str, hop: &Hop) -> Option<Self> {
        let through = if hop.is_proxy {
            "; if the proxy opens what it passes on, that of the proxy"
        } else {
            ""
        };
        let cure = if cause.contains("InvalidContentType") {
            "what listens there speaks no TLS: write http:// in place of https:// in --invoke-url (a REST proxy on port 8082 does mostly)".to_owned()
        } else if !cause.contains("invalid peer certificate") {
            return None;
        } else if cause.contains("UnknownIssuer") || cause.contains("BadSignature") {
            // An authority that was made anew under the name of a trusted one fails by its signature.
            format!("give the certificate of the authority that signed it with --cacert{through}")
        } else if cause.contains("CaUsedAsEndEntity") {
            "the target shows the certificate of an authority as its own: make it one with basicConstraints=CA:FALSE".to_owned()
        } else if cause.contains("not valid for name") {
            "write one of the names that it is valid for in --invoke-url, or have it made for this one".to_owned()
        } else if cause.contains("expired") || cause.contains("not valid yet") {
            "have it renewed, unless the clock of this machine is wrong".to_owned()
        } else {
            "have it made anew".to_owned()
        };
        Some(Self {
            text: format!("cannot connect: {cause}"),
            cure: Some(cure),
            connecting: true,
            by_proxy: false,
            lasting: Some(Exit::Unreachable),
        })
    }

    fn of_proxy(cause: &str, late: bool, hop: &Hop) -> Self {
        const NAMED: &str = "the variables HTTPS_PROXY, HTTP_PROXY or ALL_PROXY name it, NO_PROXY holds the hosts that need none";
        let (text, cure, lasting) = if cause.contains("proxy authorization required") {
            let text = format!("the proxy {hop} refuses to connect");
            (text, PROXY_LOGIN.to_owned(), Some(Exit::Refused))
        } else if cause.contains("tunnel error: unsuccessful") {
            let cure = format!("is the target running, and may the proxy connect to it? {NAMED}");
            (
                format!("the proxy {hop} does not connect to the target"),
                cure,
                None,
            )
        } else {
            let late = if late { " in time" } else { "" };
            let text = format!("cannot connect{late} through the proxy {hop}: {cause}");
            (text, format!("is the proxy running? {NAMED}"), None)
        };
        Self {
            text,
            cure: Some(cure),
            connecting: true,
            by_proxy: true,
            lasting,
        }
    }
}

/// Whether what came back is no HTTP at all.
fn is_no_http(error: &reqwest::Error) -> bool {
    causes(error)
        .filter_map(|error| error.downcast_ref::<hyper::Error>())
        .any(hyper::Error::is_parse)
}

/// An error and what is behind it, the first cause last.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let error: &(dyn Error + 'static) = error;
    std::iter::successors(Some(error), |error| (*error).source())
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match &self.cure {
            Some(cure) => write!(f, "; {cure}"),
            None => Ok(()),
        }
    }
}
