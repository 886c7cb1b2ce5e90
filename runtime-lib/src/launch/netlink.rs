//! Three messages of rtnetlink(7): read the addresses of a device, change a device, add an
//! address. Written down here rather than taken from a crate: the crates that know netlink
//! bring all of its families, an async runtime or macros, and weigh more than everything that
//! moves a device does.
//!
//! It must not decide anything: what is moved where is the business of [`super::devices`].

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

/// How much the kernel puts into one datagram of a dump.
const BUFFER_BYTES: usize = 32 << 10;
/// The kernel answers at once; what doesn't is not the kernel.
const PATIENCE_SECONDS: i64 = 10;

const HEADER_BYTES: usize = 16;
const LINK_BYTES: usize = 16;
const ADDRESS_BYTES: usize = 8;
const ATTRIBUTE_BYTES: usize = 4;

/// A device of the socket's network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// IFF_UP
    pub up: bool,
}

/// What becomes of a device.
#[derive(Debug, Default)]
pub struct Change<'a> {
    /// IFF_UP: whether it is to be up.
    pub up: Option<bool>,
    /// Its name from now on; `%d` is a number of the kernel's choice.
    pub name: Option<&'a str>,
    /// The network namespace of this descriptor becomes its own.
    pub namespace: Option<i32>,
}

/// One address of a device, with the attributes as the kernel gave them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    family: u8,
    prefix: u8,
    flags: u8,
    scope: u8,
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Address {
    /// Whether it was given to the device to keep, and is valid beyond its link: what is
    /// temporary or the link's own comes back by itself.
    pub fn is_permanent_and_global(&self) -> bool {
        u32::from(self.flags) & libc::IFA_F_PERMANENT != 0 && self.scope == libc::RT_SCOPE_UNIVERSE
    }
}

/// A socket for rtnetlink(7) in the network namespace of the thread that made it.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// In the network namespace of the calling thread.
    pub fn new() -> nix::Result<Netlink> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        let patience = TimeVal::seconds(PATIENCE_SECONDS);
        setsockopt(&socket, sockopt::ReceiveTimeout, &patience)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Netlink {
            socket,
            sequence: 0,
        })
    }

    /// The device of this name; ENODEV.
    pub fn link(&mut self, name: &str) -> nix::Result<Link> {
        let mut request = Request::new(libc::RTM_GETLINK, 0);
        request.link(0, 0, 0);
        request.text(libc::IFLA_IFNAME, name);
        let mut found = None;
        self.ask(request, |kind, body| {
            if kind == libc::RTM_NEWLINK {
                found = read_link(body);
            }
        })?;
        found.ok_or(Errno::ENODEV)
    }

    /// All devices.
    pub fn links(&mut self) -> nix::Result<Vec<Link>> {
        let mut request = Request::new(libc::RTM_GETLINK, libc::NLM_F_DUMP);
        request.link(0, 0, 0);
        let mut found = Vec::new();
        self.ask(request, |kind, body| {
            if kind == libc::RTM_NEWLINK {
                found.extend(read_link(body));
            }
        })?;
        Ok(found)
    }

    /// The addresses of a device, in the kernel's order.
    pub fn addresses(&mut self, index: u32) -> nix::Result<Vec<Address>> {
        let mut request = Request::new(libc::RTM_GETADDR, libc::NLM_F_DUMP);
        request.bytes(&[0; ADDRESS_BYTES]);
        let mut found = Vec::new();
        self.ask(request, |kind, body| {
            if kind == libc::RTM_NEWADDR {
                found.extend(read_address(body, index));
            }
        })?;
        Ok(found)
    }

    /// Changes a device, all at once or not at all.
    pub fn change(&mut self, index: u32, change: &Change) -> nix::Result<()> {
        let mut request = Request::new(libc::RTM_NEWLINK, libc::NLM_F_ACK);
        let mask = libc::IFF_UP as u32;
        match change.up {
            Some(true) => request.link(index, mask, mask),
            Some(false) => request.link(index, 0, mask),
            None => request.link(index, 0, 0),
        }
        if let Some(name) = change.name {
            request.text(libc::IFLA_IFNAME, name);
        }
        if let Some(fd) = change.namespace {
            request.attribute(libc::IFLA_NET_NS_FD, &fd.to_ne_bytes());
        }
        self.ask(request, |_, _| {})
    }

    /// Gives a device an address that another one had.
    pub fn add(&mut self, index: u32, address: &Address) -> nix::Result<()> {
        let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        let mut request = Request::new(libc::RTM_NEWADDR, flags);
        request.bytes(&[address.family, address.prefix, 0, address.scope]);
        request.bytes(&index.to_ne_bytes());
        for (kind, value) in &address.attributes {
            request.attribute(*kind, value);
        }
        self.ask(request, |_, _| {})
    }

    /// Sends one request and reads what belongs to it up to its end.
    fn ask(&mut self, request: Request, mut seen: impl FnMut(u16, &[u8])) -> nix::Result<()> {
        self.sequence += 1;
        let fd = self.socket.as_fd().as_raw_fd();
        send(fd, &request.finish(self.sequence), MsgFlags::empty())?;
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let length = match recv(fd, &mut buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                length => length?,
            };
            let mut rest = buffer.get(..length).unwrap_or_default();
            while let Some((message, after)) = Message::read(rest) {
                rest = after;
                if message.sequence != self.sequence {
                    continue;
                }
                match i32::from(message.kind) {
                    libc::NLMSG_DONE => return Ok(()),
                    libc::NLMSG_ERROR => {
                        return match word(message.body, 0).map(|code| code as i32) {
                            Some(0) => Ok(()),
                            Some(code) => Err(Errno::from_raw(-code)),
                            None => Err(Errno::EPROTO),
                        };
                    }
                    _ => seen(message.kind, message.body),
                }
                if !message.more {
                    return Ok(());
                }
            }
        }
    }
}

