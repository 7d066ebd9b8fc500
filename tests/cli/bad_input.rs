//! Bad input: exit 3, line and column, and nothing written.

use crate::support::Workspace;

/// The pipeline file with one thing wrong, and what must be said of it.
const BAD: [(&str, &str, &str, &str); 6] = [
    ("unknown key", "\nservices:\n", "\nservces:\n", "did you mean `services`?"),
    ("unfilled", "environment: demo", "environment: ${STAGE}", "`${STAGE}` is not filled"),
    ("port", "port: 8000", "port: 70000", "between 1 and 65535"),
    ("tab", "\n  profile: default", "\n\tprofile: default", "tab"),
    ("twice", "name: shop\n", "name: shop\nname: shop2\n", "name"),
    ("missing file", "common: mesh/common.yaml", "common: mesh/commn.yaml", "mesh/commn.yaml"),
];

#[test]
fn a_broken_pipeline_file_is_refused_with_its_place() {
    for (what, from, to, words) in BAD {
        let workspace = Workspace::new();
        let text = workspace.read("pipelines/meshstep.yaml");
        let broken = text.replacen(from, to, 1);
        assert_ne!(text, broken, "{what}");
        workspace.write("pipelines/meshstep.yaml", &broken);
        let values = workspace.read("pipelines/mesh/virtual-services-helm/values.yaml");
        workspace.run(&["validate", "-f", "pipelines/meshstep.yaml"]).exits(3).says(words).says("pipelines/meshstep.yaml:");
        let run = workspace.run(&["run", "-f", "pipelines/meshstep.yaml", "--sandbox"]).exits(3).says(words);
        assert_eq!(run.junit_cases(), 1, "{what}");
        assert_eq!(workspace.read("pipelines/mesh/virtual-services-helm/values.yaml"), values, "{what}");
    }
}

#[test]
fn an_empty_or_absent_file_is_refused() {
    let workspace = Workspace::new();
    workspace.write("empty.yaml", "");
    workspace.run(&["validate", "-f", "empty.yaml"]).exits(3).says("empty");
    workspace.run(&["validate", "-f", "absent.yaml"]).exits(3).says("there is no file `absent.yaml`");
}

#[test]
fn a_values_file_pasted_as_in_the_runbook_is_refused_with_its_line() {
    let workspace = Workspace::new();
    let values = "pipelines/mesh/virtual-services-helm/values.yaml";
    let pasted = "virtualServices:\n  - virtualName: app1-virtual-svc\n      name: app1-service\n      port: 8000\n";
    workspace.write(values, pasted);
    workspace.run(&["routes", "-f", "pipelines/meshstep.yaml"]).exits(3).says("values.yaml:3");
    assert_eq!(workspace.read(values), pasted, "nothing may be written");
    workspace.run(&["routes", "check", values]).exits(3).says("values.yaml:3");
}
