//! The routes stage on a real file: what it changes, what it says, and that nothing is written when anything is wrong.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use meshstep::base::finding::render;
use meshstep::clients::http::Http;
use meshstep::clients::settings::Settings;
use meshstep::clients::tools::Tools;
use meshstep::engine::event::{CaseEnd, Event, Stamped};
use meshstep::engine::ledger::Ledger;
use meshstep::engine::outcome::{Change, Outcome};
use meshstep::engine::record::{Recorder, Reporter};
use meshstep::engine::runner::{Policy, run};
use meshstep::engine::{Ctx, Stage};
use meshstep::spec;
use meshstep::stages::routes::RoutesStage;
use meshstep::stages::{Filters, Given, Options, Shared};
use tokio_util::sync::CancellationToken;

#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<CaseEnd>>>);

impl Reporter for Heard {
    fn events(&mut self, events: &[Stamped]) {
        let ends = events.iter().filter_map(|event| if let Event::CaseEnded(end) = &event.event { Some((**end).clone()) } else { None });
        self.0.lock().expect("lock").extend(ends);
    }
}

/// A folder with a pipeline file and its values file.
struct Shop {
    dir: tempfile::TempDir,
}

const ENTRIES: &str = r"    - virtualName: app1-virtual-svc
      name: app1-service
      port: 9000
      namespaces:
        - {name: prod, hosts: [app1.public.domain, app1-service.prod.svc.cluster.local]}
        - {name: pre-prod, hosts: [app1-pre.public.domain, app1-service.pre-prod.svc.cluster.local]}
    - virtualName: app2-virtual-svc
      name: app2-service
      port: 8001
      namespaces: [{name: prod, hosts: [app2.public.domain, app2-service.prod.svc.cluster.local]}]
      prefixes: [/api, /]
";

impl Shop {
    fn new(values: &str, entries: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("values.yaml"), values).expect("written");
        let upsert = if entries.is_empty() { String::new() } else { format!("  upsert:\n{entries}") };
        let text = format!("version: 1\nname: shop\ncluster: {{context: none}}\nroutes:\n  values: values.yaml\n{upsert}");
        std::fs::write(dir.path().join("meshstep.yaml"), text).expect("written");
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn values(&self) -> String {
        std::fs::read_to_string(self.path("values.yaml")).expect("values")
    }

    /// Runs the stage; the values file may be changed between reading the pipeline file and the stage.
    async fn run(&self, dry_run: bool, services: &[&str], meanwhile: impl FnOnce(&Path)) -> (u8, Vec<CaseEnd>) {
        let loaded = spec::load(&self.path("meshstep.yaml"), &BTreeMap::new()).unwrap_or_else(|findings| panic!("{}", render(&findings)));
        meanwhile(&self.path("values.yaml"));
        let cancel = CancellationToken::new();
        let settings = Settings::from_vars([], []);
        let shared = Shared::new(Given {
            pipeline: loaded.pipeline,
            places: loaded.places,
            dir: self.dir.path().to_path_buf(),
            filters: Filters { services: services.iter().map(ToString::to_string).collect(), ..Filters::default() },
            options: Options::default(),
            run_id: "test".into(),
            lock_id: "test".into(),
            build_url: None,
            run_dir: self.dir.path().to_path_buf(),
            http: Http::new(&settings).expect("a client"),
            tools: Tools::new(settings, cancel.clone()),
        });
        let heard = Heard::default();
        let record = Recorder::new(vec![Box::new(heard.clone())], cancel);
        let ctx = Ctx { shared: Arc::new(shared), record, ledger: Ledger::none(), dry_run };
        let stages: Vec<Box<dyn Stage<Shared>>> = vec![Box::new(RoutesStage)];
        let exit = run(&stages, &ctx, Policy::default()).await;
        let ends = heard.0.lock().expect("lock").clone();
        (exit, ends)
    }
}

fn fixture(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/values").join(name)).expect("a fixture")
}

/// `name: how it ended`.
fn ends(cases: &[CaseEnd]) -> Vec<String> {
    let how = |end: &CaseEnd| match &end.outcome {
        Outcome::Passed { change, note } => format!("{change:?} {note}"),
        Outcome::Failed(fault) => format!("{} at {}", fault.code, end.place.as_ref().map_or(0, |p| p.line)),
        Outcome::Skipped { reason } => format!("skipped {reason}"),
        Outcome::Repaired { story } => story.clone(),
    };
    cases.iter().map(|end| format!("{}: {}", end.case.name, how(end))).collect()
}

