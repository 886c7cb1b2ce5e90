//! `delete`: removes what is left of containers.

use capsid_runtime::Result;
use clap::Args;

use super::container_id::existing;
use super::matching::{each, matching};
use crate::global::Global;

const NOTES: &str = "\
A container must be stopped or only created, unless --force is given. --force also finishes
what a killed capsid left half done, and succeeds when there is no such container.

Examples:
  capsid delete web
  capsid delete --force web db cache
  capsid delete --force --regex '^test-'";

#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Delete {
    /// The containers' ids
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,

    /// Kill the container's processes first if it still runs
    #[arg(short, long)]
    force: bool,

    /// Take ID for a regular expression: all containers whose id it matches are deleted
    #[arg(short, long)]
    regex: bool,
}

impl Delete {
    pub fn run(self, global: &Global) -> Result<u8> {
        let runtime = global.runtime()?;
        each(self.ids, |id| {
            if self.regex {
                let ids = matching(&runtime, &id)?;
                each(ids, |id| runtime.delete(&id, self.force))
            } else {
                runtime.delete(&existing(&id)?, self.force)
            }
        })?;
        Ok(0)
    }
}
