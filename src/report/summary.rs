//! A run folded from its events: what every other report is drawn from, so that all of them agree.
//!
//! One fold may hear several processes of one build, one after another (each Jenkins stage is a process of its own). A case that was
//! run again, after a stage `retry`, has its last verdict; an earlier failure becomes one of its attempts, so nothing is hidden. A case
//! that was not run again stays: it may have been another service's job.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::base::codes::Code;
use crate::base::fault::{Class, Fault};
use crate::base::text::count;
use crate::engine::event::{Attempt, CaseEnd, CaseId, Event, Stamped};
use crate::engine::outcome::{Change, Outcome, exit_code, is_failure, rank, worst};
use crate::report::logs;
use crate::report::text::{CAP, cap};

/// The case that the engine makes of a stage's own failure.
pub const SETUP: &str = "setup";

/// What `Event::RunStarted` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    pub run_id: String,
    pub tool: String,
    pub pipeline: String,
    pub environment: String,
    pub stages: Vec<String>,
    pub hostname: String,
    pub build_url: Option<String>,
    pub dry_run: bool,
}

/// A stage that was started.
#[derive(Clone, Debug)]
pub struct StageRun {
    pub name: String,
    pub started: Timestamp,
    /// Wall clock, of all processes of this build that ran it.
    pub seconds: Duration,
    pub open: bool,
    /// Heard of an earlier process only.
    pub earlier: bool,
}

/// A case that ended. Its texts are capped; `log` says that the whole is in a file.
#[derive(Clone, Debug)]
pub struct CaseResult {
    pub end: CaseEnd,
    pub log: bool,
    /// Heard of an earlier process only.
    pub earlier: bool,
}

/// A case that has started and not ended.
#[derive(Clone, Debug)]
pub struct Running {
    pub case: CaseId,
    pub started: Timestamp,
    /// What it waits for.
    pub progress: String,
}

/// How a case counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    Failed,
    Error,
    Repaired,
    WouldChange,
    Changed,
    Unchanged,
    Skipped,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub cases: usize,
    pub unchanged: usize,
    pub changed: usize,
    pub would_change: usize,
    pub repaired: usize,
    pub failed: usize,
    pub errors: usize,
    pub skipped: usize,
    pub warnings: usize,
}

#[derive(Clone, Debug, Default)]
pub struct RunSummary {
    pub run: Run,
    pub stages: Vec<StageRun>,
    pub cases: Vec<CaseResult>,
    pub running: Vec<Running>,
    pub started: Option<Timestamp>,
    /// Of the last process that ended.
    pub exit: Option<u8>,
    /// Wall clock of all processes together.
    pub seconds: Duration,
    /// That of earlier processes.
    earlier_seconds: Duration,
    places: HashMap<CaseId, usize>,
}

pub fn verdict(outcome: &Outcome) -> Verdict {
    match outcome {
        Outcome::Failed(fault) if is_failure(fault.class) => Verdict::Failed,
        Outcome::Failed(_) => Verdict::Error,
        Outcome::Repaired { .. } => Verdict::Repaired,
        Outcome::Passed { change: Change::WouldChange, .. } => Verdict::WouldChange,
        Outcome::Passed { change: Change::Changed, .. } => Verdict::Changed,
        Outcome::Passed { change: Change::None, .. } => Verdict::Unchanged,
        Outcome::Skipped { .. } => Verdict::Skipped,
    }
}

impl CaseResult {
    pub fn verdict(&self) -> Verdict {
        verdict(&self.end.outcome)
    }
}

