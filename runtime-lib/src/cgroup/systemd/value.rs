//! Values of D-Bus's types, and how they lie in a message (D-Bus Specification, "Type System" and
//! "Marshaling"). Descriptors are left out: nothing here sends or takes one.

use std::fmt;

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Byte(u8),
    Bool(bool),
    Int16(i16),
    Uint16(u16),
    Int32(i32),
    Uint32(u32),
    Int64(i64),
    Uint64(u64),
    Double(f64),
    Text(String),
    Path(String),
    Signature(String),
    Array {
        /// The signature of every item, which an empty array has as well.
        of: String,
        items: Vec<Value>,
    },
    Struct(Vec<Value>),
    /// A key and its value, in an array.
    Entry(Box<(Value, Value)>),
    Variant(Box<Value>),
}

impl Value {
    pub fn text(text: impl Into<String>) -> Value {
        Value::Text(text.into())
    }

    pub fn array(of: &str, items: Vec<Value>) -> Value {
        let of = of.to_owned();
        Value::Array { of, items }
    }

    pub fn bytes(bytes: impl IntoIterator<Item = u8>) -> Value {
        Value::array("y", bytes.into_iter().map(Value::Byte).collect())
    }

    pub fn variant(self) -> Value {
        Value::Variant(Box::new(self))
    }

    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) | Value::Path(text) | Value::Signature(text) => Some(text),
            _ => None,
        }
    }

    pub fn signature(&self) -> String {
        match self {
            Value::Byte(_) => "y".to_owned(),
            Value::Bool(_) => "b".to_owned(),
            Value::Int16(_) => "n".to_owned(),
            Value::Uint16(_) => "q".to_owned(),
            Value::Int32(_) => "i".to_owned(),
            Value::Uint32(_) => "u".to_owned(),
            Value::Int64(_) => "x".to_owned(),
            Value::Uint64(_) => "t".to_owned(),
            Value::Double(_) => "d".to_owned(),
            Value::Text(_) => "s".to_owned(),
            Value::Path(_) => "o".to_owned(),
            Value::Signature(_) => "g".to_owned(),
            Value::Array { of, .. } => format!("a{of}"),
            Value::Struct(fields) => format!("({})", signature(fields)),
            Value::Entry(entry) => format!("{{{}{}}}", entry.0.signature(), entry.1.signature()),
            Value::Variant(_) => "v".to_owned(),
        }
    }

    /// Appends the value, in little-endian order; `out` begins where a multiple of eight does.
    pub fn write(&self, out: &mut Vec<u8>) {
        pad(out, alignment(self.kind()));
        match self {
            Value::Byte(v) => out.push(*v),
            Value::Bool(v) => out.extend(u32::from(*v).to_le_bytes()),
            Value::Int16(v) => out.extend(v.to_le_bytes()),
            Value::Uint16(v) => out.extend(v.to_le_bytes()),
            Value::Int32(v) => out.extend(v.to_le_bytes()),
            Value::Uint32(v) => out.extend(v.to_le_bytes()),
            Value::Int64(v) => out.extend(v.to_le_bytes()),
            Value::Uint64(v) => out.extend(v.to_le_bytes()),
            Value::Double(v) => out.extend(v.to_le_bytes()),
            Value::Text(text) | Value::Path(text) => {
                out.extend((text.len() as u32).to_le_bytes());
                out.extend(text.as_bytes());
                out.push(0);
            }
            Value::Signature(text) => write_signature(text, out),
            Value::Array { of, items } => {
                let length_at = out.len();
                out.extend([0; 4]);
                pad(out, alignment(of.as_bytes().first().copied().unwrap_or(0)));
                let begin = out.len();
                items.iter().for_each(|item| item.write(out));
                let length = (out.len() - begin) as u32;
                if let Some(place) = out.get_mut(length_at..length_at + 4) {
                    place.copy_from_slice(&length.to_le_bytes());
                }
            }
            Value::Struct(fields) => fields.iter().for_each(|field| field.write(out)),
            Value::Entry(entry) => {
                entry.0.write(out);
                entry.1.write(out);
            }
            Value::Variant(value) => {
                write_signature(&value.signature(), out);
                value.write(out);
            }
        }
    }

    /// The first letter of the signature.
    fn kind(&self) -> u8 {
        match self {
            Value::Array { .. } => b'a',
            Value::Struct(_) => b'(',
            Value::Entry(_) => b'{',
            other => other.signature().as_bytes().first().copied().unwrap_or(0),
        }
    }
}

