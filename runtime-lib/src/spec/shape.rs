//! The shape of a configuration, checked on the JSON before it becomes types: what must be an
//! object, which members it must have, and which words a setting knows.
//!
//! `oci-spec` would read an array as an object's members by position, give numbers that are
//! missing the value 0 (a map to root, a limit of nothing), and name a bad word with a list
//! of all good ones. Settings of [`super::unsupported`] are not listed.

use std::fmt;

use oci_spec::runtime::{
    Arch, IOPriorityClass, LinuxDeviceType, LinuxNamespaceType, LinuxPersonalityDomain,
    LinuxSchedulerFlag, LinuxSchedulerPolicy, LinuxSeccompAction, LinuxSeccompFilterFlag,
    LinuxSeccompOperator, MemoryPolicyFlagType, MemoryPolicyModeType, PosixRlimitType,
};
use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned};
use serde_json::Value;

use super::pattern::{join, matches, shorten};
use super::unknown::{near, nearest};
use crate::error::{Code, Error};

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
    knows: fn(&str) -> Result<(), Known>,
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
        knows: |word| match word {
            "a" => Err(&["b", "c", "u", "p"]),
            word => knows::<LinuxDeviceType>(word),
        },
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
        knows: |word| knows::<LinuxSchedulerFlag>(word).map_err(|_| SCHEDULER_FLAGS),
        refusal: |word| format!("invalid scheduler flag: {word}"),
    },
    Words {
        pattern: "/ioPriority/class",
        knows: knows::<IOPriorityClass>,
        refusal: |word| format!("invalid ioPriority.Class: {word}"),
    },
];

/// Those that sched_setattr(2) takes from a configuration: `oci-spec` spells some in another way.
const SCHEDULER_FLAGS: Known = &[
    "SCHED_FLAG_RESET_ON_FORK",
    "SCHED_FLAG_RECLAIM",
    "SCHED_FLAG_DL_OVERRUN",
    "SCHED_FLAG_KEEP_POLICY",
    "SCHED_FLAG_KEEP_PARAMS",
    "SCHED_FLAG_UTIL_CLAMP_MIN",
    "SCHED_FLAG_UTIL_CLAMP_MAX",
];

/// The words that a setting knows.
type Known = &'static [&'static str];

/// Whether `oci-spec` has a variant for the word, or the words that it has one for: the list is
/// not kept twice.
fn knows<T: DeserializeOwned>(word: &str) -> Result<(), Known> {
    match T::deserialize(StrDeserializer::<Unknown>::new(word)) {
        Ok(_) => Ok(()),
        Err(Unknown(known)) => Err(known),
    }
}

/// What serde has to say of an unknown word.
#[derive(Debug)]
struct Unknown(Known);

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown word")
    }
}

impl std::error::Error for Unknown {}

impl de::Error for Unknown {
    fn custom<T: fmt::Display>(_: T) -> Unknown {
        Unknown(&[])
    }

    fn unknown_variant(_: &str, known: Known) -> Unknown {
        Unknown(known)
    }
}

/// As many known words as are listed, in bytes.
const LISTED: usize = 500;

/// What may have been meant by a word: one that is nearly it, or whose end or beginning it is.
fn meant(word: &str, known: Known) -> Option<String> {
    let lower = word.to_ascii_lowercase();
    let part = |known: &&&str| {
        let known = known.to_ascii_lowercase();
        known.ends_with(&format!("_{lower}")) || (lower.len() > 2 && known.starts_with(&lower))
    };
    let same = known.iter().find(|known| known.eq_ignore_ascii_case(word));
    // SCMP_ACT_ is no part of what is misspelt: what follows it has to be near.
    let last = |known: &str| {
        let at = known.rfind('_').map_or(0, |at| at + 1);
        let own = word.get(..at).filter(|own| known.starts_with(own))?;
        Some((
            word.strip_prefix(own)?.to_owned(),
            known.get(at..)?.to_owned(),
        ))
    };
    let nearly = |known: &&&str| last(known).is_some_and(|(word, known)| near(&word, &known));
    let nearly = || known.iter().find(nearly);
    let shortest = || known.iter().filter(part).min_by_key(|known| known.len());
    // SCMP_ARCH_X86_64 has a _ in its own part.
    let common = common_prefix(known);
    let whole = || {
        let own = word.strip_prefix(common)?;
        let ends = known.iter().filter_map(|known| known.strip_prefix(common));
        let end = nearest(own, ends)?;
        known
            .iter()
            .find(|known| known.strip_prefix(common) == Some(end))
    };
    match same.or_else(nearly).or_else(whole).or_else(shortest) {
        Some(one) => Some(format!("{one} may be meant")),
        None => {
            let all = known.join(", ");
            (!all.is_empty() && all.len() <= LISTED).then(|| format!("it is one of {all}"))
        }
    }
}

