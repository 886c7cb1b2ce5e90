//! `start`: lets a created container's program run.

use capsid_runtime::{Result, Seal};
use clap::Args;

use super::container_id::Id;
use crate::global::Global;

const NOTES: &str = "\
It succeeds once the program really runs: a program that is missing or can't be executed is
reported here, and the container is then stopped.

Example:
  capsid start web";

#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Start {
    #[command(flatten)]
    id: Id,
}

impl Start {
    pub fn run(self, global: &Global) -> Result<u8> {
        let container = self.id.open(global)?;
        if container.start_joins() {
            // Its startContainer hooks run in sight of the container.
            crate::protect_executable()?;
        }
        container.start(&Seal::AlreadySealed)?;
        Ok(0)
    }
}
