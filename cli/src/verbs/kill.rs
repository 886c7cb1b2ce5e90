//! `kill`: sends a signal to a container's init process, or to all of its processes.

use capsid_runtime::{ContainerId, Error, Result};
use clap::Args;

use super::container_id::{existing, open};
use super::matching::{each, matching};
use crate::global::Global;
use crate::signal_names;

const NOTES: &str = "\
SIGNAL is a name with or without SIG in any case, a number, or RTMIN+n.

Examples:
  capsid kill web                          asks it to end
  capsid kill web KILL
  capsid kill --all web 9                  every process, also of a stopped container
  capsid kill --regex '^test-' TERM";

#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Kill {
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,

    /// The signal
    #[arg(value_name = "SIGNAL", default_value = "TERM")]
    signal: String,

    /// Signal every process of the container, and succeed when there is none left
    #[arg(short, long)]
    all: bool,

    /// Take ID for a regular expression: all containers whose id it matches are signalled
    #[arg(short, long)]
    regex: bool,
}

impl Kill {
    pub fn run(self, global: &Global) -> Result<u8> {
        let signal = signal_names::parse(&self.signal)
            .map_err(|error| self.in_order(global, error).doing("read the signal"))?;
        let ids = match self.regex {
            true => matching(&global.runtime()?, &self.id)?,
            false => vec![existing(&self.id)?],
        };
        each(ids, |id| open(global, &id, "kill")?.kill(signal, self.all))?;
        Ok(0)
    }

    /// What is wrong with a signal that is a container's id, where the id is a signal.
    fn in_order(&self, global: &Global, error: Error) -> Error {
        let is_a_container = |id: &ContainerId| open(global, id, "kill").is_ok();
        let swapped = signal_names::parse(&self.id).is_ok()
            && ContainerId::new(&self.signal).is_ok_and(|id| is_a_container(&id));
        match swapped {
            true => Error::new(error.code(), error.tail()).hint(format!(
                "the id comes first: capsid kill {} {}",
                self.signal, self.id
            )),
            false => error,
        }
    }
}
