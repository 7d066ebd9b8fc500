//! Brings the account to what a model asks for, call by call in the controller's order; a fault stops it where it is.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::{Value, json};

use super::Failure;
use super::model::{Backend, GroupModel, ListenerModel, Model};
use super::names;
use crate::sandbox::aws::AwsError;
use crate::sandbox::aws::state::{Action, Listener, LoadBalancer, Rule, SecurityGroup, State, Tags, TargetGroup, digest};
use crate::sandbox::controllers::BINDINGS;
use crate::sandbox::sim::Sim;
use crate::sandbox::store::meta::{label, name, namespace, new_uid};

/// How the SDK words a failed call. Errors it has a type for are told by their name, others as `api error`.
pub(super) fn wording(service: &str, op: &str, error: &AwsError) -> String {
    let typed = error.code.ends_with("NotFound")
        || error.code.starts_with("TooMany")
        || error.code.starts_with("Duplicate")
        || error.code.starts_with("Unsupported");
    let what = if typed { format!("{}: {}", error.code, error.message) } else { format!("api error {}: {}", error.code, error.message) };
    format!("operation error {service}: {op}, https response error StatusCode: {}, RequestID: {}, {what}", error.status, new_uid())
}

fn call(sim: &Sim, op: &str, about: &str) -> Result<(), Failure> {
    sim.aws.faults().call(op, about).map_err(|error| failed(op, &error))
}

fn failed(op: &str, error: &AwsError) -> Failure {
    let service = if op.contains("SecurityGroup") { "EC2" } else { "Elastic Load Balancing v2" };
    Failure { reason: "FailedDeployModel", message: format!("Failed deploy model due to {}", wording(service, op, error)) }
}

fn tags(sim: &Sim, model: &Model, resource: &str) -> Tags {
    let mut tags = model.tags.clone();
    tags.insert("elbv2.k8s.aws/cluster".to_owned(), sim.world.cluster.name.clone());
    tags.insert("ingress.k8s.aws/stack".to_owned(), model.stack.clone());
    tags.insert("ingress.k8s.aws/resource".to_owned(), resource.to_owned());
    tags
}

/// Deploys a model. Tells the load balancer's DNS name and its ports.
///
/// # Errors
/// FailedDeployModel, with what was made until then left behind.
pub(super) fn apply(sim: &Sim, model: &Model) -> Result<(String, Vec<u16>), Failure> {
    security_groups(sim, model)?;
    for group in &model.groups {
        target_group(sim, model, group)?;
    }
    load_balancer(sim, model)?;
    for listener in &model.listeners {
        one_listener(sim, model, listener)?;
    }
    drop_listeners(sim, model)?;
    bindings(sim, model);
    drop_groups(sim, model)?;
    let state = sim.aws.state();
    let dns = state.load_balancers.iter().find(|lb| lb.name == model.name).map(|lb| lb.dns_name.clone()).unwrap_or_default();
    Ok((dns, model.listeners.iter().map(|listener| listener.port).collect()))
}

fn security_groups(sim: &Sim, model: &Model) -> Result<(), Failure> {
    let cluster = &sim.world.cluster.name;
    let short: String = cluster.chars().filter(char::is_ascii_alphanumeric).collect();
    let wanted = [(format!("k8s-traffic-{short}-{}", &digest(cluster)[..10]), None), (model.name.clone(), Some("ManagedLBSecurityGroup"))];
    for (own, resource) in wanted {
        if sim.aws.state().security_groups.iter().any(|group| group.name == own) {
            continue;
        }
        call(sim, "CreateSecurityGroup", &own)?;
        let tags = resource.map_or_else(
            || Tags::from([("elbv2.k8s.aws/cluster".to_owned(), cluster.clone()), ("elbv2.k8s.aws/resource".to_owned(), "backend-sg".to_owned())]),
            |resource| tags(sim, model, resource),
        );
        let id = format!("sg-{}", &digest(&own)[..17]);
        sim.aws.state().security_groups.push(SecurityGroup { id, name: own, tags });
    }
    Ok(())
}

