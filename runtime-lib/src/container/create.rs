//! create and run: prepare everything, then claim, journal, place, launch, record.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::LazyLock;
use std::time::SystemTime;

use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::unistd::geteuid;
use oci_spec::runtime::LinuxSeccomp;

use super::bundle::Bundle;
use super::filters::{self, Found};
use super::handover::Handover;
use super::hooks::{Inside, Told};
use super::identity::Identity;
use super::mountinfo;
use super::notify;
use super::options::{CreateOptions, Seal};
use super::process::Process;
use super::seccomp_listener::{About, Listener};
use super::state::{Journal, Record, Status};
use super::store::{CONFIG, GO, JOURNAL, RESULT, SCHEMA, STATE, StateDir};
use super::{Container, ContainerId, Runtime};
use crate::cgroup::{CgroupManager, CgroupPlan, CgroupRequest, Limits};
use crate::child::Handshake;
use crate::error::{Code, Error, Result};
use crate::launch::opens::open_directory;
use crate::launch::{Launched, Surroundings, launch};
use crate::lxcfs;
use crate::overlay;
use crate::plan::hooks::{Hook, HookKind};
use crate::plan::{self, Conditions, CreateRequest, Host, Modules, Plan, Start};
use crate::rdt;
use crate::seccomp::Filter;

/// A container that exists, and its process, which is a child of the caller.
#[derive(Debug)]
pub struct Created {
    pub container: Container,
    pub process: Process,
    /// Of run with [`CreateOptions::notify`]: what its program says to sd_notify(3).
    pub notify: Option<OwnedFd>,
}

/// All that is decided before anything is made.
pub(super) struct Prepared {
    pub bundle: Bundle,
    pub cgroup: CgroupPlan,
    pub limits: Limits,
    pub plan: Plan,
    pub inherits_keyring: bool,
    pub conditions: Conditions,
    pub rdt: Option<rdt::Group>,
    filter: Option<Prefiltered>,
}

/// A seccomp profile: what it is known by, and its filter if that was compiled lately.
struct Prefiltered {
    key: Vec<u8>,
    found: Option<Found>,
}

impl Runtime {
    /// Creates a container, whose process then waits for [`Container::start`].
    ///
    /// # Errors
    /// Whatever part of the configuration or of the machine refused; nothing is left behind.
    pub fn create(
        &self,
        id: &ContainerId,
        options: &CreateOptions,
        seal: &Seal,
    ) -> Result<Created> {
        self.begin(id, options, seal, Start::WhenTold)
            .map_err(|error| error.during(format!("create {id}")))
    }

    /// Creates a container whose process executes its program at once.
    ///
    /// # Errors
    /// As [`Runtime::create`], and the refusal of execve(2).
    pub fn run(&self, id: &ContainerId, options: &CreateOptions, seal: &Seal) -> Result<Created> {
        self.begin(id, options, seal, Start::AtOnce)
            .map_err(|error| error.during(format!("run {id}")))
    }

