//! A container that runs curl: the requests of its command line, really made against the simulated network, and the log it writes.

use std::time::Duration;

use serde_json::Value;
use url::Url;

use crate::sandbox::gateway::{self, Ask, Plain, Reply};
use crate::sandbox::sim::Sim;
use crate::sandbox::store::meta::list;

/// What a run of curl came to.
pub(super) struct Ran {
    pub lines: Vec<String>,
    pub code: i32,
    pub took: Duration,
}

/// One request of a command line.
#[derive(Default)]
struct Transfer {
    url: String,
    host: Option<String>,
    write_out: String,
    max_time: Option<Duration>,
}

/// How one ended: curl's exit code and its words.
struct Ended {
    reply: Option<Reply>,
    code: i32,
    words: String,
    took: Duration,
}

/// Runs the container's curl; `None` when it runs something else.
pub(super) fn run(sim: &Sim, spec: &Value) -> Option<Ran> {
    let words = list(spec, "/command").iter().chain(list(spec, "/args")).filter_map(Value::as_str);
    let mut words = words.map(str::to_owned);
    if words.next()? != "curl" {
        return None;
    }
    let transfers = match read(words) {
        Ok(transfers) => transfers,
        Err(words) => return Some(Ran { lines: vec![format!("curl: {words}")], code: 2, took: Duration::from_millis(1) }),
    };
    let (mut log, mut code, mut took) = (String::new(), 0, Duration::ZERO);
    for transfer in &transfers {
        let ended = ask(sim, transfer);
        if let Some(reply) = &ended.reply {
            log += &reply.body;
        }
        log += &written(&transfer.write_out, &ended);
        (code, took) = (ended.code, took + ended.took);
    }
    Some(Ran { lines: log.lines().map(str::to_owned).collect(), code, took })
}

/// The transfers of a command line.
fn read(words: impl Iterator<Item = String>) -> Result<Vec<Transfer>, String> {
    let (mut all, mut now, mut words) = (Vec::new(), Transfer::default(), words);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("option {word}: requires parameter"));
        match word.as_str() {
            "--silent" | "-s" | "--http1.1" => {}
            "--noproxy" => drop(value()?),
            "--max-time" | "-m" => now.max_time = value()?.parse().ok().map(Duration::from_secs_f64),
            "--header" | "-H" => now.host = value()?.strip_prefix("Host: ").map(str::to_owned),
            "--write-out" | "-w" => now.write_out = value()?,
            "--next" => all.push(std::mem::take(&mut now)),
            option if option.starts_with('-') => return Err(format!("option {option}: is unknown")),
            url => url.clone_into(&mut now.url),
        }
    }
    all.push(now);
    Ok(all)
}

fn ask(sim: &Sim, transfer: &Transfer) -> Ended {
    let failed = |code: i32, words: String| Ended { reply: None, code, words, took: Duration::from_millis(2) };
    let Ok(url) = Url::parse(&transfer.url) else { return failed(3, "URL rejected: Malformed input to a URL function".to_owned()) };
    let (host, port) = (url.host_str().unwrap_or_default().to_owned(), url.port_or_known_default().unwrap_or(80));
    let path = format!("{}{}", url.path(), url.query().map(|query| format!("?{query}")).unwrap_or_default());
    let refused = || failed(7, format!("Failed to connect to {host} port {port} after 0 ms: Could not connect to server"));
    let limit = transfer.max_time.unwrap_or(Duration::from_secs(300));
    let late = || Ended { took: limit, ..failed(28, format!("Connection timed out after {} milliseconds", limit.as_millis())) };
    let got = if host.parse::<std::net::Ipv4Addr>().is_ok() {
        if !gateway::is_node(sim, &host) {
            return late();
        }
        let named = transfer.host.clone().unwrap_or_else(|| format!("{host}:{port}"));
        gateway::node_request(sim, port, &Ask { method: "GET".to_owned(), host: named, path, secure: false }).map_or(Plain::Refused, Plain::Answer)
    } else {
        gateway::plain_request(sim, &host, port, &path)
    };
    match got {
        Plain::Unresolved => failed(6, format!("Could not resolve host: {host}")),
        Plain::Refused => refused(),
        Plain::Reset => failed(56, "Recv failure: Connection reset by peer".to_owned()),
        Plain::Answer(reply) if reply.delay >= limit => late(),
        Plain::Answer(reply) => Ended { took: reply.delay + Duration::from_millis(2), reply: Some(reply), code: 0, words: String::new() },
    }
}

/// curl's `--write-out` for one transfer.
fn written(format: &str, ended: &Ended) -> String {
    let header = |name: &str| {
        let headers = ended.reply.iter().flat_map(|reply| &reply.headers);
        headers.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone()).next().unwrap_or_default()
    };
    let status = ended.reply.as_ref().map_or(0, |reply| reply.status);
    let mut text = format
        .replace("\\n", "\n")
        .replace("\\t", "\t")
        .replace("%{http_code}", &format!("{status:03}"))
        .replace("%{exitcode}", &ended.code.to_string())
        .replace("%{time_total}", &format!("{:.6}", ended.took.as_secs_f64()))
        .replace("%{errormsg}", &ended.words);
    while let Some((before, rest)) = text.split_once("%header{") {
        let Some((name, after)) = rest.split_once('}') else { break };
        text = format!("{before}{}{after}", header(name));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Vec<Transfer>, String> {
        read(line.split(' ').map(str::to_owned))
    }

    #[test]
    fn a_command_line_is_read_and_an_unknown_option_refused() {
        let all = words("--silent --max-time 5 http://a/ --next -m 2 --write-out x http://b:8/c").expect("known options");
        assert_eq!(all.iter().map(|t| t.url.as_str()).collect::<Vec<_>>(), ["http://a/", "http://b:8/c"]);
        assert_eq!(all[1].max_time, Some(Duration::from_secs(2)));
        assert!(words("--upload-file x http://a/").is_err());
    }

    #[test]
    fn what_is_written_out_is_curls_own_form() {
        let ended =
            Ended { reply: Some(Reply::empty(404).with("server", "istio-envoy")), code: 0, words: String::new(), took: Duration::from_millis(2) };
        assert_eq!(written("\\n%{http_code}\\t%{exitcode}\\t%header{server}\\t%header{x}.", &ended), "\n404\t0\tistio-envoy\t.");
        let refused = Ended { reply: None, code: 7, words: "Failed".to_owned(), took: Duration::ZERO };
        assert_eq!(written("%{http_code} %{errormsg}", &refused), "000 Failed");
    }
}
