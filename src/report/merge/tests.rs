//! What is rebuilt says the same as what was written during the run.

use super::*;
use crate::base::codes::Code;
use crate::base::fault::Fault;
use crate::engine::record::Reporter;
use crate::report::Reports;
use crate::report::played::{self, Play, case};
use crate::report::summary::Counts;

fn write_log(dir: &Path, events: &[Stamped]) {
    fs::create_dir_all(dir).expect("a folder");
    let lines: String = events.iter().map(|event| serde_json::to_string(event).expect("json") + "\n").collect();
    fs::write(dir.join(runlog::FILE), lines).expect("written");
}

fn shard(name: &str, outcome: Option<Code>) -> Vec<Stamped> {
    let mut play = Play::new("run", &["verify"], false);
    play.stage("verify");
    let scene = case("app", "DNS");
    play.ends(
        10,
        match outcome {
            Some(code) => scene.failed(Fault::new(code, "bad")),
            None => scene.unchanged("fine"),
        },
    );
    play.ends(20, case("app", name).unchanged("200"));
    play.end_stage();
    play.end(if outcome.is_some() { 5 } else { 0 })
}

#[test]
fn rebuilt_files_are_those_of_the_run() {
    let dir = tempfile::tempdir().expect("a folder");
    let live = Options { dir: dir.path().join("live"), run_id: "jenkins-shop-17".into(), ..Options::default() };
    let mut reporters = crate::report::reporters(&live, Box::new(io::sink()), Box::new(io::sink()));
    reporters.iter_mut().for_each(|reporter| reporter.events(&played::all()));
    let (run, events) = load(&live.dir).expect("loaded");
    let again = Options { dir: dir.path().join("again"), ..live.clone() };
    let written = rebuild(&run, &events, &again).expect("rebuilt");
    assert!(written.len() > 5);
    for file in written {
        let name = file.file_name().expect("a name");
        let (old, new) = (fs::read_to_string(live.dir.join(name)).expect("old"), fs::read_to_string(&file).expect("new"));
        assert_eq!(old, new, "{}", file.display());
    }
    let logs = |dir: &Path| fs::read_dir(dir.join("logs")).map_or(0, Iterator::count);
    assert_eq!(logs(&live.dir), logs(&again.dir));
}

#[test]
fn shards_are_put_together_and_the_worse_verdict_stands() {
    let dir = tempfile::tempdir().expect("a folder");
    let paths: Vec<PathBuf> = ["a", "b", "c"].iter().map(|name| dir.path().join(name)).collect();
    write_log(&paths[0], &shard("GET one/", None));
    write_log(&paths[1], &shard("GET two/", Some(Code::DnsUnresolved)));
    write_log(&paths[2], &shard("GET three/", None));
    let (run, _) = merged(&paths).expect("merged");
    let counts = Counts::of(run.own());
    assert_eq!((counts.cases, counts.errors, counts.unchanged), (4, 1, 3));
    assert_eq!(run.overall_exit(), 7);
    let out = Options { dir: dir.path().join("out"), ..Options::default() };
    let written = folders(&paths, &out).expect("written");
    assert_eq!(written.len(), 3);
    let (again, _) = load(&out.dir).expect("the merged folder has a log");
    assert_eq!((Counts::of(again.own()), again.overall_exit()), (counts, 7));
    assert!(fs::read_to_string(&written[0]).expect("xml").contains(r#"tests="4" failures="0" errors="1""#));
}

#[test]
fn xml_alone_is_merged_too() {
    let dir = tempfile::tempdir().expect("a folder");
    for (name, events) in [("a", shard("GET one/", Some(Code::HttpStatus))), ("b", shard("GET two/", None))] {
        let mut run = RunSummary::of(&events);
        run.finish();
        rebuild(&run, &events, &Options { dir: dir.path().join(name), ..Options::default() }).expect("written");
    }
    let out = Options { dir: dir.path().join("out"), ..Options::default() };
    let written = folders(&[dir.path().join("a"), dir.path().join("b")], &out).expect("merged");
    let xml = fs::read_to_string(&written[0]).expect("xml");
    assert!(written[0].ends_with("TEST-verify.xml") && xml.contains(r#"tests="3" failures="1" errors="0""#), "{xml}");
}

#[test]
fn a_finished_run_is_shown_with_the_exit_code_of_its_cases() {
    let dir = tempfile::tempdir().expect("a folder");
    write_log(dir.path(), &played::all());
    let (run, _) = load(dir.path()).expect("loaded");
    assert_eq!(show(&run, &Options { dir: "reports".into(), verbosity: -1, ..Options::default() }, Box::new(io::sink())), 5);
    assert!(load(&dir.path().join("none")).is_err());
    fs::write(dir.path().join("x.jsonl"), "nonsense").expect("written");
    assert!(load(&dir.path().join("x.jsonl")).is_err());
}

#[test]
fn a_sink_that_cannot_write_is_told_of_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let blocked = dir.path().join("file");
    fs::write(&blocked, "").expect("written");
    #[derive(Clone, Default)]
    struct Heard(std::sync::Arc<std::sync::Mutex<Vec<String>>>);
    impl Sink for Heard {
        fn event(&mut self, _: &Stamped, _: &RunSummary) {}
        fn warned(&mut self, text: &str) {
            self.0.lock().expect("lock").push(text.to_owned());
        }
    }
    let heard = Heard::default();
    let mut reports = Reports::new(RunSummary::default(), vec![Box::new(runlog::RunLog::new(&blocked)), Box::new(heard.clone())]);
    reports.events(&played::all());
    let told = heard.0.lock().expect("lock").clone();
    assert!(told.len() == 1 && told[0].starts_with("cannot write `"), "{told:?}");
}
