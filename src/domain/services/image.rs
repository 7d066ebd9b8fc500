//! Image references, and whether what runs is what was asked for.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::text;
use crate::domain::services::rollout::seen::Pod;

/// A reference in full: `nginx` is `docker.io/library/nginx:latest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Registry and path, normalised.
    pub repository: String,
    pub tag: Option<String>,
    pub digest: Option<String>,
}

impl Reference {
    /// `None`: it is no image reference.
    pub fn parse(image: &str) -> Option<Self> {
        let (name, digest) = match image.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (image, None),
        };
        if digest.is_some_and(|d| !d.contains(':') || d.chars().any(char::is_whitespace)) {
            return None;
        }
        // A colon before the last slash is a registry's port.
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (name, None),
        };
        let valid = |c: char| c.is_ascii_alphanumeric() || "._-/:".contains(c);
        if name.is_empty() || !name.chars().all(valid) || tag.is_some_and(|t| t.is_empty() || t.contains(':') || !t.chars().all(valid)) {
            return None;
        }
        let (registry, path) = match name.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest.to_owned()),
            _ => ("docker.io", name.to_owned()),
        };
        if path.contains(':') {
            return None;
        }
        let registry = if registry == "index.docker.io" || registry == "registry-1.docker.io" { "docker.io" } else { registry };
        let path = if registry == "docker.io" && !path.contains('/') { format!("library/{path}") } else { path };
        let tag = tag.or(if digest.is_none() { Some("latest") } else { None });
        Some(Self { repository: format!("{registry}/{path}"), tag: tag.map(str::to_owned), digest: digest.map(str::to_owned) })
    }

    /// Do both name the same image? A digest outranks a tag beside it.
    pub fn same_image(&self, other: &Self) -> bool {
        self.repository == other.repository
            && match (&self.digest, &other.digest) {
                (Some(a), Some(b)) => a == b,
                (None, None) => self.tag == other.tag,
                _ => false,
            }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

/// The digest of what a runtime says it runs: `registry.example/app@sha256:…`. A bare `sha256:…` is a local id, no digest of the registry.
pub fn running_digest(image_id: &str) -> Option<&str> {
    image_id.rsplit_once('@').map(|(_, digest)| digest).filter(|digest| digest.starts_with("sha256:"))
}

/// What the proof of an image is drawn from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub asked: String,
    /// The containers of all pods.
    pub containers: Vec<Container>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    pub name: String,
    pub image: String,
    pub image_id: String,
}

/// What the running containers prove.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "proof")]
pub enum Proof {
    /// In so many containers, with the digests that run.
    Runs { containers: usize, digests: Vec<String>, warnings: Vec<String> },
    /// In words: which container runs what instead.
    Differs { words: String },
    /// Nothing runs that could prove it.
    Nothing,
}

impl Proof {
    pub fn words(&self) -> String {
        match self {
            Proof::Runs { containers, .. } => format!("it runs in {}", text::count(*containers, "container")),
            Proof::Differs { words } => format!("not what was asked for: {words}"),
            Proof::Nothing => "nothing runs".to_owned(),
        }
    }
}

impl Seen {
    pub fn of(asked: &str, pods: &[&Pod]) -> Self {
        let containers = pods.iter().flat_map(|pod| &pod.containers);
        let own = containers.map(|c| Container { name: c.name.clone(), image: c.image.clone(), image_id: c.image_id.clone() });
        Self { asked: asked.to_owned(), containers: own.collect() }
    }

