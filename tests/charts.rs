//! The charts of `pipelines/`, rendered by the real helm: the user's own (or the pinned helm 4) and helm 3.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use meshstep::cli::helm;
use meshstep::clients::settings::Settings;
use meshstep::clients::tools::Tools;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const ROUTES: &str = "mesh/virtual-services-helm";
const ALB: &str = "mesh/alb-istio-helm";
const SERVICE: &str = "charts/service";
const ANNOTATION: &str = "alb.ingress.kubernetes.io";

/// Both majors, fetched as the product does it when the machine has none.
fn helms() -> &'static [PathBuf; 2] {
    static HELMS: OnceLock<[PathBuf; 2]> = OnceLock::new();
    HELMS.get_or_init(|| {
        meshstep::clients::install_crypto_provider();
        let tools = Tools::new(Settings::from_process([]), CancellationToken::new());
        let tell = |line: &str| println!("{line}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            [
                helm::provide(&tools, tell).await.unwrap_or_else(|fault| panic!("{fault}: {:?}", fault.evidence)),
                helm::pinned(&helm::HELM_3, &tools, tell).await.unwrap_or_else(|fault| panic!("{fault}: {:?}", fault.evidence)),
            ]
        })
    })
}

fn pipelines() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines")
}

/// Runs helm in `pipelines/` with `values` on its standard input: stdout, or stderr when it fails.
fn run(helm: &Path, args: &[&str], values: &str) -> Result<String, String> {
    // No kubeconfig, no plugins, no repositories of the user.
    let home = tempfile::tempdir().expect("a folder");
    let mut child = Command::new(helm)
        .args(args)
        .current_dir(pipelines())
        .env("HOME", home.path())
        .env_remove("KUBECONFIG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("helm starts");
    child.stdin.take().expect("piped").write_all(values.as_bytes()).expect("helm reads its values");
    let output = child.wait_with_output().expect("helm ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// The objects of `helm template`, the same from both majors.
fn template(release: &str, chart: &str, namespace: &str, more: &[&str], values: &str) -> Vec<Value> {
    let mut args = vec!["template", release, chart, "--namespace", namespace];
    args.extend(more.iter().chain(&["--values", "-"]));
    let [a, b] = helms().each_ref().map(|helm| {
        let text = run(helm, &args, values).unwrap_or_else(|error| panic!("{}: {error}", helm.display()));
        let mut objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        objects.sort_by_key(|object| (kind(object), name(object)));
        objects
    });
    assert_eq!(a, b, "helm 3 and helm 4 render differently");
    a
}

/// What both majors say when they refuse.
fn refused(chart: &str, more: &[&str], values: &str) -> [String; 2] {
    let mut args = vec!["template", "release", chart];
    args.extend(more.iter().chain(&["--values", "-"]));
    helms().each_ref().map(|helm| run(helm, &args, values).expect_err(values))
}

fn kind(object: &Value) -> String {
    object["kind"].as_str().unwrap_or_default().to_owned()
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

fn routes(values: &str) -> Vec<Value> {
    template("virtual-services", ROUTES, "istio-system", &[], values)
}

fn ingress(team: &str, values: &str) -> Value {
    let file = format!("{ALB}/values-{team}.yaml");
    let mut objects = template("alb-istio-ingress", ALB, "istio-system", &["--values", &file], values);
    assert_eq!(objects.len(), 1);
    objects.remove(0)
}

#[test]
fn helm_finds_nothing_to_complain_of() {
    let mut calls = vec![vec!["lint", "--strict", ROUTES], vec!["lint", "--strict", ALB], vec!["lint", SERVICE]];
    let teams = ["bi", "dpl", "protocol"].map(|team| format!("{ALB}/values-{team}.yaml"));
    calls.extend(teams.iter().map(|file| vec!["lint", "--strict", "--values", file, ALB]));
    let services: Vec<String> = (1..=3).flat_map(|n| ["pre-prod", "prod"].map(|namespace| format!("charts/app{n}-{namespace}.yaml"))).collect();
    calls.extend(services.iter().map(|file| vec!["lint", "--strict", "--set", "image=registry.example/app:1", "--values", file, SERVICE]));
    for helm in helms() {
        for call in &calls {
            let told = run(helm, call, "").unwrap_or_else(|error| panic!("{} {call:?}: {error}", helm.display()));
            assert!(told.contains("0 chart(s) failed") && !told.contains("WARNING") && !told.contains("ERROR"), "{call:?}: {told}");
        }
    }
}

#[test]
fn public_hosts_are_on_the_gateway_and_internal_ones_in_the_mesh() {
    let objects = routes("");
    // three services in two namespaces, each with a public and an internal side
    assert_eq!(objects.len(), 12);
    for object in &objects {
        let (name, spec) = (name(object), &object["spec"]);
        assert_eq!((object["apiVersion"].as_str(), kind(object).as_str()), (Some("networking.istio.io/v1"), "VirtualService"));
        assert_eq!(object["metadata"]["namespace"], "istio-system");
        let internal = name.ends_with("-mesh");
        assert_eq!(spec["gateways"], if internal { json!(["mesh"]) } else { json!(["istio-system/gateway"]) }, "{name}");
        let hosts = spec["hosts"].as_array().expect("hosts");
        assert!(!hosts.is_empty());
        assert!(hosts.iter().all(|host| host.as_str().is_some_and(|host| host.ends_with(".svc.cluster.local")) == internal), "{name}: {hosts:?}");
    }
    let one = objects.iter().find(|object| name(object) == "app1-virtual-svc-pre-prod").expect("app1 in pre-prod");
    assert_eq!(
        one["spec"]["http"],
        json!([{
            "match": [{"uri": {"prefix": "/"}}],
            "route": [{"destination": {"host": "app1-service.pre-prod.svc.cluster.local", "port": {"number": 8000}}}],
        }])
    );
}

#[test]
fn the_longest_prefix_is_tried_first_whatever_its_order() {
    let values = "virtualServices: [{virtualName: a, name: a, port: 80, namespaces: [{name: ns, hosts: [a.example.com]}], \
                  prefixes: [/, /api, /api/v2/long, /b, /api/v2]}]";
    let objects = routes(values);
    let prefixes: Vec<&str> =
        objects[0]["spec"]["http"].as_array().expect("http").iter().filter_map(|route| route["match"][0]["uri"]["prefix"].as_str()).collect();
    assert_eq!(prefixes, ["/api/v2/long", "/api/v2", "/api", "/b", "/"]);
}

#[test]
fn an_entry_with_one_sort_of_hosts_makes_one_object_and_no_prefix_means_all() {
    let entry = |host: &str| format!("virtualServices: [{{virtualName: a, name: a, port: 80, namespaces: [{{name: ns, hosts: ['{host}']}}]}}]");
    for (host, wanted) in [("a.example.com", "a-ns"), ("*.example.com", "a-ns"), ("*", "a-ns"), ("a.ns.svc.cluster.local", "a-ns-mesh")] {
        let objects = routes(&entry(host));
        assert_eq!(objects.iter().map(name).collect::<Vec<_>>(), [wanted], "{host}");
        assert_eq!(objects[0]["spec"]["http"][0]["match"], json!([{"uri": {"prefix": "/"}}]));
    }
    assert_eq!(routes("virtualServices: []"), Vec::<Value>::new());
}

#[test]
fn a_cluster_with_a_domain_of_its_own_is_understood() {
    let values = "{clusterDomain: corp.example, virtualServices: [{virtualName: a, name: a, port: 80, namespaces: [{name: ns, hosts: [a.ns.svc.corp.example, a.corp.example]}]}]}";
    let objects = routes(values);
    assert_eq!(objects.iter().map(name).collect::<Vec<_>>(), ["a-ns", "a-ns-mesh"]);
    assert_eq!(objects[0]["spec"]["http"][0]["route"][0]["destination"]["host"], "a.ns.svc.corp.example");
}

/// `a` and `b` each with one host and these prefixes.
fn two(a: (&str, &str), b: (&str, &str)) -> String {
    let entry = |name: &str, (host, prefixes): (&str, &str)| {
        format!("{{virtualName: {name}, name: {name}, port: 80, namespaces: [{{name: ns, hosts: [{host}]}}], prefixes: [{prefixes}]}}")
    };
    format!("virtualServices: [{}, {}]", entry("a", a), entry("b", b))
}

#[test]
fn entries_may_share_a_host_only_where_their_order_cannot_matter() {
    let internal = "a.ns.svc.cluster.local";
    for (values, reason) in [
        (two(("x.y", "/"), ("x.y", "/")), "b in namespace ns: a in namespace ns already routes host x.y with prefix /"),
        (two(("x.y", "/api"), ("x.y", "/api/v2")), "prefix /api/v2 of host x.y overlaps with /api of a in namespace ns"),
        (two(("x.y", "/api/v2"), ("x.y", "/api")), "prefix /api of host x.y overlaps with /api/v2 of a in namespace ns"),
        (two((internal, "/a"), (internal, "/b")), "already routes the internal host a.ns.svc.cluster.local"),
        (two(("a.ns.svc", "/"), ("x.y", "/")), "host a.ns.svc is cut off; write a.ns.svc.cluster.local in full"),
        (two(("a.ns.cluster.local", "/"), ("x.y", "/")), "host a.ns.cluster.local is cut off"),
    ] {
        for said in refused(ROUTES, &[], &values) {
            assert!(said.contains(reason), "{reason}: {said}");
        }
    }
    for values in [two(("x.y", "/"), ("x.y", "/api")), two(("x.y", "/a"), ("x.y", "/b")), two(("x.y", "/"), ("z.y", "/"))] {
        assert_eq!(routes(&values).len(), 2, "{values}");
    }
}

#[test]
fn values_that_cannot_be_right_are_refused_where_they_are_wrong() {
    let entry = |text: &str| format!("virtualServices:\n  - {}\n", text.replace('\n', "\n    "));
    let good = "virtualName: a\nname: a\nport: 80\nnamespaces:\n  - name: ns\n    hosts: [a.example.com]";
    routes(&entry(good));
    for (values, reason) in [
        (entry(&good.replace("port: 80", "port: 70000")), "port"),
        (entry(&good.replace("port: 80", "port: 0")), "port"),
        (entry(&good.replace("port: 80", "port: \"80\"")), "port"),
        (entry(&good.replace("\nport: 80", "")), "port"),
        (entry(&good.replace("name: ns", "name: N_1")), "name"),
        (entry(&good.replace("virtualName: a", "virtualname: a")), "virtual"),
        (entry(&good.replace("a.example.com", "single")), "hosts"),
        (entry(&good.replace("a.example.com", "a.*.com")), "hosts"),
        (entry(&good.replace("a.example.com", "a_b.example.com")), "hosts"),
        (entry(&good.replace("a.example.com", "a.example.com, a.example.com")), "hosts"),
        (entry(&good.replace("[a.example.com]", "[]")), "hosts"),
        (entry(&format!("{good}\nprefixes: [api]")), "prefixes"),
        (entry(&format!("{good}\nprefixes: [/a, /a]")), "prefixes"),
        // hosts beside the namespaces instead of inside them
        (entry("virtualName: a\nname: a\nport: 80\nnamespaces:\n  - name: ns\nhosts: [a.example.com]"), "hosts"),
        // as the runbook prints it
        ("virtualServices:\n- virtualName: a\n    name: a\n    port: 80\n".to_owned(), "mapping values are not allowed"),
        ("{gateway: gateway}".to_owned(), "gateway"),
        ("{virtualService: []}".to_owned(), "virtualService"),
    ] {
        for said in refused(ROUTES, &[], &values) {
            assert!(said.contains(reason), "{reason}: {said}\n{values}");
        }
    }
}

#[test]
fn the_load_balancer_asks_the_gateways_status_port() {
    for team in ["bi", "dpl", "protocol"] {
        let object = ingress(team, "");
        assert_eq!((kind(&object).as_str(), name(&object).as_str()), ("Ingress", "gw-ingress"));
        for (key, value) in [
            ("target-type", "instance"),
            ("healthcheck-path", "/healthz/ready"),
            ("healthcheck-port", "status-port"),
            ("healthcheck-protocol", "HTTP"),
            ("success-codes", "200"),
        ] {
            assert_eq!(object["metadata"]["annotations"][format!("{ANNOTATION}/{key}")], value, "{team}: {key}");
        }
        assert_eq!(object["spec"]["ingressClassName"], "alb");
        assert_eq!(object["metadata"]["annotations"]["kubernetes.io/ingress.class"], Value::Null);
        let backend = &object["spec"]["rules"][0]["http"]["paths"][0];
        assert_eq!(
            *backend,
            json!({"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "istio-ingressgateway", "port": {"number": 80}}}})
        );
    }
}

#[test]
fn each_team_has_its_own_load_balancer() {
    let annotation = |team: &str, key: &str| ingress(team, "")["metadata"]["annotations"][format!("{ANNOTATION}/{key}")].clone();
    for (team, key, wanted) in [
        ("bi", "scheme", json!("internet-facing")),
        ("bi", "listen-ports", json!(r#"[{"HTTP":80}]"#)),
        ("bi", "ssl-redirect", Value::Null),
        ("bi", "certificate-arn", Value::Null),
        ("bi", "group.name", Value::Null),
        ("bi", "tags", json!("cost-center=bi,team=bi")),
        ("dpl", "listen-ports", json!(r#"[{"HTTP":80},{"HTTPS":443}]"#)),
        ("dpl", "ssl-redirect", json!("443")),
        ("dpl", "group.name", json!("dpl")),
        ("dpl", "tags", json!("cost-center=dpl,team=dpl")),
        ("protocol", "scheme", json!("internal")),
        ("protocol", "load-balancer-attributes", json!("idle_timeout.timeout_seconds=120")),
    ] {
        assert_eq!(annotation(team, key), wanted, "{team}: {key}");
    }
    // without a redirect both ports serve
    let both = ingress("dpl", "sslRedirect: false");
    assert!(both["metadata"]["annotations"].as_object().is_some_and(|a| !a.contains_key(&format!("{ANNOTATION}/ssl-redirect"))));
}

#[test]
fn wrong_load_balancer_values_are_refused() {
    for (values, reason) in [
        ("scheme: public", "scheme"),
        ("certificateArns: [cert]", "certificateArns"),
        ("certificateArn: arn:aws:acm:eu-west-1:123456789012:certificate/a", "certificateArn"),
        ("sslRedirect: 'yes'", "sslRedirect"),
        ("tags: {a: 'b,c=d'}", "tags"),
        ("gateway: {service: istio-ingressgateway, port: 70000}", "port"),
        ("annotations: {alb.ingress.kubernetes.io/scheme: internal}", "alb.ingress.kubernetes.io/scheme is set by this chart"),
    ] {
        for said in refused(ALB, &[], values) {
            assert!(said.contains(reason), "{reason}: {said}");
        }
    }
}

fn service(namespace: &str, values: &str) -> Vec<Value> {
    let file = format!("charts/app1-{namespace}.yaml");
    template("app1-service", SERVICE, namespace, &["--values", &file, "--set", "image=registry.example/app1:1.4.2"], values)
}

#[test]
fn a_service_is_named_by_its_release_and_runs_the_image_it_was_given() {
    let objects = service("prod", "");
    assert_eq!(objects.iter().map(kind).collect::<Vec<_>>(), ["Deployment", "PodDisruptionBudget", "Service", "ServiceAccount"]);
    assert!(objects.iter().all(|object| name(object) == "app1-service" && object["metadata"]["namespace"] == "prod"));
    let (deployment, service) = (&objects[0], &objects[2]);
    let pod = &deployment["spec"]["template"];
    assert_eq!(pod["spec"]["containers"][0]["image"], "registry.example/app1:1.4.2");
    assert_eq!(pod["spec"]["serviceAccountName"], "app1-service");
    assert_eq!(deployment["spec"]["selector"]["matchLabels"], service["spec"]["selector"]);
    assert_eq!(pod["metadata"]["labels"], service["spec"]["selector"], "a new chart version alone must not restart pods");
    assert_eq!(service["spec"]["ports"], json!([{"name": "http", "port": 8000, "targetPort": "http"}]));
    assert_eq!(pod["spec"]["containers"][0]["ports"], json!([{"name": "http", "containerPort": 8000}]));
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        assert!(pod["spec"]["containers"][0][probe].is_object(), "{probe}");
    }
    assert!(pod["spec"]["containers"][0]["resources"]["requests"]["cpu"].is_string());
}

#[test]
fn a_budget_only_where_a_pod_can_be_spared() {
    let kinds = |values: &str| service("pre-prod", values).iter().map(kind).collect::<Vec<_>>();
    assert_eq!(kinds("port: 8000"), ["Deployment", "Service", "ServiceAccount"]);
    assert_eq!(kinds("probes: {startupSeconds: 5}").len(), 3);
    assert!(service("prod", "")[1]["spec"]["maxUnavailable"] == 1);
}

#[test]
fn a_service_without_an_image_or_with_a_wrong_port_is_refused() {
    for (values, more, reason) in [
        ("port: 8000", &[][..], "image is missing"),
        ("port: 70000", &["--set", "image=a:1"][..], "port"),
        ("replicas: two", &["--set", "image=a:1"][..], "replicas"),
        ("image: 'a: 1'", &[][..], "image"),
        ("imagePullPolicy: Sometimes", &["--set", "image=a:1"][..], "imagePullPolicy"),
    ] {
        for said in refused(SERVICE, more, values) {
            assert!(said.contains(reason), "{reason}: {said}");
        }
    }
}