    fn begin(
        &self,
        id: &ContainerId,
        options: &CreateOptions,
        seal: &Seal,
        start: Start,
    ) -> Result<Created> {
        let Seal::AlreadySealed = seal;
        check_preserved(options.preserve_fds)?;
        let prepared = self.prepare(id, options, start)?;
        for notice in &prepared.plan.notices {
            tracing::warn!(pointer = notice.pointer, "{notice}");
        }
        prepared.plan.trace();
        let handover = Handover::connect(
            &options.console,
            options.pidfd_socket.as_deref(),
            options.pid_file.as_deref(),
        )?;
        let listener = prepared.listener()?;

        let mut state_dir = StateDir::claim(&self.root, id)?;
        prepared.cgroup.manager().claim()?;
        let journal = prepared.journal();
        state_dir.belongs_to(journal.overlay_ids.clone());
        state_dir.record(JOURNAL, &journal)?;
        let cgroups = Cgroups::prepare(&prepared)?;
        let rdt = prepared.rdt.as_ref().map(rdt::Group::make).transpose()?;
        if let Some(directories) = &prepared.plan.overlay {
            overlay::make(directories, &prepared.bundle.rootfs)?;
        }
        let mut listening = None;
        if options.notify {
            notify::make_directory(&state_dir)?;
            if start == Start::AtOnce {
                listening = notify::listen(state_dir.path())?;
            }
        }
        let fifos = match start {
            Start::WhenTold => Some(Fifos::make(&state_dir)?),
            Start::AtOnce => None,
        };
        let told = prepared.told(id);
        let begun = Cell::new(false);
        let run_hook = |hook: &Hook, newborn: &Launched| {
            begun.set(true);
            let cgroup = &prepared.cgroup;
            told.run_creating(hook, newborn, &prepared.bundle.rootfs, cgroup)
        };
        let give = |filter: OwnedFd, newborn: &Launched| match &listener {
            Some(listener) => listener.give(&filter, newborn.pid, &prepared.about(id, newborn)),
            None => Ok(()),
        };
        let around = Surroundings {
            cgroup: cgroups.directory.as_ref().map(|fd| fd.as_fd()),
            handshake: fifos.as_ref().map(Fifos::handshake),
            hooks: Some(&run_hook),
            cancel: None,
            listener: listener.as_ref().map(|_| &give as _),
        };
        let mut record = None;
        let launched = launch(&prepared.plan, around, |newborn| {
            let init = Identity::of(newborn.pid, &newborn.pidfd)?;
            state_dir.write(CONFIG, prepared.bundle.spec.text.as_bytes())?;
            prepared.freeze(&state_dir, &self.root)?;
            state_dir.record(STATE, record.insert(prepared.record(init)))?;
            handover.give(newborn)?;
            match start {
                Start::AtOnce => prepared.run_inside(&told, newborn),
                Start::WhenTold => Ok(()),
            }
        });
        let launched = match launched {
            Ok(launched) => launched,
            Err(error) => {
                let error = cgroups.explain_death(error);
                if begun.get() || error.code() == Code::Hook {
                    // What the hooks of create have made, these take back.
                    drop(cgroups);
                    told.run_poststop(&prepared.plan.later);
                }
                return Err(error);
            }
        };
        cgroups.keep();
        if let Some(rdt) = rdt {
            rdt.keep();
        }
        let created = Created {
            container: Container {
                runtime: self.clone(),
                id: id.clone(),
                state_dir: state_dir.keep()?,
                journal,
                record,
            },
            process: Process {
                pid: launched.pid,
                pidfd: launched.pidfd,
                terminal: launched.terminal.filter(|_| handover.keeps_terminal()),
            },
            notify: listening,
        };
        if start == Start::AtOnce {
            let (hooks, pid) = (&prepared.plan.later, Some(created.process.pid));
            if let Err(error) = told.run_here(hooks, HookKind::Poststart, pid) {
                created.undo();
                return Err(error);
            }
        }
        Ok(created)
    }

    /// Reads, checks and decides; touches nothing. The plan is the one that `explain` shows.
    pub(super) fn prepare(
        &self,
        id: &ContainerId,
        options: &CreateOptions,
        start: Start,
    ) -> Result<Prepared> {
        let mut bundle = Bundle::open(options)?;
        if options.notify {
            notify::add_mount(&mut bundle.spec.config, &self.root.join(id.as_str()));
        }
        let process = bundle.spec.config.process().as_ref();
        options
            .console
            .check(process.is_some_and(|p| p.terminal().unwrap_or(false)))?;
        let mut options = CreateOptions {
            overlay: overlay::resolve(options.overlay.as_ref(), &bundle.path)?,
            ..options.clone()
        };
        if options.notify {
            options.env.push(notify::variable());
        }
        let options = &options;
        let annotations = bundle.spec.config.annotations().as_ref();
        let lxcfs = lxcfs::resolve(options.lxcfs.as_deref(), annotations)?;
        let linux = bundle.spec.config.linux().as_ref();
        let host = Host {
            modules: Modules::probe(process, linux),
            kernel_views: match options.no_pivot {
                true => kernel_views(&bundle.rootfs)?,
                false => Vec::new(),
            },
            ..Host::probe()?
        };
        let (cgroup, limits, cgroup_notices) = CgroupPlan::resolve(
            &host.layout,
            &CgroupRequest {
                driver: options.cgroups,
                path: linux.and_then(|l| l.cgroups_path().as_deref()),
                id: id.as_str(),
                resources: linux.and_then(|l| l.resources().as_ref()),
                raw: bundle.spec.raw.pointer("/linux/resources"),
                rootless: host.rootless(),
            },
        )?;
        let rdt = linux.and_then(|linux| linux.intel_rdt().as_ref());
        let rdt = rdt
            .map(|asked| rdt::Group::resolve(asked, id.as_str(), rdt::mounted().as_deref()))
            .transpose()?;
        let conditions = Conditions::of(&bundle.spec.config)?;
        let filter = linux
            .and_then(|linux| linux.seccomp().as_ref())
            .map(|profile| {
                let key = filters::profile_key(profile);
                let found = filters::find(&self.root, &key);
                Prefiltered { key, found }
            });
        let found = filter.as_ref().and_then(|it| it.found.as_ref());
        let mut plan = plan::create(
            &bundle.spec.config,
            &host,
            &CreateRequest {
                id: id.as_str(),
                bundle: &bundle.path,
                rootfs: &bundle.rootfs,
                state_dir: &self.root.join(id.as_str()),
                cgroup: &cgroup,
                options,
                lxcfs: lxcfs.as_ref(),
                rdt: rdt.as_ref(),
                conditions: &conditions,
                start,
                filter: found.map(|found| &found.filter),
            },
        )?;
        let earlier = bundle.spec.notices.iter().cloned().chain(cgroup_notices);
        plan.notices.splice(0..0, earlier);
        Ok(Prepared {
            bundle,
            cgroup,
            limits,
            plan,
            inherits_keyring: options.no_new_keyring,
            conditions,
            rdt,
            filter,
        })
    }
}

