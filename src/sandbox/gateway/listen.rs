//! The load balancer's loopback ports: they refuse connections until a listener of an active load balancer is behind them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::SupportedProtocolVersion;
use tokio_rustls::rustls::version::{TLS12, TLS13};

use super::app::Reply;
use super::{Ask, alb};
use crate::sandbox::pki::Leaf;
use crate::sandbox::sim::Sim;
use crate::sandbox::world::Connection;

/// How often the ports look whether a load balancer came or went.
const LOOK: Duration = Duration::from_millis(30);

/// The ports that a load balancer can listen on here.
const PORTS: [u16; 4] = [80, 443, 8080, 8443];

/// Reserves the ports and serves them as load balancers come and go. Tells where they are on this machine, as curl's `--connect-to` has it.
///
/// # Errors
/// When no loopback port can be had.
pub(crate) fn serve(sim: &Arc<Sim>, leaf: Leaf) -> Result<(String, Vec<tokio::task::AbortHandle>), String> {
    let (mut places, mut tasks) = (Vec::new(), Vec::new());
    for stray in &sim.world.dns.strays {
        let to = match stray.connection {
            Connection::Refused => {
                let (socket, local) = reserve(0)?;
                let kept = async move {
                    std::future::pending::<()>().await;
                    drop(socket);
                };
                tasks.push(tokio::spawn(kept).abort_handle());
                SocketAddr::from((Ipv4Addr::LOCALHOST, local))
            }
            // no connection can be made to everybody: the network is unreachable
            Connection::Unrouted => SocketAddr::from((Ipv4Addr::BROADCAST, 9)),
        };
        let host = if let IpAddr::V6(address) = stray.address { format!("[{address}]") } else { stray.address.to_string() };
        places.push(format!("{host}::{to}"));
    }
    let leaf = Arc::new(leaf);
    for port in PORTS {
        let (socket, local) = reserve(0)?;
        tasks.push(tokio::spawn(follow(Arc::clone(sim), port, local, socket, Arc::clone(&leaf))).abort_handle());
        places.push(format!(":{port}:127.0.0.1:{local}"));
    }
    Ok((places.join(","), tasks))
}

/// What a listener's policy lets it speak; what is older than TLS 1.2 is spoken by nothing here.
fn versions(policy: &str) -> Vec<&'static SupportedProtocolVersion> {
    if policy.contains("TLS13-1-3") {
        vec![&TLS13]
    } else if policy.contains("TLS13") {
        vec![&TLS13, &TLS12]
    } else {
        vec![&TLS12]
    }
}

/// A bound socket that does not listen: connections to it are refused, and nobody else gets the port.
fn reserve(port: u16) -> Result<(TcpSocket, u16), String> {
    let make = || -> std::io::Result<(TcpSocket, u16)> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        let port = socket.local_addr()?.port();
        Ok((socket, port))
    };
    make().map_err(|error| format!("load balancer's port: {error}"))
}

async fn follow(sim: Arc<Sim>, port: u16, local: u16, socket: TcpSocket, leaf: Arc<Leaf>) {
    let mut look = tokio::time::interval(LOOK);
    let mut waiting = Some(socket);
    loop {
        while alb::listener(&sim, port).is_none() {
            look.tick().await;
        }
        let Some(socket) = waiting.take().or_else(|| reserve(local).ok().map(|(socket, _)| socket)) else {
            look.tick().await;
            continue;
        };
        let Ok(listener) = socket.listen(1024) else { continue };
        let gone = async {
            while alb::listener(&sim, port).is_some() {
                look.tick().await;
            }
        };
        tokio::select! {
            () = gone => {}
            () = accept(&sim, port, &listener, &leaf) => {}
        }
        drop(listener);
        waiting = reserve(local).ok().map(|(socket, _)| socket);
    }
}

async fn accept(sim: &Arc<Sim>, port: u16, listener: &TcpListener, leaf: &Leaf) {
    while let Ok((stream, _)) = listener.accept().await {
        let Some(found) = alb::listener(sim, port) else { continue };
        let secure = found.protocol == "HTTPS";
        let tls = secure.then(|| leaf.speaking(&versions(&found.policy), &["h2", "http/1.1"]));
        let Ok(tls) = tls.transpose() else { continue };
        let sim = Arc::clone(sim);
        tokio::spawn(async move {
            match tls {
                None => connection(sim, port, stream, false).await,
                Some(tls) => {
                    if let Ok(stream) = TlsAcceptor::from(Arc::new(tls)).accept(stream).await {
                        connection(sim, port, stream, true).await;
                    }
                }
            }
        });
    }
}

async fn connection(sim: Arc<Sim>, port: u16, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, secure: bool) {
    let service = service_fn(move |request: Request<Incoming>| {
        let sim = Arc::clone(&sim);
        async move {
            let host = request.headers().get("host").and_then(|host| host.to_str().ok()).map(str::to_owned);
            let host = host.or_else(|| request.uri().authority().map(ToString::to_string)).unwrap_or_default();
            let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
            let ask = Ask { method: request.method().to_string(), host, path, secure };
            let Some(reply) = alb::answer(&sim, port, &ask) else { return Err(std::io::Error::other("the listener is gone")) };
            tokio::time::sleep(reply.delay).await;
            Ok(response(reply))
        }
    });
    // a client that hangs up is its own business
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

/// An answer as hyper sends it.
pub(super) fn response(reply: Reply) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(reply.body)));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in reply.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<http::HeaderName>(), value.parse()) {
            response.headers_mut().append(name, value);
        }
    }
    response
}
