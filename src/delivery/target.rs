//! The target of the tests: does what its moves say and watches what it gets.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{Delivery, Options};
use crate::{
    failure::Exit,
    http::{Http, NoAnswer},
    limiter::InFlight,
    post::{Cursor, Key, Kind, PerKind, Post},
    sink::{
        Answer, Request, Sink,
        kafka_rest::{KafkaRest, RecordKey},
        kinesis_gateway::{Endpoint, KinesisGateway, PartitionKey},
    },
};

/// A runtime whose clock moves on when nobody has anything to do.
pub(crate) fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
}

/// Which API it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Api {
    Kafka,
    Record,
    Records,
}

impl Api {
    pub(crate) fn sink(self) -> Sink {
        let kinesis = |endpoint| {
            Sink::KinesisGateway(KinesisGateway::new("p", endpoint, PartitionKey::Index))
        };
        match self {
            Self::Kafka => Sink::KafkaRest(KafkaRest::new("p", RecordKey::None)),
            Self::Record => kinesis(Endpoint::Record),
            Self::Records => kinesis(Endpoint::Records),
        }
    }
}

/// What it says of a record or of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    Yes,
    Later,
    Slower,
    Never,
    Forbidden,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// Something of each record; the words are used again where there are more records.
    Each(Vec<Word>),
    /// The same of all.
    All(Word),
    TooLarge,
    /// Redpanda: one result for each of fewer partitions. All records landed.
    Partitions,
    /// Fewer results than records, and no way to tell whose they are.
    Fewer,
    Empty,
    Page,
    NoAnswer,
    /// As `NoAnswer`, for a reason that lasts: a certificate.
    Distrust,
}

/// What it does with one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) what: What,
    pub(crate) takes: Duration,
    pub(crate) retry_after: Option<Duration>,
}

impl Move {
    pub(crate) fn new(what: What) -> Self {
        Self {
            what,
            takes: Duration::from_millis(10),
            retry_after: None,
        }
    }

    pub(crate) fn all(word: Word) -> Self {
        Self::new(What::All(word))
    }
}

/// The record of a kind and key.
pub(crate) type Name = (usize, i128);

/// What it has seen of a record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) requests: u32,
    pub(crate) first: Instant,
    pub(crate) last_answer: Option<Instant>,
}

/// A request that it got.
#[derive(Debug, Clone)]
pub(crate) struct Got {
    pub(crate) kind: usize,
    pub(crate) keys: Vec<i128>,
    pub(crate) bytes: usize,
    pub(crate) at: Instant,
}

type Watch = Box<dyn FnMut(&HashSet<Name>) -> Option<String> + Send>;

pub(crate) struct State {
    moves: VecDeque<Move>,
    /// For all requests after them.
    after: Move,
    /// Requests with this key are refused like those of a stranger.
    pub(crate) forbidden: Option<i128>,
    pub(crate) acknowledged: HashSet<Name>,
    pub(crate) rejected: HashSet<Name>,
    pub(crate) seen: HashMap<Name, Seen>,
    pub(crate) got: Vec<Got>,
    pub(crate) on_wire: usize,
    pub(crate) most_on_wire: usize,
    /// Called with what is acknowledged when a request comes; gives what is wrong.
    pub(crate) watch: Option<Watch>,
    /// What no target should get to see.
    pub(crate) wrong: Vec<String>,
}

#[derive(Clone)]
pub(crate) struct Target {
    api: Api,
    state: Arc<Mutex<State>>,
}

impl Target {
    pub(crate) fn new(api: Api, moves: Vec<Move>, after: Move) -> Self {
        let state = State {
            moves: moves.into(),
            after,
            forbidden: None,
            acknowledged: HashSet::new(),
            rejected: HashSet::new(),
            seen: HashMap::new(),
            got: Vec::new(),
            on_wire: 0,
            most_on_wire: 0,
            watch: None,
            wrong: Vec::new(),
        };
        Self {
            api,
            state: Arc::new(Mutex::new(state)),
        }
    }

    pub(crate) fn delivery(&self, in_flight: InFlight, retry_for: Duration) -> Arc<Delivery> {
        let target = self.clone();
        let http = Http::scripted(move |request| target.answer(request).boxed());
        let options = Options {
            in_flight,
            retry_for,
        };
        Arc::new(Delivery::new(self.api.sink(), http, options))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn answer(
        &self,
        request: &Request,
    ) -> impl Future<Output = Result<Answer, NoAnswer>> + Send + 'static {
        let kind = Kind::ALL
            .into_iter()
            .find(|kind| request.path.contains(&format!("p{}{kind}", self.joint())))
            .unwrap() as usize;
        let keys = keys(&request.body);
        let step = self
            .state()
            .arrive(self.api, kind, &keys, request.body.len());
        // Counts as on the wire until it is answered or given up.
        let on_wire = OnWire(self.clone());
        let target = self.clone();
        async move {
            sleep(step.takes).await;
            drop(on_wire);
            target.state().leave(target.api, kind, &keys, &step)
        }
    }

