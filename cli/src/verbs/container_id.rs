//! The ID argument that most verbs share.

use capsid_runtime::{Container, ContainerId, Result};
use clap::Args;

use crate::global::Global;

#[derive(Args)]
pub struct Id {
    /// The container's id: letters, digits, and _ + - . but no leading dot; 255 bytes at most
    #[arg(value_name = "ID")]
    id: String,
}

impl Id {
    pub fn checked(&self) -> Result<ContainerId> {
        ContainerId::new(&self.id)
    }

    /// The container, for a verb that an error then names.
    pub fn open(&self, global: &Global, verb: &str) -> Result<Container> {
        open(global, &self.checked()?, verb)
    }
}

/// The container of a checked id; `verb` is what an error says is being done.
pub fn open(global: &Global, id: &ContainerId, verb: &str) -> Result<Container> {
    let opened = global.runtime()?.open(id);
    opened.map_err(|error| error.during(format!("{verb} {id}")))
}
