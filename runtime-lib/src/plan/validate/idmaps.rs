//! The maps of a user namespace (config-linux.md, "User namespace mappings").

use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType};

use super::{has, linux, refuse};
use crate::error::Error;
use crate::spec::Spec;

/// The most lines that the kernel takes (user_namespaces(7)).
const LINES_MAX: usize = 340;

/// Where the maps are, and what they map.
const KINDS: [(&str, &str); 2] = [("/linux/uidMappings", "uid"), ("/linux/gidMappings", "gid")];

fn maps(spec: &Spec) -> [&[LinuxIdMapping]; 2] {
    let uid = linux(spec).and_then(|linux| linux.uid_mappings().as_deref());
    let gid = linux(spec).and_then(|linux| linux.gid_mappings().as_deref());
    [uid.unwrap_or_default(), gid.unwrap_or_default()]
}

/// config-linux.md: the mappings are those of the container's user namespace.
pub(super) fn maps_have_a_user_namespace(spec: &Spec) -> Vec<Error> {
    if has(spec, LinuxNamespaceType::User) {
        return vec![];
    }
    let given = KINDS
        .iter()
        .zip(maps(spec))
        .find(|(_, maps)| !maps.is_empty());
    let tail = "user namespace mappings specified, but user namespace isn't enabled in the config";
    given
        .map(|((pointer, _), _)| refuse(*pointer, tail))
        .into_iter()
        .collect()
}

/// user_namespaces(7): without a map, no id of that kind exists in the namespace.
pub(super) fn both_kinds_are_mapped(spec: &Spec) -> Vec<Error> {
    let all = maps(spec);
    if !has(spec, LinuxNamespaceType::User) || all.iter().all(|maps| maps.is_empty()) {
        return vec![];
    }
    let missing = KINDS.iter().zip(all).filter(|(_, maps)| maps.is_empty());
    let refused = |((pointer, kind), _): (&(&str, &str), _)| {
        let tail = format!("user namespaces enabled, but no {kind} mappings found");
        refuse(*pointer, tail)
    };
    missing.map(refused).collect()
}

/// user_namespaces(7), "Defining user and group ID mappings".
pub(super) fn ranges_are_disjoint(spec: &Spec) -> Vec<Error> {
    let kinds = KINDS.iter().zip(maps(spec));
    kinds
        .flat_map(|((pointer, kind), maps)| ranges(pointer, kind, maps))
        .collect()
}

/// What is wrong with one map.
pub(super) fn ranges(pointer: &str, kind: &str, maps: &[LinuxIdMapping]) -> Vec<Error> {
    if maps.len() > LINES_MAX {
        let tail = format!(
            "{} {kind} mappings, the kernel takes {LINES_MAX}",
            maps.len()
        );
        return vec![refuse(pointer, tail)];
    }
    let mut errors = Vec::new();
    for (n, map) in maps.iter().enumerate() {
        let pointer = format!("{pointer}/{n}");
        if map.size() == 0 {
            errors.push(refuse(format!("{pointer}/size"), "size must not be 0"));
            continue;
        }
        // The last value of the type is no id, so a range ends before it.
        let past = |first: u32| first.checked_add(map.size()).is_none();
        if past(map.container_id()) || past(map.host_id()) {
            let tail = format!("{kind} mapping goes beyond the last {kind}");
            errors.push(refuse(format!("{pointer}/size"), tail));
            continue;
        }
        let earlier = maps.iter().take(n);
        let overlaps = |a: u32, b: u32, size: u32| {
            let (a, b) = (u64::from(a), u64::from(b));
            a < b + u64::from(size) && b < a + u64::from(map.size())
        };
        let taken = |other: &LinuxIdMapping| {
            overlaps(map.container_id(), other.container_id(), other.size())
                || overlaps(map.host_id(), other.host_id(), other.size())
        };
        if earlier.filter(|other| other.size() > 0).any(taken) {
            let tail = format!("{kind} mapping overlaps an earlier one");
            errors.push(refuse(pointer, tail));
        }
    }
    errors
}
