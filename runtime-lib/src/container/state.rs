//! What `state` and `list` say of a container, and what is recorded so that they can.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};

use super::Container;
use super::identity::Identity;
use super::oom::OomKilled;
use super::store::{GO, Versioned};
use crate::Notice;
use crate::cgroup::{CgroupPlan, Enabled};
use crate::error::{Code, Error, Result};
use crate::plan::hooks::Hook;
use crate::plan::{Conditions, IdMaps};
use crate::rdt;

/// Where a container is in its life (runtime-spec, runtime.md "State").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// A create is at work, or was killed at it.
    Creating,
    /// The process waits for start.
    Created,
    /// The process runs.
    Running,
    /// All processes are frozen.
    Paused,
    /// The process has ended.
    Stopped,
}

impl Status {
    pub(super) fn word(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }

    pub(super) fn has_process(self) -> bool {
        matches!(self, Status::Created | Status::Running | Status::Paused)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The state of a container, with runc's keys in runc's order.
#[derive(Clone, Debug, Serialize)]
pub struct State {
    /// The version of the runtime-spec that this document follows.
    #[serde(rename = "ociVersion")]
    pub oci_version: String,
    pub id: String,
    /// The init process as the host numbers it; 0 when there is none.
    pub pid: i32,
    pub status: Status,
    /// The bundle directory, absolute.
    pub bundle: PathBuf,
    /// The root filesystem on the host, absolute.
    pub rootfs: PathBuf,
    /// When it was created, RFC 3339 in UTC.
    pub created: String,
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    pub annotations: HashMap<String, String>,
    /// The user who created it: empty in `state`, as runc prints it; a name in `list`.
    pub owner: String,
    /// What runc's document has no word for.
    #[serde(rename = "x-capsid", skip_serializing_if = "Option::is_none")]
    pub more: Option<More>,
}

/// What capsid adds to the state.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct More {
    /// Of a stopped container: that memory was what it has died of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_killed: Option<OomKilled>,
    /// Settings of its configuration that do not act as they were written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<Notice>,
    /// The controllers that create and update have enabled in the cgroup.subtree_control of these
    /// directories.
    /// They stay when the container is deleted.
    #[serde(skip_serializing_if = "Enabled::is_empty")]
    pub subtree_control: Enabled,
}

/// Written before the first side effect of create: what there may be to take back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Journal {
    pub schema: u32,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    /// RFC 3339 in UTC.
    pub created: String,
    /// The uid of the caller.
    pub owner: u32,
    /// The directories that are, or were about to be, the container's.
    pub cgroup: CgroupPlan,
    /// The group of resctrl that is, or was about to be, the container's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdt: Option<rdt::Group>,
    /// The ids that own what an overlay root keeps in the state directory, when they are
    /// not the caller's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay_ids: Option<IdMaps>,
    /// The caller's directory of an overlay root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay_dir: Option<PathBuf>,
    /// The hooks that start and delete run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<Hook>,
}

/// Written when the container's process exists and has done everything but its program; update adds
/// to its `subtree_control`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    pub schema: u32,
    pub init: Identity,
    /// Without a pid namespace of its own, the end of init is not the end of the others.
    pub shares_pids: bool,
    /// Its processes have the session keyring of whoever starts them.
    pub inherits_keyring: bool,
    /// What processes of exec execute under as well.
    #[serde(default, skip_serializing_if = "Conditions::is_empty")]
    pub conditions: Conditions,
    /// Its processes have a seccomp filter.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub seccomp: bool,
    #[serde(default, skip_serializing_if = "HashMap::is_empty")]
    pub annotations: HashMap<String, String>,
    /// What the log was told of settings that do not act as they were written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<Notice>,
    /// What create and update have enabled above the container's cgroup.
    #[serde(default, skip_serializing_if = "Enabled::is_empty")]
    pub subtree_control: Enabled,
}

impl Versioned for Journal {
    fn schema(&self) -> u32 {
        self.schema
    }
}

impl Versioned for Record {
    fn schema(&self) -> u32 {
        self.schema
    }
}

impl Container {
    /// The state now, read from the kernel: only what can't be seen there is remembered.
    ///
    /// # Errors
    /// A cgroup or process that can't be asked.
    pub fn state(&self) -> Result<State> {
        let status = self.status()?;
        let pid = match (status, &self.record) {
            (Status::Creating | Status::Stopped, _) | (_, None) => 0,
            (_, Some(record)) => record.init.pid,
        };
        Ok(State {
            oci_version: crate::OCI_VERSION.to_owned(),
            id: self.id.to_string(),
            pid,
            status,
            bundle: self.journal.bundle.clone(),
            rootfs: self.journal.rootfs.clone(),
            created: self.journal.created.clone(),
            annotations: self
                .record
                .as_ref()
                .map_or_else(HashMap::new, |r| r.annotations.clone()),
            owner: String::new(),
            more: self.more(status),
        })
    }

    fn more(&self, status: Status) -> Option<More> {
        let stopped = status == Status::Stopped;
        let more = More {
            oom_killed: stopped.then(|| self.oom_killed()).flatten(),
            notices: self
                .record
                .as_ref()
                .map_or_else(Vec::new, |r| r.notices.clone()),
            subtree_control: self
                .record
                .as_ref()
                .map_or_else(Enabled::new, |r| r.subtree_control.clone()),
        };
        let is_empty =
            more.oom_killed.is_none() && more.notices.is_empty() && more.subtree_control.is_empty();
        (!is_empty).then_some(more)
    }

    /// The status alone.
    ///
    /// # Errors
    /// A cgroup or process that can't be asked.
    pub fn status(&self) -> Result<Status> {
        let Some(record) = &self.record else {
            return Ok(Status::Creating);
        };
        match record.init.open()? {
            None => Ok(Status::Stopped),
            Some(_) if self.journal.cgroup.manager().frozen()? => Ok(Status::Paused),
            Some(_) if self.waits_for_start()? => Ok(Status::Created),
            Some(_) => Ok(Status::Running),
        }
    }

    /// Whether somebody reads the `go` fifo: only init does, until it is released.
    fn waits_for_start(&self) -> Result<bool> {
        match self
            .state_dir
            .open_fifo(GO, OFlag::O_WRONLY | OFlag::O_NONBLOCK)
        {
            Ok(_) => Ok(true),
            Err(Errno::ENXIO | Errno::ENOENT) => Ok(false),
            Err(errno) => {
                Err(Error::call(Code::Io, "open", errno).path(self.state_dir.path().join(GO)))
            }
        }
    }
}
