//! Stage `cleanup`: takes away what the file made, by the cluster's name only, in the order in which nothing is leaked.

mod balancer;
mod look;
mod mesh;

use std::future::Future;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use self::balancer::{AlbIngress, Holder, Proof};
use self::look::{Found, Release};
use crate::base::codes::Code;
use crate::base::fault::{Class, Fault, Result};
use crate::base::mutex::lock;
use crate::base::names::ObjectName;
use crate::base::place::Place;
use crate::base::text;
use crate::base::wait::{self, Patience, Poll};
use crate::clients::kube::Cluster;
use crate::domain::cleanup::namespace::listed;
use crate::domain::releases::decide::still_runs;
use crate::domain::releases::helm::Helm;
use crate::domain::services::manifests::Manifest;
use crate::engine::record::{Case, CaseBuilder, Done};
use crate::engine::{Ctx, Readiness, Stage};
use crate::stages::ingress::Account;
use crate::stages::{Shared, rights};

/// How long an object without a finalizer of somebody else may take to go.
const GOES_WITHIN: Duration = Duration::from_secs(60);

/// The stage. It is never part of `run`.
pub struct CleanupStage;

#[async_trait]
impl Stage<Shared> for CleanupStage {
    fn id(&self) -> &'static str {
        "cleanup"
    }

    /// Everything that is refused without a look at the cluster.
    async fn check(&self, ctx: &Ctx<Shared>) -> Result<Readiness> {
        let shared = &ctx.shared;
        let (name, place) = (rights::cluster_name(&shared.pipeline), shared.place("/cluster"));
        match &shared.options.confirmed {
            Some(given) if given == name => {}
            None if ctx.dry_run => {}
            given => {
                let said = given.as_ref().map_or("no cluster is named".to_owned(), |given| format!("`--yes {given}` names another cluster"));
                let message = format!("{said}; this file's cluster is {name}, and nothing was touched");
                return Err(Fault::new(Code::NotConfirmed, message).at(place).next(format!("if it is meant: `meshstep cleanup --yes {name}`")));
            }
        }
        let filters = &shared.filters;
        if !(filters.services.is_empty() && filters.namespaces.is_empty() && filters.hosts.is_empty()) {
            let message = "cleanup takes all of the file away: `--service`, `--namespace` and `--host` do not narrow it, and nothing was touched";
            return Err(Fault::new(Code::NotConfirmed, message).next("leave the filters out; `--dry-run` lists what would go"));
        }
        let pipeline = &shared.pipeline;
        if pipeline.mesh.is_none() && pipeline.releases.is_empty() && pipeline.ingress.is_none() {
            return Ok(Readiness::Skip("no mesh:, no releases: and no ingress: section in the file".to_owned()));
        }
        look::mesh_objects(shared)?;
        Ok(Readiness::Ready)
    }

    async fn apply(&self, ctx: &Ctx<Shared>) -> Result<()> {
        let shared = &ctx.shared;
        let cluster = shared.cluster().await?;
        let helm = if shared.pipeline.releases.is_empty() { None } else { Some(Helm::open(&shared.tools, cluster.kubeconfig()).await?) };
        let work = Work { ctx, cluster, helm };
        let Some(found) = work.look().await else { return Ok(()) };
        if ctx.dry_run {
            return Ok(());
        }
        Line { work: &work, broken: Mutex::default() }.run(&found).await;
        Ok(())
    }
}

struct Work<'a> {
    ctx: &'a Ctx<Shared>,
    cluster: Cluster,
    helm: Option<Helm>,
}

impl Work<'_> {
    /// Lists what will be destroyed, and refuses to destroy what is others'.
    async fn look(&self) -> Option<Found> {
        let (shared, dry_run) = (&self.ctx.shared, self.ctx.dry_run);
        let case = self.ctx.record.case("what there is");
        case.run(|case| async move {
            let found = look::found(shared, &self.cluster, self.helm.as_ref()).await?;
            let lines = found.lines();
            if !found.foreign.is_empty() {
                case.output(&format!("of others:\n{}", found.foreign.join("\n")));
                if !shared.options.purge_foreign {
                    return Err(foreign(&found.foreign));
                }
                case.warn(format!("of others, and destroyed or broken with it: {}", listed(&found.foreign)));
            }
            let Some(short) = found.in_short() else {
                let namespace = if found.namespace { "; of the mesh there is only its namespace" } else { "" };
                return Ok(Done::unchanged(found, format!("nothing was there{namespace}")));
            };
            case.output(&format!("{}\n{}", if dry_run { "would be destroyed:" } else { "will be destroyed:" }, lines.join("\n")));
            Ok(if dry_run { Done::would_change(found, format!("would destroy {short}")) } else { Done::unchanged(found, short) })
        })
        .await
    }
}

