//! What is wrong with one pod of the newest revision, container by container.

use std::sync::LazyLock;
use std::time::Duration;

use regex::Regex;

use crate::base::codes::Code;
use crate::base::text;
use crate::domain::services::rollout::history::{History, Life, container_key, is_looping, pod_key};
use crate::domain::services::rollout::policy::{AUTOSCALER_PATIENCE, AUTOSCALER_REFUSAL, Policy, SECOND_ATTEMPT, YOUNG_NODE_PATIENCE};
use crate::domain::services::rollout::seen::{Container, Event, Kind, Maker, Pod, Role, Snapshot, Strategy};
use crate::domain::services::rollout::{Trouble, pull, scheduler};

/// The troubles of a pod, the most telling first.
pub fn troubles(snapshot: &Snapshot, history: &History, policy: &Policy, pod: &Pod) -> Vec<Trouble> {
    let mut found = Vec::new();
    found.extend(unschedulable(snapshot, history, policy, pod));
    for container in &pod.containers {
        found.extend(container_trouble(snapshot, history, policy, pod, container));
    }
    if found.is_empty()
        && let Some(message) = failing_mount(snapshot, history, pod)
    {
        let lasted = history.held(&pod_key(pod, "volume")) >= policy.lasts(Code::VolumeFailing);
        let (waits, note) = maker(snapshot, message);
        let words = format!("a volume cannot be mounted: {}{note}", text::head(&text::one_line(message), 300));
        found.push(Trouble::of_pod(Code::VolumeFailing, lasted && !waits, pod, words));
    }
    found
}

fn container_trouble(snapshot: &Snapshot, history: &History, policy: &Policy, pod: &Pod, container: &Container) -> Option<Trouble> {
    let life = history.life(pod, container);
    let trouble = |code, ripe, words: String| Some(Trouble::of_container(code, ripe, pod, container, words));
    // A Job has a patience of its own for containers that end: its back-off limit.
    let is_job = snapshot.workload.as_ref().is_some_and(|w| w.kind == Kind::Job);
    if let Some((reason, message)) = container.waiting() {
        if pull::is_pull_reason(reason) {
            return pull_trouble(snapshot, history, policy, pod, container, &life);
        }
        if reason == "CreateContainerConfigError" {
            return config_trouble(snapshot, history, policy, pod, container, message);
        }
        if is_start_reason(reason) || (life.cannot_run() > 0 && ended_at_start(container)) {
            let said =
                if message.is_empty() || reason == "CrashLoopBackOff" { container.ended().map_or("", |e| e.message.as_str()) } else { message };
            let words = format!("the container runtime cannot start it: {}", or(said, reason));
            let steady =
                is_start_reason(reason) && !is_busy(message) && history.held(&container_key(pod, container, reason)) >= second_attempt(policy);
            return trouble(Code::ContainerCannotRun, !is_job && (steady || life.cannot_run() >= policy.cannot_run), words);
        }
    } else if life.cannot_run() > 0 && ended_at_start(container) && !container.is_running() {
        let said = container.ended().map_or("", |e| e.message.as_str());
        return trouble(
            Code::ContainerCannotRun,
            !is_job && life.cannot_run() >= policy.cannot_run,
            format!("the container runtime cannot start it: {}", or(said, "StartError")),
        );
    }
    if is_job {
        return None;
    }
    let times = text::count(life.errors as usize, "time");
    let how = container.ended().map_or_else(String::new, |e| format!(", last with {}", e.words()));
    match container.role {
        Role::Sidecar { .. } => {
            let unready = history.unready(pod, container);
            // Others may wait for the app themselves.
            let too_long = policy.is_sidecar(&container.name) && unready >= policy.sidecar_unready;
            let ripe = life.errors >= policy.sidecar_crashes || too_long;
            if life.errors > 0 && !container.ready {
                trouble(Code::SidecarFailing, ripe, format!("ended {times} since the apply{how}"))
            } else if too_long {
                trouble(Code::SidecarFailing, true, format!("not ready for {}", text::seconds(unready)))
            } else {
                None
            }
        }
        Role::App | Role::Init => {
            let (code, enough) =
                if container.role == Role::Init { (Code::InitCrashLoop, policy.init_crashes) } else { (Code::CrashLoop, policy.crashes) };
            if life.preexisting && !container.ready && (life.errors > 0 || is_looping(container)) {
                let since = if life.errors > 0 { format!(", ended {times} since") } else { String::new() };
                trouble(code, false, format!("has been in a crash loop since before this apply (preexisting){since}{how}"))
            } else if life.errors > 0 && !container.ready {
                trouble(code, life.errors >= enough, format!("ended {times} since the apply{how}"))
            } else if life.excused > 0 && !container.ready {
                trouble(code, false, format!("ended while istio-proxy was not ready{how}"))
            } else {
                None
            }
        }
    }
}

