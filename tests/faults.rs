//! Targets that fail: what is sent again, what is set aside, what ends the run, and that the books balance after all of it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    fake::{Asked, Reply, Target},
    support::{Ended, Sandbox, assert_balanced},
};

/// Posts of a run.
const POSTS: u32 = 6;

/// A run against a scripted target, to its end.
struct Run {
    target: Target,
    ended: Ended,
    summary: Value,
}

impl Run {
    #[track_caller]
    fn of(line: &[&str], target: Target) -> Self {
        let sandbox = Sandbox::new();
        let database = sandbox.seeded(POSTS);
        let url = target.url();
        let common = [
            "--invoke-url",
            &url,
            "--order",
            "index",
            "--rate",
            "max",
            "--format",
            "json",
        ];
        let ended = sandbox.run(line.iter().chain(&database).chain(&common));
        let summary = ended.summary();
        assert_balanced(&summary);
        assert_eq!(summary["error"].is_null(), ended.code() <= 1, "{ended:?}");
        Self {
            target,
            ended,
            summary,
        }
    }

    #[track_caller]
    fn kafka(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::of(&["batch", "--topic-prefix", "t"], Target::start(script))
    }

    fn posts(&self, fate: &str) -> u64 {
        self.summary["posts"][fate].as_u64().unwrap()
    }

    /// Ended with `code` and says each of `parts` on the last line.
    #[track_caller]
    fn assert_failed(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.ended.code(), code, "{:?}", self.ended);
        let last = self.ended.stderr.lines().last().unwrap_or_default();
        assert!(last.starts_with("pinemu: "), "{last}");
        for part in parts {
            assert!(last.contains(part), "no {part} in: {last}");
        }
        assert_eq!(self.summary["outcome"], "failed");
        assert_eq!(self.summary["error"], last["pinemu: ".len()..]);
        assert_eq!(
            self.posts("rejected") + self.posts("unproven"),
            0,
            "nothing is set aside"
        );
    }

    #[track_caller]
    fn assert_delivered(&self) {
        assert_eq!(self.ended.code(), 0, "{:?}", self.ended);
        assert_eq!(
            self.posts("delivered"),
            u64::from(POSTS),
            "{}",
            self.summary
        );
        assert_eq!(self.summary["outcome"], "completed");
    }
}

fn number_of(asked: &[Asked]) -> usize {
    asked.iter().map(|asked| asked.records().len()).sum()
}

#[test]
fn a_record_that_failed_for_now_is_sent_again_alone() {
    let failed = json!({"partition": null, "offset": null, "error_code": 50003, "error": "Broker: leader not available"});
    let run = Run::kafka(move |asked| {
        // The first request of a topic is a single post; the second holds the others.
        let failed = failed.clone();
        asked.or_there(|asked| match (asked.path.as_str(), asked.turn) {
            ("/topics/t.pin", 1) => asked.proven(|i| (i == 2).then(|| failed.clone())),
            _ => asked.all_proven(),
        })
    });
    run.assert_delivered();
    let pins = run.target.sent_to("t.pin");
    assert_eq!(pins.len(), 3);
    assert_eq!(pins[2].records(), [pins[1].records()[2].clone()]);
    assert_eq!(number_of(&run.target.sent_to("t.geo")), POSTS as usize);
    assert_eq!(run.summary["retries"], 1);
    assert_eq!(run.summary["requests"], 7);
    let sent: usize = ["t.pin", "t.geo", "t.user"]
        .iter()
        .flat_map(|topic| run.target.sent_to(topic))
        .map(|asked| asked.body.len())
        .sum();
    assert_eq!(run.summary["bytes_sent"], sent);
}

#[test]
fn a_record_that_is_refused_for_good_is_rejected_and_the_others_are_delivered() {
    let refused = json!({"partition": null, "offset": null, "error_code": 50002, "error": "The message is too large"});
    let run = Run::kafka(move |asked| {
        let refused = refused.clone();
        asked.or_there(|asked| match (asked.path.as_str(), asked.turn) {
            ("/topics/t.geo", 1) => asked.proven(|i| (i == 0).then(|| refused.clone())),
            _ => asked.all_proven(),
        })
    });
    assert_eq!(run.ended.code(), 1, "{:?}", run.ended);
    assert_eq!(run.posts("rejected"), 1);
    assert_eq!(run.posts("delivered"), u64::from(POSTS) - 1);
    assert_eq!(run.summary["records"]["geo"]["rejected"], 1);
    assert_eq!(run.summary["records"]["pin"]["rejected"], 0);
    assert_eq!(run.summary["retries"], 0);
    assert_eq!(run.summary["outcome"], "completed");
    assert!(
        run.ended.stderr.contains("The message is too large"),
        "{}",
        run.ended.stderr
    );
}

