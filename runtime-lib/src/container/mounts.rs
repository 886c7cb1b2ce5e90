//! Live mounts: a bind or a tmpfs that comes into a running container, and goes again.
//!
//! The kernel keeps them: they are in the container's mount namespace and end with it.
//! `mounts.json` remembers which ones are ours, and is written after a mount was made and before
//! it is attached, so that a runtime that is killed between the two leaves a line about
//! a mount that never was, which nothing is done for.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sched::CloneFlags;
use nix::sys::wait::WaitStatus;
use oci_spec::runtime::Mount;
use serde::{Deserialize, Serialize};

use super::Container;
use super::join::differing_namespaces;
use super::ledger::{Entry, Ledger, Seen, identify};
use super::mountinfo;
use super::state::Status;
use super::views::those_that_show_cgroups;
use crate::error::{Code, Error, Result};
use crate::host::Modules;
use crate::launch::refusal;
use crate::launch::{Launched, Surroundings, launch, reap};
use crate::plan::{self, AddRequest, Entrance, Plan};

/// How long the container's own file systems may keep whoever walks its paths waiting.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long somebody may have a mount open for a moment: whoever lists the mounts, or another
/// thread's child before its execve(2), which was born with our descriptors.
const BUSY_FOR: [Duration; 4] = [
    Duration::from_millis(5),
    Duration::from_millis(20),
    Duration::from_millis(80),
    Duration::from_millis(200),
];

/// The mounts that were added to a running container: [`Container::mounts`].
#[derive(Debug)]
pub struct Mounts<'a> {
    container: &'a Container,
}

/// A mount that was added, in the words of config.json.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    /// The path in the container, as it was asked for.
    pub destination: PathBuf,
    /// `bind` or `tmpfs`.
    #[serde(rename = "type")]
    pub fstype: String,
    /// Absolute, for a bind.
    pub source: PathBuf,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// What becomes of a mount that is in use when it is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detach {
    /// It stays, and the removal is refused.
    #[default]
    Unused,
    /// It is out of sight at once, with what is mounted below it, and ends with its last user.
    Lazily,
}

impl Container {
    /// The mounts that are added to the container while it runs.
    pub fn mounts(&self) -> Mounts<'_> {
        Mounts { container: self }
    }
}

impl Mounts<'_> {
    /// Mounts something in the container: a bind (where the entry has no type), whose relative
    /// source is below the caller's working directory, or a tmpfs. `options` are those of
    /// config.json. The place is made when it is missing, and stays when the mount goes.
    ///
    /// # Errors
    /// [`Code::NotRunning`]; a place in /proc, on a mount that the container shares with the
    /// host, or on one that was added before; what the kernel refuses. Nothing is mounted then.
    pub fn add(&self, mount: &Mount) -> Result<()> {
        self.container
            .locked()
            .and_then(|container| container.add_mount(mount))
            .map_err(|error| self.refused("add", error))
    }

    /// Unmounts what [`Mounts::add`] has mounted on `destination`, the last of them.
    ///
    /// # Errors
    /// [`Code::NotFound`] where none is; one that is in use, or has mounts below it.
    pub fn remove(&self, destination: &Path, detach: Detach) -> Result<()> {
        self.container
            .locked()
            .and_then(|container| container.remove_mount(destination, detach))
            .map_err(|error| self.refused("remove", error))
    }

    /// What was added and is still there, in its order.
    ///
    /// # Errors
    /// [`Code::StateCorrupt`]; [`Code::NotRunning`].
    pub fn list(&self) -> Result<Vec<Added>> {
        self.container
            .list_mounts()
            .map_err(|error| self.refused("list", error))
    }

    fn refused(&self, verb: &str, error: Error) -> Error {
        let error = match self.container.has_ended_under(&error) {
            true => ended(),
            false => error,
        };
        error.during(format!("mounts {verb} {}", self.container.id))
    }
}

