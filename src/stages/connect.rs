//! Stage `connect`: a private kubeconfig for the cluster of the file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::clients::kube::{self, Access};
use crate::stages::Shared;

/// `cluster:`: an EKS cluster by name and Region, or a kubeconfig context as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Cluster {
    Eks(Eks),
    Context(KubeContext),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Eks {
    /// Name of the EKS cluster.
    pub name: String,
    /// AWS Region, e.g. `ap-southeast-1`.
    pub region: String,
    /// AWS profile; by default the SDK's usual chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// A role to assume first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct KubeContext {
    /// A context of the kubeconfig (KUBECONFIG or `~/.kube/config`), used as it is.
    pub context: String,
}

/// Connects to the cluster of the file: reads only, changes nothing outside the run's private folder.
pub async fn open(shared: &Shared) -> Result<kube::Cluster> {
    let private = shared.run_dir.join("kubeconfig");
    let access = match &shared.pipeline.cluster {
        Cluster::Context(context) => Access::Context { context: Some(context.context.clone()), private },
        Cluster::Eks(eks) => return Err(Fault::new(Code::Defect, format!("connecting to EKS cluster {} is not built yet", eks.name))),
    };
    kube::Cluster::connect(access, &shared.settings).await
}
