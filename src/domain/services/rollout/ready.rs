//! When is a workload done: the rules of `kubectl rollout status`, and a moment of patience where nothing probes a container.

use crate::base::codes::Code;
use crate::base::text;
use crate::domain::services::rollout::history::History;
use crate::domain::services::rollout::policy::Policy;
use crate::domain::services::rollout::seen::{Kind, Pod, Snapshot, Strategy, Workload};
use crate::domain::services::rollout::{Trouble, Verdict, blame, pods};

/// `Ready`, or a bare pod's or Job's end; `None` while something is missing.
pub(super) fn verdict(snapshot: &Snapshot, workload: &Workload, history: &History, policy: &Policy) -> Option<Verdict> {
    let mut warnings = Vec::new();
    match workload.kind {
        Kind::Job => return job(snapshot, workload, history),
        Kind::Pod => {
            let pod = snapshot.pods.first()?;
            match pod.phase.as_str() {
                "Succeeded" => return Some(Verdict::Ready { note: "ran to its end".to_owned(), warnings }),
                "Failed" if pod.is_disrupted() => {
                    return Some(Verdict::Failed(Trouble::of_pod(
                        Code::CrashLoop,
                        true,
                        pod,
                        format!("the pod was ended by the cluster: {}", pod.reason),
                    )));
                }
                "Failed" => {
                    let trouble = Trouble::of_pod(Code::CrashLoop, true, pod, "the pod failed".to_owned());
                    return Some(Verdict::Failed(blame(snapshot, history, trouble)));
                }
                _ if !pod.ready => return None,
                _ => {}
            }
        }
        Kind::Deployment => {
            if workload.updated < workload.wanted || workload.total > workload.updated || workload.available < workload.updated {
                return None;
            }
        }
        Kind::StatefulSet => {
            let partition = match workload.strategy {
                Strategy::Ordered { partition, .. } => partition,
                Strategy::OnDelete => {
                    warnings.push("the update strategy is OnDelete: pods change only when they are deleted".to_owned());
                    workload.wanted
                }
                _ => 0,
            };
            if partition > 0 && workload.strategy != Strategy::OnDelete {
                warnings.push(format!(
                    "the update stops at partition {partition}: {} stay as they are",
                    text::count(usize::try_from(partition).unwrap_or(0), "pod")
                ));
            }
            if workload.ready < workload.wanted || workload.available < workload.wanted || workload.updated < workload.wanted - partition {
                return None;
            }
        }
        Kind::DaemonSet => {
            let on_delete = workload.strategy == Strategy::OnDelete;
            if on_delete {
                warnings.push("the update strategy is OnDelete: pods change only when they are deleted".to_owned());
            }
            if workload.available < workload.wanted || (workload.updated < workload.wanted && !on_delete) {
                return None;
            }
        }
    }
    if workload.wanted == 0 && workload.kind != Kind::Pod {
        let why = if workload.kind == Kind::DaemonSet { "no node should run it" } else { "it is scaled to 0 replicas" };
        return Some(Verdict::Ready { note: "0 pods".to_owned(), warnings: vec![format!("{why}: nothing runs")] });
    }
    if workload.paused {
        warnings.push("the Deployment is paused; its newest revision was rolled out before".to_owned());
    }
    let new: Vec<&Pod> = snapshot.newest().collect();
    if new.is_empty() && warnings.is_empty() {
        // The workload's status was seen before its pods were.
        return None;
    }
    if workload.min_ready_seconds == 0 {
        if new.iter().any(|pod| pods::unsettled(history, policy, pod).next().is_some()) {
            return None;
        }
        let mut names: Vec<&str> = new.iter().flat_map(|p| &p.containers).filter(|c| pods::is_unprobed(c)).map(|c| c.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        if !names.is_empty() {
            let has = if names.len() == 1 { "container" } else { "containers" };
            warnings.push(format!("no_readiness_probe: {has} {} without a readiness probe: ready as soon as started", names.join(", ")));
        }
    }
    let lost = history.disrupted();
    if !lost.is_empty() {
        let were = if lost.len() == 1 { "1 pod was" } else { &format!("{} pods were", lost.len()) };
        warnings.push(format!("{were} taken away by the cluster meanwhile and replaced: {}", lost.join(", ")));
    }
    let wanted = if workload.kind == Kind::Pod { 1 } else { workload.wanted };
    Some(Verdict::Ready { note: format!("{wanted}/{wanted} ready"), warnings })
}

fn job(snapshot: &Snapshot, workload: &Workload, history: &History) -> Option<Verdict> {
    if workload.condition("Complete").is_some_and(|c| c.status) {
        return Some(Verdict::Ready { note: format!("{} done", text::count(usize::try_from(workload.ready).unwrap_or(0), "pod")), warnings: vec![] });
    }
    // The first of the two, which is never taken back, comes while the pods still have their logs; then what is left of them is ended.
    let failed = ["Failed", "FailureTarget"].iter().find_map(|kind| workload.condition(kind).filter(|c| c.status))?;
    let words = format!("the Job failed: {}", if failed.message.is_empty() { &failed.reason } else { &failed.message });
    Some(Verdict::Failed(blame(snapshot, history, Trouble::of_workload(Code::JobFailed, text::one_line(&words)))))
}

/// The controller's own verdict that the newest revision makes no progress. One from before the apply, or about another
/// ReplicaSet, says nothing about this rollout.
pub(super) fn given_up(workload: &Workload, history: &History) -> Option<Trouble> {
    let condition = workload.condition("Progressing").filter(|c| !c.status && c.reason == "ProgressDeadlineExceeded")?;
    if history.is_old_progress(condition.updated) {
        return None;
    }
    let names_another =
        condition.message.contains("ReplicaSet \"") && !workload.revision.is_empty() && !condition.message.contains(&workload.revision);
    (!names_another).then(|| Trouble::of_workload(Code::RolloutDeadline, format!("the controller gave up: {}", text::one_line(&condition.message))))
}
