//! The whole vocabulary of what a child may do between clone and execve.
//!
//! A step carries everything it needs, already resolved and already a C string: the child
//! neither allocates nor decides. `Display` is what `explain` prints and what an error says
//! was being done. Nothing here makes a system call.
//!
//! A new step is written down here, put into words in `words`, done in `child`, and its refusal
//! given a code and advice in `launch/refusal.rs`; a stage of `plan` emits it. `fixtures/plans`
//! shows what whole lists look like.

mod calls;
mod number_set;
pub mod scheduling;
pub mod words;

pub use number_set::NumberSet;
pub use scheduling::{IoPriority, MemoryPolicy, Scheduler};
pub use words::namespaces;

use std::ffi::CString;
use std::fmt;

use nix::sched::CloneFlags;

use crate::plan::IdMaps;
use crate::seccomp::Filter;

/// Index of something that the parent opened before the clone; see [`crate::plan::Open`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(pub usize);

/// A state of the child at which the parent acts on it before it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barrier {
    /// The child exists and has done nothing that needs its identity: ids are mapped here.
    Placed,
    /// Everything is mounted, nothing is read-only yet, and the old root is still in reach: hooks
    /// run here.
    Mounted,
    /// The child would execute the program next: limits are set and the state is recorded here.
    Ready,
}

