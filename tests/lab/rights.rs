//! Least privilege: the runbook on the real API server with exactly the rights of `pipelines/rbac/`, each of them used, and what happens
//! without one. What was used is read from the API server's audit log.

use std::collections::{BTreeMap, BTreeSet};

use meshstep::clients::kube::Right;
use meshstep::stages::rights;
use serde_json::{Value, json};

use crate::grants;
use crate::shop::Shop;
use crate::support::{Lab, Profile, Run};

/// The manifests of `run` and `redeploy`.
const RUN: [&str; 7] = ["mesh-install", "mesh", "deploy", "releases", "ingress", "verify", "lock"];

/// Who runs what, with the manifests that are bound to him. Each manifest is bound to a group of its own here, so that the log tells whose rights were used.
const IDENTITIES: [(&str, &[&str]); 11] = [
    ("everything", &RUN),
    ("mesh", &["mesh-install", "mesh", "lock"]),
    ("deploy", &["deploy", "lock"]),
    ("releases", &["releases", "lock"]),
    ("ingress", &["ingress"]),
    ("verify", &["verify"]),
    ("redeploy", &["verify", "deploy", "lock"]),
    ("foresight", &["preflight", "deploy", "lock"]),
    ("troubleshoot", &["troubleshoot", "verify"]),
    ("cleanup", &["cleanup", "lock"]),
    ("nobody", &[]),
];

/// What the API server asks for beside the call itself, and does not log: proven by taking it away.
const UNLOGGED: [&str; 3] = ["escalate", "bind", "create pods/portforward"];

/// No word of the rules: secrets are masked wherever they stand.
const KEY: &str = "of-the-lab-alone";

struct Scene {
    lab: Lab,
    shop: Shop,
}

pub(crate) fn each_is_needed_and_they_are_enough() {
    let lab = Lab::up(Profile::Full, &[("LAB_AUDIT", "1"), ("CM_REFRESH", "600")]);
    let shop = Shop::copy(&lab);
    lab.image("crash", json!({"command": ["sh", "-c", "echo no database today; exit 1"]}));
    let scene = Scene { lab, shop };
    let users: BTreeMap<&str, Value> = IDENTITIES
        .iter()
        .map(|(name, files)| {
            (*name, json!({"secret": KEY, "username": name, "groups": files.iter().map(|file| format!("lab-{file}")).collect::<Vec<_>>()}))
        })
        .collect();
    std::fs::write(scene.lab.env("LAB_EKS_USERS"), json!(users).to_string()).expect("the run folder can be written");
    scene.grant_all();

    scene.nobody_is_told_every_rule();
    scene.run("everything", &["run", "--dry-run"]).exits(0);
    scene.first_run_with_rights_taken_away();
    let second = scene.run("everything", &["run"]).exits(0);
    assert!(second.text.contains("nothing changed"), "{}", second.text);
    scene.upgrade();
    scene.incident();
    scene.stale_gateway();
    scene.foresight();
    scene.troubleshoot();
    scene.cleanup();
    scene.assert_all_used();
}

impl Scene {
    fn run(&self, who: &str, words: &[&str]) -> Run {
        let path = |name: &str| self.shop.folder().join(name).to_str().expect("UTF-8").to_owned();
        let (file, reports, helm) = (path("meshstep.yaml"), path("reports"), self.lab.exec(&["which", "helm"]));
        let args = [words, &["--file", &file, "--report-dir", &reports, "-v"]].concat();
        let run = self.lab.meshstep(&args, &[("MESHSTEP_HELM", helm.trim()), ("AWS_ACCESS_KEY_ID", who), ("AWS_SECRET_ACCESS_KEY", KEY)]);
        println!("   {who}: {} {:.1} s", words.join(" "), run.took.as_secs_f64());
        run
    }

    /// Binds the rights of a manifest to its group here.
    fn grant(&self, file: &str, mut objects: Vec<Value>) {
        for subject in objects.iter_mut().filter_map(|object| object.pointer_mut("/subjects/0/name")) {
            *subject = format!("lab-{file}").into();
        }
        self.apply(&objects);
    }

    fn apply(&self, objects: &[Value]) {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        let file = self.shop.folder().join("granted.json");
        std::fs::write(&file, list.to_string()).expect("written");
        self.lab.exec(&["kubectl", "apply", "-f", file.to_str().expect("UTF-8")]);
    }

