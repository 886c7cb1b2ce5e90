//! What of a plan a rootless caller can have. The one question that planning asks the file
//! system: whether it may make a directory there.

use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::limits::{Limits, Setting};
use super::place::{POINTER, Place};
use super::plan::{CgroupPlan, Group, below};
use crate::Notice;
use crate::error::{Code, Error, Result};

pub(super) const ROOTLESS: &str =
    "rootless needs no limits + no cgrouppath when no permission is granted for cgroups";

/// What of the plan a rootless caller can have: everything that something was asked of, or an
/// error; of the rest what is permitted.
pub(super) fn permitted(
    wanted: CgroupPlan,
    limits: &Limits,
    place: &Place,
    notices: &mut Vec<Notice>,
) -> Result<CgroupPlan> {
    let (may, may_not): (Vec<_>, Vec<_>) = wanted.legacy.into_iter().partition(may_make);
    let (unified, no_unified) = match wanted.unified {
        Some(group) if may_make(&group) => (Some(group), None),
        other => (None, other),
    };
    let plan = CgroupPlan {
        legacy: may,
        unified,
        v1: wanted.v1,
        ..CgroupPlan::default()
    };
    let refused: Vec<Group> = may_not.into_iter().chain(no_unified).collect();
    if refused.is_empty() && !plan.is_empty() {
        return Ok(plan);
    }
    let needed = limits
        .settings
        .iter()
        .find(|s| plan.is_empty() || refused.iter().any(|group| group.has(s.controller())));
    let pointer = needed
        .map(Setting::pointer)
        .or(place.asked().then(|| POINTER.to_owned()));
    if let Some(pointer) = pointer {
        let error = Error::new(Code::Cgroup, ROOTLESS).at(pointer);
        return Err(match refused.first() {
            Some(group) => {
                let parent = parent(group);
                let hint = remedy(&parent, group);
                error.path(parent).hint(hint)
            }
            None => error.hint("no cgroup file system is mounted"),
        });
    }
    let names: Vec<String> = refused.iter().map(name).collect();
    let names = names.join(", ");
    let text = format!("no permission to make a cgroup: it stays in its creator's ({names})");
    notices.push(Notice::new(POINTER, text));
    Ok(plan)
}

fn name(group: &Group) -> String {
    match group.controllers.is_empty() {
        true => "cgroup2".to_owned(),
        false => group.controllers.join(","),
    }
}

fn parent(group: &Group) -> PathBuf {
    below(&group.mount, group.path.parent().unwrap_or(&group.path))
}

/// The line that gives the caller the place for its cgroup.
fn remedy(parent: &Path, group: &Group) -> String {
    let (uid, parent) = (nix::unistd::geteuid(), parent.display());
    match group.controllers.is_empty() {
        true => format!(
            "the caller may make no cgroup here: call capsid with --systemd-cgroup, or in \
             systemd-run --user --scope -p Delegate=yes; without systemd, as root: \
             chown {uid} {parent} {parent}/cgroup.procs {parent}/cgroup.subtree_control"
        ),
        false if group.path.parent().is_none_or(|it| it == Path::new("/")) => {
            let name = name(group);
            format!(
                "the caller may make no cgroup of {name} here: as root, make one below {parent}, \
                 give it to {uid}, put the caller into it, and name it in linux.cgroupsPath"
            )
        }
        false => format!("the caller may make no cgroup here: as root, chown {uid} {parent}"),
    }
}

/// Whether the caller may make the directory, by its nearest parent that exists.
fn may_make(group: &Group) -> bool {
    let dir = group.dir();
    let existing = dir
        .ancestors()
        .skip(1)
        .find(|a| access(*a, AccessFlags::F_OK).is_ok());
    existing.is_some_and(|a| {
        a.starts_with(&group.mount) && access(a, AccessFlags::W_OK | AccessFlags::X_OK).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_to_give_away_the_root_of_a_hierarchy() {
        let group = |path: &str| Group {
            controllers: vec!["cpu".to_owned()],
            mount: "/sys/fs/cgroup/cpu".into(),
            path: path.into(),
        };
        let told = |group: &Group| remedy(&parent(group), group);
        assert!(told(&group("/x")).contains("make one below /sys/fs/cgroup/cpu"));
        assert!(!told(&group("/x")).contains(" chown "));
        assert!(told(&group("/a/x")).ends_with("/sys/fs/cgroup/cpu/a"));
    }
}
