//! What a change costs the hosts, held against the limit of the file.

use crate::support::{Served, Workspace};

const FILE: &str = "pipelines/meshstep.yaml";
const VALUES: &str = "pipelines/charts/app1-prod.yaml";
const TEMPLATE: &str = "pipelines/charts/service/templates/deployment.yaml";

#[test]
fn a_change_may_cost_what_the_file_allows() {
    let mut workspace = Workspace::new();
    let world = "name: availability\nabout: pods take their time\nnamespaces: [{name: pre-prod}, {name: prod}]\ntimes: {ready: 4s}\n";
    workspace.write("world.yaml", world);
    let served = Served::start(&workspace, Some("world.yaml"));
    workspace.set(&served.env);
    let one = ["--service", "app1-service", "--namespace", "prod"];
    workspace.run(&["run", "-f", FILE, "--only", "mesh,releases,ingress"]).exits(0);
    workspace.run(&[&["deploy", "-f", FILE], &one[..]].concat()).exits(0);

    // From now on all old pods go before a new one comes.
    let template = workspace.read(TEMPLATE);
    let surge = "rollingUpdate:\n      maxSurge: 1\n      maxUnavailable: 0";
    assert!(template.contains(surge), "{template}");
    workspace.write(TEMPLATE, &template.replace(surge, "type: Recreate\n    rollingUpdate: null"));
    let (file, values) = (workspace.read(FILE), workspace.read(VALUES));
    for (n, limit, exit) in [(1, "{percent: 1, longest-gap: 1m}", 0), (2, "{percent: 100}", 5)] {
        workspace.write(FILE, &file.replace("verify:\n", &format!("verify:\n  availability: {limit}\n")));
        workspace.write(VALUES, &values.replace("STAGE: prod", &format!("STAGE: prod{n}")));
        let run = workspace.run(&[&["deploy", "-f", FILE], &one[..]].concat()).exits(exit);
        let case = run.case("availability app1.public.domain");
        let said = if exit == 0 { case["note"].to_string() } else { case["message"].to_string() };
        assert!(said.contains(" failed, longest gap "), "{case}");
        assert_eq!(case["code"].as_str(), (exit == 5).then_some("unavailable"), "{case}");
    }
}
