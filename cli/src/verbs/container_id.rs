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

    pub fn open(&self, global: &Global) -> Result<Container> {
        global.runtime()?.open(&self.checked()?)
    }
}
