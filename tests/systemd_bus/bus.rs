//! A bus that plays systemd on a socket of the test's own: it answers as its manner is, and knows what it was
//! asked. D-Bus in bytes, as little of it as that takes.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::harness::machine;

/// What the bus does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Everything, as far as a caller can tell: no process is moved.
    Answers,
    /// Nobody accepts the connection.
    IsDeaf,
    /// No call is answered.
    IsMute,
    /// Jobs never end.
    Dawdles,
    /// It stops in the middle of the answer about the unit.
    Stutters,
    /// It ends there.
    HangsUp,
    /// Another one's unit has the name, in another slice.
    HasTheUnit,
    Babbles,
}

/// A bus that one stage's runtime is sent to.
pub struct Bus {
    path: PathBuf,
    over: Arc<AtomicBool>,
    server: Option<JoinHandle<Vec<String>>>,
}

impl Bus {
    pub fn new(path: &Path, manner: Manner) -> Bus {
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path).expect("a socket");
        let over = Arc::new(AtomicBool::new(false));
        let ended = over.clone();
        let server = std::thread::spawn(move || {
            let mut calls = Vec::new();
            let mut kept = Vec::new();
            let streams = listener.incoming().map_while(Result::ok);
            let all = if manner == Manner::IsDeaf {
                0
            } else {
                usize::MAX
            };
            for stream in streams.take(all) {
                if ended.load(Ordering::SeqCst) {
                    break;
                }
                kept.extend(serve(stream, manner, &mut calls));
            }
            while !ended.load(Ordering::SeqCst) {
                std::thread::park();
            }
            drop(kept);
            calls
        });
        Bus {
            path: path.to_owned(),
            over,
            server: Some(server),
        }
    }

    /// The methods that were called.
    pub fn calls(mut self) -> Vec<String> {
        self.end()
    }

    fn end(&mut self) -> Vec<String> {
        self.over.store(true, Ordering::SeqCst);
        let Some(server) = self.server.take() else {
            return Vec::new();
        };
        server.thread().unpark();
        let _ = UnixStream::connect(&self.path);
        server.join().expect("the bus")
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.end();
    }
}

/// Serves one connection to its end, or keeps it open where nothing is answered.
fn serve(mut stream: UnixStream, manner: Manner, calls: &mut Vec<String>) -> Option<UnixStream> {
    let mut greeting = [0; GREETING.len()];
    stream.read_exact(&mut greeting).ok()?;
    assert_eq!(&greeting, GREETING);
    if manner == Manner::Babbles {
        stream
            .write_all(b"OK\r\nnonsense, not D-Bus at all, and more of it\r\n")
            .ok()?;
        return None;
    }
    stream
        .write_all(b"DATA\r\nOK 0123456789abcdef0123456789abcdef\r\n")
        .ok()?;
    while let Some(call) = read(&mut stream) {
        calls.push(call.member.clone());
        let begins = ["StartTransientUnit", "StopUnit"].contains(&call.member.as_str());
        let fails = match manner {
            Manner::IsMute => return Some(stream),
            Manner::HasTheUnit if call.member == "StartTransientUnit" => true,
            _ => false,
        };
        let reply = match call.member.as_str() {
            _ if fails => error(
                call.serial,
                "org.freedesktop.systemd1.UnitExists",
                "it was already loaded",
            ),
            "Get" if call.text.contains("Version") => {
                reply(call.serial, Some(("v", variant("252.1"))))
            }
            "Get" if call.text.contains("Slice") => {
                let slice = match manner {
                    Manner::HasTheUnit => "other.slice",
                    _ => "-.slice",
                };
                reply(call.serial, Some(("v", variant(slice))))
            }
            "Get" => reply(
                call.serial,
                Some(("v", variant(machine::enclosure().unwrap_or_default()))),
            ),
            "GetUnit" => reply(call.serial, Some(("o", text("/unit/1")))),
            _ if begins => reply(call.serial, Some(("o", text("/job/1")))),
            _ => reply(call.serial, None),
        };
        let half = reply.len() / 2;
        match manner {
            Manner::Stutters if begins => {
                stream.write_all(&reply[..half]).ok()?;
                return Some(stream);
            }
            Manner::HangsUp if begins => {
                stream.write_all(&reply[..half]).ok()?;
                return None;
            }
            _ => stream.write_all(&reply).ok()?,
        }
        if begins && !fails && manner != Manner::Dawdles {
            stream.write_all(&job_removed()).ok()?;
        }
    }
    None
}

