//! What the command line says is to be sent again.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    cli::ResendArgs,
    config::shell_quoted,
    failure::{Exit, Failure, OrExit},
    state,
};

/// Where the user says that records wait.
pub(super) enum Place {
    StateDir(PathBuf),
    /// Only read; `-` is standard input.
    File(PathBuf),
}

/// The forms that name a place.
const PLACES: &str =
    "batch --topic-prefix P, stream --stream-prefix P, a FILE, or - for standard input";

impl Place {
    pub(super) fn of(args: &ResendArgs) -> Result<Self, Failure> {
        let what = args
            .what
            .as_deref()
            .map(|what| what.to_str().unwrap_or_default());
        let name = match what {
            Some("batch") => args
                .topic_prefix
                .as_ref()
                .map(|prefix| format!("batch-{prefix}")),
            Some("stream") => args
                .stream_prefix
                .as_ref()
                .map(|prefix| format!("stream-{prefix}")),
            _ => None,
        };
        for (flag, is_given, of) in [
            ("topic-prefix", args.topic_prefix.is_some(), "batch"),
            ("stream-prefix", args.stream_prefix.is_some(), "stream"),
        ] {
            if is_given && what != Some(of) {
                let text = format!(
                    "--{flag} does nothing without {of}: pinemu resend {of} --{flag} PREFIX"
                );
                return Err(Failure::new(Exit::Usage, text));
            }
        }
        match (&args.what, &args.state_dir, name) {
            (Some(file), ..) if !matches!(what, Some("batch" | "stream")) => Self::file(file),
            (_, Some(dir), _) => Self::state_dir(dir.clone()),
            (_, None, Some(name)) => Self::state_dir(state::default_dir(&name)?),
            (_, None, None) => {
                let text = format!("say what to send again: {PLACES}");
                Err(Failure::new(Exit::Usage, text))
            }
        }
    }

    fn file(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        if path != "-" {
            let metadata = fs::metadata(path).or_exit(Exit::Configuration, || {
                format!("cannot read {shown}; what can be sent again is {PLACES}")
            })?;
            if metadata.is_dir() {
                let cure = shell_quoted(&path.to_string_lossy());
                let text = format!(
                    "{shown} is a directory; to send again what waits in it: pinemu resend --state-dir {cure}"
                );
                return Err(Failure::new(Exit::Configuration, text));
            }
        }
        Ok(Self::File(path.to_owned()))
    }

    fn state_dir(path: PathBuf) -> Result<Self, Failure> {
        if path.is_file() {
            let text = format!(
                "{} is a file and no state directory; to send again what is in it: pinemu resend {}",
                path.display(),
                shell_quoted(&path.to_string_lossy())
            );
            return Err(Failure::new(Exit::Configuration, text));
        }
        Ok(Self::StateDir(path))
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::StateDir(path) | Self::File(path) => path,
        }
    }
}