fn target_group(sim: &Sim, model: &Model, group: &GroupModel) -> Result<(), Failure> {
    let known = sim.aws.state().target_groups.iter().any(|known| known.name == group.name);
    if !known {
        call(sim, "CreateTargetGroup", &group.name)?;
        let mut state = sim.aws.state();
        let arn = state.elb_arn(&format!("targetgroup/{}/{}", group.name, &digest(&group.name)[..16]));
        let tags = tags(sim, model, &group.resource);
        state.target_groups.push(TargetGroup {
            arn,
            name: group.name.clone(),
            protocol: group.protocol.clone(),
            port: group.port,
            target_type: group.target_type.clone(),
            check: group.check.clone(),
            targets: Vec::new(),
            tags,
        });
        return Ok(());
    }
    let changed = sim.aws.state().target_groups.iter().any(|known| known.name == group.name && known.check != group.check);
    if changed {
        call(sim, "ModifyTargetGroup", &group.name)?;
        sim.aws.state().target_groups.iter_mut().filter(|known| known.name == group.name).for_each(|known| known.check = group.check.clone());
    }
    Ok(())
}

fn load_balancer(sim: &Sim, model: &Model) -> Result<(), Failure> {
    // a load balancer of this stack under another name had another scheme: it goes first
    let others: Vec<String> = sim
        .aws
        .state()
        .load_balancers
        .iter()
        .filter(|lb| lb.tags.get("ingress.k8s.aws/stack") == Some(&model.stack) && lb.name != model.name)
        .map(|lb| lb.name.clone())
        .collect();
    for other in others {
        call(sim, "DeleteLoadBalancer", &other)?;
        sim.aws.state().load_balancers.retain(|lb| lb.name != other);
    }
    let attributes: BTreeMap<String, String> =
        [("idle_timeout.timeout_seconds", "60"), ("deletion_protection.enabled", "false"), ("routing.http2.enabled", "true")]
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .chain(model.attributes.clone())
            .collect();
    if let Some(lb) = sim.aws.state().load_balancers.iter_mut().find(|lb| lb.name == model.name) {
        lb.attributes = attributes;
        lb.tags.extend(model.tags.clone());
        return Ok(());
    }
    call(sim, "CreateLoadBalancer", &model.name)?;
    let tags = tags(sim, model, "LoadBalancer");
    let mut state = sim.aws.state();
    let lb = LoadBalancer {
        arn: state.elb_arn(&format!("loadbalancer/app/{}/{}", model.name, &digest(&model.name)[..16])),
        dns_name: names::dns(&model.name, &state.region, &model.scheme),
        name: model.name.clone(),
        scheme: model.scheme.clone(),
        created: Instant::now(),
        created_at: sim.now(),
        subnets: model.subnets.clone(),
        security_groups: state.security_groups.iter().map(|group| group.id.clone()).collect(),
        tags,
        attributes,
        listeners: Vec::new(),
    };
    state.load_balancers.push(lb);
    Ok(())
}

fn one_listener(sim: &Sim, model: &Model, wanted: &ListenerModel) -> Result<(), Failure> {
    if wanted.protocol == "HTTPS" {
        if wanted.certificates.is_empty() {
            return Err(failed("CreateListener", &AwsError::new(400, "ValidationError", "A certificate must be specified for HTTPS listeners")));
        }
        let known = |arn: &&String| sim.world.aws.certificates.iter().any(|certificate| certificate.arn == **arn);
        if let Some(unknown) = wanted.certificates.iter().find(|arn| !known(arn)) {
            return Err(failed("CreateListener", &AwsError::new(400, "CertificateNotFound", format!("Certificate '{unknown}' not found"))));
        }
    }
    let built = {
        let state = sim.aws.state();
        let Some(lb) = state.load_balancers.iter().find(|lb| lb.name == model.name) else { return Ok(()) };
        build_listener(&state, lb, wanted)
    };
    let old = sim
        .aws
        .state()
        .load_balancers
        .iter()
        .filter(|lb| lb.name == model.name)
        .flat_map(|lb| &lb.listeners)
        .find(|listener| listener.port == wanted.port)
        .cloned();
    match old {
        Some(old) if old == built => return Ok(()),
        Some(_) => call(sim, "ModifyListener", &model.name)?,
        None => call(sim, "CreateListener", &model.name)?,
    }
    for _ in &built.rules {
        call(sim, "CreateRule", &model.name)?;
    }
    for lb in sim.aws.state().load_balancers.iter_mut().filter(|lb| lb.name == model.name) {
        lb.listeners.retain(|listener| listener.port != wanted.port);
        lb.listeners.push(built.clone());
    }
    Ok(())
}

