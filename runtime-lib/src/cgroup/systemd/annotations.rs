//! Properties of the unit that config.json names itself: annotations `org.systemd.property.NAME`,
//! whose value is in GVariant's text format. The listed ones would undo what capsid sets, or run
//! programs on the host: those are refused.

use std::collections::HashMap;

use super::Property;
use super::text;
use super::value::Value;
use crate::error::{Code, Error, Result};
use crate::spec::{join, shorten};

/// What the keys begin with; features.md calls it potentially unsafe.
pub const PREFIX: &str = "org.systemd.property.";

/// What is capsid's own to say: which process is where, who stops the unit (a controller that
/// systemd asks first, and waits for), and what devices it may use, which config.json says.
const OURS: [&str; 5] = ["Slice", "PIDs", "PIDFDs", "Controller", "BPFProgram"];
/// How the names of further ones begin: of programs that are run on the host, of what is delegated.
const OUR_KINDS: [&str; 2] = ["Exec", "Delegate"];

/// The properties of these annotations, by name.
///
/// # Errors
/// [`Code::InvalidConfig`] with the pointer of the annotation.
pub fn properties(annotations: Option<&HashMap<String, String>>) -> Result<Vec<Property>> {
    let mut asked: Vec<_> = annotations
        .iter()
        .flat_map(|map| map.iter())
        .filter_map(|(key, text)| Some((key, key.strip_prefix(PREFIX)?, text)))
        .collect();
    asked.sort_unstable();
    let property = |(key, name, text): (&String, &str, &String)| {
        property(name, text)
            .map_err(|tail| Error::new(Code::InvalidConfig, tail).at(join("/annotations", key)))
    };
    asked.into_iter().map(property).collect()
}

fn property(name: &str, text: &str) -> std::result::Result<Property, String> {
    let shown = shorten(name);
    let refuse = |why: String| Err(format!("annotation {PREFIX}{shown}{why}"));
    if name.len() < 3 || !name.bytes().all(|b| b.is_ascii_alphabetic()) {
        return refuse(format!(" name is incorrect: {shown}"));
    }
    if OURS.contains(&name) || OUR_KINDS.iter().any(|kind| name.starts_with(kind)) {
        return refuse(format!(" is not allowed: {shown} is capsid's to set"));
    }
    let (value, text) = (text::parse(text), shorten(text));
    let value = match value {
        Ok(value) => value,
        Err(why) => return refuse(format!("={text} value parse error: {}", shorten(&why))),
    };
    if has_control(&value) {
        return refuse(format!(
            "={text}: a control character cannot be part of a setting"
        ));
    }
    match name.strip_suffix("Sec").filter(|stem| !stem.ends_with('U')) {
        None => Ok((name.to_owned(), value)),
        Some(stem) => match microseconds(&value) {
            Some(value) => Ok((format!("{stem}USec"), Value::Uint64(value))),
            None => refuse(format!("={text}: not a number of seconds")),
        },
    }
}

/// systemd keeps some texts as they are in the unit's file, which it reads again on a daemon-reload: a
/// line break would begin a setting of any name.
fn has_control(value: &Value) -> bool {
    match value {
        Value::Text(text) | Value::Path(text) | Value::Signature(text) => {
            text.chars().any(char::is_control)
        }
        Value::Array { items, .. } => items.iter().any(has_control),
        Value::Struct(fields) => fields.iter().any(has_control),
        Value::Entry(entry) => has_control(&entry.0) || has_control(&entry.1),
        Value::Variant(value) => has_control(value),
        _ => false,
    }
}

/// The bus knows times in microseconds only.
fn microseconds(seconds: &Value) -> Option<u64> {
    let whole = |seconds: i128| u64::try_from(seconds.checked_mul(1_000_000)?).ok();
    match *seconds {
        Value::Byte(v) => whole(v.into()),
        Value::Int16(v) => whole(v.into()),
        Value::Uint16(v) => whole(v.into()),
        Value::Int32(v) => whole(v.into()),
        Value::Uint32(v) => whole(v.into()),
        Value::Int64(v) => whole(v.into()),
        Value::Uint64(v) => whole(v.into()),
        // Up to where a double counts by ones.
        Value::Double(v) if (0.0..9e9).contains(&v) => Some((v * 1e6) as u64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, text: &str) -> Result<Vec<Property>> {
        let key = format!("{PREFIX}{name}");
        let map = HashMap::from([(key, text.to_owned()), ("other".into(), "x".into())]);
        properties(Some(&map))
    }

    #[test]
    fn annotations_become_properties() {
        for (name, text, expected) in [
            (
                "CollectMode",
                "'inactive-or-failed'",
                ("CollectMode", Value::text("inactive-or-failed")),
            ),
            (
                "TimeoutStopUSec",
                "uint64 5",
                ("TimeoutStopUSec", Value::Uint64(5)),
            ),
            (
                "TimeoutStopSec",
                "5",
                ("TimeoutStopUSec", Value::Uint64(5_000_000)),
            ),
            (
                "TimeoutStopSec",
                "1.5",
                ("TimeoutStopUSec", Value::Uint64(1_500_000)),
            ),
            (
                "RuntimeMaxSec",
                "uint64 3",
                ("RuntimeMaxUSec", Value::Uint64(3_000_000)),
            ),
            ("SendSIGHUP", "true", ("SendSIGHUP", Value::Bool(true))),
            (
                "After",
                "['a.service']",
                ("After", Value::array("s", vec![Value::text("a.service")])),
            ),
        ] {
            let expected = vec![(expected.0.to_owned(), expected.1)];
            assert_eq!(of(name, text).unwrap(), expected, "{name}={text}");
        }
        assert_eq!(properties(None), Ok(Vec::new()));
    }

    #[test]
    fn s25_other_names_and_values_are_refused_with_their_pointer() {
        for (name, text) in [
            ("", "1"),
            ("ab", "1"),
            ("A1b", "1"),
            ("A-B", "1"),
            ("Größe", "1"),
            ("A.B", "1"),
            ("ExecStart", "1"),
            ("ExecStopPost", "@as []"),
            ("Slice", "'a.slice'"),
            ("Delegate", "false"),
            ("DelegateControllers", "['pids']"),
            ("DelegateSubgroup", "'x'"),
            ("PIDFDs", "@ah []"),
            ("Controller", "'org.x'"),
            ("BPFProgram", "@a(ss) []"),
            ("PIDs", "[uint32 1]"),
            ("Description", "'a\\nDelegate=no'"),
            ("Description", "'\\u0007'"),
            ("Documentation", "['x', 'man:x\\n[Scope]\\nDelegate=no']"),
            ("RequiresMountsFor", "[('/', <'\\r'>)]"),
            ("After", "word"),
            ("After", ""),
            ("TimeoutStopSec", "-1"),
            ("TimeoutStopSec", "'5'"),
            ("TimeoutStopSec", "1e300"),
            ("TimeoutStopSec", "nan"),
            ("TimeoutStopSec", "uint64 18446744073709551615"),
        ] {
            let refused = of(name, text).unwrap_err();
            let pointer = format!("/annotations/{PREFIX}{name}");
            assert_eq!(refused.pointer(), Some(pointer.as_str()), "{name}={text}");
        }
        let long = "x".repeat(100_000);
        for (name, text) in [("After", long.as_str()), (&long, "x"), ("a.b", &long)] {
            let refused = of(name, text).unwrap_err();
            assert!(refused.to_string().len() < 1000, "{}", &name[..3]);
        }
    }
}