fn pull_trouble(snapshot: &Snapshot, history: &History, policy: &Policy, pod: &Pod, container: &Container, life: &Life) -> Option<Trouble> {
    let image = &container.image;
    let Some((code, said)) = &life.pull else {
        let words = format!("image {image} cannot be pulled, the kubelet does not say why yet");
        return Some(Trouble::of_container(Code::ImageUnreachable, false, pod, container, words));
    };
    let held = history.held(&container_key(pod, container, code.info().name));
    let young = pod.node.as_ref().is_some_and(|node| snapshot.around.young_nodes.contains(node));
    let ripe = held >= policy.lasts(*code)
        && match code {
            Code::ImageDenied if young => held >= YOUNG_NODE_PATIENCE,
            Code::ImageDenied => life.pulls >= 2 || held >= SECOND_ATTEMPT,
            _ => true,
        };
    let reason = container.waiting().map_or("", |(reason, _)| reason);
    let short = match (code, reason) {
        (_, "InvalidImageName") => "is not a valid image name",
        (_, "ErrImageNeverPull") => "is not on the node, and imagePullPolicy is Never",
        (Code::ImageNotFound, _) => "does not exist in its registry",
        (Code::ImageWrongPlatform, _) => "has no variant for the node's architecture",
        (Code::ImageDenied, _) => "is refused by its registry",
        _ if pull::is_network(said, image) => "cannot be fetched, its registry does not answer",
        _ => "cannot be fetched",
    };
    Some(Trouble::of_container(*code, ripe, pod, container, format!("image {image} {short}: {}", text::head(&text::one_line(said), 300))))
}

fn config_trouble(snapshot: &Snapshot, history: &History, policy: &Policy, pod: &Pod, container: &Container, message: &str) -> Option<Trouble> {
    let message = text::one_line(message);
    // The kubelet's cache is behind for a moment; that heals.
    if message.contains("failed to sync") {
        return None;
    }
    let held = history.held(&container_key(pod, container, "CreateContainerConfigError"));
    if missing_name(&message).is_none() {
        let ripe = held >= second_attempt(policy);
        return Some(Trouble::of_container(Code::ContainerCannotRun, ripe, pod, container, format!("the kubelet cannot create it: {message}")));
    }
    let lasted = held >= policy.lasts(Code::ConfigMissing);
    let (waits, note) = maker(snapshot, &message);
    Some(Trouble::of_container(Code::ConfigMissing, lasted && !waits, pod, container, format!("{message}{note}")))
}

/// May something make what this message says is missing, so that it is waited for? In words, too.
fn maker(snapshot: &Snapshot, message: &str) -> (bool, String) {
    let Some(name) = missing_name(message) else { return (false, String::new()) };
    match snapshot.around.makers.get(name) {
        Some(Maker::Is(maker)) => (true, format!("; it is made by {maker}")),
        Some(Maker::Nobody) => (false, String::new()),
        Some(Maker::Unknown(why)) => (true, format!("; whether something makes it is not known: {why}")),
        // The answer is on its way.
        None => (true, String::new()),
    }
}

/// What the kubelet says is missing for this pod.
pub fn missing<'a>(snapshot: &'a Snapshot, history: &'a History, pod: &'a Pod) -> impl Iterator<Item = &'a str> {
    let waiting = pod.containers.iter().filter_map(|c| c.waiting()).filter(|(reason, _)| *reason == "CreateContainerConfigError");
    waiting.map(|(_, message)| message).chain(failing_mount(snapshot, history, pod)).filter_map(missing_name)
}

