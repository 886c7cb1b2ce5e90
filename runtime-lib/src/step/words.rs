//! The words of each step: what `explain` prints, and what an error says was being done.

use std::ffi::CStr;
use std::fmt;

use nix::errno::Errno;
use nix::sched::CloneFlags;

use super::{Barrier, FsOption, Label, Root, Source, SourceLink, Step, Turn, Way};
use crate::plan::limit_words;

/// The namespaces in the order in which `explain` names them: the specification's words, and the
/// kernel's, by which /proc/PID/ns has them.
pub const NAMESPACES: [(CloneFlags, &str, &str); 8] = [
    (CloneFlags::CLONE_NEWUSER, "user", "user"),
    (CloneFlags::CLONE_NEWNS, "mount", "mnt"),
    (CloneFlags::CLONE_NEWPID, "pid", "pid"),
    (CloneFlags::CLONE_NEWNET, "network", "net"),
    (CloneFlags::CLONE_NEWIPC, "ipc", "ipc"),
    (CloneFlags::CLONE_NEWUTS, "uts", "uts"),
    (CloneFlags::CLONE_NEWCGROUP, "cgroup", "cgroup"),
    (crate::sys::CLONE_NEWTIME, "time", "time"),
];

/// "mount, pid, ipc"
pub fn namespaces(flags: CloneFlags) -> String {
    let words = NAMESPACES.iter().filter(|it| flags.contains(it.0));
    words
        .map(|(_, word, _)| *word)
        .collect::<Vec<_>>()
        .join(", ")
}

