//! Envoy at the gateway: finds the route, picks a pod, and answers as Envoy does when something is in the way.

use std::sync::Arc;

use serde_json::Value;

use super::app::{Refused, Reply};
use super::routes::{self, Destination, Way};
use super::{Ask, next_request, upstream};
use crate::sandbox::controllers::{GATEWAYS, SERVICES, VIRTUAL_SERVICES, endpoints, selects};
use crate::sandbox::istio;
use crate::sandbox::kubelet::write_log;
use crate::sandbox::sim::Sim;
use crate::sandbox::store::meta::{list, name, text, uid};

/// What a log line tells beyond the answer itself.
#[derive(Default)]
pub(super) struct Told {
    pub flags: &'static str,
    pub details: String,
    pub reason: String,
    pub upstream: String,
    pub cluster: String,
}

/// The answer of a gateway pod on one of its Service's ports.
///
/// # Errors
/// When no Gateway opens that port: nothing listens.
pub(super) fn answer(sim: &Sim, pod: &Value, port: u16, ask: &Ask) -> Result<Reply, Refused> {
    let stored = by_age(sim.store.list(GATEWAYS, ""));
    let gateways: Vec<&Value> = stored.iter().map(|gateway| &**gateway).filter(|gateway| selects(&gateway["spec"]["selector"], pod)).collect();
    let servers = routes::servers(&gateways, port);
    if servers.is_empty() {
        return Err(Refused);
    }
    let stored = by_age(sim.store.list(VIRTUAL_SERVICES, ""));
    let services: Vec<&Value> = stored.iter().map(|service| &**service).collect();
    let (reply, told) = match routes::find(&servers, &services, &ask.method, &ask.host, &ask.path) {
        Way::NotFound => (Reply::empty(404), Told { flags: "NR", details: "route_not_found".to_owned(), ..Told::default() }),
        Way::Redirect { location, status } => {
            (Reply::empty(status).with("location", location), Told { flags: "-", details: "direct_response".to_owned(), ..Told::default() })
        }
        Way::Direct { status, body } => {
            (Reply::new(status, "text/plain", body), Told { flags: "-", details: "direct_response".to_owned(), ..Told::default() })
        }
        Way::To { destinations, path } => to(sim, pod, &destinations, &path),
    };
    let reply = reply.with("server", "istio-envoy");
    write_access(sim, pod, ask, &reply, &told);
    Ok(reply)
}

fn by_age(mut objects: Vec<Arc<Value>>) -> Vec<Arc<Value>> {
    objects.sort_by_key(|object| (text(object, "/metadata/creationTimestamp").to_owned(), name(object).to_owned()));
    objects
}

fn choose(destinations: &[Destination], count: u64) -> Option<&Destination> {
    let total: u64 = destinations.iter().map(|d| d.weight).sum();
    let mut point = if total == 0 { 0 } else { count % total };
    destinations.iter().find(|destination| {
        let here = point < destination.weight;
        point = point.saturating_sub(destination.weight);
        here
    })
}

fn to(sim: &Sim, gateway: &Value, destinations: &[Destination], path: &str) -> (Reply, Told) {
    let count = next_request(sim);
    let found = choose(destinations, count).and_then(|destination| {
        let mut parts = destination.host.split('.');
        let (service, ns) = (parts.next()?, parts.next()?);
        let in_cluster = destination.host == format!("{service}.{ns}.svc.cluster.local");
        let service = sim.store.get(SERVICES, ns, service).filter(|_| in_cluster)?;
        let ports = list(&service, "/spec/ports");
        let port = match destination.port {
            Some(number) => ports.iter().find(|port| port["port"].as_u64() == Some(number.into())),
            None => ports.first().filter(|_| ports.len() == 1),
        }?
        .clone();
        Some((destination, service, port))
    });
    let Some((destination, service, port)) = found else {
        return (Reply::empty(503), Told { flags: "NC", details: "cluster_not_found".to_owned(), ..Told::default() });
    };
    let cluster = format!("outbound|{}||{}", port["port"], destination.host);
    let ready: Vec<_> = endpoints(sim, &service, &port).into_iter().filter(|endpoint| endpoint.ready).collect();
    let Some(endpoint) = ready.get(usize::try_from(count).unwrap_or(0) % ready.len().max(1)) else {
        return (
            Reply::new(503, "text/plain", "no healthy upstream"),
            Told { flags: "UH", details: "no_healthy_upstream".to_owned(), cluster, ..Told::default() },
        );
    };
    let (reply, told) = upstream::ask(sim, gateway, &endpoint.pod, endpoint.port, path);
    let counted = (cluster.clone(), format!("{}:{}", text(&endpoint.pod, "/status/podIP"), endpoint.port));
    let mut mesh = sim.mesh();
    let counters = mesh.connections.entry(counted).or_default();
    counters.0 += 1;
    counters.1 += u64::from(told.flags.contains("UF"));
    drop(mesh);
    (reply, Told { cluster, upstream: format!("{}:{}", text(&endpoint.pod, "/status/podIP"), endpoint.port), ..told })
}

fn write_access(sim: &Sim, pod: &Value, ask: &Ask, reply: &Reply, told: &Told) {
    if !istio::access_log_on(sim) {
        return;
    }
    let at = sim.now();
    let or = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let request = sim.mesh().requests;
    let line = istio::access_line(
        at,
        &ask.method,
        &ask.path,
        &ask.host,
        reply.status,
        told.flags,
        &told.details,
        &told.reason,
        reply.body.len(),
        &or(&told.upstream),
        &or(&told.cluster),
        request,
    );
    write_log(sim, uid(pod), "istio-proxy", at, vec![line]);
}

/// What the admin port says of the connections to the pods.
pub(super) fn clusters(sim: &Sim) -> String {
    let mesh = sim.mesh();
    let mut lines: Vec<String> = Vec::new();
    for ((cluster, address), (made, failed)) in &mesh.connections {
        let line = |key: &str, value: &str| format!("{cluster}::{address}::{key}::{value}");
        lines.push(line("cx_connect_fail", &failed.to_string()));
        lines.push(line("cx_total", &made.to_string()));
        lines.push(line("rq_error", &failed.to_string()));
        lines.push(line("rq_success", &(made - failed).to_string()));
        lines.push(line("health_flags", "healthy"));
    }
    lines.sort();
    lines.join("\n") + "\n"
}
