//! Asks the API server and looks around, everything at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Node, PersistentVolumeClaim, Secret, ServiceAccount};
use k8s_openapi::api::networking::v1::IngressClass;
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::text;
use crate::clients::kube::Cluster;
use crate::domain::services::around;
use crate::domain::services::manifests::Manifest;
use crate::domain::services::preflight::facts::{Fact, Facts, Found};
use crate::domain::services::preflight::fits::{self, Offer};
use crate::domain::services::preflight::makers::{After, Made};
use crate::domain::services::preflight::references::{self, Needed, Reference};
use crate::domain::services::preflight::said::{Answer, Said};
use crate::domain::services::preflight::{Apply, earlier};
use crate::domain::services::rollout::convert::{Object, Revisions};
use crate::domain::services::rollout::seen::{Kind, Strategy};

/// Questions under way at once.
const AT_ONCE: usize = 12;
/// A question that takes longer, because a webhook hangs, is given up: the apply itself is more patient.
const PATIENCE: Duration = Duration::from_secs(5);

/// The nodes of a cluster, listed once for all applies of a run. `Err`: why they could not be.
#[derive(Debug, Default)]
pub struct Nodes(OnceCell<std::result::Result<Vec<Offer>, String>>);

impl Nodes {
    async fn offers(&self, cluster: &Cluster) -> &std::result::Result<Vec<Offer>, String> {
        let list = || async {
            match timeout(PATIENCE, cluster.list::<Node>("", "")).await {
                Ok(Ok(nodes)) => Ok(nodes.iter().map(Offer::of).collect()),
                Ok(Err(fault)) => Err(fault.message),
                Err(_) => Err(late("listing nodes").message),
            }
        };
        self.0.get_or_init(list).await
    }
}

/// Looks at everything of an apply at once. `earlier`: what the same run applies before it.
pub async fn look(cluster: &Cluster, nodes: &Nodes, apply: &Apply<'_>, earlier: &[Apply<'_>]) -> Facts {
    let made = Made::by(apply, earlier);
    let mut facts = Facts { namespace: apply.namespace.to_owned(), objects: apply.manifests.len(), ..Facts::default() };
    let tried = all(apply.manifests.iter().map(|manifest| try_object(cluster, apply, manifest).boxed()).collect()).await;
    let mut starting = Vec::new();
    for (manifest, tried) in apply.manifests.iter().zip(tried) {
        let starts = starts_pods(manifest, &tried, apply.running);
        if let Some(fault) = &tried.fault
            && !(fault.code == Code::NeedsEarlier && (apply.dry_run || made.defines(manifest.kind())))
        {
            let answer = Answer { made: made.names_in(&fault.message), ..Answer::new(fault, manifest.kind() == "Pod") };
            facts.seen.push(refused(cluster, apply, manifest, answer, earlier).await);
        }
        if starts {
            starting.push((manifest, tried));
        }
    }
    let pods = try_pods(cluster, apply, &starting, &made).await;
    for ((manifest, tried), pod) in starting.iter().zip(&pods) {
        let Some(Err(fault)) = pod else { continue };
        let room = tried.makes_room(manifest, apply).then(|| "an older pod".to_owned());
        let answer = Answer { of_pod: true, made: made.names_in(&fault.message), room, ..Answer::new(fault, true) };
        facts.seen.push(refused(cluster, apply, manifest, answer, earlier).await);
    }
    facts.pods = pods.iter().filter(|pod| matches!(pod, Some(Ok(_)))).count();
    let manifests: Vec<&Manifest> = starting.iter().map(|(manifest, _)| *manifest).collect();
    facts.seen.extend(references_there(cluster, apply, &manifests, &made).await);
    facts.seen.extend(classes_there(cluster, apply.manifests, &made).await);
    let specs: Vec<(&Manifest, Value)> = starting
        .iter()
        .zip(&pods)
        .filter(|((manifest, _), _)| manifest.kind() != "DaemonSet")
        .filter_map(|((manifest, _), pod)| {
            let tried = pod.as_ref().and_then(|pod| pod.as_ref().ok()).and_then(|pod| pod.get("spec"));
            Some((*manifest, tried.or_else(|| manifest.pod_spec())?.clone()))
        })
        .collect();
    facts.seen.extend(fit_somewhere(cluster, nodes, &specs).await);
    facts
}

