//! Before an apply: would it fail? The API server is asked by dry runs, and what the pods refer to is looked up; nothing is touched.
//!
//! Only what no waiting could mend is a finding. What another controller may still make, what an autoscaler may still bring, and what
//! this identity may not look at is told and excuses nothing.

pub mod fits;
pub mod makers;
pub mod references;
pub mod said;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Node, PersistentVolumeClaim, Secret, ServiceAccount};
use k8s_openapi::api::networking::v1::IngressClass;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::place::Place;
use crate::base::text;
use crate::clients::kube::Cluster;
use crate::domain::services::around;
use crate::domain::services::manifests::Manifest;
use crate::domain::services::preflight::fits::Offer;
use crate::domain::services::preflight::makers::{After, Made};
use crate::domain::services::preflight::references::{Needed, Reference};
use crate::domain::services::preflight::said::Said;
use crate::domain::services::rollout::convert::{Object, Revisions};
use crate::domain::services::rollout::seen::{Kind, Strategy};

/// Questions under way at once.
const AT_ONCE: usize = 12;
/// A question that takes longer, because a webhook hangs, is given up: the apply itself is more patient.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is about to be applied.
pub struct Apply<'a> {
    pub namespace: &'a str,
    pub manifests: &'a [Manifest],
    /// What helm runs before and after the rest.
    pub hooks: &'a [Manifest],
    /// Of a chart: the objects of the running revision. Helm changes objects in its own way, so those that exist are not tried.
    pub running: Option<&'a [Manifest]>,
    /// An earlier stage of a dry run would have made what is missing: kinds, above all.
    pub dry_run: bool,
}

/// Something that would make the apply or its rollout fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub code: Code,
    pub place: Place,
    pub words: String,
}

impl Finding {
    fn next(&self) -> &'static str {
        match self.code {
            Code::PodsRefused if self.words.contains("needs ServiceAccount") => "create the ServiceAccount, or correct `serviceAccountName`",
            Code::VolumeFailing => "create the claim, or correct `claimName`",
            Code::NoController => "correct `ingressClassName`, or install the controller of that class",
            Code::PodsRefused | Code::ApplyRefused => "correct what the API server's words above name",
            code => code.info().next,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub findings: Vec<Finding>,
    /// What a person should know all the same.
    pub warnings: Vec<String>,
    /// What could not be looked at, and why that is no finding.
    pub notes: Vec<String>,
    pub objects: usize,
    pub pods: usize,
    pub references: usize,
}

impl Report {
    fn find(&mut self, code: Code, place: Place, words: String) {
        self.findings.push(Finding { code, place, words });
    }

    /// `3 objects, 1 pod and 4 references`
    pub fn looked_at(&self) -> String {
        format!("{}, {} and {}", text::count(self.objects, "object"), text::count(self.pods, "pod"), text::count(self.references, "reference"))
    }