/// One action of the child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// PR_SET_DUMPABLE 1: the owner of the user namespace may join it though its ids have changed.
    Dumpable,
    /// PR_SET_DUMPABLE 0: nobody in a joined pid namespace may trace or open this process.
    Undumpable,
    /// Write /proc/self/oom_score_adj; one that only CAP_SYS_RESOURCE may set leaves it as it is.
    OomScoreAdj(i32),
    /// setns(2) on a pidfd: all of these namespaces of that process at once.
    JoinProcess {
        process: Slot,
        namespaces: CloneFlags,
    },
    /// setns(2) on a namespace file.
    JoinNamespace { namespace: CloneFlags, file: Slot },
    /// unshare(2) of a time namespace, its offsets (/proc/PID/timens_offsets), and setns(2) into it.
    TimeNamespace { offsets: CString },
    /// clone3(2) with CLONE_PARENT: the process proper goes on from here, this one ends.
    Fork { namespaces: CloneFlags },
    /// An empty signal mask, and the default action for every signal that was ignored.
    ResetSignals,
    /// End by SIGKILL when the parent's thread ends (PR_SET_PDEATHSIG). Later changes of credentials would
    /// undo it.
    EndWithParent,
    /// Write the label to the process's own file below a /proc that is the host's.
    Label(Label),
    /// setsid(2)
    NewSession,
    /// keyctl(2): a session keyring of this name, which its possessor may search.
    SessionKeyring(CString),
    /// dup3(2) of these onto standard input, output and error: a hook's.
    Streams([Slot; 3]),
    /// Tell the parent, and wait until it has acted.
    Meet(Barrier),
    /// Open the directories of the root as the caller, who may reach more than the root of the
    /// user namespace that this process becomes next.
    ReachRoot(Root),
    /// The first ids inside the user namespace, so that files made from here on have an owner.
    BecomeRoot,
    /// unshare(2) of one namespace that clone could not make.
    Unshare(CloneFlags),
    /// Bring up `lo`.
    Loopback,
    /// sethostname(2)
    Hostname(CString),
    /// setdomainname(2)
    Domainname(CString),
    /// umask(2)
    Umask(u32),
    /// Propagation of every mount of the inherited tree: MS_SLAVE, MS_SHARED, ….
    PropagateAll { propagation: u64 },
    /// Make private the mount that these directories, the deepest first, lie on.
    PrivateParent { candidates: Vec<CString> },
    /// Attach the root filesystem at its own path; all targets are below it from here on.
    OpenRoot(Root),
    /// Make a mount and attach it.
    Mount(Mount),
    /// The same, and another one where the kernel refuses the first (EPERM).
    MountOr { mount: Mount, otherwise: Box<Mount> },
    /// Device nodes and symbolic links in one directory below the root.
    Populate(Populate),
    /// Write a sysctl through a procfs that no mount of the container covers.
    Sysctl { name: CString, value: Vec<u8> },
    /// Cover a file by /dev/null, a directory by an empty read-only tmpfs; absent: nothing.
    Mask {
        target: Target,
        /// The SELinux label of that tmpfs.
        label: Option<CString>,
    },
    /// Make a path and all below it read-only; absent: nothing.
    ReadOnlyPath(Target),
    /// Write 0 into each v1 `tasks` file.
    JoinCgroup { tasks: Vec<Slot> },
    /// The same for as many files that the parent sends: it makes the cgroups meanwhile.
    JoinMade { count: usize },
    /// The same for cgroup.procs of v2, where the child could not be born in it.
    JoinUnified { processes: Slot },
    /// The same for the `tasks` of resctrl groups.
    JoinRdt { tasks: Vec<Slot> },
    /// open_tree(2) of a path of the caller's own mounts, kept for [`Step::MakeMount`].
    HoldTree {
        path: CString,
        recursive: bool,
        /// One MS_* propagation, for the whole clone.
        propagation: u64,
    },
    /// A mount for a running container, still detached, and the place that it is for: both are
    /// shown to the parent, who may refuse.
    MakeMount(Mount),
    /// Show the parent the root: what is mounted is seen from there.
    ShowRoot,
    /// Attach what [`Step::MakeMount`] has made, in its place.
    AttachMount {
        attributes: Attributes,
        target: Target,
    },
    /// Show the parent what is mounted on `name` in a directory, and keep the directory.
    FindMount { directory: Target, name: CString },
    /// umount2(2) of what is mounted on `name` in the directory that was kept.
    Unmount {
        directory: Target,
        name: CString,
        /// MNT_DETACH: whoever uses it keeps what is open.
        lazy: bool,
    },
    /// End: there is no program to execute.
    Finish,
    /// sched_setaffinity(2)
    CpuAffinity(NumberSet),
    /// sched_setaffinity(2): the caller's own affinity ends here, and the cgroup's CPUs are left.
    EveryCpu,
    /// sched_setattr(2)
    Scheduler(Scheduler),
    /// ioprio_set(2)
    IoPriority(IoPriority),
    /// set_mempolicy(2)
    MemoryPolicy(MemoryPolicy),
    /// personality(2)
    Personality(i32),
    /// rm -r of a path of the host, for what only root of a user namespace may remove.
    RemoveTree { directory: CString, name: CString },
    /// mount_setattr(2) on a mount that is attached already.
    Attributes {
        target: Target,
        attributes: Attributes,
    },
    /// fspick(2): other options for the file system that is mounted there.
    Reconfigure {
        target: Target,
        options: Vec<FsOption>,
    },
    /// Make a mount read-only that was kept writable until now; whatever lies over it.
    Protect { kept: usize, target: Target },
    /// A pty of the container's own devpts becomes stdio; its master goes to the parent.
    Terminal(Terminal),
    /// pivot_root(2), and the old root is detached.
    PivotRoot,
    /// MS_MOVE of the root onto / and chroot(2), where pivot_root(2) is refused. The old root
    /// stays mounted below: what of it shows the kernel, the last mounted first, goes before.
    MoveRoot { kernel_views: Vec<CString> },
    /// chroot(2) into the root, where nothing may be mounted.
    EnterRoot,
    /// Propagation of the new root, with all below it or without.
    PropagateRoot { propagation: u64, recursive: bool },
    /// mkdir -p below the root.
    MakeDirectory(Target),
    /// chdir(2); as root a refusal is kept for the second turn.
    ChangeDirectory { path: CString, turn: Turn },
    /// PR_SET_NO_NEW_PRIVS
    NoNewPrivileges,
    /// PR_CAPBSET_DROP for every capability in this set of bits; the first one that the kernel
    /// doesn't know (EINVAL) ends it, so that capabilities of a later kernel are dropped too.
    DropBounding(u64),
    /// PR_SET_KEEPCAPS, so that the permitted set survives the change of ids.
    KeepCapabilities,
    /// setgroups(2)
    SetGroups(Vec<u32>),
    /// fchown(2) of standard input, output and error, so that the user can open /dev/stderr.
    OwnStreams { uid: u32 },
    /// setresgid(2) and setresuid(2)
    SetIds { uid: u32, gid: u32 },
    /// capset(2)
    SetCapabilities {
        effective: u64,
        permitted: u64,
        inheritable: u64,
    },
    /// PR_CAP_AMBIENT_CLEAR_ALL, then a raise for each bit; what can't be raised is left out.
    Ambient(u64),
    /// HOME from the container's /etc/passwd, when the environment has none.
    Home { uid: u32 },
    /// Look the program up among its candidates, so that create can say that it is missing.
    FindProgram,
    /// setrlimit(2)
    Limit { resource: i32, soft: u64, hard: u64 },
    /// Close every descriptor but stdio, `preserve` more, the slots and the handshake's: from
    /// here on the process can be seen from inside the container.
    CloseHostFds { preserve: u32 },
    /// Close every descriptor but stdio, `preserve` more, and the ones of the handshake.
    CloseExtraFds { preserve: u32 },
    /// seccomp(2); with a listener, the parent is told its number, takes it and gives the word.
    InstallSeccomp(Filter),
    /// Block until `start` writes to the `go` fifo.
    AwaitStart,
    /// execve(2)
    Execute,
    /// config.json has no process: there is nothing to execute.
    NothingToExecute,
}

