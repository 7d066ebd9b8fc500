//! Link 5: target health, in words.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::codes::Code;
use crate::base::fault::Fault;
use crate::base::text;
use crate::domain::ingress::Link;

/// How long nothing may be healthy or starting. After a correction a target is healthy only when several checks in a row went well, by default
/// two, 15 s apart.
const HOPELESS: Duration = Duration::from_secs(60);

/// A target as AWS sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    pub id: String,
    pub port: i32,
    pub zone: Option<String>,
    /// `initial`, `healthy`, `unhealthy`, `unused`, `draining`, `unhealthy.draining`, `unavailable`
    pub state: String,
    /// `Target.Timeout`, …
    pub reason: Option<String>,
    pub description: Option<String>,
}

impl Target {
    fn is_starting(&self) -> bool {
        self.state == "initial" || (self.state == "unavailable" && self.reason.as_deref() != Some("Target.HealthCheckDisabled"))
    }

    /// With health checks off nothing more can be known.
    fn is_healthy(&self) -> bool {
        self.state == "healthy" || (self.state == "unavailable" && self.reason.as_deref() == Some("Target.HealthCheckDisabled"))
    }
}

/// The instance that a node is, and its zone, by `spec.providerID` (`aws:///eu-west-1a/i-0123`) and the label of the zone.
pub fn instance(provider_id: &str, zone: Option<&str>) -> Option<(String, String)> {
    let (rest, id) = provider_id.strip_prefix("aws://")?.rsplit_once('/')?;
    let zone = zone.unwrap_or(rest.trim_start_matches('/'));
    (!id.is_empty() && !zone.is_empty()).then(|| (id.to_owned(), zone.to_owned()))
}

/// What a reason means, and what helps.
pub fn reason_words(reason: &str, description: &str) -> (&'static str, &'static str) {
    let not_found = description.contains("404");
    match reason {
        "Elb.RegistrationInProgress" => ("AWS is registering it", "wait"),
        "Elb.InitialHealthChecking" => ("its first health check runs", "wait"),
        "Target.ResponseCodeMismatch" if not_found => (
            "the health check gets 404: it asks the data port instead of the status port",
            "set `alb.ingress.kubernetes.io/healthcheck-port: status-port`, `healthcheck-path: /healthz/ready` and `healthcheck-protocol: HTTP`",
        ),
        "Target.ResponseCodeMismatch" => {
            ("the health check gets a wrong status", "see whether the gateway's pods are ready: `kubectl -n istio-system get pods`")
        }
        "Target.Timeout" => {
            ("the health check gets no answer", "check that the nodes' security group lets the load balancer reach the traffic and health NodePorts")
        }
        "Target.FailedHealthChecks" => (
            "the health check cannot connect",
            "check the health check's port and protocol (`healthcheck-protocol: HTTP`) and that the gateway's pods run",
        ),
        "Elb.InternalError" => ("AWS has an internal error", "wait, or ask AWS support"),
        "Target.NotInUse" => (
            "its zone is not enabled on the load balancer, or the target group is not attached",
            "give the load balancer a subnet in the node's zone (`alb.ingress.kubernetes.io/subnets`)",
        ),
        "Target.NotRegistered" => ("it is not registered", "look at the controller's log"),
        "Target.InvalidState" => ("the instance is stopped or terminated", "replace the node"),
        "Target.IpUnusable" => ("the address cannot be used as a target", "check the target type"),
        "Target.DeregistrationInProgress" => ("it is being taken out", "wait"),
        "Target.HealthCheckDisabled" => ("health checks are off", "switch them on"),
        _ => ("AWS gives no known reason", "look at the target group in the EC2 console"),
    }
}

