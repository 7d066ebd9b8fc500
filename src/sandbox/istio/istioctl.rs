//! The stand-in for istioctl: the few commands of the runbook, against whatever cluster `--kubeconfig` or KUBECONFIG names, over HTTPS like the real one.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{GroupVersionKind, TypeMeta};
use kube::{Api, Client, Config};
use serde_json::{Value, json};

use super::{SYSTEM, installation};

/// Bad usage or an unknown command.
const USAGE: i32 = 64;
/// How long a component may take.
const READINESS: Duration = Duration::from_secs(300);

type Failed = Box<dyn std::error::Error + Send + Sync>;

fn out(text: &str) {
    // nobody is left to read it
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn err(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn own_version() -> String {
    std::env::var("MESHSTEP_SANDBOX_ISTIO_VERSION").unwrap_or_else(|_| "1.31.0".to_owned())
}

/// Runs one command and tells its exit code. `args` are those after the program's name.
pub fn istioctl(args: &[String]) -> i32 {
    err("istioctl: the sandbox's stand-in, not the real one");
    let args = args.to_vec();
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(command(&args))
    };
    // a thread of its own, so that it can also be called where a runtime is running already
    match std::thread::spawn(run).join() {
        Ok(Ok(code)) => code,
        Ok(Err(error)) => {
            err(&format!("Error: {error}"));
            1
        }
        Err(_) => 1,
    }
}

async fn command(args: &[String]) -> Result<i32, Failed> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.first().copied() {
        Some("version") => version(&words[1..]).await,
        Some("install") => install(&words[1..]).await,
        Some("uninstall") => uninstall(&words[1..]).await,
        Some("analyze") => analyze(&words[1..]).await,
        Some("proxy-status" | "ps") => proxy_status(&words[1..]).await,
        other => {
            err(&format!("Error: unknown command \"{}\" for \"istioctl\"", other.unwrap_or_default()));
            Ok(USAGE)
        }
    }
}

/// Installed once; a second installation in the same process is the same provider.
async fn client(words: &[&str]) -> Result<Client, Failed> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let Some(file) = values(words, &["-c", "--kubeconfig"]).pop() else { return Ok(Client::try_default().await?) };
    let config = Config::from_custom_kubeconfig(Kubeconfig::read_from(file)?, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// The value after a flag, as `--flag value` or `--flag=value`.
fn values<'a>(words: &'a [&str], flags: &[&str]) -> Vec<&'a str> {
    let mut found = Vec::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        if flags.contains(word) {
            found.extend(rest.next().copied());
        } else if let Some((flag, value)) = word.split_once('=')
            && flags.contains(&flag)
        {
            found.push(value);
        }
    }
    found
}

fn has(words: &[&str], flags: &[&str]) -> bool {
    words.iter().any(|word| flags.contains(word) || flags.iter().any(|flag| *word == format!("{flag}=true")))
}

fn tag(pod: &Pod) -> String {
    let spec = pod.spec.as_ref();
    let containers = spec.into_iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let images = containers.filter(|c| c.name == "discovery" || c.name == "istio-proxy").filter_map(|c| c.image.as_deref());
    images.filter_map(|image| image.rsplit_once(':')).map(|(_, tag)| tag.to_owned()).next().unwrap_or_default()
}

fn info(version: &str) -> Value {
    json!({"version": version, "revision": "sandbox", "golang_version": "go1.26.8", "status": "Clean", "tag": version})
}

async fn version(words: &[&str]) -> Result<i32, Failed> {
    let json_wanted = values(words, &["-o", "--output"]).contains(&"json");
    let remote = !words.contains(&"--remote=false");
    let own = own_version();
    let mut answer = json!({"clientVersion": info(&own)});
    let mut lines = vec![format!("client version: {own}")];
    if remote {
        // the real one swallows errors too, and exits 0
        match remote_versions(words).await {
            Ok((pilots, proxies)) if !pilots.is_empty() => {
                answer["meshVersion"] =
                    pilots.iter().map(|version| json!({"Component": "pilot", "Revision": "default", "Info": info(version)})).collect();
                answer["dataPlaneVersion"] =
                    proxies.iter().map(|(id, version, kind)| json!({"ID": id, "IstioVersion": version, "Type": kind})).collect();
                let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
                proxies.iter().for_each(|(_, version, _)| *counts.entry(version).or_default() += 1);
                let told: Vec<String> = counts.iter().map(|(version, count)| format!("{version} ({count} proxies)")).collect();
                lines.push(format!("control plane version: {}", pilots.join(", ")));
                lines.push(format!("data plane version: {}", if told.is_empty() { "none".to_owned() } else { told.join(", ") }));
            }
            Ok(_) => err("Istio is not present in the cluster: no running Istio pods in namespace \"istio-system\""),
            Err(error) => err(&format!("Istio is not present in the cluster: {error}")),
        }
    }
    if json_wanted {
        out(&serde_json::to_string_pretty(&answer)?);
    } else if !remote || lines.len() > 1 {
        lines.iter().for_each(|line| out(line));
    } else {
        out(&lines[0]);
    }
    Ok(0)
}