#[test]
fn a_body_that_is_too_large_is_halved_down_to_the_record_that_is() {
    let run = Run::kafka(|asked| {
        asked.or_there(|asked| {
            let guilty = asked.path == "/topics/t.user" && asked.body.contains(r#""ind":4"#);
            if guilty {
                Reply::json(
                    413,
                    r#"{"error_code":413,"message":"HTTP 413 Request Entity Too Large"}"#,
                )
            } else {
                asked.all_proven()
            }
        })
    });
    assert_eq!(run.ended.code(), 1, "{:?}", run.ended);
    assert_eq!(run.summary["records"]["user"]["rejected"], 1);
    assert_eq!(run.posts("delivered"), u64::from(POSTS) - 1);
    let users = run.target.sent_to("t.user");
    let sizes: Vec<_> = users.iter().map(|asked| asked.records().len()).collect();
    assert_eq!(sizes[..2], [1, 5]);
    assert_eq!(*sizes.iter().min().unwrap(), 1);
    assert_eq!(run.summary["retries"], sizes.len() - 2);
}

#[test]
fn an_answer_that_proves_nothing_is_tried_again() {
    let too_early = || {
        Reply::json(
            503,
            r#"{"error_code":50302,"message":"Broker not available"}"#,
        )
    };
    let replies: [(&str, fn() -> Reply); 8] = [
        ("503", too_early),
        ("a cut connection", || Reply::Cut),
        ("a cut body", || Reply::CutBody),
        ("an empty 200", || Reply::json(200, "")),
        ("HTML with 200", || {
            Reply::new(
                200,
                "text/html",
                "<html><body>Welcome to nginx!</body></html>",
            )
        }),
        ("JSON cut off", || {
            Reply::json(200, r#"{"offsets":[{"partition":0,"off"#)
        }),
        ("no results", || Reply::json(200, r#"{"offsets":[]}"#)),
        ("504 of the gateway", || {
            Reply::json(504, r#"{"message":"Endpoint request timed out"}"#)
        }),
    ];
    for (name, reply) in replies {
        let run = Run::kafka(move |asked| {
            asked.or_there(|asked| match asked.turn {
                0 => reply(),
                _ => asked.all_proven(),
            })
        });
        run.assert_delivered();
        assert_eq!(run.summary["retries"], 3, "{name}: {}", run.summary);
        assert_eq!(run.summary["throttled"], 0, "{name}");
        let warnings = run.ended.said().len();
        assert_eq!(warnings, 1, "{name} is told once: {}", run.ended.stderr);
    }
}

#[test]
fn a_throttled_request_waits_as_long_as_it_is_told_to() {
    let started = Instant::now();
    let run = Run::kafka(|asked| {
        asked.or_there(|asked| match (asked.path.as_str(), asked.turn) {
            ("/topics/t.pin", 0) => {
                Reply::json(429, r#"{"message":"Too Many Requests"}"#).with("Retry-After", "1")
            }
            _ => asked.all_proven(),
        })
    });
    run.assert_delivered();
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(run.summary["throttled"], 1);
    assert_eq!(run.summary["retries"], 1);
}

#[test]
fn an_answer_that_would_be_the_same_for_every_record_ends_the_run() {
    let refusals = [
        (
            Reply::json(
                401,
                r#"{"error_code":40101,"message":"Authentication failed"}"#,
            ),
            77,
            "Authentication failed",
        ),
        (
            Reply::json(401, r#"{"message":"Unauthorized"}"#),
            77,
            "--api-key-file",
        ),
        (
            Reply::json(403, r#"{"message":"Missing Authentication Token"}"#),
            77,
            "is the stage missing from --invoke-url",
        ),
        (
            Reply::json(403, r#"{"message":"Forbidden"}"#),
            77,
            "--api-key-file",
        ),
        (
            Reply::json(404, r#"{"error_code":40401,"message":"Topic not found."}"#),
            78,
            "Topic not found.",
        ),
        (
            Reply::new(404, "text/html", "<html>Not here</html>"),
            78,
            "--invoke-url",
        ),
        (
            Reply::json(
                415,
                r#"{"error_code":415,"message":"HTTP 415 Unsupported Media Type"}"#,
            ),
            78,
            "Unsupported Media Type",
        ),
        (
            Reply::json(
                401,
                r#"{"offsets":[{"partition":null,"offset":null,"error_code":40101,"error":"SASL"}]}"#,
            ),
            77,
            "SASL",
        ),
    ];
    for (reply, code, part) in refusals {
        let run = Run::kafka(move |asked| asked.or_there(|_| reply.clone()));
        run.assert_failed(code, &[part, &run.target.url(), "t."]);
        assert_eq!(run.posts("read"), 0);
        assert_eq!(run.posts("returned"), 1);
        // The first refusal may come before all three kinds have asked.
        let requests = run.summary["requests"].as_u64().unwrap();
        assert!(
            (1..=3).contains(&requests) && run.summary["retries"] == 0,
            "nobody asks twice: {}",
            run.summary
        );
    }
}

#[test]
fn a_redirect_ends_the_run_and_no_secret_follows_it() {
    let elsewhere = Target::healthy();
    let new = format!("{}/moved", elsewhere.url());
    let location = new.clone();
    let run = Run::of(
        &[
            "batch",
            "--topic-prefix",
            "t",
            "-H",
            "Authorization: Bearer abc",
            "-H",
            "x-api-key: def",
        ],
        Target::start(move |_| Reply::json(302, "").with("Location", &location)),
    );
    run.assert_failed(78, &[&new, "--invoke-url"]);
    for asked in run.target.sent_to("t.pin") {
        assert_eq!(asked.header("authorization"), Some("Bearer abc"));
        assert_eq!(asked.header("x-api-key"), Some("def"));
    }
    assert!(elsewhere.asked().is_empty(), "{:?}", elsewhere.asked());
}

#[test]
fn a_target_that_acknowledges_nothing_is_down() {
    let run = Run::of(
        &["batch", "--topic-prefix", "t", "--retry-for", "1s"],
        Target::start(|_| Reply::json(503, "")),
    );
    run.assert_failed(69, &["acknowledged nothing", &run.target.url()]);
    assert_eq!(run.posts("returned"), 1);
    let warnings = run.ended.said().len() - 1;
    assert_eq!(
        warnings, 1,
        "told once, not once a request: {}",
        run.ended.stderr
    );
    assert!(run.summary["requests"].as_u64() > Some(3));
}

#[test]
fn a_topic_that_is_said_to_be_missing_and_never_acknowledges_is_the_cause() {
    // A proxy hangs on an unknown topic, or blames the brokers; the others may work.
    for others_work in [false, true] {
        let run = Run::of(
            &["batch", "--topic-prefix", "t", "--retry-for", "1s"],
            Target::start(move |asked| {
                let there = asked.path != "/topics/t.geo" && others_work;
                match (asked.is_question(), there) {
                    (true, true) => Reply::json(200, "{}"),
                    (true, false) => {
                        Reply::json(404, r#"{"error_code":40401,"message":"Topic not found."}"#)
                    }
                    (false, true) => asked.all_proven(),
                    (false, false) => {
                        let error = "Topic not present in metadata after 60000 ms.";
                        let entry = json!({"partition": null, "offset": null, "error_code": 50003, "error": error});
                        asked.proven(|_| Some(entry.clone()))
                    }
                }
            }),
        );
        run.assert_failed(78, &["does not exist", "topic t."]);
        if others_work {
            assert!(run.summary["error"].as_str().unwrap().contains("t.geo"));
        }
        let warning = run.ended.said()[0];
        assert!(
            warning.contains("says that it has no topic t."),
            "{warning}"
        );
    }
}

#[test]
fn one_topic_that_is_not_there_ends_the_run_though_the_others_work() {
    let run = Run::kafka(|asked| {
        if asked.path == "/topics/t.user" {
            Reply::json(404, r#"{"error_code":40401,"message":"Topic not found."}"#)
        } else {
            asked.or_there(Asked::all_proven)
        }
    });
    run.assert_failed(78, &["t.user", "Topic not found."]);
    assert!(run.summary["elapsed_s"].as_f64() < Some(5.0));
}

#[test]
fn a_refusal_after_successes_is_doubted_and_ends_the_run_in_the_end() {
    let run = Run::of(
        &["batch", "--topic-prefix", "t", "--retry-for", "1s"],
        Target::start(|asked| {
            asked.or_there(|asked| match asked.turn {
                0 => asked.all_proven(),
                _ => Reply::json(403, r#"{"message":"Forbidden"}"#),
            })
        }),
    );
    run.assert_failed(77, &["Forbidden"]);
    assert_eq!(run.posts("delivered"), 1);
    assert!(run.target.sent_to("t.pin").len() > 2, "tried again");
}

#[test]
fn a_record_that_no_answer_proves_in_time_is_unproven_if_the_target_works() {
    let error = json!({"partition": null, "offset": null, "error_code": 50003, "error": "not enough replicas"});
    let run = Run::of(
        &[
            "batch",
            "--topic-prefix",
            "t",
            "--retry-for",
            "1s",
            "--batch-size",
            "1",
        ],
        Target::start(move |asked| {
            asked.or_there(|asked| {
                let unlucky = asked.path == "/topics/t.user" && asked.body.contains(r#""ind":3"#);
                asked.proven(|_| unlucky.then(|| error.clone()))
            })
        }),
    );
    // The others were acknowledged while this one was tried.
    assert_eq!(run.ended.code(), 1, "{:?}", run.ended);
    assert_eq!(run.posts("unproven"), 1);
    assert_eq!(run.posts("delivered"), u64::from(POSTS) - 1);
    assert_eq!(run.summary["records"]["user"]["unproven"], 1);
    assert_eq!(run.summary["records"]["pin"]["delivered"], POSTS);
}

#[test]
fn a_kinesis_error_inside_http_200_is_an_error() {
    let body = r#"{"__type":"ResourceNotFoundException","message":"Stream t-pin under account 111122223333 not found."}"#;
    for endpoint in ["record", "records"] {
        let run = Run::of(
            &["stream", "--stream-prefix", "t", "--endpoint", endpoint],
            Target::start(move |asked| asked.or_there(|_| Reply::json(200, body))),
        );
        run.assert_failed(78, &["ResourceNotFoundException", "not found"]);
    }
}

#[test]
fn only_the_failed_entries_of_a_batch_go_to_kinesis_again() {
    let slow = json!({
        "ErrorCode": "ProvisionedThroughputExceededException",
        "ErrorMessage": "Rate exceeded for shard shardId-000000000000 in stream t-pin under account 111122223333.",
    });
    let run = Run::of(
        &["stream", "--stream-prefix", "t", "--endpoint", "records"],
        Target::start(move |asked| {
            asked.or_there(|asked| match (asked.path.as_str(), asked.turn) {
                ("/streams/t-pin/records", 1) => {
                    asked.proven(|i| [1, 3].contains(&i).then(|| slow.clone()))
                }
                _ => asked.all_proven(),
            })
        }),
    );
    run.assert_delivered();
    let pins = run.target.sent_to("t-pin");
    assert_eq!(pins.len(), 3);
    let sent = pins[1].records();
    assert_eq!(pins[2].records(), [sent[1].clone(), sent[3].clone()]);
    assert_eq!(run.summary["throttled"], 1);
    assert_eq!(run.summary["retries"], 1);
}

#[test]
fn a_kinesis_error_that_passes_is_tried_again_whatever_its_status() {
    for status in [200, 400, 500] {
        let run = Run::of(
            &["stream", "--stream-prefix", "t"],
            Target::start(move |asked| {
                let error = |name: &str| {
                    Reply::json(
                        status,
                        &json!({"__type": name, "message": "later"}).to_string(),
                    )
                };
                asked.or_there(|asked| match asked.turn {
                    0 => error("ProvisionedThroughputExceededException"),
                    1 => error("com.amazonaws.kinesis#InternalFailureException"),
                    _ => asked.all_proven(),
                })
            }),
        );
        run.assert_delivered();
        assert_eq!(run.summary["throttled"], 3, "{status}");
        assert_eq!(run.summary["retries"], 6, "{status}");
    }
}
