//! Hooks: programs of the engine's that run at certain points of a container's life
//! (config.md, "POSIX-platform Hooks"), and the plan of the child that becomes one.
//!
//! It decides where a hook runs and as what; when, and what its failure means, is the business
//! of the verbs.

use std::fmt;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use super::draft::c_string;
use super::{Open, Plan, Program, cgroups};
use crate::cgroup::CgroupPlan;
use crate::error::Result;
use crate::step::{Barrier, Step, Turn};

/// When a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HookKind {
    Prestart,
    CreateRuntime,
    CreateContainer,
    StartContainer,
    Poststart,
    Poststop,
}

impl HookKind {
    /// In the order in which they run.
    pub const ALL: [HookKind; 6] = [
        HookKind::Prestart,
        HookKind::CreateRuntime,
        HookKind::CreateContainer,
        HookKind::StartContainer,
        HookKind::Poststart,
        HookKind::Poststop,
    ];

    /// The specification's word.
    pub fn word(self) -> &'static str {
        match self {
            HookKind::Prestart => "prestart",
            HookKind::CreateRuntime => "createRuntime",
            HookKind::CreateContainer => "createContainer",
            HookKind::StartContainer => "startContainer",
            HookKind::Poststart => "poststart",
            HookKind::Poststop => "poststop",
        }
    }

    /// What its state document calls the container (runtime.md, "State").
    pub fn status(self) -> &'static str {
        match self {
            HookKind::Prestart | HookKind::CreateRuntime | HookKind::CreateContainer => "creating",
            HookKind::StartContainer => "created",
            HookKind::Poststart => "running",
            HookKind::Poststop => "stopped",
        }
    }

    /// It runs in the container's root filesystem.
    pub fn is_in_root(self) -> bool {
        self == HookKind::StartContainer
    }

    /// It runs while the container's process waits at [`Barrier::Mounted`].
    fn at_create(self) -> bool {
        self.status() == "creating"
    }
}

/// One hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    pub kind: HookKind,
    /// Its place in the list of its kind.
    pub index: usize,
    pub path: PathBuf,
    /// Its argv as it was written; empty: the path alone.
    pub args: Vec<String>,
    /// None or empty: nothing, but the process's environment for a startContainer hook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    /// In seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
}

impl Hook {
    /// Every hook of a configuration, in the order in which they run.
    pub fn listed(config: &Spec) -> Vec<Hook> {
        let Some(hooks) = config.hooks() else {
            return Vec::new();
        };
        let mut listed = Vec::new();
        for kind in HookKind::ALL {
            let list = match kind {
                HookKind::Prestart => hooks.prestart(),
                HookKind::CreateRuntime => hooks.create_runtime(),
                HookKind::CreateContainer => hooks.create_container(),
                HookKind::StartContainer => hooks.start_container(),
                HookKind::Poststart => hooks.poststart(),
                HookKind::Poststop => hooks.poststop(),
            };
            for (index, hook) in list.iter().flatten().enumerate() {
                listed.push(Hook {
                    kind,
                    index,
                    path: hook.path().clone(),
                    args: hook.args().clone().unwrap_or_default(),
                    env: hook.env().clone(),
                    timeout: hook.timeout().and_then(|seconds| seconds.try_into().ok()),
                });
            }
        }
        listed
    }

    /// Its place in config.json.
    pub fn pointer(&self) -> String {
        format!("/hooks/{}/{}", self.kind.word(), self.index)
    }

    /// What execve(2) gets; `env` where the hook has none of its own.
    pub(super) fn program(&self, env: Vec<std::ffi::CString>) -> Result<Program> {
        let pointer = self.pointer();
        let strings = |list: &[String], name: &str| {
            let list = list.iter().enumerate();
            list.map(|(n, text)| c_string(text.as_str(), &format!("{pointer}/{name}/{n}")))
                .collect::<Result<Vec<_>>>()
        };
        let path = c_string(self.path.as_os_str().as_bytes(), &format!("{pointer}/path"))?;
        Ok(Program {
            argv: match self.args.is_empty() {
                true => vec![path.clone()],
                false => strings(&self.args, "args")?,
            },
            candidates: vec![path],
            envp: match self.env.as_deref() {
                Some([]) | None => env,
                Some(own) => strings(own, "env")?,
            },
            home: false,
        })
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "run the {} hook {}",
            self.kind.word(),
            self.path.display()
        )
    }
}

