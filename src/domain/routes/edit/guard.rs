//! Reads the edited text again and refuses it unless it says exactly what was meant and nothing else changed.

use serde_json::Value;

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::finding::render;
use crate::base::yaml::Rules;
use crate::domain::routes::Entry;
use crate::domain::routes::document::{Document, document};
use crate::domain::routes::edit::patch::{Patch, apply, untouched_lines_kept};

/// What the edit was meant to do.
pub(super) enum Expected<'e> {
    Inserted(&'e Entry),
    Updated(usize, &'e Entry),
    Removed(usize),
}

/// Applies the patches and proves the result.
pub(super) fn carry_out(before: &Document, patches: &[Patch], list_key: Option<&str>, expected: &Expected<'_>) -> Result<String> {
    let source = &before.source;
    let Some(text) = apply(&source.text, patches) else { return Err(defect(before, "two of its changes overlap", "")) };
    let evidence = super::diff(&source.file, &source.text, &text);
    // The list may be the only one with `virtualName` only as long as it has items: it is named from here on.
    let key = list_key.map_or_else(|| before.list_key.join("."), str::to_owned);
    let after = document(&text, &source.file, Some(&key))
        .map_err(|findings| defect(before, &format!("it cannot be read again: {}", render(&findings)), &evidence))?;
    if !untouched_lines_kept(source, patches, &text) {
        return Err(defect(before, "it changes other lines", &evidence));
    }
    if rest(before) != rest(&after) {
        return Err(defect(before, "it changes values outside the list", &evidence));
    }
    let (old, new) = (values(before), values(&after));
    let right = match *expected {
        Expected::Inserted(entry) => {
            new.len() == old.len() + 1 && new[..old.len()] == old[..] && says(&after, old.len(), entry) && keys_known(&new[old.len()])
        }
        Expected::Updated(index, entry) => {
            new.len() == old.len()
                && (0..old.len()).all(|i| i == index || new[i] == old[i])
                && says(&after, index, entry)
                && unknown_keys(&old[index]) == unknown_keys(&new[index])
        }
        Expected::Removed(index) => {
            let mut left = old.clone();
            left.remove(index);
            new == left
        }
    };
    if !right {
        return Err(defect(before, "the list does not say what was meant", &evidence));
    }
    Ok(if source.bom { format!("\u{feff}{text}") } else { text })
}

fn defect(document: &Document, why: &str, evidence: &str) -> Fault {
    Fault::new(Code::Defect, format!("the edit of {} is not safe, so nothing was written: {why}", document.source.file))
        .at(Some(&document.place()))
        .evidence("the edit that was refused", evidence)
        .next("edit the file by hand, and report this with the file")
}

fn says(document: &Document, index: usize, entry: &Entry) -> bool {
    document.items.get(index).and_then(|item| item.listed.as_ref().ok()).is_some_and(|listed| listed.entry.same_meaning(entry))
}

/// Every item as Helm reads it.
fn values(document: &Document) -> Vec<Value> {
    document.items.iter().map(|item| item.node.json(Rules::Helm).unwrap_or_default()).collect()
}

/// All of the file but the list.
fn rest(document: &Document) -> Value {
    let mut value = document.root.as_ref().and_then(|root| root.json(Rules::Helm)).unwrap_or_default();
    if value.is_null() {
        value = Value::Object(serde_json::Map::new());
    }
    let Some((last, path)) = document.list_key.split_last() else { return value };
    let mut map = &mut value;
    for key in path {
        match map.get_mut(key) {
            Some(next) => map = next,
            None => return value,
        }
    }
    if let Some(map) = map.as_object_mut() {
        map.remove(last);
    }
    value
}

const KNOWN: [&str; 5] = ["virtualName", "name", "port", "namespaces", "prefixes"];

fn keys_known(item: &Value) -> bool {
    item.as_object().is_some_and(|map| map.keys().all(|key| KNOWN.contains(&key.as_str())))
}

/// What the item says beside the keys of an entry, also in its namespaces that stay.
fn unknown_keys(item: &Value) -> Value {
    let mut item = item.clone();
    if let Some(map) = item.as_object_mut() {
        map.retain(|key, _| !KNOWN.contains(&key.as_str()));
    }
    item
}
