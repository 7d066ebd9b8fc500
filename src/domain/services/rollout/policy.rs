//! How patient a verdict is: the numbers of the table of verdicts, each of which a service may change.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::codes::Code;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Policy {
    /// Names of containers that are sidecars.
    pub sidecars: Vec<String>,
    /// Ends of an app container that make a crash loop.
    pub crashes: u32,
    pub init_crashes: u32,
    /// Times the runtime could not start a container.
    pub cannot_run: u32,
    pub sidecar_crashes: u32,
    pub sidecar_unready: Duration,
    /// Being ready for so long forgives earlier crashes; `minReadySeconds` may make it longer.
    pub ready_resets: Duration,
    /// How long a container without a readiness probe must run.
    pub settle: Duration,
    /// How long a state must last before it is a failure of this code.
    pub lasts: BTreeMap<Code, Duration>,
}

impl Default for Policy {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            sidecars: vec!["istio-proxy".to_owned()],
            crashes: 3,
            init_crashes: 3,
            cannot_run: 2,
            sidecar_crashes: 6,
            sidecar_unready: seconds(60),
            ready_resets: seconds(10),
            settle: seconds(10),
            lasts: BTreeMap::from([
                (Code::ImageNotFound, Duration::ZERO),
                (Code::ImageWrongPlatform, Duration::ZERO),
                (Code::ImageDenied, Duration::ZERO),
                (Code::ImageUnreachable, seconds(90)),
                (Code::ConfigMissing, seconds(5)),
                (Code::Unschedulable, seconds(15)),
                (Code::PodsRefused, seconds(5)),
                (Code::QuotaExceeded, seconds(5)),
                (Code::WebhookUnreachable, seconds(60)),
                (Code::InjectorUntrusted, seconds(60)),
                (Code::VolumeFailing, seconds(30)),
            ]),
        }
    }
}

impl Policy {
    /// How long this state must last.
    pub fn lasts(&self, code: Code) -> Duration {
        self.lasts.get(&code).copied().unwrap_or_default()
    }

    pub fn is_sidecar(&self, container: &str) -> bool {
        self.sidecars.iter().any(|name| name == container)
    }
}

/// A node this young may still be waiting for its registry credentials.
pub const YOUNG_NODE_PATIENCE: Duration = Duration::from_secs(60);
/// An autoscaler gets this long to react to a pod that no node takes.
pub const AUTOSCALER_PATIENCE: Duration = Duration::from_secs(90);
/// An autoscaler that says it has no node for the pod must say so for this long.
pub const AUTOSCALER_REFUSAL: Duration = Duration::from_secs(30);
/// A second attempt of the kubelet must have happened by now, seen or not.
pub const SECOND_ATTEMPT: Duration = Duration::from_secs(15);
