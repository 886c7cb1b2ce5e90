//! A value of GVariant's text format before its type is known: numbers take theirs from what
//! stands around them, or from the type that is said before them (GLib, "GVariant Text Format").

use super::value::{Value, first_type};

/// A value whose type may not be known yet.
pub enum Draft {
    Known(Value),
    /// A number without a type; what it is depends on where it stands.
    Number(String),
    Array(Vec<Draft>),
    Struct(Vec<Draft>),
    Dict(Vec<(Draft, Draft)>),
}

impl Draft {
    /// The value, of this type if it is said.
    pub fn settled(self, kind: Option<&str>) -> Result<Value, String> {
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
    let wrong = || format!("{text} is no {}", kind.map_or("number", name_of));
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

/// What the text format calls the types, and their signatures.
const NAMED: [(&str, &str); 12] = [
    ("boolean", "b"),
    ("byte", "y"),
    ("int16", "n"),
    ("uint16", "q"),
    ("int32", "i"),
    ("uint32", "u"),
    ("int64", "x"),
    ("uint64", "t"),
    ("double", "d"),
    ("string", "s"),
    ("objectpath", "o"),
    ("signature", "g"),
];

/// The type of this name.
pub fn named(name: &str) -> Option<&'static str> {
    let found = NAMED.iter().find(|(named, _)| *named == name);
    found.map(|(_, kind)| *kind)
}

fn name_of(kind: &str) -> &str {
    let found = NAMED.iter().find(|(_, named)| *named == kind);
    found.map_or(kind, |(name, _)| name)
}

/// Whether this is one complete type that can be sent.
pub fn is_type(kind: &[u8]) -> bool {
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
