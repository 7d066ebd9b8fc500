//! Asks one question again and again until the answer is right, waiting is pointless, or the time is up.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use serde::Serialize;
use tokio::time::Instant;
use url::Url;

use super::hop::{self, Hop, Ours};
use super::inside::{Inside, Unheard};
use super::vantage::{REQUEST, Target, Vantage};
use crate::base::codes::Code;
use crate::base::fault::{Class, Fault, Result};
use crate::base::mutex::lock;
use crate::base::text;
use crate::base::wait::{self, Patience, Poll, Queue};
use crate::clients::http::{Http, NetError, Scheme};
use crate::domain::ingress::listeners::Listener;
use crate::domain::verify::judged::{self, Answer, Asked, Told};
use crate::domain::verify::reach::{Tried, unreached, unreached_name};
use crate::domain::verify::{Expect, Origin, Reply, Verdict, curl, retry};
use crate::engine::record::Case;

/// How many questions are asked at once, each at all addresses.
pub const AT_ONCE: usize = 16;
/// A wrong answer within this time is the usual settling after a change, no flakiness.
const GRACE: Duration = Duration::from_secs(15);
/// How long an internal load balancer may be silent before it is taken for one that does not answer here.
const SILENCE: Duration = Duration::from_secs(10);
/// The first attempt ends this long before the wait does, so that it still tells what it hung at.
const BEFORE_THE_END: Duration = Duration::from_millis(100);
/// A redirect that leads nowhere may be of a rule that is being changed.
const SETTLING: Duration = Duration::from_secs(20);
/// Redirects of load balancer and gateway that are followed.
const HOPS: usize = 5;
/// A wrong answer that a stale certificate may be behind is looked into when it was seen so often.
const CANDIDATE_AFTER: u32 = 2;

/// Where the requests go.
#[derive(Clone, Debug)]
pub enum Through {
    /// The addresses that this name (the load balancer's) has at each attempt; and its scheme, where AWS tells it.
    Balancer { name: String, scheme: Option<String> },
    /// This host and port, whatever the scheme.
    Address(String, u16),
    /// The host's own addresses.
    Own,
}

/// What all questions share. Cheap to clone.
#[derive(Clone)]
pub struct Asker {
    vantage: Vantage,
    through: Through,
    ours: Ours,
}

/// One request and what its answer must be.
#[derive(Clone, Debug)]
pub struct Question {
    pub scheme: Scheme,
    pub host: String,
    pub path: String,
    /// The Service's own port: it is asked by its name in the cluster, and not through the load balancer.
    pub port: Option<u16>,
    /// The listener's port, where it is not the scheme's own.
    pub listener: Option<u16>,
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
    /// It cannot be asked from here, which says nothing about the host.
    Unasked {
        reason: String,
    },
}

/// A question that is being asked, with all that was heard so far.
pub struct Talk<'a> {
    asker: &'a Asker,
    question: &'a Question,
    case: &'a Case,
    start: Instant,
    queue: Queue,
    history: Mutex<History>,
}

impl<'a> Talk<'a> {
    pub fn new(asker: &'a Asker, question: &'a Question, case: &'a Case) -> Self {
        case.property("curl", asker.curl(question));
        Self { asker, question, case, start: Instant::now(), queue: Queue::default(), history: Mutex::default() }
    }

    /// How long it has been asked, without the time in which others were.
    pub fn asked_for(&self) -> Duration {
        self.start.elapsed().saturating_sub(self.queue.stood())
    }

