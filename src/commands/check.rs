//! `check batch` and `check stream`: what a run would need, tried without running. Independent things are looked at side
//! by side; what cannot be looked at because of something before it says so.

mod create;
mod database;
mod needs;
mod network;
mod probe;
mod rows;
mod target;

use std::fmt::Write;

use tokio_util::sync::CancellationToken;

use self::{
    needs::Load,
    rows::{Findings, Row},
    target::{Place, Target},
};
use super::{
    post::{self, Plan},
    replay, sending,
};
use crate::{
    cli::{CheckOptions, Checked, IfRunning, PostArgs},
    config::Origin,
    failure::{Exit, Failure},
    http::{Http, InvokeUrl},
    post::{Kind, PerKind},
    sink::Sink,
    source::Database,
    state::{
        checkpoint::Checkpoint,
        lock::{Lock, NotTaken},
        undelivered,
    },
    summary::grouped,
    telemetry,
};

pub(crate) async fn run(
    of: Checked,
    origin: &Origin,
    stop: &CancellationToken,
) -> Result<Exit, Failure> {
    let (command, options, args, made) = match of {
        Checked::Batch(args) => {
            let made = post::kafka_rest(&args.run, origin);
            ("batch", args.check, args.run.post, made)
        }
        Checked::Stream(args) => {
            let made = post::kinesis_gateway(&args.run, origin);
            ("stream", args.check, args.run.post, made)
        }
    };
    telemetry::start_without_warnings(args.output.log());
    refuse(command, options, &args)?;
    let (format, color, quiet) = (args.format, args.output.color, args.output.quiet);
    let target = args.target.invoke_url.as_ref().map(ToString::to_string);
    let looking = async {
        match Setup::new(command, made, args, origin) {
            Ok(setup) => Box::pin(setup.look(options, quiet)).await,
            Err(failure) => vec![Row::of("configuration", &failure)],
        }
    };
    let Some(rows) = stop.run_until_cancelled(looking).await else {
        return Err(Failure::new(
            Exit::Unreachable,
            "stopped before the check was done",
        ));
    };
    let findings = Findings {
        command,
        target,
        rows,
    };
    findings.give(format, quiet, color)
}

/// Options that would do nothing.
fn refuse(command: &str, options: CheckOptions, args: &PostArgs) -> Result<(), Failure> {
    let what = if args.demo {
        "--demo brings its own database and receiver; there is nothing to check"
    } else if args.dry_run {
        "--dry-run does nothing here: a check sends nothing unless it is told to with --probe or --create"
    } else if options.create && command == "batch" {
        "--create makes streams; a REST proxy cannot be asked for topics: kafka-topics.sh --bootstrap-server BROKER:9092 --create --topic NAME"
    } else {
        return Ok(());
    };
    Err(Failure::new(Exit::Usage, what))
}

/// A run, as far as it can be prepared without looking at anything.
struct Setup {
    plan: Plan,
    http: Http,
    url: InvokeUrl,
    credentials: bool,
    /// What was found on the way.
    configuration: Row,
    state: Row,
}

impl Setup {
    fn new(
        command: &'static str,
        made: Result<(String, Sink), Failure>,
        mut args: PostArgs,
        origin: &Origin,
    ) -> Result<Self, Failure> {
        let (prefix, sink) = made?;
        let database = post::database(&args)?;
        let url = args.target.invoke_url.clone();
        let url = url.ok_or_else(post::no_invoke_url)?;
        let credentials = !sending::headers(&args.target, Some(&url))?.is_empty();
        let http = sending::http(&args.target, &args.sending, url.clone())?;
        let [pin, geo, user] = Kind::ALL.map(|kind| sink.target(kind));
        let what = format!(
            "{command} from {} to {pin}, {geo} and {user} at {url}",
            database.name()
        );
        let configuration = Row::ok("configuration", what);
        let (state, resumed) = match state(command, &prefix, &mut args, origin, &database) {
            Ok(found) => found,
            Err(failure) => (Row::of(STATE, &failure), None),
        };
        let tempo = replay::tempo(&args, origin)?;
        Ok(Self {
            plan: Plan::new(command, &prefix, sink, args, database, tempo, resumed),
            http,
            url,
            credentials,
            configuration,
            state,
        })
    }

