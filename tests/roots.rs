//! Promise: the root of a container propagates mounts as config.json says and no further, is read-only where it
//! should be, hides what should be hidden, and without pivot_root(2) gives away no more than has to be.

use serde_json::json;

use crate::harness::{Bundle, Outcome, Stage};
use crate::stage;

/// The optional fields of the root's line of mountinfo, without their numbers.
fn propagation(mountinfo: &str) -> Vec<&str> {
    let root = mountinfo
        .lines()
        .find(|line| line.split(' ').nth(4) == Some("/"));
    let fields = root.expect("a root").split(' ').skip(6);
    let fields = fields.take_while(|field| *field != "-");
    fields
        .map(|field| field.split(':').next().unwrap())
        .collect()
}

/// Runs a script in a mount namespace of its own whose mounts are all shared, as on a machine with systemd; $1 is
/// the bundle, $2 the id, $3 a folder of the test.
#[track_caller]
fn where_all_is_shared(stage: &Stage, bundle: &Bundle, script: &str) -> Outcome {
    let id = stage.id();
    bundle.write(&id);
    let script = format!("set -e; mount --make-rshared /\n{script}");
    Outcome::of(
        stage
            .in_own_mounts(&script)
            .arg(&bundle.folder)
            .arg(id)
            .arg(&stage.folder),
    )
}

#[test]
fn each_word_for_the_roots_propagation_has_its_meaning() {
    let stage = stage!();
    for (word, expected) in [
        ("", &["master"][..]),
        ("shared", &["shared"]),
        ("rshared", &["shared"]),
        ("slave", &["master"]),
        ("rslave", &["master"]),
        ("private", &[]),
        ("rprivate", &[]),
        ("unbindable", &["unbindable"]),
        ("runbindable", &["unbindable"]),
    ] {
        let mut bundle = stage.bundle();
        bundle.set("/linux/rootfsPropagation", json!(word));
        bundle.sh("cat /proc/self/mountinfo");
        let script = "before=$(cat /proc/self/mountinfo); $capsid run --bundle $1 $2; [ \"$before\" = \"$(cat /proc/self/mountinfo)\" ]";
        let outcome = where_all_is_shared(&stage, &bundle, script).ok();
        let mut found = propagation(&outcome.stdout);
        found.sort_unstable_by(|a, b| b.cmp(a));
        assert_eq!(found, expected, "{word:?}: {outcome}");
        let below = outcome
            .stdout
            .lines()
            .find(|line| line.contains(" /dev/shm "));
        let below = below.unwrap();
        let has = below.contains("shared:") || below.contains("unbindable");
        assert_eq!(has, ["rshared", "runbindable"].contains(&word), "{outcome}");
    }
}

#[test]
fn a_shared_volume_passes_mounts_as_the_root_allows() {
    let stage = stage!();
    for (word, option, out, inside) in [
        ("rshared", "rshared", "made inside", "made outside"),
        ("rslave", "rslave", "", "made outside"),
        ("rprivate", "rprivate", "", ""),
        ("", "rshared", "", "made outside"),
    ] {
        let mut bundle = stage.bundle();
        let volume = stage.path("volume");
        std::fs::create_dir_all(&volume).unwrap();
        bundle
            .set("/linux/rootfsPropagation", json!(word))
            .capabilities(&["CAP_SYS_ADMIN"])
            .bind(&volume, "/mnt", &["rbind", option])
            .sleeps();
        let script = "v=$3/volume; mount -t tmpfs v $v; mount --make-shared $v; mkdir $v/in $v/out
            $capsid create --bundle $1 $2 >/dev/null; $capsid start $2
            $capsid exec $2 sh -c 'mount -t tmpfs x /mnt/in && echo made inside > /mnt/in/f'
            mount -t tmpfs y $v/out; echo made outside > $v/out/f
            echo \"out=$(cat $v/in/f 2>/dev/null || :)\"
            echo \"in=$($capsid exec $2 sh -c 'cat /mnt/out/f 2>/dev/null || :')\"
            $capsid delete --force $2";
        let outcome = where_all_is_shared(&stage, &bundle, script).ok();
        let expected = format!("out={out}\nin={inside}");
        assert_eq!(outcome.line(), expected, "{word:?}: {outcome}");
    }
}

