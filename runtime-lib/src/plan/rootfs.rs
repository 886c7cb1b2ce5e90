//! The root filesystem from the inherited mount tree to the pivot: propagation, the root
//! itself, mounts, /dev, sysctls, masks, and what becomes read-only at the end. It decides
//! only the order; what each mount looks like is the business of [`super::mounts`].

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;

use super::cgroups::JoinTurn;
use super::draft::{c_string, target};
use super::mount_options;
use super::namespaces::Namespaces;
use super::wanted::Wanted;
use super::{CreateRequest, OverlayDirectories, Plan, Planned, hooks, process};
use oci_spec::runtime::Spec;

use crate::error::{Code, Error, Result};
use crate::host::Host;
use crate::step::{Attributes, OverlayMount, Root, Step};

/// Propagation, and whether it holds for all below as well.
type Propagation = (u64, bool);

const PROPAGATION_POINTER: &str = "/linux/rootfsPropagation";

/// What the stages of the root filesystem share.
pub(super) struct Scene<'a> {
    pub config: &'a Spec,
    pub host: &'a Host,
    pub request: &'a CreateRequest<'a>,
    pub namespaces: &'a Namespaces,
}

impl Scene<'_> {
    /// What the child may reach only as long as it has the ids of its privileged creator.
    pub(super) fn reach_root(&self, root: &Root, plan: &mut Plan) {
        if self.namespaces.other_user() && self.host.has(caps::Capability::CAP_SYS_ADMIN) {
            plan.step_for(Step::ReachRoot(root.clone()), "/root/path");
        }
    }

    /// The whole root filesystem, up to the pivot.
    pub(super) fn rootfs(&self, root: Root, plan: &mut Plan) -> Result<()> {
        if !self.namespaces.private(CloneFlags::CLONE_NEWNS) {
            return self.unmounted_root(plan);
        }
        let entries = self.config.mounts().as_deref().unwrap_or_default();
        let mut mounts = entries
            .iter()
            .enumerate()
            .map(|(n, entry)| Wanted::parse(entry, format!("/mounts/{n}"), plan))
            .collect::<Result<Vec<_>>>()?;
        let turn = match self.join_turn(&mounts) {
            // They look for the container's cgroups.
            JoinTurn::Last if hooks::before_start(self.config) => JoinTurn::BeforeMasks,
            turn => turn,
        };
        let propagation = self.propagation()?;
        let mut at_end = Vec::new();

        self.inherit(propagation, plan)?;
        plan.step_for(Step::OpenRoot(root), "/root/path");
        if turn == JoinTurn::First {
            self.join_cgroups(plan);
        }
        for wanted in &mut mounts {
            match wanted.shows_cgroups() {
                true if turn == JoinTurn::First => self.mount_cgroups(wanted, plan)?,
                true => {}
                false => self.mount(wanted, plan, &mut at_end)?,
            }
        }
        self.lxcfs(&mounts, plan)?;
        self.devices(&mounts, plan)?;
        process::sysctls(self.config, plan)?;
        self.working_directory(plan)?;
        self.terminal(plan);
        if turn == JoinTurn::BeforeMasks {
            self.join_and_mount_cgroups(&mounts, plan)?;
        }
        plan.hooks(self.config);
        self.hide(plan)?;
        if turn == JoinTurn::Last {
            self.join_and_mount_cgroups(&mounts, plan)?;
        }
        for (step, pointer) in at_end {
            plan.step_for(step, pointer);
        }
        self.read_only_root(plan)?;
        self.enter_root(propagation, plan);
        Ok(())
    }

    fn join_and_mount_cgroups(&self, mounts: &[Wanted], plan: &mut Plan) -> Result<()> {
        self.join_cgroups(plan);
        let shown = mounts.iter().filter(|wanted| wanted.shows_cgroups());
        shown
            .into_iter()
            .try_for_each(|wanted| self.mount_cgroups(wanted, plan))
    }

    fn propagation(&self) -> Result<Option<Propagation>> {
        let linux = self.config.linux().as_ref();
        let word = linux.and_then(|linux| linux.rootfs_propagation().as_deref());
        // What no word means has been refused by then.
        let Some((propagation, recursive)) = word.and_then(mount_options::propagation) else {
            return Ok(None);
        };
        if self.request.options.no_pivot && propagation == libc::MS_PRIVATE {
            let tail = "rootfsPropagation of [r]private is not safe without pivot_root";
            return Err(Error::new(Code::InvalidConfig, tail).at(PROPAGATION_POINTER));
        }
        Ok(Some((propagation, recursive)))
    }

    /// Cuts the inherited tree off from the host. A shared root keeps the host's propagation,
    /// so that a shared volume stays shared; then the mount below the root is cut off alone.
    fn inherit(&self, wanted: Option<Propagation>, plan: &mut Plan) -> Result<()> {
        let pointer = wanted.map(|_| PROPAGATION_POINTER.to_owned());
        let mut step = |step| {
            plan.steps.push(Planned {
                step,
                pointer: pointer.clone(),
            })
        };
        let propagation = inherited(wanted);
        step(Step::PropagateAll { propagation });
        if propagation == libc::MS_SHARED {
            let ancestors = self.request.rootfs.ancestors();
            let candidates = ancestors.map(root_path).collect::<Result<_>>()?;
            step(Step::PrivateParent { candidates });
        }
        Ok(())
    }

    /// What a clone of the host's own mounts gets that nobody asked for as such: where the
    /// root keeps the host's propagation, mounts on it would reach the host.
    pub(super) fn cut_off(&self, mut attributes: Attributes) -> Attributes {
        let shared = matches!(self.propagation().map(inherited), Ok(libc::MS_SHARED));
        if shared && attributes.propagation | attributes.recursive_propagation == 0 {
            attributes.recursive_propagation = libc::MS_PRIVATE;
        }
        attributes
    }

    /// The propagation of a source that the parent opens, as if the child had inherited it:
    /// in a user namespace's mount namespace what is shared becomes a slave.
    pub(super) fn tree_propagation(&self) -> u64 {
        match self.propagation().map(inherited) {
            Ok(libc::MS_PRIVATE) => libc::MS_PRIVATE,
            _ => libc::MS_SLAVE,
        }
    }

    /// The root filesystem itself: the bundle's, or an overlay on it.
    pub(super) fn root(&self, plan: &mut Plan) -> Result<Root> {
        let path = root_path(self.request.rootfs)?;
        let Some(overlay) = &self.request.options.overlay else {
            return Ok(Root::Bind { path });
        };
        let own = self.request.state_dir.join("overlay");
        let kept = overlay.keep.as_ref().unwrap_or(&own);
        let directories = OverlayDirectories {
            upper: kept.join("upper"),
            work: kept.join("work"),
            owner: self.namespaces.root_on_host(),
        };
        let rootfs = [self.request.rootfs.to_path_buf()];
        let lower: &[PathBuf] = match overlay.lower.as_slice() {
            [] => &rootfs,
            given => given,
        };
        let overlay = OverlayMount {
            lower: lower
                .iter()
                .rev()
                .map(|path| root_path(path))
                .collect::<Result<_>>()?,
            upper: root_path(&directories.upper)?,
            work: root_path(&directories.work)?,
            userxattr: self.namespaces.other_user() || self.host.own_ids.is_some(),
        };
        plan.overlay = Some(directories);
        Ok(Root::Overlay { path, overlay })
    }

    /// The working directory is made while the root can be written.
    pub(super) fn working_directory(&self, plan: &mut Plan) -> Result<()> {
        let Some(process) = self.config.process() else {
            return Ok(());
        };
        let (target, pointer) = process::cwd(process, "/process")?;
        if !target.is_root() {
            plan.step_for(Step::MakeDirectory(target), pointer);
        }
        Ok(())
    }

    fn terminal(&self, plan: &mut Plan) {
        let process = self.config.process().as_ref();
        if let Some(mut terminal) = process.and_then(|process| process::terminal(process, true)) {
            let asked = self.request.options.console_size.and_then(|ask| ask());
            terminal.size = asked.or(terminal.size);
            plan.step_for(Step::Terminal(terminal), "/process/terminal");
        }
    }

    /// Masked paths, then read-only ones.
    fn hide(&self, plan: &mut Plan) -> Result<()> {
        let linux = self.config.linux().as_ref();
        let masked = linux.and_then(|linux| linux.masked_paths().as_deref());
        let readonly = linux.and_then(|linux| linux.readonly_paths().as_deref());
        for (n, path) in masked.unwrap_or_default().iter().enumerate() {
            let pointer = format!("/linux/maskedPaths/{n}");
            let target = target(path, &pointer)?;
            if target.is_root() {
                let text = "the root itself can't be masked, and is not: mask what lies in it";
                plan.note(pointer, text);
                continue;
            }
            let label = None;
            plan.step_for(Step::Mask { target, label }, pointer);
        }
        for (n, path) in readonly.unwrap_or_default().iter().enumerate() {
            let pointer = format!("/linux/readonlyPaths/{n}");
            plan.step_for(Step::ReadOnlyPath(target(path, &pointer)?), pointer);
        }
        Ok(())
    }

    fn read_only_root(&self, plan: &mut Plan) -> Result<()> {
        let root = self.config.root().as_ref();
        if root.and_then(|root| root.readonly()).unwrap_or(false) {
            let step = Step::Attributes {
                target: target("/", "/root/readonly")?,
                attributes: Attributes {
                    set: libc::MOUNT_ATTR_RDONLY,
                    ..Attributes::default()
                },
            };
            plan.step_for(step, "/root/readonly");
        }
        Ok(())
    }

    fn enter_root(&self, propagation: Option<Propagation>, plan: &mut Plan) {
        plan.step(match self.request.options.no_pivot {
            true => Step::MoveRoot {
                kernel_views: self.host.kernel_views.clone(),
            },
            false => Step::PivotRoot,
        });
        match propagation {
            // Everything is private since the beginning, but for what a mount has asked for.
            None | Some((libc::MS_PRIVATE, _)) => {}
            Some((propagation, recursive)) => {
                let step = Step::PropagateRoot {
                    propagation,
                    recursive,
                };
                plan.step_for(step, PROPAGATION_POINTER);
            }
        }
    }
}

/// What the inherited tree gets. What can't be bound can't become the root: that waits.
fn inherited(wanted: Option<Propagation>) -> u64 {
    match wanted {
        None | Some((libc::MS_UNBINDABLE, _)) => libc::MS_SLAVE,
        Some((propagation, _)) => propagation,
    }
}

pub(super) fn root_path(path: &Path) -> Result<CString> {
    c_string(path.as_os_str().as_bytes(), "/root/path")
}
