//! Several scenarios: three lanes, each with a lab of its own, take them one after another. Each scenario is a process, and is told whole when it ends.

use std::collections::VecDeque;
use std::process::{Command, Stdio};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::support::{self, LANES};

/// Names the lane to the process of a scenario; the lock and the build are its parent's.
pub(crate) const LANE_VARIABLE: &str = "LAB_LANE";

/// The scenarios that are running, and what is told when one of them has ended.
static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());
static ENDED: Condvar = Condvar::new();

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs all of these, in this order as lanes come free; the names of those that failed.
pub(crate) fn run(names: &[&'static str]) -> Vec<&'static str> {
    end_on_signals();
    let (waiting, failed) = (Mutex::new(names.iter().copied().collect::<VecDeque<_>>()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for lane in LANES {
            let (waiting, failed) = (&waiting, &failed);
            scope.spawn(move || {
                loop {
                    let Some(name) = lock(waiting).pop_front() else { break };
                    if !passes(name, lane) {
                        lock(failed).push(name);
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn passes(name: &str, lane: &str) -> bool {
    println!("-- {name} begins");
    let program = std::env::current_exe().expect("this program");
    let mut command = support::bound(program);
    // What a panic says goes to stderr: both in one pipe keep their order.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    command.arg(name).env(LANE_VARIABLE, lane).stdin(Stdio::null()).stdout(writer.try_clone().expect("a pipe")).stderr(writer);
    let mut child = command.spawn().expect("a scenario starts");
    drop(command);
    lock(&RUNNING).push(child.id());
    let told = std::io::read_to_string(reader).unwrap_or_else(|error| format!("its output is no text: {error}\n"));
    let status = child.wait().expect("a scenario ends");
    lock(&RUNNING).retain(|id| *id != child.id());
    ENDED.notify_all();
    print!("{told}");
    status.success()
}

/// A scenario that is asked to end takes its lab down.
fn end_on_signals() {
    support::on_signals(|| {
        let running = lock(&RUNNING);
        for id in running.iter() {
            _ = Command::new("kill").args(["-TERM", &id.to_string()]).status();
        }
        drop(ENDED.wait_while(running, |running| !running.is_empty()));
    });
}
