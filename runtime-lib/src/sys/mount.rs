//! The mount API by file descriptors (fsopen(2), open_tree(2), mount_setattr(2), …) and
//! openat2(2).

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::Result;
use nix::errno::Errno;

use super::checked;

/// openat2(2) RESOLVE_* words; `IN_ROOT` is how every path of a container is walked.
pub mod resolve {
    pub const IN_ROOT: u64 = libc::RESOLVE_IN_ROOT;
    pub const BENEATH: u64 = libc::RESOLVE_BENEATH;
    pub const NO_SYMLINKS: u64 = libc::RESOLVE_NO_SYMLINKS;
    pub const NO_MAGICLINKS: u64 = libc::RESOLVE_NO_MAGICLINKS;
    pub const NO_XDEV: u64 = libc::RESOLVE_NO_XDEV;
    /// Only what the kernel has in memory: no file system is asked, EAGAIN instead (5.12).
    pub const CACHED: u64 = libc::RESOLVE_CACHED;
}

/// openat2(2): opens `path` below `directory` with O_CLOEXEC added.
pub fn openat2(
    directory: BorrowedFd<'_>,
    path: &CStr,
    flags: i32,
    mode: u32,
    resolve: u64,
) -> Result<OwnedFd> {
    // SAFETY: open_how is plain data for which all zeroes is valid (openat2(2)).
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.mode = u64::from(mode);
    how.resolve = resolve;
    // SAFETY: `path` is NUL-terminated and `how` outlives the call.
    let fd = checked(unsafe {
        libc::syscall(
            libc::SYS_openat2,
            directory.as_raw_fd(),
            path.as_ptr(),
            &raw const how,
            size_of::<libc::open_how>(),
        )
    })?;
    Ok(owned(fd))
}

/// open_tree(2) with OPEN_TREE_CLONE: a detached copy of the mount at `path`, or of
/// `directory` itself when `path` is empty.
pub fn clone_tree(directory: RawFd, path: &CStr, recursive: bool) -> Result<OwnedFd> {
    open_tree(directory, path, clone_flags(path, recursive))
}

/// As [`clone_tree`], of a symbolic link itself when `path` leads to one (AT_SYMLINK_NOFOLLOW).
pub fn clone_tree_at_link(path: &CStr, recursive: bool) -> Result<OwnedFd> {
    let itself = libc::AT_SYMLINK_NOFOLLOW as libc::c_uint;
    open_tree(libc::AT_FDCWD, path, clone_flags(path, recursive) | itself)
}

fn open_tree(directory: RawFd, path: &CStr, flags: libc::c_uint) -> Result<OwnedFd> {
    // SAFETY: `path` is NUL-terminated; the call takes no other pointer.
    let fd =
        checked(unsafe { libc::syscall(libc::SYS_open_tree, directory, path.as_ptr(), flags) })?;
    Ok(owned(fd))
}

/// open_tree_attr(2), the same number on every architecture.
const OPEN_TREE_ATTR: libc::c_long = 467;
/// Whether that is there (since Linux 6.15), as far as this process knows.
static OPEN_TREE_ATTR_IS_THERE: AtomicBool = AtomicBool::new(true);

/// As [`clone_tree`], with attributes set from the start: one call less where the kernel can.
pub fn clone_tree_with(
    directory: RawFd,
    path: &CStr,
    set: u64,
    propagation: u64,
    recursive: bool,
) -> Result<OwnedFd> {
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation,
        userns_fd: 0,
    };
    if OPEN_TREE_ATTR_IS_THERE.load(Ordering::Relaxed) {
        // SAFETY: `path` is NUL-terminated; `attributes` outlives the call and its size is passed.
        let made = checked(unsafe {
            libc::syscall(
                OPEN_TREE_ATTR,
                directory,
                path.as_ptr(),
                clone_flags(path, recursive),
                &raw const attributes,
                size_of_val(&attributes),
            )
        });
        match made {
            // A filter that doesn't know the call says EPERM.
            Err(Errno::ENOSYS | Errno::EPERM) => {
                OPEN_TREE_ATTR_IS_THERE.store(false, Ordering::Relaxed);
            }
            made => return made.map(owned),
        }
    }
    let tree = clone_tree(directory, path, recursive)?;
    mount_setattr(tree.as_raw_fd(), c"", &attributes, recursive)?;
    Ok(tree)
}

