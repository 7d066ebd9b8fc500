//! `${KEY}` in the file's values: filled from flags and `MESHSTEP_VAR_KEY`; `$${` is a literal `${`.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::base::finding::Finding;
use crate::base::text;
use crate::base::yaml::{Kind, Node, Source};

/// Fills every scalar value of the tree. A plain scalar is read for its type after filling, a quoted one stays text.
pub(super) fn fill(tree: &mut Node, source: &Source, vars: &BTreeMap<String, String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    walk(tree, source, vars, &mut findings);
    findings
}

fn walk(node: &mut Node, source: &Source, vars: &BTreeMap<String, String>, findings: &mut Vec<Finding>) {
    match &mut node.kind {
        Kind::Scalar { text, .. } if text.contains("${") => {
            let (filled, problems) = filled(text, vars);
            *text = filled;
            findings.extend(problems.into_iter().map(|problem| finding(&problem, node, source, vars)));
        }
        Kind::List { items, .. } => items.iter_mut().for_each(|item| walk(item, source, vars, findings)),
        Kind::Map { entries, .. } => {
            for (key, value) in entries {
                if key.text().is_some_and(|text| text.contains("${")) {
                    let finding = source.error(&key.span, "a key cannot hold `${…}`");
                    findings.push(finding.hint("write the key out; only values are filled"));
                }
                walk(value, source, vars, findings);
            }
        }
        Kind::Scalar { .. } | Kind::Alias(_) => {}
    }
}

/// Why one `${…}` could not be filled. `nth`: which `${` of the text it is.
#[derive(Debug, PartialEq, Eq)]
struct Problem {
    nth: usize,
    what: What,
}

#[derive(Debug, PartialEq, Eq)]
enum What {
    Unfilled(String),
    /// `${` without `}`, or a key that is none.
    Malformed(String),
}

/// The filled text; what cannot be filled stays as it is written.
fn filled(text: &str, vars: &BTreeMap<String, String>) -> (String, Vec<Problem>) {
    let (mut out, mut problems, mut rest, mut nth) = (String::with_capacity(text.len()), Vec::new(), text, 0);
    while let Some(start) = rest.find("${") {
        let here = &rest[start..];
        if rest[..start].ends_with('$') {
            out.push_str(&rest[..start - 1]);
            out.push_str("${");
            rest = &here[2..];
        } else {
            out.push_str(&rest[..start]);
            let end = here.find('}').map(|end| end + 1);
            let key = end.map(|end| &here[2..end - 1]).filter(|key| is_key(key));
            let written = &here[..end.unwrap_or(here.len())];
            rest = &here[written.len()..];
            match (key, key.and_then(|key| vars.get(key))) {
                (_, Some(value)) => out.push_str(value),
                (Some(key), None) => {
                    problems.push(Problem { nth, what: What::Unfilled(key.to_owned()) });
                    out.push_str(written);
                }
                (None, None) => {
                    problems.push(Problem { nth, what: What::Malformed(text::head(written, 30).into_owned()) });
                    out.push_str(written);
                }
            }
        }
        nth += 1;
    }
    out.push_str(rest);
    (out, problems)
}

fn is_key(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

fn finding(problem: &Problem, node: &Node, source: &Source, vars: &BTreeMap<String, String>) -> Finding {
    let at = occurrence(source, node, problem.nth);
    match &problem.what {
        What::Unfilled(key) => {
            let near = text::nearest(key, vars.keys().map(String::as_str)).map(|near| format!("; did you mean `${{{near}}}`?")).unwrap_or_default();
            let hint = format!("pass `--var {key}=VALUE` or set MESHSTEP_VAR_{key}; `$${{` is a literal");
            source.error(&at, format!("`${{{key}}}` is not filled{near}")).hint(hint)
        }
        What::Malformed(written) => {
            let hint = if written.contains(":-") || written.contains(":?") {
                "there are no defaults here: write `${KEY}` and pass its value"
            } else {
                "a key has letters, digits, `_` and `-`; write `$${` for a literal `${`"
            };
            source.error(&at, format!("`{written}` is no `${{KEY}}`")).hint(hint)
        }
    }
}

/// The bytes of the node's nth `${…}`.
fn occurrence(source: &Source, node: &Node, nth: usize) -> Range<usize> {
    let raw = &source.text[node.span.clone()];
    let Some((start, _)) = raw.match_indices("${").nth(nth) else { return node.span.clone() };
    let length = raw[start..].find('}').map_or(2, |end| end + 1);
    node.span.start + start..node.span.start + start + length
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::yaml::parse_one;

    #[test]
    fn keys_are_filled_and_doubled_dollars_are_literal() {
        let vars = BTreeMap::from([("TAG".to_owned(), "1.4".to_owned())]);
        let unfilled = |nth, key: &str| Problem { nth, what: What::Unfilled(key.to_owned()) };
        let malformed = |nth, text: &str| Problem { nth, what: What::Malformed(text.to_owned()) };
        for (text, out, problems) in [
            ("app:${TAG}", "app:1.4", vec![]),
            ("${TAG}${TAG}", "1.41.4", vec![]),
            ("$${TAG}", "${TAG}", vec![]),
            ("cost $5 ${TAG}", "cost $5 1.4", vec![]),
            ("${TEAM}-${TAG}-${X}", "${TEAM}-1.4-${X}", vec![unfilled(0, "TEAM"), unfilled(2, "X")]),
            ("${}", "${}", vec![malformed(0, "${}")]),
            ("$${a ${TAG", "${a ${TAG", vec![malformed(1, "${TAG")]),
            ("${a b}", "${a b}", vec![malformed(0, "${a b}")]),
            ("${TAG:-latest}", "${TAG:-latest}", vec![malformed(0, "${TAG:-latest}")]),
        ] {
            assert_eq!(filled(text, &vars), (out.to_owned(), problems), "{text}");
        }
    }

    #[test]
    fn each_gap_is_shown_where_it_stands() {
        let text = "a: x-${FIRST}-${SECOND}\nb: [\"${TAGG}\"]\n${C}: 1\n";
        let source = Source::new("f", text);
        let mut tree = parse_one(&source).expect("yaml").expect("a value");
        let vars = BTreeMap::from([("TAG".to_owned(), "on".to_owned())]);
        let found: Vec<String> = fill(&mut tree, &source, &vars).into_iter().map(|f| format!("{} {}", f.place, f.message)).collect();
        let expected = [
            "f:1:6 `${FIRST}` is not filled",
            "f:1:15 `${SECOND}` is not filled",
            "f:2:6 `${TAGG}` is not filled; did you mean `${TAG}`?",
            "f:3:1 a key cannot hold `${…}`",
        ];
        assert_eq!(found, expected);
    }
}
