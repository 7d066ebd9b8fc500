//! Sends one request: look up, connect, handshake, ask, read, each phase timed and cut off at the one deadline.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::{NetError, Phase};
use super::tls::{self, Shown, TlsClass};
use super::{Answer, Http, Request, Scheme, Timings, Tls};

const AGENT: &str = concat!("meshstep/", env!("CARGO_PKG_VERSION"));

/// One exchange under way: its clock and what it has learnt.
struct Run<'a> {
    request: &'a Request,
    start: Instant,
    timings: Timings,
}

impl Http {
    /// Sends a request and reads the answer, up to the request's caps. Redirects are not followed, proxies not used.
    pub async fn send(&self, request: &Request) -> Result<Answer, NetError> {
        let mut run = Run { request, start: Instant::now(), timings: Timings::default() };
        let addresses = self.addresses(&mut run).await?;
        let answer = match request.scheme {
            Scheme::Http => self.plain(&mut run, &addresses).await?,
            Scheme::Https => {
                // Apart: else a plain request would have to carry the room for all of this.
                Box::pin(self.secure(&mut run, &addresses)).await?
            }
        };
        run.timings.total = run.start.elapsed();
        Ok(Answer { timings: run.timings, ..answer })
    }

    async fn secure(&self, run: &mut Run<'_>, addresses: &[SocketAddr]) -> Result<Answer, NetError> {
        let (stream, peer) = run.connect(addresses).await?;
        let (stream, tls) = self.handshake(run, stream).await?;
        let h2 = tls.alpn == "h2";
        Ok(Answer { tls: Some(tls), peer: Some(peer), ..run.exchange(stream, h2).await? })
    }

    /// Over a kept connection if there is one. That it was closed meanwhile says nothing about its address: then over a new one.
    async fn plain(&self, run: &mut Run<'_>, addresses: &[SocketAddr]) -> Result<Answer, NetError> {
        if run.request.keep
            && let Some((connection, peer)) = self.inner.kept.take(addresses)
        {
            match self.over(run, connection, peer).await {
                Err(NetError::Reset { .. }) => {}
                done => return done,
            }
        }
        let (stream, peer) = run.connect(addresses).await?;
        self.over(run, Http1::over(stream).await?, peer).await
    }

    async fn over(&self, run: &mut Run<'_>, mut connection: Http1<TcpStream>, peer: SocketAddr) -> Result<Answer, NetError> {
        let answer = Answer { peer: Some(peer), ..run.ask(&mut connection).await? };
        if run.request.keep {
            self.inner.kept.put(connection, peer, &answer);
        }
        Ok(answer)
    }

    async fn addresses(&self, run: &mut Run<'_>) -> Result<Vec<SocketAddr>, NetError> {
        let Request { host, via, connect, port, .. } = run.request;
        let given = connect.map(|address| address.ip().to_string());
        let target = connect.map_or(*port, |address| address.port());
        let names: Vec<&str> = [via.as_deref(), given.as_deref(), Some(host.as_str())].into_iter().flatten().collect();
        if let Some(address) = self.inner.connect_to.find(&names, target) {
            return Ok(vec![address]);
        }
        if let Some(address) = connect {
            return Ok(vec![*address]);
        }
        let (begun, name) = (Instant::now(), via.as_deref().unwrap_or(host));
        let found = run.within(Phase::Dns, self.resolve(name)).await?.map_err(NetError::Dns)?;
        run.timings.dns = begun.elapsed();
        Ok(found.into_iter().map(|address| SocketAddr::new(address, *port)).collect())
    }

