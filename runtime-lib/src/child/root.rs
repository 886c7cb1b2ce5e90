//! The root filesystem: opened (bind or overlay), entered, and the old one left for good.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot, fchdir};

use super::Child;
use super::fds::{Fd, clone_tree, fsmount, fsopen, openat2};
use super::mounts::create;
use super::overlay::{DIRECTORIES, too_many};
use crate::report::{Refused, call};
use crate::step::Root;
use crate::sys::mount::{attach, propagate_tree, resolve, set_attributes};

impl Child<'_> {
    pub(super) fn propagate_all(&mut self, propagation: u64) -> Result<(), Refused> {
        self.shared_with_host = propagation == libc::MS_SHARED;
        propagate_tree(c"/", propagation).map_err(call("mount_setattr"))
    }

    pub(super) fn reach_root(&mut self, root: &Root) -> Result<(), Refused> {
        let mut places = self.reached.iter_mut();
        for (n, path) in directories(root).enumerate() {
            let place = places.next().ok_or_else(too_many)?;
            *place = Some(open_directory(n, path)?);
        }
        Ok(())
    }

    pub(super) fn open_root(&mut self, root: &Root) -> Result<(), Refused> {
        let mounted = match root {
            Root::Current => {
                self.root = Some(open_path(c"/").map_err(call("open"))?);
                return Ok(());
            }
            Root::Opened(slot) => {
                let root = self.opened(*slot)?;
                let root = super::paths::open(root, c".", libc::O_PATH, true);
                self.root = Some(root.map_err(call("openat2"))?);
                return Ok(());
            }
            Root::Directory { path } => {
                self.root = Some(self.reached(0, path)?);
                return Ok(());
            }
            Root::Bind { path } => {
                let place = self.reached(0, path)?;
                let tree = clone_tree(place.as_raw_fd(), c"", true).map_err(call("open_tree"))?;
                attach(tree.as_fd(), place.as_fd()).map_err(call("move_mount"))?;
                tree
            }
            Root::Overlay { path, overlay } => {
                let mounted = self.mount_overlay(overlay)?;
                let place = self.reached(0, path)?;
                attach(mounted.as_fd(), place.as_fd()).map_err(call("move_mount"))?;
                mounted
            }
        };
        self.root = Some(mounted);
        Ok(())
    }

    /// The `n`-th of the root's [`directories`].
    pub(super) fn reached(&mut self, n: usize, path: &CStr) -> Result<Fd, Refused> {
        match self.reached.get_mut(n).and_then(Option::take) {
            Some(directory) => Ok(directory),
            None => open_directory(n, path),
        }
    }

    /// pivot_root(2) of "." onto itself: the old root lies on top of the new one and is
    /// detached, so that no directory has to be made for it.
    pub(super) fn pivot_root(&mut self) -> Result<(), Refused> {
        let old = match self.shared_with_host {
            true => Some(open_path(c"/").map_err(call("open"))?),
            false => None,
        };
        fchdir(self.root()?).map_err(call("fchdir"))?;
        nix::unistd::pivot_root(c".", c".").map_err(call("pivot_root"))?;
        if let Some(old) = old {
            // Else the host would lose the mounts that are detached next.
            set_attributes(old.as_fd(), 0, 0, libc::MS_SLAVE, true)
                .map_err(call("mount_setattr"))?;
        }
        umount2(c".", MntFlags::MNT_DETACH).map_err(call("umount2"))?;
        chdir(c"/").map_err(call("chdir"))
    }

    /// Without pivot_root(2) the old root stays below the new one. Every proc and sysfs in it
    /// goes first: one would let the container mount a complete one of its own.
    pub(super) fn move_root(&mut self, kernel_views: &[CString]) -> Result<(), Refused> {
        let top = open_path(c"/").map_err(call("open"))?;
        if self.shared_with_host {
            // Else the host would lose them too.
            set_attributes(top.as_fd(), 0, 0, libc::MS_SLAVE, true)
                .map_err(call("mount_setattr"))?;
        }
        for old in kernel_views {
            match umount2(old.as_c_str(), MntFlags::MNT_DETACH) {
                Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
                Err(_) => cover(old)?,
            }
        }
        fchdir(self.root()?).map_err(call("fchdir"))?;
        attach(self.root()?, top.as_fd()).map_err(call("move_mount"))?;
        chroot(c".").map_err(call("chroot"))?;
        chdir(c"/").map_err(call("chdir"))
    }

    /// Nobody else is kept out of it by that, nor a process with CAP_SYS_CHROOT kept in.
    pub(super) fn enter_root(&mut self) -> Result<(), Refused> {
        fchdir(self.root()?).map_err(call("fchdir"))?;
        chroot(c".").map_err(call("chroot"))?;
        chdir(c"/").map_err(call("chdir"))
    }

    pub(super) fn propagate_root(
        &mut self,
        propagation: u64,
        recursive: bool,
    ) -> Result<(), Refused> {
        let root = open_path(c"/").map_err(call("open"))?;
        set_attributes(root.as_fd(), 0, 0, propagation, recursive).map_err(call("mount_setattr"))
    }
}

