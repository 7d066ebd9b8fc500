//! From Kubernetes' objects to what verdicts are drawn from.

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::base::{secrets, text};
use crate::domain::services::rollout::policy::Policy;
use crate::domain::services::rollout::seen::{Condition, Container, Ended, Event, Kind, Pod, Role, State, Strategy, Workload};

const REVISION: &str = "deployment.kubernetes.io/revision";
const REPLICA_FAILURE: &str = "ReplicaFailure";
/// A Job with this label is suspended until there is room in its queue.
const QUEUE: &str = "kueue.x-k8s.io/queue-name";
/// What is kept of an event's message.
const MESSAGE: usize = 2000;

/// A workload as the API server has it.
#[derive(Clone, Debug)]
pub enum Object {
    Deployment(Box<Deployment>),
    StatefulSet(Box<StatefulSet>),
    DaemonSet(Box<DaemonSet>),
    Job(Box<Job>),
    Pod(Box<core::Pod>),
}

/// What a workload's pods belong to: ReplicaSets of a Deployment, ControllerRevisions of a DaemonSet.
#[derive(Clone, Debug, Default)]
pub struct Revisions {
    pub sets: Vec<ReplicaSet>,
    pub revisions: Vec<ControllerRevision>,
}

impl Object {
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Object::Deployment(o) => &o.metadata,
            Object::StatefulSet(o) => &o.metadata,
            Object::DaemonSet(o) => &o.metadata,
            Object::Job(o) => &o.metadata,
            Object::Pod(o) => &o.metadata,
        }
    }

    /// The template of its pods; a bare pod's own.
    pub fn pod_spec(&self) -> Option<&core::PodSpec> {
        match self {
            Object::Deployment(o) => o.spec.template.spec.as_ref(),
            Object::StatefulSet(o) => o.spec.template.spec.as_ref(),
            Object::DaemonSet(o) => o.spec.template.spec.as_ref(),
            Object::Job(o) => o.spec.as_ref()?.template.spec.as_ref(),
            Object::Pod(o) => o.spec.as_ref(),
        }
    }

    /// Metadata of its pods.
    pub fn pod_metadata(&self) -> Option<&ObjectMeta> {
        match self {
            Object::Deployment(o) => o.spec.template.metadata.as_ref(),
            Object::StatefulSet(o) => o.spec.template.metadata.as_ref(),
            Object::DaemonSet(o) => o.spec.template.metadata.as_ref(),
            Object::Job(o) => o.spec.as_ref()?.template.metadata.as_ref(),
            Object::Pod(o) => Some(&o.metadata),
        }
    }

    /// The label selector that finds its pods, as the API takes it; a bare pod has none.
    pub fn selector(&self) -> Option<String> {
        let selector = match self {
            Object::Deployment(o) => &o.spec.selector,
            Object::StatefulSet(o) => &o.spec.selector,
            Object::DaemonSet(o) => &o.spec.selector,
            Object::Job(o) => o.spec.as_ref()?.selector.as_ref()?,
            Object::Pod(_) => return None,
        };
        let labels = selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}={value}"));
        let terms = selector.match_expressions.iter().flatten().map(|e| {
            let values = e.values.as_ref().map(|v| v.join(",")).unwrap_or_default();
            match e.operator.as_str() {
                "In" => format!("{} in ({values})", e.key),
                "NotIn" => format!("{} notin ({values})", e.key),
                "DoesNotExist" => format!("!{}", e.key),
                _ => e.key.clone(),
            }
        });
        Some(labels.chain(terms).collect::<Vec<_>>().join(","))
    }

    /// The workload, with the name of its newest revision.
    pub fn workload(&self, revisions: &Revisions) -> Workload {
        let mut workload = match self {
            Object::Deployment(o) => deployment(o),
            Object::StatefulSet(o) => stateful_set(o),
            Object::DaemonSet(o) => daemon_set(o),
            Object::Job(o) => job(o),
            Object::Pod(o) => bare_pod(o),
        };
        let metadata = self.metadata();
        workload.namespace = metadata.namespace.clone().unwrap_or_default();
        workload.name = metadata.name.clone().unwrap_or_default();
        workload.generation = metadata.generation.unwrap_or(0);
        workload.revision = self.newest_revision(revisions).unwrap_or_default();
        if let Object::Deployment(_) = self {
            // Where the newest ReplicaSet has none, the Deployment tells an older one's.
            workload.conditions.retain(|c| c.kind != REPLICA_FAILURE);
            let newest = revisions.sets.iter().find(|set| set.metadata.name.as_deref() == Some(&workload.revision));
            let conditions = newest.and_then(|set| set.status.as_ref()).and_then(|status| status.conditions.as_ref()).into_iter().flatten();
            let failures = conditions.filter(|c| c.type_.as_deref() == Some(REPLICA_FAILURE));
            workload
                .conditions
                .extend(failures.map(|c| condition(or_empty(&c.type_), or_empty(&c.status), &c.reason, &c.message, c.last_transition_time.as_ref())));
        }
        workload
    }

    /// The name of the ReplicaSet, or the hash of the revision, that is the newest.
    fn newest_revision(&self, revisions: &Revisions) -> Option<String> {
        match self {
            Object::Deployment(o) => {
                let number = o.metadata.annotations.as_ref()?.get(REVISION)?;
                let newest = owned(&revisions.sets, &o.metadata)
                    .find(|set| set.metadata.annotations.as_ref().and_then(|a| a.get(REVISION)) == Some(number))?;
                newest.metadata.name.clone()
            }
            Object::StatefulSet(o) => o.status.as_ref()?.update_revision.clone(),
            Object::DaemonSet(o) => {
                let newest = owned(&revisions.revisions, &o.metadata).max_by_key(|r| r.revision)?;
                newest.metadata.name.clone()
            }
            Object::Job(_) | Object::Pod(_) => None,
        }
    }

    /// The pods of this workload among `pods`, marked by whether they are of `newest`.
    pub fn pods(&self, pods: &[core::Pod], revisions: &Revisions, newest: &str, policy: &Policy) -> Vec<Pod> {
        let uid = self.metadata().uid.as_deref().unwrap_or_default();
        let mut found: Vec<Pod> = pods.iter().filter_map(|p| Some(pod(p, self.is_newest(p, uid, revisions, newest)?, policy))).collect();
        for container in found.iter_mut().flat_map(|pod| &mut pod.containers) {
            self.probes_as_written(container);
        }
        found.sort_by(|a, b| (&a.name, &a.uid).cmp(&(&b.name, &b.uid)));
        found
    }

    /// Istio rewrites probes to its own port; people know them as their manifest has them.
    fn probes_as_written(&self, container: &mut Container) {
        let Some(written) = self.pod_spec().and_then(|spec| spec.containers.iter().find(|c| c.name == container.name)) else { return };
        for (shown, said) in [(&mut container.readiness, &written.readiness_probe), (&mut container.startup, &written.startup_probe)] {
            if let (Some(shown), Some(said)) = (shown, said) {
                *shown = probe(said, written);
            }
        }
    }

    /// `None`: the pod is not this workload's.
    fn is_newest(&self, pod: &core::Pod, uid: &str, revisions: &Revisions, newest: &str) -> Option<bool> {
        let owner = pod.metadata.owner_references.iter().flatten().find(|o| o.controller == Some(true));
        let hash = |label: &str| pod.metadata.labels.as_ref().and_then(|l| l.get(label)).map(String::as_str).unwrap_or_default();
        match self {
            Object::Pod(o) => (o.metadata.uid == pod.metadata.uid).then_some(true),
            Object::Deployment(o) => {
                let owner = owner?;
                let ours = owned(&revisions.sets, &o.metadata).any(|set| set.metadata.uid.as_deref() == Some(owner.uid.as_str()));
                ours.then(|| owner.name == newest)
            }
            Object::Job(_) => (owner?.uid == uid).then_some(true),
            Object::StatefulSet(_) => (owner?.uid == uid).then(|| hash("controller-revision-hash") == newest),
            Object::DaemonSet(_) => {
                // The label holds the hash alone, the ControllerRevision's name ends with it.
                let hash = hash("controller-revision-hash");
                (owner?.uid == uid).then(|| !hash.is_empty() && newest.ends_with(hash))
            }
        }
    }
}

