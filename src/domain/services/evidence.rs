//! The proof of a failed rollout, gathered before anything is rolled back or restarted.

use std::time::Duration;

use k8s_openapi::api::core;

use crate::base::codes::Code;
use crate::base::fault::Fault;
use crate::base::text;
use crate::clients::kube::Cluster;
use crate::domain::services::rollout::seen::{Container, Event, Pod, Snapshot, State};
use crate::domain::services::rollout::{Rollout, Trouble};
use crate::domain::services::watch::Target;

const LOG_LINES: i64 = 25;
const MOST_EVENTS: usize = 20;

/// The fault of a verdict, with the container's log, the events, the owners, the manifest's place and what to do.
pub async fn fault(cluster: &Cluster, target: &Target, rollout: &Rollout, snapshot: &Snapshot, trouble: &Trouble, limit: Duration) -> Fault {
    let message = match trouble.code {
        Code::RolloutTimeout => format!("{}: not ready within {}: {}", target.title(), text::seconds(limit), trouble.words),
        _ => format!("{}: {}", target.title(), trouble.line()),
    };
    let mut fault = Fault::new(trouble.code, message).at(target.place.as_ref());
    let pod = trouble.pod.as_ref().and_then(|name| snapshot.pods.iter().find(|p| &p.name == name));
    let container = pod.and_then(|p| p.containers.iter().find(|c| Some(&c.name) == trouble.container.as_ref()));
    if let (Some(pod), Some(container)) = (pod, container) {
        fault = fault.evidence("container", container_words(pod, container));
        if has_run(container)
            && let Some((title, log)) = log(cluster, target, pod, container, trouble.previous).await
        {
            fault = fault.evidence(title, log);
        }
    }
    let events: Vec<&Event> = rollout.new_events(snapshot).filter(|e| tells(e)).collect();
    fault = fault.evidence("events since the apply", event_lines(&events));
    fault = fault.evidence("owners", owners(target, snapshot, pod));
    for step in next_steps(target, trouble, container) {
        fault = fault.next(step);
    }
    fault
}

fn container_words(pod: &Pod, container: &Container) -> String {
    let mut lines = vec![format!("{} of pod {}: image {}", container.name, pod.name, container.image)];
    match &container.state {
        State::Waiting { reason, message } => lines.push(format!("waiting: {reason}: {}", text::one_line(message))),
        State::Running { .. } => lines.push(format!("running, {}", if container.ready { "ready" } else { "not ready" })),
        State::Terminated(ended) => lines.push(format!("ended: {} {}", ended.words(), ended.reason)),
        State::Unknown => {}
    }
    if let Some(last) = &container.last {
        lines.push(format!("the instance before ended: {} {}", last.words(), last.reason));
    }
    if let Some(message) = container.ended().map(|e| e.message.trim()).filter(|m| !m.is_empty()) {
        lines.push(format!("termination message: {message}"));
    }
    lines.push(format!("{} so far", text::count(usize::try_from(container.restarts).unwrap_or(0), "restart")));
    lines.join("\n")
}

fn has_run(container: &Container) -> bool {
    container.is_running() || container.ended().is_some()
}

/// The last lines of the instance that crashed; where there is no such log, of the other one.
async fn log(cluster: &Cluster, target: &Target, pod: &Pod, container: &Container, previous: bool) -> Option<(String, String)> {
    let read = async |previous| {
        let log = cluster.logs(&target.namespace, &pod.name, &container.name, previous, LOG_LINES).await.ok()?;
        (!log.trim().is_empty()).then_some((log, previous))
    };
    let mut found = read(previous).await;
    // what was the newest instance may be the previous one by now
    if matches!(container.state, State::Terminated(_)) && has_restarted(cluster, target, pod, container).await {
        found = read(true).await.or(found);
    }
    let (log, previous) = match found {
        Some(found) => found,
        None => read(!previous).await?,
    };
    let which = if previous { "the previous instance" } else { "the newest instance" };
    let lines = usize::try_from(LOG_LINES).unwrap_or(25);
    Some((format!("last {lines} log lines of container {}, {which}", container.name), text::tail_lines(&log, lines)))
}

/// Has the container been started again since it was looked at?
async fn has_restarted(cluster: &Cluster, target: &Target, pod: &Pod, container: &Container) -> bool {
    let Ok(Some(now)) = cluster.get::<core::v1::Pod>(&target.namespace, &pod.name).await else { return false };
    let status = now.status.unwrap_or_default();
    let mut all = status.init_container_statuses.into_iter().chain(status.container_statuses).flatten();
    all.any(|one| one.name == container.name && one.restart_count > container.restarts)
}

/// Not the routine of every rollout.
fn tells(event: &Event) -> bool {
    const ROUTINE: [&str; 10] = [
        "Scheduled",
        "Pulling",
        "Pulled",
        "Created",
        "Started",
        "Killing",
        "SuccessfulCreate",
        "SuccessfulDelete",
        "ScalingReplicaSet",
        "SuccessfulAttachVolume",
    ];
    event.warning || !ROUTINE.contains(&event.reason.as_str())
}

fn event_lines(events: &[&Event]) -> String {
    let skipped = events.len().saturating_sub(MOST_EVENTS);
    let lines = events[skipped..].iter().map(|e| {
        let at = e.last.map(|at| format!("{at:.0} ")).unwrap_or_default();
        let times = if e.count > 1 { format!(" (×{})", e.count) } else { String::new() };
        format!("{at}{} {}: {}: {}{times}", e.kind.to_lowercase(), e.name, e.reason, text::one_line(&e.message))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// `deployment app1 → replicaset app1-5d → pod app1-5d-x on node-1`
fn owners(target: &Target, snapshot: &Snapshot, pod: Option<&Pod>) -> String {
    let mut chain = vec![format!("{} {}", target.kind.word(), target.name)];
    let revision = snapshot.workload.as_ref().map(|w| w.revision.as_str()).filter(|r| !r.is_empty());
    if let (Some(revision), crate::domain::services::rollout::seen::Kind::Deployment) = (revision, target.kind) {
        chain.push(format!("replicaset {revision}"));
    }
    if let Some(pod) = pod.filter(|p| p.name != target.name) {
        let node = pod.node.as_ref().map(|n| format!(" on {n}")).unwrap_or_default();
        chain.push(format!("pod {}{node}", pod.name));
    }
    chain.join(" → ")
}

fn next_steps(target: &Target, trouble: &Trouble, of: Option<&Container>) -> Vec<String> {
    let mut steps = vec![trouble.code.info().next.to_owned()];
    let namespace = &target.namespace;
    match (&trouble.pod, &trouble.container) {
        (Some(pod), Some(container)) if matches!(trouble.code, Code::CrashLoop | Code::InitCrashLoop | Code::SidecarFailing | Code::JobFailed) => {
            // by the time somebody asks, the newest instance may be one that has not crashed
            let previous = if trouble.previous || of.is_some_and(|container| container.restarts > 0) { " --previous" } else { "" };
            steps.push(format!("`kubectl -n {namespace} logs {pod} -c {container}{previous}`"));
        }
        (Some(pod), _) => steps.push(format!("`kubectl -n {namespace} describe pod {pod}`")),
        (None, _) => steps.push(format!("`kubectl -n {namespace} describe {} {}`", target.kind.word(), target.name)),
    }
    steps
}