    async fn look(self, options: CheckOptions, quiet: bool) -> Vec<Row> {
        let (plan, url) = (&self.plan, &self.url);
        let target = Target {
            sink: &plan.sink,
            http: &self.http,
            url,
            credentials: self.credentials,
        };
        let (source, mut found) = tokio::join!(database::look(plan, options.exact), target.look());
        let sizes = database::mean_sizes(&source.posts);
        let load = sizes.map(|sizes| Load {
            sink: &plan.sink,
            url,
            rate: plan.args.rate,
            sizes,
            limits: sending::batch_limits(&plan.args.sending, &plan.sink),
            total: source.total,
        });
        if options.create {
            create(&target, &mut found, load.as_ref(), quiet).await;
        }
        let mut rows = vec![self.configuration];
        rows.extend(source.rows);
        rows.extend(database::event_times(
            &source.posts,
            &kept(&plan.sink, &found.places),
        ));
        rows.append(&mut found.rows);
        rows.push(self.state);
        rows.push(match load {
            Some(_) if plan.tempo.is_some() => Row::ok(
                "rate",
                "that of recorded time, whose fastest moments the target must take",
            ),
            Some(load) => load.row(&found.places),
            None => Row::untried("rate", "no posts could be read"),
        });
        if options.probe {
            if found.reached {
                let (probes, taken) = probe::send(&target, &source.posts, &found.places).await;
                if taken {
                    rows.iter_mut().for_each(target::let_in_after_all);
                }
                rows.extend(probes);
            } else {
                rows.push(Row::untried("probe", "the target does not answer"));
            }
        }
        rows
    }
}

/// Makes the streams that are missing, side by side; their rows then tell of that.
async fn create(
    target: &Target<'_>,
    found: &mut target::Found,
    load: Option<&Load<'_>>,
    quiet: bool,
) {
    let shards = |kind| load.map_or(1, |load| load.shards(kind));
    let [pin, geo, user] = Kind::ALL
        .map(|kind| create::stream(target, kind, &found.places[kind], shards(kind), quiet));
    let (pin, geo, user) = tokio::join!(pin, geo, user);
    for (kind, made) in Kind::ALL.into_iter().zip([pin, geo, user]) {
        let Some((made, place)) = made else { continue };
        found.places[kind] = place;
        if let Some(row) = found.rows.iter_mut().find(|row| row.name == made.name) {
            *row = made;
        }
    }
}

/// How long the target keeps what it gets.
fn kept(sink: &Sink, places: &PerKind<Place>) -> String {
    let told = places.iter().find_map(|(_, place)| match place {
        Place::Here(described) => described.retention_hours,
        _ => None,
    });
    match (sink, told) {
        (Sink::KafkaRest(_), _) => {
            "Kafka keeps a record for 7 days unless the topic says otherwise".to_owned()
        }
        (Sink::KinesisGateway(_), Some(hours)) => {
            format!("the streams keep a record for {hours} h")
        }
        (Sink::KinesisGateway(_), None) => {
            "Kinesis keeps a record for 24 h unless the stream says otherwise".to_owned()
        }
    }
}

const STATE: &str = "state directory";

/// Whether a run could have the state directory now, and where it would go on.
fn state(
    command: &'static str,
    prefix: &str,
    args: &mut PostArgs,
    origin: &Origin,
    database: &Database,
) -> Result<(Row, Option<Checkpoint>), Failure> {
    let dir = post::state_dir(command, prefix, args)?;
    let shown = dir.display();
    match Lock::look(&dir) {
        Ok(()) => {}
        Err(NotTaken::Held(held)) if args.state.if_running == IfRunning::Skip => {
            let what = format!("{shown} is in use by another run: {}", held.holder);
            let cure = "a run now would end at once with 0, because of --if-running skip";
            return Ok((Row::warning(STATE, what, cure), None));
        }
        Err(not_taken) => return Err(not_taken.into_failure()),
    }
    let mut what = format!("{shown} can be written, and no run has it");
    let resumed = if args.state.resume {
        post::resume(command, prefix, args, origin, database, &dir)?
    } else {
        None
    };
    if let Some(before) = &resumed {
        // A string cannot refuse what is written to it.
        let _ = write!(
            what,
            "; a run goes on after {} posts",
            grouped(before.posts)
        );
    }
    let waiting = undelivered::count(&dir)?;
    if waiting > 0 {
        let _ = write!(
            what,
            "; records that wait to be resent: {}",
            grouped(waiting)
        );
    }
    Ok((Row::ok(STATE, what), resumed))
}
