//! Reads the answers together and says where the fault lies. Pure: each pair of answers has its line in the table of tests.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::codes::Code;
use crate::domain::troubleshoot::endpoints::Behind;
use crate::domain::troubleshoot::said::Said;
use crate::domain::verify::{Origin, Reply, TlsReason, origin};

/// Where a fault lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// There is none: the host answers.
    Nowhere,
    App,
    Service,
    Mesh,
    Gateway,
    Node,
    Balancer,
    Dns,
    Unknown,
}

impl Place {
    pub fn code(self) -> Code {
        match self {
            Place::App => Code::FaultInApp,
            Place::Service => Code::FaultInService,
            Place::Mesh => Code::FaultInMesh,
            Place::Gateway => Code::FaultInGateway,
            Place::Node => Code::FaultInNode,
            Place::Balancer => Code::FaultInBalancer,
            Place::Dns => Code::DnsUnresolved,
            Place::Nowhere | Place::Unknown => Code::FaultUnknown,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Place::Nowhere => "nowhere",
            Place::App => "in the app",
            Place::Service => "in the Service",
            Place::Mesh => "in the mesh",
            Place::Gateway => "in the gateway",
            Place::Node => "in the nodes or their security group",
            Place::Balancer => "in the load balancer",
            Place::Dns => "in the DNS",
            Place::Unknown => "where these probes do not see it",
        })
    }
}

/// Everything that was seen of one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    pub host: String,
    pub service: String,
    pub namespace: String,
    pub port: u16,
    /// Through the load balancer, from where this tool runs.
    pub balancer: Said,
    /// The gateway's node port, from inside, with the host's name.
    pub node: Said,
    /// The gateway's status port on the same node.
    pub status: Said,
    /// The Service, from a pod without a sidecar.
    pub plain: Said,
    /// The PeerAuthentication that makes such a plain request meaningless.
    pub strict: Option<String>,
    pub behind: Behind,
    pub gateways_ready: usize,
    /// What the gateway's Envoy says of its connections to the pods, where it says something.
    pub connections: Option<Connections>,
    /// What proves that a certificate is behind it.
    pub certificate: Option<String>,
}

/// The gateway's own counters for the pods of the Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    pub pods: usize,
    pub made: u64,
    pub failed: u64,
}

/// What follows from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Conclusion {
    pub place: Place,
    pub words: String,
    pub next: Vec<String>,
}

fn at(place: Place, words: impl Into<String>, next: impl IntoIterator<Item = String>) -> Conclusion {
    Conclusion { place, words: words.into(), next: next.into_iter().collect() }
}

/// Did the service itself answer, and not with an error of its own?
fn served(said: &Said) -> bool {
    match said {
        Said::Answer(reply) => match origin(reply) {
            Origin::Service => reply.status < 500,
            Origin::GatewayRedirect { .. } | Origin::AlbRedirect { .. } => true,
            Origin::Other => reply.status < 400,
            _ => false,
        },
        _ => false,
    }
}

pub fn conclude(facts: &Facts) -> Conclusion {
    if served(&facts.balancer) {
        return at(Place::Nowhere, format!("{} answers through the load balancer: {}", facts.host, facts.balancer.words()), []);
    }
    if served(&facts.node) {
        return outside(facts);
    }
    match &facts.node {
        Said::Answer(reply) => inside(facts, reply),
        Said::Unasked(_) if facts.gateways_ready == 0 => no_gateway(),
        Said::Refused | Said::Reset | Said::Timeout => at_the_door(facts),
        Said::Unresolved | Said::Failed(_) | Said::Unreached(_) | Said::Unasked(_) => {
            let next = "run `meshstep troubleshoot` again; read the probe's own words above";
            at(Place::Unknown, format!("the gateway's node port could not be asked: {}", facts.node.words()), [next.to_owned()])
        }
    }
}

