//! `meshstep verify --address …`: checks from flags alone, without a pipeline file or a cluster.

use std::path::PathBuf;
use std::time::Duration;

use futures::StreamExt;

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
        let asker = Asker::agent(http.clone(), through, self.cacert);
        let expect = Expect { status: self.status.map(Statuses::one), body_contains: self.body_contains, within: self.within, ..Expect::default() };
        let (asker, path, timeout) = (&asker, &self.path, self.timeout);
        futures::stream::iter(self.hosts)
            .for_each_concurrent(AT_ONCE, |host| {
                let question = Question { scheme: self.scheme.into(), host, path: path.clone(), port: None, expect: expect.clone() };
                let case = record.case(question.title());
                // A task of its own for each host: handshakes and judgements take all the processors there are.
                let asking = tokio::spawn(ask(asker.clone(), question, case, timeout));
                async { asking.await.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic())) }
            })
            .await;
    }
}

async fn ask(asker: Asker, question: Question, case: CaseBuilder, timeout: Duration) {
    case.run(|case| async move {
        let talk = Talk::new(&asker, &question, &case);
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
