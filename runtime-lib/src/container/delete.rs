//! delete: processes, then cgroups, then the state directory, each step idempotent, from any
//! state that a killed runtime may have left.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::poll::PollTimeout;
use nix::sys::stat::fstat;

use super::identity::wait_end;
use super::options::CgroupDriver;
use super::state::{Journal, Record, Status};
use super::store::{CONFIG, Hold, JOURNAL, STATE, StateDir, is_scarce, is_unread};
use super::told::Told;
use super::{Container, ContainerId, Runtime};
use crate::cgroup::{CgroupPlan, CgroupRequest, ask_systemd};
use crate::error::{Code, Error, Result};
use crate::host::Host;
use crate::rdt;
use crate::spec::Spec;
use crate::sys::process::pidfd_send_signal;

/// How long a killed init may take to end, in milliseconds.
const KILL_DEADLINE: u16 = 10_000;
/// How often it is looked after meanwhile.
const LOOKS: u16 = 40;

impl Runtime {
    /// Deletes a container that is stopped or created; with `force` any, killing it first,
    /// one of which create left only half as well, and a missing one without an error.
    ///
    /// # Errors
    /// runc's text for a container that runs; what could not be removed.
    pub fn delete(&self, id: &ContainerId, force: bool) -> Result<()> {
        let deleted = match force {
            true => self.delete_by_force(id),
            false => self.open_locked(id).and_then(Container::delete_stopped),
        };
        deleted.map_err(|error| error.during(format!("delete {id}")))
    }

    fn delete_by_force(&self, id: &ContainerId) -> Result<()> {
        // Before the lock: a start that holds it may be waiting for this very process.
        let found = self.open(id).ok();
        if let Some(container) = &found {
            container.kill_init()?;
        }
        let half = found.filter(|container| container.record.is_none());
        let left_in = half.as_ref().map(|container| &container.journal.cgroup);
        let opened = StateDir::open(&self.root, id, Hold::Nothing);
        let locked = opened.and_then(|it| it.lock_to_remove(left_in).map(|()| it));
        let mut state_dir = match locked {
            Err(error) if error.code() == Code::NotFound => return Ok(()),
            result => result?,
        };
        // Either file may be damaged; each is of use without the other.
        let journal = usable(state_dir.load::<Journal>(JOURNAL))?;
        let record = usable(state_dir.load::<Record>(STATE))?.flatten();
        let journal = match (journal, &record) {
            (Some(Some(journal)), _) => Some(journal),
            (None, _) => {
                self.remove_cgroups(id, &cgroup_of_config(&state_dir, id)?)?;
                None
            }
            // All of it is gone, as a delete leaves it that was killed; or only the journal is.
            (Some(None), Some(record)) => {
                let cgroup = cgroup_of_config(&state_dir, id)?;
                match has_init(&cgroup, record)? {
                    true => self.remove_cgroups(id, &cgroup)?,
                    // Whoever is in it may be a stranger by now.
                    false => drop(cgroup.remove_empty()?),
                }
                None
            }
            // Nothing was made.
            (Some(None), None) => None,
        };
        if let Some(journal) = &journal {
            self.remove_cgroups(id, &journal.cgroup)?;
            journal.remove_rdt()?;
        }
        if let Some(record) = &record {
            // In none of its cgroups any more: they are removed.
            end(record, None)?;
        }
        if let Some(journal) = journal {
            let annotations = record.map(|record| record.annotations).unwrap_or_default();
            let told = Told::new(id.as_str(), &journal.bundle, Some(&annotations));
            told.run_poststop(&journal.hooks);
            state_dir.belongs_to(journal.overlay_ids);
        }
        state_dir.remove()
    }

