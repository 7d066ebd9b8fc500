//! Is there a node that is large enough for a pod, if it had the node to itself? What others use is the scheduler's business.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Where a node says that it comes with its pods.
const COMPUTE_TYPES: [&str; 2] = ["eks.amazonaws.com/compute-type", "type"];

/// What a node offers: allocatable, and its labels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    pub allocatable: BTreeMap<String, f64>,
    pub labels: BTreeMap<String, String>,
}

impl Offer {
    pub fn of(node: &Node) -> Self {
        let allocatable = node.status.as_ref().and_then(|s| s.allocatable.as_ref()).into_iter().flatten();
        Self {
            allocatable: allocatable.filter_map(|(name, quantity)| Some((name.clone(), quantity_of(&quantity.0)?))).collect(),
            labels: node.metadata.labels.clone().unwrap_or_default(),
        }
    }

    /// Nodes that come with their pods: nothing is known before.
    pub fn comes_with_pods(&self) -> bool {
        let is = |key: &str, value: &str| self.labels.get(key).is_some_and(|kind| kind == value);
        is(COMPUTE_TYPES[0], "fargate") || is(COMPUTE_TYPES[1], "virtual-kubelet")
    }
}

/// `100m`, `1.5`, `512Mi`, `2e3` as a number.
pub fn quantity_of(text: &str) -> Option<f64> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number.trim().parse().ok()?;
    let factor = match unit {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        "Ti" => 1024.0_f64.powi(4),
        "Pi" => 1024.0_f64.powi(5),
        "Ei" => 1024.0_f64.powi(6),
        _ => return text.parse().ok(),
    };
    Some(number * factor)
}

/// What the scheduler asks a node for: the containers together, or the largest init container if that is more; with the pod's overhead.
pub fn requests_of(spec: &Value) -> BTreeMap<String, f64> {
    let mut sum = BTreeMap::new();
    let mut peak: BTreeMap<String, f64> = BTreeMap::new();
    for init in list(spec, "initContainers") {
        let own = of_container(init);
        let runs_on = init.get("restartPolicy").and_then(Value::as_str) == Some("Always");
        // The sidecars before it keep running beside an init container.
        for (name, value) in &own {
            let beside = sum.get(name).copied().unwrap_or(0.0);
            let most = peak.entry(name.clone()).or_insert(0.0);
            *most = most.max(beside + value);
        }
        if runs_on {
            add(&mut sum, own);
        }
    }
    for container in list(spec, "containers") {
        add(&mut sum, of_container(container));
    }
    for (name, most) in peak {
        let all = sum.entry(name).or_insert(0.0);
        *all = all.max(most);
    }
    add(&mut sum, quantities(spec.get("overhead")));
    sum.retain(|_, value| *value > 0.0);
    sum
}

fn add(sum: &mut BTreeMap<String, f64>, more: BTreeMap<String, f64>) {
    for (name, value) in more {
        *sum.entry(name).or_insert(0.0) += value;
    }
}

/// A limit without a request is the request too.
fn of_container(container: &Value) -> BTreeMap<String, f64> {
    let mut asked = quantities(container.pointer("/resources/limits"));
    asked.extend(quantities(container.pointer("/resources/requests")));
    asked
}

fn quantities(map: Option<&Value>) -> BTreeMap<String, f64> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    map.and_then(Value::as_object).into_iter().flatten().filter_map(|(name, value)| Some((name.clone(), quantity_of(&text(value))?))).collect()
}

/// The part of a pod's spec that `misfit` goes by: no environment, no arguments.
pub fn decisive(spec: &Value) -> Value {
    let part = |of: &Value, keys: &[&str]| -> Map<String, Value> {
        keys.iter().filter_map(|key| Some(((*key).to_owned(), of.get(*key)?.clone()))).collect()
    };
    let mut decisive = part(spec, &["schedulerName", "schedulingGates", "nodeName", "nodeSelector", "overhead"]);
    for key in ["initContainers", "containers"] {
        let containers: Vec<Value> = list(spec, key).map(|container| part(container, &["restartPolicy", "resources"]).into()).collect();
        decisive.insert(key.to_owned(), containers.into());
    }
    decisive.into()
}

/// The nodes with what counts for this pod alone, those alike once.
pub fn alike(spec: &Value, nodes: &[Offer]) -> Vec<Offer> {
    let requests = requests_of(spec);
    let selects = |key: &str| COMPUTE_TYPES.contains(&key) || spec.get("nodeSelector").is_some_and(|selector| selector.get(key).is_some());
    let mut found: Vec<Offer> = Vec::new();
    for node in nodes {
        let mut node = node.clone();
        node.allocatable.retain(|name, _| requests.contains_key(name));
        node.labels.retain(|key, _| selects(key));
        if !found.contains(&node) {
            found.push(node);
        }
    }
    found
}

