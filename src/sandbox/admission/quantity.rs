//! Quantities such as `250m` and `1Gi`, and what a pod asks for.

use serde_json::Value;

use crate::sandbox::store::meta::{list, text};

/// In thousandths of the unit.
pub(in crate::sandbox) fn thousandths(value: &Value) -> i128 {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-')).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let part = format!("{part:0<3}");
    let base = whole.parse::<i128>().unwrap_or(0) * 1000 + part[..3].parse::<i128>().unwrap_or(0);
    match unit {
        "m" => base / 1000,
        "k" => base * 1000,
        "M" => base * 1_000_000,
        "G" => base * 1_000_000_000,
        "Ki" => base << 10,
        "Mi" => base << 20,
        "Gi" => base << 30,
        "Ti" => base << 40,
        _ => base,
    }
}

/// What a pod asks for of a resource, `requests` or `limits`, in thousandths: its containers and sidecars together, or one init container.
pub(in crate::sandbox) fn asked(pod: &Value, which: &str, resource: &str) -> i128 {
    let of = |container: &Value| {
        let resources = &container["resources"];
        let own = &resources[which][resource];
        // a limit is a request too
        thousandths(if own.is_null() && which == "requests" { &resources["limits"][resource] } else { own })
    };
    let (sidecars, inits): (Vec<&Value>, Vec<&Value>) =
        list(pod, "/spec/initContainers").iter().partition(|container| text(container, "/restartPolicy") == "Always");
    let beside: i128 = sidecars.into_iter().map(of).sum();
    let together = list(pod, "/spec/containers").iter().map(of).sum::<i128>() + beside;
    together.max(inits.into_iter().map(of).max().unwrap_or(0) + beside)
}

/// A number of thousandths, as the API server prints it.
pub(super) fn printed(thousandths: i128, resource: &str) -> String {
    let whole = thousandths / 1000;
    if thousandths % 1000 != 0 {
        return format!("{thousandths}m");
    }
    let units = [("Gi", 1_i128 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)];
    let binary = units.iter().find(|(_, size)| resource.ends_with("memory") && whole > 0 && whole % size == 0);
    binary.map_or_else(|| whole.to_string(), |(unit, size)| format!("{}{unit}", whole / size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn quantities_are_read_and_printed() {
        for (given, wanted, back) in [
            (json!("250m"), 250, "250m"),
            (json!("2"), 2000, "2"),
            (json!(3), 3000, "3"),
            (json!("1.5"), 1500, "1500m"),
            (json!("64Mi"), 67_108_864_000, "64Mi"),
        ] {
            assert_eq!(thousandths(&given), wanted, "{given}");
            assert_eq!(printed(wanted, "requests.memory"), back);
        }
    }

    #[test]
    fn a_pod_asks_for_all_its_containers_or_its_greediest_init_container() {
        let container = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let pod = json!({"spec": {"initContainers": [container("2")], "containers": [container("500m"), container("1"), {}]}});
        assert_eq!(asked(&pod, "requests", "cpu"), 2000);
        let pod = json!({"spec": {"containers": [container("500m"), {"resources": {"limits": {"cpu": "1"}}}]}});
        assert_eq!((asked(&pod, "requests", "cpu"), asked(&pod, "limits", "cpu")), (1500, 1000));
    }
}
