//! Conformance: what a strict parser, quick-junit itself and the rules of junit-10.xsd say of the files.

use proptest::prelude::*;
use roxmltree::{Document, Node};

use super::*;
use crate::base::codes::Code;
use crate::base::fault::Fault;
use crate::base::place::Place;
use crate::report::played::{self, Play};
use crate::report::summary::Counts;
use crate::report::text::CAP;

fn dialect(flavor: Flavor) -> Dialect {
    Dialect { flavor, dir: "reports".into(), build_tag: true, ..Dialect::default() }
}

fn text(run: &RunSummary, stage: &StageRun, dialect: &Dialect) -> String {
    let mut xml = Vec::new();
    render(run, stage, dialect, &mut xml).expect("memory takes it");
    String::from_utf8(xml).expect("text")
}

fn files(events: &[Stamped], flavor: Flavor) -> Vec<(String, String)> {
    let run = RunSummary::of(events);
    run.stages.iter().map(|stage| (file_name(&stage.name, None), text(&run, stage, &dialect(flavor)))).collect()
}

fn cases<'a>(document: &'a Document<'a>) -> Vec<Node<'a, 'a>> {
    document.descendants().filter(|node| node.has_tag_name("testcase")).collect()
}

fn child<'a>(node: Node<'a, 'a>, name: &str) -> Option<Node<'a, 'a>> {
    node.children().find(|child| child.has_tag_name(name))
}

#[test]
fn the_played_run() {
    let all: Vec<String> = files(&played::all(), Flavor::Rich).into_iter().map(|(name, xml)| format!("{name}\n{xml}")).collect();
    insta::assert_snapshot!("rich", all.join("\n"));
    let strict: Vec<String> = files(&played::all(), Flavor::Strict).into_iter().map(|(name, xml)| format!("{name}\n{xml}")).collect();
    insta::assert_snapshot!("strict", strict.join("\n"));
}

#[test]
fn counts_agree_with_the_summary_and_quick_junit_reads_its_own() {
    for events in [played::all(), played::quiet(), played::dry(), played::aborted()] {
        let run = RunSummary::of(&events);
        let (mut tests, mut failures, mut errors, mut skipped) = (0, 0, 0, 0);
        for (_, xml) in files(&events, Flavor::Rich) {
            let report = Report::deserialize_from_str(&xml).expect("quick-junit reads it");
            let again = Report::deserialize_from_str(&serialize(&report)).expect("and what it writes of it");
            assert_eq!(again, report);
            let suite = &report.test_suites[0];
            tests += suite.tests;
            failures += suite.failures;
            errors += suite.errors;
            skipped += suite.skipped;
        }
        let counts = Counts::of(&run.cases);
        assert_eq!((tests, failures, errors, skipped), (counts.cases, counts.failed, counts.errors, counts.skipped));
    }
}

/// What junit-10.xsd of Jenkins' xunit plugin allows: attributes (`*` = required) and children of each element.
const XSD: &[(&str, &[&str], &[&str])] = &[
    ("testsuites", &["name", "time", "tests", "failures", "errors"], &["testsuite"]),
    (
        "testsuite",
        &["name*", "tests*", "failures*", "errors*", "time", "skipped", "timestamp", "hostname", "id", "package", "file", "log", "url"],
        &["properties", "testcase", "system-out", "system-err"],
    ),
    ("properties", &[], &["property"]),
    ("property", &["name*", "value*"], &[]),
    (
        "testcase",
        &["name*", "time", "classname", "group"],
        &["skipped", "error", "failure", "rerunFailure", "rerunError", "flakyFailure", "flakyError", "system-out", "system-err"],
    ),
    ("failure", &["type", "message"], &[]),
    ("error", &["type", "message"], &[]),
    ("skipped", &["type", "message"], &[]),
    ("flakyFailure", &["message", "type*"], &["stackTrace", "system-out", "system-err"]),
    ("rerunFailure", &["message", "type*"], &["stackTrace", "system-out", "system-err"]),
    ("stackTrace", &[], &[]),
    ("system-out", &[], &[]),
    ("system-err", &[], &[]),
];

