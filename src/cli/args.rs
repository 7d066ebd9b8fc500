//! The command line: pure clap structures, no decisions.

mod routes;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use self::routes::{OnlyLook, RoutesArgs, RoutesCommand, UpsertArgs, ValuesFile};

#[derive(Debug, Parser)]
#[command(name = "meshstep", version, about, long_about = None, propagate_version = true, disable_help_subcommand = true, max_term_width = 110)]
#[command(after_help = "Examples:
  meshstep run --sandbox               the whole runbook on a simulated cluster
  meshstep validate -f meshstep.yaml   check the file offline
  meshstep run -f meshstep.yaml --var TAG=1.4.2
  meshstep deploy --service app1-service --var TAG=1.4.2
  meshstep explain crash_loop

Exit codes: 0 ok, 2 usage, 3 invalid file, 4 prerequisite missing,
5 judged broken, 6 timed out, 7 environment, 8 left behind, 9 locked,
10 changes pending, 11 approval needed, 130/143 cancelled, 1 a defect.")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the stages of the file in order: doctor, connect, mesh, deploy, routes, releases, ingress, verify
    Run(RunArgs),
    /// Check tools, cluster and rights that the file's stages need
    Doctor(StageArgs),
    /// Connect to the cluster with a private kubeconfig
    Connect(ConnectArgs),
    /// Install Istio, label namespaces, apply common settings and the Gateway
    Mesh(MeshArgs),
    /// Deploy the services, namespace by namespace, each to a proven end
    Deploy(DeployArgs),
    /// Bring the services' entries into the virtual-services values file
    Routes(RoutesArgs),
    /// Install or upgrade the virtual-services and alb-istio-ingress releases
    Releases(ReleasesArgs),
    /// Wait until the load balancer really serves
    Ingress(IngressArgs),
    /// Ask every host through the load balancer
    Verify(VerifyArgs),
    /// Restart workloads whose certificate is proven stale, once
    Redeploy(RedeployArgs),
    /// Draw the verdicts of a recorded run again, offline
    Replay(ReplayArgs),
    /// Probe each host from inside the cluster, and say where its fault lies
    Troubleshoot(TroubleshootArgs),
    /// Take away what the file made, only ever by the cluster's name
    #[command(after_help = "The order: releases with a load balancer (until AWS has nothing of it any
