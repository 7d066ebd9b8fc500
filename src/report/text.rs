//! The filter that all foreign text passes: what a terminal, an XML parser or a CI host would take for a command is gone.

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::base::text::{one_line, strip_ansi};

/// What a report keeps of one text, in bytes. Jenkins and GitHub show nothing that stands after a longer one.
pub const CAP: usize = 16 * 1024;

/// `text` without ANSI sequences, control characters (line breaks stay, a tab becomes four spaces), invisible direction marks and
/// what XML 1.0 forbids.
pub fn clean(text: &str) -> String {
    if text.bytes().all(|b| matches!(b, b'\n' | b' '..=b'~')) {
        return text.to_owned();
    }
    let text = strip_ansi(text);
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' => out.push('\n'),
            '\t' => out.push_str("    "),
            '\r' if chars.peek() == Some(&'\n') => {}
            '\r' => out.push('\n'),
            c if is_hostile(c) => {}
            c => out.push(c),
        }
    }
    out
}

/// Controls, non-characters and the marks that turn the direction of what follows.
fn is_hostile(c: char) -> bool {
    c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}' | '\u{feff}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `text` as one clean line of at most `max` characters.
pub fn line(text: &str, max: usize) -> String {
    if text.len() <= max && text.bytes().all(|b| matches!(b, b' '..=b'~')) && !text.contains("  ") {
        return text.trim().to_owned();
    }
    // A line of `max` characters never needs more than this of the original, however large that is.
    let start = prefix(text, max.saturating_mul(16).saturating_add(4096));
    let line = one_line(&clean(start));
    let cut = start.len() < text.len();
    match line.char_indices().nth(max.saturating_sub(1)) {
        Some((end, c)) if cut || end + c.len_utf8() < line.len() => format!("{}…", &line[..end]),
        _ => line,
    }
}

/// At most `max` bytes of `text`: a short beginning and a long end, with what was left out said between them.
pub fn cap(text: &str, max: usize) -> Cow<'_, str> {
    const ROOM: usize = 64;
    const LINE: usize = 200;
    if text.len() <= max {
        return Cow::Borrowed(text);
    }
    let keep = max.saturating_sub(ROOM);
    let head = prefix(text, keep / 4);
    let tail = suffix(text, keep - head.len());
    // Whole lines, where lines are of a usual length.
    let head = head.rfind('\n').filter(|at| head.len() - at < LINE).map_or(head, |at| &head[..at]);
    let tail = tail.find('\n').filter(|at| *at < LINE).map_or(tail, |at| &tail[at + 1..]);
    Cow::Owned(format!("{head}\n… {} bytes left out …\n{tail}", text.len() - head.len() - tail.len()))
}

/// The longest beginning of `text` that has at most `max` bytes.
pub fn prefix(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

fn suffix(text: &str, max: usize) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(max))..]
}

/// Columns that `text` takes on a terminal.
pub fn width(text: &str) -> usize {
    text.width()
}

/// `text` in at most `columns` columns of a terminal; 0 means as many as it needs.
pub fn fit(text: &str, columns: usize) -> Cow<'_, str> {
    if columns == 0 || width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let mut used = 1;
    let end = text.char_indices().find(|(_, c)| {
        used += c.width().unwrap_or(0);
        used > columns
    });
    Cow::Owned(format!("{}…", &text[..end.map_or(text.len(), |(at, _)| at)]))
}

/// `text` padded with spaces to `columns` columns.
pub fn pad(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// `text` in lines of at most `columns` columns, broken at spaces where there are any; 0 means unbroken.
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    if columns == 0 || width(text) <= columns {
        return vec![text.to_owned()];
    }
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is always a line");
        if line.is_empty() {
            line.push_str(word);
        } else if width(line) + 1 + width(word) <= columns {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// `text` for HTML and for Markdown that may hold HTML.
pub fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn foreign_text_is_disarmed() {
        for (text, expected) in [
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("\u{1b}]0;title\u{7}after", "after"),
            ("a\u{0}b\u{8}c\u{7f}d\u{9b}e", "abcde"),
            ("a\r\nb\rc", "a\nb\nc"),
            ("x\u{fffe}y\u{ffff}z\u{feff}", "xyz"),
            ("if\u{202e}fi", "iffi"),
            ("a\tb", "a    b"),
            ("grüße ✓ 🎉", "grüße ✓ 🎉"),
        ] {
            assert_eq!(clean(text), expected, "{text:?}");
        }
    }

    #[test]
    fn lines_and_caps_keep_their_measure() {
        assert_eq!(line("a\nb", 10), "a b");
        assert_eq!(line("abcdef", 6), "abcdef");
        assert_eq!(line("abcdefg", 6), "abcde…");
        assert_eq!(line(&"ä".repeat(10_000_000), 200).chars().count(), 200);
        let long = format!("{}END", "ß".repeat(1_000_000));
        let capped = cap(&long, CAP);
        assert!(capped.len() <= CAP && capped.starts_with('ß') && capped.ends_with("END"), "{}", capped.len());
        assert_eq!(cap("short", CAP), "short");
    }

    #[test]
    fn text_fits_its_columns() {
        assert_eq!(fit("äöü", 3), "äöü");
        assert_eq!(fit("äöüß", 3), "äö…");
        assert_eq!(fit("漢字漢字", 5), "漢字…");
        assert_eq!(fit("anything", 0), "anything");
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("averylongword x", 5), ["averylongword", "x"]);
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_filter(text in any::<String>(), max in 100usize..400) {
            let cleaned = clean(&text);
            prop_assert!(cleaned.chars().all(|c| c == '\n' || !is_hostile(c)));
            prop_assert!(cap(&cleaned, max).len() <= max);
            prop_assert!(line(&text, max).chars().count() <= max);
            prop_assert!(!line(&text, max).contains('\n'));
            prop_assert!(width(&fit(&cleaned, 20)) <= 20 || cleaned.contains('\n'));
        }
    }
}