/// Inside all is well: it is between the caller and the nodes.
fn outside(facts: &Facts) -> Conclusion {
    let inside = "the gateway's node port answers it inside the cluster";
    let targets = "`aws elbv2 describe-target-health` for its target group; `meshstep ingress` waits link by link".to_owned();
    match &facts.balancer {
        Said::Unresolved => at(
            Place::Dns,
            format!("{inside}, but the load balancer's name does not resolve here"),
            ["check the agent's resolver; a new load balancer's name takes a minute; a deleted one's is gone".to_owned()],
        ),
        Said::Unasked(why) => at(Place::Balancer, format!("{inside}, and there is no load balancer to ask: {why}"), ["`meshstep ingress` says which link is missing".to_owned()]),
        Said::Refused => at(
            Place::Balancer,
            format!("{inside}, but the load balancer refuses the connection: it has no listener there"),
            ["check `alb.ingress.kubernetes.io/listen-ports`".to_owned()],
        ),
        Said::Timeout | Said::Reset => at(
            Place::Balancer,
            format!("{inside}, but the load balancer gives no answer to this agent ({})", facts.balancer.words()),
            ["check the load balancer's own security group and scheme against where this agent runs".to_owned(), targets],
        ),
        Said::Unreached(why) => at(
            Place::Unknown,
            format!("{inside}; {why}"),
            ["`meshstep verify --from cluster` asks through the load balancer, too".to_owned(), targets],
        ),
        Said::Failed(why) => at(Place::Balancer, format!("{inside}, but not through the load balancer: {why}"), ["check the listener's certificate and TLS policy".to_owned()]),
        Said::Answer(reply) => match (origin(reply), reply.status) {
            (Origin::AlbNoRule, _) => at(
                Place::Balancer,
                format!("{inside}, but no rule of the load balancer matches (404 by awselb)"),
                ["check the Ingress's rules: hosts and paths".to_owned()],
            ),
            (Origin::AlbNoBackend, _) => at(
                Place::Balancer,
                format!("{inside}, but the load balancer was built without the gateway's Service (a fixed 503)"),
                ["check the Ingress's backend, then touch the Ingress so that the controller builds it again".to_owned()],
            ),
            (Origin::AlbFixed, status) => at(
                Place::Balancer,
                format!("{inside}, but a rule of the load balancer answers with a fixed response ({status})"),
                ["look for the annotation `alb.ingress.kubernetes.io/actions.*` on the Ingresses of the load balancer".to_owned()],
            ),
            (Origin::AlbNoTarget, 504) => at(
                Place::Node,
                format!("{inside}, but the load balancer's packets do not reach the nodes (504)"),
                ["let the load balancer's security group into the node port: a custom `security-groups` needs `manage-backend-security-group-rules: true`".to_owned(), targets],
            ),
            (Origin::AlbNoTarget, status) => at(
                Place::Balancer,
                format!("{inside}, but the load balancer has no target that answers ({status}): its registrations are not the nodes' ports of now"),
                ["look at the TargetGroupBinding and its events; a reinstalled gateway has other node ports".to_owned(), targets],
            ),
            (other, status) => at(
                Place::Unknown,
                format!("{inside}, but through the load balancer comes {status} {}", other.words()),
                ["ask again: it may have changed between the two requests; then compare Host header and path".to_owned()],
            ),
        },
    }
}

fn no_gateway() -> Conclusion {
    at(
        Place::Gateway,
        "no pod of the gateway is ready",
        ["`kubectl -n istio-system get pods -l istio=ingressgateway`; read their events and logs".to_owned()],
    )
}

