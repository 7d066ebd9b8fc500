//! The start state: nodes, the load balancer controller, namespaces, an Istio that is there already, and the world's own objects.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::aws::state::instance_id;
use super::controllers::{DEPLOYMENTS, INGRESS_CLASSES, NAMESPACES, NODES, Pace, SECRETS, look};
use super::sim::Sim;
use super::store::Operation;
use super::store::meta::{label, metadata, name, namespace, stamp, text};
use super::world::{Installed, World};
use super::{admission, istio};

/// How old the cluster itself is.
const CLUSTER_AGE: Duration = Duration::from_secs(90 * 24 * 3600);

/// A node's name, as EC2 names it.
pub(super) fn node_name(world: &World, index: usize) -> String {
    format!("ip-10-0-{index}-10.{}.compute.internal", world.cluster.region)
}

/// Adds a ready node in the next zone.
pub(super) fn add_node(sim: &Sim, index: usize) {
    let cluster = &sim.world.cluster;
    let own = node_name(&sim.world, index);
    let zone = format!("{}{}", cluster.region, cluster.zones[index % cluster.zones.len()]);
    let version = format!("v{}.2-eks-sandbox", cluster.version);
    let conditions = [("MemoryPressure", "False"), ("DiskPressure", "False"), ("PIDPressure", "False"), ("Ready", "True")]
        .map(|(kind, status)| json!({"type": kind, "status": status, "reason": if kind == "Ready" { "KubeletReady" } else { "KubeletHasSufficientResources" }, "lastHeartbeatTime": sim.stamp(), "lastTransitionTime": sim.stamp()}));
    let capacity = json!({"cpu": "4", "memory": "16Gi", "pods": cluster.pods_per_node.to_string(), "ephemeral-storage": "80Gi"});
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": own, "labels": {
            "kubernetes.io/hostname": own, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", "node.kubernetes.io/instance-type": "m6i.xlarge",
            "topology.kubernetes.io/zone": zone, "topology.kubernetes.io/region": cluster.region, "sandbox.meshstep.io/number": index.to_string(),
        }},
        "spec": {"providerID": format!("aws:///{zone}/{}", instance_id(&own))},
        "status": {
            "addresses": [{"type": "InternalIP", "address": format!("10.0.{index}.10")}, {"type": "Hostname", "address": own}], "conditions": conditions,
            "capacity": capacity, "allocatable": capacity,
            "nodeInfo": {"kubeletVersion": version, "osImage": "sandbox", "architecture": "amd64", "operatingSystem": "linux", "containerRuntimeVersion": "containerd://2.1.0", "kernelVersion": "6.12", "kubeProxyVersion": version, "machineID": "", "systemUUID": "", "bootID": ""},
        },
    });
    // a node that is there already is as good
    drop(sim.store.create(NODES, node));
}

/// The store's name for a manifest's kind.
pub(super) fn resource_of(sim: &Sim, manifest: &Value) -> Option<String> {
    let (api, kind) = (text(manifest, "/apiVersion"), text(manifest, "/kind"));
    let group = api.split_once('/').map_or("", |(group, _)| group);
    sim.store.resources().iter().find(|resource| resource.group == group && resource.kind == kind).map(|resource| resource.id())
}

/// Creates an object, or merges a manifest into the one that is there.
///
/// # Errors
/// When its kind is unknown or the store refuses it.
pub(super) fn merge(sim: &Sim, manifest: &Value) -> Result<(), String> {
    let what = || format!("{} {}/{}", text(manifest, "/kind"), namespace(manifest), name(manifest));
    let resource = resource_of(sim, manifest).ok_or_else(|| format!("{}: unknown kind of {}", what(), text(manifest, "/apiVersion")))?;
    let done = match sim.store.get(&resource, namespace(manifest), name(manifest)) {
        Some(_) => sim.store.modify(&resource, namespace(manifest), name(manifest), |object| patch(object, manifest)),
        None => sim.store.create(&resource, manifest.clone()),
    };
    done.map(drop).map_err(|status| format!("{}: {status}", what()))
}

/// A JSON merge patch.
fn patch(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                if value.is_null() {
                    into.shift_remove(key);
                } else {
                    patch(into.entry(key.as_str()).or_insert(Value::Null), value);
                }
            }
        }
        (into, from) => *into = from.clone(),
    }
}

/// What happens to objects on their way into the store: ages of the start state, and admission.
pub(super) fn hooks(sim: &Arc<Sim>) {
    let weak = Arc::downgrade(sim);
    sim.store.admit(move |_, review, object| {
        let Some(sim) = weak.upgrade() else { return Ok(()) };
        if sim.set_back_by() > 0 && review.operation == Operation::Create && review.subresource.is_empty() {
            metadata(object).insert("creationTimestamp".into(), stamp(sim.now()).into());
        }
        admission::admit(&sim, review, object)
    });
}

/// Looks until nothing changes any more. Simulated waits take no time while the clock is set back.
fn settle(sim: &Sim) {
    for _ in 0..500 {
        let before = sim.store.version();
        look(sim);
        if sim.store.version() == before {
            return;
        }
    }
}

