//! What a container of a pod sees, may and gets: users, volumes, limits, statistics.

use super::{Cri, Inside, POD, POD_NAMESPACES, SLEEPS, options};
use crate::grpc::Message;
use crate::harness::{Outcome, until};
use crate::session::program;

pub(super) fn an_update_leaves_the_devices_alone(cri: &Cri) {
    let pod = cri.pod();
    let resources =
        |shares: u64, memory: u64| Message::default().number(3, shares).number(4, memory);
    let made = pod.try_starts(
        &["sh", "-c", SLEEPS],
        &resources(512, 64 << 20),
        Message::default(),
        &|config| config,
    );
    let inside = made.unwrap_or_else(|text| panic!("{text}"));
    inside.says("ready");
    let limits = |inside: &Inside<'_>| {
        let script = "cd /sys/fs/cgroup; cat cpu/cpu.shares memory/memory.limit_in_bytes; echo x >/dev/null && head -c 1 /dev/zero >/dev/null && echo devices";
        inside.probe(&["sh", "-c", script]).1.replace('\n', " ")
    };
    assert_eq!(limits(&inside), "512 67108864 devices ");
    cri.asks(
        "UpdateContainerResources",
        &Message::default()
            .text(1, &inside.id)
            .message(2, &resources(300, 32 << 20)),
    );
    assert_eq!(limits(&inside), "300 33554432 devices ");
}

pub(super) fn stats_count_what_a_container_uses(cri: &Cri) {
    let pod = cri.pod();
    let inside = pod.sleeps();
    let mut used = (0, 0);
    until("both are counted", || {
        let stats = cri
            .asks("ContainerStats", &Message::default().text(1, &inside.id))
            .message(1);
        assert_eq!(stats.message(1).text(1), inside.id);
        let of = |field: u64| stats.message(field).message(2).number(1);
        used = (of(2), of(3));
        used.0 > 0 && used.1 > 0
    });
    // Nanoseconds and bytes of a shell that waits.
    assert!(used.0 < 60_000_000_000 && used.1 < 256 << 20, "{used:?}");
}

pub(super) fn users_capabilities_and_a_read_only_root(cri: &Cri) {
    let pod = cri.pod();
    let user = Message::default().number(1, 1000);
    let capabilities = Message::default().texts(2, &["ALL"]);
    let context = Message::default()
        .message(1, &capabilities)
        .message(5, &user)
        .number(7, 1)
        .number(11, 1);
    let script =
        "id -u; touch /tmp/new 2>&1; grep -E 'CapBnd|NoNewPrivs' /proc/self/status; exec sleep 600";
    let made = pod.try_starts(
        &["sh", "-c", script],
        &Message::default(),
        context,
        &|config| config,
    );
    let inside = made.unwrap_or_else(|text| panic!("{text}"));
    for text in [
        "F 1000",
        "Read-only file system",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
    ] {
        inside.says(text);
    }
    assert_eq!(inside.probe(&["id", "-u"]).1, "1000\n");
}

pub(super) fn groups_a_filter_a_device_and_masks_arrive(cri: &Cri) {
    const RUNTIME_DEFAULT: u64 = 0;
    let filter = Message::default().number(1, RUNTIME_DEFAULT);
    let context = Message::default()
        .message(5, &Message::default().number(1, 1000))
        .message(12, &Message::default().number(1, 2000))
        .number(8, 3000)
        .texts(13, &["/etc/passwd"])
        .texts(14, &["/proc/sys"])
        .message(15, &filter);
    let device = Message::default()
        .text(1, "/dev/given")
        .text(2, "/dev/full")
        .text(3, "r");
    let resources = Message::default().number(5, 500).text(6, "0");
    let script = "id -u; id -g; id -G; wc -c </etc/passwd; grep Seccomp: /proc/self/status; \
        cat /proc/self/oom_score_adj /sys/fs/cgroup/cpuset/cpuset.cpus; \
        echo $(head -c 3 /dev/given | wc -c) read; grep -c ' /proc/sys ro,' /proc/self/mountinfo; exec sleep 600";
    let pod = cri.pod();
    let made = pod.try_starts(&["sh", "-c", script], &resources, context, &|config| {
        config.message(8, &device)
    });
    let inside = made.unwrap_or_else(|text| panic!("{text}"));
    let lines = [
        "1000",
        "2000",
        "2000 3000",
        "0",
        "Seccomp:\t2",
        "500",
        "0",
        "3 read",
        "1",
    ];
    for text in lines {
        inside.says(&format!("F {text}\n"));
    }
}

