//! The world file: what the simulated cluster and AWS account look like at the start, what takes how long, and what goes wrong when.

mod duration;
mod faults;
mod pods;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use duration::Time;
pub use faults::{ApiFault, AwsFault, Connection, Denied, LoadBalancerOutcome, Named, Stray, TargetOutcome, TokenPolicy};
pub use pods::wild;
pub use pods::{AppScript, CertificateScript, PodMatch, PodScript, PodState, PodStep, RootAge};

/// The worlds that come with the program, by name.
pub const SHIPPED: &[(&str, &str)] = &[
    ("healthy", include_str!("../../fixtures/worlds/healthy.yaml")),
    ("stale-root", include_str!("../../fixtures/worlds/stale-root.yaml")),
    ("broken-image", include_str!("../../fixtures/worlds/broken-image.yaml")),
    ("crash-loop", include_str!("../../fixtures/worlds/crash-loop.yaml")),
    ("alb-failed", include_str!("../../fixtures/worlds/alb-failed.yaml")),
    ("no-sidecar", include_str!("../../fixtures/worlds/no-sidecar.yaml")),
    ("target-unhealthy", include_str!("../../fixtures/worlds/target-unhealthy.yaml")),
    ("token-refused", include_str!("../../fixtures/worlds/token-refused.yaml")),
    ("stuck-controller-gone", include_str!("../../fixtures/worlds/stuck-controller-gone.yaml")),
    ("stuck-denied", include_str!("../../fixtures/worlds/stuck-denied.yaml")),
    ("stuck-protected", include_str!("../../fixtures/worlds/stuck-protected.yaml")),
    ("stuck-group", include_str!("../../fixtures/worlds/stuck-group.yaml")),
];

/// The text of a world that comes with the program.
pub fn shipped(name: &str) -> Option<&'static str> {
    SHIPPED.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// A world file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct World {
    pub name: String,
    /// What this world is for, one sentence.
    pub about: String,
    pub cluster: Cluster,
    pub access: Access,
    pub namespaces: Vec<Namespace>,
    pub istio: Istio,
    /// Manifests that are there from the start, applied in this order.
    pub objects: Vec<Seed>,
    pub images: Images,
    /// How pods behave; the first entry that matches a pod counts.
    pub pods: Vec<PodScript>,
    /// How simulated applications answer; the first entry that matches counts.
    pub apps: Vec<AppScript>,
    /// Which workloads hold a certificate of another root.
    pub certificates: Vec<CertificateScript>,
    /// What happens while the sandbox runs.
    pub timeline: Vec<Happening>,
    /// Faults of the API server; the first entry that matches and is not used up counts.
    pub api: Vec<ApiFault>,
    pub aws: Aws,
    pub dns: Dns,
    pub times: Times,
    pub autoscaler: Option<Autoscaler>,
}

/// The EKS cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Cluster {
    pub name: String,
    pub region: String,
    pub account: String,
    /// Kubernetes version as DescribeCluster tells it.
    pub version: String,
    /// `ACTIVE`, `CREATING`, `UPDATING`, `DELETING`, `FAILED`.
    pub status: String,
    /// One node for each zone letter.
    pub zones: Vec<String>,
    /// How many pods a node takes.
    pub pods_per_node: usize,
    /// Whether the load balancer controller runs.
    pub load_balancer_controller: bool,
    /// How far the API server's clock is ahead of this machine's.
    pub clock_ahead: Time,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            name: "shop-eks".to_owned(),
            region: "ap-southeast-1".to_owned(),
            account: "123456789012".to_owned(),
            version: "1.37".to_owned(),
            status: "ACTIVE".to_owned(),
            zones: vec!["a".to_owned(), "b".to_owned()],
            pods_per_node: 58,
            load_balancer_controller: true,
            clock_ahead: Time::default(),
        }
    }
}

