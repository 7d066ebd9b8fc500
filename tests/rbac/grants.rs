//! What the manifests of `pipelines/rbac/` grant, as single rights.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use meshstep::clients::kube::Right;
use serde_json::Value;

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/rbac")
}

/// The objects of a manifest.
pub(crate) fn objects(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(folder().join(format!("{file}.yaml"))).unwrap_or_else(|error| panic!("{file}.yaml: {error}"));
    text.split("\n---\n").map(|document| serde_saphyr::from_str(document).unwrap_or_else(|error| panic!("{file}.yaml: {error}"))).collect()
}

/// A right, and the role that a rule of grants it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Grant {
    pub(crate) role: String,
    pub(crate) right: Right,
}

/// The rights that the bindings of these objects give.
///
/// # Panics
/// A binding that leads nowhere, a role that nobody is bound to, a rule that grants a right a second time.
pub(crate) fn granted(file: &str, objects: &[Value]) -> Vec<Grant> {
    let text = |object: &Value, pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (bindings, roles): (Vec<&Value>, Vec<&Value>) = objects.iter().partition(|object| text(object, "/kind").ends_with("Binding"));
    let mut granted: Vec<Grant> = Vec::new();
    let mut unbound: BTreeSet<String> = roles.iter().map(|role| text(role, "/metadata/name")).collect();
    for binding in bindings {
        let namespace = text(binding, "/metadata/namespace");
        let (kind, name) = (text(binding, "/roleRef/kind"), text(binding, "/roleRef/name"));
        let is_meant = |role: &&&Value| {
            let here = kind == "ClusterRole" || text(role, "/metadata/namespace") == namespace;
            here && text(role, "/kind") == kind && text(role, "/metadata/name") == name
        };
        let role = roles.iter().find(is_meant).unwrap_or_else(|| panic!("{file}.yaml binds {kind} {name} in {namespace:?}, which it does not have"));
        unbound.remove(&name);
        for right in role["rules"].as_array().into_iter().flatten().flat_map(|rule| of_rule(rule, &namespace)) {
            assert!(granted.iter().all(|grant| grant.right != right), "{file}.yaml grants twice: {right}");
            granted.push(Grant { role: name.clone(), right });
        }
    }
    assert!(unbound.is_empty(), "{file}.yaml binds nobody to {unbound:?}");
    granted
}

fn of_rule(rule: &Value, namespace: &str) -> Vec<Right> {
    let words = |key: &str| -> Vec<String> { rule[key].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect() };
    let names = if rule.get("resourceNames").is_some() { words("resourceNames") } else { vec![String::new()] };
    let mut rights = Vec::new();
    for group in words("apiGroups") {
        for resource in words("resources") {
            for verb in words("verbs") {
                for name in &names {
                    let mut right = Right::new(&verb, &resource, namespace).named(name);
                    right.group.clone_from(&group);
                    rights.push(right);
                }
            }
        }
    }
    assert!(rights.iter().all(|right| right.verb != "*" && right.resource != "*" && right.group != "*"), "no wildcards: {rule}");
    rights
}