    fn joint(&self) -> &'static str {
        if self.api == Api::Kafka { "." } else { "-" }
    }
}

struct OnWire(Target);

impl Drop for OnWire {
    fn drop(&mut self) {
        self.0.state().on_wire -= 1;
    }
}

impl State {
    fn arrive(&mut self, api: Api, kind: usize, keys: &[i128], bytes: usize) -> Move {
        let now = Instant::now();
        self.on_wire += 1;
        self.most_on_wire = self.most_on_wire.max(self.on_wire);
        let limit = api.sink().request_limit().unwrap_or(usize::MAX);
        if keys.is_empty() || keys.len() > limit {
            self.wrong.push(format!("{} records at once", keys.len()));
        }
        if keys.iter().collect::<HashSet<_>>().len() < keys.len() {
            self.wrong.push(format!("twice in one request: {keys:?}"));
        }
        for key in keys {
            let name = (kind, *key);
            if self.acknowledged.contains(&name) {
                self.wrong.push(format!("{name:?} again, acknowledged"));
            }
            if self.rejected.contains(&name) {
                self.wrong.push(format!("{name:?} again, rejected"));
            }
            let new = Seen {
                requests: 0,
                first: now,
                last_answer: None,
            };
            self.seen.entry(name).or_insert(new).requests += 1;
        }
        self.got.push(Got {
            kind,
            keys: keys.to_vec(),
            bytes,
            at: now,
        });
        if let Some(watch) = &mut self.watch {
            let wrong = watch(&self.acknowledged);
            self.wrong.extend(wrong);
        }
        if keys.iter().any(|key| self.forbidden == Some(*key)) {
            return Move::all(Word::Forbidden);
        }
        self.moves.pop_front().unwrap_or_else(|| self.after.clone())
    }

