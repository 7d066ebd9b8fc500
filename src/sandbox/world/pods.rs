//! How pods live and how the applications in them answer.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;

/// Which pods an entry is about. Absent fields match all; `*` in a value stands for any text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct PodMatch {
    pub namespace: Option<String>,
    /// The Deployment, StatefulSet, DaemonSet or Job it belongs to, or its own name.
    pub workload: Option<String>,
    /// An image of any of its containers.
    pub image: Option<String>,
}

impl PodMatch {
    pub fn matches(&self, namespace: &str, workload: &str, images: &[&str]) -> bool {
        let holds = |pattern: &Option<String>, text: &str| pattern.as_deref().is_none_or(|p| wild(p, text));
        holds(&self.namespace, namespace)
            && holds(&self.workload, workload)
            && self.image.as_deref().is_none_or(|p| images.iter().any(|image| wild(p, image)))
    }
}

/// Whether `text` matches `pattern`, in which `*` stands for any text.
pub fn wild(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => {
            let Some(rest) = text.strip_prefix(head) else { return false };
            (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| wild(tail, &rest[at..]))
        }
    }
}

/// How the pods of a workload live.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct PodScript {
    pub r#match: PodMatch,
    /// Only for so many pods; for all when absent.
    pub times: Option<u32>,
    /// Why no node takes it, as the scheduler words it after `0/2 nodes are available: `.
    pub unschedulable: Option<String>,
    /// The kubelet cannot set the pod up: the message of FailedCreatePodSandBox or FailedMount.
    pub setup_fails: Option<String>,
    /// What happens after the container was started, in this order; when absent it runs and gets ready.
    pub then: Vec<PodStep>,
    /// What each container has written to its log, by container's name.
    pub log: BTreeMap<String, Vec<String>>,
}

/// One step in the life of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct PodStep {
    /// Since the step before, or since the container was started.
    pub after: Time,
    /// The first container of the application when absent.
    pub container: Option<String>,
    pub state: PodState,
    /// Only in so many runs of the container, or so many tries to create it for `waiting`; in all when absent.
    pub times: Option<u32>,
    /// Exit code of `crashed`, 1 by default, or of `killed`, 137 by default.
    pub exit_code: Option<i32>,
    /// `Error` or `OOMKilled` of a crash, else by the state; the reason of `waiting`, `evicted` and `taken`.
    pub reason: Option<String>,
    pub message: Option<String>,
    /// Lines written to the log at this step.
    pub log: Vec<String>,
}

/// What a step makes of the container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PodState {
    /// The readiness probe passes.
    #[default]
    Ready,
    /// The readiness probe fails, with an event Unhealthy.
    Unready,
    /// It ends with an error; the kubelet starts it again after a back-off, and the steps repeat.
    Crashed,
    /// It ends well.
    Completed,
    /// The liveness probe fails: the kubelet kills it, with events Unhealthy and Killing, and starts it again as after a crash.
    Killed,
    /// The kubelet evicts the pod: it stays behind as failed, with `reason` (`Evicted`).
    Evicted,
    /// The scheduler or a controller takes the pod away: it is marked with `reason` (`PreemptionByScheduler`) and deleted.
    Taken,
    /// It never starts: `reason` and `message` of the waiting state.
    Waiting,
}

/// How an application answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct AppScript {
    pub r#match: PodMatch,
    /// Only below this path; `*` stands for any text.
    pub path: Option<String>,
    pub status: u16,
    /// `ok SERVICE NAMESPACE` when absent.
    pub body: Option<String>,
    pub headers: BTreeMap<String, String>,
    pub delay: Time,
    /// The application does not listen: connection refused.
    pub refuses: bool,
}

impl Default for AppScript {
    fn default() -> Self {
        Self { r#match: PodMatch::default(), path: None, status: 200, body: None, headers: BTreeMap::new(), delay: Time::default(), refuses: false }
    }
}

/// Which root signed the certificates of a workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct CertificateScript {
    pub r#match: PodMatch,
    pub root: RootAge,
    /// They could not be renewed in time: they have expired.
    pub expired: bool,
}

/// Which root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RootAge {
    /// The mesh's present one.
    #[default]
    Current,
    /// The one before, until the pod template gets an annotation it did not have: a restart cures it.
    Former,
    /// The one before, also after a restart.
    FormerForEver,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, text, right) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("*:bad", "registry.example/app1:bad", true),
            ("registry.example/*:1", "registry.example/app1:2", false),
            ("a*b*c", "axxbyyc", true),
        ] {
            assert_eq!(wild(pattern, text), right, "{pattern} {text}");
        }
    }

    #[test]
    fn absent_fields_match_all() {
        let matcher = PodMatch { namespace: Some("prod".to_owned()), ..PodMatch::default() };
        assert!(matcher.matches("prod", "app1-service", &[]));
        assert!(!matcher.matches("pre-prod", "app1-service", &[]));
    }
}
