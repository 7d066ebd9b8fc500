//! Admission webhooks that would stop what the run is about to create: nobody answers them, or the API server cannot trust the answer.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use crate::base::codes::Code;
use crate::base::fault::{Class, Fault};
use crate::domain::certificates::root::{self, Root};
use crate::domain::doctor::Verdict;

/// What the run will create, and where: `pods` of the group `""` in `prod`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    pub group: &'static str,
    pub resource: &'static str,
    pub namespace: String,
}

/// A webhook of a MutatingWebhookConfiguration or a ValidatingWebhookConfiguration.
#[derive(Clone, Debug)]
pub struct Hook {
    /// `mutatingwebhookconfiguration` or `validatingwebhookconfiguration`.
    pub kind: String,
    pub config: String,
    pub name: String,
    /// Namespace and name of its Service; `None` for one that is called by URL.
    pub service: Option<(String, String)>,
    /// `failurePolicy: Fail`, the default.
    fails: bool,
    /// PEM.
    ca: String,
    rules: Vec<Value>,
    namespaces: Value,
    objects: Value,
}

impl Hook {
    /// The webhooks of a configuration, as the API server gives it.
    pub fn of(kind: &str, config: &Value) -> Vec<Self> {
        use base64::Engine;
        let text = |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let decoded = |base64: &str| base64::engine::general_purpose::STANDARD.decode(base64).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let hook = |hook: &Value| Self {
            kind: kind.to_owned(),
            config: text(config, "/metadata/name"),
            name: text(hook, "/name"),
            service: hook.pointer("/clientConfig/service").map(|service| (text(service, "/namespace"), text(service, "/name"))),
            fails: hook["failurePolicy"].as_str().unwrap_or("Fail") == "Fail",
            ca: decoded(&text(hook, "/clientConfig/caBundle")).unwrap_or_default(),
            rules: hook["rules"].as_array().cloned().unwrap_or_default(),
            namespaces: hook["namespaceSelector"].clone(),
            objects: hook["objectSelector"].clone(),
        };
        config["webhooks"].as_array().into_iter().flatten().map(hook).collect()
    }

    fn is_istio(&self) -> bool {
        self.name.ends_with(".istio.io")
    }

    /// The first of what is wanted that the API server would ask this webhook about. Objects' own labels are not known here: a webhook that
    /// selects some of them is not counted.
    pub fn meets<'a>(&self, wanted: &'a [Wanted], labels: &BTreeMap<String, BTreeMap<String, String>>) -> Option<&'a Wanted> {
        let nothing = BTreeMap::new();
        let hit = |wanted: &&Wanted| {
            self.rules.iter().any(|rule| covers(rule, wanted))
                && selects(&self.namespaces, &named(&wanted.namespace, labels.get(&wanted.namespace).unwrap_or(&nothing)))
                && selects(&self.objects, &nothing)
        };
        wanted.iter().find(hit).filter(|_| self.fails)
    }
}

/// What was seen of one webhook that the run meets.
#[derive(Debug)]
pub struct Seen<'a> {
    pub hook: &'a Hook,
    pub wanted: &'a Wanted,
    /// `Some(false)`: its Service has no ready endpoint. `None`: not known, or it has no Service.
    pub answers: Option<bool>,
}

/// `mesh_comes`: the mesh stage is among those that run; it brings Istio's own webhooks up and waits for them.
pub fn judge(seen: &[Seen], mesh_root: Option<&str>, mesh_comes: bool, now: Timestamp) -> Verdict {
    let mut verdict = Verdict::of(match seen.len() {
        0 => "none stands in the way".to_owned(),
        1 => "1 webhook answers".to_owned(),
        n => format!("{n} webhooks answer"),
    });
    for seen in seen {
        let (hook, what) = (seen.hook, format!("{} in {}", seen.wanted.resource, seen.wanted.namespace));
        let ours_soon = hook.is_istio() && mesh_comes;
        let dead = (seen.answers == Some(false)).then(|| dead(hook, &what));
        match (dead, ours_soon) {
            (Some(fault), false) => verdict.faults.push(fault),
            (Some(fault), true) => verdict.warnings.push(format!("{}; the mesh stage brings it up", fault.message)),
            (None, _) => verdict.faults.extend(untrusted(hook, &what, mesh_root, ours_soon, now)),
        }
    }
    // A configuration's webhooks share their Service, so they fail together: told once.
    verdict.faults.dedup_by(|a, b| a.next == b.next);
    verdict
}