impl fmt::Display for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Barrier::Placed => "placed",
            Barrier::Mounted => "mounted",
            Barrier::Ready => "ready",
        })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Dumpable => write!(f, "be dumpable, for an ordinary user to join it"),
            Step::Undumpable => write!(f, "become undumpable"),
            Step::OomScoreAdj(score) => write!(f, "set oom_score_adj to {score}"),
            Step::JoinProcess {
                namespaces: flags, ..
            } => {
                write!(f, "join the container's namespaces: {}", namespaces(*flags))
            }
            Step::JoinNamespace { namespace, .. } => {
                write!(f, "join the {} namespace", namespaces(*namespace))
            }
            Step::Fork { namespaces: flags } if flags.is_empty() => {
                write!(f, "clone the process proper")
            }
            Step::Fork { namespaces: flags } => {
                write!(
                    f,
                    "clone the process proper with new namespaces: {}",
                    namespaces(*flags)
                )
            }
            Step::TimeNamespace { offsets } => {
                let lines = text(offsets);
                let lines = lines.trim_end().replace('\n', ", ");
                write!(f, "make a time namespace: {lines}")
            }
            Step::ResetSignals => write!(f, "reset the signals"),
            Step::EndWithParent => write!(f, "end with the runtime"),
            Step::Label(Label::Profile(name)) => {
                write!(f, "take the AppArmor profile {} at execve", text(name))
            }
            Step::Label(Label::Context(label)) => {
                write!(f, "take the SELinux label {} at execve", text(label))
            }
            Step::Label(Label::Keyrings(label)) => {
                write!(f, "give new keyrings the SELinux label {}", text(label))
            }
            Step::NewSession => write!(f, "start a session"),
            Step::SessionKeyring(name) => write!(f, "join a new session keyring {}", text(name)),
            Step::Streams(_) => write!(f, "take the standard streams of a hook"),
            Step::Meet(barrier) => write!(f, "wait for the parent: {barrier}"),
            Step::BecomeRoot => write!(f, "become root of the user namespace"),
            Step::Unshare(flags) => write!(f, "unshare the {} namespace", namespaces(*flags)),
            Step::Loopback => write!(f, "bring up lo"),
            Step::Hostname(name) => write!(f, "set the hostname to {}", text(name)),
            Step::Domainname(name) => write!(f, "set the domainname to {}", text(name)),
            Step::Umask(mask) => write!(f, "set the umask to {mask:04o}"),
            Step::PropagateAll { propagation } => {
                write!(
                    f,
                    "make every inherited mount {}",
                    propagation_word(*propagation)
                )
            }
            Step::PrivateParent { .. } => write!(f, "make the mount below the root private"),
            Step::ReachRoot(_) => write!(f, "open the root's directories as the caller"),
            Step::OpenRoot(Root::Bind { path }) => write!(f, "open the root {}", text(path)),
            Step::OpenRoot(Root::Overlay { path, overlay }) => {
                write!(f, "mount an overlay on the root {}: lower", text(path))?;
                for lower in &overlay.lower {
                    write!(f, " {}", text(lower))?;
                }
                write!(f, ", upper {}", text(&overlay.upper))
            }
            Step::OpenRoot(Root::Directory { path }) => {
                write!(f, "open the root {}, without a mount", text(path))
            }
            Step::OpenRoot(Root::Opened(_)) => write!(f, "take the container's root"),
            Step::OpenRoot(Root::Current) => write!(f, "open the container's root"),
            Step::Mount(mount) | Step::MakeMount(mount) => mount.fmt(f),
            Step::MountOr { mount, .. } => {
                write!(f, "{mount}, or the caller's own where that is refused")
            }
            Step::HoldTree { path, .. } => write!(f, "clone the mount at {}", text(path)),
            Step::AttachMount { target, .. } => write!(f, "attach it on {target}"),
            Step::ShowRoot => write!(f, "look at what is mounted"),
            Step::FindMount { directory, name } => match directory.path.to_bytes() {
                b"." => write!(f, "find the mount on /{}", text(name)),
                _ => write!(f, "find the mount on {directory}/{}", text(name)),
            },
            Step::Unmount {
                directory, name, ..
            } => match directory.path.to_bytes() {
                b"." => write!(f, "unmount /{}", text(name)),
                _ => write!(f, "unmount {directory}/{}", text(name)),
            },
            Step::Finish => write!(f, "end"),
            Step::Populate(populate) => {
                write!(f, "make in {}:", populate.directory)?;
                for name in &populate.directories {
                    write!(f, " {}/", text(name))?;
                }
                for node in &populate.nodes {
                    write!(f, " {node}")?;
                }
                for link in &populate.links {
                    write!(f, " {} -> {}", text(&link.name), text(&link.to))?;
                }
                Ok(())
            }
            Step::Sysctl { name, value } => {
                write!(
                    f,
                    "set sysctl {} to {}",
                    text(name),
                    String::from_utf8_lossy(value)
                )
            }
            Step::Mask { target, label } => {
                write!(f, "mask {target}")?;
                match label {
                    Some(label) => write!(f, " (a directory with context={})", text(label)),
                    None => Ok(()),
                }
            }
            Step::ReadOnlyPath(target) => write!(f, "make {target} read-only with all below it"),
            Step::RemoveTree { directory, name } => {
                write!(
                    f,
                    "remove {}/{} with all in it",
                    text(directory),
                    text(name)
                )
            }
            Step::JoinCgroup { tasks } => write!(f, "join {} v1 cgroups", tasks.len()),
            Step::JoinMade { count } => write!(f, "join {count} v1 cgroups"),
            Step::JoinUnified { .. } => write!(f, "join the cgroup"),
            Step::JoinRdt { .. } => write!(f, "join the resctrl group"),
            Step::CpuAffinity(cpus) => write!(f, "run on the CPUs {cpus}"),
            Step::EveryCpu => write!(f, "run on every CPU of the cgroup"),
            Step::Scheduler(scheduler) => write!(f, "be scheduled as {scheduler}"),
            Step::IoPriority(priority) => write!(f, "set the I/O priority to {priority}"),
            Step::MemoryPolicy(policy) => write!(f, "set the memory policy to {policy}"),
            Step::Personality(persona) => write!(f, "set the personality to {persona:#x}"),
            Step::Protect { target, .. } => write!(f, "remount {target} (ro)"),
            Step::Attributes { target, attributes } => write!(f, "remount {target}{attributes}"),
            Step::Reconfigure { target, options } => {
                write!(f, "reconfigure the file system on {target}")?;
                write_options(f, options)
            }
            Step::Terminal(terminal) => {
                let console = if terminal.console {
                    ", shown as /dev/console"
                } else {
                    ""
                };
                write!(f, "open a terminal{console}")
            }
            Step::EnterRoot => write!(f, "chroot into the root"),
            Step::PivotRoot => write!(f, "pivot into the root"),
            Step::MoveRoot { kernel_views } => write!(
                f,
                "unmount {} views of the kernel, move the root onto / and chroot into it",
                kernel_views.len()
            ),
            Step::PropagateRoot {
                propagation,
                recursive,
            } => {
                let r = if *recursive { "r" } else { "" };
                write!(f, "make the root {r}{}", propagation_word(*propagation))
            }
            Step::MakeDirectory(target) => write!(f, "make the directory {target}"),
            Step::ChangeDirectory { path, turn } => {
                let who = match turn {
                    Turn::AsRoot => "",
                    Turn::AsUser => " as the user",
                };
                write!(f, "change to {}{who}", text(path))
            }
            Step::NoNewPrivileges => write!(f, "set no_new_privs"),
            Step::DropBounding(set) => {
                write!(
                    f,
                    "keep {} capabilities in the bounding set",
                    set.count_zeros()
                )
            }
            Step::KeepCapabilities => write!(f, "keep capabilities across the change of ids"),
            Step::SetGroups(groups) if groups.len() > 16 => {
                write!(f, "set {} groups", groups.len())
            }
            Step::SetGroups(groups) => write!(f, "set the groups {groups:?}"),
            Step::OwnStreams { uid } => write!(f, "give stdin, stdout and stderr to {uid}"),
            Step::SetIds { uid, gid } => write!(f, "become {uid}:{gid}"),
            Step::SetCapabilities { effective, .. } => {
                write!(
                    f,
                    "set the capabilities, {} effective",
                    effective.count_ones()
                )
            }
            Step::Ambient(set) => write!(f, "raise {} ambient capabilities", set.count_ones()),
            Step::Home { uid } => write!(f, "look up the home directory of user {uid}"),
            Step::FindProgram => write!(f, "find the program"),
            Step::Limit {
                resource,
                soft,
                hard,
            } => f.write_str(&limit_words(*resource, *soft, *hard)),
            Step::CloseHostFds { .. } => write!(f, "close the host's descriptors"),
            Step::CloseExtraFds { preserve: 0 } => write!(f, "close all descriptors but stdio"),
            Step::CloseExtraFds { preserve } => {
                write!(f, "close all descriptors but stdio and {preserve} more")
            }
            Step::InstallSeccomp(filter) => {
                let count = filter.program.len();
                write!(f, "install the seccomp filter, {count} instructions")?;
                f.write_str(if filter.listens() {
                    ", with a listener"
                } else {
                    ""
                })
            }
            Step::AwaitStart => write!(f, "wait for start"),
            Step::Execute => write!(f, "execute the program"),
            Step::NothingToExecute => write!(f, "stop: there is no process to execute"),
        }
    }
}

