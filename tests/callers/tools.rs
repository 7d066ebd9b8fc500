//! The tools that are not ours, brought once by `tools.sh`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::support::root;

pub(crate) fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let out = Command::new("bash").arg(here("tools.sh")).stdin(Stdio::null()).stderr(Stdio::inherit()).output().expect("bash");
        assert!(out.status.success(), "tools.sh cannot bring the tools; it has said why");
        PathBuf::from(String::from_utf8_lossy(&out.stdout).trim())
    })
}

/// A tool that came as a Python wheel.
pub(crate) fn wheel(name: &str) -> String {
    folder().join("bin").join(name).display().to_string()
}

/// A file beside these tests.
pub(crate) fn here(name: &str) -> PathBuf {
    root().join("tests/callers").join(name)
}

/// PATH with the binary under test first and the wheels' tools after it; `rest` is what was there.
pub(crate) fn path(rest: &str) -> String {
    let binary = Path::new(env!("CARGO_BIN_EXE_meshstep")).parent().expect("a folder");
    format!("{}:{}:{rest}", binary.display(), folder().join("bin").display())
}

/// groovy does not look for Java on its own where Debian has it.
pub(crate) fn java_home() -> String {
    if let Ok(home) = std::env::var("JAVA_HOME") {
        return home;
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let java = path.split(':').map(|folder| Path::new(folder).join("java")).find(|java| java.is_file()).expect("java is on PATH");
    let real = java.canonicalize().expect("java");
    real.ancestors().nth(2).expect("JAVA_HOME/bin/java").display().to_string()
}
