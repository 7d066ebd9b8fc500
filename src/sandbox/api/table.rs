//! The columns that `kubectl get` shows.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::sandbox::store::Resource;
use crate::sandbox::store::meta::{deleting, list, name, number, text};

/// Column name, whether only `-o wide` shows it, cell.
type Cell = (String, bool, Value);

/// Column definitions, and the cells of each object.
pub(super) fn render(kind: &Resource, objects: &[&Value]) -> (Value, Vec<Vec<Value>>) {
    let columns = row(kind, &Value::Null).into_iter().map(|(column, wide, _)| {
        let format = if column == "Name" { "name" } else { "" };
        json!({"name": column, "type": "string", "format": format, "description": "", "priority": i32::from(wide)})
    });
    let columns: Vec<Value> = columns.collect();
    let rows = objects.iter().map(|object| row(kind, object).into_iter().map(|(_, _, cell)| cell).collect()).collect();
    (columns.into(), rows)
}

fn shown(column: &str, cell: impl Into<Value>) -> Cell {
    (column.to_owned(), false, cell.into())
}

fn wide(column: &str, cell: impl Into<Value>) -> Cell {
    (column.to_owned(), true, cell.into())
}

fn or_none(value: &str) -> String {
    if value.is_empty() { "<none>".to_owned() } else { value.to_owned() }
}

fn joined<'a>(items: impl Iterator<Item = &'a str>) -> String {
    or_none(&items.filter(|i| !i.is_empty()).collect::<Vec<_>>().join(","))
}

fn count(object: &Value, pointer: &str) -> i64 {
    number(object, pointer).unwrap_or(0)
}

fn size(object: &Value, key: &str) -> usize {
    object.get(key).map_or(0, |v| v.as_object().map(serde_json::Map::len).or(v.as_array().map(Vec::len)).unwrap_or(0))
}

/// Time since, in kubectl's short form.
pub(super) fn age(since: &str) -> String {
    let Ok(at) = since.parse::<Timestamp>() else { return "<unknown>".to_owned() };
    let s = Timestamp::now().duration_since(at).as_secs().max(0);
    let (m, h, d) = (s / 60, s / 3600, s / 86400);
    match s {
        _ if s < 120 => format!("{s}s"),
        _ if m < 10 => {
            if s % 60 == 0 {
                format!("{m}m")
            } else {
                format!("{m}m{}s", s % 60)
            }
        }
        _ if m < 180 => format!("{m}m"),
        _ if h < 8 => {
            if m % 60 == 0 {
                format!("{h}h")
            } else {
                format!("{h}h{}m", m % 60)
            }
        }
        _ if h < 48 => format!("{h}h"),
        _ if d < 8 => {
            if h % 24 == 0 {
                format!("{d}d")
            } else {
                format!("{d}d{}h", h % 24)
            }
        }
        _ => format!("{d}d"),
    }
}

fn labels(value: Option<&Value>) -> String {
    let pairs = value.and_then(Value::as_object).into_iter().flatten();
    or_none(&pairs.map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect::<Vec<_>>().join(","))
}