type Proxies = Vec<(String, String, &'static str)>;

async fn remote_versions(words: &[&str]) -> Result<(Vec<String>, Proxies), Failed> {
    let client = client(words).await?;
    let running = ListParams::default().fields("status.phase=Running");
    let pilots: Api<Pod> = Api::namespaced(client.clone(), SYSTEM);
    let mut pilots: Vec<String> = pilots.list(&running.clone().labels("app=istiod")).await?.iter().map(tag).collect();
    pilots.dedup();
    let all: Api<Pod> = Api::all(client);
    let pods = all.list(&running).await?;
    let proxied = pods.iter().filter(|pod| {
        let spec = pod.spec.as_ref();
        spec.is_some_and(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()).any(|c| c.name == "istio-proxy"))
    });
    let proxies = proxied.map(|pod| {
        let (name, ns) = (pod.metadata.name.clone().unwrap_or_default(), pod.metadata.namespace.clone().unwrap_or_default());
        let gateway = pod.metadata.labels.as_ref().is_some_and(|labels| labels.get("istio").is_some_and(|value| value == "ingressgateway"));
        (format!("{name}.{ns}"), tag(pod), if gateway { "gateway" } else { "sidecar" })
    });
    Ok((pilots, proxies.collect()))
}

fn resource(object: &Value) -> ApiResource {
    let api = object["apiVersion"].as_str().unwrap_or_default();
    let (group, version) = api.split_once('/').unwrap_or(("", api));
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, object["kind"].as_str().unwrap_or_default()))
}

async fn install(words: &[&str]) -> Result<i32, Failed> {
    if !has(words, &["-y", "--skip-confirmation"]) {
        out("This will install the Istio profile \"default\" into the cluster. Proceed? (y/N)");
        err("Cancelled.");
        return Ok(1);
    }
    let mut set = BTreeMap::new();
    for pair in values(words, &["--set", "-s"]) {
        let Some((key, value)) = pair.split_once('=') else {
            err(&format!("Error: invalid argument \"{pair}\" for \"-s, --set\": must be of the form path=value"));
            return Ok(1);
        };
        set.insert(key.to_owned(), value.to_owned());
    }
    if let Some(profile) = set.get("profile").filter(|profile| *profile != "default") {
        err(&format!("Error: the sandbox's stand-in only knows the profile default, not {profile}"));
        return Ok(1);
    }
    let client = client(words).await?;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    if namespaces.get_opt(SYSTEM).await?.is_none() {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM, "labels": {"kubernetes.io/metadata.name": SYSTEM}}});
        namespaces.create(&Default::default(), &serde_json::from_value(namespace)?).await?;
    }
    for component in installation(&own_version(), &set) {
        err(&format!("- Processing resources for {}.", component.title));
        for object in &component.objects {
            apply(&client, object).await?;
        }
        if let Some(deployment) = component.deployment {
            err(&format!("- Processing resources for {}. Waiting for Deployment/{SYSTEM}/{deployment}", component.title));
            wait_for(&client, deployment).await?;
        }
        err(&format!("✔ {} installed", component.title));
    }
    apply(&client, &default_tag(&client).await?).await?;
    err("✔ Installation complete");
    out("Made this installation the default for cluster-wide operations.");
    Ok(0)
}

/// The revision tag `default`: the injector's webhooks under another name.
async fn default_tag(client: &Client) -> Result<Value, Failed> {
    let all = installation(&own_version(), &BTreeMap::new());
    let webhooks = all.iter().flat_map(|component| &component.objects).find(|object| object["kind"] == "MutatingWebhookConfiguration");
    let mut tag = webhooks.cloned().ok_or("no webhooks in the installation")?;
    tag["metadata"]["name"] = "istio-revision-tag-default".into();
    let _ = client;
    Ok(tag)
}

