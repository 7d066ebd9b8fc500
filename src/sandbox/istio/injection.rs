//! The sidecar injector: what istiod's webhook makes of a new pod.

use serde_json::{Value, json};

use super::{SYSTEM, serving};
use crate::sandbox::controllers::{MUTATING, NAMESPACES};
use crate::sandbox::kubelet::{images_of, workload_of};
use crate::sandbox::sim::Sim;
use crate::sandbox::store::Status;
use crate::sandbox::store::meta::{annotation, label, list, metadata, text};

/// Changes a new pod as the webhook would.
///
/// # Errors
/// When the webhook must be asked and nobody answers: no pod is created then.
pub(crate) fn inject(sim: &Sim, ns: &str, pod: &mut Value) -> Result<(), Status> {
    let hooks = sim.store.list(MUTATING, "");
    if !hooks.iter().any(|hooks| label(hooks, "app") == Some("sidecar-injector"))
        || ns == SYSTEM && label(pod, "sidecar.istio.io/inject") != Some("true")
    {
        return templated(sim, pod);
    }
    let Some(namespace) = sim.store.get(NAMESPACES, "", ns) else { return Ok(()) };
    if !selected(&namespace, pod) || annotation(pod, "sidecar.istio.io/status").is_some() {
        return Ok(());
    }
    if serving(sim).is_empty() {
        let hook = if label(&namespace, "istio-injection").is_some() {
            "namespace.sidecar-injector.istio.io"
        } else {
            "rev.namespace.sidecar-injector.istio.io"
        };
        let why = format!(
            "failed calling webhook \"{hook}\": failed to call webhook: Post \"https://istiod.istio-system.svc:443/inject?timeout=10s\": no endpoints available for service \"istiod\""
        );
        return Err(Status::internal(format!("Internal error occurred: {why}")));
    }
    if super::untrusted(sim, MUTATING) {
        let why = "failed calling webhook \"namespace.sidecar-injector.istio.io\": failed to call webhook: Post \"https://istiod.istio-system.svc:443/inject?timeout=10s\": tls: failed to verify certificate: x509: certificate signed by unknown authority";
        return Err(Status::internal(format!("Internal error occurred: {why}")));
    }
    let images = images_of(pod);
    if sim.world.istio.not_injected.iter().any(|skip| skip.matches(ns, workload_of(pod), &images)) {
        return Ok(());
    }
    sidecar(sim, pod);
    Ok(())
}

/// A gateway's pod has its proxy container from the start; only the image is `auto`.
fn templated(sim: &Sim, pod: &mut Value) -> Result<(), Status> {
    let image = proxy_image(sim);
    for container in pod["spec"]["containers"].as_array_mut().into_iter().flatten() {
        if text(container, "/image") == "auto" {
            container["image"] = image.clone().into();
        }
    }
    Ok(())
}

/// Whether namespace and pod ask for a sidecar.
fn selected(namespace: &Value, pod: &Value) -> bool {
    let wish = label(pod, "sidecar.istio.io/inject").or_else(|| annotation(pod, "sidecar.istio.io/inject"));
    if wish == Some("false") || pod["spec"]["hostNetwork"] == true {
        return false;
    }
    match label(namespace, "istio-injection") {
        Some(word) => word == "enabled",
        None => label(namespace, "istio.io/rev").or_else(|| label(pod, "istio.io/rev")).is_some_and(|rev| rev == "default") || wish == Some("true"),
    }
}

/// The version that is installed, read from istiod's image.
pub(in crate::sandbox) fn installed_version(sim: &Sim) -> Option<String> {
    let istiod = sim.store.get("deployments.apps", SYSTEM, "istiod")?;
    let image = text(list(&istiod, "/spec/template/spec/containers").first()?, "/image").to_owned();
    image.rsplit_once(':').map(|(_, tag)| tag.to_owned())
}

fn proxy_image(sim: &Sim) -> String {
    format!("docker.io/istio/proxyv2:{}", installed_version(sim).unwrap_or_else(|| sim.world.istio.version.clone()))
}

