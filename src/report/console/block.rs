//! What stands below a case that wants to be read, and the end of the run.

use crate::base::fault::{Evidence, Fault};
use crate::base::text::{count, head};
use crate::engine::outcome::Outcome;
use crate::report::console::style::{Paint, Style, mark};
use crate::report::console::{counts_line, more, never_started, subject};
use crate::report::junit::{attempt_lines, classname};
use crate::report::summary::{CaseResult, Counts, RunSummary, Verdict, why, worst_first};
use crate::report::text::{clean, line};

/// Lines of one piece of evidence; a failure is to fit on one screen.
const EVIDENCE: usize = 12;
/// Pieces of evidence.
const PIECES: usize = 3;
/// Failures in the summary.
const WORST: usize = 8;

/// What was found or done.
pub(super) fn note(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Passed { note, .. } => note,
        Outcome::Repaired { story } => story,
        Outcome::Skipped { reason } => reason,
        Outcome::Failed(fault) => &fault.message,
    }
}

/// The lines below a case's own; none for most.
pub(super) fn after(case: &CaseResult, style: Style, verbosity: i8, log: &dyn Fn(&CaseResult) -> String) -> Vec<String> {
    let mut block = Block { lines: Vec::new(), style, bar: Paint::Dim };
    match &case.end.outcome {
        Outcome::Failed(fault) => block.failure(case, fault, log),
        Outcome::Repaired { story } => {
            block.bar = Paint::Warn;
            block.text(story);
        }
        Outcome::Passed { .. } if verbosity >= 1 && !case.end.attempts.is_empty() => block.attempts(case),
        _ => {}
    }
    let passed = !case.end.outcome.is_failed();
    if verbosity >= 1 && passed || case.verdict() == Verdict::WouldChange {
        block.lines_of(&case.end.output, if verbosity >= 1 { 200 } else { 30 }, log(case));
    }
    if verbosity >= 1 && passed {
        for (name, value) in &case.end.properties {
            block.labelled(name, value);
        }
    }
    for warning in &case.end.warnings {
        block.bar = Paint::Warn;
        block.painted(Paint::Warn, &format!("warning: {}", line(warning, 500)));
    }
    block.lines
}

struct Block {
    lines: Vec<String>,
    style: Style,
    bar: Paint,
}

impl Block {
    fn push(&mut self, text: &str) {
        self.lines.push(format!("    {} {text}", self.style.paint(self.bar, "│")));
    }

    fn painted(&mut self, paint: Paint, text: &str) {
        for text in self.style.wrap(text, 6) {
            let text = self.style.paint(paint, &text);
            self.push(&text);
        }
    }

    fn text(&mut self, text: &str) {
        for text in self.style.wrap(&line(text, 1000), 6) {
            self.push(&text);
        }
    }

    fn labelled(&mut self, label: &str, text: &str) {
        // A command that is wrapped cannot be copied: the terminal breaks it softly.
        let text = line(text, 1000);
        let label = self.style.paint(Paint::Dim, &format!("{:<5}", line(label, 60)));
        self.push(&format!("{label} {text}"));
    }

    /// Foreign text in at most `max` lines, the end kept: there an error says what it was about.
    fn lines_of(&mut self, text: &str, max: usize, whole: String) {
        let text = clean(text);
        let rows = |text: &str| -> Vec<String> {
            let text = head(text, if self.style.width == 0 { 400 } else { 4 * self.style.width });
            self.style.wrap(&text, 8)
        };
        let all: Vec<String> = text.trim_end().lines().flat_map(rows).collect();
        let head = if all.len() <= max { all.len() } else { max / 4 };
        all[..head].iter().for_each(|text| self.push(&format!("  {text}")));
        if head < all.len() {
            let left_out = format!("  … {} lines between: `{whole}`", all.len() - max);
            self.push(&self.style.paint(Paint::Dim, &left_out));
            all[all.len() - (max - head)..].iter().for_each(|text| self.push(&format!("  {text}")));
        }
    }

    fn evidence(&mut self, evidence: &Evidence, max: usize, log: String) {
        let title = self.style.paint(Paint::Dim, &format!("{}:", line(&evidence.title, 200)));
        self.push(&title);
        self.lines_of(&evidence.text, max, log);
    }

    fn attempts(&mut self, case: &CaseResult) {
        let lines = attempt_lines(&case.end.attempts);
        let messages: Vec<String> = lines.iter().map(|(_, message)| message.clone()).collect();
        let texts = grouped(&messages);
        let what = if case.end.outcome.is_failed() { "also" } else { "first" };
        self.labelled(what, &format!("{} before: {}", count(case.end.attempts.len(), "failed attempt"), texts.join("; ")));
    }

