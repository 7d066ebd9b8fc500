//! Stage `deploy`: each service, namespace by namespace, to a proven end.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::stages::Seconds;

/// An item of `services:`. Either `chart` or `manifests`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Service {
    /// Name of the service; also of its helm release when it comes from a chart.
    pub name: String,
    /// Folder of a helm chart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chart: Option<String>,
    /// A file or a folder of manifests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifests: Option<String>,
    /// What runs afterwards is proven to be this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// In this order; the next only after the one before is proven.
    #[serde(default = "default_namespaces")]
    #[schemars(length(min = 1))]
    pub namespaces: Vec<ServiceNamespace>,
    /// How long the rollout may take in each namespace.
    #[serde(default = "default_timeout")]
    #[schemars(with = "String", regex(pattern = crate::stages::DURATION_PATTERN))]
    pub timeout: Seconds,
    #[serde(default)]
    pub on_failure: OnFailure,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ServiceNamespace {
    Name(String),
    WithValues(NamespaceValues),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NamespaceValues {
    pub name: String,
    /// Values files of the chart for this namespace.
    #[serde(default)]
    pub values: Vec<String>,
    /// Make the namespace when it is missing.
    #[serde(default)]
    pub create: bool,
}

/// What happens to a service whose rollout failed, after the evidence is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    #[default]
    Keep,
    Rollback,
}

fn default_namespaces() -> Vec<ServiceNamespace> {
    vec![ServiceNamespace::Name("default".to_owned())]
}

fn default_timeout() -> Seconds {
    Seconds::from_secs(300)
}
