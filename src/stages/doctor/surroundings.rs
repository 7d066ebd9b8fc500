//! What surrounds the cluster: the ways out, the clocks, the versions, the nodes' CPUs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use k8s_openapi::api::core::v1::Node;

use super::{Told, told};
use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::clients::kube::Cluster;
use crate::domain::certificates::root;
use crate::domain::doctor::network::Ways;
use crate::domain::doctor::versions::{self, Versions};
use crate::domain::doctor::{architectures, clock, network, rendered};
use crate::domain::mesh::decide::{self, Decision, Found, Wanted as WantedMesh};
use crate::domain::mesh::look;
use crate::domain::releases::argv::Wanted;
use crate::domain::releases::helm::Helm;
use crate::domain::services::manifests;
use crate::engine::Ctx;
use crate::engine::record::Done;
use crate::stages::deploy::Service;
use crate::stages::{Shared, connect};

/// Proxies and certificate authorities, told so that nobody has to guess which were in use.
pub(super) async fn network(ctx: &Ctx<Shared>) {
    let shared = &ctx.shared;
    ctx.record
        .case("network")
        .run(|case| async move {
            let api_server = connect::opened(shared).and_then(|cluster| url_host(cluster.server()));
            let cacert = shared.options.cacert.as_ref().map(|path| path.display().to_string());
            let files = ["AWS_CA_BUNDLE", "SSL_CERT_FILE"].into_iter().filter_map(|name| Some((name, shared.settings.get(name)?)));
            let authorities = files.chain(cacert.as_deref().map(|path| ("--cacert", path)));
            let ways = Ways {
                proxy: shared.settings.get("HTTPS_PROXY").or_else(|| shared.settings.get("https_proxy")),
                api_server: api_server.as_deref().map(|host| (host, shared.settings.https_proxy(host).is_none())),
                authorities: authorities.map(|(name, path)| (name, path, wrong_with(Path::new(path)))).collect(),
            };
            told(&case, network::judge(&ways))
        })
        .await;
}

fn url_host(url: &str) -> Option<String> {
    Some(url.split_once("://")?.1.split(['/', ':']).next()?.to_owned())
}

/// What is wrong with a file of certificates.
fn wrong_with(path: &Path) -> Option<String> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some("which does not exist".to_owned()),
        Err(error) => Some(format!("which cannot be read ({error})")),
        Ok(text) => root::bundle(&text).err().map(|why| format!("in which {}", why.replacen("it holds", "there is", 1))),
    }
}

/// Asked for whatever the API server answers, also a refusal: a wrong clock is one of its reasons.
pub(super) async fn clock(ctx: &Ctx<Shared>) {
    let Some(cluster) = connect::opened(&ctx.shared) else { return };
    ctx.record
        .case("clock")
        .run(|case| async move {
            match cluster.times().await {
                Ok((server, agent)) => told(&case, clock::judge(server, agent)),
                // Why it does not answer is told by its own case.
                Err(fault) => Ok(Done::Skipped(fault.message)),
            }
        })
        .await;
}

/// Kubernetes, Istio, helm, kubectl; and whether the Istio that runs is one that the mesh stage would keep.
pub(super) async fn versions(ctx: &Ctx<Shared>, cluster: &Cluster, server: &str, tools: &Told, mesh_comes: bool) {
    let (shared, place) = (&ctx.shared, ctx.shared.place("/mesh").filter(|_| mesh_comes));
    ctx.record
        .case("versions")
        .place(place)
        .run(|case| async move {
            let found = match look::found(cluster).await {
                Ok(found) => found,
                // Whether it is there is worth knowing, but nothing to insist on.
                Err(fault) if fault.code == Code::Forbidden => Found::default(),
                Err(fault) => return Err(fault),
            };
            let plane = found.planes.first().and_then(|plane| versions::of_server(plane.version.as_deref()?));
            let seen = Versions {
                server: versions::of_server(server),
                helm: tools.version("helm"),
                istioctl: tools.version("istioctl").filter(|_| mesh_comes),
                kubectl: tools.version("kubectl"),
                plane,
            };
            let mut verdict = versions::judge(&seen);
            verdict.faults.extend(foreign(shared, &found, tools).filter(|_| mesh_comes));
            told(&case, verdict)
        })
        .await;
}

