//! The files that the pipeline file names: are they there, and what they must be? Offline, relative to the pipeline file.

use std::fs;
use std::path::Path;

use crate::base::finding::Finding;
use crate::base::text::nearest;
use crate::base::yaml::{Kind, Node, Source, parse, parse_one};
use crate::domain::routes::document::document;
use crate::spec::places;
use crate::stages::Pipeline;
use crate::stages::deploy::ServiceNamespace;

/// The most files of a manifests folder that are looked at.
const MAX_MANIFESTS: usize = 500;

/// What a path must lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    Chart,
    Values,
    /// A file of Kubernetes objects, or a folder of such files.
    Manifests,
}

pub(super) fn check(pipeline: &Pipeline, dir: &Path, source: &Source, tree: &Node) -> Vec<Finding> {
    let mut named: Vec<(String, &str, Want)> = Vec::new();
    if let Some(mesh) = &pipeline.mesh {
        named.extend(mesh.common.iter().map(|path| ("/mesh/common".to_owned(), path.as_str(), Want::Manifests)));
        named.extend(mesh.gateway.iter().map(|path| ("/mesh/gateway".to_owned(), path.as_str(), Want::Manifests)));
    }
    for (i, service) in pipeline.services.iter().enumerate() {
        named.extend(service.chart.iter().map(|path| (format!("/services/{i}/chart"), path.as_str(), Want::Chart)));
        named.extend(service.manifests.iter().map(|path| (format!("/services/{i}/manifests"), path.as_str(), Want::Manifests)));
        for (n, namespace) in service.namespaces.iter().enumerate() {
            if let ServiceNamespace::WithValues(with) = namespace {
                named.extend(
                    with.values.iter().enumerate().map(|(v, path)| (format!("/services/{i}/namespaces/{n}/values/{v}"), path.as_str(), Want::Values)),
                );
            }
        }
    }
    for (i, release) in pipeline.releases.iter().enumerate() {
        named.push((format!("/releases/{i}/chart"), &release.chart, Want::Chart));
        named.extend(release.values.iter().enumerate().map(|(v, path)| (format!("/releases/{i}/values/{v}"), path.as_str(), Want::Values)));
    }
    let mut findings = Vec::new();
    for (at, path, want) in named {
        let span = places::find(tree, &at).span.clone();
        findings.extend(look(dir, path, want, &|message, hint| source.error(&span, message).hint(hint)));
    }
    if let Some(routes) = &pipeline.routes {
        let span = places::find(tree, "/routes/values").span.clone();
        findings.extend(routes_file(dir, &routes.values, routes.list_key.as_deref(), &|message, hint| source.error(&span, message).hint(hint)));
    }
    findings
}

type At<'a> = &'a dyn Fn(&str, &str) -> Finding;

fn look(dir: &Path, path: &str, want: Want, at: At<'_>) -> Vec<Finding> {
    let full = dir.join(path);
    if path.trim().is_empty() {
        return vec![at("the path is empty", "name a file or folder, relative to the pipeline file")];
    }
    if want == Want::Chart && (path.contains("://") || path.ends_with(".tgz")) {
        return vec![at(&format!("`{path}` is not a chart's folder"), "fetch the chart first: `helm pull CHART --untar`")];
    }
    let Ok(meta) = fs::metadata(&full) else { return vec![missing(dir, path, at)] };
    match want {
        Want::Chart if !full.join("Chart.yaml").is_file() => {
            let hint = if meta.is_dir() { "name the folder that holds Chart.yaml" } else { "name the chart's folder" };
            vec![at(&format!("`{path}` is no chart: there is no Chart.yaml in it"), hint)]
        }
        Want::Chart => Vec::new(),
        Want::Values if meta.is_dir() => vec![at(&format!("`{path}` is a folder"), "name a values file")],
        Want::Values => values(&full, path, at),
        Want::Manifests if meta.is_dir() => folder(&full, path, at),
        Want::Manifests => manifests(&full, path, at),
    }
}

fn read(full: &Path, path: &str, at: At<'_>) -> Result<Source, Vec<Finding>> {
    let bytes = fs::read(full).map_err(|error| vec![at(&format!("`{path}` cannot be read: {error}"), "check the path and its permissions")])?;
    Source::from_bytes(full.display().to_string(), &bytes).map_err(|finding| vec![*finding])
}

