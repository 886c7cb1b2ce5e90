//! Kernel parameters: which of them belong to a namespace, and which file each is
//! (config-linux.md, "Sysctl"). The name is taken apart once: whoever writes the parameter
//! uses [`path`], never the name again.

use std::collections::BTreeMap;

use oci_spec::runtime::LinuxNamespaceType;

use super::{has, linux, refuse};
use crate::error::Error;
use crate::spec::{Spec, join, shorten};

/// The longest name of a file in /proc/sys, in bytes (NAME_MAX).
const PART_MAX: usize = 255;

/// Whose a parameter is.
struct Owner {
    /// A file, or with a slash at its end everything below that directory.
    file: &'static str,
    namespace: LinuxNamespaceType,
}

const fn owner(file: &'static str, namespace: LinuxNamespaceType) -> Owner {
    Owner { file, namespace }
}

/// ipc_namespaces(7), network_namespaces(7), uts_namespaces(7), namespaces(7).
const OWNERS: &[Owner] = &[
    owner("kernel/msgmax", LinuxNamespaceType::Ipc),
    owner("kernel/msgmnb", LinuxNamespaceType::Ipc),
    owner("kernel/msgmni", LinuxNamespaceType::Ipc),
    owner("kernel/sem", LinuxNamespaceType::Ipc),
    owner("kernel/shmall", LinuxNamespaceType::Ipc),
    owner("kernel/shmmax", LinuxNamespaceType::Ipc),
    owner("kernel/shmmni", LinuxNamespaceType::Ipc),
    owner("kernel/shm_rmid_forced", LinuxNamespaceType::Ipc),
    owner("fs/mqueue/", LinuxNamespaceType::Ipc),
    owner("net/", LinuxNamespaceType::Network),
    owner("kernel/domainname", LinuxNamespaceType::Uts),
    owner("user/", LinuxNamespaceType::User),
];

/// What `hostname` of config.json writes.
const HOSTNAME: &str = "kernel/hostname";

/// The file of a parameter below /proc/sys, or None when the name is not one.
///
/// As in sysctl(8), "." and "/" both separate; whichever comes first does, and the other one
/// then stands for a dot in a file name (`net/ipv4/conf/eth0.1/forwarding`).
pub fn path(name: &str) -> Option<String> {
    let dotted = name
        .find(['.', '/'])
        .is_some_and(|at| name[at..].starts_with('.'));
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        c => c,
    };
    let path: String = match dotted {
        true => name.chars().map(swap).collect(),
        false => name.to_owned(),
    };
    let plain = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part.len() <= PART_MAX
            && part.chars().all(|c| c.is_ascii_graphic())
    };
    let parts = path.split('/');
    (path.contains('/') && parts.into_iter().all(plain)).then_some(path)
}

/// The namespace that the parameter at this [`path`] belongs to; None for one of the host.
pub fn namespace(path: &str) -> Option<LinuxNamespaceType> {
    let owns = |owner: &&Owner| match owner.file.ends_with('/') {
        true => path.starts_with(owner.file),
        false => path == owner.file,
    };
    OWNERS.iter().find(owns).map(|owner| owner.namespace)
}

