//! JUnit XML as Jenkins, GitHub's readers and GitLab understand it: `TEST-<stage>.xml`, one suite each.
//!
//! Written while the run goes on: a case that has not ended yet stands in the file as an error `run.aborted`, so that a run that is
//! killed outright leaves a file that tells the truth. Never nested, never empty.
//!
//! quick-junit is the model; `report::text` filters before it, because its own filter lets U+FFFE pass and drops tabs. The other
//! candidate, junit-report (0.9.1, the newest, tried on 2026-11-23), still writes ill-formed XML for ANSI sequences, control characters and
//! U+FFFE everywhere and for `]]>` in output, and has no properties, no retries, no case time stamps and no `line`.

mod case;
mod xml;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use quick_junit::{Property, Report, TestSuite};

use crate::base::fault::Class;
use crate::engine::event::{CaseEnd, CaseId, Event, Stamped};
use crate::engine::outcome::Outcome;
use crate::report::summary::{CaseResult, Counts, RunSummary, SETUP, StageRun};
use crate::report::text::{clean, line};
use crate::report::{Options, Sink, write_whole};

pub use case::verdict_line;
pub(super) use case::{attempt_lines, in_repository};
pub(super) use xml::serialize;

/// Which readers the file is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flavor {
    /// All that Jenkins' junit step, GitHub's readers and GitLab know.
    #[default]
    Rich,
    /// Valid by junit-10.xsd, which Jenkins' xunit step demands: no place, time stamp or properties of a case.
    Strict,
}

/// How an attached log is named in `[[ATTACHMENT|PATH]]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attachments {
    #[default]
    None,
    /// Jenkins.
    Absolute,
    /// GitLab: relative to the project's folder.
    Relative,
}

/// What rendering needs to know beside the run.
#[derive(Clone, Debug, Default)]
pub struct Dialect {
    pub flavor: Flavor,
    pub attachments: Attachments,
    pub dir: PathBuf,
    pub root: Option<PathBuf>,
    pub artifacts_url: Option<String>,
    /// The id is the CI's own.
    pub build_tag: bool,
}

impl Dialect {
    pub fn of(options: &Options) -> Self {
        Self {
            flavor: options.flavor,
            attachments: options.attachments,
            dir: options.dir.clone(),
            root: options.root.clone(),
            artifacts_url: options.artifacts_url.clone(),
            build_tag: options.run_id_from_ci,
        }
    }
}

/// `<env>.<stage>.<service>`: Jenkins splits at the last dot into package and class, so no segment has one.
pub fn classname(environment: &str, case: &CaseId) -> String {
    let segments = [environment, &case.stage, case.service.as_deref().unwrap_or_default()];
    let segments: Vec<String> = segments.iter().map(|segment| line(segment, 120).replace('.', "_")).filter(|segment| !segment.is_empty()).collect();
    segments.join(".")
}

/// `<env>.<stage>`
fn suite_name(environment: &str, stage: &str) -> String {
    classname(environment, &CaseId { stage: stage.to_owned(), service: None, name: String::new() })
}

