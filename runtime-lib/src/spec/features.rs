//! What this version does, as runtime-spec's features.md lays it out: taken from the tables
//! that the code itself uses, so that it can't promise more. It must not look at the machine, but
//! for the one list that the specification makes a matter of its kernel: seccomp's flags.

use std::collections::BTreeMap;

use serde::Serialize;

use super::version;
use crate::cgroup::{NESTED, SYSTEMD_ANNOTATIONS};
use crate::container::handover::PIDFD_RECEIVER;
use crate::container::hooks::COPIES as HOOK_OUTPUTS;
use crate::container::seccomp_listener::RECEIVER;
use crate::plan::hooks::HookKind;
use crate::step::scheduling::{MEMORY_FLAGS, MEMORY_MODES};
use crate::step::words::NAMESPACES;
use crate::{lxcfs, plan, seccomp};

/// features.md: "Features Structure". Absent keys would mean "unknown", so none is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Features {
    oci_version_min: &'static str,
    oci_version_max: &'static str,
    hooks: [&'static str; 6],
    mount_options: Vec<&'static str>,
    linux: Linux,
    annotations: BTreeMap<&'static str, &'static str>,
    potentially_unsafe_config_annotations: Vec<&'static str>,
}

/// features-linux.md.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    namespaces: [&'static str; NAMESPACES.len()],
    capabilities: Vec<String>,
    cgroup: Cgroup,
    seccomp: Seccomp,
    apparmor: Enabled,
    selinux: Enabled,
    intel_rdt: IntelRdt,
    memory_policy: MemoryPolicy,
    mount_extensions: MountExtensions,
    net_devices: Enabled,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Cgroup {
    v1: bool,
    v2: bool,
    systemd: bool,
    systemd_user: bool,
    rdma: bool,
}

#[derive(Debug, Serialize)]
struct Enabled {
    enabled: bool,
}

/// Words of the tables; `supported_flags` are those that this machine's kernel has.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Seccomp {
    enabled: bool,
    actions: Vec<String>,
    operators: Vec<String>,
    archs: Vec<&'static str>,
    known_flags: Vec<String>,
    supported_flags: Vec<String>,
}

#[derive(Debug, Serialize)]
struct IntelRdt {
    enabled: bool,
    schemata: bool,
    monitoring: bool,
}

