//! Moves network devices of the host into the network namespace of the child, with their
//! addresses, and brings them up (config-linux.md, "Network Devices"); takes them back when
//! the container doesn't come to be.
//!
//! A socket of netlink stays in the namespace that it was made in, so the one for the
//! container's is made by a thread that enters it and ends: the caller's threads stay where
//! they are.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sched::CloneFlags;

use super::netlink::{Address, Change, Link, Netlink};
use crate::error::{Code, Error, Result};
use crate::plan::NetDevice;
use crate::sys::process;

const DOWN: Change = Change {
    up: Some(false),
    name: None,
    namespace: None,
};
const UP: Change = Change {
    up: Some(true),
    name: None,
    namespace: None,
};

/// The devices that a container has got; dropped, they return, unless they were left to it.
#[derive(Default)]
pub struct Moved(Option<Move>);

struct Move {
    host: Side,
    container: Side,
    done: Vec<Done>,
}

/// A network namespace, and a socket in it.
struct Side {
    namespace: File,
    netlink: Netlink,
}

/// What a device was like on the host, and its number in the container.
struct Done {
    was: Link,
    addresses: Vec<Address>,
    index: u32,
}

impl Moved {
    /// Moves all devices, in this order.
    ///
    /// # Errors
    /// The kernel's, with the device; those that were moved before it return.
    pub fn take(devices: &[NetDevice], pid: i32) -> Result<Moved> {
        let refused = |errno| {
            Error::call(Code::Namespace, "socket", errno)
                .doing("ask the kernel for network devices")
        };
        let open = |path: &Path| {
            File::open(path).map_err(|error| Error::io(Code::Namespace, "open", &error).path(path))
        };
        let own = open("/proc/thread-self/ns/net".as_ref())?;
        // Safe by number: the pid is an unreaped child's.
        let other = open(format!("/proc/{pid}/ns/net").as_ref())?;
        let mut moving = Move {
            host: Side {
                netlink: Netlink::new().map_err(refused)?,
                namespace: own,
            },
            container: Side {
                netlink: inside(&other).map_err(refused)?,
                namespace: other,
            },
            done: Vec::new(),
        };
        // Whatever is wrong with the names is wrong before anything has moved.
        for device in devices {
            moving.check(device)?;
        }
        let mut moved = Moved(Some(moving));
        if let Some(moving) = &mut moved.0 {
            devices.iter().try_for_each(|device| moving.one(device))?;
        }
        Ok(moved)
    }

    /// They are the container's from now on.
    pub fn keep(&mut self) {
        self.0 = None;
    }
}

impl Drop for Moved {
    fn drop(&mut self) {
        if let Some(moving) = &mut self.0 {
            moving.undo();
        }
    }
}

impl Move {
    fn check(&mut self, device: &NetDevice) -> Result<()> {
        let found = self.host.netlink.link(&device.host);
        found.map_err(|errno| failed(device, "find", errno))?;
        let pattern = device.container.contains('%');
        match self.container.netlink.link(&device.container) {
            Ok(_) if !pattern => Err(failed(device, "check", Errno::EEXIST)
                .hint("the container's network namespace has a device of that name")),
            _ => Ok(()),
        }
    }

    fn one(&mut self, device: &NetDevice) -> Result<()> {
        let step = |call| move |errno| failed(device, call, errno);
        let was = self.host.netlink.link(&device.host).map_err(step("find"))?;
        let all = self.host.netlink.addresses(was.index);
        let mut addresses = all.map_err(step("read"))?;
        addresses.retain(Address::is_permanent_and_global);
        let before = self.container.netlink.links().map_err(step("find"))?;
        let down = self.host.netlink.change(was.index, &DOWN);
        down.map_err(step("down"))?;
        let over = Change {
            name: Some(&device.container),
            namespace: Some(self.container.namespace.as_raw_fd()),
            ..Change::default()
        };
        if let Err(errno) = self.host.netlink.change(was.index, &over) {
            if was.up {
                let _ = self.host.netlink.change(was.index, &UP);
            }
            return Err(failed(device, "move", errno));
        }
        // It may have another number over there, and a name of the kernel's choice.
        let after = self.container.netlink.links().map_err(step("find"))?;
        let new = |link: &&Link| !before.iter().any(|old| old.index == link.index);
        let moved = after.iter().find(new).ok_or(Errno::ENODEV);
        let index = moved.map_err(step("find"))?.index;
        self.done.push(Done {
            was,
            addresses: addresses.clone(),
            index,
        });
        give(&mut self.container.netlink, index, &addresses).map_err(step("address"))?;
        self.container
            .netlink
            .change(index, &UP)
            .map_err(step("up"))
    }

    /// As far as it goes: there is nobody left to tell but the log.
    fn undo(&mut self) {
        for Done {
            was,
            addresses,
            index,
        } in self.done.drain(..).rev()
        {
            let back = Change {
                up: Some(false),
                name: Some(&was.name),
                namespace: Some(self.host.namespace.as_raw_fd()),
            };
            let returned = self
                .container
                .netlink
                .change(index, &DOWN)
                .and_then(|()| self.container.netlink.change(index, &back))
                .and_then(|()| self.host.netlink.link(&was.name))
                .and_then(|link| {
                    if was.up {
                        self.host.netlink.change(link.index, &UP)?;
                    }
                    give(&mut self.host.netlink, link.index, &addresses)
                });
            if let Err(errno) = returned {
                tracing::warn!("network device {} did not return: {errno}", was.name);
            }
        }
    }
}

fn give(netlink: &mut Netlink, index: u32, addresses: &[Address]) -> nix::Result<()> {
    for address in addresses {
        match netlink.add(index, address) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// A socket in that network namespace.
fn inside(namespace: &File) -> nix::Result<Netlink> {
    let enter = || {
        process::setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)?;
        Netlink::new()
    };
    std::thread::scope(|scope| scope.spawn(enter).join().unwrap_or(Err(Errno::EAGAIN)))
}

fn failed(device: &NetDevice, step: &'static str, errno: Errno) -> Error {
    let NetDevice {
        host, container, ..
    } = device;
    let doing = match step {
        "find" => format!("find the network device {host}"),
        "read" => format!("read the addresses of the network device {host}"),
        "check" => format!("look for the name {container} in the container"),
        "down" => format!("take down the network device {host}"),
        "address" => format!("give the network device {container} its addresses"),
        "up" => format!("bring up the network device {container}"),
        _ => format!("move the network device {device} into the container"),
    };
    Error::call(Code::Namespace, "netlink", errno)
        .doing(doing)
        .at(device.pointer.as_str())
}