fn clone_flags(path: &CStr, recursive: bool) -> libc::c_uint {
    libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | at_flags(path, recursive)
}

/// An empty path is the descriptor's own file.
fn at_flags(path: &CStr, recursive: bool) -> libc::c_uint {
    let mut flags = 0;
    if path.is_empty() {
        flags |= libc::AT_EMPTY_PATH;
    }
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    flags as libc::c_uint
}

/// move_mount(2): attaches `mount` at the place that `target` names.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    move_mount(mount, target, c"", libc::MOVE_MOUNT_T_EMPTY_PATH)
}

/// move_mount(2): attaches `mount` at a name in a directory, which isn't followed if it is a link.
pub fn attach_in(mount: BorrowedFd<'_>, directory: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    move_mount(mount, directory, name, 0)
}

fn move_mount(
    mount: BorrowedFd<'_>,
    directory: BorrowedFd<'_>,
    name: &CStr,
    flags: libc::c_uint,
) -> Result<()> {
    // SAFETY: both paths are NUL-terminated; the descriptors are borrowed for the call.
    checked(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            directory.as_raw_fd(),
            name.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH | flags,
        )
    })?;
    Ok(())
}

/// fsopen(2)
pub fn fsopen(fstype: &CStr) -> Result<OwnedFd> {
    // SAFETY: `fstype` is NUL-terminated.
    let fd =
        checked(unsafe { libc::syscall(libc::SYS_fsopen, fstype.as_ptr(), libc::FSOPEN_CLOEXEC) })?;
    Ok(owned(fd))
}

/// fsconfig(2) FSCONFIG_SET_STRING, or FSCONFIG_SET_FLAG without a value.
pub fn fsconfig(context: BorrowedFd<'_>, key: &CStr, value: Option<&CStr>) -> Result<()> {
    let (command, value) = match value {
        Some(value) => (libc::FSCONFIG_SET_STRING, value.as_ptr()),
        None => (libc::FSCONFIG_SET_FLAG, ptr::null()),
    };
    // SAFETY: `key` and `value` are NUL-terminated, or `value` is null as SET_FLAG wants it.
    checked(unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            command,
            key.as_ptr(),
            value,
            0,
        )
    })?;
    Ok(())
}

/// fsconfig(2) FSCONFIG_CMD_CREATE
pub fn fscreate(context: BorrowedFd<'_>) -> Result<()> {
    fscommand(context, libc::FSCONFIG_CMD_CREATE)
}

/// fsconfig(2) FSCONFIG_CMD_RECONFIGURE
pub fn fsreconfigure(context: BorrowedFd<'_>) -> Result<()> {
    fscommand(context, libc::FSCONFIG_CMD_RECONFIGURE)
}

fn fscommand(context: BorrowedFd<'_>, command: libc::c_uint) -> Result<()> {
    let null = ptr::null::<libc::c_char>();
    // SAFETY: the commands take neither key nor value.
    checked(unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            command,
            null,
            null,
            0,
        )
    })?;
    Ok(())
}

/// fspick(2): the context of the file system whose mount `mount` is open on.
pub fn fspick(mount: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = libc::FSPICK_CLOEXEC | libc::FSPICK_EMPTY_PATH;
    // SAFETY: the path is the empty string.
    let fd = checked(unsafe {
        libc::syscall(libc::SYS_fspick, mount.as_raw_fd(), c"".as_ptr(), flags)
    })?;
    Ok(owned(fd))
}