    /// Do they run what was asked for? Containers of other repositories are none of its business.
    pub fn judge(&self) -> Proof {
        let Some(wanted) = Reference::parse(&self.asked) else {
            return Proof::Differs { words: format!("{} is not a valid image reference", self.asked) };
        };
        let mut digests = BTreeSet::new();
        let (mut matching, mut others, mut differing) = (0, BTreeSet::new(), BTreeSet::new());
        for container in &self.containers {
            let Some(runs) = Reference::parse(&container.image) else { continue };
            if runs.same_image(&wanted) {
                matching += 1;
                digests.extend(running_digest(&container.image_id).map(str::to_owned));
            } else if runs.repository == wanted.repository {
                differing.insert(format!("container {} runs {}", container.name, container.image));
            } else {
                others.insert(format!("container {} runs {}", container.name, container.image));
            }
        }
        let words = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>().join(", ");
        if self.containers.is_empty() {
            return Proof::Nothing;
        }
        if matching == 0 {
            return Proof::Differs { words: words(if differing.is_empty() { others } else { differing }) };
        }
        let mut warnings = Vec::new();
        if !differing.is_empty() {
            warnings.push(format!("not the image of this run: {}", words(differing)));
        }
        if digests.len() > 1 {
            warnings.push(format!("the tag means different images on different nodes: {}", words(digests.clone())));
        }
        Proof::Runs { containers: matching, digests: digests.into_iter().collect(), warnings }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_normalised() {
        for (image, full) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("grafana/loki:3", "docker.io/grafana/loki:3"),
            ("index.docker.io/library/nginx", "docker.io/library/nginx:latest"),
            ("localhost/app:1", "localhost/app:1"),
            ("localhost:5000/app", "localhost:5000/app:latest"),
            ("registry.example/app1:1.4.2", "registry.example/app1:1.4.2"),
            ("registry.example:8443/team/app1@sha256:abc", "registry.example:8443/team/app1@sha256:abc"),
            ("registry.example/app1:1@sha256:abc", "registry.example/app1:1@sha256:abc"),
        ] {
            assert_eq!(Reference::parse(image).map(|r| r.to_string()).as_deref(), Some(full), "{image}");
        }
        for image in ["", ":1", "registry.example/app:", "registry.example/app@abc", "app 1", "a:b:c"] {
            assert_eq!(Reference::parse(image), None, "{image}");
        }
    }

    #[test]
    fn a_digest_outranks_the_tag_beside_it() {
        for (a, b, same) in [
            ("app:1", "docker.io/library/app:1", true),
            ("app", "app:latest", true),
            ("app:1", "app:2", false),
            ("app:1@sha256:a", "app@sha256:a", true),
            ("app:1@sha256:a", "app:1@sha256:b", false),
            ("app:1", "app:1@sha256:a", false),
            ("a.example/app:1", "b.example/app:1", false),
        ] {
            let (a_, b_) = (Reference::parse(a).expect(a), Reference::parse(b).expect(b));
            assert_eq!(a_.same_image(&b_), same, "{a} {b}");
        }
    }

    fn proof(asked: &str, pods: &[&Pod]) -> Proof {
        Seen::of(asked, pods).judge()
    }

    fn pod(images: &[(&str, &str)]) -> Pod {
        let containers: Vec<serde_json::Value> = images
            .iter()
            .enumerate()
            .map(|(i, (image, id))| serde_json::json!({"name": format!("c{i}"), "role": "app", "image": image, "image_id": id, "state": {"is": "unknown"}}))
            .collect();
        serde_json::from_value(serde_json::json!({"uid": "u", "name": "p", "newest": true, "phase": "Running", "containers": containers}))
            .expect("a pod")
    }

    #[test]
    fn what_runs_is_proven_or_told() {
        let same = "registry.example/app1:1";
        let mixed = [pod(&[(same, "registry.example/app1@sha256:a"), ("istio/proxyv2:1", "")]), pod(&[(same, "registry.example/app1@sha256:b")])];
        let pods: Vec<&Pod> = mixed.iter().collect();
        let Proof::Runs { containers, digests, warnings } = proof(same, &pods) else { panic!("it runs") };
        assert_eq!((containers, digests.len(), warnings.len()), (2, 2, 1));
        assert_eq!(proof("registry.example/app1:2", &pods), Proof::Differs { words: "container c0 runs registry.example/app1:1".into() });
        assert!(matches!(proof("registry.example/other:2", &pods), Proof::Differs { words } if words.contains("istio/proxyv2")));
        assert_eq!(proof(same, &[]), Proof::Nothing);
        // A migration of another version beside it is told only.
        let two = pod(&[(same, ""), ("registry.example/app1:migrate-1", "")]);
        assert!(matches!(proof(same, &[&two]), Proof::Runs { warnings, .. } if warnings.len() == 1));
    }
}
