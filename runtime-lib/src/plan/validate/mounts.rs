//! The list of mounts (config.md, "Mounts"). Options are the planner's to read.

use oci_spec::runtime::Mount;

use super::refuse;
use crate::error::Error;
use crate::spec::Spec;

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
    let given = |maps: &Option<Vec<_>>| maps.as_ref().is_some_and(|maps| !maps.is_empty());
    let one =
        |(_, mount): &(usize, &Mount)| given(mount.uid_mappings()) != given(mount.gid_mappings());
    let refused = |(n, _): (usize, &Mount)| {
        let tail = "id-mapped mounts must have both uid and gid mappings specified";
        refuse(format!("/mounts/{n}"), tail)
    };
    listed(spec).filter(one).map(refused).collect()
}
