//! The rights that each stage needs in the cluster, in one table: `doctor` asks for them, and the RBAC manifests grant them.

use std::collections::BTreeSet;

use crate::clients::kube::Right;
use crate::domain::certificates::gather::CONFIG_MAP as ROOT;
use crate::domain::mesh::decide::MEMORY;
use crate::domain::mesh::ready::GATEWAY;
pub use crate::stages::Filters;
use crate::stages::deploy::Service;
use crate::stages::verify::AskedFrom;
use crate::stages::verify::inside::home;
use crate::stages::{Pipeline, connect};

const ISTIO: &str = "istio-system";

/// What helm does with its own records: a release has ten at most, then the oldest goes.
const HELM: [&str; 5] = ["get secrets", "list secrets", "create secrets", "update secrets", "delete secrets"];

/// What an object of a manifest or chart takes: read, created, changed.
const MANAGE: [&str; 3] = ["get", "create", "patch"];

/// What an object takes that is applied without a look first.
const MAKE: [&str; 2] = ["create", "patch"];

/// Where istioctl looks for objects of a former installation, in all namespaces; it fails where it may not look.
const PRUNED: [&str; 14] = [
    "list daemonsets.apps",
    "list services",
    "list configmaps",
    "list pods",
    "list secrets",
    "list serviceaccounts",
    "list roles.rbac.authorization.k8s.io",
    "list rolebindings.rbac.authorization.k8s.io",
    "list clusterroles.rbac.authorization.k8s.io",
    "list clusterrolebindings.rbac.authorization.k8s.io",
    "list poddisruptionbudgets.policy",
    "list horizontalpodautoscalers.autoscaling",
    "list envoyfilters.networking.istio.io",
    "list validatingwebhookconfigurations.admissionregistration.k8s.io",
];

/// What a probe pod takes: applied, followed, removed, and found when a killed run left it.
const PROBE: [&str; 6] = ["get pods", "list pods", "watch pods", "create pods", "patch pods", "delete pods"];

/// What makes Secrets that pods wait for. Where the cluster does not know a kind, nobody asks for it.
const MAKERS: [&str; 4] = [
    "list externalsecrets.external-secrets.io",
    "list sealedsecrets.bitnami.com",
    "list certificates.cert-manager.io",
    "list secretproviderclasses.secrets-store.csi.x-k8s.io",
];

const NAMESPACES: &str = "namespaces";
const CONFIG_MAPS: &str = "configmaps";
const INJECTORS: &str = "list mutatingwebhookconfigurations.admissionregistration.k8s.io";
/// What istioctl makes for istiod, by name: whoever may write these roles and bind them is as good as an administrator.
const ISTIO_CLUSTER_ROLES: [&str; 3] =
    ["istio-reader-clusterrole-istio-system", "istiod-clusterrole-istio-system", "istiod-gateway-controller-istio-system"];
const ISTIO_ROLES: [&str; 2] = ["istio-ingressgateway-sds", "istiod"];

/// What `istioctl uninstall --purge` looks for in the whole cluster, and deletes.
const ISTIOCTL: [&str; 14] = [
    "deployments.apps",
    "daemonsets.apps",
    "services",
    CONFIG_MAPS,
    "serviceaccounts",
    "roles.rbac.authorization.k8s.io",
    "rolebindings.rbac.authorization.k8s.io",
    "poddisruptionbudgets.policy",
    "horizontalpodautoscalers.autoscaling",
    "mutatingwebhookconfigurations.admissionregistration.k8s.io",
    "validatingwebhookconfigurations.admissionregistration.k8s.io",
    "clusterroles.rbac.authorization.k8s.io",
    "clusterrolebindings.rbac.authorization.k8s.io",
    "customresourcedefinitions.apiextensions.k8s.io",
];
/// Of these the default profile makes none.
const BY_OTHER_PROFILES: [&str; 2] = ["daemonsets.apps", "poddisruptionbudgets.policy"];

