//! What a check found, one row for each thing that was looked at, as a table and as JSON.

use std::{
    fmt::Write,
    io::{self, IsTerminal},
};

use serde::Serialize;

use crate::{
    failure::{Exit, Failure},
    progress::When,
    telemetry::{Format, is_coloured, print_result},
};

/// How a thing was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Ok,
    /// Worth a look, or not to be told; a run may go well.
    Warning,
    /// Not looked at because of what was found before; a warning to who counts three.
    Untried,
    /// A run would end with this status.
    Failed(Exit),
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning | Self::Untried => "warning",
            Self::Failed(_) => "failed",
        }
    }

    /// The colour of its word: green, yellow, red.
    fn ansi(self) -> &'static str {
        match self {
            Self::Ok => "\u{1b}[32m",
            Self::Warning | Self::Untried => "\u{1b}[33m",
            Self::Failed(_) => "\u{1b}[31m",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// Never changes, so that programs can look for it.
    pub(super) name: String,
    pub(super) outcome: Outcome,
    pub(super) what: String,
    pub(super) cure: Option<String>,
}

impl Row {
    pub(super) fn ok(name: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(name, Outcome::Ok, what, None)
    }

    pub(super) fn warning(
        name: impl Into<String>,
        what: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Self::new(name, Outcome::Warning, what, Some(cure.into()))
    }

    pub(super) fn failed(
        name: impl Into<String>,
        exit: Exit,
        what: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Self::new(name, Outcome::Failed(exit), what, Some(cure.into()))
    }

    /// Not looked at because of what was found before, which is no failure of its own.
    pub(super) fn untried(name: impl Into<String>, because: &str) -> Self {
        let what = format!("not tried: {because}");
        Self::new(name, Outcome::Untried, what, None)
    }

    /// What would end a run. Its sentence says what failed and, behind a semicolon, what to do.
    pub(super) fn of(name: impl Into<String>, failure: &Failure) -> Self {
        Self::of_sentence(name, Outcome::Failed(failure.exit), &failure.to_string())
    }

    pub(super) fn of_sentence(name: impl Into<String>, outcome: Outcome, sentence: &str) -> Self {
        match sentence.split_once("; ") {
            Some((what, cure)) => Self::new(name, outcome, what, Some(cure.to_owned())),
            None => Self::new(name, outcome, sentence, None),
        }
    }

    fn new(
        name: impl Into<String>,
        outcome: Outcome,
        what: impl Into<String>,
        cure: Option<String>,
    ) -> Self {
        Self {
            name: name.into(),
            outcome,
            what: one_line(&what.into()),
            cure: cure.map(|cure| one_line(&cure)),
        }
    }

    pub(super) fn is_failed(&self) -> bool {
        matches!(self.outcome, Outcome::Failed(_))
    }

    fn failure(&self) -> Option<Failure> {
        let Outcome::Failed(exit) = self.outcome else {
            return None;
        };
        let cure = self.cure.as_ref().map(|cure| format!("; {cure}"));
        let text = format!("{}: {}{}", self.name, self.what, cure.unwrap_or_default());
        Some(Failure::new(exit, text))
    }
}

/// What a server said may hold line breaks, and what a terminal takes for orders.
fn one_line(text: &str) -> String {
    let text: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// All rows, in the order in which a reader needs them.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) command: &'static str,
    /// The invoke URL without userinfo, where it is known.
    pub(super) target: Option<String>,
    pub(super) rows: Vec<Row>,
}

#[derive(Serialize)]
struct Document<'a> {
    command: &'static str,
    target: Option<&'a str>,
    checks: Vec<Check<'a>>,
    outcome: &'static str,
}

#[derive(Serialize)]
struct Check<'a> {
    name: &'a str,
    outcome: &'static str,
    what: &'a str,
    cure: Option<&'a str>,
}

/// Below this width the names of the rows leave no room for what stands behind them.
const NARROW: usize = 70;
/// Columns of the outcome and of the name, with the blanks behind them.
const MARGIN: usize = 9;
const NAME: usize = 21;

impl Findings {
    /// Prints them; the exit status is that of the worst row.
    pub(super) fn give(&self, format: Format, quiet: bool, color: When) -> Result<Exit, Failure> {
        let worst = self.failure();
        let text = match format {
            Format::Json => format!("{}\n", self.json()),
            Format::Text if quiet => String::new(),
            Format::Text => {
                let to_terminal = io::stdout().is_terminal();
                let width = terminal_size::terminal_size_of(io::stdout())
                    .filter(|_| to_terminal)
                    .map(|(width, _)| usize::from(width.0));
                self.text(width, is_coloured(color, to_terminal))
            }
        };
        match (print_result("the findings", &text), worst) {
            (Err(lost), worst) => Err(lost.after(worst.as_ref())),
            // The table has said it.
            (Ok(()), Some(worst)) if format == Format::Text && !quiet => Ok(worst.exit),
            (Ok(()), worst) => worst.map_or(Ok(Exit::Success), Err),
        }
    }

    fn failure(&self) -> Option<Failure> {
        self.rows
            .iter()
            .fold(None, |worst, row| Failure::graver(worst, row.failure()))
    }

