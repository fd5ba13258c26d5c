//! How a run can end, as the number the shell sees and the one line a person reads.

use std::{fmt, process};

/// The exit statuses. Schedulers branch on them, so a number never changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All that was read is delivered (also after a signal).
    Success = 0,
    /// The run ended, but some records are set aside.
    SetAside = 1,
    /// The command line is wrong.
    Usage = 64,
    /// The database holds rows that cannot be posts.
    Data = 65,
    /// The database holds no rows to post.
    NoRows = 66,
    /// The database or the target cannot be reached.
    Unreachable = 69,
    /// A bug in pinemu.
    Bug = 70,
    /// A file cannot be written.
    CannotWrite = 74,
    /// Another run holds the lock, or another receiver the data directory.
    Locked = 75,
    /// The target refused the credentials (401, 403).
    Refused = 77,
    /// The configuration is wrong: an unknown key, a missing topic or stream.
    Configuration = 78,
}

impl Exit {
    /// Where several failures apply, the one with the highest rank is the run's.
    #[must_use]
    pub fn rank(self) -> u8 {
        match self {
            Self::Bug => 9,
            Self::CannotWrite => 8,
            Self::Configuration => 7,
            Self::Refused => 6,
            Self::Data => 5,
            Self::Unreachable => 4,
            Self::SetAside => 3,
            Self::Usage | Self::NoRows | Self::Locked => 2,
            Self::Success => 0,
        }
    }
}

impl From<Exit> for process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error with the exit status it leads to.
pub struct Failure {
    /// What the shell sees.
    pub exit: Exit,
    /// What failed, on what, and what to do; the causes behind it.
    pub error: anyhow::Error,
}

impl Failure {
    /// A failure that has no cause but itself.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self {
            exit,
            error: anyhow::anyhow!("{message}"),
        }
    }

    /// Of two failures the one that decides the exit status; the first of equals.
    pub(crate) fn graver(first: Option<Self>, second: Option<Self>) -> Option<Self> {
        match (first, second) {
            (Some(first), Some(second)) if second.exit.rank() > first.exit.rank() => Some(second),
            (first, second) => first.or(second),
        }
    }

    /// Tells of this failure and of the one before it; the graver one decides the exit status.
    pub(crate) fn after(self, first: Option<&Self>) -> Self {
        let Some(first) = first else { return self };
        let graver = self.exit.rank() > first.exit.rank();
        Self {
            exit: if graver { self.exit } else { first.exit },
            error: self.error.context(format!("{first}; and then")),
        }
    }
}

/// One line: what failed, then the chain of its causes.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:#}", self.error);
        // A server's or a library's message may hold line breaks; the promise is one line.
        f.write_str(&text.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({}): {self}", self.exit, self.exit as u8)
    }
}

/// Gives an error the sentence that a user needs and the exit status that a scheduler needs.
pub(crate) trait OrExit<T> {
    /// `message` says what failed, on what, and where it helps, what to do.
    fn or_exit<M: fmt::Display>(
        self,
        exit: Exit,
        message: impl FnOnce() -> M,
    ) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> OrExit<T> for Result<T, E> {
    fn or_exit<M: fmt::Display>(
        self,
        exit: Exit,
        message: impl FnOnce() -> M,
    ) -> Result<T, Failure> {
        self.map_err(|error| Failure {
            exit,
            error: error.into().context(message().to_string()),
        })
    }
}
