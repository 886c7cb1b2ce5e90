//! The labels that security modules give to the process and to what is mounted for it
//! (apparmor(7), selinux(8)): refused where the module is off, because a container that was
//! to be confined must not run unconfined.
//!
//! A process is labelled before anything of the container is mounted or joined: until then
//! /proc is the host's, and nothing that an image could put over its files is there
//! (CVE-2019-16884). The label holds from execve(2) on, also in a process cloned meanwhile.

use std::ffi::CStr;

use oci_spec::runtime::{Linux, Process};

use super::draft::c_string;
use super::{Open, Plan};
use crate::error::{Code, Error, Result};
use crate::host::Modules;
use crate::step::{FsOption, Label, Mount, Source, Step};

/// The file systems that take no label of their own.
const UNLABELLED: [&[u8]; 5] = [b"proc", b"sysfs", b"mqueue", b"cgroup", b"cgroup2"];

/// The security modules whose labels a configuration asks for.
pub(crate) fn asked_modules(process: Option<&Process>, linux: Option<&Linux>) -> Modules {
    let label = process.and_then(label).or(linux.and_then(mount_label));
    Modules {
        apparmor: process.and_then(profile).is_some(),
        selinux: label.is_some(),
    }
}

fn given(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}

fn profile(process: &Process) -> Option<&str> {
    given(process.apparmor_profile().as_ref())
}

fn label(process: &Process) -> Option<&str> {
    given(process.selinux_label().as_ref())
}

fn mount_label(linux: &Linux) -> Option<&str> {
    given(linux.mount_label().as_ref())
}

/// The steps that label the process, and the keyring that it will make.
pub(super) fn label_process(
    process: &Process,
    modules: Modules,
    pointer: &str,
    plan: &mut Plan,
) -> Result<()> {
    if let Some(profile) = profile(process) {
        let here = format!("{pointer}/apparmorProfile");
        if !modules.apparmor {
            let tail = "apparmor: config provided but apparmor not supported";
            return Err(off(tail, here, "AppArmor is off on this machine"));
        }
        let profile = c_string(profile, &here)?;
        plan.step_for(Step::Label(Label::Profile(profile)), here);
    }
    if let Some(label) = label(process) {
        let here = format!("{pointer}/selinuxLabel");
        selinux(modules, &here)?;
        let label = c_string(label, &here)?;
        plan.step_for(Step::Label(Label::Context(label.clone())), &*here);
        plan.step_for(Step::Label(Label::Keyrings(label)), here);
    }
    Ok(())
}

/// Gives every new file system of the container its label.
pub(super) fn label_mounts(linux: Option<&Linux>, modules: Modules, plan: &mut Plan) -> Result<()> {
    const HERE: &str = "/linux/mountLabel";
    let Some(label) = linux.and_then(mount_label) else {
        return Ok(());
    };
    selinux(modules, HERE)?;
    let label = c_string(label, HERE)?;
    for planned in &mut plan.steps {
        match &mut planned.step {
            Step::Mount(mount) | Step::MakeMount(mount) => label_mount(mount, &label),
            Step::MountOr { mount, otherwise } => {
                label_mount(mount, &label);
                label_mount(otherwise, &label);
            }
            Step::Mask { label: masks, .. } => *masks = Some(label.clone()),
            _ => {}
        }
    }
    for open in &mut plan.opens {
        if let Open::FileSystem {
            fstype, options, ..
        } = open
        {
            label_options(fstype, options, &label);
        }
    }
    Ok(())
}

fn label_mount(mount: &mut Mount, label: &CStr) {
    if let Source::New {
        fstype, options, ..
    } = &mut mount.source
    {
        label_options(fstype, options, label);
    }
}

fn label_options(fstype: &CStr, options: &mut Vec<FsOption>, label: &CStr) {
    if !UNLABELLED.contains(&fstype.to_bytes())
        // Engines give some mounts a context of their own; SELinux refuses a second.
        && !options.iter().any(|option| option.key.to_bytes() == b"context")
    {
        options.push(FsOption {
            key: c"context".to_owned(),
            value: Some(label.to_owned()),
            ..FsOption::default()
        });
    }
}

