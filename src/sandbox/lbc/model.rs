//! From Ingresses to the load balancer they ask for, or the controller's own words why that cannot be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::class::annotation;
use super::{Failure, Stack, names};
use crate::sandbox::aws::state::{HealthCheck, Subnet, Tags};
use crate::sandbox::controllers::SERVICES;
use crate::sandbox::sim::Sim;
use crate::sandbox::store::meta::{list, name, namespace, text, uid};

/// The controller's own choice where an Ingress has none.
const POLICY: &str = "ELBSecurityPolicy-2016-08";

/// A load balancer as it shall be.
pub(super) struct Model {
    pub stack: String,
    pub group: Option<String>,
    pub name: String,
    pub scheme: String,
    pub subnets: Vec<Subnet>,
    pub listeners: Vec<ListenerModel>,
    pub groups: Vec<GroupModel>,
    pub attributes: BTreeMap<String, String>,
    pub tags: Tags,
}

pub(super) struct ListenerModel {
    pub port: u16,
    pub protocol: String,
    pub certificates: Vec<String>,
    pub policy: String,
    /// The port that HTTP is redirected to.
    pub redirect: Option<u16>,
    pub rules: Vec<RuleModel>,
    /// The name of the target group or the fixed answer behind `defaultBackend`.
    pub default: Option<Backend>,
}

pub(super) struct RuleModel {
    pub hosts: Vec<String>,
    pub paths: Vec<String>,
    pub backend: Backend,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Backend {
    /// Name of a target group of this model.
    Group(String),
    /// The Service is missing.
    Missing,
    Redirect {
        status: u16,
        port: String,
        protocol: String,
    },
    Fixed {
        status: u16,
        body: String,
        content_type: String,
    },
    /// The named action is missing.
    NoAction,
}

/// A target group and the binding that fills it.
pub(super) struct GroupModel {
    pub name: String,
    pub namespace: String,
    pub service: String,
    /// The Service port as the Ingress names it.
    pub service_port: Value,
    pub port: u16,
    pub protocol: String,
    pub target_type: String,
    pub check: HealthCheck,
    /// Tag `ingress.k8s.aws/resource`.
    pub resource: String,
}

fn failed(message: impl std::fmt::Display) -> Failure {
    Failure { reason: "FailedBuildModel", message: format!("Failed build model due to {message}") }
}

/// A failure that is one Ingress's own.
fn of(ingress: &Value, why: &str) -> Failure {
    failed(format_args!("ingress: {}/{}: {why}", namespace(ingress), name(ingress)))
}

/// The model of a stack.
///
/// # Errors
/// FailedBuildModel with the controller's words.
pub(super) fn build(sim: &Sim, stack: &Stack, members: &[Arc<Value>]) -> Result<Model, Failure> {
    let first = |key: &str| members.iter().find_map(|member| annotation(member, key));
    let listeners = listeners(sim, members)?;
    let schemes: BTreeSet<&str> = members.iter().filter_map(|member| annotation(member, "scheme")).collect();
    if schemes.len() > 1 {
        let listed = schemes.iter().map(|scheme| format!("{scheme}:{{}}")).collect::<Vec<_>>().join(" ");
        return Err(failed(format_args!("conflicting scheme: map[{listed}]")));
    }
    let scheme = first("scheme").unwrap_or("internal").to_owned();
    if scheme != "internet-facing" && scheme != "internal" {
        return Err(failed(format_args!("unknown scheme: {scheme}")));
    }
    if let Some(unknown) = first("security-groups").and_then(|wanted| unknown_group(sim, wanted)) {
        let error = format!(
            "operation error EC2: DescribeSecurityGroups, https response error StatusCode: 400, RequestID: {}, api error InvalidGroup.NotFound: The security group '{unknown}' does not exist",
            crate::sandbox::store::meta::new_uid()
        );
        return Err(failed(format_args!("couldn't find all security groups: {error}")));
    }
    let mut model = Model {
        name: first("load-balancer-name")
            .map_or_else(|| names::load_balancer(&sim.world.cluster.name, &stack.id, stack.group.as_deref(), &scheme), str::to_owned),
        stack: stack.id.clone(),
        group: stack.group.clone(),
        subnets: subnets(sim, first("subnets"), &scheme)?,
        scheme,
        listeners,
        groups: Vec::new(),
        attributes: pairs(first("load-balancer-attributes").unwrap_or_default()),
        tags: pairs(first("tags").unwrap_or_default()),
    };
    for member in members {
        add(sim, &mut model, member).map_err(|why| of(member, &why))?;
    }
    let redirect = first("ssl-redirect").and_then(|port| port.parse().ok());
    if let Some(port) = redirect {
        match model.listeners.iter().find(|listener| listener.port == port) {
            None => return Err(failed(format_args!("listener does not exist for SSLRedirect port: {port}"))),
            Some(listener) if listener.protocol != "HTTPS" => {
                return Err(failed(format_args!("listener protocol non-SSL for SSLRedirect port: {port}")));
            }
            Some(_) => model.listeners.iter_mut().filter(|listener| listener.protocol == "HTTP").for_each(|listener| listener.redirect = Some(port)),
        }
    }
    Ok(model)
}

/// The first security group of a list that the account does not have.
fn unknown_group<'a>(sim: &Sim, wanted: &'a str) -> Option<&'a str> {
    let state = sim.aws.state();
    wanted.split(',').map(str::trim).find(|id| id.starts_with("sg-") && !state.security_groups.iter().any(|group| group.id == **id))
}

