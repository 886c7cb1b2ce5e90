//! Device nodes, links and directories below the root.

use std::ffi::CStr;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, makedev, mkdirat, mknodat};
use nix::unistd::{Gid, Uid, fchownat, symlinkat};

use super::Child;
use super::fds::{Fd, clone_tree_with, openat2};
use super::paths::{Missing, ensure, kind};
use crate::report::{Refused, call};
use crate::step::{Existing, Node, Populate, Target, Way};
use crate::sys::fd;
use crate::sys::mount::{attach, resolve};

const ANOTHER: &[u8] = b"what is there is not this device: ";

impl<'plan> Child<'plan> {
    pub(super) fn populate(&mut self, populate: &'plan Populate) -> Result<(), Refused> {
        let walked;
        let directory = match self.fresh_at(&populate.directory) {
            // No copy of the number outlives this step, and the directory does.
            Some(fresh) => fd::borrow(fresh.as_raw_fd()),
            None => {
                walked = ensure(self.root()?, &populate.directory, Missing::Directory)?;
                walked.as_fd()
            }
        };
        let mut new = true;
        for name in &populate.directories {
            let mode = Mode::from_bits_truncate(0o755);
            match mkdirat(directory.as_fd(), name.as_c_str(), mode) {
                Ok(()) => {}
                Err(Errno::EEXIST) => new = false,
                Err(errno) => {
                    let refused = Refused::new("mkdirat", errno);
                    return Err(refused.noting(b"directory ").noting(name.to_bytes()));
                }
            }
        }
        if new {
            self.note_directories(&populate.directory, &populate.directories);
        }
        for node in &populate.nodes {
            self.node(directory.as_fd(), node)
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

    fn node(&mut self, directory: BorrowedFd<'_>, node: &Node) -> Result<(), Refused> {
        match &node.way {
            Way::Make => self.make_node(directory, node),
            // A container of an engine may lack the right that its capabilities promise.
            Way::MakeOrBind(host) => match self.make_node(directory, node) {
                Err(refused) if refused.errno == Errno::EPERM => bind_node(directory, node, host),
                made => made,
            },
            Way::Bind(host) => bind_node(directory, node, host),
            Way::Expect => {
                let there = open_node(directory, &node.name).map_err(|refused| {
                    refused.noting(b"nothing is made in a /dev of the host's: ")
                })?;
                expect(there.as_fd(), node)
            }
        }
    }

    fn make_node(&mut self, directory: BorrowedFd<'_>, node: &Node) -> Result<(), Refused> {
        let name = node.name.as_c_str();
        let mode = Mode::from_bits_truncate(node.mode);
        let made = match mknodat(directory, name, node.kind(), mode, number(node)) {
            Ok(()) => true,
            Err(Errno::EEXIST) => false,
            Err(errno) => return Err(Refused::new("mknodat", errno)),
        };
        if made && node.owner.is_none() {
            return Ok(());
        }
        let there = open_node(directory, name)?;
        expect(there.as_fd(), node)?;
        match node.owner {
            Some(owner) if made || node.existing == Existing::Settled => {
                self.settle(there.as_fd(), node, owner)
            }
            _ => Ok(()),
        }
    }

    /// Gives a node the owner and the mode that it was asked with, whatever its directory or
    /// an earlier container has given it.
    fn settle(
        &mut self,
        there: BorrowedFd<'_>,
        node: &Node,
        (uid, gid): (u32, u32),
    ) -> Result<(), Refused> {
        let (stat, _) = kind(there)?;
        if (stat.st_uid, stat.st_gid) != (uid, gid) {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            fchownat(there, c"", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH)
                .map_err(call("fchownat"))?;
        }
        let (stat, _) = kind(there)?;
        if stat.st_mode & 0o7777 == node.mode & 0o7777 {
            return Ok(());
        }
        // fchmodat2(2) is younger than our kernels, and fchmod(2) takes no O_PATH.
        let mut path = [0; 32];
        let _ = write!(&mut path[..31], "self/fd/{}", there.as_raw_fd());
        let path = CStr::from_bytes_until_nul(&path).unwrap_or_default();
        let mode = Mode::from_bits_truncate(node.mode & 0o7777);
        fchmodat(self.procfs()?, path, mode, FchmodatFlags::FollowSymlink).map_err(call("fchmodat"))
    }
}

impl Node {
    fn kind(&self) -> SFlag {
        SFlag::from_bits_truncate(self.mode & SFlag::S_IFMT.bits())
    }
}

fn number(node: &Node) -> u64 {
    makedev(u64::from(node.major), u64::from(node.minor))
}

fn open_node(directory: BorrowedFd<'_>, name: &CStr) -> Result<Fd, Refused> {
    let own = resolve::BENEATH | resolve::NO_SYMLINKS;
    openat2(directory, name, libc::O_PATH, 0, own).map_err(|errno| match errno {
        Errno::ELOOP => Refused::new("openat2", Errno::EEXIST).noting(ANOTHER),
        errno => Refused::new("openat2", errno),
    })
}

/// runtime-spec, config-linux.md: another file at the path MUST be an error.
fn expect(there: BorrowedFd<'_>, node: &Node) -> Result<(), Refused> {
    let (stat, found) = kind(there)?;
    let same = found == node.kind() && (found == SFlag::S_IFIFO || stat.st_rdev == number(node));
    match same {
        true => Ok(()),
        false => Err(Refused::new("fstat", Errno::EEXIST).noting(ANOTHER)),
    }
}

/// Shows a node of the host's, read-only: root of the container may be its owner on the host,
/// and must not change the mode that all of the machine needs.
fn bind_node(directory: BorrowedFd<'_>, node: &Node, host: &CStr) -> Result<(), Refused> {
    let name = node.name.as_c_str();
    // And private: below a shared root, what the container mounts on it would reach the host.
    let (read_only, private) = (libc::MOUNT_ATTR_RDONLY, libc::MS_PRIVATE);
    let device = clone_tree_with(libc::AT_FDCWD, host, read_only, private, false);
    let device = device.map_err(|errno| {
        let refused = Refused::new("open_tree", errno);
        match errno {
            Errno::ENOENT => refused.noting(b"the host has no such node to show: "),
            _ => refused,
        }
    })?;
    expect(device.as_fd(), node)?;
    let place = match mknodat(directory, name, SFlag::S_IFREG, Mode::empty(), 0) {
        Ok(()) => open_node(directory, name)?,
        Err(Errno::EEXIST) => {
            let place = open_node(directory, name)?;
            // An empty file is the place of an earlier one.
            match kind(place.as_fd())? {
                (stat, SFlag::S_IFREG) if stat.st_size == 0 => {}
                _ => expect(place.as_fd(), node)?,
            }
            place
        }
        Err(errno) => return Err(Refused::new("mknodat", errno)),
    };
    attach(device.as_fd(), place.as_fd()).map_err(call("move_mount"))
}
