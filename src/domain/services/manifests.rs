//! Manifests of a service: read with their places, put in order, and given the image.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::place::Place;
use crate::base::text;
use crate::domain::services::image::Reference;

/// One object, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    pub place: Place,
    pub value: Value,
    /// The document it stands in, from the line `first` on; empty when it was rendered.
    text: String,
    first: u32,
}

impl Manifest {
    pub fn api_version(&self) -> &str {
        self.text("/apiVersion")
    }

    pub fn kind(&self) -> &str {
        self.text("/kind")
    }

    pub fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// Empty: it says none.
    pub fn namespace(&self) -> &str {
        self.text("/metadata/namespace")
    }

    fn text(&self, pointer: &str) -> &str {
        self.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// `Deployment app1`
    pub fn title(&self) -> String {
        format!("{} {}", self.kind(), self.name())
    }

    /// The place of the first line of its document with this word, else its own.
    pub fn place_of(&self, word: &str) -> Place {
        let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let holds = |line: &str| line.split(|c: char| !part(c)).any(|token| token == word);
        match self.text.lines().position(|line| !line.trim_start().starts_with('#') && holds(line)) {
            Some(index) => Place::new(&self.place.file, self.first + u32::try_from(index).unwrap_or(0), 0),
            None => self.place.clone(),
        }
    }

    /// The pod spec inside a workload, or of a bare pod.
    pub fn pod_spec(&self) -> Option<&Value> {
        self.value.pointer(self.pod_spec_pointer()?)
    }

    fn pod_spec_mut(&mut self) -> Option<&mut Value> {
        self.value.pointer_mut(self.pod_spec_pointer()?)
    }

    fn pod_spec_pointer(&self) -> Option<&'static str> {
        Some(match self.kind() {
            "Pod" => "/spec",
            "CronJob" => "/spec/jobTemplate/spec/template/spec",
            "Deployment" | "StatefulSet" | "DaemonSet" | "Job" | "ReplicaSet" => "/spec/template/spec",
            _ => return None,
        })
    }
}

/// Reads a file, or all `.yaml`, `.yml` and `.json` files of a folder by name, in the order in which they must be applied.
/// `shown` is the path as the pipeline file writes it.
///
/// # Errors
/// `file_unreadable`, or `file_invalid` with the place.
pub fn load(path: &Path, shown: &str) -> Result<Vec<Manifest>> {
    let mut all = Vec::new();
    for (file, shown) in files(path, shown)? {
        let text = std::fs::read_to_string(&file).map_err(|e| unreadable(&shown, &e))?;
        all.extend(parse(&shown, &text)?);
    }
    if all.is_empty() {
        return Err(Fault::new(Code::FileInvalid, format!("{shown} holds no manifest")).next("put at least one object into it"));
    }
    order(&mut all);
    Ok(all)
}

