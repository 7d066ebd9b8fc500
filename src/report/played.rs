//! A made-up run in which everything happens once: what tests and snapshots of this room are drawn from.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::base::codes::Code;
use crate::base::fault::Fault;
use crate::base::place::Place;
use crate::engine::event::{Attempt, CaseEnd, CaseId, Event, Stamped};
use crate::engine::outcome::{Change, Outcome};

/// Events with a clock that goes on with each case.
pub(super) struct Play {
    pub(super) at: Timestamp,
    pub(super) events: Vec<Stamped>,
    stage: String,
    stage_start: Timestamp,
    start: Timestamp,
}

/// A case in the making.
pub(super) struct Scene(CaseEnd);

pub(super) fn case(service: &str, name: &str) -> Scene {
    Scene(CaseEnd {
        case: CaseId { stage: String::new(), service: (!service.is_empty()).then(|| service.to_owned()), name: name.to_owned() },
        started: Timestamp::UNIX_EPOCH,
        seconds: Duration::ZERO,
        outcome: Outcome::Passed { change: Change::None, note: String::new() },
        place: None,
        attempts: Vec::new(),
        warnings: Vec::new(),
        properties: Vec::new(),
        output: String::new(),
    })
}

impl Scene {
    fn outcome(mut self, outcome: Outcome) -> Self {
        self.0.outcome = outcome;
        self
    }

    pub(super) fn unchanged(self, note: &str) -> Self {
        self.outcome(Outcome::Passed { change: Change::None, note: note.into() })
    }

    pub(super) fn changed(self, note: &str) -> Self {
        self.outcome(Outcome::Passed { change: Change::Changed, note: note.into() })
    }

    pub(super) fn would_change(self, note: &str) -> Self {
        self.outcome(Outcome::Passed { change: Change::WouldChange, note: note.into() })
    }

    pub(super) fn repaired(self, story: &str) -> Self {
        self.outcome(Outcome::Repaired { story: story.into() })
    }

    pub(super) fn skipped(self, reason: &str) -> Self {
        self.outcome(Outcome::Skipped { reason: reason.into() })
    }

    pub(super) fn failed(self, fault: Fault) -> Self {
        self.outcome(Outcome::Failed(Box::new(fault)))
    }

    pub(super) fn place(mut self, line: u32) -> Self {
        self.0.place = Some(Place::new("meshstep.yaml", line, 5));
        self
    }

    pub(super) fn attempt(mut self, fault: Fault) -> Self {
        self.0.attempts.push(Attempt { at: "2026-11-22T22:04:00Z".parse().expect("a time"), fault });
        self
    }

    pub(super) fn warning(mut self, text: &str) -> Self {
        self.0.warnings.push(text.into());
        self
    }

    pub(super) fn property(mut self, name: &str, value: &str) -> Self {
        self.0.properties.push((name.into(), value.into()));
        self
    }

    pub(super) fn output(mut self, text: &str) -> Self {
        self.0.output.push_str(text);
        self
    }
}

impl Play {
    pub(super) fn new(run_id: &str, stages: &[&str], dry_run: bool) -> Self {
        let at = "2026-11-22T22:04:05.123Z".parse().expect("a time");
        let mut play = Self { at, events: Vec::new(), stage: String::new(), stage_start: at, start: at };
        play.emit(Event::RunStarted {
            run_id: run_id.into(),
            tool: "meshstep 0.1.0".into(),
            pipeline: "shop".into(),
            environment: "staging".into(),
            stages: stages.iter().map(ToString::to_string).collect(),
            hostname: "agent-1".into(),
            build_url: Some("https://jenkins.example/job/shop/17/".into()),
            dry_run,
        });
        play
    }

    pub(super) fn emit(&mut self, event: Event) {
        self.events.push(Stamped { at: self.at, event });
    }

    fn pass(&mut self, ms: i64) {
        self.at += SignedDuration::from_millis(ms);
    }

    pub(super) fn stage(&mut self, stage: &str) {
        self.stage = stage.into();
        self.stage_start = self.at;
        self.emit(Event::StageStarted { stage: stage.into() });
    }

