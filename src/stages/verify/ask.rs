//! Asks one question again and again until the answer is right, waiting is pointless, or the time is up.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures::future::join_all;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use url::Url;

use crate::base::codes::Code;
use crate::base::fault::{Class, Fault, Result};
use crate::base::text;
use crate::base::wait::{self, Patience, Poll};
use crate::clients::http::{Answer, Http, NetError, Request, Scheme};
use crate::domain::verify::judged::{Asked, Told};
use crate::domain::verify::want::Session;
use crate::domain::verify::{self, Expect, Origin, Reply, Verdict, curl, retry};
use crate::engine::record::Case;

/// How many requests are under way at once.
pub const AT_ONCE: usize = 16;
/// A wrong answer within this time is the usual settling after a change, no flakiness.
const GRACE: Duration = Duration::from_secs(15);
/// What one request may take.
const REQUEST: Duration = Duration::from_secs(10);
/// Redirects of load balancer and gateway that are followed.
const HOPS: usize = 5;
/// A wrong answer that a stale certificate may be behind is looked into when it was seen so often.
const CANDIDATE_AFTER: u32 = 2;

/// Where the requests go.
#[derive(Clone, Debug)]
pub enum Through {
    /// The addresses that this name (the load balancer's) has at each attempt.
    Balancer(String),
    /// This host and port, whatever the scheme.
    Address(String, u16),
    /// The host's own addresses.
    Own,
}

/// What all questions share. Cheap to clone.
#[derive(Clone)]
pub struct Asker {
    pub http: Http,
    pub through: Through,
    pub cacert: Option<PathBuf>,
    permits: Arc<Semaphore>,
}

/// One request and what its answer must be.
#[derive(Clone, Debug)]
pub struct Question {
    pub scheme: Scheme,
    pub host: String,
    pub path: String,
    pub expect: Expect,
}

/// What a question came to.
pub enum Heard {
    Right {
        note: String,
    },
    /// The gateway cannot talk to the pods: a stale certificate may be behind it, which needs evidence.
    Candidate {
        reply: Reply,
        fault: Fault,
    },
}

/// A question that is being asked, with all that was heard so far.
pub struct Talk<'a> {
    asker: &'a Asker,
    question: &'a Question,
    case: &'a Case,
    start: Instant,
    history: Mutex<History>,
}

