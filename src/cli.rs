//! Every option and every word of `--help`. No logic: what the values mean is decided where they are used.
//!
//! The options of `batch` and `stream` get their variables (`PINEMU_…`) and the values of a `--config` file in `config.rs`.

use std::{path::PathBuf, time::Duration};

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, value_parser};
use clap_complete::Shell;
use secrecy::SecretString;

use crate::{
    http::{Header, InvokeUrl},
    pace::{Rate, Speed},
    post::Bound,
    progress::When,
    receiver::Fault,
    shard::Shard,
    sink::kinesis_gateway::PartitionKey,
    telemetry::{self, Format},
    units::{Count, Patience, Size, StreamPrefix, TopicPrefix, duration, duration_or_zero},
};

/// Emulates Pinterest users posting: from a seed database to Kafka or Kinesis, with proof of delivery
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    after_help = "\
Try it without any set-up:
  pinemu batch --topic-prefix 0abf7f0cd605 --demo -n 200 --rate 50"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Post to Kafka topics behind a REST proxy: PREFIX.pin, PREFIX.geo, PREFIX.user
    #[command(after_help = LAYERS, next_line_help = false)]
    Batch(Box<BatchArgs>),
    /// Post to Kinesis streams behind an API Gateway: PREFIX-pin, PREFIX-geo, PREFIX-user
    #[command(after_help = LAYERS)]
    Stream(Box<StreamArgs>),
    /// Look before a run whether everything is reachable, allowed and there
    #[command(arg_required_else_help = false)]
    Check {
        #[command(subcommand)]
        of: Checked,
    },
    /// Send again what was set aside
    #[command(after_help = LAYERS)]
    Resend(Box<ResendArgs>),
    /// Make a seed database of synthetic posts
    Seed(SeedArgs),
    /// Run a local receiver that speaks the APIs of both targets
    Serve(ServeArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell that will read it
        shell: Shell,
    },
}

const LAYERS: &str = "\
Every option has a variable (--invoke-url: PINEMU_INVOKE_URL) and a key in the file of --config
(invoke-url = \"…\"). A flag wins over a variable, a variable over the file, the file over the default.";

/// The run to check, with the options that it would get.
#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub(crate) enum Checked {
    /// Check a run of batch, with the options of that run
    #[command(after_help = LAYERS)]
    Batch(Box<CheckArgs<BatchArgs>>),
    /// Check a run of stream, with the options of that run
    #[command(after_help = LAYERS)]
    Stream(Box<CheckArgs<StreamArgs>>),
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs<Run: Args> {
    #[command(flatten)]
    pub(crate) check: CheckOptions,

    #[command(flatten)]
    pub(crate) run: Run,
}

/// How far a check goes. On the command line only: what sends or makes something is asked for each time.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct CheckOptions {
    /// Send one marked post and read the receipt: key -1, texts `pinemu check --probe`, numbers 0
    #[arg(long, help_heading = "Check")]
    pub(crate) probe: bool,

    /// Make the streams that are missing, through the gateway, and wait until they are ready
    #[arg(long, help_heading = "Check")]
    pub(crate) create: bool,

    /// Count the rows of the tables, however long that takes
    #[arg(long, help_heading = "Check")]
    pub(crate) exact: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OrderArg {
    /// Every post once in shuffled order, then again in a new shuffle, for ever
    Random,
    /// By key, once
    Index,
    /// By recorded time (the column timestamp of where and when), once
    Time,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ArrivalsArg {
    /// Like people who do not know of each other
    Poisson,
    /// Like a clock
    Constant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RecordKeyArg {
    None,
    /// The row's key, as a JSON string
    Index,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EndpointArg {
    /// One record a request
    Record,
    /// Up to 500 records a request
    Records,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DialectArg {
    Confluent,
    /// Strimzi's bridge
    Strimzi,
    Karapace,
    /// Redpanda's pandaproxy: one result for each partition, not for each record
    Redpanda,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GatewayArg {
    /// Errors of Kinesis come with status 200, as AWS's tutorial maps them
    #[value(name = "default-200")]
    Default200,
    /// Errors of Kinesis come with its own status, 400 or 500
    Mapped,
}

#[derive(Debug, Args)]
pub(crate) struct BatchArgs {
    /// What the topic names begin with; needed but for --demo
    #[arg(long, value_name = "PREFIX", help_heading = "Target")]
    pub(crate) topic_prefix: Option<TopicPrefix>,

    /// The key of the Kafka records
    #[arg(
        long,
        value_name = "WHICH",
        default_value = "none",
        help_heading = "Target"
    )]
    pub(crate) record_key: RecordKeyArg,

    #[command(flatten)]
    pub(crate) post: PostArgs,
}

#[derive(Debug, Args)]
pub(crate) struct StreamArgs {
    /// What the stream names begin with; needed but for --demo
    #[arg(long, value_name = "PREFIX", help_heading = "Target")]
    pub(crate) stream_prefix: Option<StreamPrefix>,

    /// Which resource of the gateway takes the records
    #[arg(
        long,
        value_name = "WHICH",
        default_value = "record",
        help_heading = "Target"
    )]
    pub(crate) endpoint: EndpointArg,

    /// What decides the shard: the row's key (index), pin, geo or user (kind), or a constant (text:T)
    #[arg(
        long,
        value_name = "WHAT",
        default_value = "index",
        help_heading = "Target"
    )]
    pub(crate) partition_key: PartitionKey,

    #[command(flatten)]
    pub(crate) post: PostArgs,
}