impl RunSummary {
    pub fn of<'a>(events: impl IntoIterator<Item = &'a Stamped>) -> Self {
        let mut summary = Self::default();
        events.into_iter().for_each(|event| summary.event(event));
        summary
    }

    /// All that was heard so far belongs to earlier processes of this build.
    pub fn close_earlier(&mut self) {
        self.stages.iter_mut().for_each(|stage| stage.earlier = true);
        self.cases.iter_mut().for_each(|case| case.earlier = true);
        self.earlier_seconds = self.seconds;
    }

    /// Takes all processes as one run that is over: what a finished build's report shows.
    pub fn finish(&mut self) {
        self.bury_running("the run was killed before this case ended");
        self.stages.iter_mut().for_each(|stage| stage.earlier = false);
        self.cases.iter_mut().for_each(|case| case.earlier = false);
        self.earlier_seconds = Duration::ZERO;
    }

    pub fn event(&mut self, stamped: &Stamped) {
        match &stamped.event {
            Event::RunStarted { run_id, tool, pipeline, environment, stages, hostname, build_url, dry_run } => {
                self.bury_running("the run was killed before this case ended");
                self.close_earlier();
                self.started = self.started.or(Some(stamped.at));
                self.exit = None;
                let mut all = std::mem::take(&mut self.run.stages);
                all.extend(stages.iter().filter(|stage| !all.contains(stage)).cloned().collect::<Vec<_>>());
                self.run = Run {
                    run_id: run_id.clone(),
                    tool: tool.clone(),
                    pipeline: pipeline.clone(),
                    environment: environment.clone(),
                    stages: all,
                    hostname: hostname.clone(),
                    build_url: build_url.clone(),
                    dry_run: *dry_run,
                };
            }
            Event::StageStarted { stage } => self.stage_started(stage, stamped.at),
            Event::StageEnded { stage, seconds } => {
                if let Some(found) = self.stages.iter_mut().find(|found| found.name == *stage) {
                    found.seconds += *seconds;
                    found.open = false;
                }
                self.settle_setup(stage);
            }
            Event::CaseStarted { case } => {
                self.running.push(Running { case: case.clone(), started: stamped.at, progress: String::new() });
            }
            Event::Progress { case, text } => {
                if let Some(running) = self.running.iter_mut().find(|running| running.case == *case) {
                    running.progress.clone_from(text);
                }
            }
            Event::CaseEnded(end) => {
                self.running.retain(|running| running.case != end.case);
                self.ended(capped(end), logs::needed(end));
            }
            Event::RunEnded { exit, seconds } => {
                self.bury_running("the run ended before this case did");
                self.exit = Some(*exit);
                self.seconds += *seconds;
            }
            Event::Note { .. } | Event::Observed { .. } => {}
        }
    }

    fn stage_started(&mut self, stage: &str, at: Timestamp) {
        match self.stages.iter_mut().find(|found| found.name == stage) {
            Some(found) => (found.open, found.earlier) = (true, false),
            None => self.stages.push(StageRun { name: stage.to_owned(), started: at, seconds: Duration::ZERO, open: true, earlier: false }),
        }
        // A skipped stage is one case of the stage's own name: it says nothing once the stage runs.
        let stale = |case: &CaseResult| case.earlier && case.end.case.stage == stage && case.end.case.name == stage;
        if self.cases.iter().any(stale) {
            self.cases.retain(|case| !stale(case));
            self.places = self.cases.iter().enumerate().map(|(at, case)| (case.end.case.clone(), at)).collect();
        }
    }

    /// A stage that failed to start has no such case when it is run again: it passed, after one attempt.
    fn settle_setup(&mut self, stage: &str) {
        let setup = CaseId { stage: stage.to_owned(), service: None, name: SETUP.to_owned() };
        let Some(at) = self.places.get(&setup) else { return };
        let case = &self.cases[*at];
        if case.earlier && case.end.outcome.is_failed() {
            let note = "the stage was run again and started".to_owned();
            let end = CaseEnd { outcome: Outcome::Passed { change: Change::None, note }, output: String::new(), place: None, ..case.end.clone() };
            self.ended(CaseEnd { attempts: Vec::new(), ..end }, false);
        }
    }

    /// What never ended is an error: a report that left it out would read as a success.
    fn bury_running(&mut self, why: &str) {
        for running in std::mem::take(&mut self.running) {
            self.ended(running.unfinished(why), false);
        }
    }

    fn ended(&mut self, end: CaseEnd, log: bool) {
        let mut new = CaseResult { end, log, earlier: false };
        match self.places.get(&new.end.case) {
            Some(at) => {
                let old = &mut self.cases[*at];
                if let Outcome::Failed(fault) = &old.end.outcome {
                    let mut attempts = std::mem::take(&mut old.end.attempts);
                    attempts.push(Attempt { at: old.end.started, fault: (**fault).clone() });
                    attempts.append(&mut new.end.attempts);
                    new.end.attempts = attempts;
                }
                *old = new;
            }
            None => {
                self.places.insert(new.end.case.clone(), self.cases.len());
                self.cases.push(new);
            }
        }
    }

    /// The cases of the process that is heard now; of all after `finish`.
    pub fn own(&self) -> impl Iterator<Item = &CaseResult> {
        self.cases.iter().filter(|case| !case.earlier)
    }

    /// Wall clock of the process that is heard now; of all after `finish`.
    pub fn own_seconds(&self) -> Duration {
        self.seconds.saturating_sub(self.earlier_seconds)
    }

    pub fn stage_cases<'a>(&'a self, stage: &'a str) -> impl Iterator<Item = &'a CaseResult> {
        self.cases.iter().filter(move |case| case.end.case.stage == stage)
    }

    pub fn case(&self, id: &CaseId) -> Option<&CaseResult> {
        self.places.get(id).map(|at| &self.cases[*at])
    }

    /// Puts `other`'s cases beside these: shards of one stage, or stages that ran on other machines. Neither came after the other, so
    /// of a case that both have the worse verdict stands.
    pub fn merge(&mut self, other: &RunSummary) {
        if self.started.is_none() {
            *self = other.clone();
            return;
        }
        self.run.stages.extend(other.run.stages.iter().filter(|stage| !self.run.stages.contains(stage)).cloned().collect::<Vec<_>>());
        self.started = self.started.min(other.started.or(self.started));
        self.seconds = self.seconds.max(other.seconds);
        // One that was killed has no code, and neither have both together.
        self.exit = self.exit.zip(other.exit).map(|(one, two)| one.max(two));
        for stage in &other.stages {
            match self.stages.iter_mut().find(|found| found.name == stage.name) {
                Some(found) => {
                    found.started = found.started.min(stage.started);
                    found.seconds = found.seconds.max(stage.seconds);
                    found.open |= stage.open;
                }
                None => self.stages.push(stage.clone()),
            }
        }
        for case in &other.cases {
            match self.places.get(&case.end.case) {
                Some(at) if severity(case) < severity(&self.cases[*at]) => self.cases[*at] = case.clone(),
                Some(_) => {}
                None => {
                    self.places.insert(case.end.case.clone(), self.cases.len());
                    self.cases.push(case.clone());
                }
            }
        }
        self.running.extend(other.running.iter().cloned());
    }

    /// The exit code that all cases together call for; the recorded one where it says more than they do (a repair that was to fail
    /// the run, changes that were to be pending). A run that recorded no end was killed.
    pub fn overall_exit(&self) -> u8 {
        match worst(self.cases.iter().filter_map(|case| case.end.outcome.fault()).map(|fault| fault.class)) {
            0 => self.exit.unwrap_or(exit_code(Class::Cancelled)),
            code if self.exit == Some(130) && code == 143 => 130,
            code => code,
        }
    }
}

