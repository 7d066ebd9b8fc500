//! What comes to be by the same apply: the objects themselves, what known makers make, and what may be made by something that is started.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::services::around::target_of_maker;
use crate::domain::services::manifests::Manifest;
use crate::domain::services::preflight::Apply;
use crate::domain::services::preflight::references::{Needed, Reference};

/// Configuration that controllers put into every namespace.
const GIVEN: [&str; 2] = ["kube-root-ca.crt", "istio-ca-root-cert"];

/// What an apply makes, with what the same run applies before it.
#[derive(Debug, Default)]
pub struct Made {
    /// Kind and name of each object.
    objects: BTreeSet<(String, String)>,
    /// The keys of each ConfigMap and Secret among them.
    keys: BTreeMap<(String, String), BTreeSet<String>>,
    /// Secrets that a maker among the objects makes, and the maker.
    targets: BTreeMap<String, String>,
    /// Objects of kinds that this tool does not know, as their JSON.
    custom: Vec<(String, String)>,
    /// StatefulSets with the claims that they make, without the number at the end.
    claims: Vec<(String, String)>,
    /// Something among the objects may create Secrets and ConfigMaps when it runs.
    started: Option<String>,
    /// Kinds that CustomResourceDefinitions among the objects define.
    kinds: BTreeSet<String>,
    /// Why it is not known what is applied before it: to its own namespace, and to any.
    unknown_here: Option<String>,
    unknown: Option<String>,
}

/// Is something there after the apply?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum After {
    Yes,
    /// It is made in the apply, without that key.
    WithoutKey,
    /// Something among the objects makes it, or may.
    Maybe(String),
    /// Not by this apply, and why it is not known whether something else makes it.
    Unknown(String),
    /// Not by this apply.
    No,
}