fn selinux(modules: Modules, pointer: &str) -> Result<()> {
    match modules.selinux {
        true => Ok(()),
        false => {
            let tail =
                "selinux label is specified in config, but selinux is disabled or not supported";
            Err(off(tail, pointer, "SELinux is off on this machine"))
        }
    }
}

fn off(tail: &str, pointer: impl Into<String>, hint: &str) -> Error {
    Error::new(Code::InvalidConfig, tail).at(pointer).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::{Attributes, SourceLink, Target};

    fn process(field: &str) -> Process {
        let text = format!(r#"{{"user": {{"uid": 0, "gid": 0}}, "cwd": "/"{field}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    fn steps(field: &str, modules: Modules) -> Result<Vec<String>> {
        let mut plan = Plan::empty();
        label_process(&process(field), modules, "/process", &mut plan)?;
        let words = plan.steps.iter().map(|planned| planned.step.to_string());
        Ok(words.collect())
    }

    const ON: Modules = Modules {
        apparmor: true,
        selinux: true,
    };

    #[test]
    fn a_process_without_labels_gets_no_step_and_no_look_at_the_machine() {
        for field in ["", r#", "apparmorProfile": "", "selinuxLabel": """#] {
            assert!(steps(field, Modules::default()).unwrap().is_empty());
            let process = process(field);
            assert_eq!(Modules::probe(Some(&process), None), Modules::default());
        }
    }

    #[test]
    fn a_label_is_refused_by_its_pointer_where_its_module_is_off() {
        let cases = [
            (
                "apparmorProfile",
                "apparmor: config provided but apparmor not supported",
            ),
            (
                "selinuxLabel",
                "selinux label is specified in config, but selinux is disabled or not supported",
            ),
        ];
        for (name, tail) in cases {
            let refused = steps(&format!(r#", "{name}": "x""#), Modules::default()).unwrap_err();
            assert_eq!(refused.pointer(), Some(&*format!("/process/{name}")));
            assert_eq!(refused.tail(), tail);
        }
    }

    #[test]
    fn a_selinux_label_is_the_keyrings_too() {
        let asked = r#", "selinuxLabel": "u:r:t:s0", "apparmorProfile": "p""#;
        assert_eq!(
            steps(asked, ON).unwrap(),
            [
                "take the AppArmor profile p at execve",
                "take the SELinux label u:r:t:s0 at execve",
                "give new keyrings the SELinux label u:r:t:s0",
            ]
        );
    }

    #[test]
    fn a_mount_with_a_context_of_its_own_gets_no_second() {
        let config: oci_spec::runtime::Spec =
            serde_json::from_str(r#"{"ociVersion": "1.3.0", "linux": {"mountLabel": "u:r:t:s0"}}"#)
                .unwrap();
        let mount = |options: Vec<FsOption>| {
            Step::Mount(Mount {
                source: Source::New {
                    fstype: c"tmpfs".to_owned(),
                    label: c"tmpfs".to_owned(),
                    options,
                },
                target: Target::new("/mnt").unwrap(),
                attributes: Attributes::default(),
                inherit_mode: false,
                kept: None,
                copy_up: false,
                source_link: SourceLink::Follow,
                owners: None,
            })
        };
        let own = FsOption {
            key: c"context".to_owned(),
            value: Some(c"u:r:own:s0".to_owned()),
            ..FsOption::default()
        };
        let mut plan = Plan::empty();
        plan.step(mount(Vec::new()));
        plan.step(mount(vec![own]));
        plan.step(Step::Mask {
            target: Target::new("/sys/firmware").unwrap(),
            label: None,
        });
        label_mounts(config.linux().as_ref(), ON, &mut plan).unwrap();
        let words: Vec<String> = plan.steps.iter().map(|p| p.step.to_string()).collect();
        assert_eq!(
            words,
            [
                "mount tmpfs on /mnt with context=u:r:t:s0",
                "mount tmpfs on /mnt with context=u:r:own:s0",
                "mask /sys/firmware (a directory with context=u:r:t:s0)",
            ]
        );
    }
}
