//! What every call to the API server passes through: the token, one retry after 401, a deadline, and retries of what may be repeated.

#[cfg(test)]
mod tests;

use std::fmt;
use std::task::{Context, Poll};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER, UPGRADE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use kube::client::{Body, DynBody};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use tower::buffer::Buffer;
use tower::{BoxError, Layer, Service, ServiceExt};

use super::token::TokenSource;
use crate::base::fault::Fault;
use crate::base::text;

/// A read's whole time, with its retries. A write gets more: admission webhooks may take 30 s.
const READ_DEADLINE: Duration = Duration::from_secs(15);
const WRITE_DEADLINE: Duration = Duration::from_secs(45);
const ATTEMPTS: usize = 5;
/// Calls that wait for the inner service's readiness; far more than ever run at once.
const QUEUE: usize = 256;

type Answer = Response<Box<DynBody>>;

/// The deadline passed before the API server had answered.
#[derive(Debug)]
pub(super) struct NoAnswer {
    pub(super) call: String,
    pub(super) after: Duration,
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no answer to {} within {}", self.call, text::seconds(self.after))
    }
}

impl std::error::Error for NoAnswer {}

/// No token could be had; the fault says why.
#[derive(Debug)]
pub(super) struct NoToken(pub(super) Fault);

impl fmt::Display for NoToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for NoToken {}

#[derive(Clone)]
pub(super) struct GuardLayer {
    token: Option<TokenSource>,
}

impl GuardLayer {
    pub(super) fn new(token: Option<TokenSource>) -> Self {
        Self { token }
    }
}

impl<S> Layer<S> for GuardLayer
where
    S: Service<Request<Body>, Response = Answer, Error = BoxError> + Send + 'static,
    S::Future: Send,
{
    type Service = Guard<S::Future>;

    fn layer(&self, inner: S) -> Self::Service {
        Guard { inner: Buffer::new(inner, QUEUE), token: self.token.clone() }
    }
}

pub(super) struct Guard<F> {
    inner: Buffer<Request<Body>, F>,
    token: Option<TokenSource>,
}

impl<F> Service<Request<Body>> for Guard<F>
where
    F: Future<Output = Result<Answer, BoxError>> + Send + 'static,
{
    type Response = Answer;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Answer, BoxError>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (inner, token) = (self.inner.clone(), self.token.clone());
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await?;
            Exchange { inner, token, request: Request::from_parts(parts, body) }.run().await
        })
    }
}

struct Exchange<F> {
    inner: Buffer<Request<Body>, F>,
    token: Option<TokenSource>,
    request: Request<Bytes>,
}

impl<F> Exchange<F>
where
    F: Future<Output = Result<Answer, BoxError>> + Send + 'static,
{
    async fn run(self) -> Result<Answer, BoxError> {
        let limit = deadline(self.request.method());
        let (start, mut waits) = (Instant::now(), waits());
        let mut last: Option<Result<Answer, BoxError>> = None;
        loop {
            let Ok(result) = timeout_at(start + limit, self.attempt()).await else {
                let call = format!("{} {}", self.request.method(), self.request.uri().path());
                return last.unwrap_or_else(|| Err(NoAnswer { call, after: limit }.into()));
            };
            let wait = if may_repeat(&self.request, &result) { waits.next().map(|wait| asked_wait(&result).unwrap_or(wait)) } else { None };
            match wait {
                Some(wait) if start.elapsed() + wait < limit => {
                    tokio::time::sleep(wait).await;
                    last = Some(result);
                }
                _ => return result,
            }
        }
    }

    /// One attempt, with a second one under a new token when the first is refused.
    async fn attempt(&self) -> Result<Answer, BoxError> {
        let Some(source) = &self.token else { return self.send(None).await };
        let token = source.current().await.map_err(NoToken)?;
        let response = self.send(Some(&token)).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let token = source.instead_of(&token).await.map_err(NoToken)?;
        self.send(Some(&token)).await
    }

    async fn send(&self, token: Option<&SecretString>) -> Result<Answer, BoxError> {
        let mut request = self.request.clone().map(Body::from);
        if let Some(token) = token {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()))?;
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let response = self.inner.clone().ready_oneshot().await?.call(request).await?;
        let (parts, body) = response.into_parts();
        if is_stream(&self.request) && (parts.status.is_success() || parts.status == StatusCode::SWITCHING_PROTOCOLS) {
            return Ok(Response::from_parts(parts, body));
        }
        // Read here, so that the deadline and the retries cover the body too.
        let body = with_code(parts.status, body.collect().await?.to_bytes());
        let body = Full::new(body).map_err(|never| match never {});
        Ok(Response::from_parts(parts, Box::new(body)))
    }
}

/// An error's body with its status code inside: kube takes the code from there, and a proxy's JSON has none.
fn with_code(status: StatusCode, body: Bytes) -> Bytes {
    if !status.is_client_error() && !status.is_server_error() {
        return body;
    }
    match serde_json::from_slice::<Value>(&body) {
        Ok(Value::Object(mut said)) if said.get("code").and_then(Value::as_u64).is_none_or(|code| code == 0) => {
            said.insert("code".to_owned(), status.as_u16().into());
            Value::Object(said).to_string().into()
        }
        _ => body,
    }
}

fn deadline(method: &Method) -> Duration {
    if *method == Method::GET { READ_DEADLINE } else { WRITE_DEADLINE }
}

fn waits() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(3))
        .with_max_times(ATTEMPTS - 1)
        .with_jitter()
        .build()
}

/// Watches, followed logs and upgraded connections go on after their first answer.
fn is_stream(request: &Request<Bytes>) -> bool {
    let asked = |name: &str| request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair == name));
    asked("watch=true") || asked("follow=true") || request.headers().contains_key(UPGRADE)
}

/// May this call be sent again after this result? All but POST may; a POST only when the server has surely not carried it out.
fn may_repeat<B>(request: &Request<Bytes>, result: &Result<Response<B>, BoxError>) -> bool {
    let harmless = *request.method() != Method::POST || request.uri().path().ends_with("/selfsubjectaccessreviews");
    match result {
        Ok(response) => match response.status().as_u16() {
            429 => true,
            502..=504 => harmless,
            500 => *request.method() == Method::GET,
            _ => false,
        },
        Err(error) => match super::fault::net_cause(error.as_ref()) {
            super::fault::NetCause::Refused | super::fault::NetCause::ConnectTimeout => true,
            super::fault::NetCause::Broken => harmless,
            _ => false,
        },
    }
}

/// The server's own Retry-After, in seconds.
fn asked_wait<B>(result: &Result<Response<B>, BoxError>) -> Option<Duration> {
    let seconds = result.as_ref().ok()?.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}