/// Are enough targets healthy? `zones` are the load balancer's; `hopeless_for` is how long they have been [`stuck`].
pub fn healthy(targets: &[Target], zones: &[String], min: usize, hopeless_for: Duration) -> Link<usize> {
    let healthy = targets.iter().filter(|t| t.is_healthy()).count();
    let summary = summary(targets);
    if healthy >= min.max(1) {
        return Link::Holds(healthy, warnings(targets, zones));
    }
    if stuck(targets, min) && hopeless_for >= HOPELESS {
        return Link::broken(fault(targets, healthy, min, &summary));
    }
    Link::NotYet(format!("{healthy} of {} healthy, {min} needed: {summary}", text::count(targets.len(), "target")))
}

/// The verdict over all target groups of ours, which are told by name: the worst one's.
pub fn worst(groups: Vec<(String, Link<usize>)>) -> Link<usize> {
    let many = groups.len() > 1;
    let named = |name: &str, words: String| if many { format!("target group {name}: {words}") } else { words };
    let (mut healthy, mut all, mut waits) = (0, Vec::new(), None);
    for (name, link) in groups {
        match link {
            Link::Broken(fault) => return Link::broken(Fault { message: named(&name, fault.message.clone()), ..*fault }),
            Link::NotYet(reason) => waits = waits.or(Some(named(&name, reason))),
            Link::Holds(n, warnings) => {
                healthy += n;
                all.extend(warnings.into_iter().map(|words| named(&name, words)));
            }
        }
    }
    waits.map_or(Link::Holds(healthy, all), Link::NotYet)
}

/// The name of a target group in its ARN.
pub fn group_name(arn: &str) -> &str {
    arn.split('/').nth(1).unwrap_or(arn)
}

/// Is nothing healthy and nothing on its way, or are there fewer targets than must be healthy?
pub fn stuck(targets: &[Target], min: usize) -> bool {
    targets.len() < min || !targets.iter().any(|t| t.is_healthy() || t.is_starting())
}

fn fault(targets: &[Target], healthy: usize, min: usize, summary: &str) -> Fault {
    let message = match (targets.len(), healthy) {
        (0, _) => "no node is registered with the target group".to_owned(),
        (_, 0) => format!("no target is healthy: {summary}"),
        (all, n) => format!("{n} of {} healthy, but `min-healthy` is {min}: {summary}", text::count(all, "target")),
    };
    let mut fault = Fault::new(Code::TargetsUnhealthy, message).evidence("targets", table(targets));
    let mut advice: Vec<&str> = targets
        .iter()
        .filter(|t| !t.is_healthy())
        .filter_map(|t| Some(reason_words(t.reason.as_deref()?, t.description.as_deref().unwrap_or_default()).1))
        .filter(|a| *a != "wait")
        .collect();
    advice.sort_unstable();
    advice.dedup();
    if targets.is_empty() {
        advice.push("check that nodes are Ready and not excluded from load balancers, and the controller's log");
    }
    for step in advice {
        fault = fault.next(step);
    }
    fault
}

/// `2 unhealthy (Target.Timeout: the health check gets no answer)`, most first.
fn summary(targets: &[Target]) -> String {
    if targets.is_empty() {
        return "no target is registered yet".to_owned();
    }
    let mut groups: BTreeMap<String, usize> = BTreeMap::new();
    for target in targets {
        let key = match &target.reason {
            Some(reason) => {
                let description = target.description.as_deref().unwrap_or_default();
                let said = if description.is_empty() { String::new() } else { format!(", AWS: {description}") };
                format!("{} ({reason}: {}{said})", target.state, reason_words(reason, description).0)
            }
            None => target.state.clone(),
        };
        *groups.entry(key).or_default() += 1;
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(key, n)| (std::cmp::Reverse(*n), key.clone()));
    groups.iter().map(|(key, n)| format!("{n} {key}")).collect::<Vec<_>>().join("; ")
}

