//! The four proxies side by side, and the gateway's two ways with errors.

use super::*;

use Dialect::{Confluent, Karapace, Redpanda, Strimzi};

fn speaking(dialect: Dialect) -> Options {
    Options {
        dialect,
        topics: Some(vec!["t".to_owned()]),
        partitions: 2,
        ..options(None)
    }
}

const TWO_PARTITIONS: &str =
    r#"{"value":{},"partition":1},{"value":{},"partition":0},{"value":{},"partition":1}"#;

#[tokio::test]
async fn every_proxy_acknowledges_in_its_own_shape() {
    for (dialect, body) in [
        (
            Confluent,
            offsets(&[landed(1, 0), landed(0, 0), landed(1, 1)].join(",")),
        ),
        (
            Strimzi,
            r#"{"offsets":[{"partition":1,"offset":0},{"partition":0,"offset":0},{"partition":1,"offset":1}]}"#.to_owned(),
        ),
        (
            Karapace,
            r#"{"key_schema_id":null,"value_schema_id":null,"offsets":[{"offset":0,"partition":1},{"offset":0,"partition":0},{"offset":1,"partition":1}]}"#.to_owned(),
        ),
        (
            Redpanda,
            r#"{"offsets":[{"partition":0,"offset":0},{"partition":1,"offset":0}]}"#.to_owned(),
        ),
    ] {
        let receiver = Receiver::start(speaking(dialect)).await.unwrap();
        let reply = Client::new(&receiver).await.produce("t", TWO_PARTITIONS).await;
        assert_eq!((reply.status, reply.body), (200, body), "{dialect:?}");
        assert_eq!(receiver.stop().await.unwrap().topics["t"], 3);
    }
}

#[tokio::test]
async fn every_proxy_has_its_own_way_with_a_topic_that_is_not_there() {
    let absent = "Topic x not present in metadata after 60000 ms.";
    let confluent =
        format!(r#"{{"partition":null,"offset":null,"error_code":50003,"error":"{absent}"}}"#);
    let strimzi = format!(r#"{{"error_code":404,"message":"{absent}"}}"#);
    for (dialect, status, body, asked) in [
        (
            Confluent,
            200,
            offsets(&format!("{confluent},{confluent}")),
            r#"{"error_code":40401,"message":"Topic not found."}"#,
        ),
        (
            Strimzi,
            200,
            format!(r#"{{"offsets":[{strimzi},{strimzi}]}}"#),
            r#"{"error_code":404,"message":"This server does not host this topic-partition."}"#,
        ),
        (
            Karapace,
            404,
            r#"{"error_code":40401,"message":"Topic x not found"}"#.to_owned(),
            r#"{"error_code":40403,"message":"Topic x not found"}"#,
        ),
        (
            Redpanda,
            200,
            r#"{"offsets":[{"partition":0,"error_code":3,"offset":-1}]}"#.to_owned(),
            r#"{"message": "Not found", "code": 404}"#,
        ),
    ] {
        let receiver = Receiver::start(speaking(dialect)).await.unwrap();
        let mut client = Client::new(&receiver).await;
        let reply = client.produce("x", r#"{"value":{}},{"value":{}}"#).await;
        assert_eq!((reply.status, reply.body), (status, body), "{dialect:?}");
        client.expect("GET /topics/x", "", "", 404, asked).await;
        client.expect("GET /topics", "", "", 200, r#"["t"]"#).await;
        assert_eq!(receiver.stop().await.unwrap().topics["t"], 0);
    }
}

#[tokio::test]
async fn a_record_that_cannot_land_does_not_keep_the_others_from_it_but_in_redpanda() {
    let metadata =
        "Partition 9 of topic t with partition count 2 is not present in metadata after 60000 ms.";
    for (dialect, status, refused) in [
        (
            Confluent,
            200,
            format!(
                r#"{{"partition":null,"offset":null,"error_code":50003,"error":"{metadata}"}}"#
            ),
        ),
        (
            Strimzi,
            200,
            format!(r#"{{"error_code":404,"message":"{metadata}"}}"#),
        ),
        (
            Karapace,
            422,
            r#"{"error_code":1,"error":"Unrecognized partition"}"#.to_owned(),
        ),
        (
            Redpanda,
            200,
            r#"{"partition":9,"error_code":3,"offset":-1}"#.to_owned(),
        ),
    ] {
        let receiver = Receiver::start(speaking(dialect)).await.unwrap();
        let mut client = Client::new(&receiver).await;
        let reply = client
            .produce(
                "t",
                r#"{"value":{},"partition":9},{"value":{},"partition":0}"#,
            )
            .await;
        assert_eq!(reply.status, status, "{dialect:?}");
        assert!(reply.body.contains(&refused), "{}", reply.body);
        let large = "x".repeat(1_048_570);
        if dialect != Karapace {
            let records =
                format!(r#"{{"value":{{}},"partition":1}},{{"value":"{large}","partition":1}}"#);
            let reply = client.produce("t", &records).await;
            if dialect == Redpanda {
                assert_eq!(
                    reply.body,
                    r#"{"offsets":[{"partition":1,"error_code":10,"offset":-1}]}"#
                );
            } else {
                assert!(reply.body.contains("larger than 1048576"), "{}", reply.body);
            }
        }
        let count = if matches!(dialect, Karapace | Redpanda) {
            1
        } else {
            2
        };
        assert_eq!(
            receiver.stop().await.unwrap().topics["t"],
            count,
            "{dialect:?}"
        );
    }
}

#[tokio::test]
async fn a_mapped_gateway_passes_on_the_status_of_kinesis_and_answers_for_itself_as_ever() {
    let receiver = Receiver::start(Options {
        gateway: GatewayErrors::Mapped,
        streams: Some(vec!["s".to_owned()]),
        ..options(None)
    })
    .await
    .unwrap();
    let mut client = Client::new(&receiver).await;
    let put = r#"{"Data":{},"PartitionKey":"k"}"#;
    let missing = r#"{"__type":"ResourceNotFoundException","message":"Stream x under account 000000000000 not found."}"#;
    client
        .expect("PUT /streams/x/record", JSON, put, 400, missing)
        .await;
    assert_eq!(
        client.send("PUT /streams/s/record", JSON, put).await.status,
        200
    );
    let reply = client.send("GET /nothing", "", "").await;
    assert_eq!(reply.status, 403);
}
