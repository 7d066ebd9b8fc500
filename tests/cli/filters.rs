//! `--service`, `--namespace`, `--host`: an unknown name is a usage error before anything starts; what a filter does not narrow is said.

use crate::support::{Served, Workspace};

const FILE: &str = "pipelines/meshstep.yaml";

#[test]
fn a_name_that_the_file_does_not_have_is_refused_with_the_nearest_one() {
    let workspace = Workspace::new();
    for (flag, wrong, right) in
        [("--service", "app1-servce", "app1-service"), ("--namespace", "pre-prd", "pre-prod"), ("--host", "app1.public.domian", "app1.public.domain")]
    {
        for stage in ["run", "doctor", "mesh", "deploy", "routes", "releases", "ingress", "verify", "redeploy"] {
            let run = workspace.run(&[stage, "-f", FILE, "--sandbox", flag, wrong]).exits(2).says(&format!("did you mean `{right}`?"));
            assert_eq!(run.junit_cases(), 1, "the report says it, too");
            std::fs::remove_dir_all(&run.reports).expect("removed");
        }
    }
}

#[test]
fn each_stage_does_only_what_is_chosen() {
    let mut workspace = Workspace::new();
    let served = Served::start(&workspace, None);
    workspace.set(&served.env);
    let names = |run: &crate::support::Run, stage: &str| -> Vec<String> {
        let of_stage = run.cases().into_iter().filter(|case| case["case"]["stage"] == stage);
        of_stage
            .map(|case| format!("{} {}", case["case"]["service"].as_str().unwrap_or_default(), case["case"]["name"].as_str().unwrap_or_default()))
            .collect()
    };
    let chosen = ["--service", "app1-service", "--namespace", "pre-prod", "--host", "app1-pre.public.domain"];
    let run = workspace.run(&[&["run", "-f", FILE], &chosen[..]].concat()).exits(0).says("--service does not narrow connect, mesh, releases");
    let mesh = names(&run, "mesh");
    assert!(mesh.contains(&" label pre-prod".to_owned()) && !mesh.contains(&" label prod".to_owned()), "{mesh:?}");
    let deploy = names(&run, "deploy");
    assert!(deploy.contains(&"app1-service rollout pre-prod".to_owned()), "{deploy:?}");
    assert!(!deploy.iter().any(|name| name.contains("app2") || name.ends_with(" prod")), "{deploy:?}");
    let routes = names(&run, "routes");
    assert_eq!(routes, [" values file", "app1-service virtualservice app1-virtual-svc"]);
    let verify = names(&run, "verify");
    assert_eq!(verify, ["app1-service GET app1-pre.public.domain/"], "{verify:?}");
    std::fs::remove_dir_all(&run.reports).expect("removed");

    // A service without any chosen namespace is told, not passed over.
    let run = workspace.run(&["deploy", "-f", FILE, "--service", "app1-service", "--namespace", "default"]).exits(0);
    assert_eq!(run.case("namespaces")["outcome"], "skipped");
    assert!(run.case("namespaces")["reason"].as_str().is_some_and(|reason| reason.contains("--namespace")), "{}", run.stdout);
}
