//! Id-mapped mounts: whose maps the owners of the files are seen through (config.md
//! "uidMappings", mount_setattr(2) "ID-mapped mounts"). An entry's own maps come first, then
//! those that stand behind the option, then the container's user namespace.
//!
//! A map's first number is the id in the file system, its second the id on the host.

use nix::sched::CloneFlags;

use super::rootfs::Scene;
use super::wanted::Wanted;
use super::{IdMap, IdMaps, Open, Plan};
use crate::error::{Code, Error, Result};
use crate::step::{MappedOwners, Slot};

/// File systems that show the kernel, not files with owners.
const WITHOUT_OWNERS: [&str; 7] = [
    "proc",
    "sysfs",
    "mqueue",
    "devpts",
    "cgroup",
    "cgroup2",
    "securityfs",
];

impl Wanted<'_> {
    /// Whether anything asks for an id-mapped mount, and the JSON pointer of what does.
    pub(super) fn asks_for_maps(&self) -> Option<String> {
        let entry = self.entry;
        let given = [entry.uid_mappings(), entry.gid_mappings()];
        let listed = given
            .iter()
            .any(|maps| maps.as_deref().is_some_and(|maps| !maps.is_empty()));
        match &self.options.map_owners {
            Some(option) => Some(option.pointer.clone()),
            None => listed.then(|| format!("{}/uidMappings", self.pointer)),
        }
    }

    fn own_maps(&self) -> Option<IdMaps> {
        let list = |maps: &Option<Vec<_>>| maps.iter().flatten().map(IdMap::from).collect();
        let maps = IdMaps {
            uid: list(self.entry.uid_mappings()),
            gid: list(self.entry.gid_mappings()),
            ..IdMaps::default()
        };
        (!maps.uid.is_empty() && !maps.gid.is_empty()).then_some(maps)
    }
}

impl Scene<'_> {
    /// The maps of a file system that is mounted anew.
    pub(super) fn mapped_file_system(
        &self,
        wanted: &Wanted,
        plan: &mut Plan,
    ) -> Result<Option<MappedOwners>> {
        let Some(pointer) = wanted.asks_for_maps() else {
            return Ok(None);
        };
        if self.namespaces.other_user() && wanted.options.copy_up {
            let tail = "tmpcopyup can't be id-mapped in a container with a user namespace";
            return Err(Error::new(Code::InvalidConfig, tail).at(pointer));
        }
        self.mapped_owners(wanted, plan)
    }

    /// The maps of a mount, if it asks for any.
    pub(super) fn mapped_owners(
        &self,
        wanted: &Wanted,
        plan: &mut Plan,
    ) -> Result<Option<MappedOwners>> {
        let Some(pointer) = wanted.asks_for_maps() else {
            return Ok(None);
        };
        let refused = |tail: String| Err(Error::new(Code::InvalidConfig, tail).at(&*pointer));
        if wanted.options.bind.is_none() && WITHOUT_OWNERS.contains(&wanted.fstype) {
            return refused(format!("{} can't be id-mapped", wanted.fstype));
        }
        if !self.host.has(caps::Capability::CAP_SYS_ADMIN) {
            return refused(
                "id-mapped mounts are not supported for rootless containers".to_owned(),
            );
        }
        let option = wanted.options.map_owners.as_ref();
        let inline = option.and_then(|option| option.inline.as_deref());
        let maps = match (wanted.own_maps(), inline) {
            (Some(_), Some(_)) => {
                return refused("there are maps in uidMappings already".to_owned());
            }
            (Some(maps), None) => Some(maps),
            (None, Some(text)) => match self.inline(text) {
                Ok(maps) => Some(maps),
                Err(tail) => return refused(tail),
            },
            (None, None) => match self.containers_maps() {
                Some(maps) => maps,
                None => {
                    return refused(
                        "an id-mapped mount needs uidMappings and gidMappings, or a container \
                         with a user namespace"
                            .to_owned(),
                    );
                }
            },
        };
        Ok(Some(MappedOwners {
            user: user_namespace(maps.as_ref(), &pointer, plan),
            recursive: option.is_some_and(|option| option.recursive),
            maps,
        }))
    }

    /// The maps of the container's user namespace, if it has one; of one that is joined only
    /// its file is known.
    fn containers_maps(&self) -> Option<Option<IdMaps>> {
        let user = CloneFlags::CLONE_NEWUSER;
        if self.namespaces.joined(user) {
            return Some(None);
        }
        let maps = self.namespaces.ids.as_ref()?;
        Some(Some(IdMaps {
            uid: maps.uid.clone(),
            gid: maps.gid.clone(),
            ..IdMaps::default()
        }))
    }

    /// `uids=0-100000-10#10-5-1;gids=@0-0-10`: triples of an id in the file system, an id on
    /// the host and a count; behind `@` the second is an id of the container.
    fn inline(&self, text: &str) -> std::result::Result<IdMaps, String> {
        let mut maps = IdMaps::default();
        let container = self.namespaces.ids.as_ref();
        for part in text.split(';').filter(|part| !part.is_empty()) {
            let (list, triples, ids) = match part.split_once('=') {
                Some(("uids", list)) => (&mut maps.uid, list, container.map(|ids| &ids.uid)),
                Some(("gids", list)) => (&mut maps.gid, list, container.map(|ids| &ids.gid)),
                _ => return Err(format!("{part:?} is neither uids=… nor gids=…")),
            };
            for triple in triples.split('#') {
                let ids = ids.map(Vec::as_slice);
                list.extend(lines(triple, ids).map_err(|why| format!("{triple:?} {why}"))?);
            }
        }
        match maps.uid.is_empty() || maps.gid.is_empty() {
            true => {
                Err("id-mapped mounts must have both uid and gid mappings specified".to_owned())
            }
            false => Ok(maps),
        }
    }
}

