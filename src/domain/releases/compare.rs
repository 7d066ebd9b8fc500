//! Would an upgrade change anything? Objects are compared, not bytes: helm 3 and 4 lay the same manifest out differently.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::domain::releases::parse::Stored;

/// One object of a manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    pub api_version: String,
    pub kind: String,
    /// Empty: the release's namespace, or none.
    pub namespace: String,
    pub name: String,
    pub value: Value,
    /// As helm rendered it, without its `# Source:` line.
    pub text: String,
}

impl Object {
    fn key(&self) -> (String, String, String, String) {
        (self.kind.clone(), self.namespace.clone(), self.name.clone(), self.api_version.split('/').next().unwrap_or_default().to_owned())
    }

    /// The text for people: a Secret's contents are masked.
    fn shown(&self) -> String {
        if self.kind != "Secret" {
            return self.text.clone();
        }
        let mut value = self.value.clone();
        for key in ["data", "stringData"] {
            if let Some(Value::Object(data)) = value.get_mut(key) {
                data.values_mut().for_each(|v| *v = Value::String(crate::base::secrets::MASK.to_owned()));
            }
        }
        serde_json::to_string_pretty(&value).unwrap_or_default()
    }
}

/// The objects of a rendered manifest. A document that is no YAML is kept as an object without a kind, so that it still counts.
pub fn objects(manifest: &str) -> Vec<Object> {
    let mut documents: Vec<String> = vec![String::new()];
    for line in manifest.lines() {
        if line.trim_end() == "---" {
            documents.push(String::new());
        } else if let Some(document) = documents.last_mut()
            && !line.starts_with("# Source:")
        {
            document.push_str(line);
            document.push('\n');
        }
    }
    documents.iter().map(|d| d.trim()).filter(|d| !d.is_empty()).filter_map(object).collect()
}

fn object(text: &str) -> Option<Object> {
    let value: Value = serde_saphyr::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
    if value.is_null() {
        return None;
    }
    let at = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(Object {
        api_version: at("/apiVersion"),
        kind: at("/kind"),
        namespace: at("/metadata/namespace"),
        name: at("/metadata/name"),
        text: text.to_owned(),
        value,
    })
}

/// What an upgrade would change, for people. Empty: nothing at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// One phrase each: `VirtualService app1 changes`.
    pub what: Vec<String>,
    /// A unified diff of the objects that differ.
    pub diff: String,
}

impl Difference {
    pub fn is_empty(&self) -> bool {
        self.what.is_empty()
    }
}

/// Compares what is stored with what would be.
pub fn difference(old: &Stored, old_chart: Option<&str>, new: &Stored) -> Difference {
    let mut difference = manifests(&old.manifest, &new.manifest);
    let hooks = manifests(&old.hooks.join("\n---\n"), &new.hooks.join("\n---\n"));
    difference.what.extend(hooks.what.into_iter().map(|w| format!("hook {w}")));
    difference.diff.push_str(&hooks.diff);
    if old.values != new.values {
        difference.what.push("the values change".to_owned());
    }
    if let (Some(old), Some(new)) = (old_chart, &new.chart)
        && old != new
    {
        difference.what.push(format!("the chart changes from {old} to {new}"));
    }
    difference
}

/// Compares two rendered manifests.
pub fn manifests(old: &str, new: &str) -> Difference {
    let by_key = |manifest: &str| -> BTreeMap<_, Object> { objects(manifest).into_iter().map(|o| (o.key(), o)).collect() };
    let (old, new) = (by_key(old), by_key(new));
    let mut difference = Difference::default();
    let keys: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
    for key in keys {
        let (before, after) = (old.get(key), new.get(key));
        let change = match (before, after) {
            (Some(before), Some(after)) if before.value == after.value => continue,
            (Some(_), Some(_)) => "changes",
            (None, _) => "is new",
            (_, None) => "goes",
        };
        let name = format!("{} {}", key.0, key.2);
        let (shown_before, shown_after) = (before.map(Object::shown).unwrap_or_default(), after.map(Object::shown).unwrap_or_default());
        let text = similar::TextDiff::from_lines(&shown_before, &shown_after);
        difference.diff.push_str(&text.unified_diff().context_radius(2).header(&name, &name).to_string());
        difference.what.push(format!("{name} {change}"));
    }
    difference
}

/// What makes the load balancer controller build another load balancer, which gets another DNS name. `old` and `new` are the Ingress's
/// annotations and class before and after; `None`: the upgrade removes the Ingress.
pub fn alb_move(name: &str, old: &Value, new: Option<&Value>) -> Option<String> {
    const PREFIX: &str = "alb.ingress.kubernetes.io/";
    let Some(new) = new else { return Some(format!("Ingress {name} goes, and its load balancer with it")) };
    let annotation = |ingress: &Value, key: &str| -> Option<String> {
        ingress.get("metadata")?.get("annotations")?.get(format!("{PREFIX}{key}"))?.as_str().map(str::to_owned)
    };
    for (key, default) in [("scheme", Some("internal")), ("group.name", None), ("load-balancer-name", None)] {
        let value = |ingress: &Value| annotation(ingress, key).or_else(|| default.map(str::to_owned));
        let (before, after) = (value(old), value(new));
        if before != after {
            let shown = |v: Option<String>| v.unwrap_or_else(|| "none".to_owned());
            return Some(format!("{key} of Ingress {name} changes from {} to {}", shown(before), shown(after)));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const HELM4: &str = "---\n# Source: h/templates/cm.yaml\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  port: \"81\"\n\n---\n# Source: h/t.yaml\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {k: swordfish}\n\n";
    const HELM3: &str = "---\n# Source: h/templates/t.yaml\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {k: swordfish}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  port: '81'\n";

    #[test]
    fn layout_and_order_are_no_change() {
        assert_eq!(manifests(HELM4, HELM3), Difference::default());
    }

    #[test]
    fn a_change_is_shown_and_a_secret_is_not() {
        let changed = manifests(HELM4, &HELM3.replace("'81'", "'82'").replace("swordfish", "tunafish"));
        assert_eq!(changed.what, ["ConfigMap a changes", "Secret s changes"]);
        assert!(changed.diff.contains("-  port: \"81\"") && changed.diff.contains("+  port: '82'"), "{}", changed.diff);
        assert!(!changed.diff.contains("fish"), "{}", changed.diff);
        assert_eq!(manifests(HELM4, "").what, ["ConfigMap a goes", "Secret s goes"]);
        assert_eq!(manifests("", "kind: X\nmetadata: {name: z}\n").what, ["X z is new"]);
    }

    #[test]
    fn a_new_load_balancer_is_seen_before_it_is_made() {
        let ingress = |annotations: Value| json!({"metadata": {"annotations": annotations}});
        let scheme = |s: &str| ingress(json!({"alb.ingress.kubernetes.io/scheme": s}));
        let group = |g: &str| ingress(json!({"alb.ingress.kubernetes.io/group.name": g}));
        for (old, new, says) in [
            (scheme("internal"), Some(ingress(json!({}))), None),
            (scheme("internet-facing"), Some(scheme("internet-facing")), None),
            (ingress(json!({})), Some(scheme("internet-facing")), Some("scheme of Ingress gw-ingress changes from internal to internet-facing")),
            (group("a"), Some(ingress(json!({}))), Some("group.name of Ingress gw-ingress changes from a to none")),
            (scheme("internal"), None, Some("Ingress gw-ingress goes, and its load balancer with it")),
        ] {
            assert_eq!(alb_move("gw-ingress", &old, new.as_ref()).as_deref(), says);
        }
    }
}
