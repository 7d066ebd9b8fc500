//! The load balancer controller: from Ingresses of class `alb` to load balancers, and from TargetGroupBindings to registered targets.

mod binding;
mod class;
mod deploy;
mod health;
mod model;
mod names;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::controllers::events::{self, LOAD_BALANCER, Note};
use super::controllers::{DEPLOYMENTS, INGRESSES, PODS, SERVICES};
use super::kubelet::write_log;
use super::sim::{Sim, sooner};
use super::store::meta::{deleting, finalizers, label, list, metadata, name, namespace, number, uid};
use super::world::Time;

/// What the controller remembers.
#[derive(Default)]
pub(super) struct Controller {
    /// The inputs of the last success, by stack.
    done: HashMap<String, String>,
    /// When to try again, and how often it failed.
    retries: HashMap<String, (Instant, u32, String)>,
    first: HashMap<String, Instant>,
    bindings: binding::Memory,
    checks: health::Memory,
}

const CONTROLLER: &str = "aws-load-balancer-controller";

/// Ingresses that share one load balancer.
pub(super) struct Stack {
    /// `namespace/name`, or the group's name.
    pub id: String,
    pub group: Option<String>,
    pub members: Vec<Arc<Value>>,
}

impl Stack {
    fn finalizer(&self) -> String {
        self.group.as_ref().map_or_else(|| "ingress.k8s.aws/resources".to_owned(), |group| format!("group.ingress.k8s.aws/{group}"))
    }
}

/// Why a stack cannot be made: the event's reason and message.
pub(super) struct Failure {
    pub reason: &'static str,
    pub message: String,
}

/// Whether the controller's own pods run.
fn running(sim: &Sim) -> bool {
    let deployment = sim.store.get(DEPLOYMENTS, "kube-system", CONTROLLER);
    deployment.is_some_and(|deployment| number(&deployment, "/status/availableReplicas").unwrap_or(0) > 0)
}

pub(super) fn reconcile(sim: &Sim) -> Option<Instant> {
    if sim.set_back_by() > 0 {
        // what the start state brings is looked at as soon as it is there
        return Some(Instant::now());
    }
    if *sim.aws.frozen.borrow() {
        // it hangs in its call
        return Some(Instant::now() + Time::from_millis(200).0);
    }
    let mut next = None;
    if running(sim) {
        for stack in stacks(sim) {
            next = sooner(next, one(sim, &stack));
        }
        next = sooner(next, binding::reconcile(sim));
    }
    sooner(next, health::reconcile(sim))
}

/// The stacks of all Ingresses that are ours, or still hold our finalizer.
fn stacks(sim: &Sim) -> Vec<Stack> {
    let mut stacks: Vec<Stack> = Vec::new();
    for ingress in sim.store.list(INGRESSES, "") {
        match class::of(sim, &ingress) {
            class::Ours::Yes => {}
            class::Ours::No => continue,
            class::Ours::Invalid(why) => {
                told_once(sim, &ingress, "FailedLoadGroupID", &why);
                continue;
            }
        }
        let group = class::annotation(&ingress, "group.name").map(str::to_owned);
        let id = group.clone().unwrap_or_else(|| format!("{}/{}", namespace(&ingress), name(&ingress)));
        match stacks.iter_mut().find(|stack| stack.id == id) {
            Some(stack) => stack.members.push(ingress),
            None => stacks.push(Stack { id, group, members: vec![ingress] }),
        }
    }
    for stack in &mut stacks {
        stack.members.sort_by_key(|member| {
            (
                class::annotation(member, "group.order").and_then(|order| order.parse::<i64>().ok()).unwrap_or(0),
                namespace(member).to_owned(),
                name(member).to_owned(),
            )
        });
    }
    stacks
}

fn told_once(sim: &Sim, ingress: &Value, reason: &'static str, message: &str) {
    let key = format!("{}:{reason}:{message}", uid(ingress));
    if sim.lbc().first.insert(key, Instant::now()).is_none() {
        events::emit(sim, ingress, &Note::warning(LOAD_BALANCER, reason, message));
    }
}

/// Everything a stack depends on, as text: the same again means there is nothing to do.
fn inputs(sim: &Sim, stack: &Stack) -> String {
    let mut text = String::new();
    for member in &stack.members {
        text += &format!("{}{}{}{}", uid(member), deleting(member), member["metadata"]["annotations"], member["spec"]);
        for service in sim.store.list(SERVICES, namespace(member)) {
            text += &format!("{}{}", uid(&service), service["spec"]);
        }
    }
    text
}

