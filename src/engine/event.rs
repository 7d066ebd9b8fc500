//! All that a reporter may know. Events are also the lines of `run.jsonl`, so their shape is a promise.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::base::fault::Fault;
use crate::base::place::Place;
use crate::engine::outcome::Outcome;

/// What identifies a case over all builds: no address, duration, attempt or version may be in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CaseId {
    pub stage: String,
    /// The service (or release) it is about; the last segment of the JUnit class name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// `rollout prod`, `GET app1.public.domain/`.
    pub name: String,
}

/// An attempt that did not succeed, before the case's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub at: Timestamp,
    pub fault: Fault,
}

/// A case that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseEnd {
    pub case: CaseId,
    pub started: Timestamp,
    #[serde(with = "secs")]
    pub seconds: Duration,
    #[serde(flatten)]
    pub outcome: Outcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Short facts for machines: `curl`, `http.status`, `alb.dns`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub properties: Vec<(String, String)>,
    /// What a person may want to read beside the verdict: a diff, a poll history.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    RunStarted {
        run_id: String,
        /// `meshstep 0.1.0`
        tool: String,
        pipeline: String,
        /// First segment of every JUnit class name.
        environment: String,
        /// The stages in order.
        stages: Vec<String>,
        hostname: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        build_url: Option<String>,
        dry_run: bool,
    },
    StageStarted {
        stage: String,
    },
    CaseStarted {
        case: CaseId,
    },
    /// What a wait is waiting for now.
    Progress {
        case: CaseId,
        text: String,
    },
    /// A plain line for people that is no case: `helm 4.3.1 fetched into …`.
    Note {
        stage: String,
        text: String,
    },
    /// What a verdict was drawn from: `replay` draws it again.
    Observed {
        case: CaseId,
        kind: String,
        data: Json,
    },
    CaseEnded(Box<CaseEnd>),
    StageEnded {
        stage: String,
        #[serde(with = "secs")]
        seconds: Duration,
    },
    RunEnded {
        exit: u8,
        #[serde(with = "secs")]
        seconds: Duration,
    },
}

/// JSON as text: of most that is observed nobody ever reads the parts.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Json(Box<RawValue>);

impl Json {
    pub fn of(data: &impl Serialize) -> Self {
        Self(to_raw_value(data).unwrap_or_else(|_| RawValue::NULL.to_owned()))
    }

    pub fn text(&self) -> &str {
        self.0.get()
    }

    pub fn value(&self) -> Value {
        serde_json::from_str(self.text()).unwrap_or_default()
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Json {}

impl<'de> Deserialize<'de> for Json {
    /// By its value: a text in the middle of a line cannot be borrowed from it once serde has looked for the event's kind.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(|value| Self::of(&value))
    }
}

/// An event with its time: one line of `run.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamped {
    pub at: Timestamp,
    #[serde(flatten)]
    pub event: Event,
}

/// Durations as seconds with milliseconds.
mod secs {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64((value.as_secs_f64() * 1000.0).round() / 1000.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::outcome::Change;

    #[test]
    fn a_line_of_the_run_log_reads_back() {
        let end = CaseEnd {
            case: CaseId { stage: "deploy".into(), service: Some("app1".into()), name: "rollout prod".into() },
            started: Timestamp::UNIX_EPOCH,
            seconds: Duration::from_millis(1500),
            outcome: Outcome::Passed { change: Change::Changed, note: "2/2 ready".into() },
            place: Some(Place::new("meshstep.yaml", 3, 1)),
            attempts: vec![],
            warnings: vec![],
            properties: vec![("a".into(), "b".into())],
            output: String::new(),
        };
        let line = Stamped { at: Timestamp::UNIX_EPOCH, event: Event::CaseEnded(Box::new(end)) };
        let observed = Event::Observed {
            case: CaseId { stage: "deploy".into(), service: None, name: "rollout".into() },
            kind: "rollout".into(),
            data: Json::of(&serde_json::json!({ "z": [1.5, "ä\"\n", null], "a": {} })),
        };
        for line in [line, Stamped { at: Timestamp::UNIX_EPOCH, event: observed }] {
            let text = serde_json::to_string(&line).expect("json");
            assert_eq!(serde_json::from_str::<Stamped>(&text).expect("back"), line, "{text}");
        }
    }
}
