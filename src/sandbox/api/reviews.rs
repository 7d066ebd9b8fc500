//! The kinds that only answer: who am I, may I.

use std::sync::Arc;

use serde_json::{Value, json};

use super::answer::{self, Answer};
use super::objects::{body, parse_any};
use super::options::Seen;
use super::serve::Call;
use crate::sandbox::store::meta::{now, text};
use crate::sandbox::store::{Resource, Status, User};

const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// Answers a created review.
pub(super) async fn answer(mut call: Call, kind: Arc<Resource>) -> Result<Answer, Status> {
    let bytes = body(&mut call).await?;
    let mut review = parse_any(&bytes)?;
    review["kind"] = kind.kind.clone().into();
    review["apiVersion"] = kind.storage_version().into();
    review["status"] = match kind.kind.as_str() {
        "SelfSubjectReview" => json!({"userInfo": user_info(&call.user)}),
        "TokenReview" => match (call.api.options.authenticate)(text(&review, "/spec/token")) {
            Some(user) => json!({"authenticated": true, "user": user_info(&user)}),
            None => json!({"user": {}, "error": "invalid bearer token"}),
        },
        "SelfSubjectRulesReview" => rules(&call, text(&review, "/spec/namespace")),
        "SelfSubjectAccessReview" => access(&call, &review, call.user.clone()),
        _ => {
            let groups = review.pointer("/spec/groups").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
            let user = User { name: text(&review, "/spec/user").to_owned(), uid: String::new(), groups: groups.map(str::to_owned).collect() };
            access(&call, &review, user)
        }
    };
    if review.get("metadata").is_none() {
        review["metadata"] = json!({});
    }
    if kind.kind == "SelfSubjectReview" {
        review["metadata"]["creationTimestamp"] = now().into();
    }
    Ok(answer::json(201, &review))
}

fn user_info(user: &User) -> Value {
    let mut info = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        info["uid"] = user.uid.clone().into();
    }
    info
}

fn access(call: &Call, review: &Value, user: User) -> Value {
    let asked = |key: &str| text(review, &format!("/spec/resourceAttributes/{key}")).to_owned();
    let seen = Seen {
        user: Some(user),
        verb: if review.pointer("/spec/nonResourceAttributes").is_some() {
            text(review, "/spec/nonResourceAttributes/verb").to_owned()
        } else {
            asked("verb")
        },
        group: asked("group"),
        version: asked("version"),
        resource: asked("resource"),
        subresource: asked("subresource"),
        namespace: asked("namespace"),
        name: asked("name"),
        path: text(review, "/spec/nonResourceAttributes/path").to_owned(),
    };
    if (call.api.options.authorize)(&seen) { json!({"allowed": true}) } else { json!({"allowed": false}) }
}

fn rules(call: &Call, namespace: &str) -> Value {
    let mut rules = Vec::new();
    for kind in call.api.store.resources() {
        let allowed = VERBS.iter().copied().filter(|verb| {
            let seen = Seen {
                user: Some(call.user.clone()),
                verb: (*verb).to_owned(),
                group: kind.group.clone(),
                version: kind.versions[0].clone(),
                resource: kind.plural.clone(),
                namespace: namespace.to_owned(),
                ..Seen::default()
            };
            (call.api.options.authorize)(&seen)
        });
        let allowed: Vec<&str> = allowed.collect();
        if !allowed.is_empty() {
            rules.push(json!({"verbs": allowed, "apiGroups": [kind.group], "resources": [kind.plural]}));
        }
    }
    json!({"resourceRules": rules, "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/livez", "/readyz", "/version"]}], "incomplete": false})
}
