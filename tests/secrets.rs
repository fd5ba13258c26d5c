//! No secret is in any output or file, however a run goes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::{
    fake::{Reply, Target},
    support::{Database, Sandbox, finish, server},
};

/// With all that has to be encoded somewhere; none of them occurs in anything by chance.
const DATABASE: &str = "Hx%4/q@9z#Vw";
const API_KEY: &str = "kEy-7f3Q9b2X+/=";
const TOKEN: &str = "toK3n.eyJhbGci";
const USERINFO: &str = "uS3r1nf0%?pw";
const SECRETS: [&str; 4] = [DATABASE, API_KEY, TOKEN, USERINFO];

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// All forms in which a secret could leak: as it is, parts of it between what URLs take for joints, encoded.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![
        secret.to_owned(),
        encoded(secret),
        encoded(secret).to_lowercase(),
    ];
    // A piece of base64 does not depend on what stands before it if it begins at a third byte.
    for skip in 0..3 {
        let padded = format!("{}{secret}", "x".repeat(skip));
        let text = STANDARD.encode(&padded);
        forms.push(text[4..text.len() - 4].to_owned());
    }
    forms.extend(
        secret
            .split(['/', '@', '#', '%', '?'])
            .filter(|part| part.len() >= 4)
            .map(str::to_owned),
    );
    forms
}

