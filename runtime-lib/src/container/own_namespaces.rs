//! What a configuration would set for the host, because a namespace that it joins by its path is
//! the caller's own.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use oci_spec::runtime::{LinuxNamespaceType, Spec};

use crate::error::{Code, Error, Result};
use crate::plan::namespace_flag;
use crate::plan::validate::sysctl;
use crate::spec::{join, shorten};
use crate::step::words::NAMESPACES;

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
        let owner = Some(namespace.typ());
        let mut of_it = names
            .iter()
            .filter(|name| sysctl::path(name).as_deref().and_then(sysctl::namespace) == owner);
        if let Some(name) = of_it.next()
            && is_own(path, namespace.typ())
        {
            return Err(
                Error::new(Code::InvalidConfig, sysctl::of_the_host(name, owner))
                    .at(join("/linux/sysctl", name))
                    .hint(format!(
                        "{} is the caller's own namespace",
                        shorten(&path.to_string_lossy())
                    )),
            );
        }
    }
    Ok(())
}

/// A path that leads nowhere is refused where it is opened.
fn is_own(path: &Path, kind: LinuxNamespaceType) -> bool {
    let mut all = NAMESPACES.iter();
    let Some((_, _, name)) = all.find(|(flag, ..)| *flag == namespace_flag(kind)) else {
        return false;
    };
    let file = |path: &Path| {
        let file = std::fs::metadata(path).ok()?;
        Some((file.dev(), file.ino()))
    };
    let own = format!("/proc/thread-self/ns/{name}");
    file(path).is_some_and(|there| file(own.as_ref()) == Some(there))
}
