//! Strategic merge patch: lists merge by the keys that the type declares; directives begin with `$`.

use serde_json::{Map, Value};

use crate::sandbox::schema::Schema;
use crate::sandbox::store::Status;
use crate::sandbox::store::meta::text;

/// Merges `patch` into an object of a built-in kind.
pub(super) fn apply(schema: Schema<'_>, target: &mut Value, patch: &Value) -> Result<(), Status> {
    let patch = patch.as_object().ok_or_else(|| Status::bad_request("error decoding patch: expected a JSON object"))?;
    map(Some(schema), target, patch)
}

fn map(schema: Option<Schema<'_>>, target: &mut Value, patch: &Map<String, Value>) -> Result<(), Status> {
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    match patch.get("$patch").and_then(Value::as_str) {
        Some("replace") => {
            *target = patch.iter().filter(|(k, _)| *k != "$patch").map(|(k, v)| (k.clone(), v.clone())).collect();
            return Ok(());
        }
        Some("delete") => {
            *target = Value::Object(Map::new());
            return Ok(());
        }
        _ => {}
    }
    let Value::Object(fields) = target else { return Ok(()) };
    if let Some(kept) = patch.get("$retainKeys").and_then(Value::as_array) {
        fields.retain(|key, _| kept.iter().any(|k| k == key));
    }
    for (key, gone) in patch {
        if let (Some(field), Some(gone)) = (key.strip_prefix("$deleteFromPrimitiveList/"), gone.as_array())
            && let Some(items) = fields.get_mut(field).and_then(Value::as_array_mut)
        {
            items.retain(|item| !gone.contains(item));
        }
    }
    for (key, value) in patch.iter().filter(|(k, _)| !k.starts_with('$')) {
        if value.is_null() {
            fields.shift_remove(key);
            continue;
        }
        let field = schema.and_then(|s| s.field(key));
        let replace = field.is_some_and(|f| f.strategies().any(|s| s == "replace"));
        match (value, fields.get_mut(key)) {
            (Value::Object(inner), slot) if !replace => {
                let mut fresh = Value::Object(Map::new());
                map(field, slot.unwrap_or(&mut fresh), inner)?;
                if fresh != Value::Object(Map::new()) || !fields.contains_key(key) && inner.get("$patch") != Some(&"delete".into()) {
                    fields.insert(key.clone(), fresh);
                } else if inner.get("$patch").is_some_and(|p| p == "delete") {
                    fields.shift_remove(key);
                }
            }
            (Value::Array(items), slot) => {
                let mut old = slot.and_then(|s| s.as_array().cloned()).unwrap_or_default();
                let merge = field.is_some_and(|f| f.strategies().any(|s| s == "merge"));
                list(field.filter(|_| merge), &mut old, items)?;
                fields.insert(key.clone(), old.into());
            }
            (value, _) => {
                fields.insert(key.clone(), value.clone());
            }
        }
    }
    for (key, order) in patch {
        if let (Some(name), Some(order)) = (key.strip_prefix("$setElementOrder/"), order.as_array())
            && let Some(items) = fields.get_mut(name).and_then(Value::as_array_mut)
        {
            let merge_key = schema.and_then(|s| s.field(name)).map_or("", |f| f.merge_key());
            arrange(items, order, merge_key);
        }
    }
    Ok(())
}

