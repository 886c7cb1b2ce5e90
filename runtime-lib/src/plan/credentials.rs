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
        plan.step_for(Step::OwnStreams { uid: user.uid() }, at("user/uid"));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn process(text: &str) -> Process {
        let mut value: serde_json::Value = serde_json::from_str(text).unwrap();
        value["cwd"] = "/".into();
        serde_json::from_value(value).unwrap()
    }

    fn steps(text: &str, groups: Groups) -> Vec<Step> {
        let mut plan = Plan::empty();
        become_user(&process(text), groups, "/process", &mut plan).unwrap();
        plan.steps.into_iter().map(|planned| planned.step).collect()
    }

    #[test]
    fn a_process_without_capabilities_keeps_none() {
        let steps = steps(r#"{"user": {"uid": 0, "gid": 0}}"#, Groups::Allowed);
        assert_eq!(
            steps,
            [
                Step::DropBounding(u64::MAX),
                Step::SetGroups(vec![]),
                Step::SetIds { uid: 0, gid: 0 },
                Step::SetCapabilities {
                    effective: 0,
                    permitted: 0,
                    inheritable: 0
                },
            ]
        );
    }

    #[test]
    fn a_user_keeps_capabilities_across_the_change_of_ids() {
        let text = r#"{"user": {"uid": 1, "gid": 2}, "capabilities": {
            "bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"],
            "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]}}"#;
        let steps = steps(text, Groups::Allowed);
        let place = |wanted: &Step| steps.iter().position(|step| step == wanted).unwrap();
        assert!(place(&Step::KeepCapabilities) < place(&Step::SetIds { uid: 1, gid: 2 }));
        assert_eq!(steps.last(), Some(&Step::Ambient(1 << 5)));
    }

    #[test]
    fn groups_are_left_alone_where_they_cannot_be_set() {
        let text = r#"{"user": {"uid": 0, "gid": 0}}"#;
        for groups in [Groups::Denied, Groups::Unknown] {
            let set = |step: &Step| matches!(step, Step::SetGroups(_));
            assert!(!steps(text, groups).iter().any(set));
        }
    }

    #[test]
    fn groups_that_cannot_be_set_are_refused() {
        let process = process(r#"{"user": {"uid": 0, "gid": 0, "additionalGids": [5]}}"#);
        let plan = &mut Plan::empty();
        let error = become_user(&process, Groups::Denied, "/process", plan).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/process/user/additionalGids: cannot set any additional groups in a rootless container"
        );
    }

    #[test]
    fn what_capset_would_refuse_is_named() {
        let text = r#"{"user": {"uid": 0, "gid": 0}, "capabilities": {
            "permitted": ["CAP_KILL"], "effective": ["CAP_SYS_ADMIN", "CAP_CHOWN"]}}"#;
        let plan = &mut Plan::empty();
        let error = become_user(&process(text), Groups::Allowed, "", plan).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/capabilities/effective: CAP_CHOWN, CAP_SYS_ADMIN is not in the permitted set"
        );
    }

    #[test]
    fn every_id_of_the_process_has_to_be_mapped() {
        let maps = IdMaps {
            uid: vec![super::super::IdMap {
                container: 0,
                host: 1000,
                size: 1,
            }],
            gid: vec![super::super::IdMap {
                container: 0,
                host: 1000,
                size: 10,
            }],
            ..IdMaps::default()
        };
        let refused = |text: &str| {
            let error = check_ids(&process(text), &maps, "/process").unwrap_err();
            error.pointer().unwrap_or_default().to_owned()
        };
        assert_eq!(
            refused(r#"{"user": {"uid": 1, "gid": 0}}"#),
            "/process/user/uid"
        );
        assert_eq!(
            refused(r#"{"user": {"uid": 0, "gid": 10}}"#),
            "/process/user/gid"
        );
        assert_eq!(
            refused(r#"{"user": {"uid": 0, "gid": 0, "additionalGids": [3, 77]}}"#),
            "/process/user/additionalGids/1"
        );
    }
}
