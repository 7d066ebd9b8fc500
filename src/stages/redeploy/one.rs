//! One workload: what its restart stands on, the restart itself, and the proof that its new pods hold the current root.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::names::ObjectName;
use crate::base::wait::{self, Patience, Poll};
use crate::clients::kube::Cluster;
use crate::domain::certificates::ground::{self, look};
use crate::domain::certificates::restart::{self, Asked, Mark};
use crate::domain::certificates::root::KeyHash;
use crate::domain::certificates::{Evidence, PodEvidence, gather, survey};
use crate::domain::services::rollout::policy::Policy;
use crate::domain::services::rollout::seen::Kind;
use crate::domain::services::watch::{Follower, Heard, Target};
use crate::engine::record::{Case, Done};
use crate::stages::deploy::Service;
use crate::stages::redeploy::Method;
use crate::stages::redeploy::cure::{Cure, Stale, in_vain};

/// How long a rollout may take when the file does not say so.
const ROLLOUT: Duration = Duration::from_secs(300);
/// How long the proxies of new pods may take to tell what they hold.
const TOLD_WITHIN: Duration = Duration::from_secs(30);

impl Cure<'_> {
    /// # Errors
    /// When something that a restart stands on is missing.
    pub(super) async fn may_restart(&self, cluster: &Cluster, workload: &ObjectName, stale: &Stale) -> Result<Evidence> {
        let (evidence, ground) = tokio::join!(evidence(cluster, workload, stale), look::ground(cluster, workload));
        let (ground, namespace) = (ground?, workload.namespace.as_str());
        let lack = ground::mesh_lacks(&evidence, namespace).or_else(|| ground::pods_lack(&evidence, namespace, &ground));
        if let Some(lack) = lack {
            return Err(ground::stopped(&workload.to_string(), &lack));
        }
        match ground::workload_forbids(&ground) {
            Some(why) => {
                self.spare(workload);
                let fault = Fault::new(Code::StaleCertificate, format!("{workload} is not restarted: {why}"));
                Err(fault.next("restart it by hand when it may be, then run `meshstep verify`"))
            }
            None => Ok(evidence),
        }
    }

    pub(super) async fn restarted(
        &self,
        cluster: &Cluster,
        workload: &ObjectName,
        stale: &Stale,
        root: &KeyHash,
        case: Case,
    ) -> Result<Done<String>> {
        let kind = Kind::parse(&workload.kind).ok_or_else(|| Fault::new(Code::Defect, format!("{workload} cannot be followed")))?;
        case.property("certificate.root", root);
        // Gateways belong to the mesh: the team's ways are for its services.
        let method = if stale.gateway { Method::Restart } else { self.params.method };
        let known = restart::carries(&look::read(cluster, workload).await?, root);
        if !known {
            case.progress("looking at what a restart stands on");
            let before = self.may_restart(cluster, workload, stale).await?;
            case.output(&format!("before:\n{}", shown(&before, workload, stale)));
        }
        let target = Target { kind, namespace: workload.namespace.clone(), name: workload.name.clone(), place: None };
        let follower = Follower::start(cluster, target, self.patience(workload, stale)).await?;
        let (began, clock) = (Timestamp::now(), Instant::now());
        let mark = if method == Method::Command { Mark::Workload } else { Mark::Template };
        let done = match restart::restart(cluster, workload, root, mark).await? {
            Asked::InVain => return Err(in_vain(workload, root)),
            Asked::UnderWay => "another run's restart",
            Asked::Restarted => match method {
                Method::Restart => "restarted",
                Method::Deploy => self.deploy_again(cluster, workload, stale, &case).await?,
                Method::Command => self.run_command(workload, stale, root, &case).await?,
            },
        };
        case.progress(format!("{done}, waiting for its rollout"));
        let hear = |heard: Heard| match heard {
            Heard::Progress(reason) => case.progress(reason),
            Heard::Observed(kind, data) => case.observed(kind, &data),
        };
        let limit = self.limit(method, stale.called(workload));
        let success = follower.finish(limit.saturating_sub(clock.elapsed()), &hear).await?;
        success.warnings.iter().for_each(|w| case.warn(w));
        // A command may only have asked somebody else, who takes his time.
        let told = if method == Method::Command { limit.saturating_sub(clock.elapsed()) } else { TOLD_WITHIN };
        let after = self.new_pods_hold(cluster, workload, stale, began, told, &case).await?;
        case.output(&format!("after:\n{}", shown(&after, workload, stale)));
        Ok(Done::changed(success.note.clone(), format!("{done}, {}", success.note)))
    }

    fn limit(&self, method: Method, service: &str) -> Duration {
        if let (Method::Command, Some(command)) = (method, &self.params.command) {
            return command.timeout.0;
        }
        self.service(service).map_or(ROLLOUT, |s| s.timeout.0)
    }

    /// As patient as `deploy` is with the service. A gateway is nobody's service.
    fn patience(&self, workload: &ObjectName, stale: &Stale) -> Policy {
        let service = self.service(stale.called(workload)).filter(|_| !stale.gateway);
        service.map(Service::policy).unwrap_or_default()
    }

    fn service(&self, name: &str) -> Option<&Service> {
        self.ctx.shared.pipeline.services.iter().find(|service| service.name == name)
    }

    /// A new pod that trusts a former root, or repeats the refusal, ends everything: the next restart would do the same.
    async fn new_pods_hold(
        &self,
        cluster: &Cluster,
        workload: &ObjectName,
        stale: &Stale,
        began: Timestamp,
        limit: Duration,
        case: &Case,
    ) -> Result<Evidence> {
        let look = || async {
            let evidence = evidence(cluster, workload, stale).await;
            match judged(&evidence, workload, stale, began) {
                Ok(None) => Ok(Poll::Ready(evidence)),
                Ok(Some(reason)) => Ok(Poll::NotYet(reason)),
                Err(fault) => Err(fault),
            }
        };
        let waited = wait::until(Patience::new(limit, Duration::from_secs(1)), |reason| case.progress(reason), wait::never, look).await;
        waited.map_err(|error| {
            error.into_fault(|timed_out| {
                Fault::new(Code::RedeployedInVain, format!("{workload} was restarted, and {} after it", timed_out.last_reason))
            })
        })
    }
}

