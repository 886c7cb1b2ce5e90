//! The only code that runs between clone and execve: it walks the list of steps, one match with
//! short arms, and reports by short records: where it waits, what it hands out, what refused it.
//!
//! It decides nothing and allocates nothing: it may run in a copy of a process whose other
//! threads held the allocator's lock at the moment of the clone.
#![allow(
    clippy::result_large_err,
    reason = "a refusal carries its text: the child can't box"
)]

mod capabilities;
mod copy_up;
mod diagnose;
mod fds;
mod fresh;
mod keyring;
mod labels;
mod links;
mod live;
mod locked;
mod loopback;
mod mounts;
mod nodes;
mod overlay;
mod own_files;
mod path_text;
mod paths;
mod procfs;
mod program;
mod root;
mod seccomp;
mod streams;
mod terminal;
#[cfg(test)]
mod tests;

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use fds::Fd;
use nix::errno::Errno;
use nix::sys::personality::{self, Persona};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;

use crate::plan::Planned;
use crate::report::{self, Refused, call};
use crate::seal;
use crate::step::{Barrier, Slot, Step};
use crate::sys::exec::Image;
use crate::sys::fd::retry;
use crate::sys::{credentials, fd, process, scheduling};
use crate::tree;

/// What a child is born with.
pub struct Child<'plan> {
    steps: &'plan [Planned],
    image: Option<&'plan Image>,
    /// What the parent opened for the steps.
    opened: &'plan [OwnedFd],
    /// The socket to the parent; -1 once it is closed.
    channel: RawFd,
    /// The parent's end of it, of which the child was born with a copy.
    parents_end: RawFd,
    /// The two fifos of the start handshake.
    handshake: Option<Handshake>,
    root: Option<Fd>,
    /// The directories of the root that were opened as the caller.
    reached: root::Reached,
    /// See [`procfs`].
    procfs: Option<Fd>,
    /// See [`fresh`].
    fresh: Option<fresh::Fresh<'plan>>,
    /// The host's /dev/null, read-only, that every masked file shows.
    null: Option<Fd>,
    /// The empty tmpfs that every masked directory shows.
    empty: Option<Fd>,
    /// chdir succeeded in its first turn.
    in_directory: bool,
    /// Which of the image's candidates is the program.
    found: usize,
    /// The inherited tree is in the peer group of the host's mounts.
    shared_with_host: bool,
    /// The mounts that become read-only at the end; made before the clone, as long as it takes.
    kept: Vec<Option<Fd>>,
    /// A clone of one of the caller's mounts, or a mount that was made detached.
    held: Option<Fd>,
    /// What is to be attached, and where.
    made: Option<live::Made>,
    /// Where the place was made that it is attached to.
    new_place: Option<live::NewPlace<'plan>>,
    /// The directory in which a mount was found: whoever renames it leads nobody elsewhere.
    found_in: Option<Fd>,
    /// How many v1 `tasks` files the parent sends, and the numbers of those that came.
    awaited: usize,
    sent: Vec<RawFd>,
    /// The child was released by start: failures go to `result` from here on.
    released: bool,
}

/// Both ends of the socket, as the child's table of descriptors numbers them.
#[derive(Clone, Copy)]
pub struct Channel {
    pub own: RawFd,
    pub parents: RawFd,
}

/// The child's ends of the fifos.
#[derive(Clone, Copy)]
pub struct Handshake {
    pub go: RawFd,
    pub result: RawFd,
}

