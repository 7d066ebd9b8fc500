//! What all simulated parts share: the store, the account, the world, the clock.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::aws::Account;
use super::controllers::{Memory, Pace};
use super::istio::Mesh;
use super::kubelet::Kubelet;
use super::lbc::Controller;
use super::pki::Term;
use super::store::{Store, meta};
use super::world::{Time, World, wild};

/// What the load balancer shows to those who ask over TLS.
pub(super) struct Shown {
    pub authority: String,
    pub names: Vec<String>,
    pub term: Term,
}

/// One sandbox from the inside. The locks are held briefly and never across an await.
pub(super) struct Sim {
    pub store: Store,
    pub world: Arc<World>,
    pub aws: Arc<Account>,
    pub began: Instant,
    /// Seconds that the clock is set back: while the start state is made, things get older than they are.
    back: AtomicI64,
    /// No EKS token stands for anybody.
    pub refuse_tokens: AtomicBool,
    /// The addresses of load balancers behind which there is none have left the DNS.
    pub strays_left: AtomicBool,
    /// The authority of the load balancer's certificate, and the names it is for.
    pub shown: OnceLock<Shown>,
    kubelet: Mutex<Kubelet>,
    mesh: Mutex<Mesh>,
    lbc: Mutex<Controller>,
    memory: Mutex<Memory>,
    pace: Mutex<Pace>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sim {
    pub(super) fn new(store: Store, world: Arc<World>, aws: Arc<Account>) -> Self {
        Self {
            store,
            world,
            aws,
            began: Instant::now(),
            back: AtomicI64::new(0),
            refuse_tokens: AtomicBool::new(false),
            strays_left: AtomicBool::new(false),
            shown: OnceLock::new(),
            kubelet: Mutex::default(),
            mesh: Mutex::default(),
            lbc: Mutex::default(),
            memory: Mutex::default(),
            pace: Mutex::default(),
        }
    }

    /// Why a client that trusts these certificates refuses the load balancer's, in OpenSSL's words; an image's own know nothing of it.
    pub(super) fn distrust(&self, host: &str, trusted: Option<&str>) -> Option<String> {
        let shown = self.shown.get()?;
        if !trusted.is_some_and(|pem| pem.contains(shown.authority.trim())) {
            return Some("SSL certificate problem: unable to get local issuer certificate".to_owned());
        }
        if shown.term.days.is_some_and(|days| days < 0) {
            return Some("SSL certificate problem: certificate has expired".to_owned());
        }
        if shown.term.starts_in.is_some_and(|days| days > 0) {
            return Some("SSL certificate problem: certificate is not yet valid".to_owned());
        }
        let fits = shown.names.iter().any(|name| wild(name, host));
        (!fits).then(|| format!("SSL: no alternative certificate subject name matches target host name '{host}'"))
    }

    pub(super) fn kubelet(&self) -> MutexGuard<'_, Kubelet> {
        lock(&self.kubelet)
    }

    pub(super) fn mesh(&self) -> MutexGuard<'_, Mesh> {
        lock(&self.mesh)
    }

    pub(super) fn lbc(&self) -> MutexGuard<'_, Controller> {
        lock(&self.lbc)
    }

    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        lock(&self.memory)
    }

    pub(super) fn pace(&self) -> MutexGuard<'_, Pace> {
        lock(&self.pace)
    }

    /// The cluster's time.
    pub(super) fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now() - jiff::SignedDuration::from_secs(self.back.load(Ordering::Relaxed))
    }

    /// The cluster's time as the API writes it.
    pub(super) fn stamp(&self) -> String {
        meta::stamp(self.now())
    }

    /// Sets the clock back by so much, while the start state is made; `ZERO` ends that.
    pub(super) fn set_back(&self, by: Duration) {
        self.back.store(i64::try_from(by.as_secs()).unwrap_or(i64::MAX / 4), Ordering::Relaxed);
    }

    /// How far the clock is set back, in seconds.
    pub(super) fn set_back_by(&self) -> i64 {
        self.back.load(Ordering::Relaxed)
    }

    /// How long something takes: nothing at all while the start state is made.
    pub(super) fn takes(&self, time: Time) -> Duration {
        if self.set_back_by() > 0 { Duration::ZERO } else { time.0 }
    }
}

/// The earlier of two deadlines.
pub(super) fn sooner(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
