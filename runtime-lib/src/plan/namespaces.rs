//! Which namespaces are made or joined, by which process, and in which order (namespaces(7),
//! clone(2), setns(2)). It must not open a namespace file: the parent does, before the clone.
//!
//! Four things force the order. A namespace of the host can't be joined from inside a new user
//! namespace, so those joins come before it is made. A joined pid namespace only holds for
//! children, so the process proper is cloned after the join. A user namespace owns what is
//! made after it was entered, so the others are made then. And a cgroup namespace shows the
//! cgroup in which it is made as its root, so on v1 it waits until the child has joined.

use std::ffi::CString;
use std::path::Path;

use nix::sched::CloneFlags;
use oci_spec::runtime::{LinuxNamespaceType, Process, Spec};

use super::credentials::Groups;
use super::draft::c_string;
use super::host::Host;
use super::{IdMaps, Open, ParentAction, Plan};
use super::{credentials, idmap};
use crate::cgroup::Layout;
use crate::error::{Code, Error, Result};
use crate::step::{Barrier, Step};
use crate::sys::CLONE_NEWTIME;

/// A namespace that exists already.
struct Join {
    flag: CloneFlags,
    path: String,
    pointer: String,
}

/// Every decision about namespaces.
pub(super) struct Namespaces {
    /// The ones that are the container's own.
    pub new: CloneFlags,
    /// The ones that exist already.
    joins: Vec<Join>,
    /// The maps of a new user namespace.
    pub maps: Option<IdMaps>,
    /// The lines of timens_offsets, when the time namespace has any.
    offsets: Option<CString>,
    /// The cgroup namespace is made by unshare(2), after the child has joined its cgroups.
    late_cgroup: bool,
    /// An ordinary user has to enter a user namespace before anything else.
    user_first: bool,
}

const WORDS: [(LinuxNamespaceType, CloneFlags); 8] = [
    (LinuxNamespaceType::User, CloneFlags::CLONE_NEWUSER),
    (LinuxNamespaceType::Mount, CloneFlags::CLONE_NEWNS),
    (LinuxNamespaceType::Pid, CloneFlags::CLONE_NEWPID),
    (LinuxNamespaceType::Network, CloneFlags::CLONE_NEWNET),
    (LinuxNamespaceType::Ipc, CloneFlags::CLONE_NEWIPC),
    (LinuxNamespaceType::Uts, CloneFlags::CLONE_NEWUTS),
    (LinuxNamespaceType::Cgroup, CloneFlags::CLONE_NEWCGROUP),
    (LinuxNamespaceType::Time, CLONE_NEWTIME),
];

fn flag(kind: LinuxNamespaceType) -> CloneFlags {
    let found = WORDS.iter().find(|(word, _)| *word == kind);
    found.map_or(CloneFlags::empty(), |(_, flag)| *flag)
}

impl Namespaces {
    pub(super) fn resolve(config: &Spec, host: &Host, plan: &mut Plan) -> Result<Namespaces> {
        let linux = config.linux().as_ref();
        let listed = linux.and_then(|linux| linux.namespaces().as_deref());
        let mut new = CloneFlags::empty();
        let mut joins = Vec::new();
        for (n, namespace) in listed.unwrap_or_default().iter().enumerate() {
            let flag = flag(namespace.typ());
            match namespace.path().as_deref().and_then(Path::to_str) {
                None | Some("") => new |= flag,
                Some(path) => joins.push(Join {
                    flag,
                    path: path.to_owned(),
                    pointer: format!("/linux/namespaces/{n}/path"),
                }),
            }
        }
        let joined = |flag| joins.iter().any(|join: &Join| join.flag == flag);
        let none = |new: CloneFlags, flag| !new.contains(flag) && !joined(flag);
        if host.euid != 0 && none(new, CloneFlags::CLONE_NEWUSER) {
            new |= CloneFlags::CLONE_NEWUSER;
            let text = "a user namespace is added: an ordinary user can't do without";
            plan.note("/linux/namespaces", text);
        }
        if none(new, CloneFlags::CLONE_NEWNS) {
            let tail = "a container needs a mount namespace: its mounts would stay on the host";
            return Err(Error::new(Code::Unsupported, tail).at("/linux/namespaces"));
        }
        let maps = new
            .contains(CloneFlags::CLONE_NEWUSER)
            .then(|| idmap::maps(config, host, plan))
            .transpose()?;
        Ok(Namespaces {
            maps,
            offsets: offsets(config)?,
            late_cgroup: new.contains(CloneFlags::CLONE_NEWCGROUP)
                && !matches!(host.layout, Layout::Unified { .. }),
            user_first: !host.has(caps::Capability::CAP_SYS_ADMIN),
            new,
            joins,
        })
    }

