//! One `<testcase>`: the verdict, what proves it, and what to do next, in the order in which readers show it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use quick_junit::{NonSuccessKind, Property, TestCase, TestCaseStatus, TestRerun};

use crate::base::fault::Fault;
use crate::engine::event::{Attempt, CaseEnd};
use crate::engine::outcome::{Change, Outcome, is_failure};
use crate::report::junit::xml::Words;
use crate::report::junit::{Attachments, Dialect, Flavor, Named, stamp};
use crate::report::logs;
use crate::report::text::{CAP, cap, clean, line};

/// Characters of a `message`: one line that readers show as a title.
const MESSAGE: usize = 200;
/// Attempts that are shown one by one; the first and the last matter.
const ATTEMPTS: usize = 20;

pub(super) fn render(
    Named { case, class, name }: &Named<'_>,
    environment: &str,
    build_url: Option<&str>,
    dialect: &Dialect,
    words: &mut Words,
) -> TestCase {
    let end = &case.end;
    let mut out = TestCase::new(name, status(end));
    out.set_classname(words.of(class));
    out.set_time(end.seconds);
    let log = case.log.then(|| logs::relative(environment, &end.case));
    if dialect.flavor == Flavor::Rich {
        out.extra.insert(words.of("timestamp"), stamp(end.started).into());
        if let Some(place) = &end.place {
            out.extra.insert("file".into(), line(&in_repository(&place.file, dialect.root.as_deref()), 500).into());
            if place.line > 0 {
                out.extra.insert("line".into(), place.line.to_string().into());
            }
        }
        for (name, value) in properties(end, log.as_deref(), dialect) {
            out.add_property(Property::new(words.of(&line(&name, 100)), words.of(&line(&value, 1000))));
        }
    }
    out.set_system_out(words.of(&system_out(end, log.as_deref(), build_url, dialect)));
    out
}

/// The path from the repository's root: what annotations are pinned to.
pub(in crate::report) fn in_repository(file: &str, root: Option<&Path>) -> String {
    let path = std::path::absolute(file).unwrap_or_else(|_| PathBuf::from(file));
    let inside = root.and_then(|root| path.strip_prefix(root).ok());
    inside.map_or_else(|| file.to_owned(), |inside| inside.display().to_string())
}

fn status(end: &CaseEnd) -> TestCaseStatus {
    match &end.outcome {
        Outcome::Passed { .. } => {
            let mut status = TestCaseStatus::success();
            status.add_reruns(reruns(&end.attempts, 1));
            status
        }
        Outcome::Repaired { story } => {
            let mut status = TestCaseStatus::success();
            status.add_reruns(reruns(&end.attempts, 1));
            if end.attempts.is_empty() {
                status.add_rerun(rerun("run.repaired", story, story));
            }
            status
        }
        Outcome::Skipped { reason } => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(line(reason, MESSAGE)).set_description(line(reason, 1000));
            status
        }
        Outcome::Failed(fault) => {
            let kind = if is_failure(fault.class) { NonSuccessKind::Failure } else { NonSuccessKind::Error };
            let mut status = TestCaseStatus::non_success(kind);
            let all = end.attempts.len() + 1;
            let message = if all > 1 { format!("{} (after {all} attempts)", line(&fault.message, MESSAGE - 24)) } else { fault.message.clone() };
            status.set_message(line(&message, MESSAGE)).set_type(fault.code.info().junit).set_description(body(end, fault));
            // The element itself stands for the first attempt; each later one follows.
            if all > 1 {
                status.add_reruns(reruns(&end.attempts[1..], 2));
                status.add_rerun(rerun(fault.code.info().junit, &format!("attempt {all}: {}", fault.message), &evidence(fault, CAP / 4)));
            }
            status
        }
    }
}

/// Jenkins keeps the `…Failure` forms only, and of them only `stackTrace`.
fn reruns(attempts: &[Attempt], first: usize) -> Vec<TestRerun> {
    let shown = |at: usize| at < ATTEMPTS / 2 || at + ATTEMPTS / 2 >= attempts.len();
    let numbered = attempts.iter().enumerate().filter(|(at, _)| shown(*at));
    let one = |(at, attempt): (usize, &Attempt)| {
        let message = format!("attempt {}: {}", first + at, attempt.fault.message);
        rerun(attempt.fault.code.info().junit, &message, &evidence(&attempt.fault, CAP / 4))
    };
    numbered.map(one).collect()
}

fn rerun(kind: &str, message: &str, text: &str) -> TestRerun {
    let mut rerun = TestRerun::new(NonSuccessKind::Failure);
    let message = line(message, MESSAGE);
    let text = clean(&cap(text, CAP / 2));
    rerun.set_type(kind).set_stack_trace(if text.trim().is_empty() { message.clone() } else { format!("{message}\n{text}") }).set_message(message);
    rerun
}

/// Evidence of at most `max` bytes.
fn evidence(fault: &Fault, max: usize) -> String {
    let share = max / fault.evidence.len().max(1);
    let mut text = String::new();
    for evidence in &fault.evidence {
        let title = line(&evidence.title, 200);
        let shown = cap(evidence.text.trim_end(), share.saturating_sub(title.len() + 16)).into_owned();
        let _infallible = writeln!(text, "\n--- {title} ---\n{shown}");
    }
    text
}

