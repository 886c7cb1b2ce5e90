//! Everything that can be decided, decided: (what was asked, what this machine offers) → the
//! steps of one child, the parent's own actions, and the places where the two meet.
//!
//! Pure: no fork, no mutation, no privileges; what it needs to know of the machine is in
//! [`Host`]. `create` and `exec` differ only in the steps that they emit.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::sched::CloneFlags;

use crate::notice::Notice;
use crate::step::{Barrier, Step};

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
    /// What the child does, in this order.
    pub steps: Vec<Planned>,
    /// What the parent does while the child waits, in this order.
    pub parent: Vec<(Barrier, ParentAction)>,
    /// What the parent opens before the clone; steps name these by [`crate::step::Slot`].
    pub opens: Vec<Open>,
    /// What the child executes at last.
    pub program: Option<Program>,
    /// Settings that will not act as they were written.
    pub notices: Vec<Notice>,
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
    /// open_tree(2) with OPEN_TREE_CLONE.
    Tree {
        path: PathBuf,
        recursive: bool,
        pointer: String,
    },
    /// Open already: the pidfd of the container that exec joins.
    Descriptor(OwnedFd),
}

/// What only the parent may do to the child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParentAction {
    /// Write /proc/PID/{setgroups,uid_map,gid_map}, or have newuidmap(1) and newgidmap(1) do it.
    MapIds(IdMaps),
    /// prlimit(2): here, so that a limit can be raised past a user namespace.
    Limit {
        resource: i32,
        soft: u64,
        hard: u64,
        pointer: String,
    },
    /// Write /proc/PID/oom_score_adj.
    OomScoreAdj(i32),
}

/// The maps of a user namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMaps {
    pub uid: Vec<IdMap>,
    pub gid: Vec<IdMap>,
    /// newuidmap(1) and newgidmap(1), when the kernel wouldn't let the caller write the maps.
    pub helpers: Option<(PathBuf, PathBuf)>,
    /// Write "deny" to /proc/PID/setgroups, which an unprivileged gid_map needs.
    pub deny_setgroups: bool,
}

/// One line of a uid_map or gid_map (user_namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Ends with an empty place for HOME when `home` is set.
    pub envp: Vec<CString>,
    /// HOME has to be looked up in the container's /etc/passwd.
    pub home: bool,
}
