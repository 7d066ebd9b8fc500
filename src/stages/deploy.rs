//! Stage `deploy`: each service, namespace by namespace, to a proven end.

mod preflight;
mod prove;
pub mod tolerate;

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Namespace;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::names::ObjectName;
use crate::base::place::Place;
use crate::clients::kube::{Applied as KubeApplied, Cluster};
use crate::domain::releases::argv::Wanted;
use crate::domain::releases::helm::Helm;
use crate::domain::releases::parse::Status;
use crate::domain::releases::plan::{self, Applied, Permit, Seen};
use crate::domain::routes::PublicHost;
use crate::domain::services::apply::{self, Change};
use crate::domain::services::manifests::{self, Manifest};
use crate::domain::services::preflight::Apply;
use crate::domain::services::preflight::makers::Made;
use crate::domain::services::rollout::policy::Policy;
use crate::domain::services::rollout::seen::Kind;
use crate::domain::services::watch::{Follower, Heard, Success, Target};
use crate::engine::record::{Case, CaseBuilder, Done};
use crate::engine::{Ctx, Readiness, Stage};
use crate::stages::availability::Watch;
use crate::stages::deploy::prove::Proof;
use crate::stages::deploy::tolerate::Tolerate;
use crate::stages::namespaces::{self, Named};
use crate::stages::{Seconds, Shared};

/// An item of `services:`. Either `chart` or `manifests`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Service {
    /// Name of the service; also of its helm release when it comes from a chart.
    pub name: String,
    /// Folder of a helm chart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chart: Option<String>,
    /// A file or a folder of manifests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifests: Option<String>,
    /// What runs afterwards is proven to be this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// In this order; the next only after the one before is proven.
    #[serde(default = "default_namespaces")]
    #[schemars(length(min = 1))]
    pub namespaces: Vec<ServiceNamespace>,
    /// How long the rollout may take in each namespace.
    #[serde(default = "default_timeout")]
    #[schemars(with = "String", regex(pattern = crate::stages::DURATION_PATTERN))]
    pub timeout: Seconds,
    #[serde(default)]
    pub on_failure: OnFailure,
    /// How patient the verdict on the rollout is, by failure code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerate: Option<Tolerate>,
}

