//! Settings: flags over variables over the file of `--config` over defaults.
//!
//! clap already puts flags over variables over defaults; the file slips in by becoming the defaults of the command that
//! reads the line. So an option is defined once, in `cli.rs`, and a key of the file is the name of its flag.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fmt::Write as _,
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use clap::{
    Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches,
    builder::BoolishValueParser,
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};
use secrecy::SecretString;
use toml::{Spanned, Value};

use crate::{
    cli::Cli,
    failure::{Exit, Failure, OrExit},
};

/// The commands whose options have variables and keys.
const LAYERED: [&str; 3] = ["batch", "stream", "resend"];
/// The command whose own commands take the options of others beside theirs.
const NESTING: &str = "check";
/// Options that mean something only on a command line.
const LINE_ONLY: [&str; 2] = ["config", "print-config"];
/// Options whose values may hold a secret.
const CONFIDENTIAL: [&str; 3] = ["database-url", "invoke-url", "header"];
/// Options that name the file of a secret. Without one it is looked for in a variable, whose name lacks the `_FILE`.
const SECRET_FILES: [&str; 2] = ["database-password-file", "api-key-file"];
/// What stands for a secret.
const HIDDEN: &str = "***";

/// What the user wants, and where each word of it came from.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) cli: Cli,
    pub(crate) origin: Origin,
}

/// Where the settings of a command came from.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    matches: ArgMatches,
    file: BTreeMap<String, Vec<String>>,
    path: Option<PathBuf>,
}

/// Why there is nothing to run.
#[derive(Debug)]
pub(crate) enum NotRun {
    /// `--help` or `--version`: print this, all is well.
    Told(String),
    Failed(Failure),
}

impl From<Failure> for NotRun {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Reads a command line, with the variables of the environment and the file that it names.
pub(crate) fn parse(line: &[OsString]) -> Result<Invocation, NotRun> {
    let path = config_path(line);
    let file = match &path {
        Some(path) => read(path)?,
        None => BTreeMap::new(),
    };
    let command = layered(Cli::command(), &file);
    let matches = command.try_get_matches_from(line).map_err(refusal)?;
    let cli = Cli::from_arg_matches(&matches).map_err(refusal)?;
    let mut matches = &matches;
    while let Some((_, inner)) = matches.subcommand() {
        matches = inner;
    }
    let matches = matches.clone();
    let origin = Origin {
        matches,
        file,
        path,
    };
    Ok(Invocation { cli, origin })
}

/// The file has to be known before the line can be read whole.
fn config_path(line: &[OsString]) -> Option<PathBuf> {
    let mut words = line.iter();
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--") => break,
            Some("--config") => return words.next().map(PathBuf::from),
            Some(word) => {
                if let Some(path) = word.strip_prefix("--config=") {
                    return Some(PathBuf::from(path));
                }
            }
            None => {}
        }
    }
    let command = line
        .get(1)
        .and_then(|word| word.to_str())
        .unwrap_or_default();
    (command == NESTING || LAYERED.contains(&command))
        .then(|| env::var_os("PINEMU_CONFIG").map(PathBuf::from))
        .flatten()
}

/// Reads a configuration file: its keys with their values as they would stand on a command line.
fn read(path: &PathBuf) -> Result<BTreeMap<String, Vec<String>>, Failure> {
    let name = path.display();
    let text = fs::read_to_string(path).or_exit(Exit::Configuration, || {
        format!("cannot read --config {name}")
    })?;
    let bad = |span: Range<usize>, what: String| {
        let line = text[..span.start.min(text.len())].matches('\n').count() + 1;
        Failure::new(Exit::Configuration, format!("{name}, line {line}: {what}"))
    };
    let values: BTreeMap<Spanned<String>, Spanned<Value>> = toml::from_str(&text)
        .map_err(|error| bad(error.span().unwrap_or_default(), error.message().to_owned()))?;
    let root = Cli::command();
    let option = |key: &str| {
        LAYERED.iter().find_map(|name| {
            let mut options = root.find_subcommand(name)?.get_arguments();
            options
                .find(|arg| arg.get_long() == Some(key) && !LINE_ONLY.contains(&key))
                .map(|arg| (*name, arg))
        })
    };
    let mut file = BTreeMap::new();
    for (key, value) in values {
        let Some((command, arg)) = option(key.get_ref()) else {
            let text = format!(
                "unknown key {}; the keys are the long flags of batch and stream",
                key.get_ref()
            );
            return Err(bad(key.span(), text));
        };
        let words = words(value.get_ref()).ok_or_else(|| {
            let text = format!("{} is a string, a number, true or false", key.get_ref());
            bad(value.span(), text)
        })?;
        check(command, arg, &words).map_err(|what| bad(value.span(), what))?;
        file.insert(key.into_inner(), words);
    }
    Ok(file)
}

