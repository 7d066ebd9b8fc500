//! GitHub Actions: a step summary that fits its limits, annotations at the lines that are to blame, a folded group per stage, and
//! commands disarmed in what others wrote.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::base::fault::Fault;
use crate::base::text::{count, seconds, tail_lines};
use crate::engine::event::{Event, Stamped};
use crate::report::Sink;
use crate::report::junit::{in_repository, verdict_line};
use crate::report::summary::{CaseResult, Counts, RunSummary, Verdict, why, worst_first};
use crate::report::text::{cap, clean, escape_html, line};

/// GitHub drops a whole step summary that is longer, in bytes.
const BUDGET: usize = 1 << 20;
/// GitHub shows 10 errors of a step and drops the rest without a word.
const ANNOTATIONS: usize = 9;
/// Evidence of one failure in the step summary, in bytes.
const EVIDENCE: usize = 8 * 1024;

/// What is done when the run is a GitHub job.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `GITHUB_STEP_SUMMARY`
    pub step_summary: Option<PathBuf>,
}

/// The commands that annotate the worst failures: at most nine, and one that tells how many there are besides.
pub fn annotations(run: &RunSummary, root: Option<&Path>) -> Vec<String> {
    let worst = worst_first(run.own());
    let mut all: Vec<String> = worst.iter().take(ANNOTATIONS).map(|(case, fault)| annotation(case, fault, root)).collect();
    if worst.len() > ANNOTATIONS {
        all.push(command("error", &[("title", "meshstep".into())], &format!("and {} more failed", worst.len() - ANNOTATIONS)));
    }
    let warnings = run.own().flat_map(|case| case.end.warnings.iter().map(move |warning| (case, warning)));
    for (case, warning) in warnings.take(ANNOTATIONS) {
        all.push(command("warning", &fields(case, root), &line(warning, 500)));
    }
    all
}

fn annotation(case: &CaseResult, fault: &Fault, root: Option<&Path>) -> String {
    let mut message = line(&fault.message, 1000);
    for step in fault.next_steps() {
        let _infallible = write!(message, "\nnext: {}", line(&step, 500));
    }
    command("error", &fields(case, root), &message)
}

fn fields(case: &CaseResult, root: Option<&Path>) -> Vec<(&'static str, String)> {
    let mut fields = Vec::new();
    if let Some(place) = &case.end.place {
        fields.push(("file", line(&in_repository(&place.file, root), 500)));
        if place.line > 0 {
            fields.push(("line", place.line.to_string()));
        }
    }
    fields.push(("title", title(case)));
    fields
}

/// `deploy app1-service: rollout prod`
fn title(case: &CaseResult) -> String {
    let id = &case.end.case;
    let service = id.service.as_deref().map(|service| format!(" {service}")).unwrap_or_default();
    line(&format!("{}{service}: {}", id.stage, id.name), 255)
}

/// A workflow command with its data escaped.
pub fn command(name: &str, fields: &[(&str, String)], data: &str) -> String {
    let escape = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let field = |(key, value): &(&str, String)| format!("{key}={}", escape(value).replace(':', "%3A").replace(',', "%2C"));
    let fields: Vec<String> = fields.iter().map(field).collect();
    let space = if fields.is_empty() { "" } else { " " };
    format!("::{name}{space}{}::{}", fields.join(","), escape(data))
}

/// Foreign lines between a pair of commands that stop the runner from obeying them.
pub fn wrap_foreign(lines: Vec<String>) -> Vec<String> {
    if !lines.iter().any(|line| line.contains("::") || line.contains("##[")) {
        return lines;
    }
    // Whoever wrote the lines must not be able to know it.
    let token = format!("meshstep-{:016x}", RandomState::new().build_hasher().finish());
    let mut out = vec![format!("::stop-commands::{token}")];
    out.extend(lines);
    out.push(format!("::{token}::"));
    out
}

/// A line that cannot be taken for a command: the runner obeys `::x::` at a line's start and `##[x]` anywhere in it.
pub fn disarm(text: &str) -> String {
    let text = text.replace("##[", "## [");
    if text.trim_start().starts_with("::") { format!("\u{200b}{text}") } else { text }
}

