//! The one loop over attempts: a batch until the fate of every record is settled.

mod gate;
#[cfg(test)]
pub(crate) mod target;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hdrhistogram::Histogram;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::gate::Gate;
use crate::{
    failure::{Exit, Failure},
    http::Http,
    limiter::{Ended, InFlight},
    post::{Kind, PerKind, Post},
    retry::Backoff,
    sink::{Entry, Failed, Fate, Reason, Sink, Verdict},
};

/// How long a run waits to hear whether its topics or streams are there.
const PATIENCE_BEFORE_START: Duration = Duration::from_secs(5);
/// The longest that a `Retry-After` is obeyed.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(1);
/// How long a refusal of everything is doubted where records have been acknowledged before: gateways are redeployed.
const DOUBT: Duration = Duration::from_secs(30);
/// Trouble of the same target is told again after this time.
const TELL_AGAIN: Duration = Duration::from_secs(30);

/// How a delivery tries.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) in_flight: InFlight,
    /// How long a record is tried.
    pub(crate) retry_for: Duration,
}

/// How a batch ended. Records that are not listed are delivered.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) posts: Vec<Post>,
    /// Those of one post stand together, in the order of the posts.
    pub(crate) failed: Vec<Failed>,
    /// What ends the run.
    pub(crate) failure: Option<Failure>,
}

/// Numbers of all attempts so far.
#[derive(Debug, Clone)]
pub(crate) struct Attempts {
    pub(crate) requests: u64,
    /// Requests with records that had been sent before.
    pub(crate) retries: u64,
    /// Requests of which some record was refused because it was too much.
    pub(crate) throttled: u64,
    /// Bodies of all requests.
    pub(crate) bytes_sent: u64,
    /// From sending to the last byte of the answer, in microseconds; attempts without an answer are left out.
    pub(crate) latency: Histogram<u64>,
}

/// Delivers batches to one target; shared by all that are under way.
#[derive(Debug)]
pub(crate) struct Delivery {
    sink: Sink,
    http: Http,
    options: Options,
    gate: Gate,
    /// No batch starts once this is cancelled; one that has started is sent to its end, since records of it may have landed.
    close: CancellationToken,
    /// Nothing is tried again once this is cancelled, which cancels the one above too.
    drain: CancellationToken,
    /// No attempt starts once this is cancelled.
    halt: CancellationToken,
    attempts: Mutex<Attempts>,
    health: Mutex<Health>,
}

/// What is known of the target as a whole.
#[derive(Debug, Default)]
struct Health {
    /// When it last acknowledged or rejected a record of each kind.
    last_answer: PerKind<Option<Instant>>,
    /// Since when it is asked and settles nothing. Of the target, not of a record: while one request at a time probes, it
    /// can be long until the same record is sent again.
    silent_since: Option<Instant>,
    /// Since when each answer for a kind refuses everything.
    refused_since: PerKind<Option<Instant>>,
    trouble_told: Option<Instant>,
    /// Topics or streams that the target said it does not have.
    missing: PerKind<bool>,
}

/// What came of the records of one kind.
type Settled = (Vec<Failed>, Option<Failure>);

impl Delivery {
    pub(crate) fn new(sink: Sink, http: Http, options: Options) -> Self {
        let attempts = Attempts {
            requests: 0,
            retries: 0,
            throttled: 0,
            bytes_sent: 0,
            latency: crate::summary::histogram(),
        };
        let drain = CancellationToken::new();
        Self {
            sink,
            http,
            gate: Gate::new(options.in_flight),
            options,
            close: drain.child_token(),
            drain,
            halt: CancellationToken::new(),
            attempts: Mutex::new(attempts),
            health: Mutex::default(),
        }
    }

    pub(crate) fn sink(&self) -> &Sink {
        &self.sink
    }

    /// Starts no batch from now on; what has started goes on.
    pub(crate) fn close(&self) {
        self.close.cancel();
    }

    /// Starts no batch and tries nothing again from now on; what is on the wire goes on.
    pub(crate) fn drain(&self) {
        self.drain.cancel();
    }

    /// The address of the target, without userinfo.
    pub(crate) fn base(&self) -> &str {
        self.http.base()
    }

    pub(crate) fn attempts(&self) -> Attempts {
        lock(&self.attempts).clone()
    }

    pub(crate) fn retries(&self) -> u64 {
        lock(&self.attempts).retries
    }