/// As GVariant's text format has it (and `explain` prints it), but for the types.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let several = |f: &mut fmt::Formatter<'_>, values: &[Value], ends: [&str; 2]| {
            let shown: Vec<String> = values.iter().map(Value::to_string).collect();
            write!(f, "{}{}{}", ends[0], shown.join(", "), ends[1])
        };
        match self {
            Value::Byte(v) => write!(f, "{v}"),
            Value::Bool(v) => write!(f, "{v}"),
            Value::Int16(v) => write!(f, "{v}"),
            Value::Uint16(v) => write!(f, "{v}"),
            Value::Int32(v) => write!(f, "{v}"),
            Value::Uint32(v) => write!(f, "{v}"),
            Value::Int64(v) => write!(f, "{v}"),
            Value::Uint64(v) => write!(f, "{v}"),
            Value::Double(v) => write!(f, "{v:?}"),
            Value::Text(text) | Value::Path(text) | Value::Signature(text) => {
                write!(f, "'{}'", text.escape_default())
            }
            Value::Array { items, .. } => several(f, items, ["[", "]"]),
            Value::Struct(fields) => several(f, fields, ["(", ")"]),
            Value::Entry(entry) => write!(f, "{{{}: {}}}", entry.0, entry.1),
            Value::Variant(value) => write!(f, "<{value}>"),
        }
    }
}

/// The signature of these values, one after the other.
pub fn signature(values: &[Value]) -> String {
    values.iter().map(Value::signature).collect()
}

pub fn pad(out: &mut Vec<u8>, alignment: usize) {
    out.resize(out.len().next_multiple_of(alignment), 0);
}

fn write_signature(text: &str, out: &mut Vec<u8>) {
    out.push(text.len() as u8);
    out.extend(text.as_bytes());
    out.push(0);
}

fn alignment(kind: u8) -> usize {
    match kind {
        b'n' | b'q' => 2,
        b'b' | b'i' | b'u' | b's' | b'o' | b'a' => 4,
        b'x' | b't' | b'd' | b'(' | b'{' => 8,
        _ => 1,
    }
}

/// How deep values may lie in each other (the specification's two limits of 32 together).
const DEEPEST: u32 = 64;

/// Reads values out of a message of somebody else's. Every method answers None to what is no
/// value of that kind.
pub struct Reader<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
    pub big_endian: bool,
}

impl<'a> Reader<'a> {
    /// The values of a whole signature.
    pub fn values(&mut self, signature: &str) -> Option<Vec<Value>> {
        let mut rest = signature;
        let mut values = Vec::new();
        while !rest.is_empty() {
            let (one, after) = first_type(rest)?;
            values.push(self.value(one, 0)?);
            rest = after;
        }
        Some(values)
    }

    fn value(&mut self, signature: &str, depth: u32) -> Option<Value> {
        if depth > DEEPEST {
            return None;
        }
        let (kind, inner) = (*signature.as_bytes().first()?, signature.get(1..)?);
        self.align(alignment(kind))?;
        Some(match kind {
            b'y' => Value::Byte(u8::from_le_bytes(self.number()?)),
            b'b' => Value::Bool(match self.uint32()? {
                0 => false,
                1 => true,
                _ => return None,
            }),
            b'n' => Value::Int16(i16::from_le_bytes(self.number()?)),
            b'q' => Value::Uint16(u16::from_le_bytes(self.number()?)),
            b'i' => Value::Int32(i32::from_le_bytes(self.number()?)),
            b'u' => Value::Uint32(self.uint32()?),
            b'x' => Value::Int64(i64::from_le_bytes(self.number()?)),
            b't' => Value::Uint64(u64::from_le_bytes(self.number()?)),
            b'd' => Value::Double(f64::from_le_bytes(self.number()?)),
            b's' => Value::Text(self.text()?),
            b'o' => Value::Path(self.text()?),
            b'g' => Value::Signature(self.short_text()?),
            b'v' => {
                let signature = self.short_text()?;
                let (one, rest) = first_type(&signature)?;
                match rest {
                    "" => self.value(one, depth + 1)?.variant(),
                    _ => return None,
                }
            }
            b'a' => self.array(inner, depth)?,
            b'(' => {
                let mut rest = inner.strip_suffix(')').filter(|rest| !rest.is_empty())?;
                let mut fields = Vec::new();
                while !rest.is_empty() {
                    let (one, after) = first_type(rest)?;
                    fields.push(self.value(one, depth + 1)?);
                    rest = after;
                }
                Value::Struct(fields)
            }
            b'{' => {
                let (key, value) = first_type(inner.strip_suffix('}')?)?;
                let key = self.value(key, depth + 1)?;
                Value::Entry(Box::new((key, self.value(value, depth + 1)?)))
            }
            _ => return None,
        })
    }

    fn array(&mut self, of: &str, depth: u32) -> Option<Value> {
        let length = self.uint32()? as usize;
        self.align(alignment(*of.as_bytes().first()?))?;
        let end = self.at.checked_add(length)?;
        if end > self.bytes.len() {
            return None;
        }
        let mut items = Vec::new();
        while self.at < end {
            items.push(self.value(of, depth + 1)?);
        }
        (self.at == end).then(|| Value::array(of, items))
    }

    pub fn align(&mut self, alignment: usize) -> Option<()> {
        self.at = self.at.next_multiple_of(alignment);
        (self.at <= self.bytes.len()).then_some(())
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    /// The bytes of a number, the least significant first.
    fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes: [u8; N] = self.take(N)?.try_into().ok()?;
        if self.big_endian {
            bytes.reverse();
        }
        Some(bytes)
    }

    pub fn uint32(&mut self) -> Option<u32> {
        self.number().map(u32::from_le_bytes)
    }

