//! What was lost or invented between the JSON of a configuration and its types.

use capsid_runtime::spec::Spec;
use serde_json::Value;

/// Words of the specification that the types spell in another way.
const SPELLED: &[(&str, &str)] = &[
    ("SCHED_FLAG_RESET_ON_FORK", "SCHED_RESET_ON_FORK"),
    ("SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_D_L_OVERRUN"),
];

/// Every difference, as a sentence with its pointer.
pub fn between(spec: &Spec) -> Vec<String> {
    let understood = serde_json::to_value(&spec.config).unwrap();
    let mut found = Vec::new();
    differences(&spec.raw, Some(&understood), "", &mut found);
    found
}

/// What Go reads as unset.
fn asks_for_nothing(written: &Value) -> bool {
    match written {
        Value::Null => true,
        Value::Bool(set) => !set,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(elements) => elements.is_empty(),
        Value::Object(members) => members.values().all(asks_for_nothing),
    }
}

/// The order of a set does not count.
fn differences(
    written: &Value,
    understood: Option<&Value>,
    pointer: &str,
    found: &mut Vec<String>,
) {
    match (written, understood) {
        (Value::Object(written), Some(Value::Object(understood))) => {
            for (name, value) in written {
                differences(
                    value,
                    understood.get(name),
                    &format!("{pointer}/{name}"),
                    found,
                );
            }
            // The kernel ignores the numbers of a fifo.
            let fifo = written.get("type").is_some_and(|kind| kind == "p");
            let set = understood.iter().filter(|(_, value)| !value.is_null());
            for (name, _) in set.filter(|(name, _)| !fifo && !written.contains_key(*name)) {
                found.push(format!("{pointer}/{name} is invented"));
            }
        }
        (Value::Array(written), Some(Value::Array(understood))) => {
            let set = pointer.starts_with("/process/capabilities/");
            let has = |value: &Value| match set {
                true => understood.iter().find(|other| *other == value).cloned(),
                false => None,
            };
            if written.len() != understood.len() && !set {
                found.push(format!("{pointer} has another length"));
            }
            for (n, value) in written.iter().enumerate() {
                let other = has(value).or_else(|| understood.get(n).cloned());
                differences(value, other.as_ref(), &format!("{pointer}/{n}"), found);
            }
        }
        (written, None) if asks_for_nothing(written) => {}
        (written, Some(understood)) if written == understood => {}
        (Value::String(written), Some(Value::String(understood)))
            if SPELLED.contains(&(written, understood)) => {}
        (written, understood) => found.push(format!("{pointer}: {written} became {understood:?}")),
    }
}
