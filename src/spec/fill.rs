//! `${KEY}` in the file's values: filled from flags and `MESHSTEP_VAR_KEY`; `$${` is a literal `${`.

use std::collections::BTreeMap;

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
        Kind::Scalar { text, .. } => {
            if text.contains("${") {
                match filled(text, vars) {
                    Ok(filled) => *text = filled,
                    Err(problem) => findings.push(finding(&problem, node, source, vars)),
                }
            }
        }
        Kind::List { items, .. } => items.iter_mut().for_each(|item| walk(item, source, vars, findings)),
        Kind::Map { entries, .. } => entries.iter_mut().for_each(|(_, value)| walk(value, source, vars, findings)),
        Kind::Alias(_) => {}
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Problem {
    Unfilled(String),
    /// `${` without `}`, or a key that is none.
    Malformed(String),
}

fn filled(text: &str, vars: &BTreeMap<String, String>) -> Result<String, Problem> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        if rest[..start].ends_with('$') {
            out.push_str(&rest[..start - 1]);
            out.push_str("${");
            rest = &rest[start + 2..];
            continue;
        }
        out.push_str(&rest[..start]);
        let behind = &rest[start + 2..];
        let end = behind.find('}').ok_or_else(|| Problem::Malformed(text::head(&rest[start..], 20).into_owned()))?;
        let key = &behind[..end];
        if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
            return Err(Problem::Malformed(format!("${{{key}}}")));
        }
        out.push_str(vars.get(key).ok_or_else(|| Problem::Unfilled(key.to_owned()))?);
        rest = &behind[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

fn finding(problem: &Problem, node: &Node, source: &Source, vars: &BTreeMap<String, String>) -> Finding {
    let raw = &source.text[node.span.clone()];
    let (mark, message, hint) = match problem {
        Problem::Unfilled(key) => {
            let near = text::nearest(key, vars.keys().map(String::as_str)).map(|near| format!("; did you mean `${{{near}}}`?")).unwrap_or_default();
            (
                format!("${{{key}}}"),
                format!("`${{{key}}}` is not filled{near}"),
                format!("pass `--var {key}=VALUE` or set MESHSTEP_VAR_{key}; `$${{` is a literal"),
            )
        }
        Problem::Malformed(part) => {
            (part.clone(), format!("`{part}` is no `${{KEY}}`"), "a key has letters, digits, `_` and `-`; write `$${` for a literal `${`".to_owned())
        }
    };
    let start = node.span.start + raw.find(&mark).unwrap_or(0);
    let end = (start + mark.len()).min(node.span.end).max(start + 1);
    source.error(&(start..end), message).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_filled_and_doubled_dollars_are_literal() {
        let vars = BTreeMap::from([("TAG".to_owned(), "1.4".to_owned())]);
        for (text, wanted) in [
            ("app:${TAG}", Ok("app:1.4".to_owned())),
            ("${TAG}${TAG}", Ok("1.41.4".to_owned())),
            ("$${TAG}", Ok("${TAG}".to_owned())),
            ("cost $5 ${TAG}", Ok("cost $5 1.4".to_owned())),
            ("${TEAM}", Err(Problem::Unfilled("TEAM".to_owned()))),
            ("${}", Err(Problem::Malformed("${}".to_owned()))),
            ("${TAG", Err(Problem::Malformed("${TAG".to_owned()))),
            ("${a b}", Err(Problem::Malformed("${a b}".to_owned()))),
        ] {
            assert_eq!(filled(text, &vars), wanted, "{text}");
        }
    }
}