impl<'plan> Child<'plan> {
    /// The child of a plan, as it is at the moment of its clone.
    pub fn new(
        steps: &'plan [Planned],
        image: Option<&'plan Image>,
        opened: &'plan [OwnedFd],
        channel: Channel,
        handshake: Option<Handshake>,
    ) -> Child<'plan> {
        let kept = steps.iter().filter_map(|planned| match planned.step {
            Step::Protect { kept, .. } => Some(kept + 1),
            _ => None,
        });
        let kept = kept.max().unwrap_or_default();
        let awaited = steps.iter().map(|planned| match planned.step {
            Step::JoinMade { count } => count,
            _ => 0,
        });
        let awaited = awaited.sum();
        Child {
            steps,
            image,
            opened,
            channel: channel.own,
            parents_end: channel.parents,
            handshake,
            root: None,
            reached: root::NOTHING_REACHED,
            procfs: None,
            fresh: None,
            null: None,
            empty: None,
            in_directory: false,
            found: 0,
            shared_with_host: false,
            kept: (0..kept).map(|_| None).collect(),
            held: None,
            made: None,
            new_place: None,
            found_in: None,
            awaited,
            sent: Vec::with_capacity(awaited),
            released: false,
        }
    }

    /// Walks the steps. Nobody is told of an end at a barrier whose parent is gone.
    pub fn run(mut self) -> ! {
        fds::mind_the_limit();
        // As long as any copy of it is open, the end of the parent would go unnoticed.
        drop(fd::take(self.parents_end));
        seal::let_go();
        // /proc/PID/environ would show it to the container until its program is executed.
        process::scrub_environment();
        let steps = self.steps;
        for (number, planned) in steps.iter().enumerate() {
            if let Err(refused) = self.step(&planned.step) {
                self.take_back();
                self.report_failure(number, &refused);
                // The filter may end the process as soon as it looks for the reason.
                if let (Step::Execute, Some(why)) = (&planned.step, self.why(refused)) {
                    self.report_failure(number, &why);
                }
                process::exit(1);
            }
        }
        process::exit(1)
    }

    fn step(&mut self, step: &'plan Step) -> Result<(), Refused> {
        self.mind_fresh(step);
        match step {
            Step::Dumpable => process::set_dumpable(true).map_err(call("prctl")),
            Step::Undumpable => process::set_dumpable(false).map_err(call("prctl")),
            Step::OomScoreAdj(score) => own_files::oom_score_adj(*score),
            Step::JoinProcess {
                process: joined,
                namespaces,
            } => process::setns(self.opened(*joined)?, *namespaces).map_err(call("setns")),
            Step::JoinNamespace { namespace, file } => {
                process::setns(self.opened(*file)?, *namespace).map_err(call("setns"))
            }
            Step::Fork { namespaces } => self.fork(*namespaces),
            Step::ResetSignals => process::reset_signals().map_err(call("sigprocmask")),
            Step::EndWithParent => set_pdeathsig(Signal::SIGKILL).map_err(call("prctl")),
            Step::Label(label) => labels::take(label),
            Step::NewSession => nix::unistd::setsid().map(drop).map_err(call("setsid")),
            Step::SessionKeyring(name) => keyring::session_keyring(name),
            Step::Streams(slots) => self.take_streams(slots),
            Step::Meet(barrier) => self.meet(*barrier),
            Step::ReachRoot(root) => self.reach_root(root),
            Step::BecomeRoot => set_ids(0, 0),
            Step::Unshare(namespace) => nix::sched::unshare(*namespace).map_err(call("unshare")),
            Step::Loopback => loopback::bring_up(),
            Step::Hostname(name) => nix::unistd::sethostname(os(name)).map_err(call("sethostname")),
            Step::Domainname(name) => process::setdomainname(name).map_err(call("setdomainname")),
            Step::Umask(mask) => {
                nix::sys::stat::umask(Mode::from_bits_truncate(*mask));
                Ok(())
            }
            Step::PropagateAll { propagation } => self.propagate_all(*propagation),
            Step::PrivateParent { candidates } => root::private_parent(candidates),
            Step::OpenRoot(root) => self.open_root(root),
            Step::Mount(mount) => self.mount(mount),
            Step::MountOr { mount, otherwise } => self.mount_or(mount, otherwise),
            Step::HoldTree {
                path,
                recursive,
                propagation,
            } => self.hold_tree(path, *recursive, *propagation),
            Step::MakeMount(mount) => self.make_mount(mount),
            Step::ShowRoot => self.show(self.root()?),
            Step::AttachMount { attributes, .. } => self.attach_made(attributes),
            Step::FindMount { directory, name } => self.find_mount(directory, name),
            Step::Unmount { name, lazy, .. } => self.unmount(name, *lazy),
            Step::Finish => process::exit(0),
            Step::Populate(populate) => self.populate(populate),
            Step::Sysctl { name, value } => self.sysctl(name, value),
            Step::Mask { target, label } => self.mask(target, label.as_deref()),
            Step::ReadOnlyPath(target) => self.read_only_path(target),
            Step::RemoveTree { directory, name } => remove_tree(directory, name),
            Step::JoinCgroup { tasks } | Step::JoinRdt { tasks } => self.join_cgroup(tasks),
            Step::JoinMade { .. } => self.join_made(),
            Step::JoinUnified { processes } => self.join_cgroup(std::slice::from_ref(processes)),
            Step::CpuAffinity(cpus) => {
                scheduling::set_affinity(cpus.mask()).map_err(call("sched_setaffinity"))
            }
            Step::EveryCpu => {
                // Where the call is filtered, somebody wants the affinity that there is.
                let _ = scheduling::set_affinity(&scheduling::EVERY_CPU);
                Ok(())
            }
            Step::Scheduler(scheduler) => {
                scheduling::set_scheduler(scheduler).map_err(call("sched_setattr"))
            }
            Step::IoPriority(priority) => {
                scheduling::set_io_priority(priority.value()).map_err(call("ioprio_set"))
            }
            Step::MemoryPolicy(policy) => {
                scheduling::set_memory_policy(policy.mode | policy.flags, policy.nodes.mask())
                    .map_err(call("set_mempolicy"))
            }
            Step::Personality(persona) => personality::set(Persona::from_bits_retain(*persona))
                .map(drop)
                .map_err(call("personality")),
            Step::Protect { kept, .. } => self.protect(*kept),
            Step::Attributes { target, attributes } => self.remount(target, attributes),
            Step::Reconfigure { target, options } => self.reconfigure(target, options),
            Step::Terminal(terminal) => self.terminal(terminal),
            Step::PivotRoot => self.pivot_root(),
            Step::MoveRoot { kernel_views } => self.move_root(kernel_views),
            Step::EnterRoot => self.enter_root(),
            Step::PropagateRoot {
                propagation,
                recursive,
            } => self.propagate_root(*propagation, *recursive),
            Step::TimeNamespace { offsets } => own_files::time_namespace(offsets),
            Step::MakeDirectory(target) => self.make_directory(target),
            Step::ChangeDirectory { path, turn } => self.change_directory(path, *turn),
            Step::NoNewPrivileges => process::set_no_new_privileges().map_err(call("prctl")),
            Step::DropBounding(set) => capabilities::drop_bounding(*set),
            Step::KeepCapabilities => credentials::keep_capabilities().map_err(call("prctl")),
            Step::SetGroups(groups) => credentials::setgroups(groups).map_err(call("setgroups")),
            Step::OwnStreams { uid } => streams::own(*uid),
            Step::SetIds { uid, gid } => set_ids(*uid, *gid),
            Step::SetCapabilities {
                effective,
                permitted,
                inheritable,
            } => credentials::capset(*effective, *permitted, *inheritable).map_err(call("capset")),
            Step::Ambient(set) => capabilities::ambient(*set),
            Step::Home { uid } => self.home(*uid),
            Step::FindProgram => self.find_program(),
            Step::Limit {
                resource,
                soft,
                hard,
            } => process::prlimit(0, *resource, *soft, *hard).map_err(call("prlimit")),
            Step::CloseHostFds { preserve } => self.close_host_fds(*preserve),
            Step::CloseExtraFds { preserve } => self.close_extra_fds(*preserve),
            Step::InstallSeccomp(filter) => self.install_seccomp(filter),
            Step::AwaitStart => self.await_start(),
            Step::Execute => self.execute(),
            Step::NothingToExecute => Err(Refused::new("execve", Errno::ENOENT)),
        }
    }

    /// The process proper goes on with the next step; the intermediate names it and ends.
    fn fork(&mut self, namespaces: nix::sched::CloneFlags) -> Result<(), Refused> {
        let request = process::Clone {
            namespaces,
            cgroup: None,
            sibling: true,
        };
        match process::clone3(request).map_err(call("clone3"))? {
            process::Born::Child => Ok(()),
            process::Born::Parent(cloned) => {
                if let Err(errno) = fd::send(self.channel, &report::forked(cloned.pid), &[]) {
                    // It would wait for a parent that doesn't know of it, and the parent for us.
                    let _ = process::pidfd_send_signal(cloned.pidfd.as_fd(), libc::SIGKILL);
                    return Err(Refused::new("sendmsg", errno));
                }
                process::exit(0)
            }
        }
    }

    fn meet(&mut self, barrier: Barrier) -> Result<(), Refused> {
        // They are the first that the parent sends: the word for the barrier is behind them.
        self.take_sent()?;
        self.ask(&report::reached(barrier))
    }

    /// Sends a record and waits for the parent's word. No more than write(2) and read(2): a
    /// seccomp filter may be in force.
    fn ask(&self, record: &report::Record) -> Result<(), Refused> {
        let channel = fd::borrow(self.channel);
        retry(|| nix::unistd::write(channel, record)).map_err(call("write"))?;
        let mut word = [0];
        // The end of the parent is the end of its unfinished child: nobody else knows of it.
        match retry(|| nix::unistd::read(channel, &mut word)) {
            Ok(1) if word == report::GO => Ok(()),
            Ok(1) => Err(Refused::new("read", Errno::ECANCELED)),
            Ok(_) | Err(Errno::ECONNRESET) => process::exit(1),
            Err(errno) => Err(Refused::new("read", errno)),
        }
    }

    fn join_cgroup(&mut self, tasks: &[Slot]) -> Result<(), Refused> {
        for slot in tasks {
            let file = self.opened(*slot)?;
            retry(|| nix::unistd::write(file, b"0")).map_err(call("write"))?;
        }
        Ok(())
    }

    fn join_made(&mut self) -> Result<(), Refused> {
        self.take_sent()?;
        for number in &self.sent {
            retry(|| nix::unistd::write(fd::borrow(*number), b"0")).map_err(call("write"))?;
        }
        Ok(())
    }

    /// Waits for the files that the parent sends when it has made the cgroups.
    fn take_sent(&mut self) -> Result<(), Refused> {
        while self.sent.len() < self.awaited {
            let mut numbers = [-1; fd::AT_ONCE];
            match fd::receive(self.channel, &mut numbers) {
                // There is room for all: nothing is allocated.
                Ok(Some(count)) => self.sent.extend(numbers.iter().take(count)),
                Ok(None) | Err(Errno::ECONNRESET) => process::exit(1),
                Err(errno) => return Err(Refused::new("recvmsg", errno)),
            }
        }
        Ok(())
    }

    fn await_start(&mut self) -> Result<(), Refused> {
        let Some(handshake) = self.handshake else {
            return Err(Refused::new("read", Errno::EBADF));
        };
        // From here on it is whoever starts the container that is told.
        self.released = true;
        // Nothing is closed here, where a filter may be in force: execve(2) does it.
        let mut word = [0];
        match retry(|| nix::unistd::read(fd::borrow(handshake.go), &mut word)) {
            Ok(1) => Ok(()),
            Ok(_) => process::exit(1),
            Err(errno) => Err(Refused::new("read", errno)),
        }
    }

    fn report_failure(&self, step: usize, refused: &Refused) {
        let record = report::failed(step, refused);
        match self.handshake {
            Some(handshake) if self.released => {
                let result = fd::borrow(handshake.result);
                let _ = retry(|| nix::unistd::write(result, &record));
            }
            _ => {
                let channel = fd::borrow(self.channel);
                let _ = retry(|| nix::unistd::write(channel, &record));
            }
        }
    }

    fn opened(&self, slot: Slot) -> Result<BorrowedFd<'plan>, Refused> {
        let opened = self.opened.get(slot.0);
        opened
            .map(|fd| fd.as_fd())
            .ok_or(Refused::new("slot", Errno::EBADF))
    }

    fn root(&self) -> Result<BorrowedFd<'_>, Refused> {
        let root = self.root.as_ref();
        root.map(|fd| fd.as_fd())
            .ok_or(Refused::new("root", Errno::EBADF))
    }
}

fn set_ids(uid: u32, gid: u32) -> Result<(), Refused> {
    credentials::setresgid(gid).map_err(call("setresgid"))?;
    credentials::setresuid(uid).map_err(call("setresuid"))
}

fn remove_tree(directory: &CStr, name: &CStr) -> Result<(), Refused> {
    let above = fds::openat2(nix::fcntl::AT_FDCWD, directory, libc::O_PATH, 0, 0);
    tree::remove(above.map_err(call("openat2"))?.as_fd(), name)
}

fn os(text: &CStr) -> &std::ffi::OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(text.to_bytes())
}
