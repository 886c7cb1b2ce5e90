//! What a mount of type `cgroup` or `cgroup2` becomes: one cgroup2, or a tmpfs with a directory for
//! each v1 hierarchy. When it is mounted, the process has joined its cgroups (`cgroups`).

use nix::sched::CloneFlags;

use super::Plan;
use super::draft::{c_string, target};
use super::rootfs::Scene;
use super::wanted::Wanted;
use crate::cgroup::{CgroupMounts, LegacyMount};
use crate::error::Result;
use crate::step::{Attributes, FsOption, Link, Mount, Populate, Source, SourceLink, Step};

/// What no cgroup mount allows, whatever was asked.
const HARDENED: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;

impl Wanted<'_> {
    /// A mount that shows cgroups.
    pub(super) fn shows_cgroups(&self) -> bool {
        self.options.bind.is_none() && ["cgroup", "cgroup2"].contains(&self.fstype)
    }
}

impl Scene<'_> {
    pub(super) fn mount_cgroups(&self, wanted: &Wanted, plan: &mut Plan) -> Result<()> {
        let mut wanted = wanted.clone();
        self.protect(&mut wanted, plan);
        let wanted = &wanted;
        match self.request.cgroup.mounts(&self.host.layout) {
            CgroupMounts::None => {
                let text = "not mounted: this machine has no cgroup file system";
                plan.note(&*wanted.pointer, text);
                Ok(())
            }
            // A new mount takes 15 ms where there is no cgroup namespace, a clone none.
            CgroupMounts::Unified { mount, .. } if !self.fresh() => {
                let mount = mount.to_string_lossy();
                let source = (&*mount, wanted.pointer.clone());
                let attributes = self.cut_off(wanted.options.attributes);
                self.bind(wanted, source, false, attributes, plan)
            }
            CgroupMounts::Unified { .. } => self.mount_anew(wanted, "cgroup2", "", None, plan),
            CgroupMounts::Legacy(_) if wanted.fstype == "cgroup2" => self.fresh_mount(wanted, plan),
            CgroupMounts::Legacy(hierarchies) => self.legacy(wanted, &hierarchies, plan),
        }
    }

    /// What shows more cgroups than the container's own is read-only where their owner may be
    /// root of the container (CVE-2023-25809).
    fn protect(&self, wanted: &mut Wanted, plan: &mut Plan) {
        let rootless = self.namespaces.other_user() || self.host.rootless();
        let attributes = &mut wanted.options.attributes;
        if !rootless || self.fresh() || attributes.set & libc::MOUNT_ATTR_RDONLY != 0 {
            return;
        }
        attributes.set |= libc::MOUNT_ATTR_RDONLY;
        attributes.clear &= !libc::MOUNT_ATTR_RDONLY;
        let text = "it is made read-only: without a cgroup namespace of its own, a user namespace \
                    would reach cgroups of the host";
        plan.note(&*wanted.pointer, text);
    }

    /// Whether the child may mount cgroups anew, and sees its own as their root.
    fn fresh(&self) -> bool {
        let kind = CloneFlags::CLONE_NEWCGROUP;
        self.namespaces.private(kind) && self.namespaces.owns(kind)
    }

    fn legacy(&self, wanted: &Wanted, hierarchies: &[LegacyMount], plan: &mut Plan) -> Result<()> {
        let here = &wanted.pointer;
        let read_only = wanted.options.attributes.set & libc::MOUNT_ATTR_RDONLY;
        let mut attributes = wanted.options.attributes;
        attributes.set = attributes.set & !libc::MOUNT_ATTR_RDONLY | HARDENED;
        self.furnish_legacy(wanted, attributes, hierarchies, plan)?;
        for hierarchy in hierarchies {
            let place = format!("{}/{}", wanted.place(), hierarchy.name);
            if self.fresh() {
                self.mount_anew(wanted, "cgroup", &hierarchy.options, Some(&place), plan)?;
            } else {
                let directory = Wanted {
                    target: target(&place, here)?,
                    ..wanted.clone()
                };
                let source = hierarchy.dir.to_string_lossy();
                let source = (&*source, here.clone());
                let attributes = self.cut_off(Attributes::default());
                self.bind(&directory, source, false, attributes, plan)?;
            }
        }
        // Mounts made anew have their attributes already; clones get them all at once.
        let last = match self.fresh() {
            true => Attributes {
                set: read_only,
                ..Attributes::default()
            },
            false => Attributes {
                recursive_set: attributes.set | read_only,
                recursive_clear: attributes.clear,
                ..Attributes::default()
            },
        };
        if last != Attributes::default() {
            let step = Step::Attributes {
                target: wanted.target.clone(),
                attributes: last,
            };
            plan.step_for(step, here.clone());
        }
        Ok(())
    }

    /// A tmpfs with all places at once: each mount then finds its own by one walk.
    fn furnish_legacy(
        &self,
        wanted: &Wanted,
        attributes: Attributes,
        hierarchies: &[LegacyMount],
        plan: &mut Plan,
    ) -> Result<()> {
        let here = &wanted.pointer;
        let tmpfs = Mount {
            source: Source::New {
                fstype: c"tmpfs".to_owned(),
                label: c"tmpfs".to_owned(),
                options: vec![FsOption {
                    key: c"mode".to_owned(),
                    value: Some(c"755".to_owned()),
                    ..FsOption::default()
                }],
            },
            target: wanted.target.clone(),
            attributes,
            inherit_mode: false,
            copy_up: false,
            kept: None,
            source_link: SourceLink::Follow,
            owners: None,
        };
        plan.step_for(Step::Mount(tmpfs), here.clone());
        let mut places = Populate {
            directory: wanted.target.clone(),
            directories: Vec::new(),
            nodes: Vec::new(),
            links: Vec::new(),
        };
        for hierarchy in hierarchies {
            let name = c_string(hierarchy.name.as_str(), here)?;
            for link in &hierarchy.links {
                places.links.push(Link {
                    name: c_string(link.as_str(), here)?,
                    to: name.clone(),
                });
            }
            places.directories.push(name);
        }
        plan.step_for(Step::Populate(places), here.clone());
        Ok(())
    }

    fn mount_anew(
        &self,
        wanted: &Wanted,
        fstype: &str,
        options: &str,
        place: Option<&str>,
        plan: &mut Plan,
    ) -> Result<()> {
        let here = &wanted.pointer;
        let options = options.split(',').filter(|option| !option.is_empty());
        let options = options.map(|option| {
            let (key, value) = match option.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (option, None),
            };
            Ok(FsOption {
                key: c_string(key, here)?,
                value: value.map(|value| c_string(value, here)).transpose()?,
                ..FsOption::default()
            })
        });
        let mount = Mount {
            source: Source::New {
                fstype: c_string(fstype, here)?,
                label: c"cgroup".to_owned(),
                options: options.collect::<Result<_>>()?,
            },
            target: match place {
                Some(place) => target(place, here)?,
                None => wanted.target.clone(),
            },
            attributes: wanted.options.attributes,
            inherit_mode: false,
            copy_up: false,
            kept: None,
            source_link: SourceLink::Follow,
            owners: None,
        };
        plan.step_for(Step::Mount(mount), here.clone());
        Ok(())
    }
}
