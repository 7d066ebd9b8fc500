//! What a pod needs beside its image: Secrets, ConfigMaps, their keys, a ServiceAccount, volume claims.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What kind of object is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Needed {
    Secret,
    ConfigMap,
    ServiceAccount,
    Claim,
}

impl fmt::Display for Needed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Needed::Secret => "Secret",
            Needed::ConfigMap => "ConfigMap",
            Needed::ServiceAccount => "ServiceAccount",
            Needed::Claim => "PersistentVolumeClaim",
        })
    }
}

/// Something without which the pod does not start.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reference {
    pub kind: Needed,
    pub name: String,
    /// It must have this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `container app`, `volume conf`
    pub by: String,
    /// The kubelet goes on without it, and only warns.
    pub only_told: bool,
}

/// All references of a pod spec that are not optional, each once.
pub fn of_pod(spec: &Value) -> Vec<Reference> {
    let mut found = Vec::new();
    for volume in list(spec, "volumes") {
        of_volume(volume, &mut found);
    }
    for container in ["initContainers", "containers"].into_iter().flat_map(|key| list(spec, key)) {
        of_container(container, &mut found);
    }
    let account = text(spec, "/serviceAccountName").or_else(|| text(spec, "/serviceAccount"));
    if let Some(name) = account.filter(|name| *name != "default") {
        found.push(Reference { kind: Needed::ServiceAccount, name: name.to_owned(), key: None, by: "the pod".to_owned(), only_told: false });
    }
    for name in list(spec, "imagePullSecrets").filter_map(|secret| text(secret, "/name")) {
        let by = "imagePullSecrets".to_owned();
        found.push(Reference { kind: Needed::Secret, name: name.to_owned(), key: None, by, only_told: true });
    }
    found.sort();
    found.dedup();
    found
}

fn of_volume(volume: &Value, found: &mut Vec<Reference>) {
    let by = format!("volume {}", text(volume, "/name").unwrap_or_default());
    let mut add = |kind, source: &Value, name: Option<&str>| {
        let Some(name) = name.filter(|_| !is_optional(source)) else { return };
        let keys: Vec<&str> = list(source, "items").filter_map(|item| text(item, "/key")).collect();
        let one = |key: Option<&str>| Reference { kind, name: name.to_owned(), key: key.map(str::to_owned), by: by.clone(), only_told: false };
        if keys.is_empty() { found.push(one(None)) } else { found.extend(keys.into_iter().map(|key| one(Some(key)))) }
    };
    let part = |key: &str| volume.get(key).filter(|part| part.is_object());
    if let Some(secret) = part("secret") {
        add(Needed::Secret, secret, text(secret, "/secretName"));
    }
    if let Some(map) = part("configMap") {
        add(Needed::ConfigMap, map, text(map, "/name"));
    }
    if let Some(claim) = part("persistentVolumeClaim") {
        add(Needed::Claim, claim, text(claim, "/claimName"));
    }
    for source in part("projected").into_iter().flat_map(|projected| list(projected, "sources")) {
        for (key, kind) in [("secret", Needed::Secret), ("configMap", Needed::ConfigMap)] {
            if let Some(source) = source.get(key) {
                add(kind, source, text(source, "/name"));
            }
        }
    }
}

fn of_container(container: &Value, found: &mut Vec<Reference>) {
    let by = format!("container {}", text(container, "/name").unwrap_or_default());
    let mut add = |kind, reference: Option<&Value>, key: Option<&str>| {
        let Some(reference) = reference.filter(|reference| !is_optional(reference)) else { return };
        let Some(name) = text(reference, "/name") else { return };
        found.push(Reference { kind, name: name.to_owned(), key: key.map(str::to_owned), by: by.clone(), only_told: false });
    };
    for source in list(container, "envFrom") {
        add(Needed::Secret, source.get("secretRef"), None);
        add(Needed::ConfigMap, source.get("configMapRef"), None);
    }
    for from in list(container, "env").filter_map(|env| env.get("valueFrom")) {
        for (which, kind) in [("secretKeyRef", Needed::Secret), ("configMapKeyRef", Needed::ConfigMap)] {
            let reference = from.get(which);
            add(kind, reference, reference.and_then(|reference| text(reference, "/key")));
        }
    }
}

fn is_optional(value: &Value) -> bool {
    value.get("optional").and_then(Value::as_bool).unwrap_or(false)
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_way_to_refer_is_found_and_optional_ones_are_not() {
        let spec = json!({
            "serviceAccountName": "app1",
            "imagePullSecrets": [{"name": "pull"}],
            "volumes": [
                {"name": "a", "secret": {"secretName": "s1"}},
                {"name": "b", "configMap": {"name": "c1", "items": [{"key": "k1", "path": "p"}]}},
                {"name": "c", "persistentVolumeClaim": {"claimName": "data"}},
                {"name": "d", "projected": {"sources": [{"secret": {"name": "s2"}}, {"configMap": {"name": "no", "optional": true}}, {"serviceAccountToken": {}}]}},
                {"name": "e", "secret": {"secretName": "no", "optional": true}},
                {"name": "f", "emptyDir": {}},
            ],
            "initContainers": [{"name": "init", "envFrom": [{"secretRef": {"name": "s3"}}, {"configMapRef": {"name": "no", "optional": true}}]}],
            "containers": [{"name": "app", "env": [
                {"name": "PLAIN", "value": "x"},
                {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s1", "key": "k"}}},
                {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "no", "key": "k", "optional": true}}},
                {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            ]}],
        });
        let told: Vec<String> = of_pod(&spec)
            .iter()
            .map(|r| format!("{} {}{} by {}", r.kind, r.name, r.key.as_ref().map(|k| format!("/{k}")).unwrap_or_default(), r.by))
            .collect();
        assert_eq!(
            told,
            [
                "Secret pull by imagePullSecrets",
                "Secret s1 by volume a",
                "Secret s1/k by container app",
                "Secret s2 by volume d",
                "Secret s3 by container init",
                "ConfigMap c1/k1 by volume b",
                "ServiceAccount app1 by the pod",
                "PersistentVolumeClaim data by volume c",
            ]
        );
        assert!(of_pod(&spec)[0].only_told);
        assert_eq!(of_pod(&json!({"serviceAccountName": "default"})), []);
    }
}
