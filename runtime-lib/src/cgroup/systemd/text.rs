//! Values as people write them: GVariant's text format (GLib, "GVariant Text Format"), in which
//! the annotations `org.systemd.property.*` are. Text in, value out.

use super::draft::{Draft, is_type, named};
use super::value::Value;

/// How deep values may lie in each other.
const DEEPEST: usize = 16;

/// Reads one value; the error says what is wrong with the text.
pub fn parse(text: &str) -> Result<Value, String> {
    let mut reader = Text { rest: text };
    let value = reader.value(0)?;
    reader.blank();
    match reader.rest {
        "" => value.settled(None),
        rest => Err(format!("{rest:?} after the value")),
    }
}

struct Text<'a> {
    rest: &'a str,
}

impl<'a> Text<'a> {
    fn blank(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn taken(&mut self, token: &str) -> bool {
        self.blank();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        match self.taken(token) {
            true => Ok(()),
            false => Err(format!("{token:?} expected at {:?}", self.rest)),
        }
    }

    fn word(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, ""));
        self.rest = rest;
        word
    }

    fn value(&mut self, depth: usize) -> Result<Draft, String> {
        self.blank();
        if depth > DEEPEST {
            return Err("too deep".to_owned());
        }
        match self.rest.chars().next() {
            None => Err("a value is missing".to_owned()),
            Some('\'' | '"') => Ok(Draft::Known(Value::Text(self.string()?))),
            Some('[') => {
                self.rest = self.rest.get(1..).unwrap_or_default();
                self.list("]", depth).map(Draft::Array)
            }
            Some('(') => {
                self.rest = self.rest.get(1..).unwrap_or_default();
                match self.list(")", depth)? {
                    fields if fields.is_empty() => Err("an empty tuple".to_owned()),
                    fields => Ok(Draft::Struct(fields)),
                }
            }
            Some('{') => self.dict(depth),
            Some('<') => {
                self.rest = self.rest.get(1..).unwrap_or_default();
                let inner = self.value(depth + 1)?.settled(None)?;
                self.expect(">")?;
                Ok(Draft::Known(inner.variant()))
            }
            Some('@') => {
                self.rest = self.rest.get(1..).unwrap_or_default();
                let kind = self.word(|c| !c.is_whitespace());
                if kind.len() > 64 || !is_type(kind.as_bytes()) {
                    return Err(format!("{kind:?} is no type"));
                }
                let value = self.value(depth + 1)?;
                value.settled(Some(kind)).map(Draft::Known)
            }
            Some('b') if self.rest.starts_with("b'") || self.rest.starts_with("b\"") => {
                self.rest = self.rest.get(1..).unwrap_or_default();
                let text = self.string()?;
                let bytes = text.into_bytes().into_iter().chain([0]);
                Ok(Draft::Known(Value::bytes(bytes)))
            }
            Some(c) if c.is_ascii_alphabetic() => self.named(depth),
            Some(_) => {
                let number = self.word(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
                match number {
                    "" => Err(format!("no value: {:?}", self.rest)),
                    number => Ok(Draft::Number(number.to_owned())),
                }
            }
        }
    }

    /// true, false, or the name of a type before its value.
    fn named(&mut self, depth: usize) -> Result<Draft, String> {
        let word = self.word(|c| c.is_ascii_alphanumeric());
        let kind = match word {
            "true" => return Ok(Draft::Known(Value::Bool(true))),
            "false" => return Ok(Draft::Known(Value::Bool(false))),
            "inf" | "nan" => return Ok(Draft::Number(word.to_owned())),
            word => {
                named(word).ok_or_else(|| format!("{word:?} is no value; strings are quoted"))?
            }
        };
        self.value(depth + 1)?.settled(Some(kind)).map(Draft::Known)
    }

    fn list(&mut self, end: &str, depth: usize) -> Result<Vec<Draft>, String> {
        let mut items = Vec::new();
        while !self.taken(end) {
            items.push(self.value(depth + 1)?);
            if !self.taken(",") {
                self.expect(end)?;
                break;
            }
        }
        Ok(items)
    }

    fn dict(&mut self, depth: usize) -> Result<Draft, String> {
        self.expect("{")?;
        let mut entries = Vec::new();
        while !self.taken("}") {
            let key = self.value(depth + 1)?;
            self.expect(":")?;
            entries.push((key, self.value(depth + 1)?));
            if !self.taken(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(Draft::Dict(entries))
    }

    fn string(&mut self) -> Result<String, String> {
        let mut chars = self.rest.chars();
        let quote = chars.next();
        let mut text = String::new();
        while let Some(c) = chars.next() {
            if Some(c) == quote {
                self.rest = chars.as_str();
                return Ok(text);
            }
            let c = match c {
                '\\' => match chars.next() {
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some('r') => '\r',
                    Some('a') => '\u{7}',
                    Some('b') => '\u{8}',
                    Some('f') => '\u{c}',
                    Some('v') => '\u{b}',
                    Some('u') => escape(&mut chars, 4)?,
                    Some('U') => escape(&mut chars, 8)?,
                    Some(c) => c,
                    None => break,
                },
                c => c,
            };
            match c {
                '\0' => return Err("a NUL cannot be part of a string".to_owned()),
                c => text.push(c),
            }
        }
        Err("a string without an end".to_owned())
    }
}

fn escape(chars: &mut std::str::Chars<'_>, digits: usize) -> Result<char, String> {
    let text: String = chars.take(digits).collect();
    let number = u32::from_str_radix(&text, 16).ok();
    let found = number.and_then(char::from_u32);
    found.ok_or_else(|| format!("\\u{text} is no character"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Value {
        Value::array("s", texts.iter().map(|text| Value::text(*text)).collect())
    }

    #[test]
    fn every_kind_of_value_is_read() {
        let int = Value::Int32;
        for (text, value) in [
            ("true", Value::Bool(true)),
            (" false ", Value::Bool(false)),
            ("boolean true", Value::Bool(true)),
            ("'it\\'s'", Value::text("it's")),
            ("\"a\\n\\u00e4\\U0001F600\"", Value::text("a\nä😀")),
            ("-5", int(-5)),
            ("0x1F", int(31)),
            ("017", int(15)),
            ("1.5", Value::Double(1.5)),
            ("1e3", Value::Double(1000.0)),
            ("byte 0xff", Value::Byte(255)),
            ("int16 -3", Value::Int16(-3)),
            ("uint16 3", Value::Uint16(3)),
            ("uint32 7", Value::Uint32(7)),
            ("int64 -1", Value::Int64(-1)),
            ("uint64 18446744073709551615", Value::Uint64(u64::MAX)),
            ("@t 5", Value::Uint64(5)),
            ("double 5", Value::Double(5.0)),
            ("objectpath '/a/b_1'", Value::Path("/a/b_1".into())),
            ("signature 'a{sv}'", Value::Signature("a{sv}".into())),
            ("['a', \"b\"]", texts(&["a", "b"])),
            ("@as []", texts(&[])),
            ("[1, 2]", Value::array("i", vec![int(1), int(2)])),
            (
                "[1, 2.5]",
                Value::array("d", vec![Value::Double(1.0), Value::Double(2.5)]),
            ),
            (
                "[1, uint64 2]",
                Value::array("t", vec![Value::Uint64(1), Value::Uint64(2)]),
            ),
            ("@au [1]", Value::array("u", vec![Value::Uint32(1)])),
            ("b'ab'", Value::bytes(*b"ab\0")),
            ("<'x'>", Value::text("x").variant()),
            (
                "('x', uint32 1)",
                Value::Struct(vec![Value::text("x"), Value::Uint32(1)]),
            ),
            (
                "@a(st) [('/dev/null', 5)]",
                Value::array(
                    "(st)",
                    vec![Value::Struct(vec![
                        Value::text("/dev/null"),
                        Value::Uint64(5),
                    ])],
                ),
            ),
            (
                "{'a': <1>}",
                Value::array(
                    "{sv}",
                    vec![Value::Entry(Box::new((Value::text("a"), int(1).variant())))],
                ),
            ),
        ] {
            assert_eq!(parse(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for text in [
            "",
            "   ",
            "word",
            "'open",
            "\"open\\",
            "[",
            "[]",
            "{}",
            "()",
            "(",
            "[1,, 2]",
            "1 2",
            "uint32 -1",
            "byte 256",
            "2147483648",
            "0xg",
            "--1",
            "uint64 'x'",
            "@t 'x'",
            "@z 1",
            "@ 1",
            "@as [1]",
            "@(s) ('a', 'b')",
            "@(ss) ('a',)",
            "['a', 1]",
            "[1, 'a']",
            "{1}",
            "{[1]: 2}",
            "objectpath 'a'",
            "objectpath '/a/'",
            "signature '('",
            "'\\u0000'",
            "'\\ud800'",
            "handle 1",
            "<1",
            "@a() []",
            "@a{vs} {}",
            "maybe 1",
            "nothing",
            "1.2.3",
        ] {
            assert!(parse(text).is_err(), "{text}: {:?}", parse(text));
        }
        let deep = "[".repeat(10_000);
        assert!(parse(&deep).is_err());
        let deep = "@".repeat(10_000);
        assert!(parse(&deep).is_err());
        let deep = format!("@{}s []", "a".repeat(100_000));
        assert!(parse(&deep).is_err());
    }
}
