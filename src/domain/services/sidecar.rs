//! Is a sidecar due in a pod, is it there, is it ready? As Istio's injector decides it.

use std::collections::BTreeMap;

use crate::domain::services::rollout::seen::{Pod, Role};

/// Name of the sidecar's container, whether it stands beside the app or among the init containers.
pub const PROXY: &str = "istio-proxy";

type Labels = BTreeMap<String, String>;

/// What decides about injection in one pod.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub namespace: &'a str,
    pub namespace_labels: &'a Labels,
    pub pod_labels: &'a Labels,
    pub pod_annotations: &'a Labels,
    pub host_network: bool,
    /// Revisions and tags that have an injector; `None`: not known.
    pub revisions: Option<&'a [String]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// With the label that asks for it.
    Yes(String),
    /// With the reason.
    No(String),
    /// A label asks for it, but nothing answers to that revision: pods start without a sidecar, silently.
    NoInjector(String),
}

/// Is injection due, by the namespace's labels, the pod's own, and the injector's exceptions?
pub fn due(facts: &Facts) -> Due {
    let label = |labels: &'_ Labels, key: &str| labels.get(key).cloned();
    let inject = label(facts.pod_labels, "sidecar.istio.io/inject");
    // The annotation is older; the label wins.
    let opted = inject.clone().or_else(|| label(facts.pod_annotations, "sidecar.istio.io/inject"));
    let namespace_rev = label(facts.namespace_labels, "istio.io/rev");
    let pod_rev = label(facts.pod_labels, "istio.io/rev");
    let asked = match label(facts.namespace_labels, "istio-injection").as_deref() {
        Some("enabled") => (format!("namespace {} has istio-injection=enabled", facts.namespace), "default".to_owned()),
        Some("disabled") => return Due::No(format!("namespace {} has istio-injection=disabled", facts.namespace)),
        _ => match (namespace_rev, pod_rev, inject.as_deref()) {
            (Some(rev), _, _) => (format!("namespace {} has istio.io/rev={rev}", facts.namespace), rev),
            (None, Some(rev), _) => (format!("the pod has istio.io/rev={rev}"), rev),
            (None, None, Some("true")) => ("the pod has sidecar.istio.io/inject=true".to_owned(), "default".to_owned()),
            _ => return Due::No(format!("namespace {} has no injection label", facts.namespace)),
        },
    };
    if facts.host_network {
        return Due::No("the pod uses the host's network".to_owned());
    }
    if opted.as_deref() == Some("false") {
        return Due::No("the pod opts out with sidecar.istio.io/inject=false".to_owned());
    }
    if matches!(facts.namespace, "kube-system" | "kube-public" | "kube-node-lease" | "local-path-storage") {
        return Due::No(format!("Istio never injects into {}", facts.namespace));
    }
    let (by, revision) = asked;
    match facts.revisions {
        Some(known) if !known.contains(&revision) => {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Due::NoInjector(format!("{by}, but no injector has revision {revision} (there is: {known})"))
        }
        _ => Due::Yes(by),
    }
}

/// How a pod stands to its sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    Ready { native: bool },
    NotReady,
    Missing,
}

pub fn presence(pod: &Pod) -> Presence {
    match pod.containers.iter().find(|c| c.name == PROXY) {
        Some(c) if c.ready => Presence::Ready { native: matches!(c.role, Role::Sidecar { native: true }) },
        Some(_) => Presence::NotReady,
        None => Presence::Missing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn when_injection_is_due() {
        const ENABLED: (&str, &str) = ("istio-injection", "enabled");
        const REV: (&str, &str) = ("istio.io/rev", "1-30");
        const OUT: (&str, &str) = ("sidecar.istio.io/inject", "false");
        const IN: (&str, &str) = ("sidecar.istio.io/inject", "true");
        type Pairs = &'static [(&'static str, &'static str)];
        let revisions = ["default".to_owned(), "1-30".to_owned()];
        let cases: [(Pairs, Pairs, Pairs, bool, &str); 15] = [
            (&[ENABLED], &[], &[], false, "yes"),
            (&[], &[], &[], false, "no: namespace prod has no injection label"),
            (&[("istio-injection", "disabled")], &[IN], &[], false, "no: namespace prod has istio-injection=disabled"),
            (&[REV], &[], &[], false, "yes"),
            (&[("istio.io/rev", "1-29")], &[], &[], false, "no injector"),
            // Both labels: the older one wins.
            (&[ENABLED, ("istio.io/rev", "1-29")], &[], &[], false, "yes"),
            (&[ENABLED], &[OUT], &[], false, "no: the pod opts out with sidecar.istio.io/inject=false"),
            (&[ENABLED], &[], &[OUT], false, "no: the pod opts out with sidecar.istio.io/inject=false"),
            (&[ENABLED], &[IN], &[OUT], false, "yes"),
            (&[REV], &[OUT], &[], false, "no: the pod opts out with sidecar.istio.io/inject=false"),
            (&[], &[IN], &[], false, "yes"),
            (&[], &[], &[IN], false, "no: namespace prod has no injection label"),
            (&[], &[REV], &[], false, "yes"),
            (&[ENABLED], &[], &[], true, "no: the pod uses the host's network"),
            (&[("istio.io/dataplane-mode", "ambient")], &[], &[], false, "no: namespace prod has no injection label"),
        ];
        for (namespace, pod, annotations, host_network, expected) in cases {
            let (n, p, a) = (labels(namespace), labels(pod), labels(annotations));
            let facts =
                Facts { namespace: "prod", namespace_labels: &n, pod_labels: &p, pod_annotations: &a, host_network, revisions: Some(&revisions) };
            let found = match due(&facts) {
                Due::Yes(_) => "yes".to_owned(),
                Due::No(reason) => format!("no: {reason}"),
                Due::NoInjector(_) => "no injector".to_owned(),
            };
            assert_eq!(found, expected, "{namespace:?} {pod:?} {annotations:?}");
        }
    }

    #[test]
    fn a_native_sidecar_is_found_among_the_init_containers() {
        let pod = |containers: serde_json::Value| -> Pod {
            serde_json::from_value(serde_json::json!({"uid": "u", "name": "p", "newest": true, "phase": "Running", "containers": containers}))
                .expect("a pod")
        };
        let proxy = |role: serde_json::Value, ready: bool| {
            pod(serde_json::json!([{"name": "istio-proxy", "role": role, "image": "proxyv2", "ready": ready, "state": {"is": "unknown"}}]))
        };
        assert_eq!(presence(&proxy(serde_json::json!({"sidecar": {"native": true}}), true)), Presence::Ready { native: true });
        assert_eq!(presence(&proxy(serde_json::json!({"sidecar": {"native": false}}), true)), Presence::Ready { native: false });
        assert_eq!(presence(&proxy(serde_json::json!({"sidecar": {"native": false}}), false)), Presence::NotReady);
        assert_eq!(presence(&pod(serde_json::json!([]))), Presence::Missing);
    }
}
