//! Restarts one workload for one root: the annotation on its pod template is both the restart and the memory of it. Where somebody else
//! does the restart, the same annotation on the workload itself is the memory alone.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use serde_json::{Value, json};

use crate::base::fault::Result;
use crate::base::names::ObjectName;
use crate::clients::kube::Cluster;
use crate::domain::certificates::ground::look::read;
use crate::domain::certificates::root::KeyHash;

/// The public-key hash of the root that the workload was restarted for. No time: two runs make one restart.
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

/// Where the memory is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// On the pod template: that restarts the pods.
    Template,
    /// On the workload: its pods stay as they are.
    Workload,
}

/// Restarts the workload for `root`, or remembers that somebody is asked to, at most once ever.
///
/// # Errors
/// When the workload is gone or may not be patched.
pub async fn restart(cluster: &Cluster, workload: &ObjectName, root: &KeyHash, mark: Mark) -> Result<Asked> {
    let object = read(cluster, workload).await?;
    if carries(&object, root) {
        return Ok(if is_rolled_out(&object) { Asked::InVain } else { Asked::UnderWay });
    }
    let annotations = json!({"metadata": {"annotations": {ANNOTATION: root.0}}});
    let patch = match mark {
        Mark::Template => json!({"spec": {"template": annotations}}),
        Mark::Workload => annotations,
    };
    let ObjectName { namespace, name, .. } = workload;
    match workload.kind.as_str() {
        "Deployment" => cluster.merge_patch::<Deployment>(namespace, name, &patch).await.map(drop)?,
        "StatefulSet" => cluster.merge_patch::<StatefulSet>(namespace, name, &patch).await.map(drop)?,
        _ => cluster.merge_patch::<DaemonSet>(namespace, name, &patch).await.map(drop)?,
    }
    Ok(Asked::Restarted)
}

/// Was it restarted for this root before?
pub fn carries(object: &Value, root: &KeyHash) -> bool {
    ["/spec/template/metadata/annotations", "/metadata/annotations"]
        .iter()
        .any(|place| object.pointer(place).and_then(|a| a.get(ANNOTATION)).and_then(Value::as_str) == Some(root.0.as_str()))
}

/// Has every replica of the newest generation taken the old one's place?
pub fn is_rolled_out(object: &Value) -> bool {
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64);
    let seen = number("/status/observedGeneration").unwrap_or(0) >= number("/metadata/generation").unwrap_or(0);
    let wanted = number("/spec/replicas").or_else(|| number("/status/desiredNumberScheduled")).unwrap_or(1);
    let updated = number("/status/updatedReplicas").or_else(|| number("/status/updatedNumberScheduled")).unwrap_or(0);
    let available = number("/status/availableReplicas").or_else(|| number("/status/numberAvailable")).unwrap_or(0);
    let total = number("/status/replicas").or_else(|| number("/status/currentNumberScheduled")).unwrap_or(wanted);
    seen && updated >= wanted && available >= wanted && total <= wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_is_of_one_root_and_in_either_place() {
        let root = KeyHash("a".repeat(64));
        let marked = |place: &str, value: &str| match place {
            "template" => json!({"spec": {"template": {"metadata": {"annotations": {ANNOTATION: value}}}}}),
            _ => json!({"metadata": {"annotations": {ANNOTATION: value}}}),
        };
        for place in ["template", "workload"] {
            assert!(carries(&marked(place, &root.0), &root), "{place}");
            assert!(!carries(&marked(place, &"b".repeat(64)), &root), "{place}: another root's");
        }
        assert!(!carries(&json!({"spec": {"template": {}}}), &root));
    }

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
