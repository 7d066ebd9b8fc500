//! `meshstep routes`: the stage, and the values file alone.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{ConsoleArgs, StageArgs, key_value};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_precedence_over_arg = true)]
pub struct RoutesArgs {
    #[command(subcommand)]
    pub command: Option<RoutesCommand>,
    #[command(flatten)]
    pub stage: StageArgs,
    /// Write nothing; exit 10 if something would change
    #[arg(long)]
    pub check: bool,
}

#[derive(Debug, Subcommand)]
pub enum RoutesCommand {
    /// Insert an entry, or bring it up to date
    #[command(after_help = "Example:
  meshstep routes upsert values.yaml --virtual-name app1-virtual-svc \\
    --name app1-service --port 8000 --prefix / \\
    --route prod=app1.public.domain,app1-service.prod.svc.cluster.local")]
    Upsert(UpsertArgs),
    /// Remove an entry
    Remove {
        #[command(flatten)]
        file: ValuesFile,
        #[command(flatten)]
        only_look: OnlyLook,
        #[arg(long, value_name = "NAME")]
        virtual_name: String,
    },
    /// List the entries
    List {
        #[command(flatten)]
        file: ValuesFile,
    },
    /// Check the entries against each other and the rules of Istio
    Check {
        #[command(flatten)]
        file: ValuesFile,
    },
}

#[derive(Debug, Args)]
pub struct ValuesFile {
    /// The values file of the virtual-services chart
    pub values: PathBuf,
    /// Key of the list; by default the one whose items have virtualName
    #[arg(long, value_name = "KEY")]
    pub list_key: Option<String>,
    #[command(flatten)]
    pub console: ConsoleArgs,
}

/// Of an edit that is not to be made.
#[derive(Clone, Copy, Debug, Args)]
pub struct OnlyLook {
    /// Write nothing; show the difference
    #[arg(long)]
    pub dry_run: bool,
    /// Write nothing; exit 10 if something would change
    #[arg(long)]
    pub check: bool,
}

#[derive(Debug, Args)]
pub struct UpsertArgs {
    #[command(flatten)]
    pub file: ValuesFile,
    #[command(flatten)]
    pub only_look: OnlyLook,
    /// Name of the VirtualService
    #[arg(long, value_name = "NAME")]
    pub virtual_name: String,
    /// Name of the Kubernetes Service
    #[arg(long, value_name = "NAME")]
    pub name: String,
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,
    /// Hosts in a namespace (may be repeated)
    #[arg(long = "route", value_name = "NAMESPACE=HOST,HOST", required = true, value_parser = key_value)]
    pub routes: Vec<(String, String)>,
    /// A path prefix (may be repeated)
    #[arg(long = "prefix", value_name = "PATH")]
    pub prefixes: Vec<String>,
}
