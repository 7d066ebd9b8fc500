//! What must be in place before the stages create anything: namespaces, their injection labels, and webhooks that answer.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::told;
use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::mutex::lock;
use crate::base::wait::{self, Patience, Poll};
use crate::clients::kube::Cluster;
use crate::domain::doctor::Verdict;
use crate::domain::doctor::webhooks::{self, Hook, Seen, Wanted};
use crate::domain::mesh::labels::{self, Step};
use crate::domain::mesh::ready::SYSTEM;
use crate::engine::Ctx;
use crate::engine::record::{Case, Done};
use crate::stages::Shared;
use crate::stages::namespaces::{self, Named};

/// A webhook's pods may just be on their way from one node to another.
const PATIENCE: Duration = Duration::from_secs(10);
const ROOT: &str = "istio-ca-root-cert";

/// Labels by namespace, as they are or will be.
type Labels = BTreeMap<String, BTreeMap<String, String>>;

/// Each namespace that the chosen stages need, as a case; returns their labels.
pub(super) async fn namespaces(ctx: &Ctx<Shared>, cluster: &Cluster, stages: &[&str]) -> Labels {
    let shared = &ctx.shared;
    let (mesh, deploy) = (stages.contains(&"mesh"), stages.contains(&"deploy"));
    let mut named = if mesh { namespaces::of_mesh(shared) } else { Vec::new() };
    if deploy {
        for namespace in namespaces::of_services(shared) {
            match named.iter_mut().find(|known| known.name == namespace.name) {
                Some(known) => known.create |= namespace.create,
                None => named.push(namespace),
            }
        }
    }
    let mut all = Labels::new();
    for namespace in &named {
        let case = ctx.record.case(format!("namespace {}", namespace.name)).place(namespace.place);
        let labels = case.run(|case| namespace_ready(shared, cluster, namespace, mesh, case)).await;
        all.insert(namespace.name.to_owned(), labels.unwrap_or_default());
    }
    all
}

async fn namespace_ready(
    shared: &Shared,
    cluster: &Cluster,
    namespace: &Named<'_>,
    mesh: bool,
    case: Case,
) -> Result<Done<BTreeMap<String, String>>> {
    let name = namespace.name;
    let enabled = || BTreeMap::from([(labels::INJECTION.to_owned(), "enabled".to_owned())]);
    let found = match cluster.get::<Namespace>("", name).await {
        Ok(found) => found,
        // The stages' rights are cases of their own.
        Err(fault) if fault.code == Code::Forbidden => return Ok(Done::Skipped("this identity may not read it".to_owned())),
        Err(fault) => return Err(fault),
    };
    let Some(found) = found else {
        if !(namespace.create || namespace.by_mesh && mesh) {
            return Err(namespaces::missing(namespace));
        }
        return Ok(Done::unchanged(if namespace.injected && mesh { enabled() } else { BTreeMap::new() }, "it will be made"));
    };
    if found.metadata.deletion_timestamp.is_some() {
        let fault =
            Fault::new(Code::NamespaceMissing, format!("namespace {name} is being deleted, so nothing can be created in it")).at(namespace.place);
        return Err(
            fault.next(format!("wait until it is gone; `kubectl get namespace {name} -o jsonpath='{{.status.conditions}}'` says what it waits for"))
        );
    }
    let mut now = found.metadata.labels.unwrap_or_default();
    let step = labels::step(name, &now);
    if let Step::Keep { warning: Some(warning) } = &step {
        case.warn(format!("{warning} (`kubectl label namespace {name} istio.io/rev-`)"));
    }
    if !(namespace.injected && mesh) {
        return Ok(Done::unchanged(now, "there"));
    }
    let note = match step {
        Step::Keep { .. } => "there, labelled",
        Step::Label { .. } => "there, it will be labelled",
        Step::Conflict { .. } if shared.options.allow_mesh_change => "there, it will be labelled",
        Step::Conflict { revision } => return Err(labels::conflict(name, &revision).at(namespace.place)),
    };
    now.extend(enabled());
    Ok(Done::unchanged(now, note))
}

