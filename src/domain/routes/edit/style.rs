//! How a file writes its entries, so that new text looks like what is there.

use crate::base::yaml::{Node, Source, Style};
use crate::domain::routes::Document;

/// Quotes around texts that need none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quote {
    None,
    Single,
    Double,
}

/// How a list below a key is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListStyle {
    /// `indent`: columns from the key to the dash; `gap`: from the dash to the item.
    Block {
        indent: usize,
        gap: usize,
    },
    Flow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// From an entry's dash to its keys.
    pub(super) gap: usize,
    pub(super) namespaces: ListStyle,
    pub(super) hosts: ListStyle,
    pub(super) prefixes: ListStyle,
    pub(super) quote_names: Quote,
    pub(super) quote_hosts: Quote,
    pub(super) quote_prefixes: Quote,
}

impl Layout {
    /// The layout of the document's entries; `prefer` counts most, else the last one.
    pub(super) fn of(document: &Document, prefer: Option<usize>) -> Self {
        let source = &document.source;
        let mut nodes: Vec<&Node> = document.items.iter().map(|item| &item.node).collect();
        nodes.reverse();
        if let Some(preferred) = prefer.and_then(|index| document.items.get(index)) {
            nodes.insert(0, &preferred.node);
        }
        let namespaces = |node: &Node| node.get("namespaces").map(|list| list.items().unwrap_or_default().to_vec()).unwrap_or_default();
        let first = |key: &str| nodes.iter().find_map(|node| list_style(source, node, key));
        let names: Vec<Node> = nodes.iter().flat_map(|n| ["virtualName", "name"].into_iter().filter_map(|key| n.get(key).cloned())).collect();
        let hosts: Vec<Node> = nodes.iter().flat_map(|n| namespaces(n)).filter_map(|n| n.get("hosts").cloned()).collect();
        let hosts: Vec<Node> = hosts.iter().flat_map(|list| list.items().unwrap_or_default().to_vec()).collect();
        let prefixes: Vec<Node> = nodes.iter().filter_map(|n| n.get("prefixes")).flat_map(|list| list.items().unwrap_or_default().to_vec()).collect();
        let ns_style = first("namespaces");
        let hosts_style = nodes.iter().find_map(|node| namespaces(node).iter().find_map(|n| list_style(source, n, "hosts")));
        let default = ns_style.filter(|s| *s != ListStyle::Flow).unwrap_or(ListStyle::Block { indent: 2, gap: 2 });
        Self {
            gap: nodes.iter().find_map(|node| gap(source, node)).unwrap_or(2),
            namespaces: ns_style.unwrap_or(default),
            hosts: hosts_style.unwrap_or(default),
            prefixes: first("prefixes").unwrap_or(hosts_style.unwrap_or(default)),
            quote_names: common_quote(&names),
            quote_hosts: common_quote(&hosts),
            quote_prefixes: common_quote(&prefixes),
        }
    }
}

/// The byte of the dash that opens a block list's item; `None` when something else stands between.
pub(super) fn dash(source: &Source, item: &Node) -> Option<usize> {
    let start = source.line_range(source.line_index(item.span.start)).start;
    let prefix = source.text[start..item.span.start].trim_end_matches(' ');
    let dash = prefix.strip_suffix('-')?;
    dash.chars().all(|c| matches!(c, ' ' | '-')).then_some(start + dash.len())
}

fn gap(source: &Source, item: &Node) -> Option<usize> {
    Some(item.span.start - dash(source, item)?)
}

fn list_style(source: &Source, map: &Node, key: &str) -> Option<ListStyle> {
    let (key, list) = map.entry(key)?;
    let first = list.items()?.first()?;
    if list.is_flow() {
        return Some(ListStyle::Flow);
    }
    let dash = dash(source, first)?;
    Some(ListStyle::Block { indent: source.indent(dash).checked_sub(source.indent(key.span.start))?, gap: first.span.start - dash })
}

/// The quotes that all of them have.
fn common_quote(nodes: &[Node]) -> Quote {
    let all = |style: Style| !nodes.is_empty() && nodes.iter().all(|node| node.style() == Some(style));
    if all(Style::Double) {
        Quote::Double
    } else if all(Style::Single) {
        Quote::Single
    } else {
        Quote::None
    }
}