fn one(sim: &Sim, stack: &Stack) -> Option<Instant> {
    let finalizer = stack.finalizer();
    let (leaving, staying): (Vec<_>, Vec<_>) = stack.members.iter().cloned().partition(|member| deleting(member));
    if staying.is_empty() && !leaving.iter().any(|member| finalizers(member).contains(&finalizer.as_str())) {
        return None;
    }
    for member in staying.iter().filter(|member| !finalizers(member).contains(&finalizer.as_str())) {
        // the next look tries again
        drop(sim.store.modify(INGRESSES, namespace(member), name(member), |ingress| {
            let mut all: Vec<Value> = list(ingress, "/metadata/finalizers").to_vec();
            all.push(finalizer.clone().into());
            metadata(ingress).insert("finalizers".into(), all.into());
        }));
    }
    let inputs = inputs(sim, stack);
    let now = Instant::now();
    let begin = {
        let mut memory = sim.lbc();
        if memory.done.get(&stack.id) == Some(&inputs) {
            return None;
        }
        if let Some((at, _, for_inputs)) = memory.retries.get(&stack.id).filter(|(at, _, _)| *at > now)
            && *for_inputs == inputs
        {
            return Some(*at);
        }
        *memory.first.entry(format!("{}{inputs}", stack.id)).or_insert(now) + Time::from_millis(120).0
    };
    if begin > now {
        return Some(begin);
    }
    match deploy_all(sim, stack, &staying) {
        Ok(hostname) => {
            let mut memory = sim.lbc();
            memory.retries.remove(&stack.id);
            memory.done.insert(stack.id.clone(), inputs);
            drop(memory);
            finish(sim, &staying, &leaving, &finalizer, hostname);
            None
        }
        Err(failure) => {
            for member in &staying {
                events::emit(sim, member, &Note::warning(LOAD_BALANCER, failure.reason, &failure.message));
            }
            log_error(sim, stack, &failure.message);
            let mut memory = sim.lbc();
            let failures = memory.retries.get(&stack.id).filter(|(_, _, old)| *old == inputs).map_or(0, |(_, failures, _)| failures + 1);
            let at = now + Duration::from_millis(100 << failures.min(7));
            memory.retries.insert(stack.id.clone(), (at, failures, inputs));
            Some(at)
        }
    }
}

/// The only trace of a deletion that fails: a line in the log of the controller that leads.
fn log_error(sim: &Sim, stack: &Stack, error: &str) {
    let leader = sim.store.list(PODS, "kube-system").into_iter().find(|pod| label(pod, "app.kubernetes.io/name") == Some(CONTROLLER));
    let Some(leader) = leader else { return };
    let (ns, own) = match (&stack.group, stack.id.split_once('/')) {
        (None, Some((ns, own))) => (ns, own),
        _ => ("", stack.id.as_str()),
    };
    let at = sim.now();
    let line = json!({
        "level": "error", "ts": super::store::meta::stamp(at), "msg": "Reconciler error", "controller": "ingress", "object": {"name": own, "namespace": ns},
        "namespace": ns, "name": own, "reconcileID": super::store::meta::new_uid(), "error": error,
    });
    // a controller whose log is not open has nothing to say
    let _ = write_log(sim, uid(&leader), CONTROLLER, at, vec![line.to_string()]);
}

/// Builds and deploys what the staying members want; nothing at all when none stays.
fn deploy_all(sim: &Sim, stack: &Stack, staying: &[Arc<Value>]) -> Result<Option<(String, Vec<u16>)>, Failure> {
    if staying.is_empty() {
        deploy::delete(sim, &stack.id)?;
        return Ok(None);
    }
    let model = model::build(sim, stack, staying)?;
    deploy::apply(sim, &model).map(Some)
}

fn finish(sim: &Sim, staying: &[Arc<Value>], leaving: &[Arc<Value>], finalizer: &str, hostname: Option<(String, Vec<u16>)>) {
    if let Some((hostname, ports)) = hostname {
        let ports: Vec<Value> = ports.iter().map(|port| json!({"port": port, "protocol": "TCP"})).collect();
        for member in staying {
            let status = json!({"loadBalancer": {"ingress": [{"hostname": hostname.to_lowercase(), "ports": ports}]}});
            if member["status"] != status {
                // the next look tries again
                drop(sim.store.modify(INGRESSES, namespace(member), name(member), |ingress| ingress["status"] = status.clone()));
            }
            events::emit(sim, member, &Note::normal(LOAD_BALANCER, "SuccessfullyReconciled", "Successfully reconciled"));
        }
    }
    for member in leaving {
        // gone already is as good
        drop(sim.store.modify(INGRESSES, namespace(member), name(member), |ingress| {
            let left: Vec<Value> = list(ingress, "/metadata/finalizers").iter().filter(|f| f.as_str() != Some(finalizer)).cloned().collect();
            metadata(ingress).insert("finalizers".into(), left.into());
        }));
    }
}
