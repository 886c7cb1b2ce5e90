//! What containers share with the machine and each other, in Docker's words, which are Podman's too.

use crate::boxes::Boxes;
use crate::harness::{Outcome, until};
use crate::session::program;

pub fn a_published_port_is_reached(boxes: &Boxes) {
    let script = "mkdir /www; echo content >/www/page; exec httpd -f -p 80 -h /www";
    let running = boxes.running(&["--publish", "127.0.0.1::80"], script);
    let port = running.inspect(r#"{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}"#);
    let mut places = vec![format!("127.0.0.1:{port}")];
    if !boxes.is_users() {
        // Only root's bridge has addresses that the machine reaches.
        places.push(running.inspect("{{.NetworkSettings.IPAddress}}"));
    }
    for place in places {
        let url = format!("http://{place}/page");
        until("the page is served", || {
            Outcome::of(&mut program("curl", &["--silent", &url])).stdout == "content\n"
        });
    }
}

pub fn network_none_host_and_another_containers(boxes: &Boxes) {
    boxes
        .runs(&["--network", "none"], "ls /sys/class/net")
        .ok()
        .prints("lo\n");
    let own = std::fs::read_link("/proc/self/ns/net").expect("a namespace");
    boxes
        .runs(
            &["--network", "host"],
            "readlink /proc/self/ns/net; hostname",
        )
        .ok()
        .prints(&own.to_string_lossy());
    let running = boxes.sleeps(&[]);
    let theirs = running.exec(&[], &["readlink", "/proc/self/ns/net"]).ok();
    boxes
        .runs(
            &["--network", &format!("container:{}", running.name)],
            "readlink /proc/self/ns/net",
        )
        .ok()
        .prints(theirs.line());
}

pub fn volumes_and_binds_keep_what_is_written(boxes: &Boxes) {
    boxes
        .runs(&["--volume", "vol:/data"], "echo kept >/data/file")
        .ok();
    boxes
        .runs(
            &["--volume", "vol:/data:ro"],
            "cat /data/file; touch /data/new 2>&1",
        )
        .exits(1)
        .prints("kept\n")
        .prints("Read-only file system");
    boxes.call(&["volume", "rm", "vol"]).ok();
    let given = boxes.folder("given");
    boxes.folder("given/below");
    boxes
        .runs(
            &["--volume", &format!("{given}:/given")],
            "echo x >/given/below/file",
        )
        .ok();
    assert_eq!(
        std::fs::read_to_string(format!("{given}/below/file")).expect("the file"),
        "x\n"
    );
    boxes.runs(&["--mount", &format!("type=bind,src={given},dst=/given,readonly,bind-propagation=rslave")], "cat /given/below/file; grep -q ' /given .* master:' /proc/self/mountinfo; touch /given/x").exits(1).prints("x\n");
    // What the image has in the volume's place is in the volume.
    boxes
        .runs(
            &["--volume", "/etc"],
            "cat /etc/passwd; grep ' /etc ' /proc/self/mountinfo",
        )
        .ok()
        .prints("root:")
        .prints(" /etc ");
}

pub fn the_hosts_name_and_its_ipc_are_shared(boxes: &Boxes) {
    let script = "for kind in uts ipc; do readlink /proc/self/ns/$kind; done";
    let of = |kind| std::fs::read_link(format!("/proc/self/ns/{kind}")).expect("a namespace");
    let own = ["uts", "ipc"].map(|kind| of(kind).display().to_string());
    // Podman hands /dev/mqueue on to an ordinary user, which is not mounted here.
    let options = ["--uts", "host", "--ipc", "host"];
    let kinds = if boxes.is_users() { 1 } else { 2 };
    let shared = boxes.runs(&options[..2 * kinds], script).ok().stdout;
    let shared: Vec<bool> = shared
        .lines()
        .zip(&own)
        .map(|(line, own)| line == own)
        .collect();
    assert_eq!(shared, [true, kinds == 2]);
    let alone = boxes.runs(&[], script).ok().stdout;
    assert!(
        alone.lines().zip(&own).all(|(line, own)| line != own),
        "{alone}"
    );
}

pub fn pid_and_ipc_of_another_container(boxes: &Boxes) {
    let running = boxes.sleeps(&["--ipc", "shareable"]);
    let other = format!("container:{}", running.name);
    running.exec(&[], &["touch", "/dev/shm/shared"]).ok();
    boxes
        .runs(&["--pid", &other, "--ipc", &other], "ps; ls /dev/shm")
        .ok()
        .prints("sleep 600")
        .prints("shared");
    boxes
        .runs(
            &["--pid", "host"],
            "readlink /proc/1/exe; readlink /proc/self/ns/pid",
        )
        .prints(
            &std::fs::read_link("/proc/self/ns/pid")
                .expect("a namespace")
                .to_string_lossy(),
        );
    if boxes.is_users() {
        return; // Without cgroups nobody knows what it leaves behind.
    }
    // Without a pid namespace of its own, what it leaves behind is ended with it.
    boxes.runs(&["--pid", "host"], "sleep 617 & exit 0").ok();
    until("what it left is ended", || {
        Outcome::of(&mut program("pgrep", &["-f", "^sleep 617"])).code == 1
    });
}

pub fn mounts_go_in_and_out_as_asked(boxes: &Boxes) {
    let folder = boxes.folder("spread");
    for place in ["theirs", "ours"] {
        boxes.folder(&format!("spread/{place}"));
    }
    let (theirs, ours) = (format!("{folder}/theirs"), format!("{folder}/ours"));
    let calls = |words: &[&str]| Outcome::of(&mut program(words[0], &words[1..])).ok();
    let script = "mount -t tmpfs inside /spread/theirs; echo ready; exec sleep 600";
    // What is mounted outside later is seen inside; what is mounted inside, outside.
    for (kind, is_out) in [("rslave", false), ("rshared", true)] {
        let bind = format!("type=bind,src={folder},dst=/spread,bind-propagation={kind}");
        let running = boxes.running(&["--cap-add=SYS_ADMIN", "--mount", &bind], script);
        running.says("ready");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        calls(&["mount", "-t", "tmpfs", "outside", &ours]);
        let seen = running.exec(&[], &["cat", "/proc/self/mountinfo"]).ok();
        calls(&["umount", &ours]);
        // An ordinary user's Podman shares none with the machine.
        let is_out = is_out && !boxes.is_users();
        if is_out {
            calls(&["umount", &theirs]);
        }
        assert_eq!(mounts.contains(&format!("{theirs} ")), is_out, "{kind}");
        assert!(seen.stdout.contains(" /spread/ours "), "{kind}: {seen}");
    }
}

pub fn a_folder_bound_on_a_file_is_refused(boxes: &Boxes) {
    let volume = format!("{}:/bin/probe", boxes.folder("bound"));
    let outcome = boxes.runs(&["--volume", &volume], "true");
    let advice = boxes.is_podman() || outcome.stderr.contains("(or vice-versa)?");
    assert!(
        outcome.code != 0 && advice && outcome.stderr.to_lowercase().contains("not a directory"),
        "{outcome}"
    );
}
