//! One D-Bus message (D-Bus Specification, "Message Format"): what is sent, and what of those
//! that come in is of use.

use super::value::{Reader, Value, pad, signature};

/// The specification's longest message is 128 MiB; nothing that systemd answers to us is near.
const LONGEST: usize = 1 << 20;
/// The length of the part that says how long the message is.
pub const FIXED: usize = 16;

const CALL: u8 = 1;
const RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SENDER: u8 = 7;
const SIGNATURE: u8 = 8;

/// A method call.
pub struct Call<'a> {
    /// The name on the bus; None where systemd itself is at the other end.
    pub destination: Option<&'a str>,
    pub path: &'a str,
    pub interface: &'a str,
    pub member: &'a str,
    pub arguments: &'a [Value],
}

impl Call<'_> {
    pub fn bytes(&self, serial: u32) -> Vec<u8> {
        let mut body = Vec::new();
        self.arguments
            .iter()
            .for_each(|value| value.write(&mut body));
        let field = |code, value: Value| Value::Struct(vec![Value::Byte(code), value.variant()]);
        let mut fields = vec![
            field(PATH, Value::Path(self.path.to_owned())),
            field(INTERFACE, Value::text(self.interface)),
            field(MEMBER, Value::text(self.member)),
        ];
        fields.extend(
            self.destination
                .map(|name| field(DESTINATION, Value::text(name))),
        );
        if !self.arguments.is_empty() {
            let signature = signature(self.arguments);
            fields.push(field(SIGNATURE, Value::Signature(signature)));
        }
        let (flags, version) = (0, 1);
        let mut message = vec![b'l', CALL, flags, version];
        message.extend((body.len() as u32).to_le_bytes());
        message.extend(serial.to_le_bytes());
        Value::array("(yv)", fields).write(&mut message);
        pad(&mut message, 8);
        message.extend(body);
        message
    }
}

/// A message that came in.
#[derive(Debug, PartialEq)]
pub enum Incoming {
    Reply {
        to: u32,
        sender: Option<String>,
        values: Vec<Value>,
    },
    Error {
        to: u32,
        name: String,
        text: String,
    },
    Signal {
        sender: Option<String>,
        member: String,
        values: Vec<Value>,
    },
    /// Calls of ours, and kinds of messages that later versions may have.
    Other,
}

/// How long the message is that begins like this; None: nothing that we would read.
pub fn length(fixed: &[u8; FIXED]) -> Option<usize> {
    let [order, _, _, 1, ..] = fixed else {
        return None;
    };
    let mut reader = Reader {
        bytes: fixed,
        at: 4,
        big_endian: big_endian(*order)?,
    };
    let body = reader.uint32()? as usize;
    let _serial = reader.uint32()?;
    let fields = reader.uint32()? as usize;
    let header = FIXED.checked_add(fields)?.next_multiple_of(8);
    header.checked_add(body).filter(|all| *all <= LONGEST)
}

fn big_endian(order: u8) -> Option<bool> {
    match order {
        b'l' => Some(false),
        b'B' => Some(true),
        _ => None,
    }
}