/// What all of these words begin with, up to a _.
fn common_prefix(known: Known) -> &'static str {
    let Some((first, rest)) = known.split_first() else {
        return "";
    };
    let mut ends = first.rmatch_indices('_').map(|(at, _)| at + 1);
    let shared = |end: &usize| {
        let prefix = first.get(..*end).unwrap_or_default();
        rest.iter().all(|word| word.starts_with(prefix))
    };
    ends.find(shared)
        .and_then(|end| first.get(..end))
        .unwrap_or_default()
}

/// All that is wrong with the shape of a config.json.
pub(super) fn config(value: &Value) -> Vec<Error> {
    let mut wrong = check("", value, CONFIG, CONFIG_WORDS);
    if let Some(value) = value.get("process") {
        wrong.extend(check("/process", value, PROCESS, PROCESS_WORDS));
    }
    wrong
}

/// Members whose absence runc has words of its own for, that its callers look for.
const ABSENT: &[(&str, &str, &str)] = &[
    (
        "/linux/memoryPolicy",
        "mode",
        "invalid memory policy mode \"\"",
    ),
    ("/scheduler", "policy", "scheduler policy is required"),
    ("/ioPriority", "class", "invalid ioPriority.Class: \"\""),
];

fn absent(pattern: &str, name: &str) -> String {
    let known = ABSENT
        .iter()
        .find(|(object, member, _)| (*object, *member) == (pattern, name));
    known.map_or_else(
        || format!("{name} must be specified"),
        |(_, _, words)| (*words).to_owned(),
    )
}

/// All that is wrong with the shape of a process.json.
pub(super) fn process(value: &Value) -> Vec<Error> {
    check("", value, PROCESS, PROCESS_WORDS)
}

fn check(at: &str, value: &Value, shapes: &[Shape], words: &[Words]) -> Vec<Error> {
    let refuse = |pointer: String, text: String| {
        Error::new(Code::InvalidConfig, text).at(format!("{at}{pointer}"))
    };
    let mut wrong = Vec::new();
    for Shape { pattern, required } in shapes {
        let missing = |value: &Value| {
            let object = value.as_object()?;
            required.iter().find(|name| !object.contains_key(**name))
        };
        let document = value;
        for (pointer, value) in matches(value, pattern, |v| !v.is_object() || missing(v).is_some())
        {
            if let Some(list) = no_list(document, pattern, &pointer) {
                let list = refuse(list.to_owned(), expected("an array", document));
                if !wrong.contains(&list) {
                    wrong.push(list);
                }
                continue;
            }
            wrong.push(match missing(value) {
                Some(name) => refuse(join(&pointer, name), absent(pattern, name)),
                None => refuse(pointer, expected("an object", value)),
            });
        }
    }
    for words in words {
        let known = |value: &Value| {
            value
                .as_str()
                .is_some_and(|word| (words.knows)(word).is_ok())
        };
        for (pointer, value) in matches(value, words.pattern, |value| !known(value)) {
            let Some(word) = value.as_str() else {
                wrong.push(refuse(pointer, expected("a string", value)));
                continue;
            };
            let error = refuse(pointer, (words.refusal)(&shorten(word)));
            let known = (words.knows)(word).err().unwrap_or_default();
            wrong.push(match meant(word, known) {
                Some(meant) => error.hint(meant),
                None => error,
            });
        }
    }
    wrong
}

/// Objects whose members have names of the author's own.
const NAMED: [&str; 3] = [
    "/linux/timeOffsets/*",
    "/linux/netDevices/*",
    "/linux/resources/rdma/*",
];

/// What should be a list and is an object, whose members are no elements then.
fn no_list<'p>(document: &Value, pattern: &str, element: &'p str) -> Option<&'p str> {
    let (list, _) = element.rsplit_once('/')?;
    let wrong = pattern.ends_with("/*") && !NAMED.contains(&pattern);
    (wrong && document.pointer(list)?.is_object()).then_some(list)
}

/// Worded as [`super::located`] words it.
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