/// The nearest name that is there, along the path as far as it leads.
fn missing(dir: &Path, path: &str, at: At<'_>) -> Finding {
    let (mut folder, mut left) = (dir.to_path_buf(), path);
    while let Some((head, tail)) = left.split_once('/') {
        if !folder.join(head).is_dir() {
            break;
        }
        folder.push(head);
        left = tail;
    }
    let listed = if folder.as_os_str().is_empty() { Path::new(".") } else { &folder };
    let wrong = left.split('/').next().unwrap_or(left);
    // An extension in common makes no likeness.
    let (stem, extension) = wrong.rsplit_once('.').map_or((wrong, String::new()), |(stem, extension)| (stem, format!(".{extension}")));
    let names = fs::read_dir(listed).into_iter().flatten().flatten().map(|e| e.file_name().to_string_lossy().into_owned());
    let stems: Vec<String> = names.filter_map(|name| name.strip_suffix(&extension).map(str::to_owned)).collect();
    let message = format!("`{path}` does not exist");
    match nearest(stem, stems.iter().map(String::as_str)) {
        Some(near) => at(&message, &format!("did you mean `{}`?", path.replacen(wrong, &format!("{near}{extension}"), 1))),
        None => at(&message, "paths are relative to the pipeline file's folder"),
    }
}

fn values(full: &Path, path: &str, at: At<'_>) -> Vec<Finding> {
    let source = match read(full, path, at) {
        Ok(source) => source,
        Err(findings) => return findings,
    };
    match parse_one(&source) {
        Err(findings) => findings,
        Ok(Some(node)) if node.entries().is_none() => {
            vec![source.error(&node.span, "a values file must be a map at its top").hint("write `key: value` lines")]
        }
        Ok(_) => Vec::new(),
    }
}

fn routes_file(dir: &Path, path: &str, list_key: Option<&str>, at: At<'_>) -> Vec<Finding> {
    let full = dir.join(path);
    match fs::metadata(&full) {
        Err(_) => vec![missing(dir, path, at)],
        Ok(meta) if meta.is_dir() => vec![at(&format!("`{path}` is a folder"), "name the values file of the virtual-services chart")],
        Ok(_) => match read(&full, path, at) {
            Err(findings) => findings,
            Ok(source) => document(&source.text, &source.file, list_key).map_or_else(|findings| findings, |document| document.errors()),
        },
    }
}

fn folder(full: &Path, path: &str, at: At<'_>) -> Vec<Finding> {
    let mut files = Vec::new();
    collect(full, &mut files);
    if files.is_empty() {
        return vec![at(&format!("`{path}` holds no manifests"), "put .yaml, .yml or .json files into it")];
    }
    files.sort();
    files.iter().take(MAX_MANIFESTS).flat_map(|file| manifests(file, &file.display().to_string(), at)).collect()
}

fn collect(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_file() && path.extension().is_some_and(|e| ["yaml", "yml", "json"].iter().any(|known| e.eq_ignore_ascii_case(known))) {
            files.push(path);
        }
    }
}

/// Every document is an object with `apiVersion` and `kind`.
fn manifests(full: &Path, path: &str, at: At<'_>) -> Vec<Finding> {
    let source = match read(full, path, at) {
        Ok(source) => source,
        Err(findings) => return findings,
    };
    let (documents, mut findings) = parse(&source);
    for document in &documents {
        if document.is_null() {
            continue;
        }
        for key in ["apiVersion", "kind"] {
            if document.get(key).and_then(Node::text).is_none_or(str::is_empty) {
                let line = source.line_index(document.span.start);
                let span = document.span.start..document.span.start + source.line(line).len().min(document.span.len());
                findings.push(source.error(&span, format!("a manifest without `{key}`")).hint("every document must be a Kubernetes object"));
            }
        }
    }
    let objects = documents.iter().filter(|d| matches!(d.kind, Kind::Map { .. })).count();
    if objects == 0 && findings.is_empty() {
        findings.push(at(&format!("`{path}` holds no object"), "add a manifest, or remove the key"));
    }
    findings
}
