//! One view, furnished: the bundles, state roots and pid files of all contenders
//! on the view's tmpfs. It must not measure.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::bundle::{Bundle, write_rootfs};
use crate::contender::Contender;
use crate::home::clear_tree;
use crate::stopwatch::{Stopwatch, reap_orphans};
use crate::view::{Entered, View};

pub struct Site {
    entered: Entered,
    base: PathBuf,
    /// The benchmark's cgroup, below which the containers' are.
    cgroup: String,
    pub stopwatch: Stopwatch,
}

impl Site {
    /// Furnishes a view that was entered with `base` as its tmpfs.
    pub fn furnish(
        entered: Entered,
        base: &Path,
        cgroup: &str,
        stopwatch: &Path,
        guest: &Path,
    ) -> Result<Site> {
        let site = Site {
            entered,
            base: base.to_owned(),
            cgroup: cgroup.to_owned(),
            stopwatch: Stopwatch {
                program: stopwatch.to_owned(),
                stderr: base.join("stderr"),
            },
        };
        write_rootfs(&site.rootfs(), guest)?;
        Ok(site)
    }

    pub fn view(&self) -> View {
        self.entered.view
    }

    pub fn has_memory(&self) -> bool {
        self.entered.has_memory()
    }

    pub fn rootfs(&self) -> PathBuf {
        self.base.join("rootfs")
    }

    pub fn root(&self, contender: &Contender) -> PathBuf {
        self.base.join("root").join(&contender.name)
    }

    pub fn bundle(&self, contender: &Contender, id: &str) -> PathBuf {
        self.base.join("bundle").join(&contender.name).join(id)
    }

    pub fn pid_file(&self, contender: &Contender) -> PathBuf {
        self.base.join(format!("{}.pid", contender.name))
    }

    /// A file of the measuring process itself.
    pub fn file(&self, name: &str) -> PathBuf {
        self.base.join(name)
    }

    pub fn cgroups_path(&self, contender: &Contender, id: &str) -> String {
        format!("{}/{}-{id}", self.cgroup, contender.name)
    }

    /// The benchmark's own cgroups.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let hierarchies = self.entered.hierarchies.iter();
        hierarchies
            .map(|h| h.mount.join(self.cgroup.trim_start_matches('/')))
            .collect()
    }

    /// The hierarchies' names as the floor program takes them.
    pub fn hierarchies(&self) -> String {
        let names: Vec<String> = self.entered.hierarchies.iter().map(|h| h.name()).collect();
        names.join(":")
    }

    /// Writes the bundle of container `id`.
    pub fn write_bundle(
        &self,
        contender: &Contender,
        id: &str,
        program: &str,
        memory_limit: Option<u64>,
    ) -> Result<()> {
        let bundle = Bundle {
            view: self.view(),
            rootfs: &self.rootfs(),
            program,
            cgroups_path: &self.cgroups_path(contender, id),
            memory_limit,
        };
        bundle.write(&self.bundle(contender, id))
    }

    /// Gives the bundle of container `id` a seccomp profile, which is JSON.
    pub fn add_seccomp(&self, contender: &Contender, id: &str, profile: &str) -> Result<()> {
        let path = self.bundle(contender, id).join("config.json");
        let mut config: Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
        config["linux"]["seccomp"] = serde_json::from_str(profile)?;
        fs::write(&path, config.to_string()).context("write config.json")
    }

    /// Makes of the bundle of container `id` what dockerd writes, as far as every contender and view can have it:
    /// with its own arguments, cgroup and resources, and without what dockerd binds from its own folders.
    pub fn like_docker(
        &self,
        contender: &Contender,
        id: &str,
        config: &str,
        profile: &str,
    ) -> Result<()> {
        let path = self.bundle(contender, id).join("config.json");
        let own: Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
        let mut config: Value = serde_json::from_str(config)?;
        for key in ["ociVersion", "root"] {
            config[key] = own[key].clone();
        }
        config["process"]["args"] = own["process"]["args"].clone();
        for key in ["cgroupsPath", "resources", "namespaces"] {
            config["linux"][key] = own["linux"][key].clone();
        }
        config["linux"]["seccomp"] = serde_json::from_str(profile)?;
        config["process"]["terminal"] = Value::Bool(false);
        if let Some(process) = config["process"].as_object_mut() {
            process.remove("consoleSize");
            process.remove("apparmorProfile");
        }
        if let Some(mounts) = config["mounts"].as_array_mut() {
            mounts.retain(|mount| mount["type"] != "bind");
        }
        fs::write(&path, config.to_string()).context("write config.json")
    }

    /// Removes whatever a failed command left of container `id`, so that the next
    /// one starts from nothing.
    pub fn clear(&self, contender: &Contender, id: &str) -> Result<()> {
        if !contender.is_floor() {
            // It may well fail: the container may not exist, the runtime may be what is broken.
            let _ = self
                .stopwatch
                .time(&contender.verb(self, &["delete", "--force", id]));
        }
        let cgroups = self.cgroups_path(contender, id);
        let directories = self
            .entered
            .hierarchies
            .iter()
            .map(|h| h.mount.join(cgroups.trim_start_matches('/')));
        for directory in directories {
            clear_tree(&directory, reap_orphans)?;
        }
        let state = self.root(contender).join(id);
        if state.exists() {
            fs::remove_dir_all(&state).with_context(|| format!("remove {}", state.display()))?;
        }
        Ok(())
    }
}