/// Markdown of at most `budget` bytes: failures first, then what was repaired or changed, then the rest while there is room.
pub fn step_summary(run: &RunSummary, exit: u8, budget: usize) -> String {
    let counts = Counts::of(run.own());
    let verdict = match exit {
        0 if counts.repaired > 0 => "🔧 repaired".to_owned(),
        0 if run.run.dry_run => "🔍 dry run: nothing was touched".to_owned(),
        0 => "✅ passed".to_owned(),
        _ => format!("❌ exit {exit}: {}", why(exit, counts)),
    };
    let mut text = format!("## {} · {} · {verdict}\n\n", escaped(&run.run.pipeline, 100), escaped(&run.run.environment, 100));
    let _infallible = writeln!(text, "{} in {}: {}\n", count(counts.cases, "case"), seconds(run.own_seconds()), counts.words());
    // What says that something was left out must fit as well.
    let room = budget.saturating_sub(256);
    let worst = worst_first(run.own());
    let short: Vec<String> = worst.iter().map(|(case, fault)| failure(case, fault, 0)).collect();
    let mut reserved: usize = short.iter().map(String::len).sum();
    for (at, (case, fault)) in worst.iter().enumerate() {
        reserved -= short[at].len();
        let whole = failure(case, fault, EVIDENCE);
        // With its evidence only while every later failure is still named.
        let part = if text.len() + whole.len() + reserved <= room { &whole } else { &short[at] };
        if text.len() + part.len() > room {
            let _infallible = writeln!(text, "\n… and {} more failed; see the reports", worst.len() - at);
            return text;
        }
        text.push_str(part);
    }
    let mut left_out = 0;
    for (verdict, heading) in [(Verdict::Repaired, "Repaired"), (Verdict::WouldChange, "Would change"), (Verdict::Changed, "Changed")] {
        table(&mut text, run.own().filter(|case| case.verdict() == verdict), heading, room, &mut left_out);
    }
    let warned: Vec<String> = run.own().flat_map(|case| case.end.warnings.iter().map(|warning| row(&[&title(case), warning]))).collect();
    rows(&mut text, &warned, "Warnings", room, &mut left_out);
    let rest = run.own().filter(|case| matches!(case.verdict(), Verdict::Unchanged | Verdict::Skipped));
    let rest: Vec<String> = rest.map(case_row).collect();
    let summary = format!("<details><summary>{} ok or skipped</summary>\n\n", rest.len());
    if !rest.is_empty() && text.len() + summary.len() < room {
        text.push_str(&summary);
        rows(&mut text, &rest, "", room, &mut left_out);
        text.push_str("\n</details>\n");
    }
    if left_out > 0 {
        let _infallible = writeln!(text, "\n… and {left_out} more; see the reports");
    }
    text
}

fn failure(case: &CaseResult, fault: &Fault, evidence: usize) -> String {
    let mut text = format!("### ❌ {}\n\n**{}**\n\n", escaped(&title(case), 255), escaped(&fault.message, 1000));
    if let Some(place) = &case.end.place {
        let _infallible = writeln!(text, "- at <code>{}</code>", escaped(&place.to_string(), 500));
    }
    for step in fault.next_steps() {
        let _infallible = writeln!(text, "- next: {}", escaped(&step, 500));
    }
    if let Some((_, curl)) = case.end.properties.iter().find(|(name, _)| name == "curl") {
        let _infallible = writeln!(text, "- try: <code>{}</code>", escaped(curl, 1000));
    }
    let _infallible = writeln!(text, "- code: <code>{}</code>\n", fault.code);
    for piece in fault.evidence.iter().filter(|_| evidence > 0).take(4) {
        let shown = cap(&tail_lines(&clean(&piece.text), 60), evidence / 4).into_owned();
        let _infallible = writeln!(
            text,
            "<details><summary>{}</summary>\n\n<pre>{}</pre>\n\n</details>\n",
            escaped(&piece.title, 200),
            escape_html(&shown).replace("\n\n", "\n&#8203;\n")
        );
    }
    text
}

/// One line in which no character means anything to Markdown or HTML.
fn escaped(text: &str, max: usize) -> String {
    let mut out = String::new();
    for c in escape_html(&line(text, max)).chars() {
        if matches!(c, '|' | '*' | '_' | '`' | '[' | ']' | '\\' | '~') || c == '@' {
            let _infallible = write!(out, "&#{};", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

fn row(cells: &[&str]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| escaped(cell, 300)).collect();
    format!("| {} |\n", cells.join(" | "))
}

fn case_row(case: &CaseResult) -> String {
    row(&[&title(case), &verdict_line(&case.end.outcome)])
}

fn table<'a>(text: &mut String, cases: impl Iterator<Item = &'a CaseResult>, heading: &str, room: usize, left_out: &mut usize) {
    rows(text, &cases.map(case_row).collect::<Vec<_>>(), heading, room, left_out);
}

fn rows(text: &mut String, rows: &[String], heading: &str, room: usize, left_out: &mut usize) {
    let head = if heading.is_empty() { String::new() } else { format!("### {heading}\n\n") } + "| case | |\n|---|---|\n";
    if rows.is_empty() || text.len() + head.len() + rows[0].len() > room {
        *left_out += rows.len();
        return;
    }
    text.push_str(&head);
    for (at, row) in rows.iter().enumerate() {
        if text.len() + row.len() > room {
            *left_out += rows.len() - at;
            break;
        }
        text.push_str(row);
    }
    text.push('\n');
}

pub(super) struct StepSummary {
    path: PathBuf,
    trouble: Option<String>,
}

impl StepSummary {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, trouble: None }
    }

    /// The file may hold what other tools of the step wrote.
    fn append(&self, run: &RunSummary, exit: u8) -> io::Result<()> {
        let taken = fs::metadata(&self.path).map_or(0, |meta| usize::try_from(meta.len()).unwrap_or(BUDGET));
        let text = step_summary(run, exit, BUDGET.saturating_sub(taken));
        if taken + text.len() <= BUDGET {
            OpenOptions::new().append(true).create(true).open(&self.path)?.write_all(text.as_bytes())?;
        }
        Ok(())
    }
}

impl Sink for StepSummary {
    fn event(&mut self, event: &Stamped, run: &RunSummary) {
        if let Event::RunEnded { exit, .. } = &event.event
            && let Err(error) = self.append(run, *exit)
        {
            self.trouble = Some(format!("cannot write the step summary `{}`: {error}", self.path.display()));
        }
    }

    fn trouble(&mut self) -> Option<String> {
        self.trouble.take()
    }
}

#[cfg(test)]
mod tests;
