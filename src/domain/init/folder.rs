//! What a folder holds: charts by what they render, values files by whose they are, manifests by their kinds. Only read, never rendered.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::domain::routes::{self, Entry};
use crate::domain::services::manifests::{self, Manifest};

/// Deeper folders are no longer a person's own.
const DEEPEST: usize = 8;
const LONGEST: u64 = 1 << 20;
/// What is never a pipeline's own.
const NOT_OURS: [&str; 5] = ["node_modules", "target", "vendor", "reports", "dist"];

/// What a chart is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Service,
    VirtualServices,
    LoadBalancer,
    Other,
}

#[derive(Clone, Debug)]
pub struct Chart {
    /// Relative to the folder, with `/`.
    pub path: String,
    /// As Chart.yaml has it.
    pub name: String,
    pub purpose: Purpose,
    /// The chart's own values.
    pub values: Value,
    /// Name of its Ingress, when it has one and the name can be read.
    pub ingress: Option<String>,
    /// `values-TEAM.yaml` and the like in the chart's folder: what stands for TEAM, and the path.
    pub variants: BTreeMap<String, String>,
}

/// A values file outside of charts.
#[derive(Clone, Debug)]
pub struct ValuesFile {
    pub path: String,
    /// The file's name without its ending.
    pub stem: String,
    pub values: Value,
}

/// A file of manifests outside of charts.
#[derive(Clone, Debug)]
pub struct Manifests {
    pub path: String,
    pub objects: Vec<Manifest>,
}

/// Everything of a folder that a pipeline file could name.
#[derive(Clone, Debug, Default)]
pub struct Folder {
    pub charts: Vec<Chart>,
    pub values: Vec<ValuesFile>,
    pub manifests: Vec<Manifests>,
    /// The values file that holds the routes, and its entries.
    pub routes: Option<(String, Vec<Entry>)>,
    /// Regions that certificates in values files are in.
    pub regions: Vec<String>,
}

/// Reads a folder.
///
/// # Errors
/// When it is not there or cannot be read; files in it that are of no use are passed over.
pub fn read(dir: &Path) -> Result<Folder> {
    let mut files = BTreeMap::new();
    collect(dir, dir, 0, &mut files)
        .map_err(|error| Fault::new(Code::FileUnreadable, format!("cannot read the folder `{}`: {error}", dir.display())))?;
    Ok(of_files(&files))
}

fn collect(root: &Path, at: &Path, depth: usize, files: &mut BTreeMap<String, String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(at)? {
        let entry = entry?;
        let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
        if name.starts_with('.') || NOT_OURS.contains(&name.as_str()) {
            continue;
        }
        // Links are not followed: they may lead out, or in circles.
        let kind = entry.file_type()?;
        if kind.is_dir() && depth < DEEPEST {
            // A folder below that may not be read holds nothing for us.
            _ = collect(root, &path, depth + 1, files);
        } else if kind.is_file() && [".yaml", ".yml", ".tpl"].iter().any(|end| name.ends_with(end)) && entry.metadata()?.len() <= LONGEST {
            let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            if let Ok(text) = std::fs::read_to_string(&path) {
                files.insert(relative, text);
            }
        }
    }
    Ok(())
}

/// The folder from its YAML files: path and text.
pub fn of_files(files: &BTreeMap<String, String>) -> Folder {
    let homes: Vec<String> =
        files.keys().filter_map(|path| path.strip_suffix("Chart.yaml")).map(|home| home.trim_end_matches('/').to_owned()).collect();
    // A chart inside another one (`charts/`) is that one's business.
    let outer: Vec<&String> =
        homes.iter().filter(|home| !homes.iter().any(|other| other != *home && home.starts_with(&format!("{other}/")))).collect();
    let home_of = |path: &str| outer.iter().find(|home| home.is_empty() || path.starts_with(&format!("{home}/")));
    let mut folder = Folder { charts: outer.iter().filter_map(|home| chart(home, files)).collect(), ..Folder::default() };
    let mut with_routes = Vec::new();
    for (path, text) in files.iter().filter(|(path, _)| !path.ends_with(".tpl")) {
        let in_chart = home_of(path);
        if in_chart.is_some_and(|home| path[home.len()..].trim_start_matches('/').starts_with("templates/")) {
            continue;
        }
        if !is_pipeline(text)
            && let Ok(entries) = routes::list(text, path, None)
            && !entries.is_empty()
        {
            with_routes.push((path.clone(), entries.into_iter().map(|listed| listed.entry).collect()));
        }
        folder.regions.extend(regions(text).filter(|region| !folder.regions.contains(region)).collect::<Vec<_>>());
        if in_chart.is_some() || is_pipeline(text) {
            continue;
        }
        match manifests::parse(path, text) {
            Ok(objects) if !objects.is_empty() => folder.manifests.push(Manifests { path: path.clone(), objects }),
            _ => {
                if let Ok(values @ Value::Object(_)) = serde_saphyr::from_str::<Value>(text) {
                    folder.values.push(ValuesFile { path: path.clone(), stem: stem(path), values });
                }
            }
        }
    }
    // The chart's own values come first: that is where the runbook keeps them.
    let of_chart =
        |path: &str| folder.charts.iter().any(|chart| chart.purpose == Purpose::VirtualServices && path == format!("{}/values.yaml", chart.path));
    with_routes.sort_by_key(|(path, _)| !of_chart(path));
    folder.routes = with_routes.into_iter().next();
    folder
}

/// A pipeline file of this tool, whatever its name.
fn is_pipeline(text: &str) -> bool {
    let has = |key: &str| text.lines().any(|line| line.starts_with(key));
    has("version: 1") && has("cluster:")
}