more), the other releases, the objects of the mesh files,
`istioctl uninstall --purge`, namespace istio-system. Services of the file stay.")]
    Cleanup(CleanupArgs),
    /// Check the pipeline file offline
    Validate(ValidateArgs),
    /// Write a first pipeline file from a folder, and from what runs in a cluster
    Init(InitArgs),
    /// Say what a failure code means and what to do
    Explain(ExplainArgs),
    /// Work with the reports of finished runs
    #[command(subcommand)]
    Report(ReportCommand),
    /// A simulated cluster, AWS and gateway on this machine
    #[command(subcommand)]
    Sandbox(SandboxCommand),
    /// Print an EKS token as an exec credential for kubectl and helm
    Token(TokenArgs),
    /// Print the JSON Schema of the pipeline file
    Schema,
    /// Print shell completions
    Completions { shell: clap_complete::Shell },
    /// Write the manual pages into a folder
    Man {
        /// Folder to write to
        #[arg(default_value = "man")]
        dir: PathBuf,
    },
    /// What the sandbox's stand-in tools call
    #[command(hide = true, disable_help_flag = true)]
    SandboxTool {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

/// Flags of every stage.
#[derive(Clone, Debug, Args)]
pub struct StageArgs {
    /// The pipeline file
    #[arg(short, long, value_name = "FILE", default_value = "meshstep.yaml", env = "MESHSTEP_FILE")]
    pub file: PathBuf,
    /// Run on a simulated cluster; with a file, on that world
    #[arg(long, value_name = "WORLD.yaml", num_args = 0..=1, require_equals = true)]
    pub sandbox: Option<Option<PathBuf>>,
    /// Touch nothing; show what would change
    #[arg(long)]
    pub dry_run: bool,
    /// Only this service (may be repeated)
    #[arg(long, value_name = "NAME")]
    pub service: Vec<String>,
    /// Only this namespace (may be repeated)
    #[arg(long, value_name = "NAME")]
    pub namespace: Vec<String>,
    /// Only this host (may be repeated)
    #[arg(long, value_name = "HOST")]
    pub host: Vec<String>,
    /// Fill ${KEY} in the file; MESHSTEP_VAR_KEY does the same
    #[arg(long = "var", value_name = "KEY=VALUE", value_parser = key_value)]
    pub vars: Vec<(String, String)>,
    /// The command as a whole may take this long, e.g. 30m
    #[arg(long, value_name = "DURATION", env = "MESHSTEP_TIMEOUT", value_parser = duration)]
    pub timeout: Option<crate::stages::Seconds>,
    /// Exit 0 although cases failed (for pipelines that mark a build unstable from the report)
    #[arg(long)]
    pub exit_zero: bool,
    #[command(flatten)]
    pub report: ReportArgs,
}

/// How a run is told.
#[derive(Clone, Debug, Args)]
pub struct ReportArgs {
    /// Folder of the reports
    #[arg(long, value_name = "DIR", default_value = "reports", env = "MESHSTEP_REPORT_DIR", help_heading = "Output")]
    pub report_dir: PathBuf,
    /// Dialect of the JUnit files: strict passes junit-10.xsd
    #[arg(long, value_enum, default_value_t = Flavor::Rich, help_heading = "Output")]
    pub junit_flavor: Flavor,
    #[command(flatten)]
    pub console: ConsoleArgs,
}

#[derive(Clone, Debug, Args)]
pub struct ConsoleArgs {
    /// Standard output for people, or one JSON document for machines
    #[arg(long, value_enum, default_value_t = Output::Text, env = "MESHSTEP_OUTPUT", help_heading = "Output")]
    pub output: Output,
    /// Only failures and the summary
    #[arg(short, long, conflicts_with = "verbose", help_heading = "Output")]
    pub quiet: bool,
    /// More: what is waited for, commands that are run
    #[arg(short, long, help_heading = "Output")]
    pub verbose: bool,
    /// Colours
    #[arg(long, value_enum, default_value_t = Color::Auto, env = "MESHSTEP_COLOR", help_heading = "Output")]
    pub color: Color,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Flavor {
    Rich,
    Strict,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub stage: StageArgs,
    #[command(flatten)]
    pub lock: LockFlags,
    /// Only these stages
    #[arg(long, value_name = "A,B", value_delimiter = ',', conflicts_with_all = ["from", "until"])]
    pub only: Vec<String>,
    /// Start with this stage
    #[arg(long, value_name = "STAGE")]
    pub from: Option<String>,
    /// End with this stage
    #[arg(long, value_name = "STAGE")]
    pub until: Option<String>,
    #[command(flatten)]
    pub mesh: MeshFlags,
    #[command(flatten)]
    pub preflight: PreflightFlag,
    #[command(flatten)]
    pub releases: ReleasesFlags,
    #[command(flatten)]
    pub repair: RepairFlags,
    #[command(flatten)]
    pub cacert: CacertFlag,
}

#[derive(Debug, Args)]
pub struct ConnectArgs {
    #[command(flatten)]
    pub stage: StageArgs,
    /// Also write the cluster into your own kubeconfig (the first of KUBECONFIG, else ~/.kube/config) and make it the current context
    #[arg(long)]
    pub write_kubeconfig: bool,
}

#[derive(Debug, Args)]
pub struct MeshArgs {
    #[command(flatten)]
    pub stage: StageArgs,
    #[command(flatten)]
    pub lock: LockFlags,
    #[command(flatten)]
    pub mesh: MeshFlags,
}

#[derive(Debug, Args)]
pub struct DeployArgs {
    #[command(flatten)]
    pub stage: StageArgs,
    #[command(flatten)]
    pub lock: LockFlags,
    #[command(flatten)]
    pub preflight: PreflightFlag,
}

#[derive(Debug, Args)]
pub struct PreflightFlag {
    /// Deploy without asking first, by dry runs, whether it would fail
    #[arg(long)]
    pub no_preflight: bool,
}

/// Of stages that change the cluster.
#[derive(Debug, Args)]
pub struct LockFlags {
    /// How long to wait for a run that holds the lock
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    pub lock_timeout: crate::stages::Seconds,
    /// Who asks for the lock: runs of one id share it [default: the build's id]
    #[arg(long, value_name = "ID", env = "MESHSTEP_LOCK_ID")]
    pub lock_id: Option<String>,
}

#[derive(Debug, Args)]
pub struct MeshFlags {
    /// Allow another version, revision or installer of Istio than the one that runs
    #[arg(long)]
    pub allow_mesh_change: bool,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_precedence_over_arg = true)]
pub struct ReleasesArgs {
    #[command(subcommand)]
    pub command: Option<ReleasesCommand>,
    #[command(flatten)]
    pub apply: ReleasesApplyArgs,
}

#[derive(Debug, Subcommand)]
pub enum ReleasesCommand {
    /// Show what an apply would change; touches nothing
    Plan(ReleasesApplyArgs),
    /// Install or upgrade each release of the file, as without a subcommand
    Apply(ReleasesApplyArgs),
    /// Say in which state the releases are
    Status {
        /// Only these
        names: Vec<String>,
        #[command(flatten)]
        stage: StageArgs,
    },
    /// List the kept revisions of a release
    History {
        name: String,
        #[command(flatten)]
        stage: StageArgs,
    },
    /// Go back to a revision, by default to the newest good one before the current
    Rollback {
        name: String,
        #[arg(long, value_name = "REVISION")]
        to: Option<u32>,
        #[command(flatten)]
        stage: StageArgs,
        #[command(flatten)]
        lock: LockFlags,
    },
    /// Remove a release and its objects, by its name only
    Remove {
        name: String,
        #[command(flatten)]
        stage: StageArgs,
        #[command(flatten)]
        lock: LockFlags,
    },
}

#[derive(Debug, Args)]
pub struct ReleasesApplyArgs {
    #[command(flatten)]
    pub stage: StageArgs,
    #[command(flatten)]
    pub lock: LockFlags,
    #[command(flatten)]
    pub releases: ReleasesFlags,
    /// Change nothing; exit 10 if something would change
    #[arg(long)]
    pub check: bool,
}

#[derive(Debug, Args)]
pub struct ReleasesFlags {
    /// Recover a release that a killed helm left pending
    #[arg(long)]
    pub recover_pending: bool,
    /// Allow an upgrade that replaces the load balancer
    #[arg(long)]
    pub allow_new_alb: bool,
    /// Allow another team's values for a release
    #[arg(long)]
    pub allow_team_change: bool,
    /// Take over objects that are not helm's or another release's
    #[arg(long)]
    pub take_ownership: bool,
}

#[derive(Debug, Args)]
pub struct RepairFlags {
    /// Exit 5 when a fault had to be repaired
    #[arg(long)]
    pub fail_on_repair: bool,
}

#[derive(Debug, Args)]
pub struct RedeployArgs {
    #[command(flatten)]
    pub stage: StageArgs,
    #[command(flatten)]
    pub lock: LockFlags,
    #[command(flatten)]
    pub repair: RepairFlags,
    #[command(flatten)]
    pub cacert: CacertFlag,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_precedence_over_arg = true)]
