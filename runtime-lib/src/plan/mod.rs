//! Everything that can be decided, decided: (what was asked, what this machine offers) → the
//! steps of one child, the parent's own actions, and the places where the two meet.
//!
//! Pure: no fork, no mutation, no privileges; what it needs to know of the machine is in
//! [`Host`]. `create` and `exec` differ only in the steps that they emit.

mod cgroups;
mod credentials;
mod devices;
mod draft;
pub mod hooks;
mod host;
mod idmap;
mod labels;
mod live;
mod lxcfs;
mod mapped_owners;
mod mount_options;
mod mounts;
mod namespaces;
mod net_devices;
mod process;
mod rootfs;
mod scheduling;
mod seccomp;
mod unmounted;
pub mod validate;
mod wanted;
mod words;

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use oci_spec::runtime::{Process, Spec};
use serde::{Deserialize, Serialize};

use crate::cgroup::CgroupPlan;
use crate::container::{CreateOptions, ExecOptions};
use crate::error::Result;
use crate::lxcfs::Lxcfs;
use crate::notice::Notice;
use crate::rdt::Group;
use crate::seccomp::Filter;
use crate::step::{Barrier, FsOption, MappedOwners, Root, Step, Turn};

use credentials::{Groups, Sets};
use hooks::{Hook, Streams};
use namespaces::Namespaces;
use rootfs::Scene;
use scheduling::ExecAffinity;
use seccomp::Placement;

pub(crate) use cgroups::cgroup_owner;
pub(crate) use host::in_user_namespace;
pub use host::{Host, OwnIds, Subordinate};
pub use labels::Modules;
pub(crate) use live::may_cover_proc;
pub use live::{AddRequest, Place, add_mount, remove_mount, see_mounts};
pub(crate) use mount_options::known as known_mount_options;
pub use net_devices::NetDevice;
pub use process::Limiter;
pub(crate) use process::limit_words;
pub use scheduling::Conditions;

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

    /// Logs the steps: they are what a child does, in its order.
    pub(crate) fn trace(&self) {
        for planned in &self.steps {
            tracing::debug!(pointer = planned.pointer.as_deref(), "{}", planned.step);
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

/// The plan of a child that removes what `name` is in a directory as root of a user namespace with
/// these maps.
pub fn removal(directory: CString, name: CString, maps: IdMaps) -> Plan {
    let mut plan = Plan::empty();
    plan.namespaces = CloneFlags::CLONE_NEWUSER;
    plan.act(Barrier::Placed, ParentAction::MapIds(maps));
    plan.step(Step::ResetSignals);
    plan.step(Step::Meet(Barrier::Placed));
    plan.step(Step::BecomeRoot);
    plan.step(Step::RemoveTree { directory, name });
    plan.step(Step::Meet(Barrier::Ready));
    plan
}

/// The plan of a child that does nothing but hold a user namespace with these maps.
pub fn holder(maps: IdMaps) -> Plan {
    let mut plan = Plan::empty();
    plan.namespaces = CloneFlags::CLONE_NEWUSER;
    plan.act(Barrier::Placed, ParentAction::MapIds(maps));
    plan.step(Step::ResetSignals);
    plan.step(Step::Meet(Barrier::Placed));
    plan.step(Step::Meet(Barrier::Ready));
    plan
}

/// Where an overlay root keeps what the container writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverlayDirectories {
    pub upper: PathBuf,
    pub work: PathBuf,
    /// The host's ids that own both; None: the caller.
    pub owner: Option<(u32, u32)>,
}

/// Something that only the parent can open, or that has to be opened before the clone.
#[derive(Debug)]
pub enum Open {
    /// A namespace file; its type is checked with NS_GET_NSTYPE before anything is made.
    Namespace {
        namespace: CloneFlags,
        path: PathBuf,
        pointer: String,
    },
    /// A v1 `tasks` file, for writing.
    Tasks(PathBuf),
    /// A new file system, mounted nowhere yet; its owners are seen through the maps of a slot
    /// before this one.
    FileSystem {
        fstype: CString,
        label: CString,
        options: Vec<FsOption>,
        owners: MappedOwners,
        pointer: String,
    },
    /// open_tree(2) with OPEN_TREE_CLONE.
    Tree {
        path: PathBuf,
        recursive: bool,
        /// What a link leads to, instead of the link.
        follow: bool,
        /// The files' owners are seen through the maps of a slot before this one.
        owners: Option<MappedOwners>,
        /// What the whole clone gets at once: one MS_* propagation.
        propagation: u64,
        pointer: String,
    },
    /// A user namespace with these maps, for nothing but id-mapped mounts.
    UserNamespace { maps: IdMaps, pointer: String },
    /// Open already: the pidfd of the container that exec joins.
    Descriptor(OwnedFd),
}

/// What only the parent may do to the child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParentAction {
    /// Write /proc/PID/{setgroups,uid_map,gid_map}, or have newuidmap(1) and newgidmap(1) do it.
    MapIds(IdMaps),
    /// Read the same files of a child that has joined a user namespace: they have to say this.
    CompareMaps(IdMaps),
    /// prlimit(2): here, so that a limit can be raised past a user namespace.
    Limit {
        resource: i32,
        soft: u64,
        hard: u64,
        pointer: String,
    },
    /// Write /proc/PID/oom_score_adj.
    OomScoreAdj(i32),
    /// Run a hook to its end.
    Hook(Hook),
    /// Move network devices of the host into the child's network namespace.
    MoveDevices(Vec<NetDevice>),
}

