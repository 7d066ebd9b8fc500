//! Stage `connect`: a private kubeconfig for the cluster of the file.

use std::path::PathBuf;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::place::Place;
use crate::clients::Settings;
use crate::clients::aws::{Account, Aws, ClusterInfo};
use crate::clients::kube::{self, Access, EksAccess, TokenSource};
use crate::domain::eks::{kubeconfig, reach};
use crate::engine::record::Done;
use crate::engine::{Ctx, Readiness, Stage};
use crate::stages::Shared;

/// `cluster:`: an EKS cluster by name and Region, or a kubeconfig context as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Cluster {
    Eks(Eks),
    Context(KubeContext),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Eks {
    /// Name of the EKS cluster.
    pub name: String,
    /// AWS Region, e.g. `ap-southeast-1`.
    pub region: String,
    /// AWS profile; by default the SDK's usual chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// A role to assume first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct KubeContext {
    /// A context of the kubeconfig (KUBECONFIG or `~/.kube/config`), used as it is.
    pub context: String,
}

/// What is opened once per run: AWS, the cluster's description, the connection.
#[derive(Default)]
pub struct Holder {
    aws: OnceCell<Aws>,
    info: OnceCell<ClusterInfo>,
    cluster: OnceCell<kube::Cluster>,
}

/// The stage.
pub struct Connect;

#[async_trait]
impl Stage<Shared> for Connect {
    fn id(&self) -> &'static str {
        "connect"
    }

    async fn check(&self, _ctx: &Ctx<Shared>) -> Result<Readiness> {
        Ok(Readiness::Ready)
    }

    /// A dry run connects all the same: it only reads, and needs the connection itself.
    async fn apply(&self, ctx: &Ctx<Shared>) -> Result<()> {
        let (shared, place) = (&ctx.shared, ctx.shared.place("/cluster").cloned());
        let case = |name: String| ctx.record.case(name).place(place.as_ref());
        if let Cluster::Eks(eks) = &shared.pipeline.cluster {
            let described = case(format!("describe cluster {}", eks.name)).run(|case| async move {
                let info = describe(shared, eks).await?;
                case.property("cluster.arn", &info.arn);
                case.property("cluster.version", &info.version);
                let note = format!("{}, Kubernetes {}, {}", info.status, info.version, endpoint_words(info));
                Ok(Done::unchanged((), note))
            });
            if described.await.is_none() {
                return Ok(());
            }
        }
        let ready = case("kubeconfig".to_owned()).run(|_| async move {
            let cluster = shared.cluster().await?;
            let private = cluster.kubeconfig().display().to_string();
            match &shared.pipeline.cluster {
                Cluster::Eks(eks) if shared.options.write_kubeconfig => write_own(shared, eks, ctx.dry_run).await.map(|done| with(done, cluster)),
                _ => Ok(Done::unchanged(cluster, format!("private, in {private}"))),
            }
        });
        let Some(cluster) = ready.await else { return Ok(()) };
        case("api server answers".to_owned())
            .run(|case| async move {
                let version = match cluster.server_version().await {
                    Ok(version) => version,
                    Err(fault) => return Err(explained(shared, fault).await),
                };
                case.property("server.version", &version);
                Ok(Done::unchanged((), format!("{version} at {}", cluster.server())))
            })
            .await;
        Ok(())
    }
}

/// Connects to the cluster of the file, once per run: reads only, changes nothing outside the run's private folder.
pub async fn open(shared: &Shared) -> Result<kube::Cluster> {
    let opening = || async {
        let private = shared.run_dir.join("kubeconfig");
        let access = match &shared.pipeline.cluster {
            Cluster::Context(context) => Access::Context { context: Some(context.context.clone()), private },
            Cluster::Eks(eks) => Access::Eks(access(shared, eks, private).await?),
        };
        kube::Cluster::connect(access, &shared.settings).await.map_err(|fault| fault.at(shared.place("/cluster/context")))
    };
    shared.connection.cluster.get_or_try_init(opening).await.cloned()
}

/// AWS as the file's identity, opened once per run. With a kubeconfig context: the environment's identity and Region.
pub async fn aws(shared: &Shared) -> Result<Aws> {
    let account = match &shared.pipeline.cluster {
        Cluster::Eks(eks) => Account { region: Some(eks.region.clone()), profile: eks.profile.clone(), role_arn: eks.role_arn.clone() },
        Cluster::Context(_) => Account::default(),
    };
    shared.connection.aws.get_or_try_init(|| async { Aws::connect(&account, &shared.settings).await }).await.cloned()
}

/// What DescribeCluster said, if it was asked.
pub(super) fn described(shared: &Shared) -> Option<&ClusterInfo> {
    shared.connection.info.get()
}

/// The connection, if there is one already.
pub(super) fn opened(shared: &Shared) -> Option<&kube::Cluster> {
    shared.connection.cluster.get()
}

