//! The way in: load balancer listeners on loopback ports, the nodes' ports behind them, Envoy, and the applications.

mod alb;
pub(super) mod app;
mod envoy;
mod forward;
mod listen;
mod plain;
mod routes;
mod upstream;

use serde_json::Value;

pub(super) use alb::{Door, by_name as balancer_request};
pub(super) use app::{Refused, Reply};
pub(super) use forward::forward;
pub(super) use listen::serve;
pub(super) use plain::{Plain, is_node, plain_request};

use super::controllers::{SERVICES, endpoints};
use super::sim::Sim;
use super::store::meta::{label, list, text};

/// One request on its way.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub method: String,
    /// As the Host header gives it, with its port.
    pub host: String,
    /// Path and query.
    pub path: String,
    pub secure: bool,
}

/// What a port of a node answers: kube-proxy leads it to a pod of the Service with that node port.
///
/// # Errors
/// When no Service has the port or no pod is ready behind it: the connection is refused.
pub(super) fn node_request(sim: &Sim, node_port: u16, ask: &Ask) -> Result<Reply, Refused> {
    for service in sim.store.list(SERVICES, "") {
        if let Some(port) = list(&service, "/spec/ports").iter().find(|port| port["nodePort"].as_u64() == Some(node_port.into())) {
            return service_request(sim, &service, port, ask);
        }
    }
    Err(Refused)
}

fn service_request(sim: &Sim, service: &Value, port: &Value, ask: &Ask) -> Result<Reply, Refused> {
    let ready: Vec<_> = endpoints(sim, service, port).into_iter().filter(|endpoint| endpoint.ready).collect();
    let count = next_request(sim);
    let chosen = ready.get(usize::try_from(count).unwrap_or(0) % ready.len().max(1)).ok_or(Refused)?;
    let pod = &chosen.pod;
    if list(pod, "/spec/containers").iter().any(|c| text(c, "/name") == "istio-proxy") && label(pod, "security.istio.io/tlsMode").is_none() {
        if chosen.port == 15021 {
            return Ok(if ask.path.split('?').next() == Some("/healthz/ready") { Reply::empty(200) } else { Reply::empty(404) });
        }
        let number = port["port"].as_u64().and_then(|n| u16::try_from(n).ok()).unwrap_or_default();
        return envoy::answer(sim, pod, number, ask);
    }
    app::answer(sim, pod, chosen.port, &ask.path)
}

/// Counts requests, so that they go round among equals.
fn next_request(sim: &Sim) -> u64 {
    let mut mesh = sim.mesh();
    mesh.requests += 1;
    mesh.requests
}