    /// With everybody in them, but where another container has been put there since: its processes
    /// are none of this one's, and the directories are for its own delete to remove.
    fn remove_cgroups(&self, own: &ContainerId, cgroup: &CgroupPlan) -> Result<()> {
        if cgroup.remove_empty()? {
            return Ok(());
        }
        // A unit's are systemd's to remove, and are there as long as anybody is in them.
        let other = match cgroup.systemd.is_some() && cgroup.manager().processes()?.is_empty() {
            true => None,
            false => self.living_other(own, |other| cgroup.holds(&other.cgroup))?,
        };
        match other {
            Some(other) => {
                tracing::warn!("delete {own}: its cgroup stays: the container {other} is in it");
                cgroup.leave()
            }
            None => cgroup.manager().remove(),
        }
    }
}

impl Journal {
    fn remove_rdt(&self) -> Result<()> {
        self.rdt.as_ref().map_or(Ok(()), rdt::Group::remove)
    }
}

impl Container {
    /// Deletes the container; see [`Runtime::delete`].
    ///
    /// # Errors
    /// As there.
    pub fn delete(mut self, force: bool) -> Result<()> {
        let locked = match force {
            true => Ok(false),
            false => self.lock_as_it_was(),
        };
        match locked {
            Ok(true) => {
                let id = self.id.clone();
                let deleted = self.delete_stopped();
                deleted.map_err(|error| error.during(format!("delete {id}")))
            }
            _ => self.runtime.delete(&self.id, force),
        }
    }

    /// Locks the container if what is known of it needs no second look: what is needed of the record
    /// never changes, and the journal is still the file that was written then, so that this is the
    /// container that was made.
    fn lock_as_it_was(&mut self) -> Result<bool> {
        let (Some(written), Some(_)) = (&self.written, &self.record) else {
            return Ok(false);
        };
        self.state_dir.lock_linked()?;
        // Which its directory outlives.
        let same = fstat(written).is_ok_and(|stat| stat.st_nlink != 0);
        if !same {
            self.state_dir.unlock()?;
        }
        Ok(same)
    }

    /// Deletes the container, which is locked, if it is stopped or created.
    fn delete_stopped(self) -> Result<()> {
        match self.status()? {
            Status::Stopped => self.clear_away(),
            Status::Created => self.dismantle(),
            status => Err(Error::new(
                Code::WrongStatus,
                format!(
                    "cannot delete container {} that is not stopped: {status}",
                    self.id
                ),
            )
            .hint("--force kills it first")),
        }
    }

    /// The container is locked, and its init has stopped or waits for start.
    pub(super) fn dismantle(self) -> Result<()> {
        self.kill_init()?;
        self.clear_away()
    }

    /// Takes away what init has left.
    fn clear_away(mut self) -> Result<()> {
        self.runtime
            .remove_cgroups(&self.id, &self.journal.cgroup)?;
        self.journal.remove_rdt()?;
        self.told().run_poststop(&self.journal.hooks);
        self.state_dir.belongs_to(self.journal.overlay_ids.take());
        self.state_dir.remove()
    }

    fn kill_init(&self) -> Result<()> {
        match &self.record {
            Some(record) => end(record, Some(&self.journal.cgroup)),
            None => Ok(()),
        }
    }
}

/// Kills init and waits until it has ended, with all the processes of its pid namespace.
fn end(record: &Record, cgroup: Option<&CgroupPlan>) -> Result<()> {
    let Some(pidfd) = record.init.open()? else {
        return Ok(());
    };
    kill(&pidfd)?;
    for _ in 0..LOOKS {
        // Again, as a pause on its way may have frozen them since.
        cgroup.map_or(Ok(()), |cgroup| cgroup.manager().let_die())?;
        if wait_end(&pidfd, PollTimeout::from(KILL_DEADLINE / LOOKS))? {
            return Ok(());
        }
    }
    let init = record.init.pid;
    let tail = format!("process {init} did not end within 10 s of SIGKILL");
    // The first process of a pid namespace outlives the others of it.
    let other = cgroup.and_then(|cgroup| cgroup.other_than(init));
    if let Some(above) = cgroup.and_then(CgroupPlan::frozen_above) {
        return Err(Error::new(Code::Deadline, tail).hint(format!(
            "the cgroup {} above the container's is frozen: thaw it, and delete again",
            above.display()
        )));
    }
    let kept = match other {
        Some(other) => format!("process {other}, which it waits for,"),
        None => "it".to_owned(),
    };
    Err(Error::new(Code::Deadline, tail).hint(format!(
        "{kept} may be in an uninterruptible wait of the kernel: delete again later"
    )))
}

