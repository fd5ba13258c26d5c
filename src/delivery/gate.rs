//! One queue in front of the limiter: who waited longest sends next, and only that one watches the clock.

use std::sync::{Mutex, PoisonError};

use tokio::{
    sync::{Mutex as Queue, Notify},
    time::{Instant, sleep_until},
};

use crate::limiter::{Admission, Ended, InFlight, Limiter};

#[derive(Debug)]
pub(super) struct Gate {
    limiter: Mutex<Limiter>,
    /// Requests with records that have not been sent yet wait here, so that those that are sent again find a short queue.
    new: Queue<()>,
    queue: Queue<()>,
    /// A request has ended.
    ended: Notify,
    start: Instant,
}

/// A request that may be on the wire.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    gate: &'a Gate,
    pub(super) sent: Instant,
    how: Ended,
}

impl Gate {
    pub(super) fn new(in_flight: InFlight) -> Self {
        Self {
            limiter: Mutex::new(Limiter::new(in_flight)),
            new: Queue::new(()),
            queue: Queue::new(()),
            ended: Notify::new(),
            start: Instant::now(),
        }
    }

    /// Waits until a request may go; one whose records are sent `again` waits for no more than one that is new. Safe to
    /// cancel.
    pub(super) async fn enter(&self, again: bool) -> Pass<'_> {
        let _newest = if again {
            None
        } else {
            Some(self.new.lock().await)
        };
        let _first = self.queue.lock().await;
        loop {
            let (now, admission) = {
                let mut limiter = self.limiter();
                // Read under the lock, so that time never runs backwards for the limiter.
                let now = self.start.elapsed();
                (now, limiter.admit(now))
            };
            match admission {
                Admission::Go => {
                    // What is not said to have ended in another way was given up.
                    return Pass {
                        gate: self,
                        sent: self.start + now,
                        how: Ended::Failed,
                    };
                }
                Admission::At(due) => sleep_until(self.start + due).await,
                // A request that ended since is remembered.
                Admission::Full => self.ended.notified().await,
            }
        }
    }

    fn limiter(&self) -> std::sync::MutexGuard<'_, Limiter> {
        self.limiter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    pub(super) fn end(mut self, how: Ended) {
        self.how = how;
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut limiter = self.gate.limiter();
        let start = self.gate.start;
        limiter.ended(start.elapsed(), self.sent - start, self.how);
        drop(limiter);
        self.gate.ended.notify_one();
    }
}