fn subnets(sim: &Sim, wanted: Option<&str>, scheme: &str) -> Result<Vec<Subnet>, Failure> {
    let state = sim.aws.state();
    let chosen: Vec<Subnet> = match wanted {
        Some(wanted) => {
            let ids: Vec<&str> = wanted.split(',').map(str::trim).collect();
            if let Some(unknown) = ids.iter().find(|id| !state.subnets.iter().any(|subnet| subnet.id == **id)) {
                let error = format!(
                    "operation error EC2: DescribeSubnets, https response error StatusCode: 400, RequestID: {}, api error InvalidSubnetID.NotFound: The subnet ID '{unknown}' does not exist",
                    crate::sandbox::store::meta::new_uid()
                );
                return Err(failed(format_args!("failed to list subnets by names or IDs: {error}")));
            }
            state.subnets.iter().filter(|subnet| ids.contains(&subnet.id.as_str())).cloned().collect()
        }
        None if scheme == "internal" => state.subnets.iter().filter(|subnet| subnet.internal).cloned().collect(),
        None => state.subnets.iter().filter(|subnet| subnet.tagged).cloned().collect(),
    };
    if chosen.is_empty() {
        let evaluated = if scheme == "internal" { 0 } else { state.subnets.len() };
        return Err(failed(format_args!(
            "couldn't auto-discover subnets: unable to resolve at least one subnet. Evaluated {evaluated} subnets: {evaluated} are tagged for other clusters, and 0 have insufficient available IP addresses"
        )));
    }
    if chosen.len() < 2 {
        return Err(failed(format_args!("subnets count less than minimal required count: {} < 2", chosen.len())));
    }
    Ok(chosen)
}

/// `a=b,c=d` as a map.
fn pairs(text: &str) -> BTreeMap<String, String> {
    text.split(',').filter_map(|pair| pair.split_once('=')).map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect()
}

/// The listeners an Ingress asks for: protocol and port.
fn listen_ports(ingress: &Value, certified: bool) -> Result<Vec<(String, u16)>, String> {
    let Some(text) = annotation(ingress, "listen-ports") else {
        return Ok(if certified { vec![("HTTPS".to_owned(), 443)] } else { vec![("HTTP".to_owned(), 80)] });
    };
    let parsed: Vec<BTreeMap<String, u16>> = serde_json::from_str(text).map_err(|_| {
        let what = if text.trim().parse::<f64>().is_ok() { "number" } else { "string" };
        format!("failed to parse listen-ports configuration: `{text}`: json: cannot unmarshal {what} into Go value of type []map[string]int32")
    })?;
    let ports: Vec<(String, u16)> = parsed.into_iter().flatten().collect();
    if ports.is_empty() {
        return Err(format!("empty listen-ports configuration: `{text}`"));
    }
    match ports.iter().find(|(protocol, _)| protocol != "HTTP" && protocol != "HTTPS") {
        Some((protocol, _)) => Err(format!("listen protocol must be HTTP or HTTPS: {protocol}")),
        None => Ok(ports),
    }
}

