//! capsid's runtime, a library that anything may embed.
//!
//! `Spec` (what was asked) + `Host` (what this kernel offers) → `Plan` (resolved steps for one
//! child, the parent's own actions, and the named places where the two meet) → launch → the
//! child walks the list, decides nothing, allocates nothing, and reports by short records.
//!
//! ```text
//!  config.json          this machine
//!      │                     │
//!   spec::Spec          host::Host
//!      └──────► plan ◄───────┘        pure: no fork, no mutation, no privileges
//!                │
//!           plan::Plan ──────► explain prints this very list
//!                │
//!   launch (parent)  ◄────── one socket, records ────────►  child
//!     opens fds, clones,         three barriers:            walks Vec<Step>,
//!     maps ids, sets limits      Placed, Mounted, Ready     then execve(2)
//!                │
//!    container: state directory, journal, lock; a file for each verb
//! ```
//!
//! | module | the question it answers |
//! |---|---|
//! | [`spec`] | what was asked? (text → JSON → types; every error has a JSON pointer) |
//! | [`host`] | what does this machine offer the caller? |
//! | [`plan`] | what has to happen, in which order? |
//! | [`step`] | what may a child do at all? |
//! | `child` | how is each step done? |
//! | `launch` | who starts the child and serves it? |
//! | `report` | what may the child say? |
//! | [`container`] | what can a caller do with a container? |
//! | [`cgroup`] | where are its processes counted and limited? |
//! | [`lxcfs`] | which files of /proc does an lxcfs of the host serve? |
//! | [`rdt`] | which share of caches and memory bandwidth do they get? |
//! | `seccomp` | which system calls may its processes make? |
//! | `overlay` | which directories does an overlay root need? |
//! | [`seal`] | how is the runtime's own executable protected? |
//! | [`Notice`] | which settings will not act as they were written? |
//! | `sys` | which calls does nix lack? (the only `unsafe`) |
//! | [`error`] | what went wrong, where, and what to do about it? |
//!
//! Rules: whatever can be decided is decided in the plan; paths of the container are walked
//! once, by descriptors; nothing of the calling process is changed (no chdir, umask,
//! environment, signal or prctl); whatever is made is taken back by the guard that was armed
//! where it was made.

pub mod cgroup;
mod child;
pub mod container;
pub mod error;
pub mod host;
mod launch;
pub mod lxcfs;
mod notice;
mod overlay;
pub mod plan;
pub mod rdt;
mod report;
pub mod seal;
pub mod seccomp;
pub mod spec;
pub mod step;
mod sys;
mod tree;

pub use container::{
    Account, Added, CgroupDriver, Console, Container, ContainerId, CreateOptions, Created, Detach,
    Event, Events, ExecOptions, Exit, Explanation, Listed, Mounts, OomKilled, Overlay, Process,
    Runtime, Seal, State, Status, SubCgroup, Update, not_preserved,
};
pub use error::{Code, Error, Result};
pub use notice::Notice;

/// The version of the runtime-spec that this library implements.
pub const OCI_VERSION: &str = spec::version::MAX;

pub use spec::version::commit;
