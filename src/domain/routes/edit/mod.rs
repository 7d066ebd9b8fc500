//! The lossless edit of the values file: no byte changes but those of the entry, and what cannot be done surely is refused.

mod guard;
#[cfg(test)]
mod laws;
mod lists;
mod patch;
mod render;
mod style;
#[cfg(test)]
mod tests;

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::finding::fault;
use crate::base::place::Places;
use crate::base::yaml::{Node, Style};
use crate::domain::routes::check::check_entry;
use crate::domain::routes::document::{Document, Item, Site, document};
use crate::domain::routes::{Entry, Listed};

use lists::{Fresh, Plan, edit, last_line};
use patch::Patch;
use render::{entry_block, entry_flow, scalar, texts_block, texts_flow};
use style::{Layout, Quote};

/// What an edit did to the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Unchanged,
    Inserted,
    Updated,
    Removed,
}

/// A text after an edit. Unchanged means the same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited {
    pub text: String,
    pub effect: Effect,
}

/// Inserts the entry, or brings the one of its `virtualName` up to date. An entry that says the same already keeps its bytes.
///
/// # Errors
/// [`Code::FileInvalid`] with its place: the file or the entry is invalid, or the edit cannot be done surely; [`Code::Defect`] when the
/// result would not be what was meant. The text is to be left as it was then.
pub fn upsert(text: &str, file: &str, list_key: Option<&str>, entry: &Entry) -> Result<Edited> {
    let faulty: Vec<_> = check_entry(&Listed { entry: entry.clone(), places: Places::default() }).into_iter().filter(|f| f.is_error()).collect();
    if !faulty.is_empty() {
        return Err(fault(Code::FileInvalid, &faulty));
    }
    let before = document(text, file, list_key).map_err(|findings| fault(Code::FileInvalid, &findings))?;
    let Some(index) = find(&before, &entry.virtual_name)? else {
        let patches = insertion(&before, entry)?;
        let edited = guard::carry_out(&before, &patches, list_key, &guard::Expected::Inserted(entry))?;
        return Ok(Edited { text: edited, effect: Effect::Inserted });
    };
    let item = &before.items[index];
    let now = item.listed.as_ref().map_err(|findings| fault(Code::FileInvalid, findings))?;
    if now.entry.same_meaning(entry) {
        return Ok(Edited { text: text.to_owned(), effect: Effect::Unchanged });
    }
    let patches = update(&before, index, &now.entry, entry)?;
    let edited = guard::carry_out(&before, &patches, list_key, &guard::Expected::Updated(index, entry))?;
    Ok(Edited { text: edited, effect: Effect::Updated })
}

/// Removes the entry of this `virtualName`; one that is not there is unchanged. Comments above the entry stay.
///
/// # Errors
/// As [`upsert`].
pub fn remove(text: &str, file: &str, list_key: Option<&str>, virtual_name: &str) -> Result<Edited> {
    let before = document(text, file, list_key).map_err(|findings| fault(Code::FileInvalid, &findings))?;
    let Some(index) = find(&before, virtual_name)? else {
        return Ok(Edited { text: text.to_owned(), effect: Effect::Unchanged });
    };
    let Site::List(list) = &before.site else { return Err(refused(&before, 0, "the list is not written out here")) };
    let item = &before.items[index];
    if item.node.shares() {
        return Err(refused(&before, item.node.span.start, "the entry has an anchor, an alias or a merge key"));
    }
    let layout = Layout::of(&before, None);
    let plan = Plan { drop: vec![index], add: Vec::new() };
    let mut patches = edit(&before.source, list, &plan, &layout).map_err(|(at, why)| refused(&before, at, &why))?;
    if before.items.len() == 1 && !list.is_flow() {
        patches.push(Patch::insert(colon_before(&before, list)?, " []"));
    }
    let edited = guard::carry_out(&before, &patches, list_key, &guard::Expected::Removed(index))?;
    Ok(Edited { text: edited, effect: Effect::Removed })
}

/// A unified diff of two texts of a file; empty when they are the same.
pub fn diff(file: &str, old: &str, new: &str) -> String {
    if old == new {
        return String::new();
    }
    similar::TextDiff::from_lines(old, new).unified_diff().context_radius(3).header(&format!("a/{file}"), &format!("b/{file}")).to_string()
}

fn find(document: &Document, virtual_name: &str) -> Result<Option<usize>> {
    let mut found = document.items.iter().enumerate().filter(|(_, item)| item.virtual_name == virtual_name);
    let first = found.next();
    if let (Some((_, first)), Some((_, second))) = (first, found.next()) {
        let message = format!("the entry `{virtual_name}` is given twice, on lines {} and {}", first.place.line, second.place.line);
        return Err(Fault::new(Code::FileInvalid, message).at(Some(&second.place)).next("put them together by hand, then run this again"));
    }
    Ok(first.map(|(index, _)| index))
}

