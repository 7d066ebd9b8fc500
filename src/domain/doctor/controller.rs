//! Who will answer for the Ingress: the AWS Load Balancer Controller, EKS Auto Mode, or nobody. With nobody there is neither event nor error.

use crate::base::codes::Code;
use crate::base::fault::{Class, Fault};
use crate::domain::doctor::Verdict;
use crate::domain::doctor::rendered::Wants;

const SELF_MANAGED: &str = "ingress.k8s.aws/alb";
const AUTO_MODE: &str = "eks.amazonaws.com/alb";

/// An IngressClass of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressClass {
    pub name: String,
    pub controller: String,
    pub default: bool,
}

/// The AWS Load Balancer Controller's Deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    pub namespace: String,
    pub name: String,
    pub available: i32,
    pub wanted: i32,
}

/// What was seen. Of what may not be looked at nothing is said.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub classes: Vec<IngressClass>,
    /// `None`: this identity may not list Deployments.
    pub controllers: Option<Vec<Deployment>>,
    /// EKS Auto Mode as DescribeCluster tells it; `None`: not asked.
    pub auto_mode: Option<bool>,
    /// The EKS cluster's name, for the commands.
    pub cluster: Option<String>,
}

pub fn judge(wants: &Wants, seen: &Seen) -> Verdict {
    let Wants { ingress, .. } = wants;
    // The old annotation wins over the class, and only the self-managed controller reads it.
    if let Some(old) = &wants.old_class {
        if old != "alb" {
            return failed(
                format!("Ingress {ingress} has the class {old} by annotation: no load balancer controller of AWS answers for it"),
                ["use `spec.ingressClassName: alb` in the chart instead of kubernetes.io/ingress.class".to_owned()],
            );
        }
        return with_hint(
            running(ingress, "its annotation", seen),
            "EKS Auto Mode does not know the annotation: use `spec.ingressClassName` in the chart",
            seen,
        );
    }
    let Some((name, controller)) = class_of(wants, seen) else {
        return match &wants.class {
            Some(class) => {
                failed(format!("Ingress {ingress} names the class {class}, which is not in the cluster: nothing answers for it"), install(seen))
            }
            None => failed(
                format!("Ingress {ingress} names no class, and the cluster has no default one: nothing answers for it"),
                ["set `spec.ingressClassName: alb` in the chart".to_owned()],
            ),
        };
    };
    match controller.as_str() {
        SELF_MANAGED => running(ingress, &format!("class {name}"), seen),
        AUTO_MODE if seen.auto_mode == Some(false) => failed(
            format!("class {name} belongs to EKS Auto Mode, which is off in this cluster: nothing answers for Ingress {ingress}"),
            [format!("turn Auto Mode on, or use the class of the AWS Load Balancer Controller: `kubectl get ingressclass {name} -o yaml`")],
        ),
        AUTO_MODE => {
            let mut verdict = Verdict::of(format!("EKS Auto Mode, class {name}"));
            if let Some(group) = &wants.group {
                verdict.warnings.push(format!(
                    "Ingress {ingress} joins the group {group} by annotation, which EKS Auto Mode ignores, so it gets a load balancer of its own: \
                     put the group into the IngressClassParams of class {name}"
                ));
            }
            verdict
        }
        other => failed(
            format!("class {name} of Ingress {ingress} belongs to {other}, which makes no load balancer of AWS"),
            [format!("name a class of AWS's controllers ({SELF_MANAGED}, {AUTO_MODE}) in the chart's values: see `kubectl get ingressclasses`")],
        ),
    }
}

/// Name and controller of the class that counts: the chart's own, the cluster's, or the default one.
fn class_of(wants: &Wants, seen: &Seen) -> Option<(String, String)> {
    let found = |class: &IngressClass| (class.name.clone(), class.controller.clone());
    match &wants.class {
        Some(name) => {
            let brought = wants.classes.iter().find(|(own, _)| own == name).cloned();
            brought.or_else(|| seen.classes.iter().find(|class| class.name == *name).map(found))
        }
        None => seen.classes.iter().find(|class| class.default).map(found),
    }
}

/// Does the self-managed controller run?
fn running(ingress: &str, by: &str, seen: &Seen) -> Verdict {
    let Some(controllers) = &seen.controllers else {
        return Verdict::of(format!("AWS Load Balancer Controller, {by}; whether it runs may not be looked at"));
    };
    let Some(controller) = controllers.first() else {
        let mut verdict = Verdict::of(format!("AWS Load Balancer Controller, {by}"));
        verdict.warnings.push(format!(
            "no Deployment is labelled app.kubernetes.io/name=aws-load-balancer-controller: unless it runs under another name, nothing answers for \
             Ingress {ingress}; {}",
            install(seen)[0]
        ));
        return verdict;
    };
    let Deployment { namespace, name, available, wanted } = controller;
    if controllers.iter().all(|controller| controller.available < 1) {
        let message = format!(
            "the AWS Load Balancer Controller ({name} in {namespace}) has {available} of {wanted} pods available: Ingress {ingress} would wait for it"
        );
        return failed(
            message,
            [format!("`kubectl -n {namespace} rollout status deployment/{name}`; `kubectl -n {namespace} logs deployment/{name}` says why")],
        );
    }
    Verdict::of(format!("AWS Load Balancer Controller, {by}, {available}/{wanted} pods"))
}

