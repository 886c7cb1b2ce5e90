//! What this machine offers the caller, looked at once per verb.
//!
//! Every look is a system call that each `run` pays for, so only what a plan can depend on is
//! here. All fields are public: a test builds any machine it likes. It must not decide anything.

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use oci_spec::runtime::{Linux, Process};

use crate::cgroup::Layout;
use crate::error::Result;
use crate::plan::{IdMap, asked_modules};

/// The inode of the initial user namespace's file (`USER_NS_INIT_INO` in linux/nsfs.h).
const INITIAL_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

/// The facts about the machine and the caller that a plan depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The caller's effective ids.
    pub euid: u32,
    pub egid: u32,
    /// The caller's effective capabilities, as bits (capabilities(7)).
    pub capabilities: u64,
    /// The ids that the caller's own user namespace maps; None in the initial one.
    pub own_ids: Option<OwnIds>,
    /// What an ordinary user may map besides its own id; None for root.
    pub subordinate: Option<Subordinate>,
    /// The cgroup hierarchies.
    pub layout: Layout,
    /// The security modules that are on, as far as the configuration asks for their labels.
    pub modules: Modules,
    /// Where the caller has a proc or sysfs mounted, the last one first; looked at only where
    /// the old root stays, without pivot_root(2).
    pub kernel_views: Vec<CString>,
    /// The sources of read-only recursive binds that show cgroups: those in a sysfs or cgroup file
    /// system, and those with one below them; looked at only where a user namespace is asked for.
    pub shows_cgroups: Vec<PathBuf>,
    /// `/proc/kcore` exists, so that `/dev/core` has something to point to.
    pub kcore: bool,
}

/// The maps of the user namespace that the caller itself is in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnIds {
    pub uid: Vec<IdMap>,
    pub gid: Vec<IdMap>,
}

/// subuid(5), subgid(5) and the programs that map them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subordinate {
    /// First id and count of each range of the caller.
    pub uid: Vec<(u32, u32)>,
    pub gid: Vec<(u32, u32)>,
    /// newuidmap(1) and newgidmap(1), when both are there.
    pub helpers: Option<(PathBuf, PathBuf)>,
    /// The name of the caller, where it has one.
    pub name: Option<String>,
    /// The first id that nobody has as a subordinate one.
    pub free: u32,
}

impl Subordinate {
    /// Asks elsewhere for the ranges that no file gives the caller; for whoever maps them.
    pub fn ask_elsewhere(&mut self) {
        let (Some(name), true) = (&self.name, self.uid.is_empty() || self.gid.is_empty()) else {
            return;
        };
        let Some(program) = getsubids() else {
            return;
        };
        if self.uid.is_empty() {
            self.uid = asked(&program, name, &[]);
        }
        if self.gid.is_empty() {
            self.gid = asked(&program, name, &["-g"]);
        }
    }
}

impl Host {
    /// Looks at the machine: five system calls and those of [`Layout::probe`] for root, some
    /// more for an ordinary user.
    ///
    /// # Errors
    /// Those of [`Layout::probe`].
    pub fn probe() -> Result<Host> {
        let euid = nix::unistd::geteuid().as_raw();
        let capabilities = caps::read(None, caps::CapSet::Effective)
            .map(|set| set.iter().fold(0, |bits, cap| bits | cap.bitmask()))
            .unwrap_or_default();
        Ok(Host {
            euid,
            egid: nix::unistd::getegid().as_raw(),
            capabilities,
            own_ids: own_ids(),
            subordinate: (euid != 0).then(|| subordinate(euid)),
            layout: Layout::probe()?,
            modules: Modules::default(),
            kernel_views: Vec::new(),
            shows_cgroups: Vec::new(),
            kcore: Path::new("/proc/kcore").exists(),
        })
    }

    /// Whether the source of a bind shows cgroups; in /sys it may, whatever is mounted there.
    pub fn shows_cgroups(&self, source: &Path) -> bool {
        source.starts_with("/sys") || self.shows_cgroups.iter().any(|shows| shows == source)
    }

    /// Whether the caller holds this capability.
    pub fn has(&self, capability: caps::Capability) -> bool {
        self.capabilities & capability.bitmask() != 0
    }

    /// Whether the caller is an ordinary user, root of a user namespace only, or a root that
    /// was left no power over the machine, as in a container.
    pub fn rootless(&self) -> bool {
        self.euid != 0 || self.own_ids.is_some() || !self.has(caps::Capability::CAP_SYS_ADMIN)
    }

    /// Whether the caller may make device nodes that can be opened: mknod(2) in a user
    /// namespace either fails or gives a node that nothing can open.
    pub fn may_make_devices(&self) -> bool {
        self.own_ids.is_none() && self.has(caps::Capability::CAP_MKNOD)
    }
}

/// The security modules that are on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modules {
    pub apparmor: bool,
    pub selinux: bool,
}

impl Modules {
    /// Looks at the machine, but only for a configuration that asks for a label: every look is
    /// a system call.
    pub fn probe(process: Option<&Process>, linux: Option<&Linux>) -> Modules {
        let asked = asked_modules(process, linux);
        Modules {
            apparmor: asked.apparmor && apparmor_is_on(),
            selinux: asked.selinux && selinux_is_on(),
        }
    }
}

fn apparmor_is_on() -> bool {
    let said = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    said.is_ok_and(|word| word.starts_with('Y'))
}

/// Without a policy there are no labels: every process is "kernel".
fn selinux_is_on() -> bool {
    let own = std::fs::read_to_string("/proc/self/attr/current");
    let own = own.unwrap_or_default();
    let labelled = !["", "kernel"].contains(&own.trim_end_matches(['\0', '\n']));
    labelled && Path::new("/sys/fs/selinux/enforce").exists()
}

