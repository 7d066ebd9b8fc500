//! The scheduler: a node for each pod, or the reason why there is none.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use super::events::{self, Note, SCHEDULER};
use super::pods::{active, condition};
use super::{NODES, PODS, claims};
use crate::sandbox::admission::quantity::{asked, thousandths};
use crate::sandbox::kubelet::script_of;
use crate::sandbox::sim::{Sim, sooner};
use crate::sandbox::store::meta::{deleting, label, list, name, namespace, text};

pub(super) fn reconcile(sim: &Sim) -> Option<Instant> {
    let waiting = sim.store.list(PODS, "").into_iter().filter(|pod| text(pod, "/spec/nodeName").is_empty() && !deleting(pod));
    waiting.map(|pod| one(sim, &pod)).fold(None, sooner)
}

fn one(sim: &Sim, pod: &Value) -> Option<Instant> {
    let due = sim.kubelet().first_seen(pod) + sim.takes(sim.world.times.schedule);
    if due > Instant::now() {
        return Some(due);
    }
    let nodes = sim.store.list(NODES, "");
    let why = script_of(sim, pod).and_then(|script| script.unschedulable);
    let helpless = |why: String| format!("{why}. preemption: 0/{0} nodes are available: {0} Preemption is not helpful for scheduling.", nodes.len());
    let why = why.or_else(|| claims::refusal(sim, pod).map(helpless));
    match why.map_or_else(|| pick(sim, pod, &nodes), Err) {
        Ok(node) => {
            let bound = sim.store.modify(PODS, namespace(pod), name(pod), |pod| {
                pod["spec"]["nodeName"] = node.clone().into();
                let old = list(pod, "/status/conditions").to_vec();
                pod["status"]["phase"] = "Pending".into();
                let mut scheduled = condition(sim, &old, "PodScheduled", true, "", "", false);
                strip(&mut scheduled);
                pod["status"]["conditions"] = json!([scheduled]);
            });
            if let Ok(pod) = bound {
                events::emit(
                    sim,
                    &pod,
                    &Note::normal(SCHEDULER, "Scheduled", &format!("Successfully assigned {}/{} to {node}", namespace(&pod), name(&pod))),
                );
            }
        }
        Err(why) => {
            let message = format!("0/{} nodes are available: {why}", nodes.len());
            let condition = condition(sim, list(pod, "/status/conditions"), "PodScheduled", false, "Unschedulable", &message, false);
            let told = list(pod, "/status/conditions").iter().any(|c| text(c, "/message") == message);
            if !told {
                events::emit(sim, pod, &Note::warning(SCHEDULER, "FailedScheduling", &message));
                // a pod that is gone needs no node
                let _ = sim.store.modify(PODS, namespace(pod), name(pod), |pod| {
                    pod["status"]["phase"] = "Pending".into();
                    pod["status"]["conditions"] = json!([condition]);
                });
            }
        }
    }
    None
}

/// A condition without reason and message, as true ones are.
fn strip(condition: &mut Value) {
    if let Some(map) = condition.as_object_mut() {
        map.retain(|_, value| value.as_str() != Some(""));
    }
}

/// The node with the fewest pods among those that may take it; else what the scheduler says after the node count.
fn pick(sim: &Sim, pod: &Value, nodes: &[Arc<Value>]) -> Result<String, String> {
    let pods = sim.store.list(PODS, "");
    let load = |node: &str| pods.iter().filter(|pod| text(pod, "/spec/nodeName") == node).count();
    let selector = pod.pointer("/spec/nodeSelector").and_then(Value::as_object);
    let used = |node: &str, resource: &str| -> i128 {
        pods.iter().filter(|pod| text(pod, "/spec/nodeName") == node && active(pod)).map(|pod| asked(pod, "requests", resource)).sum()
    };
    let scarce = |node: &Value, resource: &str| {
        let wanted = asked(pod, "requests", resource);
        wanted > 0 && used(name(node), resource) + wanted > thousandths(&node["status"]["allocatable"][resource])
    };
    let (mut cordoned, mut mismatched, mut full, mut no_cpu, mut no_memory) = (0, 0, 0, 0, 0);
    let mut best: Option<(usize, &str)> = None;
    for node in nodes {
        let count = load(name(node));
        if node["spec"]["unschedulable"] == json!(true) {
            cordoned += 1;
        } else if selector.is_some_and(|wanted| wanted.iter().any(|(key, value)| label(node, key) != value.as_str())) {
            mismatched += 1;
        } else if count >= sim.world.cluster.pods_per_node {
            full += 1;
        } else if scarce(node, "cpu") || scarce(node, "memory") {
            no_cpu += usize::from(scarce(node, "cpu"));
            no_memory += usize::from(scarce(node, "memory"));
        } else if best.is_none_or(|(least, _)| count < least) {
            best = Some((count, name(node)));
        }
    }
    let told = [
        (no_cpu, "Insufficient cpu"),
        (no_memory, "Insufficient memory"),
        (full, "Too many pods"),
        (mismatched, "node(s) didn't match Pod's node affinity/selector"),
        (cordoned, "node(s) were unschedulable"),
    ];
    let reasons: Vec<String> = told.iter().filter(|(count, _)| *count > 0).map(|(count, why)| format!("{count} {why}")).collect();
    let total = nodes.len();
    best.map(|(_, node)| node.to_owned()).ok_or_else(|| {
        let helps =
            if no_cpu + no_memory + full > 0 { "No preemption victims found for incoming pod" } else { "Preemption is not helpful for scheduling" };
        format!("{}. preemption: 0/{total} nodes are available: {total} {helps}.", reasons.join(", "))
    })
}
