//! Names and values of kernel parameters: which of them are the container's is told by `explain`, and by the rule,
//! written down a second time.

use capsid_fuzz::{Bundle, fuzz, is_one_line};
use proptest::prelude::*;
use serde_json::json;

/// The namespaces that have parameters; each is the container's own or the host's.
const NAMESPACES: [&str; 4] = ["ipc", "network", "uts", "user"];

fn names() -> impl Strategy<Value = String> {
    let part = prop::sample::select(
        &[
            "net",
            "ipv4",
            "conf",
            "eth0.1",
            "eth0/1",
            "ip_forward",
            "kernel",
            "sem",
            "semaphore",
            "msgmax",
            "shm",
            "shm_rmid_forced",
            "domainname",
            "hostname",
            "fs",
            "mqueue",
            "msg_max",
            "user",
            "max_user_namespaces",
            "vm",
            "..",
            ".",
            "",
            "a b",
            "ä",
            "\n",
            "sys",
        ][..],
    );
    let parts = prop::collection::vec((part, prop::sample::select(&[".", "/"][..])), 1..5);
    let joined = parts.prop_map(|parts| {
        let mut name: String = parts
            .iter()
            .flat_map(|(part, mark)| [*part, *mark])
            .collect();
        name.pop();
        name
    });
    prop_oneof![4 => joined, 1 => any::<String>(), 1 => "(net|kernel|fs)[./].{0,20}"]
}

/// The namespace of the parameter, when it is one of the container's.
fn owner(name: &str) -> Option<&'static str> {
    let first = name.chars().find(|c| ['.', '/'].contains(c))?;
    // The mark that comes first parts; the other is a dot of a file's name.
    let parts: Vec<String> = name
        .split(first)
        .map(|part| part.replace('/', "."))
        .collect();
    let good = |part: &String| {
        !["", ".", ".."].contains(&part.as_str())
            && part.len() < 256
            && part.bytes().all(|b| b.is_ascii_graphic())
    };
    if !parts.iter().all(good) {
        return None;
    }
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match parts[..] {
        ["net", _, ..] => Some("network"),
        ["user", _, ..] => Some("user"),
        ["fs", "mqueue", _, ..] => Some("ipc"),
        ["kernel", "domainname"] => Some("uts"),
        [
            "kernel",
            "msgmax" | "msgmnb" | "msgmni" | "sem" | "shmall" | "shmmax" | "shmmni"
            | "shm_rmid_forced",
        ] => Some("ipc"),
        _ => None,
    }
}

#[test]
fn a_parameter_is_the_containers_own_or_refused() {
    let bundle = Bundle::new();
    let own = prop::sample::subsequence(&NAMESPACES[..], 0..=4);
    let values =
        prop_oneof![4 => Just("1".to_owned()), 1 => "[0-9 \\t]{0,8}", 1 => any::<String>()];
    fuzz("sysctls", (names(), values, own), |(name, value, own)| {
        let mut namespaces = vec![json!({"type": "mount"}), json!({"type": "pid"})];
        namespaces.extend(own.iter().map(|kind| json!({"type": kind})));
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
        let mut linux = json!({"namespaces": namespaces, "sysctl": {name.as_str(): value}});
        if own.contains(&"user") {
            linux["uidMappings"] = map.clone();
            linux["gidMappings"] = map;
        }
        let config = json!({
            "ociVersion": "1.3.0",
            "root": {"path": "rootfs"},
            "process": {"cwd": "/", "args": ["/true"], "user": {"uid": 0, "gid": 0}},
            "linux": linux,
        });
        let line = |c: char| c == '\t' || (c != '+' && !c.is_control());
        let good =
            owner(&name).is_some_and(|owner| own.contains(&owner)) && value.chars().all(line);
        match bundle.explain(&config) {
            Ok(plan) => {
                prop_assert!(good, "{:?} = {:?} with {:?}", name, value, own);
                prop_assert!(plan.to_string().contains("/linux/sysctl"));
            }
            Err(error) => {
                is_one_line(&error)?;
                prop_assert!(!good, "{}", error);
                prop_assert!(
                    error
                        .pointer()
                        .is_some_and(|at| at.starts_with("/linux/sysctl")),
                    "{}",
                    error
                );
            }
        }
        Ok(())
    });
}