fn owned<'a, T: k8s_openapi::Metadata<Ty = ObjectMeta>>(objects: &'a [T], owner: &'a ObjectMeta) -> impl Iterator<Item = &'a T> {
    objects.iter().filter(|o| o.metadata().owner_references.iter().flatten().any(|r| Some(&r.uid) == owner.uid.as_ref()))
}

fn workload(kind: Kind) -> Workload {
    Workload {
        kind,
        namespace: String::new(),
        name: String::new(),
        generation: 0,
        observed: 0,
        wanted: 1,
        total: 0,
        updated: 0,
        ready: 0,
        available: 0,
        min_ready_seconds: 0,
        paused: false,
        strategy: Strategy::None,
        revision: String::new(),
        conditions: Vec::new(),
    }
}

fn deployment(o: &Deployment) -> Workload {
    let mut w = workload(Kind::Deployment);
    let spec = &o.spec;
    w.wanted = spec.replicas.unwrap_or(1);
    w.paused = spec.paused.unwrap_or(false);
    w.min_ready_seconds = spec.min_ready_seconds.unwrap_or(0);
    let rolling = spec.strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
    let recreate = spec.strategy.as_ref().is_some_and(|s| s.type_.as_deref() == Some("Recreate"));
    w.strategy = if recreate {
        Strategy::Recreate
    } else {
        Strategy::Rolling {
            max_unavailable: max_unavailable(rolling.and_then(|r| r.max_unavailable.as_ref()), rolling.and_then(|r| r.max_surge.as_ref()), w.wanted),
        }
    };
    if let Some(status) = &o.status {
        w.observed = status.observed_generation.unwrap_or(0);
        w.total = status.replicas.unwrap_or(0);
        w.updated = status.updated_replicas.unwrap_or(0);
        w.ready = status.ready_replicas.unwrap_or(0);
        w.available = status.available_replicas.unwrap_or(0);
        w.conditions = status
            .conditions
            .iter()
            .flatten()
            .map(|c| condition(or_empty(&c.type_), or_empty(&c.status), &c.reason, &c.message, c.last_update_time.as_ref()))
            .collect();
    }
    w
}