/// Whether an option takes the words that the file gives it: here they still have a line that can be named.
fn check(command: &str, arg: &Arg, words: &[String]) -> Result<(), String> {
    let long = arg.get_long().unwrap_or_default();
    let one = match words {
        [word] => Some(word.as_str()),
        _ => None,
    };
    match arg.get_action() {
        ArgAction::SetTrue if !matches!(one, Some("true" | "false")) => {
            return Err(format!("{long} is true or false"));
        }
        ArgAction::Count if one.is_none_or(|word| word.parse::<u8>().is_err()) => {
            return Err(format!("{long} is a number up to {}", u8::MAX));
        }
        ArgAction::SetTrue | ArgAction::Count => return Ok(()),
        ArgAction::Append => {}
        _ if one.is_none() => return Err(format!("{long} takes one value")),
        _ => {}
    }
    let line = ["pinemu".to_owned(), command.to_owned()]
        .into_iter()
        .chain(words.iter().map(|word| format!("--{long}={word}")));
    match Cli::command().try_get_matches_from(line) {
        Ok(_) => Ok(()),
        Err(mut error) => {
            error.insert(
                ContextKind::InvalidArg,
                ContextValue::String(long.to_owned()),
            );
            Err(sentence(error))
        }
    }
}

fn words(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Integer(number) => Some(vec![number.to_string()]),
        Value::Float(number) => Some(vec![number.to_string()]),
        Value::Boolean(flag) => Some(vec![flag.to_string()]),
        Value::Datetime(time) => Some(vec![time.to_string()]),
        Value::Array(values) => values.iter().map(|value| words(value)?.pop()).collect(),
        Value::Table(_) => None,
    }
}

/// Gives each option of the layered commands its variable, and the values of the file as defaults.
fn layered(root: Command, file: &BTreeMap<String, Vec<String>>) -> Command {
    let options: BTreeMap<&str, Vec<String>> = LAYERED
        .iter()
        .filter_map(|name| {
            let options = root.find_subcommand(name)?.get_arguments();
            let longs = options.filter_map(|arg| arg.get_long().map(str::to_owned));
            Some((*name, longs.collect()))
        })
        .collect();
    let layer = |command: Command| {
        let own = options.get(command.get_name());
        command.mut_args(|arg| match arg.get_long().map(str::to_owned) {
            Some(long) if long != "help" && own.is_some_and(|own| own.contains(&long)) => {
                let arg = arg.env(variable(&long)).hide_env(true);
                // Variables say 1 or yes as often as true.
                let arg = match arg.get_action() {
                    ArgAction::SetTrue => arg.value_parser(BoolishValueParser::new()),
                    _ => arg,
                };
                match file.get(&long) {
                    Some(words) => arg.default_values(words.clone()),
                    None => arg,
                }
            }
            _ => arg,
        })
    };
    LAYERED
        .iter()
        .fold(root, |root, name| root.mut_subcommand(name, layer))
        .mut_subcommand(NESTING, |check| check.mut_subcommands(layer))
}

fn variable(long: &str) -> String {
    format!("PINEMU_{}", long.to_ascii_uppercase().replace('-', "_"))
}

/// Why a line is not run.
fn refusal(mut error: clap::Error) -> NotRun {
    if !error.use_stderr() {
        return NotRun::Told(error.render().to_string());
    }
    let text = if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        "no command given; pinemu --help lists them".to_owned()
    } else {
        name_variable(&mut error);
        sentence(error)
    };
    NotRun::Failed(Failure::new(Exit::Usage, text))
}

fn context(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text),
        _ => None,
    }
}

/// The name of the option that an error is about; a key of the file is one as well.
fn option_of(error: &clap::Error) -> Option<&str> {
    context(error, ContextKind::InvalidArg)?
        .trim_start_matches('-')
        .split(' ')
        .next()
}

/// clap blames the flag where the value came from the option's variable.
fn name_variable(error: &mut clap::Error) {
    let variable = option_of(error).map(variable);
    if let (Some(variable), Some(value)) = (variable, context(error, ContextKind::InvalidValue))
        && env::var(&variable).is_ok_and(|set| set == value)
    {
        error.insert(ContextKind::InvalidArg, ContextValue::String(variable));
    }
}

