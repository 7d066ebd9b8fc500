//! Checks from flags against scripted servers on loopback.

use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;
use wiremock::matchers::{any, header};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;
use crate::base::codes::Code;
use crate::clients::Settings;
use crate::engine::event::{CaseEnd, Event, Stamped};
use crate::engine::outcome::Outcome;
use crate::engine::record::Reporter;

#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<CaseEnd>>>);

impl Reporter for Heard {
    fn events(&mut self, events: &[Stamped]) {
        let ends = events.iter().filter_map(|event| if let Event::CaseEnded(end) = &event.event { Some((**end).clone()) } else { None });
        self.0.lock().expect("lock").extend(ends);
    }
}

async fn run(server: &MockServer, change: impl FnOnce(&mut Direct)) -> Vec<CaseEnd> {
    let heard = Heard::default();
    let record = Recorder::new(vec![Box::new(heard.clone())], CancellationToken::new()).for_stage("verify");
    let http = Http::new(&Settings::from_vars([], [])).expect("a client");
    let mut direct = Direct {
        address: crate::stages::verify::address(&server.address().to_string()),
        hosts: vec!["app1.public.domain".into()],
        scheme: Scheme::Http,
        path: "/".into(),
        status: Some(200),
        body_contains: None,
        within: None,
        timeout: Duration::from_secs(5),
        cacert: None,
    };
    change(&mut direct);
    direct.run(&record, &http).await;
    heard.0.lock().expect("lock").clone()
}

fn property<'a>(end: &'a CaseEnd, name: &str) -> Option<&'a str> {
    end.properties.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

#[test]
fn a_hosts_file_may_hold_comments() {
    assert_eq!(hosts_of("a.example\n\n# no\n b.example # yes\r\n"), ["a.example", "b.example"]);
}

#[tokio::test]
async fn every_host_is_asked_by_its_own_name() {
    let server = MockServer::start().await;
    for n in 0..40 {
        let mock = Mock::given(header("host", format!("h{n}.example").as_str())).respond_with(ResponseTemplate::new(200));
        mock.expect(1).mount(&server).await;
    }
    let ends = run(&server, |d| d.hosts = (0..40).map(|n| format!("h{n}.example")).collect()).await;
    assert_eq!(ends.len(), 40);
    assert!(ends.iter().all(|e| matches!(e.outcome, Outcome::Passed { .. })), "{ends:?}");
    let curl = property(&ends[0], "curl").expect("curl");
    assert!(curl.starts_with("curl -sS -i --connect-to h") && curl.contains(&format!(":{}", server.address().port())), "{curl}");
}

#[tokio::test]
async fn a_host_that_recovers_passes_and_its_attempts_are_kept() {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(503)).up_to_n_times(1).mount(&server).await;
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&server).await;
    let ends = run(&server, |_| {}).await;
    assert!(matches!(ends[0].outcome, Outcome::Passed { .. }), "{ends:?}");
    assert_eq!(property(&ends[0], "attempts"), Some("2"));
    assert!(ends[0].output.contains("expected 200, got 503"), "{}", ends[0].output);
    assert!(ends[0].attempts.is_empty(), "settling within the grace is no flakiness");
}

#[tokio::test]
async fn a_wrong_answer_fails_with_its_history_and_the_command() {
    let server = MockServer::start().await;
    let gateway = ResponseTemplate::new(503).insert_header("server", "istio-envoy").set_body_string("no healthy upstream");
    Mock::given(any()).respond_with(gateway).mount(&server).await;
    let ends = run(&server, |d| (d.timeout, d.status) = (Duration::from_millis(2500), None)).await;
    let fault = ends[0].outcome.fault().expect("a fault");
    assert_eq!(fault.code, Code::NoHealthyUpstream);
    let attempts = property(&ends[0], "attempts").expect("attempts");
    assert!(
        fault.message.starts_with(&format!("got 503 by the gateway: it has no healthy pod to send to after {attempts} attempts in")),
        "{}",
        fault.message
    );
    assert!(fault.evidence.iter().any(|e| e.title == "attempts" && e.text.starts_with("after ")), "{fault:?}");
    assert!(property(&ends[0], "curl").is_some_and(|c| c.starts_with("curl -sS -i --connect-to app1.public.domain:80:127.0.0.1:")), "{ends:?}");
}

#[tokio::test]
async fn a_refused_connection_is_told_as_such() {
    let server = MockServer::start().await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    let ends = run(&server, |d| (d.address, d.timeout) = (Some(("127.0.0.1".into(), closed.port())), Duration::from_millis(100))).await;
    assert_eq!(ends[0].outcome.fault().map(|f| f.code), Some(Code::Refused));
}

#[tokio::test]
async fn of_a_body_of_which_something_is_expected_all_is_read() {
    let server = MockServer::start().await;
    let body = format!("{}the end", " ".repeat(200 * 1024));
    Mock::given(any()).respond_with(ResponseTemplate::new(200).set_body_string(body)).mount(&server).await;
    let ends = run(&server, |d| d.body_contains = Some("the end".into())).await;
    assert!(matches!(ends[0].outcome, Outcome::Passed { .. }), "{ends:?}");
}
