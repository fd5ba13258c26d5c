//! `resend`: what was set aside is sent again, with the keys and to the topics or streams it was meant for. What still
//! fails is set aside again; what succeeds is forgotten.

mod place;

use std::{
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::SystemTime,
};

use tokio::{sync::mpsc, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

use self::place::Place;
use super::{
    report::{self, Facts, Form as ReportForm},
    sending,
};
use crate::{
    cli::ResendArgs,
    config::shell_quoted,
    delivery::{Attempts, Delivery},
    failure::{Exit, Failure, OrExit},
    http::InvokeUrl,
    pace::{Arrivals, Rate, Rated, Schedule},
    pipeline::{self, Ended},
    post::{Cursor, PerKind, Post},
    progress::{Progress, When},
    shard::Shard,
    sink::{
        Sink,
        kafka_rest::{KafkaRest, RecordKey},
        kinesis_gateway::{Endpoint, KinesisGateway, PartitionKey},
    },
    source::{Chunk, Posts},
    state::{
        self,
        ledger::Ledger,
        lock::Lock,
        undelivered::{self, Records, Resending, Undelivered},
    },
    telemetry::say,
};

/// Records that may wait between the file and the engine.
const AHEAD: usize = 1024;

/// Where and how records went, and go again. Two records with the same route may travel in one request.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Route {
    /// The invoke URL.
    target: String,
    form: Form,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    Kafka {
        prefix: String,
        record_key: RecordKey,
    },
    Kinesis {
        prefix: String,
        endpoint: Endpoint,
        partition_key: PartitionKey,
    },
}

impl Route {
    /// Read from a line of `undelivered.jsonl`. None: the path is none that pinemu writes.
    fn of(line: &Undelivered) -> Option<Self> {
        let segments: Vec<&str> = line.path.strip_prefix('/')?.split('/').collect();
        let form = match segments.as_slice() {
            ["topics", topic] => Form::Kafka {
                prefix: topic.strip_suffix(&format!(".{}", line.kind))?.to_owned(),
                record_key: if line.key.is_some() {
                    RecordKey::Index
                } else {
                    RecordKey::None
                },
            },
            ["streams", stream, resource @ ("record" | "records")] => Form::Kinesis {
                prefix: stream.strip_suffix(&format!("-{}", line.kind))?.to_owned(),
                endpoint: if *resource == "record" {
                    Endpoint::Record
                } else {
                    Endpoint::Records
                },
                partition_key: partition_key(line),
            },
            _ => return None,
        };
        Some(Self {
            target: line.target.clone(),
            form,
        })
    }

    fn sink(&self) -> Sink {
        match &self.form {
            Form::Kafka { prefix, record_key } => {
                Sink::KafkaRest(KafkaRest::new(prefix, *record_key))
            }
            Form::Kinesis {
                prefix,
                endpoint,
                partition_key,
            } => Sink::KinesisGateway(KinesisGateway::new(
                prefix,
                *endpoint,
                partition_key.clone(),
            )),
        }
    }

    fn prefix(&self) -> &str {
        match &self.form {
            Form::Kafka { prefix, .. } | Form::Kinesis { prefix, .. } => prefix,
        }
    }

    /// The command whose runs have this route.
    fn command(&self) -> &'static str {
        match &self.form {
            Form::Kafka { .. } => "batch",
            Form::Kinesis { .. } => "stream",
        }
    }

    /// The name of the state directory of runs with this route.
    fn state_name(&self) -> String {
        format!("{}-{}", self.command(), self.prefix())
    }

    /// Whether `line` goes this way. Its own line may suggest another one: a constant partition key that looks like the key
    /// of one row.
    fn fits(&self, line: &Undelivered) -> bool {
        let Some(own) = Self::of(line) else {
            return false;
        };
        let Form::Kinesis { partition_key, .. } = &self.form else {
            return own == *self;
        };
        let key = match partition_key {
            PartitionKey::Index => line.index.to_string(),
            PartitionKey::Kind => line.kind.to_string(),
            PartitionKey::Text(text) => text.clone(),
        };
        own == *self || (line.key.as_ref() == Some(&key) && own.keyed_by(partition_key) == *self)
    }

    /// The same way with other partition keys.
    fn keyed_by(mut self, choice: &PartitionKey) -> Self {
        if let Form::Kinesis { partition_key, .. } = &mut self.form {
            partition_key.clone_from(choice);
        }
        self
    }
}