/// The kinds that go with the purge, whoever made an object of them.
const CUSTOM: [&str; 15] = [
    "destinationrules.networking.istio.io",
    "envoyfilters.networking.istio.io",
    "gateways.networking.istio.io",
    "proxyconfigs.networking.istio.io",
    "serviceentries.networking.istio.io",
    "sidecars.networking.istio.io",
    "virtualservices.networking.istio.io",
    "workloadentries.networking.istio.io",
    "workloadgroups.networking.istio.io",
    "authorizationpolicies.security.istio.io",
    "peerauthentications.security.istio.io",
    "requestauthentications.security.istio.io",
    "telemetries.telemetry.istio.io",
    "wasmplugins.extensions.istio.io",
    "trafficextensions.extensions.istio.io",
];

/// The rights that belong together, each a manifest of this name in `pipelines/rbac/`.
pub const GROUPS: [&str; 10] = ["mesh-install", "mesh", "deploy", "preflight", "releases", "ingress", "verify", "troubleshoot", "cleanup", "lock"];

/// The rights of a stage for this pipeline, sorted, each once; none for a stage that asks nothing of the cluster or has no section.
/// Those to install Istio are asked for on their own: see [`installing`].
pub fn needed(stage: &str, pipeline: &Pipeline, filters: &Filters) -> Vec<Right> {
    let mut rights = BTreeSet::new();
    match stage {
        "mesh" => mesh(pipeline, filters, &mut rights),
        "deploy" => deploy(pipeline, filters, &mut rights),
        "releases" => releases(pipeline, &mut rights),
        "ingress" => ingress(pipeline, &mut rights),
        "verify" if pipeline.verify.is_some() => {
            evidence(pipeline, filters, &mut rights);
            inside(pipeline, &mut rights);
        }
        "certificates" => evidence(pipeline, filters, &mut rights),
        "troubleshoot" => {
            evidence(pipeline, filters, &mut rights);
            probes(pipeline, filters, &mut rights);
        }
        "cleanup" => cleanup(pipeline, &mut rights),
        "redeploy" if pipeline.redeploy.is_some() => {
            evidence(pipeline, filters, &mut rights);
            inside(pipeline, &mut rights);
            restart(pipeline, filters, &mut rights);
        }
        _ => {}
    }
    if !rights.is_empty() && !matches!(stage, "ingress" | "verify" | "troubleshoot" | "certificates") {
        lock(pipeline, &mut rights);
    }
    rights.into_iter().collect()
}

/// What an installation of Istio takes beside the rights of `mesh`; nobody needs it where Istio is there already and stays as it is.
pub fn installing(pipeline: &Pipeline) -> Vec<Right> {
    group("mesh-install", pipeline).into_iter().collect()
}

/// With these `deploy` sees before it begins what would fail; without one of them it goes on, and says what it could not look at.
pub fn foreseeing(pipeline: &Pipeline, filters: &Filters) -> Vec<Right> {
    let (mut rights, mut held) = (BTreeSet::new(), BTreeSet::new());
    preflight(pipeline, filters, &mut rights);
    deploy(pipeline, filters, &mut held);
    rights.difference(&held).cloned().collect()
}

/// The rights of a manifest of `pipelines/rbac/`, for every stage that uses it.
pub fn group(name: &str, pipeline: &Pipeline) -> BTreeSet<Right> {
    let (mut rights, all) = (BTreeSet::new(), Filters::default());
    match name {
        "mesh-install" if pipeline.mesh.is_some() => {
            install(&mut rights);
            rights = beside("mesh", pipeline, rights);
        }
        "mesh" => mesh(pipeline, &all, &mut rights),
        "deploy" => {
            deploy(pipeline, &all, &mut rights);
            let mut cure = BTreeSet::new();
            restart(pipeline, &all, &mut cure);
            rights.extend(beside("verify", pipeline, cure));
        }
        "preflight" => rights = beside("deploy", pipeline, foreseeing(pipeline, &all).into_iter().collect()),
        "releases" => releases(pipeline, &mut rights),
        "ingress" => ingress(pipeline, &mut rights),
        "verify" => evidence(pipeline, &all, &mut rights),
        "troubleshoot" => {
            probes(pipeline, &all, &mut rights);
            rights = beside("verify", pipeline, rights);
        }
        "cleanup" => cleanup(pipeline, &mut rights),
        "lock" => lock(pipeline, &mut rights),
        _ => {}
    }
    rights
}

