//! The simulated cluster's API server: Kubernetes over TLS on a loopback port, backed by the store.

mod actions;
mod answer;
mod audit;
mod discovery;
mod format;
mod logs;
mod objects;
mod openapi;
mod options;
mod patch;
mod portforward;
mod proto;
mod reviews;
mod route;
mod scale;
mod select;
mod serve;
mod spdy;
mod table;
mod watch;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch as flag;
use tokio_util::sync::CancellationToken;

pub use audit::Entry;
pub use options::{Authenticate, Authorize, Duplex, Fault, Faults, Forward, Forwarded, Log, LogLine, LogRequest, Logs, Options, Seen};

use super::pki::Authority;
use super::store::Store;

/// What every request needs.
struct Api {
    store: Store,
    options: Options,
    audit: audit::Ring,
    frozen: flag::Sender<bool>,
    /// Ends all connections that are open now.
    connections: Mutex<CancellationToken>,
}

/// A running API server. Dropping it stops it.
pub struct Server {
    api: Arc<Api>,
    address: SocketAddr,
    authority: Authority,
    tls: tokio_rustls::TlsAcceptor,
    listening: Mutex<CancellationToken>,
    /// The task that accepts connections; it holds the port.
    accepting: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "API server on {}", self.address)
    }
}

impl Server {
    /// Listens on 127.0.0.1 and serves the store.
    ///
    /// # Errors
    /// The port is taken, or certificates could not be made.
    pub async fn start(store: Store, options: Options) -> Result<Server, String> {
        let authority = Authority::new("kubernetes").map_err(|e| e.to_string())?;
        let names =
            ["127.0.0.1", "::1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"];
        let config = authority.server(&names, &["h2", "http/1.1"])?;
        let listener = serve::bind(options.port).await.map_err(|e| format!("cannot listen on 127.0.0.1:{}: {e}", options.port))?;
        let address = listener.local_addr().map_err(|e| e.to_string())?;
        let api = Api { store, options, audit: audit::Ring::default(), frozen: flag::Sender::new(false), connections: Mutex::default() };
        let server = Server {
            api: Arc::new(api),
            address,
            authority,
            tls: tokio_rustls::TlsAcceptor::from(Arc::new(config)),
            listening: Mutex::default(),
            accepting: Mutex::default(),
        };
        server.listen(listener);
        Ok(server)
    }

    fn listen(&self, listener: tokio::net::TcpListener) {
        let until = CancellationToken::new();
        *self.listening.lock().unwrap_or_else(PoisonError::into_inner) = until.clone();
        let task = tokio::spawn(serve::accept(self.api.clone(), listener, self.tls.clone(), until));
        *self.accepting.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }

    /// `https://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate to trust.
    pub fn ca_pem(&self) -> &str {
        self.authority.pem()
    }

    /// The objects behind it.
    pub fn store(&self) -> &Store {
        &self.api.store
    }

    /// A kubeconfig with one context of this name and a static token.
    pub fn kubeconfig(&self, context: &str, token: &str) -> String {
        use base64::Engine as _;
        let ca = base64::engine::general_purpose::STANDARD.encode(self.ca_pem());
        let url = self.url();
        format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: {context}\n  cluster:\n    server: {url}\n    certificate-authority-data: {ca}\n\
             contexts:\n- name: {context}\n  context: {{cluster: {context}, user: {context}}}\ncurrent-context: {context}\n\
             users:\n- name: {context}\n  user:\n    token: {token}\n"
        )
    }

    /// The latest requests, oldest first.
    pub fn audit(&self) -> Vec<Entry> {
        self.api.audit.entries()
    }

    /// With `true` no request is answered and no watch says anything until `false`; connections stay open.
    pub fn freeze(&self, on: bool) {
        self.api.frozen.send_replace(on);
    }

    /// Ends every open connection at once, watches included.
    pub fn drop_connections(&self) {
        let mut token = self.api.connections.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *token).cancel();
    }

    /// Stops listening and drops every connection; `resume` brings it back on the same port.
    pub fn pause(&self) {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner).cancel();
        self.drop_connections();
    }

    /// Listens again; only after `pause`.
    ///
    /// # Errors
    /// The port was taken meanwhile.
    pub async fn resume(&self) -> Result<(), String> {
        let before = self.accepting.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = before {
            // It ends at once when `pause` was called; a task that panicked holds no port either.
            let _ = task.await;
        }
        let listener = serve::bind(self.address.port()).await.map_err(|e| format!("cannot listen on {} again: {e}", self.address))?;
        self.listen(listener);
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.pause();
    }
}
