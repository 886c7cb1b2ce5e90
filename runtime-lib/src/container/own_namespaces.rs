//! What a configuration would set for the host, because a namespace that it joins by its path is
//! the caller's own.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use oci_spec::runtime::{LinuxNamespaceType, Spec};

use crate::error::{Code, Error, Result};
use crate::plan::sysctl_namespace;
use crate::spec::{join, shorten};

/// config-linux.md, "Sysctl": a parameter is never one of the host.
///
/// # Errors
/// [`Code::InvalidConfig`] at the first parameter, by its name.
pub(super) fn refuse_sysctls(config: &Spec) -> Result<()> {
    let linux = config.linux().as_ref();
    let Some(sysctls) = linux.and_then(|linux| linux.sysctl().as_ref()) else {
        return Ok(());
    };
    let namespaces = linux.and_then(|linux| linux.namespaces().as_deref());
    let mut names: Vec<_> = sysctls.keys().collect();
    names.sort();
    for namespace in namespaces.unwrap_or_default() {
        let Some(path) = namespace.path().as_deref() else {
            continue;
        };
        let mut of_it = names
            .iter()
            .filter(|name| sysctl_namespace(name) == Some(namespace.typ()));
        if let Some(name) = of_it.next()
            && is_own(path, namespace.typ())
        {
            let place = match namespace.typ() {
                LinuxNamespaceType::Network => "not allowed in host network namespace",
                LinuxNamespaceType::Ipc => "is not allowed in the hosts ipc namespace",
                _ => "is not in a separate kernel namespace",
            };
            let tail = format!("sysctl {:?} {place}", shorten(name));
            return Err(Error::new(Code::InvalidConfig, tail)
                .at(join("/linux/sysctl", name))
                .hint(format!(
                    "{} is the caller's own namespace",
                    shorten(&path.to_string_lossy())
                )));
        }
    }
    Ok(())
}

/// A path that leads nowhere is refused where it is opened.
fn is_own(path: &Path, namespace: LinuxNamespaceType) -> bool {
    let own = match namespace {
        LinuxNamespaceType::Network => "/proc/thread-self/ns/net",
        LinuxNamespaceType::Ipc => "/proc/thread-self/ns/ipc",
        LinuxNamespaceType::Uts => "/proc/thread-self/ns/uts",
        LinuxNamespaceType::User => "/proc/thread-self/ns/user",
        _ => return false,
    };
    let file = |path: &Path| {
        let file = std::fs::metadata(path).ok()?;
        Some((file.dev(), file.ino()))
    };
    file(path).is_some_and(|there| file(Path::new(own)) == Some(there))
}
