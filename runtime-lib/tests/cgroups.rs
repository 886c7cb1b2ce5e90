//! What the cgroup managers do to this machine's kernel: v1 and hybrid on a host that has
//! them, v2 in the guest. Root only; without root every test is one loud skip.
//!
//! Each test has a directory of its own in every hierarchy, and removes it.

mod skips;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use capsid_runtime::Result;
use capsid_runtime::cgroup::{CgroupPlan, CgroupRequest, Layout, Limits};
use capsid_runtime::container::CgroupDriver;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, mkdirat};
use serde_json::{Value, json};
use skips::skip;

/// A place for one test: a name that no other test and no other run has.
struct Ground {
    layout: Layout,
    base: PathBuf,
}

impl Ground {
    fn new(test: &str) -> Option<Ground> {
        if !nix::unistd::geteuid().is_root() {
            return skip(test, "not root");
        }
        let layout = Layout::probe().unwrap();
        if layout == Layout::None {
            return skip(test, "no cgroup file system is mounted");
        }
        let enclosure = std::env::var("CAPSID_ENCLOSURE").unwrap_or_else(|_| "/".to_owned());
        let base = Path::new(&enclosure).join(format!("cgroups-{test}-{}", std::process::id()));
        Some(Ground { layout, base })
    }

    fn plan(&self, name: &str, resources: Value) -> Result<(CgroupPlan, Limits)> {
        let typed = serde_json::from_value(resources.clone()).unwrap();
        let request = CgroupRequest {
            driver: CgroupDriver::Cgroupfs,
            path: Some(&self.base.join(name)),
            id: "unused",
            resources: Some(&typed),
            raw: Some(&resources),
            devices: &[],
            rootless: false,
            lenient: false,
            systemd: None,
            annotations: None,
        };
        let (plan, limits, _) = CgroupPlan::resolve(&self.layout, &request)?;
        Ok((plan, limits))
    }

    fn prepared(&self, name: &str) -> CgroupPlan {
        let (plan, limits) = self.plan(name, json!({})).unwrap();
        prepare(&plan, &limits).unwrap();
        plan
    }

    fn is_v1(&self) -> bool {
        matches!(self.layout, Layout::Legacy { .. })
    }
}

/// Makes what create makes before and beside the process.
fn prepare(plan: &CgroupPlan, limits: &Limits) -> Result<()> {
    let manager = plan.manager();
    let begun = manager.begin(limits)?;
    manager.finish(limits)?;
    begun.keep();
    Ok(())
}

impl Drop for Ground {
    fn drop(&mut self) {
        let (plan, _) = self.plan("", json!({})).unwrap();
        plan.manager().remove().unwrap();
    }
}

/// Every directory of a plan.
fn dirs(plan: &CgroupPlan) -> Vec<PathBuf> {
    let legacy = plan.legacy.iter().map(|group| group.dir());
    legacy.chain(plan.clone_into()).collect()
}

/// The directory whose hierarchy has this controller.
fn dir_of(plan: &CgroupPlan, controller: &str) -> PathBuf {
    let legacy = plan.legacy.iter().find(|group| group.has(controller));
    legacy
        .map(|group| group.dir())
        .or(plan.clone_into())
        .unwrap()
}

/// A shell that joins `dirs`, says so, and then runs `script`.
fn join(dirs: &[PathBuf], script: &str) -> Process {
    let join = "for d in \"$@\"; do if [ -e $d/tasks ]; then echo 0 > $d/tasks; else echo 0 > $d/cgroup.procs; fi; done; echo joined;";
    let mut child = Command::new("busybox")
        .args(["sh", "-c", &format!("{join} {script}"), "sh"])
        .args(dirs)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "joined\n");
    Process { child, output }
}

struct Process {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Process {
    fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn killed_by(&mut self) -> Option<i32> {
        self.child.wait().unwrap().signal()
    }

    fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const SLEEP: &str = "exec busybox sleep 1000";

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.trim_end().to_owned()
}

#[test]
fn the_kernel_holds_the_limits_that_were_asked_for() {
    let Some(ground) = Ground::new("the_kernel_holds_the_limits") else {
        return;
    };
    let resources = json!({
        "cpu": {"shares": 512, "quota": 50000, "period": 200000},
        "memory": {"limit": 67108864, "reservation": 33554432},
        "pids": {"limit": 50},
    });
    let (plan, limits) = ground.plan("c", resources).unwrap();
    prepare(&plan, &limits).unwrap();
    let files = match ground.is_v1() {
        true => vec![
            ("cpu", "cpu.shares", "512"),
            ("cpu", "cpu.cfs_quota_us", "50000"),
            ("cpu", "cpu.cfs_period_us", "200000"),
            ("memory", "memory.limit_in_bytes", "67108864"),
            ("memory", "memory.soft_limit_in_bytes", "33554432"),
            ("pids", "pids.max", "50"),
        ],
        false => vec![
            ("", "cpu.weight", "59"),
            ("", "cpu.max", "50000 200000"),
            ("", "memory.max", "67108864"),
            ("", "memory.low", "33554432"),
            ("", "pids.max", "50"),
        ],
    };
    for (controller, file, value) in files {
        assert_eq!(read(dir_of(&plan, controller).join(file)), value, "{file}");
    }
    plan.manager().remove().unwrap();
    assert_eq!(dirs(&plan).iter().find(|d| d.exists()), None);
}

#[test]
fn memory_and_swap_are_raised_and_lowered_together() {
    let Some(ground) = Ground::new("memory_and_swap") else {
        return;
    };
    let memory = |limit: i64| json!({"memory": {"limit": limit, "swap": limit}});
    let (plan, limits) = ground.plan("c", memory(64 << 20)).unwrap();
    match prepare(&plan, &limits) {
        Err(error) if error.to_string().contains("does not account swap") => {
            return skip("memory_and_swap", "the kernel does not account swap").unwrap_or(());
        }
        other => other.unwrap(),
    }
    let dir = dir_of(&plan, "memory");
    for limit in [128 << 20, 32 << 20, 32 << 20] {
        let (_, limits) = ground.plan("c", memory(limit)).unwrap();
        plan.manager().apply(&limits).unwrap();
        let (file, both) = match ground.is_v1() {
            true => (
                "memory.limit_in_bytes",
                ("memory.memsw.limit_in_bytes", limit),
            ),
            false => ("memory.max", ("memory.swap.max", 0)),
        };
        assert_eq!(read(dir.join(file)), limit.to_string());
        assert_eq!(read(dir.join(both.0)), both.1.to_string());
    }
    let (_, lifted) = ground.plan("c", json!({"memory": {"limit": -1}})).unwrap();
    plan.manager().apply(&lifted).unwrap();
}

#[test]
fn a_period_and_a_quota_change_together() {
    let Some(ground) = Ground::new("period_and_quota") else {
        return;
    };
    let cpu = |quota: i64, period: u64| json!({"cpu": {"quota": quota, "period": period}});
    let (parent, limits) = ground.plan("p", cpu(100_000, 100_000)).unwrap();
    prepare(&parent, &limits).unwrap();
    let (plan, limits) = ground.plan("p/c", cpu(100_000, 100_000)).unwrap();
    prepare(&plan, &limits).unwrap();
    // The old quota would be more of the new period than the parent has.
    let (_, limits) = ground.plan("p/c", cpu(10_000, 20_000)).unwrap();
    plan.manager().apply(&limits).unwrap();
    let dir = dir_of(&plan, "cpu");
    match ground.is_v1() {
        true => assert_eq!(read(dir.join("cpu.cfs_quota_us")), "10000"),
        false => assert_eq!(read(dir.join("cpu.max")), "10000 20000"),
    }
    plan.manager().remove().unwrap();
    parent.manager().remove().unwrap();
}

#[test]
fn a_process_is_in_every_hierarchy_after_joining() {
    let Some(ground) = Ground::new("every_hierarchy") else {
        return;
    };
    let plan = ground.prepared("c");
    let process = join(&dirs(&plan), SLEEP);
    let path = ground.base.join("c").display().to_string();
    let mine = read(format!("/proc/{}/cgroup", process.pid()));
    let outside: Vec<_> = mine.lines().filter(|line| !line.ends_with(&path)).collect();
    assert!(outside.is_empty(), "{outside:?}");
    assert_eq!(plan.manager().processes().unwrap(), [process.pid()]);
    plan.manager().remove().unwrap();
}

#[test]
fn processes_below_are_counted_and_signalled_and_strangers_are_not() {
    let Some(ground) = Ground::new("processes_below") else {
        return;
    };
    let (plan, stranger) = (ground.prepared("c"), ground.prepared("stranger"));
    let below: Vec<_> = dirs(&ground.prepared("c/a/b"));
    let mut processes = [join(&dirs(&plan), SLEEP), join(&below, SLEEP)];
    let mut other = join(&dirs(&stranger), SLEEP);
    let mut pids: Vec<_> = processes.iter().map(Process::pid).collect();
    pids.sort();
    assert_eq!(plan.manager().processes().unwrap(), pids);
    plan.manager().signal_all(Signal::SIGUSR1).unwrap();
    for process in &mut processes {
        assert_eq!(process.killed_by(), Some(Signal::SIGUSR1 as i32));
    }
    assert!(other.is_alive());
    plan.manager().remove().unwrap();
    stranger.manager().remove().unwrap();
    assert_eq!(other.killed_by(), Some(Signal::SIGKILL as i32));
}

#[test]
fn a_frozen_container_stands_still_until_it_is_thawed() {
    let Some(ground) = Ground::new("stands_still") else {
        return;
    };
    let plan = ground.prepared("c");
    let manager = plan.manager();
    let mut process = join(
        &dirs(&plan),
        "while read x; do echo $x; done < /dev/zero; exec sleep 1000",
    );
    assert!(!manager.frozen().unwrap());
    manager.freeze().unwrap();
    assert!(manager.frozen().unwrap());
    manager.signal_all(Signal::SIGTERM).unwrap();
    // cgroup v2 lets what is frozen end (cgroup-v2.rst, "cgroup.freeze").
    assert!(!ground.is_v1() || process.is_alive());
    manager.thaw().unwrap();
    assert_eq!(process.killed_by(), Some(Signal::SIGTERM as i32));
    assert!(!manager.frozen().unwrap());
    manager.remove().unwrap();
}

#[test]
fn kill_reaches_frozen_processes_and_frozen_cgroups_below() {
    let Some(ground) = Ground::new("kill_reaches_frozen") else {
        return;
    };
    let plan = ground.prepared("c");
    let inner = ground.prepared("c/inner");
    let mut processes = [join(&dirs(&plan), SLEEP), join(&dirs(&inner), SLEEP)];
    inner.manager().freeze().unwrap();
    plan.manager().freeze().unwrap();
    plan.manager().kill().unwrap();
    for process in &mut processes {
        assert_eq!(process.killed_by(), Some(Signal::SIGKILL as i32));
    }
    plan.manager().remove().unwrap();
    assert_eq!(dirs(&plan).iter().find(|d| d.exists()), None);
}

#[test]
fn f18_remove_ends_a_container_that_never_stops_forking() {
    let Some(ground) = Ground::new("f18_forking") else {
        return;
    };
    let (plan, limits) = ground.plan("c", json!({"pids": {"limit": 100}})).unwrap();
    prepare(&plan, &limits).unwrap();
    let inner = dirs(&ground.prepared("c/deep/er"));
    let _sleeper = join(&inner, SLEEP);
    let _storm = join(
        &dirs(&plan),
        "while :; do busybox sleep 0.01 & done 2>/dev/null",
    );
    plan.manager().remove().unwrap();
    assert_eq!(dirs(&plan).iter().find(|d| d.exists()), None);
}

#[test]
fn f19_remove_gives_up_after_its_deadline_and_names_the_process() {
    let Some(ground) = Ground::new("f19_deadline") else {
        return;
    };
    if !ground.is_v1() {
        return; // cgroup v2 kills what is frozen
    }
    let (parent, plan) = (ground.prepared("p"), ground.prepared("p/c"));
    let mut process = join(&dirs(&plan), SLEEP);
    // What a parent has frozen can neither be thawed from below nor die.
    parent.manager().freeze().unwrap();
    let error = plan.manager().remove().unwrap_err().to_string();
    let alive = process.is_alive();
    parent.manager().thaw().unwrap();
    // The shell may have been frozen on its way to being busybox: its name is not asked for.
    let named = format!("process {} (", process.pid());
    assert!(
        error.contains(&named) && error.contains(") does not end"),
        "{error}"
    );
    assert!(alive);
    assert_eq!(process.killed_by(), Some(Signal::SIGKILL as i32));
    plan.manager().remove().unwrap();
    parent.manager().remove().unwrap();
}

#[test]
fn f17_a_busy_cgroup_is_refused_and_left_alone() {
    let Some(ground) = Ground::new("f17_busy") else {
        return;
    };
    let owner = ground.prepared("c");
    let inner = ground.prepared("c/inner");
    let mut process = join(&dirs(&inner), SLEEP);
    let (plan, limits) = ground.plan("c", json!({})).unwrap();
    for refused in [plan.manager().claim(), prepare(&plan, &limits)] {
        let error = refused.unwrap_err();
        assert_eq!(
            error.tail(),
            "container's cgroup is not empty: 1 process(es) found"
        );
        assert!(
            error
                .to_string()
                .contains(&format!("process {} (", process.pid())),
            "{error}"
        );
    }
    assert!(process.is_alive());
    assert!(dirs(&owner).iter().all(|dir| dir.exists()));
    owner.manager().remove().unwrap();
}

#[test]
fn f17_a_frozen_cgroup_is_refused_and_left_alone() {
    let Some(ground) = Ground::new("f17_frozen") else {
        return;
    };
    let owner = ground.prepared("c");
    owner.manager().freeze().unwrap();
    let (plan, limits) = ground.plan("c", json!({})).unwrap();
    for refused in [plan.manager().claim(), prepare(&plan, &limits)] {
        assert_eq!(
            refused.unwrap_err().tail(),
            "container's cgroup unexpectedly frozen"
        );
    }
    assert!(dirs(&owner).iter().all(|dir| dir.exists()));
    owner.manager().thaw().unwrap();
    plan.manager().claim().unwrap();
    prepare(&plan, &limits).unwrap();
    plan.manager().remove().unwrap();
}

#[test]
fn f01_any_half_of_a_plan_is_removed_from_its_journal_alone() {
    let Some(ground) = Ground::new("f01_half") else {
        return;
    };
    let (plan, _) = ground.plan("c", json!({})).unwrap();
    let journal = serde_json::to_string(&plan).unwrap();
    let count = dirs(&plan).len();
    for made in 0..=count {
        for dir in dirs(&plan).iter().take(made) {
            fs::create_dir_all(dir).unwrap();
        }
        let kept: CgroupPlan = serde_json::from_str(&journal).unwrap();
        kept.manager().remove().unwrap();
        assert_eq!(dirs(&plan).iter().find(|d| d.exists()), None);
    }
    assert!(plan.manager().processes().unwrap().is_empty());
    assert!(!plan.manager().frozen().unwrap());
    plan.manager().thaw().unwrap();
    plan.manager().kill().unwrap();
}

#[test]
fn a_refused_limit_names_file_value_and_pointer_and_leaves_nothing() {
    let Some(ground) = Ground::new("refused_limit") else {
        return;
    };
    let (plan, limits) = ground.plan("a/b", json!({"cpu": {"quota": 500}})).unwrap();
    let error = prepare(&plan, &limits).unwrap_err();
    assert_eq!(error.pointer(), Some("/linux/resources/cpu/quota"));
    let line = error.to_string();
    let file = if ground.is_v1() {
        "cpu.cfs_quota_us to 500"
    } else {
        "cpu.max to 500"
    };
    assert!(
        line.contains(file) && line.contains("at least 1000 microseconds"),
        "{line}"
    );
    assert!(line.ends_with(": invalid argument"), "{line}");
    let parents = dirs(&plan)
        .into_iter()
        .map(|d| d.parent().unwrap().to_path_buf());
    assert_eq!(parents.into_iter().find(|d| d.exists()), None);
}

#[test]
fn a_device_that_is_not_allowed_cannot_be_opened() {
    if let Some(ground) = Ground::new("device_denied") {
        devices_are_as_asked(&ground);
    }
}

#[test]
fn the_unified_half_of_a_hybrid_host_takes_a_device_program() {
    let Some(mut ground) = Ground::new("device_program") else {
        return;
    };
    let unified = match &ground.layout {
        Layout::Legacy { unified, .. } => unified.clone(),
        _ => return,
    };
    let Some(unified) = unified else {
        return skip("device_program", "no cgroup2 beside v1").unwrap_or(());
    };
    let whole = ground.layout.clone();
    ground.layout = Layout::Unified {
        own: "/".into(),
        mount: unified.mount,
    };
    devices_are_as_asked(&ground);
    ground.layout = whole;
}

/// One directory with the standard rules and then, still there, with one device more.
fn devices_are_as_asked(ground: &Ground) {
    let tries = "for d in kmsg null; do if (: < /dev/$d) 2>/dev/null; \
                 then echo $d opened; else echo $d denied; fi; done";
    let kmsg = json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"});
    for (rules, kmsg) in [
        (json!({}), "kmsg denied"),
        (json!({"devices": [kmsg]}), "kmsg opened"),
    ] {
        let (plan, limits) = ground.plan("c", rules).unwrap();
        prepare(&plan, &limits).unwrap();
        // The last open is one of read and write, which has to be granted whole.
        let mut process = join(
            &dirs(&plan),
            &format!("{tries}; : <> /dev/null && echo both"),
        );
        let lines = [process.line(), process.line(), process.line()];
        assert_eq!(lines, [kmsg, "null opened", "both"]);
        process.child.wait().unwrap();
    }
    ground
        .plan("c", json!({}))
        .unwrap()
        .0
        .manager()
        .remove()
        .unwrap();
}

#[test]
fn every_new_level_of_a_v1_cpuset_can_be_joined() {
    let Some(ground) = Ground::new("cpuset_levels") else {
        return;
    };
    if !ground.is_v1() {
        return;
    }
    let plan = ground.prepared("one/two/three");
    let Some(group) = plan.legacy.iter().find(|group| group.has("cpuset")) else {
        return skip("cpuset_levels", "no v1 cpuset").unwrap_or(());
    };
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let top = read(group.mount.join(name));
        assert_eq!(read(group.dir().join(name)), top);
        assert_eq!(read(group.dir().parent().unwrap().join(name)), top);
    }
    let (pinned, limits) = ground
        .plan("one/pinned", json!({"cpu": {"cpus": "0"}}))
        .unwrap();
    prepare(&pinned, &limits).unwrap();
    assert_eq!(read(dir_of(&pinned, "cpuset").join("cpuset.cpus")), "0");
    drop(join(&dirs(&pinned), SLEEP));
    pinned.manager().remove().unwrap();
    plan.manager().remove().unwrap();
}

