//! Why the deletion of an Ingress does not end. The load balancer controller writes no event for it: only its own state, its log, AWS and
//! the other members of the group tell. A finalizer is never stripped, for that leaks what it stands for.

use std::sync::LazyLock;
use std::time::Duration;

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::base::text;

/// The load balancer controller, as its Deployment shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Controller {
    /// No Deployment of it is in the cluster.
    Gone,
    /// `kube-system/aws-load-balancer-controller`, and how many pods it wants.
    Down(String, i32),
    Runs,
    /// EKS Auto Mode runs it, out of sight.
    AutoMode,
    /// It could not be asked, and why.
    Unknown(String),
}

/// What is seen of an Ingress that does not go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// `istio-system/gw-ingress`
    pub ingress: String,
    pub controller: Controller,
    /// Error lines of the controller's log about this Ingress, oldest first.
    pub errors: Vec<String>,
    /// Load balancers of the stack with deletion protection.
    pub protected: Vec<String>,
    /// The other members of its group that cannot be built: `shop/other`, and the controller's words.
    pub members: Vec<(String, String)>,
    /// TargetGroupBindings that are still there, with what they say.
    pub bindings: Vec<String>,
}

/// The best explanation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    pub words: String,
    pub next: Vec<String>,
    /// Waiting longer than this changes nothing.
    pub patience: Duration,
}

/// A controller that restarts is back by then.
const RESTARTS: Duration = Duration::from_secs(60);
/// A refusal that was just lifted is retried by then.
const RETRIES: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(3600);

static DENIED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)accessdenied|unauthorizedoperation|not authorized|WebIdentityErr|AssumeRoleWithWebIdentity|no EC2 IMDS role found|NoCredentialProviders|InvalidIdentityToken|failed to refresh cached credentials")
        .expect("the pattern is valid")
});

/// Says why. What makes all else impossible comes first.
pub fn diagnose(held: &Held) -> Diagnosis {
    let Held { ingress, .. } = held;
    let diagnosis = |words: String, next: Vec<String>, patience| Diagnosis { words, next, patience };
    match &held.controller {
        Controller::Gone => {
            return diagnosis(
                format!("the load balancer controller is gone from the cluster, and only it can take its finalizer off {ingress}"),
                vec!["install the AWS Load Balancer Controller again, with its IAM role, and run cleanup again".to_owned()],
                RESTARTS,
            );
        }
        Controller::Down(name, wanted) => {
            let (namespace, deployment) = name.split_once('/').unwrap_or(("kube-system", name));
            let next = if *wanted == 0 {
                format!("`kubectl -n {namespace} scale deployment/{deployment} --replicas=2`, then run cleanup again")
            } else {
                format!("bring its pods up (`kubectl -n {namespace} describe pods`), then run cleanup again")
            };
            return diagnosis(format!("the load balancer controller {name} has no running pod"), vec![next], RESTARTS);
        }
        Controller::Runs | Controller::AutoMode | Controller::Unknown(_) => {}
    }
    if !held.protected.is_empty() {
        return diagnosis(
            format!("deletion protection is on for {}", held.protected.join(" and ")),
            vec![
                "switch it off: in the chart's values (`load-balancer-attributes`), or `aws elbv2 modify-load-balancer-attributes \
                 --load-balancer-arn ARN --attributes Key=deletion_protection.enabled,Value=false`"
                    .to_owned(),
                "then run cleanup again".to_owned(),
            ],
            RETRIES,
        );
    }
    if let Some((member, why)) = held.members.first() {
        return diagnosis(
            format!("another member of its group, {member}, cannot be built, and one broken member blocks all: {why}"),
            vec![format!("correct or remove the Ingress {member}"), "then run cleanup again".to_owned()],
            RETRIES,
        );
    }
    if let Some(error) = held.errors.iter().rev().find(|line| DENIED.is_match(line)) {
        return diagnosis(
            format!("AWS refuses the controller: {}", text::head(error, 300)),
            vec!["give the controller's IAM role back what is named; it tries again by itself".to_owned(), "then run cleanup again".to_owned()],
            RETRIES,
        );
    }
    if let Some(error) = held.errors.last() {
        return diagnosis(
            format!("the controller fails: {}", text::head(error, 300)),
            vec!["correct what its log names; it tries again by itself".to_owned(), "then run cleanup again".to_owned()],
            LONG,
        );
    }
    if let Some(binding) = held.bindings.first() {
        return diagnosis(
            format!("the controller has not let go of it: {binding}"),
            vec!["read the controller's log".to_owned(), "then run cleanup again".to_owned()],
            LONG,
        );
    }
    let (why, next) = match &held.controller {
        Controller::Unknown(why) => (format!("; the controller could not be looked at: {why}"), "look whether the load balancer controller runs"),
        Controller::AutoMode => ("; EKS Auto Mode has not let go of it".to_owned(), "look at the cluster's health in the EKS console"),
        _ => (String::new(), "read the log of the load balancer controller"),
    };
    diagnosis(format!("{ingress} still has its finalizer{why}"), vec![next.to_owned(), "then run cleanup again".to_owned()], LONG)
}