impl fmt::Display for super::Mount {
    /// "mount tmpfs on /data with size=1m (nosuid)", "rbind /srv on /srv (ro)"
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::New {
                fstype, options, ..
            }
            | Source::Made {
                fstype, options, ..
            } => {
                write!(f, "mount {} on {}", text(fstype), self.target)?;
                write_options(f, options)?;
                if self.copy_up {
                    write!(f, ", with a copy of what it covers")?;
                }
            }
            Source::Bind { path, recursive }
            | Source::Held { path, recursive }
            | Source::Opened {
                path, recursive, ..
            } => {
                let how = if *recursive { "rbind" } else { "bind" };
                let what = match self.source_link {
                    SourceLink::Follow => "",
                    SourceLink::Bind => " without following it",
                    SourceLink::Copy => ", or copy it if it is a link,",
                };
                write!(f, "{how} {}{what} on {}", text(path), self.target)?;
            }
        }
        self.attributes.fmt(f)?;
        if let Some(owners) = &self.owners {
            owners.fmt(f)?;
        }
        match self.source {
            Source::Opened { .. } => write!(f, ", opened by the parent"),
            Source::Made { .. } => write!(f, ", made by the parent"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for super::MappedOwners {
    /// ", id-mapped: map uids 0+10 to 1000, gids 0+10 to 1000"
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let below = match self.recursive {
            true => " with all below it",
            false => "",
        };
        match &self.maps {
            Some(maps) => write!(f, ", id-mapped{below}: {maps}"),
            None => write!(f, ", id-mapped{below} as the joined user namespace"),
        }
    }
}

/// Why a mount could not be id-mapped.
pub(crate) fn not_mapped(errno: Errno) -> &'static str {
    match errno {
        Errno::EINVAL => "a file system in it can't be id-mapped, or is already",
        Errno::EPERM => "id-mapping needs CAP_SYS_ADMIN over the file system",
        _ => "it can't be id-mapped",
    }
}

