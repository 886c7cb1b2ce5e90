//! A bundle whose config.json starts as `runc spec` writes it, without a terminal and without the ambient
//! capabilities that it can't have (they draw a warning), and is changed by JSON pointer. It is written when a container is made of it, with that container's cgroup.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Stage, machine};

pub struct Bundle {
    pub folder: PathBuf,
    pub config: Value,
}

impl Bundle {
    pub fn new(folder: &Path, rootfs: &Path) -> Bundle {
        std::fs::create_dir_all(folder).expect("a bundle folder");
        let mut config: Value =
            serde_json::from_str(include_str!("config.json")).expect("the base config");
        config["root"]["path"] = json!(rootfs);
        Bundle {
            folder: folder.to_owned(),
            config,
        }
    }

    pub fn args(&mut self, args: &[&str]) -> &mut Bundle {
        self.set("/process/args", json!(args))
    }

    pub fn sh(&mut self, script: &str) -> &mut Bundle {
        self.args(&["/bin/sh", "-c", script])
    }

    /// Runs until it is killed; ends with status 0 on SIGTERM.
    pub fn sleeps(&mut self) -> &mut Bundle {
        self.sh("trap 'exit 0' TERM; while :; do sleep 600 & wait $!; done")
    }

    /// Sets the value at a JSON pointer; the objects on the way are made.
    #[track_caller]
    pub fn set(&mut self, pointer: &str, value: Value) -> &mut Bundle {
        let mut place = &mut self.config;
        for key in pointer.split('/').skip(1) {
            place = match key.parse::<usize>() {
                Ok(index) if place.is_array() => &mut place[index],
                _ => &mut place[key.replace("~1", "/")],
            };
        }
        *place = value;
        self
    }

    #[track_caller]
    pub fn push(&mut self, pointer: &str, value: Value) -> &mut Bundle {
        match self.config.pointer_mut(pointer) {
            Some(Value::Array(list)) => list.push(value),
            _ => return self.set(pointer, json!([value])),
        }
        self
    }

    #[track_caller]
    pub fn remove(&mut self, pointer: &str) -> &mut Bundle {
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        match self.config.pointer_mut(parent) {
            Some(Value::Object(map)) => drop(map.remove(key)),
            Some(Value::Array(list)) => drop(list.remove(key.parse().expect("an index"))),
            _ => panic!("no {pointer}"),
        }
        self
    }

    /// Gives the places where missing mount points are made to root of a user namespace that maps it to
    /// 100000.
    pub fn give_to_mapped_root(&self) {
        let root = self.folder.join("rootfs");
        for folder in [root.clone(), root.join("etc"), root.join("mnt")] {
            std::os::unix::fs::chown(folder, Some(100_000), Some(100_000)).expect("chown");
        }
    }

    pub fn mount(
        &mut self,
        destination: &str,
        kind: &str,
        source: &str,
        options: &[&str],
    ) -> &mut Bundle {
        self.push(
            "/mounts",
            json!({"destination": destination, "type": kind, "source": source, "options": options}),
        )
    }

    pub fn bind(&mut self, source: &Path, destination: &str, options: &[&str]) -> &mut Bundle {
        self.mount(
            destination,
            "bind",
            &source.to_string_lossy(),
            &[&["bind"], options].concat(),
        )
    }

    /// Adds a namespace, or gives the one that is there a path to join.
    pub fn namespace(&mut self, kind: &str, path: Option<&str>) -> &mut Bundle {
        self.without_namespace(kind);
        let entry = path.map_or(
            json!({"type": kind}),
            |path| json!({"type": kind, "path": path}),
        );
        self.push("/linux/namespaces", entry)
    }

    pub fn without_namespace(&mut self, kind: &str) -> &mut Bundle {
        if let Some(Value::Array(list)) = self.config.pointer_mut("/linux/namespaces") {
            list.retain(|namespace| namespace["type"] != kind);
        }
        self
    }

    /// A user namespace in which container ids 0..size are host ids from `first` on.
    pub fn user_namespace(&mut self, first: u32, size: u32) -> &mut Bundle {
        let map = json!([{"containerID": 0, "hostID": first, "size": size}]);
        self.namespace("user", None)
            .set("/linux/uidMappings", map.clone())
            .set("/linux/gidMappings", map)
    }

    /// The five capability sets, all equal.
    pub fn capabilities(&mut self, names: &[&str]) -> &mut Bundle {
        for set in [
            "bounding",
            "effective",
            "inheritable",
            "permitted",
            "ambient",
        ] {
            self.set(&format!("/process/capabilities/{set}"), json!(names));
        }
        self
    }

    /// Writes config.json for the container `id`.
    pub fn write(&self, id: &str) {
        let mut config = self.config.clone();
        if config.pointer("/linux/cgroupsPath") == Some(&json!("ENCLOSURE")) {
            config["linux"]["cgroupsPath"] = match machine::systemd() {
                true => json!(format!("system.slice:test:{id}")),
                false => json!(Stage::cgroups_path(id)),
            };
        }
        let text = serde_json::to_string_pretty(&config).expect("JSON");
        std::fs::write(self.folder.join("config.json"), text).expect("config.json");
    }
}
