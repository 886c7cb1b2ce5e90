//! `state`: one container's state as the runtime specification words it.

use capsid_runtime::Result;
use clap::Args;

use super::container_id::Id;
use crate::global::Global;
use crate::output;

const NOTES: &str = "\
Prints one JSON object with the keys ociVersion, id, pid (0 when stopped), status (creating,
created, running, paused or stopped), bundle, rootfs, created, annotations and owner. x-capsid is
there for a container that ran out of memory, for settings that do not act as they were written, and
for controllers that create or update has enabled in the cgroup.subtree_control of a cgroup above
the container's, which stay.

Example:
  capsid state web";

#[derive(Args)]
#[command(after_help = NOTES)]
pub struct State {
    #[command(flatten)]
    id: Id,
}

impl State {
    pub fn run(self, global: &Global) -> Result<u8> {
        let state = self.id.open(global, "state")?.state()?;
        output::print(output::json(&state, b"  ")?)?;
        Ok(0)
    }
}