/// Finds the mount that the root lies on by trying: only a mount's own root takes attributes.
pub(super) fn private_parent(candidates: &[CString]) -> Result<(), Refused> {
    let mut last = Errno::EINVAL;
    for path in candidates {
        let directory = open_path(path).map_err(call("open"))?;
        match set_attributes(directory.as_fd(), 0, 0, libc::MS_PRIVATE, false) {
            Ok(()) => return Ok(()),
            Err(Errno::EINVAL) => last = Errno::EINVAL,
            Err(errno) => return Err(Refused::new("mount_setattr", errno)),
        }
    }
    Err(Refused::new("mount_setattr", last))
}

/// The directories of a root: its own place, and those of an overlay from the highest layer
/// down, then upper and work.
fn directories(root: &Root) -> impl Iterator<Item = &CStr> {
    let (path, overlay) = match root {
        Root::Current | Root::Opened(_) => (None, None),
        Root::Bind { path } | Root::Directory { path } => (Some(path), None),
        Root::Overlay { path, overlay } => (Some(path), Some(overlay)),
    };
    let lower = overlay.into_iter().flat_map(|overlay| &overlay.lower);
    let own = overlay.into_iter().flat_map(|o| [&o.upper, &o.work]);
    path.into_iter()
        .chain(lower)
        .chain(own)
        .map(CString::as_c_str)
}

/// One for the root's own place, and one for each directory of an overlay.
pub(super) type Reached = [Option<Fd>; 1 + DIRECTORIES];

pub(super) const NOTHING_REACHED: Reached = [const { None }; 1 + DIRECTORIES];

/// The first, the root's own place, was freed of symbolic links when it was found to be none
/// of the host's: a link that stands there now would lead elsewhere.
fn open_directory(n: usize, path: &CStr) -> Result<Fd, Refused> {
    let opened = match n {
        0 => {
            let flags = libc::O_PATH | libc::O_DIRECTORY;
            openat2(AT_FDCWD, path, flags, 0, resolve::NO_SYMLINKS)
        }
        _ => return open_layer(path),
    };
    opened.map_err(|errno| Refused::new("openat2", errno).noting(path.to_bytes()))
}

pub(super) fn open_layer(path: &CStr) -> Result<Fd, Refused> {
    open_path(path).map_err(|errno| Refused::new("open", errno).noting(path.to_bytes()))
}

fn open_path(path: &CStr) -> nix::Result<Fd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty()).map(Fd::from)
}

/// Hides what can't be unmounted, because a user namespace has locked it.
fn cover(path: &CStr) -> Result<(), Refused> {
    let context = fsopen(c"tmpfs").map_err(call("fsopen"))?;
    create(context.as_fd())?;
    let empty = fsmount(context.as_fd(), libc::MOUNT_ATTR_RDONLY).map_err(call("fsmount"))?;
    let place = open_path(path).map_err(call("open"))?;
    attach(empty.as_fd(), place.as_fd()).map_err(call("move_mount"))
}