/// The maps of a user namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMaps {
    pub uid: Vec<IdMap>,
    pub gid: Vec<IdMap>,
    /// newuidmap(1) and newgidmap(1), when the kernel wouldn't let the caller write the maps.
    pub helpers: Option<(PathBuf, PathBuf)>,
    /// Write "deny" to /proc/PID/setgroups, which an unprivileged gid_map needs.
    pub deny_setgroups: bool,
}

/// One line of a uid_map or gid_map (user_namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    pub container: u32,
    pub host: u32,
    pub size: u32,
}

/// What execve(2) gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Paths to try, in this order: one, or one for each directory of PATH.
    pub candidates: Vec<CString>,
    pub argv: Vec<CString>,
    pub envp: Vec<CString>,
    /// HOME has to be looked up in the container's /etc/passwd; its place comes after `envp`.
    pub home: bool,
}

/// What create and run know besides the configuration and the machine.
#[derive(Clone, Copy, Debug)]
pub struct CreateRequest<'a> {
    pub id: &'a str,
    /// The bundle; absolute.
    pub bundle: &'a Path,
    /// The root filesystem; absolute, without symbolic links.
    pub rootfs: &'a Path,
    /// The container's state directory; absolute.
    pub state_dir: &'a Path,
    /// The cgroups that the container gets.
    pub cgroup: &'a CgroupPlan,
    /// Overlay directories in here are absolute.
    pub options: &'a CreateOptions,
    /// What of /proc and /sys an lxcfs of the host serves.
    pub lxcfs: Option<&'a Lxcfs>,
    /// Its share of caches and memory bandwidth.
    pub rdt: Option<&'a Group>,
    /// Those of the configuration: [`Conditions::of`].
    pub conditions: &'a Conditions,
    pub start: Start,
    /// The configuration's seccomp filter, where somebody has compiled it before.
    pub filter: Option<&'a Filter>,
}

/// When the program is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// As soon as everything is ready: run.
    AtOnce,
    /// When start says so: create.
    WhenTold,
}

/// What exec knows besides the container's configuration.
#[derive(Debug)]
pub struct ExecRequest<'a> {
    pub id: &'a str,
    /// The caller's effective uid.
    pub euid: u32,
    /// A pidfd of the container's init.
    pub init: OwnedFd,
    /// The namespaces of init that are not the caller's; setns(2) refuses the others.
    pub namespaces: CloneFlags,
    /// The root of init, where it has no other mount namespace than the caller.
    pub root: Option<OwnedFd>,
    /// /proc/PID/setgroups of init says "deny".
    pub groups_denied: bool,
    /// The container's cgroups.
    pub cgroup: &'a CgroupPlan,
    pub options: &'a ExecOptions,
    /// Its share of caches and memory bandwidth.
    pub rdt: Option<&'a Group>,
    /// What every process of the container executes under.
    pub conditions: &'a Conditions,
    /// The security modules, as far as the process asks for their labels.
    pub modules: Modules,
    /// Who may limit a process in the caller's own user namespace.
    pub limiter: Limiter,
    /// The process keeps the session keyring of whoever calls exec.
    pub inherits_keyring: bool,
    /// The seccomp filter of the container.
    pub filter: Option<&'a Filter>,
    /// The process becomes this hook instead of its own program.
    pub hook: Option<(&'a Hook, Streams)>,
}

