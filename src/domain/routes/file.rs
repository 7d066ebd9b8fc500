//! The values file on disk: read whole, written whole, one writer at a time.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::base::codes::Code;
use crate::base::fault::{Fault, Result};
use crate::base::place::Place;
use crate::base::wait::{Patience, Poll, TimedOut, never, until};
use crate::base::yaml::Source;

/// An edit takes milliseconds: who holds the lock for longer than this hangs.
const LOCK_PATIENCE: Patience = Patience { limit: Duration::from_secs(10), every: Duration::from_millis(50) };

/// The text of a file of a sensible size in UTF-8. `shown` names it in messages.
pub fn read(path: &Path, shown: &str) -> Result<String> {
    let bytes = fs::read(path).map_err(|error| unreadable(shown, "read", &error))?;
    text(&bytes, shown)
}

/// Reads the file, lets `change` make the new text, and puts that in its place: atomically, with the same mode, and only if nobody else
/// changed the file meanwhile. The same text writes nothing.
///
/// # Errors
/// [`Code::FileUnreadable`], [`Code::Locked`] when another run holds the file for 10 s or changed it, and whatever `change` says.
pub async fn edit<T>(path: &Path, shown: &str, change: impl FnOnce(&str) -> Result<(T, String)>) -> Result<T> {
    // A symbolic link stays one: its target is replaced.
    let path = fs::canonicalize(path).map_err(|error| unreadable(shown, "read", &error))?;
    let mut locked = lock(&path, shown).await?;
    let mut bytes = Vec::new();
    locked.read_to_end(&mut bytes).map_err(|error| unreadable(shown, "read", &error))?;
    let old = text(&bytes, shown)?;
    let (value, new) = change(&old)?;
    if new != old {
        replace(&path, shown, &bytes, new.as_bytes())?;
    }
    Ok(value)
}

fn text(bytes: &[u8], shown: &str) -> Result<String> {
    let source = Source::from_bytes(shown, bytes).map_err(|finding| finding.into_fault(Code::FileInvalid))?;
    Ok(if source.bom { format!("\u{feff}{}", source.text) } else { source.text })
}

/// The file, held by us alone. A writer replaces the file, so a lock on what is no longer at the path counts for nothing.
async fn lock(path: &Path, shown: &str) -> Result<File> {
    let look = || async {
        let file = File::open(path).map_err(|error| unreadable(shown, "read", &error))?;
        match file.try_lock() {
            Ok(()) if is_at(&file, path) => Ok(Poll::Ready(file)),
            Ok(()) => Ok(Poll::NotYet("the file was just replaced".to_owned())),
            Err(TryLockError::WouldBlock) => Ok(Poll::NotYet("another run edits the file".to_owned())),
            // A file system without locks: the check before the replacement is all there is.
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => Ok(Poll::Ready(file)),
            Err(TryLockError::Error(error)) => Err(unreadable(shown, "locked", &error)),
        }
    };
    let timed_out = |out: TimedOut| {
        Fault::new(Code::Locked, format!("{shown} cannot be edited: {}", out.last_reason)).next("wait for the other run, then try again")
    };
    until(LOCK_PATIENCE, |_| {}, never, look).await.map_err(|error| error.into_fault(timed_out))
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |m: fs::Metadata| (m.dev(), m.ino());
    matches!((file.metadata().map(id), fs::metadata(path).map(id)), (Ok(ours), Ok(theirs)) if ours == theirs)
}

#[cfg(not(unix))]
fn is_at(_file: &File, _path: &Path) -> bool {
    true
}

