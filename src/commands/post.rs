//! `batch` and `stream`: from settings to a run, and from its end to a summary and an exit status.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rand::Rng;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    demo::{self, Demo},
    dry_run, replay,
    report::{self, Facts, Form},
    sending,
};
use crate::{
    cli::{
        ArrivalsArg, BatchArgs, EndpointArg, IfRunning, OrderArg, PostArgs, RecordKeyArg,
        StreamArgs,
    },
    config::{Origin, secret, shell_quoted},
    delivery::Delivery,
    failure::{Exit, Failure},
    pace::{Arrivals, History, Rate, Rated, Replay, Schedule, Tempo},
    pipeline::{self, Ended},
    post::{Bound, Cursor, Key, Kind, PerKind},
    progress::{Progress, When},
    shard::Shard,
    sink::{
        Sink,
        kafka_rest::{KafkaRest, RecordKey},
        kinesis_gateway::{self, Endpoint, KinesisGateway},
    },
    source::{self, Database, Oddities, Order, Tally},
    state::{
        self,
        checkpoint::{self, Checkpoint, Identity},
        ledger::Ledger,
        lock::{Lock, NotTaken},
    },
    summary::grouped,
    telemetry::say,
    wall_time::TimeRange,
};

/// Prefix and duration of a demo that is given none.
const DEMO_PREFIX: &str = "demo";
const DEMO_DURATION: Duration = Duration::from_mins(1);

/// Posts to Kafka topics behind a REST proxy.
pub(crate) async fn batch(
    args: BatchArgs,
    origin: &Origin,
    stop: &CancellationToken,
) -> Result<Exit, Failure> {
    let (prefix, sink) = kafka_rest(&args, origin)?;
    Box::pin(run("batch", &prefix, sink, args.post, origin, stop)).await
}

/// Posts to Kinesis streams behind an API Gateway.
pub(crate) async fn stream(
    args: StreamArgs,
    origin: &Origin,
    stop: &CancellationToken,
) -> Result<Exit, Failure> {
    let (prefix, sink) = kinesis_gateway(&args, origin)?;
    Box::pin(run("stream", &prefix, sink, args.post, origin, stop)).await
}

/// The prefix and the target of a run of `batch`.
pub(super) fn kafka_rest(args: &BatchArgs, origin: &Origin) -> Result<(String, Sink), Failure> {
    sending::refuse_useless(&args.post.sending, origin)?;
    let prefix = args.topic_prefix.as_ref().map(ToString::to_string);
    let prefix = needed(prefix, &args.post, "--topic-prefix")?;
    let record_key = match args.record_key {
        RecordKeyArg::None => RecordKey::None,
        RecordKeyArg::Index => RecordKey::Index,
    };
    let sink = Sink::KafkaRest(KafkaRest::new(&prefix, record_key));
    Ok((prefix, sink))
}

/// The prefix and the target of a run of `stream`.
pub(super) fn kinesis_gateway(
    args: &StreamArgs,
    origin: &Origin,
) -> Result<(String, Sink), Failure> {
    let prefix = args.stream_prefix.as_ref().map(ToString::to_string);
    let prefix = needed(prefix, &args.post, "--stream-prefix")?;
    let usage = |what: &str| Failure::new(Exit::Usage, what);
    let endpoint = match args.endpoint {
        EndpointArg::Record => {
            for flag in ["linger", "batch-size", "batch-bytes"] {
                if origin.is_flag(flag) {
                    return Err(usage(&format!(
                        "--{flag} does nothing with --endpoint record, which takes one record a request"
                    )));
                }
            }
            Endpoint::Record
        }
        EndpointArg::Records => {
            sending::refuse_useless(&args.post.sending, origin)?;
            if args.post.sending.batch_size.0 > kinesis_gateway::MOST_RECORDS as u64 {
                return Err(usage(
                    "--batch-size: Kinesis takes at most 500 records in one request",
                ));
            }
            if args.post.sending.batch_bytes.0 > kinesis_gateway::MOST_BYTES {
                return Err(usage(
                    "--batch-bytes: Kinesis takes at most 5MiB in one request",
                ));
            }
            Endpoint::Records
        }
    };
    let partition_key = args.partition_key.clone();
    let sink = Sink::KinesisGateway(KinesisGateway::new(&prefix, endpoint, partition_key));
    Ok((prefix, sink))
}

