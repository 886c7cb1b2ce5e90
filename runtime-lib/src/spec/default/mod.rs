//! The config.json that `spec` writes: config.json beside this file, or the same with the
//! edits that let an ordinary user run it. It must not read a configuration.
//! No ambient capabilities: without inheritable ones they would only be a warning.
//!
//! Text and not a value: readers expect the order of keys that runc writes.

const CONFIG: &str = include_str!("config.json");

/// Who runs a rootless container: the host's ids that its root is mapped to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

/// An ordinary user has no group 5 to give terminals to, can't mount a sysfs that shows the
/// host's network, has no say over device rules, and has no network to offer.
const ROOTLESS: &[(&str, &str)] = &[
    (",\n\t\t\t\t\"gid=5\"", ""),
    (
        "\"type\": \"sysfs\",\n\t\t\t\"source\": \"sysfs\",\n\t\t\t\"options\": [\n",
        "\"type\": \"none\",\n\t\t\t\"source\": \"/sys\",\n\t\t\t\"options\": [\n\t\t\t\t\"rbind\",\n",
    ),
    (
        "\t\t\"resources\": {\n\t\t\t\"devices\": [\n\t\t\t\t{\n\t\t\t\t\t\"allow\": false,\n\
         \t\t\t\t\t\"access\": \"rwm\"\n\t\t\t\t}\n\t\t\t]\n\t\t},\n",
        "\t\t\"uidMappings\": [\n\t\t\t{\n\t\t\t\t\"containerID\": 0,\n\t\t\t\t\"hostID\": UID,\n\
         \t\t\t\t\"size\": 1\n\t\t\t}\n\t\t],\n\
         \t\t\"gidMappings\": [\n\t\t\t{\n\t\t\t\t\"containerID\": 0,\n\t\t\t\t\"hostID\": GID,\n\
         \t\t\t\t\"size\": 1\n\t\t\t}\n\t\t],\n",
    ),
    ("\t\t\t{\n\t\t\t\t\"type\": \"network\"\n\t\t\t},\n", ""),
    (
        LAST_NAMESPACE,
        "mount\"\n\t\t\t},\n\t\t\t{\n\t\t\t\t\"type\": \"user\"\n",
    ),
];

const LAST_NAMESPACE: &str = "mount\"\n";

/// A complete config.json, ending with a newline: a shell on a terminal in `rootfs`.
///
/// With an owner, one that needs no privileges. `cgroup_namespace`: with one; runc writes it
/// where the host has cgroup v2 alone.
pub fn config(owner: Option<Owner>, cgroup_namespace: bool) -> String {
    let mut text = CONFIG.to_owned();
    if let Some(owner) = owner {
        for (from, to) in ROOTLESS {
            text = text.replacen(from, to, 1);
        }
        text = text.replacen("UID", &owner.uid.to_string(), 1);
        text = text.replacen("GID", &owner.gid.to_string(), 1);
    }
    if cgroup_namespace {
        let with = "mount\"\n\t\t\t},\n\t\t\t{\n\t\t\t\t\"type\": \"cgroup\"\n";
        text = text.replacen(LAST_NAMESPACE, with, 1);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::validate::validate;
    use crate::spec::{Spec, version};

    /// What runc 1.1.5 writes, under our version and name.
    fn as_runc_writes_it(fixture: &str) -> String {
        let ours = |text: &str| {
            text.replace("\"1.0.2-dev\"", &format!("{:?}", version::MAX))
                .replace("\"hostname\": \"runc\"", "\"hostname\": \"capsid\"")
        };
        let text = ours(fixture.trim_end());
        let ambient = text.find(",\n\t\t\t\"ambient\": [").unwrap();
        let end = ambient + text[ambient..].find(']').unwrap() + 1;
        text[..ambient].to_owned() + &text[end..]
    }

    #[test]
    fn the_default_is_key_for_key_what_runc_spec_writes() {
        let runc = include_str!("../../../../fixtures/spec/runc-1.1.5.json");
        assert_eq!(config(None, false).trim_end(), as_runc_writes_it(runc));
    }

    #[test]
    fn the_rootless_default_is_key_for_key_what_runc_spec_rootless_writes() {
        let runc = include_str!("../../../../fixtures/spec/runc-1.1.5-rootless.json");
        let owner = Owner {
            uid: 1000,
            gid: 1001,
        };
        let ours = config(Some(owner), false);
        let root = ours.replace("1000", "0").replace("1001", "0");
        assert_eq!(root.trim_end(), as_runc_writes_it(runc));
        assert!(ours.contains("\"hostID\": 1000,") && ours.contains("\"hostID\": 1001,"));
    }

    #[test]
    fn every_default_is_valid_and_tolerates_nothing() {
        let owner = Some(Owner {
            uid: 1000,
            gid: 1000,
        });
        for (owner, cgroup) in [(None, false), (None, true), (owner, false), (owner, true)] {
            let spec = Spec::parse(config(owner, cgroup)).unwrap();
            assert_eq!(validate(&spec), []);
            assert_eq!(spec.notices, []);
            let namespaces = spec.config.linux().as_ref().unwrap().namespaces().clone();
            let count = 5 + usize::from(cgroup);
            assert_eq!(namespaces.unwrap().len(), count);
        }
    }
}
