//! What goes to standard error and standard output. The log never draws over the progress bar, and a reader that has gone
//! is no error.

use std::{
    io::{self, ErrorKind, IsTerminal, Write},
    sync::OnceLock,
    time::SystemTime,
};

use clap::ValueEnum;
use tracing::Level;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use crate::{
    failure::{Exit, Failure, OrExit},
    progress::{self, When},
};

/// The form of a log or a summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

/// What is logged, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) format: Format,
    /// Only why the program ends.
    pub(crate) quiet: bool,
    /// How much more than usual.
    pub(crate) verbose: u8,
    pub(crate) color: When,
}

/// The form of the log, once it has started.
static FORMAT: OnceLock<Format> = OnceLock::new();

/// Starts the log. Called once.
pub(crate) fn start(options: Options) {
    start_at(Level::WARN, options);
}

/// Starts the log of a command that tells in its result what others warn of. Called once.
pub(crate) fn start_without_warnings(options: Options) {
    start_at(Level::ERROR, options);
}

/// `usual`: what is told unless the options say otherwise.
fn start_at(usual: Level, options: Options) {
    let level = match (options.quiet, options.verbose) {
        (true, _) => Level::ERROR,
        (_, 0) => usual,
        (_, 1) => Level::INFO,
        _ => Level::DEBUG,
    };
    // Other libraries speak only of what went wrong: what they log in detail may hold secrets.
    let filter = EnvFilter::new(format!("error,pinemu={level}"));
    let ansi = is_coloured(options.color, io::stderr().is_terminal());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Log)
        .with_target(false)
        .with_ansi(ansi);
    match *FORMAT.get_or_init(|| options.format) {
        Format::Text => log.init(),
        Format::Json => log.json().flatten_event(true).init(),
    }
}

/// Whether what goes to a terminal, or elsewhere, is coloured.
pub(crate) fn is_coloured(when: When, to_terminal: bool) -> bool {
    match when {
        When::Always => true,
        When::Never => false,
        When::Auto => {
            to_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        }
    }
}

/// Standard error, above the bar.
struct Log;

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A reader of the log that has gone ends nothing; the library would panic over the error.
        let _ = progress::above(|| io::stderr().write_all(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Prints a result; `what` it is, should it be lost. A reader that has had enough (`| head`) loses nothing.
pub(crate) fn print_result(what: &str, text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.or_exit(Exit::CannotWrite, || {
            format!("cannot write {what} to standard output")
        }),
    }
}

/// For a test that is a process of its own.
#[cfg(test)]
pub(crate) fn print(text: &str) {
    print_result("it", text).unwrap();
}

/// Says something to the person at the terminal.
pub(crate) fn say(text: &str) {
    tell(Level::INFO, text);
}

/// Says why the program ends.
pub(crate) fn complain(text: &str) {
    tell(Level::ERROR, text);
}

/// Where the log is JSON every line is, whoever writes it.
fn tell(level: Level, text: &str) {
    let line = match FORMAT.get() {
        Some(Format::Json) => serde_json::json!({
            "timestamp": humantime::format_rfc3339_micros(SystemTime::now()).to_string(),
            "level": level.as_str(),
            "message": text,
        })
        .to_string(),
        _ => text.to_owned(),
    };
    let _ = progress::above(|| writeln!(io::stderr(), "{line}"));
}
