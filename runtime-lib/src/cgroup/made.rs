//! Making a container's directories, with the undo that is armed where each is made.
//!
//! Parents are made as needed and are nobody's own; the leaf is the container's.

use std::mem;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, mkdir, unlinkat};

use super::plan::Group;
use crate::error::{Code, Error, Result};

/// The directories that were made, removed again on drop unless they are kept.
#[derive(Default)]
pub struct Made(Vec<PathBuf>);

/// What was found in a leaf's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaf {
    /// Nothing: the leaf is new, and so are parents, if any.
    New { parents: bool },
    /// A directory.
    Found,
}

impl Made {
    /// Makes the leaf, and whatever parents it lacks.
    pub(super) fn leaf(&mut self, group: &Group) -> Result<Leaf> {
        let dir = group.dir();
        match self.directory(&dir)? {
            Some(leaf) => Ok(leaf),
            None => {
                self.parents(group, &dir)?;
                match self.directory(&dir)? {
                    Some(Leaf::New { .. }) => Ok(Leaf::New { parents: true }),
                    Some(Leaf::Found) => Ok(Leaf::Found),
                    None => Err(refused(&dir, Errno::ENOENT)),
                }
            }
        }
    }

    /// `None`: its parent does not exist.
    fn directory(&mut self, dir: &Path) -> Result<Option<Leaf>> {
        match mkdir(dir, Mode::from_bits_truncate(0o755)) {
            Ok(()) => {
                self.0.push(dir.to_path_buf());
                Ok(Some(Leaf::New { parents: false }))
            }
            Err(Errno::EEXIST) => Ok(Some(Leaf::Found)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(refused(dir, errno)),
        }
    }

    fn parents(&mut self, group: &Group, dir: &Path) -> Result<()> {
        let mut missing: Vec<_> = dir
            .ancestors()
            .skip(1)
            .take_while(|parent| *parent != group.mount)
            .collect();
        while let Some(parent) = missing.pop() {
            if self.directory(parent)?.is_none() {
                return Err(refused(parent, Errno::ENOENT));
            }
        }
        Ok(())
    }

    /// Disarms the undo.
    pub fn keep(mut self) {
        mem::take(&mut self.0);
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for dir in self.0.drain(..).rev() {
            // A parent that another container has begun to use stays, by EBUSY.
            let _ = unlinkat(AT_FDCWD, &dir, UnlinkatFlags::RemoveDir);
        }
    }
}

fn refused(dir: &Path, errno: Errno) -> Error {
    let error = Error::call(Code::Cgroup, "mkdir", errno).doing(format!("mkdir {}", dir.display()));
    match errno {
        Errno::ENOENT => error.hint("its hierarchy is not mounted any more"),
        Errno::EAGAIN => error.hint("cgroup.max.descendants or cgroup.max.depth is reached"),
        Errno::EROFS => error.hint("the cgroup file system is mounted read-only"),
        _ => error,
    }
}
