//! The one way to wait: a predicate that says what is missing, until a deadline.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::base::fault::Fault;
use crate::base::mutex::lock;

/// What the first look may take, however short the wait is meant to be.
pub const FIRST_LOOK: Duration = Duration::from_secs(5);

/// What any other look may take when the time is up.
const LEAST_LOOK: Duration = Duration::from_millis(10);

/// What a predicate found.
#[derive(Debug)]
pub enum Poll<T> {
    Ready(T),
    /// Not there yet; the reason is what a person wants to read meanwhile.
    NotYet(String),
}

impl<T> Poll<T> {
    pub fn map<U>(self, with: impl FnOnce(T) -> U) -> Poll<U> {
        match self {
            Poll::Ready(value) => Poll::Ready(with(value)),
            Poll::NotYet(reason) => Poll::NotYet(reason),
        }
    }
}

/// How long to wait, and how often to look when nothing wakes the wait earlier.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pub limit: Duration,
    pub every: Duration,
}

impl Patience {
    pub fn new(limit: Duration, every: Duration) -> Self {
        Self { limit, every }
    }
}

/// The time that one wait's looks stood in a queue behind others', in which nothing could be seen.
#[derive(Debug, Default)]
pub struct Queue(Mutex<(Duration, Option<Instant>)>);

impl Queue {
    /// Stands there until its turn comes.
    pub async fn stand<T>(&self, turn: impl Future<Output = T>) -> T {
        self.state().1 = Some(Instant::now());
        let turn = turn.await;
        let mut state = self.state();
        if let Some(since) = state.1.take() {
            state.0 += since.elapsed();
        }
        turn
    }

    /// For how long so far.
    pub fn stood(&self) -> Duration {
        let (before, since) = *self.state();
        before + since.map(|since| since.elapsed()).unwrap_or_default()
    }

    fn stands(&self) -> bool {
        self.state().1.is_some()
    }

    fn state(&self) -> MutexGuard<'_, (Duration, Option<Instant>)> {
        lock(&self.0)
    }
}

/// The limit passed. Carries the last reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimedOut {
    pub after: Duration,
    pub last_reason: String,
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not within {}: {}", crate::base::text::seconds(self.after), self.last_reason)
    }
}

#[derive(Debug)]
pub enum WaitError {
    TimedOut(TimedOut),
    /// The predicate decided that waiting is pointless.
    Failed(Box<Fault>),
}

impl WaitError {
    /// The fault of a wait: the predicate's own, or `on_timeout`'s for the last reason.
    pub fn into_fault(self, on_timeout: impl FnOnce(TimedOut) -> Fault) -> Fault {
        match self {
            WaitError::TimedOut(timed_out) => on_timeout(timed_out),
            WaitError::Failed(fault) => *fault,
        }
    }
}

/// Waits until `look` says ready or fails. `look` runs at once, then at every `wake` or after `patience.every`, whichever is first;
/// a look that hangs is cut off at the deadline, the first one not before [`FIRST_LOOK`], so that even the shortest wait has seen something. `tell` hears each reason that differs from the one before.
pub async fn until<T, L, LF, W, WF>(patience: Patience, tell: impl FnMut(&str), wake: W, look: L) -> Result<T, WaitError>
where
    L: FnMut() -> LF,
    LF: Future<Output = Result<Poll<T>, Fault>>,
    W: FnMut() -> WF,
    WF: Future<Output = ()>,
{
    until_but(&Queue::default(), patience, tell, wake, look).await
}

