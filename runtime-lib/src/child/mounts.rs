//! Mounts by descriptors: made detached, given their attributes, then attached once at a
//! place that was walked once.

use std::ffi::CStr;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, fchmod, makedev};

use super::fds::{Fd, clone_tree, clone_tree_with, fsmount, fsopen};
use super::links::copy_link;
use super::paths::{
    Missing, Place, ensure_place, is_same, kind, open, open_target, open_target_saying,
};
use super::root::open_layer;
use super::{Child, copy_up, locked, overlay, procfs};
use crate::report::{Refused, call};
use crate::step::words::not_mapped;
use crate::step::{Attributes, FsOption, MappedOwners, Mount, Source, SourceLink, Target};
use crate::sys::fd::retry;
use crate::sys::mount::{
    self, attach, attach_in, clone_tree_at_link, fsconfig, fscreate, set_attributes,
};

impl<'plan> Child<'plan> {
    /// Another mount, where the kernel lets this child not make the first.
    pub(super) fn mount_or(
        &mut self,
        mount: &'plan Mount,
        otherwise: &'plan Mount,
    ) -> Result<(), Refused> {
        match self.mount(mount) {
            Err(refused) if refused.errno == Errno::EPERM => self.mount(otherwise),
            mounted => mounted,
        }
    }

