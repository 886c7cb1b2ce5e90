//! Promise: `update` changes what it is asked to change and nothing else, all of it or none, keeps it, and
//! takes what engines write.

use nix::errno::Errno;
use nix::libc::SYS_write;
use serde_json::{Value, json};

use crate::harness::injector::{self, Call};
use crate::harness::{Container, Outcome, Stage, View, machine};
use crate::{skip, stage};

/// A container with limits of memory, processor time and processes.
fn limited(stage: &Stage) -> Container<'_> {
    let mut bundle = stage.bundle();
    bundle
        .sleeps()
        .set(
            "/linux/resources/memory",
            json!({"limit": 64 << 20, "swap": 128 << 20}),
        )
        .set(
            "/linux/resources/cpu",
            json!({"shares": 512, "quota": 50_000, "period": 100_000}),
        )
        .set("/linux/resources/pids", json!({"limit": 50}));
    let container = stage.create(&bundle);
    container.start().ok();
    container
}

/// Updates by a document on standard input.
fn update(container: &Container<'_>, spelling: &str, document: &Value) -> Outcome {
    let script = format!("printf %s \"$2\" | $capsid update {spelling} \"$1\"");
    container
        .stage
        .shell(&script, &[&container.id, &document.to_string()])
}

/// A limit by its file of cgroup v1 and of v2.
#[track_caller]
fn limit(container: &Container<'_>, controller: &str, v1: &str, v2: &str) -> String {
    let file = if container.stage.view.is_v2() { v2 } else { v1 };
    container.limit(controller, file)
}

fn memory(container: &Container<'_>) -> String {
    limit(container, "memory", "memory.limit_in_bytes", "memory.max")
}

fn processes(container: &Container<'_>) -> String {
    limit(container, "pids", "pids.max", "pids.max")
}

/// Quota and period.
fn bandwidth(container: &Container<'_>) -> String {
    match container.stage.view.is_v2() {
        true => container.limit("cpu", "cpu.max"),
        false => format!(
            "{} {}",
            container.limit("cpu", "cpu.cfs_quota_us"),
            container.limit("cpu", "cpu.cfs_period_us")
        ),
    }
}

macro_rules! limited {
    ($stage:ident, $container:ident) => {
        let $stage = stage!();
        for controller in ["memory", "cpu", "pids"] {
            if !machine::has_controller(controller) {
                skip!("no {controller} controller here");
            }
        }
        let $container = limited(&$stage);
    };
}

#[test]
fn flags_change_the_limits_of_a_running_container() {
    limited!(stage, container);
    container
        .call(
            "update",
            &[
                "--memory",
                "96m",
                "--memory-reservation",
                "32M",
                "--cpu-share",
                "1024",
                "--pids-limit",
                "77",
            ],
        )
        .ok();
    assert_eq!(memory(&container), (96 << 20).to_string());
    assert_eq!(
        limit(
            &container,
            "memory",
            "memory.soft_limit_in_bytes",
            "memory.low"
        ),
        (32 << 20).to_string()
    );
    assert_eq!(limit(&container, "cpu", "cpu.shares", "cpu.weight"), {
        if stage.view.is_v2() { "100" } else { "1024" }
    });
    assert_eq!(processes(&container), "77");
    // What was not named.
    assert_eq!(bandwidth(&container), "50000 100000");
    container
        .call("update", &["--pids-limit=-1", "--cpu-quota", "-1"])
        .ok();
    assert_eq!(processes(&container), "max");
    let quota = if stage.view.is_v2() { "max" } else { "-1" };
    assert_eq!(bandwidth(&container), format!("{quota} 100000"));
}

