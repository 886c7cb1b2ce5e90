//! The child never allocates: containers of many kinds, made under an allocator that ends a
//! child which does ([`crate::sys::allocations`]). Root inside tests/enclosure.sh only.

#[path = "../../tests/skips/mod.rs"]
mod skips;

use std::os::fd::AsFd;
use std::path::PathBuf;

use capsid_rootfs_builder::{Recipe, Source};
use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use serde_json::{Value, json};

use crate::sys::allocations::STATUS;
use crate::sys::process::{Born, Clone, clone3, exit};
use crate::{ContainerId, CreateOptions, Created, ExecOptions, Overlay, Result, Runtime, Seal};

pub(super) use skips::skip;

const BASE: &str = include_str!("../../../tests/harness/config.json");

/// A state root and a bundle, gone with all containers at the end.
struct Place {
    folder: tempfile::TempDir,
    cgroup: String,
    runtime: Runtime,
}

impl Place {
    fn new(test: &str) -> Option<Place> {
        let enclosure = std::env::var("CAPSID_ENCLOSURE").ok();
        let Some(enclosure) = enclosure.filter(|_| nix::unistd::geteuid().is_root()) else {
            return skip(test, "not root inside tests/enclosure.sh: use `make test`");
        };
        let folder = tempfile::tempdir().unwrap();
        Recipe::new(Source::Busybox)
            .rootfs(&folder.path().join("rootfs"))
            .unwrap();
        Some(Place {
            cgroup: format!("{enclosure}/{test}-{}", std::process::id()),
            runtime: Runtime::new(folder.path().join("state")),
            folder,
        })
    }

    fn rootfs(&self) -> PathBuf {
        self.folder.path().join("rootfs")
    }

    fn options(&self, change: impl Fn(&mut Value, &Place)) -> CreateOptions {
        let mut config: Value = serde_json::from_str(BASE).unwrap();
        config["root"]["path"] = json!(self.rootfs());
        config["linux"]["cgroupsPath"] = json!(self.cgroup);
        config["process"]["args"] = json!(["sleep", "600"]);
        change(&mut config, self);
        std::fs::write(self.folder.path().join("config.json"), config.to_string()).unwrap();
        CreateOptions {
            bundle: self.folder.path().to_owned(),
            ..CreateOptions::default()
        }
    }

    /// Create, start, two execs, delete.
    fn lives(&self, options: &CreateOptions) -> Result<()> {
        let id = ContainerId::new("allocations")?;
        let made = self
            .runtime
            .create(&id, options, &Seal::AlreadySealed)
            .and_then(|created| self.uses(&created).map(|()| created));
        self.runtime.delete(&id, true)?;
        made?.process.wait().map(drop)
    }