/// What runc says, and engines know, of a mount on /proc that is no procfs.
pub(crate) fn not_procfs(destination: &str) -> String {
    format!("{destination:?} cannot be mounted because it is not of type proc")
}

/// " with size=1m,mode=755", or nothing.
fn write_options(f: &mut fmt::Formatter<'_>, options: &[FsOption]) -> fmt::Result {
    for (n, option) in options.iter().enumerate() {
        let before = if n == 0 { " with " } else { "," };
        write!(f, "{before}{}", text(&option.key))?;
        if let Some(value) = &option.value {
            write!(f, "={}", text(value))?;
        }
    }
    Ok(())
}

impl fmt::Display for super::Node {
    /// "null(c 1:3)", "fuse(c 10:229 0600 5:0)", "tty(bound)": the usual mode and owner unsaid.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", text(&self.name))?;
        match (&self.way, self.mode & libc::S_IFMT) {
            (Way::Bind(_), _) => return write!(f, "bound)"),
            (Way::Expect, _) => return write!(f, "there already)"),
            (_, libc::S_IFIFO) => write!(f, "p")?,
            (_, libc::S_IFBLK) => write!(f, "b {}:{}", self.major, self.minor)?,
            _ => write!(f, "c {}:{}", self.major, self.minor)?,
        }
        let permissions = self.mode & 0o7777;
        let (uid, gid) = self.owner.unwrap_or_default();
        if (permissions, uid, gid) != (0o666, 0, 0) {
            write!(f, " {permissions:04o} {uid}:{gid}")?;
        }
        write!(f, ")")
    }
}

/// MOUNT_ATTR_* by the words of mount options; set, then what clears it.
const ATTRIBUTE_WORDS: [(u64, &str, &str); 6] = [
    (libc::MOUNT_ATTR_RDONLY, "ro", "rw"),
    (libc::MOUNT_ATTR_NOSUID, "nosuid", "suid"),
    (libc::MOUNT_ATTR_NODEV, "nodev", "dev"),
    (libc::MOUNT_ATTR_NOEXEC, "noexec", "exec"),
    (libc::MOUNT_ATTR_NODIRATIME, "nodiratime", "diratime"),
    (
        crate::sys::MOUNT_ATTR_NOSYMFOLLOW,
        "nosymfollow",
        "symfollow",
    ),
];

impl fmt::Display for super::Attributes {
    /// "" or " (rro, ro, nosuid, rslave)": in the order in which the child does it, which is also
    /// the one in which the words mean the same again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        let sides = [
            ("r", self.recursive_set, self.recursive_clear),
            ("", self.set, self.clear),
        ];
        for (prefix, set, clear) in sides {
            for (bit, on, off) in ATTRIBUTE_WORDS {
                if set & bit != 0 {
                    words.push(format!("{prefix}{on}"));
                } else if clear & bit != 0 {
                    words.push(format!("{prefix}{off}"));
                }
            }
            if clear & libc::MOUNT_ATTR__ATIME != 0 {
                let word = match set & libc::MOUNT_ATTR__ATIME {
                    libc::MOUNT_ATTR_NOATIME => "noatime",
                    libc::MOUNT_ATTR_STRICTATIME => "strictatime",
                    _ => "relatime",
                };
                words.push(format!("{prefix}{word}"));
            }
        }
        if self.recursive_propagation != 0 {
            words.push(format!("r{}", propagation_word(self.recursive_propagation)));
        }
        if self.propagation != 0 {
            words.push(propagation_word(self.propagation).to_owned());
        }
        match words.is_empty() {
            true => Ok(()),
            false => write!(f, " ({})", words.join(", ")),
        }
    }
}

fn propagation_word(propagation: u64) -> &'static str {
    match propagation {
        libc::MS_SHARED => "shared",
        libc::MS_SLAVE => "slave",
        libc::MS_UNBINDABLE => "unbindable",
        _ => "private",
    }
}

fn text(bytes: &CStr) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes.to_bytes())
}