/// The prefix, which only a demo can do without.
pub(super) fn needed(
    prefix: Option<String>,
    args: &PostArgs,
    flag: &str,
) -> Result<String, Failure> {
    match prefix {
        Some(prefix) => Ok(prefix),
        None if args.demo => Ok(DEMO_PREFIX.to_owned()),
        None => Err(Failure::new(
            Exit::Usage,
            format!("{flag} is needed: what the names begin with, such as 0abf7f0cd605"),
        )),
    }
}

/// What a run is made of, once the settings have been read.
pub(super) struct Plan {
    command: &'static str,
    prefix: String,
    pub(super) sink: Sink,
    pub(super) args: PostArgs,
    pub(super) database: Database,
    demo: Option<Demo>,
    random_seed: u64,
    /// How recorded time is replayed; none: posts go at the rate.
    pub(super) tempo: Option<Tempo>,
    /// Of the runs before, to go on from.
    resumed: Option<Checkpoint>,
}

async fn run(
    command: &'static str,
    prefix: &str,
    sink: Sink,
    mut args: PostArgs,
    origin: &Origin,
    stop: &CancellationToken,
) -> Result<Exit, Failure> {
    // What the command line lacks is told before anything is made or locked.
    let database = named_database(&args, origin)?;
    let state_dir = state_dir(command, prefix, &args)?;
    // The order of a run that may go on is yet to be found.
    if !args.state.resume || !state_dir.exists() {
        replay::tempo(&args, origin)?;
    }
    if args.demo && args.count.is_none() && args.duration.is_none() {
        args.duration = Some(DEMO_DURATION);
    }
    if args.demo {
        demo::make_directory()?;
    }
    // Before anything that takes time: who starts a second run learns of it at once.
    let _lock = if args.dry_run {
        None
    } else {
        match Lock::run(&state_dir) {
            Ok(lock) => Some(lock),
            Err(NotTaken::Held(_)) if args.state.if_running == IfRunning::Skip => {
                return Ok(Exit::Success);
            }
            Err(not_taken) => return Err(not_taken.into_failure()),
        }
    };
    let (database, demo) = if let Some(database) = database {
        (database, None)
    } else {
        let Some(demo) = Demo::start(&args, stop).await? else {
            return Ok(Exit::Success);
        };
        args.target.invoke_url = Some(demo.invoke_url()?);
        (Demo::database(), Some(demo))
    };
    let resumed = if args.state.resume && !args.dry_run {
        resume(command, prefix, &mut args, origin, &database, &state_dir)?
    } else {
        None
    };
    let tempo = replay::tempo(&args, origin)?;
    let plan = Plan {
        demo,
        ..Plan::new(command, prefix, sink, args, database, tempo, resumed)
    };
    if plan.args.dry_run {
        dry_run::run(&plan, stop).await
    } else {
        Box::pin(plan.post(state_dir, origin, stop)).await
    }
}

/// Where the run keeps its state.
pub(super) fn state_dir(command: &str, prefix: &str, args: &PostArgs) -> Result<PathBuf, Failure> {
    let mut name = format!("{command}-{prefix}");
    if let Some(shard) = args.shard {
        name = format!("{name}-shard-{}-of-{}", shard.number(), shard.of());
    }
    match &args.state.state_dir {
        Some(dir) => Ok(dir.clone()),
        None if args.demo => Ok(demo::state_dir(&name)),
        None => state::default_dir(&name),
    }
}

/// The database of a run that is told all that it needs; none for a demo, which brings its own.
fn named_database(args: &PostArgs, origin: &Origin) -> Result<Option<Database>, Failure> {
    if args.demo {
        for flag in ["database-url", "invoke-url"] {
            if origin.is_given(flag) {
                let what = format!("--demo brings its own database and receiver; leave out {flag}");
                return Err(Failure::new(Exit::Usage, what));
            }
        }
        return Ok(None);
    }
    let database = database(args)?;
    if args.target.invoke_url.is_none() && !args.dry_run {
        return Err(no_invoke_url());
    }
    Ok(Some(database))
}

