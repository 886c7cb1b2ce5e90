//! containerd as a kubelet drives it, over the Container Runtime Interface: pods, their containers, probes, logs.
//! The numbers are those of the fields in its runtime.v1.

use std::cell::{Cell, RefCell};
use std::path::Path;

use crate::channels::Channels;
use crate::containerd::{self, Daemon};
use crate::docs::snippet;
use crate::goods::IMAGE;
use crate::grpc::{Answer, Message, call};
use crate::harness::{Outcome, until};
use crate::left;
use crate::session::{Begin, program, tail};

const BUSYBOX: &str = "docker.io/test/busybox:1";

/// What a pod shares when nothing is said, and what each of its containers has alone.
const POD: u64 = 0;
const CONTAINER: u64 = 1;

/// A pod network of the session's own.
const NETWORK: &str = r#"{"cniVersion": "0.4.0", "name": "pods", "type": "bridge", "bridge": "cni0", "isGateway": true,
  "ipam": {"type": "host-local", "subnet": "10.77.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]}}"#;

const SLEEPS: &str = "trap 'exit 5' TERM; echo ready; while :; do sleep 600 & wait $!; done";

pub struct Cri {
    daemon: RefCell<Daemon>,
    runtime: String,
    next: Cell<u32>,
}

engine! { ENGINE, "containerd-cri", Cri, ["containerd", "ctr", "umoci", "curl"],
    a_container_of_a_pod_runs_and_ends_with_its_status
    a_program_that_is_not_there_is_the_reason
    the_handler_of_a_runtime_class_is_found
    containers_of_a_pod_share_its_namespaces
    a_pod_may_share_its_pid_namespace
    a_probe_has_its_status_and_output
    a_probe_that_takes_too_long_is_ended
    exec_streams_its_output_and_its_status
    exec_streams_a_terminal_with_its_keys_and_its_size
    attach_streams_to_and_from_what_runs
    attach_streams_a_terminal
    logs_are_written_to_the_pods_folder
    a_log_is_rotated_while_it_is_written
    stop_signals_and_then_kills
    an_update_leaves_the_devices_alone
    stats_count_what_a_container_uses
    users_capabilities_and_a_read_only_root
    a_volume_and_the_environment_arrive
    more_memory_than_allowed_is_told
    a_pod_has_its_own_user_namespace
    pods_outlive_their_daemon
    nothing_is_left_of_the_pods
}

impl Begin for Cri {
    fn begin(runtime: &str) -> Cri {
        for folder in ["/etc/cni/net.d", "/opt/cni", "/run/pods"] {
            std::fs::create_dir_all(folder).expect("a folder");
        }
        std::fs::write("/etc/cni/net.d/10-pods.conf", NETWORK).expect("a network");
        std::os::unix::fs::symlink("/usr/lib/cni", "/opt/cni/bin").expect("a link");
        let daemon = RefCell::new(Daemon::start(runtime));
        let ctr = |args: &[&str]| {
            Outcome::of(&mut program(
                "ctr",
                &[&["--namespace", "k8s.io"], args].concat(),
            ))
            .ok()
        };
        ctr(&[
            "image",
            "import",
            "--base-name",
            "docker.io/test/busybox",
            IMAGE,
        ]);
        // The name that this containerd takes for a pod's first container.
        let defaults = Outcome::of(&mut program("containerd", &["config", "default"]))
            .ok()
            .stdout;
        let pause = defaults
            .lines()
            .find_map(|line| line.trim().strip_prefix("sandbox_image = "));
        ctr(&[
            "image",
            "tag",
            "docker.io/test/busybox:pause",
            pause.expect("an image").trim_matches('"'),
        ]);
        let engine = Cri {
            daemon,
            runtime: runtime.to_owned(),
            next: Cell::new(0),
        };
        until("a pod can be made", || {
            match engine.try_pod("", POD_NAMESPACES) {
                Ok(_) => true,
                Err(text) if text.contains("not initialized") || text.contains("no such file") => {
                    false
                }
                Err(text) => panic!("{text}"),
            }
        });
        engine
    }

    fn said(&self) -> String {
        tail(containerd::LOG)
    }
}

/// Network, pid, ipc.
const POD_NAMESPACES: [u64; 3] = [POD, CONTAINER, POD];

impl Cri {
    fn calls(&self, method: &str, request: &Message) -> Result<Answer, String> {
        call(
            containerd::SOCKET,
            &format!("runtime.v1.RuntimeService/{method}"),
            request,
        )
    }

    #[track_caller]
    fn asks(&self, method: &str, request: &Message) -> Answer {
        self.calls(method, request)
            .unwrap_or_else(|text| panic!("{method}: {text}"))
    }

    fn name(&self) -> String {
        self.next.set(self.next.get() + 1);
        format!("p{}", self.next.get())
    }

    fn try_pod(&self, handler: &str, namespaces: [u64; 3]) -> Result<Pod<'_>, String> {
        self.try_pod_with(handler, options(namespaces))
    }

    fn try_pod_with(&self, handler: &str, options: Message) -> Result<Pod<'_>, String> {
        let name = self.name();
        let folder = format!("/run/pods/{name}");
        let metadata = Message::default()
            .text(1, &name)
            .text(2, &name)
            .text(3, "default")
            .number(4, 0);
        let linux = Message::default()
            .text(1, "/pods")
            .message(2, &Message::default().message(1, &options));
        let config = Message::default()
            .message(1, &metadata)
            .text(2, &name)
            .text(3, &folder)
            .message(8, &linux);
        let answer = self.calls(
            "RunPodSandbox",
            &Message::default().message(1, &config).text(2, handler),
        )?;
        Ok(Pod {
            cri: self,
            id: answer.text(1),
            name,
            folder,
            config,
            options,
        })
    }

    fn pod(&self) -> Pod<'_> {
        self.try_pod("", POD_NAMESPACES)
            .unwrap_or_else(|text| panic!("a pod: {text}"))
    }
}

