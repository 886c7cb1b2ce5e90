//! A pure v1 or a pure v2 cgroup layout on whatever host this is: a private mount
//! namespace in which only the wanted hierarchies are bound over /sys/fs/cgroup.
//! crun refuses a hybrid host, and figures of a hybrid host compare with nothing.
//! It must not unmount or remount anything of the host.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result};
use clap::ValueEnum;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use crate::hierarchy::{CGROUP_ROOT, Hierarchy, Version};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum View {
    V1,
    V2,
}

impl View {
    pub const ALL: [View; 2] = [View::V1, View::V2];

    pub fn name(self) -> &'static str {
        match self {
            View::V1 => "v1",
            View::V2 => "v2",
        }
    }
}

/// A view that is in force for the calling thread until it is dropped.
pub struct Entered {
    pub view: View,
    /// The directories below /sys/fs/cgroup; one empty name for v2.
    pub hierarchies: Vec<Hierarchy>,
    outside: fs::File,
}

impl Entered {
    /// Enters the view, or says why this host cannot show it. `mounts` is an
    /// existing directory; what is mounted on it is seen in this view only.
    pub fn enter(view: View, mounts: &Path) -> Result<Result<Entered, String>> {
        let all = Hierarchy::all()?;
        let version = match view {
            View::V1 => Version::V1,
            View::V2 => Version::V2,
        };
        let hierarchies: Vec<_> = all.into_iter().filter(|h| h.version == version).collect();
        if hierarchies.is_empty() {
            return Ok(Err(format!(
                "no cgroup {} hierarchy is mounted here",
                view.name()
            )));
        }
        let outside = fs::File::open("/proc/self/ns/mnt").context("open /proc/self/ns/mnt")?;
        unshare(CloneFlags::CLONE_NEWNS).context("unshare(CLONE_NEWNS)")?;
        let mut entered = Entered {
            view,
            hierarchies,
            outside,
        };
        entered.arrange(mounts)?;
        Ok(Ok(entered))
    }

    fn arrange(&mut self, mounts: &Path) -> Result<()> {
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
            .context("make mounts private")?;
        mount(
            Some("tmpfs"),
            mounts,
            Some("tmpfs"),
            MsFlags::empty(),
            Some("mode=755"),
        )
        .context("mount a tmpfs")?;
        match self.view {
            View::V1 => self.arrange_v1(&mounts.join("cgroup")),
            View::V2 => self.arrange_v2(),
        }
    }

    fn arrange_v1(&self, stage: &Path) -> Result<()> {
        fs::create_dir(stage)?;
        mount(
            Some("cgroup"),
            stage,
            Some("tmpfs"),
            MsFlags::empty(),
            Some("mode=755"),
        )
        .context("mount a tmpfs")?;
        for hierarchy in &self.hierarchies {
            let place = stage.join(hierarchy.name());
            fs::create_dir(&place)?;
            bind(&hierarchy.mount, &place)?;
        }
        // cpu -> cpu,cpuacct and the like.
        for entry in fs::read_dir(CGROUP_ROOT)?.flatten() {
            if let Ok(target) = fs::read_link(entry.path()) {
                symlink(target, stage.join(entry.file_name()))?;
            }
        }
        let none: Option<&str> = None;
        mount(Some(stage), CGROUP_ROOT, none, MsFlags::MS_MOVE, none)
            .context("move the v1 view into place")
    }

    fn arrange_v2(&mut self) -> Result<()> {
        self.hierarchies.truncate(1);
        for hierarchy in &mut self.hierarchies {
            if hierarchy.mount != Path::new(CGROUP_ROOT) {
                bind(&hierarchy.mount, Path::new(CGROUP_ROOT))?;
                hierarchy.mount = CGROUP_ROOT.into();
            }
        }
        Ok(())
    }

    /// Whether containers of this view can have a memory limit.
    pub fn has_memory(&self) -> bool {
        match self.view {
            View::V1 => Path::new(CGROUP_ROOT)
                .join("memory/memory.limit_in_bytes")
                .exists(),
            View::V2 => fs::read_to_string(Path::new(CGROUP_ROOT).join("cgroup.controllers"))
                .is_ok_and(|controllers| controllers.split_whitespace().any(|c| c == "memory")),
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        // Its mounts go with the namespace. A failure would show in the next view.
        let _ = setns(&self.outside, CloneFlags::CLONE_NEWNS);
    }
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    let none: Option<&str> = None;
    mount(Some(from), to, none, MsFlags::MS_BIND, none)
        .with_context(|| format!("bind {} on {}", from.display(), to.display()))
}