/// The seed database that the options name.
pub(super) fn database(args: &PostArgs) -> Result<Database, Failure> {
    let Some(url) = &args.database_url else {
        return Err(Failure::new(
            Exit::Usage,
            "--database-url is needed: the seed database (or --demo, which needs none)",
        ));
    };
    let password = secret(
        args.database_password_file.as_ref(),
        "PINEMU_DATABASE_PASSWORD",
    )?;
    Database::parse(url, password.as_ref())
}

pub(super) fn no_invoke_url() -> Failure {
    Failure::new(
        Exit::Usage,
        "--invoke-url is needed: the REST proxy or the gateway's stage (or --demo, which needs none)",
    )
}

/// Finds the checkpoint to go on from. What is not given is taken from it, what is given must agree with it.
pub(super) fn resume(
    command: &str,
    prefix: &str,
    args: &mut PostArgs,
    origin: &Origin,
    database: &Database,
    state_dir: &Path,
) -> Result<Option<Checkpoint>, Failure> {
    let Some(checkpoint) = Checkpoint::load(state_dir)? else {
        return Ok(None);
    };
    let new_address = args.state.moved || args.demo;
    let given = |long: &str| origin.is_given(long);
    let wanted = Identity {
        command: command.to_owned(),
        prefix: prefix.to_owned(),
        invoke_url: args
            .target
            .invoke_url
            .as_ref()
            .filter(|_| !new_address)
            .map(ToString::to_string),
        database: Some(database.database().into_owned()),
        order: given("order").then(|| order_word(args.order).to_owned()),
        from: args.from,
        to: args.to,
        random_seed: args.random_seed,
        shard: args.shard,
    };
    checkpoint.agree(&wanted, state_dir)?;
    let orders = [OrderArg::Index, OrderArg::Time];
    let order = orders
        .into_iter()
        .find(|order| checkpoint.order == order_word(*order));
    args.order = order.unwrap_or(OrderArg::Random);
    args.from = checkpoint.from;
    args.to = checkpoint.to;
    args.random_seed = Some(checkpoint.random_seed);
    args.shard = checkpoint.shard;
    Ok(Some(checkpoint))
}

/// The word for an order, as in `--order` and in checkpoints.
fn order_word(order: OrderArg) -> &'static str {
    match order {
        OrderArg::Random => "random",
        OrderArg::Index => "index",
        OrderArg::Time => "time",
    }
}

impl Plan {
    pub(super) fn new(
        command: &'static str,
        prefix: &str,
        sink: Sink,
        args: PostArgs,
        database: Database,
        tempo: Option<Tempo>,
        resumed: Option<Checkpoint>,
    ) -> Self {
        Self {
            command,
            prefix: prefix.to_owned(),
            sink,
            database,
            demo: None,
            random_seed: args.random_seed.unwrap_or_else(|| rand::rng().next_u64()),
            tempo,
            args,
            resumed,
        }
    }

    /// Whether it goes on after runs before.
    pub(super) fn is_resumed(&self) -> bool {
        self.resumed.is_some()
    }

    fn shard(&self) -> Shard {
        self.args.shard.unwrap_or(Shard::WHOLE)
    }

    /// How many posts this shard takes at the most.
    pub(super) fn count(&self) -> Option<u64> {
        self.args.count.map(|count| self.shard().part_of(count.0))
    }

    /// Posts per second that this shard is asked for.
    fn rate(&self) -> Rate {
        self.args.rate.divided_by(self.shard().of())
    }

    pub(super) fn source_options(&self, count: Option<u64>) -> source::Options {
        let args = &self.args;
        source::Options {
            tables: PerKind::from([
                args.pin_table.clone(),
                args.geo_table.clone(),
                args.user_table.clone(),
            ]),
            order: match args.order {
                OrderArg::Random => Order::Random {
                    seed: self.random_seed,
                },
                OrderArg::Index => Order::Index,
                OrderArg::Time => Order::Time(TimeRange {
                    from: args.from.and_then(Bound::time),
                    to: args.to.and_then(Bound::time),
                }),
            },
            from: args.from.and_then(Bound::key),
            to: args.to.and_then(Bound::key),
            shard: self.shard(),
            after: self.resumed.as_ref().map(|checkpoint| checkpoint.position),
            count,
            retry_for: args.sending.retry_for.0,
            history: None,
        }
    }