    /// Whether the container has its own namespace of this kind, made for it or joined.
    pub(super) fn private(&self, flag: CloneFlags) -> bool {
        self.new.contains(flag) || self.joined(flag)
    }

    /// Whether a namespace of this kind is joined by its path.
    pub(super) fn joined(&self, flag: CloneFlags) -> bool {
        self.joins.iter().any(|join| join.flag == flag)
    }

    /// Whether the child ends up in another user namespace than the caller's.
    pub(super) fn other_user(&self) -> bool {
        self.private(CloneFlags::CLONE_NEWUSER)
    }

    /// Whether the kernel lets the child mount a file system that belongs to namespaces of
    /// this kind: not one of the host's from inside another user namespace.
    pub(super) fn owns(&self, flag: CloneFlags) -> bool {
        !self.other_user()
            || self.new.contains(flag)
            || (self.joined(flag) && self.joined(CloneFlags::CLONE_NEWUSER))
    }

    /// The host's ids of the container's root; None where they are the caller's.
    pub(super) fn root_on_host(&self) -> Option<(u32, u32)> {
        let maps = self.maps.as_ref()?;
        idmap::to_host(&maps.uid, 0).zip(idmap::to_host(&maps.gid, 0))
    }

    /// The setting that the cgroup namespace is unshared for, once the child has joined.
    pub(super) fn unshare_cgroup(&self, plan: &mut Plan) {
        if self.late_cgroup {
            plan.step_for(
                Step::Unshare(CloneFlags::CLONE_NEWCGROUP),
                "/linux/namespaces",
            );
        }
    }

    /// The steps that bring the child into its namespaces.
    pub(super) fn enter(&self, plan: &mut Plan) -> Result<()> {
        let mut made = self.new;
        if self.late_cgroup {
            made -= CloneFlags::CLONE_NEWCGROUP;
        }
        if self.offsets.is_some() {
            made -= CLONE_NEWTIME;
        }
        // What is made before a join would belong to the wrong user namespace, and a joined
        // pid namespace holds for children only.
        let fork = !self.joins.is_empty()
            && (self.joined(CloneFlags::CLONE_NEWPID)
                || self.joined(CloneFlags::CLONE_NEWUSER)
                || made.contains(CloneFlags::CLONE_NEWUSER));
        plan.namespaces = if fork { CloneFlags::empty() } else { made };
        if self.private(CloneFlags::CLONE_NEWPID) && fork || self.joined(CloneFlags::CLONE_NEWUSER)
        {
            // Offsets have to be written while /proc/self still belongs to the process.
            self.time(plan);
            plan.step(Step::Undumpable);
            self.join(plan)?;
        } else {
            self.join(plan)?;
            self.time(plan);
        }
        if fork {
            plan.step(Step::Fork { namespaces: made });
        }
        Ok(())
    }

    /// The parent maps the ids of a new user namespace, and the child takes its first ones.
    pub(super) fn become_root(&self, process: Option<&Process>, plan: &mut Plan) {
        if let Some(maps) = &self.maps {
            plan.act(Barrier::Placed, ParentAction::MapIds(maps.clone()));
            if let Some(process) = process {
                // Here, because an ordinary caller may not once the child has changed its ids.
                score(Barrier::Placed, process, plan);
            }
            plan.step_for(Step::Meet(Barrier::Placed), "/linux/uidMappings");
        }
        if self.other_user() {
            plan.step(Step::BecomeRoot);
        }
    }

