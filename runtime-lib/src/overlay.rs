//! The directories of an overlay root filesystem: which ones there are, and made before the
//! clone. The overlay itself is mounted by the child, in the container's mount namespace
//! only, so that delete has nothing to unmount.

use std::ffi::{CStr, CString};
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::container::Overlay;
use crate::error::{Code, Error, Result};
use crate::launch::{Surroundings, launch, reap};
use crate::plan::{IdMaps, OverlayDirectories, removal};

/// What rootfs-builder writes beside layers that it kept apart: their paths in the bundle,
/// the lowest first.
const LAYERS: &str = "layers.json";

/// The overlay with absolute directories, and with the bundle's layers where it names none.
///
/// # Errors
/// A directory that does not exist; a `layers.json` that is not a list of paths.
pub fn resolve(overlay: Option<&Overlay>, bundle: &Path) -> Result<Option<Overlay>> {
    let Some(overlay) = overlay else {
        return Ok(None);
    };
    let lower = match overlay.lower.is_empty() {
        true => layers(bundle)?,
        false => overlay.lower.clone(),
    };
    let lower = lower.iter().map(|directory| absolute(directory));
    Ok(Some(Overlay {
        keep: match &overlay.keep {
            Some(keep) => Some(
                std::path::absolute(keep)
                    .map_err(|error| Error::io(Code::Filesystem, "getcwd", &error).path(keep))?,
            ),
            None => None,
        },
        lower: lower.collect::<Result<_>>()?,
    }))
}

fn absolute(directory: &Path) -> Result<PathBuf> {
    let refused = |error| {
        Error::io(Code::Filesystem, "open", &error)
            .doing(format!("open the lower directory {}", directory.display()))
    };
    let real = fs::canonicalize(directory).map_err(refused)?;
    match real.is_dir() {
        true => Ok(real),
        false => Err(refused(std::io::Error::from_raw_os_error(libc::ENOTDIR))),
    }
}

fn layers(bundle: &Path) -> Result<Vec<PathBuf>> {
    let path = bundle.join(LAYERS);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(Code::Io, "read", &error).path(path)),
    };
    let names: Vec<PathBuf> = serde_json::from_str(&text).map_err(|error| {
        Error::new(Code::InvalidConfig, error.to_string())
            .path(&path)
            .hint("expected a JSON array of paths relative to the bundle")
    })?;
    Ok(names.iter().map(|name| bundle.join(name)).collect())
}

/// Makes upper and work. The upper directory is the root that the container sees, so it
/// takes mode and owner of `root`, the directory it stands for, when it is new.
///
/// # Errors
/// The directory that can't be made.
pub fn make(directories: &OverlayDirectories, root: &Path) -> Result<()> {
    let refused = |path: &Path| {
        let path = path.to_path_buf();
        move |error: std::io::Error| {
            let error = Error::io(Code::Filesystem, "mkdir", &error)
                .doing(format!("make the overlay directory {}", path.display()));
            match error.os_error() {
                Some(Errno::EEXIST | Errno::ENOTDIR) => {
                    error.hint("there is something that is no directory")
                }
                _ => error,
            }
        }
    };
    let seen = fs::metadata(root).map_err(refused(root))?;
    for (path, mode) in [
        (&directories.upper, seen.mode()),
        (&directories.work, 0o700),
    ] {
        if path.is_dir() {
            continue;
        }
        // What lies above can be passed through, as the state directory can: the child that
        // opens both may be root of a user namespace only.
        let above = path.parent().unwrap_or(path);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(above)
            .map_err(refused(above))?;
        fs::DirBuilder::new()
            .mode(0o700)
            .create(path)
            .map_err(refused(path))?;
        let permissions = fs::Permissions::from_mode(mode & 0o7777);
        fs::set_permissions(path, permissions).map_err(refused(path))?;
        let owner = match directories.owner {
            Some((uid, gid)) => Some((uid, gid)),
            None if nix::unistd::geteuid().is_root() => Some((seen.uid(), seen.gid())),
            None => None,
        };
        if let Some((uid, gid)) = owner {
            chown(path, Some(uid), Some(gid)).map_err(refused(path))?;
        }
    }
    Ok(())
}

/// Removes what `name` is in a directory, in which an overlay's user namespace has written. A child
/// that is root of such a namespace does it: nobody else without privileges may.
///
/// # Errors
/// What could not be removed, and why.
pub fn remove(directory: &Path, name: &CStr, ids: &IdMaps) -> Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let path = CString::new(directory.as_os_str().as_bytes())
        .map_err(|_| Error::call(Code::Io, "rmdir", Errno::EINVAL).path(directory))?;
    let plan = removal(path, name.to_owned(), ids.clone());
    let removed = launch(&plan, Surroundings::default(), |_| Ok(()))?;
    reap(removed.pidfd.as_fd());
    Ok(())
}
