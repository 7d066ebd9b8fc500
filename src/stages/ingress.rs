//! Stage `ingress`: from the Ingress's name to the first answer of Envoy, link by link.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::stages::Seconds;

/// `ingress:`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Ingress {
    pub name: String,
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// The gateway's Service, to which a TargetGroupBinding must lead.
    #[serde(default = "default_service")]
    pub service: String,
    /// How many targets must be healthy.
    #[serde(default = "default_min_healthy")]
    #[schemars(range(min = 1))]
    pub min_healthy: u32,
    /// For the whole chain.
    #[serde(default = "default_timeout")]
    #[schemars(with = "String", regex(pattern = crate::stages::DURATION_PATTERN))]
    pub timeout: Seconds,
}

fn default_namespace() -> String {
    "istio-system".to_owned()
}

fn default_service() -> String {
    "istio-ingressgateway".to_owned()
}

fn default_min_healthy() -> u32 {
    1
}

fn default_timeout() -> Seconds {
    Seconds::from_secs(600)
}
