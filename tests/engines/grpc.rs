//! As much of gRPC and of protobuf's wire form as a kubelet's few calls need; curl speaks the HTTP/2.

use std::process::Command;

use crate::harness::Outcome;

/// A message on its way: fields in the order in which they are added.
#[derive(Clone, Default)]
pub struct Message(Vec<u8>);

impl Message {
    pub fn number(mut self, field: u64, value: u64) -> Message {
        varint(&mut self.0, field << 3);
        varint(&mut self.0, value);
        self
    }

    pub fn text(self, field: u64, text: &str) -> Message {
        self.bytes(field, text.as_bytes())
    }

    pub fn texts(self, field: u64, texts: &[&str]) -> Message {
        texts
            .iter()
            .fold(self, |message, text| message.text(field, text))
    }

    pub fn message(self, field: u64, inner: &Message) -> Message {
        self.bytes(field, &inner.0)
    }

    fn bytes(mut self, field: u64, bytes: &[u8]) -> Message {
        varint(&mut self.0, field << 3 | 2);
        varint(&mut self.0, bytes.len() as u64);
        self.0.extend(bytes);
        self
    }
}

fn varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value > 0x7F {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// A message that came.
pub struct Answer(Vec<u8>);

impl Answer {
    /// The value of a numeric field, 0 when it isn't there.
    pub fn number(&self, field: u64) -> u64 {
        self.fields()
            .find(|(number, ..)| *number == field)
            .map_or(0, |(_, value, _)| value)
    }

    pub fn text(&self, field: u64) -> String {
        String::from_utf8_lossy(&self.bytes(field)).into_owned()
    }

    pub fn message(&self, field: u64) -> Answer {
        Answer(self.bytes(field))
    }

    fn bytes(&self, field: u64) -> Vec<u8> {
        self.fields()
            .find(|(number, ..)| *number == field)
            .map_or(Vec::new(), |(_, _, bytes)| bytes.to_vec())
    }

    /// Number, value and bytes of each field.
    fn fields(&self) -> impl Iterator<Item = (u64, u64, &[u8])> {
        let mut rest = self.0.as_slice();
        std::iter::from_fn(move || {
            let key = take(&mut rest)?;
            let value = match key & 7 {
                0 | 2 => take(&mut rest)?,
                // The messages of CRI have no others.
                kind => panic!("a field of kind {kind}"),
            };
            let (bytes, after) = rest.split_at(if key & 7 == 2 { value as usize } else { 0 });
            rest = after;
            Some((key >> 3, value, bytes))
        })
    }
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7F) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Calls a method; Err is the status that the server gave, and its text.
pub fn call(socket: &str, method: &str, request: &Message) -> Result<Answer, String> {
    const SENT: &str = "/run/grpc.sent";
    const GOT: &str = "/run/grpc.got";
    const HEADERS: &str = "/run/grpc.headers";
    let mut frame = vec![0];
    frame.extend((request.0.len() as u32).to_be_bytes());
    frame.extend(&request.0);
    std::fs::write(SENT, frame).expect("a request");
    let _ = std::fs::remove_file(GOT);
    let outcome = Outcome::of(
        Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--http2-prior-knowledge",
                "--unix-socket",
                socket,
            ])
            .args([
                "--header",
                "content-type: application/grpc",
                "--header",
                "te: trailers",
            ])
            .args([
                "--data-binary",
                &format!("@{SENT}"),
                "--output",
                GOT,
                "--dump-header",
                HEADERS,
            ])
            .arg(format!("http://localhost/{method}")),
    );
    let headers = std::fs::read_to_string(HEADERS).unwrap_or_default();
    let header = |name: &str| {
        let found = headers
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        found.unwrap_or_default().trim().to_owned()
    };
    if outcome.code != 0 || header("grpc-status") != "0" {
        return Err(format!(
            "{} {} {}",
            header("grpc-status"),
            header("grpc-message"),
            outcome.stderr
        ));
    }
    let got = std::fs::read(GOT).unwrap_or_default();
    Ok(Answer(got.get(5..).unwrap_or_default().to_vec()))
}
