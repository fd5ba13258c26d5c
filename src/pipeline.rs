//! The one loop over batches: takes posts when they are due, collects them into batches, hands those to delivery, and
//! enters what is settled into the books, in source order.

#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::FutureExt;
use hdrhistogram::Histogram;
use tokio::{
    task::{JoinError, JoinHandle},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    delivery::{Delivery, Outcome},
    digest::Digest,
    failure::{Exit, Failure},
    pace::Schedule,
    post::{Kind, PerKind, Post},
    progress::Progress,
    sink::{Failed, Fate, Sink},
    source::Posts,
    state::{
        ledger::Ledger,
        undelivered::{self, Undelivered},
    },
    summary::{Books, grouped, histogram},
};

/// Records that may be unsettled at a time, in bytes, so that all requests that go by themselves have some to carry. Bounds
/// the memory of a run; what is in the processor's cache is sent faster.
const WINDOW_BYTES: usize = 3 * 1024 * 1024;
/// The same where the user asks for more requests than that feeds.
const LARGEST_WINDOW_BYTES: usize = 16 * 1024 * 1024;
/// Batches that may be unsettled at a time. Where a batch is a single post, bytes alone would let too many wait.
const WINDOW_BATCHES: usize = 1024;

/// How a run goes.
#[derive(Debug)]
pub(crate) struct Options {
    /// Posts to take at the most.
    pub(crate) count: Option<u64>,
    /// The run takes no post that is due later, and after it sends none for the first time.
    pub(crate) duration: Option<Duration>,
    pub(crate) batch: BatchLimits,
    /// Requests on the wire at a time that the user asks for; 1: each batch waits for the one before.
    pub(crate) in_flight: Option<u16>,
    /// The run ends once so many posts have been set aside.
    pub(crate) max_undelivered: Option<u64>,
    /// How long what is on the wire may settle once the run is told to stop.
    pub(crate) grace: Duration,
    /// Digest what leaves the pacer.
    pub(crate) digest: bool,
}

/// When a batch is full.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchLimits {
    pub(crate) posts: usize,
    /// Of the body of one request, for each kind.
    pub(crate) bytes: usize,
    /// How long its first post waits for company.
    pub(crate) linger: Duration,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) books: Books,
    /// Posts that left the pacer and were not settled.
    pub(crate) returned: u64,
    /// Entering the batch minus due, in microseconds; none if nothing was due at a time.
    pub(crate) lateness: Option<Histogram<u64>>,
    pub(crate) elapsed: Duration,
    /// The source has no more posts.
    pub(crate) exhausted: bool,
    /// Told to stop before its end.
    pub(crate) stopped: bool,
    pub(crate) failure: Option<Failure>,
    /// Of the posts that left the pacer, if it was asked for.
    pub(crate) digest: Option<Digest>,
}

impl Ended {
    /// Of a run that was told to stop while it was still getting ready.
    pub(crate) fn before_the_first_post() -> Self {
        Self {
            books: Books::default(),
            returned: 0,
            lateness: None,
            elapsed: Duration::ZERO,
            exhausted: false,
            stopped: true,
            failure: None,
            digest: None,
        }
    }
}

/// Runs until the posts end, `options` say so, `stop` is cancelled or a failure ends it.
pub(crate) async fn run(
    posts: &mut Posts,
    schedule: Schedule,
    options: &Options,
    delivery: &Arc<Delivery>,
    ledger: &mut Ledger,
    stop: &CancellationToken,
    progress: &Progress,
) -> Ended {
    let mut run = Run {
        start: Instant::now(),
        options,
        delivery,
        ledger,
        progress,
        schedule,
        waiting: VecDeque::new(),
        due: None,
        source_open: true,
        taken: 0,
        batch: Batch::new(options.batch),
        window: Window::new(options.in_flight),
        books: Books::default(),
        returned: 0,
        broken: false,
        lateness: histogram(),
        failure: None,
        digest: options.digest.then(Digest::default),
    };
    let stopped = run.until_told(posts, stop).await;
    let stopped = stopped || run.failure.is_some();
    if stopped {
        delivery.drain();
        run.settle_within(options.grace).await;
    }
    Ended {
        books: run.books,
        returned: run.returned + run.batch.posts.len() as u64,
        lateness: run.schedule.is_paced().then_some(run.lateness),
        elapsed: run.start.elapsed(),
        exhausted: !run.source_open && run.waiting.is_empty(),
        stopped,
        failure: run.failure,
        digest: run.digest,
    }
}

