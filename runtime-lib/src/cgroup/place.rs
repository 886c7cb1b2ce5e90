//! Where linux.cgroupsPath, or its absence, puts a container in a hierarchy.
//!
//! A contract with engines, which look for a container's figures there. Paths are taken
//! literally: nothing here looks at the file system.

use std::path::{Component, Path, PathBuf};

use super::layout::Hierarchy;
use super::plan::Group;
use super::resolve::CgroupRequest;
use crate::error::{Code, Error, Result};

/// The setting.
pub(super) const POINTER: &str = "/linux/cgroupsPath";

/// The path that was asked for.
pub(super) enum Place {
    /// From the mount.
    Absolute(PathBuf),
    /// From the caller's own cgroup or its parent. The default is the id.
    Relative { path: PathBuf, asked: bool },
}

impl Place {
    pub fn read(request: &CgroupRequest<'_>) -> Result<Place> {
        let refuse = |tail: &str| Err(Error::new(Code::InvalidConfig, tail).at(POINTER));
        let Some(path) = request.path.filter(|p| !p.as_os_str().is_empty()) else {
            let path = PathBuf::from(request.id);
            return Ok(Place::Relative { path, asked: false });
        };
        let Some(text) = path.to_str() else {
            return refuse("not valid UTF-8");
        };
        if text.contains(['\0', '\n']) {
            return refuse("a NUL or a newline cannot be part of a cgroup's name");
        }
        let mut clean = PathBuf::new();
        for component in path.components() {
            match component {
                Component::Normal(name) if name.len() > 255 => return refuse("file name too long"),
                Component::Normal(name) => clean.push(name),
                Component::ParentDir => return refuse("`..` is not allowed in a cgroup path"),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        if clean.as_os_str().is_empty() {
            return refuse("the root of a hierarchy cannot be a container's cgroup");
        }
        if clean.as_os_str().len() > 3072 {
            return refuse("file name too long");
        }
        Ok(match path.is_absolute() {
            true => Place::Absolute(Path::new("/").join(clean)),
            false => Place::Relative {
                path: clean,
                asked: true,
            },
        })
    }

    pub fn asked(&self) -> bool {
        !matches!(self, Place::Relative { asked: false, .. })
    }

    /// v1's place: below the caller's own cgroup.
    fn within(&self, own: &Path) -> PathBuf {
        match self {
            Place::Absolute(path) => path.clone(),
            Place::Relative { path, .. } => own.join(path),
        }
    }

    /// cgroup2's: beside it, for a cgroup2 with processes has no limited children.
    pub fn beside(&self, own: &Path) -> PathBuf {
        self.within(own.parent().unwrap_or(own))
    }

    pub fn in_legacy(&self, hierarchy: &Hierarchy) -> Group {
        let path = self.within(&hierarchy.own_below_mount());
        group(&hierarchy.mount, hierarchy.controllers.clone(), path)
    }

    pub fn in_unified(&self, hierarchy: &Hierarchy) -> Group {
        group(
            &hierarchy.mount,
            Vec::new(),
            self.beside(&hierarchy.own_below_mount()),
        )
    }
}

pub(super) fn group(mount: &Path, controllers: Vec<String>, path: PathBuf) -> Group {
    Group {
        controllers,
        mount: mount.to_path_buf(),
        path,
    }
}