pub struct TroubleshootArgs {
    #[command(subcommand)]
    pub command: Option<TroubleshootCommand>,
    #[command(flatten)]
    pub stage: StageArgs,
    #[command(flatten)]
    pub cacert: CacertFlag,
}

#[derive(Debug, Subcommand)]
pub enum TroubleshootCommand {
    /// Which root and certificate every proxy of the mesh holds, and what is wrong with them
    Certificates(StageArgs),
}

#[derive(Debug, Args)]
pub struct CleanupArgs {
    /// Name of the file's cluster: what is destroyed is destroyed there
    #[arg(long, value_name = "CLUSTER", required_unless_present = "dry_run")]
    pub yes: Option<String>,
    /// Delete the mesh's CA with its namespace although pods still run with a sidecar
    #[arg(long)]
    pub discard_ca: bool,
    /// Destroy what others have in the mesh, too
    #[arg(long)]
    pub purge_foreign: bool,
    #[command(flatten)]
    pub stage: StageArgs,
    #[command(flatten)]
    pub lock: LockFlags,
}

#[derive(Debug, Args)]
pub struct CacertFlag {
    /// Trust these certificates too (PEM)
    #[arg(long, value_name = "FILE", env = "MESHSTEP_CACERT")]
    pub cacert: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct IngressArgs {
    #[command(flatten)]
    pub stage: StageArgs,
    #[command(flatten)]
    pub cacert: CacertFlag,
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    pub stage: StageArgs,
    /// Ask from this agent, or from a short-lived pod inside the cluster [default: as the file says, else agent]
    #[arg(long, value_enum, value_name = "WHERE", conflicts_with = "address")]
    pub from: Option<FromArg>,
    /// Ask only the kth of n equal shares of the checks
    #[arg(long, value_name = "K/N", value_parser = shard)]
    pub shard: Option<crate::stages::Shard>,
    #[command(flatten)]
    pub lock: LockFlags,
    #[command(flatten)]
    pub repair: RepairFlags,
    #[command(flatten)]
    pub cacert: CacertFlag,
    #[command(flatten)]
    pub direct: DirectArgs,
}

/// A check alone, from flags, without a pipeline file.
#[derive(Debug, Args)]
pub struct DirectArgs {
    /// Ask this address instead of the load balancer of the file; needs --host or --hosts-file. Each host has --timeout to answer rightly (10s)
    #[arg(
        long,
        value_name = "HOST:PORT",
        conflicts_with_all = ["sandbox", "dry_run", "service", "namespace"],
        help_heading = "Without a pipeline file"
    )]
    pub address: Option<String>,
    /// A file with one host a line
    #[arg(long, value_name = "FILE", requires = "address", help_heading = "Without a pipeline file")]
    pub hosts_file: Option<PathBuf>,
    #[arg(long, value_enum, requires = "address", help_heading = "Without a pipeline file")]
    pub scheme: Option<SchemeArg>,
    #[arg(long, value_name = "PATH", requires = "address", help_heading = "Without a pipeline file")]
    pub path: Option<String>,
    /// The status that is right
    #[arg(long, value_name = "CODE", requires = "address", value_parser = clap::value_parser!(u16).range(100..600), help_heading = "Without a pipeline file")]
    pub status: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FromArg {
    Agent,
    Cluster,
}