/// What `batch` and `stream` have in common.
#[derive(Debug, Args)]
pub(crate) struct PostArgs {
    /// The seed database: mysql://user:password@host:3306/pinterest_data or sqlite:PATH
    #[arg(long, value_name = "URL", help_heading = "Source")]
    pub(crate) database_url: Option<SecretString>,

    /// A file that holds the database password (or the variable PINEMU_DATABASE_PASSWORD)
    #[arg(long, value_name = "FILE", help_heading = "Source")]
    pub(crate) database_password_file: Option<PathBuf>,

    /// The table of the pins
    #[arg(
        long,
        value_name = "TABLE",
        default_value = "pinterest_data",
        help_heading = "Source"
    )]
    pub(crate) pin_table: String,

    /// The table of where and when
    #[arg(
        long,
        value_name = "TABLE",
        default_value = "geolocation_data",
        help_heading = "Source"
    )]
    pub(crate) geo_table: String,

    /// The table of who
    #[arg(
        long,
        value_name = "TABLE",
        default_value = "user_data",
        help_heading = "Source"
    )]
    pub(crate) user_table: String,

    /// No set-up: an embedded seed database and receiver below pinemu-demo/, for a minute unless -n or -d
    #[arg(long, conflicts_with_all = ["database_url", "invoke_url"], help_heading = "Source")]
    pub(crate) demo: bool,

    #[command(flatten)]
    pub(crate) target: TargetArgs,

    /// In which order posts are read
    #[arg(
        long,
        value_name = "ORDER",
        default_value = "random",
        help_heading = "Which posts"
    )]
    pub(crate) order: OrderArg,

    /// The same seed gives the same order and the same pauses [default: drawn, and told in the summary]
    #[arg(long, value_name = "N", help_heading = "Which posts")]
    pub(crate) random_seed: Option<u64>,

    /// Stop after so many posts (10k and 1M are understood)
    #[arg(
        short = 'n',
        long,
        value_name = "N",
        allow_negative_numbers = true,
        help_heading = "Which posts"
    )]
    pub(crate) count: Option<Count>,

    /// Stop when the next post would be due after this time
    #[arg(short = 'd', long, value_name = "TIME", value_parser = duration, help_heading = "Which posts")]
    pub(crate) duration: Option<Duration>,

    /// The lowest key to post; with --order time the first time, such as 2020-01-31 or 2020-01-31T12:00
    #[arg(
        long,
        value_name = "X",
        allow_negative_numbers = true,
        help_heading = "Which posts"
    )]
    pub(crate) from: Option<Bound>,

    /// The highest key to post; with --order time the last time, a date being the whole day
    #[arg(
        long,
        value_name = "X",
        allow_negative_numbers = true,
        help_heading = "Which posts"
    )]
    pub(crate) to: Option<Bound>,

    /// This machine's share of a run that N do together: the posts whose key divided by N leaves I - 1
    #[arg(long, value_name = "I/N", help_heading = "Which posts")]
    pub(crate) shard: Option<Shard>,

    /// Posts per second (30/m and 100/h are understood), or max
    #[arg(
        long,
        value_name = "RATE",
        default_value = "2/s",
        allow_negative_numbers = true,
        help_heading = "Pace"
    )]
    pub(crate) rate: Rate,

    /// How the pauses between posts are spread
    #[arg(
        long,
        value_name = "HOW",
        default_value = "poisson",
        help_heading = "Pace"
    )]
    pub(crate) arrivals: ArrivalsArg,

    /// With --order time: replay recorded time, so many times as fast; 1 as recorded
    #[arg(
        long,
        value_name = "X",
        allow_negative_numbers = true,
        help_heading = "Pace"
    )]
    pub(crate) speed: Option<Speed>,

    /// With --order time: replay all that is left of recorded time in this time
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Pace")]
    pub(crate) fit: Option<Duration>,

    /// With --speed or --fit: cut longer silences to so much recorded time
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Pace")]
    pub(crate) max_gap: Option<Duration>,

    #[command(flatten)]
    pub(crate) sending: SendingArgs,

    #[command(flatten)]
    pub(crate) state: StateArgs,

    /// The form of the summary on standard output
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "text",
        help_heading = "Output"
    )]
    pub(crate) format: Format,

    #[command(flatten)]
    pub(crate) output: OutputArgs,

    /// Draw a progress bar on standard error
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "auto",
        help_heading = "Output"
    )]
    pub(crate) progress: When,

    /// Print the exact requests (of 3 posts unless -n) and send nothing
    #[arg(long, help_heading = "Output")]
    pub(crate) dry_run: bool,

    /// A TOML file with options, keys as the long flags
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) config: Option<PathBuf>,

    /// Print every setting with where it came from, secrets masked, and stop
    #[arg(long, help_heading = "Output")]
    pub(crate) print_config: bool,
}

