//! Members of a configuration that mean nothing where they stand, and that are nearly something
//! else there, or something in another place: ignored, as the specification wants, but not
//! silently. What is like nothing is somebody else's: listed, and no more.

use serde_json::Value;

use super::pattern::{join, matches, shorten};
use crate::error::{Code, Error};
use crate::notice::Notice;

/// The members of an object (runtime-spec 1.3), by its place; `*` is any member or element.
struct Object {
    place: &'static str,
    members: &'static [&'static str],
}

const fn object(place: &'static str, members: &'static [&'static str]) -> Object {
    Object { place, members }
}

const MAP: &[&str] = &["containerID", "hostID", "size"];
const HOOK: &[&str] = &["path", "args", "env", "timeout"];
const THROTTLE: &[&str] = &["major", "minor", "rate"];

/// Every object of a configuration: by a test, those of the types that it is read into.
#[rustfmt::skip]
const OBJECTS: &[Object] = &[
    object("", &["ociVersion", "process", "root", "hostname", "domainname", "mounts", "hooks", "annotations", "linux", "vm", "windows", "solaris", "zos", "freebsd"]),
    object("/process", &["terminal", "consoleSize", "cwd", "env", "args", "commandLine", "user", "capabilities", "rlimits", "noNewPrivileges", "apparmorProfile", "oomScoreAdj", "selinuxLabel", "scheduler", "ioPriority", "execCPUAffinity"]),
    object("/process/user", &["uid", "gid", "umask", "additionalGids", "username"]),
    object("/process/capabilities", &["bounding", "effective", "inheritable", "permitted", "ambient"]),
    object("/process/rlimits/*", &["type", "soft", "hard"]),
    object("/process/consoleSize", &["height", "width"]),
    object("/process/scheduler", &["policy", "nice", "priority", "flags", "runtime", "deadline", "period"]),
    object("/process/ioPriority", &["class", "priority"]),
    object("/process/execCPUAffinity", &["initial", "final"]),
    object("/root", &["path", "readonly"]),
    object("/hooks", &["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]),
    object("/hooks/*/*", HOOK),
    object("/mounts/*", &["destination", "type", "source", "options", "uidMappings", "gidMappings"]),
    object("/mounts/*/uidMappings/*", MAP),
    object("/mounts/*/gidMappings/*", MAP),
    object("/linux", &["namespaces", "uidMappings", "gidMappings", "timeOffsets", "devices", "netDevices", "cgroupsPath", "resources", "intelRdt", "memoryPolicy", "seccomp", "rootfsPropagation", "sysctl", "maskedPaths", "readonlyPaths", "mountLabel", "personality"]),
    object("/linux/namespaces/*", &["type", "path"]),
    object("/linux/uidMappings/*", MAP),
    object("/linux/gidMappings/*", MAP),
    object("/linux/timeOffsets/*", &["secs", "nanosecs"]),
    object("/linux/devices/*", &["type", "path", "major", "minor", "fileMode", "uid", "gid"]),
    object("/linux/netDevices/*", &["name"]),
    object("/linux/intelRdt", &["closID", "schemata", "l3CacheSchema", "memBwSchema", "enableMonitoring"]),
    object("/linux/memoryPolicy", &["mode", "nodes", "flags"]),
    object("/linux/personality", &["domain", "flags"]),
    object("/linux/resources", &["devices", "memory", "cpu", "pids", "blockIO", "hugepageLimits", "network", "rdma", "unified"]),
    object("/linux/resources/devices/*", &["allow", "type", "major", "minor", "access"]),
    object("/linux/resources/memory", &["limit", "reservation", "swap", "kernel", "kernelTCP", "swappiness", "disableOOMKiller", "useHierarchy", "checkBeforeUpdate"]),
    object("/linux/resources/cpu", &["shares", "quota", "burst", "period", "realtimeRuntime", "realtimePeriod", "cpus", "mems", "idle"]),
    object("/linux/resources/pids", &["limit"]),
    object("/linux/resources/blockIO", &["weight", "leafWeight", "weightDevice", "throttleReadBpsDevice", "throttleWriteBpsDevice", "throttleReadIOPSDevice", "throttleWriteIOPSDevice"]),
    object("/linux/resources/blockIO/weightDevice/*", &["major", "minor", "weight", "leafWeight"]),
    object("/linux/resources/blockIO/throttleReadBpsDevice/*", THROTTLE),
    object("/linux/resources/blockIO/throttleWriteBpsDevice/*", THROTTLE),
    object("/linux/resources/blockIO/throttleReadIOPSDevice/*", THROTTLE),
    object("/linux/resources/blockIO/throttleWriteIOPSDevice/*", THROTTLE),
    object("/linux/resources/hugepageLimits/*", &["pageSize", "limit"]),
    object("/linux/resources/network", &["classID", "priorities"]),
    object("/linux/resources/network/priorities/*", &["name", "priority"]),
    object("/linux/resources/rdma/*", &["hcaHandles", "hcaObjects"]),
    object("/linux/seccomp", &["defaultAction", "defaultErrnoRet", "architectures", "flags", "listenerPath", "listenerMetadata", "syscalls"]),
    object("/linux/seccomp/syscalls/*", &["names", "action", "errnoRet", "args"]),
    object("/linux/seccomp/syscalls/*/args/*", &["index", "value", "valueTwo", "op"]),
];

/// A word that is this near to another one was meant to be it.
const NEAR: usize = 2;

/// So many are looked up and listed; who writes more has not misspelt them.
const LISTED: usize = 100;

/// A notice for each member that its object doesn't have.
pub(super) fn members(document: &Value) -> Vec<Notice> {
    let mut notices = Vec::new();
    let mut more = 0;
    for Object { place, members } in OBJECTS {
        let strange = |(name, value): &(&String, &Value)| {
            !value.is_null() && !members.contains(&name.as_str())
        };
        let has_strange = |value: &Value| {
            let object = value.as_object();
            object.is_some_and(|object| object.iter().any(|it| strange(&it)))
        };
        for (pointer, object) in matches(document, place, has_strange) {
            let inside = object.as_object().into_iter().flatten();
            for (name, _) in inside.filter(strange) {
                if notices.len() == LISTED {
                    more += 1;
                    continue;
                }
                let pointer = join(&pointer, name);
                notices.push(match instead(name, members) {
                    Some(text) => Notice::new(pointer, text),
                    None => Notice::unknown(
                        pointer,
                        format!("unknown setting {:?} is ignored", shorten(name)),
                    ),
                });
            }
        }
    }
    if more > 0 {
        let text = format!("so are {more} more settings that are unknown");
        notices.push(Notice::unknown("", text));
    }
    notices
}

/// What to say of a member that its object doesn't have.
fn instead(name: &str, members: &[&str]) -> Option<String> {
    let quoted = shorten(name);
    if let Some(meant) = nearest(name, members.iter().copied()) {
        return Some(format!(
            "unknown setting {quoted:?} is ignored: {meant} may be meant"
        ));
    }
    if let Some(home) = home(|known| known == name) {
        return Some(format!(
            "setting {quoted:?} is ignored here: it belongs at {home}"
        ));
    }
    let meant = home(|known| near(name, known))?;
    Some(format!(
        "unknown setting {quoted:?} is ignored: {meant} may be meant"
    ))
}

/// Where a member belongs, if there are no more than two such places; those that every
/// configuration has at most once go first.
fn home(is_it: impl Fn(&str) -> bool) -> Option<String> {
    let of = |object: &Object| {
        let known = object.members.iter().find(|known| is_it(known))?;
        Some(format!("{}/{known}", object.place))
    };
    let all: Vec<String> = OBJECTS.iter().filter_map(of).collect();
    let once: Vec<&String> = all.iter().filter(|place| !place.contains('*')).collect();
    match (once.as_slice(), all.as_slice()) {
        ([one], _) => Some((*one).clone()),
        ([one, two], _) => Some(format!("{one} or {two}")),
        ([], [one]) => Some(one.clone()),
        ([], [one, two]) => Some(format!("{one} or {two}")),
        _ => None,
    }
}

/// What is wrong with a document that should be the object that a configuration has at `place`,
/// and that is a larger one with that in it, and nothing else that acts.
pub(super) fn around(document: &Value, place: &str) -> Option<Error> {
    let known = OBJECTS.iter().find(|object| object.place == place)?.members;
    let object = document.as_object()?;
    if object.keys().any(|name| known.contains(&name.as_str())) {
        return None;
    }
    let outer = |(name, value): &(&String, &Value)| {
        value.is_object() && place.split('/').skip(1).any(|part| part == name.as_str())
    };
    let (name, _) = object.iter().find(outer)?;
    let tail = format!("setting {name:?} is not one of {place}");
    let hint =
        format!("the object that config.json has at {place} is wanted, without one around it");
    Some(
        Error::new(Code::InvalidConfig, tail)
            .at(join("", name))
            .hint(hint),
    )
}

/// A notice of a document that has only the object at `place`: what it names is in that document.
pub(super) fn within(notice: &mut Notice, place: &str) {
    if let Some(inner) = notice.pointer.strip_prefix(place) {
        notice.pointer = inner.to_owned();
    }
    let outer = format!("it belongs at {place}/");
    if notice.text.contains(&outer) {
        notice.text = notice.text.replace(&outer, "it belongs at /");
    }
}

/// Whether two words differ in case alone, or by a few letters of a word that has more.
pub(super) fn near(word: &str, known: &str) -> bool {
    if word.eq_ignore_ascii_case(known) {
        return true;
    }
    if word.len().abs_diff(known.len()) > NEAR || known.len() <= 2 * NEAR {
        return false;
    }
    distance(word.as_bytes(), known.as_bytes()) <= NEAR
}

/// The one of these words that is nearest to another one, if any is near.
pub(crate) fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    known
        .filter(|known| near(word, known))
        .min_by_key(|known| distance(word.as_bytes(), known.as_bytes()))
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
            "null": null,
            "annotations": {"ociVersio": "mine"},
        });
        let told = members(&document);
        let told: Vec<_> = told
            .iter()
            .filter(|notice| !notice.unknown)
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
    fn a_setting_in_another_place_is_told_its_own() {
        let document = json!({
            "seccomp": {}, "resources": {}, "secomp": {}, "capabilities": {}, "path": "", "x-mine": {},
            "process": {"sysctl": {}, "uid": 0, "limits": []},
            "linux": {"rlimits": [], "readonly": true, "capabilities": {}, "limit": 5, "destination": ""},
            "mounts": [{"soft": 1}], "hooks": {"env": []}, "annotations": {"seccomp": ""},
        });
        let mut told = members(&document);
        told.retain(|notice| !notice.unknown);
        let mut told: Vec<_> = told.iter().map(ToString::to_string).collect();
        told.sort_unstable();
        let belongs = |pointer: &str, home: &str| {
            let name = pointer.rsplit('/').next().unwrap_or_default();
            format!("{pointer}: setting {name:?} is ignored here: it belongs at {home}")
        };
        let mut expected = [
            belongs("/seccomp", "/linux/seccomp"),
            belongs("/resources", "/linux/resources"),
            "/secomp: unknown setting \"secomp\" is ignored: /linux/seccomp may be meant".into(),
            belongs("/capabilities", "/process/capabilities"),
            belongs("/path", "/root/path"),
            belongs("/process/sysctl", "/linux/sysctl"),
            belongs("/process/uid", "/process/user/uid"),
            "/process/limits: unknown setting \"limits\" is ignored: rlimits may be meant".into(),
            belongs("/linux/rlimits", "/process/rlimits"),
            belongs("/linux/readonly", "/root/readonly"),
            belongs("/linux/capabilities", "/process/capabilities"),
            belongs(
                "/linux/limit",
                "/linux/resources/memory/limit or /linux/resources/pids/limit",
            ),
            belongs("/linux/destination", "/mounts/*/destination"),
            belongs("/mounts/0/soft", "/process/rlimits/*/soft"),
            belongs("/hooks/env", "/process/env"),
        ];
        expected.sort_unstable();
        assert_eq!(told, expected);
    }

    #[test]
    fn what_is_like_nothing_is_listed_and_not_warned_of() {
        let document = json!({"x-mine": 1, "linux": {"somethingElse": {}, "null": null}});
        let listed = members(&document);
        let listed: Vec<_> = listed
            .iter()
            .map(|it| (it.unknown, it.to_string()))
            .collect();
        let line = |pointer: &str, name: &str| {
            (
                true,
                format!("{pointer}: unknown setting {name:?} is ignored"),
            )
        };
        let expected = [
            line("/x-mine", "x-mine"),
            line("/linux/somethingElse", "somethingElse"),
        ];
        assert_eq!(listed, expected);
    }

    #[test]
    fn hundreds_of_thousands_of_unknown_members_are_counted_in_time() {
        let many = (0..300_000).map(|n| (format!("unknownMember{n}"), json!(n)));
        let document = json!({"linux": serde_json::Map::from_iter(many)});
        let begun = std::time::Instant::now();
        let listed = members(&document);
        assert!(begun.elapsed() < std::time::Duration::from_secs(2));
        assert_eq!(listed.len(), LISTED + 1);
        let last = listed.last().map(ToString::to_string).unwrap_or_default();
        assert_eq!(last, "so are 299900 more settings that are unknown");
    }

    /// What the types don't have: other platforms, and what is for them.
    const FOREIGN: [(&str, &[&str]); 2] = [
        ("", &["vm", "windows", "solaris", "zos", "freebsd"]),
        ("/process", &["commandLine"]),
    ];

    #[test]
    fn the_table_is_that_of_the_types() {
        let of_types = super::super::schema::of::<super::super::document::Document>();
        let mut types = super::super::schema::Schema::new();
        for (place, mut members) in of_types {
            // Version 1.3 has enableMonitoring in their place.
            members.retain(|name| !["enableCmt", "enableMbm"].contains(name));
            let hook = place.starts_with("/hooks/");
            types.insert(if hook { "/hooks/*/*".into() } else { place }, members);
        }
        let table = OBJECTS.iter().map(|Object { place, members }| {
            let foreign = FOREIGN.iter().find(|(other, _)| other == place);
            let foreign = foreign.map_or(&[][..], |(_, members)| members);
            let members = members.iter().filter(|name| !foreign.contains(name));
            (place.to_string(), members.copied().collect())
        });
        assert_eq!(table.collect::<super::super::schema::Schema>(), types);
    }

    #[test]
    fn short_words_are_not_near_to_each_other() {
        assert!(!near("gid", "uid") && !near("pids", "path") && !near("env2", "env"));
        assert!(near("UID", "uid") && near("domainame", "domainname"));
    }
}
