//! Promise: a program that can't be executed is told why, with the text that engines match at the end.

use std::path::{Path, PathBuf};

use crate::{skip, stage};

/// What `run` and `exec` say of a program that can't be executed, each with its tail.
#[test]
fn a_program_that_can_not_be_executed_is_told_why() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    let rootfs = PathBuf::from(bundle.config["root"]["path"].as_str().unwrap());
    let make = r#"cd "$1"; mkdir t; printf '#!/no/interp -x\n' > t/script; printf 'echo no shebang\n' > t/text;
        printf 'x' > t/plain; printf '#!/bin/sh\n' > t/closed; printf '#!/t/plain\n' > t/denied; cp bin/busybox t/other; cp "$2" t/dynamic; chmod 755 t/script t/text t/denied t/other t/dynamic; chmod 644 t/plain t/closed
        printf '\267\0' | dd of=t/other bs=1 seek=18 conv=notrunc 2>/dev/null"#;
    let dynamic = ["/usr/bin/env", "/bin/ls"]
        .iter()
        .find(|path| Path::new(path).exists());
    let Some(dynamic) = dynamic else {
        skip!("no dynamic program here");
    };
    stage
        .shell(make, &[&rootfs.to_string_lossy(), dynamic])
        .ok();
    bundle
        .mount("/noexec", "tmpfs", "tmpfs", &["noexec"])
        .sleeps();
    let container = stage.create(&bundle);
    container.start().ok();
    container.sh("cp /bin/busybox /noexec/program");
    let other = if cfg!(target_arch = "aarch64") {
        ""
    } else {
        "it is built for aarch64"
    };
    for (program, needles) in [
        (
            "nosuch",
            ["exec: \"nosuch\": executable file not found in $PATH", ""],
        ),
        (
            "/t/nosuch",
            [
                "exec: \"/t/nosuch\": stat /t/nosuch: no such file or directory",
                "",
            ],
        ),
        (
            "/t/plain",
            [
                "its mode doesn't let this user execute it: exec: \"/t/plain\": permission denied",
                "",
            ],
        ),
        (
            "/t/closed",
            [
                "its mode doesn't let this user execute it: exec: \"/t/closed\": permission denied",
                "",
            ],
        ),
        (
            "/t/plain/x",
            ["exec: \"/t/plain/x\": stat /t/plain/x: not a directory", ""],
        ),
        (
            "/t",
            ["exec: \"/t\": is a directory: permission denied", ""],
        ),
        (
            "/t/script",
            [
                "the interpreter /no/interp of its first line is missing",
                "exec /t/script: no such file or directory",
            ],
        ),
        (
            "/t/denied",
            [
                "the interpreter /t/plain of its first line",
                "exec /t/denied: permission denied",
            ],
        ),
        (
            "/t/dynamic",
            [
                "the loader /lib",
                "exec /t/dynamic: no such file or directory",
            ],
        ),
        (
            "/t/text",
            [
                "a script without a #! line",
                "exec /t/text: exec format error",
            ],
        ),
        ("/t/other", [other, "exec /t/other: exec format error"]),
        (
            "/noexec/program",
            [
                "has the option noexec",
                "exec: \"/noexec/program\": permission denied",
            ],
        ),
    ] {
        let outcome = container.exec(&[program]).fails_with(255, &needles);
        let line = outcome.stderr.replace("\\\"", "\"");
        let line = line.trim_end().trim_end_matches('"');
        let tail = needles
            .iter()
            .rev()
            .find(|needle| !needle.is_empty())
            .unwrap();
        let last = tail.split("it: ").last().unwrap();
        assert!(
            line.ends_with(last) || program == "/t/text" || program == "nosuch",
            "{outcome}"
        );
    }
    for (program, needle) in [
        ("/t/script", "/no/interp"),
        ("/t/dynamic", "the loader /lib"),
    ] {
        bundle.args(&[program]);
        let created = stage.create(&bundle);
        created.start().refuses(&[
            needle,
            &format!("exec {program}: no such file or directory"),
        ]);
    }
}
