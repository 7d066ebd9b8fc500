//! Probe pods: made, waited for, read and removed, whatever happens; and those of killed runs.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use futures::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::mutex::lock;
use crate::base::names::ObjectName;
use crate::base::text;
use crate::base::wait::{self, Patience, Poll};
use crate::clients::kube::Cluster;
use crate::domain::probe::pod::{self, LABEL, RUN};
use crate::domain::probe::{Plan, Request};
use crate::engine::Ctx;
use crate::engine::record::{Case, Done};
use crate::stages::Shared;
use crate::stages::troubleshoot::Troubleshoot;

/// The case that tells of those of killed runs.
pub(super) const FORMER: &str = "probe pods of former runs";
/// How often its removal is tried.
const REMOVALS: u32 = 4;
/// How long a pod that is being removed may still be there.
const GONE_WITHIN: Duration = Duration::from_secs(30);
/// How much is read of what a lane was answered.
const LOG_LINES: i64 = 100_000;

/// What a probe pod is to ask.
pub(super) struct Asking<'a> {
    /// Its name, from [`name`].
    pub pod: &'a str,
    pub namespace: &'a str,
    pub lanes: &'a [Vec<Request>],
    pub cacert: Option<&'a str>,
}

/// Runs the requests from a pod; its log, the lanes' one after another. The pod is removed before this returns, also when the run is
/// cancelled.
pub(super) async fn run(ctx: &Ctx<Shared>, cluster: &Cluster, params: &Troubleshoot, asking: &Asking<'_>, case: &Case) -> Result<String> {
    run_and_tell(ctx, cluster, params, asking, case, &|| ()).await
}

/// The same; `begins` hears it when the pod runs.
pub(super) async fn run_and_tell(
    ctx: &Ctx<Shared>,
    cluster: &Cluster,
    params: &Troubleshoot,
    asking: &Asking<'_>,
    case: &Case,
    begins: &(dyn Fn() + Sync),
) -> Result<String> {
    let Asking { pod: name, namespace, lanes, cacert } = *asking;
    let object = ObjectName::new("Pod", namespace, name);
    let manifest = Plan { name, namespace, image: &params.image, run_id: &ctx.shared.run_id, lanes, cacert }.manifest();
    ctx.ledger.intend(&object)?;
    // Creation is not interrupted: half-way it might still happen after the removal.
    let created = cluster.apply(&manifest, namespace, false).await;
    let cancelled = ctx.record.cancelled();
    let log = match created {
        Err(fault) => Err(refused(fault, namespace)),
        Ok(_) => tokio::select! {
            log = ended(cluster, params, asking, case, begins) => log,
            () = cancelled.cancelled() => Err(Fault::new(Code::Cancelled, "the run was cancelled; the probe pod was removed")),
        },
    };
    match remove(cluster, &object).await {
        Ok(()) => log,
        Err(left) => Err(left),
    }
}

fn refused(fault: Fault, namespace: &str) -> Fault {
    let why = format!("no probe pod can be made in {namespace}: {}", fault.message);
    let advice = Fault { evidence: fault.evidence, next: fault.next, ..Fault::new(Code::ProbeFailed, why) };
    advice.next("read the API server's words: a quota, a policy, or a missing right")
}

/// Waits for the end of the pod, and reads its log.
async fn ended(cluster: &Cluster, params: &Troubleshoot, asking: &Asking<'_>, case: &Case, begins: &(dyn Fn() + Sync)) -> Result<String> {
    let Asking { pod: name, namespace, lanes, .. } = *asking;
    let nudge = cluster.watch::<Pod>(namespace, &format!("{LABEL}=true"));
    let look = || async {
        let Some(live) = cluster.get::<Pod>(namespace, name).await? else {
            return Err(Fault::new(Code::ProbeFailed, format!("the probe pod {name} in {namespace} was deleted by somebody else")));
        };
        let value = serde_json::to_value(&live).unwrap_or_default();
        if let Some(why) = pod::cannot_run(&value) {
            let fault = Fault::new(Code::ProbeFailed, format!("the probe pod cannot run in {namespace}: {why}"));
            return Err(fault.next("name an image with curl that the nodes can pull: `troubleshoot: {image: …}`"));
        }
        let phase = value.pointer("/status/phase").and_then(Value::as_str);
        if matches!(phase, Some("Running" | "Succeeded" | "Failed")) {
            begins();
        }
        Ok(match phase {
            Some("Succeeded" | "Failed") => Poll::Ready(()),
            _ => Poll::NotYet(format!("the probe pod {name} in {namespace} is {}", state(&value))),
        })
    };
    let limit = params.timeout.0 + Duration::from_secs(pod::asking(lanes).into());
    let patience = Patience::new(limit, Duration::from_secs(2));
    wait::until(patience, |reason| case.progress(reason), || nudge.next(), look).await.map_err(|error| {
        error.into_fault(|timed_out| Fault::new(Code::ProbeFailed, format!("not within {}: {}", text::seconds(limit), timed_out.last_reason)))
    })?;
    let logs = (0..lanes.len()).map(|lane| async move { cluster.logs(namespace, name, &pod::container(lane), false, LOG_LINES).await });
    Ok(try_join_all(logs).await?.concat())
}