/// Whichever choice gives this record the partition key that it had.
fn partition_key(line: &Undelivered) -> PartitionKey {
    match line.key.as_deref() {
        None => PartitionKey::Index,
        Some(key) if key == line.index.to_string() => PartitionKey::Index,
        Some(key) if key == line.kind.as_str() => PartitionKey::Kind,
        Some(key) => PartitionKey::Text(key.to_owned()),
    }
}

/// Records of one key that follow one another and go the same way.
#[derive(Debug)]
struct Piece {
    route: Route,
    post: Post,
}

impl Piece {
    /// `before`: how the records before it went.
    fn new(line: Undelivered, before: Option<&Route>) -> Result<Self, Failure> {
        let route = before.filter(|before| before.fits(&line)).cloned();
        let Some(route) = route.or_else(|| Route::of(&line)) else {
            let text = format!(
                "the path {} of a set-aside record is neither a topic's nor a stream's",
                line.path
            );
            return Err(Failure::new(Exit::Data, text));
        };
        let mut records = PerKind::default();
        records[line.kind] = Some(line.record);
        let cursor = Cursor::Index { after: line.index };
        Ok(Self {
            route,
            post: Post {
                key: line.index,
                records,
                cursor,
            },
        })
    }

    /// Takes another line in if it belongs to the same post.
    fn join(&mut self, line: &Undelivered) -> bool {
        let belongs = line.index == self.post.key
            && self.post.records[line.kind].is_none()
            && self.route.fits(line);
        if belongs {
            self.post.records[line.kind] = Some(line.record.clone());
        }
        belongs
    }
}

/// Lines to pieces, in order.
struct Pieces<L> {
    lines: L,
    next: Option<Piece>,
}

impl<L: Iterator<Item = Result<Undelivered, Failure>>> Iterator for Pieces<L> {
    type Item = Result<Piece, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.lines.next() {
                None => return self.next.take().map(Ok),
                Some(Err(failure)) => return Some(Err(failure)),
                Some(Ok(line)) => {
                    if self.next.as_mut().is_some_and(|piece| piece.join(&line)) {
                        continue;
                    }
                    let before = self.next.as_ref().map(|piece| &piece.route);
                    match Piece::new(line, before) {
                        Err(failure) => return Some(Err(failure)),
                        Ok(piece) => {
                            if let Some(whole) = self.next.replace(piece) {
                                return Some(Ok(whole));
                            }
                        }
                    }
                }
            }
        }
    }
}

fn pieces(records: Records) -> Pieces<Records> {
    Pieces {
        lines: records,
        next: None,
    }
}

/// What is sent again.
enum Waiting {
    /// The file of a state directory, and the lock that keeps other resends from it.
    State {
        dir: PathBuf,
        resending: Resending,
        _lock: Lock,
    },
    /// What the user named; it is only read.
    Given(PathBuf),
}

impl Waiting {
    /// None: nothing waits.
    fn find(place: &Place) -> Result<Option<Self>, Failure> {
        let dir = match place {
            Place::File(file) => return Ok(Some(Self::Given(file.clone()))),
            Place::StateDir(dir) => dir.clone(),
        };
        if !dir.exists() {
            return Ok(None);
        }
        let lock = Lock::resend(&dir).map_err(state::lock::NotTaken::into_failure)?;
        let resending = Resending::begin(&dir)?;
        Ok(resending.map(|resending| Self::State {
            dir,
            resending,
            _lock: lock,
        }))
    }

    fn records(&self) -> Result<Records, Failure> {
        match self {
            Self::State { resending, .. } => resending.records(),
            Self::Given(file) => undelivered::read(file),
        }
    }

