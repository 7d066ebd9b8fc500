//! Pods that cannot be created, placed or given their volumes.

use super::*;

const FULL: &str = "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: 2 No preemption victims found.";

fn pending(message: &str) -> Play {
    let mut waiting_pod = pod("app1-a");
    waiting_pod.node = None;
    waiting_pod.unschedulable = Some(message.to_owned());
    let mut play = Play::of(vec![waiting_pod]);
    play.still(0.0);
    play
}

#[test]
fn no_node_takes_the_pod() {
    let mut play = pending(FULL);
    assert!(play.rollout.questions(&play.snapshot).autoscaler);
    play.snapshot.around.autoscaler = Some(false);
    progressing(play.still(14.0));
    let trouble = failed(play.still(15.1), Code::Unschedulable);
    assert_eq!(trouble.words, "no node can take it: of 2 nodes, 2 have too little cpu left");
    // It was placed in time.
    let mut play = pending(FULL);
    play.snapshot.around.autoscaler = Some(false);
    progressing(play.still(14.0));
    progressing(play.pods(16.0, |p| (p.unschedulable, p.node) = (None, Some("node-1".into()))));
}

#[test]
fn old_pods_that_will_go_make_room() {
    for (max_unavailable, fails) in [(1, false), (0, true)] {
        let mut play = pending(FULL);
        play.snapshot.around.autoscaler = Some(false);
        play.snapshot.pods.push(pod("app1-old").on("node-1").old());
        if let Some(w) = &mut play.snapshot.workload {
            (w.available, w.total, w.strategy) = (1, 2, Strategy::Rolling { max_unavailable });
        }
        match play.still(40.0) {
            Verdict::Failed(_) if fails => {}
            Verdict::Progressing { .. } if !fails => {}
            other => panic!("{max_unavailable}: {other:?}"),
        }
        // One that is on its way out always does.
        play.snapshot.pods[1].deleting = true;
        progressing(play.still(41.0));
    }
}

#[test]
fn a_new_pod_that_is_starting_will_let_an_old_one_go() {
    let mut play = pending(FULL);
    play.snapshot.around.autoscaler = Some(false);
    play.snapshot.pods.extend([pod("app1-b"), pod("app1-old").old()]);
    play.snapshot.workload.iter_mut().for_each(|w| (w.wanted, w.available, w.total) = (2, 1, 3));
    progressing(play.still(0.0));
    progressing(play.at(60.0, |s| run(s.pods[1].container("app"))));
    // It crashes instead, so it may never get ready.
    play.at(61.0, |s| crash(s.pods[1].container("app"), 1));
    play.at(62.0, |s| run(s.pods[1].container("app")));
    play.at(63.0, |s| crash(s.pods[1].container("app"), 1));
    play.at(64.0, |s| run(s.pods[1].container("app")));
    failed(play.at(65.0, |s| crash(s.pods[1].container("app"), 1)), Code::CrashLoop);
}

#[test]
fn a_pod_for_which_others_are_preempted_is_waited_for() {
    let mut play = pending(FULL);
    play.snapshot.around.autoscaler = Some(false);
    play.snapshot.pods[0].nominated = Some("node-2".into());
    assert!(progressing(play.still(60.0)).contains("the scheduler makes room for it on node-2"));
    // It changed its mind.
    failed(play.pods(61.0, |p| p.nominated = None), Code::Unschedulable);
}

#[test]
fn what_a_job_has_no_room_for_waits_for_its_other_pods() {
    let job = || {
        let mut play = pending(FULL);
        play.snapshot.around.autoscaler = Some(false);
        play.snapshot.pods.push(Pod { node: None, unschedulable: Some(FULL.into()), ..pod("app1-c") });
        play.snapshot.workload.iter_mut().for_each(|w| (w.kind, w.strategy, w.wanted) = (Kind::Job, Strategy::None, 3));
        play.still(0.1);
        play
    };
    failed(job().still(15.2), Code::Unschedulable);
    let mut play = job();
    play.snapshot.pods.push(pod("app1-b"));
    progressing(play.still(60.0));
    let said = r#"pods "app1-d" is forbidden: exceeded quota: team, requested: pods=1, used: pods=4, limited: pods=4"#;
    progressing(play.at(61.0, |s| s.events.push(event("Job", "app1", "FailedCreate", said, 61))));
    progressing(play.still(90.0));
}

