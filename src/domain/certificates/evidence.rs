//! What is known of the trust between gateway and pods: what each proxy holds, what the mesh's root is, and who says so.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::base::names::ObjectName;
use crate::domain::certificates::access_log::AccessLog;
use crate::domain::certificates::agent_log::AgentLog;
use crate::domain::certificates::root::{KeyHash, Leaf, Root};

/// A pod and what is known of its trust.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodEvidence {
    pub namespace: String,
    pub name: String,
    /// What controls it; `None`: nothing does, or it is not known.
    pub owner: Option<ObjectName>,
    pub started: Option<Timestamp>,
    pub ready: bool,
    /// Has it a proxy at all?
    pub proxied: bool,
    /// Of the control plane that injected it.
    pub revision: String,
    pub log: AgentLog,
    /// The keys of the roots that its proxy trusts, if they could be read.
    pub roots: Option<Vec<KeyHash>>,
    /// Its own certificate.
    pub leaf: Option<Leaf>,
    /// The Services that its proxy has called, as namespace and name, if it writes an access log.
    pub calls: Vec<(String, String)>,
    /// Why log or roots could not be read.
    pub unread: Vec<String>,
}

/// A control plane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Plane {
    pub name: String,
    pub revision: String,
    pub available: bool,
    /// When its newest pod started.
    pub started: Option<Timestamp>,
    /// The certificate that it shows to proxies.
    pub leaf: Option<Leaf>,
    /// Lines of its log that tell of a CA that does not work.
    pub complaints: Vec<String>,
}

/// The TLS settings of a DestinationRule for the Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuleTls {
    pub name: String,
    /// `ISTIO_MUTUAL`, `MUTUAL`, `SIMPLE`, `DISABLE`
    pub mode: String,
    pub names_identities: bool,
    pub own_ca: bool,
}

/// All that is known beside the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Evidence {
    /// When it was gathered.
    pub at: Option<Timestamp>,
    pub namespace: String,
    pub service: String,
    pub pods: Vec<PodEvidence>,
    pub gateways: Vec<PodEvidence>,
    /// The current root: the newest in ConfigMap istio-ca-root-cert of the root namespace.
    pub root: Option<Root>,
    /// All keys in that ConfigMap: while a root is exchanged in order there are two.
    pub trusted: Vec<KeyHash>,
    /// When the CA was made, as its Secret says; readable for few.
    pub made: Option<Timestamp>,
    /// The same ConfigMap in the workloads' namespaces; `None`: there is none.
    pub namespace_roots: BTreeMap<String, Option<Vec<KeyHash>>>,
    pub planes: Vec<Plane>,
    /// The keys that the API server trusts when it calls the injector, by webhook.
    pub injectors: BTreeMap<String, Vec<KeyHash>>,
    pub access_log: AccessLog,
    pub rule: Option<RuleTls>,
}

impl Evidence {
    /// A pod that started before this cannot have started with the current root.
    pub fn made(&self) -> Option<Timestamp> {
        self.made.or_else(|| self.root.as_ref().map(|root| root.not_before))
    }

    /// Is this key one of the mesh's current roots?
    pub fn is_current(&self, key: &KeyHash) -> bool {
        self.trusted.contains(key) || self.root.as_ref().is_some_and(|root| root.key == *key)
    }

    /// The current root, and a `Some(false)` when the pod's proxy is known not to hold it. `None`: it could not be read.
    pub fn holds_current(&self, pod: &PodEvidence) -> Option<bool> {
        let roots = pod.roots.as_ref().filter(|roots| !roots.is_empty())?;
        let leaf_is_foreign = || pod.leaf.as_ref().zip(self.root.as_ref()).is_some_and(|(leaf, root)| self.is_foreign(leaf, root));
        Some(roots.iter().any(|key| self.is_current(key)) && !leaf_is_foreign())
    }

    fn is_foreign(&self, leaf: &Leaf, root: &Root) -> bool {
        match &leaf.issuer_key {
            Some(key) => !self.is_current(key),
            // The key identifier is known of one root only.
            None => self.trusted.len() < 2 && leaf.is_of(root) == Some(false),
        }
    }

    /// Does the gateway accept the pod's certificate? `None`: not known.
    pub fn accepts(&self, gateway: &PodEvidence, pod: &PodEvidence) -> Option<bool> {
        let (own, theirs) = (gateway.roots.as_ref()?, pod.roots.as_ref()?);
        Some(match pod.leaf.as_ref().and_then(|leaf| leaf.issuer_key.as_ref()) {
            Some(issuer) => own.contains(issuer),
            None => theirs.iter().any(|key| own.contains(key)),
        })
    }

    /// Is its certificate past its time?
    pub fn has_expired(&self, pod: &PodEvidence) -> bool {
        self.at.zip(pod.leaf.as_ref()).is_some_and(|(at, leaf)| leaf.not_after < at)
    }

    /// Is it older than the current root?
    pub fn is_older(&self, pod: &PodEvidence) -> bool {
        pod.started.zip(self.made()).is_some_and(|(started, made)| started < made)
    }
}