    pub(super) fn end_stage(&mut self) {
        let seconds = self.since(self.stage_start);
        self.emit(Event::StageEnded { stage: self.stage.clone(), seconds });
    }

    fn since(&self, start: Timestamp) -> Duration {
        Duration::try_from(self.at.duration_since(start)).expect("time goes forward")
    }

    /// Starts a case of the stage that waits for something, and lets it wait.
    pub(super) fn waits(&mut self, service: &str, name: &str, progress: &str) {
        let case = CaseId { stage: self.stage.clone(), ..case(service, name).0.case };
        self.emit(Event::CaseStarted { case: case.clone() });
        self.emit(Event::Progress { case, text: progress.into() });
    }

    pub(super) fn ends(&mut self, ms: i64, scene: Scene) {
        let Scene(mut end) = scene;
        end.case.stage.clone_from(&self.stage);
        end.started = self.at;
        self.pass(ms);
        end.seconds = self.since(end.started);
        self.emit(Event::CaseEnded(Box::new(end)));
    }

    pub(super) fn end(mut self, exit: u8) -> Vec<Stamped> {
        let seconds = self.since(self.start);
        self.emit(Event::RunEnded { exit, seconds });
        self.events
    }
}

/// All outcomes, with the texts of real tools.
pub(super) fn all() -> Vec<Stamped> {
    let mut play = Play::new("jenkins-shop-17", &["connect", "mesh", "deploy", "ingress", "verify", "cleanup"], false);
    play.stage("connect");
    play.ends(420, case("", "cluster shop-eks").unchanged("ACTIVE, v1.33, ap-southeast-1"));
    play.ends(30, case("", "kubeconfig").changed("written for this run only"));
    play.end_stage();

    play.stage("mesh");
    play.emit(Event::Note { stage: "mesh".into(), text: "helm 4.3.1 found in `/usr/local/bin/helm`".into() });
    play.ends(310, case("", "istio control plane").unchanged("1.30.1, profile default"));
    play.ends(120, case("", "label namespace pre-prod").changed("istio-injection=enabled").place(9));
    let warning = "`preserve` profile keys are ignored since 1.29; remove them from `mesh.set`";
    play.ends(95, case("", "apply mesh/common.yaml").unchanged("3 objects").warning(warning).place(11));
    play.end_stage();

    play.stage("deploy");
    play.waits("app1-service", "rollout pre-prod", "1 of 2 ready: pod app1-service-5d4f-x2k9q is starting");
    play.ends(12_400, case("app1-service", "rollout pre-prod").changed("2/2 ready, registry.example/app1:1.4.9").place(22));
    let flaky = Fault::new(Code::ApiFailed, "the API server answered 429 TooManyRequests");
    play.ends(1_900, case("app1-service", "sidecar pre-prod").unchanged("2 of 2 pods").attempt(flaky));
    let evidence = "Failed to pull image \"registry.example/app2:1.4.9\": rpc error: code = NotFound desc = failed to pull and unpack image \
                    \"registry.example/app2:1.4.9\": failed to resolve reference: registry.example/app2:1.4.9: not found";
    let fault = Fault::new(Code::ImageNotFound, "image `registry.example/app2:1.4.9` of container `app` does not exist")
        .evidence("event of pod app2-service-7d9f-x2k9q in pre-prod", evidence)
        .evidence("containers", "app          waiting  ImagePullBackOff\nistio-proxy  running  ready");
    play.waits("app2-service", "rollout pre-prod", "0 of 2 ready: ImagePullBackOff");
    play.ends(3_100, case("app2-service", "rollout pre-prod").failed(fault).place(31).property("rollout.revision", "7"));
    play.ends(0, case("app3-service", "rollout pre-prod").skipped("filtered by --service"));
    play.end_stage();

    play.stage("ingress");
    let states: String = (1..=60).map(|n| format!("22:{:02}:10 i-0{n:02}a1b2c zone a unhealthy Target.FailedHealthChecks\n", n % 60)).collect();
    let fault = Fault::new(
        Code::IngressTimeout,
        "no target of the load balancer got healthy in 10 min: Health checks failed with these codes: [404]",
    )
    .evidence("target health, every 10 s", states)
    .next("compare the target group's health check path with the gateway's status port (`/healthz/ready` on 15021)")
    .next("aws elbv2 describe-target-health --target-group-arn arn:aws:elasticloadbalancing:ap-southeast-1:111122223333:targetgroup/k8s/73e2d6bc");
    play.ends(600_400, case("", "targets healthy gw-ingress").failed(fault).place(58).property("alb.dns", "gw-1234.elb.example"));
    play.end_stage();

    play.stage("verify");
    let stale = Fault::new(Code::StaleCertificate, "503 from the gateway: CERTIFICATE_VERIFY_FAILED").evidence(
        "istio-proxy log of app1-service-5d4f-x2k9q",
        "failed to generate workload certificate: x509: certificate signed by unknown authority",
    );
    let story = "the gateway answered 503 CERTIFICATE_VERIFY_FAILED for app1.public.domain; istio-proxy of app1-service in prod still has the root \
                 of 2026-05-01; the workload was restarted once; the host answers 200 and its root is the mesh's";
    let curl = "curl -sv --connect-to ::gw-1234.elb.example:80 http://app1.public.domain/";
    play.ends(41_000, case("app1-service", "GET app1.public.domain/").repaired(story).attempt(stale).property("curl", curl));
    let status = |n: u16| Fault::new(Code::HttpStatus, format!("expected 200, got {n}"));
    let last = status(503)
        .evidence("response", "HTTP/1.1 503 Service Unavailable\nserver: istio-envoy\n\nupstream connect error or disconnect/reset before headers")
        .next("read the service's log: `kubectl logs -n prod -l app=app2-service --all-containers`");
    let scene = case("app2-service", "GET app2.public.domain/").failed(last).attempt(status(502)).attempt(status(503)).place(44);
    play.ends(
        61_204,
        scene.property("curl", "curl -sv --connect-to ::gw-1234.elb.example:80 http://app2.public.domain/").property("http.status", "503"),
    );
    let denied = Fault::new(Code::Forbidden, "this identity may not `get pods/log` in namespace prod")
        .next("add `{apiGroups: [\"\"], resources: [pods/log], verbs: [get]}` to the job's Role in prod");
    play.ends(80, case("app3-service", "proxy log prod").failed(denied));
    play.end_stage();

    play.stage("cleanup");
    play.ends(0, case("", "cleanup").skipped("needs verify (failed)"));
    play.end_stage();
    play.end(5)
}

