//! Plays the calls of `fixtures/conformance/*.yaml` against an API server and writes its answers without what differs from run to run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use meshstep::base::wait::{self, Patience, Poll};
use regex::Regex;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// A call as the script writes it. `${NAME}` is filled with what an earlier call saved.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Call {
    /// What it is about: its name in the recording.
    pub(crate) say: String,
    /// `GET /api/v1/…`
    pub(crate) call: String,
    #[serde(default, rename = "as")]
    who: Who,
    /// `table`, `partial`, `partial-list`, `aggregated`, or a media type; JSON when absent.
    #[serde(default)]
    accept: String,
    /// `merge`, `strategic`, `json-patch`, `apply`, or a media type; JSON when absent.
    #[serde(default, rename = "type")]
    media: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: Option<Value>,
    /// A body that is no JSON.
    #[serde(default)]
    raw: Option<String>,
    /// Names for parts of the answer: a JSON pointer, or `header:NAME`.
    #[serde(default)]
    save: BTreeMap<String, String>,
    /// The answer is a stream of events.
    #[serde(default)]
    watch: bool,
    /// Asked again until the answer has these values.
    #[serde(default)]
    until: BTreeMap<String, Value>,
    /// Why the answer's body is not compared.
    #[serde(default)]
    unseen: Option<String>,
    /// Before this call a server that forgets only when it is told to is told so.
    #[serde(default)]
    pub(crate) forget: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Who {
    #[default]
    Admin,
    Nobody,
    /// A token that nobody issued.
    Stranger,
    /// An account without rights, whose token an earlier call saved as `weak`.
    Weak,
}

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/conformance")
}

/// The scripts by name, in their order.
pub(crate) fn scripts() -> Vec<(String, Vec<Call>)> {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .expect("fixtures/conformance is there")
        .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(".yaml")?.to_owned()))
        .collect();
    names.sort();
    let read = |name: String| {
        let text = std::fs::read_to_string(folder().join(format!("{name}.yaml"))).expect("UTF-8");
        let calls: Vec<Call> = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{name}.yaml: {error}"));
        let mut said: Vec<&str> = calls.iter().map(|call| call.say.as_str()).collect();
        said.sort_unstable();
        let twice = said.windows(2).find(|pair| pair[0] == pair[1]);
        assert_eq!(twice, None, "{name}.yaml says something twice");
        (name, calls)
    };
    names.into_iter().map(read).collect()
}

/// An API server to play against.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) ca_pem: String,
    pub(crate) admin: String,
}

impl Server {
    /// Plays a script; the answers by what the calls say.
    pub(crate) async fn play(&self, calls: &[Call], mut before: impl FnMut(&Call)) -> Map<String, Value> {
        let ca = reqwest::Certificate::from_pem(self.ca_pem.as_bytes()).expect("a certificate");
        let http = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().timeout(Duration::from_secs(30)).build().expect("a client");
        let mut saved = BTreeMap::new();
        let mut answers = Map::new();
        for call in calls {
            before(call);
            let answer = self.until(&http, call, &mut saved).await;
            answers.insert(call.say.clone(), answer);
        }
        answers
    }

    async fn until(&self, http: &reqwest::Client, call: &Call, saved: &mut BTreeMap<String, String>) -> Value {
        let patience = Patience::new(Duration::from_secs(20), Duration::from_millis(100));
        let saved = tokio::sync::Mutex::new(saved);
        let look = || async {
            let (answer, body) = self.ask(http, call, *saved.lock().await).await;
            let there = call.until.iter().all(|(pointer, value)| body.pointer(pointer) == Some(value));
            Ok(if there { Poll::Ready(answer) } else { Poll::NotYet(body.to_string()) })
        };
        let waited = wait::until(patience, |_| (), wait::never, look).await;
        waited.unwrap_or_else(|error| panic!("{}: {error:?}", call.say))
    }

    /// The answer as it is compared, and its body as it came.
    async fn ask(&self, http: &reqwest::Client, call: &Call, saved: &mut BTreeMap<String, String>) -> (Value, Value) {
        let fill = |text: &str| saved.iter().fold(text.to_owned(), |text, (key, value)| text.replace(&format!("${{{key}}}"), value));
        let target = fill(&call.call);
        let (method, path) = target.split_once(' ').unwrap_or_else(|| panic!("{}: no method", call.say));
        let mut request = http.request(method.parse().expect("a method"), format!("{}{path}", self.url));
        request = request.header("Accept", accept(&call.accept)).header("User-Agent", "conformance");
        for (name, value) in &call.headers {
            request = request.header(name, fill(value));
        }
        request = match call.who {
            Who::Admin => request.bearer_auth(&self.admin),
            Who::Nobody => request,
            Who::Stranger => request.bearer_auth("nobody-issued-this"),
            Who::Weak => request.bearer_auth(&saved["weak"]),
        };
        let body = call.raw.clone().or_else(|| call.body.as_ref().map(|body| fill(&body.to_string())));
        if let Some(body) = body {
            request = request.header("Content-Type", media(&call.media)).body(body);
        }
        let response = request.send().await.unwrap_or_else(|error| panic!("{}: {error:?}", call.say));
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap_or_else(|error| panic!("{}: {error:?}", call.say));
        let header = |name: &str| headers.get_all(name).iter().map(|value| value.to_str().expect("ASCII").to_owned()).collect::<Vec<_>>();
        let parsed: Value = serde_json::from_str(&text).unwrap_or_default();
        for (key, from) in &call.save {
            let value = match from.strip_prefix("header:") {
                Some(name) => header(name).first().cloned(),
                None => parsed.pointer(from).and_then(Value::as_str).map(str::to_owned),
            };
            saved.insert(key.clone(), value.unwrap_or_else(|| panic!("{}: the answer has no {from}: {text}", call.say)));
        }
        let mut answer = json!({"call": call.call, "status": status, "type": header("content-type").join(",")});
        for name in ["warning", "retry-after", "etag"] {
            let values = header(name);
            if !values.is_empty() {
                answer[name] = if name == "etag" { "<etag>".into() } else { values.into() };
            }
        }
        match &call.unseen {
            Some(why) => answer["unseen"] = why.clone().into(),
            None if call.watch && status == 200 => answer["events"] = events(&text).into(),
            None if parsed.is_null() => answer["text"] = clean_text(&text).into(),
            None => answer["body"] = clean("", &parsed),
        }
        (answer, parsed)
    }
}