#[tokio::test]
async fn entries_are_brought_up_to_date_once() {
    let shop = Shop::new(&fixture("shop.yaml"), ENTRIES);
    let (exit, cases) = shop.run(false, &[], |_| {}).await;
    assert_eq!(exit, 0);
    assert_eq!(
        ends(&cases),
        [
            "values file: None 2 VirtualServices",
            "virtualservice app1-virtual-svc: Changed updated",
            "virtualservice app2-virtual-svc: Changed inserted"
        ]
    );
    assert_eq!((cases[1].case.service.as_deref(), cases[1].place.as_ref().map(|p| p.line)), (Some("app1-service"), Some(7)));
    assert!(cases[1].output.contains("-    port: 8000\n+    port: 9000\n"), "{}", cases[1].output);
    assert_eq!(shop.values(), fixture("shop.after.yaml"));
    let written = std::fs::metadata(shop.path("values.yaml")).expect("meta").modified().expect("time");
    let (exit, cases) = shop.run(false, &[], |_| {}).await;
    assert_eq!(exit, 0);
    assert_eq!(ends(&cases)[1..], ["virtualservice app1-virtual-svc: None unchanged", "virtualservice app2-virtual-svc: None unchanged"]);
    assert_eq!(std::fs::metadata(shop.path("values.yaml")).expect("meta").modified().expect("time"), written);
}

#[tokio::test]
async fn a_dry_run_shows_the_difference_and_writes_nothing() {
    let shop = Shop::new(&fixture("shop.yaml"), ENTRIES);
    let (exit, cases) = shop.run(true, &[], |_| {}).await;
    assert_eq!((exit, shop.values()), (0, fixture("shop.yaml")));
    assert!(cases[1..].iter().all(|end| matches!(end.outcome, Outcome::Passed { change: Change::WouldChange, .. })), "{:?}", ends(&cases));
    assert!(cases[2].output.contains("+  - virtualName: app2-virtual-svc\n"), "{}", cases[2].output);
}

#[tokio::test]
async fn only_the_chosen_services_are_touched() {
    let shop = Shop::new(&fixture("shop.yaml"), ENTRIES);
    let (_, cases) = shop.run(false, &["app2-service"], |_| {}).await;
    assert_eq!(ends(&cases)[1..], ["virtualservice app2-virtual-svc: Changed inserted"]);
    assert!(shop.values().starts_with(&fixture("shop.yaml")));
}

#[tokio::test]
async fn a_bad_values_file_ends_the_stage_with_line_and_column() {
    let shop = Shop::new(&fixture("shop.yaml"), ENTRIES);
    let broken = fixture("wrong-indent.yaml");
    let (exit, cases) = shop.run(false, &[], |values| std::fs::write(values, &broken).expect("written")).await;
    assert_eq!((exit, ends(&cases)), (3, vec!["values file: file_invalid at 3".to_owned()]));
    let fault = cases[0].outcome.fault().expect("a fault");
    assert_eq!(cases[0].place.as_ref().map(|p| p.column), Some(7));
    assert!(fault.next[0].contains("column 5") && fault.evidence[0].text.contains('^'), "{fault:?}");
    assert_eq!(shop.values(), broken);
}

#[tokio::test]
async fn an_entry_that_takes_anothers_host_stops_all_of_them() {
    let taken = "    - virtualName: app3-virtual-svc\n      name: app3-service\n      port: 1\n      namespaces: [{name: prod, hosts: [app1-pre.public.domain]}]\n";
    let shop = Shop::new(&fixture("shop.yaml"), &format!("{ENTRIES}{taken}"));
    // The pipeline file's own entries conflict with each other, which `validate` tells before any stage.
    let findings = spec::load(&shop.path("meshstep.yaml"), &BTreeMap::new()).expect_err("a conflict");
    assert!(render(&findings).contains("belongs to another entry already: `app1-virtual-svc`"), "{}", render(&findings));
    let shop = Shop::new(
        &fixture("shop.yaml"),
        &format!("{}{taken}", ENTRIES.split_once("    - virtualName: app2").map(|(_, app2)| format!("    - virtualName: app2{app2}")).expect("app2")),
    );
    let (exit, cases) = shop.run(false, &[], |_| {}).await;
    let expected = [
        "values file: None 3 VirtualServices",
        "virtualservice app2-virtual-svc: skipped not written: another entry is invalid",
        "virtualservice app3-virtual-svc: route_conflict at 12",
    ];
    assert_eq!((exit, ends(&cases)), (3, expected.map(str::to_owned).to_vec()));
    assert_eq!(shop.values(), fixture("shop.yaml"));
}

#[tokio::test]
async fn without_a_section_the_stage_says_so() {
    let shop = Shop::new("", "");
    std::fs::write(shop.path("meshstep.yaml"), "version: 1\nname: shop\ncluster: {context: none}\n").expect("written");
    let (exit, cases) = shop.run(false, &[], |_| {}).await;
    assert_eq!((exit, ends(&cases)), (0, vec!["routes: skipped no routes: section in the file".to_owned()]));
}
