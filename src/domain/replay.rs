//! Draws the verdicts of a recorded run again: the same judges, fed with what they saw then.
//!
//! An observation that a verdict was drawn from carries that verdict; what is drawn now must be the same, byte for byte.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::domain::certificates::{self, Evidence};
use crate::domain::ingress::look::Look;
use crate::domain::services::rollout::delta::Delta;
use crate::domain::services::rollout::seen::Snapshot;
use crate::domain::services::rollout::{Rollout, Verdict};
use crate::domain::services::watch::Start;
use crate::domain::services::{endpoints, image, preflight, sidecar};
use crate::domain::troubleshoot::{Facts, conclude};
use crate::domain::verify::Reply;
use crate::domain::verify::availability::{Limit, Tally};
use crate::domain::verify::judged::Asked;

/// A verdict that was drawn again.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawn {
    /// For people: `rollout: failed crash_loop …`
    pub words: String,
    /// As it was recorded.
    pub then: Value,
    pub now: Value,
}

impl Drawn {
    pub fn is_same(&self) -> bool {
        self.then == self.now
    }
}

/// The memory of one case.
#[derive(Default)]
pub struct Replay {
    rollouts: BTreeMap<String, (Rollout, Snapshot)>,
}

#[derive(Deserialize)]
struct Of<T> {
    workload: String,
    seen: T,
    #[serde(default)]
    verdict: Option<Value>,
}

#[derive(Deserialize)]
struct Judged<T> {
    #[serde(flatten)]
    seen: T,
    verdict: Value,
}

#[derive(Deserialize)]
struct Certificate {
    reply: Reply,
    evidence: Evidence,
}

#[derive(Deserialize)]
struct Recorded<F> {
    facts: F,
}

#[derive(Deserialize)]
struct Availability {
    tally: Tally,
    limit: Limit,
}

impl Replay {
    /// Takes the next observation of the case in. `None`: no verdict was drawn from it.
    ///
    /// # Errors
    /// The observation is not of a form that this version knows.
    pub fn take(&mut self, kind: &str, data: &Value) -> Result<Option<Drawn>, String> {
        match kind {
            "rollout-start" => {
                let Of { workload, seen, .. } = read::<Of<Start>>(data)?;
                self.rollouts.insert(workload, (Rollout::new(seen.policy, &seen.before), seen.before));
                Ok(None)
            }
            "rollout" | "rollout-deadline" => self.rollout(kind, read(data)?).map(Some).map(|drawn| drawn.filter(|d| !d.then.is_null())),
            "preflight" => {
                let Judged::<Recorded<preflight::facts::Facts>> { seen, verdict } = read(data)?;
                let now = seen.facts.judge();
                let words = now.fault().map_or_else(|| seen.facts.looked_at(), |fault| fault.message);
                Ok(Some(drawn(format!("preflight: {words}"), verdict, &now)))
            }
            "sidecar" => {
                let Judged::<Recorded<sidecar::Seen>> { seen, verdict } = read(data)?;
                let now = seen.facts.judge();
                Ok(Some(drawn(format!("sidecar: {}", now.words()), verdict, &now)))
            }
            "image" => {
                let Judged::<Recorded<image::Seen>> { seen, verdict } = read(data)?;
                let now = seen.facts.judge();
                Ok(Some(drawn(format!("image: {}", now.words()), verdict, &now)))
            }
            "endpoints" => {
                let Judged::<Recorded<endpoints::Seen>> { seen, verdict } = read(data)?;
                let now = seen.facts.lack();
                let words = now.clone().unwrap_or_else(|| seen.facts.words());
                Ok(Some(drawn(format!("endpoints: {words}"), verdict, &json!({"lack": now}))))
            }
            "route-ports" => {
                let Judged::<Recorded<endpoints::Routes>> { seen, verdict } = read(data)?;
                let now = seen.facts.astray();
                let words = now.map_or_else(|| "each leads to a port of the Service".to_owned(), |astray| seen.facts.words(astray));
                Ok(Some(drawn(format!("routes: {words}"), verdict, &json!({"astray": now}))))
            }
            "link" => {
                let Judged::<Look> { seen, verdict } = read(data)?;
                let now = seen.judge();
                Ok(Some(drawn(now.words(), verdict, &now)))
            }
            "answer" => {
                let Judged::<Asked> { seen, verdict } = read(data)?;
                let now = seen.judge();
                let at = seen.address.as_ref().map(|address| format!("at {address}: ")).unwrap_or_default();
                Ok(Some(drawn(format!("{at}{}", now.words()), verdict, &now)))
            }
            "certificate" => {
                let Judged::<Certificate> { seen, verdict } = read(data)?;
                let now = certificates::judge(&seen.reply, &seen.evidence);
                let words = format!("certificates: {:?}: {}", now.cause, now.in_short());
                Ok(Some(drawn(words, verdict, &now)))
            }
            "troubleshoot" => {
                let Judged::<Recorded<Facts>> { seen, verdict } = read(data)?;
                let now = conclude(&seen.facts);
                Ok(Some(drawn(format!("the fault lies {}: {}", now.place, now.words), verdict, &now)))
            }
            "availability" => {
                let Judged::<Availability> { seen, verdict } = read(data)?;
                let now = seen.tally.over(seen.limit);
                let words = format!("availability: {}{}", seen.tally.words(), now.as_ref().map(|over| format!(": {over}")).unwrap_or_default());
                Ok(Some(drawn(words, verdict, &json!({"over": now}))))
            }
            // What is recorded without a verdict is for people.
            _ if data.get("verdict").is_none() => Ok(None),
            other => Err(format!("an observation of an unknown kind: `{other}`")),
        }
    }

    fn rollout(&mut self, kind: &str, of: Of<Delta>) -> Result<Drawn, String> {
        let Of { workload, seen, verdict } = of;
        let (rollout, last) = self.rollouts.get_mut(&workload).ok_or_else(|| format!("the beginning of the rollout of {workload} is missing"))?;
        *last = seen.applied_to(last);
        let mut now = rollout.observe(last);
        if kind == "rollout-deadline" {
            now = Verdict::Failed(rollout.at_deadline(last));
        }
        let words = match &now {
            Verdict::Progressing { reason } => format!("progressing: {reason}"),
            Verdict::Ready { note, .. } => format!("ready: {note}"),
            Verdict::Failed(trouble) => format!("failed {}: {}", trouble.code, trouble.line()),
        };
        Ok(drawn(format!("{workload}: {words}"), verdict.unwrap_or_default(), &now))
    }
}

fn drawn(words: String, then: Value, now: &impl serde::Serialize) -> Drawn {
    Drawn { words, then, now: serde_json::to_value(now).unwrap_or_default() }
}

fn read<T: DeserializeOwned>(data: &Value) -> Result<T, String> {
    serde_json::from_value(data.clone()).map_err(|error| error.to_string())
}
