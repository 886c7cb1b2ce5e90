//! The cgroups below the container's own that annotations ask for: one below systemd's unit, which
//! is then the container's, and one below that, which the kernel's limits reach and capsid's hand
//! does not: whoever is inside manages it. Both are crun's, and of cgroup v2 alone, where
//! delegation is safe.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use super::limits::{Limits, Version};
use super::made::Made;
use super::plan::{CgroupPlan, Group};
use super::{delegate, members};
use crate::Notice;
use crate::container::CgroupDriver;
use crate::error::{Code, Error, Result};
use crate::spec::{join, shorten};

const SUBGROUP: &str = "run.oci.systemd.subgroup";
const DELEGATE: &str = "run.oci.delegate-cgroup";

/// The annotations that are read here.
pub const NESTED: [&str; 2] = [DELEGATE, SUBGROUP];

impl CgroupPlan {
    /// Adds what the annotations ask for.
    ///
    /// # Errors
    /// A path that leads elsewhere; cgroup v1.
    pub(super) fn nest(
        &mut self,
        driver: CgroupDriver,
        annotations: Option<&HashMap<String, String>>,
        notices: &mut Vec<Notice>,
    ) -> Result<()> {
        let version = self.version();
        if let Some(subgroup) = asked(annotations, SUBGROUP)? {
            match (&mut self.systemd, &mut self.unified) {
                (None, _) => {
                    let text = "ignored: only systemd's units have a cgroup below their own";
                    notices.push(Notice::new(join("/annotations", SUBGROUP), text));
                }
                (Some(unit), Some(group)) if version == Version::V2 => {
                    group.path.push(&subgroup);
                    unit.subgroup = subgroup;
                }
                _ => return Err(of_v1(SUBGROUP)),
            }
        }
        if let Some(delegated) = asked(annotations, DELEGATE)? {
            let pointer = join("/annotations", DELEGATE);
            match (driver, &self.unified) {
                _ if version == Version::V1 => return Err(of_v1(DELEGATE)),
                (CgroupDriver::Disabled, _) => {
                    let text = "ignored: the cgroup manager is disabled";
                    notices.push(Notice::new(pointer, text));
                }
                (_, None) => {
                    let text = "not made: the container has no cgroup of its own";
                    notices.push(Notice::new(pointer, text));
                }
                (_, Some(_)) => self.delegated = Some(delegated),
            }
        }
        Ok(())
    }

    /// The cgroup that is given away.
    pub(super) fn given_away(&self) -> Option<Group> {
        let (delegated, own) = (self.delegated.as_ref()?, self.unified.as_ref()?);
        Some(Group {
            path: own.path.join(delegated),
            ..own.clone()
        })
    }

    /// Makes the directory that is given away, and moves the process there, whose cgroup
    /// namespace, if any, has begun above it. It goes with the container's own.
    ///
    /// # Errors
    /// The kernel's; the directory stays for [`super::CgroupManager::remove`].
    pub(crate) fn enter_delegated(&self, limits: &Limits, pid: i32) -> Result<()> {
        let Some(group) = self.given_away() else {
            return Ok(());
        };
        let (dir, pointer) = (group.dir(), join("/annotations", DELEGATE));
        let mut made = Made::default();
        made.leaf(&group)
            .map_err(|error| error.at(pointer.clone()))?;
        made.keep();
        if let Some(owner) = limits.owner {
            delegate::give(&dir, owner)?;
        }
        members::add(&dir, pid).map_err(|error| error.at(pointer))
    }
}

/// A path below a cgroup. An empty annotation is as good as none.
fn asked(annotations: Option<&HashMap<String, String>>, key: &str) -> Result<Option<PathBuf>> {
    let Some(text) = annotations.and_then(|all| all.get(key)) else {
        return Ok(None);
    };
    let refuse = |why: &str| {
        let tail = format!("{key}={}: {why}", shorten(text));
        Err(Error::new(Code::InvalidConfig, tail).at(join("/annotations", key)))
    };
    if text.contains(['\0', '\n']) {
        return refuse("a NUL or a newline cannot be part of a cgroup's name");
    }
    let mut path = PathBuf::new();
    for component in Path::new(text).components() {
        match component {
            Component::Normal(name) if name.len() > 255 => return refuse("file name too long"),
            Component::Normal(name) => path.push(name),
            Component::ParentDir => return refuse("`..` is not allowed in a cgroup path"),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    if path.as_os_str().len() > 1024 {
        return refuse("file name too long");
    }
    Ok((!path.as_os_str().is_empty()).then_some(path))
}

fn of_v1(key: &str) -> Error {
    let tail = format!("annotation {key}: not on cgroup v1");
    Error::new(Code::Unsupported, tail)
        .at(join("/annotations", key))
        .hint("only cgroup v2 can safely give a cgroup away (cgroups(7), \"Cgroup delegation\")")
}
