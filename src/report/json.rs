//! `--output json`: one JSON document on standard output when the run ends, for the scripts that call the tool. The lines for people go
//! to standard error meanwhile; who wants events as they happen follows `run.jsonl`.

use std::io::Write;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use crate::engine::event::{CaseEnd, Event, Stamped};
use crate::report::Sink;
use crate::report::summary::{Counts, RunSummary, StageRun, why};

/// Bumped when a field changes its meaning or goes; new fields may come at any time.
pub const VERSION: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    tool: &'a str,
    run_id: &'a str,
    pipeline: &'a str,
    environment: &'a str,
    dry_run: bool,
    /// The exit code and what it stands for.
    exit: u8,
    why: &'a str,
    seconds: f64,
    counts: Value,
    stages: Vec<Value>,
    /// As in `run.jsonl`; long texts are cut in their middle.
    cases: Vec<&'a CaseEnd>,
    reports: &'a str,
}

/// The document of the process that ended.
pub fn document(run: &RunSummary, exit: u8, dir: &str) -> Value {
    let counts = Counts::of(run.own());
    let seconds = |duration: Duration| (duration.as_secs_f64() * 1000.0).round() / 1000.0;
    let stage = |stage: &StageRun| json!({ "stage": stage.name, "seconds": seconds(stage.seconds) });
    let document = Document {
        version: VERSION,
        tool: &run.run.tool,
        run_id: &run.run.run_id,
        pipeline: &run.run.pipeline,
        environment: &run.run.environment,
        dry_run: run.run.dry_run,
        exit,
        why: why(exit, counts),
        seconds: seconds(run.own_seconds()),
        counts: json!({
            "cases": counts.cases,
            "failed": counts.failed,
            "errors": counts.errors,
            "repaired": counts.repaired,
            "changed": counts.changed,
            "would-change": counts.would_change,
            "unchanged": counts.unchanged,
            "skipped": counts.skipped,
            "warnings": counts.warnings,
        }),
        stages: run.stages.iter().filter(|stage| !stage.earlier).map(stage).collect(),
        cases: run.own().map(|case| &case.end).collect(),
        reports: dir,
    };
    serde_json::to_value(document).unwrap_or_default()
}

pub(super) struct Json {
    out: Box<dyn Write + Send>,
    dir: String,
}

impl Json {
    pub(super) fn new(out: Box<dyn Write + Send>, dir: &std::path::Path) -> Self {
        Self { out, dir: dir.display().to_string() }
    }
}

impl Sink for Json {
    fn event(&mut self, event: &Stamped, run: &RunSummary) {
        if let Event::RunEnded { exit, .. } = &event.event {
            let document = document(run, *exit, &self.dir);
            // A reader that is gone must not end the run.
            let _unread = writeln!(self.out, "{document:#}").and_then(|()| self.out.flush());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::played;

    #[test]
    fn the_document_has_all_cases_and_the_exit_code() {
        let run = RunSummary::of(&played::dry());
        insta::assert_snapshot!(format!("{:#}", document(&run, 10, "reports")));
    }
}
