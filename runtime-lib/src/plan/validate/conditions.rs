//! What every process of the container executes under: personality and memory policy
//! (config-linux.md; personality(2), set_mempolicy(2)).

use oci_spec::runtime::MemoryPolicyFlagType as Flag;
use oci_spec::runtime::MemoryPolicyModeType as Mode;

use super::{linux, refuse};
use crate::error::Error;
use crate::plan::scheduling::memory_flag;
use crate::spec::{Spec, shorten};
use crate::step::NumberSet;

/// config-linux.md: "Currently no flag values are supported."
pub(super) fn personality_has_no_flags(spec: &Spec) -> Vec<Error> {
    let personality = linux(spec).and_then(|linux| linux.personality().as_ref());
    let flags = personality.and_then(|asked| asked.flags().as_deref());
    match flags.unwrap_or_default() {
        [] => vec![],
        _ => vec![refuse(
            "/linux/personality/flags",
            "the specification knows no flag of a personality",
        )],
    }
}

/// set_mempolicy(2) says EINVAL to each of these and no more; it is what runc's callers look for.
pub(super) fn memory_policy_fits_together(spec: &Spec) -> Vec<Error> {
    let Some(asked) = linux(spec).and_then(|linux| linux.memory_policy().as_ref()) else {
        return vec![];
    };
    let at = |field: &str| format!("/linux/memoryPolicy/{field}");
    let mode = asked.mode();
    let nodes = match asked.nodes().as_deref().unwrap_or_default() {
        "" => NumberSet::default(),
        list => match NumberSet::parse(list) {
            Ok(nodes) => nodes,
            Err(why) => {
                let tail = format!("invalid memory policy nodes {:?}: {why}", shorten(list));
                return vec![refuse(at("nodes"), tail)];
            }
        },
    };
    let flags = asked.flags().as_deref().unwrap_or_default();
    let bits = flags.iter().fold(0, |bits, flag| bits | memory_flag(*flag));
    let has = |flag| bits & memory_flag(flag) != 0;
    let relative = has(Flag::MpolFRelativeNodes) || has(Flag::MpolFStaticNodes);
    let mut errors = Vec::new();
    let mut wrong = |field: &str, why: String| {
        let tail = format!("{why}: set_mempolicy: invalid argument");
        errors.push(refuse(at(field), tail));
    };
    match (mode, nodes.is_empty()) {
        (Mode::MpolDefault | Mode::MpolLocal, false) => {
            let count = nodes.count();
            wrong(
                "nodes",
                format!("{mode} mode requires 0 nodes but got {count}"),
            );
        }
        (
            Mode::MpolBind
            | Mode::MpolInterleave
            | Mode::MpolWeightedInterleave
            | Mode::MpolPreferredMany,
            true,
        ) => wrong(
            "nodes",
            format!("{mode} mode requires at least 1 node but got 0"),
        ),
        _ => {}
    }
    if has(Flag::MpolFRelativeNodes) && has(Flag::MpolFStaticNodes) {
        let tail = "MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other";
        wrong("flags", tail.to_owned());
    }
    if relative && nodes.is_empty() {
        wrong("flags", "flags about nodes need nodes".to_owned());
    }
    if has(Flag::MpolFNumaBalancing) && !matches!(mode, Mode::MpolBind | Mode::MpolPreferredMany) {
        let tail = "MPOL_F_NUMA_BALANCING is for MPOL_BIND and MPOL_PREFERRED_MANY";
        wrong("flags", tail.to_owned());
    }
    errors
}
