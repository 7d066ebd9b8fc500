//! Who asks: this agent, each address of the load balancer by itself; or a pod inside the cluster, whose curl looks names up.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use super::ask::{AT_ONCE, Question, Through};
use super::inside::{Inside, Unheard};
use crate::base::wait::Queue;
use crate::clients::http::{Answer, DnsError, Http, NetError, Request};
use crate::domain::probe;
use crate::domain::verify::inside;
use crate::domain::verify::judged;
use crate::domain::verify::want::Session;

/// What one request may take.
pub const REQUEST: Duration = Duration::from_secs(10);
/// How much of a body is read of which something is expected; a verdict on it has it in the log of the run.
const WHOLE_BODY: usize = 1024 * 1024;

/// Cheap to clone.
#[derive(Clone)]
pub enum Vantage {
    Agent { http: Http, cacert: Option<PathBuf>, turns: Arc<Semaphore> },
    Cluster(Inside),
}

/// Where one request connects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    At(SocketAddr),
    /// One of the load balancer's addresses, as who asks looks it up.
    Balancer,
    /// The host's own.
    Own,
}

impl Target {
    pub fn ip(self) -> Option<IpAddr> {
        if let Target::At(address) = self { Some(address.ip()) } else { None }
    }
}

impl Vantage {
    pub fn agent(http: Http, cacert: Option<PathBuf>) -> Self {
        Vantage::Agent { http, cacert, turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// A turn to ask at all addresses; the pods inside have a queue of their own.
    pub async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        let Vantage::Agent { turns, .. } = self else { return None };
        turns.acquire().await.ok()
    }

    /// All targets of a question.
    ///
    /// # Errors
    /// When the name does not resolve, or not before `until`.
    pub async fn targets(&self, question: &Question, through: &Through, until: Instant) -> Result<Vec<Target>, NetError> {
        let port = question.url_port();
        let (name, port) = match (self, through) {
            _ if question.port.is_some() => return Ok(vec![Target::Own]),
            (_, Through::Own) => return Ok(vec![Target::Own]),
            (Vantage::Cluster(_), _) => return Ok(vec![Target::Balancer]),
            (Vantage::Agent { .. }, Through::Balancer { name, .. }) => (name, port),
            (Vantage::Agent { .. }, Through::Address(host, port)) => (host, *port),
        };
        let Vantage::Agent { http, .. } = self else { return Ok(Vec::new()) };
        let found = timeout_at(until, http.resolve(name)).await.unwrap_or_else(|_| Err(DnsError::Timeout(name.clone())));
        let addresses = found.map_err(NetError::Dns)?;
        Ok(addresses.into_iter().map(|ip| Target::At(SocketAddr::new(ip, port))).collect())
    }

    /// One request; `queue` is where it stands until a pod asks it.
    ///
    /// # Errors
    /// When there is no answer, or this agent has none before `until`.
    pub async fn once(
        &self,
        question: &Question,
        through: &Through,
        target: Target,
        until: Instant,
        queue: &Queue,
    ) -> Result<judged::Answer, Unheard> {
        let balancer = match through {
            Through::Balancer { name, .. } if target != Target::Own => Some(name.clone()),
            _ => None,
        };
        match self {
            Vantage::Agent { http, cacert, .. } => {
                let mut request = Request::get(question.scheme, &question.host, &question.path);
                request.port = question.url_port();
                request.connect = if let Target::At(address) = target { Some(address) } else { None };
                request.via = balancer;
                request.timeout = REQUEST.min(until.saturating_duration_since(Instant::now()));
                request.cacert.clone_from(cacert);
                if question.expect.reads_body() {
                    request.body_cap = WHOLE_BODY;
                }
                // How long an answer takes is how long it takes from nothing.
                request.keep = question.expect.within.is_none();
                Ok(heard(http.send(&request).await.map_err(Unheard::Net)?))
            }
            Vantage::Cluster(inside) => {
                let name = balancer.clone().unwrap_or_else(|| question.host.clone());
                let transfer = inside.ask(request(question, balancer, inside.trusts), queue).await?;
                let reply = inside::answer(transfer, &name, REQUEST).map_err(Unheard::Net)?;
                Ok(judged::Answer::Reply { reply, session: None, truncated: false })
            }
        }
    }
}

fn heard(answer: Answer) -> judged::Answer {
    let session = answer.tls.as_ref().map(|tls| Session { version: tls.version.clone(), not_after: tls.chain.first().map(|leaf| leaf.not_after) });
    let truncated = answer.truncated;
    judged::Answer::Reply { reply: answer.into(), session, truncated }
}

/// The question as a pod's curl asks it.
fn request(question: &Question, via: Option<String>, trusts: bool) -> probe::Request {
    let port = question.port.or(question.listener).map(|port| format!(":{port}")).unwrap_or_default();
    let url = format!("{}://{}{port}{}", question.scheme.as_str(), question.host, question.path);
    let within = u32::try_from(REQUEST.as_secs()).unwrap_or(u32::MAX);
    probe::Request { url, via, within, cacert: trusts && question.scheme.as_str() == "https", ..probe::Request::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::http::Scheme;
    use crate::domain::verify::Expect;

    #[test]
    fn a_pod_asks_by_the_hosts_own_name() {
        let question =
            |scheme, port| Question { scheme, host: "h.example".into(), path: "/a?b=1".into(), port, listener: None, expect: Expect::default() };
        let asked = request(&question(Scheme::Https, None), Some("k8s.elb".into()), true);
        assert_eq!((asked.url.as_str(), asked.via.as_deref(), asked.cacert), ("https://h.example/a?b=1", Some("k8s.elb"), true));
        let at_listener = Question { listener: Some(8443), ..question(Scheme::Https, None) };
        assert_eq!(request(&at_listener, Some("k8s.elb".into()), true).url, "https://h.example:8443/a?b=1");
        let asked = request(&question(Scheme::Http, Some(8000)), None, true);
        assert_eq!((asked.url.as_str(), asked.via, asked.cacert), ("http://h.example:8000/a?b=1", None, false));
    }
}
