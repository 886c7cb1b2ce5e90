//! From a config and a layout to the directories a container gets and the limits in them.
//!
//! Pure but for one question: a rootless caller's permission to make a directory. Where the
//! directories go is a contract with engines, which look for a container's figures there.

use std::path::{Component, Path, PathBuf};

use nix::unistd::{AccessFlags, access};
use oci_spec::runtime::LinuxResources;

use super::devices::{DevicePolicy, DeviceRules};
use super::layout::{Hierarchy, Layout};
use super::limits::{Limits, Version};
use super::plan::{CgroupPlan, Group, below};
use super::refused;
use crate::Notice;
use crate::container::CgroupDriver;
use crate::error::{Code, Error, Result};

const PATH: &str = "/linux/cgroupsPath";
const DEVICES: &str = "/linux/resources/devices";
const ROOTLESS: &str =
    "rootless needs no limits + no cgrouppath when no permission is granted for cgroups";

/// What a container asks for, and who asks.
#[derive(Clone, Copy, Debug)]
pub struct CgroupRequest<'a> {
    /// The driver.
    pub driver: CgroupDriver,
    /// linux.cgroupsPath. Empty is as good as absent.
    pub path: Option<&'a Path>,
    /// The container's id: the name of the default cgroup.
    pub id: &'a str,
    /// linux.resources.
    pub resources: Option<&'a LinuxResources>,
    /// linux.resources as it was written, for what the types cannot tell apart.
    pub raw: Option<&'a serde_json::Value>,
    /// The caller is not root, or root of a user namespace only: a cgroup that cannot be
    /// had is then no error, as long as nothing was asked of it.
    pub rootless: bool,
}

impl CgroupPlan {
    /// The directories and limits for one container.
    ///
    /// Without `cgroupsPath` a container lands in `ID` below the caller's own cgroup (v1), or
    /// beside the caller's own cgroup (v2); a relative path likewise; an absolute one counts
    /// from the mount.
    ///
    /// # Errors
    /// [`Code::InvalidConfig`] and [`Code::Unsupported`] with a JSON pointer, and
    /// [`Code::Cgroup`] when there is no cgroup to put the container in, though one is needed.
    pub fn resolve(
        layout: &Layout,
        request: &CgroupRequest<'_>,
    ) -> Result<(CgroupPlan, Limits, Vec<Notice>)> {
        let version = match layout {
            Layout::Legacy { .. } => Version::V1,
            Layout::Unified { .. } | Layout::None => Version::V2,
        };
        let mut notices = match request.resources {
            Some(resources) => refused::check(version, resources)?,
            None => Vec::new(),
        };
        let mut limits = Limits::read(version, request.resources, request.raw)?;
        let rules = DeviceRules::read(request.resources)?;
        let place = Place::read(request)?;
        let wanted = match (request.driver, layout) {
            (CgroupDriver::Disabled, _) => {
                disabled(&limits, &place, request, &mut notices)?;
                return Ok((CgroupPlan::default(), Limits::default(), notices));
            }
            (CgroupDriver::Cgroupfs, Layout::None) => CgroupPlan::default(),
            (CgroupDriver::Cgroupfs, Layout::Unified { mount, own }) => CgroupPlan {
                legacy: Vec::new(),
                unified: Some(group(mount, Vec::new(), place.beside(own))),
            },
            (
                CgroupDriver::Cgroupfs,
                Layout::Legacy {
                    hierarchies,
                    unified,
                },
            ) => CgroupPlan {
                legacy: hierarchies.iter().map(|h| place.in_legacy(h)).collect(),
                unified: unified.as_ref().map(|h| place.in_unified(h)),
            },
        };
        let plan = match request.rootless {
            true => permitted(wanted, &limits, &place, &mut notices)?,
            false if wanted.is_empty() => {
                return Err(
                    Error::new(Code::Cgroup, "cgroup mountpoint does not exist").hint(
                        "mount cgroup2 on /sys/fs/cgroup, or use the cgroup manager `disabled`",
                    ),
                );
            }
            false => wanted,
        };
        if version == Version::V1 {
            limits.need_mounted(&plan)?;
        }
        limits.devices = device_policy(&plan, rules, request, &mut notices)?;
        Ok((plan, limits, notices))
    }
}