fn options(namespaces: [u64; 3]) -> Message {
    let [network, pid, ipc] = namespaces;
    Message::default()
        .number(1, network)
        .number(2, pid)
        .number(3, ipc)
}

/// Stdin, and a terminal.
fn interactive(config: Message) -> Message {
    config.number(12, 1).number(14, 1)
}

/// It is stopped and removed when it goes, with its containers.
struct Pod<'a> {
    cri: &'a Cri,
    id: String,
    name: String,
    folder: String,
    config: Message,
    /// Its namespaces.
    options: Message,
}

impl<'a> Pod<'a> {
    /// A container that runs this script, with these resources, this security context, and these other settings.
    fn try_starts(
        &self,
        script: &[&str],
        resources: &Message,
        context: Message,
        other: &dyn Fn(Message) -> Message,
    ) -> Result<Inside<'a>, String> {
        let name = self.cri.name();
        let context = context.message(3, &self.options);
        let linux = Message::default()
            .message(1, resources)
            .message(2, &context);
        let log = format!("{name}.log");
        let config = Message::default()
            .message(1, &Message::default().text(1, &name))
            .message(2, &Message::default().text(1, BUSYBOX))
            .texts(3, script);
        let config = other(config).text(11, &log).message(15, &linux);
        let request = Message::default()
            .text(1, &self.id)
            .message(2, &config)
            .message(3, &self.config);
        let id = self.cri.calls("CreateContainer", &request)?.text(1);
        self.cri
            .calls("StartContainer", &Message::default().text(1, &id))?;
        Ok(Inside {
            cri: self.cri,
            id,
            log: format!("{}/{log}", self.folder),
        })
    }

    fn starts(&self, script: &str) -> Inside<'a> {
        let made = self.try_starts(
            &["sh", "-c", script],
            &Message::default(),
            Message::default(),
            &|config| config,
        );
        made.unwrap_or_else(|text| panic!("a container: {text}"))
    }

    fn sleeps(&self) -> Inside<'a> {
        let inside = self.starts(SLEEPS);
        inside.says("ready");
        inside
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        let id = Message::default().text(1, &self.id);
        let _ = self.cri.calls("StopPodSandbox", &id);
        let _ = self.cri.calls("RemovePodSandbox", &id);
    }
}

struct Inside<'a> {
    cri: &'a Cri,
    id: String,
    log: String,
}

