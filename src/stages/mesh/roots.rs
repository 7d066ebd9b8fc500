//! After an installation: does what runs already trust the mesh's root? A new root makes every older pod a stale one.

use std::collections::BTreeSet;

use crate::base::fault::Result;
use crate::base::text;
use crate::clients::kube::Cluster;
use crate::domain::certificates::{PodEvidence, gather, survey};
use crate::engine::record::{Case, Done};

/// Compares what every proxy holds with the current root, and tells who has to be restarted. Never a failure: no host was asked yet, and
/// `verify` restarts what it proves to be the fault.
pub(super) async fn compare(cluster: &Cluster, namespaces: BTreeSet<String>, case: Case) -> Result<Done> {
    if !gather::any_older(cluster, &namespaces).await {
        return Ok(Done::unchanged((), "no pod is older than the mesh's root"));
    }
    let (evidence, closed) = match gather::survey(cluster, &namespaces).await {
        Ok(found) => found,
        Err(fault) => return Ok(Done::Skipped(format!("pods cannot be listed: {}", fault.message))),
    };
    closed.iter().for_each(|refused| case.warn(format!("left out: {}", refused.message)));
    let Some(root) = &evidence.root else { return Ok(Done::Skipped("the current root cannot be read".to_owned())) };
    let proxies: Vec<PodEvidence> = evidence.gateways.iter().chain(&evidence.pods).filter(|p| p.proxied).cloned().collect();
    let stale: Vec<PodEvidence> = proxies
        .iter()
        .filter(|p| match evidence.holds_current(p) {
            Some(current) => !current,
            None => evidence.is_older(p),
        })
        .cloned()
        .collect();
    if stale.is_empty() {
        return Ok(Done::unchanged((), format!("{} that run already trust the root {}", text::count(proxies.len(), "pod"), root.key.short())));
    }
    case.observed("certificates", &evidence);
    case.output(&survey::table(&survey::rows(&evidence)).join("\n"));
    let workloads: Vec<String> = gather::owners(&stale).keys().map(ToString::to_string).collect();
    let verb = if workloads.len() == 1 { "has" } else { "have" };
    case.warn(format!(
        "{} still {verb} certificates of a former root, and the gateway will refuse them: {}; `meshstep redeploy` (or `verify`) restarts each once",
        text::count(workloads.len(), "workload"),
        workloads.join(", "),
    ));
    Ok(Done::unchanged((), format!("{} to redeploy", text::count(workloads.len(), "workload"))))
}
