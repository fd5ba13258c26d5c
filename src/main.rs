//! The binary: parses, starts the log, listens for signals, runs, exits. The only place that ends the process.

use std::{
    panic,
    process::{self, ExitCode},
    thread,
};

use pinemu::{Command, Exit, Failure};
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let command = match pinemu::parse(std::env::args_os()) {
        Ok(Some(command)) => command,
        Ok(None) => return Exit::Success.into(),
        Err(failure) => return fail(&failure),
    };
    panic::set_hook(Box::new(|panic| {
        let text = format!("this is a bug, please report it: {panic}");
        pinemu::report(&Failure::new(Exit::Bug, text));
    }));
    match run(command) {
        Ok(exit) => exit.into(),
        Err(failure) => fail(&failure),
    }
}

fn run(command: Command) -> Result<Exit, Failure> {
    let bug = |error: std::io::Error| Failure::new(Exit::Bug, format!("cannot start: {error}"));
    // One more than a pager can hold up that does not read on: signals are still heard.
    let workers = thread::available_parallelism().map_or(1, Into::into).max(2);
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .map_err(bug)?;
    let ended = runtime.block_on(async {
        let stop = CancellationToken::new();
        listen(stop.clone()).map_err(bug)?;
        // As a task, on a worker: this thread would have to be woken for all that the others have for it.
        Ok(tokio::spawn(command.run(stop)).await)
    });
    // What is still being read or sent has been given up; waiting for it would hold the exit.
    runtime.shutdown_background();
    // It panicked, of which the hook has told.
    ended?.unwrap_or(Ok(Exit::Bug))
}

/// The first signal asks the run to end in order, the second ends it at once.
fn listen(stop: CancellationToken) -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        for again in [false, true] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            if again {
                process::exit(130);
            }
            stop.cancel();
        }
    });
    Ok(())
}

fn fail(failure: &Failure) -> ExitCode {
    pinemu::report(failure);
    failure.exit.into()
}
