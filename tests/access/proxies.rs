//! Proxies between us and the target, as the usual variables name them.

use std::{
    io::{BufRead, BufReader, Write, copy},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Instant,
};

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    Authority, SOON, assert_check_failed, assert_delivered, assert_failed, assert_silent_about,
    batch, check, confluent, healthy, run, seeded,
};
use crate::{
    fake::{Reply, Target},
    support::Sandbox,
};

/// Nobody listens there.
const DOWN: &str = "127.0.0.1:1";
const PASSWORD: &str = "pr0xy/s3cret";
const ENCODED: &str = "pr0xy%2Fs3cret";

/// A proxy that makes tunnels; all of them lead to the same place.
struct Tunnels {
    port: u16,
    /// The heads of what it was asked, line by line.
    asked: Arc<Mutex<Vec<Vec<String>>>>,
}

impl Tunnels {
    /// `answer`: the status line, behind `HTTP/1.1`.
    fn start(answer: &'static str, to: Option<u16>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::<Mutex<Vec<Vec<String>>>>::default();
        let log = Arc::clone(&asked);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let log = Arc::clone(&log);
                thread::spawn(move || serve(client, answer, to, &log));
            }
        });
        Self { port, asked }
    }

    fn url(&self) -> String {
        format!("http://me:{ENCODED}@127.0.0.1:{}", self.port)
    }

    fn asked(&self) -> Vec<Vec<String>> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(
    client: TcpStream,
    answer: &str,
    to: Option<u16>,
    log: &Mutex<Vec<Vec<String>>>,
) -> Option<()> {
    let mut reader = BufReader::new(client.try_clone().ok()?);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        head.push(line.to_owned());
    }
    log.lock().unwrap().push(head);
    let mut writer = client;
    write!(writer, "HTTP/1.1 {answer}\r\n\r\n").ok()?;
    let target = TcpStream::connect(("127.0.0.1", to?)).ok()?;
    let (mut from, mut into) = (target.try_clone().ok()?, target);
    let back = thread::spawn(move || {
        let _ = copy(&mut from, &mut writer);
        let _ = writer.shutdown(Shutdown::Both);
    });
    let _ = copy(&mut reader, &mut into);
    let _ = into.shutdown(Shutdown::Both);
    back.join().ok()
}

fn port(url: &str) -> u16 {
    url.rsplit(':').next().unwrap().parse().unwrap()
}

fn with_login(url: &str) -> String {
    url.replace("http://", &format!("http://me:{ENCODED}@"))
}

fn login() -> String {
    format!("Basic {}", STANDARD.encode(format!("me:{PASSWORD}")))
}

fn secrets() -> [String; 3] {
    let login = login();
    [PASSWORD, ENCODED, login.trim_start_matches("Basic ")].map(str::to_owned)
}

#[track_caller]
fn assert_no_secret(ended: &crate::support::Ended) {
    let secrets = secrets();
    assert_silent_about(ended, &secrets.each_ref().map(String::as_str));
}

#[test]
fn tls_goes_through_a_tunnel_of_the_proxy_that_a_variable_names() {
    let (sandbox, authority) = (seeded(), Authority::new());
    let target = healthy(authority.server(&["gateway.test"]));
    let cacert = authority.file(sandbox.path());
    let more = ["--cacert", cacert.to_str().unwrap(), "-vv"];
    for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        let proxy = Tunnels::start("200 OK", Some(port(&target.url())));
        let variables = [
            (variable, &*proxy.url()),
            ("HTTP_PROXY", "http://127.0.0.1:1"),
        ];
        let line = batch("https://gateway.test/Prod", &more);
        let before = target.asked().len();
        let ended = run(&sandbox, &line, &variables);
        assert_delivered(&ended);
        assert_no_secret(&ended);
        for head in proxy.asked() {
            assert_eq!(head[0], "CONNECT gateway.test:443 HTTP/1.1", "{variable}");
            let login = format!("proxy-authorization: {}", login());
            assert!(head.contains(&login), "{head:?}");
        }
        assert!(!proxy.asked().is_empty(), "{variable}");
        let asked = target.asked().split_off(before);
        assert!(asked.iter().any(|asked| asked.path == "/Prod/topics/t.pin"));
        // It is for the proxy alone.
        let header = "proxy-authorization";
        assert!(asked.iter().all(|asked| asked.header(header).is_none()));
        let ended = run(&sandbox, &check(&line), &variables);
        assert_eq!(ended.code(), 0, "{ended:?}");
        assert!(ended.stdout.contains("the proxy that the variables name"));
        assert_no_secret(&ended);
    }
}

#[test]
fn plain_http_goes_to_the_proxy_that_a_variable_names() {
    let sandbox = seeded();
    for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        // It answers for the target.
        let proxy = Target::start(confluent);
        let variables = [
            (variable, &*with_login(&proxy.url())),
            ("HTTPS_PROXY", "http://127.0.0.1:1"),
        ];
        let ended = run(
            &sandbox,
            &batch("http://kafka.test:8082", &["-vv"]),
            &variables,
        );
        assert_delivered(&ended);
        assert_no_secret(&ended);
        for asked in proxy.asked() {
            assert!(
                asked.path.starts_with("http://kafka.test:8082/topics"),
                "{asked:?}"
            );
            assert_eq!(asked.header("proxy-authorization"), Some(&*login()));
        }
        assert!(!proxy.sent_to("t.pin").is_empty(), "{variable}");
    }
}

