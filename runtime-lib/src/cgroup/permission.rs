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
    let has_legacy = !wanted.legacy.is_empty();
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
    // A path that was asked for is needed wherever controllers are, a limit where its own is.
    let lacks = |group: &&Group| {
        let is_beside = has_legacy && group.is_unified();
        place.asked() && !is_beside || limits.settings.iter().any(|s| group.has(s.controller()))
    };
    let mut lacking: Vec<&Group> = refused.iter().filter(lacks).collect();
    let needed = limits
        .settings
        .iter()
        .find(|s| plan.is_empty() || refused.iter().any(|group| group.has(s.controller())));
    let is_place_needed = place.asked() && (plan.is_empty() || !lacking.is_empty());
    let pointer = needed
        .map(Setting::pointer)
        .or(is_place_needed.then(|| POINTER.to_owned()));
    if let Some(pointer) = pointer {
        let error = Error::new(Code::Cgroup, ROOTLESS).at(pointer);
        if lacking.is_empty() {
            lacking.extend(refused.first());
        }
        return Err(match lacking.first() {
            Some(group) => {
                let asked = limits.settings.iter().filter(|setting| {
                    let in_vain = |group: &Group| group.has(setting.controller());
                    plan.is_empty() || refused.iter().any(in_vain)
                });
                let hint = remedy(&lacking, &controllers(asked, group.is_unified()));
                error.path(parent(group)).hint(hint)
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
    match group.is_unified() {
        true => "cgroup2".to_owned(),
        false => group.controllers.join(","),
    }
}

fn parent(group: &Group) -> PathBuf {
    below(&group.mount, group.path.parent().unwrap_or(&group.path))
}

/// The controllers of these settings, each once.
fn controllers<'s>(settings: impl Iterator<Item = &'s Setting>, unified: bool) -> Vec<&'s str> {
    let mut names = Vec::new();
    for setting in settings {
        let name = match unified {
            true => setting.controller_v2(),
            false => setting.controller(),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The line that gives the caller the places for its cgroups; `limiting`: the controllers whose limits
/// were asked for.
fn remedy(groups: &[&Group], limiting: &[&str]) -> String {
    let uid = nix::unistd::geteuid();
    let of = match limiting.is_empty() {
        true => String::new(),
        false => format!(" of {}", limiting.join(", ")),
    };
    let at_root = |group: &Group| group.path.parent().is_none_or(|it| it == Path::new("/"));
    // A path that is named counts from the roots of all of them.
    if groups
        .iter()
        .any(|group| !group.is_unified() && at_root(group))
    {
        return format!(
            "the caller may make no cgroup{of} here: as root, make one below {}, \
             give it to {uid}, put the caller into it, and name it in linux.cgroupsPath",
            list(groups.iter().map(|group| group.mount.clone())),
        );
    }
    let without = match groups.iter().all(|group| group.is_unified()) {
        false => "",
        true => {
            "call capsid with --systemd-cgroup, or in systemd-run --user --scope -p Delegate=yes; \
             without systemd, "
        }
    };
    let parents: Vec<PathBuf> = groups.iter().map(|group| parent(group)).collect();
    let make = match parents.iter().all(|parent| parent.exists()) {
        true => String::new(),
        false => format!("mkdir -p {} && ", list(parents.iter().cloned())),
    };
    let given = groups.iter().flat_map(|group| {
        let files: &[&str] = match group.is_unified() {
            true => &["cgroup.procs", "cgroup.subtree_control"],
            // A new one has neither, and its maker's copy is as good as root's.
            false if group.has("cpuset") => &["cpuset.cpus", "cpuset.mems"],
            false => &[],
        };
        let parent = parent(group);
        let files: Vec<PathBuf> = files.iter().map(|file| parent.join(file)).collect();
        std::iter::once(parent).chain(files)
    });
    let given = list(given);
    format!("the caller may make no cgroup{of} here: {without}as root: {make}chown {uid} {given}")
}

fn list(paths: impl Iterator<Item = PathBuf>) -> String {
    let paths: Vec<String> = paths.map(|path| path.display().to_string()).collect();
    paths.join(" ")
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

    fn group(controller: &str, path: &str) -> Group {
        Group {
            controllers: vec![controller.to_owned()],
            mount: format!("/sys/fs/cgroup/{controller}").into(),
            path: path.into(),
        }
    }

    #[test]
    fn nobody_is_told_to_give_away_the_root_of_a_hierarchy() {
        let told = remedy(
            &[&group("memory", "/in/x"), &group("cpu", "/x")],
            &["memory", "cpu"],
        );
        assert!(told.contains("no cgroup of memory, cpu here: "), "{told}");
        assert!(told.contains("make one below /sys/fs/cgroup/memory /sys/fs/cgroup/cpu,"));
        assert!(!told.contains(" chown "));
    }

    #[test]
    fn one_line_gives_every_place_and_makes_those_that_are_missing() {
        let uid = nix::unistd::geteuid();
        let told = remedy(
            &[&group("none", "/no/such/x"), &group("other", "/no/such/x")],
            &[],
        );
        let places = "/sys/fs/cgroup/none/no/such /sys/fs/cgroup/other/no/such";
        let line = format!("as root: mkdir -p {places} && chown {uid} {places}");
        assert!(told.ends_with(&line), "{told}");
    }
}
