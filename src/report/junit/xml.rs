//! The report's model as XML: whole, or with its cases written one after another.

use std::collections::HashMap;
use std::io::{self, Write};

use quick_junit::{Report, TestCase, TestSuite, XmlString};

use crate::report::shares;

const CASE: &str = "<testcase";
const END: &str = "\n    </testsuite>";
/// The longest text, in bytes, that many cases may have.
const WORD: usize = 48;

/// quick-junit always writes the root's `skipped`, which junit-10.xsd refuses and nobody reads.
pub(in crate::report) fn serialize(report: &Report) -> String {
    let mut xml = report.to_string().expect("clean text always serializes");
    let root = xml.find("<testsuites").unwrap_or_default();
    let end = xml[root..].find('>').map_or(xml.len(), |at| root + at);
    if let Some(from) = xml[root..end].find(" skipped=\"").map(|at| root + at) {
        let value = from + " skipped=\"".len();
        let to = xml[value..].find('"').map_or(value, |at| value + at + 1);
        xml.replace_range(from..to, "");
    }
    xml
}

/// Writes a report of one suite that counts its cases, has properties and holds no case, with `cases` inside.
pub(super) fn write<C: Sync>(
    report: &Report,
    out: &mut impl Write,
    cases: &[C],
    render: impl Fn(&C, &mut Words) -> TestCase + Sync,
) -> io::Result<()> {
    let frame = serialize(report);
    let (head, tail) = frame.split_at(frame.rfind(END).unwrap_or(frame.len()));
    out.write_all(head.as_bytes())?;
    shares::write(cases, out, |share| Ok(elements(share, &render)))?;
    out.write_all(tail.as_bytes())
}

fn elements<C>(cases: &[C], render: impl Fn(&C, &mut Words) -> TestCase) -> Vec<u8> {
    let (mut alone, mut words, mut xml) = (Alone::new(), Words::default(), Vec::new());
    for case in cases {
        xml.extend_from_slice(b"\n        ");
        xml.extend_from_slice(alone.element(render(case, &mut words)).as_bytes());
    }
    xml
}

/// Texts that many cases have. quick-junit filters each text that it takes, byte by byte, which is the most costly part of a case.
#[derive(Default)]
pub(super) struct Words(HashMap<String, XmlString>);

impl Words {
    pub(super) fn of(&mut self, text: &str) -> XmlString {
        match self.0.get(text) {
            Some(known) => known.clone(),
            None if text.len() > WORD => XmlString::new(text),
            None => self.0.entry(text.to_owned()).or_insert_with(|| XmlString::new(text)).clone(),
        }
    }
}

/// A report of one case at a time, to cut its element out: quick-junit writes whole reports only.
struct Alone {
    report: Report,
    xml: Vec<u8>,
}

impl Alone {
    fn new() -> Self {
        let mut report = Report::new("");
        report.test_suites.push(TestSuite::new(""));
        Self { report, xml: Vec::new() }
    }

    fn element(&mut self, case: TestCase) -> &str {
        self.report.test_suites[0].test_cases = vec![case];
        self.xml.clear();
        self.report.serialize(&mut self.xml).expect("memory takes it");
        let xml = str::from_utf8(&self.xml).expect("quick-junit writes UTF-8");
        // In texts every `<` is escaped.
        &xml[xml.find(CASE).unwrap_or_default()..xml.rfind(END).unwrap_or(xml.len())]
    }
}

#[cfg(test)]
mod tests {
    use quick_junit::{NonSuccessKind, Property, TestCaseStatus};

    use super::*;
    use crate::report::shares::SHARE;

    #[test]
    fn cases_one_by_one_are_the_same_file() {
        let mut failed = TestCaseStatus::non_success(NonSuccessKind::Failure);
        failed.set_message("</testsuite>").set_description("<testcase \n    </testsuite>");
        let mut full = TestCase::new("<testcase", failed);
        full.add_property(Property::new("a", "b")).set_system_out("\n    </testsuite>\n");
        let cases = [TestCase::new("a", TestCaseStatus::success()), full, TestCase::new("c", TestCaseStatus::skipped())];
        let report = |cases: &[TestCase]| {
            let mut suite = TestSuite::new("suite");
            suite.add_property(Property::new("run.id", "</testsuite>"));
            suite.test_cases = cases.to_vec();
            (suite.tests, suite.failures, suite.skipped) = (3, 1, 1);
            let mut report = Report::new("report");
            report.add_test_suite(suite);
            report
        };
        let mut streamed = Vec::new();
        write(&report(&[]), &mut streamed, &cases, |case, _| case.clone()).expect("memory takes it");
        assert_eq!(String::from_utf8(streamed).expect("text"), serialize(&report(&cases)));
    }

    #[test]
    fn many_cases_stand_in_their_order() {
        let report = |cases| {
            let (mut report, mut suite) = (Report::new("report"), TestSuite::new("suite"));
            suite.add_property(Property::new("a", "b"));
            (suite.test_cases, suite.tests) = (cases, 5 * SHARE + 1);
            report.test_suites = vec![suite];
            report
        };
        let (numbers, case) = ((0..5 * SHARE + 1).collect::<Vec<_>>(), |n: &usize| TestCase::new(n.to_string(), TestCaseStatus::success()));
        let mut streamed = Vec::new();
        write(&report(vec![]), &mut streamed, &numbers, |n, _| case(n)).expect("memory takes it");
        assert!(String::from_utf8(streamed).expect("text") == serialize(&report(numbers.iter().map(case).collect())));
    }
}