async fn describe<'a>(shared: &'a Shared, eks: &Eks) -> Result<&'a ClusterInfo> {
    let describing = || async {
        if let Some(fault) = reach::named_by_arn(&eks.name, &eks.region) {
            return Err(fault.at(shared.place("/cluster/name")));
        }
        let info = aws(shared).await?.describe_cluster(&eks.name).await?;
        reach::usable(&info)?;
        Ok(info)
    };
    shared.connection.info.get_or_try_init(describing).await
}

async fn access(shared: &Shared, eks: &Eks, private: PathBuf) -> Result<EksAccess> {
    let info = describe(shared, eks).await?;
    let text = kubeconfig::private(info, &exec(shared, eks)?, proxy(shared, info))?;
    kube::write_private(&private, &text)?;
    let (aws, name) = (aws(shared).await?, eks.name.clone());
    let token = TokenSource::new(move || {
        let (aws, name) = (aws.clone(), name.clone());
        async move { aws.eks_token(&name).await }
    });
    Ok(EksAccess { endpoint: info.endpoint.clone(), ca_data: info.ca_data.clone(), token, kubeconfig: private })
}

/// `--write-kubeconfig`: the cluster in the user's own kubeconfig too.
async fn write_own(shared: &Shared, eks: &Eks, dry_run: bool) -> Result<Done<()>> {
    let info = describe(shared, eks).await?;
    let path = own_kubeconfig(&shared.settings)?;
    let old = match std::fs::read_to_string(&path) {
        Ok(old) => old,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Fault::new(Code::FileUnreadable, format!("cannot read `{}`: {error}", path.display()))),
    };
    let new = kubeconfig::merge(&old, info, &exec(shared, eks)?, proxy(shared, info))
        .map_err(|fault| fault.at(Some(&Place::new(path.display().to_string(), 0, 0))))?;
    let note = format!("`{}` names {} as its current context", path.display(), info.arn);
    if new == old {
        return Ok(Done::unchanged((), note));
    }
    if dry_run {
        return Ok(Done::would_change((), format!("`{}` would get {} as its current context", path.display(), info.arn)));
    }
    kube::write_private(&path, &new)?;
    Ok(Done::changed((), note))
}

/// The file that kubectl would write: the first of KUBECONFIG, else `~/.kube/config`.
fn own_kubeconfig(settings: &Settings) -> Result<PathBuf> {
    let first = settings.get("KUBECONFIG").and_then(|list| std::env::split_paths(list).find(|path| !path.as_os_str().is_empty()));
    let own = first.or_else(|| settings.get("HOME").map(|home| PathBuf::from(home).join(".kube/config")));
    own.ok_or_else(|| {
        Fault::new(Code::FileUnreadable, "neither KUBECONFIG nor HOME is set").next("set one of them, or do without `--write-kubeconfig`")
    })
}

fn exec(shared: &Shared, eks: &Eks) -> Result<kubeconfig::Exec> {
    let program = std::env::current_exe().map_err(|error| Fault::new(Code::Defect, format!("this program does not know its own path: {error}")))?;
    // Only what an overlay adds: the tools hand their own environment on by themselves.
    let env = shared.settings.overlay().iter().filter(|(name, _)| name.starts_with("AWS_") || name.as_str() == "NO_PROXY");
    Ok(kubeconfig::Exec {
        program: program.display().to_string(),
        profile: eks.profile.clone(),
        role_arn: eks.role_arn.clone(),
        env: env.map(|(name, value)| (name.clone(), value.clone())).collect(),
    })
}

/// Go's clients read HTTPS_PROXY by themselves, but not in lower case everywhere; a written proxy is the same for all of them.
fn proxy<'a>(shared: &'a Shared, info: &ClusterInfo) -> Option<&'a str> {
    let host = info.endpoint.trim_start_matches("https://").split(['/', ':']).next().unwrap_or_default();
    shared.settings.https_proxy(host).filter(|proxy| proxy.contains("://"))
}

/// What a failed call means for the cluster of the file.
pub(super) async fn explained(shared: &Shared, fault: Fault) -> Fault {
    let Some(info) = shared.connection.info.get() else { return fault };
    let caller = match aws(shared).await {
        Ok(aws) if fault.code == Code::Unauthorized => aws.caller_arn().await.ok(),
        _ => None,
    };
    reach::explain(fault, info, caller.as_deref())
}

fn endpoint_words(info: &ClusterInfo) -> &'static str {
    match (info.public_access, info.private_access) {
        (true, true) => "public and private endpoint",
        (true, false) => "public endpoint",
        (false, _) => "private endpoint",
    }
}

fn with<T>(done: Done<()>, value: T) -> Done<T> {
    match done {
        Done::Passed { change, note, .. } => Done::Passed { value, change, note },
        Done::Repaired { story, .. } => Done::Repaired { value, story },
        Done::Skipped(reason) => Done::Skipped(reason),
    }
}