impl Inside<'_> {
    /// The status and the output of a probe.
    fn probe(&self, words: &[&str]) -> (u64, String) {
        let answer = self.cri.asks(
            "ExecSync",
            &Message::default()
                .text(1, &self.id)
                .texts(2, words)
                .number(3, 50),
        );
        (answer.number(3), answer.text(1))
    }

    /// The channels of a command; with a terminal, stderr is none of them.
    fn exec(&self, words: &[&str], terminal: bool) -> Channels {
        let request = Message::default()
            .text(1, &self.id)
            .texts(2, words)
            .number(3, terminal.into())
            .number(4, 1)
            .number(5, 1)
            .number(6, (!terminal).into());
        Channels::open(&self.cri.asks("Exec", &request).text(1))
    }

    fn attach(&self, terminal: bool) -> Channels {
        let request = Message::default()
            .text(1, &self.id)
            .number(2, 1)
            .number(3, terminal.into())
            .number(4, 1)
            .number(5, (!terminal).into());
        Channels::open(&self.cri.asks("Attach", &request).text(1))
    }

    fn stops(&self, seconds: u64) {
        let request = Message::default().text(1, &self.id).number(2, seconds);
        self.cri.asks("StopContainer", &request);
    }

    fn status(&self) -> Answer {
        self.cri
            .asks("ContainerStatus", &Message::default().text(1, &self.id))
            .message(1)
    }

    /// Waits for the end, and says the exit code and the reason.
    fn ends(&self) -> (u64, String) {
        const EXITED: u64 = 2;
        until("the container has ended", || {
            self.status().number(3) == EXITED
        });
        let status = self.status();
        (status.number(7), status.text(10))
    }

    fn says(&self, text: &str) {
        until(&format!("the log has {text:?}"), || {
            std::fs::read_to_string(&self.log).is_ok_and(|log| log.contains(text))
        });
    }
}

fn a_container_of_a_pod_runs_and_ends_with_its_status(cri: &Cri) {
    let pod = cri.pod();
    assert_eq!(pod.starts("exit 7").ends(), (7, "Error".to_owned()));
    assert_eq!(pod.starts("exit 0").ends(), (0, "Completed".to_owned()));
}

fn a_program_that_is_not_there_is_the_reason(cri: &Cri) {
    let pod = cri.pod();
    let made = pod.try_starts(
        &["nosuch"],
        &Message::default(),
        Message::default(),
        &|config| config,
    );
    let text = made.err().expect("an error");
    assert!(
        text.contains("executable file not found in $PATH"),
        "{text}"
    );
}

fn the_handler_of_a_runtime_class_is_found(cri: &Cri) {
    // What the page's RuntimeClass hands to the kubelet.
    let class = snippet("runtime class", &cri.runtime);
    let handler = class
        .lines()
        .find_map(|line| line.strip_prefix("handler: "));
    let pod = cri.try_pod(handler.expect("a handler"), POD_NAMESPACES);
    pod.unwrap_or_else(|text| panic!("{text}"))
        .starts("exit 3")
        .ends();
    let text = cri
        .try_pod("nosuch", POD_NAMESPACES)
        .err()
        .expect("an error");
    assert!(text.contains("nosuch"), "{text}");
}

fn containers_of_a_pod_share_its_namespaces(cri: &Cri) {
    let pod = cri.pod();
    let (first, second) = (pod.sleeps(), pod.sleeps());
    for (kind, shared) in [
        ("net", true),
        ("ipc", true),
        ("uts", true),
        ("pid", false),
        ("mnt", false),
    ] {
        let of =
            |inside: &Inside<'_>| inside.probe(&["readlink", &format!("/proc/self/ns/{kind}")]);
        assert_eq!(of(&first) == of(&second), shared, "{kind}");
    }
    assert_eq!(first.probe(&["hostname"]), (0, format!("{}\n", pod.name)));
    first.probe(&["sh", "-c", "echo shared >/dev/shm/file"]);
    assert_eq!(second.probe(&["cat", "/dev/shm/file"]).1, "shared\n");
    let (_, addresses) = second.probe(&["ip", "address", "show", "dev", "eth0"]);
    assert!(addresses.contains("10.77.0."), "{addresses}");
}

