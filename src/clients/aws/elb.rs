//! Load balancers, their listeners, target groups and targets; and what carries a tag.

use std::collections::BTreeMap;

use aws_sdk_elasticloadbalancingv2::types as sdk;
use aws_sdk_resourcegroupstagging::types::TagFilter;
use serde::{Deserialize, Serialize};

use super::Aws;
use crate::base::fault::Result;

/// An application load balancer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadBalancer {
    pub arn: String,
    pub name: String,
    /// As AWS writes it, which may differ in case from the Ingress.
    pub dns_name: String,
    /// `provisioning`, `active`, `active_impaired`, `failed`.
    pub state: String,
    pub reason: String,
    /// `internet-facing` or `internal`.
    pub scheme: String,
    pub vpc: String,
    pub zones: Vec<Zone>,
    pub security_groups: Vec<String>,
}

/// An availability zone that the load balancer is enabled in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    pub name: String,
    pub subnet: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetGroup {
    pub arn: String,
    pub name: String,
    pub protocol: String,
    pub port: i32,
    /// `instance` or `ip`.
    pub target_type: String,
    /// A number or `traffic-port`.
    pub health_port: String,
    pub health_protocol: String,
    pub health_path: String,
    /// Success codes, e.g. `200`.
    pub matcher: String,
    pub interval_seconds: i32,
    pub load_balancers: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Instance id or address.
    pub id: String,
    pub port: i32,
    pub zone: String,
    /// `initial`, `healthy`, `unhealthy`, `unused`, `draining`, `unavailable`, …
    pub state: String,
    /// AWS's reason code, e.g. `Target.Timeout`; empty when healthy.
    pub reason: String,
    pub description: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    pub arn: String,
    pub protocol: String,
    pub port: i32,
    pub certificates: Vec<String>,
    /// Types of the default actions: `fixed-response`, `redirect`, `forward`.
    pub default_actions: Vec<String>,
}

impl Aws {
    /// The load balancer with this DNS name, in whatever case. Two calls at most for a usual name, all pages only if its name misleads.
    pub async fn load_balancer(&self, dns_name: &str) -> Result<Option<LoadBalancer>> {
        let fits = |found: &&sdk::LoadBalancer| found.dns_name().is_some_and(|name| name.eq_ignore_ascii_case(dns_name.trim_end_matches('.')));
        if let Some(name) = name_of(dns_name) {
            match Box::pin(self.inner.elb.describe_load_balancers().names(name).send()).await {
                Ok(answer) => {
                    if let Some(found) = answer.load_balancers().iter().find(fits) {
                        return Ok(Some(load_balancer(found)));
                    }
                }
                Err(error) if error.as_service_error().is_some_and(|error| error.is_load_balancer_not_found_exception()) => {}
                Err(error) => return Err(self.fault(&error, "elasticloadbalancing:DescribeLoadBalancers")),
            }
        }
        let mut pages = self.inner.elb.describe_load_balancers().into_paginator().send();
        while let Some(page) = Box::pin(pages.next()).await {
            let page = page.map_err(|error| self.fault(&error, "elasticloadbalancing:DescribeLoadBalancers"))?;
            if let Some(found) = page.load_balancers().iter().find(fits) {
                return Ok(Some(load_balancer(found)));
            }
        }
        Ok(None)
    }

    /// The target groups of a load balancer.
    pub async fn target_groups(&self, load_balancer_arn: &str) -> Result<Vec<TargetGroup>> {
        let mut pages = self.inner.elb.describe_target_groups().load_balancer_arn(load_balancer_arn).into_paginator().send();
        let mut groups = Vec::new();
        while let Some(page) = Box::pin(pages.next()).await {
            let page = page.map_err(|error| self.fault(&error, "elasticloadbalancing:DescribeTargetGroups"))?;
            groups.extend(page.target_groups().iter().map(target_group));
        }
        Ok(groups)
    }

