//! Stage `mesh`: Istio with a NodePort gateway, injection labels, common settings and the Gateway.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `mesh:`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Mesh {
    /// istioctl's installation profile.
    #[serde(default = "default_profile")]
    pub profile: String,
    /// `--set` values of istioctl, the whole set every time.
    #[serde(default = "default_set")]
    pub set: BTreeMap<String, serde_json::Value>,
    /// Namespaces to label with `istio-injection=enabled`.
    #[serde(default)]
    pub inject: Vec<InjectNamespace>,
    /// Mesh-wide settings: a file of manifests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub common: Option<String>,
    /// The Gateway: a file of manifests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// A chart repository to add to helm, never fatal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helm_repo: Option<HelmRepo>,
    /// How long to wait for the control plane and the gateway.
    #[serde(default = "default_timeout")]
    #[schemars(with = "String", regex(pattern = crate::stages::DURATION_PATTERN))]
    pub timeout: crate::stages::Seconds,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum InjectNamespace {
    Name(String),
    Create(CreateNamespace),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CreateNamespace {
    pub name: String,
    /// Make the namespace when it is missing.
    #[serde(default)]
    pub create: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HelmRepo {
    pub name: String,
    pub url: String,
}

fn default_profile() -> String {
    "default".to_owned()
}

fn default_set() -> BTreeMap<String, serde_json::Value> {
    BTreeMap::from([("values.gateways.istio-ingressgateway.type".to_owned(), "NodePort".into())])
}

fn default_timeout() -> crate::stages::Seconds {
    crate::stages::Seconds::from_secs(300)
}
