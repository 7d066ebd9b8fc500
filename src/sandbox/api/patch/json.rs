//! JSON patch, RFC 6902.

use serde_json::Value;

use crate::sandbox::store::Status;
use crate::sandbox::store::meta::text;

/// The real server keeps the operation that failed to itself.
fn refused() -> Status {
    let mut status = Status::new(422, "Invalid", "the server rejected our request due to an error in our request");
    status.details = Some(Box::new(serde_json::json!({})));
    status
}

/// Carries out every operation, or none.
pub(super) fn apply(target: &mut Value, patch: &Value) -> Result<(), Status> {
    let operations = patch
        .as_array()
        .ok_or_else(|| Status::bad_request("error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp"))?;
    let mut changed = target.clone();
    for operation in operations {
        step(&mut changed, operation)?;
    }
    *target = changed;
    Ok(())
}

fn step(target: &mut Value, operation: &Value) -> Result<(), Status> {
    let path = text(operation, "/path");
    let value = || operation.get("value").cloned().unwrap_or(Value::Null);
    match text(operation, "/op") {
        "add" => add(target, path, value()),
        "remove" => remove(target, path).map(drop),
        "replace" => {
            let old = target.pointer_mut(path).ok_or_else(refused)?;
            *old = value();
            Ok(())
        }
        "test" => {
            let found = target.pointer(path).unwrap_or(&Value::Null);
            if *found == value() { Ok(()) } else { Err(refused()) }
        }
        "move" => {
            let moved = remove(target, text(operation, "/from"))?;
            add(target, path, moved)
        }
        "copy" => {
            let from = text(operation, "/from");
            let copied = target.pointer(from).cloned().ok_or_else(refused)?;
            add(target, path, copied)
        }
        other => Err(Status::bad_request(format!("unexpected kind: {other}"))),
    }
}

fn split(path: &str) -> Option<(&str, String)> {
    let (parent, last) = path.rsplit_once('/')?;
    Some((parent, last.replace("~1", "/").replace("~0", "~")))
}

fn add(target: &mut Value, path: &str, value: Value) -> Result<(), Status> {
    let missing = refused;
    let Some((parent, key)) = split(path) else {
        *target = value;
        return Ok(());
    };
    match target.pointer_mut(parent).ok_or_else(missing)? {
        Value::Object(map) => {
            map.insert(key, value);
        }
        Value::Array(items) if key == "-" => items.push(value),
        Value::Array(items) => {
            let at: usize = key.parse().map_err(|_| missing())?;
            if at > items.len() {
                return Err(missing());
            }
            items.insert(at, value);
        }
        _ => return Err(missing()),
    }
    Ok(())
}

fn remove(target: &mut Value, path: &str) -> Result<Value, Status> {
    let missing = refused;
    let (parent, key) = split(path).ok_or_else(missing)?;
    match target.pointer_mut(parent).ok_or_else(missing)? {
        Value::Object(map) => map.shift_remove(&key).ok_or_else(missing),
        Value::Array(items) => {
            let at: usize = key.parse().map_err(|_| missing())?;
            if at < items.len() { Ok(items.remove(at)) } else { Err(missing()) }
        }
        _ => Err(missing()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn operations_are_carried_out_in_order_or_not_at_all() {
        let before = json!({"metadata": {"labels": {"a/b": "1"}}, "list": [1, 2]});
        let mut target = before.clone();
        let patch = json!([
            {"op": "test", "path": "/metadata/labels/a~1b", "value": "1"},
            {"op": "replace", "path": "/metadata/labels/a~1b", "value": "2"},
            {"op": "add", "path": "/list/-", "value": 3},
            {"op": "add", "path": "/list/0", "value": 0},
            {"op": "remove", "path": "/list/1"},
            {"op": "copy", "from": "/list", "path": "/copy"},
            {"op": "move", "from": "/copy", "path": "/moved"},
        ]);
        apply(&mut target, &patch).unwrap();
        assert_eq!(target, json!({"metadata": {"labels": {"a/b": "2"}}, "list": [0, 2, 3], "moved": [0, 2, 3]}));
        let mut target = before.clone();
        let failing = json!([{"op": "remove", "path": "/list"}, {"op": "test", "path": "/metadata/labels/a~1b", "value": "9"}]);
        assert_eq!(apply(&mut target, &failing).unwrap_err().code, 422);
        assert_eq!(target, before);
    }
}