/// `Pending: 0/2 nodes are available`, `Running`.
fn state(pod: &Value) -> String {
    let phase = pod.pointer("/status/phase").and_then(Value::as_str).unwrap_or("not seen by a node yet");
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    let why = conditions.into_iter().flatten().find(|c| c.get("reason").and_then(Value::as_str) == Some("Unschedulable"));
    match why.and_then(|c| c.get("message")).and_then(Value::as_str) {
        Some(why) => format!("{phase}: {why}"),
        None => phase.to_owned(),
    }
}

/// Deletes a probe pod and sees it gone.
async fn remove(cluster: &Cluster, object: &ObjectName) -> Result<()> {
    let mut last = String::new();
    for _ in 0..REMOVALS {
        match cluster.delete_object(object, "v1").await {
            Ok(false) => return Ok(()),
            Ok(true) => {
                let look = || async {
                    Ok(match cluster.get::<Pod>(&object.namespace, &object.name).await? {
                        None => Poll::Ready(()),
                        Some(_) => Poll::NotYet("it is ending".to_owned()),
                    })
                };
                match wait::until(Patience::new(GONE_WITHIN, Duration::from_millis(200)), |_| {}, wait::never, look).await {
                    Ok(()) => return Ok(()),
                    Err(error) => last = error.into_fault(|timed_out| Fault::new(Code::LeftBehind, timed_out.last_reason)).message,
                }
            }
            Err(fault) => last = fault.message,
        }
    }
    let fault = Fault::new(Code::LeftBehind, format!("the probe {object} could not be removed: {last}"));
    Err(fault.next(format!("`kubectl -n {} delete pod {}`", object.namespace, object.name)))
}

/// A name for a probe pod, with eight characters that no other probe has.
pub(super) fn name() -> String {
    use std::hash::{BuildHasher, RandomState};
    format!("meshstep-probe-{:08x}", RandomState::new().hash_one(std::time::SystemTime::now()) & 0xffff_ffff)
}

/// A probe pod of another run.
pub(super) struct Found {
    object: ObjectName,
    /// Nobody waits for it any more.
    over: bool,
    /// The kubelet ends it when it is so old, in seconds.
    deadline: i64,
}

async fn others(ctx: &Ctx<Shared>, cluster: &Cluster, namespaces: &BTreeSet<String>) -> Result<Vec<Found>> {
    let ours = pod::label_value(&ctx.shared.run_id);
    let mut found = Vec::new();
    for namespace in namespaces {
        for pod in cluster.list::<Pod>(namespace, &format!("{LABEL}=true,app.kubernetes.io/managed-by=meshstep")).await? {
            let age = pod.metadata.creation_timestamp.as_ref().map_or(i64::MAX, |at| Timestamp::now().as_second() - at.0.as_second());
            let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default();
            let deadline = pod::deadline(&serde_json::to_value(&pod).unwrap_or_default());
            // The same build's: its process is the one before this, or beside it.
            let same_build = pod.metadata.labels.as_ref().and_then(|l| l.get(RUN)) == Some(&ours) && age < deadline;
            let over = (matches!(phase, "Succeeded" | "Failed") && !same_build) || age > deadline;
            found.push(Found { object: ObjectName::new("Pod", namespace, pod.metadata.name.unwrap_or_default()), over, deadline });
        }
    }
    Ok(found)
}

/// Removes the probe pods that killed runs left; those that may still be somebody's go to `young`. `false`: they could not be looked at.
pub(super) async fn sweep(ctx: &Ctx<Shared>, cluster: &Cluster, namespaces: &BTreeSet<String>, young: &Mutex<Vec<Found>>) -> bool {
    let case = ctx.record.case(FORMER);
    case.run(|_| async move {
        let found = others(ctx, cluster, namespaces).await?;
        let (over, still): (Vec<Found>, Vec<Found>) = found.into_iter().partition(|f| f.over);
        for pod in &over {
            remove(cluster, &pod.object).await?;
        }
        let words = match (over.len(), still.len()) {
            (0, 0) => "none".to_owned(),
            (removed, 0) => format!("{removed} removed"),
            (removed, still) => format!("{removed} removed, {} at work: looked at again at the end", text::count(still, "one")),
        };
        lock(young).extend(still);
        Ok(if over.is_empty() { Done::unchanged((), words) } else { Done::changed((), words) })
    })
    .await
    .is_some()
}

/// Waits until the probes of others have ended by themselves, and removes what nobody removed.
pub(super) async fn wait_for(ctx: &Ctx<Shared>, cluster: &Cluster, young: Vec<Found>) {
    for Found { object, deadline, .. } in young {
        let case = ctx.record.case(format!("probe pod {} of a former run", object.name));
        case.run(|case| async move {
            let look = || async {
                let live = cluster.get::<Pod>(&object.namespace, &object.name).await?;
                let phase = live.as_ref().map(|pod| pod.status.as_ref().and_then(|s| s.phase.clone()).unwrap_or_default());
                Ok(match phase.as_deref() {
                    None => Poll::Ready(false),
                    Some("Succeeded" | "Failed") => Poll::Ready(true),
                    Some(_) => Poll::NotYet("it is at work".to_owned()),
                })
            };
            let limit = Duration::from_secs(u64::try_from(deadline).unwrap_or(90) + 10);
            let waited = wait::until(Patience::new(limit, Duration::from_secs(1)), |reason| case.progress(reason), wait::never, look).await;
            if waited.unwrap_or(true) {
                remove(cluster, &object).await?;
                return Ok(Done::changed((), "removed"));
            }
            Ok(Done::unchanged((), "its own run removed it"))
        })
        .await;
    }
}
