//! Promise: the network devices that config.json names become the container's, with their addresses and up;
//! a container that doesn't come to be leaves them on the host as they were. The devices are one end of a
//! veth pair, made in a network namespace of the test's own that plays the host.

use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Outcome, Stage, user};
use crate::{skip, stage};

/// A network namespace with devices, held by a process.
struct Net(Child);

impl Net {
    /// None where network namespaces or ip(8) can't be had.
    fn new() -> Option<Net> {
        let mut child = Command::new("unshare")
            .args(["--net", "--", "/bin/sh", "-c", "echo ready; exec sleep 600"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut ready = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut()?, &mut ready).ok()?;
        let net = Net(child);
        let made = net.sh("ip link add cap0 type veth peer name cap1 && ip link set lo up");
        (made.code == 0).then_some(net)
    }

    /// A shell in it, as the host's side of a stage; `$capsid` is the runtime.
    fn sh(&self, script: &str) -> Outcome {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.0.id()));
        Outcome::of(
            command
                .args(["--", "/bin/sh", "-c", script])
                .stdin(Stdio::null()),
        )
    }

    /// create (or run) of the bundle, by a runtime whose network is this one.
    fn capsid(
        &self,
        stage: &Stage,
        verb: &str,
        bundle: &crate::harness::Bundle,
    ) -> (String, Outcome) {
        let id = stage.id();
        bundle.write(&id);
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/proc/{}/ns/net", self.0.id()))
            .arg("--")
            .arg(&stage.runtime)
            .arg("--root")
            .arg(stage.state_root())
            .args([verb, "--bundle"])
            .arg(&bundle.folder)
            .arg(&id)
            .stdin(Stdio::null());
        (id, Outcome::of(&mut command))
    }

    /// "cap0 up 10.1.1.1/24 …", without what the kernel makes by itself.
    fn device(&self, name: &str) -> String {
        let said = self.sh(&format!(
            "ip -o addr show dev {name} scope global; ip -o link show dev {name}"
        ));
        if said.code != 0 {
            return String::new();
        }
        describe(&said.stdout, name)
    }
}

/// What `ip -o` says of a device: its name, its state, its addresses.
fn describe(text: &str, name: &str) -> String {
    let up = text
        .lines()
        .any(|line| line.contains("<") && (line.contains(",UP") || line.contains("<UP")));
    let addresses = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        words.find(|word| ["inet", "inet6"].contains(word))?;
        words.next()
    });
    let mut all: Vec<&str> = addresses.collect();
    all.sort_unstable();
    format!(
        "{name} {} {}",
        if up { "up" } else { "down" },
        all.join(" ")
    )
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The network of this test, or a skip.
macro_rules! net {
    () => {
        match Net::new() {
            Some(net) => net,
            None => skip!("no veth devices or no ip(8) here"),
        }
    };
}

/// IPv6 only where the kernel has it.
const ADDRESSES: &str = "ip addr add 10.1.1.1/24 dev cap0 && ip addr add 10.2.2.2/32 dev cap0 && \
    { [ ! -e /proc/net/if_inet6 ] || ip addr add fd00:1::1/64 dev cap0 nodad; } && \
    ip link set cap0 mtu 1400 address 02:00:00:00:00:07 && \
    ip link set cap0 up && ip link set cap1 up";

#[test]
fn a_device_is_moved_with_its_addresses_under_its_new_name_and_is_up() {
    let stage = stage!();
    let net = net!();
    net.sh(ADDRESSES).ok();
    let mut bundle = stage.bundle();
    bundle
        .set("/linux/netDevices", json!({"cap0": {"name": "net0"}}))
        .sh("ip -o addr show; ip -o link show; cat /sys/class/net/net0/mtu /sys/class/net/net0/address");
    let (_, outcome) = net.capsid(&stage, "run", &bundle);
    let text = outcome.ok().stdout;
    let lines: String = text
        .lines()
        .filter(|line| line.contains("net0"))
        .map(|l| format!("{l}\n"))
        .collect();
    let lines: String = lines
        .lines()
        .filter(|line| !line.contains("fe80"))
        .map(|l| format!("{l}\n"))
        .collect();
    let addresses = match std::path::Path::new("/proc/net/if_inet6").exists() {
        true => "net0 up 10.1.1.1/24 10.2.2.2/32 fd00:1::1/64",
        false => "net0 up 10.1.1.1/24 10.2.2.2/32",
    };
    assert_eq!(describe(&lines, "net0"), addresses, "{text}");
    assert!(text.contains("\n1400\n02:00:00:00:00:07"), "{text}");
    assert!(!text.contains("cap0"), "{text}");
}

