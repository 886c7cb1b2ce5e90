//! Promise: one static binary that says what it is, what it can do, and how to use it.

use serde_json::Value;

use crate::harness::{Bundle, Outcome, machine};
use crate::{skip, stage};

const VERBS: [&str; 19] = [
    "create",
    "start",
    "run",
    "state",
    "kill",
    "delete",
    "exec",
    "list",
    "ps",
    "pause",
    "resume",
    "spec",
    "features",
    "events",
    "update",
    "explain",
    "mounts",
    "info",
    "completion",
];

#[test]
fn the_binary_needs_no_library() {
    if std::env::var_os("CAPSID").is_none() {
        skip!("$CAPSID is not set: cargo's own build is not the static one");
    }
    let outcome = Outcome::of(std::process::Command::new("ldd").arg(machine::capsid()));
    let text = format!("{}{}", outcome.stdout, outcome.stderr);
    assert!(
        text.contains("statically linked") || text.contains("not a dynamic executable"),
        "{text}"
    );
}

#[test]
fn version_names_the_program_and_the_specification() {
    let stage = stage!();
    for flag in ["--version", "-v"] {
        let outcome = Outcome::of(stage.bare().arg(flag)).ok();
        let lines: Vec<_> = outcome.stdout.lines().collect();
        assert!(
            lines[0].starts_with("capsid version ") && lines[0].split('.').count() == 3,
            "{outcome}"
        );
        assert!(
            lines.iter().any(|line| line.starts_with("commit: ")),
            "{outcome}"
        );
        assert!(
            lines.iter().any(|line| line.starts_with("spec: 1.3")),
            "{outcome}"
        );
        assert!(lines[3].starts_with("+SYSTEMD +SELINUX "), "{outcome}");
    }
}

#[test]
fn every_verb_has_help() {
    let stage = stage!();
    Outcome::of(stage.bare().arg("--help")).ok();
    for verb in VERBS {
        for flag in ["--help", "-h"] {
            let outcome = Outcome::of(stage.bare().args([verb, flag])).ok();
            assert!(
                outcome.stdout.contains(verb) && outcome.stdout.contains("--help"),
                "{outcome}"
            );
        }
    }
}

#[test]
fn a_usage_error_exits_with_2() {
    let stage = stage!();
    for args in [
        vec!["no-such-verb"],
        vec!["--no-such-flag", "list"],
        vec!["state"],
        vec!["create", "--bundle"],
        vec!["list", "--no-such-flag"],
    ] {
        let outcome = Outcome::of(stage.bare().args(&args)).exits(2);
        assert!(!outcome.stderr.is_empty(), "{outcome}");
    }
}

#[test]
fn info_tells_what_the_machine_has() {
    let stage = stage!();
    let info = Outcome::of(stage.bare().args(["info", "--format", "json"])).ok();
    let json = info.json();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(json["kernel"], kernel.trim());
    let version = match machine::cgroups() {
        machine::Cgroups::V1 => "v1",
        machine::Cgroups::V2 => "v2",
        machine::Cgroups::Hybrid => "hybrid",
    };
    assert_eq!(json["cgroups"]["version"], version);
    let has = |key: &str, word: &str| json[key].as_array().unwrap().contains(&word.into());
    assert!(
        has("namespaces", "user") && has("capabilities", "CAP_CHOWN"),
        "{info}"
    );
    let text = Outcome::of(stage.bare().arg("info")).ok().stdout;
    let line = |name: &str| text.lines().find(|line| line.starts_with(name));
    assert!(
        line("kernel").is_some_and(|line| line.ends_with(kernel.trim())),
        "{text}"
    );
}

#[test]
fn a_shell_completes_verbs_options_and_ids() {
    let stage = stage!();
    let container = stage.running();
    let script = stage.path("completion");
    let text = Outcome::of(stage.bare().args(["completion", "bash"])).ok();
    std::fs::write(&script, text.stdout).unwrap();
    let completes = |line: &str| {
        let script = format!(
            "capsid() {{ {} --root {} \"$@\"; }}; . {}; COMP_WORDS=({line}); \
             COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _capsid; echo \" ${{COMPREPLY[*]}} \"",
            stage.runtime.display(),
            stage.state_root().display(),
            script.display(),
        );
        Outcome::of(std::process::Command::new("bash").args(["-c", &script])).ok()
    };
    completes("capsid cre").prints(" create ");
    completes("capsid --root /x create --pidf").prints(" --pidfd-socket ");
    completes("capsid kill ''").prints(&format!(" {} ", container.id));
    completes("capsid mounts a").prints(" add ");
    completes("capsid mounts add --op").prints(" --options ");
    for (shell, words) in [
        ("zsh", "#compdef capsid"),
        ("fish", "-n __fish_use_subcommand -a create"),
    ] {
        Outcome::of(stage.bare().args(["completion", shell]))
            .ok()
            .prints(words);
    }
    Outcome::of(stage.bare().args(["completion", "sh"])).exits(2);
}