/// A hook's standard input, output and error.
#[derive(Debug)]
pub struct Streams(pub [OwnedFd; 3]);

impl Streams {
    /// The step that takes them.
    pub(super) fn take(self, plan: &mut Plan) {
        let slots = self.0.map(|fd| plan.open(Open::Descriptor(fd)));
        plan.step(Step::Streams(slots));
    }
}

/// The container's process, waiting at [`Barrier::Mounted`].
#[derive(Debug)]
pub struct Waiting<'a> {
    pub pidfd: OwnedFd,
    /// Those of its namespaces that are not the caller's.
    pub namespaces: CloneFlags,
    pub cgroup: &'a CgroupPlan,
}

/// The plan of a hook in the runtime's own namespaces, in the directory `cwd`.
///
/// # Errors
/// A NUL byte in what the hook is given.
pub fn in_runtime(hook: &Hook, cwd: &Path, streams: Streams) -> Result<Plan> {
    let mut plan = Plan::empty();
    plan.step(Step::ResetSignals);
    plan.step(Step::NewSession);
    streams.take(&mut plan);
    execute_in(cwd, hook, plan)
}

/// The plan of a hook in the container's namespaces before the pivot, when its path still
/// leads where the runtime's own does.
///
/// # Errors
/// As [`in_runtime`].
pub fn before_pivot(hook: &Hook, cwd: &Path, waiting: Waiting, streams: Streams) -> Result<Plan> {
    let mut plan = Plan::empty();
    let differs = |flag| waiting.namespaces.contains(flag);
    plan.step(Step::ResetSignals);
    cgroups::enter(waiting.cgroup, &mut plan);
    plan.step(Step::Undumpable);
    let process = plan.open(Open::Descriptor(waiting.pidfd));
    streams.take(&mut plan);
    plan.step(Step::CloseHostFds { preserve: 0 });
    if !waiting.namespaces.is_empty() {
        plan.step(Step::JoinProcess {
            process,
            namespaces: waiting.namespaces,
        });
    }
    if differs(CloneFlags::CLONE_NEWPID) {
        let namespaces = CloneFlags::empty();
        plan.step(Step::Fork { namespaces });
    }
    cgroups::join(waiting.cgroup, &mut plan);
    plan.step(Step::NewSession);
    if differs(CloneFlags::CLONE_NEWUSER) {
        plan.step(Step::BecomeRoot);
    }
    execute_in(cwd, hook, plan)
}

fn execute_in(cwd: &Path, hook: &Hook, mut plan: Plan) -> Result<Plan> {
    plan.step(Step::ChangeDirectory {
        path: c_string(cwd.as_os_str().as_bytes(), "")?,
        turn: Turn::AsUser,
    });
    if hook.kind.at_create() {
        // Its container won't come to be without the runtime, and it knows that one by a pid that will soon be
        // another's. Not the hooks of a container that goes on, nor those that clear away; and not what a hook
        // has started, which the kernel doesn't reach so.
        plan.step(Step::EndWithParent);
    }
    let path = format!("{}/path", hook.pointer());
    plan.program = Some(hook.program(Vec::new())?);
    plan.step_for(Step::FindProgram, path.as_str());
    plan.step(Step::CloseExtraFds { preserve: 0 });
    plan.step(Step::Meet(Barrier::Ready));
    plan.step_for(Step::Execute, path);
    Ok(plan)
}

impl Plan {
    /// Has the parent run the hooks of create while the child waits, and keeps the others for
    /// start and delete.
    pub(super) fn hooks(&mut self, config: &Spec) {
        let (now, later): (Vec<_>, Vec<_>) = Hook::listed(config)
            .into_iter()
            .partition(|hook| hook.kind.at_create());
        self.later = later;
        if now.is_empty() {
            return;
        }
        for hook in now {
            self.act(Barrier::Mounted, super::ParentAction::Hook(hook));
        }
        self.step_for(Step::Meet(Barrier::Mounted), "/hooks");
    }
}

/// Whether the configuration has hooks that run before the pivot.
pub(super) fn before_start(config: &Spec) -> bool {
    Hook::listed(config)
        .iter()
        .any(|hook| hook.kind.at_create())
}