    fn leave(
        &mut self,
        api: Api,
        kind: usize,
        keys: &[i128],
        step: &Move,
    ) -> Result<Answer, NoAnswer> {
        let now = Instant::now();
        for key in keys {
            if let Some(seen) = self.seen.get_mut(&(kind, *key)) {
                seen.last_answer = Some(now);
            }
        }
        let words = |words: &[Word]| words.iter().copied().cycle().take(keys.len()).collect();
        let words: Vec<Word> = match &step.what {
            What::Each(each) => words(each),
            What::All(Word::Yes) => words(&[Word::Yes]),
            What::All(Word::Never) | What::TooLarge if keys.len() == 1 => words(&[Word::Never]),
            What::Partitions if api == Api::Kafka || keys.len() == 1 => words(&[Word::Yes]),
            What::Fewer if keys.len() == 1 => words(&[Word::Yes]),
            _ => words(&[Word::Later]),
        };
        for (key, word) in keys.iter().zip(&words) {
            match word {
                Word::Yes => drop(self.acknowledged.insert((kind, *key))),
                Word::Never => drop(self.rejected.insert((kind, *key))),
                _ => {}
            }
        }
        let (status, body) = match &step.what {
            What::Partitions if api == Api::Kafka && keys.len() > 1 => {
                let results: Vec<_> = (1..keys.len())
                    .map(|partition| json!({"partition": partition, "offset": 7}))
                    .collect();
                (200, json!({ "offsets": results }).to_string())
            }
            What::Fewer | What::Partitions if keys.len() > 1 => {
                (200, api.results(&vec![Word::Yes; keys.len() - 1]))
            }
            What::Each(_) | What::All(Word::Yes) | What::Fewer | What::Partitions => {
                (200, api.results(&words))
            }
            What::All(Word::Later) => (500, String::new()),
            What::All(Word::Slower) => (429, r#"{"message":"Too Many Requests"}"#.to_owned()),
            What::All(Word::Forbidden) => (403, r#"{"message":"Forbidden"}"#.to_owned()),
            What::All(Word::Never) => (400, String::new()),
            What::TooLarge => (413, String::new()),
            What::Empty => (200, String::new()),
            What::Page => (200, "<html></html>".to_owned()),
            What::Distrust => {
                return Err(NoAnswer {
                    lasting: Some(Exit::Unreachable),
                    ..NoAnswer::default()
                });
            }
            What::NoAnswer => {
                return Err(NoAnswer {
                    text: "no answer in time".to_owned(),
                    ..NoAnswer::default()
                });
            }
        };
        Ok(Answer {
            status,
            retry_after: step.retry_after,
            body: body.into(),
            ..Answer::default()
        })
    }
}

impl Api {
    pub(super) fn results(self, words: &[Word]) -> String {
        let kafka = |word: &Word| match word {
            // All in one partition, so that fewer of them prove nothing.
            Word::Yes => json!({"offset": 7}),
            Word::Later | Word::Slower => json!({"error_code": 50003, "error": "later"}),
            Word::Never => json!({"error_code": 50002, "error": "never"}),
            Word::Forbidden => json!({"error_code": 40301, "error": "forbidden"}),
        };
        let code = |word: &Word| match word {
            Word::Yes => "",
            Word::Later => "InternalFailure",
            Word::Slower => "ProvisionedThroughputExceededException",
            Word::Never => "ValidationException",
            Word::Forbidden => "AccessDeniedException",
        };
        let proof = || json!({"SequenceNumber": "49", "ShardId": "shardId-000000000000"});
        match (self, words) {
            (Self::Kafka, _) => {
                json!({ "offsets": words.iter().map(kafka).collect::<Vec<_>>() }).to_string()
            }
            (Self::Record, [Word::Yes]) => proof().to_string(),
            (Self::Record, [word]) => json!({"__type": code(word), "message": "x"}).to_string(),
            _ => {
                let result = |word: &Word| match word {
                    Word::Yes => proof(),
                    other => json!({"ErrorCode": code(other), "ErrorMessage": "x"}),
                };
                json!({ "Records": words.iter().map(result).collect::<Vec<_>>() }).to_string()
            }
        }
    }
}

/// The keys of the records in a body, whatever API it is for.
fn keys(body: &[u8]) -> Vec<i128> {
    let body: Value = serde_json::from_slice(body).unwrap();
    let index = |record: &Value| i128::from(record["index"].as_i64().unwrap());
    let Some(records) = body["records"].as_array() else {
        return vec![index(&body["Data"])];
    };
    let key = |record: &Value| match &record["data"] {
        Value::String(text) => index(&serde_json::from_str(text).unwrap()),
        _ => index(&record["value"]),
    };
    records.iter().map(key).collect()
}

/// A post whose records are `padding` bytes longer than they need to be; `mask` says which of them it has.
pub(crate) fn post(key: i128, mask: u8, padding: usize) -> Post {
    let record = format!(r#"{{"index":{key},"x":"{}"}}"#, "x".repeat(padding));
    let record = Bytes::from(record);
    let records = PerKind::new(|kind| (mask >> (kind as u8) & 1 == 1).then(|| record.clone()));
    let key = Key(key);
    Post {
        key,
        records,
        cursor: Cursor::Index { after: key },
    }
}

pub(crate) fn apis() -> impl Strategy<Value = Api> {
    prop::sample::select(vec![Api::Kafka, Api::Record, Api::Records])
}

pub(crate) fn in_flights() -> impl Strategy<Value = InFlight> {
    prop_oneof![
        (1..4_u16).prop_map(InFlight::Fixed),
        (1..4_u16, 1..9_u16).prop_map(|(first, most)| InFlight::Auto { first, most }),
    ]
}

pub(crate) fn moves(words: Vec<Word>) -> impl Strategy<Value = Move> {
    let word = prop::sample::select(words);
    let what = prop_oneof![
        4 => prop::collection::vec(word.clone(), 1..9).prop_map(What::Each),
        3 => word.prop_map(What::All),
        2 => Just(What::TooLarge),
        1 => Just(What::Partitions),
        1 => Just(What::Fewer),
        1 => Just(What::Empty),
        1 => Just(What::Page),
        2 => Just(What::NoAnswer),
    ];
    let retry_after = prop_oneof![9 => Just(None), 1 => (0..100_u64).prop_map(Some)];
    (what, 0..3000_u64, retry_after).prop_map(|(what, takes, retry_after)| Move {
        what,
        takes: Duration::from_millis(takes),
        retry_after: retry_after.map(Duration::from_secs),
    })
}

/// What the target may say, mostly not what ends the run.
pub(crate) fn words() -> impl Strategy<Value = Vec<Word>> {
    use Word::{Forbidden, Later, Never, Slower, Yes};
    prop_oneof![
        4 => Just(vec![Yes, Yes, Later, Slower, Never]),
        1 => Just(vec![Yes, Yes, Later, Slower, Never, Forbidden]),
    ]
}
