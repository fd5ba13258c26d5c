//! `--probe` and `--create`: what is sent and made when a check is told to.

use super::*;

#[test]
fn a_probe_is_one_marked_post_and_its_receipts_are_read() {
    let sandbox = seeded();
    for (command, names) in [
        ("batch", ["t.pin", "t.geo", "t.user"]),
        ("stream", ["s-pin", "s-geo", "s-user"]),
    ] {
        for more in [&[][..], &["--gateway", "mapped"]] {
            let mut receiver =
                Receiver::start(&[&["--streams", "s-pin,s-geo,s-user"], more].concat());
            let endpoints: &[&[&str]] = if command == "batch" {
                &[&["--probe"]]
            } else {
                &[&["--probe"], &["--probe", "--endpoint", "records"]]
            };
            for endpoint in endpoints {
                let checked = check(&sandbox, command, &receiver.url(), endpoint);
                checked.assert_fine();
                checked.assert("geo probe", "ok", &["acknowledged", "key -1"], &[]);
                if command == "stream" {
                    let status = if more.is_empty() {
                        "HTTP 200"
                    } else {
                        "HTTP 400"
                    };
                    checked.assert("gateway errors", "ok", &[status], &[]);
                    checked.assert("mapping template", "ok", &["base64"], &[]);
                }
            }
            let landed = names.map(|name| receiver.landed(name));
            for (lines, key) in landed.iter().zip(["index", "ind", "ind"]) {
                assert_eq!(lines.len(), endpoints.len(), "{lines:?}");
                let line: Value = serde_json::from_str(&lines[0]).unwrap();
                let record = line.get("data").unwrap_or(&line);
                assert_eq!(record[key], -1, "{record}");
                let texts = record
                    .as_object()
                    .unwrap()
                    .values()
                    .filter_map(Value::as_str);
                assert!(
                    texts.clone().any(|text| text == "pinemu check --probe"),
                    "{record}"
                );
            }
        }
    }
}

#[test]
fn a_probe_tells_what_a_gateway_without_questions_does_and_what_a_template_lacks() {
    let sandbox = seeded();
    let blind = Target::start(|asked| {
        if asked.is_question() || asked.path.contains("no-such-stream") {
            forbidden("MissingAuthenticationTokenException", NO_TOKEN)
        } else {
            asked.all_proven()
        }
    });
    let url = format!("{}/Prod", blind.url());
    let without = check(&sandbox, "stream", &url, &[]);
    without.assert_failed(77, &["permission"]);
    without.assert("permission", "failed", &[], &["--probe"]);
    let checked = check(&sandbox, "stream", &url, &["--probe"]);
    checked.assert_fine();
    checked.assert("permission", "warning", &["GET"], &[]);
    checked.assert("pin probe", "ok", &[], &[]);
    checked.assert("gateway errors", "warning", &["cannot tell"], &[]);
    let plain = Target::start(|asked| {
        if asked.is_question() {
            gateway(asked)
        } else {
            Reply::json(200, r#"{"__type":"SerializationException"}"#)
        }
    });
    let checked = check(&sandbox, "stream", &plain.url(), &["--probe"]);
    checked.assert_failed(1, &["pin probe", "geo probe", "user probe"]);
    checked.assert(
        "pin probe",
        "failed",
        &["SerializationException"],
        &["base64Encode"],
    );
    checked.assert("mapping template", "warning", &["cannot tell"], &[]);
    let receiver = Receiver::start(&["--topics", "t.pin,t.geo"]);
    let checked = check(&sandbox, "batch", &receiver.url(), &["--probe"]);
    checked.assert_failed(78, &["user topic"]);
    checked.assert("user probe", "warning", &["not tried"], &[]);
    checked.assert("pin probe", "ok", &[], &[]);
}

#[test]
fn streams_that_are_missing_are_made_through_the_gateway() {
    let sandbox = seeded();
    for mapping in ["default-200", "mapped"] {
        let receiver = Receiver::start(&["--gateway", mapping, "--streams", "s-geo"]);
        let more = ["--create", "--probe", "--rate", "2500"];
        let checked = check(&sandbox, "stream", &receiver.url(), &more);
        assert_eq!(checked.ended.code(), 0, "{:?}", checked.ended);
        checked.assert(
            "pin stream",
            "ok",
            &["s-pin was made: ACTIVE after", "3 shards"],
            &[],
        );
        checked.assert("geo stream", "ok", &["s-geo: ACTIVE, 1 shard"], &[]);
        checked.assert("user probe", "ok", &["acknowledged"], &[]);
        assert!(
            checked
                .ended
                .stderr
                .contains("Waiting for the stream s-pin"),
            "{:?}",
            checked.ended
        );
        check(&sandbox, "stream", &receiver.url(), &[]).assert_fine();
    }
    let cut_down = Target::start(|asked| match &*asked.method {
        "POST" => forbidden("MissingAuthenticationTokenException", NO_TOKEN),
        _ => Reply::json(
            200,
            r#"{"__type":"ResourceNotFoundException","message":"Stream s-pin under account 111122223333 not found."}"#,
        ),
    });
    let checked = check(&sandbox, "stream", &cut_down.url(), &["--create", "-q"]);
    assert_eq!(checked.ended.code(), 77, "{:?}", checked.ended);
    checked.assert(
        "pin stream",
        "failed",
        &["could not be made"],
        &[
            "POST /streams/{stream-name}",
            "aws kinesis create-stream --stream-name s-pin",
        ],
    );
    let mut line = vec!["check", "batch", "--topic-prefix", "t", "--create"];
    line.extend([
        "--database-url",
        "sqlite:seed.db",
        "--invoke-url",
        "http://h",
    ]);
    let ended = sandbox.run(line);
    assert_eq!(ended.code(), 64);
    assert!(ended.stderr.contains("kafka-topics.sh"), "{ended:?}");
}
