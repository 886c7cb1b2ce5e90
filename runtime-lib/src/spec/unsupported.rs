//! The settings of runtime-spec 1.3 that this version does not have: one table. A setting
//! that asks for something refuses create; one that asks for nothing, as engines write it, is
//! as good as absent. Below /linux/resources the cgroup code judges.

use serde_json::Value;

use super::pattern::{matches, pointers, remove};
use crate::error::{Code, Error};

/// One setting, what it is called, and when it asks for nothing.
struct Row {
    pattern: &'static str,
    what: &'static str,
    neutral: fn(&Value) -> bool,
}

const fn row(pattern: &'static str, what: &'static str, neutral: fn(&Value) -> bool) -> Row {
    Row {
        pattern,
        what,
        neutral,
    }
}

/// Of a process, below /process of config.json or at the top of process.json.
const PROCESS: &[Row] = &[row("/commandLine", "Windows command lines are", is_empty)];

/// Every setting of a config.json that this version does not have: [`Code::Unsupported`],
/// with its pointer.
pub fn config(raw: &Value) -> Vec<Error> {
    let process = raw.get("process");
    process.map_or_else(Vec::new, |process| check("/process", process, PROCESS))
}

/// As [`config`], for a process.json.
pub fn process(raw: &Value) -> Vec<Error> {
    check("", raw, PROCESS)
}

fn check(at: &str, raw: &Value, rows: &[Row]) -> Vec<Error> {
    let refused = |row: &Row| {
        let asks = matches(raw, row.pattern, |value| !(row.neutral)(value));
        let refuse = |(pointer, _): (String, &Value)| {
            let tail = format!("{} not supported by this version", row.what);
            Error::new(Code::Unsupported, tail).at(format!("{at}{pointer}"))
        };
        asks.into_iter().map(refuse).collect::<Vec<_>>()
    };
    rows.iter().flat_map(refused).collect()
}

/// Takes the settings of the table out, so that words which `oci-spec` does not know yet
/// can't make it fail.
pub(super) fn strip(value: &mut Value) {
    if let Some(process) = value.get_mut("process") {
        strip_rows(process, PROCESS);
    }
}

fn strip_rows(value: &mut Value, rows: &[Row]) {
    for row in rows {
        for pointer in pointers(value, row.pattern, |_| true) {
            remove(value, &pointer);
        }
    }
}

/// Go's zero value, or an object of nothing else. A list with an element is not empty.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(set) => !set,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(elements) => elements.is_empty(),
        Value::Object(members) => members.values().all(is_empty),
    }
}
