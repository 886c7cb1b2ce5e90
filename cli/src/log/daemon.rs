//! The machine's own log: systemd-journald by its native protocol, or whoever reads syslog's socket. A record is
//! one datagram, and nobody waits for a reader who is behind.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;

use super::record::Record;
use super::sink::{Patience, has_room};

/// systemd.journal-fields(7), and the protocol that systemd publishes as "native".
const JOURNAL: &str = "/run/systemd/journal/socket";
/// syslog(3): the usual socket, and journald's own behind the link that stands there.
const SYSLOG: [&str; 2] = ["/dev/log", "/run/systemd/journal/dev-log"];

/// Facility `user`.
const USER: u8 = 1;

#[derive(Clone, Copy)]
pub enum Protocol {
    Journal,
    Syslog,
}

pub struct Daemon {
    socket: UnixDatagram,
    protocol: Protocol,
    /// Whose records these are: by default ours.
    identifier: String,
}

impl Daemon {
    /// `journald:ID` or `syslog:ID`; None for the name of a file.
    pub fn named(text: &str) -> Option<(Protocol, &str)> {
        let of = |prefix, protocol| Some((protocol, text.strip_prefix(prefix)?));
        of("journald:", Protocol::Journal).or_else(|| of("syslog:", Protocol::Syslog))
    }

    /// # Errors
    /// Nobody listens there; the last place that was tried, and why.
    pub fn open(protocol: Protocol, identifier: &str) -> Result<Daemon, (&'static str, io::Error)> {
        let places = match protocol {
            Protocol::Journal => &[JOURNAL][..],
            Protocol::Syslog => &SYSLOG[..],
        };
        let mut last = None;
        for place in places {
            let socket = UnixDatagram::unbound().and_then(|socket| {
                socket.connect(place)?;
                socket.set_nonblocking(true)?;
                Ok(socket)
            });
            match socket {
                Ok(socket) => {
                    let identifier = match identifier {
                        "" => "capsid",
                        given => given,
                    };
                    return Ok(Daemon {
                        socket,
                        protocol,
                        identifier: identifier.to_owned(),
                    });
                }
                Err(error) => last = Some((*place, error)),
            }
        }
        Err(last.unwrap_or(("", io::ErrorKind::NotFound.into())))
    }

    /// Sends the record, or loses it.
    pub fn write(&self, record: &Record, patience: Patience) {
        let datagram = match self.protocol {
            Protocol::Journal => self.journal(record),
            Protocol::Syslog => {
                let (message, pid) = (one_line(record.message()), std::process::id());
                let priority = USER * 8 + record.severity();
                format!("<{priority}>{}[{pid}]: {message}", self.identifier).into_bytes()
            }
        };
        if has_room(self.socket.as_fd(), patience) {
            let _ = self.socket.send(&datagram);
        }
    }

    fn journal(&self, record: &Record) -> Vec<u8> {
        let mut datagram = Vec::new();
        field(&mut datagram, "MESSAGE", record.message());
        field(&mut datagram, "PRIORITY", &record.severity().to_string());
        field(&mut datagram, "SYSLOG_IDENTIFIER", &self.identifier);
        for (key, value) in record.keys() {
            field(
                &mut datagram,
                &format!("CAPSID_{}", key.to_uppercase()),
                value,
            );
        }
        datagram
    }
}

/// `NAME=value`, or with its length before it where the value has lines.
fn field(datagram: &mut Vec<u8>, name: &str, value: &str) {
    datagram.extend(name.as_bytes());
    match value.contains('\n') {
        false => datagram.push(b'='),
        true => {
            datagram.push(b'\n');
            datagram.extend((value.len() as u64).to_le_bytes());
        }
    }
    datagram.extend(value.as_bytes());
    datagram.push(b'\n');
}

/// A datagram of syslog's is one line.
fn one_line(text: &str) -> String {
    text.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_says_who_is_told() {
        assert!(matches!(
            Daemon::named("journald:web"),
            Some((Protocol::Journal, "web"))
        ));
        assert!(matches!(
            Daemon::named("syslog:"),
            Some((Protocol::Syslog, ""))
        ));
        assert!(Daemon::named("/tmp/syslog:x").is_none());
    }

    #[test]
    fn a_value_with_lines_has_its_length_before_it() {
        let mut datagram = Vec::new();
        field(&mut datagram, "A", "b");
        field(&mut datagram, "C", "d\ne");
        assert_eq!(datagram, b"A=b\nC\n\x03\0\0\0\0\0\0\0d\ne\n");
    }
}
