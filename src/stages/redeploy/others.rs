//! Stale workloads that no host leads to: a job runner, a service that only others call. They are as cut off from what has the current root
//! as the public ones, so they belong to the same set.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::fault::{Fault, Result};
use crate::base::mutex::lock;
use crate::base::names::ObjectName;
use crate::base::text;
use crate::clients::kube::Cluster;
use crate::domain::certificates::gather;
use crate::domain::certificates::restart;
use crate::engine::record::{Case, Done};
use crate::stages::redeploy::cure::{Cure, Stale};

impl Cure<'_> {
    /// The workloads of the file's namespaces whose proxies are proven to hold a former root. A run about some services or hosts leaves the
    /// others to theirs.
    pub(super) async fn others(&self, cluster: &Cluster) -> &BTreeMap<ObjectName, Stale> {
        let (pipeline, filters) = (&self.ctx.shared.pipeline, &self.ctx.shared.filters);
        let look = || async {
            if !filters.services.is_empty() || !filters.hosts.is_empty() {
                return BTreeMap::new();
            }
            let named = pipeline.services.iter().flat_map(|service| &service.namespaces).map(|namespace| namespace.name().to_owned());
            let namespaces: BTreeSet<String> = named.filter(|name| filters.namespace(name)).collect();
            let evidence = gather::survey_older(cluster, &namespaces).await;
            let mut found: BTreeMap<ObjectName, Stale> = BTreeMap::new();
            for pod in evidence.pods.iter().filter(|pod| evidence.holds_current(pod) == Some(false)) {
                let Some(owner) = pod.owner.clone().filter(restart::is_restartable) else { continue };
                let new = || Stale { namespace: pod.namespace.clone(), ..Stale::default() };
                found.entry(owner).or_insert_with(new).stop.calls.extend(pod.calls.iter().cloned());
            }
            found
        };
        self.others.get_or_init(look).await
    }

    /// What is known by its Service already stays known so.
    pub(super) fn add_others(&self, others: &BTreeMap<ObjectName, Stale>) {
        let mut stale = self.stale();
        for (workload, other) in others {
            stale.entry(workload.clone()).or_insert_with(|| other.clone());
        }
    }

    /// Notes that a workload is left as it is for a reason of its own.
    pub(super) fn spare(&self, workload: &ObjectName) {
        lock(&self.spared).insert(workload.clone());
    }

    pub(super) fn is_spared(&self, workload: &ObjectName) -> bool {
        lock(&self.spared).contains(workload)
    }

    /// Restarts what no host has led to, each as a case of its own.
    ///
    /// # Errors
    /// When it is not allowed, or one of them does not come up with the current root.
    pub(super) async fn treat_others(&self, case: Case) -> Result<Done> {
        let cluster = self.ctx.shared.cluster().await?;
        case.progress("asking older pods which root they hold");
        let others = self.others(&cluster).await;
        if others.is_empty() {
            return Ok(Done::unchanged((), "every pod that could be asked holds the current root"));
        }
        self.add_others(others);
        let names = others.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let proof = format!("the proxies of {names} hold a former root");
        if self.ctx.dry_run {
            return Ok(Done::would_change((), format!("would restart {names}")));
        }
        self.approved(std::slice::from_ref(&proof))?;
        let roots = gather::roots_in(&cluster, gather::ROOT_NAMESPACE).await?;
        let Some(root) = roots.into_iter().max_by_key(|root| root.not_before) else {
            return Ok(Done::Skipped("the current root cannot be read".to_owned()));
        };
        let done = self.restart_all(&cluster, &root.key).await;
        match done.values().find_map(|result| result.as_ref().err()) {
            // Its own case has told it in full.
            Some(fault) => Err(Fault::new(fault.code, fault.message.clone())),
            None => {
                let story = format!("{proof}. {} restarted once.", text::count(done.len(), "workload"));
                Ok(Done::Repaired { value: (), story })
            }
        }
    }
}