#[test]
fn a_host_that_needs_no_proxy_gets_none() {
    let (sandbox, target) = (seeded(), Target::start(confluent));
    // An address of this machine that is not of its loopback.
    let url = format!("http://0.0.0.0:{}", port(&target.url()));
    for variable in ["NO_PROXY", "no_proxy"] {
        let proxy = Target::start(confluent);
        let proxied = ("HTTP_PROXY", &*proxy.url());
        assert_delivered(&run(&sandbox, &batch(&url, &[]), &[proxied]));
        assert!(!proxy.asked().is_empty());
        let (through, before) = (proxy.asked().len(), target.asked().len());
        let variables = [proxied, (variable, "elsewhere.test, 0.0.0.0")];
        assert_delivered(&run(&sandbox, &batch(&url, &[]), &variables));
        assert_eq!(proxy.asked().len(), through, "{variable}");
        assert!(target.asked().len() > before, "{variable}");
    }
}

#[test]
fn this_machine_is_never_reached_through_a_proxy() {
    let (sandbox, target) = (seeded(), Target::start(confluent));
    let proxy = format!("http://{DOWN}");
    let variables = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"];
    let variables = variables.map(|name| (name, &*proxy));
    for host in ["127.0.0.1", "localhost", "127.1.2.3"] {
        // All of 127/8 is this machine, but the target listens at one address of it.
        let url = target.url().replace("127.0.0.1", host);
        let line = batch(&url, &["--retry-for", "300ms"]);
        let ended = run(&sandbox, &line, &variables);
        if host == "127.1.2.3" {
            assert_failed(&ended, 69, &["Connection refused"]);
            assert!(!ended.stderr.contains("through the proxy"), "{ended:?}");
            continue;
        }
        assert_delivered(&ended);
        let ended = run(&sandbox, &check(&line), &variables);
        assert_eq!(ended.code(), 0, "{ended:?}");
        assert!(!ended.stdout.contains("the proxy that"), "{ended:?}");
    }
    let line = [
        "batch", "--demo", "-n", "20", "--rate", "max", "--format", "json",
    ];
    let ended = run(&Sandbox::new(), &line, &variables);
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(ended.summary()["posts"]["delivered"], 20, "{ended:?}");
}

#[test]
fn a_proxy_that_is_down_or_lets_nobody_through_is_named_as_the_proxy() {
    let sandbox = seeded();
    let shut = Tunnels::start("502 Bad Gateway", None);
    let shut_place = format!("the proxy 127.0.0.1:{}", shut.port);
    let down = format!("http://me:{ENCODED}@{DOWN}");
    for (url, variable, proxy, parts) in [
        (
            "http://kafka.test:8082",
            "HTTP_PROXY",
            &down,
            ["the proxy 127.0.0.1:1:", "is the proxy running?"],
        ),
        (
            "https://gateway.test",
            "HTTPS_PROXY",
            &down,
            ["the proxy 127.0.0.1:1:", "is the proxy running?"],
        ),
        (
            "https://gateway.test",
            "HTTPS_PROXY",
            &shut.url(),
            [&shut_place, "may the proxy connect to it?"],
        ),
    ] {
        let line = batch(url, &["--retry-for", "300ms", "-vv"]);
        let variables = [(variable, &**proxy)];
        let ended = run(&sandbox, &line, &variables);
        assert_failed(&ended, 69, &parts);
        assert_no_secret(&ended);
        let ended = run(&sandbox, &check(&line), &variables);
        let place = proxy.split('@').nth(1).unwrap();
        assert_check_failed(&ended, 69, "target connection", &[place]);
        assert_no_secret(&ended);
    }
}

#[test]
fn a_proxy_that_wants_another_login_ends_a_run_soon() {
    let sandbox = seeded();
    let tunnels = Tunnels::start("407 Proxy Authentication Required", None);
    let forwarding = Target::start(|_| Reply::new(407, "text/html", "<html>Who are you?</html>"));
    for (url, variable, proxy, row) in [
        (
            "https://gateway.test",
            "HTTPS_PROXY",
            tunnels.url(),
            "target connection",
        ),
        (
            "http://kafka.test:8082",
            "HTTP_PROXY",
            with_login(&forwarding.url()),
            "permission",
        ),
    ] {
        let line = batch(url, &["-vv"]);
        let variables = [(variable, &*proxy)];
        let started = Instant::now();
        let ended = run(&sandbox, &line, &variables);
        assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
        let parts = ["the proxy ", "write USER:PASSWORD@ before its host"];
        assert_failed(&ended, 77, &parts);
        assert_no_secret(&ended);
        let ended = run(&sandbox, &check(&line), &variables);
        assert_check_failed(&ended, 77, row, &parts);
        assert_no_secret(&ended);
    }
}

#[test]
fn a_proxy_of_another_kind_is_told_before_anything_is_sent() {
    let sandbox = seeded();
    let proxy = format!("socks5h://me:{ENCODED}@{DOWN}");
    let ended = run(
        &sandbox,
        &batch("https://gateway.test", &[]),
        &[("ALL_PROXY", &proxy)],
    );
    assert_eq!(ended.code(), 78, "{ended:?}");
    for part in [
        "the socks5h proxy 127.0.0.1",
        "https://gateway.test",
        "NO_PROXY",
    ] {
        assert!(ended.stderr.contains(part), "{ended:?}");
    }
    assert_no_secret(&ended);
}
