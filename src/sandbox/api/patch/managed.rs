//! Who owns which field: `metadata.managedFields` after a create, an update or a patch.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::fields::{self, Fields, Path};
use crate::sandbox::store::Resource;
use crate::sandbox::store::meta::{list, metadata, now, text};

/// Who writes, and how.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Manager {
    pub(super) name: String,
    /// `Apply` or `Update`.
    pub(super) operation: &'static str,
    pub(super) api_version: String,
    /// Empty, or `status`.
    pub(super) subresource: String,
}

/// One entry of `managedFields`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) manager: String,
    pub(super) operation: String,
    pub(super) api_version: String,
    pub(super) subresource: String,
    pub(super) time: String,
    pub(super) fields: Fields,
}

impl Entry {
    pub(super) fn is(&self, manager: &Manager) -> bool {
        self.manager == manager.name
            && self.operation == manager.operation
            && self.subresource == manager.subresource
            && (self.operation == "Apply" || self.api_version == manager.api_version)
    }

    /// As conflicts name it.
    pub(super) fn shown(&self) -> String {
        let subresource = if self.subresource.is_empty() { String::new() } else { format!(" with subresource {:?}", self.subresource) };
        let using = if self.operation == "Apply" { String::new() } else { format!(" using {}", self.api_version) };
        format!("{:?}{subresource}{using}", self.manager)
    }
}

pub(super) fn read(object: &Value) -> Vec<Entry> {
    let entries = list(object, "/metadata/managedFields").iter().map(|entry| Entry {
        manager: text(entry, "/manager").to_owned(),
        operation: text(entry, "/operation").to_owned(),
        api_version: text(entry, "/apiVersion").to_owned(),
        subresource: text(entry, "/subresource").to_owned(),
        time: text(entry, "/time").to_owned(),
        fields: Fields::parse(&entry["fieldsV1"]),
    });
    entries.collect()
}

pub(super) fn write(object: &mut Value, entries: &[Entry]) {
    let entries = entries.iter().filter(|e| !e.fields.0.is_empty()).map(|e| {
        let mut entry = json!({"manager": e.manager, "operation": e.operation, "apiVersion": e.api_version, "time": e.time,
            "fieldsType": "FieldsV1", "fieldsV1": e.fields.tree()});
        if !e.subresource.is_empty() {
            entry["subresource"] = e.subresource.clone().into();
        }
        entry
    });
    let entries: Vec<Value> = entries.collect();
    if entries.is_empty() {
        metadata(object).shift_remove("managedFields");
    } else {
        metadata(object).insert("managedFields".into(), entries.into());
    }
}

/// Gives a manager exactly these fields; the time changes only if they do.
pub(super) fn assign(entries: &mut Vec<Entry>, manager: &Manager, owned: Fields) {
    match entries.iter_mut().find(|e| e.is(manager)) {
        Some(entry) if entry.fields == owned && entry.api_version == manager.api_version => {}
        Some(entry) => {
            entry.fields = owned;
            entry.time = now();
            entry.api_version = manager.api_version.clone();
        }
        None => entries.push(Entry {
            manager: manager.name.clone(),
            operation: manager.operation.to_owned(),
            api_version: manager.api_version.clone(),
            subresource: manager.subresource.clone(),
            time: now(),
            fields: owned,
        }),
    }
}

/// Records that `manager` made `new` of `old` without an apply.
pub(in crate::sandbox::api) fn track(kind: &Resource, version: &str, old: Option<&Value>, new: &mut Value, name: &str, subresource: &str) {
    let manager = Manager { name: name.to_owned(), operation: "Update", api_version: kind.api_version(version), subresource: subresource.to_owned() };
    let leaves = |object: &Value| {
        let mut out: BTreeMap<Path, Value> = BTreeMap::new();
        fields::values(kind, version, object, subresource == "status", &mut out);
        out
    };
    let before = old.map(leaves).unwrap_or_default();
    let after = leaves(new);
    let changed: BTreeSet<&Path> = after.iter().filter(|(path, value)| before.get(*path) != Some(value)).map(|(path, _)| path).collect();
    let gone: BTreeSet<&Path> = before.keys().filter(|path| !after.contains_key(*path)).collect();
    // Who sends managedFields may have changed them; who sends none leaves them as they are.
    let sent = read(new);
    let mut entries = if sent.is_empty() { old.map(read).unwrap_or_default() } else { sent };
    if changed.is_empty() && gone.is_empty() {
        write(new, &entries);
        return;
    }
    for entry in &mut entries {
        let mine = entry.is(&manager);
        entry.fields.0.retain(|path| !gone.contains(path) && (mine || !changed.contains(path)));
    }
    let mut owned = entries.iter().find(|e| e.is(&manager)).map(|e| e.fields.clone()).unwrap_or_default();
    owned.0.extend(changed.into_iter().cloned());
    if !owned.0.is_empty() {
        assign(&mut entries, &manager, owned);
    }
    write(new, &entries);
}
