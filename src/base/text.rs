//! Small text functions that every room needs.

use std::borrow::Cow;
use std::time::Duration;

/// `text` as one line: control characters and line breaks become single spaces.
pub fn one_line(text: &str) -> String {
    let cleaned: String = strip_ansi(text).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    cleaned.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `text` without ANSI escape sequences.
pub fn strip_ansi(text: &str) -> Cow<'_, str> {
    if !text.contains('\u{1b}') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\u{1b}' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('[') => while chars.next().is_some_and(|c| !('\u{40}'..='\u{7e}').contains(&c)) {},
            // An operating system command ends with BEL, or with ESC and a backslash.
            Some(']' | 'P' | '^' | '_') => {
                let end = chars.find(|c| *c == '\u{7}' || *c == '\u{1b}');
                if end == Some('\u{1b}') {
                    chars.next_if_eq(&'\\');
                }
            }
            Some('(' | ')') => {
                chars.next();
            }
            _ => {}
        }
    }
    Cow::Owned(out)
}

/// The first `max` characters of `text`, with an ellipsis where something was cut.
pub fn head(text: &str, max: usize) -> Cow<'_, str> {
    match text.char_indices().nth(max) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
    }
}

/// The last `lines` lines of `text`.
pub fn tail_lines(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// The candidate most like `word`, if one is close enough to be meant.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (distance(&word.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(word.len()) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance with transpositions, in characters.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let substituted = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut best = substituted.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(rows[i - 2][j - 2] + 1);
                }
                best
            };
        }
    }
    rows[a.len()][b.len()]
}

/// A duration as people read it: `0.4 s`, `12 s`, `3 min 5 s`.
pub fn seconds(duration: Duration) -> String {
    let s = duration.as_secs_f64();
    match s {
        _ if s < 9.95 => format!("{s:.1} s"),
        _ if s < 90.0 => format!("{s:.0} s"),
        _ => {
            let whole = duration.as_secs();
            format!("{} min {} s", whole / 60, whole % 60)
        }
    }
}

/// `1 host`, `2 hosts`.
pub fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_survives_hostile_text() {
        assert_eq!(one_line("a\r\n\tb\u{0} \u{1b}[31mred\u{1b}[0m"), "a b red");
        assert_eq!(strip_ansi("a\u{1b}]8;;https://x\u{1b}\\link\u{1b}(Bz\u{1b}]0;t\u{7}e"), "alinkze");
    }

    #[test]
    fn nearest_suggests_only_what_can_be_meant() {
        assert_eq!(nearest("servces", ["services", "releases"]), Some("services"));
        assert_eq!(nearest("nmae", ["name", "port"]), Some("name"));
        assert_eq!(nearest("kangaroo", ["name", "port"]), None);
    }

    #[test]
    fn durations_read_well() {
        for (ms, text) in [(400, "0.4 s"), (9_990, "10 s"), (61_000, "61 s"), (185_000, "3 min 5 s")] {
            assert_eq!(seconds(Duration::from_millis(ms)), text);
        }
    }
}
