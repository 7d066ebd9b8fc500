//! A report folder as its readers see it: a strict XML parser, junitparser (which GitHub's publishers use), and Jenkins' xUnit schema.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use crate::support::Workspace;
use crate::tools::{folder, wheel};

/// What the files of a folder say of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) class: String,
    pub(crate) name: String,
    /// `passed`, `failure`, `error` or `skipped`.
    pub(crate) result: String,
    pub(crate) file: Option<String>,
    /// The text of the result's element.
    pub(crate) text: String,
}

/// All cases of files, in order.
#[track_caller]
pub(crate) fn cases<'a>(files: impl IntoIterator<Item = &'a Path>) -> Vec<Case> {
    files.into_iter().flat_map(of_file).collect()
}

#[track_caller]
fn of_file(path: &Path) -> Vec<Case> {
    let text = std::fs::read_to_string(path).expect("a report");
    let document = roxmltree::Document::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let root = document.root_element();
    assert_eq!(root.tag_name().name(), "testsuites");
    let suites: Vec<_> = root.children().filter(roxmltree::Node::is_element).collect();
    assert_eq!(suites.len(), 1, "{}: one suite, never nested", path.display());
    let cases: Vec<Case> = suites[0].children().filter(|node| node.has_tag_name("testcase")).map(case).collect();
    assert!(!cases.is_empty(), "{}: Jenkins drops a suite without cases", path.display());
    let counted = |result: &str| cases.iter().filter(|case| case.result == result).count().to_string();
    for (attribute, result) in [("failures", "failure"), ("errors", "error"), ("skipped", "skipped")] {
        assert_eq!(suites[0].attribute(attribute), Some(counted(result).as_str()), "{}: {attribute}", path.display());
    }
    cases
}

fn case(node: roxmltree::Node) -> Case {
    let result = node.children().find(|child| ["failure", "error", "skipped"].contains(&child.tag_name().name()));
    let attribute = |name: &str| node.attribute(name).unwrap_or_default().to_owned();
    Case {
        class: attribute("classname"),
        name: attribute("name"),
        result: result.map_or("passed", |result| result.tag_name().name()).to_owned(),
        file: node.attribute("file").map(str::to_owned),
        text: result.and_then(|result| result.text()).unwrap_or_default().to_owned(),
    }
}

/// No case has the class and name of another one: Jenkins would rename it, GitLab drop it, others take it for a retry.
#[track_caller]
pub(crate) fn all_differ(cases: &[Case]) {
    let mut seen = BTreeSet::new();
    let twice: Vec<_> = cases.iter().filter(|case| !seen.insert((&case.class, &case.name))).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

/// How many cases there are of each result.
pub(crate) fn results(cases: &[Case]) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    cases.iter().for_each(|case| *count.entry(case.result.clone()).or_default() += 1);
    count
}

/// Prints the result of every case, as junitparser has it.
const COUNT: &str = "
import sys, junitparser
for path in sys.argv[1:]:
    for suite in junitparser.JUnitXml.fromfile(path):
        for case in suite:
            kinds = [type(result).__name__.lower() for result in case.result if type(result).__name__ in ('Failure', 'Error', 'Skipped')]
            assert len(kinds) < 2 and case.time is not None and case.classname
            print(kinds[0] if kinds else 'passed')
";

/// junitparser reads the same; and all of it, made anew in the strict flavor, is valid by Jenkins' schema.
#[track_caller]
pub(crate) fn agree(workspace: &Workspace, reports: &str) {
    let files = |folder: &str| {
        let entries = std::fs::read_dir(workspace.path(folder)).expect("a folder");
        let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "xml"));
        files.sort();
        assert!(!files.is_empty(), "no report in {folder}");
        files
    };
    let ours = cases(files(reports).iter().map(AsRef::as_ref));
    let read = Command::new(wheel("python")).args(["-c", COUNT]).args(files(reports)).output().expect("python");
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let theirs: Vec<String> = String::from_utf8_lossy(&read.stdout).lines().map(str::to_owned).collect();
    assert_eq!(theirs, ours.iter().map(|case| case.result.clone()).collect::<Vec<_>>());

    workspace.run(&["report", "rebuild", "--report-dir", reports, "--junit-flavor", "strict"]).exits(0);
    let schema = folder().join("junit-10.xsd");
    let judged = Command::new("xmllint").args(["--noout", "--schema"]).arg(schema).args(files(reports)).output().expect("xmllint");
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stderr));
    assert_eq!(results(&cases(files(reports).iter().map(AsRef::as_ref))), results(&ours), "the strict flavor says the same");
}
