//! From a config and a layout to the directories a container gets and the limits in them.
//!
//! Decides; makes and writes nothing.

use std::collections::HashMap;
use std::path::Path;

use oci_spec::runtime::{LinuxDevice, LinuxResources};

use super::devices::{DevicePolicy, DeviceRules};
use super::layout::Layout;
use super::limits::{Limits, Setting, Version};
use super::permission::permitted;
use super::place::{self, Place, group};
use super::plan::CgroupPlan;
use super::systemd::{self, Facts as SystemdFacts};
use crate::Notice;
use crate::container::CgroupDriver;
use crate::error::{Code, Error, Result};

const DEVICES: &str = "/linux/resources/devices";

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
    /// linux.devices.
    pub devices: &'a [LinuxDevice],
    /// The caller is not root, or root of a user namespace only.
    pub rootless: bool,
    /// A cgroup that cannot be had is no error, as long as nothing was asked of it.
    pub lenient: bool,
    /// [`CgroupDriver::Systemd`]: which systemd.
    pub systemd: Option<&'a SystemdFacts>,
    /// The annotations, some of which systemd is told.
    pub annotations: Option<&'a HashMap<String, String>>,
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
        let (mut plan, limits, mut notices) = CgroupPlan::own(layout, request)?;
        plan.nest(request.driver, request.annotations, &mut notices)?;
        notices.extend(plan.unweighed(&limits));
        Ok((plan, limits, notices))
    }

    fn own(
        layout: &Layout,
        request: &CgroupRequest<'_>,
    ) -> Result<(CgroupPlan, Limits, Vec<Notice>)> {
        let version = layout.version();
        let mut limits = Limits::read(version, request.resources, request.raw)?;
        limits.leave_oom_killer_on();
        let mut notices = std::mem::take(&mut limits.notices);
        let rules = DeviceRules::read(request.resources, request.devices)?;
        if let (CgroupDriver::Systemd, Some(facts)) = (request.driver, request.systemd) {
            let mut plan = systemd::plan(layout, facts, request.path, request.id)?;
            if version == Version::V1 {
                limits.need_mounted(&plan)?;
            }
            limits.devices = device_policy(&plan, rules, request, &mut notices)?;
            limits.tell_systemd(&mut plan, facts, request.id, request.annotations)?;
            return Ok((plan, limits, notices));
        }
        let place = Place::read(request)?;
        let wanted = match (request.driver, layout) {
            (CgroupDriver::Disabled, _) => {
                disabled(&limits, &place, request, &mut notices)?;
                return Ok((CgroupPlan::none(layout), Limits::default(), notices));
            }
            (CgroupDriver::Systemd, _) => {
                let error = Error::new(Code::InvalidArgument, "systemd was not asked");
                return Err(error.hint("cgroup::ask_systemd says what is needed"));
            }
            (CgroupDriver::Cgroupfs, Layout::None) => CgroupPlan::none(layout),
            (CgroupDriver::Cgroupfs, Layout::Unified { mount, own }) => CgroupPlan {
                unified: Some(group(mount, Vec::new(), place.beside(own))),
                ..CgroupPlan::none(layout)
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
                ..CgroupPlan::none(layout)
            },
        };
        let plan = match request.lenient {
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
                .at(setting.pointer())
                .hint("a limit needs a cgroup"),
        );
    }
    if place.asked() {
        notices.push(Notice::new(
            place::POINTER,
            "ignored: the cgroup manager is disabled",
        ));
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
    if plan.legacy_of("devices").is_some() {
        return Ok(Some(DevicePolicy::Files(rules.exceptions()?)));
    }
    match plan.unified {
        Some(_) => Ok(Some(DevicePolicy::Program(rules))),
        None if request.lenient => {
            let text = "not enforced: there is no cgroup that could";
            notices.push(Notice::new(DEVICES, text));
            Ok(None)
        }
        None => Err(Error::new(Code::Cgroup, "devices cgroup isn't mounted").at(DEVICES)),
    }
}

impl Limits {
    /// v1: a limit whose controller has no hierarchy cannot be set.
    pub(super) fn need_mounted(&self, plan: &CgroupPlan) -> Result<()> {
        let homeless = |s: &&Setting| plan.legacy_of(s.controller()).is_none();
        match self.settings.iter().find(homeless) {
            Some(setting) => {
                let controller = setting.controller();
                let tail = format!("{controller} cgroup isn't mounted");
                Err(Error::new(Code::Cgroup, tail).at(setting.pointer()))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