#[test]
fn an_autoscaler_is_given_time_and_believed() {
    let mut play = pending(FULL);
    play.snapshot.around.autoscaler = Some(true);
    progressing(play.still(89.0));
    failed(play.still(90.5), Code::Unschedulable);
    // Not known whether there is one: as if there were.
    let mut play = pending(FULL);
    progressing(play.still(89.0));
    // It says that no pool fits.
    for (reason, message) in [
        ("NotTriggerScaleUp", "pod didn't trigger scale-up: 1 max node group size reached"),
        (
            "FailedScheduling",
            "Failed to schedule pod, incompatible with nodepool \"default\", daemonset overhead={}, no instance type satisfied resources",
        ),
    ] {
        let mut play = pending(FULL);
        play.snapshot.around.autoscaler = Some(true);
        let refuse = |s: &mut Snapshot| s.events.push(event("Pod", "app1-a", reason, message, 5));
        progressing(play.at(5.0, refuse));
        progressing(play.still(34.0));
        assert!(failed(play.still(35.5), Code::Unschedulable).words.contains("the autoscaler has no node for it"));
        // It was adding one before, which did not come.
        let mut play = pending(FULL);
        play.at(2.0, |s| s.events.push(event("Pod", "app1-a", "TriggeredScaleUp", "pod triggered scale-up", 2)));
        progressing(play.at(60.0, |s| s.events.push(event("Pod", "app1-a", reason, message, 60))));
        progressing(play.still(89.0));
        failed(play.still(90.5), Code::Unschedulable);
        // An old pod is about to make room.
        let mut play = pending(FULL);
        play.snapshot.pods.push(Pod { deleting: true, ..pod("app1-old").on("node-1").old() });
        play.at(5.0, refuse);
        progressing(play.still(60.0));
        // The service tolerates it for longer.
        let mut play = pending(FULL);
        play.be_patient(Code::Unschedulable, 50);
        play.at(5.0, refuse);
        progressing(play.still(54.0));
        failed(play.still(55.5), Code::Unschedulable);
    }
    // It is adding one.
    for reason in ["TriggeredScaleUp", "Nominated"] {
        let mut play = pending(FULL);
        play.snapshot.around.autoscaler = Some(true);
        play.at(5.0, |s| s.events.push(event("Pod", "app1-a", reason, "pod triggered scale-up", 5)));
        progressing(play.still(200.0));
    }
}

#[test]
fn one_pod_of_many_that_no_node_takes_is_waited_for() {
    for (without_node, fails) in [(1, false), (2, true)] {
        let mut pods: Vec<Pod> = ["a", "b", "c", "d"].map(|name| pod(&format!("app1-{name}")).on(&format!("node-{name}")).made_ready()).into();
        for pod in &mut pods[..without_node] {
            *pod = Pod { node: None, unschedulable: Some(FULL.to_owned()), ..self::pod(&pod.name) };
        }
        let mut play = Play::of(pods);
        play.snapshot.around.autoscaler = Some(false);
        play.still(0.0);
        match play.still(60.0) {
            Verdict::Failed(trouble) if fails => assert_eq!(trouble.code, Code::Unschedulable),
            Verdict::Progressing { .. } if !fails => assert_eq!(play.deadline().code, Code::Unschedulable),
            other => panic!("{without_node}: {other:?}"),
        }
    }
}

fn refusing(message: &str) -> Play {
    let mut play = Play::of(vec![]);
    let message = message.to_owned();
    play.at(0.0, move |s| {
        if let Some(w) = &mut s.workload {
            (w.total, w.updated) = (0, 0);
            w.conditions.push(condition("ReplicaFailure", true, "FailedCreate", &message));
        }
    });
    play
}