/// Where records go.
#[derive(Debug, Args)]
pub(crate) struct TargetArgs {
    /// The REST proxy or the gateway's stage, such as http://127.0.0.1:8082
    #[arg(long, value_name = "URL", help_heading = "Target")]
    pub(crate) invoke_url: Option<InvokeUrl>,

    /// A header for every request; may be given more than once
    #[arg(short = 'H', long, value_name = "K: V", help_heading = "Target")]
    pub(crate) header: Vec<Header>,

    /// A file that holds the API key (or the variable PINEMU_API_KEY), sent as x-api-key
    #[arg(long, value_name = "FILE", help_heading = "Target")]
    pub(crate) api_key_file: Option<PathBuf>,

    /// Certificates to trust beside the system's, as PEM
    #[arg(long, value_name = "FILE", help_heading = "Target")]
    pub(crate) cacert: Option<PathBuf>,
}

/// How records go.
#[derive(Debug, Args)]
pub(crate) struct SendingArgs {
    /// Most posts in one request for one topic or stream
    #[arg(
        long,
        value_name = "N",
        default_value = "500",
        help_heading = "Sending"
    )]
    pub(crate) batch_size: Count,

    /// Most bytes in one request
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "1MiB",
        help_heading = "Sending"
    )]
    pub(crate) batch_bytes: Size,

    /// How long the first post of a request waits for others
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration_or_zero, help_heading = "Sending")]
    pub(crate) linger: Duration,

    /// Requests on the wire at a time, or auto; 1: one at a time for each topic or stream, in order
    #[arg(
        long,
        value_name = "N",
        default_value = "auto",
        help_heading = "Sending"
    )]
    pub(crate) in_flight: InFlight,

    /// Longest that one request may take (an API Gateway takes up to 29s)
    #[arg(long, value_name = "TIME", default_value = "35s", value_parser = duration, help_heading = "Sending")]
    pub(crate) timeout: Duration,

    /// Longest that connecting may take
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration, help_heading = "Sending")]
    pub(crate) connect_timeout: Duration,

    /// How long a record is tried before it is set aside, or forever
    #[arg(
        long,
        value_name = "TIME",
        default_value = "5m",
        help_heading = "Sending"
    )]
    pub(crate) retry_for: Patience,

    /// End the run once so many posts have been set aside
    #[arg(
        long,
        value_name = "N",
        default_value = "1000",
        help_heading = "Sending"
    )]
    pub(crate) max_undelivered: Count,

    /// How long a signal lets what is on the wire settle
    #[arg(long, value_name = "TIME", default_value = "8s", value_parser = duration_or_zero, help_heading = "Sending")]
    pub(crate) grace: Duration,
}

