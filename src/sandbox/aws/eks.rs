//! Elastic Kubernetes Service: DescribeCluster and ListClusters, REST with JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Account;
use super::faults::AwsError;

/// The operation behind a path, if it is one of EKS that is played.
pub(super) fn operation(method: &str, path: &str) -> Option<&'static str> {
    match (method, path.trim_end_matches('/')) {
        ("GET", "/clusters") => Some("ListClusters"),
        ("GET", path) if path.strip_prefix("/clusters/").is_some_and(|name| !name.contains('/')) => Some("DescribeCluster"),
        _ => None,
    }
}

/// The answer of an operation. `region` is the one the caller signed for.
///
/// # Errors
/// As AWS words them.
pub(super) fn answer(account: &Account, op: &str, path: &str, region: &str) -> Result<Value, AwsError> {
    let cluster = &account.world.cluster;
    let here = region.is_empty() || region == cluster.region;
    if op == "ListClusters" {
        return Ok(json!({"clusters": if here { vec![cluster.name.clone()] } else { vec![] }}));
    }
    let name = path.trim_end_matches('/').trim_start_matches("/clusters/");
    if !here || name != cluster.name {
        return Err(AwsError::new(404, "ResourceNotFoundException", format!("No cluster found for name: {name}.")));
    }
    let state = account.state();
    let subnets: Vec<&str> = state.subnets.iter().map(|subnet| subnet.id.as_str()).collect();
    let endpoint = account.cluster.get();
    let ca = endpoint.map(|endpoint| STANDARD.encode(&endpoint.ca)).unwrap_or_default();
    Ok(json!({"cluster": {
        "name": cluster.name,
        "arn": format!("arn:aws:eks:{}:{}:cluster/{}", cluster.region, cluster.account, cluster.name),
        "createdAt": 1_767_225_600.0,
        "version": cluster.version,
        "endpoint": endpoint.map(|endpoint| endpoint.url.clone()).unwrap_or_default(),
        "roleArn": format!("arn:aws:iam::{}:role/{}-cluster", cluster.account, cluster.name),
        "resourcesVpcConfig": {
            "subnetIds": subnets, "securityGroupIds": [], "clusterSecurityGroupId": format!("sg-{}", &super::state::digest("cluster")[..17]), "vpcId": state.vpc,
            "endpointPublicAccess": true, "endpointPrivateAccess": false, "publicAccessCidrs": ["0.0.0.0/0"],
        },
        "kubernetesNetworkConfig": {"serviceIpv4Cidr": "172.20.0.0/16", "ipFamily": "ipv4"},
        "identity": {"oidc": {"issuer": format!("https://oidc.eks.{}.amazonaws.com/id/SANDBOX", cluster.region)}},
        "status": cluster.status,
        "certificateAuthority": {"data": ca},
        "platformVersion": "eks.1",
        "tags": {},
        "health": {"issues": []},
        "accessConfig": {"bootstrapClusterCreatorAdminPermissions": true, "authenticationMode": "API"},
        "upgradePolicy": {"supportType": "STANDARD"},
    }}))
}