/// The Regions of the ACM certificates that a text names.
fn regions(text: &str) -> impl Iterator<Item = String> {
    text.split(":acm:")
        .skip(1)
        .filter_map(|rest| rest.split(':').next())
        .filter(|region| region.contains('-'))
        .map(str::to_owned)
        .collect::<Vec<_>>()
        .into_iter()
}

fn stem(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.strip_suffix(".yaml").or_else(|| name.strip_suffix(".yml")).unwrap_or(name).to_owned()
}

fn chart(home: &str, files: &BTreeMap<String, String>) -> Option<Chart> {
    let below = |name: &str| if home.is_empty() { name.to_owned() } else { format!("{home}/{name}") };
    let read = |name: &str| files.get(&below(name)).and_then(|text| serde_saphyr::from_str::<Value>(text).ok());
    let description = read("Chart.yaml")?;
    let values = read("values.yaml").unwrap_or_default();
    let templates: Vec<&String> = files.iter().filter(|(path, _)| path.starts_with(&below("templates/"))).map(|(_, text)| text).collect();
    let makes = |kind: &str| templates.iter().any(|text| text.lines().any(|line| line.trim() == format!("kind: {kind}")));
    let purpose = if makes("VirtualService") {
        Purpose::VirtualServices
    } else if makes("Ingress") && templates.iter().any(|text| text.contains("alb.ingress.kubernetes.io/")) {
        Purpose::LoadBalancer
    } else if ["Deployment", "StatefulSet", "DaemonSet", "Rollout"].into_iter().any(makes) {
        Purpose::Service
    } else {
        Purpose::Other
    };
    let variants = files.keys().filter_map(|path| {
        let name = path.strip_prefix(&below("")).filter(|name| !name.contains('/'))?;
        let variant = stem(name);
        let variant = variant.strip_prefix("values-").or_else(|| variant.strip_prefix("values."))?.to_owned();
        Some((variant, path.clone()))
    });
    Some(Chart {
        path: if home.is_empty() { ".".to_owned() } else { home.to_owned() },
        name: description["name"].as_str().unwrap_or_default().to_owned(),
        purpose,
        ingress: templates.iter().find_map(|text| ingress_name(text, &values)),
        values,
        variants: variants.collect(),
    })
}

/// The name of the Ingress in a template, written out or one of the chart's values.
fn ingress_name(template: &str, values: &Value) -> Option<String> {
    let after = template.lines().skip_while(|line| line.trim() != "kind: Ingress").skip_while(|line| line.trim() != "metadata:");
    let name = after.take(6).find_map(|line| line.trim().strip_prefix("name:"))?.trim().trim_matches('"');
    if !name.contains("{{") {
        return Some(name.to_owned());
    }
    let path = name.split(".Values.").nth(1)?.split(|c: char| !(c.is_alphanumeric() || c == '.' || c == '_')).next()?;
    values.pointer(&format!("/{}", path.replace('.', "/"))).and_then(Value::as_str).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> Folder {
        of_files(&files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect())
    }

    #[test]
    fn charts_are_told_apart_by_what_they_make() {
        let found = folder(&[
            ("a/Chart.yaml", "name: app"),
            ("a/templates/d.yaml", "kind: Deployment\n"),
            ("a/charts/sub/Chart.yaml", "name: sub"),
            ("b/Chart.yaml", "name: alb-istio-ingress"),
            ("b/values.yaml", "ingress: {name: gw-ingress}"),
            ("b/values-bi.yaml", "team: bi\narn: arn:aws:acm:eu-west-1:1:certificate/x"),
            (
                "b/templates/i.yaml",
                "kind: Ingress\nmetadata:\n  name: {{ .Values.ingress.name | quote }}\n  \
                 annotations:\n    alb.ingress.kubernetes.io/scheme: internal\n",
            ),
            ("c/Chart.yaml", "name: virtual-services"),
            ("c/templates/v.yaml", "kind: VirtualService\n"),
            (
                "c/values.yaml",
                "virtualServices:\n  - virtualName: v\n    name: app\n    port: 80\n    namespaces: [{name: prod, hosts: [a.example]}]\n",
            ),
        ]);
        let purposes: Vec<(&str, Purpose)> = found.charts.iter().map(|chart| (chart.path.as_str(), chart.purpose)).collect();
        assert_eq!(purposes, [("a", Purpose::Service), ("b", Purpose::LoadBalancer), ("c", Purpose::VirtualServices)]);
        assert_eq!(found.charts[1].ingress.as_deref(), Some("gw-ingress"));
        assert_eq!(found.charts[1].variants.get("bi").map(String::as_str), Some("b/values-bi.yaml"));
        assert_eq!(found.routes.as_ref().map(|(path, entries)| (path.as_str(), entries.len())), Some(("c/values.yaml", 1)));
        assert_eq!(found.regions, ["eu-west-1"]);
    }

    #[test]
    fn manifests_values_and_pipeline_files_are_told_apart() {
        let found = folder(&[
            ("gateway.yaml", "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: gateway}\n"),
            ("app1-prod.yaml", "replicas: 2\n"),
            ("meshstep.yaml", "version: 1\nname: x\ncluster: {context: y}\n"),
            ("broken.yaml", "a: [\n"),
            ("list.yaml", "- a\n"),
        ]);
        assert_eq!(found.manifests.iter().map(|m| m.path.as_str()).collect::<Vec<_>>(), ["gateway.yaml"]);
        assert_eq!(found.values.iter().map(|v| v.stem.as_str()).collect::<Vec<_>>(), ["app1-prod"]);
    }

    #[test]
    fn a_folder_that_is_not_there_is_told() {
        assert_eq!(read(Path::new("no/such/folder")).expect_err("not there").code, Code::FileUnreadable);
    }
}
