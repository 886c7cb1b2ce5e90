//! What lies in /dev: the nodes that every container has, the ones it asks for, and the links
//! of /dev (runtime-spec config-linux.md "Default Devices"). It must not judge whether a
//! device may be opened: the cgroup does.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};

use super::Plan;
use super::draft::{c_string, target, text};
use super::rootfs::Scene;
use super::wanted::Wanted;
use crate::cgroup::DEFAULT_DEVICES;
use crate::error::{Code, Error, Result};
use crate::step::{Existing, Link, Node, Populate, Step, Target, Way};

/// Mode of a node that asks for none.
const MODE: u32 = 0o666;

/// The pseudoterminal multiplexer.
const PTMX: (u32, u32) = (5, 2);

const LINKS: [(&str, &str); 5] = [
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// A device of the configuration, and where it goes.
struct Asked<'a> {
    directory: String,
    pointer: String,
    device: &'a LinuxDevice,
    node: Node,
}

impl Scene<'_> {
    /// The default devices and links, unless /dev is bound, then one step for each device of
    /// the configuration.
    pub(super) fn devices(&self, mounts: &[Wanted], plan: &mut Plan) -> Result<()> {
        let linux = self.config.linux().as_ref();
        let devices = linux.and_then(|linux| linux.devices().as_deref());
        let devices = devices.unwrap_or_default().iter().enumerate();
        let asked = devices
            .filter_map(|(n, device)| self.asked(n, device, mounts).transpose())
            .collect::<Result<Vec<_>>>()?;
        if bound_at("dev", mounts) != Some("dev") {
            let populate = self.default_devices(&asked)?;
            plan.step(Step::Populate(populate));
        }
        say_what_stays(&asked, plan);
        for asked in asked {
            let populate = Populate {
                directories: Vec::new(),
                directory: place(&asked.directory)?,
                nodes: vec![asked.node],
                links: Vec::new(),
            };
            plan.step_for(Step::Populate(populate), asked.pointer);
        }
        Ok(())
    }

    /// The nodes that every container has, but for those that the configuration describes.
    fn default_devices(&self, asked: &[Asked]) -> Result<Populate> {
        let described = |name: &str| {
            let mut asked = asked.iter().filter(|asked| asked.directory == "dev");
            asked.any(|asked| asked.node.name.to_bytes() == name.as_bytes())
        };
        let nodes = DEFAULT_DEVICES
            .into_iter()
            .filter(|(name, ..)| !described(name));
        let nodes = nodes.map(|(name, major, minor)| {
            Ok(Node {
                name: c_string(name, "")?,
                mode: libc::S_IFCHR | MODE,
                major,
                minor,
                owner: None,
                existing: Existing::Settled,
                way: self.way(c_string(format!("/dev/{name}"), "")?),
            })
        });
        Ok(Populate {
            directory: place("dev")?,
            directories: Vec::new(),
            nodes: nodes.collect::<Result<_>>()?,
            links: self.links()?,
        })
    }

    /// One entry of `linux.devices`; None: /dev/ptmx, a link into the container's own devpts.
    fn asked<'a>(
        &self,
        n: usize,
        device: &'a LinuxDevice,
        mounts: &[Wanted],
    ) -> Result<Option<Asked<'a>>> {
        let pointer = format!("/linux/devices/{n}");
        let here = format!("{pointer}/path");
        let path = target(text(device.path(), &here)?, &here)?;
        let clean = path.path.to_str().unwrap_or_default();
        let (directory, name) = clean.rsplit_once('/').unwrap_or((".", clean));
        if clean == "." {
            let tail = "a device needs a path below the root";
            return Err(Error::new(Code::InvalidConfig, tail).at(here));
        }
        let mut node = self.node(device, name, &pointer)?;
        let bound = bound_at(directory, mounts);
        if bound.is_some() {
            node.existing = Existing::Kept;
        }
        if bound == Some("dev") {
            (node.way, node.owner) = (Way::Expect, None);
        } else if clean == "dev/ptmx" {
            let character = node.mode & libc::S_IFMT == libc::S_IFCHR;
            if character && (node.major, node.minor) == PTMX {
                return Ok(None);
            }
            let tail = "/dev/ptmx is the pseudoterminal multiplexer, c 5:2";
            return Err(Error::new(Code::InvalidConfig, tail).at(pointer));
        }
        Ok(Some(Asked {
            directory: directory.to_owned(),
            pointer,
            device,
            node,
        }))
    }

    fn node(&self, device: &LinuxDevice, name: &str, pointer: &str) -> Result<Node> {
        let kind = match device.typ() {
            LinuxDeviceType::C | LinuxDeviceType::U => libc::S_IFCHR,
            LinuxDeviceType::B => libc::S_IFBLK,
            LinuxDeviceType::P => libc::S_IFIFO,
            LinuxDeviceType::A => {
                let tail = "a device to make is of type b, c, u or p";
                return Err(Error::new(Code::InvalidConfig, tail).at(format!("{pointer}/type")));
            }
        };
        let number = |number: i64, field: &str| match kind {
            libc::S_IFIFO => Ok(0),
            _ => u32::try_from(number).map_err(|_| {
                let tail = format!("{number} is not a {field} number of a device");
                Error::new(Code::InvalidConfig, tail).at(format!("{pointer}/{field}"))
            }),
        };
        Ok(Node {
            name: c_string(name, pointer)?,
            mode: kind | (device.file_mode().unwrap_or(MODE) & 0o7777),
            major: number(device.major(), "major")?,
            minor: number(device.minor(), "minor")?,
            owner: Some((device.uid().unwrap_or(0), device.gid().unwrap_or(0))),
            existing: Existing::Settled,
            way: match kind {
                libc::S_IFIFO => Way::Make,
                _ => {
                    let absolute = Path::new("/").join(device.path());
                    self.way(c_string(absolute.as_os_str().as_bytes(), pointer)?)
                }
            },
        })
    }

    /// How a node comes to be that the host has at this path.
    fn way(&self, host: CString) -> Way {
        match !self.namespaces.other_user() && self.host.may_make_devices() {
            true => Way::MakeOrBind(host),
            false => Way::Bind(host),
        }
    }

    fn links(&self) -> Result<Vec<Link>> {
        let core = self.host.kcore.then_some(("core", "/proc/kcore"));
        let links = LINKS.into_iter().chain(core);
        links
            .map(|(name, to)| {
                Ok(Link {
                    name: c_string(name, "")?,
                    to: c_string(to, "")?,
                })
            })
            .collect()
    }
}

