//! Images that do not come.

use super::*;

const NOT_FOUND: &str = r#"rpc error: code = NotFound desc = failed to pull and unpack image "registry.example/app:1": failed to resolve reference "registry.example/app:1": not found"#;
const DENIED: &str = r#"failed to pull and unpack image "registry.example/app:1": unexpected status from HEAD request: 403 Forbidden"#;
const UNREACHABLE: &str =
    r#"failed to do request: Head "https://registry.example/v2/app/manifests/1": dial tcp: lookup registry.example: no such host"#;

fn pulling(message: &'static str) -> Play {
    let mut play = Play::of(vec![pod("app1-a")]);
    play.app(0.0, |_| {});
    play.app(1.0, move |c| c.state = waiting("ErrImagePull", message));
    play
}

#[test]
fn an_image_that_does_not_exist_fails_at_once() {
    let mut play = pulling(NOT_FOUND);
    let trouble = failed(play.still(1.0), Code::ImageNotFound);
    assert_eq!((trouble.pod.as_deref(), trouble.container.as_deref()), (Some("app1-a"), Some("app")));
    assert!(trouble.words.starts_with("container app: image registry.example/app:1 does not exist in its registry: "), "{}", trouble.words);
    // Also when only the back-off was seen, whose cause is in the event.
    let mut play = Play::of(vec![pod("app1-a")]);
    let verdict = play.at(2.0, |s| {
        s.pods[0].container("app").state = waiting("ImagePullBackOff", r#"Back-off pulling image "registry.example/app:1""#);
        let message = format!(r#"Failed to pull image "registry.example/app:1": {NOT_FOUND}"#);
        s.events.push(event("Pod", "app1-a", "Failed", &message, 1));
    });
    failed(verdict, Code::ImageNotFound);
    for (reason, message) in
        [("InvalidImageName", "couldn't parse image reference"), ("ErrImageNeverPull", "Container image is not present with pull policy of Never")]
    {
        let mut play = Play::of(vec![pod("app1-a")]);
        failed(play.app(1.0, |c| c.state = waiting(reason, message)), Code::ImageNotFound);
    }
}

#[test]
fn a_replicated_registry_may_be_given_time() {
    let mut play = Play::of(vec![pod("app1-a")]);
    play.be_patient(Code::ImageNotFound, 60);
    progressing(play.app(1.0, |c| c.state = waiting("ErrImagePull", NOT_FOUND)));
    progressing(play.app(20.0, |c| c.state = waiting("ImagePullBackOff", "Back-off pulling image")));
    failed(play.app(61.5, |c| c.state = waiting("ErrImagePull", NOT_FOUND)), Code::ImageNotFound);
}

#[test]
fn an_image_for_another_platform_fails_at_once() {
    let mut play = pulling("no match for platform in manifest: not found");
    failed(play.still(1.0), Code::ImageWrongPlatform);
}

#[test]
fn a_denied_image_must_be_denied_twice() {
    let mut play = pulling(DENIED);
    progressing(play.still(1.2));
    progressing(play.app(1.4, |c| c.state = waiting("ImagePullBackOff", "Back-off pulling image")));
    failed(play.app(11.0, |c| c.state = waiting("ErrImagePull", DENIED)), Code::ImageDenied);
    // The second pull was missed, but its event counts it.
    let mut play = pulling(DENIED);
    let verdict = play.at(12.0, |s| {
        let mut e = event("Pod", "app1-a", "Failed", &format!(r#"Failed to pull image "registry.example/app:1": {DENIED}"#), 11);
        e.count = 2;
        s.events.push(e);
    });
    failed(verdict, Code::ImageDenied);
    // Credentials came in between.
    let mut play = pulling(DENIED);
    progressing(play.app(9.0, run));
    // On a young node they may still be on their way.
    let mut play = pulling(DENIED);
    play.snapshot.around.young_nodes.push("node-1".into());
    play.app(2.0, |c| c.state = waiting("ImagePullBackOff", ""));
    progressing(play.app(12.0, |c| c.state = waiting("ErrImagePull", DENIED)));
    failed(play.still(61.5), Code::ImageDenied);
}

#[test]
fn an_unreachable_registry_is_waited_for() {
    let mut play = pulling(UNREACHABLE);
    progressing(play.app(40.0, |c| c.state = waiting("ImagePullBackOff", "")));
    progressing(play.still(90.5));
    failed(play.still(91.5), Code::ImageUnreachable);
    // A blip.
    let mut play = pulling(UNREACHABLE);
    progressing(play.still(60.0));
    play.app(70.0, run);
    ready(play.at(71.0, all_available));
}

#[test]
fn words_that_fit_no_other_cause_are_quoted() {
    let full = "write /var/lib/containerd/ingest/1/data: no space left on device";
    let mut play = pulling(full);
    progressing(play.app(40.0, |c| c.state = waiting("ImagePullBackOff", "Back-off pulling image")));
    progressing(play.still(90.5));
    let trouble = failed(play.still(91.5), Code::ImageUnreachable);
    assert_eq!(trouble.words, format!("container app: image registry.example/app:1 cannot be fetched: {full}"));
    // Room was made.
    let mut play = pulling(full);
    progressing(play.still(60.0));
    play.app(70.0, run);
    ready(play.at(71.0, all_available));
}

#[test]
fn a_back_off_without_a_cause_is_waited_for() {
    let mut play = Play::of(vec![pod("app1-a")]);
    assert!(progressing(play.app(1.0, |c| c.state = waiting("ImagePullBackOff", "Back-off pulling image"))).contains("does not say why"));
    progressing(play.still(200.0));
}

#[test]
fn an_event_from_before_the_apply_is_no_evidence() {
    let mut e = event("Pod", "app1-a", "Failed", &format!(r#"Failed to pull image "registry.example/app:1": {NOT_FOUND}"#), -100);
    e.count = 7;
    let mut before = snapshot(Some(deployment(1)), vec![pod("app1-a")]);
    before.events.push(e);
    let mut play = Play::after(&before, before.clone());
    progressing(play.app(1.0, |c| c.state = waiting("ImagePullBackOff", "Back-off pulling image")));
}