/// `None`: some node is large enough, or the question makes no sense here. Else why none is, in words.
pub fn misfit(spec: &Value, nodes: &[Offer]) -> Option<String> {
    let text = |key: &str| spec.get(key).and_then(Value::as_str).unwrap_or_default();
    let other_scheduler = !matches!(text("schedulerName"), "" | "default-scheduler");
    let gated = list(spec, "schedulingGates").next().is_some();
    if nodes.is_empty() || other_scheduler || gated || !text("nodeName").is_empty() || nodes.iter().any(Offer::comes_with_pods) {
        return None;
    }
    let selector: Vec<(&String, &str)> =
        spec.get("nodeSelector").and_then(Value::as_object).into_iter().flatten().filter_map(|(key, value)| Some((key, value.as_str()?))).collect();
    let selected: Vec<&Offer> =
        nodes.iter().filter(|node| selector.iter().all(|(key, value)| node.labels.get(*key).is_some_and(|label| label == value))).collect();
    if selected.is_empty() {
        let labels = selector.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ");
        return Some(format!("no node has the labels of its nodeSelector: {labels}"));
    }
    let requests = requests_of(spec);
    let lacks = |node: &Offer| -> Vec<String> {
        let offered = |name: &str| node.allocatable.get(name).copied().unwrap_or(0.0);
        requests.iter().filter(|(name, wanted)| **wanted > offered(name)).map(|(name, _)| name.clone()).collect()
    };
    let short: Vec<Vec<String>> = selected.iter().map(|node| lacks(node)).collect();
    if short.iter().any(Vec::is_empty) {
        return None;
    }
    // What every node is short of says it best.
    let common: Vec<&String> = short[0].iter().filter(|name| short.iter().all(|names| names.contains(name))).collect();
    if common.is_empty() {
        let all: Vec<String> = requests.iter().map(|(name, wanted)| format!("{} {name}", amount(name, *wanted))).collect();
        return Some(format!("no node has room for all that it asks for together: {}", all.join(", ")));
    }
    let parts = common.into_iter().map(|name| {
        let largest = selected.iter().filter_map(|node| node.allocatable.get(name)).copied().fold(0.0, f64::max);
        format!("{} {name}, the largest has {}", amount(name, requests[name]), amount(name, largest))
    });
    Some(format!("no node is large enough: it asks for {}", parts.collect::<Vec<_>>().join("; ")))
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

/// `1.5`, `512Mi`
fn amount(name: &str, value: f64) -> String {
    if !matches!(name, "memory" | "ephemeral-storage") {
        return if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.3}").trim_end_matches('0').to_owned() };
    }
    let (mut value, mut unit) = (value, "");
    for next in ["Ki", "Mi", "Gi", "Ti"] {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    format!("{}{unit}", format!("{value:.1}").trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(cpu: &str, memory: &str, labels: &[(&str, &str)]) -> Offer {
        let quantity = |text: &str| quantity_of(text).expect("a quantity");
        Offer {
            allocatable: [("cpu".to_owned(), quantity(cpu)), ("memory".to_owned(), quantity(memory))].into(),
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        }
    }

    fn asks(cpu: &str, memory: &str) -> Value {
        json!({"containers": [{"name": "app", "resources": {"requests": {"cpu": cpu, "memory": memory}}}]})
    }

    #[test]
    fn quantities_are_read() {
        for (text, value) in [("100m", 0.1), ("2", 2.0), ("1.5", 1.5), ("1Ki", 1024.0), ("1e3", 1000.0), ("2E", 2e18), ("4G", 4e9)] {
            assert_eq!(quantity_of(text), Some(value), "{text}");
        }
        assert_eq!(quantity_of("lots"), None);
    }

    #[test]
    fn a_pod_that_no_node_could_hold_is_told() {
        let nodes = [node("2", "8Gi", &[]), node("4", "4Gi", &[("disk", "ssd")])];
        for (spec, told) in [
            (asks("1", "1Gi"), None),
            (asks("4", "1Gi"), None),
            (asks("8", "1Gi"), Some("no node is large enough: it asks for 8 cpu, the largest has 4")),
            (asks("1", "16Gi"), Some("no node is large enough: it asks for 16Gi memory, the largest has 8Gi")),
            // Each fits somewhere, both together nowhere.
            (asks("4", "8Gi"), Some("no node has room for all that it asks for together: 4 cpu, 8Gi memory")),
            (
                json!({"containers": [{"resources": {"limits": {"nvidia.com/gpu": 1}}}]}),
                Some("no node is large enough: it asks for 1 nvidia.com/gpu, the largest has 0"),
            ),
            (json!({"containers": [], "nodeSelector": {"disk": "ssd"}}), None),
            (json!({"containers": [], "nodeSelector": {"disk": "hdd"}}), Some("no node has the labels of its nodeSelector: disk=hdd")),
            (json!({"containers": [], "nodeSelector": {"disk": "hdd"}, "schedulingGates": [{"name": "g"}]}), None),
            (json!({"containers": [], "nodeSelector": {"disk": "hdd"}, "schedulerName": "volcano"}), None),
        ] {
            assert_eq!(misfit(&spec, &nodes).as_deref(), told, "{spec}");
        }
        assert_eq!(misfit(&asks("99", "1Gi"), &[]), None);
        assert_eq!(misfit(&asks("99", "1Gi"), &[node("1", "1Gi", &[("eks.amazonaws.com/compute-type", "fargate")])]), None);
    }

    #[test]
    fn init_containers_run_one_after_another_and_sidecars_beside_all() {
        let spec = json!({
            "overhead": {"cpu": "250m"},
            "initContainers": [
                {"name": "proxy", "restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
                {"name": "migrate", "resources": {"requests": {"cpu": "2"}}},
            ],
            "containers": [{"name": "app", "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "3"}}}],
        });
        assert!((requests_of(&spec)["cpu"] - 2.35).abs() < 1e-9, "{:?}", requests_of(&spec));
    }
}