    fn grant_all(&self) {
        self.apply(&grants::objects("00-namespaces"));
        for file in rights::GROUPS {
            self.grant(file, grants::objects(file));
        }
    }

    /// A command without one verb on one resource: refused, and it says which rule to add.
    fn without(&self, file: &str, words: &str, refused: &Right, who: &str, command: &[&str]) {
        let (verb, resource) = words.split_once(' ').expect("VERB RESOURCE");
        let mut objects = grants::objects(file);
        let mut taken = false;
        for rules in objects.iter_mut().filter_map(|object| object["rules"].as_array_mut()) {
            for rule in rules.iter_mut().filter(|rule| rule["resources"].as_array().is_some_and(|r| r.iter().any(|r| r == resource))) {
                let verbs = rule["verbs"].as_array_mut().expect("verbs");
                taken |= verbs.iter().any(|v| v == verb);
                verbs.retain(|v| v != verb);
            }
            rules.retain(|rule| rule["verbs"].as_array().is_some_and(|verbs| !verbs.is_empty()));
        }
        assert!(taken, "{file}.yaml has no {words}");
        self.grant(file, objects);
        let run = self.run(who, command).exits(7);
        self.grant(file, grants::objects(file));
        for said in [format!("this identity may not {refused}"), refused.rule()] {
            assert!(run.text.contains(&said), "without {words} it does not say `{said}`:\n{}", run.text);
        }
    }

    /// Who has no right at all is told every rule of the manifests.
    fn nobody_is_told_every_rule(&self) {
        self.run("nobody", &["doctor"]).exits(7);
        let log = std::fs::read_to_string(self.shop.folder().join("reports/run.jsonl")).expect("a run log");
        let mut told = BTreeSet::new();
        for line in log.lines() {
            rules_in(&serde_json::from_str(line).expect("JSON"), &mut told);
        }
        let granted = RUN.iter().flat_map(|file| grants::granted(file, &grants::objects(file))).map(|grant| grant.right);
        let missing: Vec<String> =
            granted.map(|right| format!("in {}: {}", right.role(), right.rule())).filter(|rule| !told.contains(rule)).collect();
        assert!(missing.is_empty(), "doctor does not tell:\n{}", missing.join("\n"));
    }

    /// Each stage as its own identity. Before it comes to its own, it is refused for want of one right.
    fn first_run_with_rights_taken_away(&self) {
        let role = "clusterroles.rbac.authorization.k8s.io";
        self.without("lock", "create leases", &Right::new("create", "leases.coordination.k8s.io", "default"), "mesh", &["mesh"]);
        for verb in ["escalate", "bind"] {
            let right = Right::new(verb, role, "").named("istio-reader-clusterrole-istio-system");
            self.without("mesh-install", &format!("{verb} clusterroles"), &right, "mesh", &["mesh"]);
        }
        self.run("mesh", &["mesh"]).exits(0);
        self.without("deploy", "create secrets", &Right::new("create", "secrets", "pre-prod"), "deploy", &["deploy", "--service", "app1-service"]);
        self.without("deploy", "list pods", &Right::new("list", "pods", "pre-prod"), "deploy", &["deploy", "--service", "app1-service"]);
        self.run("deploy", &["deploy"]).exits(0);
        self.run("nobody", &["routes"]).exits(0);
        let ingresses = "ingresses.networking.k8s.io";
        self.without("releases", "create ingresses", &Right::new("create", ingresses, "istio-system"), "releases", &["releases"]);
        self.run("releases", &["releases"]).exits(0);
        self.without("ingress", "get ingresses", &Right::new("get", ingresses, "istio-system"), "ingress", &["ingress"]);
        self.run("ingress", &["ingress"]).exits(0);
        self.run("verify", &["verify"]).exits(0);
        self.shop.assert_answers(&self.lab);
    }

