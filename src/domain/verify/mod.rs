//! What a host must answer, who answered instead, and how to ask by hand.

pub mod answer;
pub mod curl;
pub mod expect;
pub mod retry;

pub use answer::{Origin, Reply, TlsReason, origin};
pub use expect::{Expect, Verdict, judge};
