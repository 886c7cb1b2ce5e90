//! Live mounts: a bind or a tmpfs that comes into a running container, and goes again.
//!
//! The kernel keeps them: they are in the container's mount namespace and end with it.
//! `mounts.json` remembers which ones are ours, and is written after a mount was made and before
//! it is attached, so that a runtime that is killed between the two leaves a line about
//! a mount that never was, which nothing is done for.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::sys::wait::WaitStatus;
use oci_spec::runtime::Mount;
use serde::{Deserialize, Serialize};

use super::Container;
use super::exec::differing_namespaces;
use super::mountinfo::{self, Line};
use super::state::Status;
use super::store::{MOUNTS, SCHEMA, Versioned};
use crate::error::{Code, Error, Result};
use crate::launch::refusal;
use crate::launch::{Launched, Surroundings, launch, reap};
use crate::plan::{self, AddRequest, Place, Plan};
use crate::sys::mount::{MountId, mount_id, openat2, resolve};

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

/// The mounts that were added, in their order.
#[derive(Debug, Serialize, Deserialize)]
struct Ledger {
    schema: u32,
    mounts: Vec<Entry>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    added: Added,
    /// As mountinfo numbers it.
    id: u64,
    /// See [`MountId::unique`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unique: Option<u64>,
    /// What is mounted, which tells it from others where the kernel has no unique number.
    file: (u64, u64),
}

impl Versioned for Ledger {
    fn schema(&self) -> u32 {
        self.schema
    }
}

impl Entry {
    fn is(&self, seen: MountId) -> bool {
        match (self.unique, seen.unique) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => self.id == seen.id && self.file == seen.file,
        }
    }
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
            .map_err(|error| error.during(format!("mounts add {}", self.container.id)))
    }

    /// Unmounts what [`Mounts::add`] has mounted on `destination`, the last of them.
    ///
    /// # Errors
    /// [`Code::NotFound`] where none is; one that is in use, or has mounts below it.
    pub fn remove(&self, destination: &Path, detach: Detach) -> Result<()> {
        self.container
            .locked()
            .and_then(|container| container.remove_mount(destination, detach))
            .map_err(|error| error.during(format!("mounts remove {}", self.container.id)))
    }

    /// What was added and is still there, in its order.
    ///
    /// # Errors
    /// [`Code::StateCorrupt`]; [`Code::NotRunning`].
    pub fn list(&self) -> Result<Vec<Added>> {
        let there = |container: &Container| {
            let (_, seen) = container.live()?;
            Ok(container.ledger(&seen)?.mounts)
        };
        let entries = there(self.container)
            .map_err(|error: Error| error.during(format!("mounts list {}", self.container.id)))?;
        Ok(entries.into_iter().map(|entry| entry.added).collect())
    }
}

