//! Keeps two runs of one environment apart: a stage that changes the cluster first takes the Lease that `lock:` names.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use tokio::sync::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::mutex;
use crate::base::names::ObjectName;
use crate::base::wait::{self, Patience, Poll};
use crate::clients::kube::{Cluster, fault};
use crate::domain::lock::{BUILD_URL, Claim, LEASE_SECONDS, RENEW_EVERY, judge};
use crate::engine::record::{Case, Done};
use crate::engine::{Ctx, Readiness, Stage};
use crate::stages::Shared;

/// A stage that runs only under the lock.
pub struct Locked<S>(pub S);

/// The lock of this process, taken by the first stage that needs it and kept until [`release`].
#[derive(Default)]
pub struct Holder(Mutex<Option<Held>>);

struct Held {
    cluster: Cluster,
    namespace: String,
    name: String,
    identity: String,
    _renewing: DropGuard,
}

#[async_trait]
impl<S: Stage<Shared>> Stage<Shared> for Locked<S> {
    fn id(&self) -> &'static str {
        self.0.id()
    }

    async fn check(&self, ctx: &Ctx<Shared>) -> Result<Readiness> {
        self.0.check(ctx).await
    }

    async fn apply(&self, ctx: &Ctx<Shared>) -> Result<()> {
        if !ctx.dry_run && !ctx.shared.options.releases_task.only_looks() && take(ctx).await.is_err() {
            return Ok(());
        }
        self.0.apply(ctx).await
    }
}

/// Takes the lock, as a case of its own.
///
/// # Errors
/// Why it was not got; the case has said it already.
pub async fn take(ctx: &Ctx<Shared>) -> Result<()> {
    let shared = &ctx.shared;
    let Some(lock) = &shared.pipeline.lock else { return Ok(()) };
    let mut held = shared.lock.0.lock().await;
    if held.is_some() {
        return Ok(());
    }
    let failure = std::sync::Mutex::new(None);
    let name = format!("meshstep-{}", shared.pipeline.name);
    let namespace = lock.namespace.clone();
    let place = shared.place("/lock").cloned();
    let taking = ctx.record.case("lock").place(place.as_ref()).run(|case| async {
        let taken = taken(ctx, namespace, name, case).await;
        if let Err(fault) = &taken {
            *mutex::lock(&failure) = Some(fault.clone());
        }
        taken
    });
    let Some(taken) = taking.await else {
        let failure = failure.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        return Err(failure.unwrap_or_else(|| Fault::new(Code::Locked, "the lock was not got")));
    };
    *held = Some(taken);
    Ok(())
}

async fn taken(ctx: &Ctx<Shared>, namespace: String, name: String, case: Case) -> Result<Done<Held>> {
    let shared = &ctx.shared;
    let cluster = shared.cluster().await?;
    let identity = shared.lock_id.clone();
    let note = acquire(ctx, &cluster, &namespace, &name, &case).await?;
    let stop = CancellationToken::new();
    tokio::spawn(renew(cluster.clone(), namespace.clone(), name.clone(), identity.clone(), stop.clone()));
    Ok(Done::unchanged(Held { cluster, namespace, name, identity, _renewing: stop.drop_guard() }, note))
}

