//! What helm prints as JSON, 3 and 4 alike.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

/// A release's status, as helm spells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    Deployed,
    Failed,
    Superseded,
    PendingInstall,
    PendingUpgrade,
    PendingRollback,
    Uninstalling,
    Uninstalled,
    Unknown(String),
}

impl Status {
    pub fn parse(text: &str) -> Self {
        match text {
            "deployed" => Self::Deployed,
            "failed" => Self::Failed,
            "superseded" => Self::Superseded,
            "pending-install" => Self::PendingInstall,
            "pending-upgrade" => Self::PendingUpgrade,
            "pending-rollback" => Self::PendingRollback,
            "uninstalling" => Self::Uninstalling,
            "uninstalled" => Self::Uninstalled,
            other => Self::Unknown(other.to_owned()),
        }
    }

    pub fn is_pending(&self) -> bool {
        matches!(self, Self::PendingInstall | Self::PendingUpgrade | Self::PendingRollback)
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Deployed => "deployed",
            Self::Failed => "failed",
            Self::Superseded => "superseded",
            Self::PendingInstall => "pending-install",
            Self::PendingUpgrade => "pending-upgrade",
            Self::PendingRollback => "pending-rollback",
            Self::Uninstalling => "uninstalling",
            Self::Uninstalled => "uninstalled",
            Self::Unknown(other) => other,
        })
    }
}

/// A revision of a release: what is stored, or what a dry run would store.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    pub revision: u32,
    pub status: Status,
    /// When the operation that made this revision began.
    pub since: Option<Timestamp>,
    pub description: String,
    /// The values that were given, without the chart's own.
    pub values: Value,
    pub manifest: String,
    /// The manifests of the hooks.
    pub hooks: Vec<String>,
    /// `name-version`; `helm status` does not tell it in every version.
    pub chart: Option<String>,
}

#[derive(Deserialize)]
struct RawRelease {
    info: RawInfo,
    #[serde(default)]
    config: Option<Value>,
    #[serde(default)]
    manifest: String,
    version: u32,
    #[serde(default)]
    chart: Option<RawChart>,
    #[serde(default)]
    hooks: Vec<RawHook>,
}

#[derive(Deserialize)]
struct RawInfo {
    status: String,
    #[serde(default)]
    last_deployed: String,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize)]
struct RawChart {
    metadata: RawMetadata,
}

#[derive(Deserialize)]
struct RawMetadata {
    name: String,
    #[serde(default)]
    version: String,
}

#[derive(Deserialize)]
struct RawHook {
    #[serde(default)]
    manifest: String,
}

/// Reads `helm status -o json` or the answer of an install, upgrade or dry run with `-o json`.
pub fn release(json: &str) -> Result<Stored, String> {
    let raw: RawRelease = serde_json::from_str(first_object(json)).map_err(|e| e.to_string())?;
    Ok(Stored {
        revision: raw.version,
        status: Status::parse(&raw.info.status),
        since: raw.info.last_deployed.parse().ok(),
        description: raw.info.description,
        values: raw.config.filter(|v| !v.is_null()).unwrap_or_else(|| Value::Object(serde_json::Map::new())),
        manifest: raw.manifest,
        hooks: raw.hooks.into_iter().map(|h| h.manifest).collect(),
        chart: raw.chart.map(|c| format!("{}-{}", c.metadata.name, c.metadata.version)),
    })
}

/// Old helms print a line such as `Release "x" does not exist. Installing it now.` before the JSON.
fn first_object(text: &str) -> &str {
    text.find('{').map_or(text, |start| &text[start..])
}

/// One line of `helm history -o json`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Revision {
    pub revision: u32,
    pub status: String,
    #[serde(default)]
    pub chart: String,
    #[serde(default)]
    pub description: String,
}

/// Reads `helm history -o json`, oldest first.
pub fn history(json: &str) -> Result<Vec<Revision>, String> {
    serde_json::from_str(json).map_err(|e| e.to_string())
}

/// One line of `helm list -o json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub name: String,
    pub namespace: String,
    pub revision: u32,
    pub status: Status,
    pub chart: String,
}

/// Reads `helm list -o json`; its revisions are strings.
pub fn list(json: &str) -> Result<Vec<Listed>, String> {
    #[derive(Deserialize)]
    struct Raw {
        name: String,
        namespace: String,
        revision: String,
        status: String,
        chart: String,
    }
    let raw: Vec<Raw> = serde_json::from_str(json).map_err(|e| e.to_string())?;
    let listed = |r: Raw| {
        let revision = r.revision.parse().map_err(|_| format!("revision `{}` is no number", r.revision))?;
        Ok(Listed { name: r.name, namespace: r.namespace, revision, status: Status::parse(&r.status), chart: r.chart })
    };
    raw.into_iter().map(listed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELM4: &str = r#"{"name":"a","info":{"first_deployed":"2026-11-23T05:13:52.5Z","last_deployed":"2026-11-23T05:13:52.591231366Z","description":"Install complete","status":"deployed","resources":{}},"chart":{"metadata":{"name":"h","version":"0.1.0","apiVersion":"v2"},"lock":null},"config":{"port":81},"manifest":"---\n# Source: h/templates/cm.yaml\nkind: ConfigMap\n","version":1,"namespace":"n","apply_method":"ssa"}"#;
    const HELM3: &str = r#"Release "a" does not exist. Installing it now.
{"name":"a","info":{"first_deployed":"2026-11-23T05:13:53Z","last_deployed":"2026-11-23T05:15:07.090952309Z","deleted":"","description":"Initial install underway","status":"pending-install"},"manifest":"x","version":1,"namespace":"n"}"#;

    #[test]
    fn both_majors_tell_the_same() {
        let four = release(HELM4).expect("helm 4");
        assert_eq!((four.revision, &four.status, four.chart.as_deref()), (1, &Status::Deployed, Some("h-0.1.0")));
        assert_eq!(four.values, serde_json::json!({"port": 81}));
        let three = release(HELM3).expect("helm 3");
        assert_eq!((&three.status, three.values), (&Status::PendingInstall, serde_json::json!({})));
        assert_eq!(three.since.map(|s| s.as_second()), Some(1_795_410_907));
    }

    #[test]
    fn lists_and_histories_are_read() {
        let listed = list(
            r#"[{"name":"p","namespace":"n","revision":"12","updated":"2026-11-23 05:15:07 +0000 UTC","status":"pending-install","chart":"pd-0.2.0","app_version":""}]"#,
        );
        assert_eq!(listed.expect("list")[0].revision, 12);
        let revisions = history(
            r#"[{"revision":1,"updated":"2026-11-23T05:13:52Z","status":"deployed","chart":"h-0.1.0","app_version":"","description":"Install complete"}]"#,
        );
        assert_eq!(revisions.expect("history")[0].description, "Install complete");
    }
}
