//! The real binary with the real helm against the sandbox: what a person who follows the README sees.

mod bad_input;
mod doctor;
mod filters;
mod init;
mod line;
mod rights;
mod support;
mod surface;
mod ways;
mod worlds;
