//! Pods that the API server does not let the controller create: quota, admission, webhooks.

use crate::base::codes::Code;
use crate::base::text;
use crate::domain::services::rollout::Trouble;
use crate::domain::services::rollout::history::History;
use crate::domain::services::rollout::pods::may_make_room;
use crate::domain::services::rollout::policy::Policy;
use crate::domain::services::rollout::seen::{Kind, Snapshot};

/// The controller's last word on creating pods of the newest revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: Code,
    /// The API server's own words.
    pub said: String,
    /// A webhook of Istio's.
    pub is_istio: bool,
}

/// What keeps pods from being created now, judged by the newest event.
pub fn of(snapshot: &Snapshot, history: &History) -> Option<Refusal> {
    let workload = snapshot.workload.as_ref()?;
    let newest_event = history
        .new_events(snapshot)
        .filter(|e| e.kind != "Pod" && matches!(e.reason.as_str(), "FailedCreate" | "SuccessfulCreate"))
        .filter(|e| workload.kind != Kind::Deployment || e.name == workload.revision)
        .max_by_key(|e| (e.last, e.reason == "SuccessfulCreate"));
    let failed = newest_event.filter(|e| e.reason == "FailedCreate").map(|e| e.message.as_str());
    let said = match workload.kind {
        // The condition is taken back as soon as a pod could be created; the event only adds the newest words.
        Kind::Deployment => {
            let condition = workload.condition("ReplicaFailure").filter(|c| c.status && c.reason == "FailedCreate")?;
            failed.unwrap_or(&condition.message)
        }
        Kind::StatefulSet | Kind::DaemonSet | Kind::Job => {
            let seen = i32::try_from(snapshot.newest().count()).unwrap_or(i32::MAX);
            failed.filter(|_| seen < workload.wanted)?
        }
        Kind::Pod => return None,
    };
    let said = text::one_line(said);
    Some(Refusal { code: classify(&said)?, is_istio: said.contains("istio.io"), said })
}

/// `None`: a hiccup that says nothing about the pods.
fn classify(said: &str) -> Option<Code> {
    if said.contains("failed calling webhook") {
        Some(if said.contains("x509") && said.contains("istio.io") { Code::InjectorUntrusted } else { Code::WebhookUnreachable })
    } else if said.contains("exceeded quota") {
        Some(Code::QuotaExceeded)
    } else if ["forbidden", "denied the request", "is invalid", "Invalid value", "not found", "failed quota", "violates"]
        .iter()
        .any(|w| said.contains(w))
    {
        Some(Code::PodsRefused)
    } else {
        None
    }
}

pub fn key(code: Code) -> String {
    format!("refused/{}", code.info().name)
}

pub fn trouble(snapshot: &Snapshot, history: &History, policy: &Policy) -> Option<Trouble> {
    let refusal = of(snapshot, history)?;
    let (key, lasts) = (key(refusal.code), policy.lasts(refusal.code));
    let lasted = history.held(&key) >= lasts;
    let (ripe, note) = match refusal.code {
        Code::QuotaExceeded if may_make_room(snapshot) => (false, "; others may still make room"),
        // A controller that was refused tries again after ever longer pauses.
        Code::QuotaExceeded if history.is_untried() => (false, "; older pods have made room since, and nobody has tried again"),
        Code::WebhookUnreachable | Code::InjectorUntrusted if refusal.is_istio && snapshot.around.istiod_available == Some(false) => {
            (false, "; istiod is not available yet")
        }
        // It may be back, and nobody has asked it since.
        Code::WebhookUnreachable | Code::InjectorUntrusted if lasted && !history.is_refused_after(&key, lasts) => {
            (false, "; the controller has not tried again yet")
        }
        _ => (lasted, ""),
    };
    Some(Trouble {
        code: refusal.code,
        ripe,
        pod: None,
        node: None,
        container: None,
        previous: false,
        words: format!("pods cannot be created: {}{note}", refusal.said),
    })
}