fn foreign(objects: &[String]) -> Fault {
    let message = format!(
        "{} in the mesh that this file did not make, which the purge would destroy or break: {}; nothing was touched",
        text::count(objects.len(), "thing"),
        listed(objects),
    );
    Fault::new(Code::ForeignObjects, message)
        .evidence("of others", objects.join("\n"))
        .next("talk to their owners; istioctl's purge removes the types of Istio, and with them every such object in every namespace")
        .next("destroy them too, on purpose: `--purge-foreign`")
}

/// The steps in their order. After one that failed the others are not tried: each needs what stood before it gone.
struct Line<'a> {
    work: &'a Work<'a>,
    broken: Mutex<Option<String>>,
}

impl Line<'_> {
    async fn run(&self, found: &Found) {
        let ctx = self.work.ctx;
        let (with_ingress, others) = found.releases.split_at(found.with_ingress);
        for release in with_ingress {
            self.uninstall(release).await;
        }
        self.balancers(found).await;
        for release in others {
            self.uninstall(release).await;
        }
        for (manifest, _) in &found.objects {
            let name = format!("delete {} {}/{}", manifest.kind(), look::namespace_of(manifest), manifest.name());
            self.step(ctx.record.case(&name).place(Some(&manifest.place)), name, |_| object(&self.work.cluster, manifest)).await;
        }
        if ctx.shared.pipeline.mesh.is_none() {
            for name in ["istioctl uninstall", "namespace istio-system"] {
                ctx.record.case(name).skip("no mesh: section in the file");
            }
        } else {
            self.step(self.mesh_case("istioctl uninstall"), "istioctl uninstall", |case| mesh::purge(self.work, case)).await;
            self.step(self.mesh_case("namespace istio-system"), "namespace istio-system", |case| mesh::namespace(self.work, found, case)).await;
        }
        self.step(ctx.record.case("what stays"), "what stays", |case| mesh::stays(self.work, case)).await;
    }

    fn mesh_case(&self, name: &str) -> CaseBuilder {
        self.work.ctx.record.case(name).place(self.work.ctx.shared.place("/mesh"))
    }

    fn broken(&self) -> Option<String> {
        lock(&self.broken).clone()
    }

    /// Runs a step as its case, unless one before it failed.
    async fn step<F, Fut>(&self, case: CaseBuilder, name: impl Into<String>, work: F)
    where
        F: FnOnce(Case) -> Fut,
        Fut: Future<Output = Result<Done>>,
    {
        if let Some(before) = self.broken() {
            return case.skip(format!("needs {before} (failed)"));
        }
        let failed = Mutex::new(false);
        let ended = case.run(|case| async {
            let result = work(case).await;
            *lock(&failed) = result.is_err();
            result
        });
        ended.await;
        if failed.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            *lock(&self.broken) = Some(name.into());
        }
    }

    async fn uninstall(&self, release: &Release) {
        let shared = &self.work.ctx.shared;
        let name = format!("helm uninstall {}", release.name);
        let place: Option<Place> = shared.place(&format!("/releases/{}", release.index)).cloned();
        let case = self.work.ctx.record.case(&name).service(&release.name).place(place.as_ref());
        let timeout = shared.pipeline.releases.get(release.index).map_or(GOES_WITHIN, |r| r.timeout.0);
        self.step(case, name, |case| uninstalled(self.work, release, timeout, case)).await;
    }

    async fn balancers(&self, found: &Found) {
        let (work, shared) = (self.work, &self.work.ctx.shared);
        if found.ingresses.is_empty() {
            return;
        }
        let account = match balancer::account(shared).await {
            Ok(account) => account,
            // Who cannot ask AWS can still take the cluster's part away; the case says what was not proven.
            Err(fault) => Account::Unknown(format!("AWS was not asked: {fault}")),
        };
        let tag = match look::cluster_tag(shared) {
            Some(tag) => Some(tag),
            None => balancer::tag_of(&account, &found.ingresses).await,
        };
        for alb in &found.ingresses {
            let proof = Proof { shared, cluster: &work.cluster, account: &account, tag: tag.clone(), alb, held: Mutex::new(Holder::InCluster) };
            let name = format!("load balancer of {} gone", alb.stack.ingress);
            let case = work.ctx.record.case(&name).service(&alb.stack.ingress).place(shared.place("/ingress"));
            self.step(case, name, |case| async move { self.proven(&proof, &case).await }).await;
        }
    }

    async fn proven(&self, proof: &Proof<'_>, case: &Case) -> Result<Done> {
        let result = proof.gone(case).await;
        let in_aws = *lock(&proof.held) == Holder::InAws;
        match result {
            // Nothing in the cluster holds it any more, so the rest can go all the same.
            Err(fault) if in_aws && fault.code == Code::LeftBehind => {
                self.work.ctx.record.case(format!("{} in AWS", proof.alb.stack.ingress)).service(&proof.alb.stack.ingress).fail(fault);
                Ok(Done::unchanged((), "the cluster has let go of it; what AWS still has is told beside"))
            }
            result => result,
        }
    }
}