fn kill(pidfd: &OwnedFd) -> Result<()> {
    match pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(errno) => Err(Error::call(Code::Process, "pidfd_send_signal", errno)),
    }
}

/// A file that says nothing is passed over, and the log says so.
///
/// # Errors
/// It could not be read, now or by this caller: what it says may be of a container that lives.
fn usable<T>(loaded: Result<T>) -> Result<Option<T>> {
    match loaded {
        Err(error) if is_unread(&error) => Err(error),
        loaded => understood(loaded),
    }
}

/// What a file that was read says, asked of the machine: whoever else refuses something, systemd's bus for one,
/// says nothing of the container.
///
/// # Errors
/// This process lacks something, for now.
fn understood<T>(asked: Result<T>) -> Result<Option<T>> {
    match asked {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_scarce(&error) => Err(error),
        Err(error) => {
            tracing::warn!("{error}");
            Ok(None)
        }
    }
}

/// Whether the first process lives, and in these.
fn has_init(cgroup: &CgroupPlan, record: &Record) -> Result<bool> {
    let lives = record.init.open()?.is_some();
    Ok(lives && cgroup.manager().processes()?.contains(&record.init.pid))
}

/// The cgroups that the frozen configuration asks for: what a journal has said that is damaged or gone.
fn cgroup_of_config(state_dir: &StateDir, id: &ContainerId) -> Result<CgroupPlan> {
    let config = usable(state_dir.read(CONFIG))?.flatten();
    let asked = config.map(|it| understood(asked_cgroup(&it, id)));
    Ok(asked.transpose()?.flatten().unwrap_or_default())
}

fn asked_cgroup(bytes: &[u8], id: &ContainerId) -> Result<CgroupPlan> {
    let spec = Spec::parse(String::from_utf8_lossy(bytes).into_owned())?;
    let linux = spec.config.linux().as_ref();
    let host = Host::probe()?;
    let path = linux.and_then(|linux| linux.cgroups_path().as_deref());
    // Nothing else looks like this, and it would be odd as a directory.
    let of_systemd = |path: &Path| path.to_string_lossy().split(':').count() == 3;
    let systemd = match path.is_some_and(of_systemd) {
        true => Some(ask_systemd(&host)?),
        false => None,
    };
    let (plan, _, _) = CgroupPlan::resolve(
        &host.layout,
        &CgroupRequest {
            driver: match systemd {
                Some(_) => CgroupDriver::Systemd,
                None => CgroupDriver::Cgroupfs,
            },
            path,
            id: id.as_str(),
            resources: None,
            raw: None,
            devices: &[],
            rootless: host.rootless(),
            lenient: host.rootless(),
            systemd: systemd.as_ref(),
            annotations: None,
        },
    )?;
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;

    /// A bus that refuses would otherwise make a damaged container one that nobody can remove.
    #[test]
    fn only_what_reading_the_state_and_want_say_keeps_a_damaged_container() {
        let refused = |errno| Err::<(), Error>(Error::call(Code::Io, "connect", errno));
        for errno in [Errno::EACCES, Errno::EPERM, Errno::EIO, Errno::ENOENT] {
            assert_eq!(understood(refused(errno)), Ok(None), "{errno}");
        }
        for errno in [Errno::EACCES, Errno::EPERM, Errno::EIO, Errno::EMFILE] {
            assert!(usable(refused(errno)).is_err(), "{errno}");
        }
        assert!(understood(refused(Errno::EMFILE)).is_err());
    }
}
