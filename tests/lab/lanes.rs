//! Several scenarios: three lanes, each with a lab of its own, take them one after another. Each scenario is a process, and is told whole when it ends.

use std::collections::VecDeque;
use std::io::PipeReader;
use std::process::{Child, Command, Stdio};
use std::sync::{Condvar, Mutex, MutexGuard};

use meshstep::base::mutex::lock;

use crate::runner::PATIENCE_VARIABLE;
use crate::support::{self, LANES};

/// Names the lane to the process of a scenario; the lock and the build are its parent's.
pub(crate) const LANE_VARIABLE: &str = "LAB_LANE";
/// How many times as long a file of tests/scenarios may take while two other labs work beside it.
const PATIENCE: &str = "3";

struct Work {
    waiting: VecDeque<&'static str>,
    /// The processes of those that have begun.
    running: Vec<u32>,
}

static WORK: Mutex<Work> = Mutex::new(Work { waiting: VecDeque::new(), running: Vec::new() });
static ENDED: Condvar = Condvar::new();

fn work() -> MutexGuard<'static, Work> {
    lock(&WORK)
}

/// Runs all of these, in this order as lanes come free; the names of those that failed.
pub(crate) fn run(names: &[&'static str]) -> Vec<&'static str> {
    work().waiting.extend(names);
    end_on_signals();
    let failed = |lane| std::iter::from_fn(move || begun(lane)).filter_map(|mut one| (!passes(&mut one)).then_some(one.name)).collect::<Vec<_>>();
    std::thread::scope(|scope| {
        let lanes = LANES.map(|lane| scope.spawn(move || failed(lane)));
        lanes.into_iter().flat_map(|lane| lane.join().expect("a lane ends")).collect()
    })
}

struct Begun {
    name: &'static str,
    child: Child,
    output: PipeReader,
}

/// The next scenario as a process; there is none without its being known to `end_on_signals`.
fn begun(lane: &str) -> Option<Begun> {
    let mut work = work();
    let name = work.waiting.pop_front()?;
    println!("-- {name} begins");
    let program = std::env::current_exe().expect("this program");
    let mut command = support::bound(program);
    // What a panic says goes to stderr: both in one pipe keep their order.
    let (output, writer) = std::io::pipe().expect("a pipe");
    command.arg(name).env(LANE_VARIABLE, lane).env(PATIENCE_VARIABLE, PATIENCE).stdin(Stdio::null());
    let child = command.stdout(writer.try_clone().expect("a pipe")).stderr(writer).spawn().expect("a scenario starts");
    work.running.push(child.id());
    Some(Begun { name, child, output })
}

fn passes(one: &mut Begun) -> bool {
    let told = std::io::read_to_string(&one.output).unwrap_or_else(|error| format!("its output is no text: {error}\n"));
    let status = one.child.wait().expect("a scenario ends");
    work().running.retain(|id| *id != one.child.id());
    ENDED.notify_all();
    print!("{told}");
    status.success()
}

/// A scenario that is asked to end takes its lab down, and no other begins.
fn end_on_signals() {
    support::on_signals(|| {
        let mut work = work();
        work.waiting.clear();
        for id in &work.running {
            _ = Command::new("kill").args(["-TERM", &id.to_string()]).status();
        }
        drop(ENDED.wait_while(work, |work| !work.running.is_empty()));
    });
}