fn files(path: &Path, shown: &str) -> Result<Vec<(PathBuf, String)>> {
    if !path.is_dir() {
        return Ok(vec![(path.to_owned(), shown.to_owned())]);
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(|e| unreadable(shown, &e))? {
        let name = entry.map_err(|e| unreadable(shown, &e))?.file_name().to_string_lossy().into_owned();
        if name.starts_with("kustomization.") {
            return Err(Fault::new(Code::FileInvalid, format!("{shown} is a kustomization, which is not rendered here"))
                .next(format!("render it first: `kubectl kustomize {shown} > manifests.yaml`")));
        }
        let is_manifest = [".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end));
        if is_manifest && !name.starts_with('.') && path.join(&name).is_file() {
            names.push(name);
        }
    }
    names.sort();
    let shown = shown.trim_end_matches('/');
    Ok(names.into_iter().map(|name| (path.join(&name), format!("{shown}/{name}"))).collect())
}

fn unreadable(shown: &str, error: &std::io::Error) -> Fault {
    Fault::new(Code::FileUnreadable, format!("cannot read {shown}: {error}"))
}

/// The objects of one file: documents of YAML or one of JSON; the items of a `List` each for itself.
pub fn parse(file: &str, text: &str) -> Result<Vec<Manifest>> {
    let mut found = Vec::new();
    for (line, document) in documents(text) {
        let value: Value = serde_saphyr::from_str(&document).map_err(|error| {
            let at = error.location().map_or((line, 0), |l| (line - 1 + number(l.line()), number(l.column())));
            let words = error.without_snippet().to_string();
            Fault::new(Code::FileInvalid, format!("{file} is no valid YAML: {}", text::head(&text::one_line(&words), 200)))
                .at(Some(&Place::new(file, at.0, at.1)))
        })?;
        let manifest = Manifest { place: Place::new(file, first_line(line, &document), 0), value, text: document, first: line };
        add(&mut found, manifest)?;
    }
    Ok(found)
}

fn number(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(0)
}

/// The documents with the line each begins at, counted from 1.
fn documents(text: &str) -> Vec<(u32, String)> {
    let mut documents = vec![(1, String::new())];
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let next = u32::try_from(index).unwrap_or(0) + 1;
        if line == "---" || line.starts_with("--- ") || line.starts_with("---\t") || line.trim_end() == "---" {
            let rest = line.get(4..).unwrap_or_default();
            // A document may begin on the line of its marker; what is only a comment says nothing.
            let rest = if rest.trim_start().starts_with('#') { "" } else { rest };
            documents.push((next, format!("{rest}\n")));
        } else if let Some((_, document)) = documents.last_mut() {
            document.push_str(line);
            document.push('\n');
        }
    }
    let says = |document: &str| document.lines().any(|l| !l.trim().is_empty() && !l.trim_start().starts_with(['#', '%']) && l.trim() != "...");
    documents.retain(|(_, document)| says(document));
    documents
}

fn first_line(start: u32, document: &str) -> u32 {
    let skipped = document.lines().take_while(|l| l.trim().is_empty() || l.trim_start().starts_with('#')).count();
    start + u32::try_from(skipped).unwrap_or(0)
}

/// The objects of a chart as helm rendered it: the place of each is its template. What is no object is left out: helm has had its say.
pub fn rendered(manifest: &str, chart: &str) -> Vec<Manifest> {
    let mut found = Vec::new();
    for (_, document) in documents(manifest) {
        let source = document.lines().find_map(|line| line.strip_prefix("# Source: "));
        // Helm begins the path with the chart's name.
        let within = source.and_then(|source| source.split_once('/')).map_or("", |(_, rest)| rest);
        let file = if within.is_empty() { chart.to_owned() } else { format!("{}/{within}", chart.trim_end_matches('/')) };
        let Ok(value) = serde_saphyr::from_str::<Value>(&document) else { continue };
        let line = value.get("kind").and_then(Value::as_str).map_or(0, |kind| line_of(Path::new(&file), kind));
        _ = add(&mut found, Manifest { place: Place::new(file, line, 0), value, text: String::new(), first: 0 });
    }
    found
}

/// The line of a template on which an object of this kind begins; 0 where that is not the only one, or the chart is not here.
fn line_of(template: &Path, kind: &str) -> u32 {
    let text = std::fs::read_to_string(template).unwrap_or_default();
    let is_kind = |line: &str| line.strip_prefix("kind:").is_some_and(|found| found.trim() == kind);
    let lines: Vec<usize> = text.lines().enumerate().filter(|(_, line)| is_kind(line)).map(|(at, _)| at + 1).collect();
    if let [only] = lines[..] { u32::try_from(only).unwrap_or(0) } else { 0 }
}

fn add(found: &mut Vec<Manifest>, manifest: Manifest) -> Result<()> {
    if manifest.value.is_null() {
        return Ok(());
    }
    if let (true, Some(Value::Array(items))) = (manifest.kind().ends_with("List"), manifest.value.get("items")) {
        return items.iter().try_for_each(|item| add(found, Manifest { value: item.clone(), ..manifest.clone() }));
    }
    let needed = [("apiVersion", "/apiVersion"), ("kind", "/kind"), ("metadata.name", "/metadata/name")];
    if let Some((key, pointer)) = needed.iter().find(|(_, pointer)| manifest.text(pointer).is_empty()) {
        let what = if manifest.kind().is_empty() { "this document" } else { manifest.kind() };
        let words = match manifest.value.pointer(pointer) {
            Some(value) if value.is_boolean() || value.is_number() => format!("`{key}` of {what} is read as {value}, not as a text: quote it"),
            _ => format!("{what} has no `{key}`, so it is no Kubernetes object"),
        };
        return Err(Fault::new(Code::FileInvalid, words).at(Some(&manifest.place)));
    }
    found.push(manifest);
    Ok(())
}

/// What others need comes first: namespaces, types, accounts and rights, configuration, Services, workloads, and the rest.
/// Within a group the files' own order stays.
pub fn order(manifests: &mut [Manifest]) {
    manifests.sort_by_key(|m| rank(m.kind()));
}

fn rank(kind: &str) -> usize {
    const GROUPS: [&[&str]; 6] = [
        &["Namespace"],
        &["CustomResourceDefinition"],
        &[
            "ServiceAccount",
            "Secret",
            "ConfigMap",
            "StorageClass",
            "PersistentVolume",
            "PersistentVolumeClaim",
            "ResourceQuota",
            "LimitRange",
            "PriorityClass",
        ],
        &["ClusterRole", "Role", "ClusterRoleBinding", "RoleBinding"],
        &["Service"],
        &["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob", "Pod"],
    ];
    GROUPS.iter().position(|group| group.contains(&kind)).unwrap_or(GROUPS.len())
}

/// A manifest that says another namespace than the one it is applied to is a mistake.
pub fn check_namespace(manifests: &[Manifest], namespace: &str) -> Result<()> {
    let stray = manifests.iter().find(|m| !m.namespace().is_empty() && m.namespace() != namespace && m.kind() != "Namespace");
    stray.map_or(Ok(()), |m| {
        let words = format!("{} is for namespace {}, but the service is deployed to {namespace}", m.title(), m.namespace());
        Err(Fault::new(Code::FileInvalid, words)
            .at(Some(&m.place))
            .next(format!("leave `metadata.namespace` out, or write `namespaces: [{}]` for the service", m.namespace())))
    })
}

/// Gives `image` to every container of its repository.
///
/// # Errors
/// `file_invalid` when no container has that repository, or when some have it with different tags, so that it is not clear which is meant.
pub fn fill_image(manifests: &mut [Manifest], image: &str) -> Result<usize> {
    let wanted = Reference::parse(image).ok_or_else(|| Fault::new(Code::FileInvalid, format!("{image} is not a valid image reference")))?;
    let mut filled: Vec<(Reference, Place)> = Vec::new();
    let mut others: Vec<(String, Place)> = Vec::new();
    for manifest in manifests.iter_mut() {
        let place = manifest.place.clone();
        let Some(spec) = manifest.pod_spec_mut() else { continue };
        for list in ["initContainers", "containers"] {
            for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                let Some(Value::String(said)) = container.get_mut("image") else { continue };
                match Reference::parse(said) {
                    Some(reference) if reference.repository == wanted.repository => {
                        filled.push((reference, place.clone()));
                        image.clone_into(said);
                    }
                    _ => others.push((said.clone(), place.clone())),
                }
            }
        }
    }
    let first = filled.first();
    if let Some((other, place)) = filled.iter().find(|(reference, _)| first.is_some_and(|(f, _)| f != reference)) {
        let one = first.map_or_else(String::new, |(f, _)| f.to_string());
        return Err(Fault::new(Code::FileInvalid, format!("containers use {one} and {other}: it is not clear which of them {image} is for"))
            .at(Some(place))
            .next("give both the same tag in the manifests, or leave out the service's `image`"));
    }
    if filled.is_empty() {
        let images: Vec<&str> = others.iter().map(|(said, _)| said.as_str()).collect();
        let seen = if images.is_empty() { "there is no container".to_owned() } else { format!("their images are {}", images.join(", ")) };
        return Err(Fault::new(Code::FileInvalid, format!("no container of the manifests uses {}: {seen}", wanted.repository))
            .at(others.first().map(|(_, place)| place))
            .next("name that repository as a container's `image` in the manifests (its tag is filled in), or correct the service's `image`"));
    }
    Ok(filled.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: &str = "# the app
apiVersion: apps/v1
kind: Deployment
metadata: {name: app1}
spec:
  template:
    spec:
      initContainers: [{name: migrate, image: 'registry.example/app1:x'}]
      containers:
        - {name: app, image: registry.example/app1:x}
        - {name: log, image: fluent/fluent-bit:3}
";

    fn app() -> Vec<Manifest> {
        parse("k8s/app.yaml", APP).expect("valid")
    }

    #[test]
    fn documents_keep_their_places() {
        let text = "---\napiVersion: v1\nkind: Service\nmetadata: {name: a}\n---\n\n# only a comment\n---\n# c\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret, metadata: {name: s}}\n- {apiVersion: v1, kind: Namespace, metadata: {name: shop}}\n";
        let mut found = parse("a.yaml", text).expect("valid");
        order(&mut found);
        let seen: Vec<String> = found.iter().map(|m| format!("{} {}", m.title(), m.place)).collect();
        assert_eq!(seen, ["Namespace shop a.yaml:10", "Secret s a.yaml:10", "Service a a.yaml:2"]);
        assert_eq!(parse("a.json", r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}}"#).expect("valid").len(), 1);
    }

    #[test]
    fn what_is_no_manifest_is_told_with_its_place() {
        for (text, line, words) in [
            ("apiVersion: v1\nkind: Service\n", 1, "has no `metadata.name`"),
            ("kind: Service\nmetadata: {name: a}\n", 1, "has no `apiVersion`"),
            ("apiVersion: v1\nkind: A\nmetadata: {name: a}\n---\nkey: [1\nother: 2\n", 6, "no valid YAML"),
            ("apiVersion: v1\nkind: Service\nmetadata: {name: on}\n", 1, "quote it"),
            ("just text", 1, "has no `apiVersion`"),
        ] {
            let fault = parse("a.yaml", text).expect_err(text);
            assert_eq!(fault.place.as_ref().map(|p| p.line), Some(line), "{text}: {fault}");
            assert!(fault.message.contains(words), "{fault}");
        }
    }

    #[test]
    fn the_image_goes_to_the_containers_of_its_repository() {
        let mut manifests = app();
        assert_eq!(fill_image(&mut manifests, "registry.example/app1:1.4.2"), Ok(2));
        let images: Vec<&str> = ["initContainers/0", "containers/0", "containers/1"]
            .iter()
            .filter_map(|at| manifests[0].value.pointer(&format!("/spec/template/spec/{at}/image"))?.as_str())
            .collect();
        assert_eq!(images, ["registry.example/app1:1.4.2", "registry.example/app1:1.4.2", "fluent/fluent-bit:3"]);
    }

    #[test]
    fn no_container_or_an_unclear_one_is_told() {
        let fault = fill_image(&mut app(), "registry.example/app2:1").expect_err("none");
        assert!(fault.message.contains("no container of the manifests uses registry.example/app2"), "{fault}");
        assert_eq!(fault.place.map(|p| p.to_string()).as_deref(), Some("k8s/app.yaml:2"));
        let unclear = APP.replacen("app1:x", "app1:y", 1);
        let mut manifests = parse("k8s/app.yaml", &unclear).expect("valid");
        let fault = fill_image(&mut manifests, "registry.example/app1:1").expect_err("unclear");
        assert!(fault.message.contains("not clear which"), "{fault}");
    }

    #[test]
    fn a_word_is_found_on_its_line() {
        let text = format!("{APP}---\n{}", APP.replace("app1", "app2"));
        let manifests = parse("k8s/app.yaml", &text).expect("valid");
        let place = |n: usize, word: &str| manifests[n].place_of(word).to_string();
        assert_eq!((place(0, "initContainers"), place(0, "nosuch")), ("k8s/app.yaml:8".to_owned(), "k8s/app.yaml:2".to_owned()));
        assert_eq!((place(1, "app2"), place(1, "log")), ("k8s/app.yaml:16".to_owned(), "k8s/app.yaml:23".to_owned()));
    }

    #[test]
    fn a_rendered_object_has_the_place_of_its_template() {
        let text = "---\n# Source: service/templates/sa.yaml\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: a}\n---\n# Source: service/templates/none.yaml\n";
        let found = rendered(text, "charts/service");
        assert_eq!(
            found.iter().map(|m| format!("{} {}", m.title(), m.place)).collect::<Vec<_>>(),
            ["ServiceAccount a charts/service/templates/sa.yaml"]
        );
    }

    #[test]
    fn a_rendered_object_is_found_on_its_line_where_that_is_plain() {
        let chart = tempfile::tempdir().expect("folder");
        std::fs::create_dir(chart.path().join("templates")).expect("made");
        let two = "kind: Job\n---\nkind: Job\n";
        for (file, template) in [("a.yaml", "# an app\r\napiVersion: v1\r\nkind: Pod\r\n"), ("b.yaml", two), ("c.yaml", "kind: {{ .Values.kind }}\n")]
        {
            std::fs::write(chart.path().join("templates").join(file), template).expect("written");
        }
        let lines = |file: &str, kind: &str| {
            let text = format!("# Source: x/templates/{file}\napiVersion: v1\nkind: {kind}\nmetadata: {{name: a}}\n");
            rendered(&text, &chart.path().display().to_string()).iter().map(|m| m.place.line).collect::<Vec<_>>()
        };
        assert_eq!([lines("a.yaml", "Pod"), lines("b.yaml", "Job"), lines("c.yaml", "Pod"), lines("none.yaml", "Pod")], [[3], [0], [0], [0]]);
    }

    #[test]
    fn another_namespace_is_a_mistake() {
        let text = "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: shop}\n";
        let manifests = parse("a.yaml", text).expect("valid");
        assert_eq!(check_namespace(&manifests, "shop"), Ok(()));
        assert!(check_namespace(&manifests, "prod").is_err());
    }

    #[test]
    fn a_folder_is_read_by_name_and_a_kustomization_is_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let write = |name: &str, kind: &str| {
            let text = format!("apiVersion: v1\nkind: {kind}\nmetadata: {{name: {kind}}}\n");
            std::fs::write(folder.path().join(name), text).expect("written");
        };
        write("b.yaml", "Deployment");
        write("a.yml", "Service");
        write("notes.txt", "Nothing");
        let found = load(folder.path(), "k8s/").expect("valid");
        assert_eq!(found.iter().map(|m| m.place.to_string()).collect::<Vec<_>>(), ["k8s/a.yml:1", "k8s/b.yaml:1"]);
        write("kustomization.yaml", "Kustomization");
        assert_eq!(load(folder.path(), "k8s").expect_err("refused").code, Code::FileInvalid);
        assert_eq!(load(&folder.path().join("missing"), "missing").expect_err("missing").code, Code::FileUnreadable);
    }
}