/// The edit is possible, but not surely without changing something else.
fn refused(document: &Document, at: usize, why: &str) -> Fault {
    let place = if at == 0 { document.place() } else { document.source.place(at) };
    Fault::new(Code::FileInvalid, format!("{} cannot be edited without touching other text: {why}", document.source.file))
        .at(Some(&place))
        .next("edit this entry by hand; a list written in lines, without anchors, can be edited by this command")
}

fn insertion(document: &Document, entry: &Entry) -> Result<Vec<Patch>> {
    let (source, layout) = (&document.source, Layout::of(document, None));
    match &document.site {
        Site::List(list) if !document.items.is_empty() => {
            let plan = Plan { drop: Vec::new(), add: vec![(Some(document.items.len() - 1), vec![Fresh::Entry(entry)])] };
            edit(source, list, &plan, &layout).map_err(|(at, why)| refused(document, at, &why))
        }
        Site::List(list) if list.shares() => Err(refused(document, list.span.start, "the list has an anchor or is an alias")),
        Site::List(list) => {
            let single_line = !source.text[list.span.clone()].contains('\n');
            match key_column(document, list).filter(|_| single_line) {
                Some(column) => below_key(document, &list.span, column, entry, &layout),
                None if single_line => Ok(vec![Patch::insert(list.span.start + 1, entry_flow(entry, &layout))]),
                None => Err(refused(document, list.span.start, "the empty list is written over several lines")),
            }
        }
        Site::Empty { key, value } => {
            if value.anchor.is_some() || value.tag.is_some() || value.style().is_none() {
                return Err(refused(document, value.span.start, "the empty list has an anchor or a tag"));
            }
            match key_column(document, value) {
                Some(column) => below_key(document, &value.span, column, entry, &layout),
                None => Err(refused(document, key.span.start, "the list's key stands in braces")),
            }
        }
        Site::Absent => {
            if document.root.as_ref().is_some_and(|root| root.is_flow()) {
                return Err(refused(document, 0, "the file is written in braces"));
            }
            let mut lines = vec![format!("{}:", document.list_key.join("."))];
            lines.extend(entry_block(entry, 2, &layout));
            if document.source.text.is_empty() {
                return Ok(vec![Patch::insert(0, lines.join("\n") + "\n")]);
            }
            let last = if source.text.ends_with('\n') { source.line_count() - 2 } else { source.line_count() - 1 };
            Ok(vec![Patch::lines_after(source, last, &lines)])
        }
    }
}

/// Takes the empty value away and puts the entry into the lines below its key.
fn below_key(document: &Document, value: &std::ops::Range<usize>, column: usize, entry: &Entry, layout: &Layout) -> Result<Vec<Patch>> {
    let source = &document.source;
    let line = source.line_index(value.start);
    let lead = source.text[..value.start].trim_end_matches(' ').len();
    let mut patches = vec![Patch::lines_after(source, line, &entry_block(entry, column + 2, layout))];
    if !value.is_empty() {
        patches.push(Patch::replace(lead..value.end, ""));
    }
    Ok(patches)
}

/// The column of the key that has this value, when key and value stand on one line of a map in lines.
fn key_column(document: &Document, value: &Node) -> Option<usize> {
    let mut map = document.root.as_ref()?;
    for (depth, name) in document.list_key.iter().enumerate() {
        let (key, next) = map.entry(name)?;
        if map.is_flow() {
            return None;
        }
        if depth + 1 == document.list_key.len() {
            let same_line = document.source.line_index(key.span.start) == document.source.line_index(value.span.start);
            return same_line.then(|| document.source.indent(key.span.start));
        }
        map = next;
    }
    None
}

/// The byte behind the colon of the list's key.
fn colon_before(document: &Document, list: &Node) -> Result<usize> {
    let mut map = document.root.as_ref();
    let mut key_end = None;
    for name in &document.list_key {
        let Some((key, value)) = map.and_then(|m| m.entry(name)) else { break };
        key_end = Some(key.span.end);
        map = Some(value);
    }
    let colon = key_end.filter(|&end| document.source.text[end..].starts_with(':')).map(|end| end + 1);
    colon.ok_or_else(|| refused(document, list.span.start, "the list's key is written in an unusual way"))
}

