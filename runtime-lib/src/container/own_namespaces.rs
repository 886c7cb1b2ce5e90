//! What a configuration would set for the host, because a namespace that it joins by its path is
//! the caller's own.

use nix::sys::stat::stat;
use oci_spec::runtime::Spec;

use crate::error::{Code, Error, Result};
use crate::launch::opens::is_own;
use crate::plan::namespace_flag;
use crate::plan::validate::sysctl;
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
        let owner = Some(namespace.typ());
        let mut of_it = names
            .iter()
            .filter(|name| sysctl::path(name).as_deref().and_then(sysctl::namespace) == owner);
        if let Some(name) = of_it.next()
            // A path that leads nowhere is refused where it is opened.
            && is_own(namespace_flag(namespace.typ()), stat(path))
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
