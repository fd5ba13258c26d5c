//! Who is let in and whom we trust: credentials, certificates, proxies, and the database's own TLS. Over real sockets, with
//! certificates made here.

mod database;
mod proxies;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde_json::{Value, json};

use crate::{
    fake::{Asked, Reply, Target},
    support::{Ended, Receiver, Sandbox, assert_balanced, finish},
};

/// Soon, against the five minutes that a target is tried by default.
const SOON: Duration = Duration::from_secs(30);

/// Who signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        Self::named("an authority of the tests")
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// A certificate for these names or addresses, and its key, as PEM.
    fn sign(&self, names: &[&str], years: (i32, i32)) -> (rcgen::Certificate, KeyPair) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }

    /// What a server needs that has a certificate for these names.
    fn server(&self, names: &[&str]) -> Arc<ServerConfig> {
        self.server_in(names, GOOD)
    }

    fn server_in(&self, names: &[&str], years: (i32, i32)) -> Arc<ServerConfig> {
        let (certificate, key) = self.sign(names, years);
        shown_as(&certificate, &key)
    }

    /// One that shows the authority's own certificate, as `openssl req -x509` makes it.
    fn server_as_itself(&self) -> Arc<ServerConfig> {
        shown_as(self.0.as_ref(), self.0.key())
    }

    /// The file for `--cacert`.
    fn file(&self, dir: &Path) -> PathBuf {
        let path = dir.join("authority.pem");
        fs::write(&path, self.0.pem()).unwrap();
        path
    }
}

/// Years in which a certificate is valid.
const GOOD: (i32, i32) = (2000, 4000);
const OVER: (i32, i32) = (2000, 2001);
const TO_COME: (i32, i32) = (3999, 4000);

fn shown_as(certificate: &rcgen::Certificate, key: &KeyPair) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    Arc::new(config)
}

/// A proxy that has the three topics and proves everything.
fn confluent(asked: &Asked) -> Reply {
    if !asked.is_question() {
        return asked.all_proven();
    }
    let body = match asked.path.rsplit('/').next() {
        Some("topics") => json!(["t.pin", "t.geo", "t.user"]),
        name => json!({"name": name, "configs": {}, "partitions": [{"partition": 0}]}),
    };
    Reply::json(200, &body.to_string())
}

/// The same over TLS.
fn healthy(config: Arc<ServerConfig>) -> Target {
    Target::over_tls(move || Arc::clone(&config), confluent)
}

/// A directory with a few posts.
fn seeded() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.seeded(5);
    sandbox
}

/// What a run to this target is, but for what the test is about.
fn batch<'a>(url: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    #[rustfmt::skip]
    let line = [
        "batch", "--topic-prefix", "t", "--database-url", "sqlite:seed.db", "--order", "index", "--rate", "max",
        "--format", "json", "--invoke-url", url,
    ];
    [&line, more].concat()
}

fn run(sandbox: &Sandbox, line: &[&str], variables: &[(&str, &str)]) -> Ended {
    finish(sandbox.command(line).envs(variables.iter().copied()))
}

/// All five posts are delivered.
#[track_caller]
fn assert_delivered(ended: &Ended) {
    assert_eq!(ended.code(), 0, "{ended:?}");
    let summary = ended.summary();
    assert_balanced(&summary);
    assert_eq!(summary["posts"]["delivered"], 5, "{ended:?}");
}

/// Ended with this status and nothing set aside, and told why.
#[track_caller]
fn assert_failed(ended: &Ended, code: i32, parts: &[&str]) {
    assert_eq!(ended.code(), code, "{ended:?}");
    let summary = ended.summary();
    assert_balanced(&summary);
    assert_eq!(summary["outcome"], "failed", "{ended:?}");
    assert_eq!(summary["posts"]["read"], 0, "{ended:?}");
    let error = summary["error"].as_str().unwrap();
    for part in parts {
        assert!(error.contains(part), "no {part:?}: {ended:?}");
        assert!(ended.stderr.contains(part), "no {part:?}: {ended:?}");
    }
}

/// A check of the same: its exit status, and what the one row says that failed.
#[track_caller]
fn assert_check_failed(ended: &Ended, code: i32, name: &str, parts: &[&str]) {
    assert_eq!(ended.code(), code, "{ended:?}");
    let document: Value = serde_json::from_str(&ended.stdout).unwrap();
    let rows = document["checks"].as_array().unwrap();
    let failed: Vec<_> = rows
        .iter()
        .filter(|row| row["outcome"] == "failed")
        .collect();
    assert_eq!(failed.len(), 1, "{document}");
    assert_eq!(failed[0]["name"], name, "{document}");
    let text = format!("{}; {}", failed[0]["what"], failed[0]["cure"]);
    for part in parts {
        assert!(text.contains(part), "no {part:?}: {document}");
    }
}

