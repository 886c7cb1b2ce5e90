//! The root filesystem from the inherited mount tree to the pivot: propagation, the root
//! itself, mounts, /dev, sysctls, masks, and what becomes read-only at the end. It decides
//! only the order; what each mount looks like is the business of [`super::mounts`].

use std::path::{Path, PathBuf};

use super::cgroups::{JoinTurn, join};
use super::draft::{c_string, target};
use super::mounts::{Scene, Wanted};
use super::{OverlayDirectories, Plan, process};
use crate::error::{Code, Error, Result};
use crate::step::{Attributes, OverlayMount, Root, Step};

/// `rootfsPropagation`: the propagation, and whether all below the root gets it as well.
const PROPAGATION: [(&str, u64, bool); 8] = [
    ("shared", libc::MS_SHARED, false),
    ("rshared", libc::MS_SHARED, true),
    ("slave", libc::MS_SLAVE, false),
    ("rslave", libc::MS_SLAVE, true),
    ("private", libc::MS_PRIVATE, false),
    ("rprivate", libc::MS_PRIVATE, true),
    ("unbindable", libc::MS_UNBINDABLE, false),
    ("runbindable", libc::MS_UNBINDABLE, true),
];

/// Propagation, and whether it holds for all below as well.
type Propagation = (u64, bool);

impl Scene<'_> {
    /// The whole root filesystem, up to the pivot.
    pub(super) fn rootfs(&self, plan: &mut Plan) -> Result<()> {
        let entries = self.config.mounts().as_deref().unwrap_or_default();
        let mut mounts = entries
            .iter()
            .enumerate()
            .map(|(n, entry)| Wanted::parse(entry, n, plan))
            .collect::<Result<Vec<_>>>()?;
        let mut at_end = Vec::new();
        let propagation = self.propagation()?;
        let turn = self.join_turn(&mounts);
        self.inherit(propagation, plan)?;
        let root = self.root(plan)?;
        plan.step_for(Step::OpenRoot(root), "/root/path");
        if turn == JoinTurn::First {
            join(self.request.cgroup, plan);
            self.namespaces.unshare_cgroup(plan);
        }
        for wanted in &mut mounts {
            if !wanted.shows_cgroups() {
                self.mount(wanted, plan, &mut at_end)?;
            } else if turn == JoinTurn::First {
                self.mount_cgroups(wanted, plan)?;
            }
        }
        self.devices(&mounts, plan)?;
        process::sysctls(self.config, plan)?;
        self.working_directory(plan)?;
        self.terminal(plan);
        if turn == JoinTurn::BeforeMasks {
            self.join_cgroups(&mounts, plan)?;
        }
        self.hide(plan)?;
        if turn == JoinTurn::Last {
            self.join_cgroups(&mounts, plan)?;
        }
        for (step, pointer) in at_end {
            plan.step_for(step, pointer);
        }
        self.read_only_root(plan)?;
        self.enter_root(propagation, plan)
    }

    fn propagation(&self) -> Result<Option<Propagation>> {
        let linux = self.config.linux().as_ref();
        let word = linux.and_then(|linux| linux.rootfs_propagation().as_deref());
        let Some(word) = word.filter(|word| !word.is_empty()) else {
            return Ok(None);
        };
        let pointer = "/linux/rootfsPropagation";
        let found = PROPAGATION.iter().find(|(known, ..)| *known == word);
        let Some(&(_, propagation, recursive)) = found else {
            let tail = format!("rootfsPropagation={word} is not supported");
            return Err(Error::new(Code::InvalidConfig, tail).at(pointer));
        };
        if self.request.options.no_pivot && propagation == libc::MS_PRIVATE {
            let tail = "rootfsPropagation of [r]private is not safe without pivot_root";
            return Err(Error::new(Code::InvalidConfig, tail).at(pointer));
        }
        Ok(Some((propagation, recursive)))
    }

    /// Cuts the inherited tree off from the host. A shared root keeps the host's propagation,
    /// so that a shared volume stays shared; then only the mount below the root is cut off.
    fn inherit(&self, propagation: Option<Propagation>, plan: &mut Plan) -> Result<()> {
        let pointer = "/linux/rootfsPropagation";
        let propagation = match propagation {
            None => {
                let propagation = libc::MS_SLAVE;
                plan.step(Step::PropagateAll { propagation });
                return Ok(());
            }
            Some((propagation @ libc::MS_SHARED, _)) => {
                plan.step_for(Step::PropagateAll { propagation }, pointer);
                let ancestors = self.request.rootfs.ancestors();
                let candidates = ancestors
                    .map(|path| c_string(path.to_string_lossy().into_owned(), "/root/path"))
                    .collect::<Result<_>>()?;
                plan.step_for(Step::PrivateParent { candidates }, pointer);
                return Ok(());
            }
            // What can't be bound can't become the root: that waits for the end.
            Some((libc::MS_UNBINDABLE, _)) => libc::MS_SLAVE,
            Some((propagation, _)) => propagation,
        };
        plan.step_for(Step::PropagateAll { propagation }, pointer);
        Ok(())
    }

    fn root(&self, plan: &mut Plan) -> Result<Root> {
        let name = |path: &Path| c_string(path.to_string_lossy().into_owned(), "/root/path");
        let path = name(self.request.rootfs)?;
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
                .map(|path| name(path))
                .collect::<Result<_>>()?,
            upper: name(&directories.upper)?,
            work: name(&directories.work)?,
            userxattr: self.namespaces.other_user() || self.host.own_ids.is_some(),
        };
        plan.overlay = Some(directories);
        Ok(Root::Overlay { path, overlay })
    }

    /// The working directory is made while the root can be written.
    fn working_directory(&self, plan: &mut Plan) -> Result<()> {
        let Some(process) = self.config.process() else {
            return Ok(());
        };
        let (path, pointer) = process::cwd(process, "/process")?;
        let target = target(&path.to_string_lossy(), &pointer)?;
        if !target.prefixes.is_empty() {
            plan.step_for(Step::MakeDirectory(target), pointer);
        }
        Ok(())
    }

    fn terminal(&self, plan: &mut Plan) {
        let process = self.config.process().as_ref();
        if let Some(terminal) = process.and_then(|process| process::terminal(process, true)) {
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
            plan.step_for(Step::Mask(target(path, &pointer)?), pointer);
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

    fn enter_root(&self, propagation: Option<Propagation>, plan: &mut Plan) -> Result<()> {
        plan.step(match self.request.options.no_pivot {
            true => Step::MoveRoot,
            false => Step::PivotRoot,
        });
        if let Some((propagation, recursive)) = propagation {
            let step = Step::PropagateRoot {
                propagation,
                recursive,
            };
            plan.step_for(step, "/linux/rootfsPropagation");
        }
        Ok(())
    }
}