/// The Secret or ConfigMap that a kubelet's message says is missing.
fn missing_name(message: &str) -> Option<&str> {
    static NAME: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"(?:secret|configmap) "([^"]+)" not found|in (?:Secret|ConfigMap) (?:[^/\s]+/)?([^\s"]+)"#).expect("a valid pattern")
    });
    let found = NAME.captures(message)?;
    found.get(1).or_else(|| found.get(2)).map(|name| name.as_str())
}

fn unschedulable(snapshot: &Snapshot, history: &History, policy: &Policy, pod: &Pod) -> Option<Trouble> {
    let said = pod.unschedulable.as_ref()?;
    let words = scheduler::words(said);
    if scheduler::is_about_volumes(said) {
        let claim = unbound_claim(snapshot, pod).unwrap_or(words);
        let ripe = history.held(&pod_key(pod, "unschedulable")) >= policy.lasts(Code::VolumeFailing);
        return Some(Trouble::of_pod(Code::VolumeFailing, ripe, pod, claim));
    }
    let lasts = |state: &str, least: Duration| history.held(&pod_key(pod, state)) >= policy.lasts(Code::Unschedulable).max(least);
    let (ripe, note) = match autoscaler_said(snapshot, history, pod) {
        Some(event) if !is_no_scale_up(event) => (false, format!("; the autoscaler is adding a node ({})", event.reason)),
        _ if let Some(node) = &pod.nominated => (false, format!("; the scheduler makes room for it on {node}")),
        _ if may_make_room(snapshot) => (false, "; others may still make room".to_owned()),
        Some(event) => (lasts(NO_SCALE_UP, AUTOSCALER_REFUSAL), format!("; the autoscaler has no node for it: {}", text::one_line(&event.message))),
        None if snapshot.around.autoscaler == Some(false) => (lasts("unschedulable", Duration::ZERO), String::new()),
        None => (lasts("unschedulable", AUTOSCALER_PATIENCE), "; waiting for the autoscaler".to_owned()),
    };
    Some(Trouble::of_pod(Code::Unschedulable, ripe, pod, format!("no node can take it: {words}{note}")))
}

/// The state of a pod for which the autoscaler has no node.
const NO_SCALE_UP: &str = "no scale-up";

/// An autoscaler's last word on a pod that no node takes.
fn autoscaler_said<'a>(snapshot: &'a Snapshot, history: &'a History, pod: &'a Pod) -> Option<&'a Event> {
    history
        .events_of(snapshot, pod)
        .filter(|e| matches!(e.reason.as_str(), "TriggeredScaleUp" | "Nominated") || is_no_scale_up(e))
        .max_by_key(|e| e.last)
}

fn is_no_scale_up(event: &Event) -> bool {
    event.reason == "NotTriggerScaleUp" || scheduler::is_pool_refusal(&event.reason, &event.message)
}

/// The states of the pod itself whose lasting matters.
pub fn states(snapshot: &Snapshot, history: &History, pod: &Pod) -> impl Iterator<Item = &'static str> {
    let refused = pod.unschedulable.is_some() && autoscaler_said(snapshot, history, pod).is_some_and(is_no_scale_up);
    let mount = failing_mount(snapshot, history, pod).is_some();
    let all = [("unschedulable", pod.unschedulable.is_some()), (NO_SCALE_UP, refused), ("volume", mount)];
    all.into_iter().filter_map(|(state, holds)| holds.then_some(state))
}

/// Will pods go away by themselves, so that their room becomes free? A rolling update removes an older one only when enough others are
/// available; a Job's are gone when they have done their work.
pub fn may_make_room(snapshot: &Snapshot) -> bool {
    let Some(workload) = &snapshot.workload else { return false };
    if snapshot.pods.iter().any(|pod| pod.deleting) {
        return true;
    }
    if workload.kind == Kind::Job {
        return snapshot.newest().any(|pod| pod.node.is_some() && !pod.is_finished());
    }
    let older: Vec<&Pod> = snapshot.older().collect();
    match workload.strategy {
        _ if older.is_empty() => false,
        // An old pod that is not ready costs no availability, so the controller removes it first; and another for each new one that gets ready.
        Strategy::Rolling { max_unavailable } => {
            older.iter().any(|pod| !pod.ready) || snapshot.newest().any(Pod::is_starting) || workload.available > workload.wanted - max_unavailable
        }
        Strategy::Recreate => true,
        Strategy::Ordered { .. } | Strategy::OnDelete | Strategy::None => false,
    }
}

/// The claims of a pod that are not bound, with what the provisioner said of them.
fn unbound_claim(snapshot: &Snapshot, pod: &Pod) -> Option<String> {
    let said = snapshot.events.iter().filter(|e| e.kind == "PersistentVolumeClaim" && pod.claims.contains(&e.name)).max_by_key(|e| e.last);
    let claims = said.map_or_else(|| pod.claims.join(", "), |e| e.name.clone());
    let said = said.map(|e| format!(": {}: {}", e.reason, text::head(&text::one_line(&e.message), 300))).unwrap_or_default();
    (!claims.is_empty()).then(|| format!("volume claim {claims} is not bound{said}"))
}

/// The newest words on a volume of this pod that cannot be mounted.
pub fn failing_mount<'a>(snapshot: &'a Snapshot, history: &'a History, pod: &'a Pod) -> Option<&'a str> {
    let started = pod.containers.iter().any(|c| c.is_running() || c.terminations() > 0);
    if started || pod.is_finished() {
        return None;
    }
    let events = || history.events_of(snapshot, pod);
    events()
        .filter(|e| matches!(e.reason.as_str(), "FailedMount" | "FailedAttachVolume" | "FailedMapVolume"))
        .filter(|e| !e.message.contains("failed to sync"))
        .filter(|failed| !events().any(|later| later.last >= failed.last && is_mounted(failed, later)))
        // From time to time the kubelet only sums up which volumes are not there.
        .max_by_key(|e| (!e.message.starts_with("Unable to attach or mount volumes"), e.last))
        .map(|e| e.message.as_str())
}