fn warnings(targets: &[Target], of_balancer: &[String]) -> Vec<String> {
    let mut warnings = Vec::new();
    let unused = targets.iter().filter(|t| t.reason.as_deref() == Some("Target.NotInUse")).count();
    if unused > 0 {
        warnings.push(format!("{} not in use: {}", text::count(unused, "target"), reason_words("Target.NotInUse", "").0));
    }
    let mut zones: BTreeMap<&str, bool> = BTreeMap::new();
    for target in targets {
        if let Some(zone) = target.zone.as_deref().filter(|z| *z != "all") {
            *zones.entry(zone).or_default() |= target.is_healthy();
        }
    }
    for (zone, _) in zones.iter().filter(|(_, healthy)| !**healthy) {
        warnings.push(format!("no target is healthy in zone {zone}"));
    }
    // A target whose zone is not known may be in any.
    if targets.iter().all(|target| target.zone.as_deref().is_some_and(|zone| zone != "all")) {
        for zone in of_balancer.iter().filter(|zone| !zones.contains_key(zone.as_str())) {
            warnings.push(format!("the load balancer is in zone {zone}, and no target is"));
        }
    }
    warnings
}

/// One line per target, for evidence.
pub fn table(targets: &[Target]) -> String {
    let line = |t: &Target| {
        let parts = [t.reason.as_deref(), t.description.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(": ");
        format!("{}:{} {} {} {parts}", t.id, t.port, t.zone.as_deref().unwrap_or("-"), t.state).trim_end().to_owned()
    };
    targets.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(state: &str, reason: Option<&str>, description: &str) -> Target {
        let description = (!description.is_empty()).then(|| description.to_owned());
        Target { id: "i-1".into(), port: 30080, zone: Some("a".into()), state: state.into(), reason: reason.map(str::to_owned), description }
    }

    #[test]
    fn target_health_is_judged() {
        let ok = || target("healthy", None, "");
        let starting = || target("initial", Some("Elb.InitialHealthChecking"), "");
        let timeout = || target("unhealthy", Some("Target.Timeout"), "Request timed out");
        let wrong_port = || target("unhealthy", Some("Target.ResponseCodeMismatch"), "Health checks failed with these codes: [404]");
        let not_ready = || target("unhealthy", Some("Target.ResponseCodeMismatch"), "Health checks failed with these codes: [503]");
        let unused = || target("unused", Some("Target.NotInUse"), "Target is in an Availability Zone that is not enabled");
        for (targets, min, hopeless_for, expected) in [
            (vec![ok()], 1, 0, "holds 1 warned 0"),
            (vec![ok(), timeout()], 1, 999, "holds 1 warned 0"),
            (vec![ok(), unused()], 1, 999, "holds 1 warned 1"),
            (vec![ok()], 2, 10, "not yet"),
            (vec![ok()], 2, 60, "targets_unhealthy"),
            (vec![ok(), timeout()], 2, 999, "not yet"),
            (vec![], 1, 59, "not yet"),
            (vec![], 1, 60, "targets_unhealthy"),
            (vec![starting()], 1, 999, "not yet"),
            (vec![timeout(), starting()], 1, 999, "not yet"),
            (vec![timeout()], 1, 59, "not yet"),
            (vec![timeout()], 1, 60, "targets_unhealthy"),
            (vec![wrong_port()], 1, 59, "not yet"),
            (vec![wrong_port()], 1, 60, "targets_unhealthy"),
            (vec![not_ready()], 1, 59, "not yet"),
            (vec![not_ready()], 1, 60, "targets_unhealthy"),
            (vec![unused()], 1, 60, "targets_unhealthy"),
            (vec![target("unavailable", Some("Target.HealthCheckDisabled"), "")], 1, 0, "holds 1 warned 0"),
            (vec![target("draining", Some("Target.DeregistrationInProgress"), "")], 1, 60, "targets_unhealthy"),
        ] {
            let found = match healthy(&targets, &[], min, Duration::from_secs(hopeless_for)) {
                Link::Holds(n, warnings) => format!("holds {n} warned {}", warnings.len()),
                Link::NotYet(_) => "not yet".to_owned(),
                Link::Broken(fault) => fault.code.to_string(),
            };
            assert_eq!(found, expected, "{targets:?} {min} {hopeless_for}");
        }
    }

    #[test]
    fn of_several_target_groups_the_worst_decides() {
        let holds = || Link::Holds(2, vec!["no target is healthy in zone b".to_owned()]);
        let waits = || Link::NotYet("0 of 2 healthy".to_owned());
        let broken = || Link::broken(Fault::new(Code::TargetsUnhealthy, "no target is healthy"));
        let told = |links: Vec<Link<usize>>| {
            let named = links.into_iter().enumerate().map(|(n, link)| (format!("g{n}"), link)).collect();
            match worst(named) {
                Link::Holds(n, warnings) => format!("holds {n} {}", warnings.join(", ")),
                Link::NotYet(reason) => format!("not yet {reason}"),
                Link::Broken(fault) => format!("{} {}", fault.code, fault.message),
            }
        };
        for (links, expected) in [
            (vec![holds()], "holds 2 no target is healthy in zone b"),
            (vec![waits()], "not yet 0 of 2 healthy"),
            (vec![Link::holds(2), Link::holds(1)], "holds 3 "),
            (vec![Link::holds(2), holds()], "holds 4 target group g1: no target is healthy in zone b"),
            (vec![holds(), waits()], "not yet target group g1: 0 of 2 healthy"),
            (vec![waits(), holds(), broken()], "targets_unhealthy target group g2: no target is healthy"),
        ] {
            assert_eq!(told(links), expected);
        }
        assert_eq!(group_name("arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/k8s-istio-1/0123"), "k8s-istio-1");
    }

    #[test]
    fn the_words_are_awss_and_ours() {
        let targets =
            [target("unhealthy", Some("Target.Timeout"), "Request timed out"), target("unhealthy", Some("Target.Timeout"), "Request timed out")];
        let Link::Broken(fault) = healthy(&targets, &[], 1, HOPELESS) else { panic!("broken") };
        assert_eq!(fault.message, "no target is healthy: 2 unhealthy (Target.Timeout: the health check gets no answer, AWS: Request timed out)");
        assert!(fault.next[0].contains("security group"));
    }

    #[test]
    fn a_zone_without_a_healthy_target_is_told() {
        let mut other = target("unhealthy", Some("Target.Timeout"), "");
        other.zone = Some("b".into());
        let Link::Holds(_, warnings) = healthy(&[target("healthy", None, ""), other], &[], 1, Duration::ZERO) else { panic!("holds") };
        assert_eq!(warnings, ["no target is healthy in zone b"]);
    }

    #[test]
    fn a_zone_of_the_load_balancer_without_a_target_is_told_where_all_zones_are_known() {
        let of_balancer = ["a".to_owned(), "b".to_owned()];
        let told = |zones: &[Option<&str>]| {
            let targets: Vec<Target> = zones.iter().map(|zone| Target { zone: zone.map(str::to_owned), ..target("healthy", None, "") }).collect();
            let Link::Holds(_, warnings) = healthy(&targets, &of_balancer, 1, Duration::ZERO) else { panic!("holds") };
            warnings.join("; ")
        };
        assert_eq!(told(&[Some("a"), Some("a")]), "the load balancer is in zone b, and no target is");
        assert_eq!(told(&[Some("a"), Some("b"), Some("c")]), "");
        assert_eq!(told(&[Some("a"), None]), "");
        assert_eq!(told(&[Some("all")]), "");
    }

    #[test]
    fn a_node_is_an_instance_in_a_zone() {
        let pair = |id: &str, zone: &str| Some((id.to_owned(), zone.to_owned()));
        for (provider_id, label, expected) in [
            ("aws:///eu-west-1a/i-0123", None, pair("i-0123", "eu-west-1a")),
            ("aws:///eu-west-1a/i-0123", Some("eu-west-1b"), pair("i-0123", "eu-west-1b")),
            ("aws:///i-0123", Some("eu-west-1b"), pair("i-0123", "eu-west-1b")),
            ("aws:///i-0123", None, None),
            ("kind://docker/kind/node", Some("a"), None),
        ] {
            assert_eq!(instance(provider_id, label), expected, "{provider_id}");
        }
    }
}