pub(super) fn a_volume_and_the_environment_arrive(cri: &Cri) {
    std::fs::create_dir_all("/run/given").expect("a folder");
    std::fs::write("/run/given/file", "content\n").expect("a file");
    let volume = Message::default()
        .text(1, "/given")
        .text(2, "/run/given")
        .number(3, 1);
    let variable = Message::default().text(1, "A").text(2, "b c");
    let pod = cri.pod();
    let script = "pwd; echo \"$A\"; cat file; touch new 2>&1";
    let made = pod.try_starts(
        &["sh", "-c", script],
        &Message::default(),
        Message::default(),
        &|config| {
            config
                .text(5, "/given")
                .message(6, &variable)
                .message(7, &volume)
        },
    );
    let inside = made.unwrap_or_else(|text| panic!("{text}"));
    for text in ["F /given", "F b c", "F content", "Read-only file system"] {
        inside.says(text);
    }
}

pub(super) fn settings_of_the_kernel_are_the_pods(cri: &Cri) {
    let settings = [("net.ipv4.ip_default_ttl", "77"), ("kernel.shmmni", "99")];
    let all = |config: Message| {
        let setting =
            |(name, value): &(&str, &str)| Message::default().text(1, name).text(2, value);
        let with = |linux: Message, pair| linux.message(3, &setting(pair));
        config.message(8, &settings.iter().fold(Message::default(), with))
    };
    let pod = cri.try_pod_with("", options(POD_NAMESPACES), &all);
    let pod = pod.unwrap_or_else(|text| panic!("{text}"));
    let files = settings.map(|(name, _)| format!("/proc/sys/{}", name.replace('.', "/")));
    let values = pod.sleeps().probe(&["cat", &files[0], &files[1]]);
    assert_eq!(values, (0, "77\n99\n".to_owned()));
}

pub(super) fn mounts_go_in_and_out_as_asked(cri: &Cri) {
    const HOST_TO_CONTAINER: u64 = 1;
    const BIDIRECTIONAL: u64 = 2;
    for place in ["theirs", "ours"] {
        std::fs::create_dir_all(format!("/run/spread/{place}")).expect("a folder");
    }
    let calls = |words: &[&str]| Outcome::of(&mut program(words[0], &words[1..])).ok();
    let capability = Message::default().texts(1, &["SYS_ADMIN"]);
    let pod = cri.pod();
    let script = "mount -t tmpfs inside /spread/theirs; echo ready; exec sleep 600";
    for (propagation, out) in [(HOST_TO_CONTAINER, false), (BIDIRECTIONAL, true)] {
        let volume = Message::default()
            .text(1, "/spread")
            .text(2, "/run/spread")
            .number(5, propagation);
        let context = Message::default().message(1, &capability);
        let none = Message::default();
        let made = pod.try_starts(&["sh", "-c", script], &none, context, &|config| {
            config.message(7, &volume)
        });
        let inside = made.unwrap_or_else(|text| panic!("{text}"));
        inside.says("F ready");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        assert_eq!(mounts.contains("/run/spread/theirs "), out);
        calls(&["mount", "-t", "tmpfs", "outside", "/run/spread/ours"]);
        let seen = inside.probe(&["grep", " /spread/ours ", "/proc/self/mountinfo"]);
        assert_eq!(seen.0, 0, "{propagation}");
        calls(&["umount", "/run/spread/ours"]);
    }
    calls(&["umount", "/run/spread/theirs"]);
}

pub(super) fn more_memory_than_allowed_is_told(cri: &Cri) {
    let pod = cri.pod();
    let resources = Message::default().number(4, 20 << 20);
    // containerd listens for it when the runtime's start has returned: who is killed before that was not seen.
    let script = "until [ -e /tmp/go ]; do sleep 0.1; done; exec tail /dev/zero";
    let made = pod.try_starts(
        &["sh", "-c", script],
        &resources,
        Message::default(),
        &|config| config,
    );
    let inside = made.unwrap_or_else(|text| panic!("{text}"));
    inside.probe(&["touch", "/tmp/go"]);
    assert_eq!(inside.ends(), (137, "OOMKilled".to_owned()));
}

pub(super) fn a_pod_has_its_own_user_namespace(cri: &Cri) {
    let map = |first: u64| {
        Message::default()
            .number(1, first)
            .number(2, 0)
            .number(3, 65536)
    };
    let namespace = Message::default()
        .number(1, POD)
        .message(2, &map(100_000))
        .message(3, &map(100_000));
    let pod = cri
        .try_pod_with(
            "",
            options(POD_NAMESPACES).message(5, &namespace),
            &|config| config,
        )
        .unwrap_or_else(|text| panic!("{text}"));
    let (_, map) = pod.sleeps().probe(&["cat", "/proc/self/uid_map"]);
    let map: Vec<&str> = map.split_whitespace().collect();
    assert_eq!(
        map,
        ["0", "100000", "65536"],
        "error: this containerd takes a pod's user namespace and gives it none (1.7 is the first that has them)"
    );
}