    /// All findings as one fault, which is the first one's.
    pub fn fault(&self) -> Option<Fault> {
        let first = self.findings.first()?;
        let more = if self.findings.len() > 1 { format!(" (and {} more)", self.findings.len() - 1) } else { String::new() };
        let lines: Vec<String> = self.findings.iter().map(|f| format!("{}: {}: {}", f.place, f.code, f.words)).collect();
        let mut fault = Fault::new(first.code, format!("it would fail: {}{more}", first.words)).at(Some(&first.place));
        if self.findings.len() > 1 {
            fault = fault.evidence("all that would fail", lines.join("\n"));
        }
        let steps: BTreeSet<&str> = self.findings.iter().map(Finding::next).collect();
        for step in steps {
            fault = fault.next(step);
        }
        Some(fault.next("nothing was touched; `--no-preflight` deploys it all the same"))
    }
}

/// Looks at everything at once.
pub async fn look(cluster: &Cluster, apply: &Apply<'_>) -> Report {
    let made = Made::by(apply.manifests, apply.hooks);
    let mut report = Report::default();
    let tried = all(apply.manifests.iter().map(|manifest| try_object(cluster, apply, manifest).boxed()).collect()).await;
    let mut starting = Vec::new();
    for (manifest, tried) in apply.manifests.iter().zip(tried) {
        report.objects += 1;
        let starts = starts_pods(manifest, &tried, apply.running);
        if let Some(fault) = &tried.fault
            && !(fault.code == Code::NeedsEarlier && (apply.dry_run || made.defines(manifest.kind())))
        {
            match said::meaning(fault, manifest.kind() == "Pod", false, &made) {
                Said::Refused(code) => {
                    report.find(code, manifest.place_of(manifest.name()), format!("{}: {}", manifest.title(), without_doing(fault)))
                }
                Said::Nothing(why) => report.notes.push(format!("{}: {why}", manifest.title())),
            }
        }
        if starts {
            starting.push((manifest, tried));
        }
    }
    let pods = try_pods(cluster, apply, &starting, &made).await;
    for ((manifest, tried), pod) in starting.iter().zip(&pods) {
        let Some(Err(fault)) = pod else { continue };
        match said::meaning(fault, true, tried.makes_room(manifest, apply), &made) {
            Said::Refused(code) => report.find(code, manifest.place_of(manifest.name()), format!("{}: {}", manifest.title(), without_doing(fault))),
            Said::Nothing(why) => report.notes.push(format!("a pod of {}: {why}", manifest.title())),
        }
    }
    report.pods = pods.iter().filter(|pod| matches!(pod, Some(Ok(_)))).count();
    let manifests: Vec<&Manifest> = starting.iter().map(|(manifest, _)| *manifest).collect();
    references_there(cluster, apply.namespace, &manifests, &made, &mut report).await;
    classes_there(cluster, apply.manifests, &made, &mut report).await;
    let specs: Vec<(&Manifest, Value)> = starting
        .iter()
        .zip(&pods)
        .filter(|((manifest, _), _)| manifest.kind() != "DaemonSet")
        .filter_map(|((manifest, _), pod)| {
            let tried = pod.as_ref().and_then(|pod| pod.as_ref().ok()).and_then(|pod| pod.get("spec"));
            Some((*manifest, tried.or_else(|| manifest.pod_spec())?.clone()))
        })
        .collect();
    fit_somewhere(cluster, &specs, &mut report).await;
    report
}

/// How an object took its dry run.
#[derive(Default)]
struct Tried {
    before: Option<Value>,
    after: Option<Value>,
    fault: Option<Fault>,
}

impl Tried {
    /// Do older pods of this workload, or other workloads, leave before the new pods need their room?
    fn makes_room(&self, manifest: &Manifest, apply: &Apply<'_>) -> bool {
        let replaced = |running: &Manifest| Kind::parse(running.kind()).is_some() && !apply.manifests.iter().any(|m| m.title() == running.title());
        if apply.running.is_some_and(|running| running.iter().any(replaced)) {
            return true;
        }
        let Some(before) = &self.before else { return false };
        if manifest.kind() != "Deployment" {
            return true;
        }
        let wanted = self.after.as_ref().unwrap_or(&manifest.value);
        let live = serde_json::from_value::<Deployment>(before.clone());
        let strategy = |deployment: Deployment| Object::Deployment(Box::new(deployment)).workload(&Revisions::default());
        let (Ok(live), Ok(new)) = (live.map(strategy), serde_json::from_value::<Deployment>(wanted.clone()).map(strategy)) else { return true };
        live.available < live.wanted
            || match new.strategy {
                Strategy::Rolling { max_unavailable } => max_unavailable > 0,
                _ => true,
            }
    }
}

async fn try_object(cluster: &Cluster, apply: &Apply<'_>, manifest: &Manifest) -> Tried {
    let home = if manifest.namespace().is_empty() { apply.namespace } else { manifest.namespace() };
    let is_workload = Kind::parse(manifest.kind()).is_some();
    let asked = timeout(PATIENCE, async {
        let mut tried = Tried::default();
        if is_workload || apply.running.is_some() {
            match cluster.get_object(manifest.api_version(), manifest.kind(), home, manifest.name()).await {
                Ok(before) => tried.before = before.and_then(|object| serde_json::to_value(object).ok()),
                Err(fault) => return Tried { fault: Some(fault), ..tried },
            }
        }
        if apply.running.is_some() && tried.before.is_some() {
            return tried;
        }
        match cluster.apply(&manifest.value, apply.namespace, true).await {
            Ok((after, _)) => tried.after = serde_json::to_value(after).ok(),
            Err(fault) => tried.fault = Some(fault),
        }
        tried
    });
    asked.await.unwrap_or_else(|_| Tried { fault: Some(late("its dry run")), ..Tried::default() })
}

fn late(what: &str) -> Fault {
    Fault::new(Code::ApiUnreachable, format!("{what} took longer than {}", text::seconds(PATIENCE)))
}

/// Will new pods come? Not for what is scaled to nothing, paused, or has the same template as before.
fn starts_pods(manifest: &Manifest, tried: &Tried, running: Option<&[Manifest]>) -> bool {
    let (Some(kind), Some(_)) = (Kind::parse(manifest.kind()), manifest.pod_spec()) else { return false };
    let at = |pointer: &str| manifest.value.pointer(pointer);
    let is_true = |pointer: &str| at(pointer).and_then(Value::as_bool).unwrap_or(false);
    if at("/spec/replicas").and_then(Value::as_i64) == Some(0) || is_true("/spec/paused") || is_true("/spec/suspend") {
        return false;
    }
    if kind == Kind::Pod {
        return tried.before.is_none();
    }
    let template = |value: &Value| value.pointer("/spec/template").cloned();
    match (running, &tried.before, &tried.after) {
        (Some(running), Some(_), _) => {
            let same = running.iter().find(|other| other.title() == manifest.title()).and_then(|other| template(&other.value));
            same != template(&manifest.value)
        }
        (None, Some(before), Some(after)) => template(before) != template(after),
        _ => true,
    }
}

/// One pod of each workload as its controller would make it; a bare pod was tried as an object.
async fn try_pods(cluster: &Cluster, apply: &Apply<'_>, starting: &[(&Manifest, Tried)], made: &Made) -> Vec<Option<Result<Value>>> {
    let one = |manifest: &'_ Manifest| {
        let home = if manifest.namespace().is_empty() { apply.namespace } else { manifest.namespace() };
        let (home, pod) = (home.to_owned(), pod_of(manifest, made).filter(|_| manifest.kind() != "Pod"));
        async move {
            let pod = pod?;
            Some(timeout(PATIENCE, cluster.try_pod(&home, &pod)).await.unwrap_or_else(|_| Err(late("the dry run"))))
        }
    };
    all(starting.iter().map(|(manifest, _)| one(manifest).boxed()).collect()).await
}

