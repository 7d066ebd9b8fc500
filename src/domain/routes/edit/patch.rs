//! Changes to a text by byte ranges, and the proof that nothing else changed.

use std::ops::Range;

use crate::base::yaml::Source;

/// Replaces `at` with `text`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Patch {
    pub(super) at: Range<usize>,
    pub(super) text: String,
}

impl Patch {
    pub(super) fn replace(at: Range<usize>, text: impl Into<String>) -> Self {
        Self { at, text: text.into() }
    }

    pub(super) fn insert(at: usize, text: impl Into<String>) -> Self {
        Self::replace(at..at, text)
    }

    /// Whole lines behind the line with this index, also when that one ends the file without a break.
    pub(super) fn lines_after(source: &Source, line: usize, lines: &[String]) -> Self {
        let (range, newline) = (source.line_range(line), newline(source, line));
        let text = lines.join(newline);
        if source.text[range.clone()].ends_with('\n') {
            Self::insert(range.end, format!("{text}{newline}"))
        } else {
            Self::insert(range.end, format!("{newline}{text}"))
        }
    }

    /// Whole lines in front of the line with this index.
    pub(super) fn lines_before(source: &Source, line: usize, lines: &[String]) -> Self {
        let newline = newline(source, line);
        Self::insert(source.line_range(line).start, lines.join(newline) + newline)
    }
}

/// The line break that is used at this line: its own, else that of the line above.
fn newline(source: &Source, line: usize) -> &'static str {
    let ending = (0..=line).rev().map(|index| &source.text[source.line_range(index)]).find(|text| text.ends_with('\n'));
    if ending.is_some_and(|text| text.ends_with("\r\n")) { "\r\n" } else { "\n" }
}

/// The patched text; `None` when two patches overlap.
pub(super) fn apply(text: &str, patches: &[Patch]) -> Option<String> {
    let mut sorted: Vec<&Patch> = patches.iter().collect();
    sorted.sort_by_key(|patch| (patch.at.start, patch.at.end));
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for patch in sorted {
        out.push_str(text.get(done..patch.at.start)?);
        out.push_str(&patch.text);
        done = patch.at.end;
    }
    out.push_str(text.get(done..)?);
    Some(out)
}

/// Are all lines that no patch touches still there, byte for byte and in order?
pub(super) fn untouched_lines_kept(source: &Source, patches: &[Patch], new: &str) -> bool {
    let touches = |line: &Range<usize>| {
        patches
            .iter()
            .any(|p| if p.at.is_empty() { line.start < p.at.start && p.at.start < line.end } else { p.at.start < line.end && line.start < p.at.end })
    };
    let (old, mut position, mut run) = (&source.text, 0, 0..0);
    let mut runs: Vec<Range<usize>> = Vec::new();
    for index in 0..source.line_count() {
        let line = source.line_range(index);
        let split = patches.iter().any(|p| p.at.start == line.start);
        if touches(&line) {
            runs.push(std::mem::replace(&mut run, line.end..line.end));
        } else if split {
            runs.push(std::mem::replace(&mut run, line));
        } else {
            run.end = line.end;
        }
    }
    runs.push(run);
    for run in runs.into_iter().filter(|run| !run.is_empty()) {
        let Some(found) = new[position..].find(&old[run.clone()]) else { return false };
        if run.start == 0 && found != 0 && patches.iter().all(|p| p.at.start > 0) {
            return false;
        }
        position += found + run.len();
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_apply_in_the_order_of_the_text_and_never_overlap() {
        let text = "a\nb\nc\n";
        let patches = [Patch::replace(4..5, "C"), Patch::insert(2, "x\n"), Patch::replace(2..4, "")];
        assert_eq!(apply(text, &patches).as_deref(), Some("a\nx\nC\n"));
        assert_eq!(apply(text, &[Patch::replace(0..3, ""), Patch::replace(2..4, "")]), None);
    }

    #[test]
    fn lines_are_added_behind_a_line_with_or_without_a_break() {
        for (text, line, expected) in [("a\nb\n", 0, "a\nx\nb\n"), ("a\nb", 1, "a\nb\nx"), ("a\r\nb", 1, "a\r\nb\r\nx")] {
            let source = Source::new("f", text);
            let patch = Patch::lines_after(&source, line, &["x".to_owned()]);
            assert_eq!(apply(text, &[patch]).as_deref(), Some(expected));
        }
    }

    #[test]
    fn a_changed_line_outside_the_patches_is_noticed() {
        let source = Source::new("f", "a\nb\nc\n");
        let patches = [Patch::replace(2..3, "B")];
        assert!(untouched_lines_kept(&source, &patches, "a\nB\nc\n"));
        assert!(!untouched_lines_kept(&source, &patches, "A\nB\nc\n"));
        assert!(!untouched_lines_kept(&source, &patches, "a\nB\nC\n"));
        assert!(!untouched_lines_kept(&source, &patches, "x\na\nB\nc\n"));
    }
}
