//! The Kubernetes API: one connection per run, with a token that renews itself, deadlines, retries and faults that name the next step.

mod clock;
mod config;
mod fault;
mod guard;
mod objects;
mod pods;
mod resources;
mod rights;
#[cfg(test)]
mod tests;
mod token;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kube::client::ClientBuilder;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};

pub use self::config::{Access, EksAccess, write_private};
pub use self::fault::fault;
pub use self::objects::Applied;
pub use self::rights::{Right, refused};
pub use self::token::TokenSource;
pub use self::watch::Nudge;
use crate::base::fault::Result;
use crate::clients::settings::Settings;

/// Who writes our fields, for server-side apply.
pub const FIELD_MANAGER: &str = "meshstep";

/// A connected cluster. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    inner: Arc<Inner>,
}

struct Inner {
    kubeconfig: PathBuf,
    server: String,
    resources: resources::Cache,
}

impl Cluster {
    /// Prepares the connection; the first call opens it.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read or names no such context, or a certificate in it cannot be used.
    pub async fn connect(access: Access, settings: &Settings) -> Result<Self> {
        crate::clients::install_crypto_provider();
        let prepared = config::prepare(access, settings).await?;
        let server = prepared.config.cluster_url.to_string();
        let doing = format!("connecting to {server}");
        let stack = ClientBuilder::try_from(prepared.config).map_err(|error| fault(error, &doing))?;
        let client = stack.with_layer(&guard::GuardLayer::new(prepared.token)).build();
        Ok(Self { client, inner: Arc::new(Inner { kubeconfig: prepared.kubeconfig, server, resources: resources::Cache::default() }) })
    }

    /// The plain client. Its calls have a deadline, retries and a fresh token too.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// A private kubeconfig for child tools; its current context is this cluster.
    pub fn kubeconfig(&self) -> &Path {
        &self.inner.kubeconfig
    }

    /// The API server's address.
    pub fn server(&self) -> &str {
        &self.inner.server
    }

    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client(), namespace)
    }

    /// All namespaces, or cluster-wide.
    pub fn api_all<K: Resource<DynamicType = ()>>(&self) -> Api<K> {
        Api::all(self.client())
    }

    /// The API server's version, e.g. `v1.37.2`.
    pub async fn server_version(&self) -> Result<String> {
        let version = self.client.apiserver_version().await.map_err(|error| fault(error, "asking the API server for its version"))?;
        Ok(version.git_version)
    }
}