/// The listeners that all Ingresses ask for together, without rules yet.
fn listeners(sim: &Sim, members: &[Arc<Value>]) -> Result<Vec<ListenerModel>, Failure> {
    let mut merged: Vec<(ListenerModel, String)> = Vec::new();
    for member in members {
        let who = format!("{}/{}", namespace(member), name(member));
        let named: Vec<String> =
            annotation(member, "certificate-arn").map(|arns| arns.split(',').map(|arn| arn.trim().to_owned()).collect()).unwrap_or_default();
        for (protocol, port) in listen_ports(member, !named.is_empty()).map_err(|why| of(member, &why))? {
            let certificates = match protocol.as_str() {
                "HTTPS" if named.is_empty() => certificates_by_host(sim, member).map_err(|why| of(member, &why))?,
                "HTTPS" => named.clone(),
                _ => Vec::new(),
            };
            match merged.iter_mut().find(|(listener, _)| listener.port == port) {
                Some((listener, first)) if listener.protocol != protocol => {
                    return Err(failed(format_args!(
                        "failed to merge listenPort config for port: {port}: conflicting protocol, {first}: {} | {who}: {protocol}",
                        listener.protocol
                    )));
                }
                Some((listener, _)) => listener.certificates.extend(certificates),
                None => {
                    let policy = annotation(member, "ssl-policy").unwrap_or(POLICY).to_owned();
                    let listener = ListenerModel { port, protocol, certificates, policy, redirect: None, rules: Vec::new(), default: None };
                    merged.push((listener, who.clone()));
                }
            }
        }
    }
    Ok(merged.into_iter().map(|(listener, _)| listener).collect())
}

/// The certificates that cover an Ingress's hosts, for a listener that names none.
fn certificates_by_host(sim: &Sim, ingress: &Value) -> Result<Vec<String>, String> {
    let of_rules = list(ingress, "/spec/rules").iter().filter_map(|rule| rule["host"].as_str());
    let of_tls = list(ingress, "/spec/tls").iter().flat_map(|tls| list(tls, "/hosts")).filter_map(Value::as_str);
    let covers = |domain: &str, host: &str| match domain.strip_prefix("*.") {
        Some(rest) => host.split_once('.').is_some_and(|(_, parent)| parent == rest),
        None => domain == host,
    };
    let found = of_rules.chain(of_tls).map(|host| {
        let known = sim.world.aws.certificates.iter().find(|certificate| certificate.domains.iter().any(|domain| covers(domain, host)));
        known.map(|certificate| certificate.arn.clone()).ok_or_else(|| format!("no certificate found for host: {host}"))
    });
    found.collect()
}

fn add(sim: &Sim, model: &mut Model, ingress: &Value) -> Result<(), String> {
    let certified = annotation(ingress, "certificate-arn").is_some();
    let mut rules = Vec::new();
    for rule in list(ingress, "/spec/rules") {
        let hosts: Vec<String> = rule["host"].as_str().map(str::to_owned).into_iter().collect();
        for path in list(rule, "/http/paths") {
            let backend = backend(sim, model, ingress, &path["backend"])?;
            rules.push((hosts.clone(), paths(path), backend));
        }
    }
    let default = match ingress["spec"].get("defaultBackend") {
        Some(given) => Some(backend(sim, model, ingress, given)?),
        None => None,
    };
    for (_, port) in listen_ports(ingress, certified)? {
        let rules = rules.iter().map(|(hosts, paths, backend)| RuleModel { hosts: hosts.clone(), paths: paths.clone(), backend: backend.clone() });
        for listener in model.listeners.iter_mut().filter(|listener| listener.port == port) {
            listener.rules.extend(rules.clone());
            listener.default = listener.default.take().or_else(|| default.clone());
        }
    }
    Ok(())
}

