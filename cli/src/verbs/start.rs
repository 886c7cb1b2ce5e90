//! `start`: lets a created container's program run.

use std::os::fd::AsFd;

use capsid_runtime::{Result, Seal};
use clap::Args;

use super::container_id::Id;
use crate::global::Global;
use crate::notify::Proxy;

const NOTES: &str = "\
It succeeds once the program really runs: a program that is missing or can't be executed is
reported here, and the container is then stopped. With NOTIFY_SOCKET in the environment, of create
and of start, it waits until the program says that it is ready (sd_notify(3)), and passes it on.

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
        let container = self.id.open(global, "start")?;
        if container.start_joins() {
            // Its startContainer hooks run in sight of the container.
            crate::protect_executable()?;
        }
        let proxy = Proxy::of(&container)
            .map_err(|error| error.during(format!("start {}", container.id())))?;
        let init = proxy.is_some().then(|| container.init()).transpose()?;
        container.start(&Seal::AlreadySealed)?;
        if let (Some(proxy), Some(Some((pid, pidfd)))) = (proxy, init) {
            proxy.until_ready(pid, pidfd.as_fd());
        }
        Ok(0)
    }
}
