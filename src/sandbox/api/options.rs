//! What a world plugs into the API server: who may do what, what pods say, and what goes wrong.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use crate::sandbox::store::{Status, User};

/// One request as authorisation and faults see it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// `None` before authentication and for anonymous paths.
    pub user: Option<User>,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; for other paths the lower-case method.
    pub verb: String,
    pub group: String,
    pub version: String,
    /// Plural; empty for paths that are no resources.
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    /// Path with query.
    pub path: String,
}

/// One line of a container's log.
#[derive(Clone, Debug, PartialEq)]
pub struct LogLine {
    pub at: Timestamp,
    pub text: String,
}

/// A container's log so far, and what will still come if it is followed.
#[derive(Debug, Default)]
pub struct Log {
    pub lines: Vec<LogLine>,
    pub more: Option<mpsc::Receiver<LogLine>>,
}

/// Which log is asked for. That the pod and the container exist and have started was checked.
#[derive(Clone, Debug, PartialEq)]
pub struct LogRequest {
    pub namespace: String,
    pub pod: String,
    pub container: String,
    pub previous: bool,
    pub follow: bool,
}

/// Both directions of a connection into a pod.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection into a pod, or what the kubelet says instead.
pub type Forwarded = Pin<Box<dyn Future<Output = Result<Box<dyn Duplex>, String>> + Send>>;

/// What goes wrong with a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// Answered as usual, this much later.
    Delay(Duration),
    /// Answered with this failure.
    Answer(Status),
    /// The connection ends without an answer.
    HangUp,
    /// Never answered; the connection stays open.
    Freeze,
    /// A watch ends without notice after this long; other requests are answered as usual.
    CutWatch(Duration),
    /// A watch stays open and silent after this long; other requests are answered as usual.
    MuteWatch(Duration),
}

/// Whom a bearer token stands for; `None` is 401.
pub type Authenticate = Arc<dyn Fn(&str) -> Option<User> + Send + Sync>;
/// Whether a request is allowed.
pub type Authorize = Arc<dyn Fn(&Seen) -> bool + Send + Sync>;
/// A container's log.
pub type Logs = Arc<dyn Fn(&LogRequest) -> Result<Log, Status> + Send + Sync>;
/// A connection to a port of a pod: namespace, pod, port.
pub type Forward = Arc<dyn Fn(&str, &str, u16) -> Forwarded + Send + Sync>;
/// What goes wrong with a request, if anything.
pub type Faults = Arc<dyn Fn(&Seen) -> Option<Fault> + Send + Sync>;

/// How the API server is set up.
#[derive(Clone)]
pub struct Options {
    /// Such as `v1.37.2`.
    pub version: String,
    /// Loopback port; 0 takes a free one.
    pub port: u16,
    /// How far its clock is ahead.
    pub ahead: Duration,
    pub authenticate: Authenticate,
    pub authorize: Authorize,
    pub logs: Logs,
    pub forward: Forward,
    pub faults: Faults,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Options of an API server {}", self.version)
    }
}

impl Default for Options {
    /// Every token is an administrator, logs are empty, pods refuse connections, nothing goes wrong.
    fn default() -> Options {
        let admin = User { name: "admin".into(), uid: String::new(), groups: vec!["system:masters".into(), "system:authenticated".into()] };
        Options {
            version: "v1.37.2".into(),
            port: 0,
            ahead: Duration::ZERO,
            authenticate: Arc::new(move |_| Some(admin.clone())),
            authorize: Arc::new(|_| true),
            logs: Arc::new(|_| Ok(Log::default())),
            forward: Arc::new(|_, _, port| {
                Box::pin(async move { Err(format!("failed to connect to localhost:{port} inside namespace: connection refused")) })
            }),
            faults: Arc::new(|_| None),
        }
    }
}
