//! Stage `mesh`: Istio with a NodePort gateway, injection labels, common settings and the Gateway.

mod roots;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::names::ObjectName;
use crate::base::place::Place;
use crate::base::wait::{self, Patience, Poll};
use crate::clients::kube::{Applied, Cluster};
use crate::clients::tools::{Call, Finished};
use crate::domain::certificates::gather::CONFIG_MAP as ROOT;
use crate::domain::mesh::decide::{self, Decision, Wanted};
use crate::domain::mesh::labels::{self, Step};
use crate::domain::mesh::ready::{self, SYSTEM};
use crate::domain::mesh::{argv, look, version};
use crate::domain::services::apply;
use crate::domain::services::manifests::{self, Manifest};
use crate::engine::record::{Case, Done};
use crate::engine::{Ctx, Readiness, Stage};
use crate::stages::namespaces::{self, Named};
use crate::stages::{Shared, doctor, rights};

/// How long a webhook of a fresh installation may take to answer.
const WEBHOOK_WITHIN: Duration = Duration::from_secs(60);
/// istiod rewrites the root in all namespaces some seconds after it leads.
const ROOT_WITHIN: Duration = Duration::from_secs(60);
const HELM_REPO_WITHIN: Duration = Duration::from_secs(60);

/// `mesh:`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Mesh {
    /// istioctl's installation profile.
    #[serde(default = "default_profile")]
    pub profile: String,
    /// `--set` values of istioctl, the whole set every time.
    #[serde(default = "default_set")]
    pub set: BTreeMap<String, serde_json::Value>,
    /// Namespaces to label with `istio-injection=enabled`.
    #[serde(default)]
    pub inject: Vec<InjectNamespace>,
    /// Mesh-wide settings: a file of manifests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub common: Option<String>,
    /// The Gateway: a file of manifests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// A chart repository to add to helm, never fatal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helm_repo: Option<HelmRepo>,
    /// How long to wait for the control plane and the gateway.
    #[serde(default = "default_timeout")]
    #[schemars(with = "String", regex(pattern = crate::stages::DURATION_PATTERN))]
    pub timeout: crate::stages::Seconds,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum InjectNamespace {
    Name(String),
    Create(CreateNamespace),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CreateNamespace {
    pub name: String,
    /// Make the namespace when it is missing.
    #[serde(default)]
    pub create: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HelmRepo {
    pub name: String,
    pub url: String,
}

impl InjectNamespace {
    pub fn name(&self) -> &str {
        match self {
            InjectNamespace::Name(name) => name,
            InjectNamespace::Create(namespace) => &namespace.name,
        }
    }

    pub fn create(&self) -> bool {
        matches!(self, InjectNamespace::Create(namespace) if namespace.create)
    }
}

fn default_profile() -> String {
    "default".to_owned()
}

fn default_set() -> BTreeMap<String, serde_json::Value> {
    BTreeMap::from([("values.gateways.istio-ingressgateway.type".to_owned(), "NodePort".into())])
}

fn default_timeout() -> crate::stages::Seconds {
    crate::stages::Seconds::from_secs(300)
}

/// Istio as the file describes it; what is as it should be is not touched.
pub struct MeshStage;

#[async_trait]
impl Stage<Shared> for MeshStage {
    fn id(&self) -> &'static str {
        "mesh"
    }

    async fn check(&self, ctx: &Ctx<Shared>) -> Result<Readiness> {
        let Some(mesh) = &ctx.shared.pipeline.mesh else {
            return Ok(Readiness::Skip("no mesh: section in the file".to_owned()));
        };
        for file in mesh.common.iter().chain(&mesh.gateway) {
            objects(&ctx.shared, file)?;
        }
        Ok(Readiness::Ready)
    }

    async fn apply(&self, ctx: &Ctx<Shared>) -> Result<()> {
        let Some(mesh) = &ctx.shared.pipeline.mesh else { return Ok(()) };
        let cluster = ctx.shared.cluster().await?;
        // A control plane is not installed for namespaces that are not there.
        if !namespaces::all_there(ctx, &cluster, &namespaces::of_mesh(&ctx.shared)).await? {
            return Ok(());
        }
        let run = Run { ctx, mesh, cluster };
        if !run.load_balancer_controller().await {
            return Ok(());
        }
        let Some(there) = run.install().await else { return Ok(()) };
        if there && !run.ready().await {
            return Ok(());
        }
        let mut labelled = Vec::new();
        for (index, namespace) in mesh.inject.iter().enumerate().filter(|(_, n)| ctx.shared.filters.namespace(n.name())) {
            if run.label(index, namespace).await {
                labelled.push((index, namespace.name()));
            }
        }
        for (key, file) in [("common", &mesh.common), ("gateway", &mesh.gateway)] {
            if let Some(file) = file {
                run.objects(key, file, there).await?;
            }
        }
        if there {
            for (index, namespace) in &labelled {
                run.root_certificate(*index, namespace).await;
            }
            let namespaces = labelled.iter().map(|(_, namespace)| (*namespace).to_owned()).collect();
            let case = ctx.record.case("workload certificates").place(run.place("/mesh"));
            case.run(|case| roots::compare(&run.cluster, namespaces, case)).await;
        }
        run.helm_repo().await;
        Ok(())
    }
}

struct Run<'a> {
    ctx: &'a Ctx<Shared>,
    mesh: &'a Mesh,
    cluster: Cluster,
}

