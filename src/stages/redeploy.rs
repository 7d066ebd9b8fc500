//! Stage `redeploy`: the cure of a proven stale certificate, once per workload and root.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::watch;

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::names::ObjectName;
use crate::base::wait::{self, Patience, Poll};
use crate::clients::kube::Cluster;
use crate::domain::certificates::restart::{self, Asked};
use crate::domain::certificates::root::KeyHash;
use crate::domain::certificates::{Cause, Judgement, gather, judge};
use crate::domain::services::rollout::policy::Policy;
use crate::domain::services::rollout::seen::Kind;
use crate::domain::services::watch::{Follower, Heard, Target};
use crate::domain::verify::{Reply, origin};
use crate::engine::record::{Case, Done};
use crate::engine::{Ctx, Readiness, Stage};
use crate::stages::deploy::ServiceNamespace;
use crate::stages::verify::{self, HostSource, Verify};
use crate::stages::{Seconds, Shared, availability, lock};

/// How long a proven host waits for the others' first verdict, so that the number of stale workloads is known before the first restart.
const GATHERING: Duration = Duration::from_secs(10);
/// How long a rollout may take when the file does not say so.
const ROLLOUT: Duration = Duration::from_secs(300);
/// How long a host may take to answer when the file has no `verify:`.
const ANSWER: Seconds = Seconds::from_secs(30);

/// `redeploy:`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Redeploy {
    #[serde(default)]
    pub when: When,
    #[serde(default)]
    pub method: Method,
    #[serde(default)]
    pub approve: Approve,
    /// More stale workloads than this need approval.
    #[serde(default = "default_max_workloads")]
    #[schemars(range(min = 1))]
    pub max_workloads: u32,
}

impl Default for Redeploy {
    fn default() -> Self {
        Self { when: When::default(), method: Method::default(), approve: Approve::default(), max_workloads: default_max_workloads() }
    }
}

/// When a redeploy is allowed at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    #[default]
    CertificateFault,
    Never,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    #[default]
    Restart,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Approve {
    #[default]
    Auto,
    /// Print the list and exit 11.
    Manual,
}

fn default_max_workloads() -> u32 {
    5
}

/// Finds the hosts that a stale certificate breaks, and cures them; the same work as in `verify`, on its own.
pub struct RedeployStage;

#[async_trait]
impl Stage<Shared> for RedeployStage {
    fn id(&self) -> &'static str {
        "redeploy"
    }

    async fn check(&self, ctx: &Ctx<Shared>) -> Result<Readiness> {
        let pipeline = &ctx.shared.pipeline;
        if pipeline.redeploy.as_ref().is_some_and(|r| r.when == When::Never) {
            return Ok(Readiness::Skip("redeploy.when is never".to_owned()));
        }
        if pipeline.routes.is_none() && pipeline.verify.is_none() {
            return Ok(Readiness::Skip("no routes: and no verify: section in the file".to_owned()));
        }
        Ok(Readiness::Ready)
    }

    async fn apply(&self, ctx: &Ctx<Shared>) -> Result<()> {
        let pipeline = &ctx.shared.pipeline;
        let hosts = pipeline.routes.is_some().then_some(HostSource::FromRoutes);
        let params = pipeline.verify.clone().unwrap_or_else(|| Verify { hosts, checks: Vec::new(), timeout: ANSWER, availability: None });
        verify::ask_all(ctx, &params).await
    }
}

/// A host whose answer may come from a stale certificate.
pub(super) struct Suspect {
    pub(super) service: String,
    pub(super) namespace: String,
    /// `GET app1.public.domain/`
    pub(super) title: String,
    pub(super) reply: Reply,
    pub(super) fault: Fault,
}

/// What a treatment came to.
pub(super) enum Cured {
    /// It is not about certificates, or nothing proves that it is.
    NotProven(Judgement),
    /// The workloads were restarted; the story so far.
    Restarted(String),
    /// They had been restarted for this root before; the host is asked once more before that is a failure.
    InVain(Fault),
    /// A dry run would restart them.
    Would(String),
}

/// Held by a host until its first verdict is known.
pub(super) struct Ticket(Arc<watch::Sender<usize>>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.send_modify(|undecided| *undecided = undecided.saturating_sub(1));
    }
}

/// The cure, shared by all hosts of a stage: each workload is restarted at most once, one after another.
pub(super) struct Cure<'a> {
    ctx: &'a Ctx<Shared>,
    params: Redeploy,
    undecided: Arc<watch::Sender<usize>>,
    /// The stale workloads, each with the service that led to it.
    stale: Mutex<BTreeMap<ObjectName, String>>,
    done: tokio::sync::Mutex<BTreeMap<ObjectName, Result<String>>>,
}