/// Whether the caller's user namespace is another than the machine's first.
pub(crate) fn in_user_namespace() -> bool {
    !nix::sys::stat::stat("/proc/self/ns/user")
        .is_ok_and(|stat| stat.st_ino == INITIAL_USER_NAMESPACE)
}

fn own_ids() -> Option<OwnIds> {
    in_user_namespace().then(|| {
        let read = |file| parse_id_map(&std::fs::read_to_string(file).unwrap_or_default());
        OwnIds {
            uid: read("/proc/self/uid_map"),
            gid: read("/proc/self/gid_map"),
        }
    })
}

/// The lines of a uid_map or gid_map file; lines that are none are left out.
fn parse_id_map(text: &str) -> Vec<IdMap> {
    let line = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse);
        Some(IdMap {
            container: numbers.next()?.ok()?,
            host: numbers.next()?.ok()?,
            size: numbers.next()?.ok()?,
        })
    };
    text.lines().filter_map(line).collect()
}

fn subordinate(euid: u32) -> Subordinate {
    let text = |file| std::fs::read_to_string(file).unwrap_or_default();
    let login = || std::env::var("USER").ok().filter(|name| !name.is_empty());
    let name = name_of(&text("/etc/passwd"), euid).or_else(login);
    let (uids, gids) = (text("/etc/subuid"), text("/etc/subgid"));
    let free = free(&uids).max(free(&gids));
    Subordinate {
        uid: parse_subordinate(&uids, name.as_deref(), euid),
        gid: parse_subordinate(&gids, name.as_deref(), euid),
        helpers: find_program("newuidmap").zip(find_program("newgidmap")),
        free,
        name,
    }
}

/// getsubids(1), where the machine keeps the ranges elsewhere than in files: with `subid: sss` in
/// nsswitch.conf(5), say.
fn getsubids() -> Option<PathBuf> {
    let text = std::fs::read_to_string("/etc/nsswitch.conf").ok()?;
    let mut lines = text.lines();
    let elsewhere = lines.any(|line| line.trim_start().starts_with("subid:"));
    elsewhere.then(|| find_program("getsubids")).flatten()
}

fn asked(program: &Path, name: &str, option: &[&str]) -> Vec<(u32, u32)> {
    let mut command = std::process::Command::new(program);
    let output = command.args(option).arg(name).stdin(Stdio::null()).output();
    output.map_or_else(
        |_| Vec::new(),
        |output| parse_asked(&String::from_utf8_lossy(&output.stdout)),
    )
}

/// The lines of getsubids(1): `0: name first count`.
fn parse_asked(text: &str) -> Vec<(u32, u32)> {
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(2);
        let range = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        (range.1 != 0).then_some(range)
    };
    text.lines().filter_map(line).collect()
}

/// The first id above all ranges of a file, from where useradd(8) begins.
fn free(text: &str) -> u32 {
    let end = |line: &str| -> Option<u32> {
        let mut fields = line.trim().split(':').skip(1);
        let (first, count): (u32, u32) =
            (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        first.checked_add(count)
    };
    text.lines()
        .filter_map(end)
        .max()
        .unwrap_or_default()
        .max(100_000)
}

/// The name of a user by passwd(5). (getpwuid(3) would ask NSS, which a static program can't
/// load, and which brings a quarter of a megabyte of resolvers along.)
fn name_of(text: &str, uid: u32) -> Option<String> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// The ranges of one user, named by name or by number: `name:first:count` (subuid(5)).
fn parse_subordinate(text: &str, name: Option<&str>, uid: u32) -> Vec<(u32, u32)> {
    let line = |line: &str| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let mine = Some(owner) == name || owner.parse() == Ok(uid);
        let range = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (mine && range.1 != 0).then_some(range)
    };
    text.lines().filter_map(line).collect()
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let text = "alice:100000:65536\n1000:300000:10\nbob:1:2\nalice:x:1\nalice:5\n";
        assert_eq!(
            parse_subordinate(text, Some("alice"), 1000),
            [(100000, 65536), (300000, 10)]
        );
        assert_eq!(parse_subordinate(text, None, 1001), []);
        let passwd = "# users\nroot:x:0:0::/root:/bin/sh\nshort:x\nalice:x:1000:1000::/:/bin/sh\n";
        assert_eq!(name_of(passwd, 1000).as_deref(), Some("alice"));
        assert_eq!(name_of(passwd, 1001), None);
    }

    #[test]
    fn what_getsubids_prints_is_read_and_the_next_free_id_known() {
        let text = "0: alice 100000 65536\n1: alice 300000 10\nnonsense\n";
        assert_eq!(parse_asked(text), [(100_000, 65_536), (300_000, 10)]);
        assert_eq!(free("alice:100000:65536\nbob:165536:65536\nx\n"), 231_072);
        assert_eq!(free("alice:7:1\nbob:4294967295:9\n"), 100_000);
    }

    #[test]
    fn an_id_map_file_is_read_line_by_line() {
        assert_eq!(
            parse_id_map("         0       1000          1\n1 100000 65536\nnonsense\n"),
            [
                IdMap {
                    container: 0,
                    host: 1000,
                    size: 1
                },
                IdMap {
                    container: 1,
                    host: 100000,
                    size: 65536
                },
            ]
        );
    }

    #[test]
    fn this_machine_can_be_probed() {
        let host = Host::probe().unwrap();
        assert_eq!(host.euid, nix::unistd::geteuid().as_raw());
        assert_eq!(host.subordinate.is_some(), host.euid != 0);
    }
}
