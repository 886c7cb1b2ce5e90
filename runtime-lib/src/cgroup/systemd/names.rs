//! What a container's unit is called, and where its cgroup lies: linux.cgroupsPath as
//! `slice:prefix:name`, which engines build, and systemd.slice(5)'s dashes. Text in, text out.

use std::path::PathBuf;

use crate::cgroup::place::POINTER;
use crate::error::{Code, Error, Result};
use crate::spec::shorten;

/// Where config.json wants the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The slice unit that the container's is in.
    pub slice: String,
    /// The container's own unit.
    pub unit: String,
}

/// unit names end before 256 bytes (systemd.unit(5)).
const LONGEST: usize = 255;

/// What cgroup2 and v1 call files of their own; a unit called so gets a `_` in front.
const CONTROLLERS: [&str; 14] = [
    "cpu", "cpuacct", "cpuset", "io", "blkio", "memory", "devices", "pids", "hugetlb", "rdma",
    "misc", "freezer", "net_cls", "net_prio",
];

impl Names {
    /// Reads the path; without one, the container is `:capsid:ID`.
    ///
    /// # Errors
    /// [`Code::InvalidConfig`]: it is none of that form, or not all of it can be part of a
    /// unit's name.
    pub fn read(path: Option<&str>, id: &str, user: bool) -> Result<Names> {
        let (slice, prefix, name) = match path.filter(|path| !path.is_empty()) {
            None => ("", "capsid", id),
            Some(path) => {
                let parts: Vec<&str> = path.split(':').collect();
                match parts.as_slice() {
                    [slice, prefix, name] if !name.is_empty() => (*slice, *prefix, *name),
                    _ => {
                        let path = shorten(path);
                        return refuse(format!(
                            "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd \
                             cgroups, got {path:?} instead"
                        ));
                    }
                }
            }
        };
        let slice = match (slice, user) {
            ("", false) => "system.slice",
            ("", true) => "user.slice",
            ("-", _) => "-.slice",
            (slice, _) => slice,
        };
        components(slice)?;
        let unit = match (is_slice(name), prefix) {
            (true, _) => {
                components(name)?;
                name.to_owned()
            }
            (false, "") => format!("{}.scope", part(name)?),
            (false, prefix) => format!("{}-{}.scope", part(prefix)?, part(name)?),
        };
        if unit.len() > LONGEST {
            return refuse(format!("unit name {:?} is too long", shorten(&unit)));
        }
        Ok(Names {
            slice: slice.to_owned(),
            unit,
        })
    }

    /// The unit's cgroup below that of the manager.
    ///
    /// # Errors
    /// As for [`Names::read`].
    pub fn path(&self) -> Result<PathBuf> {
        let mut path = PathBuf::from("/");
        match is_slice(&self.unit) {
            true => path.extend(components(&self.unit)?.iter().map(|it| directory(it))),
            false => {
                path.extend(components(&self.slice)?.iter().map(|it| directory(it)));
                path.push(directory(&self.unit));
            }
        }
        Ok(path)
    }
}

/// Whether the unit is a slice itself: it has a Wants= for the slice that it names, lies where its own
/// name says, and holds no process of systemd's.
pub fn is_slice(unit: &str) -> bool {
    unit.ends_with(".slice")
}

/// The slices that lie in each other, the outermost first: `a-b.slice` lies in `a.slice`, and
/// `-.slice` is the root.
fn components(slice: &str) -> Result<Vec<String>> {
    let wrong = || refuse(format!("invalid slice name: {}", shorten(slice)));
    let Some(name) = slice.strip_suffix(".slice") else {
        return wrong();
    };
    if name == "-" {
        return Ok(Vec::new());
    }
    if !name.bytes().all(plain) || slice.len() > LONGEST {
        return wrong();
    }
    let mut nested = Vec::new();
    let mut prefix = String::new();
    for part in name.split('-') {
        if part.is_empty() {
            return wrong();
        }
        prefix.push_str(part);
        nested.push(format!("{prefix}.slice"));
        prefix.push('-');
    }
    Ok(nested)
}

/// The unit's directory.
fn directory(unit: &str) -> String {
    let of_controller = |name: &&str| {
        let rest = unit.strip_prefix(*name);
        rest.is_some_and(|rest| rest.starts_with('.'))
    };
    let clashes = unit.starts_with(['_', '.'])
        || unit.starts_with("cgroup.")
        || CONTROLLERS.iter().any(of_controller);
    match clashes {
        true => format!("_{unit}"),
        false => unit.to_owned(),
    }
}

