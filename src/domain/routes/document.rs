//! Reads the values file as Helm reads it, with the places of everything.

use std::sync::LazyLock;

use schemars::schema_for;
use serde_json::Value;

use crate::base::codes::Code;
use crate::base::fault::Result;
use crate::base::finding::{Finding, Level, fault};
use crate::base::place::{Place, Places};
use crate::base::yaml::schema::Checker;
use crate::base::yaml::{Kind, Node, Rules, Source, Style, parse_one, pointer};
use crate::domain::routes::{DEFAULT_LIST_KEY, Entry, Listed};

static ENTRY_SCHEMA: LazyLock<Value> = LazyLock::new(|| schema_for!(Entry).to_value());

/// Where the list of entries is.
#[derive(Clone, Debug)]
pub enum Site {
    /// A list, perhaps an empty one.
    List(Node),
    /// The key is there, its value empty.
    Empty { key: Node, value: Node },
    /// Neither key nor list.
    Absent,
}

/// An item of the list.
#[derive(Clone, Debug)]
pub struct Item {
    pub node: Node,
    pub virtual_name: String,
    pub place: Place,
    /// What the item says, or why it cannot be read.
    pub listed: std::result::Result<Listed, Vec<Finding>>,
    /// Things to know that do not keep the item from being read.
    pub warnings: Vec<Finding>,
}

/// A values file that was read.
#[derive(Clone, Debug)]
pub struct Document {
    pub source: Source,
    /// `None`: the file has no value at all.
    pub root: Option<Node>,
    /// The keys that lead to the list.
    pub list_key: Vec<String>,
    pub site: Site,
    pub items: Vec<Item>,
}

impl Document {
    /// The entries that could be read, in the file's order.
    pub fn listed(&self) -> Vec<Listed> {
        self.items.iter().filter_map(|item| item.listed.as_ref().ok().cloned()).collect()
    }

    /// Why some entries cannot be read.
    pub fn errors(&self) -> Vec<Finding> {
        self.items.iter().filter_map(|item| item.listed.as_ref().err()).flatten().cloned().collect()
    }

    /// The place of the list's key, or of the file.
    pub fn place(&self) -> Place {
        match &self.site {
            Site::List(node) => self.source.place(node.span.start),
            Site::Empty { key, .. } => self.source.place(key.span.start),
            Site::Absent => Place::new(&self.source.file, 0, 0),
        }
    }
}

/// Reads the values file's text. `file` names it in findings; `list_key` leads to the list (`a.b` for a nested one), by default the one
/// list whose items have `virtualName`.
///
/// # Errors
/// All that makes the file unreadable as a values file: syntax, duplicate keys, no list or several, items without `virtualName`.
pub fn document(text: &str, file: &str, list_key: Option<&str>) -> std::result::Result<Document, Vec<Finding>> {
    let source = Source::new(file, text);
    let root = parse_one(&source)?;
    let (list_key, site) = find_list(&source, root.as_ref(), list_key).map_err(|finding| vec![*finding])?;
    let nodes = match &site {
        Site::List(list) => list.items().unwrap_or_default().to_vec(),
        _ => Vec::new(),
    };
    let mut findings = Vec::new();
    let mut items = Vec::new();
    for node in nodes {
        match item(&source, node) {
            Ok(item) => items.push(item),
            Err(found) => findings.extend(found),
        }
    }
    if findings.is_empty() { Ok(Document { source, root, list_key, site, items }) } else { Err(findings) }
}

/// The entries of the values file's text; every one must be readable.
pub fn list(text: &str, file: &str, list_key: Option<&str>) -> Result<Vec<Listed>> {
    let document = document(text, file, list_key).map_err(|findings| fault(Code::FileInvalid, &findings))?;
    let errors = document.errors();
    if errors.is_empty() { Ok(document.listed()) } else { Err(fault(Code::FileInvalid, &errors)) }
}

fn item(source: &Source, node: Node) -> std::result::Result<Item, Vec<Finding>> {
    let at = |n: &Node| n.span.clone();
    if node.entries().is_none() {
        let message = "an item of the list must be an entry with `virtualName`, but is none";
        return Err(vec![source.error(&at(&node), message).hint("write `- virtualName: NAME` and the other keys below it")]);
    }
    let Some(expanded) = node.expand() else {
        return Err(vec![source.error(&at(&node), "the aliases of this entry grow beyond all measure")]);
    };
    let (expanded, mut warnings) = unquoted_port(source, expanded);
    let checker = Checker { source, schema: &ENTRY_SCHEMA, rules: Rules::Helm, unknown: Level::Warning, shapes: &[] };
    let found = checker.check(&expanded, "the entry");
    let virtual_name = expanded.get("virtualName").and_then(|n| n.scalar(Rules::Helm)).and_then(|v| v.as_str().map(str::to_owned));
    let Some(virtual_name) = virtual_name else { return Err(nested_instead(source, &expanded).map_or(found, |finding| vec![finding])) };
    let place = source.place(node.span.start);
    let (errors, more): (Vec<Finding>, Vec<Finding>) = found.into_iter().partition(Finding::is_error);
    warnings.extend(more);
    let listed = if errors.is_empty() { listed(source, &expanded) } else { Err(errors) };
    Ok(Item { node, virtual_name, place, listed, warnings })
}

/// `- virtualName:` with the other keys below it as if they were its value.
fn nested_instead(source: &Source, item: &Node) -> Option<Finding> {
    let (key, value) = item.entry("virtualName")?;
    let (first, _) = value.entries()?.first()?;
    let column = source.place(key.span.start).column;
    let name = first.text().unwrap_or_default();
    let finding = source.error(&first.span, format!("`{name}` is indented as if it belonged to `virtualName`"));
    Some(finding.hint(format!("give `virtualName` its name on its own line, and put `{name}` and the keys after it in column {column}")))
}