#[test]
fn the_shares_come_back_when_a_group_is_idle_no_more() {
    limited!(stage, container);
    if !container.cgroup("cpu").join("cpu.idle").exists() {
        skip!("no idle groups here");
    }
    container.call("update", &["--cpu-idle", "1"]).ok();
    container.call("update", &["--cpu-idle", "0"]).ok();
    let expected = if stage.view.is_v2() { "59" } else { "512" };
    assert_eq!(
        limit(&container, "cpu", "cpu.shares", "cpu.weight"),
        expected
    );
}

#[test]
fn a_document_comes_from_a_file_or_standard_input_in_every_spelling() {
    limited!(stage, container);
    for (number, spelling) in ["-r -", "-r-", "--resources -", "--resources=-"]
        .into_iter()
        .enumerate()
    {
        let limit = 100 + number;
        update(&container, spelling, &json!({"pids": {"limit": limit}})).ok();
        assert_eq!(processes(&container), limit.to_string(), "{spelling}");
    }
    let file = stage.path("resources.json");
    std::fs::write(&file, r#"{"pids": {"limit": 61}}"#).unwrap();
    let named = format!("--resources={}", file.display());
    stage.call(&["update", &named, &container.id]).ok();
    assert_eq!(processes(&container), "61");
    container
        .call("update", &["--resources", "/nowhere", "--pids-limit", "5"])
        .refuses(&["read the resources", "/nowhere: no such file or directory"]);
    update(&container, "-r -", &json!([])).refuses(&["expected an object"]);
    assert_eq!(processes(&container), "61");
}

#[test]
fn a_quota_keeps_the_period_and_a_period_the_quota() {
    limited!(stage, container);
    container.call("update", &["--cpu-quota", "30000"]).ok();
    assert_eq!(bandwidth(&container), "30000 100000");
    container.call("update", &["--cpu-period", "200000"]).ok();
    assert_eq!(bandwidth(&container), "30000 200000");
    container
        .call("update", &["--cpu-quota=5000", "--cpu-period", "10000"])
        .ok();
    assert_eq!(bandwidth(&container), "5000 10000");
    // As somebody else has changed it meanwhile.
    let (file, value) = match stage.view.is_v2() {
        true => ("cpu.max", "7000 10000"),
        false => ("cpu.cfs_quota_us", "7000"),
    };
    std::fs::write(container.cgroup("cpu").join(file), value).unwrap();
    container.call("update", &["--cpu-period", "20000"]).ok();
    assert_eq!(bandwidth(&container), "7000 20000");
}

#[test]
fn memory_and_swap_are_raised_and_lowered_together() {
    limited!(stage, container);
    let (file, alone) = match stage.view.is_v2() {
        true => ("memory.swap.max", true),
        false => ("memory.memsw.limit_in_bytes", false),
    };
    if !container.cgroup("memory").join(file).exists() {
        skip!("the kernel does not account for swap");
    }
    for (limit, both) in [(200_u64, 300_u64), (32, 64), (512, 512), (64, 128)] {
        let (memory_flag, swap_flag) = (format!("{limit}m"), format!("{both}m"));
        container
            .call(
                "update",
                &["--memory", &memory_flag, "--memory-swap", &swap_flag],
            )
            .ok();
        assert_eq!(memory(&container), (limit << 20).to_string());
        let expected = if alone { both - limit } else { both };
        assert_eq!(
            container.limit("memory", file),
            (expected << 20).to_string(),
            "{limit} {both}"
        );
    }
    // Swap alone, beside the memory limit that is in force.
    container.call("update", &["--memory-swap", "256m"]).ok();
    let expected: u64 = if alone { 192 } else { 256 };
    assert_eq!(
        container.limit("memory", file),
        (expected << 20).to_string()
    );
    container
        .call("update", &["--memory-swap", "16m"])
        .refuses(&[
            "/memory/swap",
            "memory+swap limit should be >= memory limit",
        ]);
    container.call("update", &["--memory", "-1"]).ok();
    let unlimited = if alone { "max" } else { "9223372036854771712" };
    assert_eq!(memory(&container), unlimited);
    assert_eq!(container.limit("memory", file), unlimited);
}

#[test]
fn memory_above_the_limit_of_both_says_to_change_both() {
    limited!(stage, container);
    if stage.view.is_v2()
        || !container
            .cgroup("memory")
            .join("memory.memsw.limit_in_bytes")
            .exists()
    {
        skip!("only cgroup v1 limits memory and swap together");
    }
    container
        .call("update", &["--memory", "256m"])
        .refuses(&["/memory/limit", "limited to 134217728: change both"]);
    assert_eq!(memory(&container), (64 << 20).to_string());
}

/// Neither the second of two limits nor the first one's old value can be written.
#[test]
fn a_limit_that_does_not_get_its_old_value_back_is_named() {
    limited!(stage, container);
    let mut command = stage.capsid();
    let flags = ["--memory-reservation=32M", "--pids-limit=77"];
    command.arg("update").args(flags).arg(&container.id);
    let mut writes = 0;
    let mut second_and_on = |call: Call| {
        writes += usize::from(call.number == SYS_write);
        // All settings, then each alone, then the first once more; what is written after is the log.
        let fails = call.number == SYS_write && [2, 3, 4, 6].contains(&writes);
        fails.then_some(Errno::EIO)
    };
    let outcome = injector::inject(&command, &stage.runtime, &mut second_and_on);
    assert_eq!(outcome.code, 1, "{outcome}");
    let told = "a limit did not get its old value back";
    let reservation = match stage.view.is_v2() {
        true => "memory.low",
        false => "memory.soft_limit_in_bytes",
    };
    let warning = outcome.stderr.lines().find(|line| line.contains(told));
    let named = warning.is_some_and(|line| line.contains(reservation));
    assert!(named && outcome.stderr.contains("pids.max"), "{outcome}");
    assert_eq!(processes(&container), "50");
    assert_eq!(
        container.limit("memory", reservation),
        (32 << 20).to_string()
    );
}

#[test]
fn zeros_and_kernel_memory_as_docker_writes_them_change_nothing() {
    limited!(stage, container);
    let document = json!({
        "memory": {"limit": 80 << 20, "reservation": 0, "swap": 160 << 20, "kernel": 0},
        "cpu": {"shares": 300, "quota": 0, "period": 0},
        "pids": {"limit": 0}, "blockIO": {"weight": 0},
    });
    let outcome = update(&container, "--resources -", &document).ok();
    assert_eq!(outcome.stderr, "");
    assert_eq!(memory(&container), (80 << 20).to_string());
    assert_eq!(bandwidth(&container), "50000 100000");
    assert_eq!(processes(&container), "50");
}

#[test]
fn the_oom_killer_that_was_switched_off_is_switched_on_again() {
    limited!(stage, container);
    if stage.view.is_v2() {
        skip!("cgroup v2 has no way to switch it off");
    }
    let control = |asked: &str| {
        update(
            &container,
            "-r -",
            &json!({"memory": {"disableOOMKiller": asked == "1"}}),
        )
        .ok();
        container.limit("memory", "memory.oom_control")
    };
    for asked in ["1", "0", "0"] {
        let said = control(asked);
        let expected = format!("oom_kill_disable {asked}");
        assert!(said.contains(&expected), "{said}");
    }
    control("1");
    // What doesn't speak of it leaves it.
    container.call("update", &["--memory", "96m"]).ok();
    let said = container.limit("memory", "memory.oom_control");
    assert!(said.contains("oom_kill_disable 1"), "{said}");
    control("0");
}

#[test]
fn device_rules_that_come_along_do_not_cut_the_container_off() {
    limited!(stage, container);
    let deny = json!([{"allow": false, "access": "rwm"}]);
    let document = json!({"devices": deny, "pids": {"limit": 33}});
    let outcome = update(&container, "--resources=-", &document).ok();
    assert_eq!(outcome.stderr, "");
    assert_eq!(processes(&container), "33");
    assert_eq!(
        container.sh("echo x > /dev/null && head -c 1 /dev/zero | wc -c"),
        "1"
    );
    // Other rules are not silently dropped.
    let document =
        json!({"devices": [{"allow": true, "type": "c", "major": 1, "minor": 1, "access": "r"}]});
    let outcome = update(&container, "-r -", &document).ok();
    assert!(
        outcome.stderr.contains("/devices: left as they are"),
        "{outcome}"
    );
}

#[test]
fn a_refused_value_takes_back_those_before_it() {
    limited!(stage, container);
    let document =
        json!({"cpu": {"shares": 700, "quota": 20_000, "cpus": "4095"}, "pids": {"limit": 5}});
    let outcome = update(&container, "-r -", &document);
    outcome.refuses(&["update", "/cpu/cpus"]);
    assert_eq!(limit(&container, "cpu", "cpu.shares", "cpu.weight"), {
        if stage.view.is_v2() { "59" } else { "512" }
    });
    assert_eq!(bandwidth(&container), "50000 100000");
    assert_eq!(processes(&container), "50");
    let kept = std::fs::read_to_string(stage.state_root().join(&container.id).join("config.json"));
    assert!(!kept.unwrap().contains("4095"));
}

#[test]
fn what_was_changed_is_kept_with_the_containers_configuration() {
    limited!(stage, container);
    container
        .call("update", &["--memory", "96m", "--cpu-share", "77"])
        .ok();
    let path = stage.state_root().join(&container.id).join("config.json");
    let kept: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let resources = &kept["linux"]["resources"];
    assert_eq!(
        resources["memory"],
        json!({"limit": 96 << 20, "swap": 128 << 20})
    );
    assert_eq!(resources["cpu"]["shares"], 77);
    assert_eq!(resources["cpu"]["quota"], 50_000);
    assert_eq!(resources["pids"]["limit"], 50);
    assert_eq!(container.sh("echo still"), "still");
    assert_eq!(container.status(), "running");
}

#[test]
fn a_created_or_paused_container_is_updated_and_stays_what_it_is() {
    let stage = stage!();
    if !machine::has_controller("pids") {
        skip!("no pids controller here");
    }
    let mut bundle = stage.bundle();
    let container = stage.create(bundle.sleeps());
    container.call("update", &["--pids-limit", "40"]).ok();
    assert_eq!(container.status(), "created");
    assert_eq!(processes(&container), "40");
    container.start().ok();
    container.call("pause", &[]).ok();
    container.call("update", &["--pids-limit", "41"]).ok();
    assert_eq!(container.status(), "paused");
    assert_eq!(processes(&container), "41");
    container.call("resume", &[]).ok();
}

#[test]
fn a_container_that_has_stopped_can_not_be_updated() {
    let stage = stage!();
    let container = stage.running();
    container.kill("KILL").ok();
    container.becomes("stopped");
    container
        .call("update", &["--pids-limit", "40"])
        .refuses(&["container not running"]);
    stage
        .call(&["update", "--pids-limit", "40", "nobody"])
        .refuses(&["container does not exist"]);
}

#[test]
fn a_limit_below_what_is_in_use_is_refused_where_that_is_asked_for() {
    limited!(stage, container);
    let document = json!({"memory": {"limit": 4096, "checkBeforeUpdate": true}});
    update(&container, "-r -", &document)
        .refuses(&["/memory/limit", "rejecting memory limit 4096 <= usage "]);
    assert_eq!(memory(&container), (64 << 20).to_string());
    let document =
        json!({"memory": {"limit": 65 << 20, "swap": 128 << 20, "checkBeforeUpdate": true}});
    update(&container, "-r -", &document).ok();
    // Kept: the next update is checked too.
    update(&container, "-r -", &json!({"memory": {"limit": 4096}}))
        .refuses(&["rejecting memory limit 4096 <= usage "]);
    assert_eq!(container.status(), "running");
}

#[test]
fn kernel_memory_is_ignored_and_that_is_told() {
    let stage = stage!();
    let container = stage.running();
    let outcome = container.call("update", &["--kernel-memory", "5m"]).ok();
    assert!(
        outcome.stderr.contains("--kernel-memory is ignored"),
        "{outcome}"
    );
}

#[test]
fn what_the_machine_can_not_share_out_is_refused() {
    let stage = stage!();
    let container = stage.running();
    if std::path::Path::new("/sys/fs/resctrl/info").exists() {
        skip!("this machine has a resctrl");
    }
    container
        .call("update", &["--l3-cache-schema", "L3:0=f"])
        .refuses(&["Intel RDT/CAT: l3 cache schema is not enabled"]);
    container
        .call("update", &["--mem-bw-schema", "MB:0=20"])
        .refuses(&["Intel RDT/MBA: memory bandwidth schema is not enabled"]);
}

#[test]
fn a_container_without_a_cgroup_can_not_be_limited() {
    let stage = stage!();
    let container = stage.without_cgroup();
    container.call("update", &["--pids-limit", "40"]).refuses(&[
        "/pids/limit",
        "only a cgroup can be limited: delete it and create it with this limit in its config.json",
        "cgroup not exist",
    ]);
    container.call("update", &[]).ok();
}

#[test]
fn limits_are_of_the_machines_version_also_where_the_container_has_no_cgroup() {
    let stage = stage!();
    let container = stage.without_cgroup();
    let document = json!({"unified": {"memory.high": "1000000"}});
    let why = match stage.view.is_v2() {
        true => "cgroup not exist",
        false => "cannot use unified on cgroup v1",
    };
    let refused = update(&container, "--resources=-", &document);
    refused.refuses(&["/unified", why]);
}

#[test]
fn s15_a_document_that_is_wrong_is_told_by_its_place() {
    let stage = stage!(View::Host);
    let container = stage.running();
    for (document, needles) in [
        (
            json!({"memory": {"limit": "1g"}}),
            ["/memory/limit", "invalid type"],
        ),
        (
            json!({"cpu": {"cpus": "a-b"}}),
            ["/cpu/cpus", "invalid list"],
        ),
        (
            json!({"memory": {"limit": -7}}),
            ["/memory/limit", "invalid value: -7"],
        ),
        (json!([]), ["read the resources", "expected an object"]),
        (
            json!({"pids": {"limit": "x"}}),
            [
                "read the resources (/pids/limit)",
                "expected a whole number",
            ],
        ),
    ] {
        let outcome = update(&container, "-r -", &document).refuses(&needles);
        let named = format!("update {}: ", container.id);
        assert!(outcome.stderr.contains(&named), "{outcome}");
    }
    let outcome = update(&container, "-r -", &json!({"pids": {"limits": 5}})).ok();
    assert!(outcome.stderr.contains("limit may be meant"), "{outcome}");
    let outcome = update(&container, "-r -", &json!({"nonsense": {"limit": 5}})).ok();
    assert!(
        outcome
            .stderr
            .contains("unknown setting \\\"nonsense\\\" is ignored"),
        "{outcome}"
    );
    let named = format!("update {}: /nonsense: ", container.id);
    assert!(outcome.stderr.contains(&named), "{outcome}");
    update(&container, "--strict -r -", &json!({"nonsense": {}}))
        .refuses(&["nonsense", "would be ignored"]);
    container
        .call("update", &["-r", "{\"pids\": {\"limit\": 5}}"])
        .refuses(&["from standard input, with -r -"]);
    container
        .call("update", &["--memory-swap", "64m"])
        .refuses(&["--memory", "unable to set swap limit without memory limit"]);
    stage
        .shell("$capsid update -r - $1 < /dev/zero", &[&container.id])
        .refuses(&["larger than 16 MiB"]);
}
