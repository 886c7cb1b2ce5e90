//! The directory that the next mounts go into: a tmpfs that was mounted just now. A name in it
//! is reached from its descriptor, and not by another walk from the root.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;

use super::Child;
use super::fds::Fd;
use super::paths::{Missing, make};
use crate::step::{Mount, Source, Step, Target};
use crate::sys::mount::attach_in;

/// Whatever is in it was made by steps since, and nothing was mounted anywhere else.
pub(super) struct Fresh<'plan> {
    path: &'plan CStr,
    mounted: Fd,
    /// What is known to be a directory in it.
    directories: &'plan [CString],
}

impl<'plan> Fresh<'plan> {
    /// The name of a target right below.
    fn name_of(&self, target: &'plan Target) -> Option<&'plan CStr> {
        let below = target.path.to_bytes_with_nul();
        let name = below
            .strip_prefix(self.path.to_bytes())?
            .strip_prefix(b"/")?;
        let name = CStr::from_bytes_with_nul(name).ok()?;
        (!name.to_bytes().contains(&b'/')).then_some(name)
    }
}

impl<'plan> Child<'plan> {
    /// Forgets the directory where a step may cover it, or lead elsewhere.
    pub(super) fn mind_fresh(&mut self, step: &'plan Step) {
        let stays = match step {
            Step::Populate(_) | Step::Attributes { .. } => true,
            Step::Mount(mount) => {
                let fresh = self.fresh.as_ref();
                fresh.is_some_and(|fresh| fresh.name_of(&mount.target).is_some())
            }
            _ => false,
        };
        if !stays {
            self.fresh = None;
        }
    }

    /// A tmpfs that was mounted on a target, unless something was copied into it.
    pub(super) fn keep_fresh(&mut self, mount: &'plan Mount, mounted: Fd) {
        let tmpfs =
            matches!(&mount.source, Source::New { fstype, .. } if fstype.to_bytes() == b"tmpfs");
        if tmpfs && !mount.copy_up {
            self.fresh = Some(Fresh {
                path: &mount.target.path,
                mounted,
                directories: &[],
            });
        }
    }

    /// The directory itself, where it is this target.
    pub(super) fn fresh_at(&self, target: &Target) -> Option<BorrowedFd<'_>> {
        let fresh = self.fresh.as_ref();
        fresh
            .filter(|fresh| fresh.path == target.path.as_c_str())
            .map(|fresh| fresh.mounted.as_fd())
    }

    /// These were made in it.
    pub(super) fn note_directories(&mut self, target: &Target, directories: &'plan [CString]) {
        if let Some(fresh) = &mut self.fresh
            && fresh.path == target.path.as_c_str()
        {
            fresh.directories = directories;
        }
    }

    /// Attaches the mount of a directory at a name in this directory, or in the root. False: the
    /// target isn't right below, or its place is missing or something else, so that it has to be
    /// walked to.
    pub(super) fn attach_by_name(&self, mount: BorrowedFd<'_>, target: &'plan Target) -> bool {
        let fresh = self.fresh.as_ref();
        let found = fresh.and_then(|it| Some((it.mounted.as_fd(), it.name_of(target)?)));
        let (directory, name) = match (found, &self.root) {
            (Some((fresh, name)), _) => {
                // Nobody else could have: it is empty at first.
                if !matches!(
                    make(fresh, name, Missing::Directory),
                    Ok(()) | Err(Errno::EEXIST)
                ) {
                    return false;
                }
                (fresh, name)
            }
            (None, Some(root)) if !target.is_root() && !target.path.to_bytes().contains(&b'/') => {
                (root.as_fd(), target.path.as_c_str())
            }
            _ => return false,
        };
        // It follows no link, and takes no other than a directory.
        attach_in(mount, directory, name).is_ok()
    }

    /// The place of a target, where it is known to be a directory: the kernel then takes the mount of
    /// nothing else there.
    pub(super) fn known_directory(
        &self,
        target: &'plan Target,
    ) -> Option<(BorrowedFd<'_>, &'plan CStr)> {
        let fresh = self.fresh.as_ref()?;
        let name = fresh.name_of(target)?;
        let mut known = fresh.directories.iter().map(CString::as_c_str);
        known
            .any(|known| known == name)
            .then_some((fresh.mounted.as_fd(), name))
    }
}
