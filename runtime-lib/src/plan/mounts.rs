//! The entries of `mounts`, each turned into the one way of making it that this caller, in
//! these namespaces, is allowed. It must not look at the container's root filesystem.

use std::path::Path;

use nix::sched::CloneFlags;
use oci_spec::runtime::Mount as Entry;

use super::draft::{c_string, target};
use super::idmap;
use super::mount_options::{Options, flags, refuse_data};
use super::rootfs::Scene;
use super::{Open, Plan};
use crate::error::{Code, Error, Result};
use crate::step::{
    Attributes, FsOption, Links, Mount, Source, SourceLink, Step, Target, namespaces,
};

/// A mount of the configuration, before its step is written down.
#[derive(Clone)]
pub(super) struct Wanted<'a> {
    pub entry: &'a Entry,
    pub pointer: String,
    pub fstype: &'a str,
    pub destination: &'a str,
    pub target: Target,
    pub options: Options,
    /// See [`Mount::kept`].
    pub kept: Option<usize>,
}

/// The files below /proc that lxcfs and the like may be mounted over.
const OVER_PROC: [&str; 10] = [
    "proc/cpuinfo",
    "proc/diskstats",
    "proc/meminfo",
    "proc/stat",
    "proc/swaps",
    "proc/uptime",
    "proc/loadavg",
    "proc/slabinfo",
    "proc/sys/kernel/ns_last_pid",
    "proc/sys/crypto/fips_enabled",
];

/// File systems without a device below them: their superblock stays writable when the mount
/// is read-only, because it may be shared with others.
const VIRTUAL: [&str; 9] = [
    "proc",
    "sysfs",
    "tmpfs",
    "ramfs",
    "devpts",
    "mqueue",
    "cgroup",
    "cgroup2",
    "securityfs",
];

/// A file system that shows a namespace.
struct Shows {
    fstype: &'static str,
    namespace: CloneFlags,
    /// Where the host has one.
    host: &'static str,
    /// It tells what the others in the namespace do.
    tells: bool,
}

const SHOWS: [Shows; 3] = [
    Shows {
        fstype: "proc",
        namespace: CloneFlags::CLONE_NEWPID,
        host: "/proc",
        tells: true,
    },
    Shows {
        fstype: "sysfs",
        namespace: CloneFlags::CLONE_NEWNET,
        host: "/sys",
        tells: false,
    },
    Shows {
        fstype: "mqueue",
        namespace: CloneFlags::CLONE_NEWIPC,
        host: "/dev/mqueue",
        tells: true,
    },
];

impl<'a> Wanted<'a> {
    /// The entry at this JSON pointer.
    pub(super) fn parse(entry: &'a Entry, pointer: String, plan: &mut Plan) -> Result<Wanted<'a>> {
        let here = format!("{pointer}/destination");
        let destination = entry.destination().to_str().unwrap_or_default();
        let mut options = Options::parse(entry.options().as_deref().unwrap_or_default(), &pointer)?;
        plan.notices.append(&mut options.notices);
        let fstype = entry.typ().as_deref().unwrap_or_default();
        if fstype == "bind" && options.bind.is_none() {
            options.bind = Some(false);
        }
        let mut target = target(destination, &here)?;
        if options.onto_link {
            target.links = Links::KeepLast;
        }
        let shows_kernel = options.bind.is_none() && ["proc", "sysfs"].contains(&fstype);
        if shows_kernel || target.path.to_bytes() == b"dev" {
            target = target.plain();
        }
        let wanted = Wanted {
            entry,
            fstype,
            destination,
            target,
            options,
            pointer,
            kept: None,
        };
        refuse_place(&wanted)?;
        wanted.refuse_words()?;
        wanted.note_words(plan);
        Ok(wanted)
    }

    /// Refuses words that this kind of mount can't follow.
    fn refuse_words(&self) -> Result<()> {
        let (options, at) = (&self.options, |word: &str| self.option_pointer(word));
        let refused = |tail: &str, word| {
            let error = Error::new(Code::InvalidConfig, tail);
            Err(error.at(at(word)))
        };
        if options.copy_up && (options.bind.is_some() || self.fstype != "tmpfs") {
            return refused("tmpcopyup needs a mount of type tmpfs", "tmpcopyup");
        }
        if options.copy_up && self.target.is_root() {
            return refused("tmpcopyup can't copy the whole root", "tmpcopyup");
        }
        Ok(())
    }

    /// Notes words that have no effect on this kind of mount, and what a place hides.
    fn note_words(&self, plan: &mut Plan) {
        let options = &self.options;
        if options.bind.is_some() && !options.remount {
            let flags = options.superblock.iter().chain(&options.superblock_back);
            for word in flags {
                let text = format!(
                    "{word} has no effect on a bind: it is the whole file system's, which \
                     belongs to others too"
                );
                plan.note(self.option_pointer(word), text);
            }
        }
        if options.bind.is_none() {
            let word = match options.source_link {
                Some(SourceLink::Copy) => "copy-symlink",
                Some(_) => "src-nofollow",
                None => "",
            };
            if !word.is_empty() {
                let text = format!("{word} has no effect: only a bind has a source to follow");
                plan.note(self.option_pointer(word), text);
            }
        }
        if self.target.is_root() && !options.remount {
            let text = "it covers the root filesystem, and the mounts before it";
            plan.note(format!("{}/destination", self.pointer), text);
        }
    }

    /// JSON pointer of one of the options.
    fn option_pointer(&self, said: &str) -> String {
        let words = self.entry.options().as_deref().unwrap_or_default();
        match words.iter().position(|word| word == said) {
            Some(n) => format!("{}/options/{n}", self.pointer),
            None => format!("{}/options", self.pointer),
        }
    }

    /// The path below the root, without a leading slash; "." is the root.
    pub(super) fn place(&self) -> &str {
        self.target.path.to_str().unwrap_or_default()
    }

    pub(super) fn source(&self) -> &'a str {
        let source = self.entry.source().as_deref();
        source.and_then(Path::to_str).unwrap_or_default()
    }

