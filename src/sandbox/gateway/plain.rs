//! A plain request from a pod without a sidecar to a Service: what kube-proxy, the sidecar on the other side and its policy make of it.

use serde_json::Value;

use super::app::{self, Refused, Reply};
use super::{next_request, upstream};
use crate::sandbox::controllers::{NODES, SERVICES, endpoints, selects};
use crate::sandbox::istio::SYSTEM;
use crate::sandbox::sim::Sim;
use crate::sandbox::store::meta::{label, list, name, namespace, text};

const POLICIES: &str = "peerauthentications.security.istio.io";

/// How it ends.
pub(crate) enum Plain {
    Answer(Reply),
    Refused,
    /// The sidecar takes mutual TLS only.
    Reset,
    Unresolved,
}

/// Whether an address is a node's.
pub(crate) fn is_node(sim: &Sim, address: &str) -> bool {
    sim.store.list(NODES, "").iter().any(|node| list(node, "/status/addresses").iter().any(|a| text(a, "/address") == address))
}

/// Asks a Service by its name in the cluster.
pub(crate) fn plain_request(sim: &Sim, host: &str, port: u16, path: &str) -> Plain {
    let mut parts = host.trim_end_matches('.').split('.');
    let (own, ns) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let in_cluster = matches!(parts.collect::<Vec<_>>().as_slice(), [] | ["svc"] | ["svc", "cluster", "local"]);
    let Some(service) = sim.store.get(SERVICES, ns, own).filter(|_| in_cluster) else { return Plain::Unresolved };
    let found = list(&service, "/spec/ports").iter().find(|p| p["port"].as_u64() == Some(port.into()));
    let Some(found) = found else { return Plain::Refused };
    let ready: Vec<_> = endpoints(sim, &service, found).into_iter().filter(|endpoint| endpoint.ready).collect();
    let count = usize::try_from(next_request(sim)).unwrap_or(0);
    let Some(chosen) = ready.get(count % ready.len().max(1)) else { return Plain::Refused };
    let pod = &chosen.pod;
    let sidecar = label(pod, "security.istio.io/tlsMode") == Some("istio");
    if sidecar && strict(sim, pod, chosen.port) {
        return Plain::Reset;
    }
    match app::answer(sim, pod, chosen.port, path) {
        Ok(reply) if sidecar => Plain::Answer(reply.with("server", "istio-envoy").with("x-envoy-upstream-service-time", "1")),
        Ok(reply) => Plain::Answer(reply),
        // the sidecar takes the connection and finds nobody behind it
        Err(Refused) if sidecar => Plain::Answer(upstream::nobody_listens(&sim.world.istio.envoy).with("server", "istio-envoy")),
        Err(Refused) => Plain::Refused,
    }
}

/// Whether the nearest PeerAuthentication lets only mutual TLS in.
fn strict(sim: &Sim, pod: &Value, port: u16) -> bool {
    let policies = sim.store.list(POLICIES, "");
    let selector = |policy: &Value| policy["spec"]["selector"]["matchLabels"].clone();
    let mode = |policy: &Value, pointer: &str| Some(text(policy, pointer)).filter(|mode| !mode.is_empty() && *mode != "UNSET").map(str::to_owned);
    let mine = policies.iter().filter(|policy| namespace(policy) == namespace(pod));
    let (of_workload, of_namespace): (Vec<_>, Vec<_>) = mine.partition(|policy| selector(policy).is_object());
    let of_workload = of_workload.into_iter().find(|policy| selects(&selector(policy), pod));
    let by_port = of_workload.and_then(|policy| mode(policy, &format!("/spec/portLevelMtls/{port}/mode")));
    let of_mesh = policies.iter().filter(|policy| namespace(policy) == SYSTEM && !selector(policy).is_object());
    let oldest = |policies: Vec<_>| -> Option<String> {
        let mut policies: Vec<&std::sync::Arc<Value>> = policies;
        policies.sort_by_key(|policy| (text(policy, "/metadata/creationTimestamp").to_owned(), name(policy).to_owned()));
        policies.first().and_then(|policy| mode(policy, "/spec/mtls/mode"))
    };
    let whole =
        || of_workload.and_then(|policy| mode(policy, "/spec/mtls/mode")).or_else(|| oldest(of_namespace)).or_else(|| oldest(of_mesh.collect()));
    by_port.or_else(whole).as_deref() == Some("STRICT")
}