async fn apply(client: &Client, object: &Value) -> Result<(), Failed> {
    let resource = resource(object);
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
        Some(ns) => Api::namespaced_with(client.clone(), ns, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let params = PatchParams::apply("istio-operator").force();
    api.patch(name, &params, &Patch::Apply(object))
        .await
        .map_err(|error| format!("failed to update resource with server-side apply for obj {}/{name}: {error}", resource.kind))?;
    Ok(())
}

async fn wait_for(client: &Client, deployment: &str) -> Result<(), Failed> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), SYSTEM);
    let deadline = Instant::now() + READINESS;
    loop {
        let now = api.get(deployment).await?;
        let wanted = now.spec.replicas.unwrap_or(1);
        let status = now.status.unwrap_or_default();
        let current = status.observed_generation == now.metadata.generation;
        if current && status.updated_replicas.unwrap_or(0) >= wanted && status.ready_replicas.unwrap_or(0) >= wanted {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!(
                "failed to wait for resource: resources not ready after 5m0s: context deadline exceeded\n  Deployment/{SYSTEM}/{deployment}"
            )
            .into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Kinds that `uninstall --purge` looks through, in its order.
const PURGED: &[(&str, &str, &str)] = &[
    ("apps", "v1", "Deployment"),
    ("apps", "v1", "DaemonSet"),
    ("", "v1", "Service"),
    ("", "v1", "ConfigMap"),
    ("", "v1", "Pod"),
    ("", "v1", "Secret"),
    ("", "v1", "ServiceAccount"),
    ("rbac.authorization.k8s.io", "v1", "RoleBinding"),
    ("rbac.authorization.k8s.io", "v1", "Role"),
    ("policy", "v1", "PodDisruptionBudget"),
    ("autoscaling", "v2", "HorizontalPodAutoscaler"),
    ("networking.istio.io", "v1alpha3", "EnvoyFilter"),
    ("admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration"),
    ("rbac.authorization.k8s.io", "v1", "ClusterRole"),
    ("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding"),
    ("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
    ("k8s.cni.cncf.io", "v1", "NetworkAttachmentDefinition"),
];

async fn uninstall(words: &[&str]) -> Result<i32, Failed> {
    if !has(words, &["--purge"]) {
        err("Error: at least one of the --revision (or --set revision=<revision>), --filename or --purge flags must be set");
        return Ok(1);
    }
    if !has(words, &["-y", "--skip-confirmation"]) {
        out("All Istio resources will be pruned from the cluster");
        err("Cancelled.");
        return Ok(1);
    }
    let client = client(words).await?;
    out("All Istio resources will be pruned from the cluster");
    let labelled = ListParams::default().labels("operator.istio.io/component");
    for (group, version, kind) in PURGED {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let all: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let found = match all.list(&labelled).await {
            Ok(found) => found.items,
            Err(kube::Error::Api(status)) if status.code == 404 => continue, // no such kind here
            Err(error) => return Err(error.into()),
        };
        for object in found {
            let name = object.metadata.name.clone().unwrap_or_default();
            let ns = object.metadata.namespace.clone();
            let api: Api<DynamicObject> = ns.as_deref().map_or_else(|| all.clone(), |ns| Api::namespaced_with(client.clone(), ns, &resource));
            match api.delete(&name, &DeleteParams::background()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error.into()),
            }
            let TypeMeta { api_version, kind } = TypeMeta { api_version: resource.api_version.clone(), kind: resource.kind.clone() };
            let group = if group.is_empty() { format!("/{version}") } else { api_version };
            out(&format!("  Removed {group}, Kind={kind}/{name}.{}.", ns.unwrap_or_default()));
        }
    }
    err("✔ Uninstall complete");
    Ok(0)
}

async fn analyze(words: &[&str]) -> Result<i32, Failed> {
    let client = client(words).await?;
    let namespaces: Api<Namespace> = Api::all(client);
    let all = namespaces.list(&ListParams::default()).await?;
    let plain = all.iter().filter(|ns| {
        let name = ns.metadata.name.as_deref().unwrap_or_default();
        let labelled =
            ns.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key("istio-injection") || labels.contains_key("istio.io/rev"));
        !labelled && !name.starts_with("kube-") && name != SYSTEM
    });
    let found: Vec<Value> = plain
        .map(|ns| {
            let name = ns.metadata.name.as_deref().unwrap_or_default();
            let message = format!("The namespace is not enabled for Istio injection. Run 'kubectl label namespace {name} istio-injection=enabled' to enable it, or 'kubectl label namespace {name} istio-injection=disabled' to explicitly mark it as not needing injection.");
            json!({"code": "IST0102", "documentationUrl": "https://istio.io/latest/docs/reference/config/analysis/ist0102/", "level": "Info", "message": message, "origin": format!("Namespace {name}")})
        })
        .collect();
    if values(words, &["-o", "--output"]).contains(&"json") {
        out(&serde_json::to_string_pretty(&found)?);
    } else if found.is_empty() {
        out("✔ No validation issues found when analyzing all namespaces.");
    } else {
        found.iter().for_each(|item| {
            out(&format!("Info [IST0102] ({}) {}", item["origin"].as_str().unwrap_or_default(), item["message"].as_str().unwrap_or_default()))
        });
    }
    Ok(0)
}

async fn proxy_status(words: &[&str]) -> Result<i32, Failed> {
    let (pilots, proxies) = remote_versions(words).await?;
    if pilots.is_empty() {
        return Err("failure running port forward process: no running Istio pods in \"istio-system\"".into());
    }
    out(&format!("{:<60}{:<15}{:<28}{:<12}SUBSCRIBED TYPES", "NAME", "CLUSTER", "ISTIOD", "VERSION"));
    for (id, version, _) in proxies {
        out(&format!("{id:<60}{:<15}{:<28}{version:<12}4 (CDS,LDS,EDS,RDS)", "Kubernetes", "istiod"));
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_in_both_forms() {
        let words = ["--set", "a=b", "--set=c=d", "-y", "-o", "json"];
        assert_eq!(values(&words, &["--set", "-s"]), ["a=b", "c=d"]);
        assert_eq!(values(&words, &["-o"]), ["json"]);
        assert!(has(&words, &["-y"]) && !has(&words, &["--purge"]));
    }
}