fn dead(hook: &Hook, what: &str) -> Fault {
    let (namespace, service) = hook.service.clone().unwrap_or_default();
    let message =
        format!("webhook {} must answer before {what} can be created, and its Service {service} in {namespace} has no ready pod", hook.name);
    let fault = Fault::new(Code::WebhookUnreachable, message).class(Class::Prerequisite);
    let fault = fault.next(match hook.name.as_str() {
        name if name.ends_with("elbv2.k8s.aws") => {
            format!("bring the load balancer controller up first: `kubectl -n {namespace} rollout status deployment/aws-load-balancer-controller`")
        }
        name if name.ends_with(".istio.io") => format!("bring istiod up first: `kubectl -n {namespace} get deployments,pods`"),
        _ => format!("bring up what serves it: `kubectl -n {namespace} get pods,endpointslices`"),
    });
    fault.next(format!("if it was removed for good, its webhooks are left over: `kubectl delete {} {}`", hook.kind, hook.config))
}

/// The API server trusts only what is in the webhook's caBundle.
fn untrusted(hook: &Hook, what: &str, mesh_root: Option<&str>, ours_soon: bool, now: Timestamp) -> Option<Fault> {
    hook.service.as_ref()?;
    let why = match root::bundle(&hook.ca) {
        // istiod writes it when it is up, and the mesh stage waits for that.
        Err(_) if ours_soon => return None,
        Err(_) if hook.ca.is_empty() => "has no caBundle".to_owned(),
        Err(error) => format!("has a caBundle that cannot be read ({error})"),
        Ok(roots) if roots.iter().all(|root| root.not_after < now) => "has a caBundle whose certificates have all expired".to_owned(),
        Ok(roots) if hook.is_istio() && mesh_root.is_some_and(|mesh| shares_none(&roots, mesh)) => {
            "has a caBundle of another root than the mesh's".to_owned()
        }
        Ok(_) => return None,
    };
    let message = format!("webhook {} must answer before {what} can be created, and it {why}, so the API server does not trust it", hook.name);
    let fault = Fault::new(Code::InjectorUntrusted, message).class(Class::Prerequisite);
    Some(if hook.is_istio() {
        fault.next("let istiod write it anew: `kubectl -n istio-system rollout restart deployment/istiod`")
    } else {
        fault.next(format!("see what maintains it: `kubectl get {} {} -o yaml`", hook.kind, hook.config))
    })
}

fn shares_none(roots: &[Root], mesh: &str) -> bool {
    root::bundle(mesh).is_ok_and(|mesh| !mesh.iter().any(|of_mesh| roots.iter().any(|root| root.key == of_mesh.key)))
}

fn covers(rule: &Value, wanted: &Wanted) -> bool {
    let any =
        |key: &str, of: &[&str]| rule[key].as_array().into_iter().flatten().filter_map(Value::as_str).any(|item| item == "*" || of.contains(&item));
    any("apiGroups", &[wanted.group]) && any("resources", &[wanted.resource, "*/*"]) && any("operations", &["CREATE"])
}

/// The API server itself adds this label.
fn named(namespace: &str, labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut labels = labels.clone();
    labels.insert("kubernetes.io/metadata.name".to_owned(), namespace.to_owned());
    labels
}