#[track_caller]
fn assert_clean(what: &str, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for form in SECRETS.iter().flat_map(|secret| forms(secret)) {
        assert!(!text.contains(&form), "{what} holds {form}: {text}");
    }
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            files.extend(files_below(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files
}

/// Runs a line and looks for secrets in all that it printed.
#[track_caller]
fn run(sandbox: &Sandbox, line: &[&str], variables: &[(&str, &str)], codes: &[i32]) {
    let ended = finish(sandbox.command(line).envs(variables.iter().copied()));
    assert!(codes.contains(&ended.code()), "{line:?}: {ended:?}");
    assert_clean(&format!("stdout of {line:?}"), ended.stdout.as_bytes());
    assert_clean(&format!("stderr of {line:?}"), ended.stderr.as_bytes());
}

/// A seed database for an account whose password is a secret; the URL without the password.
struct Guarded {
    database: Database,
    account: String,
}

impl Guarded {
    fn new() -> Self {
        let database = Database::new();
        let account = format!("a{}", database.name().rsplit("test_").next().unwrap());
        database.execute(&format!(
            "CREATE USER '{account}'@'127.0.0.1' IDENTIFIED BY '{DATABASE}'; GRANT ALL ON {}.* TO '{account}'@'127.0.0.1'",
            database.name()
        ));
        Self { database, account }
    }

    fn url(&self, password: Option<&str>) -> String {
        let password = password
            .map(|password| format!(":{password}"))
            .unwrap_or_default();
        let server = server();
        let (host, port) = (server.host_str().unwrap(), server.port().unwrap_or(3306));
        format!(
            "mysql://{}{password}@{host}:{port}/{}",
            self.account,
            self.database.name()
        )
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.database
            .execute(&format!("DROP USER '{}'@'127.0.0.1'", self.account));
    }
}

#[test]
fn no_secret_is_in_any_output_or_file() {
    let guarded = Guarded::new();
    let sandbox = Sandbox::new();
    let given = [("password", DATABASE), ("key", API_KEY)];
    for (name, secret) in given {
        fs::write(sandbox.path().join(name), format!("{secret}\n")).unwrap();
    }
    let config = format!(
        "invoke-url = \"http://me:{}@127.0.0.1:1\"\nrate = 0\n",
        encoded(USERINFO)
    );
    fs::write(sandbox.path().join("config"), config).unwrap();

    let healthy = Target::healthy();
    let refusing = Target::start(|_| Reply::json(401, r#"{"message":"Unauthorized"}"#));
    let moved = Target::start(|_| Reply::json(302, "").with("Location", "http://elsewhere/"));
    // As API Gateway answers what it takes for a bad signature, and as a page that shows the request.
    let repeating = Target::start(|asked| {
        let sent: Vec<_> = ["authorization", "x-api-key"]
            .iter()
            .filter_map(|name| asked.header(name))
            .collect();
        let message = format!("{} is no key=value pair in the header", sent.join(" and "));
        Reply::json(403, &json!({ "message": message }).to_string())
            .with("x-amzn-ErrorType", "IncompleteSignatureException")
    });
    let with_userinfo =
        |url: &str| url.replace("http://", &format!("http://me:{}@", encoded(USERINFO)));
    let target = with_userinfo(&healthy.url());
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let full = guarded.url(Some(&encoded(DATABASE)));
    let bare = guarded.url(None);
    let wrong = guarded.url(Some(&encoded(&format!("{DATABASE}{TOKEN}"))));
    let unparsable = guarded.url(Some(DATABASE));
    let unreachable = full.replace("127.0.0.1", "no-such-host.invalid");
    let no_database = full.replace(guarded.database.name(), "pinemu_test_none");

    run(
        &sandbox,
        &["seed", "--posts", "5", "--database-url", &full],
        &[],
        &[0],
    );
    run(
        &sandbox,
        &["seed", "--posts", "5", "--database-url", &full],
        &[],
        &[78],
    );
    run(
        &sandbox,
        &["seed", "--database-url", &unparsable],
        &[],
        &[64],
    );
    run(&sandbox, &["seed", "--database-url", &wrong], &[], &[77]);

    let common = [
        "--order",
        "index",
        "--rate",
        "max",
        "--retry-for",
        "500ms",
        "-vv",
        "-H",
        &bearer,
    ];
    let api_key = [("PINEMU_API_KEY", API_KEY)];
    let password = [("PINEMU_DATABASE_PASSWORD", DATABASE)];
    let key_file = ["--api-key-file", "key"];
    let password_file = ["--database-password-file", "password"];
    let formats: [&[&str]; 5] = [
        &[],
        &["--format", "json"],
        &["--log-format", "json"],
        &["--dry-run"],
        &["--print-config"],
    ];
    for command in [
        ["batch", "--topic-prefix", "t"],
        ["stream", "--stream-prefix", "t"],
    ] {
        let runs: [(&str, &str, &[&str], &[(&str, &str)], i32); 11] = [
            (&full, &target, &key_file, &[], 0),
            (&bare, &target, &password_file, &api_key, 0),
            (&bare, &target, &[], &password, 0),
            (&wrong, &target, &key_file, &[], 77),
            (&unparsable, &target, &key_file, &[], 64),
            (&unreachable, &target, &key_file, &[], 69),
            (&no_database, &target, &[], &api_key, 77),
            (
                &full,
                &with_userinfo("http://127.0.0.1:1"),
                &key_file,
                &[],
                69,
            ),
            (&full, &with_userinfo(&refusing.url()), &[], &api_key, 77),
            (&full, &with_userinfo(&moved.url()), &[], &api_key, 78),
            (&full, &with_userinfo(&repeating.url()), &[], &api_key, 77),
        ];
        for (database, url, more, variables, code) in runs {
            for format in formats {
                let source = ["--database-url", database, "--invoke-url", url];
                let line: Vec<_> = [&command, &source[..], &common, more, format].concat();
                // What only prints may succeed where a run would not.
                let codes = if format.contains(&"--dry-run") || format == ["--print-config"] {
                    vec![0, code]
                } else {
                    vec![code]
                };
                run(&sandbox, &line, variables, &codes);
            }
        }
        // What a check finds differs; that it tells no secret does not.
        for (database, url, more, variables, _) in runs {
            for told in [&["-vv"][..], &["--format", "json"], &["-q"]] {
                let source = ["--database-url", database, "--invoke-url", url];
                let check = [
                    &["check"],
                    &command[..],
                    &source,
                    &["-H", &bearer],
                    more,
                    told,
                ];
                run(&sandbox, &check.concat(), variables, &[0, 64, 69, 77, 78]);
            }
        }
        // As variables, and where they do not belong.
        let variables = [
            ("PINEMU_DATABASE_URL", &*full),
            ("PINEMU_INVOKE_URL", &*target),
            ("PINEMU_HEADER", &*bearer),
        ];
        run(
            &sandbox,
            &[&command[..], &["--order", "index", "-vv"]].concat(),
            &variables,
            &[0],
        );
        run(
            &sandbox,
            &[&command[..], &["--print-config"]].concat(),
            &variables,
            &[0],
        );
        let misplaced: [&[&str]; 6] = [
            &[&full],
            &[&unparsable],
            &["-H", TOKEN],
            &["--invoke-url", &format!("{target}999999")],
            &["--invoke-url", USERINFO],
            &["--demo", "--invoke-url", &target],
        ];
        for words in misplaced {
            run(&sandbox, &[&command[..], words].concat(), &[], &[64]);
        }
        run(
            &sandbox,
            &[&command[..], &["--config", "config"]].concat(),
            &[],
            &[78],
        );
        let bad = [("PINEMU_INVOKE_URL", USERINFO)];
        run(&sandbox, &command, &bad, &[64]);
    }

    let files = files_below(sandbox.path());
    for file in &files {
        let own = ["password", "key", "config"]
            .iter()
            .any(|name| file.ends_with(name));
        if !own {
            assert_clean(&file.display().to_string(), &fs::read(file).unwrap());
        }
    }
    let used = healthy.asked();
    let last = |name: &str| used.iter().find_map(|asked| asked.header(name)).unwrap();
    assert_eq!(last("x-api-key"), API_KEY, "the secrets were in use");
    assert_eq!(last("authorization"), format!("Bearer {TOKEN}"));
}
