//! Looks at the cluster for Istio: its control planes, its gateway, and what we remember of them.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service};

use crate::base::fault::Result;
use crate::clients::kube::Cluster;
use crate::domain::mesh::decide::{Found, Installer, MEMORY, Memory, Plane};
use crate::domain::mesh::ready::{GATEWAY, SYSTEM};
use crate::domain::mesh::version;

/// What is installed, read from the objects themselves: istioctl hides its own errors.
pub async fn found(cluster: &Cluster) -> Result<Found> {
    let planes: Vec<Deployment> = cluster.list("", "app=istiod").await?;
    let gateway: Option<Service> = cluster.get(SYSTEM, GATEWAY).await?;
    let memory: Option<ConfigMap> = cluster.get(SYSTEM, MEMORY).await?;
    Ok(Found {
        planes: planes.iter().map(plane).collect(),
        gateway: gateway.and_then(|s| s.spec).map(|spec| spec.type_.unwrap_or_else(|| "ClusterIP".to_owned())),
        memory: memory
            .and_then(|m| m.data)
            .and_then(|data| serde_json::to_value(data).ok())
            .and_then(|data| serde_json::from_value::<Memory>(data).ok()),
    })
}

fn plane(deployment: &Deployment) -> Plane {
    let metadata = &deployment.metadata;
    let label = |key: &str| metadata.labels.as_ref().and_then(|l| l.get(key)).cloned();
    let annotation = |key: &str| metadata.annotations.as_ref().and_then(|a| a.get(key)).cloned();
    let spec = deployment.spec.template.spec.as_ref();
    let image = spec.and_then(|s| s.containers.first()).and_then(|c| c.image.as_deref());
    let known = |version: Option<String>| version.filter(|v| !v.is_empty() && v != "unknown");
    let owner = metadata.owner_references.iter().flatten().find(|o| o.api_version.contains("istio") || o.api_version.contains("sailoperator"));
    let installer = if let Some(release) = annotation("meta.helm.sh/release-name") {
        Installer::Helm(release)
    } else if let Some(owner) = owner {
        Installer::Operator(owner.kind.clone())
    } else if label("operator.istio.io/component").is_some() {
        Installer::Istioctl
    } else {
        Installer::Unknown
    };
    Plane {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
        revision: label("istio.io/rev").unwrap_or_else(|| "default".to_owned()),
        version: known(label("operator.istio.io/version"))
            .or_else(|| image.and_then(version::of_image))
            .or_else(|| known(label("app.kubernetes.io/version"))),
        installer,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_control_plane_tells_who_installed_it() {
        let of = |metadata: Value| -> Plane {
            let mut metadata = metadata;
            metadata["name"] = "istiod".into();
            metadata["namespace"] = SYSTEM.into();
            let template = json!({"spec": {"containers": [{"name": "discovery", "image": "istio/pilot:1.30.4-distroless"}]}});
            plane(&serde_json::from_value(json!({"metadata": metadata, "spec": {"selector": {}, "template": template}})).expect("a deployment"))
        };
        let by_istioctl =
            of(json!({"labels": {"operator.istio.io/component": "Pilot", "operator.istio.io/version": "1.31.0", "istio.io/rev": "default"}}));
        assert_eq!((by_istioctl.installer, by_istioctl.version.as_deref()), (Installer::Istioctl, Some("1.31.0")));
        let by_helm = of(json!({"annotations": {"meta.helm.sh/release-name": "istiod"}, "labels": {"app.kubernetes.io/managed-by": "Helm"}}));
        assert_eq!((by_helm.installer, by_helm.version.as_deref()), (Installer::Helm("istiod".into()), Some("1.30.4")));
        let owner = json!([{"apiVersion": "sailoperator.io/v1", "kind": "IstioRevision", "name": "default", "uid": "u"}]);
        assert_eq!(of(json!({"ownerReferences": owner})).installer, Installer::Operator("IstioRevision".into()));
        assert_eq!(of(json!({})).installer, Installer::Unknown);
    }
}
