//! `features`: what this runtime can do, as the specification's features.md lays it out.

use capsid_runtime::Result;
use clap::Args;

use crate::output;

const NOTES: &str = "\
Prints one JSON object (runtime-spec features.md): known hooks, mount options, namespaces,
capabilities, cgroup versions and more. It needs no state directory.

Example:
  capsid features";

#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Features {}

impl Features {
    pub fn run(self) -> Result<u8> {
        output::print(output::json(&capsid_runtime::spec::features(), b"    ")?)?;
        Ok(0)
    }
}