/// Makes the start state. The clock is set back meanwhile, so that things are as old as the world says.
///
/// # Errors
/// When an object of the world cannot be made.
pub(super) fn plant(sim: &Sim) -> Result<(), String> {
    sim.set_back(CLUSTER_AGE);
    for ns in ["kube-system", "kube-public", "kube-node-lease", "default"] {
        merge(sim, &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ns, "labels": {"kubernetes.io/metadata.name": ns}}}))?;
    }
    for index in 0..sim.world.cluster.zones.len() {
        add_node(sim, index);
    }
    cluster_services(sim)?;
    for wanted in &sim.world.namespaces {
        let mut labels = json!(wanted.labels);
        labels["kubernetes.io/metadata.name"] = wanted.name.clone().into();
        merge(sim, &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": wanted.name, "labels": labels}}))?;
    }
    settle(sim);
    history(sim)?;
    sim.set_back(Duration::ZERO);
    // some did nothing while the past was played: now everybody looks at everything
    *sim.pace() = Pace::default();
    Ok(())
}

fn cluster_services(sim: &Sim) -> Result<(), String> {
    merge(
        sim,
        &json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"component": "apiserver", "provider": "kubernetes"}}, "spec": {"ports": [{"name": "https", "port": 443, "targetPort": 443}]}}),
    )?;
    let deployment = |name: &str, image: &str, replicas: usize, port: u16| {
        let labels = json!({"app.kubernetes.io/name": name});
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "kube-system", "labels": labels}, "spec": {
            "replicas": replicas, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": name, "image": image, "ports": [{"containerPort": port}]}]}},
        }})
    };
    merge(sim, &deployment("coredns", "registry.k8s.io/coredns/coredns:v1.13.1", 2, 53))?;
    if sim.world.cluster.load_balancer_controller {
        merge(sim, &deployment("aws-load-balancer-controller", "public.ecr.aws/eks/aws-load-balancer-controller:v3.2.2", 2, 9443))?;
        merge(sim, &istio::definition("elbv2.k8s.aws", "targetgroupbindings", "TargetGroupBinding", "", "v1beta1", true))?;
        merge(sim, &istio::definition("elbv2.k8s.aws", "ingressclassparams", "IngressClassParams", "", "v1beta1", false))?;
        let class = json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "alb", "labels": {"app.kubernetes.io/name": "aws-load-balancer-controller"}}, "spec": {"controller": "ingress.k8s.aws/alb"}});
        merge(sim, &class)?;
    }
    debug_assert!(sim.store.get(INGRESS_CLASSES, "", "alb").is_some() || !sim.world.cluster.load_balancer_controller);
    Ok(())
}

/// Plays the past from the oldest to the newest: Istio under a former root, objects by age, Istio installed again.
fn history(sim: &Sim) -> Result<(), String> {
    let mut objects: Vec<_> = sim.world.objects.iter().collect();
    objects.sort_by_key(|object| std::cmp::Reverse(object.age));
    let installed = sim.world.istio.installed.as_ref();
    let former = installed.and_then(|installed| installed.former_root_age);
    if let (Some(installed), Some(age)) = (installed, former) {
        sim.set_back(age.0);
        install(sim, installed)?;
    }
    let mut pending = installed;
    for object in objects {
        if let Some(installed) = pending.filter(|installed| object.age <= installed.age) {
            settle(sim);
            present(sim, installed)?;
            pending = None;
        }
        let age = object.age.0.max(Duration::from_secs(1));
        if sim.set_back_by() != i64::try_from(age.as_secs()).unwrap_or(i64::MAX) {
            settle(sim);
        }
        sim.set_back(age);
        merge(sim, &object.manifest)?;
    }
    settle(sim);
    pending.map_or(Ok(()), |installed| present(sim, installed))
}

/// The present installation; over a former one it brings a new root and new pods of its own.
fn present(sim: &Sim, installed: &Installed) -> Result<(), String> {
    sim.set_back(installed.age.0.max(Duration::from_secs(1)));
    if installed.former_root_age.is_some() {
        drop(sim.store.delete(SECRETS, istio::SYSTEM, "istio-ca-secret"));
        for deployment in sim.store.list(DEPLOYMENTS, istio::SYSTEM).iter().filter(|d| label(d, "operator.istio.io/component").is_some()) {
            drop(sim.store.delete(DEPLOYMENTS, istio::SYSTEM, name(deployment)));
            settle(sim);
        }
    }
    install(sim, installed)
}

fn install(sim: &Sim, installed: &Installed) -> Result<(), String> {
    let version = installed.version.as_ref().unwrap_or(&sim.world.istio.version);
    if sim.store.get(NAMESPACES, "", istio::SYSTEM).is_none() {
        merge(
            sim,
            &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": istio::SYSTEM, "labels": {"kubernetes.io/metadata.name": istio::SYSTEM}}}),
        )?;
    }
    for component in istio::installation(version, &installed.set) {
        for object in &component.objects {
            merge(sim, object)?;
        }
        settle(sim);
    }
    Ok(())
}