/// A request under construction.
struct Request(Vec<u8>);

impl Request {
    fn new(kind: u16, flags: i32) -> Request {
        let flags = (flags | libc::NLM_F_REQUEST) as u16;
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.resize(HEADER_BYTES, 0);
        Request(bytes)
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
    }

    /// struct ifinfomsg
    fn link(&mut self, index: u32, flags: u32, mask: u32) {
        self.bytes(&[0; 4]);
        self.bytes(&index.to_ne_bytes());
        self.bytes(&flags.to_ne_bytes());
        self.bytes(&mask.to_ne_bytes());
    }

    /// struct rtattr and what it holds, up to a multiple of four.
    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = (ATTRIBUTE_BYTES + value.len()) as u16;
        self.bytes(&length.to_ne_bytes());
        self.bytes(&kind.to_ne_bytes());
        self.bytes(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn text(&mut self, kind: u16, value: &str) {
        self.attribute(kind, &[value.as_bytes(), &[0]].concat());
    }

    /// struct nlmsghdr gets its length and the number that answers carry.
    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = (self.0.len() as u32).to_ne_bytes();
        self.0[0..4].copy_from_slice(&length);
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }
}

/// One message of a datagram.
struct Message<'a> {
    kind: u16,
    sequence: u32,
    /// NLM_F_MULTI: it isn't the last one.
    more: bool,
    body: &'a [u8],
}

impl Message<'_> {
    fn read(bytes: &[u8]) -> Option<(Message<'_>, &[u8])> {
        let length = word(bytes, 0)? as usize;
        let message = Message {
            kind: half(bytes, 4)?,
            sequence: word(bytes, 8)?,
            more: i32::from(half(bytes, 6)?) & libc::NLM_F_MULTI != 0,
            body: bytes.get(HEADER_BYTES..length)?,
        };
        let after = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((message, after))
    }
}

fn read_link(body: &[u8]) -> Option<Link> {
    let attributes = attributes(body.get(LINK_BYTES..)?);
    let name = attributes
        .iter()
        .find(|(kind, _)| *kind == libc::IFLA_IFNAME)?;
    let name = name.1.split(|byte| *byte == 0).next()?;
    Some(Link {
        index: word(body, 4)?,
        up: word(body, 8)? & libc::IFF_UP as u32 != 0,
        name: String::from_utf8_lossy(name).into_owned(),
    })
}

/// None for an address of another device.
fn read_address(body: &[u8], index: u32) -> Option<Address> {
    if word(body, 4)? != index {
        return None;
    }
    let [family, prefix, flags, scope] = *body.first_chunk()?;
    Some(Address {
        family,
        prefix,
        flags,
        scope,
        attributes: attributes(body.get(ADDRESS_BYTES..)?)
            .into_iter()
            .filter(|(kind, _)| KEPT.contains(kind))
            .map(|(kind, value)| (kind, value.to_vec()))
            .collect(),
    })
}

/// The attributes of an address that the same address is made of again. IFA_CACHEINFO is not
/// one: what is permanent has no lifetime.
const KEPT: [u16; 6] = [
    libc::IFA_ADDRESS,
    libc::IFA_LOCAL,
    libc::IFA_BROADCAST,
    IFA_FLAGS,
    IFA_RT_PRIORITY,
    IFA_PROTO,
];

// linux/if_addr.h
const IFA_FLAGS: u16 = 8;
const IFA_RT_PRIORITY: u16 = 9;
const IFA_PROTO: u16 = 11;

/// struct rtattr, one after the other.
fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while let (Some(length), Some(kind)) = (half(bytes, 0), half(bytes, 2)) {
        let length = usize::from(length);
        let Some(value) = bytes.get(ATTRIBUTE_BYTES..length) else {
            break;
        };
        found.push((kind, value));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_is_laid_out_as_the_kernel_reads_it() {
        let mut request = Request::new(libc::RTM_NEWLINK, libc::NLM_F_ACK);
        request.link(7, 1, 1);
        request.text(libc::IFLA_IFNAME, "eth0");
        let bytes = request.finish(9);
        let (message, rest) = Message::read(&bytes).unwrap();
        assert_eq!((message.kind, message.sequence), (libc::RTM_NEWLINK, 9));
        assert!(rest.is_empty());
        let expected = Link {
            index: 7,
            name: "eth0".to_owned(),
            up: true,
        };
        assert_eq!(read_link(message.body), Some(expected));
        // 16 + 16 + 4 + "eth0\0" to the next multiple of four.
        assert_eq!((bytes.len(), half(&bytes, 32)), (44, Some(9)));
    }

    #[test]
    fn lo_is_found_and_has_the_loopback_address() {
        let mut netlink = Netlink::new().unwrap();
        let Ok(lo) = netlink.link("lo") else {
            return;
        };
        assert_eq!((lo.name.as_str(), lo.index), ("lo", 1));
        assert_eq!(netlink.link("no-such-device"), Err(Errno::ENODEV));
        for address in netlink.addresses(lo.index).unwrap() {
            assert!(!address.is_permanent_and_global(), "{address:?}");
        }
        assert_eq!(netlink.addresses(u32::MAX).unwrap(), []);
        assert!(netlink.links().unwrap().contains(&lo));
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut rest = bytes.as_slice();
            while let Some((message, after)) = Message::read(rest) {
                prop_assert!(after.len() < rest.len());
                let _ = read_link(message.body);
                let _ = read_address(message.body, 1);
                rest = after;
            }
        }
    }
}