/// Does a label selector, as the API has it, select these labels?
fn selects(selector: &Value, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector["matchLabels"].as_object().into_iter().flatten().all(|(key, value)| labels.get(key).map(String::as_str) == value.as_str());
    let fits = |expression: &Value| {
        let value = labels.get(expression["key"].as_str().unwrap_or_default());
        let among = value.is_some_and(|value| expression["values"].as_array().into_iter().flatten().any(|item| item.as_str() == Some(value)));
        match expression["operator"].as_str() {
            Some("In") => among,
            Some("NotIn") => !among,
            Some("Exists") => value.is_some(),
            Some("DoesNotExist") => value.is_none(),
            _ => true,
        }
    };
    equal && selector["matchExpressions"].as_array().into_iter().flatten().all(fits)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wanted(group: &'static str, resource: &'static str, namespace: &str) -> Wanted {
        Wanted { group, resource, namespace: namespace.to_owned() }
    }

    fn hook(name: &str, change: impl FnOnce(&mut Value)) -> Hook {
        let mut hook = json!({
            "name": name, "failurePolicy": "Fail",
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
            "clientConfig": {"service": {"name": "svc", "namespace": "system"}},
        });
        change(&mut hook);
        Hook::of("mutatingwebhookconfiguration", &json!({"metadata": {"name": "config"}, "webhooks": [hook]})).remove(0)
    }

    fn labels(namespace: &str, pairs: &[(&str, &str)]) -> BTreeMap<String, BTreeMap<String, String>> {
        [(namespace.to_owned(), pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())].into()
    }

    #[test]
    fn a_webhook_is_met_by_rules_and_selectors() {
        let pods = [wanted("", "pods", "prod")];
        let none = BTreeMap::new();
        let injected = json!({"matchExpressions": [{"key": "istio-injection", "operator": "In", "values": ["enabled"]}]});
        assert!(hook("a", |_| {}).meets(&pods, &none).is_some());
        assert!(hook("a", |hook| hook["failurePolicy"] = "Ignore".into()).meets(&pods, &none).is_none());
        assert!(hook("a", |hook| hook["rules"][0]["resources"] = json!(["services"])).meets(&pods, &none).is_none());
        assert!(hook("a", |hook| hook["rules"][0]["operations"] = json!(["DELETE"])).meets(&pods, &none).is_none());
        assert!(
            hook("a", |hook| hook["rules"][0] = json!({"apiGroups": ["*"], "operations": ["*"], "resources": ["*"]})).meets(&pods, &none).is_some()
        );
        let injector = hook("a", |hook| hook["namespaceSelector"] = injected.clone());
        assert!(injector.meets(&pods, &labels("prod", &[("istio-injection", "enabled")])).is_some());
        assert!(injector.meets(&pods, &labels("prod", &[("istio-injection", "disabled")])).is_none());
        assert!(injector.meets(&pods, &none).is_none());
        let but_here = json!({"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["prod"]}]});
        assert!(hook("a", |hook| hook["namespaceSelector"] = but_here).meets(&pods, &none).is_none());
        assert!(hook("a", |hook| hook["objectSelector"] = json!({"matchLabels": {"sidecar.istio.io/inject": "true"}})).meets(&pods, &none).is_none());
    }

    fn pem(years: (i32, i32)) -> String {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).expect("parameters");
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        params.self_signed(&key).expect("a certificate").pem()
    }

    fn with_ca(name: &str, pem: &str) -> Hook {
        use base64::Engine;
        let encoded = base64::engine::general_purpose::STANDARD.encode(pem);
        hook(name, |hook| hook["clientConfig"]["caBundle"] = encoded.into())
    }

    #[test]
    fn what_is_wrong_with_a_webhook() {
        let (mesh, other, old) = (pem((2020, 2040)), pem((2020, 2040)), pem((2000, 2001)));
        let pods = wanted("", "pods", "prod");
        let lbc = "mservice.elbv2.k8s.aws";
        let injector = "namespace.sidecar-injector.istio.io";
        // name, caBundle, answers, whether the mesh stage comes; what is failed and what is warned of
        for (name, ca, answers, mesh_comes, failed, warned) in [
            (lbc, &other, Some(true), true, "", ""),
            (lbc, &other, None, true, "", ""),
            (lbc, &other, Some(false), true, "has no ready pod", ""),
            (lbc, &old, Some(true), true, "have all expired", ""),
            (lbc, &String::new(), Some(true), true, "has no caBundle", ""),
            (lbc, &"nonsense".to_owned(), Some(true), true, "cannot be read", ""),
            (injector, &mesh, Some(true), false, "", ""),
            (injector, &mesh, Some(false), false, "has no ready pod", ""),
            (injector, &mesh, Some(false), true, "", "the mesh stage brings it up"),
            (injector, &other, Some(true), true, "another root than the mesh's", ""),
            (injector, &String::new(), Some(true), true, "", ""),
            (injector, &String::new(), Some(true), false, "has no caBundle", ""),
        ] {
            let hook = with_ca(name, ca);
            let seen = [Seen { hook: &hook, wanted: &pods, answers }];
            let verdict = judge(&seen, Some(&mesh), mesh_comes, Timestamp::now());
            let told = verdict.fault();
            assert_eq!(told.is_some(), !failed.is_empty(), "{name} {answers:?}: {verdict:?}");
            assert!(told.is_none_or(|fault| fault.message.contains(failed) && fault.class == Class::Prerequisite), "{verdict:?}");
            assert_eq!(verdict.warnings.len(), usize::from(!warned.is_empty()), "{verdict:?}");
            assert!(verdict.warnings.iter().all(|w| w.contains(warned)), "{verdict:?}");
        }
    }

    #[test]
    fn the_load_balancer_controller_and_a_leftover_are_told_with_their_commands() {
        let hook = hook("mservice.elbv2.k8s.aws", |_| {});
        let services = wanted("", "services", "istio-system");
        let fault = judge(&[Seen { hook: &hook, wanted: &services, answers: Some(false) }], None, true, Timestamp::now()).fault().expect("a fault");
        assert!(fault.message.contains("before services in istio-system can be created"), "{fault:?}");
        assert!(fault.next[0].contains("rollout status deployment/aws-load-balancer-controller"), "{fault:?}");
        assert!(fault.next[1].contains("`kubectl delete mutatingwebhookconfiguration config`"), "{fault:?}");
    }
}