/// The two turns of chdir: with the runtime's rights, then with the user's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Before the ids change; EACCES is left to the second turn.
    AsRoot,
    /// After the ids changed; nothing to do when the first turn succeeded.
    AsUser,
}

/// A path below the root filesystem, walked by openat2(2) with RESOLVE_IN_ROOT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Without a leading slash; "." is the root itself.
    pub path: CString,
    pub links: Links,
}

/// What the walk to a target does with symbolic links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// Follow them, below the root.
    Follow,
    /// Follow them, but for the last one, which is the target itself.
    KeepLast,
    /// Refuse them.
    Refuse,
}

impl Target {
    /// The target for a path of the container, relative or absolute, cleaned lexically as
    /// runc does (`..` never leads above the root). None when it holds a NUL byte.
    pub fn new(path: impl AsRef<[u8]>) -> Option<Target> {
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in path.as_ref().split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    parts.pop();
                }
                part => parts.push(part),
            }
        }
        let path = match parts.is_empty() {
            true => b".".to_vec(),
            false => parts.join(&b'/'),
        };
        Some(Target {
            path: CString::new(path).ok()?,
            links: Links::Follow,
        })
    }

    /// The same target, refusing symbolic links.
    pub fn plain(mut self) -> Target {
        self.links = Links::Refuse;
        self
    }

    /// Whether it is the root itself.
    pub fn is_root(&self) -> bool {
        self.path.to_bytes() == b"."
    }

    /// The path as the container's processes write it; unlike the words, byte by byte.
    pub fn absolute(&self) -> Vec<u8> {
        match self.path.to_bytes() {
            b"." => b"/".to_vec(),
            path => [b"/", path].concat(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.to_bytes() {
            b"." => f.write_str("/"),
            path => write!(f, "/{}", String::from_utf8_lossy(path)),
        }
    }
}

/// The root filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Root {
    /// A recursive clone of the directory.
    Bind { path: CString },
    /// An overlay attached over the directory, in the container's mount namespace only.
    Overlay {
        path: CString,
        overlay: OverlayMount,
    },
    /// The directory itself, with nothing mounted: there is no mount namespace of its own.
    Directory { path: CString },
    /// The root that this process has already: exec.
    Current,
    /// The root of another process in the same mount namespace: exec.
    Opened(Slot),
}

/// What overlayfs is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverlayMount {
    /// The highest first, as overlayfs wants them.
    pub lower: Vec<CString>,
    pub upper: CString,
    pub work: CString,
    /// `userxattr`: in a user namespace, trusted.* attributes can't be written.
    pub userxattr: bool,
}

/// One mount to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub source: Source,
    pub target: Target,
    pub attributes: Attributes,
    /// tmpfs without a mode: it takes the mode of the directory that it covers.
    pub inherit_mode: bool,
    /// It begins with a copy of what it covers.
    pub copy_up: bool,
    /// Its descriptor is kept under this number for [`Step::Protect`].
    pub kept: Option<usize>,
    pub source_link: SourceLink,
    /// The files' owners are seen through maps. Of [`Source::Opened`] the parent did it.
    pub owners: Option<MappedOwners>,
}

/// An id-mapped mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedOwners {
    /// The user namespace whose maps are taken.
    pub user: Slot,
    /// All mounts below get them as well.
    pub recursive: bool,
    /// What its maps say; None: it exists already, and only the kernel knows.
    pub maps: Option<IdMaps>,
}

