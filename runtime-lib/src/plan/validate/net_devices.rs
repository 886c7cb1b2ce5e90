//! Network devices (config-linux.md, "Network Devices"): the names that the kernel takes
//! (netdevice(7)), each once.

use std::collections::BTreeMap;

use oci_spec::runtime::LinuxNamespaceType;

use super::{has, linux, refuse};
use crate::error::Error;
use crate::spec::{Spec, join, shorten};

/// IFNAMSIZ, without its NUL.
const NAME_MAX: usize = 15;

/// host name → name in the container
fn asked(spec: &Spec) -> BTreeMap<&str, Option<&str>> {
    let devices = linux(spec).and_then(|linux| linux.net_devices().as_ref());
    let name = |(host, device)| {
        let device: &oci_spec::runtime::LinuxNetDevice = device;
        let host: &String = host;
        (
            host.as_str(),
            device.name().as_deref().filter(|name| !name.is_empty()),
        )
    };
    devices.into_iter().flatten().map(name).collect()
}

/// The host's devices would have nowhere to go.
pub(super) fn devices_have_a_namespace(spec: &Spec) -> Vec<Error> {
    match asked(spec).is_empty() || has(spec, LinuxNamespaceType::Network) {
        true => vec![],
        false => vec![refuse(
            "/linux/netDevices",
            "unable to move network devices without a NET namespace",
        )],
    }
}

/// Both names are names; only the one inside may have `%d` for a number of the kernel's choice.
pub(super) fn device_names_are_names(spec: &Spec) -> Vec<Error> {
    let mut errors = Vec::new();
    for (host, container) in asked(spec) {
        let pointer = join("/linux/netDevices", host);
        if let Some(why) = wrong(host, host.matches('%').count()) {
            let tail = format!("invalid network device name {:?}: {why}", shorten(host));
            errors.push(refuse(&*pointer, tail));
        }
        if let Some(name) = container {
            let marks = name.matches('%').count();
            let strays = marks - usize::from(marks == 1 && name.contains("%d"));
            if let Some(why) = wrong(name, strays) {
                let tail = format!("invalid network device name {:?}: {why}", shorten(name));
                errors.push(refuse(format!("{pointer}/name"), tail));
            }
        }
    }
    errors
}

fn wrong(name: &str, marks: usize) -> Option<&'static str> {
    match name {
        "" => Some("it is empty"),
        "." | ".." => Some("it is a directory's"),
        _ if name.len() > NAME_MAX => Some("it has more than 15 bytes"),
        _ if name.contains(['/', ':', '\0']) => Some("it has a character that no name has"),
        _ if name.chars().any(|c| c.is_whitespace() || c.is_control()) => {
            Some("it has white space")
        }
        _ if marks > 0 => Some("%d, once, is all that it may have of %"),
        _ => None,
    }
}

/// Names are unique in a network namespace, and `lo` is there already.
pub(super) fn device_names_are_given_once(spec: &Spec) -> Vec<Error> {
    let mut taken = BTreeMap::from([("lo", "the loopback device")]);
    let mut errors = Vec::new();
    for (host, container) in asked(spec) {
        let name = container.unwrap_or(host);
        if name.contains('%') {
            continue;
        }
        if let Some(earlier) = taken.insert(name, host) {
            let pointer = join("/linux/netDevices", host);
            let tail = format!(
                "network device name {:?} is that of {} already",
                shorten(name),
                shorten(earlier)
            );
            errors.push(refuse(pointer, tail));
        }
    }
    errors
}
