//! `pods/log`: what the kubelet refuses, and which lines it sends.

use std::io;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::sync::mpsc;

use super::answer::{self, Answer};
use super::options::{LogLine, LogRequest};
use super::serve::{Call, thawed};
use super::watch::stream;
use crate::sandbox::store::meta::{list, text};
use crate::sandbox::store::{Resource, Status};

/// Which lines, and how.
#[derive(Debug, Default)]
struct Cut {
    tail: Option<usize>,
    since: Option<Timestamp>,
    timestamps: bool,
    limit: Option<usize>,
}

impl Cut {
    fn line(&self, line: &LogLine) -> String {
        if self.timestamps { format!("{} {}\n", line.at.strftime("%Y-%m-%dT%H:%M:%S.%9fZ"), line.text) } else { format!("{}\n", line.text) }
    }

    fn body(&self, lines: &[LogLine]) -> String {
        let wanted: Vec<&LogLine> = lines.iter().filter(|l| self.since.is_none_or(|s| l.at >= s)).collect();
        let from = self.tail.map_or(0, |n| wanted.len().saturating_sub(n));
        let mut body: String = wanted[from..].iter().map(|l| self.line(l)).collect();
        if let Some(mut limit) = self.limit.filter(|l| *l < body.len()) {
            while !body.is_char_boundary(limit) {
                limit -= 1;
            }
            body.truncate(limit);
        }
        body
    }
}

/// Answers a log request.
pub(super) fn answer(call: &Call, kind: &Resource) -> Result<Answer, Status> {
    let seen = &call.seen;
    let query = &call.query;
    let pod = call.api.store.get("pods", &seen.namespace, &seen.name).ok_or_else(|| Status::not_found(kind, &seen.name))?;
    let container = choose(&pod, query.get("container"))?;
    let previous = query.on("previous");
    let positive = |key: &str| query.number(key).filter(|n| *n >= 0);
    let cut = Cut {
        tail: positive("tailLines").and_then(|n| usize::try_from(n).ok()),
        since: match query.get("sinceTime") {
            "" => positive("sinceSeconds").and_then(|s| Timestamp::now().checked_sub(SignedDuration::from_secs(s)).ok()),
            at => Some(at.parse().map_err(|_| Status::bad_request(format!("sinceTime: {at:?} is no time")))?),
        },
        timestamps: query.on("timestamps"),
        limit: positive("limitBytes").and_then(|n| usize::try_from(n).ok()),
    };
    if text(&pod, "/spec/nodeName").is_empty() {
        return Ok(answer::text(200, "text/plain", ""));
    }
    started(&pod, &container, previous)?;
    let request = LogRequest { namespace: seen.namespace.clone(), pod: seen.name.clone(), container, previous, follow: query.on("follow") };
    let log = (call.api.options.logs)(&request)?;
    let body = cut.body(&log.lines);
    let Some(mut more) = log.more.filter(|_| request.follow) else { return Ok(answer::text(200, "text/plain", body)) };
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(64);
    let api = call.api.clone();
    tokio::spawn(async move {
        let mut next = body;
        loop {
            thawed(&api).await;
            if sender.send(Ok(next.into())).await.is_err() {
                return;
            }
            next = tokio::select! {
                line = more.recv() => match line {
                    Some(line) => cut.line(&line),
                    None => return,
                },
                () = sender.closed() => return,
            };
        }
    });
    Ok(stream("text/plain", receiver))
}

fn names(pod: &Value, key: &str) -> Vec<String> {
    list(pod, &format!("/spec/{key}")).iter().map(|c| text(c, "/name").to_owned()).collect()
}

