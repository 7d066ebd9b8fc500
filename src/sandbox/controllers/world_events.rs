//! What the world file lets happen while the sandbox runs: its timeline, and the autoscaler.

use std::time::Instant;

use serde_json::Value;

use super::{NODES, PODS};
use crate::sandbox::seed;
use crate::sandbox::sim::{Sim, sooner};
use crate::sandbox::store::meta::{list, name, namespace, text};

pub(super) fn reconcile(sim: &Sim) -> Option<Instant> {
    sooner(timeline(sim), autoscaler(sim))
}

fn timeline(sim: &Sim) -> Option<Instant> {
    if sim.set_back_by() > 0 {
        return Some(Instant::now());
    }
    let mut next = None;
    for (index, happening) in sim.world.timeline.iter().enumerate() {
        let due = sim.began + happening.after.0;
        {
            let mut memory = sim.memory();
            memory.happened.resize(sim.world.timeline.len(), false);
            if memory.happened[index] {
                continue;
            }
            if due > Instant::now() {
                next = sooner(next, Some(due));
                continue;
            }
            memory.happened[index] = true;
        }
        if let Some(manifest) = &happening.apply {
            // an object that cannot be applied now never happens
            let _ = seed::merge(sim, manifest);
        }
        if let Some(target) = &happening.delete
            && let Some(resource) = seed::resource_of(sim, target)
        {
            // gone already is as good
            let _ = sim.store.delete(&resource, namespace(target), name(target));
        }
    }
    next
}

fn autoscaler(sim: &Sim) -> Option<Instant> {
    let scaler = sim.world.autoscaler.as_ref()?;
    let stuck = |pod: &Value| list(pod, "/status/conditions").iter().any(|c| text(c, "/reason") == "Unschedulable");
    let nodes = sim.store.list(NODES, "").len();
    let wanted = nodes < scaler.max_nodes && sim.store.list(PODS, "").iter().any(|pod| text(pod, "/spec/nodeName").is_empty() && stuck(pod));
    let ordered = sim.memory().ordered;
    match ordered {
        None if wanted => {
            let due = Instant::now() + scaler.delay.0;
            sim.memory().ordered = Some(due);
            Some(due)
        }
        Some(due) if due <= Instant::now() => {
            sim.memory().ordered = None;
            seed::add_node(sim, nodes);
            None
        }
        due => due,
    }
}
