//! What would fail is told before anything is touched, whichever service or namespace it is in.

use std::time::Instant;

use crate::support::{Run, Served, Workspace};

/// The same to two namespaces; `db` is to be made in both.
const WEB: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME}
spec:
  replicas: 1
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
        - name: web
          image: registry.example/web:1
          envFrom: [{secretRef: {name: db}}]
          readinessProbe: {httpGet: {path: /, port: 8080}}
";
const SECRET: &str = "{apiVersion: v1, kind: Secret, metadata: {name: db}, stringData: {url: x}}\n";

struct Shop {
    workspace: Workspace,
    context: String,
    _served: Served,
}

impl Shop {
    /// `pre-prod` and `prod`; `pre-prod` has the Secret.
    fn open() -> Self {
        let mut workspace = Workspace::new();
        workspace.write(
            "world.yaml",
            "namespaces: [{name: pre-prod}, {name: prod}]\nobjects: [{manifest: {apiVersion: v1, kind: Secret, metadata: {name: db, namespace: pre-prod}, stringData: {url: x}}}]\n",
        );
        let served = Served::start(&workspace, Some("world.yaml"));
        workspace.set(&served.env);
        let context = workspace.context();
        for name in ["one", "two"] {
            workspace.write(&format!("{name}.yaml"), &WEB.replace("NAME", name));
        }
        Self { workspace, context, _served: served }
    }

    fn deploy(&self, services: &str, more: &[&str]) -> Run {
        let file = format!("version: 1\nname: shop\ncluster: {{context: \"{}\"}}\nservices:\n{services}", self.context);
        self.workspace.write("shop.yaml", &file);
        std::fs::remove_dir_all(self.workspace.path("reports")).ok();
        self.workspace.run(&[&["deploy", "-f", "shop.yaml"], more].concat())
    }
}

/// `one preflight prod: passed` of each case, sorted: those before the apply end in any order.
fn outcomes(run: &Run) -> Vec<String> {
    let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let of_deploy = |case: &serde_json::Value| case["case"]["name"] != "lock";
    let line = |case: &serde_json::Value| format!("{} {}: {}", word(&case["case"]["service"]), word(&case["case"]["name"]), word(&case["outcome"]));
    let mut all: Vec<String> = run.cases().iter().filter(|case| of_deploy(case)).map(line).collect();
    all.sort();
    all
}

#[test]
fn a_secret_that_the_second_namespace_lacks_leaves_the_first_as_it_is() {
    let shop = Shop::open();
    let services = "  - {name: one, manifests: one.yaml, namespaces: [pre-prod, prod], timeout: 30s}\n";
    let started = Instant::now();
    let run = shop.deploy(services, &[]).exits(5).says("Secret db, which is not there in prod");
    assert!(started.elapsed().as_secs_f64() < 10.0);
    let took = run.events().iter().find(|event| event["event"] == "stage-ended").and_then(|event| event["seconds"].as_f64());
    assert!(took.is_some_and(|seconds| seconds < 2.0), "{took:?}");
    assert_eq!(outcomes(&run), ["one apply pre-prod: skipped", "one preflight pre-prod: passed", "one preflight prod: failed"], "{}", run.stdout);
    assert!(run.case("apply pre-prod").to_string().contains("needs preflight prod of one (failed)"), "{}", run.stdout);
    // The log alone says why.
    let log = run.reports.join("run.jsonl").display().to_string();
    shop.workspace.run(&["replay", &log]).exits(0).says("2 verdicts, drawn as recorded").says("Secret db, which is not there in prod");

    let run = shop.deploy(services, &["--no-preflight"]).exits(5);
    assert_eq!(run.case("apply pre-prod")["note"], "1 created, 0 changed, 0 unchanged", "it was touched before\n{}", run.stdout);
    assert_eq!(run.case("rollout prod")["code"], "config_missing", "{}", run.stdout);
}

#[test]
fn what_an_earlier_service_makes_is_not_missing() {
    let shop = Shop::open();
    let two = "  - {name: two, manifests: two.yaml, namespaces: [prod], timeout: 30s}\n";
    let one = "  - {name: one, manifests: one.yaml, namespaces: [prod], timeout: 30s}\n";
    shop.workspace.write("one.yaml", &format!("{SECRET}---\n{}", WEB.replace("NAME", "one")));
    // Too late, it is missing.
    let run = shop.deploy(&[two, one].concat(), &[]).exits(5);
    assert_eq!(outcomes(&run), ["one apply prod: skipped", "one preflight prod: passed", "two preflight prod: failed"], "{}", run.stdout);
    // In another namespace, too.
    let elsewhere = one.replace("[prod]", "[pre-prod]");
    let run = shop.deploy(&[&elsewhere, two].concat(), &[]).exits(5);
    assert_eq!(outcomes(&run), ["one apply pre-prod: skipped", "one preflight pre-prod: passed", "two preflight prod: failed"], "{}", run.stdout);

    shop.deploy(&[one, two].concat(), &[]).exits(0).says("2 created");
}

#[test]
fn a_namespace_that_an_earlier_service_makes_is_not_missing() {
    let shop = Shop::open();
    let first = "  - {name: one, manifests: one.yaml, namespaces: [{name: new, create: true}], timeout: 30s}\n";
    let second = "  - {name: two, manifests: two.yaml, namespaces: [new], timeout: 30s}\n";
    shop.workspace.write("one.yaml", &format!("{SECRET}---\n{}", WEB.replace("NAME", "one")));
    shop.deploy(&[first, second].concat(), &["--dry-run"]).exits(0);
    let run = shop.deploy(&[first, second].concat(), &[]).exits(0);
    assert!(run.case("preflight new").to_string().contains("namespace new is still to be made"), "{}", run.stdout);
}

/// A quota that is full now may have room when an earlier service has shrunk.
#[test]
fn what_an_earlier_service_gives_back_is_not_counted_against_a_later_one() {
    let shop = Shop::open();
    let quota = "{apiVersion: v1, kind: ResourceQuota, metadata: {name: small}, spec: {hard: {pods: \"2\"}}}\n";
    let secret_and = |text: &str| format!("{SECRET}---\n{text}");
    shop.workspace.write("one.yaml", &secret_and(&format!("{quota}---\n{}", WEB.replace("NAME", "one").replace("replicas: 1", "replicas: 2"))));
    let one = "  - {name: one, manifests: one.yaml, namespaces: [prod], timeout: 30s}\n";
    let two = "  - {name: two, manifests: two.yaml, namespaces: [prod], timeout: 30s}\n";
    shop.deploy(one, &[]).exits(0);
    // The quota is full, and stays so: what comes before it changes nothing.
    shop.workspace.write("one.yaml", &secret_and(&WEB.replace("NAME", "one").replace("replicas: 1", "replicas: 2")));
    let run = shop.deploy(&[one, two].concat(), &[]).exits(5);
    assert_eq!(run.cases().iter().rev().find_map(|case| case["code"].as_str()), Some("quota_exceeded"), "{}", run.stdout);
    shop.workspace.write("one.yaml", &secret_and(&WEB.replace("NAME", "one")));
    shop.deploy(&[one, two].concat(), &[]).exits(0);
}