/// What is left to grant to an identity that has another manifest, too.
fn beside(other: &str, pipeline: &Pipeline, mut rights: BTreeSet<Right>) -> BTreeSet<Right> {
    let held = group(other, pipeline);
    rights.retain(|right| !held.contains(right));
    rights
}

fn add(rights: &mut BTreeSet<Right>, words: &[&str], namespace: &str) {
    rights.extend(words.iter().filter_map(|words| words.split_once(' ')).map(|(verb, resource)| Right::new(verb, resource, namespace)));
}

fn manage(rights: &mut BTreeSet<Right>, resources: &[&str], namespace: &str) {
    rights.extend(resources.iter().flat_map(|resource| MANAGE.map(|verb| Right::new(verb, resource, namespace))));
}

fn make(rights: &mut BTreeSet<Right>, resources: &[&str], namespace: &str) {
    rights.extend(resources.iter().flat_map(|resource| MAKE.map(|verb| Right::new(verb, resource, namespace))));
}

/// Verbs on objects of these names alone.
fn named(rights: &mut BTreeSet<Right>, verbs: &[&str], resource: &str, names: &[&str], namespace: &str) {
    rights.extend(names.iter().flat_map(|name| verbs.iter().map(|verb| Right::new(verb, resource, namespace).named(name))));
}

fn lock(pipeline: &Pipeline, rights: &mut BTreeSet<Right>) {
    let Some(lock) = &pipeline.lock else { return };
    add(rights, &["get leases.coordination.k8s.io", "create leases.coordination.k8s.io", "update leases.coordination.k8s.io"], &lock.namespace);
}

fn mesh(pipeline: &Pipeline, filters: &Filters, rights: &mut BTreeSet<Right>) {
    let Some(mesh) = &pipeline.mesh else { return };
    // A control plane of any namespace is found, so that none is replaced by mistake.
    add(rights, &["list deployments.apps", INJECTORS], "");
    add(rights, &["get deployments.apps", "watch deployments.apps", "get services", "watch services"], ISTIO);
    named(rights, &["get"], CONFIG_MAPS, &[MEMORY, ROOT], ISTIO);
    for namespace in mesh.inject.iter().filter(|namespace| filters.namespace(namespace.name())) {
        named(rights, &["get", "patch"], NAMESPACES, &[namespace.name()], "");
        if namespace.create() {
            named(rights, &["create"], NAMESPACES, &[namespace.name()], "");
        }
        // The root certificate that istiod puts into each of them.
        named(rights, &["get", "watch"], CONFIG_MAPS, &[ROOT], namespace.name());
    }
    if mesh.common.is_some() {
        manage(rights, &["peerauthentications.security.istio.io", "telemetries.telemetry.istio.io"], ISTIO);
    }
    if mesh.gateway.is_some() {
        manage(rights, &["gateways.networking.istio.io"], ISTIO);
    }
}

