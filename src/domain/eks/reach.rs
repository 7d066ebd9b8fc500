//! Can this EKS cluster be used, and if its API server does not let us in: why, in EKS's terms.

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::clients::aws::ClusterInfo;

/// Is the cluster in a state in which its API server answers?
pub fn usable(info: &ClusterInfo) -> Result<()> {
    let ready = matches!(info.status.as_str(), "ACTIVE" | "UPDATING");
    if ready && !info.endpoint.is_empty() && !info.ca_data.is_empty() {
        return Ok(());
    }
    let ClusterInfo { name, region, status, .. } = info;
    let message = if ready { format!("EKS cluster `{name}` has no endpoint yet") } else { format!("EKS cluster `{name}` is {status}, not ACTIVE") };
    let issues = info.health.iter().map(|issue| format!("{}: {}", issue.code, issue.message)).collect::<Vec<_>>().join("\n");
    let next = match status.as_str() {
        "DELETING" => format!("it is being deleted: check `cluster.name`, or create it again in {region}"),
        "FAILED" => "look at its health issues in the EKS console; a failed cluster is deleted and made again".to_owned(),
        _ => format!("wait for it: `aws eks wait cluster-active --name {name} --region {region}`"),
    };
    Err(Fault::new(Code::ClusterNotActive, message).evidence("health issues that EKS reports", issues).next(next))
}

/// A name that is really an ARN says itself which Region and name were meant.
pub fn named_by_arn(name: &str, region: &str) -> Option<Fault> {
    let rest = name.strip_prefix("arn:")?;
    let mut parts = rest.split(':').skip(2);
    let (of_region, _account, path) = (parts.next()?, parts.next()?, parts.next()?);
    let short = path.strip_prefix("cluster/")?;
    let mut fault = Fault::new(Code::FileInvalid, "`cluster.name` is an ARN, not a name").next(format!("write `name: {short}`"));
    if of_region != region {
        fault = fault.next(format!("and `region: {of_region}`: that is where the ARN says it is"));
    }
    Some(fault)
}

/// What a failed call to the API server means for this cluster: a private endpoint, a closed range of addresses, an identity without
/// an access entry. `caller` is the ARN of our credentials, if it is known.
pub fn explain(fault: Fault, info: &ClusterInfo, caller: Option<&str>) -> Fault {
    match fault.code {
        Code::ApiUnreachable => unreachable(fault, info),
        Code::Unauthorized => unauthorized(fault, info, caller),
        _ => fault,
    }
}

fn unreachable(mut fault: Fault, info: &ClusterInfo) -> Fault {
    let open = info.public_cidrs.is_empty() || info.public_cidrs.iter().any(|range| range == "0.0.0.0/0");
    let (why, next) = if !info.public_access {
        ("its endpoint is private".to_owned(), "run the job on an agent inside the cluster's VPC or a network connected to it".to_owned())
    } else if !open {
        let ranges = info.public_cidrs.join(", ");
        (
            format!("its public endpoint admits only {ranges}"),
            "add the agent's outgoing address to publicAccessCidrs, or use the private endpoint".to_owned(),
        )
    } else {
        return fault;
    };
    fault.message = format!("{}; {why}", fault.message);
    fault.next.insert(0, next);
    fault
}

fn unauthorized(mut fault: Fault, info: &ClusterInfo, caller: Option<&str>) -> Fault {
    let who = caller.map_or_else(|| "the job's IAM principal".to_owned(), principal);
    fault.message = format!("{}: {who} has no access to EKS cluster `{}`", fault.message, info.name);
    fault.next = match info.authentication_mode.as_str() {
        "CONFIG_MAP" => vec![format!("map {who} in ConfigMap aws-auth of kube-system (mapRoles or mapUsers)")],
        _ => vec![
            format!(
                "`aws eks create-access-entry --cluster-name {} --region {} --principal-arn {}`, then associate an access policy or bind its groups",
                info.name,
                info.region,
                caller.map_or_else(|| "ARN".to_owned(), principal)
            ),
            "an access entry that was just made takes some seconds to work".to_owned(),
        ],
    };
    fault.next.push("check the agent's clock: a token is good for 15 minutes from its time stamp".to_owned());
    fault
}