/// What clap does not take, as one clear sentence without secrets.
fn sentence(mut error: clap::Error) -> String {
    // clap repeats what it does not take, and an address or a header may hold a password, wherever it stands.
    let confidential = option_of(&error).is_some_and(|option| {
        CONFIDENTIAL
            .iter()
            .any(|long| option == *long || option == variable(long))
    });
    for kind in [
        ContextKind::InvalidValue,
        ContextKind::InvalidArg,
        ContextKind::InvalidSubcommand,
    ] {
        let hide = context(&error, kind).is_some_and(|text| {
            (confidential && kind == ContextKind::InvalidValue && !text.is_empty())
                || text.contains("://")
                || text.contains('@')
        });
        if hide {
            error.insert(kind, ContextValue::String("***".to_owned()));
        }
    }
    // clap adds the usage and a pointer to --help below the message; a log wants one line.
    let text = error.render().to_string();
    let message: Vec<&str> = text
        .lines()
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let message = message.join(" ").replace(" tip: ", "; ");
    message
        .strip_prefix("error: ")
        .unwrap_or(&message)
        .trim_end_matches('.')
        .to_owned()
}

impl Origin {
    /// Whether the option was given, and is not just its default.
    pub(crate) fn is_given(&self, long: &str) -> bool {
        let id = long.replace('-', "_");
        self.file.contains_key(long)
            || matches!(
                self.matches.value_source(&id),
                Some(ValueSource::CommandLine | ValueSource::EnvVariable)
            )
    }

    /// Of two options that exclude one another the one that counts: flag over variable over file over default.
    pub(crate) fn rank(&self, long: &str) -> u8 {
        match self.matches.value_source(&long.replace('-', "_")) {
            Some(ValueSource::CommandLine) => 3,
            Some(ValueSource::EnvVariable) => 2,
            _ => u8::from(self.file.contains_key(long)),
        }
    }

    /// Whether it stands on the command line itself.
    pub(crate) fn is_flag(&self, long: &str) -> bool {
        self.matches.value_source(&long.replace('-', "_")) == Some(ValueSource::CommandLine)
    }

    /// The command line as it was given, with `--resume`. Secrets are masked.
    pub(crate) fn again(&self, command: &str) -> String {
        let root = Cli::command();
        let mut line = format!("pinemu {command}");
        let options = root
            .find_subcommand(command)
            .into_iter()
            .flat_map(Command::get_arguments);
        for (arg, long) in options.filter_map(|arg| Some((arg, arg.get_long()?))) {
            if !self.is_flag(long) || long == "resume" {
                continue;
            }
            let words: Vec<_> = self
                .matches
                .get_raw(arg.get_id().as_str())
                .into_iter()
                .flatten()
                .collect();
            if !arg.get_action().takes_values() {
                let _ = write!(line, " --{long}");
            }
            for word in words.iter().filter(|_| arg.get_action().takes_values()) {
                let _ = write!(
                    line,
                    " --{long} {}",
                    shell_quoted(&mask(long, &word.to_string_lossy()))
                );
            }
        }
        line + " --resume"
    }

    /// Every setting of a command with where it came from, one a line, and each secret that it has. Secrets are masked.
    /// `state_dir`: the default one, where it is known.
    pub(crate) fn describe(&self, command: &str, state_dir: Option<&Path>) -> String {
        let root = Cli::command();
        let mut text = String::new();
        let options = root
            .find_subcommand(command)
            .into_iter()
            .flat_map(Command::get_arguments);
        for arg in options {
            let Some(long) = arg.get_long().filter(|long| !LINE_ONLY.contains(long)) else {
                continue;
            };
            let raw = self.matches.get_raw(arg.get_id().as_str());
            let value = raw.map(|words| {
                words
                    .map(|word| mask(long, &word.to_string_lossy()))
                    .collect::<Vec<_>>()
                    .join(", ")
            });
            let value = match state_dir {
                Some(dir) if long == "state-dir" => value.or(Some(dir.display().to_string())),
                _ => value,
            };
            // A string cannot refuse what is written to it.
            let _ = match &value {
                Some(value) => writeln!(
                    text,
                    "{long} = {}  # {}",
                    quoted(value),
                    self.place_of(long)
                ),
                None => writeln!(text, "{long} = (not set)  # {}", self.place_of(long)),
            };
            if let Some(secret) = secret_of(long) {
                let variable = || of_variable(&variable(secret)).map(|_| variable(secret));
                if let Some(place) = value.or_else(variable) {
                    let _ = writeln!(text, "{secret} = {}  # {place}", quoted(HIDDEN));
                }
            }
        }
        text
    }

