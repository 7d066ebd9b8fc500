//! The load balancer's data plane: rules, targets, and the answers it gives itself.

use std::time::Duration;

use super::app::{Refused, Reply};
use super::{Ask, node_request};
use crate::sandbox::aws::state::{Action, Listener};
use crate::sandbox::sim::Sim;
use crate::sandbox::world::wild;

/// How long the load balancer waits for a connection here; AWS waits 10 s.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1500);

/// What the load balancer answers on a listener's port; `None` when none listens there.
pub(super) fn answer(sim: &Sim, port: u16, ask: &Ask) -> Option<Reply> {
    let listener = listener(sim, port)?;
    let path = ask.path.split('?').next().unwrap_or_default();
    let host = ask.host.rsplit_once(':').map_or(ask.host.as_str(), |(host, _)| host).to_ascii_lowercase();
    let mut rules: Vec<_> = listener.rules.iter().collect();
    rules.sort_by_key(|rule| rule.priority);
    let hit = rules.into_iter().find(|rule| {
        let host_ok = rule.hosts.is_empty() || rule.hosts.iter().any(|pattern| wild(&pattern.to_ascii_lowercase(), &host));
        host_ok && (rule.paths.is_empty() || rule.paths.iter().any(|pattern| wild(pattern, path)))
    });
    Some(match hit.map_or(&listener.default, |rule| &rule.action) {
        Action::Fixed { status, content_type, body } => own(*status, content_type, body),
        Action::Redirect { protocol, host: to, port, path, query, status } => {
            redirect(ask, &host, [protocol, to, port, path, query], *status, &listener)
        }
        Action::Forward { target_group } => forward(sim, target_group, ask),
    })
}

/// What is behind a name, asked from inside the VPC.
pub(in crate::sandbox) enum Door {
    Open(Reply),
    /// A load balancer without a listener on that port.
    Closed,
    /// A load balancer that is not in the DNS.
    Unnamed,
    /// No load balancer's name.
    Another,
}

/// A request to a load balancer by its name.
pub(in crate::sandbox) fn by_name(sim: &Sim, name: &str, port: u16, ask: &Ask) -> Door {
    let told = sim.world.dns.names.iter().find(|(pattern, _)| wild(pattern, name)).map(|(_, addresses)| !addresses.is_empty());
    let named = {
        let state = sim.aws.state();
        let known = state.load_balancers.iter().find(|lb| lb.dns_name.eq_ignore_ascii_case(name));
        known.map(|lb| lb.serves(&sim.world) && told.unwrap_or_else(|| lb.named(&sim.world)))
    };
    match named {
        None => Door::Another,
        Some(false) => Door::Unnamed,
        Some(true) => answer(sim, port, ask).map_or(Door::Closed, Door::Open),
    }
}

/// The listener on a port of a load balancer that serves now.
pub(super) fn listener(sim: &Sim, port: u16) -> Option<Listener> {
    let state = sim.aws.state();
    let serving = state.load_balancers.iter().filter(|lb| lb.serves(&sim.world));
    serving.flat_map(|lb| &lb.listeners).find(|listener| listener.port == port).cloned()
}

fn own(status: u16, kind: &str, body: &str) -> Reply {
    Reply::new(status, kind, body).with("server", "awselb/2.0")
}

fn page(status: u16, title: &str) -> Reply {
    let body = format!("<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n</body>\r\n</html>\r\n");
    own(status, "text/html", &body)
}

fn redirect(ask: &Ask, host: &str, [protocol, to, port, path, query]: [&String; 5], status: u16, listener: &Listener) -> Reply {
    let (own_path, own_query) = ask.path.split_once('?').unwrap_or((&ask.path, ""));
    let fill = |text: &str| {
        text.replace("#{protocol}", &listener.protocol.to_lowercase())
            .replace("#{host}", host)
            .replace("#{port}", &listener.port.to_string())
            .replace("#{path}", own_path.trim_start_matches('/'))
            .replace("#{query}", own_query)
    };
    let query = fill(query);
    let query = if query.is_empty() { query } else { format!("?{query}") };
    let location = format!("{}://{}:{}{}{query}", fill(protocol).to_lowercase(), fill(to), fill(port), fill(path));
    page(status, "301 Moved Permanently").with("location", location)
}

fn forward(sim: &Sim, target_group: &str, ask: &Ask) -> Reply {
    let port = {
        let state = sim.aws.state();
        let targets = state.target_group(target_group).map(|group| group.targets.clone()).unwrap_or_default();
        let healthy: Vec<_> = targets.iter().filter(|target| target.health.state == "healthy").collect();
        // with no healthy target at all, every target gets requests
        healthy.first().copied().or(targets.first()).map(|target| target.port)
    };
    let Some(port) = port else { return page(503, "503 Service Temporarily Unavailable") };
    if sim.world.aws.targets.blocked {
        let mut reply = page(504, "504 Gateway Time-out");
        reply.delay = CONNECT_TIMEOUT;
        return reply;
    }
    match node_request(sim, port, ask) {
        Ok(reply) => reply,
        Err(Refused) => page(502, "502 Bad Gateway"),
    }
}
