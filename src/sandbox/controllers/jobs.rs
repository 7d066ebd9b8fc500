//! Jobs: pods that end, counted until enough of them ended well or too many did not.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use super::JOBS;
use super::events::{self, Note};
use super::pods;
use crate::sandbox::sim::Sim;
use crate::sandbox::store::meta::{deleting, list, metadata, name, number, text, uid};

const SOURCE: &str = "job-controller";
const BEYOND_LIMIT: &str = "Job has reached the specified backoff limit";

pub(super) fn reconcile(sim: &Sim) -> Option<Instant> {
    sim.store.list(JOBS, "").iter().filter(|job| !deleting(job)).filter_map(|job| one(sim, job)).min()
}

fn one(sim: &Sim, job: &Value) -> Option<Instant> {
    if list(job, "/status/conditions").iter().any(|c| matches!(text(c, "/type"), "Complete" | "Failed")) {
        return None;
    }
    let mine = pods::owned(sim, job);
    let in_phase = |phase: &str| i64::try_from(mine.iter().filter(|pod| text(pod, "/status/phase") == phase).count()).unwrap_or(0);
    let (succeeded, failed) = (in_phase("Succeeded"), in_phase("Failed"));
    let active = i64::try_from(mine.iter().filter(|pod| pods::active(pod)).count()).unwrap_or(0);
    let want = number(job, "/spec/completions").unwrap_or(1);
    let limit = number(job, "/spec/backoffLimit").unwrap_or(6);
    let mut wait = None;
    let mut status = json!({"startTime": job.pointer("/status/startTime").cloned().unwrap_or_else(|| sim.stamp().into())});
    pods::counts(&mut status, &[("active", active), ("succeeded", succeeded), ("failed", failed)]);
    status["ready"] = mine.iter().filter(|pod| pods::ready(pod)).count().into();
    let conditions = list(job, "/status/conditions");
    if conditions.iter().any(|c| text(c, "/type") == "FailureTarget") {
        // it has failed once all its pods have ended
        let failed = pods::condition(sim, &[], "Failed", true, "BackoffLimitExceeded", BEYOND_LIMIT, false);
        let gone = mine.iter().all(|pod| matches!(text(pod, "/status/phase"), "Succeeded" | "Failed"));
        status["conditions"] = conditions.iter().cloned().chain(gone.then_some(failed)).collect();
    } else if succeeded >= want {
        status["completionTime"] = sim.stamp().into();
        status["conditions"] = ["SuccessCriteriaMet", "Complete"]
            .iter()
            .map(|kind| pods::condition(sim, &[], kind, true, "CompletionsReached", "Reached expected number of succeeded pods", false))
            .collect();
        events::emit(sim, job, &Note::normal(SOURCE, "Completed", "Job completed"));
    } else if failed > limit || restarted_beyond(limit, job, &mine) {
        status["conditions"] = json!([pods::condition(sim, &[], "FailureTarget", true, "BackoffLimitExceeded", BEYOND_LIMIT, false)]);
        events::emit(sim, job, &Note::warning(SOURCE, "BackoffLimitExceeded", BEYOND_LIMIT));
        mine.iter().filter(|pod| pods::active(pod)).for_each(|pod| pods::delete(sim, job, pod, SOURCE));
    } else if active < number(job, "/spec/parallelism").unwrap_or(1).min(want - succeeded) {
        let mut pod = pods::from_template(job, None);
        let labels = metadata(&mut pod).entry("labels").or_insert_with(|| json!({}));
        for key in ["batch.kubernetes.io/job-name", "job-name"] {
            labels[key] = name(job).into();
        }
        for key in ["batch.kubernetes.io/controller-uid", "controller-uid"] {
            labels[key] = uid(job).into();
        }
        wait = pods::create(sim, job, pod, SOURCE).err();
    }
    pods::write_status(sim, JOBS, job, status);
    wait
}

/// Whether a Job whose pods restart their containers has let them do so as often as it may.
fn restarted_beyond(limit: i64, job: &Value, pods: &[Arc<Value>]) -> bool {
    if text(job, "/spec/template/spec/restartPolicy") != "OnFailure" {
        return false;
    }
    let alive = pods.iter().filter(|pod| matches!(text(pod, "/status/phase"), "Running" | "Pending"));
    let statuses = alive.flat_map(|pod| ["/status/initContainerStatuses", "/status/containerStatuses"].map(|key| list(pod, key))).flatten();
    let restarts: i64 = statuses.filter_map(|status| number(status, "/restartCount")).sum();
    restarts > 0 && restarts >= limit
}
