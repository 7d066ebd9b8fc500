//! Whether Istio's namespace may go: with it goes the mesh's CA, and without the CA the next installation breaks every sidecar that still runs.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::text;
use crate::domain::cleanup::foreign::{COMPONENT, Maker, Ours, maker};
use crate::domain::mesh::decide::MEMORY;

/// The CA that somebody plugged in: no installation makes it again.
pub const PLUGGED_CA: &str = "cacerts";
/// The CA that istiod made for itself.
pub const OWN_CA: &str = "istio-ca-secret";

/// What is known when the decision falls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Pods that run with a sidecar, as `namespace/name`.
    pub injected: Vec<String>,
    /// The Secrets with a CA that are there.
    pub cas: Vec<String>,
    /// What somebody else has in the namespace.
    pub foreign: Vec<String>,
    /// The file's lock or a service of it lives there.
    pub needed_for: Option<String>,
}

/// The flags that decide.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowed {
    pub discard_ca: bool,
    pub purge_foreign: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// With what a person must know about it.
    Goes(Option<String>),
    /// And why.
    Stays(String),
}

pub fn decide(facts: &Facts, allowed: Allowed) -> Fate {
    if let Some(what) = &facts.needed_for {
        return Fate::Stays(format!("it stays: {what} lives in it"));
    }
    if !facts.foreign.is_empty() && !allowed.purge_foreign {
        let what = listed(&facts.foreign);
        return Fate::Stays(format!("it stays: it also holds {what}, which this file did not make; `--purge-foreign` deletes it all the same"));
    }
    let ca = facts.cas.join(" and ");
    if !facts.injected.is_empty() && !allowed.discard_ca {
        let with = if ca.is_empty() { "no CA is left in it".to_owned() } else { format!("its CA {ca} stays too") };
        return Fate::Stays(format!(
            "it stays, and {with}: {} still run with a sidecar ({}). A new CA would make the next installation refuse their certificates, and their \
             hosts answer 503 until each is restarted; `--discard-ca` deletes both",
            text::count(facts.injected.len(), "pod"),
            listed(&facts.injected),
        ));
    }
    if facts.cas.iter().any(|name| name == PLUGGED_CA) && !allowed.discard_ca {
        return Fate::Stays(format!("it stays: its Secret {PLUGGED_CA} is a CA that was plugged in by hand; `--discard-ca` deletes both"));
    }
    Fate::Goes((!facts.injected.is_empty()).then(|| {
        format!(
            "the CA is discarded while {} still run with a sidecar ({}): after the next installation each must be restarted, or its hosts answer 503",
            text::count(facts.injected.len(), "pod"),
            listed(&facts.injected),
        )
    }))
}

/// The first few, and how many more.
pub fn listed(names: &[String]) -> String {
    const SHOWN: usize = 4;
    let shown = names[..names.len().min(SHOWN)].join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}

/// Is this object of the namespace somebody else's? What Kubernetes, istiod, istioctl, helm's records of our releases and this tool leave there is not.
pub fn is_foreign(object: &Value, ours: &Ours) -> bool {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let label = |key: &str| object.pointer("/metadata/labels").and_then(|l| l.get(key)).and_then(Value::as_str);
    let (kind, name) = (text("/kind"), text("/metadata/name"));
    let of_istiod = label(COMPONENT).is_some() || (kind == "ConfigMap" && name.starts_with("istio-"));
    let of_kubernetes = name == "kube-root-ca.crt" || text("/type") == "kubernetes.io/service-account-token";
    let is_ca = kind == "Secret" && (name == OWN_CA || name == PLUGGED_CA);
    let of_helm = text("/type") == "helm.sh/release.v1" && label("name").is_some_and(|release| ours.releases.iter().any(|(_, own)| own == release));
    let of_us = name == MEMORY || label("app.kubernetes.io/managed-by") == Some("meshstep");
    let owned = object.pointer("/metadata/ownerReferences/0").is_some() || object.pointer("/metadata/deletionTimestamp").is_some();
    !(of_istiod || of_kubernetes || is_ca || of_helm || of_us || owned) && matches!(maker(object, ours), Maker::Other(_))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_namespace_goes_only_when_nothing_is_lost_with_it() {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let none = Allowed::default();
        let discard = Allowed { discard_ca: true, ..none };
        let purge = Allowed { purge_foreign: true, ..none };
        let empty = Facts { cas: names(&[OWN_CA]), ..Facts::default() };
        let injected = Facts { injected: names(&["prod/app1"]), ..empty.clone() };
        let plugged = Facts { cas: names(&[PLUGGED_CA]), ..Facts::default() };
        let foreign = Facts { foreign: names(&["Deployment kiali in istio-system"]), ..empty.clone() };
        let needed = Facts { needed_for: Some("the lock of this file".into()), ..empty.clone() };
        for (facts, allowed, goes, holds) in [
            (&empty, none, true, ""),
            (&injected, none, false, "503"),
            (&injected, discard, true, "must be restarted"),
            (&plugged, none, false, "plugged in by hand"),
            (&plugged, discard, true, ""),
            (&foreign, none, false, "kiali"),
            (&foreign, discard, false, "--purge-foreign"),
            (&foreign, purge, true, ""),
            (&needed, Allowed { discard_ca: true, purge_foreign: true }, false, "the lock"),
        ] {
            let (went, words) = match decide(facts, allowed) {
                Fate::Goes(warning) => (true, warning.unwrap_or_default()),
                Fate::Stays(why) => (false, why),
            };
            assert_eq!(went, goes, "{facts:?} {allowed:?}");
            assert!(words.contains(holds), "{words}");
        }
    }

    #[test]
    fn what_istio_and_helm_leave_is_nobody_elses() {
        let ours = Ours { releases: vec![("istio-system".into(), "virtual-services".into())], ..Ours::default() };
        let object = |kind: &str, name: &str, more: Value| {
            let mut object = json!({"kind": kind, "metadata": {"namespace": "istio-system", "name": name}});
            if let (Some(into), Value::Object(more)) = (object.as_object_mut(), more) {
                for (key, value) in more {
                    if key == "labels" {
                        into["metadata"]["labels"] = value;
                    } else {
                        into.insert(key, value);
                    }
                }
            }
            is_foreign(&object, &ours)
        };
        for (kind, name, more) in [
            ("ConfigMap", "istio-ca-root-cert", json!({})),
            ("ConfigMap", "istio-gateway-status-leader", json!({})),
            ("ConfigMap", "kube-root-ca.crt", json!({})),
            ("ConfigMap", MEMORY, json!({})),
            ("Secret", OWN_CA, json!({})),
            ("Secret", "sh.helm.release.v1.virtual-services.v1", json!({"type": "helm.sh/release.v1", "labels": {"name": "virtual-services"}})),
            ("Deployment", "istiod", json!({"labels": {COMPONENT: "Pilot"}})),
        ] {
            assert!(!object(kind, name, more), "{kind} {name}");
        }
        for (kind, name, more) in [
            ("Secret", "shop-tls", json!({"type": "kubernetes.io/tls"})),
            ("Secret", "sh.helm.release.v1.kiali.v1", json!({"type": "helm.sh/release.v1", "labels": {"name": "kiali"}})),
            ("Deployment", "kiali", json!({})),
        ] {
            assert!(object(kind, name, more), "{kind} {name}");
        }
    }
}
