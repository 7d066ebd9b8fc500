//! Cleanup: what goes, what stays and why, what is refused, what does not go, and an end after every interruption.

use std::collections::BTreeSet;
use std::process::Stdio;

use serde_json::json;

use crate::cluster::Cluster;
use crate::support::{Run, Served, Workspace, wait_until};

const FILE: &str = "pipelines/meshstep.yaml";
const CLEANUP: [&str; 5] = ["cleanup", "-f", FILE, "--yes", "shop-eks"];

/// A workspace with a served sandbox, and that sandbox's cluster.
fn served(world: Option<&str>) -> (Workspace, Served, Cluster) {
    let mut workspace = Workspace::new();
    let served = Served::start(&workspace, world);
    workspace.set(&served.env);
    let cluster = Cluster::new(&served.env);
    (workspace, served, cluster)
}

fn cleanup(workspace: &Workspace, more: &[&str]) -> Run {
    let _fresh = std::fs::remove_dir_all(workspace.path("reports"));
    workspace.run(&[&CLEANUP[..], more].concat())
}

#[test]
fn what_run_made_goes_and_what_must_stay_is_named() {
    let (workspace, _served, cluster) = served(None);
    let before = cluster.objects();
    workspace.run(&["run", "-f", FILE]).exits(0);
    let made = cluster.objects();
    assert!(!cluster.in_aws().is_empty());

    let dry = cleanup(&workspace, &["--dry-run"]).exits(0).says("would destroy 2 releases");
    assert!(
        dry.case("what there is")["output"].as_str().is_some_and(|o| o.contains("Ingress gw-ingress in istio-system, with its load balancer k8s-"))
    );
    assert_eq!(cluster.objects(), made, "a dry run destroyed something");

    // Services with sidecars still run: the CA stays, and with it its namespace.
    let first = cleanup(&workspace, &[]).exits(0);
    let namespace = first.case("namespace istio-system");
    assert_eq!(namespace["outcome"], "skipped", "{namespace}");
    let why = namespace["reason"].as_str().unwrap_or_default();
    assert!(why.contains("istio-ca-secret stays") && why.contains("503") && why.contains("--discard-ca"), "{why}");
    assert!(first.case("what stays")["note"].as_str().is_some_and(|n| n.contains("6 services of the file")), "{}", first.stdout);
    assert_eq!(cluster.in_aws(), [""; 0], "AWS still has something");
    let left: BTreeSet<String> = cluster.objects().difference(&before).filter(|o| !is_services(o)).cloned().collect();
    let known = [
        "ConfigMap default/istio-ca-root-cert",
        "ConfigMap istio-system/istio-ca-root-cert",
        "ConfigMap istio-system/kube-root-ca.crt",
        "ConfigMap kube-node-lease/istio-ca-root-cert",
        "ConfigMap kube-public/istio-ca-root-cert",
        "ConfigMap kube-system/istio-ca-root-cert",
        "Lease default/meshstep-shop",
        "Namespace istio-system",
        "Secret istio-system/istio-ca-secret",
        "ServiceAccount istio-system/default",
    ];
    assert_eq!(left.iter().map(String::as_str).collect::<Vec<_>>(), known);

    let second = cleanup(&workspace, &[]).exits(0).says("nothing was there");
    assert!(second.cases().iter().all(|case| case["change"] != "changed"), "{}", second.stdout);

    let last = cleanup(&workspace, &["--discard-ca"]).exits(0);
    assert!(last.case("namespace istio-system")["warnings"].to_string().contains("must be restarted"), "{}", last.stdout);
    let left: BTreeSet<String> = cluster.objects().difference(&before).filter(|o| !is_services(o)).cloned().collect();
    let known: BTreeSet<String> = known.iter().filter(|o| !o.contains("istio-system")).map(|o| (*o).to_owned()).collect();
    assert_eq!(left, known, "with its CA the whole namespace goes");
    cleanup(&workspace, &["--discard-ca"]).exits(0).says("nothing was there");
}

/// What belongs to the services of the file and their namespaces.
fn is_services(object: &str) -> bool {
    object.split_once(' ').is_some_and(|(_, name)| name.starts_with("pre-prod/") || name.starts_with("prod/"))
}

#[test]
fn nothing_is_touched_without_the_clusters_name_or_with_filters() {
    let (workspace, _served, cluster) = served(None);
    let before = cluster.objects();
    workspace.run(&["cleanup", "-f", FILE]).exits(2).says("--yes");
    workspace.run(&["cleanup", "-f", FILE, "--yes", "other-eks"]).exits(2).says("names another cluster");
    cleanup(&workspace, &["--namespace", "prod"]).exits(2).says("do not narrow it");
    assert_eq!(cluster.objects(), before);
}

