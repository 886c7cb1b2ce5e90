//! What the steps name by slot is opened here, in the caller's namespaces, before the clone.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::CloneFlags;
use nix::sys::stat::{FileStat, Mode, fstat, stat};

use super::{Surroundings, launch, reap};
use crate::error::{Code, Error, Result};
use crate::plan::{self, IdMaps, Open};
use crate::step::{FsOption, words};
use crate::sys::{ioctl, mount};

pub fn open_all(opens: &[Open]) -> Result<Vec<OwnedFd>> {
    let mut opened = Vec::with_capacity(opens.len());
    for what in opens {
        opened.push(open_one(what, &opened)?);
    }
    Ok(opened)
}

/// `before` is what the slots before this one hold.
fn open_one(what: &Open, before: &[OwnedFd]) -> Result<OwnedFd> {
    match what {
        Open::Descriptor(fd) => fd
            .try_clone()
            .map_err(|error| Error::io(Code::Process, "fcntl", &error)),
        Open::Tasks(path) => open_tasks(path),
        Open::Namespace {
            namespace,
            path,
            pointer,
        } => open_namespace(*namespace, path).map_err(|error| error.at(pointer.as_str())),
        Open::Tree {
            path,
            recursive,
            follow,
            owners,
            propagation,
            pointer,
        } => {
            let refused = |call| move |errno| tree_refused(call, errno, path, pointer);
            let name = CString::new(path.as_os_str().as_bytes())
                .map_err(|_| refused("open_tree")(Errno::EINVAL))?;
            let tree = match follow {
                true => mount::clone_tree(libc::AT_FDCWD, &name, *recursive),
                false => mount::clone_tree_at_link(&name, *recursive),
            }
            .map_err(refused("open_tree"))?;
            if let Some(owners) = owners {
                let user = before.get(owners.user.0);
                let user = user.ok_or_else(|| refused("mount_setattr")(Errno::EBADF))?;
                mount::map_owners(tree.as_fd(), user.as_fd(), owners.recursive).map_err(
                    |errno| refused("mount_setattr")(errno).hint(words::not_mapped(errno)),
                )?;
            }
            mount::set_attributes(tree.as_fd(), 0, 0, *propagation, true)
                .map_err(refused("mount_setattr"))?;
            Ok(tree)
        }
        Open::FileSystem {
            fstype,
            label,
            options,
            owners,
            pointer,
        } => file_system(fstype, label, options, before.get(owners.user.0)).map_err(|error| {
            let doing = format!("make a {} for the container", fstype.to_string_lossy());
            error.at(pointer.as_str()).doing(doing)
        }),
        Open::UserNamespace { maps, pointer } => {
            user_namespace(maps).map_err(|error| error.at(pointer.as_str()))
        }
    }
}

/// A file by which processes join, for writing.
pub fn open_tasks(path: impl AsRef<Path>) -> Result<OwnedFd> {
    let path = path.as_ref();
    open(path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| Error::call(Code::Cgroup, "open", errno).path(path))
}

/// A directory to be born in.
pub fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty())
        .map_err(|errno| Error::call(Code::Cgroup, "open", errno).path(path))
}

fn tree_refused(call: &'static str, errno: Errno, path: &Path, pointer: &str) -> Error {
    let error = Error::call(Code::Filesystem, call, errno)
        .path(path)
        .at(pointer);
    match errno {
        Errno::EMFILE => error.hint(
            "every source of a container in a user namespace is opened first: the caller's \
             limit of open files (ulimit -n) is too low",
        ),
        Errno::ENOENT => error.hint("the host has no such file or directory to show there"),
        _ => error,
    }
}