/// The settings of devices that are the host's own nodes.
fn say_what_stays(asked: &[Asked], plan: &mut Plan) {
    let described = |device: &LinuxDevice| {
        device.file_mode().is_some() || device.uid().is_some() || device.gid().is_some()
    };
    let stays = |asked: &&Asked| {
        matches!(asked.node.way, Way::Bind(_) | Way::Expect) && described(asked.device)
    };
    let names: Vec<_> = asked
        .iter()
        .filter(stays)
        .map(|asked| asked.node.name.to_string_lossy())
        .collect();
    if !names.is_empty() {
        let text = format!(
            "{}: shown as on the host, with the mode and owner of its node there",
            names.join(", ")
        );
        plan.note("/linux/devices", text);
    }
}

/// The place of the bind that a directory lies in. In a /dev that is bound nothing is made or
/// changed; elsewhere what is there stays as it is.
fn bound_at<'a>(directory: &str, mounts: &'a [Wanted]) -> Option<&'a str> {
    let covers = |wanted: &&Wanted| {
        let rest = directory.strip_prefix(wanted.place());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let deepest = mounts.iter().filter(covers);
    let deepest = deepest.max_by_key(|wanted| wanted.place().len());
    let bind = deepest.filter(|wanted| wanted.options.bind.is_some());
    bind.map(Wanted::place)
}

/// An image whose /dev is a link would choose where the devices go.
fn place(directory: &str) -> Result<Target> {
    let place = target(directory, "/linux/devices")?;
    Ok(match directory {
        "dev" => place.plain(),
        _ => place,
    })
}
