//! A kubeconfig for an EKS cluster: a private one for child tools, and the same entries merged into the user's own.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::base::codes::Code;
use crate::base::fault::{Class, Fault, Result};
use crate::clients::aws::ClusterInfo;
use crate::domain::eks::credential::API_VERSION;

/// The command that makes tokens: this program itself.
#[derive(Clone, Debug, Default)]
pub struct Exec {
    /// This program's path.
    pub program: String,
    pub profile: Option<String>,
    pub role_arn: Option<String>,
    /// Environment of the command beside the caller's own.
    pub env: BTreeMap<String, String>,
}

/// A kubeconfig with this cluster alone, as YAML. Cluster, user and context are named by the cluster's ARN, as the aws CLI names them.
pub fn private(info: &ClusterInfo, exec: &Exec, proxy: Option<&str>) -> Result<String> {
    let mut config = Map::new();
    put(&mut config, info, exec, proxy);
    write(&Value::Object(config))
}

/// `existing` (empty: none yet) with this cluster added or replaced and made current; everything else stays.
pub fn merge(existing: &str, info: &ClusterInfo, exec: &Exec, proxy: Option<&str>) -> Result<String> {
    let parsed = if existing.trim().is_empty() { Ok(Value::Null) } else { serde_saphyr::from_str::<Value>(existing) };
    let invalid = |why: &dyn std::fmt::Display| Fault::new(Code::FileInvalid, format!("the existing kubeconfig cannot be read: {why}"));
    let mut config = match parsed.map_err(|error| invalid(&error))? {
        Value::Object(config) => config,
        Value::Null => Map::new(),
        _ => return Err(invalid(&"it is no mapping").next("move it away, or do without `--write-kubeconfig`")),
    };
    put(&mut config, info, exec, proxy);
    write(&Value::Object(config))
}

fn put(config: &mut Map<String, Value>, info: &ClusterInfo, exec: &Exec, proxy: Option<&str>) {
    let name = if info.arn.is_empty() { &info.name } else { &info.arn };
    let mut cluster = json!({"server": info.endpoint, "certificate-authority-data": info.ca_data});
    if let Some(proxy) = proxy {
        cluster["proxy-url"] = proxy.into();
    }
    config.entry("apiVersion").or_insert_with(|| "v1".into());
    config.entry("kind").or_insert_with(|| "Config".into());
    replace(config, "clusters", name, "cluster", cluster);
    replace(config, "contexts", name, "context", json!({"cluster": name, "user": name}));
    replace(config, "users", name, "user", json!({"exec": exec_entry(info, exec)}));
    config.insert("current-context".to_owned(), name.as_str().into());
}

fn exec_entry(info: &ClusterInfo, exec: &Exec) -> Value {
    let mut args = vec!["token", "--cluster", &info.name, "--region", &info.region];
    for (flag, value) in [("--profile", &exec.profile), ("--role-arn", &exec.role_arn)] {
        if let Some(value) = value {
            args.extend([flag, value]);
        }
    }
    let mut entry = json!({
        "apiVersion": API_VERSION,
        "command": exec.program,
        "args": args,
        "interactiveMode": "Never",
        "provideClusterInfo": false,
    });
    if !exec.env.is_empty() {
        entry["env"] = exec.env.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    }
    entry
}

/// Puts a named entry into a list: in the place of the one with that name, else at its end.
fn replace(config: &mut Map<String, Value>, list: &str, name: &str, kind: &str, value: Value) {
    let entry = json!({"name": name, kind: value});
    let entries = config.entry(list).or_insert(Value::Null);
    if !entries.is_array() {
        *entries = Value::Array(Vec::new());
    }
    let Some(entries) = entries.as_array_mut() else { return };
    match entries.iter_mut().find(|old| old["name"] == name) {
        Some(old) => *old = entry,
        None => entries.push(entry),
    }
}

