//! The verdict on a rollout: a pure function of what was seen and what happened since our apply.
//!
//! Every rule says how long a state must last, how often it must happen and on how many pods, before it is a failure: reason,
//! persistence and the container's role decide together. What is short of that is told while waiting.

pub mod convert;
pub mod delta;
pub mod history;
pub mod pods;
pub mod policy;
pub mod pull;
mod ready;
pub mod refused;
pub mod scheduler;
pub mod seen;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::base::codes::Code;
use crate::base::text;
use crate::domain::services::rollout::history::History;
use crate::domain::services::rollout::policy::Policy;
use crate::domain::services::rollout::seen::{Container, Kind, Pod, Role, Snapshot, State, Strategy, Workload};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "verdict")]
pub enum Verdict {
    /// What is missing.
    Progressing {
        reason: String,
    },
    Ready {
        /// `2/2 ready`
        note: String,
        warnings: Vec<String>,
    },
    Failed(Trouble),
}

/// Something that keeps a rollout from its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    pub code: Code,
    /// It has lasted long enough, or happened often enough, to count.
    pub ripe: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The crash is in the log of the container's previous instance.
    pub previous: bool,
    /// One line, without the pod's name.
    pub words: String,
}

/// How a rollout is followed: feed it snapshots, it answers with verdicts.
#[derive(Clone, Debug)]
pub struct Rollout {
    policy: Policy,
    history: History,
}

impl Rollout {
    /// `before`: the snapshot from before the apply.
    pub fn new(policy: Policy, before: &Snapshot) -> Self {
        Self { history: History::new(policy.clone(), before), policy }
    }

    pub fn observe(&mut self, snapshot: &Snapshot) -> Verdict {
        self.history.note(snapshot);
        judge(snapshot, &self.history, &self.policy)
    }

    /// The verdict when the time is up: the sharpest cause there is, else that it took too long.
    pub fn at_deadline(&self, snapshot: &Snapshot) -> Trouble {
        let found = troubles(snapshot, &self.history, &self.policy);
        if let Some(ripe) = sharpest(found.iter().filter(|t| t.ripe)) {
            return ripe.clone();
        }
        let reason = missing(snapshot, &self.history, &self.policy, &found);
        let of = sharpest(found.iter());
        Trouble {
            code: Code::RolloutTimeout,
            ripe: true,
            pod: of.and_then(|t| t.pod.clone()).or_else(|| unready_pod(snapshot).map(|p| p.name.clone())),
            node: of.and_then(|t| t.node.clone()),
            container: of.and_then(|t| t.container.clone()).or_else(|| unready_pod(snapshot).and_then(unready_container)),
            previous: of.is_some_and(|t| t.previous),
            words: reason,
        }
    }

    /// The events that came since the apply.
    pub fn new_events<'a>(&'a self, snapshot: &'a Snapshot) -> impl Iterator<Item = &'a seen::Event> {
        self.history.new_events(snapshot)
    }

    /// What the judge would like to know of the cluster around, to be sure.
    pub fn questions(&self, snapshot: &Snapshot) -> Questions {
        let found = troubles(snapshot, &self.history, &self.policy);
        let has = |code| found.iter().any(|t| t.code == code);
        let missing = snapshot.newest().flat_map(|pod| pods::missing(snapshot, &self.history, pod));
        Questions {
            autoscaler: has(Code::Unschedulable),
            istiod: has(Code::WebhookUnreachable) || has(Code::InjectorUntrusted),
            nodes: found.iter().filter(|t| t.code == Code::ImageDenied).filter_map(|t| t.node.clone()).collect(),
            missing: missing.map(str::to_owned).collect(),
        }
    }
}

/// Facts that are fetched only when a state needs them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Questions {
    pub autoscaler: bool,
    pub istiod: bool,
    /// Are these nodes young?
    pub nodes: BTreeSet<String>,
    /// Does anything make these Secrets or ConfigMaps?
    pub missing: BTreeSet<String>,
}

impl Trouble {
    fn of_pod(code: Code, ripe: bool, pod: &Pod, words: String) -> Self {
        Self { code, ripe, pod: Some(pod.name.clone()), node: pod.node.clone(), container: None, previous: false, words }
    }

