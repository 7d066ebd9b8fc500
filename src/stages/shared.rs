//! What all stages share: the pipeline, the options of this run, and the ways out.

use std::path::{Path, PathBuf};

use crate::base::place::{Place, Places};
use crate::stages::Pipeline;

/// Narrows a run to some services, namespaces or hosts; empty means all.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    pub services: Vec<String>,
    pub namespaces: Vec<String>,
    pub hosts: Vec<String>,
}

impl Filters {
    pub fn service(&self, name: &str) -> bool {
        self.services.is_empty() || self.services.iter().any(|s| s == name)
    }

    pub fn namespace(&self, name: &str) -> bool {
        self.namespaces.is_empty() || self.namespaces.iter().any(|n| n == name)
    }

    pub fn host(&self, host: &str) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|h| h.eq_ignore_ascii_case(host))
    }
}

/// What was allowed or asked for by a flag of its own.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub allow_mesh_change: bool,
    pub recover_pending: bool,
    pub allow_new_alb: bool,
    pub allow_team_change: bool,
    pub take_ownership: bool,
    pub write_kubeconfig: bool,
    /// The stages that this command runs, in order: `doctor` asks only for what they need.
    pub stages: Vec<&'static str>,
    /// An extra file of trusted certificates for the checks through the load balancer.
    pub cacert: Option<PathBuf>,
}

/// The context of every stage.
pub struct Shared {
    pub pipeline: Pipeline,
    pub places: Places,
    /// The pipeline file's folder: paths in the file are relative to it.
    pub dir: PathBuf,
    pub filters: Filters,
    pub options: Options,
    /// Identifies this run in labels, Leases and the ledger.
    pub run_id: String,
    /// A private folder (0700) for kubeconfigs and rendered files, removed at the end.
    pub run_dir: PathBuf,
}

impl Shared {
    /// A path of the pipeline file, as the process can open it.
    pub fn path(&self, in_file: &str) -> PathBuf {
        self.dir.join(Path::new(in_file))
    }

    /// Where the value at this JSON pointer stands in the pipeline file.
    pub fn place(&self, pointer: &str) -> Option<&Place> {
        self.places.at(pointer)
    }
}