/// The parameters by name, so that errors come in one order.
fn sorted(spec: &Spec) -> BTreeMap<&str, &str> {
    let given = linux(spec).and_then(|linux| linux.sysctl().as_ref());
    given
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

/// config-linux.md: kernel parameters of the container, so never one of the host.
pub(super) fn names_are_namespaced(spec: &Spec) -> Vec<Error> {
    let refused = |(name, _): (&str, &str)| {
        let tail = refusal(spec, name)?;
        Some(refuse(join("/linux/sysctl", name), tail))
    };
    sorted(spec).into_iter().filter_map(refused).collect()
}

fn refusal(spec: &Spec, name: &str) -> Option<String> {
    let file = path(name);
    if file.as_deref() == Some(HOSTNAME) {
        let shown = shorten(name);
        let tail = "is not allowed as it conflicts with the OCI \"hostname\" field";
        return Some(format!("sysctl {shown:?} {tail}"));
    }
    match file.as_deref().and_then(namespace) {
        Some(owner) if has(spec, owner) => None,
        owner => Some(of_the_host(name, owner)),
    }
}

/// What is said of a parameter that would be one of the host; `owner` is the [`namespace`] that
/// the container would have to have of its own.
pub fn of_the_host(name: &str, owner: Option<LinuxNamespaceType>) -> String {
    let tail = match owner {
        Some(LinuxNamespaceType::Ipc) => "is not allowed in the hosts ipc namespace",
        Some(LinuxNamespaceType::Network) => "not allowed in host network namespace",
        _ => "is not in a separate kernel namespace",
    };
    format!("sysctl {:?} {tail}", shorten(name))
}

/// A value is one line. No parameter has a "+" in it, but tools that pass several parameters
/// in one string part them with it (CVE-2022-0811).
pub(super) fn values_are_one_line(spec: &Spec) -> Vec<Error> {
    let bad = |(_, value): &(&str, &str)| {
        value
            .chars()
            .any(|c| c == '+' || (c.is_control() && c != '\t'))
    };
    let refused = |(name, _): (&str, &str)| {
        let tail = format!(
            "sysctl {:?} has a value with \"+\" or a control character",
            shorten(name)
        );
        refuse(join("/linux/sysctl", name), tail)
    };
    sorted(spec).into_iter().filter(bad).map(refused).collect()
}

/// An object of JSON has no order: of two names for one file, either could win.
pub(super) fn names_are_written_once(spec: &Spec) -> Vec<Error> {
    let mut seen = BTreeMap::new();
    let mut errors = Vec::new();
    for (name, _) in sorted(spec) {
        let Some(file) = path(name) else {
            continue;
        };
        if let Some(earlier) = seen.insert(file, name) {
            let tail = format!("sysctl {:?} is {:?} again", shorten(name), shorten(earlier));
            errors.push(refuse(join("/linux/sysctl", name), tail));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dots_and_slashes_both_separate() {
        let cases = [
            ("net.ipv4.ip_forward", Some("net/ipv4/ip_forward")),
            ("net/ipv4/ip_forward", Some("net/ipv4/ip_forward")),
            (
                "net/ipv4/conf/eth0.1/forwarding",
                Some("net/ipv4/conf/eth0.1/forwarding"),
            ),
            (
                "net.ipv4.conf.eth0/1.forwarding",
                Some("net/ipv4/conf/eth0.1/forwarding"),
            ),
            ("net/../vm/x", None),
            ("net...vm.x", None),
            ("net.//.vm.x", None),
            ("kernel.shm/../../vm/x", None),
            ("/net/x", None),
            ("net/x/", None),
            ("net", None),
            ("", None),
            ("net.a b", None),
            ("net.a\nb", None),
            ("net.ä", None),
        ];
        for (name, expected) in cases {
            assert_eq!(path(name).as_deref(), expected, "{name:?}");
        }
    }

    #[test]
    fn only_namespaced_parameters_have_an_owner() {
        assert_eq!(
            namespace("net/ipv4/ip_forward"),
            Some(LinuxNamespaceType::Network)
        );
        assert_eq!(namespace("kernel/sem"), Some(LinuxNamespaceType::Ipc));
        assert_eq!(namespace("kernel/semaphore"), None);
        assert_eq!(namespace("vm/overcommit_memory"), None);
        assert_eq!(namespace("network/x"), None);
    }

    proptest! {
        #[test]
        fn no_name_leads_out_of_its_directory(name in "[a-z./ +\\x00\\n]{0,24}|(net|kernel)[./].*") {
            if let Some(path) = path(&name) {
                let plain = |part| matches!(part, Component::Normal(_));
                prop_assert!(Path::new(&path).components().all(plain), "{path}");
                // The file is found under this name: nothing in it is skipped on the way.
                let parts = Path::new(&path).iter().map(|part| part.to_str().unwrap());
                prop_assert_eq!(parts.collect::<Vec<_>>().join("/"), path);
            }
        }
    }
}
