//! Is a sidecar due in a pod, is it there, is it ready? As Istio's injector decides it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::text;
use crate::domain::services::rollout::seen::{Pod, Role};

/// Name of the sidecar's container, whether it stands beside the app or among the init containers.
pub const PROXY: &str = "istio-proxy";

/// Labels and annotations that decide about injection; no other is recorded.
const DECISIVE: [&str; 3] = ["istio-injection", "istio.io/rev", "sidecar.istio.io/inject"];

type Labels = BTreeMap<String, String>;

/// What the sidecars of a deployment are judged by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The file's `mesh.inject` names the namespace.
    pub in_file: bool,
    /// Revisions and tags that have an injector; `None` where that may not be read.
    pub revisions: Option<Vec<String>>,
    pub workloads: Vec<SeenWorkload>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenWorkload {
    pub title: String,
    pub namespace: String,
    pub namespace_labels: Labels,
    pub pods: Vec<SeenPod>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenPod {
    pub name: String,
    pub labels: Labels,
    pub annotations: Labels,
    pub host_network: bool,
    pub presence: Presence,
}

/// What that proves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "verdict")]
pub enum Judgement {
    Proven {
        note: String,
    },
    NotDue {
        why: String,
    },
    /// Nothing asks for it, though the file does.
    Unlabelled {
        why: String,
    },
    /// Of this workload, by its place in the list.
    Missing {
        workload: usize,
        pods: Vec<String>,
        why: String,
    },
}

impl Judgement {
    pub fn words(&self) -> String {
        match self {
            Judgement::Proven { note } => note.clone(),
            Judgement::NotDue { why } => format!("not due: {why}"),
            Judgement::Unlabelled { why } => format!("missing: {why}"),
            Judgement::Missing { pods, why, .. } => format!("missing in {}: {why}", pods.join(", ")),
        }
    }
}

/// Those that decide about injection.
pub fn decisive(labels: Option<Labels>) -> Labels {
    labels.into_iter().flatten().filter(|(key, _)| DECISIVE.contains(&key.as_str())).collect()
}

impl Seen {
    /// Is there a ready sidecar in each pod where injection is due?
    pub fn judge(&self) -> Judgement {
        let (mut notes, mut reason) = (Vec::new(), None);
        for (index, workload) in self.workloads.iter().enumerate() {
            match self.of(index, workload) {
                Judgement::Proven { note } => notes.push(note),
                Judgement::NotDue { why } => reason = reason.or(Some(why)),
                missing => return missing,
            }
        }
        match reason {
            Some(why) if notes.is_empty() && self.in_file && why.contains("no injection label") => Judgement::Unlabelled { why },
            Some(why) if notes.is_empty() => Judgement::NotDue { why },
            _ => Judgement::Proven { note: notes.join(", ") },
        }
    }

    fn of(&self, index: usize, workload: &SeenWorkload) -> Judgement {
        let (mut ready, mut native, mut reason) = (0, 0, None);
        let mut missing: Vec<(String, String)> = Vec::new();
        for pod in &workload.pods {
            let facts = Facts {
                namespace: &workload.namespace,
                namespace_labels: &workload.namespace_labels,
                pod_labels: &pod.labels,
                pod_annotations: &pod.annotations,
                host_network: pod.host_network,
                revisions: self.revisions.as_deref(),
            };
            match (due(&facts), pod.presence) {
                (Due::Yes(_) | Due::NoInjector(_), Presence::Ready { native: is_native }) => {
                    ready += 1;
                    native += usize::from(is_native);
                }
                // Ready pods have ready containers; a pod that has come to its end had one.
                (Due::Yes(_) | Due::NoInjector(_), Presence::NotReady) => ready += 1,
                (Due::Yes(why) | Due::NoInjector(why), Presence::Missing) => missing.push((pod.name.clone(), why)),
                (Due::No(why), _) => reason = Some(why),
            }
        }
        if let Some((_, why)) = missing.first().cloned() {
            return Judgement::Missing { workload: index, pods: missing.into_iter().map(|(name, _)| name).collect(), why };
        }
        match reason {
            Some(why) if ready == 0 => Judgement::NotDue { why },
            _ => {
                let native = if native > 0 { " (native)" } else { "" };
                Judgement::Proven { note: format!("{} with a ready sidecar{native}", text::count(ready, "pod")) }
            }
        }
    }
}

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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

    #[test]
    fn one_pod_without_its_sidecar_is_enough() {
        let pod =
            |name: &str, presence| SeenPod { name: name.to_owned(), labels: labels(&[]), annotations: labels(&[]), host_network: false, presence };
        let out = |name: &str| SeenPod { labels: labels(&[("sidecar.istio.io/inject", "false")]), ..pod(name, Presence::Missing) };
        let (ready, without) = (pod("a", Presence::Ready { native: true }), pod("b", Presence::Missing));
        let judged = |label: &str, in_file: bool, workloads: &[&[SeenPod]]| {
            let workload = |pods: &&[SeenPod]| SeenWorkload {
                title: "deployment app1 in prod".to_owned(),
                namespace: "prod".to_owned(),
                namespace_labels: labels(&[("istio-injection", label)]),
                pods: pods.to_vec(),
            };
            let revisions = Some(vec!["default".to_owned()]);
            match (Seen { in_file, revisions, workloads: workloads.iter().map(workload).collect() }).judge() {
                Judgement::Proven { note } => note,
                Judgement::NotDue { .. } => "not due".to_owned(),
                Judgement::Unlabelled { .. } => "unlabelled".to_owned(),
                Judgement::Missing { workload, pods, .. } => format!("{workload}: {}", pods.join(", ")),
            }
        };
        assert_eq!(judged("enabled", true, &[&[ready.clone(), ready.clone()]]), "2 pods with a ready sidecar (native)");
        assert_eq!(judged("enabled", true, &[std::slice::from_ref(&ready), &[ready.clone(), without.clone()]]), "1: b");
        assert_eq!(judged("enabled", true, &[std::slice::from_ref(&ready), &[out("c")]]), "1 pod with a ready sidecar (native)");
        assert_eq!(judged("enabled", true, &[&[out("c")]]), "not due");
        assert_eq!(judged("", true, &[std::slice::from_ref(&without)]), "unlabelled");
        assert_eq!(judged("", false, &[&[without]]), "not due");
    }
}