/// A new file system, its owners seen through the maps of a user namespace.
fn file_system(
    fstype: &CStr,
    label: &CStr,
    options: &[FsOption],
    user: Option<&OwnedFd>,
) -> Result<OwnedFd> {
    let refused = |call| move |errno| Error::call(Code::Filesystem, call, errno);
    let context = mount::fsopen(fstype).map_err(refused("fsopen"))?;
    let said = |error: Error| {
        // "e tmpfs: Bad value for 'size'": the first two say that it is an error.
        let mut message = [0; 160];
        let length = nix::unistd::read(&context, &mut message).unwrap_or_default();
        match message.get(2..length).map(String::from_utf8_lossy) {
            Some(text) if !text.is_empty() => error.hint(text.trim_end().to_owned()),
            _ => error,
        }
    };
    let source = FsOption {
        key: c"source".to_owned(),
        value: Some(label.to_owned()),
        ..FsOption::default()
    };
    for option in [&source].into_iter().chain(options) {
        let set = mount::fsconfig(context.as_fd(), &option.key, option.value.as_deref());
        set.map_err(refused("fsconfig")).map_err(said)?;
    }
    mount::fscreate(context.as_fd())
        .map_err(refused("fsconfig"))
        .map_err(said)?;
    let made = mount::fsmount(context.as_fd(), 0).map_err(refused("fsmount"))?;
    let user = user.ok_or_else(|| refused("mount_setattr")(Errno::EBADF))?;
    mount::map_owners(made.as_fd(), user.as_fd(), false)
        .map_err(|errno| refused("mount_setattr")(errno).hint(words::not_mapped(errno)))?;
    Ok(made)
}

/// A user namespace with these maps. The process that it was made with is gone by the return.
fn user_namespace(maps: &IdMaps) -> Result<OwnedFd> {
    let mut file = None;
    let holder = launch(
        &plan::holder(maps.clone()),
        Surroundings::default(),
        |holder| {
            let path = format!("/proc/{}/ns/user", holder.pid);
            let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
            let opened = open(path.as_str(), flags, Mode::empty());
            file = Some(opened.map_err(|e| Error::call(Code::Namespace, "open", e).path(&path))?);
            Ok(())
        },
    )?;
    reap(holder.pidfd.as_fd());
    file.ok_or_else(|| Error::new(Code::Died, "the holder of a user namespace is gone"))
}

/// Whether a file is the caller's own namespace of a kind.
pub fn is_own(namespace: CloneFlags, file: nix::Result<FileStat>) -> bool {
    let kind = words::NAMESPACES
        .iter()
        .find(|(kind, ..)| *kind == namespace);
    let own = kind.map(|(_, _, name)| stat(format!("/proc/thread-self/ns/{name}").as_str()));
    match (own, file) {
        (Some(Ok(own)), Ok(file)) => (own.st_dev, own.st_ino) == (file.st_dev, file.st_ino),
        _ => false,
    }
}

/// The kind is asked of the kernel, so that a wrong path is refused before anything is made.
fn open_namespace(wanted: CloneFlags, path: &Path) -> Result<OwnedFd> {
    let doing = format!(
        "open the {} namespace {}",
        words::namespaces(wanted),
        path.display()
    );
    let refused = |name, errno| Error::call(Code::Namespace, name, errno).doing(doing.as_str());
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = open(path, flags, Mode::empty()).map_err(|errno| refused("open", errno))?;
    match ioctl::namespace_type(file.as_fd()) {
        // The others may be joined again and again.
        Ok(CloneFlags::CLONE_NEWUSER)
            if wanted == CloneFlags::CLONE_NEWUSER && is_own(wanted, fstat(&file)) =>
        {
            Err(refused("setns", Errno::EINVAL).hint(
                "it is the caller's own user namespace, which nobody can join: leave it out, and \
                 the container stays in it",
            ))
        }
        Ok(kind) if kind == wanted => Ok(file),
        Ok(kind) => {
            let kind = words::namespaces(kind);
            let article = if kind.starts_with('i') { "an" } else { "a" };
            let hint = format!("the file is {article} {kind} namespace");
            Err(refused("ioctl", Errno::EINVAL).hint(hint))
        }
        Err(Errno::ENOTTY) => {
            Err(refused("ioctl", Errno::EINVAL).hint("the file is not a namespace"))
        }
        Err(errno) => Err(refused("ioctl", errno)),
    }
}
