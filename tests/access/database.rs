//! The seed database's own TLS: a private server with certificates made here.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    thread,
};

use serde_json::Value;

use super::{Authority, GOOD, assert_check_failed, confluent};
use crate::{
    database_faults::Server,
    fake::Target,
    support::{Ended, Sandbox},
};

/// With a certificate for 127.0.0.1, and an account that is let in only over TLS.
fn server(authority: &Authority, dir: &Path) -> Server {
    let (certificate, key) = authority.sign(&["127.0.0.1"], GOOD);
    let file = |name: &str, pem: &str| {
        let path = dir.join(name);
        fs::write(&path, pem).unwrap();
        path.display().to_string()
    };
    let options = vec![
        format!("--ssl-ca={}", authority.file(dir).display()),
        format!("--ssl-cert={}", file("certificate.pem", &certificate.pem())),
        format!("--ssl-key={}", file("key.pem", &key.serialize_pem())),
    ];
    let server = Server::start_with(options);
    server.fill(5, 10, "PRIMARY KEY");
    server.execute(
        "CREATE USER s@'127.0.0.1' IDENTIFIED BY 'w' REQUIRE SSL; GRANT ALL ON seed.* TO s@'127.0.0.1'",
    );
    server
}

fn dry_run(sandbox: &Sandbox, database: &str) -> Ended {
    #[rustfmt::skip]
    let line = [
        "batch", "--topic-prefix", "t", "--invoke-url", "http://127.0.0.1:1", "--dry-run", "-n", "1", "--order", "index",
        "--database-url", database,
    ];
    sandbox.run(line)
}

fn check(sandbox: &Sandbox, target: &Target, database: &str) -> Ended {
    #[rustfmt::skip]
    let line = [
        "check", "batch", "--topic-prefix", "t", "--invoke-url", &target.url(), "--format", "json",
        "--database-url", database,
    ];
    sandbox.run(line)
}

/// It is read, and a check tells whether it is encrypted.
#[track_caller]
fn assert_read(sandbox: &Sandbox, target: &Target, database: &str, told: &str) {
    let ended = dry_run(sandbox, database);
    assert_eq!(ended.code(), 0, "{database}: {ended:?}");
    let ended = check(sandbox, target, database);
    let document: Value = serde_json::from_str(&ended.stdout).unwrap();
    let rows = document["checks"].as_array().unwrap();
    let row = rows.iter().find(|row| row["name"] == "database login");
    let row = row.unwrap();
    assert_eq!(row["outcome"], "ok", "{database}: {document}");
    let what = row["what"].as_str().unwrap();
    assert!(what.contains(told), "{database}: {what}");
}

/// It is not read, and a check says the same.
#[track_caller]
fn assert_kept_out(sandbox: &Sandbox, target: &Target, database: &str, code: i32, parts: &[&str]) {
    let ended = dry_run(sandbox, database);
    assert_eq!(ended.code(), code, "{database}: {ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    for part in parts {
        assert!(ended.stderr.contains(part), "no {part:?}: {ended:?}");
    }
    let ended = check(sandbox, target, database);
    assert_check_failed(&ended, code, "database login", parts);
}

