//! Symbolic links: mkdir -p along those of the image that lead nowhere yet (what they point
//! to is made below the root, as a process of the container would see it; only
//! [`super::paths`] comes here, when a plain walk has met such a link), and copies of the
//! host's.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::unistd::symlinkat;

use super::fds::{Fd, openat2};
use super::path_text::{PATH_BYTES, PathText};
use super::paths::{Missing, ensure_parent, make, open};
use crate::report::{Refused, call};
use crate::step::Target;
use crate::sys::fd::read_link;
use crate::sys::mount::resolve;

/// Linux follows no more links in one path (path_resolution(7)).
const LINKS: usize = 40;

/// Opens `path` below `root` with O_PATH, and makes what is missing.
pub fn ensure(root: BorrowedFd<'_>, path: &CStr, missing: Missing) -> nix::Result<Fd> {
    let mut path = PathText::new(path.to_bytes())?;
    for _ in 0..LINKS {
        if let Some(place) = walk_once(root, &mut path, missing)? {
            return Ok(place);
        }
    }
    Err(Errno::ELOOP)
}

/// Makes the link that `link` is open on once more at `target`; one that says the same may be
/// there already.
pub fn copy_link(
    link: BorrowedFd<'_>,
    root: BorrowedFd<'_>,
    target: &Target,
) -> Result<(), Refused> {
    let mut text = [0; PATH_BYTES];
    let length = read_link(link, c"", &mut text).map_err(call("readlinkat"))?;
    let said = CStr::from_bytes_until_nul(&text).map_err(|_| {
        let refused = Refused::new("readlinkat", Errno::ENAMETOOLONG);
        refused.noting(b"the source says too long a path")
    })?;
    let (parent, mut last) = ensure_parent(root, target)?;
    let name = last.name().map_err(call("symlinkat"))?;
    match symlinkat(said, parent.as_fd(), name) {
        Err(Errno::EEXIST) => {
            let mut there = [0; PATH_BYTES];
            match read_link(parent.as_fd(), name, &mut there) {
                Ok(same) if there.get(..same) == text.get(..length) => Ok(()),
                _ => Err(Refused::new("symlinkat", Errno::EEXIST)
                    .noting(b"what is there is not this link")),
            }
        }
        made => made.map_err(call("symlinkat")),
    }
}

/// Walks the path from the root. None: a link has been replaced by what it says.
fn walk_once(
    root: BorrowedFd<'_>,
    path: &mut PathText,
    missing: Missing,
) -> nix::Result<Option<Fd>> {
    let mut parent = open(root, c".", libc::O_PATH, false)?;
    let mut end = 0;
    while let Some((from, to)) = path.component(end) {
        match open(root, path.part(0, to)?, libc::O_PATH, false) {
            Err(Errno::ENOENT) => {
                let last = path.component(to).is_none();
                let kind = if last { missing } else { Missing::Directory };
                match make(parent.as_fd(), path.part(from, to)?, kind) {
                    Err(Errno::EEXIST) => {
                        follow(parent.as_fd(), path, from, to)?;
                        return Ok(None);
                    }
                    made => made?,
                }
                let own = resolve::BENEATH | resolve::NO_SYMLINKS;
                let name = path.part(from, to)?;
                parent = openat2(parent.as_fd(), name, libc::O_PATH, 0, own)?;
            }
            found => parent = found?,
        }
        end = to;
    }
    Ok(Some(parent))
}

/// Replaces the link at `from..to` by what it says; an absolute one begins at the root.
fn follow(parent: BorrowedFd<'_>, path: &mut PathText, from: usize, to: usize) -> nix::Result<()> {
    let mut link = [0; PATH_BYTES];
    let length = match read_link(parent, path.part(from, to)?, &mut link) {
        // Somebody has made it meanwhile: the next walk finds it.
        Err(Errno::EINVAL) => return Ok(()),
        length => length?,
    };
    path.replace(from, to, link.get(..length).unwrap_or_default())
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
