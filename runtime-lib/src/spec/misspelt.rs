//! Members of a configuration that nobody knows and that are nearly something else: ignored,
//! as the specification wants, but not silently. What is unknown altogether is somebody else's.

use serde_json::Value;

use super::pattern::{join, matches, shorten};
use crate::notice::Notice;

/// The members of an object (runtime-spec 1.3), by its place; `*` is any member or element.
struct Object {
    place: &'static str,
    members: &'static [&'static str],
}

const fn object(place: &'static str, members: &'static [&'static str]) -> Object {
    Object { place, members }
}

#[rustfmt::skip]
const OBJECTS: &[Object] = &[
    object("", &["ociVersion", "process", "root", "hostname", "domainname", "mounts", "hooks", "annotations", "linux", "vm", "windows", "solaris", "zos", "freebsd"]),
    object("/process", &["terminal", "consoleSize", "cwd", "env", "args", "commandLine", "user", "capabilities", "rlimits", "noNewPrivileges", "apparmorProfile", "oomScoreAdj", "selinuxLabel", "scheduler", "ioPriority", "execCPUAffinity"]),
    object("/process/user", &["uid", "gid", "umask", "additionalGids", "username"]),
    object("/process/capabilities", &["bounding", "effective", "inheritable", "permitted", "ambient"]),
    object("/process/rlimits/*", &["type", "soft", "hard"]),
    object("/process/consoleSize", &["height", "width"]),
    object("/root", &["path", "readonly"]),
    object("/hooks", &["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]),
    object("/hooks/*/*", &["path", "args", "env", "timeout"]),
    object("/mounts/*", &["destination", "type", "source", "options", "uidMappings", "gidMappings"]),
    object("/linux", &["namespaces", "uidMappings", "gidMappings", "timeOffsets", "devices", "netDevices", "cgroupsPath", "resources", "intelRdt", "memoryPolicy", "seccomp", "rootfsPropagation", "sysctl", "maskedPaths", "readonlyPaths", "mountLabel", "personality"]),
    object("/linux/namespaces/*", &["type", "path"]),
    object("/linux/uidMappings/*", &["containerID", "hostID", "size"]),
    object("/linux/gidMappings/*", &["containerID", "hostID", "size"]),
    object("/linux/devices/*", &["type", "path", "major", "minor", "fileMode", "uid", "gid"]),
    object("/linux/resources", &["devices", "memory", "cpu", "pids", "blockIO", "hugepageLimits", "network", "rdma", "unified"]),
    object("/linux/resources/memory", &["limit", "reservation", "swap", "kernel", "kernelTCP", "swappiness", "disableOOMKiller", "useHierarchy", "checkBeforeUpdate"]),
    object("/linux/resources/cpu", &["shares", "quota", "burst", "period", "realtimeRuntime", "realtimePeriod", "cpus", "mems", "idle"]),
    object("/linux/resources/pids", &["limit"]),
    object("/linux/seccomp", &["defaultAction", "defaultErrnoRet", "architectures", "flags", "listenerPath", "listenerMetadata", "syscalls"]),
    object("/linux/seccomp/syscalls/*", &["names", "action", "errnoRet", "args"]),
];

/// A word that is this near to another one was meant to be it.
const NEAR: usize = 2;

/// A notice for each member that is nearly one of the specification's.
pub(super) fn members(document: &Value) -> Vec<Notice> {
    let mut notices = Vec::new();
    for Object { place, members } in OBJECTS {
        let unknown = |name: &&String| !members.contains(&name.as_str());
        let names = |value: &Value| {
            value
                .as_object()
                .is_some_and(|o| o.keys().any(|n| unknown(&n)))
        };
        for (pointer, object) in matches(document, place, names) {
            let keys = object
                .as_object()
                .into_iter()
                .flat_map(|object| object.keys());
            for name in keys.filter(unknown) {
                if let Some(meant) = members.iter().find(|known| near(name, known)) {
                    let quoted = shorten(name);
                    let text =
                        format!("unknown setting {quoted:?} is ignored: {meant} may be meant");
                    notices.push(Notice::new(join(&pointer, name), text));
                }
            }
        }
    }
    notices
}

/// Whether two words differ in case alone, or by a few letters of a word that has more.
pub(crate) fn near(word: &str, known: &str) -> bool {
    if word.eq_ignore_ascii_case(known) {
        return true;
    }
    if word.len().abs_diff(known.len()) > NEAR || known.len() <= 2 * NEAR {
        return false;
    }
    distance(word.as_bytes(), known.as_bytes()) <= NEAR
}

/// How many letters have to be put in, taken out or changed.
fn distance(one: &[u8], other: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (n, a) in one.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], n + 1);
        for (m, b) in other.iter().enumerate() {
            let changed = diagonal + usize::from(!a.eq_ignore_ascii_case(b));
            diagonal = row[m + 1];
            row[m + 1] = changed.min(row[m] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_misspelt_member_is_told_by_its_place_and_what_was_meant() {
        let document = json!({
            "procces": {}, "Hostname": "x", "x-mine": 1,
            "process": {"noNewPriviliges": true, "user": {"uid": 0, "additionalGIDs": []}},
            "mounts": [{"destination": "/a", "option": []}],
            "linux": {"maskedPath": [], "resources": {"memory": {"limits": 5}}, "somethingElse": 1},
            "annotations": {"ociVersio": "mine"},
        });
        let told = members(&document);
        let told: Vec<_> = told
            .iter()
            .map(|notice| (notice.pointer.as_str(), notice.text.as_str()))
            .collect();
        let text = |name: &str, meant: &str| {
            format!("unknown setting {name:?} is ignored: {meant} may be meant")
        };
        let expected = [
            ("/Hostname", text("Hostname", "hostname")),
            ("/procces", text("procces", "process")),
            (
                "/process/noNewPriviliges",
                text("noNewPriviliges", "noNewPrivileges"),
            ),
            (
                "/process/user/additionalGIDs",
                text("additionalGIDs", "additionalGids"),
            ),
            ("/mounts/0/option", text("option", "options")),
            ("/linux/maskedPath", text("maskedPath", "maskedPaths")),
            ("/linux/resources/memory/limits", text("limits", "limit")),
        ];
        let mut expected: Vec<_> = expected.iter().map(|(p, t)| (*p, t.as_str())).collect();
        let mut told = told;
        told.sort_unstable();
        expected.sort_unstable();
        assert_eq!(told, expected);
    }

    #[test]
    fn short_words_are_not_near_to_each_other() {
        assert!(!near("gid", "uid") && !near("pids", "path") && !near("env2", "env"));
        assert!(near("UID", "uid") && near("domainame", "domainname"));
    }
}
