//! The recorder: stages report their cases through it; reporters hear of everything in order.

use std::collections::HashSet;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::base::codes::Code;
use crate::base::fault::{Class, Fault};
use crate::base::mutex::lock;
use crate::base::place::Place;
use crate::engine::event::{Attempt, CaseEnd, CaseId, Event, Json, Stamped};
use crate::engine::outcome::{Change, Outcome};

/// Consumes events, in order, and never calls back. Must not block for long.
pub trait Reporter: Send {
    /// All events that wait; when many cases run at once these are many.
    fn events(&mut self, events: &[Stamped]);
    /// Called about twice a second, for what is written at intervals.
    fn tick(&mut self) {}
}

/// Why a case after an abort is skipped.
pub const NOT_STARTED: &str = "not started: aborted";

/// How long an aborted case may take to end its children before it is dropped.
const ABORT_GRACE: Duration = Duration::from_secs(8);

/// What all clones share.
struct Shared {
    tally: Mutex<Tally>,
    /// What the reporters have not heard of yet.
    unheard: Mutex<Vec<Stamped>>,
    reporters: Mutex<Reporters>,
}

type Reporters = Vec<Box<dyn Reporter>>;

#[derive(Default)]
struct Tally {
    faults: Vec<Class>,
    seen: HashSet<CaseId>,
    repaired: usize,
    would_change: usize,
}

impl Shared {
    fn tell(&self, mut event: Event) {
        event.redact();
        {
            let mut unheard = lock(&self.unheard);
            unheard.push(Stamped { at: Timestamp::now(), event });
        }
        self.report();
    }

    /// Tells the reporters of what they have not heard. While one task does so, the others leave their events to it and go on: so whoever
    /// has held the reporters looks once more when they are free.
    fn report(&self) {
        while self.has_unheard() {
            let mut reporters = match self.reporters.try_lock() {
                Ok(reporters) => reporters,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            self.drain(&mut reporters);
        }
    }

    /// When it returns, the reporters have heard of all events before it.
    fn settle(&self) -> MutexGuard<'_, Reporters> {
        let mut reporters = lock(&self.reporters);
        self.drain(&mut reporters);
        reporters
    }

    fn has_unheard(&self) -> bool {
        !lock(&self.unheard).is_empty()
    }

    fn drain(&self, reporters: &mut Reporters) {
        let events = std::mem::take(&mut *lock(&self.unheard));
        if !events.is_empty() {
            reporters.iter_mut().for_each(|reporter| reporter.events(&events));
        }
    }
}

/// Records the cases of one stage. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
    cancel: CancellationToken,
    abort: Arc<Mutex<Option<Aborted>>>,
    stage: String,
}

/// Why a run was aborted, and its exit code where the cause has one of its own (130, 143).
#[derive(Clone, Debug)]
pub struct Aborted {
    pub why: Fault,
    pub exit: Option<u8>,
}

/// How a case's work ended well. `T` is what later steps need of it.
#[derive(Debug)]
pub enum Done<T = ()> {
    Passed { value: T, change: Change, note: String },
    Repaired { value: T, story: String },
    Skipped(String),
}

impl<T> Done<T> {
    /// It was found as it should be.
    pub fn unchanged(value: T, note: impl Into<String>) -> Self {
        Done::Passed { value, change: Change::None, note: note.into() }
    }

    pub fn changed(value: T, note: impl Into<String>) -> Self {
        Done::Passed { value, change: Change::Changed, note: note.into() }
    }

    /// A dry run would change this.
    pub fn would_change(value: T, note: impl Into<String>) -> Self {
        Done::Passed { value, change: Change::WouldChange, note: note.into() }
    }
}

/// A case in the making: `record.case("rollout prod").service("app1").run(|case| async move { … }).await`.
#[must_use]
pub struct CaseBuilder {
    recorder: Recorder,
    id: CaseId,
    place: Option<Place>,
}

#[derive(Default)]
struct Gathered {
    attempts: Vec<Attempt>,
    warnings: Vec<String>,
    properties: Vec<(String, String)>,
    output: String,
    last_progress: String,
}

