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
    /// The step that gives a process the three sets of capset(2).
    pub(super) fn step(&self) -> Step {
        Step::SetCapabilities {
            effective: self.effective,
            permitted: self.permitted,
            inheritable: self.inheritable,
        }
    }

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

/// Who the process becomes.
struct Subject<'a> {
    process: &'a Process,
    sets: Sets,
    /// What it has besides, for the time being.
    kept: u64,
    groups: Groups,
    pointer: &'a str,
}

/// The one order that the kernel allows (capabilities(7), "Effect of user ID changes"): what
/// needs a capability comes before the ids, which take them all from whoever is not root; what
/// is kept across the ids is cut down after them; and ambient is what is left to choose from.
const ORDER: &[fn(&Subject, &mut Plan) -> Result<()>] = &[
    bounding,
    streams,
    keep_across_ids,
    additional_groups,
    ids,
    final_sets,
    ambient,
];

/// The steps that turn the child into the user, and the sets that it is to have. `kept` is what
/// it has besides until somebody takes it away with [`Sets::step`].
pub(super) fn become_user(
    process: &Process,
    groups: Groups,
    kept: u64,
    pointer: &str,
    plan: &mut Plan,
) -> Result<Sets> {
    let subject = Subject {
        process,
        sets: Sets::resolve(process.capabilities().as_ref(), pointer)?,
        kept,
        groups,
        pointer,
    };
    ORDER.iter().try_for_each(|turn| turn(&subject, plan))?;
    Ok(subject.sets)
}

impl Subject<'_> {
    fn at(&self, field: &str) -> String {
        format!("{}/{field}", self.pointer)
    }

    /// The kernel leaves its capabilities alone.
    fn stays_root(&self) -> bool {
        self.process.user().uid() == 0
    }
}

/// Needs CAP_SETPCAP.
fn bounding(subject: &Subject, plan: &mut Plan) -> Result<()> {
    let step = Step::DropBounding(!subject.sets.bounding);
    plan.step_for(step, subject.at("capabilities/bounding"));
    Ok(())
}

/// Needs CAP_CHOWN.
fn streams(subject: &Subject, plan: &mut Plan) -> Result<()> {
    if !subject.stays_root() {
        let uid = subject.process.user().uid();
        plan.step_for(Step::OwnStreams { uid }, subject.at("user/uid"));
    }
    Ok(())
}

fn keep_across_ids(subject: &Subject, plan: &mut Plan) -> Result<()> {
    if !subject.stays_root() {
        plan.step(Step::KeepCapabilities);
    }
    Ok(())
}

