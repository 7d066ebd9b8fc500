//! Which route a request takes at the gateway, from the Gateways and VirtualServices as they are stored. Pure functions.

use serde_json::Value;

use crate::sandbox::store::meta::{list, name, namespace, text};

/// Where a request goes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Way {
    /// A weighted choice of `host`, `port` (absent: the Service's only one) and weight, and how the path is rewritten.
    To {
        destinations: Vec<Destination>,
        path: String,
    },
    Redirect {
        location: String,
        status: u16,
    },
    Direct {
        status: u16,
        body: String,
    },
    /// No virtual host, or none of its routes matches.
    NotFound,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    /// In full: `svc.ns.svc.cluster.local`.
    pub host: String,
    pub port: Option<u16>,
    pub weight: u64,
}

/// Whether a host pattern (`*`, `*.suffix` or exact) covers a host.
pub(super) fn covers(pattern: &str, host: &str) -> bool {
    let (pattern, host) = (pattern.to_ascii_lowercase(), host.to_ascii_lowercase());
    match pattern.strip_prefix('*') {
        Some(suffix) => host.ends_with(suffix) && (suffix.is_empty() || host.len() > suffix.len()),
        None => pattern == host,
    }
}

/// The hosts a Gateway's server allows to a VirtualService of this namespace: its `ns/host` entries without what does not apply.
fn allowed<'a>(server: &'a Value, gateway_ns: &'a str, ns: &'a str) -> impl Iterator<Item = &'a str> {
    list(server, "/hosts").iter().filter_map(Value::as_str).filter_map(move |entry| match entry.split_once('/') {
        None => Some(entry),
        Some(("*", host)) => Some(host),
        Some((".", host)) => (gateway_ns == ns).then_some(host),
        Some((wanted, host)) => (wanted == ns).then_some(host),
    })
}

/// The servers of Gateways for a port, with their Gateway.
pub(super) fn servers<'a>(gateways: &[&'a Value], port: u16) -> Vec<(&'a Value, &'a Value)> {
    let on_port = |server: &&Value| server["port"]["number"].as_u64() == Some(port.into());
    gateways.iter().flat_map(|gateway| list(gateway, "/spec/servers").iter().filter(on_port).map(move |server| (*gateway, server))).collect()
}

fn binds(service: &Value, gateway: &Value) -> bool {
    let full = format!("{}/{}", namespace(gateway), name(gateway));
    list(service, "/spec/gateways")
        .iter()
        .filter_map(Value::as_str)
        .any(|own| own == full || (own == name(gateway) && namespace(service) == namespace(gateway)))
}

/// One virtual host's routes from one VirtualService: everything after a catch-all is dropped.
struct Rule<'a> {
    service: &'a Value,
    http: &'a Value,
    matcher: Option<&'a Value>,
}

impl Rule<'_> {
    fn catch_all(&self) -> bool {
        self.matcher.is_none_or(|m| {
            let uri_only = m.as_object().is_some_and(|m| m.keys().all(|key| key == "uri" || key == "name" || key == "gateways"));
            uri_only && (m["uri"].is_null() || text(m, "/uri/prefix") == "/")
        })
    }

    fn matches(&self, method: &str, path: &str) -> bool {
        let Some(m) = self.matcher else { return true };
        let string = |wanted: &Value, got: &str| {
            wanted.is_null()
                || wanted["exact"].as_str().is_some_and(|exact| exact == got)
                || wanted["prefix"].as_str().is_some_and(|prefix| got.starts_with(prefix))
                || wanted["regex"]
                    .as_str()
                    .and_then(|regex| regex::Regex::new(&format!("^(?:{regex})$")).ok())
                    .is_some_and(|regex| regex.is_match(got))
        };
        // a match on headers or queries is not played: it does not match
        let known = m.as_object().is_some_and(|m| m.keys().all(|key| ["uri", "method", "name", "gateways"].contains(&key.as_str())));
        known && string(&m["uri"], path) && string(&m["method"], method)
    }
}

/// The route of a request at the given servers. `services` are all VirtualServices, the oldest first.
pub(super) fn find(servers: &[(&Value, &Value)], services: &[&Value], method: &str, host: &str, path: &str) -> Way {
    let host = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit())).map_or(host, |(host, _)| host);
    let published = |service: &Value, own: &str| {
        servers.iter().any(|(gateway, server)| {
            binds(service, gateway) && allowed(server, namespace(gateway), namespace(service)).any(|limit| covers(limit, own) || covers(own, limit))
        })
    };
    let mut hosts: Vec<(&str, &Value)> = Vec::new();
    for service in services {
        let own = list(service, "/spec/hosts").iter().filter_map(Value::as_str);
        hosts.extend(own.filter(|own| covers(own, host) && published(service, own)).map(|own| (own, *service)));
    }
    // a limit of the Gateway narrows a wildcard of the VirtualService
    hosts.retain(|(_, service)| {
        servers.iter().any(|(gateway, server)| {
            binds(service, gateway) && allowed(server, namespace(gateway), namespace(service)).any(|limit| covers(limit, host))
        })
    });
    // the exact name before wildcards, the longest wildcard first
    let Some(best) = hosts.iter().map(|(own, _)| *own).max_by_key(|own| (!own.starts_with('*'), own.len())) else { return Way::NotFound };
    let mut rules: Vec<Rule<'_>> = Vec::new();
    for (_, service) in hosts.iter().filter(|(own, _)| own.eq_ignore_ascii_case(best)) {
        'service: for http in list(service, "/spec/http") {
            let matches = list(http, "/match");
            let all: Vec<Option<&Value>> = if matches.is_empty() { vec![None] } else { matches.iter().map(Some).collect() };
            for matcher in all {
                let rule = Rule { service, http, matcher };
                let last = rule.catch_all();
                rules.push(rule);
                if last {
                    break 'service;
                }
            }
        }
    }
    let (last, first): (Vec<_>, Vec<_>) = rules.into_iter().partition(Rule::catch_all);
    let bare = path.split('?').next().unwrap_or_default();
    first.iter().chain(&last).find(|rule| rule.matches(method, bare)).map_or(Way::NotFound, |rule| way(rule, host, path))
}

