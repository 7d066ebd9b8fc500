//! What `istioctl version -o json` says, of itself and of the mesh.

use serde::Deserialize;

/// Versions as istioctl reports them. It exits 0 even when the mesh is absent or cannot be reached: only what is there counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    /// `None`: an unstamped build.
    pub client: Option<String>,
    /// Revision and version of each control plane that answered.
    pub mesh: Vec<(String, String)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    client_version: Option<Info>,
    #[serde(default)]
    mesh_version: Option<Vec<Component>>,
}

#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    version: String,
}

// These keys are capitalised in istioctl's output.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Component {
    #[serde(default)]
    revision: String,
    info: Info,
}

/// Reads the output; log lines before and after the object are left out.
pub fn parse(stdout: &str) -> Result<Versions, String> {
    let start = stdout.find("{\n").or_else(|| stdout.find('{')).ok_or("there is no JSON in it")?;
    let mut objects = serde_json::Deserializer::from_str(&stdout[start..]).into_iter::<Raw>();
    let raw = objects.next().ok_or("there is no JSON in it")?.map_err(|e| e.to_string())?;
    let known = |version: String| (!version.is_empty() && version != "unknown").then_some(version);
    let mesh = raw.mesh_version.into_iter().flatten().map(|c| (revision(&c.revision), c.info.version)).collect();
    Ok(Versions { client: raw.client_version.and_then(|info| known(info.version)), mesh })
}

fn revision(name: &str) -> String {
    if name.is_empty() { "default".to_owned() } else { name.to_owned() }
}

/// The version in an image's tag: `docker.io/istio/pilot:1.31.0-distroless` is `1.31.0`.
pub fn of_image(image: &str) -> Option<String> {
    let name = image.split('@').next().unwrap_or_default();
    let tag = name.rsplit_once(':').map(|(_, tag)| tag).filter(|tag| !tag.contains('/'))?;
    let version = tag.trim_end_matches("-distroless").trim_end_matches("-debug");
    version.starts_with(|c: char| c.is_ascii_digit()).then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn istioctls_words() {
        let with_mesh = r#"{
  "clientVersion": {"version": "1.31.0", "revision": "abc", "golang_version": "go1.26.8", "status": "Clean", "tag": "1.31.0"},
  "meshVersion": [{"Component": "pilot", "Revision": "default", "Info": {"version": "1.30.4", "revision": "x"}}],
  "dataPlaneVersion": [{"ID": "a.b", "IstioVersion": "1.30.4", "Type": "gateway"}]
}"#;
        let found = parse(with_mesh).expect("versions");
        assert_eq!((found.client.as_deref(), found.mesh), (Some("1.31.0"), vec![("default".to_owned(), "1.30.4".to_owned())]));
        let unreachable = "2026-11-23T01:18:22.360072Z\terror\tport forward failed: {x}\n{\n  \"clientVersion\": {\"version\": \"unknown\"}\n}\n";
        assert_eq!(parse(unreachable), Ok(Versions::default()));
        assert!(parse("Error: unknown command").is_err());
    }

    #[test]
    fn the_version_in_an_image() {
        for (image, version) in [
            ("docker.io/istio/pilot:1.31.0", Some("1.31.0")),
            ("registry.example:5000/istio/pilot:1.31.0-distroless@sha256:a", Some("1.31.0")),
            ("registry.example:5000/istio/pilot", None),
            ("istio/pilot:latest", None),
        ] {
            assert_eq!(of_image(image).as_deref(), version, "{image}");
        }
    }
}
