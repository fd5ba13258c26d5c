//! The only module that names reqwest: requests out, whole answers in. Decides nothing about them.

mod no_answer;
#[cfg(test)]
pub(crate) mod script;

use std::{
    collections::HashMap,
    fmt,
    path::PathBuf,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hyper_util::client::proxy::matcher::Matcher;
use percent_encoding::percent_decode_str;
use reqwest::{
    Certificate, Client,
    header::{
        ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, DATE, HOST, HeaderMap, HeaderName,
        HeaderValue, LOCATION, RETRY_AFTER, TRANSFER_ENCODING,
    },
    redirect::Policy,
};
use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

pub(crate) use no_answer::NoAnswer;

use crate::{
    failure::{Exit, Failure, OrExit},
    sink::{Answer, Method, Request},
};

/// Confluent's proxy closes a silent connection after 30 s; ours go first, so that no request meets a closing one.
const IDLE: Duration = Duration::from_secs(20);

/// The base address of a target: the REST proxy, or the stage of a gateway. Userinfo in it is Basic authentication.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct InvokeUrl(Url);

impl FromStr for InvokeUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut url = Url::parse(text).map_err(|error| match error {
            url::ParseError::RelativeUrlWithoutBase => {
                "it has no scheme; write http://HOST:8082 or https://ID.execute-api.REGION.amazonaws.com/STAGE".to_owned()
            }
            other => other.to_string(),
        })?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err("it starts with http:// or https:// and a host".to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("it ends with its path: no ? and no #".to_owned());
        }
        let segments: Vec<_> = url
            .path_segments()
            .map(Iterator::collect)
            .unwrap_or_default();
        if let Some(at) = segments
            .iter()
            .position(|segment| matches!(*segment, "topics" | "streams"))
        {
            let base = segments[..at].join("/");
            url.set_path(&base);
            return Err(format!(
                "it is a topic's or stream's own address; give the base: {}",
                Self(url)
            ));
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self(url))
    }
}

impl InvokeUrl {
    /// Without userinfo and without a slash at the end.
    fn base(&self) -> String {
        let mut url = self.0.clone();
        // Refused only by URLs without a host, and this one has one.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.as_str().trim_end_matches('/').to_owned()
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Whether anything stands behind the host: the stage of a gateway, mostly.
    pub(crate) fn has_path(&self) -> bool {
        self.0.path() != "/"
    }

    /// The region of an API Gateway under its own name, `ID.execute-api.REGION.amazonaws.com`.
    pub(crate) fn gateway_region(&self) -> Option<&str> {
        match *self.0.host_str()?.split('.').collect::<Vec<_>>() {
            [_, "execute-api", region, "amazonaws", ..] => Some(region),
            _ => None,
        }
    }

    /// Whether it is on this machine, which a proxy elsewhere takes for its own.
    fn is_loopback(&self) -> bool {
        match self.0.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
    }

    /// The proxy that the usual variables name for this address, without userinfo.
    fn proxy(&self) -> Option<Url> {
        if self.is_loopback() {
            return None;
        }
        let proxy = Matcher::from_env().intercept(&self.base().parse().ok()?)?;
        Url::parse(&proxy.uri().to_string()).ok()
    }

    /// Where connections go first: to a proxy if there is one for this address.
    pub(crate) fn first_hop(&self) -> Hop {
        let proxy = self.proxy();
        let url = proxy.as_ref().unwrap_or(&self.0);
        let host = match url.host() {
            // Without the brackets of a URL.
            Some(Host::Ipv6(address)) => address.to_string(),
            _ => url.host_str().unwrap_or_default().to_owned(),
        };
        Hop {
            host,
            port: url.port_or_known_default().unwrap_or_default(),
            is_proxy: proxy.is_some(),
        }
    }

    /// The userinfo as a header.
    pub(crate) fn basic(&self) -> Option<Header> {
        let decoded = |text| percent_decode_str(text).decode_utf8_lossy();
        let password = self.0.password().map(decoded).unwrap_or_default();
        let user = decoded(self.0.username());
        if user.is_empty() && password.is_empty() {
            return None;
        }
        let basic = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        Header::secret(AUTHORIZATION, &basic).ok()
    }
}

/// Where a connection goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hop {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) is_proxy: bool,
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Holds no secret: the userinfo is left out.
impl fmt::Display for InvokeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base())
    }
}