impl Container {
    fn add_mount(&self, mount: &Mount) -> Result<()> {
        let entrance = self.entrance()?;
        let mut ledger = Ledger::load(&self.state_dir)?;
        let spec = self.spec()?;
        let linux = spec.config.linux().as_ref();
        let source = absolute(mount.source().as_deref())?;
        let plan = plan::add_mount(
            entrance,
            &AddRequest {
                entry: mount,
                source: source.clone(),
                shows_cgroups: source.starts_with("/sys")
                    || !those_that_show_cgroups(vec![source.clone()])?.is_empty(),
                linux,
                modules: Modules::probe(None, linux),
            },
        )?;
        let fstype = match mount.typ().as_deref() {
            Some("tmpfs") => "tmpfs",
            _ => "bind",
        };
        let added = Added {
            destination: mount.destination().clone(),
            source: match fstype {
                "bind" => source,
                _ => mount.source().clone().unwrap_or_default(),
            },
            fstype: fstype.to_owned(),
            options: mount.options().clone().unwrap_or_default(),
        };
        let mut recorded = false;
        let performed = perform(&plan, mount.destination(), |newborn| {
            let [made, place] = shown(newborn)?;
            let seen = self.seen_by(newborn)?;
            ledger.forget_the_gone(&seen);
            check_place(&place, &added, &ledger, &seen)?;
            ledger.mounts.push(Entry::new(added, identify(&made)?));
            recorded = true;
            ledger.save(&self.state_dir)
        });
        if performed.is_err() && recorded {
            ledger.mounts.pop();
            ledger.save(&self.state_dir)?;
        }
        performed
    }

    fn remove_mount(&self, destination: &Path, detach: Detach) -> Result<()> {
        let mut ledger = Ledger::load(&self.state_dir)?;
        let none = || {
            Error::new(Code::NotFound, "no such mount")
                .path(destination)
                .hint("only what `mounts add` has mounted can be removed: see `mounts list`")
        };
        let seen = self.look(&mut ledger)?;
        let same = |entry: &Entry| plain(&entry.added.destination) == plain(destination);
        let at = ledger.mounts.iter().rposition(same).ok_or_else(none)?;
        let entry = ledger.mounts.remove(at);
        let line = seen.line(entry.id).ok_or_else(none)?;
        let busy = |hint: String| {
            Error::new(Code::Filesystem, "device or resource busy")
                .path(destination)
                .hint(hint)
        };
        if detach == Detach::Unused {
            let below: Vec<_> = seen
                .lines
                .iter()
                .filter(|other| other.parent == line.id && other.id != line.id)
                .map(|other| other.point.display().to_string())
                .collect();
            if !below.is_empty() {
                let below = below.join(", ");
                return Err(busy(format!(
                    "other mounts lie on it ({below}): --lazy takes them along"
                )));
            }
        }
        let lazy = detach == Detach::Lazily;
        let mut again = BUSY_FOR.iter();
        loop {
            let plan = plan::remove_mount(self.entrance()?, &line.point, lazy)?;
            let removed = perform(&plan, destination, |newborn| {
                let [found] = shown(newborn)?;
                match identify(&found)? {
                    id if id.is_root && entry.is(id) => Ok(()),
                    _ => Err(busy("another mount lies over it".to_owned())),
                }
            });
            match (removed, again.next()) {
                (Err(error), Some(pause)) if error.failed_call() == Some("umount2") && !lazy => {
                    std::thread::sleep(*pause);
                }
                (removed, _) => break removed?,
            }
        }
        let left = self.look(&mut Ledger::load(&self.state_dir)?)?;
        if left
            .line(line.id)
            .is_some_and(|other| other.point == line.point)
        {
            return Err(busy(
                "the container has put another mount over it meanwhile".to_owned(),
            ));
        }
        ledger.save(&self.state_dir)
    }

    fn list_mounts(&self) -> Result<Vec<Added>> {
        let mut ledger = Ledger::load(&self.state_dir)?;
        self.look(&mut ledger)?;
        Ok(ledger.mounts.into_iter().map(|entry| entry.added).collect())
    }

    /// What the container has mounted, seen from the root of its mount namespace; what is gone of
    /// the ledger is forgotten.
    fn look(&self, ledger: &mut Ledger) -> Result<Seen> {
        let mut seen = Seen {
            lines: Vec::new(),
            hidden: Vec::new(),
        };
        let entrance = self.entrance()?;
        if ledger.mounts.is_empty() {
            return Ok(seen);
        }
        perform(&plan::see_mounts(entrance), "/".as_ref(), |newborn| {
            let [root] = shown(newborn)?;
            seen = self.seen_by(newborn)?;
            ledger.forget_the_gone(&seen);
            ledger.mounts.retain(|entry| {
                let line = seen.lines.iter().find(|line| line.id == entry.id);
                !line.is_some_and(|line| entry.is_replaced(line, &root))
            });
            Ok(())
        })?;
        Ok(seen)
    }

    fn seen_by(&self, newborn: &Launched) -> Result<Seen> {
        let lines = mountinfo::of_process(&newborn.pid.to_string())?;
        let mut hidden = mountinfo::of_process(&self.init_pid())?;
        hidden.retain(|line| !lines.iter().any(|other| other.id == line.id));
        Ok(Seen { lines, hidden })
    }