/// The plan of a container's first process.
///
/// # Errors
/// What config.json asks for can't be had: each error carries its JSON pointer.
pub fn create(config: &Spec, host: &Host, request: &CreateRequest) -> Result<Plan> {
    let mut plan = Plan::empty();
    let namespaces = &Namespaces::resolve(config, host, &mut plan)?;
    let process = config.process().as_ref();
    let score = process.and_then(Process::oom_score_adj);
    let scene = Scene {
        config,
        host,
        request,
        namespaces,
    };
    plan.cgroup = request.cgroup.clone_into();

    plan.step(Step::ResetSignals);
    if let Some(process) = process {
        labels::label_process(process, host.modules, "/process", &mut plan)?;
    }
    join_rdt(request.rdt, &mut plan);
    namespaces.enter(score, request.options.preserve_fds, &mut plan);
    plan.step(Step::NewSession);
    namespaces.map_ids(score, &mut plan);
    net_devices::move_in(config, host, namespaces, &mut plan)?;
    let root = scene.root(&mut plan)?;
    scene.reach_root(&root, &mut plan);
    namespaces.become_root(&mut plan);
    session_keyring(request.id, request.options.no_new_keyring, &mut plan)?;
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
            let filter = seccomp::filter(profile, request.filter, &mut plan)?;
            let further = &request.options.env;
            let asked = confine(process, further, "/process", groups, filter, &mut plan)?;
            confined = Some(asked);
        }
        None => plan.note("/process", "there is no process: start will refuse"),
    }
    // Whoever is exec'd into the container before it is started must not reach into its init.
    // (An ordinary user couldn't either, and has to: it has no other way to exec.)
    if host.has(caps::Capability::CAP_SYS_PTRACE) {
        plan.step(Step::Undumpable);
    }
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
        confined.filter(false, &mut plan);
    }
    plan.step(Step::Meet(Barrier::Ready));
    if request.start == Start::WhenTold {
        plan.step(Step::AwaitStart);
    }
    if let Some(confined) = &confined {
        confined.filter(true, &mut plan);
    }
    execute(&mut plan);
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
    plan.cgroup = request.cgroup.clone_into();

    plan.step(Step::ResetSignals);
    labels::label_process(process, request.modules, pointer, &mut plan)?;
    join_rdt(request.rdt, &mut plan);
    affinity.before_cgroups(&mut plan);
    let ordinary = request.euid != 0;
    process::oom_score(process.oom_score_adj(), ordinary, pointer, &mut plan);
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
    session_keyring(request.id, request.inherits_keyring, &mut plan)?;
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
    confined.filter(false, &mut plan);
    plan.step(Step::Meet(Barrier::Ready));
    confined.filter(true, &mut plan);
    execute(&mut plan);
    Ok(plan)
}

/// What is left to do of a process's confinement: its filter.
struct Confined<'a> {
    filter: Option<Placement>,
    sets: Sets,
    pointer: &'a str,
}

impl Confined<'_> {
    fn filter(&self, last: bool, plan: &mut Plan) {
        if let Some(filter) = &self.filter {
            filter.install(last, &self.sets, self.pointer, plan);
        }
    }
}

/// From the runtime's rights to the process's own, and to the program, which gets `further`
/// environment.
fn confine<'a>(
    process: &Process,
    further: &[String],
    pointer: &'a str,
    groups: Groups,
    filter: Option<Filter>,
    plan: &mut Plan,
) -> Result<Confined<'a>> {
    let filter = filter.map(|it| Placement::new(it, process)).transpose()?;
    let kept = filter.as_ref().map_or(0, Placement::kept);
    scheduling::schedule(process, pointer, plan);
    let (cwd, cwd_pointer) = process::cwd(process, pointer)?;
    let turn = |turn| Step::ChangeDirectory {
        path: cwd.clone(),
        turn,
    };
    plan.step_for(process::umask(process), format!("{pointer}/user/umask"));
    if process.no_new_privileges().unwrap_or(false) {
        plan.step_for(Step::NoNewPrivileges, format!("{pointer}/noNewPrivileges"));
    }
    plan.step_for(turn(Turn::AsRoot), cwd_pointer.clone());
    let sets = credentials::become_user(process, groups, kept, pointer, plan)?;
    plan.step_for(turn(Turn::AsUser), cwd_pointer);
    let program = process::program(process, further, pointer)?;
    if program.home {
        let uid = process.user().uid();
        plan.step_for(Step::Home { uid }, format!("{pointer}/env"));
    }
    plan.program = Some(program);
    plan.step_for(Step::FindProgram, format!("{pointer}/args/0"));
    Ok(Confined {
        filter,
        sets,
        pointer,
    })
}

/// A startContainer hook has all of the process but its program.
fn become_hook(hook: &Hook, plan: &mut Plan) -> Result<()> {
    let own = plan.program.take();
    let home =
        own.as_ref().is_some_and(|own| own.home) && hook.env.as_ref().is_none_or(Vec::is_empty);
    let env = own.map(|own| own.envp).unwrap_or_default();
    plan.program = Some(Program {
        home,
        ..hook.program(env)?
    });
    Ok(())
}

/// The child writes itself into its groups of resctrl; what it clones is born in them.
fn join_rdt(group: Option<&Group>, plan: &mut Plan) {
    if let Some(group) = group {
        let files = group.tasks().into_iter();
        let tasks = files.map(|file| plan.open(Open::Tasks(file))).collect();
        plan.step_for(Step::JoinRdt { tasks }, "/linux/intelRdt");
    }
}

fn session_keyring(id: &str, inherited: bool, plan: &mut Plan) -> Result<()> {
    if !inherited {
        let name = draft::c_string(format!("_ses.{id}"), "")?;
        plan.step(Step::SessionKeyring(name));
    }
    Ok(())
}

fn execute(plan: &mut Plan) {
    plan.step(match plan.program {
        Some(_) => Step::Execute,
        None => Step::NothingToExecute,
    });
}
