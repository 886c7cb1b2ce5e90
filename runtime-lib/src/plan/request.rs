//! What a plan is asked for, besides the configuration and the machine.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::sched::CloneFlags;

use super::hooks::{Hook, Streams};
use super::parent::Scorer;
use super::process::Limiter;
use super::scheduling::Conditions;
use crate::cgroup::CgroupPlan;
use crate::container::{CreateOptions, ExecOptions};
use crate::host::Modules;
use crate::lxcfs::Lxcfs;
use crate::rdt::Group;
use crate::seccomp::Filter;

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
    /// Who sets the OOM score.
    pub scorer: Scorer,
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
