//! Pods that have to go through no fault of their own: evicted by their kubelet, or taken away by the scheduler or a controller.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Life, Said};
use crate::sandbox::controllers::PODS;
use crate::sandbox::sim::Sim;
use crate::sandbox::store::meta::{list, name, namespace, text};
use crate::sandbox::world::PodState;

/// From the mark to the deletion.
const NOTICE: Duration = Duration::from_millis(200);

/// Evicts a pod whose time has come; or says why it shall be marked and taken away instead.
pub(super) fn due(sim: &Sim, life: &mut Life, said: &mut Vec<Said>) -> Option<String> {
    let step = life.containers.iter_mut().find_map(|container| container.pod_goes.take())?;
    if step.state == PodState::Taken {
        life.leaves = Some(Instant::now() + NOTICE);
        return Some(step.reason.unwrap_or_else(|| "PreemptionByScheduler".to_owned()));
    }
    let reason = step.reason.unwrap_or_else(|| "Evicted".to_owned());
    let message = step.message.unwrap_or_else(|| "The node was low on resource: memory. Threshold quantity: 100Mi, available: 80Mi. ".to_owned());
    said.push(Said { warning: true, reason: "Evicted", message: message.clone(), field: String::new() });
    life.containers.iter_mut().for_each(|container| container.evict(sim.now()));
    life.evicted = Some((reason, message));
    None
}

/// Marks a pod as the scheduler and the controllers do before they delete it.
pub(super) fn mark(sim: &Sim, pod: &Value, reason: &str) {
    // a pod that is gone needs no mark
    drop(sim.store.modify(PODS, namespace(pod), name(pod), |pod| {
        let mut conditions = list(pod, "/status/conditions").to_vec();
        conditions.retain(|condition| text(condition, "/type") != "DisruptionTarget");
        conditions.push(disruption(sim, reason, ""));
        pod["status"]["conditions"] = conditions.into();
    }));
}

/// The condition that tells a disruption apart from a failure.
pub(super) fn disruption(sim: &Sim, reason: &str, message: &str) -> Value {
    json!({"type": "DisruptionTarget", "status": "True", "lastProbeTime": null, "lastTransitionTime": sim.stamp(), "reason": reason, "message": message})
}