    /// Asks for the three topics or streams and warns of those that the target says it does not have. Any other answer
    /// proves nothing and is no reason to wait.
    pub(crate) async fn look_for_targets(&self) {
        let [pin, geo, user] = Kind::ALL.map(|kind| async move {
            let request = self.sink.existence(kind);
            match timeout(PATIENCE_BEFORE_START, self.http.send(&request)).await {
                Ok(Ok(answer)) => self.sink.is_missing(&answer),
                _ => false,
            }
        });
        let missing = PerKind::from(<[bool; 3]>::from(tokio::join!(pin, geo, user)));
        for (kind, missing) in missing.iter() {
            if *missing {
                warn!(
                    "{} says that it has no {} {}; trying all the same.",
                    self.http.base(),
                    self.sink.noun(),
                    self.sink.target(kind)
                );
            }
        }
        lock(&self.health).missing = missing;
    }

    /// Sends the records of all posts until each is settled. The kinds travel side by side.
    pub(crate) async fn deliver(&self, posts: Vec<Post>) -> Outcome {
        let begun = AtomicBool::new(false);
        let [pin, geo, user] = Kind::ALL.map(|kind| self.deliver_kind(kind, &posts, &begun));
        let (pin, geo, user) = tokio::join!(pin, geo, user);
        let mut failed = Vec::new();
        let mut failure: Option<Failure> = None;
        for (settled, stop) in [pin, geo, user] {
            failed.extend(settled);
            failure = Failure::graver(failure, stop);
        }
        failed.sort_unstable_by_key(|failed| (failed.post, failed.kind as usize));
        Outcome {
            posts,
            failed,
            failure,
        }
    }

    /// `begun`: whether a request of the batch has been sent.
    async fn deliver_kind(&self, kind: Kind, posts: &[Post], begun: &AtomicBool) -> Settled {
        let all: Vec<usize> = (0..posts.len())
            .filter(|post| posts[*post].records[kind].is_some())
            .collect();
        let limit = self
            .sink
            .request_limit()
            .unwrap_or(usize::MAX)
            .min(all.len().max(1));
        let mut parcels: Vec<Parcel> = all
            .chunks(limit)
            .rev()
            .map(|posts| Parcel::new(posts.to_vec()))
            .collect();
        let mut settled = Vec::new();
        while let Some(parcel) = parcels.pop() {
            let Some(attempt) = self.attempt(kind, posts, &parcel, begun).await else {
                parcels.push(parcel);
                break;
            };
            match self.judge(kind, parcel, attempt, &mut parcels, &mut settled) {
                Ok(Duration::ZERO) => {}
                Ok(pause) => {
                    tokio::select! {
                        () = sleep(pause) => {}
                        () = self.drain.cancelled() => break,
                    }
                }
                Err(failure) => {
                    // The same answer awaits all others: nobody needs to hear it for himself.
                    self.drain.cancel();
                    self.halt.cancel();
                    settled.extend(open(kind, &parcels));
                    return (settled, Some(failure));
                }
            }
        }
        settled.extend(open(kind, &parcels));
        (settled, None)
    }

    /// One request and what its answer means. None: the run is ending and nothing was sent.
    async fn attempt(
        &self,
        kind: Kind,
        posts: &[Post],
        parcel: &Parcel,
        begun: &AtomicBool,
    ) -> Option<Attempt> {
        let again = parcel.attempts > 0;
        let ending = async {
            if again {
                return self.drain.cancelled().await;
            }
            self.close.cancelled().await;
            if begun.load(Ordering::Relaxed) {
                self.halt.cancelled().await;
            }
        };
        let pass = tokio::select! {
            biased;
            () = ending => return None,
            pass = self.gate.enter(again) => pass,
        };
        begun.store(true, Ordering::Relaxed);
        // Made only now, so that what waits does not hold its records twice.
        let request = {
            let entry = |post: &usize| Entry::of(&posts[*post], kind);
            let entries: Vec<Entry<'_>> = parcel.posts.iter().filter_map(entry).collect();
            self.sink.request(kind, &entries)
        };
        let started = pass.sent;
        {
            // Now, not once it is answered: the end of a run may cut it short.
            let mut attempts = lock(&self.attempts);
            attempts.requests += 1;
            attempts.retries += u64::from(again);
            attempts.bytes_sent += request.body.len() as u64;
        }
        let answer = self.http.send(&request).await;
        let took = started.elapsed();
        let (verdicts, retry_after) = match &answer {
            Ok(answer) => (
                self.sink.verdicts(parcel.posts.len(), answer),
                answer.retry_after,
            ),
            Err(no_answer) => {
                let reason = Reason {
                    status: None,
                    text: no_answer.to_string().into(),
                };
                let verdict = match no_answer.lasting {
                    Some(exit) if !self.has_settled() => Verdict::Stop(exit, reason),
                    _ => Verdict::Retry(reason),
                };
                (vec![verdict; parcel.posts.len()], None)
            }
        };
        pass.end(how_it_ended(answer.is_ok(), &verdicts));
        let mut attempts = lock(&self.attempts);
        attempts.throttled += u64::from(
            verdicts
                .iter()
                .any(|verdict| matches!(verdict, Verdict::Throttled(_))),
        );
        if answer.is_ok() {
            attempts
                .latency
                .saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        }
        Some(Attempt {
            started,
            verdicts,
            retry_after,
        })
    }