impl From<FromArg> for crate::stages::verify::AskedFrom {
    fn from(arg: FromArg) -> Self {
        match arg {
            FromArg::Agent => Self::Agent,
            FromArg::Cluster => Self::Cluster,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SchemeArg {
    Http,
    Https,
}

#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// The pipeline file
    #[arg(short, long, value_name = "FILE", default_value = "meshstep.yaml", env = "MESHSTEP_FILE")]
    pub file: PathBuf,
    /// Fill ${KEY} in the file; MESHSTEP_VAR_KEY does the same
    #[arg(long = "var", value_name = "KEY=VALUE", value_parser = key_value)]
    pub vars: Vec<(String, String)>,
    #[command(flatten)]
    pub console: ConsoleArgs,
}

#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The run.jsonl of a run
    #[arg(value_name = "run.jsonl")]
    pub file: PathBuf,
    #[command(flatten)]
    pub console: ConsoleArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  meshstep init             from the charts, values files and manifests here
  meshstep init --context   and from what the current kubeconfig context runs
  meshstep init deploy --cluster shop-eks --region ap-southeast-1 --team bi")]
pub struct InitArgs {
    /// The folder; the file's paths are relative to it
    #[arg(default_value = ".")]
    pub dir: PathBuf,
    /// Name of the file in the folder
    #[arg(short, long, value_name = "NAME", default_value = "meshstep.yaml")]
    pub file: PathBuf,
    /// Look at a cluster, too: at this kubeconfig context, or at the current one
    #[arg(long, value_name = "NAME", num_args = 0..=1)]
    pub context: Option<Option<String>>,
    /// Name of the EKS cluster
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// AWS Region of the cluster [default: AWS_REGION, or that of the certificates in the folder]
    #[arg(long)]
    pub region: Option<String>,
    /// Name of the pipeline [default: the folder's]
    #[arg(long)]
    pub name: Option<String>,
    /// Whose values file the load balancer's release takes
    #[arg(long)]
    pub team: Option<String>,
    /// Replace a file that is there
    #[arg(long)]
    pub force: bool,
    /// Print the file, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The code, as reports show it; without it, all codes
    pub code: Option<String>,
    #[arg(long, value_enum, default_value_t = Output::Text, env = "MESHSTEP_OUTPUT")]
    pub output: Output,
}

#[derive(Debug, Subcommand)]
pub enum ReportCommand {
    /// Merge the reports of stages or shards into one folder
    Merge {
        /// Folders with a run.jsonl each
        #[arg(required = true)]
        from: Vec<PathBuf>,
        #[command(flatten)]
        report: ReportArgs,
    },
    /// Show a finished run's summary
    Show {
        #[command(flatten)]
        report: ReportArgs,
    },
    /// Write index.html from run.jsonl
    Html {
        #[command(flatten)]
        report: ReportArgs,
    },
    /// Write all files anew from run.jsonl
    Rebuild {
        #[command(flatten)]
        report: ReportArgs,
    },
}

#[derive(Debug, Subcommand)]
pub enum SandboxCommand {
    /// Serve a sandbox until it is stopped; prints the environment for a second terminal
    #[command(after_help = "In the second terminal:
  eval \"$(cat sandbox.env)\"        # with: meshstep sandbox serve --env-file sandbox.env
  kubectl get pods -A; helm list -A; meshstep deploy -f meshstep.yaml")]
    Serve {
        /// The world to simulate
        #[arg(long, value_name = "WORLD.yaml")]
        world: Option<PathBuf>,
        /// Write the environment to this file, too, as soon as all answers
        #[arg(long, value_name = "FILE")]
        env_file: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub struct TokenArgs {
    /// Name of the EKS cluster
    #[arg(long)]
    pub cluster: String,
    #[arg(long)]
    pub region: String,
    #[arg(long)]
    pub profile: Option<String>,
    #[arg(long)]
    pub role_arn: Option<String>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE".to_owned()),
    }
}

fn shard(text: &str) -> Result<crate::stages::Shard, String> {
    crate::stages::Shard::parse(text).ok_or_else(|| "write it as K/N, e.g. 1/4".to_owned())
}

fn duration(text: &str) -> Result<crate::stages::Seconds, String> {
    crate::stages::Seconds::parse(text).ok_or_else(|| "write a duration such as 90s, 5m or 1m30s".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_world_needs_an_equals_sign_and_a_bare_flag_is_the_default_world() {
        let world = |args: &[&str]| match Cli::try_parse_from(args).expect("parses").command {
            Command::Run(run) => run.stage.sandbox,
            _ => panic!("run"),
        };
        assert_eq!(world(&["meshstep", "run"]), None);
        assert_eq!(world(&["meshstep", "run", "--sandbox"]), Some(None));
        assert_eq!(world(&["meshstep", "run", "--sandbox=w.yaml"]), Some(Some("w.yaml".into())));
    }
}
