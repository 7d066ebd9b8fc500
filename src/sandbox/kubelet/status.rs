//! A pod's status as the kubelet reports it.

use serde_json::{Value, json};

use super::Life;
use super::container::{Container, End, Kind, Phase};
use super::leave;
use crate::sandbox::controllers::NODES;
use crate::sandbox::sim::Sim;
use crate::sandbox::store::meta::{list, name, namespace, stamp, text, uid};

/// The whole status.
pub(super) fn of(sim: &Sim, pod: &Value, life: &Life) -> Value {
    let init_done = life.containers.iter().filter(|c| c.kind != Kind::App).all(Container::past);
    let apps: Vec<&Container> = life.containers.iter().filter(|c| c.kind == Kind::App).collect();
    let all_ready = init_done && life.containers.iter().filter(|c| c.kind != Kind::Init).all(|c| c.ready);
    let phase = phase(&apps, init_done, pod);
    let old = list(pod, "/status/conditions");
    let unready: Vec<&str> = life.containers.iter().filter(|c| c.kind != Kind::Init && !c.ready).map(|c| c.name.as_str()).collect();
    let not_initialized: Vec<&str> = life.containers.iter().filter(|c| c.kind != Kind::App && !c.past()).map(|c| c.name.as_str()).collect();
    let ended = matches!(phase, "Succeeded" | "Failed");
    let why_unready = if ended {
        ("PodCompleted", String::new())
    } else {
        ("ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" ")))
    };
    let why_init = ("ContainersNotInitialized", format!("containers with incomplete status: [{}]", not_initialized.join(" ")));
    // what others have written there stays
    let marked = old.iter().find(|c| text(c, "/type") == "DisruptionTarget").cloned();
    let evicted = || life.evicted.as_ref().map(|(_, message)| leave::disruption(sim, "TerminationByKubelet", message));
    let conditions: Vec<Value> = [
        condition(sim, old, "PodReadyToStartContainers", life.mounted, ("", String::new())),
        condition(sim, old, "Initialized", init_done, why_init),
        condition(sim, old, "Ready", all_ready, (why_unready.0, why_unready.1.clone())),
        condition(sim, old, "ContainersReady", all_ready, why_unready),
        condition(sim, old, "PodScheduled", true, ("", String::new())),
    ]
    .into_iter()
    .chain(marked.or_else(evicted))
    .collect();
    let node = sim.store.get(NODES, "", text(pod, "/spec/nodeName"));
    let host = node.as_deref().and_then(|node| list(node, "/status/addresses").first().map(|a| text(a, "/address").to_owned())).unwrap_or_default();
    let mut status = json!({
        "observedGeneration": pod["metadata"]["generation"], "phase": phase, "conditions": conditions, "hostIP": host, "hostIPs": [{"ip": host}],
        "startTime": stamp(life.began), "qosClass": quality(pod),
    });
    if let Some((reason, message)) = &life.evicted {
        (status["phase"], status["reason"], status["message"]) = ("Failed".into(), reason.clone().into(), message.clone().into());
    }
    if life.mounted {
        status["podIP"] = life.ip.clone().into();
        status["podIPs"] = json!([{"ip": life.ip}]);
    }
    let waits = |kind: Kind| if kind == Kind::App && !init_done || kind != Kind::App { "PodInitializing" } else { "ContainerCreating" };
    let listed =
        |apps: bool| -> Vec<Value> { life.containers.iter().filter(|c| (c.kind == Kind::App) == apps).map(|c| one(pod, c, waits(c.kind))).collect() };
    let init = listed(false);
    if !init.is_empty() {
        status["initContainerStatuses"] = init.into();
    }
    status["containerStatuses"] = listed(true).into();
    status
}

fn phase(apps: &[&Container], init_done: bool, pod: &Value) -> &'static str {
    let ended = |c: &&&Container| matches!(c.phase, Phase::Ended);
    if !apps.is_empty() && apps.iter().filter(ended).count() == apps.len() {
        let good = apps.iter().all(|c| c.last.as_ref().is_some_and(|end| end.code == 0));
        return if good { "Succeeded" } else { "Failed" };
    }
    let begun = apps.iter().any(|c| c.run > 0);
    let init_failed = text(pod, "/spec/restartPolicy") == "Never" && !init_done && !begun;
    match (init_done && begun, init_failed) {
        (true, _) => "Running",
        (false, _) => "Pending",
    }
}

