//! The shop of `pipelines/` in the lab, and what must be true of it.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::support::{Lab, Run, eventually, runtime};

/// A copy of `pipelines/` for the lab: its cluster, its Region, hosts that its load balancer has a certificate for.
pub(crate) struct Shop {
    folder: TempDir,
}

impl Shop {
    pub(crate) fn copy(lab: &Lab) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let renames = [
            ("public.domain", "example.com"),
            ("shop-eks", lab.env("LAB_CLUSTER")),
            ("ap-southeast-1", lab.env("AWS_REGION")),
            ("max-workloads: 5", "max-workloads: 6"),
        ];
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines"), folder.path(), &|text| {
            renames.iter().fold(text, |text, (from, to)| text.replace(from, to))
        });
        lab.images(&[("app1", 8000), ("app2", 8001), ("app3", 8002)]);
        Self { folder }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn reports(&self) -> PathBuf {
        self.folder.path().join("reports")
    }

    pub(crate) fn run(&self, lab: &Lab, helm: &str, more: &[&str]) -> Run {
        self.command(lab, helm, "run", more)
    }

    /// A command of the tool on the shop's file.
    pub(crate) fn command(&self, lab: &Lab, helm: &str, name: &str, more: &[&str]) -> Run {
        let helm = lab.exec(&["which", helm]);
        let args = self.args(name, more, &self.reports());
        lab.meshstep(&args.iter().map(String::as_str).collect::<Vec<_>>(), &[("MESHSTEP_HELM", helm.trim())])
    }

    /// The same, started and left running; its reports have a folder of their own.
    pub(crate) fn spawn(&self, lab: &Lab, name: &str, more: &[&str], reports: &str) -> Child {
        let mut command = lab.command(env!("CARGO_BIN_EXE_meshstep"));
        command.env_remove("KUBECONFIG").args(self.args(name, more, &self.folder.path().join(reports)));
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("meshstep starts")
    }

    fn args(&self, name: &str, more: &[&str], reports: &Path) -> Vec<String> {
        let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        let file = text(&self.folder.path().join("meshstep.yaml"));
        let words = name.split(' ').chain(["--file", &file, "--report-dir"]).map(str::to_owned);
        words.chain([text(reports), "-v".to_owned()]).chain(more.iter().map(ToString::to_string)).collect()
    }

    /// Changes the pipeline file.
    pub(crate) fn edit(&self, from: &str, to: &str) {
        let file = self.folder.path().join("meshstep.yaml");
        let text = std::fs::read_to_string(&file).expect("the file");
        assert!(text.contains(from), "`{from}` is not in the file");
        std::fs::write(&file, text.replace(from, to)).expect("written");
    }

    /// A new root, which every workload of the shop has and the gateway has not. Now and then the gateway's proxy comes by it without a
    /// restart; then there is another one.
    pub(crate) fn forget_gateway(&self, lab: &Lab) {
        const SHOP: [&str; 2] = ["pre-prod", "prod"];
        for _ in 0..3 {
            lab.renew_root(&SHOP);
            SHOP.iter().for_each(|namespace| lab.restart(namespace, "deployment"));
            if runtime().block_on(lab.answers(Duration::from_secs(20), "app2.example.com", 503)).is_ok() {
                return;
            }
            println!("   the gateway serves with a root that it did not have: another one");
        }
        panic!("three roots, and the gateway took each of them without a restart");
    }

    /// Each host answers through the load balancer from its own namespace; internal names are not published.
    pub(crate) fn assert_answers(&self, lab: &Lab) {
        let address = lab.address();
        for app in 1..=3 {
            for (namespace, host) in [("prod", format!("app{app}.example.com")), ("pre-prod", format!("app{app}-pre.example.com"))] {
                let body = eventually(Duration::from_secs(5), &host, || match lab.get(&address, &host, "/")? {
                    (200, body) => Ok(body),
                    other => Err(format!("{other:?}")),
                });
                assert!(body.contains("URI=spiffe://cluster.local/ns/istio-system/"), "{host} did not come through the gateway with mTLS: {body}");
                assert!(
                    body.contains(&format!("By=spiffe://cluster.local/ns/{namespace}/sa/app{app}-service")),
                    "{host} is served by another: {body}"
                );
            }
        }
        let (status, _) = lab.get(&address, "app1-service.prod.svc.cluster.local", "/").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(status, 404, "an internal name is reachable from outside");
    }

    /// A report per stage, with cases and without a failure.
    pub(crate) fn assert_reports(&self) {
        let mut stages = Vec::new();
        for entry in std::fs::read_dir(self.reports()).expect("reports were written") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if let Some(stage) = name.strip_prefix("TEST-").and_then(|name| name.strip_suffix(".xml")) {
                let xml = std::fs::read_to_string(&path).expect("UTF-8");
                assert!(xml.contains("<testcase"), "{name} is empty");
                assert!(!xml.contains("<failure") && !xml.contains("<error"), "{name}: {xml}");
                stages.push(stage.to_owned());
            }
        }
        for stage in ["doctor", "connect", "mesh", "deploy", "routes", "releases", "ingress", "verify"] {
            assert!(stages.iter().any(|s| s.contains(stage)), "no report of {stage}: {stages:?}");
        }
    }
}

/// Copies a folder of text files, each through `edit`.
fn copy(from: &Path, to: &Path, edit: &dyn Fn(String) -> String) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("pipelines/ is there") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target, edit);
        } else {
            std::fs::write(&target, edit(std::fs::read_to_string(&path).expect("UTF-8"))).expect("written");
        }
    }
}
