//! The guard over a service that is a function: no socket, and a clock that waits for nothing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;

use super::*;
use crate::base::codes::Code;
use crate::clients::aws::Token;
use crate::clients::kube::fault;

/// What the server saw of a call: its method and its token.
type Seen = Arc<Mutex<Vec<String>>>;

/// Sends one request through a guard whose server answers call `n` with `answer(n)`; `None` never answers.
async fn send(
    request: Request<Body>,
    token: bool,
    answer: impl Fn(usize) -> Option<(u16, Option<u32>)> + Send + Clone + 'static,
) -> (Result<u16, Fault>, Vec<String>) {
    let (seen, calls) = (Seen::default(), Arc::new(AtomicUsize::new(0)));
    let log = Arc::clone(&seen);
    let service = tower::service_fn(move |request: Request<Body>| {
        let token = request.headers().get(AUTHORIZATION).map_or("-", |value| value.to_str().unwrap_or("?"));
        log.lock().expect("lock").push(format!("{} {token}", request.method()));
        let answer = answer(calls.fetch_add(1, Ordering::SeqCst));
        async move {
            let Some((status, wait)) = answer else { std::future::pending().await };
            let mut response = Response::builder().status(status);
            if let Some(wait) = wait {
                response = response.header(RETRY_AFTER, wait);
            }
            let body: Box<DynBody> = Box::new(Full::new(Bytes::new()).map_err(|never| match never {}));
            Ok::<_, BoxError>(response.body(body)?)
        }
    });
    let mut guard = GuardLayer::new(token.then(counting)).layer(service);
    let result = guard.call(request).await.map(|response| response.status().as_u16());
    let result = result.map_err(|error| fault(kube::Error::Service(error), "asking"));
    let seen = seen.lock().expect("lock").clone();
    (result, seen)
}

/// Tokens `t0`, `t1`, …
fn counting() -> TokenSource {
    let count = Arc::new(AtomicUsize::new(0));
    TokenSource::new(move || {
        let n = count.fetch_add(1, Ordering::SeqCst);
        async move { Ok(Token { secret: format!("t{n}").into(), expires: Timestamp::UNIX_EPOCH }) }
    })
}

fn request(method: Method, path: &str) -> Request<Body> {
    Request::builder().method(method).uri(path).body(Body::from(b"body".to_vec())).expect("a request")
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_replaced_once() {
    let (result, seen) = send(request(Method::GET, "/a"), true, |n| Some((if n == 0 { 401 } else { 200 }, None))).await;
    assert_eq!(result, Ok(200));
    assert_eq!(seen, ["GET Bearer t0", "GET Bearer t1"]);
    let (result, seen) = send(request(Method::GET, "/a"), true, |_| Some((401, None))).await;
    assert_eq!((result, seen.len()), (Ok(401), 2));
    let (result, seen) = send(request(Method::GET, "/a"), false, |_| Some((401, None))).await;
    assert_eq!((result, seen), (Ok(401), vec!["GET -".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn what_may_be_repeated_is() {
    for (method, path, status, calls) in [
        (Method::GET, "/a", 503, 3),
        (Method::GET, "/a", 500, 3),
        (Method::PATCH, "/a", 504, 3),
        (Method::PATCH, "/a", 500, 1),
        (Method::DELETE, "/a", 503, 3),
        (Method::POST, "/a", 503, 1),
        (Method::POST, "/a", 429, 3),
        (Method::POST, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", 503, 3),
        (Method::GET, "/a", 404, 1),
        (Method::GET, "/a", 403, 1),
    ] {
        let (result, seen) = send(request(method.clone(), path), false, move |n| Some((if n < 2 { status } else { 200 }, None))).await;
        assert_eq!(seen.len(), calls, "{method} {path} {status}");
        assert_eq!(result, Ok(if calls == 3 { 200 } else { status }), "{method} {path} {status}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_servers_own_wait_is_kept_and_a_longer_one_than_the_deadline_is_not_waited_for() {
    let start = Instant::now();
    let (result, _) = send(request(Method::GET, "/a"), false, |n| Some(if n == 0 { (429, Some(7)) } else { (200, None) })).await;
    assert_eq!((result, start.elapsed().as_secs()), (Ok(200), 7));
    let start = Instant::now();
    let (result, seen) = send(request(Method::GET, "/a"), false, |_| Some((429, Some(60)))).await;
    assert_eq!((result, seen.len(), start.elapsed().as_secs()), (Ok(429), 1, 0));
}

#[tokio::test(start_paused = true)]
async fn silence_ends_at_the_deadline() {
    for (method, seconds) in [(Method::GET, 15), (Method::PATCH, 45)] {
        let start = Instant::now();
        let (result, _) = send(request(method, "/a"), false, |_| None).await;
        let fault = result.expect_err("no answer");
        assert_eq!((fault.code, start.elapsed().as_secs()), (Code::ApiUnreachable, seconds));
        assert!(fault.message.contains("/a within"), "{fault}");
    }
}

#[tokio::test(start_paused = true)]
async fn after_failures_the_last_answer_is_told_at_the_deadline() {
    let (result, _) = send(request(Method::GET, "/a"), false, |n| if n == 0 { Some((503, None)) } else { None }).await;
    assert_eq!(result, Ok(503));
}
