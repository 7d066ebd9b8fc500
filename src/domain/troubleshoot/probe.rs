//! The one program of a probe pod: curl, a request after the other, each followed by a line that says how it went.

use serde::{Deserialize, Serialize};

use crate::base::text;
use crate::domain::verify::{Reply, origin};

/// The command of the container.
pub const PROGRAM: &str = "curl";
/// What one request may take, in seconds.
pub const WITHIN: u32 = 5;
/// Begins the line after each answer.
const MARK: &str = "@@meshstep";
/// How much of a body is kept.
const BODY: usize = 600;

/// One request of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// One word: `service`, `node`, `status`.
    pub name: &'static str,
    pub url: String,
    /// The Host header, where it is not the URL's own.
    pub host: Option<String>,
}

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
    /// It was not asked, and why.
    Unasked(String),
}

impl Said {
    pub fn words(&self) -> String {
        match self {
            Said::Answer(reply) => format!("{} {}", reply.status, origin(reply).words()),
            Said::Refused => "the connection is refused".to_owned(),
            Said::Reset => "the connection is reset".to_owned(),
            Said::Timeout => format!("no answer within {WITHIN} s"),
            Said::Unresolved => "the name does not resolve".to_owned(),
            Said::Failed(why) => why.clone(),
            Said::Unasked(why) => format!("not asked: {why}"),
        }
    }
}

/// The arguments of curl. Every option is repeated for each request: `--next` forgets them.
pub fn args(requests: &[Request]) -> Vec<String> {
    let mut args: Vec<String> = Vec::new();
    for (index, request) in requests.iter().enumerate() {
        if index > 0 {
            args.push("--next".to_owned());
        }
        // In the form that curl itself expands: the shell has no part in it.
        let format = format!(
            "\\n{MARK} {}\\t%{{http_code}}\\t%{{exitcode}}\\t%{{time_total}}\\t%header{{server}}\\t%header{{x-envoy-upstream-service-time}}\\t%header{{location}}\\t%{{errormsg}}\\n",
            request.name
        );
        args.extend(["--silent", "--http1.1", "--noproxy", "*", "--max-time"].map(str::to_owned));
        args.push(WITHIN.to_string());
        if let Some(host) = &request.host {
            args.extend(["--header".to_owned(), format!("Host: {host}")]);
        }
        args.extend(["--write-out".to_owned(), format, request.url.clone()]);
    }
    args
}

/// Reads the pod's log: what was said to the request of this name.
pub fn read(log: &str, name: &str) -> Said {
    let mut body: Vec<&str> = Vec::new();
    for line in log.lines() {
        let Some(rest) = line.strip_prefix(MARK) else {
            body.push(line);
            continue;
        };
        let mut fields = rest.trim_start().split('\t');
        if fields.next() == Some(name) {
            return said(&body.join("\n"), &fields.collect::<Vec<_>>());
        }
        body.clear();
    }
    Said::Unasked("the probe's log says nothing of it".to_owned())
}

fn said(body: &str, fields: &[&str]) -> Said {
    let field = |n: usize| fields.get(n).copied().unwrap_or_default();
    let status: u16 = field(0).parse().unwrap_or(0);
    if status > 0 {
        let header = |name: &str, value: &str| (!value.is_empty()).then(|| (name.to_owned(), value.to_owned()));
        let headers = [header("server", field(3)), header("x-envoy-upstream-service-time", field(4)), header("location", field(5))];
        let seconds: f64 = field(2).parse().unwrap_or_default();
        let took_ms = std::time::Duration::try_from_secs_f64(seconds).map_or(0, |took| u64::try_from(took.as_millis()).unwrap_or(0));
        return Said::Answer(Reply {
            status,
            headers: headers.into_iter().flatten().collect(),
            body: text::head(body.trim_end_matches('\n'), BODY).into_owned(),
            took_ms,
        });
    }
    let words = text::one_line(field(6));
    match field(1).parse().unwrap_or(-1) {
        6 => Said::Unresolved,
        7 => Said::Refused,
        28 => Said::Timeout,
        52 | 55 | 56 => Said::Reset,
        code => Said::Failed(if words.is_empty() { format!("curl ended with {code}") } else { format!("curl: ({code}) {words}") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_carries_all_of_its_options() {
        let requests = [
            Request { name: "service", url: "http://app1.prod.svc.cluster.local:8000/".into(), host: None },
            Request { name: "node", url: "http://10.0.0.10:30080/".into(), host: Some("app1.example".into()) },
        ];
        let args = args(&requests);
        let next = args.iter().position(|a| a == "--next").expect("two requests");
        for part in [&args[..next], &args[next + 1..]] {
            assert!(part.iter().any(|a| a == "--max-time") && part.iter().any(|a| a.contains("%{http_code}")), "{part:?}");
        }
        assert!(args[next + 1..].contains(&"Host: app1.example".to_owned()));
        assert!(!args.iter().any(|a| a == "--show-error" || a == "--insecure" || a == "--location"), "{args:?}");
    }

    #[test]
    fn the_log_is_read_back_for_each_request() {
        let log = "ok app1\n\n@@meshstep service\t200\t0\t0.012\t\t\t\t\n\
                   upstream connect error or disconnect/reset before headers. reset reason: connection failure\n\
                   @@meshstep node\t503\t0\t0.100\tistio-envoy\t\t\t\n\n\
                   @@meshstep status\t000\t7\t0.001\t\t\t\tFailed to connect to 10.0.0.10 port 30021: Connection refused\n\n\
                   @@meshstep slow\t000\t28\t5.001\t\t\t\tOperation timed out\n\n@@meshstep reset\t000\t56\t0.1\t\t\t\tRecv failure: Connection reset by peer\n\n\
                   @@meshstep name\t000\t6\t0.1\t\t\t\tCould not resolve host: x\n\n@@meshstep odd\t000\t35\t0.1\t\t\t\tTLS connect error\n";
        let Said::Answer(reply) = read(log, "service") else { panic!("an answer") };
        assert_eq!((reply.status, reply.body.as_str(), reply.took_ms), (200, "ok app1", 12));
        let Said::Answer(reply) = read(log, "node") else { panic!("an answer") };
        assert_eq!((reply.status, reply.header("server")), (503, Some("istio-envoy")));
        assert!(reply.body.starts_with("upstream connect error"));
        assert_eq!(read(log, "status"), Said::Refused);
        assert_eq!(read(log, "slow"), Said::Timeout);
        assert_eq!(read(log, "reset"), Said::Reset);
        assert_eq!(read(log, "name"), Said::Unresolved);
        assert_eq!(read(log, "odd"), Said::Failed("curl: (35) TLS connect error".into()));
        assert!(matches!(read("", "service"), Said::Unasked(_)));
    }
}
