//! The list of mounts (config.md, "Mounts"). Options are the planner's to read.

use oci_spec::runtime::Mount;
use serde_json::Value;

use super::{idmaps, refuse};
use crate::error::Error;
use crate::spec::{Spec, matches};

fn listed(spec: &Spec) -> impl Iterator<Item = (usize, &Mount)> {
    spec.config.mounts().iter().flatten().enumerate()
}

/// config.md: destination is required.
pub(super) fn destinations_are_given(spec: &Spec) -> Vec<Error> {
    let missing = listed(spec).filter(|(_, mount)| mount.destination().as_os_str().is_empty());
    let refused = |(n, _): (usize, &Mount)| {
        let tail = "mount destination must be specified";
        refuse(format!("/mounts/{n}/destination"), tail)
    };
    missing.map(refused).collect()
}

/// config.md: uidMappings and gidMappings of a mount come together.
pub(super) fn idmapped_mounts_map_both_kinds(spec: &Spec) -> Vec<Error> {
    let one = |mount: &Value| {
        let maps = |kind| mount.get(kind).and_then(Value::as_array);
        let given = |kind| maps(kind).is_some_and(|maps| !maps.is_empty());
        given("uidMappings") != given("gidMappings")
    };
    let tail = "id-mapped mounts must have both uid and gid mappings specified";
    let found = matches(&spec.raw, "/mounts/*", one).into_iter();
    found.map(|(pointer, _)| refuse(pointer, tail)).collect()
}

/// user_namespaces(7): the maps of a mount are those of a user namespace made for it.
pub(super) fn maps_of_mounts_are_disjoint(spec: &Spec) -> Vec<Error> {
    let mut errors = Vec::new();
    for (n, mount) in listed(spec) {
        let kinds = [("uid", mount.uid_mappings()), ("gid", mount.gid_mappings())];
        for (kind, maps) in kinds {
            let maps = maps.as_deref().unwrap_or_default();
            if maps.is_empty() {
                continue;
            }
            let pointer = format!("/mounts/{n}/{kind}Mappings");
            errors.extend(idmaps::ranges(&pointer, kind, maps));
        }
    }
    errors
}
