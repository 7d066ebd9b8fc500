//! The certificate incident and everything that looks like it: the right cause, the right restart, or none.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cluster::Cluster;
use crate::support::{Run, Served, Workspace, root, wait_until};

const GATEWAY: &str = r#"
  - {age: 20m, manifest: {apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: gateway, namespace: istio-system}, spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*.public.domain"]}]}}}"#;
const ACCESS_LOG: &str = r#"
  - {age: 20m, manifest: {apiVersion: telemetry.istio.io/v1, kind: Telemetry, metadata: {name: mesh-default, namespace: istio-system}, spec: {accessLogging: [{providers: [{name: envoy}]}]}}}"#;
/// app1-service in prod alone was forgotten when everything else was restarted.
const STALE: &str = "age: 480h";
const NEW: &str = "age: 30m";

/// A shop whose mesh is there already: what goes wrong is added to it.
struct World(String);

impl World {
    /// app1-service in prod has a certificate of the former root.
    fn stale() -> Self {
        let text = std::fs::read_to_string(root().join("fixtures/worlds/stale-root.yaml")).expect("the world");
        Self(text.replace("1.36.4", "1.40.0") + GATEWAY + ACCESS_LOG)
    }

    /// Everything has a certificate of the current root.
    fn well() -> Self {
        Self(Self::stale().0.replace(STALE, NEW))
    }

    fn istio(self, more: &str) -> Self {
        Self(self.0.replace("istio:\n", &format!("istio:\n  {more}\n")))
    }

    fn object(self, manifest: &str) -> Self {
        self.old_object("10m", manifest)
    }

    fn old_object(self, age: &str, manifest: &str) -> Self {
        Self(format!("{}\n  - {{age: {age}, manifest: {manifest}}}", self.0))
    }

    /// A key of its own at the end of the file.
    fn with(self, more: &str) -> Self {
        Self(format!("{}\n{more}\n", self.0))
    }

    fn write(&self, workspace: &Workspace) {
        workspace.write("world.yaml", &self.0);
    }
}

fn workspace(world: &World, redeploy: &str) -> Workspace {
    let workspace = Workspace::new();
    world.write(&workspace);
    let file = workspace.read("pipelines/meshstep.yaml");
    let before = "redeploy: {when: certificate-fault, method: restart, approve: auto, max-workloads: 5}";
    assert!(file.contains(before));
    // Hosts that stay wrong need not be asked for a minute.
    let file = file
        .replace(before, redeploy)
        .replace("verify:\n", "verify:\n  timeout: 14s\n")
        .replace("checks:\n", "checks:\n    - {host: app1.public.domain, path: /own}\n");
    workspace.write("pipelines/meshstep.yaml", &file);
    workspace
}

/// Publishes the shop over the mesh that is there, and asks its hosts.
fn publish(world: &World, redeploy: &str) -> (Workspace, Run) {
    let workspace = workspace(world, redeploy);
    let run = workspace.run(&["run", "-f", "pipelines/meshstep.yaml", "--sandbox=world.yaml", "--only", "releases,ingress,verify", "-v"]);
    (workspace, run)
}

const AUTO: &str = "redeploy: {when: certificate-fault, method: restart, approve: auto, max-workloads: 5}";

fn restarts(run: &Run) -> Vec<String> {
    let name = |case: &Value| case["case"]["name"].as_str().unwrap_or_default().to_owned();
    run.cases().iter().filter(|case| case["outcome"] == "passed").map(name).filter(|name| name.starts_with("redeploy ")).collect()
}

fn codes(run: &Run) -> Vec<String> {
    let mut codes: Vec<String> = run.cases().iter().filter_map(|case| case["code"].as_str().map(str::to_owned)).collect();
    codes.sort();
    codes.dedup();
    codes
}

/// The world leads to this code, and nothing is restarted.
#[track_caller]
fn no_restart(world: &World, code: &str) -> Run {
    let (workspace, run) = publish(world, AUTO);
    assert_eq!(restarts(&run), Vec::<String>::new(), "{}", run.stdout);
    assert!(codes(&run).iter().any(|found| found == code), "{code} is not among {:?}\n{}\n{}", codes(&run), run.stdout, run.stderr);
    run.exits(5).keeping(workspace)
}

#[test]
fn the_stale_workload_alone_is_restarted_and_its_roots_are_shown() {
    let (_workspace, run) = publish(&World::stale(), AUTO);
    assert_eq!(restarts(&run), ["redeploy app1-service in prod"], "{}", run.stdout);
    let case = run.case("redeploy app1-service in prod");
    let output = case["output"].as_str().unwrap_or_default();
    assert!(output.contains("before:") && output.contains("STALE") && output.contains("after:") && output.contains("current"), "{output}");
    let host = run.case("GET app1.public.domain/");
    assert!(host["story"].as_str().is_some_and(|story| story.contains("trusts another root")), "{host}");
    run.exits(0);
}

#[test]
fn a_stale_gateway_is_restarted_alone() {
    let gateway = "certificates:\n  - {match: {namespace: istio-system, workload: istio-ingressgateway}, root: former}";
    let (_workspace, run) = publish(&World::well().with(gateway), AUTO);
    assert_eq!(restarts(&run), ["redeploy istio-ingressgateway in istio-system"], "{}", run.stdout);
    run.exits(0);

    // What the old gateway still accepted is asked again after its restart, and cured as well.
    let (_workspace, run) = publish(&World::stale().with(gateway), AUTO);
    assert_eq!(restarts(&run), ["redeploy istio-ingressgateway in istio-system", "redeploy app1-service in prod"], "{}", run.stdout);
    run.exits(0);
}

#[test]
fn nothing_is_restarted_while_a_restart_would_not_help() {
    no_restart(&World::stale().istio("forgotten: [prod]"), "stale_configmap");
    no_restart(&World::stale().istio("webhook-untrusted: true"), "injector_untrusted");
    let down = "timeline:\n  - {after: 0s, apply: {apiVersion: apps/v1, kind: Deployment, metadata: {name: istiod, namespace: istio-system}, spec: {replicas: 0}}}";
    no_restart(&World::stale().with(down), "ca_broken");
}

#[test]
fn what_looks_like_it_is_not_restarted() {
    let expired = "certificates:\n  - {match: {namespace: prod, workload: app1-service}, expired: true}";
    no_restart(&World::well().with(expired), "leaf_expired");
    let rule = r#"{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: app1, namespace: prod}, spec: {host: app1-service.prod.svc.cluster.local, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}}"#;
    no_restart(&World::well().istio("not-injected: [{namespace: prod, workload: app1-service}]").object(rule), "plaintext_port");
    // Nothing listens where the Service leads to: a plain 503 UF.
    let nowhere = "{apiVersion: v1, kind: Service, metadata: {name: app1-service, namespace: prod}, spec: {ports: [{name: http, port: 8000, targetPort: 9999}]}}";
    no_restart(&World::well().istio("not-injected: [{namespace: prod, workload: app1-service}]").object(nowhere), "upstream_failed");
}

#[test]
fn a_service_that_prints_the_text_is_not_restarted() {
    let text = "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: remote connection failure, transport failure reason: TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:TLS_error_end";
    let prints = format!("apps:\n  - {{match: {{namespace: prod, workload: app1-service}}, path: /own, status: 503, body: \"{text}\"}}");
    no_restart(&World::well().with(&prints), "upstream_failed");
}

#[test]
fn without_the_right_to_look_into_pods_logs_and_ages_decide() {
    let forbidden = "access:\n  denied:\n    - {resource: pods/portforward}\n    - {resource: pods/exec}";
    let (_workspace, run) = publish(&World::stale().with(forbidden), AUTO);
    assert_eq!(restarts(&run), ["redeploy app1-service in prod"], "{}", run.stdout);
    run.exits(0);

    // Without logs either nothing is proven, and nothing touched.
    let run = no_restart(&World::stale().with(&format!("{forbidden}\n    - {{resource: pods/log}}")), "upstream_failed");
    assert!(run.case("GET app1.public.domain/")["evidence"].to_string().contains("could not all be read"), "{}", run.stdout);
}

#[test]
fn more_than_may_be_restarted_needs_approval() {
    for redeploy in ["redeploy: {approve: manual}", "redeploy: {max-workloads: 1}"] {
        let world = World(World::stale().0.replace("age: 30m", "age: 470h"));
        let (_workspace, run) = publish(&world, redeploy);
        assert_eq!(restarts(&run), Vec::<String>::new());
        assert_eq!(codes(&run), ["too_many_stale"], "{}", run.stdout);
        run.says("Deployment app1-service in prod").exits(11);
    }
}

#[test]
fn a_restart_that_did_not_help_is_not_repeated() {
    let for_ever = "certificates:\n  - {match: {namespace: prod, workload: app1-service}, root: former-for-ever}";
    let (_workspace, run) = publish(&World::well().with(for_ever), AUTO);
    assert_eq!(codes(&run), ["redeployed_in_vain"], "{}", run.stdout);
    run.exits(5);
}

#[test]
fn the_memory_of_a_restart_is_in_the_cluster() {
    let mut workspace = workspace(&World::stale(), AUTO);
    let served = Served::start(&workspace, Some("world.yaml"));
    workspace.set(&served.env);
    let only = ["run", "-f", "pipelines/meshstep.yaml", "--only", "releases,ingress,verify", "--report-dir"];
    workspace.run(&[&only[..], &["first"]].concat()).exits(0).says("repaired");
    // Another process, another workspace's reports: it finds nothing to do.
    let again = workspace.run(&[&only[..], &["second", "--fail-on-repair"]].concat()).exits(0);
    assert!(!again.stdout.contains("repaired"), "{}", again.stdout);
}

#[test]
fn neighbours_with_the_new_root_keep_their_pods() {
    let mut workspace = workspace(&World::stale(), AUTO);
    let served = Served::start(&workspace, Some("world.yaml"));
    workspace.set(&served.env);
    let cluster = Cluster::new(&served.env);
    let pods = || -> BTreeMap<String, String> {
        let of = |namespace: &'static str| cluster.pod_uids(namespace).into_iter().map(move |(name, uid)| (format!("{namespace}/{name}"), uid));
        ["pre-prod", "prod", "istio-system"].into_iter().flat_map(of).collect()
    };
    let before = pods();
    workspace.run(&["run", "-f", "pipelines/meshstep.yaml", "--only", "releases,ingress,verify"]).exits(0).says("repaired");
    let stale = |name: &&String| name.starts_with("prod/app1-service-");
    // The last of the old pods may still be on their way out.
    wait_until("the end of the stale pods", || pods().keys().filter(stale).all(|name| !before.contains_key(name)));
    let after = pods();
    for (name, uid) in before.iter().filter(|(name, _)| !stale(name)) {
        assert_eq!(after.get(name), Some(uid), "{name} was touched");
    }
    assert!(after.keys().any(|name| stale(&name)), "{after:?}");
}

#[test]
fn a_run_that_is_killed_after_the_restart_leaves_it_for_the_next_to_see() {
    let mut workspace = workspace(&World::stale().with("times: {ready: 4s}"), AUTO);
    let served = Served::start(&workspace, Some("world.yaml"));
    workspace.set(&served.env);
    let only = ["run", "-f", "pipelines/meshstep.yaml", "--only", "releases,ingress,verify", "--lock-id", "the-build", "--report-dir"];
    let mut first = workspace.command(&[&only[..], &["first"]].concat()).stdout(std::process::Stdio::null()).spawn().expect("starts");
    let log = workspace.path("first/run.jsonl");
    wait_until("the restart", || std::fs::read_to_string(&log).is_ok_and(|log| log.contains("restarted, waiting for its rollout")));
    first.kill().expect("killed");
    first.wait().expect("reaped");
    let cluster = Cluster::new(&served.env);
    assert_eq!(cluster.revisions("prod", "app1-service"), 2);
    let second = workspace.run(&[&only[..], &["second"]].concat()).exits(0);
    assert_eq!(cluster.revisions("prod", "app1-service"), 2, "{}", second.stdout);
    assert!(!workspace.read("second/run.jsonl").contains("\"note\":\"restarted, "), "{}", second.stdout);
}

/// A worker that serves nobody, in the words of a manifest.
fn worker(kind: &str, strategy: &str) -> String {
    let template = "{metadata: {labels: {app: worker}}, spec: {containers: [{name: app, image: registry.example/worker:1}]}}";
    format!(
        "{{apiVersion: apps/v1, kind: {kind}, metadata: {{name: worker, namespace: prod}}, spec: {{{strategy}selector: {{matchLabels: {{app: worker}}}}, template: {template}}}}}"
    )
}

#[test]
fn stale_workloads_without_a_host_belong_to_the_set() {
    let internal = worker("Deployment", "");
    let (_workspace, run) = publish(&World::stale().old_object("480h", &internal), AUTO);
    assert_eq!(restarts(&run), ["redeploy app1-service in prod", "redeploy worker in prod"], "{}", run.stdout);
    run.exits(0);

    // One that may not be restarted is told, and keeps nobody from his cure.
    let by_hand = worker("StatefulSet", "serviceName: a, updateStrategy: {type: OnDelete}, ");
    let (_workspace, run) = publish(&World::stale().old_object("480h", &by_hand.replace("name: worker, n", "name: a-worker, n")), AUTO);
    assert_eq!(restarts(&run), ["redeploy app1-service in prod"], "{}", run.stdout);
    assert_eq!(run.case("GET app1.public.domain/")["outcome"], "repaired", "{}", run.stdout);
    run.says("StatefulSet a-worker in prod is not restarted: its pods are only replaced when they are deleted by hand").exits(5);

    // No host fails for it: `verify` leaves it alone, `redeploy` is asked for by name.
    let mut workspace = workspace(&World::well().old_object("480h", &internal), AUTO);
    let served = Served::start(&workspace, Some("world.yaml"));
    workspace.set(&served.env);
    let run = workspace.run(&["run", "-f", "pipelines/meshstep.yaml", "--only", "releases,ingress,verify"]).exits(0);
    assert_eq!(restarts(&run), Vec::<String>::new(), "{}", run.stdout);
    let dry = workspace.run(&["redeploy", "-f", "pipelines/meshstep.yaml", "--dry-run"]).exits(0);
    assert_eq!(dry.case("workloads without a host")["note"], "would restart Deployment worker in prod");
    let run = workspace.run(&["redeploy", "-f", "pipelines/meshstep.yaml"]).exits(0);
    assert_eq!(restarts(&run), ["redeploy worker in prod"], "{}", run.stdout);
    let again = workspace.run(&["redeploy", "-f", "pipelines/meshstep.yaml", "--fail-on-repair"]).exits(0);
    assert_eq!(restarts(&again), Vec::<String>::new(), "{}", again.stdout);
}

#[test]
fn two_runs_at_once_make_one_restart() {
    let mut workspace = workspace(&World::stale(), AUTO);
    let served = Served::start(&workspace, Some("world.yaml"));
    workspace.set(&served.env);
    workspace.run(&["run", "-f", "pipelines/meshstep.yaml", "--only", "releases,ingress", "--report-dir", "r0"]).exits(0);
    let verify = |id: &str| {
        let args = ["verify", "-f", "pipelines/meshstep.yaml", "--report-dir", id, "--lock-id", id];
        workspace.command(&args).stdout(std::process::Stdio::piped()).spawn().expect("starts")
    };
    let both = [verify("r1"), verify("r2")].map(|child| workspace.ended(child.wait_with_output().expect("ends")));
    let restarted: Vec<String> =
        ["r1", "r2"].iter().zip(both).flat_map(|(reports, run)| restarts(&Run { reports: workspace.path(reports), ..run.exits(0) })).collect();
    assert!(restarted.len() <= 2 && !restarted.is_empty(), "{restarted:?}");
    let log = |reports: &str| workspace.read(&format!("{reports}/run.jsonl"));
    let by_us = [log("r1"), log("r2")].iter().filter(|log| log.contains("\"note\":\"restarted, ")).count();
    assert_eq!(by_us, 1, "two restarts, or none");
}

#[test]
fn the_teams_own_ways_make_the_pods_anew() {
    let (_workspace, run) = publish(&World::stale(), "redeploy: {method: deploy}");
    assert!(run.case("redeploy app1-service in prod")["note"].as_str().is_some_and(|note| note.starts_with("deployed again")), "{}", run.stdout);
    run.exits(0);

    // A command that ends well and does nothing has cured nothing.
    let (_workspace, run) = publish(&World::stale(), "redeploy: {method: command, command: {run: [\"true\"], timeout: 3s}}");
    assert_eq!(codes(&run), ["redeployed_in_vain"], "{}", run.stdout);
    run.exits(5);
    let (_workspace, run) = publish(&World::stale(), "redeploy: {method: command, command: {run: [\"false\"], timeout: 3s}}");
    assert_eq!(codes(&run), ["tool_failed"], "{}", run.stdout);
}

#[test]
fn a_restart_is_waited_for_as_patiently_as_a_deployment() {
    let slow = "times: {back-off: 50ms}\n\
        pods: [{match: {namespace: prod, workload: app1-service}, then: [{after: 20ms, times: 4, state: crashed}]}]";
    let restarted = |more: &str| {
        let workspace = workspace(&World::stale().with(slow), AUTO);
        let file = workspace.read("pipelines/meshstep.yaml").replacen("    timeout: 5m\n", &format!("    timeout: 5m\n{more}"), 1);
        workspace.write("pipelines/meshstep.yaml", &file);
        let run = workspace.run(&["run", "-f", "pipelines/meshstep.yaml", "--sandbox=world.yaml", "--only", "releases,ingress,verify"]);
        run.case("redeploy app1-service in prod")
    };
    assert_eq!(restarted("")["code"], "crash_loop");
    let case = restarted("    tolerate: {crash_loop: 9}\n");
    assert_eq!(case["outcome"], "passed", "{case}");
}

#[test]
fn the_table_shows_who_holds_what() {
    let workspace = workspace(&World::stale(), AUTO);
    let args = ["troubleshoot", "certificates", "-f", "pipelines/meshstep.yaml", "--sandbox=world.yaml"];
    let run = workspace.run(&args).exits(5).says("STALE, older than the root").says("istio-system/istio-ingressgateway");
    assert_eq!(codes(&run), ["stale_certificate"], "{}", run.stdout);
    let json = workspace.run(&[&args[..], &["--output", "json"]].concat()).exits(5);
    let document: Value = serde_json::from_str(&json.stdout).expect("one JSON document");
    assert!(
        document["cases"].to_string().contains("pod/prod/app1-service") || document["cases"].to_string().contains("prod/app1-service"),
        "{document}"
    );

    let workspace = self::workspace(&World::well(), AUTO);
    workspace.run(&args).exits(0).says("current");
}

#[test]
fn an_installation_tells_what_it_made_stale_before_any_host_is_asked() {
    let run_mesh = |world: &World| {
        let workspace = workspace(world, AUTO);
        workspace.run(&["mesh", "-f", "pipelines/meshstep.yaml", "--sandbox=world.yaml"]).exits(0).case("workload certificates")
    };
    let told = run_mesh(&World::stale());
    assert!(told["warnings"].to_string().contains("Deployment app1-service in prod"), "{told}");
    assert!(!told["warnings"].to_string().contains("app2-service"), "{told}");
    assert_eq!(run_mesh(&World::well())["warnings"], Value::Null);
}
