//! Who is who: the maps of a new user namespace, how they can be written, and which ids of
//! the container they cover (user_namespaces(7)). It must not touch /proc.

use oci_spec::runtime::{LinuxIdMapping, Spec};

use super::host::{Host, OwnIds};
use super::{IdMap, IdMaps, Plan};
use crate::error::{Code, Error, Result};

/// Every id but the last, which is no id: what the initial user namespace maps.
const ALL: IdMap = IdMap {
    container: 0,
    host: 0,
    size: u32::MAX,
};

/// The maps for a new user namespace.
pub(super) fn maps(config: &Spec, host: &Host, plan: &mut Plan) -> Result<IdMaps> {
    let linux = config.linux().as_ref();
    let given = |maps: Option<&Option<Vec<LinuxIdMapping>>>| {
        let maps = maps.and_then(Option::as_deref).unwrap_or_default();
        maps.iter().map(IdMap::from).collect::<Vec<_>>()
    };
    let uid = given(linux.map(|linux| linux.uid_mappings()));
    let gid = given(linux.map(|linux| linux.gid_mappings()));
    let maps = match (uid.is_empty(), gid.is_empty()) {
        (false, false) => IdMaps {
            uid,
            gid,
            ..IdMaps::default()
        },
        (true, true) => automatic(host, plan),
        (false, true) => return Err(one_sided("/linux/gidMappings", "gidMappings")),
        (true, false) => return Err(one_sided("/linux/uidMappings", "uidMappings")),
    };
    for (map, pointer, word) in [
        (&maps.uid, "/linux/uidMappings", "uid"),
        (&maps.gid, "/linux/gidMappings", "gid"),
    ] {
        if !covers(map, 0) {
            let tail = format!("the container's root {word} 0 is not mapped to the host");
            return Err(Error::new(Code::InvalidConfig, tail).at(pointer));
        }
    }
    writable(maps, host)
}

/// Whether the container's `id` exists in the map.
pub(super) fn covers(map: &[IdMap], id: u32) -> bool {
    to_host(map, id).is_some()
}

/// The host's id for the container's `id`.
pub(super) fn to_host(map: &[IdMap], id: u32) -> Option<u32> {
    map.iter().find_map(|line| {
        let offset = id.checked_sub(line.container)?;
        (offset < line.size).then(|| line.host.checked_add(offset))?
    })
}

fn one_sided(pointer: &str, word: &str) -> Error {
    let tail = format!("a user namespace needs {word} as well");
    Error::new(Code::InvalidConfig, tail).at(pointer)
}

/// The maps where config.json gives none: everybody for root, the subordinate ids for others.
fn automatic(host: &Host, plan: &mut Plan) -> IdMaps {
    let pointer = "/linux/uidMappings";
    if let Some(ranges) = &host.subordinate {
        let usable = !ranges.uid.is_empty() && !ranges.gid.is_empty() && ranges.helpers.is_some();
        if usable {
            plan.note(
                pointer,
                "not given: root is the caller, the ids from 1 on are the caller's subordinate ids",
            );
            return IdMaps {
                uid: after_root(host.euid, &ranges.uid),
                gid: after_root(host.egid, &ranges.gid),
                ..IdMaps::default()
            };
        }
        plan.note(
            pointer,
            "not given, and the caller has no subordinate ids (subuid(5), newuidmap(1)): \
             root is the caller, and there is no other id",
        );
        return IdMaps {
            uid: after_root(host.euid, &[]),
            gid: after_root(host.egid, &[]),
            ..IdMaps::default()
        };
    }
    plan.note(
        pointer,
        "not given: every id of the caller is mapped to itself",
    );
    let OwnIds { uid, gid } = host.own_ids.clone().unwrap_or_else(|| OwnIds {
        uid: vec![ALL],
        gid: vec![ALL],
    });
    let identity = |map: Vec<IdMap>| {
        let own = |line: IdMap| IdMap {
            host: line.container,
            ..line
        };
        map.into_iter().map(own).collect()
    };
    IdMaps {
        uid: identity(uid),
        gid: identity(gid),
        ..IdMaps::default()
    }
}

/// Container id 0 is `own`; the ranges follow it without a gap.
fn after_root(own: u32, ranges: &[(u32, u32)]) -> Vec<IdMap> {
    let mut map = vec![IdMap {
        container: 0,
        host: own,
        size: 1,
    }];
    let mut next = 1u32;
    for &(first, count) in ranges {
        let size = count.min(u32::MAX - next).min(u32::MAX - first);
        if size != 0 {
            map.push(IdMap {
                container: next,
                host: first,
                size,
            });
            next += size;
        }
    }
    map
}

/// Decides who writes the maps: the kernel lets a process without CAP_SETUID and CAP_SETGID
/// map only its own id, and a group only when setgroups(2) is denied for good.
fn writable(mut maps: IdMaps, host: &Host) -> Result<IdMaps> {
    use caps::Capability::{CAP_SETGID, CAP_SETUID};
    if host.has(CAP_SETUID) && host.has(CAP_SETGID) {
        return Ok(maps);
    }
    let own = |map: &[IdMap], id: u32| matches!(map, [line] if line.host == id && line.size == 1);
    if own(&maps.uid, host.euid) && own(&maps.gid, host.egid) {
        maps.deny_setgroups = true;
        return Ok(maps);
    }
    let helpers = host
        .subordinate
        .as_ref()
        .and_then(|ids| ids.helpers.clone());
    match helpers {
        Some(helpers) => {
            maps.helpers = Some(helpers);
            Ok(maps)
        }
        None => Err(Error::new(Code::Namespace, "operation not permitted")
            .at("/linux/uidMappings")
            .hint(
                "an ordinary user needs newuidmap(1) and newgidmap(1) to map more than its own id",
            )),
    }
}

impl From<&LinuxIdMapping> for IdMap {
    fn from(map: &LinuxIdMapping) -> IdMap {
        IdMap {
            container: map.container_id(),
            host: map.host_id(),
            size: map.size(),
        }
    }
}
