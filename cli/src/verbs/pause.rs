//! `pause`: freezes all processes of a container.

use capsid_runtime::Result;
use clap::Args;

use super::container_id::Id;
use crate::global::Global;

const NOTES: &str = "\
The processes keep their memory and open files and use no processor time until
`capsid resume ID`.

Example:
  capsid pause web";

#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Pause {
    #[command(flatten)]
    id: Id,
}

impl Pause {
    pub fn run(self, global: &Global) -> Result<u8> {
        self.id.open(global, "pause")?.pause()?;
        Ok(0)
    }
}
