//! Sets of fields as `managedFields` writes them, computed from objects along their schema.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::sandbox::schema::Schema;
use crate::sandbox::store::Resource;

/// One step of a path as `fieldsV1` writes it: `f:NAME`, `k:{"name":"c"}`, `v:"x"`.
pub(super) type Path = Vec<String>;

/// Fields somebody owns.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Fields(pub(super) BTreeSet<Path>);

/// Metadata that nobody owns.
const UNOWNED: &[&str] = &[
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
    "generateName",
];

/// What a schema says about a value's parts.
pub(super) enum Shape<'a> {
    Leaf,
    Map,
    /// Items are told apart by these keys.
    Items(Vec<&'a str>),
    Set,
}

/// How a value is taken apart.
pub(super) fn shape<'a>(schema: Option<Schema<'a>>, value: &Value) -> Shape<'a> {
    match value {
        Value::Object(map) if map.is_empty() || schema.is_some_and(|s| s.atomic_map()) => Shape::Leaf,
        Value::Object(_) => Shape::Map,
        Value::Array(items) if !items.is_empty() => match schema.map(|s| (s.list_keys(), s.is_set())) {
            Some((keys, _)) if !keys.is_empty() && items.iter().all(Value::is_object) => Shape::Items(keys),
            Some((_, true)) => Shape::Set,
            _ => Shape::Leaf,
        },
        _ => Shape::Leaf,
    }
}

/// The `k:` step of a list's item.
pub(super) fn item_key(item: &Value, keys: &[&str]) -> String {
    let pairs: BTreeMap<&str, Value> = keys
        .iter()
        .filter_map(|key| match item.get(*key) {
            Some(value) => Some((*key, value.clone())),
            None if *key == "protocol" => Some((*key, "TCP".into())),
            None => None,
        })
        .collect();
    format!("k:{}", json!(pairs))
}

impl Fields {
    /// Every field that an object sets; `status` chooses the status alone or all but it.
    pub(super) fn of(kind: &Resource, version: &str, object: &Value, status: bool) -> Fields {
        let mut leaves = BTreeMap::new();
        values(kind, version, object, status, &mut leaves);
        Fields(leaves.into_keys().collect())
    }

    /// Reads `fieldsV1`.
    pub(super) fn parse(tree: &Value) -> Fields {
        fn walk(tree: &Value, at: &mut Path, out: &mut BTreeSet<Path>) {
            let children = tree.as_object().filter(|m| !m.is_empty());
            let Some(children) = children else {
                out.insert(at.clone());
                return;
            };
            for (key, inner) in children {
                if key == "." {
                    out.insert(at.clone());
                    continue;
                }
                at.push(key.clone());
                walk(inner, at, out);
                at.pop();
            }
        }
        let mut out = BTreeSet::new();
        if tree.as_object().is_some_and(|m| !m.is_empty()) {
            walk(tree, &mut Vec::new(), &mut out);
        }
        Fields(out)
    }

    /// Writes `fieldsV1`.
    pub(super) fn tree(&self) -> Value {
        let mut root = json!({});
        for path in &self.0 {
            let mut at = &mut root;
            for step in path {
                at = &mut at[step.as_str()];
                if at.is_null() {
                    *at = json!({});
                }
            }
        }
        for path in &self.0 {
            let pointer: String = path.iter().map(|s| format!("/{}", s.replace('~', "~0").replace('/', "~1"))).collect();
            if let Some(node) = root.pointer_mut(&pointer).and_then(Value::as_object_mut)
                && !node.is_empty()
            {
                node.insert(".".into(), json!({}));
            }
        }
        root
    }
}

/// Every owned field with its value: leaves, and the items of keyed lists.
pub(super) fn values(kind: &Resource, version: &str, object: &Value, status: bool, out: &mut BTreeMap<Path, Value>) {
    let schema = Schema::of(kind, version);
    let split = kind.has("status");
    for (key, value) in object.as_object().into_iter().flatten() {
        if matches!(key.as_str(), "kind" | "apiVersion") || split && (key == "status") != status {
            continue;
        }
        if key == "metadata" {
            let schema = Schema::metadata();
            for (inner, value) in value.as_object().into_iter().flatten().filter(|(k, _)| !UNOWNED.contains(&k.as_str())) {
                descend(schema.field(inner), value, &mut vec!["f:metadata".into(), format!("f:{inner}")], out);
            }
            continue;
        }
        descend(schema.and_then(|s| s.field(key)), value, &mut vec![format!("f:{key}")], out);
    }
}

fn descend(schema: Option<Schema<'_>>, value: &Value, at: &mut Path, out: &mut BTreeMap<Path, Value>) {
    match shape(schema, value) {
        Shape::Leaf => {
            out.insert(at.clone(), value.clone());
        }
        Shape::Map => {
            for (key, inner) in value.as_object().into_iter().flatten() {
                at.push(format!("f:{key}"));
                descend(schema.and_then(|s| s.field(key)), inner, at, out);
                at.pop();
            }
        }
        Shape::Items(keys) => {
            for item in value.as_array().into_iter().flatten() {
                at.push(item_key(item, &keys));
                out.insert(at.clone(), Value::Null);
                descend(schema.map(|s| s.items()), item, at, out);
                at.pop();
            }
        }
        Shape::Set => {
            for item in value.as_array().into_iter().flatten() {
                at.push(format!("v:{item}"));
                out.insert(at.clone(), Value::Null);
                at.pop();
            }
        }
    }
}

/// A path as conflicts name it: `.spec.containers[name="c"].image`.
pub(super) fn shown(path: &Path) -> String {
    let step = |step: &String| match step.split_once(':') {
        Some(("f", name)) => format!(".{name}"),
        Some(("k", keys)) => {
            let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let pairs: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
            format!("[{}]", pairs.join(","))
        }
        Some((_, value)) => format!("[={value}]"),
        None => String::new(),
    };
    path.iter().map(step).collect()
}
