//! Containers that end, cannot be configured or cannot be started.

use super::*;

/// Plays crashes of a container, each followed by a back-off; the verdict after each crash.
fn crashes(play: &mut Play, name: &str, times: usize, exit_code: i32) -> Vec<Verdict> {
    let mut second = 1.0;
    let mut verdicts = Vec::new();
    for _ in 0..times {
        play.pods(second, |pod| run(pod.container(name)));
        verdicts.push(play.pods(second + 0.5, |pod| crash(pod.container(name), exit_code)));
        play.pods(second + 1.0, |pod| back_off(pod.container(name)));
        second += 10.0;
    }
    verdicts
}

#[test]
fn the_third_crash_is_a_crash_loop() {
    let mut play = Play::of(vec![pod("app1-a")]);
    let mut verdicts = crashes(&mut play, "app", 3, 1);
    let trouble = failed(verdicts.pop().expect("third"), Code::CrashLoop);
    assert_eq!(trouble.line(), "app1-a: container app: ended 3 times since the apply, last with exit code 1");
    assert!(!trouble.previous, "the instance that has just ended is the newest");
    assert!(failed(play.still(25.0), Code::CrashLoop).previous, "while it waits for its restart it is the previous one");
    for early in verdicts {
        progressing(early);
    }
}

#[test]
fn crashes_that_no_snapshot_saw_count_too() {
    let mut play = Play::of(vec![pod("app1-a")]);
    play.app(1.0, run);
    let verdict = play.app(60.0, |c| {
        c.restarts = 2;
        c.last = Some(ended(1));
        c.state = waiting("CrashLoopBackOff", "");
    });
    failed(verdict, Code::CrashLoop);
}

#[test]
fn a_crash_or_two_and_then_ready_is_no_failure() {
    let mut play = Play::of(vec![pod("app1-a")]);
    for verdict in crashes(&mut play, "app", 2, 1) {
        progressing(verdict);
    }
    ready(play.at(30.0, all_available));
}

#[test]
fn being_ready_for_ten_seconds_forgives_earlier_crashes() {
    for (ready_for, code) in [(11.0, None), (4.0, Some(Code::CrashLoop))] {
        let mut play = Play::of(vec![pod("app1-a"), pod("app1-b")]);
        crashes(&mut play, "app", 2, 1);
        play.app(40.0, |c| {
            run(c);
            c.ready = true;
        });
        let verdict = play.app(40.0 + ready_for, |c| crash(c, 1));
        match code {
            Some(code) => drop(failed(verdict, code)),
            None => drop(progressing(verdict)),
        }
    }
}

#[test]
fn how_it_ended_is_told_apart() {
    for (end, words) in [
        (Ended { reason: "OOMKilled".into(), ..ended(137) }, "killed for using more memory than its limit (OOMKilled)"),
        (ended(137), "exit code 137, signal 9 (SIGKILL)"),
        (ended(139), "exit code 139, signal 11 (SIGSEGV)"),
        (ended(127), "exit code 127, the command was not found"),
        (ended(0), "exit code 0"),
    ] {
        let mut play = Play::of(vec![pod("app1-a")]);
        let verdict = play.app(1.0, |c| {
            c.restarts = 2;
            c.last = Some(end.clone());
            c.state = waiting("CrashLoopBackOff", "");
        });
        let words_seen = failed(verdict, Code::CrashLoop).words;
        assert!(words_seen.ends_with(words), "{words_seen}");
    }
}

#[test]
fn crashes_while_the_sidecar_is_not_ready_are_its_fault() {
    let with_sidecar = |native| Play::of(vec![pod("app1-a").with(container("istio-proxy", Role::Sidecar { native }))]);
    let mut play = with_sidecar(false);
    for verdict in crashes(&mut play, "app", 4, 1) {
        assert!(progressing(verdict).contains("ended while istio-proxy was not ready"));
    }
    // Once the sidecar is ready, they count.
    play.pods(50.0, |pod| {
        run(pod.container("istio-proxy"));
        pod.container("istio-proxy").ready = true;
    });
    play.still(51.0);
    let late = play.app(90.0, |c| {
        c.restarts += 3;
        back_off(c);
    });
    failed(late, Code::CrashLoop);
    // A native sidecar starts before the app, so it is no excuse.
    let mut native = with_sidecar(true);
    let last = crashes(&mut native, "app", 3, 1).pop().expect("third");
    failed(last, Code::CrashLoop);
}

