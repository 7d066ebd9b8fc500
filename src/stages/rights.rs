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
    for namespace in &mesh.inject {
        let (name, create) = match namespace {
            InjectNamespace::Name(name) => (name, false),
            InjectNamespace::Create(namespace) => (&namespace.name, namespace.create),
        };
        if create {
            add(rights, &["create namespaces"], "");
        }
        // The root certificate that istiod puts into each of them.
        add(rights, &["get configmaps", "watch configmaps"], name);
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
    add(rights, &["list mutatingwebhookconfigurations.admissionregistration.k8s.io"], "");
    let own = [
        "deployments.apps",
        "services",
        "configmaps",
        "serviceaccounts",
        "roles.rbac.authorization.k8s.io",
        "rolebindings.rbac.authorization.k8s.io",
    ];
    manage(rights, &own, ISTIO);
    let watched = ["deployments.apps", "services", "endpointslices.discovery.k8s.io"];
    follow(rights, &watched, ISTIO);
    add(rights, &["list pods"], ISTIO);
    if mesh.common.is_some() || mesh.gateway.is_some() {
        manage(rights, &["gateways.networking.istio.io", "peerauthentications.security.istio.io", "telemetries.telemetry.istio.io"], ISTIO);
    }
}

fn deploy(pipeline: &Pipeline, filters: &Filters, rights: &mut BTreeSet<Right>) {
    for (service, (namespace, create)) in placed(pipeline, filters) {
        add(rights, &["get namespaces", "list mutatingwebhookconfigurations.admissionregistration.k8s.io"], "");
        if create {
            add(rights, &["create namespaces"], "");
        }
        manage(rights, &["deployments.apps", "services"], namespace);
        follow(rights, &["deployments.apps", "replicasets.apps", "pods", "events", "endpointslices.discovery.k8s.io"], namespace);
        add(rights, &["get pods/log"], namespace);
        tunnel(rights, namespace);
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
    add(rights, &["get ingresses.networking.k8s.io", "get services", "list targetgroupbindings.elbv2.k8s.aws"], &ingress.namespace);
    follow(rights, &["ingresses.networking.k8s.io", "events"], &ingress.namespace);
    add(rights, &["get ingressclasses.networking.k8s.io"], "");
}

/// Why a host does not answer, and the one cure.
fn evidence(stage: &str, pipeline: &Pipeline, filters: &Filters, rights: &mut BTreeSet<Right>) {
    if stage == "verify" && pipeline.verify.is_none() || stage == "redeploy" && pipeline.redeploy.is_none() {
        return;
    }
    if let Some(ingress) = &pipeline.ingress {
        add(rights, &["get ingresses.networking.k8s.io"], &ingress.namespace);
    }
    let proof = ["list pods", "get pods/log", "get configmaps", "get services", "get replicasets.apps"];
    for namespace in std::iter::once(ISTIO).chain(placed(pipeline, filters).map(|(_, (namespace, _))| namespace)) {
        add(rights, &proof, namespace);
        tunnel(rights, namespace);
    }
    if stage != "redeploy" {
        return;
    }
    add(rights, &["list deployments.apps"], ISTIO);
    for (_, (namespace, _)) in placed(pipeline, filters) {
        add(rights, &["get deployments.apps", "patch deployments.apps"], namespace);
        follow(rights, &["deployments.apps", "replicasets.apps", "pods", "events"], namespace);
    }
}

fn follow(rights: &mut BTreeSet<Right>, resources: &[&str], namespace: &str) {
    rights.extend(resources.iter().flat_map(|resource| ["list", "watch"].map(|verb| Right::new(verb, resource, namespace))));
}

/// A tunnel to a pod: it is opened with GET, and newer API servers ask for `create` as well.
fn tunnel(rights: &mut BTreeSet<Right>, namespace: &str) {
    add(rights, &["get pods/portforward", "create pods/portforward"], namespace);
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pipeline() -> Pipeline {
        serde_json::from_value(json!({
            "version": 1, "name": "shop", "cluster": {"context": "c"},
            "mesh": {"inject": ["prod", {"name": "new", "create": true}], "gateway": "g.yaml"},
            "services": [
                {"name": "a", "chart": "charts/a", "namespaces": ["pre-prod", "prod"]},
                {"name": "b", "manifests": "b.yaml", "namespaces": ["prod"]},
            ],
            "ingress": {"name": "gw-ingress"},
            "lock": {"namespace": "default"},
        }))
        .expect("a pipeline")
    }

    fn told(stage: &str, filters: &Filters) -> Vec<String> {
        needed(stage, &pipeline(), filters).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_stage_needs_what_its_section_asks_for() {
        let all = Filters::default();
        let mesh = told("mesh", &all);
        for right in [
            "create namespaces in all namespaces",
            "patch deployments (apps) in istio-system",
            "watch configmaps in prod",
            "update leases (coordination.k8s.io) in default",
        ] {
            assert!(mesh.iter().any(|found| found == right), "{right}: {mesh:?}");
        }
        let ingress = told("ingress", &all);
        assert!(ingress.contains(&"list targetgroupbindings (elbv2.k8s.aws) in istio-system".to_owned()), "{ingress:?}");
        assert!(!ingress.iter().any(|right| right.contains("leases")), "it changes nothing: {ingress:?}");
        for stage in ["releases", "verify", "redeploy", "routes", "connect"] {
            assert_eq!(told(stage, &all), Vec::<String>::new(), "{stage} has no section");
        }
    }

    #[test]
    fn filters_narrow_what_is_asked() {
        let only_b = Filters { services: vec!["b".into()], ..Filters::default() };
        let rights = told("deploy", &only_b);
        assert!(rights.contains(&"patch deployments (apps) in prod".to_owned()));
        assert!(!rights.iter().any(|right| right.contains("pre-prod") || right.contains("secrets")), "{rights:?}");
        assert_eq!(tools("deploy", &pipeline(), &only_b), [""; 0]);
        assert_eq!(tools("deploy", &pipeline(), &Filters::default()), ["helm"]);
    }
}
