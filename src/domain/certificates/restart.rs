//! Restarts one workload for one root: the annotation on its pod template is both the restart and the memory of it.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use serde_json::{Value, json};

use crate::base::codes::Code;
use crate::base::fault::{Class, Fault, Result};
use crate::base::names::ObjectName;
use crate::clients::kube::Cluster;
use crate::domain::certificates::gather::ROOT_NAMESPACE;
use crate::domain::certificates::root::KeyHash;

/// On the pod template: the public-key hash of the root that the workload was restarted for. No time: two runs make one restart.
pub const ANNOTATION: &str = "meshstep.io/redeployed-for-root";

/// What asking for a restart came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Restarted,
    /// It carries the annotation of this root, and its rollout still runs: another run is at it.
    UnderWay,
    /// It carries the annotation of this root, and its rollout is over: restarting again cannot help.
    InVain,
}

/// Can this kind be restarted by its pod template?
pub fn is_restartable(workload: &ObjectName) -> bool {
    matches!(workload.kind.as_str(), "Deployment" | "StatefulSet" | "DaemonSet")
}

/// Restarts the workload for `root`, at most once ever.
///
/// # Errors
/// When the workload is gone or may not be patched.
pub async fn restart(cluster: &Cluster, workload: &ObjectName, root: &KeyHash) -> Result<Asked> {
    let object = read(cluster, workload).await?;
    let carried = object.pointer("/spec/template/metadata/annotations").and_then(|a| a.get(ANNOTATION)).and_then(Value::as_str);
    if carried == Some(root.0.as_str()) {
        return Ok(if is_rolled_out(&object) { Asked::InVain } else { Asked::UnderWay });
    }
    let patch = json!({"spec": {"template": {"metadata": {"annotations": {ANNOTATION: root.0}}}}});
    let ObjectName { namespace, name, .. } = workload;
    match workload.kind.as_str() {
        "Deployment" => cluster.merge_patch::<Deployment>(namespace, name, &patch).await.map(drop)?,
        "StatefulSet" => cluster.merge_patch::<StatefulSet>(namespace, name, &patch).await.map(drop)?,
        _ => cluster.merge_patch::<DaemonSet>(namespace, name, &patch).await.map(drop)?,
    }
    Ok(Asked::Restarted)
}

async fn read(cluster: &Cluster, workload: &ObjectName) -> Result<Value> {
    let gone = || Fault::new(Code::UpstreamFailed, format!("{workload} is gone")).class(Class::Environment);
    cluster
        .get_object("apps/v1", &workload.kind, &workload.namespace, &workload.name)
        .await?
        .map(|o| serde_json::to_value(o).unwrap_or_default())
        .ok_or_else(gone)
}

/// Has every replica of the newest generation taken the old one's place?
fn is_rolled_out(object: &Value) -> bool {
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64);
    let seen = number("/status/observedGeneration").unwrap_or(0) >= number("/metadata/generation").unwrap_or(0);
    let wanted = number("/spec/replicas").or_else(|| number("/status/desiredNumberScheduled")).unwrap_or(1);
    let updated = number("/status/updatedReplicas").or_else(|| number("/status/updatedNumberScheduled")).unwrap_or(0);
    let available = number("/status/availableReplicas").or_else(|| number("/status/numberAvailable")).unwrap_or(0);
    let total = number("/status/replicas").or_else(|| number("/status/currentNumberScheduled")).unwrap_or(wanted);
    seen && updated >= wanted && available >= wanted && total <= wanted
}

/// Nothing may be restarted while no certificate can be had: is istiod available?
pub async fn istiod_is_available(cluster: &Cluster) -> Result<()> {
    let found = cluster.list::<Deployment>(ROOT_NAMESPACE, "app=istiod").await?;
    let available = found.iter().filter_map(|d| d.status.as_ref()?.available_replicas).any(|n| n > 0);
    if available {
        return Ok(());
    }
    let message = "nothing is restarted: istiod is not available, so a new pod would get no certificate either";
    Err(Fault::new(Code::StaleCertificate, message).next(format!("bring istiod up first: `kubectl -n {ROOT_NAMESPACE} get pods -l app=istiod`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollout_is_over_when_nothing_of_the_old_is_left() {
        let deployment = |generation, observed, updated, available, total| {
            json!({
                "metadata": {"generation": generation}, "spec": {"replicas": 2},
                "status": {"observedGeneration": observed, "updatedReplicas": updated, "availableReplicas": available, "replicas": total},
            })
        };
        assert!(is_rolled_out(&deployment(2, 2, 2, 2, 2)));
        for unfinished in [deployment(3, 2, 2, 2, 2), deployment(2, 2, 1, 2, 3), deployment(2, 2, 2, 1, 2), deployment(2, 2, 2, 2, 3)] {
            assert!(!is_rolled_out(&unfinished), "{unfinished}");
        }
    }
}
