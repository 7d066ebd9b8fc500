//! What a scenario file says. README.md in the folder above describes it for people.

use std::path::Path;
use std::time::Duration;

use meshstep::sandbox::world::{AwsFault, Time, World};
use serde::Deserialize;
use serde_json::{Value, json};

use super::merge::merge;
use super::site::Site;

/// One file of `tests/scenarios/`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Scenario {
    /// The file's name without its ending; also the namespace that is its own.
    #[serde(skip)]
    pub(crate) name: String,
    /// One sentence: what happens, and what must come of it.
    pub(crate) about: String,
    /// Which real parts it needs.
    #[serde(default)]
    pub(crate) lab: Profile,
    /// The others of the lab would see what it makes.
    #[serde(default)]
    alone: bool,
    /// Why it can be staged on one side only.
    #[serde(default)]
    pub(crate) not_on: NotOn,
    /// A world file's settings, in whose words both sides are arranged.
    #[serde(default)]
    world: Value,
    /// What is merged into the standard workload, a Deployment `app` of one pod; `null` takes a key away.
    #[serde(default)]
    app: Option<Value>,
    /// What is merged into the first container of its pods.
    #[serde(default)]
    container: Value,
    /// An Ingress `gw-ingress` that is there from the start, and the gateway's Service.
    #[serde(default)]
    ingress: Option<Ingress>,
    /// An app that is published, so that its host can be asked.
    #[serde(default)]
    site: Option<Site>,
    /// What is merged into the standard pipeline file.
    #[serde(default)]
    file: Value,
    /// The shop of `pipelines/` in the place of the standard pipeline file.
    #[serde(default)]
    pub(crate) shop: Option<Shop>,
    /// The command, in words.
    pub(crate) run: Vec<String>,
    /// What happens before the command, while it runs, and after it whatever came of it.
    #[serde(default)]
    pub(crate) before: Vec<Event>,
    #[serde(default)]
    pub(crate) meanwhile: Vec<Event>,
    #[serde(default)]
    pub(crate) afterwards: Vec<Event>,
    pub(crate) expect: Expect,
    /// Its line in the README's table beside kubectl and helm.
    #[serde(default)]
    pub(crate) readme: Option<String>,
}

/// What there is of the shop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Shop {
    /// Only its files.
    Files,
    /// A whole run has published it.
    Published,
}

/// Where the Ingress differs from the usual one.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Ingress {
    /// Below `alb.ingress.kubernetes.io/`.
    annotations: Value,
    class: Option<String>,
    /// The name in its rule.
    host: Option<String>,
    /// What its rule leads to.
    service: Option<String>,
    port: Option<u16>,
    /// What is merged into the gateway's Service; `none` leaves it out.
    gateway: Value,
}

/// How much of the lab a scenario needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Profile {
    /// The control plane, AWS and the load balancer controller; pods are played.
    #[default]
    Alb,
    /// Everything: pods run, traffic flows.
    Full,
}

/// The reason why a side cannot stage a scenario.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct NotOn {
    pub(crate) lab: Option<String>,
    pub(crate) sandbox: Option<String>,
}

/// Something that happens while the command runs; the times of one list add up.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Event {
    /// Not before the report has these words.
    pub(crate) when: Option<String>,
    pub(crate) after: Time,
    /// A manifest.
    pub(crate) apply: Option<Value>,
    /// `apiVersion`, `kind`, `metadata`.
    pub(crate) delete: Option<Value>,
    /// What AWS answers wrongly from now on; the list takes the place of the one before.
    pub(crate) aws: Option<Vec<AwsFault>>,
    /// The API server does not know the command's identity any more.
    pub(crate) refuse_token: bool,
    /// The addresses of `dns.strays` leave the DNS.
    pub(crate) drop_strays: bool,
    pub(crate) stop: Option<Part>,
    pub(crate) start: Option<Part>,
    /// Connections stay open and nothing is answered.
    pub(crate) freeze: Option<Part>,
    pub(crate) thaw: Option<Part>,
}

/// A part that can be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Part {
    Apiserver,
    Etcd,
    /// AWS's endpoint.
    Aws,
    /// The load balancer controller.
    Controller,
}