#[test]
fn what_others_have_in_the_mesh_needs_a_flag_of_its_own() {
    let (workspace, _served, cluster) = served(None);
    workspace.run(&["mesh", "-f", FILE]).exits(0);
    cluster.apply(&json!({
        "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": "theirs", "namespace": "default"},
        "spec": {"host": "theirs.default.svc.cluster.local"},
    }));
    let before = cluster.objects();
    let refused = cleanup(&workspace, &[]).exits(4).says("foreign_objects");
    assert!(refused.case("what there is")["evidence"].to_string().contains("DestinationRule theirs in default"), "{}", refused.stdout);
    let mut after = cluster.objects();
    after.retain(|object| !object.starts_with("Lease "));
    assert_eq!(after, before.into_iter().filter(|object| !object.starts_with("Lease ")).collect(), "something was touched");
    cleanup(&workspace, &["--purge-foreign"]).exits(0);
    assert!(!cluster.objects().iter().any(|object| object.contains("istio.io") || object.contains("theirs")));
}

#[test]
fn a_cleanup_that_is_killed_at_any_step_is_finished_by_the_next() {
    let (workspace, _served, cluster) = served(None);
    let before = cluster.objects();
    workspace.run(&["run", "-f", FILE, "--only", "mesh,releases,ingress"]).exits(0);
    let mut killed = 0;
    for step in 1..40 {
        let _fresh = std::fs::remove_dir_all(workspace.path("reports"));
        let args = [&CLEANUP[..], &["--lock-id", "one"]].concat();
        let mut child = workspace.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
        let log = workspace.path("reports/run.jsonl");
        let mut ended = None;
        wait_until("the next case", || {
            ended = child.try_wait().expect("a state");
            let begun = std::fs::read_to_string(&log).unwrap_or_default().matches("\"case-started\"").count();
            ended.is_some() || begun >= step
        });
        if let Some(status) = ended {
            assert!(status.success(), "step {step}: {status}");
            break;
        }
        child.kill().expect("killed");
        child.wait().expect("reaped");
        killed += 1;
    }
    assert!(killed >= 6, "only {killed} steps were seen");
    cleanup(&workspace, &["--lock-id", "one"]).exits(0).says("nothing was there");
    let left: Vec<String> = cluster.objects().difference(&before).filter(|o| !o.contains("istio-ca-root-cert")).cloned().collect();
    let mine: Vec<&String> = left.iter().filter(|o| !is_services(o)).collect();
    assert_eq!(mine, ["Lease default/meshstep-shop"], "{left:?}");
    assert_eq!(cluster.in_aws(), [""; 0]);
}

/// In a world where the load balancer does not go: exit 8, and the one reason, in the time that the file allows.
fn stuck(world: &str) -> Run {
    let file = crate::support::root().join(format!("fixtures/worlds/{world}.yaml"));
    let (workspace, _served, cluster) = served(file.to_str());
    let short = workspace.read(FILE).replace("timeout: 10m", "timeout: 5s");
    workspace.write(FILE, &short);
    let run = cleanup(&workspace, &["--purge-foreign"]).exits(8);
    let failed: Vec<_> = run.cases().into_iter().filter(|case| case["outcome"] == "failed").collect();
    assert_eq!(failed.len(), 1, "{}", run.stdout);
    assert_eq!(failed[0]["code"], "left_behind");
    assert_eq!(run.case("istioctl uninstall")["outcome"], "skipped", "the mesh went before its load balancer");
    assert!(cluster.objects().contains("Ingress istio-system/gw-ingress"), "the finalizer was stripped");
    run.keeping(workspace)
}

#[test]
fn a_deletion_that_does_not_end_is_explained_and_never_forced() {
    stuck("stuck-controller-gone").says("the load balancer controller is gone");
    let denied = stuck("stuck-denied").says("AWS refuses the controller").says("elasticloadbalancing:DeleteLoadBalancer");
    let case = denied.case("load balancer of gw-ingress gone");
    assert!(case["evidence"].to_string().contains("aws elbv2 delete-load-balancer --region ap-southeast-1"), "{case}");
    stuck("stuck-protected").says("deletion protection is on");
    stuck("stuck-group").says("shop/shop, cannot be built").says("unable to find port 9999");
}

#[test]
fn what_lost_its_ingress_is_named_with_the_commands_that_remove_it() {
    let file = crate::support::root().join("fixtures/worlds/stuck-denied.yaml");
    let (workspace, _served, cluster) = served(file.to_str());
    wait_until("the load balancer is made", || cluster.in_aws().len() >= 3);
    cluster.strip("networking.k8s.io/v1", "Ingress", "istio-system", "gw-ingress");
    workspace.write(FILE, &workspace.read(FILE).replace("timeout: 10m", "timeout: 10s"));
    let run = cleanup(&workspace, &[]).exits(8).says("gw-ingress in AWS");
    let case = run.case("gw-ingress in AWS");
    for command in ["aws elbv2 delete-load-balancer", "aws elbv2 delete-target-group", "aws ec2 delete-security-group"] {
        assert!(case["next"].to_string().contains(command), "{command}: {case}");
    }
    // Nothing in the cluster holds it, so the rest went all the same.
    assert_eq!(run.case("istioctl uninstall")["outcome"], "passed", "{}", run.stdout);
}
