//! The binary: everything is in the library.

use std::process::ExitCode;

/// Reports are made of many small texts on several threads: with the system's allocator a third of the time for 10,000 checks goes there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    meshstep::cli::main(std::env::args_os())
}
