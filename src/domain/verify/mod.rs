//! What a host must answer, who answered instead, and how to ask by hand.

pub mod answer;
pub mod availability;
pub mod curl;
pub mod expect;
pub mod inside;
pub mod judged;
pub mod reach;
pub mod retry;
pub mod want;

pub use answer::{Origin, Reply, TlsReason, origin};
pub use expect::{Expect, Verdict, judge};
