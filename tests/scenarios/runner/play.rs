//! One scenario on one side, from the arranged world to the judged verdict.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::sandbox::CLUSTER;
use super::scenario::{Event, Scenario, Shop};
use super::{Side, Stage, Verdict};

/// What came of a scenario on one side.
pub(crate) struct Played {
    pub(crate) verdict: Verdict,
    pub(crate) took: Duration,
    /// Everything that is not as expected.
    pub(crate) problems: Vec<String>,
    /// What a person saw.
    pub(crate) text: String,
}

impl Played {
    fn broken(problem: String) -> Self {
        let verdict = Verdict { exit: -1, codes: Vec::new(), cases: Vec::new() };
        Self { verdict, took: Duration::ZERO, problems: vec![problem], text: String::new() }
    }
}

/// Plays a scenario's file on a side.
pub(crate) async fn play<S: Side>(side: &S, file: &Path) -> Played {
    match on(side, file).await {
        Ok(played) => played,
        Err(problem) => Played::broken(problem),
    }
}

/// What takes the place of `<certificate>` and such on a side.
pub(crate) fn words<S: Side>(side: &S) -> Vec<(&'static str, String)> {
    side.words().into_iter().chain(super::stranger::words()).collect()
}

async fn on<S: Side>(side: &S, file: &Path) -> Result<Played, String> {
    let scenario = Scenario::read(file, &words(side))?;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let stage = side.arrange(&scenario).await?;
    let played = run(&stage, &scenario, folder.path()).await;
    let ended = stage.end().await;
    let mut played = played?;
    played.problems.extend(ended.err());
    Ok(played)
}

async fn run<S: Stage>(stage: &S, scenario: &Scenario, folder: &Path) -> Result<Played, String> {
    write(stage, scenario, folder)?;
    if scenario.shop == Some(Shop::Published) {
        publish(stage, folder, scenario.hard_limit()).await?;
    }
    happen(stage, &scenario.before, folder).await?;
    let played = command_and_events(stage, scenario, folder).await;
    happen(stage, &scenario.afterwards, folder).await?;
    played
}

/// The whole run that other scenarios start from.
async fn publish<S: Stage>(stage: &S, folder: &Path, limit: Duration) -> Result<(), String> {
    let mut command = command(stage, folder, &["run".to_owned()], "published")?;
    let ended = tokio::time::timeout(limit.max(Duration::from_secs(180)), command.status()).await;
    match ended.map_err(|_| "the shop's first run does not end")?.map_err(|error| error.to_string())?.code() {
        Some(0) => Ok(()),
        _ => Err(format!("the shop's first run failed:\n{}", std::fs::read_to_string(folder.join("console")).unwrap_or_default())),
    }
}

async fn command_and_events<S: Stage>(stage: &S, scenario: &Scenario, folder: &Path) -> Result<Played, String> {
    let mut command = command(stage, folder, &scenario.run, "reports")?;
    let started = Instant::now();
    let mut child = command.spawn().map_err(|error| format!("meshstep does not start: {error}"))?;
    let ended = tokio::time::timeout(scenario.hard_limit(), child.wait());
    let (mut problems, happened) = (Vec::new(), happen(stage, &scenario.meanwhile, folder));
    let mut happened = std::pin::pin!(happened);
    let mut ended = std::pin::pin!(ended);
    let output = tokio::select! {
        output = &mut ended => {
            // the last event may be what ended it, and still be under way
            let done = tokio::time::timeout(Duration::from_secs(2), &mut happened).await;
            problems.extend(done.unwrap_or_else(|_| Err("it ended before everything had happened".to_owned())).err());
            output
        }
        done = &mut happened => {
            problems.extend(done.err());
            ended.await
        }
    };
    let took = started.elapsed();
    let exit = match output {
        Ok(status) => status.map_err(|error| error.to_string())?.code().unwrap_or(-1),
        Err(_) => {
            problems.push(format!("not at its end after {} s, ended by force", scenario.hard_limit().as_secs()));
            -1
        }
    };
    let text = std::fs::read_to_string(folder.join("console")).unwrap_or_default();
    let verdict = Verdict::read(exit, &folder.join("reports"));
    problems.extend(verdict.problems(&scenario.expect, &text, took));
    problems.extend(super::verdict::ill_formed(&folder.join("reports")));
    Ok(Played { verdict, took, problems, text })
}

/// meshstep with these words; what it tells goes to the file `console`.
fn command<S: Stage>(stage: &S, folder: &Path, words: &[String], reports: &str) -> Result<tokio::process::Command, String> {
    let console = std::fs::File::create(folder.join("console")).map_err(|error| error.to_string())?;
    let both = console.try_clone().map_err(|error| error.to_string())?;
    let mut command = stage.command(env!("CARGO_BIN_EXE_meshstep"));
    command.args(words).args(["-f", "meshstep.yaml", "--report-dir", reports]).current_dir(folder);
    command.stdin(Stdio::null()).stdout(console).stderr(both);
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true);
    Ok(command)
}

fn write<S: Stage>(stage: &S, scenario: &Scenario, folder: &Path) -> Result<(), String> {
    let put = |name: &str, value: &Value| {
        let text = serde_saphyr::to_string(value).map_err(|error| error.to_string())?;
        std::fs::write(folder.join(name), text).map_err(|error| format!("{name}: {error}"))
    };
    if scenario.shop.is_some() {
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines"), folder).map_err(|error| format!("pipelines: {error}"))?;
        return Ok(());
    }
    put("meshstep.yaml", &scenario.pipeline(&stage.cluster()))?;
    scenario.workload().map_or(Ok(()), |app| put("app.yaml", &app))
}

/// The shop as it is in the lab: its cluster, and hosts that its load balancer has a certificate for.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    let renames =
        [("public.domain", "example.com"), ("shop-eks", CLUSTER.0), ("ap-southeast-1", CLUSTER.1), ("max-workloads: 5", "max-workloads: 6")];
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            let text = std::fs::read_to_string(entry.path())?;
            std::fs::write(target, renames.iter().fold(text, |text, (from, to)| text.replace(from, to)))?;
        }
    }
    Ok(())
}

/// Lets everything happen, one after the other.
async fn happen<S: Stage>(stage: &S, events: &[Event], folder: &Path) -> Result<(), String> {
    for event in events {
        if let Some(words) = &event.when {
            let told = || std::fs::read_to_string(folder.join("reports/run.jsonl")).unwrap_or_default().contains(words.as_str());
            while !told() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        tokio::time::sleep(event.after.0).await;
        one(stage, event).await?;
    }
    Ok(())
}

async fn one<S: Stage>(stage: &S, event: &Event) -> Result<(), String> {
    if let Some(object) = &event.apply {
        stage.apply(std::slice::from_ref(object)).await?;
    }
    if let Some(object) = &event.delete {
        stage.delete(object).await?;
    }
    if let Some(faults) = &event.aws {
        stage.aws(faults).await?;
    }
    if event.refuse_token {
        stage.refuse_token().await?;
    }
    if event.drop_strays {
        stage.drop_strays().await?;
    }
    for (what, part) in [("stop", event.stop), ("start", event.start), ("freeze", event.freeze), ("thaw", event.thaw)] {
        if let Some(part) = part {
            stage.part(what, part).await?;
        }
    }
    Ok(())
}
