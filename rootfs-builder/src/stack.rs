//! The directories that the layers of a root filesystem are written into: one
//! for all of them, or one for each, the lowest first.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rustix::fs::CWD;
use rustix::io::Errno;

use crate::entry::Attributes;
use crate::errno::At;
use crate::inner::InnerPath;
use crate::notice::Notices;
use crate::target::Target;

/// How the layers end up on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// One directory that holds the result.
    #[default]
    Merged,
    /// One directory for each layer, as overlayfs takes them as `lowerdir`.
    Layers,
}

/// See the module.
pub(crate) struct Stack {
    layout: Layout,
    /// The root filesystem itself, or the directory of the layers' directories.
    path: PathBuf,
    targets: Vec<Target>,
}

impl Stack {
    /// For `Merged` the path is the root filesystem; for `Layers` it gets one
    /// numbered directory for each layer, from 0.
    pub(crate) fn new(layout: Layout, path: &Path) -> Result<Self> {
        if layout == Layout::Layers {
            match rustix::fs::mkdirat(CWD, path, 0o755.into()) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno).at(path),
            }
        }
        Ok(Self {
            layout,
            path: path.to_path_buf(),
            targets: Vec::new(),
        })
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// The directory that the next layer is written into.
    pub(crate) fn next(&mut self) -> Result<&mut Target> {
        let number = self.targets.len();
        let path = match self.layout {
            Layout::Merged => self.path.clone(),
            Layout::Layers => self.path.join(number.to_string()),
        };
        if self.layout == Layout::Layers || number == 0 {
            let mut target = Target::create(&path)?;
            if let Some(root) = self.root().cloned() {
                // A layer that does not name its root leaves the one below showing.
                target.directory(&InnerPath::root(), root)?;
            }
            self.targets.push(target);
        }
        self.top()
    }

    /// What the root directory carries; `None` before the first layer.
    pub(crate) fn root(&self) -> Option<&Attributes> {
        self.targets.last()?.attributes_of(&InnerPath::root())
    }

    /// The directory that was written last; the first one if there is none yet.
    pub(crate) fn top(&mut self) -> Result<&mut Target> {
        if self.targets.is_empty() {
            return self.next();
        }
        self.targets.last_mut().ok_or(Errno::NOENT).at(&self.path)
    }

    /// The highest layer below the top one whose entry of this path would show.
    pub(crate) fn below(&self, path: &InnerPath) -> Option<&Target> {
        let (top, below) = self.targets.split_last()?;
        if below.is_empty() || top.is_whiteout(path) || top.hides(path) {
            return None;
        }
        showing(below, path)
    }

    /// Every name that a layer below the top one has in a directory.
    pub(crate) fn names_below(&self, directory: &InnerPath) -> Result<BTreeSet<OsString>> {
        let mut names = BTreeSet::new();
        let (_, below) = self.targets.split_last().unzip();
        for target in below.into_iter().flatten() {
            names.extend(target.names(directory)?);
        }
        Ok(names)
    }

    /// The highest layer whose entry of this path shows.
    pub(crate) fn visible(&self, path: &InnerPath) -> Option<&Target> {
        showing(&self.targets, path)
    }

    /// Ends the writing. How many layers there are, and what was left out.
    pub(crate) fn finish(self) -> Result<(usize, Notices)> {
        let count = self.targets.len();
        let mut notices = Notices::default();
        for target in self.targets {
            notices.extend(target.finish()?);
        }
        Ok((count, notices))
    }
}

/// As overlayfs looks up: from the top, until a layer has the path or hides it.
fn showing<'a>(targets: &'a [Target], path: &InnerPath) -> Option<&'a Target> {
    for target in targets.iter().rev() {
        if target.stat(path).is_ok() {
            return (!target.is_whiteout(path)).then_some(target);
        }
        if target.hides(path) {
            return None;
        }
    }
    None
}