fn sidecar(sim: &Sim, pod: &mut Value) {
    let native = match annotation(pod, "sidecar.istio.io/nativeSidecar") {
        Some(word) => word == "true",
        None => sim.world.istio.native_sidecars,
    };
    let image = proxy_image(sim);
    let mounts = json!([
        {"name": "workload-socket", "mountPath": "/var/run/secrets/workload-spiffe-uds"}, {"name": "istiod-ca-cert", "mountPath": "/var/run/secrets/istio"},
        {"name": "istio-data", "mountPath": "/var/lib/istio/data"}, {"name": "istio-envoy", "mountPath": "/etc/istio/proxy"}, {"name": "istio-token", "mountPath": "/var/run/secrets/tokens"},
    ]);
    let probe = json!({"httpGet": {"path": "/healthz/ready", "port": 15021}, "periodSeconds": 15, "timeoutSeconds": 3, "failureThreshold": 4});
    let mut proxy = json!({
        "name": "istio-proxy", "image": image, "args": ["proxy", "sidecar", "--domain", "$(POD_NAMESPACE).svc.cluster.local", "--proxyLogLevel=warning"],
        "ports": [{"name": "http-envoy-prom", "containerPort": 15090, "protocol": "TCP"}], "readinessProbe": probe,
        "startupProbe": {"httpGet": {"path": "/healthz/ready", "port": 15021}, "periodSeconds": 1, "timeoutSeconds": 3, "failureThreshold": 600}, "volumeMounts": mounts,
    });
    let init = json!({"name": "istio-init", "image": image, "args": ["istio-iptables", "-p", "15001", "-z", "15006", "-u", "1337", "-m", "REDIRECT", "-i", "*", "-x", "", "-b", "*", "-d", "15090,15021,15020"]});
    let spec = &mut pod["spec"];
    let mut inits = spec["initContainers"].as_array().cloned().unwrap_or_default();
    let mut containers = spec["containers"].as_array().cloned().unwrap_or_default();
    let plain = containers.first().map(|c| text(c, "/name").to_owned()).unwrap_or_default();
    if native {
        proxy["restartPolicy"] = "Always".into();
        inits.splice(0..0, [init, proxy]);
    } else {
        inits.insert(0, init);
        containers.insert(0, proxy);
    }
    spec["initContainers"] = inits.into();
    spec["containers"] = containers.into();
    let mut volumes = spec["volumes"].as_array().cloned().unwrap_or_default();
    volumes.splice(
        0..0,
        [
            json!({"name": "workload-socket", "emptyDir": {}}),
            json!({"name": "istio-envoy", "emptyDir": {"medium": "Memory"}}),
            json!({"name": "istio-data", "emptyDir": {}}),
            json!({"name": "istio-token", "projected": {"sources": [{"serviceAccountToken": {"audience": "istio-ca", "expirationSeconds": 43200, "path": "istio-token"}}]}}),
            json!({"name": "istiod-ca-cert", "configMap": {"name": "istio-ca-root-cert"}}),
        ],
    );
    spec["volumes"] = volumes.into();
    let init_names = if native { json!(["istio-init", "istio-proxy"]) } else { json!(["istio-init"]) };
    let own = if native { Value::Null } else { json!(["istio-proxy"]) };
    let status = json!({"initContainers": init_names, "containers": own, "volumes": ["workload-socket", "istio-envoy", "istio-data", "istio-token", "istiod-ca-cert"], "imagePullSecrets": null, "revision": "default"});
    let meta = metadata(pod);
    let notes = meta.entry("annotations").or_insert_with(|| json!({}));
    notes["sidecar.istio.io/status"] = status.to_string().into();
    notes["istio.io/rev"] = "default".into();
    notes["kubectl.kubernetes.io/default-container"] = plain.clone().into();
    notes["kubectl.kubernetes.io/default-logs-container"] = plain.into();
    let labels = meta.entry("labels").or_insert_with(|| json!({}));
    labels["security.istio.io/tlsMode"] = "istio".into();
    if labels["service.istio.io/canonical-name"].is_null() {
        let app = ["app.kubernetes.io/name", "app"].iter().find_map(|key| labels[*key].as_str().map(str::to_owned)).unwrap_or_default();
        labels["service.istio.io/canonical-name"] = app.into();
        labels["service.istio.io/canonical-revision"] = "latest".into();
    }
}