fn accept(name: &str) -> String {
    let form = |form: &str| format!("application/json;as={form};v=v1;g=meta.k8s.io,application/json");
    match name {
        "" => "application/json".to_owned(),
        "table" => form("Table"),
        "partial" => form("PartialObjectMetadata"),
        "partial-list" => form("PartialObjectMetadataList"),
        "aggregated" => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json".to_owned(),
        media => media.to_owned(),
    }
}

fn media(name: &str) -> &str {
    match name {
        "" => "application/json",
        "merge" => "application/merge-patch+json",
        "strategic" => "application/strategic-merge-patch+json",
        "json-patch" => "application/json-patch+json",
        "apply" => "application/apply-patch+yaml",
        media => media,
    }
}

/// The events of a watch. Bookmarks come as the server likes: several alike in a row are one.
fn events(text: &str) -> Vec<Value> {
    let mut events: Vec<Value> =
        text.lines().filter(|line| !line.trim().is_empty()).map(|line| clean("", &serde_json::from_str(line).expect("JSON"))).collect();
    events.dedup_by(|a, b| a == b && a["type"] == "BOOKMARK");
    events
}

/// The same without what differs from run to run.
fn clean(key: &str, value: &Value) -> Value {
    match value {
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), clean(key, value))).collect::<Map<_, _>>().into(),
        // The server sorts managers by the second in which they wrote.
        Value::Array(items) if key == "managedFields" => {
            let mut managers: Vec<Value> = items.iter().map(|item| clean("", item)).collect();
            managers.sort_by_key(|manager| ["manager", "operation", "subresource"].map(|key| manager[key].to_string()));
            managers.into()
        }
        Value::Array(items) => items.iter().map(|item| clean(key, item)).collect(),
        Value::Number(_) if matches!(key, "nodePort" | "healthCheckNodePort") => "<port>".into(),
        Value::String(text) if !text.is_empty() => match key {
            "resourceVersion" => "<version>".into(),
            "uid" => "<uid>".into(),
            "continue" => "<mark>".into(),
            "token" => "<token>".into(),
            "serverAddress" => "<address>".into(),
            "hash" | "serverRelativeURL" => "<hash>".into(),
            "buildDate" | "gitCommit" | "goVersion" | "gitTreeState" | "compiler" | "platform" | "major" | "minor" | "gitVersion" => "<build>".into(),
            _ => clean_text(text).into(),
        },
        other => other.clone(),
    }
}

fn clean_text(text: &str) -> String {
    static VOLATILE: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        let patterns = [
            (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<uid>"),
            (r"\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>"),
            (r"\bgen-[a-z0-9]{5}\b", "gen-<random>"),
            (r"\b10\.(96|100)\.\d+\.\d+\b", "<ip>"),
            (r"\bcurrent: \d+", "current: <version>"),
            (r"resource version: \d+ \(\d+\)", "resource version: <version> (<version>)"),
            (r"(UID in precondition: |UID in object meta: |ResourceVersion in precondition: |ResourceVersion in object meta: )[0-9a-f-]+", "$1<one>"),
            (r"(precondition|record) \(\d+\)", "$1 (<version>)"),
            (r":3\d{4}/TCP", ":<port>/TCP"),
            (r"^\d+(ms|s|m)$", "<age>"),
        ];
        patterns.map(|(pattern, with)| (Regex::new(pattern).expect("a pattern"), with)).into()
    });
    VOLATILE.iter().fold(text.to_owned(), |text, (pattern, with)| pattern.replace_all(&text, *with).into_owned())
}

/// The recording of a script.
pub(crate) fn recorded(name: &str) -> Map<String, Value> {
    let text = std::fs::read_to_string(folder().join(format!("{name}.json"))).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// Where two answers differ, each as `pointer: first, second`.
pub(crate) fn differences(at: &str, first: &Value, second: &Value, found: &mut Vec<(String, String)>) {
    match (first, second) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                let part = |map: &Map<String, Value>| map.get(key).cloned();
                match (part(a), part(b)) {
                    (Some(a), Some(b)) => differences(&format!("{at}/{key}"), &a, &b, found),
                    (a, b) => found.push((format!("{at}/{key}"), format!("{}, {}", short(a.as_ref()), short(b.as_ref())))),
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (n, (a, b)) in a.iter().zip(b).enumerate() {
                differences(&format!("{at}/{n}"), a, b, found);
            }
        }
        _ if first == second => {}
        _ => found.push((at.to_owned(), format!("{}, {}", short(Some(first)), short(Some(second))))),
    }
}

fn short(value: Option<&Value>) -> String {
    let text = value.map_or_else(|| "nothing".to_owned(), Value::to_string);
    if text.chars().count() > 400 { text.chars().take(400).chain("…".chars()).collect() } else { text }
}
