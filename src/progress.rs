//! The bar on standard error. The object always exists and hides itself, so nobody who reports progress asks where it
//! goes.

use std::{
    fmt::Write,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle, TermLike};

/// How often the bar is drawn again at the most.
const REFRESH: Duration = Duration::from_millis(100);

/// The bar that is on the screen, for those who write above it.
static ON_SCREEN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// When to colour, when to draw a progress bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// On a terminal
    Auto,
    Always,
    Never,
}

/// A bar that counts posts.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// `total`: posts expected, where that is known.
    pub(crate) fn new(when: When, total: Option<u64>) -> Self {
        let target = match when {
            When::Never => ProgressDrawTarget::hidden(),
            // Hides itself without a terminal.
            When::Auto => ProgressDrawTarget::stderr(),
            When::Always => ProgressDrawTarget::term_like(Box::new(Anywhere)),
        };
        let bar = ProgressBar::with_draw_target(total, target);
        let template = match total {
            Some(_) => "{bar:20} {human_pos}/{human_len} posts  {rate}  {wide_msg}",
            None => "{spinner} {human_pos} posts  {rate}  {wide_msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(
                style.with_key("rate", |state: &ProgressState, out: &mut dyn Write| {
                    // A bar that cannot be drawn is no reason to stop.
                    let _ = write!(out, "{:.1}/s", state.per_sec());
                }),
            );
        }
        // Seen even if the run is over before the first tick.
        bar.tick();
        bar.enable_steady_tick(REFRESH);
        *on_screen() = Some(bar.clone());
        Self { bar }
    }

    pub(crate) fn advance(&self, posts: u64) {
        self.bar.inc(posts);
    }

    /// What stands behind the numbers.
    pub(crate) fn say(&self, message: impl FnOnce() -> String) {
        if !self.bar.is_hidden() {
            self.bar.set_message(message());
        }
    }
}

/// Takes the bar off the screen, however the run ended.
impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        *on_screen() = None;
    }
}

fn on_screen() -> std::sync::MutexGuard<'static, Option<ProgressBar>> {
    ON_SCREEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes to standard error while the bar is out of the way.
pub(crate) fn above<T>(write: impl FnOnce() -> T) -> T {
    let bar = on_screen().clone();
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Standard error where it is no terminal: `--progress always` into a log or through a pipe.
#[derive(Debug)]
struct Anywhere;

impl TermLike for Anywhere {
    fn width(&self) -> u16 {
        80
    }

    fn move_cursor_up(&self, n: usize) -> std::io::Result<()> {
        self.write_str(&format!("\x1b[{n}A"))
    }

    fn move_cursor_down(&self, n: usize) -> std::io::Result<()> {
        self.write_str(&format!("\x1b[{n}B"))
    }

    fn move_cursor_right(&self, n: usize) -> std::io::Result<()> {
        self.write_str(&format!("\x1b[{n}C"))
    }

    fn move_cursor_left(&self, n: usize) -> std::io::Result<()> {
        self.write_str(&format!("\x1b[{n}D"))
    }

    fn write_line(&self, line: &str) -> std::io::Result<()> {
        self.write_str(line)?;
        self.write_str("\n")
    }

    fn write_str(&self, text: &str) -> std::io::Result<()> {
        std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes())
    }

    fn clear_line(&self) -> std::io::Result<()> {
        self.write_str("\r\x1b[2K")
    }

    fn flush(&self) -> std::io::Result<()> {
        std::io::Write::flush(&mut std::io::stderr())
    }
}
