//! containerd as a kubelet drives it, over the Container Runtime Interface: pods, their containers, probes, logs.
//! The numbers are those of the fields in its runtime.v1.

mod confined;
mod life;
mod streams;

use std::cell::{Cell, RefCell};

use crate::channels::Channels;
use crate::containerd::{self, Daemon};
use crate::goods::IMAGE;
use crate::grpc::{Answer, Message, call};
use crate::harness::{Outcome, until};
use crate::session::{Begin, program, tail};
use confined::*;
use life::*;
use streams::*;

const BUSYBOX: &str = "docker.io/test/busybox:1";

/// What a pod shares when nothing is said, and what each of its containers has alone.
const POD: u64 = 0;

const CONTAINER: u64 = 1;
const NODE: u64 = 2;

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
    a_pod_may_have_the_nodes_namespaces
    a_probe_has_its_status_and_output
    a_probe_that_takes_too_long_is_ended
    exec_streams_its_output_and_its_status
    exec_streams_a_terminal_with_its_keys_and_its_size
    attach_streams_to_and_from_what_runs
    attach_streams_a_terminal
    logs_are_written_to_the_pods_folder
    a_log_is_rotated_while_it_is_written
    stop_signals_and_then_kills
    a_container_that_runs_is_removed
    an_update_leaves_the_devices_alone
    stats_count_what_a_container_uses
    users_capabilities_and_a_read_only_root
    settings_of_the_kernel_are_the_pods
    groups_a_filter_a_device_and_masks_arrive
    a_volume_and_the_environment_arrive
    mounts_go_in_and_out_as_asked
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
        self.try_pod_with(handler, options(namespaces), &|config| config)
    }

    /// With these namespaces, and these other settings.
    fn try_pod_with(
        &self,
        handler: &str,
        options: Message,
        other: &dyn Fn(Message) -> Message,
    ) -> Result<Pod<'_>, String> {
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
        let config = other(config);
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
