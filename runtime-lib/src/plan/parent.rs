//! What is the parent's to do for a child: what it opens and makes before the clone, and what only
//! it may do while the child waits.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::sched::CloneFlags;
use serde::{Deserialize, Serialize};

use super::hooks::Hook;
use super::net_devices::NetDevice;
use crate::cgroup::Unit;
use crate::step::{FsOption, MappedOwners};

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

/// Who sets the OOM score, and what a refusal means: to lower it takes CAP_SYS_RESOURCE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scorer {
    /// The parent, and a refusal is one.
    Parent,
    /// The parent. Engines of ordinary users ask for what can't be had all the same.
    LenientParent,
    /// The child has, if it could; the parent says so if not.
    Child,
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
    /// Write /proc/PID/oom_score_adj, or look at it.
    OomScoreAdj {
        score: i32,
        scorer: Scorer,
        pointer: String,
    },
    /// Run a hook to its end.
    Hook(Hook),
    /// Have systemd start the unit with the child in it, and limit it.
    StartUnit(String),
    /// Have a user's systemd put the child into the unit.
    Attach(Unit),
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