/// The lines of a triple; more than one where it goes over several ranges of the container.
fn lines(
    triple: &str,
    container: Option<&[IdMap]>,
) -> std::result::Result<Vec<IdMap>, &'static str> {
    let (triple, relative) = match triple.strip_prefix('@') {
        Some(triple) => (triple, true),
        None => (triple, false),
    };
    let numbers: Option<Vec<u32>> = triple.split('-').map(|n| n.parse().ok()).collect();
    let Some([inside, host, size]) = numbers.as_deref() else {
        return Err("is not of the form FIRST-HOST-COUNT");
    };
    let (mut inside, mut host, mut size) = (*inside, *host, *size);
    let past = |first: u32| first.checked_add(size).is_none();
    if size == 0 || past(inside) || past(host) {
        return Err("has a count of 0, or one that goes past the last id");
    }
    if !relative {
        return Ok(vec![IdMap {
            container: inside,
            host,
            size,
        }]);
    }
    let container = container.ok_or("is relative, and the container has no known ids")?;
    let mut lines = Vec::new();
    while size > 0 {
        let within = |line: &&IdMap| host >= line.container && host - line.container < line.size;
        let line = container.iter().find(within);
        let line = line.ok_or("has an id that the container lacks")?;
        let skipped = host - line.container;
        let taken = size.min(line.size - skipped);
        lines.push(IdMap {
            container: inside,
            host: line.host + skipped,
            size: taken,
        });
        (inside, host, size) = (inside + taken, host + taken, size - taken);
    }
    Ok(lines)
}

/// Where the user namespace with these maps is opened: mounts with the same maps share it.
fn user_namespace(maps: Option<&IdMaps>, pointer: &str, plan: &mut Plan) -> Slot {
    let user = CloneFlags::CLONE_NEWUSER;
    let same = |open: &Open| match (open, maps) {
        (Open::UserNamespace { maps: had, .. }, Some(maps)) => had == maps,
        (Open::Namespace { namespace, .. }, None) => *namespace == user,
        _ => false,
    };
    match (plan.opens.iter().position(same), maps) {
        (Some(n), _) => Slot(n),
        (None, maps) => plan.open(Open::UserNamespace {
            maps: maps.cloned().unwrap_or_default(),
            pointer: pointer.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(container: u32, host: u32, size: u32) -> IdMap {
        IdMap {
            container,
            host,
            size,
        }
    }

    #[test]
    fn a_triple_is_one_line() {
        assert_eq!(lines("0-100000-10", None), Ok(vec![line(0, 100_000, 10)]));
        for wrong in [
            "",
            "1-2",
            "1-2-3-4",
            "a-1-1",
            "0-0-0",
            "1-1-4294967295",
            "-1-1-1",
        ] {
            assert!(lines(wrong, None).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_relative_triple_is_cut_where_the_containers_ranges_end() {
        let container = [line(0, 1000, 1), line(1, 200_000, 9)];
        assert_eq!(
            lines("@5-0-4", Some(&container)),
            Ok(vec![line(5, 1000, 1), line(6, 200_000, 3)])
        );
        assert!(lines("@0-8-3", Some(&container)).is_err());
        assert!(lines("@0-0-1", None).is_err());
    }
}
