//! YAML as a tree whose every node knows its bytes: for findings with places and for edits that touch nothing else.

mod explain;
mod parse;
mod scalar;
pub mod schema;
mod source;

use std::ops::Range;
use std::sync::Arc;

use serde_json::{Map, Value};

pub use parse::{MAX_NODES, parse, parse_one};
pub use scalar::{Rules, is_ambiguous_number, is_yaml11_boolean, plain};
pub use source::{MAX_SIZE, Source};

/// How a scalar is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Plain,
    Single,
    Double,
    /// `|` or `>`.
    Block,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Scalar {
        text: String,
        style: Style,
    },
    List {
        flow: bool,
        items: Vec<Node>,
    },
    Map {
        flow: bool,
        entries: Vec<(Node, Node)>,
    },
    /// What the alias stands for.
    Alias(Arc<Node>),
}

/// A value of the file. `span` is its bytes: of block lists and maps from their first to their last child.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub span: Range<usize>,
    pub kind: Kind,
    /// The bytes of `&name`, if the node has an anchor.
    pub anchor: Option<Range<usize>>,
    /// `str` for `!!str`; only the core schema's tags.
    pub tag: Option<String>,
}

impl Node {
    /// The scalar's text, whatever type it has.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } => Some(text),
            Kind::Alias(node) => node.text(),
            _ => None,
        }
    }

    pub fn style(&self) -> Option<Style> {
        if let Kind::Scalar { style, .. } = self.kind { Some(style) } else { None }
    }

    /// The items of a list, through aliases.
    pub fn items(&self) -> Option<&[Node]> {
        match &self.kind {
            Kind::List { items, .. } => Some(items),
            Kind::Alias(node) => node.items(),
            _ => None,
        }
    }

    /// The entries of a map, through aliases; merge keys are entries like others.
    pub fn entries(&self) -> Option<&[(Node, Node)]> {
        match &self.kind {
            Kind::Map { entries, .. } => Some(entries),
            Kind::Alias(node) => node.entries(),
            _ => None,
        }
    }

    /// The entry of a map with this key.
    pub fn entry(&self, key: &str) -> Option<&(Node, Node)> {
        self.entries()?.iter().find(|(k, _)| k.text() == Some(key))
    }

    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|(_, value)| value)
    }

    pub fn is_flow(&self) -> bool {
        matches!(self.kind, Kind::List { flow: true, .. } | Kind::Map { flow: true, .. })
    }

    pub fn is_block_collection(&self) -> bool {
        matches!(self.kind, Kind::List { flow: false, .. } | Kind::Map { flow: false, .. })
    }

    /// The value of a scalar under these rules; `None` for lists and maps.
    pub fn scalar(&self, rules: Rules) -> Option<Value> {
        let Kind::Scalar { text, style } = &self.kind else {
            return if let Kind::Alias(node) = &self.kind { node.scalar(rules) } else { None };
        };
        Some(match (self.tag.as_deref(), style) {
            (Some("str"), _) => Value::String(text.clone()),
            (None, Style::Plain) | (Some(_), _) => plain(text, rules),
            (None, _) => Value::String(text.clone()),
        })
    }

    pub fn is_null(&self) -> bool {
        self.scalar(Rules::Core) == Some(Value::Null)
    }

    /// Does the node or anything below have an anchor, an alias or a merge key? Then an edit may change other places too.
    pub fn shares(&self) -> bool {
        self.anchor.is_some()
            || match &self.kind {
                Kind::Scalar { .. } => false,
                Kind::Alias(_) => true,
                Kind::List { items, .. } => items.iter().any(Node::shares),
                Kind::Map { entries, .. } => entries.iter().any(|(k, v)| is_merge(k) || k.shares() || v.shares()),
            }
    }

    /// The value as JSON, with aliases and merge keys resolved. `None`: it grows beyond [`MAX_NODES`].
    pub fn json(&self, rules: Rules) -> Option<Value> {
        let expanded = self.expand()?;
        Some(expanded.plain_json(rules))
    }

    /// The node with every alias replaced by what it stands for and every merge key applied. `None`: it grows beyond [`MAX_NODES`].
    pub fn expand(&self) -> Option<Node> {
        let mut budget = MAX_NODES;
        self.expanded(&mut budget)
    }

    fn expanded(&self, budget: &mut usize) -> Option<Node> {
        *budget = budget.checked_sub(1)?;
        let kind = match &self.kind {
            Kind::Alias(target) => {
                // What an alias brings in stands where the alias does.
                let mut node = target.expanded(budget)?;
                node.span = self.span.clone();
                node.anchor = None;
                return Some(node);
            }
            Kind::Scalar { .. } => self.kind.clone(),
            Kind::List { flow, items } => Kind::List { flow: *flow, items: items.iter().map(|item| item.expanded(budget)).collect::<Option<_>>()? },
            Kind::Map { flow, entries } => {
                let mut own = Vec::with_capacity(entries.len());
                let mut merged = Vec::new();
                for (key, value) in entries {
                    let value = value.expanded(budget)?;
                    match value.kind {
                        Kind::Map { entries, .. } if is_merge(key) => merged.extend(entries),
                        Kind::List { items, .. } if is_merge(key) => {
                            merged.extend(
                                items.into_iter().filter_map(|i| if let Kind::Map { entries, .. } = i.kind { Some(entries) } else { None }).flatten(),
                            );
                        }
                        _ => own.push((key.clone(), value)),
                    }
                }
                for (key, value) in merged {
                    if !own.iter().any(|(k, _)| k.text() == key.text()) {
                        own.push((key, value));
                    }
                }
                Kind::Map { flow: *flow, entries: own }
            }
        };
        Some(Node { kind, ..self.clone_shallow() })
    }

    fn clone_shallow(&self) -> Node {
        Node { span: self.span.clone(), kind: Kind::List { flow: true, items: Vec::new() }, anchor: self.anchor.clone(), tag: self.tag.clone() }
    }

    fn plain_json(&self, rules: Rules) -> Value {
        match &self.kind {
            Kind::List { items, .. } => Value::Array(items.iter().map(|item| item.plain_json(rules)).collect()),
            Kind::Map { entries, .. } => {
                let entries = entries.iter().map(|(key, value)| (key.text().unwrap_or_default().to_owned(), value.plain_json(rules)));
                Value::Object(entries.collect::<Map<_, _>>())
            }
            _ => self.scalar(rules).unwrap_or_default(),
        }
    }
}

/// `<<`, unquoted.
pub fn is_merge(key: &Node) -> bool {
    matches!(&key.kind, Kind::Scalar { text, style: Style::Plain } if text == "<<")
}

/// One more segment of a JSON pointer.
pub fn pointer(parent: &str, segment: &str) -> String {
    format!("{parent}/{}", segment.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests;