/// What a run leaves for the next one.
#[derive(Debug, Args)]
pub(crate) struct StateArgs {
    /// Where the run keeps its place and what it sets aside [default: ~/.local/state/pinemu/batch-PREFIX or stream-PREFIX, with -shard-I-of-N]
    #[arg(long, value_name = "DIR", help_heading = "State")]
    pub(crate) state_dir: Option<PathBuf>,

    /// Go on where the run before ended, with its order, range and seed; without one from the start
    #[arg(long, help_heading = "State")]
    pub(crate) resume: bool,

    /// With --resume: the target has a new address
    #[arg(long, requires = "resume", help_heading = "State")]
    pub(crate) moved: bool,

    /// What to do while another run has the state directory
    #[arg(
        long,
        value_name = "WHAT",
        default_value = "fail",
        help_heading = "State"
    )]
    pub(crate) if_running: IfRunning,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum IfRunning {
    /// Exit with 75
    Fail,
    /// Exit with 0, without a word
    Skip,
}

#[derive(Debug, Args)]
pub(crate) struct ResendArgs {
    /// batch, stream, a FILE like undelivered.jsonl, or - for standard input
    #[arg(value_name = "WHAT")]
    pub(crate) what: Option<PathBuf>,

    /// With batch: what the topic names begin with
    #[arg(long, value_name = "PREFIX", help_heading = "Target")]
    pub(crate) topic_prefix: Option<TopicPrefix>,

    /// With stream: what the stream names begin with
    #[arg(long, value_name = "PREFIX", help_heading = "Target")]
    pub(crate) stream_prefix: Option<StreamPrefix>,

    #[command(flatten)]
    pub(crate) target: TargetArgs,

    #[command(flatten)]
    pub(crate) sending: SendingArgs,

    /// The state directory of the runs that set the records aside
    #[arg(long, value_name = "DIR", help_heading = "State")]
    pub(crate) state_dir: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,

    /// The form of the summary on standard output
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "text",
        help_heading = "Output"
    )]
    pub(crate) format: Format,

    /// Draw a progress bar on standard error
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "auto",
        help_heading = "Output"
    )]
    pub(crate) progress: When,

    /// A TOML file with options, keys as the long flags
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) config: Option<PathBuf>,
}

/// How many requests may be on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InFlight {
    Auto,
    Most(u16),
}

impl std::str::FromStr for InFlight {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            _ if text == "auto" => Ok(Self::Auto),
            Ok(most @ 1..=1024) => Ok(Self::Most(most)),
            _ => Err("it is auto or a number from 1 to 1024".to_owned()),
        }
    }
}