/// Side by side, a few at a time; the answers in order.
async fn all<T: Send>(work: Vec<BoxFuture<'_, T>>) -> Vec<T> {
    futures::stream::iter(work).buffered(AT_ONCE).collect().await
}

/// A pod as the workload's controller makes it. What a missing ServiceAccount breaks is told as that, once.
fn pod_of(manifest: &Manifest, made: &Made) -> Option<Value> {
    let template = manifest.value.pointer("/spec/template")?;
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": template.get("metadata").filter(|m| m.is_object()).unwrap_or(&json!({})), "spec": template.get("spec")?});
    let metadata = pod.get_mut("metadata")?.as_object_mut()?;
    for key in ["name", "namespace", "creationTimestamp"] {
        metadata.remove(key);
    }
    metadata.insert("generateName".to_owned(), format!("{}-", text::head(manifest.name(), 50)).into());
    let (group, owner) = match manifest.kind() {
        "Deployment" => ("apps/v1", "ReplicaSet"),
        kind => (manifest.api_version(), kind),
    };
    // Policies let controllers make pods that they refuse to people.
    let owner =
        json!([{"apiVersion": group, "kind": owner, "name": manifest.name(), "uid": "00000000-0000-0000-0000-000000000000", "controller": true}]);
    metadata.insert("ownerReferences".to_owned(), owner);
    let spec = pod.get_mut("spec")?.as_object_mut()?;
    spec.remove("serviceAccount");
    spec.remove("serviceAccountName");
    if spec.get("priorityClassName").and_then(Value::as_str).is_some_and(|class| made.has("PriorityClass", class)) {
        spec.remove("priorityClassName");
    }
    let claims = manifest.value.pointer("/spec/volumeClaimTemplates").and_then(Value::as_array);
    let names: Vec<&str> = claims.into_iter().flatten().filter_map(|claim| claim.pointer("/metadata/name")?.as_str()).collect();
    if !names.is_empty() {
        let volumes = spec.entry("volumes").or_insert_with(|| json!([]));
        let of_claim = |name: &&str| json!({"name": name, "persistentVolumeClaim": {"claimName": format!("{name}-{}-0", manifest.name())}});
        if let Some(volumes) = volumes.as_array_mut() {
            volumes.retain(|volume| !volume.get("name").and_then(Value::as_str).is_some_and(|name| names.contains(&name)));
            volumes.extend(names.iter().map(of_claim));
        }
    }
    if manifest.kind() == "Job" {
        spec.entry("restartPolicy").or_insert_with(|| "Never".into());
    }
    Some(pod)
}