impl Service {
    pub fn policy(&self) -> Policy {
        self.tolerate.as_ref().map(Tolerate::policy).unwrap_or_default()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ServiceNamespace {
    Name(String),
    WithValues(NamespaceValues),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NamespaceValues {
    pub name: String,
    /// Values files of the chart for this namespace.
    #[serde(default)]
    pub values: Vec<String>,
    /// Make the namespace when it is missing.
    #[serde(default)]
    pub create: bool,
}

impl ServiceNamespace {
    pub fn name(&self) -> &str {
        match self {
            ServiceNamespace::Name(name) => name,
            ServiceNamespace::WithValues(namespace) => &namespace.name,
        }
    }

    pub fn values(&self) -> &[String] {
        match self {
            ServiceNamespace::Name(_) => &[],
            ServiceNamespace::WithValues(namespace) => &namespace.values,
        }
    }

    pub fn create(&self) -> bool {
        matches!(self, ServiceNamespace::WithValues(namespace) if namespace.create)
    }
}

/// What happens to a service whose rollout failed, after the evidence is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    #[default]
    Keep,
    Rollback,
}

fn default_namespaces() -> Vec<ServiceNamespace> {
    vec![ServiceNamespace::Name("default".to_owned())]
}

fn default_timeout() -> Seconds {
    Seconds::from_secs(300)
}

/// Each service, namespace by namespace; the next namespace only after the one before is proven.
pub struct DeployStage;

#[async_trait]
impl Stage<Shared> for DeployStage {
    fn id(&self) -> &'static str {
        "deploy"
    }

    async fn check(&self, ctx: &Ctx<Shared>) -> Result<Readiness> {
        let shared = &ctx.shared;
        if shared.pipeline.services.is_empty() {
            return Ok(Readiness::Skip("no services: section in the file".to_owned()));
        }
        let mut chosen = 0;
        for (index, service) in chosen_services(shared) {
            chosen += 1;
            // What is wrong with the files is said before anything is touched.
            files_are_there(shared, index, service)?;
            if let Some(file) = &service.manifests {
                for namespace in service.namespaces.iter().filter(|n| shared.filters.namespace(n.name())) {
                    read_manifests(shared, index, service, file, namespace.name())?;
                }
            }
        }
        Ok(if chosen == 0 { Readiness::Skip("no service of the file is chosen by --service".to_owned()) } else { Readiness::Ready })
    }

    async fn apply(&self, ctx: &Ctx<Shared>) -> Result<()> {
        let cluster = ctx.shared.cluster().await?;
        // No service is touched while a namespace of another one is missing.
        if !namespaces::all_there(ctx, &cluster, &namespaces::of_services(&ctx.shared)).await? {
            return Ok(());
        }
        let uses_charts = chosen_services(&ctx.shared).any(|(_, service)| service.chart.is_some());
        let helm = if uses_charts { Some(Helm::open(&ctx.shared.tools, cluster.kubeconfig()).await?) } else { None };
        let mut steps = Vec::new();
        for (index, service) in chosen_services(&ctx.shared) {
            let namespaces = service.namespaces.iter().enumerate().filter(|(_, n)| ctx.shared.filters.namespace(n.name()));
            let before = steps.len();
            steps.extend(namespaces.map(|(at, namespace)| Step { ctx, cluster: &cluster, helm: helm.as_ref(), index, at, service, namespace }));
            if steps.len() == before {
                ctx.record.case("namespaces").service(&service.name).skip("none of its namespaces is chosen by --namespace");
            }
        }
        // Nothing is touched while one of them is doomed.
        let Some(seen) = preflight::all(&steps).await else { return Ok(()) };
        let touched = |host: &PublicHost| chosen_services(&ctx.shared).any(|(_, service)| service.name == host.service);
        let watch = Watch::start(ctx, |host| touched(host) && ctx.shared.filters.namespace(&host.namespace)).await;
        let mut failed: Option<(usize, String)> = None;
        for (step, seen) in steps.iter().zip(seen) {
            match &failed {
                Some((index, reason)) if *index == step.index => step.case(step.first_case()).skip(reason),
                _ => failed = step.run(seen, &watch).await.err().map(|reason| (step.index, reason)),
            }
        }
        watch.end(ctx).await;
        Ok(())
    }
}

/// Deploys one service to one namespace again, proofs and all, with this image in place of the file's.
///
/// # Errors
/// When one of its cases failed; the case says why.
pub(super) async fn again(ctx: &Ctx<Shared>, name: &str, namespace: &str, image: Option<String>) -> Result<()> {
    let shared = &ctx.shared;
    let found = shared.pipeline.services.iter().enumerate().find(|(_, service)| service.name == name);
    let there = found.and_then(|(index, service)| Some((index, service, service.namespaces.iter().position(|n| n.name() == namespace)?)));
    let Some((index, service, at)) = there else {
        return Err(Fault::new(Code::NotFound, format!("no item of `services:` deploys {name} to {namespace}")));
    };
    let cluster = shared.cluster().await?;
    let helm = if service.chart.is_some() { Some(Helm::open(&shared.tools, cluster.kubeconfig()).await?) } else { None };
    let service = Service { image: image.or_else(|| service.image.clone()), ..service.clone() };
    // Whoever asked for it watches the hosts already.
    let watch = Watch::start(ctx, |_| false).await;
    let step = Step { ctx, cluster: &cluster, helm: helm.as_ref(), index, at, service: &service, namespace: &service.namespaces[at] };
    let failed = |needs: String| Fault::new(Code::StaleCertificate, format!("{name} was deployed again in {namespace}, and it {needs}"));
    let seen = preflight::all(std::slice::from_ref(&step)).await.and_then(|mut seen| seen.pop());
    let seen = seen.ok_or_else(|| failed(format!("needs {} (failed)", step.named("preflight"))))?;
    step.run(seen, &watch).await.map_err(failed)
}

fn chosen_services(shared: &Shared) -> impl Iterator<Item = (usize, &Service)> {
    shared.pipeline.services.iter().enumerate().filter(|(_, service)| shared.filters.service(&service.name))
}

/// One service in one namespace.
struct Step<'a> {
    ctx: &'a Ctx<Shared>,
    cluster: &'a Cluster,
    helm: Option<&'a Helm>,
    index: usize,
    at: usize,
    service: &'a Service,
    namespace: &'a ServiceNamespace,
}

