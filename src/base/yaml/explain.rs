//! A syntax error in words that say what to change.

use granit_parser::{ErrorKind, ScanError};

use crate::base::finding::Finding;
use crate::base::yaml::Source;

/// The parser's error as a finding: a tab, a wrong indentation and an unquoted `${…}` are told as what they are.
pub(super) fn explain(source: &Source, error: &ScanError) -> Finding {
    let at = error.marker().byte_offset().unwrap_or(source.text.len()).min(source.text.len());
    let line = source.line_index(at);
    tab(source, line, error.kind())
        .or_else(|| too_deep(source, line, error.kind()))
        .or_else(|| placeholder(source, line))
        .unwrap_or_else(|| plainly(source, at, error.kind()))
}

/// The first line, up to the one of the error, whose indentation holds a tab.
fn tab(source: &Source, last: usize, kind: &ErrorKind) -> Option<Finding> {
    let about_tabs = matches!(
        kind,
        ErrorKind::TabNotAllowed
            | ErrorKind::TabInBlockIndentation
            | ErrorKind::TabInIndentation
            | ErrorKind::TabAtBlockScalarStart
            | ErrorKind::TabInPlainScalar
    );
    let (first, last) = if about_tabs { (0, last + 1) } else { (last.saturating_sub(1), last) };
    (first..=last).find_map(|index| {
        let line = source.line(index);
        let margin = line.len() - line.trim_start_matches([' ', '\t', '-']).len();
        let tab = line[..margin].find('\t').filter(|_| margin < line.len())?;
        let at = source.line_range(index).start + tab;
        let place = source.place(at);
        let message = format!("line {} column {} is indented with a tab", place.line, place.column);
        Some(source.error(&(at..at + 1), message).hint("use spaces"))
    })
}

/// `- virtualName: x` with its other keys indented deeper than the first one.
fn too_deep(source: &Source, line: usize, kind: &ErrorKind) -> Option<Finding> {
    let about_indent = matches!(
        kind,
        ErrorKind::MappingValueNotAllowed
            | ErrorKind::InvalidIndentation
            | ErrorKind::ExpectedBlockMappingKey
            | ErrorKind::MappingKeyNotAllowed
            | ErrorKind::CommentInterceptedScalar
            | ErrorKind::SimpleKeyExpected
            | ErrorKind::InvalidSimpleKey
            | ErrorKind::BlockSequenceEntryNotAllowed
    );
    if !about_indent {
        return None;
    }
    // A value with a comment behind it ends there: the line that goes on below is the wrong one.
    let line = if *kind == ErrorKind::CommentInterceptedScalar {
        (line + 1..source.line_count()).find(|&index| !is_blank(source.line(index)))?
    } else {
        line
    };
    let (column, key) = key_of(source.line(line))?;
    let above = (0..line).rev().find(|&index| !is_blank(source.line(index)))?;
    let (key_column, first) = key_of(source.line(above))?;
    if column == key_column {
        return None;
    }
    let start = source.line_range(line).start + source.line(line).char_indices().nth(column).map_or(0, |(at, _)| at);
    let range = start..start + key.len();
    let is_item = source.line(above).trim_start().starts_with("- ");
    let (right, below) = (key_column + 1, format!("`{first}` on line {}", above + 1));
    let finding = if column > key_column && !ends_open(source.line(above)) {
        let message = format!("`{key}` is indented deeper than {below}, which has a value already");
        let hint = if is_item {
            format!("indent the keys of a list item alike: put `{key}` and the keys after it in column {right}, below `{first}`")
        } else {
            format!("put `{key}` in column {right}, below `{first}`")
        };
        source.error(&range, message).hint(hint)
    } else {
        source
            .error(&range, format!("the indentation of `{key}` fits no line above"))
            .hint(format!("indent it like the keys it belongs to, e.g. column {right} as {below}"))
    };
    Some(finding)
}

/// The column (from 0) and name of a line's key, behind a list dash if there is one.
fn key_of(line: &str) -> Option<(usize, &str)> {
    let body = line.trim_start_matches([' ', '-']);
    let end = body.find(':').filter(|&end| body[end + 1..].is_empty() || body[end + 1..].starts_with([' ', '\t']))?;
    let key = &body[..end];
    let is_key = !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'));
    is_key.then(|| (line.chars().count() - body.chars().count(), key))
}

/// Does the line end with `key:`, so that deeper lines may follow?
fn ends_open(line: &str) -> bool {
    line.split(" #").next().unwrap_or_default().trim_end().ends_with(':')
}

fn is_blank(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

/// `{name: ${X}}`: braces mean something in flow style.
fn placeholder(source: &Source, line: usize) -> Option<Finding> {
    let text = source.line(line);
    let at = text
        .match_indices("${")
        .map(|(at, _)| at)
        .find(|&at| text[..at].matches(['\'', '"']).count().is_multiple_of(2) && text[..at].contains(['{', '[']))?;
    let start = source.line_range(line).start + at;
    let end = text[at..].find('}').map_or(at + 2, |end| at + end + 1);
    let range = start..source.line_range(line).start + end;
    let written = &source.text[range.clone()];
    Some(source.error(&range, format!("`{written}` must be quoted inside braces or brackets")).hint(format!("write \"{written}\"")))
}

fn plainly(source: &Source, at: usize, kind: &ErrorKind) -> Finding {
    let range = at..at + source.text[at..].chars().next().map_or(0, char::len_utf8);
    let (message, hint): (String, &str) = match kind {
        ErrorKind::MappingValueNotAllowed => ("a `:` is not expected here".into(), "quote the text if the `:` belongs to it"),
        ErrorKind::UnclosedQuotedScalar => ("a quoted text starts here and does not end".into(), "close the quote"),
        ErrorKind::UnclosedFlowCollection { open } => (format!("`{open}` is not closed"), "close the bracket"),
        ErrorKind::MismatchedFlowCollectionEnd { open, close } => (format!("`{open}` is closed by `{close}`"), "use the bracket that fits"),
        ErrorKind::InvalidColonPlacement => ("a `:` is not expected here".into(), "close the bracket above, or quote the text"),
        ErrorKind::ExpectedBlockSequenceEntry => {
            ("an item of the list above is expected here".into(), "start the line with `- `, or indent the list's items deeper than this line")
        }
        ErrorKind::UnexpectedEofFlowSequence => ("`[` is not closed".into(), "add `]`"),
        ErrorKind::UnexpectedEofFlowMapping | ErrorKind::UnexpectedEofImplicitFlowMapping => ("`{` is not closed".into(), "add `}`"),
        ErrorKind::UnexpectedCharacter { character } => {
            (format!("`{character}` cannot start a value"), "quote the text if it starts with that character")
        }
        ErrorKind::UnknownAnchor => ("this alias names an anchor that does not exist".into(), "quote the text if it should start with `*`"),
        ErrorKind::RecursionLimitExceeded => ("the values are nested too deep".into(), "no sensible file needs this depth"),
        ErrorKind::SimpleKeyExpected | ErrorKind::ExpectedBlockMappingKey => {
            ("a `key: value` is expected here".into(), "check the indentation and the `:` of this line")
        }
        other => (other.to_string(), "check the indentation and the quotes of this line and the one above"),
    };
    source.error(&range, message).hint(hint)
}
