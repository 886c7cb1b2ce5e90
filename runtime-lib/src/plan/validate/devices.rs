//! The list of device nodes (config-linux.md, "Devices"). Device rules of the cgroup are
//! judged where they are applied.

use std::path::Component;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};

use super::{linux, refuse};
use crate::error::Error;
use crate::spec::{Spec, shorten};

/// The bits of dev_t in the kernel (include/linux/kdev_t.h): 12 and 20.
const NUMBERS: [(&str, i64); 2] = [("major", 0xfff), ("minor", 0xf_ffff)];

/// The file type and permissions of st_mode (inode(7)): engines write both.
const MODE_MAX: u32 = 0o177_777;

fn listed(spec: &Spec) -> impl Iterator<Item = (usize, &LinuxDevice)> {
    let listed = linux(spec).and_then(|linux| linux.devices().as_deref());
    listed.unwrap_or_default().iter().enumerate()
}

/// config-linux.md: major and minor are required unless the type is p.
pub(super) fn numbers_are_given_and_in_range(spec: &Spec) -> Vec<Error> {
    let mut errors = Vec::new();
    for (n, device) in listed(spec).filter(|(_, device)| device.typ() != LinuxDeviceType::P) {
        for ((name, max), number) in NUMBERS.iter().zip([device.major(), device.minor()]) {
            let pointer = format!("/linux/devices/{n}/{name}");
            // The types hold 0 where nothing is written.
            if spec
                .raw
                .pointer(&pointer)
                .is_none_or(serde_json::Value::is_null)
            {
                errors.push(refuse(pointer, format!("{name} must be specified")));
            } else if !(0..=*max).contains(&number) {
                let tail = format!("{name} {number} is not between 0 and {max}");
                errors.push(refuse(pointer, tail));
            }
        }
    }
    errors
}

/// config-linux.md: the full path to the device inside the container.
pub(super) fn paths_are_plain(spec: &Spec) -> Vec<Error> {
    let judge = |(n, device): (usize, &LinuxDevice)| {
        let path = device.path();
        let mut parts = path.components().skip(1);
        let plain = path.is_absolute()
            && path.file_name().is_some()
            && parts.all(|part| matches!(part, Component::Normal(_)));
        let path = shorten(&path.to_string_lossy());
        let tail = || format!("device path {path:?} is not an absolute path without \"..\"");
        (!plain).then(|| refuse(format!("/linux/devices/{n}/path"), tail()))
    };
    listed(spec).filter_map(judge).collect()
}

/// mknod(2), chown(2).
pub(super) fn owners_and_modes_are_in_range(spec: &Spec) -> Vec<Error> {
    let mut errors = Vec::new();
    for (n, device) in listed(spec) {
        for (name, id) in [("uid", device.uid()), ("gid", device.gid())] {
            if id == Some(u32::MAX) {
                let tail = format!(
                    "{} is not an id, the last one is {}",
                    u32::MAX,
                    u32::MAX - 1
                );
                errors.push(refuse(format!("/linux/devices/{n}/{name}"), tail));
            }
        }
        if let Some(mode) = device.file_mode().filter(|mode| *mode > MODE_MAX) {
            let tail = format!("file mode 0{mode:o} is above 0{MODE_MAX:o}");
            errors.push(refuse(format!("/linux/devices/{n}/fileMode"), tail));
        }
    }
    errors
}
