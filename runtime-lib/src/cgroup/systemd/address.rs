//! Where a bus listens (D-Bus Specification, "Server Addresses"): the Unix sockets of it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// A Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Socket {
    Path(PathBuf),
    Abstract(Vec<u8>),
}

/// The address of a socket in the file system.
pub fn of_path(path: &OsStr) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_/.\\*".contains(&b);
    let escaped = path.as_bytes().iter().map(|&b| match plain(b) {
        true => char::from(b).to_string(),
        false => format!("%{b:02x}"),
    });
    format!("unix:path={}", escaped.collect::<String>())
}

/// The Unix sockets of a list of addresses, in its order; other transports are left out.
pub fn sockets(addresses: &str) -> Vec<Socket> {
    addresses.split(';').filter_map(socket).collect()
}

fn socket(address: &str) -> Option<Socket> {
    let keys = address.strip_prefix("unix:")?;
    keys.split(',').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        let value = unescaped(value)?;
        match key {
            "path" => Some(Socket::Path(OsString::from_vec(value).into())),
            "abstract" => Some(Socket::Abstract(value)),
            _ => None,
        }
    })
}

fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = rest.get(2..)?;
    }
    (!bytes.is_empty() && !bytes.contains(&0)).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_sockets() {
        let path = |path: &str| Socket::Path(path.into());
        assert_eq!(
            sockets("unix:path=/run/user/1000/bus,guid=0123"),
            [path("/run/user/1000/bus")]
        );
        let several = "tcp:host=x;unix:guid=1,abstract=/tmp/%2ax;unix:path=/a%20b";
        let expected = [Socket::Abstract(b"/tmp/*x".to_vec()), path("/a b")];
        assert_eq!(sockets(several), expected);
        for none in [
            "",
            "unix:",
            "unix:path=",
            "unix:path=%0",
            "unix:path=%zz",
            "launchd:a=b",
        ] {
            assert_eq!(sockets(none), [], "{none}");
        }
        let odd = "/run/ä b%\t";
        assert_eq!(sockets(&of_path(OsStr::new(odd))), [path(odd)]);
    }
}