impl Container {
    fn add_mount(&self, mount: &Mount) -> Result<()> {
        let (place, seen) = self.live()?;
        let mut ledger = self.ledger(&seen)?;
        let spec = self.spec()?;
        let linux = spec.config.linux().as_ref();
        let source = absolute(mount.source().as_deref())?;
        let plan = plan::add_mount(
            place,
            &AddRequest {
                entry: mount,
                source: source.clone(),
                propagation: linux.and_then(|linux| linux.rootfs_propagation().as_deref()),
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
        let performed = perform(&plan, |newborn| {
            let [made, place] = shown(newborn)?;
            check_place(&place, &added, &ledger, &seen)?;
            let seen = identify(&made)?;
            ledger.mounts.push(Entry {
                added,
                id: seen.id,
                unique: seen.unique,
                file: seen.file,
            });
            recorded = true;
            self.state_dir.record(MOUNTS, &ledger)
        });
        if performed.is_err() && recorded {
            ledger.mounts.pop();
            self.state_dir.record(MOUNTS, &ledger)?;
        }
        performed
    }

    fn remove_mount(&self, destination: &Path, detach: Detach) -> Result<()> {
        let (place, seen) = self.live()?;
        let mut ledger = self.ledger(&seen)?;
        let same = |entry: &Entry| plain(&entry.added.destination) == plain(destination);
        let none = || {
            Error::new(Code::NotFound, "no such mount")
                .path(destination)
                .hint("only what `mounts add` has mounted can be removed: see `mounts list`")
        };
        let at = ledger.mounts.iter().rposition(same).ok_or_else(none)?;
        let entry = ledger.mounts.remove(at);
        let line = seen.iter().find(|line| line.id == entry.id);
        let line = line.ok_or_else(none)?;
        if detach == Detach::Unused {
            let below: Vec<_> = seen
                .iter()
                .filter(|other| other.parent == line.id && other.id != line.id)
                .map(|other| other.point.display().to_string())
                .collect();
            if !below.is_empty() {
                return Err(Error::new(Code::Filesystem, "device or resource busy")
                    .path(destination)
                    .hint(format!(
                        "other mounts lie on it ({}): --lazy takes them along",
                        below.join(", ")
                    )));
            }
        }
        let lazy = detach == Detach::Lazily;
        let plan = plan::remove_mount(place, &line.point, lazy)?;
        perform(&plan, |newborn| {
            let [found] = shown(newborn)?;
            match identify(&found)? {
                id if id.is_root && entry.is(id) => Ok(()),
                _ => Err(Error::new(Code::Filesystem, "device or resource busy")
                    .path(destination)
                    .hint("another mount lies over it")),
            }
        })?;
        let left = mountinfo::of_process(&self.init_pid())?;
        if left
            .iter()
            .any(|other| other.id == line.id && other.point == line.point)
        {
            return Err(Error::new(Code::Filesystem, "device or resource busy")
                .path(destination)
                .hint("the container has put another mount over it meanwhile"));
        }
        self.state_dir.record(MOUNTS, &ledger)
    }

    /// How to get into the container, and what it has mounted.
    fn live(&self) -> Result<(Place, Vec<Line>)> {
        let stopped = || {
            Error::new(Code::NotRunning, "container not running")
                .hint("its mounts have ended with it")
        };
        match self.status()? {
            Status::Created | Status::Running | Status::Paused => {}
            Status::Stopped => return Err(stopped()),
            Status::Creating => {
                let tail = "the container is being created";
                return Err(Error::new(Code::WrongStatus, tail));
            }
        }
        let record = self.record.as_ref().ok_or_else(stopped)?;
        let init = record.init.open()?.ok_or_else(stopped)?;
        let ours = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS;
        let namespaces = differing_namespaces(record.init.pid)? & ours;
        if !namespaces.contains(CloneFlags::CLONE_NEWNS) {
            let tail = "the container has no mount namespace of its own";
            return Err(Error::new(Code::Unsupported, tail));
        }
        let seen = mountinfo::of_process(&self.init_pid())?;
        let capability = caps::Capability::CAP_SYS_ADMIN;
        let place = Place {
            init,
            namespaces,
            may_clone: caps::has_cap(None, caps::CapSet::Effective, capability).unwrap_or(false),
        };
        Ok((place, seen))
    }

    fn init_pid(&self) -> String {
        let pid = self.record.as_ref().map(|record| record.init.pid);
        pid.unwrap_or_default().to_string()
    }

    /// What was added and is in this table of the container's mounts.
    fn ledger(&self, seen: &[Line]) -> Result<Ledger> {
        let found = self.state_dir.load::<Ledger>(MOUNTS)?;
        let mut ledger = found.unwrap_or(Ledger {
            schema: SCHEMA,
            mounts: Vec::new(),
        });
        if !ledger.mounts.is_empty() {
            let root = self.root_of_init()?;
            ledger.mounts.retain(|entry| is_there(entry, seen, &root));
        }
        Ok(ledger)
    }

    fn root_of_init(&self) -> Result<OwnedFd> {
        let path = format!("/proc/{}/root", self.init_pid());
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        nix::fcntl::open(path.as_str(), flags, Mode::empty())
            .map_err(|errno| Error::call(Code::Filesystem, "open", errno).path(path))
    }
}

/// Whether a mount of ours is among these of the container. Its number alone doesn't tell: as
/// soon as the container unmounts ours, another mount has it.
fn is_there(entry: &Entry, seen: &[Line], root: &OwnedFd) -> bool {
    let Some(line) = seen.iter().find(|line| line.id == entry.id) else {
        return false;
    };
    let covered = |other: &&Line| other.parent == line.id && other.point == line.point;
    if seen.iter().find(covered).is_some() {
        return true;
    }
    // No file system of the container is asked, which could keep the caller waiting.
    let how = resolve::IN_ROOT | resolve::NO_SYMLINKS | resolve::CACHED;
    let path = CString::new(line.point.as_os_str().as_bytes()).unwrap_or_default();
    let place = openat2(root.as_fd(), &path, libc::O_PATH, 0, how);
    place.map_or(true, |place| identify(&place).is_ok_and(|id| entry.is(id)))
}

/// Runs a plan without a program to its end; `ready` may refuse what the child has shown.
fn perform(plan: &Plan, ready: impl FnOnce(&mut Launched) -> Result<()>) -> Result<()> {
    for notice in &plan.notices {
        tracing::warn!(pointer = notice.pointer, "{notice}");
    }
    plan.trace();
    let launched = launch(plan, Surroundings::default(), ready)?;
    match reap(launched.pidfd.as_fd()) {
        Some(WaitStatus::Exited(_, 0)) | None => Ok(()),
        how => Err(refusal::died(how, "the process that mounts")),
    }
}

/// The descriptors that the child has shown; they are not kept, because what is open is in use.
fn shown<const N: usize>(newborn: &mut Launched) -> Result<[OwnedFd; N]> {
    let shown = std::mem::take(&mut newborn.shown);
    shown
        .try_into()
        .map_err(|_| Error::new(Code::Process, "unreadable record from the child"))
}

fn identify(mount: &OwnedFd) -> Result<MountId> {
    mount_id(mount.as_fd()).map_err(|errno| Error::call(Code::Filesystem, "statx", errno))
}

/// What the child can't judge: where its place really lies.
fn check_place(place: &OwnedFd, added: &Added, ledger: &Ledger, seen: &[Line]) -> Result<()> {
    let destination = &added.destination;
    let refuse = |hint: &str, tail: &str| {
        Err(Error::new(Code::InvalidArgument, tail)
            .path(destination)
            .hint(hint))
    };
    let below = fstatfs(place).map_err(|errno| Error::call(Code::Filesystem, "fstatfs", errno))?;
    let named = destination.to_string_lossy();
    if below.filesystem_type() == PROC_SUPER_MAGIC && !plan::may_cover_proc(&named) {
        return refuse(
            "it lies in a procfs",
            "what the kernel says there must not be covered",
        );
    }
    let at = identify(place)?;
    if at.is_root && ledger.mounts.iter().any(|entry| entry.is(at)) {
        return refuse(
            "a mount was added there before: remove it first",
            "device or resource busy",
        );
    }
    // A program that has changed its root shows only what lies below it.
    let Some(line) = seen.iter().find(|line| line.id == at.id) else {
        return refuse(
            "the container's init doesn't see the mount that it lies on",
            "nobody can tell whether it would appear on the host",
        );
    };
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
    crate::step::Target::new(&path.to_string_lossy()).map(|target| target.to_string())
}
