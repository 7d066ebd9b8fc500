//! What was seen of a workload at one moment: the little of Kubernetes' objects that verdicts are drawn from.
//!
//! It is recorded in the run's log, so it holds no environment, no arguments and no Secret.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    Deployment,
    StatefulSet,
    DaemonSet,
    Job,
    Pod,
}

impl Kind {
    /// As kubectl spells it.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Deployment => "deployment",
            Kind::StatefulSet => "statefulset",
            Kind::DaemonSet => "daemonset",
            Kind::Job => "job",
            Kind::Pod => "pod",
        }
    }

    pub fn parse(kind: &str) -> Option<Self> {
        [Kind::Deployment, Kind::StatefulSet, Kind::DaemonSet, Kind::Job, Kind::Pod].into_iter().find(|k| format!("{k:?}") == kind)
    }
}

/// Everything that was seen at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// By the clock of this machine. Only differences between snapshots count.
    pub at: Timestamp,
    /// `None`: the API server answered 404.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<Workload>,
    /// Of all revisions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<Pod>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
    #[serde(default)]
    pub around: Around,
}

/// Facts of the cluster that are asked for only when a state needs them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Around {
    /// `None`: not asked, or not allowed to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaler: Option<bool>,
    /// `None` also where there is no istiod at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub istiod_available: Option<bool>,
    /// Nodes younger than two minutes, or of unknown age, on which registry credentials may still be on their way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub young_nodes: Vec<String>,
    /// Who makes a missing Secret or ConfigMap, by its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub makers: BTreeMap<String, Maker>,
}

/// Who makes a missing Secret or ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Maker {
    /// It, with its condition in words.
    Is(String),
    Nobody,
    /// Why it is not known.
    Unknown(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    pub kind: Kind,
    pub namespace: String,
    pub name: String,
    pub generation: i64,
    pub observed: i64,
    /// Replicas asked for; nodes that should run a DaemonSet's pod; completions of a Job.
    pub wanted: i32,
    /// Of all revisions.
    pub total: i32,
    pub updated: i32,
    pub ready: i32,
    pub available: i32,
    #[serde(default)]
    pub min_ready_seconds: i32,
    #[serde(default)]
    pub paused: bool,
    #[serde(default)]
    pub strategy: Strategy,
    /// Name of the newest revision: the ReplicaSet of a Deployment, else the ControllerRevision.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub revision: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// How old pods make way for new ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum Strategy {
    /// Jobs and bare pods, which nothing replaces.
    #[default]
    None,
    Rolling {
        max_unavailable: i32,
    },
    Recreate,
    /// A StatefulSet: one pod after the other, in order, unless `parallel`; none below `partition`.
    Ordered {
        partition: i32,
        parallel: bool,
    },
    OnDelete,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    pub kind: String,
    pub status: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When the controller last wrote it, by the cluster's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    pub uid: String,
    pub name: String,
    /// Does it belong to the newest revision?
    pub newest: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    pub phase: String,
    /// When its node took it, by the cluster's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// `Evicted` and the like.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(default)]
    pub deleting: bool,
    /// Why the cluster takes it away: `PreemptionByScheduler`, `DeletionByTaintManager` and the like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disruption: Option<String>,
    #[serde(default)]
    pub ready: bool,
    /// The scheduler's words while no node takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unschedulable: Option<String>,
    /// The node on which the scheduler makes room for it, by preempting others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nominated: Option<String>,
    /// Custom readiness gates that are not true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<String>,
    /// Its PersistentVolumeClaims.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<String>,
    /// Init containers first, as in the spec.
    pub containers: Vec<Container>,
}

/// What a container is for decides how patient the verdict is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    App,
    Init,
    /// A sidecar beside the app, or `native`: an init container that keeps running.
    Sidecar {
        native: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    pub name: String,
    pub role: Role,
    pub image: String,
    /// What the runtime says it runs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image_id: String,
    /// The instance; a restart makes another.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    #[serde(default)]
    pub restarts: i32,
    #[serde(default)]
    pub ready: bool,
    pub state: State,
    /// How the instance before this one ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Ended>,
    /// The readiness probe in words: `GET :8000/healthz`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum State {
    /// Before the kubelet said anything.
    Unknown,
    Waiting {
        reason: String,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        message: String,
    },
    Running {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<Timestamp>,
    },
    Terminated(Ended),
}

/// How a container's instance ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub exit_code: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// An event about the workload, its ReplicaSets or its pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub uid: String,
    /// `Pod`, `ReplicaSet`.
    pub kind: String,
    pub name: String,
    pub warning: bool,
    pub reason: String,
    pub message: String,
    pub count: i32,
    /// By the cluster's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Timestamp>,
}

impl Workload {
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|c| c.kind == kind)
    }
}