/// What `istioctl install` applies on the server's side, without a look first; what it waits for; and what it looks through at the end
/// for objects of a former installation. And our note of what it installed.
fn install(rights: &mut BTreeSet<Right>) {
    manage(rights, &["customresourcedefinitions.apiextensions.k8s.io"], "");
    named(rights, &MAKE, "clusterroles.rbac.authorization.k8s.io", &ISTIO_CLUSTER_ROLES, "");
    named(rights, &["bind", "escalate"], "clusterroles.rbac.authorization.k8s.io", &ISTIO_CLUSTER_ROLES, "");
    named(rights, &MAKE, "clusterrolebindings.rbac.authorization.k8s.io", &ISTIO_CLUSTER_ROLES, "");
    make(rights, &["mutatingwebhookconfigurations.admissionregistration.k8s.io", "validatingwebhookconfigurations.admissionregistration.k8s.io"], "");
    named(rights, &["get"], NAMESPACES, &[ISTIO], "");
    make(rights, &["deployments.apps", "services", CONFIG_MAPS, "serviceaccounts", "horizontalpodautoscalers.autoscaling"], ISTIO);
    named(rights, &MAKE, "roles.rbac.authorization.k8s.io", &ISTIO_ROLES, ISTIO);
    named(rights, &["bind", "escalate"], "roles.rbac.authorization.k8s.io", &ISTIO_ROLES, ISTIO);
    named(rights, &MAKE, "rolebindings.rbac.authorization.k8s.io", &ISTIO_ROLES, ISTIO);
    add(rights, &["list replicasets.apps"], ISTIO);
    add(rights, &PRUNED, "");
}

fn deploy(pipeline: &Pipeline, filters: &Filters, rights: &mut BTreeSet<Right>) {
    for (service, (namespace, create)) in placed(pipeline, filters) {
        named(rights, &["get"], NAMESPACES, &[namespace], "");
        add(rights, &[INJECTORS], "");
        if create {
            named(rights, &["create", "patch"], NAMESPACES, &[namespace], "");
        }
        manage(rights, &["deployments.apps", "services"], namespace);
        follow(rights, &["deployments.apps", "replicasets.apps", "pods", "events", "endpointslices.discovery.k8s.io"], namespace);
        add(rights, &["get pods", "get pods/log"], namespace);
        tunnel(rights, namespace);
        if service.chart.is_some() {
            add(rights, &HELM, namespace);
            manage(rights, &["serviceaccounts", "poddisruptionbudgets.policy"], namespace);
            // With one replica the budget goes.
            add(rights, &["delete poddisruptionbudgets.policy"], namespace);
        }
    }
}

/// A pod is tried by a dry run, and what it refers to is looked up; so is what may make that later.
fn preflight(pipeline: &Pipeline, filters: &Filters, rights: &mut BTreeSet<Right>) {
    for (_, (namespace, _)) in placed(pipeline, filters) {
        add(rights, &["list nodes"], "");
        add(rights, &["create pods", "get secrets", "get configmaps", "get serviceaccounts", "get persistentvolumeclaims"], namespace);
        add(rights, &MAKERS, namespace);
        named(rights, &["list"], CONFIG_MAPS, &["cluster-autoscaler-status"], "");
        add(rights, &["list nodepools.karpenter.sh"], "");
        // A webhook that does not answer may be an istiod's that is still starting.
        add(rights, &["list deployments.apps"], ISTIO);
    }
}

fn releases(pipeline: &Pipeline, rights: &mut BTreeSet<Right>) {
    for release in &pipeline.releases {
        add(rights, &HELM, &release.namespace);
        manage(rights, &["virtualservices.networking.istio.io", "ingresses.networking.k8s.io"], &release.namespace);
        // The route of a service that is no longer published goes.
        add(rights, &["delete virtualservices.networking.istio.io"], &release.namespace);
    }
}

fn ingress(pipeline: &Pipeline, rights: &mut BTreeSet<Right>) {
    let Some(ingress) = &pipeline.ingress else { return };
    add(rights, &["get ingresses.networking.k8s.io", "watch ingresses.networking.k8s.io"], &ingress.namespace);
    add(rights, &["get services", "list targetgroupbindings.elbv2.k8s.aws"], &ingress.namespace);
    follow(rights, &["events"], &ingress.namespace);
    add(rights, &["get ingressclasses.networking.k8s.io"], "");
}