/// What was found at a reference's name.
enum Found {
    /// With its keys.
    There(BTreeSet<String>),
    Missing,
    Unknown(String),
}

async fn references_there(cluster: &Cluster, namespace: &str, starting: &[&Manifest], made: &Made, report: &mut Report) {
    let mut wanted: Vec<(&Manifest, Reference)> = Vec::new();
    for manifest in starting {
        wanted.extend(manifest.pod_spec().into_iter().flat_map(references::of_pod).map(|reference| (*manifest, reference)));
    }
    report.references += wanted.len();
    let names: BTreeSet<(Needed, String)> = wanted.iter().map(|(_, r)| (r.kind, r.name.clone())).collect();
    let look = |(kind, name): (Needed, String)| async move {
        let found = timeout(PATIENCE, find(cluster, namespace, kind, &name)).await.unwrap_or_else(|_| Found::Unknown(late("looking for it").message));
        ((kind, name), found)
    };
    let found: BTreeMap<(Needed, String), Found> = all(names.into_iter().map(|name| look(name).boxed()).collect()).await.into_iter().collect();
    let mut told = BTreeSet::new();
    for (manifest, reference) in wanted {
        let Reference { kind, name, key, by, only_told } = &reference;
        let what = key.as_ref().map_or_else(|| format!("{kind} {name}"), |key| format!("key {key} of {kind} {name}"));
        let has_key = |keys: &BTreeSet<String>| key.as_ref().is_none_or(|key| keys.contains(key));
        let without_key = match &found[&(*kind, name.clone())] {
            Found::There(keys) if has_key(keys) => continue,
            Found::There(_) => true,
            Found::Missing => false,
            Found::Unknown(why) => {
                if told.insert(why.clone()) {
                    report.notes.push(format!("{kind} {name} was not looked for: {why}"));
                }
                continue;
            }
        };
        let after = match made.after(&reference) {
            After::No => match maker(cluster, namespace, *kind, name).await {
                Ok(Some(maker)) => After::Maybe(maker),
                Ok(None) => After::No,
                Err(fault) => {
                    report.notes.push(format!(
                        "{}: {by} needs {what}, which is not there; whether something makes it is not known: {}",
                        manifest.title(),
                        fault.message
                    ));
                    continue;
                }
            },
            after => after,
        };
        let line = format!("{}: {by} needs {what}", manifest.title());
        match after {
            After::Yes => {}
            After::Maybe(maker) => report.notes.push(format!("{line}, which {maker} may still make")),
            After::No if *only_told => report.warnings.push(format!("{}: {by} names {what}, which is not in {namespace}", manifest.title())),
            After::No | After::WithoutKey => {
                let code = if *kind == Needed::Claim { Code::VolumeFailing } else { Code::ConfigMissing };
                let code = if *kind == Needed::ServiceAccount { Code::PodsRefused } else { code };
                let tail = if without_key || after == After::WithoutKey { "which has no such key" } else { "which is not there" };
                let place = manifest.place_of(key.as_deref().unwrap_or(name));
                let place = if place == manifest.place { manifest.place_of(name) } else { place };
                report.find(code, place, format!("{line}, {tail} in {namespace}"));
            }
        }
    }
}

