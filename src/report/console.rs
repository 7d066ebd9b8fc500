//! What an engineer reads at 3 a.m.: a line per case as it ends, what broke in one screen, and a summary that names the worst first.
//!
//! On a terminal a live line shows what is waited for; elsewhere a plain line does, every 15 s. No colour where nobody asked for it.
//! Beside `cli` this is the only place that prints.

mod block;
mod screen;
mod style;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use crate::base::text::{count, seconds};
use crate::engine::event::{Event, Stamped};
use crate::report::summary::{CaseResult, Counts, RunSummary, Running, Verdict};
use crate::report::text::{line, pad, width};
use crate::report::{Options, Output, Sink, github};

pub use style::{ColorChoice, wants_color};

use screen::Screen;
use style::{Paint, Style};

/// Between two lines of what is waited for, where there is no terminal.
const STILL_WAITING: Duration = Duration::from_secs(15);
/// Columns for service and name of a case, where there is room.
const NAME: usize = 44;

pub(super) struct Console {
    screen: Screen,
    style: Style,
    verbosity: i8,
    dir: String,
    artifacts_url: Option<String>,
    /// In a GitHub job: stages are groups, failures annotations, and foreign text commands nothing.
    github: bool,
    root: Option<PathBuf>,
    /// The stage whose heading was printed last.
    heading: String,
    told: Option<Timestamp>,
    frame: usize,
}

impl Console {
    pub(super) fn new(options: &Options, out: Box<dyn Write + Send>) -> Self {
        Self {
            screen: Screen::new(out, options.terminal, options.width),
            style: Style { color: options.color, width: options.width },
            verbosity: options.verbosity,
            dir: options.dir.display().to_string(),
            artifacts_url: options.artifacts_url.clone(),
            github: options.github.is_some() && options.output == Output::Text,
            root: options.root.clone(),
            heading: String::new(),
            told: None,
            frame: 0,
        }
    }

    fn print(&self, text: &str) {
        if self.github { self.screen.line(&github::disarm(text)) } else { self.screen.line(text) }
    }

    /// Lines of which others wrote a part.
    fn print_block(&self, lines: Vec<String>) {
        let lines = if self.github { github::wrap_foreign(lines) } else { lines };
        lines.iter().for_each(|text| self.screen.line(text));
    }

    fn heading(&mut self, stage: &str) {
        if self.heading != stage {
            stage.clone_into(&mut self.heading);
            let heading = line(stage, 80);
            if self.github && self.verbosity >= 0 {
                self.screen.line(&github::command("group", &[], &heading));
            } else {
                self.print(&self.style.paint(Paint::Strong, &heading));
            }
        }
    }

    fn ended(&mut self, case: &CaseResult, run: &RunSummary) {
        let verdict = case.verdict();
        let telling = matches!(verdict, Verdict::Failed | Verdict::Error | Verdict::Repaired) || !case.end.warnings.is_empty();
        if self.verbosity < 0 && !telling || self.verbosity < -1 {
            return;
        }
        self.heading(&case.end.case.stage);
        self.print(&case_line(case, self.style));
        self.print_block(block::after(case, self.style, self.verbosity, &|case| self.log_of(case, run)));
    }

    /// Where the whole log of a case is, if the block cannot show it.
    fn log_of(&self, case: &CaseResult, run: &RunSummary) -> String {
        let log = crate::report::logs::relative(&run.run.environment, &case.end.case);
        if case.log { format!("{}/{log}", self.dir.trim_end_matches('/')) } else { format!("{}/index.html", self.dir.trim_end_matches('/')) }
    }

    /// The clock of waits, apart from `tick` so that tests have their own.
    fn tick_at(&mut self, run: &RunSummary, now: Timestamp) {
        let Some(oldest) = run.running.iter().min_by_key(|running| running.started) else {
            self.screen.live(None);
            return;
        };
        if self.screen.is_terminal() {
            self.frame += 1;
            let text = waiting(oldest, run.running.len() - 1, now, self.style);
            self.screen.live(Some(format!("  {} {text}", self.style.paint(Paint::Info, style::spinner(self.frame)))));
            return;
        }
        let since = self.told.filter(|told| *told > oldest.started).unwrap_or(oldest.started);
        if self.verbosity >= 0 && since_when(since, now) >= STILL_WAITING {
            self.told = Some(now);
            self.heading(&oldest.case.stage);
            let text = waiting(oldest, run.running.len() - 1, now, self.style);
            self.print(&format!("  … {text}"));
        }
    }

    /// A run that ended some time ago.
    pub(super) fn finished(&mut self, run: &RunSummary, exit: u8) {
        if self.verbosity >= 0 {
            self.header(run);
        }
        for stage in &run.stages {
            run.stage_cases(&stage.name).for_each(|case| self.ended(case, run));
        }
        self.summary(run, exit);
        self.screen.flush();
    }

    fn summary(&self, run: &RunSummary, exit: u8) {
        self.print_block(block::summary(run, exit, self.style, &self.dir, self.artifacts_url.as_deref()));
    }

