//! From text to the tree. Whatever is wrong beside the syntax is reported at once; a syntax error ends the reading.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle, Tag, options};

use crate::base::finding::Finding;
use crate::base::yaml::explain::explain;
use crate::base::yaml::{Kind, Node, Source, Style, is_merge};

/// The most values a file may have, also after its aliases are replaced.
pub const MAX_NODES: usize = 100_000;

/// The deepest nesting.
const MAX_DEPTH: usize = 64;

/// Reads every document of the text.
pub fn parse(source: &Source) -> (Vec<Node>, Vec<Finding>) {
    let mut findings = source.control_characters();
    if !findings.is_empty() {
        return (Vec::new(), findings);
    }
    let limits = options! { emit_comments: false, emit_anchor_events: true, flow_nesting_limit: MAX_DEPTH, block_nesting_limit: MAX_DEPTH };
    let mut builder =
        Builder { source, findings: Vec::new(), documents: Vec::new(), stack: Vec::new(), anchors: HashMap::new(), nodes: 0, next_anchor: None };
    for event in Parser::new_from_str_with_options(&source.text, limits) {
        match event {
            Ok((event, span)) => {
                builder.event(event, span);
                if builder.nodes > MAX_NODES {
                    let end = builder.end_of(span);
                    builder.findings.push(source.error(&(end..end), format!("the file has more than {MAX_NODES} values")));
                    return (Vec::new(), builder.findings);
                }
            }
            Err(error) => {
                findings.extend(builder.findings);
                findings.push(explain(source, &error));
                return (Vec::new(), findings);
            }
        }
    }
    findings.extend(builder.findings);
    (builder.documents, findings)
}

/// Reads the one document of the text; `None` for one without any value.
pub fn parse_one(source: &Source) -> Result<Option<Node>, Vec<Finding>> {
    let (mut documents, mut findings) = parse(source);
    if documents.len() > 1 {
        let second = documents[1].span.clone();
        findings.push(
            source.error(&second, "a second document starts here").hint("the file holds one document: remove the `---` line and what belongs to it"),
        );
    }
    if !findings.is_empty() {
        return Err(findings);
    }
    let document = documents.pop();
    Ok(document.filter(|d| !(d.is_null() && d.span.is_empty())))
}

/// A list or map that is not closed yet; a map's keys and values alternate.
struct Open {
    node: Node,
    children: Vec<Node>,
    anchor_id: usize,
}

struct Builder<'s> {
    source: &'s Source,
    findings: Vec<Finding>,
    documents: Vec<Node>,
    stack: Vec<Open>,
    anchors: HashMap<usize, Arc<Node>>,
    nodes: usize,
    /// A finished scalar that waits for its anchor's span: the event comes behind it.
    next_anchor: Option<(usize, Node)>,
}

