//! The command lines for istioctl. An installation is always the whole desired state: what is left out is turned back to its default.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// `istioctl install` with the full set of flags, every time.
pub fn install(kubeconfig: &Path, profile: &str, set: &BTreeMap<String, Value>, timeout: Duration) -> Vec<String> {
    let mut args: Vec<String> = ["install", "--set"].map(str::to_owned).into();
    args.push(format!("profile={profile}"));
    for flag in flags(set) {
        args.extend(["--set".to_owned(), flag]);
    }
    args.extend(["-y".to_owned(), "--readiness-timeout".to_owned(), format!("{}s", timeout.as_secs().max(1))]);
    args.extend(["--kubeconfig".to_owned(), kubeconfig.display().to_string()]);
    args
}

/// The `--set` values as `key=value`, keys exactly as the file writes them; what is inside lists and maps gets its path.
pub fn flags(set: &BTreeMap<String, Value>) -> Vec<String> {
    let mut flags = Vec::new();
    for (key, value) in set {
        flatten(key, value, &mut flags);
    }
    flags
}

fn flatten(key: &str, value: &Value, flags: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(name, value)| flatten(&format!("{key}.{}", name.replace('.', "\\.")), value, flags)),
        Value::Array(items) => items.iter().enumerate().for_each(|(index, value)| flatten(&format!("{key}[{index}]"), value, flags)),
        Value::String(text) => flags.push(format!("{key}={text}")),
        other => flags.push(format!("{key}={other}")),
    }
}

/// Everything that istioctl ever installed, of every revision, with the types of Istio and so every object of them.
pub fn uninstall(kubeconfig: &Path) -> Vec<String> {
    let mut args: Vec<String> = ["uninstall", "--purge", "-y", "--kubeconfig"].map(str::to_owned).into();
    args.push(kubeconfig.display().to_string());
    args
}

/// Versions of the client and of the running control planes.
pub fn version(kubeconfig: &Path) -> Vec<String> {
    let mut args: Vec<String> = ["version", "--output", "json", "--kubeconfig"].map(str::to_owned).into();
    args.push(kubeconfig.display().to_string());
    args
}

/// The client alone, without asking the cluster.
pub fn client_version() -> Vec<String> {
    ["version", "--remote=false", "--output", "json"].map(str::to_owned).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installation_carries_every_flag() {
        let set = BTreeMap::from([
            ("values.gateways.istio-ingressgateway.type".to_owned(), Value::from("NodePort")),
            ("values.pilot.autoscaleMin".to_owned(), Value::from(2)),
            ("meshConfig.defaultConfig.holdApplicationUntilProxyStarts".to_owned(), Value::from(true)),
            ("values.pilot.env".to_owned(), serde_json::json!({"A.B": "1", "LIST": ["x", "y"]})),
        ]);
        let args = install(Path::new("/run/kubeconfig"), "default", &set, Duration::from_secs(300)).join(" ");
        assert_eq!(
            args,
            "install --set profile=default --set meshConfig.defaultConfig.holdApplicationUntilProxyStarts=true \
             --set values.gateways.istio-ingressgateway.type=NodePort --set values.pilot.autoscaleMin=2 --set values.pilot.env.A\\.B=1 \
             --set values.pilot.env.LIST[0]=x --set values.pilot.env.LIST[1]=y -y --readiness-timeout 300s --kubeconfig /run/kubeconfig"
        );
    }
}
