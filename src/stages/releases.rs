//! Stage `releases`: the virtual-services and alb-istio-ingress charts, through the real helm.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::stages::Seconds;

/// An item of `releases:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Release {
    pub name: String,
    /// Folder of the chart.
    pub chart: String,
    /// Values files, the whole set every time.
    #[serde(default)]
    pub values: Vec<String>,
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// The team whose values these are; changing it needs `--allow-team-change`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    #[serde(default = "default_timeout")]
    #[schemars(with = "String", regex(pattern = crate::stages::DURATION_PATTERN))]
    pub timeout: Seconds,
}

fn default_namespace() -> String {
    "istio-system".to_owned()
}

fn default_timeout() -> Seconds {
    Seconds::from_secs(300)
}
