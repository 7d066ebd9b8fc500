//! Server-side apply: merging what a manager wants into the object, with conflicts and the removal of what it no longer wants.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::fields::{self, Fields, Path, Shape, item_key, shape};
use super::managed::{self, Entry, Manager};
use crate::sandbox::schema::Schema;
use crate::sandbox::store::meta::metadata;
use crate::sandbox::store::{Resource, Status};

/// What `live` becomes when `manager` applies `config`.
///
/// # Errors
/// 409 if another manager owns a field that `config` changes, unless `force`.
pub(super) fn apply(kind: &Resource, version: &str, live: &Value, config: &Value, manager: &Manager, force: bool) -> Result<Value, Status> {
    let status = manager.subresource == "status";
    let (mut wanted, mut present) = (BTreeMap::new(), BTreeMap::new());
    fields::values(kind, version, config, status, &mut wanted);
    fields::values(kind, version, live, status, &mut present);
    let mut entries = managed::read(live);
    let before = entries.iter().find(|e| e.is(manager)).map(|e| e.fields.clone()).unwrap_or_default();
    conflicts(&mut entries, manager, &wanted, &present, force)?;

    let mut merged = live.clone();
    let schema = Schema::of(kind, version);
    for (key, value) in config.as_object().into_iter().flatten() {
        if matches!(key.as_str(), "kind" | "apiVersion") || kind.has("status") && (key == "status") != status {
            continue;
        }
        let inner = if key == "metadata" { Some(Schema::metadata()) } else { schema.and_then(|s| s.field(key)) };
        merge(inner, &mut merged[key.as_str()], value);
    }
    let owned = Fields(wanted.keys().cloned().collect());
    let others: BTreeSet<&Path> = entries.iter().filter(|e| !e.is(manager)).flat_map(|e| &e.fields.0).collect();
    let mut dropped: Vec<&Path> = before.0.iter().filter(|path| !owned.0.contains(*path) && !others.contains(path)).collect();
    // An item goes only if nobody owns anything inside it.
    dropped.retain(|path| !owned.0.iter().chain(others.iter().copied()).any(|other| other.len() > path.len() && other.starts_with(path)));
    let whole: BTreeSet<&Path> = dropped.iter().copied().collect();
    dropped.retain(|path| !(1..path.len()).any(|n| whole.contains(&path[..n].to_vec())) && !is_key(path));
    for path in dropped {
        let root = if path.first().is_some_and(|s| s == "f:metadata") { None } else { schema };
        remove(root, &mut merged, path);
    }
    managed::assign(&mut entries, manager, owned);
    managed::write(&mut merged, &entries);
    Ok(merged)
}

/// Whether a path is the key field of a list's item, which goes with the item only.
fn is_key(path: &Path) -> bool {
    let [.., item, field] = path.as_slice() else { return false };
    let keys: Option<serde_json::Map<String, Value>> = item.strip_prefix("k:").and_then(|keys| serde_json::from_str(keys).ok());
    keys.is_some_and(|keys| field.strip_prefix("f:").is_some_and(|field| keys.contains_key(field)))
}

