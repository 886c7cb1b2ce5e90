//! mkdir -p along symbolic links of the image that lead nowhere yet: what they point to is
//! made below the root, as a process of the container would see it. Only [`super::paths`]
//! comes here, when a plain walk has met such a link.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;

use super::fds::{Fd, openat2};
use super::paths::{Missing, make, open};
use crate::sys::fd::read_link;
use crate::sys::mount::resolve;

/// Linux follows no more links in one path (path_resolution(7)).
const LINKS: usize = 40;
/// PATH_MAX, the NUL included.
const PATH_BYTES: usize = 4096;

/// Opens `path` below `root` with O_PATH, and makes what is missing.
pub fn ensure(root: BorrowedFd<'_>, path: &CStr, missing: Missing) -> nix::Result<Fd> {
    let mut walk = Walk {
        text: [0; PATH_BYTES],
        length: 0,
    };
    walk.set(&[path.to_bytes()])?;
    for _ in 0..LINKS {
        if let Some(place) = walk.once(root, missing)? {
            return Ok(place);
        }
    }
    Err(Errno::ELOOP)
}

/// A path that grows by what its links say.
struct Walk {
    text: [u8; PATH_BYTES],
    length: usize,
}

impl Walk {
    /// Walks the path from the root. None: a link has been replaced by what it says.
    fn once(&mut self, root: BorrowedFd<'_>, missing: Missing) -> nix::Result<Option<Fd>> {
        let mut parent = open(root, c".", libc::O_PATH, false)?;
        let mut end = 0;
        while let Some((from, to)) = self.component(end) {
            match open(root, self.part(0, to)?, libc::O_PATH, false) {
                Err(Errno::ENOENT) => {
                    let last = self.component(to).is_none();
                    let kind = if last { missing } else { Missing::Directory };
                    match make(parent.as_fd(), self.part(from, to)?, kind) {
                        Err(Errno::EEXIST) => {
                            self.follow(parent.as_fd(), from, to)?;
                            return Ok(None);
                        }
                        made => made?,
                    }
                    let own = resolve::BENEATH | resolve::NO_SYMLINKS;
                    let name = self.part(from, to)?;
                    parent = openat2(parent.as_fd(), name, libc::O_PATH, 0, own)?;
                }
                found => parent = found?,
            }
            end = to;
        }
        Ok(Some(parent))
    }

    /// Where the next component begins and ends.
    fn component(&self, at: usize) -> Option<(usize, usize)> {
        let between = |b: &u8| [b'/', 0].contains(b);
        let rest = self.text.get(at..self.length)?;
        let from = at + rest.iter().position(|b| !between(b))?;
        let rest = self.text.get(from..self.length)?;
        let length = rest.iter().position(between).unwrap_or(rest.len());
        Some((from, from + length))
    }

    /// A part of the path as a string of its own: the slash after it becomes its NUL, and
    /// that of the part before a slash again.
    fn part(&mut self, from: usize, to: usize) -> nix::Result<&CStr> {
        let path = self.text.get_mut(..self.length).unwrap_or_default();
        if let Some(end) = path.iter_mut().find(|byte| **byte == 0) {
            *end = b'/';
        }
        *self.text.get_mut(to).ok_or(Errno::ENAMETOOLONG)? = 0;
        let part = self.text.get(from..=to).ok_or(Errno::ENAMETOOLONG)?;
        CStr::from_bytes_with_nul(part).map_err(|_| Errno::EINVAL)
    }

    /// Replaces the link at `from..to` by what it says; an absolute one begins at the root.
    fn follow(&mut self, parent: BorrowedFd<'_>, from: usize, to: usize) -> nix::Result<()> {
        let mut link = [0; PATH_BYTES];
        let length = match read_link(parent, self.part(from, to)?, &mut link) {
            // Somebody has made it meanwhile: the next walk finds it.
            Err(Errno::EINVAL) => return Ok(()),
            length => length?,
        };
        let before = self.text;
        let link = link.get(..length).unwrap_or_default();
        let parents = match link.first() {
            Some(b'/') => &[],
            _ => before.get(..from).unwrap_or_default(),
        };
        let rest = before.get(to..self.length).unwrap_or_default();
        let rest = rest.get(1..).unwrap_or_default();
        self.set(&[parents, link, b"/", rest])
    }

    fn set(&mut self, parts: &[&[u8]]) -> nix::Result<()> {
        let mut length = 0;
        for part in parts {
            let place = self.text.get_mut(length..length + part.len());
            place.ok_or(Errno::ENAMETOOLONG)?.copy_from_slice(part);
            length += part.len();
        }
        // The byte after the last is a NUL in every part that ends there.
        *self.text.get_mut(length).ok_or(Errno::ENAMETOOLONG)? = 0;
        self.length = length;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Where `path` leads below a root with these links, or why nowhere.
    fn lead(links: &[(&str, &str)], path: &CStr, missing: Missing) -> nix::Result<String> {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        std::fs::create_dir_all(root.join("etc/deep")).unwrap();
        for (name, to) in links {
            symlink(to, root.join(name)).unwrap();
        }
        let opened = std::fs::File::open(&root).unwrap();
        ensure(opened.as_fd(), path, missing)?;
        let outside = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(outside, 1, "something was made outside of the root");
        let mut found = String::new();
        for entry in walk(&root) {
            if !entry.starts_with("etc") && !links.iter().any(|(name, _)| *name == entry) {
                found += &format!("{entry} ");
            }
        }
        Ok(found.trim_end().to_owned())
    }

    fn walk(root: &std::path::Path) -> Vec<String> {
        let mut found = Vec::new();
        let mut todo = vec![root.to_path_buf()];
        while let Some(folder) = todo.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                let below = entry.path().strip_prefix(root).unwrap().to_owned();
                found.push(below.to_str().unwrap().to_owned());
                if entry.file_type().unwrap().is_dir() {
                    todo.push(entry.path());
                }
            }
        }
        found.sort();
        found
    }

    #[test]
    fn what_a_link_points_to_is_made_below_the_root() {
        let made = |to, path| lead(&[("link", to)], path, Missing::Directory).unwrap();
        assert_eq!(
            made("/host/place", c"link/a"),
            "host host/place host/place/a"
        );
        assert_eq!(made("../../../up", c"link"), "up");
        assert_eq!(made("beside", c"link/a/b"), "beside beside/a beside/a/b");
    }

    #[test]
    fn a_file_is_made_where_the_last_link_points() {
        let links = [("link", "second"), ("second", "/new/file")];
        let made = lead(&links, c"link", Missing::File).unwrap();
        assert_eq!(made, "new new/file");
    }

    #[test]
    fn a_link_in_a_directory_begins_there() {
        let links = [("etc/deep/link", "../made")];
        assert_eq!(
            lead(&links, c"etc/deep/link/x", Missing::Directory).unwrap(),
            ""
        );
    }

    #[test]
    fn links_in_a_circle_are_refused() {
        let links = [("a", "b"), ("b", "a")];
        assert_eq!(lead(&links, c"a", Missing::Directory), Err(Errno::ELOOP));
    }

    #[test]
    fn a_path_that_grows_too_long_is_refused() {
        let long = "x/".repeat(2040);
        let links = [("a", long.as_str())];
        let refused = lead(&links, c"a/0123456789/0123456789", Missing::Directory);
        assert_eq!(refused, Err(Errno::ENAMETOOLONG));
    }
}