    pub(super) fn mount(&mut self, mount: &'plan Mount) -> Result<(), Refused> {
        let attributes = &mount.attributes;
        match &mount.source {
            Source::New {
                fstype,
                label,
                options,
            } => {
                // What is made only now has no mode that anybody chose.
                let covered = match mount.inherit_mode || mount.copy_up {
                    true => Place::open(self.root()?, &mount.target, 0).ok(),
                    false => None,
                };
                let below = covered.as_ref().map(AsFd::as_fd);
                let inherit = below.filter(|_| mount.inherit_mode);
                let mounted = new_mount(fstype, label, options, inherit, attributes.set)?;
                if let Some(below) = below.filter(|_| mount.copy_up) {
                    copy_up::all(below, mounted.as_fd())?;
                }
                if let Some(owners) = &mount.owners {
                    self.map_owners(mounted.as_fd(), owners)?;
                }
                let rest = Attributes {
                    set: 0,
                    clear: 0,
                    ..*attributes
                };
                give_flags(mounted.as_fd(), &rest)?;
                if !self.attach_by_name(mounted.as_fd(), &mount.target) {
                    let root = self.root()?;
                    let place = match covered {
                        Some(covered) => covered,
                        None => ensure_place(root, &mount.target, Missing::Directory)?,
                    };
                    attach_at(mounted.as_fd(), place.of(mounted.as_fd(), root)?.as_fd())?;
                }
                give_propagation(mounted.as_fd(), attributes)?;
                let whole = fstype.to_bytes() == b"proc" && options.is_empty();
                let kept = mount.kept.and_then(|kept| self.kept.get_mut(kept));
                if mount.target.is_root() {
                    self.root = Some(mounted);
                } else if let Some(kept) = kept {
                    *kept = Some(mounted);
                } else if whole && self.procfs.is_none() {
                    self.procfs = Some(mounted);
                } else if self.fresh.is_none() {
                    self.keep_fresh(mount, mounted);
                }
                Ok(())
            }
            Source::Bind { path, recursive } => {
                let tree = match mount.source_link {
                    SourceLink::Follow => clone_tree(libc::AT_FDCWD, path, *recursive),
                    _ => clone_tree_at_link(path, *recursive).map(Fd::from),
                }
                .map_err(|errno| Refused::new("open_tree", errno).noting(path.to_bytes()))?;
                if let Some(owners) = &mount.owners {
                    self.map_owners(tree.as_fd(), owners)?;
                }
                self.attach_tree(tree.as_fd(), mount)
            }
            Source::Opened { tree, .. } => self.attach_tree(self.opened(*tree)?, mount),
            Source::Made { mount: made, .. } => {
                let made = self.opened(*made)?;
                if mount.inherit_mode
                    && let Ok(covered) = open_target(self.root()?, &mount.target)
                {
                    let (stat, _) = kind(covered.as_fd())?;
                    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
                    let top = open(made, c".", flags, true).map_err(call("openat2"))?;
                    let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777);
                    fchmod(&top, mode).map_err(call("fchmod"))?;
                }
                self.attach_tree(made, mount)?;
                if let Some(kept) = mount.kept.and_then(|kept| self.kept.get_mut(kept)) {
                    let top = open(made, c".", libc::O_PATH, true).map_err(call("openat2"))?;
                    *kept = Some(top);
                }
                Ok(())
            }
            Source::Held { .. } => Err(Refused::new("slot", Errno::EBADF)),
        }
    }

    fn attach_tree(&mut self, tree: BorrowedFd<'_>, mount: &'plan Mount) -> Result<(), Refused> {
        procfs::only_on_proc(tree, &mount.target)?;
        if let Some((directory, name)) = self.known_directory(&mount.target) {
            give_flags(tree, &mount.attributes)?;
            if attach_in(tree, directory, name).is_ok() {
                return give_propagation(tree, &mount.attributes);
            }
        }
        let missing = match kind(tree)?.1 {
            SFlag::S_IFDIR => Missing::Directory,
            SFlag::S_IFLNK if mount.source_link == SourceLink::Copy => {
                return copy_link(tree, self.root()?, &mount.target);
            }
            _ => Missing::File,
        };
        give_flags(tree, &mount.attributes)?;
        let root = self.root()?;
        let place = ensure_place(root, &mount.target, missing)?;
        attach_at(tree, place.of(tree, root)?.as_fd())?;
        give_propagation(tree, &mount.attributes)?;
        if mount.target.is_root() {
            // Everything from here on is below what now covers the root.
            self.root = Some(open(tree, c".", libc::O_PATH, true).map_err(call("openat2"))?);
        }
        Ok(())
    }

    fn map_owners(&self, mount: BorrowedFd<'_>, owners: &MappedOwners) -> Result<(), Refused> {
        let user = self.opened(owners.user)?;
        mount::map_owners(mount, user, owners.recursive).map_err(|errno| {
            Refused::new("mount_setattr", errno).noting(not_mapped(errno).as_bytes())
        })
    }

    pub(super) fn reconfigure(&self, target: &Target, options: &[FsOption]) -> Result<(), Refused> {
        let mounted = open_target(self.root()?, target).map_err(call("openat2"))?;
        let context = mount::fspick(mounted.as_fd()).map(Fd::from);
        let context = context.map_err(|errno| match errno {
            Errno::EINVAL => Refused::new("fspick", errno).noting(b"nothing is mounted there"),
            errno => Refused::new("fspick", errno),
        })?;
        for option in options {
            configure(context.as_fd(), &option.key, option.value.as_deref())?;
        }
        mount::fsreconfigure(context.as_fd())
            .map_err(|errno| with_log(context.as_fd(), Refused::new("fsconfig", errno)))
    }

    pub(super) fn remount(&self, target: &Target, attributes: &Attributes) -> Result<(), Refused> {
        if target.is_root() {
            return give(self.root()?, attributes);
        }
        if let Some(fresh) = self.fresh_at(target) {
            return give(fresh, attributes);
        }
        let mounted = open_target(self.root()?, target).map_err(call("openat2"))?;
        give(mounted.as_fd(), attributes)
    }

    pub(super) fn protect(&self, kept: usize) -> Result<(), Refused> {
        let kept = self.kept.get(kept).and_then(Option::as_ref);
        let kept = kept.ok_or(Refused::new("mount_setattr", Errno::EBADF))?;
        set_attributes(kept.as_fd(), libc::MOUNT_ATTR_RDONLY, 0, 0, false)
            .map_err(call("mount_setattr"))
    }

    /// A file is covered by the host's /dev/null, which no image has touched; read-only, so that
    /// root of the container can't change the mode of the host's node.
    pub(super) fn mask(&mut self, target: &Target, label: Option<&CStr>) -> Result<(), Refused> {
        let place = match Place::open(self.root()?, target, libc::O_DIRECTORY) {
            // A link of the image that leads to the root doesn't take all of it away.
            Err(Errno::ENOENT | Errno::EBUSY) => return Ok(()),
            Err(Errno::ENOTDIR) => return self.mask_file(target),
            result => result.map_err(call("openat2"))?,
        };
        match &self.empty {
            Some(empty) => {
                let copy = clone_tree(empty.as_raw_fd(), c"", false).map_err(call("open_tree"))?;
                attach_at(copy.as_fd(), place.as_fd())
            }
            None => {
                let context = fsopen(c"tmpfs").map_err(call("fsopen"))?;
                configure(context.as_fd(), c"nr_blocks", Some(c"1"))?;
                if label.is_some() {
                    configure(context.as_fd(), c"context", label)?;
                }
                create(context.as_fd())?;
                let empty =
                    fsmount(context.as_fd(), libc::MOUNT_ATTR_RDONLY).map_err(call("fsmount"))?;
                attach_at(empty.as_fd(), place.as_fd())?;
                self.empty = Some(empty);
                Ok(())
            }
        }
    }

    fn mask_file(&mut self, target: &Target) -> Result<(), Refused> {
        let place = match open_target(self.root()?, target) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
            result => result.map_err(call("openat2"))?,
        };
        let null = match &self.null {
            Some(null) => clone_tree(null.as_raw_fd(), c"", false),
            // And private: below a shared root, what the container mounts on it would reach the host.
            None => clone_tree_with(
                libc::AT_FDCWD,
                c"/dev/null",
                libc::MOUNT_ATTR_RDONLY,
                libc::MS_PRIVATE,
                false,
            ),
        };
        let null = null.map_err(call("open_tree"))?;
        if self.null.is_none() {
            let device = kind(null.as_fd())?.0;
            if device.st_rdev != makedev(1, 3) {
                return Err(Refused::new("fstat", Errno::ENODEV)
                    .noting(b"/dev/null of the host is another file"));
            }
        }
        attach_at(null.as_fd(), place.as_fd())?;
        self.null.get_or_insert(null);
        Ok(())
    }

    pub(super) fn read_only_path(&self, target: &Target) -> Result<(), Refused> {
        let root = self.root()?;
        let (place, by_link) = match open_target_saying(root, target, 0) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
            found => found.map_err(call("openat2"))?,
        };
        if target.is_root() || by_link && is_same(place.as_fd(), root).map_err(call("fstat"))? {
            // A mount over the root is not the root.
            return set_attributes(place.as_fd(), libc::MOUNT_ATTR_RDONLY, 0, 0, false)
                .map_err(call("mount_setattr"));
        }
        let read_only = libc::MOUNT_ATTR_RDONLY;
        let copy = clone_tree_with(place.as_raw_fd(), c"", read_only, 0, true);
        attach_at(copy.map_err(call("open_tree"))?.as_fd(), place.as_fd())
    }

    pub(super) fn sysctl(&mut self, name: &CStr, value: &[u8]) -> Result<(), Refused> {
        let procfs = self.procfs()?;
        let sys = procfs::file(procfs, c"sys", libc::O_PATH)?;
        let file = procfs::file(sys.as_fd(), name, libc::O_WRONLY)?;
        retry(|| nix::unistd::write(&file, value)).map_err(call("write"))?;
        Ok(())
    }
}