impl Snapshot {
    /// The pods that a verdict is about: of the newest revision, not on their way out, and not ended where another one takes the place.
    pub fn newest(&self) -> impl Iterator<Item = &Pod> {
        let replaces = self.workload.as_ref().is_some_and(|w| !matches!(w.kind, Kind::Job | Kind::Pod));
        let is_over = move |pod: &Pod| pod.deleting || pod.is_disrupted() || replaces && pod.is_finished();
        self.pods.iter().filter(move |pod| pod.newest && !is_over(pod))
    }

    pub fn older(&self) -> impl Iterator<Item = &Pod> {
        self.pods.iter().filter(|pod| !pod.newest && !pod.is_finished())
    }

    /// Of the pods of the newest revision in which something ended with an error, the one that was started last.
    pub fn last_dead(&self) -> Option<&Pod> {
        self.pods.iter().filter(|pod| pod.newest && pod.dead_container().is_some()).max_by_key(|pod| pod.started)
    }

    /// The same things, seen at another moment?
    pub fn same_as(&self, other: &Snapshot) -> bool {
        self.workload == other.workload && self.pods == other.pods && self.events == other.events && self.around == other.around
    }
}

impl Pod {
    /// Ended by the cluster, not by itself: evicted, preempted, its node lost or shut down, or not admitted by the node's kubelet.
    pub fn is_disrupted(&self) -> bool {
        const REASONS: [&str; 7] = ["Evicted", "Preempting", "Preempted", "NodeLost", "NodeShutdown", "Shutdown", "Terminated"];
        const NOT_ADMITTED: [&str; 4] = ["UnexpectedAdmissionError", "NodeAffinity", "NodePorts", "TaintToleration"];
        let reason = self.reason.as_str();
        self.phase == "Failed" && (REASONS.contains(&reason) || NOT_ADMITTED.contains(&reason) || reason.starts_with("OutOf"))
    }

    /// Why the cluster ended it or is about to, if it does.
    pub fn disrupted(&self) -> Option<&str> {
        if self.is_disrupted() { Some(&self.reason) } else { self.disruption.as_deref() }
    }

    pub fn is_finished(&self) -> bool {
        matches!(self.phase.as_str(), "Succeeded" | "Failed")
    }

    /// The container, of those whose end is the pod's, that ended with an error and has not recovered.
    pub fn dead_container(&self) -> Option<(&Container, &Ended)> {
        let own = self.containers.iter().filter(|c| !c.ready && matches!(c.role, Role::App | Role::Init));
        own.filter_map(|c| Some((c, c.ended()?))).find(|(_, ended)| ended.exit_code != 0)
    }

    /// On a node, and on its way without any trouble so far?
    pub fn is_starting(&self) -> bool {
        let smooth =
            |c: &Container| c.restarts == 0 && c.waiting().is_none_or(|(reason, _)| matches!(reason, "ContainerCreating" | "PodInitializing"));
        self.node.is_some() && !self.ready && !self.is_finished() && self.containers.iter().all(smooth)
    }
}

impl Container {
    /// `init container migrate`, `container app`
    pub fn title(&self) -> String {
        let kind = if self.role == Role::Init { "init container" } else { "container" };
        format!("{kind} {}", self.name)
    }

    /// How often an instance of this container has ended so far.
    pub fn terminations(&self) -> i32 {
        let now = match &self.state {
            State::Terminated(_) => 1,
            State::Waiting { reason, .. } if reason != "PodInitializing" && reason != "ContainerCreating" && self.last.is_some() => 1,
            _ => 0,
        };
        self.restarts + now
    }

    /// How the newest instance that ended has ended.
    pub fn ended(&self) -> Option<&Ended> {
        match &self.state {
            State::Terminated(ended) => Some(ended),
            _ => self.last.as_ref(),
        }
    }

    pub fn waiting(&self) -> Option<(&str, &str)> {
        match &self.state {
            State::Waiting { reason, message } => Some((reason, message)),
            _ => None,
        }
    }

    pub fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }
}

impl Ended {
    /// The exit in words: `exit code 1`, `killed for using more memory than its limit (OOMKilled)`, `signal 11 (SIGSEGV)`.
    pub fn words(&self) -> String {
        let signal = self.signal.filter(|s| *s > 0).or_else(|| (129..=159).contains(&self.exit_code).then(|| self.exit_code - 128));
        match (self.reason.as_str(), self.exit_code, signal) {
            ("OOMKilled", code, _) => format!("exit code {code}, killed for using more memory than its limit (OOMKilled)"),
            (_, code, Some(signal)) => format!("exit code {code}, signal {signal}{}", signal_name(signal)),
            (_, 126, _) => "exit code 126, the command is not executable".to_owned(),
            (_, 127, _) => "exit code 127, the command was not found".to_owned(),
            (_, code, _) => format!("exit code {code}"),
        }
    }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        2 => " (SIGINT)",
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        13 => " (SIGPIPE)",
        15 => " (SIGTERM)",
        _ => "",
    }
}
