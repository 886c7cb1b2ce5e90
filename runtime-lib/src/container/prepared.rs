//! All that is decided about a container before anything of it is made, and in which words it is
//! recorded. It reads the machine, and asks systemd and getsubids(1) where it has to; it must not
//! change anything: what the plan says is what `explain` shows.

use std::path::PathBuf;
use std::time::SystemTime;

use nix::sched::CloneFlags;
use oci_spec::runtime::LinuxSeccomp;

use super::bundle::{Bundle, recordable};
use super::filters::{self, Found};
use super::identity::Identity;
use super::notify;
use super::options::{CgroupDriver, CreateOptions};
use super::state::{Journal, Record};
use super::store::SCHEMA;
use super::told::Told;
use super::{ContainerId, Runtime};
use super::{own_namespaces, views};
use crate::Notice;
use crate::cgroup::{CgroupPlan, CgroupRequest, Enabled, Limits, ask_systemd};
use crate::error::Result;
use crate::host::{Host, Modules};
use crate::lxcfs;
use crate::overlay;
use crate::plan::{self, Conditions, CreateRequest, Plan, Start};
use crate::rdt;
use crate::seccomp::Filter;
use crate::spec;

/// See the module.
pub(super) struct Prepared {
    pub bundle: Bundle,
    pub cgroup: CgroupPlan,
    pub limits: Limits,
    pub plan: Plan,
    pub inherits_keyring: bool,
    pub conditions: Conditions,
    pub rdt: Option<rdt::Group>,
    /// The directory that the caller has named for what an overlay root writes.
    pub overlay_dir: Option<PathBuf>,
    /// The caller's.
    euid: u32,
    pub filter: Option<Prefiltered>,
}

/// A seccomp profile: what it is known by, and its filter if that was compiled lately.
pub(super) struct Prefiltered {
    pub key: Vec<u8>,
    pub found: Option<Found>,
}

/// Nothing then leads from the container to its processes.
const OUT_OF_REACH: &str = "without a pid namespace of its own, and without a cgroup, kill and delete \
                            reach its first process alone";

impl Runtime {
    /// Reads, checks and decides; touches nothing. The plan is the one that `explain` shows.
    pub(super) fn prepare(
        &self,
        id: &ContainerId,
        options: &CreateOptions,
        start: Start,
    ) -> Result<Prepared> {
        let bundle = Bundle::open(options)?;
        let notices = bundle.spec.notices.clone();
        self.decide(id, options, start, bundle)
            .map_err(|error| error.noticing(&notices))
    }

    fn decide(
        &self,
        id: &ContainerId,
        options: &CreateOptions,
        start: Start,
        mut bundle: Bundle,
    ) -> Result<Prepared> {
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
        if let Some(kept) = options.overlay.as_ref().and_then(|it| it.keep.as_deref()) {
            recordable(kept).map_err(|error| error.doing("open the overlay directory"))?;
        }
        if options.notify {
            options.env.push(notify::variable());
        }
        let options = &options;
        let annotations = bundle.spec.config.annotations().as_ref();
        let lxcfs = lxcfs::resolve(options.lxcfs.as_deref(), annotations)?;
        let linux = bundle.spec.config.linux().as_ref();
        own_namespaces::refuse_sysctls(&bundle.spec.config)?;
        let host = look(&bundle, options)?;
        let (cgroup, mut limits, cgroup_notices) = cgroups(id, options, &bundle, &host)?;
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
        let owner = plan::cgroup_owner(&bundle.spec.config, &plan);
        if let Some(owner) = owner.filter(|owner| *owner != host.euid)
            && host.has(caps::Capability::CAP_CHOWN)
        {
            limits.give_to(owner);
        }
        let earlier = bundle.spec.notices.iter().cloned().chain(cgroup_notices);
        plan.notices.splice(0..0, earlier);
        if cgroup.is_empty() && !plan.makes(CloneFlags::CLONE_NEWPID) {
            plan.notices
                .push(Notice::new("/linux/namespaces", OUT_OF_REACH));
        }
        if options.strict {
            Notice::refuse(&plan.notices)?;
        }
        Ok(Prepared {
            bundle,
            cgroup,
            limits,
            plan,
            inherits_keyring: options.no_new_keyring,
            conditions,
            rdt,
            overlay_dir: options.overlay.as_ref().and_then(|it| it.keep.clone()),
            euid: host.euid,
            filter,
        })
    }
}

