//! The whole line, each stage alone, again, dry, aborted, and two at once.

use std::process::Stdio;

use crate::support::{Served, Workspace, wait_until};

const FILE: &str = "pipelines/meshstep.yaml";

#[test]
fn the_runbook_runs_and_a_second_run_changes_nothing() {
    let mut workspace = Workspace::new();
    let served = Served::start(&workspace, None);
    workspace.set(&served.env);

    let dry = workspace.run(&["run", "-f", FILE, "--dry-run"]).exits(0);
    assert!(dry.cases().iter().all(|case| case["change"] != "changed"), "a dry run changed something\n{}", dry.stdout);
    assert!(dry.cases().iter().any(|case| case["change"] == "would-change"), "{}", dry.stdout);

    let values = workspace.read("pipelines/mesh/virtual-services-helm/values.yaml");
    let first = workspace.run(&["run", "-f", FILE]).exits(0);
    for stage in ["doctor", "connect", "mesh", "deploy", "routes", "releases", "ingress", "verify"] {
        assert!(first.reports.join(format!("TEST-{stage}.xml")).is_file(), "no report of {stage}");
        assert!(first.cases().iter().any(|case| case["case"]["stage"] == stage && case["outcome"] == "passed"), "{stage}");
    }
    assert!(first.junit_cases() >= 60);
    assert!(first.case("helm repo istio")["note"].as_str().is_some_and(|note| note.ends_with("is known to helm")), "{}", first.stdout);
    assert_eq!(workspace.read("pipelines/mesh/virtual-services-helm/values.yaml"), values, "the values file said it all already");

    let intended = || workspace.read("reports/ledger.jsonl");
    for object in ["\"kind\":\"control plane\"", "\"kind\":\"Gateway\"", "\"kind\":\"release\"", "\"kind\":\"Lease\""] {
        assert!(intended().contains(object), "{object} is not in the ledger\n{}", intended());
    }
    let before = intended();

    let again = workspace.run(&["run", "-f", FILE]).exits(0).says("nothing changed");
    assert_eq!(intended(), before, "nothing is made anew");
    let last_run = again.events().iter().rposition(|event| event["event"] == "run-started").expect("a run");
    let changed = again.events()[last_run..].iter().filter(|event| event["change"] == "changed").count();
    assert_eq!(changed, 0, "{}", again.stdout);
    assert!(!again.stdout.contains("availability "), "nothing was changed, so there is nothing to tell\n{}", again.stdout);

    // Hosts that answered before a change are asked once a second meanwhile.
    let values = workspace.read("pipelines/charts/app1-prod.yaml");
    workspace.write("pipelines/charts/app1-prod.yaml", &values.replace("replicas: 2", "replicas: 3"));
    let grown = workspace.run(&["deploy", "-f", FILE, "--service", "app1-service"]).exits(0);
    let asked = grown.case("availability app1.public.domain");
    assert!(asked["note"].as_str().is_some_and(|note| note.starts_with("0 of ")), "{asked}");
}

#[test]
fn each_stage_runs_alone_against_a_served_sandbox() {
    let mut workspace = Workspace::new();
    let served = Served::start(&workspace, None);
    workspace.set(&served.env);
    workspace.run(&["doctor", "-f", FILE]).exits(0);
    workspace.run(&["connect", "-f", FILE]).exits(0);
    workspace.run(&["ingress", "-f", FILE]).exits(7).says("ingress_missing");
    workspace.run(&["mesh", "-f", FILE]).exits(0).says("istio install");
    let deployed = workspace.run(&["deploy", "-f", FILE, "--service", "app1-service", "--namespace", "prod"]).exits(0);
    let named: Vec<_> = deployed.cases().into_iter().filter(|case| case["case"]["stage"] == "deploy" && case["outcome"] == "passed").collect();
    assert!(
        !named.is_empty() && named.iter().all(|case| case["case"]["service"] == "app1-service" || case["case"]["name"] == "lock"),
        "{}",
        deployed.stdout
    );
    workspace.run(&["routes", "-f", FILE]).exits(0).says("unchanged");
    workspace.run(&["releases", "-f", FILE, "--check"]).exits(10);
    workspace.run(&["releases", "-f", FILE]).exits(0);
    workspace.run(&["releases", "-f", FILE, "--check"]).exits(0);
    workspace.run(&["releases", "plan", "-f", FILE]).exits(0).says("unchanged, revision 1");
    workspace.run(&["releases", "status", "-f", FILE]).exits(0).says("revision 1, deployed");
    workspace.run(&["releases", "history", "virtual-services", "-f", FILE]).exits(0).says("virtual-services 1: deployed");
    workspace.run(&["releases", "rollback", "virtual-services", "-f", FILE]).exits(5).says("there is no good revision before the current one");
    workspace.run(&["releases", "status", "nosuch", "-f", FILE]).exits(3).says("the file has no release `nosuch`");
    workspace.run(&["ingress", "-f", FILE]).exits(0).says("first answer");
    workspace.run(&["verify", "-f", FILE, "--host", "app1.public.domain"]).exits(0).says("GET app1.public.domain/");
    for (share, told) in [("1/2", "GET app1.public.domain/"), ("2/2", "no host to check")] {
        workspace.run(&["verify", "-f", FILE, "--service", "app1-service", "--namespace", "prod", "--shard", share]).exits(0).says(told);
    }
    workspace.run(&["releases", "remove", "alb-istio-ingress", "-f", FILE, "--dry-run"]).exits(0).says("would remove revision 1");
    workspace.run(&["releases", "remove", "alb-istio-ingress", "-f", FILE]).exits(0).says("removed revision 1");
    workspace.run(&["releases", "status", "alb-istio-ingress", "-f", FILE]).exits(0).says("not installed in istio-system");
}

