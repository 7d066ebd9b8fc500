//! Can the services' pods run on the nodes' CPUs? What an image is built for stands in its registry, which is not asked: only what the
//! manifests say is compared, and what is not known is said.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::text;
use crate::domain::doctor::{Verdict, listed};

/// A service's pods, and the architectures that its manifests bind them to; `None`: to none.
pub type Bound = (String, Option<BTreeSet<String>>);

/// `nodes`: how many nodes of each architecture.
pub fn judge(nodes: &BTreeMap<String, usize>, services: &[Bound]) -> Verdict {
    let have: Vec<&str> = nodes.keys().map(String::as_str).collect();
    let counted: Vec<String> = nodes.iter().map(|(arch, n)| format!("{} {arch}", text::count(*n, "node"))).collect();
    if nodes.is_empty() {
        let mut verdict = Verdict::of("the cluster has no node");
        verdict.warnings.push("there is no node: pods stay Pending until an autoscaler or a node group adds one (`kubectl get nodes`)".to_owned());
        return verdict;
    }
    let mut verdict = Verdict::of(format!("{}; what the images are built for is not known without their registry", listed(&counted)));
    for (service, bound) in services {
        let Some(bound) = bound else { continue };
        if !bound.iter().any(|arch| nodes.contains_key(arch)) {
            let wanted: Vec<&str> = bound.iter().map(String::as_str).collect();
            verdict.warnings.push(format!(
                "the pods of {service} are bound to {} nodes, and the cluster has only {}: unless an autoscaler adds such a node they stay Pending; \
                 change kubernetes.io/arch in its node selector or affinity",
                listed(&wanted),
                listed(&have)
            ));
        }
    }
    let free: Vec<&str> = services.iter().filter(|(_, bound)| bound.is_none()).map(|(service, _)| service.as_str()).collect();
    if nodes.len() > 1 && !free.is_empty() {
        verdict.warnings.push(format!(
            "the nodes are {}, and nothing binds the pods of {} to one kind: an image that is not built for all of them ends in `exec format error`; \
             `docker buildx imagetools inspect IMAGE` shows its platforms, a nodeSelector kubernetes.io/arch binds it",
            listed(&have),
            listed(&free)
        ));
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_is_said() {
        let nodes = |pairs: &[(&str, usize)]| -> BTreeMap<String, usize> { pairs.iter().map(|(arch, n)| ((*arch).to_owned(), *n)).collect() };
        let bound = |archs: &[&str]| Some(archs.iter().map(|arch| (*arch).to_owned()).collect::<BTreeSet<_>>());
        let amd = nodes(&[("amd64", 2)]);
        let mixed = nodes(&[("amd64", 2), ("arm64", 1)]);
        for (what, nodes, bound, warned) in [
            ("one kind, nothing bound", &amd, None, ""),
            ("one kind, bound to it", &amd, bound(&["amd64"]), ""),
            ("one kind, bound to one of two", &amd, bound(&["amd64", "arm64"]), ""),
            ("bound to another", &amd, bound(&["arm64"]), "bound to arm64 nodes, and the cluster has only amd64"),
            ("mixed, nothing bound", &mixed, None, "nothing binds the pods of app1"),
            ("mixed, bound", &mixed, bound(&["arm64"]), ""),
            ("no node", &nodes(&[]), None, "there is no node"),
        ] {
            let verdict = judge(nodes, &[("app1".to_owned(), bound)]);
            assert!(verdict.faults.is_empty(), "{what}");
            assert_eq!(verdict.warnings.is_empty(), warned.is_empty(), "{what}: {verdict:?}");
            assert!(verdict.warnings.iter().all(|w| w.contains(warned)), "{what}: {verdict:?}");
        }
        assert!(judge(&amd, &[]).note.contains("2 nodes amd64; what the images are built for is not known"));
    }
}
