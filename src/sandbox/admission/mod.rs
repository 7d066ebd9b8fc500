//! The API server's own admission of pods: ServiceAccount, PodSecurity, webhooks, quota, in the real one's order and words.

mod pod_security;
pub(super) mod quantity;
mod quota;
mod webhooks;

use serde_json::Value;

use super::istio;
use super::sim::Sim;
use super::store::meta::text;
use super::store::{Operation, Review, Status};

/// Changes or refuses what is written.
///
/// # Errors
/// The refusal.
pub(super) fn admit(sim: &Sim, review: &Review<'_>, object: &mut Value) -> Result<(), Status> {
    let new = review.operation == Operation::Create && review.subresource.is_empty();
    if !new || review.resource.id() != super::controllers::PODS {
        return if new { webhooks::call(sim, review, object) } else { Ok(()) };
    }
    istio::inject(sim, review.namespace, object)?;
    webhooks::call(sim, review, object)?;
    let forbidden = |why: String| Status::forbidden(review.resource, review.name, &why);
    let account = text(object, "/spec/serviceAccountName");
    if !matches!(account, "" | "default") && sim.store.get(super::controllers::SERVICE_ACCOUNTS, review.namespace, account).is_none() {
        let why = format!("error looking up service account {}/{account}: serviceaccount \"{account}\" not found", review.namespace);
        return Err(forbidden(why));
    }
    pod_security::check(sim, review.namespace, object).map_err(forbidden)?;
    quota::check(sim, review.namespace, object).map_err(forbidden)
}
