//! Folders of one process that only its user can read: kubeconfigs, rendered files. They are gone at its end; what a killed process left,
//! the next one removes.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};

const PREFIX: &str = "meshstep-private-";
/// A folder that nobody holds is left alone for so long: its process may be about to.
const YOUNG: Duration = Duration::from_secs(600);

/// Removed when it is dropped.
pub(super) struct Private {
    dir: TempDir,
    /// Locked: the sign that its process lives.
    _held: Option<File>,
}

impl Private {
    pub(super) fn make() -> Result<Self> {
        let parent = std::env::temp_dir();
        sweep(&parent);
        Self::make_in(&parent).map_err(|e| Fault::new(Code::FileUnreadable, format!("cannot make a private folder in {}: {e}", parent.display())))
    }

    fn make_in(parent: &Path) -> std::io::Result<Self> {
        let dir = tempfile::Builder::new().prefix(PREFIX).permissions(Permissions::from_mode(0o700)).tempdir_in(parent)?;
        // Where folders cannot be locked, nobody takes it for left behind either.
        let held = File::open(dir.path()).ok().filter(|file| file.try_lock().is_ok());
        Ok(Self { dir, _held: held })
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Removes the folders whose process is gone. What cannot be looked at or removed is somebody else's.
fn sweep(parent: &Path) {
    let ours = |entry: &fs::DirEntry| entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
    for entry in fs::read_dir(parent).into_iter().flatten().flatten().filter(ours) {
        let old = entry.metadata().is_ok_and(|meta| meta.is_dir() && meta.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age > YOUNG)));
        if old && File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok()) {
            let _left = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn age(path: &Path) {
        let long_ago = SystemTime::now() - 2 * YOUNG;
        File::open(path).and_then(|file| file.set_modified(long_ago)).expect("aged");
    }

    #[test]
    fn what_killed_processes_left_is_removed_and_nothing_else() {
        let parent = tempfile::tempdir().expect("a folder");
        let folder = |name: &str, old: bool| {
            let path = parent.path().join(name);
            fs::create_dir(&path).expect("made");
            fs::write(path.join("kubeconfig"), "token").expect("written");
            if old {
                age(&path);
            }
            path
        };
        let held = Private::make_in(parent.path()).expect("made");
        age(held.path());
        let (left, young, foreign) = (folder("meshstep-private-left", true), folder("meshstep-private-young", false), folder("meshstep-x", true));
        sweep(parent.path());
        assert!(!left.exists() && young.exists() && foreign.exists() && held.path().exists());
        assert_eq!(held.path().metadata().expect("there").permissions().mode() & 0o777, 0o700);
        let path = held.path().to_owned();
        drop(held);
        assert!(!path.exists());
    }
}