impl Created {
    /// Takes back a container whose program runs already: runtime.md, "Lifecycle", poststart.
    fn undo(self) {
        let Created {
            container, process, ..
        } = self;
        if let Err(error) = container.delete(true) {
            tracing::warn!("{error}");
        }
        // Nobody else may: it is a child of the caller.
        let _ = process.wait();
    }
}

impl Prepared {
    fn told<'a>(&'a self, id: &'a ContainerId) -> Told<'a> {
        static NONE: LazyLock<HashMap<String, String>> = LazyLock::new(HashMap::new);
        let annotations = self.bundle.spec.config.annotations().as_ref();
        Told {
            id: id.as_str(),
            bundle: &self.bundle.path,
            annotations: annotations.unwrap_or(&NONE),
        }
    }

    /// Runs the startContainer hooks of a process that waits to execute its program.
    fn run_inside(&self, told: &Told, newborn: &Launched) -> Result<()> {
        let process = self.bundle.spec.config.process();
        let (Some(process), false) = (process, self.plan.later.is_empty()) else {
            return Ok(());
        };
        let pidfd = newborn.pidfd.try_clone();
        told.run_inside(
            &self.plan.later,
            &Inside {
                pid: newborn.pid,
                pidfd: pidfd.map_err(|error| Error::io(Code::Process, "fcntl", &error))?,
                cgroup: &self.cgroup,
                rdt: self.rdt.as_ref(),
                conditions: &self.conditions,
                process: process.clone(),
                inherits_keyring: self.inherits_keyring,
                filter: self.plan.filter(),
            },
        )
    }

    /// The profile and the filter that the plan installs.
    fn seccomp(&self) -> Option<(&LinuxSeccomp, &Filter)> {
        let linux = self.bundle.spec.config.linux().as_ref();
        let profile = linux.and_then(|linux| linux.seccomp().as_ref())?;
        Some((profile, self.plan.filter()?))
    }

    /// Connects to whoever listens to the filter.
    fn listener(&self) -> Result<Option<Listener<'_>>> {
        match self.seccomp() {
            Some((profile, filter)) if filter.listens() => Listener::connect(profile),
            _ => Ok(None),
        }
    }

    fn about<'a>(&'a self, id: &'a ContainerId, newborn: &Launched) -> About<'a> {
        let told = self.told(id);
        About {
            id: told.id,
            status: Status::Creating,
            pid: newborn.pid,
            bundle: told.bundle,
            annotations: told.annotations,
        }
    }

    /// Keeps the filter for exec, and for the next container.
    fn freeze(&self, state_dir: &StateDir, root: &Path) -> Result<()> {
        let (Some((_, filter)), Some(known)) = (self.seccomp(), &self.filter) else {
            return Ok(());
        };
        let found = known.found.as_ref();
        filters::freeze(state_dir, &known.key, filter, found)?;
        // One that came with notices is compiled anew, so that they are said again.
        let below = |pointer: &str| pointer.starts_with("/linux/seccomp/syscalls");
        let quiet = !self.plan.notices.iter().any(|it| below(&it.pointer));
        if found.is_none()
            && quiet
            && let Err(error) = filters::keep(state_dir, root, &known.key)
        {
            tracing::debug!("the seccomp filter is not kept for later: {error}");
        }
        Ok(())
    }

    fn journal(&self) -> Journal {
        Journal {
            schema: SCHEMA,
            bundle: self.bundle.path.clone(),
            rootfs: self.bundle.rootfs.clone(),
            created: humantime::format_rfc3339_nanos(SystemTime::now()).to_string(),
            owner: geteuid().as_raw(),
            cgroup: self.cgroup.clone(),
            rdt: self.rdt.clone(),
            hooks: self.plan.later.clone(),
            overlay_ids: match self.plan.overlay {
                Some(_) if !geteuid().is_root() => self.plan.id_maps().cloned(),
                _ => None,
            },
        }
    }

    fn record(&self, init: Identity) -> Record {
        Record {
            schema: SCHEMA,
            init,
            shares_pids: !self.plan.makes(CloneFlags::CLONE_NEWPID),
            inherits_keyring: self.inherits_keyring,
            conditions: self.conditions.clone(),
            seccomp: self.plan.filter().is_some(),
            annotations: self
                .bundle
                .spec
                .config
                .annotations()
                .clone()
                .unwrap_or_default(),
        }
    }
}

