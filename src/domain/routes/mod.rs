//! The virtual-services values file: its entries, its lossless edit and its rules.

pub mod check;
pub mod document;
pub mod edit;
pub mod file;
pub mod hosts;
pub mod leading;
pub mod plan;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::place::{Place, Places};

pub use document::{Document, document, list};
pub use edit::{Edited, Effect, diff, remove, upsert};
pub use hosts::{PublicHost, cluster_hosts, public_hosts};
pub use leading::{Source, leading_to};

/// The list's key where a file has none yet.
pub const DEFAULT_LIST_KEY: &str = "virtualServices";

/// One item of the `virtualServices` list: a service, its port, and the hosts it has in each namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Entry {
    /// Name of the VirtualService; the key of the upsert.
    pub virtual_name: String,
    /// Name of the Kubernetes Service.
    pub name: String,
    /// Port of the Service.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    pub namespaces: Vec<EntryNamespace>,
    /// Path prefixes; all of `/` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefixes: Option<Vec<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EntryNamespace {
    pub name: String,
    /// Public hosts, served by the gateway, and names inside the cluster, served in the mesh.
    pub hosts: Vec<String>,
}

impl Entry {
    /// The path prefixes in their order: `/` when none is given.
    pub fn effective_prefixes(&self) -> Vec<&str> {
        match &self.prefixes {
            Some(prefixes) if !prefixes.is_empty() => prefixes.iter().map(String::as_str).collect(),
            _ => vec!["/"],
        }
    }

    /// Do both say the same? The order of namespaces and hosts has no meaning, the order of prefixes has.
    pub fn same_meaning(&self, other: &Entry) -> bool {
        let hosts = |entry: &Entry| {
            let mut all: Vec<(String, Vec<String>)> = entry.namespaces.iter().map(|n| (n.name.clone(), sorted(&n.hosts))).collect();
            all.sort();
            all
        };
        self.virtual_name == other.virtual_name
            && self.name == other.name
            && self.port == other.port
            && self.effective_prefixes() == other.effective_prefixes()
            && hosts(self) == hosts(other)
    }
}

fn sorted(hosts: &[String]) -> Vec<String> {
    let mut hosts = hosts.to_vec();
    hosts.sort();
    hosts
}

/// An entry with the places of its values, by JSON pointer below the entry (`""`, `/port`, `/namespaces/0/hosts/1`).
#[derive(Clone, Debug)]
pub struct Listed {
    pub entry: Entry,
    pub places: Places,
}

impl Listed {
    pub fn place(&self, pointer: &str) -> Place {
        self.places.at(pointer).cloned().unwrap_or_else(|| Place::new("", 0, 0))
    }
}
