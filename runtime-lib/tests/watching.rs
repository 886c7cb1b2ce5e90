//! What an embedder learns of a running container without a thread: descriptors to poll, counters
//! to read. Root inside tests/enclosure.sh only.

mod skips;

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use capsid_rootfs_builder::{Recipe, Source};
use capsid_runtime::cgroup::{Resource, Trigger, Waiting};
use capsid_runtime::{ContainerId, CreateOptions, Created, Event, Runtime, Seal};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};
use skips::skip;

const BASE: &str = include_str!("../../tests/harness/config.json");

/// A guard against hangs: what is waited for takes a hundredth.
const LONG: PollTimeout = PollTimeout::MAX;

struct Ground {
    folder: tempfile::TempDir,
    enclosure: String,
}

impl Ground {
    fn new(test: &str) -> Option<Ground> {
        let enclosure = std::env::var("CAPSID_ENCLOSURE").ok();
        let Some(enclosure) = enclosure.filter(|_| nix::unistd::geteuid().is_root()) else {
            return skip(test, "not root inside tests/enclosure.sh: use `make test`");
        };
        let folder = tempfile::tempdir().unwrap();
        Recipe::new(Source::Busybox)
            .rootfs(&folder.path().join("rootfs"))
            .unwrap();
        Some(Ground { folder, enclosure })
    }

    /// A container that runs a shell script.
    fn started(&self, script: &str) -> Created {
        let name = format!("watching-{}", std::process::id());
        let mut config: Value = serde_json::from_str(BASE).unwrap();
        config["root"]["path"] = json!(self.folder.path().join("rootfs"));
        config["linux"]["cgroupsPath"] = json!(format!("{}/{name}", self.enclosure));
        config["process"]["args"] = json!(["sh", "-c", script]);
        let bundle = self.folder.path().join(&name);
        std::fs::create_dir_all(&bundle).unwrap();
        std::fs::write(bundle.join("config.json"), config.to_string()).unwrap();
        let options = CreateOptions {
            bundle,
            ..CreateOptions::default()
        };
        let runtime = Runtime::new(self.folder.path().join("state"));
        let id = ContainerId::new(&name).unwrap();
        runtime.run(&id, &options, &Seal::AlreadySealed).unwrap()
    }
}

fn ready(fd: BorrowedFd<'_>, flags: PollFlags, timeout: PollTimeout) -> Option<PollFlags> {
    let mut polled = [PollFd::new(fd, flags)];
    match poll(&mut polled, timeout).unwrap() {
        0 => None,
        _ => polled[0].revents(),
    }
}

#[test]
fn a_container_is_watched_by_descriptors_alone() {
    let test = "a_container_is_watched_by_descriptors_alone";
    let Some(ground) = Ground::new(test) else {
        return;
    };
    // More that want to run than there are processors.
    let busy = "for i in 1 2 3 4 5 6 7 8; do (while :; do :; done) & done; wait";
    let created = ground.started(busy);
    let container = &created.container;

    let first = container.stats().unwrap();
    let mut events = container.events().unwrap();
    assert_eq!(
        ready(events.as_fd(), PollFlags::POLLIN, PollTimeout::ZERO),
        None
    );
    assert_eq!(events.take().unwrap(), []);

    let trigger = Trigger {
        resource: Resource::Cpu,
        waiting: Waiting::Some,
        stall: Duration::from_millis(50),
        // Not everybody who is root has CAP_SYS_RESOURCE.
        window: Duration::from_secs(2),
    };
    match container.pressure(&trigger) {
        Ok(pressure) => {
            let told = ready(pressure.as_fd(), PollFlags::POLLPRI, LONG).unwrap();
            assert!(told.contains(PollFlags::POLLPRI), "{told:?}");
            let absurd = Trigger {
                window: Duration::from_secs(3600),
                ..trigger
            };
            let refused = container.pressure(&absurd).unwrap_err();
            assert_eq!(refused.tail(), "invalid argument");
        }
        Err(error) if !std::path::Path::new("/proc/pressure").exists() => {
            assert_eq!(error.tail(), "pressure is not counted here");
        }
        Err(error) => panic!("{error}"),
    }
    let second = container.stats().unwrap();
    assert!(second.cpu.usage.total >= first.cpu.usage.total);

    container.kill(9, false).unwrap();
    assert!(ready(events.as_fd(), PollFlags::POLLIN, LONG).is_some());
    assert_eq!(events.take().unwrap(), [Event::Stopped]);
    assert_eq!(events.take().unwrap(), []);
    created.process.wait().unwrap();
    assert!(container.events().is_err() && container.stats().is_err());
    created.container.delete(false).unwrap();
}