    /// `history`: the recorded times that are left, for a replay.
    fn schedule(&self, history: Option<History>) -> Schedule {
        if let Some((history, tempo)) = history.zip(self.tempo) {
            return Schedule::Replayed(Replay::new(history, tempo));
        }
        let arrivals = match self.args.arrivals {
            ArrivalsArg::Poisson => Arrivals::Poisson,
            ArrivalsArg::Constant => Arrivals::Constant,
        };
        let posts = self
            .resumed
            .as_ref()
            .map_or(0, |checkpoint| checkpoint.posts);
        Schedule::Rated(Rated::new(
            self.args.rate,
            arrivals,
            self.random_seed,
            self.shard(),
            posts,
        ))
    }

    fn pipeline_options(&self) -> pipeline::Options {
        let args = &self.args;
        pipeline::Options {
            count: self.count(),
            duration: args.duration,
            batch: sending::batch_limits(&args.sending, &self.sink),
            in_flight: sending::in_flight(&args.sending),
            max_undelivered: Some(args.sending.max_undelivered.0),
            grace: args.sending.grace,
            digest: args.output.verbose > 0,
        }
    }

    /// What the checkpoint of this run says before its first post.
    fn checkpoint(&self, target: &str) -> Checkpoint {
        let args = &self.args;
        let (position, posts) = match &self.resumed {
            Some(before) => (before.position, before.posts),
            // Replaced before it is first written.
            None => (Cursor::Index { after: Key::MIN }, 0),
        };
        Checkpoint {
            version: Checkpoint::VERSION,
            command: self.command.to_owned(),
            prefix: self.prefix.clone(),
            invoke_url: target.to_owned(),
            database: self.database.database().into_owned(),
            order: order_word(args.order).to_owned(),
            from: args.from,
            to: args.to,
            random_seed: self.random_seed,
            shard: args.shard,
            posts,
            position,
        }
    }

    fn facts(&self, target: String, state_dir: &Path) -> Facts {
        let asked = match self.rate() {
            Rate::PerSecond(rate) if self.tempo.is_none() => Some(rate),
            Rate::PerSecond(_) | Rate::Max => None,
        };
        let random = self.args.order == OrderArg::Random
            || (asked.is_some() && self.args.arrivals == ArrivalsArg::Poisson);
        let flag = match self.sink {
            Sink::KafkaRest(_) => "--topic-prefix",
            Sink::KinesisGateway(_) => "--stream-prefix",
        };
        // Resend finds by itself only what subcommand and prefix tell.
        let args = &self.args;
        let told = args.state.state_dir.is_some() || args.demo || args.shard.is_some();
        let state_dir = if told {
            format!(
                " --state-dir {}",
                shell_quoted(&state_dir.to_string_lossy())
            )
        } else {
            String::new()
        };
        Facts {
            resend: format!(
                "pinemu resend {} {flag} {}{state_dir}",
                self.command,
                shell_quoted(&self.prefix)
            ),
            command: self.command,
            target,
            prefix: self.prefix.clone(),
            asked_posts_per_s: asked,
            random_seed: random.then_some(self.random_seed),
            started_at: std::time::SystemTime::now(),
        }
    }

