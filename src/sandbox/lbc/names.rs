//! The names that the controller gives to what it makes.

use crate::sandbox::aws::state::digest;

/// Letters and digits only, at most so many.
fn short(text: &str, length: usize) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).take(length).collect()
}

/// `k8s-<namespace>-<ingress>-<hash>`, or `k8s-<group>-<hash>`. The scheme is part of the hash.
pub(super) fn load_balancer(cluster: &str, stack: &str, group: Option<&str>, scheme: &str) -> String {
    let hash = &digest(&format!("{cluster}/{stack}/{scheme}"))[..10];
    match group {
        Some(group) => format!("k8s-{}-{hash}", short(group, 17)),
        None => {
            let (namespace, name) = stack.split_once('/').unwrap_or(("", stack));
            format!("k8s-{}-{}-{hash}", short(namespace, 8), short(name, 8))
        }
    }
}

/// `k8s-<namespace>-<service>-<hash>`: another one for each Service uid and each setting that cannot be changed.
pub(super) fn target_group(cluster: &str, stack: &str, namespace: &str, service: &str, identity: &str) -> String {
    let hash = &digest(&format!("{cluster}/{stack}/{namespace}/{service}/{identity}"))[..10];
    format!("k8s-{}-{}-{hash}", short(namespace, 8), short(service, 8))
}

/// `<name>-<digits>.<region>.elb.amazonaws.com`, with `internal-` in front for an internal one.
pub(super) fn dns(name: &str, region: &str, scheme: &str) -> String {
    let number: u64 = digest(name).bytes().fold(7, |sum, byte| (sum * 31 + u64::from(byte)) % 2_000_000_000);
    let prefix = if scheme == "internal" { "internal-" } else { "" };
    format!("{prefix}{name}-{number}.{region}.elb.amazonaws.com")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_as_the_controller_cuts_them() {
        let name = load_balancer("shop-eks", "istio-system/gw-ingress", None, "internet-facing");
        assert!(name.starts_with("k8s-istiosys-gwingres-"), "{name}");
        assert!(name.len() <= 32);
        assert_ne!(name, load_balancer("shop-eks", "istio-system/gw-ingress", None, "internal"));
        assert!(load_balancer("shop-eks", "dpl", Some("dpl"), "internal").starts_with("k8s-dpl-"));
        assert!(target_group("shop-eks", "a/b", "istio-system", "istio-ingressgateway", "u").starts_with("k8s-istiosys-istioing-"));
    }
}
