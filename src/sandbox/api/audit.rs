//! The latest requests, for tests and for a person who wonders what a tool asked.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// How many requests are kept.
const KEPT: usize = 20_000;

/// One request and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As the real audit log names it: `get`, `list`, `watch`, `create`, …
    pub verb: String,
    /// Path with query.
    pub path: String,
    /// HTTP status code; 0 if the request was never answered.
    pub code: u16,
    pub user_agent: String,
    pub user: String,
}

#[derive(Debug, Default)]
pub(super) struct Ring(Mutex<VecDeque<Entry>>);

impl Ring {
    pub(super) fn push(&self, entry: Entry) {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.len() == KEPT {
            ring.pop_front();
        }
        ring.push_back(entry);
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
