//! The pipeline file: the examples are valid, bad files are told with everything that is wrong, and the schema is the types'.

use std::collections::BTreeMap;
use std::path::Path;

use meshstep::base::finding::{json, render};
use meshstep::spec;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn vars(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn the_examples_are_valid_without_a_warning() {
    let given = vars(&[("TAG", "1.4.2"), ("ENVIRONMENT", "staging"), ("TEAM", "dpl")]);
    for name in ["meshstep.yaml", "meshstep.ci.yaml"] {
        let loaded = spec::load(&root().join("pipelines").join(name), &given).unwrap_or_else(|findings| panic!("{name}\n{}", render(&findings)));
        assert_eq!(render(&loaded.warnings), "", "{name}");
        assert_eq!(loaded.pipeline.name, "shop");
        let place = loaded.places.at("/services/1/image").expect("a place");
        assert!(place.line > 10 && place.column > 5, "{place}");
    }
}

#[test]
fn an_example_without_its_variables_names_each_gap() {
    let findings = spec::load(&root().join("pipelines/meshstep.ci.yaml"), &vars(&[("TAGS", "1")])).expect_err("unfilled");
    let shown = render(&findings);
    for part in ["`${TAG}` is not filled; did you mean `${TAGS}`?", "`${ENVIRONMENT}` is not filled", "MESHSTEP_VAR_TEAM"] {
        assert!(shown.contains(part), "{part}\n{shown}");
    }
}

/// Each bad file of `fixtures/files/*.yaml` has its report beside it. `UPDATE=1` writes them anew.
#[test]
fn bad_files_are_told_as_recorded() {
    let folder = root().join("fixtures/files");
    let mut names: Vec<String> =
        std::fs::read_dir(&folder).expect("fixtures").map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name.ends_with(".yaml"));
    names.sort();
    assert!(names.len() > 15, "{names:?}");
    let mut wrong = Vec::new();
    for name in names {
        let findings = spec::load(&folder.join(&name), &vars(&[("TAG", "1.0")])).map(|loaded| loaded.warnings).unwrap_or_else(|findings| findings);
        let shown = render(&findings).replace(&format!("{}/", folder.display()), "");
        assert!(findings.iter().all(|f| !f.message.contains(env!("CARGO_MANIFEST_DIR"))), "{shown}");
        let recorded = folder.join(name.replace(".yaml", ".txt"));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&recorded, &shown).expect("written");
        }
        if std::fs::read_to_string(&recorded).ok().as_deref() != Some(&shown) {
            wrong.push(format!("{name}:\n{shown}"));
        }
    }
    assert!(wrong.is_empty(), "other findings than recorded (write them anew with UPDATE=1 cargo test --test spec):\n{}", wrong.join("\n"));
}

#[test]
fn files_that_are_no_text_are_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        spec::load(&path, &vars(&[])).expect_err(name)
    };
    for (name, bytes, message, line) in [
        ("empty.yaml", &b""[..], "the file is empty", 1),
        ("comments.yaml", &b"# nothing\n\n"[..], "the file is empty", 1),
        ("latin.yaml", &b"version: 1\nname: caf\xe9\n"[..], "not UTF-8", 2),
        ("wide.yaml", &b"\xff\xfev\0"[..], "UTF-16", 1),
        ("bell.yaml", &b"version: 1\nname: a\x07\n"[..], "control character U+0007", 2),
        ("big.yaml", &vec![b'#'; 5 * 1024 * 1024][..], "larger than 4 MB", 0),
    ] {
        let findings = write(name, bytes);
        assert!(findings[0].message.contains(message), "{name}: {}", render(&findings));
        assert_eq!(findings[0].place.line, line, "{name}");
    }
    let missing = spec::load(&dir.path().join("none.yaml"), &vars(&[])).expect_err("missing");
    assert!(missing[0].message.contains("there is no file"), "{}", render(&missing));
}

#[test]
fn windows_line_breaks_and_a_byte_order_mark_are_fine() {
    let text = "\u{feff}version: 1\r\nname: shop\r\ncluster: {context: kind}\r\nverify:\r\n  checks: [{host: a.b, pth: /}]\r\n";
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("meshstep.yaml");
    std::fs::write(&path, text).expect("written");
    let findings = spec::load(&path, &vars(&[])).expect_err("a wrong key");
    assert_eq!((findings[0].place.line, findings[0].place.column), (5, 24), "{}", render(&findings));
}

#[test]
fn aliases_and_merge_keys_are_supported() {
    let text = "version: 1\nname: shop\ncluster: {context: kind}\ningress: {name: gw}\nverify:\n  checks:\n    - &base {host: a.b, status: 200, within: 2s}\n    - {<<: *base, host: c.d}\n";
    let source = meshstep::base::yaml::Source::new("meshstep.yaml", text);
    let loaded = spec::parse(&source, &vars(&[])).unwrap_or_else(|findings| panic!("{}", render(&findings)));
    let checks = loaded.pipeline.verify.expect("verify").checks;
    let status = checks[1].status.as_ref().and_then(|status| status.read()).map(|status| status.to_string());
    assert_eq!((checks[1].host.as_str(), status.as_deref()), ("c.d", Some("200")));
}

#[test]
fn findings_are_json_for_machines() {
    let findings = spec::load(&root().join("fixtures/files/unknown-keys.yaml"), &vars(&[])).expect_err("findings");
    let value: serde_json::Value = serde_json::from_str(&json(&findings)).expect("json");
    assert_eq!(value[0]["level"], "error");
    assert!(value[0]["place"]["line"].as_u64().is_some_and(|line| line > 0));
}

#[test]
fn the_committed_schema_is_the_types() {
    let path = root().join("pipelines/meshstep.schema.json");
    let schema = spec::schema();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &schema).expect("written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == schema, "pipelines/meshstep.schema.json is old: run `cargo run -- schema > pipelines/meshstep.schema.json` and commit it");
    let value: serde_json::Value = serde_json::from_str(&schema).expect("json");
    assert!(value["$schema"].is_string() && value["title"].is_string());
}