fn a_pod_may_share_its_pid_namespace(cri: &Cri) {
    let pod = cri
        .try_pod("", [POD, POD, POD])
        .unwrap_or_else(|text| panic!("{text}"));
    let (first, second) = (pod.sleeps(), pod.sleeps());
    let (_, list) = second.probe(&["ps"]);
    assert!(
        list.contains("sleep 86400") && list.matches("sleep 600").count() >= 2,
        "{list}"
    );
    // Whoever is stopped takes only its own along.
    first.stops(30);
    let (_, list) = second.probe(&["ps"]);
    assert!(
        list.contains("sleep 600") && list.contains("sleep 86400"),
        "{list}"
    );
}

fn a_probe_has_its_status_and_output(cri: &Cri) {
    let pod = cri.pod();
    let inside = pod.sleeps();
    assert_eq!(
        inside.probe(&["sh", "-c", "echo out; exit 3"]),
        (3, "out\n".to_owned())
    );
    for _ in 0..5 {
        assert_eq!(inside.probe(&["true"]).0, 0);
    }
}

fn a_probe_that_takes_too_long_is_ended(cri: &Cri) {
    let pod = cri.pod();
    let inside = pod.sleeps();
    let request = Message::default()
        .text(1, &inside.id)
        .texts(2, &["sleep", "613"])
        .number(3, 1);
    let text = cri.calls("ExecSync", &request).err().expect("an error");
    assert!(
        text.contains("timeout") || text.contains("exceeded"),
        "{text}"
    );
    let (_, list) = inside.probe(&["ps"]);
    assert!(!list.contains("sleep 613"), "{list}");
}

fn exec_streams_its_output_and_its_status(cri: &Cri) {
    let pod = cri.pod();
    let inside = pod.sleeps();
    let script = "read line; echo \"<$line>\"; echo err >&2; exit 3";
    let mut channels = inside.exec(&["sh", "-c", script], false);
    channels.types("typed\n");
    let shown = channels.ends();
    assert_eq!(
        (shown.stdout.as_str(), shown.stderr.as_str()),
        ("<typed>\n", "err\n")
    );
    assert_eq!(shown.status(), 3);
    assert_eq!(inside.exec(&["true"], false).ends().status(), 0);
    let shown = inside.exec(&["nosuch"], false).ends();
    assert!(
        shown.verdict.contains("executable file not found in $PATH"),
        "{shown:?}"
    );
}

/// Waits for a terminal of 31 lines with 97 columns, and says its size and name.
const LOOKS: &str = "n=0; until [ \"$(stty size)\" = '31 97' ] || [ $n = 99 ]; do n=$((n+1)); sleep 0.05; done; stty size; tty";

fn exec_streams_a_terminal_with_its_keys_and_its_size(cri: &Cri) {
    let pod = cri.pod();
    let inside = pod.sleeps();
    let script = format!("read line; echo \"<$line>\"; {LOOKS}; exit 4");
    let mut channels = inside.exec(&["sh", "-c", &script], true);
    channels.types("typed\n");
    channels.shows("<typed>");
    channels.resizes(97, 31);
    channels.shows("31 97\r\n");
    channels.shows("/dev/pts/");
    assert_eq!(channels.ends().status(), 4);
    // The interrupt key is the terminal's.
    let mut channels = inside.exec(&["sh", "-c", "echo ready; exec sleep 600"], true);
    channels.shows("ready");
    channels.types("\x03");
    assert_eq!(channels.ends().status(), 130);
}

fn attach_streams_to_and_from_what_runs(cri: &Cri) {
    let pod = cri.pod();
    let script = "echo ready; while read line; do echo \"<$line>\"; done; exit 6";
    let made = pod.try_starts(
        &["sh", "-c", script],
        &Message::default(),
        Message::default(),
        &|config| config.number(12, 1),
    );
    let inside = made.unwrap_or_else(|text| panic!("{text}"));
    inside.says("ready");
    // Who goes away takes nothing along, and the next one finds it as it was.
    for word in ["one", "two"] {
        let mut channels = inside.attach(false);
        channels.types(&format!("{word}\n"));
        channels.shows(&format!("<{word}>\n"));
    }
    inside.says("F <two>");
    let channels = inside.attach(false);
    inside.stops(0);
    channels.ends();
    assert_eq!(inside.ends().0, 137);
}

