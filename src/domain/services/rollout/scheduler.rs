//! The scheduler's and the autoscalers' words, in the words of people.

use std::sync::LazyLock;

use regex::Regex;

use crate::base::text;

/// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint {dedicated: gpu}. preemption: …` as
/// `of 3 nodes, 1 has too little cpu left, 2 have the taint dedicated=gpu that the pod does not tolerate`.
pub fn words(message: &str) -> String {
    static HEAD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^0/(\d+) nodes are available: ").expect("a valid pattern"));
    static TAINT: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^(\d+) node\(s\) had untolerated taint(?:\(s\))?(?: \{([^:}]+)(?::\s*([^}]*))?\})?$").expect("a valid pattern")
    });
    static SCARCE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^(\d+) Insufficient (\S+)$").expect("a valid pattern"));
    let message = text::one_line(message);
    let message = message.split(" preemption: ").next().unwrap_or_default().trim_end_matches(['.', ' ']);
    let Some(head) = HEAD.captures(message) else { return message.to_owned() };
    let parts = message[head[0].len()..].split(", ").map(|part| {
        let part = part.trim_end_matches('.');
        if let Some(found) = SCARCE.captures(part) {
            return format!("{} too little {} left", has(&found[1]), &found[2]);
        }
        if let Some(found) = TAINT.captures(part) {
            let Some(key) = found.get(2) else { return format!("{} taints that the pod does not tolerate", has(&found[1])) };
            let value = found.get(3).map(|v| v.as_str().trim()).filter(|v| !v.is_empty()).map(|v| format!("={v}")).unwrap_or_default();
            return format!("{} the taint {}{value} that the pod does not tolerate", has(&found[1]), key.as_str());
        }
        part.replace("node(s)", "nodes")
    });
    format!("of {}, {}", text::count(head[1].parse().unwrap_or(0), "node"), parts.collect::<Vec<_>>().join(", "))
}

fn has(count: &str) -> String {
    if count == "1" { "1 has".to_owned() } else { format!("{count} have") }
}

/// Is it a volume, not a node, that is missing?
pub fn is_about_volumes(message: &str) -> bool {
    message.contains("unbound immediate PersistentVolumeClaims")
        || (message.contains("persistentvolumeclaim") && message.contains("not found"))
        || message.contains("unbound PersistentVolumeClaims")
}

/// Does an autoscaler say here that none of its node pools fits?
pub fn is_pool_refusal(reason: &str, message: &str) -> bool {
    reason == "FailedScheduling"
        && (message.contains("nodepool") || message.contains("NodePool") || message.contains("provisioner"))
        && (message.contains("incompatible")
            || message.contains("no nodepool")
            || message.contains("did not tolerate")
            || message.contains("no instance type"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheduler_in_words() {
        for (said, words_) in [
            (
                "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint {dedicated: gpu}. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.",
                "of 3 nodes, 1 has too little cpu left, 2 have the taint dedicated=gpu that the pod does not tolerate",
            ),
            (
                "0/1 nodes are available: 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }.",
                "of 1 node, 1 has the taint node-role.kubernetes.io/control-plane that the pod does not tolerate",
            ),
            (
                "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.",
                "of 2 nodes, 2 nodes didn't match Pod's node affinity/selector",
            ),
            ("0/2 nodes are available: 2 node(s) had untolerated taint(s).", "of 2 nodes, 2 have taints that the pod does not tolerate"),
            ("no nodes available to schedule pods", "no nodes available to schedule pods"),
        ] {
            assert_eq!(words(said), words_);
        }
    }
}