/// Finds other owners of fields that change; with `force` takes the fields from them.
fn conflicts(
    entries: &mut [Entry],
    manager: &Manager,
    wanted: &BTreeMap<Path, Value>,
    present: &BTreeMap<Path, Value>,
    force: bool,
) -> Result<(), Status> {
    let differs = |path: &Path| wanted.get(path).is_some_and(|value| present.get(path).is_some_and(|p| p != value) || !present.contains_key(path));
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for entry in entries.iter_mut().filter(|e| !e.is(manager)) {
        let paths: Vec<Path> = entry.fields.0.iter().filter(|path| differs(path)).cloned().collect();
        if paths.is_empty() {
            continue;
        }
        if force {
            entry.fields.0.retain(|path| !paths.contains(path));
        } else {
            found.push((entry.shown(), paths.iter().map(fields::shown).collect()));
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    let count: usize = found.iter().map(|(_, paths)| paths.len()).sum();
    let texts = found.iter().map(|(who, paths)| match paths.as_slice() {
        [one] => format!("conflict with {who}: {one}"),
        many => format!("conflicts with {who}:\n- {}", many.join("\n- ")),
    });
    let texts: Vec<String> = texts.collect();
    let plural = if count == 1 { "" } else { "s" };
    let mut status = Status::new(409, "Conflict", format!("Apply failed with {count} conflict{plural}: {}", texts.join("\n")));
    let causes = found.iter().flat_map(|(who, paths)| {
        paths.iter().map(move |path| json!({"reason": "FieldManagerConflict", "message": format!("conflict with {who}"), "field": path}))
    });
    let causes: Vec<Value> = causes.collect();
    status.details = Some(Box::new(json!({"causes": causes})));
    Err(status)
}

fn merge(schema: Option<Schema<'_>>, live: &mut Value, config: &Value) {
    match (shape(schema, config), config) {
        (Shape::Map, Value::Object(wanted)) => {
            if !live.is_object() {
                *live = json!({});
            }
            for (key, value) in wanted {
                merge(schema.and_then(|s| s.field(key)), &mut live[key.as_str()], value);
            }
        }
        (Shape::Items(keys), Value::Array(wanted)) => {
            let mut items = live.as_array().cloned().unwrap_or_default();
            for value in wanted {
                let key = item_key(value, &keys);
                let inner = schema.map(|s| s.items());
                match items.iter_mut().find(|item| item_key(item, &keys) == key) {
                    Some(item) => merge(inner, item, value),
                    None => items.push(value.clone()),
                }
            }
            *live = items.into();
        }
        (Shape::Set, Value::Array(wanted)) => {
            let mut items = live.as_array().cloned().unwrap_or_default();
            for value in wanted {
                if !items.contains(value) {
                    items.push(value.clone());
                }
            }
            *live = items.into();
        }
        // An empty map owns nothing inside: what is there stays.
        (_, Value::Object(wanted)) if wanted.is_empty() && live.is_object() && !schema.is_some_and(|s| s.atomic_map()) => {}
        _ => *live = config.clone(),
    }
}

/// Removes a field or an item, and the maps that become empty by it.
fn remove(schema: Option<Schema<'_>>, value: &mut Value, path: &[String]) {
    let Some((step, rest)) = path.split_first() else { return };
    match step.split_once(':') {
        Some(("f", name)) => {
            let Some(map) = value.as_object_mut() else { return };
            let inner_schema = if name == "metadata" && schema.is_none() { Some(Schema::metadata()) } else { schema.and_then(|s| s.field(name)) };
            let Some(inner) = map.get_mut(name) else { return };
            if !rest.is_empty() {
                remove(inner_schema, inner, rest);
            }
            let empty = inner.as_object().is_some_and(serde_json::Map::is_empty) || inner.as_array().is_some_and(Vec::is_empty);
            if rest.is_empty() || empty && name != "spec" && name != "metadata" {
                map.shift_remove(name);
            }
        }
        Some(("k", _)) => {
            let keys = schema.map(|s| s.list_keys()).unwrap_or_default();
            let Some(items) = value.as_array_mut() else { return };
            if rest.is_empty() {
                items.retain(|item| item_key(item, &keys) != *step);
            } else if let Some(item) = items.iter_mut().find(|item| item_key(item, &keys) == *step) {
                remove(schema.map(|s| s.items()), item, rest);
            }
        }
        Some((_, gone)) => {
            if let Some(items) = value.as_array_mut() {
                let gone: Value = serde_json::from_str(gone).unwrap_or_default();
                items.retain(|item| *item != gone);
            }
        }
        None => {}
    }
}

/// The object that an apply creates.
pub(super) fn fresh(kind: &Resource, version: &str, config: &Value, manager: &Manager) -> Value {
    let mut object = config.clone();
    if kind.has("status")
        && let Some(map) = object.as_object_mut()
    {
        map.shift_remove("status");
    }
    metadata(&mut object).shift_remove("managedFields");
    let mut entries = Vec::new();
    managed::assign(&mut entries, manager, Fields::of(kind, version, config, false));
    managed::write(&mut object, &entries);
    object
}

#[cfg(test)]
mod tests;
