//! The good ends, the controller's own verdicts, and the workloads that nothing rolls.

use super::*;

#[test]
fn ready_when_the_controller_has_counted_every_new_pod() {
    let mut play = Play::of(vec![pod("app1-a"), pod("app1-b")]);
    assert_eq!(progressing(play.still(0.0)), "0/2 ready, app1-a: container app: being created");
    assert_eq!(progressing(play.app(1.0, run)), "0/2 ready, app1-a: container app: waiting for readiness probe GET :8000/healthz");
    let reason = progressing(play.at(4.0, |s| {
        s.pods[0] = pod("app1-a").made_ready();
        s.events.push(event("Pod", "app1-b", "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503", 3));
    }));
    assert_eq!(reason, "1/2 ready, app1-b: container app: waiting for readiness probe GET :8000/healthz (HTTP probe failed with statuscode: 503)");
    assert!(ready(play.at(5.0, all_available)).is_empty());
}

#[test]
fn a_change_that_the_controller_has_not_seen_is_not_judged() {
    let before = snapshot(Some(deployment(1)), vec![pod("app1-old").made_ready()]);
    let mut play = Play::after(&before, before.clone());
    play.at(0.0, all_available);
    let reason = progressing(play.at(0.1, |s| s.workload.iter_mut().for_each(|w| w.generation += 1)));
    assert_eq!(reason, "its controller has not seen the change yet");
}

#[test]
fn old_pods_must_be_gone() {
    let mut play = Play::of(vec![pod("app1-a")]);
    play.at(0.0, all_available);
    let reason = progressing(play.at(1.0, |s| {
        s.pods.push(pod("app1-old").old());
        s.workload.iter_mut().for_each(|w| w.total = 2);
    }));
    assert_eq!(reason, "1/1 ready, 1 old pod still to go");
}

#[test]
fn a_probe_that_never_passes_is_named_at_the_deadline() {
    let mut play = Play::of(vec![pod("app1-a")]);
    play.app(1.0, run);
    let trouble = play.deadline();
    assert_eq!((trouble.code, trouble.pod.as_deref(), trouble.container.as_deref()), (Code::RolloutTimeout, Some("app1-a"), Some("app")));
    assert!(trouble.words.contains("readiness probe GET :8000/healthz"), "{}", trouble.words);
}

#[test]
fn without_a_probe_ten_seconds_must_pass() {
    let unprobed = || {
        let mut p = pod("app1-a");
        p.container("app").readiness = None;
        p
    };
    let mut play = Play::of(vec![unprobed()]);
    assert!(progressing(play.at(1.0, all_available)).contains("must run 10 s"));
    progressing(play.still(10.5));
    let warnings = ready(play.still(11.1));
    assert!(warnings[0].starts_with("no_readiness_probe"), "{warnings:?}");
    // A restart starts the ten seconds again.
    let mut play = Play::of(vec![unprobed()]);
    play.at(1.0, all_available);
    play.app(6.0, |c| crash(c, 1));
    play.app(7.0, |c| {
        run(c);
        c.ready = true;
    });
    progressing(play.still(11.5));
    ready(play.still(17.5));
    // minReadySeconds is the controller's own patience.
    let mut play = Play::of(vec![unprobed()]);
    play.snapshot.workload.iter_mut().for_each(|w| w.min_ready_seconds = 5);
    ready(play.at(1.0, all_available));
    // Nothing changed, and it has been running all along.
    let mut before = snapshot(Some(deployment(1)), vec![unprobed()]);
    all_available(&mut before);
    let mut play = Play::after(&before, before.clone());
    ready(play.still(0.1));
}