struct Run<'a> {
    start: Instant,
    options: &'a Options,
    delivery: &'a Arc<Delivery>,
    ledger: &'a mut Ledger,
    progress: &'a Progress,
    schedule: Schedule,
    /// Posts that are not yet due or have no room yet.
    waiting: VecDeque<Post>,
    /// When the first of them is due, once that has been asked: the schedule tells each time once.
    due: Option<Due>,
    /// More posts may come.
    source_open: bool,
    taken: u64,
    batch: Batch,
    window: Window,
    books: Books,
    returned: u64,
    /// A post before this one was not settled: the books are closed, so that the cursor stays before it.
    broken: bool,
    lateness: Histogram<u64>,
    failure: Option<Failure>,
    digest: Option<Digest>,
}

/// When a post is due, from the start of the run; none: at once.
type Due = Option<Duration>;

/// Why no post can be taken just now.
enum Blocked {
    /// Nothing more will be taken.
    End,
    /// Until this time.
    NotDue(Duration),
    /// Until more have been read.
    NoPost,
    /// Until the batch is on its way.
    BatchFull,
}

impl Run<'_> {
    /// Goes on until all is settled (false) or the run is told to stop or has failed (true).
    async fn until_told(&mut self, posts: &mut Posts, stop: &CancellationToken) -> bool {
        loop {
            // Before the posts are looked at: an end that comes meanwhile is then still ahead, and wakes us.
            let looked_at = self.start.elapsed();
            let blocked = self.take();
            let ended = matches!(blocked, Blocked::End);
            let full = matches!(blocked, Blocked::BatchFull);
            let now = self.start.elapsed();
            if self.window.is_open() && self.batch.is_ready(now, full || ended) {
                self.send();
                continue;
            }
            if ended && self.window.is_empty() && self.batch.posts.is_empty() {
                return false;
            }
            if self.is_over(looked_at) {
                self.delivery.close();
                return self.settle_until_told(stop).await;
            }
            let wake = self.wake_at(&blocked, looked_at);
            let wants_posts = matches!(blocked, Blocked::NoPost);
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    self.send_the_last();
                    return true;
                }
                // Closing the ledger says why.
                () = self.ledger.failed().cancelled() => return true,
                settled = self.window.next() => {
                    self.commit(settled).await;
                    if self.failure.is_some() {
                        return true;
                    }
                }
                chunk = posts.next(), if wants_posts => match chunk {
                    None => self.source_open = false,
                    // Wanted only where none waits.
                    Some(Ok(chunk)) => self.waiting = chunk.into(),
                    Some(Err(failure)) => {
                        self.failure = Some(failure);
                        return true;
                    }
                },
                () = sleep_until_some(wake.map(|wake| self.start + wake)) => {}
            }
        }
    }

    fn send(&mut self) {
        let batch = self.batch.take();
        self.window.start(batch, self.delivery);
    }

    /// What waits for company when the run is told to stop goes, where the target is known to answer and has time to.
    fn send_the_last(&mut self) {
        let may_settle = !self.window.is_new() && !self.options.grace.is_zero();
        if may_settle && self.window.is_open() && !self.batch.posts.is_empty() {
            self.send();
        }
    }

    /// Whether the time of the run is over then.
    fn is_over(&self, at: Duration) -> bool {
        self.options.duration.is_some_and(|duration| at >= duration)
    }

    /// Takes and sends nothing more, and goes on as `until_told` does.
    async fn settle_until_told(&mut self, stop: &CancellationToken) -> bool {
        while !self.window.is_empty() && self.failure.is_none() {
            tokio::select! {
                biased;
                () = stop.cancelled() => return true,
                () = self.ledger.failed().cancelled() => return true,
                settled = self.window.next() => self.commit(settled).await,
            }
        }
        self.failure.is_some()
    }

    /// Moves the posts that are due into the batch, as many as it holds, and says why it stopped.
    fn take(&mut self) -> Blocked {
        loop {
            let now = self.start.elapsed();
            let over = self.is_over(now);
            if over && !self.schedule.is_paced()
                || self.options.count.is_some_and(|count| self.taken >= count)
            {
                return Blocked::End;
            }
            let Some(post) = self.waiting.front() else {
                // A source that is late does not make a run longer.
                return if self.source_open && !over {
                    Blocked::NoPost
                } else {
                    Blocked::End
                };
            };
            let due = *self
                .due
                .get_or_insert_with(|| self.schedule.next_due(post.cursor.recorded()));
            if due
                .zip(self.options.duration)
                .is_some_and(|(due, duration)| due > duration)
            {
                return Blocked::End;
            }
            if let Some(due) = due
                && due > now
            {
                return Blocked::NotDue(due);
            }
            let sizes = sizes(self.delivery.sink(), post);
            let alone =
                self.window.is_new() && !(self.batch.posts.is_empty() && self.window.is_empty());
            if alone || !self.batch.has_room(&sizes) {
                return Blocked::BatchFull;
            }
            if let Some(due) = due {
                self.lateness.saturating_record(
                    u64::try_from(now.saturating_sub(due).as_micros()).unwrap_or(u64::MAX),
                );
            }
            if let Some(post) = self.waiting.pop_front() {
                if let Some(digest) = &mut self.digest {
                    digest.add(&post, due);
                }
                self.batch.push(post, &sizes, now);
            }
            self.due = None;
            self.taken += 1;
        }
    }

    /// When to look again although nothing has happened, from the start of the run.
    fn wake_at(&self, blocked: &Blocked, looked_at: Duration) -> Option<Duration> {
        let due = match blocked {
            Blocked::NotDue(due) => Some(*due),
            _ => None,
        };
        let linger = self.batch.leaves_at().filter(|_| self.window.is_open());
        // Only the clock ends a run that waits for the target or for the source.
        let end = self
            .options
            .duration
            .filter(|duration| *duration > looked_at);
        [due, linger, end].into_iter().flatten().min()
    }

    /// Enters what is settled into the books; from the first post on that is not, everything is returned.
    async fn commit(&mut self, Settled { outcome, posts }: Settled) {
        let Outcome {
            posts: batch,
            mut failed,
            failure,
        } = outcome.unwrap_or_else(|error| {
            let text = format!("a delivery ended by itself: {error}; please report this");
            let failure = Some(Failure::new(Exit::Bug, text));
            Outcome {
                posts: Vec::new(),
                failed: Vec::new(),
                failure,
            }
        });
        let is_unanswered = |failed: &Failed| !matches!(failed.fate, Fate::Rejected(_));
        self.window.new &= failed.iter().any(is_unanswered);
        self.fail(failure);
        let open = failed
            .iter()
            .filter(|failed| failed.fate == Fate::Open)
            .map(|failed| failed.post)
            .min();
        let mut settled = if self.broken {
            0
        } else {
            open.unwrap_or(batch.len())
        };
        failed.retain(|failed| failed.post < settled);
        let records = failed
            .iter()
            .filter_map(|failed| self.undelivered(&batch, failed))
            .collect();
        if let Err(failure) = self.ledger.set_aside(records).await {
            // What could not be written down must be read again.
            settled = failed
                .iter()
                .map(|failed| failed.post)
                .min()
                .unwrap_or(settled);
            failed.clear();
            self.fail(Some(failure));
        }
        self.broken |= (settled as u64) < posts;
        self.returned += posts - settled as u64;
        let settled = &batch[..settled];
        if let Some(first) = failed.first() {
            self.warn_once(&settled[first.post], first);
        }
        self.books.enter(settled, &failed);
        if let Some(last) = settled.last() {
            self.ledger.pass(last.cursor, settled.len() as u64);
        }
        if let Some(most) = self.options.max_undelivered
            && self.books.undelivered() >= most
            && !failed.is_empty()
        {
            // What is on the wire may add to them.
            let text = format!(
                "set aside {} posts or more, at which --max-undelivered ends a run; undelivered.jsonl has the reasons",
                grouped(most)
            );
            self.fail(Some(Failure::new(Exit::SetAside, text)));
        }
        self.progress.advance(settled.len() as u64);
        let (delivered, under_way) = (self.books.posts.delivered, self.window.posts());
        self.progress.say(|| {
            let retries = self.delivery.retries();
            format!("{delivered} delivered  {under_way} in flight  {retries} retries")
        });
    }

    /// A record that was not delivered, as it is written down.
    fn undelivered(&self, batch: &[Post], failed: &Failed) -> Option<Undelivered> {
        let post = &batch[failed.post];
        let (outcome, reason) = match &failed.fate {
            Fate::Rejected(reason) => (undelivered::Outcome::Rejected, reason),
            Fate::Unproven(reason) => (undelivered::Outcome::Unproven, reason),
            Fate::Open => return None,
        };
        let sink = self.delivery.sink();
        Some(Undelivered {
            kind: failed.kind,
            index: post.key,
            target: self.delivery.base().to_owned(),
            path: sink.path(failed.kind).to_owned(),
            key: sink.key(failed.kind, post.key),
            outcome,
            status: reason.status,
            reason: reason.text.to_string(),
            attempts: failed.attempts.into(),
            at: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            record: post.records[failed.kind].clone()?,
        })
    }

    fn fail(&mut self, failure: Option<Failure>) {
        self.failure = Failure::graver(self.failure.take(), failure);
    }

    /// The first record that is set aside is told with its reason; the summary counts the others.
    fn warn_once(&self, post: &Post, failed: &Failed) {
        let (what, reason) = match &failed.fate {
            Fate::Rejected(reason) => ("rejected", reason),
            Fate::Unproven(reason) => ("unproven", reason),
            Fate::Open => return,
        };
        if self.books.undelivered() == 0 {
            warn!(key = %post.key, kind = %failed.kind, %reason, "A record is {what} and set aside; further ones are only counted.");
        }
    }

    /// Lets what is on the wire settle, but not for ever.
    async fn settle_within(&mut self, grace: Duration) {
        let end = Instant::now() + grace;
        while !self.window.is_empty() {
            tokio::select! {
                // What has settled counts, however short the grace is.
                biased;
                settled = self.window.next() => self.commit(settled).await,
                () = sleep_until(end) => break,
            }
        }
        self.returned += self.window.posts();
    }
}

