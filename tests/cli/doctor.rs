//! Doctor's findings, each in a world of its own: told before anything is touched, with the command that helps; and the near case passes.

use serde_json::Value;

use crate::support::{Run, Workspace};

const FILE: &str = "pipelines/meshstep.yaml";

/// A webhook of the load balancer controller, as its chart brings it.
const SERVICE_HOOK: &str = "{apiVersion: admissionregistration.k8s.io/v1, kind: MutatingWebhookConfiguration, \
    metadata: {name: aws-load-balancer-webhook}, \
    webhooks: [{name: mservice.elbv2.k8s.aws, failurePolicy: Fail, sideEffects: None, admissionReviewVersions: [v1], \
    rules: [{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [services]}], \
    clientConfig: {caBundle: QQ==, service: {name: aws-load-balancer-webhook-service, namespace: kube-system}}}]}";

/// What is left of an injector whose istiod was removed with its namespace.
const INJECTOR: &str = "{apiVersion: admissionregistration.k8s.io/v1, kind: MutatingWebhookConfiguration, metadata: {name: istio-sidecar-injector}, \
    webhooks: [{name: namespace.sidecar-injector.istio.io, failurePolicy: Fail, sideEffects: None, admissionReviewVersions: [v1], \
    namespaceSelector: {matchLabels: {istio-injection: enabled}}, \
    rules: [{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [pods]}], \
    clientConfig: {caBundle: QQ==, service: {name: istiod, namespace: istio-system}}}]}";

/// Runs doctor in a world, with one text of the pipeline file replaced.
fn doctor(world: &str, replaced: (&str, &str), args: &[&str]) -> Run {
    let workspace = Workspace::new();
    workspace.write("world.yaml", &format!("name: doctor\nabout: one thing is wrong\n{world}\n"));
    let file = workspace.read(FILE);
    let changed = file.replacen(replaced.0, replaced.1, 1);
    assert!(replaced.0.is_empty() || file != changed, "{replaced:?}");
    workspace.write(FILE, &changed);
    let run = workspace.run(&[args, &["-f", FILE, "--sandbox=world.yaml"]].concat());
    run.keeping(workspace)
}

#[track_caller]
fn failed(run: &Run, name: &str, code: &str, words: &str) -> Value {
    let case = run.case(name);
    assert_eq!((case["outcome"].as_str(), case["code"].as_str()), (Some("failed"), Some(code)), "{}", run.stdout);
    assert!(case["message"].as_str().is_some_and(|message| message.contains(words)), "`{words}`\n{case}");
    assert!(case["next"].as_array().is_some_and(|next| !next.is_empty()), "a failure says what to do: {case}");
    case
}

#[track_caller]
fn warned(run: &Run, name: &str, words: &str) {
    let case = run.case(name);
    assert_eq!(case["outcome"], "passed", "{}", run.stdout);
    assert!(case["warnings"].to_string().contains(words), "`{words}`\n{case}");
}

#[test]
fn a_healthy_cluster_passes_and_everything_is_told() {
    let workspace = Workspace::new();
    let run = workspace.run(&["doctor", "-f", FILE, "--sandbox", "--output", "json"]).exits(0);
    let document: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|e| panic!("{e}: {}", run.stdout));
    assert_eq!((&document["exit"], &document["counts"]["failed"]), (&0.into(), &0.into()));
    for name in ["clock", "network", "versions", "namespace default", "webhooks", "ingress class", "subnets", "node architectures"] {
        assert_eq!(run.case(name)["outcome"], "passed", "{name}");
    }
    let note = |name: &str| run.case(name)["note"].as_str().unwrap_or_default().to_owned();
    assert!(note("versions").contains("Kubernetes 1.37, istioctl 1.31.0, helm"), "{}", note("versions"));
    assert!(note("ingress class").contains("AWS Load Balancer Controller, class alb, 2/2 pods"), "{}", note("ingress class"));
    assert_eq!(note("subnets"), "2 subnets in ap-southeast-1a and ap-southeast-1b");
    assert!(note("node architectures").contains("not known without their registry"), "{}", note("node architectures"));
}

