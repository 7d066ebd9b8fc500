//! Every string of an event passes here before any reporter hears of it.

use std::borrow::Cow;

use serde_json::Value;

use crate::base::fault::Fault;
use crate::base::place::Place;
use crate::base::secrets::redact;
use crate::engine::event::{CaseEnd, CaseId, Event, Json};
use crate::engine::outcome::Outcome;

impl Event {
    /// Takes every secret out of the event.
    pub fn redact(&mut self) {
        match self {
            Event::RunStarted { run_id, tool, pipeline, environment, stages, hostname, build_url, dry_run: _ } => {
                [run_id, tool, pipeline, environment, hostname].into_iter().for_each(text);
                stages.iter_mut().for_each(text);
                build_url.iter_mut().for_each(text);
            }
            Event::StageStarted { stage } | Event::StageEnded { stage, .. } => text(stage),
            Event::CaseStarted { case: id } => case(id),
            Event::Progress { case: id, text: progress } => {
                case(id);
                text(progress);
            }
            Event::Note { stage, text: note } => {
                text(stage);
                text(note);
            }
            Event::Observed { case: id, kind, data } => {
                case(id);
                text(kind);
                json(data);
            }
            Event::CaseEnded(ended) => end(ended),
            Event::RunEnded { .. } => {}
        }
    }
}

fn text(text: &mut String) {
    if let Cow::Owned(clean) = redact(text) {
        *text = clean;
    }
}

fn case(id: &mut CaseId) {
    text(&mut id.stage);
    id.service.iter_mut().for_each(text);
    text(&mut id.name);
}

fn end(end: &mut CaseEnd) {
    case(&mut end.case);
    end.place.iter_mut().for_each(place);
    end.attempts.iter_mut().for_each(|attempt| fault(&mut attempt.fault));
    end.warnings.iter_mut().for_each(text);
    for (name, value) in &mut end.properties {
        text(name);
        text(value);
    }
    text(&mut end.output);
    match &mut end.outcome {
        Outcome::Passed { note, change: _ } => text(note),
        Outcome::Repaired { story } => text(story),
        Outcome::Skipped { reason } => text(reason),
        Outcome::Failed(failed) => fault(failed),
    }
}

fn fault(fault: &mut Fault) {
    text(&mut fault.message);
    for evidence in &mut fault.evidence {
        text(&mut evidence.title);
        text(&mut evidence.text);
    }
    fault.place.iter_mut().for_each(place);
    fault.next.iter_mut().for_each(text);
}

fn place(place: &mut Place) {
    text(&mut place.file);
}

fn json(data: &mut Json) {
    // Without a backslash all its strings stand in it as they are.
    if data.text().contains('\\') || matches!(redact(data.text()), Cow::Owned(_)) {
        let mut read = data.value();
        value(&mut read);
        *data = Json::of(&read);
    }
}

fn value(data: &mut Value) {
    match data {
        Value::String(string) => text(string),
        Value::Array(items) => items.iter_mut().for_each(value),
        Value::Object(fields) => {
            fields.values_mut().for_each(value);
            if fields.keys().any(|key| matches!(redact(key), Cow::Owned(_))) {
                *fields = std::mem::take(fields).into_iter().map(|(key, field)| (redact(&key).into_owned(), field)).collect();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::base::codes::Code;
    use crate::base::secrets::{self, MASK};
    use crate::engine::event::Attempt;

    #[test]
    fn no_string_of_any_event_keeps_a_secret() {
        const SECRET: &str = "s3cr3t-of-the-redact-test";
        secrets::learn(SECRET);
        secrets::learn("quoted \"s3cr3t\"");
        let s = || format!("x {SECRET} y");
        let id = || CaseId { stage: s(), service: Some(s()), name: s() };
        let bad = || Fault::new(Code::CrashLoop, s()).evidence(s(), s()).at(Some(&Place::new(s(), 1, 1))).next(s());
        let ended = |outcome| {
            Event::CaseEnded(Box::new(CaseEnd {
                case: id(),
                started: Timestamp::UNIX_EPOCH,
                seconds: Duration::ZERO,
                outcome,
                place: Some(Place::new(s(), 1, 1)),
                attempts: vec![Attempt { at: Timestamp::UNIX_EPOCH, fault: bad() }],
                warnings: vec![s()],
                properties: vec![(s(), s())],
                output: s(),
            }))
        };
        let change = crate::engine::outcome::Change::None;
        for mut event in [
            Event::RunStarted {
                run_id: s(),
                tool: s(),
                pipeline: s(),
                environment: s(),
                stages: vec![s()],
                hostname: s(),
                build_url: Some(s()),
                dry_run: false,
            },
            Event::StageStarted { stage: s() },
            Event::CaseStarted { case: id() },
            Event::Progress { case: id(), text: s() },
            Event::Note { stage: s(), text: s() },
            Event::Observed { case: id(), kind: s(), data: Json::of(&json!({ s(): [s(), 1, { "a": s() }] })) },
            ended(Outcome::Failed(Box::new(bad()))),
            ended(Outcome::Passed { change, note: s() }),
            ended(Outcome::Repaired { story: s() }),
            ended(Outcome::Skipped { reason: s() }),
            Event::StageEnded { stage: s(), seconds: Duration::ZERO },
            Event::Observed { case: id(), kind: s(), data: Json::of(&["a quoted \"s3cr3t\""]) },
        ] {
            event.redact();
            let line = serde_json::to_string(&event).expect("json");
            assert!(!line.contains(SECRET) && !line.contains("\"s3cr3t") && line.contains(MASK), "{line}");
        }
    }
}