    fn history(&self) -> MutexGuard<'_, History> {
        lock(&self.history)
    }

    /// Asks until the answer is right, for at most `limit`. With `stop_at_candidate` an answer that a stale certificate may be behind ends it too.
    ///
    /// # Errors
    /// The last wrong answer's fault, when the time is up or waiting is pointless.
    pub async fn listen(&self, limit: Duration, stop_at_candidate: bool) -> Result<Heard> {
        {
            let mut history = self.history();
            (history.same, history.cause) = (0, retry::Cause::default());
        }
        let long_enough = limit.max(wait::FIRST_LOOK).saturating_sub(BEFORE_THE_END);
        let wake = || {
            let pause = retry::pause(self.history().attempts, retry::jitter());
            tokio::time::sleep(pause)
        };
        let look = || async {
            let turn = self.queue.stand(self.asker.vantage.turn()).await;
            let begun = self.asked_for();
            let judged = self.asker.attempt(self.question, Instant::now() + long_enough, &self.queue).await;
            drop(turn);
            self.record(&judged.asked);
            let mut history = self.history();
            history.attempts += 1;
            if let Some(reply) = &judged.reply {
                history.status = Some((reply.status, reply.took_ms));
            }
            let Some(wrong) = judged.wrong else {
                judged.warning.into_iter().for_each(|w| self.case.warn(w));
                judged.aside.into_iter().for_each(|aside| self.case.output(&aside));
                return Ok(Poll::Ready(Heard::Right { note: judged.reply.map(|r| r.status.to_string()).unwrap_or_default() }));
            };
            history.note(self.start.elapsed(), &wrong.fault);
            history.last = Some(wrong.fault.clone());
            history.unasked.clone_from(&wrong.unasked);
            if self.asked_for() > GRACE && history.attempts > 1 {
                self.case.attempt(wrong.fault.clone());
            }
            if wrong.candidate && stop_at_candidate && history.same >= CANDIDATE_AFTER {
                return Ok(Poll::Ready(Heard::Candidate { reply: judged.reply.unwrap_or_default(), fault: wrong.fault }));
            }
            let lasts = history.cause.lasts((wrong.fault.code, wrong.unasked.is_some()), begun, self.asked_for());
            match wrong.unasked {
                Some(reason) if lasts >= wrong.patience => Ok(Poll::Ready(Heard::Unasked { reason })),
                None if lasts >= wrong.patience => Err(wrong.fault),
                _ => Ok(Poll::NotYet(wrong.fault.message)),
            }
        };
        let patience = Patience::new(limit, Duration::from_secs(6));
        wait::until_but(&self.queue, patience, |reason| self.case.progress(reason), wake, look).await.or_else(|error| {
            let (last, unasked) = {
                let history = self.history();
                (history.last.clone(), history.unasked.clone())
            };
            if let Some(reason) = unasked {
                return Ok(Heard::Unasked { reason });
            }
            Err(error.into_fault(|timed_out| {
                let silent = || Fault::new(Code::NoAnswer, format!("no answer within {}", text::seconds(timed_out.after))).class(Class::TimedOut);
                last.unwrap_or_else(silent)
            }))
        })
    }

    /// Records what was asked and answered, with its verdict; the same verdict again is left out.
    fn record(&self, asked: &[Asked]) {
        let mut history = self.history();
        for asked in asked.iter().map(Asked::for_the_record) {
            let verdict = asked.judge();
            if history.told.insert(asked.title(), verdict.clone()).as_ref() != Some(&verdict) {
                self.case.observed("answer", &Recorded { asked: &asked, verdict: &verdict });
            }
        }
    }

    /// Ends the talk: what was heard goes into the case, and into the fault if there is one.
    pub fn end<T>(self, result: Result<T>) -> Result<T> {
        let (took, history) = (self.start.elapsed(), self.history.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()));
        if history.attempts > 1 {
            self.case.property("attempts", history.attempts);
        }
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

/// An answer as it stands in the run's log.
#[derive(Serialize)]
struct Recorded<'a> {
    #[serde(flatten)]
    asked: &'a Asked,
    verdict: &'a Told,
}

/// One answer, judged.
struct Judged {
    /// All that was asked for it, hop by hop and address by address.
    asked: Vec<Asked>,
    /// `None`: right.
    wrong: Option<Wrong>,
    reply: Option<Reply>,
    warning: Option<String>,
    /// What was left out, beside a right answer.
    aside: Option<String>,
}

