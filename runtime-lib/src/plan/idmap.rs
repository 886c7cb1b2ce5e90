//! Who is who: the maps of a new user namespace, how they can be written, and which ids of
//! the container they cover (user_namespaces(7)). It must not touch /proc.

use std::borrow::Cow;

use oci_spec::runtime::{LinuxIdMapping, Spec};

use super::{IdMap, IdMaps, Plan};
use crate::error::{Code, Error, Result};
use crate::host::{Host, OwnIds, Subordinate};

/// Every id but the last, which is no id: what the initial user namespace maps.
const ALL: IdMap = IdMap {
    container: 0,
    host: 0,
    size: u32::MAX,
};

/// The maps for a new user namespace, and who writes them.
pub(super) fn maps(config: &Spec, host: &Host, plan: &mut Plan) -> Result<IdMaps> {
    let given = given(config);
    let maps = match (given.uid.is_empty(), given.gid.is_empty()) {
        (false, false) => given,
        (true, true) => automatic(host, plan),
        (false, true) => return Err(one_sided("gid")),
        (true, false) => return Err(one_sided("uid")),
    };
    for (map, word) in [(&maps.uid, "uid"), (&maps.gid, "gid")] {
        if !covers(map, 0) {
            let tail = format!("the container's root {word} 0 is not mapped to the host");
            return Err(Error::new(Code::InvalidConfig, tail).at(pointer(word)));
        }
    }
    writable(maps, host)
}

/// Whether config.json leaves it to [`maps`] what a new user namespace maps.
pub(crate) fn are_automatic(config: &Spec) -> bool {
    let given = given(config);
    given.uid.is_empty() && given.gid.is_empty()
}

