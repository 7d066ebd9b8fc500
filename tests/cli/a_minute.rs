//! What waits a minute by design. Tests begin in the order of their names, and nothing is to be left to wait for at the end.

use crate::worlds::{failure, in_world};

#[test]
fn unhealthy_targets_are_reported_with_aws_reason() {
    let run = in_world("target-unhealthy", &[]).exits(5);
    assert!(failure(&run, "targets_unhealthy").to_string().contains("Request timed out"), "{}", run.stdout);
}
