//! Who the process of an exec is: users and groups by number and by their names in the container, and the home
//! that its account files give.

use crate::stage;

#[test]
fn s10_exec_takes_the_user_by_number_and_never_falls_back_to_root() {
    let stage = stage!();
    let container = stage.running();
    for (user, expected) in [
        ("1000", "1000 0"),
        ("1000:1000", "1000 1000"),
        ("0:5", "0 5"),
        ("4242:4243", "4242 4243"),
    ] {
        container
            .exec_with(&["--user", user], &["sh", "-c", "echo $(id -u) $(id -g)"])
            .ok()
            .prints(expected);
    }
    for user in [
        "4294967296",
        "4294967295",
        "-1",
        "1:x",
        "1:-2",
        "",
        "nobody-of-that-name",
        "1:2:3",
        " 1",
    ] {
        let outcome = container.exec_with(&["--user", user], &["id", "-u"]);
        assert_ne!(outcome.code, 0, "{outcome}");
    }
}

#[test]
fn exec_takes_users_and_groups_by_their_names_in_the_container() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    let etc = std::path::PathBuf::from(bundle.config["root"]["path"].as_str().unwrap()).join("etc");
    std::fs::write(
        etc.join("passwd"),
        "root:x:0:0::/root:/bin/sh\nuser:x:1000:1001::/home/user:/bin/sh\n7:x:0:0::/:/bin/sh\nbad:x:-1:0::/:\nhuge:x:4294967295:0::/:\n",
    )
    .unwrap();
    std::fs::write(
        etc.join("group"),
        "root:x:0:\nusers:x:1001:\naudio:x:29:other,user\nvideo:x:44:user\nno:x:45:usero\n",
    )
    .unwrap();
    bundle.sleeps();
    let container = stage.create(&bundle);
    container.start().ok();
    let ids = [
        "sh",
        "-c",
        "echo $(id -u) $(id -g) $(grep Groups /proc/self/status) $HOME",
    ];
    for (user, expected) in [
        ("user", "1000 1001 Groups: 29 44 /home/user"),
        ("user:audio", "1000 29 Groups: 29 44 /home/user"),
        ("user:5", "1000 5 Groups: 29 44 /home/user"),
        ("1000:video", "1000 44 Groups: /home/user"),
        // Digits are a number, also where a name looks the same.
        ("7", "7 0 Groups: /"),
        ("root", "0 0 Groups: /root"),
    ] {
        let outcome = container.exec_with(&["--user", user], &ids).ok();
        assert_eq!(outcome.line(), expected, "{user}");
    }
    container
        .exec_with(&["-g", "audio", "-g", "7"], &ids)
        .ok()
        .prints("Groups: 7 29");
    for (user, tail) in [
        ("nobody", "no matching entries in passwd file"),
        ("bad", "no matching entries in passwd file"),
        ("huge", "no matching entries in passwd file"),
        ("user:nobody", "no matching entries in group file"),
    ] {
        container
            .exec_with(&["--user", user], &ids)
            .fails_with(255, &[tail]);
    }
}

#[test]
fn exec_adds_groups() {
    let stage = stage!();
    let container = stage.running();
    container
        .exec_with(
            &["--additional-gids", "100", "--additional-gids", "65534"],
            &["grep", "Groups", "/proc/self/status"],
        )
        .ok()
        .prints("Groups:\t100 65534");
}

#[test]
fn exec_finds_home_in_the_containers_passwd() {
    let stage = stage!();
    let container = stage.running();
    container
        .exec_with(&["--user", "1000"], &["sh", "-c", "echo $HOME"])
        .ok()
        .prints("/home/user");
    container
        .exec_with(&["--user", "0"], &["sh", "-c", "echo $HOME"])
        .ok()
        .prints("/root");
    container
        .exec_with(&["--user", "777"], &["sh", "-c", "echo $HOME"])
        .ok()
        .prints("/");
    container
        .exec_with(&["--env", "HOME=/elsewhere"], &["sh", "-c", "echo $HOME"])
        .ok()
        .prints("/elsewhere");
    container
        .exec_with(&["--env", "HOME="], &["sh", "-c", "echo $HOME"])
        .ok()
        .prints("/root");
}

#[test]
fn s13_account_files_that_are_no_files_are_refused_in_time() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    let etc = std::path::PathBuf::from(bundle.config["root"]["path"].as_str().unwrap()).join("etc");
    bundle.sleeps();
    let container = stage.create(&bundle);
    container.start().ok();
    for make in [
        "mkfifo $1/passwd",
        "mknod $1/passwd c 1 5",
        "mkdir $1/passwd",
        "ln -s /proc/self/fd/0 $1/passwd",
        "ln -s ../../../../../../../../etc/secret $1/passwd",
        "truncate -s 1G $1/passwd",
    ] {
        let script = format!("rm -rf $1/passwd; {make}");
        stage.shell(&script, &[&etc.to_string_lossy()]).ok();
        let outcome = container.exec_with(&["--user", "user"], &["id"]);
        assert_eq!(outcome.code, 255, "{make}: {outcome}");
        assert!(
            outcome.took < std::time::Duration::from_secs(10),
            "{make}: {outcome}"
        );
    }
}
