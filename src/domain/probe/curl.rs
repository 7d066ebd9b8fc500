//! The one program of a probe pod: curl, a request after the other, each followed by lines that say how it went.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::text;
use crate::domain::verify::Reply;

/// The command of the container.
pub const PROGRAM: &str = "curl";
/// Where the pod has the certificates that are trusted, if it is given any.
pub const CACERT: &str = "/meshstep/ca.pem";
/// Begins the line after each answer.
const MARK: &str = "@@meshstep ";
/// The line after the answer's headers.
const END: &str = "@@meshstep-end";
/// How much of a body is kept.
const BODY: usize = 1024 * 1024;

/// One request of a probe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// One word, by which the answer is found in the log.
    pub name: String,
    pub url: String,
    /// The Host header, where it is not the URL's own.
    pub host: Option<String>,
    /// The name that is connected to in the place of the URL's own.
    pub via: Option<String>,
    /// Are the pod's own certificates trusted, in the place of the image's?
    pub cacert: bool,
    /// What it may take, in seconds.
    pub within: u32,
}

/// What came of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// curl's exit code; 0: all of the answer is there.
    pub code: i32,
    /// curl's words for it.
    pub words: String,
    pub connected: bool,
    /// The answer, as far as it came.
    pub reply: Option<Reply>,
}

/// The arguments of curl. Every option is repeated for each request: `--next` forgets them.
pub fn args(requests: &[Request]) -> Vec<String> {
    let mut args: Vec<String> = Vec::new();
    for (index, request) in requests.iter().enumerate() {
        if index > 0 {
            args.push("--next".to_owned());
        }
        // In the form that curl itself expands: the shell has no part in it.
        let told = ["%{http_code}", "%{exitcode}", "%{time_total}", "%{time_connect}", "%{errormsg}"].join("\\t");
        let format = format!("\\n{MARK}{}\\t{told}\\n%{{header_json}}\\n{END}\\n", request.name);
        args.extend(["--silent", "--http1.1", "--globoff", "--path-as-is", "--noproxy", "*", "--max-time"].map(str::to_owned));
        args.push(request.within.to_string());
        if request.cacert {
            args.extend(["--cacert", CACERT].map(str::to_owned));
        }
        if let Some(host) = &request.host {
            args.extend(["--header".to_owned(), format!("Host: {host}")]);
        }
        if let Some(name) = &request.via {
            args.extend(["--connect-to".to_owned(), format!("::{name}:")]);
        }
        args.extend(["--write-out".to_owned(), format, request.url.clone()]);
    }
    args
}

/// Reads the pod's log: what came of the request of this name. `None`: the log says nothing of it.
pub fn transfer(log: &str, name: &str) -> Option<Transfer> {
    let mark = format!("{MARK}{name}\t");
    let mut body: Vec<&str> = Vec::new();
    let mut lines = log.lines();
    while let Some(line) = lines.next() {
        match line.strip_prefix(&mark) {
            Some(rest) => {
                let headers: Vec<&str> = lines.take_while(|line| *line != END).collect();
                return Some(read(&body.join("\n"), &rest.split('\t').collect::<Vec<_>>(), &headers.join("\n")));
            }
            None if line == END => body.clear(),
            None => body.push(line),
        }
    }
    None
}

fn read(body: &str, fields: &[&str], headers: &str) -> Transfer {
    let field = |n: usize| fields.get(n).copied().unwrap_or_default();
    let seconds = |n: usize| Duration::try_from_secs_f64(field(n).parse().unwrap_or_default()).unwrap_or_default();
    let status: u16 = field(0).parse().unwrap_or(0);
    let reply = (status > 0).then(|| Reply {
        status,
        headers: named(headers),
        body: text::head(body.trim_end_matches('\n'), BODY).into_owned(),
        took_ms: u64::try_from(seconds(2).as_millis()).unwrap_or(u64::MAX),
    });
    let words = text::one_line(field(4));
    Transfer { code: field(1).parse().unwrap_or(-1), words, connected: status > 0 || !seconds(3).is_zero(), reply }
}