fn stateful_set(o: &StatefulSet) -> Workload {
    let mut w = workload(Kind::StatefulSet);
    let spec = &o.spec;
    w.wanted = spec.replicas.unwrap_or(1);
    w.min_ready_seconds = spec.min_ready_seconds.unwrap_or(0);
    let strategy = spec.update_strategy.as_ref();
    let partition = strategy.and_then(|s| s.rolling_update.as_ref()).and_then(|r| r.partition).unwrap_or(0);
    let parallel = spec.pod_management_policy.as_deref() == Some("Parallel");
    let on_delete = strategy.is_some_and(|s| s.type_.as_deref() == Some("OnDelete"));
    w.strategy = if on_delete { Strategy::OnDelete } else { Strategy::Ordered { partition, parallel } };
    if let Some(status) = &o.status {
        w.observed = status.observed_generation.unwrap_or(0);
        w.total = status.replicas;
        w.ready = status.ready_replicas.unwrap_or(0);
        w.available = status.available_replicas.unwrap_or(0);
        w.updated = status.updated_replicas.unwrap_or(0);
    }
    w
}

fn daemon_set(o: &DaemonSet) -> Workload {
    let mut w = workload(Kind::DaemonSet);
    let spec = &o.spec;
    w.min_ready_seconds = spec.min_ready_seconds.unwrap_or(0);
    let strategy = spec.update_strategy.as_ref();
    w.strategy = if strategy.is_some_and(|s| s.type_.as_deref() == Some("OnDelete")) {
        Strategy::OnDelete
    } else {
        // One pod after the other by default, and a node's old pod always goes first.
        Strategy::Rolling { max_unavailable: 1 }
    };
    if let Some(status) = &o.status {
        w.observed = status.observed_generation.unwrap_or(0);
        w.wanted = status.desired_number_scheduled;
        w.total = status.current_number_scheduled;
        w.updated = status.updated_number_scheduled.unwrap_or(0);
        w.ready = status.number_ready;
        w.available = status.number_available.unwrap_or(0);
    }
    w
}