/// What is done when the source of a bind is a symbolic link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceLink {
    /// What it leads to is bound.
    Follow,
    /// The link itself is bound.
    Bind,
    /// The same link is made at the target, and nothing is bound.
    Copy,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A new file system.
    New {
        fstype: CString,
        /// What mountinfo shows as the source.
        label: CString,
        options: Vec<FsOption>,
    },
    /// A clone of a mount that the child can reach by path.
    Bind { path: CString, recursive: bool },
    /// A clone that the parent made, because the child's user namespace may not reach it.
    Opened {
        tree: Slot,
        path: CString,
        recursive: bool,
    },
    /// A new file system that the parent made: what a user namespace has mounted can't be seen
    /// through other maps than its own.
    Made {
        mount: Slot,
        fstype: CString,
        options: Vec<FsOption>,
    },
    /// The clone of [`Step::HoldTree`].
    Held { path: CString, recursive: bool },
}

/// One fsconfig(2) setting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FsOption {
    pub key: CString,
    /// None: a flag.
    pub value: Option<CString>,
    /// Those of an overlay that the value names, where it is longer than fsconfig(2) takes.
    pub directories: Vec<CString>,
}

/// What mount_setattr(2) is told; MOUNT_ATTR_* bits and one MS_* propagation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    pub set: u64,
    pub clear: u64,
    /// The same for this mount and all below it.
    pub recursive_set: u64,
    pub recursive_clear: u64,
    /// 0: as the kernel gives it.
    pub propagation: u64,
    pub recursive_propagation: u64,
}

/// What goes into one directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Populate {
    pub directory: Target,
    /// Directories by name; one that exists already stays as it is.
    pub directories: Vec<CString>,
    pub nodes: Vec<Node>,
    pub links: Vec<Link>,
}

/// A device node or fifo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub name: CString,
    /// S_IFCHR, S_IFBLK or S_IFIFO, with the permission bits.
    pub mode: u32,
    pub major: u32,
    pub minor: u32,
    /// None: a default device, which is its directory's.
    pub owner: Option<(u32, u32)>,
    pub existing: Existing,
    pub way: Way,
}

/// What becomes of a node that is there already, and is the one that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It gets the mode and the owner.
    Settled,
    /// It stays as it is: in a directory that is bound, it may be the host's own.
    Kept,
}

/// How a node comes to be where it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// mknod(2)
    Make,
    /// mknod(2), or a bind of this node of the host where it is refused (EPERM).
    MakeOrBind(CString),
    /// A read-only bind of this node of the host: a user namespace can make none that opens.
    Bind(CString),
    /// It has to be there: the directory is the host's.
    Expect,
}

/// A symbolic link; one that exists already stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub name: CString,
    pub to: CString,
}

/// What a security module is told of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Label {
    /// AppArmor's profile, from execve(2) on.
    Profile(CString),
    /// SELinux's context, from execve(2) on.
    Context(CString),
    /// SELinux's context of the keyrings that the process makes before execve(2).
    Keyrings(CString),
}

/// The container's terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Show it as /dev/console as well.
    pub console: bool,
    /// Rows and columns.
    pub size: Option<(u16, u16)>,
    /// The owner of the pty inside the container.
    pub owner: u32,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_target_never_leads_above_the_root() {
        let clean = |path: &str| Target::new(path).unwrap().to_string();
        assert_eq!(clean("/../../etc/./passwd/"), "/etc/passwd");
        assert_eq!(clean("a//b/../c"), "/a/c");
        assert_eq!(clean("/.."), "/");
        assert_eq!(clean(""), "/");
        assert_eq!(Target::new("/a\0b"), None);
    }

    #[test]
    fn a_target_is_bytes_and_not_text() {
        let target = Target::new(b"//srv/../\xe9t\xe9/").unwrap();
        assert_eq!(target.absolute(), b"/\xe9t\xe9");
        assert_eq!(Target::new("/").unwrap().absolute(), b"/");
    }

    proptest! {
        #[test]
        fn cleaning_a_target_twice_changes_nothing(path in "[ab./]{0,24}") {
            let once = Target::new(&path).unwrap();
            prop_assert_eq!(Target::new(once.to_string()).unwrap(), once);
        }
    }
}