struct Wrong {
    fault: Fault,
    candidate: bool,
    patience: Duration,
    /// Why it says nothing about the host.
    unasked: Option<String>,
}

impl Question {
    /// `GET app1.public.domain/`, with the scheme when it is HTTPS.
    pub fn title(&self) -> String {
        judged::title(self.scheme, &self.host, self.port.or(self.listener), &self.path)
    }

    /// `None`: it is no URL that a client understands.
    pub(super) fn url(&self) -> Option<Url> {
        judged::url(self.scheme, &self.host, self.port.or(self.listener), &self.path)
    }

    /// The port of its URL.
    pub fn url_port(&self) -> u16 {
        self.port.or(self.listener).unwrap_or(self.scheme.default_port())
    }
}

impl Asker {
    pub fn agent(http: Http, through: Through, cacert: Option<PathBuf>) -> Self {
        Self { vantage: Vantage::agent(http, cacert), through, ours: Ours::default() }
    }

    pub fn inside(inside: Inside, through: Through) -> Self {
        Self { vantage: Vantage::Cluster(inside), through, ours: Ours::default() }
    }

    /// Redirects between these hosts are followed at the same address.
    #[must_use]
    pub fn with_hosts(self, hosts: impl IntoIterator<Item = String>) -> Self {
        Self { ours: Ours::new(hosts), ..self }
    }

    /// The command by which a person asks the same.
    pub fn curl(&self, question: &Question) -> String {
        let port = question.url_port();
        let via = match &self.through {
            _ if question.port.is_some() => None,
            Through::Balancer { name, .. } => Some((name.as_str(), port)),
            Through::Address(host, port) => Some((host.as_str(), *port)),
            Through::Own => None,
        };
        let cacert = match &self.vantage {
            Vantage::Agent { cacert, .. } => cacert.as_ref().map(|p| p.display().to_string()),
            Vantage::Cluster(_) => None,
        };
        let https = question.scheme == Scheme::Https;
        curl::command(curl::Asked { https, host: &question.host, port, path: &question.path, via, cacert: cacert.as_deref() })
    }

    /// Does anything listen there at the load balancer?
    pub async fn listens(&self, at: Listener, name: &str) -> bool {
        let (scheme, listener) = (at.scheme, at.shown_port());
        let question = Question { scheme, host: name.to_owned(), path: "/".to_owned(), port: None, listener, expect: Expect::default() };
        let until = Instant::now() + REQUEST;
        let Ok(targets) = self.vantage.targets(&question, &self.through, until).await else { return false };
        let queue = Queue::default();
        let answers = join_all(targets.iter().map(|target| self.vantage.once(&question, &self.through, *target, until, &queue))).await;
        answers.iter().any(|answer| match answer {
            Ok(_) => true,
            Err(Unheard::Net(error)) => {
                !matches!(error, NetError::Refused { .. } | NetError::Timeout { .. } | NetError::Unreachable { .. } | NetError::Dns(_))
            }
            Err(Unheard::Lost(_) | Unheard::Unasked(_)) => false,
        })
    }