/// Uninstalls a release. What another helm is working on is not touched.
async fn uninstalled(work: &Work<'_>, release: &Release, timeout: Duration, case: Case) -> Result<Done> {
    let Some(helm) = &work.helm else { return Ok(Done::unchanged((), "not there")) };
    let Some(stored) = helm.stored(&release.namespace, &release.name).await? else { return Ok(Done::unchanged((), "not there")) };
    if let Some(fault) = still_runs(&release.name, &stored, Timestamp::now(), timeout) {
        return Err(fault);
    }
    let note = format!("revision {} uninstalled", stored.revision);
    match helm.uninstall(&release.namespace, &release.name, timeout).await {
        Ok(()) => Ok(Done::changed((), note)),
        // The types are gone, and the objects with them: what is left of the release is its record.
        Err(fault) if fault.code == Code::NeedsEarlier => {
            case.warn(format!("{fault}: its objects went with their types, so only helm's record was removed"));
            forget(&work.cluster, release).await?;
            Ok(Done::changed((), format!("record of revision {} removed", stored.revision)))
        }
        Err(fault) => Err(fault),
    }
}

async fn forget(cluster: &Cluster, release: &Release) -> Result<()> {
    for secret in look::list(cluster, "v1", "Secret", &release.namespace, &format!("owner=helm,name={}", release.name)).await? {
        let name = secret.pointer("/metadata/name").and_then(serde_json::Value::as_str).unwrap_or_default();
        cluster.delete_object(&ObjectName::new("Secret", &release.namespace, name), "v1").await?;
    }
    Ok(())
}

/// Deletes one object of the mesh files, and sees it gone.
async fn object(cluster: &Cluster, manifest: &Manifest) -> Result<Done> {
    let (kind, api_version) = (manifest.kind(), manifest.api_version());
    if matches!(kind, "Namespace" | "CustomResourceDefinition") {
        return Ok(Done::Skipped(format!("a {kind} holds what others may have in it: it stays")));
    }
    let name = ObjectName::new(kind, look::namespace_of(manifest), manifest.name());
    if !cluster.delete_object(&name, api_version).await? {
        return Ok(Done::unchanged((), "not there"));
    }
    gone(cluster, &name, api_version, GOES_WITHIN).await?;
    Ok(Done::changed((), "deleted"))
}

/// Waits until an object is gone.
async fn gone(cluster: &Cluster, name: &ObjectName, api_version: &str, within: Duration) -> Result<()> {
    let look = || async {
        Ok(match cluster.get_object(api_version, &name.kind, &name.namespace, &name.name).await? {
            None => Poll::Ready(()),
            Some(object) => Poll::NotYet(match object.metadata.finalizers.unwrap_or_default().as_slice() {
                [] => "it is still there".to_owned(),
                held => format!("it waits for {}", held.join(", ")),
            }),
        })
    };
    let waited = wait::until(Patience::new(within, Duration::from_millis(500)), |_| {}, wait::never, look).await;
    waited.map_err(|error| {
        error.into_fault(|timed_out| {
            Fault::new(Code::LeftBehind, format!("{name} was not gone within {}: {}", text::seconds(within), timed_out.last_reason))
                .class(Class::LeftBehind)
                .next(format!("see what holds it: `kubectl get {} -o yaml`", name.for_kubectl()))
        })
    })
}