/// fsmount(2) with MOUNT_ATTR_* bits.
pub fn fsmount(context: BorrowedFd<'_>, attributes: u64) -> Result<OwnedFd> {
    // SAFETY: the call takes no pointer.
    let fd = checked(unsafe {
        libc::syscall(
            libc::SYS_fsmount,
            context.as_raw_fd(),
            libc::FSMOUNT_CLOEXEC,
            attributes as libc::c_uint,
        )
    })?;
    Ok(owned(fd))
}

/// mount_setattr(2) on the mount that `mount` is open on.
pub fn set_attributes(
    mount: BorrowedFd<'_>,
    set: u64,
    clear: u64,
    propagation: u64,
    recursive: bool,
) -> Result<()> {
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: clear,
        propagation,
        userns_fd: 0,
    };
    mount_setattr(mount.as_raw_fd(), c"", &attributes, recursive)
}

/// mount_setattr(2) of the propagation of all mounts from `path` down, which is not opened first.
pub fn propagate_tree(path: &CStr, propagation: u64) -> Result<()> {
    let attributes = libc::mount_attr {
        attr_set: 0,
        attr_clr: 0,
        propagation,
        userns_fd: 0,
    };
    mount_setattr(libc::AT_FDCWD, path, &attributes, true)
}

/// mount_setattr(2) with MOUNT_ATTR_IDMAP: the owners of files are seen through the maps of a
/// user namespace. Only once, and only before the mount is attached.
pub fn map_owners(mount: BorrowedFd<'_>, user: BorrowedFd<'_>, recursive: bool) -> Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: user.as_raw_fd() as u64,
    };
    mount_setattr(mount.as_raw_fd(), c"", &attributes, recursive)
}

fn mount_setattr(
    directory: RawFd,
    path: &CStr,
    attributes: &libc::mount_attr,
    recursive: bool,
) -> Result<()> {
    // SAFETY: `path` is NUL-terminated; `attributes` outlives the call and its size is passed.
    checked(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            directory,
            path.as_ptr(),
            at_flags(path, recursive),
            attributes as *const libc::mount_attr,
            size_of::<libc::mount_attr>(),
        )
    })?;
    Ok(())
}

/// What statx(2) says of the mount that a descriptor is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MountId {
    /// The number that mountinfo shows; another mount may have it later (since Linux 5.8).
    pub id: u64,
    /// A number that no other mount of this boot gets (since Linux 6.8).
    pub unique: Option<u64>,
    /// Device and inode of the file that the descriptor is on.
    pub file: (u64, u64),
    /// The descriptor is on the root of the mount.
    pub is_root: bool,
}

/// statx(2) STATX_MNT_ID and STATX_MNT_ID_UNIQUE.
pub fn mount_id(fd: BorrowedFd<'_>) -> Result<MountId> {
    const STATX_MNT_ID_UNIQUE: u32 = 0x4000;
    let seen = statx(fd, libc::STATX_MNT_ID | libc::STATX_INO)?;
    let again = statx(fd, STATX_MNT_ID_UNIQUE)?;
    let id = |seen: &libc::statx, mask| (seen.stx_mask & mask != 0).then_some(seen.stx_mnt_id);
    Ok(MountId {
        id: id(&seen, libc::STATX_MNT_ID).ok_or(nix::errno::Errno::ENOSYS)?,
        unique: id(&again, STATX_MNT_ID_UNIQUE),
        file: (
            libc::makedev(seen.stx_dev_major, seen.stx_dev_minor),
            seen.stx_ino,
        ),
        is_root: seen.stx_attributes & libc::STATX_ATTR_MOUNT_ROOT as u64 != 0,
    })
}

fn statx(fd: BorrowedFd<'_>, mask: u32) -> Result<libc::statx> {
    // What is asked for, the kernel knows without a FUSE server's word.
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
    super::fd::statx(fd, c"", flags, mask)
}

fn owned(fd: libc::c_long) -> OwnedFd {
    // SAFETY: the kernel has just returned this descriptor and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd as RawFd) }
}
