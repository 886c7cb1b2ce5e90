//! Mounts of a container that runs: made detached and shown to the parent, who records them
//! before they are attached; found and shown to the parent, who knows them, before they are
//! unmounted.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::SFlag;
use nix::unistd::{UnlinkatFlags, fchdir, unlinkat};

use super::Child;
use super::fds::{Fd, clone_tree, openat2};
use super::mounts::{attach_at, give_flags, give_propagation, new_mount};
use super::path_text::PathText;
use super::paths::{Missing, OWN, deepest, ensure_place, kind, open_target};
use super::procfs;
use crate::report::{self, Refused, call};
use crate::step::{Attributes, Mount, Source, Target};
use crate::sys::fd;
use crate::sys::mount::{resolve, set_attributes};

/// A place for a mount that was not there.
pub(super) struct NewPlace<'plan> {
    /// The directory that was there.
    above: Fd,
    /// The path from there on.
    path: &'plan CStr,
    missing: Missing,
}

/// A detached mount and its place.
pub(super) struct Made {
    mount: RawFd,
    place: Fd,
}

impl<'plan> Child<'plan> {
    pub(super) fn hold_tree(
        &mut self,
        path: &CStr,
        recursive: bool,
        propagation: u64,
    ) -> Result<(), Refused> {
        let tree = clone_tree(libc::AT_FDCWD, path, recursive).map_err(call("open_tree"))?;
        set_attributes(tree.as_fd(), 0, 0, propagation, true).map_err(call("mount_setattr"))?;
        self.held = Some(tree);
        Ok(())
    }

    pub(super) fn make_mount(&mut self, mount: &'plan Mount) -> Result<(), Refused> {
        let attributes = &mount.attributes;
        let (made, place) = match &mount.source {
            Source::New {
                fstype,
                label,
                options,
            } => {
                let covered = match mount.inherit_mode {
                    true => open_target(self.root()?, &mount.target).ok(),
                    false => None,
                };
                let inherit = covered.as_ref().map(AsFd::as_fd);
                let made = new_mount(fstype, label, options, inherit, 0)?;
                let made = fd::borrow(self.held.insert(made).as_raw_fd());
                (
                    made,
                    self.place_of(made, Missing::Directory, &mount.target)?,
                )
            }
            Source::Opened { tree, .. } => {
                let tree = self.opened(*tree)?;
                (tree, self.place_of(tree, like(tree)?, &mount.target)?)
            }
            Source::Held { .. } => {
                let held = self.held.as_ref().map(|held| fd::borrow(held.as_raw_fd()));
                let held = held.ok_or(Refused::new("open_tree", Errno::EBADF))?;
                (held, self.place_of(held, like(held)?, &mount.target)?)
            }
            Source::Bind { .. } | Source::Made { .. } => {
                return Err(Refused::new("open_tree", Errno::EBADF));
            }
        };
        procfs::only_on_proc(made, &mount.target)?;
        give_flags(made, attributes)?;
        self.show(made)?;
        self.show(place.as_fd())?;
        self.made = Some(Made {
            mount: made.as_raw_fd(),
            place,
        });
        Ok(())
    }

    /// The place, made if it is missing. What is made is remembered first.
    fn place_of(
        &mut self,
        made: BorrowedFd<'_>,
        missing: Missing,
        target: &'plan Target,
    ) -> Result<Fd, Refused> {
        if open_target(self.root()?, target).err() == Some(Errno::ENOENT) {
            let (above, end) = deepest(self.root()?, target)?;
            let path = target.path.to_bytes_with_nul();
            let path = path.get(end + usize::from(end > 0)..).unwrap_or_default();
            let path = CStr::from_bytes_with_nul(path);
            self.new_place = path.ok().map(|path| NewPlace {
                above,
                path,
                missing,
            });
        }
        let root = self.root()?;
        ensure_place(root, target, missing)?.of(made, root)
    }

    /// Removes the place again, and the directories above it that were made with it, as far as
    /// they are empty: nothing was mounted.
    pub(super) fn take_back(&mut self) {
        let Some(NewPlace {
            above,
            path,
            missing,
        }) = self.new_place.take()
        else {
            return;
        };
        let Ok(mut path) = PathText::new(path.to_bytes()) else {
            return;
        };
        let (mut end, mut kind) = (path.length(), missing);
        while end > 0 {
            let from = path.parent(end).map_or(0, |slash| slash + 1);
            let parent = match from {
                0 => Ok(c"."),
                from => path.part(0, from - 1),
            };
            let parent =
                parent.and_then(|parent| openat2(above.as_fd(), parent, libc::O_PATH, 0, OWN));
            let how = match kind {
                Missing::Directory => UnlinkatFlags::RemoveDir,
                Missing::File => UnlinkatFlags::NoRemoveDir,
            };
            let removed = parent.and_then(|parent| unlinkat(&parent, path.part(from, end)?, how));
            if removed.is_err() {
                return;
            }
            (end, kind) = (from.saturating_sub(1), Missing::Directory);
        }
    }

    pub(super) fn attach_made(&mut self, attributes: &Attributes) -> Result<(), Refused> {
        let made = self.made.take();
        let made = made.ok_or(Refused::new("move_mount", Errno::EBADF))?;
        attach_at(fd::borrow(made.mount), made.place.as_fd())?;
        self.new_place = None;
        give_propagation(fd::borrow(made.mount), attributes)
    }

    pub(super) fn find_mount(&mut self, directory: &Target, name: &CStr) -> Result<(), Refused> {
        let directory = open_target(self.root()?, directory).map_err(call("openat2"))?;
        let how = resolve::BENEATH | resolve::NO_SYMLINKS | resolve::NO_MAGICLINKS;
        let found = openat2(directory.as_fd(), name, libc::O_PATH, 0, how);
        let found = found.map_err(call("openat2"))?;
        self.show(found.as_fd())?;
        self.held = Some(found);
        self.found_in = Some(directory);
        Ok(())
    }

    pub(super) fn unmount(&mut self, name: &CStr, lazy: bool) -> Result<(), Refused> {
        if let Some(found) = self.held.take() {
            // As long as it is open, the mount is in use.
            found.close();
        }
        // Not by its path, which may lead to another mount by now. (One on which something is
        // mounted can't be renamed itself.)
        let directory = self.found_in.take();
        let directory = directory.ok_or(Refused::new("fchdir", Errno::EBADF))?;
        fchdir(&directory).map_err(call("fchdir"))?;
        let how = match lazy {
            true => MntFlags::MNT_DETACH,
            false => MntFlags::empty(),
        };
        umount2(name, how | MntFlags::UMOUNT_NOFOLLOW).map_err(call("umount2"))
    }

    pub(super) fn show(&self, what: BorrowedFd<'_>) -> Result<(), Refused> {
        fd::send(self.channel, &report::shown(), &[what]).map_err(call("sendmsg"))
    }
}

/// What has to be there for a mount of this.
fn like(tree: BorrowedFd<'_>) -> Result<Missing, Refused> {
    Ok(match kind(tree)?.1 {
        SFlag::S_IFDIR => Missing::Directory,
        _ => Missing::File,
    })
}