fn job(o: &Job) -> Workload {
    let mut w = workload(Kind::Job);
    // A Job's status has no observed generation.
    w.observed = o.metadata.generation.unwrap_or(0);
    if let Some(spec) = &o.spec {
        w.wanted = spec.completions.or(spec.parallelism).unwrap_or(1);
        let queued = o.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(QUEUE));
        w.paused = spec.suspend.unwrap_or(false) && !queued;
    }
    if let Some(status) = &o.status {
        w.ready = status.succeeded.unwrap_or(0);
        w.conditions = status
            .conditions
            .iter()
            .flatten()
            .map(|c| condition(&c.type_, &c.status, &c.reason, &c.message, c.last_transition_time.as_ref()))
            .collect();
    }
    w
}

fn bare_pod(o: &core::Pod) -> Workload {
    Workload { observed: o.metadata.generation.unwrap_or(0), ..workload(Kind::Pod) }
}

fn or_empty(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or_default()
}

/// What the cluster says, redacted before anything is cut off from it: so a secret is never cut in half, and a replay cuts at the same place.
fn said(message: &Option<String>) -> String {
    secrets::redact(or_empty(message)).into_owned()
}

fn condition(
    kind: &str,
    status: &str,
    reason: &Option<String>,
    message: &Option<String>,
    updated: Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
) -> Condition {
    Condition {
        kind: kind.to_owned(),
        status: status == "True",
        reason: reason.clone().unwrap_or_default(),
        message: said(message),
        updated: updated.map(|t| t.0),
    }
}

/// As the Deployment controller resolves it: down, and never 0 when there is no surge.
fn max_unavailable(value: Option<&IntOrString>, surge: Option<&IntOrString>, replicas: i32) -> i32 {
    let resolved = |value: Option<&IntOrString>, up: bool| match value {
        Some(IntOrString::Int(n)) => *n,
        Some(IntOrString::String(text)) => share(text, replicas, up),
        None => share("25%", replicas, up),
    };
    let unavailable = resolved(value, false);
    if unavailable == 0 && resolved(surge, true) == 0 { 1 } else { unavailable.min(replicas) }
}

fn share(text: &str, replicas: i32, up: bool) -> i32 {
    let percent: i32 = text.trim_end_matches('%').parse().unwrap_or(0);
    let hundredths = percent * replicas;
    if up { (hundredths + 99) / 100 } else { hundredths / 100 }
}

/// One pod. Sidecars are known by their name, or as init containers that keep running.
pub fn pod(o: &core::Pod, newest: bool, policy: &Policy) -> Pod {
    let spec = o.spec.clone().unwrap_or_default();
    let status = o.status.clone().unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let of = |kind: &str| conditions.iter().find(|c| c.type_ == kind);
    let gates = spec.readiness_gates.iter().flatten().map(|g| &g.condition_type);
    let mut containers = Vec::new();
    let init_statuses = status.init_container_statuses.unwrap_or_default();
    for c in spec.init_containers.iter().flatten() {
        let native = c.restart_policy.as_deref() == Some("Always");
        containers.push(container(c, if native { Role::Sidecar { native: true } } else { Role::Init }, &init_statuses));
    }
    let statuses = status.container_statuses.unwrap_or_default();
    for c in &spec.containers {
        containers.push(container(c, if policy.is_sidecar(&c.name) { Role::Sidecar { native: false } } else { Role::App }, &statuses));
    }
    Pod {
        uid: o.metadata.uid.clone().unwrap_or_default(),
        name: o.metadata.name.clone().unwrap_or_default(),
        newest,
        node: spec.node_name.clone(),
        phase: status.phase.unwrap_or_else(|| "Pending".to_owned()),
        started: status.start_time.map(|t| t.0),
        reason: status.reason.unwrap_or_default(),
        message: said(&status.message),
        deleting: o.metadata.deletion_timestamp.is_some(),
        disruption: of("DisruptionTarget").filter(|c| c.status == "True").and_then(|c| c.reason.clone()),
        ready: of("Ready").is_some_and(|c| c.status == "True"),
        unschedulable: of("PodScheduled").filter(|c| c.status == "False" && c.reason.as_deref() == Some("Unschedulable")).map(|c| said(&c.message)),
        nominated: status.nominated_node_name,
        gates: gates.filter(|g| of(g).is_none_or(|c| c.status != "True")).cloned().collect(),
        claims: spec.volumes.iter().flatten().filter_map(|v| v.persistent_volume_claim.as_ref()).map(|c| c.claim_name.clone()).collect(),
        containers,
    }
}

