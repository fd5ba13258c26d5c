//! What goes wrong on purpose, as a client sees it.

use super::*;

pub(super) fn faulty(faults: &[&str]) -> Options {
    let faults: Vec<_> = faults.iter().map(|fault| fault.parse().unwrap()).collect();
    Options {
        faults: Some(Plan::new(&faults, 1).unwrap()),
        ..options(None)
    }
}

const PRODUCE: &str = "POST /topics/t HTTP/1.1\r\nhost: x\r\ncontent-type: application/vnd.kafka.json.v2+json\r\n\
                       content-length: 25\r\n\r\n{\"records\":[{\"value\":1}]}";

/// All that comes until the connection ends.
async fn all_of_an_answer(receiver: &Receiver) -> String {
    let mut client = Client::new(receiver).await;
    client.0.write_all(PRODUCE.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    client.0.read_to_end(&mut bytes).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn a_status_comes_in_the_words_of_who_answers_and_nothing_lands() {
    let receiver = Receiver::start(faulty(&["503=100%"])).await.unwrap();
    let mut client = Client::new(&receiver).await;
    let reply = client.produce("t", r#"{"value":1}"#).await;
    assert_eq!(
        (reply.status, reply.body.as_str()),
        (
            503,
            r#"{"error_code":50302,"message":"The broker is not available."}"#
        )
    );
    let reply = client.send("PUT /streams/s/record", JSON, PUT).await;
    assert_eq!(
        (reply.status, reply.body.as_str()),
        (503, r#"{"message":"Service Unavailable"}"#)
    );
    assert!(
        reply
            .headers
            .contains("x-amzn-errortype: serviceunavailableexception")
    );
    let counts = receiver.stop().await.unwrap();
    assert!(counts.topics.is_empty() && counts.streams.is_empty());
}

#[tokio::test]
async fn a_strangers_page_is_an_answer_without_proof() {
    let receiver = Receiver::start(faulty(&["html=100%"])).await.unwrap();
    let mut client = Client::new(&receiver).await;
    let reply = client.produce("t", r#"{"value":1}"#).await;
    assert_eq!(reply.status, 200);
    assert!(reply.headers.contains("content-type: text/html"));
    assert!(reply.body.starts_with("<!DOCTYPE html>"));
    assert!(receiver.stop().await.unwrap().topics.is_empty());
}

#[tokio::test]
async fn a_dropped_request_has_landed() {
    let receiver = Receiver::start(faulty(&["drop=100%"])).await.unwrap();
    assert_eq!(all_of_an_answer(&receiver).await, "");
    assert_eq!(all_of_an_answer(&receiver).await, "");
    assert_eq!(receiver.stop().await.unwrap().topics["t"], 2);
}

#[tokio::test]
async fn a_truncated_answer_promises_more_than_it_brings() {
    let receiver = Receiver::start(faulty(&["truncate=100%"])).await.unwrap();
    let text = all_of_an_answer(&receiver).await;
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let whole = offsets(&landed(0, 0));
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(
        head.contains(&format!("content-length: {}", whole.len())),
        "{head}"
    );
    assert_eq!(body, &whole[..whole.len() / 2]);
    assert_eq!(receiver.stop().await.unwrap().topics["t"], 1);
}

#[tokio::test]
async fn an_empty_answer_hides_that_the_record_has_landed() {
    let receiver = Receiver::start(faulty(&["empty=100%"])).await.unwrap();
    let mut client = Client::new(&receiver).await;
    for _ in 0..2 {
        let reply = client.produce("t", r#"{"value":1}"#).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, ""));
    }
    assert_eq!(receiver.stop().await.unwrap().topics["t"], 2);
}

#[tokio::test]
async fn a_request_that_hangs_holds_up_nobody_else_and_no_stop() {
    let receiver = Receiver::start(faulty(&["hang=50%"])).await.unwrap();
    let mut hanging = Vec::new();
    let mut answered = 0;
    for _ in 0..20 {
        let mut client = Client::new(&receiver).await;
        let reply = client.produce("t", r#"{"value":1}"#);
        match time::timeout(Duration::from_millis(200), reply).await {
            Ok(reply) => answered += u64::from(reply.status == 200),
            Err(_) => hanging.push(client),
        }
    }
    assert!(answered > 0 && hanging.len() > 1, "{answered}");
    drop(hanging.pop());
    let started = Instant::now();
    assert_eq!(receiver.stop().await.unwrap().topics["t"], answered);
    assert!(started.elapsed() < Duration::from_secs(2));
    assert_eq!(hanging[0].0.read(&mut [0; 8]).await.unwrap(), 0);
}

#[tokio::test]
async fn latency_delays_answers_and_no_stop() {
    let receiver = Receiver::start(faulty(&["latency=60ms"])).await.unwrap();
    let started = Instant::now();
    Client::new(&receiver)
        .await
        .produce("t", r#"{"value":1}"#)
        .await;
    assert!(started.elapsed() >= Duration::from_millis(60));
    receiver.stop().await.unwrap();

    let receiver = Receiver::start(faulty(&["latency=1h"])).await.unwrap();
    let mut client = Client::new(&receiver).await;
    client.0.write_all(PRODUCE.as_bytes()).await.unwrap();
    while receiver.service.topics.counts().get("t") != Some(&1) {
        time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(receiver.stop().await.unwrap().topics["t"], 1);
    let mut text = String::new();
    client.0.read_to_string(&mut text).await.unwrap();
    assert!(text.ends_with(&offsets(&landed(0, 0))), "{text}");
}

#[tokio::test]
async fn more_than_the_limit_is_refused_as_too_many() {
    // So slow that how long the test takes does not matter.
    let receiver = Receiver::start(faulty(&["limit=1/h"])).await.unwrap();
    let mut client = Client::new(&receiver).await;
    let taken = client.send("PUT /streams/s/record", JSON, PUT).await;
    assert_eq!(taken.status, 200);
    for _ in 0..3 {
        let reply = client.send("PUT /streams/s/record", JSON, PUT).await;
        assert_eq!(
            (reply.status, reply.body.as_str()),
            (429, r#"{"message":"Too Many Requests"}"#)
        );
        assert!(
            reply
                .headers
                .contains("x-amzn-errortype: toomanyrequestsexception")
        );
    }
    assert_eq!(receiver.stop().await.unwrap().streams["s"], 1);
}

#[tokio::test]
async fn every_proxy_has_words_of_its_own_for_too_many() {
    for (dialect, status, body, retry_after) in [
        (
            Dialect::Confluent,
            429,
            r#"{"error_code":42901,"message":"The throttling quota has been exceeded."}"#,
            false,
        ),
        (
            Dialect::Strimzi,
            503,
            r#"{"error_code":503,"message":"Bridge is overloaded, please retry later"}"#,
            false,
        ),
        (
            Dialect::Karapace,
            429,
            r#"{"message":"Too Many Requests"}"#,
            false,
        ),
        (Dialect::Redpanda, 429, "", true),
    ] {
        let options = Options {
            dialect,
            ..faulty(&["limit=1/h"])
        };
        let receiver = Receiver::start(options).await.unwrap();
        let mut client = Client::new(&receiver).await;
        assert_eq!(client.produce("t", r#"{"value":{}}"#).await.status, 200);
        let reply = client.produce("t", r#"{"value":{}}"#).await;
        assert_eq!(
            (reply.status, reply.body.as_str()),
            (status, body),
            "{dialect:?}"
        );
        assert_eq!(reply.headers.contains("retry-after: 0"), retry_after);
    }
}

#[tokio::test]
async fn the_same_seed_and_requests_bring_the_same_answers() {
    let faults = [
        "503=20%",
        "html=10%",
        "empty=10%",
        "record-error=30%",
        "record-reject=10%",
    ];
    let mut runs = Vec::new();
    for _ in 0..2 {
        let receiver = Receiver::start(faulty(&faults)).await.unwrap();
        let mut client = Client::new(&receiver).await;
        let mut run = Vec::new();
        for n in 0..60 {
            let records = format!(
                r#"{{"value":{{"index":{n}}}}},{{"value":{{"index":{}}}}}"#,
                -n
            );
            let reply = client.produce("t", &records).await;
            run.push((reply.status, reply.body));
        }
        runs.push((run, receiver.stop().await.unwrap()));
    }
    assert_eq!(runs[0], runs[1]);
}
