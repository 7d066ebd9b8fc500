//! The scale subresource.

use std::sync::Arc;

use serde_json::{Value, json};

use super::answer::{self, Answer};
use super::objects::{body, parse_any, write};
use super::patch::{self, managed};
use super::serve::Call;
use crate::sandbox::store::meta::{child, metadata, number, text, version};
use crate::sandbox::store::{Part, Resource, Status};

fn scale(object: &Value) -> Value {
    let labels = object.pointer("/spec/selector/matchLabels").and_then(Value::as_object).into_iter().flatten();
    let selector: Vec<String> = labels.map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect();
    let mut meta = json!({});
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object["metadata"].get(key) {
            metadata(&mut meta).insert(key.into(), value.clone());
        }
    }
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": meta["metadata"], "spec": {"replicas": number(object, "/spec/replicas").unwrap_or(0)},
        "status": {"replicas": number(object, "/status/replicas").unwrap_or(0), "selector": selector.join(",")}})
}

pub(super) async fn answer(mut call: Call, kind: Arc<Resource>) -> Result<Answer, Status> {
    let store = call.api.store.clone();
    let (namespace, name) = (call.seen.namespace.clone(), call.seen.name.clone());
    if call.seen.verb == "get" {
        let object = store.get(&kind.id(), &namespace, &name).ok_or_else(|| Status::not_found(&kind, &name))?;
        return Ok(answer::json(200, &scale(&object)));
    }
    let sent = parse_any(&body(&mut call).await?)?;
    let replicas = number(&sent, "/spec/replicas").filter(|r| *r >= 0);
    let replicas = replicas.ok_or_else(|| Status::bad_request("spec.replicas: a number of at least 0 is needed"))?;
    let (expected, manager, served) = (version(&sent), patch::field_manager(&call), call.seen.version.clone());
    let stored = store.modify_with(&kind.id(), &namespace, &name, &write(&call, Part::Main), |object| {
        if expected != 0 && !text(&sent, "/metadata/resourceVersion").is_empty() && expected != version(object) {
            return Err(Status::conflict(&kind, &name));
        }
        let before = object.clone();
        child(object, "spec").insert("replicas".into(), replicas.into());
        managed::track(&kind, &served, Some(&before), object, &manager, "");
        Ok(())
    })?;
    Ok(answer::json(200, &scale(&stored)))
}
