//! Cgroups that systemd makes: a transient unit for each container, in which systemd counts and
//! limits it as well, and which `systemctl` shows.
//!
//! A scope begins with a process in it. So nothing is made before the container's process is
//! there, waiting; then systemd is told of it, and of every limit that it has a word for; then the
//! limits are written to the files, where systemd has no word or another rounding.

mod address;
mod annotations;
mod bus;
mod devices;
mod draft;
mod driver;
mod manager;
mod message;
mod names;
mod plan;
mod properties;
mod text;
mod unit;
mod value;

pub use annotations::PREFIX as SYSTEMD_ANNOTATIONS;
pub(super) use driver::Systemd;
pub use manager::Facts;
pub(super) use plan::plan;
pub use unit::Unit;

use std::path::Path;

use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::error::Result;
use crate::host::Host;

/// A property of a unit.
pub(super) type Property = (String, value::Value);

/// Asks the systemd that this caller's containers belong to what a plan needs to know. An
/// ordinary user's is their own, and so is root's of a user namespace.
///
/// # Errors
/// There is none, or it doesn't answer within half a minute.
pub fn ask(host: &Host) -> Result<Facts> {
    let address = manager::Address::find(host.euid != 0 || host.own_ids.is_some())?;
    manager::Manager::connect(&address)?.facts(address)
}

/// Where programs are kept for systemd to find.
const BPF: &str = "/sys/fs/bpf";

fn has_bpf_files() -> bool {
    statfs(Path::new(BPF)).is_ok_and(|s| s.filesystem_type() == BPF_FS_MAGIC)
}
