//! Connections: accepting, TLS, HTTP/1.1 and HTTP/2, faults, and what every request passes before it reaches the objects.

use std::convert::Infallible;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use http::{HeaderMap, Request, header};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::answer::{self, Answer};
use super::audit::Entry;
use super::options::{Fault, Seen};
use super::route::{self, Query};
use super::{Api, discovery, objects, openapi};
use crate::sandbox::store::{Status, User};

/// A listener on 127.0.0.1 that may reuse a port that was just given back.
pub(super) async fn bind(port: u16) -> std::io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(([127, 0, 0, 1], port).into())?;
    socket.listen(1024)
}

pub(super) async fn accept(api: Arc<Api>, listener: TcpListener, tls: TlsAcceptor, until: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = until.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { continue };
        let open = api.connections.lock().unwrap_or_else(PoisonError::into_inner).child_token();
        tokio::spawn(connection(api.clone(), stream, tls.clone(), open));
    }
}

async fn connection(api: Arc<Api>, stream: TcpStream, tls: TlsAcceptor, open: CancellationToken) {
    // Small frames of watches and HTTP/2 must not wait for one another.
    let _ = stream.set_nodelay(true);
    let hang_up = open.clone();
    let served = async {
        let Ok(stream) = tls.accept(stream).await else { return };
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let (api, open) = (api.clone(), open.clone());
            async move {
                let answered = serve(&api, request).await;
                if answered.is_none() {
                    open.cancel();
                    std::future::pending::<()>().await;
                }
                Ok::<_, Infallible>(answered.unwrap_or_else(|| answer::failure(&Status::internal("hung up"))))
            }
        });
        let mut server = auto::Builder::new(TokioExecutor::new());
        server.http1().half_close(true);
        // A failed connection is the peer's business.
        let _ = server.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
    };
    tokio::select! {
        () = hang_up.cancelled() => {}
        () = served => {}
    }
}

/// A request that passed authentication.
pub(super) struct Call {
    pub(super) api: Arc<Api>,
    pub(super) seen: Seen,
    pub(super) query: Query,
    pub(super) user: User,
    pub(super) headers: HeaderMap,
    pub(super) request: Request<Incoming>,
    pub(super) watch_end: WatchEnd,
}

/// How a watch is to go wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum WatchEnd {
    #[default]
    Never,
    Cut(Duration),
    Mute(Duration),
}

impl Call {
    pub(super) fn header(&self, name: header::HeaderName) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }
}

/// Answers a request; `None` hangs up.
async fn serve(api: &Arc<Api>, request: Request<Incoming>) -> Option<Answer> {
    let path = request.uri().path_and_query().map_or("/", |p| p.as_str()).to_owned();
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let mut seen = route::seen(request.method(), &path, &query);
    let user = authenticate(api, request.headers());
    seen.user = user.clone().ok();
    let agent = request.headers().get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let log = |code: u16| {
        let user = seen.user.as_ref().map(|u| u.name.clone()).unwrap_or_default();
        api.audit.push(Entry { verb: seen.verb.clone(), path: path.clone(), code, user_agent: agent.clone(), user });
    };
    thawed(api).await;
    let mut watch_end = WatchEnd::Never;
    match (api.options.faults)(&seen) {
        None => {}
        Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
        Some(Fault::Answer(status)) => {
            log(status.code);
            return Some(answer::failure(&status));
        }
        Some(Fault::HangUp) => {
            log(0);
            return None;
        }
        Some(Fault::Freeze) => {
            log(0);
            return std::future::pending().await;
        }
        Some(Fault::CutWatch(time)) => watch_end = WatchEnd::Cut(time),
        Some(Fault::MuteWatch(time)) => watch_end = WatchEnd::Mute(time),
    }
    let answered = match user.and_then(|user| authorize(api, &seen, &user).map(|()| user)) {
        Ok(user) => {
            let headers = request.headers().clone();
            dispatch(Call { api: api.clone(), seen: seen.clone(), query, user, headers, request, watch_end }).await
        }
        Err(status) => Err(status),
    };
    let mut answered = answered.unwrap_or_else(|status| answer::failure(&status));
    if let Some(date) = (!api.options.ahead.is_zero()).then(|| answer::date(api.options.ahead)).flatten() {
        answered.headers_mut().insert(header::DATE, date);
    }
    log(answered.status().as_u16());
    Some(answered)
}