impl fmt::Debug for InvokeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InvokeUrl({self})")
    }
}

/// Headers that follow from the request; another value would do nothing or break it.
const OURS: [HeaderName; 5] = [
    ACCEPT,
    CONTENT_TYPE,
    CONTENT_LENGTH,
    HOST,
    TRANSFER_ENCODING,
];

/// A value such as `1` or `yes` is no secret, and would be found in answers that do not repeat it.
const SHORTEST_SECRET: usize = 6;

/// A header that every request carries.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    name: HeaderName,
    value: HeaderValue,
}

impl Header {
    /// The API key as API Gateway wants it.
    pub(crate) fn api_key(key: &SecretString) -> Result<Self, String> {
        Self::secret(
            HeaderName::from_static("x-api-key"),
            key.expose_secret().trim(),
        )
    }

    pub(crate) fn name(&self) -> &str {
        self.name.as_str()
    }

    /// What of the value is secret: the part behind the name of a scheme, if there is one. None: too little to be one.
    fn credential(&self) -> Option<SecretString> {
        let value = self.value.to_str().ok()?;
        let credential = value.rsplit(' ').next().unwrap_or(value);
        (credential.len() >= SHORTEST_SECRET).then(|| credential.into())
    }

    fn secret(name: HeaderName, value: &str) -> Result<Self, String> {
        let mut value = HeaderValue::from_str(value)
            .map_err(|_| format!("{name} holds characters that no header may hold"))?;
        value.set_sensitive(true);
        Ok(Self { name, value })
    }
}

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text
            .split_once(':')
            .ok_or("a header is written 'Name: value'")?;
        let name = HeaderName::from_str(name.trim())
            .map_err(|_| "the part before the colon is no header name".to_owned())?;
        if OURS.contains(&name) {
            return Err(format!("{name} is set by pinemu itself"));
        }
        let mut value = HeaderValue::from_str(value.trim())
            .map_err(|_| "the value holds characters that no header may hold".to_owned())?;
        // Whatever a user adds may be a credential.
        value.set_sensitive(true);
        Ok(Self { name, value })
    }
}

/// How to talk to a target.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) invoke_url: InvokeUrl,
    pub(crate) headers: Vec<Header>,
    pub(crate) cacert: Option<PathBuf>,
    /// Longest that one attempt may take, from sending to the last byte of the answer.
    pub(crate) timeout: Duration,
    pub(crate) connect_timeout: Duration,
}

/// A target, over kept connections.
#[derive(Debug)]
pub(crate) struct Http {
    wire: Wire,
    base: String,
    /// The addresses of the few paths that are asked for, each parsed once.
    urls: Mutex<HashMap<Arc<str>, Url>>,
    /// Where connections go.
    hop: Hop,
    /// What no answer may bring back into our output.
    secrets: Vec<SecretString>,
}

#[derive(Debug)]
enum Wire {
    Connections(Client),
    /// What a test has the target say.
    #[cfg(test)]
    Script(script::Script),
}

