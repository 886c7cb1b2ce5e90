//! A plan under construction: what the planning stages append to.
//!
//! It must not decide anything; it only keeps the order in which the stages speak.

use std::ffi::CString;
use std::path::Path;

use nix::sched::CloneFlags;

use super::{Open, ParentAction, Plan, Planned};
use crate::error::{Code, Error, Result};
use crate::notice::Notice;
use crate::step::{Barrier, Slot, Step, Target};

impl Plan {
    /// A child that is born into its parent's namespaces and does nothing.
    pub(super) fn empty() -> Plan {
        Plan {
            namespaces: CloneFlags::empty(),
            cgroup: None,
            steps: Vec::new(),
            parent: Vec::new(),
            opens: Vec::new(),
            own_cpus: false,
            overlay: None,
            program: None,
            later: Vec::new(),
            notices: Vec::new(),
        }
    }

    /// Appends a step that capsid itself wants.
    pub(super) fn step(&mut self, step: Step) {
        self.steps.push(Planned {
            step,
            pointer: None,
        });
    }

    /// Appends a step that the setting at `pointer` asked for; an empty one is no place to name.
    pub(super) fn step_for(&mut self, step: Step, pointer: impl Into<String>) {
        let pointer = pointer.into();
        self.steps.push(Planned {
            step,
            pointer: Some(pointer).filter(|pointer| !pointer.is_empty()),
        });
    }

    /// Has the parent open something before the clone.
    pub(super) fn open(&mut self, open: Open) -> Slot {
        self.opens.push(open);
        Slot(self.opens.len() - 1)
    }

    /// Has the parent act at a barrier; the barrier itself is a step.
    pub(super) fn act(&mut self, barrier: Barrier, action: ParentAction) {
        self.parent.push((barrier, action));
    }

    /// Has the child wait to be placed, if nothing has yet, and the parent act on it.
    pub(super) fn act_placed(&mut self, action: ParentAction, pointer: &str) {
        let waits = |planned: &Planned| planned.step == Step::Meet(Barrier::Placed);
        if !self.steps.iter().any(waits) {
            self.step_for(Step::Meet(Barrier::Placed), pointer);
        }
        self.act(Barrier::Placed, action);
    }

    /// Notes that the setting at `pointer` will not act as written.
    pub(super) fn note(&mut self, pointer: impl Into<String>, text: impl Into<String>) {
        self.notices.push(Notice::new(pointer, text));
    }
}

/// A string of the configuration as the kernel takes it.
pub(super) fn c_string(text: impl Into<Vec<u8>>, pointer: &str) -> Result<CString> {
    CString::new(text).map_err(|_| nul_byte(pointer))
}

/// A path of the configuration that lies below the root filesystem.
pub(super) fn target(path: impl AsRef<[u8]>, pointer: &str) -> Result<Target> {
    Target::new(path).ok_or_else(|| nul_byte(pointer))
}

/// A path of the configuration as text: what was read as JSON is, what a caller has made may not be.
pub(super) fn text<'a>(path: &'a Path, pointer: &str) -> Result<&'a str> {
    path.to_str().ok_or_else(|| {
        Error::new(Code::InvalidConfig, "the path is not UTF-8")
            .at(pointer)
            .path(path)
    })
}

fn nul_byte(pointer: &str) -> Error {
    Error::new(Code::InvalidConfig, "it contains a NUL byte").at(pointer)
}