/// The error lines of the controller's log about an Ingress or its group, without what is the same in each try.
pub fn errors_about(log: &str, namespace: &str, ingress: &str, group: Option<&str>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in log.lines() {
        let Ok(record) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        let text = |key: &str| record.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
        let ours = (text("namespace") == namespace && text("name") == ingress) || group.is_some_and(|group| text("name") == group);
        if text("level") == "error" && ours {
            let words = without_request_id(text("error"));
            found.retain(|known| *known != words);
            found.push(words);
        }
    }
    found
}

fn without_request_id(words: &str) -> String {
    static ID: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"RequestID: [0-9a-zA-Z-]+, ").expect("the pattern is valid"));
    ID.replace_all(&text::one_line(words), "").into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held() -> Held {
        Held {
            ingress: "istio-system/gw-ingress".into(),
            controller: Controller::Runs,
            errors: vec![],
            protected: vec![],
            members: vec![],
            bindings: vec![],
        }
    }

    #[test]
    fn each_cause_has_its_words_and_its_next_step() {
        let denied =
            "operation error Elastic Load Balancing v2: DeleteLoadBalancer, https response error StatusCode: 403, api error AccessDenied: no";
        let member = ("shop/other".to_owned(), "unable to find port 9999 on service shop/other".to_owned());
        for (change, words, next, short) in [
            (Held { controller: Controller::Gone, ..held() }, "is gone from the cluster", "install the AWS Load Balancer Controller", true),
            (Held { controller: Controller::Down("kube-system/lbc".into(), 0), ..held() }, "no running pod", "--replicas=2", true),
            (Held { controller: Controller::Down("kube-system/lbc".into(), 2), ..held() }, "no running pod", "describe pods", true),
            (Held { protected: vec!["load balancer k8s-x".into()], ..held() }, "deletion protection is on", "switch it off", true),
            (Held { members: vec![member.clone()], ..held() }, "shop/other, cannot be built", "correct or remove", true),
            (Held { errors: vec!["throttled".into(), denied.into()], ..held() }, "AWS refuses the controller", "IAM role", true),
            (Held { errors: vec!["DependencyViolation: sg-1 has a dependent object".into()], ..held() }, "the controller fails", "its log", false),
            (Held { bindings: vec!["k8s-x: FailedCleanup".into()], ..held() }, "has not let go", "log", false),
            (held(), "still has its finalizer", "read the log", false),
            (Held { controller: Controller::Unknown("forbidden".into()), ..held() }, "could not be looked at", "look whether", false),
            // no pod of the controller explains everything else
            (Held { controller: Controller::Gone, protected: vec!["x".into()], members: vec![member], ..held() }, "is gone", "install", true),
        ] {
            let diagnosis = diagnose(&change);
            assert!(diagnosis.words.contains(words), "{diagnosis:?}");
            assert!(diagnosis.next[0].contains(next), "{diagnosis:?}");
            assert_eq!(diagnosis.patience < LONG, short, "{diagnosis:?}");
        }
    }

    #[test]
    fn the_controllers_log_is_read_for_one_ingress() {
        let line = |level: &str, namespace: &str, name: &str, error: &str| {
            serde_json::json!({"level": level, "ts": "2026-11-23T02:20:57Z", "msg": "Reconciler error", "controller": "ingress", "namespace": namespace, "name": name, "error": error})
                .to_string()
        };
        let log = [
            line("info", "istio-system", "gw-ingress", ""),
            line("error", "istio-system", "gw-ingress", "DeleteLoadBalancer, RequestID: 1-a, api error AccessDenied: no"),
            line("error", "istio-system", "gw-ingress", "DeleteLoadBalancer, RequestID: 2-b, api error AccessDenied: no"),
            line("error", "shop", "other", "something else"),
            line("error", "", "web", "of the group"),
            "no JSON".to_owned(),
        ];
        let log = log.join("\n");
        assert_eq!(errors_about(&log, "istio-system", "gw-ingress", None), ["DeleteLoadBalancer, api error AccessDenied: no"]);
        assert_eq!(errors_about(&log, "x", "y", Some("web")), ["of the group"]);
    }
}
