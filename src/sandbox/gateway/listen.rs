//! The load balancer's loopback ports: they refuse connections until a listener of an active load balancer is behind them.

use std::net::{Ipv4Addr, SocketAddr};
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

use super::app::Reply;
use super::{Ask, alb};
use crate::sandbox::sim::Sim;

/// How often the ports look whether a load balancer came or went.
const LOOK: Duration = Duration::from_millis(30);

/// The ports that a load balancer can listen on here, and whether they speak TLS.
const PORTS: [(u16, bool); 4] = [(80, false), (443, true), (8080, false), (8443, true)];

/// Each port, and where it is on this machine.
pub(crate) type Places = Vec<(u16, u16)>;

/// Reserves the ports and serves them as load balancers come and go.
///
/// # Errors
/// When no loopback port can be had.
pub(crate) fn serve(sim: &Arc<Sim>, tls: &TlsAcceptor) -> Result<(Places, Vec<tokio::task::AbortHandle>), String> {
    let (mut places, mut tasks) = (Places::new(), Vec::new());
    for (port, secure) in PORTS {
        let (socket, local) = reserve(0)?;
        let tls = secure.then(|| tls.clone());
        tasks.push(tokio::spawn(follow(Arc::clone(sim), port, local, socket, tls)).abort_handle());
        places.push((port, local));
    }
    Ok((places, tasks))
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

async fn follow(sim: Arc<Sim>, port: u16, local: u16, socket: TcpSocket, tls: Option<TlsAcceptor>) {
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
            () = accept(&sim, port, &listener, tls.as_ref()) => {}
        }
        drop(listener);
        waiting = reserve(local).ok().map(|(socket, _)| socket);
    }
}

async fn accept(sim: &Arc<Sim>, port: u16, listener: &TcpListener, tls: Option<&TlsAcceptor>) {
    while let Ok((stream, _)) = listener.accept().await {
        let sim = Arc::clone(sim);
        let tls = tls.cloned();
        tokio::spawn(async move {
            match tls {
                None => connection(sim, port, stream, false).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
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