#[test]
fn a_device_keeps_its_name_where_none_is_given_and_gets_a_number_where_one_is_asked_for() {
    let stage = stage!();
    let net = net!();
    let mut bundle = stage.bundle();
    bundle
        .set(
            "/linux/netDevices",
            json!({"cap0": {}, "cap1": {"name": "eth%d"}}),
        )
        .args(&["/bin/probe", "network"]);
    let (_, outcome) = net.capsid(&stage, "run", &bundle);
    let seen: Value = outcome.ok().json()["network"].clone();
    let names: Vec<&String> = seen.as_object().unwrap().keys().collect();
    assert_eq!(names, ["cap0", "eth0", "lo"]);
    assert_eq!(seen["eth0"]["up"], true);
}

#[test]
fn a_device_is_moved_into_a_network_namespace_that_is_joined() {
    let stage = stage!();
    let net = net!();
    let other = net!();
    let path = format!("/proc/{}/ns/net", other.0.id());
    other.sh("ip link del cap0").ok();
    let mut bundle = stage.bundle();
    bundle
        .namespace("network", Some(&path))
        .set("/linux/netDevices", json!({"cap0": {}}))
        .args(&["/bin/probe", "network"]);
    let (_, outcome) = net.capsid(&stage, "run", &bundle);
    assert_eq!(outcome.ok().json()["network"]["cap0"]["up"], true);
}

#[test]
fn a_device_is_moved_into_a_user_namespaces_network() {
    let stage = stage!();
    let net = net!();
    let mut bundle = stage.bundle();
    bundle
        .user_namespace(100_000, 65_536)
        .set("/linux/netDevices", json!({"cap0": {"name": "net0"}}))
        .args(&["/bin/probe", "network"]);
    let (_, outcome) = net.capsid(&stage, "run", &bundle);
    assert_eq!(outcome.ok().json()["network"]["net0"]["up"], true);
}

#[test]
fn a_device_that_is_not_there_is_refused_by_its_pointer_and_the_others_stay() {
    let stage = stage!();
    let net = net!();
    net.sh(ADDRESSES).ok();
    let before = net.device("cap0");
    let mut bundle = stage.bundle();
    bundle.set(
        "/linux/netDevices",
        json!({"cap0": {"name": "net0"}, "nothing": {}}),
    );
    let (_, outcome) = net.capsid(&stage, "create", &bundle);
    outcome.refuses(&[
        "/linux/netDevices/nothing",
        "find the network device nothing",
        "no such device",
    ]);
    assert_eq!(net.device("cap0"), before);
}

#[test]
fn b28_a_name_that_is_taken_in_the_container_is_refused_and_nothing_moves() {
    let stage = stage!();
    let net = net!();
    let other = net!();
    let path = format!("/proc/{}/ns/net", other.0.id());
    let mut bundle = stage.bundle();
    bundle.namespace("network", Some(&path)).set(
        "/linux/netDevices",
        json!({"cap1": {}, "cap0": {"name": "other"}}),
    );
    let (_, outcome) = net.capsid(&stage, "create", &bundle);
    outcome.refuses(&[
        "/linux/netDevices/cap1",
        "look for the name cap1",
        "file exists",
    ]);
    assert!(!net.device("cap0").is_empty() && !net.device("cap1").is_empty());
}

#[test]
fn the_devices_return_when_the_container_does_not_come_to_be() {
    let stage = stage!();
    let net = net!();
    net.sh(ADDRESSES).ok();
    let before = net.device("cap0");
    assert!(before.starts_with("cap0 up 10.1.1.1/24"), "{before}");
    let mut bundle = stage.bundle();
    bundle
        .set(
            "/linux/netDevices",
            json!({"cap0": {"name": "net0"}, "cap1": {}}),
        )
        .args(&["/bin/no-such-program"]);
    let (_, outcome) = net.capsid(&stage, "create", &bundle);
    outcome.refuses(&["no such file or directory"]);
    assert_eq!(net.device("cap0"), before);
    assert!(net.device("cap1").starts_with("cap1 up"));
}

#[test]
fn devices_of_an_ordinary_user_are_refused() {
    let stage = stage!();
    if let Some(reason) = user::obstacle() {
        skip!("{reason}");
    }
    let stage = stage.of_user();
    let mut bundle = stage.bundle();
    bundle
        .remove("/linux/cgroupsPath")
        .set("/linux/netDevices", json!({"cap0": {}}));
    stage.try_create(&bundle).refuses(&[
        "/linux/netDevices/cap0",
        "network devices are not supported for rootless containers",
    ]);
}