fn update(document: &Document, index: usize, now: &Entry, wanted: &Entry) -> Result<Vec<Patch>> {
    let (source, item) = (&document.source, &document.items[index]);
    let layout = Layout::of(document, Some(index));
    let refuse = |(at, why): (usize, String)| refused(document, at, &why);
    if item.node.shares() {
        return Err(refused(document, item.node.span.start, "the entry has an anchor, an alias or a merge key"));
    }
    let mut patches = Vec::new();
    if now.name != wanted.name {
        patches.push(replace_scalar(
            document,
            value_of(document, item, "name")?,
            |quote, flow| scalar(&wanted.name, quote, flow),
            item.node.is_flow(),
        )?);
    }
    if now.port != wanted.port {
        let port = wanted.port.to_string();
        let written = |quote: Quote, flow| if quote == Quote::None { port.clone() } else { scalar(&port, quote, flow) };
        patches.push(replace_scalar(document, value_of(document, item, "port")?, written, item.node.is_flow())?);
    }
    let namespaces = value_of(document, item, "namespaces")?;
    let nodes = namespaces.items().unwrap_or_default();
    let mut plan = Plan::default();
    for (n, namespace) in now.namespaces.iter().enumerate() {
        let Some(target) = wanted.namespaces.iter().find(|other| other.name == namespace.name) else {
            plan.drop.push(n);
            continue;
        };
        if now.namespaces[..n].iter().any(|other| other.name == namespace.name) {
            return Err(refused(document, nodes[n].span.start, "the namespace is given twice"));
        }
        let Some(hosts) = nodes[n].get("hosts") else { return Err(refused(document, nodes[n].span.start, "the namespace has no hosts")) };
        let change = Plan::texts(&namespace.hosts, &target.hosts, false, layout.quote_hosts);
        patches.extend(edit(source, hosts, &change, &layout).map_err(refuse)?);
    }
    let fresh: Vec<Fresh<'_>> =
        wanted.namespaces.iter().filter(|target| !now.namespaces.iter().any(|n| n.name == target.name)).map(Fresh::Namespace).collect();
    if !fresh.is_empty() {
        let behind = (0..nodes.len()).rev().find(|n| !plan.drop.contains(n));
        plan.add.push((behind, fresh));
    }
    patches.extend(edit(source, namespaces, &plan, &layout).map_err(refuse)?);
    if now.effective_prefixes() != wanted.effective_prefixes() {
        patches.extend(prefixes(document, item, now, wanted, &layout)?);
    }
    Ok(patches)
}

fn prefixes(document: &Document, item: &Item, now: &Entry, wanted: &Entry, layout: &Layout) -> Result<Vec<Patch>> {
    let source = &document.source;
    let wanted: Vec<String> = wanted.effective_prefixes().into_iter().map(str::to_owned).collect();
    match item.node.get("prefixes") {
        Some(list) if list.items().is_some() => {
            let current = now.prefixes.clone().unwrap_or_default();
            let plan = Plan::texts(&current, &wanted, true, layout.quote_prefixes);
            edit(source, list, &plan, layout).map_err(|(at, why)| refused(document, at, &why))
        }
        // `prefixes:` with nothing, or with `null`.
        Some(empty) => {
            let text = texts_flow(&wanted, layout.quote_prefixes);
            Ok(vec![Patch::replace(empty.span.clone(), if empty.span.is_empty() { format!(" {text}") } else { text })])
        }
        None => {
            let (key, namespaces) =
                item.node.entry("namespaces").ok_or_else(|| refused(document, item.node.span.start, "the entry has no namespaces"))?;
            if item.node.is_flow() {
                return Ok(vec![Patch::insert(namespaces.span.end, format!(", prefixes: {}", texts_flow(&wanted, layout.quote_prefixes)))]);
            }
            let column = source.indent(key.span.start);
            let lines = texts_block("prefixes", &wanted, column, layout.prefixes, layout.quote_prefixes);
            Ok(vec![Patch::lines_after(source, last_line(source, namespaces, column), &lines)])
        }
    }
}

fn value_of<'d>(document: &Document, item: &'d Item, key: &str) -> Result<&'d Node> {
    item.node.get(key).ok_or_else(|| refused(document, item.node.span.start, &format!("`{key}` is not written in the entry itself")))
}

/// Replaces a scalar of one line, in its own quotes.
fn replace_scalar(document: &Document, node: &Node, written: impl Fn(Quote, bool) -> String, in_flow: bool) -> Result<Patch> {
    let quote = match node.style() {
        Some(Style::Plain) => Quote::None,
        Some(Style::Single) => Quote::Single,
        Some(Style::Double) => Quote::Double,
        _ => return Err(refused(document, node.span.start, "the value is written as a block of text")),
    };
    if node.tag.is_some() || document.source.text[node.span.clone()].contains('\n') {
        return Err(refused(document, node.span.start, "the value has a tag or goes over several lines"));
    }
    Ok(Patch::replace(node.span.clone(), written(quote, in_flow)))
}