    /// What will happen, for those who watch.
    fn announcement(&self, target: &str, schedule: &Schedule) -> String {
        let args = &self.args;
        let order = match args.order {
            OrderArg::Random => "in random order",
            OrderArg::Index => "by key",
            OrderArg::Time => "by time",
        };
        let pace = match (schedule, self.rate(), args.shard) {
            (Schedule::Replayed(replay), ..) => replay::described(replay, args.max_gap),
            (Schedule::Rated(_), Rate::Max, _) => " as fast as possible".to_owned(),
            (Schedule::Rated(_), Rate::PerSecond(rate), None) => format!(" at {rate} posts/s"),
            (Schedule::Rated(_), rate, Some(_)) => format!(" at {rate}"),
        };
        let end = match (args.count, args.duration, args.order) {
            (Some(count), _, _) => format!(", {}", counted(count.0, "post")),
            (None, Some(duration), _) if self.tempo.is_some() => {
                format!(", at most {}", humantime::format_duration(duration))
            }
            (None, Some(duration), _) => format!(", {}", humantime::format_duration(duration)),
            (None, None, OrderArg::Random) => ", until stopped".to_owned(),
            (None, None, _) if self.tempo.is_some() => String::new(),
            (None, None, _) => ", until the last, or stopped".to_owned(),
        };
        let most = match (args.count, args.duration) {
            (Some(_), Some(most)) => format!(", at most {}", humantime::format_duration(most)),
            _ => String::new(),
        };
        let shard = args
            .shard
            .map(|shard| format!("shard {} of {}", shard.number(), shard.of()));
        let what = match (shard, self.count()) {
            (None, _) => format!("{order}{pace}{end}{most}"),
            (Some(shard), Some(part)) => {
                let of = end.trim_start_matches(", ");
                format!("{order}, {shard}: {} of {of}{pace}{most}", grouped(part))
            }
            (Some(shard), None) => {
                let pace = pace.trim_start_matches([',', ' ']);
                format!("{order}, {shard}: {pace}{end}")
            }
        };
        let after = self
            .resumed
            .as_ref()
            .map(|before| format!(", after {}", grouped(before.posts)));
        let source = self.database.name();
        format!(
            "Posting {what}{}: {source} to {target} ({}).",
            after.unwrap_or_default(),
            self.prefix
        )
    }

    async fn post(
        mut self,
        state_dir: PathBuf,
        origin: &Origin,
        stop: &CancellationToken,
    ) -> Result<Exit, Failure> {
        let args = &self.args;
        let quiet = args.output.quiet;
        let form = Form {
            format: args.format,
            quiet,
            state_dir: &state_dir,
        };
        let options = self.pipeline_options();
        let Some(invoke_url) = args.target.invoke_url.clone() else {
            return Err(Failure::new(Exit::Usage, "--invoke-url is needed"));
        };
        let http = sending::http(&args.target, &args.sending, invoke_url)?;
        let target = http.base().to_owned();
        let facts = self.facts(target.clone(), &state_dir);
        let delivery = sending::delivery(&args.sending, &self.sink);
        let delivery = Arc::new(Delivery::new(self.sink.clone(), http, delivery));
        let mut source = self.source_options(options.count);
        source.history = self.tempo.map(|_| History::new(args.max_gap));
        let prepared = async {
            let posts = self.database.clone().read(source).await?;
            delivery.look_for_targets().await;
            Ok(posts)
        };
        let Some(posts) = stop.run_until_cancelled(prepared).await else {
            let ended = Ended::before_the_first_post();
            report::give(&facts, &ended, &delivery.attempts(), 0, form).await?;
            return Ok(Exit::Success);
        };
        let mut posts = posts?;
        if self.resumed.is_none()
            && let Some(old) = checkpoint::retire(&state_dir)?
            && !quiet
        {
            say(&format!(
                "Starting anew; the checkpoint of the run before is kept as {}.",
                old.display()
            ));
        }
        let mut ledger = Ledger::of_run(state_dir.clone(), self.checkpoint(&target))?;
        let schedule = self.schedule(posts.take_history());
        if !quiet {
            say(&self.announcement(&target, &schedule));
        }
        info!(random_seed = self.random_seed, "Starting.");
        let progress = Progress::new(
            if quiet { When::Never } else { args.progress },
            options.count,
        );
        let mut ended = pipeline::run(
            &mut posts,
            schedule,
            &options,
            &delivery,
            &mut ledger,
            stop,
            &progress,
        )
        .await;
        drop(progress);
        let oddities = posts.oddities();
        drop(posts);
        ended.failure = Failure::graver(ended.failure, ledger.close().await.err());
        self.warn_of(&oddities);
        self.look_at_nothing(&mut ended, &oddities);
        let given = report::give(
            &facts,
            &ended,
            &delivery.attempts(),
            oddities.incomplete.count,
            form,
        )
        .await;
        // A summary that cannot be given is no reason not to say how to go on.
        ended.failure = given.err().or(ended.failure);
        if ended.returned > 0 && !quiet {
            say(&format!(
                "To go on where this run ended: {}",
                self.again(&facts, &ended, origin)
            ));
        }
        if let Some(demo) = self.demo.take() {
            demo.finish(self.command, &self.sink, ended.books.posts.delivered, quiet)
                .await?;
        }
        let exit = report::exit(&ended);
        ended.failure.map_or(Ok(exit), Err)
    }

