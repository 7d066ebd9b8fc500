//! The pipeline files of `pipelines/`: what a newcomer copies must be right.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn pipelines() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines")
}

fn vars(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn the_first_example_needs_nothing_and_the_one_for_ci_its_variables() {
    for (file, given) in [("meshstep.yaml", vars(&[])), ("meshstep.ci.yaml", vars(&[("TAG", "1"), ("ENVIRONMENT", "staging"), ("TEAM", "bi")]))] {
        if let Err(findings) = meshstep::spec::load(&pipelines().join(file), &given) {
            panic!("{file}: {findings:?}");
        }
    }
    let Err(findings) = meshstep::spec::load(&pipelines().join("meshstep.ci.yaml"), &vars(&[("TEAM", "bi")])) else {
        panic!("TAG and ENVIRONMENT are not filled")
    };
    assert_eq!(findings.len(), 4, "ENVIRONMENT once, TAG for each of three services: {findings:?}");
}

/// Files and folders that a pipeline file names after these keys are there.
#[test]
fn every_path_in_the_examples_leads_somewhere() {
    for file in ["meshstep.yaml", "meshstep.ci.yaml"] {
        let text = std::fs::read_to_string(pipelines().join(file)).expect("an example").replace("${TEAM}", "dpl");
        let named: Vec<String> = text
            .split(|c: char| c.is_whitespace() || "[]{},\"".contains(c))
            .filter(|word| word.starts_with("mesh/") || word.starts_with("charts/"))
            .map(str::to_owned)
            .collect();
        assert!(named.len() > 10, "{file}: {named:?}");
        for path in named {
            assert!(pipelines().join(&path).exists(), "{file} names {path}");
        }
    }
}

#[test]
fn the_examples_name_their_schema_for_editors() {
    for file in ["meshstep.yaml", "meshstep.ci.yaml"] {
        let text = std::fs::read_to_string(pipelines().join(file)).expect("an example");
        assert_eq!(text.lines().next(), Some("# yaml-language-server: $schema=meshstep.schema.json"), "{file}");
    }
}
