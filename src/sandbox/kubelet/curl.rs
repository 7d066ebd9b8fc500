//! A container that runs curl: the requests of its command line, really made against the simulated network, and the log it writes.

use std::time::Duration;

use serde_json::Value;
use url::Url;

use crate::sandbox::gateway::{self, Ask, Door, Plain, Reply};
use crate::sandbox::sim::Sim;
use crate::sandbox::store::meta::{list, text};

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
    /// The name to connect to in the place of the URL's.
    connect_to: Option<String>,
    /// A file of certificates in the place of the image's own.
    cacert: Option<String>,
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
pub(super) fn run(sim: &Sim, pod: &Value, spec: &Value) -> Option<Ran> {
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
        let trusted = transfer.cacert.as_deref().and_then(|path| file(pod, spec, path));
        let ended = ask(sim, transfer, trusted.as_deref());
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
            "--silent" | "-s" | "--http1.1" | "--globoff" | "--path-as-is" => {}
            "--noproxy" => drop(value()?),
            "--max-time" | "-m" => now.max_time = value()?.parse().ok().map(Duration::from_secs_f64),
            "--header" | "-H" => now.host = value()?.strip_prefix("Host: ").map(str::to_owned),
            "--connect-to" => now.connect_to = connect_to(&value()?),
            "--cacert" => now.cacert = Some(value()?),
            "--write-out" | "-w" => now.write_out = value()?,
            "--next" => all.push(std::mem::take(&mut now)),
            option if option.starts_with('-') => return Err(format!("option {option}: is unknown")),
            url => url.clone_into(&mut now.url),
        }
    }
    all.push(now);
    Ok(all)
}

/// `HOST:PORT:TO:PORT`; an empty HOST or PORT means any.
fn connect_to(word: &str) -> Option<String> {
    let parts: Vec<&str> = word.split(':').collect();
    if let ["", "", to, ""] = parts[..] { Some(to.to_owned()) } else { None }
}

/// A file in the container: an annotation of the pod, mounted through the downward API.
fn file(pod: &Value, spec: &Value, path: &str) -> Option<String> {
    let (folder, name) = path.rsplit_once('/')?;
    let mount = list(spec, "/volumeMounts").iter().find(|mount| text(mount, "/mountPath") == folder)?;
    let volume = list(pod, "/spec/volumes").iter().find(|volume| volume["name"] == mount["name"])?;
    let item = list(volume, "/downwardAPI/items").iter().find(|item| text(item, "/path") == name)?;
    let key = text(item, "/fieldRef/fieldPath").strip_prefix("metadata.annotations['")?.strip_suffix("']")?;
    pod["metadata"]["annotations"][key].as_str().map(str::to_owned)
}

fn ask(sim: &Sim, transfer: &Transfer, trusted: Option<&str>) -> Ended {
    let failed = |code: i32, words: String| Ended { reply: None, code, words, took: Duration::from_millis(2) };
    let Ok(url) = Url::parse(&transfer.url) else { return failed(3, "URL rejected: Malformed input to a URL function".to_owned()) };
    let (host, port) = (url.host_str().unwrap_or_default().to_owned(), url.port_or_known_default().unwrap_or(80));
    let path = format!("{}{}", url.path(), url.query().map(|query| format!("?{query}")).unwrap_or_default());
    let to = transfer.connect_to.clone().unwrap_or_else(|| host.clone());
    let refused = || failed(7, format!("Failed to connect to {to} port {port} after 0 ms: Could not connect to server"));
    let limit = transfer.max_time.unwrap_or(Duration::from_secs(300));
    let late = || Ended { took: limit, ..failed(28, format!("Connection timed out after {} milliseconds", limit.as_millis())) };
    let secure = url.scheme() == "https";
    let named = transfer.host.clone().unwrap_or_else(|| if port == if secure { 443 } else { 80 } { host.clone() } else { format!("{host}:{port}") });
    let asked = Ask { method: "GET".to_owned(), host: named, path: path.clone(), secure };
    let got = if to.parse::<std::net::Ipv4Addr>().is_ok() {
        if !gateway::is_node(sim, &to) {
            return late();
        }
        gateway::node_request(sim, port, &asked).map_or(Plain::Refused, Plain::Answer)
    } else {
        match gateway::balancer_request(sim, &to, port, &asked) {
            Door::Open(_) if secure && let Some(words) = sim.distrust(&host, trusted) => return failed(60, words),
            Door::Open(reply) => Plain::Answer(reply),
            Door::Closed => Plain::Refused,
            Door::Unnamed => Plain::Unresolved,
            Door::Another if secure => return failed(35, "TLS connect error: error:0A00010B:SSL routines::wrong version number".to_owned()),
            Door::Another => gateway::plain_request(sim, &to, port, &path),
        }
    };
    match got {
        Plain::Unresolved => failed(6, format!("Could not resolve host: {to}")),
        Plain::Refused => refused(),
        Plain::Reset => failed(56, "Recv failure: Connection reset by peer".to_owned()),
        Plain::Answer(reply) if reply.delay >= limit => late(),
        Plain::Answer(reply) => Ended { took: reply.delay + Duration::from_millis(2), reply: Some(reply), code: 0, words: String::new() },
    }
}