#[test]
fn a_loop_older_than_the_apply_is_told_and_not_counted() {
    let looping = || {
        let mut old = pod("app1-a");
        let c = old.container("app");
        c.restarts = 40;
        c.last = Some(ended(1));
        c.state = waiting("CrashLoopBackOff", "");
        old
    };
    let before = snapshot(Some(deployment(1)), vec![looping()]);
    let mut play = Play::after(&before, before.clone());
    assert!(progressing(play.still(1.0)).contains("since before this apply (preexisting)"));
    progressing(play.still(200.0));
    // It goes on, and only the time limit ends that.
    let reason = progressing(play.app(300.0, |c| c.restarts += 3));
    assert!(reason.ends_with("since before this apply (preexisting), ended 3 times since, last with exit code 1"), "{reason}");
    assert_eq!(play.deadline().code, Code::RolloutTimeout);
    // It was ready for a while, so what comes then is new.
    play.app(310.0, |c| {
        run(c);
        c.ready = true;
    });
    let verdict = play.app(330.0, |c| {
        c.restarts += 3;
        c.ready = false;
        back_off(c);
    });
    failed(verdict, Code::CrashLoop);
    // The pod is older than the apply, and was well.
    let before = snapshot(Some(deployment(1)), vec![pod("app1-a").made_ready()]);
    let mut play = Play::after(&before, before.clone());
    failed(crashes(&mut play, "app", 3, 1).pop().expect("third"), Code::CrashLoop);
}

#[test]
fn old_pods_crashes_say_nothing_about_the_new_revision() {
    let mut play = Play::of(vec![pod("app1-b")]);
    let mut old = pod("app1-a");
    old.newest = false;
    play.snapshot.pods.push(old);
    for (i, restarts) in [1, 2, 3, 9].into_iter().enumerate() {
        let verdict = play.at(1.0 + i as f64, |s| {
            let c = s.pods[1].container("app");
            c.restarts = restarts;
            c.last = Some(ended(1));
            c.state = waiting("CrashLoopBackOff", "");
        });
        progressing(verdict);
    }
}

#[test]
fn an_init_container_that_fails_is_told_as_one() {
    let mut play = Play::of(vec![pod("app1-a").with(container("migrate", Role::Init))]);
    let last = crashes(&mut play, "migrate", 3, 2).pop().expect("third");
    assert!(failed(last, Code::InitCrashLoop).words.starts_with("init container migrate: "));
    // Two failures and then success.
    let mut play = Play::of(vec![pod("app1-a").with(container("migrate", Role::Init))]);
    crashes(&mut play, "migrate", 2, 2);
    play.pods(40.0, |pod| run(pod.container("migrate")));
    progressing(play.pods(41.0, |pod| crash(pod.container("migrate"), 0)));
    progressing(play.still(60.0));
}

#[test]
fn a_sidecar_gets_more_patience() {
    for native in [true, false] {
        let with = || {
            let mut play = Play::of(vec![pod("app1-a").with(container("istio-proxy", Role::Sidecar { native }))]);
            play.app(0.5, run);
            play
        };
        // Two or three restarts, then ready.
        let mut play = with();
        for verdict in crashes(&mut play, "istio-proxy", 3, 1) {
            progressing(verdict);
        }
        ready(play.at(45.0, all_available));
        // Six.
        let mut play = with();
        play.pods(1.0, |pod| run(pod.container("istio-proxy")));
        let verdict = play.pods(20.0, |pod| {
            let c = pod.container("istio-proxy");
            crash(c, 1);
            c.restarts = 5;
            back_off(c);
        });
        failed(verdict, Code::SidecarFailing);
        // Not ready for a minute.
        let mut play = with();
        play.pods(1.0, |pod| run(pod.container("istio-proxy")));
        progressing(play.still(60.0));
        failed(play.still(61.5), Code::SidecarFailing);
    }
    // Another one that keeps running beside the app may warm up for longer, or wait for the app itself.
    let mut play = Play::of(vec![pod("app1-a").with(container("cache", Role::Sidecar { native: true }))]);
    play.pods(1.0, |pod| run(pod.container("cache")));
    progressing(play.still(200.0));
}

