//! The certificate incident on real Envoys: whatever it is, the right cause; and a restart only where it is the cure.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::shop::Shop;
use crate::support::{Lab, Profile, Run, eventually, runtime};

const SYSTEM: &str = "istio-system";

pub(crate) fn causes_and_cures() {
    // What is stale stays so: else a proxy finds the new root in its volume within a minute.
    let lab = Lab::up(Profile::Full, &[("CM_REFRESH", "600")]);
    let shop = Shop::copy(&lab);
    shop.run(&lab, "helm", &[]).exits(0);
    // What stays wrong need not be asked for a minute.
    shop.edit("verify:\n", "verify:\n  timeout: 20s\n");
    let table = troubleshoot(&lab, &shop).exits(0);
    assert!(table.text.contains("current") && !table.text.contains("STALE"), "{}", table.text);

    broken_without_tls(&lab, &shop);
    plaintext(&lab, &shop);

    // What istiod signs for app3 is valid for 40 seconds, and is renewed as long as it can be.
    // Each request is a handshake: on an open connection nobody looks at certificates again.
    let short = r#"{"spec":{"template":{"metadata":{"annotations":{"proxy.istio.io/config":"proxyMetadata: {SECRET_TTL: 40s}"}}}}}"#;
    patched(&lab, "prod", "app3-service", short);
    let rule = r#"{"apiVersion":"networking.istio.io/v1","kind":"DestinationRule","metadata":{"name":"handshakes","namespace":"prod"},"spec":{"host":"app3-service.prod.svc.cluster.local","trafficPolicy":{"connectionPool":{"http":{"maxRequestsPerConnection":1}}}}}"#;
    apply(&lab, rule);
    renew_root(&lab, &["pre-prod", "prod"], &["prod/app1-service", "prod/app2-service"]);
    let table = troubleshoot(&lab, &shop).exits(5);
    assert!(table.text.contains("STALE") && table.text.contains("stale_certificate"), "{}", table.text);
    stops(&lab, &shop);
    killed_between_restart_and_second_look(&lab, &shop);
    two_at_once(&lab, &shop);
    stale_gateway(&lab, &shop);
}

/// A new root; the gateway is made anew too, and all workloads but these.
fn renew_root(lab: &Lab, namespaces: &[&str], forgotten: &[&str]) {
    lab.renew_root(namespaces);
    lab.restart(SYSTEM, "deployment/istio-ingressgateway");
    for namespace in namespaces {
        for app in ["app1-service", "app2-service", "app3-service"] {
            if !forgotten.contains(&format!("{namespace}/{app}").as_str()) {
                lab.exec(&["kubectl", "-n", namespace, "rollout", "restart", &format!("deployment/{app}")]);
            }
        }
    }
    for namespace in namespaces {
        for app in ["app1-service", "app2-service", "app3-service"] {
            lab.exec(&["kubectl", "-n", namespace, "rollout", "status", &format!("deployment/{app}"), "--timeout=60s"]);
        }
    }
    asked(lab, "app1.example.com", 503);
    asked(lab, "app2.example.com", 503);
    asked(lab, "app3.example.com", 200);
}

fn root(lab: &Lab, namespace: &str) -> String {
    lab.try_exec(&["kubectl", "-n", namespace, "get", "configmap", "istio-ca-root-cert", "-o", "jsonpath={.data.root-cert\\.pem}"])
        .unwrap_or_default()
}

#[track_caller]
fn asked(lab: &Lab, host: &str, status: u16) {
    runtime().block_on(lab.answers(Duration::from_secs(60), host, status)).unwrap_or_else(|error| panic!("{error}"));
}

fn verify(lab: &Lab, shop: &Shop, more: &[&str]) -> Run {
    shop.command(lab, "helm", "verify", &[&["--lock-timeout", "60s"][..], more].concat())
}

fn troubleshoot(lab: &Lab, shop: &Shop) -> Run {
    shop.command(lab, "helm", "troubleshoot certificates", &[])
}

/// Each workload of the shop and the gateway: its generation, and the UIDs of its pods that are not on their way out.
fn state(lab: &Lab) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = |kind: &str| {
        let objects = ["pre-prod", "prod", SYSTEM].iter().flat_map(|namespace| lab.items(&[kind, "-n", namespace])).collect::<Vec<_>>();
        objects
            .iter()
            .filter(|o| o["metadata"]["deletionTimestamp"].is_null())
            .map(|o| {
                format!(
                    "{}/{} {} {}",
                    text(&o["metadata"]["namespace"]),
                    text(&o["metadata"]["name"]),
                    text(&o["metadata"]["uid"]),
                    o["metadata"]["generation"]
                )
            })
            .collect::<Vec<_>>()
    };
    let mut all = [of("deployments.apps"), of("pods")].concat();
    all.sort();
    all
}

