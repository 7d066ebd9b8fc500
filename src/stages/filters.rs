//! `--service`, `--namespace`, `--host`: what they choose, which stages they do not narrow, and names that the file does not have.

use std::path::Path;

use crate::base::codes::Code;
use crate::base::fault::Fault;
use crate::base::text;
use crate::domain::routes::{self, Entry};
use crate::stages::Pipeline;

/// Narrows a run to some services, namespaces or hosts; empty means all.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    pub services: Vec<String>,
    pub namespaces: Vec<String>,
    pub hosts: Vec<String>,
}

/// What does not narrow a stage, because the stage is for all of them at once.
const UNTOUCHED: [(&str, &[&str]); 8] = [
    ("connect", &["--service", "--namespace", "--host"]),
    ("mesh", &["--service", "--host"]),
    ("deploy", &["--host"]),
    ("routes", &[]),
    ("releases", &["--service", "--namespace", "--host"]),
    ("ingress", &[]),
    ("verify", &[]),
    ("redeploy", &[]),
];

impl Filters {
    pub fn service(&self, name: &str) -> bool {
        self.services.is_empty() || self.services.iter().any(|s| s == name)
    }

    pub fn namespace(&self, name: &str) -> bool {
        self.namespaces.is_empty() || self.namespaces.iter().any(|n| n == name)
    }

    pub fn host(&self, host: &str) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|h| h.eq_ignore_ascii_case(host))
    }

    /// Does an entry of the routes have anything to do with what is chosen? It is written as a whole: part of a VirtualService is none.
    pub fn entry(&self, entry: &Entry) -> bool {
        let chosen = || {
            let mut namespaces = entry.namespaces.iter().filter(|namespace| self.namespace(&namespace.name));
            namespaces.any(|namespace| self.hosts.is_empty() || namespace.hosts.iter().any(|host| self.host(host)))
        };
        self.service(&entry.name) && (self.namespaces.is_empty() && self.hosts.is_empty() || chosen())
    }

    fn used(&self) -> [(&'static str, &'static str, &[String]); 3] {
        [("--service", "service", &self.services), ("--namespace", "namespace", &self.namespaces), ("--host", "host", &self.hosts)]
    }

    /// What to tell of filters that do not narrow some of these stages.
    pub fn untouched(&self, stages: &[&str]) -> Vec<String> {
        let mut notes = Vec::new();
        for (flag, noun, _) in self.used().into_iter().filter(|(_, _, given)| !given.is_empty()) {
            let whole: Vec<&str> =
                UNTOUCHED.iter().filter(|(stage, flags)| flags.contains(&flag) && stages.contains(stage)).map(|(stage, _)| *stage).collect();
            if !whole.is_empty() {
                notes.push(format!("{flag} does not narrow {}: they are for every {noun}", whole.join(", ")));
            }
        }
        notes
    }

    /// The first name that the file does not have. `dir`: where the pipeline file's paths begin.
    pub fn unknown(&self, pipeline: &Pipeline, dir: &Path) -> Option<Fault> {
        if self.used().iter().all(|(_, _, given)| given.is_empty()) {
            return None;
        }
        let known = Known::of(pipeline, dir);
        for (flag, noun, given) in self.used() {
            let names = match noun {
                "service" => &known.services,
                "namespace" => &known.namespaces,
                _ => &known.hosts,
            };
            let is = |a: &str, b: &str| if noun == "host" { a.eq_ignore_ascii_case(b) } else { a == b };
            // What stands in a values file that cannot be read is its stage's to say.
            let missing = given.iter().find(|name| known.whole && !names.iter().any(|known| is(known, name)));
            if let Some(name) = missing {
                return Some(unknown(flag, noun, name, names));
            }
        }
        None
    }
}

fn unknown(flag: &str, noun: &str, name: &str, names: &[String]) -> Fault {
    let near = text::nearest(name, names.iter().map(String::as_str));
    let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    let fault = Fault::new(Code::UnknownName, format!("{flag} {name}: the file has no such {noun}{hint}"));
    let fault = fault.evidence(format!("its {noun}s"), names.join("\n"));
    if names.is_empty() { fault.next(format!("leave {flag} out: the file has no {noun} at all")) } else { fault }
}

/// The names of the file and of the values file that it names.
struct Known {
    services: Vec<String>,
    namespaces: Vec<String>,
    hosts: Vec<String>,
    /// `false`: the values file could not be read.
    whole: bool,
}