/// How much is said, and how.
#[derive(Debug, Args)]
pub(crate) struct OutputArgs {
    /// The form of the log on standard error
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "text",
        help_heading = "Output"
    )]
    pub(crate) log_format: Format,

    /// Say nothing on success, one line on failure
    #[arg(short, long, conflicts_with = "verbose", help_heading = "Output")]
    pub(crate) quiet: bool,

    /// Say more; -vv says all
    #[arg(short, long, action = ArgAction::Count, help_heading = "Output")]
    pub(crate) verbose: u8,

    /// Colour the log
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "auto",
        help_heading = "Output"
    )]
    pub(crate) color: When,
}

impl OutputArgs {
    /// What they ask of the log.
    pub(crate) fn log(&self) -> telemetry::Options {
        telemetry::Options {
            format: self.log_format,
            quiet: self.quiet,
            verbose: self.verbose,
            color: self.color,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct SeedArgs {
    /// Where to make the tables: mysql://user:password@host:3306/pinterest_data or sqlite:PATH
    #[arg(long, value_name = "URL", env = "PINEMU_DATABASE_URL", hide_env = true)]
    pub(crate) database_url: SecretString,

    /// A file that holds the database password (or the variable PINEMU_DATABASE_PASSWORD)
    #[arg(
        long,
        value_name = "FILE",
        env = "PINEMU_DATABASE_PASSWORD_FILE",
        hide_env = true
    )]
    pub(crate) database_password_file: Option<PathBuf>,

    /// How many posts to make (10k and 1M are understood)
    #[arg(long, value_name = "N", default_value = "11154")]
    pub(crate) posts: Count,

    /// The same seed makes the same rows, in either kind of database
    #[arg(long, value_name = "N", default_value = "100")]
    pub(crate) random_seed: u64,

    /// Drop the three tables first if they exist
    #[arg(long)]
    pub(crate) replace: bool,

    /// Draw a progress bar on standard error
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(crate) progress: When,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Address to listen on; port 0 takes any free port
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8082")]
    pub(crate) listen: String,

    /// Where acknowledged records land: DIR/topics/... and DIR/streams/...
    #[arg(long, value_name = "DIR", default_value = "pinemu-data")]
    pub(crate) data_dir: PathBuf,

    /// Partitions of a topic, and shards of a stream
    #[arg(long, value_name = "N", default_value = "1", value_parser = value_parser!(u32).range(1..=1000))]
    pub(crate) partitions: u32,

    /// Finish a landed file when it has so many records
    #[arg(long, value_name = "N", default_value = "1000")]
    pub(crate) flush_size: Count,

    /// Finish a landed file so long after its first record
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub(crate) flush_after: Duration,

    /// Answer and count, keep nothing: for load tests
    #[arg(long, conflicts_with_all = ["data_dir", "flush_size", "flush_after"])]
    pub(crate) discard: bool,

    /// Only these topics exist [default: any]
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub(crate) topics: Option<Vec<String>>,

    /// Only these streams exist, and those created later [default: any]
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub(crate) streams: Option<Vec<String>>,

    /// Whose REST proxy answers for topics
    #[arg(long, value_name = "WHOSE", default_value = "confluent")]
    pub(crate) dialect: DialectArg,

    /// How the gateway passes on the errors of Kinesis
    #[arg(long, value_name = "HOW", default_value = "default-200")]
    pub(crate) gateway: GatewayArg,

    /// Go wrong on purpose, as 503=5% or record-error=5%; may be given more than once
    ///
    /// Every request meets at most one of these, in the share given (a percentage):
    ///   STATUS=5%         an HTTP status from 400 to 599, as who answers words it; nothing lands
    ///   html=1%           a page of somebody else with status 200; nothing lands
    ///   hang=0.1%         no answer, for as long as the client waits; nothing lands
    ///   drop=0.1%         lands, and the connection is cut without an answer
    ///   truncate=1%       lands, and the connection is cut in the middle of the answer
    ///   empty=1%          lands, and the answer is a 200 without a body
    /// Beside them:
    ///   record-error=5%   records that fail this time (redpanda: partitions of a request)
    ///   record-reject=1%  records that are refused, the same ones however often they are sent;
    ///                     strimzi has no code for that and says 500, as for what passes
    ///   latency=20ms      every answer is late by that
    ///   limit=200/s       requests above that (and a burst of a tenth of it) are answered 429;
    ///                     strimzi: 503
    #[arg(long, value_name = "SPEC", verbatim_doc_comment)]
    pub(crate) fault: Vec<Fault>,

    /// The same seed brings the same faults to the same requests in the same order [default: drawn, and told at the start]
    #[arg(long, value_name = "N", requires = "fault")]
    pub(crate) fault_seed: Option<u64>,

    /// Write the port to FILE once connections are taken
    #[arg(long, value_name = "FILE")]
    pub(crate) port_file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use clap::CommandFactory;

    use super::*;

    /// The row of an option as the README shows it.
    fn row(arg: &clap::Arg) -> String {
        let takes_value = arg.get_action().takes_values();
        let short = arg
            .get_short()
            .map(|short| format!("-{short}, "))
            .unwrap_or_default();
        let value = match arg.get_value_names() {
            Some([name]) if takes_value => format!(" {name}"),
            _ => String::new(),
        };
        let default = match arg.get_default_values() {
            [default] if takes_value => format!("`{}`", default.to_str().unwrap()),
            _ => String::new(),
        };
        let mut help = arg.get_help().unwrap().to_string();
        let choices = if takes_value {
            arg.get_possible_values()
        } else {
            Vec::new()
        };
        if !choices.is_empty() {
            let names: Vec<_> = choices
                .iter()
                .map(|choice| format!("`{}`", choice.get_name()))
                .collect();
            write!(help, ": {}", names.join(", ")).unwrap();
        }
        format!(
            "| `{short}--{}{value}` | {default} | {help} |\n",
            arg.get_long().unwrap()
        )
    }

    /// The options of `command` that `other` has too, or those that it has not.
    fn table(command: &str, other: Option<(&str, bool)>) -> String {
        let root = Cli::command();
        let has = |command: &str, arg: &clap::Arg| {
            root.find_subcommand(command)
                .unwrap()
                .get_arguments()
                .any(|it| it.get_id() == arg.get_id())
        };
        let rows = root
            .find_subcommand(command)
            .unwrap()
            .get_arguments()
            .filter(|arg| {
                arg.get_id() != "help"
                    && other.is_none_or(|(other, shared)| has(other, arg) == shared)
            });
        rows.fold(
            "| option | default | meaning |\n|---|---|---|\n".to_owned(),
            |table, arg| table + &row(arg),
        )
    }

    /// The options of `check batch` that `batch` has not, which are those of `check stream` too.
    fn own_table_of_check() -> String {
        let root = Cli::command();
        let check = root.find_subcommand("check").unwrap();
        let [batch, stream] = ["batch", "stream"].map(|run| {
            let of_run = root.find_subcommand(run).unwrap();
            let own = check
                .find_subcommand(run)
                .unwrap()
                .get_arguments()
                .filter(|arg| !of_run.get_arguments().any(|it| it.get_id() == arg.get_id()));
            own.fold(
                "| option | default | meaning |\n|---|---|---|\n".to_owned(),
                |table, arg| table + &row(arg),
            )
        });
        assert_eq!(batch, stream);
        batch
    }

    #[test]
    fn the_readme_shows_every_option_as_help_does() {
        let readme =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
        let tables = [
            table("batch", Some(("stream", false))),
            table("stream", Some(("batch", false))),
            table("batch", Some(("stream", true))),
            own_table_of_check(),
            table("seed", None),
            table("serve", None),
        ];
        let missing: Vec<_> = tables
            .into_iter()
            .filter(|table| !readme.contains(table))
            .collect();
        assert!(
            missing.is_empty(),
            "README.md lacks these tables:\n{}",
            missing.join("\n")
        );
    }

    #[test]
    fn the_definition_holds_no_contradiction() {
        Cli::command().debug_assert();
    }
}
