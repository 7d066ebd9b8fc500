//! Calls that do something to an object: eviction, binding, tokens, finalizing a namespace.

use std::sync::Arc;

use base64::Engine as _;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::answer::{self, Answer};
use super::format::Format;
use super::objects::{body, deletion, parse_any, write};
use super::serve::Call;
use crate::sandbox::store::meta::{child, list, new_uid, now, number, stamp, text, uid};
use crate::sandbox::store::{Part, Resource, Status};

fn success(code: u16) -> Answer {
    answer::json(code, &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code}))
}

/// Answers a created subresource of a pod or service account.
pub(super) async fn answer(mut call: Call, kind: Arc<Resource>) -> Result<Answer, Status> {
    let bytes = body(&mut call).await?;
    let sent = if bytes.is_empty() { json!({}) } else { parse_any(&bytes)? };
    let store = &call.api.store;
    let seen = &call.seen;
    let object = store.get(&kind.id(), &seen.namespace, &seen.name).ok_or_else(|| Status::not_found(&kind, &seen.name))?;
    match seen.subresource.as_str() {
        "eviction" => {
            if let Some(budget) = budget_in_the_way(&call, &object) {
                let mut status = Status::new(429, "TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget.");
                let message = format!("The disruption budget {budget} needs more healthy pods than there are");
                status.details = Some(Box::new(json!({"causes": [{"reason": "DisruptionBudget", "message": message}]})));
                return Err(status);
            }
            let options = sent.get("deleteOptions").cloned().unwrap_or_else(|| json!({}));
            store.delete_with(&kind.id(), &seen.namespace, &seen.name, &deletion(&call, &options)?)?;
            Ok(success(201))
        }
        "binding" => {
            let node = text(&sent, "/target/name").to_owned();
            store.modify_with(&kind.id(), &seen.namespace, &seen.name, &write(&call, Part::Whole), |pod| {
                child(pod, "spec").insert("nodeName".into(), node.clone().into());
                Ok(())
            })?;
            Ok(success(201))
        }
        "token" => {
            let seconds = number(&sent, "/spec/expirationSeconds").unwrap_or(3600);
            let expires = stamp(Timestamp::now() + SignedDuration::from_secs(seconds));
            let encode = |part: &Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(part.to_string());
            let subject = format!("system:serviceaccount:{}:{}", seen.namespace, seen.name);
            let claims = json!({"iss": "https://kubernetes.default.svc", "sub": subject, "uid": uid(&object), "exp": expires});
            let token = format!("{}.{}.{}", encode(&json!({"alg": "none"})), encode(&claims), encode(&json!("sandbox")));
            let spec = json!({"audiences": sent.pointer("/spec/audiences").cloned().unwrap_or_else(|| json!(["https://kubernetes.default.svc"])), "expirationSeconds": seconds, "boundObjectRef": null});
            let metadata = json!({"name": seen.name, "namespace": seen.namespace, "uid": new_uid(), "creationTimestamp": now()});
            let status = json!({"token": token, "expirationTimestamp": expires});
            let request =
                json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "metadata": metadata, "spec": spec, "status": status});
            Ok(answer::json(201, &request))
        }
        _ => Err(Status::not_played(&seen.verb, &seen.path)),
    }
}

/// Removes what holds a namespace: `finalize` with fewer `spec.finalizers`.
pub(super) async fn finalize(mut call: Call, kind: Arc<Resource>) -> Result<Answer, Status> {
    let bytes = body(&mut call).await?;
    let sent = parse_any(&bytes)?;
    let finalizers = list(&sent, "/spec/finalizers").to_vec();
    let seen = &call.seen;
    let stored = call.api.store.modify_with(&kind.id(), "", &seen.name, &write(&call, Part::Whole), |namespace| {
        child(namespace, "spec").insert("finalizers".into(), finalizers.clone().into());
        Ok(())
    })?;
    Ok(answer::json(200, &Format::of(&call, &kind).one(&kind, &stored, true)))
}

/// The PodDisruptionBudget that allows no disruption of this pod now.
fn budget_in_the_way(call: &Call, pod: &Value) -> Option<String> {
    let budgets = call.api.store.list("poddisruptionbudgets.policy", &call.seen.namespace);
    let matches = |budget: &Value| {
        let labels = budget.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
        labels.is_some_and(|labels| labels.iter().all(|(k, v)| crate::sandbox::store::meta::label(pod, k) == v.as_str()))
    };
    let mut stopping = budgets.iter().filter(|b| matches(b) && number(b, "/status/disruptionsAllowed") == Some(0));
    stopping.next().map(|b| crate::sandbox::store::meta::name(b).to_owned())
}
