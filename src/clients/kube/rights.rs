//! Rights in the cluster: what a stage needs, and which of it this identity lacks.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::LazyLock;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::api::PostParams;
use regex::Regex;

use super::{Cluster, fault};
use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::{secrets, text};

/// How many reviews are asked for at once.
const AT_ONCE: usize = 8;

/// One verb on one resource. An empty group is the core group, an empty namespace all of them, an empty name any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Right {
    pub verb: String,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
}

impl Right {
    /// `resource` as kubectl writes it: `deployments.apps`, `pods/log`, `targetgroupbindings.elbv2.k8s.aws`.
    pub fn new(verb: &str, resource: &str, namespace: &str) -> Self {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
        let own = str::to_owned;
        Self {
            verb: own(verb),
            group: own(group),
            resource: own(resource),
            subresource: own(subresource),
            namespace: own(namespace),
            name: String::new(),
        }
    }

    /// The same right, on this one object alone.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// The rule that grants it, as a line of a Role's or ClusterRole's `rules:`.
    pub fn rule(&self) -> String {
        let name = if self.name.is_empty() { String::new() } else { format!(", resourceNames: [{}]", self.name) };
        format!("- {{apiGroups: [\"{}\"], resources: [{}], verbs: [{}]{name}}}", self.group, self.words(), self.verb)
    }

    /// Where that rule belongs.
    pub fn role(&self) -> String {
        if self.namespace.is_empty() { "a ClusterRole".to_owned() } else { format!("a Role in namespace {}", self.namespace) }
    }

    fn words(&self) -> String {
        if self.subresource.is_empty() { self.resource.clone() } else { format!("{}/{}", self.resource, self.subresource) }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.words())?;
        if !self.group.is_empty() {
            write!(f, " ({})", self.group)?;
        }
        if !self.name.is_empty() {
            write!(f, " named {}", self.name)?;
        }
        match (self.namespace.as_str(), self.name.as_str()) {
            ("", "") => f.write_str(" in all namespaces"),
            ("", _) => Ok(()),
            (namespace, _) => write!(f, " in {namespace}"),
        }
    }
}

/// The fault of a refused call, from the API server's own words: a 403's message, or what a tool repeats of it. `None`: these are no such words.
pub fn refused(said: &str, doing: &str) -> Option<Fault> {
    let rights = refused_rights(said);
    let first = rights.first()?;
    let more = if rights.len() > 1 { format!(" and {} more", rights.len() - 1) } else { String::new() };
    let words = text::head(&secrets::redact(&text::one_line(said)), 600).into_owned();
    let fault = Fault::new(Code::Forbidden, format!("{doing}: this identity may not {first}{more}")).evidence("the API server's words", words);
    Some(rights.iter().fold(fault, |fault, right| fault.next(format!("add to {}: {}", right.role(), right.rule()))))
}

/// The rights that a text names as refused, in its order, each once.
fn refused_rights(said: &str) -> Vec<Right> {
    static CALL: LazyLock<Regex> = LazyLock::new(|| {
        let pattern = r#"cannot (\S+) resource "([^"]+)" in API group "([^"]*)"(?: in the namespace "([^"]+)")?"#;
        Regex::new(pattern).expect("the pattern is valid")
    });
    // Whoever writes a role must hold its rights or may escalate it; whoever binds one must hold them or may bind it.
    static GRANT: LazyLock<Regex> = LazyLock::new(|| {
        let pattern =
            r#"((?:cluster)?role)(s|bindings)\.rbac\.authorization\.k8s\.io "([^"]+)" is forbidden: [^\n]*is attempting to grant RBAC permissions"#;
        Regex::new(pattern).expect("the pattern is valid")
    });
    let calls = CALL.captures_iter(said).map(|found| {
        let word = |n: usize| found.get(n).map_or("", |group| group.as_str());
        let mut right = Right::new(word(1), word(2), word(4));
        word(3).clone_into(&mut right.group);
        (found.get(0).map_or(0, |m| m.start()), right)
    });
    let grants = GRANT.captures_iter(said).map(|found| {
        let right = |verb: &str| Right::new(verb, &format!("{}s.rbac.authorization.k8s.io", &found[1]), "");
        let right = if &found[2] == "s" { right("escalate").named(&found[3]) } else { right("bind") };
        (found.get(0).map_or(0, |m| m.start()), right)
    });
    let mut found: Vec<(usize, Right)> = calls.chain(grants).collect();
    found.sort_by_key(|(at, _)| *at);
    let mut seen = BTreeSet::new();
    found.into_iter().map(|(_, right)| right).filter(|right| seen.insert(right.clone())).collect()
}

