//! Values as people write them: GVariant's text format (GLib, "GVariant Text Format"), in which
//! the annotations `org.systemd.property.*` are. Text in, value out.

use super::value::{Value, first_type};

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

/// A value whose type may not be known yet.
enum Draft {
    Known(Value),
    /// A number without a type; what it is depends on where it stands.
    Number(String),
    Array(Vec<Draft>),
    Struct(Vec<Draft>),
    Dict(Vec<(Draft, Draft)>),
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
            "boolean" => "b",
            "byte" => "y",
            "int16" => "n",
            "uint16" => "q",
            "int32" => "i",
            "uint32" => "u",
            "int64" => "x",
            "uint64" => "t",
            "double" => "d",
            "string" => "s",
            "objectpath" => "o",
            "signature" => "g",
            _ => return Err(format!("{word:?} is no value; strings are quoted")),
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

impl Draft {
    /// The value, of this type if it is said.
    fn settled(self, kind: Option<&str>) -> Result<Value, String> {
        let mismatch = |value: &Value, kind: &str| {
            Err(format!(
                "a value of type {} where {kind} is said",
                value.signature()
            ))
        };
        match (self, kind) {
            (Draft::Known(value), None) => Ok(value),
            (Draft::Known(Value::Text(text)), Some("o")) if is_path(&text) => Ok(Value::Path(text)),
            (Draft::Known(Value::Text(text)), Some("g")) if is_signature(&text) => {
                Ok(Value::Signature(text))
            }
            (Draft::Known(value), Some(kind)) if value.signature() == kind => Ok(value),
            (Draft::Known(value), Some(kind)) => mismatch(&value, kind),
            (Draft::Number(text), kind) => number(&text, kind),
            (Draft::Array(items), kind) => array(items, kind),
            (Draft::Struct(fields), kind) => {
                let mut kinds = match kind.map(inner) {
                    Some(None) => return Err("a tuple where none is said".to_owned()),
                    Some(Some(inner)) => Some(inner),
                    None => None,
                };
                let mut values = Vec::new();
                for field in fields {
                    let (one, rest) = match kinds {
                        Some(kinds) => first_type(kinds).map(|(one, rest)| (Some(one), Some(rest))),
                        None => Some((None, None)),
                    }
                    .ok_or("more fields than types")?;
                    kinds = rest;
                    values.push(field.settled(one)?);
                }
                match kinds {
                    None | Some("") => Ok(Value::Struct(values)),
                    Some(_) => Err("fewer fields than types".to_owned()),
                }
            }
            (Draft::Dict(entries), kind) => dict(entries, kind),
        }
    }

