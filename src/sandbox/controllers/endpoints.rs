//! Which pods stand behind a Service's ports, and the EndpointSlices and Endpoints that say so.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use super::pods::ready;
use super::{BUDGETS, ENDPOINT_SLICES, ENDPOINTS, PODS, SERVICES, pods};
use crate::sandbox::sim::Sim;
use crate::sandbox::store::meta::{deleting, label, list, name, namespace, number, suffix, text, uid};

/// A pod behind a Service's port.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub pod: Arc<Value>,
    pub port: u16,
    pub ready: bool,
}

/// Whether an object has all the labels of a selector; an empty selector selects nothing.
pub(crate) fn selects(selector: &Value, object: &Value) -> bool {
    selector.as_object().is_some_and(|wanted| !wanted.is_empty() && wanted.iter().all(|(key, value)| label(object, key) == value.as_str()))
}

/// The pods behind one port of a Service.
pub(crate) fn endpoints(sim: &Sim, service: &Value, port: &Value) -> Vec<Endpoint> {
    let pods = sim.store.list(PODS, namespace(service));
    let mine = pods.into_iter().filter(|pod| selects(&service["spec"]["selector"], pod) && !text(pod, "/status/podIP").is_empty() && !ended(pod));
    mine.filter_map(|pod| Some(Endpoint { port: target_port(&pod, port)?, ready: ready(&pod) && !deleting(&pod), pod })).collect()
}

fn ended(pod: &Value) -> bool {
    matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
}

/// The pod's own port behind a Service port: by number, by name, or the same.
fn target_port(pod: &Value, port: &Value) -> Option<u16> {
    let number = |value: &Value| value.as_u64().and_then(|n| u16::try_from(n).ok());
    match &port["targetPort"] {
        Value::String(named) => {
            let containers = list(pod, "/spec/containers").iter().chain(list(pod, "/spec/initContainers"));
            let found = containers.flat_map(|c| list(c, "/ports")).find(|p| text(p, "/name") == named).and_then(|p| number(&p["containerPort"]));
            found.or_else(|| named.parse().ok())
        }
        Value::Number(_) => number(&port["targetPort"]),
        _ => number(&port["port"]),
    }
}

pub(super) fn reconcile(sim: &Sim) -> Option<Instant> {
    for service in sim.store.list(SERVICES, "").iter().filter(|s| !deleting(s) && s["spec"]["selector"].is_object()) {
        write_slice(sim, service);
        write_endpoints(sim, service);
    }
    for budget in sim.store.list(BUDGETS, "").iter().filter(|b| !deleting(b)) {
        write_budget(sim, budget);
    }
    None
}

fn ports(service: &Value) -> &[Value] {
    list(service, "/spec/ports")
}

fn write_slice(sim: &Sim, service: &Value) {
    let behind = ports(service).first().map(|port| endpoints(sim, service, port)).unwrap_or_default();
    let addresses: Vec<Value> = behind
        .iter()
        .map(|endpoint| {
            let pod = &endpoint.pod;
            json!({
                "addresses": [text(pod, "/status/podIP")], "nodeName": text(pod, "/spec/nodeName"), "zone": zone(sim, text(pod, "/spec/nodeName")),
                "conditions": {"ready": endpoint.ready, "serving": ready(pod), "terminating": deleting(pod)},
                "targetRef": {"kind": "Pod", "namespace": namespace(pod), "name": name(pod), "uid": uid(pod)},
            })
        })
        .collect();
    let numbers: Vec<Value> = ports(service)
        .iter()
        .map(|port| {
            let first = endpoints(sim, service, port).first().map(|endpoint| endpoint.port);
            json!({"name": text(port, "/name"), "protocol": protocol(port), "port": first})
        })
        .collect();
    let numbers: Vec<Value> = if behind.is_empty() { Vec::new() } else { numbers };
    let slices = sim.store.list(ENDPOINT_SLICES, namespace(service));
    let mine =
        slices.iter().find(|slice| label(slice, "kubernetes.io/service-name") == Some(name(service)) && pods::controlled_by(slice, uid(service)));
    let content = |slice: &mut Value| {
        slice["endpoints"] = addresses.clone().into();
        slice["ports"] = numbers.clone().into();
    };
    match mine {
        Some(slice) if slice["endpoints"] == json!(addresses) && slice["ports"] == json!(numbers) => {}
        // the next look tries again
        Some(slice) => drop(sim.store.modify(ENDPOINT_SLICES, namespace(slice), name(slice), content)),
        None => {
            let mut slice = json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {
                    "name": format!("{}-{}", name(service), suffix(5)), "namespace": namespace(service), "ownerReferences": [pods::reference(service)],
                    "labels": {"kubernetes.io/service-name": name(service), "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"},
                },
            });
            content(&mut slice);
            drop(sim.store.create(ENDPOINT_SLICES, slice));
        }
    }
}

