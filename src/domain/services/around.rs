//! Facts of the cluster that a verdict needs only in some states: autoscalers, istiod, young nodes, makers of missing Secrets.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use k8s_openapi::jiff::Timestamp;
use kube::api::DynamicObject;
use serde_json::Value;

use crate::base::fault::Result;
use crate::clients::kube::Cluster;
use crate::domain::services::preflight::makers::Made;
use crate::domain::services::rollout::Questions;
use crate::domain::services::rollout::seen::{Around, Maker};

/// A node this young may still be waiting for its registry credentials.
const YOUNG: Duration = Duration::from_secs(120);

/// What makes Secrets and ConfigMaps: API version, kind, and where it says the name it makes.
const MAKERS: [(&str, &str, &[&str]); 5] = [
    ("external-secrets.io/v1", "ExternalSecret", &["/spec/target/name", "/metadata/name"]),
    ("external-secrets.io/v1beta1", "ExternalSecret", &["/spec/target/name", "/metadata/name"]),
    ("bitnami.com/v1alpha1", "SealedSecret", &["/spec/template/metadata/name", "/metadata/name"]),
    ("cert-manager.io/v1", "Certificate", &["/spec/secretName"]),
    ("secrets-store.csi.x-k8s.io/v1", "SecretProviderClass", &[]),
];

/// Asks each question once; what may change is asked again after [`Answers::forget_what_changes`].
#[derive(Debug, Default)]
pub struct Answers {
    made: Arc<Made>,
    around: Around,
    autoscaler: bool,
    istiod: bool,
    makers: BTreeSet<String>,
    nodes: BTreeSet<String>,
}

impl Answers {
    /// `made`: what the apply makes.
    pub fn new(made: Arc<Made>) -> Self {
        Self { made, ..Self::default() }
    }

    pub fn around(&self) -> &Around {
        &self.around
    }

    /// Makers cost a call per kind, so they are asked again less often, and so is what could not be read; `tick` counts from 1.
    pub fn forget_what_changes(&mut self, tick: u64) {
        self.istiod = false;
        if tick.is_multiple_of(6) {
            self.makers.clear();
            self.autoscaler = self.around.autoscaler.is_some();
        }
    }

    /// What cannot be read stays unknown, which makes the verdict more patient.
    pub async fn answer(&mut self, cluster: &Cluster, namespace: &str, questions: &Questions) {
        if questions.autoscaler && !self.autoscaler {
            self.autoscaler = true;
            self.around.autoscaler = has_autoscaler(cluster).await.ok();
        }
        if questions.istiod && !self.istiod {
            self.istiod = true;
            if let Ok(known) = istiod_available(cluster).await {
                self.around.istiod_available = known;
            }
        }
        let asked: BTreeSet<String> = questions.nodes.difference(&self.nodes).cloned().collect();
        if !asked.is_empty() {
            let old = old_nodes(cluster).await.unwrap_or_default();
            self.around.young_nodes.extend(asked.difference(&old).cloned());
            self.nodes.extend(asked);
        }
        for name in &questions.missing {
            if self.makers.insert(name.clone()) {
                let known = maker(cluster, namespace, name).await;
                let maker = match (known, self.made.maker(name)) {
                    (Ok(Some(maker)), _) => Maker::Is(maker),
                    (_, Some(title)) => Maker::Unknown(format!("{title}, which was applied with it, may")),
                    (Ok(None), None) => Maker::Nobody,
                    (Err(fault), None) => Maker::Unknown(fault.message),
                };
                self.around.makers.insert(name.clone(), maker);
            }
        }
    }
}

/// # Errors
/// None was found, and not everything could be looked at.
pub async fn has_autoscaler(cluster: &Cluster) -> Result<bool> {
    // It is in whichever namespace the autoscaler runs.
    let mut found = vec![cluster.is_anywhere::<ConfigMap>("cluster-autoscaler-status").await];
    for version in ["karpenter.sh/v1", "karpenter.sh/v1beta1"] {
        // Auto Mode brings Karpenter's NodePools too.
        found.push(cluster.list_objects(version, "NodePool", "", "").await.map(|pools| !pools.is_empty()));
    }
    if found.iter().any(|found| matches!(found, Ok(true))) { Ok(true) } else { found.into_iter().collect::<Result<Vec<_>>>().map(|_| false) }
}

/// `None`: there is no istiod, so nobody need wait for it. It is looked for where it usually is before it is elsewhere.
async fn istiod_available(cluster: &Cluster) -> Result<Option<bool>> {
    for namespace in ["istio-system", ""] {
        let planes: Vec<Deployment> = cluster.list(namespace, "app=istiod").await?;
        if !planes.is_empty() {
            return Ok(Some(planes.iter().any(|d| d.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0) > 0)));
        }
    }
    Ok(None)
}

async fn old_nodes(cluster: &Cluster) -> Result<BTreeSet<String>> {
    let is_old = |node: &Node| {
        let created = node.metadata.creation_timestamp.as_ref();
        created.is_none_or(|at| Duration::try_from(Timestamp::now().duration_since(at.0)).is_ok_and(|age| age >= YOUNG))
    };
    let nodes: Vec<Node> = cluster.list("", "").await?;
    Ok(nodes.into_iter().filter(is_old).filter_map(|node| node.metadata.name).collect())
}

/// What makes a Secret or ConfigMap of this name, with its condition in words.
///
/// # Errors
/// Nothing was found, and not everything could be looked at.
pub async fn maker(cluster: &Cluster, namespace: &str, name: &str) -> Result<Option<String>> {
    let mut unseen = None;
    for (version, kind, pointers) in MAKERS {
        let objects = match cluster.list_objects(version, kind, namespace, "").await {
            Ok(objects) => objects,
            Err(fault) => {
                unseen.get_or_insert(fault);
                continue;
            }
        };
        for object in objects {
            let value = serde_json::to_value(&object).unwrap_or_default();
            if targets(pointers, &value).iter().any(|target| target == name) {
                return Ok(Some(described(kind, &object, &value)));
            }
        }
    }
    unseen.map_or(Ok(None), Err)
}

/// The names that an object of a maker's kind makes; `None`: it is no maker.
pub fn target_of_maker(kind: &str, value: &Value) -> Option<Vec<String>> {
    MAKERS.iter().find(|(_, maker, _)| *maker == kind).map(|(.., pointers)| targets(pointers, value))
}

fn targets(pointers: &[&str], value: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    if pointers.is_empty() {
        let objects = value.pointer("/spec/secretObjects").and_then(Value::as_array);
        return objects.into_iter().flatten().filter_map(|o| text(o.get("secretName")?)).collect();
    }
    pointers.iter().find_map(|pointer| value.pointer(pointer)).and_then(text).into_iter().collect()
}

/// `ExternalSecret db (Ready False: SecretSyncedError: could not get provider client)`
fn described(kind: &str, object: &DynamicObject, value: &Value) -> String {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let conditions = value.pointer("/status/conditions").and_then(Value::as_array);
    let text = |condition: &Value, key: &str| condition.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let ready = conditions.into_iter().flatten().find(|c| matches!(text(c, "type").as_str(), "Ready" | "Synced"));
    match ready {
        Some(c) => format!("{kind} {name} ({} {}: {}: {})", text(c, "type"), text(c, "status"), text(c, "reason"), text(c, "message")),
        None => format!("{kind} {name}"),
    }
}