fn attach_streams_a_terminal(cri: &Cri) {
    let pod = cri.pod();
    let script = format!("read line; echo \"<$line>\"; {LOOKS}; exit 6");
    let made = pod.try_starts(
        &["sh", "-c", &script],
        &Message::default(),
        Message::default(),
        &interactive,
    );
    let inside = made.unwrap_or_else(|text| panic!("{text}"));
    let mut channels = inside.attach(true);
    channels.types("typed\n");
    channels.shows("<typed>");
    channels.resizes(97, 31);
    channels.shows("31 97\r\n");
    channels.shows("/dev/pts/0");
    channels.ends();
    assert_eq!(inside.ends().0, 6);
}

fn a_log_is_rotated_while_it_is_written(cri: &Cri) {
    let pod = cri.pod();
    let inside = pod.starts("while :; do echo tick; sleep 0.1; done");
    inside.says("F tick");
    let old = format!("{}.1", inside.log);
    std::fs::rename(&inside.log, &old).expect("a rotated log");
    cri.asks(
        "ReopenContainerLog",
        &Message::default().text(1, &inside.id),
    );
    inside.says("F tick");
}

fn logs_are_written_to_the_pods_folder(cri: &Cri) {
    let pod = cri.pod();
    let inside = pod.starts("echo to out; echo to err >&2; exit 0");
    inside.ends();
    inside.says("stdout F to out");
    inside.says("stderr F to err");
}

fn stop_signals_and_then_kills(cri: &Cri) {
    let pod = cri.pod();
    let inside = pod.sleeps();
    inside.stops(30);
    assert_eq!(inside.ends().0, 5);
    let deaf = pod.starts("trap '' TERM; echo ready; while :; do sleep 1; done");
    deaf.says("ready");
    deaf.stops(1);
    assert_eq!(deaf.ends().0, 137);
}

fn an_update_leaves_the_devices_alone(cri: &Cri) {
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

fn stats_count_what_a_container_uses(cri: &Cri) {
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

fn users_capabilities_and_a_read_only_root(cri: &Cri) {
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

fn a_volume_and_the_environment_arrive(cri: &Cri) {
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

fn more_memory_than_allowed_is_told(cri: &Cri) {
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

fn a_pod_has_its_own_user_namespace(cri: &Cri) {
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
        .try_pod_with("", options(POD_NAMESPACES).message(5, &namespace))
        .unwrap_or_else(|text| panic!("{text}"));
    let (_, map) = pod.sleeps().probe(&["cat", "/proc/self/uid_map"]);
    let map: Vec<&str> = map.split_whitespace().collect();
    assert_eq!(
        map,
        ["0", "100000", "65536"],
        "error: this containerd takes a pod's user namespace and gives it none (1.7 is the first that has them)"
    );
}

fn pods_outlive_their_daemon(cri: &Cri) {
    let pod = cri.pod();
    let inside = pod.starts(
        "trap 'exit 5' TERM; echo ready; while :; do [ ! -e /tmp/go ] || echo heard; sleep 0.1; done",
    );
    inside.says("ready");
    cri.daemon.borrow_mut().stop();
    cri.daemon.replace(Daemon::start(&cri.runtime));
    const RUNNING: u64 = 1;
    until("the plugin has found the container", || {
        let request = Message::default().text(1, &inside.id);
        let answer = cri.calls("ContainerStatus", &request);
        answer.is_ok_and(|answer| answer.message(1).number(3) == RUNNING)
    });
    assert_eq!(
        inside.probe(&["sh", "-c", "echo >/tmp/go; exit 3"]),
        (3, String::new())
    );
    inside.says("F heard");
    inside.stops(30);
    assert_eq!(inside.ends().0, 5);
}

fn nothing_is_left_of_the_pods(_: &Cri) {
    let list = Outcome::of(&mut program(
        "ctr",
        &["--namespace", "k8s.io", "container", "ls", "--quiet"],
    ));
    assert_eq!(list.ok().line(), "");
    left::no_cgroup("pods");
    assert!(
        !Path::new("/run/netns").exists()
            || std::fs::read_dir("/run/netns").is_ok_and(|mut left| left.next().is_none())
    );
}
