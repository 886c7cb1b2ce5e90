//! Where the caller's own mounts show the kernel: what a plan has to know of them before it hands
//! them on.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};

use super::mountinfo::{self, Line};
use crate::error::Result;

/// The mount points of every proc and sysfs, and of what covers one; not what lies below the
/// container's root, which brings it along, nor what the root lies on.
pub(super) fn kernel_views(rootfs: &Path) -> Result<Vec<CString>> {
    let mounts = mountinfo::of_process("self")?;
    let shows = |line: &Line| {
        let fstype = line.fstype.as_slice();
        [b"proc".as_slice(), b"sysfs"].contains(&fstype) && !line.point.starts_with(rootfs)
    };
    let mut views = Vec::new();
    for (n, line) in mounts.iter().enumerate() {
        let mut earlier = mounts.iter().take(n).filter(|earlier| shows(earlier));
        let covers = earlier.any(|earlier| earlier.point.starts_with(&line.point));
        if shows(line) || (covers && !rootfs.starts_with(&line.point)) {
            // What came from the kernel holds no NUL.
            views.extend(CString::new(line.point.as_os_str().as_bytes()));
        }
    }
    views.reverse();
    Ok(views)
}

/// The sources of a configuration's recursive read-only binds that show cgroups. Only a container
/// with a user namespace is looked at: only there is root of the container not the host's.
pub(super) fn binds_that_show_cgroups(
    config: &Spec,
    bundle: &Path,
    euid: u32,
) -> Result<Vec<PathBuf>> {
    let namespaces = config
        .linux()
        .as_ref()
        .and_then(|linux| linux.namespaces().as_deref());
    let user = LinuxNamespaceType::User;
    let asked = namespaces.is_some_and(|list| list.iter().any(|one| one.typ() == user));
    if !asked && euid == 0 {
        return Ok(Vec::new());
    }
    let says = |mount: &Mount, word: &str| {
        let words = mount.options().as_deref().unwrap_or_default();
        words.iter().any(|said| said == word)
    };
    let mounts = config.mounts().as_deref().unwrap_or_default();
    let sources: Vec<PathBuf> = mounts
        .iter()
        .filter(|mount| says(mount, "rbind") && says(mount, "ro"))
        .filter_map(|mount| Some(bundle.join(mount.source().as_deref()?)))
        .filter(|source| !source.starts_with("/sys"))
        .collect();
    those_that_show_cgroups(sources)
}

/// Those of these paths that lie in a sysfs or cgroup file system, or have one below them, by
/// whatever links.
pub(super) fn those_that_show_cgroups(mut sources: Vec<PathBuf>) -> Result<Vec<PathBuf>> {
    if sources.is_empty() {
        return Ok(sources);
    }
    let mounts = mountinfo::of_process("self")?;
    let shows =
        |line: &&Line| [b"sysfs".as_slice(), b"cgroup", b"cgroup2"].contains(&&*line.fstype);
    sources.retain(|source| {
        // One that can't be walked can't be bound either: the mount itself says why.
        let source = std::fs::canonicalize(source).unwrap_or_default();
        let near = |line: &Line| line.point.starts_with(&source) || source.starts_with(&line.point);
        mounts.iter().filter(shows).any(near)
    });
    Ok(sources)
}
