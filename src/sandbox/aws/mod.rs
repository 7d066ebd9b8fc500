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

use tokio::sync::watch as flag;

use super::world::{AwsFault, World};

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
    faults: Mutex<Arc<Faults>>,
    /// With `true` no call is answered.
    pub frozen: flag::Sender<bool>,
    pub cluster: OnceLock<Endpoint>,
    /// Security groups open in both directions: identity of the simulated VPC's parts.
    state: Mutex<State>,
}

impl Account {
    /// # Errors
    /// When a fault's regular expression is broken.
    pub(super) fn new(world: Arc<World>) -> Result<Self, String> {
        let faults = Mutex::new(Arc::new(Faults::new(&world.aws.calls)?));
        let state = Mutex::new(State::new(&world));
        Ok(Self { world, faults, frozen: flag::Sender::new(false), cluster: OnceLock::new(), state })
    }

    /// What goes wrong now.
    pub(super) fn faults(&self) -> Arc<Faults> {
        Arc::clone(&self.faults.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Other faults take the place of those before.
    ///
    /// # Errors
    /// When a regular expression is broken.
    pub(super) fn set_faults(&self, faults: &[AwsFault]) -> Result<(), String> {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(Faults::new(faults)?);
        Ok(())
    }

    /// The state, locked: hold it briefly and never across an await.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