fn container(spec: &core::Container, role: Role, statuses: &[core::ContainerStatus]) -> Container {
    let status = statuses.iter().find(|s| s.name == spec.name);
    let started = status.is_some_and(|s| s.started == Some(true));
    Container {
        name: spec.name.clone(),
        role,
        image: spec.image.clone().unwrap_or_default(),
        image_id: status.map(|s| s.image_id.clone()).unwrap_or_default(),
        id: status.and_then(|s| s.container_id.clone()).unwrap_or_default(),
        restarts: status.map_or(0, |s| s.restart_count),
        ready: status.is_some_and(|s| s.ready),
        state: status.and_then(|s| s.state.as_ref()).map_or(State::Unknown, state),
        last: status.and_then(|s| s.last_state.as_ref()).and_then(|s| s.terminated.as_ref()).map(ended),
        readiness: spec.readiness_probe.as_ref().map(|p| probe(p, spec)),
        startup: spec.startup_probe.as_ref().filter(|_| !started).map(|p| probe(p, spec)),
    }
}

fn state(state: &core::ContainerState) -> State {
    if let Some(terminated) = &state.terminated {
        State::Terminated(ended(terminated))
    } else if let Some(running) = &state.running {
        State::Running { since: running.started_at.as_ref().map(|t| t.0) }
    } else if let Some(waiting) = &state.waiting {
        State::Waiting { reason: waiting.reason.clone().unwrap_or_default(), message: said(&waiting.message) }
    } else {
        State::Unknown
    }
}

fn ended(t: &core::ContainerStateTerminated) -> Ended {
    Ended { exit_code: t.exit_code, signal: t.signal.filter(|s| *s != 0), reason: t.reason.clone().unwrap_or_default(), message: said(&t.message) }
}

/// A probe in words: `GET :8000/healthz`, `TCP :8000`, `exec pg_isready`.
fn probe(probe: &core::Probe, container: &core::Container) -> String {
    let number = |port: &IntOrString| match port {
        IntOrString::Int(n) => n.to_string(),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|p| p.name.as_deref() == Some(name));
            named.map_or_else(|| name.clone(), |p| p.container_port.to_string())
        }
    };
    if let Some(get) = &probe.http_get {
        let secure = if get.scheme.as_deref() == Some("HTTPS") { "https " } else { "" };
        format!("GET {secure}:{}{}", number(&get.port), get.path.as_deref().unwrap_or("/"))
    } else if let Some(tcp) = &probe.tcp_socket {
        format!("TCP :{}", number(&tcp.port))
    } else if let Some(grpc) = &probe.grpc {
        format!("gRPC :{}", grpc.port)
    } else {
        // The rest of the command may hold a password.
        let command = probe.exec.as_ref().and_then(|e| e.command.as_ref()).and_then(|c| c.first());
        format!("exec {}", command.map_or("", String::as_str))
    }
}

/// An event, whichever of the two generations of the API wrote it.
pub fn event(o: &core::Event) -> Event {
    let series = o.series.as_ref();
    Event {
        uid: o.metadata.uid.clone().or_else(|| o.metadata.name.clone()).unwrap_or_default(),
        kind: o.involved_object.kind.clone().unwrap_or_default(),
        name: o.involved_object.name.clone().unwrap_or_default(),
        warning: o.type_.as_deref() == Some("Warning"),
        reason: o.reason.clone().unwrap_or_default(),
        message: text::head(&said(&o.message), MESSAGE).into_owned(),
        count: o.count.or_else(|| series.and_then(|s| s.count)).unwrap_or(1),
        last: o
            .last_timestamp
            .as_ref()
            .map(|t| t.0)
            .or_else(|| series.and_then(|s| s.last_observed_time.as_ref()).map(|t| t.0))
            .or_else(|| o.event_time.as_ref().map(|t| t.0))
            .or_else(|| o.metadata.creation_timestamp.as_ref().map(|t| t.0)),
    }
}
