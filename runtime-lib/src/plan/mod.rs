//! Everything that can be decided, decided: (what was asked, what this machine offers) → the
//! steps of one child, the parent's own actions, and the places where the two meet.
//!
//! Pure: no fork, no mutation, no privileges; what it needs to know of the machine is in
//! [`Host`] and in the requests (the size of a terminal is asked for when a step wants it).
//! A container's first process (`create`), one that joins it (`exec`, and the hooks inside), one that
//! mounts there (`live`) and one that only has other ids (`bystanders`) differ only in the steps that
//! they emit.

mod bystanders;
mod cgroup_mounts;
mod cgroups;
mod confined;
mod credentials;
mod devices;
mod draft;
pub mod hooks;
mod idmap;
mod labels;
mod live;
mod lxcfs;
mod mapped_owners;
mod mount_options;
mod mounts;
mod namespaces;
mod net_devices;
mod overlay_options;
mod parent;
mod process;
mod request;
mod rootfs;
mod scheduling;
pub(crate) mod seccomp;
mod unmounted;
pub mod validate;
mod wanted;
mod words;

use std::path::PathBuf;

use nix::sched::CloneFlags;
use oci_spec::runtime::{Process, Spec};

use crate::error::Result;
use crate::host::Host;
use crate::notice::Notice;
use crate::seccomp::Filter;
use crate::step::{Barrier, Root, Step};

use confined::{become_hook, confine};
use credentials::Groups;
use hooks::Hook;
use namespaces::Namespaces;
use rootfs::Scene;
use scheduling::ExecAffinity;

pub use bystanders::{holder, removal};
pub(crate) use cgroups::cgroup_owner;
pub use confined::Program;
pub(crate) use idmap::are_automatic as maps_are_automatic;
pub(crate) use labels::asked_modules;
pub(crate) use live::may_cover_proc;
pub use live::{AddRequest, Entrance, add_mount, remove_mount, see_mounts};
pub(crate) use mount_options::{instead_of_data, known as known_mount_options};
pub(crate) use namespaces::flag as namespace_flag;
pub use net_devices::NetDevice;
pub use parent::{IdMap, IdMaps, Open, OverlayDirectories, ParentAction, Scorer};
pub use process::Limiter;
pub(crate) use process::limit_words;
pub use request::{CreateRequest, ExecRequest, Start};
pub use scheduling::Conditions;
pub(crate) use words::Beside;

/// A step, and the setting of config.json that asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    pub step: Step,
    /// JSON pointer; None where capsid itself wants the step.
    pub pointer: Option<String>,
}

/// One child: what it is born with, what it does, what it executes.
#[derive(Debug)]
pub struct Plan {
    /// The namespaces that the first clone makes.
    pub namespaces: CloneFlags,
    /// The cgroup2 directory that the first clone is born in.
    pub cgroup: Option<PathBuf>,
    /// What the child does, in this order.
    pub steps: Vec<Planned>,
    /// What the parent does while the child waits, in this order.
    pub parent: Vec<(Barrier, ParentAction)>,
    /// What the parent opens before the clone; steps name these by [`crate::step::Slot`].
    pub opens: Vec<Open>,
    /// The container's cgroup has CPUs of its own.
    pub own_cpus: bool,
    /// The directories of an overlay root, made before the clone when they don't exist.
    pub overlay: Option<OverlayDirectories>,
    /// What the child executes at last.
    pub program: Option<Program>,
    /// The hooks that start and delete run.
    pub later: Vec<Hook>,
    /// Settings that will not act as they were written.
    pub notices: Vec<Notice>,
}

impl Plan {
    /// The maps of the user namespace that the process gets, if it gets one.
    pub fn id_maps(&self) -> Option<&IdMaps> {
        self.parent.iter().find_map(|(_, action)| match action {
            ParentAction::MapIds(maps) => Some(maps),
            _ => None,
        })
    }

    /// The seccomp filter that the process gets.
    pub(crate) fn filter(&self) -> Option<&Filter> {
        self.steps.iter().find_map(|planned| match &planned.step {
            Step::InstallSeccomp(filter) => Some(filter),
            _ => None,
        })
    }

    /// Logs the steps: they are what a child is to do, in its order.
    pub(crate) fn trace(&self) {
        let count = self.steps.len();
        for (n, planned) in self.steps.iter().enumerate() {
            let pointer = planned.pointer.as_deref();
            tracing::debug!(pointer, "step {} of {count}: {}", n + 1, planned.step);
        }
    }

    /// Whether the process gets a new namespace of this kind.
    pub fn makes(&self, namespace: CloneFlags) -> bool {
        let later = self.steps.iter().any(|planned| match planned.step {
            Step::Fork { namespaces } => namespaces.contains(namespace),
            Step::Unshare(unshared) => unshared.contains(namespace),
            _ => false,
        });
        self.namespaces.contains(namespace) || later
    }
}