    async fn handshake(&self, run: &mut Run<'_>, stream: TcpStream) -> Result<(TlsStream<TcpStream>, Tls), NetError> {
        let verifier = self.inner.trust.verifier(run.request.cacert.as_deref()).await.map_err(NetError::Invalid)?;
        let begun = Instant::now();
        let (config, shown) = tls::config(verifier);
        let host = run.request.host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(|error| NetError::Invalid(format!("`{}`: {error}", run.request.host)))?;
        let shaken = run.within(Phase::Tls, TlsConnector::from(Arc::new(config)).connect(name, stream)).await?;
        run.timings.tls = begun.elapsed();
        let stream = shaken.map_err(|error| tls_error(&error, &shown))?;
        let (_, session) = stream.get_ref();
        let tls = Tls {
            version: session.protocol_version().map(|version| format!("{version:?}").replace("TLSv1_", "TLSv1.")).unwrap_or_default(),
            alpn: session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default(),
            chain: tls::chain(&shown),
        };
        Ok((stream, tls))
    }
}

impl Run<'_> {
    async fn within<T>(&self, phase: Phase, work: impl Future<Output = T>) -> Result<T, NetError> {
        timeout_at(self.start + self.request.timeout, work).await.map_err(|_| NetError::Timeout { phase, after: self.request.timeout })
    }

    /// The first address that takes the connection; the last one's error when none does.
    async fn connect(&mut self, addresses: &[SocketAddr]) -> Result<(TcpStream, SocketAddr), NetError> {
        let begun = Instant::now();
        let mut last = NetError::Invalid("there is no address to connect to".to_owned());
        for (n, address) in addresses.iter().enumerate() {
            // A silent address may use up only its share of the time.
            let left = (self.start + self.request.timeout).saturating_duration_since(Instant::now());
            let share = left / u32::try_from(addresses.len() - n).unwrap_or(1);
            match tokio::time::timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Small requests: waiting to fill a packet only costs time.
                    _ = stream.set_nodelay(true);
                    self.timings.connect = begun.elapsed();
                    return Ok((stream, *address));
                }
                Ok(Err(error)) => last = connect_error(address, &error),
                Err(_) => last = NetError::Timeout { phase: Phase::Connect, after: self.start.elapsed() },
            }
        }
        Err(last)
    }

    async fn exchange(&mut self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, h2: bool) -> Result<Answer, NetError> {
        if !h2 {
            return self.ask(&mut Http1::over(stream).await?).await;
        }
        let (request, begun) = (self.message(h2)?, Instant::now());
        let made = self.within(Phase::FirstByte, http2::handshake(TokioExecutor::new(), TokioIo::new(stream))).await?;
        let (mut sender, connection) = made.map_err(|error| http_error(&error, Phase::FirstByte))?;
        driven(connection, self.answer(sender.send_request(request), begun)).await.0
    }

    async fn ask<S: AsyncRead + AsyncWrite + Unpin>(&mut self, connection: &mut Http1<S>) -> Result<Answer, NetError> {
        let (request, begun) = (self.message(false)?, Instant::now());
        let Http1 { sender, driver, ended } = connection;
        let asked = async {
            sender.ready().await?;
            sender.send_request(request).await
        };
        let answer;
        (answer, *ended) = driven(driver, self.answer(asked, begun)).await;
        answer
    }

    async fn answer<F>(&mut self, asked: F, begun: Instant) -> Result<Answer, NetError>
    where
        F: Future<Output = Result<http::Response<Incoming>, hyper::Error>>,
    {
        let response = self.within(Phase::FirstByte, asked).await?.map_err(|error| http_error(&error, Phase::FirstByte))?;
        self.timings.first_byte = begun.elapsed();
        self.within(Phase::Body, read(response, self.request.body_cap)).await?
    }

    fn message(&self, h2: bool) -> Result<http::Request<Empty<Bytes>>, NetError> {
        let Request { method, scheme, host, port, path, headers, .. } = self.request;
        let authority = if *port == scheme.default_port() { host.clone() } else { format!("{host}:{port}") };
        let path = if path.starts_with('/') { path.clone() } else { format!("/{path}") };
        // HTTP/2 carries scheme and authority in the request line, HTTP/1.1 the path alone and a Host.
        let uri = if h2 { format!("{}://{authority}{path}", scheme.as_str()) } else { path };
        let mut builder = http::Request::builder().method(method.as_str()).uri(uri);
        let named = |name: &str| headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
        if !h2 && !named("host") {
            builder = builder.header("host", authority);
        }
        for (name, value) in [("user-agent", AGENT), ("accept", "*/*")] {
            if !named(name) {
                builder = builder.header(name, value);
            }
        }
        for (name, value) in headers {
            builder = builder.header(name, value);
        }
        builder.body(Empty::new()).map_err(|error| NetError::Invalid(error.to_string()))
    }
}

