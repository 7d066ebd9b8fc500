//! What the rendered chart asks of the load balancer: the Ingress as helm would make it, before anything is installed.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::base::fault::Result;
use crate::domain::services::manifests;

const PREFIX: &str = "alb.ingress.kubernetes.io/";
const OLD_CLASS: &str = "kubernetes.io/ingress.class";

/// An Ingress of a chart, as far as the load balancer is concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    pub ingress: String,
    pub namespace: String,
    /// `spec.ingressClassName`.
    pub class: Option<String>,
    /// The old annotation, which wins over the class.
    pub old_class: Option<String>,
    /// Without the annotation AWS's controller makes an internal one.
    pub internal: bool,
    pub group: Option<String>,
    /// Subnets by id or Name tag; empty: they are found by their tags.
    pub subnets: Vec<String>,
    /// In the order of the annotation: the first is the default one.
    pub certificates: Vec<String>,
    /// IngressClasses that the chart brings along: name and controller.
    pub classes: Vec<(String, String)>,
}

/// The Ingresses among rendered manifests.
///
/// # Errors
/// When the text is no YAML.
pub fn wants(rendered: &str, namespace: &str) -> Result<Vec<Wants>> {
    let objects: Vec<Value> = manifests::parse("the rendered chart", rendered)?.into_iter().map(|manifest| manifest.value).collect();
    let text = |object: &Value, pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let of_kind = |kind: &'static str| objects.iter().filter(move |object| object["kind"] == kind);
    let classes: Vec<(String, String)> =
        of_kind("IngressClass").map(|class| (text(class, "/metadata/name"), text(class, "/spec/controller"))).collect();
    let ingress = |object: &Value| {
        let annotations = &object["metadata"]["annotations"];
        let own = |key: &str| annotations[key].as_str().map(str::trim).filter(|value| !value.is_empty()).map(str::to_owned);
        let alb = |key: &str| own(&format!("{PREFIX}{key}"));
        let list = |key: &str| -> Vec<String> {
            alb(key).iter().flat_map(|value| value.split(',')).map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
        };
        let own_namespace = text(object, "/metadata/namespace");
        Wants {
            ingress: text(object, "/metadata/name"),
            namespace: if own_namespace.is_empty() { namespace.to_owned() } else { own_namespace },
            class: object.pointer("/spec/ingressClassName").and_then(Value::as_str).map(str::to_owned),
            old_class: own(OLD_CLASS),
            internal: alb("scheme").is_none_or(|scheme| scheme != "internet-facing"),
            group: alb("group.name"),
            subnets: list("subnets"),
            certificates: list("certificate-arn"),
            classes: classes.clone(),
        }
    };
    Ok(of_kind("Ingress").map(ingress).collect())
}

/// The CPU architectures that an object's pods are bound to by node selector or required affinity; `None`: to none.
pub fn architectures(object: &Value) -> Option<BTreeSet<String>> {
    const LABEL: &str = "kubernetes.io/arch";
    let spec = ["/spec/template/spec", "/spec/jobTemplate/spec/template/spec"].into_iter().find_map(|pointer| object.pointer(pointer))?;
    if let Some(one) = spec["nodeSelector"][LABEL].as_str() {
        return Some([one.to_owned()].into());
    }
    let terms = spec.pointer("/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms")?.as_array()?;
    let mut all = BTreeSet::new();
    for term in terms {
        let of_arch = |expression: &&Value| expression["key"] == LABEL && expression["operator"] == "In";
        // Terms are alternatives: one that says nothing of it admits every architecture.
        let expression = term["matchExpressions"].as_array()?.iter().find(of_arch)?;
        all.extend(expression["values"].as_array()?.iter().filter_map(Value::as_str).map(str::to_owned));
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_ingress_says_what_it_wants_of_the_load_balancer() {
        let text = "---\n# Source: x\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: gw-ingress\n  annotations:\n    \
            alb.ingress.kubernetes.io/scheme: internet-facing\n    alb.ingress.kubernetes.io/certificate-arn: \"arn:a, arn:b\"\n    \
            alb.ingress.kubernetes.io/group.name: dpl\nspec:\n  ingressClassName: alb\n---\n# nothing\n---\n\
            apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: alb}\nspec: {controller: c}\n";
        let [wants] = &wants(text, "istio-system").expect("YAML")[..] else { panic!("one") };
        assert_eq!((wants.ingress.as_str(), wants.namespace.as_str(), wants.class.as_deref()), ("gw-ingress", "istio-system", Some("alb")));
        assert_eq!(
            (&wants.certificates, wants.internal, wants.group.as_deref()),
            (&vec!["arn:a".to_owned(), "arn:b".to_owned()], false, Some("dpl"))
        );
        assert_eq!(wants.classes, [("alb".to_owned(), "c".to_owned())]);
    }

    #[test]
    fn without_a_scheme_it_is_internal() {
        let found = wants("apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: a, namespace: b}\n", "c").expect("YAML");
        assert!(found[0].internal && found[0].namespace == "b" && found[0].class.is_none() && found[0].certificates.is_empty());
        assert!(wants("kind: [\n", "c").is_err());
    }

    #[test]
    fn a_pod_may_be_bound_to_architectures() {
        let of = |spec: Value| architectures(&json!({"spec": {"template": {"spec": spec}}})).map(|set| set.into_iter().collect::<Vec<_>>().join(","));
        let term = |values: &[&str]| json!({"matchExpressions": [{"key": "kubernetes.io/arch", "operator": "In", "values": values}]});
        let affinity =
            |terms: Value| json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}});
        assert_eq!(of(json!({})), None);
        assert_eq!(of(json!({"nodeSelector": {"disk": "ssd"}})), None);
        assert_eq!(of(json!({"nodeSelector": {"kubernetes.io/arch": "arm64"}})).as_deref(), Some("arm64"));
        assert_eq!(of(affinity(json!([term(&["amd64"]), term(&["arm64"])]))).as_deref(), Some("amd64,arm64"));
        let other = json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]});
        assert_eq!(of(affinity(json!([term(&["amd64"]), other]))), None);
    }
}
