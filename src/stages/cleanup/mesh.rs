//! The mesh itself: the purge, the namespace with its CA, and what stays.

use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use serde_json::Value;

use super::look::{self, Found};
use super::{GOES_WITHIN, Work};
use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::names::ObjectName;
use crate::base::text;
use crate::base::wait::{self, Patience, Poll};
use crate::clients::kube::Cluster;
use crate::clients::tools::Call;
use crate::domain::cleanup::namespace::{self, Allowed, Facts, Fate, OWN_CA, PLUGGED_CA};
use crate::domain::cleanup::title;
use crate::domain::mesh::decide::MEMORY;
use crate::domain::mesh::ready::SYSTEM;
use crate::domain::mesh::{argv, look as planes};
use crate::domain::services::sidecar::PROXY;
use crate::engine::record::{Case, Done};
use crate::stages::Shared;
use crate::stages::deploy::ServiceNamespace;

const PURGE_WITHIN: Duration = Duration::from_secs(300);
/// Its content goes one kind after another.
const NAMESPACE_WITHIN: Duration = Duration::from_secs(300);

/// Kinds that somebody may have in Istio's namespace.
const CONTENT: [(&str, &str); 11] = [
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("batch/v1", "Job"),
    ("batch/v1", "CronJob"),
    ("v1", "Pod"),
    ("v1", "Service"),
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("v1", "PersistentVolumeClaim"),
    ("networking.k8s.io/v1", "Ingress"),
];

/// `istioctl uninstall --purge -y`, and the proof that nothing of it is left.
pub(super) async fn purge(work: &Work<'_>, case: Case) -> Result<Done> {
    let (cluster, tools) = (&work.cluster, &work.ctx.shared.tools);
    let before = look::istio(cluster).await?;
    if before.is_empty() {
        forget(cluster).await?;
        return Ok(Done::unchanged((), "not there"));
    }
    case.progress("istioctl removes everything that it ever installed");
    let finished = tools.run(Call::new("istioctl").args(argv::uninstall(cluster.kubeconfig())).timeout(PURGE_WITHIN)).await?;
    case.output(&format!("$ {}\n{}", finished.command, finished.shown(100)));
    if !finished.success() {
        return Err(finished.fault().next("read istioctl's message, and run cleanup again"));
    }
    let look = || async {
        let left = look::istio(cluster).await?;
        let pods: Vec<Pod> = cluster.list(SYSTEM, "app in (istiod, istio-ingressgateway)").await?;
        Ok(match (left.first(), pods.first()) {
            (None, None) => Poll::Ready(()),
            (Some(first), _) => Poll::NotYet(format!("{} left, the first is {}", text::count(left.len(), "object"), title(first))),
            (None, Some(pod)) => Poll::NotYet(format!("pod {} is ending", pod.metadata.name.clone().unwrap_or_default())),
        })
    };
    let waited = wait::until(Patience::new(GOES_WITHIN, Duration::from_millis(500)), |reason| case.progress(reason), wait::never, look).await;
    if let Err(error) = waited {
        let left = look::istio(cluster).await?;
        return Err(error.into_fault(|timed_out| purge_left(&left, &timed_out.last_reason)));
    }
    forget(cluster).await?;
    let others = planes::found(cluster).await?.planes;
    for plane in &others {
        case.warn(format!("the control plane {} in {} is not istioctl's, so the purge left it", plane.name, plane.namespace));
    }
    Ok(Done::changed((), format!("{} removed", text::count(before.len(), "object"))))
}

fn purge_left(left: &[Value], reason: &str) -> Fault {
    let fault = Fault::new(Code::LeftBehind, format!("the purge left {}: {reason}", text::count(left.len(), "object")));
    left.iter().fold(fault, |fault, object| fault.next(format!("`kubectl delete {}`", for_kubectl(object))))
}

fn for_kubectl(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    ObjectName::new(text("/kind").to_lowercase(), text("/metadata/namespace"), text("/metadata/name")).for_kubectl()
}

/// What was installed is no longer true.
async fn forget(cluster: &Cluster) -> Result<()> {
    cluster.delete_object(&ObjectName::new("ConfigMap", SYSTEM, MEMORY), "v1").await.map(drop)
}

/// The namespace, unless its CA or something of others must stay.
pub(super) async fn namespace(work: &Work<'_>, found: &Found, case: Case) -> Result<Done> {
    let (cluster, options) = (&work.cluster, &work.ctx.shared.options);
    let Some(live) = cluster.get::<Namespace>("", SYSTEM).await? else { return Ok(Done::unchanged((), "not there")) };
    if live.metadata.deletion_timestamp.is_none() {
        let facts = facts(work, found).await?;
        case.observed("namespace", &facts);
        let allowed = Allowed { discard_ca: options.discard_ca, purge_foreign: options.purge_foreign };
        match namespace::decide(&facts, allowed) {
            Fate::Stays(why) => return Ok(Done::Skipped(why)),
            Fate::Goes(warning) => warning.into_iter().for_each(|warning| case.warn(warning)),
        }
        cluster.delete_object(&ObjectName::new("Namespace", "", SYSTEM), "v1").await?;
    }
    let look = || async {
        Ok(match cluster.get::<Namespace>("", SYSTEM).await? {
            None => Poll::Ready(()),
            Some(live) => Poll::NotYet(terminating(&live)),
        })
    };
    let patience = Patience::new(NAMESPACE_WITHIN, Duration::from_secs(1));
    wait::until(patience, |reason| case.progress(reason), wait::never, look).await.map_err(|error| {
        error.into_fault(|timed_out| {
            Fault::new(Code::LeftBehind, format!("namespace {SYSTEM} does not go: {}", timed_out.last_reason))
                .next(format!("remove what is named, then run cleanup again; `kubectl get namespace {SYSTEM} -o yaml` says what is left"))
                .next("never strip a finalizer before you know what it stands for: what it stands for would be leaked")
        })
    })?;
    Ok(Done::changed((), "deleted, with the mesh's CA"))
}

