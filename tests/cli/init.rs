//! `meshstep init` in a copy of `pipelines/` without its file: what it writes is valid, and says the same as far as that can be known.

use std::collections::BTreeMap;

use meshstep::spec;
use serde_json::{Value, json};

use crate::support::{Served, Workspace};

const WHO: [&str; 6] = ["--name", "shop", "--cluster", "shop-eks", "--region", "ap-southeast-1"];

/// A pipeline file as its types have it, so that what is left to a default counts as written.
fn read(workspace: &Workspace, name: &str) -> Value {
    let loaded = spec::load(&workspace.path(name), &BTreeMap::new()).unwrap_or_else(|findings| panic!("{name}: {findings:?}"));
    serde_json::to_value(loaded.pipeline).expect("a value")
}

fn without_its_file() -> (Workspace, Value) {
    let workspace = Workspace::new();
    let original = read(&workspace, "pipelines/meshstep.yaml");
    std::fs::remove_file(workspace.path("pipelines/meshstep.yaml")).expect("removed");
    (workspace, original)
}

#[test]
fn the_example_is_reproduced_from_its_folder() {
    let (workspace, mut original) = without_its_file();
    workspace.run(&[&["init", "pipelines"], &WHO[..]].concat()).exits(0).says("to decide: this team, or dpl or protocol").says("written: 3 charts");
    let written = read(&workspace, "pipelines/meshstep.yaml");
    // What no file of the folder says: the environment's name, that `default` is to be labelled, a chart repository for people, the images,
    // and what an answer must hold.
    original["environment"] = "default".into();
    original["mesh"]["inject"].as_array_mut().expect("a list").remove(0);
    original["mesh"].as_object_mut().expect("a map").remove("helm-repo");
    for service in original["services"].as_array_mut().expect("a list") {
        service.as_object_mut().expect("a map").remove("image");
    }
    original["verify"]["checks"] = json!([]);
    assert_eq!(written, original);

    workspace.run(&["validate", "-f", "pipelines/meshstep.yaml"]).exits(0);
    let before = workspace.read("pipelines/meshstep.yaml");
    workspace.run(&[&["init", "pipelines"], &WHO[..]].concat()).exits(2).says("--force");
    assert_eq!(workspace.read("pipelines/meshstep.yaml"), before);
    workspace.run(&[&["init", "pipelines", "--force", "--team", "dpl"], &WHO[..]].concat()).exits(0);
    assert!(workspace.read("pipelines/meshstep.yaml").contains("values-dpl.yaml"));
}

#[test]
fn a_cluster_tells_what_the_folder_does_not() {
    let (mut workspace, mut original) = without_its_file();
    let served = Served::start(&workspace, None);
    workspace.set(&served.env);
    let file = std::fs::read_to_string(crate::support::root().join("pipelines/meshstep.yaml")).expect("the example");
    workspace.write("pipelines/theirs.yaml", &file);
    workspace.run(&["run", "-f", "pipelines/theirs.yaml", "--only", "mesh,deploy,releases"]).exits(0);
    workspace.run(&["init", "pipelines", "--name", "shop", "--context"]).exits(0);
    let written = read(&workspace, "pipelines/meshstep.yaml");
    // The sandbox's context is no ARN, so the cluster stays a context; and what is there need not be made.
    original["cluster"] = written["cluster"].clone();
    assert!(written["cluster"]["context"].is_string(), "{written}");
    original["environment"] = "default".into();
    original["mesh"]["inject"] = json!(["default", "pre-prod", "prod"]);
    original["mesh"].as_object_mut().expect("a map").remove("helm-repo");
    original["verify"]["checks"] = json!([]);
    assert_eq!(written, original);
    workspace.run(&["run", "-f", "pipelines/meshstep.yaml", "--only", "deploy,releases"]).exits(0).says("nothing changed");
}

#[test]
fn an_empty_folder_gives_a_valid_file_that_says_what_is_missing() {
    let workspace = Workspace::new();
    std::fs::create_dir(workspace.path("empty")).expect("a folder");
    workspace.run(&["init", "empty"]).exits(0).says("to decide: its name and its Region").says("services: none was found");
    workspace.run(&["validate", "-f", "empty/meshstep.yaml"]).exits(0);
    workspace.run(&["init", "no-such-folder"]).exits(3).says("no-such-folder");
    workspace.run(&["init", "pipelines", "--file", "mesh/meshstep.yaml", "--force"]).exits(2).says("no plain name");
    let dry = workspace.run(&["init", "pipelines", "--dry-run"]).exits(0);
    assert!(dry.stdout.contains("virtualName: app1-virtual-svc"), "{}", dry.stdout);
}