fn replace(path: &Path, shown: &str, old: &[u8], new: &[u8]) -> Result<()> {
    let failed = |error: std::io::Error| unreadable(shown, "written", &error);
    let folder = path.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    let mode = fs::metadata(path).map_err(failed)?.permissions();
    if mode.readonly() {
        return Err(unreadable(shown, "written", &std::io::Error::from(ErrorKind::PermissionDenied)));
    }
    let mut temp = tempfile::Builder::new().prefix(".meshstep-").tempfile_in(folder).map_err(failed)?;
    temp.write_all(new).map_err(failed)?;
    temp.as_file().set_permissions(mode).map_err(failed)?;
    temp.as_file().sync_all().map_err(failed)?;
    if fs::read(path).map_err(failed)? != old {
        let message = format!("{shown} was changed by something else meanwhile, so nothing was written");
        return Err(Fault::new(Code::Locked, message).at(Some(&Place::new(shown, 0, 0))).next("run this again"));
    }
    temp.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

fn unreadable(shown: &str, done: &str, error: &std::io::Error) -> Fault {
    Fault::new(Code::FileUnreadable, format!("{shown} cannot be {done}: {error}")).at(Some(&Place::new(shown, 0, 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("values.yaml");
        fs::write(&path, text).expect("written");
        (dir, path)
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn an_edit_replaces_the_text_and_keeps_mode_and_link() {
        use std::os::unix::fs::PermissionsExt;
        let (dir, path) = file("a: 1\n");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("mode");
        let link = dir.path().join("link.yaml");
        std::os::unix::fs::symlink(&path, &link).expect("link");
        edit(&link, "link.yaml", |old| Ok(((), old.replace('1', "2")))).await.expect("edited");
        assert_eq!(fs::read_to_string(&path).expect("text"), "a: 2\n");
        assert!(fs::symlink_metadata(&link).expect("meta").is_symlink());
        assert_eq!(fs::metadata(&path).expect("meta").permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(dir.path()).expect("dir").count(), 2, "no temporary file is left");
    }

    #[tokio::test]
    async fn nothing_is_written_when_the_change_fails_or_changes_nothing() {
        let (_dir, path) = file("a: 1\n");
        let before = fs::metadata(&path).expect("meta").modified().expect("time");
        edit(&path, "v", |old| Ok(((), old.to_owned()))).await.expect("same");
        let refused = edit(&path, "v", |_| Err::<((), String), _>(Fault::new(Code::FileInvalid, "no"))).await;
        assert_eq!(refused.expect_err("refused").message, "no");
        assert_eq!(fs::metadata(&path).expect("meta").modified().expect("time"), before);
    }

    #[tokio::test]
    async fn a_file_changed_in_between_is_not_overwritten() {
        let (_dir, path) = file("a: 1\n");
        let other = path.clone();
        let result = edit(&path, "v", move |_| {
            fs::write(&other, "a: theirs\n").expect("written");
            Ok(((), "a: ours\n".to_owned()))
        });
        assert_eq!(result.await.expect_err("refused").code, Code::Locked);
        assert_eq!(fs::read_to_string(&path).expect("text"), "a: theirs\n");
    }

    #[tokio::test(start_paused = true)]
    async fn a_held_file_is_waited_for_and_then_named() {
        let (_dir, path) = file("a: 1\n");
        let holder = File::open(&path).expect("open");
        holder.lock().expect("locked");
        let fault = edit(&path, "v", |old| Ok(((), old.to_owned()))).await.expect_err("held");
        assert_eq!((fault.code, fault.message.as_str()), (Code::Locked, "v cannot be edited: another run edits the file"));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn edits_at_the_same_time_lose_nothing() {
        let (_dir, path) = file("");
        let edits = (0..20).map(|n| {
            let path = path.clone();
            tokio::spawn(async move { edit(&path, "v", |old| Ok(((), format!("{old}{n}\n")))).await })
        });
        for done in edits.collect::<Vec<_>>() {
            done.await.expect("joined").expect("edited");
        }
        assert_eq!(fs::read_to_string(&path).expect("text").lines().count(), 20);
    }

    #[test]
    fn a_missing_or_binary_file_is_told() {
        let (dir, path) = file("");
        fs::write(&path, b"a: \xff\n").expect("written");
        assert_eq!(read(&path, "v").expect_err("binary").place, Some(Place::new("v", 1, 4)));
        assert_eq!(read(&dir.path().join("none"), "none").expect_err("missing").code, Code::FileUnreadable);
    }
}
