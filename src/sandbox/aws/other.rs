//! The few calls of other services: resource groups tagging, certificates, and what EC2 knows of subnets, security groups and instances.

use serde_json::{Value, json};

use super::Account;
use super::elb_xml::{element, text};
use super::faults::AwsError;
use super::server::Params;
use super::state::{Tags, instance_id};

/// A call of a JSON service; `None` for an operation that is not played.
pub(super) fn answer_json(account: &Account, op: &str, input: &Value) -> Option<Result<Value, AwsError>> {
    match op {
        "GetResources" => Some(Ok(resources(account, input))),
        "ListCertificates" => {
            let list = account.world.aws.certificates.iter();
            let items: Vec<Value> = list.map(|c| json!({"CertificateArn": c.arn, "DomainName": c.domains.first(), "SubjectAlternativeNameSummaries": c.domains, "Status": c.status})).collect();
            Some(Ok(json!({"CertificateSummaryList": items})))
        }
        "DescribeCertificate" => {
            let arn = input["CertificateArn"].as_str().unwrap_or_default();
            let found = account.world.aws.certificates.iter().find(|c| c.arn == arn);
            Some(
                found
                    .map(|c| json!({"Certificate": certificate(c)}))
                    .ok_or_else(|| AwsError::new(400, "ResourceNotFoundException", format!("Could not find certificate {arn}."))),
            )
        }
        _ => None,
    }
}

/// ACM writes times as seconds with a point, and has an end only for what it has issued.
fn certificate(c: &crate::sandbox::world::Certificate) -> Value {
    let mut told = json!({"CertificateArn": c.arn, "DomainName": c.domains.first(), "SubjectAlternativeNames": c.domains, "Status": c.status});
    if c.status == "ISSUED" {
        let end = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(c.days.unwrap_or(300) * 24);
        told["NotAfter"] = json!(end.as_second() as f64);
    }
    told
}

fn resources(account: &Account, input: &Value) -> Value {
    let list = |value: &Value| -> Vec<String> { value.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect() };
    let types = list(&input["ResourceTypeFilters"]);
    let filters: Vec<(String, Vec<String>)> = input["TagFilters"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|f| (f["Key"].as_str().unwrap_or_default().to_owned(), list(&f["Values"])))
        .collect();
    let state = account.state();
    let matches = |arn: &str, tags: &Tags| {
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        let kind = |wanted: &String| {
            let (service, rest) = wanted.split_once(':').unwrap_or((wanted, ""));
            parts.get(2) == Some(&service) && parts.get(5).is_some_and(|r| r.starts_with(rest))
        };
        let tag = |(key, values): &(String, Vec<String>)| tags.get(key).is_some_and(|value| values.is_empty() || values.contains(value));
        (types.is_empty() || types.iter().any(kind)) && filters.iter().all(tag)
    };
    let found = state.tagged().into_iter().filter(|(arn, tags)| matches(arn, tags));
    let items: Vec<Value> = found
        .map(|(arn, tags)| json!({"ResourceARN": arn, "Tags": tags.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect::<Vec<_>>()}))
        .collect();
    json!({"PaginationToken": "", "ResourceTagMappingList": items})
}

/// A call of EC2, whose answers have no `Result` element; `None` for an operation that is not played.
pub(super) fn answer_ec2(account: &Account, op: &str, params: &Params) -> Option<Result<String, AwsError>> {
    let state = account.state();
    let items = |name: &str, items: Vec<String>| element(name, &items.iter().map(|item| element("item", item)).collect::<String>());
    let tag_set = |tags: &Tags| items("tagSet", tags.iter().map(|(key, value)| text("key", key) + &text("value", value)).collect());
    Some(match op {
        "DescribeSubnets" => {
            let asked = params.members("SubnetId");
            if let Some(unknown) = asked.iter().find(|id| !state.subnets.iter().any(|s| s.id == **id)) {
                return Some(Err(AwsError::new(400, "InvalidSubnetID.NotFound", format!("The subnet ID '{unknown}' does not exist"))));
            }
            let vpcs = params.filter("vpc-id");
            let here = vpcs.is_empty() || vpcs.contains(&state.vpc);
            let found = state.subnets.iter().filter(|s| here && (asked.is_empty() || asked.contains(&s.id)));
            let item = |s: &super::state::Subnet| {
                let roles = [("kubernetes.io/role/elb", s.tagged), ("kubernetes.io/role/internal-elb", s.internal)];
                let tags: Tags = roles.into_iter().filter(|(_, has)| *has).map(|(role, _)| (role.to_owned(), "1".to_owned())).collect();
                text("subnetId", &s.id)
                    + &text("state", "available")
                    + &text("vpcId", &state.vpc)
                    + &text("availabilityZone", &s.zone)
                    + &text("availableIpAddressCount", "4000")
                    + &tag_set(&tags)
            };
            Ok(items("subnetSet", found.map(item).collect()))
        }
        "DescribeSecurityGroups" => {
            let asked = params.members("GroupId");
            let found = state.security_groups.iter().filter(|g| asked.is_empty() || asked.contains(&g.id));
            let item = |g: &super::state::SecurityGroup| {
                text("groupId", &g.id) + &text("groupName", &g.name) + &text("vpcId", &state.vpc) + &tag_set(&g.tags)
            };
            Ok(items("securityGroupInfo", found.map(item).collect()))
        }
        "DescribeInstances" => {
            let zones = account.world.cluster.zones.iter().enumerate();
            let item = |(i, zone): (usize, &String)| {
                let name = super::super::seed::node_name(&account.world, i);
                let instance = text("instanceId", &instance_id(&name))
                    + &text("privateDnsName", &name)
                    + &element("instanceState", &text("name", "running"))
                    + &element("placement", &text("availabilityZone", &format!("{}{zone}", state.region)));
                items("instancesSet", vec![instance])
            };
            Ok(items("reservationSet", zones.map(item).collect()))
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::sandbox::aws::state::SecurityGroup;
    use crate::sandbox::world::World;

    #[test]
    fn resources_are_found_by_type_and_tag() {
        let account = Account::new(Arc::new(World::default())).expect("an account");
        let tags = Tags::from([("elbv2.k8s.aws/cluster".to_owned(), "shop-eks".to_owned())]);
        account.state().security_groups.push(SecurityGroup { id: "sg-1".to_owned(), name: "k8s-x".to_owned(), tags });
        let count = |input: Value| resources(&account, &input)["ResourceTagMappingList"].as_array().map(Vec::len);
        assert_eq!(count(json!({})), Some(1));
        assert_eq!(count(json!({"TagFilters": [{"Key": "elbv2.k8s.aws/cluster", "Values": ["shop-eks"]}]})), Some(1));
        assert_eq!(count(json!({"TagFilters": [{"Key": "elbv2.k8s.aws/cluster", "Values": ["other"]}]})), Some(0));
        assert_eq!(count(json!({"ResourceTypeFilters": ["elasticloadbalancing:loadbalancer"]})), Some(0));
    }
}
