//! Pod Security: what a namespace's label `pod-security.kubernetes.io/enforce` lets in.

use serde_json::Value;

use crate::sandbox::controllers::NAMESPACES;
use crate::sandbox::sim::Sim;
use crate::sandbox::store::meta::{label, list, text};

/// A container with the two words of its list: `container "app"`.
struct Named<'a> {
    name: &'a str,
    own: &'a Value,
}

/// What follows `is forbidden: `.
pub(super) fn check(sim: &Sim, namespace: &str, pod: &Value) -> Result<(), String> {
    let Some(ns) = sim.store.get(NAMESPACES, "", namespace) else { return Ok(()) };
    let level = label(&ns, "pod-security.kubernetes.io/enforce").unwrap_or("privileged");
    let all = ["/spec/containers", "/spec/initContainers"];
    let containers: Vec<Named<'_>> = all
        .iter()
        .flat_map(|at| list(pod, at))
        .map(|container| Named { name: text(container, "/name"), own: &container["securityContext"] })
        .collect();
    let mut found = Vec::new();
    if matches!(level, "baseline" | "restricted") {
        baseline(pod, &containers, &mut found);
    }
    if level == "restricted" {
        restricted(pod, &containers, &mut found);
    }
    if found.is_empty() { Ok(()) } else { Err(format!("violates PodSecurity \"{level}:latest\": {}", found.join(", "))) }
}

fn baseline(pod: &Value, containers: &[Named<'_>], found: &mut Vec<String>) {
    let host: Vec<String> =
        ["hostNetwork", "hostPID", "hostIPC"].iter().filter(|key| pod["spec"][**key] == true).map(|key| format!("{key}=true")).collect();
    if !host.is_empty() {
        found.push(format!("host namespaces ({})", host.join(", ")));
    }
    let paths: Vec<&str> = list(pod, "/spec/volumes").iter().filter(|v| !v["hostPath"].is_null()).map(|v| text(v, "/name")).collect();
    if !paths.is_empty() {
        found.push(format!("hostPath volumes ({} {})", many("volume", paths.len()), quoted(&paths)));
    }
    let privileged = failing(containers, |own| own["privileged"] != true);
    if !privileged.is_empty() {
        found.push(format!("privileged ({} must not set securityContext.privileged=true)", whose(&privileged)));
    }
}

fn restricted(pod: &Value, containers: &[Named<'_>], found: &mut Vec<String>) {
    let escalating = failing(containers, |own| own["allowPrivilegeEscalation"] == false);
    if !escalating.is_empty() {
        found.push(format!("allowPrivilegeEscalation != false ({} must set securityContext.allowPrivilegeEscalation=false)", whose(&escalating)));
    }
    let drops_all = |own: &Value| list(own, "/capabilities/drop").iter().any(|dropped| dropped == "ALL");
    let capable = failing(containers, drops_all);
    if !capable.is_empty() {
        found.push(format!("unrestricted capabilities ({} must set securityContext.capabilities.drop=[\"ALL\"])", whose(&capable)));
    }
    let of_pod = &pod["spec"]["securityContext"];
    let root = failing(containers, |own| own["runAsNonRoot"] == true || own["runAsNonRoot"].is_null() && of_pod["runAsNonRoot"] == true);
    if !root.is_empty() {
        found.push(format!("runAsNonRoot != true (pod or {} must set securityContext.runAsNonRoot=true)", whose(&root)));
    }
    let confined = |context: &Value| matches!(text(context, "/seccompProfile/type"), "RuntimeDefault" | "Localhost");
    let loose = failing(containers, |own| confined(own) || own["seccompProfile"].is_null() && confined(of_pod));
    if !loose.is_empty() {
        let type_ = "securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"";
        found.push(format!("seccompProfile (pod or {} must set {type_})", whose(&loose)));
    }
}

fn failing<'a>(containers: &'a [Named<'a>], holds: impl Fn(&Value) -> bool) -> Vec<&'a str> {
    containers.iter().filter(|container| !holds(container.own)).map(|container| container.name).collect()
}

/// `container "app"`, `containers "a", "b"`.
fn whose(names: &[&str]) -> String {
    format!("{} {}", many("container", names.len()), quoted(names))
}

fn many(word: &str, count: usize) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}