/// What the work inside a case reports with. Cheap to clone.
#[derive(Clone)]
pub struct Case {
    recorder: Recorder,
    id: CaseId,
    gathered: Arc<Mutex<Gathered>>,
}

impl Recorder {
    pub fn new(reporters: Vec<Box<dyn Reporter>>, cancel: CancellationToken) -> Self {
        let shared = Shared { tally: Mutex::default(), unheard: Mutex::default(), reporters: Mutex::new(reporters) };
        Self { shared: Arc::new(shared), cancel, abort: Arc::default(), stage: String::new() }
    }

    /// The same recorder, for the cases of `stage`.
    pub fn for_stage(&self, stage: &str) -> Self {
        Self { stage: stage.to_owned(), ..self.clone() }
    }

    pub fn case(&self, name: impl Into<String>) -> CaseBuilder {
        let id = CaseId { stage: self.stage.clone(), service: None, name: name.into() };
        CaseBuilder { recorder: self.clone(), id, place: None }
    }

    /// A plain line that is no case.
    pub fn note(&self, text: impl Into<String>) {
        self.emit(Event::Note { stage: self.stage.clone(), text: text.into() });
    }

    pub fn emit(&self, event: Event) {
        self.shared.tell(event);
    }

    pub fn tick(&self) {
        self.shared.settle().iter_mut().for_each(|reporter| reporter.tick());
        self.shared.report();
    }

    /// Records the run's end. When it returns, all is reported.
    pub fn end(&self, exit: u8, seconds: Duration) {
        self.emit(Event::RunEnded { exit, seconds });
        drop(self.shared.settle());
    }

    /// Ends the run: every case that runs is aborted with `why`, and `cancelled` fires. `exit`: the run's exit code, when a signal decides it.
    pub fn abort(&self, why: Fault, exit: Option<u8>) {
        lock(&self.abort).get_or_insert(Aborted { why, exit });
        self.cancel.cancel();
    }

    /// Why the run was aborted, if it was.
    pub fn aborted(&self) -> Option<Aborted> {
        lock(&self.abort).clone()
    }

    /// Fires when the run is to end; child processes pass it on.
    pub fn cancelled(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// The classes of all failed cases so far, of all stages.
    pub fn faults(&self) -> Vec<Class> {
        lock(&self.shared.tally).faults.clone()
    }

    /// How many cases ended as repaired.
    pub fn repaired(&self) -> usize {
        lock(&self.shared.tally).repaired
    }

    /// How many cases would change something if this were no dry run.
    pub fn would_change(&self) -> usize {
        lock(&self.shared.tally).would_change
    }

    /// Case ids are unique in a run: a second one of the same name gets a number.
    fn unique(&self, mut id: CaseId) -> CaseId {
        let seen = &mut lock(&self.shared.tally).seen;
        let base = id.name.clone();
        let mut n = 1;
        while !seen.insert(id.clone()) {
            n += 1;
            id.name = format!("{base} ({n})");
        }
        id
    }

    fn ended(&self, mut end: CaseEnd) {
        // The line of the run's log has one place: two would make it unreadable.
        if let Outcome::Failed(fault) = &mut end.outcome {
            end.place = fault.place.take().or(end.place);
        }
        {
            let mut tally = lock(&self.shared.tally);
            match &end.outcome {
                Outcome::Failed(fault) => tally.faults.push(fault.class),
                Outcome::Repaired { .. } => tally.repaired += 1,
                Outcome::Passed { change: Change::WouldChange, .. } => tally.would_change += 1,
                Outcome::Passed { .. } | Outcome::Skipped { .. } => {}
            }
        }
        self.emit(Event::CaseEnded(Box::new(end)));
    }
}

impl CaseBuilder {
    pub fn service(mut self, service: impl Into<String>) -> Self {
        self.id.service = Some(service.into());
        self
    }

    /// The line of the file that this case is about.
    pub fn place(mut self, place: Option<&Place>) -> Self {
        self.place = place.cloned();
        self
    }

    /// Records a case that was not run.
    pub fn skip(self, reason: impl Into<String>) {
        let reason = reason.into();
        self.end_at_once(Outcome::Skipped { reason });
    }

    /// Records a case that failed without having been run.
    pub fn fail(self, fault: Fault) {
        self.end_at_once(Outcome::Failed(Box::new(fault)));
    }