    /// Sorts the records of a parcel by what became of them: settled, or parcels to send again after the pause that is
    /// returned. A failure ends the run.
    fn judge(
        &self,
        kind: Kind,
        mut parcel: Parcel,
        attempt: Attempt,
        parcels: &mut Vec<Parcel>,
        settled: &mut Vec<Failed>,
    ) -> Result<Duration, Failure> {
        let since = *parcel.since.get_or_insert(attempt.started);
        parcel.attempts += 1;
        let attempts = parcel.attempts;
        let failed = |post, fate| Failed {
            post,
            kind,
            fate,
            attempts,
        };
        let sent = parcel.posts.len();
        let mut again = Vec::new();
        let mut halve = Vec::new();
        let mut trouble = None;
        let mut stop = None;
        // Records that were too much wait in the queue of the limiter, which slows all of them down.
        let mut backs_off = false;
        for (post, verdict) in std::mem::take(&mut parcel.posts)
            .into_iter()
            .zip(attempt.verdicts)
        {
            match verdict {
                Verdict::Acknowledged => {}
                Verdict::Halve(reason) if sent > 1 => {
                    halve.push(post);
                    trouble = Some(reason);
                }
                Verdict::Halve(reason) | Verdict::Reject(reason) => {
                    settled.push(failed(post, Fate::Rejected(reason)));
                }
                Verdict::Retry(reason) => {
                    again.push(post);
                    trouble = Some(reason);
                    backs_off = true;
                }
                Verdict::Throttled(reason) => {
                    again.push(post);
                    trouble = Some(reason);
                }
                Verdict::Stop(exit, reason) => {
                    again.push(post);
                    trouble = Some(reason.clone());
                    stop = Some((exit, reason));
                    backs_off = true;
                }
            }
        }
        if again.len() + halve.len() < sent {
            self.note_answer(kind);
        }
        let refused_since = self.note_refusal(kind, stop.as_ref().map(|_| attempt.started));
        for half in halve.chunks(halve.len().div_ceil(2).max(1)).rev() {
            parcels.push(Parcel {
                posts: half.to_vec(),
                ..parcel.clone()
            });
        }
        let Some(reason) = trouble else {
            return Ok(Duration::ZERO);
        };
        if again.is_empty() {
            self.note_trouble(kind, &reason);
            return Ok(Duration::ZERO);
        }
        parcel.posts = again;
        let refused = stop.map(|(exit, reason)| self.refusal(kind, exit, &reason));
        let doubt = DOUBT.min(self.options.retry_for);
        let is_doubted = lock(&self.health).last_answer[kind].is_some()
            && refused_since.is_none_or(|since| since.elapsed() < doubt);
        let refused = match refused {
            Some(failure) if !is_doubted => {
                parcels.push(parcel);
                return Err(failure);
            }
            refused => refused,
        };
        self.note_trouble(kind, &reason);
        if parcel.posts.len() == sent {
            self.note_silence(attempt.started);
        }
        if let Some(down) = self.down_failure(kind, since, &reason) {
            parcels.push(parcel);
            // There is no time left to doubt it.
            return Err(refused.unwrap_or(down));
        }
        if since.elapsed() >= self.options.retry_for {
            // Nobody may be left who asks.
            lock(&self.health).silent_since = None;
            let unproven = |post| failed(post, Fate::Unproven(reason.clone()));
            settled.extend(parcel.posts.into_iter().map(unproven));
            return Ok(Duration::ZERO);
        }
        let asked = attempt
            .retry_after
            .unwrap_or_default()
            .min(LONGEST_RETRY_AFTER);
        let pause = if backs_off {
            parcel.backoff.pause().max(asked)
        } else {
            asked
        };
        parcels.push(parcel);
        Ok(pause)
    }

    fn refusal(&self, kind: Kind, exit: Exit, reason: &Reason) -> Failure {
        let (base, target) = (self.http.base(), self.sink.target(kind));
        let text = match reason.status {
            Some(_) => format!("{base} refused records for {target}: {reason}"),
            None => format!("cannot reach {base}: {reason}"),
        };
        Failure::new(exit, text)
    }

    /// Whether the target ever settled a record for good.
    fn has_settled(&self) -> bool {
        let health = lock(&self.health);
        health.last_answer.iter().any(|(_, last)| last.is_some())
    }

    /// The target settled a record for good, so it is there and works.
    fn note_answer(&self, kind: Kind) {
        let mut health = lock(&self.health);
        health.last_answer[kind] = Some(Instant::now());
        health.silent_since = None;
    }