    /// How to get into the container.
    fn entrance(&self) -> Result<Entrance> {
        match self.status()? {
            Status::Created | Status::Running | Status::Paused => {}
            Status::Stopped => return Err(ended()),
            Status::Creating => {
                let tail = "the container is being created";
                return Err(Error::new(Code::WrongStatus, tail));
            }
        }
        let record = self.record.as_ref().ok_or_else(ended)?;
        let init = record.init.open()?.ok_or_else(ended)?;
        let ours = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS;
        let namespaces = differing_namespaces(record.init.pid)? & ours;
        if !namespaces.contains(CloneFlags::CLONE_NEWNS) {
            let tail = "the container has no mount namespace of its own";
            return Err(Error::new(Code::Unsupported, tail));
        }
        let capability = caps::Capability::CAP_SYS_ADMIN;
        Ok(Entrance {
            init,
            namespaces,
            may_clone: caps::has_cap(None, caps::CapSet::Effective, capability).unwrap_or(false),
        })
    }

    fn init_pid(&self) -> String {
        let pid = self.record.as_ref().map(|record| record.init.pid);
        pid.unwrap_or_default().to_string()
    }
}

/// Runs a plan without a program to its end, for a path of the container; `ready` may refuse what
/// the child has shown.
fn perform(
    plan: &Plan,
    path: &Path,
    ready: impl FnOnce(&mut Launched) -> Result<()>,
) -> Result<()> {
    for notice in &plan.notices {
        notice.warn();
    }
    plan.trace();
    let around = Surroundings {
        patience: Some(PATIENCE),
        ..Surroundings::default()
    };
    let launched = launch(plan, around, ready).map_err(|error| match error.code() {
        Code::Deadline => error.path(path),
        _ => error,
    })?;
    match reap(launched.pidfd.as_fd()) {
        Some(WaitStatus::Exited(_, 0)) | None => Ok(()),
        how => Err(refusal::died(how, "the process that mounts", false)),
    }
}

/// The descriptors that the child has shown; they are not kept, because what is open is in use.
fn shown<const N: usize>(newborn: &mut Launched) -> Result<[OwnedFd; N]> {
    let shown = std::mem::take(&mut newborn.shown);
    shown
        .try_into()
        .map_err(|_| Error::new(Code::Process, "unreadable record from the child"))
}

/// What the child can't judge: where its place really lies.
fn check_place(place: &OwnedFd, added: &Added, ledger: &Ledger, seen: &Seen) -> Result<()> {
    let destination = &added.destination;
    let refuse = |hint: &str, tail: &str| {
        Err(Error::new(Code::InvalidArgument, tail)
            .path(destination)
            .hint(hint))
    };
    let at = identify(place)?;
    let Some(line) = seen.lines.iter().find(|line| line.id == at.id) else {
        return refuse(
            "the mount that it lies on is not in the container's mount namespace",
            "nobody can tell whether it would appear on the host",
        );
    };
    // Not fstatfs(2), for which a FUSE server of the container could keep the caller waiting.
    if line.fstype == b"proc" && !plan::may_cover_proc(&destination.to_string_lossy()) {
        return refuse(
            "it lies in a procfs",
            "what the kernel says there must not be covered",
        );
    }
    if at.is_root && ledger.mounts.iter().any(|entry| entry.is(at)) {
        return refuse(
            "a mount was added there before: remove it first",
            "device or resource busy",
        );
    }
    if let Some(group) = line.shared {
        let host = mountinfo::of_process("self")?;
        if host.iter().any(|line| line.shared == Some(group)) {
            return refuse(
                "it lies on a mount that the container shares with the host",
                "it would appear on the host, and stay there when the container ends",
            );
        }
    }
    Ok(())
}

/// The source of a bind, relative to the caller's working directory.
fn absolute(source: Option<&Path>) -> Result<PathBuf> {
    match source {
        None => Ok(PathBuf::new()),
        Some(path) if path.as_os_str().is_empty() => Ok(PathBuf::new()),
        Some(path) => std::path::absolute(path)
            .map_err(|error| Error::io(Code::Io, "getcwd", &error).at("/source")),
    }
}

/// A destination as create cleans it, so that `/a/` is `/a`.
fn plain(path: &Path) -> Option<String> {
    crate::step::Target::new(path.as_os_str().as_encoded_bytes()).map(|target| target.to_string())
}

fn ended() -> Error {
    Error::new(Code::NotRunning, "container not running").hint("its mounts have ended with it")
}