#[test]
fn an_abort_leaves_a_whole_report() {
    let workspace = Workspace::new();
    let child = workspace.command(&["run", "-f", FILE, "--sandbox"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let report = workspace.path("reports/run.jsonl");
    wait_until("the run gets to the mesh", || std::fs::read_to_string(&report).unwrap_or_default().contains("istio install"));
    let killed = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill");
    assert!(killed.success());
    let run = workspace.ended(child.wait_with_output().expect("ends")).exits(143);
    assert!(run.junit_cases() > 3);
    let xml = workspace.read("reports/TEST-mesh.xml");
    assert!(xml.contains("run.aborted"), "{xml}");
    assert!(workspace.read("reports/TEST-verify.xml").contains("not started: aborted"));
}

#[test]
fn two_at_once_do_not_step_on_each_other() {
    let mut workspace = Workspace::new();
    let served = Served::start(&workspace, None);
    workspace.set(&served.env);
    let first = workspace
        .command(&["mesh", "-f", FILE, "--lock-id", "build-1", "--report-dir", "one"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    wait_until("the first run has its lock", || std::fs::read_to_string(workspace.path("one/run.jsonl")).unwrap_or_default().contains("taken"));
    workspace.run(&["mesh", "-f", FILE, "--lock-id", "build-2", "--lock-timeout", "0s"]).exits(9).says("held by build-1");
    let first = workspace.ended(first.wait_with_output().expect("ends"));
    assert_eq!(first.exit, 0, "{}", first.stdout);
    workspace.run(&["mesh", "-f", FILE, "--lock-id", "build-2"]).exits(0);
}

#[test]
fn the_smallest_file_deploys_manifests() {
    let mut workspace = Workspace::new();
    let served = Served::start(&workspace, None);
    workspace.set(&served.env);
    let context = workspace.context();
    workspace.write(
        "small.yaml",
        &format!("version: 1\nname: small\ncluster: {{context: \"{context}\"}}\nservices:\n  - {{name: web, manifests: web.yaml}}\n"),
    );
    workspace.write("web.yaml", WEB);
    let run = workspace.run(&["deploy", "-f", "small.yaml"]).exits(0);
    assert_eq!(run.case("rollout default")["outcome"], "passed", "{}", run.stdout);
    workspace.run(&["deploy", "-f", "small.yaml"]).exits(0).says("3 unchanged");
}

const WEB: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: web}
data: {GREETING: hello}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
        - name: web
          image: registry.example/web:1
          envFrom: [{configMapRef: {name: web}}]
          ports: [{containerPort: 8080}]
          readinessProbe: {httpGet: {path: /, port: 8080}}
";

#[test]
fn a_doomed_deploy_is_refused_before_anything_is_touched() {
    let mut workspace = Workspace::new();
    let served = Served::start(&workspace, None);
    workspace.set(&served.env);
    let context = workspace.context();
    workspace.write(
        "small.yaml",
        &format!("version: 1\nname: small\ncluster: {{context: \"{context}\"}}\nservices:\n  - {{name: web, manifests: web.yaml, timeout: 20s}}\n"),
    );
    workspace.write("web.yaml", &WEB.replace("configMapRef: {name: web}", "secretRef: {name: db}"));
    let run = workspace.run(&["deploy", "-f", "small.yaml"]).exits(5);
    let case = run.case("preflight default");
    assert_eq!(
        (case["code"].as_str(), case["place"]["file"].as_str(), case["place"]["line"].as_i64()),
        (Some("config_missing"), Some("web.yaml"), Some(25))
    );
    assert!(case["seconds"].as_f64().is_some_and(|s| s < 2.0), "{case}");
    // Nothing is there: the same deploy, corrected, makes everything new.
    workspace.write("web.yaml", WEB);
    workspace.run(&["deploy", "-f", "small.yaml"]).exits(0).says("3 created");

    workspace.write(
        "web.yaml",
        &WEB.replace("image: registry.example/web:1", "image: registry.example/web:1\n          resources: {requests: {cpu: '900'}}"),
    );
    let run = workspace.run(&["deploy", "-f", "small.yaml"]).exits(5);
    assert_eq!(run.cases().last().and_then(|case| case["code"].as_str()), Some("unschedulable"), "{}", run.stdout);
    // What is optional, or made by something else, is not refused.
    workspace.write("web.yaml", &WEB.replace("configMapRef: {name: web}", "secretRef: {name: db, optional: true}"));
    workspace.run(&["deploy", "-f", "small.yaml"]).exits(0);
    workspace.write("web.yaml", &WEB.replace("configMapRef: {name: web}", "secretRef: {name: db}"));
    let run = workspace.run(&["deploy", "-f", "small.yaml", "--no-preflight"]).exits(5);
    assert_eq!(run.cases().last().and_then(|case| case["code"].as_str()), Some("config_missing"), "{}", run.stdout);
}