#[test]
fn parents_outlive_the_container() {
    let Some(ground) = Ground::new("parents_outlive") else {
        return;
    };
    let plan = ground.prepared("pod/c");
    plan.manager().remove().unwrap();
    plan.manager().remove().unwrap();
    assert!(dirs(&plan).iter().all(|dir| dir.parent().unwrap().exists()));
}

#[test]
fn cgroups_nested_deeper_than_a_path_is_long_are_removed() {
    let Some(ground) = Ground::new("nested_deep") else {
        return;
    };
    let plan = ground.prepared("c");
    let mut process = join(&dirs(&plan), SLEEP);
    let (name, flags) = ("7".repeat(200), OFlag::O_RDONLY | OFlag::O_DIRECTORY);
    let mut here = open(&dir_of(&plan, "pids"), flags, Mode::empty()).unwrap();
    for _ in 0..25 {
        mkdirat(&here, name.as_str(), Mode::from_bits_truncate(0o755)).unwrap();
        here = openat(&here, name.as_str(), flags, Mode::empty()).unwrap();
    }
    let procs = openat(&here, "cgroup.procs", OFlag::O_WRONLY, Mode::empty()).unwrap();
    nix::unistd::write(&procs, process.pid().to_string().as_bytes()).unwrap();
    plan.manager().remove().unwrap();
    assert_eq!(process.killed_by(), Some(Signal::SIGKILL as i32));
    assert_eq!(dirs(&plan).iter().find(|d| d.exists()), None);
}
