//! The probe pod: no sidecar, no token, small, ending by itself, and recognisable for whoever finds it.

use serde_json::{Value, json};

use crate::domain::probe::curl::{CACERT, PROGRAM, Request, args};

/// Marks every probe pod.
pub const LABEL: &str = "meshstep.io/probe";
/// Whose it is.
pub const RUN: &str = "meshstep.io/run";
/// Holds the certificates that its curl trusts.
const TRUSTED: &str = "meshstep.io/cacert";
/// What it may take until it asks, in seconds.
const START: u32 = 75;

/// What a pod is to ask, and whose it is.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    pub name: &'a str,
    pub namespace: &'a str,
    pub image: &'a str,
    pub run_id: &'a str,
    /// Requests that are made one after another; the lists side by side.
    pub lanes: &'a [Vec<Request>],
    /// Certificates (PEM) that requests may trust.
    pub cacert: Option<&'a str>,
}

/// The container that asks the requests of a lane.
pub fn container(lane: usize) -> String {
    format!("probe-{lane}")
}

/// Spreads requests over at most `most` lanes.
pub fn lanes(requests: Vec<Request>, most: usize) -> Vec<Vec<Request>> {
    let mut lanes = vec![Vec::new(); requests.len().min(most)];
    let count = lanes.len().max(1);
    requests.into_iter().enumerate().for_each(|(n, request)| lanes[n % count].push(request));
    lanes
}

/// What the requests may take, in seconds.
pub fn asking(lanes: &[Vec<Request>]) -> u32 {
    lanes.iter().map(|lane| lane.iter().map(|request| request.within).sum()).max().unwrap_or(0)
}

/// A label's value for a run's id: at most 63 of the characters that labels may have.
pub fn label_value(run_id: &str) -> String {
    let plain: String = run_id.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
    let tail: String = plain.chars().skip(plain.chars().count().saturating_sub(63)).collect();
    tail.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

impl Plan<'_> {
    /// The pod's manifest.
    pub fn manifest(&self) -> Value {
        let Plan { name, namespace, image, run_id, lanes, cacert } = *self;
        let mut pod = json!({
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
                // The kubelet ends it after this time, whatever happens to us.
                "restartPolicy": "Never", "activeDeadlineSeconds": START + asking(lanes), "terminationGracePeriodSeconds": 1,
                "automountServiceAccountToken": false, "enableServiceLinks": false,
                "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": lanes.iter().enumerate().map(|(n, lane)| json!({
                    "name": container(n), "image": image, "command": [PROGRAM], "args": args(lane),
                    "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}},
                    "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
                })).collect::<Vec<_>>(),
            },
        });
        if let Some(pem) = cacert {
            mount(&mut pod, pem);
        }
        pod
    }
}

/// Hands the certificates over as a file, without an object beside the pod.
fn mount(pod: &mut Value, pem: &str) {
    let (folder, file) = CACERT.rsplit_once('/').unwrap_or_default();
    pod["metadata"]["annotations"][TRUSTED] = pem.into();
    let from = json!({"path": file, "fieldRef": {"fieldPath": format!("metadata.annotations['{TRUSTED}']")}});
    pod["spec"]["volumes"] = json!([{"name": "trusted", "downwardAPI": {"items": [from]}}]);
    for container in pod["spec"]["containers"].as_array_mut().into_iter().flatten() {
        container["volumeMounts"] = json!([{"name": "trusted", "mountPath": folder, "readOnly": true}]);
    }
}

/// How old the pod may be before nobody waits for it any more, in seconds.
pub fn deadline(pod: &Value) -> i64 {
    pod.pointer("/spec/activeDeadlineSeconds").and_then(Value::as_i64).unwrap_or_else(|| START.into())
}

/// Why a probe pod does not get to run, if that is certain: the image, or admission.
pub fn cannot_run(pod: &Value) -> Option<String> {
    let statuses = pod.pointer("/status/containerStatuses").and_then(Value::as_array);
    let certain = ["ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError", "CreateContainerError", "RunContainerError"];
    statuses.into_iter().flatten().filter_map(|status| status.pointer("/state/waiting")).find_map(|waiting| {
        let text = |key: &str| waiting.get(key).and_then(Value::as_str).unwrap_or_default();
        certain.contains(&text("reason")).then(|| format!("{}: {}", text("reason"), text("message")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan<'a>(lanes: &'a [Vec<Request>], cacert: Option<&'a str>) -> Value {
        Plan { name: "p", namespace: "prod", image: "curl:1", run_id: "jenkins-shop #17", lanes, cacert }.manifest()
    }

    fn requests(n: usize) -> Vec<Request> {
        (0..n).map(|n| Request { name: n.to_string(), within: 5, ..Request::default() }).collect()
    }

    #[test]
    fn a_probe_has_no_sidecar_no_token_and_an_end() {
        let pod = plan(&[requests(3)], None);
        let at = |pointer: &str| pod.pointer(pointer).cloned().unwrap_or_default();
        assert_eq!(at("/metadata/labels/sidecar.istio.io~1inject"), "false");
        assert_eq!(at("/spec/automountServiceAccountToken"), false);
        assert_eq!((at("/spec/activeDeadlineSeconds"), deadline(&pod)), (json!(90), 90));
        assert_eq!(at("/metadata/labels/meshstep.io~1run"), "jenkins-shop--17");
        assert!(at("/spec/containers/0/resources/limits/memory").is_string());
        assert!(at("/spec/volumes").is_null());
    }

    #[test]
    fn many_requests_are_asked_side_by_side() {
        let names = |lanes: &[Vec<Request>]| -> Vec<String> {
            lanes.iter().map(|lane| lane.iter().map(|r| r.name.as_str()).collect::<Vec<_>>().join(" ")).collect()
        };
        let three = lanes(requests(7), 3);
        assert_eq!(names(&three), ["0 3 6", "1 4", "2 5"]);
        assert_eq!(asking(&three), 15);
        assert_eq!(plan(&three, None)["spec"]["containers"].as_array().map(Vec::len), Some(3));
        assert_eq!(names(&lanes(requests(2), 3)), ["0", "1"]);
        assert!(lanes(Vec::new(), 3).is_empty());
    }

    #[test]
    fn certificates_come_with_the_pod() {
        let pod = plan(&lanes(requests(2), 2), Some("-----BEGIN"));
        let at = |pointer: &str| pod.pointer(pointer).cloned().unwrap_or_default();
        assert_eq!(at("/metadata/annotations/meshstep.io~1cacert"), "-----BEGIN");
        assert_eq!(at("/spec/containers/1/volumeMounts/0/mountPath"), "/meshstep");
        assert_eq!(at("/spec/volumes/0/downwardAPI/items/0/path"), "ca.pem");
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
        let pod = |reason: &str| {
            let waiting = json!({"state": {"waiting": {"reason": reason, "message": "m"}}});
            json!({"status": {"containerStatuses": [{"state": {"running": {}}}, waiting]}})
        };
        assert_eq!(cannot_run(&pod("ImagePullBackOff")).as_deref(), Some("ImagePullBackOff: m"));
        assert_eq!(cannot_run(&pod("ContainerCreating")), None);
        assert_eq!(cannot_run(&json!({})), None);
    }
}
