//! The hooks of a container: what they are told, where they run, and which ones a verb has to
//! run. What their failure means for the container is the verb's own business.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use oci_spec::runtime::Process;

use super::join::{Joined, differing_namespaces};
use super::options::{Console, ExecOptions};
use super::told::{Told, in_json};
use crate::cgroup::CgroupPlan;
use crate::error::{Code, Error, Result};
use crate::launch::Launched;
use crate::launch::hook::{Copies, run};
use crate::plan::hooks::{Hook, HookKind, Waiting, before_pivot, in_runtime};

/// Files on the host that get the output of all hooks, by annotation: what crun calls them.
pub(crate) const COPIES: [&str; 2] = ["run.oci.hooks.stdout", "run.oci.hooks.stderr"];

impl Told<'_> {
    /// Runs the hooks of one kind in the runtime's namespaces, in the bundle's directory.
    ///
    /// # Errors
    /// [`Code::Hook`]: the first that failed; those after it are not run.
    pub fn run_here(&self, hooks: &[Hook], kind: HookKind, pid: Option<i32>) -> Result<()> {
        of(hooks, kind).try_for_each(|hook| self.here(hook, pid))
    }

    /// Runs the poststop hooks: each, whatever became of the ones before it.
    pub fn run_poststop(&self, hooks: &[Hook]) {
        for hook in of(hooks, HookKind::Poststop) {
            if let Err(error) = self.here(hook, None) {
                tracing::warn!(pointer = error.pointer(), "{error}");
            }
        }
    }

    fn here(&self, hook: &Hook, pid: Option<i32>) -> Result<()> {
        tracing::debug!("{hook}");
        let copies = Files::open(self.annotations)?;
        let state = self.state_of(hook, pid);
        run(hook, &state, copies.lend(), self.cancel, |streams| {
            in_runtime(hook, self.bundle, streams)
        })
    }

    /// Runs a hook of create, whose process waits with everything mounted.
    ///
    /// # Errors
    /// [`Code::Hook`]
    pub fn run_creating(
        &self,
        hook: &Hook,
        newborn: &Launched,
        rootfs: &Path,
        cgroup: &CgroupPlan,
    ) -> Result<()> {
        if hook.kind != HookKind::CreateContainer {
            return self.here(hook, Some(newborn.pid));
        }
        tracing::debug!("{hook}");
        let copies = Files::open(self.annotations)?;
        let state = self.state_of(hook, Some(inner_pid(newborn.pid)?));
        run(hook, &state, copies.lend(), self.cancel, |streams| {
            let waiting = Waiting {
                pidfd: copy(&newborn.pidfd)?,
                namespaces: differing_namespaces(newborn.pid)?,
                cgroup,
            };
            before_pivot(hook, rootfs, waiting, streams)
        })
    }

    /// Runs the startContainer hooks, each as confined as the process that it precedes.
    ///
    /// # Errors
    /// [`Code::Hook`]: the first that failed.
    pub fn run_inside(&self, hooks: &[Hook], joined: &Joined, process: &Process) -> Result<()> {
        let options = ExecOptions {
            process: without_terminal(process),
            pointer: "/process",
            console: Console::Nobody,
            ..ExecOptions::default()
        };
        let pid = inner_pid(joined.pid)?;
        of(hooks, HookKind::StartContainer).try_for_each(|hook| {
            tracing::debug!("{hook}");
            let copies = Files::open(self.annotations)?;
            let state = self.state_of(hook, Some(pid));
            run(hook, &state, copies.lend(), self.cancel, |streams| {
                Joined {
                    pidfd: copy(&joined.pidfd)?,
                    ..*joined
                }
                .plan(&options, Some((hook, streams)))
            })
        })
    }

    fn state_of(&self, hook: &Hook, pid: Option<i32>) -> Vec<u8> {
        in_json(&self.state(hook.kind.status(), pid))
    }
}

/// The hooks of one kind, in their order.
pub(super) fn of(hooks: &[Hook], kind: HookKind) -> impl Iterator<Item = &Hook> {
    hooks.iter().filter(move |hook| hook.kind == kind)
}

fn without_terminal(process: &Process) -> Process {
    let mut process = process.clone();
    process.set_terminal(Some(false)).set_console_size(None);
    process
}

pub(super) fn copy(pidfd: &OwnedFd) -> Result<OwnedFd> {
    pidfd
        .try_clone()
        .map_err(|error| Error::io(Code::Process, "fcntl", &error))
}

/// A process's pid as its own pid namespace numbers it (proc_pid_status(5), NSpid).
fn inner_pid(pid: i32) -> Result<i32> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path)
        .map_err(|error| Error::io(Code::Process, "read", &error).path(&path))?;
    let line = text.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let last = line.and_then(|line| line.split_whitespace().last());
    Ok(last.and_then(|last| last.parse().ok()).unwrap_or(pid))
}

/// The files of [`COPIES`].
struct Files([Option<File>; 2]);

impl Files {
    fn open(annotations: &HashMap<String, String>) -> Result<Files> {
        let open = |name: &str| {
            let Some(path) = annotations.get(name) else {
                return Ok(None);
            };
            let mut options = File::options();
            options.append(true).create(true).mode(0o600);
            options.open(path).map(Some).map_err(|error| {
                Error::io(Code::Io, "open", &error)
                    .path(path)
                    .at(crate::spec::join("/annotations", name))
            })
        };
        let [stdout, stderr] = COPIES;
        Ok(Files([open(stdout)?, open(stderr)?]))
    }

    fn lend(&self) -> Copies<'_> {
        let [stdout, stderr] = &self.0;
        Copies {
            stdout: stdout.as_ref().map(AsFd::as_fd),
            stderr: stderr.as_ref().map(AsFd::as_fd),
        }
    }
}