fn choose(pod: &Value, asked: &str) -> Result<String, Status> {
    let (containers, init) = (names(pod, "containers"), names(pod, "initContainers"));
    let name = crate::sandbox::store::meta::name(pod);
    if asked.is_empty() {
        return match containers.as_slice() {
            [one] => Ok(one.clone()),
            _ => {
                let or = if init.is_empty() { String::new() } else { format!(" or one of the init containers: [{}]", init.join(" ")) };
                let message = format!("a container name must be specified for pod {name}, choose one of: [{}]{or}", containers.join(" "));
                Err(Status::bad_request(message))
            }
        };
    }
    let ephemeral = names(pod, "ephemeralContainers");
    if [&containers, &init, &ephemeral].iter().any(|list| list.iter().any(|c| c == asked)) {
        return Ok(asked.to_owned());
    }
    Err(Status::bad_request(format!("container {asked} is not valid for pod {name}")))
}

/// The kubelet's refusals.
fn started(pod: &Value, container: &str, previous: bool) -> Result<(), Status> {
    let name = crate::sandbox::store::meta::name(pod);
    let statuses = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];
    let mut statuses = statuses.iter().flat_map(|key| list(pod, &format!("/status/{key}")));
    let found = statuses.find(|s| text(s, "/name") == container);
    let status = found.ok_or_else(|| Status::bad_request(format!("container {container:?} in pod {name:?} is not available")))?;
    let ended = status.pointer("/lastState/terminated").is_some_and(|t| !t.is_null());
    if previous {
        let message = format!("previous terminated container {container:?} in pod {name:?} not found");
        return if ended { Ok(()) } else { Err(Status::bad_request(message)) };
    }
    let has = |state: &str| status.pointer(&format!("/state/{state}")).is_some_and(|s| !s.is_null());
    if has("running") || has("terminated") || ended {
        return Ok(());
    }
    let waiting = format!("container {container:?} in pod {name:?} is waiting to start");
    Err(Status::bad_request(match text(status, "/state/waiting/reason") {
        "" => format!("{waiting} - no logs yet"),
        "ErrImagePull" => format!("{waiting}: image can't be pulled"),
        "ImagePullBackOff" => format!("{waiting}: trying and failing to pull image"),
        reason => format!("{waiting}: {reason}"),
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_are_cut_by_time_number_and_size() {
        let line = |second: i64, text: &str| LogLine { at: Timestamp::from_second(second).unwrap(), text: text.into() };
        let lines = [line(1, "one"), line(2, "two"), line(3, "three")];
        let since = Some(Timestamp::from_second(2).unwrap());
        assert_eq!(Cut::default().body(&lines), "one\ntwo\nthree\n");
        assert_eq!(Cut { tail: Some(1), ..Cut::default() }.body(&lines), "three\n");
        assert_eq!(Cut { since, limit: Some(5), ..Cut::default() }.body(&lines), "two\nt");
        let stamped = Cut { tail: Some(1), timestamps: true, ..Cut::default() };
        assert_eq!(stamped.body(&lines), "1970-01-01T00:00:03.000000000Z three\n");
    }

    #[test]
    fn refusals_use_the_kubelets_words() {
        let pod = json!({"metadata": {"name": "web-1"}, "spec": {"containers": [{"name": "app"}, {"name": "istio-proxy"}]},
            "status": {"containerStatuses": [{"name": "app", "state": {"waiting": {"reason": "ImagePullBackOff"}}}, {"name": "istio-proxy", "state": {"running": {}}}]}});
        let said = |r: Result<_, Status>| r.map(|_: ()| String::new()).unwrap_or_else(|s| s.message);
        assert_eq!(choose(&pod, "").unwrap_err().message, "a container name must be specified for pod web-1, choose one of: [app istio-proxy]");
        assert_eq!(choose(&pod, "x").unwrap_err().message, "container x is not valid for pod web-1");
        assert_eq!(said(started(&pod, "app", false)), "container \"app\" in pod \"web-1\" is waiting to start: trying and failing to pull image");
        assert_eq!(said(started(&pod, "istio-proxy", true)), "previous terminated container \"istio-proxy\" in pod \"web-1\" not found");
        assert_eq!(started(&pod, "istio-proxy", false), Ok(()));
    }
}
