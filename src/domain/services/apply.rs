//! Applies a service's manifests, object by object, and can put back what was there before.

use kube::api::DynamicObject;
use serde_json::Value;

use crate::base::fault::Result;
use crate::base::names::ObjectName;
use crate::base::secrets;
use crate::base::text;
use crate::clients::kube::{Applied, Cluster};
use crate::domain::services::manifests::Manifest;

/// What an apply did to one object, and how it was before.
#[derive(Clone, Debug)]
pub struct Change {
    /// `Deployment app1`
    pub title: String,
    pub applied: Applied,
    /// `None`: it is new.
    before: Option<Value>,
    /// For a changed object: a unified diff without what the server counts by itself; a Secret's contents are masked.
    pub diff: String,
}

/// Applies the manifests in their order. `told` hears which one is at work, `creating` of each that is not there yet before it is made.
///
/// # Errors
/// At the first one that is refused, with its place; what was applied before it stays.
pub async fn apply(
    cluster: &Cluster,
    manifests: &[Manifest],
    namespace: &str,
    dry_run: bool,
    told: impl Fn(&str),
    creating: impl Fn(&ObjectName) -> Result<()>,
) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    for manifest in manifests {
        told(&manifest.title());
        learn_secrets(&manifest.value);
        changes.push(one(cluster, manifest, namespace, dry_run, &creating).await.map_err(|fault| fault.at(Some(&manifest.place)))?);
    }
    Ok(changes)
}

async fn one(cluster: &Cluster, manifest: &Manifest, namespace: &str, dry_run: bool, creating: impl Fn(&ObjectName) -> Result<()>) -> Result<Change> {
    let home = if manifest.namespace().is_empty() { namespace } else { manifest.namespace() };
    let before = cluster.get_object(manifest.api_version(), manifest.kind(), home, manifest.name()).await?.map(|o| plain(&o));
    if before.is_none() {
        creating(&ObjectName::new(manifest.kind(), home, manifest.name()))?;
    }
    let (after, applied) = cluster.apply(&manifest.value, namespace, dry_run).await?;
    let diff = match (&applied, &before) {
        (Applied::Changed, Some(before)) => diff(&manifest.title(), before, &plain(&after)),
        _ => String::new(),
    };
    Ok(Change { title: manifest.title(), applied, before, diff })
}

/// Puts back what the changes found; what was new stays, and is returned by its title.
pub async fn put_back(cluster: &Cluster, changes: &[Change], namespace: &str) -> Result<Vec<String>> {
    let mut kept = Vec::new();
    for change in changes.iter().rev() {
        match (&change.applied, &change.before) {
            (Applied::Changed, Some(before)) => drop(cluster.apply(before, namespace, false).await?),
            (Applied::Created, _) => kept.push(change.title.clone()),
            _ => {}
        }
    }
    Ok(kept)
}

/// The object as somebody would write it.
fn plain(object: &DynamicObject) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(map) = value.as_object_mut() {
        map.shift_remove("status");
    }
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        for key in ["managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink"] {
            metadata.shift_remove(key);
        }
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.shift_remove("kubectl.kubernetes.io/last-applied-configuration");
            annotations.shift_remove("deployment.kubernetes.io/revision");
        }
    }
    value
}

fn diff(title: &str, before: &Value, after: &Value) -> String {
    let shown = |value: &Value| serde_json::to_string_pretty(&masked(value)).unwrap_or_default() + "\n";
    let (before, after) = (shown(before), shown(after));
    let diff = similar::TextDiff::from_lines(&before, &after).unified_diff().context_radius(2).header(title, title).to_string();
    text::head(&diff, 20_000).into_owned()
}

fn masked(value: &Value) -> Value {
    let mut value = value.clone();
    if value.get("kind").and_then(Value::as_str) == Some("Secret") {
        for key in ["data", "stringData"] {
            if let Some(Value::Object(data)) = value.get_mut(key) {
                data.values_mut().for_each(|v| *v = Value::String(secrets::MASK.to_owned()));
            }
        }
    }
    value
}

/// What a manifest of a Secret holds must not show up anywhere.
fn learn_secrets(value: &Value) {
    use base64::Engine;
    if value.get("kind").and_then(Value::as_str) != Some("Secret") {
        return;
    }
    for key in ["data", "stringData"] {
        for secret in value.get(key).and_then(Value::as_object).into_iter().flat_map(|map| map.values()).filter_map(Value::as_str) {
            secrets::learn(secret);
            let decoded = base64::engine::general_purpose::STANDARD.decode(secret.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            if let Some(decoded) = decoded.filter(|_| key == "data") {
                secrets::learn(&decoded);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secrets_contents_are_neither_shown_nor_forgotten() {
        let secret = |value: &str| serde_json::json!({"kind": "Secret", "metadata": {"name": "s"}, "data": {"k": value}});
        let text = diff("Secret s", &secret("c3dvcmRmaXNoLTE="), &secret("c3dvcmRmaXNoLTI="));
        assert!(!text.contains("c3dv"), "{text}");
        learn_secrets(&secret("c3dvcmRmaXNoLTE="));
        assert_eq!(secrets::redact("it is swordfish-1"), format!("it is {}", secrets::MASK));
    }

    #[test]
    fn what_the_server_counts_is_no_part_of_an_object() {
        let object: DynamicObject = serde_json::from_value(serde_json::json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "app1", "uid": "u", "resourceVersion": "7", "generation": 3, "annotations": {"deployment.kubernetes.io/revision": "3"}},
            "spec": {"replicas": 1}, "status": {"replicas": 1},
        }))
        .expect("an object");
        let kept = serde_json::json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app1", "annotations": {}}, "spec": {"replicas": 1}});
        assert_eq!(plain(&object), kept);
    }
}
