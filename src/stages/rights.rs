//! The rights that each stage needs in the cluster, in one table: `doctor` asks for them, and the RBAC manifests grant them.

use std::collections::BTreeSet;

use crate::clients::kube::Right;
use crate::stages::deploy::{Service, ServiceNamespace};
use crate::stages::mesh::InjectNamespace;
use crate::stages::{Filters, Pipeline, connect};

const ISTIO: &str = "istio-system";

/// What helm does with its own records, and with every object of a chart.
const HELM: [&str; 6] = ["get secrets", "list secrets", "create secrets", "update secrets", "patch secrets", "delete secrets"];

/// What an object of a manifest or chart takes: read, created, changed.
const MANAGE: [&str; 3] = ["get", "create", "patch"];

/// The rights of a stage for this pipeline, sorted, each once; none for a stage that asks nothing of the cluster or has no section.
pub fn needed(stage: &str, pipeline: &Pipeline, filters: &Filters) -> Vec<Right> {
    let mut rights = BTreeSet::new();
    match stage {
        "mesh" => mesh(pipeline, &mut rights),
        "deploy" => deploy(pipeline, filters, &mut rights),
        "releases" => releases(pipeline, &mut rights),
        "ingress" => ingress(pipeline, &mut rights),
        "verify" | "redeploy" | "troubleshoot" => evidence(stage, pipeline, filters, &mut rights),
        _ => {}
    }
    if let Some(lock) = pipeline.lock.as_ref().filter(|_| !rights.is_empty() && !matches!(stage, "ingress" | "verify" | "troubleshoot")) {
        add(
            &mut rights,
            &["get leases.coordination.k8s.io", "create leases.coordination.k8s.io", "update leases.coordination.k8s.io"],
            &lock.namespace,
        );
    }
    rights.into_iter().collect()
}

fn add(rights: &mut BTreeSet<Right>, words: &[&str], namespace: &str) {
    rights.extend(words.iter().filter_map(|words| words.split_once(' ')).map(|(verb, resource)| Right::new(verb, resource, namespace)));
}

fn manage(rights: &mut BTreeSet<Right>, resources: &[&str], namespace: &str) {
    rights.extend(resources.iter().flat_map(|resource| MANAGE.map(|verb| Right::new(verb, resource, namespace))));
}

fn mesh(pipeline: &Pipeline, rights: &mut BTreeSet<Right>) {
    let Some(mesh) = &pipeline.mesh else { return };
    add(rights, &["get namespaces", "patch namespaces"], "");
    if mesh.inject.iter().any(|namespace| matches!(namespace, InjectNamespace::Create(create) if create.create)) {
        add(rights, &["create namespaces"], "");
    }
    // What `istioctl install` applies, by server-side apply.
    let cluster_wide = [
        "customresourcedefinitions.apiextensions.k8s.io",
        "clusterroles.rbac.authorization.k8s.io",
        "clusterrolebindings.rbac.authorization.k8s.io",
        "mutatingwebhookconfigurations.admissionregistration.k8s.io",
        "validatingwebhookconfigurations.admissionregistration.k8s.io",
    ];
    manage(rights, &cluster_wide, "");
    let own = [
        "deployments.apps",
        "services",
        "configmaps",
        "serviceaccounts",
        "roles.rbac.authorization.k8s.io",
        "rolebindings.rbac.authorization.k8s.io",
    ];
    manage(rights, &own, ISTIO);
    add(rights, &["list deployments.apps", "watch deployments.apps", "list pods"], ISTIO);
    if mesh.common.is_some() || mesh.gateway.is_some() {
        manage(rights, &["gateways.networking.istio.io", "peerauthentications.security.istio.io", "telemetries.telemetry.istio.io"], ISTIO);
    }
}

fn deploy(pipeline: &Pipeline, filters: &Filters, rights: &mut BTreeSet<Right>) {
    for (service, namespace) in placed(pipeline, filters) {
        add(rights, &["get namespaces"], "");
        if namespace.1 {
            add(rights, &["create namespaces"], "");
        }
        let namespace = namespace.0;
        manage(rights, &["deployments.apps", "services"], namespace);
        let watched = ["list deployments.apps", "watch deployments.apps", "list replicasets.apps", "list pods", "watch pods", "get pods/log"];
        add(rights, &watched, namespace);
        add(rights, &["list events", "list endpointslices.discovery.k8s.io", "create pods/portforward"], namespace);
        if service.chart.is_some() {
            add(rights, &HELM, namespace);
        }
    }
}

fn releases(pipeline: &Pipeline, rights: &mut BTreeSet<Right>) {
    for release in &pipeline.releases {
        add(rights, &HELM, &release.namespace);
        manage(rights, &["virtualservices.networking.istio.io", "ingresses.networking.k8s.io"], &release.namespace);
    }
}

fn ingress(pipeline: &Pipeline, rights: &mut BTreeSet<Right>) {
    let Some(ingress) = &pipeline.ingress else { return };
    let words = [
        "get ingresses.networking.k8s.io",
        "list ingresses.networking.k8s.io",
        "watch ingresses.networking.k8s.io",
        "list events",
        "get services",
        "list targetgroupbindings.elbv2.k8s.aws",
    ];
    add(rights, &words, &ingress.namespace);
}

/// Why a host does not answer, and the one cure.
fn evidence(stage: &str, pipeline: &Pipeline, filters: &Filters, rights: &mut BTreeSet<Right>) {
    if stage == "verify" && pipeline.verify.is_none() || stage == "redeploy" && pipeline.redeploy.is_none() {
        return;
    }
    let cures = stage == "redeploy" || pipeline.redeploy.is_some();
    add(rights, &["list pods", "get pods/log"], ISTIO);
    for (_, (namespace, _)) in placed(pipeline, filters) {
        add(rights, &["list pods", "get pods/log", "get configmaps", "list endpointslices.discovery.k8s.io"], namespace);
        if cures && stage != "troubleshoot" {
            add(rights, &["get deployments.apps", "list deployments.apps", "patch deployments.apps", "list replicasets.apps"], namespace);
        }
    }
}

/// Each service with each of its namespaces, and whether that one is to be created.
fn placed<'a>(pipeline: &'a Pipeline, filters: &'a Filters) -> impl Iterator<Item = (&'a Service, (&'a str, bool))> {
    pipeline.services.iter().filter(|service| filters.service(&service.name)).flat_map(|service| {
        let namespaces = service.namespaces.iter().map(|namespace| match namespace {
            ServiceNamespace::Name(name) => (name.as_str(), false),
            ServiceNamespace::WithValues(namespace) => (namespace.name.as_str(), namespace.create),
        });
        namespaces.filter(|(name, _)| filters.namespace(name)).map(move |namespace| (service, namespace))
    })
}

/// The tools that a stage calls for this pipeline.
pub fn tools(stage: &str, pipeline: &Pipeline, filters: &Filters) -> &'static [&'static str] {
    match stage {
        "mesh" if pipeline.mesh.is_some() => &["istioctl"],
        "deploy" if placed(pipeline, filters).any(|(service, _)| service.chart.is_some()) => &["helm"],
        "releases" if !pipeline.releases.is_empty() => &["helm"],
        _ => &[],
    }
}

/// How a person or a manifest names the cluster of the file.
pub fn cluster_name(pipeline: &Pipeline) -> &str {
    match &pipeline.cluster {
        connect::Cluster::Eks(eks) => &eks.name,
        connect::Cluster::Context(context) => &context.context,
    }
}