    fn of_container(code: Code, ripe: bool, pod: &Pod, container: &Container, words: String) -> Self {
        let words = format!("{}: {words}", container.title());
        Self {
            container: Some(container.name.clone()),
            previous: container.last.is_some() && !matches!(container.state, State::Terminated(_)),
            ..Self::of_pod(code, ripe, pod, words)
        }
    }

    fn of_workload(code: Code, words: impl Into<String>) -> Self {
        Self { code, ripe: true, pod: None, node: None, container: None, previous: false, words: words.into() }
    }

    /// With the pod's name: `app1-service-5d-x: container app: …`.
    pub fn line(&self) -> String {
        match &self.pod {
            Some(pod) => format!("{pod}: {}", self.words),
            None => self.words.clone(),
        }
    }
}

/// The table of verdicts.
pub fn judge(snapshot: &Snapshot, history: &History, policy: &Policy) -> Verdict {
    let Some(workload) = &snapshot.workload else {
        return Verdict::Progressing { reason: "it is not in the cluster".to_owned() };
    };
    if workload.observed < workload.generation {
        return Verdict::Progressing { reason: "its controller has not seen the change yet".to_owned() };
    }
    if let Some(ready) = ready::verdict(snapshot, workload, history, policy) {
        return ready;
    }
    if workload.paused {
        let words =
            if workload.kind == Kind::Job { "the Job is suspended, so nothing runs" } else { "the Deployment is paused, so nothing rolls out" };
        return Verdict::Failed(Trouble::of_workload(Code::RolloutPaused, words));
    }
    let found = troubles(snapshot, history, policy);
    if let Some(proven) = proven(snapshot, workload, &found) {
        return Verdict::Failed(proven.clone());
    }
    if let Some(given_up) = ready::given_up(workload, history) {
        return Verdict::Failed(match sharpest(found.iter()) {
            // The controller's patience is over, so what was short of a verdict is the cause.
            Some(cause) => Trouble { ripe: true, ..cause.clone() },
            None => blame(snapshot, history, given_up),
        });
    }
    Verdict::Progressing { reason: missing(snapshot, history, policy, &found) }
}

fn troubles(snapshot: &Snapshot, history: &History, policy: &Policy) -> Vec<Trouble> {
    let mut found: Vec<Trouble> = refused::trouble(snapshot, history, policy).into_iter().collect();
    for pod in snapshot.newest() {
        found.extend(pods::troubles(snapshot, history, policy, pod));
    }
    found
}

/// The trouble that makes a verdict: of the workload itself, of all new pods, the same one on two nodes or of two pods that no node
/// takes, or of the pod that an ordered StatefulSet waits for. One pod among many may be its node's fault, or the last one for which
/// there is no room yet.
fn proven<'a>(snapshot: &Snapshot, workload: &Workload, found: &'a [Trouble]) -> Option<&'a Trouble> {
    let ripe: Vec<&Trouble> = found.iter().filter(|t| t.ripe).collect();
    let pods: BTreeSet<&str> = ripe.iter().filter_map(|t| t.pod.as_deref()).collect();
    let all = snapshot.newest().all(|pod| pods.contains(pod.name.as_str()));
    let ordered = matches!(workload.strategy, Strategy::Ordered { parallel: false, .. });
    let recurs = |trouble: &Trouble| {
        let place = |t: &&Trouble| t.node.clone().or_else(|| t.pod.clone());
        ripe.iter().filter(|t| t.code == trouble.code).filter_map(place).collect::<BTreeSet<_>>().len() >= 2
    };
    sharpest(ripe.iter().copied().filter(|t| all || ordered || t.pod.is_none() || recurs(t)))
}

/// Of several troubles the one that explains most: what comes first in a pod's life wins, and what is ripe before what is not.
fn sharpest<'a>(found: impl Iterator<Item = &'a Trouble>) -> Option<&'a Trouble> {
    found.min_by_key(|t| (!t.ripe, rank(t.code)))
}

