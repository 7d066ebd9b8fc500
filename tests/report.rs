//! A real recorder with all reporters: what lies in the folder while a run goes on, when it is aborted, and afterwards.

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use meshstep::base::codes::Code;
use meshstep::base::fault::Fault;
use meshstep::base::secrets;
use meshstep::engine::event::Event;
use meshstep::engine::record::{Done, Recorder};
use meshstep::report::{self, Options, Output, merge};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("lock").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Paper {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("lock").clone()).expect("UTF-8")
    }
}

fn recorder(options: &Options, out: &Paper, err: &Paper) -> Recorder {
    let record = Recorder::new(report::reporters(options, Box::new(out.clone()), Box::new(err.clone())), CancellationToken::new());
    record.emit(Event::RunStarted {
        run_id: options.run_id.clone(),
        tool: "meshstep 0.1.0".into(),
        pipeline: "shop".into(),
        environment: "staging".into(),
        stages: vec!["deploy".into()],
        hostname: "agent-1".into(),
        build_url: None,
        dry_run: false,
    });
    record.emit(Event::StageStarted { stage: "deploy".into() });
    record.for_stage("deploy")
}

fn end(record: &Recorder, exit: u8) {
    record.emit(Event::StageEnded { stage: "deploy".into(), seconds: Duration::from_secs(1) });
    record.end(exit, Duration::from_secs(1));
}

fn options(dir: &Path) -> Options {
    Options { dir: dir.join("reports"), run_id: "jenkins-shop-17".into(), run_id_from_ci: true, ..Options::default() }
}

fn read(dir: &Path, name: &str) -> String {
    std::fs::read_to_string(dir.join("reports").join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[tokio::test]
async fn the_file_tells_of_running_cases_and_an_abort_is_written_before_the_work_ends() {
    let dir = tempfile::tempdir().expect("a folder");
    let (out, err) = (Paper::default(), Paper::default());
    let record = recorder(&options(dir.path()), &out, &err);
    let (running, may_end) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let work = tokio::spawn({
        let (record, running, may_end) = (record.clone(), Arc::clone(&running), Arc::clone(&may_end));
        async move {
            let case = record.case("rollout prod").service("app1-service");
            case.run(|case| async move {
                case.progress("0 of 2 ready");
                running.notify_one();
                may_end.notified().await;
                Ok(Done::changed((), "never told"))
            })
            .await
        }
    });
    running.notified().await;
    record.tick();
    let killed_now = read(dir.path(), "TEST-deploy.xml");
    assert!(killed_now.contains("not ended when this report was written; last seen: 0 of 2 ready"), "{killed_now}");

    record.abort(Fault::new(Code::Cancelled, "interrupted by SIGTERM"), Some(143));
    let log = dir.path().join("reports/run.jsonl");
    let told = async {
        while !std::fs::read_to_string(&log).expect("a log").contains("interrupted by SIGTERM") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), told).await.expect("the abort is recorded at once");
    let aborted = read(dir.path(), "TEST-deploy.xml");
    assert!(aborted.contains(r#"message="interrupted by SIGTERM; last seen: 0 of 2 ready" type="run.aborted""#), "{aborted}");
    may_end.notify_one();
    assert_eq!(work.await.expect("no panic"), None);
    end(&record, 143);
    assert!(out.text().contains("ABORTED  exit 143: interrupted (SIGTERM)"), "{}", out.text());
}

#[tokio::test]
async fn json_goes_to_standard_output_alone_and_no_secret_anywhere() {
    const SECRET: &str = "hunter2-of-the-report-test";
    secrets::learn(SECRET);
    let dir = tempfile::tempdir().expect("a folder");
    let (out, err) = (Paper::default(), Paper::default());
    let record = recorder(&Options { output: Output::Json, verbosity: 1, ..options(dir.path()) }, &out, &err);
    record
        .case("helm upgrade")
        .service("app1-service")
        .run(|case| async move {
            case.output(&format!("{SECRET}\n").repeat(2000));
            case.property("curl", format!("curl -H 'Authorization: {SECRET}'"));
            case.warn(format!("do not print {SECRET}"));
            case.observed("release", &serde_json::json!({ "notes": SECRET }));
            Err::<Done<()>, _>(Fault::new(Code::ReleaseFailed, format!("helm said {SECRET}")).evidence("stderr", SECRET))
        })
        .await;
    end(&record, 5);
    let document: serde_json::Value = serde_json::from_str(&out.text()).expect("one JSON document");
    assert_eq!((&document["exit"], &document["counts"]["failed"]), (&5.into(), &1.into()));
    assert!(err.text().contains("FAILED  exit 5"), "{}", err.text());
    let mut files = vec![out.text(), err.text()];
    let mut folders = vec![dir.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("readable") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { folders.push(path) } else { files.push(std::fs::read_to_string(path).expect("text")) }
        }
    }
    assert!(files.len() >= 6, "log, XML, page, run log and both streams: {}", files.len());
    assert!(files.iter().all(|text| !text.contains(SECRET)));
    let (run, _) = merge::load(&dir.path().join("reports")).expect("a run log");
    assert_eq!(run.overall_exit(), 5);
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_costs_the_reports_and_not_the_run() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("reports"), "a file in the way").expect("written");
    let (out, err) = (Paper::default(), Paper::default());
    let record = recorder(&options(dir.path()), &out, &err);
    assert_eq!(record.case("rollout").run(|_| async { Ok(Done::changed(7, "2/2 ready")) }).await, Some(7));
    record.tick();
    end(&record, 0);
    assert_eq!(out.text().matches("cannot use the report folder").count(), 1, "{}", out.text());
    assert_eq!(out.text().matches("/run.jsonl`:").count(), 1, "{}", out.text());
    assert!(out.text().contains("OK  1 changed"), "{}", out.text());
}
