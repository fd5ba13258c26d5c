//! Streams, and what the gateway in front of them answers.

use std::fs;

use super::*;

#[tokio::test]
async fn what_is_put_in_streams_lands_as_lines_of_json() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(options(Some(dir.path()))).await.unwrap();
    let mut client = Client::new(&receiver).await;
    let zeros = "0".repeat(52);
    let receipt =
        |n| format!(r#"{{"SequenceNumber":"495{zeros}{n}","ShardId":"shardId-000000000000"}}"#);
    let single = r#"{"StreamName":"other","Data":{"index": 1},"PartitionKey":"7"}"#;
    client
        .expect(
            "PUT /Pinetrest/streams/x-pin/record",
            JSON,
            single,
            200,
            &receipt(0),
        )
        .await;
    let batch = r#"{"records":[{"data":"{\"index\":2}","partition-key":"8"},{"data":{"a":1},"partition-key":"9"}]}"#;
    let receipts = format!(
        r#"{{"FailedRecordCount":0,"Records":[{},{}]}}"#,
        receipt(1),
        receipt(2)
    );
    client
        .expect("PUT /streams/x-pin/records", JSON, batch, 200, &receipts)
        .await;
    client
        .expect(
            "GET /streams",
            "",
            "",
            200,
            r#"{"HasMoreStreams":false,"StreamNames":["x-pin"]}"#,
        )
        .await;
    receiver.stop().await.unwrap();

    let path = dir.path().join(format!(
        "streams/x-pin/shardId-000000000000/495{zeros}0.jsonl"
    ));
    let text = fs::read_to_string(path).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let start = format!(
        r#"{{"partitionKey":"7","data":{{"index": 1}},"stream":"x-pin","shardId":"shardId-000000000000","sequenceNumber":"495{zeros}0","approximateArrivalTimestamp":"#
    );
    assert!(lines[0].starts_with(&start), "{}", lines[0]);
    let arrived = lines[0][start.len()..].trim_end_matches('}');
    assert!(
        arrived.len() == 14 && arrived.parse::<f64>().unwrap() > 1e9,
        "{arrived}"
    );
    assert!(lines[1].contains(r#""data":{"index":2},"#), "{}", lines[1]);
    assert!(lines[2].contains(r#""data":"{a=1}","#), "{}", lines[2]);
}

/// The description of the stream `s`, once it is ready.
async fn active(client: &mut Client) -> serde_json::Value {
    loop {
        let answer = client.send("GET /streams/s", "", "").await.body;
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let description = &answer["StreamDescription"];
        if description["StreamStatus"] != "CREATING" {
            assert_eq!(description["StreamStatus"], "ACTIVE");
            return description.clone();
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn streams_are_made_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let options = || Options {
        streams: Some(Vec::new()),
        ..options(Some(dir.path()))
    };
    let receiver = Receiver::start(options()).await.unwrap();
    let mut client = Client::new(&receiver).await;
    let missing = r#"{"__type":"ResourceNotFoundException","message":"Stream s under account 000000000000 not found."}"#;
    let put = r#"{"Data":{},"PartitionKey":"k"}"#;
    client
        .expect("PUT /streams/s/record", JSON, put, 200, missing)
        .await;
    client
        .expect("GET /streams/s", JSON, "", 200, missing)
        .await;
    client
        .expect("DELETE /streams/s", "", "", 200, missing)
        .await;
    client
        .expect("POST /streams/s", JSON, r#"{"ShardCount":3}"#, 200, "{}")
        .await;
    let exists = r#"{"__type":"ResourceInUseException","message":"Stream s under account 000000000000 already exists."}"#;
    client
        .expect("POST /streams/s", JSON, r#"{"ShardCount":3}"#, 200, exists)
        .await;
    let creating = client.send("GET /streams/s", "", "").await.body;
    assert!(
        creating.contains(r#""Shards":[]"#) && creating.contains(r#""StreamStatus":"CREATING""#),
        "{creating}"
    );
    client
        .expect("PUT /streams/s/record", JSON, put, 200, missing)
        .await;
    let description = active(&mut client).await;
    assert_eq!(description["Shards"].as_array().unwrap().len(), 3);
    let first = client.send("PUT /streams/s/record", JSON, put).await.body;
    client.expect("DELETE /streams/s", "", "", 200, "{}").await;
    client
        .expect("PUT /streams/s/record", JSON, put, 200, missing)
        .await;
    client
        .expect("POST /streams/s", JSON, r#"{"ShardCount":1}"#, 200, "{}")
        .await;
    active(&mut client).await;
    let second = client.send("PUT /streams/s/record", JSON, put).await.body;
    assert!(first < second, "{first} {second}");
    assert_eq!(receiver.stop().await.unwrap().streams["s"], 2);
}

#[tokio::test]
async fn the_gateway_answers_for_what_leads_nowhere() {
    let receiver = Receiver::start(options(None)).await.unwrap();
    let mut client = Client::new(&receiver).await;
    for line in [
        "GET /",
        "PUT /topics/t",
        "POST /streams/s/record",
        "GET /a/b/topics",
        "POST /nothing",
    ] {
        let reply = client.send(line, JSON, "{}").await;
        assert_eq!(
            (reply.status, reply.body.as_str()),
            (403, r#"{"message":"Missing Authentication Token"}"#),
            "{line}"
        );
        for header in [
            "x-amzn-errortype: missingauthenticationtokenexception",
            "x-amzn-requestid: ",
            "content-type: application/json\r\n",
        ] {
            assert!(reply.headers.contains(header), "{}", reply.headers);
        }
    }
    let unsupported = r#"{"message":"Unsupported Media Type"}"#;
    client
        .expect(
            "PUT /streams/s/record",
            "content-type: text/plain\r\n",
            "{}",
            415,
            unsupported,
        )
        .await;
    let body = "x".repeat(gateway::MAX_BODY + 1);
    client
        .expect(
            "POST /topics/t",
            KAFKA,
            &body,
            413,
            r#"{"message":"Request Too Long"}"#,
        )
        .await;
    client.expect("GET /topics", "", "", 200, "[]").await;
}
