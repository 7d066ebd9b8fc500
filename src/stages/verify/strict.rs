//! A Service that takes mutual TLS only proves nothing to a pod without a sidecar: it is not asked.

use serde_json::Value;

use super::Item;
use crate::base::fault::Result;
use crate::clients::kube::Cluster;
use crate::domain::mesh::ready::SYSTEM;
use crate::domain::troubleshoot::endpoints::behind;
use crate::domain::troubleshoot::mtls;
use crate::engine::Ctx;
use crate::stages::Shared;
use k8s_openapi::api::core::v1::{Pod, Service};

/// Name and namespace of the Service that has this name in the cluster.
pub(super) fn service_of(host: &str) -> Option<(&str, &str)> {
    let (name, rest) = host.split_once('.')?;
    let (namespace, domain) = rest.split_once('.')?;
    matches!(domain, "svc" | "svc.cluster.local").then_some((name, namespace))
}

/// The items but those, each of which is told as skipped.
pub(super) async fn without(ctx: &Ctx<Shared>, items: Vec<Item>) -> Result<Vec<Item>> {
    if items.iter().all(|item| item.question.port.is_none()) {
        return Ok(items);
    }
    let cluster = ctx.shared.cluster().await?;
    let policies = mtls::policies(&cluster).await?;
    let mut left = Vec::new();
    for item in items {
        match policy(&cluster, &policies, &item).await? {
            None => left.push(item),
            Some(policy) => {
                let mut case = ctx.record.case(item.question.title()).place(item.place.as_ref());
                if let Some((service, _)) = &item.service {
                    case = case.service(service);
                }
                case.skip(format!("{policy} is STRICT: the Service answers nobody without a sidecar, and a probe pod has none"));
            }
        }
    }
    Ok(left)
}

/// The policy by which the pods behind the Service refuse a plain request.
async fn policy(cluster: &Cluster, policies: &[Value], item: &Item) -> Result<Option<String>> {
    let (Some(port), Some((service, namespace))) = (item.question.port, service_of(&item.question.host)) else { return Ok(None) };
    let found = cluster.get::<Service>(namespace, service).await?.map(|s| serde_json::to_value(s).unwrap_or_default());
    let pods: Vec<Value> = cluster.list::<Pod>(namespace, "").await?.iter().map(|p| serde_json::to_value(p).unwrap_or_default()).collect();
    let behind = behind(found.as_ref(), &pods, port);
    let strict = behind.has_sidecar.then(|| mtls::strict(policies, SYSTEM, namespace, &behind.labels, behind.target.unwrap_or(port)));
    Ok(strict.flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_services_name_tells_its_namespace() {
        for (host, service) in [
            ("app1-service.prod.svc.cluster.local", Some(("app1-service", "prod"))),
            ("app1-service.prod.svc", Some(("app1-service", "prod"))),
            ("app1-service.prod", None),
            ("app1-service", None),
            ("pod.app1-service.prod.svc.cluster.local", None),
        ] {
            assert_eq!(service_of(host), service, "{host}");
        }
    }
}
