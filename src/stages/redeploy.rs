//! Stage `redeploy`: the cure of a proven stale certificate, once per workload and root.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `redeploy:`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Redeploy {
    #[serde(default)]
    pub when: When,
    #[serde(default)]
    pub method: Method,
    #[serde(default)]
    pub approve: Approve,
    /// More stale workloads than this need approval.
    #[serde(default = "default_max_workloads")]
    #[schemars(range(min = 1))]
    pub max_workloads: u32,
}

impl Default for Redeploy {
    fn default() -> Self {
        Self { when: When::default(), method: Method::default(), approve: Approve::default(), max_workloads: default_max_workloads() }
    }
}

/// When a redeploy is allowed at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    #[default]
    CertificateFault,
    Never,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    #[default]
    Restart,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Approve {
    #[default]
    Auto,
    /// Print the list and exit 11.
    Manual,
}

fn default_max_workloads() -> u32 {
    5
}
