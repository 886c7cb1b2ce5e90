//! An overlay's mount. Layers are named by descriptor, so that no character of a path has a
//! meaning for overlayfs.

use std::ffi::CStr;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::statvfs::{FsFlags, fstatvfs};

use super::Child;
use super::fds::{Fd, fsmount, fsopen};
use super::mounts::{configure, create};
use crate::report::{Refused, call};
use crate::step::OverlayMount;

/// What fsconfig(2) takes as a string, the NUL included.
const OPTION_BYTES: usize = 256;
/// As many as one `lowerdir` of "/proc/self/fd/N" can name.
const ONE_OPTION: usize = 12;
/// The most lower layers of an overlay.
const LAYERS: usize = 128;
/// The most directories of an overlay, upper and work included.
pub(super) const DIRECTORIES: usize = LAYERS + 2;

pub(super) fn too_many() -> Refused {
    Refused::new("fsconfig", Errno::E2BIG).noting(b"more than 128 lower layers")
}

impl Child<'_> {
    pub(super) fn mount_overlay(&mut self, overlay: &OverlayMount) -> Result<Fd, Refused> {
        let context = fsopen(c"overlay").map_err(call("fsopen"))?;
        configure(context.as_fd(), c"source", Some(c"overlay"))?;
        let mut open = Open::default();
        let lower = overlay.lower.iter().zip(1..);
        let lower = lower.map(|(path, n)| self.reached(n, path));
        open.set(context.as_fd(), c"lowerdir", overlay.lower.len(), lower)?;
        let own = [(c"upperdir", &overlay.upper), (c"workdir", &overlay.work)];
        for ((key, path), n) in own.into_iter().zip(overlay.lower.len() + 1..) {
            let one = std::iter::once(self.reached(n, path));
            open.set(context.as_fd(), key, 1, one)?;
        }
        if overlay.userxattr {
            configure(context.as_fd(), c"userxattr", None)?;
        }
        create(context.as_fd())?;
        let mounted = fsmount(context.as_fd(), 0).map_err(call("fsmount"))?;
        let stat = fstatvfs(&mounted).map_err(call("fstatvfs"))?;
        if stat.flags().contains(FsFlags::ST_RDONLY) {
            // Some kernels mount read-only instead of refusing an upper directory they can't use.
            return Err(Refused::new("fsmount", Errno::EROFS)
                .noting(b"the file system of the upper directory can't hold an overlay's upper"));
        }
        Ok(mounted)
    }
}

/// All stay open until the file system exists: some kernels look them up only then.
pub(super) struct Open {
    directories: [Option<Fd>; DIRECTORIES],
    next: usize,
}

impl Default for Open {
    fn default() -> Open {
        Open {
            directories: [const { None }; DIRECTORIES],
            next: 0,
        }
    }
}

impl Open {
    /// Names that many directories in one option, or each in one of its own.
    pub(super) fn set(
        &mut self,
        context: BorrowedFd<'_>,
        key: &CStr,
        count: usize,
        directories: impl Iterator<Item = Result<Fd, Refused>>,
    ) -> Result<(), Refused> {
        if count > LAYERS {
            return Err(too_many());
        }
        let one_by_one = count > ONE_OPTION;
        let mut list = List::new();
        for directory in directories {
            let place = self.directories.get_mut(self.next).ok_or_else(too_many)?;
            self.next += 1;
            let directory = place.insert(directory?);
            list.push(directory.as_fd())?;
            if one_by_one {
                configure(context, c"lowerdir+", Some(list.text()?))
                    .map_err(|refused| refused.noting(b" (more than 12 layers need Linux 6.8)"))?;
                list = List::new();
            }
        }
        match one_by_one {
            true => Ok(()),
            false => configure(context, key, Some(list.text()?)),
        }
    }
}

/// "/proc/self/fd/N", joined by colons, without allocating.
struct List {
    buffer: [u8; OPTION_BYTES],
    used: usize,
}

impl List {
    fn new() -> List {
        List {
            buffer: [0; OPTION_BYTES],
            used: 0,
        }
    }

    fn push(&mut self, layer: BorrowedFd<'_>) -> Result<(), Refused> {
        let colon = if self.used == 0 { "" } else { ":" };
        // The last byte stays the NUL.
        let left = self.buffer.get_mut(self.used..OPTION_BYTES - 1);
        let mut left = left.unwrap_or_default();
        let room = left.len();
        match write!(left, "{colon}/proc/self/fd/{}", layer.as_raw_fd()) {
            Ok(()) => self.used += room - left.len(),
            Err(_) => return Err(Refused::new("fsconfig", Errno::E2BIG)),
        }
        Ok(())
    }

    fn text(&self) -> Result<&CStr, Refused> {
        CStr::from_bytes_until_nul(&self.buffer).map_err(|_| Refused::new("fsconfig", Errno::E2BIG))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_the_longest_descriptors_fits_into_one_option() {
        let mut list = List::new();
        for _ in 0..ONE_OPTION {
            list.push(crate::sys::fd::borrow(99_999))
                .unwrap_or_else(|_| panic!("fits"));
        }
        assert_eq!(
            list.text().map(CStr::count_bytes).ok(),
            Some(ONE_OPTION * 20 - 1)
        );
    }
}