    /// Reads all of it once, where it can be read twice: a line that cannot be sent is better met before anything is sent.
    fn check(&self) -> Result<(), Failure> {
        if matches!(self, Self::Given(file) if !file.is_file()) {
            return Ok(());
        }
        let records = self.records()?.telling_of_torn_lines();
        pieces(records).try_for_each(|piece| piece.map(drop))
    }
}

/// Sends what waits until nothing of it is left, and once more what another run set aside meanwhile is left for next time.
pub(crate) async fn run(args: ResendArgs, stop: &CancellationToken) -> Result<Exit, Failure> {
    let place = Place::of(&args)?;
    let Some(waiting) = Waiting::find(&place)? else {
        if !args.output.quiet {
            let dir = place.path().display();
            say(&format!("Nothing waits to be sent again in {dir}."));
        }
        return Ok(Exit::Success);
    };
    let waiting = Arc::new(waiting);
    let checked = Arc::clone(&waiting);
    spawn_blocking(move || checked.check())
        .await
        .or_exit(Exit::Bug, || "cannot check what waits")??;
    let mut sent = Vec::new();
    let sending = send_all(&waiting, &args, stop, &mut sent).await;
    let settled = sent.iter().map(|sent| sent.ended.books.posts.read).sum();
    let (kept, leftover) = match waiting.as_ref() {
        Waiting::State { dir, resending, .. } => (
            keep_unsent(dir, resending, settled).and_then(|()| resending.finish()),
            resending.is_leftover(),
        ),
        Waiting::Given(_) => (Ok(()), false),
    };
    // What cannot be written is no reason to keep back what was sent.
    let mut failure = Failure::graver(sending.err(), kept.err());
    let mut exit = Exit::Success;
    for Sent {
        facts,
        ended,
        attempts,
        dir,
    } in sent
    {
        let form = ReportForm {
            format: args.format,
            quiet: args.output.quiet,
            state_dir: &dir,
        };
        let given = report::give(&facts, &ended, &attempts, 0, form).await;
        if report::exit(&ended) != Exit::Success {
            exit = Exit::SetAside;
        }
        failure = Failure::graver(failure, given.err().or(ended.failure));
    }
    if leftover && !args.output.quiet {
        say("That was left by a resend that did not finish; more may wait, so run it once again.");
    }
    failure.map_or(Ok(exit), Err)
}

/// What was sent along one route.
struct Sent {
    facts: Facts,
    ended: Ended,
    attempts: Attempts,
    /// Where what still fails was set aside.
    dir: PathBuf,
}

/// Sends the pieces of one route after the other, until one of them ends early.
async fn send_all(
    waiting: &Waiting,
    args: &ResendArgs,
    stop: &CancellationToken,
    all: &mut Vec<Sent>,
) -> Result<(), Failure> {
    let mut pieces = read_ahead(waiting.records()?);
    let mut next = pieces.recv().await;
    while let Some(piece) = next {
        let (rest, sent) = send_route(waiting, args, piece?, &mut pieces, stop).await?;
        next = rest;
        let early = sent.ended.stopped;
        all.push(sent);
        if early {
            break;
        }
    }
    Ok(())
}