pub(super) async fn evidence(cluster: &Cluster, workload: &ObjectName, stale: &Stale) -> Evidence {
    if stale.service.is_empty() {
        gather::of_workload(cluster, workload).await
    } else {
        gather::evidence(cluster, &stale.namespace, &stale.service).await
    }
}

/// `Ok(Some)`: not all is seen yet.
fn judged(evidence: &Evidence, workload: &ObjectName, stale: &Stale, began: Timestamp) -> Result<Option<String>> {
    let pods: Vec<&PodEvidence> = of(evidence, workload, stale);
    for pod in pods {
        let is_new = pod.started.is_some_and(|started| started.as_second() >= began.as_second());
        let holds = evidence.holds_current(pod);
        if is_new && pod.ready && (holds == Some(false) || holds.is_none() && pod.log.untrusted.is_some()) {
            let message = format!("{workload} was restarted, and its new pod {} still does not have the current root", pod.name);
            let fault = Fault::new(Code::RedeployedInVain, message);
            return Err(fault.evidence("istio-proxy", pod.log.untrusted.as_ref().map(|l| l.text.clone()).unwrap_or_default()));
        }
        match holds {
            Some(true) => {}
            Some(false) => return Ok(Some(format!("pod {} still has a certificate of a former root", pod.name))),
            None if !evidence.is_older(pod) => {}
            None => return Ok(Some(format!("pod {} is older than the current root", pod.name))),
        }
    }
    Ok(None)
}

fn of<'e>(evidence: &'e Evidence, workload: &ObjectName, stale: &Stale) -> Vec<&'e PodEvidence> {
    let pods = if stale.gateway { &evidence.gateways } else { &evidence.pods };
    pods.iter().filter(|pod| pod.owner.as_ref() == Some(workload)).collect()
}

/// The workload's pods as a table.
fn shown(evidence: &Evidence, workload: &ObjectName, stale: &Stale) -> String {
    let pods: Vec<PodEvidence> = of(evidence, workload, stale).into_iter().cloned().collect();
    let only = Evidence { pods, gateways: Vec::new(), ..evidence.clone() };
    survey::table(&survey::rows(&only)).join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_new_pods_must_hold_the_root() {
        let (root, former) = (KeyHash("b".repeat(64)), KeyHash("a".repeat(64)));
        let (workload, stale) = (ObjectName::new("Deployment", "prod", "app1"), Stale::default());
        let at = |second: i64| Timestamp::from_second(second).expect("a time");
        let pod = |name: &str, started: i64, roots: Option<&KeyHash>| PodEvidence {
            name: name.into(),
            owner: Some(workload.clone()),
            started: Some(at(started)),
            ready: true,
            proxied: true,
            roots: roots.map(|key| vec![key.clone()]),
            ..PodEvidence::default()
        };
        let evidence = |pods: Vec<PodEvidence>| Evidence { pods, trusted: vec![root.clone()], made: Some(at(1000)), ..Evidence::default() };
        let judged = |pods: Vec<PodEvidence>| judged(&evidence(pods), &workload, &stale, at(2000));
        assert_eq!(judged(vec![pod("new", 2001, Some(&root))]), Ok(None));
        assert_eq!(judged(vec![pod("new", 2001, None)]), Ok(None), "not readable, and newer than the root");
        assert!(judged(vec![pod("new", 2001, Some(&root)), pod("old", 500, Some(&former))]).expect("waits").is_some());
        assert_eq!(judged(vec![pod("new", 2001, Some(&former))]).expect_err("in vain").code, Code::RedeployedInVain);
        let other = PodEvidence { owner: None, ..pod("other", 500, Some(&former)) };
        assert_eq!(judged(vec![pod("new", 2001, Some(&root)), other]), Ok(None), "another workload's pod");
    }
}
