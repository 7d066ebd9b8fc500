//! The real binary with the real helm against the sandbox: what a person who follows the README sees.

mod a_minute;
mod availability;
mod bad_input;
mod certificates;
mod cleanup;
mod cluster;
mod doctor;
mod filters;
mod foresight;
mod init;
mod inside;
mod line;
mod rights;
mod support;
mod surface;
mod troubleshoot;
mod ways;
mod worlds;