/// An HTTP/1.1 GET over a stream that is there already. The caller sets the deadline.
pub(crate) async fn exchange_plain<S>(stream: S, host: &str, path: &str, body_cap: usize) -> Result<Answer, NetError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let request = Request { body_cap, ..Request::get(Scheme::Http, host, path) };
    let mut run = Run { request: &request, start: Instant::now(), timings: Timings::default() };
    let mut answer = run.exchange(stream, false).await?;
    run.timings.total = run.start.elapsed();
    answer.timings = run.timings;
    Ok(answer)
}

/// A connection of HTTP/1.1, driven by who asks over it.
pub(super) struct Http1<S: AsyncRead + AsyncWrite + Unpin> {
    sender: http1::SendRequest<Empty<Bytes>>,
    driver: http1::Connection<TokioIo<S>, Empty<Bytes>>,
    ended: bool,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Http1<S> {
    async fn over(stream: S) -> Result<Self, NetError> {
        let made = http1::handshake(TokioIo::new(stream)).await;
        let (sender, driver) = made.map_err(|error| http_error(&error, Phase::FirstByte))?;
        Ok(Self { sender, driver, ended: false })
    }

    pub(super) fn is_open(&self) -> bool {
        !self.ended && !self.sender.is_closed()
    }
}

/// `work` over a connection that is driven beside it, and whether that ended. A task of its own for each connection would be a hand-over
/// between threads for each packet.
async fn driven<T>(connection: impl Future, work: impl Future<Output = T>) -> (T, bool) {
    tokio::pin!(work);
    tokio::select! {
        biased;
        done = &mut work => (done, false),
        _ended = connection => (work.await, true),
    }
}

/// Reads the answer. The body is read up to the cap: what is over it is left on the wire, and the connection closed.
async fn read(response: http::Response<Incoming>, cap: usize) -> Result<Answer, NetError> {
    let (parts, mut incoming) = response.into_parts();
    let (mut body, mut truncated) = (Vec::new(), false);
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|error| http_error(&error, Phase::Body))?;
        let Some(data) = frame.data_ref() else { continue };
        let room = cap - body.len();
        body.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room {
            truncated = true;
            break;
        }
    }
    let headers = parts.headers.iter().map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    Ok(Answer {
        status: parts.status.as_u16(),
        version: format!("{:?}", parts.version),
        headers: headers.collect(),
        body,
        truncated,
        timings: Timings::default(),
        peer: None,
        tls: None,
    })
}

fn connect_error(address: &SocketAddr, error: &io::Error) -> NetError {
    let address = address.to_string();
    match error.kind() {
        io::ErrorKind::ConnectionRefused => NetError::Refused { address },
        _ => NetError::Unreachable { address, why: error.to_string() },
    }
}

fn tls_error(error: &io::Error, shown: &Shown) -> NetError {
    let chain = tls::chain(shown);
    match tls::inside(error) {
        Some(cause) => NetError::Tls { class: TlsClass::of(cause), message: cause.to_string(), chain },
        None => NetError::Tls { class: TlsClass::Other, message: format!("the handshake was broken off: {error}"), chain },
    }
}

fn http_error(error: &hyper::Error, phase: Phase) -> NetError {
    let mut why = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        why = cause.to_string();
        source = cause.source();
    }
    if error.is_parse() { NetError::Protocol(why) } else { NetError::Reset { phase, why } }
}