#[test]
fn the_controllers_patience_names_the_sharpest_cause() {
    let exceeded = || condition("Progressing", false, "ProgressDeadlineExceeded", r#"ReplicaSet "app1-new" has timed out progressing."#);
    let give_up = |s: &mut Snapshot| s.workload.iter_mut().for_each(|w| w.conditions.push(exceeded()));
    let mut play = Play::of(vec![pod("app1-a")]);
    play.app(1.0, run);
    let trouble = failed(play.at(2.0, give_up), Code::RolloutDeadline);
    assert_eq!(trouble.pod.as_deref(), Some("app1-a"));
    // With a crash that was short of a verdict.
    let mut play = Play::of(vec![pod("app1-a")]);
    play.app(1.0, |c| crash(c, 3));
    failed(play.at(2.0, give_up), Code::CrashLoop);
    // The condition of an earlier revision.
    let mut play = Play::of(vec![pod("app1-a")]);
    progressing(play.at(1.0, |s| {
        let message = r#"ReplicaSet "app1-old" has timed out progressing."#;
        s.workload.iter_mut().for_each(|w| w.conditions.push(condition("Progressing", false, "ProgressDeadlineExceeded", message)));
    }));
    // One that was there before the apply.
    let mut before = snapshot(Some(deployment(1)), vec![]);
    give_up(&mut before);
    let mut play = Play::after(&before, before.clone());
    progressing(play.at(1.0, |s| s.pods.push(pod("app1-a"))));
}

#[test]
fn paused_and_scaled_to_nothing() {
    let mut play = Play::of(vec![pod("app1-old").old()]);
    let paused = play.at(1.0, |s| s.workload.iter_mut().for_each(|w| (w.paused, w.updated) = (true, 0)));
    failed(paused, Code::RolloutPaused);
    // Paused after its newest revision was out.
    let mut play = Play::of(vec![pod("app1-a")]);
    let warnings = ready(play.at(1.0, |s| {
        all_available(s);
        s.workload.iter_mut().for_each(|w| w.paused = true);
    }));
    assert!(warnings[0].contains("paused"));
    let mut play = Play::of(vec![]);
    let warnings = ready(play.at(1.0, |s| s.workload.iter_mut().for_each(|w| (w.wanted, w.total, w.updated) = (0, 0, 0))));
    assert_eq!(warnings, ["it is scaled to 0 replicas: nothing runs"]);
}

#[test]
fn stateful_sets_with_a_partition_or_on_delete() {
    let set = |strategy| {
        let mut play = Play::of(vec![pod("app1-1"), pod("app1-0").old()]);
        if let Some(w) = &mut play.snapshot.workload {
            (w.kind, w.strategy, w.wanted, w.total, w.updated) = (Kind::StatefulSet, strategy, 2, 2, 1);
        }
        play
    };
    let settle = |s: &mut Snapshot| {
        s.pods[0] = pod("app1-1").made_ready();
        s.workload.iter_mut().for_each(|w| (w.ready, w.available) = (2, 2));
    };
    let mut play = set(Strategy::Ordered { partition: 1, parallel: false });
    progressing(play.still(0.0));
    assert!(ready(play.at(1.0, settle))[0].contains("partition 1"));
    let mut play = set(Strategy::Ordered { partition: 0, parallel: false });
    progressing(play.at(1.0, settle));
    let mut play = set(Strategy::OnDelete);
    assert!(ready(play.at(1.0, settle))[0].contains("OnDelete"));
}

#[test]
fn a_daemon_set_counts_nodes() {
    let mut play = Play::of(vec![pod("ds-a"), pod("ds-b").on("node-2")]);
    play.snapshot.workload.iter_mut().for_each(|w| (w.kind, w.strategy) = (Kind::DaemonSet, Strategy::Rolling { max_unavailable: 1 }));
    progressing(play.still(0.0));
    ready(play.at(1.0, all_available));
    let warnings = ready(play.at(2.0, |s| {
        s.pods.clear();
        s.workload.iter_mut().for_each(|w| (w.wanted, w.updated, w.available) = (0, 0, 0));
    }));
    assert!(warnings[0].contains("no node"));
}

#[test]
fn a_job_is_judged_by_its_own_conditions() {
    let job = || {
        let mut play = Play::of(vec![pod("job-a")]);
        play.snapshot.workload.iter_mut().for_each(|w| (w.kind, w.strategy) = (Kind::Job, Strategy::None));
        play
    };
    // Retries are its own business.
    let mut play = job();
    for n in 1..6 {
        progressing(play.at(f64::from(n), |s| {
            let mut failed = pod(&format!("job-{n}"));
            failed.phase = "Failed".into();
            crash(failed.container("app"), 1);
            s.pods.push(failed);
        }));
    }
    let verdict = play.at(9.0, |s| {
        let message = "Job has reached the specified backoff limit";
        s.workload.iter_mut().for_each(|w| w.conditions.push(condition("Failed", true, "BackoffLimitExceeded", message)));
    });
    let trouble = failed(verdict, Code::JobFailed);
    assert!(trouble.words.contains("backoff limit") && trouble.words.contains("exit code 1"), "{}", trouble.words);
    // The last pod is the one that was started last; names are random.
    let failing = |reason: &str, message: &str| {
        let mut play = job();
        let verdict = play.at(9.0, |s| {
            s.pods = [("job-z", 1, 1), ("job-b", 42, 3), ("job-m", 2, 2)]
                .map(|(name, exit_code, second)| {
                    let mut failed = Pod { phase: "Failed".into(), started: Timestamp::from_second(1_000_000 + second).ok(), ..pod(name) };
                    crash(failed.container("app"), exit_code);
                    failed
                })
                .into();
            s.workload.iter_mut().for_each(|w| w.conditions.push(condition("Failed", true, reason, message)));
        });
        failed(verdict, Code::JobFailed)
    };
    for (reason, message) in [
        ("BackoffLimitExceeded", "Job has reached the specified backoff limit"),
        ("PodFailurePolicy", "Container app for pod prod/job-b failed with exit code 42 matching FailJob rule at index 0"),
        ("DeadlineExceeded", "Job was active longer than specified deadline"),
    ] {
        let trouble = failing(reason, message);
        assert_eq!(trouble.pod.as_deref(), Some("job-b"), "{reason}");
        assert_eq!(trouble.words, format!("the Job failed: {message}; container app ended with exit code 42"));
    }
    // The deadline came while its only pod ran: the controller has taken that away.
    let mut play = job();
    progressing(play.app(1.0, run));
    let verdict = play.at(9.0, |s| {
        s.pods.clear();
        let failed = condition("Failed", true, "DeadlineExceeded", "Job was active longer than specified deadline");
        s.workload.iter_mut().for_each(|w| w.conditions.push(failed.clone()));
    });
    assert_eq!(failed(verdict, Code::JobFailed).words, "the Job failed: Job was active longer than specified deadline");
    // What will fail it is decided, and its pods still have their logs; it was the init container.
    let mut play = job();
    let verdict = play.at(3.0, |s| {
        s.pods[0].containers.insert(0, container("migrate", Role::Init));
        crash(s.pods[0].container("migrate"), 3);
        s.workload.iter_mut().for_each(|w| w.conditions.push(condition("FailureTarget", true, "PodFailurePolicy", "")));
    });
    let trouble = failed(verdict, Code::JobFailed);
    assert_eq!(trouble.words, "the Job failed: PodFailurePolicy; init container migrate ended with exit code 3");
    assert_eq!(trouble.container.as_deref(), Some("migrate"));
    // It died, and the controller took it away before the Job had failed.
    let mut play = job();
    progressing(play.app(1.0, |c| crash(c, 4)));
    let verdict = play.at(2.0, |s| {
        s.pods.clear();
        s.workload.iter_mut().for_each(|w| w.conditions.push(condition("Failed", true, "BackoffLimitExceeded", "")));
    });
    assert_eq!(failed(verdict, Code::JobFailed).words, "the Job failed: BackoffLimitExceeded; container app ended with exit code 4");
    let mut play = job();
    ready(play.at(3.0, |s| s.workload.iter_mut().for_each(|w| w.conditions.push(condition("Complete", true, "", "")))));
    // But an image that does not exist never comes to a retry.
    let mut play = job();
    failed(play.app(1.0, |c| c.state = waiting("ErrImagePull", "manifest unknown")), Code::ImageNotFound);
}

#[test]
fn a_bare_pod() {
    let bare = || {
        let mut play = Play::of(vec![pod("tool")]);
        play.snapshot.workload.iter_mut().for_each(|w| (w.kind, w.strategy) = (Kind::Pod, Strategy::None));
        play
    };
    let mut play = bare();
    progressing(play.app(1.0, run));
    ready(play.at(2.0, |s| s.pods[0] = pod("tool").made_ready()));
    let mut play = bare();
    ready(play.at(2.0, |s| s.pods[0].phase = "Succeeded".into()));
    let mut play = bare();
    let verdict = play.at(2.0, |s| {
        s.pods[0].phase = "Failed".into();
        crash(s.pods[0].container("app"), 2);
    });
    assert!(failed(verdict, Code::CrashLoop).words.contains("exit code 2"));
}
