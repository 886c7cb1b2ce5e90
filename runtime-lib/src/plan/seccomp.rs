//! Where the filter is installed: as late as the process's rights allow, so that it judges as
//! little of capsid's own work as can be.
//!
//! With no_new_privs nothing needs a capability: right before execve(2). Without, the kernel
//! wants CAP_SYS_ADMIN, so the child keeps that one until the filter is in; what is left to do
//! then is a write, a read and the program. A listener is handed over while the parent serves.

use caps::Capability;
use nix::errno::Errno;
use oci_spec::runtime::{LinuxSeccomp, Process};

use super::Plan;
use super::credentials::Sets;
use crate::error::{Code, Error, Result, errno_text};
use crate::seccomp::{Filter, MOST_INSTRUCTIONS, compile};
use crate::step::Step;

pub(crate) const POINTER: &str = "/linux/seccomp";

/// When the filter comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// While the parent still serves the child.
    BeforeReady {
        /// The process is not to have the capability that the filter needs.
        privileged: bool,
    },
    /// Last of all.
    BeforeProgram,
}

/// The filter of a process, and when it comes.
#[derive(Clone, Debug)]
pub(super) struct Placement {
    filter: Filter,
    pub turn: Moment,
}

/// The filter that the configuration asks for, which the caller may have compiled already
/// (one that came with notices it has not).
pub(super) fn asked(
    profile: Option<&LinuxSeccomp>,
    compiled: Option<&Filter>,
    plan: &mut Plan,
) -> Result<Option<Filter>> {
    let Some(profile) = profile else {
        return Ok(None);
    };
    let filter = match compiled {
        Some(filter) => filter.clone(),
        None => compiled_now(profile, plan)?,
    };
    if profile.listener_path().is_some() && !filter.listens() {
        let text = "no rule is SCMP_ACT_NOTIFY: nobody will call the listener";
        plan.note(format!("{POINTER}/listenerPath"), text);
    }
    Ok(Some(filter))
}

fn compiled_now(profile: &LinuxSeccomp, plan: &mut Plan) -> Result<Filter> {
    let compiled = compile(profile, crate::seccomp::native());
    for (pointer, name) in compiled.unknown {
        let name = crate::spec::shorten(&name);
        plan.note(pointer, format!("unknown system call {name:?} is ignored"));
    }
    let count = compiled.filter.program.len();
    if count > MOST_INSTRUCTIONS {
        let tail = format!(
            "the filter has {count} instructions, and the kernel takes {MOST_INSTRUCTIONS}"
        );
        return Err(Error::new(Code::InvalidConfig, tail).at(POINTER));
    }
    Ok(compiled.filter)
}

impl Placement {
    /// Decides when the filter comes.
    ///
    /// # Errors
    /// The filter would end the process before its program is executed.
    pub fn new(filter: Filter, process: &Process) -> Result<Placement> {
        let bounded = process.no_new_privileges().unwrap_or(false);
        let turn = match (bounded, filter.listens()) {
            (true, false) => Moment::BeforeProgram,
            (bounded, _) => Moment::BeforeReady {
                privileged: !bounded,
            },
        };
        let placed = Placement { filter, turn };
        placed.lets_the_program_run()?;
        Ok(placed)
    }

    /// What the process keeps until the filter is in.
    pub fn kept(&self) -> u64 {
        match self.turn {
            Moment::BeforeReady { privileged: true } => Capability::CAP_SYS_ADMIN.bitmask(),
            _ => 0,
        }
    }

    /// Appends the step, if this is its turn; `sets` are what the process has for good.
    pub fn install(&self, last: bool, sets: &Sets, pointer: &str, plan: &mut Plan) {
        if last != (self.turn == Moment::BeforeProgram) {
            return;
        }
        plan.step_for(Step::InstallSeccomp(self.filter.clone()), POINTER);
        if self.kept() & !sets.effective != 0 {
            plan.step_for(sets.step(), format!("{pointer}/capabilities"));
        }
    }

    /// A filter that kills at a call which capsid still has to make, or refuses it, is known here
    /// and not found out there: a process that may not execute may not even be let say so.
    fn lets_the_program_run(&self) -> Result<()> {
        let needed: &[&str] = match self.turn {
            Moment::BeforeProgram => &["execve"],
            Moment::BeforeReady { privileged: true } => &["execve", "capset", "write", "read"],
            Moment::BeforeReady { privileged: false } => &["execve", "write", "read"],
        };
        for name in needed {
            let Some((number, verdict)) = self.filter.certain_verdict(name) else {
                continue;
            };
            let tail = match verdict & libc::SECCOMP_RET_ACTION_FULL {
                libc::SECCOMP_RET_KILL_PROCESS
                | libc::SECCOMP_RET_KILL_THREAD
                | libc::SECCOMP_RET_TRAP => {
                    format!("container init would be killed by SIGSYS (syscall {number}, {name})")
                }
                libc::SECCOMP_RET_ERRNO => {
                    let errno = Errno::from_raw((verdict & libc::SECCOMP_RET_DATA) as i32);
                    let why = errno_text(errno);
                    format!("the filter refuses {name} (syscall {number}): {why}")
                }
                _ => continue,
            };
            let error = Error::new(Code::InvalidConfig, tail).at(POINTER);
            return Err(match *name {
                "execve" => error.hint(
                    "the program is executed under the filter, and could never be: allow execve",
                ),
                _ => error.hint(
                    "without noNewPrivileges the filter comes before the last steps of capsid: \
                     allow the call, or set noNewPrivileges",
                ),
            });
        }
        Ok(())
    }
}
