//! What a run said, and whether that is what the scenario expects.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::scenario::Expect;

/// What is wrong with the JUnit files of a reports folder; whatever happened, other programs must be able to read them.
pub(crate) fn ill_formed(reports: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(reports).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let files = entries.filter(|path| path.extension().is_some_and(|ending| ending == "xml"));
    let wrong = files.filter_map(|path| {
        let text = std::fs::read_to_string(&path).map_err(|error| error.to_string());
        let error = text.and_then(|text| roxmltree::Document::parse(&text).map(drop).map_err(|error| error.to_string())).err()?;
        Some(format!("{}: {error}", path.file_name().unwrap_or_default().display()))
    });
    wrong.collect()
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) exit: i32,
    /// The codes of the failed cases.
    pub(crate) codes: Vec<String>,
    /// `deploy rollout prod: passed` of each case, sorted.
    pub(crate) cases: Vec<String>,
}

impl Verdict {
    /// Reads the run log of a reports folder.
    pub(crate) fn read(exit: i32, reports: &Path) -> Self {
        let text = std::fs::read_to_string(reports.join("run.jsonl")).unwrap_or_default();
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut verdict = Self { exit, codes: Vec::new(), cases: Vec::new() };
        for event in events.filter(|event| event["event"] == "case-ended") {
            let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            verdict.cases.push(format!("{} {}: {}", word(&event["case"]["stage"]), word(&event["case"]["name"]), word(&event["outcome"])));
            if event["outcome"] == "failed" {
                verdict.codes.push(word(&event["code"]));
            }
        }
        // the controller says that it refuses the Ingress just before or just after it takes it
        let refused = ["ingress ingress accepted: ", "ingress hostname: "];
        let told = |case: &String| refused.iter().any(|link| case.strip_prefix(link) == Some("failed"));
        if verdict.codes == ["alb_refused"] && verdict.cases.iter().any(told) {
            verdict.cases.retain(|case| !refused.iter().any(|link| case.starts_with(link)));
            verdict.cases.push("ingress accepted, or its hostname: failed".to_owned());
        }
        // what runs at the same time ends in any order
        verdict.cases.sort();
        verdict
    }

    /// `crash_loop`, `ok`, `exit 7`.
    pub(crate) fn word(&self) -> String {
        match (self.codes.as_slice(), self.exit) {
            ([], 0) => "ok".to_owned(),
            ([], exit) => format!("exit {exit}"),
            (codes, _) => codes.join(", "),
        }
    }

    /// What is not as expected; `text` is what a person saw.
    pub(crate) fn problems(&self, expect: &Expect, text: &str, took: Duration) -> Vec<String> {
        let mut problems = Vec::new();
        if self.exit != expect.exit {
            problems.push(format!("exit {} instead of {}", self.exit, expect.exit));
        }
        let codes: Vec<String> = expect.code.iter().cloned().collect();
        if self.codes != codes {
            problems.push(format!("failed with {:?} instead of {codes:?}", self.codes));
        }
        // a terminal's lines are broken where they are too long
        let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let said = flat(text);
        problems.extend(expect.says.iter().filter(|words| !said.contains(&flat(words))).map(|words| format!("does not say `{words}`")));
        problems.extend(expect.never.iter().filter(|words| said.contains(&flat(words))).map(|words| format!("says `{words}`")));
        if took > expect.within.0 {
            problems.push(format!("took {:.1} s, more than {:.0} s", took.as_secs_f64(), expect.within.0.as_secs_f64()));
        }
        if took < expect.not_before.0 {
            problems.push(format!("ended after {:.1} s, too soon: {:.1} s", took.as_secs_f64(), expect.not_before.0.as_secs_f64()));
        }
        problems
    }
}