#[test]
fn a_missing_secret_or_config_map() {
    let missing = |message: &str| {
        let mut play = Play::of(vec![pod("app1-a")]);
        let message = message.to_owned();
        for name in ["db", "settings"] {
            play.snapshot.around.makers.insert(name.into(), Maker::Nobody);
        }
        play.app(1.0, move |c| c.state = waiting("CreateContainerConfigError", &message));
        play
    };
    for message in [r#"secret "db" not found"#, r#"configmap "settings" not found"#, "couldn't find key PASSWORD in Secret prod/db"] {
        let mut play = missing(message);
        progressing(play.still(5.5));
        let trouble = failed(play.still(6.1), Code::ConfigMissing);
        assert_eq!(trouble.words, format!("container app: {message}"));
    }
    // It came in time.
    let mut play = missing(r#"secret "db" not found"#);
    progressing(play.still(5.0));
    progressing(play.app(6.5, run));
    // The kubelet's cache was behind.
    let mut play = missing("failed to sync secret cache: timed out waiting for the condition");
    progressing(play.still(60.0));
    // Something is about to make it, or may be.
    let by = Maker::Is("ExternalSecret db (SecretSyncedError: store is not ready)".into());
    let unknown = Maker::Unknown("this identity may not list externalsecrets".into());
    for (maker, told) in [
        (Some(by), "made by ExternalSecret db (SecretSyncedError"),
        (Some(unknown), "not known: this identity may not list"),
        (None, r#"secret "db" not found"#),
    ] {
        let mut play = missing(r#"secret "db" not found"#);
        assert_eq!(play.rollout.questions(&play.snapshot).missing.into_iter().collect::<Vec<_>>(), ["db"]);
        match maker {
            Some(maker) => drop(play.snapshot.around.makers.insert("db".into(), maker)),
            None => play.snapshot.around.makers.clear(),
        }
        assert!(progressing(play.still(60.0)).contains(told), "{told}");
        assert_eq!(play.deadline().code, Code::RolloutTimeout);
    }
}

#[test]
fn a_configuration_error_that_names_nothing_missing() {
    let message = "container has runAsNonRoot and image will run as root (pod: \"app1-a_prod(1)\", container: app)";
    let refused = |c: &mut Container| c.state = waiting("CreateContainerConfigError", message);
    let mut play = Play::of(vec![pod("app1-a")]);
    play.app(1.0, refused);
    assert!(play.rollout.questions(&play.snapshot).missing.is_empty());
    progressing(play.still(15.5));
    assert_eq!(failed(play.still(16.5), Code::ContainerCannotRun).words, format!("container app: the kubelet cannot create it: {message}"));
    // A kubelet that has just been restarted knows no Services yet.
    let mut play = Play::of(vec![pod("app1-a")]);
    play.app(1.0, |c| c.state = waiting("CreateContainerConfigError", "services have not yet been read at least once, cannot construct envvars"));
    progressing(play.app(12.0, run));
    progressing(play.still(30.0));
}

#[test]
fn a_container_that_the_runtime_cannot_start() {
    let words = r#"exec: "/app/serve": stat /app/serve: no such file or directory"#;
    let cannot = |c: &mut Container| {
        c.last = Some(Ended { exit_code: 128, signal: None, reason: "StartError".into(), message: words.to_owned() });
        c.state = waiting("RunContainerError", words);
    };
    let mut play = Play::of(vec![pod("app1-a")]);
    assert!(progressing(play.app(1.0, cannot)).contains("no such file"));
    progressing(play.app(2.0, |c| c.state = waiting("CrashLoopBackOff", "back-off")));
    let verdict = play.app(12.0, |c| {
        c.restarts = 1;
        cannot(c);
    });
    failed(verdict, Code::ContainerCannotRun);
    // The kubelet says the same all the time.
    for (message, fails) in [
        ("no command specified", true),
        ("context deadline exceeded", false),
        (r#"failed to reserve container name "app_app1-a_prod": name "app_app1-a_prod" is reserved for "0a1b""#, false),
    ] {
        let mut play = Play::of(vec![pod("app1-a")]);
        play.app(1.0, |c| c.state = waiting("CreateContainerError", message));
        progressing(play.still(15.5));
        assert_eq!(matches!(play.still(16.5), Verdict::Failed(t) if t.code == Code::ContainerCannotRun), fails, "{message}");
    }
    // Once, then it runs.
    let mut play = Play::of(vec![pod("app1-a")]);
    play.app(1.0, |c| c.state = waiting("RunContainerError", "device busy"));
    progressing(play.app(2.0, run));
    ready(play.at(15.0, all_available));
}

#[test]
fn one_pod_among_many_on_one_node_is_told_and_waited_for() {
    let three = || vec![pod("app1-a").on("node-1"), pod("app1-b").on("node-2").made_ready(), pod("app1-c").on("node-3").made_ready()];
    let looping = |pod: &mut Pod| {
        let c = pod.container("app");
        c.restarts = 5;
        c.ready = false;
        c.last = Some(ended(1));
        c.state = waiting("CrashLoopBackOff", "");
        pod.ready = false;
    };
    let mut play = Play::of(three());
    let reason = progressing(play.at(1.0, |s| looping(&mut s.pods[0])));
    assert_eq!(reason, "2/3 ready, app1-a: container app: ended 6 times since the apply, last with exit code 1");
    assert_eq!(play.deadline().code, Code::CrashLoop, "at the deadline the sharper cause is told");
    // A second one on another node makes it a verdict.
    failed(play.at(2.0, |s| looping(&mut s.pods[1])), Code::CrashLoop);
    // Two on the same node do not.
    let mut play = Play::of(vec![pod("app1-a"), pod("app1-b"), pod("app1-c").on("node-2").made_ready()]);
    progressing(play.at(1.0, |s| s.pods[..2].iter_mut().for_each(looping)));
    // Nor do two different troubles on two nodes.
    let mut play = Play::of(three());
    let missing = r#"failed to resolve reference "registry.example/app:1": not found"#;
    progressing(play.at(1.0, |s| {
        looping(&mut s.pods[0]);
        s.pods[1] = pod("app1-b").on("node-2");
        s.pods[1].container("app").state = waiting("ErrImagePull", missing);
    }));
    // All pods, each with its own.
    let verdict = play.at(2.0, |s| {
        looping(&mut s.pods[2]);
        s.pods[2].node = Some("node-1".into());
    });
    failed(verdict, Code::ImageNotFound);
    // The first pod of an ordered StatefulSet blocks the others.
    let mut play = Play::of(three());
    if let Some(w) = &mut play.snapshot.workload {
        (w.kind, w.strategy) = (Kind::StatefulSet, Strategy::Ordered { partition: 0, parallel: false });
    }
    failed(play.at(1.0, |s| looping(&mut s.pods[0])), Code::CrashLoop);
}

#[test]
fn a_job_whose_container_cannot_start_is_left_to_its_back_off_limit() {
    for (kind, fails) in [(Kind::Job, false), (Kind::Deployment, true)] {
        let mut play = Play::of(vec![pod("app1-a")]);
        if let Some(w) = &mut play.snapshot.workload {
            w.kind = kind;
        }
        play.app(1.0, |c| c.state = waiting("RunContainerError", "exec: no such file"));
        play.app(2.0, |c| c.state = waiting("CrashLoopBackOff", ""));
        match play.app(3.0, |c| c.state = waiting("RunContainerError", "exec: no such file")) {
            Verdict::Failed(trouble) if fails => assert_eq!(trouble.code, Code::ContainerCannotRun),
            Verdict::Progressing { .. } if !fails => {}
            other => panic!("{kind:?}: {other:?}"),
        }
    }
}