    /// Where a setting came from, for people.
    fn place_of(&self, long: &str) -> String {
        match (self.rank(long), &self.path) {
            (3, _) => "flag".to_owned(),
            (2, _) => variable(long),
            (1, Some(path)) => path.display().to_string(),
            _ => "default".to_owned(),
        }
    }
}

/// A string as TOML has it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The secret whose file an option names.
fn secret_of(long: &str) -> Option<&str> {
    long.strip_suffix("-file")
        .filter(|_| SECRET_FILES.contains(&long))
}

/// A word as a shell takes it.
pub(crate) fn shell_quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// What may be shown of a value.
fn mask(long: &str, value: &str) -> String {
    match long {
        "header" => match value.split_once(':') {
            Some((name, _)) => format!("{name}: {HIDDEN}"),
            None => HIDDEN.to_owned(),
        },
        "database-url" if value.trim_start().starts_with("sqlite:") => value.to_owned(),
        "database-url" | "invoke-url" => match url::Url::parse(value) {
            // A part of a password that is not encoded is taken for a port, a path, a query or a fragment.
            Ok(url) if url[url::Position::BeforeHost..].contains('@') => HIDDEN.to_owned(),
            Ok(mut url) if url.password().is_some() => {
                // Refused only by URLs without a host, and those hold no password.
                let _ = url.set_password(Some(HIDDEN));
                url.to_string()
            }
            Ok(_) => value.to_owned(),
            Err(_) => HIDDEN.to_owned(),
        },
        _ => value.to_owned(),
    }
}

/// A secret that is kept out of the command line: from the file, else from the variable. The last line break of a file is
/// no part of it.
pub(crate) fn secret(
    file: Option<&PathBuf>,
    variable: &str,
) -> Result<Option<SecretString>, Failure> {
    let Some(path) = file else {
        return Ok(of_variable(variable));
    };
    let text = fs::read_to_string(path).or_exit(Exit::Configuration, || {
        format!("cannot read the password or API key in {}", path.display())
    })?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    Ok(Some(SecretString::from(text)))
}

