//! Link 4: is the gateway's Service really behind the load balancer? A missing Service makes the controller build one with a fixed 503
//! and call it a success, so only a TargetGroupBinding for the Service proves it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::codes::Code;
use crate::base::fault::Fault;
use crate::domain::ingress::Link;
use crate::domain::ingress::events::{self, Event};

/// How long a binding may lag behind the controller's "successfully reconciled".
const GRACE: Duration = Duration::from_secs(15);

/// The labels that tie a binding to its group, or to its Ingress.
pub const STACK: &str = "ingress.k8s.aws/stack";
pub const STACK_NAMESPACE: &str = "ingress.k8s.aws/stack-namespace";
pub const STACK_NAME: &str = "ingress.k8s.aws/stack-name";

/// A TargetGroupBinding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    pub name: String,
    pub service: String,
    pub target_group_arn: String,
    pub deleting: bool,
    /// The Ingress (`NAMESPACE/NAME`) or the group whose it is, where its labels tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
}

impl Binding {
    pub fn of(object: &Value) -> Self {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let label = |name: &str| object.pointer("/metadata/labels").and_then(|labels| labels.get(name)?.as_str());
        let of_ingress = || Some(format!("{}/{}", label(STACK_NAMESPACE)?, label(STACK_NAME)?));
        Self {
            name: text("/metadata/name"),
            service: text("/spec/serviceRef/name"),
            target_group_arn: text("/spec/targetGroupARN"),
            deleting: object.pointer("/metadata/deletionTimestamp").is_some(),
            stack: label(STACK).map(str::to_owned).or_else(of_ingress),
        }
    }

    /// Does it lead to the gateway's Service for our Ingress or its group? Another Ingress may have one for the same Service.
    pub fn is_ours(&self, service: &str, stacks: &[String]) -> bool {
        let of_us = self.stack.as_ref().is_none_or(|stack| stacks.is_empty() || stacks.contains(stack));
        self.service == service && !self.deleting && of_us
    }
}

/// What surrounds the bindings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Around {
    pub service: String,
    pub service_exists: bool,
    /// The Services that the Ingress names.
    pub backends: Vec<String>,
    /// The Ingress itself or its group, as bindings name it; empty: not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stacks: Vec<String>,
    /// The controller says that the Ingress is reconciled.
    pub reconciled: bool,
    /// The events of the bindings.
    pub events: Vec<Event>,
}