impl<'a> Talk<'a> {
    pub fn new(asker: &'a Asker, question: &'a Question, case: &'a Case) -> Self {
        case.property("curl", asker.curl(question));
        Self { asker, question, case, start: Instant::now(), history: Mutex::default() }
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Asks until the answer is right, for at most `limit`. With `stop_at_candidate` an answer that a stale certificate may be behind ends it too.
    ///
    /// # Errors
    /// The last wrong answer's fault, when the time is up or waiting is pointless.
    pub async fn listen(&self, limit: Duration, stop_at_candidate: bool) -> Result<Heard> {
        let from = Instant::now();
        self.history().same = 0;
        let wake = || {
            let pause = retry::pause(self.history().attempts, retry::jitter());
            tokio::time::sleep(pause)
        };
        let look = || async {
            let judged = self.asker.attempt(self.question).await;
            self.record(&judged.asked);
            let mut history = self.history();
            history.attempts += 1;
            if let Some(reply) = &judged.reply {
                history.status = Some((reply.status, reply.took_ms));
            }
            let Some(wrong) = judged.wrong else {
                judged.warning.into_iter().for_each(|w| self.case.warn(w));
                return Ok(Poll::Ready(Heard::Right { note: judged.reply.map(|r| r.status.to_string()).unwrap_or_default() }));
            };
            history.note(self.start.elapsed(), &wrong.fault);
            history.last = Some(wrong.fault.clone());
            if self.start.elapsed() > GRACE && history.attempts > 1 {
                self.case.attempt(wrong.fault.clone());
            }
            if wrong.candidate && stop_at_candidate && history.same >= CANDIDATE_AFTER {
                return Ok(Poll::Ready(Heard::Candidate { reply: judged.reply.unwrap_or_default(), fault: wrong.fault }));
            }
            if from.elapsed() >= wrong.patience { Err(wrong.fault) } else { Ok(Poll::NotYet(wrong.fault.message)) }
        };
        let patience = Patience::new(limit, Duration::from_secs(6));
        wait::until(patience, |reason| self.case.progress(reason), wake, look).await.map_err(|error| {
            let last = self.history().last.clone();
            error.into_fault(|timed_out| {
                let silent = || Fault::new(Code::NoAnswer, format!("no answer within {}", text::seconds(timed_out.after))).class(Class::TimedOut);
                last.unwrap_or_else(silent)
            })
        })
    }

    /// Records what was asked and answered, with its verdict; the same verdict again is left out.
    fn record(&self, asked: &[Asked]) {
        let mut history = self.history();
        for asked in asked.iter().map(Asked::for_the_record) {
            let verdict = asked.judge();
            if history.told.insert(asked.title(), verdict.clone()).as_ref() != Some(&verdict) {
                let mut data = serde_json::to_value(&asked).unwrap_or_default();
                if let Some(map) = data.as_object_mut() {
                    map.insert("verdict".to_owned(), serde_json::to_value(&verdict).unwrap_or_default());
                }
                self.case.observed("answer", &data);
            }
        }
    }

    /// Ends the talk: what was heard goes into the case, and into the fault if there is one.
    pub fn end<T>(self, result: Result<T>) -> Result<T> {
        let (took, history) = (self.start.elapsed(), self.history.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()));
        self.case.property("attempts", history.attempts);
        if let Some((status, took_ms)) = history.status {
            self.case.property("http.status", status);
            self.case.property("http.time_ms", took_ms);
        }
        let lines = if history.attempts > 1 { history.lines.join("\n") } else { String::new() };
        if !lines.is_empty() {
            self.case.output(&lines);
        }
        result.map_err(|fault| {
            // A fault with other words than the last answer's is not about how often it was asked.
            let is_answer = history.last.as_ref().is_some_and(|last| last.message == fault.message);
            let message = match history.attempts {
                n if n > 1 && is_answer => format!("{} after {n} attempts in {}", fault.message, text::seconds(took)),
                _ => fault.message.clone(),
            };
            Fault { message, ..fault }.evidence("attempts", lines)
        })
    }
}

/// One answer, judged.
struct Judged {
    /// All that was asked for it, hop by hop and address by address.
    asked: Vec<Asked>,
    /// `None`: right.
    wrong: Option<Wrong>,
    reply: Option<Reply>,
    warning: Option<String>,
}

struct Wrong {
    fault: Fault,
    candidate: bool,
    patience: Duration,
}

impl Question {
    /// `GET app1.public.domain/`, with the scheme when it is HTTPS.
    pub fn title(&self) -> String {
        match self.scheme {
            Scheme::Http => format!("GET {}{}", self.host, self.path),
            Scheme::Https => format!("GET https://{}{}", self.host, self.path),
        }
    }
}

