//! From the Ingress to an answer: the load balancer controller, AWS, DNS, the gateway, and what each of them says when something is wrong.

use crate::support::{World, deployment};
use aws_sdk_elasticloadbalancingv2 as elb;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Pod, Service};
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, LogParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

const MESHED: &str = "
name: meshed
namespaces: [{name: prod, labels: {istio-injection: enabled}}]
istio: {installed: {}}
";

/// `web` in prod with a Service, published as web.public.domain, behind the Ingress `gw-ingress` with more annotations.
async fn publish(world: &World, annotations: Value) {
    world.api::<Deployment>("prod").create(&PostParams::default(), &deployment("web", "web:1", 1)).await.expect("created");
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 8000, "targetPort": "http"}]}});
    world.api::<Service>("prod").create(&PostParams::default(), &serde_json::from_value(service).expect("a service")).await.expect("created");
    let gateway = json!({"selector": {"istio": "ingressgateway"}, "servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*.public.domain"]}]});
    create(world, "networking.istio.io/v1", "Gateway", "gateway", gateway).await;
    let route =
        json!({"match": [{"uri": {"prefix": "/"}}], "route": [{"destination": {"host": "web.prod.svc.cluster.local", "port": {"number": 8000}}}]});
    let routes = json!({"hosts": ["web.public.domain"], "gateways": ["istio-system/gateway"], "http": [route]});
    create(world, "networking.istio.io/v1", "VirtualService", "web", routes).await;
    ingress(world, annotations).await;
}

async fn create(world: &World, api: &str, kind: &str, name: &str, spec: Value) {
    let (group, version) = api.split_once('/').expect("group/version");
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let object = json!({"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": "istio-system"}, "spec": spec});
    let api: Api<DynamicObject> = Api::namespaced_with(world.client(), "istio-system", &resource);
    api.create(&PostParams::default(), &serde_json::from_value(object).expect("an object")).await.expect("created");
}