fn check_against_xsd(xml: &str) {
    let document = Document::parse(xml).unwrap_or_else(|error| panic!("{error}\n{xml}"));
    for node in document.descendants().filter(Node::is_element) {
        let name = node.tag_name().name();
        let (_, attributes, children) = XSD.iter().find(|(known, ..)| *known == name).unwrap_or_else(|| panic!("element {name}"));
        for attribute in node.attributes() {
            assert!(attributes.iter().any(|known| known.trim_end_matches('*') == attribute.name()), "{name}/@{}", attribute.name());
        }
        for required in attributes.iter().filter_map(|known| known.strip_suffix('*')) {
            assert!(node.has_attribute(required), "{name} lacks @{required}");
        }
        for child in node.children().filter(Node::is_element) {
            assert!(children.contains(&child.tag_name().name()), "{name}/{}", child.tag_name().name());
        }
        if let Some(time) = node.attribute("time") {
            let (whole, part) = time.split_once('.').expect("a decimal point");
            assert!(part.len() == 3 && whole.len() <= 9 && time.chars().all(|c| c.is_ascii_digit() || c == '.'), "{time}");
        }
    }
}

#[test]
fn the_strict_flavour_keeps_the_rules_of_the_schema() {
    for events in [played::all(), played::quiet(), played::dry(), played::aborted()] {
        for (_, xml) in files(&events, Flavor::Strict) {
            check_against_xsd(&xml);
        }
    }
}

/// Texts that made other writers' files unreadable. junit-report 0.9.0 (the newest) fails on all but the last three.
fn hostile() -> Vec<String> {
    vec![
        "\u{1b}[31mred\u{1b}[0m".into(),
        "nul\u{0}byte \u{b}\u{c}\u{1f}".into(),
        "non\u{fffe}char\u{ffff}".into(),
        "c1 \u{85}\u{9b}".into(),
        "cdata ]]> end".into(),
        "<a href=\"x\">&amp;'".into(),
        "long ".repeat(100_000),
    ]
}

fn hostile_run(text: &str) -> Vec<Stamped> {
    let mut play = Play::new(text, &[text], false);
    play.stage(text);
    let fault = || Fault::new(Code::HttpStatus, text).evidence(text, text).next(text).at(Some(&Place::new(text, 1, 1)));
    let scene = |name: &str| played::case(text, name).warning(text).property(text, text).output(text);
    play.ends(1, scene(text).failed(fault()).attempt(fault()).attempt(fault()));
    play.ends(1, scene("a").changed(text).attempt(fault()));
    play.ends(1, scene("b").repaired(text));
    play.ends(1, scene("c").skipped(text));
    play.waits(text, text, text);
    play.events
}

#[test]
fn ten_megabytes_are_cut_to_what_readers_show() {
    let body = "0123456789abcde\n".repeat(655_360);
    let mut play = Play::new("run", &["verify"], false);
    play.stage("verify");
    let fault = Fault::new(Code::HttpUnexpected, "the body differs").evidence("body", body.as_str());
    play.ends(1, played::case("app1", "GET a/").failed(fault).output(&body));
    let (_, xml) = files(&play.end(5), Flavor::Rich).remove(0);
    assert!(xml.len() < 3 * CAP, "{}", xml.len());
    let document = Document::parse(&xml).expect("well-formed");
    let text = child(cases(&document)[0], "failure").and_then(|failure| failure.text()).expect("a body");
    assert!(text.starts_with("the body differs\n") && text.contains("bytes left out") && text.contains("\nnext: try the printed curl"), "{text}");
}