#[test]
fn of_what_a_shared_root_mounts_itself_nothing_reaches_the_host() {
    let stage = stage!();
    for user in [false, true] {
        let mut bundle = stage.own_bundle();
        bundle
            .set("/linux/rootfsPropagation", json!("rshared"))
            .set("/root/readonly", json!(false))
            .capabilities(&["CAP_SYS_ADMIN"])
            // Over everything that there is: what is masked, the devices, the cgroups.
            .sh("cut -d ' ' -f 5 /proc/self/mountinfo | tac > /tmp/lla; while read m; do \
                 if [ -d $m ]; then mkdir -p $m/in 2>/dev/null && mount -t tmpfs x $m/in; [ $m = / ] || mount -t tmpfs x $m; \
                 else mount --bind /etc/passwd $m; fi; done < /tmp/lla 2>/dev/null; echo tried");
        if user {
            bundle.user_namespace(0, 65_536);
        }
        let script = "cut -d ' ' -f 4- /proc/self/mountinfo > $3/before; $capsid run --bundle $1 $2; \
                      cut -d ' ' -f 4- /proc/self/mountinfo > $3/after; diff $3/before $3/after; ls -l /dev/null";
        let outcome = where_all_is_shared(&stage, &bundle, script).ok();
        assert!(outcome.stdout.starts_with("tried\ncrw"), "{outcome}");
    }
}

#[test]
fn masked_folders_share_one_empty_file_system() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    bundle
        .set("/root/readonly", json!(false))
        .set(
            "/linux/maskedPaths",
            json!(["/etc", "/home", "/sys/firmware", "/etc/passwd"]),
        )
        .capabilities(&["CAP_DAC_OVERRIDE", "CAP_FOWNER"]);
    let script = "stat -c %d /etc /home /sys/firmware | sort -u | wc -l; ls -A /etc /home /sys/firmware | grep -v : | grep -c .; \
                  for d in /etc /home /sys/firmware; do touch $d/x 2>/dev/null && echo made; chmod 777 $d 2>/dev/null && echo changed; done; \
                  grep -c ' ro,.* - tmpfs .*nr_blocks=1\\|size=4k' /proc/self/mountinfo";
    assert_eq!(stage.prints(&mut bundle, script), "1\n0\n3");
}

#[test]
fn a_read_only_path_is_so_with_all_that_is_mounted_below() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    bundle
        .set("/root/readonly", json!(false))
        .mount("/mnt", "tmpfs", "tmpfs", &[])
        .mount("/mnt/deep/er", "tmpfs", "tmpfs", &[])
        .set("/linux/readonlyPaths", json!(["/mnt", "/etc/passwd"]));
    let script = "for f in /mnt/x /mnt/deep/x /mnt/deep/er/x /etc/passwd; do (echo x > $f) 2>/dev/null && echo wrote $f; done; touch /etc/x && echo done";
    assert_eq!(stage.prints(&mut bundle, script), "done");
}

#[test]
fn of_the_root_as_a_path_the_root_alone_is_read_only_and_nothing_masked() {
    let stage = stage!();
    for user in [false, true] {
        let mut bundle = stage.own_bundle();
        if user {
            bundle.user_namespace(100_000, 65_536);
            let rootfs = bundle.folder.join("rootfs");
            std::os::unix::fs::chown(rootfs, Some(100_000), Some(100_000)).unwrap();
        }
        bundle
            .set("/root/readonly", json!(false))
            .mount("/mnt", "tmpfs", "tmpfs", &[]);
        let script = "touch /x 2>/dev/null && echo made; touch /mnt/y && echo fine; ls /mnt";
        assert_eq!(stage.prints(&mut bundle, script), "made\nfine\ny");
        std::os::unix::fs::symlink("/", bundle.folder.join("rootfs/leads")).unwrap();
        let script = "rm /x 2>/dev/null && echo removed; touch /mnt/y && echo fine";
        for root in ["/home/..", "/leads"] {
            bundle.set("/linux/readonlyPaths", json!([root]));
            assert_eq!(stage.prints(&mut bundle, script), "fine", "{root}");
        }
        bundle.set("/linux/readonlyPaths", json!([]));
        bundle.set("/linux/maskedPaths", json!(["/"]));
        bundle.sh("ls -d /x /mnt");
        let outcome = stage.run(&bundle).ok();
        assert_eq!(outcome.stdout, "/mnt\n/x\n");
        let notice = "/linux/maskedPaths/0: the root itself can't be masked";
        assert!(outcome.stderr.contains(notice), "{outcome}");
        let (_, outcome) = stage.try_create_with(&bundle, &["--strict"]);
        outcome.refuses(&["/linux/maskedPaths/0", "--strict"]);
    }
}