fn row(kind: &Resource, o: &Value) -> Vec<Cell> {
    let mut cells = vec![shown("Name", name(o))];
    let created = age(text(o, "/metadata/creationTimestamp"));
    let containers = |pointer: &str, key: &str| joined(list(o, pointer).iter().map(|c| c.get(key).and_then(Value::as_str).unwrap_or_default()));
    let images = |cells: &mut Vec<Cell>| {
        cells.push(wide("Containers", containers("/spec/template/spec/containers", "name")));
        cells.push(wide("Images", containers("/spec/template/spec/containers", "image")));
        cells.push(wide("Selector", labels(o.pointer("/spec/selector/matchLabels"))));
    };
    match kind.id().as_str() {
        "pods" => {
            pod(&mut cells, o);
            cells.push(shown("Age", created));
            cells.push(wide("IP", or_none(text(o, "/status/podIP"))));
            cells.push(wide("Node", or_none(text(o, "/spec/nodeName"))));
            cells.push(wide("Nominated Node", "<none>"));
            cells.push(wide("Readiness Gates", "<none>"));
        }
        "deployments.apps" => {
            cells.push(shown("Ready", format!("{}/{}", count(o, "/status/readyReplicas"), count(o, "/spec/replicas"))));
            cells.push(shown("Up-to-date", count(o, "/status/updatedReplicas")));
            cells.push(shown("Available", count(o, "/status/availableReplicas")));
            cells.push(shown("Age", created));
            images(&mut cells);
        }
        "replicasets.apps" => {
            cells.push(shown("Desired", count(o, "/spec/replicas")));
            cells.push(shown("Current", count(o, "/status/replicas")));
            cells.push(shown("Ready", count(o, "/status/readyReplicas")));
            cells.push(shown("Age", created));
            images(&mut cells);
        }
        "statefulsets.apps" => {
            cells.push(shown("Ready", format!("{}/{}", count(o, "/status/readyReplicas"), count(o, "/spec/replicas"))));
            cells.push(shown("Age", created));
            images(&mut cells);
        }
        "daemonsets.apps" => {
            for (column, field) in [("Desired", "desiredNumberScheduled"), ("Current", "currentNumberScheduled"), ("Ready", "numberReady")] {
                cells.push(shown(column, count(o, &format!("/status/{field}"))));
            }
            cells.push(shown("Age", created));
            images(&mut cells);
        }
        "services" => {
            let ports = list(o, "/spec/ports").iter().map(|p| {
                let node = number(p, "/nodePort").map(|n| format!(":{n}")).unwrap_or_default();
                format!("{}{node}/{}", count(p, "/port"), text(p, "/protocol"))
            });
            let external = joined(list(o, "/status/loadBalancer/ingress").iter().map(|i| match text(i, "/hostname") {
                "" => text(i, "/ip"),
                host => host,
            }));
            let external = if external == "<none>" && text(o, "/spec/type") == "LoadBalancer" { "<pending>".to_owned() } else { external };
            cells.push(shown("Type", text(o, "/spec/type")));
            cells.push(shown("Cluster-IP", or_none(text(o, "/spec/clusterIP"))));
            cells.push(shown("External-IP", external));
            cells.push(shown("Port(s)", or_none(&ports.collect::<Vec<_>>().join(","))));
            cells.push(shown("Age", created));
            cells.push(wide("Selector", labels(o.pointer("/spec/selector"))));
        }
        "ingresses.networking.k8s.io" => {
            let hosts = list(o, "/spec/rules").iter().map(|r| match text(r, "/host") {
                "" => "*",
                host => host,
            });
            let hosts: Vec<&str> = hosts.collect();
            cells.push(shown("Class", or_none(text(o, "/spec/ingressClassName"))));
            cells.push(shown("Hosts", if hosts.is_empty() { "*".to_owned() } else { hosts.join(",") }));
            let address = list(o, "/status/loadBalancer/ingress").iter().map(|i| match text(i, "/hostname") {
                "" => text(i, "/ip"),
                host => host,
            });
            cells.push(shown("Address", address.collect::<Vec<_>>().join(",")));
            cells.push(shown("Ports", if list(o, "/spec/tls").is_empty() { "80" } else { "80, 443" }));
            cells.push(shown("Age", created));
        }
        "namespaces" => {
            cells.push(shown("Status", text(o, "/status/phase")));
            cells.push(shown("Age", created));
        }
        "nodes" => {
            let ready = list(o, "/status/conditions").iter().any(|c| text(c, "/type") == "Ready" && text(c, "/status") == "True");
            cells.push(shown("Status", if ready { "Ready" } else { "NotReady" }));
            let prefix = "node-role.kubernetes.io/";
            let roles = o.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten().filter_map(|(k, _)| k.strip_prefix(prefix));
            cells.push(shown("Roles", joined(roles)));
            cells.push(shown("Age", created));
            cells.push(shown("Version", text(o, "/status/nodeInfo/kubeletVersion")));
            let address = |kind: &str| list(o, "/status/addresses").iter().find(|a| text(a, "/type") == kind).map_or("", |a| text(a, "/address"));
            cells.push(wide("Internal-IP", or_none(address("InternalIP"))));
            cells.push(wide("External-IP", or_none(address("ExternalIP"))));
        }
        "events" => {
            let last = [text(o, "/lastTimestamp"), text(o, "/eventTime"), text(o, "/metadata/creationTimestamp")].into_iter().find(|t| !t.is_empty());
            let object = format!("{}/{}", text(o, "/involvedObject/kind").to_lowercase(), text(o, "/involvedObject/name"));
            cells = vec![
                shown("Last Seen", age(last.unwrap_or_default())),
                shown("Type", text(o, "/type")),
                shown("Reason", text(o, "/reason")),
                shown("Object", object),
                wide("Source", text(o, "/source/component")),
                shown("Message", text(o, "/message").trim()),
                wide("Count", number(o, "/count").unwrap_or(1)),
                wide("Name", name(o)),
            ];
        }
        "configmaps" => {
            cells.push(shown("Data", size(o, "data") + size(o, "binaryData")));
            cells.push(shown("Age", created));
        }
        "secrets" => {
            cells.push(shown("Type", text(o, "/type")));
            cells.push(shown("Data", size(o, "data")));
            cells.push(shown("Age", created));
        }
        "jobs.batch" => {
            let done = count(o, "/status/succeeded");
            cells.push(shown("Status", if done > 0 { "Complete" } else { "Running" }));
            cells.push(shown("Completions", format!("{done}/{}", number(o, "/spec/completions").unwrap_or(1))));
            cells.push(shown("Age", created));
        }
        "customresourcedefinitions.apiextensions.k8s.io" => cells.push(shown("Created At", text(o, "/metadata/creationTimestamp"))),
        _ if kind.custom() => custom(kind, &mut cells, o, &created),
        _ => cells.push(shown("Age", created)),
    }
    cells
}