/// The node port itself gives nothing.
fn at_the_door(facts: &Facts) -> Conclusion {
    if facts.gateways_ready == 0 {
        return no_gateway();
    }
    let status_answers = matches!(facts.status, Said::Answer(_));
    match (&facts.node, status_answers) {
        (Said::Refused, true) => at(
            Place::Gateway,
            "the gateway is up (its status port answers), but nothing listens on its port 80: no Gateway object opens it",
            ["apply the Gateway: `meshstep mesh`; its selector must be the gateway pods' labels".to_owned()],
        ),
        (Said::Reset, true) => at(
            Place::Gateway,
            "the gateway's port resets plain HTTP: its server expects TLS",
            ["make the Gateway's server on that port HTTP, or let the load balancer speak HTTPS to it (`backend-protocol`)".to_owned()],
        ),
        (Said::Timeout, true) => at(
            Place::Gateway,
            "the gateway is up, but does not answer this request in time",
            ["read the gateway's log: a route with a long timeout, or a service that hangs".to_owned()],
        ),
        (Said::Timeout, false) => at(
            Place::Node,
            "no port of the node answers inside the cluster",
            ["check the nodes' security group, network policies and kube-proxy".to_owned()],
        ),
        _ => at(
            Place::Gateway,
            format!("both ports of the gateway's Service fail on the node ({}): its node ports lead to no gateway pod", facts.node.words()),
            ["check the Service of the gateway: its type NodePort, its selector and its endpoints; then kube-proxy".to_owned()],
        ),
    }
}

/// The gateway answers, but not as it should.
fn inside(facts: &Facts, reply: &Reply) -> Conclusion {
    let Facts { service, namespace, port, behind, .. } = facts;
    let named = format!("{service} in {namespace}");
    let log = format!("`kubectl -n {namespace} logs -l {} --all-containers --tail=100`", behind.selector);
    match origin(reply) {
        Origin::Service => {
            let agrees = match &facts.plain {
                Said::Answer(plain) if plain.status == reply.status => ", and so it does when it is asked directly",
                _ => "",
            };
            at(Place::App, format!("{named} itself answers {}{agrees}: {}", reply.status, reply.gist()), [log])
        }
        Origin::Sidecar if !behind.declared => wrong_target(behind, &named),
        Origin::Sidecar => at(
            Place::App,
            format!("the request reaches the pod of {named}, but its program does not listen on {}", behind.target.unwrap_or(*port)),
            [log, "check the port that the program binds, and that it binds all addresses".to_owned()],
        ),
        Origin::NoRoute => at(
            Place::Gateway,
            format!("the gateway has no route for {}", facts.host),
            [
                "check that the host is in the VirtualService and in the Gateway's `hosts`, and that the VirtualService names that Gateway"
                    .to_owned(),
                "`meshstep routes check`, then `meshstep releases`".to_owned(),
            ],
        ),
        Origin::NoCluster | Origin::NoHealthyUpstream | Origin::Upstream { .. } => to_the_pods(facts, reply, &named),
        Origin::GatewayPolicy { what } => at(
            Place::Mesh,
            format!("{what} at the gateway refuses the request ({})", reply.status),
            ["check the policies that select the gateway".to_owned()],
        ),
        other => at(
            Place::Unknown,
            format!("the node port answers {} {}", reply.status, other.words()),
            ["compare with what the host should answer".to_owned()],
        ),
    }
}

fn wrong_target(behind: &Behind, named: &str) -> Conclusion {
    let target = behind.target.map_or("none".to_owned(), |t| t.to_string());
    at(
        Place::Service,
        format!("the Service {named} sends to port {target}, which no container of its pods declares"),
        ["correct the Service's `targetPort`".to_owned()],
    )
}