    fn text(&mut self) -> Option<String> {
        let length = self.uint32()? as usize;
        self.terminated(length)
    }

    fn short_text(&mut self) -> Option<String> {
        let [length] = self.number()?;
        self.terminated(length.into())
    }

    fn terminated(&mut self, length: usize) -> Option<String> {
        let text = self.take(length)?;
        match self.take(1)? {
            [0] => String::from_utf8(text.to_vec()).ok(),
            _ => None,
        }
    }
}

/// The first complete type of a signature, and the rest.
pub fn first_type(signature: &str) -> Option<(&str, &str)> {
    let mut open = 0_u32;
    for (at, letter) in signature.bytes().enumerate() {
        match letter {
            b'a' => continue,
            b'(' | b'{' => open += 1,
            b')' | b'}' => open = open.checked_sub(1)?,
            _ => {}
        }
        if open == 0 {
            return signature.split_at_checked(at + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Value> {
        vec![
            Value::Byte(7),
            Value::Bool(true),
            Value::Int16(-2),
            Value::Uint16(40_000),
            Value::Int32(-5),
            Value::Uint32(77),
            Value::Int64(-1 << 40),
            Value::Uint64(u64::MAX),
            Value::Double(1.5),
            Value::text("grüße"),
            Value::Path("/a/b".into()),
            Value::Signature("a(sv)".into()),
            Value::array("t", Vec::new()),
            Value::bytes([1, 2, 3]),
            Value::array(
                "(sv)",
                vec![
                    Value::Struct(vec![
                        Value::text("PIDs"),
                        Value::array("u", vec![Value::Uint32(42)]).variant(),
                    ]),
                    Value::Struct(vec![Value::text("Delegate"), Value::Bool(true).variant()]),
                ],
            ),
            Value::array(
                "{sv}",
                vec![Value::Entry(Box::new((
                    Value::text("k"),
                    Value::Struct(vec![Value::Byte(1), Value::Uint64(2)]).variant(),
                )))],
            ),
        ]
    }

    #[test]
    fn what_is_written_is_read_back() {
        let samples = samples();
        let mut bytes = Vec::new();
        samples.iter().for_each(|value| value.write(&mut bytes));
        let mut reader = Reader {
            bytes: &bytes,
            at: 0,
            big_endian: false,
        };
        assert_eq!(reader.values(&signature(&samples)), Some(samples));
        assert_eq!(reader.at, bytes.len());
    }

    #[test]
    fn the_bytes_are_those_of_the_specification() {
        let mut bytes = Vec::new();
        Value::Byte(5).write(&mut bytes);
        Value::text("foo").write(&mut bytes);
        Value::array("t", vec![Value::Uint64(5)]).write(&mut bytes);
        let expected = [
            &[5, 0, 0, 0][..],
            &[3, 0, 0, 0, b'f', b'o', b'o', 0],
            &[8, 0, 0, 0],
            &[5, 0, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(bytes, expected.concat());
        // Its items are aligned, though the padding before the first is not of its length.
        let mut bytes = Vec::new();
        Value::array("t", vec![Value::Uint64(5)]).write(&mut bytes);
        let expected = [[8, 0, 0, 0, 0, 0, 0, 0], [5, 0, 0, 0, 0, 0, 0, 0]];
        assert_eq!(bytes, expected.concat());
        let mut bytes = Vec::new();
        Value::Bool(true).variant().write(&mut bytes);
        assert_eq!(bytes, [1, b'b', 0, 0, 1, 0, 0, 0]);
        let mut reader = Reader {
            bytes: &[0, 0, 1, 2],
            at: 0,
            big_endian: true,
        };
        assert_eq!(reader.uint32(), Some(0x102));
    }

    #[test]
    fn nothing_that_is_cut_or_nonsense_is_read() {
        let samples = samples();
        let mut bytes = Vec::new();
        samples.iter().for_each(|value| value.write(&mut bytes));
        let signature = signature(&samples);
        for end in 0..bytes.len() {
            let mut reader = Reader {
                bytes: &bytes[..end],
                at: 0,
                big_endian: false,
            };
            assert_eq!(reader.values(&signature), None, "{end}");
        }
        for signature in ["a", "(", "(s", "s)", "{sv", "z", "()"] {
            let mut reader = Reader {
                bytes: &[0; 64],
                at: 0,
                big_endian: false,
            };
            assert_eq!(reader.values(signature), None, "{signature}");
        }
        // Items of no length would never end.
        let mut reader = Reader {
            bytes: &[4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            at: 0,
            big_endian: false,
        };
        assert_eq!(reader.values("a()"), None);
        // A variant in a variant in a variant …
        let nested = |depth| [&[1, b'v', 0].repeat(depth)[..], &[1, b'y', 0, 7]].concat();
        let read = |bytes: &[u8]| {
            let mut reader = Reader {
                bytes,
                at: 0,
                big_endian: false,
            };
            reader.values("v")
        };
        assert!(read(&nested(60)).is_some());
        assert_eq!(read(&nested(300)), None);
    }
}