/// curl's `--write-out` for one transfer.
fn written(format: &str, ended: &Ended) -> String {
    let status = ended.reply.as_ref().map_or(0, |reply| reply.status);
    let connected = if matches!(ended.code, 6 | 7 | 28) { 0.0 } else { 0.001 };
    format
        .replace("\\n", "\n")
        .replace("\\t", "\t")
        .replace("%{http_code}", &format!("{status:03}"))
        .replace("%{exitcode}", &ended.code.to_string())
        .replace("%{time_total}", &format!("{:.6}", ended.took.as_secs_f64()))
        .replace("%{time_connect}", &format!("{connected:.6}"))
        .replace("%{errormsg}", &ended.words)
        .replace("%{header_json}", &headers(ended))
}

/// All headers as curl writes them: names in lower case, each with the list of its values, a name a line.
fn headers(ended: &Ended) -> String {
    let line = |(name, value): &(String, String)| format!("{}:{}", Value::from(name.to_lowercase()), Value::from(vec![value.clone()]));
    let lines: Vec<String> = ended.reply.iter().flat_map(|reply| &reply.headers).map(line).collect();
    format!("{{{}\n}}", lines.join(",\n"))
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
        let all = words("--connect-to ::alb: --cacert /meshstep/ca.pem --globoff https://h/").expect("known options");
        assert_eq!((all[0].connect_to.as_deref(), all[0].cacert.as_deref()), (Some("alb"), Some("/meshstep/ca.pem")));
    }

    #[test]
    fn a_file_is_an_annotation_of_the_pod() {
        let spec = serde_json::json!({"volumeMounts": [{"name": "trusted", "mountPath": "/meshstep"}]});
        let items = serde_json::json!([{"path": "ca.pem", "fieldRef": {"fieldPath": "metadata.annotations['meshstep.io/cacert']"}}]);
        let pod = serde_json::json!({
            "metadata": {"annotations": {"meshstep.io/cacert": "PEM"}},
            "spec": {"volumes": [{"name": "trusted", "downwardAPI": {"items": items}}]},
        });
        assert_eq!(file(&pod, &spec, "/meshstep/ca.pem").as_deref(), Some("PEM"));
        assert_eq!(file(&pod, &spec, "/meshstep/other.pem"), None);
        assert_eq!(file(&pod, &spec, "/elsewhere/ca.pem"), None);
    }

    #[test]
    fn what_is_written_out_is_curls_own_form() {
        let ended =
            Ended { reply: Some(Reply::empty(404).with("server", "istio-envoy")), code: 0, words: String::new(), took: Duration::from_millis(2) };
        let told = written("\\n%{http_code}\\t%{exitcode}\\t%{time_connect}\\n%{header_json}.", &ended);
        assert_eq!(told, "\n404\t0\t0.001000\n{\"server\":[\"istio-envoy\"]\n}.");
        let refused = Ended { reply: None, code: 7, words: "Failed".to_owned(), took: Duration::ZERO };
        assert_eq!(written("%{http_code} %{errormsg}", &refused), "000 Failed");
    }
}
