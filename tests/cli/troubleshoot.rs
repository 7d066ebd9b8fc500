//! Troubleshoot: faults made on purpose, each found in its place, and no probe pod left by anybody.

use std::process::Stdio;

use serde_json::json;

use crate::cluster::Cluster;
use crate::support::{Run, Served, Workspace, wait_until};

const FILE: &str = "pipelines/meshstep.yaml";

fn served(world: &str) -> (Workspace, Served, Cluster) {
    let mut workspace = Workspace::new();
    workspace.write("world.yaml", &format!("name: x\nnamespaces: [{{name: pre-prod}}, {{name: prod}}]\n{world}"));
    let served = Served::start(&workspace, Some("world.yaml"));
    workspace.set(&served.env);
    let cluster = Cluster::new(&served.env);
    (workspace, served, cluster)
}

fn troubleshoot(workspace: &Workspace, host: &str) -> Run {
    let _fresh = std::fs::remove_dir_all(workspace.path("reports"));
    workspace.run(&["troubleshoot", "-f", FILE, "--host", host])
}

/// The fault of this host lies there, and the words say so.
#[track_caller]
fn lies(workspace: &Workspace, cluster: &Cluster, host: &str, code: &str, words: &str) {
    let run = troubleshoot(workspace, host);
    let case = run.case(&format!("GET {host}/"));
    assert_eq!(case["code"], code, "{}", run.stdout);
    assert!(case["message"].as_str().is_some_and(|m| m.contains(words)), "{words}: {case}");
    assert!(case["evidence"].to_string().contains("node port, inside"), "{case}");
    assert_eq!(cluster.probes(), [""; 0], "a probe pod was left");
}

#[test]
fn each_fault_is_found_where_it_was_made() {
    let (workspace, _served, cluster) = served("");
    workspace.run(&["run", "-f", FILE, "--until", "ingress"]).exits(0);
    let host = "app1.public.domain";
    troubleshoot(&workspace, host).exits(0).says("answers through the load balancer");
    assert_eq!(cluster.probes(), [""; 0]);

    let service = |selector: &str| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "app1-service", "namespace": "prod"}, "spec": {"selector": {"app": selector}}});
    cluster.apply(&service("nobody"));
    lies(&workspace, &cluster, host, "fault_in_service", "selects no pod");
    cluster.apply(&service("app1-service"));

    let port = |target: u16| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "app2-service", "namespace": "prod"},
               "spec": {"ports": [{"name": "http", "port": 8001, "protocol": "TCP", "targetPort": target}]}})
    };
    cluster.apply(&port(9999));
    lies(&workspace, &cluster, "app2.public.domain", "fault_in_service", "sends to port 9999, which no container of its pods declares");

    let route = |host: &str| json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "app3-virtual-svc-prod", "namespace": "istio-system"}, "spec": {"hosts": [host]}});
    let ours = cluster.objects().into_iter().find(|o| o.starts_with("VirtualService istio-system/app3") && !o.contains("pre-prod"));
    let name = ours.and_then(|o| o.rsplit('/').next().map(str::to_owned)).expect("a VirtualService of app3 in prod");
    let mut other = route("elsewhere.public.domain");
    other["metadata"]["name"] = name.into();
    cluster.apply(&other);
    lies(&workspace, &cluster, "app3.public.domain", "fault_in_gateway", "has no route");

    cluster.delete("networking.istio.io/v1", "Gateway", "istio-system", "gateway");
    lies(&workspace, &cluster, host, "fault_in_gateway", "no Gateway object opens it");
    let down = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "istio-ingressgateway", "namespace": "istio-system"}, "spec": {"replicas": 0}});
    cluster.apply(&down);
    wait_until("the gateway is gone", || !cluster.pods("istio-system").iter().any(|pod| pod.contains("ingressgateway")));
    lies(&workspace, &cluster, host, "fault_in_gateway", "no pod of the gateway is ready");
}

