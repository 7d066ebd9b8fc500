//! `from: cluster`: what is to be asked is gathered, and one short-lived pod at a time asks all of it.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::mutex::lock;
use crate::base::text;
use crate::base::wait::Queue;
use crate::clients::http::NetError;
use crate::clients::kube::Cluster;
use crate::domain::probe::curl::transfer;
use crate::domain::probe::pod::lanes;
use crate::domain::probe::{Request, Transfer};
use crate::engine::Ctx;
use crate::engine::record::{Case, Done};
use crate::stages::probe::{self, Asking};
use crate::stages::{Pipeline, Shared};

/// The case that tells of the pods.
pub const PODS: &str = "probe pods";
/// Requests of a pod that are made side by side.
const LANES: usize = 8;
/// What one pod is given to ask at most.
const MOST: usize = 400;
/// What is asked within this time goes into the same pod.
const GATHER: Duration = Duration::from_millis(500);

/// Why there is no answer.
pub enum Unheard {
    Net(NetError),
    /// It was asked, and nobody knows what came of it.
    Lost(Box<Fault>),
    /// It was not asked.
    Unasked(String),
}

/// Asks from inside. Cheap to clone; the pods' case ends with its last clone.
#[derive(Clone)]
pub struct Inside {
    errands: mpsc::UnboundedSender<Errand>,
    /// The pods bring certificates that are to be trusted.
    pub trusts: bool,
    /// Where to read why no pod asks.
    needs: &'static str,
}

struct Errand {
    request: Request,
    /// The pod that asks it runs.
    begun: oneshot::Sender<()>,
    told: oneshot::Sender<Option<Transfer>>,
}

/// The pods' side.
pub struct Pods {
    errands: mpsc::UnboundedReceiver<Errand>,
    cacert: Option<String>,
}

/// Both sides. `needs`: the case that says why, if no pod asks.
pub fn open(cacert: Option<String>, needs: &'static str) -> (Inside, Pods) {
    let (sender, errands) = mpsc::unbounded_channel();
    (Inside { errands: sender, trusts: cacert.is_some(), needs }, Pods { errands, cacert })
}

/// Where the probe pods of `verify` live: always the same namespace of a file, so that the next run finds what a killed one left.
pub fn home(pipeline: &Pipeline) -> &str {
    pipeline.services.iter().flat_map(|service| &service.namespaces).next().map_or("default", |namespace| namespace.name())
}

impl Inside {
    /// Until a pod runs that asks it, it stands in the queue: that an image is pulled, or that a former pod is at work, says nothing of a host.
    ///
    /// # Errors
    /// When no pod asks, or its log says nothing of it.
    pub async fn ask(&self, request: Request, queue: &Queue) -> std::result::Result<Transfer, Unheard> {
        let (begun, begins) = oneshot::channel();
        let (told, answer) = oneshot::channel();
        let unasked = || Unheard::Unasked(format!("needs '{}' (failed)", self.needs));
        self.errands.send(Errand { request, begun, told }).map_err(|_| unasked())?;
        // Where no pod comes to run, the answer says so.
        _ = queue.stand(begins).await;
        let lost = || Unheard::Lost(Box::new(Fault::new(Code::ProbeFailed, "the probe pod's log says nothing of it")));
        answer.await.map_err(|_| unasked())?.ok_or_else(lost)
    }
}

