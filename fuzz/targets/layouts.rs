//! What the kernel says of cgroups and mounts (/proc/PID/cgroup, /proc/PID/mountinfo), damaged: paths in them are
//! chosen by whoever makes them.

use capsid_fuzz::{damaged, fuzz, is_one_line};
use capsid_runtime::cgroup::Layout;
use proptest::prelude::*;

const GROUPS: &str = "4:memory:/a\n3:cpu,cpuacct:/a/b\n2:name=systemd:/\n0::/a b\n";
const MOUNTS: &str = "24 1 254:1 / / rw - ext4 /dev/vda1 rw\n\
    30 24 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
    31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw\n\
    32 30 0:28 /a /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
    33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw master:3 - cgroup cgroup rw,cpu,cpuacct\n";
const WORDS: &[&str] = &[
    "\\040",
    "\\1",
    "\\",
    " - ",
    " ",
    "\n",
    ":",
    "..",
    "/../",
    " - cgroup2 x rw",
    "0::",
    "//deleted",
];

#[test]
fn what_the_kernel_says_of_cgroups_is_understood_or_refused() {
    let groups = damaged(vec![GROUPS.into(), b"0::/a\n".to_vec()], WORDS);
    let mounts = damaged(vec![MOUNTS.into()], WORDS);
    fuzz("layouts", (groups, mounts), |(groups, mounts)| {
        match Layout::parse(&groups, &mounts) {
            Ok(layout) => prop_assert_eq!(Layout::parse(&groups, &mounts).ok(), Some(layout)),
            Err(error) => is_one_line(&error)?,
        }
        Ok(())
    });
}