/// As it stands in a file: how a file of another build is told.
pub(super) fn run_id_property(run_id: &str) -> String {
    format!(r#"<property name="run.id" value="{}"/>"#, crate::report::text::escape_html(&line(run_id, 500)).replace("&#39;", "&apos;"))
}

/// `2026-11-22T22:04:05.123Z`
fn stamp(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// Writes the whole file of one stage.
pub fn render(run: &RunSummary, stage: &StageRun, dialect: &Dialect, out: &mut impl Write) -> io::Result<()> {
    let environment = &run.run.environment;
    let mut suite = TestSuite::new(suite_name(environment, &stage.name));
    suite.extra.insert("timestamp".into(), stamp(stage.started).into());
    if !run.run.hostname.is_empty() {
        suite.extra.insert("hostname".into(), line(&run.run.hostname, 200).into());
    }
    properties(&mut suite, run, dialect);
    let open = unended(run, stage);
    let cases = || run.stage_cases(&stage.name).chain(&open);
    let counts = Counts::of(cases());
    (suite.tests, suite.failures, suite.errors, suite.skipped) = (counts.cases, counts.failed, counts.errors, counts.skipped);
    let so_far = cases().map(|case| case.end.seconds).max().unwrap_or_default();
    let wall = if stage.open { stage.seconds.max(so_far) } else { stage.seconds };
    suite.set_time(wall);
    let mut report = Report::new(line(&run.run.pipeline, 200));
    report.set_time(wall);
    report.add_test_suite(suite);
    let mut classes: HashMap<(&str, Option<&str>), String> = HashMap::new();
    for id in cases().map(|case| &case.end.case) {
        classes.entry((&id.stage, id.service.as_deref())).or_insert_with(|| classname(environment, id));
    }
    let plain: Vec<Plain<'_>> = cases()
        .map(|case| {
            let id = &case.end.case;
            (case, classes[&(id.stage.as_str(), id.service.as_deref())].as_str(), line(&id.name, 250))
        })
        .collect();
    let named = named(&plain);
    xml::write(&report, out, &named, |named, words| case::render(named, environment, run.run.build_url.as_deref(), dialect, words))
}

/// A case with its class and its cleaned name.
type Plain<'a> = (&'a CaseResult, &'a str, String);

/// A case with its class and name in the file.
struct Named<'a> {
    case: &'a CaseResult,
    class: &'a str,
    name: Cow<'a, str>,
}

/// Readers find a case's history by class and name, and take a second one for a retry.
fn named<'a>(cases: &'a [Plain<'a>]) -> Vec<Named<'a>> {
    let mut taken = HashSet::new();
    let unique = |(case, class, plain): &'a Plain<'a>| {
        let (mut name, mut n) = (Cow::Borrowed(plain.as_str()), 1);
        while !taken.insert((*class, name.clone())) {
            n += 1;
            name = format!("{plain} ({n})").into();
        }
        Named { case, class, name }
    };
    cases.iter().map(unique).collect()
}

/// What stands beside the cases that ended: those that run, or a stand-in where there is none at all.
fn unended(run: &RunSummary, stage: &StageRun) -> Vec<CaseResult> {
    let running = run.running.iter().filter(|running| running.case.stage == stage.name);
    let mut open: Vec<CaseEnd> = running.map(|running| running.unfinished("not ended when this report was written")).collect();
    if open.is_empty() && run.stage_cases(&stage.name).next().is_none() {
        open.push(stand_in(stage));
    }
    open.into_iter().map(|end| CaseResult { end, log: false, earlier: false }).collect()
}

/// Readers drop an empty suite, and Jenkins fails a build without any test.
fn stand_in(stage: &StageRun) -> CaseEnd {
    let id = |name: &str| CaseId { stage: stage.name.clone(), service: None, name: name.to_owned() };
    let running = crate::report::summary::Running { case: id(SETUP), started: stage.started, progress: String::new() };
    let end = running.unfinished("killed before the first case");
    if stage.open { end } else { CaseEnd { case: id(&stage.name), outcome: Outcome::Skipped { reason: "nothing to do".into() }, ..end } }
}

fn properties(suite: &mut TestSuite, run: &RunSummary, dialect: &Dialect) {
    let run = &run.run;
    let mut add = |name: &str, value: &str| {
        suite.add_property(Property::new(name, line(value, 500)));
    };
    // First, where `runlog` looks for it.
    add("run.id", &run.run_id);
    if dialect.build_tag {
        add("build.tag", &run.run_id);
    }
    if let Some(url) = &run.build_url {
        add("build.url", url);
    }
    add("tool", &run.tool);
    add("pipeline", &run.pipeline);
    if run.dry_run {
        add("dry.run", "true");
    }
}

/// `TEST-<stage>[-<cell>].xml`
pub fn file_name(stage: &str, cell: Option<&str>) -> String {
    let safe = |text: &str| clean(text).chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect::<String>();
    match cell {
        Some(cell) => format!("TEST-{}-{}.xml", safe(stage), safe(cell)),
        None => format!("TEST-{}.xml", safe(stage)),
    }
}

/// Writes the files while the run goes on.
pub(super) struct Junit {
    dir: PathBuf,
    cell: Option<String>,
    dialect: Dialect,
    dirty: BTreeSet<String>,
    last: Option<Instant>,
    /// Until the next write that nothing forces: 500 ms, more when writing itself takes long.
    pause: Duration,
    aborted: bool,
    trouble: Option<String>,
}

const PAUSE: Duration = Duration::from_millis(500);

impl Junit {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            dir: options.dir.clone(),
            cell: options.cell.clone(),
            dialect: Dialect::of(options),
            dirty: BTreeSet::new(),
            last: None,
            pause: PAUSE,
            aborted: false,
            trouble: None,
        }
    }

    fn touched(&mut self, stage: &str) {
        if !self.dirty.contains(stage) {
            self.dirty.insert(stage.to_owned());
        }
    }

    fn write(&mut self, run: &RunSummary) {
        let start = Instant::now();
        for name in std::mem::take(&mut self.dirty) {
            let Some(stage) = run.stages.iter().find(|stage| stage.name == name) else { continue };
            let path: &Path = &self.dir.join(file_name(&name, self.cell.as_deref()));
            if let Err(error) = write_whole(path, |file| render(run, stage, &self.dialect, file)) {
                self.trouble = Some(format!("cannot write `{}`: {error}", path.display()));
            }
        }
        self.last = Some(Instant::now());
        self.pause = PAUSE.max(start.elapsed() * 10);
    }
}

impl Sink for Junit {
    fn event(&mut self, event: &Stamped, run: &RunSummary) {
        match &event.event {
            Event::CaseStarted { case } => self.touched(&case.stage),
            Event::CaseEnded(end) => {
                self.touched(&end.case.stage);
                // The first aborted case: whoever aborts may kill at any moment. The other running ones stand as errors already.
                let cancelled = end.outcome.fault().is_some_and(|fault| fault.class == Class::Cancelled);
                if cancelled && !std::mem::replace(&mut self.aborted, true) {
                    self.write(run);
                }
            }
            // While there is little to write: whenever the run is killed, there is a file. The next tick need not wait for this one.
            Event::StageStarted { stage } => {
                self.touched(stage);
                self.write(run);
                self.last = None;
            }
            Event::StageEnded { stage, .. } => {
                self.touched(stage);
                self.write(run);
            }
            Event::RunEnded { .. } => {
                self.dirty.extend(run.stages.iter().filter(|stage| stage.open).map(|stage| stage.name.clone()));
                self.write(run);
            }
            Event::RunStarted { .. } | Event::Progress { .. } | Event::Note { .. } | Event::Observed { .. } => {}
        }
    }

    fn tick(&mut self, run: &RunSummary) {
        if !self.dirty.is_empty() && self.last.is_none_or(|last| last.elapsed() >= self.pause) {
            self.write(run);
        }
    }

    fn trouble(&mut self) -> Option<String> {
        self.trouble.take()
    }
}

#[cfg(test)]
mod tests;