fn rank(code: Code) -> usize {
    const ORDER: [Code; 14] = [
        Code::InjectorUntrusted,
        Code::WebhookUnreachable,
        Code::QuotaExceeded,
        Code::PodsRefused,
        Code::ImageNotFound,
        Code::ImageWrongPlatform,
        Code::ConfigMissing,
        Code::ImageDenied,
        Code::ContainerCannotRun,
        Code::InitCrashLoop,
        Code::CrashLoop,
        Code::SidecarFailing,
        Code::Unschedulable,
        Code::VolumeFailing,
    ];
    ORDER.iter().position(|c| *c == code).unwrap_or(ORDER.len())
}

/// Points at the pod and container that a workload's own failure is about: the pod that was started last of those that died.
fn blame(snapshot: &Snapshot, history: &History, trouble: Trouble) -> Trouble {
    let died = snapshot.last_dead().or(history.dead());
    let Some(pod) = died.or_else(|| unready_pod(snapshot)).or_else(|| snapshot.pods.iter().rfind(|p| p.newest)) else { return trouble };
    let dead = pod.dead_container();
    let container = dead.map(|(container, _)| container.name.clone()).or_else(|| unready_container(pod));
    let restarted = pod.containers.iter().any(|c| Some(&c.name) == container.as_ref() && c.restarts > 0);
    let words = match dead {
        Some((container, ended)) => format!("{}; {} ended with {}", trouble.words, container.title(), ended.words()),
        None => trouble.words,
    };
    Trouble { pod: Some(pod.name.clone()), node: pod.node.clone(), container, previous: restarted, words, ..trouble }
}

fn unready_pod(snapshot: &Snapshot) -> Option<&Pod> {
    snapshot.newest().find(|pod| !pod.ready)
}

fn unready_container(pod: &Pod) -> Option<String> {
    pod.containers.iter().find(|c| !c.ready && c.role != Role::Init).or_else(|| pod.containers.first()).map(|c| c.name.clone())
}

/// What is missing, in one line: `1/2 ready, app1-abc: container app: waiting for readiness probe GET :8000/healthz`.
fn missing(snapshot: &Snapshot, history: &History, policy: &Policy, found: &[Trouble]) -> String {
    let Some(workload) = &snapshot.workload else { return "it is not in the cluster".to_owned() };
    let new: Vec<&Pod> = snapshot.newest().collect();
    let ready = new.iter().filter(|p| p.ready).count();
    let head = match workload.kind {
        Kind::Job => format!("{}/{} done", workload.ready, workload.wanted),
        _ => format!("{ready}/{} ready", workload.wanted),
    };
    if let Some(trouble) = sharpest(found.iter()) {
        return format!("{head}, {}", trouble.line());
    }
    if let Some(pod) = new.iter().find(|p| !p.ready) {
        return format!("{head}, {}: {}", pod.name, pods::doing(snapshot, history, pod));
    }
    let disrupted = snapshot.pods.iter().filter(|p| p.newest && p.is_disrupted()).count();
    let unsettled = new.iter().find_map(|pod| pods::unsettled(history, policy, pod).next());
    let tail = if usize::try_from(workload.wanted).is_ok_and(|wanted| new.len() < wanted) {
        let disrupted = if disrupted > 0 { format!(" ({} taken away by the cluster)", text::count(disrupted, "pod")) } else { String::new() };
        format!(
            "{} of the new revision still to be created{disrupted}",
            text::count(usize::try_from(workload.wanted).unwrap_or(0) - new.len(), "pod")
        )
    } else if workload.min_ready_seconds > 0 && workload.available < workload.wanted {
        format!("waiting for minReadySeconds {}", workload.min_ready_seconds)
    } else if let (Some((container, _)), 0) = (unsettled, workload.min_ready_seconds) {
        format!("container {} has no readiness probe: it must run {} without a restart", container.name, text::seconds(policy.settle))
    } else {
        let old = snapshot.older().count();
        if old > 0 { format!("{} still to go", text::count(old, "old pod")) } else { "waiting for the controller to count them".to_owned() }
    };
    format!("{head}, {tail}")
}