    fn is_double(&self) -> bool {
        match self {
            Draft::Number(text) => looks_double(text),
            _ => false,
        }
    }
}

/// What is between the brackets of a tuple's type.
fn inner(kind: &str) -> Option<&str> {
    kind.strip_prefix('(')?.strip_suffix(')')
}

fn array(items: Vec<Draft>, kind: Option<&str>) -> Result<Value, String> {
    let of = match kind {
        Some(kind) => Some(
            kind.strip_prefix('a')
                .ok_or("an array where none is said")?
                .to_owned(),
        ),
        // Numbers are doubles together; without a type they take that of one which has it.
        None if items.iter().any(Draft::is_double) => Some("d".to_owned()),
        None => items.iter().find_map(|item| match item {
            Draft::Known(value) => Some(value.signature()),
            _ => None,
        }),
    };
    let mut values = Vec::new();
    let mut of = of;
    for item in items {
        let value = item.settled(of.as_deref())?;
        of.get_or_insert_with(|| value.signature());
        values.push(value);
    }
    match of {
        Some(of) => Ok(Value::Array { of, items: values }),
        None => Err("an empty array needs a type, such as @as []".to_owned()),
    }
}

fn dict(entries: Vec<(Draft, Draft)>, kind: Option<&str>) -> Result<Value, String> {
    let types = |kind: &str| {
        let pair = kind.strip_prefix("a{")?.strip_suffix('}')?;
        let (key, value) = first_type(pair)?;
        Some((key.to_owned(), value.to_owned()))
    };
    let mut of = match kind {
        Some(kind) => Some(types(kind).ok_or("a dictionary where none is said")?),
        None => None,
    };
    let mut items = Vec::new();
    for (key, value) in entries {
        let key = key.settled(of.as_ref().map(|of| of.0.as_str()))?;
        let value = value.settled(of.as_ref().map(|of| of.1.as_str()))?;
        of.get_or_insert_with(|| (key.signature(), value.signature()));
        items.push(Value::Entry(Box::new((key, value))));
    }
    let (key, value) = of.ok_or("an empty dictionary needs a type, such as @a{sv} {}")?;
    if key.len() != 1 || key == "v" {
        return Err("a key must be a string or a number".to_owned());
    }
    Ok(Value::array(&format!("{{{key}{value}}}"), items))
}

fn looks_double(text: &str) -> bool {
    let digits = text.trim_start_matches(['+', '-']);
    let named = digits == "inf" || digits == "nan";
    named || (!digits.starts_with("0x") && digits.contains(['.', 'e', 'E']))
}

fn number(text: &str, kind: Option<&str>) -> Result<Value, String> {
    let wrong = || format!("{text} is no {}", kind.map_or("number", word_of));
    let whole = || {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (digits, radix) = match digits.strip_prefix("0x") {
            Some(digits) => (digits, 16),
            None if digits.starts_with('0') && digits.len() > 1 => (digits, 8),
            None => (digits, 10),
        };
        let value = match digits.starts_with(['+', '-']) {
            true => None,
            false => i128::from_str_radix(digits, radix).ok(),
        };
        let value = value.ok_or_else(wrong)?;
        Ok::<i128, String>(if negative { -value } else { value })
    };
    fn fit<T: TryFrom<i128>>(
        value: Result<i128, String>,
        kind: fn(T) -> Value,
        wrong: impl Fn() -> String,
    ) -> Result<Value, String> {
        T::try_from(value?).map(kind).map_err(|_| wrong())
    }
    match kind {
        Some("y") => fit(whole(), Value::Byte, wrong),
        Some("n") => fit(whole(), Value::Int16, wrong),
        Some("q") => fit(whole(), Value::Uint16, wrong),
        Some("i") => fit(whole(), Value::Int32, wrong),
        Some("u") => fit(whole(), Value::Uint32, wrong),
        Some("x") => fit(whole(), Value::Int64, wrong),
        Some("t") => fit(whole(), Value::Uint64, wrong),
        None if !looks_double(text) => fit(whole(), Value::Int32, wrong),
        None | Some("d") => text.parse().map(Value::Double).map_err(|_| wrong()),
        Some(_) => Err(wrong()),
    }
}

fn word_of(kind: &str) -> &str {
    match kind {
        "y" => "byte",
        "n" => "int16",
        "q" => "uint16",
        "i" => "int32",
        "u" => "uint32",
        "x" => "int64",
        "t" => "uint64",
        "d" => "double",
        "b" => "boolean",
        kind => kind,
    }
}

/// Whether this is one complete type that can be sent.
fn is_type(kind: &[u8]) -> bool {
    let Some((first, rest)) = kind.split_first() else {
        return false;
    };
    match first {
        b'a' => match rest.strip_prefix(b"{").and_then(|it| it.strip_suffix(b"}")) {
            Some([key, value @ ..]) => b"ybnqiuxtdsog".contains(key) && is_type(value),
            Some([]) => false,
            None => is_type(rest),
        },
        b'(' => {
            let fields = rest
                .strip_suffix(b")")
                .and_then(|it| std::str::from_utf8(it).ok());
            fields.is_some_and(|fields| !fields.is_empty() && is_signature(fields))
        }
        b'y' | b'b' | b'n' | b'q' | b'i' | b'u' | b'x' | b't' | b'd' | b's' | b'o' | b'g'
        | b'v' => rest.is_empty(),
        _ => false,
    }
}

fn is_signature(types: &str) -> bool {
    let mut rest = types;
    while !rest.is_empty() {
        match first_type(rest) {
            Some((one, after)) if one.len() <= 64 && is_type(one.as_bytes()) => rest = after,
            _ => return false,
        }
    }
    types.len() <= 255
}

fn is_path(path: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    path == "/"
        || path
            .strip_prefix('/')
            .is_some_and(|rest| rest.split('/').all(part))
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
