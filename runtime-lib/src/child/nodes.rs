//! Device nodes, links and directories below the root.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{Mode, SFlag, fstatat, makedev, mkdirat, mknodat};
use nix::unistd::{Gid, Uid, fchownat, symlinkat};

use super::Child;
use super::fds::{clone_tree, openat2};
use super::paths::{Missing, ensure};
use crate::report::{Refused, call};
use crate::step::{Node, Populate, Target};
use crate::sys::mount::{attach, resolve};

impl Child<'_> {
    pub(super) fn populate(&self, populate: &Populate) -> Result<(), Refused> {
        let directory = ensure(self.root()?, &populate.directory, Missing::Directory)?;
        for name in &populate.directories {
            let mode = Mode::from_bits_truncate(0o755);
            match mkdirat(directory.as_fd(), name.as_c_str(), mode) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => {
                    let refused = Refused::new("mkdirat", errno);
                    return Err(refused.noting(b"directory ").noting(name.to_bytes()));
                }
            }
        }
        for node in &populate.nodes {
            match &node.bind {
                Some(_) => bind_node(directory.as_fd(), node),
                None => make_node(directory.as_fd(), node),
            }
            .map_err(|refused| refused.noting(b"node ").noting(node.name.to_bytes()))?;
        }
        for link in &populate.links {
            match symlinkat(link.to.as_c_str(), directory.as_fd(), link.name.as_c_str()) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => {
                    let refused = Refused::new("symlinkat", errno);
                    return Err(refused.noting(b"link ").noting(link.name.to_bytes()));
                }
            }
        }
        Ok(())
    }

    pub(super) fn make_directory(&self, target: &Target) -> Result<(), Refused> {
        ensure(self.root()?, target, Missing::Directory).map(drop)
    }
}

fn make_node(directory: BorrowedFd<'_>, node: &Node) -> Result<(), Refused> {
    let name = node.name.as_c_str();
    let kind = SFlag::from_bits_truncate(node.mode & SFlag::S_IFMT.bits());
    let mode = Mode::from_bits_truncate(node.mode);
    let device = makedev(u64::from(node.major), u64::from(node.minor));
    match mknodat(directory, name, kind, mode, device) {
        Ok(()) => {}
        Err(Errno::EEXIST) => {
            let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
            let there = fstatat(directory, name, flags).map_err(call("fstatat"))?;
            let same_kind = there.st_mode & SFlag::S_IFMT.bits() == kind.bits();
            if !same_kind || (kind != SFlag::S_IFIFO && there.st_rdev != device) {
                return Err(Refused::new("mknodat", Errno::EEXIST)
                    .noting(b"what is there is not this device: "));
            }
        }
        Err(errno) => return Err(Refused::new("mknodat", errno)),
    }
    if node.uid != 0 || node.gid != 0 {
        let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
        fchownat(directory, name, Some(uid), Some(gid), flags).map_err(call("fchownat"))?;
    }
    Ok(())
}

fn bind_node(directory: BorrowedFd<'_>, node: &Node) -> Result<(), Refused> {
    let name = node.name.as_c_str();
    let Some(source) = &node.bind else {
        return Ok(());
    };
    match mknodat(directory, name, SFlag::S_IFREG, Mode::empty(), 0) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(Refused::new("mknodat", errno)),
    }
    let own = resolve::BENEATH | resolve::NO_SYMLINKS;
    let place = openat2(directory, name, libc::O_PATH, 0, own).map_err(call("openat2"))?;
    let device = clone_tree(libc::AT_FDCWD, source, false).map_err(call("open_tree"))?;
    attach(device.as_fd(), place.as_fd()).map_err(call("move_mount"))
}
