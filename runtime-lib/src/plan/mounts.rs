//! The entries of `mounts`, each turned into the one way of making it that this caller, in
//! these namespaces, is allowed. It must not look at the container's root filesystem.

use std::path::Path;

use nix::sched::CloneFlags;

use super::draft::c_string;
use super::mount_options::{flags, refuse_data};
use super::rootfs::Scene;
use super::wanted::Wanted;
use super::{Open, Plan, idmap, overlay_options};
use crate::error::{Code, Error, Result};
use crate::step::{Attributes, FsOption, Mount, Source, SourceLink, Step, namespaces};

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
        let owners = self.mapped_file_system(wanted, plan)?;
        let label = c_string(source, &format!("{}/source", wanted.pointer))?;
        let name = c_string(fstype, &wanted.pointer)?;
        if fstype == "overlay" {
            overlay_options::name_directories(&mut options, &wanted.pointer)?;
        }
        let source = match &owners {
            Some(owners) if self.parent_opens() => Source::Made {
                mount: plan.open(Open::FileSystem {
                    fstype: name.clone(),
                    label,
                    options: options.clone(),
                    owners: owners.clone(),
                    pointer: wanted.pointer.clone(),
                }),
                fstype: name,
                options,
            },
            _ => Source::New {
                fstype: name,
                label,
                options,
            },
        };
        let mount = Mount {
            source,
            target: wanted.target.clone(),
            attributes: wanted.options.attributes,
            inherit_mode: fstype == "tmpfs" && wanted.options.value("mode").is_none(),
            copy_up: wanted.options.copy_up,
            kept: wanted.kept,
            source_link: SourceLink::Follow,
            owners,
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
        let other_user = self.namespaces.other_user();
        let attributes = wanted.bound_attributes(self.host.shows_cgroups(&source), other_user);
        if attributes != wanted.options.attributes && !source.starts_with("/sys") {
            let text = "it is read-only all the way down: it shows cgroups of the host";
            plan.note(&*wanted.pointer, text);
        }
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
        let by_the_child = !self.parent_opens() || self.mounted_by_the_child(path, plan);
        if let (true, true, Some(at)) = (by_the_child, self.parent_opens(), wanted.asks_for_maps())
        {
            // Neither side may: the mount is the child's alone, and the file system's owners, or
            // the namespace of the maps, are the parent's.
            let tail = "what an earlier mount of the container shows can't be id-mapped in a \
                        container with a user namespace";
            return Err(Error::new(Code::InvalidConfig, tail)
                .at(at)
                .hint("give that mount the maps, or name its own source here"));
        }
        let owners = self.mapped_owners(wanted, plan)?;
        let source_link = wanted.options.source_link.unwrap_or(SourceLink::Follow);
        let source = if !by_the_child {
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