fn condition(sim: &Sim, old: &[Value], kind: &str, holds: bool, why: (&str, String)) -> Value {
    let word = if holds { "True" } else { "False" };
    let before = old.iter().find(|c| text(c, "/type") == kind && text(c, "/status") == word);
    let since = before.map(|c| text(c, "/lastTransitionTime").to_owned()).unwrap_or_else(|| sim.stamp());
    let mut condition = json!({"type": kind, "status": word, "lastProbeTime": null, "lastTransitionTime": since});
    if !holds && !why.0.is_empty() {
        condition["reason"] = why.0.into();
        if !why.1.is_empty() {
            condition["message"] = why.1.into();
        }
    }
    condition
}

fn one(pod: &Value, container: &Container, waits: &str) -> Value {
    let waiting = |reason: &str, message: &str| {
        let mut waiting = json!({"reason": reason});
        if !message.is_empty() {
            waiting["message"] = message.into();
        }
        json!({"waiting": waiting})
    };
    let image = &container.image;
    let backing_off = |message: &str| waiting("ImagePullBackOff", &format!("Back-off pulling image \"{image}\": ErrImagePull: {message}"));
    let state = match &container.phase {
        // a kubelet tells the last failure as long as the next try takes
        Phase::Pulling(_) if container.pull_error.is_some() => backing_off(container.pull_error.as_deref().unwrap_or_default()),
        _ if container.backs_off() => {
            let whose = format!("{}_{}({})", name(pod), namespace(pod), uid(pod));
            waiting("CrashLoopBackOff", &format!("back-off {} restarting failed container={} pod={whose}", container.told_back_off(), container.name))
        }
        Phase::Untouched | Phase::Pulling(_) | Phase::Starting(_) if container.restarts == 0 => waiting(waits, ""),
        Phase::Untouched | Phase::Pulling(_) | Phase::Starting(_) | Phase::BackOff { .. } | Phase::Ended => terminated(pod, container),
        Phase::PullFailed { message, backing_off: true, .. } => backing_off(message),
        Phase::PullFailed { message, .. } => waiting("ErrImagePull", message),
        Phase::Stuck { reason, message, .. } => waiting(reason, message),
        Phase::Running { since, .. } => json!({"running": {"startedAt": stamp(*since)}}),
    };
    let running = container.running();
    // the end that the state itself tells is not the last state
    let last = if state.get("terminated").is_some() { &container.before_last } else { &container.last };
    let last = last.as_ref().map_or_else(|| json!({}), |end| ended(pod, container, end));
    json!({
        "name": container.name, "state": state, "lastState": last, "ready": container.ready || (container.kind == Kind::Init && container.past()),
        "restartCount": container.started_again(), "image": image, "imageID": container.image_id(), "containerID": container.id(pod, container.run), "started": running,
    })
}

fn terminated(pod: &Value, container: &Container) -> Value {
    container.last.as_ref().map_or_else(|| json!({"waiting": {"reason": "ContainerCreating"}}), |end| ended(pod, container, end))
}

fn ended(pod: &Value, container: &Container, end: &End) -> Value {
    let mut state = json!({"exitCode": end.code, "reason": end.reason, "startedAt": stamp(end.started), "finishedAt": stamp(end.finished), "containerID": container.id(pod, end.run)});
    if !end.message.is_empty() {
        state["message"] = end.message.clone().into();
    }
    json!({"terminated": state})
}

fn quality(pod: &Value) -> &'static str {
    let containers = || list(pod, "/spec/containers").iter();
    let given = |c: &Value| !c["resources"]["requests"].is_null() || !c["resources"]["limits"].is_null();
    let guaranteed = |c: &Value| {
        ["cpu", "memory"].iter().all(|key| {
            !c["resources"]["limits"][*key].is_null()
                && (c["resources"]["requests"][*key].is_null() || c["resources"]["requests"][*key] == c["resources"]["limits"][*key])
        })
    };
    if containers().all(guaranteed) {
        "Guaranteed"
    } else if containers().any(given) {
        "Burstable"
    } else {
        "BestEffort"
    }
}