/// Waits until the server is not frozen.
pub(super) async fn thawed(api: &Api) {
    let mut frozen = api.frozen.subscribe();
    // The sender lives in `api`.
    let _ = frozen.wait_for(|on| !on).await;
}

fn authenticate(api: &Api, headers: &HeaderMap) -> Result<User, Status> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Ok(User { name: "system:anonymous".into(), uid: String::new(), groups: vec!["system:unauthenticated".into()] });
    };
    let token = value.to_str().ok().and_then(|v| v.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    token.and_then(|(_, token)| (api.options.authenticate)(token.trim())).ok_or_else(Status::unauthorized)
}

fn authorize(api: &Api, seen: &Seen, user: &User) -> Result<(), Status> {
    let path = seen.path.split('?').next().unwrap_or_default();
    let public = ["/version", "/healthz", "/livez", "/readyz"].iter().any(|p| path == *p || path.starts_with(&format!("{p}/")));
    let anonymous = user.name == "system:anonymous";
    if public || (!anonymous && (seen.resource.is_empty() || (api.options.authorize)(seen))) {
        return Ok(());
    }
    Err(refusal(seen, user, path))
}

/// The real server's 403.
pub(super) fn refusal(seen: &Seen, user: &User, path: &str) -> Status {
    let who = &user.name;
    if seen.resource.is_empty() {
        let mut status = Status::new(403, "Forbidden", format!("forbidden: User {who:?} cannot {} path {path:?}", seen.verb));
        status.details = Some(Box::new(serde_json::json!({})));
        return status;
    }
    let id = crate::sandbox::store::resources::id(&seen.group, &seen.resource);
    let subject = if seen.name.is_empty() { id } else { format!("{id} {:?}", seen.name) };
    let resource = if seen.subresource.is_empty() { seen.resource.clone() } else { format!("{}/{}", seen.resource, seen.subresource) };
    let place = if seen.namespace.is_empty() { "at the cluster scope".to_owned() } else { format!("in the namespace {:?}", seen.namespace) };
    let why = format!("User {who:?} cannot {} resource {resource:?} in API group {:?} {place}", seen.verb, seen.group);
    let mut status = Status::new(403, "Forbidden", format!("{subject} is forbidden: {why}"));
    let mut details = serde_json::Map::new();
    for (key, value) in [("name", &seen.name), ("group", &seen.group), ("kind", &seen.resource)] {
        if !value.is_empty() {
            details.insert(key.into(), value.clone().into());
        }
    }
    status.details = Some(Box::new(details.into()));
    status
}

async fn dispatch(call: Call) -> Result<Answer, Status> {
    if !call.seen.resource.is_empty() {
        return objects::dispatch(call).await;
    }
    let path = call.seen.path.split('?').next().unwrap_or_default().trim_end_matches('/').to_owned();
    if call.seen.verb != "get" && call.seen.verb != "head" {
        return Err(Status::not_played(&call.seen.verb, &call.seen.path));
    }
    match path.as_str() {
        "/version" => Ok(discovery::version(&call.api.options.version)),
        "/healthz" | "/livez" | "/readyz" => Ok(answer::text(200, "text/plain; charset=utf-8", "ok")),
        _ if path == "/api" || path == "/apis" || path.starts_with("/api/") || path.starts_with("/apis/") => discovery::answer(&call, &path),
        _ if path == "/openapi/v2" || path.starts_with("/openapi/v3") => openapi::answer(&call, &path),
        _ => Err(Status::not_played(&call.seen.verb, &call.seen.path)),
    }
}
