//! AWS's side of target groups: each target is really asked on its health check port, and its state follows the answers.

use std::collections::HashMap;
use std::time::Instant;

use crate::sandbox::aws::state::{Health, HealthCheck};
use crate::sandbox::gateway::{Ask, Refused, node_request};
use crate::sandbox::sim::{Sim, sooner};

/// Checks by target group and target.
pub(super) type Memory = HashMap<(String, String), Count>;

/// How the last checks of a target went.
#[derive(Clone, Copy)]
pub(super) struct Count {
    next: Instant,
    passed: u32,
    failed: u32,
}

struct Due {
    group: String,
    target: String,
    index: usize,
    port: u16,
    check: HealthCheck,
    now: Health,
    /// When the target can be checked at all; `None` while no active load balancer uses its group.
    from: Option<Instant>,
    used: bool,
}

pub(super) fn reconcile(sim: &Sim) -> Option<Instant> {
    let mut next = None;
    for due in all(sim) {
        let (health, wait) = look(sim, &due);
        next = sooner(next, wait);
        if health != due.now {
            let mut state = sim.aws.state();
            let group = state.target_groups.iter_mut().find(|group| group.arn == due.group);
            if let Some(target) = group.and_then(|group| group.targets.iter_mut().find(|target| target.id == due.target)) {
                target.health = health;
            }
        }
    }
    next
}

fn all(sim: &Sim) -> Vec<Due> {
    let state = sim.aws.state();
    let mut all = Vec::new();
    for group in &state.target_groups {
        let users = state.users_of(&group.arn);
        let active = users.iter().map(|lb| lb.created + sim.world.times.load_balancer.0).min();
        for (index, target) in group.targets.iter().enumerate() {
            all.push(Due {
                group: group.arn.clone(),
                target: target.id.clone(),
                index,
                port: target.port,
                check: group.check.clone(),
                now: target.health.clone(),
                from: active.map(|active| active.max(target.registered)),
                used: !users.is_empty(),
            });
        }
    }
    all
}

fn look(sim: &Sim, due: &Due) -> (Health, Option<Instant>) {
    let told = &sim.world.aws.targets.states;
    if let Some(state) = told.get(due.index).or(told.last()) {
        let health = Health { state: state.state.clone(), reason: state.reason.clone(), description: state.description.clone() };
        return (health, None);
    }
    if !due.used {
        return (Health::new("unused", "Target.NotInUse", "Target group is not configured to receive traffic from the load balancer"), None);
    }
    let now = Instant::now();
    let Some(from) = due.from.filter(|from| *from <= now) else {
        return (Health::new("initial", "Elb.RegistrationInProgress", "Target registration is in progress"), due.from);
    };
    let key = (due.group.clone(), due.target.clone());
    let fresh = Count { next: from + sim.world.times.health.0, passed: 0, failed: 0 };
    let mut count = *sim.lbc().checks.entry(key.clone()).or_insert(fresh);
    let checked = matches!(due.now.state.as_str(), "healthy" | "unhealthy");
    let waiting = if checked { due.now.clone() } else { Health::new("initial", "Elb.InitialHealthChecking", "Initial health checks in progress") };
    if count.next > now {
        return (waiting, Some(count.next));
    }
    let problem = probe(sim, due);
    (count.passed, count.failed) = if problem.is_none() { (count.passed + 1, 0) } else { (0, count.failed + 1) };
    count.next = now + sim.world.times.health_interval.0;
    sim.lbc().checks.insert(key, count);
    let health = match problem {
        None if !checked || count.passed >= due.check.healthy => Health::new("healthy", "", ""),
        Some((reason, description)) if due.now.state == "unhealthy" || count.failed >= due.check.unhealthy => {
            Health::new("unhealthy", reason, &description)
        }
        _ => waiting,
    };
    (health, Some(count.next))
}

/// One health check: reason and description when it fails.
fn probe(sim: &Sim, due: &Due) -> Option<(&'static str, String)> {
    let failed = || Some(("Target.FailedHealthChecks", "Health checks failed".to_owned()));
    if sim.world.aws.targets.blocked {
        return Some(("Target.Timeout", "Request timed out".to_owned()));
    }
    let port = due.check.port.parse().unwrap_or(due.port);
    let ask =
        Ask { method: "GET".to_owned(), host: format!("10.0.0.10:{port}"), path: due.check.path.clone(), secure: due.check.protocol == "HTTPS" };
    // the status port and the gateway's plain port do not speak TLS
    if ask.secure {
        return failed();
    }
    match node_request(sim, port, &ask) {
        Ok(reply) if accepted(&due.check.codes, reply.status) => None,
        Ok(reply) => Some(("Target.ResponseCodeMismatch", format!("Health checks failed with these codes: [{}]", reply.status))),
        Err(Refused) => failed(),
    }
}

/// Whether a status is among `200`, `200,302` or `200-299`.
fn accepted(codes: &str, status: u16) -> bool {
    codes.split(',').any(|part| {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        low.trim().parse().is_ok_and(|low: u16| low <= status) && high.trim().parse().is_ok_and(|high: u16| status <= high)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn success_codes_are_lists_and_ranges() {
        for (codes, status, right) in [("200", 200, true), ("200", 404, false), ("200-299", 204, true), ("200,302", 302, true), ("", 200, false)] {
            assert_eq!(accepted(codes, status), right, "{codes} {status}");
        }
    }
}
