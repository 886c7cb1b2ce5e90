//! Which cgroup layout a command sees. On a hybrid machine, a private mount namespace shows only the v1
//! hierarchies or only cgroup2 at /sys/fs/cgroup; the machine's own mounts stay as they are.

use std::process::Command;

use super::machine::{self, Cgroups};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// What the machine has.
    Host,
    V1,
    V2,
}

const V1: &str = r#"set -e
mount -t tmpfs -o mode=755 view /mnt
for h in /sys/fs/cgroup/*; do
  [ -e "$h/cgroup.clone_children" ] || continue
  mkdir "/mnt/${h##*/}"; mount --bind "$h" "/mnt/${h##*/}"
done
mount --rbind /mnt /sys/fs/cgroup
umount -l /mnt
exec "$@""#;

const V2: &str = r#"set -e
mount --bind /sys/fs/cgroup/unified /sys/fs/cgroup
exec "$@""#;

impl View {
    /// Those of the two versions that this machine can show.
    pub fn versions() -> impl Iterator<Item = View> {
        let both = [View::V1, View::V2].into_iter();
        both.filter(|view| view.obstacle().is_none())
    }

    /// Why this machine can't show the view, if so.
    pub fn obstacle(self) -> Option<&'static str> {
        match (self, machine::cgroups()) {
            (View::Host, _)
            | (_, Cgroups::Hybrid)
            | (View::V1, Cgroups::V1)
            | (View::V2, Cgroups::V2) => None,
            (View::V1, Cgroups::V2) => Some("no cgroup v1 here"),
            (View::V2, Cgroups::V1) => Some("no cgroup v2 here"),
        }
    }

    /// A command that runs `program` in this view.
    pub fn command(self, program: &std::ffi::OsStr) -> Command {
        let script = match (self, machine::cgroups()) {
            (View::V1, Cgroups::Hybrid) => V1,
            (View::V2, Cgroups::Hybrid) => V2,
            _ => return Command::new(program),
        };
        let mut command = machine::in_own_mounts(script);
        command.arg(program);
        command
    }

    /// Where a cgroup of this path lies on the machine, in the hierarchy of `controller`.
    pub fn cgroup(self, controller: &str, path: &str) -> std::path::PathBuf {
        let root = match (self, machine::cgroups()) {
            (_, Cgroups::V2) => "/sys/fs/cgroup".to_owned(),
            (View::V2, _) => "/sys/fs/cgroup/unified".to_owned(),
            _ => format!("/sys/fs/cgroup/{controller}"),
        };
        format!("{root}{path}").into()
    }

    /// Whether limits are written by the names of cgroup v2.
    pub fn is_v2(self) -> bool {
        self == View::V2 || machine::cgroups() == Cgroups::V2
    }
}
