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
use super::process::oom_score;
use super::{IdMaps, Open, ParentAction, Plan, Scorer};
use super::{credentials, idmap};
use crate::cgroup::Layout;
use crate::error::Result;
use crate::host::Host;
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
    /// The maps to write for a new user namespace.
    maps: Option<IdMaps>,
    /// What is known of the ids in the container's user namespace.
    pub ids: Option<IdMaps>,
    /// The lines of timens_offsets, when the time namespace has any.
    offsets: Option<CString>,
    /// The cgroup namespace is made by unshare(2), after the child has joined its cgroups.
    late_cgroup: bool,
    /// An ordinary user has to enter a user namespace before anything else.
    user_first: bool,
    /// The caller is in a user namespace itself, which may not own its other namespaces.
    nested: bool,
}

/// oci-spec numbers the kinds with the CLONE_NEW* flags of clone(2).
pub(crate) fn flag(kind: LinuxNamespaceType) -> CloneFlags {
    CloneFlags::from_bits_retain(kind as i32)
}

impl Namespaces {
    /// `placed`: the child is moved into its cgroups.
    pub(super) fn resolve(
        config: &Spec,
        host: &Host,
        placed: bool,
        plan: &mut Plan,
    ) -> Result<Namespaces> {
        let linux = config.linux().as_ref();
        let listed = linux.and_then(|linux| linux.namespaces().as_deref());
        let mut new = CloneFlags::empty();
        let mut joins = Vec::new();
        for (n, namespace) in listed.unwrap_or_default().iter().enumerate() {
            let flag = flag(namespace.typ());
            match namespace.path().as_deref().and_then(Path::to_str) {
                None => new |= flag,
                Some(path) => joins.push(Join {
                    flag,
                    path: path.to_owned(),
                    pointer: format!("/linux/namespaces/{n}/path"),
                }),
            }
        }
        let joined = |flag| joins.iter().any(|join: &Join| join.flag == flag);
        let none = |new: CloneFlags, flag| !new.contains(flag) && !joined(flag);
        let user_first = !host.has(caps::Capability::CAP_SYS_ADMIN);
        if user_first && none(new, CloneFlags::CLONE_NEWUSER) {
            new |= CloneFlags::CLONE_NEWUSER;
            let text = match host.euid {
                0 => "a user namespace is added: without CAP_SYS_ADMIN nothing else can be made",
                _ => "a user namespace is added: an ordinary user can't do without",
            };
            plan.note("/linux/namespaces", text);
        }
        let maps = new
            .contains(CloneFlags::CLONE_NEWUSER)
            .then(|| idmap::maps(config, host, plan))
            .transpose()?;
        let described = Some(idmap::given(config))
            .filter(|maps| !maps.uid.is_empty() && !maps.gid.is_empty())
            .filter(|_| joined(CloneFlags::CLONE_NEWUSER));
        Ok(Namespaces {
            ids: maps.clone().or(described),
            maps,
            offsets: offsets(config)?,
            late_cgroup: new.contains(CloneFlags::CLONE_NEWCGROUP)
                && (placed || !matches!(host.layout, Layout::Unified { .. })),
            user_first,
            nested: host.own_ids.is_some(),
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
    /// this kind: not one that belongs to a user namespace outside of the child's own. Of a
    /// namespace that is joined we only know that it came with its user namespace.
    pub(super) fn owns(&self, flag: CloneFlags) -> bool {
        let user = CloneFlags::CLONE_NEWUSER;
        match (self.new.contains(flag), self.joined(flag)) {
            (true, _) => true,
            (false, true) => self.joined(user) || !self.new.contains(user),
            (false, false) => !self.other_user() && !self.nested,
        }
    }

    /// The host's ids of the container's root; None where they are the caller's.
    pub(super) fn root_on_host(&self) -> Option<(u32, u32)> {
        let maps = self.ids.as_ref()?;
        idmap::to_host(&maps.uid, 0).zip(idmap::to_host(&maps.gid, 0))
    }

    /// The cgroup namespace, where it had to wait for the child to join its cgroups.
    pub(super) fn unshare_cgroup(&self, plan: &mut Plan) {
        if self.late_cgroup {
            plan.step_for(
                Step::Unshare(CloneFlags::CLONE_NEWCGROUP),
                "/linux/namespaces",
            );
        }
    }

    /// The steps that bring the child into its namespaces.
    pub(super) fn enter(&self, score: Option<i32>, preserve: u32, plan: &mut Plan) {
        if self.maps.is_none() {
            let scorer = match self.user_first {
                true => Scorer::Child,
                false => self.scorer(),
            };
            oom_score(score, scorer, "/process", plan);
        }
        let mut made = self.new;
        if self.late_cgroup {
            made -= CloneFlags::CLONE_NEWCGROUP;
        }
        if self.offsets.is_some() {
            made -= CLONE_NEWTIME;
        }
        let enters_user = self.joined(CloneFlags::CLONE_NEWUSER);
        let enters_pid = self.joined(CloneFlags::CLONE_NEWPID);
        // What is made before a join would belong to the wrong user namespace, and a joined
        // pid namespace holds for children only.
        let fork = enters_user
            || enters_pid
            || (!self.joins.is_empty() && made.contains(CloneFlags::CLONE_NEWUSER));
        plan.namespaces = if fork { CloneFlags::empty() } else { made };
        // Before the child is undumpable, or its /proc files belong to somebody else.
        self.time(plan);
        if enters_user || enters_pid {
            plan.step(Step::Undumpable);
            plan.step(Step::CloseHostFds { preserve });
        }
        self.join(plan);
        if fork {
            plan.step(Step::Fork { namespaces: made });
        }
    }

    fn scorer(&self) -> Scorer {
        match self.user_first || self.nested {
            true => Scorer::LenientParent,
            false => Scorer::Parent,
        }
    }

    /// The parent maps the ids of a new user namespace, or makes sure of those of a joined one.
    pub(super) fn map_ids(&self, score: Option<i32>, plan: &mut Plan) {
        if let Some(maps) = &self.maps {
            plan.act(Barrier::Placed, ParentAction::MapIds(maps.clone()));
            if let Some(score) = score {
                // The child can't lower it any more, nor its parent when it has changed its ids.
                let action = ParentAction::OomScoreAdj {
                    score,
                    scorer: self.scorer(),
                    pointer: "/process/oomScoreAdj".to_owned(),
                };
                plan.act(Barrier::Placed, action);
            }
            plan.step_for(Step::Meet(Barrier::Placed), "/linux/uidMappings");
        } else if let Some(maps) = &self.ids {
            plan.act(Barrier::Placed, ParentAction::CompareMaps(maps.clone()));
            plan.step_for(Step::Meet(Barrier::Placed), "/linux/uidMappings");
        }
    }

    /// The child takes the first ids of its user namespace.
    pub(super) fn become_root(&self, plan: &mut Plan) {
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

    /// Refuses ids that the user namespace lacks; says whether it allows setgroups(2).
    pub(super) fn check(&self, process: &Process) -> Result<Groups> {
        if let Some(ids) = &self.ids {
            credentials::check_ids(process, ids, "/process")?;
        }
        Ok(match &self.maps {
            Some(maps) => Groups::of(maps.deny_setgroups),
            None if self.user_first && self.joined(CloneFlags::CLONE_NEWUSER) => Groups::Unknown,
            None => Groups::Allowed,
        })
    }

    /// The caller's own rights reach further than those in a user namespace that it joins,
    /// so that one comes last; an ordinary user has none, so it comes first.
    fn join(&self, plan: &mut Plan) {
        let turn = |join: &&Join| match join.flag {
            CloneFlags::CLONE_NEWUSER if self.user_first => 0,
            CloneFlags::CLONE_NEWUSER => 3,
            CloneFlags::CLONE_NEWNS => 2,
            _ => 1,
        };
        let mut joins: Vec<&Join> = self.joins.iter().collect();
        joins.sort_by_key(turn);
        for join in joins {
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
    }

    fn time(&self, plan: &mut Plan) {
        if let Some(offsets) = self.offsets.clone() {
            plan.step_for(Step::TimeNamespace { offsets }, "/linux/timeOffsets");
        }
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
        let seconds = offset.secs().unwrap_or_default();
        let nanoseconds = offset.nanosecs().unwrap_or_default();
        text += &format!("{clock} {seconds} {nanoseconds}\n");
    }
    match text.is_empty() {
        true => Ok(None),
        false => c_string(text, "/linux/timeOffsets").map(Some),
    }
}