#[test]
fn pods_that_the_api_server_refuses() {
    for message in [
        r#"pods "app1-new-x" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false"#,
        r#"pods "app1-new-" is forbidden: error looking up service account prod/app1: serviceaccount "app1" not found"#,
        r#"admission webhook "policy.example" denied the request: image is not signed"#,
        r#"Pod "app1-new-x" is invalid: spec.containers[0].resources.requests: Invalid value: "1": must be less than or equal to cpu limit"#,
    ] {
        let mut play = refusing(message);
        progressing(play.still(4.9));
        assert_eq!(failed(play.still(5.1), Code::PodsRefused).words, format!("pods cannot be created: {message}"));
        // The ServiceAccount came a moment later.
        let mut play = refusing(message);
        progressing(play.at(4.0, |s| s.workload.iter_mut().for_each(|w| w.conditions.clear())));
        progressing(play.still(10.0));
    }
    let mut hiccup = refusing("etcdserver: request timed out");
    progressing(hiccup.still(60.0));
}

#[test]
fn quota_that_leaves_no_room() {
    let said = r#"pods "app1-new-x" is forbidden: exceeded quota: team, requested: pods=1, used: pods=4, limited: pods=4"#;
    let mut play = refusing(said);
    failed(play.still(5.1), Code::QuotaExceeded);
    // The surge fits when the old pods leave.
    let mut play = refusing(said);
    play.snapshot.pods.push(pod("app1-old").old());
    play.snapshot.workload.iter_mut().for_each(|w| (w.available, w.strategy) = (1, Strategy::Rolling { max_unavailable: 1 }));
    progressing(play.still(60.0));
    // It has left, and the controller has not tried again.
    progressing(play.at(61.0, |s| s.pods.retain(|p| p.newest)));
    // At once the quota still counts the pod that has gone.
    let soon = said.replace("app1-new-x", "app1-new-z");
    progressing(play.at(62.0, |s| s.events.push(event("ReplicaSet", "app1-new", "FailedCreate", &soon, 62))));
    progressing(play.still(70.0));
    let again = said.replace("app1-new-x", "app1-new-y");
    failed(play.at(72.0, |s| s.events.push(event("ReplicaSet", "app1-new", "FailedCreate", &again, 72))), Code::QuotaExceeded);
}

