//! The simulated AWS account: its state, and one loopback endpoint for all services behind `AWS_ENDPOINT_URL`.

mod eks;
mod elb;
mod elb_xml;
mod faults;
mod other;
mod server;
pub(super) mod state;
mod sts;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

pub(super) use faults::{AwsError, Faults};
pub(super) use server::serve;
use state::State;

use super::world::World;

/// How the cluster is reached, for DescribeCluster.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub url: String,
    /// PEM of the cluster's certificate authority.
    pub ca: String,
}

/// One AWS account in one region.
pub(super) struct Account {
    pub world: Arc<World>,
    pub faults: Faults,
    pub cluster: OnceLock<Endpoint>,
    /// Security groups open in both directions: identity of the simulated VPC's parts.
    state: Mutex<State>,
}

impl Account {
    /// # Errors
    /// When a fault's regular expression is broken.
    pub(super) fn new(world: Arc<World>) -> Result<Self, String> {
        let faults = Faults::new(&world.aws.calls)?;
        let state = Mutex::new(State::new(&world));
        Ok(Self { world, faults, cluster: OnceLock::new(), state })
    }

    /// The state, locked: hold it briefly and never across an await.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
