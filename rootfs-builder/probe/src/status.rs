//! /proc/self/status and what is read out of it: the capability sets, the
//! security state, the file system ids. Also the keys that the process sees.

use std::fs;

use serde_json::{Map, Value, json};

use crate::Answer;
use crate::errno::Name;

/// Capability names by their number (linux/capability.h).
const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// The five sets by the name that config.json has for them.
const SETS: &[(&str, &str)] = &[
    ("bounding", "CapBnd"),
    ("effective", "CapEff"),
    ("inheritable", "CapInh"),
    ("permitted", "CapPrm"),
    ("ambient", "CapAmb"),
];

/// The numbers of the security section and their lines. A kernel without one
/// of them answers null.
const SECURITY: &[(&str, &str)] = &[
    ("no_new_privs", "NoNewPrivs"),
    ("seccomp", "Seccomp"),
    ("seccomp_filters", "Seccomp_filters"),
];

fn lines() -> Result<Vec<(String, String)>, Name> {
    let text = fs::read_to_string("/proc/self/status")?;
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    Ok(pairs
        .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
        .collect())
}

fn value<'a>(lines: &'a [(String, String)], key: &str) -> Option<&'a str> {
    let found = lines.iter().find(|(name, _)| name == key);
    found.map(|(_, value)| value.as_str())
}

/// Every line as text, by its key.
pub(crate) fn whole() -> Answer {
    let pairs = lines()?.into_iter().map(|(key, value)| (key, json!(value)));
    Ok(Value::Object(pairs.collect::<Map<_, _>>()))
}

/// One line's value.
pub(crate) fn line(key: &str) -> Option<String> {
    let lines = lines().ok()?;
    value(&lines, key).map(str::to_owned)
}

/// The fourth number of a `Uid` or `Gid` line: the file system id.
pub(crate) fn fourth_number(key: &str) -> Option<u32> {
    let lines = lines().ok()?;
    let number = value(&lines, key)?.split_whitespace().nth(3)?;
    number.parse().ok()
}

/// The five sets as sorted names.
pub(crate) fn capabilities() -> Answer {
    let lines = lines()?;
    let mut sets = Map::new();
    for (name, key) in SETS {
        let text = value(&lines, key).ok_or("no such line")?;
        let bits = u64::from_str_radix(text, 16).map_err(|_| "not hexadecimal")?;
        let mut names: Vec<String> = (0..64)
            .filter(|number| bits & (1_u64 << number) != 0)
            .map(capability)
            .collect();
        names.sort_unstable();
        sets.insert((*name).to_owned(), json!(names));
    }
    Ok(Value::Object(sets))
}

fn capability(number: usize) -> String {
    match CAPABILITIES.get(number) {
        Some(name) => (*name).to_owned(),
        None => format!("CAP_{number}"),
    }
}

/// NoNewPrivs, the seccomp mode and filter count, the securebits, and the label of the LSM.
pub(crate) fn security() -> Answer {
    let lines = lines()?;
    let mut section = Map::new();
    for (name, key) in SECURITY {
        let number: Option<u32> = value(&lines, key).and_then(|text| text.parse().ok());
        section.insert((*name).to_owned(), json!(number));
    }
    let secure = rustix::thread::capabilities_secure_bits().map_err(|_| "no such call")?;
    section.insert("securebits".to_owned(), json!(secure.bits()));
    let label = fs::read_to_string("/proc/self/attr/current").ok();
    let label = label.map(|text| text.trim_end_matches(['\n', '\0']).to_owned());
    section.insert("label".to_owned(), json!(label));
    Ok(Value::Object(section))
}

/// The keys that this process may view, as lines of /proc/keys (proc_keys(5)).
pub(crate) fn keyring() -> Answer {
    let text = fs::read_to_string("/proc/keys")?;
    let keys: Vec<&str> = text.lines().collect();
    Ok(json!(keys))
}
