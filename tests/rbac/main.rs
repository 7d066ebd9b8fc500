//! `pipelines/rbac/` grants exactly what the table of rights asks for, group by group.

mod grants;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use meshstep::clients::kube::Right;
use meshstep::stages::{Pipeline, rights};

fn shop() -> Pipeline {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/meshstep.yaml");
    meshstep::spec::load(&file, &BTreeMap::new()).unwrap_or_else(|findings| panic!("{findings:?}")).pipeline
}

#[test]
fn each_manifest_grants_what_its_stages_need_and_no_more() {
    let shop = shop();
    let mut wrong = Vec::new();
    for group in rights::GROUPS {
        let granted: BTreeSet<Right> = grants::granted(group, &grants::objects(group)).into_iter().map(|grant| grant.right).collect();
        // The namespaces are made with the manifests (00-namespaces.yaml), not by the run.
        let wanted: BTreeSet<Right> =
            rights::group(group, &shop).into_iter().filter(|right| right.resource != "namespaces" || right.verb != "create").collect();
        wrong.extend(wanted.difference(&granted).map(|right| format!("{group}.yaml lacks in {}: {}", right.role(), right.rule())));
        wrong.extend(granted.difference(&wanted).map(|right| format!("{group}.yaml grants what no stage asks for: {right}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_groups_are_all_that_the_stages_ask_for() {
    let (shop, all) = (shop(), rights::Filters::default());
    let of_groups: BTreeSet<Right> = rights::GROUPS.iter().flat_map(|group| rights::group(group, &shop)).collect();
    let stages = meshstep::stages::ALL.iter().map(|(stage, _)| *stage).chain(["troubleshoot"]);
    let of_stages: BTreeSet<Right> =
        stages.flat_map(|stage| rights::needed(stage, &shop, &all)).chain(rights::installing(&shop)).chain(rights::foreseeing(&shop, &all)).collect();
    assert_eq!(of_groups, of_stages);
}

#[test]
fn every_file_is_a_group_and_is_explained() {
    let readme = std::fs::read_to_string(grants::folder().join("README.md")).expect("a README");
    let entries = std::fs::read_dir(grants::folder()).expect("the folder");
    let mut files: Vec<String> = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    files.retain(|file| file.ends_with(".yaml") && file != "00-namespaces.yaml");
    files.sort();
    let mut groups: Vec<String> = rights::GROUPS.iter().map(|group| format!("{group}.yaml")).collect();
    groups.sort();
    assert_eq!(files, groups);
    assert!(files.iter().all(|file| readme.contains(file.as_str())), "the README names every file");
}
