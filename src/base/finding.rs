//! What is wrong in a file and where, shown with the line it stands on.

use std::fmt::Write as _;

use serde::Serialize;

use crate::base::codes::Code;
use crate::base::fault::Fault;
use crate::base::place::Place;
use crate::base::text;

/// The longest piece of a line that a snippet shows, in characters.
const SNIPPET_WIDTH: usize = 120;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    Error,
    Warning,
}

/// The marked part of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The whole line as it stands in the file, without its break.
    pub line: String,
    /// How many characters are marked, at least 1.
    pub width: usize,
}

/// A second place that explains a finding: where the key was given first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Also {
    pub place: Place,
    pub message: String,
    #[serde(skip)]
    pub mark: Option<Mark>,
}

/// Something a static check found. Messages are one line, lower case, without a full stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub level: Level,
    pub place: Place,
    pub message: String,
    /// What to write instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Also>,
    #[serde(skip)]
    pub mark: Option<Mark>,
}

impl Finding {
    pub fn error(place: Place, message: impl AsRef<str>) -> Self {
        Self { level: Level::Error, place, message: text::one_line(message.as_ref()), hint: None, also: Vec::new(), mark: None }
    }

    pub fn warning(place: Place, message: impl AsRef<str>) -> Self {
        Self { level: Level::Warning, ..Self::error(place, message) }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl AsRef<str>) -> Self {
        self.hint = Some(text::one_line(hint.as_ref()));
        self
    }

    #[must_use]
    pub fn marked(mut self, mark: Option<Mark>) -> Self {
        self.mark = mark;
        self
    }

    #[must_use]
    pub fn also(mut self, place: Place, message: impl Into<String>, mark: Option<Mark>) -> Self {
        self.also.push(Also { place, message: message.into(), mark });
        self
    }

    pub fn is_error(&self) -> bool {
        self.level == Level::Error
    }

    /// The finding as a fault of its own.
    pub fn into_fault(self, code: Code) -> Fault {
        fault(code, std::slice::from_ref(&self))
    }
}

/// The findings as one fault: the first error's message, place and hint, and all of them as evidence.
pub fn fault(code: Code, findings: &[Finding]) -> Fault {
    let errors = findings.iter().filter(|f| f.is_error()).count();
    let Some(first) = findings.iter().find(|f| f.is_error()).or(findings.first()) else {
        return Fault::new(Code::Defect, "a fault without findings");
    };
    let more = if errors > 1 { format!(" (and {} more)", errors - 1) } else { String::new() };
    let fault = Fault::new(code, format!("{}{more}", first.message)).at(Some(&first.place)).evidence("findings", render(findings));
    match &first.hint {
        Some(hint) => fault.next(hint),
        None => fault,
    }
}

/// The findings for people, each with its line and a caret, in the order of the files' lines. Needs no colour to be understood.
pub fn render(findings: &[Finding]) -> String {
    let mut out = String::new();
    for finding in findings {
        let level = if finding.is_error() { "error" } else { "warning" };
        if !out.is_empty() {
            out.push('\n');
        }
        let margin = std::iter::once(finding.place.line).chain(finding.also.iter().map(|a| a.place.line)).map(digits).max().unwrap_or(1);
        _ = writeln!(out, "{level}: {}", finding.message);
        snippet(&mut out, margin, &finding.place, finding.mark.as_ref(), "");
        for also in &finding.also {
            snippet(&mut out, margin, &also.place, also.mark.as_ref(), &also.message);
        }
        if let Some(hint) = &finding.hint {
            _ = writeln!(out, "{:margin$} = help: {hint}", "");
        }
    }
    out
}

/// Findings as JSON: an array of `{level, place: {file, line, column}, message, hint, also}`.
pub fn json(findings: &[Finding]) -> String {
    serde_json::to_string_pretty(findings).unwrap_or_default()
}

/// Sorts by file, line and column and drops repetitions.
pub fn tidy(findings: &mut Vec<Finding>) {
    findings.sort_by(|a, b| {
        let key = |f: &Finding| (f.place.file.clone(), f.place.line, f.place.column, f.level);
        key(a).cmp(&key(b))
    });
    findings.dedup();
}