fn build_listener(state: &State, lb: &LoadBalancer, wanted: &ListenerModel) -> Listener {
    let id = &digest(&format!("{}/{}", lb.arn, wanted.port))[..16];
    let arn = format!("{}/{id}", lb.arn.replace(":loadbalancer/", ":listener/"));
    let not_found = Action::Fixed { status: 404, content_type: "text/plain".to_owned(), body: String::new() };
    let default = match (wanted.redirect, &wanted.default) {
        (Some(port), _) => redirect(301, &port.to_string(), "HTTPS"),
        (None, Some(backend)) => action(state, backend),
        (None, None) => not_found,
    };
    let rules = if wanted.redirect.is_some() { &[][..] } else { &wanted.rules };
    let rules = rules.iter().enumerate().map(|(index, rule)| Rule {
        arn: format!("{}/{}", arn.replace(":listener/", ":listener-rule/"), &digest(&format!("{arn}{index}"))[..16]),
        priority: u32::try_from(index + 1).unwrap_or(u32::MAX),
        hosts: rule.hosts.clone(),
        paths: rule.paths.clone(),
        action: action(state, &rule.backend),
    });
    Listener {
        rules: rules.collect(),
        arn,
        port: wanted.port,
        protocol: wanted.protocol.clone(),
        certificates: wanted.certificates.clone(),
        policy: wanted.policy.clone(),
        default,
    }
}

fn redirect(status: u16, port: &str, protocol: &str) -> Action {
    let or = |given: &str, own: &str| if given.is_empty() { own.to_owned() } else { given.to_owned() };
    Action::Redirect {
        protocol: or(protocol, "#{protocol}"),
        host: "#{host}".to_owned(),
        port: or(port, "#{port}"),
        path: "/#{path}".to_owned(),
        query: "#{query}".to_owned(),
        status,
    }
}

fn action(state: &State, backend: &Backend) -> Action {
    let fixed = |body: &str| Action::Fixed { status: 503, content_type: "text/plain".to_owned(), body: body.to_owned() };
    match backend {
        Backend::Group(own) => {
            let arn = state.target_groups.iter().find(|group| group.name == *own).map(|group| group.arn.clone());
            Action::Forward { target_group: arn.unwrap_or_default() }
        }
        Backend::Missing => fixed("Backend service does not exist"),
        Backend::NoAction => fixed("Backend action does not exist"),
        Backend::Redirect { status, port, protocol } => redirect(*status, port, protocol),
        Backend::Fixed { status, body, content_type } => Action::Fixed { status: *status, content_type: content_type.clone(), body: body.clone() },
    }
}

fn drop_listeners(sim: &Sim, model: &Model) -> Result<(), Failure> {
    let wanted = |port: u16| model.listeners.iter().any(|listener| listener.port == port);
    let extra =
        sim.aws.state().load_balancers.iter().filter(|lb| lb.name == model.name).any(|lb| lb.listeners.iter().any(|listener| !wanted(listener.port)));
    if extra {
        call(sim, "DeleteListener", &model.name)?;
        sim.aws
            .state()
            .load_balancers
            .iter_mut()
            .filter(|lb| lb.name == model.name)
            .for_each(|lb| lb.listeners.retain(|listener| wanted(listener.port)));
    }
    Ok(())
}

/// The labels that tie a binding to its stack.
fn stack_labels(model: &Model) -> Value {
    match model.stack.split_once('/') {
        Some((ns, own)) if model.group.is_none() => json!({"ingress.k8s.aws/stack-namespace": ns, "ingress.k8s.aws/stack-name": own}),
        _ => json!({"ingress.k8s.aws/stack": model.stack}),
    }
}

fn bindings(sim: &Sim, model: &Model) {
    for group in &model.groups {
        let arn = sim.aws.state().target_groups.iter().find(|known| known.name == group.name).map(|known| known.arn.clone()).unwrap_or_default();
        if sim.store.get(BINDINGS, &group.namespace, &group.name).is_some() {
            continue;
        }
        let health = group.check.port.parse::<u16>().unwrap_or(group.port);
        let ports = json!([{"protocol": "TCP", "port": group.port}, {"protocol": "TCP", "port": health}]);
        let backend = sim.aws.state().security_groups.first().map(|sg| sg.id.clone()).unwrap_or_default();
        let binding = json!({
            "apiVersion": "elbv2.k8s.aws/v1beta1", "kind": "TargetGroupBinding",
            "metadata": {"name": group.name, "namespace": group.namespace, "labels": stack_labels(model)},
            "spec": {
                "ipAddressType": "ipv4", "serviceRef": {"name": group.service, "port": group.service_port}, "targetGroupARN": arn, "targetType": group.target_type,
                "targetGroupProtocol": group.protocol, "vpcID": sim.aws.state().vpc.clone(),
                "networking": {"ingress": [{"from": [{"securityGroup": {"groupID": backend}}], "ports": ports}]},
            },
        });
        // the next look tries again
        drop(sim.store.create(BINDINGS, binding));
    }
}