#[derive(Debug, Serialize)]
struct MemoryPolicy {
    modes: [&'static str; 7],
    flags: [&'static str; 3],
}

#[derive(Debug, Serialize)]
struct MountExtensions {
    idmap: Enabled,
}

/// The features document of this version.
pub fn features() -> Features {
    let mut mount_options: Vec<_> = plan::known_mount_options().collect();
    mount_options.sort_unstable();
    let mut capabilities: Vec<_> = caps::all().into_iter().collect();
    capabilities.sort_unstable_by_key(caps::Capability::index);
    let present = || Enabled { enabled: true };
    Features {
        oci_version_min: version::MIN,
        oci_version_max: version::MAX,
        hooks: HookKind::ALL.map(HookKind::word),
        mount_options,
        linux: Linux {
            namespaces: NAMESPACES.map(|(_, word, _)| word),
            capabilities: capabilities.iter().map(ToString::to_string).collect(),
            cgroup: Cgroup {
                v1: true,
                v2: true,
                systemd: true,
                systemd_user: true,
                rdma: true,
            },
            seccomp: seccomp(),
            apparmor: present(),
            selinux: present(),
            intel_rdt: IntelRdt {
                enabled: true,
                schemata: true,
                monitoring: true,
            },
            memory_policy: MemoryPolicy {
                modes: MEMORY_MODES.map(|(word, _)| word),
                flags: MEMORY_FLAGS.map(|(word, _)| word),
            },
            mount_extensions: MountExtensions { idmap: present() },
            net_devices: present(),
        },
        annotations: BTreeMap::from([
            ("capsid.commit", version::commit()),
            ("capsid.version", env!("CARGO_PKG_VERSION")),
            // Engines ask runc's key before they offer a checkpoint.
            ("org.opencontainers.runc.checkpoint.enabled", "false"),
        ]),
        // Files that are written, a directory of the host that is shown, what systemd is told,
        // cgroups that are made, sockets that get descriptors.
        potentially_unsafe_config_annotations: [
            &HOOK_OUTPUTS[..],
            &[
                lxcfs::ANNOTATION,
                SYSTEMD_ANNOTATIONS,
                PIDFD_RECEIVER,
                RECEIVER,
            ],
            &NESTED,
        ]
        .concat(),
    }
}

fn seccomp() -> Seccomp {
    let flags = seccomp::FLAGS.iter();
    let here = flags.clone().filter(|flag| seccomp::has_flag(**flag));
    Seccomp {
        enabled: true,
        actions: seccomp::ACTIONS.iter().map(ToString::to_string).collect(),
        operators: seccomp::OPERATORS.iter().map(ToString::to_string).collect(),
        archs: seccomp::architectures().collect(),
        supported_flags: here.map(ToString::to_string).collect(),
        known_flags: flags.map(ToString::to_string).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::validate::validate;
    use crate::spec::{Spec, unsupported};
    use serde_json::{Value, json};

    fn document() -> Value {
        serde_json::to_value(features()).unwrap()
    }

    #[test]
    fn it_reads_as_the_specification_lays_it_out() {
        let read: oci_spec::runtime::Features = serde_json::from_value(document()).unwrap();
        assert_eq!(read.oci_version_max(), version::MAX);
        let linux = read.linux().as_ref().unwrap();
        assert_eq!(linux.namespaces().as_ref().unwrap().len(), 8);
        assert_eq!(linux.capabilities().as_ref().unwrap().len(), 41);
    }

    #[test]
    fn every_namespace_it_names_is_accepted_in_a_config() {
        let namespaces = NAMESPACES.map(|(_, word, _)| json!({"type": word}));
        let config = json!({
            "ociVersion": version::MAX,
            "root": {"path": "rootfs"},
            "linux": {"namespaces": namespaces},
        });
        assert_eq!(validate(&Spec::parse(config.to_string()).unwrap()), []);
    }

    #[test]
    fn what_it_says_is_absent_is_refused_in_a_config() {
        let absent = document();
        for (key, config) in [
            ("apparmor", json!({"process": {"apparmorProfile": "x"}})),
            ("selinux", json!({"process": {"selinuxLabel": "x"}})),
            ("intelRdt", json!({"linux": {"intelRdt": {}}})),
            ("netDevices", json!({"linux": {"netDevices": {"eth0": {}}}})),
        ] {
            let enabled = &absent["linux"][key]["enabled"];
            assert_eq!(
                *enabled,
                !unsupported::config(&config).len().eq(&1),
                "{key}"
            );
        }
    }

    #[test]
    fn every_word_of_seccomp_that_it_names_is_accepted_in_a_config() {
        let seccomp = &document()["linux"]["seccomp"];
        let all = |key: &str| seccomp[key].as_array().unwrap().clone();
        assert_eq!(all("archs").len(), 23);
        let actions = all("actions")
            .into_iter()
            .map(|action| json!({"names": ["read"], "action": action}));
        let mut syscalls: Vec<_> = actions.collect();
        syscalls.extend(all("operators").into_iter().map(|op| {
            let args = json!([{"index": 0, "value": 1, "op": op}]);
            json!({"names": ["read"], "action": "SCMP_ACT_LOG", "args": args})
        }));
        let config = json!({
            "ociVersion": version::MAX,
            "root": {"path": "rootfs"},
            "linux": {"seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "listenerPath": "/run/agent.sock",
                "architectures": all("archs"),
                "flags": all("knownFlags"),
                "syscalls": syscalls,
            }},
        });
        assert_eq!(validate(&Spec::parse(config.to_string()).unwrap()), []);
        let supported = all("supportedFlags");
        let known = all("knownFlags");
        assert_eq!(known.len(), seccomp::FLAGS.len());
        assert!(supported.iter().all(|flag| known.contains(flag)));
    }

    #[test]
    fn every_mount_option_of_the_table_is_named() {
        let options = document()["mountOptions"].clone();
        let options = options.as_array().unwrap();
        assert_eq!(options.len(), plan::known_mount_options().count());
        for known in [
            "ro",
            "rbind",
            "rro",
            "nosymfollow",
            "iversion",
            "rslave",
            "idmap",
        ] {
            assert!(options.contains(&json!(known)), "{known}");
        }
    }
}
