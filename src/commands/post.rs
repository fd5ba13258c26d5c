//! `batch` and `stream`: from settings to a run, and from its end to a summary and an exit status.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use rand::Rng;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::demo::Demo;
use crate::{
    cli::{
        ArrivalsArg, BatchArgs, EndpointArg, Format, InFlight, OrderArg, PostArgs, RecordKeyArg,
        StreamArgs,
    },
    config::{Origin, secret},
    delivery::{self, Delivery},
    failure::{Exit, Failure},
    http::{self, Header, Http, InvokeUrl},
    pace::{Arrivals, Rate, Schedule},
    pipeline::{self, BatchLimits, Ended},
    post::{Key, Kind, PerKind},
    progress::Progress,
    sink::{
        Entry, Sink,
        kafka_rest::{KafkaRest, RecordKey},
        kinesis_gateway::{self, Endpoint, KinesisGateway},
    },
    source::{self, Database, Oddities, Order, Tally},
    summary::{Outcome, Summary, grouped, peak_rss_bytes, per_second},
    telemetry::{print, say},
};

/// Requests on the wire at a time where the user leaves it to pinemu: large requests keep a target busy with few of them,
/// single records only with many.
const AUTO_IN_FLIGHT: usize = 8;
const AUTO_IN_FLIGHT_SINGLE: usize = 64;
/// Posts that a dry run shows.
const DRY_RUN_POSTS: u64 = 3;
/// Prefix and duration of a demo that is given none.
const DEMO_PREFIX: &str = "demo";
const DEMO_DURATION: Duration = Duration::from_mins(1);

/// Posts to Kafka topics behind a REST proxy.
pub(crate) async fn batch(
    args: BatchArgs,
    origin: &Origin,
    stop: &CancellationToken,
) -> Result<Exit, Failure> {
    let prefix = args.topic_prefix.map(|prefix| prefix.to_string());
    let prefix = needed(prefix, &args.post, "--topic-prefix")?;
    let record_key = match args.record_key {
        RecordKeyArg::None => RecordKey::None,
        RecordKeyArg::Index => RecordKey::Index,
    };
    let sink = Sink::KafkaRest(KafkaRest::new(&prefix, record_key));
    run("batch", &prefix, sink, args.post, origin, stop).await
}

/// Posts to Kinesis streams behind an API Gateway.
pub(crate) async fn stream(
    args: StreamArgs,
    origin: &Origin,
    stop: &CancellationToken,
) -> Result<Exit, Failure> {
    let prefix = args.stream_prefix.map(|prefix| prefix.to_string());
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
            if args.post.batch_size.0 > kinesis_gateway::MOST_RECORDS as u64 {
                return Err(usage(
                    "--batch-size: Kinesis takes at most 500 records in one request",
                ));
            }
            if args.post.batch_bytes.0 > kinesis_gateway::MOST_BYTES {
                return Err(usage(
                    "--batch-bytes: Kinesis takes at most 5MiB in one request",
                ));
            }
            Endpoint::Records
        }
    };
    let sink = Sink::KinesisGateway(KinesisGateway::new(&prefix, endpoint, args.partition_key));
    run("stream", &prefix, sink, args.post, origin, stop).await
}