/// The gateway has a route, and fails behind it.
fn to_the_pods(facts: &Facts, reply: &Reply, named: &str) -> Conclusion {
    let Facts { service, namespace, port, behind, .. } = facts;
    if !behind.service_exists {
        return at(
            Place::Service,
            format!("there is no Service {named}"),
            ["deploy it: `meshstep deploy`; or correct the name in the route".to_owned()],
        );
    }
    if !behind.port_exists {
        return at(
            Place::Service,
            format!("the Service {named} has no port {port}, to which the route sends"),
            ["correct the route's port, or the Service's".to_owned()],
        );
    }
    if behind.selected == 0 {
        let next = format!("compare its selector ({}) with the pods' labels: `kubectl -n {namespace} get pods --show-labels`", behind.selector);
        return at(Place::Service, format!("the Service {named} selects no pod"), [next]);
    }
    if behind.ready == 0 {
        let why = behind.unready.clone().unwrap_or_default();
        return at(
            Place::App,
            format!("no pod of {named} is ready: {why}"),
            [format!("`kubectl -n {namespace} describe pods -l {}`", behind.selector)],
        );
    }
    if let Some(proof) = &facts.certificate {
        return at(
            Place::Mesh,
            format!("the gateway and the pods of {named} do not trust each other: {proof}"),
            ["`meshstep troubleshoot certificates` shows who has which root; `meshstep redeploy` is the cure of a stale one".to_owned()],
        );
    }
    let counted = match facts.connections {
        Some(c) if c.failed > 0 && c.made <= c.failed => {
            format!("; of its connections to {} {} failed", if c.pods == 1 { "the pod" } else { "the pods" }, c.failed)
        }
        _ => String::new(),
    };
    let mesh = |why: &str| {
        at(
            Place::Mesh,
            format!("the gateway cannot talk to ready pods of {named}{counted}: {why}"),
            [
                format!(
                    "compare PeerAuthentication and DestinationRule for {service}.{namespace}.svc.cluster.local; `istioctl analyze -n {namespace}`"
                ),
                "read the gateway's access log: it names the reason (needs `accessLogging`)".to_owned(),
                "`meshstep troubleshoot certificates`".to_owned(),
            ],
        )
    };
    if let Origin::Upstream { tls: Some(tls), .. } = origin(reply) {
        return mesh(match tls {
            TlsReason::Plaintext => "it speaks TLS, they do not",
            TlsReason::SanMismatch => "their certificate is for another identity",
            TlsReason::Expired => "a certificate has expired",
            TlsReason::VerifyFailed | TlsReason::Other => "TLS between them fails",
        });
    }
    match (&facts.strict, &facts.plain) {
        (None, Said::Answer(plain)) if plain.status < 500 => mesh(&format!("asked directly and without TLS they answer {}", plain.status)),
        (None, Said::Answer(_)) if !behind.declared => wrong_target(behind, named),
        (None, Said::Answer(plain)) => at(
            Place::App,
            format!("{named} itself answers {} when it is asked directly", plain.status),
            [format!("`kubectl -n {namespace} logs -l {} --tail=100`", behind.selector)],
        ),
        (None, Said::Refused) if !behind.declared => wrong_target(behind, named),
        (None, Said::Refused) => at(
            Place::App,
            format!("the program in the pods of {named} does not listen on {}", behind.target.unwrap_or(*port)),
            ["check the port that it binds, and that it binds all addresses".to_owned()],
        ),
        (None, Said::Timeout) => at(
            Place::App,
            format!("{named} does not answer within the time, not even when it is asked directly"),
            ["see what it waits for; a NetworkPolicy that drops packets looks the same".to_owned()],
        ),
        (None, Said::Unresolved) => at(
            Place::Dns,
            format!("the name of {named} does not resolve inside the cluster"),
            ["look at CoreDNS: `kubectl -n kube-system get pods -l k8s-app=kube-dns`".to_owned()],
        ),
        // The plain request says nothing: refused by policy, or not made.
        (Some(_), _) if !behind.declared => wrong_target(behind, named),
        (strict, _) => mesh(&match strict {
            Some(policy) => {
                format!("{policy} is STRICT, so a plain request proves nothing; the pods are ready, and so the TLS between them is what is left")
            }
            None => format!("asked directly: {}", facts.plain.words()),
        }),
    }
}

#[cfg(test)]
mod tests;