/// Why a host does not answer.
fn evidence(pipeline: &Pipeline, filters: &Filters, rights: &mut BTreeSet<Right>) {
    if let Some(ingress) = &pipeline.ingress {
        add(rights, &["get ingresses.networking.k8s.io"], &ingress.namespace);
    }
    for namespace in std::iter::once(ISTIO).chain(placed(pipeline, filters).map(|(_, (namespace, _))| namespace)) {
        named(rights, &["get"], CONFIG_MAPS, &[ROOT], namespace);
        add(rights, &["list pods", "get pods/log", "get replicasets.apps"], namespace);
        tunnel(rights, namespace);
        if namespace != ISTIO {
            add(rights, &["get services"], namespace);
        }
    }
}

/// The one cure.
fn restart(pipeline: &Pipeline, filters: &Filters, rights: &mut BTreeSet<Right>) {
    // The gateway may be the stale one.
    named(rights, &["get", "patch"], "deployments.apps", &[GATEWAY], ISTIO);
    follow(rights, &["deployments.apps", "replicasets.apps", "pods", "events"], ISTIO);
    for (_, (namespace, _)) in placed(pipeline, filters) {
        // A pod is only tried out, to see whether it would get its sidecar.
        add(rights, &["create pods", "list poddisruptionbudgets.policy"], namespace);
        add(rights, &["get deployments.apps", "patch deployments.apps"], namespace);
        follow(rights, &["deployments.apps", "replicasets.apps", "pods", "events"], namespace);
    }
}

/// Takes away what the other stages made; looks at everybody's objects of the mesh first.
fn cleanup(pipeline: &Pipeline, rights: &mut BTreeSet<Right>) {
    if pipeline.mesh.is_none() && pipeline.releases.is_empty() && pipeline.ingress.is_none() {
        return;
    }
    let made = ["virtualservices.networking.istio.io", "ingresses.networking.k8s.io"];
    for release in &pipeline.releases {
        add(rights, &["get secrets", "list secrets", "update secrets", "delete secrets"], &release.namespace);
        take(rights, &made, &release.namespace);
    }
    if let Some(ingress) = &pipeline.ingress {
        take(rights, &["ingresses.networking.k8s.io"], &ingress.namespace);
        add(rights, &["watch ingresses.networking.k8s.io"], &ingress.namespace);
    }
    let looked_for = ["list ingresses.networking.k8s.io", "list targetgroupbindings.elbv2.k8s.aws", "delete targetgroupbindings.elbv2.k8s.aws"];
    add(rights, &looked_for, "");
    rights.extend(ISTIOCTL.iter().map(|resource| Right::new("list", resource, "")));
    for service in &pipeline.services {
        service.namespaces.iter().for_each(|namespace| add(rights, &["get services"], namespace.name()));
    }
    let Some(mesh) = &pipeline.mesh else { return };
    let made = |resource: &&&str| mesh.profile != "default" || !BY_OTHER_PROFILES.contains(resource);
    rights.extend(ISTIOCTL.iter().filter(made).map(|resource| Right::new("delete", resource, "")));
    rights.extend(CUSTOM.iter().map(|resource| Right::new("list", resource, "")));
    add(rights, &["list pods", "list secrets", "list networkattachmentdefinitions.k8s.cni.cncf.io"], "");
    named(rights, &["get", "delete"], NAMESPACES, &[ISTIO], "");
    for namespace in &mesh.inject {
        named(rights, &["get"], NAMESPACES, &[namespace.name()], "");
    }
    named(rights, &["get"], CONFIG_MAPS, &[MEMORY], ISTIO);
    add(
        rights,
        &["get services", "delete pods", "list jobs.batch", "list cronjobs.batch", "list statefulsets.apps", "list persistentvolumeclaims"],
        ISTIO,
    );
    if mesh.common.is_some() {
        take(rights, &["peerauthentications.security.istio.io", "telemetries.telemetry.istio.io"], ISTIO);
    }
    if mesh.gateway.is_some() {
        take(rights, &["gateways.networking.istio.io"], ISTIO);
    }
    // what holds in all namespaces is not granted in one again
    let everywhere: Vec<Right> = rights.iter().filter(|right| right.namespace.is_empty()).cloned().collect();
    rights.retain(|right| right.namespace.is_empty() || !everywhere.contains(&Right { namespace: String::new(), ..right.clone() }));
}