impl Made {
    /// `earlier`: what the same run applies before it, to whatever namespace.
    pub fn by(apply: &Apply<'_>, earlier: &[Apply<'_>]) -> Self {
        let mut made = Self::default();
        for before in earlier {
            made.take(before, |manifest| is_cluster_wide(manifest.kind()) || before.home(manifest) == apply.namespace);
            if let Some(why) = before.unknown {
                made.unknown.get_or_insert_with(|| why.to_owned());
                if before.namespace == apply.namespace {
                    made.unknown_here.get_or_insert_with(|| why.to_owned());
                }
            }
        }
        made.take(apply, |_| true);
        made
    }

    fn take(&mut self, apply: &Apply<'_>, counts: impl Fn(&Manifest) -> bool) {
        let (manifests, hooks) = (apply.manifests.iter(), apply.hooks.iter());
        for manifest in manifests.chain(hooks.clone()).filter(|manifest| counts(manifest)) {
            self.add(manifest);
        }
        // A hook may do anything before the pods start.
        if let Some(hook) = hooks.into_iter().find(|hook| matches!(hook.kind(), "Job" | "Pod") && counts(hook)) {
            self.started.get_or_insert_with(|| format!("the hook {}", hook.title()));
        }
    }

    fn add(&mut self, manifest: &Manifest) {
        let (kind, name, value) = (manifest.kind().to_owned(), manifest.name().to_owned(), &manifest.value);
        let keys = |key: &str| value.get(key).and_then(Value::as_object).into_iter().flat_map(|map| map.keys().cloned()).collect::<Vec<_>>();
        match kind.as_str() {
            "Secret" | "ConfigMap" => {
                let all = ["data", "stringData", "binaryData"].into_iter().flat_map(keys).collect();
                self.keys.insert((kind.clone(), name.clone()), all);
            }
            "StatefulSet" => {
                let templates = value.pointer("/spec/volumeClaimTemplates").and_then(Value::as_array);
                for template in templates.into_iter().flatten().filter_map(|t| t.pointer("/metadata/name")?.as_str()) {
                    self.claims.push((manifest.title(), format!("{template}-{name}")));
                }
            }
            "CustomResourceDefinition" => {
                self.kinds.extend(value.pointer("/spec/names/kind").and_then(Value::as_str).map(str::to_owned));
            }
            "Role" | "ClusterRole" if creates_configuration(value) => {
                self.started = Some(format!("a program with the rights of {}", manifest.title()))
            }
            _ => {}
        }
        if let Some(targets) = target_of_maker(&kind, value) {
            self.targets.extend(targets.into_iter().map(|target| (target, manifest.title())));
        }
        if !is_built_in(manifest.api_version()) {
            self.custom.push((manifest.title(), format!("{value} \"{name}\"")));
        }
        self.objects.insert((kind, name));
    }

    pub fn has(&self, kind: &str, name: &str) -> bool {
        self.objects.contains(&(kind.to_owned(), name.to_owned()))
    }

    pub fn defines(&self, kind: &str) -> bool {
        self.unknown.is_some() || self.kinds.contains(kind)
    }

    /// Is there a cluster-wide object after the apply, as far as is known before it?
    pub fn may_have(&self, kind: &str, name: &str) -> bool {
        self.unknown.is_some() || self.has(kind, name)
    }

    /// Does the message say that something is not found which this apply makes?
    pub fn names_in(&self, message: &str) -> Option<String> {
        if !["not found", "doesn't exist", "does not exist"].iter().any(|words| message.contains(words)) {
            return None;
        }
        let found = self.objects.iter().find(|(_, name)| message.contains(&format!("\"{name}\"")) || message.contains(&format!("/{name}:")));
        found.map(|(kind, name)| format!("{kind} {name}")).or_else(|| Some(format!("something of {}", self.unknown.as_ref()?)))
    }

    pub fn after(&self, reference: &Reference) -> After {
        let Reference { kind, name, key, .. } = reference;
        let kind_word = kind.to_string();
        if *kind == Needed::ConfigMap && GIVEN.contains(&name.as_str()) {
            return After::Yes;
        }
        if self.has(&kind_word, name) {
            let known = self.keys.get(&(kind_word, name.clone()));
            // A Secret or ConfigMap without any key is filled by somebody else.
            let lacks = key.as_ref().is_some_and(|key| known.is_some_and(|keys| !keys.is_empty() && !keys.contains(key)));
            return if lacks { After::WithoutKey } else { After::Yes };
        }
        let claim = || self.claims.iter().find(|(_, stem)| *kind == Needed::Claim && is_numbered(name, stem)).map(|(title, _)| title);
        if let Some(title) = self.maker(name).or_else(claim) {
            return After::Maybe(title.clone());
        }
        if let Some(unknown) = &self.unknown_here {
            return After::Maybe(unknown.clone());
        }
        match (&self.started, kind) {
            (Some(what), Needed::Secret | Needed::ConfigMap | Needed::ServiceAccount) => After::Maybe(what.clone()),
            _ => After::No,
        }
    }

    /// What among the objects makes something of this name, or may: a custom object that mentions it, or whose own name it begins with.
    pub fn maker(&self, name: &str) -> Option<&String> {
        let leads_to = |(title, json): &&(String, String)| {
            let own = title.split_once(' ').map_or("", |(_, own)| own);
            json.contains(&format!("\"{name}\"")) || (!own.is_empty() && name.starts_with(&format!("{own}-")))
        };
        self.targets.get(name).or_else(|| self.custom.iter().find(leads_to).map(|(title, _)| title))
    }
}

/// Of these kinds an apply to one namespace makes something for another.
pub fn is_cluster_wide(kind: &str) -> bool {
    kind.starts_with("Cluster")
        || kind.ends_with("WebhookConfiguration")
        || kind.contains("AdmissionPolicy")
        || matches!(kind, "Namespace" | "CustomResourceDefinition" | "PriorityClass" | "IngressClass" | "StorageClass" | "PersistentVolume")
}

