//! Tools as shell scripts in a folder of their own.

use std::fs;

use super::*;
use crate::base::fault::Class;

struct Bench {
    folder: tempfile::TempDir,
    cancel: CancellationToken,
}

impl Bench {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), cancel: CancellationToken::new() }
    }

    /// A script; written by a child process, so that no write handle of ours can make it "text file busy".
    fn script(&self, name: &str, body: &str) -> &Self {
        let path = self.folder.path().join(name);
        let source = self.folder.path().join(format!("{name}.src"));
        fs::write(&source, format!("#!/bin/sh\n{body}\n")).expect("written");
        let made = std::process::Command::new("install").arg("-m755").arg(&source).arg(&path).status().expect("install runs");
        assert!(made.success());
        self
    }

    fn tools(&self, more: &[(&str, &str)]) -> Tools {
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let path = format!("{}:/usr/bin:/bin", self.folder.path().display());
        let env = [("PATH", path.as_str())].into_iter().chain(more.iter().copied()).map(own);
        Tools::new(Settings::from_vars(env, []), self.cancel.clone()).with_grace(Duration::from_millis(500))
    }
}

#[tokio::test]
async fn output_status_environment_and_input_come_through() {
    let bench = Bench::new();
    bench.script("t", r#"cat; echo "$FOO $NO_COLOR $HELM_NAMESPACE [$PWD]"; echo "oops" >&2; exit 3"#);
    let tools = bench.tools(&[("HELM_NAMESPACE", "elsewhere")]);
    let call = Call::new("t").env("FOO", "bar").stdin("in ").cwd("/");
    let finished = tools.run(call).await.expect("it ran");
    assert_eq!(finished.status, Status::Code(3));
    assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("in bar 1  [/]\n", "oops\n"));
    let fault = finished.ok().err().expect("a fault");
    assert_eq!(fault.message, "`t` failed (exit 3): oops");
}

#[tokio::test]
async fn without_input_stdin_is_empty() {
    let bench = Bench::new();
    bench.script("t", "cat; echo done");
    assert_eq!(bench.tools(&[]).run(Call::new("t")).await.expect("it ran").stdout, "done\n");
}

#[tokio::test]
async fn a_missing_tool_and_a_wrong_override_name_themselves() {
    let bench = Bench::new();
    let fault = bench.tools(&[]).run(Call::new("no-such")).await.err().expect("a fault");
    assert_eq!((fault.code, fault.class), (Code::ToolMissing, Class::Prerequisite));
    assert!(fault.next[0].contains("MESHSTEP_NO_SUCH"), "{:?}", fault.next);
    let fault = bench.tools(&[("MESHSTEP_SH", "/nowhere/sh")]).run(Call::new("sh")).await.err().expect("a fault");
    assert!(fault.message.contains("MESHSTEP_SH") && fault.message.contains("/nowhere/sh"), "{fault}");
    assert_eq!(bench.tools(&[("MESHSTEP_T", "/bin/sh")]).find("t"), Some(PathBuf::from("/bin/sh")));
}

#[tokio::test]
async fn long_output_keeps_its_tail_and_does_not_block() {
    let bench = Bench::new();
    bench.script("t", "i=0; while [ $i -lt 40000 ]; do echo line $i; i=$((i+1)); done");
    let finished = bench.tools(&[]).run(Call::new("t").cap(1000)).await.expect("it ran");
    assert!(finished.truncated && finished.stdout.len() == 1000);
    assert!(finished.stdout.ends_with("line 39999\n"));
}

#[tokio::test]
async fn secrets_are_masked_where_a_person_reads() {
    let bench = Bench::new();
    secrets::learn("tools-test-secret");
    bench.script("t", r#"echo "$1"; echo "$1" >&2; exit 1"#);
    let finished = bench.tools(&[]).run(Call::new("t").arg("tools-test-secret")).await.expect("it ran");
    let fault = finished.fault();
    let shown = format!("{} {} {} {:?}", finished.command, finished.stderr, finished.shown(9), fault);
    assert!(!shown.contains("tools-test-secret"), "{shown}");
    assert_eq!(finished.stdout, "tools-test-secret\n");
}

#[tokio::test]
async fn a_deadline_ends_even_what_ignores_sigterm() {
    let bench = Bench::new();
    bench.script("t", "trap '' TERM; echo started; while :; do sleep 0.1; done");
    let start = Instant::now();
    let fault = bench.tools(&[]).run(Call::new("t").timeout(Duration::from_millis(300))).await.err().expect("a fault");
    assert_eq!(fault.message, "`t` did not end within 0.3 s");
    assert!(fault.evidence.iter().any(|e| e.text.contains("started")), "{fault:?}");
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_cancel_is_passed_on_and_waited_for() {
    let bench = Bench::new();
    let (ready, done) = (bench.folder.path().join("ready"), bench.folder.path().join("done"));
    let body = format!("trap 'sleep 0.1; echo ok > {}; exit 7' TERM; echo > {}; while :; do sleep 0.05; done", done.display(), ready.display());
    bench.script("t", &body);
    let (tools, cancel) = (bench.tools(&[]).with_grace(Duration::from_secs(5)), bench.cancel.clone());
    let canceller = async {
        while !ready.exists() {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    };
    let (result, ()) = tokio::join!(tools.run(Call::new("t")), canceller);
    let fault = result.err().expect("a fault");
    assert_eq!(fault.code, Code::Cancelled);
    assert!(fault.message.contains("exit 7"), "{fault}");
    assert!(done.exists());
    let fault = tools.run(Call::new("t")).await.err().expect("nothing starts after a cancel");
    assert_eq!(fault.code, Code::Cancelled);
}

#[test]
fn command_lines_can_be_pasted() {
    let call = Call::new("helm").args(["upgrade", "--set", "a=b c", "it's", ""]);
    assert_eq!(call.command_line(), r"helm upgrade --set 'a=b c' 'it'\''s' ''");
}
