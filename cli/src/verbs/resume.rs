//! `resume`: lets the processes of a paused container go on.

use capsid_runtime::Result;
use clap::Args;

use super::container_id::Id;
use crate::global::Global;

const NOTES: &str = "\
Example:
  capsid resume web";

#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Resume {
    #[command(flatten)]
    id: Id,
}

impl Resume {
    pub fn run(self, global: &Global) -> Result<u8> {
        self.id.open(global, "resume")?.resume()?;
        Ok(0)
    }
}
