//! The parent's side of a plan: open what the steps name, clone, serve the barriers, and
//! take everything back when the child doesn't get to its program.
//!
//! It changes nothing of the calling process: no chdir, umask, signal or environment.

mod actions;
mod devices;
pub mod hook;
mod netlink;
pub mod opens;
pub mod progress;
pub mod refusal;
mod server;

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};

use server::Server;

use crate::child::{Channel, Child, Handshake};
use crate::error::{Code, Error, Result};
use crate::plan::Plan;
use crate::plan::hooks::Hook;
use crate::seal;
use crate::sys::exec::Image;
use crate::sys::process::{self, Born, Clone};

/// How long the parent waits for a word of its child before it looks whether it shall, in milliseconds: most
/// children are quicker, and the kernel is told once instead of asked before every word.
const LOOK_UP: i64 = 100;

/// A child of the caller; it has reached [`Barrier::Ready`] when [`launch`] returns it.
pub struct Launched {
    pub pid: i32,
    pub pidfd: OwnedFd,
    /// The master of its terminal.
    pub terminal: Option<OwnedFd>,
    /// What it has shown, in its order: mounts, and places for them.
    pub shown: Vec<OwnedFd>,
}

/// What a launch is given besides the plan; by default, nothing.
#[derive(Default)]
pub struct Surroundings<'a> {
    /// The cgroup v2 directory to be born in.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Asked when that takes no processes as it is; then it is tried once more.
    pub admit: Option<&'a dyn Fn() -> Result<()>>,
    /// The child's ends of the start handshake; None: it executes as soon as it is ready.
    pub handshake: Option<Handshake>,
    /// What is done while the child does what needs nobody: first the cgroups, whose v1 `tasks`
    /// files are sent to the child, then the rest.
    pub meanwhile: Option<Meanwhile<'a>>,
    /// Has systemd start the unit of cgroups that the child can't be born in.
    pub start_unit: Option<StartUnit<'a>>,
    /// Runs the hooks that the plan has at its barriers.
    pub hooks: Option<RunHook<'a>>,
    /// Readable when the caller gives up.
    pub cancel: Option<BorrowedFd<'a>>,
    /// Takes the listener of the child's seccomp filter to whoever serves it.
    pub listener: Option<GiveListener<'a>>,
    /// Asked now and then while the child says nothing; its error ends the child.
    pub silent: Option<WhileSilent<'a>>,
    /// How long the child may take in all; None: as long as it takes.
    pub patience: Option<Duration>,
}

/// See [`Surroundings::meanwhile`].
#[derive(Clone, Copy)]
pub struct Meanwhile<'a> {
    pub cgroups: &'a dyn Fn() -> Result<Vec<OwnedFd>>,
    pub rest: &'a dyn Fn(&Launched) -> Result<()>,
}

/// Looks why a child says nothing.
pub type WhileSilent<'a> = &'a dyn Fn(&Launched) -> Result<()>;

/// Has systemd start a unit with a process that waits.
pub type StartUnit<'a> = &'a dyn Fn(&Launched) -> Result<()>;

/// Runs one hook of a container whose process waits.
pub type RunHook<'a> = &'a dyn Fn(&Hook, &Launched) -> Result<()>;

/// Gives the listener of a filter to whoever serves it; the child waits.
pub type GiveListener<'a> = &'a dyn Fn(OwnedFd, &Launched) -> Result<()>;

/// Clones the child of `plan` and serves it up to its program (or to waiting for start).
///
/// `ready` runs while the child waits at [`Barrier::Ready`]: what it does is done before the
/// program runs, and its error ends the child.
///
/// # Errors
/// The child's refusal in the words of its step; or that it died, and of what.
pub fn launch(
    plan: &Plan,
    around: Surroundings<'_>,
    ready: impl FnOnce(&mut Launched) -> Result<()>,
) -> Result<Launched> {
    let opened = opens::open_all(&plan.opens)?;
    let image = plan.program.as_ref().map(|program| {
        Image::new(
            program.candidates.clone(),
            program.argv.clone(),
            program.envp.clone(),
            program.home,
        )
    });
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
    .map_err(|errno| Error::call(Code::Process, "socketpair", errno))?;
    if around.cancel.is_some() || around.silent.is_some() || around.patience.is_some() {
        setsockopt(
            &ours,
            sockopt::ReceiveTimeout,
            &TimeVal::milliseconds(LOOK_UP),
        )
        .map_err(|errno| Error::call(Code::Process, "setsockopt", errno))?;
    }
    let request = Clone {
        namespaces: plan.namespaces,
        cgroup: around.cgroup,
        sibling: false,
    };
    let child = Child::new(
        &plan.steps,
        image.as_ref(),
        &opened,
        Channel {
            own: theirs.as_raw_fd(),
            parents: ours.as_raw_fd(),
        },
        around.handshake,
    );
    // Where the child is among processes of other containers from the start, they could look at it.
    let stays_held = around.meanwhile.is_some() && plan.makes(CloneFlags::CLONE_NEWPID);
    if !stays_held {
        seal::let_go();
    }
    let mut born = process::clone3(request);
    if let (Err(Errno::EOPNOTSUPP), Some(admit)) = (&born, around.admit) {
        admit()?;
        born = process::clone3(request);
    }
    let cloned = match born.map_err(|errno| refusal::clone_refused(plan, errno))? {
        Born::Child => child.run(),
        Born::Parent(cloned) => cloned,
    };
    drop(theirs);
    let newborn = Launched {
        pid: cloned.pid,
        pidfd: cloned.pidfd,
        terminal: None,
        shown: Vec::new(),
    };
    let mut server = Server::new(plan, ours, newborn, &around);
    if let Some(meanwhile) = around.meanwhile {
        server.meanwhile(meanwhile)?;
    }
    // The last copy, unless the child is late; it waits at a barrier before it executes anything.
    seal::let_go();
    server.serve(ready)
}

/// Waits for the end of a child of ours; None when it was somebody else's to reap.
pub fn reap(pidfd: BorrowedFd<'_>) -> Option<WaitStatus> {
    loop {
        // __WALL: a process cloned with CLONE_PARENT has no exit signal.
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::__WALL;
        match waitid(Id::PIDFd(pidfd), flags) {
            Err(Errno::EINTR) => {}
            result => return result.ok(),
        }
    }
}