impl Http {
    pub(crate) fn new(options: Options) -> Result<Self, Failure> {
        let mut headers = HeaderMap::new();
        let mut secrets = Vec::new();
        for header in options.headers {
            secrets.extend(header.credential());
            headers.append(header.name, header.value);
        }
        let mut client = Client::builder()
            .user_agent(concat!("pinemu/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .timeout(options.timeout)
            .connect_timeout(options.connect_timeout)
            .pool_idle_timeout(IDLE)
            .tcp_nodelay(true)
            // No secret follows a redirect, and every attempt is one that we count.
            .redirect(Policy::none())
            .retry(reqwest::retry::never());
        if options.invoke_url.is_loopback() {
            client = client.no_proxy();
        }
        if let Some(proxy) = options.invoke_url.proxy()
            && !matches!(proxy.scheme(), "http" | "https")
        {
            let text = format!(
                "the variables name the {} proxy {} for {}; pinemu goes through HTTP proxies only: name one, or take the host out with NO_PROXY",
                proxy.scheme(),
                proxy.host_str().unwrap_or_default(),
                options.invoke_url
            );
            return Err(Failure::new(Exit::Configuration, text));
        }
        if let Some(path) = options.cacert {
            let pem = std::fs::read(&path).or_exit(Exit::Configuration, || {
                format!("cannot read --cacert {}", path.display())
            })?;
            let certificates =
                Certificate::from_pem_bundle(&pem).or_exit(Exit::Configuration, || {
                    format!(
                        "--cacert {} is not a PEM file of certificates",
                        path.display()
                    )
                })?;
            if certificates.is_empty() {
                let text = format!(
                    "--cacert {} holds no certificate in PEM form",
                    path.display()
                );
                return Err(Failure::new(Exit::Configuration, text));
            }
            client = client.tls_certs_merge(certificates);
        }
        let client = client
            .build()
            .or_exit(Exit::Configuration, || "cannot set up the HTTP client")?;
        Ok(Self {
            wire: Wire::Connections(client),
            base: options.invoke_url.base(),
            urls: Mutex::default(),
            hop: options.invoke_url.first_hop(),
            secrets,
        })
    }

    /// The address that paths stand below.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// One attempt. Safe to cancel: then nothing is known of what the target did.
    pub(crate) async fn send(&self, request: &Request) -> Result<Answer, NoAnswer> {
        match &self.wire {
            Wire::Connections(client) => self.send_over(client, request).await,
            #[cfg(test)]
            Wire::Script(script) => script.answer(request).await,
        }
    }

    fn url(&self, path: &Arc<str>) -> Result<Url, NoAnswer> {
        let mut urls = self.urls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(url) = urls.get(path) {
            return Ok(url.clone());
        }
        let url = Url::parse(&format!("{}{path}", self.base)).map_err(|error| NoAnswer {
            text: format!("{path} is no path: {error}"),
            ..NoAnswer::default()
        })?;
        urls.insert(Arc::clone(path), url.clone());
        Ok(url)
    }

    async fn send_over(&self, client: &Client, request: &Request) -> Result<Answer, NoAnswer> {
        let method = match request.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
        };
        let mut builder = client
            .request(method, self.url(&request.path)?)
            .header(ACCEPT, request.accept);
        if request.method != Method::Get {
            builder = builder
                .header(CONTENT_TYPE, request.content_type)
                .body(request.body.clone());
        }
        let no_answer = |error| NoAnswer::new(&error, &self.hop);
        let response = builder.send().await.map_err(no_answer)?;
        let header = |name: &str| {
            response
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let mut answer = Answer {
            status: response.status().as_u16(),
            // The word may be followed by a colon and an address.
            error_type: header("x-amzn-errortype")
                .map(|word| word.split(':').next().unwrap_or_default().to_owned()),
            retry_after: header(RETRY_AFTER.as_str())
                .and_then(|value| retry_after(&value, SystemTime::now())),
            location: header(LOCATION.as_str()),
            date: header(DATE.as_str()).and_then(|date| httpdate::parse_http_date(&date).ok()),
            ..Answer::default()
        };
        answer.body = masked(response.bytes().await.map_err(no_answer)?, &self.secrets);
        Ok(answer)
    }
}

/// A body without the secrets that it repeats: API Gateway, for one, tells what it did not like in an `Authorization` header
/// by quoting it.
fn masked(body: Bytes, secrets: &[SecretString]) -> Bytes {
    let repeats = |text: &str| secrets.iter().any(|it| text.contains(it.expose_secret()));
    if secrets.is_empty() || !repeats(&String::from_utf8_lossy(&body)) {
        return body;
    }
    let mut text = String::from_utf8_lossy(&body).into_owned();
    for secret in secrets {
        text = text.replace(secret.expose_secret(), "***");
    }
    text.into()
}

/// A `Retry-After`: seconds, or a date (RFC 9110, section 10.2.3).
pub(crate) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(value)
            .ok()?
            .duration_since(now)
            .ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invoke_url_is_a_base() {
        for (given, base) in [
            ("http://127.0.0.1:8082", "http://127.0.0.1:8082"),
            ("http://127.0.0.1:8082/", "http://127.0.0.1:8082"),
            (
                "https://a.execute-api.us-east-1.amazonaws.com/Prod//",
                "https://a.execute-api.us-east-1.amazonaws.com/Prod",
            ),
            ("http://user:p%40ss@host/x", "http://host/x"),
        ] {
            assert_eq!(given.parse::<InvokeUrl>().unwrap().to_string(), base);
        }
        for (given, part) in [
            ("127.0.0.1:8082", "http"),
            ("example", "no scheme"),
            ("ftp://host", "http://"),
            (
                "http://host/Prod/topics/a.pin",
                "give the base: http://host/Prod",
            ),
            (
                "http://host/streams/a-pin/record",
                "give the base: http://host",
            ),
            ("http://host/?a=b", "no ?"),
        ] {
            let error = given.parse::<InvokeUrl>().unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn an_address_tells_where_its_gateway_is_and_where_connections_go() {
        let gateway: InvokeUrl = "https://ab12.execute-api.eu-west-1.amazonaws.com/Prod"
            .parse()
            .unwrap();
        assert_eq!(gateway.gateway_region(), Some("eu-west-1"));
        assert!(gateway.is_tls() && gateway.has_path());
        let proxy: InvokeUrl = "http://user:secret@[::1]:8082".parse().unwrap();
        assert_eq!(proxy.gateway_region(), None);
        assert!(!proxy.is_tls() && !proxy.has_path());
        let hop = proxy.first_hop();
        assert_eq!((&*hop.host, hop.port), ("::1", 8082));
    }

    #[test]
    fn userinfo_is_basic_authentication_and_never_shown() {
        let url: InvokeUrl = "http://us%20er:p%40s+s@host/x".parse().unwrap();
        assert_eq!(
            url.basic().unwrap().value,
            format!("Basic {}", STANDARD.encode("us er:p@s+s"))
        );
        assert!(!format!("{url} {url:?}").contains("p%40"));
        assert!(
            "http://host"
                .parse::<InvokeUrl>()
                .unwrap()
                .basic()
                .is_none()
        );
    }

    #[test]
    fn a_target_may_ask_for_patience_in_seconds_or_until_a_date() {
        let now = httpdate::parse_http_date("Fri, 21 Nov 2025 10:00:00 GMT").unwrap();
        assert_eq!(retry_after("7", now), Some(Duration::from_secs(7)));
        let date = "Fri, 21 Nov 2025 10:00:05 GMT";
        assert_eq!(retry_after(date, now), Some(Duration::from_secs(5)));
        assert_eq!(retry_after(date, now + Duration::from_mins(1)), None);
        assert_eq!(retry_after("soon", now), None);
    }

    #[test]
    fn a_header_hides_its_value() {
        let header: Header = "Authorization: Bearer s3cret".parse().unwrap();
        assert!(!format!("{header:?}").contains("s3cret"));
        assert!("content-type: text/plain".parse::<Header>().is_err());
        assert!("no colon".parse::<Header>().is_err());
        assert!("bad name: x".parse::<Header>().is_err());
        assert!("a: b\nc".parse::<Header>().is_err());
    }
}
