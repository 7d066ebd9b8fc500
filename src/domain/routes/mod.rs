//! The virtual-services values file: its entries, its lossless edit and its rules.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