#[test]
fn only_what_the_chosen_stages_need_is_asked() {
    let run = doctor("", ("", ""), &["run", "--only", "doctor,deploy"]);
    let names: Vec<String> = run.cases().iter().map(|case| case["case"]["name"].as_str().unwrap_or_default().to_owned()).collect();
    assert!(names.iter().any(|name| name == "node architectures") && !names.iter().any(|name| name == "subnets" || name == "istioctl"), "{names:?}");
}

#[test]
fn a_webhook_that_nobody_answers_stops_the_run_before_istio() {
    let world = format!("objects:\n  - {{manifest: {SERVICE_HOOK}}}");
    let run = doctor(&world, ("", ""), &["run"]).exits(4);
    let case = failed(&run, "webhooks", "webhook_unreachable", "before services in istio-system can be created");
    assert!(case["next"].to_string().contains("rollout status deployment/aws-load-balancer-controller"), "{case}");
    let of_mesh = |case: &Value| case["case"]["stage"] == "mesh";
    assert!(run.cases().iter().filter(|case| of_mesh(case)).all(|case| case["outcome"] == "skipped"), "{}", run.stdout);
}

#[test]
fn a_left_over_injector_matters_only_while_no_mesh_stage_comes() {
    let world = format!(
        "namespaces:\n  - {{name: prod, labels: {{istio-injection: enabled}}}}\n  - {{name: pre-prod}}\nobjects:\n  - {{manifest: {INJECTOR}}}"
    );
    failed(&doctor(&world, ("", ""), &["run", "--only", "doctor,deploy"]).exits(4), "webhooks", "webhook_unreachable", "pods in prod");
    warned(&doctor(&world, ("", ""), &["doctor"]).exits(0), "webhooks", "the mesh stage brings it up");
}

#[test]
fn somebody_must_answer_for_the_ingress() {
    let run = doctor("cluster: {load-balancer-controller: false}", ("", ""), &["doctor"]).exits(4);
    let case = failed(&run, "ingress class", "no_controller", "names the class alb, which is not in the cluster");
    assert!(case["next"].to_string().contains("clusterName=shop-eks"), "{case}");
    let class = "{apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {name: alb}, spec: {controller: eks.amazonaws.com/alb}}";
    let world = format!("cluster: {{load-balancer-controller: false}}\nobjects:\n  - {{manifest: {class}}}");
    failed(&doctor(&world, ("", ""), &["doctor"]).exits(4), "ingress class", "no_controller", "EKS Auto Mode, which is off in this cluster");
}

#[test]
fn the_teams_certificate_must_be_issued_and_for_the_hosts() {
    let dpl = ("values-bi.yaml", "values-dpl.yaml");
    let arn = "arn: 'arn:aws:acm:ap-southeast-1:123456789012:certificate/0d9a3a43-3f7e-4b5c-9c2b-4f6f1d0f5a11'";
    let with = |rest: &str| doctor(&format!("aws: {{certificates: [{{{arn}, {rest}}}]}}"), dpl, &["doctor"]);
    assert_eq!(doctor("", dpl, &["doctor"]).exits(0).case("certificate")["note"], "1 certificate, 6 hosts");
    failed(&with("status: PENDING_VALIDATION").exits(4), "certificate", "certificate_unusable", "is PENDING_VALIDATION");
    let run = with("domains: [app1.public.domain, '*.other.domain']").exits(4);
    let case =
        failed(&run, "certificate", "certificate_unusable", "no certificate of the load balancer is for app1-pre.public.domain, app2.public.domain");
    assert!(case["place"]["file"].as_str().is_some_and(|file| file.ends_with("values.yaml")), "{case}");
    failed(&doctor("aws: {certificates: []}", dpl, &["doctor"]).exits(4), "certificate", "certificate_unusable", "does not exist in this account");
    let denied = "aws: {calls: [{op: DescribeCertificate, status: 400, code: AccessDeniedException, message: not you}]}";
    assert_eq!(doctor(denied, dpl, &["doctor"]).exits(0).case("certificate")["outcome"], "skipped");
}