/// The machine, as far as the configuration makes it worth a look.
fn look(bundle: &Bundle, options: &CreateOptions) -> Result<Host> {
    let config = &bundle.spec.config;
    let mut host = Host::probe()?;
    if let Some(ids) = &mut host.subordinate
        && plan::maps_are_automatic(config)
    {
        ids.ask_elsewhere();
    }
    Ok(Host {
        modules: Modules::probe(config.process().as_ref(), config.linux().as_ref()),
        kernel_views: match options.no_pivot {
            true => views::kernel_views(&bundle.rootfs)?,
            false => Vec::new(),
        },
        shows_cgroups: views::binds_that_show_cgroups(config, &bundle.path, host.euid)?,
        ..host
    })
}

/// The container's cgroups, and what is written into them.
fn cgroups(
    id: &ContainerId,
    options: &CreateOptions,
    bundle: &Bundle,
    host: &Host,
) -> Result<(CgroupPlan, Limits, Vec<Notice>)> {
    let linux = bundle.spec.config.linux().as_ref();
    let systemd = match options.cgroups {
        CgroupDriver::Systemd => Some(ask_systemd(host)?),
        CgroupDriver::Cgroupfs | CgroupDriver::Disabled => None,
    };
    CgroupPlan::resolve(
        &host.layout,
        &CgroupRequest {
            driver: options.cgroups,
            path: linux.and_then(|l| l.cgroups_path().as_deref()),
            id: id.as_str(),
            resources: linux.and_then(|l| l.resources().as_ref()),
            raw: spec::at(&bundle.spec.raw, "/linux/resources"),
            devices: linux
                .and_then(|l| l.devices().as_deref())
                .unwrap_or_default(),
            rootless: host.rootless(),
            lenient: options.rootless.unwrap_or_else(|| host.rootless()),
            systemd: systemd.as_ref(),
            annotations: bundle.spec.config.annotations().as_ref(),
        },
    )
}

impl Prepared {
    pub(super) fn told<'a>(&'a self, id: &'a ContainerId) -> Told<'a> {
        let annotations = self.bundle.spec.config.annotations().as_ref();
        Told::new(id.as_str(), &self.bundle.path, annotations)
    }

    /// The profile and the filter that the plan installs.
    pub(super) fn seccomp(&self) -> Option<(&LinuxSeccomp, &Filter)> {
        let linux = self.bundle.spec.config.linux().as_ref();
        let profile = linux.and_then(|linux| linux.seccomp().as_ref())?;
        Some((profile, self.plan.filter()?))
    }

    pub(super) fn journal(&self) -> Journal {
        Journal {
            schema: SCHEMA,
            bundle: self.bundle.path.clone(),
            rootfs: self.bundle.rootfs.clone(),
            created: humantime::format_rfc3339_nanos(SystemTime::now()).to_string(),
            owner: self.euid,
            cgroup: self.cgroup.clone(),
            rdt: self.rdt.clone(),
            hooks: self.plan.later.clone(),
            overlay_dir: self.overlay_dir.clone(),
            overlay_ids: match self.plan.overlay {
                Some(_) if self.euid != 0 => self.plan.id_maps().cloned(),
                _ => None,
            },
        }
    }

    pub(super) fn record(&self, init: Identity, enabled: Enabled) -> Record {
        let notices = self.plan.notices.iter();
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
            notices: notices.filter(|notice| !notice.unknown).cloned().collect(),
            subtree_control: enabled,
        }
    }
}
