//! The plans of children that execute nothing: they do one thing as root of a user namespace.

use std::ffi::CString;

use nix::sched::CloneFlags;

use super::{IdMaps, ParentAction, Plan};
use crate::step::{Barrier, Step};

/// The plan of a child that removes what `name` is in a directory as root of a user namespace with
/// these maps.
pub fn removal(directory: CString, name: CString, maps: IdMaps) -> Plan {
    let mut plan = mapped(maps);
    plan.step(Step::BecomeRoot);
    plan.step(Step::RemoveTree { directory, name });
    plan.step(Step::Meet(Barrier::Ready));
    plan
}

/// The plan of a child that does nothing but hold a user namespace with these maps.
pub fn holder(maps: IdMaps) -> Plan {
    let mut plan = mapped(maps);
    plan.step(Step::Meet(Barrier::Ready));
    plan
}

/// As far as its user namespace has these maps.
fn mapped(maps: IdMaps) -> Plan {
    let mut plan = Plan::empty();
    plan.namespaces = CloneFlags::CLONE_NEWUSER;
    plan.act(Barrier::Placed, ParentAction::MapIds(maps));
    plan.step(Step::ResetSignals);
    plan.step(Step::Meet(Barrier::Placed));
    plan
}