    fn failure(&mut self, case: &CaseResult, fault: &Fault, log: &dyn Fn(&CaseResult) -> String) {
        self.bar = Paint::Bad;
        self.painted(Paint::Bad, &line(&fault.message, 1000));
        for evidence in fault.evidence.iter().take(PIECES) {
            self.evidence(evidence, EVIDENCE / fault.evidence.len().clamp(1, PIECES) + 2, log(case));
        }
        if fault.evidence.len() > PIECES {
            let left = self.style.paint(Paint::Dim, &format!("… {} more pieces of evidence: `{}`", fault.evidence.len() - PIECES, log(case)));
            self.push(&left);
        }
        if !case.end.attempts.is_empty() {
            self.attempts(case);
        }
        if let Some(place) = &case.end.place {
            self.labelled("at", &place.to_string());
        }
        for step in fault.next_steps() {
            self.labelled("next", &step);
        }
        if let Some((_, curl)) = case.end.properties.iter().find(|(name, _)| name == "curl") {
            self.labelled("try", curl);
        }
        self.labelled("code", &format!("{}: `meshstep explain {}`", fault.code, fault.code));
    }
}

/// `503, 503, timeout` as `503 (2 times), timeout`.
fn grouped(messages: &[String]) -> Vec<String> {
    let mut groups: Vec<(String, usize)> = Vec::new();
    for message in messages {
        match groups.last_mut() {
            Some((last, n)) if last == message => *n += 1,
            _ => groups.push((message.clone(), 1)),
        }
    }
    groups.into_iter().map(|(message, n)| if n > 1 { format!("{message} ({n} times)") } else { message }).collect()
}

/// The end of the run: the verdict, the worst first, and where the reports are.
pub(super) fn summary(run: &RunSummary, exit: u8, style: Style, dir: &str, artifacts_url: Option<&str>) -> Vec<String> {
    let counts = Counts::of(run.own());
    let mut lines = vec![String::new()];
    lines.push(verdict(run, exit, counts, style));
    lines.push(format!("  {}", counts_line(counts, run.own_seconds())));
    let worst = worst_first(run.own());
    for (case, fault) in worst.iter().take(WORST) {
        let (mark, word, paint) = mark(case.verdict());
        let class = classname(&run.run.environment, &case.end.case);
        lines.push(String::new());
        lines.push(format!("  {} {class} · {}", style.paint(paint, &format!("{mark} {word}")), line(&case.end.case.name, 200)));
        lines.extend(style.wrap(&line(&fault.message, 500), 4).iter().map(|text| format!("    {text}")));
        if let Some(place) = &case.end.place {
            lines.push(format!("    {} {place}", style.paint(Paint::Dim, "at  ")));
        }
        if let Some(step) = fault.next_steps().first() {
            lines.push(format!("    {} {}", style.paint(Paint::Dim, "next"), line(step, 500)));
        }
    }
    if worst.len() > WORST {
        lines.push(format!("    {}", more(worst.len() - WORST, "failed case", dir)));
    }
    extras(&mut lines, run, style);
    lines.push(String::new());
    let base = dir.trim_end_matches('/');
    lines.push(format!("  {} {base}/index.html, {base}/TEST-*.xml, {base}/run.jsonl", style.paint(Paint::Dim, "reports")));
    if let Some(url) = artifacts_url {
        lines.push(format!("          {}/index.html", line(url, 400).trim_end_matches('/')));
    }
    lines
}

fn verdict(run: &RunSummary, exit: u8, counts: Counts, style: Style) -> String {
    if exit != 0 {
        let word = if matches!(exit, 130 | 143) { "ABORTED" } else { "FAILED" };
        return format!("{}  exit {exit}: {}", style.paint(Paint::Bad, word), why(exit, counts));
    }
    let text = match counts {
        _ if run.run.dry_run && counts.would_change > 0 => format!("dry run: {} would change, nothing was touched", counts.would_change),
        _ if run.run.dry_run => "dry run: nothing would change".to_owned(),
        Counts { repaired: 1.., .. } => format!("repaired: {} found and cured", count(counts.repaired, "fault")),
        Counts { changed: 0, .. } => "nothing changed: everything was as it should be".to_owned(),
        _ => format!("{} changed", counts.changed),
    };
    format!("{}  {text}", style.paint(if counts.repaired > 0 { Paint::Warn } else { Paint::Good }, "OK"))
}

/// Repairs, warnings, retries and stages that did not start: short, each with its own word.
fn extras(lines: &mut Vec<String>, run: &RunSummary, style: Style) {
    let mut add = |paint: Paint, word: &str, text: String| {
        lines.push(format!("  {} {}", style.paint(paint, word), style.fit(&line(&text, 500), word.chars().count() + 3)));
    };
    let mut first = true;
    for case in run.own() {
        let name = subject(&case.end.case);
        let mut gap = |add: &mut dyn FnMut(Paint, &str, String)| {
            if std::mem::take(&mut first) {
                add(Paint::Dim, "", String::new());
            }
        };
        if case.verdict() == Verdict::Repaired {
            gap(&mut add);
            add(Paint::Warn, "↻ repaired", format!("{name}: {}", note(&case.end.outcome)));
        } else if !case.end.outcome.is_failed() && !case.end.attempts.is_empty() {
            gap(&mut add);
            add(Paint::Warn, "! retried", format!("{name}: {}", case.end.attempts[0].fault.message));
        }
        for warning in &case.end.warnings {
            gap(&mut add);
            add(Paint::Warn, "! warning", format!("{name}: {warning}"));
        }
    }
    let missing = never_started(run);
    if !missing.is_empty() {
        add(Paint::Warn, "! never started", missing.join(", "));
    }
}