/// An Ingress path as the load balancer's patterns.
fn paths(path: &Value) -> Vec<String> {
    let own = path["path"].as_str().unwrap_or("/");
    match text(path, "/pathType") {
        "Prefix" if own == "/" => vec!["/*".to_owned()],
        "Prefix" => vec![own.trim_end_matches('/').to_owned(), format!("{}/*", own.trim_end_matches('/'))],
        _ => vec![own.to_owned()],
    }
}

fn backend(sim: &Sim, model: &mut Model, ingress: &Value, backend: &Value) -> Result<Backend, String> {
    let own = text(backend, "/service/name");
    if backend["service"]["port"]["name"] == "use-annotation" {
        return Ok(action(ingress, own));
    }
    let ns = namespace(ingress);
    let Some(service) = sim.store.get(SERVICES, ns, own) else { return Ok(Backend::Missing) };
    let wanted =
        if backend["service"]["port"]["number"].is_null() { &backend["service"]["port"]["name"] } else { &backend["service"]["port"]["number"] };
    let port = find_port(&service, wanted)?;
    // annotations of the Service come before those of the Ingress
    let setting = |key: &str| annotation(&service, key).or_else(|| annotation(ingress, key));
    let target_type = setting("target-type").unwrap_or("instance").to_owned();
    if target_type != "instance" && target_type != "ip" {
        return Err(format!("unknown targetType: {target_type}"));
    }
    let number = |port: &Value| {
        let key = if target_type == "instance" { "nodePort" } else { "targetPort" };
        port[key].as_u64().or_else(|| port["port"].as_u64().filter(|_| target_type == "ip")).and_then(|n| u16::try_from(n).ok())
    };
    let traffic =
        number(port).ok_or("TargetGroup port is empty. When using Instance targets, your service be must of type 'NodePort' or 'LoadBalancer'")?;
    let protocol = setting("backend-protocol").unwrap_or("HTTP").to_uppercase();
    let health_port = match setting("healthcheck-port").unwrap_or("traffic-port") {
        "traffic-port" => "traffic-port".to_owned(),
        digits if digits.parse::<u16>().is_ok() => digits.to_owned(),
        named => {
            let port = find_port(&service, &named.into()).map_err(|why| format!("failed to resolve healthCheckPort: {why}"))?;
            number(port).map(|n| n.to_string()).ok_or("failed to resolve healthCheckPort: port has no node port")?
        }
    };
    let seconds = |key: &str, usual: u32| setting(key).and_then(|value| value.parse().ok()).unwrap_or(usual);
    let check = HealthCheck {
        protocol: setting("healthcheck-protocol").unwrap_or(&protocol).to_uppercase(),
        port: health_port,
        path: setting("healthcheck-path").unwrap_or("/").to_owned(),
        codes: setting("success-codes").unwrap_or("200").to_owned(),
        interval: seconds("healthcheck-interval-seconds", 15),
        timeout: seconds("healthcheck-timeout-seconds", 5),
        healthy: seconds("healthy-threshold-count", 2),
        unhealthy: seconds("unhealthy-threshold-count", 2),
    };
    let identity = format!("{}/{wanted}/{target_type}/{protocol}", uid(&service));
    let group = names::target_group(&sim.world.cluster.name, &model.stack, ns, own, &identity);
    let plain = wanted.as_str().map_or_else(|| wanted.to_string(), str::to_owned);
    if !model.groups.iter().any(|known| known.name == group) {
        model.groups.push(GroupModel {
            name: group.clone(),
            namespace: ns.to_owned(),
            service: own.to_owned(),
            service_port: wanted.clone(),
            port: traffic,
            protocol,
            target_type,
            check,
            resource: format!("{ns}/{}-{own}:{plain}", name(ingress)),
        });
    }
    Ok(Backend::Group(group))
}

