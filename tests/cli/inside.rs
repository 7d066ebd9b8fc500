//! `verify --from cluster`: hosts asked by pods, judged as the agent's own answers are; and what an agent cannot reach is left to them.

use std::process::Stdio;

use meshstep::sandbox::pki::Authority;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::support::{Run, Served, Workspace, wait_until};

const FILE: &str = "pipelines/meshstep.yaml";
const VALUES: &str = "values-bi.yaml";
/// Connecting there fails at once: the network is unreachable.
const NOWHERE: &str = ":80:255.255.255.255:80,:443:255.255.255.255:443";

/// The shop in a served world, its load balancer made with the values of `team`.
struct Shop {
    workspace: Workspace,
    cluster: Cluster,
    _served: Served,
}

impl Shop {
    fn published(world: &str, team: &str, change: impl FnOnce(&Workspace)) -> Self {
        Self::with("mesh,deploy,releases,ingress", world, team, change)
    }

    /// Published, and nothing behind it.
    fn empty(world: &str) -> Self {
        Self::with("mesh,releases,ingress", world, VALUES, |_| ())
    }

    fn with(stages: &str, world: &str, team: &str, change: impl FnOnce(&Workspace)) -> Self {
        let mut workspace = Workspace::new();
        workspace.write("world.yaml", &format!("name: inside\nabout: asked from inside\nnamespaces: [{{name: pre-prod}}, {{name: prod}}]\n{world}"));
        workspace.write(FILE, &workspace.read(FILE).replace(VALUES, team).replace("verify:\n", "verify:\n  timeout: 12s\n"));
        change(&workspace);
        let served = Served::start(&workspace, Some("world.yaml"));
        workspace.set(&served.env);
        let cluster = Cluster::new(&served.env);
        workspace.run(&["run", "-f", FILE, "--only", stages]).exits(0);
        Self { workspace, cluster, _served: served }
    }

    fn run(&self, args: &[&str]) -> Run {
        let _fresh = std::fs::remove_dir_all(self.workspace.path("reports"));
        self.workspace.run(&[args, &["-f", FILE]].concat())
    }

    fn inside(&self, args: &[&str]) -> Run {
        let run = self.run(&[&["verify", "--from", "cluster"], args].concat());
        assert_eq!(self.cluster.probes(), [""; 0], "a probe pod was left\n{}", run.stdout);
        run
    }

    /// What the agent has is not what it could have.
    fn set(&mut self, name: &str, value: &str) {
        self.workspace.set(&[(name.to_owned(), value.to_owned())]);
    }
}

/// The case of exactly this name.
#[track_caller]
fn case(run: &Run, name: &str) -> Value {
    let found = run.cases().into_iter().find(|case| case["case"]["name"] == name);
    found.unwrap_or_else(|| panic!("no case `{name}`\n{}", run.stdout))
}

#[track_caller]
fn outcome(run: &Run, name: &str) -> (String, String) {
    let case = case(run, name);
    let text = |key: &str| case[key].as_str().unwrap_or_default().to_owned();
    (text("outcome"), if case["outcome"] == "failed" { text("code") } else { text("reason") })
}

#[test]
fn one_pod_asks_all_hosts_and_its_answers_are_judged_like_the_agents() {
    let shop = Shop::published("", VALUES, |workspace| {
        let checks = "\n    - {host: app2.public.domain, path: /, body-contains: nothing of the kind}\n    \
            - {host: app3.public.domain, path: /, headers: {content-type: text/plain}}\n    \
            - {host: other.public.domain}";
        let file = workspace.read(FILE);
        workspace.write(FILE, &file.replacen("body-contains: ok, within: 2s}", &format!("body-contains: ok, within: 2s}}{checks}"), 1));
    });
    let run = shop.inside(&["--host", "app1.public.domain", "--host", "app1-pre.public.domain"]).exits(0);
    assert_eq!(case(&run, "probe pods")["note"], "2 answers of 1 pod in pre-prod; of a name's addresses curl takes one", "{}", run.stdout);
    assert_eq!(outcome(&run, "GET app1.public.domain/").0, "passed");

    let run = shop.inside(&[]).exits(5);
    for (case, found) in [
        ("GET app1.public.domain/", ("passed", "")),
        ("GET app2-pre.public.domain/", ("passed", "")),
        ("GET app2.public.domain/", ("failed", "http_unexpected")),
        ("GET other.public.domain/", ("failed", "no_route")),
        ("GET app3.public.domain/", ("passed", "")),
        (
            "GET app1-service.prod.svc.cluster.local:8000/",
            ("skipped", "istio-system/default is STRICT: the Service answers nobody without a sidecar, and a probe pod has none"),
        ),
    ] {
        assert_eq!(outcome(&run, case), (found.0.to_owned(), found.1.to_owned()), "{case}\n{}", run.stdout);
    }
    let replayed = shop.workspace.run(&["replay", "reports/run.jsonl"]).exits(0);
    assert!(!replayed.stdout.contains("differs"), "{}", replayed.stdout);
}