/// The maps of config.json. Beside the path of a user namespace they say what it maps.
pub(super) fn given(config: &Spec) -> IdMaps {
    let linux = config.linux().as_ref();
    let list = |maps: Option<&Option<Vec<LinuxIdMapping>>>| {
        let maps = maps.and_then(Option::as_deref).unwrap_or_default();
        maps.iter().map(IdMap::from).collect()
    };
    IdMaps {
        uid: list(linux.map(|linux| linux.uid_mappings())),
        gid: list(linux.map(|linux| linux.gid_mappings())),
        ..IdMaps::default()
    }
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

fn one_sided(missing: &str) -> Error {
    let tail = format!("a user namespace needs {missing}Mappings as well");
    Error::new(Code::InvalidConfig, tail).at(pointer(missing))
}

fn pointer(word: &str) -> String {
    format!("/linux/{word}Mappings")
}

/// The maps where config.json gives none: everybody for root, the subordinate ids for others.
fn automatic(host: &Host, plan: &mut Plan) -> IdMaps {
    use caps::Capability::{CAP_SETGID, CAP_SETUID};
    let (maps, text): (_, Cow<'_, str>) = match &host.subordinate {
        None if !host.has(CAP_SETUID) || !host.has(CAP_SETGID) => {
            let maps = (after_root(host.euid, &[]), after_root(host.egid, &[]));
            let text = "there is no other id than root, because the caller may not map others \
                        (CAP_SETUID, CAP_SETGID)";
            (maps, text.into())
        }
        None => {
            let own = host.own_ids.clone().unwrap_or_else(|| OwnIds {
                uid: vec![ALL],
                gid: vec![ALL],
            });
            let maps = (identity(own.uid), identity(own.gid));
            (maps, "every id of the caller is mapped to itself".into())
        }
        Some(Subordinate {
            uid,
            gid,
            helpers: Some(_),
            ..
        }) if !uid.is_empty() && !gid.is_empty() => {
            let maps = (after_root(host.euid, uid), after_root(host.egid, gid));
            let text = "root is the caller, the ids from 1 on are its subordinate ids";
            (maps, text.into())
        }
        Some(ids) => {
            let maps = (after_root(host.euid, &[]), after_root(host.egid, &[]));
            let lacks = lacks(ids, host.euid);
            let text = format!("root is the caller, and there is no other id, because {lacks}");
            (maps, text.into())
        }
    };
    plan.note(pointer("uid"), format!("not given: {text}"));
    let (uid, gid) = maps;
    IdMaps {
        uid,
        gid,
        ..IdMaps::default()
    }
}

/// What keeps an ordinary user from having more than its own id, and the line that gives it.
fn lacks(ids: &Subordinate, euid: u32) -> String {
    let (first, last) = (ids.free, ids.free.saturating_add(65_535));
    let option = |of: &[(u32, u32)], word: &str| match of.is_empty() {
        true => format!(" --add-sub{word}s {first}-{last}"),
        false => String::new(),
    };
    let options = option(&ids.uid, "uid") + &option(&ids.gid, "gid");
    if options.is_empty() {
        return format!("{HELPERS} are not in PATH ({PACKAGE})");
    }
    let name = ids.name.clone().unwrap_or_else(|| euid.to_string());
    let package = match ids.helpers {
        Some(_) => String::new(),
        None => format!(", and {HELPERS} in PATH: {PACKAGE}"),
    };
    format!("the caller has no subordinate ids (as root: usermod{options} {name}{package})")
}

const HELPERS: &str = "newuidmap(1) and newgidmap(1)";
const PACKAGE: &str = "on Debian: apt install uidmap";

/// The ids of the caller's user namespace, each mapped to itself.
fn identity(map: Vec<IdMap>) -> Vec<IdMap> {
    let own = |line: IdMap| IdMap {
        host: line.container,
        ..line
    };
    map.into_iter().map(own).collect()
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
    use caps::Capability::{CAP_SETFCAP, CAP_SETGID, CAP_SETUID};
    let maps_root = maps.uid.iter().any(|line| line.host == 0);
    if host.euid == 0 && maps_root && !host.has(CAP_SETFCAP) {
        // Else its file capabilities would be good for the root outside (Linux 5.12).
        return Err(Error::new(Code::Namespace, "operation not permitted")
            .at("/linux/uidMappings")
            .hint("root needs CAP_SETFCAP to map its own id; an ordinary user doesn't"));
    }
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
            .hint(format!(
                "an ordinary user needs {HELPERS} to map more than its own id ({PACKAGE})"
            ))),
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cgroup::Layout;

    fn line(container: u32, host: u32, size: u32) -> IdMap {
        IdMap {
            container,
            host,
            size,
        }
    }

    fn user(helpers: bool) -> Host {
        let helper = |name: &str| std::path::PathBuf::from("/usr/bin").join(name);
        Host {
            euid: 1000,
            egid: 1001,
            capabilities: 0,
            own_ids: None,
            subordinate: Some(Subordinate {
                uid: vec![(100_000, 65_536)],
                gid: vec![(200_000, 65_536)],
                helpers: helpers.then(|| (helper("newuidmap"), helper("newgidmap"))),
                name: Some("alice".to_owned()),
                free: 300_000,
            }),
            layout: Layout::None,
            modules: Default::default(),
            kernel_views: Vec::new(),
            shows_cgroups: Vec::new(),
            kcore: false,
        }
    }

    fn config(text: &str) -> Spec {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn an_ordinary_user_maps_its_own_id_without_help_and_gives_up_setgroups() {
        let maps = IdMaps {
            uid: vec![line(0, 1000, 1)],
            gid: vec![line(0, 1001, 1)],
            ..IdMaps::default()
        };
        let written = writable(maps, &user(true)).unwrap();
        assert!(written.deny_setgroups);
        assert_eq!(written.helpers, None);
    }

    #[test]
    fn more_than_the_own_id_takes_the_helpers() {
        let mut plan = Plan::empty();
        let maps = maps(&config("{}"), &user(true), &mut plan).unwrap();
        assert_eq!(maps.uid, [line(0, 1000, 1), line(1, 100_000, 65_536)]);
        assert_eq!(maps.gid, [line(0, 1001, 1), line(1, 200_000, 65_536)]);
        assert!(maps.helpers.is_some());
        assert_eq!(plan.notices.len(), 1);
    }

    #[test]
    fn without_the_helpers_there_is_one_id() {
        let mut plan = Plan::empty();
        let maps = maps(&config("{}"), &user(false), &mut plan).unwrap();
        assert_eq!(maps.uid, [line(0, 1000, 1)]);
        assert!(maps.deny_setgroups);
    }

    #[test]
    fn maps_without_root_are_refused_by_their_pointer() {
        let text = r#"{"linux": {
            "uidMappings": [{"containerID": 1, "hostID": 1, "size": 9}],
            "gidMappings": [{"containerID": 0, "hostID": 1, "size": 9}]}}"#;
        let error = maps(&config(text), &user(true), &mut Plan::empty()).unwrap_err();
        assert_eq!(error.pointer(), Some("/linux/uidMappings"));
    }

    proptest! {
        #[test]
        fn a_mapped_id_lies_in_the_line_that_maps_it(
            lines in proptest::collection::vec((any::<u32>(), any::<u32>(), any::<u32>()), 0..6),
            id in any::<u32>(),
        ) {
            let map: Vec<IdMap> = lines.iter().map(|&(c, h, s)| line(c, h, s)).collect();
            let within = |line: &&IdMap| {
                let id = u64::from(id);
                let first = u64::from(line.container);
                id >= first && id < first + u64::from(line.size)
            };
            match to_host(&map, id) {
                Some(host) => {
                    let offset = |line: &IdMap| u64::from(id) - u64::from(line.container);
                    let same = |line: &IdMap| u64::from(line.host) + offset(line) == u64::from(host);
                    prop_assert!(map.iter().filter(within).any(same));
                }
                // Past the last id of the host there is none.
                None => {
                    let past = |line: &IdMap| {
                        u64::from(line.host) + u64::from(id - line.container) > u64::from(u32::MAX)
                    };
                    prop_assert!(map.iter().find(within).is_none_or(past));
                }
            }
        }

        #[test]
        fn subordinate_ranges_follow_the_own_id_without_gap_or_overlap(
            ranges in proptest::collection::vec((any::<u32>(), any::<u32>()), 0..8),
        ) {
            let map = after_root(1000, &ranges);
            let mut next = 0u64;
            for line in &map {
                prop_assert_eq!(u64::from(line.container), next);
                prop_assert!(line.size != 0);
                next += u64::from(line.size);
                prop_assert!(u64::from(line.host) + u64::from(line.size) <= u64::from(u32::MAX) + 1);
            }
            prop_assert!(next <= u64::from(u32::MAX) + 1);
        }
    }
}