/// The same, for looks that stand in a queue: the deadline moves by what they stood there.
pub async fn until_but<T, L, LF, W, WF>(
    queue: &Queue,
    patience: Patience,
    mut tell: impl FnMut(&str),
    mut wake: W,
    mut look: L,
) -> Result<T, WaitError>
where
    L: FnMut() -> LF,
    LF: Future<Output = Result<Poll<T>, Fault>>,
    W: FnMut() -> WF,
    WF: Future<Output = ()>,
{
    let (start, queued_before) = (Instant::now(), queue.stood());
    let left = |limit| (start + limit + queue.stood().saturating_sub(queued_before)).saturating_duration_since(Instant::now());
    let mut last_reason = "nothing was seen yet".to_owned();
    let mut limit = patience.limit.max(FIRST_LOOK);
    loop {
        let mut looking = pin!(look());
        let looked = loop {
            match timeout(left(limit).max(LEAST_LOOK), &mut looking).await {
                Err(_) if queue.stands() || !left(limit).is_zero() => {}
                ended => break ended,
            }
        };
        match looked {
            Ok(Ok(Poll::Ready(value))) => return Ok(value),
            Ok(Err(fault)) => return Err(WaitError::Failed(Box::new(fault))),
            Ok(Ok(Poll::NotYet(reason))) if reason != last_reason => {
                tell(&reason);
                last_reason = reason;
            }
            Ok(Ok(Poll::NotYet(_))) | Err(_) => {}
        }
        limit = patience.limit;
        let left = left(limit);
        if left.is_zero() {
            return Err(WaitError::TimedOut(TimedOut { after: start.elapsed(), last_reason }));
        }
        let _woken = timeout(left.min(patience.every), wake()).await;
    }
}

/// A `wake` for waits that only poll.
pub fn never() -> std::future::Pending<()> {
    std::future::pending()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::codes::Code;

    const PATIENCE: Patience = Patience { limit: Duration::from_secs(10), every: Duration::from_secs(1) };

    #[tokio::test(start_paused = true)]
    async fn ready_after_some_looks_tells_each_new_reason_once() {
        let (mut told, mut looks) = (Vec::new(), 0);
        let value = until(
            PATIENCE,
            |r| told.push(r.to_owned()),
            never,
            || {
                looks += 1;
                let n = looks;
                async move { Ok(if n == 4 { Poll::Ready(n) } else { Poll::NotYet(format!("{} of 2", n / 2)) }) }
            },
        );
        assert_eq!(value.await.expect("ready"), 4);
        assert_eq!(told, ["0 of 2", "1 of 2"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_reports_the_last_reason() {
        let error =
            until::<(), _, _, _, _>(PATIENCE, |_| {}, never, || async { Ok(Poll::NotYet("0 of 3 ready".into())) }).await.expect_err("timeout");
        let WaitError::TimedOut(timed_out) = error else { panic!("{error:?}") };
        assert_eq!(timed_out.last_reason, "0 of 3 ready");
        assert_eq!(timed_out.after.as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_hangs_is_cut_off() {
        let error = until::<(), _, _, _, _>(PATIENCE, |_| {}, never, std::future::pending).await.expect_err("timeout");
        assert!(matches!(error, WaitError::TimedOut(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_shortest_wait_still_sees_once() {
        let patience = Patience::new(Duration::ZERO, Duration::from_secs(1));
        let look = || async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            Ok(Poll::<()>::NotYet("held by build-1".into()))
        };
        let error = until(patience, |_| {}, never, look).await.expect_err("timeout");
        assert!(matches!(error, WaitError::TimedOut(timed_out) if timed_out.last_reason == "held by build-1"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_stood_in_a_queue_does_not_count() {
        let (start, queue) = (Instant::now(), Queue::default());
        let look = || async {
            queue.stand(tokio::time::sleep(Duration::from_secs(30))).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            Ok(Poll::<()>::NotYet(String::new()))
        };
        let error = until_but(&queue, PATIENCE, |_| {}, never, look).await.expect_err("timeout");
        assert!(matches!(error, WaitError::TimedOut(_)), "{error:?}");
        // 2 s each, and 1 s between: 10 s are three looks and a half.
        assert_eq!((start.elapsed().as_secs(), queue.stood().as_secs()), (130, 120));
    }

    #[tokio::test(start_paused = true)]
    async fn a_fault_ends_the_wait_at_once() {
        let start = Instant::now();
        let error =
            until::<(), _, _, _, _>(PATIENCE, |_| {}, never, || async { Err(Fault::new(Code::AlbFailed, "failed")) }).await.expect_err("fault");
        assert!(matches!(error, WaitError::Failed(_)));
        assert!(start.elapsed() < Duration::from_millis(10));
    }
}
