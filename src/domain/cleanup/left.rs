//! What the load balancer controller made in AWS for an Ingress, by its tags, and the command that removes each.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Something in AWS that carries tags.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tagged {
    pub arn: String,
    pub tags: BTreeMap<String, String>,
}

/// Tag of everything that the controller makes: the cluster's name.
pub const CLUSTER: &str = "elbv2.k8s.aws/cluster";
const STACK: &str = "ingress.k8s.aws/stack";
const RESOURCE: &str = "ingress.k8s.aws/resource";
const SHARED: &str = "elbv2.k8s.aws/resource";

/// Whose part of the account is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    pub namespace: String,
    pub ingress: String,
    /// Its IngressGroup.
    pub group: Option<String>,
    /// Other Ingresses of the group keep the load balancer: only the target groups of ours must go.
    pub shared: bool,
}

impl Stack {
    fn has(&self, tags: &BTreeMap<String, String>) -> bool {
        let own = format!("{}/{}", self.namespace, self.ingress);
        let ours_by_name = tags.get(RESOURCE).is_some_and(|resource| resource.starts_with(&format!("{own}-")));
        let stack = tags.get(STACK).map(String::as_str);
        let ours_by_stack = stack == Some(&own) || (!self.shared && self.group.is_some() && stack == self.group.as_deref());
        ours_by_name || ours_by_stack
    }
}

/// Something of AWS that a person can name and remove.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// `load balancer k8s-istiosys-gwingres-1a2b3c4d5e`
    pub name: String,
    pub arn: String,
    pub command: String,
}

/// The things of a stack among all that carry the cluster's tag. Listeners and rules go with their load balancer.
pub fn of_stack(all: &[Tagged], stack: &Stack, region: &str) -> Vec<Item> {
    let mut items: Vec<Item> = all.iter().filter(|found| stack.has(&found.tags)).filter_map(|found| item(&found.arn, region)).collect();
    items.sort_by_key(|item| rank(&item.arn));
    items
}

/// The security group that all load balancers of the cluster share, when no load balancer is left that needs it: the controller forgets
/// it after a restart.
pub fn orphaned_backend_group(all: &[Tagged], region: &str) -> Option<Item> {
    let in_use = all.iter().any(|found| found.arn.contains(":loadbalancer/"));
    let group = all.iter().find(|found| found.tags.get(SHARED).is_some_and(|resource| resource == "backend-sg"))?;
    if in_use { None } else { item(&group.arn, region) }
}

/// A load balancer holds its target groups and security groups.
fn rank(arn: &str) -> usize {
    [":loadbalancer/", ":targetgroup/", ":security-group/"].iter().position(|kind| arn.contains(kind)).unwrap_or(3)
}

fn item(arn: &str, region: &str) -> Option<Item> {
    let mut parts = arn.splitn(6, ':');
    let (service, resource) = (parts.nth(2)?, parts.nth(2)?);
    let (kind, rest) = resource.split_once('/')?;
    let (name, command) = match (service, kind) {
        ("elasticloadbalancing", "loadbalancer") => (
            format!("load balancer {}", rest.split('/').nth(1).unwrap_or(rest)),
            format!("aws elbv2 delete-load-balancer --region {region} --load-balancer-arn {arn}"),
        ),
        ("elasticloadbalancing", "targetgroup") => (
            format!("target group {}", rest.split('/').next().unwrap_or(rest)),
            format!("aws elbv2 delete-target-group --region {region} --target-group-arn {arn}"),
        ),
        ("elasticloadbalancing", _) => return None,
        ("ec2", "security-group") => (format!("security group {rest}"), format!("aws ec2 delete-security-group --region {region} --group-id {rest}")),
        _ => (format!("{service} {resource}"), format!("remove {arn} with the tools of {service}")),
    };
    Some(Item { name, arn: arn.to_owned(), command })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ELB: &str = "arn:aws:elasticloadbalancing:eu-west-1:123456789012";

    fn tagged(arn: &str, stack: &str, resource: &str) -> Tagged {
        Tagged { arn: arn.into(), tags: [(STACK.to_owned(), stack.to_owned()), (RESOURCE.to_owned(), resource.to_owned())].into() }
    }

    fn names(all: &[Tagged], stack: &Stack) -> Vec<String> {
        of_stack(all, stack, "eu-west-1").into_iter().map(|item| item.name).collect()
    }

    #[test]
    fn an_ingress_of_its_own_owns_its_whole_stack() {
        let stack = Stack { namespace: "istio-system".into(), ingress: "gw-ingress".into(), group: None, shared: false };
        let all = [
            tagged("arn:aws:ec2:eu-west-1:123456789012:security-group/sg-1", "istio-system/gw-ingress", "ManagedLBSecurityGroup"),
            tagged(&format!("{ELB}:targetgroup/k8s-tg/1"), "istio-system/gw-ingress", "istio-system/gw-ingress-istio-ingressgateway:80"),
            tagged(&format!("{ELB}:loadbalancer/app/k8s-lb/1"), "istio-system/gw-ingress", "LoadBalancer"),
            tagged(&format!("{ELB}:listener/app/k8s-lb/1/2"), "istio-system/gw-ingress", "80"),
            tagged(&format!("{ELB}:loadbalancer/app/k8s-other/1"), "istio-system/gw-ingress-2", "LoadBalancer"),
        ];
        assert_eq!(names(&all, &stack), ["load balancer k8s-lb", "target group k8s-tg", "security group sg-1"]);
        let first = &of_stack(&all, &stack, "eu-west-1")[0];
        assert_eq!(first.command, format!("aws elbv2 delete-load-balancer --region eu-west-1 --load-balancer-arn {ELB}:loadbalancer/app/k8s-lb/1"));
    }

    #[test]
    fn of_a_shared_group_only_our_target_groups_count() {
        let all = [
            tagged(&format!("{ELB}:loadbalancer/app/k8s-lb/1"), "web", "LoadBalancer"),
            tagged(&format!("{ELB}:targetgroup/k8s-ours/1"), "web", "istio-system/gw-ingress-istio-ingressgateway:80"),
            tagged(&format!("{ELB}:targetgroup/k8s-theirs/1"), "web", "shop/other-shop:80"),
        ];
        let stack = |shared| Stack { namespace: "istio-system".into(), ingress: "gw-ingress".into(), group: Some("web".into()), shared };
        assert_eq!(names(&all, &stack(true)), ["target group k8s-ours"]);
        assert_eq!(names(&all, &stack(false)), ["load balancer k8s-lb", "target group k8s-ours", "target group k8s-theirs"]);
    }

    #[test]
    fn the_shared_security_group_is_left_over_only_without_a_load_balancer() {
        let group = Tagged {
            arn: "arn:aws:ec2:eu-west-1:123456789012:security-group/sg-9".into(),
            tags: [(SHARED.to_owned(), "backend-sg".to_owned())].into(),
        };
        let balancer = tagged(&format!("{ELB}:loadbalancer/app/k8s-lb/1"), "shop/x", "LoadBalancer");
        assert_eq!(orphaned_backend_group(std::slice::from_ref(&group), "eu-west-1").map(|i| i.name).as_deref(), Some("security group sg-9"));
        assert_eq!(orphaned_backend_group(&[group, balancer], "eu-west-1"), None);
    }
}