#[test]
fn the_app_and_the_mesh_are_told_apart_under_strict_mutual_tls() {
    let (workspace, _served, cluster) = served(
        "apps:\n  - {match: {workload: app1-service}, path: /, status: 500, body: out of order}\n\
         certificates:\n  - {match: {workload: app2-service}, root: former-for-ever}\n",
    );
    for app in ["app1", "app2"] {
        let file = format!("pipelines/charts/{app}-pre-prod.yaml");
        workspace.write(&file, &format!("{}\nprobes: {{readiness: /ready}}\n", workspace.read(&file)));
    }
    workspace.run(&["mesh", "-f", FILE]).exits(0);
    workspace.run(&["deploy", "-f", FILE, "--namespace", "pre-prod", "--service", "app1-service"]);
    workspace.run(&["deploy", "-f", FILE, "--namespace", "pre-prod", "--service", "app2-service"]).exits(0);
    workspace.run(&["releases", "-f", FILE]).exits(0);
    workspace.run(&["ingress", "-f", FILE]).exits(0);
    lies(&workspace, &cluster, "app1-pre.public.domain", "fault_in_app", "itself answers 500");
    let run = troubleshoot(&workspace, "app2-pre.public.domain").says("STRICT, so this proves nothing");
    assert_eq!(run.case("GET app2-pre")["code"], "fault_in_mesh", "{}", run.stdout);
    // What is not deployed is the Service's fault, not the mesh's.
    lies(&workspace, &cluster, "app3.public.domain", "fault_in_service", "there is no Service app3-service in prod");
}

#[test]
fn what_is_between_caller_and_nodes_is_seen_from_inside() {
    let (workspace, _served, cluster) = served("aws:\n  targets: {blocked: true}\n");
    workspace.run(&["run", "-f", FILE, "--only", "mesh,deploy,releases"]).exits(0);
    wait_until("the load balancer answers", || troubleshoot(&workspace, "app1.public.domain").stdout.contains("504"));
    lies(&workspace, &cluster, "app1.public.domain", "fault_in_node", "do not reach the nodes");
    let ingress = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "gw-ingress", "namespace": "istio-system"},
        "spec": {"rules": [{"http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "nosuch", "port": {"number": 80}}}}]}}]},
    });
    cluster.apply(&ingress);
    wait_until("the load balancer forgets its targets", || troubleshoot(&workspace, "app1.public.domain").stdout.contains("found no Service"));
    lies(&workspace, &cluster, "app1.public.domain", "fault_in_balancer", "without the gateway's Service");
}

#[test]
fn a_name_that_does_not_resolve_is_the_dns() {
    let (workspace, _served, cluster) = served("dns:\n  names: {'*.elb.amazonaws.com': []}\n");
    workspace.run(&["run", "-f", FILE, "--only", "mesh,deploy,releases"]).exits(0);
    lies(&workspace, &cluster, "app1.public.domain", "dns_unresolved", "does not resolve here");
}

#[test]
fn no_probe_pod_outlives_its_run_for_long() {
    let (workspace, _served, cluster) = served("times: {pull: 4s}\n");
    workspace.run(&["mesh", "-f", FILE]).exits(0);
    let args = ["troubleshoot", "-f", FILE, "--host", "app1.public.domain"];
    let start = || workspace.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");

    let child = start();
    wait_until("the probe pod", || !cluster.probes().is_empty());
    let killed = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill");
    assert!(killed.success());
    workspace.ended(child.wait_with_output().expect("ends")).exits(143);
    assert_eq!(cluster.probes(), [""; 0], "SIGTERM left a probe pod");

    let mut child = start();
    wait_until("the probe pod", || !cluster.probes().is_empty());
    child.kill().expect("killed");
    child.wait().expect("reaped");
    assert_eq!(cluster.probes().len(), 1, "SIGKILL cannot tidy up");
    let next = troubleshoot(&workspace, "app1.public.domain");
    assert!(next.stdout.contains("removed"), "{}", next.stdout);
    assert_eq!(cluster.probes(), [""; 0], "the next run did not remove it");
}
