//! `meshstep verify --address …`: checks from flags alone, without a pipeline file or a cluster.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::base::mutex::lock;
use crate::clients::http::Http;
use crate::domain::verify::Expect;
use crate::domain::verify::want::Statuses;
use crate::engine::record::{CaseBuilder, Done, Recorder};
use crate::stages::verify::Scheme;
use crate::stages::verify::ask::{AT_ONCE, Asker, Heard, Question, Talk, Through};

/// What the flags say.
#[derive(Clone, Debug)]
pub struct Direct {
    /// Where to connect; without it each host's own address.
    pub address: Option<(String, u16)>,
    pub hosts: Vec<String>,
    pub scheme: Scheme,
    pub path: String,
    pub status: Option<u16>,
    pub body_contains: Option<String>,
    /// The answer must be there within this time.
    pub within: Option<Duration>,
    /// How long a host may take to answer rightly.
    pub timeout: Duration,
    pub cacert: Option<PathBuf>,
}

/// The hosts of a `--hosts-file`: one a line, blank lines and `#` comments left out.
pub fn hosts_of(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split('#').next().unwrap_or_default().trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

impl Direct {
    /// Asks every host, 16 at a time, each as a case of its own.
    pub async fn run(self, record: &Recorder, http: &Http) {
        let through = self.address.map_or(Through::Own, |(host, port)| Through::Address(host, port));
        let asker = Asker::agent(http.clone(), through, self.cacert).with_hosts(self.hosts.iter().cloned());
        let expect = Expect { status: self.status.map(Statuses::one), body_contains: self.body_contains, within: self.within, ..Expect::default() };
        let (scheme, path, timeout) = (self.scheme, self.path, self.timeout);
        let at_once = AT_ONCE.min(self.hosts.len());
        let hosts = Arc::new(Mutex::new(self.hosts.into_iter()));
        // Tasks of their own: handshakes and judgements take all the processors there are.
        let mut asking = JoinSet::new();
        for _ in 0..at_once {
            let (asker, record, hosts, path, expect) = (asker.clone(), record.clone(), Arc::clone(&hosts), path.clone(), expect.clone());
            asking.spawn(async move {
                let next = || lock(&hosts).next();
                while let Some(host) = next() {
                    let question = Question { scheme: scheme.into(), host, path: path.clone(), port: None, listener: None, expect: expect.clone() };
                    ask(&asker, &question, record.case(question.title()), timeout).await;
                }
            });
        }
        asking.join_all().await;
    }
}

async fn ask(asker: &Asker, question: &Question, case: CaseBuilder, timeout: Duration) {
    case.run(|case| async move {
        let talk = Talk::new(asker, question, &case);
        let heard = talk.listen(timeout, false).await;
        match talk.end(heard)? {
            Heard::Right { note } => Ok(Done::unchanged((), note)),
            Heard::Candidate { fault, .. } => Err(fault),
            Heard::Unasked { reason } => Ok(Done::Skipped(reason)),
        }
    })
    .await;
}

#[cfg(test)]
mod tests;