fn with_hint(mut verdict: Verdict, hint: &str, seen: &Seen) -> Verdict {
    if seen.auto_mode == Some(true) && seen.controllers.as_ref().is_some_and(Vec::is_empty) {
        return failed(
            "the Ingress has its class by annotation, which EKS Auto Mode does not know, and no other controller runs".to_owned(),
            [hint.to_owned()],
        );
    }
    if seen.auto_mode == Some(true) {
        verdict.warnings.push(hint.to_owned());
    }
    verdict
}

fn install(seen: &Seen) -> [String; 1] {
    let cluster = seen.cluster.as_deref().unwrap_or("NAME");
    [match seen.auto_mode {
        Some(true) => format!("make an IngressClass whose controller is {AUTO_MODE}, and name it in the chart's values"),
        _ => format!(
            "install it: `helm install aws-load-balancer-controller eks/aws-load-balancer-controller -n kube-system --set clusterName={cluster}`"
        ),
    }]
}

fn failed(message: String, next: impl IntoIterator<Item = String>) -> Verdict {
    let fault = Fault::new(Code::NoController, message).class(Class::Prerequisite);
    Verdict { faults: vec![next.into_iter().fold(fault, Fault::next)], ..Verdict::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(class: Option<&str>, old_class: Option<&str>) -> Wants {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Wants { ingress: "gw-ingress".into(), class: own(class), old_class: own(old_class), ..Wants::default() }
    }

    fn seen(controller: &str, available: Option<i32>, auto_mode: Option<bool>) -> Seen {
        let class = IngressClass { name: "alb".into(), controller: controller.into(), default: false };
        let deployment =
            |available| Deployment { namespace: "kube-system".into(), name: "aws-load-balancer-controller".into(), available, wanted: 2 };
        Seen { classes: vec![class], controllers: Some(available.map(deployment).into_iter().collect()), auto_mode, cluster: Some("shop-eks".into()) }
    }

    #[test]
    fn the_owner_of_the_class_is_found_and_must_be_there() {
        let alb = || wants(Some("alb"), None);
        let grouped = Wants { group: Some("dpl".into()), ..alb() };
        let brought = Wants { classes: vec![("alb".into(), AUTO_MODE.into())], ..alb() };
        for (what, wants, seen, failed, warned, note) in [
            ("the controller runs", alb(), seen(SELF_MANAGED, Some(2), Some(false)), "", "", "2/2 pods"),
            ("one pod is enough", alb(), seen(SELF_MANAGED, Some(1), None), "", "", "1/2 pods"),
            ("it is down", alb(), seen(SELF_MANAGED, Some(0), None), "0 of 2 pods available", "", ""),
            ("it is not found", alb(), seen(SELF_MANAGED, None, None), "", "clusterName=shop-eks", ""),
            ("Auto Mode", alb(), seen(AUTO_MODE, None, Some(true)), "", "", "EKS Auto Mode"),
            ("Auto Mode, not asked", alb(), seen(AUTO_MODE, None, None), "", "", "EKS Auto Mode"),
            ("Auto Mode is off", alb(), seen(AUTO_MODE, None, Some(false)), "off in this cluster", "", ""),
            ("a group under Auto Mode", grouped.clone(), seen(AUTO_MODE, None, Some(true)), "", "IngressClassParams", ""),
            ("a group under the controller", grouped, seen(SELF_MANAGED, Some(2), None), "", "", ""),
            ("nginx", alb(), seen("k8s.io/ingress-nginx", None, None), "makes no load balancer of AWS", "", ""),
            ("unknown class", wants(Some("abl"), None), seen(SELF_MANAGED, Some(2), None), "not in the cluster", "", ""),
            ("the chart brings its class", brought, Seen { auto_mode: Some(true), ..Seen::default() }, "", "", "EKS Auto Mode"),
            ("no class, no default", wants(None, None), seen(SELF_MANAGED, Some(2), None), "no default", "", ""),
            ("old annotation", wants(None, Some("alb")), seen(SELF_MANAGED, Some(2), Some(false)), "", "", "its annotation"),
            ("old annotation under Auto Mode", wants(None, Some("alb")), seen(AUTO_MODE, None, Some(true)), "no other controller runs", "", ""),
            ("old annotation of another", wants(Some("alb"), Some("nginx")), seen(SELF_MANAGED, Some(2), None), "by annotation", "", ""),
            ("may not be looked at", alb(), Seen { controllers: None, ..seen(SELF_MANAGED, None, None) }, "", "", "may not be looked at"),
        ] {
            let verdict = judge(&wants, &seen);
            let told = verdict.fault();
            assert_eq!(told.is_some(), !failed.is_empty(), "{what}: {verdict:?}");
            assert!(
                told.is_none_or(|fault| fault.message.contains(failed) && fault.class == Class::Prerequisite && !fault.next.is_empty()),
                "{what}: {verdict:?}"
            );
            assert_eq!(verdict.warnings.is_empty(), warned.is_empty(), "{what}: {verdict:?}");
            assert!(verdict.warnings.iter().all(|w| w.contains(warned)) && verdict.note.contains(note), "{what}: {verdict:?}");
        }
    }

    #[test]
    fn a_default_class_serves_an_ingress_without_one() {
        let mut seen = seen(SELF_MANAGED, Some(2), None);
        seen.classes[0].default = true;
        assert!(judge(&wants(None, None), &seen).fault().is_none());
    }
}