impl Run<'_> {
    fn place(&self, pointer: &str) -> Option<&Place> {
        self.ctx.shared.place(pointer)
    }

    /// While its webhook on Services is in force and its pods are down, istioctl cannot make the gateway's Service.
    async fn load_balancer_controller(&self) -> bool {
        let hooks: Vec<MutatingWebhookConfiguration> = match self.cluster.list("", "").await {
            Ok(hooks) => hooks,
            // Whether it is there is only worth knowing, not a right to insist on.
            Err(fault) if fault.code == Code::Forbidden => return true,
            Err(fault) => {
                self.ctx.record.case("load balancer controller ready").fail(fault);
                return false;
            }
        };
        let Some(hook) = ready::service_hook(&hooks) else { return true };
        let case = self.ctx.record.case("load balancer controller ready").place(self.place("/mesh"));
        let cluster = &self.cluster;
        let done = case.run(|case| async move {
            let selector = format!("kubernetes.io/service-name={}", hook.service);
            let nudge = cluster.watch::<EndpointSlice>(&hook.namespace, &selector);
            let look = || async {
                let slices: Vec<EndpointSlice> = match cluster.list(&hook.namespace, &selector).await {
                    Err(fault) if fault.code == Code::Forbidden => return Ok(Poll::Ready(())),
                    slices => slices?,
                };
                let mut endpoints = slices.iter().flat_map(|s| s.endpoints.iter().flatten());
                let any = endpoints.any(|e| e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true));
                Ok(if any { Poll::Ready(()) } else { Poll::NotYet(format!("service {} in {} has no ready pod", hook.service, hook.namespace)) })
            };
            let patience = Patience::new(WEBHOOK_WITHIN, Duration::from_secs(5));
            wait::until(patience, |reason| case.progress(reason), || nudge.next(), look).await.map_err(|error| {
                error.into_fault(|timed_out| {
                    Fault::new(
                        Code::WebhookUnreachable,
                        format!("webhook {} does not answer, so no Service can be created: {}", hook.name, timed_out.last_reason),
                    )
                    .next("bring the load balancer controller up before Istio is installed")
                })
            })?;
            Ok(Done::unchanged((), format!("{} in {} answers", hook.service, hook.namespace)))
        });
        done.await.is_some()
    }

    /// `Some(false)`: a dry run over a cluster without Istio.
    async fn install(&self) -> Option<bool> {
        let (mesh, shared, cluster) = (self.mesh, &self.ctx.shared, &self.cluster);
        let case = self.ctx.record.case("istio install").place(self.place("/mesh"));
        case.run(|case| async move {
            let found = look::found(cluster).await?;
            case.observed("mesh", &found);
            let client = client_version(shared).await;
            if let Ok(Some(client)) = &client {
                case.property("istioctl.version", client);
            }
            let wanted = Wanted { profile: &mesh.profile, set: &mesh.set, client: client.as_ref().ok().and_then(|c| c.as_deref()) };
            let why = match decide::decide(&wanted, &found) {
                Decision::Keep(note) => return Ok(Done::unchanged(true, note)),
                Decision::Foreign(why) if !shared.options.allow_mesh_change => {
                    return Err(Fault::new(Code::MeshForeign, format!("nothing was changed: {why}"))
                        .evidence("control planes", planes(&found))
                        .next("use the istioctl of the running version, or make `mesh:` say what is installed")
                        .next("or change the control plane on purpose with `--allow-mesh-change`"));
                }
                Decision::Foreign(why) | Decision::Install(why) => why,
            };
            let version = client.clone()?.unwrap_or_else(|| "of an unknown version".to_owned());
            let flags = argv::flags(&mesh.set).join(" ");
            if self.ctx.dry_run {
                return Ok(Done::would_change(!found.planes.is_empty(), format!("would install Istio {version} with {flags}: {why}")));
            }
            // Refused half-way, istioctl waits for minutes for what cannot become ready, and leaves half an installation.
            let missing = doctor::denied(cluster, rights::installing(&shared.pipeline)).await?;
            if !missing.is_empty() {
                return Err(doctor::lacking("mesh", &missing));
            }
            if found.planes.is_empty() {
                self.ctx.ledger.intend(&ObjectName::new("control plane", SYSTEM, "istiod"))?;
            }
            case.output(&why);
            case.progress(format!("istioctl installs {version}"));
            let args = argv::install(cluster.kubeconfig(), &mesh.profile, &mesh.set, mesh.timeout.0);
            // Three components, each with its own readiness timeout.
            let call = Call::new("istioctl").args(args).timeout(mesh.timeout.0 * 3 + Duration::from_secs(60));
            let finished = shared.tools.run(call).await?;
            case.output(&format!("$ {}\n{}", finished.command, finished.shown(60)));
            if !finished.success() {
                return Err(finished.fault().next("read istioctl's message; `kubectl -n istio-system get pods,events` shows what its pods do"));
            }
            remember(cluster, &wanted, &version).await?;
            Ok(Done::changed(true, format!("installed Istio {version}: {why}")))
        })
        .await
    }

    /// What istioctl does not wait for.
    async fn ready(&self) -> bool {
        let (mesh, cluster) = (self.mesh, &self.cluster);
        let wanted = Wanted { profile: &mesh.profile, set: &mesh.set, client: None };
        let patience = Patience::new(mesh.timeout.0, Duration::from_secs(5));
        let case = self.ctx.record.case("control plane ready").place(self.place("/mesh"));
        let control_plane = case.run(|case| async move {
            let nudge = cluster.watch::<Deployment>(SYSTEM, "");
            let look = || async {
                Ok(match control_plane_lacks(cluster).await? {
                    Some(lack) => Poll::NotYet(lack),
                    None => Poll::Ready(()),
                })
            };
            wait::until(patience, |reason| case.progress(reason), || nudge.next(), look).await.map_err(|error| error.into_fault(not_ready))?;
            Ok(Done::unchanged((), "istiod and the gateway are available, the injector has its CA"))
        });
        if control_plane.await.is_none() {
            return false;
        }
        let case = self.ctx.record.case("gateway service").place(self.place("/mesh/set"));
        let gateway_type = wanted.gateway_type();
        let gateway = case.run(|case| async move {
            let nudge = cluster.watch::<Service>(SYSTEM, "");
            let look = || async {
                let service: Option<Service> = cluster.get(SYSTEM, ready::GATEWAY).await?;
                Ok(match ready::gateway_lacks(gateway_type, service.as_ref()) {
                    Some(lack) => Poll::NotYet(lack),
                    None => Poll::Ready(service.as_ref().map(ready::node_ports).unwrap_or_default()),
                })
            };
            let patience = Patience::new(Duration::from_secs(30).min(mesh.timeout.0), Duration::from_secs(5));
            let waited = wait::until(patience, |reason| case.progress(reason), || nudge.next(), look).await;
            let ports = waited.map_err(|error| error.into_fault(not_ready))?;
            Ok(Done::unchanged((), format!("{gateway_type} {ports}").trim_end().to_owned()))
        });
        gateway.await.is_some()
    }

    /// `true`: the namespace is there and its pods get a sidecar.
    async fn label(&self, index: usize, namespace: &InjectNamespace) -> bool {
        let (name, cluster, ctx) = (namespace.name(), &self.cluster, self.ctx);
        let place = self.place(&format!("/mesh/inject/{index}"));
        let case = ctx.record.case(format!("label {name}")).place(place);
        let done = case.run(|case| async move {
            let found: Option<Namespace> = cluster.get("", name).await?;
            let manifest = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {labels::INJECTION: "enabled"}}});
            let Some(found) = found else {
                if !namespace.create() {
                    return Err(namespaces::missing(&Named { name, place, create: false, injected: true, by_mesh: false }));
                }
                if ctx.dry_run {
                    return Ok(Done::would_change(false, "would create it with istio-injection=enabled"));
                }
                ctx.ledger.intend(&ObjectName::new("Namespace", "", name))?;
                cluster.apply(&manifest, "", false).await?;
                return Ok(Done::changed(true, "created with istio-injection=enabled"));
            };
            let was = match labels::step(name, &found.metadata.labels.unwrap_or_default()) {
                Step::Keep { warning } => {
                    warning.into_iter().for_each(|warning| case.warn(warning));
                    return Ok(Done::unchanged(true, "labelled already"));
                }
                Step::Conflict { revision } if !ctx.shared.options.allow_mesh_change => {
                    return Err(labels::conflict(name, &revision).at(place));
                }
                Step::Conflict { revision } => Some(format!("istio.io/rev={revision}")),
                Step::Label { was } => was.map(|was| format!("istio-injection={was}")),
            };
            let instead = was.map(|was| format!(", was {was}")).unwrap_or_default();
            if ctx.dry_run {
                return Ok(Done::would_change(true, format!("would set istio-injection=enabled{instead}")));
            }
            cluster.apply(&manifest, "", false).await?;
            if instead.is_empty() {
                return Ok(Done::changed(true, "istio-injection=enabled"));
            }
            case.warn(format!("pods that run already keep what they have until they are restarted{instead}"));
            Ok(Done::changed(true, format!("istio-injection=enabled{instead}")))
        });
        done.await.unwrap_or(false)
    }

    /// Each object of a file, as a case of its own.
    async fn objects(&self, key: &str, file: &str, there: bool) -> Result<()> {
        let ctx = self.ctx;
        let manifests = objects(&ctx.shared, file)?;
        let short = file.rsplit('/').next().unwrap_or(file);
        for manifest in manifests {
            let namespace = if manifest.namespace().is_empty() { SYSTEM } else { manifest.namespace() };
            let case = ctx.record.case(format!("apply {short} {} {namespace}/{}", manifest.kind(), manifest.name()));
            let case = case.place(Some(&manifest.place)).run(|case| self.object(key, manifest.clone(), there, case));
            case.await;
        }
        Ok(())
    }

    async fn object(&self, key: &str, manifest: Manifest, there: bool, case: Case) -> Result<Done> {
        if manifest.kind() == "IstioOperator" {
            return Err(Fault::new(Code::FileInvalid, "an IstioOperator is no object of the cluster: Istio has had no such type since 1.24")
                .at(Some(&manifest.place))
                .next("write its values as `mesh.set`, and remove it from the file"));
        }
        if !there {
            return Ok(Done::would_change((), "would be applied once Istio is there"));
        }
        let (dry_run, title) = (self.ctx.dry_run, manifest.title());
        let look = || async {
            match apply::apply(&self.cluster, std::slice::from_ref(&manifest), SYSTEM, dry_run, |_| {}, |object| self.ctx.ledger.intend(object)).await
            {
                Ok(changes) => Ok(Poll::Ready(changes)),
                // istiod takes a moment to serve its validation webhook after an installation.
                Err(fault) if is_webhook_starting(&fault) => {
                    let reason = fault.message.clone();
                    case.attempt(fault);
                    Ok(Poll::NotYet(reason))
                }
                Err(fault) if fault.code == Code::NeedsEarlier => {
                    Err(fault.next(format!("`mesh.{key}` needs Istio's types: see whether `istio install` passed")))
                }
                Err(fault) => Err(fault),
            }
        };
        let patience = Patience::new(WEBHOOK_WITHIN, Duration::from_secs(2));
        let waited = wait::until(patience, |reason| case.progress(reason), wait::never, look).await;
        let changes = waited.map_err(|error| {
            error.into_fault(|timed_out| {
                Fault::new(Code::WebhookUnreachable, format!("{title} cannot be applied: {}", timed_out.last_reason)).at(Some(&manifest.place))
            })
        })?;
        let change = changes.first().ok_or_else(|| Fault::new(Code::Defect, "an apply changed nothing and said nothing"))?;
        if !change.diff.is_empty() {
            case.output(&change.diff);
        }
        Ok(match (&change.applied, dry_run) {
            (Applied::Unchanged, _) => Done::unchanged((), "unchanged"),
            (Applied::Created, true) => Done::would_change((), "would create it"),
            (Applied::Changed, true) => Done::would_change((), "would change it"),
            (Applied::Created, false) => Done::changed((), "created"),
            (Applied::Changed, false) => Done::changed((), "changed"),
        })
    }

    async fn root_certificate(&self, index: usize, namespace: &str) {
        let cluster = &self.cluster;
        let case = self.ctx.record.case(format!("root certificate {namespace}")).place(self.place(&format!("/mesh/inject/{index}")));
        case.run(|case| async move {
            let nudge = cluster.watch_one::<ConfigMap>(namespace, ROOT);
            let look = || async {
                let mesh: Option<ConfigMap> = cluster.get(SYSTEM, ROOT).await?;
                let here: Option<ConfigMap> = cluster.get(namespace, ROOT).await?;
                Ok(match ready::root_lacks(mesh.as_ref(), here.as_ref()) {
                    Some(lack) => Poll::NotYet(lack),
                    None => Poll::Ready(()),
                })
            };
            let patience = Patience::new(ROOT_WITHIN, Duration::from_secs(5));
            wait::until(patience, |reason| case.progress(reason), || nudge.next(), look).await.map_err(|error| {
                error.into_fault(|timed_out| {
                    Fault::new(Code::MeshNotReady, format!("namespace {namespace}: {}", timed_out.last_reason)).next(
                        "istiod writes it: see its log, and whether its discoverySelectors match the namespace; restarting istiod writes it again",
                    )
                })
            })?;
            Ok(Done::unchanged((), "the mesh's root is there"))
        })
        .await;
    }

    /// A convenience of the runbook that nothing here needs: whatever happens to it, the run goes on.
    async fn helm_repo(&self) {
        let Some(repo) = &self.mesh.helm_repo else { return };
        let (tools, dry_run) = (&self.ctx.shared.tools, self.ctx.dry_run);
        let case = self.ctx.record.case(format!("helm repo {}", repo.name)).place(self.place("/mesh/helm-repo"));
        case.run(|case| async move {
            if dry_run {
                return Ok(Done::Skipped("dry run".to_owned()));
            }
            for args in [vec!["repo", "add", &repo.name, &repo.url, "--force-update"], vec!["repo", "update", &repo.name]] {
                match tools.run(Call::new("helm").args(args).timeout(HELM_REPO_WITHIN)).await.and_then(Finished::ok) {
                    Ok(_) => {}
                    Err(fault) => {
                        case.warn(format!("{fault}; nothing of this run needs the repository"));
                        return Ok(Done::unchanged((), "not added"));
                    }
                }
            }
            Ok(Done::unchanged((), format!("{} is known to helm", repo.url)))
        })
        .await;
    }
}

