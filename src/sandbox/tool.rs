//! The folder with the stand-in for istioctl: a script that calls this program.

use std::path::{Path, PathBuf};

/// Writes the folder and tells its path. `program` is what the script executes.
///
/// # Errors
/// When the folder cannot be written.
pub(super) fn write(dir: &Path, program: &Path) -> Result<PathBuf, String> {
    let folder = dir.join("tools");
    let path = folder.join("istioctl");
    let quoted = format!("'{}'", program.display().to_string().replace('\'', "'\\''"));
    let script = format!("#!/bin/sh\n# the sandbox's stand-in for istioctl\nexec {quoted} sandbox-tool istioctl \"$@\"\n");
    let written = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, script)).and_then(|()| executable(&path));
    written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    Ok(folder)
}

#[cfg(unix)]
fn executable(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn executable(_: &Path) -> std::io::Result<()> {
    Ok(())
}
