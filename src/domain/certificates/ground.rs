//! What a restart stands on: while any of it is missing, a restarted workload would come up no better, or not at all.

pub mod look;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::fault::Fault;
use crate::domain::certificates::cause::Cause;
use crate::domain::certificates::evidence::Evidence;
use crate::domain::certificates::judge::{Judgement, conflict, gist, istiod, namespace_root};

/// How far a node's clock may be off: certificates are valid from two minutes before they are made.
const CLOCK_TOLERANCE: i64 = 120;
/// How old a node's last word may be while the node is ready.
const SILENCE: i64 = 180;

/// What became of a pod that was only tried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Injection {
    /// It would get its sidecar.
    Works,
    /// It would be made without one.
    NoSidecar,
    /// The API server would not make it.
    Refused(String),
    /// Trying out is not allowed.
    NotAsked(String),
}

/// When a node last said anything, by its own clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeClock {
    pub node: String,
    pub said: Timestamp,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Ground {
    pub injection: Injection,
    pub clocks: Vec<NodeClock>,
    /// The API server's time, if it was told.
    pub now: Option<Timestamp>,
    /// The workload, as it is.
    pub workload: Value,
    /// Its namespace's PodDisruptionBudgets.
    pub budgets: Vec<Value>,
}

/// What is missing for the mesh as a whole and for one namespace, if anything.
pub fn mesh_lacks(evidence: &Evidence, namespace: &str) -> Option<Judgement> {
    istiod(evidence).or_else(|| conflict(evidence)).or_else(|| namespace_root(evidence, namespace))
}

/// What is missing for new pods in a namespace, if anything.
pub fn pods_lack(evidence: &Evidence, namespace: &str, ground: &Ground) -> Option<Judgement> {
    let judged = |cause: Cause, proof: String| Some(Judgement { cause, proof: vec![proof], pods: Vec::new() });
    match &ground.injection {
        Injection::Works => {}
        Injection::NoSidecar => return judged(Cause::OwnConfig, format!("a new pod in {namespace} would come without a sidecar")),
        Injection::Refused(why) if why.contains("x509") => {
            return judged(Cause::InjectorUntrusted, format!("no new pod could be made in {namespace}: {}", gist(why)));
        }
        Injection::Refused(why) => {
            let cause = if why.contains("webhook") { Cause::CaBroken } else { Cause::Unknown };
            return judged(cause, format!("no new pod could be made in {namespace}: {}", gist(why)));
        }
        // The webhook's caBundle says half of it.
        Injection::NotAsked(why) => {
            let trusted = !evidence.injectors.is_empty() && evidence.injectors.values().all(|keys| keys.iter().any(|key| evidence.is_current(key)));
            let since = evidence.pods.iter().any(|p| p.namespace == namespace && p.proxied && p.ready && !evidence.is_older(p));
            if !trusted && !since {
                let proof = format!(
                    "that new pods get their sidecar cannot be proven without the right to try one out (`create pods` in {namespace}): {}",
                    gist(why)
                );
                return judged(Cause::Unknown, proof);
            }
        }
    }
    let now = ground.now?.as_second();
    let ahead = |clock: &NodeClock| clock.said.as_second() - now;
    let clock = ground.clocks.iter().find(|clock| ahead(clock) > CLOCK_TOLERANCE || -ahead(clock) > SILENCE + CLOCK_TOLERANCE)?;
    let how = if ahead(clock) > 0 { format!("{} s ahead", ahead(clock)) } else { format!("{} s behind", -ahead(clock)) };
    judged(Cause::ClockSkew, format!("the clock of node {} is {how} of the API server's", clock.node))
}

/// Why this workload must not be restarted by its template, if it must not.
pub fn workload_forbids(ground: &Ground) -> Option<String> {
    let object = &ground.workload;
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let strategy = if text("/kind") == "Deployment" { text("/spec/strategy/type") } else { text("/spec/updateStrategy/type") };
    if object.pointer("/spec/paused") == Some(&Value::Bool(true)) {
        return Some("its rollout is paused (`spec.paused`)".to_owned());
    }
    if strategy == "OnDelete" {
        return Some("its pods are only replaced when they are deleted by hand (`updateStrategy: OnDelete`)".to_owned());
    }
    if !takes_away(object, strategy) {
        return None;
    }
    let labels = object.pointer("/spec/template/metadata/labels");
    let budget = ground.budgets.iter().find(|budget| selects(budget, labels) && budget.pointer("/status/disruptionsAllowed") == Some(&0.into()))?;
    let name = budget.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    Some(format!("its rollout takes pods away before new ones are ready, and PodDisruptionBudget {name} allows no disruption now"))
}

/// Does a rollout take ready pods away before the new ones are ready?
fn takes_away(object: &Value, strategy: &str) -> bool {
    if object.pointer("/kind").and_then(Value::as_str) != Some("Deployment") || strategy == "Recreate" {
        return true;
    }
    let replicas = object.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1);
    let unavailable = match object.pointer("/spec/strategy/rollingUpdate/maxUnavailable") {
        None => replicas / 4,
        Some(Value::String(percent)) => percent.trim_end_matches('%').parse::<i64>().map_or(0, |percent| replicas * percent / 100),
        Some(number) => number.as_i64().unwrap_or(0),
    };
    unavailable > 0
}

fn selects(budget: &Value, labels: Option<&Value>) -> bool {
    let selector = budget.pointer("/spec/selector");
    let wanted = selector.and_then(|s| s.get("matchLabels")).and_then(Value::as_object);
    let expressions = selector.and_then(|s| s.get("matchExpressions")).and_then(Value::as_array).is_some_and(|e| !e.is_empty());
    !expressions && wanted.is_some_and(|wanted| wanted.iter().all(|(key, value)| labels.and_then(|l| l.get(key)) == Some(value)))
}

/// The fault of a stop.
pub fn stopped(what: &str, lack: &Judgement) -> Fault {
    let fault = Fault::new(lack.cause.code(), format!("{what} is not restarted: {}", lack.in_short()));
    if lack.cause == Cause::Unknown {
        let fault = Fault { code: Cause::StaleWorkload.code(), class: Cause::StaleWorkload.code().info().class, ..fault };
        return fault.next("mend what is named, then `meshstep redeploy`");
    }
    fault.next(lack.cause.remedy())
}

#[cfg(test)]
mod tests;
