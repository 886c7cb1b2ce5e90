//! Promise: the process is scheduled, and executes, as config.json says: CPU, I/O, memory nodes,
//! personality; and so does every process of exec.

use serde_json::{Value, json};

use crate::harness::{Bundle, Container, Stage, View, machine};
use crate::{skip, stage};

/// What the probe says of a section in a container that is run with this configuration.
fn seen(stage: &Stage, bundle: &mut Bundle, section: &str) -> Value {
    bundle.args(&["/bin/probe", section]);
    stage.run(bundle).ok().json()[section].clone()
}

/// The same in a process of exec.
fn seen_by_exec(container: &Container<'_>, section: &str) -> Value {
    container.exec(&["/bin/probe", section]).ok().json()[section].clone()
}

/// A container whose process waits, and in which the probe can be executed.
fn idle<'a>(stage: &'a Stage, bundle: &mut Bundle) -> Container<'a> {
    bundle.args(&["/bin/probe", "sleep-until-term"]);
    let container = stage.create(bundle);
    container.start().ok();
    container
}

#[test]
fn the_scheduler_is_as_given_in_init_and_in_exec() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.set(
        "/process/scheduler",
        json!({"policy": "SCHED_BATCH", "nice": 7}),
    );
    let first = seen(&stage, &mut bundle, "scheduling");
    assert_eq!((&first["policy"], &first["nice"]), (&json!(3), &json!(7)));
    let container = idle(&stage, &mut bundle);
    let second = seen_by_exec(&container, "scheduling");
    assert_eq!((&second["policy"], &second["nice"]), (&json!(3), &json!(7)));
}

#[test]
fn the_scheduler_is_set_before_the_rights_to_it_are_gone() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .set("/process/user", json!({"uid": 1000, "gid": 1000}))
        .capabilities(&[])
        .set(
            "/process/scheduler",
            json!({"policy": "SCHED_OTHER", "nice": -5, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}),
        );
    let first = seen(&stage, &mut bundle, "scheduling");
    assert_eq!((&first["policy"], &first["nice"]), (&json!(0), &json!(-5)));
}

#[test]
fn a_real_time_priority_is_given_or_refused_by_its_pointer() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.set(
        "/process/scheduler",
        json!({"policy": "SCHED_FIFO", "priority": 10}),
    );
    bundle.args(&["/bin/probe", "scheduling"]);
    let outcome = stage.run(&bundle);
    // A fresh v1 cpu cgroup has no real-time budget where the kernel groups real-time tasks.
    match outcome.code {
        0 => assert_eq!(outcome.json()["scheduling"]["rt_priority"], 10),
        _ => drop(outcome.refuses(&[
            "/process/scheduler",
            "be scheduled as SCHED_FIFO, priority 10",
            "operation not permitted",
        ])),
    }
}

#[test]
fn a_deadline_in_a_cgroup_with_cpus_of_its_own_is_refused_in_runcs_words() {
    let stage = stage!();
    let every = stage.prints(&mut stage.bundle(), "grep -c ^processor /proc/cpuinfo");
    if every == "1" || !machine::has_controller("cpuset") {
        skip!("one CPU, or no cpuset controller");
    }
    let mut bundle = stage.bundle();
    bundle.set("/linux/resources/cpu/cpus", json!("0")).sleeps();
    let words = [
        "/process/scheduler",
        "process scheduler can't be used together with AllowedCPUs",
    ];
    let container = stage.create(&bundle);
    container.start().ok();
    let deadline = json!({"policy": "SCHED_DEADLINE", "nice": 19, "runtime": 42_000,
        "deadline": 1_000_000, "period": 1_000_000});
    bundle.set("/process/scheduler", deadline.clone());
    stage.try_create(&bundle).refuses(&words);
    let file = stage.path("process.json");
    let process = json!({"args": ["/bin/true"], "cwd": "/", "scheduler": deadline});
    std::fs::write(&file, process.to_string()).unwrap();
    container
        .exec_with(&["--process", &file.to_string_lossy()], &[])
        .fails_with(255, &words[1..]);
}

#[test]
fn the_io_priority_is_as_given_in_init_and_in_exec() {
    let stage = stage!();
    if !machine::has_program("ionice") {
        skip!("no ionice here");
    }
    let mut bundle = stage.bundle();
    bundle
        .set(
            "/process/ioPriority",
            json!({"class": "IOPRIO_CLASS_BE", "priority": 6}),
        )
        .sleeps();
    let container = stage.create(&bundle);
    container.start().ok();
    let said = |pid: i32| {
        let mut ionice = std::process::Command::new("ionice");
        let outcome = crate::harness::Outcome::of(ionice.args(["-p", &pid.to_string()])).ok();
        outcome.line().to_owned()
    };
    assert_eq!(said(container.pid()), "best-effort: prio 6");
    let further = container.exec_detached(&["sleep", "600"]);
    assert_eq!(said(further), "best-effort: prio 6");
}

#[test]
fn an_exec_has_its_final_affinity_and_init_has_none() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.set(
        "/process/execCPUAffinity",
        json!({"initial": "0", "final": "0"}),
    );
    let container = idle(&stage, &mut bundle);
    assert_eq!(seen_by_exec(&container, "scheduling")["cpus"], "0");
    let status = std::fs::read_to_string(format!("/proc/{}/status", container.pid())).unwrap();
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let allowed = |text: &str| {
        let line = text
            .lines()
            .find(|line| line.starts_with("Cpus_allowed_list"));
        line.unwrap().to_owned()
    };
    assert_eq!(allowed(&status), allowed(&own));
}