impl<'a> Cure<'a> {
    /// `hosts`: how many first verdicts there will be.
    pub(super) fn new(ctx: &'a Ctx<Shared>, hosts: usize) -> Self {
        let params = ctx.shared.pipeline.redeploy.clone().unwrap_or_default();
        Self { ctx, params, undecided: Arc::new(watch::Sender::new(hosts)), stale: Mutex::default(), done: tokio::sync::Mutex::default() }
    }

    pub(super) fn ticket(&self) -> Ticket {
        Ticket(Arc::clone(&self.undecided))
    }

    fn stale(&self) -> MutexGuard<'_, BTreeMap<ObjectName, String>> {
        self.stale.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Gathers the evidence, and where it proves stale workloads, restarts them.
    ///
    /// # Errors
    /// When it is proven but not allowed (`when`, `approve`, `max-workloads`), or a restart fails.
    pub(super) async fn treat(&self, suspect: &Suspect, ticket: Option<Ticket>, case: &Case) -> Result<Cured> {
        let Suspect { service, namespace, reply, .. } = suspect;
        let cluster = self.ctx.shared.cluster().await?;
        case.progress("looking for proof that a stale certificate is behind it");
        let evidence = gather::evidence(&cluster, namespace, service).await;
        let judgement = judge(reply, &evidence);
        case.observed("certificate", &json!({"reply": reply.essence(), "evidence": evidence, "verdict": judgement}));
        let (Cause::StaleWorkload, Some(root)) = (judgement.cause, &evidence.root) else { return Ok(Cured::NotProven(judgement)) };
        let mut workloads = BTreeSet::new();
        for pod in evidence.pods.iter().filter(|p| judgement.pods.contains(&p.name)) {
            match &pod.owner {
                Some(owner) if restart::is_restartable(owner) => workloads.insert(owner.clone()),
                _ => {
                    let message = format!("pod {} of {service} has a certificate of a former root, and nothing that could restart it", pod.name);
                    return Err(self
                        .proven(message, &judgement)
                        .next(format!("delete it, if something makes it again: `kubectl -n {namespace} delete pod {}`", pod.name)));
                }
            };
        }
        self.stale().extend(workloads.iter().map(|w| (w.clone(), service.clone())));
        drop(ticket);
        let names = workloads.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        if self.ctx.dry_run {
            return Ok(Cured::Would(format!("would restart {names}: {}", judgement.in_short())));
        }
        if self.params.when == When::Never {
            let message = format!("{}; a stale certificate of {names} is proven, and `redeploy.when` is never", suspect.fault.message);
            return Err(self.proven(message, &judgement).next("redeploy the service, or set `redeploy.when: certificate-fault`"));
        }
        self.gathered(case).await;
        self.approved(&judgement)?;
        let restarted = self.restart_all(&cluster, &root.key).await;
        let mut notes = Vec::new();
        for workload in &workloads {
            match restarted.get(workload) {
                Some(Ok(note)) => notes.push(format!("{workload} was restarted once ({note})")),
                Some(Err(fault)) if fault.code == Code::RedeployedInVain => return Ok(Cured::InVain(fault.clone())),
                Some(Err(fault)) => return Err(fault.clone()),
                None => return Err(self.proven(format!("{workload} was found stale too late to be restarted; run it again"), &judgement)),
            }
        }
        case.output(&judgement.proof.join("\n"));
        Ok(Cured::Restarted(format!(
            "{} answered {} {}. {}, so the service still had a certificate of a former root (the current one has the key {}). {}.",
            suspect.title,
            reply.status,
            origin(reply).words(),
            judgement.in_short(),
            root.key.short(),
            notes.join("; "),
        )))
    }

