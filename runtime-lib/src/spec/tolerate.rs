//! What the specification or the engines want tolerated, taken out of the way before the
//! document becomes types: each in a table, each with a notice unless it means nothing.
//! It must not repair a value: what is wrong stays, and is refused where it is judged.

use serde_json::{Map, Value};

use super::pattern::{at, join, matches, pointers, remove, shorten};
use super::{unsupported, version};
use crate::notice::Notice;

/// Maps whose keys are names that the author chose: a null below them is a mistake, not an
/// unset field.
const NAMED: &[&str] = &["annotations", "netDevices", "sysctl", "unified", "rdma"];

/// Strings that mean the same empty as absent: Go's `omitempty`.
const EMPTY_IS_ABSENT: &[&str] = &[
    "/hostname",
    "/domainname",
    "/mounts/*/type",
    "/mounts/*/source",
    "/linux/cgroupsPath",
    "/linux/seccomp/listenerPath",
    "/linux/seccomp/listenerMetadata",
    "/linux/rootfsPropagation",
    "/linux/namespaces/*/path",
    "/linux/resources/devices/*/type",
    "/linux/resources/cpu/cpus",
    "/linux/resources/cpu/mems",
    "/process/execCPUAffinity/initial",
    "/process/execCPUAffinity/final",
];

/// A member that `oci-spec` can't be without and whose absence is judged later, with words
/// that callers know.
struct JudgedLater {
    object: &'static str,
    member: &'static str,
    /// What Go reads where there is nothing.
    zero: fn() -> Value,
}

const JUDGED_LATER: &[JudgedLater] = &[
    JudgedLater {
        object: "/mounts/*",
        member: "destination",
        zero: || Value::String(String::new()),
    },
    JudgedLater {
        object: "/process",
        member: "cwd",
        zero: || Value::String(String::new()),
    },
    JudgedLater {
        object: "/process",
        member: "user",
        zero: || Value::Object(Map::new()),
    },
];

/// Blocks for other platforms.
const FOREIGN: &[&str] = &["vm", "windows", "solaris", "zos", "freebsd"];

/// Words of the specification that `oci-spec` spells in another way.
const SPELLED: &[(&str, &str, &str)] = &[
    (
        "/process/scheduler/flags/*",
        "SCHED_FLAG_RESET_ON_FORK",
        "SCHED_RESET_ON_FORK",
    ),
    (
        "/process/scheduler/flags/*",
        "SCHED_FLAG_DL_OVERRUN",
        "SCHED_FLAG_D_L_OVERRUN",
    ),
];

/// The five capability sets of a process.
const CAPABILITY_SETS: &[&str] = &[
    "bounding",
    "effective",
    "inheritable",
    "permitted",
    "ambient",
];

/// The tolerant pass over a config.json.
pub(super) fn config(value: &mut Value) -> Vec<Notice> {
    let mut notices = Vec::new();
    strip_nulls(value);
    unsupported::strip(value);
    empty_is_absent(value);
    judged_later(value);
    spelled(value);
    empty_pids(value);
    empty_seccomp(value);
    newer_version(value, &mut notices);
    foreign_platforms(value, &mut notices);
    unknown_capabilities(value, &mut notices);
    implied_user(value, &mut notices);
    idle_console_size(value, &mut notices);
    relative_destinations(value, &mut notices);
    notices
}

/// An unset field may be written as null: Go does so for a pointer, a list or a map.
fn strip_nulls(value: &mut Value) {
    match value {
        Value::Array(elements) => elements.iter_mut().for_each(strip_nulls),
        Value::Object(members) => {
            if members.values().any(Value::is_null) {
                members.retain(|_, member| !member.is_null());
            }
            for (name, member) in members {
                let inner = member.is_object() || member.is_array();
                if inner && !NAMED.contains(&name.as_str()) {
                    strip_nulls(member);
                }
            }
        }
        _ => {}
    }
}

fn empty_is_absent(value: &mut Value) {
    for pattern in EMPTY_IS_ABSENT {
        for pointer in pointers(value, pattern, |value| value == "") {
            remove(value, &pointer);
        }
    }
}

fn judged_later(value: &mut Value) {
    for row in JUDGED_LATER {
        let lacks = |value: &Value| {
            value
                .as_object()
                .is_some_and(|o| !o.contains_key(row.member))
        };
        for pointer in pointers(value, row.object, lacks) {
            if let Some(Value::Object(object)) = value.pointer_mut(&pointer) {
                object.insert(row.member.to_owned(), (row.zero)());
            }
        }
    }
}

fn spelled(value: &mut Value) {
    for (pattern, word, spelled) in SPELLED {
        for pointer in pointers(value, pattern, |value| value == word) {
            if let Some(place) = value.pointer_mut(&pointer) {
                *place = Value::from(*spelled);
            }
        }
    }
}

