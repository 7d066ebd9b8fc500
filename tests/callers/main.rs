//! `cargo callers`: what Jenkins and GitHub make of `pipelines/`, on a served sandbox. The Jenkinsfile runs in groovy, the workflow in act,
//! and what they leave is read by the readers that people have. `tools.sh` brings the tools, so `cargo test` leaves this out.

mod github;
mod jenkins;
mod readers;
#[path = "../cli/support.rs"]
#[expect(dead_code, reason = "the tests of the command line use the rest")]
mod support;
mod tools;