async fn sleep_until_some(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Posts that will travel together.
pub(crate) struct Batch {
    limits: BatchLimits,
    posts: Vec<Post>,
    /// What each kind's request would hold.
    sizes: PerKind<usize>,
    /// When its first post came, from the start of the run.
    since: Duration,
}

impl Batch {
    pub(crate) fn new(limits: BatchLimits) -> Self {
        Self {
            limits,
            posts: Vec::new(),
            sizes: PerKind::default(),
            since: Duration::ZERO,
        }
    }

    /// A post that is larger than the limit travels alone.
    pub(crate) fn has_room(&self, sizes: &PerKind<usize>) -> bool {
        self.posts.is_empty()
            || (self.posts.len() < self.limits.posts
                && sizes
                    .iter()
                    .all(|(kind, size)| self.sizes[kind] + size <= self.limits.bytes))
    }

    pub(crate) fn push(&mut self, post: Post, sizes: &PerKind<usize>, now: Duration) {
        if self.posts.is_empty() {
            self.since = now;
        }
        for (kind, size) in sizes.iter() {
            self.sizes[kind] += size;
        }
        self.posts.push(post);
    }

    /// When it goes although it is not full; never while it is empty.
    fn leaves_at(&self) -> Option<Duration> {
        (!self.posts.is_empty()).then(|| self.since + self.limits.linger)
    }

    fn is_ready(&self, now: Duration, at_once: bool) -> bool {
        self.leaves_at()
            .is_some_and(|leaves| at_once || self.posts.len() >= self.limits.posts || now >= leaves)
    }

    /// What was in it, and how many bytes its records are.
    pub(crate) fn take(&mut self) -> (Vec<Post>, usize) {
        let bytes = self.sizes.iter().map(|(_, size)| size).sum();
        self.sizes = PerKind::default();
        // The next one is likely to be as long.
        let next = Vec::with_capacity(self.posts.len());
        (std::mem::replace(&mut self.posts, next), bytes)
    }
}

/// What each kind's request grows by with this post.
pub(crate) fn sizes(sink: &Sink, post: &Post) -> PerKind<usize> {
    PerKind::new(|kind| {
        let record = post.records[kind].as_ref();
        record.map_or(0, |record| sink.size(post.key, record))
    })
}

/// The batches that are under way, in source order.
struct Window {
    deliveries: VecDeque<UnderWay>,
    bytes: usize,
    most_batches: usize,
    /// That keep as many requests busy as the user asks for, one for each kind of record.
    wanted_batches: usize,
    /// The target has not answered yet for all records of a batch: posts go one at a time, so that one that is not there, or
    /// a topic of it that hangs, holds no more of them.
    new: bool,
}

struct UnderWay {
    delivery: JoinHandle<Outcome>,
    posts: u64,
    bytes: usize,
}

/// A batch that is under way no more. An error is a panic.
struct Settled {
    outcome: Result<Outcome, JoinError>,
    posts: u64,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.delivery.abort();
    }
}

