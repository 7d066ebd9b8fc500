//! The pipeline file: spanned tree → findings → validated [`Pipeline`], and its JSON Schema.

mod files;
mod fill;
mod places;
mod references;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::base::finding::{Finding, Level, tidy};
use crate::base::place::{Place, Places};
use crate::base::yaml::schema::{Checker, Shape};
use crate::base::yaml::{Node, Rules, Source, parse_one};
use crate::stages::verify::check::STATUS_PATTERN;
use crate::stages::{DURATION_PATTERN, Pipeline, Seconds};

/// A valid file.
#[derive(Debug)]
pub struct Loaded {
    pub pipeline: Pipeline,
    /// Where each value stands, by JSON pointer.
    pub places: Places,
    /// What is valid, but hardly meant.
    pub warnings: Vec<Finding>,
}

/// Reads and checks a file, and looks at the files it names. `vars` fill `${KEY}`.
///
/// # Errors
/// Everything that is wrong with the file, at once, sorted by place; warnings among it.
pub fn load(path: &Path, vars: &BTreeMap<String, String>) -> Result<Loaded, Vec<Finding>> {
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|error| vec![unreadable(&name, &error)])?;
    let source = Source::from_bytes(&name, &bytes).map_err(|finding| vec![*finding])?;
    judge(&source, vars, Some(path.parent().unwrap_or(Path::new(""))))
}

/// The file from its text: no look at other files.
///
/// # Errors
/// As [`load`].
pub fn parse(source: &Source, vars: &BTreeMap<String, String>) -> Result<Loaded, Vec<Finding>> {
    judge(source, vars, None)
}

fn judge(source: &Source, vars: &BTreeMap<String, String>, dir: Option<&Path>) -> Result<Loaded, Vec<Finding>> {
    let Some(tree) = parse_one(source)? else {
        let place = Place::new(source.file.clone(), 1, 1);
        return Err(vec![Finding::error(place, "the file is empty").hint("`meshstep init` writes a first file; it begins with `version: 1`")]);
    };
    let Some(mut tree) = tree.expand() else {
        return Err(vec![source.error(&tree.span, "the file's aliases expand to too much").hint("write the values out")]);
    };
    let mut findings = fill::fill(&mut tree, source, vars);
    let unfilled: Vec<u32> = findings.iter().map(|finding| finding.place.line).collect();
    let schema = schema_value();
    let checker = Checker { source, schema: &schema, rules: Rules::Core, unknown: Level::Error, shapes: &SHAPES };
    // What a value is cannot be judged before it is filled.
    let is_unfilled =
        |finding: &Finding| unfilled.contains(&finding.place.line) && finding.mark.as_ref().is_some_and(|mark| mark.line.contains("${"));
    findings.extend(checker.check(&tree, "the pipeline file").into_iter().filter(|finding| !is_unfilled(finding)));
    if references::has_errors(&findings) {
        tidy(&mut findings);
        return Err(findings);
    }
    let pipeline = pipeline(&tree, source)?;
    let places = places::of(&tree, source);
    findings.extend(references::check(&pipeline, source, &tree, &places));
    if let Some(dir) = dir {
        findings.extend(files::check(&pipeline, dir, source, &tree));
    }
    tidy(&mut findings);
    if references::has_errors(&findings) { Err(findings) } else { Ok(Loaded { pipeline, places, warnings: findings }) }
}

const SHAPES: [Shape; 2] = [
    (DURATION_PATTERN, "a duration such as 90s, 5m or 1m30s", |text| Seconds::parse(text).is_some()),
    (STATUS_PATTERN, "a status such as 200, 2xx or 200-204", |_| true),
];

fn pipeline(tree: &Node, source: &Source) -> Result<Pipeline, Vec<Finding>> {
    // The schema admits nothing that the types do not, but a type may be finer.
    let value = tree.json(Rules::Core).unwrap_or_default();
    serde_json::from_value(value).map_err(|error| vec![source.error(&tree.span, error.to_string())])
}

fn unreadable(name: &str, error: &std::io::Error) -> Finding {
    let place = Place::new(name, 0, 0);
    if error.kind() == std::io::ErrorKind::NotFound {
        Finding::error(place, format!("there is no file `{name}`")).hint("name it with `-f FILE`; pipelines/meshstep.yaml is an example")
    } else {
        Finding::error(place, format!("cannot read `{name}`: {error}")).hint("check the path and its permissions")
    }
}

fn schema_value() -> Value {
    schemars::schema_for!(Pipeline).to_value()
}

/// The JSON Schema of the pipeline file, generated from the types.
pub fn schema() -> String {
    serde_json::to_string_pretty(&schema_value()).unwrap_or_default() + "\n"
}
