//! pinemu emulates Pinterest users posting: it reads posts from a seed database and sends them as JSON records to Kafka
//! topics behind a REST proxy or to Kinesis streams behind an API Gateway, and counts as delivered only what the target's
//! answer proves.
//!
//! The map, top to bottom; a file uses only files of the floors below its own.
//!
//! | floor | files |
//! |---|---|
//! | what users type | `cli` (every option), `config` (flags over variables over file), `commands` (one file per verb) |
//! | engine | `pipeline` (the one loop over batches), `delivery` (the one loop over attempts) |
//! | edges to the world | `source` (databases), `http`, `state` (place, books and lock of a run), `receiver` (the local target), `seeding`, `telemetry`, `progress`, `summary` |
//! | policy, pure | `sink` (requests and verdicts of each target), `limiter`, `pace`, `permutation`, `shard`, `digest`, `retry`, `sample`, `units` |
//! | domain | `post`, `wall_time`, `failure` |
//!
//! A post travels `source` → `pipeline` (when due, into a batch) → `delivery` (`sink` makes the request, `http` sends it,
//! `sink` judges the answer) → `pipeline` (into the books) → `summary`.

#[expect(
    clippy::doc_markdown,
    reason = "its comments are help texts, printed as they are"
)]
mod cli;
mod commands;
mod config;
mod delivery;
mod digest;
mod failure;
#[cfg(test)]
mod foreign;
mod http;
mod limiter;
mod pace;
mod permutation;
mod pipeline;
mod post;
mod progress;
mod receiver;
mod retry;
mod sample;
mod seeding;
mod shard;
mod sink;
mod source;
mod state;
mod summary;
mod telemetry;
mod units;
mod wall_time;

use std::ffi::OsString;

use clap::CommandFactory;
use tokio_util::sync::CancellationToken;

pub use failure::{Exit, Failure};

/// A command line that has been understood.
#[derive(Debug)]
pub struct Command(config::Invocation);

/// Reads a command line, with the variables of the environment and the file of `--config`. None: it asked for help, the
/// version or the settings, which have been printed.
///
/// # Errors
/// What is wrong with the line or the file, or that the answer cannot be printed, with the exit status for it.
pub fn parse(line: impl Iterator<Item = OsString>) -> Result<Option<Command>, Failure> {
    match config::parse(&line.collect::<Vec<_>>()) {
        Ok(invocation) => match commands::settings::asked_for(&invocation) {
            Some(text) => telemetry::print_result("the settings", &text).map(|()| None),
            None => Ok(Some(Command(invocation))),
        },
        Err(config::NotRun::Told(text)) => {
            telemetry::print_result("what was asked for", &text)?;
            Ok(None)
        }
        Err(config::NotRun::Failed(failure)) => Err(failure),
    }
}

/// Prints a failure as one line on standard error.
pub fn report(failure: &Failure) {
    telemetry::complain(&format!("pinemu: {failure}"));
}

impl Command {
    /// Runs the command until it ends or `stop` is cancelled, which lets what is under way settle.
    ///
    /// # Errors
    /// What ended it too early, with the exit status for it.
    pub async fn run(self, stop: CancellationToken) -> Result<Exit, Failure> {
        let config::Invocation { cli, origin } = self.0;
        match cli.command {
            cli::Command::Batch(args) => {
                telemetry::start(args.post.output.log());
                commands::post::batch(*args, &origin, &stop).await
            }
            cli::Command::Stream(args) => {
                telemetry::start(args.post.output.log());
                commands::post::stream(*args, &origin, &stop).await
            }
            cli::Command::Check { of } => Box::pin(commands::check::run(of, &origin, &stop)).await,
            cli::Command::Resend(args) => {
                telemetry::start(args.output.log());
                commands::resend::run(*args, &stop).await
            }
            cli::Command::Seed(args) => commands::seed::run(args, stop).await,
            cli::Command::Serve(args) => {
                telemetry::start(args.output.log());
                commands::serve::run(args, stop).await
            }
            cli::Command::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut cli::Cli::command(), "pinemu", &mut script);
                let script = String::from_utf8_lossy(&script);
                telemetry::print_result("the completion script", &script)?;
                Ok(Exit::Success)
            }
        }
    }
}
