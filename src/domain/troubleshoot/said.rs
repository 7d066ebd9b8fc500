//! What a probe heard, as a conclusion is drawn from it.

use serde::{Deserialize, Serialize};

use crate::base::text;
use crate::domain::probe::Transfer;
use crate::domain::probe::curl::transfer;
use crate::domain::verify::{Reply, origin};

/// What one request may take, in seconds.
pub const WITHIN: u32 = 5;
/// How much of a body is kept.
const BODY: usize = 600;

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Said {
    Answer(Reply),
    /// Nothing listens, or something refuses at once.
    Refused,
    /// Taken and broken off.
    Reset,
    Timeout,
    /// The name does not resolve.
    Unresolved,
    /// Any other end, in curl's words.
    Failed(String),
    /// No way leads there from here, which says nothing about it; and why.
    Unreached(String),
    /// It was not asked, and why.
    Unasked(String),
}

impl Said {
    /// What the pod's log says of the request of this name.
    pub fn read(log: &str, name: &str) -> Self {
        transfer(log, name).map_or_else(|| Said::Unasked("the probe's log says nothing of it".to_owned()), Said::of)
    }

    fn of(transfer: Transfer) -> Self {
        let ended = transfer.ended();
        match (transfer.reply, transfer.code) {
            (Some(reply), _) => Said::Answer(Reply { body: text::head(&reply.body, BODY).into_owned(), ..reply.essence() }),
            (None, 6) => Said::Unresolved,
            (None, 7) => Said::Refused,
            (None, 28) => Said::Timeout,
            (None, 52 | 55 | 56) => Said::Reset,
            (None, _) => Said::Failed(ended),
        }
    }

    pub fn words(&self) -> String {
        match self {
            Said::Answer(reply) => format!("{} {}", reply.status, origin(reply).words()),
            Said::Refused => "the connection is refused".to_owned(),
            Said::Reset => "the connection is reset".to_owned(),
            Said::Timeout => format!("no answer within {WITHIN} s"),
            Said::Unresolved => "the name does not resolve".to_owned(),
            Said::Failed(why) | Said::Unreached(why) => why.clone(),
            Said::Unasked(why) => format!("not asked: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_of_curl_has_its_meaning() {
        let end = |code: i32| Transfer { code, words: "odd".to_owned(), ..Transfer::default() };
        for (code, said) in
            [(6, Said::Unresolved), (7, Said::Refused), (28, Said::Timeout), (56, Said::Reset), (35, Said::Failed("curl: (35) odd".to_owned()))]
        {
            assert_eq!(Said::of(end(code)), said);
        }
        let reply = Reply { status: 200, body: "x".repeat(1000), ..Reply::default() };
        let Said::Answer(kept) = Said::of(Transfer { reply: Some(reply), ..Transfer::default() }) else { panic!("an answer") };
        assert!(kept.status == 200 && kept.body.len() < 700);
        assert!(matches!(Said::read("", "service"), Said::Unasked(_)));
    }
}
