//! `cargo lab waiting`: the same rollouts, waited for by meshstep, by `kubectl rollout status` and by `helm --wait`, at the same time on one
//! lab. With `UPDATE=1` the README's table is written anew.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use serde_json::json;

use crate::runner::{Scenario, Side, Stage, chosen, play, words};
use crate::scenarios::RealParts;
use crate::support;

/// What kubectl and helm may take.
const LIMIT: Duration = Duration::from_secs(60);
/// Waits at once: the three of a line and those of its neighbours.
const AT_ONCE: usize = 15;
const MARK: &str = "<!-- waiting: written by `UPDATE=1 cargo lab waiting` -->\n";
const END: &str = "<!-- /waiting -->";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiter {
    Ours,
    Kubectl,
    Helm,
}

/// How a wait ended: in a word, and after how long.
type Ended = Result<(String, Duration), String>;

pub(crate) fn side_by_side(of: &[String]) {
    meshstep::clients::install_crypto_provider();
    let titled = |file: PathBuf| {
        let scenario = Scenario::read(&file, &[]).ok()?;
        Some((scenario.expect.exit == 0, file, scenario.readme?))
    };
    // what fails first, then what recovers
    let mut lines: Vec<(bool, PathBuf, String)> = chosen(of).into_iter().filter_map(titled).collect();
    lines.sort();
    assert!(!lines.is_empty(), "no scenario has a line in the README");
    let side = RealParts::up(support::Profile::Alb);
    let waits = lines.iter().flat_map(|(_, file, _)| [Waiter::Ours, Waiter::Kubectl, Waiter::Helm].map(|waiter| (file.as_path(), waiter)));
    let ended: Vec<Ended> =
        support::runtime().block_on(stream::iter(waits).map(|(file, waiter)| wait(&side, file, waiter)).buffered(AT_ONCE).collect());
    let mut table = "| rollout | meshstep | kubectl rollout status | helm --wait |\n|---|---|---|---|\n".to_owned();
    let mut wrong = Vec::new();
    for ((_, _, title), ended) in lines.iter().zip(ended.chunks(3)) {
        let cells: Vec<String> = ended.iter().map(cell).collect();
        _ = writeln!(table, "| {title} | {} |", cells.join(" | "));
        wrong.extend(ended.iter().filter_map(|ended| ended.as_ref().err()).map(|problem| format!("{title}: {problem}")));
    }
    println!("{table}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    if std::env::var_os("UPDATE").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
        let readme = std::fs::read_to_string(&path).expect("README.md");
        let (before, rest) = readme.split_once(MARK).expect("the mark where the table begins");
        let (_, after) = rest.split_once(END).expect("the mark where the table ends");
        std::fs::write(&path, format!("{before}{MARK}{table}{END}{after}")).expect("README.md is written");
    }
}

fn cell(ended: &Ended) -> String {
    match ended {
        Ok((word, took)) => format!("{word}, {:.0} s", took.as_secs_f64()),
        Err(_) => "?".to_owned(),
    }
}

async fn wait(side: &RealParts, file: &Path, waiter: Waiter) -> Ended {
    if waiter == Waiter::Ours {
        let played = play(&side, file).await;
        return if played.problems.is_empty() { Ok((format!("`{}`", played.verdict.word()), played.took)) } else { Err(played.problems.join("; ")) };
    }
    let name = format!("{}-{}", file.file_stem().unwrap_or_default().to_string_lossy(), if waiter == Waiter::Helm { "helm" } else { "kubectl" });
    let scenario = Scenario::read_as(file, &name, &words(&side))?;
    let stage = (&side).arrange(&scenario).await?;
    let ended = other(side, &scenario, waiter).await;
    stage.end().await?;
    ended
}

/// What another tool makes of the same workload.
async fn other(side: &RealParts, scenario: &Scenario, waiter: Waiter) -> Ended {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let app = scenario.workload().ok_or("it has no workload")?;
    let put = |name: &str, text: String| std::fs::write(folder.path().join(name), text).map_err(|error| error.to_string());
    let (limit, namespace) = (format!("{}s", LIMIT.as_secs()), scenario.name.as_str());
    let started = Instant::now();
    let output = match waiter {
        Waiter::Helm => {
            std::fs::create_dir_all(folder.path().join("templates")).map_err(|error| error.to_string())?;
            put("Chart.yaml", json!({"apiVersion": "v2", "name": "app", "version": "1.0.0"}).to_string())?;
            put("templates/app.yaml", app.to_string())?;
            let chart = folder.path().to_str().ok_or("a path")?;
            side.tool("helm", &["upgrade", "--install", "app", chart, "--namespace", namespace, "--wait", "--timeout", &limit]).await?
        }
        _ => {
            side.apply(&[app]).await?;
            side.tool("kubectl", &["rollout", "status", "deployment/app", "--namespace", namespace, "--timeout", &limit]).await?
        }
    };
    Ok((word(&output)?, started.elapsed()))
}

fn word(output: &Output) -> Result<String, String> {
    let said = String::from_utf8_lossy(&output.stderr);
    let timed_out = ["timed out waiting", "deadline exceeded", "exceeded its progress deadline"].iter().any(|words| said.contains(words));
    match output.status.success() {
        true => Ok("ok".to_owned()),
        false if timed_out => Ok("timed out".to_owned()),
        false => Err(format!("failed otherwise: {}", said.trim())),
    }
}
