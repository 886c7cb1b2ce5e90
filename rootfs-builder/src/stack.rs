//! The directories that the layers of a root filesystem are written into: one
//! for all of them, or one for each, the lowest first.

use std::path::{Path, PathBuf};

use anyhow::Result;
use rustix::fs::CWD;
use rustix::io::Errno;

use crate::errno::At;
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
    pub(crate) targets: Vec<Target>,
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

    /// The directory that the next layer is written into.
    pub(crate) fn next(&mut self) -> Result<&mut Target> {
        let number = self.targets.len();
        let path = match self.layout {
            Layout::Merged => self.path.clone(),
            Layout::Layers => self.path.join(number.to_string()),
        };
        if self.layout == Layout::Layers || number == 0 {
            self.targets.push(Target::create(&path)?);
        }
        self.top()
    }

    /// The directory that was written last; the first one if there is none yet.
    pub(crate) fn top(&mut self) -> Result<&mut Target> {
        if self.targets.is_empty() {
            return self.next();
        }
        self.targets.last_mut().ok_or(Errno::NOENT).at(&self.path)
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