    /// The command that goes on.
    fn again(&self, facts: &Facts, ended: &Ended, origin: &Origin) -> String {
        let again = origin.again(self.command);
        // Without a post in the books there is no checkpoint that keeps a drawn seed.
        let drawn = self.args.random_seed.is_none() && ended.books.posts.read == 0;
        match facts.random_seed {
            Some(seed) if drawn => format!("{again} --random-seed {seed}"),
            _ => again,
        }
    }

    /// A run that came to its end without a post: all done before, or nothing there.
    fn look_at_nothing(&self, ended: &mut Ended, oddities: &Oddities) {
        // A run that ended before the first post was read knows nothing of what there is.
        let nothing = ended.books.posts.read + ended.returned == 0 && ended.exhausted;
        if !nothing || ended.failure.is_some() {
        } else if self.resumed.is_none() {
            ended.failure = Some(self.no_rows(oddities));
        } else if !self.args.output.quiet {
            say("Nothing is left to post.");
        }
    }

    /// Rows that are no posts are not hidden.
    pub(super) fn warn_of(&self, oddities: &Oddities) {
        for sentence in self.odd(oddities, "were not posted") {
            warn!("{sentence}");
        }
    }

    /// A sentence for each way in which rows are no posts. `fate`: what that means for them.
    pub(super) fn odd(&self, oddities: &Oddities, fate: &str) -> Vec<String> {
        let tables = [
            &self.args.pin_table,
            &self.args.geo_table,
            &self.args.user_table,
        ];
        let mut sentences = Vec::new();
        if oddities.incomplete.count > 0 {
            let count = oddities.incomplete.count;
            let have = if count == 1 { "has" } else { "have" };
            sentences.push(format!(
                "{} {have} no row in one of the tables and {fate}: {}",
                counted(count, "key"),
                examples(&oddities.incomplete)
            ));
        }
        if oddities.untimed.count > 0 {
            let fate = if self.args.from.is_some() || self.args.to.is_some() {
                "not posted, since they are in no range"
            } else {
                "posted last"
            };
            sentences.push(format!(
                "No time can be read in {} for {} (NULL, zero or another text), {fate}: {}",
                self.args.geo_table,
                counted(oddities.untimed.count, "key"),
                examples(&oddities.untimed)
            ));
        }
        for (kind, table) in Kind::ALL.into_iter().zip(tables) {
            let repeated = &oddities.repeated[kind];
            if repeated.count > 0 {
                sentences.push(format!(
                    "{table} repeats keys; {} beyond the first of their key {fate}: {}",
                    counted(repeated.count, "row"),
                    examples(repeated)
                ));
            }
            let keyless = oddities.keyless[kind];
            if keyless > 0 {
                let have = if keyless == 1 { "has" } else { "have" };
                sentences.push(format!(
                    "{} of {table} {have} no key (NULL) and {fate}",
                    counted(keyless, "row")
                ));
            }
        }
        sentences
    }

    pub(super) fn no_rows(&self, oddities: &Oddities) -> Failure {
        let name = self.database.name();
        let what = if oddities.incomplete.count > 0 {
            let part = match self.args.shard {
                Some(shard) => format!(" of shard {shard}"),
                None if self.args.from.is_some() || self.args.to.is_some() => {
                    " between --from and --to".to_owned()
                }
                None => String::new(),
            };
            format!("none of the keys{part} in {name} has a row in all three tables")
        } else if let Some(shard) = self.args.shard {
            format!("{name} holds no rows to post in shard {shard}; others may have some")
        } else if self.args.from.is_some() || self.args.to.is_some() {
            format!("{name} holds no rows to post between --from and --to")
        } else {
            format!("{name} holds no rows to post; pinemu seed makes some")
        };
        Failure::new(Exit::NoRows, what)
    }
}

fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(count))
}

fn examples(tally: &Tally) -> String {
    let keys: Vec<_> = tally.examples.iter().map(ToString::to_string).collect();
    let more = if tally.count > keys.len() as u64 {
        ", …"
    } else {
        ""
    };
    format!("{}{more}", keys.join(", "))
}