/// The prefix, which only a demo can do without.
fn needed(prefix: Option<String>, args: &PostArgs, flag: &str) -> Result<String, Failure> {
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
struct Plan {
    command: &'static str,
    prefix: String,
    sink: Sink,
    args: PostArgs,
    database: Database,
    demo: Option<Demo>,
    random_seed: u64,
    started_at: SystemTime,
}

async fn run(
    command: &'static str,
    prefix: &str,
    sink: Sink,
    mut args: PostArgs,
    origin: &Origin,
    stop: &CancellationToken,
) -> Result<Exit, Failure> {
    if args.demo && args.count.is_none() && args.duration.is_none() {
        args.duration = Some(DEMO_DURATION);
    }
    let (database, demo) = if args.demo {
        for flag in ["database-url", "invoke-url"] {
            if origin.is_given(flag) {
                return Err(Failure::new(
                    Exit::Usage,
                    format!("--demo brings its own database and receiver; leave out {flag}"),
                ));
            }
        }
        let demo = Demo::start(&args, stop).await?;
        args.invoke_url = Some(demo.invoke_url()?);
        (Demo::database(), Some(demo))
    } else {
        let usage = |what: &str| Failure::new(Exit::Usage, what);
        let Some(url) = &args.database_url else {
            return Err(usage(
                "--database-url is needed: the seed database (or --demo, which needs none)",
            ));
        };
        if args.invoke_url.is_none() && !args.dry_run {
            return Err(usage(
                "--invoke-url is needed: the REST proxy or the gateway's stage (or --demo, which needs none)",
            ));
        }
        let password = secret(
            args.database_password_file.as_ref(),
            "PINEMU_DATABASE_PASSWORD",
        )?;
        (Database::parse(url, password.as_ref())?, None)
    };
    let random_seed = args.random_seed.unwrap_or_else(|| rand::rng().next_u64());
    let plan = Plan {
        command,
        prefix: prefix.to_owned(),
        sink,
        args,
        database,
        demo,
        random_seed,
        started_at: SystemTime::now(),
    };
    if plan.args.dry_run {
        plan.dry_run(stop).await
    } else {
        plan.post(stop).await
    }
}

impl Plan {
    fn source_options(&self, count: Option<u64>) -> source::Options {
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
            },
            from: args.from.map(Key),
            to: args.to.map(Key),
            count,
            retry_for: args.retry_for.0,
        }
    }

    /// What every request carries beside its own headers.
    fn headers(&self) -> Result<Vec<Header>, Failure> {
        let args = &self.args;
        let mut headers = args.header.clone();
        if let Some(key) = secret(args.api_key_file.as_ref(), "PINEMU_API_KEY")? {
            headers.push(
                Header::api_key(&key).map_err(|error| Failure::new(Exit::Configuration, error))?,
            );
        }
        // Who gives credentials as a header means them to be used.
        let basic = args.invoke_url.as_ref().and_then(InvokeUrl::basic);
        headers.extend(basic.filter(|basic| {
            args.header
                .iter()
                .all(|header| header.name() != basic.name())
        }));
        Ok(headers)
    }

    fn http(&self) -> Result<Http, Failure> {
        let args = &self.args;
        let Some(invoke_url) = args.invoke_url.clone() else {
            return Err(Failure::new(Exit::Usage, "--invoke-url is needed"));
        };
        Http::new(http::Options {
            invoke_url,
            headers: self.headers()?,
            cacert: args.cacert.clone(),
            timeout: args.timeout,
            connect_timeout: args.connect_timeout,
        })
    }

    /// Whether each batch is a single post.
    fn single(&self) -> bool {
        self.sink.request_limit() == Some(1)
    }

    fn schedule(&self) -> Schedule {
        let arrivals = match self.args.arrivals {
            ArrivalsArg::Poisson => Arrivals::Poisson,
            ArrivalsArg::Constant => Arrivals::Constant,
        };
        Schedule::new(self.args.rate, arrivals, self.random_seed)
    }

    fn pipeline_options(&self) -> pipeline::Options {
        let args = &self.args;
        let batch = if self.single() {
            BatchLimits {
                posts: 1,
                bytes: usize::MAX,
                linger: Duration::ZERO,
            }
        } else {
            let clamped = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
            BatchLimits {
                posts: clamped(args.batch_size.0),
                bytes: clamped(args.batch_bytes.0),
                linger: args.linger,
            }
        };
        pipeline::Options {
            count: args.count.map(|count| count.0),
            duration: args.duration,
            batch,
            one_by_one: args.in_flight == InFlight::Most(1),
            grace: args.grace,
        }
    }

    /// What will happen, for those who watch.
    fn announcement(&self, target: &str) -> String {
        let args = &self.args;
        let order = match args.order {
            OrderArg::Random => "in random order",
            OrderArg::Index => "by key",
        };
        let rate = match args.rate {
            Rate::PerSecond(rate) => format!("at {rate} posts/s"),
            Rate::Max => "as fast as possible".to_owned(),
        };
        let end = match (args.count, args.duration, args.order) {
            (Some(count), _, _) => format!("{} posts", grouped(count.0)),
            (None, Some(duration), _) => humantime::format_duration(duration).to_string(),
            (None, None, OrderArg::Random) => "until stopped".to_owned(),
            (None, None, OrderArg::Index) => "until the last, or stopped".to_owned(),
        };
        let source = self.database.name();
        format!(
            "Posting {order} {rate}, {end}: {source} to {target} ({}).",
            self.prefix
        )
    }

    async fn post(self, stop: &CancellationToken) -> Result<Exit, Failure> {
        let options = self.pipeline_options();
        let drain = CancellationToken::new();
        let in_flight = match self.args.in_flight {
            InFlight::Most(most) => most.into(),
            InFlight::Auto if self.single() => AUTO_IN_FLIGHT_SINGLE,
            InFlight::Auto => AUTO_IN_FLIGHT,
        };
        let settings = delivery::Options {
            in_flight,
            retry_for: self.args.retry_for.0,
        };
        let http = self.http()?;
        let target = http.base().to_owned();
        let delivery = Arc::new(Delivery::new(
            self.sink.clone(),
            http,
            settings,
            drain.clone(),
        ));
        let read = self
            .database
            .clone()
            .read(self.source_options(options.count));
        let Some(posts) = stop.run_until_cancelled(read).await else {
            let ended = Ended::before_the_first_post();
            self.report(&ended, &delivery, &Oddities::default(), target);
            return Ok(Exit::Success);
        };
        let mut posts = posts?;
        stop.run_until_cancelled(delivery.look_for_targets()).await;
        if !self.args.output.quiet {
            say(&self.announcement(&target));
        }
        info!(random_seed = self.random_seed, ?options, "Starting.");
        let progress = Progress::new(
            if self.args.output.quiet {
                crate::cli::When::Never
            } else {
                self.args.progress
            },
            options.count,
        );
        let mut ended = pipeline::run(
            &mut posts,
            self.schedule(),
            &options,
            &delivery,
            stop,
            &drain,
            &progress,
        )
        .await;
        drop(progress);
        let oddities = posts.oddities();
        self.warn_of(&oddities);
        let nothing = ended.books.posts.read + ended.returned == 0 && !ended.stopped;
        if nothing && ended.failure.is_none() {
            ended.failure = Some(self.no_rows(&oddities));
        }
        let exit = match &ended.failure {
            Some(failure) => failure.exit,
            None if ended.books.posts.delivered < ended.books.posts.read => Exit::SetAside,
            None => Exit::Success,
        };
        self.report(&ended, &delivery, &oddities, target);
        drop(posts);
        if let Some(demo) = self.demo {
            demo.finish(
                self.command,
                &self.sink,
                ended.books.posts.delivered,
                self.args.output.quiet,
            )
            .await?;
        }
        match ended.failure {
            Some(failure) => Err(failure),
            None => Ok(exit),
        }
    }

    /// Prints the summary.
    fn report(&self, ended: &Ended, delivery: &Delivery, oddities: &Oddities, target: String) {
        let attempts = delivery.attempts();
        let elapsed = ended.elapsed;
        let asked = match self.args.rate {
            Rate::PerSecond(rate) => Some(rate),
            Rate::Max => None,
        };
        let random = self.args.order == OrderArg::Random
            || (asked.is_some() && self.args.arrivals == ArrivalsArg::Poisson);
        let summary = Summary {
            command: self.command,
            target,
            prefix: self.prefix.clone(),
            outcome: match (&ended.failure, ended.stopped) {
                (Some(_), _) => Outcome::Failed,
                (None, true) => Outcome::Stopped,
                (None, false) => Outcome::Completed,
            },
            error: ended.failure.as_ref().map(ToString::to_string),
            posts: crate::summary::Posts {
                counts: ended.books.posts,
                returned: ended.returned,
                incomplete: oddities.incomplete.count,
            },
            records: ended.books.records.into(),
            requests: attempts.requests,
            retries: attempts.retries,
            throttled: attempts.throttled,
            bytes_sent: attempts.bytes_sent,
            latency_ms: (&attempts.latency).into(),
            lateness_ms: ended.lateness.as_ref().map(Into::into),
            elapsed_s: (elapsed.as_secs_f64() * 1000.0).round() / 1000.0,
            posts_per_s: per_second(ended.books.posts.delivered, elapsed),
            asked_posts_per_s: asked,
            peak_rss_bytes: peak_rss_bytes(),
            random_seed: random.then_some(self.random_seed),
            started_at: humantime::format_rfc3339_seconds(self.started_at).to_string(),
            version: env!("CARGO_PKG_VERSION"),
            run: format!("{:016x}", rand::rng().next_u64()),
        };
        match self.args.format {
            // A struct of numbers and strings always has a JSON form.
            Format::Json => print(&format!(
                "{}\n",
                serde_json::to_string(&summary).unwrap_or_default()
            )),
            Format::Text if self.args.output.quiet => {}
            Format::Text => print(&summary.to_string()),
        }
    }

    /// Rows that are no posts are not hidden.
    fn warn_of(&self, oddities: &Oddities) {
        let tables = [
            &self.args.pin_table,
            &self.args.geo_table,
            &self.args.user_table,
        ];
        if oddities.incomplete.count > 0 {
            warn!(
                "{} have no row in one of the tables and were not posted: {}",
                keys(oddities.incomplete.count),
                examples(&oddities.incomplete)
            );
        }
        for (kind, table) in Kind::ALL.into_iter().zip(tables) {
            let repeated = &oddities.repeated[kind];
            if repeated.count > 0 {
                warn!(
                    "{table} repeats keys; {} rows beyond the first of their key were not posted: {}",
                    grouped(repeated.count),
                    examples(repeated)
                );
            }
            let keyless = oddities.keyless[kind];
            if keyless > 0 {
                warn!(
                    "{} rows of {table} have no key (NULL) and were not posted.",
                    grouped(keyless)
                );
            }
        }
    }

    fn no_rows(&self, oddities: &Oddities) -> Failure {
        let name = self.database.name();
        let what = if oddities.incomplete.count > 0 {
            format!("none of the keys in {name} has a row in all three tables")
        } else if self.args.from.is_some() || self.args.to.is_some() {
            format!("{name} holds no rows to post between --from and --to")
        } else {
            format!("{name} holds no rows to post; pinemu seed makes some")
        };
        Failure::new(Exit::NoRows, what)
    }

    /// Prints requests as they would go out, one after the other.
    async fn dry_run(self, stop: &CancellationToken) -> Result<Exit, Failure> {
        let count = self.args.count.map_or(DRY_RUN_POSTS, |count| count.0);
        let headers = self.headers()?;
        let headers = headers
            .iter()
            .flat_map(|header| [header.name(), ": ***\n"])
            .collect::<Vec<_>>()
            .concat();
        let read = self.database.clone().read(self.source_options(Some(count)));
        let Some(posts) = stop.run_until_cancelled(read).await else {
            return Ok(Exit::Success);
        };
        let mut posts = posts?;
        let base = self
            .args
            .invoke_url
            .as_ref()
            .map_or_else(|| "INVOKE-URL".to_owned(), ToString::to_string);
        let limit = usize::try_from(self.args.batch_size.0).unwrap_or(usize::MAX);
        let limit = self.sink.request_limit().unwrap_or(limit).min(limit);
        let mut left = usize::try_from(count).unwrap_or(usize::MAX);
        let mut shown = false;
        while left > 0
            && let Some(Some(chunk)) = stop.run_until_cancelled(posts.next()).await
        {
            let chunk = chunk?;
            let chunk = &chunk[..chunk.len().min(left)];
            left -= chunk.len();
            for batch in chunk.chunks(limit) {
                for kind in Kind::ALL {
                    let entries: Vec<Entry> = batch
                        .iter()
                        .map(|post| Entry {
                            key: post.key,
                            record: post.records[kind].clone(),
                        })
                        .collect();
                    let request = self.sink.request(kind, &entries);
                    print(&format!(
                        "{} {base}{}\nContent-Type: {}\nAccept: {}\n{headers}\n{}\n\n",
                        request.method.as_str(),
                        request.path,
                        request.content_type,
                        request.accept,
                        String::from_utf8_lossy(&request.body)
                    ));
                    shown = true;
                }
            }
        }
        let oddities = posts.oddities();
        self.warn_of(&oddities);
        if !shown && !stop.is_cancelled() {
            return Err(self.no_rows(&oddities));
        }
        Ok(Exit::Success)
    }
}

fn keys(count: u64) -> String {
    if count == 1 {
        "1 key".to_owned()
    } else {
        format!("{} keys", grouped(count))
    }
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