/// A second run that finds everything as it should be.
pub(super) fn quiet() -> Vec<Stamped> {
    let mut play = Play::new("jenkins-shop-18", &["connect", "deploy"], false);
    play.stage("connect");
    play.ends(300, case("", "cluster shop-eks").unchanged("ACTIVE"));
    play.end_stage();
    play.stage("deploy");
    play.ends(700, case("app1-service", "rollout prod").unchanged("2/2 ready"));
    play.end_stage();
    play.end(0)
}

/// A dry run that would change something.
pub(super) fn dry() -> Vec<Stamped> {
    let mut play = Play::new("jenkins-shop-19", &["routes"], true);
    play.stage("routes");
    play.ends(12, case("app1-service", "virtualservice app1-virtual-svc").would_change("1 host added: app1-new.public.domain").output(
        "--- values.yaml\n+++ values.yaml\n@@ -8,3 +8,4 @@\n         hosts:\n           - app1.public.domain\n+          - app1-new.public.domain\n",
    ));
    play.end_stage();
    play.end(0)
}

/// A run that was interrupted while two cases ran.
pub(super) fn aborted() -> Vec<Stamped> {
    let mut play = Play::new("jenkins-shop-20", &["deploy", "verify"], false);
    play.stage("deploy");
    play.waits("app1-service", "rollout prod", "0 of 2 ready");
    play.waits("app2-service", "rollout prod", "1 of 2 ready");
    let why = Fault::new(Code::Cancelled, "interrupted by SIGTERM; last seen: 0 of 2 ready");
    play.ends(9_000, case("app1-service", "rollout prod").failed(why));
    play.end_stage();
    play.stage("verify");
    play.ends(0, case("", "verify").skipped("not started: aborted"));
    play.end_stage();
    play.end(143)
}
