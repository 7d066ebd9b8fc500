//! What a conclusion is drawn from: the answers of a probe pod, through the load balancer, and what the cluster says of Service and gateway.

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::networking::v1::Ingress as IngressObject;
use serde_json::Value;

use super::{Troubleshoot, path};
use crate::base::fault::Result;
use crate::clients::http::NetError;
use crate::clients::kube::Cluster;
use crate::domain::certificates::{Cause, gather, judge};
use crate::domain::ingress::accepted::Seen;
use crate::domain::ingress::listeners::Listener;
use crate::domain::mesh::ready::{GATEWAY, SYSTEM};
use crate::domain::probe::Request;
use crate::domain::routes::PublicHost;
use crate::domain::troubleshoot::conclude::Connections;
use crate::domain::troubleshoot::endpoints::{self, Behind};
use crate::domain::troubleshoot::said::WITHIN;
use crate::domain::troubleshoot::{Facts, Said, mtls};
use crate::domain::verify::reach::{Tried, unreached_name};
use crate::engine::Ctx;
use crate::engine::record::Case;
use crate::stages::probe::Asking;
use crate::stages::{Shared, probe, verify};

/// What all hosts share: the gateway, the policies and the load balancer.
pub(super) struct Around {
    /// The load balancer's name and listeners, or why there is none.
    balancer: Result<(String, Vec<Listener>), String>,
    /// Where the gateway's ports are on a node, or why they cannot be asked.
    door: Result<Door, String>,
    gateways: Vec<Pod>,
    policies: Vec<Value>,
}

#[derive(Clone, Debug)]
struct Door {
    address: String,
    http: u16,
    status: Option<u16>,
}

impl Around {
    pub(super) async fn look(shared: &Shared, cluster: &Cluster) -> Result<Self> {
        let name = shared.pipeline.ingress.as_ref().map_or(GATEWAY, |i| i.service.as_str());
        let service = cluster.get::<Service>(SYSTEM, name).await?;
        let pods: Vec<Pod> = match &service {
            Some(service) => cluster.list(SYSTEM, &selector(service)).await?,
            None => Vec::new(),
        };
        let gateways: Vec<Pod> = pods.into_iter().filter(is_ready).collect();
        let nodes: Vec<Node> = cluster.list("", "").await?;
        Ok(Self {
            balancer: balancer(shared, cluster).await?,
            door: door(name, service.as_ref(), &nodes, &gateways),
            gateways,
            policies: mtls::policies(cluster).await?,
        })
    }

    /// Probes one host from all sides.
    pub(super) async fn facts(&self, ctx: &Ctx<Shared>, cluster: &Cluster, params: &Troubleshoot, host: &PublicHost, case: &Case) -> Result<Facts> {
        let PublicHost { service, namespace, port, .. } = host;
        let behind = endpoints::look(cluster, namespace, service, *port).await?;
        let (pod, lanes) = (probe::name(), [self.requests(host, &behind)]);
        case.property("probe.pod", format!("{namespace}/{pod}"));
        case.progress("a probe pod asks the Service and the gateway's node port");
        let log = probe::run(ctx, cluster, params, &Asking { pod: &pod, namespace, lanes: &lanes, cacert: None }, case).await?;
        let node = match &self.door {
            Ok(_) => Said::read(&log, "node"),
            Err(why) => Said::Unasked(why.clone()),
        };
        let plain = if behind.service_exists { Said::read(&log, "service") } else { Said::Unasked("there is no such Service".to_owned()) };
        case.progress("asking through the load balancer");
        let balancer = self.through_balancer(&ctx.shared, host).await;
        let strict = behind.strict(&self.policies, namespace, *port);
        let (connections, certificate) = self.between(cluster, host, &node).await;
        Ok(Facts {
            host: host.host.clone(),
            service: service.clone(),
            namespace: namespace.clone(),
            port: *port,
            balancer,
            node,
            status: Said::read(&log, "status"),
            plain,
            strict,
            behind,
            gateways_ready: self.gateways.len(),
            connections,
            certificate,
        })
    }