/// The message first (GitLab shows nothing else of it), then what proves it; place and next step always fit in.
fn body(end: &CaseEnd, fault: &Fault) -> String {
    let mut after = String::new();
    if !end.attempts.is_empty() {
        after.push_str("\nattempts before:\n");
        for (at, text) in attempt_lines(&end.attempts) {
            let _infallible = writeln!(after, "  {at}. {text}");
        }
    }
    after.push('\n');
    if let Some(place) = &end.place {
        let _infallible = writeln!(after, "at: {}", line(&place.to_string(), 500));
    }
    for step in fault.next_steps() {
        let _infallible = writeln!(after, "next: {}", line(&step, 500));
    }
    if let Some((_, curl)) = end.properties.iter().find(|(name, _)| name == "curl") {
        let _infallible = writeln!(after, "try: {}", line(curl, 1000));
    }
    let _infallible = write!(after, "code: {} (`meshstep explain {}`)", fault.code, fault.code);
    let message = line(&fault.message, 1000);
    let room = CAP.saturating_sub(message.len() + after.len() + 256);
    clean(&format!("{message}\n{}{after}", evidence(fault, room)))
}

/// Attempts by number; from a long row the middle is left out.
pub(in crate::report) fn attempt_lines(attempts: &[Attempt]) -> Vec<(usize, String)> {
    let shown = |at: usize| at < ATTEMPTS / 2 || at + ATTEMPTS / 2 >= attempts.len();
    attempts.iter().enumerate().filter(|(at, _)| shown(*at)).map(|(at, attempt)| (at + 1, line(&attempt.fault.message, MESSAGE))).collect()
}

/// The verdict in one line, as every report words it.
pub fn verdict_line(outcome: &Outcome) -> String {
    let (word, text) = match outcome {
        Outcome::Passed { change: Change::None, note } => ("ok", note.as_str()),
        Outcome::Passed { change: Change::Changed, note } => ("changed", note.as_str()),
        Outcome::Passed { change: Change::WouldChange, note } => ("would change", note.as_str()),
        Outcome::Repaired { story } => ("repaired", story.as_str()),
        Outcome::Skipped { reason } => ("skipped", reason.as_str()),
        Outcome::Failed(fault) if is_failure(fault.class) => ("failed", fault.message.as_str()),
        Outcome::Failed(fault) => ("could not be carried out", fault.message.as_str()),
    };
    let text = line(text, 1000);
    if text.is_empty() { word.to_owned() } else { format!("{word}: {text}") }
}

/// Jenkins keeps 500 characters of each end when the case passed: verdict and links come first.
fn system_out(end: &CaseEnd, log: Option<&str>, build_url: Option<&str>, dialect: &Dialect) -> String {
    let mut text = verdict_line(&end.outcome);
    if text.len() > 300 && !matches!(end.outcome, Outcome::Repaired { .. }) {
        text = line(&text, 300);
    }
    text.push('\n');
    if let Some(log) = log {
        let _infallible = writeln!(text, "log: {}", url_of(log, dialect).unwrap_or_else(|| dialect.dir.join(log).display().to_string()));
        if let Some(path) = attachment(log, dialect) {
            let _infallible = writeln!(text, "[[ATTACHMENT|{path}]]");
        }
    } else if let (Some(url), Outcome::Failed(_)) = (build_url, &end.outcome) {
        let _infallible = writeln!(text, "build: {}", line(url, 200));
    }
    for warning in &end.warnings {
        let _infallible = writeln!(text, "warning: {}", line(warning, 500));
    }
    if !end.attempts.is_empty() {
        let _infallible = writeln!(text, "attempts that failed before:");
        for (at, message) in attempt_lines(&end.attempts) {
            let _infallible = writeln!(text, "  {at}. {message}");
        }
    }
    if !end.output.is_empty() {
        text.push('\n');
        let room = CAP.saturating_sub(text.len() + 256);
        text.push_str(&cap(&clean(&end.output), room));
    }
    clean(&text)
}

fn attachment(log: &str, dialect: &Dialect) -> Option<String> {
    let path = dialect.dir.join(log);
    match dialect.attachments {
        Attachments::None => None,
        Attachments::Absolute => Some(std::path::absolute(&path).unwrap_or(path).display().to_string()),
        Attachments::Relative => Some(in_repository(&path.display().to_string(), dialect.root.as_deref())),
    }
}

fn url_of(log: &str, dialect: &Dialect) -> Option<String> {
    let base = dialect.artifacts_url.as_deref()?;
    Some(format!("{}/{log}", base.trim_end_matches('/')))
}

/// Few and short: Jenkins shows them in a table and makes links of those that are.
fn properties(end: &CaseEnd, log: Option<&str>, dialect: &Dialect) -> Vec<(String, String)> {
    let mut all = end.properties.clone();
    let mut add = |name: &str, value: String| {
        if !all.iter().any(|(known, _)| known == name) {
            all.push((name.to_owned(), value));
        }
    };
    if !end.attempts.is_empty() {
        add("attempts", (end.attempts.len() + 1).to_string());
    }
    match &end.outcome {
        Outcome::Failed(fault) => add("code", fault.code.info().name.to_owned()),
        Outcome::Repaired { story } => add("repaired", line(story, 500)),
        Outcome::Passed { change: Change::Changed, .. } => add("change", "changed".into()),
        Outcome::Passed { change: Change::WouldChange, .. } => add("change", "would change".into()),
        Outcome::Passed { .. } | Outcome::Skipped { .. } => {}
    }
    if !end.warnings.is_empty() {
        add("warning", end.warnings.join("; "));
    }
    if let Some(log) = log {
        add("log.url", url_of(log, dialect).unwrap_or_else(|| log.to_owned()));
    }
    all
}
