//! Reporters: they consume events and never call back.
