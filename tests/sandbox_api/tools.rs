//! The real helm, 3 and 4, against the served cluster.

use std::path::Path;
use std::process::Command;

use meshstep::cli::helm;
use meshstep::clients::settings::Settings;
use meshstep::clients::tools::Tools;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::Cluster;

fn chart(dir: &Path) {
    std::fs::create_dir_all(dir.join("templates")).unwrap();
    std::fs::write(dir.join("Chart.yaml"), "apiVersion: v2\nname: vs\nversion: 0.1.0\n").unwrap();
    std::fs::write(dir.join("values.yaml"), "host: a.public.domain\n").unwrap();
    let virtual_service = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: app1}\nspec:\n  hosts: [{{ .Values.host }}]\n";
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: app1}\nspec:\n  selector: {app: app1}\n  ports: [{name: http, port: 8000}]\n";
    std::fs::write(dir.join("templates/all.yaml"), format!("{virtual_service}---\n{service}")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn both_helms_install_upgrade_roll_back_and_uninstall() {
    meshstep::clients::install_crypto_provider();
    let tools = Tools::new(Settings::from_process([]), CancellationToken::new());
    let tell = |line: &str| println!("{line}");
    let four = helm::provide(&tools, tell).await.unwrap_or_else(|fault| panic!("{fault}: {:?}", fault.evidence));
    let three = helm::pinned(&helm::HELM_3, &tools, tell).await.unwrap_or_else(|fault| panic!("{fault}: {:?}", fault.evidence));
    let cluster = Cluster::start().await;
    for helm in [four, three] {
        life(&cluster, &helm);
    }
}

/// The life of a release.
fn life(cluster: &Cluster, helm: &Path) {
    let dir = tempfile::tempdir().unwrap();
    chart(&dir.path().join("vs"));
    std::fs::write(dir.path().join("kubeconfig"), cluster.server.kubeconfig("sandbox", "token")).unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::new(helm);
        command.args(args).args(["-n", "prod"]).current_dir(dir.path());
        command.env("KUBECONFIG", dir.path().join("kubeconfig")).env("HOME", dir.path());
        let out = command.output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    let hosts = || cluster.store.get("virtualservices.networking.istio.io", "prod", "app1").map(|o| o["spec"]["hosts"][0].clone());
    run(&["upgrade", "--install", "vs", "./vs", "--wait", "--timeout", "20s"]);
    assert_eq!(hosts(), Some("a.public.domain".into()));
    run(&["upgrade", "--install", "vs", "./vs", "--set", "host=b.public.domain", "--dry-run=server"]);
    assert_eq!(hosts(), Some("a.public.domain".into()));
    run(&["upgrade", "--install", "vs", "./vs", "--set", "host=b.public.domain"]);
    assert_eq!(hosts(), Some("b.public.domain".into()));
    let history: Value = serde_json::from_str(&run(&["history", "vs", "-o", "json"])).unwrap();
    assert_eq!(history.as_array().map(Vec::len), Some(2));
    run(&["rollback", "vs", "1"]);
    assert_eq!(hosts(), Some("a.public.domain".into()));
    let values: Value = serde_json::from_str(&run(&["list", "-o", "json"])).unwrap();
    assert_eq!((values[0]["revision"].as_str(), values[0]["status"].as_str()), (Some("3"), Some("deployed")));
    run(&["uninstall", "vs", "--wait", "--timeout", "20s"]);
    assert_eq!(hosts(), None);
}