fn way(rule: &Rule<'_>, host: &str, path: &str) -> Way {
    let http = rule.http;
    if http["redirect"].is_object() {
        let to = &http["redirect"];
        let or = |key: &str, other: &str| to[key].as_str().unwrap_or(other).to_owned();
        let status = to["redirectCode"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(301);
        return Way::Redirect { location: format!("{}://{}{}", or("scheme", "http"), or("authority", host), or("uri", path)), status };
    }
    if http["directResponse"].is_object() {
        let status = http["directResponse"]["status"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(200);
        return Way::Direct { status, body: text(http, "/directResponse/body/string").to_owned() };
    }
    let rewritten = http["rewrite"]["uri"].as_str().map_or_else(
        || path.to_owned(),
        |uri| {
            let prefix = rule.matcher.map(|m| text(m, "/uri/prefix")).unwrap_or_default();
            path.strip_prefix(prefix).map_or_else(|| uri.to_owned(), |rest| format!("{uri}{rest}"))
        },
    );
    let destinations = list(http, "/route").iter().map(|route| {
        let host = text(route, "/destination/host");
        let host = if host.contains('.') { host.to_owned() } else { format!("{host}.{}.svc.cluster.local", namespace(rule.service)) };
        let port = route["destination"]["port"]["number"].as_u64().and_then(|port| u16::try_from(port).ok());
        Destination { host, port, weight: route["weight"].as_u64().unwrap_or(100) }
    });
    Way::To { destinations: destinations.collect(), path: rewritten }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn gateway(hosts: Value) -> Value {
        json!({"metadata": {"name": "gateway", "namespace": "istio-system"}, "spec": {"servers": [{"port": {"number": 80}, "hosts": hosts}]}})
    }

    fn service(name: &str, hosts: Value, http: Value) -> Value {
        json!({"metadata": {"name": name, "namespace": "istio-system"}, "spec": {"hosts": hosts, "gateways": ["istio-system/gateway"], "http": http}})
    }

    fn to(prefix: &str, host: &str) -> Value {
        json!({"match": [{"uri": {"prefix": prefix}}], "route": [{"destination": {"host": host, "port": {"number": 80}}}]})
    }

    fn goes(gateways: &[Value], services: &[Value], host: &str, path: &str) -> String {
        let gateways: Vec<&Value> = gateways.iter().collect();
        let services: Vec<&Value> = services.iter().collect();
        match find(&servers(&gateways, 80), &services, "GET", host, path) {
            Way::To { destinations, .. } => destinations[0].host.clone(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn the_host_must_be_in_the_gateway_and_in_the_virtual_service() {
        let services = [service("a", json!(["app1.public.domain", "other.domain"]), json!([to("/", "app1.prod.svc.cluster.local")]))];
        let narrow = [gateway(json!(["*.public.domain"]))];
        assert_eq!(goes(&narrow, &services, "app1.public.domain", "/"), "app1.prod.svc.cluster.local");
        assert_eq!(goes(&narrow, &services, "APP1.public.domain:80", "/"), "app1.prod.svc.cluster.local");
        assert_eq!(goes(&narrow, &services, "other.domain", "/"), "NotFound");
        assert_eq!(goes(&narrow, &services, "app2.public.domain", "/"), "NotFound");
        assert_eq!(goes(&[gateway(json!(["*"]))], &services, "other.domain", "/"), "app1.prod.svc.cluster.local");
        assert_eq!(goes(&[gateway(json!(["prod/*"]))], &services, "other.domain", "/"), "NotFound");
    }

    #[test]
    fn a_catch_all_drops_what_follows_in_its_own_object_only() {
        let wide = [gateway(json!(["*"]))];
        let dropped = [service("a", json!(["x"]), json!([to("/", "root.n.svc.cluster.local"), to("/api", "api.n.svc.cluster.local")]))];
        assert_eq!(goes(&wide, &dropped, "x", "/api"), "root.n.svc.cluster.local");
        let two = [
            service("a", json!(["x"]), json!([to("/", "root.n.svc.cluster.local")])),
            service("b", json!(["x"]), json!([to("/api", "api.n.svc.cluster.local")])),
        ];
        assert_eq!(goes(&wide, &two, "x", "/apiary"), "api.n.svc.cluster.local");
        assert_eq!(goes(&wide, &two, "x", "/"), "root.n.svc.cluster.local");
    }

    #[test]
    fn the_older_object_wins_and_short_names_belong_to_the_object() {
        let wide = [gateway(json!(["*"]))];
        let both = [service("a", json!(["x"]), json!([to("/", "app")])), service("b", json!(["x"]), json!([to("/", "other")]))];
        assert_eq!(goes(&wide, &both, "x", "/"), "app.istio-system.svc.cluster.local");
    }

    #[test]
    fn an_exact_host_comes_before_a_wildcard() {
        let wide = [gateway(json!(["*"]))];
        let both = [
            service("a", json!(["*.d"]), json!([to("/", "w.n.svc.cluster.local")])),
            service("b", json!(["x.d"]), json!([to("/", "e.n.svc.cluster.local")])),
        ];
        assert_eq!(goes(&wide, &both, "x.d", "/"), "e.n.svc.cluster.local");
        assert_eq!(goes(&wide, &both, "y.d", "/"), "w.n.svc.cluster.local");
    }
}