impl Known {
    fn of(pipeline: &Pipeline, dir: &Path) -> Self {
        let mut known = Self { services: Vec::new(), namespaces: Vec::new(), hosts: Vec::new(), whole: true };
        for service in &pipeline.services {
            add(&mut known.services, &service.name);
            service.namespaces.iter().for_each(|namespace| add(&mut known.namespaces, namespace.name()));
        }
        pipeline.mesh.iter().flat_map(|mesh| &mesh.inject).for_each(|namespace| add(&mut known.namespaces, namespace.name()));
        pipeline.verify.iter().flat_map(|verify| &verify.checks).for_each(|check| add(&mut known.hosts, &check.host));
        if let Some(wanted) = &pipeline.routes {
            wanted.upsert.iter().for_each(|entry| known.entry(entry));
            let path = dir.join(&wanted.values);
            let listed = std::fs::read_to_string(&path).ok().and_then(|text| routes::list(&text, &wanted.values, wanted.list_key.as_deref()).ok());
            known.whole = listed.is_some();
            listed.iter().flatten().for_each(|listed| known.entry(&listed.entry));
        }
        known
    }

    fn entry(&mut self, entry: &Entry) {
        add(&mut self.services, &entry.name);
        for namespace in &entry.namespaces {
            add(&mut self.namespaces, &namespace.name);
            namespace.hosts.iter().for_each(|host| add(&mut self.hosts, host));
        }
    }
}

fn add(names: &mut Vec<String>, name: &str) {
    if !names.iter().any(|known| known == name) {
        names.push(name.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pipeline() -> Pipeline {
        serde_json::from_value(json!({
            "version": 1, "name": "shop", "cluster": {"context": "c"},
            "mesh": {"inject": ["default"]},
            "services": [{"name": "app1-service", "chart": "c", "namespaces": ["pre-prod", "prod"]}],
            "verify": {"checks": [{"host": "app1.public.domain"}]},
        }))
        .expect("a pipeline")
    }

    fn filters(service: &str, namespace: &str, host: &str) -> Filters {
        let own = |name: &str| if name.is_empty() { Vec::new() } else { vec![name.to_owned()] };
        Filters { services: own(service), namespaces: own(namespace), hosts: own(host) }
    }

    #[test]
    fn a_name_that_the_file_does_not_have_is_told_with_the_nearest_one() {
        for (service, namespace, host, said) in [
            ("", "", "", ""),
            ("app1-service", "prod", "App1.public.domain", ""),
            ("", "default", "", ""),
            ("app1-servce", "", "", "--service app1-servce: the file has no such service; did you mean `app1-service`?"),
            ("", "prd", "", "did you mean `prod`?"),
            ("", "", "app2.public.domain", "did you mean `app1.public.domain`?"),
            ("", "", "kangaroo", "the file has no such host"),
        ] {
            let fault = filters(service, namespace, host).unknown(&pipeline(), Path::new("."));
            assert_eq!(fault.is_none(), said.is_empty(), "{fault:?}");
            assert!(fault.is_none_or(|fault| fault.message.contains(said) && fault.code == Code::UnknownName), "{said}");
        }
    }

    #[test]
    fn a_values_file_that_cannot_be_read_hides_no_name() {
        let mut pipeline = pipeline();
        pipeline.routes = serde_json::from_value(json!({"values": "no-such-file.yaml"})).expect("routes");
        assert!(filters("kangaroo", "", "").unknown(&pipeline, Path::new(".")).is_none());
    }

    #[test]
    fn stages_that_a_filter_does_not_narrow_are_named() {
        assert_eq!(filters("a", "", "").untouched(&["deploy", "verify"]), [""; 0]);
        assert_eq!(
            filters("a", "", "").untouched(&["mesh", "deploy", "releases"]),
            ["--service does not narrow mesh, releases: they are for every service"]
        );
        assert_eq!(filters("", "p", "h").untouched(&["deploy", "mesh"]), ["--host does not narrow mesh, deploy: they are for every host"]);
    }

    #[test]
    fn an_entry_is_chosen_by_service_namespace_and_host() {
        let entry: Entry = serde_json::from_value(json!({
            "virtualName": "v", "name": "app1-service", "port": 80,
            "namespaces": [{"name": "prod", "hosts": ["a.example"]}, {"name": "pre-prod", "hosts": ["b.example"]}],
        }))
        .expect("an entry");
        for (service, namespace, host, chosen) in [
            ("", "", "", true),
            ("app1-service", "prod", "a.example", true),
            ("app2-service", "", "", false),
            ("", "default", "", false),
            ("", "", "A.example", true),
            ("", "prod", "b.example", false),
        ] {
            assert_eq!(filters(service, namespace, host).entry(&entry), chosen, "{service} {namespace} {host}");
        }
    }
}