/// Bindings, then target groups, of the stack that the model no longer has.
fn drop_groups(sim: &Sim, model: &Model) -> Result<(), Failure> {
    let wanted: Vec<&str> = model.groups.iter().map(|group| group.name.as_str()).collect();
    drop_stack_groups(sim, &model.stack, &wanted).map(|_| ())
}

/// Removes a stack's target groups but for the wanted ones. `false` while bindings are still going.
fn drop_stack_groups(sim: &Sim, stack: &str, wanted: &[&str]) -> Result<bool, Failure> {
    let mine = |binding: &Value| match label(binding, "ingress.k8s.aws/stack") {
        Some(own) => own == stack,
        None => {
            format!(
                "{}/{}",
                label(binding, "ingress.k8s.aws/stack-namespace").unwrap_or_default(),
                label(binding, "ingress.k8s.aws/stack-name").unwrap_or_default()
            ) == stack
        }
    };
    let going: Vec<_> = sim.store.list(BINDINGS, "").into_iter().filter(|binding| mine(binding) && !wanted.contains(&name(binding))).collect();
    for binding in &going {
        // gone already is as good
        drop(sim.store.delete(BINDINGS, namespace(binding), name(binding)));
        super::binding::release(sim, binding);
    }
    let groups: Vec<String> = sim
        .aws
        .state()
        .target_groups
        .iter()
        .filter(|group| group.tags.get("ingress.k8s.aws/stack").map(String::as_str) == Some(stack) && !wanted.contains(&group.name.as_str()))
        .map(|group| group.name.clone())
        .collect();
    for group in groups {
        call(sim, "DeleteTargetGroup", &group)?;
        sim.aws.state().target_groups.retain(|known| known.name != group);
    }
    Ok(true)
}

/// Removes everything of a stack.
///
/// # Errors
/// FailedDeployModel; the real controller writes no event for it, and the finalizer stays.
pub(super) fn delete(sim: &Sim, stack: &str) -> Result<(), Failure> {
    let of_stack = |tags: &Tags| tags.get("ingress.k8s.aws/stack").map(String::as_str) == Some(stack);
    let mine: Vec<String> = sim.aws.state().load_balancers.iter().filter(|lb| of_stack(&lb.tags)).map(|lb| lb.name.clone()).collect();
    for lb in mine {
        let protected = sim
            .aws
            .state()
            .load_balancers
            .iter()
            .any(|known| known.name == lb && known.attributes.get("deletion_protection.enabled").is_some_and(|on| on == "true"));
        if protected {
            return Err(Failure { reason: "FailedDeployModel", message: "deletion_protection is enabled, cannot delete the ingress".to_owned() });
        }
        call(sim, "DeleteLoadBalancer", &lb)?;
        sim.aws.state().load_balancers.retain(|known| known.name != lb);
    }
    drop_stack_groups(sim, stack, &[])?;
    call(sim, "DeleteSecurityGroup", stack)?;
    let mut state = sim.aws.state();
    let others = state.load_balancers.len();
    state.security_groups.retain(|group| !of_stack(&group.tags) && (others > 0 || !group.tags.contains_key("elbv2.k8s.aws/resource")));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_errors_are_told_by_name_and_others_as_api_errors() {
        let known = wording("Elastic Load Balancing v2", "CreateListener", &AwsError::new(400, "CertificateNotFound", "Certificate 'ARN' not found"));
        assert!(
            known.starts_with("operation error Elastic Load Balancing v2: CreateListener, https response error StatusCode: 400, RequestID: "),
            "{known}"
        );
        assert!(known.ends_with(", CertificateNotFound: Certificate 'ARN' not found"), "{known}");
        let other = wording("EC2", "CreateSecurityGroup", &AwsError::new(403, "AccessDenied", "denied"));
        assert!(other.ends_with(", api error AccessDenied: denied"), "{other}");
    }
}
