//! Network devices of the host that become the container's (config-linux.md, "Network
//! Devices"): the parent moves them while the child waits, in its network namespace. Only the
//! names are decided here: which devices there are, only the parent sees.

use nix::sched::CloneFlags;
use oci_spec::runtime::Spec;

use super::namespaces::Namespaces;
use super::{ParentAction, Plan};
use crate::error::{Code, Error, Result};
use crate::host::Host;
use crate::spec::join;

/// One device, by its name outside and inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetDevice {
    pub host: String,
    pub container: String,
    /// JSON pointer
    pub pointer: String,
}

/// The devices, by their names on the host: an object of JSON has no order.
pub(super) fn devices(config: &Spec) -> Vec<NetDevice> {
    let linux = config.linux().as_ref();
    let asked = linux.and_then(|linux| linux.net_devices().as_ref());
    let mut devices: Vec<NetDevice> = asked
        .into_iter()
        .flatten()
        .map(|(host, device)| {
            let name = device.name().as_deref().filter(|name| !name.is_empty());
            NetDevice {
                host: host.clone(),
                container: name.unwrap_or(host).to_owned(),
                pointer: join("/linux/netDevices", host),
            }
        })
        .collect();
    devices.sort_unstable_by(|one, other| one.host.cmp(&other.host));
    devices
}

/// The child waits, once it is in its network namespace, and gets its devices.
pub(super) fn move_in(
    config: &Spec,
    host: &Host,
    namespaces: &Namespaces,
    plan: &mut Plan,
) -> Result<()> {
    let devices = devices(config);
    let Some(first) = devices.first() else {
        return Ok(());
    };
    if host.rootless() {
        let tail = "network devices are not supported for rootless containers";
        return Err(Error::new(Code::InvalidConfig, tail).at(first.pointer.as_str()));
    }
    debug_assert!(namespaces.private(CloneFlags::CLONE_NEWNET));
    plan.act_placed(ParentAction::MoveDevices(devices), "/linux/netDevices");
    Ok(())
}
