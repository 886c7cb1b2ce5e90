//! `create`: a container that waits for `start`.

use std::path::PathBuf;

use capsid_runtime::{Result, Seal};
use clap::Args;

use super::container_id::Id;
use super::create_flags::CreateFlags;
use super::process_flags::Stay;
use crate::foreground::Signals;
use crate::global::Global;

const NOTES: &str = "\
The bundle is a directory with a config.json and the root filesystem that it names
(`capsid spec` writes a config.json to start from). Everything is set up when create returns:
namespaces, mounts, limits. Only the program itself waits for `capsid start ID`. It gets
capsid's own standard input, output and error, so redirect them. A signal that asks for its end
(SIGHUP, SIGINT, SIGQUIT, SIGTERM) ends the hook that it waits for and takes the container back.

Example:
  capsid create --bundle /tmp/b --pid-file /tmp/pid web </dev/null >/tmp/log 2>&1";

#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Create {
    #[command(flatten)]
    id: Id,

    /// The bundle's directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,

    #[command(flatten)]
    flags: CreateFlags,
}

impl Create {
    pub fn run(self, global: &Global) -> Result<u8> {
        let id = self.id.of_a_new_one("create")?;
        let doing = format!("create {id}");
        let flags = self.flags;
        let mut options = flags.options(doing, self.bundle, Stay::Detached, global)?;
        options.cancel = Some(Signals::only_ask_for_the_end()?);
        global
            .runtime()?
            .create(&id, &options, &Seal::AlreadySealed)
            .map_err(|error| global.blame(error))?;
        Ok(0)
    }
}
