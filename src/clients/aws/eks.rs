//! DescribeCluster, and what of it the connection needs.

use aws_sdk_eks::types::Cluster;

use super::Aws;
use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};

/// An EKS cluster as DescribeCluster tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterInfo {
    pub name: String,
    pub arn: String,
    pub region: String,
    /// `ACTIVE`, `CREATING`, `UPDATING`, `DELETING`, `FAILED`, `PENDING`.
    pub status: String,
    /// Kubernetes version, e.g. `1.34`.
    pub version: String,
    /// Empty while the cluster is being created.
    pub endpoint: String,
    /// PEM in base64, as a kubeconfig holds it.
    pub ca_data: String,
    pub public_access: bool,
    pub private_access: bool,
    /// Who may reach a public endpoint.
    pub public_cidrs: Vec<String>,
    /// `API`, `API_AND_CONFIG_MAP`, `CONFIG_MAP`; empty when not told.
    pub authentication_mode: String,
    pub auto_mode: bool,
    pub vpc: String,
    pub health: Vec<Health>,
}

/// A health issue that EKS itself reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    pub code: String,
    pub message: String,
}

impl Aws {
    /// # Errors
    /// `cluster_not_found` when this account has no such cluster in this Region.
    pub async fn describe_cluster(&self, name: &str) -> Result<ClusterInfo> {
        // Boxed here and below: the SDK's futures are deep.
        match Box::pin(self.inner.eks.describe_cluster().name(name).send()).await {
            Ok(answer) => answer.cluster().map(|cluster| info(cluster, name, self.region())).ok_or_else(|| not_found(name, self.region())),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_resource_not_found_exception()) => {
                Err(not_found(name, self.region()))
            }
            Err(error) => Err(self.fault(&error, "eks:DescribeCluster")),
        }
    }
}

fn not_found(name: &str, region: &str) -> Fault {
    Fault::new(Code::ClusterNotFound, format!("there is no EKS cluster `{name}` in {region} in this account"))
        .next(format!("`aws eks list-clusters --region {region}` shows what there is; check `cluster.region` and the account of the credentials"))
}

fn info(cluster: &Cluster, name: &str, region: &str) -> ClusterInfo {
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    let vpc = cluster.resources_vpc_config();
    let issues = cluster.health().map(|health| health.issues()).unwrap_or_default();
    ClusterInfo {
        name: cluster.name().unwrap_or(name).to_owned(),
        arn: text(cluster.arn()),
        region: region.to_owned(),
        status: text(cluster.status().map(|status| status.as_str())),
        version: text(cluster.version()),
        endpoint: text(cluster.endpoint()),
        ca_data: text(cluster.certificate_authority().and_then(|ca| ca.data())),
        public_access: vpc.is_none_or(|vpc| vpc.endpoint_public_access()),
        private_access: vpc.is_some_and(|vpc| vpc.endpoint_private_access()),
        public_cidrs: vpc.map(|vpc| vpc.public_access_cidrs().to_vec()).unwrap_or_default(),
        authentication_mode: text(cluster.access_config().and_then(|access| access.authentication_mode()).map(|mode| mode.as_str())),
        auto_mode: cluster.compute_config().and_then(|compute| compute.enabled()).unwrap_or(false),
        vpc: text(vpc.and_then(|vpc| vpc.vpc_id())),
        health: issues.iter().map(|issue| Health { code: text(issue.code().map(|code| code.as_str())), message: text(issue.message()) }).collect(),
    }
}