fn pod(cells: &mut Vec<Cell>, o: &Value) {
    let statuses = list(o, "/status/containerStatuses");
    let sidecars = list(o, "/spec/initContainers").iter().filter(|c| text(c, "/restartPolicy") == "Always").map(name_of);
    let sidecars: Vec<&str> = sidecars.collect();
    let init = list(o, "/status/initContainerStatuses");
    let all = statuses.iter().chain(init.iter().filter(|s| sidecars.contains(&name_of(s))));
    let ready = all.clone().filter(|s| s["ready"] == true).count();
    let restarts: i64 = all.map(|s| count(s, "/restartCount")).sum();
    cells.push(shown("Ready", format!("{ready}/{}", list(o, "/spec/containers").len() + sidecars.len())));
    cells.push(shown("Status", pod_status(o)));
    cells.push(shown("Restarts", restarts.to_string()));
}

fn name_of(value: &Value) -> &str {
    text(value, "/name")
}

/// What kubectl shows as STATUS.
fn pod_status(o: &Value) -> String {
    if deleting(o) {
        return "Terminating".to_owned();
    }
    let mut status = match text(o, "/status/reason") {
        "" => text(o, "/status/phase").to_owned(),
        reason => reason.to_owned(),
    };
    let init = list(o, "/status/initContainerStatuses");
    for (at, s) in init.iter().enumerate() {
        if s.pointer("/state/terminated").is_some_and(|t| t["exitCode"] == 0) || s["started"] == true {
            continue;
        }
        let reason = text(s, "/state/waiting/reason");
        let failed = text(s, "/state/terminated/reason");
        return match (reason, failed) {
            ("" | "PodInitializing", "") => format!("Init:{at}/{}", list(o, "/spec/initContainers").len()),
            ("" | "PodInitializing", failed) => format!("Init:{failed}"),
            (reason, _) => format!("Init:{reason}"),
        };
    }
    for s in list(o, "/status/containerStatuses").iter().rev() {
        let (waiting, ended) = (text(s, "/state/waiting/reason"), text(s, "/state/terminated/reason"));
        if !waiting.is_empty() {
            status = waiting.to_owned();
        } else if !ended.is_empty() {
            status = ended.to_owned();
        }
    }
    status
}

fn custom(kind: &Resource, cells: &mut Vec<Cell>, o: &Value, created: &str) {
    let version = list(&kind.definition, "/versions").iter().find(|v| v["name"] == kind.versions[0].as_str());
    let columns = version.map_or(&[][..], |v| list(v, "/additionalPrinterColumns"));
    if columns.is_empty() {
        cells.push(shown("Age", created));
    }
    for column in columns {
        let pointer = text(column, "/jsonPath").replace('.', "/");
        let cell = match o.pointer(&pointer) {
            Some(Value::String(at)) if text(column, "/type") == "date" => age(at).into(),
            Some(Value::Array(items)) => Value::Array(items.clone()).to_string().into(),
            Some(value) => value.clone(),
            None => Value::Null,
        };
        cells.push((text(column, "/name").to_owned(), count(column, "/priority") > 0, cell));
    }
}