#[test]
fn a_database_that_has_tls_is_read_over_it_and_verified_on_request() {
    let (sandbox, authority) = (Sandbox::new(), Authority::new());
    let server = server(&authority, sandbox.path());
    let target = Target::start(confluent);
    let any = server.url();
    let secure = any.replace("p:w@", "s:w@");
    let other = sandbox.path().join("other");
    fs::create_dir(&other).unwrap();
    let other = Authority::named("another one").file(&other);
    let (ours, other) = (
        format!("ssl-ca={}", authority.file(sandbox.path()).display()),
        format!("ssl-ca={}", other.display()),
    );
    let with = |url: &str, options: &[&str]| format!("{url}?{}", options.join("&"));
    let read = |database: &str, told| assert_read(&sandbox, &target, database, told);
    let kept_out = |database: &str, code, parts: &[&str]| {
        assert_kept_out(&sandbox, &target, database, code, parts);
    };

    read(&any, "encrypted with TLSv1.");
    read(&secure, "encrypted with TLSv1.");
    read(&with(&any, &["ssl-mode=DISABLED"]), "not encrypted");
    read(
        &with(&secure, &["ssl-mode=VERIFY_CA", &ours]),
        "encrypted with",
    );
    read(
        &with(&any, &["ssl-mode=VERIFY_IDENTITY", &ours]),
        "encrypted with",
    );

    let disabled = [
        "refused the login",
        "ssl-mode=DISABLED taken out of --database-url",
    ];
    kept_out(&with(&secure, &["ssl-mode=DISABLED"]), 77, &disabled);
    let unknown = [
        "is not trusted",
        "as ssl-ca in --database-url",
        "UnknownIssuer",
    ];
    kept_out(&with(&secure, &["ssl-mode=VERIFY_CA"]), 69, &unknown);
    kept_out(&with(&any, &["ssl-mode=VERIFY_CA", &other]), 69, &unknown);
    let by_name =
        with(&any, &["ssl-mode=VERIFY_IDENTITY", &ours]).replace("127.0.0.1", "localhost");
    kept_out(&by_name, 69, &["not valid for name", "ssl-mode=VERIFY_CA"]);
    let nowhere = with(&any, &["ssl-mode=VERIFY_CA", "ssl-ca=none.pem"]);
    kept_out(&nowhere, 78, &["is not there", "ssl-ca"]);

    server.execute("SET GLOBAL require_secure_transport = ON");
    read(&any, "encrypted with TLSv1.");
    // MariaDB does not tell it from a wrong password.
    kept_out(&with(&any, &["ssl-mode=DISABLED"]), 77, &disabled);
}

/// A server that lets nobody in, in the words of MySQL: error 3159.
fn mysql_that_requires_tls() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let packet = |number: u8, payload: &[u8]| {
        let length = u8::try_from(payload.len()).unwrap();
        [&[length, 0, 0, number], payload].concat()
    };
    #[rustfmt::skip]
    let greeting: &[&[u8]] = &[
        b"\x0a8.4.0\0", &[1, 0, 0, 0], b"salt8byt\0",
        // Capabilities, of which TLS is one, character set, status, further capabilities, length of the salt.
        &[0xff, 0xff, 45, 2, 0, 0xff, 0xdf, 21], &[0; 10], b"salt12bytes!\0", b"mysql_native_password\0",
    ];
    let greeting = packet(0, &greeting.concat());
    let words =
        b"Connections using insecure transport are prohibited while --require_secure_transport=ON.";
    let refusal = [&[0xff][..], &3159_u16.to_le_bytes(), b"#HY000", words].concat();
    let refusal = packet(2, &refusal);
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            client.write_all(&greeting).unwrap();
            let mut head = [0; 4];
            client.read_exact(&mut head).unwrap();
            let mut login = vec![0; usize::from(head[0]) + 256 * usize::from(head[1])];
            client.read_exact(&mut login).unwrap();
            client.write_all(&refusal).unwrap();
        }
    });
    port
}

#[test]
fn a_database_that_requires_tls_and_says_so_names_the_cure() {
    let (sandbox, target) = (Sandbox::new(), Target::start(confluent));
    let port = mysql_that_requires_tls();
    let database = format!("mysql://p:w@127.0.0.1:{port}/seed?ssl-mode=DISABLED");
    let only = [
        "only over TLS",
        "take ssl-mode=DISABLED out of --database-url",
    ];
    assert_kept_out(&sandbox, &target, &database, 78, &only);
}

#[test]
fn a_database_that_has_no_tls_is_read_without_unless_the_url_asks_for_it() {
    let sandbox = Sandbox::new();
    let server = Server::start_with(vec!["--skip-ssl".to_owned()]);
    server.fill(5, 10, "PRIMARY KEY");
    let target = Target::start(confluent);
    let url = server.url();
    assert_read(&sandbox, &target, &url, "not encrypted");
    for mode in ["REQUIRED", "VERIFY_CA"] {
        let asks = format!("{url}?ssl-mode={mode}");
        let parts = ["has no TLS", "take ssl-mode out of --database-url"];
        assert_kept_out(&sandbox, &target, &asks, 78, &parts);
    }
}