/// What a unit's name may consist of.
fn plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte)
}

/// A name as a part of a unit's. (An id may have a `+`.)
fn part(name: &str) -> Result<String> {
    if name.contains(['/', '\0', '\n']) {
        let name = shorten(name);
        return refuse(format!("{name:?} cannot be part of a unit's name"));
    }
    Ok(escaped(name))
}

/// As systemd-escape(1) writes the bytes that can't be there.
pub fn escaped(name: &str) -> String {
    name.bytes()
        .map(|byte| match plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("\\x{byte:02x}"),
        })
        .collect()
}

fn refuse<T>(tail: String) -> Result<T> {
    Err(Error::new(Code::InvalidConfig, tail)
        .at(POINTER)
        .hint("SLICE:PREFIX:NAME, such as system.slice:capsid:web"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The unit and its cgroup.
    fn placed(path: &str) -> (String, String) {
        let names = Names::read(Some(path), "web", false).unwrap();
        let path = names.path().unwrap().to_string_lossy().into_owned();
        (names.unit, path)
    }

    #[test]
    fn a_path_names_a_slice_and_a_scope_in_it() {
        for (path, unit, cgroup) in [
            ("", "capsid-web.scope", "/system.slice/capsid-web.scope"),
            (
                ":libpod:abc",
                "libpod-abc.scope",
                "/system.slice/libpod-abc.scope",
            ),
            (
                "machine.slice:libpod:abc",
                "libpod-abc.scope",
                "/machine.slice/libpod-abc.scope",
            ),
            (
                "kubepods-besteffort-pod1.slice:cri-containerd:abc",
                "cri-containerd-abc.scope",
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1.slice/cri-containerd-abc.scope",
            ),
            ("-.slice:x:y", "x-y.scope", "/x-y.scope"),
            ("-:x:y", "x-y.scope", "/x-y.scope"),
            ("a.slice::y", "y.scope", "/a.slice/y.scope"),
            (
                "a.slice:x:a+b",
                "x-a\\x2bb.scope",
                "/a.slice/x-a\\x2bb.scope",
            ),
            ("a.slice::cpu.x", "cpu.x.scope", "/a.slice/_cpu.x.scope"),
            ("a.slice::_x", "_x.scope", "/a.slice/__x.scope"),
            (
                "system.slice:x:a-b.slice",
                "a-b.slice",
                "/a.slice/a-b.slice",
            ),
        ] {
            assert_eq!(placed(path), (unit.into(), cgroup.into()), "{path}");
        }
        let names = Names::read(None, "web", true).unwrap();
        assert_eq!(
            names.path().unwrap(),
            PathBuf::from("/user.slice/capsid-web.scope")
        );
    }

    #[test]
    fn b33_other_paths_are_refused() {
        for path in [
            "/a/b",
            "web",
            "a:b",
            "a.slice:b:c:d",
            "::",
            "a:b:c",
            "../a.slice:b:c",
            "..:b:c",
            "a/b.slice:b:c",
            "-a.slice:b:c",
            "a-.slice:b:c",
            "a--b.slice:b:c",
            ".slice:b:c",
            "a b.slice:b:c",
            "a.slice:b:../c",
            "a.slice:b/c:d",
            "a.slice:b:c/d.slice",
            "a.slice:b:-.slice.slice",
            "a.slice:b:c\n",
        ] {
            let refused = Names::read(Some(path), "web", false).unwrap_err();
            assert_eq!(refused.pointer(), Some(POINTER), "{path}");
        }
        let long = format!("a.slice:b:{}", "c".repeat(250));
        assert!(Names::read(Some(&long), "web", false).is_err());
        for long in ["x", "x/", ":", "a.slice:b:/", "a b"].map(|part| part.repeat(100_000)) {
            let refused = Names::read(Some(&long), "web", false).unwrap_err();
            assert!(refused.to_string().len() < 1000, "{}", &long[..20]);
        }
        let tail = Names::read(Some("X"), "web", false).unwrap_err();
        let expected = "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd \
                        cgroups, got \"X\" instead";
        assert_eq!(tail.tail(), expected);
    }
}