/// What must come of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Expect {
    pub(crate) exit: i32,
    /// The code of the one failed case.
    #[serde(default)]
    pub(crate) code: Option<String>,
    /// Words that a person must read on the console.
    #[serde(default)]
    pub(crate) says: Vec<String>,
    /// Words that must not be there.
    #[serde(default)]
    pub(crate) never: Vec<String>,
    /// The verdict comes no sooner; what is not yet a failure is waited for.
    #[serde(default)]
    pub(crate) not_before: Time,
    /// The whole command takes at most this long.
    pub(crate) within: Time,
}

/// How many times as long everything may take, on a machine that does much else.
pub(crate) const PATIENCE_VARIABLE: &str = "SCENARIO_PATIENCE";

fn patience() -> Result<u32, String> {
    let Ok(times) = std::env::var(PATIENCE_VARIABLE) else { return Ok(1) };
    times.parse().map_err(|_| format!("{PATIENCE_VARIABLE} is a whole number, not `{times}`"))
}

impl Scenario {
    /// Reads a file; each side's words take the place of `<certificate>` and such.
    pub(crate) fn read(path: &Path, words: &[(&str, String)]) -> Result<Self, String> {
        Self::read_as(path, &path.file_stem().unwrap_or_default().to_string_lossy(), words)
    }

    /// The same under another name, and so in another namespace.
    pub(crate) fn read_as(path: &Path, name: &str, words: &[(&str, String)]) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let text = words.iter().fold(text.replace("<namespace>", name), |text, (word, by)| text.replace(word, by));
        let mut scenario: Self = serde_saphyr::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        name.clone_into(&mut scenario.name);
        scenario.expect.within.0 *= patience()?;
        let problem = scenario.world(&json!({})).err().or_else(|| scenario.wrong().map(str::to_owned));
        problem.map_or(Ok(scenario), |problem| Err(format!("{}: {problem}", path.display())))
    }

    fn wrong(&self) -> Option<&'static str> {
        if self.run.is_empty() {
            Some("`run` names no command")
        } else if (self.expect.exit == 0) == self.expect.code.is_some() {
            Some("`expect.code` belongs to every exit but 0")
        } else if self.shop.is_some() && (self.app.is_some() || !self.file.is_null() || self.lab != Profile::Full) {
            Some("the shop brings its own file and workloads, and needs `lab: full`")
        } else if self.site.is_some() && self.not_on.lab.is_none() {
            Some("`site` has traffic, which the lab's played pods have not: say so in `not-on: {lab: …}`")
        } else {
            None
        }
    }

    /// The world, over what a side says of itself.
    pub(crate) fn world(&self, side: &Value) -> Result<World, String> {
        serde_json::from_value(self.world_value(side)).map_err(|error| format!("`world`: {error}"))
    }

    /// The same as a value: a world file's text.
    pub(crate) fn world_value(&self, side: &Value) -> Value {
        let namespaces = if self.shop.is_some() { json!([{"name": "pre-prod"}, {"name": "prod"}]) } else { json!([{"name": self.name}]) };
        let mut world = json!({"name": self.name, "about": self.about, "namespaces": namespaces});
        merge(&mut world, side);
        if self.site.is_some() {
            merge(&mut world, &Site::world(&self.name));
        }
        merge(&mut world, &self.world);
        let of_site = self.site.as_ref().map(|site| site.objects(&self.name, self.standard_workload()));
        for objects in self.ingress.as_ref().map(|ingress| ingress.objects(&self.name)).into_iter().chain(of_site) {
            match world["objects"].as_array_mut() {
                Some(all) => all.extend(objects),
                None => world["objects"] = objects.into(),
            }
        }
        world
    }

    /// The workload that is deployed, if the scenario has one.
    pub(crate) fn workload(&self) -> Option<Value> {
        let more = self.app.as_ref()?;
        let mut app = self.standard_workload();
        merge(&mut app, more);
        let pod = if app["kind"] == "Pod" { &mut app["spec"] } else { &mut app["spec"]["template"]["spec"] };
        merge(&mut pod["containers"][0], &self.container);
        Some(app)
    }

    fn standard_workload(&self) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app", "namespace": self.name},
            "spec": {
                "replicas": 1, "selector": {"matchLabels": {"app": "app"}},
                "template": {
                    // the lab's own player of pods leaves those with this label to the scenario's
                    "metadata": {"labels": {"app": "app", "sim": "scenario"}},
                    "spec": {"terminationGracePeriodSeconds": 0, "containers": [{
                        "name": "app", "image": "registry.example/app:1", "ports": [{"name": "http", "containerPort": 8000}],
                        "readinessProbe": {"httpGet": {"path": "/", "port": 8000}},
                    }]},
                },
            },
        })
    }

    /// The pipeline file, to be merged over `cluster`, how the side's cluster is named.
    pub(crate) fn pipeline(&self, cluster: &Value) -> Value {
        let mut file = json!({"version": 1, "name": "scenario", "cluster": cluster});
        if self.app.is_some() {
            file["services"] = json!([{"name": "app", "manifests": "app.yaml", "namespaces": [self.name], "timeout": "60s"}]);
        }
        if self.ingress.is_some() {
            file["ingress"] = json!({"name": "gw-ingress", "namespace": self.name, "timeout": "60s"});
        }
        if self.site.is_some() {
            merge(&mut file, &Site::file());
        }
        merge(&mut file, &self.file);
        file
    }

    /// Whether it disturbs what others use too.
    pub(crate) fn alone(&self) -> bool {
        let disturbs = |event: &Event| event.aws.is_some() || [event.stop, event.start, event.freeze, event.thaw].iter().any(Option::is_some);
        let foreign = |object: &Value| object["kind"] == "Node" || object["metadata"]["namespace"].as_str().is_some_and(|ns| ns != self.name);
        let applied = self.before.iter().chain(&self.meanwhile).filter_map(|event| event.apply.as_ref());
        let mut objects = self.world["objects"].as_array().into_iter().flatten().map(|seed| &seed["manifest"]).chain(applied);
        objects.any(foreign)
            || self.alone
            || self.lab == Profile::Full
            || self.before.iter().chain(&self.meanwhile).any(disturbs)
            || !self.world["aws"]["calls"].is_null()
    }

    /// A command that does not end by itself is ended after this long.
    pub(crate) fn hard_limit(&self) -> Duration {
        self.expect.within.0 * 2 + Duration::from_secs(20)
    }
}

