//! Many cases are rendered on all processors, some at a time: the text of all at once would be most of what a run takes of memory.

use std::io::{self, Write};
use std::panic::resume_unwind;
use std::sync::LazyLock;
use std::thread;

/// The most cases that one thread renders at a time, and the fewest that are worth a thread.
pub(super) const SHARE: usize = 500;
const LEAST: usize = 50;

static PROCESSORS: LazyLock<usize> = LazyLock::new(|| thread::available_parallelism().map_or(1, usize::from));

/// Writes what `render` makes of the items' shares, in their order.
pub(super) fn write<T: Sync>(items: &[T], out: &mut impl Write, render: impl Fn(&[T]) -> io::Result<Vec<u8>> + Sync) -> io::Result<()> {
    for turn in items.chunks(SHARE * *PROCESSORS) {
        let share = turn.len().div_ceil(*PROCESSORS).max(LEAST);
        let (own, others) = turn.split_at(turn.len().min(share));
        thread::scope(|scope| {
            let others: Vec<_> = others.chunks(share).map(|share| scope.spawn(|| render(share))).collect();
            out.write_all(&render(own)?)?;
            others.into_iter().try_for_each(|share| out.write_all(&share.join().unwrap_or_else(|panicked| resume_unwind(panicked))?))
        })?;
    }
    Ok(())
}