impl Window {
    fn new(in_flight: Option<u16>) -> Self {
        let requests = in_flight.map_or(0, usize::from);
        Self {
            deliveries: VecDeque::new(),
            bytes: 0,
            most_batches: if in_flight == Some(1) {
                1
            } else {
                WINDOW_BATCHES
            },
            wanted_batches: requests.div_ceil(Kind::ALL.len()),
            new: true,
        }
    }

    fn is_empty(&self) -> bool {
        self.deliveries.is_empty()
    }

    fn is_new(&self) -> bool {
        self.new
    }

    fn posts(&self) -> u64 {
        self.deliveries.iter().map(|delivery| delivery.posts).sum()
    }

    fn is_open(&self) -> bool {
        let most = if self.new { 1 } else { self.most_batches };
        let most_bytes = if self.deliveries.len() < self.wanted_batches {
            LARGEST_WINDOW_BYTES
        } else {
            WINDOW_BYTES
        };
        self.deliveries.len() < most && self.bytes < most_bytes
    }

    fn start(&mut self, (posts, bytes): (Vec<Post>, usize), delivery: &Arc<Delivery>) {
        let (delivery, count) = (Arc::clone(delivery), posts.len() as u64);
        self.bytes += bytes;
        let mut delivery = Box::pin(async move { delivery.deliver(posts).await });
        // Its first step puts it in the queue for the wire, behind the batches before it: left to the threads of the
        // runtime some would overtake others, and be sent again after a crash.
        let first_step = delivery.as_mut().now_or_never();
        let delivery = tokio::spawn(async move {
            match first_step {
                Some(outcome) => outcome,
                None => delivery.await,
            }
        });
        self.deliveries.push_back(UnderWay {
            delivery,
            posts: count,
            bytes,
        });
    }

    /// The outcome of the oldest batch. Waits for ever if there is none. Safe to cancel.
    async fn next(&mut self) -> Settled {
        let Some(oldest) = self.deliveries.front_mut() else {
            return std::future::pending().await;
        };
        let settled = Settled {
            outcome: (&mut oldest.delivery).await,
            posts: oldest.posts,
        };
        self.bytes -= oldest.bytes;
        self.deliveries.pop_front();
        settled
    }
}