/// The mesh stage would refuse to touch this Istio: better said before anything else is done.
fn foreign(shared: &Shared, found: &Found, tools: &Told) -> Option<Fault> {
    let mesh = shared.pipeline.mesh.as_ref().filter(|_| !shared.options.allow_mesh_change)?;
    let wanted = WantedMesh { profile: &mesh.profile, set: &mesh.set, client: tools.istioctl.as_deref() };
    let Decision::Foreign(why) = decide::decide(&wanted, found) else { return None };
    let fault = Fault::new(Code::MeshForeign, format!("the mesh stage would change nothing: {why}"));
    let fault = fault.next("use the istioctl of the running version, or make `mesh:` say what is installed");
    Some(fault.next("or change the control plane on purpose with `--allow-mesh-change`"))
}

/// Nodes against what the services' manifests say. Without the right to list nodes nothing is said.
pub(super) async fn node_architectures(ctx: &Ctx<Shared>, cluster: &Cluster) {
    let shared = &ctx.shared;
    ctx.record
        .case("node architectures")
        .run(|case| async move {
            let nodes: Vec<Node> = match cluster.list("", "").await {
                Ok(nodes) => nodes,
                Err(fault) if fault.code == Code::Forbidden => return Ok(Done::Skipped("this identity may not list nodes".to_owned())),
                Err(fault) => return Err(fault),
            };
            let mut counted: BTreeMap<String, usize> = BTreeMap::new();
            for info in nodes.into_iter().filter_map(|node| node.status?.node_info) {
                *counted.entry(info.architecture).or_default() += 1;
            }
            let mut services = Vec::new();
            for (index, service) in shared.pipeline.services.iter().enumerate().filter(|(_, service)| shared.filters.service(&service.name)) {
                match bound(shared, service).await {
                    Ok(bound) => services.push((service.name.clone(), bound)),
                    Err(fault) => {
                        case.warn(format!("what the pods of {} are bound to is not known: {}", service.name, in_file(shared, index, &fault)))
                    }
                }
            }
            told(&case, architectures::judge(&counted, &services))
        })
        .await;
}

fn in_file(shared: &Shared, index: usize, fault: &Fault) -> String {
    match fault.place.as_ref().or_else(|| shared.place(&format!("/services/{index}"))) {
        Some(place) => format!("{place}: {}", fault.message),
        None => fault.message.clone(),
    }
}

/// The architectures that a service's pods are bound to, in whichever of its namespaces. A chart is rendered only if its text, or that of
/// its values, speaks of architectures at all.
async fn bound(shared: &Shared, service: &Service) -> Result<Option<BTreeSet<String>>> {
    let mut objects = Vec::new();
    if let Some(file) = &service.manifests {
        objects = manifests::load(&shared.path(file), file)?;
    } else if let Some(chart) = &service.chart {
        let values = service.namespaces.iter().flat_map(|namespace| namespace.values());
        if !(mentions(&shared.path(chart)) || values.map(|file| shared.path(file)).any(|file| mentions(&file))) {
            return Ok(None);
        }
        for namespace in &service.namespaces {
            let wanted = Wanted {
                name: service.name.clone(),
                namespace: namespace.name().to_owned(),
                chart: shared.path(chart),
                values: namespace.values().iter().map(|file| shared.path(file)).collect(),
                set: service.image.iter().map(|image| ("image".to_owned(), image.clone())).collect(),
                ..Wanted::default()
            };
            objects.extend(manifests::parse(chart, &Helm::template(&shared.tools, &wanted).await?)?);
        }
    }
    let all: Vec<BTreeSet<String>> = objects.iter().filter_map(|object| rendered::architectures(&object.value)).collect();
    Ok((!all.is_empty()).then(|| all.into_iter().flatten().collect()))
}

/// Does a file, or any in a folder, speak of architectures?
fn mentions(path: &Path) -> bool {
    if let Ok(entries) = std::fs::read_dir(path) {
        return entries.flatten().any(|entry| mentions(&entry.path()));
    }
    // A packed subchart is not looked into; it is as good as one that does.
    path.extension().is_some_and(|end| end == "tgz") || std::fs::read_to_string(path).is_ok_and(|text| text.contains("kubernetes.io/arch"))
}