    fn end_at_once(self, outcome: Outcome) {
        let case = self.recorder.unique(self.id);
        self.recorder.ended(CaseEnd {
            case,
            started: Timestamp::now(),
            seconds: Duration::ZERO,
            outcome,
            place: self.place,
            attempts: Vec::new(),
            warnings: Vec::new(),
            properties: Vec::new(),
            output: String::new(),
        });
    }

    /// Runs the case's work and records its end. `None`: it failed, was skipped or aborted, and the caller goes no further on this path.
    pub async fn run<T, F, Fut>(self, work: F) -> Option<T>
    where
        F: FnOnce(Case) -> Fut,
        Fut: Future<Output = Result<Done<T>, Fault>>,
    {
        if self.recorder.aborted().is_some() {
            self.skip(NOT_STARTED);
            return None;
        }
        let Self { recorder, id, place } = self;
        let id = recorder.unique(id);
        let (started, clock) = (Timestamp::now(), Instant::now());
        recorder.emit(Event::CaseStarted { case: id.clone() });
        let case = Case { recorder: recorder.clone(), id: id.clone(), gathered: Arc::default() };
        let end = |outcome: Outcome| {
            let gathered = std::mem::take(&mut *case.lock());
            recorder.ended(CaseEnd {
                case: id.clone(),
                started,
                seconds: clock.elapsed(),
                outcome,
                place: place.clone(),
                attempts: gathered.attempts,
                warnings: gathered.warnings,
                properties: gathered.properties,
                output: gathered.output,
            });
        };
        let work = work(case.clone());
        tokio::pin!(work);
        let result = tokio::select! {
            biased;
            result = &mut work => result,
            () = recorder.cancel.cancelled() => {
                let mut why = recorder.aborted().map_or_else(|| Fault::new(Code::Cancelled, "aborted"), |aborted| aborted.why);
                let last = case.lock().last_progress.clone();
                if !last.is_empty() {
                    why.message = format!("{}; last seen: {last}", why.message);
                }
                end(Outcome::Failed(Box::new(why)));
                recorder.tick();
                // The report is safe; now the work may end its child processes in order.
                let _ended = tokio::time::timeout(ABORT_GRACE, work).await;
                return None;
            }
        };
        let (outcome, value) = match result {
            Ok(Done::Passed { value, change, note }) => (Outcome::Passed { change, note }, Some(value)),
            Ok(Done::Repaired { value, story }) => (Outcome::Repaired { story }, Some(value)),
            Ok(Done::Skipped(reason)) => (Outcome::Skipped { reason }, None),
            Err(fault) => (Outcome::Failed(Box::new(fault)), None),
        };
        end(outcome);
        value
    }
}

impl Case {
    /// What the case is waiting for now.
    pub fn progress(&self, text: impl Into<String>) {
        let text = text.into();
        self.lock().last_progress.clone_from(&text);
        self.recorder.emit(Event::Progress { case: self.id.clone(), text });
    }

    pub fn property(&self, name: &str, value: impl ToString) {
        self.lock().properties.push((name.to_owned(), value.to_string()));
    }

    /// Adds to what a person may read beside the verdict.
    pub fn output(&self, text: &str) {
        let mut gathered = self.lock();
        gathered.output.push_str(text);
        if !text.ends_with('\n') {
            gathered.output.push('\n');
        }
    }

    /// Something that does not fail the case but wants an action.
    pub fn warn(&self, text: impl Into<String>) {
        self.lock().warnings.push(text.into());
    }

    /// An attempt that failed and will be repeated.
    pub fn attempt(&self, fault: Fault) {
        self.lock().attempts.push(Attempt { at: Timestamp::now(), fault });
    }

    /// Records what a verdict is drawn from, for `replay`.
    pub fn observed(&self, kind: &str, data: &impl Serialize) {
        self.recorder.emit(Event::Observed { case: self.id.clone(), kind: kind.to_owned(), data: Json::of(data) });
    }