    fn uses(&self, created: &Created) -> Result<()> {
        created.container.start(&Seal::AlreadySealed)?;
        for terminal in [false, true] {
            let mut process = created.container.process()?;
            process.set_terminal(Some(terminal));
            process.set_args(Some(vec![
                "sh".to_owned(),
                "-c".to_owned(),
                "exit 7".to_owned(),
            ]));
            let options = ExecOptions {
                process,
                pointer: "/process",
                ..ExecOptions::default()
            };
            let exec = created.container.exec(&options, &Seal::AlreadySealed)?;
            assert_eq!(exec.wait()?.code(), 7);
        }
        let mounts = created.container.mounts();
        for (fstype, source) in [("tmpfs", "none"), ("bind", "/usr")] {
            let mut mount = oci_spec::runtime::Mount::default();
            mount
                .set_destination("/tmp".into())
                .set_typ(Some(fstype.to_owned()))
                .set_source(Some(source.into()))
                .set_options(Some(vec!["ro".to_owned(), "slave".to_owned()]));
            mounts.add(&mount)?;
            // A process that another test forks meanwhile has a copy of what shows the mount.
            let mut tries = 1..=100;
            while let Err(error) = mounts.remove(mount.destination(), crate::Detach::Unused) {
                if tries.next().is_none() || error.os_error() != Some(Errno::EBUSY) {
                    return Err(error);
                }
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
        Ok(())
    }
}

fn push(list: &mut Value, entry: Value) {
    list.as_array_mut().unwrap().push(entry);
}

fn user_namespace(config: &mut Value) {
    push(&mut config["linux"]["namespaces"], json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    config["linux"]["uidMappings"] = map.clone();
    config["linux"]["gidMappings"] = map;
}

fn writable(config: &mut Value) {
    config["root"]["readonly"] = json!(false);
}

/// A path of more than a kilobyte: what nix copies to the heap.
fn long(below: &str) -> String {
    format!("{below}{}", format!("/{}", "d".repeat(200)).repeat(7))
}

type Change = fn(&mut Value, &Place);

const KINDS: [(&str, Change); 14] = [
    ("as runc spec has it", |_, _| ()),
    ("with a terminal", |config, _| {
        config["process"]["terminal"] = json!(true);
    }),
    ("in a user namespace", |config, _| user_namespace(config)),
    ("in a user namespace with a terminal", |config, _| {
        user_namespace(config);
        config["process"]["terminal"] = json!(true);
    }),
    ("with masked and read-only paths", |config, _| {
        config["linux"]["maskedPaths"] = json!(["/proc/kcore", "/usr", "/etc/passwd", "/none"]);
        config["linux"]["readonlyPaths"] = json!(["/proc/sys", "/tmp", "/none"]);
    }),
    ("with devices", |config, _| {
        writable(config);
        config["linux"]["devices"] = json!([
            {"type": "c", "path": "/dev/kmsg2", "major": 1, "minor": 11, "fileMode": 0o640, "uid": 5, "gid": 6},
            {"type": "p", "path": "/dev/a/fifo"},
        ]);
    }),
    ("with mounts whose targets are missing", |config, place| {
        writable(config);
        let source = place.rootfs();
        for destination in ["/made/on/the/way".to_owned(), long("/tmp")] {
            push(
                &mut config["mounts"],
                json!({"destination": destination, "type": "bind", "source": source, "options": ["rbind", "ro", "rprivate"]}),
            );
        }
        push(
            &mut config["mounts"],
            json!({"destination": "/copied", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m", "mode=1777"]}),
        );
    }),
    (
        "with id-mapped, copied and linked mounts",
        |config, place| {
            writable(config);
            let link = place.folder.path().join("link");
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(long("/no"), &link).unwrap();
            let map = json!([{"containerID": 0, "hostID": 7, "size": 9}]);
            for mount in [
                json!({"destination": "/mapped", "type": "bind", "source": place.folder.path(),
                "options": ["bind", "idmap"], "uidMappings": map, "gidMappings": map}),
                json!({"destination": "/etc", "type": "tmpfs", "options": ["tmpcopyup", "size=1m"]}),
                json!({"destination": "/etc", "options": ["remount", "noexec", "size=2m"]}),
                json!({"destination": "/etc/new/link", "source": link, "options": ["bind", "copy-symlink"]}),
                json!({"destination": "/etc/new/link", "source": link, "options": ["bind", "copy-symlink"]}),
                json!({"destination": "/etc/bound", "source": link, "options": ["bind", "src-nofollow"]}),
            ] {
                push(&mut config["mounts"], mount);
            }
        },
    ),
    ("with another root over its own", |config, place| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        let root = json!({"destination": "/", "source": place.rootfs(), "options": ["rbind"]});
        mounts.insert(0, root);
    }),
    ("with long strings", |config, _| {
        writable(config);
        push(
            &mut config["mounts"],
            json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}),
        );
        config["process"]["cwd"] = json!(long("/tmp"));
        config["process"]["args"] = json!(["sh", "-c", "sleep 600", "x".repeat(5_000)]);
        push(
            &mut config["process"]["env"],
            json!(format!("LONG={}", "x".repeat(5_000))),
        );
        config["hostname"] = json!("h".repeat(64));
    }),
    ("as a user with groups and limits", |config, _| {
        config["process"]["user"] =
            json!({"uid": 1000, "gid": 1000, "umask": 0o27, "additionalGids": [5, 6, 7]});
        config["process"]["oomScoreAdj"] = json!(100);
        config["process"]["rlimits"] = json!([{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]);
    }),
    ("with sysctls and a domain name", |config, _| {
        config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "0", "kernel.shmmax": "65536"});
        config["domainname"] = json!("example");
    }),
    ("with the host's pids and shared mounts", |config, _| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "pid");
        config["linux"]["rootfsPropagation"] = json!("slave");
    }),
    ("with limits and cgroups mounted", |config, _| {
        config["linux"]["resources"] =
            json!({"pids": {"limit": 50}, "memory": {"limit": 50_000_000}});
        push(
            &mut config["mounts"],
            json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", "nosuid"]}),
        );
    }),
];

