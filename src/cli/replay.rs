//! `meshstep replay run.jsonl`: a recorded run judged again, offline.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::base::codes::Code;
use crate::base::fault::{Class, Fault, Result};
use crate::cli::args::{Output, ReplayArgs};
use crate::cli::print;
use crate::domain::replay::{Drawn, Replay};
use crate::engine::event::{CaseId, Event, Stamped};
use crate::engine::outcome::exit_code;

/// A verdict of a case.
struct Line {
    case: CaseId,
    drawn: Drawn,
}

/// Returns the exit code: 0 when each verdict is drawn as it was recorded.
pub(super) fn run(args: &ReplayArgs) -> Result<u8> {
    let shown = args.file.display().to_string();
    let bytes = std::fs::read(&args.file).map_err(|e| Fault::new(Code::FileUnreadable, format!("cannot read {shown}: {e}")))?;
    let (lines, cut) = verdicts(&shown, &bytes)?;
    let differing = lines.iter().filter(|line| !line.drawn.is_same()).count();
    match args.console.output {
        Output::Json => print(&as_json(&lines)),
        Output::Text => print(&as_text(&lines, differing, args.console.quiet)),
    }
    match cut {
        Some(fault) => Err(fault),
        None => Ok(if differing > 0 { exit_code(Class::Invalid) } else { 0 }),
    }
}

/// All verdicts of the log, and what is wrong with its end.
fn verdicts(shown: &str, bytes: &[u8]) -> Result<(Vec<Line>, Option<Fault>)> {
    let mut lines = Vec::new();
    let mut cases: BTreeMap<String, Replay> = BTreeMap::new();
    let (mut began, mut trouble) = (false, None);
    let count = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
    for (index, line) in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).enumerate() {
        let event = match serde_json::from_slice::<Stamped>(line) {
            Ok(stamped) => stamped.event,
            Err(error) => {
                let fault = unreadable(shown, index + 1, began, line, &error);
                // A killed process leaves a cut line: what is before and behind it stands.
                if !began || serde_json::from_slice::<Value>(line).is_ok() {
                    return Err(fault);
                }
                trouble = Some(fault);
                continue;
            }
        };
        match event {
            Event::RunStarted { tool, .. } => {
                began = true;
                refuse_newer(shown, &tool)?;
            }
            _ if !began => return Err(foreign(shown)),
            Event::CaseStarted { case } => drop(cases.remove(&key(&case))),
            Event::Observed { case, kind, data } => {
                let drawn = cases.entry(key(&case)).or_default().take(&kind, &data.value()).map_err(|why| {
                    Fault::new(Code::FileInvalid, format!("line {} of {shown} cannot be judged: {why}", index + 1))
                        .next("replay it with the version of meshstep that wrote it")
                })?;
                lines.extend(drawn.map(|drawn| Line { case, drawn }));
            }
            _ => {}
        }
    }
    if count == 0 || !began {
        return Err(foreign(shown));
    }
    Ok((lines, trouble))
}

fn key(case: &CaseId) -> String {
    format!("{}/{}/{}", case.stage, case.service.as_deref().unwrap_or_default(), case.name)
}

fn foreign(shown: &str) -> Fault {
    Fault::new(Code::FileInvalid, format!("{shown} is no run log of meshstep: it does not begin with a run"))
        .next("name the run.jsonl of a reports folder")
}

fn unreadable(shown: &str, number: usize, began: bool, line: &[u8], error: &serde_json::Error) -> Fault {
    if !began {
        return foreign(shown);
    }
    if serde_json::from_slice::<Value>(line).is_ok() {
        return Fault::new(Code::FileInvalid, format!("line {number} of {shown} is an event that this version does not know: {error}"))
            .next("replay it with the version of meshstep that wrote it");
    }
    Fault::new(Code::FileInvalid, format!("line {number} of {shown} is cut off: the run was killed, or the file is not whole"))
        .next("the verdicts above are those of the whole lines")
}