/// A new file system, detached.
pub(super) fn new_mount(
    fstype: &CStr,
    label: &CStr,
    options: &[FsOption],
    inherit_mode: Option<BorrowedFd<'_>>,
    attributes: u64,
) -> Result<Fd, Refused> {
    let context = fsopen(fstype).map_err(|errno| match errno {
        Errno::ENODEV => Refused::new("fsopen", errno).noting(b"no such file system type"),
        errno => Refused::new("fsopen", errno),
    })?;
    configure(context.as_fd(), c"source", Some(label))?;
    let mut layers = None;
    for option in options {
        match option.directories.as_slice() {
            [] => configure(context.as_fd(), &option.key, option.value.as_deref())?,
            paths => {
                let layers = layers.get_or_insert_with(overlay::Open::default);
                let opened = paths.iter().map(|path| open_layer(path));
                layers.set(context.as_fd(), &option.key, paths.len(), opened)?;
            }
        }
    }
    if let Some(covered) = inherit_mode {
        let (stat, _) = kind(covered)?;
        let mut mode = [0; 8];
        // Seven octal digits at the most, so the last byte stays the NUL.
        let _ = write!(&mut mode[..7], "{:o}", stat.st_mode & 0o7777);
        let mode = CStr::from_bytes_until_nul(&mode).unwrap_or(c"755");
        configure(context.as_fd(), c"mode", Some(mode))?;
    }
    create(context.as_fd())?;
    fsmount(context.as_fd(), attributes).map_err(call("fsmount"))
}

