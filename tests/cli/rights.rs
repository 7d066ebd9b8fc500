//! A right that is missing: exit 7, the verb, the resource and the namespace, and the rule to add, whoever was refused.

use std::collections::BTreeMap;

use meshstep::clients::kube::Right;
use meshstep::stages::rights::{GROUPS, group};

use crate::support::{Run, Workspace, root};

fn denied(denied: &str, args: &[&str]) -> (Workspace, Run) {
    let workspace = Workspace::new();
    workspace.write("world.yaml", &format!("name: denied\nabout: a right is missing\naccess: {{denied: [{denied}]}}\n"));
    let run = workspace.run(&[args, &["-f", "pipelines/meshstep.yaml", "--sandbox=world.yaml"]].concat());
    (workspace, run)
}

#[test]
fn doctor_tells_before_anything_is_changed() {
    let (_workspace, run) = denied("{verb: patch, resource: deployments, namespace: prod}", &["run"]);
    let run = run.exits(7).says(r#"add to a Role in namespace prod: - {apiGroups: ["apps"], resources: [deployments], verbs: [patch]}"#);
    assert!(run.cases().iter().all(|case| case["case"]["stage"] == "doctor" || case["outcome"] == "skipped"), "{}", run.stdout);
}

#[test]
fn whoever_may_nothing_is_told_every_rule() {
    let (_workspace, run) = denied("{}", &["doctor"]);
    let run = run.exits(7);
    let told: String = run.cases().iter().map(|case| format!("{}{}", case["evidence"], case["output"])).collect();
    let file = root().join("pipelines/meshstep.yaml");
    let shop = meshstep::spec::load(&file, &BTreeMap::new()).unwrap_or_else(|findings| panic!("{findings:?}")).pipeline;
    // What is only ever asked for by name is not part of what a file's stages need.
    let by_name = ["troubleshoot", "cleanup"];
    let silent: Vec<Right> = GROUPS
        .iter()
        .filter(|name| !by_name.contains(name))
        .flat_map(|name| group(name, &shop))
        .filter(|right| !told.contains(&format!("in {}: {}", right.role(), right.rule()).replace('"', r#"\""#)))
        .collect();
    assert_eq!(silent, [], "{}", run.stdout);
}

#[test]
fn what_helm_is_refused_and_istioctl_would_be_is_told_like_our_own() {
    for (right, who, rule) in [
        (
            "{verb: create, resource: secrets, namespace: pre-prod}",
            "helm at work on app1-service: this identity may not create secrets in pre-prod",
            r#"add to a Role in namespace pre-prod: - {apiGroups: [""], resources: [secrets], verbs: [create]}"#,
        ),
        (
            "{verb: patch, resource: services, namespace: istio-system}",
            "this identity may not patch services in istio-system, which `mesh` needs",
            r#"add to a Role in namespace istio-system: - {apiGroups: [""], resources: [services], verbs: [patch]}"#,
        ),
        (
            "{verb: create, resource: leases}",
            "take the lock: this identity may not create leases (coordination.k8s.io) in default",
            r#"add to a Role in namespace default: - {apiGroups: ["coordination.k8s.io"], resources: [leases], verbs: [create]}"#,
        ),
    ] {
        let (_workspace, run) = denied(right, &["run", "--from", "connect"]);
        run.exits(7).says(who).says(rule);
    }
}