/// The IAM principal of a caller's ARN: a session of an assumed role belongs to the role.
fn principal(caller: &str) -> String {
    let parts: Vec<&str> = caller.splitn(6, ':').collect();
    match parts.as_slice() {
        ["arn", partition, "sts", _, account, path] => match path.strip_prefix("assumed-role/").and_then(|path| path.split('/').next()) {
            Some(role) => format!("arn:{partition}:iam::{account}:role/{role}"),
            None => caller.to_owned(),
        },
        _ => caller.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::aws::Health;

    fn info(status: &str) -> ClusterInfo {
        ClusterInfo {
            name: "shop-eks".into(),
            region: "ap-southeast-1".into(),
            status: status.into(),
            endpoint: "https://x.example".into(),
            ca_data: "Y2E=".into(),
            public_access: true,
            ..ClusterInfo::default()
        }
    }

    #[test]
    fn only_an_active_or_updating_cluster_is_usable() {
        for (status, ok, next) in [
            ("ACTIVE", true, ""),
            ("UPDATING", true, ""),
            ("CREATING", false, "wait cluster-active"),
            ("PENDING", false, "wait cluster-active"),
            ("DELETING", false, "being deleted"),
            ("FAILED", false, "health issues"),
        ] {
            match usable(&info(status)) {
                Ok(()) => assert!(ok, "{status}"),
                Err(fault) => {
                    assert!(!ok && fault.code == Code::ClusterNotActive && fault.next[0].contains(next), "{status}: {fault:?}");
                }
            }
        }
        let empty = ClusterInfo { endpoint: String::new(), ..info("ACTIVE") };
        assert!(usable(&empty).is_err());
        let sick = ClusterInfo { health: vec![Health { code: "Ec2SubnetNotFound".into(), message: "gone".into() }], ..info("FAILED") };
        assert_eq!(usable(&sick).expect_err("sick").evidence[0].text, "Ec2SubnetNotFound: gone");
    }

    #[test]
    fn an_unreachable_endpoint_is_explained_by_its_access() {
        let fault = || Fault::new(Code::ApiUnreachable, "no connection");
        let private = ClusterInfo { public_access: false, ..info("ACTIVE") };
        assert_eq!(explain(fault(), &private, None).message, "no connection; its endpoint is private");
        let closed = ClusterInfo { public_cidrs: vec!["203.0.113.0/24".into()], ..info("ACTIVE") };
        assert_eq!(explain(fault(), &closed, None).message, "no connection; its public endpoint admits only 203.0.113.0/24");
        let open = ClusterInfo { public_cidrs: vec!["0.0.0.0/0".into()], ..info("ACTIVE") };
        assert_eq!(explain(fault(), &open, None), fault());
    }

    #[test]
    fn a_401_names_who_needs_an_access_entry() {
        let fault = || Fault::new(Code::Unauthorized, "401");
        let session = "arn:aws:sts::123456789012:assumed-role/ci/run-7";
        let told = explain(fault(), &info("ACTIVE"), Some(session));
        assert!(told.message.contains("arn:aws:iam::123456789012:role/ci has no access"), "{told}");
        assert!(told.next[0].contains("--principal-arn arn:aws:iam::123456789012:role/ci`"), "{:?}", told.next);
        let mapped = ClusterInfo { authentication_mode: "CONFIG_MAP".into(), ..info("ACTIVE") };
        assert!(explain(fault(), &mapped, None).next[0].contains("aws-auth"));
    }

    #[test]
    fn an_arn_in_the_place_of_a_name_is_taken_apart() {
        let fault = named_by_arn("arn:aws:eks:eu-west-1:123456789012:cluster/shop", "ap-southeast-1").expect("an ARN");
        assert_eq!(fault.next, ["write `name: shop`", "and `region: eu-west-1`: that is where the ARN says it is"]);
        assert_eq!(named_by_arn("shop-eks", "ap-southeast-1"), None);
    }
}