    /// Another number of replicas, a route less, an eleventh revision, a service that crashes.
    fn upgrade(&self) {
        let edit = |name: &str, from: &str, to: &str| {
            let path = self.shop.folder().join(name);
            let text = std::fs::read_to_string(&path).expect("a file of the shop");
            assert!(text.contains(from), "{name} has no {from}");
            std::fs::write(&path, text.replace(from, to)).expect("written");
        };
        let more =
            "for i in 1 2 3 4 5 6 7 8 9; do helm -n prod rollback app1-service 1 & helm -n istio-system rollback virtual-services 1; wait; done";
        self.lab.exec(&["bash", "-ec", more]);
        edit("charts/app1-prod.yaml", "replicas: 2", "replicas: 1");
        self.run("deploy", &["deploy", "--service", "app1-service"]).exits(0);
        let values = self.shop.folder().join("mesh/virtual-services-helm/values.yaml");
        self.lab.meshstep(&["routes", "remove", values.to_str().expect("UTF-8"), "--virtual-name", "app3-virtual-svc"], &[]).exits(0);
        self.run("releases", &["releases"]).exits(0);

        edit("meshstep.yaml", "registry.example/app2:", "registry.example/crash:");
        let crashed = self.run("deploy", &["deploy", "--service", "app2-service"]).exits(5);
        assert!(crashed.text.contains("no database today"), "{}", crashed.text);
        edit("meshstep.yaml", "registry.example/crash:", "registry.example/app2:");
    }

    /// The certificate incident, which leads through a whole installation again.
    fn incident(&self) {
        self.lab.exec(&["istioctl", "uninstall", "--purge", "-y"]);
        self.lab.exec(&["kubectl", "delete", "namespace", "istio-system", "--timeout=60s"]);
        self.grant_all();
        self.run("everything", &["run", "--until", "ingress"]).exits(0);
        // The hosts are broken, which is worse than the right that is missing for the cure.
        let seen = self.run("verify", &["verify"]).exits(5);
        assert!(seen.text.contains("this identity may not get leases (coordination.k8s.io) in default"), "{}", seen.text);
        self.blind();
        self.run("redeploy", &["redeploy"]).exits(0);
        self.run("everything", &["run"]).exits(0);
        self.shop.assert_answers(&self.lab);
    }

    /// Who may not look into the proxies tells what is stale by logs and age, and does not take the one workload that is not for it.
    fn blind(&self) {
        self.lab.restart("prod", "deployment/app3-service");
        for file in ["verify", "deploy"] {
            let mut objects = grants::objects(file);
            for rules in objects.iter_mut().filter_map(|object| object["rules"].as_array_mut()) {
                rules.retain(|rule| rule["resources"] != json!(["pods/portforward"]));
            }
            self.grant(file, objects);
        }
        let seen = self.run("redeploy", &["troubleshoot", "certificates"]).exits(0);
        for said in ["not read; older than the root", "not proven", "left out: listing pods: this identity may not list pods in default"] {
            assert!(seen.text.contains(said), "it does not say `{said}`:\n{}", seen.text);
        }
        let planned = self.run("redeploy", &["redeploy", "--dry-run"]).exits(0);
        let restarts = |what: &str| planned.text.matches(what).count();
        assert_eq!((restarts("would restart Deployment"), restarts("Deployment app3-service in prod")), (5, 0), "{}", planned.text);
        self.grant_all();
    }

    /// A new root, which every workload has and the gateway has not: it is the gateway that is restarted.
    fn stale_gateway(&self) {
        self.shop.forget_gateway(&self.lab);
        let cured = self.run("redeploy", &["redeploy"]).exits(0);
        assert!(cured.text.contains("istio-ingressgateway"), "{}", cured.text);
        self.shop.assert_answers(&self.lab);
    }