/// `port: "8000"` is what charts take for a number; it is read so, with a warning.
fn unquoted_port(source: &Source, mut item: Node) -> (Node, Vec<Finding>) {
    let mut warnings = Vec::new();
    if let Kind::Map { entries, .. } = &mut item.kind {
        for (_, value) in entries.iter_mut().filter(|(key, _)| key.text() == Some("port")) {
            if let Kind::Scalar { text, style: style @ (Style::Single | Style::Double) } = &mut value.kind
                && text.parse::<u16>().is_ok_and(|port| port.to_string() == *text)
            {
                *style = Style::Plain;
                warnings.push(source.warning(&value.span, "`port` is quoted, so Helm passes it on as text").hint("remove the quotes"));
            }
        }
    }
    (item, warnings)
}

fn listed(source: &Source, item: &Node) -> std::result::Result<Listed, Vec<Finding>> {
    let mut value = item.json(Rules::Helm).unwrap_or_default();
    drop_unknown(&mut value);
    let mut places = Places::default();
    fill_places(source, item, "", &mut places);
    match serde_json::from_value(value) {
        Ok(entry) => Ok(Listed { entry, places }),
        Err(error) => Err(vec![source.error(&item.span, format!("the entry cannot be read: {error}"))]),
    }
}

/// Charts may know more keys than this tool; they were warned about.
fn drop_unknown(value: &mut Value) {
    let keep = |map: &mut serde_json::Map<String, Value>, known: &[&str]| map.retain(|key, _| known.contains(&key.as_str()));
    let Some(map) = value.as_object_mut() else { return };
    keep(map, &["virtualName", "name", "port", "namespaces", "prefixes"]);
    for namespace in map.get_mut("namespaces").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(map) = namespace.as_object_mut() {
            keep(map, &["name", "hosts"]);
        }
    }
}

fn fill_places(source: &Source, node: &Node, at: &str, places: &mut Places) {
    places.insert(at, source.place(node.span.start));
    for (index, item) in node.items().unwrap_or_default().iter().enumerate() {
        fill_places(source, item, &pointer(at, &index.to_string()), places);
    }
    for (key, value) in node.entries().unwrap_or_default() {
        let below = pointer(at, key.text().unwrap_or_default());
        fill_places(source, value, &below, places);
        if value.is_block_collection() {
            places.insert(below, source.place(key.span.start));
        }
    }
}

type Found = (Vec<String>, Site);

fn find_list(source: &Source, root: Option<&Node>, list_key: Option<&str>) -> std::result::Result<Found, Box<Finding>> {
    let Some(root) = root else { return Ok((path_of(list_key), Site::Absent)) };
    if root.entries().is_none() {
        let finding = source.error(&root.span, "a values file must be a map at its top");
        return Err(Box::new(finding.hint(format!("put the list below a key: `{}:`", list_key.unwrap_or(DEFAULT_LIST_KEY)))));
    }
    if list_key.is_some() {
        let path = path_of(list_key);
        let site = named(source, root, &path)?;
        return Ok((path, site));
    }
    let mut lists = Vec::new();
    candidates(root, &mut Vec::new(), &mut lists);
    match lists.len() {
        0 => {
            let path = path_of(None);
            let site = named(source, root, &path)?;
            Ok((path, site))
        }
        1 => {
            let (path, node) = lists.remove(0);
            Ok((path, Site::List(node.clone())))
        }
        _ => {
            let names: Vec<String> = lists.iter().map(|(path, _)| format!("`{}`", path.join("."))).collect();
            let finding = source.error(&lists[1].1.span, format!("several lists have items with `virtualName`: {}", names.join(", ")));
            let first = lists[0].1.span.clone();
            Err(Box::new(finding.also(source.place(first.start), "the first one", source.mark(&first)).hint("say which one with `list-key`")))
        }
    }
}

fn path_of(list_key: Option<&str>) -> Vec<String> {
    list_key.unwrap_or(DEFAULT_LIST_KEY).split('.').map(str::to_owned).collect()
}

/// What stands at the path.
fn named(source: &Source, root: &Node, path: &[String]) -> std::result::Result<Site, Box<Finding>> {
    let mut node = root;
    for (depth, key) in path.iter().enumerate() {
        let Some((key_node, value)) = node.entry(key) else {
            return if depth == 0 && path.len() == 1 {
                Ok(Site::Absent)
            } else {
                let finding = source.error(&node.span, format!("there is no `{}` in the file", path[..=depth].join(".")));
                Err(Box::new(finding.hint("add the key with an empty list: []")))
            };
        };
        if depth + 1 == path.len() {
            return match value.items() {
                Some(_) => Ok(Site::List(value.clone())),
                None if value.is_null() => Ok(Site::Empty { key: key_node.clone(), value: value.clone() }),
                None => Err(Box::new(source.error(&key_node.span, format!("`{key}` must be a list of entries with `virtualName`")))),
            };
        }
        node = value;
    }
    Ok(Site::Absent)
}

/// The lists whose items have `virtualName`.
fn candidates<'n>(node: &'n Node, path: &mut Vec<String>, found: &mut Vec<(Vec<String>, &'n Node)>) {
    for (key, value) in node.entries().unwrap_or_default() {
        path.push(key.text().unwrap_or_default().to_owned());
        if value.items().is_some_and(|items| items.iter().any(|item| item.get("virtualName").is_some())) {
            found.push((path.clone(), value));
        }
        if matches!(value.kind, Kind::Map { .. }) {
            candidates(value, path, found);
        }
        path.pop();
    }
}
