//! Logs, port-forward and eviction.

use std::sync::Arc;

use futures::{AsyncBufReadExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, EvictParams, LogParams};
use meshstep::sandbox::api::{Duplex, Log, LogLine, Options};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use crate::{Cluster, refused, running_pod};

fn line(second: i64, text: &str) -> LogLine {
    LogLine { at: jiff::Timestamp::from_second(second).unwrap(), text: text.into() }
}

#[tokio::test]
async fn logs_are_cut_refused_and_followed() {
    let (sender, receiver) = mpsc::channel(4);
    let more = std::sync::Mutex::new(Some(receiver));
    let logs: meshstep::sandbox::api::Logs = Arc::new(move |request| {
        let lines = vec![line(1, "one"), line(2, "two"), line(3, "three")];
        Ok(Log { lines, more: if request.follow { more.lock().unwrap().take() } else { None } })
    });
    let cluster = Cluster::with(Options { logs, ..Options::default() }).await;
    cluster.store.create("pods", running_pod("web-1")).unwrap();
    let mut waiting = running_pod("web-2");
    waiting["status"]["containerStatuses"][0]["state"] = json!({"waiting": {"reason": "ImagePullBackOff"}});
    cluster.store.create("pods", waiting).unwrap();
    let pods: Api<Pod> = Api::namespaced(cluster.client().await, "prod");
    let tail = LogParams { tail_lines: Some(2), ..LogParams::default() };
    assert_eq!(pods.logs("web-1", &tail).await.unwrap(), "two\nthree\n");
    let (code, _, message) = refused(pods.logs("web-2", &LogParams::default()).await);
    assert_eq!((code, message.as_str()), (400, "container \"app\" in pod \"web-2\" is waiting to start: trying and failing to pull image"));
    let previous = LogParams { previous: true, ..LogParams::default() };
    assert_eq!(refused(pods.logs("web-1", &previous).await).2, "previous terminated container \"app\" in pod \"web-1\" not found");

    let follow = LogParams { follow: true, tail_lines: Some(1), timestamps: true, ..LogParams::default() };
    let mut lines = pods.log_stream("web-1", &follow).await.unwrap().lines();
    assert_eq!(lines.try_next().await.unwrap().unwrap(), "1970-01-01T00:00:03.000000000Z three");
    sender.send(line(4, "four")).await.unwrap();
    assert_eq!(lines.try_next().await.unwrap().unwrap(), "1970-01-01T00:00:04.000000000Z four");
    drop(sender);
    assert_eq!(lines.try_next().await.unwrap(), None);
}

#[tokio::test]
async fn a_port_is_forwarded_and_a_refused_one_says_so() {
    let forward: meshstep::sandbox::api::Forward = Arc::new(|_, pod, port| {
        let greeting = format!("{pod}:{port} ");
        Box::pin(async move {
            if port != 8000 {
                return Err("connection refused".to_owned());
            }
            let (ours, mut theirs) = tokio::io::duplex(1024);
            tokio::spawn(async move {
                let mut asked = [0; 5];
                theirs.read_exact(&mut asked).await?;
                theirs.write_all(greeting.as_bytes()).await?;
                theirs.write_all(&asked).await
            });
            Ok(Box::new(ours) as Box<dyn Duplex>)
        })
    });
    let cluster = Cluster::with(Options { forward, ..Options::default() }).await;
    cluster.store.create("pods", running_pod("web-1")).unwrap();
    let pods: Api<Pod> = Api::namespaced(cluster.client().await, "prod");
    let mut forwarded = pods.portforward("web-1", &[8000, 9]).await.unwrap();
    let mut stream = forwarded.take_stream(8000).unwrap();
    stream.write_all(b"hello").await.unwrap();
    let mut answer = vec![0; 16];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(String::from_utf8(answer).unwrap(), "web-1:8000 hello");
    let error = forwarded.take_error(9).unwrap().await;
    assert_eq!(error.as_deref(), Some("error forwarding port 9 to pod web-1, uid : connection refused"));
    assert!(pods.portforward("none", &[80]).await.is_err());
}

#[tokio::test]
async fn an_eviction_deletes_unless_a_budget_forbids_it() {
    let cluster = Cluster::start().await;
    cluster.store.create("pods", running_pod("web-1")).unwrap();
    let budget = json!({"metadata": {"namespace": "prod", "name": "b"}, "spec": {"selector": {"matchLabels": {"app": "web"}}}, "status": {"disruptionsAllowed": 0}});
    cluster.store.create("poddisruptionbudgets.policy", budget).unwrap();
    let url = format!("{}/api/v1/namespaces/prod/pods/web-1/eviction", cluster.server.url());
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "web-1", "namespace": "prod"}});
    let held = cluster.http().post(url).bearer_auth("t").json(&eviction).send().await.unwrap();
    assert_eq!(held.status(), 429);
    assert!(held.text().await.unwrap().contains("Cannot evict pod as it would violate the pod's disruption budget."));
    cluster.store.delete("poddisruptionbudgets.policy", "prod", "b").unwrap();
    let pods: Api<Pod> = Api::namespaced(cluster.client().await, "prod");
    pods.evict("web-1", &EvictParams::default()).await.unwrap();
    assert_eq!(pods.get_opt("web-1").await.unwrap(), None);
}