fn list(field: Option<Schema<'_>>, target: &mut Vec<Value>, patch: &[Value]) -> Result<(), Status> {
    let Some(field) = field else {
        *target = patch.iter().filter(|i| text(i, "/$patch") != "replace" || i.as_object().is_some_and(|m| m.len() > 1)).cloned().collect();
        return Ok(());
    };
    let key = field.merge_key();
    if patch.iter().any(|item| text(item, "/$patch") == "replace") {
        *target = patch.iter().filter(|item| text(item, "/$patch") != "replace").cloned().collect();
        return Ok(());
    }
    for item in patch {
        let Value::Object(fields) = item else {
            if !target.contains(item) {
                target.push(item.clone());
            }
            continue;
        };
        let own = fields.get(key).ok_or_else(|| Status::bad_request(format!("map: {item} does not contain declared merge key: {key}")))?;
        let found = target.iter().position(|t| t.get(key) == Some(own));
        match (text(item, "/$patch"), found) {
            ("delete", Some(_)) => target.retain(|t| t.get(key) != Some(own)),
            ("delete", None) => {}
            (_, Some(at)) => map(Some(field.items()), &mut target[at], fields)?,
            (_, None) => {
                let mut fresh = Value::Null;
                map(Some(field.items()), &mut fresh, fields)?;
                target.push(fresh);
            }
        }
    }
    Ok(())
}

/// Puts the items that `order` names into its order; the others keep their places.
fn arrange(items: &mut [Value], order: &[Value], merge_key: &str) {
    let rank = |item: &Value| {
        order.iter().position(|o| if merge_key.is_empty() || !item.is_object() { o == item } else { o.get(merge_key) == item.get(merge_key) })
    };
    let mut named: Vec<Value> = items.iter().filter(|i| rank(i).is_some()).cloned().collect();
    named.sort_by_key(|i| rank(i));
    let mut named = named.into_iter();
    for item in items.iter_mut() {
        if rank(item).is_some()
            && let Some(next) = named.next()
        {
            *item = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sandbox::store::Store;

    fn patched(patch: Value) -> Value {
        let kind = Store::new().resource("deployments.apps").unwrap();
        let mut target = json!({"metadata": {"labels": {"a": "1"}, "finalizers": ["x/y"]}, "spec": {
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}},
            "template": {"spec": {"containers": [{"name": "a", "image": "a:1", "env": [{"name": "E", "value": "1"}]}, {"name": "b", "image": "b:1"}],
                "volumes": [{"name": "v", "emptyDir": {}}], "tolerations": [{"key": "t"}]}}}});
        apply(Schema::of(&kind, "v1").unwrap(), &mut target, &patch).unwrap();
        target
    }

    #[test]
    fn lists_merge_by_their_keys() {
        let out = patched(
            json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "a:2", "env": [{"name": "F", "value": "2"}]}, {"name": "c", "image": "c:1"}]}}}}),
        );
        let containers = &out["spec"]["template"]["spec"]["containers"];
        assert_eq!(containers[0], json!({"name": "a", "image": "a:2", "env": [{"name": "E", "value": "1"}, {"name": "F", "value": "2"}]}));
        assert_eq!((containers[1]["name"].as_str(), containers[2]["image"].as_str()), (Some("b"), Some("c:1")));
    }

    #[test]
    fn directives_delete_replace_retain_and_order() {
        let out = patched(json!({
            "metadata": {"$deleteFromPrimitiveList/finalizers": ["x/y"], "labels": {"a": null, "b": "2"}},
            "spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}, "template": {"spec": {
                "$setElementOrder/containers": [{"name": "c"}, {"name": "b"}],
                "containers": [{"name": "a", "$patch": "delete"}, {"name": "c", "image": "c:1"}],
                "volumes": [{"$patch": "replace"}, {"name": "w", "emptyDir": {}}],
                "tolerations": [{"key": "u"}]}}}}));
        assert_eq!((&out["metadata"]["labels"], &out["metadata"]["finalizers"]), (&json!({"b": "2"}), &json!([])));
        assert_eq!(out["spec"]["strategy"], json!({"type": "Recreate"}));
        let spec = &out["spec"]["template"]["spec"];
        assert_eq!((spec["containers"][0]["name"].as_str(), spec["containers"][1]["name"].as_str()), (Some("c"), Some("b")));
        assert_eq!((&spec["volumes"], &spec["tolerations"]), (&json!([{"name": "w", "emptyDir": {}}]), &json!([{"key": "u"}])));
    }
}