    /// The targets of a target group with their health; none when the group is gone.
    pub async fn target_health(&self, target_group_arn: &str) -> Result<Vec<Target>> {
        match Box::pin(self.inner.elb.describe_target_health().target_group_arn(target_group_arn).send()).await {
            Ok(answer) => Ok(answer.target_health_descriptions().iter().map(target).collect()),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_target_group_not_found_exception()) => Ok(Vec::new()),
            Err(error) => Err(self.fault(&error, "elasticloadbalancing:DescribeTargetHealth")),
        }
    }

    pub async fn listeners(&self, load_balancer_arn: &str) -> Result<Vec<Listener>> {
        let mut pages = self.inner.elb.describe_listeners().load_balancer_arn(load_balancer_arn).into_paginator().send();
        let mut listeners = Vec::new();
        while let Some(page) = Box::pin(pages.next()).await {
            let page = page.map_err(|error| self.fault(&error, "elasticloadbalancing:DescribeListeners"))?;
            listeners.extend(page.listeners().iter().map(listener));
        }
        Ok(listeners)
    }

    /// Everything that carries all of these tags, of any service: its ARN and all its tags. Seen some seconds late.
    pub async fn by_tags(&self, tags: &[(&str, &str)]) -> Result<Vec<(String, BTreeMap<String, String>)>> {
        let filters: Vec<TagFilter> = tags.iter().map(|(key, value)| TagFilter::builder().key(*key).values(*value).build()).collect();
        let mut pages = self.inner.tagging.get_resources().set_tag_filters(Some(filters)).into_paginator().send();
        let mut found = Vec::new();
        while let Some(page) = Box::pin(pages.next()).await {
            let page = page.map_err(|error| self.fault(&error, "tag:GetResources"))?;
            for resource in page.resource_tag_mapping_list() {
                let tags = resource.tags().iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect();
                found.extend(resource.resource_arn().map(|arn| (arn.to_owned(), tags)));
            }
        }
        Ok(found)
    }

    /// The tags of a load balancer or target group; `None` when it is gone.
    pub async fn tags_of(&self, arn: &str) -> Result<Option<BTreeMap<String, String>>> {
        match Box::pin(self.inner.elb.describe_tags().resource_arns(arn).send()).await {
            Ok(answer) => {
                let tags = answer.tag_descriptions().iter().flat_map(sdk::TagDescription::tags);
                Ok(Some(tags.map(|tag| (text(tag.key()), text(tag.value()))).collect()))
            }
            Err(error) => {
                let gone =
                    error.as_service_error().is_some_and(|e| e.is_load_balancer_not_found_exception() || e.is_target_group_not_found_exception());
                if gone { Ok(None) } else { Err(self.fault(&error, "elasticloadbalancing:DescribeTags")) }
            }
        }
    }

    /// Is it forbidden to delete this load balancer? `false` when it is gone.
    pub async fn is_protected(&self, load_balancer_arn: &str) -> Result<bool> {
        match Box::pin(self.inner.elb.describe_load_balancer_attributes().load_balancer_arn(load_balancer_arn).send()).await {
            Ok(answer) => Ok(answer.attributes().iter().any(|a| a.key() == Some("deletion_protection.enabled") && a.value() == Some("true"))),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_load_balancer_not_found_exception()) => Ok(false),
            Err(error) => Err(self.fault(&error, "elasticloadbalancing:DescribeLoadBalancerAttributes")),
        }
    }
}

/// The load balancer's name in its DNS name: the first label without `internal-` and without the number at its end.
fn name_of(dns_name: &str) -> Option<&str> {
    let name = dns_name.strip_prefix("dualstack.").unwrap_or(dns_name);
    let label = name.split('.').next()?;
    let (name, number) = label.rsplit_once('-')?;
    let name = name.strip_prefix("internal-").unwrap_or(name);
    (!name.is_empty() && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(name)
}

fn text(value: Option<&str>) -> String {
    value.unwrap_or_default().to_owned()
}

fn load_balancer(found: &sdk::LoadBalancer) -> LoadBalancer {
    let zone = |zone: &sdk::AvailabilityZone| Zone { name: text(zone.zone_name()), subnet: text(zone.subnet_id()) };
    LoadBalancer {
        arn: text(found.load_balancer_arn()),
        name: text(found.load_balancer_name()),
        dns_name: text(found.dns_name()),
        state: text(found.state().and_then(|state| state.code()).map(|code| code.as_str())),
        reason: text(found.state().and_then(|state| state.reason())),
        scheme: text(found.scheme().map(|scheme| scheme.as_str())),
        vpc: text(found.vpc_id()),
        zones: found.availability_zones().iter().map(zone).collect(),
        security_groups: found.security_groups().to_vec(),
    }
}

fn target_group(found: &sdk::TargetGroup) -> TargetGroup {
    TargetGroup {
        arn: text(found.target_group_arn()),
        name: text(found.target_group_name()),
        protocol: text(found.protocol().map(|protocol| protocol.as_str())),
        port: found.port().unwrap_or_default(),
        target_type: text(found.target_type().map(|kind| kind.as_str())),
        health_port: text(found.health_check_port()),
        health_protocol: text(found.health_check_protocol().map(|protocol| protocol.as_str())),
        health_path: text(found.health_check_path()),
        matcher: text(found.matcher().and_then(|matcher| matcher.http_code())),
        interval_seconds: found.health_check_interval_seconds().unwrap_or_default(),
        load_balancers: found.load_balancer_arns().to_vec(),
    }
}

fn target(found: &sdk::TargetHealthDescription) -> Target {
    let (target, health) = (found.target(), found.target_health());
    Target {
        id: text(target.and_then(|target| target.id())),
        port: target.and_then(|target| target.port()).unwrap_or_default(),
        zone: text(target.and_then(|target| target.availability_zone())),
        state: text(health.and_then(|health| health.state()).map(|state| state.as_str())),
        reason: text(health.and_then(|health| health.reason()).map(|reason| reason.as_str())),
        description: text(health.and_then(|health| health.description())),
    }
}

fn listener(found: &sdk::Listener) -> Listener {
    Listener {
        arn: text(found.listener_arn()),
        protocol: text(found.protocol().map(|protocol| protocol.as_str())),
        port: found.port().unwrap_or_default(),
        certificates: found.certificates().iter().filter_map(|certificate| certificate.certificate_arn()).map(str::to_owned).collect(),
        default_actions: found.default_actions().iter().filter_map(|action| action.r#type()).map(|kind| kind.as_str().to_owned()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_dns_names() {
        for (dns_name, name) in [
            ("k8s-istiosys-gwingres-1a2b3c4d5e-1234567890.ap-southeast-1.elb.amazonaws.com", Some("k8s-istiosys-gwingres-1a2b3c4d5e")),
            ("internal-shop-42.eu-west-1.elb.amazonaws.com", Some("shop")),
            ("dualstack.internal-shop-42.eu-west-1.elb.amazonaws.com", Some("shop")),
            ("shop.example", None),
            ("a-b.example", None),
        ] {
            assert_eq!(name_of(dns_name), name, "{dns_name}");
        }
    }
}