impl Running {
    /// The case as a report must show it when it will never end.
    pub fn unfinished(&self, why: &str) -> CaseEnd {
        let message = if self.progress.is_empty() { why.to_owned() } else { format!("{why}; last seen: {}", self.progress) };
        CaseEnd {
            case: self.case.clone(),
            started: self.started,
            seconds: Duration::ZERO,
            outcome: Outcome::Failed(Box::new(Fault::new(Code::Cancelled, message))),
            place: None,
            attempts: Vec::new(),
            warnings: Vec::new(),
            properties: Vec::new(),
            output: String::new(),
        }
    }
}

impl Counts {
    pub fn of<'a>(cases: impl IntoIterator<Item = &'a CaseResult>) -> Self {
        let mut counts = Self::default();
        for case in cases {
            counts.cases += 1;
            counts.warnings += case.end.warnings.len();
            *match case.verdict() {
                Verdict::Failed => &mut counts.failed,
                Verdict::Error => &mut counts.errors,
                Verdict::Repaired => &mut counts.repaired,
                Verdict::WouldChange => &mut counts.would_change,
                Verdict::Changed => &mut counts.changed,
                Verdict::Unchanged => &mut counts.unchanged,
                Verdict::Skipped => &mut counts.skipped,
            } += 1;
        }
        counts
    }

    /// `1 failed, 2 changed, 9 ok`: the worst first, nothing that is zero.
    pub fn words(&self) -> String {
        let parts = [
            (self.failed, "failed"),
            (self.errors, "not carried out"),
            (self.repaired, "repaired"),
            (self.changed, "changed"),
            (self.would_change, "would change"),
            (self.unchanged, "ok"),
            (self.skipped, "skipped"),
        ];
        let mut words: Vec<String> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
        if self.warnings > 0 {
            words.push(count(self.warnings, "warning"));
        }
        words.join(", ")
    }
}

/// Failed cases, the most telling first, else in the order of their ends.
pub fn worst_first<'a>(cases: impl IntoIterator<Item = &'a CaseResult>) -> Vec<(&'a CaseResult, &'a Fault)> {
    let mut failed: Vec<_> = cases.into_iter().filter_map(|case| Some((case, case.end.outcome.fault()?))).collect();
    failed.sort_by_key(|(_, fault)| rank(fault.class));
    failed
}

fn severity(case: &CaseResult) -> (usize, Verdict) {
    (case.end.outcome.fault().map_or(usize::MAX, |fault| rank(fault.class)), case.verdict())
}

/// Why the run ends with this code, in the words of the table of exit codes.
pub fn why(exit: u8, counts: Counts) -> &'static str {
    match exit {
        0 => "",
        1 => "a defect of this tool",
        2 => "the command line is wrong",
        3 => "a file is invalid, or a static check found something",
        4 => "a prerequisite is missing",
        5 if counts.failed == 0 && counts.repaired > 0 => "a fault was repaired, and `--fail-on-repair` was given",
        5 => "what was deployed, published or asked is judged broken",
        6 => "timed out without a sharper cause",
        7 => "something could not be carried out or observed",
        8 => "something was left behind",
        9 => "another run holds the lock or the release",
        10 => "changes are pending",
        11 => "approval is needed",
        130 => "interrupted (SIGINT)",
        143 => "interrupted (SIGTERM)",
        _ => "unknown",
    }
}

/// The case with texts of a size that reports can hold in memory and show.
fn capped(end: &CaseEnd) -> CaseEnd {
    let mut end = end.clone();
    shorten(&mut end.output, CAP);
    if let Outcome::Failed(fault) = &mut end.outcome {
        fault.evidence.iter_mut().for_each(|evidence| shorten(&mut evidence.text, CAP));
    }
    for attempt in &mut end.attempts {
        attempt.fault.evidence.iter_mut().for_each(|evidence| shorten(&mut evidence.text, CAP / 4));
    }
    end
}

fn shorten(text: &mut String, max: usize) {
    if text.len() > max {
        *text = cap(text, max).into_owned();
    }
}

#[cfg(test)]
mod tests;
