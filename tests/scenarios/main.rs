//! `cargo test --test scenarios [WORD...]`: the scenario files of this folder on the sandbox. `cargo lab scenarios` plays them on real parts too.

#[expect(dead_code, unused_imports, reason = "some of it is for the lab alone")]
mod runner;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use futures::{StreamExt, stream};

use runner::{Played, Scenario, chosen, play, sandbox::Sandbox};

/// Scenarios that run at once: most of their time is waiting.
const AT_ONCE: usize = 16;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<String> = args.iter().filter(|arg| !arg.starts_with('-')).cloned().collect();
    let files = chosen(&words);
    if args.iter().any(|arg| arg == "--list") {
        files.iter().for_each(|file| println!("{}: test", file.display()));
        return ExitCode::SUCCESS;
    }
    meshstep::clients::install_crypto_provider();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(8).enable_all().build().expect("a runtime");
    let played = runtime.block_on(stream::iter(files).map(one).buffer_unordered(AT_ONCE).collect::<Vec<_>>());
    let played: BTreeMap<PathBuf, Result<Played, String>> = played.into_iter().collect();
    let failed = played.iter().filter(|(file, played)| !told(file, played)).count();
    if failed == 0 {
        println!("scenarios: {} passed", played.len());
        ExitCode::SUCCESS
    } else {
        println!("scenarios: {failed} of {} failed", played.len());
        ExitCode::FAILURE
    }
}

async fn one(file: PathBuf) -> (PathBuf, Result<Played, String>) {
    let reason = Scenario::read(&file, &[]).map(|scenario| scenario.not_on.sandbox);
    let played = match reason {
        Ok(Some(reason)) => Err(reason),
        _ => Ok(play(&Sandbox, &file).await),
    };
    (file, played)
}

/// Says how it went; `false` when that is not as expected.
fn told(file: &std::path::Path, played: &Result<Played, String>) -> bool {
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    match played {
        Err(reason) => println!("{name:32} -        on the lab only: {reason}"),
        Ok(played) if played.problems.is_empty() => println!("{name:32} {:6.1} s {}", played.took.as_secs_f64(), played.verdict.word()),
        Ok(played) => {
            println!("{name:32} {:6.1} s {}: {}", played.took.as_secs_f64(), played.verdict.word(), played.problems.join("; "));
            played.text.lines().for_each(|line| println!("    | {line}"));
            return false;
        }
    }
    true
}