/// curl's JSON of headers: each name in lower case, with all of its values.
fn named(json: &str) -> Vec<(String, String)> {
    let all: BTreeMap<String, Vec<String>> = serde_json::from_str(json).unwrap_or_default();
    all.into_iter().flat_map(|(name, values)| values.into_iter().map(move |value| (name.clone(), value))).collect()
}

impl Transfer {
    /// The end without an answer, in words.
    pub fn ended(&self) -> String {
        let Self { code, words, .. } = self;
        if words.is_empty() { format!("curl ended with {code}") } else { format!("curl: ({code}) {words}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_carries_all_of_its_options() {
        let requests = [
            Request { name: "service".into(), url: "http://app1.prod.svc.cluster.local:8000/".into(), within: 5, ..Request::default() },
            Request {
                name: "node".into(),
                url: "http://10.0.0.10:30080/".into(),
                host: Some("app1.example".into()),
                within: 5,
                ..Request::default()
            },
            Request { name: "balancer".into(), url: "https://app1.example/".into(), via: Some("k8s.elb".into()), cacert: true, ..Request::default() },
        ];
        let args = args(&requests);
        let parts: Vec<&[String]> = args.split(|arg| arg == "--next").collect();
        assert_eq!(parts.len(), 3);
        for part in &parts {
            assert!(part.iter().any(|a| a == "--max-time") && part.iter().any(|a| a.contains("%{http_code}")), "{part:?}");
        }
        assert!(parts[1].contains(&"Host: app1.example".to_owned()));
        assert!(parts[2].contains(&"::k8s.elb:".to_owned()) && parts[2].contains(&CACERT.to_owned()));
        assert!(!parts[0].contains(&"--connect-to".to_owned()) && !parts[1].contains(&"--cacert".to_owned()));
        assert!(!args.iter().any(|a| a == "--show-error" || a == "--insecure" || a == "--location"), "{args:?}");
    }

    #[test]
    fn the_log_is_read_back_for_each_request() {
        let log = "ok app1\n\n@@meshstep service\t200\t0\t0.012\t0.001\t\n{\"server\":[\"istio-envoy\"],\n\"set-cookie\":[\"a\",\"b\"]\n}\n@@meshstep-end\n\
                   upstream connect error or disconnect/reset before headers. reset reason: connection failure\n\
                   @@meshstep node\t503\t0\t0.100\t0.001\t\n{}\n@@meshstep-end\n\n\
                   @@meshstep status\t000\t7\t0.001\t0.000000\tFailed to connect to 10.0.0.10 port 30021: Connection refused\n{}\n@@meshstep-end\n\n\
                   @@meshstep slow\t000\t28\t5.001\t0.002\tOperation timed out\n{}\n@@meshstep-end\n";
        let answer = transfer(log, "service").and_then(|t| t.reply).expect("an answer");
        assert_eq!((answer.status, answer.body.as_str(), answer.took_ms), (200, "ok app1", 12));
        assert_eq!(answer.header("server"), Some("istio-envoy"));
        assert_eq!(answer.headers.iter().filter(|(name, _)| name == "set-cookie").count(), 2);
        let answer = transfer(log, "node").and_then(|t| t.reply).expect("an answer");
        assert!(answer.status == 503 && answer.headers.is_empty() && answer.body.starts_with("upstream connect error"), "{answer:?}");
        let refused = transfer(log, "status").expect("an end");
        assert_eq!((refused.code, refused.connected, refused.reply.as_ref()), (7, false, None));
        assert_eq!(refused.ended(), "curl: (7) Failed to connect to 10.0.0.10 port 30021: Connection refused");
        assert!(transfer(log, "slow").is_some_and(|slow| slow.code == 28 && slow.connected));
        assert_eq!(transfer(log, "other"), None);
    }

    #[test]
    fn an_app_that_prints_the_marks_speaks_for_itself_alone() {
        for body in ["@@meshstep a\t200\t0\t0\t0\t\n{}", "body\n@@meshstep-end", "@@meshstep a\t200\t0\t0\t0\t"] {
            let log = format!("{body}\n@@meshstep b-1f2e\t404\t0\t0.1\t0.1\t\n{{}}\n@@meshstep-end\n");
            assert!(transfer(&log, "b-1f2e").and_then(|t| t.reply).is_some_and(|reply| reply.status == 404), "{body}");
        }
    }
}
