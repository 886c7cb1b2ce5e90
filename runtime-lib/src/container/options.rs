//! What a caller asks of a verb: plain structs with public fields, filled from flags by the
//! command line and by hand by an embedder. Nothing here touches the machine.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use oci_spec::runtime::Process;

use crate::{Code, Error, Result};

/// How the runtime's own executable is kept from being written by what it starts
/// (CVE-2019-5736). There is no default: an embedder has to say which holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seal {
    /// The caller's /proc/self/exe can't be written by the container: it is a sealed copy
    /// (see [`crate::seal`]), or its owner and mode forbid it to the container's users.
    AlreadySealed,
}

/// Which driver places the container in cgroups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CgroupDriver {
    /// Directories below the cgroup mounts, made by capsid itself.
    #[default]
    Cgroupfs,
    /// A transient unit, by systemd: the system's, or that of the ordinary user who calls.
    Systemd,
    /// None: the container stays in the caller's cgroups, and limits are refused.
    Disabled,
}

/// Where an overlay root filesystem keeps what the container writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    /// A directory that gets (or has) `upper` and `work`, and survives delete. None: both
    /// live in the state directory and go with it.
    pub keep: Option<PathBuf>,
    /// Lower directories, the lowest first. Empty: the layers that rootfs-builder kept
    /// (`layers.json` in the bundle), else the bundle's root filesystem.
    pub lower: Vec<PathBuf>,
}

/// What becomes of a process's terminal, when config.json asks for one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Console {
    /// The master is handed to the caller ([`crate::Process::terminal`]), with ONLCR cleared:
    /// line ends are left to the terminal that the caller copies to.
    #[default]
    Caller,
    /// The master is sent over this Unix stream socket, with SCM_RIGHTS.
    Socket(PathBuf),
    /// Nobody would hold the master: a process that asks for a terminal is refused.
    Nobody,
}

impl Console {
    /// Refuses what does not go together, in runc's words: call it with what the process
    /// asks for, before anything is made.
    pub(crate) fn check(&self, terminal: bool) -> Result<()> {
        match (self, terminal) {
            (Console::Nobody, true) => {
                let tail = "cannot allocate tty if runc will detach without setting console socket";
                Err(Error::new(Code::InvalidArgument, tail).hint(
                    "the process asks for a terminal: say who takes it with --console-socket, or \
                     let it do without (config.json's /process/terminal, exec's --tty)",
                ))
            }
            (Console::Socket(_), false) => Err(Console::useless_socket(
                "the process asks for no terminal: set `terminal` to true",
            )),
            _ => Ok(()),
        }
    }

    /// The refusal of a socket that no terminal would go over; `hint` says why.
    pub fn useless_socket(hint: &'static str) -> Error {
        let tail = "cannot use console socket if runc will not detach or allocate tty";
        Error::new(Code::InvalidArgument, tail).hint(hint)
    }
}

/// Looks for the rows and columns of a terminal.
pub type AskSize = fn() -> Option<(u16, u16)>;

/// The arguments of create and run.
#[derive(Clone, Debug, Default)]
pub struct CreateOptions {
    /// The bundle directory; relative to the caller's working directory.
    pub bundle: PathBuf,
    /// The configuration file, when it is not `config.json` in the bundle.
    pub config: Option<PathBuf>,
    /// Use an overlay over the root filesystem, which then never changes.
    pub overlay: Option<Overlay>,
    /// Show what the lxcfs mounted on this directory serves in the container's /proc and /sys
    /// (usually [`crate::lxcfs::USUAL_PLACE`]); relative to the caller's working directory. The
    /// annotation [`crate::lxcfs::ANNOTATION`] asks for the same.
    pub lxcfs: Option<PathBuf>,
    /// Where the terminal's master goes.
    pub console: Console,
    /// Says, for a process that has a terminal, the rows and columns that this has from the start,
    /// instead of process.consoleSize.
    pub console_size: Option<AskSize>,
    /// Write the init process's pid here, when everything else has succeeded.
    pub pid_file: Option<PathBuf>,
    /// Send a pidfd of the init process over this Unix stream socket. The annotation
    /// `run.oci.pidfd_receiver` asks for the same.
    pub pidfd_socket: Option<PathBuf>,
    /// Who listens to the seccomp filter, where neither `listenerPath` nor the annotation
    /// `run.oci.seccomp.receiver` says so.
    pub seccomp_receiver: Option<PathBuf>,
    /// Enter the root with MS_MOVE and chroot(2), for roots that pivot_root(2) refuses.
    pub no_pivot: bool,
    /// Leave the caller's session keyring to the container.
    pub no_new_keyring: bool,
    /// How many descriptors after 2 the container's process keeps.
    pub preserve_fds: u32,
    /// NAME=VALUE: what the first process gets on top of its own environment, and exec does not.
    pub env: Vec<String>,
    /// Give the first process a socket for sd_notify(3), /run/notify/notify.sock, which
    /// [`crate::Container::notify_socket`] then listens on.
    pub notify: bool,
    /// The cgroup driver.
    pub cgroups: CgroupDriver,
    /// Whether a cgroup that the caller may not make is done without, when nothing was asked
    /// of it. None: when the caller is not root of the machine.
    pub rootless: Option<bool>,
    /// Refuse a configuration with a setting that will not act as written.
    pub strict: bool,
    /// Becomes readable when the caller gives up: create or run then ends what it waits for, the
    /// process that has not yet executed its program or a hook of creation with its process group,
    /// takes everything back and fails with [`crate::Code::Cancelled`]. Poststart and poststop hooks
    /// are waited for. None: the caller waits for as long as it takes.
    pub cancel: Option<Arc<OwnedFd>>,
}

/// The arguments of exec. What an embedder doesn't say is best left to the default, which later
/// versions of this may have more of.
#[derive(Clone, Debug, Default)]
pub struct ExecOptions {
    /// The process to run; see [`crate::Container::process`] for the container's own as a base.
    pub process: Process,
    /// JSON pointer prefix of `process` in errors: "/process" or "" for a process.json.
    pub pointer: &'static str,
    /// Where the terminal's master goes.
    pub console: Console,
    /// Write the process's pid here before it executes the program.
    pub pid_file: Option<PathBuf>,
    /// Send a pidfd of the process over this Unix stream socket.
    pub pidfd_socket: Option<PathBuf>,
    /// As in [`CreateOptions`].
    pub seccomp_receiver: Option<PathBuf>,
    /// How many descriptors after 2 the process keeps.
    pub preserve_fds: u32,
    /// Enter a paused container as well; the process then starts when it is resumed.
    pub ignore_paused: bool,
    /// Cgroups below the container's own that the process is put into; they must exist.
    pub cgroups: Vec<SubCgroup>,
    /// Becomes readable when the caller gives up: exec then ends the process that has not yet
    /// executed its program, and fails. None: the caller waits for as long as it takes.
    pub cancel: Option<Arc<OwnedFd>>,
}

/// A cgroup below the container's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubCgroup {
    /// v1: the controllers whose hierarchies are meant; empty: every hierarchy, and cgroup v2.
    pub controllers: Vec<String>,
    /// Its path below the container's cgroup. `/` is that one itself, and on cgroup v2 says
    /// that init's own cgroup, wherever init has moved, will not do.
    pub path: PathBuf,
}