const GREETING: &[u8; 29] = b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n";

struct Call {
    serial: u32,
    member: String,
    /// Its arguments as they came.
    text: String,
}

fn read(stream: &mut UnixStream) -> Option<Call> {
    let mut fixed = [0; 16];
    stream.read_exact(&mut fixed).ok()?;
    let number =
        |at: usize| u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
    let (body, serial, fields) = (number(4) as usize, number(8), number(12) as usize);
    let mut rest = vec![0; fields.next_multiple_of(8) + body];
    stream.read_exact(&mut rest).ok()?;
    let (fields, body) = rest.split_at(fields.next_multiple_of(8));
    // Field 3, a string: the member.
    let at = fields
        .windows(4)
        .position(|w| w == [3, 1, b's', 0])
        .expect("a member")
        + 4;
    let length = fields[at] as usize;
    Some(Call {
        serial,
        member: String::from_utf8_lossy(&fields[at + 4..at + 4 + length]).into_owned(),
        text: String::from_utf8_lossy(body).into_owned(),
    })
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u32).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes.push(0);
    bytes
}

fn variant(value: &str) -> Vec<u8> {
    [b"\x01s\0\0".to_vec(), text(value)].concat()
}

fn message(kind: u8, fields: &[(u8, &str, Vec<u8>)], body: &[u8]) -> Vec<u8> {
    let mut list = Vec::new();
    for (code, signature, value) in fields {
        list.resize(list.len().next_multiple_of(8), 0);
        list.extend([*code, 1, signature.as_bytes()[0], 0]);
        list.extend(value);
    }
    let mut bytes = vec![b'l', kind, 0, 1];
    bytes.extend((body.len() as u32).to_le_bytes());
    bytes.extend(7_u32.to_le_bytes());
    bytes.extend((list.len() as u32).to_le_bytes());
    bytes.extend(list);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend(body);
    bytes
}

fn signature(of: &str) -> (u8, &'static str, Vec<u8>) {
    let mut bytes = vec![of.len() as u8];
    bytes.extend(of.as_bytes());
    bytes.push(0);
    (8, "g", bytes)
}

fn sender() -> (u8, &'static str, Vec<u8>) {
    (7, "s", text(":1.0"))
}

fn reply(to: u32, value: Option<(&str, Vec<u8>)>) -> Vec<u8> {
    let mut fields = vec![(5, "u", to.to_le_bytes().to_vec()), sender()];
    let body = value.map(|(of, body)| {
        fields.push(signature(of));
        body
    });
    message(2, &fields, &body.unwrap_or_default())
}

fn error(to: u32, name: &str, why: &str) -> Vec<u8> {
    let fields = [
        (5, "u", to.to_le_bytes().to_vec()),
        (4, "s", text(name)),
        signature("s"),
    ];
    message(3, &fields, &text(why))
}

/// The signal, first with another job and then, as somebody else sends it, with this one.
fn job_removed() -> Vec<u8> {
    let signal = |from: &str, job: &str, result: &str| {
        let mut body = 1_u32.to_le_bytes().to_vec();
        for (n, word) in [job, "the.scope", result].into_iter().enumerate() {
            body.resize(body.len().next_multiple_of(4), 0);
            assert!(n < 3);
            body.extend(text(word));
        }
        let fields = [
            (1, "o", text("/org/freedesktop/systemd1")),
            (2, "s", text("org.freedesktop.systemd1.Manager")),
            (3, "s", text("JobRemoved")),
            (7, "s", text(from)),
            signature("uoss"),
        ];
        message(4, &fields, &body)
    };
    let mut both = signal(":1.0", "/job/2", "failed");
    both.extend(signal(":1.66", "/job/1", "failed"));
    both.extend(signal(":1.0", "/job/1", "done"));
    both
}