/// Does the event `later` show that what `failed` says is over? The kubelet makes no sandbox and pulls no image before all volumes are there.
fn is_mounted(failed: &Event, later: &Event) -> bool {
    let volume = |event: &Event| event.message.split('"').nth(1).map(str::to_owned);
    match later.reason.as_str() {
        "FailedCreatePodSandBox" | "Pulling" | "Pulled" | "Created" | "Started" => true,
        "SuccessfulAttachVolume" => failed.reason == "FailedAttachVolume" && volume(failed) == volume(later),
        _ => false,
    }
}

/// By now a kubelet that says the same all the time has tried as often as is tolerated.
fn second_attempt(policy: &Policy) -> Duration {
    SECOND_ATTEMPT * policy.cannot_run.saturating_sub(1)
}

/// Does the runtime only say that it is slow, as on a busy disk? It is still at it.
fn is_busy(message: &str) -> bool {
    message.contains("deadline exceeded") || message.contains("is reserved for")
}

pub fn is_start_reason(reason: &str) -> bool {
    matches!(reason, "RunContainerError" | "StartError" | "ContainerCannotRun" | "CreateContainerError")
}

fn ended_at_start(container: &Container) -> bool {
    container.ended().is_some_and(|ended| is_start_reason(&ended.reason))
}

fn or<'a>(text: &'a str, other: &'a str) -> &'a str {
    if text.is_empty() { other } else { text }
}

/// What a pod that is in no trouble is doing, for the progress line.
pub fn doing(snapshot: &Snapshot, history: &History, pod: &Pod) -> String {
    if pod.node.is_none() {
        return "waiting for a node".to_owned();
    }
    if let Some(init) = pod.containers.iter().find(|c| c.role == Role::Init && c.is_running()) {
        return format!("{}: running", init.title());
    }
    for container in pod.containers.iter().filter(|c| c.role != Role::Init && !c.ready) {
        if container.is_running() {
            let Some(probe) = container.startup.as_ref().or(container.readiness.as_ref()) else {
                return format!("{}: started", container.title());
            };
            let kind = if container.startup.is_some() { "startup" } else { "readiness" };
            let answer = probe_answer(snapshot, history, pod, container).map(|said| format!(" ({said})")).unwrap_or_default();
            return format!("{}: waiting for {kind} probe {probe}{answer}", container.title());
        }
        if let Some((reason, _)) = container.waiting() {
            return format!("{}: {}", container.title(), reason_words(reason));
        }
    }
    if let Some(gate) = pod.gates.first() {
        return format!("waiting for readiness gate {gate}");
    }
    if pod.ready { "ready".to_owned() } else { "starting".to_owned() }
}

fn reason_words(reason: &str) -> String {
    match reason {
        "ContainerCreating" => "being created".to_owned(),
        "PodInitializing" => "waiting for the init containers".to_owned(),
        "CrashLoopBackOff" => "waiting to be restarted (CrashLoopBackOff)".to_owned(),
        other => other.to_owned(),
    }
}

/// What the kubelet last heard from a probe of this pod.
pub fn probe_answer(snapshot: &Snapshot, history: &History, pod: &Pod, container: &Container) -> Option<String> {
    let event = history
        .events_of(snapshot, pod)
        .filter(|e| e.reason == "Unhealthy")
        .filter(|e| pod.containers.iter().filter(|c| !c.ready).count() == 1 || e.message.contains(&container.name))
        .max_by_key(|e| e.last)?;
    let said = text::one_line(&event.message);
    let said = said.split_once("probe failed: ").map_or(said.as_str(), |(_, rest)| rest);
    Some(text::head(said, 160).into_owned())
}

/// Is this the kind of container that is ready as soon as it runs, because nothing probes it?
pub fn is_unprobed(container: &Container) -> bool {
    container.role == Role::App && container.readiness.is_none()
}

/// The app containers without a readiness probe that have not run long enough, and how long is left.
pub fn unsettled<'a>(history: &'a History, policy: &'a Policy, pod: &'a Pod) -> impl Iterator<Item = (&'a Container, Duration)> {
    pod.containers.iter().filter(|c| is_unprobed(c)).filter_map(|container| {
        let ran = history.running(pod, container);
        (ran < policy.settle).then(|| (container, policy.settle - ran))
    })
}