/// Who may come in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Access {
    pub token: TokenPolicy,
    pub access_key: String,
    pub secret_key: String,
    /// The identity behind the access key.
    pub arn: String,
    pub groups: Vec<String>,
    /// What the identity may not do in the cluster; the kubeconfig's own token may do everything.
    pub denied: Vec<Denied>,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            token: TokenPolicy::Accept,
            access_key: "AKIASANDBOXSANDBOX00".to_owned(),
            secret_key: "sandbox-secret-key-that-opens-nothing-real".to_owned(),
            arn: "arn:aws:sts::123456789012:assumed-role/ci/sandbox".to_owned(),
            groups: vec!["system:masters".to_owned()],
            denied: Vec::new(),
        }
    }
}

/// A namespace that is there from the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Namespace {
    pub name: String,
    pub labels: BTreeMap<String, String>,
}

/// Istio: what is installed at the start and how it behaves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Istio {
    /// Version of the stand-in for istioctl, and of what it installs.
    pub version: String,
    /// Envoy's version: it decides what a 503 body says.
    pub envoy: String,
    /// Sidecars as init containers that restart, as since 1.27; else as plain containers.
    pub native_sidecars: bool,
    /// Pods that the webhook passes through unchanged.
    pub not_injected: Vec<PodMatch>,
    /// Namespaces whose root ConfigMap istiod writes once and forgets, as a leader that is stuck does.
    pub forgotten: Vec<String>,
    /// Something has put another certificate into the injector's webhook, and istiod does not correct it.
    pub webhook_untrusted: bool,
    pub installed: Option<Installed>,
}

impl Default for Istio {
    fn default() -> Self {
        Self {
            version: "1.31.0".to_owned(),
            envoy: "1.38.3".to_owned(),
            native_sidecars: true,
            not_injected: Vec::new(),
            forgotten: Vec::new(),
            webhook_untrusted: false,
            installed: None,
        }
    }
}

/// An Istio that is there from the start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Installed {
    /// Other than the stand-in's own when given.
    pub version: Option<String>,
    /// `--set` values of the installation.
    pub set: BTreeMap<String, String>,
    /// How long ago.
    pub age: Time,
    /// How long ago the former root was made: `objects` older than `age` hold certificates of it until their pods restart.
    pub former_root_age: Option<Time>,
}

impl Default for Installed {
    fn default() -> Self {
        let set = BTreeMap::from([("values.gateways.istio-ingressgateway.type".to_owned(), "NodePort".to_owned())]);
        Self { version: None, set, age: Time::from_secs(3600), former_root_age: None }
    }
}

/// One manifest that is there from the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Seed {
    /// How long ago it was made.
    pub age: Time,
    pub manifest: serde_json::Value,
}

/// The image registry: every image exists unless it is named here. `*` stands for any text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Images {
    pub missing: Vec<String>,
    /// The registry refuses these to the nodes.
    pub denied: Vec<String>,
    /// Pulls that fail otherwise; the first entry that matches and is not used up counts.
    pub errors: Vec<PullError>,
}

/// A pull that fails.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct PullError {
    pub image: String,
    /// The container runtime's words, after `failed to resolve reference "IMAGE": `.
    pub message: String,
    /// How often; for ever when absent.
    pub times: Option<u32>,
}

/// Something that happens by itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Happening {
    /// Since the sandbox started.
    pub after: Time,
    /// A manifest to merge into the cluster.
    pub apply: Option<serde_json::Value>,
    /// An object to delete: `apiVersion`, `kind` and `metadata`.
    pub delete: Option<serde_json::Value>,
}

/// The AWS account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Aws {
    /// Faults of calls, the load balancer controller's too; the first entry that matches and is not used up counts.
    pub calls: Vec<AwsFault>,
    pub certificates: Vec<Certificate>,
    pub load_balancer: LoadBalancerOutcome,
    pub targets: TargetOutcome,
    /// How many of the zones have a subnet for internet-facing load balancers; all when absent.
    pub tagged_subnets: Option<usize>,
    /// How many of the zones have a subnet for internal load balancers; all when absent.
    pub internal_subnets: Option<usize>,
}