/// The webhooks that the API server would ask about what the chosen stages create.
pub(super) async fn webhooks(ctx: &Ctx<Shared>, cluster: &Cluster, stages: &[&str], labels: &Labels) {
    let wanted = wanted(&ctx.shared, stages);
    if wanted.is_empty() {
        return;
    }
    let mesh_comes = stages.contains(&"mesh") && ctx.shared.pipeline.mesh.is_some();
    let (wanted, case) = (&wanted, ctx.record.case("webhooks"));
    case.run(|case| async move {
        let Some(hooks) = hooks(cluster).await? else {
            return Ok(Done::Skipped("this identity may not list webhook configurations".to_owned()));
        };
        let met: Vec<(&Hook, &Wanted)> = hooks.iter().filter_map(|hook| Some((hook, hook.meets(wanted, labels)?))).collect();
        let root = cluster.get::<ConfigMap>(SYSTEM, ROOT).await.ok().flatten().and_then(|map| map.data?.get("root-cert.pem").cloned());
        let last: Mutex<Verdict> = Mutex::default();
        let look = || async {
            let mut seen = Vec::new();
            // Many webhooks share one Service.
            let mut asked: BTreeMap<&(String, String), Option<bool>> = BTreeMap::new();
            for (hook, wanted) in &met {
                let known = match &hook.service {
                    None => None,
                    Some(service) => match asked.get(service) {
                        Some(found) => *found,
                        None => {
                            let found = answers(cluster, service).await?;
                            asked.insert(service, found);
                            found
                        }
                    },
                };
                seen.push(Seen { hook, wanted, answers: known });
            }
            let verdict = webhooks::judge(&seen, root.as_deref(), mesh_comes, Timestamp::now());
            let dead = verdict.faults.iter().find(|fault| fault.code == Code::WebhookUnreachable).map(|fault| fault.message.clone());
            *lock(&last) = verdict;
            Ok(dead.map_or(Poll::Ready(()), Poll::NotYet))
        };
        let waited = wait::until(Patience::new(PATIENCE, Duration::from_secs(2)), |reason| case.progress(reason), wait::never, look).await;
        let verdict = std::mem::take(&mut *lock(&last));
        match waited {
            // What the last look found is more than that the time is up.
            Err(error) if verdict.faults.is_empty() => Err(error.into_fault(|timed_out| Fault::new(Code::WebhookUnreachable, timed_out.to_string()))),
            _ => told(&case, verdict),
        }
    })
    .await;
}

/// What the chosen stages create, one of a kind for each namespace.
fn wanted(shared: &Shared, stages: &[&str]) -> Vec<Wanted> {
    let mut all = Vec::new();
    let mut add = |namespace: &str, what: &[(&'static str, &'static str)]| {
        all.extend(what.iter().map(|(group, resource)| Wanted { group, resource, namespace: namespace.to_owned() }));
    };
    if stages.contains(&"mesh") && shared.pipeline.mesh.is_some() {
        add(SYSTEM, &[("", "services"), ("apps", "deployments"), ("", "pods")]);
    }
    if stages.contains(&"deploy") {
        for namespace in namespaces::of_services(shared) {
            add(namespace.name, &[("", "pods"), ("", "services"), ("apps", "deployments")]);
        }
    }
    if stages.contains(&"releases") {
        for release in &shared.pipeline.releases {
            add(&release.namespace, &[("networking.k8s.io", "ingresses"), ("networking.istio.io", "virtualservices"), ("", "secrets")]);
        }
    }
    all
}

/// `None`: this identity may not look at them.
async fn hooks(cluster: &Cluster) -> Result<Option<Vec<Hook>>> {
    let mutating = cluster.list::<MutatingWebhookConfiguration>("", "").await;
    let validating = cluster.list::<ValidatingWebhookConfiguration>("", "").await;
    let (mutating, validating) = match (mutating, validating) {
        (Err(fault), _) | (_, Err(fault)) if fault.code == Code::Forbidden => return Ok(None),
        (mutating, validating) => (mutating?, validating?),
    };
    let read = |kind: &'static str| move |config: serde_json::Value| Hook::of(kind, &config);
    let mutating = mutating.iter().filter_map(|config| serde_json::to_value(config).ok()).flat_map(read("mutatingwebhookconfiguration"));
    let validating = validating.iter().filter_map(|config| serde_json::to_value(config).ok()).flat_map(read("validatingwebhookconfiguration"));
    Ok(Some(mutating.chain(validating).collect()))
}

/// Has a Service a ready endpoint? `None`: this identity may not look.
async fn answers(cluster: &Cluster, (namespace, service): &(String, String)) -> Result<Option<bool>> {
    let slices: Vec<EndpointSlice> = match cluster.list(namespace, &format!("kubernetes.io/service-name={service}")).await {
        Ok(slices) => slices,
        Err(fault) if fault.code == Code::Forbidden => return Ok(None),
        Err(fault) => return Err(fault),
    };
    let mut endpoints = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
    Ok(Some(endpoints.any(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true))))
}