#[test]
fn names_of_the_cluster_are_asked_at_the_service_itself() {
    let world = "apps:\n  - {match: {workload: app2-service, namespace: prod}, path: /, status: 500}\n";
    let mut shop = Shop::published(world, VALUES, |workspace| {
        let common = "pipelines/mesh/common.yaml";
        workspace.write(common, &workspace.read(common).replace("mode: STRICT", "mode: PERMISSIVE"));
        let file = "pipelines/charts/app2-prod.yaml";
        workspace.write(file, &format!("{}\nprobes: {{readiness: /ready}}\n", workspace.read(file)));
        workspace.write(FILE, &workspace.read(FILE).replace("verify:\n", "verify:\n  from: cluster\n"));
    });
    let run = shop.run(&["verify", "--service", "app1-service", "--service", "app2-service"]).exits(5);
    for (case, found) in [
        ("GET app1-service.prod.svc.cluster.local:8000/", ("passed", "")),
        ("GET app1-service.pre-prod.svc.cluster.local:8000/", ("passed", "")),
        ("GET app2-service.prod.svc.cluster.local:8001/", ("failed", "http_status")),
        ("GET app2.public.domain/", ("failed", "http_status")),
    ] {
        assert_eq!(outcome(&run, case), (found.0.to_owned(), found.1.to_owned()), "{case}\n{}", run.stdout);
    }
    assert_eq!(shop.cluster.probes(), [""; 0]);
    // The flag wins over the file; the agent knows no names of the cluster.
    shop.set("MESHSTEP_CONNECT_TO", NOWHERE);
    let run = shop.run(&["verify", "--from", "agent", "--service", "app1-service"]).exits(7);
    assert!(run.cases().iter().all(|case| !case["case"]["name"].to_string().contains("svc.cluster.local")), "{}", run.stdout);
    assert_eq!(outcome(&run, "GET app1.public.domain/"), ("failed".to_owned(), "unreachable".to_owned()), "a public load balancer must be reached");
}

#[test]
fn an_internal_load_balancer_is_asked_where_it_is_reached() {
    let mut shop = Shop::published("", "values-protocol.yaml", |_| ());
    // An agent inside its network: as usual.
    let run = shop.run(&["verify"]).exits(0);
    assert_eq!(outcome(&run, "GET app1.public.domain/").0, "passed", "{}", run.stdout);

    // An agent outside of it.
    shop.set("MESHSTEP_CONNECT_TO", NOWHERE);
    let run = shop.run(&["verify"]).exits(0);
    let (end, reason) = outcome(&run, "GET app1.public.domain/");
    assert!(end == "skipped" && reason.contains("is internal, and 127.0.0.1 cannot be reached from here"), "{end} {reason}");
    assert!(reason.contains("verify --from cluster"), "{reason}");
    let run = shop.run(&["ingress"]).exits(0);
    assert_eq!(outcome(&run, "first answer").0, "skipped", "{}", run.stdout);
    let run = shop.inside(&[]).exits(0);
    assert_eq!(outcome(&run, "GET app1.public.domain/").0, "passed", "{}", run.stdout);
}

#[test]
fn a_private_authority_is_handed_to_the_pod() {
    let mut shop = Shop::published("", "values-dpl.yaml", |workspace| {
        let check = "\n    - {host: app3.public.domain, scheme: https, min-tls: TLSv1.2, certificate-days: 7}";
        let file = workspace.read(FILE);
        workspace.write(FILE, &file.replacen("body-contains: ok, within: 2s}", &format!("body-contains: ok, within: 2s}}{check}"), 1));
        workspace.write("other.pem", Authority::new("another").expect("an authority").pem());
    });
    let run = shop.inside(&["--host", "app1.public.domain", "--host", "app3.public.domain"]).exits(0);
    assert_eq!(outcome(&run, "GET https://app1.public.domain/").0, "passed", "{}", run.stdout);
    assert_eq!(outcome(&run, "GET app1.public.domain/").0, "passed", "redirected, and answered there\n{}", run.stdout);
    let unseen = "200, but a pod's curl does not show what certificate-days and min-tls would judge: ask from the agent, too";
    assert_eq!(outcome(&run, "GET https://app3.public.domain/"), ("skipped".to_owned(), unseen.to_owned()), "{}", run.stdout);
    shop.set("MESHSTEP_CACERT", &shop.workspace.path("other.pem").display().to_string());
    let run = shop.inside(&["--host", "app1.public.domain"]).exits(5);
    assert_eq!(outcome(&run, "GET https://app1.public.domain/"), ("failed".to_owned(), "untrusted".to_owned()), "{}", run.stdout);
}

#[test]
fn without_a_probe_pod_no_host_is_judged() {
    for (denied, needs, rule) in [
        ("{verb: patch, resource: pods, namespace: pre-prod}", "probe pods", "verbs: [patch]"),
        ("{verb: list, resource: pods, namespace: pre-prod}", "probe pods of former runs", "verbs: [list]"),
    ] {
        let shop = Shop::empty(&format!("access: {{denied: [{denied}]}}\n"));
        let run = shop.inside(&["--host", "app1.public.domain"]).exits(7).says(rule);
        assert_eq!(outcome(&run, "GET app1.public.domain/"), ("skipped".to_owned(), format!("needs '{needs}' (failed)")), "{}", run.stdout);
    }
    let shop = Shop::empty("images: {missing: ['*curl*']}\n");
    let run = shop.inside(&["--host", "app1.public.domain"]).exits(7);
    assert_eq!(outcome(&run, "probe pods"), ("failed".to_owned(), "probe_failed".to_owned()), "{}", run.stdout);
}

#[test]
fn no_pod_of_a_killed_run_stays() {
    let shop = Shop::empty("times: {pull: 4s}\n");
    let args = ["verify", "--from", "cluster", "-f", FILE, "--host", "app1.public.domain"];
    let start = || shop.workspace.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let mut child = start();
    wait_until("the probe pod", || !shop.cluster.probes().is_empty());
    child.kill().expect("killed");
    child.wait().expect("reaped");
    assert_eq!(shop.cluster.probes().len(), 1, "SIGKILL cannot tidy up");
    shop.inside(&["--host", "app1.public.domain"]).says("removed");
}
