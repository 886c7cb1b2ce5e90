//! v1's cpuset: a new one is empty, and nothing can join it before it has cpus and memory
//! nodes. What the config does not set is copied from the parent.

use std::path::Path;

use super::file;
use super::limits::Limits;
use super::made::Leaf;
use super::plan::Group;
use crate::error::{Code, Error, Result};

const CPUSET: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];

/// Fills what the settings leave empty, in the leaf and in parents that were made for it.
pub(super) fn fill(group: &Group, leaf: Leaf, limits: &Limits) -> Result<()> {
    let dir = group.dir();
    let parents_are_new = leaf == Leaf::New { parents: true };
    if parents_are_new {
        seed_parent(&group.mount, &dir)?;
    }
    let set = limits.of(group);
    for name in CPUSET
        .into_iter()
        .filter(|name| !set.iter().any(|s| s.file == *name))
    {
        if leaf == Leaf::Found && !read_cpuset(&dir, name)?.is_empty() {
            continue;
        }
        seed(&group.mount, &dir, name)?;
    }
    Ok(())
}

fn seed_parent(mount: &Path, dir: &Path) -> Result<()> {
    match dir
        .parent()
        .filter(|parent| *parent != mount && parent.starts_with(mount))
    {
        Some(parent) => {
            CPUSET
                .into_iter()
                .try_for_each(|name| match read_cpuset(parent, name)?.is_empty() {
                    true => seed(mount, parent, name),
                    false => Ok(()),
                })
        }
        None => Ok(()),
    }
}

/// Fills an empty file from the parent's, and the parent's first where that is empty too.
fn seed(mount: &Path, dir: &Path, name: &str) -> Result<()> {
    let Some(parent) = dir.parent().filter(|parent| parent.starts_with(mount)) else {
        return Ok(());
    };
    let mut value = read_cpuset(parent, name)?;
    if value.is_empty() {
        seed(mount, parent, name)?;
        value = read_cpuset(parent, name)?;
    }
    let path = dir.join(name);
    file::write(&path, &value).map_err(|errno| {
        Error::call(Code::Cgroup, "write", errno)
            .doing(format!("copy the parent's {name}, {value}"))
            .path(path)
    })
}

fn read_cpuset(dir: &Path, name: &str) -> Result<String> {
    let path = dir.join(name);
    file::read_line(&path).map_err(|errno| Error::call(Code::Cgroup, "read", errno).path(path))
}