/// Exactly these deployments were restarted between two states; every other pod is still the same one.
#[track_caller]
fn only_restarted(before: &[String], after: &[String], names: &[&str], told: &str) {
    let ours = |line: &&String| !names.iter().any(|name| line.starts_with(name));
    let (before, after): (Vec<_>, Vec<_>) = (before.iter().filter(ours).collect(), after.iter().filter(ours).collect());
    assert_eq!(before, after, "something else than {names:?} was touched:\n{told}");
}

fn broken_without_tls(lab: &Lab, shop: &Shop) {
    // The program does not listen, and no sidecar stands in its way: a plain 503 UF.
    let patch = r#"{"spec":{"template":{"metadata":{"labels":{"sidecar.istio.io/inject":"false"}},"spec":{"containers":[{"name":"app","env":[{"name":"PORT","value":"9"}],"startupProbe":null,"readinessProbe":null,"livenessProbe":null}]}}}}"#;
    patched(lab, "prod", "app3-service", patch);
    asked(lab, "app3.example.com", 503);
    let before = state(lab);
    let run = verify(lab, shop, &["--host", "app3.example.com"]).exits(5);
    assert!(run.text.contains("upstream_failed"), "{}", run.text);
    only_restarted(&before, &state(lab), &[], &run.text);
}

fn plaintext(lab: &Lab, shop: &Shop) {
    // The pod has no sidecar, and a rule asks for the mesh's mTLS towards it.
    let patch = r#"{"spec":{"template":{"spec":{"containers":[{"name":"app","env":[{"name":"PORT","value":"8002"}]}]}}}}"#;
    patched(lab, "prod", "app3-service", patch);
    let rule = r#"{"apiVersion":"networking.istio.io/v1","kind":"DestinationRule","metadata":{"name":"app3","namespace":"prod"},"spec":{"host":"app3-service.prod.svc.cluster.local","trafficPolicy":{"tls":{"mode":"ISTIO_MUTUAL"}}}}"#;
    apply(lab, rule);
    asked(lab, "app3.example.com", 503);
    let before = state(lab);
    let run = verify(lab, shop, &["--host", "app3.example.com"]).exits(5);
    assert!(run.text.contains("plaintext_port"), "{}", run.text);
    only_restarted(&before, &state(lab), &[], &run.text);
    lab.exec(&["kubectl", "-n", "prod", "delete", "destinationrule", "app3"]);
    patched(lab, "prod", "app3-service", r#"{"spec":{"template":{"metadata":{"labels":{"sidecar.istio.io/inject":"true"}}}}}"#);
    asked(lab, "app3.example.com", 200);
}

fn patched(lab: &Lab, namespace: &str, name: &str, patch: &str) {
    lab.exec(&["kubectl", "-n", namespace, "patch", "deployment", name, "-p", patch]);
    lab.exec(&["kubectl", "-n", namespace, "rollout", "status", &format!("deployment/{name}"), "--timeout=60s"]);
}

fn apply(lab: &Lab, manifest: &str) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), manifest).expect("written");
    lab.exec(&["kubectl", "apply", "-f", file.path().to_str().expect("UTF-8")]);
}

