//! A cluster whose API server is a scripted HTTP server.

use k8s_openapi::api::core::v1::{Namespace, Pod};
use serde_json::{Value, json};
use wiremock::matchers::{body_partial_json, method, path, query_param, query_param_is_missing};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;
use crate::base::codes::Code;
use crate::base::names::ObjectName;

struct Bench {
    server: MockServer,
    cluster: Cluster,
    _folder: tempfile::TempDir,
}

async fn connect(url: &str) -> (Cluster, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let theirs = folder.path().join("config");
    let config = json!({
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "kube-tests-token"}}],
    });
    std::fs::write(&theirs, config.to_string()).expect("written");
    let settings = Settings::from_vars([("KUBECONFIG".to_owned(), theirs.display().to_string())], []);
    let access = Access::Context { context: None, private: folder.path().join("private") };
    (Cluster::connect(access, &settings).await.expect("connected"), folder)
}

impl Bench {
    async fn new() -> Self {
        let server = MockServer::start().await;
        let (cluster, folder) = connect(&server.uri()).await;
        Self { server, cluster, _folder: folder }
    }

    async fn answer(&self, verb: &str, at: &str, status: u16, body: Value) {
        Mock::given(method(verb)).and(path(at)).respond_with(ResponseTemplate::new(status).set_body_json(body)).mount(&self.server).await;
    }

    async fn calls(&self) -> Vec<String> {
        let requests = self.server.received_requests().await.expect("recorded");
        requests.iter().map(|request| format!("{} {}", request.method, &request.url[url::Position::BeforePath..])).collect()
    }
}

fn status(code: u16, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code})
}

#[tokio::test]
async fn what_is_not_there_is_none_and_what_is_forbidden_is_a_fault() {
    let bench = Bench::new().await;
    bench.answer("GET", "/api/v1/namespaces/shop", 200, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})).await;
    bench.answer("GET", "/api/v1/namespaces/none", 404, status(404, "namespaces \"none\" not found")).await;
    let refused = r#"pods is forbidden: User "u" cannot list resource "pods" in API group "" in the namespace "shop""#;
    bench.answer("GET", "/api/v1/namespaces/shop/pods", 403, status(403, refused)).await;
    assert!(bench.cluster.get::<Namespace>("", "shop").await.expect("read").is_some());
    assert!(bench.cluster.get::<Namespace>("", "none").await.expect("read").is_none());
    let fault = bench.cluster.list::<Pod>("shop", "").await.expect_err("forbidden");
    assert_eq!(fault.code, Code::Forbidden);
    assert!(fault.message.contains("may not list pods in shop"), "{fault}");
}

#[tokio::test]
async fn lists_are_read_page_by_page() {
    let bench = Bench::new().await;
    let page = |name: &str, more: &str| json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"continue": more}, "items": [{"metadata": {"name": name}}]});
    let pods = || Mock::given(method("GET")).and(path("/api/v1/pods")).and(query_param("labelSelector", "app=a"));
    let answer = |body: Value| ResponseTemplate::new(200).set_body_json(body);
    pods().and(query_param_is_missing("continue")).respond_with(answer(page("a", "t2"))).mount(&bench.server).await;
    pods().and(query_param("continue", "t2")).respond_with(answer(page("b", ""))).mount(&bench.server).await;
    let names: Vec<String> = bench.cluster.list::<Pod>("", "app=a").await.expect("read").into_iter().filter_map(|pod| pod.metadata.name).collect();
    assert_eq!(names, ["a", "b"]);
}

async fn serve_apps(bench: &Bench) {
    let resource = json!({"name": "deployments", "singularName": "deployment", "namespaced": true, "kind": "Deployment", "verbs": ["get"]});
    let list = json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "apps/v1", "resources": [resource]});
    bench.answer("GET", "/apis/apps/v1", 200, list).await;
}

#[tokio::test]
async fn kinds_are_looked_up_once_and_unknown_ones_again() {
    let bench = Bench::new().await;
    serve_apps(&bench).await;
    bench.answer("GET", "/apis/elbv2.k8s.aws/v1beta1", 404, json!({})).await;
    bench.answer("GET", "/apis/apps/v1/namespaces/shop/deployments/a", 404, status(404, "not found")).await;
    for _ in 0..2 {
        assert!(bench.cluster.get_object("apps/v1", "Deployment", "shop", "a").await.expect("read").is_none());
        assert!(bench.cluster.list_objects("elbv2.k8s.aws/v1beta1", "TargetGroupBinding", "", "").await.expect("read").is_empty());
    }
    let calls = bench.calls().await;
    let count = |call: &str| calls.iter().filter(|seen| *seen == call).count();
    assert_eq!((count("GET /apis/apps/v1"), count("GET /apis/elbv2.k8s.aws/v1beta1")), (1, 2), "{calls:?}");
    bench.answer("DELETE", "/apis/apps/v1/namespaces/shop/deployments/a", 404, status(404, "not found")).await;
    assert!(!bench.cluster.delete_object(&ObjectName::new("deployment", "shop", "a"), "apps/v1").await.expect("deleted"));
}