    fn json(&self) -> String {
        let checks = self.rows.iter().map(|row| Check {
            name: &row.name,
            outcome: row.outcome.word(),
            what: &row.what,
            cure: row.cure.as_deref(),
        });
        let document = Document {
            command: self.command,
            target: self.target.as_deref(),
            checks: checks.collect(),
            outcome: self.outcome().word(),
        };
        // A struct of strings always has a JSON form.
        serde_json::to_string(&document).unwrap_or_default()
    }

    fn outcome(&self) -> Outcome {
        let rank = |outcome: &Outcome| match outcome {
            Outcome::Ok => 0,
            Outcome::Warning | Outcome::Untried => 1,
            Outcome::Failed(_) => 2,
        };
        let outcomes = self.rows.iter().map(|row| row.outcome);
        outcomes.max_by_key(rank).unwrap_or(Outcome::Ok)
    }

    /// `width`: none where nothing is to be broken, so that a search finds whole sentences.
    fn text(&self, width: Option<usize>, coloured: bool) -> String {
        let width = width.unwrap_or(usize::MAX);
        let mut text = String::new();
        for row in &self.rows {
            let (start, end) = if coloured {
                (row.outcome.ansi(), "\u{1b}[0m")
            } else {
                ("", "")
            };
            let word = row.outcome.word();
            // A string cannot refuse what is written to it.
            let _ = write!(text, "{start}{word}{end}{:1$}", "", MARGIN - word.len());
            let indent = if width < NARROW {
                let _ = write!(text, "{}\n  ", row.name);
                2
            } else {
                let _ = write!(text, "{:NAME$}", row.name);
                MARGIN + NAME
            };
            put_wrapped(&mut text, &row.what, indent, width);
            if let Some(cure) = &row.cure {
                let _ = write!(text, "{:indent$}→ ", "");
                put_wrapped(&mut text, cure, indent + 2, width);
            }
        }
        text.push('\n');
        put_wrapped(&mut text, &self.verdict(), 0, width);
        text
    }

    fn verdict(&self) -> String {
        let count = |is: fn(Outcome) -> bool, one: &str, many: &str| {
            let number = self.rows.iter().filter(|row| is(row.outcome)).count();
            match number {
                0 => None,
                1 => Some(format!("1 {one}")),
                number => Some(format!("{number} {many}")),
            }
        };
        let counts = [
            count(|it| it == Outcome::Ok, "ok", "ok"),
            count(|it| matches!(it, Outcome::Failed(_)), "failed", "failed"),
            count(|it| it == Outcome::Warning, "warning", "warnings"),
            count(|it| it == Outcome::Untried, "not tried", "not tried"),
        ];
        let counts: Vec<_> = counts.into_iter().flatten().collect();
        let end = match self.failure() {
            Some(failure) => format!("a run would not do, exit status {}", failure.exit as u8),
            None => "a run can start".to_owned(),
        };
        format!("{}: {end}.", counts.join(", "))
    }
}

/// Words up to the width, further lines indented; then a line break.
fn put_wrapped(text: &mut String, words: &str, indent: usize, width: usize) {
    let mut column = indent;
    for (i, word) in words.split(' ').enumerate() {
        let length = word.chars().count();
        if i > 0 && column + 1 + length > width {
            let _ = write!(text, "\n{:indent$}", "");
            column = indent;
        } else if i > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += length;
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Findings {
        Findings {
            command: "batch",
            target: Some("http://h:8082".to_owned()),
            rows: vec![
                Row::ok("configuration", "all is understood"),
                Row::failed(
                    "database login",
                    Exit::Refused,
                    "the database u@h:3306/d refused the login",
                    "check user and password,\nboth of them, and whether the account may come from this machine",
                ),
                Row::untried("posts", "there is no login"),
                Row::failed(
                    "pin topic",
                    Exit::Configuration,
                    "there is no topic \u{1b}[2Jp.pin",
                    "make it",
                ),
            ],
        }
    }

    #[test]
    fn every_line_fits_whatever_the_width() {
        for width in [24, 40, 69, 70, 80, 120] {
            let text = findings().text(Some(width), false);
            for line in text.lines() {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
            let words = |text: &str| {
                text.split_whitespace()
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            };
            assert_eq!(words(&text), words(&findings().text(None, false)));
        }
    }

    #[test]
    fn off_a_terminal_no_sentence_is_broken_and_nothing_coloured() {
        let expected = "\
ok       configuration        all is understood
failed   database login       the database u@h:3306/d refused the login
                              → check user and password, both of them, and whether the account may come from this machine
warning  posts                not tried: there is no login
failed   pin topic            there is no topic [2Jp.pin
                              → make it

1 ok, 2 failed, 1 not tried: a run would not do, exit status 78.
";
        assert_eq!(findings().text(None, false), expected);
        let coloured = findings().text(None, true);
        assert!(
            coloured.starts_with("\u{1b}[32mok\u{1b}[0m       configuration"),
            "{coloured}"
        );
    }

    #[test]
    fn the_document_holds_every_row_and_the_worst_outcome() {
        let document: serde_json::Value = serde_json::from_str(&findings().json()).unwrap();
        assert_eq!(document["outcome"], "failed");
        assert_eq!(document["target"], "http://h:8082");
        assert_eq!(
            document["checks"][2],
            serde_json::json!({
                "name": "posts", "outcome": "warning", "what": "not tried: there is no login", "cure": null
            })
        );
    }
}