/// The plan of a container's first process.
///
/// # Errors
/// What config.json asks for can't be had: each error carries its JSON pointer.
pub fn create(config: &Spec, host: &Host, request: &CreateRequest) -> Result<Plan> {
    let mut plan = Plan::empty();
    let systemd = request.cgroup.systemd.as_ref();
    let namespaces = &Namespaces::resolve(config, host, systemd.is_some(), &mut plan)?;
    let process = config.process().as_ref();
    let score = process.and_then(Process::oom_score_adj);
    let scene = Scene {
        config,
        host,
        request,
        namespaces,
    };
    if systemd.is_none() {
        plan.cgroup = request.cgroup.clone_into();
    }

    plan.step(Step::ResetSignals);
    if let Some(process) = process {
        labels::label_process(process, host.modules, "/process", &mut plan)?;
    }
    plan.join_rdt(request.rdt);
    namespaces.enter(score, request.options.preserve_fds, &mut plan);
    plan.step(Step::NewSession);
    namespaces.map_ids(score, &mut plan);
    if let Some(unit) = systemd {
        let start = ParentAction::StartUnit(unit.name.clone());
        plan.act_placed(start, "/linux/cgroupsPath");
    }
    net_devices::move_in(config, host, namespaces, &mut plan)?;
    let root = scene.root(&mut plan)?;
    scene.reach_root(&root, &mut plan);
    namespaces.become_root(&mut plan);
    plan.session_keyring(request.id, request.options.no_new_keyring)?;
    namespaces.furnish(config, &mut plan)?;
    plan.step(Step::Umask(0));
    scene.rootfs(root, &mut plan)?;
    labels::label_mounts(config.linux().as_ref(), host.modules, &mut plan)?;
    let mut confined = None;
    match process {
        Some(process) => {
            let groups = namespaces.check(process)?;
            plan.step(Step::EveryCpu);
            request.conditions.set(&mut plan);
            let profile = config.linux().as_ref().and_then(|it| it.seccomp().as_ref());
            let filter = seccomp::asked(profile, request.filter, &mut plan)?;
            let further = &request.options.env;
            let asked = confine(process, further, "/process", groups, filter, &mut plan)?;
            confined = Some(asked);
        }
        None => plan.note("/process", "there is no process: start will refuse"),
    }
    // Whoever is exec'd into the container before it is started must not reach into its init.
    // An ordinary user couldn't either, and has to, whose ids it may have: there is no other way
    // to exec, or to run the hooks that precede the program.
    plan.step(match host.has(caps::Capability::CAP_SYS_PTRACE) {
        true => Step::Undumpable,
        false => Step::Dumpable,
    });
    plan.step(Step::CloseExtraFds {
        preserve: request.options.preserve_fds,
    });
    // A limit of open files would be in the way of the renumbering.
    if let Some(process) = process {
        let limiter = match host.has(caps::Capability::CAP_SYS_RESOURCE) {
            false if !namespaces.other_user() => Limiter::Child,
            _ => Limiter::Parent,
        };
        process::limits(process, "/process", limiter, &mut plan);
    }
    if let Some(confined) = &confined {
        confined.install_filter(false, &mut plan);
    }
    plan.step(Step::Meet(Barrier::Ready));
    if request.start == Start::WhenTold {
        plan.step(Step::AwaitStart);
    }
    if let Some(confined) = &confined {
        confined.install_filter(true, &mut plan);
    }
    plan.execute();
    Ok(plan)
}

/// The plan of one more process in a container.
///
/// # Errors
/// What the process asks for can't be had: each error carries its JSON pointer.
pub fn exec(request: ExecRequest) -> Result<Plan> {
    let mut plan = Plan::empty();
    let process = &request.options.process;
    let pointer = request.options.pointer;
    let differs = |flag| request.namespaces.contains(flag);
    let groups = Groups::of(request.groups_denied);
    let mut affinity = match request.hook {
        None => ExecAffinity::of(process, pointer)?,
        // It precedes init, which is given none.
        Some(_) => ExecAffinity::default(),
    };
    plan.step(Step::ResetSignals);
    cgroups::enter(request.cgroup, &mut plan);
    labels::label_process(process, request.modules, pointer, &mut plan)?;
    plan.join_rdt(request.rdt);
    affinity.before_cgroups(&mut plan);
    process::oom_score(process.oom_score_adj(), request.scorer, pointer, &mut plan);
    // From the join on, a container with CAP_SYS_PTRACE sees this process's descriptors.
    plan.step(Step::Undumpable);
    let init = plan.open(Open::Descriptor(request.init));
    let root = request.root.map(|root| plan.open(Open::Descriptor(root)));
    let hook = request.hook.map(|(hook, streams)| {
        streams.take(&mut plan);
        hook
    });
    plan.step(Step::CloseHostFds {
        preserve: request.options.preserve_fds,
    });
    if !request.namespaces.is_empty() {
        plan.step(Step::JoinProcess {
            process: init,
            namespaces: request.namespaces,
        });
    }
    if differs(CloneFlags::CLONE_NEWPID) {
        let namespaces = CloneFlags::empty();
        plan.step(Step::Fork { namespaces });
    }
    cgroups::join(request.cgroup, &mut plan);
    affinity.in_cgroups(&mut plan);
    plan.step(Step::NewSession);
    if differs(CloneFlags::CLONE_NEWUSER) {
        plan.step(Step::BecomeRoot);
    }
    plan.session_keyring(request.id, request.inherits_keyring)?;
    if let Some(root) = root {
        plan.step(Step::OpenRoot(Root::Opened(root)));
        plan.step(Step::EnterRoot);
    }
    if let Some(terminal) = process::terminal(process, false) {
        plan.step(Step::OpenRoot(Root::Current));
        plan.step_for(Step::Terminal(terminal), format!("{pointer}/terminal"));
    }
    request.conditions.set(&mut plan);
    let filter = request.filter.cloned().map(|filter| match hook {
        Some(_) => filter.unheard(),
        None => filter,
    });
    let confined = confine(process, &[], pointer, groups, filter, &mut plan)?;
    if let Some(hook) = hook {
        become_hook(hook, &mut plan)?;
    }
    let limiter = match differs(CloneFlags::CLONE_NEWUSER) {
        false => request.limiter,
        true => Limiter::Parent,
    };
    plan.step(Step::CloseExtraFds {
        preserve: request.options.preserve_fds,
    });
    process::limits(process, pointer, limiter, &mut plan);
    confined.install_filter(false, &mut plan);
    plan.step(Step::Meet(Barrier::Ready));
    confined.install_filter(true, &mut plan);
    plan.execute();
    Ok(plan)
}
