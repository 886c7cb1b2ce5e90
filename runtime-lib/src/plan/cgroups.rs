//! How the container's process gets into its cgroups, and what a mount of type `cgroup`
//! becomes: one cgroup2, or a tmpfs with a directory for each v1 hierarchy.
//!
//! On v1 the child joins as late as may be, because the memory it has used by then is not
//! charged to the container; cgroup mounts of a cgroup namespace have to come after that. It
//! must not make a cgroup.

use std::path::Path;

use nix::sched::CloneFlags;
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Spec};

use super::Plan;
use super::draft::{c_string, target};
use super::idmap::{given, to_host};
use super::rootfs::Scene;
use super::wanted::Wanted;
use crate::cgroup::{CgroupMounts, CgroupPlan, LegacyMount};
use crate::error::Result;
use crate::plan::{Open, ParentAction};
use crate::rdt::Group;
use crate::step::{Attributes, FsOption, Link, Mount, Populate, Source, SourceLink, Step};

/// What no cgroup mount allows, whatever was asked.
const HARDENED: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;

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

impl Wanted<'_> {
    /// A mount that shows cgroups.
    pub(super) fn shows_cgroups(&self) -> bool {
        self.options.bind.is_none() && ["cgroup", "cgroup2"].contains(&self.fstype)
    }
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

    pub(super) fn mount_cgroups(&self, wanted: &Wanted, plan: &mut Plan) -> Result<()> {
        let mut wanted = wanted.clone();
        self.protect(&mut wanted, plan);
        let wanted = &wanted;
        match self.request.cgroup.mounts(&self.host.layout) {
            CgroupMounts::None => {
                let text = "not mounted: this machine has no cgroup file system";
                plan.note(&*wanted.pointer, text);
                Ok(())
            }
            // A new mount takes 15 ms where there is no cgroup namespace, a clone none.
            CgroupMounts::Unified { mount, .. } if !self.fresh() => {
                let mount = mount.to_string_lossy();
                let source = (&*mount, wanted.pointer.clone());
                let attributes = self.cut_off(wanted.options.attributes);
                self.bind(wanted, source, false, attributes, plan)
            }
            CgroupMounts::Unified { .. } => self.mount_anew(wanted, "cgroup2", "", None, plan),
            CgroupMounts::Legacy(_) if wanted.fstype == "cgroup2" => self.fresh_mount(wanted, plan),
            CgroupMounts::Legacy(hierarchies) => self.legacy(wanted, &hierarchies, plan),
        }
    }

    /// What shows more cgroups than the container's own is read-only where their owner may be
    /// root of the container (CVE-2023-25809).
    fn protect(&self, wanted: &mut Wanted, plan: &mut Plan) {
        let rootless = self.namespaces.other_user() || self.host.rootless();
        let attributes = &mut wanted.options.attributes;
        if !rootless || self.fresh() || attributes.set & libc::MOUNT_ATTR_RDONLY != 0 {
            return;
        }
        attributes.set |= libc::MOUNT_ATTR_RDONLY;
        attributes.clear &= !libc::MOUNT_ATTR_RDONLY;
        let text = "it is made read-only: without a cgroup namespace of its own, a user namespace \
                    would reach cgroups of the host";
        plan.note(&*wanted.pointer, text);
    }

    /// Whether the child may mount cgroups anew, and sees its own as their root.
    fn fresh(&self) -> bool {
        let kind = CloneFlags::CLONE_NEWCGROUP;
        self.namespaces.private(kind) && self.namespaces.owns(kind)
    }

    fn legacy(&self, wanted: &Wanted, hierarchies: &[LegacyMount], plan: &mut Plan) -> Result<()> {
        let here = &wanted.pointer;
        let read_only = wanted.options.attributes.set & libc::MOUNT_ATTR_RDONLY;
        let mut attributes = wanted.options.attributes;
        attributes.set = attributes.set & !libc::MOUNT_ATTR_RDONLY | HARDENED;
        let tmpfs = Mount {
            source: Source::New {
                fstype: c"tmpfs".to_owned(),
                label: c"tmpfs".to_owned(),
                options: vec![FsOption {
                    key: c"mode".to_owned(),
                    value: Some(c"755".to_owned()),
                }],
            },
            target: wanted.target.clone(),
            attributes,
            inherit_mode: false,
            copy_up: false,
            kept: None,
            source_link: SourceLink::Follow,
            owners: None,
        };
        plan.step_for(Step::Mount(tmpfs), here.clone());
        // All places at once: each mount then finds its own by one walk.
        let mut places = Populate {
            directory: wanted.target.clone(),
            directories: Vec::new(),
            nodes: Vec::new(),
            links: Vec::new(),
        };
        for hierarchy in hierarchies {
            let name = c_string(hierarchy.name.as_str(), here)?;
            for link in &hierarchy.links {
                places.links.push(Link {
                    name: c_string(link.as_str(), here)?,
                    to: name.clone(),
                });
            }
            places.directories.push(name);
        }
        plan.step_for(Step::Populate(places), here.clone());
        for hierarchy in hierarchies {
            let place = format!("{}/{}", wanted.place(), hierarchy.name);
            if self.fresh() {
                self.mount_anew(wanted, "cgroup", &hierarchy.options, Some(&place), plan)?;
            } else {
                let directory = Wanted {
                    target: target(&place, here)?,
                    ..wanted.clone()
                };
                let source = hierarchy.dir.to_string_lossy();
                let source = (&*source, here.clone());
                let attributes = self.cut_off(Attributes::default());
                self.bind(&directory, source, false, attributes, plan)?;
            }
        }
        // Mounts made anew have their attributes already; clones get them all at once.
        let last = match self.fresh() {
            true => Attributes {
                set: read_only,
                ..Attributes::default()
            },
            false => Attributes {
                recursive_set: attributes.set | read_only,
                recursive_clear: attributes.clear,
                ..Attributes::default()
            },
        };
        if last != Attributes::default() {
            let step = Step::Attributes {
                target: wanted.target.clone(),
                attributes: last,
            };
            plan.step_for(step, here.clone());
        }
        Ok(())
    }

    fn mount_anew(
        &self,
        wanted: &Wanted,
        fstype: &str,
        options: &str,
        place: Option<&str>,
        plan: &mut Plan,
    ) -> Result<()> {
        let here = &wanted.pointer;
        let options = options.split(',').filter(|option| !option.is_empty());
        let options = options.map(|option| {
            let (key, value) = match option.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (option, None),
            };
            Ok(FsOption {
                key: c_string(key, here)?,
                value: value.map(|value| c_string(value, here)).transpose()?,
            })
        });
        let mount = Mount {
            source: Source::New {
                fstype: c_string(fstype, here)?,
                label: c"cgroup".to_owned(),
                options: options.collect::<Result<_>>()?,
            },
            target: match place {
                Some(place) => target(place, here)?,
                None => wanted.target.clone(),
            },
            attributes: wanted.options.attributes,
            inherit_mode: false,
            copy_up: false,
            kept: None,
            source_link: SourceLink::Follow,
            owners: None,
        };
        plan.step_for(Step::Mount(mount), here.clone());
        Ok(())
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
    let parts = |path: &str| -> Vec<String> {
        let parts = path.split('/').filter(|part| !["", "."].contains(part));
        parts.map(str::to_owned).collect()
    };
    let (one, other) = (parts(one), parts(other));
    let shared = one.len().min(other.len());
    one[..shared] == other[..shared]
}
