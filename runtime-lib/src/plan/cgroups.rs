//! How the container's process gets into its cgroups, and its groups of resctrl; and whose the
//! cgroup is.
//!
//! On v1 the child joins as late as may be, because the memory it has used by then is not
//! charged to the container; cgroup mounts of a cgroup namespace have to come after that. It
//! must not make a cgroup.

use std::path::Path;

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Spec};

use super::Plan;
use super::idmap::{given, to_host};
use super::rootfs::Scene;
use super::wanted::Wanted;
use crate::cgroup::CgroupPlan;
use crate::plan::{Open, ParentAction};
use crate::rdt::Group;
use crate::step::Step;

/// When the child joins its v1 cgroups, and the cgroup mounts are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JoinTurn {
    /// Before all mounts, because a later mount lies at, under or over a cgroup mount, or one
    /// is filled.
    First,
    /// After all other mounts, because a masked or read-only path does.
    BeforeMasks,
    /// At the very end.
    Last,
}

impl Scene<'_> {
    pub(super) fn join_turn(&self, mounts: &[Wanted]) -> JoinTurn {
        let linux = self.config.linux().as_ref();
        let lists = linux.map(|linux| [linux.masked_paths(), linux.readonly_paths()]);
        let hidden = lists
            .iter()
            .flatten()
            .flat_map(|list| list.iter().flatten());
        let hidden: Vec<&str> = hidden.map(String::as_str).collect();
        let mut turn = JoinTurn::Last;
        for (n, wanted) in mounts.iter().enumerate() {
            if wanted.options.copy_up {
                // What is copied is the container's memory.
                return JoinTurn::First;
            }
            if !wanted.shows_cgroups() {
                continue;
            }
            let place = wanted.place();
            let mut later = mounts.iter().skip(n + 1).filter(|m| !m.shows_cgroups());
            if later.any(|other| overlap(place, other.place())) {
                return JoinTurn::First;
            }
            if hidden.iter().any(|other| overlap(place, other)) {
                turn = JoinTurn::BeforeMasks;
            }
        }
        turn
    }

    /// The child joins, and its cgroup namespace begins there.
    pub(super) fn join_cgroups(&self, plan: &mut Plan) {
        let count = self.request.cgroup.tasks_files_of_init().len();
        if count > 0 {
            plan.step_for(Step::JoinMade { count }, "/linux/cgroupsPath");
        }
        self.namespaces.unshare_cgroup(plan);
    }
}

/// The host's uid of the process, when the container's cgroup is to be its own: it sees that
/// as a root, and may write there (config-linux.md, "Cgroup ownership").
pub(crate) fn cgroup_owner(config: &Spec, plan: &Plan) -> Option<u32> {
    let linux = config.linux().as_ref()?;
    let namespace = |wanted| {
        let mut all = linux.namespaces().iter().flatten();
        all.find(|namespace| namespace.typ() == wanted)
    };
    let joins = |namespace: &&LinuxNamespace| namespace.path().is_some();
    let own = namespace(LinuxNamespaceType::Cgroup).is_some_and(|it| !joins(&it));
    if !own || !config.mounts().iter().flatten().any(is_writable_cgroup) {
        return None;
    }
    let uid = config.process().as_ref()?.user().uid();
    match (plan.id_maps(), namespace(LinuxNamespaceType::User)) {
        (Some(maps), _) => to_host(&maps.uid, uid),
        // One that is joined has the maps of the config, or nobody says which.
        (None, Some(_)) => to_host(&given(config).uid, uid),
        (None, None) => Some(uid),
    }
}

fn is_writable_cgroup(mount: &oci_spec::runtime::Mount) -> bool {
    let typ = mount.typ().as_deref().unwrap_or_default();
    let place = Path::new("/").join(mount.destination());
    let mut words = mount.options().iter().flatten().rev();
    let last = words.find(|word| ["ro", "rw", "rro"].contains(&word.as_str()));
    ["cgroup", "cgroup2"].contains(&typ)
        && place
            .components()
            .eq(Path::new("/sys/fs/cgroup").components())
        && last.is_none_or(|word| word == "rw")
}

/// A further process is born in the container's cgroup v2, unless that is a user's systemd's: it
/// lets nobody in from outside (cgroups(7), "Delegation containment: cgroup namespaces").
pub(super) fn enter(cgroup: &CgroupPlan, plan: &mut Plan) {
    match &cgroup.systemd {
        Some(unit) if unit.manager.user => {
            let attach = ParentAction::Attach(unit.clone());
            plan.act_placed(attach, "/linux/cgroupsPath");
        }
        _ => plan.cgroup = cgroup.clone_into(),
    }
}

/// The child writes itself into v1 cgroups that exist.
pub(super) fn join(cgroup: &CgroupPlan, plan: &mut Plan) {
    let files = cgroup.tasks_files();
    if !files.is_empty() {
        let tasks = files
            .into_iter()
            .map(|file| plan.open(Open::Tasks(file)))
            .collect();
        plan.step_for(Step::JoinCgroup { tasks }, "/linux/cgroupsPath");
    }
}

impl Plan {
    /// The child writes itself into its groups of resctrl; what it clones is born in them.
    pub(super) fn join_rdt(&mut self, group: Option<&Group>) {
        if let Some(group) = group {
            let files = group.tasks().into_iter();
            let tasks = files.map(|file| self.open(Open::Tasks(file))).collect();
            self.step_for(Step::JoinRdt { tasks }, "/linux/intelRdt");
        }
    }
}

/// One path is at, under or over the other.
fn overlap(one: &str, other: &str) -> bool {
    fn parts(path: &str) -> impl Iterator<Item = &str> {
        path.split('/').filter(|part| !["", "."].contains(part))
    }
    parts(one)
        .zip(parts(other))
        .all(|(one, other)| one == other)
}