fn refuse_newer(shown: &str, tool: &str) -> Result<()> {
    let version = |text: &str| -> Vec<u64> {
        let numbers = text.rsplit(' ').next().unwrap_or_default();
        numbers.split(['.', '-', '+']).map_while(|part| part.parse().ok()).collect()
    };
    let ours = env!("CARGO_PKG_VERSION");
    if version(tool) <= version(ours) {
        return Ok(());
    }
    Err(Fault::new(Code::FileInvalid, format!("{shown} was written by {tool}, which is newer than this meshstep {ours}"))
        .next("replay it with that version"))
}

fn as_text(lines: &[Line], differing: usize, quiet: bool) -> String {
    let mut text = Vec::new();
    for Line { case, drawn } in lines.iter().filter(|line| !quiet || !line.drawn.is_same()) {
        let service = case.service.as_ref().map(|service| format!(" {service}")).unwrap_or_default();
        text.push(format!("{}{service} {}: {}", case.stage, case.name, drawn.words));
        if !drawn.is_same() {
            text.push(format!("  differs: recorded {}", drawn.then));
            text.push(format!("           now      {}", drawn.now));
        }
    }
    let all = crate::base::text::count(lines.len(), "verdict");
    text.push(match (lines.len(), differing) {
        (0, _) => "no verdict was recorded".to_owned(),
        (_, 0) => format!("{all}, drawn as recorded"),
        (_, n) => format!("{all}, {n} differ from what was recorded"),
    });
    text.join("\n")
}

fn as_json(lines: &[Line]) -> String {
    let all: Vec<Value> = lines
        .iter()
        .map(|Line { case, drawn }| json!({"case": case, "verdict": drawn.now, "recorded": drawn.then, "same": drawn.is_same()}))
        .collect();
    serde_json::to_string_pretty(&all).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: &str = r#"{"at":"2026-11-26T00:00:00Z","event":"run-started","run_id":"r","tool":"meshstep 0.1.0","pipeline":"p","environment":"e","stages":[],"hostname":"h","dry_run":false}"#;

    fn says(text: &str) -> String {
        match verdicts("run.jsonl", text.as_bytes()) {
            Ok((lines, None)) => format!("{} verdicts", lines.len()),
            Ok((_, Some(fault))) | Err(fault) => fault.message,
        }
    }

    #[test]
    fn what_is_no_whole_log_of_ours_is_told() {
        let answer = r#"{"at":"2026-11-26T00:00:01Z","event":"observed","case":{"stage":"verify","name":"GET h/"},"kind":"answer","data":{"at":"2026-11-26T00:00:01Z","scheme":"http","host":"h","path":"/","expect":{},"reply":{"reply":{"status":200,"headers":[["server","istio-envoy"],["x-envoy-upstream-service-time","1"]],"body":"","took_ms":1}},"verdict":{"verdict":"right"}}}"#;
        for (text, told) in [
            (String::new(), "is no run log of meshstep"),
            ("hello\n".to_owned(), "is no run log of meshstep"),
            ("{\"a\": 1}\n".to_owned(), "is no run log of meshstep"),
            (START.replace("0.1.0", "99.0.0"), "was written by meshstep 99.0.0, which is newer"),
            (
                format!("{START}\n{}", r#"{"at":"2026-11-26T00:00:01Z","event":"danced"}"#),
                "line 2 of run.jsonl is an event that this version does not know",
            ),
            (format!("{START}\n{}", answer.replace("\"answer\"", "\"dance\"")), "an observation of an unknown kind: `dance`"),
            (format!("{START}\n{answer}\n{}", &answer[..80]), "line 3 of run.jsonl is cut off"),
            (format!("{START}\n{answer}\n"), "1 verdicts"),
        ] {
            assert!(says(&text).contains(told), "{text}: {}", says(&text));
        }
        let wrong = answer.replace("\"status\":200", "\"status\":500");
        let (lines, _) = verdicts("run.jsonl", format!("{START}\n{wrong}").as_bytes()).expect("readable");
        assert!(!lines[0].drawn.is_same());
        assert!(as_text(&lines, 1, false).contains("differs: recorded"), "{}", as_text(&lines, 1, false));
    }
}