impl Asker {
    pub fn new(http: Http, through: Through, cacert: Option<PathBuf>) -> Self {
        Self { http, through, cacert, permits: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// The command by which a person asks the same.
    pub fn curl(&self, question: &Question) -> String {
        let port = question.scheme.default_port();
        let via = match &self.through {
            Through::Balancer(name) => Some((name.as_str(), port)),
            Through::Address(host, port) => Some((host.as_str(), *port)),
            Through::Own => None,
        };
        let cacert = self.cacert.as_ref().map(|p| p.display().to_string());
        let https = question.scheme == Scheme::Https;
        curl::command(curl::Asked { https, host: &question.host, port, path: &question.path, via, cacert: cacert.as_deref() })
    }

    /// One attempt at every address; one that is wrong makes it wrong.
    async fn attempt(&self, question: &Question) -> Judged {
        let addresses = match self.addresses(question).await {
            Ok(addresses) => addresses,
            Err(judged) => return *judged,
        };
        let many = addresses.len() > 1;
        let answers = join_all(addresses.iter().map(|address| self.follow(question, *address))).await;
        let mut right = None;
        let mut wrong: Option<Judged> = None;
        let mut asked = Vec::new();
        for (address, (mut judged, unreachable)) in addresses.iter().zip(answers) {
            asked.append(&mut judged.asked);
            match &judged.wrong {
                None => right = Some(judged),
                // No route to an IPv6 address from here says nothing about the load balancer.
                Some(_) if unreachable && many && address.is_some_and(|a| a.is_ipv6()) => {}
                Some(_) => wrong = Some(at(judged, address.filter(|_| many))),
            }
        }
        let judged = wrong.or(right).unwrap_or_else(|| {
            let fault = Fault::new(Code::Unreachable, "none of the load balancer's addresses can be reached from here");
            Judged { asked: Vec::new(), wrong: Some(Wrong { fault, candidate: false, patience: Duration::MAX }), reply: None, warning: None }
        });
        Judged { asked, ..judged }
    }

    /// The addresses to ask; `None`: leave it to the client.
    async fn addresses(&self, question: &Question) -> Result<Vec<Option<SocketAddr>>, Box<Judged>> {
        let (name, port) = match &self.through {
            Through::Balancer(name) => (name, question.scheme.default_port()),
            Through::Address(host, port) => (host, *port),
            Through::Own => return Ok(vec![None]),
        };
        match self.http.resolve(name).await {
            Ok(addresses) => Ok(addresses.into_iter().map(|ip| Some(SocketAddr::new(ip, port))).collect()),
            Err(error) => {
                let error = NetError::Dns(error);
                Err(Box::new(Judged { asked: vec![asked(question, None, Err(error.clone()))], ..failed(&error) }))
            }
        }
    }

    /// Asks at one address, and again where the load balancer or the gateway sends to. The flag: the address cannot be reached from here.
    async fn follow(&self, question: &Question, address: Option<SocketAddr>) -> (Judged, bool) {
        let (mut question, mut address) = (question.clone(), address);
        let mut seen = Vec::new();
        let mut heard: Vec<Asked> = Vec::new();
        for _ in 0..HOPS {
            let answered = self.once(&question, address).await;
            let error = answered.as_ref().err().cloned();
            let one = asked(&question, address, answered);
            let verdict = one.verdict();
            let reply = match &one.answer {
                verify::judged::Answer::Reply { reply, .. } => reply.clone(),
                verify::judged::Answer::Error(_) => Reply::default(),
            };
            heard.push(one);
            if let Some(error) = error {
                return (hopped(Judged { asked: heard, ..failed(&error) }, &seen), matches!(error, NetError::Unreachable { .. }));
            }
            match verdict {
                Verdict::Right { warning } => return (Judged { asked: heard, wrong: None, reply: Some(reply), warning }, false),
                Verdict::Wrong { origin, fault } => return (hopped(Judged { asked: heard, ..wrong(*fault, &origin, reply) }, &seen), false),
                Verdict::Follow { location, .. } => {
                    let Some(next) = next_hop(&question, &location) else {
                        let fault = Fault::new(Code::HttpUnexpected, format!("got {} to a place that cannot be asked: {location}", reply.status));
                        return (Judged { asked: heard, ..wrong(fault, &Origin::Gateway, reply) }, false);
                    };
                    address = if next.host.eq_ignore_ascii_case(&question.host) {
                        address.map(|a| {
                            SocketAddr::new(a.ip(), if matches!(self.through, Through::Balancer(_)) { next.scheme.default_port() } else { a.port() })
                        })
                    } else {
                        None
                    };
                    seen.push(location);
                    question = next;
                }
            }
        }
        let fault = Fault::new(Code::HttpUnexpected, format!("redirected {HOPS} times: {}", seen.join(" → ")));
        let wrong = Some(Wrong { fault, candidate: false, patience: Duration::from_secs(20) });
        (Judged { asked: heard, wrong, reply: None, warning: None }, false)
    }

    /// One request.
    pub async fn once(&self, question: &Question, address: Option<SocketAddr>) -> Result<Answer, NetError> {
        let _permit = self.permits.acquire().await;
        let mut request = Request::get(question.scheme, &question.host, &question.path);
        request.connect = address;
        if let Through::Balancer(name) = &self.through {
            request.via = Some(name.clone()).filter(|_| address.is_some());
        }
        request.timeout = REQUEST;
        request.cacert.clone_from(&self.cacert);
        self.http.send(&request).await
    }
}

/// A question with its answer, as it is judged.
fn asked(question: &Question, address: Option<SocketAddr>, answered: Result<Answer, NetError>) -> Asked {
    let answer = match answered {
        Ok(answer) => {
            let took_ms = u64::try_from(answer.timings.total.as_millis()).unwrap_or(u64::MAX);
            let session =
                answer.tls.as_ref().map(|tls| Session { version: tls.version.clone(), not_after: tls.chain.first().map(|leaf| leaf.not_after) });
            verify::judged::Answer::Reply { reply: Reply { status: answer.status, body: answer.text(), headers: answer.headers, took_ms }, session }
        }
        Err(error) => verify::judged::Answer::Error(error),
    };
    Asked {
        at: Timestamp::now(),
        scheme: question.scheme,
        host: question.host.clone(),
        path: question.path.clone(),
        address: address.map(|address| address.ip().to_string()),
        expect: question.expect.clone(),
        answer,
    }
}

/// The question that a redirect asks.
fn next_hop(question: &Question, location: &str) -> Option<Question> {
    let base = Url::parse(&format!("{}://{}{}", question.scheme.as_str(), question.host, question.path)).ok()?;
    let url = base.join(location).ok()?;
    let scheme = match url.scheme() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return None,
    };
    let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let next = Question { scheme, host: url.host_str()?.to_owned(), path, expect: question.expect.clone() };
    let same = next.scheme == question.scheme && next.host == question.host && next.path == question.path;
    (!same).then_some(next)
}

fn wrong(fault: Fault, origin: &Origin, reply: Reply) -> Judged {
    let patience = Duration::from_secs(origin.patience_seconds());
    Judged {
        asked: Vec::new(),
        wrong: Some(Wrong { fault, candidate: origin.may_be_stale_certificate(), patience }),
        reply: Some(reply),
        warning: None,
    }
}

fn failed(error: &NetError) -> Judged {
    let fault = error.fault();
    let patience = retry::net_patience(fault.code);
    Judged { asked: Vec::new(), wrong: Some(Wrong { fault, candidate: false, patience }), reply: None, warning: None }
}

/// Tells which way an answer came about.
fn hopped(mut judged: Judged, seen: &[String]) -> Judged {
    if let (Some(wrong), Some(last)) = (&mut judged.wrong, seen.last()) {
        wrong.fault.message = format!("{} (redirected to {last})", wrong.fault.message);
    }
    judged
}

fn at(mut judged: Judged, address: Option<SocketAddr>) -> Judged {
    if let (Some(wrong), Some(address)) = (&mut judged.wrong, address) {
        wrong.fault.message = format!("at {}: {}", address.ip(), wrong.fault.message);
    }
    judged
}

/// The attempts of one question, equal ones folded.
#[derive(Default)]
struct History {
    attempts: u32,
    /// How often the newest message came in a row.
    same: u32,
    newest: String,
    lines: Vec<String>,
    last: Option<Fault>,
    status: Option<(u16, u64)>,
    /// The verdicts that were recorded, by what was asked.
    told: BTreeMap<String, Told>,
}

impl History {
    fn note(&mut self, after: Duration, fault: &Fault) {
        if fault.message == self.newest {
            self.same += 1;
            return;
        }
        (self.newest, self.same) = (fault.message.clone(), 1);
        self.lines.push(format!("after {}: {}", text::seconds(after), fault.message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(host: &str, path: &str) -> Question {
        Question { scheme: Scheme::Http, host: host.into(), path: path.into(), expect: Expect::default() }
    }

    #[test]
    fn a_redirect_is_another_question() {
        let next = |location: &str| next_hop(&question("h.example", "/a?b=1"), location).map(|q| q.title());
        assert_eq!(next("https://h.example:443/a?b=1").as_deref(), Some("GET https://h.example/a?b=1"));
        assert_eq!(next("/login").as_deref(), Some("GET h.example/login"));
        assert_eq!(next("https://other.example/").as_deref(), Some("GET https://other.example/"));
        assert_eq!(next("http://h.example/a?b=1"), None);
        assert_eq!(next("ftp://h.example/"), None);
    }

    #[test]
    fn equal_attempts_are_one_line() {
        let mut history = History::default();
        for (after, message) in [(0, "503"), (1, "503"), (2, "404"), (3, "503")] {
            history.note(Duration::from_secs(after), &Fault::new(Code::HttpStatus, message));
        }
        assert_eq!(history.lines, ["after 0.0 s: 503", "after 2.0 s: 404", "after 3.0 s: 503"]);
    }
}