/// An empty variable holds no secret.
fn of_variable(variable: &str) -> Option<SecretString> {
    let given = env::var(variable).ok().filter(|value| !value.is_empty());
    given.map(SecretString::from)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::cli;

    fn parsed(file: &str, line: &str) -> Result<Invocation, NotRun> {
        let mut config = tempfile::NamedTempFile::new().unwrap();
        config.write_all(file.as_bytes()).unwrap();
        let path = config.path().to_str().unwrap().to_owned();
        let line: Vec<OsString> = line
            .split(' ')
            .map(|word| {
                if word == "FILE" {
                    path.clone()
                } else {
                    word.to_owned()
                }
                .into()
            })
            .collect();
        parse(&line)
    }

    fn failure(file: &str, line: &str) -> Failure {
        match parsed(file, line) {
            Err(NotRun::Failed(failure)) => failure,
            other => panic!("{other:?}"),
        }
    }

    fn batch(invocation: Invocation) -> Box<cli::BatchArgs> {
        match invocation.cli.command {
            cli::Command::Batch(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let file = "topic-prefix = \"abc\"\nbatch-size = 7\nlinger = \"2s\"\nheader = [\"A: b\", \"C: d\"]\ndemo = true\n";
        let invocation = parsed(file, "pinemu batch --config FILE --batch-size 9").unwrap();
        assert!(invocation.origin.is_given("linger") && !invocation.origin.is_given("rate"));
        assert!(invocation.origin.is_flag("batch-size") && !invocation.origin.is_flag("linger"));
        let args = batch(invocation);
        assert_eq!(args.topic_prefix.unwrap().to_string(), "abc");
        assert_eq!(args.post.sending.batch_size.0, 9);
        assert_eq!(args.post.sending.linger.as_secs(), 2);
        assert_eq!(args.post.sending.timeout.as_secs(), 35);
        assert_eq!(args.post.target.header.len(), 2);
        assert!(args.post.demo);
    }

    #[test]
    fn a_file_may_serve_both_commands() {
        let file = "topic-prefix = \"abc\"\nstream-prefix = \"def\"\nendpoint = \"records\"\n";
        assert!(parsed(file, "pinemu batch --config FILE").is_ok());
        assert!(parsed(file, "pinemu stream --config FILE").is_ok());
    }

    #[test]
    fn an_error_in_the_file_names_its_line() {
        for (file, part) in [
            ("rate = 5\n\nrat = 6\n", "line 3: unknown key rat"),
            ("rate = 5\nrate = 6\n", "line 2"),
            ("rate\n", "line 1"),
            ("# x\nrate = { a = 1 }\n", "line 2"),
            ("config = \"x\"\n", "unknown key config"),
            ("# x\nrate = 0\n", "line 2: invalid value '0' for 'rate'"),
            ("demo = 7\n", "line 1: demo is true or false"),
            ("verbose = \"x\"\n", "verbose is a number"),
            ("rate = []\n", "rate takes one value"),
            (
                "header = [\"a: b\", \"s3cret\"]\n",
                "invalid value '***' for 'header'",
            ),
        ] {
            let failure = failure(file, "pinemu batch --config FILE");
            assert!(failure.to_string().contains(part), "{failure}");
            assert_eq!(failure.exit, Exit::Configuration);
        }
    }

    #[test]
    fn a_line_that_is_not_understood_is_refused_in_one_line() {
        for line in [
            "pinemu",
            "pinemu bat",
            "pinemu batch --rate 0",
            "pinemu batch -n 0",
            "pinemu batch --batch-size 0",
            "pinemu batch --demo --invoke-url http://x",
        ] {
            let failure = failure("", line);
            assert_eq!(failure.exit, Exit::Usage, "{line}");
            assert!(
                !failure.to_string().contains('\n') && failure.to_string().len() > 10,
                "{failure}"
            );
        }
    }

    #[test]
    fn what_is_not_understood_is_not_repeated_where_it_may_hold_a_secret() {
        for line in [
            "pinemu mysql://u:s3cret@h/d",
            "pinemu batch mysql://u:s3cret@h/d",
            "pinemu batch --databas-url=mysql://u:s3cret@h/d",
            "pinemu batch --invoke-url http://u:s3cret@h:999999",
            "pinemu batch --invoke-url=s3cret",
            "pinemu batch -H s3cret",
            "pinemu batch -H s3cret:\u{7}",
            "pinemu batch --demo=mysql://u:s3cret@h/d",
            "pinemu seed --database-url mysql://h s3cret@h",
        ] {
            let failure = failure("", line).to_string();
            assert!(!failure.contains("s3cret"), "{failure}");
        }
    }

    #[test]
    fn a_description_masks_secrets() {
        let line = "pinemu batch --topic-prefix p --invoke-url http://u:s3cret@h -H X:a,s3cret --header Y:s3cret --database-url ";
        for url in [
            "mysql://u:s3cret@h/d",
            "mysql://u:12/s3cret@h/d",
            "mysql://u:12#s3cret@h/d",
            "mysql:u:s3cret@h/d",
            "mysql//u:s3cret@h/d",
        ] {
            let text = parsed("", &format!("{line}{url}"))
                .unwrap()
                .origin
                .describe("batch", None);
            assert!(!text.contains("s3cret"), "{text}");
        }
        let text = parsed("", &format!("{line}mysql://u@h/d"))
            .unwrap()
            .origin
            .describe("batch", None);
        assert!(text.contains("\"mysql://u@h/d\""), "{text}");
        assert!(
            text.contains("topic-prefix = \"p\"  # flag")
                && text.contains("rate = \"2/s\"  # default"),
            "{text}"
        );
    }

    #[test]
    fn the_example_file_holds_every_key_with_its_default() {
        let text =
            fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/pinemu.toml")).unwrap();
        let values: toml::Table = text
            .lines()
            .filter_map(|line| {
                line.strip_prefix("# ")
                    .filter(|line| line.contains(" = ") && !line.starts_with(' '))
            })
            .collect::<Vec<_>>()
            .join("\n")
            .parse()
            .unwrap();
        let root = Cli::command();
        for command in LAYERED {
            for arg in root.find_subcommand(command).unwrap().get_arguments() {
                let Some(long) = arg.get_long().filter(|long| !LINE_ONLY.contains(long)) else {
                    continue;
                };
                let value = words(
                    values
                        .get(long)
                        .unwrap_or_else(|| panic!("{long} is missing")),
                )
                .unwrap();
                if let [default] = arg.get_default_values() {
                    assert_eq!(value, [default.to_str().unwrap()], "{long}");
                }
            }
        }
    }
}