fn snippet(out: &mut String, margin: usize, place: &Place, mark: Option<&Mark>, label: &str) {
    let arrow = if label.is_empty() { "-->" } else { ":::" };
    _ = writeln!(out, "{:margin$}{arrow} {place}", "");
    let Some(mark) = mark.filter(|_| place.line > 0) else {
        if !label.is_empty() {
            _ = writeln!(out, "{:margin$} = note: {label}", "");
        }
        return;
    };
    let column = place.column.max(1) as usize - 1;
    let from = column.saturating_sub(SNIPPET_WIDTH / 2);
    let shown: Vec<char> = mark.line.chars().skip(from).take(SNIPPET_WIDTH).collect();
    let (before, after) = (if from > 0 { "…" } else { "" }, if mark.line.chars().count() > from + SNIPPET_WIDTH { "…" } else { "" });
    let line: String = shown.iter().map(|&c| visible(c)).collect();
    // A tab in the margin keeps the caret below its character however wide the terminal draws it.
    let lead: String = before.chars().map(|_| ' ').chain(shown.iter().take(column - from).map(|&c| if c == '\t' { '\t' } else { ' ' })).collect();
    let width = mark.width.clamp(1, shown.len().saturating_sub(column - from).max(1));
    _ = writeln!(out, "{:margin$} |", "");
    _ = writeln!(out, "{:>margin$} | {before}{line}{after}", place.line);
    _ = writeln!(out, "{:margin$} | {lead}{}{}{label}", "", "^".repeat(width), if label.is_empty() { "" } else { " " });
}

fn visible(c: char) -> char {
    if c.is_control() && c != '\t' { '\u{fffd}' } else { c }
}

fn digits(line: u32) -> usize {
    line.to_string().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(line: u32, column: u32) -> Place {
        Place::new("meshstep.yaml", line, column)
    }

    fn mark(line: &str, width: usize) -> Option<Mark> {
        Some(Mark { line: line.to_owned(), width })
    }

    #[test]
    fn a_finding_shows_its_line_with_a_caret() {
        let finding = Finding::error(place(12, 3), "`name` is given twice").marked(mark("  name: b", 4)).hint("remove one of them").also(
            place(9, 3),
            "first given here",
            mark("  name: a", 4),
        );
        let expected = "error: `name` is given twice\n  --> meshstep.yaml:12:3\n   |\n12 |   name: b\n   |   ^^^^\n  ::: meshstep.yaml:9:3\n   |\n \
                        9 |   name: a\n   |   ^^^^ first given here\n   = help: remove one of them\n";
        assert_eq!(render(&[finding]), expected);
    }

    #[test]
    fn the_caret_stands_below_tabs_wide_text_and_the_middle_of_long_lines() {
        let shown = render(&[Finding::error(place(1, 2), "a tab").marked(mark("\tkey: 1", 3))]);
        assert!(shown.contains("1 | \tkey: 1\n  | \t^^^\n"), "{shown}");
        let long = format!("{}X{}", "a".repeat(300), "b".repeat(300));
        let shown = render(&[Finding::error(place(1, 301), "far out").marked(mark(&long, 1))]);
        let lines: Vec<&str> = shown.lines().collect();
        let at = lines[3].chars().position(|c| c == 'X').expect("shown");
        assert_eq!(lines[4].chars().position(|c| c == '^'), Some(at), "{shown}");
    }

    #[test]
    fn many_findings_make_one_fault() {
        let fault = fault(
            Code::FileInvalid,
            &[Finding::warning(place(1, 1), "odd"), Finding::error(place(2, 1), "wrong").hint("write it right"), Finding::error(place(3, 1), "bad")],
        );
        assert_eq!((fault.message.as_str(), fault.place), ("wrong (and 1 more)", Some(place(2, 1))));
        assert_eq!(fault.next, ["write it right"]);
    }

    #[test]
    fn findings_as_json_name_level_and_place() {
        let value: serde_json::Value = serde_json::from_str(&json(&[Finding::warning(place(4, 2), "odd").hint("quote it")])).expect("json");
        let expected = serde_json::json!([{"level": "warning", "place": {"file": "meshstep.yaml", "line": 4, "column": 2}, "message": "odd", "hint": "quote it"}]);
        assert_eq!(value, expected);
    }
}