    /// A request that was sent at `started` settled nothing.
    fn note_silence(&self, started: Instant) {
        let mut health = lock(&self.health);
        let last = health.last_answer.iter().filter_map(|(_, last)| *last);
        let since = last.fold(started, Instant::max);
        health.silent_since.get_or_insert(since);
    }

    /// An answer refused everything if its request, sent at `refused`, is given. Since when all answers do.
    fn note_refusal(&self, kind: Kind, refused: Option<Instant>) -> Option<Instant> {
        let since = &mut lock(&self.health).refused_since[kind];
        *since = refused.map(|refused| since.unwrap_or(refused));
        *since
    }

    /// Tells of trouble once, not once a request.
    fn note_trouble(&self, kind: Kind, reason: &Reason) {
        let mut health = lock(&self.health);
        if health
            .trouble_told
            .is_none_or(|told| told.elapsed() >= TELL_AGAIN)
        {
            health.trouble_told = Some(Instant::now());
            warn!(%reason, target_name = self.sink.target(kind), "Records are not acknowledged; trying again.");
        } else {
            info!(%reason, target_name = self.sink.target(kind), "Trying again.");
        }
    }

    /// What ends the run if the target settled nothing for too long, or never had the topic or stream; none if it settles
    /// other records. `since`: when the records at hand were first sent.
    fn down_failure(&self, kind: Kind, since: Instant, reason: &Reason) -> Option<Failure> {
        let health = lock(&self.health);
        let missing = health.missing[kind] && health.last_answer[kind].is_none();
        let works = health
            .last_answer
            .iter()
            .any(|(_, last)| last.is_some_and(|last| last > since));
        let too_long = |since: Instant| since.elapsed() >= self.options.retry_for;
        let down = if too_long(since) {
            missing || !works
        } else {
            health.silent_since.is_some_and(too_long)
        };
        if !down {
            return None;
        }
        let since = health
            .silent_since
            .map_or(since, |silent| silent.min(since));
        let (base, target, noun) = (self.http.base(), self.sink.target(kind), self.sink.noun());
        let waited = humantime::format_duration(roughly(since.elapsed()));
        Some(if missing {
            let text = format!(
                "the {noun} {target} does not exist at {base}; make it, or check the prefix: {reason}"
            );
            Failure::new(Exit::Configuration, text)
        } else {
            let text = format!(
                "{base} acknowledged nothing for {waited}; is it running, and is --invoke-url right? {reason}"
            );
            Failure::new(Exit::Unreachable, text)
        })
    }
}

/// A time as people tell it: whole seconds, or milliseconds if there is none.
fn roughly(time: Duration) -> Duration {
    match time.as_secs() {
        0 => Duration::from_millis(time.subsec_millis().into()),
        seconds => Duration::from_secs(seconds),
    }
}

/// Records of one kind that go in one request; `posts` are places in the batch.
#[derive(Debug, Clone)]
struct Parcel {
    posts: Vec<usize>,
    backoff: Backoff,
    /// How many requests carried its records.
    attempts: u32,
    /// When its records were first sent.
    since: Option<Instant>,
}

impl Parcel {
    fn new(posts: Vec<usize>) -> Self {
        Self {
            posts,
            backoff: Backoff::default(),
            attempts: 0,
            since: None,
        }
    }
}

/// One request that was sent.
struct Attempt {
    started: Instant,
    /// One for each of its records.
    verdicts: Vec<Verdict>,
    retry_after: Option<Duration>,
}

/// What an answer tells of the target as a whole.
fn how_it_ended(answered: bool, verdicts: &[Verdict]) -> Ended {
    let count = |is: fn(&Verdict) -> bool| verdicts.iter().filter(|verdict| is(verdict)).count();
    let settled = count(|verdict| {
        matches!(
            verdict,
            Verdict::Acknowledged | Verdict::Reject(_) | Verdict::Halve(_)
        )
    });
    let throttled = count(|verdict| matches!(verdict, Verdict::Throttled(_)));
    let number = |count| u32::try_from(count).unwrap_or(u32::MAX);
    if throttled > 0 {
        // Records that failed for another reason say nothing of the rate.
        Ended::Throttled {
            accepted: number(settled),
            of: number(settled + throttled),
        }
    } else if settled > 0 {
        Ended::Accepted {
            of: number(settled),
        }
    } else if answered {
        Ended::Failed
    } else {
        Ended::NoAnswer
    }
}

/// What is left when the run ends.
fn open(kind: Kind, parcels: &[Parcel]) -> impl Iterator<Item = Failed> {
    parcels.iter().flat_map(move |parcel| {
        let attempts = parcel.attempts;
        let open = move |post: &usize| Failed {
            post: *post,
            kind,
            fate: Fate::Open,
            attempts,
        };
        parcel.posts.iter().map(open)
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