    fn proven(&self, message: String, judgement: &Judgement) -> Fault {
        Fault::new(Code::StaleCertificate, message).evidence("proof", judgement.proof.join("\n"))
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
    fn approved(&self, judgement: &Judgement) -> Result<()> {
        let stale: Vec<String> = self.stale().keys().map(ToString::to_string).collect();
        let why = match self.params.approve {
            Approve::Manual => "`redeploy.approve` is manual".to_owned(),
            Approve::Auto if stale.len() > self.params.max_workloads as usize => format!("`redeploy.max-workloads` is {}", self.params.max_workloads),
            Approve::Auto => return Ok(()),
        };
        let message = format!(
            "{} stale and not restarted: {why}",
            if stale.len() == 1 { "1 workload is".to_owned() } else { format!("{} workloads are", stale.len()) }
        );
        Err(Fault::new(Code::TooManyStale, message)
            .evidence("stale workloads", stale.join("\n"))
            .evidence("proof", judgement.proof.join("\n"))
            .next("read the list; then allow it with `redeploy: {approve: auto, max-workloads: N}` and run `meshstep redeploy`"))
    }

    /// Restarts what is known to be stale and was not restarted yet, in the order of the file's namespaces. After a failure nothing more is touched.
    async fn restart_all(&self, cluster: &Cluster, root: &KeyHash) -> BTreeMap<ObjectName, Result<String>> {
        let mut done = self.done.lock().await;
        let mut stale: Vec<(ObjectName, String)> = self.stale().iter().map(|(w, s)| (w.clone(), s.clone())).collect();
        stale.sort_by_key(|(workload, _)| (self.turn(&workload.namespace), workload.clone()));
        for (workload, service) in stale {
            if done.contains_key(&workload) {
                continue;
            }
            let failed = done.iter().find_map(|(other, result)| result.is_err().then(|| other.to_string()));
            let result = match failed {
                Some(other) => Err(Fault::new(Code::StaleCertificate, format!("{workload} was not restarted, because {other} did not recover"))),
                None => self.restart(cluster, &workload, &service, root).await,
            };
            done.insert(workload, result);
        }
        done.clone()
    }

    /// The place of a namespace in the services' lists: pre-prod comes before prod.
    fn turn(&self, namespace: &str) -> usize {
        let is_it = |entry: &ServiceNamespace| match entry {
            ServiceNamespace::Name(name) => name == namespace,
            ServiceNamespace::WithValues(values) => values.name == namespace,
        };
        let lists = self.ctx.shared.pipeline.services.iter().map(|s| s.namespaces.iter().position(is_it));
        lists.flatten().max().unwrap_or(usize::MAX)
    }

    /// Restarts one workload, as a case of its own.
    async fn restart(&self, cluster: &Cluster, workload: &ObjectName, service: &str, root: &KeyHash) -> Result<String> {
        if lock::take(self.ctx).await.is_none() {
            return Err(Fault::new(Code::Locked, format!("{workload} was not restarted: another run holds the lock")));
        }
        let watch = availability::Watch::start(self.ctx, |host| host.service == service && host.namespace == workload.namespace).await;
        let failure = Mutex::new(None);
        let builder = self.ctx.record.case(format!("redeploy {} in {}", workload.name, workload.namespace)).service(service);
        let restarted = builder.run(|case| async {
            let result = self.restarted(cluster, workload, service, root, case).await;
            if let Err(fault) = &result {
                *failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(fault.clone());
            }
            result
        });
        let note = restarted.await;
        watch.acted();
        watch.end(self.ctx).await;
        let fault = failure.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        note.ok_or_else(|| fault.unwrap_or_else(|| Fault::new(Code::Cancelled, "aborted while a workload was restarted")))
    }

    async fn restarted(&self, cluster: &Cluster, workload: &ObjectName, service: &str, root: &KeyHash, case: Case) -> Result<Done<String>> {
        restart::istiod_is_available(cluster).await?;
        let kind = Kind::parse(&workload.kind).ok_or_else(|| Fault::new(Code::Defect, format!("{workload} cannot be followed")))?;
        let target = Target { kind, namespace: workload.namespace.clone(), name: workload.name.clone(), place: None };
        let follower = Follower::start(cluster, target, Policy::default()).await?;
        let done = match restart::restart(cluster, workload, root).await? {
            Asked::InVain => {
                let message = format!("{workload} was restarted for this root before, and the fault is still there");
                return Err(Fault::new(Code::RedeployedInVain, message).evidence("annotation", format!("{}: {root}", restart::ANNOTATION)));
            }
            Asked::UnderWay => "another run's restart",
            Asked::Restarted => "restarted",
        };
        case.property("certificate.root", root);
        case.progress(format!("{done}, waiting for its rollout"));
        let hear = |heard: Heard| match heard {
            Heard::Progress(reason) => case.progress(reason),
            Heard::Observed(kind, data) => case.observed(kind, &data),
        };
        let success = follower.finish(self.limit(service), &hear).await?;
        success.warnings.iter().for_each(|w| case.warn(w));
        self.still_stale(cluster, workload, service, root).await?;
        Ok(Done::changed(success.note.clone(), format!("{done}, {}", success.note)))
    }

    fn limit(&self, service: &str) -> Duration {
        self.ctx.shared.pipeline.services.iter().find(|s| s.name == service).map_or(ROLLOUT, |s| s.timeout.0)
    }

    /// A new pod that trusts the old root, or repeats the refusal, ends everything: the next restart would do the same.
    async fn still_stale(&self, cluster: &Cluster, workload: &ObjectName, service: &str, root: &KeyHash) -> Result<()> {
        let evidence = gather::evidence(cluster, &workload.namespace, service).await;
        let stale = evidence.pods.iter().filter(|p| p.owner.as_ref() == Some(workload)).find(|p| match &p.roots {
            Some(roots) => !roots.contains(root),
            None => p.log.untrusted.is_some(),
        });
        let Some(pod) = stale else { return Ok(()) };
        let message = format!("{workload} was restarted, and its new pod {} still does not have the current root", pod.name);
        let fault = Fault::new(Code::RedeployedInVain, message);
        Err(fault.evidence("istio-proxy", pod.log.untrusted.as_ref().map(|l| l.text.clone()).unwrap_or_default()))
    }
}