    fn read_only(&self) -> bool {
        self.options.attributes.set & libc::MOUNT_ATTR_RDONLY != 0
    }

    /// What a bind of this source, in a container with a user namespace or without, is given:
    /// a recursive one that is read-only is so all the way down in /sys. Else the cgroups below
    /// it stay writable for whoever owns them (CVE-2023-25809).
    pub(super) fn bound_attributes(&self, source: &Path, other_user: bool) -> Attributes {
        let mut attributes = self.options.attributes;
        if self.options.bind == Some(true) && other_user && source.starts_with("/sys") {
            attributes.recursive_set |= attributes.set & libc::MOUNT_ATTR_RDONLY;
        }
        attributes
    }

    /// Whether it is mounted writable first, because files are made in it.
    fn filled_later(&self) -> bool {
        self.options.bind.is_none() && (self.fstype == "tmpfs" || self.place() == "dev")
    }
}

impl Scene<'_> {
    /// The steps of one mount; what has to wait for the end is appended to `at_end`.
    pub(super) fn mount(
        &self,
        wanted: &mut Wanted,
        plan: &mut Plan,
        at_end: &mut Vec<(Step, String)>,
    ) -> Result<()> {
        if wanted.options.remount {
            return self.remount(wanted, plan);
        }
        if let Some(recursive) = wanted.options.bind {
            return self.bind_entry(wanted, recursive, plan);
        }
        let stand_in = self.stand_in(wanted)?;
        if wanted.read_only() && wanted.filled_later() && stand_in.is_none() {
            wanted.options.attributes.set &= !libc::MOUNT_ATTR_RDONLY;
            let target = wanted.target.clone();
            let step = match target.is_root() {
                // The child keeps that one for all that follows.
                true => Step::Attributes {
                    target,
                    attributes: Attributes {
                        set: libc::MOUNT_ATTR_RDONLY,
                        ..Attributes::default()
                    },
                },
                false => Step::Protect {
                    kept: *wanted.kept.insert(at_end.len()),
                    target,
                },
            };
            at_end.push((step, wanted.pointer.clone()));
        }
        match stand_in {
            Some(path) => self.bind_stand_in(wanted, path, plan),
            None => self.fresh_mount(wanted, plan),
        }
    }

    /// A file system of its own.
    pub(super) fn fresh_mount(&self, wanted: &Wanted, plan: &mut Plan) -> Result<()> {
        let fstype = match wanted.fstype {
            "" | "none" => {
                let tail = "a mount needs a type, or the option bind or rbind";
                return Err(
                    Error::new(Code::InvalidConfig, tail).at(format!("{}/type", wanted.pointer))
                );
            }
            fstype => fstype,
        };
        let read_only = wanted.read_only() && !VIRTUAL.contains(&fstype);
        let words = wanted.options.superblock.iter();
        let words = words.chain(read_only.then_some(&"ro"));
        let mut options = flags(words, &wanted.pointer)?;
        for option in &wanted.options.data {
            if self.keeps(wanted, option, plan)? {
                options.push(option.clone());
            }
        }
        let source = match wanted.source() {
            "" => fstype,
            source => source,
        };
        let mount = Mount {
            source: Source::New {
                fstype: c_string(fstype, &wanted.pointer)?,
                label: c_string(source, &format!("{}/source", wanted.pointer))?,
                options,
            },
            target: wanted.target.clone(),
            attributes: wanted.options.attributes,
            inherit_mode: fstype == "tmpfs" && wanted.options.value("mode").is_none(),
            copy_up: wanted.options.copy_up,
            kept: wanted.kept,
            source_link: SourceLink::Follow,
            owners: self.mapped_file_system(wanted, plan)?,
        };
        let step = match fstype {
            "sysfs" if self.namespaces.other_user() || self.host.own_ids.is_some() => {
                Step::MountOr {
                    otherwise: Box::new(self.bound_sys(&mount)),
                    mount,
                }
            }
            _ => Step::Mount(mount),
        };
        plan.step_for(step, wanted.pointer.clone());
        Ok(())
    }

    /// Whether an option goes to the file system; ids that aren't mapped don't.
    fn keeps(&self, wanted: &Wanted, option: &FsOption, plan: &mut Plan) -> Result<bool> {
        let key = option.key.to_str().unwrap_or_default();
        if wanted.fstype == "devpts" && key == "newinstance" {
            return Ok(false); // every mount of devpts is a new instance (since Linux 4.7)
        }
        let Some(ids) = &self.namespaces.ids else {
            return Ok(true);
        };
        let map = match key {
            "uid" => &ids.uid,
            "gid" => &ids.gid,
            _ => return Ok(true),
        };
        let id = option.value.as_ref().and_then(|value| value.to_str().ok());
        match id.and_then(|id| id.parse().ok()) {
            Some(id) if !idmap::covers(map, id) => {
                let said = format!("{key}={id}");
                let place = wanted.option_pointer(&said);
                if wanted.fstype != "devpts" {
                    let tail = format!(
                        "cannot specify {said} mount option for rootless container: it is not mapped"
                    );
                    return Err(Error::new(Code::InvalidConfig, tail).at(place));
                }
                plan.note(place, format!("{said} is left out: it is not mapped"));
                Ok(false)
            }
            _ => Ok(true),
        }
    }

    /// What of the host is bound where the kernel refuses a new mount: one that shows
    /// namespaces that belong to another user namespace.
    fn stand_in(&self, wanted: &Wanted) -> Result<Option<&'static str>> {
        let found = SHOWS.iter().find(|shows| shows.fstype == wanted.fstype);
        let Some(shows) = found.filter(|shows| !self.namespaces.owns(shows.namespace)) else {
            return Ok(None);
        };
        if shows.tells && self.namespaces.joined(shows.namespace) {
            // The host's would show the host's processes and queues instead of the pod's.
            let tail = format!(
                "{} can't be mounted: the {} namespace belongs to another user namespace",
                shows.fstype,
                namespaces(shows.namespace)
            );
            return Err(Error::new(Code::InvalidConfig, tail).at(&*wanted.pointer));
        }
        Ok(Some(shows.host))
    }

    /// The caller's /sys with all below it: what a user namespace is shown when parts of that
    /// are covered (mount_too_revealing in the kernel).
    fn bound_sys(&self, mount: &Mount) -> Mount {
        let mut attributes = self.cut_off(mount.attributes);
        attributes.recursive_set |= attributes.set;
        Mount {
            source: Source::Bind {
                path: c"/sys".to_owned(),
                recursive: true,
            },
            attributes,
            ..mount.clone()
        }
    }

    fn bind_stand_in(&self, wanted: &Wanted, path: &str, plan: &mut Plan) -> Result<()> {
        let text = format!(
            "{path} is bound instead: a user namespace can't mount {} for namespaces of others",
            wanted.fstype
        );
        plan.note(&*wanted.pointer, text);
        let mut attributes = wanted.options.attributes;
        // What lies below comes along, so that what was asked for holds there as well.
        attributes.recursive_set |= attributes.set;
        let pointer = wanted.pointer.clone();
        self.bind(
            wanted,
            (path, pointer),
            true,
            self.cut_off(attributes),
            plan,
        )
    }

    fn bind_entry(&self, wanted: &Wanted, recursive: bool, plan: &mut Plan) -> Result<()> {
        refuse_data(&wanted.options.data, Code::InvalidConfig)
            .map_err(|error| error.at(format!("{}/options", wanted.pointer)))?;
        let here = format!("{}/source", wanted.pointer);
        let source = match wanted.source() {
            "" => {
                return Err(
                    Error::new(Code::InvalidConfig, "a bind mount needs a source").at(here),
                );
            }
            source => self.request.bundle.join(source),
        };
        let attributes = wanted.bound_attributes(&source, self.namespaces.other_user());
        let source = source.to_str().unwrap_or_default();
        self.bind(wanted, (source, here), recursive, attributes, plan)
    }

    /// A clone of the mount at a path of the host, with the pointer that asked for it.
    pub(super) fn bind(
        &self,
        wanted: &Wanted,
        (path, pointer): (&str, String),
        recursive: bool,
        attributes: Attributes,
        plan: &mut Plan,
    ) -> Result<()> {
        let name = c_string(path, &pointer)?;
        let owners = self.mapped_owners(wanted, plan)?;
        let source_link = wanted.options.source_link.unwrap_or(SourceLink::Follow);
        let source = if self.parent_opens() && !self.mounted_by_the_child(path, plan) {
            Source::Opened {
                tree: plan.open(Open::Tree {
                    path: path.into(),
                    recursive,
                    follow: source_link == SourceLink::Follow,
                    owners: owners.clone(),
                    propagation: self.tree_propagation(),
                    pointer,
                }),
                path: name,
                recursive,
            }
        } else {
            Source::Bind {
                path: name,
                recursive,
            }
        };
        let mount = Mount {
            source,
            target: wanted.target.clone(),
            attributes,
            inherit_mode: false,
            copy_up: false,
            kept: None,
            source_link,
            owners,
        };
        plan.step_for(Step::Mount(mount), wanted.pointer.clone());
        Ok(())
    }

    /// A source below the container's own root that an earlier mount covers: only the child has
    /// that mount, and the parent would open what lies under it.
    fn mounted_by_the_child(&self, source: &str, plan: &Plan) -> bool {
        let Ok(below) = Path::new(source).strip_prefix(self.request.rootfs) else {
            return false;
        };
        plan.steps.iter().any(|planned| match &planned.step {
            Step::Mount(mount) | Step::MountOr { mount, .. } => {
                let place = mount.target.path.to_str().unwrap_or_default();
                mount.target.is_root() || below.starts_with(place)
            }
            _ => false,
        })
    }

    /// Root of a user namespace can't walk to every source that its privileged creator can.
    pub(super) fn parent_opens(&self) -> bool {
        self.namespaces.other_user() && self.host.has(caps::Capability::CAP_SYS_ADMIN)
    }

    /// Other flags for the mount that is there, then other options for its file system, which
    /// everybody who has it mounted sees.
    fn remount(&self, wanted: &Wanted, plan: &mut Plan) -> Result<()> {
        let options = &wanted.options;
        let words = options.superblock.iter().chain(&options.superblock_back);
        let mut asked = flags(words, &wanted.pointer)?;
        asked.extend(options.data.iter().cloned());
        if options.bind.is_some() {
            refuse_data(&asked, Code::InvalidConfig)
                .map_err(|error| error.at(format!("{}/options", wanted.pointer)))?;
        }
        let attributes = options.attributes;
        if attributes != Attributes::default() || asked.is_empty() {
            let step = Step::Attributes {
                target: wanted.target.clone(),
                attributes,
            };
            plan.step_for(step, wanted.pointer.clone());
        }
        if !asked.is_empty() {
            let step = Step::Reconfigure {
                target: wanted.target.clone(),
                options: asked,
            };
            plan.step_for(step, wanted.pointer.clone());
        }
        Ok(())
    }
}

/// Whether a path below the root is one of the few in /proc that may be covered.
pub(super) fn over_proc(place: &str) -> bool {
    OVER_PROC.contains(&place)
}

/// Refuses to cover what processes trust in /proc (CVE-2019-16884).
pub(super) fn refuse_place(wanted: &Wanted) -> Result<()> {
    let Wanted {
        destination,
        fstype,
        ..
    } = wanted;
    let tail = match wanted.place() {
        "proc" if wanted.options.bind.is_none() && *fstype != "proc" => {
            format!("{destination:?} cannot be mounted because it is not of type proc")
        }
        place if place.starts_with("proc/") && !over_proc(place) => {
            format!("{destination:?} cannot be mounted because it is inside /proc")
        }
        _ => return Ok(()),
    };
    Err(Error::new(Code::InvalidConfig, tail).at(format!("{}/destination", wanted.pointer)))
}