/// Needs CAP_SETGID.
fn additional_groups(subject: &Subject, plan: &mut Plan) -> Result<()> {
    let asked = subject.process.user().additional_gids();
    let asked = asked.clone().unwrap_or_default();
    let here = subject.at("user/additionalGids");
    match (subject.groups, asked.is_empty()) {
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

/// Needs CAP_SETGID and CAP_SETUID.
fn ids(subject: &Subject, plan: &mut Plan) -> Result<()> {
    let user = subject.process.user();
    let ids = Step::SetIds {
        uid: user.uid(),
        gid: user.gid(),
    };
    plan.step_for(ids, subject.at("user"));
    Ok(())
}

fn final_sets(subject: &Subject, plan: &mut Plan) -> Result<()> {
    let sets = Sets {
        effective: subject.sets.effective | subject.kept,
        permitted: subject.sets.permitted | subject.kept,
        ..subject.sets
    };
    plan.step_for(sets.step(), subject.at("capabilities"));
    Ok(())
}

fn ambient(subject: &Subject, plan: &mut Plan) -> Result<()> {
    let sets = &subject.sets;
    let here = subject.at("capabilities/ambient");
    let ambient = sets.ambient & sets.permitted & sets.inheritable;
    if ambient != sets.ambient {
        let text = format!(
            "{} can't be ambient without being inheritable and permitted",
            names(sets.ambient & !ambient)
        );
        plan.note(&*here, text);
    }
    // Otherwise capset(2) has left none.
    if sets.permitted & sets.inheritable != 0 {
        plan.step_for(Step::Ambient(ambient), here);
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
    use caps::Capability::{CAP_CHOWN, CAP_SETGID, CAP_SETPCAP, CAP_SETUID};
    use proptest::prelude::*;

    use super::*;

    const ALL: u64 = (1 << 41) - 1;

    /// What capabilities(7), setuid(2) and prctl(2) say of a process of root's.
    struct Kernel {
        uid: u32,
        groups: Vec<u32>,
        keeps: bool,
        sets: Sets,
    }

    impl Kernel {
        fn new() -> Kernel {
            Kernel {
                uid: 0,
                groups: vec![1, 2],
                keeps: false,
                sets: Sets {
                    bounding: ALL,
                    effective: ALL,
                    permitted: ALL,
                    inheritable: 0,
                    ambient: 0,
                },
            }
        }

        fn needs(&self, capability: caps::Capability) -> std::result::Result<(), String> {
            match self.sets.effective & capability.bitmask() {
                0 => Err(format!("EPERM without {capability}")),
                _ => Ok(()),
            }
        }

        /// What the step does, or why the kernel refuses it.
        fn take(&mut self, step: &Step) -> std::result::Result<(), String> {
            let sets = &mut self.sets;
            match step {
                Step::DropBounding(gone) if gone & ALL != 0 => {
                    self.needs(CAP_SETPCAP)?;
                    self.sets.bounding &= !gone;
                }
                Step::DropBounding(_) => {}
                Step::OwnStreams { .. } => self.needs(CAP_CHOWN)?,
                Step::KeepCapabilities => self.keeps = true,
                Step::SetGroups(groups) => {
                    self.needs(CAP_SETGID)?;
                    self.groups.clone_from(groups);
                }
                Step::SetIds { uid, .. } => {
                    if *uid != 0 {
                        self.needs(CAP_SETGID)?;
                        self.needs(CAP_SETUID)?;
                        let sets = &mut self.sets;
                        (sets.effective, sets.ambient) = (0, 0);
                        if !self.keeps {
                            sets.permitted = 0;
                        }
                    }
                    self.uid = *uid;
                }
                Step::SetCapabilities {
                    effective,
                    permitted,
                    inheritable,
                } => {
                    let room = sets.inheritable | sets.bounding;
                    let own = sets.inheritable | sets.permitted;
                    let privileged = sets.effective & CAP_SETPCAP.bitmask() != 0;
                    if permitted & !sets.permitted != 0
                        || effective & !permitted != 0
                        || inheritable & !room != 0
                        || (!privileged && inheritable & !own != 0)
                    {
                        return Err("EPERM of capset".to_owned());
                    }
                    sets.effective = *effective;
                    sets.permitted = *permitted;
                    sets.inheritable = *inheritable;
                    sets.ambient &= permitted & inheritable;
                }
                Step::Ambient(set) => {
                    if set & !(sets.permitted & sets.inheritable) != 0 {
                        return Err("EPERM of PR_CAP_AMBIENT_RAISE".to_owned());
                    }
                    sets.ambient = *set;
                }
                other => return Err(format!("{other} is not about credentials")),
            }
            Ok(())
        }
    }

    /// The names of a set of bits, as config.json has them.
    fn listed(bits: u64) -> Vec<String> {
        let mut all: Vec<_> = caps::all().into_iter().collect();
        all.retain(|capability| bits & capability.bitmask() != 0);
        all.iter().map(ToString::to_string).collect()
    }

    /// Sets of which some are small, some large, and some contain each other.
    fn set() -> impl Strategy<Value = u64> {
        prop_oneof![
            Just(0),
            Just(ALL),
            (0..41_u32).prop_map(|bit| 1 << bit),
            any::<u64>().prop_map(|bits| bits & ALL),
        ]
    }

    proptest! {
        /// Whatever is asked for and not refused, no step is refused by the kernel, and the
        /// process ends up as asked.
        #[test]
        fn every_process_becomes_who_it_is_to_be(
            uid in prop::sample::select(vec![0_u32, 1, 1000, 4_294_967_294]),
            additional in prop::collection::vec(any::<u32>(), 0..4),
            (bounding, permitted, effective, inheritable, ambient) in (set(), set(), set(), set(), set()),
            nested in any::<bool>(),
        ) {
            // Else nearly every one would be refused before it is planned.
            let narrow = |set: u64, within: u64| if nested { set & within } else { set };
            let (effective, inheritable) = (narrow(effective, permitted), narrow(inheritable, bounding));
            let text = serde_json::json!({
                "user": {"uid": uid, "gid": uid, "additionalGids": additional},
                "capabilities": {
                    "bounding": listed(bounding), "permitted": listed(permitted),
                    "effective": listed(effective), "inheritable": listed(inheritable),
                    "ambient": listed(ambient),
                },
            });
            let mut plan = Plan::empty();
            let process = process(&text.to_string());
            if become_user(&process, Groups::Allowed, 0, "/process", &mut plan).is_err() {
                prop_assert!(effective & !permitted != 0 || inheritable & !bounding != 0);
                return Ok(());
            }
            let mut kernel = Kernel::new();
            for planned in &plan.steps {
                kernel.take(&planned.step).map_err(|why| {
                    TestCaseError::fail(format!("{}: {why}", planned.step))
                })?;
            }
            let ambient = ambient & permitted & inheritable;
            let expected = Sets { bounding, effective, inheritable, permitted, ambient };
            prop_assert_eq!(kernel.sets, expected);
            prop_assert_eq!((kernel.uid, kernel.groups), (uid, additional));
        }
    }

    fn process(text: &str) -> Process {
        let mut value: serde_json::Value = serde_json::from_str(text).unwrap();
        value["cwd"] = "/".into();
        serde_json::from_value(value).unwrap()
    }

    fn steps(text: &str, groups: Groups) -> Vec<Step> {
        let mut plan = Plan::empty();
        become_user(&process(text), groups, 0, "/process", &mut plan).unwrap();
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
        let error = become_user(&process, Groups::Denied, 0, "/process", plan).unwrap_err();
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
        let error = become_user(&process(text), Groups::Allowed, 0, "", plan).unwrap_err();
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