/// A Service's port by number or name.
pub(super) fn find_port<'a>(service: &'a Value, wanted: &Value) -> Result<&'a Value, String> {
    let found = list(service, "/spec/ports").iter().find(|port| match wanted {
        Value::String(named) => text(port, "/name") == named,
        number => port["port"] == *number,
    });
    let plain = wanted.as_str().map_or_else(|| wanted.to_string(), str::to_owned);
    found.ok_or_else(|| format!("unable to find port {plain} on service {}/{}", namespace(service), name(service)))
}

fn action(ingress: &Value, own: &str) -> Backend {
    let Some(action) = annotation(ingress, &format!("actions.{own}")).and_then(|text| serde_json::from_str::<Value>(text).ok()) else {
        return Backend::NoAction;
    };
    let field = |config: &str, key: &str| {
        let lower = format!("{}{}", key[..1].to_lowercase(), &key[1..]);
        let lower_config = format!("{}{}", config[..1].to_lowercase(), &config[1..]);
        let config = if action[config].is_object() { &action[config] } else { &action[lower_config] };
        config[key].as_str().or_else(|| config[lower].as_str()).unwrap_or_default().to_owned()
    };
    let kind = action["type"].as_str().or_else(|| action["Type"].as_str()).unwrap_or_default();
    match kind {
        "redirect" => {
            let status = field("RedirectConfig", "StatusCode").trim_start_matches("HTTP_").parse().unwrap_or(301);
            Backend::Redirect { status, port: field("RedirectConfig", "Port"), protocol: field("RedirectConfig", "Protocol") }
        }
        "fixed-response" => {
            let status = field("FixedResponseConfig", "StatusCode").parse().unwrap_or(503);
            Backend::Fixed { status, body: field("FixedResponseConfig", "MessageBody"), content_type: field("FixedResponseConfig", "ContentType") }
        }
        _ => Backend::NoAction,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ingress(key: &str, value: &str) -> Value {
        json!({"metadata": {"annotations": {format!("alb.ingress.kubernetes.io/{key}"): value}}})
    }

    #[test]
    fn listeners_default_by_certificate() {
        let ports = |ingress: &Value, certified| {
            listen_ports(ingress, certified).map(|ports| ports.iter().map(|(protocol, port)| format!("{protocol}:{port}")).collect::<Vec<_>>())
        };
        assert_eq!(ports(&json!({}), false), Ok(vec!["HTTP:80".to_owned()]));
        assert_eq!(ports(&json!({}), true), Ok(vec!["HTTPS:443".to_owned()]));
        assert_eq!(ports(&ingress("listen-ports", "[{\"HTTP\":80},{\"HTTPS\":443}]"), true), Ok(vec!["HTTP:80".to_owned(), "HTTPS:443".to_owned()]));
        assert!(
            ports(&ingress("listen-ports", "80"), false)
                .unwrap_err()
                .starts_with("failed to parse listen-ports configuration: `80`: json: cannot unmarshal number")
        );
    }

    #[test]
    fn paths_become_patterns() {
        for (path, expected) in [
            (json!({"path": "/", "pathType": "Prefix"}), vec!["/*"]),
            (json!({"path": "/api", "pathType": "Prefix"}), vec!["/api", "/api/*"]),
            (json!({"path": "/x", "pathType": "Exact"}), vec!["/x"]),
        ] {
            assert_eq!(paths(&path), expected, "{path}");
        }
    }

    #[test]
    fn a_missing_port_is_named_as_the_controller_names_it() {
        let service =
            json!({"metadata": {"name": "istio-ingressgateway", "namespace": "istio-system"}, "spec": {"ports": [{"name": "http2", "port": 80}]}});
        assert_eq!(find_port(&service, &json!(9999)), Err("unable to find port 9999 on service istio-system/istio-ingressgateway".to_owned()));
        assert!(find_port(&service, &json!("http2")).is_ok());
    }
}
