//! A container without a mount namespace: its root is entered by chroot(2), and nothing is
//! mounted, because every mount would be the host's too. What needs one is refused.

use super::Plan;
use super::process;
use super::rootfs::{Scene, root_path};
use crate::error::{Code, Error, Result};
use crate::step::{Root, Step};

impl Scene<'_> {
    pub(super) fn unmounted_root(&self, plan: &mut Plan) -> Result<()> {
        if let Some((pointer, what)) = self.needs_mounts() {
            let tail = format!("{what} a mount namespace");
            return Err(Error::new(Code::InvalidConfig, tail)
                .at(pointer)
                .hint("without a mount namespace they would be mounts of the host"));
        }
        let text = "there is no mount namespace: nothing is mounted, and chroot(2) does not keep \
                    a process with CAP_SYS_CHROOT inside";
        plan.note("/linux/namespaces", text);
        let path = root_path(self.request.rootfs)?;
        plan.step_for(Step::OpenRoot(Root::Directory { path }), "/root/path");
        self.devices(&[], plan)?;
        process::sysctls(self.config, plan)?;
        self.working_directory(plan)?;
        self.join_cgroups(plan);
        plan.hooks(self.config);
        plan.step(Step::EnterRoot);
        Ok(())
    }

    /// The first setting that can't be had without a mount.
    fn needs_mounts(&self) -> Option<(&'static str, &'static str)> {
        let linux = self.config.linux().as_ref();
        let root = self.config.root().as_ref();
        let process = self.config.process().as_ref();
        let mounts = self.config.mounts().as_deref().unwrap_or_default();
        let options = self.request.options;
        let propagation = linux.and_then(|linux| linux.rootfs_propagation().as_deref());
        let asked = [
            (!mounts.is_empty(), "/mounts", "mounts need"),
            (
                root.and_then(|root| root.readonly()) == Some(true),
                "/root/readonly",
                "a read-only root needs",
            ),
            (
                propagation.is_some(),
                "/linux/rootfsPropagation",
                "the propagation of the root needs",
            ),
            (
                process.is_some_and(|process| process::terminal(process, true).is_some()),
                "/process/terminal",
                "a terminal needs",
            ),
            (
                self.namespaces.other_user() || !self.host.may_make_devices(),
                "/linux/namespaces",
                "a container whose devices are bound from the host needs",
            ),
            (options.overlay.is_some(), "", "an overlay root needs"),
            (self.request.lxcfs.is_some(), "", "lxcfs needs"),
        ];
        let found = asked.into_iter().find(|(asks, ..)| *asks);
        found.map(|(_, pointer, what)| (pointer, what))
    }
}
