//! A Service that takes mutual TLS only proves nothing to a pod without a sidecar: it is not asked.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::Item;
use crate::base::fault::Result;
use crate::domain::troubleshoot::{endpoints, mtls};
use crate::engine::Ctx;
use crate::stages::Shared;

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
    let mut known: BTreeMap<(String, u16), Option<String>> = BTreeMap::new();
    let mut left = Vec::new();
    for item in items {
        let (Some(port), Some((service, namespace))) = (item.question.port, service_of(&item.question.host)) else {
            left.push(item);
            continue;
        };
        // A Service has an item for each prefix.
        let policy = match known.entry((item.question.host.clone(), port)) {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(new) => new.insert(endpoints::look(&cluster, namespace, service, port).await?.strict(&policies, namespace, port)),
        };
        match policy {
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