impl Cluster {
    /// Those of `rights` that this identity lacks, in their order.
    pub async fn denied(&self, rights: &[Right]) -> Result<Vec<Right>> {
        let reviews =
            futures::stream::iter(rights.to_vec()).map(|right| async move { Ok(if self.allowed(&right).await? { None } else { Some(right) }) });
        let answers: Vec<Option<Right>> = reviews.buffered(AT_ONCE).try_collect().await?;
        Ok(answers.into_iter().flatten().collect())
    }

    async fn allowed(&self, right: &Right) -> Result<bool> {
        let some = |text: &String| (!text.is_empty()).then(|| text.clone());
        let attributes = ResourceAttributes {
            verb: some(&right.verb),
            group: some(&right.group),
            resource: some(&right.resource),
            subresource: some(&right.subresource),
            namespace: some(&right.namespace),
            name: some(&right.name),
            ..ResourceAttributes::default()
        };
        let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..SelfSubjectAccessReviewSpec::default() };
        let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
        let answer = self.api_all::<SelfSubjectAccessReview>().create(&PostParams::default(), &review).await;
        let answer = answer.map_err(|error| fault(error, &format!("asking whether {right} is allowed")))?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_says_itself_and_the_rule_that_grants_it() {
        let right = Right::new("patch", "deployments.apps", "prod");
        assert_eq!(right.to_string(), "patch deployments (apps) in prod");
        assert_eq!(right.rule(), r#"- {apiGroups: ["apps"], resources: [deployments], verbs: [patch]}"#);
        let right = Right::new("get", "pods/log", "");
        assert_eq!(right.to_string(), "get pods/log in all namespaces");
        assert_eq!(right.rule(), r#"- {apiGroups: [""], resources: [pods/log], verbs: [get]}"#);
        assert_eq!(Right::new("list", "targetgroupbindings.elbv2.k8s.aws", "").group, "elbv2.k8s.aws");
        let right = Right::new("patch", "namespaces", "").named("prod");
        assert_eq!(right.rule(), r#"- {apiGroups: [""], resources: [namespaces], verbs: [patch], resourceNames: [prod]}"#);
    }

    #[test]
    fn the_words_of_a_refusal_name_the_right() {
        let nodes = r#"nodes is forbidden: User "u" cannot list resource "nodes" in API group "" at the cluster scope"#;
        let log = r#"pods "a" is forbidden: User "u" cannot get resource "pods/log" in API group "" in the namespace "prod""#;
        let escalate = r#"clusterroles.rbac.authorization.k8s.io "istiod" is forbidden: user "ci" (groups=["ci"]) is attempting to grant RBAC permissions not currently held:
{APIGroups:[""], Resources:["nodes"], Verbs:["get"]}"#;
        let bind = r#"clusterrolebindings.rbac.authorization.k8s.io "istiod" is forbidden: user "ci" (groups=["ci"]) is attempting to grant RBAC permissions not currently held:
{}"#;
        let roles = "clusterroles.rbac.authorization.k8s.io";
        for (said, rights) in [
            (nodes.to_owned(), vec![Right::new("list", "nodes", "")]),
            (format!("Error: {log}; {nodes}; {log}"), vec![Right::new("get", "pods/log", "prod"), Right::new("list", "nodes", "")]),
            (escalate.to_owned(), vec![Right::new("escalate", roles, "").named("istiod")]),
            (bind.to_owned(), vec![Right::new("bind", roles, "")]),
            // A quota and an admission webhook forbid too; no rule helps there.
            (r#"pods "a" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1"#.to_owned(), vec![]),
        ] {
            assert_eq!(refused_rights(&said), rights, "{said}");
        }
        let fault = refused(&format!("{log}\n{nodes}"), "`helm`").expect("a refusal");
        assert_eq!(fault.message, "`helm`: this identity may not get pods/log in prod and 1 more");
        assert_eq!(fault.next.len(), 2);
        assert!(refused("namespaces \"x\" not found", "`helm`").is_none());
    }
}