/// The path that was asked for.
enum Place {
    /// From the mount.
    Absolute(PathBuf),
    /// From the caller's own cgroup or its parent. The default is the id.
    Relative { path: PathBuf, asked: bool },
}

impl Place {
    fn read(request: &CgroupRequest<'_>) -> Result<Place> {
        let refuse = |tail: &str| Err(Error::new(Code::InvalidConfig, tail).at(PATH));
        let Some(path) = request.path.filter(|p| !p.as_os_str().is_empty()) else {
            let path = PathBuf::from(request.id);
            return Ok(Place::Relative { path, asked: false });
        };
        let Some(text) = path.to_str() else {
            return refuse("not valid UTF-8");
        };
        if text.contains(['\0', '\n']) {
            return refuse("a NUL or a newline cannot be part of a cgroup's name");
        }
        let mut clean = PathBuf::new();
        for component in path.components() {
            match component {
                Component::Normal(name) if name.len() > 255 => return refuse("file name too long"),
                Component::Normal(name) => clean.push(name),
                Component::ParentDir => return refuse("`..` is not allowed in a cgroup path"),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        if clean.as_os_str().is_empty() {
            return refuse("the root of a hierarchy cannot be a container's cgroup");
        }
        if clean.as_os_str().len() > 3072 {
            return refuse("file name too long");
        }
        Ok(match path.is_absolute() {
            true => Place::Absolute(Path::new("/").join(clean)),
            false => Place::Relative {
                path: clean,
                asked: true,
            },
        })
    }

    fn asked(&self) -> bool {
        !matches!(self, Place::Relative { asked: false, .. })
    }

    /// v1's place: below the caller's own cgroup.
    fn within(&self, own: &Path) -> PathBuf {
        match self {
            Place::Absolute(path) => path.clone(),
            Place::Relative { path, .. } => own.join(path),
        }
    }

    /// cgroup2's: beside it, for a cgroup2 with processes has no limited children.
    fn beside(&self, own: &Path) -> PathBuf {
        self.within(own.parent().unwrap_or(own))
    }

    fn in_legacy(&self, hierarchy: &Hierarchy) -> Group {
        let path = self.within(&hierarchy.own_below_mount());
        group(&hierarchy.mount, hierarchy.controllers.clone(), path)
    }

    fn in_unified(&self, hierarchy: &Hierarchy) -> Group {
        group(
            &hierarchy.mount,
            Vec::new(),
            self.beside(&hierarchy.own_below_mount()),
        )
    }
}

fn group(mount: &Path, controllers: Vec<String>, path: PathBuf) -> Group {
    Group {
        controllers,
        mount: mount.to_path_buf(),
        path,
    }
}

/// No driver: whatever needs one is refused.
fn disabled(
    limits: &Limits,
    place: &Place,
    request: &CgroupRequest<'_>,
    notices: &mut Vec<Notice>,
) -> Result<()> {
    if let Some(setting) = limits.settings.first() {
        return Err(
            Error::new(Code::InvalidConfig, "the cgroup manager is disabled")
                .at(setting.row.pointer)
                .hint("a limit needs a cgroup"),
        );
    }
    if place.asked() {
        notices.push(Notice::new(PATH, "ignored: the cgroup manager is disabled"));
    }
    if lists_devices(request) {
        notices.push(Notice::new(
            DEVICES,
            "not enforced: the cgroup manager is disabled",
        ));
    }
    Ok(())
}

fn lists_devices(request: &CgroupRequest<'_>) -> bool {
    let devices = request.resources.and_then(|r| r.devices().as_ref());
    devices.is_some_and(|list| !list.is_empty())
}

/// What of the plan a rootless caller can have: everything that something was asked of, or an
/// error; of the rest what is permitted.
fn permitted(
    wanted: CgroupPlan,
    limits: &Limits,
    place: &Place,
    notices: &mut Vec<Notice>,
) -> Result<CgroupPlan> {
    let (may, may_not): (Vec<_>, Vec<_>) = wanted.legacy.into_iter().partition(may_make);
    let (unified, no_unified) = match wanted.unified {
        Some(group) if may_make(&group) => (Some(group), None),
        other => (None, other),
    };
    let plan = CgroupPlan {
        legacy: may,
        unified,
    };
    let refused: Vec<Group> = may_not.into_iter().chain(no_unified).collect();
    if refused.is_empty() && !plan.is_empty() {
        return Ok(plan);
    }
    let needed = limits
        .settings
        .iter()
        .find(|s| plan.is_empty() || refused.iter().any(|group| group.has(s.row.controller)));
    let pointer = needed
        .map(|s| s.row.pointer)
        .or(place.asked().then_some(PATH));
    if let Some(pointer) = pointer {
        let error = Error::new(Code::Cgroup, ROOTLESS).at(pointer);
        return Err(match refused.first() {
            Some(group) => error.path(parent(group)),
            None => error.hint("no cgroup file system is mounted"),
        });
    }
    let names: Vec<String> = refused.iter().map(name).collect();
    let names = names.join(", ");
    let text = format!("no permission to make a cgroup: it stays in its creator's ({names})");
    notices.push(Notice::new(PATH, text));
    Ok(plan)
}

fn name(group: &Group) -> String {
    match group.controllers.is_empty() {
        true => "cgroup2".to_owned(),
        false => group.controllers.join(","),
    }
}

fn parent(group: &Group) -> PathBuf {
    below(&group.mount, group.path.parent().unwrap_or(&group.path))
}

/// Whether the caller may make the directory, by its nearest parent that exists.
fn may_make(group: &Group) -> bool {
    let dir = group.dir();
    let existing = dir
        .ancestors()
        .skip(1)
        .find(|a| access(*a, AccessFlags::F_OK).is_ok());
    existing.is_some_and(|a| {
        a.starts_with(&group.mount) && access(a, AccessFlags::W_OK | AccessFlags::X_OK).is_ok()
    })
}

/// How the device rules are enforced here.
fn device_policy(
    plan: &CgroupPlan,
    rules: DeviceRules,
    request: &CgroupRequest<'_>,
    notices: &mut Vec<Notice>,
) -> Result<Option<DevicePolicy>> {
    if request.rootless {
        // Neither bpf(2) nor devices.allow is open to it, and mknod(2) is not either.
        if lists_devices(request) {
            let text = "not enforced: a rootless container cannot make device nodes anyway";
            notices.push(Notice::new(DEVICES, text));
        }
        return Ok(None);
    }
    if plan.legacy.iter().any(|group| group.has("devices")) {
        return Ok(Some(DevicePolicy::Files(rules.exceptions()?)));
    }
    match plan.unified {
        Some(_) => Ok(Some(DevicePolicy::Program(rules))),
        None => Err(Error::new(Code::Cgroup, "devices cgroup isn't mounted").at(DEVICES)),
    }
}

impl Limits {
    /// v1: a limit whose controller has no hierarchy cannot be set.
    fn need_mounted(&self, plan: &CgroupPlan) -> Result<()> {
        let homeless = |row: &str| !plan.legacy.iter().any(|group| group.has(row));
        match self.settings.iter().find(|s| homeless(s.row.controller)) {
            Some(setting) => {
                let controller = setting.row.controller;
                let tail = format!("{controller} cgroup isn't mounted");
                Err(Error::new(Code::Cgroup, tail).at(setting.row.pointer))
            }
            None => Ok(()),
        }
    }
}