fn protocol(port: &Value) -> &str {
    let protocol = text(port, "/protocol");
    if protocol.is_empty() { "TCP" } else { protocol }
}

fn zone(sim: &Sim, node: &str) -> String {
    let node = sim.store.get(super::NODES, "", node);
    node.and_then(|node| label(&node, "topology.kubernetes.io/zone").map(str::to_owned)).unwrap_or_default()
}

fn write_endpoints(sim: &Sim, service: &Value) {
    let Some(first) = ports(service).first() else { return };
    let behind = endpoints(sim, service, first);
    let address = |endpoint: &Endpoint| {
        let pod = &endpoint.pod;
        json!({"ip": text(pod, "/status/podIP"), "nodeName": text(pod, "/spec/nodeName"), "targetRef": {"kind": "Pod", "namespace": namespace(pod), "name": name(pod), "uid": uid(pod)}})
    };
    let part = |wanted: bool| behind.iter().filter(|e| e.ready == wanted && !deleting(&e.pod)).map(address).collect::<Vec<_>>();
    let mut subset = json!({});
    for (key, addresses) in [("addresses", part(true)), ("notReadyAddresses", part(false))] {
        if !addresses.is_empty() {
            subset[key] = addresses.into();
        }
    }
    let empty = subset.as_object().is_some_and(serde_json::Map::is_empty);
    let numbers = ports(service).iter().filter_map(|port| {
        let number = endpoints(sim, service, port).first()?.port;
        Some(json!({"name": text(port, "/name"), "port": number, "protocol": protocol(port)}))
    });
    subset["ports"] = numbers.collect();
    let subsets = if empty { json!([]) } else { json!([subset]) };
    match sim.store.get(ENDPOINTS, namespace(service), name(service)) {
        Some(old) if old["subsets"] == subsets => {}
        // the next look tries again
        Some(_) => drop(sim.store.modify(ENDPOINTS, namespace(service), name(service), |e| e["subsets"] = subsets.clone())),
        None => {
            let object = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": name(service), "namespace": namespace(service), "ownerReferences": [pods::reference(service)]}, "subsets": subsets});
            drop(sim.store.create(ENDPOINTS, object));
        }
    }
}

/// The status of a PodDisruptionBudget.
fn write_budget(sim: &Sim, budget: &Value) {
    let pods = sim.store.list(PODS, namespace(budget));
    let mine: Vec<_> = pods.iter().filter(|pod| selects(&budget["spec"]["selector"]["matchLabels"], pod) && !ended(pod)).collect();
    let total = i64::try_from(mine.len()).unwrap_or(0);
    let healthy = i64::try_from(mine.iter().filter(|pod| ready(pod)).count()).unwrap_or(0);
    let share = |value: &Value| {
        value.as_i64().or_else(|| value.as_str()?.trim_end_matches('%').parse::<i64>().ok().map(|percent| (total * percent + 99) / 100))
    };
    let desired = match (share(&budget["spec"]["minAvailable"]), share(&budget["spec"]["maxUnavailable"])) {
        (Some(least), _) => least,
        (None, Some(most)) => total - most,
        (None, None) => total,
    }
    .max(0);
    let allowed = (healthy - desired).max(0);
    let (word, reason) = if allowed > 0 { (true, "SufficientPods") } else { (false, "InsufficientPods") };
    let condition = pods::condition(sim, list(budget, "/status/conditions"), "DisruptionAllowed", word, reason, "", false);
    let status = json!({
        "observedGeneration": number(budget, "/metadata/generation").unwrap_or(1), "disruptionsAllowed": allowed, "currentHealthy": healthy,
        "desiredHealthy": desired, "expectedPods": total, "conditions": [condition],
    });
    pods::write_status(sim, BUDGETS, budget, status);
}
