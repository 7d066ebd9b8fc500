//! `meshstep verify --address …`: hosts asked from flags alone, without a pipeline file.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::secrets;
use crate::cli::args::{SchemeArg, VerifyArgs};
use crate::cli::settings::Environment;
use crate::cli::{console, run, runtime, signals};
use crate::clients::http::Http;
use crate::engine::event::Event;
use crate::engine::outcome::worst;
use crate::engine::record::Recorder;
use crate::stages::verify::Scheme;
use crate::stages::verify::direct::{Direct, hosts_of};

const STAGE: &str = "verify";
/// How long a host may take to answer rightly when `--timeout` does not say.
const PATIENCE: Duration = Duration::from_secs(10);

/// Returns the exit code.
pub(super) fn run(args: VerifyArgs, environment: Environment) -> Result<u8> {
    secrets::learn_environment(environment.process().iter().map(|(k, v)| (k.as_str(), v.as_str())));
    let (direct, exit_zero) = (direct(&args)?, args.stage.exit_zero);
    let runtime = runtime();
    // On a worker, which waits for the sockets itself: this thread would have to be woken by one for each packet.
    let asked = runtime.block_on(runtime.spawn(ask(direct, args, environment)));
    let exit = asked.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))?;
    runtime.shutdown_background();
    Ok(run::forgiven(exit_zero, exit))
}

async fn ask(direct: Direct, args: VerifyArgs, environment: Environment) -> Result<u8> {
    let start = Instant::now();
    let run_id = environment.run_id();
    let record = Recorder::new(console::reporters(&args.stage.report, &environment, &run_id), CancellationToken::new());
    signals::abort_on_signal(record.clone());
    let http = Http::new(&environment.settings())?;
    let ticking = tokio::spawn(crate::engine::runner::tick(record.clone()));
    record.emit(run::started(&environment, &run_id, "verify", "default", &[STAGE], false));
    record.emit(Event::StageStarted { stage: STAGE.to_owned() });
    direct.run(&record.for_stage(STAGE), &http).await;
    record.emit(Event::StageEnded { stage: STAGE.to_owned(), seconds: start.elapsed() });
    ticking.abort();
    let exit = record.aborted().and_then(|aborted| aborted.exit).unwrap_or_else(|| worst(record.faults()));
    record.end(exit, start.elapsed());
    // The process ends: what it knows of thousands of hosts need not be given back piece by piece.
    std::mem::forget(record);
    Ok(exit)
}

fn direct(args: &VerifyArgs) -> Result<Direct> {
    let flags = &args.direct;
    let mut hosts = args.stage.host.clone();
    if let Some(file) = &flags.hosts_file {
        let text = std::fs::read_to_string(file);
        hosts.extend(hosts_of(&text.map_err(|e| Fault::new(Code::FileUnreadable, format!("cannot read {}: {e}", file.display())))?));
    }
    if hosts.is_empty() {
        return Err(Fault::new(Code::FileInvalid, "no host to ask").next("name hosts with `--host H` or `--hosts-file FILE`"));
    }
    let hosts = args.shard.unwrap_or_default().of(hosts);
    let address = flags.address.as_deref().map(address).transpose()?;
    let tls = matches!(flags.scheme, Some(SchemeArg::Https)) || (flags.scheme.is_none() && address.as_ref().is_some_and(|(_, port)| *port == 443));
    Ok(Direct {
        address,
        hosts,
        scheme: if tls { Scheme::Https } else { Scheme::Http },
        path: flags.path.clone().unwrap_or_else(|| "/".to_owned()),
        status: flags.status,
        body_contains: None,
        within: None,
        timeout: args.stage.timeout.map_or(PATIENCE, |limit| limit.0),
        cacert: args.cacert.cacert.clone(),
    })
}

fn address(text: &str) -> Result<(String, u16)> {
    let parts = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    match parts {
        Some((host, port)) if !host.is_empty() && port > 0 => Ok((host.trim_start_matches('[').trim_end_matches(']').to_owned(), port)),
        _ => Err(Fault::new(Code::FileInvalid, format!("`{text}` is no address")).next("write it as HOST:PORT, e.g. 10.0.1.10:80")),
    }
}