/// What a terminating namespace says of itself.
fn terminating(live: &Namespace) -> String {
    let conditions = live.status.as_ref().and_then(|s| s.conditions.as_ref());
    let held = conditions.into_iter().flatten().filter(|c| c.status == "True" && c.type_ != "NamespaceDeletionDiscoveryFailure");
    let words: Vec<String> = held.filter_map(|c| c.message.clone()).collect();
    if words.is_empty() { "it is being emptied".to_owned() } else { words.join("; ") }
}

async fn facts(work: &Work<'_>, found: &Found) -> Result<Facts> {
    let (cluster, shared) = (&work.cluster, &work.ctx.shared);
    let content = try_join_all(CONTENT.iter().map(|(api_version, kind)| look::list(cluster, api_version, kind, SYSTEM, ""))).await?;
    let foreign = content.iter().flatten().filter(|object| namespace::is_foreign(object, &found.ours)).map(title).collect();
    let is_ca = |object: &&Value| {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        text("/kind") == "Secret" && matches!(text("/metadata/name"), OWN_CA | PLUGGED_CA)
    };
    let name = |object: &Value| object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(Facts {
        injected: injected(cluster).await?,
        cas: content.iter().flatten().filter(is_ca).map(name).collect(),
        foreign,
        needed_for: needed_for(shared),
    })
}

/// The lock, or a service of the file, in Istio's own namespace.
fn needed_for(shared: &Shared) -> Option<String> {
    let pipeline = &shared.pipeline;
    if pipeline.lock.as_ref().is_some_and(|lock| lock.namespace == SYSTEM) {
        return Some("the lock of this file".to_owned());
    }
    let is_there = |namespace: &ServiceNamespace| namespace.name() == SYSTEM;
    let service = pipeline.services.iter().find(|service| service.namespaces.iter().any(is_there))?;
    Some(format!("the service {}", service.name))
}

/// The pods that run with a sidecar, outside Istio's own namespace.
async fn injected(cluster: &Cluster) -> Result<Vec<String>> {
    let pods: Vec<Pod> = cluster.list("", "").await?;
    let with_sidecar = pods.into_iter().filter(|pod| {
        let Some(spec) = &pod.spec else { return false };
        let ended = pod.status.as_ref().and_then(|s| s.phase.as_deref()).is_some_and(|phase| matches!(phase, "Succeeded" | "Failed"));
        let proxied = spec.containers.iter().chain(spec.init_containers.iter().flatten()).any(|c| c.name == PROXY);
        proxied && !ended && pod.metadata.deletion_timestamp.is_none() && pod.metadata.namespace.as_deref() != Some(SYSTEM)
    });
    Ok(with_sidecar.map(|pod| format!("{}/{}", pod.metadata.namespace.unwrap_or_default(), pod.metadata.name.unwrap_or_default())).collect())
}

/// Names what is left on purpose, with the command that removes each.
pub(super) async fn stays(work: &Work<'_>, case: Case) -> Result<Done> {
    let (cluster, pipeline) = (&work.cluster, &work.ctx.shared.pipeline);
    let mut lines = Vec::new();
    let mut services = Vec::new();
    for service in &pipeline.services {
        for namespace in service.namespaces.iter().map(ServiceNamespace::name) {
            if cluster.get_object("v1", "Service", namespace, &service.name).await?.is_some() {
                services.push(format!("{namespace}/{}", service.name));
                lines.push(match service.chart {
                    Some(_) => format!("service {} in {namespace}: `helm uninstall {} -n {namespace}`", service.name, service.name),
                    None => format!(
                        "service {} in {namespace}: `kubectl delete -n {namespace} -f {}`",
                        service.name,
                        service.manifests.as_deref().unwrap_or("FILE")
                    ),
                });
            }
        }
    }
    if let Some(mesh) = &pipeline.mesh {
        for namespace in &mesh.inject {
            let live = cluster.get::<Namespace>("", namespace.name()).await?;
            if live.is_some() && namespace.create() {
                lines.push(format!("namespace {}, with what others may have in it: `kubectl delete namespace {0}`", namespace.name()));
            }
            if live.is_some_and(|n| n.metadata.labels.unwrap_or_default().contains_key("istio-injection")) {
                let name = namespace.name();
                lines.push(format!("label istio-injection of namespace {name}: `kubectl label namespace {name} istio-injection-`"));
            }
        }
        let roots = look::list(cluster, "v1", "ConfigMap", "", "istio.io/config=true").await?;
        let home = |o: &Value| o.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut homes: Vec<String> = roots.iter().map(home).filter(|home| home != SYSTEM).collect();
        homes.dedup();
        if !homes.is_empty() {
            lines.push(format!(
                "istiod's ConfigMaps (istio-ca-root-cert) in {}; pods with a sidecar mount them: `kubectl delete configmap -A -l istio.io/config=true`",
                homes.join(", ")
            ));
        }
    }
    if let Some(lock) = &pipeline.lock {
        lines.push(format!("the lock: `kubectl -n {} delete lease meshstep-{}`", lock.namespace, pipeline.name));
    }
    if lines.is_empty() {
        return Ok(Done::unchanged((), "nothing"));
    }
    case.output(&lines.join("\n"));
    Ok(Done::unchanged(
        (),
        match services.len() {
            0 => format!("{}, none of which serves anything", text::count(lines.len(), "trace")),
            n => format!("{} of the file, which the runbook does not remove: {}", text::count(n, "service"), namespace::listed(&services)),
        },
    ))
}
