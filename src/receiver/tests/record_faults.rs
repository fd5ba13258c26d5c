//! Single records that fail or are refused on purpose, in the shape of every target.

use super::{faults::faulty, *};

const LEADER: &str = "For requests intended only for the leader, this error indicates that the broker is not the \
     current leader. For requests intended for any replica, this error indicates that the broker is not a replica of \
     the topic partition.";
const LATE: &str = "Expiring 1 record(s) for t-0:120001 ms has passed since batch creation";

#[tokio::test]
async fn records_fail_for_now_in_the_shape_of_every_proxy() {
    let confluent =
        |text| format!(r#"{{"partition":null,"offset":null,"error_code":50003,"error":"{text}"}}"#);
    let strimzi = |text| format!(r#"{{"error_code":500,"message":"{text}"}}"#);
    let stale = "This error is thrown if the client attempts to send messages to a replica that is not the leader \
         for some partition. It indicates that the clients metadata is out of date.";
    for (dialect, status, one, other) in [
        (Dialect::Confluent, 200, confluent(LEADER), confluent(LATE)),
        (Dialect::Strimzi, 200, strimzi(LEADER), strimzi(LATE)),
        (
            Dialect::Karapace,
            422,
            format!(r#"{{"error_code":2,"error":"{stale}"}}"#),
            r#"{"error_code":1,"error":"timed out waiting to publish message"}"#.to_owned(),
        ),
        (
            Dialect::Redpanda,
            200,
            r#"{"partition":0,"error_code":6,"offset":-1}"#.to_owned(),
            r#"{"partition":0,"error_code":7,"offset":-1}"#.to_owned(),
        ),
    ] {
        let options = Options {
            dialect,
            ..faulty(&["record-error=100%"])
        };
        let receiver = Receiver::start(options).await.unwrap();
        let mut client = Client::new(&receiver).await;
        let mut seen = String::new();
        for _ in 0..8 {
            let reply = client.produce("t", r#"{"value":{}},{"value":{}}"#).await;
            assert_eq!(reply.status, status, "{dialect:?}");
            let entries = reply.body.matches("error_code").count();
            assert_eq!(entries, if dialect == Dialect::Redpanda { 1 } else { 2 });
            seen += &reply.body;
        }
        assert!(seen.contains(&one) && seen.contains(&other), "{seen}");
        assert_eq!(receiver.stop().await.unwrap().topics["t"], 0);
    }
}

#[tokio::test]
async fn records_refused_for_good_do_not_land_in_any_dialect() {
    let large =
        "The request included a message larger than the max message size the server will accept.";
    let maximum = "The server has a configurable maximum message size to avoid unbounded memory allocation. \
         This error is thrown if the client attempt to produce a message larger than this maximum.";
    for (dialect, entry) in [
        (
            Dialect::Confluent,
            format!(r#"{{"partition":null,"offset":null,"error_code":50002,"error":"{large}"}}"#),
        ),
        (
            Dialect::Strimzi,
            format!(r#"{{"error_code":500,"message":"{large}"}}"#),
        ),
        (
            Dialect::Karapace,
            format!(r#"{{"error_code":1,"error":"{maximum}"}}"#),
        ),
        (
            Dialect::Redpanda,
            r#"{"partition":0,"error_code":10,"offset":-1}"#.to_owned(),
        ),
    ] {
        let options = Options {
            dialect,
            ..faulty(&["record-reject=20%"])
        };
        let receiver = Receiver::start(options).await.unwrap();
        let mut client = Client::new(&receiver).await;
        let mut refused = Vec::new();
        for n in (0..50).chain(0..50) {
            let reply = client
                .produce("t", &format!(r#"{{"value":{{"index":{n}}}}}"#))
                .await;
            if reply.body.contains(&entry) {
                refused.push(n);
            }
        }
        let (first, again) = refused.split_at(refused.len() / 2);
        assert!(
            first == again && (3..25).contains(&first.len()),
            "{dialect:?} {refused:?}"
        );
        let landed = receiver.stop().await.unwrap().topics["t"];
        assert_eq!(landed, 100 - refused.len() as u64, "{dialect:?}");
    }
}

#[tokio::test]
async fn kinesis_refuses_single_records_of_a_batch_and_counts_them() {
    let receiver = Receiver::start(faulty(&["record-error=50%", "record-reject=10%"]))
        .await
        .unwrap();
    let entry = |n| format!(r#"{{"data":"{{\"index\":{n}}}","partition-key":"{n}"}}"#);
    let records: Vec<_> = (0..100).map(entry).collect();
    let body = format!(r#"{{"records":[{}]}}"#, records.join(","));
    let mut client = Client::new(&receiver).await;
    let (mut landed, mut last) = (0, String::new());
    for _ in 0..3 {
        let reply = client.send("PUT /streams/s/records", JSON, &body).await;
        assert_eq!(reply.status, 200);
        let answer: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
        let results = answer["Records"].as_array().unwrap();
        assert_eq!(results.len(), 100);
        for result in results {
            if let Some(number) = result["SequenceNumber"].as_str() {
                assert!(last.as_str() < number, "{last} {number}");
                last = number.to_owned();
                landed += 1;
            }
        }
        let codes: Vec<_> = results
            .iter()
            .filter_map(|it| it["ErrorCode"].as_str())
            .collect();
        assert_eq!(answer["FailedRecordCount"], codes.len());
        for code in [
            "ProvisionedThroughputExceededException",
            "InternalFailure",
            "InvalidArgumentException",
        ] {
            assert!(codes.contains(&code), "{code}: {codes:?}");
        }
    }
    assert_eq!(receiver.stop().await.unwrap().streams["s"], landed);
}

#[tokio::test]
async fn a_single_record_that_kinesis_refuses_is_an_error_of_its_own() {
    let busy = r#"{"__type":"ProvisionedThroughputExceededException","message":"Rate exceeded for shard shardId-000000000000 in stream s under account 000000000000."}"#;
    let internal = r#"{"__type":"InternalFailure","message":"Internal service failure."}"#;
    for gateway in [GatewayErrors::Default200, GatewayErrors::Mapped] {
        let options = Options {
            gateway,
            ..faulty(&["record-error=100%"])
        };
        let receiver = Receiver::start(options).await.unwrap();
        let mut client = Client::new(&receiver).await;
        let (mut was_busy, mut was_internal) = (false, false);
        for _ in 0..20 {
            let reply = client.send("PUT /streams/s/record", JSON, PUT).await;
            let status = match reply.body.as_str() {
                body if body == busy => 400,
                body => {
                    assert_eq!(body, internal);
                    500
                }
            };
            was_busy |= status == 400;
            was_internal |= status == 500;
            let mapped = gateway == GatewayErrors::Mapped;
            assert_eq!(reply.status, if mapped { status } else { 200 });
        }
        assert!(was_busy && was_internal);
        assert_eq!(receiver.stop().await.unwrap().streams["s"], 0);
    }
}
