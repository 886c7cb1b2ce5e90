//! What lies in /dev: the nodes that every container has, the ones it asks for, and the links
//! of /dev (runtime-spec config-linux.md "Default Devices"). It must not judge whether a
//! device may be opened: the cgroup does.

use std::path::Path;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};

use super::Plan;
use super::draft::{c_string, target};
use super::mounts::Wanted;
use super::rootfs::Scene;
use crate::error::{Code, Error, Result};
use crate::step::{Link, Node, Populate, Step};

/// Mode of a node that asks for none.
const MODE: u32 = 0o666;

/// Name in /dev, major and minor number; all of them characters.
const DEFAULT: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: [(&str, &str); 5] = [
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// Nodes of one directory, with the setting that asked for the first of them.
struct Directory {
    path: String,
    pointer: Option<String>,
    nodes: Vec<Node>,
}

impl Scene<'_> {
    /// Devices and links, one step for each directory; nothing when the host's /dev is bound.
    pub(super) fn devices(&self, mounts: &[Wanted], plan: &mut Plan) -> Result<()> {
        let host_dev = |wanted: &Wanted| wanted.options.bind.is_some() && wanted.place() == "dev";
        if mounts.iter().any(host_dev) {
            return Ok(());
        }
        let mut dev = Directory {
            path: "dev".to_owned(),
            pointer: None,
            nodes: Vec::new(),
        };
        for (name, major, minor) in DEFAULT {
            dev.nodes.push(Node {
                name: c_string(name, "")?,
                mode: libc::S_IFCHR | MODE,
                major,
                minor,
                uid: 0,
                gid: 0,
                bind: self.bind_of(&format!("/dev/{name}"), "")?,
            });
        }
        let mut directories = vec![dev];
        let linux = self.config.linux().as_ref();
        let asked = linux.and_then(|linux| linux.devices().as_deref());
        for (n, device) in asked.unwrap_or_default().iter().enumerate() {
            self.device(device, &format!("/linux/devices/{n}"), &mut directories)?;
        }
        for (n, directory) in directories.into_iter().enumerate() {
            let populate = Populate {
                directories: Vec::new(),
                directory: target(&directory.path, "/linux/devices")?,
                nodes: directory.nodes,
                links: if n == 0 { self.links()? } else { Vec::new() },
            };
            match directory.pointer {
                Some(pointer) => plan.step_for(Step::Populate(populate), pointer),
                None => plan.step(Step::Populate(populate)),
            }
        }
        Ok(())
    }

    /// One entry of `linux.devices`; it replaces a default node of the same name.
    fn device(
        &self,
        device: &LinuxDevice,
        pointer: &str,
        directories: &mut Vec<Directory>,
    ) -> Result<()> {
        let here = format!("{pointer}/path");
        let path = target(device.path().to_str().unwrap_or_default(), &here)?;
        let clean = path.path.to_str().unwrap_or_default();
        let (parent, name) = clean.rsplit_once('/').unwrap_or((".", clean));
        if clean == "." {
            let tail = "a device needs a path below the root";
            return Err(Error::new(Code::InvalidConfig, tail).at(here));
        }
        if clean == "dev/ptmx" {
            return Ok(()); // it is a link into the container's own devpts
        }
        let node = self.node(device, name, pointer)?;
        let known = directories.iter().position(|d| d.path == parent);
        let n = known.unwrap_or_else(|| {
            directories.push(Directory {
                path: parent.to_owned(),
                pointer: Some(pointer.to_owned()),
                nodes: Vec::new(),
            });
            directories.len() - 1
        });
        if let Some(directory) = directories.get_mut(n) {
            match directory.nodes.iter_mut().find(|had| had.name == node.name) {
                Some(had) => *had = node,
                None => directory.nodes.push(node),
            }
        }
        Ok(())
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
        let path = device.path().to_str().unwrap_or_default();
        Ok(Node {
            name: c_string(name, pointer)?,
            mode: kind | (device.file_mode().unwrap_or(MODE) & 0o7777),
            major: number(device.major(), "major")?,
            minor: number(device.minor(), "minor")?,
            uid: device.uid().unwrap_or(0),
            gid: device.gid().unwrap_or(0),
            bind: match kind {
                libc::S_IFIFO => None,
                _ => self.bind_of(path, pointer)?,
            },
        })
    }

    /// The host's node, where the child can't make its own.
    fn bind_of(&self, path: &str, pointer: &str) -> Result<Option<std::ffi::CString>> {
        let make = !self.namespaces.other_user() && self.host.may_make_devices();
        let absolute = Path::new("/").join(path);
        (!make)
            .then(|| c_string(absolute.to_string_lossy().into_owned(), pointer))
            .transpose()
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
