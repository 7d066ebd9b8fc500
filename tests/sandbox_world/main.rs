//! The sandbox's worlds, seen by ordinary clients over loopback: kube-rs, the AWS SDK, reqwest and plain DNS.

mod cluster;
mod support;
mod traffic;
mod waiting;
