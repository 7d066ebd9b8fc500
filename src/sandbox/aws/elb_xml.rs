//! Load balancers, listeners, rules, target groups and target health as XML of the query protocol.

use super::state::{Action, Listener, LoadBalancer, Rule, State, Tags, TargetGroup};
use crate::sandbox::world::World;

/// One element with ready content.
pub(super) fn element(name: &str, content: &str) -> String {
    format!("<{name}>{content}</{name}>")
}

/// One element with text.
pub(super) fn text(name: &str, content: &str) -> String {
    let escaped = content.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    element(name, &escaped)
}

/// A list of `member` elements.
pub(super) fn members(name: &str, items: impl IntoIterator<Item = String>) -> String {
    element(name, &items.into_iter().map(|item| element("member", &item)).collect::<String>())
}

pub(super) fn load_balancer(state: &State, world: &World, lb: &LoadBalancer) -> String {
    let (code, reason) = lb.state(world, lb.created.elapsed());
    let zones = lb.subnets.iter().map(|s| text("ZoneName", &s.zone) + &text("SubnetId", &s.id) + "<LoadBalancerAddresses/>");
    [
        text("LoadBalancerArn", &lb.arn),
        text("DNSName", &lb.dns_name),
        text("CanonicalHostedZoneId", "Z1LMS91P8CMLE5"),
        text("CreatedTime", &lb.created_at.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string()),
        text("LoadBalancerName", &lb.name),
        text("Scheme", &lb.scheme),
        text("VpcId", &state.vpc),
        element("State", &(text("Code", &code) + &reason.map(|r| text("Reason", &r)).unwrap_or_default())),
        text("Type", "application"),
        members("AvailabilityZones", zones),
        element("SecurityGroups", &lb.security_groups.iter().map(|g| text("member", g)).collect::<String>()),
        text("IpAddressType", "ipv4"),
    ]
    .concat()
}

pub(super) fn listener(lb: &LoadBalancer, listener: &Listener) -> String {
    let mut xml = text("ListenerArn", &listener.arn)
        + &text("LoadBalancerArn", &lb.arn)
        + &text("Port", &listener.port.to_string())
        + &text("Protocol", &listener.protocol);
    if listener.protocol == "HTTPS" {
        xml += &members("Certificates", listener.certificates.iter().take(1).map(|arn| text("CertificateArn", arn)));
        xml += &text("SslPolicy", &listener.policy);
    }
    xml + &members("DefaultActions", [action(&listener.default)])
}

pub(super) fn rule(rule: &Rule) -> String {
    let values = |field: &str, config: &str, values: &[String]| {
        let list = || element("Values", &values.iter().map(|v| text("member", v)).collect::<String>());
        text("Field", field) + &list() + &element(config, &list())
    };
    let mut conditions = Vec::new();
    if !rule.hosts.is_empty() {
        conditions.push(values("host-header", "HostHeaderConfig", &rule.hosts));
    }
    if !rule.paths.is_empty() {
        conditions.push(values("path-pattern", "PathPatternConfig", &rule.paths));
    }
    text("RuleArn", &rule.arn)
        + &text("Priority", &rule.priority.to_string())
        + &members("Conditions", conditions)
        + &members("Actions", [action(&rule.action)])
        + &text("IsDefault", "false")
}

pub(super) fn default_rule(listener: &Listener) -> String {
    let arn = format!("{}/default", listener.arn.replace(":listener/", ":listener-rule/"));
    text("RuleArn", &arn)
        + &text("Priority", "default")
        + "<Conditions/>"
        + &members("Actions", [action(&listener.default)])
        + &text("IsDefault", "true")
}

fn action(action: &Action) -> String {
    match action {
        Action::Forward { target_group } => {
            let tuple = text("TargetGroupArn", target_group) + &text("Weight", "1");
            let config = members("TargetGroups", [tuple]) + &element("TargetGroupStickinessConfig", &text("Enabled", "false"));
            text("Type", "forward") + &text("Order", "1") + &text("TargetGroupArn", target_group) + &element("ForwardConfig", &config)
        }
        Action::Fixed { status, content_type, body } => {
            let config = text("MessageBody", body) + &text("StatusCode", &status.to_string()) + &text("ContentType", content_type);
            text("Type", "fixed-response") + &text("Order", "1") + &element("FixedResponseConfig", &config)
        }
        Action::Redirect { protocol, host, port, path, query, status } => {
            let config = text("Protocol", protocol)
                + &text("Port", port)
                + &text("Host", host)
                + &text("Path", path)
                + &text("Query", query)
                + &text("StatusCode", &format!("HTTP_{status}"));
            text("Type", "redirect") + &text("Order", "1") + &element("RedirectConfig", &config)
        }
    }
}

pub(super) fn target_group(state: &State, group: &TargetGroup) -> String {
    let users = state.users_of(&group.arn);
    let check = &group.check;
    [
        text("TargetGroupArn", &group.arn),
        text("TargetGroupName", &group.name),
        text("Protocol", &group.protocol),
        text("ProtocolVersion", "HTTP1"),
        text("Port", &group.port.to_string()),
        text("VpcId", &state.vpc),
        text("HealthCheckProtocol", &check.protocol),
        text("HealthCheckPort", &check.port),
        text("HealthCheckEnabled", "true"),
        text("HealthCheckIntervalSeconds", &check.interval.to_string()),
        text("HealthCheckTimeoutSeconds", &check.timeout.to_string()),
        text("HealthyThresholdCount", &check.healthy.to_string()),
        text("UnhealthyThresholdCount", &check.unhealthy.to_string()),
        text("HealthCheckPath", &check.path),
        element("Matcher", &text("HttpCode", &check.codes)),
        element("LoadBalancerArns", &users.iter().map(|lb| text("member", &lb.arn)).collect::<String>()),
        text("TargetType", &group.target_type),
        text("IpAddressType", "ipv4"),
    ]
    .concat()
}

pub(super) fn target_health(group: &TargetGroup) -> String {
    let items = group.targets.iter().map(|target| {
        let port = if group.check.port == "traffic-port" { target.port.to_string() } else { group.check.port.clone() };
        let mut health = text("State", &target.health.state);
        health += &target.health.reason.as_ref().map(|r| text("Reason", r)).unwrap_or_default();
        health += &target.health.description.as_ref().map(|d| text("Description", d)).unwrap_or_default();
        element("Target", &(text("Id", &target.id) + &text("Port", &target.port.to_string())))
            + &text("HealthCheckPort", &port)
            + &element("TargetHealth", &health)
    });
    members("TargetHealthDescriptions", items)
}

pub(super) fn tags(arn: &str, tags: &Tags) -> String {
    text("ResourceArn", arn) + &members("Tags", tags.iter().map(|(key, value)| text("Key", key) + &text("Value", value)))
}
