//! Elastic Load Balancing v2: the Describe calls of the query protocol.

use super::elb_xml as xml;
use super::faults::AwsError;
use super::server::Params;
use super::{Account, state::State};

/// The content of the `<op>Result` element; `None` for an operation that is not played.
pub(super) fn answer(account: &Account, op: &str, params: &Params) -> Option<Result<String, AwsError>> {
    let state = account.state();
    Some(match op {
        "DescribeLoadBalancers" => load_balancers(account, &state, params),
        "DescribeListeners" => listeners(&state, params),
        "DescribeRules" => rules(&state, params),
        "DescribeTargetGroups" => target_groups(&state, params),
        "DescribeTargetHealth" => target_health(&state, params),
        "DescribeTags" => tags(&state, params),
        "DescribeLoadBalancerAttributes" => attributes(&state, params),
        _ => return None,
    })
}

fn load_balancer_not_found(which: &str) -> AwsError {
    AwsError::new(400, "LoadBalancerNotFound", format!("Load balancers '[{which}]' not found"))
}

fn target_group_not_found() -> AwsError {
    AwsError::new(400, "TargetGroupNotFound", "One or more target groups not found")
}

fn load_balancers(account: &Account, state: &State, params: &Params) -> Result<String, AwsError> {
    let (arns, names) = (params.members("LoadBalancerArns"), params.members("Names"));
    let known = |given: &String| state.load_balancers.iter().any(|lb| lb.arn == *given || lb.name == *given);
    if let Some(unknown) = arns.iter().chain(&names).find(|given| !known(given)) {
        return Err(load_balancer_not_found(unknown));
    }
    let wanted =
        state.load_balancers.iter().filter(|lb| (arns.is_empty() || arns.contains(&lb.arn)) && (names.is_empty() || names.contains(&lb.name)));
    Ok(xml::members("LoadBalancers", wanted.map(|lb| xml::load_balancer(state, &account.world, lb))))
}

fn listeners(state: &State, params: &Params) -> Result<String, AwsError> {
    let arns = params.members("ListenerArns");
    if let Some(arn) = params.get("LoadBalancerArn") {
        let lb = state.load_balancers.iter().find(|lb| lb.arn == arn).ok_or_else(|| load_balancer_not_found(arn))?;
        return Ok(xml::members("Listeners", lb.listeners.iter().map(|listener| xml::listener(lb, listener))));
    }
    let all = state.load_balancers.iter().flat_map(|lb| lb.listeners.iter().map(move |listener| (lb, listener)));
    let found: Vec<String> = all.filter(|(_, listener)| arns.contains(&listener.arn)).map(|(lb, listener)| xml::listener(lb, listener)).collect();
    if found.len() < arns.len() || arns.is_empty() {
        return Err(AwsError::new(400, "ListenerNotFound", "One or more listeners not found"));
    }
    Ok(xml::members("Listeners", found))
}

fn rules(state: &State, params: &Params) -> Result<String, AwsError> {
    let arn = params.get("ListenerArn").unwrap_or_default();
    let listener = state.load_balancers.iter().flat_map(|lb| &lb.listeners).find(|listener| listener.arn == arn);
    let listener = listener.ok_or_else(|| AwsError::new(400, "ListenerNotFound", "One or more listeners not found"))?;
    Ok(xml::members("Rules", listener.rules.iter().map(xml::rule).chain([xml::default_rule(listener)])))
}

fn target_groups(state: &State, params: &Params) -> Result<String, AwsError> {
    let (arns, names) = (params.members("TargetGroupArns"), params.members("Names"));
    let unknown =
        arns.iter().any(|arn| state.target_group(arn).is_none()) || names.iter().any(|name| !state.target_groups.iter().any(|g| g.name == *name));
    if unknown {
        return Err(target_group_not_found());
    }
    let lb = params.get("LoadBalancerArn");
    if let Some(arn) = lb.filter(|arn| !state.load_balancers.iter().any(|lb| lb.arn == *arn)) {
        return Err(load_balancer_not_found(arn));
    }
    let wanted = state.target_groups.iter().filter(|group| {
        (arns.is_empty() || arns.contains(&group.arn))
            && (names.is_empty() || names.contains(&group.name))
            && lb.is_none_or(|arn| state.users_of(&group.arn).iter().any(|lb| lb.arn == arn))
    });
    Ok(xml::members("TargetGroups", wanted.map(|group| xml::target_group(state, group))))
}

fn target_health(state: &State, params: &Params) -> Result<String, AwsError> {
    let group = state.target_group(params.get("TargetGroupArn").unwrap_or_default()).ok_or_else(target_group_not_found)?;
    Ok(xml::target_health(group))
}

fn tags(state: &State, params: &Params) -> Result<String, AwsError> {
    let all = state.tagged();
    let mut items = Vec::new();
    for arn in params.members("ResourceArns") {
        match all.iter().find(|(known, _)| *known == arn) {
            Some((_, tags)) => items.push(xml::tags(&arn, tags)),
            None if arn.contains(":targetgroup/") => return Err(target_group_not_found()),
            None => return Err(load_balancer_not_found(&arn)),
        }
    }
    Ok(xml::members("TagDescriptions", items))
}

fn attributes(state: &State, params: &Params) -> Result<String, AwsError> {
    let arn = params.get("LoadBalancerArn").unwrap_or_default();
    let lb = state.load_balancers.iter().find(|lb| lb.arn == arn).ok_or_else(|| load_balancer_not_found(arn))?;
    Ok(xml::members("Attributes", lb.attributes.iter().map(|(key, value)| xml::text("Key", key) + &xml::text("Value", value))))
}
