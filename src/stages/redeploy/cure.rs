//! The cure, shared by all hosts of a stage: who is stale, whether restarting them is allowed, and in which order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::json;
use tokio::sync::{OnceCell, watch};

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::mutex::lock;
use crate::base::names::ObjectName;
use crate::base::text;
use crate::base::wait::{self, Patience, Poll};
use crate::clients::kube::Cluster;
use crate::domain::certificates::gather::{self, ROOT_NAMESPACE};
use crate::domain::certificates::ground::look;
use crate::domain::certificates::order::{self, Stop};
use crate::domain::certificates::root::KeyHash;
use crate::domain::certificates::{Cause, Evidence, Judgement, PodEvidence, judge, restart};
use crate::domain::verify::origin;
use crate::engine::Ctx;
use crate::engine::record::Case;
use crate::stages::deploy::ServiceNamespace;
use crate::stages::redeploy::{Approve, Cured, Redeploy, Suspect, When};
use crate::stages::{Shared, availability, lock};

/// How long a proven host waits for the others' first verdict, so that the number of stale workloads is known before the first restart.
const GATHERING: Duration = Duration::from_secs(10);
/// How many callees of a stale workload are looked at.
const CALLEES: usize = 10;

/// A stale workload, with what led to it.
#[derive(Clone, Debug, Default)]
pub(super) struct Stale {
    /// The Service in front of it, and its namespace: what evidence is gathered by. Where no Service is known, by the workload's own pods.
    pub(super) service: String,
    pub(super) namespace: String,
    pub(super) gateway: bool,
    pub(super) stop: Stop,
}

impl Stale {
    /// What it is called in the file and in reports: as the Service in front of it, else by its own name.
    pub(super) fn called<'n>(&'n self, workload: &'n ObjectName) -> &'n str {
        if self.service.is_empty() { &workload.name } else { &self.service }
    }
}

/// Held by a host until its first verdict is known.
pub(in crate::stages) struct Ticket(Arc<watch::Sender<usize>>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.send_modify(|undecided| *undecided = undecided.saturating_sub(1));
    }
}

/// Each workload is restarted at most once, one after another.
pub(in crate::stages) struct Cure<'a> {
    pub(super) ctx: &'a Ctx<Shared>,
    pub(super) params: Redeploy,
    undecided: Arc<watch::Sender<usize>>,
    stale: Mutex<BTreeMap<ObjectName, Stale>>,
    /// What no host has led to; looked for once.
    pub(super) others: OnceCell<BTreeMap<ObjectName, Stale>>,
    /// Stale, and not touched for a reason of their own: that says nothing about the others.
    pub(super) spared: Mutex<BTreeSet<ObjectName>>,
    done: tokio::sync::Mutex<BTreeMap<ObjectName, Result<String>>>,
}

impl<'a> Cure<'a> {
    /// `hosts`: how many first verdicts there will be.
    pub(in crate::stages) fn new(ctx: &'a Ctx<Shared>, hosts: usize) -> Self {
        let params = ctx.shared.pipeline.redeploy.clone().unwrap_or_default();
        Self {
            ctx,
            params,
            undecided: Arc::new(watch::Sender::new(hosts)),
            stale: Mutex::default(),
            others: OnceCell::new(),
            spared: Mutex::default(),
            done: tokio::sync::Mutex::default(),
        }
    }

    pub(in crate::stages) fn ticket(&self) -> Ticket {
        Ticket(Arc::clone(&self.undecided))
    }

    /// Was a gateway restarted, by whomever?
    pub(in crate::stages) async fn has_restarted_gateway(&self) -> bool {
        let gateways: Vec<ObjectName> = self.stale().iter().filter(|(_, stale)| stale.gateway).map(|(name, _)| name.clone()).collect();
        let done = self.done.lock().await;
        gateways.iter().any(|name| done.get(name).is_some_and(Result::is_ok))
    }