#[test]
fn the_load_balancer_needs_subnets_in_two_zones() {
    let run = doctor("aws: {tagged-subnets: 1}", ("", ""), &["doctor"]).exits(4);
    let case = failed(&run, "subnets", "subnets_unusable", "in ap-southeast-1a only");
    assert!(case["next"].to_string().contains("aws ec2 create-tags --resources subnet-"), "{case}");
    warned(&doctor("aws: {tagged-subnets: 0}", ("", ""), &["doctor"]).exits(0), "subnets", "guesses by routes");

    // An internal one has subnets of its own.
    let internal = ("values-bi.yaml", "values-protocol.yaml");
    let run = doctor("aws: {internal-subnets: 1}", internal, &["doctor"]).exits(4);
    let case = failed(&run, "subnets", "subnets_unusable", "in ap-southeast-1a only");
    assert!(case["next"].to_string().contains("kubernetes.io/role/internal-elb"), "{case}");
    assert_eq!(doctor("aws: {tagged-subnets: 1}", internal, &["doctor"]).exits(0).case("subnets")["outcome"], "passed");
}

#[test]
fn namespaces_are_looked_at_before_anything_is_made() {
    let unmade = ("{name: prod, create: true}", "prod");
    let run = doctor("", unmade, &["doctor"]).exits(4);
    failed(&run, "namespace prod", "namespace_missing", "namespace prod does not exist");
    assert_eq!(run.case("namespace pre-prod")["note"], "it will be made");
    let both = "namespaces: [{name: prod, labels: {istio-injection: enabled, istio.io/rev: 1-30}}]";
    warned(&doctor(both, ("", ""), &["doctor"]).exits(0), "namespace prod", "istio.io/rev=1-30");
    let moved = "namespaces: [{name: prod, labels: {istio.io/rev: 1-30}}]";
    failed(&doctor(moved, ("", ""), &["doctor"]).exits(4), "namespace prod", "mesh_foreign", "from revision 1-30");

    // The stages themselves look, too, and touch nothing.
    let run = doctor("", unmade, &["mesh"]).exits(4);
    failed(&run, "namespace prod", "namespace_missing", "does not exist");
    assert!(!run.cases().iter().any(|case| case["case"]["name"] == "istio install"), "{}", run.stdout);
    let run = doctor("namespaces: [{name: pre-prod}]", ("mesh:\n", "mesh:\n  timeout: 5m\n"), &["deploy"]).exits(4);
    let case = failed(&run, "namespace prod", "namespace_missing", "does not exist");
    assert!(case["next"][0].as_str().is_some_and(|next| next.contains("run `meshstep mesh` first")), "{case}");
    assert!(run.cases().iter().all(|case| case["change"] != "changed" || case["case"]["name"] == "lock"), "{}", run.stdout);
}

#[test]
fn a_clock_that_is_off_is_found_even_when_it_locks_us_out() {
    failed(&doctor("cluster: {clock-ahead: 10m}", ("", ""), &["doctor"]).exits(4), "clock", "clock_skew", "behind the API server's");
    let run = doctor("cluster: {clock-ahead: 30m}", ("", ""), &["doctor"]).exits(4);
    failed(&run, "clock", "clock_skew", "behind the API server's");
    failed(&run, "cluster", "unauthorized", "");
    warned(&doctor("cluster: {clock-ahead: 90s}", ("", ""), &["doctor"]).exits(0), "clock", "behind the API server's");
}

#[test]
fn versions_that_do_not_go_together() {
    failed(
        &doctor("cluster: {version: '1.31'}", ("", ""), &["doctor"]).exits(4),
        "versions",
        "version_unsupported",
        "needs Kubernetes 1.32 or newer",
    );
    let older = "istio: {version: 1.31.0, installed: {version: 1.30.4}}\nnamespaces: [{name: istio-system}]";
    failed(&doctor(older, ("", ""), &["doctor"]).exits(4), "versions", "mesh_foreign", "Istio 1.30.4 is running, istioctl is 1.31.0");
}

#[test]
fn nodes_of_two_kinds_are_told() {
    let node = "{apiVersion: v1, kind: Node, metadata: {name: arm}, status: {nodeInfo: {architecture: arm64}}}";
    let run = doctor(&format!("objects:\n  - {{manifest: {node}}}"), ("", ""), &["doctor"]).exits(0);
    warned(&run, "node architectures", "docker buildx imagetools inspect");
}
