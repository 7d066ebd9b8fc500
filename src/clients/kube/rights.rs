//! Rights in the cluster: what a stage needs, and which of it this identity lacks.

use std::fmt;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::api::PostParams;

use super::{Cluster, fault};
use crate::base::fault::Result;

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
        if self.namespace.is_empty() { f.write_str(" in all namespaces") } else { write!(f, " in {}", self.namespace) }
    }
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
    }
}