async fn maker(cluster: &Cluster, namespace: &str, kind: Needed, name: &str) -> Result<Option<String>> {
    if !matches!(kind, Needed::Secret | Needed::ConfigMap) {
        return Ok(None);
    }
    timeout(PATIENCE, around::maker(cluster, namespace, name)).await.unwrap_or_else(|_| Err(late("looking for what makes it")))
}

async fn find(cluster: &Cluster, namespace: &str, kind: Needed, name: &str) -> Found {
    let keys = match kind {
        Needed::Secret => cluster.get::<Secret>(namespace, name).await.map(|s| s.map(|s| s.data.into_iter().flatten().map(|(key, _)| key).collect())),
        Needed::ConfigMap => cluster.get::<ConfigMap>(namespace, name).await.map(|map| {
            map.map(|map| {
                let binary = map.binary_data.into_iter().flatten().map(|(key, _)| key);
                map.data.into_iter().flatten().map(|(key, _)| key).chain(binary).collect()
            })
        }),
        Needed::ServiceAccount => cluster.get::<ServiceAccount>(namespace, name).await.map(|found| found.map(|_| BTreeSet::new())),
        Needed::Claim => cluster.get::<PersistentVolumeClaim>(namespace, name).await.map(|found| found.map(|_| BTreeSet::new())),
    };
    match keys {
        Ok(Some(keys)) => Found::There(keys),
        Ok(None) => Found::Missing,
        Err(fault) => Found::Unknown(fault.message),
    }
}

async fn classes_there(cluster: &Cluster, manifests: &[Manifest], made: &Made, report: &mut Report) {
    for manifest in manifests.iter().filter(|m| m.kind() == "Ingress") {
        let Some(class) = manifest.value.pointer("/spec/ingressClassName").and_then(Value::as_str) else { continue };
        report.references += 1;
        if made.has("IngressClass", class) {
            continue;
        }
        match timeout(PATIENCE, cluster.get::<IngressClass>("", class)).await {
            Ok(Ok(Some(_))) => {}
            Ok(Ok(None)) => report.find(
                Code::NoController,
                manifest.place_of("ingressClassName"),
                format!("{}: there is no IngressClass {class}, so no controller would take it", manifest.title()),
            ),
            Ok(Err(fault)) => report.notes.push(format!("IngressClass {class} was not looked for: {fault}")),
            Err(_) => report.notes.push(format!("IngressClass {class} was not looked for: {}", late("looking for it"))),
        }
    }
}

async fn fit_somewhere(cluster: &Cluster, specs: &[(&Manifest, Value)], report: &mut Report) {
    if specs.is_empty() {
        return;
    }
    let nodes: Vec<Offer> = match timeout(PATIENCE, cluster.list::<Node>("", "")).await {
        Ok(Ok(nodes)) => nodes.iter().map(Offer::of).collect(),
        Ok(Err(fault)) => return report.notes.push(format!("whether a node is large enough was not looked at: {fault}")),
        Err(_) => return report.notes.push(format!("whether a node is large enough was not looked at: {}", late("listing nodes"))),
    };
    for (manifest, spec) in specs {
        let Some(words) = fits::misfit(spec, &nodes) else { continue };
        let line = format!("{}: {words}", manifest.title());
        match around::has_autoscaler(cluster).await {
            Ok(false) => {
                let at = if words.contains("nodeSelector") { "nodeSelector" } else { "requests" };
                report.find(Code::Unschedulable, manifest.place_of(at), line);
            }
            Ok(true) => report.warnings.push(format!("{line}; the autoscaler must bring a larger one")),
            Err(fault) => report.warnings.push(format!("{line}; whether there is an autoscaler that brings one is not known: {fault}")),
        }
    }
}

/// The API server's words alone: what was tried is not what the person did.
fn without_doing(fault: &Fault) -> String {
    fault.message.split_once(": ").map_or(fault.message.as_str(), |(doing, rest)| if doing.contains(' ') { rest } else { &fault.message }).to_owned()
}

#[cfg(test)]
mod tests;