#[test]
fn no_child_of_any_kind_of_container_allocates() {
    let Some(place) = Place::new("no_child_of_any_kind_of_container_allocates") else {
        return;
    };
    for (kind, change) in KINDS {
        let mut options = place.options(change);
        place
            .lives(&options)
            .unwrap_or_else(|error| panic!("a container {kind}: {error}"));
        options.overlay = Some(Overlay::default());
        place
            .lives(&options)
            .unwrap_or_else(|error| panic!("a container {kind}, over an overlay: {error}"));
    }
}

#[test]
fn no_child_allocates_to_say_what_went_wrong() {
    let Some(place) = Place::new("no_child_allocates_to_say_what_went_wrong") else {
        return;
    };
    let failures: [(&str, Change); 6] = [
        ("no such file or directory", |config, _| {
            config["process"]["args"] = json!(["/none"]);
        }),
        ("permission denied", |config, _| {
            config["process"]["args"] = json!(["/etc"]);
        }),
        ("no such device", |config, _| {
            push(
                &mut config["mounts"],
                json!({"destination": "/tmp", "type": "nofs", "source": "x"}),
            );
        }),
        ("no space left on device", |config, _| {
            writable(config);
            push(
                &mut config["mounts"],
                json!({"destination": "/etc", "type": "tmpfs", "options": ["tmpcopyup", "nr_inodes=2"]}),
            );
        }),
        ("can't be id-mapped", |config, _| {
            let map = json!([{"containerID": 0, "hostID": 7, "size": 9}]);
            push(
                &mut config["mounts"],
                json!({"destination": "/tmp", "source": "/proc", "options": ["bind"],
                    "uidMappings": map, "gidMappings": map}),
            );
        }),
        ("read-only file system", |config, place| {
            push(
                &mut config["mounts"],
                json!({"destination": "/proc/none", "type": "bind", "source": place.rootfs(), "options": ["bind"]}),
            );
        }),
    ];
    for (what, change) in failures {
        let error = place.lives(&place.options(change)).unwrap_err().to_string();
        assert!(!error.contains(&STATUS.to_string()), "{what}: {error}");
        assert!(!error.contains("exit"), "{what}: {error}");
    }
}

#[test]
fn a_child_that_allocates_is_caught() {
    let request = Clone {
        namespaces: CloneFlags::empty(),
        cgroup: None,
        sibling: false,
    };
    match clone3(request).unwrap() {
        Born::Child => {
            let word = std::hint::black_box(String::from("on the heap"));
            exit(word.len() as i32)
        }
        Born::Parent(child) => {
            let ended = waitid(Id::PIDFd(child.pidfd.as_fd()), WaitPidFlag::WEXITED).unwrap();
            assert!(
                matches!(ended, WaitStatus::Exited(_, STATUS)),
                "{ended:?}, not exit status {STATUS}"
            );
        }
    }
}