/// What was put into the namespace.
struct Put {
    followers: Vec<Follower>,
    /// Names of the Services among the objects.
    services: Vec<String>,
    changed: bool,
    back: Back,
}

/// The way back to what was there before.
enum Back {
    Nowhere(String),
    Revision(u32),
    Objects(Vec<Change>),
}

impl Step<'_> {
    fn first_case(&self) -> String {
        let verb = if self.service.chart.is_some() { "helm upgrade" } else { "apply" };
        format!("{verb} {}", self.namespace.name())
    }

    fn case(&self, name: impl Into<String>) -> CaseBuilder {
        self.ctx.record.case(name).service(&self.service.name).place(self.place())
    }

    fn place(&self) -> Option<&Place> {
        self.ctx.shared.place(&format!("/services/{}/namespaces/{}", self.index, self.at))
    }

    fn named(&self, what: &str) -> String {
        format!("{what} {}", self.namespace.name())
    }

    /// `Err`: the reason why the namespaces after this one are skipped.
    async fn run(&self, seen: Option<Seen>, watch: &Watch) -> std::result::Result<(), String> {
        let failed = |case: &str| format!("needs {case} (failed)");
        let first = self.first_case();
        let put = self.case(&first).run(|case| self.put(seen, case)).await.ok_or_else(|| failed(&first))?;
        if self.ctx.dry_run {
            return Ok(());
        }
        if put.changed {
            watch.acted();
        }
        let rollout = self.named("rollout");
        let Some(done) = self.case(&rollout).run(|case| self.rollout(&put, case)).await else {
            self.roll_back(put).await;
            return Err(failed(&rollout));
        };
        for what in [Proof::Image, Proof::Sidecar, Proof::Endpoints, Proof::Answer] {
            let name = self.named(what.word());
            let faults = self.ctx.record.faults().len();
            self.case(&name).run(|case| self.prove(what, &put, &done, case)).await;
            if self.ctx.record.faults().len() > faults {
                return Err(failed(&name));
            }
        }
        Ok(())
    }

    /// Makes the namespace if it may, and puts the service's objects into it.
    async fn put(&self, seen: Option<Seen>, case: Case) -> Result<Done<Put>> {
        let note = match self.namespace_there().await? {
            There::Yes => String::new(),
            There::Created => "namespace created, ".to_owned(),
            There::WillBe => {
                return Ok(Done::would_change(nothing(), format!("would deploy it; namespace {} is still to be made", self.namespace.name())));
            }
        };
        match (&self.service.chart, &self.service.manifests) {
            (Some(chart), _) => self.upgrade(chart, seen, &note, case).await,
            (None, Some(file)) => self.apply(file, &note, case).await,
            (None, None) => Err(Fault::new(Code::FileInvalid, format!("service {} has neither `chart` nor `manifests`", self.service.name))),
        }
    }

    async fn namespace_there(&self) -> Result<There> {
        let name = self.namespace.name();
        let found: Option<Namespace> = self.cluster.get("", name).await?;
        if found.is_some() {
            Ok(There::Yes)
        } else if !self.namespace_is_made() {
            Err(self.no_namespace())
        } else if self.ctx.dry_run {
            Ok(There::WillBe)
        } else {
            self.ctx.ledger.intend(&ObjectName::new("Namespace", "", name))?;
            self.cluster.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}), "", false).await?;
            Ok(There::Created)
        }
    }

    /// By this step or one before it; in a dry run also by the mesh stage.
    fn namespace_is_made(&self) -> bool {
        let until_now = chosen_services(&self.ctx.shared).filter(|(index, _)| *index <= self.index);
        let makes = |namespace: &ServiceNamespace| namespace.create() && namespace.name() == self.namespace.name();
        until_now.flat_map(|(_, service)| &service.namespaces).any(makes) || self.ctx.dry_run && self.namespace_is_the_meshs()
    }

    fn namespace_is_the_meshs(&self) -> bool {
        let name = self.namespace.name();
        self.ctx.shared.pipeline.mesh.iter().flat_map(|m| &m.inject).any(|n| n.name() == name && n.create())
    }

    fn no_namespace(&self) -> Fault {
        let (name, by_mesh) = (self.namespace.name(), self.namespace_is_the_meshs());
        namespaces::missing(&Named { name, place: self.place(), create: false, injected: false, by_mesh })
    }

    fn wanted(&self, chart: &str) -> Wanted {
        let (shared, service) = (&self.ctx.shared, self.service);
        Wanted {
            name: service.name.clone(),
            namespace: self.namespace.name().to_owned(),
            chart: shared.path(chart),
            values: self.namespace.values().iter().map(|file| shared.path(file)).collect(),
            set: service.image.iter().map(|image| ("image".to_owned(), image.clone())).collect(),
            timeout: service.timeout.0,
            take_ownership: shared.options.take_ownership,
            ..Wanted::default()
        }
    }

    async fn upgrade(&self, chart: &str, seen: Option<Seen>, note: &str, case: Case) -> Result<Done<Put>> {
        let (service, options) = (self.service, &self.ctx.shared.options);
        let helm = self.helm.ok_or_else(|| Fault::new(Code::Defect, "helm was not opened"))?;
        let (wanted, chart) = (self.wanted(chart), &self.ctx.shared.shown(chart));
        let (recover_pending, new_alb, team_change) = (options.recover_pending, options.allow_new_alb, options.allow_team_change);
        let permit = Permit { recover_pending, new_alb, team_change, preview: self.ctx.dry_run };
        let plan = plan::plan(helm, self.cluster, &wanted, permit, seen).await?;
        plan.difference.what.iter().for_each(|what| case.output(what));
        if !plan.difference.diff.is_empty() {
            case.output(&plan.difference.diff);
        }
        if self.ctx.dry_run {
            return Ok(if plan.changes() {
                Done::would_change(nothing(), plan.would())
            } else {
                Done::unchanged(nothing(), format!("unchanged, revision {}", plan.revision()))
            });
        }
        let stored = plan.stored.clone();
        let before = stored.as_ref().map(|s| manifests::rendered(&s.manifest, chart)).unwrap_or_default();
        let followers = self.follow(&before, None).await?;
        if stored.is_none() {
            self.ctx.ledger.intend(&ObjectName::new("release", self.namespace.name(), &service.name))?;
        }
        if plan.changes() {
            case.progress(if stored.is_some() { "upgrading" } else { "installing" });
        }
        let back = match &stored {
            Some(s) if s.status == Status::Deployed => Back::Revision(s.revision),
            Some(s) => Back::Nowhere(format!("revision {} before it was {}", s.revision, s.status)),
            None => Back::Nowhere("it is the first revision".to_owned()),
        };
        let applied = plan::apply(helm, self.cluster, &wanted, permit, plan).await?;
        let (objects, now) = match &applied {
            Applied::Installed(now) | Applied::Upgraded(now) => (manifests::rendered(&now.manifest, chart), Some(now)),
            Applied::Unchanged(_) => (before, stored.as_ref()),
        };
        let hooks: Vec<Manifest> = now.into_iter().flat_map(|now| &now.hooks).flat_map(|hook| manifests::rendered(hook, chart)).collect();
        let made = Made::by(&Apply { manifests: &objects, hooks: &hooks, ..Apply::to(self.namespace.name()) }, &[]);
        let followers = beside(self.follow(&objects, Some(&followers)).await?, made);
        let put = Put { followers, services: services(&objects), changed: applied.changed(), back };
        let note = format!("{note}{}", applied.note());
        Ok(if applied.changed() { Done::changed(put, note) } else { Done::unchanged(put, note) })
    }

    /// Followers of the workloads among `objects`. Before the apply there are none yet; after it only new workloads need another one.
    async fn follow(&self, objects: &[Manifest], known: Option<&[Follower]>) -> Result<Vec<Follower>> {
        let mut followers = Vec::new();
        for object in objects {
            let Some(kind) = Kind::parse(object.kind()) else { continue };
            let namespace = if object.namespace().is_empty() { self.namespace.name() } else { object.namespace() };
            let target = Target { kind, namespace: namespace.to_owned(), name: object.name().to_owned(), place: Some(object.place.clone()) };
            followers.push(match known.map(|known| known.iter().find(|f| f.target().title() == target.title())) {
                None => Follower::start(self.cluster, target, self.service.policy()).await?,
                Some(Some(known)) => known.clone(),
                Some(None) => Follower::of_new(self.cluster, target, self.service.policy()),
            });
        }
        Ok(followers)
    }

    async fn apply(&self, file: &str, note: &str, case: Case) -> Result<Done<Put>> {
        let (namespace, dry_run) = (self.namespace.name(), self.ctx.dry_run);
        let manifests = read_manifests(&self.ctx.shared, self.index, self.service, file, namespace)?;
        let followers = if dry_run { Vec::new() } else { self.follow(&manifests, None).await? };
        let changes = apply::apply(
            self.cluster,
            &manifests,
            namespace,
            dry_run,
            |title| case.progress(format!("applying {title}")),
            |object| self.ctx.ledger.intend(object),
        )
        .await?;
        changes.iter().filter(|c| !c.diff.is_empty()).for_each(|change| case.output(&change.diff));
        let count = |which: KubeApplied| changes.iter().filter(|c| c.applied == which).count();
        let (created, changed, unchanged) = (count(KubeApplied::Created), count(KubeApplied::Changed), count(KubeApplied::Unchanged));
        let note = format!("{note}{created} created, {changed} changed, {unchanged} unchanged");
        let any = created + changed > 0;
        let followers = beside(followers, Made::by(&Apply { manifests: &manifests, ..Apply::to(namespace) }, &[]));
        let put = Put { followers, services: services(&manifests), changed: any, back: Back::Objects(changes) };
        Ok(match (any, dry_run) {
            (false, _) => Done::unchanged(put, note),
            (true, true) => Done::would_change(put, note),
            (true, false) => Done::changed(put, note),
        })
    }

    /// All workloads at once; the first that fails ends the wait.
    async fn rollout(&self, put: &Put, case: Case) -> Result<Done<Vec<Success>>> {
        if put.followers.is_empty() {
            return Ok(Done::unchanged(Vec::new(), "there is no workload among the objects"));
        }
        let many = put.followers.len() > 1;
        let each = put.followers.iter().map(|follower| {
            let (case, name) = (case.clone(), follower.target().name.clone());
            async move {
                let hear = |heard: Heard<'_>| match heard {
                    Heard::Progress(text) if many => case.progress(format!("{name}: {text}")),
                    Heard::Progress(text) => case.progress(text),
                    Heard::Observed(kind, data) => case.observed(kind, &data),
                };
                follower.finish(self.service.timeout.0, &hear).await
            }
        });
        let done = futures::future::try_join_all(each).await?;
        let mut notes = Vec::new();
        for (follower, success) in put.followers.iter().zip(&done) {
            success.warnings.iter().for_each(|warning| case.warn(format!("{}: {warning}", follower.target().name)));
            notes.push(if many { format!("{} {}", follower.target().name, success.note) } else { success.note.clone() });
        }
        Ok(Done::unchanged(done, notes.join(", ")))
    }

    /// `on-failure: rollback`: the evidence is in the report by now.
    async fn roll_back(&self, put: Put) {
        if self.service.on_failure != OnFailure::Rollback || self.ctx.record.aborted().is_some() {
            return;
        }
        let case = self.case(self.named("rollback"));
        if !put.changed {
            return case.skip("this run changed nothing");
        }
        let timeout = self.service.timeout.0;
        case.run(|case| async move {
            let note = match &put.back {
                Back::Nowhere(why) => return Ok(Done::Skipped(format!("there is nothing to go back to: {why}"))),
                Back::Revision(revision) => {
                    let helm = self.helm.ok_or_else(|| Fault::new(Code::Defect, "helm was not opened"))?;
                    helm.rollback(self.namespace.name(), &self.service.name, *revision, timeout).await?;
                    format!("back at revision {revision}")
                }
                Back::Objects(changes) if changes.iter().all(|c| c.applied == KubeApplied::Created) => {
                    return Ok(Done::Skipped("there is nothing to go back to: all objects are new".to_owned()));
                }
                Back::Objects(changes) => {
                    let kept = apply::put_back(self.cluster, changes, self.namespace.name()).await?;
                    kept.iter().for_each(|title| case.warn(format!("{title} was new, and is kept")));
                    "the objects are as before".to_owned()
                }
            };
            let Done::Passed { note: ready, .. } = self.rollout(&put, case).await? else { return Ok(Done::changed((), note)) };
            Ok(Done::changed((), format!("{note}, {ready}")))
        })
        .await;
    }
}