/// The same line as a check.
fn check<'a>(line: &[&'a str]) -> Vec<&'a str> {
    let options = ["--order", "index", "--rate", "max"];
    let line = line.iter().copied();
    std::iter::once("check")
        .chain(line.filter(|word| !options.contains(word)))
        .collect()
}

#[track_caller]
fn assert_silent_about(ended: &Ended, secrets: &[&str]) {
    for secret in secrets {
        let base64 = STANDARD.encode(secret);
        for form in [*secret, base64.trim_end_matches('=')] {
            assert!(!ended.stdout.contains(form), "{form}: {ended:?}");
            assert!(!ended.stderr.contains(form), "{form}: {ended:?}");
        }
    }
}

#[test]
fn credentials_reach_a_target_that_a_private_authority_vouches_for() {
    let (sandbox, authority) = (seeded(), Authority::new());
    let target = healthy(authority.server(&["127.0.0.1"]));
    let cacert = authority.file(sandbox.path());
    let cacert = ["--cacert", cacert.to_str().unwrap()];
    fs::write(sandbox.path().join("key"), "k3y-of-the-file\n").unwrap();
    let with_userinfo = target
        .url()
        .replace("https://", "https://us%20er:p%40%2Fs@");
    let basic = format!("Basic {}", STANDARD.encode("us er:p@/s"));
    let cases: [(&str, &[&str], &[(&str, &str)], &[(&str, &str)]); 4] = [
        (
            &target.url(),
            &["--api-key-file", "key"],
            &[],
            &[("x-api-key", "k3y-of-the-file")],
        ),
        (
            &target.url(),
            &[],
            &[("PINEMU_API_KEY", "k3y-of-the-variable")],
            &[("x-api-key", "k3y-of-the-variable")],
        ),
        (
            &target.url(),
            &[
                "-H",
                "X-Own: own-s3cret",
                "-H",
                "Authorization: Bearer t0ken-own",
            ],
            &[],
            &[
                ("x-own", "own-s3cret"),
                ("authorization", "Bearer t0ken-own"),
            ],
        ),
        (&with_userinfo, &[], &[], &[("authorization", &basic)]),
    ];
    for (url, more, variables, expected) in cases {
        let before = target.asked().len();
        let line = batch(url, &[&cacert[..], more, &["-vv"]].concat());
        let ended = run(&sandbox, &line, variables);
        assert_delivered(&ended);
        let secrets = [
            "k3y-of",
            "own-s3cret",
            "t0ken-own",
            "p%40%2Fs",
            "us er:p@/s",
        ];
        assert_silent_about(&ended, &secrets);
        let asked = target.asked().split_off(before);
        assert!(asked.len() >= 6, "{asked:?}");
        for asked in asked {
            for (name, value) in expected {
                assert_eq!(asked.header(name), Some(*value), "{asked:?}");
            }
        }
        let ended = run(&sandbox, &check(&line), variables);
        assert_eq!(ended.code(), 0, "{ended:?}");
        assert!(ended.stdout.contains("let in with the credentials given"));
        assert_silent_about(&ended, &secrets);
    }
}

#[test]
fn a_target_that_cannot_be_trusted_ends_a_run_soon_with_the_cure() {
    let (sandbox, authority) = (seeded(), Authority::new());
    let (namesake, other) = (Authority::new(), Authority::named("another one"));
    let cacert = authority.file(sandbox.path());
    let ours = ["--cacert", cacert.to_str().unwrap()];
    let here = ["127.0.0.1"];
    let cases: [(Target, &[&str], &[&str]); 7] = [
        (
            healthy(authority.server(&here)),
            &[],
            &["UnknownIssuer", "with --cacert"],
        ),
        (
            healthy(other.server(&here)),
            &ours,
            &["UnknownIssuer", "with --cacert"],
        ),
        (
            healthy(namesake.server(&here)),
            &ours,
            &["BadSignature", "with --cacert"],
        ),
        (
            healthy(authority.server(&["elsewhere.test"])),
            &ours,
            &["not valid for name", "elsewhere.test", "in --invoke-url"],
        ),
        (
            healthy(authority.server_in(&here, OVER)),
            &ours,
            &["expired", "the clock of this machine"],
        ),
        (
            healthy(authority.server_in(&here, TO_COME)),
            &ours,
            &["not valid yet", "the clock of this machine"],
        ),
        (
            healthy(authority.server_as_itself()),
            &ours,
            &["CaUsedAsEndEntity", "basicConstraints=CA:FALSE"],
        ),
    ];
    for (target, more, parts) in cases {
        assert_distrusted(&sandbox, &target.url(), more, parts);
        assert!(target.asked().is_empty(), "{parts:?}");
    }
}