    /// What a workload needs is not there, nothing makes it, and no node is large enough: nothing of it is made.
    fn foresight(&self) {
        self.makers();
        let template = self.shop.folder().join("charts/service/templates/looker.yaml");
        let looker = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "looker", "labels": {"app": "looker"}},
            "spec": {"selector": {"matchLabels": {"app": "looker"}}, "template": {"metadata": {"labels": {"app": "looker"}}, "spec": {
                "containers": [{"name": "app", "image": "registry.example/app1:1", "envFrom": [{"configMapRef": {"name": "no-settings"}}],
                                "resources": {"requests": {"cpu": "9000"}},
                                "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
                "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "no-claim"}}],
            }}},
        });
        std::fs::write(&template, looker.to_string()).expect("written");
        for namespace in ["pre-prod", "prod"] {
            let refused = self.run("foresight", &["deploy", "--service", "app1-service", "--namespace", namespace]).exits(5);
            assert!(refused.text.contains("no-settings") && refused.text.contains("no-claim"), "{}", refused.text);
            assert!(self.lab.try_exec(&["kubectl", "-n", namespace, "get", "deployment", "looker"]).is_err(), "it was made");
        }
        std::fs::remove_file(template).expect("removed");
    }

    /// A cluster that knows all the kinds that make Secrets, and nodes.
    fn makers(&self) {
        let kinds = [
            ("Namespaced", "external-secrets.io", "v1", "externalsecrets", "ExternalSecret"),
            ("Namespaced", "bitnami.com", "v1alpha1", "sealedsecrets", "SealedSecret"),
            ("Namespaced", "cert-manager.io", "v1", "certificates", "Certificate"),
            ("Namespaced", "secrets-store.csi.x-k8s.io", "v1", "secretproviderclasses", "SecretProviderClass"),
            ("Cluster", "karpenter.sh", "v1", "nodepools", "NodePool"),
        ];
        let definitions = kinds.map(|(scope, group, version, plural, kind)| {
            json!({
                "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": format!("{plural}.{group}")},
                "spec": {
                    "group": group, "scope": scope, "names": {"plural": plural, "kind": kind},
                    "versions": [{"name": version, "served": true, "storage": true,
                                  "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
                },
            })
        });
        self.apply(&definitions);
        let names = kinds.map(|(_, group, _, plural, _)| format!("crd/{plural}.{group}"));
        let wait = ["kubectl", "wait", "--for=condition=Established", "--timeout=30s"];
        self.lab.exec(&wait.into_iter().chain(names.iter().map(String::as_str)).collect::<Vec<_>>());
    }

    /// Probes of every service, and a fault that they find: a Service that leads to a port where nobody listens.
    fn troubleshoot(&self) {
        self.run("troubleshoot", &["troubleshoot"]).exits(0);
        let inside = self.run("troubleshoot", &["verify", "--from", "cluster"]).exits(0);
        assert!(inside.text.contains("6 answers of 1 pod"), "{}", inside.text);
        let target = |port: &str| {
            let patch = format!(r#"[{{"op":"replace","path":"/spec/ports/0/targetPort","value":{port}}}]"#);
            self.lab.exec(&["kubectl", "-n", "prod", "patch", "service", "app1-service", "--type=json", "-p", &patch]);
        };
        let before = self.lab.exec(&["kubectl", "-n", "prod", "get", "service", "app1-service", "-o", "jsonpath={.spec.ports[0].targetPort}"]);
        target("9");
        let found = self.run("troubleshoot", &["troubleshoot", "--service", "app1-service", "--namespace", "prod"]).exits(5);
        assert!(found.text.contains("fault_in_service") && found.text.contains("port 9"), "{}", found.text);
        target(&if before.parse::<u16>().is_ok() { before } else { format!("{before:?}") });
        for namespace in ["pre-prod", "prod", "istio-system"] {
            let probes = self.lab.exec(&["kubectl", "-n", namespace, "get", "pods", "-l", "app.kubernetes.io/managed-by=meshstep", "-o", "name"]);
            assert_eq!(probes, "", "left in {namespace}");
        }
    }

    /// Everything goes, the CA too: the pods that still have sidecars are told of.
    fn cleanup(&self) {
        let cluster = self.lab.env("LAB_CLUSTER").to_owned();
        self.run("cleanup", &["cleanup", "--yes", &cluster, "--discard-ca"]).exits(0);
        assert!(self.lab.try_exec(&["kubectl", "get", "namespace", "istio-system"]).is_err(), "the namespace is still there");

        // A binding that somebody's stripped finalizer left behind.
        self.grant_all();
        let group = format!(
            "out = aws('elbv2').create_target_group(Name='left', Protocol='HTTP', Port=80, VpcId={}, TargetType='ip')['TargetGroups'][0]",
            self.lab.account()["vpc"]
        );
        let labels = json!({"ingress.k8s.aws/stack-namespace": "istio-system", "ingress.k8s.aws/stack-name": "gw-ingress"});
        self.apply(&[json!({
            "apiVersion": "elbv2.k8s.aws/v1beta1", "kind": "TargetGroupBinding",
            "metadata": {"name": "left", "namespace": "istio-system", "labels": labels},
            "spec": {"serviceRef": {"name": "gone", "port": 80}, "targetGroupARN": self.lab.aws(&group)["TargetGroupArn"], "targetType": "ip"},
        })]);
        let again = self.run("cleanup", &["cleanup", "--yes", &cluster]).exits(0);
        let left = self.lab.exec(&["kubectl", "get", "targetgroupbindings", "-A", "-o", "name"]);
        assert_eq!(left, "", "{}", again.text);
    }

    /// Each rule and each binding served at least one call that was let through.
    fn assert_all_used(&self) {
        let grants: BTreeMap<&str, Vec<grants::Grant>> =
            rights::GROUPS.iter().map(|file| (*file, grants::granted(file, &grants::objects(file)))).collect();
        let log = std::fs::read_to_string(self.lab.run_folder().join("log/audit.log")).expect("an audit log");
        let (mut rules, mut bindings, mut without) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for line in log.lines() {
            let event: Value = serde_json::from_str(line).expect("JSON");
            let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            let Some((_, files)) = IDENTITIES.iter().find(|(who, _)| *who == text("/user/username")) else { continue };
            let code = event.pointer("/responseStatus/code").and_then(Value::as_u64).unwrap_or_default();
            let mut verbs = vec![text("/verb")];
            if text("/verb") == "patch" && code == 201 {
                verbs.push("create"); // an apply that makes the object
            }
            if code == 403 {
                without.insert(format!(
                    "{} {} {} in {}",
                    text("/verb"),
                    text("/objectRef/resource"),
                    text("/objectRef/name"),
                    text("/objectRef/namespace")
                ));
                continue;
            }
            for verb in verbs {
                let serves = |grant: &&grants::Grant| {
                    let right = &grant.right;
                    let called = [verb, text("/objectRef/apiGroup"), text("/objectRef/resource"), text("/objectRef/subresource")];
                    called == [right.verb.as_str(), right.group.as_str(), right.resource.as_str(), right.subresource.as_str()]
                        && (right.namespace.is_empty() || right.namespace == text("/objectRef/namespace"))
                        && (right.name.is_empty() || right.name == text("/objectRef/name"))
                };
                let served: Vec<(&str, &grants::Grant)> = files.iter().filter_map(|file| Some((*file, grants[file].iter().find(serves)?))).collect();
                // What two manifests of one identity grant says nothing of either.
                if let [(file, grant)] = served.as_slice() {
                    rules.insert((*file, grant.role.clone(), Right { namespace: String::new(), ..grant.right.clone() }));
                    bindings.insert((*file, grant.role.clone(), grant.right.namespace.clone()));
                }
            }
        }
        println!("   {} rules used; asked for without a right: {}", rules.len(), without.len());
        let mut spare = BTreeSet::new();
        for (file, grants) in &grants {
            for grants::Grant { role, right } in grants {
                let words = right.to_string();
                let unlogged = UNLOGGED.iter().any(|unlogged| words.starts_with(unlogged));
                if !unlogged && !rules.contains(&(*file, role.clone(), Right { namespace: String::new(), ..right.clone() })) {
                    spare.insert(format!("{file}.yaml, role {role}: {} was never needed", right.rule()));
                }
                if !bindings.contains(&(*file, role.clone(), right.namespace.clone())) {
                    spare.insert(format!("{file}.yaml: the binding of {role} in {:?} was never needed", right.namespace));
                }
            }
        }
        let (spare, without): (Vec<String>, Vec<String>) = (spare.into_iter().collect(), without.into_iter().collect());
        assert!(spare.is_empty(), "{}\nrefused on the way:\n{}", spare.join("\n"), without.join("\n"));
    }
}

/// The lines of every text that grant a rule.
fn rules_in(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => found.extend(text.lines().filter(|line| line.contains("- {apiGroups")).map(str::to_owned)),
        Value::Array(items) => items.iter().for_each(|item| rules_in(item, found)),
        Value::Object(map) => map.values().for_each(|item| rules_in(item, found)),
        _ => {}
    }
}
