//! Which resource serves a kind: asked once per group and version, and again only for a kind that was not there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::{Cluster, fault};
use crate::base::fault::Result;
use crate::base::mutex::lock;

/// How the API server serves a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    api_version: String,
    kind: String,
    singular: String,
    plural: String,
    pub(super) namespaced: bool,
}

impl Found {
    /// The resource's path; an empty namespace means all of them.
    pub(super) fn path(&self, namespace: &str) -> String {
        let root = if self.api_version.contains('/') { "/apis" } else { "/api" };
        let namespace = if self.namespaced && !namespace.is_empty() { format!("namespaces/{namespace}/") } else { String::new() };
        format!("{root}/{}/{namespace}{}", self.api_version, self.plural)
    }

    fn is(&self, kind: &str) -> bool {
        [&self.kind, &self.singular, &self.plural].into_iter().any(|name| !name.is_empty() && name.eq_ignore_ascii_case(kind))
    }
}

/// What was learnt, by apiVersion.
#[derive(Default)]
pub(super) struct Cache(Mutex<HashMap<String, Arc<Vec<Found>>>>);

impl Cluster {
    /// The resource of a kind (`Deployment`, `deployment` or `deployments`); `None` when the server does not serve it.
    pub(super) async fn resource(&self, api_version: &str, kind: &str) -> Result<Option<Found>> {
        let pick = |known: &Arc<Vec<Found>>| known.iter().find(|found| found.is(kind)).cloned();
        let cached = lock(&self.inner.resources.0).get(api_version).and_then(pick);
        if cached.is_some() {
            return Ok(cached);
        }
        let known = Arc::new(self.ask_resources(api_version).await?);
        let picked = pick(&known);
        lock(&self.inner.resources.0).insert(api_version.to_owned(), known);
        Ok(picked)
    }

    async fn ask_resources(&self, api_version: &str) -> Result<Vec<Found>> {
        let list = if api_version.contains('/') {
            self.client.list_api_group_resources(api_version).await
        } else {
            self.client.list_core_api_resources(api_version).await
        };
        let list = match list {
            Ok(list) => list.resources,
            Err(kube::Error::Api(status)) if status.code == 404 => Vec::new(),
            Err(error) => return Err(fault(error, &format!("asking for the resources of {api_version}"))),
        };
        let found = list.into_iter().filter(|resource| !resource.name.contains('/')).map(|resource| Found {
            api_version: api_version.to_owned(),
            kind: resource.kind,
            singular: resource.singular_name,
            plural: resource.name,
            namespaced: resource.namespaced,
        });
        Ok(found.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(api_version: &str, kind: &str, plural: &str, namespaced: bool) -> Found {
        Found { api_version: api_version.into(), kind: kind.into(), singular: kind.to_lowercase(), plural: plural.into(), namespaced }
    }

    #[test]
    fn paths_and_names_are_kubernetes_own() {
        let deployment = found("apps/v1", "Deployment", "deployments", true);
        assert_eq!(deployment.path("prod"), "/apis/apps/v1/namespaces/prod/deployments");
        assert_eq!(deployment.path(""), "/apis/apps/v1/deployments");
        assert!(deployment.is("deployment") && deployment.is("deployments") && !deployment.is("deploy"));
        assert_eq!(found("v1", "Node", "nodes", false).path("prod"), "/api/v1/nodes");
    }
}