/// The container's cgroups, taken back unless the container comes to be.
struct Cgroups<'plan> {
    manager: Box<dyn CgroupManager + 'plan>,
    cgroup: &'plan CgroupPlan,
    /// Where clone3(2) puts the process, on v2.
    directory: Option<OwnedFd>,
    remove: bool,
}

impl<'plan> Cgroups<'plan> {
    fn prepare(prepared: &'plan Prepared) -> Result<Cgroups<'plan>> {
        let manager = prepared.cgroup.manager();
        manager.prepare(&prepared.limits)?;
        let mut cgroups = Cgroups {
            manager,
            cgroup: &prepared.cgroup,
            directory: None,
            remove: true,
        };
        if let Some(path) = &prepared.plan.cgroup {
            cgroups.directory = Some(open_directory(path)?);
        }
        Ok(cgroups)
    }

    fn keep(mut self) {
        self.remove = false;
    }

    /// The kernel kills without a word, but it counts.
    fn explain_death(&self, error: Error) -> Error {
        match error.code() {
            Code::Died if self.cgroup.oom_kills() > 0 => Error::new(
                Code::Died,
                "container init was OOM-killed (memory limit too low?)",
            )
            .at("/linux/resources/memory/limit"),
            _ => error,
        }
    }
}

impl Drop for Cgroups<'_> {
    fn drop(&mut self) {
        if self.remove
            && let Err(error) = self.manager.remove()
        {
            tracing::warn!("{error}");
        }
    }
}

/// The mount points of every proc and sysfs, and of what covers one; not what lies below the
/// container's root, which brings it along, nor what the root lies on.
fn kernel_views(rootfs: &Path) -> Result<Vec<CString>> {
    let mounts = mountinfo::of_process("self")?;
    let shows = |line: &mountinfo::Line| {
        let fstype = line.fstype.as_slice();
        [b"proc".as_slice(), b"sysfs"].contains(&fstype) && !line.point.starts_with(rootfs)
    };
    let mut views = Vec::new();
    for (n, line) in mounts.iter().enumerate() {
        let mut earlier = mounts.iter().take(n).filter(|earlier| shows(earlier));
        let covers = earlier.any(|earlier| earlier.point.starts_with(&line.point));
        if shows(line) || (covers && !rootfs.starts_with(&line.point)) {
            // What came from the kernel holds no NUL.
            views.extend(CString::new(line.point.as_os_str().as_bytes()));
        }
    }
    views.reverse();
    Ok(views)
}

/// The two fifos of start: `go` is read by the child, which holds it for writing as well so
/// that it never sees an end; `result` ends when the child executes.
struct Fifos {
    go: OwnedFd,
    result: OwnedFd,
}

impl Fifos {
    fn make(state_dir: &StateDir) -> Result<Fifos> {
        let go = state_dir.make_fifo(GO, OFlag::O_RDWR)?;
        // Opened for both, else it would block until there is a reader.
        let both = state_dir.make_fifo(RESULT, OFlag::O_RDWR)?;
        let result = state_dir
            .open_fifo(RESULT, OFlag::O_WRONLY)
            .map_err(|errno| {
                Error::call(Code::Io, "open", errno).path(state_dir.path().join(RESULT))
            })?;
        drop(both);
        Ok(Fifos { go, result })
    }

    fn handshake(&self) -> Handshake {
        Handshake {
            go: self.go.as_raw_fd(),
            result: self.result.as_raw_fd(),
        }
    }
}

/// Asked before anything is opened here, which could take the missing number.
pub(super) fn check_preserved(count: u32) -> Result<()> {
    for number in 3..3u32.saturating_add(count) {
        crate::sys::fd::is_open(number as i32).map_err(|errno| {
            Error::call(Code::InvalidArgument, "fcntl", errno)
                .doing(format!("unable to stat preserved-fd {number} (of {count})"))
                .hint("--preserve-fds counts the descriptors after 2")
        })?;
    }
    Ok(())
}