#[test]
fn features_tells_what_the_specification_asks_for() {
    let stage = stage!();
    let features = Outcome::of(stage.bare().arg("features")).ok().json();
    assert_eq!(
        (&features["ociVersionMin"], &features["ociVersionMax"]),
        (&"1.0.0".into(), &"1.3.0".into())
    );
    let version = Outcome::of(stage.bare().arg("--version")).ok().stdout;
    let commit = version
        .lines()
        .find_map(|line| line.strip_prefix("commit: "));
    assert_eq!(features["annotations"]["capsid.commit"], commit.unwrap());
    let has = |pointer: &str, word: &str| {
        features
            .pointer(pointer)
            .and_then(Value::as_array)
            .is_some_and(|list| list.contains(&word.into()))
    };
    let unsafe_ones = "/potentiallyUnsafeConfigAnnotations";
    for annotation in [
        "capsid.lxcfs",
        "run.oci.systemd.subgroup",
        "run.oci.delegate-cgroup",
    ] {
        assert!(has(unsafe_ones, annotation), "{features}");
    }
    for option in [
        "bind",
        "rbind",
        "ro",
        "rro",
        "nosuid",
        "private",
        "rshared",
        "nosymfollow",
    ] {
        assert!(has("/mountOptions", option), "{option}");
    }
    for kind in [
        "pid", "network", "ipc", "uts", "mount", "user", "cgroup", "time",
    ] {
        assert!(has("/linux/namespaces", kind), "{kind}");
    }
    assert!(has("/linux/capabilities", "CAP_CHECKPOINT_RESTORE"));
    assert!(has(
        "/linux/seccomp/supportedFlags",
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW"
    ));
    let killable = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV";
    assert!(has("/linux/seccomp/knownFlags", killable));
    let uname = nix::sys::utsname::uname().unwrap();
    let release = uname.release().to_str().unwrap();
    let mut numbers = release
        .split('.')
        .map_while(|word| word.parse::<u32>().ok());
    assert_eq!(
        has("/linux/seccomp/supportedFlags", killable),
        (numbers.next(), numbers.next()) >= (Some(5), Some(19)),
        "Linux {release}"
    );
    for version in ["v1", "v2"] {
        assert_eq!(features["linux"]["cgroup"][version], true, "{version}");
    }
}

#[test]
fn spec_writes_a_configuration_that_runs_and_never_overwrites_one() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    let folder = bundle.folder.to_string_lossy().into_owned();
    Outcome::of(stage.bare().args(["spec", "--bundle", &folder])).ok();
    let file = bundle.folder.join("config.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let config: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(config["process"]["terminal"], true);
    assert_eq!(config["process"]["args"], serde_json::json!(["sh"]));
    Outcome::of(stage.bare().args(["spec", "--bundle", &folder])).refuses(&["config.json"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    bundle.config = config;
    bundle
        .set("/process/terminal", false.into())
        .set("/linux/cgroupsPath", "ENCLOSURE".into());
    assert_eq!(stage.prints(&mut bundle, "echo it runs"), "it runs");
}

#[test]
fn specs_configuration_says_what_runcs_says() {
    let stage = stage!();
    if !machine::has_program("runc") {
        skip!("no runc here");
    }
    for option in [&[][..], &["--rootless"]] {
        let mut configs = Vec::new();
        for program in [stage.runtime.as_os_str(), "runc".as_ref()] {
            let folder = stage.path(&format!("{}{}", configs.len(), option.len()));
            std::fs::create_dir(&folder).unwrap();
            Outcome::of(
                std::process::Command::new(program)
                    .arg("spec")
                    .args(option)
                    .current_dir(&folder),
            )
            .ok();
            let mut config: Value =
                serde_json::from_str(&std::fs::read_to_string(folder.join("config.json")).unwrap())
                    .unwrap();
            // The version, the name, what later releases of runc write besides, and a set that can't act.
            for pointer in ["/ociVersion", "/hostname", "/linux/maskedPaths"] {
                config.pointer_mut(pointer).map(Value::take);
            }
            if let Some(Value::Object(sets)) = config.pointer_mut("/process/capabilities") {
                sets.remove("ambient");
            }
            if let Some(Value::Array(list)) = config.pointer_mut("/linux/namespaces") {
                list.retain(|namespace| namespace["type"] != "cgroup");
            }
            configs.push(config);
        }
        assert_eq!(configs[0], configs[1], "{option:?}");
    }
}

#[test]
fn explain_prints_the_steps_and_makes_nothing() {
    let stage = stage!();
    let mut bundle: Bundle = stage.bundle();
    bundle.args(&["/bin/true"]).write("explained");
    let outcome = Outcome::of(stage.capsid().arg("explain").arg(&bundle.folder)).ok();
    for word in ["proc", "/dev", "/sys", "pivot", "/bin/true", "no_new_privs"] {
        assert!(
            outcome.stdout.to_lowercase().contains(word),
            "no {word}: {outcome}"
        );
    }
    Outcome::of(
        stage
            .capsid()
            .args(["explain", "--format", "json"])
            .arg(&bundle.folder),
    )
    .ok()
    .json();
    assert_eq!(std::fs::read_dir(stage.state_root()).unwrap().count(), 0);
    bundle
        .set("/process/cwd", "relative".into())
        .write("explained");
    Outcome::of(stage.capsid().arg("explain").arg(&bundle.folder)).refuses(&["/process/cwd"]);
}

#[test]
fn explain_lists_everything_that_is_wrong() {
    let stage = stage!();
    let mut bundle: Bundle = stage.bundle();
    bundle
        .set("/process/cwd", "relative".into())
        .set("/process/oomScoreAdj", 1001.into())
        .write("explained");
    let explained = |format| {
        let mut command = stage.capsid();
        command
            .args(["explain", "--format", format])
            .arg(&bundle.folder);
        Outcome::of(&mut command)
    };
    let outcome = explained("text");
    for place in ["/process/cwd", "/process/oomScoreAdj"] {
        let line = format!("problem: {place}: ");
        assert!(outcome.stdout.contains(&line), "no {line}: {outcome}");
    }
    outcome.refuses(&["/process/cwd"]);
    let json: serde_json::Value = serde_json::from_str(&explained("json").stdout).unwrap();
    assert_eq!(json["problems"][1]["pointer"], "/process/oomScoreAdj");
}