enum There {
    Yes,
    Created,
    /// A dry run; an earlier step would make it.
    WillBe,
}

/// Names of the Services among the objects.
fn services(objects: &[Manifest]) -> Vec<String> {
    objects.iter().filter(|object| object.kind() == "Service").map(|object| object.name().to_owned()).collect()
}

/// Whoever follows a workload knows what else is applied, and may make what its pods need.
fn beside(followers: Vec<Follower>, made: Made) -> Vec<Follower> {
    let made = Arc::new(made);
    followers.into_iter().map(|follower| follower.beside(&made)).collect()
}

/// A dry run puts nothing anywhere.
fn nothing() -> Put {
    Put { followers: Vec::new(), services: Vec::new(), changed: false, back: Back::Nowhere("a dry run".to_owned()) }
}

fn files_are_there(shared: &Shared, index: usize, service: &Service) -> Result<()> {
    let missing = |what: &str, path: &str, pointer: String| {
        let message = format!("{what} of service {} does not exist: `{path}`", service.name);
        Fault::new(Code::FileUnreadable, message).at(shared.place(&pointer))
    };
    if let Some(chart) = &service.chart
        && !shared.path(chart).join("Chart.yaml").is_file()
    {
        return Err(missing("the chart", chart, format!("/services/{index}/chart")).next("`chart` names a folder with a Chart.yaml"));
    }
    for (at, namespace) in service.namespaces.iter().enumerate() {
        if let Some((n, file)) = namespace.values().iter().enumerate().find(|(_, file)| !shared.path(file).is_file()) {
            return Err(missing("a values file", file, format!("/services/{index}/namespaces/{at}/values/{n}")));
        }
    }
    Ok(())
}

/// The manifests as they are applied to this namespace: in order, with the image filled in.
fn read_manifests(shared: &Shared, index: usize, service: &Service, file: &str, namespace: &str) -> Result<Vec<Manifest>> {
    let pointer = format!("/services/{index}/manifests");
    let mut manifests = manifests::load(&shared.path(file), &shared.shown(file)).map_err(|fault| fault.at(shared.place(&pointer)))?;
    manifests::check_namespace(&manifests, namespace)?;
    if let Some(image) = &service.image {
        manifests::fill_image(&mut manifests, image)?;
    }
    Ok(manifests)
}
