//! The probe pod: no sidecar, no token, small, ending by itself, and recognisable for whoever finds it.

use serde_json::{Value, json};

use crate::domain::troubleshoot::probe::{PROGRAM, Request, args};

/// Marks every probe pod.
pub const LABEL: &str = "meshstep.io/probe";
/// Whose it is.
pub const RUN: &str = "meshstep.io/run";
pub const CONTAINER: &str = "probe";
/// It is ended by the kubelet after this time, whatever happens to us.
pub const DEADLINE_SECONDS: i64 = 90;

/// A label's value for a run's id: at most 63 of the characters that labels may have.
pub fn label_value(run_id: &str) -> String {
    let plain: String = run_id.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
    let tail: String = plain.chars().skip(plain.chars().count().saturating_sub(63)).collect();
    tail.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

/// The pod's manifest.
pub fn manifest(name: &str, namespace: &str, image: &str, run_id: &str, requests: &[Request]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": namespace,
            "labels": {
                "app.kubernetes.io/managed-by": "meshstep", LABEL: "true", RUN: label_value(run_id),
                "sidecar.istio.io/inject": "false",
            },
            // Older injectors read the annotation alone.
            "annotations": {"sidecar.istio.io/inject": "false"},
        },
        "spec": {
            "restartPolicy": "Never", "activeDeadlineSeconds": DEADLINE_SECONDS, "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": false, "enableServiceLinks": false,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": CONTAINER, "image": image, "command": [PROGRAM], "args": args(requests),
                "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}},
                "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    })
}

/// Why a probe pod does not get to run, if that is certain: the image, or admission.
pub fn cannot_run(pod: &Value) -> Option<String> {
    let waiting = pod.pointer("/status/containerStatuses/0/state/waiting")?;
    let text = |key: &str| waiting.get(key).and_then(Value::as_str).unwrap_or_default();
    let reason = text("reason");
    let certain = ["ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError", "CreateContainerError", "RunContainerError"];
    certain.contains(&reason).then(|| format!("{reason}: {}", text("message")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_has_no_sidecar_no_token_and_an_end() {
        let pod = manifest("p", "prod", "curl:1", "jenkins-shop #17", &[]);
        let at = |pointer: &str| pod.pointer(pointer).cloned().unwrap_or_default();
        assert_eq!(at("/metadata/labels/sidecar.istio.io~1inject"), "false");
        assert_eq!(at("/spec/automountServiceAccountToken"), false);
        assert_eq!(at("/spec/activeDeadlineSeconds"), DEADLINE_SECONDS);
        assert_eq!(at("/metadata/labels/meshstep.io~1run"), "jenkins-shop--17");
        assert!(at("/spec/containers/0/resources/limits/memory").is_string());
    }

    #[test]
    fn run_ids_become_labels() {
        for (id, label) in [("a/b c", "a-b-c"), ("-x-", "x"), ("local-1", "local-1")] {
            assert_eq!(label_value(id), label);
        }
        assert_eq!(label_value(&"x".repeat(100)).len(), 63);
    }

    #[test]
    fn only_what_cannot_run_is_given_up() {
        let pod = |reason: &str| json!({"status": {"containerStatuses": [{"state": {"waiting": {"reason": reason, "message": "m"}}}]}});
        assert_eq!(cannot_run(&pod("ImagePullBackOff")).as_deref(), Some("ImagePullBackOff: m"));
        assert_eq!(cannot_run(&pod("ContainerCreating")), None);
        assert_eq!(cannot_run(&json!({})), None);
    }
}
