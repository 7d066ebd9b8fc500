//! The cluster's controllers. Each looks at the whole store and brings it one step nearer to what is asked for;
//! together they run again whenever anything changed or a simulated wait is over.

mod bind;
mod claims;
mod daemonsets;
mod deployments;
mod endpoints;
pub(super) mod events;
mod jobs;
mod kinds;
mod namespaces;
mod pods;
mod replicasets;
mod rollout;
mod statefulsets;
mod world_events;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

pub(super) use endpoints::{endpoints, selects};
pub(super) use kinds::*;
pub(super) use pods::ready as pod_ready;

use super::sim::{Sim, sooner};
use super::store::Watcher;
use super::{istio, kubelet, lbc};

/// What controllers remember between their looks.
#[derive(Default)]
pub(super) struct Memory {
    /// Events already written, by involved uid, reason and message: their namespace and name.
    pub events: HashMap<(String, String, String), (String, String)>,
    /// When to try again to create pods, by the owner's uid, and how often it failed.
    pub retries: HashMap<String, (Instant, u32)>,
    /// How much of the world's timeline has happened.
    pub happened: Vec<bool>,
    /// A node that the autoscaler has ordered.
    pub ordered: Option<Instant>,
}

type Controller = fn(&Sim) -> Option<Instant>;

/// Every controller with the kinds it looks at.
const ALL: &[(Controller, &[&str])] = &[
    (namespaces::reconcile, &[NAMESPACES, SERVICE_ACCOUNTS, CONFIG_MAPS]),
    (deployments::reconcile, &[DEPLOYMENTS, REPLICA_SETS, PODS]),
    (replicasets::reconcile, &[REPLICA_SETS, PODS]),
    (statefulsets::reconcile, &[STATEFUL_SETS, PODS]),
    (daemonsets::reconcile, &[DAEMON_SETS, PODS, NODES]),
    (jobs::reconcile, &[JOBS, PODS]),
    (claims::reconcile, &[CLAIMS, STORAGE_CLASSES]),
    (bind::reconcile, &[PODS, NODES, CLAIMS]),
    (kubelet::reconcile, &[PODS]),
    (endpoints::reconcile, &[SERVICES, PODS, ENDPOINTS, ENDPOINT_SLICES, BUDGETS]),
    (istio::reconcile, &[PODS, NAMESPACES, CONFIG_MAPS, SECRETS, MUTATING, VALIDATING]),
    (lbc::reconcile, &[INGRESSES, INGRESS_CLASSES, SERVICES, BINDINGS, NODES, DEPLOYMENTS, PODS]),
    (world_events::reconcile, &[PODS, NODES]),
];

/// How far the controllers have seen the history, and when each wants to look again by itself.
#[derive(Default)]
pub(super) struct Pace {
    watcher: Option<Watcher>,
    due: Vec<Option<Instant>>,
}

/// One look of every controller that has something to see. Tells when the next simulated wait is over.
pub(super) fn look(sim: &Sim) -> Option<Instant> {
    let mut pace = std::mem::take(&mut *sim.pace());
    let now = Instant::now();
    let mut changed = HashSet::new();
    let lost = match &mut pace.watcher {
        None => true,
        Some(watcher) => loop {
            match watcher.try_next() {
                Ok(Some(event)) => drop(changed.insert(event.resource.clone())),
                Ok(None) => break false,
                Err(_) => break true,
            }
        },
    };
    if lost {
        pace.watcher = sim.store.watch("", "", sim.store.version()).ok();
        pace.due = vec![Some(now); ALL.len()];
    }
    for ((controller, kinds), due) in ALL.iter().zip(&mut pace.due) {
        if due.is_some_and(|due| due <= now) || kinds.iter().any(|kind| changed.contains(*kind)) {
            *due = controller(sim);
        }
    }
    let next = pace.due.iter().copied().fold(None, sooner);
    *sim.pace() = pace;
    next
}

/// Runs the controllers until the task is aborted.
pub(super) async fn run(sim: Arc<Sim>) {
    loop {
        let before = sim.store.version();
        let next = look(&sim);
        if sim.store.version() != before {
            tokio::task::yield_now().await;
            continue;
        }
        let changed = async {
            match sim.store.watch("", "", before) {
                Ok(mut watcher) => drop(watcher.next().await),
                Err(_) => tokio::task::yield_now().await,
            }
        };
        match next {
            Some(at) => drop(tokio::time::timeout_at(at.into(), changed).await),
            None => changed.await,
        }
    }
}
