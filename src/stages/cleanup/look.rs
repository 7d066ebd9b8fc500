//! Looks before anything is touched: what this file made, what others have in the mesh, and what of AWS belongs to it.

use futures::future::try_join_all;
use serde_json::Value;

use super::AlbIngress;
use crate::base::fault::Result;
use crate::base::text;
use crate::clients::kube::Cluster;
use crate::domain::cleanup::foreign::{COMPONENT, Maker, Ours, maker};
use crate::domain::cleanup::left::Stack;
use crate::domain::cleanup::order::{self, Installed};
use crate::domain::cleanup::title;
use crate::domain::mesh::decide::{Installer, Plane};
use crate::domain::mesh::look;
use crate::domain::mesh::ready::SYSTEM;
use crate::domain::releases::helm::Helm;
use crate::domain::releases::parse::Stored;
use crate::domain::services::manifests::Manifest;
use crate::stages::mesh::Mesh;
use crate::stages::{Shared, mesh, rights};

const NETWORKING: &str = "networking.k8s.io/v1";
const GROUP: &str = "alb.ingress.kubernetes.io/group.name";

/// Kinds that istioctl installs, by apiVersion: its purge looks for its label in them.
const INSTALLED: [(&str, &str); 14] = [
    ("apps/v1", "Deployment"),
    ("apps/v1", "DaemonSet"),
    ("v1", "Service"),
    ("v1", "ConfigMap"),
    ("v1", "ServiceAccount"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("policy/v1", "PodDisruptionBudget"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
];

/// A release of the file.
pub(super) struct Release {
    /// Its place in the file's list.
    pub index: usize,
    pub name: String,
    pub namespace: String,
    pub stored: Option<Stored>,
}

/// What there is.
pub(super) struct Found {
    pub ours: Ours,
    /// In the order in which they go.
    pub releases: Vec<Release>,
    /// How many of them go before the load balancer is looked for: those that have one, and those that are not there.
    pub with_ingress: usize,
    pub ingresses: Vec<AlbIngress>,
    /// The objects of `mesh.gateway` and `mesh.common`, in the order in which they go, and which of them are there.
    pub objects: Vec<(Manifest, bool)>,
    /// What istioctl installed.
    pub istio: Vec<Value>,
    /// What others would lose with the mesh, in words.
    pub foreign: Vec<String>,
    pub namespace: bool,
}

impl Found {
    /// What would be destroyed, a line each.
    pub(super) fn lines(&self) -> Vec<String> {
        let releases = self.releases.iter().filter_map(|r| {
            let stored = r.stored.as_ref()?;
            Some(format!("helm release {} in {}, revision {} ({})", r.name, r.namespace, stored.revision, stored.status))
        });
        let ingresses = self.ingresses.iter().filter(|i| i.is_there).map(|i| {
            let (own, hostname) = (i.title(), i.hostname.as_deref().unwrap_or("no hostname"));
            match &i.stack.group {
                Some(group) if i.stack.shared => format!("{own}: its part of the load balancer of group {group}, {hostname}"),
                _ => format!("{own}, with its load balancer {hostname}, target groups and security groups"),
            }
        });
        let objects = self.objects.iter().filter(|(_, there)| *there).map(|(m, _)| format!("{} in {}", m.title(), namespace_of(m)));
        let istio = self.istio.iter().map(title);
        let namespace = self.namespace.then(|| format!("Namespace {SYSTEM}, unless something in it must stay"));
        releases.chain(ingresses).chain(objects).chain(istio).chain(namespace).collect()
    }

    /// The same in few words; `None`: nothing is there.
    pub(super) fn in_short(&self) -> Option<String> {
        let counted = |n: usize, noun: &str| (n > 0).then(|| text::count(n, noun));
        let parts = [
            counted(self.releases.iter().filter(|r| r.stored.is_some()).count(), "release"),
            counted(self.ingresses.iter().filter(|i| i.is_there).count(), "load balancer"),
            counted(self.objects.iter().filter(|(_, there)| *there).count(), "mesh object"),
            (!self.istio.is_empty()).then(|| format!("Istio ({})", text::count(self.istio.len(), "object"))),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

/// The namespace of an object of the mesh files.
pub(super) fn namespace_of(manifest: &Manifest) -> &str {
    if manifest.namespace().is_empty() { SYSTEM } else { manifest.namespace() }
}

/// The objects of `mesh.gateway` and `mesh.common`, last applied first.
pub(super) fn mesh_objects(shared: &Shared) -> Result<Vec<Manifest>> {
    let Some(Mesh { common, gateway, .. }) = &shared.pipeline.mesh else { return Ok(Vec::new()) };
    let mut all = Vec::new();
    for file in common.iter().chain(gateway) {
        all.extend(mesh::objects(shared, file)?);
    }
    all.reverse();
    Ok(all)
}

/// Reads everything; changes nothing.
pub(super) async fn found(shared: &Shared, cluster: &Cluster, helm: Option<&Helm>) -> Result<Found> {
    let manifests = mesh_objects(shared)?;
    let own = |m: &Manifest| (m.kind().to_owned(), namespace_of(m).to_owned(), m.name().to_owned());
    let ours = Ours {
        releases: shared.pipeline.releases.iter().map(|r| (r.namespace.clone(), r.name.clone())).collect(),
        objects: manifests.iter().map(own).collect(),
    };
    let releases = releases(shared, helm).await?;
    let with_ingress = releases.iter().take_while(|r| r.stored.is_none() || !installed(r).ingresses().is_empty()).count();
    let looks = manifests.iter().map(|m| cluster.get_object(m.api_version(), m.kind(), namespace_of(m), m.name()));
    let there: Vec<bool> = try_join_all(looks).await?.into_iter().map(|found| found.is_some()).collect();
    let (all_ingresses, istio, namespace) =
        tokio::try_join!(list(cluster, NETWORKING, "Ingress", "", ""), istio(cluster), cluster_has(cluster, SYSTEM))?;
    let ingresses = ingresses(shared, &releases, &all_ingresses, &ours);
    let with_mesh = shared.pipeline.mesh.is_some();
    let istio = if with_mesh { istio } else { Vec::new() };
    let foreign = if with_mesh { foreign(shared, cluster, &istio, &all_ingresses, &ours).await? } else { Vec::new() };
    Ok(Found {
        ours,
        releases,
        with_ingress,
        ingresses,
        objects: manifests.into_iter().zip(there).collect(),
        istio,
        foreign,
        namespace: namespace && with_mesh,
    })
}

async fn cluster_has(cluster: &Cluster, namespace: &str) -> Result<bool> {
    Ok(cluster.get_object("v1", "Namespace", "", namespace).await?.is_some())
}

/// The objects of a kind with their apiVersion and kind, which the items of a list do not carry.
pub(super) async fn list(cluster: &Cluster, api_version: &str, kind: &str, namespace: &str, selector: &str) -> Result<Vec<Value>> {
    let objects = cluster.list_objects(api_version, kind, namespace, selector).await?;
    let whole = |object| {
        let mut value = serde_json::to_value(object).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            fields.insert("apiVersion".to_owned(), api_version.into());
            fields.insert("kind".to_owned(), kind.into());
        }
        value
    };
    Ok(objects.into_iter().map(whole).collect())
}

/// Everything that carries istioctl's label.
pub(super) async fn istio(cluster: &Cluster) -> Result<Vec<Value>> {
    let lists = INSTALLED.iter().map(|(api_version, kind)| list(cluster, api_version, kind, "", COMPONENT));
    Ok(try_join_all(lists).await?.into_iter().flatten().collect())
}

async fn releases(shared: &Shared, helm: Option<&Helm>) -> Result<Vec<Release>> {
    let Some(helm) = helm else { return Ok(Vec::new()) };
    let of_file = &shared.pipeline.releases;
    let stored = try_join_all(of_file.iter().map(|r| helm.stored(&r.namespace, &r.name))).await?;
    let read = of_file.iter().zip(stored).enumerate().map(|(index, (release, stored))| Release {
        index,
        name: release.name.clone(),
        namespace: release.namespace.clone(),
        stored,
    });
    let mut left: Vec<Release> = read.collect();
    let ordered = order::releases(left.iter().map(installed).collect());
    Ok(ordered
        .iter()
        .filter_map(|wanted| {
            let at = left.iter().position(|r| r.name == wanted.name && r.namespace == wanted.namespace)?;
            Some(left.remove(at))
        })
        .collect())
}

fn installed(release: &Release) -> Installed {
    let manifest = release.stored.as_ref().map(|s| s.manifest.clone()).unwrap_or_default();
    Installed { name: release.name.clone(), namespace: release.namespace.clone(), manifest }
}

/// The Ingresses that must go: those that our releases made, and the one that the file names if it is not somebody else's.
fn ingresses(shared: &Shared, releases: &[Release], all: &[Value], ours: &Ours) -> Vec<AlbIngress> {
    let mut names: Vec<(String, String)> = releases.iter().flat_map(|r| installed(r).ingresses()).collect();
    let by_us = all.iter().filter(|i| matches!(maker(i, ours), Maker::Release(_)));
    names.extend(by_us.map(|i| (field(i, "/metadata/namespace").to_owned(), field(i, "/metadata/name").to_owned())));
    names.extend(shared.pipeline.ingress.iter().map(|i| (i.namespace.clone(), i.name.clone())));
    names.sort();
    names.dedup();
    let read = |(namespace, name): (String, String)| {
        let live = all.iter().find(|i| field(i, "/metadata/namespace") == namespace && field(i, "/metadata/name") == name);
        if live.is_some_and(|live| matches!(maker(live, ours), Maker::Other(_))) {
            return None;
        }
        let group = live.and_then(group).map(str::to_owned);
        let member = |other: &&Value| field(other, "/metadata/namespace") != namespace || field(other, "/metadata/name") != name;
        let stays = |other: &&Value| !matches!(maker(other, ours), Maker::Release(_)) && other.pointer("/metadata/deletionTimestamp").is_none();
        let members = all.iter().filter(member).filter(|other| group.is_some() && self::group(other) == group.as_deref());
        let shared = members.clone().any(|other| stays(&other));
        let hostname = live.map(|live| field(live, "/status/loadBalancer/ingress/0/hostname").to_owned()).filter(|h| !h.is_empty());
        Some(AlbIngress { stack: Stack { namespace, ingress: name, group, shared }, is_there: live.is_some(), hostname })
    };
    names.into_iter().filter_map(read).collect()
}

fn group(ingress: &Value) -> Option<&str> {
    ingress.pointer("/metadata/annotations").and_then(|a| a.get(GROUP)).and_then(Value::as_str)
}

fn field<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Everybody's objects of Istio, whose types the purge takes away; users of the gateway; and control planes that are not the file's.
async fn foreign(shared: &Shared, cluster: &Cluster, istio: &[Value], ingresses: &[Value], ours: &Ours) -> Result<Vec<String>> {
    let definitions = istio.iter().filter(|o| field(o, "/kind") == "CustomResourceDefinition");
    let lists = definitions.filter_map(|definition| {
        let version = definition.pointer("/spec/versions")?.as_array()?.iter().find(|v| v.get("served").and_then(Value::as_bool).unwrap_or(true))?;
        let api_version = format!("{}/{}", field(definition, "/spec/group"), field(version, "/name"));
        let kind = field(definition, "/spec/names/kind").to_owned();
        Some(async move { list(cluster, &api_version, &kind, "", "").await })
    });
    let objects = try_join_all(lists).await?.into_iter().flatten();
    let words = |object: &Value| match maker(object, ours) {
        Maker::Other(who) => Some(format!("{} ({who})", title(object))),
        Maker::Release(_) | Maker::MeshFile | Maker::Istioctl => None,
    };
    let mut foreign: Vec<String> = objects.filter_map(|object| words(&object)).collect();
    let in_system = ingresses.iter().filter(|i| field(i, "/metadata/namespace") == SYSTEM);
    foreign.extend(in_system.filter_map(|i| words(i).map(|words| format!("{words}: it publishes through the gateway"))));
    let wanted = shared.pipeline.mesh.as_ref().and_then(|m| m.set.get("revision")).and_then(Value::as_str).unwrap_or("default");
    foreign.extend(look::found(cluster).await?.planes.iter().filter_map(|plane| foreign_plane(plane, wanted)));
    foreign.sort();
    Ok(foreign)
}

fn foreign_plane(plane: &Plane, wanted: &str) -> Option<String> {
    let who = match &plane.installer {
        Installer::Helm(release) => format!("helm release {release}"),
        Installer::Operator(kind) => format!("an operator, {kind}"),
        Installer::Istioctl | Installer::Unknown if plane.revision != wanted => format!("revision {}", plane.revision),
        Installer::Istioctl | Installer::Unknown if plane.namespace != SYSTEM => "another mesh".to_owned(),
        Installer::Istioctl | Installer::Unknown => return None,
    };
    Some(format!("control plane {} in {} ({who})", plane.name, plane.namespace))
}

/// The name by which the controller tags what it makes for this cluster, if the file tells it.
pub(super) fn cluster_tag(shared: &Shared) -> Option<String> {
    match &shared.pipeline.cluster {
        crate::stages::connect::Cluster::Eks(_) => Some(rights::cluster_name(&shared.pipeline).to_owned()),
        crate::stages::connect::Cluster::Context(_) => None,
    }
}
