//! From the runtime's rights to the process's own, and to the program: what create and exec have
//! in common.

use std::ffi::CString;

use oci_spec::runtime::Process;

use super::credentials::{self, Groups, Sets};
use super::draft::c_string;
use super::hooks::Hook;
use super::seccomp::Placement;
use super::{Plan, process, scheduling};
use crate::error::Result;
use crate::seccomp::Filter;
use crate::step::{Step, Turn};

/// What execve(2) gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Paths to try, in this order: one, or one for each directory of PATH.
    pub candidates: Vec<CString>,
    pub argv: Vec<CString>,
    pub envp: Vec<CString>,
    /// HOME has to be looked up in the container's /etc/passwd; its place comes after `envp`.
    pub home: bool,
}

/// What is left to do of a process's confinement: its filter.
pub(super) struct Confined<'a> {
    filter: Option<Placement>,
    sets: Sets,
    pointer: &'a str,
}

impl Confined<'_> {
    /// Installs it, if this is its turn.
    pub(super) fn install_filter(&self, last: bool, plan: &mut Plan) {
        if let Some(filter) = &self.filter {
            filter.install(last, &self.sets, self.pointer, plan);
        }
    }
}

/// From the runtime's rights to the process's own, and to the program, which gets `further`
/// environment.
pub(super) fn confine<'a>(
    process: &Process,
    further: &[String],
    pointer: &'a str,
    groups: Groups,
    filter: Option<Filter>,
    plan: &mut Plan,
) -> Result<Confined<'a>> {
    let filter = filter.map(|it| Placement::new(it, process)).transpose()?;
    let kept = filter.as_ref().map_or(0, Placement::kept);
    scheduling::schedule(process, pointer, plan);
    let (cwd, cwd_pointer) = process::cwd(process, pointer)?;
    let cwd = c_string(cwd.absolute(), &cwd_pointer)?;
    let turn = |turn| Step::ChangeDirectory {
        path: cwd.clone(),
        turn,
    };
    plan.step_for(process::umask(process), format!("{pointer}/user/umask"));
    if process.no_new_privileges().unwrap_or(false) {
        plan.step_for(Step::NoNewPrivileges, format!("{pointer}/noNewPrivileges"));
    }
    plan.step_for(turn(Turn::AsRoot), cwd_pointer.clone());
    let sets = credentials::become_user(process, groups, kept, pointer, plan)?;
    plan.step_for(turn(Turn::AsUser), cwd_pointer);
    let program = process::program(process, further, pointer)?;
    if program.home {
        let uid = process.user().uid();
        plan.step_for(Step::Home { uid }, format!("{pointer}/env"));
    }
    plan.program = Some(program);
    plan.step_for(Step::FindProgram, format!("{pointer}/args/0"));
    Ok(Confined {
        filter,
        sets,
        pointer,
    })
}

/// A startContainer hook has all of the process but its program.
pub(super) fn become_hook(hook: &Hook, plan: &mut Plan) -> Result<()> {
    let own = plan.program.take();
    let home =
        own.as_ref().is_some_and(|own| own.home) && hook.env.as_ref().is_none_or(Vec::is_empty);
    let env = own.map(|own| own.envp).unwrap_or_default();
    plan.program = Some(Program {
        home,
        ..hook.program(env)?
    });
    Ok(())
}

impl Plan {
    /// The process gets a session keyring of its own (keyrings(7)), unless it is to keep its
    /// creator's.
    pub(super) fn session_keyring(&mut self, id: &str, inherited: bool) -> Result<()> {
        if !inherited {
            let name = c_string(format!("_ses.{id}"), "")?;
            self.step(Step::SessionKeyring(name));
        }
        Ok(())
    }

    /// The last step.
    pub(super) fn execute(&mut self) {
        self.step(match self.program {
            Some(_) => Step::Execute,
            None => Step::NothingToExecute,
        });
    }
}
