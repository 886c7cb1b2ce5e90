//! `run`: create and start in one, and by default stay until the process ends.

use std::os::fd::AsFd;
use std::path::PathBuf;

use capsid_runtime::{Code, Container, ContainerId, Error, OomKilled, Result, Seal};
use clap::Args;

use super::container_id::Id;
use super::create_flags::CreateFlags;
use super::process_flags::Stay;
use crate::foreground::{self, Reap, Signals};
use crate::global::Global;
use crate::notify::Manager;

const NOTES: &str = "\
In the foreground capsid hands signals on to the container's process, joins its terminal to
yours when config.json asks for one, ends with the process's status (128 plus the number when
a signal ended it), and deletes the container. A signal that asks for the end before the program
runs, while a hook does, takes the container back. With --detach it returns as soon as the program
runs, and the container is yours to delete.

Examples:
  capsid run --bundle /tmp/b web
  capsid run --bundle /tmp/b --overlay web             the bundle's files stay as they are
  capsid run --detach --bundle /tmp/b web </dev/null >/tmp/log 2>&1";

#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Run {
    #[command(flatten)]
    id: Id,

    /// The bundle's directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,

    /// Return as soon as the program runs
    #[arg(short, long)]
    detach: bool,

    /// Do not delete the container when its process ends
    #[arg(long)]
    keep: bool,

    /// Do not take in the processes that lose their parent in the container (without a pid
    /// namespace of its own); they go to the system's init
    #[arg(long)]
    no_subreaper: bool,

    #[command(flatten)]
    flags: CreateFlags,
}

impl Run {
    pub fn run(self, global: &Global) -> Result<u8> {
        if self.detach {
            self.detached(global)
        } else {
            self.in_the_foreground(global)
        }
    }

    fn detached(self, global: &Global) -> Result<u8> {
        let id = self.id.of_a_new_one("run")?;
        let doing = format!("run {id}");
        let flags = self.flags;
        let mut options = flags.options(doing, self.bundle, Stay::Detached, global)?;
        let manager = manager(&id)?;
        options.cancel = Some(Signals::only_ask_for_the_end()?);
        let begun = global.runtime()?.run(&id, &options, &Seal::AlreadySealed);
        let created = begun.map_err(|error| global.blame(error))?;
        if let (Some(manager), Some(listening)) = (manager, created.notify) {
            let process = &created.process;
            let told = manager.proxy(listening);
            // The container is there, and nothing but its readiness is waited for.
            Signals::end_it_again()?;
            told.until_ready(process.pid, process.pidfd.as_fd());
        }
        Ok(0)
    }

    fn in_the_foreground(self, global: &Global) -> Result<u8> {
        let id = self.id.of_a_new_one("run")?;
        let doing = format!("run {id}");
        let flags = self.flags;
        let mut options = flags.options(doing, self.bundle, Stay::Foreground, global)?;
        let reap = match self.no_subreaper {
            true => Reap::ItsProcess,
            false => Reap::Orphans,
        };
        let runtime = global.runtime()?;
        let manager = manager(&id)?;
        // Both before there is a process: no signal and no orphan falls between.
        let signals = Signals::catch()?;
        options.cancel = Some(signals.ask_for_the_end()?);
        reap.begin()?;
        let begun = runtime.run(&id, &options, &Seal::AlreadySealed);
        let created = begun.map_err(|error| global.blame(error))?;
        let told = manager.zip(created.notify);
        let told = told.map(|(manager, listening)| manager.proxy(listening));
        let attended = foreground::wait(created.process, &signals, reap, told);
        if let Ok(KILLED) = attended {
            tell_of_memory(&created.container);
        }
        match attended {
            Ok(exit) if self.keep => Ok(exit),
            Ok(exit) => delete(created.container, exit),
            Err(error) => {
                let _ = created.container.delete(true);
                Err(error)
            }
        }
    }
}

fn manager(id: &ContainerId) -> Result<Option<Manager>> {
    Manager::of_this_process().map_err(|error| error.during(format!("run {id}")))
}

/// The status that stands for SIGKILL.
const KILLED: u8 = 128 + 9;

/// The kernel kills without a word.
fn tell_of_memory(container: &Container) {
    if let Some(killed) = container.oom_killed() {
        let limit = killed.memory_limit;
        let limit = limit.map_or_else(String::new, |limit| {
            format!(", its memory limit is {limit} bytes")
        });
        let id = container.id();
        let killed = match killed.processes {
            1 => "the kernel has OOM-killed a process of it".to_owned(),
            n => format!("the kernel has OOM-killed {n} processes of it"),
        };
        tracing::warn!("run {id}: {killed}{limit}: {}", OomKilled::PERHAPS);
    }
}

/// A container that can't be deleted is the command's failure, unless the process's own says
/// more.
fn delete(container: Container, code: u8) -> Result<u8> {
    let left =
        |error: Error| error.hint("the container's process has ended, but its traces are left");
    match container.delete(false).map_err(left) {
        Ok(()) => Ok(code),
        // Somebody else was quicker.
        Err(error) if error.code() == Code::NotFound => Ok(code),
        Err(error) if code == 0 => Err(error),
        Err(error) => {
            tracing::warn!("{error}");
            Ok(code)
        }
    }
}