    fn requests(&self, host: &PublicHost, behind: &Behind) -> Vec<Request> {
        let path = path(host);
        let request = |name: &str, url: String| Request { name: name.to_owned(), url, within: WITHIN, ..Request::default() };
        let mut requests = Vec::new();
        if behind.service_exists {
            let url = format!("http://{}.{}.svc.cluster.local:{}{path}", host.service, host.namespace, host.port);
            requests.push(request("service", url));
        }
        if let Ok(door) = &self.door {
            let url = format!("http://{}:{}{path}", door.address, door.http);
            requests.push(Request { host: Some(host.host.clone()), ..request("node", url) });
            if let Some(status) = door.status {
                requests.push(request("status", format!("http://{}:{status}/healthz/ready", door.address)));
            }
        }
        if requests.is_empty() {
            // A pod must have something to ask: the API server's own name tells at least whether names resolve.
            requests.push(request("names", "http://kubernetes.default.svc.cluster.local:443/".to_owned()));
        }
        requests
    }

    /// As `verify` asks; at the next listener where one refuses.
    async fn through_balancer(&self, shared: &Shared, host: &PublicHost) -> Said {
        let (name, listeners) = match &self.balancer {
            Ok(found) => found,
            Err(why) => return Said::Unasked(why.clone()),
        };
        let Ok(addresses) = shared.http.resolve(name).await else { return Said::Unresolved };
        let none =
            |error: NetError| unreached_name(None, name, &addresses, Tried::of(Some(&error))).map_or_else(|| without_answer(&error), Said::Unreached);
        let mut said = Said::Refused;
        for listener in listeners {
            match verify::once(shared, *listener, &host.host, path(host), name).await {
                Ok(reply) => return Said::Answer(reply),
                Err(error) => {
                    let refused = matches!(error, NetError::Refused { .. });
                    said = none(error);
                    if !refused {
                        break;
                    }
                }
            }
        }
        said
    }

    /// Gateway pod to service pod: Envoy's own counters, and whether the certificates fit. Only asked when the gateway fails.
    async fn between(&self, cluster: &Cluster, host: &PublicHost, node: &Said) -> (Option<Connections>, Option<String>) {
        let Said::Answer(reply) = node else { return (None, None) };
        if reply.status < 500 {
            return (None, None);
        }
        let evidence = gather::evidence(cluster, &host.namespace, &host.service).await;
        let judgement = judge(reply, &evidence);
        let proven = !judgement.proof.is_empty() && !matches!(judgement.cause, Cause::Unknown);
        let certificate = proven.then(|| judgement.in_short());
        (self.connections(cluster, host).await, certificate)
    }

    async fn connections(&self, cluster: &Cluster, host: &PublicHost) -> Option<Connections> {
        let gateway = self.gateways.first()?.metadata.name.clone()?;
        let answer = cluster.port_forward_get(SYSTEM, &gateway, 15000, "localhost", "/clusters").await.ok()?;
        let cluster_name = format!("outbound|{}||{}.{}.svc.cluster.local::", host.port, host.service, host.namespace);
        counted(&answer.text(), &cluster_name)
    }
}

/// Sums the counters of one cluster in Envoy's `/clusters`; `None` when it has no pods there.
fn counted(clusters: &str, name: &str) -> Option<Connections> {
    let mut sum = Connections::default();
    for line in clusters.lines().filter_map(|line| line.strip_prefix(name)) {
        // `10.0.0.1:8080::cx_connect_fail::3`; the cluster's own settings have two parts.
        let mut parts = line.rsplitn(3, "::");
        let (value, key, pod) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default(), parts.next());
        let value: u64 = value.parse().unwrap_or(0);
        match (key, pod) {
            ("cx_total", Some(_)) => (sum.pods, sum.made) = (sum.pods + 1, sum.made + value),
            ("cx_connect_fail", Some(_)) => sum.failed += value,
            _ => {}
        }
    }
    (sum.pods > 0).then_some(sum)
}

