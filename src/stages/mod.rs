//! The stages: one file each, with its parameters, check and apply; and what they all share.
//!
//! Adding a stage: its file here, its lines in [`Pipeline`] and [`ALL`], its judgement in `domain`.

pub mod availability;
pub mod certificates;
pub mod cleanup;
pub mod connect;
pub mod deploy;
pub mod doctor;
mod filters;
pub mod ingress;
pub mod lock;
pub mod mesh;
mod namespaces;
mod probe;
pub mod redeploy;
pub mod releases;
pub mod rights;
pub mod routes;
pub mod shared;
pub mod troubleshoot;
pub mod verify;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::engine::Stage;
pub use filters::Filters;
pub use shared::{Given, Options, Shard, Shared};

/// A pipeline file: the single description of an environment. Only `version`, `name` and `cluster` are mandatory; a stage whose
/// section is missing is skipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(title = "meshstep pipeline")]
pub struct Pipeline {
    /// Version of this file's form.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// Name of the pipeline.
    pub name: String,
    /// First segment of every JUnit class name: `staging`, `production`.
    #[serde(default = "default_environment")]
    pub environment: String,
    pub cluster: connect::Cluster,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh: Option<mesh::Mesh>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<deploy::Service>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes: Option<routes::Routes>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub releases: Vec<releases::Release>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<ingress::Ingress>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<verify::Verify>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redeploy: Option<redeploy::Redeploy>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub troubleshoot: Option<troubleshoot::Troubleshoot>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<Lock>,
}

/// `lock:`: where the Lease lives that keeps two runs apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Lock {
    /// A namespace that cleanup never deletes.
    #[serde(default = "default_lock_namespace")]
    pub namespace: String,
}

type Make = fn() -> Box<dyn Stage<Shared>>;

/// THE list of stages: name and maker, in the runbook's order. `run` walks it
/// without `redeploy`, which `verify` calls when it must, and without what is only ever asked for by name.
/// Stages that change the cluster run under the lock.
pub const ALL: [(&str, Make); 12] = [
    ("doctor", || Box::new(doctor::Doctor)),
    ("connect", || Box::new(connect::Connect)),
    ("mesh", || Box::new(lock::Locked(mesh::MeshStage))),
    ("deploy", || Box::new(lock::Locked(deploy::DeployStage))),
    ("routes", || Box::new(routes::RoutesStage)),
    ("releases", || Box::new(lock::Locked(releases::ReleasesStage))),
    ("ingress", || Box::new(ingress::IngressStage)),
    ("verify", || Box::new(verify::VerifyStage)),
    ("redeploy", || Box::new(lock::Locked(redeploy::RedeployStage))),
    ("troubleshoot", || Box::new(troubleshoot::TroubleshootStage)),
    ("cleanup", || Box::new(lock::Locked(cleanup::CleanupStage))),
    ("certificates", || Box::new(certificates::CertificatesStage)),
];

/// The stage of this name.
pub fn named(id: &str) -> Option<Box<dyn Stage<Shared>>> {
    ALL.iter().find(|(name, _)| *name == id).map(|(_, make)| make())
}

fn default_environment() -> String {
    "default".to_owned()
}

fn default_lock_namespace() -> String {
    "default".to_owned()
}

/// A duration as the file writes it: `90s`, `5m`, `1h`, `500ms`, `1m30s`.
pub const DURATION_PATTERN: &str = r"^([0-9]+(ms|s|m|h))+$";

/// A duration of the pipeline file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seconds(pub Duration);

impl Seconds {
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// Reads `1m30s`; `None` when it is no duration.
    pub fn parse(text: &str) -> Option<Self> {
        let mut total = Duration::ZERO;
        let mut rest = text;
        if rest.is_empty() {
            return None;
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit())?;
            let number: u64 = rest[..digits].parse().ok()?;
            rest = &rest[digits..];
            let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            total = total.checked_add(match &rest[..end] {
                "ms" => Duration::from_millis(number),
                "s" => Duration::from_secs(number),
                "m" => Duration::from_secs(number.checked_mul(60)?),
                "h" => Duration::from_secs(number.checked_mul(3600)?),
                _ => return None,
            })?;
            rest = &rest[end..];
        }
        Some(Self(total))
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        if !ms.is_multiple_of(1000) {
            write!(f, "{ms}ms")
        } else if ms == 0 || !ms.is_multiple_of(60_000) {
            write!(f, "{}s", ms / 1000)
        } else {
            write!(f, "{}m", ms / 60_000)
        }
    }
}

impl JsonSchema for Seconds {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "pattern": DURATION_PATTERN})
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("`{text}` is not a duration such as 90s, 5m or 1m30s")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_parse_and_print() {
        for (text, ms) in [("90s", 90_000), ("5m", 300_000), ("1m30s", 90_000), ("500ms", 500), ("1h", 3_600_000)] {
            assert_eq!(Seconds::parse(text).map(|s| s.0.as_millis()), Some(ms), "{text}");
        }
        for text in ["", "5", "m", "5 m", "5d", "-5s", "99999999999999999999s"] {
            assert_eq!(Seconds::parse(text), None, "{text}");
        }
        assert_eq!(Seconds::from_secs(300).to_string(), "5m");
    }
}