/// fsconfig(2); a refusal names the option and says what the kernel's log of the context says.
pub(super) fn configure(
    context: BorrowedFd<'_>,
    key: &CStr,
    value: Option<&CStr>,
) -> Result<(), Refused> {
    fsconfig(context, key, value).map_err(|errno| {
        let refused = Refused::new("fsconfig", errno)
            .noting(b"option ")
            .noting(key.to_bytes());
        match value {
            Some(value) => with_log(context, refused.noting(b"=").noting(value.to_bytes())),
            None => with_log(context, refused),
        }
    })
}

pub(super) fn create(context: BorrowedFd<'_>) -> Result<(), Refused> {
    fscreate(context).map_err(|errno| with_log(context, Refused::new("fsconfig", errno)))
}

fn with_log(context: BorrowedFd<'_>, refused: Refused) -> Refused {
    let mut message = [0; 160];
    match nix::unistd::read(context, &mut message) {
        // "e tmpfs: Bad value for 'size'": the first two say that it is an error.
        Ok(length) if length > 2 => {
            let text = message.get(2..length).unwrap_or_default();
            let separate = if refused.has_note() {
                b": ".as_slice()
            } else {
                b""
            };
            refused.noting(separate).noting(text.trim_ascii_end())
        }
        _ => refused,
    }
}

/// mount_setattr(2) for what is asked, and no call where nothing is.
fn give(mount: BorrowedFd<'_>, wanted: &Attributes) -> Result<(), Refused> {
    give_flags(mount, wanted)?;
    give_propagation(mount, wanted)
}

pub(super) fn give_flags(mount: BorrowedFd<'_>, wanted: &Attributes) -> Result<(), Refused> {
    let sides = [
        (true, wanted.recursive_set, wanted.recursive_clear),
        (false, wanted.set, wanted.clear),
    ];
    for (recursive, set, clear) in sides {
        if set | clear != 0 {
            set_attributes(mount, set, clear, 0, recursive)
                .map_err(|errno| locked::flags(mount, errno, set, clear, recursive))?;
        }
    }
    Ok(())
}

/// Only when the mount is attached: below a shared one it becomes shared by that, and an
/// unbindable one could not be attached there.
pub(super) fn give_propagation(mount: BorrowedFd<'_>, wanted: &Attributes) -> Result<(), Refused> {
    let sides = [
        (true, wanted.recursive_propagation),
        (false, wanted.propagation),
    ];
    for (recursive, propagation) in sides {
        if propagation != 0 {
            set_attributes(mount, 0, 0, propagation, recursive).map_err(call("mount_setattr"))?;
        }
    }
    Ok(())
}

pub(super) fn attach_at(mount: BorrowedFd<'_>, place: BorrowedFd<'_>) -> Result<(), Refused> {
    attach(mount, place).map_err(|errno| match (errno, unlike(mount, place)) {
        // What mount(2) calls it, and engines know it by.
        (Errno::EINVAL, Ok(true)) => Refused::new("move_mount", Errno::ENOTDIR)
            .noting(b"a directory can't be mounted on a file, nor a file on a directory"),
        (errno, _) => Refused::new("move_mount", errno),
    })
}

/// Whether one is a directory and the other is not.
fn unlike(mount: BorrowedFd<'_>, place: BorrowedFd<'_>) -> Result<bool, Refused> {
    let is_directory = |file| Ok(kind(file)?.1 == SFlag::S_IFDIR);
    Ok(is_directory(mount)? != is_directory(place)?)
}