/// The objects of a file of `mesh:`, in the order in which they are needed.
pub(super) fn objects(shared: &Shared, file: &str) -> Result<Vec<Manifest>> {
    manifests::load(&shared.path(file), &shared.shown(file))
}

/// istioctl's own version; `None`: an unstamped build.
async fn client_version(shared: &Shared) -> Result<Option<String>> {
    let call = Call::new("istioctl").args(argv::client_version()).timeout(Duration::from_secs(20));
    let finished = shared.tools.run(call).await?.ok()?;
    let versions = version::parse(&finished.stdout);
    Ok(versions.map_err(|e| Fault::new(Code::ToolFailed, format!("`{}` said nothing readable: {e}", finished.command)))?.client)
}

async fn control_plane_lacks(cluster: &Cluster) -> Result<Option<String>> {
    for name in ["istiod", ready::GATEWAY] {
        let deployment: Option<Deployment> = cluster.get(SYSTEM, name).await?;
        // A canary's istiod has its revision in its name.
        if deployment.is_none() && name == "istiod" {
            let planes: Vec<Deployment> = cluster.list(SYSTEM, "app=istiod").await?;
            if let Some(lack) = ready::deployment_lacks(name, planes.first()) {
                return Ok(Some(lack));
            }
        } else if let Some(lack) = ready::deployment_lacks(name, deployment.as_ref()) {
            return Ok(Some(lack));
        }
    }
    let hooks: Vec<MutatingWebhookConfiguration> = match cluster.list("", "").await {
        Err(fault) if fault.code == Code::Forbidden => return Ok(None),
        hooks => hooks?,
    };
    Ok(ready::injector_lacks(&hooks))
}

fn not_ready(timed_out: wait::TimedOut) -> Fault {
    Fault::new(Code::MeshNotReady, timed_out.to_string()).next("`kubectl -n istio-system get deployments,pods,events`")
}

fn planes(found: &decide::Found) -> String {
    let line = |p: &decide::Plane| {
        format!(
            "{} in {}: revision {}, version {}, installed by {:?}",
            p.name,
            p.namespace,
            p.revision,
            p.version.as_deref().unwrap_or("unknown"),
            p.installer
        )
    };
    found.planes.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn is_webhook_starting(fault: &Fault) -> bool {
    fault.message.contains("failed calling webhook") && fault.message.contains("validation.istio.io")
}

/// Keeps profile, values and version in the cluster: istioctl keeps none of them.
async fn remember(cluster: &Cluster, wanted: &Wanted<'_>, version: &str) -> Result<()> {
    let data = serde_json::to_value(wanted.memory(version)).unwrap_or_default();
    let manifest = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": decide::MEMORY, "namespace": SYSTEM, "labels": {"app.kubernetes.io/managed-by": "meshstep"}},
        "data": data,
    });
    cluster.apply(&manifest, SYSTEM, false).await.map(drop)
}
