//! Entries and their parts as text in a file's own style.

use serde_json::Value;

use crate::base::yaml::{Rules, plain};
use crate::domain::routes::edit::style::{Layout, ListStyle, Quote};
use crate::domain::routes::{Entry, EntryNamespace};

/// A text as a scalar that every YAML reader takes for this text.
pub(super) fn scalar(text: &str, quote: Quote, in_flow: bool) -> String {
    match quote {
        Quote::None if is_plain(text, in_flow) => text.to_owned(),
        Quote::Single if !text.chars().any(char::is_control) => format!("'{}'", text.replace('\'', "''")),
        _ => Value::from(text).to_string(),
    }
}

/// Can the text stand unquoted?
fn is_plain(text: &str, in_flow: bool) -> bool {
    let is_text = |rules| plain(text, rules) == text;
    let starts_well = !text.starts_with(|c: char| "!&*-?:,[]{}#|>@`\"'%=<~".contains(c) || c.is_whitespace());
    let goes_on_well = !text.contains(": ") && !text.contains(" #") && !text.ends_with(':') && !text.ends_with(char::is_whitespace);
    let in_flow_too = !in_flow || !text.contains([',', '[', ']', '{', '}', ':', '#']);
    is_text(Rules::Core) && is_text(Rules::Helm) && starts_well && goes_on_well && in_flow_too && !text.chars().any(char::is_control)
}

pub(super) fn entry_flow(entry: &Entry, layout: &Layout) -> String {
    let namespaces: Vec<String> = entry.namespaces.iter().map(|n| namespace_flow(n, layout)).collect();
    let mut parts = vec![
        format!("virtualName: {}", scalar(&entry.virtual_name, layout.quote_names, true)),
        format!("name: {}", scalar(&entry.name, layout.quote_names, true)),
        format!("port: {}", entry.port),
        format!("namespaces: [{}]", namespaces.join(", ")),
    ];
    if let Some(prefixes) = &entry.prefixes {
        parts.push(format!("prefixes: {}", texts_flow(prefixes, layout.quote_prefixes)));
    }
    format!("{{{}}}", parts.join(", "))
}

pub(super) fn namespace_flow(namespace: &EntryNamespace, layout: &Layout) -> String {
    format!("{{name: {}, hosts: {}}}", scalar(&namespace.name, layout.quote_names, true), texts_flow(&namespace.hosts, layout.quote_hosts))
}

pub(super) fn texts_flow(texts: &[String], quote: Quote) -> String {
    format!("[{}]", texts.iter().map(|text| scalar(text, quote, true)).collect::<Vec<_>>().join(", "))
}

/// The lines of an entry whose dash stands in column `dash` (from 0).
pub(super) fn entry_block(entry: &Entry, dash: usize, layout: &Layout) -> Vec<String> {
    let key = dash + layout.gap;
    let pad = " ".repeat(key);
    let mut lines = vec![
        format!("{pad}virtualName: {}", scalar(&entry.virtual_name, layout.quote_names, false)),
        format!("{pad}name: {}", scalar(&entry.name, layout.quote_names, false)),
        format!("{pad}port: {}", entry.port),
    ];
    match layout.namespaces {
        ListStyle::Flow => {
            let namespaces: Vec<String> = entry.namespaces.iter().map(|n| namespace_flow(n, layout)).collect();
            lines.push(format!("{pad}namespaces: [{}]", namespaces.join(", ")));
        }
        ListStyle::Block { indent, gap } => {
            lines.push(format!("{pad}namespaces:"));
            lines.extend(entry.namespaces.iter().flat_map(|n| namespace_block(n, key + indent, gap, layout)));
        }
    }
    if let Some(prefixes) = &entry.prefixes {
        lines.extend(texts_block("prefixes", prefixes, key, layout.prefixes, layout.quote_prefixes));
    }
    with_dash(lines, dash)
}

/// The lines of a namespace whose dash stands in column `dash`.
pub(super) fn namespace_block(namespace: &EntryNamespace, dash: usize, gap: usize, layout: &Layout) -> Vec<String> {
    let key = dash + gap;
    let mut lines = vec![format!("{}name: {}", " ".repeat(key), scalar(&namespace.name, layout.quote_names, false))];
    lines.extend(texts_block("hosts", &namespace.hosts, key, layout.hosts, layout.quote_hosts));
    with_dash(lines, dash)
}

/// `name:` in column `key`, with its texts.
pub(super) fn texts_block(name: &str, texts: &[String], key: usize, style: ListStyle, quote: Quote) -> Vec<String> {
    let pad = " ".repeat(key);
    match style {
        ListStyle::Flow => vec![format!("{pad}{name}: {}", texts_flow(texts, quote))],
        ListStyle::Block { indent, gap } => {
            let mut lines = vec![format!("{pad}{name}:")];
            lines.extend(texts.iter().map(|text| text_block(&scalar(text, quote, false), key + indent, gap)));
            lines
        }
    }
}

/// One item's line.
pub(super) fn text_block(written: &str, dash: usize, gap: usize) -> String {
    format!("{}-{}{written}", " ".repeat(dash), " ".repeat(gap.saturating_sub(1)))
}

/// Puts the dash into the first line's indentation.
fn with_dash(mut lines: Vec<String>, dash: usize) -> Vec<String> {
    if let Some(first) = lines.first_mut() {
        first.replace_range(dash..=dash, "-");
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_where_a_reader_could_take_them_for_something_else() {
        for (text, quote, flow, written) in [
            ("app1.public.domain", Quote::None, false, "app1.public.domain"),
            ("/", Quote::None, true, "/"),
            ("on", Quote::None, false, "\"on\""),
            ("0777", Quote::None, false, "\"0777\""),
            ("123", Quote::None, false, "\"123\""),
            ("*.wild.domain", Quote::None, false, "\"*.wild.domain\""),
            ("/a,b", Quote::None, false, "/a,b"),
            ("/a,b", Quote::None, true, "\"/a,b\""),
            ("a", Quote::Double, false, "\"a\""),
            ("it's", Quote::Single, false, "'it''s'"),
            ("a\tb", Quote::Single, false, "\"a\\tb\""),
            ("/ä", Quote::None, false, "/ä"),
            ("a: b", Quote::None, false, "\"a: b\""),
            ("", Quote::None, false, "\"\""),
        ] {
            assert_eq!(scalar(text, quote, flow), written, "{text}");
        }
    }
}