/// Is there a binding for the gateway's Service? Its value: the target groups' ARNs.
pub fn bound(bindings: &[Binding], around: &Around, waited: Duration) -> Link<Vec<String>> {
    let Around { service, .. } = around;
    let ours: Vec<&Binding> = bindings.iter().filter(|b| b.is_ours(service, &around.stacks)).collect();
    let warning =
        around.events.iter().filter(|e| e.warning && e.reason == "FailedNetworkReconcile" || e.reason == "FailedReconcile").max_by_key(|e| e.last);
    let troubled = warning.filter(|_| !around.events.iter().any(|e| e.reason == "SuccessfullyReconciled" && e.last >= warning.and_then(|w| w.last)));
    if !ours.is_empty() {
        let arns = ours.iter().map(|b| b.target_group_arn.clone()).filter(|arn| !arn.is_empty()).collect();
        let told = troubled.map(|e| format!("the controller has trouble with the target group: {}", events::words(e)));
        return Link::Holds(arns, told.into_iter().collect());
    }
    if waited < GRACE || (!around.reconciled && around.service_exists) {
        return Link::NotYet(format!("no TargetGroupBinding for the Service {service} yet"));
    }
    let fault = Fault::new(Code::NoTargetGroup, format!("the load balancer was built without a target group for the Service {service}"));
    Link::broken(if !around.service_exists {
        fault.next(format!("the Service {service} does not exist: install the gateway with `meshstep mesh`, then touch the Ingress"))
    } else if !around.backends.contains(service) {
        fault.next(format!("the Ingress names {}, not {service}: correct its backend or `ingress.service`", listed(&around.backends)))
    } else {
        let whose = |b: &Binding| b.stack.as_ref().map(|stack| format!(" of {stack}")).unwrap_or_default();
        let bound = bindings.iter().map(|b| b.service.clone() + &whose(b)).collect::<Vec<_>>();
        fault.evidence("bindings in the namespace", listed(&bound)).next("touch the Ingress so that the controller builds it again")
    })
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(service: &str) -> Binding {
        Binding { name: "k8s-istiosys-istioing-1".into(), service: service.into(), target_group_arn: "arn:tg".into(), deleting: false, stack: None }
    }

    #[test]
    fn a_binding_of_another_ingress_is_not_ours() {
        let read = |labels: Value| {
            let metadata = serde_json::json!({"name": "b", "labels": labels});
            Binding::of(&serde_json::json!({"metadata": metadata, "spec": {"serviceRef": {"name": "g"}, "targetGroupARN": "arn"}}))
        };
        let of = |namespace: &str, name: &str| read(serde_json::json!({STACK_NAMESPACE: namespace, STACK_NAME: name}));
        let group = |name: &str| read(serde_json::json!({STACK: name}));
        for (binding, stacks, ours) in [
            (of("istio-system", "gw-ingress"), vec!["istio-system/gw-ingress"], true),
            (of("istio-system", "internal"), vec!["istio-system/gw-ingress"], false),
            (of("istio-system", "gw-ingress"), vec!["shop"], false),
            (group("shop"), vec!["shop"], true),
            (group("other"), vec!["shop"], false),
            (group("shop"), vec!["istio-system/gw-ingress", "shop"], true),
            (group("shop"), vec![], true),
            (read(serde_json::json!({})), vec!["shop"], true),
            (read(Value::Null), vec!["shop"], true),
        ] {
            let stacks: Vec<String> = stacks.into_iter().map(str::to_owned).collect();
            assert_eq!(binding.is_ours("g", &stacks), ours, "{binding:?} {stacks:?}");
        }
        assert!(!group("shop").is_ours("web", &[]));
    }

    #[test]
    fn only_a_binding_for_the_gateway_counts() {
        let around = |exists: bool, backend: &str| Around {
            service: "istio-ingressgateway".into(),
            service_exists: exists,
            backends: vec![backend.into()],
            stacks: vec![],
            reconciled: true,
            events: vec![],
        };
        let ok = around(true, "istio-ingressgateway");
        for (bindings, around, waited, expected) in [
            (vec![binding("istio-ingressgateway")], ok.clone(), 0, "holds arn:tg"),
            (vec![], ok.clone(), 1, "not yet"),
            (vec![binding("web")], ok.clone(), 16, "no_target_group touch the Ingress so that the controller builds it again"),
            (
                vec![],
                around(false, "istio-ingressgateway"),
                16,
                "no_target_group the Service istio-ingressgateway does not exist: install the gateway with `meshstep mesh`, then touch the Ingress",
            ),
            (
                vec![],
                around(true, "web"),
                16,
                "no_target_group the Ingress names web, not istio-ingressgateway: correct its backend or `ingress.service`",
            ),
            (vec![], Around { reconciled: false, ..ok.clone() }, 600, "not yet"),
        ] {
            let found = match bound(&bindings, &around, Duration::from_secs(waited)) {
                Link::Holds(arns, _) => format!("holds {}", arns.join(",")),
                Link::NotYet(_) => "not yet".to_owned(),
                Link::Broken(fault) => format!("{} {}", fault.code, fault.next[0]),
            };
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn trouble_with_registering_is_told_until_it_is_over() {
        let event = |reason: &str, second| Event {
            warning: reason.starts_with("Failed"),
            reason: reason.into(),
            message: "RegisterTargets denied".into(),
            last: jiff::Timestamp::from_second(second).ok(),
            before: false,
        };
        let with = |events| Around { service: "g".into(), service_exists: true, events, ..Around::default() };
        let told = |around: &Around| match bound(&[binding("g")], around, Duration::ZERO) {
            Link::Holds(_, told) => told.len(),
            other => panic!("{other:?}"),
        };
        assert_eq!(told(&with(vec![event("FailedReconcile", 5)])), 1);
        assert_eq!(told(&with(vec![event("FailedReconcile", 5), event("SuccessfullyReconciled", 6)])), 0);
    }
}
