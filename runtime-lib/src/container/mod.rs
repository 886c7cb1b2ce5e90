//! The public API: a [`Runtime`] over one state root, and a [`Container`] with a verb a file.
//!
//! Safe to call from any thread; nothing of the calling process is changed.

mod accounts;
mod birth;
mod bundle;
mod cgroups;
mod create;
mod delete;
mod events;
mod exec;
mod explain;
mod fifos;
mod filters;
pub(crate) mod handover;
pub(crate) mod hooks;
mod id;
mod identity;
mod join;
mod kill;
mod ledger;
mod list;
mod lock;
mod mountinfo;
mod mounts;
mod notify;
mod occupants;
mod oom;
mod options;
mod others;
mod overlay_dir;
mod own_namespaces;
mod pause;
mod prepared;
mod process;
mod ps;
pub(crate) mod seccomp_listener;
mod start;
mod state;
mod state_root;
mod store;
mod told;
mod update;
mod views;

use std::fs::File;
use std::path::{Path, PathBuf};

pub use accounts::Account;
pub use create::{Created, not_preserved};
pub use events::{Event, Events};
pub use explain::Explanation;
pub use id::ContainerId;
pub use list::Listed;
pub use mounts::{Added, Detach, Mounts};
pub use oom::OomKilled;
pub use options::{CgroupDriver, Console, CreateOptions, ExecOptions, Overlay, Seal, SubCgroup};
pub use process::{Exit, Process};
pub use state::{State, Status};
pub use update::Update;

use crate::error::Result;
use crate::spec::Spec;
use state::{Journal, Record};
use store::{CONFIG, Hold, JOURNAL, STATE, StateDir};
use told::Told;

/// The containers below one state root.
#[derive(Clone, Debug)]
pub struct Runtime {
    root: PathBuf,
}

impl Runtime {
    /// A runtime over a state root, which is made (01700) by the first create.
    pub fn new(root: impl Into<PathBuf>) -> Runtime {
        Runtime { root: root.into() }
    }

    /// The default state root: /run/capsid for root; for others $XDG_RUNTIME_DIR/capsid, else
    /// /run/user/UID/capsid when that directory exists, else /tmp/capsid-UID.
    ///
    /// An empty XDG_RUNTIME_DIR counts as unset. Root of a user namespace is that user, and not root, unless USER says
    /// `root`. Makes nothing.
    ///
    /// # Errors
    /// [`crate::Code::Io`] when /tmp/capsid-UID exists and isn't a directory of the caller's own.
    pub fn default_root() -> Result<PathBuf> {
        state_root::default_root()
    }

    /// The state root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The container of this id.
    ///
    /// # Errors
    /// [`crate::Code::NotFound`], `container does not exist`;
    /// [`crate::Code::StateCorrupt`], naming the file.
    pub fn open(&self, id: &ContainerId) -> Result<Container> {
        self.load(id, Hold::Nothing)
            .map_err(|error| error.during(format!("container {id}")))
    }

    /// As [`Runtime::open`], keeping the container's lock until the value is dropped.
    fn open_locked(&self, id: &ContainerId) -> Result<Container> {
        self.load(id, Hold::Lock)
    }

    fn load(&self, id: &ContainerId, hold: Hold) -> Result<Container> {
        let state_dir = StateDir::open(&self.root, id, hold)?;
        // The journal is the last that a reader looks at, as it is the first to come and to go:
        // what is half deleted is gone, and never looks half created. Between mkdir and the
        // journal nothing has been made but the directory.
        let record = state_dir.load::<Record>(STATE);
        let journal: Journal = state_dir.load(JOURNAL)?.ok_or_else(store::missing)?;
        let record = record?;
        Ok(Container {
            runtime: self.clone(),
            id: id.clone(),
            state_dir,
            journal,
            written: None,
            record,
        })
    }
}

/// One container, as its state files were when it was opened; what the kernel knows is asked
/// each time.
#[derive(Debug)]
pub struct Container {
    runtime: Runtime,
    id: ContainerId,
    state_dir: StateDir,
    journal: Journal,
    /// The journal's file, where this process wrote it.
    written: Option<File>,
    /// None while create is at work.
    record: Option<Record>,
}

impl Container {
    /// The container's id.
    pub fn id(&self) -> &str {
        self.id.as_str()
    }

    /// The frozen copy of the configuration that the container was created from.
    fn spec(&self) -> Result<Spec> {
        let bytes = self.state_dir.read(CONFIG)?.ok_or_else(store::missing)?;
        Spec::parse(String::from_utf8_lossy(&bytes).into_owned())
            .map_err(|error| error.path(self.state_dir.path().join(CONFIG)))
    }

    /// The process of the frozen configuration: the base of an exec.
    ///
    /// # Errors
    /// [`crate::Code::InvalidConfig`] when the configuration has none.
    pub fn process(&self) -> Result<oci_spec::runtime::Process> {
        let spec = self.spec()?;
        spec.config.process().clone().ok_or_else(|| {
            crate::Error::new(
                crate::Code::InvalidConfig,
                "process property must not be empty",
            )
            .at("/process")
        })
    }

    /// What others are told of it.
    fn told(&self) -> Told<'_> {
        let annotations = self.record.as_ref().map(|record| &record.annotations);
        Told::new(self.id.as_str(), &self.journal.bundle, annotations)
    }

    /// The same container under its lock, its files read again.
    fn locked(&self) -> Result<Container> {
        self.runtime.open_locked(&self.id)
    }
}
