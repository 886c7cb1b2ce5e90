//! Who the process is: capabilities, groups and ids, in the one order that the kernel allows
//! (capabilities(7)). It must not read anything of the container's files.

use oci_spec::runtime::{Capabilities, LinuxCapabilities, Process};

use super::{IdMaps, Plan, idmap};
use crate::error::{Code, Error, Result};
use crate::step::Step;

/// The five sets of a process, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sets {
    pub bounding: u64,
    pub effective: u64,
    pub inheritable: u64,
    pub permitted: u64,
    pub ambient: u64,
}

/// Whether setgroups(2) works in the user namespace that the process ends up in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Groups {
    Allowed,
    Denied,
    /// Somebody else made the namespace: it is called only when groups are asked for.
    Unknown,
}

impl Groups {
    /// From what /proc/PID/setgroups says.
    pub(super) fn of(denied: bool) -> Groups {
        match denied {
            true => Groups::Denied,
            false => Groups::Allowed,
        }
    }
}

impl Sets {
    /// The sets as written; without any, the process has no capability at all.
    pub(super) fn resolve(given: Option<&LinuxCapabilities>, pointer: &str) -> Result<Sets> {
        let Some(given) = given else {
            return Ok(Sets::default());
        };
        let sets = Sets {
            bounding: bits(given.bounding()),
            effective: bits(given.effective()),
            inheritable: bits(given.inheritable()),
            permitted: bits(given.permitted()),
            ambient: bits(given.ambient()),
        };
        // capset(2) refuses these with EPERM, and names none.
        for (set, allowed, word, within) in [
            (sets.effective, sets.permitted, "effective", "permitted"),
            (sets.inheritable, sets.bounding, "inheritable", "bounding"),
        ] {
            if set & !allowed != 0 {
                let tail = format!("{} is not in the {within} set", names(set & !allowed));
                return Err(Error::new(Code::InvalidConfig, tail)
                    .at(format!("{pointer}/capabilities/{word}")));
            }
        }
        Ok(sets)
    }
}

/// The steps that turn the child into the user.
pub(super) fn become_user(
    process: &Process,
    groups: Groups,
    pointer: &str,
    plan: &mut Plan,
) -> Result<()> {
    let sets = Sets::resolve(process.capabilities().as_ref(), pointer)?;
    let user = process.user();
    let at = |field: &str| format!("{pointer}/{field}");
    plan.step_for(
        Step::DropBounding(!sets.bounding),
        at("capabilities/bounding"),
    );
    if user.uid() != 0 {
        plan.step(Step::KeepCapabilities);
    }
    set_groups(process, groups, pointer, plan)?;
    let ids = Step::SetIds {
        uid: user.uid(),
        gid: user.gid(),
    };
    plan.step_for(ids, at("user"));
    let set = Step::SetCapabilities {
        effective: sets.effective,
        permitted: sets.permitted,
        inheritable: sets.inheritable,
    };
    plan.step_for(set, at("capabilities"));
    let ambient = sets.ambient & sets.permitted & sets.inheritable;
    if ambient != sets.ambient {
        let text = format!(
            "{} can't be ambient without being inheritable and permitted",
            names(sets.ambient & !ambient)
        );
        plan.note(at("capabilities/ambient"), text);
    }
    // Otherwise capset(2) has left none.
    if sets.permitted & sets.inheritable != 0 {
        plan.step_for(Step::Ambient(ambient), at("capabilities/ambient"));
    }
    Ok(())
}

fn set_groups(process: &Process, groups: Groups, pointer: &str, plan: &mut Plan) -> Result<()> {
    let asked = process.user().additional_gids().clone().unwrap_or_default();
    let here = format!("{pointer}/user/additionalGids");
    match (groups, asked.is_empty()) {
        (Groups::Allowed, true) => plan.step(Step::SetGroups(asked)),
        (Groups::Allowed | Groups::Unknown, false) => plan.step_for(Step::SetGroups(asked), here),
        (Groups::Denied | Groups::Unknown, true) => {}
        (Groups::Denied, false) => {
            let tail = "cannot set any additional groups in a rootless container";
            return Err(Error::new(Code::InvalidConfig, tail).at(here));
        }
    }
    Ok(())
}

/// Refuses ids that the user namespace doesn't have, and names the one.
pub(super) fn check_ids(process: &Process, maps: &IdMaps, pointer: &str) -> Result<()> {
    let user = process.user();
    let refuse = |field: &str, word: &str, id: u32| {
        let tail = format!("{word} {id} is not mapped in the user namespace");
        Err(Error::new(Code::InvalidConfig, tail).at(format!("{pointer}/user/{field}")))
    };
    if !idmap::covers(&maps.uid, user.uid()) {
        return refuse("uid", "uid", user.uid());
    }
    if !idmap::covers(&maps.gid, user.gid()) {
        return refuse("gid", "gid", user.gid());
    }
    let additional = user.additional_gids().as_deref().unwrap_or_default();
    for (n, gid) in additional.iter().enumerate() {
        if !maps.deny_setgroups && !idmap::covers(&maps.gid, *gid) {
            return refuse(&format!("additionalGids/{n}"), "gid", *gid);
        }
    }
    Ok(())
}

fn bits(set: &Option<Capabilities>) -> u64 {
    let set = set.iter().flatten();
    let known = set.filter_map(|name| format!("CAP_{name}").parse::<caps::Capability>().ok());
    known.fold(0, |bits, capability| bits | capability.bitmask())
}

/// "CAP_KILL, CAP_CHOWN"
fn names(bits: u64) -> String {
    let mut names: Vec<_> = caps::all()
        .into_iter()
        .filter(|capability| bits & capability.bitmask() != 0)
        .collect();
    names.sort_unstable_by_key(|capability| capability.index());
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    names.join(", ")
}