impl Builder<'_> {
    fn event(&mut self, event: Event<'_>, span: Span) {
        if let Event::Anchor(id, _) = event {
            let range = self.range(span);
            match &mut self.next_anchor {
                Some((_, node)) => node.anchor = Some(range),
                None => {
                    if let Some(open) = self.stack.last_mut().filter(|open| open.anchor_id == id) {
                        open.node.anchor = Some(range);
                    }
                }
            }
            self.settle();
            return;
        }
        self.settle();
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let style = match style {
                    ScalarStyle::Plain => Style::Plain,
                    ScalarStyle::SingleQuoted => Style::Single,
                    ScalarStyle::DoubleQuoted => Style::Double,
                    ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
                };
                // The parser gives a missing value as `~` without bytes.
                let text = if style == Style::Plain && self.range(span).is_empty() { String::new() } else { text.into_owned() };
                let node = self.node(span, Kind::Scalar { text, style }, tag.as_deref());
                if anchor > 0 { self.next_anchor = Some((anchor, node)) } else { self.add(node) }
            }
            Event::Alias(id) => {
                let node = match self.anchors.get(&id) {
                    Some(target) => self.node(span, Kind::Alias(Arc::clone(target)), None),
                    None => {
                        let range = self.range(span);
                        self.findings.push(self.source.error(&range, "this alias stands for a value that contains it").hint("write the value out"));
                        self.node(span, Kind::Scalar { text: String::new(), style: Style::Plain }, None)
                    }
                };
                self.add(node);
            }
            Event::SequenceStart(style, anchor, tag) => {
                let node = self.node(span, Kind::List { flow: style == StructureStyle::Flow, items: Vec::new() }, tag.as_deref());
                self.stack.push(Open { node, children: Vec::new(), anchor_id: anchor });
            }
            Event::MappingStart(style, anchor, tag) => {
                let node = self.node(span, Kind::Map { flow: style == StructureStyle::Flow, entries: Vec::new() }, tag.as_deref());
                self.stack.push(Open { node, children: Vec::new(), anchor_id: anchor });
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            Event::DocumentStart(..) => self.anchors.clear(),
            _ => {}
        }
    }

    fn close(&mut self, span: Span) {
        let Some(Open { mut node, children, anchor_id }) = self.stack.pop() else { return };
        let last = children.last().map(|child| child.span.end);
        let last = last.map(|end| if self.source.text[end..].starts_with(':') { end + 1 } else { end });
        match &mut node.kind {
            Kind::List { items, .. } => *items = children,
            Kind::Map { entries, .. } => {
                let mut children = children.into_iter();
                while let (Some(key), Some(mut value)) = (children.next(), children.next()) {
                    if value.span.is_empty() && self.source.text[value.span.start..].starts_with(':') {
                        // A missing value stands behind the colon.
                        value.span = value.span.start + 1..value.span.start + 1;
                    }
                    entries.push((key, value));
                }
            }
            _ => {}
        }
        node.span.end = if node.is_flow() { self.end_of(span) } else { last.unwrap_or(node.span.start).max(node.span.start) };
        self.check_keys(&node);
        if anchor_id > 0 {
            self.anchors.insert(anchor_id, Arc::new(node.clone()));
        }
        self.add(node);
    }

    /// Keys are text and given once.
    fn check_keys(&mut self, node: &Node) {
        let Kind::Map { entries, .. } = &node.kind else { return };
        let mut seen: HashMap<&str, &Node> = HashMap::new();
        for (key, value) in entries {
            let Some(text) = key.text() else {
                self.findings.push(
                    self.source.error(&key.span, "a key must be text, but this is a list or a map").hint("if a value in braces is meant, quote it"),
                );
                continue;
            };
            if let Some(first) = seen.insert(text, key) {
                let finding = self.source.error(&key.span, format!("`{text}` is given twice"));
                let finding = finding.also(self.source.place(first.span.start), "first given here", self.source.mark(&first.span));
                self.findings.push(finding.hint("remove one of them"));
            }
            if is_merge(key) && !merges(value) {
                self.findings.push(self.source.error(&value.span, "`<<` merges maps, but this is none").hint("write `<<: *name` of an anchored map"));
            }
        }
    }

    fn settle(&mut self) {
        if let Some((id, node)) = self.next_anchor.take() {
            self.anchors.insert(id, Arc::new(node.clone()));
            self.add(node);
        }
    }

    fn add(&mut self, node: Node) {
        match self.stack.last_mut() {
            Some(open) => open.children.push(node),
            None => self.documents.push(node),
        }
    }

    fn node(&mut self, span: Span, kind: Kind, tag: Option<&Tag>) -> Node {
        self.nodes += 1;
        let tag = tag.and_then(|tag| {
            let core = tag.core_suffix().map(str::to_owned);
            if core.is_none() {
                let at = span.tag_span().map_or_else(|| self.range(span), |s| self.range(s));
                self.findings.push(self.source.error(&at, format!("the tag `{}` has no meaning here", tag.original())).hint("remove it"));
            }
            core
        });
        Node { span: self.range(span), kind, anchor: None, tag }
    }

    fn range(&self, span: Span) -> Range<usize> {
        let range = span.byte_range().unwrap_or_default();
        range.start..range.end.max(range.start)
    }

    fn end_of(&self, span: Span) -> usize {
        self.range(span).end
    }
}

fn merges(value: &Node) -> bool {
    value.entries().is_some() || value.items().is_some_and(|items| items.iter().all(|item| item.entries().is_some()))
}