    /// One attempt at every address, which ends by `until`; one that is wrong makes it wrong.
    async fn attempt(&self, question: &Question, until: Instant, queue: &Queue) -> Judged {
        let targets = match self.vantage.targets(question, &self.through, until).await {
            Ok(targets) => targets,
            Err(error) => return Judged { asked: vec![asked(question, Target::Balancer, Answer::Error(error.clone()))], ..failed(&error) },
        };
        let many = targets.len() > 1;
        let (answers, tried): (Vec<Judged>, Vec<Tried>) =
            join_all(targets.iter().map(|target| self.follow(question, *target, until, queue))).await.into_iter().unzip();
        let reason = self.unreached(question, &targets, &tried).await;
        let silence = if tried.contains(&Tried::Silent) { SILENCE } else { Duration::ZERO };
        let (mut right, mut wrong): (Option<Judged>, Option<Judged>) = (None, None);
        let (mut heard, mut left_out) = (Vec::new(), Vec::new());
        for ((target, tried), mut judged) in targets.iter().zip(tried).zip(answers) {
            heard.append(&mut judged.asked);
            let ip = target.ip().filter(|_| many);
            match &judged.wrong {
                None => right = Some(judged),
                // No route to an IPv6 address from here says nothing about the load balancer.
                Some(_) if reason.is_none() && tried == Tried::NoRoute && ip.is_some_and(|ip| ip.is_ipv6()) => left_out.extend(ip),
                Some(_) => wrong = Some(at(judged, ip)),
            }
        }
        let nowhere = || wrong_with(Fault::new(Code::Unreachable, "the load balancer has no address that can be asked"), Duration::MAX);
        let mut judged = Judged { asked: heard, ..wrong.or(right).unwrap_or_else(nowhere) };
        if let (Some(wrong), Some(reason)) = (&mut judged.wrong, reason) {
            (wrong.patience, wrong.unasked) = (silence, Some(reason));
        }
        judged.aside = left_out.first().map(|ip| format!("not asked at {ip}: there is no IPv6 route from here"));
        judged
    }

    /// Why what was tried from this agent says nothing about the host.
    async fn unreached(&self, question: &Question, targets: &[Target], tried: &[Tried]) -> Option<String> {
        let Vantage::Agent { http, .. } = &self.vantage else { return None };
        match &self.through {
            // Who names an address means it.
            Through::Address(..) => None,
            Through::Balancer { name, scheme } => {
                let addresses = targets.iter().zip(tried).filter_map(|(target, tried)| Some((target.ip()?, *tried)));
                unreached(scheme.as_deref(), name, &addresses.collect::<Vec<_>>())
            }
            Through::Own => {
                let tried = tried.first().copied().filter(|tried| *tried != Tried::Heard)?;
                let addresses = http.resolve(&question.host).await.ok()?;
                unreached_name(None, &question.host, &addresses, tried)
            }
        }
    }

    /// Asks at one address, and again where the load balancer or the gateway sends to. And how the address itself took it.
    async fn follow(&self, question: &Question, target: Target, until: Instant, queue: &Queue) -> (Judged, Tried) {
        let (mut question, mut target) = (question.clone(), target);
        let mut seen = Vec::new();
        let mut heard: Vec<Asked> = Vec::new();
        let mut tried = None;
        for _ in 0..HOPS {
            let answer = match self.vantage.once(&question, &self.through, target, until, queue).await {
                Ok(answer) => answer,
                Err(Unheard::Net(error)) => {
                    let tried = tried.unwrap_or_else(|| Tried::of(Some(&error)));
                    heard.push(asked(&question, target, Answer::Error(error.clone())));
                    return (hopped(Judged { asked: heard, ..failed(&error) }, &seen), tried);
                }
                Err(Unheard::Lost(fault)) => return (Judged { asked: heard, ..wrong_with(*fault, Duration::MAX) }, Tried::Heard),
                Err(Unheard::Unasked(reason)) => {
                    let mut judged = Judged { asked: heard, ..wrong_with(Fault::new(Code::ProbeFailed, &reason), Duration::ZERO) };
                    judged.wrong.iter_mut().for_each(|wrong| wrong.unasked = Some(reason.clone()));
                    return (judged, Tried::Heard);
                }
            };
            tried.get_or_insert(Tried::Heard);
            let one = asked(&question, target, answer);
            let verdict = one.verdict();
            let reply = match &one.answer {
                Answer::Reply { reply, .. } => reply.clone(),
                Answer::Error(_) => Reply::default(),
            };
            heard.push(one);
            match verdict {
                Verdict::Right { warning } => {
                    return (Judged { asked: heard, wrong: None, reply: Some(reply), warning, aside: None }, Tried::Heard);
                }
                Verdict::Wrong { origin, fault } => {
                    return (hopped(Judged { asked: heard, ..wrong(*fault, &origin, reply) }, &seen), Tried::Heard);
                }
                Verdict::Follow { location, by_gateway } => {
                    let status = reply.status;
                    let ended = match hop::hop(&self.through, &self.ours, target, &question, &location) {
                        Hop::Ask(next, there) => {
                            (question, target) = (*next, there);
                            None
                        }
                        Hop::Away(host) => {
                            let warning = Some(format!("sends to {host}, which is not judged here"));
                            return (Judged { asked: heard, wrong: None, reply: Some(reply), warning, aside: None }, Tried::Heard);
                        }
                        Hop::Itself => Some((hop::itself(status, &location, &question, by_gateway), SETTLING)),
                        Hop::NotThere(next) => Some((hop::not_there(status, &location, &next), Duration::ZERO)),
                        Hop::Nowhere => {
                            let message = format!("got {status} to a place that cannot be asked: {location}");
                            Some((Fault::new(Code::HttpUnexpected, message), Duration::MAX))
                        }
                    };
                    if let Some((fault, patience)) = ended {
                        return (Judged { asked: heard, reply: Some(reply), ..wrong_with(fault, patience) }, Tried::Heard);
                    }
                    seen.push(location);
                }
            }
        }
        let fault = Fault::new(Code::HttpUnexpected, format!("redirected {HOPS} times: {}", seen.join(" → ")));
        (Judged { asked: heard, ..wrong_with(fault, SETTLING) }, Tried::Heard)
    }
}