    fn lock(&self) -> MutexGuard<'_, Gathered> {
        lock(&self.gathered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Heard(Arc<Mutex<Vec<Stamped>>>);

    impl Reporter for Heard {
        fn events(&mut self, events: &[Stamped]) {
            self.0.lock().expect("lock").extend_from_slice(events);
        }
    }

    impl Heard {
        fn ends(&self) -> Vec<CaseEnd> {
            let events = self.0.lock().expect("lock");
            events.iter().filter_map(|e| if let Event::CaseEnded(end) = &e.event { Some((**end).clone()) } else { None }).collect()
        }
    }

    fn recorder() -> (Recorder, Heard) {
        let heard = Heard::default();
        (Recorder::new(vec![Box::new(heard.clone())], CancellationToken::new()).for_stage("deploy"), heard)
    }

    #[tokio::test]
    async fn a_case_hands_its_value_on_and_a_fault_does_not() {
        let (record, heard) = recorder();
        assert_eq!(record.case("a").run(|_| async { Ok(Done::changed(7, "made")) }).await, Some(7));
        let failed = record.case("b").run(|_| async { Err::<Done<()>, _>(Fault::new(Code::CrashLoop, "dies")) }).await;
        assert_eq!(failed, None);
        assert_eq!(record.faults(), [Class::Broken]);
        assert_eq!(heard.ends().len(), 2);
    }

    #[tokio::test]
    async fn a_failed_case_is_a_line_that_can_be_read_again() {
        let (record, heard) = recorder();
        let (of_case, of_fault) = (Place::new("meshstep.yaml", 3, 1), Place::new("k8s/app.yaml", 9, 0));
        let fault = || Fault::new(Code::ConfigMissing, "no Secret").at(Some(&of_fault));
        record.case("a").place(Some(&of_case)).run(|_| async { Err::<Done<()>, _>(fault()) }).await;
        record.case("b").place(Some(&of_case)).fail(fault());
        for event in heard.0.lock().expect("lock").iter() {
            let line = serde_json::to_string(event).expect("json");
            assert!(serde_json::from_str::<Stamped>(&line).is_ok(), "{line}");
        }
        assert!(heard.ends().iter().all(|end| end.place.as_ref() == Some(&of_fault)));
    }

    #[test]
    fn every_event_of_many_tasks_is_heard_once_and_in_order() {
        let (record, heard) = recorder();
        std::thread::scope(|scope| {
            for task in 0..4 {
                let record = record.clone();
                scope.spawn(move || (0..500).for_each(|n| record.note(format!("{task} {n}"))));
            }
        });
        record.end(0, Duration::ZERO);
        let events = heard.0.lock().expect("lock");
        assert!(events.is_sorted_by_key(|stamped| stamped.at) && matches!(events.last().map(|last| &last.event), Some(Event::RunEnded { .. })));
        for task in 0..4 {
            let of_task = events.iter().filter_map(|stamped| match &stamped.event {
                Event::Note { text, .. } => text.strip_prefix(&format!("{task} ")),
                _ => None,
            });
            assert!(of_task.eq((0..500).map(|n| n.to_string())), "{task}");
        }
    }

    #[tokio::test]
    async fn two_cases_of_one_name_are_told_apart() {
        let (record, heard) = recorder();
        record.case("a").skip("unchanged");
        record.case("a").skip("unchanged");
        assert_eq!(heard.ends()[1].case.name, "a (2)");
    }

    #[tokio::test(start_paused = true)]
    async fn an_abort_is_recorded_at_once_and_the_work_may_still_end() {
        let (record, heard) = recorder();
        let finished = Arc::new(Mutex::new(false));
        let (flag, aborter) = (Arc::clone(&finished), record.clone());
        let value = record
            .case("helm upgrade")
            .run(|case| async move {
                case.progress("0 of 1 ready");
                aborter.abort(Fault::new(Code::Cancelled, "SIGTERM"), Some(143));
                tokio::time::sleep(Duration::from_secs(2)).await;
                *flag.lock().expect("lock") = true;
                Ok(Done::changed((), ""))
            })
            .await;
        assert_eq!(value, None);
        assert!(*finished.lock().expect("lock"));
        let fault = heard.ends()[0].outcome.fault().cloned().expect("a fault");
        assert_eq!(fault.message, "SIGTERM; last seen: 0 of 1 ready");
    }
}
