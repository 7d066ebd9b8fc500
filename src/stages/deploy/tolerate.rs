//! `tolerate:` of a service: how patient the verdict on its rollout is, by failure code.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::codes::Code;
use crate::domain::services::rollout::policy::Policy;
use crate::stages::Seconds;

/// The keys are failure codes. A count says how often it must happen, a duration how long it must last, before it is a failure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tolerate {
    /// Containers beside the app that get a sidecar's patience, beside `istio-proxy`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sidecars: Vec<String>,
    /// Ends of an app container that make a crash loop (3).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub crash_loop: Option<u32>,
    /// Ends of an init container that make a crash loop (3).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub init_crash_loop: Option<u32>,
    /// Ends of a sidecar (6), or how long it may stay unready (60s).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sidecar_failing: Option<CountOrTime>,
    /// Times the runtime could not start a container (2).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub container_cannot_run: Option<u32>,
    /// At once by default; give a replicated registry time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_not_found: Option<Seconds>,
    /// At once by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_wrong_platform: Option<Seconds>,
    /// Beside the second refusal that is always waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_denied: Option<Seconds>,
    /// 90s by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_unreachable: Option<Seconds>,
    /// 5s by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_missing: Option<Seconds>,
    /// 15s by default; at least 90s where there is an autoscaler, or 30s after it said that it has no node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unschedulable: Option<Seconds>,
    /// 30s by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_failing: Option<Seconds>,
    /// 5s by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods_refused: Option<Seconds>,
    /// 5s by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota_exceeded: Option<Seconds>,
    /// 60s by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_unreachable: Option<Seconds>,
    /// 60s by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub injector_untrusted: Option<Seconds>,
    /// How long a container without a readiness probe must run without a restart (10s).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_readiness_probe: Option<Seconds>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum CountOrTime {
    Count(#[schemars(range(min = 1))] u32),
    Time(Seconds),
}

impl Tolerate {
    pub fn policy(&self) -> Policy {
        let mut policy = Policy::default();
        policy.sidecars.extend(self.sidecars.iter().filter(|name| *name != "istio-proxy").cloned());
        policy.crashes = self.crash_loop.unwrap_or(policy.crashes);
        policy.init_crashes = self.init_crash_loop.unwrap_or(policy.init_crashes);
        policy.cannot_run = self.container_cannot_run.unwrap_or(policy.cannot_run);
        match self.sidecar_failing {
            Some(CountOrTime::Count(ends)) => policy.sidecar_crashes = ends,
            Some(CountOrTime::Time(time)) => policy.sidecar_unready = time.0,
            None => {}
        }
        policy.settle = self.no_readiness_probe.map_or(policy.settle, |time| time.0);
        policy.lasts.extend(self.times().into_iter().filter_map(|(code, time)| Some((code, time?.0))));
        policy
    }

    /// The durations, each with its code.
    pub fn times(&self) -> [(Code, Option<Seconds>); 11] {
        [
            (Code::ImageNotFound, self.image_not_found),
            (Code::ImageWrongPlatform, self.image_wrong_platform),
            (Code::ImageDenied, self.image_denied),
            (Code::ImageUnreachable, self.image_unreachable),
            (Code::ConfigMissing, self.config_missing),
            (Code::Unschedulable, self.unschedulable),
            (Code::VolumeFailing, self.volume_failing),
            (Code::PodsRefused, self.pods_refused),
            (Code::QuotaExceeded, self.quota_exceeded),
            (Code::WebhookUnreachable, self.webhook_unreachable),
            (Code::InjectorUntrusted, self.injector_untrusted),
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn policy(yaml: &str) -> Policy {
        serde_saphyr::from_str::<Tolerate>(yaml).expect("valid").policy()
    }

    #[test]
    fn nothing_said_changes_nothing() {
        assert_eq!(policy("{}"), Policy::default());
    }

    #[test]
    fn each_key_changes_its_own_number() {
        let patient =
            policy("{image_not_found: 60s, crash_loop: 5, sidecars: [istio-proxy, vault-agent], sidecar_failing: 2m, no_readiness_probe: 3s}");
        assert_eq!(patient.lasts(Code::ImageNotFound), Duration::from_secs(60));
        assert_eq!((patient.crashes, patient.init_crashes), (5, 3));
        assert_eq!(patient.sidecars, ["istio-proxy", "vault-agent"]);
        assert_eq!((patient.sidecar_unready, patient.sidecar_crashes), (Duration::from_secs(120), 6));
        assert_eq!(patient.settle, Duration::from_secs(3));
        assert_eq!(policy("sidecar_failing: 9").sidecar_crashes, 9);
    }

    #[test]
    fn every_key_is_a_code_or_known_beside_them() {
        let value = serde_json::to_value(schemars::schema_for!(Tolerate)).expect("a schema");
        let keys: Vec<&String> = value["properties"].as_object().expect("properties").keys().collect();
        let mut odd: Vec<&str> = keys.iter().map(|key| key.as_str()).filter(|key| Code::parse(key).is_none()).collect();
        odd.sort_unstable();
        assert_eq!(odd, ["no_readiness_probe", "sidecars"]);
    }
}