/// `data-db` as `data-db-0`: the claim of a StatefulSet's pod.
fn is_numbered(name: &str, stem: &str) -> bool {
    name.rsplit_once('-').is_some_and(|(start, n)| n.parse::<u32>().is_ok() && start == stem)
}

fn creates_configuration(role: &Value) -> bool {
    let has = |rule: &Value, key: &str, wanted: &[&str]| {
        rule.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).any(|word| word == "*" || wanted.contains(&word))
    };
    let rules = role.get("rules").and_then(Value::as_array).into_iter().flatten();
    rules.into_iter().any(|rule| has(rule, "verbs", &["create"]) && has(rule, "resources", &["secrets", "configmaps"]))
}

/// Of Kubernetes' own groups, or of those that make no configuration: Istio, the load balancer controller, monitoring.
fn is_built_in(api_version: &str) -> bool {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    !group.contains('.')
        || group.ends_with(".k8s.io") && !group.ends_with(".x-k8s.io")
        || group.ends_with(".istio.io")
        || matches!(group, "elbv2.k8s.aws" | "monitoring.coreos.com")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::services::manifests::parse;

    fn made(yaml: &str) -> Made {
        Made::by(&Apply { manifests: &parse("a.yaml", yaml).expect("valid"), ..Apply::to("prod") }, &[])
    }

    fn after(made: &Made, kind: Needed, name: &str, key: Option<&str>) -> After {
        made.after(&Reference { kind, name: name.into(), key: key.map(str::to_owned), by: String::new(), only_told: false })
    }

    #[test]
    fn objects_of_the_same_apply_are_there_after_it() {
        let made = made(
            "{apiVersion: v1, kind: Secret, metadata: {name: db}, stringData: {url: x}}\n---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: empty}}\n",
        );
        assert_eq!(after(&made, Needed::Secret, "db", None), After::Yes);
        assert_eq!(after(&made, Needed::Secret, "db", Some("url")), After::Yes);
        assert_eq!(after(&made, Needed::Secret, "db", Some("user")), After::WithoutKey);
        assert_eq!(after(&made, Needed::ConfigMap, "db", None), After::No);
        assert_eq!(after(&made, Needed::ConfigMap, "empty", Some("filled-later")), After::Yes);
        assert_eq!(after(&made, Needed::ConfigMap, "kube-root-ca.crt", None), After::Yes);
    }

    #[test]
    fn makers_may_make_it() {
        for (yaml, kind, name) in [
            ("{apiVersion: external-secrets.io/v1, kind: ExternalSecret, metadata: {name: e}, spec: {target: {name: db}}}", Needed::Secret, "db"),
            ("{apiVersion: external-secrets.io/v1, kind: ExternalSecret, metadata: {name: db}}", Needed::Secret, "db"),
            ("{apiVersion: bitnami.com/v1alpha1, kind: SealedSecret, metadata: {name: db}}", Needed::Secret, "db"),
            ("{apiVersion: cert-manager.io/v1, kind: Certificate, metadata: {name: c}, spec: {secretName: tls}}", Needed::Secret, "tls"),
            (
                "{apiVersion: secrets-store.csi.x-k8s.io/v1, kind: SecretProviderClass, metadata: {name: c}, spec: {secretObjects: [{secretName: db}]}}",
                Needed::Secret,
                "db",
            ),
            ("{apiVersion: postgresql.cnpg.io/v1, kind: Cluster, metadata: {name: db}}", Needed::Secret, "db-app"),
            ("{apiVersion: secrets.example/v1, kind: Vault, metadata: {name: v}, spec: {into: db}}", Needed::ConfigMap, "db"),
            (
                "{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: certgen}, rules: [{apiGroups: [''], resources: [secrets], verbs: [get, create]}]}",
                Needed::Secret,
                "webhook-tls",
            ),
            (
                "{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: db}, spec: {volumeClaimTemplates: [{metadata: {name: data}}]}}",
                Needed::Claim,
                "data-db-0",
            ),
        ] {
            assert!(matches!(after(&made(yaml), kind, name, None), After::Maybe(_)), "{yaml}");
            assert_eq!(after(&made(yaml), kind, "another", None) == After::No, !yaml.contains("Role"), "{yaml}");
        }
        // A StatefulSet makes claims, and nothing else.
        let set = made("{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: db}, spec: {volumeClaimTemplates: [{metadata: {name: data}}]}}");
        assert_eq!(after(&set, Needed::Secret, "db-password", None), After::No);
    }

    #[test]
    fn what_is_known_to_make_nothing_excuses_nothing() {
        let istio = made("{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: db}}");
        assert_eq!(after(&istio, Needed::Secret, "db", None), After::No);
        let hook = parse("h.yaml", "{apiVersion: batch/v1, kind: Job, metadata: {name: migrate}}").expect("valid");
        let made = Made::by(&Apply { hooks: &hook, ..Apply::to("prod") }, &[]);
        assert!(matches!(after(&made, Needed::Secret, "db", None), After::Maybe(_)));
    }

    #[test]
    fn what_the_same_run_applies_before_is_there_too() {
        let secret = "{apiVersion: v1, kind: Secret, metadata: {name: db}, stringData: {url: x}}";
        let external = "{apiVersion: external-secrets.io/v1, kind: ExternalSecret, metadata: {name: db}}";
        let elsewhere = "{apiVersion: v1, kind: Secret, metadata: {name: db, namespace: prod}}";
        let cluster = "{apiVersion: external-secrets.io/v1, kind: ClusterExternalSecret, metadata: {name: all}, spec: {externalSecretName: db}}";
        let maybe = |after: &After| matches!(after, After::Maybe(_));
        for (before, namespace, expected) in [
            (secret, "prod", "yes"),
            // The same in another namespace is of no use here.
            (secret, "pre-prod", "no"),
            (elsewhere, "pre-prod", "yes"),
            (external, "prod", "maybe"),
            (external, "pre-prod", "no"),
            (cluster, "pre-prod", "maybe"),
        ] {
            let manifests = parse("a.yaml", before).expect("valid");
            let made = Made::by(&Apply::to("prod"), &[Apply { manifests: &manifests, ..Apply::to(namespace) }]);
            let found = after(&made, Needed::Secret, "db", None);
            let word = if maybe(&found) {
                "maybe"
            } else if found == After::Yes {
                "yes"
            } else {
                "no"
            };
            assert_eq!(word, expected, "{before} to {namespace}");
        }
        let unknown = |namespace| Made::by(&Apply::to("prod"), &[Apply { unknown: Some("app1, which is not rendered yet"), ..Apply::to(namespace) }]);
        assert!(maybe(&after(&unknown("prod"), Needed::Claim, "data", None)));
        assert_eq!(after(&unknown("pre-prod"), Needed::Claim, "data", None), After::No);
        assert!(unknown("pre-prod").defines("Widget") && unknown("pre-prod").may_have("IngressClass", "alb"));
        assert!(!Made::by(&Apply::to("prod"), &[]).defines("Widget"));
        // What is applied last counts.
        let own = parse("a.yaml", "{apiVersion: v1, kind: Secret, metadata: {name: db}, stringData: {user: x}}").expect("valid");
        let before = parse("a.yaml", secret).expect("valid");
        let made = Made::by(&Apply { manifests: &own, ..Apply::to("prod") }, &[Apply { manifests: &before, ..Apply::to("prod") }]);
        assert_eq!(after(&made, Needed::Secret, "db", Some("url")), After::WithoutKey);
    }

    #[test]
    fn a_refusal_for_want_of_our_own_object_is_recognised() {
        let made = made("{apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {name: alb}}");
        let said = r#"admission webhook "v" denied the request: invalid ingress class: IngressClass.networking.k8s.io "alb" not found"#;
        assert_eq!(made.names_in(said).as_deref(), Some("IngressClass alb"));
        assert_eq!(made.names_in(&said.replace("alb", "nginx")), None);
    }
}
