//! Whether Istio is to be installed, is there as asked, or belongs to somebody else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::domain::mesh::argv;

/// ConfigMap in istio-system that remembers what was installed: istioctl itself keeps no record of its values.
pub const MEMORY: &str = "meshstep-mesh";
/// The value that sets the gateway Service's type.
pub const GATEWAY_TYPE: &str = "values.gateways.istio-ingressgateway.type";

/// What the file asks for.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    pub profile: &'a str,
    pub set: &'a BTreeMap<String, Value>,
    /// Version of istioctl; `None`: not installed here, or an unstamped build.
    pub client: Option<&'a str>,
}

impl Wanted<'_> {
    pub fn revision(&self) -> &str {
        self.set.get("revision").and_then(Value::as_str).filter(|r| !r.is_empty()).unwrap_or("default")
    }

    /// The type that the gateway's Service must have; a cloud load balancer by istioctl's default.
    pub fn gateway_type(&self) -> &str {
        self.set.get(GATEWAY_TYPE).and_then(Value::as_str).unwrap_or("LoadBalancer")
    }

    /// Identifies profile and values, whatever the version.
    pub fn hash(&self) -> String {
        let text = format!("profile={}\n{}", self.profile, argv::flags(self.set).join("\n"));
        Sha256::digest(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    pub fn memory(&self, version: &str) -> Memory {
        Memory { hash: self.hash(), version: version.to_owned(), profile: self.profile.to_owned(), set: argv::flags(self.set).join("\n") }
    }
}

/// What we installed last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    pub hash: String,
    pub version: String,
    #[serde(default)]
    pub profile: String,
    #[serde(default)]
    pub set: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Installer {
    Istioctl,
    /// The helm release.
    Helm(String),
    /// An operator: the kind of its owner.
    Operator(String),
    Unknown,
}

/// A running control plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plane {
    pub namespace: String,
    pub name: String,
    pub revision: String,
    pub version: Option<String>,
    pub installer: Installer,
}

/// What is in the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    pub planes: Vec<Plane>,
    /// Type of the gateway's Service.
    pub gateway: Option<String>,
    pub memory: Option<Memory>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Install(String),
    Keep(String),
    /// Not ours to change without being asked.
    Foreign(String),
}

pub fn decide(wanted: &Wanted, found: &Found) -> Decision {
    let Some(plane) = found.planes.first() else {
        return Decision::Install("Istio is not in the cluster".to_owned());
    };
    if let Some(why) = found.planes.iter().find_map(|plane| foreign(wanted, plane)) {
        return Decision::Foreign(why);
    }
    let version = plane.version.as_deref().unwrap_or("of an unknown version");
    let gateway = match found.gateway.as_deref() {
        Some(found) if found == wanted.gateway_type() => None,
        Some(found) => Some(format!("the gateway's Service is {found}, not {}", wanted.gateway_type())),
        None => Some("the gateway's Service is not there".to_owned()),
    };
    match (&found.memory, gateway) {
        (Some(memory), _) if memory.hash != wanted.hash() => Decision::Install("the file's values differ from those installed".to_owned()),
        (Some(_), Some(why)) => Decision::Install(why),
        (Some(_), None) => Decision::Keep(format!("Istio {version} with these values")),
        // Installed without us: its values are not known, and an installation by us would replace them all.
        (None, Some(why)) => Decision::Foreign(format!("Istio {version} was not installed by this tool, and {why}")),
        (None, None) => Decision::Keep(format!("Istio {version}, installed without this tool: its other values are not compared")),
    }
}

fn foreign(wanted: &Wanted, plane: &Plane) -> Option<String> {
    let name = format!("{} in {}", plane.name, plane.namespace);
    match &plane.installer {
        Installer::Helm(release) => return Some(format!("{name} belongs to helm release {release}")),
        Installer::Operator(kind) => return Some(format!("{name} belongs to an operator ({kind})")),
        Installer::Istioctl | Installer::Unknown => {}
    }
    if plane.namespace != "istio-system" {
        return Some(format!("a control plane runs in namespace {}", plane.namespace));
    }
    if plane.revision != wanted.revision() {
        return Some(format!("{name} has revision {}, the file asks for {}", plane.revision, wanted.revision()));
    }
    match (wanted.client, &plane.version) {
        (Some(client), Some(version)) if client != version => Some(format!("Istio {version} is running, istioctl is {client}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_installed_decides() {
        let set = BTreeMap::from([(GATEWAY_TYPE.to_owned(), Value::from("NodePort"))]);
        let wanted = Wanted { profile: "default", set: &set, client: Some("1.31.0") };
        let plane = || Plane {
            namespace: "istio-system".into(),
            name: "istiod".into(),
            revision: "default".into(),
            version: Some("1.31.0".into()),
            installer: Installer::Istioctl,
        };
        let ours = || Found { planes: vec![plane()], gateway: Some("NodePort".into()), memory: Some(wanted.memory("1.31.0")) };
        let with = |change: fn(&mut Found)| {
            let mut found = ours();
            change(&mut found);
            found
        };
        let cases = [
            ("install", Found::default()),
            ("keep", ours()),
            ("keep", with(|f| f.memory = None)),
            ("keep", with(|f| f.planes[0].version = None)),
            ("keep", with(|f| f.planes[0].installer = Installer::Unknown)),
            ("foreign", with(|f| (f.memory, f.gateway) = (None, Some("LoadBalancer".into())))),
            ("foreign", with(|f| (f.memory, f.gateway) = (None, None))),
            ("install", with(|f| f.gateway = Some("LoadBalancer".into()))),
            ("install", with(|f| f.gateway = None)),
            ("install", with(|f| f.memory.iter_mut().for_each(|m| m.hash = "other".into()))),
            ("foreign", with(|f| f.planes[0].version = Some("1.30.4".into()))),
            ("foreign", with(|f| f.planes[0].revision = "1-31".into())),
            ("foreign", with(|f| f.planes[0].installer = Installer::Helm("istiod".into()))),
            ("foreign", with(|f| f.planes[0].installer = Installer::Operator("IstioRevision".into()))),
            ("foreign", with(|f| f.planes[0].namespace = "mesh".into())),
            ("foreign", with(|f| f.planes.push(Plane { revision: "canary".into(), ..f.planes[0].clone() }))),
        ];
        for (expected, found) in cases {
            let decision = match decide(&wanted, &found) {
                Decision::Install(_) => "install",
                Decision::Keep(_) => "keep",
                Decision::Foreign(_) => "foreign",
            };
            assert_eq!(decision, expected, "{found:?}");
        }
    }

    #[test]
    fn the_hash_is_of_profile_and_values() {
        let (a, b) = (BTreeMap::from([("x".to_owned(), Value::from("1"))]), BTreeMap::from([("x".to_owned(), Value::from("2"))]));
        let of = |profile, set| Wanted { profile, set, client: None }.hash();
        assert_eq!(of("default", &a), of("default", &a));
        assert_ne!(of("default", &a), of("default", &b));
        assert_ne!(of("default", &a), of("minimal", &a));
    }
}