fn take(rights: &mut BTreeSet<Right>, resources: &[&str], namespace: &str) {
    rights.extend(resources.iter().flat_map(|resource| ["get", "delete"].map(|verb| Right::new(verb, resource, namespace))));
}

/// Probe pods beside the services, and what their answers are read with.
fn probes(pipeline: &Pipeline, filters: &Filters, rights: &mut BTreeSet<Right>) {
    add(rights, &["list nodes", "list peerauthentications.security.istio.io"], "");
    add(rights, &["get services"], ISTIO);
    for (_, (namespace, _)) in placed(pipeline, filters) {
        add(rights, &PROBE, namespace);
        add(rights, &["get services"], namespace);
    }
}

/// Hosts asked `from: cluster`: the probe pods of `verify`, and what a pod without a sidecar may not ask. All of it is among [`probes`].
fn inside(pipeline: &Pipeline, rights: &mut BTreeSet<Right>) {
    if pipeline.verify.as_ref().is_some_and(|verify| verify.from == AskedFrom::Cluster) {
        add(rights, &["list peerauthentications.security.istio.io"], "");
        add(rights, &PROBE, home(pipeline));
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
        let namespaces = service.namespaces.iter().map(|namespace| (namespace.name(), namespace.create()));
        namespaces.filter(|(name, _)| filters.namespace(name)).map(move |namespace| (service, namespace))
    })
}

/// The tools that a stage calls for this pipeline.
pub fn tools(stage: &str, pipeline: &Pipeline, filters: &Filters) -> &'static [&'static str] {
    match stage {
        "mesh" if pipeline.mesh.is_some() => &["istioctl"],
        "deploy" if placed(pipeline, filters).any(|(service, _)| service.chart.is_some()) => &["helm"],
        "releases" if !pipeline.releases.is_empty() => &["helm"],
        "cleanup" => match (pipeline.mesh.is_some(), pipeline.releases.is_empty()) {
            (true, false) => &["helm", "istioctl"],
            (true, true) => &["istioctl"],
            (false, false) => &["helm"],
            (false, true) => &[],
        },
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
            "create namespaces named new",
            "watch deployments (apps) in istio-system",
            "watch configmaps named istio-ca-root-cert in prod",
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
    fn what_only_helps_is_no_need() {
        let (all, pipeline) = (Filters::default(), pipeline());
        let helps: Vec<String> = foreseeing(&pipeline, &all).iter().map(ToString::to_string).collect();
        assert!(helps.contains(&"create pods in prod".to_owned()) && helps.contains(&"list nodes in all namespaces".to_owned()), "{helps:?}");
        assert!(!told("deploy", &all).iter().any(|right| helps.contains(right)));
    }

    #[test]
    fn to_ask_from_inside_takes_nothing_that_troubleshoot_does_not_have() {
        let (all, mut from_agent) = (Filters::default(), pipeline());
        from_agent.verify = serde_json::from_value(json!({"hosts": "from-routes"})).ok();
        let mut from_cluster = from_agent.clone();
        from_cluster.verify = serde_json::from_value(json!({"hosts": "from-routes", "from": "cluster"})).ok();
        let held: BTreeSet<Right> = needed("verify", &from_agent, &all).into_iter().collect();
        let more: BTreeSet<Right> = needed("verify", &from_cluster, &all).into_iter().filter(|right| !held.contains(right)).collect();
        let told: Vec<String> = more.iter().map(ToString::to_string).collect();
        assert!(told.contains(&"create pods in pre-prod".to_owned()) && told.contains(&"delete pods in pre-prod".to_owned()), "{told:?}");
        assert!(!told.iter().any(|right| right.ends_with("in prod")), "{told:?}");
        assert!(more.is_subset(&group("troubleshoot", &from_cluster)), "{told:?}");
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