/// Reads pieces on a thread of its own; the file may be larger than memory.
fn read_ahead(records: Records) -> mpsc::Receiver<Result<Piece, Failure>> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    spawn_blocking(move || {
        for piece in pieces(records) {
            let failed = piece.is_err();
            if sender.blocking_send(piece).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

type Rest = Option<Result<Piece, Failure>>;

/// Sends the pieces that go the same way as `first`. Gives the first one that does not.
async fn send_route(
    waiting: &Waiting,
    args: &ResendArgs,
    first: Piece,
    pieces: &mut mpsc::Receiver<Result<Piece, Failure>>,
    stop: &CancellationToken,
) -> Result<(Rest, Sent), Failure> {
    let route = first.route.clone();
    let sink = route.sink();
    let dir = match waiting {
        Waiting::State { dir, .. } => dir.clone(),
        Waiting::Given(_) => args
            .state_dir
            .clone()
            .map_or_else(|| state::default_dir(&route.state_name()), Ok)?,
    };
    let recorded = || {
        route.target.parse::<InvokeUrl>().map_err(|error| {
            Failure::new(
                Exit::Data,
                format!(
                    "the target {} of a set-aside record is no invoke URL: {error}",
                    route.target
                ),
            )
        })
    };
    let invoke_url = args.target.invoke_url.clone().map_or_else(recorded, Ok)?;
    let http = sending::http(&args.target, &args.sending, invoke_url)?;
    state::create_dir(&dir)?;
    let options = pipeline::Options {
        count: None,
        duration: None,
        batch: sending::batch_limits(&args.sending, &sink),
        in_flight: sending::in_flight(&args.sending),
        max_undelivered: Some(args.sending.max_undelivered.0),
        grace: args.sending.grace,
        digest: false,
    };
    let facts = Facts {
        command: "resend",
        target: http.base().to_owned(),
        prefix: route.prefix().to_owned(),
        asked_posts_per_s: None,
        random_seed: None,
        started_at: SystemTime::now(),
        resend: format!(
            "pinemu resend {} --state-dir {}",
            route.command(),
            shell_quoted(&dir.to_string_lossy())
        ),
    };
    let delivery = sending::delivery(&args.sending, &sink);
    let delivery = Arc::new(Delivery::new(sink, http, delivery));
    let mut ledger = Ledger::of_resend(dir.clone());
    let when = if args.output.quiet {
        When::Never
    } else {
        args.progress
    };
    let progress = Progress::new(when, None);
    let (feed, mut posts) = Posts::channel();
    let schedule = Schedule::Rated(Rated::new(
        Rate::Max,
        Arrivals::Constant,
        0,
        Shard::WHOLE,
        0,
    ));
    let running = pipeline::run(
        &mut posts,
        schedule,
        &options,
        &delivery,
        &mut ledger,
        stop,
        &progress,
    );
    let (rest, ended) = run_fed(running, feed_route(first, pieces, feed)).await;
    let attempts = delivery.attempts();
    Ok((
        rest,
        Sent {
            facts,
            ended,
            attempts,
            dir,
        },
    ))
}

/// Hands on pieces for as long as they go the same way as `first`. Gives the first one that does not.
async fn feed_route(
    first: Piece,
    pieces: &mut mpsc::Receiver<Result<Piece, Failure>>,
    feed: mpsc::Sender<Result<Chunk, Failure>>,
) -> Rest {
    let Piece { route, mut post } = first;
    loop {
        feed.send(Ok(vec![post])).await.ok()?;
        match pieces.recv().await {
            Some(Ok(next)) if next.route == route => post = next.post,
            rest => return rest,
        }
    }
}

/// Waits for the run, and feeds it until then.
async fn run_fed(
    running: impl Future<Output = Ended>,
    feeding: impl Future<Output = Rest>,
) -> (Rest, Ended) {
    let (mut running, mut feeding) = (pin!(running), pin!(feeding));
    let mut rest = None;
    let mut is_fed = false;
    loop {
        tokio::select! {
            ended = &mut running => return (rest, ended),
            next = &mut feeding, if !is_fed => {
                rest = next;
                is_fed = true;
            }
        }
    }
}

/// Puts what was not settled back among what waits, so that only that is sent next time.
fn keep_unsent(dir: &Path, resending: &Resending, settled: u64) -> Result<(), Failure> {
    let mut left = settled;
    let mut unsent = Vec::new();
    let mut piece: Option<Piece> = None;
    for line in resending.records()? {
        let line = line?;
        let joined = piece.as_mut().is_some_and(|piece| piece.join(&line));
        if !joined {
            if piece.is_some() {
                left = left.saturating_sub(1);
            }
            let before = piece.as_ref().map(|piece| &piece.route);
            piece = Some(Piece::new(line.clone(), before)?);
        }
        if left == 0 {
            unsent.push(line);
            if unsent.len() == AHEAD {
                undelivered::append(dir, &std::mem::take(&mut unsent))?;
            }
        }
    }
    undelivered::append(dir, &unsent)
}
