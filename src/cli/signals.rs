//! What ends a run early: a signal, or the command's own time limit.

use tokio::signal::unix::{SignalKind, signal};

use crate::base::codes::Code;
use crate::base::fault::{Class, Fault};
use crate::engine::record::Recorder;
use crate::stages::Seconds;

/// The first SIGTERM or SIGINT ends the run in order, with the report written; the second one at once.
pub(super) fn abort_on_signal(record: Recorder) {
    for (kind, name, exit) in [(SignalKind::terminate(), "SIGTERM", 143), (SignalKind::interrupt(), "SIGINT", 130)] {
        let Ok(mut signals) = signal(kind) else { continue };
        let record = record.clone();
        tokio::spawn(async move {
            signals.recv().await;
            record.abort(Fault::new(Code::Cancelled, format!("aborted by {name}")), Some(exit));
            signals.recv().await;
            leave(exit.into());
        });
    }
}

/// Ends the run as timed out when the whole command's limit has passed.
pub(super) fn abort_after(record: Recorder, limit: Seconds) {
    tokio::spawn(async move {
        tokio::time::sleep(limit.0).await;
        let why = Fault::new(Code::Cancelled, format!("the command's limit of {limit} has passed")).class(Class::TimedOut);
        record.abort(why.next("raise `--timeout`, or see what took the time in the report"), None);
    });
}

#[expect(clippy::exit, reason = "the second signal means now")]
fn leave(exit: i32) -> ! {
    std::process::exit(exit)
}