#[test]
fn tls_to_a_port_that_speaks_http_ends_a_run_soon_with_the_cure() {
    let (sandbox, receiver) = (seeded(), Receiver::start(&[]));
    let url = receiver.url().replace("http://", "https://");
    let parts = ["speaks no TLS", "write http:// in place of https://"];
    assert_distrusted(&sandbox, &url, &[], &parts);
}

/// A run ends soon and nothing is set aside; a check says the same.
#[track_caller]
fn assert_distrusted(sandbox: &Sandbox, url: &str, more: &[&str], parts: &[&str]) {
    let line = batch(url, more);
    let started = Instant::now();
    let ended = run(sandbox, &line, &[]);
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    assert_failed(
        &ended,
        69,
        &[parts, &["cannot reach https://127.0.0.1"]].concat(),
    );
    let ended = run(sandbox, &check(&line), &[]);
    assert_check_failed(&ended, 69, "target TLS", parts);
}

#[test]
fn a_certificate_that_goes_bad_in_the_middle_may_be_renewed() {
    let (sandbox, authority) = (seeded(), Authority::new());
    let cacert = authority.file(sandbox.path());
    let here = ["127.0.0.1"];
    let (good, expired) = (authority.server(&here), authority.server_in(&here, OVER));
    let (proven, refused) = (Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default());
    let counted = (Arc::clone(&proven), Arc::clone(&refused));
    let config = move || {
        // Three times, once each topic has got a post.
        let bad =
            counted.0.load(Ordering::SeqCst) >= 3 && counted.1.fetch_add(1, Ordering::SeqCst) < 3;
        Arc::clone(if bad { &expired } else { &good })
    };
    let target = Target::over_tls(config, move |asked| {
        let reply = asked.or_there(|asked| {
            proven.fetch_add(1, Ordering::SeqCst);
            asked.all_proven()
        });
        // So that each request needs a connection of its own.
        reply.with("Connection", "close")
    });
    let url = target.url();
    #[rustfmt::skip]
    let more = ["--cacert", cacert.to_str().unwrap(), "--in-flight", "1", "--batch-size", "1"];
    let ended = run(&sandbox, &batch(&url, &more), &[]);
    assert_delivered(&ended);
    assert!(refused.load(Ordering::SeqCst) >= 3);
    assert_ne!(ended.summary()["retries"], 0, "{ended:?}");
    assert!(ended.stderr.contains("have it renewed"), "{ended:?}");
}

#[test]
fn http_to_a_port_that_speaks_tls_is_named() {
    let (sandbox, authority) = (seeded(), Authority::new());
    let target = healthy(authority.server(&["127.0.0.1"]));
    let url = target.url().replace("https://", "http://");
    let line = batch(&url, &["--retry-for", "300ms"]);
    let parts = ["does not speak HTTP", "write https:// in --invoke-url"];
    assert_failed(&run(&sandbox, &line, &[]), 69, &parts);
    let ended = run(&sandbox, &check(&line), &[]);
    assert_check_failed(&ended, 69, "target API", &parts);
    // A server that keeps both apart, as nginx does, says so itself.
    let polite = Target::start(|_| {
        let page = "<html>400 The plain HTTP request was sent to HTTPS port</html>";
        Reply::new(400, "text/html", page)
    });
    let url = polite.url();
    let ended = run(&sandbox, &batch(&url, &[]), &[]);
    assert_eq!(ended.summary()["posts"]["rejected"], json!(5), "{ended:?}");
}

#[test]
fn a_file_of_authorities_that_is_none_is_told_before_anything_is_sent() {
    let sandbox = seeded();
    let target = Target::healthy();
    fs::write(sandbox.path().join("empty"), "").unwrap();
    fs::write(
        sandbox.path().join("broken"),
        "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    let url = target.url();
    for (file, part) in [
        ("none", "cannot read --cacert none"),
        ("empty", "--cacert empty holds no certificate"),
        ("broken", "--cacert broken is not a PEM file"),
    ] {
        let ended = run(&sandbox, &batch(&url, &["--cacert", file]), &[]);
        assert_eq!(ended.code(), 78, "{ended:?}");
        assert!(ended.stderr.contains(part), "{ended:?}");
    }
    assert!(target.asked().is_empty());
}