#[tokio::test]
async fn an_apply_is_server_side_forced_and_ours() {
    let bench = Bench::new().await;
    serve_apps(&bench).await;
    let at = "/apis/apps/v1/namespaces/shop/deployments/a";
    let after = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "namespace": "shop"}, "spec": {"replicas": 1}});
    bench.answer("GET", at, 404, status(404, "not found")).await;
    let patch = Mock::given(method("PATCH")).and(path(at)).and(query_param("fieldManager", "meshstep")).and(query_param("force", "true"));
    let patch = patch.and(query_param("dryRun", "All")).and(body_partial_json(json!({"metadata": {"namespace": "shop"}})));
    patch.respond_with(ResponseTemplate::new(201).set_body_json(&after)).mount(&bench.server).await;
    let manifest = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": {"replicas": 1}});
    let (object, applied) = bench.cluster.apply(&manifest, "shop", true).await.expect("applied");
    assert_eq!((object.metadata.namespace.as_deref(), applied), (Some("shop"), Applied::Created));
    let unknown = json!({"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": "g"}});
    bench.answer("GET", "/apis/networking.istio.io/v1", 404, json!({})).await;
    let fault = bench.cluster.apply(&unknown, "shop", false).await.expect_err("no such kind");
    assert_eq!(fault.code, Code::NeedsEarlier);
}

#[tokio::test]
async fn a_refused_manifest_is_the_manifests_fault() {
    let bench = Bench::new().await;
    serve_apps(&bench).await;
    let at = "/apis/apps/v1/namespaces/default/deployments/a";
    bench.answer("GET", at, 404, status(404, "not found")).await;
    let mut refused = status(422, "Deployment.apps \"a\" is invalid: spec.template: Required value");
    refused["details"] = json!({"causes": [{"field": "spec.template", "message": "Required value", "reason": "FieldValueRequired"}]});
    bench.answer("PATCH", at, 422, refused).await;
    let manifest = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}});
    let fault = bench.cluster.apply(&manifest, "", false).await.expect_err("refused");
    assert_eq!(fault.code, Code::ApplyRefused);
    assert_eq!(fault.evidence[0].text, "spec.template: Required value");
}

#[tokio::test]
async fn rights_are_asked_for_and_the_missing_ones_told() {
    let bench = Bench::new().await;
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let review = |allowed: bool| json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {}, "status": {"allowed": allowed}});
    let wants = |verb: &str| json!({"spec": {"resourceAttributes": {"verb": verb}}});
    for (verb, allowed) in [("get", true), ("patch", false)] {
        let asked = Mock::given(method("POST")).and(path(reviews)).and(body_partial_json(wants(verb)));
        asked.respond_with(ResponseTemplate::new(201).set_body_json(review(allowed))).mount(&bench.server).await;
    }
    let rights = [Right::new("get", "pods", "shop"), Right::new("patch", "deployments.apps", "shop")];
    assert_eq!(bench.cluster.denied(&rights).await.expect("asked"), rights[1..]);
}

#[tokio::test]
async fn a_watch_wakes_and_comes_back_after_its_end() {
    let bench = Bench::new().await;
    let event = json!({"type": "ADDED", "object": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "resourceVersion": "1"}}});
    let watch = Mock::given(method("GET")).and(path("/api/v1/namespaces/shop/pods")).and(query_param("watch", "true"));
    watch.respond_with(ResponseTemplate::new(200).set_body_string(format!("{event}\n"))).mount(&bench.server).await;
    let nudge = bench.cluster.watch::<Pod>("shop", "");
    // The scripted server ends each watch at once: the second wake proves the reconnection.
    for _ in 0..2 {
        tokio::time::timeout(std::time::Duration::from_secs(10), nudge.next()).await.expect("woken");
    }
}

#[tokio::test]
async fn an_untrusted_api_server_is_told_apart_from_an_unreachable_one() {
    crate::clients::install_crypto_provider();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).expect("a configuration");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            _ = acceptor.accept(stream).await;
        }
    });
    let (cluster, _folder) = connect(&format!("https://{address}")).await;
    let fault = cluster.server_version().await.expect_err("untrusted");
    assert_eq!(fault.code, Code::ApiTls, "{fault:?}");
}

#[tokio::test]
async fn a_log_that_is_no_text_is_read_all_the_same() {
    let bench = Bench::new().await;
    let log = ResponseTemplate::new(200).set_body_bytes(b"gr\xfc\xdfe\nend\n".to_vec());
    Mock::given(method("GET")).and(path("/api/v1/namespaces/shop/pods/app/log")).respond_with(log).mount(&bench.server).await;
    bench.answer("GET", "/api/v1/namespaces/shop/pods/none/log", 404, status(404, "pods \"none\" not found")).await;
    assert_eq!(bench.cluster.logs("shop", "app", "", false, 10).await.expect("read"), "gr\u{fffd}\u{fffd}e\nend\n");
    assert!(bench.cluster.logs("shop", "none", "", false, 10).await.is_err());
}
