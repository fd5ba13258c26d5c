//! The receiver as a client sees it: over a socket.

mod dialects;
mod faults;
mod foreign;
mod record_faults;
mod streams;

use std::{fs, path::Path};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const KAFKA: &str =
    "content-type: application/vnd.kafka.json.v2+json\r\naccept: application/vnd.kafka.v2+json\r\n";
const JSON: &str = "content-type: application/json\r\n";
const PUT: &str = r#"{"Data":{"index":1},"PartitionKey":"k"}"#;

fn options(data_dir: Option<&Path>) -> Options {
    Options {
        listen: "127.0.0.1:0".to_owned(),
        data_dir: data_dir.map(Path::to_owned),
        partitions: 1,
        flush_size: 1000,
        flush_after: Duration::from_mins(1),
        topics: None,
        streams: None,
        dialect: Dialect::Confluent,
        gateway: GatewayErrors::Default200,
        faults: None,
    }
}

struct Client(TcpStream);

struct Reply {
    status: u16,
    headers: String,
    body: String,
}

impl Client {
    async fn new(receiver: &Receiver) -> Self {
        let socket = TcpStream::connect(receiver.addr()).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Self(socket)
    }

    async fn send(&mut self, line: &str, headers: &str, body: &str) -> Reply {
        let length = body.len();
        let head =
            format!("{line} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {length}\r\n\r\n");
        self.0.write_all(head.as_bytes()).await.unwrap();
        self.0.write_all(body.as_bytes()).await.unwrap();
        let mut received = Vec::new();
        loop {
            assert_ne!(
                self.0.read_buf(&mut received).await.unwrap(),
                0,
                "the connection was closed"
            );
            let text = String::from_utf8_lossy(&received).to_ascii_lowercase();
            let Some((headers, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let length = headers
                .split("content-length: ")
                .nth(1)
                .unwrap()
                .split("\r\n")
                .next()
                .unwrap();
            if body.len() == length.parse::<usize>().unwrap() {
                return Reply {
                    status: headers[9..12].parse().unwrap(),
                    headers: headers.to_owned(),
                    body: String::from_utf8_lossy(&received[headers.len() + 4..]).into_owned(),
                };
            }
        }
    }

    async fn produce(&mut self, topic: &str, records: &str) -> Reply {
        self.send(
            &format!("POST /topics/{topic}"),
            KAFKA,
            &format!(r#"{{"records":[{records}]}}"#),
        )
        .await
    }

    async fn expect(&mut self, line: &str, headers: &str, body: &str, status: u16, answer: &str) {
        let reply = self.send(line, headers, body).await;
        assert_eq!(
            (reply.status, reply.body.as_str()),
            (status, answer),
            "{line}"
        );
    }
}

fn offsets(entries: &str) -> String {
    format!(r#"{{"offsets":[{entries}],"key_schema_id":null,"value_schema_id":null}}"#)
}

fn landed(partition: u32, offset: u64) -> String {
    format!(r#"{{"partition":{partition},"offset":{offset},"error_code":null,"error":null}}"#)
}

#[tokio::test]
async fn what_is_produced_lands_byte_for_byte_and_a_restart_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let file =
        |name: &str| fs::read_to_string(dir.path().join("topics/x.pin/partition=0").join(name));
    let receiver = Receiver::start(options(Some(dir.path()))).await.unwrap();
    let mut client = Client::new(&receiver).await;
    let reply = client
        .produce(
            "x.pin",
            r#"{"value":{"a": -89.97870}},{"value":null},{"value":[1,
        2]}"#,
        )
        .await;
    assert_eq!(
        reply.body,
        offsets(&[landed(0, 0), landed(0, 1), landed(0, 2)].join(","))
    );
    assert!(
        reply
            .headers
            .contains("content-type: application/vnd.kafka.v2+json\r\n"),
        "{}",
        reply.headers
    );
    assert!(reply.headers.contains("date: "), "{}", reply.headers);
    let lines = "{\"a\": -89.97870}\nnull\n[1,2]\n";
    assert_eq!(file(".x.pin+0+0000000000.json.open").unwrap(), lines);
    let counts = receiver.stop().await.unwrap();
    assert_eq!(counts.topics, BTreeMap::from([("x.pin".to_owned(), 3)]));
    assert_eq!(file("x.pin+0+0000000000.json").unwrap(), lines);

    let receiver = Receiver::start(options(Some(dir.path()))).await.unwrap();
    let mut client = Client::new(&receiver).await;
    client
        .expect("GET /topics", "", "", 200, r#"["x.pin"]"#)
        .await;
    assert_eq!(
        client.produce("x.pin", r#"{"value":4}"#).await.body,
        offsets(&landed(0, 3))
    );
    receiver.stop().await.unwrap();
    assert_eq!(file("x.pin+0+0000000003.json").unwrap(), "4\n");
}

#[tokio::test]
async fn fates_come_in_the_order_of_the_request() {
    let receiver = Receiver::start(Options {
        partitions: 3,
        ..options(None)
    })
    .await
    .unwrap();
    let mut client = Client::new(&receiver).await;
    let reply = client
        .produce("t", r#"{"value":1,"partition":2},{"value":2,"partition":9},{"value":3,"partition":1},{"value":4,"partition":2}"#)
        .await;
    let refused = r#"{"partition":null,"offset":null,"error_code":50003,"error":"Partition 9 of topic t with partition count 3 is not present in metadata after 60000 ms."}"#;
    assert_eq!(
        reply.body,
        offsets(
            &[&landed(2, 0), refused, &landed(1, 0), &landed(2, 1)]
                .map(String::from)
                .join(",")
        )
    );
    assert_eq!(receiver.stop().await.unwrap().topics["t"], 3);
}

#[tokio::test]
async fn topics_that_do_not_exist_are_refused() {
    let topics = Some(vec!["a.pin".to_owned()]);
    let receiver = Receiver::start(Options {
        topics,
        ..options(None)
    })
    .await
    .unwrap();
    let mut client = Client::new(&receiver).await;
    let missing = r#"{"partition":null,"offset":null,"error_code":50003,"error":"Topic b.pin not present in metadata after 60000 ms."}"#;
    assert_eq!(
        client
            .produce("b.pin", r#"{"value":1},{"value":2}"#)
            .await
            .body,
        offsets(&[missing; 2].join(","))
    );
    client
        .expect(
            "GET /topics/b.pin",
            "",
            "",
            404,
            r#"{"error_code":40401,"message":"Topic not found."}"#,
        )
        .await;
    client
        .expect("GET /dev/topics/", "", "", 200, r#"["a.pin"]"#)
        .await;
    let topic = r#"{"name":"a.pin","configs":{"cleanup.policy":"delete"},"partitions":[{"partition":0,"leader":0,"replicas":[{"broker":0,"leader":true,"in_sync":true}]}]}"#;
    client.expect("GET /topics/a.pin", "", "", 200, topic).await;
    let illegal = client.produce("..", r#"{"value":1}"#).await;
    assert!(
        illegal
            .body
            .contains(r#""error_code":50002,"error":"Invalid topics: [..]""#),
        "{}",
        illegal.body
    );
}

#[tokio::test]
async fn a_file_is_finished_in_time_without_another_record() {
    let dir = tempfile::tempdir().unwrap();
    let flush_after = Duration::from_millis(50);
    let receiver = Receiver::start(Options {
        flush_after,
        ..options(Some(dir.path()))
    })
    .await
    .unwrap();
    Client::new(&receiver)
        .await
        .produce("t", r#"{"value":1}"#)
        .await;
    let finished = dir.path().join("topics/t/partition=0/t+0+0000000000.json");
    while !finished.exists() {
        time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_cannot_land_is_not_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(options(Some(dir.path()))).await.unwrap();
    fs::write(dir.path().join("topics"), "in the way").unwrap();
    fs::write(dir.path().join("streams"), "in the way").unwrap();
    let mut client = Client::new(&receiver).await;
    let reply = client.produce("t", r#"{"value":1}"#).await;
    assert_eq!(reply.status, 500);
    assert!(
        reply
            .body
            .starts_with(r#"{"error_code":50002,"message":"cannot write to "#),
        "{}",
        reply.body
    );
    let reply = client
        .send(
            "PUT /streams/s/record",
            JSON,
            r#"{"Data":1,"PartitionKey":"k"}"#,
        )
        .await;
    assert!(
        reply
            .body
            .starts_with(r#"{"__type":"InternalFailure","message":"cannot write to "#),
        "{}",
        reply.body
    );
    assert_eq!(receiver.stop().await.unwrap().topics["t"], 0);
}

#[tokio::test]
async fn a_receiver_that_cannot_start_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(options(Some(dir.path()))).await.unwrap();
    let start = |listen: &str| {
        Receiver::start(Options {
            listen: listen.to_owned(),
            ..options(Some(dir.path()))
        })
    };
    let addr = receiver.addr().to_string();
    let taken = start(&addr).await.unwrap_err();
    assert_eq!(taken.exit, Exit::Unreachable);
    assert!(
        taken
            .to_string()
            .starts_with(&format!("cannot listen on {addr}: ")),
        "{taken}"
    );
    assert_eq!(start("nonsense").await.unwrap_err().exit, Exit::Usage);
    assert_eq!(start("127.0.0.1:0").await.unwrap_err().exit, Exit::Locked);
    let topics = Some(vec!["../x".to_owned()]);
    assert_eq!(
        Receiver::start(Options {
            topics,
            ..options(None)
        })
        .await
        .unwrap_err()
        .exit,
        Exit::Usage
    );
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let unwritable = Receiver::start(options(Some(&file))).await.unwrap_err();
    assert_eq!(unwritable.exit, Exit::CannotWrite);
    assert!(
        unwritable.to_string().contains(&file.display().to_string()),
        "{unwritable}"
    );
}

#[tokio::test]
async fn a_stop_does_not_wait_for_idle_connections() {
    let receiver = Receiver::start(options(None)).await.unwrap();
    let _unused = Client::new(&receiver).await;
    let mut idle = Client::new(&receiver).await;
    idle.produce("t", r#"{"value":1}"#).await;
    let started = Instant::now();
    receiver.stop().await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(2));
    assert_eq!(idle.0.read(&mut [0; 8]).await.unwrap(), 0);
}
