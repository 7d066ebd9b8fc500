//! What stands behind a port of a Service: the Service itself, the pods that it selects, and whether they are ready.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, Service};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::fault::Result;
use crate::clients::kube::Cluster;
use crate::domain::mesh::ready::SYSTEM;
use crate::domain::troubleshoot::mtls;

/// What is behind a Service's port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behind {
    pub service_exists: bool,
    pub port_exists: bool,
    /// How the Service selects: `app=app1`.
    pub selector: String,
    /// Pods that it selects.
    pub selected: usize,
    pub ready: usize,
    /// Why the first of those that are not ready is not.
    pub unready: Option<String>,
    /// The port inside the pods, and whether a container declares it.
    pub target: Option<u16>,
    pub declared: bool,
    /// Labels of the first selected pod, and whether it has a sidecar.
    pub labels: BTreeMap<String, String>,
    pub has_sidecar: bool,
}

/// Looks at a Service and the pods of its namespace.
///
/// # Errors
/// When one of them may not be read.
pub async fn look(cluster: &Cluster, namespace: &str, service: &str, port: u16) -> Result<Behind> {
    let found = cluster.get::<Service>(namespace, service).await?.map(|service| serde_json::to_value(service).unwrap_or_default());
    let pods: Vec<Value> = cluster.list::<Pod>(namespace, "").await?.iter().map(|pod| serde_json::to_value(pod).unwrap_or_default()).collect();
    Ok(behind(found.as_ref(), &pods, port))
}

/// Reads a Service and the pods of its namespace.
pub fn behind(service: Option<&Value>, pods: &[Value], port: u16) -> Behind {
    let Some(service) = service else { return Behind::default() };
    let selector: BTreeMap<String, String> = pairs(service.pointer("/spec/selector"));
    let selected: Vec<&Value> = pods.iter().filter(|pod| !selector.is_empty() && lives(pod) && has(pod, &selector)).collect();
    let ports = service.pointer("/spec/ports").and_then(Value::as_array).cloned().unwrap_or_default();
    let found = ports.iter().find(|p| p.get("port").and_then(Value::as_u64) == Some(port.into()));
    let target = found.and_then(|found| target(found, selected.first().copied(), port));
    let first = selected.first();
    Behind {
        service_exists: true,
        port_exists: found.is_some(),
        selector: selector.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(","),
        selected: selected.len(),
        ready: selected.iter().filter(|pod| is_ready(pod)).count(),
        unready: selected.iter().find(|pod| !is_ready(pod)).map(|pod| why_unready(pod)),
        target,
        declared: target.is_some_and(|target| first.is_some_and(|pod| container_ports(pod).any(|p| number(p, "containerPort") == Some(target)))),
        labels: first.map(|pod| pairs(pod.pointer("/metadata/labels"))).unwrap_or_default(),
        has_sidecar: first.is_some_and(|pod| containers(pod).any(|c| c.get("name").and_then(Value::as_str) == Some("istio-proxy"))),
    }
}

impl Behind {
    /// The policy by which the pods refuse a plain request to the Service's `port`.
    pub fn strict(&self, policies: &[Value], namespace: &str, port: u16) -> Option<String> {
        self.has_sidecar.then(|| mtls::strict(policies, SYSTEM, namespace, &self.labels, self.target.unwrap_or(port))).flatten()
    }
}

fn pairs(map: Option<&Value>) -> BTreeMap<String, String> {
    let map = map.and_then(Value::as_object);
    map.into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

fn has(pod: &Value, selector: &BTreeMap<String, String>) -> bool {
    let labels = pairs(pod.pointer("/metadata/labels"));
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn lives(pod: &Value) -> bool {
    let phase = pod.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
    pod.pointer("/metadata/deletionTimestamp").is_none() && !matches!(phase, "Succeeded" | "Failed")
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    conditions
        .into_iter()
        .flatten()
        .any(|c| c.get("type").and_then(Value::as_str) == Some("Ready") && c.get("status").and_then(Value::as_str) == Some("True"))
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["/spec/containers", "/spec/initContainers"].into_iter().filter_map(|list| pod.pointer(list).and_then(Value::as_array)).flatten()
}

fn container_ports(pod: &Value) -> impl Iterator<Item = &Value> {
    containers(pod).filter_map(|c| c.get("ports").and_then(Value::as_array)).flatten()
}

fn number(object: &Value, key: &str) -> Option<u16> {
    object.get(key).and_then(Value::as_u64).and_then(|n| u16::try_from(n).ok())
}

fn target(port: &Value, pod: Option<&Value>, own: u16) -> Option<u16> {
    match port.get("targetPort") {
        Some(Value::String(name)) => {
            let named = pod.and_then(|pod| container_ports(pod).find(|p| p.get("name").and_then(Value::as_str) == Some(name)));
            named.and_then(|p| number(p, "containerPort")).or_else(|| name.parse().ok())
        }
        Some(Value::Number(n)) => n.as_u64().and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0).or(Some(own)),
        _ => Some(own),
    }
}

/// `pod app1-x: container app waits (CrashLoopBackOff)`.
fn why_unready(pod: &Value) -> String {
    let name = pod.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let statuses =
        ["/status/initContainerStatuses", "/status/containerStatuses"].into_iter().filter_map(|list| pod.pointer(list).and_then(Value::as_array));
    for status in statuses.flatten() {
        let container = status.get("name").and_then(Value::as_str).unwrap_or_default();
        if let Some(reason) = status.pointer("/state/waiting/reason").and_then(Value::as_str) {
            return format!("pod {name}: container {container} waits ({reason})");
        }
        let done = status.pointer("/state/terminated/exitCode").and_then(Value::as_i64) == Some(0);
        if status.get("ready").and_then(Value::as_bool) == Some(false) && !done {
            return format!("pod {name}: container {container} is not ready");
        }
    }
    format!("pod {name} is not ready")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_port_behind_the_port_is_found() {
        let pod = |ready: &str| {
            json!({
                "metadata": {"name": "a", "labels": {"app": "a"}},
                "spec": {"initContainers": [{"name": "istio-proxy"}], "containers": [{"name": "app", "ports": [{"name": "http", "containerPort": 8080}]}]},
                "status": {"conditions": [{"type": "Ready", "status": ready}], "containerStatuses": [{"name": "app", "ready": ready == "True", "state": {"running": {}}}]},
            })
        };
        let service = |selector: Value, target: Value| json!({"spec": {"selector": selector, "ports": [{"port": 80, "targetPort": target}]}});
        let good = behind(Some(&service(json!({"app": "a"}), json!("http"))), &[pod("True"), pod("False")], 80);
        assert_eq!((good.selected, good.ready, good.target, good.declared, good.has_sidecar), (2, 1, Some(8080), true, true));
        assert_eq!(good.unready.as_deref(), Some("pod a: container app is not ready"));
        let wrong_port = behind(Some(&service(json!({"app": "a"}), json!(9999))), &[pod("True")], 80);
        assert_eq!((wrong_port.target, wrong_port.declared), (Some(9999), false));
        assert!(!behind(Some(&service(json!({"app": "a"}), json!(80))), &[], 81).port_exists);
        assert_eq!(behind(Some(&service(json!({"app": "b"}), json!("http"))), &[pod("True")], 80).selected, 0);
        assert_eq!(behind(None, &[pod("True")], 80), Behind::default());
    }
}