#[test]
fn hostile_text_leaves_well_formed_files_of_bounded_size() {
    for text in hostile() {
        for flavor in [Flavor::Rich, Flavor::Strict] {
            for (_, xml) in files(&hostile_run(&text), flavor) {
                let document = Document::parse(&xml).unwrap_or_else(|error| panic!("{error} for {:?}", line(&text, 40)));
                assert_eq!(cases(&document).len(), 5);
                for node in document.descendants() {
                    assert!(
                        node.text().is_none_or(|text| text.len() <= CAP),
                        "{} bytes in {:?}",
                        node.text().unwrap_or_default().len(),
                        node.tag_name()
                    );
                    assert!(node.attribute("message").is_none_or(|message| message.chars().count() <= 200));
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_text_anywhere_is_well_formed_and_names_stay_unique(texts in proptest::collection::vec(any::<String>(), 1..6)) {
        let mut play = Play::new("run", &["verify"], false);
        play.stage("verify");
        for text in &texts {
            play.ends(1, played::case(text, text).failed(Fault::new(Code::HttpStatus, text).evidence(text, text)).output(text));
            play.ends(1, played::case(&text.replace('.', "_"), text).changed(text).property(text, text));
        }
        for (_, xml) in files(&play.end(5), Flavor::Rich) {
            let document = Document::parse(&xml).expect("well-formed");
            let mut names: Vec<_> = cases(&document).iter().map(|case| (case.attribute("classname"), case.attribute("name"))).collect();
            let all = names.len();
            names.sort_unstable();
            names.dedup();
            prop_assert_eq!(names.len(), all);
        }
    }
}

#[test]
fn a_class_name_has_a_segment_for_environment_stage_and_service() {
    let id = |stage: &str, service: Option<&str>| CaseId { stage: stage.into(), service: service.map(Into::into), name: "x".into() };
    for (environment, case, expected) in [
        ("staging", id("verify", Some("orders")), "staging.verify.orders"),
        ("eu.prod", id("verify", Some("orders.v2")), "eu_prod.verify.orders_v2"),
        ("staging", id("connect", None), "staging.connect"),
        ("", id("verify", Some("a\nb")), "verify.a b"),
    ] {
        assert_eq!(classname(environment, &case), expected);
    }
}

#[test]
fn a_passed_case_tells_verdict_and_log_within_500_characters() {
    let mut play = Play::new("run", &["deploy"], false);
    play.stage("deploy");
    play.ends(1, played::case("app1", "helm upgrade").changed(&"note ".repeat(500)).warning(&"w".repeat(2000)).output(&"line\n".repeat(10_000)));
    let run = RunSummary::of(&play.end(0));
    let dialect = Dialect {
        attachments: Attachments::Absolute,
        dir: "/build/reports".into(),
        artifacts_url: Some("https://jenkins/17/artifact/reports/".into()),
        ..dialect(Flavor::Rich)
    };
    let xml = text(&run, &run.stages[0], &dialect);
    let document = Document::parse(&xml).expect("well-formed");
    let case = cases(&document)[0];
    let out: String = child(case, "system-out").and_then(|out| out.text()).expect("output").chars().take(500).collect();
    assert!(out.starts_with("changed: note"), "{out}");
    assert!(out.contains("log: https://jenkins/17/artifact/reports/logs/staging.deploy.app1/helm_upgrade-"), "{out}");
    assert!(out.contains("\n[[ATTACHMENT|/build/reports/logs/staging.deploy.app1/helm_upgrade-"), "{out}");
}

#[test]
fn a_killed_run_leaves_an_error_for_what_had_not_ended() {
    let mut play = Play::new("run", &["deploy"], false);
    play.stage("deploy");
    let empty = files(&play.events, Flavor::Rich);
    let document = Document::parse(&empty[0].1).expect("well-formed");
    assert_eq!(cases(&document)[0].attribute("name"), Some("setup"));
    play.waits("app1", "rollout prod", "0 of 2 ready");
    let killed = files(&play.events, Flavor::Rich);
    let document = Document::parse(&killed[0].1).expect("well-formed");
    let error = child(cases(&document)[0], "error").expect("an error");
    assert_eq!(error.attribute("type"), Some("run.aborted"));
    assert_eq!(error.attribute("message"), Some("not ended when this report was written; last seen: 0 of 2 ready"));
    assert_eq!(cases(&document).len(), 1);
}

#[test]
fn a_stage_without_cases_is_not_empty() {
    let mut play = Play::new("run", &["deploy"], false);
    play.stage("deploy");
    play.end_stage();
    let all = files(&play.end(0), Flavor::Rich);
    let document = Document::parse(&all[0].1).expect("well-formed");
    assert_eq!(child(cases(&document)[0], "skipped").and_then(|skipped| skipped.attribute("message")), Some("nothing to do"));
}

#[test]
fn only_the_roots_own_skipped_is_taken_out() {
    let mut report = Report::new("x skipped=\"1\"");
    report.add_test_suite(TestSuite::new("s"));
    let xml = serialize(&report);
    let document = Document::parse(&xml).expect("well-formed");
    assert_eq!(document.root_element().attribute("name"), Some("x skipped=\"1\""));
    assert_eq!(document.root_element().attribute("skipped"), None);
}