fn write(config: &Value) -> Result<String> {
    serde_saphyr::to_string(config).map_err(|error| Fault::new(Code::Defect, format!("a kubeconfig cannot be written: {error}")).class(Class::Defect))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> ClusterInfo {
        ClusterInfo {
            name: "shop-eks".into(),
            arn: "arn:aws:eks:ap-southeast-1:123456789012:cluster/shop-eks".into(),
            region: "ap-southeast-1".into(),
            endpoint: "https://ABC.gr7.ap-southeast-1.eks.amazonaws.com".into(),
            ca_data: "LS0tLS1CRUdJTg==".into(),
            ..ClusterInfo::default()
        }
    }

    fn exec() -> Exec {
        Exec { program: "/opt/mesh step/meshstep".into(), role_arn: Some("arn:aws:iam::123456789012:role/ci".into()), ..Exec::default() }
    }

    fn read(yaml: &str) -> Value {
        serde_saphyr::from_str(yaml).expect("YAML")
    }

    #[test]
    fn the_private_one_calls_this_program_for_tokens() {
        let config = read(&private(&info(), &exec(), None).expect("written"));
        assert_eq!(config["current-context"], info().arn);
        assert_eq!(config["clusters"][0]["cluster"]["server"], info().endpoint);
        let entry = &config["users"][0]["user"]["exec"];
        assert_eq!(entry["command"], "/opt/mesh step/meshstep");
        assert_eq!(
            entry["args"],
            json!(["token", "--cluster", "shop-eks", "--region", "ap-southeast-1", "--role-arn", "arn:aws:iam::123456789012:role/ci"])
        );
        assert_eq!((&entry["interactiveMode"], &entry["apiVersion"]), (&json!("Never"), &json!("client.authentication.k8s.io/v1")));
        assert_eq!(entry.get("env"), None);
    }

    #[test]
    fn the_environment_and_a_proxy_are_written_when_there_are_any() {
        let exec = Exec { env: [("AWS_ACCESS_KEY_ID".to_owned(), "yes".to_owned())].into(), ..exec() };
        let config = read(&private(&info(), &exec, Some("http://proxy:3128")).expect("written"));
        assert_eq!(config["users"][0]["user"]["exec"]["env"], json!([{"name": "AWS_ACCESS_KEY_ID", "value": "yes"}]));
        assert_eq!(config["clusters"][0]["cluster"]["proxy-url"], "http://proxy:3128");
    }

    #[test]
    fn a_merge_keeps_what_others_wrote_and_is_stable() {
        let theirs = "apiVersion: v1\nkind: Config\npreferences: {colors: true}\ncurrent-context: kind\ncontexts:\n- name: kind\n  context: {cluster: kind, user: kind, namespace: 'yes'}\nclusters:\n- name: kind\n  cluster: {server: 'https://127.0.0.1:6443', extensions: [{name: e, extension: {a: 010}}]}\nusers:\n- name: kind\n  user: {token: '0123'}\n";
        let once = merge(theirs, &info(), &exec(), None).expect("merged");
        let (before, after) = (read(theirs), read(&once));
        for list in ["contexts", "clusters", "users"] {
            assert_eq!(after[list][0], before[list][0], "{list}");
            assert_eq!(after[list].as_array().map(Vec::len), Some(2), "{list}");
        }
        assert_eq!(after["preferences"], before["preferences"]);
        assert_eq!(after["users"][0]["user"]["token"], "0123");
        assert_eq!(after["current-context"], info().arn);
        assert_eq!(merge(&once, &info(), &exec(), None).expect("merged"), once);
    }

    #[test]
    fn an_empty_file_and_null_lists_are_no_problem() {
        for theirs in ["", "clusters: null\ncontexts: []\nusers:\n"] {
            let config = read(&merge(theirs, &info(), &exec(), None).expect("merged"));
            assert_eq!(config["clusters"][0]["name"], info().arn, "{theirs}");
        }
        assert_eq!(merge("- a\n", &info(), &exec(), None).expect_err("no mapping").code, Code::FileInvalid);
    }
}