/// Reads a whole message; None: it is none.
pub fn parse(message: &[u8]) -> Option<Incoming> {
    let [order, kind, ..] = message else {
        return None;
    };
    let mut reader = Reader {
        bytes: message,
        at: 12,
        big_endian: big_endian(*order)?,
    };
    let fields = reader.values("a(yv)")?;
    let [Value::Array { items: fields, .. }] = fields.as_slice() else {
        return None;
    };
    let field = |wanted: u8| {
        fields.iter().find_map(|field| match field {
            Value::Struct(pair) => match pair.as_slice() {
                [Value::Byte(code), Value::Variant(value)] if *code == wanted => Some(&**value),
                _ => None,
            },
            _ => None,
        })
    };
    let text = |wanted| field(wanted).and_then(Value::as_text).map(str::to_owned);
    reader.align(8)?;
    let values = reader.values(&text(SIGNATURE).unwrap_or_default())?;
    let to = match field(REPLY_SERIAL) {
        Some(Value::Uint32(serial)) => Some(*serial),
        _ => None,
    };
    let sender = text(SENDER);
    Some(match *kind {
        RETURN => Incoming::Reply {
            to: to?,
            sender,
            values,
        },
        ERROR => Incoming::Error {
            to: to?,
            name: text(ERROR_NAME)?,
            text: values
                .first()
                .and_then(Value::as_text)
                .unwrap_or_default()
                .to_owned(),
        },
        SIGNAL => Incoming::Signal {
            sender,
            member: text(MEMBER)?,
            values,
        },
        _ => Incoming::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_what_the_specification_says() {
        let call = Call {
            destination: Some("org.freedesktop.DBus"),
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member: "Hello",
            arguments: &[],
        };
        let mut expected = b"l\x01\0\x01\0\0\0\0\x01\0\0\0\x6d\0\0\0".to_vec();
        expected.extend(b"\x01\x01o\0\x15\0\0\0/org/freedesktop/DBus\0\0\0");
        expected.extend(b"\x02\x01s\0\x14\0\0\0org.freedesktop.DBus\0\0\0\0");
        expected.extend(b"\x03\x01s\0\x05\0\0\0Hello\0\0\0");
        expected.extend(b"\x06\x01s\0\x14\0\0\0org.freedesktop.DBus\0\0\0\0");
        assert_eq!(call.bytes(1), expected);
        let fixed = expected[..FIXED].try_into().unwrap();
        assert_eq!(length(fixed), Some(expected.len()));
        assert_eq!(parse(&expected), Some(Incoming::Other));
    }

    /// A message of the bus, as its bytes.
    fn incoming(kind: u8, fields: Vec<(u8, Value)>, body: &[Value]) -> Vec<u8> {
        let call = Call {
            destination: None,
            path: "/",
            interface: "a.b",
            member: "C",
            arguments: body,
        };
        let mut values = Vec::new();
        body.iter().for_each(|value| value.write(&mut values));
        let mut message = call.bytes(9)[..12].to_vec();
        message[1] = kind;
        let field =
            |(code, value): (u8, Value)| Value::Struct(vec![Value::Byte(code), value.variant()]);
        Value::array("(yv)", fields.into_iter().map(field).collect()).write(&mut message);
        pad(&mut message, 8);
        message.extend(values);
        message
    }

    #[test]
    fn replies_errors_and_signals_are_told_apart() {
        let sender = || (SENDER, Value::text(":1.1"));
        let body = [Value::text("why")];
        let text = (SIGNATURE, Value::Signature("s".into()));
        let reply = incoming(
            RETURN,
            vec![(REPLY_SERIAL, Value::Uint32(3)), sender()],
            &[],
        );
        let expected = Incoming::Reply {
            to: 3,
            sender: Some(":1.1".into()),
            values: Vec::new(),
        };
        assert_eq!(parse(&reply), Some(expected));
        let name = (ERROR_NAME, Value::text("a.No"));
        let fields = vec![name, (REPLY_SERIAL, Value::Uint32(4)), text.clone()];
        let expected = Incoming::Error {
            to: 4,
            name: "a.No".into(),
            text: "why".into(),
        };
        assert_eq!(parse(&incoming(ERROR, fields, &body)), Some(expected));
        let fields = vec![(MEMBER, Value::text("JobRemoved")), sender(), text];
        let expected = Incoming::Signal {
            sender: Some(":1.1".into()),
            member: "JobRemoved".into(),
            values: body.to_vec(),
        };
        assert_eq!(parse(&incoming(SIGNAL, fields, &body)), Some(expected));
    }

    #[test]
    fn nonsense_is_no_message() {
        assert_eq!(length(b"x\x01\0\x01\0\0\0\0\x01\0\0\0\0\0\0\0"), None);
        assert_eq!(length(b"l\x01\0\x02\0\0\0\0\x01\0\0\0\0\0\0\0"), None);
        assert_eq!(
            length(b"l\x01\0\x01\xff\xff\xff\xff\x01\0\0\0\0\0\0\0"),
            None
        );
        for cut in 0..40 {
            let reply = incoming(RETURN, vec![(REPLY_SERIAL, Value::Uint32(3))], &[]);
            assert_eq!(parse(&reply[..cut.min(reply.len() - 1)]), None, "{cut}");
        }
    }
}
