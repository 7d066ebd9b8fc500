//! Stage `verify`: every host through the load balancer, with the right Host and SNI.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::stages::Seconds;

/// `verify:`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Verify {
    /// Check every public host of the values file with its prefixes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<HostSource>,
    #[serde(default)]
    pub checks: Vec<Check>,
    /// How long a host may take to answer rightly.
    #[serde(default = "default_timeout")]
    #[schemars(with = "String", regex(pattern = crate::stages::DURATION_PATTERN))]
    pub timeout: Seconds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HostSource {
    FromRoutes,
}

/// One request and what its answer must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Check {
    pub host: String,
    #[serde(default = "default_path")]
    pub path: String,
    /// `http` or `https`; by default as the load balancer listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
    /// The status that is right; by default what the service itself answers with 2xx, 3xx, 401 or 403.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 100, max = 599))]
    pub status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_contains: Option<String>,
    /// The answer must be there within this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", regex(pattern = crate::stages::DURATION_PATTERN))]
    pub within: Option<Seconds>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    Http,
    Https,
}

fn default_path() -> String {
    "/".to_owned()
}

fn default_timeout() -> Seconds {
    Seconds::from_secs(60)
}
