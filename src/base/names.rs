//! Names of Kubernetes objects, as messages and commands show them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An object, by kind (as kubectl spells it: `deployment`), namespace (empty when cluster-wide) and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectName {
    pub kind: String,
    pub namespace: String,
    pub name: String,
}

impl ObjectName {
    pub fn new(kind: impl Into<String>, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { kind: kind.into(), namespace: namespace.into(), name: name.into() }
    }

    /// The words for kubectl: `-n prod deployment/app1`.
    pub fn for_kubectl(&self) -> String {
        if self.namespace.is_empty() { format!("{}/{}", self.kind, self.name) } else { format!("-n {} {}/{}", self.namespace, self.kind, self.name) }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)?;
        if self.namespace.is_empty() { Ok(()) } else { write!(f, " in {}", self.namespace) }
    }
}

/// Is `name` a DNS label (RFC 1123): at most 63 of `a-z0-9-`, not starting or ending with a dash?
pub fn is_dns_label(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Is `host` a name inside the cluster, which no load balancer serves?
pub fn is_cluster_host(host: &str) -> bool {
    host.ends_with(".svc") || host.ends_with(".svc.cluster.local") || host.ends_with(".cluster.local") || !host.contains('.')
}