async fn acquire(ctx: &Ctx<Shared>, cluster: &Cluster, namespace: &str, name: &str, case: &Case) -> Result<String> {
    let (shared, identity) = (&ctx.shared, ctx.shared.lock_id.as_str());
    let seen: Arc<std::sync::Mutex<(Option<String>, Instant)>> = Arc::new(std::sync::Mutex::new((None, Instant::now())));
    let leases = cluster.api::<Lease>(namespace);
    let got = wait::until(
        Patience::new(shared.options.lock_timeout, Duration::from_secs(2)),
        |reason| case.progress(reason),
        wait::never,
        || {
            let (leases, seen) = (leases.clone(), Arc::clone(&seen));
            async move {
                let lease = cluster.get::<Lease>(namespace, name).await?;
                let claim = judge(lease.as_ref(), identity, unchanged_for(&seen, lease.as_ref()));
                if let Claim::Held { .. } = claim {
                    return Ok(Poll::NotYet(claim.words()));
                }
                let wanted = wanted(name, identity, shared.build_url.as_deref(), lease.as_ref());
                // Create and replace carry no and the read version: of two that try at once, the API server lets one through.
                let written = match lease {
                    None => {
                        ctx.ledger.intend(&ObjectName::new("Lease", namespace, name))?;
                        leases.create(&PostParams::default(), &wanted).await
                    }
                    Some(_) => leases.replace(name, &PostParams::default(), &wanted).await,
                };
                match written {
                    Ok(_) => Ok(Poll::Ready(match claim {
                        Claim::Expired { .. } => format!("taken over, {}", claim.words()),
                        _ => "taken".to_owned(),
                    })),
                    Err(kube::Error::Api(status)) if status.code == 409 => Ok(Poll::NotYet("another run was faster".to_owned())),
                    Err(error) => Err(fault(error, "take the lock")),
                }
            }
        },
    );
    got.await.map_err(|error| {
        error.into_fault(|timed_out| {
            let message = format!("the lock {namespace}/{name} is {}", timed_out.last_reason);
            Fault::new(Code::Locked, message)
                .next(format!("wait for that run, or raise `--lock-timeout`; see `kubectl -n {namespace} get lease {name} -o yaml`"))
        })
    })
}

/// How long our own clock has seen this renewal.
fn unchanged_for(seen: &std::sync::Mutex<(Option<String>, Instant)>, lease: Option<&Lease>) -> Duration {
    let version = lease.and_then(|lease| lease.metadata.resource_version.clone());
    let mut seen = mutex::lock(seen);
    if seen.0 != version {
        *seen = (version, Instant::now());
    }
    seen.1.elapsed()
}

fn wanted(name: &str, identity: &str, build_url: Option<&str>, old: Option<&Lease>) -> Lease {
    let now = MicroTime(Timestamp::now());
    let old_spec = old.and_then(|lease| lease.spec.clone()).unwrap_or_default();
    let still_ours = old_spec.holder_identity.as_deref() == Some(identity);
    Lease {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            resource_version: old.and_then(|lease| lease.metadata.resource_version.clone()),
            labels: Some([("app.kubernetes.io/managed-by".to_owned(), "meshstep".to_owned())].into()),
            annotations: build_url.map(|url| [(BUILD_URL.to_owned(), url.to_owned())].into()),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(identity.to_owned()),
            lease_duration_seconds: Some(LEASE_SECONDS),
            acquire_time: if still_ours { old_spec.acquire_time } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(old_spec.lease_transitions.unwrap_or(0) + i32::from(!still_ours)),
            ..LeaseSpec::default()
        }),
    }
}

async fn renew(cluster: Cluster, namespace: String, name: String, identity: String, stop: CancellationToken) {
    while tokio::time::timeout(RENEW_EVERY, stop.cancelled()).await.is_err() {
        let Ok(Some(lease)) = cluster.get::<Lease>(&namespace, &name).await else { continue };
        if judge(Some(&lease), &identity, Duration::ZERO) == Claim::Ours {
            let url = lease.metadata.annotations.as_ref().and_then(|a| a.get(BUILD_URL)).cloned();
            let renewed = wanted(&name, &identity, url.as_deref(), Some(&lease));
            let _next_time = cluster.api::<Lease>(&namespace).replace(&name, &PostParams::default(), &renewed).await;
        }
    }
}

/// Lets go of the lock, if this process has it. A lock that cannot be released expires by itself.
pub async fn release(holder: &Holder) {
    let Some(held) = holder.0.lock().await.take() else { return };
    let Ok(Some(mut lease)) = held.cluster.get::<Lease>(&held.namespace, &held.name).await else { return };
    if judge(Some(&lease), &held.identity, Duration::ZERO) == Claim::Ours {
        if let Some(spec) = lease.spec.as_mut() {
            spec.holder_identity = None;
        }
        let _expires = held.cluster.api::<Lease>(&held.namespace).replace(&held.name, &PostParams::default(), &lease).await;
    }
}
