//! `--demo`: an embedded seed database and receiver around the same run that real ones get. Everything is below
//! `pinemu-demo/` in the current directory.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tokio_util::sync::CancellationToken;

use crate::{
    cli::PostArgs,
    failure::{Exit, Failure, OrExit},
    http::InvokeUrl,
    progress::{Progress, When},
    receiver::{self, Dialect, GatewayErrors, Receiver},
    sample::Samples,
    seeding,
    sink::Sink,
    source::Database,
    summary::grouped,
    telemetry::say,
};

const DIRECTORY: &str = "pinemu-demo";
const SEED_DATABASE: &str = "pinemu-demo/seed.db";
/// The size of the real seed database.
const POSTS: u64 = 11_154;
const RANDOM_SEED: u64 = 100;

/// Makes the directory of the demo, where others may read what landed; a state directory of its own makes no room for them.
pub(super) fn make_directory() -> Result<(), Failure> {
    fs::create_dir_all(DIRECTORY).or_exit(Exit::CannotWrite, || {
        format!("cannot make the directory {DIRECTORY} of the demo")
    })
}

/// Where the runs of the demo keep their state.
pub(super) fn state_dir(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join("state").join(name)
}

/// A running demo.
#[derive(Debug)]
pub(crate) struct Demo {
    receiver: Receiver,
}

impl Demo {
    /// Starts the receiver, then makes the seed database on first use. The receiver's lock keeps a second demo in the same
    /// directory out. None if `stop` came first.
    pub(crate) async fn start(
        args: &PostArgs,
        stop: &CancellationToken,
    ) -> Result<Option<Self>, Failure> {
        let receiver = Receiver::start(receiver::Options {
            listen: "127.0.0.1:0".to_owned(),
            data_dir: Some(DIRECTORY.into()),
            partitions: 1,
            flush_size: 1000,
            flush_after: std::time::Duration::from_secs(1),
            topics: None,
            streams: None,
            dialect: Dialect::Confluent,
            gateway: GatewayErrors::Default200,
            faults: None,
        })
        .await?;
        if !args.output.quiet {
            say(&format!(
                "Demo: synthetic posts from {SEED_DATABASE} go over HTTP to a receiver inside this process and land below {DIRECTORY}/."
            ));
        }
        let path = Path::new(SEED_DATABASE);
        if !path.exists() {
            let when = if args.output.quiet {
                When::Never
            } else {
                args.progress
            };
            let progress = Progress::new(when, Some(POSTS));
            let made =
                seeding::make_file(path, Samples::new(POSTS, RANDOM_SEED), &progress, stop).await?;
            drop(progress);
            if !made {
                if !args.output.quiet {
                    say(&format!(
                        "Stopped while making {SEED_DATABASE}; nothing was posted."
                    ));
                }
                receiver.stop().await?;
                return Ok(None);
            }
        }
        Ok(Some(Self { receiver }))
    }

    pub(crate) fn invoke_url(&self) -> Result<InvokeUrl, Failure> {
        let url = format!("http://{}", self.receiver.addr());
        url.parse()
            .map_err(|error| Failure::new(Exit::Bug, format!("{url}: {error}")))
    }

    pub(crate) fn database() -> Database {
        Database::file(Path::new(SEED_DATABASE))
    }

    /// Stops the receiver and says where the data is and what to try next.
    pub(crate) async fn finish(
        self,
        command: &str,
        sink: &Sink,
        delivered: u64,
        quiet: bool,
    ) -> Result<(), Failure> {
        self.receiver.stop().await?;
        if !quiet && delivered > 0 {
            let (folder, flag) = match sink {
                Sink::KafkaRest(_) => ("topics", "--topic-prefix"),
                Sink::KinesisGateway(_) => ("streams", "--stream-prefix"),
            };
            let pin = sink.target(crate::post::Kind::Pin);
            let prefix = &pin[..pin.len() - ".pin".len()];
            say(&format!(
                "{} posts landed: look into {DIRECTORY}/{folder}/{pin}/ and its neighbours.\n\
                 Next: pinemu serve, and beside it: pinemu {command} {flag} {prefix} --database-url sqlite:{SEED_DATABASE} --invoke-url http://127.0.0.1:8082",
                grouped(delivered)
            ));
        }
        Ok(())
    }
}