#[test]
fn an_initial_affinity_alone_still_lands_in_the_containers_cgroup() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.set("/process/execCPUAffinity", json!({"initial": "0"}));
    let container = idle(&stage, &mut bundle);
    let init = std::fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    let pid = container.exec_detached(&["/bin/probe", "sleep-until-term"]);
    let further = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert_eq!(init, further);
}

#[test]
fn the_affinity_of_whoever_calls_is_not_the_containers() {
    for view in View::versions() {
        let stage = stage!(view);
        let all = stage.prints(
            &mut stage.bundle(),
            "grep Cpus_allowed_list /proc/self/status",
        );
        if !all.contains(['-', ',']) {
            skip!("one CPU");
        }
        let mut bundle = stage.bundle();
        bundle.sh("grep Cpus_allowed_list /proc/self/status");
        let id = stage.id();
        bundle.write(&id);
        let folder = bundle.folder.to_string_lossy().into_owned();
        let narrow = |script: &str, words: &[&str]| {
            let script = format!("exec taskset -c 0 $capsid {script}");
            stage.shell(&script, words).ok().line().to_owned()
        };
        assert_eq!(
            narrow("run --bundle \"$1\" $2", &[&folder, &id]),
            all,
            "{view:?}"
        );
        let container = stage.running();
        let look = "exec $1 grep Cpus_allowed_list /proc/self/status";
        assert_eq!(narrow(look, &[&container.id]), all, "{view:?}");
        // The cgroup's own CPUs are another matter.
        if view == View::V1 {
            let id = stage.id();
            bundle
                .set("/linux/resources/cpu/cpus", json!("1"))
                .write(&id);
            let only = narrow("run --bundle \"$1\" $2", &[&folder, &id]);
            assert!(only.ends_with("\t1"), "{only}");
        }
    }
}

#[test]
fn an_exec_with_an_initial_affinity_follows_an_init_that_has_moved_below() {
    let stage = stage!(View::V2);
    for affinity in [json!({}), json!({"initial": "0"})] {
        let mut bundle = stage.bundle();
        bundle.set("/process/execCPUAffinity", affinity.clone());
        let container = idle(&stage, &mut bundle);
        let own = container.cgroup("");
        let below = own.join("init");
        std::fs::create_dir(&below).unwrap();
        std::fs::write(below.join("cgroup.procs"), container.pid().to_string()).unwrap();
        let controllers = std::fs::read_to_string(own.join("cgroup.controllers")).unwrap();
        let Some(controller) = controllers.split_whitespace().next() else {
            skip!("no controller of cgroup v2 here");
        };
        std::fs::write(own.join("cgroup.subtree_control"), format!("+{controller}")).unwrap();
        let outcome = container.exec(&["cat", "/proc/self/cgroup"]);
        assert!(outcome.stdout.contains("/init\n"), "{affinity}: {outcome}");
        container.delete_force().ok();
    }
}

#[test]
fn a_cpu_that_is_not_there_is_refused_by_its_pointer() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.set("/process/execCPUAffinity", json!({"final": "4000"}));
    let container = idle(&stage, &mut bundle);
    container.exec(&["/bin/probe"]).fails_with(
        255,
        &[
            "/process/execCPUAffinity/final",
            "run on the CPUs 4000",
            "invalid argument",
        ],
    );
}

#[test]
fn the_personality_is_as_given_in_init_and_in_exec() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.set("/linux/personality", json!({"domain": "LINUX32"}));
    assert_eq!(seen(&stage, &mut bundle, "personality"), "0x8");
    let container = idle(&stage, &mut bundle);
    assert_eq!(seen_by_exec(&container, "personality"), "0x8");
    bundle.set("/linux/personality", json!({"domain": "LINUX"}));
    assert_eq!(seen(&stage, &mut bundle, "personality"), "0x0");
}

#[test]
fn the_memory_policy_is_as_given_in_init_and_in_exec() {
    let stage = stage!();
    if !std::path::Path::new("/proc/self/numa_maps").exists() {
        skip!("no memory policies here");
    }
    let mut bundle = stage.bundle();
    bundle.set(
        "/linux/memoryPolicy",
        json!({"mode": "MPOL_BIND", "nodes": "0"}),
    );
    assert_eq!(
        seen(&stage, &mut bundle, "scheduling")["memory_policy"],
        "bind:0"
    );
    let container = idle(&stage, &mut bundle);
    assert_eq!(
        seen_by_exec(&container, "scheduling")["memory_policy"],
        "bind:0"
    );
    bundle.set(
        "/linux/memoryPolicy",
        json!({"mode": "MPOL_BIND", "nodes": "1000"}),
    );
    stage.try_create(&bundle).refuses(&[
        "/linux/memoryPolicy",
        "set the memory policy to MPOL_BIND on nodes 1000",
        "invalid argument",
    ]);
}

#[test]
fn a_time_namespace_has_the_offsets_that_were_given() {
    let stage = stage!();
    if !std::path::Path::new("/proc/self/timens_offsets").exists() {
        skip!("no time namespaces here");
    }
    let mut bundle = stage.bundle();
    bundle.namespace("time", None).set(
        "/linux/timeOffsets",
        json!({"monotonic": {"secs": 172_800}, "boottime": {"secs": -1, "nanosecs": 5}}),
    );
    let clocks = seen(&stage, &mut bundle, "clocks");
    let offsets = clocks["offsets"].as_str().unwrap();
    let words: Vec<&str> = offsets.split_whitespace().collect();
    assert_eq!(words, ["monotonic", "172800", "0", "boottime", "-1", "5"]);
    let container = idle(&stage, &mut bundle);
    assert_eq!(seen_by_exec(&container, "clocks")["offsets"], offsets);
}
