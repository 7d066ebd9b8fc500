//! Who made an object of Istio: only what this file made may go without being asked for.

use serde_json::Value;

/// The label on everything that istioctl installs, and by which its purge finds it again.
pub const COMPONENT: &str = "operator.istio.io/component";

/// What the file makes.
#[derive(Clone, Debug, Default)]
pub struct Ours {
    /// Namespace and name of each release in `releases:`.
    pub releases: Vec<(String, String)>,
    /// Kind, namespace and name of each object in the files of `mesh.common` and `mesh.gateway`.
    pub objects: Vec<(String, String, String)>,
}

/// Who made an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Maker {
    Release(String),
    MeshFile,
    Istioctl,
    /// Somebody else, in words.
    Other(String),
}

/// Reads who made an object from its labels, annotations and owners.
pub fn maker(object: &Value, ours: &Ours) -> Maker {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let of = |map: &str, key: &str| object.pointer(map).and_then(|map| map.get(key)).and_then(Value::as_str);
    let annotation = |key: &str| of("/metadata/annotations", key);
    let label = |key: &str| of("/metadata/labels", key);
    let (kind, namespace, name) = (text("/kind"), text("/metadata/namespace"), text("/metadata/name"));
    if let Some(release) = annotation("meta.helm.sh/release-name") {
        let home = annotation("meta.helm.sh/release-namespace").unwrap_or(namespace);
        let is_ours = ours.releases.iter().any(|(own_home, own)| own_home == home && own == release);
        return if is_ours { Maker::Release(release.to_owned()) } else { Maker::Other(format!("helm release {release} in {home}")) };
    }
    if ours.objects.iter().any(|(k, ns, n)| k == kind && ns == namespace && n == name) {
        return Maker::MeshFile;
    }
    if label(COMPONENT).is_some() {
        return Maker::Istioctl;
    }
    if let Some(owner) = object.pointer("/metadata/ownerReferences/0") {
        let part = |key: &str| owner.get(key).and_then(Value::as_str).unwrap_or_default();
        return Maker::Other(format!("{} {}", part("kind"), part("name")));
    }
    if let Some(app) = annotation("argocd.argoproj.io/tracking-id").and_then(|id| id.split(':').next()) {
        return Maker::Other(format!("the Argo CD application {app}"));
    }
    if let Some(flux) = label("kustomize.toolkit.fluxcd.io/name") {
        return Maker::Other(format!("the Flux kustomization {flux}"));
    }
    Maker::Other(match annotation("kubectl.kubernetes.io/last-applied-configuration") {
        Some(_) => "somebody with kubectl apply".to_owned(),
        None => "somebody else".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_files_own_objects_are_told_from_everybody_elses() {
        let ours = Ours {
            releases: vec![("istio-system".into(), "virtual-services".into())],
            objects: vec![("Gateway".into(), "istio-system".into(), "gateway".into())],
        };
        let of = |kind: &str, namespace: &str, name: &str, more: Value| {
            let mut metadata = more;
            metadata["namespace"] = namespace.into();
            metadata["name"] = name.into();
            maker(&json!({"kind": kind, "metadata": metadata}), &ours)
        };
        let helm = |release: &str, home: &str| json!({"annotations": {"meta.helm.sh/release-name": release, "meta.helm.sh/release-namespace": home}});
        let other = |words: &str| Maker::Other(words.to_owned());
        for (found, expected) in [
            (of("VirtualService", "istio-system", "a", helm("virtual-services", "istio-system")), Maker::Release("virtual-services".into())),
            // the same name in another namespace is another release
            (of("VirtualService", "prod", "a", helm("virtual-services", "prod")), other("helm release virtual-services in prod")),
            (of("DestinationRule", "prod", "a", helm("app1-service", "prod")), other("helm release app1-service in prod")),
            (of("Gateway", "istio-system", "gateway", json!({})), Maker::MeshFile),
            (of("Gateway", "shop", "gateway", json!({})), other("somebody else")),
            (of("EnvoyFilter", "istio-system", "stats", json!({"labels": {COMPONENT: "Pilot"}})), Maker::Istioctl),
            (of("VirtualService", "shop", "a", json!({"ownerReferences": [{"kind": "Canary", "name": "a"}]})), other("Canary a")),
            (
                of(
                    "VirtualService",
                    "shop",
                    "a",
                    json!({"annotations": {"argocd.argoproj.io/tracking-id": "shop:networking.istio.io/VirtualService:shop/a"}}),
                ),
                other("the Argo CD application shop"),
            ),
            (
                of("VirtualService", "shop", "a", json!({"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}})),
                other("somebody with kubectl apply"),
            ),
        ] {
            assert_eq!(found, expected);
        }
    }
}