#[test]
fn webhooks_that_do_not_answer() {
    let istio = r#"Internal error occurred: failed calling webhook "namespace.sidecar-injector.istio.io": failed to call webhook: Post "https://istiod.istio-system.svc:443/inject": no endpoints available for service "istiod""#;
    let mut play = refusing(istio);
    progressing(play.still(59.0));
    failed(play.still(60.5), Code::WebhookUnreachable);
    // It may be back between two tries, which come ever more seldom.
    let tries = |s: &mut Snapshot, second: i64, count: i32| {
        s.events = vec![Event { count, ..event("ReplicaSet", "app1-new", "FailedCreate", istio, second) }];
    };
    let trying = || {
        let mut play = refusing(istio);
        play.at(1.0, |s| tries(s, 1, 8));
        play.at(41.0, |s| tries(s, 41, 14));
        assert!(progressing(play.still(81.0)).contains("the controller has not tried again yet"));
        play
    };
    progressing(trying().at(82.0, |s| {
        s.events.push(event("ReplicaSet", "app1-new", "SuccessfulCreate", "Created pod: app1-a", 82));
        s.workload.iter_mut().for_each(|w| w.conditions.clear());
        s.pods.push(pod("app1-a"));
    }));
    failed(trying().at(82.0, |s| tries(s, 82, 15)), Code::WebhookUnreachable);
    // istiod is on its way.
    let mut play = refusing(istio);
    assert!(play.rollout.questions(&play.snapshot).istiod);
    play.snapshot.around.istiod_available = Some(false);
    progressing(play.still(200.0));
    // The certificate is what is wrong: another code, and never a redeploy.
    let mut play = refusing(&format!("{istio}: tls: failed to verify certificate: x509: certificate signed by unknown authority"));
    failed(play.still(60.5), Code::InjectorUntrusted);
    assert!(!Code::InjectorUntrusted.info().restart_helps);
    // The newest event decides what it is now.
    let mut play = refusing(istio);
    play.still(30.0);
    let verdict = play.at(58.0, |s| {
        s.events.push(event("ReplicaSet", "app1-new", "FailedCreate", r#"pods "x" is forbidden: exceeded quota: team"#, 58));
    });
    progressing(verdict);
    failed(play.still(63.5), Code::QuotaExceeded);
    // Of an old ReplicaSet it says nothing.
    let mut play = Play::of(vec![pod("app1-a")]);
    progressing(play.at(1.0, |s| s.events.push(event("ReplicaSet", "app1-old", "FailedCreate", istio, 1))));
    progressing(play.still(100.0));
}

#[test]
fn a_stateful_set_tells_refusals_by_events_alone() {
    let mut play = Play::of(vec![]);
    if let Some(w) = &mut play.snapshot.workload {
        (w.kind, w.strategy, w.updated) = (Kind::StatefulSet, Strategy::Ordered { partition: 0, parallel: false }, 0);
    }
    play.at(0.0, |s| {
        s.events.push(event(
            "StatefulSet",
            "app1",
            "FailedCreate",
            r#"create Pod app1-0 failed error: pods "app1-0" is forbidden: exceeded quota"#,
            1,
        ))
    });
    failed(play.still(5.1), Code::QuotaExceeded);
    progressing(play.at(6.0, |s| s.events.push(event("StatefulSet", "app1", "SuccessfulCreate", "create Pod app1-0", 5))));
}

#[test]
fn volumes_that_are_not_bound_or_mounted() {
    let mut play = pending("0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims.");
    play.snapshot.pods[0].claims = vec!["data".into()];
    play.snapshot.events.push(event("PersistentVolumeClaim", "data", "ProvisioningFailed", "storageclass \"fast\" not found", 1));
    progressing(play.still(29.0));
    let trouble = failed(play.still(30.1), Code::VolumeFailing);
    assert_eq!(trouble.words, r#"volume claim data is not bound: ProvisioningFailed: storageclass "fast" not found"#);

    let mount = r#"MountVolume.SetUp failed for volume "conf" : configmap "conf" not found"#;
    let mut play = Play::of(vec![pod("app1-a")]);
    play.snapshot.around.makers.insert("conf".into(), Maker::Nobody);
    play.at(1.0, |s| s.events.push(event("Pod", "app1-a", "FailedMount", mount, 1)));
    progressing(play.still(30.0));
    failed(play.still(31.5), Code::VolumeFailing);
    // It was mounted after all.
    let mut play = Play::of(vec![pod("app1-a")]);
    play.at(1.0, |s| s.events.push(event("Pod", "app1-a", "FailedMount", mount, 1)));
    progressing(play.app(20.0, run));
    progressing(play.still(60.0));
}

#[test]
fn a_mount_that_failed_at_first_is_over_when_the_kubelet_goes_on() {
    let attach = r#"AttachVolume.Attach failed for volume "pv-1" : volume is in use"#;
    for (failed, message, later, said, fails) in [
        ("FailedMount", "MountVolume.SetUp failed", "Pulling", "Pulling image", false),
        ("FailedMount", "MountVolume.SetUp failed", "Pulled", "already present on machine", false),
        ("FailedMount", "MountVolume.SetUp failed", "FailedCreatePodSandBox", "no address is left", false),
        ("FailedMount", "MountVolume.SetUp failed", "SuccessfulAttachVolume", r#"succeeded for volume "pv-1""#, true),
        ("FailedAttachVolume", attach, "SuccessfulAttachVolume", r#"AttachVolume.Attach succeeded for volume "pv-1""#, false),
        ("FailedAttachVolume", attach, "SuccessfulAttachVolume", r#"AttachVolume.Attach succeeded for volume "pv-2""#, true),
        ("FailedMount", "MountVolume.SetUp failed", "Scheduled", "assigned", true),
    ] {
        let mut play = Play::of(vec![pod("app1-a")]);
        play.at(1.0, |s| s.events.push(event("Pod", "app1-a", failed, message, 1)));
        play.at(5.0, |s| s.events.push(event("Pod", "app1-a", later, said, 5)));
        assert_eq!(matches!(play.still(60.0), Verdict::Failed(_)), fails, "{failed}, then {later}: {said}");
    }
    // It fails again afterwards.
    let mut play = Play::of(vec![pod("app1-a")]);
    play.at(1.0, |s| s.events.push(event("Pod", "app1-a", "Pulling", "Pulling image", 1)));
    play.at(5.0, |s| s.events.push(event("Pod", "app1-a", "FailedMount", "MountVolume.SetUp failed", 5)));
    failed(play.still(36.0), Code::VolumeFailing);
}

#[test]
fn a_mounted_secret_that_something_makes_is_waited_for() {
    let mount = r#"MountVolume.SetUp failed for volume "tls" : secret "app1-tls" not found"#;
    let mut play = Play::of(vec![pod("app1-a")]);
    play.at(1.0, |s| s.events.push(event("Pod", "app1-a", "FailedMount", mount, 1)));
    assert_eq!(play.rollout.questions(&play.snapshot).missing.into_iter().collect::<Vec<_>>(), ["app1-tls"]);
    play.snapshot.around.makers.insert("app1-tls".into(), Maker::Is("Certificate app1 (Ready False: Issuing)".into()));
    assert!(progressing(play.still(60.0)).contains("it is made by Certificate app1 (Ready False"));
    let sum = "Unable to attach or mount volumes: unmounted volumes=[tls], unattached volumes=[]: timed out waiting for the condition";
    let reason = progressing(play.at(125.0, |s| s.events.push(event("Pod", "app1-a", "FailedMount", sum, 125))));
    assert!(reason.contains("it is made by Certificate app1"), "{reason}");
}

#[test]
fn evicted_and_lost_pods_are_told() {
    let mut play = Play::of(vec![pod("app1-a")]);
    let reason = progressing(play.at(1.0, |s| (s.pods[0].phase, s.pods[0].reason) = ("Failed".into(), "Evicted".into())));
    assert_eq!(reason, "0/1 ready, 1 pod of the new revision still to be created (1 pod taken away by the cluster)");
    play.at(5.0, |s| s.pods.push(pod("app1-b")));
    let warnings = ready(play.at(9.0, |s| {
        s.pods[1] = pod("app1-b").made_ready();
        s.workload.iter_mut().for_each(|w| w.available = 1);
    }));
    assert_eq!(warnings, ["1 pod was taken away by the cluster meanwhile and replaced: app1-a (Evicted)"]);
}

#[test]
fn pods_that_a_node_did_not_admit_are_not_counted_with_their_replacements() {
    for reason in ["OutOfcpu", "OutOfmemory", "UnexpectedAdmissionError", "NodeAffinity", "SomethingNew"] {
        let mut play = Play::of(vec![pod("app1-a"), pod("app1-b")]);
        play.at(1.0, |s| (s.pods[0].phase, s.pods[0].reason) = ("Failed".into(), reason.into()));
        let verdict = play.at(30.0, |s| {
            let app = s.pods[1].container("app");
            (app.restarts, app.last, app.state) = (3, Some(ended(1)), waiting("CrashLoopBackOff", ""));
        });
        assert_eq!(failed(verdict, Code::CrashLoop).pod.as_deref(), Some("app1-b"), "{reason}");
        // The replacement runs.
        let mut play = Play::of(vec![pod("app1-a"), pod("app1-b")]);
        play.snapshot.workload = Some(deployment(1));
        play.at(1.0, |s| (s.pods[0].phase, s.pods[0].reason) = ("Failed".into(), reason.into()));
        ready(play.at(3.0, |s| {
            s.pods[1] = pod("app1-b").made_ready();
            s.workload.iter_mut().for_each(|w| w.available = 1);
        }));
    }
}

#[test]
fn preempted_pods_and_those_of_a_lost_node_are_told_when_they_are_gone_too() {
    for reason in ["PreemptionByScheduler", "DeletionByTaintManager", "EvictionByEvictionAPI"] {
        let mut play = Play::of(vec![pod("app1-a")]);
        progressing(play.at(1.0, |s| (s.pods[0].disruption, s.pods[0].deleting) = (Some(reason.into()), true)));
        progressing(play.at(2.0, |s| s.pods = vec![pod("app1-b")]));
        let warnings = ready(play.at(3.0, all_available));
        assert_eq!(warnings, [format!("1 pod was taken away by the cluster meanwhile and replaced: app1-a ({reason})")]);
    }
    // One that was evicted long ago is no news.
    let mut old = pod("app1-old");
    (old.phase, old.reason) = ("Failed".into(), "Evicted".into());
    let before = snapshot(Some(deployment(1)), vec![old.clone()]);
    let mut play = Play::after(&before, before.clone());
    assert!(
        ready(play.at(1.0, |s| {
            s.pods = vec![pod("app1-a")];
            all_available(s);
            s.pods.insert(0, old);
        }))
        .is_empty()
    );
}