/// `oci-spec` reads `"pids": {}` as a limit of 0.
fn empty_pids(value: &mut Value) {
    const PIDS: &str = "/linux/resources/pids";
    let pids = at(value, PIDS).and_then(Value::as_object);
    if pids.is_some_and(|pids| !pids.contains_key("limit")) {
        remove(value, PIDS);
    }
}

/// An object of nothing asks for no filter.
fn empty_seccomp(value: &mut Value) {
    const SECCOMP: &str = "/linux/seccomp";
    let asks = |value: &Value| !value.is_object() || !unsupported::is_empty(value);
    if at(value, SECCOMP).is_some_and(|seccomp| !asks(seccomp)) {
        remove(value, SECCOMP);
    }
}

/// config.md, "Specification version": a newer minor version stays readable.
fn newer_version(value: &Value, notices: &mut Vec<Notice>) {
    let Some(text) = value.get("ociVersion").and_then(Value::as_str) else {
        return;
    };
    if version::read(text) == version::Version::Newer {
        let newest = version::MAX;
        let text = format!(
            "version {} is newer than {newest}: settings that it added are ignored",
            shorten(text)
        );
        notices.push(Notice::new("/ociVersion", text));
    }
}

/// The blocks of other platforms are theirs to read, but a file that has only those was
/// hardly meant for this runtime.
fn foreign_platforms(value: &mut Value, notices: &mut Vec<Notice>) {
    let Some(document) = value.as_object_mut() else {
        return;
    };
    let ours = document.contains_key("linux");
    for platform in FOREIGN {
        if document.remove(*platform).is_none() {
            continue;
        }
        let pointer = join("", platform);
        let text = "settings of another platform are ignored";
        notices.push(match ours {
            true => Notice::unknown(pointer, text),
            false => Notice::new(pointer, format!("{text}, and there are none for linux")),
        });
    }
}

/// config.md, "Linux Process": a capability that can't be granted is a warning. Names are
/// taken exactly as capabilities(7) has them, as runc takes them.
fn unknown_capabilities(value: &mut Value, notices: &mut Vec<Notice>) {
    const SETS: &str = "/process/capabilities";
    let process = value.get_mut("process");
    let Some(Value::Object(sets)) = process.and_then(|it| it.get_mut("capabilities")) else {
        return;
    };
    for set in CAPABILITY_SETS {
        let Some(Value::Array(names)) = sets.get_mut(*set) else {
            continue;
        };
        // A list with a wrong type in it is refused: its indices have to stay.
        if !names.iter().all(Value::is_string) {
            continue;
        }
        let mut index = 0;
        names.retain(|name| {
            let unknown = name
                .as_str()
                .filter(|name| name.parse::<caps::Capability>().is_err());
            if let Some(name) = unknown {
                let whole = format!("CAP_{}", name.trim_start_matches("CAP_")).to_uppercase();
                let meant = match whole.parse::<caps::Capability>() {
                    Ok(_) => format!(": {whole} may be meant"),
                    Err(_) => String::new(),
                };
                let text = format!("unknown capability {:?} is ignored{meant}", shorten(name));
                notices.push(Notice::new(format!("{SETS}/{set}/{index}"), text));
            }
            index += 1;
            unknown.is_none()
        });
    }
}

/// config.md, "User": uid and gid are required, but runtimes read their absence as 0.
fn implied_user(value: &Value, notices: &mut Vec<Notice>) {
    let Some(user) = at(value, "/process/user").and_then(Value::as_object) else {
        return;
    };
    for name in ["uid", "gid"]
        .iter()
        .filter(|name| !user.contains_key(**name))
    {
        let text = format!("{name} is not specified: the process runs with {name} 0");
        notices.push(Notice::new(join("/process/user", name), text));
    }
    if user.contains_key("username") {
        let text = "user names are for Windows: uid and gid count";
        notices.push(Notice::new("/process/user/username", text));
    }
}

/// config.md, "Process": consoleSize MUST be ignored without a terminal. Zeros are how
/// engines say that they know no size.
fn idle_console_size(value: &Value, notices: &mut Vec<Notice>) {
    let Some(process) = value.get("process") else {
        return;
    };
    let terminal = process.get("terminal").and_then(Value::as_bool);
    let Some(size) = process.get("consoleSize") else {
        return;
    };
    if terminal != Some(true) && !unsupported::is_empty(size) {
        let text = "the console size is ignored: the process has no terminal";
        notices.push(Notice::new("/process/consoleSize", text));
    }
}

/// config.md, "Mounts": a destination SHOULD be absolute; a relative one counts from "/".
fn relative_destinations(value: &Value, notices: &mut Vec<Notice>) {
    let relative = |path: &Value| {
        let path = path.as_str();
        path.is_some_and(|path| !path.is_empty() && !path.starts_with('/'))
    };
    for (pointer, path) in matches(value, "/mounts/*/destination", relative) {
        let path = shorten(path.as_str().unwrap_or_default());
        let text = format!("mount destination {path} is not absolute: it counts from /");
        notices.push(Notice::new(pointer, text));
    }
}
