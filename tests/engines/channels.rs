//! What a kubelet's client has of an exec or an attach that streams: a WebSocket whose messages begin with the
//! number of their channel (v4.channel.k8s.io).

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use crate::harness::outcome::LIMIT;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const VERDICT: u8 = 3;
const SIZE: u8 = 4;

/// A whole message of bytes; the end of the conversation.
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;

pub struct Channels {
    socket: TcpStream,
    shown: Shown,
}

/// What came so far.
#[derive(Clone, Default, Debug)]
pub struct Shown {
    pub stdout: String,
    pub stderr: String,
    /// The server's words about the end, when it has said them.
    pub verdict: String,
}

impl Shown {
    /// The status of the program.
    #[track_caller]
    pub fn status(&self) -> i32 {
        let verdict: Value = serde_json::from_str(&self.verdict).unwrap_or_default();
        if verdict["status"] == "Success" {
            return 0;
        }
        let causes = verdict["details"]["causes"]
            .as_array()
            .into_iter()
            .flatten();
        let code = causes.filter(|cause| cause["reason"] == "ExitCode");
        code.filter_map(|cause| cause["message"].as_str()?.parse().ok())
            .next()
            .unwrap_or_else(|| panic!("no status: {self:?}"))
    }
}

impl Channels {
    /// Goes to where the server told the client to.
    pub fn open(url: &str) -> Channels {
        let rest = url.strip_prefix("http://").expect("a URL");
        let (host, path) = rest.split_once('/').expect("a path");
        let mut socket = TcpStream::connect(host).unwrap_or_else(|e| panic!("{url}: {e}"));
        socket.set_read_timeout(Some(LIMIT)).expect("a timeout");
        // The key has to be 16 bytes, and what is answered to it shows only that it was read.
        let request = format!(
            "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
             Sec-WebSocket-Protocol: v4.channel.k8s.io\r\nOrigin: http://{host}\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).expect("a request");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            let read = socket.read(&mut byte).expect("an answer");
            assert!(read == 1, "{url}: {}", String::from_utf8_lossy(&answer));
            answer.push(byte[0]);
        }
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 101"), "{url}: {answer}");
        Channels {
            socket,
            shown: Shown::default(),
        }
    }

    pub fn types(&mut self, keys: &str) {
        self.sends(STDIN, keys.as_bytes());
    }

    pub fn resizes(&mut self, columns: u16, rows: u16) {
        let size = format!(r#"{{"Width":{columns},"Height":{rows}}}"#);
        self.sends(SIZE, size.as_bytes());
    }

    /// A client's bytes are masked; this mask leaves them as they are.
    fn sends(&mut self, channel: u8, bytes: &[u8]) {
        let length = u8::try_from(bytes.len() + 1).expect("a few bytes");
        assert!(length < 126);
        let mut frame = vec![BINARY, 0x80 | length, 0, 0, 0, 0, channel];
        frame.extend(bytes);
        self.socket.write_all(&frame).expect("a message");
    }

    /// Reads until `text` came on stdout.
    #[track_caller]
    pub fn shows(&mut self, text: &str) {
        while !self.shown.stdout.contains(text) {
            assert!(self.reads(), "no {text:?}: {:?}", self.shown);
        }
    }

    /// All that came up to the end.
    pub fn ends(mut self) -> Shown {
        while self.reads() {}
        self.shown.clone()
    }

    /// One message more; false at the end.
    fn reads(&mut self) -> bool {
        let mut start = [0; 2];
        if self.socket.read_exact(&mut start).is_err() || start[0] == CLOSE {
            return false;
        }
        assert_eq!(start[0], BINARY, "{:?}", self.shown);
        let length = match start[1] {
            126 => {
                let mut length = [0; 2];
                self.socket.read_exact(&mut length).expect("a length");
                u16::from_be_bytes(length).into()
            }
            length => usize::from(length),
        };
        let mut message = vec![0; length];
        self.socket.read_exact(&mut message).expect("a message");
        let Some((channel, bytes)) = message.split_first() else {
            return true;
        };
        let text = match *channel {
            STDOUT => &mut self.shown.stdout,
            STDERR => &mut self.shown.stderr,
            VERDICT => &mut self.shown.verdict,
            _ => return true,
        };
        text.push_str(&String::from_utf8_lossy(bytes));
        true
    }
}