/// A workload is stale or its certificate has expired, and a restart would not help now: nothing is touched, and it is said why.
fn stops(lab: &Lab, shop: &Shop) {
    let stopped_at = |host: &str, code: &str| {
        let before = state(lab);
        let run = verify(lab, shop, &["--host", host]).exits(5);
        assert!(run.text.contains(code), "{code}:\n{}", run.text);
        only_restarted(&before, &state(lab), &[], &run.text);
        println!("   {code} in {:.1} s", run.took.as_secs_f64());
    };
    let stopped = |code: &str| stopped_at("app1.example.com", code);
    // The API server does not trust the injector; istiod would correct it, if it still found its webhook.
    // The default revision is reached by its tag.
    let hooks = "mutatingwebhookconfiguration/istio-revision-tag-default";
    lab.exec(&["kubectl", "label", hooks, "istio.io/rev-"]);
    let hook =
        lab.exec(&["kubectl", "get", hooks, "-o", "jsonpath={.webhooks[?(@.name=='namespace.sidecar-injector.istio.io')].clientConfig.caBundle}"]);
    let names = lab.exec(&["kubectl", "get", hooks, "-o", "jsonpath={range .webhooks[*]}{.name} {end}"]);
    let index = names.split_whitespace().position(|name| name == "namespace.sidecar-injector.istio.io").expect("the hook");
    let bundle = |value: &str| {
        let patch = format!(r#"[{{"op":"replace","path":"/webhooks/{index}/clientConfig/caBundle","value":"{value}"}}]"#);
        lab.exec(&["kubectl", "patch", hooks, "--type=json", "-p", &patch]);
    };
    let foreign = lab.exec(&["bash", "-c", "kubectl get configmap -n kube-system kube-root-ca.crt -o jsonpath='{.data.ca\\.crt}' | base64 -w0"]);
    bundle(foreign.trim());
    stopped("injector_untrusted");
    bundle(hook.trim());
    lab.exec(&["kubectl", "label", hooks, "istio.io/rev=default"]);

    // istiod is away.
    lab.exec(&["kubectl", "-n", SYSTEM, "scale", "deployment/istiod", "--replicas=0"]);
    eventually(Duration::from_secs(30), "istiod away", || {
        let pods = lab.items(&["pods", "-n", SYSTEM, "-l", "app=istiod"]);
        if pods.is_empty() { Ok(()) } else { Err(format!("{} pods", pods.len())) }
    });
    // Nobody writes the ConfigMap of the namespace now.
    stopped("ca_broken");
    let right = root(lab, "prod");
    let wrong = serde_json::json!({"data": {"root-cert.pem": lab.exec(&["kubectl", "get", "configmap", "-n", "kube-system", "kube-root-ca.crt", "-o", "jsonpath={.data.ca\\.crt}"])}});
    lab.exec(&["kubectl", "-n", "prod", "patch", "configmap", "istio-ca-root-cert", "--type=merge", "-p", &wrong.to_string()]);
    stopped("stale_configmap");
    let back = serde_json::json!({"data": {"root-cert.pem": right}});
    lab.exec(&["kubectl", "-n", "prod", "patch", "configmap", "istio-ca-root-cert", "--type=merge", "-p", &back.to_string()]);
    // By now the certificate that nobody renews has expired.
    asked(lab, "app3.example.com", 503);
    stopped_at("app3.example.com", "leaf_expired");
    lab.exec(&["kubectl", "-n", SYSTEM, "scale", "deployment/istiod", "--replicas=1"]);
    lab.exec(&["kubectl", "-n", SYSTEM, "rollout", "status", "deployment/istiod", "--timeout=60s"]);
}

/// The restart is in the cluster when the run is killed: the next one looks, and restarts nothing again.
fn killed_between_restart_and_second_look(lab: &Lab, shop: &Shop) {
    let before = state(lab);
    let mut first = shop.spawn(lab, "verify", &["--host", "app1.example.com", "--lock-id", "killed"], "killed");
    let clock = Instant::now();
    eventually(Duration::from_secs(60), "the annotation of the restart", || {
        let annotation = "jsonpath={.spec.template.metadata.annotations.meshstep\\.io/redeployed-for-root}";
        let value = lab.exec(&["kubectl", "-n", "prod", "get", "deployment", "app1-service", "-o", annotation]);
        if value.is_empty() { Err("not there".to_owned()) } else { Ok(()) }
    });
    println!("   restarted {:.1} s after the start of the run", clock.elapsed().as_secs_f64());
    first.kill().expect("killed");
    first.wait().expect("ended");
    let once = generation(lab, "app1-service");
    let run = verify(lab, shop, &["--host", "app1.example.com", "--lock-id", "killed"]).exits(0);
    asked(lab, "app1.example.com", 200);
    assert_eq!(generation(lab, "app1-service"), once, "restarted again:\n{}", run.text);
    only_restarted(&before, &state(lab), &["prod/app1-service"], &run.text);
}

fn two_at_once(lab: &Lab, shop: &Shop) {
    let (before, once) = (state(lab), generation(lab, "app2-service"));
    let clock = Instant::now();
    let both = ["one", "two"].map(|id| shop.spawn(lab, "verify", &["--host", "app2.example.com", "--lock-id", id], id));
    for child in both {
        let output = child.wait_with_output().expect("ends");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(0), "{text}");
    }
    println!("   two runs at once: 200 after {:.1} s", clock.elapsed().as_secs_f64());
    assert_eq!(generation(lab, "app2-service"), once + 1, "not exactly one restart");
    only_restarted(&before, &state(lab), &["prod/app2-service"], "");
}

fn generation(lab: &Lab, name: &str) -> i64 {
    let text = lab.exec(&["kubectl", "-n", "prod", "get", "deployment", name, "-o", "jsonpath={.metadata.generation}"]);
    text.parse().expect("a number")
}

/// The gateway was forgotten: all services fail, and it alone is restarted.
fn stale_gateway(lab: &Lab, shop: &Shop) {
    shop.forget_gateway(lab);
    // a gateway that cannot talk to the pods may take its time to say so: it gets the time that everybody has
    shop.edit("  timeout: 20s\n", "");
    let before = state(lab);
    let run = verify(lab, shop, &[]).exits(0);
    println!("   the gateway alone in {:.1} s", run.took.as_secs_f64());
    only_restarted(&before, &state(lab), &["istio-system/istio-ingressgateway"], &run.text);
    shop.assert_answers(lab);
}
