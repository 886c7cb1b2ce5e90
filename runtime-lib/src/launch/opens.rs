//! What the steps name by slot is opened here, in the caller's namespaces, before the clone.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;

use crate::error::{Code, Error, Result};
use crate::plan::Open;
use crate::step::words;
use crate::sys::{ioctl, mount};

pub fn open_all(opens: &[Open]) -> Result<Vec<OwnedFd>> {
    opens.iter().map(open_one).collect()
}

fn open_one(what: &Open) -> Result<OwnedFd> {
    match what {
        Open::Descriptor(fd) => fd
            .try_clone()
            .map_err(|error| Error::io(Code::Process, "fcntl", &error)),
        Open::Tasks(path) => open(path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|errno| Error::call(Code::Cgroup, "open", errno).path(path)),
        Open::Namespace {
            namespace,
            path,
            pointer,
        } => open_namespace(*namespace, path).map_err(|error| error.at(pointer.as_str())),
        Open::Tree {
            path,
            recursive,
            propagation,
            pointer,
        } => {
            let refused = |call| {
                move |errno| {
                    Error::call(Code::Filesystem, call, errno)
                        .path(path)
                        .at(pointer.as_str())
                }
            };
            let name = CString::new(path.as_os_str().as_bytes())
                .map_err(|_| refused("open_tree")(Errno::EINVAL))?;
            let tree = mount::clone_tree(libc::AT_FDCWD, &name, *recursive)
                .map_err(refused("open_tree"))?;
            mount::set_attributes(tree.as_fd(), 0, 0, *propagation, true)
                .map_err(refused("mount_setattr"))?;
            Ok(tree)
        }
    }
}

/// A directory to be born in.
pub fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty())
        .map_err(|errno| Error::call(Code::Cgroup, "open", errno).path(path))
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
        Ok(kind) if kind == wanted => Ok(file),
        Ok(kind) => Err(refused("ioctl", Errno::EINVAL).hint(format!(
            "the file is a {} namespace",
            words::namespaces(kind)
        ))),
        Err(Errno::ENOTTY) => {
            Err(refused("ioctl", Errno::EINVAL).hint("the file is not a namespace"))
        }
        Err(errno) => Err(refused("ioctl", errno)),
    }
}
