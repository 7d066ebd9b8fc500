//! TargetGroupBindings: the nodes behind a Service's node port become registered targets.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::deploy::wording;
use super::model::find_port;
use crate::sandbox::aws::state::{Health, Target, instance_id};
use crate::sandbox::controllers::events::{self, BINDING, Note};
use crate::sandbox::controllers::{BINDINGS, NODES, SERVICES, endpoints};
use crate::sandbox::sim::{Sim, sooner};
use crate::sandbox::store::meta::{deleting, finalizers, label, list, metadata, name, namespace, number, text, uid};

const FINALIZER: &str = "elbv2.k8s.aws/resources";

/// The inputs of the last success by the binding's uid, and when to try again.
#[derive(Default)]
pub(super) struct Memory {
    done: HashMap<String, String>,
    retry: HashMap<String, Instant>,
}

pub(super) fn reconcile(sim: &Sim) -> Option<Instant> {
    sim.store.list(BINDINGS, "").iter().map(|binding| one(sim, binding)).fold(None, sooner)
}

/// Lets a binding go: its targets are deregistered with its target group.
pub(super) fn release(sim: &Sim, binding: &Value) {
    // gone already is as good
    drop(sim.store.modify(BINDINGS, namespace(binding), name(binding), |binding| {
        let left: Vec<Value> = list(binding, "/metadata/finalizers").iter().filter(|f| f.as_str() != Some(FINALIZER)).cloned().collect();
        metadata(binding).insert("finalizers".into(), left.into());
    }));
}

fn one(sim: &Sim, binding: &Value) -> Option<Instant> {
    if deleting(binding) {
        if finalizers(binding).contains(&FINALIZER) {
            let arn = text(binding, "/spec/targetGroupARN").to_owned();
            if sim.aws.faults().call("DeregisterTargets", &arn).is_ok() {
                sim.aws.state().target_groups.iter_mut().filter(|group| group.arn == arn).for_each(|group| group.targets.clear());
                release(sim, binding);
            }
        }
        return None;
    }
    if !finalizers(binding).contains(&FINALIZER) {
        // the next look tries again
        drop(sim.store.modify(BINDINGS, namespace(binding), name(binding), |binding| {
            metadata(binding).insert("finalizers".into(), json!([FINALIZER]));
        }));
    }
    let service = sim.store.get(SERVICES, namespace(binding), text(binding, "/spec/serviceRef/name"));
    let Some(service) = service else {
        let message = format!("backend not found: Service \"{}\" not found", text(binding, "/spec/serviceRef/name"));
        return failed(sim, binding, "BackendNotFound", &message);
    };
    let Ok(port) = find_port(&service, &binding["spec"]["serviceRef"]["port"]) else { return None };
    let wanted = targets(sim, binding, &service, port);
    let inputs = format!("{wanted:?}");
    {
        let memory = sim.lbc();
        if memory.bindings.done.get(uid(binding)) == Some(&inputs) {
            return None;
        }
        if let Some(at) = memory.bindings.retry.get(uid(binding)).filter(|at| **at > Instant::now()) {
            return Some(*at);
        }
    }
    let arn = text(binding, "/spec/targetGroupARN");
    if let Err(error) = sim.aws.faults().call("RegisterTargets", arn) {
        let message = wording("Elastic Load Balancing v2", "RegisterTargets", &error);
        return failed(sim, binding, "FailedReconcile", &message);
    }
    for group in sim.aws.state().target_groups.iter_mut().filter(|group| group.arn == arn) {
        group.targets.retain(|target| wanted.iter().any(|(id, port)| target.id == *id && target.port == *port));
        for (id, port) in &wanted {
            if !group.targets.iter().any(|target| target.id == *id && target.port == *port) {
                let health = Health::new("initial", "Elb.RegistrationInProgress", "Target registration is in progress");
                group.targets.push(Target { id: id.clone(), port: *port, registered: Instant::now(), health });
            }
        }
    }
    let mut memory = sim.lbc();
    memory.bindings.done.insert(uid(binding).to_owned(), inputs);
    memory.bindings.retry.remove(uid(binding));
    drop(memory);
    let generation = number(binding, "/metadata/generation").unwrap_or(1);
    // the next look tries again
    drop(sim.store.modify(BINDINGS, namespace(binding), name(binding), |binding| binding["status"]["observedGeneration"] = generation.into()));
    events::emit(sim, binding, &Note::normal(BINDING, "SuccessfullyReconciled", "Successfully reconciled"));
    None
}

fn failed(sim: &Sim, binding: &Value, reason: &str, message: &str) -> Option<Instant> {
    let at = {
        let mut memory = sim.lbc();
        let known = memory.bindings.retry.get(uid(binding)).copied().filter(|at| *at > Instant::now());
        if known.is_some() {
            return known;
        }
        let at = Instant::now() + Duration::from_secs(1);
        memory.bindings.retry.insert(uid(binding).to_owned(), at);
        at
    };
    events::emit(sim, binding, &Note::warning(BINDING, reason, message));
    Some(at)
}

/// Instances with the node port, or pods with their own.
fn targets(sim: &Sim, binding: &Value, service: &Value, port: &Value) -> Vec<(String, u16)> {
    if text(binding, "/spec/targetType") == "ip" {
        let ready = endpoints(sim, service, port).into_iter().filter(|endpoint| endpoint.ready);
        return ready.map(|endpoint| (text(&endpoint.pod, "/status/podIP").to_owned(), endpoint.port)).collect();
    }
    let Some(number) = port["nodePort"].as_u64().and_then(|n| u16::try_from(n).ok()) else { return Vec::new() };
    let nodes = sim.store.list(NODES, "");
    let excluded = [
        "node-role.kubernetes.io/master",
        "node.kubernetes.io/exclude-from-external-load-balancers",
        "alpha.service-controller.kubernetes.io/exclude-balancer",
    ];
    nodes.iter().filter(|node| !excluded.iter().any(|key| label(node, key).is_some())).map(|node| (instance_id(name(node)), number)).collect()
}
