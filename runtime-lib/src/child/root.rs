//! The root filesystem: opened (bind or overlay), entered, and the old one left for good.

use std::ffi::{CStr, CString};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot, fchdir};

use super::Child;
use super::fds::{Fd, clone_tree, fsmount, fsopen};
use super::mounts::{configure, create};
use crate::report::{Refused, call};
use crate::step::{OverlayMount, Root};
use crate::sys::mount::{attach, set_attributes};

impl Child<'_> {
    pub(super) fn propagate_all(&mut self, propagation: u64) -> Result<(), Refused> {
        let root = open_path(c"/").map_err(call("open"))?;
        self.shared_with_host = propagation == libc::MS_SHARED;
        set_attributes(root.as_fd(), 0, 0, propagation, true).map_err(call("mount_setattr"))
    }

    pub(super) fn reach_root(&mut self, root: &Root) -> Result<(), Refused> {
        let mut places = self.reached.iter_mut();
        for path in directories(root) {
            let place = places.next().ok_or_else(too_many)?;
            *place = Some(open_directory(path)?);
        }
        Ok(())
    }

    pub(super) fn open_root(&mut self, root: &Root) -> Result<(), Refused> {
        let mounted = match root {
            Root::Current => {
                self.root = Some(open_path(c"/").map_err(call("open"))?);
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
    fn reached(&mut self, n: usize, path: &CStr) -> Result<Fd, Refused> {
        match self.reached.get_mut(n).and_then(Option::take) {
            Some(directory) => Ok(directory),
            None => open_directory(path),
        }
    }

    /// Layers are named by descriptor, so that no character of a path has a meaning.
    fn mount_overlay(&mut self, overlay: &OverlayMount) -> Result<Fd, Refused> {
        let context = fsopen(c"overlay").map_err(call("fsopen"))?;
        configure(context.as_fd(), c"source", Some(c"overlay"))?;
        if overlay.lower.len() + 2 > MAX_LAYERS {
            return Err(too_many());
        }
        let mut text = [0; LAYERS_BYTES];
        let mut lower = Text::new(&mut text);
        // All stay open until the file system exists: some kernels look them up only then.
        let mut layers = [const { None }; MAX_LAYERS];
        let mut places = layers.iter_mut().zip(1..);
        for (path, (place, n)) in overlay.lower.iter().zip(&mut places) {
            let layer = self.reached(n, path)?;
            lower.descriptor(layer.as_fd())?;
            *place = Some(layer);
        }
        configure(context.as_fd(), c"lowerdir", Some(lower.finish()?))?;
        let own = [(c"upperdir", &overlay.upper), (c"workdir", &overlay.work)];
        for ((key, path), (place, n)) in own.into_iter().zip(places) {
            let layer = self.reached(n, path)?;
            let mut text = [0; 64];
            let mut value = Text::new(&mut text);
            value.descriptor(layer.as_fd())?;
            configure(context.as_fd(), key, Some(value.finish()?))?;
            *place = Some(layer);
        }
        if overlay.userxattr {
            configure(context.as_fd(), c"userxattr", None)?;
        }
        create(context.as_fd())?;
        let mounted = fsmount(context.as_fd(), 0).map_err(call("fsmount"))?;
        let stat = nix::sys::statvfs::fstatvfs(&mounted).map_err(call("fstatvfs"))?;
        if stat.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY) {
            // Some kernels mount read-only instead of refusing an upper directory they can't use.
            return Err(Refused::new("fsmount", Errno::EROFS)
                .noting(b"the file system of the upper directory can't hold an overlay's upper"));
        }
        Ok(mounted)
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

    /// Without pivot_root(2) the old root stays below the new one. Its /proc and /sys go
    /// first: they would let the container mount complete ones of its own.
    pub(super) fn move_root(&mut self) -> Result<(), Refused> {
        for old in [c"/proc", c"/sys"] {
            match umount2(old, MntFlags::MNT_DETACH) {
                Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
                Err(_) => cover(old)?,
            }
        }
        fchdir(self.root()?).map_err(call("fchdir"))?;
        let top = open_path(c"/").map_err(call("open"))?;
        attach(self.root()?, top.as_fd()).map_err(call("move_mount"))?;
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
        Root::Current => (None, None),
        Root::Bind { path } => (Some(path), None),
        Root::Overlay { path, overlay } => (Some(path), Some(overlay)),
    };
    let lower = overlay.into_iter().flat_map(|overlay| &overlay.lower);
    let own = overlay.into_iter().flat_map(|o| [&o.upper, &o.work]);
    path.into_iter()
        .chain(lower)
        .chain(own)
        .map(CString::as_c_str)
}

const MAX_LAYERS: usize = 130;
const LAYERS_BYTES: usize = MAX_LAYERS * 32;

/// One for the root, and for each layer of an overlay.
pub(super) type Reached = [Option<Fd>; MAX_LAYERS + 1];

pub(super) const NOTHING_REACHED: Reached = [const { None }; MAX_LAYERS + 1];

fn too_many() -> Refused {
    Refused::new("fsconfig", Errno::E2BIG).noting(b"more than 128 lower layers")
}

fn open_directory(path: &CStr) -> Result<Fd, Refused> {
    open_path(path).map_err(|errno| Refused::new("open", errno).noting(path.to_bytes()))
}

/// "/proc/self/fd/N", joined by colons, without allocating.
struct Text<'buffer> {
    buffer: &'buffer mut [u8],
    used: usize,
}

impl<'buffer> Text<'buffer> {
    fn new(buffer: &'buffer mut [u8]) -> Text<'buffer> {
        Text { buffer, used: 0 }
    }

    fn descriptor(&mut self, layer: BorrowedFd<'_>) -> Result<(), Refused> {
        let colon = if self.used == 0 { "" } else { ":" };
        let left = self.buffer.get_mut(self.used..).unwrap_or_default();
        let room = left.len();
        let mut rest = left;
        match write!(rest, "{colon}/proc/self/fd/{}", layer.as_raw_fd()) {
            Ok(()) => self.used += room - rest.len(),
            Err(_) => return Err(Refused::new("fsconfig", Errno::E2BIG)),
        }
        Ok(())
    }

    /// The buffer was all zeroes, so what was written is followed by a NUL.
    fn finish(&self) -> Result<&CStr, Refused> {
        CStr::from_bytes_until_nul(self.buffer).map_err(|_| Refused::new("fsconfig", Errno::E2BIG))
    }
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