/// A question with its answer, as it is judged.
fn asked(question: &Question, target: Target, answer: Answer) -> Asked {
    Asked {
        at: Timestamp::now(),
        scheme: question.scheme,
        host: question.host.clone(),
        path: question.path.clone(),
        port: question.port,
        listener: question.listener,
        address: target.ip().map(|ip| ip.to_string()),
        expect: question.expect.clone(),
        answer,
    }
}

fn wrong(fault: Fault, origin: &Origin, reply: Reply) -> Judged {
    let patience = Duration::from_secs(origin.patience_seconds());
    let wrong = Wrong { fault, candidate: origin.may_be_stale_certificate(), patience, unasked: None };
    Judged { asked: Vec::new(), wrong: Some(wrong), reply: Some(reply), warning: None, aside: None }
}

fn failed(error: &NetError) -> Judged {
    let fault = error.fault();
    let patience = retry::net_patience(fault.code);
    wrong_with(fault, patience)
}

fn wrong_with(fault: Fault, patience: Duration) -> Judged {
    let wrong = Wrong { fault, candidate: false, patience, unasked: None };
    Judged { asked: Vec::new(), wrong: Some(wrong), reply: None, warning: None, aside: None }
}

/// Tells which way an answer came about.
fn hopped(mut judged: Judged, seen: &[String]) -> Judged {
    if let (Some(wrong), Some(last)) = (&mut judged.wrong, seen.last()) {
        wrong.fault.message = format!("{} (redirected to {last})", wrong.fault.message);
    }
    judged
}

fn at(mut judged: Judged, ip: Option<IpAddr>) -> Judged {
    if let (Some(wrong), Some(ip)) = (&mut judged.wrong, ip) {
        wrong.fault.message = format!("at {ip}: {}", wrong.fault.message);
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
    /// The newest fault's code, and whether it says nothing about the host.
    cause: retry::Cause<(Code, bool)>,
    last: Option<Fault>,
    unasked: Option<String>,
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

    #[test]
    fn equal_attempts_are_one_line() {
        let mut history = History::default();
        for (after, message) in [(0, "503"), (1, "503"), (2, "404"), (3, "503")] {
            history.note(Duration::from_secs(after), &Fault::new(Code::HttpStatus, message));
        }
        assert_eq!(history.lines, ["after 0.0 s: 503", "after 2.0 s: 404", "after 3.0 s: 503"]);
    }
}