impl Ingress {
    /// The usual one, with these annotations merged in.
    pub(crate) fn annotated(annotations: Value) -> Self {
        Self { annotations, ..Self::default() }
    }

    pub(crate) fn manifest(&self, namespace: &str) -> Value {
        let mut annotations = serde_json::Map::new();
        let usual = json!({
            "scheme": "internet-facing", "target-type": "instance", "healthcheck-path": "/healthz/ready", "healthcheck-port": "status-port",
            "listen-ports": "[{\"HTTP\": 80}]",
        });
        let mut wanted = usual;
        merge(&mut wanted, &self.annotations);
        for (key, value) in wanted.as_object().into_iter().flatten() {
            annotations.insert(format!("alb.ingress.kubernetes.io/{key}"), value.clone());
        }
        let backend = json!({
            "name": self.service.as_deref().unwrap_or("istio-ingressgateway"), "port": {"number": self.port.unwrap_or(80)},
        });
        let mut rule = json!({"http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": backend}}]}});
        if let Some(host) = &self.host {
            rule["host"] = host.as_str().into();
        }
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "gw-ingress", "namespace": namespace, "annotations": annotations},
            "spec": {
                "ingressClassName": self.class.as_deref().unwrap_or("alb"),
                "rules": [rule],
            },
        })
    }

    fn objects(&self, namespace: &str) -> Vec<Value> {
        let ingress = self.manifest(namespace);
        let mut service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "istio-ingressgateway", "namespace": namespace},
            "spec": {"type": "NodePort", "selector": {"app": "istio-ingressgateway"}, "ports": [
                {"name": "status-port", "port": 15021, "targetPort": 15021}, {"name": "http2", "port": 80, "targetPort": 8080},
            ]},
        });
        merge(&mut service, &self.gateway);
        let objects = if self.gateway == "none" { vec![ingress] } else { vec![service, ingress] };
        objects.into_iter().map(|manifest| json!({"manifest": manifest})).collect()
    }
}
