//! Arguments, settings and dispatch: the only room that reads the environment and the only one that knows the sandbox.

pub mod args;
pub mod explain;
pub mod helm;
pub mod selection;
pub mod settings;
