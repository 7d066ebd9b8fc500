//! What runs in a cluster, as far as a pipeline file could name it. Only read.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::networking::v1::Ingress;

use crate::base::fault::Result;
use crate::clients::kube::Cluster;
use crate::domain::mesh::labels::INJECTION;
use crate::domain::mesh::ready::{GATEWAY, SYSTEM};
use crate::domain::releases::helm::Helm;

/// A helm release.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Release {
    pub name: String,
    pub namespace: String,
    /// `virtual-services`, without its version.
    pub chart: String,
    /// The value `team` that it was installed with.
    pub team: Option<String>,
}

/// A Deployment that a Service of the same name stands before, in a namespace whose pods get a sidecar.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    pub name: String,
    pub namespace: String,
    pub image: String,
}

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    pub injected: Vec<String>,
    pub namespaces: Vec<String>,
    /// Type of the gateway's Service.
    pub gateway: Option<String>,
    /// Ingresses in front of the gateway: name and namespace.
    pub ingresses: Vec<(String, String)>,
    pub workloads: Vec<Workload>,
    pub releases: Vec<Release>,
}

/// Looks at a cluster; helm tells its releases, if there is one.
///
/// # Errors
/// When the cluster cannot be read.
pub async fn look(cluster: &Cluster, helm: Option<&Helm>) -> Result<Live> {
    let namespaces: Vec<Namespace> = cluster.list("", "").await?;
    let labels = |namespace: &Namespace| namespace.metadata.labels.clone().unwrap_or_default();
    let name = |namespace: &Namespace| namespace.metadata.name.clone().unwrap_or_default();
    let mut live = Live {
        injected: namespaces.iter().filter(|namespace| labels(namespace).get(INJECTION).is_some_and(|value| value == "enabled")).map(name).collect(),
        namespaces: namespaces.iter().map(name).collect(),
        ..Live::default()
    };
    let gateway: Option<Service> = cluster.get(SYSTEM, GATEWAY).await?;
    live.gateway = gateway.and_then(|service| service.spec?.type_);
    let ingresses: Vec<Ingress> = cluster.list("", "").await?;
    live.ingresses = ingresses.iter().filter(|ingress| leads_to_gateway(ingress)).map(|ingress| named(&ingress.metadata)).collect();
    for namespace in &live.injected {
        let services: Vec<Service> = cluster.list(namespace, "").await?;
        let deployments: Vec<Deployment> = cluster.list(namespace, "").await?;
        let served: Vec<String> = services.iter().filter_map(|service| service.metadata.name.clone()).collect();
        live.workloads.extend(deployments.iter().filter_map(workload).filter(|workload| served.contains(&workload.name)));
    }
    if let Some(helm) = helm {
        // Where an Ingress is, its release is; and the runbook's own are in istio-system.
        let mut homes: Vec<String> = live.ingresses.iter().map(|(_, namespace)| namespace.clone()).collect();
        if live.namespaces.iter().any(|namespace| namespace == SYSTEM) {
            homes.push(SYSTEM.to_owned());
        }
        homes.sort();
        homes.dedup();
        for namespace in homes {
            for listed in helm.list(&namespace).await? {
                let values = helm.values(&namespace, &listed.name).await?;
                live.releases.push(Release {
                    chart: without_version(&listed.chart).to_owned(),
                    name: listed.name,
                    namespace: namespace.clone(),
                    team: values["team"].as_str().filter(|team| !team.is_empty()).map(str::to_owned),
                });
            }
        }
    }
    Ok(live)
}

fn named(metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> (String, String) {
    (metadata.name.clone().unwrap_or_default(), metadata.namespace.clone().unwrap_or_default())
}

fn leads_to_gateway(ingress: &Ingress) -> bool {
    let value = serde_json::to_value(&ingress.spec).unwrap_or_default();
    value.to_string().contains(&format!("\"name\":\"{GATEWAY}\""))
}

fn workload(deployment: &Deployment) -> Option<Workload> {
    let (name, namespace) = named(&deployment.metadata);
    let image = deployment.spec.template.spec.as_ref()?.containers.iter().find(|container| container.name != "istio-proxy")?.image.clone()?;
    Some(Workload { name, namespace, image })
}

/// `alb-istio-ingress-1.0.0` is `alb-istio-ingress`.
fn without_version(chart: &str) -> &str {
    let version = |rest: &str| rest.split_once('.').is_some_and(|(major, _)| !major.is_empty() && major.bytes().all(|byte| byte.is_ascii_digit()));
    chart.match_indices('-').find(|(at, _)| version(&chart[at + 1..])).map_or(chart, |(at, _)| &chart[..at])
}

/// Cluster and Region of an EKS cluster, from the ARN that the aws CLI and this tool name contexts by.
pub fn of_arn(context: &str) -> Option<(String, String)> {
    let parts: Vec<&str> = context.splitn(6, ':').collect();
    let ["arn", _, "eks", region, _, path] = parts[..] else { return None };
    Some((path.strip_prefix("cluster/")?.to_owned(), region.to_owned()))
}

/// The image that most of a service's namespaces run, if they agree on its repository.
pub fn image_of(workloads: &[Workload], service: &str) -> Option<String> {
    let mut images: BTreeMap<&str, usize> = BTreeMap::new();
    for workload in workloads.iter().filter(|workload| workload.name == service) {
        *images.entry(&workload.image).or_default() += 1;
    }
    images.into_iter().max_by_key(|(_, n)| *n).map(|(image, _)| image.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charts_lose_their_version_and_contexts_tell_their_cluster() {
        for (chart, name) in [("alb-istio-ingress-1.0.0", "alb-istio-ingress"), ("web-2-1.0.0-rc.1", "web-2"), ("plain", "plain")] {
            assert_eq!(without_version(chart), name);
        }
        let arn = "arn:aws:eks:ap-southeast-1:123456789012:cluster/shop-eks";
        assert_eq!(of_arn(arn), Some(("shop-eks".to_owned(), "ap-southeast-1".to_owned())));
        assert_eq!(of_arn("kind-kind"), None);
    }
}