#[test]
fn s23_no_link_of_the_image_puts_a_volume_over_the_root() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    let volume = stage.path("volume");
    std::fs::create_dir(&volume).unwrap();
    std::os::unix::fs::symlink("/", bundle.folder.join("rootfs/leads")).unwrap();
    std::os::unix::fs::symlink("leads", bundle.folder.join("rootfs/twice")).unwrap();
    bundle.sleeps();
    let mounts = bundle.config["mounts"].clone();
    for place in ["/leads", "/twice"] {
        let said = [
            "/mounts/",
            place,
            "the container's root",
            "device or resource busy",
        ];
        bundle.bind(&volume, place, &[]);
        stage.try_create(&bundle).refuses(&said);
        for words in [&[][..], &["tmpcopyup"]] {
            bundle.set("/mounts", mounts.clone());
            bundle.mount(place, "tmpfs", "tmpfs", words);
            stage.try_create(&bundle).refuses(&said);
        }
        bundle.set("/mounts", mounts.clone());
    }
    // A mask takes nothing away there, and who comes later sees the same.
    bundle.set("/linux/maskedPaths", json!(["/leads"]));
    let container = stage.create(&bundle);
    container.start().ok();
    let volume = volume.to_string_lossy();
    stage
        .call(&["mounts", "add", &container.id, &volume, "/leads"])
        .refuses(&["the container's root"]);
    container
        .exec(&["/bin/sh", "-c", "test -e /leads/proc/self"])
        .ok();
    container.call("delete", &["--force"]).ok();
}

#[test]
fn a_read_only_root_leaves_its_mounts_writable() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.mount("/mnt", "tmpfs", "tmpfs", &[]);
    let script = "touch /x 2>/dev/null && echo made; touch /mnt/x && echo fine; grep -c ' / ro,' /proc/self/mountinfo";
    assert_eq!(stage.prints(&mut bundle, script), "fine\n1");
}

#[test]
fn without_pivot_a_container_runs_as_with_it() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.mount("/mnt", "tmpfs", "tmpfs", &[]);
    bundle.sh("ls /; cat /proc/1/comm; touch /x 2>/dev/null || echo read-only; touch /mnt/x; ls /mnt; readlink /proc/self/root; ls / | wc -l");
    let with = stage.run(&bundle).ok();
    let without = stage.run_with(&bundle, &["--no-pivot"]).ok();
    assert_eq!(with.stdout, without.stdout);
    assert!(with.stdout.contains("read-only\nx\n/\n"), "{with}");
    let (id, outcome) = stage.try_create_with(&bundle, &["--no-pivot"]);
    outcome.ok();
    stage.call(&["start", &id]).ok();
}

#[test]
fn without_pivot_a_private_root_is_refused() {
    let stage = stage!();
    for word in ["private", "rprivate"] {
        let mut bundle = stage.bundle();
        bundle.set("/linux/rootfsPropagation", json!(word));
        let words = [
            "/linux/rootfsPropagation",
            "rootfsPropagation of [r]private is not safe without pivot_root",
        ];
        stage.run_with(&bundle, &["--no-pivot"]).refuses(&words);
    }
}

#[test]
fn without_pivot_a_container_still_can_not_mount_a_whole_proc() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .capabilities(&["CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_SETFCAP"])
        .sh("unshare -Urmpf sh -c 'mount -t proc proc /proc 2>/dev/null && echo a whole proc; mount -t sysfs sysfs /sys 2>/dev/null && echo a whole sysfs; echo tried'");
    assert_eq!(stage.run(&bundle).ok().line(), "tried");
    // Each procfs of the caller's would do, wherever it is, and whatever lies on it.
    let script = "mkdir -p $3/p $3/q; mount -t proc proc $3/p; mount -t proc proc $3/q; mount -t tmpfs t $3/q; \
                  mount -t proc proc $3/p; mkdir -p $3/r/s; mount -t proc proc $3/r/s; mount -t tmpfs t $3/r; $capsid run --no-pivot --bundle $1 $2; ls $3/p/self/status";
    let outcome = where_all_is_shared(&stage, &bundle, script).ok();
    assert_eq!(outcome.stdout.lines().next(), Some("tried"), "{outcome}");
}