impl Pods {
    /// Runs a pod whenever there is something to ask, until nobody asks any more.
    pub async fn work(mut self, ctx: &Ctx<Shared>, cluster: &Cluster, case: &Case) -> Result<Done> {
        let params = ctx.shared.pipeline.troubleshoot.clone().unwrap_or_default();
        let namespace = home(&ctx.shared.pipeline);
        let (mut pods, mut asked) = (0, 0);
        while let Some(first) = self.errands.recv().await {
            let errands = self.gather(first).await;
            let pod = probe::name();
            let named = |n: usize| format!("{pod}-{n}");
            let requests: Vec<Request> = errands.iter().enumerate().map(|(n, errand)| Request { name: named(n), ..errand.request.clone() }).collect();
            case.output(&format!("{namespace}/{pod}: {}", text::count(requests.len(), "request")));
            case.progress(format!("{} from inside the cluster", text::count(requests.len(), "request")));
            let asking = Asking { pod: &pod, namespace, lanes: &lanes(requests, LANES), cacert: self.cacert.as_deref() };
            let (begun, told): (Vec<_>, Vec<_>) = errands.into_iter().map(|errand| (errand.begun, errand.told)).unzip();
            let begun = Mutex::new(begun);
            // Who does not wait any more needs to hear nothing.
            let begins = || lock(&begun).drain(..).for_each(|begun| _ = begun.send(()));
            let log = probe::run_and_tell(ctx, cluster, &params, &asking, case, &begins).await?;
            (pods, asked) = (pods + 1, asked + told.len());
            for (n, told) in told.into_iter().enumerate() {
                _ = told.send(transfer(&log, &named(n)));
            }
        }
        let note = format!("{} of {} in {namespace}; of a name's addresses curl takes one", text::count(asked, "answer"), text::count(pods, "pod"));
        Ok(Done::unchanged((), note))
    }

    async fn gather(&mut self, first: Errand) -> Vec<Errand> {
        let (mut errands, until) = (vec![first], Instant::now() + GATHER);
        while errands.len() < MOST
            && let Ok(Some(more)) = timeout_at(until, self.errands.recv()).await
        {
            errands.push(more);
        }
        errands
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_asked_together_is_gathered() {
        let (inside, mut pods) = open(None, PODS);
        let asking = |url: &str| {
            let (inside, request) = (inside.clone(), Request { url: url.to_owned(), ..Request::default() });
            tokio::spawn(async move { inside.ask(request, &Queue::default()).await })
        };
        let (a, b) = (asking("a"), asking("b"));
        let first = pods.errands.recv().await.expect("a request");
        let errands = pods.gather(first).await;
        assert_eq!(errands.iter().map(|e| e.request.url.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        let mut errands = errands.into_iter();
        let told = |errand: Option<Errand>, transfer| errand.expect("an errand").told.send(transfer).expect("somebody waits");
        told(errands.next(), Some(Transfer::default()));
        told(errands.next(), None);
        assert!(a.await.expect("ends").is_ok());
        assert!(matches!(b.await.expect("ends"), Err(Unheard::Lost(_))));
        drop(pods);
        let Err(Unheard::Unasked(why)) = asking("c").await.expect("ends") else { panic!("nobody asks") };
        assert_eq!(why, "needs 'probe pods' (failed)");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_pod_takes_to_run_is_no_time_of_the_host() {
        let (inside, mut pods) = open(None, PODS);
        let queue = Queue::default();
        let pod = async {
            let errand = pods.errands.recv().await.expect("a request");
            tokio::time::sleep(Duration::from_secs(70)).await;
            errand.begun.send(()).expect("somebody waits");
            tokio::time::sleep(Duration::from_secs(3)).await;
            errand.told.send(Some(Transfer::default())).expect("somebody waits");
        };
        let start = Instant::now();
        let (answer, ()) = tokio::join!(inside.ask(Request::default(), &queue), pod);
        assert!(answer.is_ok());
        assert_eq!((start.elapsed().as_secs(), queue.stood().as_secs()), (73, 70));
    }

    #[test]
    fn the_pods_live_in_the_first_namespace_of_the_file() {
        let pipeline = |more: serde_json::Value| -> Pipeline {
            let mut file = json!({"version": 1, "name": "shop", "cluster": {"context": "c"}});
            file.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
            serde_json::from_value(file).expect("a pipeline")
        };
        let services = json!({"services": [{"name": "a", "manifests": "a.yaml", "namespaces": ["pre-prod", "prod"]}]});
        assert_eq!(home(&pipeline(services)), "pre-prod");
        assert_eq!(home(&pipeline(json!({}))), "default");
    }
}