    /// What a new network or uts namespace is given.
    pub(super) fn furnish(&self, config: &Spec, plan: &mut Plan) -> Result<()> {
        if self.new.contains(CloneFlags::CLONE_NEWNET) {
            plan.step(Step::Loopback);
        }
        if let Some(name) = config.hostname().as_deref().filter(|name| !name.is_empty()) {
            plan.step_for(Step::Hostname(c_string(name, "/hostname")?), "/hostname");
        }
        if let Some(name) = config
            .domainname()
            .as_deref()
            .filter(|name| !name.is_empty())
        {
            let step = Step::Domainname(c_string(name, "/domainname")?);
            plan.step_for(step, "/domainname");
        }
        Ok(())
    }

    /// Refuses ids that a new user namespace lacks; says whether it allows setgroups(2).
    pub(super) fn check(&self, process: &Process) -> Result<Groups> {
        let Some(maps) = &self.maps else {
            return Ok(Groups::Allowed);
        };
        credentials::check_ids(process, maps, "/process")?;
        Ok(match maps.deny_setgroups {
            true => Groups::Denied,
            false => Groups::Allowed,
        })
    }

    /// The OOM score, where the pause for the maps has not set it.
    pub(super) fn score(&self, process: &Process, plan: &mut Plan) {
        if self.maps.is_none() {
            score(Barrier::Ready, process, plan);
        }
    }

    fn join(&self, plan: &mut Plan) -> Result<()> {
        let user = |join: &&Join| join.flag == CloneFlags::CLONE_NEWUSER;
        let mount = |join: &&Join| join.flag == CloneFlags::CLONE_NEWNS;
        let others = |join: &&Join| !user(join) && !mount(join);
        // The caller's own rights reach further than those in a user namespace that it joins,
        // unless it has none.
        let joins = self.joins.iter();
        let ordered: Vec<&Join> = if self.user_first {
            let first = joins.clone().filter(user);
            first
                .chain(joins.clone().filter(others))
                .chain(joins.filter(mount))
                .collect()
        } else {
            let first = joins.clone().filter(others);
            first
                .chain(joins.clone().filter(mount))
                .chain(joins.filter(user))
                .collect()
        };
        for join in ordered {
            c_string(join.path.as_str(), &join.pointer)?;
            let file = plan.open(Open::Namespace {
                namespace: join.flag,
                path: join.path.clone().into(),
                pointer: join.pointer.clone(),
            });
            let step = Step::JoinNamespace {
                namespace: join.flag,
                file,
            };
            plan.step_for(step, join.pointer.clone());
        }
        Ok(())
    }

    fn time(&self, plan: &mut Plan) {
        if let Some(offsets) = self.offsets.clone() {
            plan.step_for(Step::TimeNamespace { offsets }, "/linux/timeOffsets");
        }
    }
}

fn score(barrier: Barrier, process: &Process, plan: &mut Plan) {
    if let Some(score) = process.oom_score_adj() {
        plan.act(barrier, ParentAction::OomScoreAdj(score));
    }
}

/// The lines of /proc/PID/timens_offsets (time_namespaces(7)), by clock.
fn offsets(config: &Spec) -> Result<Option<CString>> {
    let linux = config.linux().as_ref();
    let Some(offsets) = linux.and_then(|linux| linux.time_offsets().as_ref()) else {
        return Ok(None);
    };
    let mut clocks: Vec<_> = offsets.iter().collect();
    clocks.sort_unstable_by_key(|(clock, _)| clock.as_str());
    let mut text = String::new();
    for (clock, offset) in clocks {
        if !["monotonic", "boottime"].contains(&clock.as_str()) {
            let tail = format!("unknown clock {clock:?}: monotonic and boottime have offsets");
            return Err(Error::new(Code::InvalidConfig, tail).at("/linux/timeOffsets"));
        }
        let (secs, nanosecs) = (
            offset.secs().unwrap_or_default(),
            offset.nanosecs().unwrap_or_default(),
        );
        text += &format!("{clock} {secs} {nanosecs}\n");
    }
    match text.is_empty() {
        true => Ok(None),
        false => c_string(text, "/linux/timeOffsets").map(Some),
    }
}
