//! The shape of a configuration, checked on the JSON before it becomes types: what must be an
//! object, which members it must have, and which words a setting knows.
//!
//! `oci-spec` would read an array as an object's members by position, give numbers that are
//! missing the value 0 (a map to root, a limit of nothing), and name a bad word with a list
//! of all good ones. Settings of [`super::unsupported`] are not listed.

use oci_spec::runtime::{
    Arch, IOPriorityClass, LinuxDeviceType, LinuxNamespaceType, LinuxPersonalityDomain,
    LinuxSchedulerFlag, LinuxSchedulerPolicy, LinuxSeccompAction, LinuxSeccompFilterFlag,
    LinuxSeccompOperator, MemoryPolicyFlagType, MemoryPolicyModeType, PosixRlimitType,
};
use serde::de::DeserializeOwned;
use serde::de::value::{Error as WordError, StrDeserializer};
use serde_json::Value;

use super::pattern::{join, matches, shorten};
use crate::error::{Code, Error, Result};

/// A value that has to be an object, and the members that it can't be without.
struct Shape {
    pattern: &'static str,
    required: &'static [&'static str],
}

const fn shape(pattern: &'static str, required: &'static [&'static str]) -> Shape {
    Shape { pattern, required }
}

const MAP: &[&str] = &["containerID", "hostID", "size"];

/// runtime-spec 1.3: config.md and config-linux.md, "REQUIRED".
#[rustfmt::skip]
const CONFIG: &[Shape] = &[
    shape("", &[]),
    shape("/root", &[]),
    shape("/hooks", &[]),
    shape("/hooks/*/*", &["path"]),
    shape("/mounts/*", &[]),
    shape("/mounts/*/uidMappings/*", MAP),
    shape("/mounts/*/gidMappings/*", MAP),
    shape("/linux", &[]),
    shape("/linux/namespaces/*", &["type"]),
    shape("/linux/uidMappings/*", MAP),
    shape("/linux/gidMappings/*", MAP),
    shape("/linux/devices/*", &["type", "path"]),
    shape("/linux/timeOffsets/*", &[]),
    shape("/linux/intelRdt", &[]),
    shape("/linux/netDevices/*", &[]),
    shape("/linux/personality", &["domain"]),
    shape("/linux/memoryPolicy", &["mode"]),
    shape("/linux/seccomp", &["defaultAction"]),
    shape("/linux/seccomp/syscalls/*", &["names", "action"]),
    shape("/linux/seccomp/syscalls/*/args/*", &["index", "value", "op"]),
    shape("/linux/resources", &[]),
    shape("/linux/resources/devices/*", &["allow"]),
    shape("/linux/resources/memory", &[]),
    shape("/linux/resources/cpu", &[]),
    shape("/linux/resources/pids", &[]),
    shape("/linux/resources/blockIO", &[]),
    shape("/linux/resources/blockIO/weightDevice/*", &["major", "minor"]),
    shape("/linux/resources/blockIO/throttleReadBpsDevice/*", &["major", "minor", "rate"]),
    shape("/linux/resources/blockIO/throttleWriteBpsDevice/*", &["major", "minor", "rate"]),
    shape("/linux/resources/blockIO/throttleReadIOPSDevice/*", &["major", "minor", "rate"]),
    shape("/linux/resources/blockIO/throttleWriteIOPSDevice/*", &["major", "minor", "rate"]),
    shape("/linux/resources/hugepageLimits/*", &["pageSize", "limit"]),
    shape("/linux/resources/rdma/*", &[]),
    shape("/linux/resources/network", &[]),
    shape("/linux/resources/network/priorities/*", &["name", "priority"]),
];

/// The same for a process, below /process of config.json or at the top of process.json.
const PROCESS: &[Shape] = &[
    shape("", &[]),
    shape("/user", &[]),
    shape("/consoleSize", &["height", "width"]),
    shape("/capabilities", &[]),
    shape("/rlimits/*", &["type", "soft", "hard"]),
    shape("/scheduler", &["policy"]),
    shape("/ioPriority", &["class", "priority"]),
    shape("/execCPUAffinity", &[]),
];

/// A setting that knows only certain words, and what is said of another one.
struct Words {
    pattern: &'static str,
    knows: fn(&str) -> bool,
    refusal: fn(&str) -> String,
}

const CONFIG_WORDS: &[Words] = &[
    Words {
        pattern: "/linux/namespaces/*/type",
        knows: knows::<LinuxNamespaceType>,
        refusal: |word| format!("namespace {word:?} does not exist"),
    },
    Words {
        pattern: "/linux/devices/*/type",
        knows: |word| word != "a" && knows::<LinuxDeviceType>(word),
        refusal: |word| format!("invalid device type {word:?}"),
    },
    Words {
        pattern: "/linux/seccomp/defaultAction",
        knows: knows::<LinuxSeccompAction>,
        refusal: |word| format!("string {word} is not a valid action for seccomp"),
    },
    Words {
        pattern: "/linux/seccomp/syscalls/*/action",
        knows: knows::<LinuxSeccompAction>,
        refusal: |word| format!("string {word} is not a valid action for seccomp"),
    },
    Words {
        pattern: "/linux/seccomp/syscalls/*/args/*/op",
        knows: knows::<LinuxSeccompOperator>,
        refusal: |word| format!("string {word} is not a valid operator for seccomp"),
    },
    Words {
        pattern: "/linux/seccomp/architectures/*",
        knows: knows::<Arch>,
        refusal: |word| format!("string {word} is not a valid arch for seccomp"),
    },
    Words {
        pattern: "/linux/seccomp/flags/*",
        knows: knows::<LinuxSeccompFilterFlag>,
        refusal: |word| format!("seccomp flag {word:?} not known to runtime"),
    },
    Words {
        pattern: "/linux/resources/devices/*/type",
        knows: knows::<LinuxDeviceType>,
        refusal: |word| format!("invalid cgroup device type {word:?}"),
    },
    Words {
        pattern: "/linux/personality/domain",
        knows: knows::<LinuxPersonalityDomain>,
        refusal: |word| format!("invalid personality domain {word:?}"),
    },
    Words {
        pattern: "/linux/memoryPolicy/mode",
        knows: knows::<MemoryPolicyModeType>,
        refusal: |word| format!("invalid memory policy mode {word:?}"),
    },
    Words {
        pattern: "/linux/memoryPolicy/flags/*",
        knows: knows::<MemoryPolicyFlagType>,
        refusal: |word| format!("invalid memory policy flag {word:?}"),
    },
];

const PROCESS_WORDS: &[Words] = &[
    Words {
        pattern: "/rlimits/*/type",
        knows: knows::<PosixRlimitType>,
        refusal: |word| format!("wrong rlimit value: {word}"),
    },
    Words {
        pattern: "/scheduler/policy",
        knows: knows::<LinuxSchedulerPolicy>,
        refusal: |word| format!("invalid scheduler policy: {word}"),
    },
    Words {
        pattern: "/scheduler/flags/*",
        knows: knows::<LinuxSchedulerFlag>,
        refusal: |word| format!("invalid scheduler flag: {word}"),
    },
    Words {
        pattern: "/ioPriority/class",
        knows: knows::<IOPriorityClass>,
        refusal: |word| format!("invalid ioPriority.Class: {word}"),
    },
];

/// Whether `oci-spec` has a variant for the word: the list is not kept twice.
fn knows<T: DeserializeOwned>(word: &str) -> bool {
    T::deserialize(StrDeserializer::<WordError>::new(word)).is_ok()
}

/// Checks a config.json.
pub(super) fn config(value: &Value) -> Result<()> {
    check("", value, CONFIG, CONFIG_WORDS)?;
    match value.get("process") {
        Some(value) => check("/process", value, PROCESS, PROCESS_WORDS),
        None => Ok(()),
    }
}

/// Checks a process.json.
pub(super) fn process(value: &Value) -> Result<()> {
    check("", value, PROCESS, PROCESS_WORDS)
}

fn check(at: &str, value: &Value, shapes: &[Shape], words: &[Words]) -> Result<()> {
    let refuse = |pointer: String, text: String| {
        Err(Error::new(Code::InvalidConfig, text).at(format!("{at}{pointer}")))
    };
    for Shape { pattern, required } in shapes {
        let missing = |value: &Value| {
            let object = value.as_object()?;
            required.iter().find(|name| !object.contains_key(**name))
        };
        let wrong = matches(value, pattern, |v| !v.is_object() || missing(v).is_some());
        if let Some((pointer, value)) = wrong.into_iter().next() {
            return match missing(value) {
                Some(name) => refuse(join(&pointer, name), format!("{name} must be specified")),
                None => refuse(pointer, expected("an object", value)),
            };
        }
    }
    for words in words {
        let known = |value: &Value| value.as_str().is_some_and(words.knows);
        let wrong = matches(value, words.pattern, |value| !known(value));
        if let Some((pointer, value)) = wrong.into_iter().next() {
            return match value.as_str() {
                Some(word) => refuse(pointer, (words.refusal)(&shorten(word))),
                None => refuse(pointer, expected("a string", value)),
            };
        }
    }
    Ok(())
}

/// Worded as serde words it.
fn expected(what: &str, value: &Value) -> String {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    format!("invalid type: {found}, expected {what}")
}