    pub(super) fn stale(&self) -> MutexGuard<'_, BTreeMap<ObjectName, Stale>> {
        lock(&self.stale)
    }

    /// Gathers the evidence, and where it proves stale workloads or a stale gateway, restarts them.
    ///
    /// # Errors
    /// When it is proven but not allowed (`when`, `approve`, `max-workloads`), or a restart fails.
    pub(in crate::stages) async fn treat(&self, suspect: &Suspect, ticket: Option<Ticket>, case: &Case) -> Result<Cured> {
        let Suspect { service, namespace, reply, .. } = suspect;
        let cluster = self.ctx.shared.cluster().await?;
        case.progress("looking for proof that a stale certificate is behind it");
        let evidence = gather::evidence(&cluster, namespace, service).await;
        let judgement = judge(reply, &evidence);
        case.observed("certificate", &json!({"reply": reply.essence(), "evidence": evidence, "verdict": judgement}));
        let gateway = judgement.cause == Cause::StaleGateway;
        let (true, Some(root)) = (gateway || judgement.cause == Cause::StaleWorkload, &evidence.root) else {
            return Ok(Cured::NotProven(judgement));
        };
        let workloads = self.workloads(suspect, &evidence, &judgement)?;
        let mut found = workloads.clone();
        if !gateway {
            found.extend(self.stale_callees(&cluster, &evidence, &judgement).await);
            self.add_others(self.others(&cluster).await);
        }
        self.stale().extend(found);
        drop(ticket);
        let names = workloads.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        if self.ctx.dry_run {
            let mut would = format!("would restart {names}: {}", judgement.in_short());
            for (workload, stale) in &workloads {
                if let Err(fault) = self.may_restart(&cluster, workload, stale).await {
                    would = format!("{would}; but now {}", fault.message);
                }
            }
            return Ok(Cured::Would(would));
        }
        if self.params.when == When::Never {
            let message = format!("{}; a stale certificate of {names} is proven, and `redeploy.when` is never", suspect.fault.message);
            return Err(proven(judgement.cause, message, &judgement).next("redeploy the service, or set `redeploy.when: certificate-fault`"));
        }
        self.gathered(case).await;
        self.approved(&judgement.proof)?;
        let restarted = self.restart_all(&cluster, &root.key).await;
        let mut notes = Vec::new();
        for workload in workloads.keys() {
            match restarted.get(workload) {
                Some(Ok(note)) => notes.push(format!("{workload} was restarted once ({note})")),
                Some(Err(fault)) if fault.code == Code::RedeployedInVain => return Ok(Cured::InVain(fault.clone())),
                Some(Err(fault)) => return Err(fault.clone()),
                None => {
                    let message = format!("{workload} was found stale too late to be restarted; run it again");
                    return Err(proven(judgement.cause, message, &judgement));
                }
            }
        }
        case.output(&judgement.proof.join("\n"));
        let who = if gateway { "the gateway still trusted a former root" } else { "the service still had a certificate of a former root" };
        let story = format!(
            "{} answered {} {}. {}, so {who} (the current one has the key {}). {}.",
            suspect.title,
            reply.status,
            origin(reply).words(),
            judgement.in_short(),
            root.key.short(),
            notes.join("; "),
        );
        Ok(Cured::Restarted { story, gateway })
    }

    /// The controllers of the stale pods.
    ///
    /// # Errors
    /// When a pod has none that could restart it.
    fn workloads(&self, suspect: &Suspect, evidence: &Evidence, judgement: &Judgement) -> Result<BTreeMap<ObjectName, Stale>> {
        let gateway = judgement.cause == Cause::StaleGateway;
        let pods = if gateway { &evidence.gateways } else { &evidence.pods };
        let mut workloads: BTreeMap<ObjectName, Stale> = BTreeMap::new();
        for pod in pods.iter().filter(|p| judgement.pods.contains(&p.name)) {
            let Some(owner) = pod.owner.as_ref().filter(|owner| restart::is_restartable(owner)) else {
                let namespace = if gateway { ROOT_NAMESPACE } else { &suspect.namespace };
                let message =
                    format!("pod {} of {} has a certificate of a former root, and nothing that could restart it", pod.name, suspect.service);
                let fault = proven(judgement.cause, message, judgement);
                return Err(fault.next(format!("delete it, if something makes it again: `kubectl -n {namespace} delete pod {}`", pod.name)));
            };
            let stale = workloads.entry(owner.clone()).or_insert_with(|| Stale {
                service: suspect.service.clone(),
                namespace: suspect.namespace.clone(),
                gateway,
                stop: Stop { services: [(suspect.namespace.clone(), suspect.service.clone())].into(), calls: BTreeSet::new() },
            });
            stale.stop.calls.extend(pod.calls.iter().cloned());
        }
        Ok(workloads)
    }

    /// What stale workloads call, where their access logs tell, and is proven stale itself: a restarted caller would lose it.
    async fn stale_callees(&self, cluster: &Cluster, evidence: &Evidence, judgement: &Judgement) -> BTreeMap<ObjectName, Stale> {
        let callers = evidence.pods.iter().filter(|p| judgement.pods.contains(&p.name));
        let calls: BTreeSet<(String, String)> = callers.flat_map(|p| p.calls.iter().cloned()).collect();
        let ours = |namespace: &str| self.turn(namespace) != usize::MAX;
        let mut found: BTreeMap<ObjectName, Stale> = BTreeMap::new();
        let own = (evidence.namespace.clone(), evidence.service.clone());
        for (namespace, service) in calls.into_iter().filter(|call| *call != own && ours(&call.0)).take(CALLEES) {
            let callee = gather::evidence(cluster, &namespace, &service).await;
            let is_stale = |p: &&PodEvidence| callee.holds_current(p) == Some(false);
            for pod in callee.pods.iter().filter(is_stale) {
                let Some(owner) = pod.owner.clone().filter(restart::is_restartable) else { continue };
                let stale = found.entry(owner).or_insert_with(|| Stale {
                    service: service.clone(),
                    namespace: namespace.clone(),
                    gateway: false,
                    stop: Stop { services: [(namespace.clone(), service.clone())].into(), calls: BTreeSet::new() },
                });
                stale.stop.calls.extend(pod.calls.iter().cloned());
            }
        }
        found
    }

    /// Waits until every host has its first verdict, or long enough.
    async fn gathered(&self, case: &Case) {
        let mut undecided = self.undecided.subscribe();
        let wake = || {
            let mut changed = self.undecided.subscribe();
            async move { _ = changed.changed().await }
        };
        let look = || {
            let left = *undecided.borrow_and_update();
            async move {
                Ok(if left == 0 { Poll::Ready(()) } else { Poll::NotYet(format!("proven; waiting for the first verdict on {left} more hosts")) })
            }
        };
        // Late ones are treated in their own turn.
        _ = wait::until(Patience::new(GATHERING, Duration::from_millis(200)), |reason| case.progress(reason), wake, look).await;
    }

    /// Is restarting so many allowed without asking?
    pub(super) fn approved(&self, proof: &[String]) -> Result<()> {
        let stale: Vec<String> = self.stale().keys().map(ToString::to_string).collect();
        let why = match self.params.approve {
            Approve::Manual => "`redeploy.approve` is manual".to_owned(),
            Approve::Auto if stale.len() > self.params.max_workloads as usize => format!("`redeploy.max-workloads` is {}", self.params.max_workloads),
            Approve::Auto => return Ok(()),
        };
        let verb = if stale.len() == 1 { "is" } else { "are" };
        let message = format!("{} {verb} stale and not restarted: {why}", text::count(stale.len(), "workload"));
        Err(Fault::new(Code::TooManyStale, message)
            .evidence("stale workloads", stale.join("\n"))
            .evidence("proof", proof.join("\n"))
            .next("read the list; then allow it with `redeploy: {approve: auto, max-workloads: N}` and run `meshstep redeploy`"))
    }

    /// Restarts what is known to be stale and was not restarted yet: a gateway first and alone, then in the order of the file's namespaces,
    /// callees before their callers. After a failure nothing more is touched.
    pub(super) async fn restart_all(&self, cluster: &Cluster, root: &KeyHash) -> BTreeMap<ObjectName, Result<String>> {
        let mut done = self.done.lock().await;
        let stale = self.stale().clone();
        let (gateways, workloads): (Vec<_>, Vec<_>) = stale.iter().partition(|(_, stale)| stale.gateway);
        let stops = workloads.into_iter().map(|(name, stale)| (name.clone(), stale.stop.clone())).collect();
        let ordered = gateways.into_iter().map(|(name, _)| name.clone()).chain(order::order(&stops, |namespace| self.turn(namespace)));
        for workload in ordered {
            let Some(stale) = stale.get(&workload).filter(|_| !done.contains_key(&workload)) else { continue };
            let failed = done.iter().find_map(|(other, result)| (result.is_err() && !self.is_spared(other)).then(|| other.to_string()));
            let result = match failed {
                Some(other) => Err(Fault::new(Code::StaleCertificate, format!("{workload} was not restarted, because {other} did not recover"))),
                None => self.restart(cluster, &workload, stale, root).await,
            };
            done.insert(workload, result);
        }
        done.clone()
    }

    /// The place of a namespace in the services' lists: pre-prod comes before prod.
    fn turn(&self, namespace: &str) -> usize {
        let is_it = |entry: &ServiceNamespace| entry.name() == namespace;
        let lists = self.ctx.shared.pipeline.services.iter().map(|s| s.namespaces.iter().position(is_it));
        lists.flatten().max().unwrap_or(usize::MAX)
    }

    /// Restarts one workload, as a case of its own.
    async fn restart(&self, cluster: &Cluster, workload: &ObjectName, stale: &Stale, root: &KeyHash) -> Result<String> {
        if let Err(fault) = lock::take(self.ctx).await {
            return Err(Fault { message: format!("{workload} was not restarted: {}", fault.message), ..fault });
        }
        // Another run may have cured it meanwhile: whether that was in vain is for the host to say.
        let object = look::read(cluster, workload).await?;
        if restart::carries(&object, root) && restart::is_rolled_out(&object) {
            return Err(in_vain(workload, root));
        }
        let watch = availability::Watch::start(self.ctx, |host| host.service == stale.service && host.namespace == workload.namespace).await;
        let failure = Mutex::new(None);
        let builder = self.ctx.record.case(format!("redeploy {} in {}", workload.name, workload.namespace));
        let builder = if stale.gateway { builder } else { builder.service(stale.called(workload)) };
        let restarted = builder.run(|case| async {
            let result = self.restarted(cluster, workload, stale, root, case).await;
            if let Err(fault) = &result {
                *lock(&failure) = Some(fault.clone());
            }
            result
        });
        let note = restarted.await;
        watch.acted();
        watch.end(self.ctx).await;
        let fault = failure.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        note.ok_or_else(|| fault.unwrap_or_else(|| Fault::new(Code::Cancelled, "aborted while a workload was restarted")))
    }
}

pub(super) fn in_vain(workload: &ObjectName, root: &KeyHash) -> Fault {
    let message = format!("{workload} was restarted for this root before, and the fault is still there");
    Fault::new(Code::RedeployedInVain, message).evidence("annotation", format!("{}: {root}", restart::ANNOTATION))
}

fn proven(cause: Cause, message: String, judgement: &Judgement) -> Fault {
    Fault::new(cause.code(), message).evidence("proof", judgement.proof.join("\n"))
}