/// A dry run that was not taken, with what the earlier applies may change about that.
async fn refused(cluster: &Cluster, apply: &Apply<'_>, manifest: &Manifest, mut answer: Answer, earlier: &[Apply<'_>]) -> Fact {
    if let Said::Refused(code) = answer.meaning() {
        let home = apply.home(manifest);
        if code == Code::QuotaExceeded {
            answer.room = earlier::room(cluster, home, earlier).await;
        } else {
            answer.rules = earlier::rules(home, earlier);
        }
    }
    Fact::Answer { of: manifest.title(), place: manifest.place_of(manifest.name()), answer }
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
        if apply.leaving().next().is_some() {
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
    let home = apply.home(manifest);
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
        let (home, pod) = (apply.home(manifest).to_owned(), pod_of(manifest, made).filter(|_| manifest.kind() != "Pod"));
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

/// The object at a reference's name, with its keys; `None`: there is none. `Err`: why it is not known.
type Looked = std::result::Result<Option<BTreeSet<String>>, String>;

async fn references_there(cluster: &Cluster, apply: &Apply<'_>, starting: &[&Manifest], made: &Made) -> Vec<Fact> {
    let mut wanted: Vec<(&Manifest, Reference)> = Vec::new();
    for manifest in starting {
        wanted.extend(manifest.pod_spec().into_iter().flat_map(references::of_pod).map(|reference| (*manifest, reference)));
    }
    let at = |manifest, reference: &Reference| (apply.home(manifest).to_owned(), reference.kind, reference.name.clone());
    let places: BTreeSet<(String, Needed, String)> = wanted.iter().map(|(manifest, reference)| at(manifest, reference)).collect();
    let look = |(home, kind, name): (String, Needed, String)| async move {
        let found = timeout(PATIENCE, find(cluster, &home, kind, &name)).await.unwrap_or_else(|_| Err(late("looking for it").message));
        ((home, kind, name), found)
    };
    let looked: BTreeMap<(String, Needed, String), Looked> =
        all(places.into_iter().map(|place| look(place).boxed()).collect()).await.into_iter().collect();
    let mut facts = Vec::new();
    for (manifest, reference) in wanted {
        let key = reference.key.as_ref();
        let found = match &looked[&at(manifest, &reference)] {
            Ok(Some(keys)) if key.is_none_or(|key| keys.contains(key)) => Found::There,
            Ok(Some(_)) => Found::WithoutKey,
            Ok(None) => Found::Missing,
            Err(why) => Found::Unknown(why.clone()),
        };
        let after = match (&found, made.after(&reference)) {
            (Found::Missing | Found::WithoutKey, After::No) => match maker(cluster, apply.home(manifest), reference.kind, &reference.name).await {
                Ok(maker) => maker.map_or(After::No, After::Maybe),
                Err(fault) => After::Unknown(fault.message),
            },
            (_, after) => after,
        };
        let place = manifest.place_of(key.unwrap_or(&reference.name));
        let place = if place == manifest.place { manifest.place_of(&reference.name) } else { place };
        facts.push(Fact::Reference { of: manifest.title(), place, reference, found, after });
    }
    facts
}

async fn maker(cluster: &Cluster, namespace: &str, kind: Needed, name: &str) -> Result<Option<String>> {
    if !matches!(kind, Needed::Secret | Needed::ConfigMap) {
        return Ok(None);
    }
    timeout(PATIENCE, around::maker(cluster, namespace, name)).await.unwrap_or_else(|_| Err(late("looking for what makes it")))
}

async fn find(cluster: &Cluster, namespace: &str, kind: Needed, name: &str) -> Looked {
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
    keys.map_err(|fault| fault.message)
}

async fn classes_there(cluster: &Cluster, manifests: &[Manifest], made: &Made) -> Vec<Fact> {
    let mut facts = Vec::new();
    for manifest in manifests.iter().filter(|m| m.kind() == "Ingress") {
        let Some(class) = manifest.value.pointer("/spec/ingressClassName").and_then(Value::as_str) else { continue };
        let found = if made.may_have("IngressClass", class) {
            Found::There
        } else {
            match timeout(PATIENCE, cluster.get::<IngressClass>("", class)).await {
                Ok(Ok(found)) => found.map_or(Found::Missing, |_| Found::There),
                Ok(Err(fault)) => Found::Unknown(fault.message),
                Err(_) => Found::Unknown(late("looking for it").message),
            }
        };
        let place = manifest.place_of("ingressClassName");
        facts.push(Fact::IngressClass { of: manifest.title(), place, class: class.to_owned(), found });
    }
    facts
}

async fn fit_somewhere(cluster: &Cluster, nodes: &Nodes, specs: &[(&Manifest, Value)]) -> Vec<Fact> {
    if specs.is_empty() {
        return Vec::new();
    }
    let nodes = match nodes.offers(cluster).await {
        Ok(nodes) => nodes,
        Err(why) => return vec![Fact::Unseen { why: format!("whether a node is large enough was not looked at: {why}") }],
    };
    let mut facts = Vec::new();
    for (manifest, spec) in specs {
        let spec = fits::decisive(spec);
        let nodes = fits::alike(&spec, nodes);
        let autoscaler = match fits::misfit(&spec, &nodes) {
            Some(_) => Some(around::has_autoscaler(cluster).await.map_err(|fault| fault.message)),
            None => None,
        };
        let (selector, requests) = (manifest.place_of("nodeSelector"), manifest.place_of("requests"));
        facts.push(Fact::Room { of: manifest.title(), selector, requests, spec, nodes, autoscaler });
    }
    facts
}

#[cfg(test)]
mod tests;
