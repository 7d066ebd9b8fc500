//! Finds out what a restart stands on; nothing is made: the pod is only tried out.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::PostParams;
use serde_json::{Value, json};

use super::{Ground, Injection, NodeClock};
use crate::base::codes::Code;
use crate::base::fault::{Class, Fault, Result};
use crate::base::names::ObjectName;
use crate::clients::kube::{Cluster, fault};
use crate::domain::certificates::gather::ROOT_NAMESPACE;

const LEASES: &str = "kube-node-lease";

/// # Errors
/// When the workload is gone or cannot be read.
pub async fn ground(cluster: &Cluster, workload: &ObjectName) -> Result<Ground> {
    let (object, tried, clocks, budgets) = tokio::join!(
        read(cluster, workload),
        try_out(cluster, &workload.namespace),
        clocks(cluster),
        cluster.list::<PodDisruptionBudget>(&workload.namespace, "")
    );
    let (injection, now) = tried;
    let budgets = budgets.unwrap_or_default().iter().map(|budget| serde_json::to_value(budget).unwrap_or_default()).collect();
    Ok(Ground { injection, clocks, now, workload: object?, budgets })
}

/// # Errors
/// When the workload is gone or cannot be read.
pub async fn read(cluster: &Cluster, workload: &ObjectName) -> Result<Value> {
    let gone = || Fault::new(Code::UpstreamFailed, format!("{workload} is gone")).class(Class::Environment);
    let found = cluster.get_object("apps/v1", &workload.kind, &workload.namespace, &workload.name).await?;
    found.map(|object| serde_json::to_value(object).unwrap_or_default()).ok_or_else(gone)
}

/// Would a new pod get its sidecar? Also the API server's time, which a tried-out object carries.
pub async fn try_out(cluster: &Cluster, namespace: &str) -> (Injection, Option<Timestamp>) {
    // The gateway has its proxy in its own template.
    if namespace == ROOT_NAMESPACE {
        return (Injection::Works, None);
    }
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "meshstep-dry-run", "namespace": namespace, "labels": {"app.kubernetes.io/managed-by": "meshstep"}},
        "spec": {"restartPolicy": "Never", "automountServiceAccountToken": false, "containers": [{
            "name": "none", "image": "registry.k8s.io/pause:3.10",
            "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}, "limits": {"cpu": "10m", "memory": "16Mi"}},
            "securityContext": {"allowPrivilegeEscalation": false, "runAsNonRoot": true, "runAsUser": 65535, "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}},
        }]},
    });
    let Ok(pod) = serde_json::from_value::<Pod>(pod) else { return (Injection::NotAsked("a defect".to_owned()), None) };
    let params = PostParams { dry_run: true, ..PostParams::default() };
    match cluster.api::<Pod>(namespace).create(&params, &pod).await {
        Ok(made) => {
            let now = made.metadata.creation_timestamp.as_ref().and_then(|time| Timestamp::from_second(time.0.as_second()).ok());
            let spec = made.spec.unwrap_or_default();
            let proxied = spec.containers.iter().chain(spec.init_containers.iter().flatten()).any(|container| container.name == "istio-proxy");
            (if proxied { Injection::Works } else { Injection::NoSidecar }, now)
        }
        Err(error) => {
            let fault = fault(error, &format!("trying out a pod in {namespace}"));
            let words = fault.evidence.iter().fold(fault.message.clone(), |text, evidence| format!("{text}: {}", evidence.text));
            (if fault.code == Code::Forbidden { Injection::NotAsked(words) } else { Injection::Refused(words) }, None)
        }
    }
}

/// What ready nodes last said, by their own clocks. None where leases may not be read.
async fn clocks(cluster: &Cluster) -> Vec<NodeClock> {
    let (leases, nodes) = tokio::join!(cluster.list::<Lease>(LEASES, ""), cluster.list::<Node>("", ""));
    let mut said: BTreeMap<String, Timestamp> = BTreeMap::new();
    for lease in leases.unwrap_or_default() {
        let time = lease.spec.and_then(|spec| spec.renew_time).and_then(|time| Timestamp::from_second(time.0.as_second()).ok());
        said.extend(lease.metadata.name.zip(time));
    }
    let mut heard = Vec::new();
    for node in nodes.unwrap_or_default() {
        let name = node.metadata.name.unwrap_or_default();
        let ready = node.status.and_then(|s| s.conditions).into_iter().flatten().find(|c| c.type_ == "Ready" && c.status == "True");
        // A node that is not ready is silent for another reason.
        if let (Some(ready), Some(leased)) = (ready, said.remove(&name)) {
            let beat = ready.last_heartbeat_time.and_then(|time| Timestamp::from_second(time.0.as_second()).ok());
            heard.push(NodeClock { node: name, said: beat.map_or(leased, |beat| beat.max(leased)) });
        }
    }
    heard
}