    fn header(&mut self, run: &RunSummary) {
        let run = &run.run;
        let mut parts = vec![run.tool.as_str(), run.pipeline.as_str(), run.environment.as_str(), run.run_id.as_str()];
        if run.dry_run {
            parts.push("dry run: nothing is touched");
        }
        parts.retain(|part| !part.is_empty());
        let text = line(&parts.join(" · "), 300);
        self.print(&self.style.paint(Paint::Dim, &text));
    }
}

fn since_when(start: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(start)).unwrap_or_default()
}

/// `waiting 12 s  app1-service · rollout prod: 1 of 2 ready (and 2 more)`
fn waiting(running: &Running, more: usize, now: Timestamp, style: Style) -> String {
    let mut text = format!("waiting {}  {}", seconds(since_when(running.started, now)), subject(&running.case));
    if !running.progress.is_empty() {
        text = format!("{text}: {}", line(&running.progress, 300));
    }
    let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
    // A live line that is broken in two cannot be taken back.
    format!("{}{more}", style.fit(&text, 6 + width(&more)))
}

/// `app1-service · rollout prod`
fn subject(case: &crate::engine::event::CaseId) -> String {
    match &case.service {
        Some(service) => line(&format!("{service} · {}", case.name), 200),
        None => line(&case.name, 200),
    }
}

/// Mark and verdict, time, case, and what was found or done.
fn case_line(case: &CaseResult, style: Style) -> String {
    let (mark, word, paint) = style::mark(case.verdict());
    let time = if case.end.seconds < Duration::from_millis(50) { String::new() } else { seconds(case.end.seconds) };
    let note = match case.verdict() {
        // The block below says it whole.
        Verdict::Failed | Verdict::Error | Verdict::Repaired => String::new(),
        _ => line(block::note(&case.end.outcome), 300),
    };
    let head = format!("  {}  {time:>10}  ", style.paint(paint, &pad(&format!("{mark} {word}"), 14)));
    let subject = subject(&case.end.case);
    let text = if note.is_empty() { subject } else { format!("{}  {note}", pad(&subject, style.room(NAME))) };
    format!("{head}{}", style.fit(&text, 30))
}

impl Sink for Console {
    fn event(&mut self, event: &Stamped, run: &RunSummary) {
        match &event.event {
            Event::RunStarted { .. } if self.verbosity >= 0 => self.header(run),
            Event::StageStarted { stage } if self.verbosity >= 0 => self.heading(stage),
            Event::Note { stage, text } if self.verbosity >= 0 => {
                if !stage.is_empty() {
                    self.heading(stage);
                }
                self.print(&format!("  {}", self.style.paint(Paint::Dim, &line(text, 500))));
            }
            Event::CaseEnded(end) => {
                if let Some(case) = run.case(&end.case) {
                    self.ended(case, run);
                }
                self.tick_live(run);
            }
            Event::Progress { case, text } if self.verbosity >= 1 && !self.screen.is_terminal() => {
                self.heading(&case.stage);
                self.print(&format!("  … {}: {}", subject(case), line(text, 300)));
            }
            Event::CaseStarted { .. } | Event::Progress { .. } => self.tick_live(run),
            Event::RunEnded { exit, .. } => {
                self.screen.live(None);
                self.summary(run, *exit);
                if self.github {
                    github::annotations(run, self.root.as_deref()).iter().for_each(|text| self.screen.line(text));
                }
            }
            Event::StageEnded { stage, .. } if self.github && self.heading == *stage && self.verbosity >= 0 => {
                self.screen.line(&github::command("endgroup", &[], ""));
            }
            Event::RunStarted { .. } | Event::StageStarted { .. } | Event::StageEnded { .. } | Event::Note { .. } | Event::Observed { .. } => {}
        }
    }

    fn pause(&mut self) {
        self.screen.flush();
    }

    fn tick(&mut self, run: &RunSummary) {
        self.tick_at(run, Timestamp::now());
        self.screen.flush();
    }

    fn warned(&mut self, text: &str) {
        let text = format!("{} {}", self.style.paint(Paint::Warn, "! warning"), line(text, 500));
        self.print(&text);
        self.screen.flush();
    }
}

impl Console {
    fn tick_live(&mut self, run: &RunSummary) {
        if self.screen.is_terminal() {
            self.tick_at(run, Timestamp::now());
        }
    }
}

/// `12 cases in 41 s: 1 failed, 11 ok`
fn counts_line(counts: Counts, duration: Duration) -> String {
    let cases = format!("{} in {}", count(counts.cases, "case"), seconds(duration));
    if counts.cases == 0 { cases } else { format!("{cases}: {}", counts.words()) }
}

/// The names of stages that were to run and did not even start.
fn never_started(run: &RunSummary) -> Vec<&str> {
    let started = |name: &String| run.stages.iter().any(|stage| stage.name == *name);
    run.run.stages.iter().filter(|name| !started(name)).map(String::as_str).collect()
}

/// `2 hosts` is not enough at night: what exactly was not shown, and where it is.
fn more(n: usize, noun: &str, dir: &str) -> String {
    format!("and {} more in `{}/index.html`", count(n, noun), dir.trim_end_matches('/'))
}

#[cfg(test)]
mod tests;