async fn balancer(shared: &Shared, cluster: &Cluster) -> Result<Result<(String, Vec<Listener>), String>> {
    let Some(params) = &shared.pipeline.ingress else { return Ok(Err("the file has no ingress: section".to_owned())) };
    let named = format!("the Ingress {} in {}", params.name, params.namespace);
    let Some(object) = cluster.get::<IngressObject>(&params.namespace, &params.name).await? else {
        return Ok(Err(format!("{named} does not exist")));
    };
    let seen = Seen::of(&serde_json::to_value(&object).unwrap_or_default());
    Ok(seen.hostname().map(|name| (name.to_owned(), seen.listeners_to_ask())).ok_or_else(|| format!("{named} has no hostname")))
}

fn door(name: &str, service: Option<&Service>, nodes: &[Node], gateways: &[Pod]) -> Result<Door, String> {
    let spec = service.and_then(|s| s.spec.as_ref()).ok_or_else(|| format!("there is no Service {name} in {SYSTEM}"))?;
    let ports = spec.ports.as_deref().unwrap_or_default();
    let node_port = |wanted: i32| ports.iter().find(|p| p.port == wanted).and_then(|p| p.node_port).and_then(|n| u16::try_from(n).ok());
    let http = node_port(80).ok_or_else(|| format!("the Service {name} has no node port for its port 80"))?;
    // With externalTrafficPolicy Local only the nodes of gateway pods answer.
    let home = gateways.first().and_then(|pod| pod.spec.as_ref()?.node_name.clone());
    let chosen = nodes.iter().find(|n| n.metadata.name == home && home.is_some()).or_else(|| nodes.iter().find(|n| node_ready(n)));
    let addresses = chosen.and_then(|n| n.status.as_ref()).and_then(|s| s.addresses.as_deref()).unwrap_or_default();
    let internal = addresses.iter().find(|a| a.type_ == "InternalIP").ok_or("no node has an InternalIP")?;
    Ok(Door { address: internal.address.clone(), http, status: node_port(15021) })
}

fn selector(service: &Service) -> String {
    let labels = service.spec.as_ref().and_then(|s| s.selector.as_ref());
    let words: Vec<String> = labels.into_iter().flatten().map(|(key, value)| format!("{key}={value}")).collect();
    // An empty selector would mean every pod.
    if words.is_empty() { "istio=ingressgateway".to_owned() } else { words.join(",") }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none() && conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
}

fn node_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// The agent's own failure in the probes' words.
fn without_answer(error: &NetError) -> Said {
    match error {
        NetError::Dns(_) => Said::Unresolved,
        NetError::Refused { .. } => Said::Refused,
        NetError::Timeout { .. } | NetError::Unreachable { .. } => Said::Timeout,
        NetError::Reset { .. } => Said::Reset,
        NetError::Tls { .. } | NetError::Protocol(_) | NetError::Invalid(_) => Said::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_of_one_cluster_are_summed() {
        let name = "outbound|8000||app1.prod.svc.cluster.local::";
        let text = format!(
            "{name}default_priority::max_connections::4294967295\n{name}10.0.0.1:8080::cx_connect_fail::3\n{name}10.0.0.1:8080::cx_total::3\n\
             {name}10.0.0.2:8080::cx_connect_fail::0\n{name}10.0.0.2:8080::cx_total::4\n{name}10.0.0.2:8080::health_flags::healthy\n\
             outbound|8001||other.prod.svc.cluster.local::10.0.0.3:1::cx_total::9\n"
        );
        assert_eq!(counted(&text, name), Some(Connections { pods: 2, made: 7, failed: 3 }));
        assert_eq!(counted("", name), None);
    }
}