impl Default for Aws {
    fn default() -> Self {
        Self {
            calls: Vec::new(),
            certificates: vec![Certificate::default()],
            load_balancer: LoadBalancerOutcome::default(),
            targets: TargetOutcome::default(),
            tagged_subnets: None,
            internal_subnets: None,
        }
    }
}

/// A certificate in ACM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Certificate {
    pub arn: String,
    pub domains: Vec<String>,
    pub status: String,
    /// For how many days it is valid still, two years when absent; after a negative number it has ended.
    pub days: Option<i64>,
    /// In how many days its validity begins; it has begun when absent.
    pub starts_in: Option<u32>,
    /// A private authority has signed it, which nobody knows.
    pub untrusted: bool,
}

impl Default for Certificate {
    fn default() -> Self {
        Self {
            arn: "arn:aws:acm:ap-southeast-1:123456789012:certificate/0d9a3a43-3f7e-4b5c-9c2b-4f6f1d0f5a11".to_owned(),
            domains: vec!["*.public.domain".to_owned(), "public.domain".to_owned()],
            status: "ISSUED".to_owned(),
            days: None,
            starts_in: None,
            untrusted: false,
        }
    }
}

/// The name server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Dns {
    /// More names and their addresses; no address: NXDOMAIN for ever, the load balancer's included (`*` stands for any text).
    pub names: BTreeMap<String, Vec<std::net::Ipv4Addr>>,
    /// The server answers nothing at all.
    pub silent: bool,
    /// More addresses that load balancers' names have, until they leave the DNS.
    pub strays: Vec<Stray>,
}

/// How long simulated things take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Times {
    pub schedule: Time,
    pub pull: Time,
    pub start: Time,
    /// From running to ready, when a container has a readiness probe.
    pub ready: Time,
    pub stop: Time,
    /// The first back-off after a crash; it doubles up to `back-off-limit`.
    pub back_off: Time,
    pub back_off_limit: Time,
    /// From creation of a load balancer to `active`.
    pub load_balancer: Time,
    /// From `active` to a public DNS record.
    pub dns: Time,
    /// From registration of a target to its first verdict.
    pub health: Time,
    /// How often a target is checked.
    pub health_interval: Time,
}

impl Default for Times {
    fn default() -> Self {
        let ms = Time::from_millis;
        Self {
            schedule: ms(20),
            pull: ms(60),
            start: ms(40),
            ready: ms(100),
            stop: ms(100),
            back_off: ms(1000),
            back_off_limit: ms(30_000),
            load_balancer: ms(800),
            dns: ms(300),
            health: ms(400),
            health_interval: ms(300),
        }
    }
}

/// A cluster autoscaler: answers unschedulable pods with one more node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Autoscaler {
    pub max_nodes: usize,
    /// From the decision to a ready node.
    pub delay: Time,
}

/// Reads a world file; the error names line and column.
pub fn parse(text: &str) -> Result<World, String> {
    let world: World = serde_saphyr::from_str(text).map_err(|error| format!("world file: {error}"))?;
    if world.cluster.zones.is_empty() {
        return Err("world file: `cluster.zones` needs at least one zone".to_owned());
    }
    Ok(world)
}

/// The JSON Schema of a world file.
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(World).to_value();
    schema["$id"] = "https://meshstep.github.io/world.schema.json".into();
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_world_parses_and_carries_its_name() {
        for (name, text) in SHIPPED {
            let world = parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(world.name, *name);
            assert!(!world.about.is_empty(), "{name} says what it is for");
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_place() {
        let error = parse("name: x\nclustr: {}\n").unwrap_err();
        assert!(error.contains("clustr") && error.contains("line 2"), "{error}");
    }

    #[test]
    fn an_empty_file_is_refused_or_the_default() {
        assert_eq!(parse("name: x\n").map(|w| w.cluster.name), Ok("shop-eks".to_owned()));
        assert!(parse("cluster: {zones: []}").is_err());
    }
}
