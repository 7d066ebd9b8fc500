//! What all stages share: the pipeline, the options of this run, and the ways out.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::base::fault::Result;
use crate::base::place::{Place, Places};
use crate::clients::Settings;
use crate::clients::aws::Aws;
use crate::clients::http::Http;
use crate::clients::kube::Cluster;
use crate::clients::tools::Tools;
use crate::stages::releases::manage::Task;
use crate::stages::verify::AskedFrom;
use crate::stages::{Filters, Pipeline, connect, lock};

/// What was allowed or asked for by a flag of its own.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub allow_mesh_change: bool,
    pub recover_pending: bool,
    pub allow_new_alb: bool,
    pub allow_team_change: bool,
    pub take_ownership: bool,
    pub write_kubeconfig: bool,
    /// What the stage `releases` does.
    pub releases_task: Task,
    /// Where `verify` asks from, in the place of what the file says.
    pub asked_from: Option<AskedFrom>,
    /// The share of the checks that this run asks.
    pub shard: Option<Shard>,
    /// Deploy without asking first whether it would fail.
    pub no_preflight: bool,
    /// The cluster that `cleanup --yes` names.
    pub confirmed: Option<String>,
    pub discard_ca: bool,
    pub purge_foreign: bool,
    /// How long to wait for the lock of another run.
    pub lock_timeout: Duration,
    /// The stages that this command runs, in order: `doctor` asks only for what they need.
    pub stages: Vec<&'static str>,
    /// An extra file of trusted certificates for the checks through the load balancer.
    pub cacert: Option<PathBuf>,
}

/// The `k`th of `n` shares, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    k: usize,
    n: usize,
}

impl Default for Shard {
    fn default() -> Self {
        Self { k: 1, n: 1 }
    }
}

impl Shard {
    /// Reads `2/5`.
    pub fn parse(text: &str) -> Option<Self> {
        let (k, n) = text.split_once('/')?;
        let (k, n) = (k.trim().parse().ok()?, n.trim().parse().ok()?);
        (1 <= k && k <= n).then_some(Self { k, n })
    }

    /// Every `n`th item: what stands together in a file is spread over all shares.
    pub fn of<T>(self, items: Vec<T>) -> Vec<T> {
        items.into_iter().enumerate().filter(|(index, _)| index % self.n == self.k - 1).map(|(_, item)| item).collect()
    }
}

/// The context of every stage.
pub struct Shared {
    pub pipeline: Pipeline,
    pub places: Places,
    /// The pipeline file's folder: paths in the file are relative to it.
    pub dir: PathBuf,
    pub filters: Filters,
    pub options: Options,
    /// Identifies this run in labels and the ledger.
    pub run_id: String,
    /// Identifies this build to the lock: its stages, and a retry of it, share the lock.
    pub lock_id: String,
    pub build_url: Option<String>,
    /// A private folder (0700) for kubeconfigs and rendered files, removed at the end.
    pub run_dir: PathBuf,
    pub settings: Settings,
    pub tools: Tools,
    pub http: Http,
    pub lock: lock::Holder,
    pub connection: connect::Holder,
}

/// What a run brings; [`Shared::new`] adds what is opened when it is first needed.
pub struct Given {
    pub pipeline: Pipeline,
    pub places: Places,
    pub dir: PathBuf,
    pub filters: Filters,
    pub options: Options,
    pub run_id: String,
    pub lock_id: String,
    pub build_url: Option<String>,
    pub run_dir: PathBuf,
    pub tools: Tools,
    pub http: Http,
}

impl Shared {
    pub fn new(given: Given) -> Self {
        let Given { pipeline, places, dir, filters, options, run_id, lock_id, build_url, run_dir, tools, http } = given;
        let settings = tools.settings().clone();
        let (lock, connection) = (lock::Holder::default(), connect::Holder::default());
        Self { pipeline, places, dir, filters, options, run_id, lock_id, build_url, run_dir, settings, tools, http, lock, connection }
    }

    /// A path of the pipeline file, as the process can open it.
    pub fn path(&self, in_file: &str) -> PathBuf {
        self.dir.join(Path::new(in_file))
    }

    /// The same as a place names it: what a person or a CI host opens from where it is.
    pub fn shown(&self, in_file: &str) -> String {
        let path = self.path(in_file).display().to_string();
        path.strip_prefix("./").map(str::to_owned).unwrap_or(path)
    }

    /// Where the value at this JSON pointer stands in the pipeline file.
    pub fn place(&self, pointer: &str) -> Option<&Place> {
        self.places.at(pointer)
    }

    /// The cluster of the file, connected when it is first asked for.
    pub async fn cluster(&self) -> Result<Cluster> {
        Box::pin(connect::open(self)).await
    }

    /// AWS as the file's identity, opened when it is first asked for.
    pub async fn aws(&self) -> Result<Aws> {
        Box::pin(connect::aws(self)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_disjoint_and_whole() {
        let items: Vec<u32> = (0..10).collect();
        let shares: Vec<Vec<u32>> = ["1/3", "2/3", "3/3"].iter().map(|text| Shard::parse(text).expect("valid").of(items.clone())).collect();
        let mut all: Vec<u32> = shares.concat();
        all.sort_unstable();
        assert_eq!((all, shares[1].as_slice()), (items, &[1, 4, 7][..]));
        for wrong in ["0/3", "4/3", "1", "a/b", "1/0", "-1/3"] {
            assert_eq!(Shard::parse(wrong), None, "{wrong}");
        }
    }
}