async fn ingress(world: &World, more: Value) {
    let mut annotations = json!({"alb.ingress.kubernetes.io/scheme": "internet-facing", "alb.ingress.kubernetes.io/healthcheck-path": "/healthz/ready", "alb.ingress.kubernetes.io/healthcheck-port": "status-port"});
    for (key, value) in more.as_object().into_iter().flatten() {
        annotations[format!("alb.ingress.kubernetes.io/{key}")] = value.clone();
    }
    let backend = json!({"service": {"name": "istio-ingressgateway", "port": {"number": 80}}});
    let object = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "gw-ingress", "annotations": annotations}, "spec": {"ingressClassName": "alb", "rules": [{"http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}]}});
    world.api::<Ingress>("istio-system").create(&PostParams::default(), &serde_json::from_value(object).expect("an ingress")).await.expect("created");
}

async fn hostname(world: &World) -> String {
    let found = world.until("a hostname", || async {
        let ingress = world.api::<Ingress>("istio-system").get("gw-ingress").await.ok()?;
        ingress.status?.load_balancer?.ingress?.into_iter().next()?.hostname
    });
    found.await
}

async fn event(world: &World, reason: &str) -> String {
    world
        .until(reason, || async {
            let events = world.api::<Event>("istio-system").list(&ListParams::default()).await.ok()?;
            events.items.into_iter().find(|event| event.reason.as_deref() == Some(reason))?.message
        })
        .await
}

/// The load balancer's loopback address for a port.
fn address(world: &World, port: u16) -> String {
    let map = world.env("MESHSTEP_CONNECT_TO");
    let entry = map.split(',').find_map(|entry| entry.strip_prefix(&format!(":{port}:"))).expect("the port is mapped");
    entry.to_owned()
}

async fn get(world: &World, host: &str) -> Option<(u16, String, String)> {
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
    let answer = client.get(format!("http://{}/", address(world, 80))).header("host", host).send().await.ok()?;
    let server = answer.headers().get("server").and_then(|s| s.to_str().ok()).unwrap_or_default().to_owned();
    Some((answer.status().as_u16(), server, answer.text().await.ok()?))
}

async fn load_balancers(world: &World) -> Vec<elb::types::LoadBalancer> {
    elb::Client::new(&world.aws().await).describe_load_balancers().send().await.expect("described").load_balancers().to_vec()
}

async fn targets(world: &World) -> Vec<(String, Option<String>)> {
    let client = elb::Client::new(&world.aws().await);
    let groups = client.describe_target_groups().send().await.expect("described");
    let Some(group) = groups.target_groups().first().and_then(|group| group.target_group_arn()) else { return Vec::new() };
    let health = client.describe_target_health().target_group_arn(group).send().await.expect("described");
    let states = health.target_health_descriptions().iter().filter_map(|d| d.target_health());
    states.map(|h| (h.state().map(|s| s.as_str().to_owned()).unwrap_or_default(), h.reason().map(|r| r.as_str().to_owned()))).collect()
}

/// Whether both nodes are registered and each is as asked.
async fn both(world: &World, holds: impl Fn(&(String, Option<String>)) -> bool) -> Option<()> {
    let targets = targets(world).await;
    (targets.len() == 2 && targets.iter().all(holds)).then_some(())
}

async fn answers_200(world: &World) {
    world.until("200", || async { get(world, "web.public.domain").await.filter(|(status, ..)| *status == 200).map(drop) }).await;
}

fn resolves(world: &World, name: &str) -> bool {
    use hickory_proto::op::{Message, MessageType, OpCode, Query};
    use hickory_proto::rr::{Name, RecordType};
    let mut query = Message::new(7, MessageType::Query, OpCode::Query);
    query.add_query(Query::query(Name::from_ascii(format!("{name}.")).expect("a name"), RecordType::A));
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).expect("a deadline");
    socket.send_to(&query.to_vec().expect("encodes"), world.env("MESHSTEP_DNS")).expect("sent");
    let mut buffer = [0u8; 512];
    let length = socket.recv(&mut buffer).expect("an answer");
    !Message::from_vec(&buffer[..length]).expect("decodes").answers.is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingress_becomes_a_load_balancer_and_goes_again() {
    let world = World::of(MESHED).await;
    assert!(get(&world, "web.public.domain").await.is_none(), "no load balancer: refused");
    publish(&world, json!({})).await;
    let name = hostname(&world).await;
    assert!(name.starts_with("k8s-istiosys-gwingres-") && name.ends_with(".ap-southeast-1.elb.amazonaws.com"), "{name}");
    let first = load_balancers(&world).await.remove(0);
    assert_eq!(first.dns_name().map(str::to_lowercase), Some(name.clone()));
    let state = || async { load_balancers(&world).await.first()?.state()?.code().map(|code| code.as_str().to_owned()) };
    world.until("active", || async { state().await.filter(|state| state == "active") }).await;
    world.until("a DNS record", || async { resolves(&world, &name).then_some(()) }).await;
    assert!(!resolves(&world, "nosuch.example"));
    world.until("healthy targets", || both(&world, |(state, _)| state == "healthy")).await;
    answers_200(&world).await;
    assert_eq!(get(&world, "web.public.domain").await, Some((200, "istio-envoy".to_owned(), "ok web prod\n".to_owned())));
    assert_eq!(get(&world, "other.public.domain").await, Some((404, "istio-envoy".to_owned(), String::new())));

    world.api::<Ingress>("istio-system").delete("gw-ingress", &DeleteParams::default()).await.expect("deleted");
    world.until("no Ingress", || async { world.api::<Ingress>("istio-system").get_opt("gw-ingress").await.ok()?.is_none().then_some(()) }).await;
    assert!(load_balancers(&world).await.is_empty());
    assert!(targets(&world).await.is_empty());
    world.until("refused again", || async { get(&world, "web.public.domain").await.is_none().then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn https_listeners_have_the_certificate_and_http_redirects() {
    let world = World::of(MESHED).await;
    let arn = "arn:aws:acm:ap-southeast-1:123456789012:certificate/0d9a3a43-3f7e-4b5c-9c2b-4f6f1d0f5a11";
    publish(&world, json!({"certificate-arn": arn, "listen-ports": "[{\"HTTP\":80},{\"HTTPS\":443}]", "ssl-redirect": "443"})).await;
    hostname(&world).await;
    let pem = std::fs::read(world.env("MESHSTEP_CACERT")).expect("the CA");
    let certificate = reqwest::Certificate::from_pem(&pem).expect("a certificate");
    let to = address(&world, 443).parse().expect("an address");
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([certificate]).resolve("web.public.domain", to).build().expect("a client");
    let url = format!("https://web.public.domain:{}/", address(&world, 443).rsplit_once(':').expect("a port").1);
    let answer = world.until("200 over TLS", || async { client.get(&url).send().await.ok().filter(|answer| answer.status() == 200) }).await;
    assert_eq!(answer.headers()["server"], "istio-envoy");
    assert_eq!(get(&world, "web.public.domain").await.map(|(status, server, _)| (status, server)), Some((301, "awselb/2.0".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_controller_words_its_failures_as_the_real_one() {
    for (annotations, reason, start) in [
        (json!({"scheme": "public"}), "FailedBuildModel", "Failed build model due to unknown scheme: public"),
        (
            json!({"listen-ports": "80"}),
            "FailedBuildModel",
            "Failed build model due to ingress: istio-system/gw-ingress: failed to parse listen-ports configuration: `80`: json: cannot unmarshal number",
        ),
        (
            json!({"healthcheck-port": "nosuch"}),
            "FailedBuildModel",
            "Failed build model due to ingress: istio-system/gw-ingress: failed to resolve healthCheckPort: unable to find port nosuch on service istio-system/istio-ingressgateway",
        ),
        (
            json!({"certificate-arn": "arn:aws:acm:nosuch"}),
            "FailedDeployModel",
            "Failed deploy model due to operation error Elastic Load Balancing v2: CreateListener, https response error StatusCode: 400, RequestID: ",
        ),
    ] {
        let world = World::of(MESHED).await;
        ingress(&world, annotations.clone()).await;
        let message = event(&world, reason).await;
        assert!(message.starts_with(start), "{annotations}: {message}");
        let ingress = world.api::<Ingress>("istio-system").get("gw-ingress").await.expect("the ingress");
        assert!(ingress.finalizers().contains(&"ingress.k8s.aws/resources".to_owned()));
        assert!(ingress.status.and_then(|status| status.load_balancer).and_then(|lb| lb.ingress).is_none(), "{annotations}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_load_balancer_never_serves_and_says_why() {
    let world = World::of(&format!("{MESHED}\naws: {{load-balancer: {{state: failed, reason: no addresses}}}}\n")).await;
    publish(&world, json!({})).await;
    let name = hostname(&world).await;
    let reason = world
        .until("failed", || async {
            let balancers = load_balancers(&world).await;
            let state = balancers.first()?.state()?;
            (state.code().map(|code| code.as_str()) == Some("failed")).then(|| state.reason().map(str::to_owned))
        })
        .await;
    assert_eq!(reason.as_deref(), Some("no addresses"));
    assert!(!resolves(&world, &name));
    assert!(get(&world, "web.public.domain").await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn blocked_targets_time_out_and_a_gateway_without_pods_gives_502() {
    let world = World::of(&format!("{MESHED}\naws: {{targets: {{blocked: true}}}}\n")).await;
    publish(&world, json!({})).await;
    world.until("Target.Timeout", || both(&world, |target| *target == ("unhealthy".to_owned(), Some("Target.Timeout".to_owned())))).await;
    assert_eq!(get(&world, "web.public.domain").await.map(|(status, server, _)| (status, server)), Some((504, "awselb/2.0".to_owned())));

    let world = World::of(MESHED).await;
    publish(&world, json!({})).await;
    answers_200(&world).await;
    let none = Patch::Merge(json!({"spec": {"replicas": 0}}));
    world.api::<Deployment>("istio-system").patch("istio-ingressgateway", &PatchParams::default(), &none).await.expect("scaled");
    world
        .until("502", || async {
            get(&world, "web.public.domain").await.filter(|(status, server, _)| *status == 502 && server == "awselb/2.0").map(drop)
        })
        .await;
    world.until("FailedHealthChecks", || both(&world, |(_, reason)| reason.as_deref() == Some("Target.FailedHealthChecks"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_certificate_is_seen_proven_and_cured_by_a_restart() {
    let stale = "certificates: [{match: {workload: web}, root: former}]";
    let world = World::of(&format!("{MESHED}{stale}\n").replace("istio: {installed: {}}", "istio: {envoy: 1.36.4, installed: {}}")).await;
    publish(&world, json!({})).await;
    let body = world
        .until("503 of a ready pod", || async {
            let (status, server, body) = get(&world, "web.public.domain").await?;
            (status == 503 && server == "istio-envoy" && body != "no healthy upstream").then_some(body)
        })
        .await;
    assert!(body.contains("TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED"), "{body}");
    let pod = world.pods("prod", "app=web").await.remove(0).name_any();
    let params = LogParams { container: Some("istio-proxy".to_owned()), ..LogParams::default() };
    let log = world.api::<Pod>("prod").logs(&pod, &params).await.expect("a log");
    assert!(
        log.lines()
            .any(|line| line.contains("failed to generate workload certificate") && line.contains("x509: certificate signed by unknown authority")),
        "{log}"
    );
    world.api::<Deployment>("prod").restart("web").await.expect("restarted");
    answers_200(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_forgotten_workload_of_the_stale_world_is_the_only_one_older_than_the_root() {
    let world = World::shipped("stale-root").await;
    let secret = world.api::<k8s_openapi::api::core::v1::Secret>("istio-system").get("istio-ca-secret").await.expect("the CA");
    let root = secret.metadata.creation_timestamp.expect("a time");
    let pods = world.all::<Pod>().list(&ListParams::default().labels("security.istio.io/tlsMode=istio")).await.expect("pods");
    assert_eq!(pods.items.len(), 9, "three services, one pod in pre-prod and two in prod each");
    let mut old: Vec<_> = pods
        .iter()
        .filter(|pod| pod.metadata.creation_timestamp.as_ref().is_some_and(|at| *at < root))
        .map(|pod| (pod.namespace(), pod.labels().get("app").cloned()))
        .collect();
    old.dedup();
    assert_eq!(old, [(Some("prod".to_owned()), Some("app1-service".to_owned()))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_faults_are_answered_and_used_up() {
    let fault = "aws: {calls: [{op: DescribeLoadBalancers, status: 403, code: AccessDenied, message: not authorized, times: 1}]}";
    let world = World::of(&format!("name: faulty\n{fault}\n")).await;
    let client = elb::Client::new(&world.aws().await);
    let error = client.describe_load_balancers().send().await.expect_err("refused once").into_service_error();
    assert_eq!(error.meta().code(), Some("AccessDenied"));
    assert!(client.describe_load_balancers().send().await.is_ok());
    let error = client.describe_load_balancers().names("nosuch").send().await.expect_err("not found").into_service_error();
    assert!(error.is_load_balancer_not_found_exception(), "{error:?}");
    let cluster = aws_sdk_eks::Client::new(&world.aws().await).describe_cluster().name("shop-eks").send().await.expect("described");
    assert_eq!(cluster.cluster().and_then(|c| c.status()).map(|s| s.as_str()), Some("ACTIVE"));
    let missing = aws_sdk_eks::Client::new(&world.aws().await).describe_cluster().name("other").send().await.expect_err("no such cluster");
    assert!(missing.into_service_error().is_resource_not_found_exception());
    let caller = aws_sdk_sts::Client::new(&world.aws().await).get_caller_identity().send().await.expect("a caller");
    assert_eq!(caller.account(), Some("123456789012"));
}
