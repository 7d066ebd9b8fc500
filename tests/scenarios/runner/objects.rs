//! Any object, applied and deleted with an ordinary client.

use kube::api::{DeleteParams, Patch, PatchParams};
use kube::core::{DynamicObject, GroupVersionKind, TypeMeta};
use kube::discovery::Scope;
use kube::{Api, Client};
use serde_json::Value;

async fn api(client: &Client, object: &Value) -> Result<Api<DynamicObject>, String> {
    let text = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
    let types = TypeMeta { api_version: text("apiVersion"), kind: text("kind") };
    let kind = GroupVersionKind::try_from(&types).map_err(|error| error.to_string())?;
    let (resource, known) = kube::discovery::pinned_kind(client, &kind).await.map_err(|error| format!("{kind:?}: {error}"))?;
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
    Ok(match known.scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => Api::namespaced_with(client.clone(), namespace, &resource),
    })
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// Server-side apply.
pub(crate) async fn apply(client: &Client, object: &Value) -> Result<(), String> {
    let params = PatchParams::apply("scenario").force();
    let api = api(client, object).await?;
    let applied = api.patch(name(object), &params, &Patch::Apply(object)).await;
    applied.map(drop).map_err(|error| format!("{} {}: {error}", object["kind"], name(object)))
}

/// Gone already is as good.
pub(crate) async fn delete(client: &Client, object: &Value) -> Result<(), String> {
    match api(client, object).await?.delete(name(object), &DeleteParams::background()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop).map_err(|error| format!("{} {}: {error}", object["kind"], name(object))),
    }
}

/// Changes what is there with a JSON merge patch.
pub(crate) async fn change(client: &Client, object: &Value, patch: &Value) -> Result<(), String> {
    let changed = api(client, object).await?.patch(name(object), &PatchParams::default(), &Patch::Merge(patch)).await;
    changed.map(drop).map_err(|error| format!("{} {}: {error}", object["kind"], name(object)))
}
