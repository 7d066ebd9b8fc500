//! JSON merge patches.

use serde_json::Value;

/// Merges `from` into `into`: maps key by key, `null` takes a key away, anything else takes the place of what was there.
pub(crate) fn merge(into: &mut Value, from: &Value) {
    if from.is_object() && !into.is_object() {
        *into = Value::Object(serde_json::Map::new());
    }
    match (into, from) {
        (_, Value::Null) => {}
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                if value.is_null() {
                    into.shift_remove(key);
                } else {
                    merge(into.entry(key.as_str()).or_insert(Value::Null), value);
                }
            }
        }
        (into, from) => *into = from.clone(),
    }
}
