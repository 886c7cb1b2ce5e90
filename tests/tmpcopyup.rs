//! Promise: a tmpfs with tmpcopyup begins with a whole copy of what it covers, and of nothing else.

use std::path::{Path, PathBuf};

use crate::harness::Bundle;
use crate::stage;

/// The image's folder `full`, after a script in it.
fn fill(bundle: &Bundle, script: &str) -> PathBuf {
    let place = bundle.folder.join("rootfs/full");
    std::fs::create_dir(&place).unwrap();
    let made = std::process::Command::new("sh")
        .args(["-e", "-c", script])
        .current_dir(&place)
        .status();
    assert!(made.unwrap().success());
    place
}

#[test]
fn tmpcopyup_begins_with_a_copy_of_what_it_covers() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    let script = r#"mkdir -p deep/er; echo text > deep/er/file; true
        chown 7:8 deep/er/file; chmod 4757 deep/er/file; ln -s /no/where link; mkfifo fifo; mknod null c 1 3
        head -c 300000 /dev/zero > deep/large; chmod 1777 deep; chown 9:9 deep
        touch -d @1000 deep/er/file deep; chmod 2711 .; chown 3:4 ."#;
    let place = fill(&bundle, script);
    bundle
        .mount("/full", "tmpfs", "tmpfs", &["tmpcopyup", "size=1m"])
        .mount("/made", "tmpfs", "tmpfs", &["ro", "tmpcopyup", "mode=700"])
        .mount("/etc", "tmpfs", "tmpfs", &["ro", "tmpcopyup"]);
    let look = "cd /full; stat -c '%n %F %a %u:%g %s' . deep/er/file link null fifo; \
                stat -c '%n %a %u:%g %Y' deep; stat -c %Y deep/er/file; readlink link; \
                wc -c < deep/large; echo more >> deep/er/file; cat deep/er/file; \
                stat -c %a /made; touch /made/x 2>/dev/null || echo refused; \
                test -s /etc/passwd && touch /etc/passwd 2>/dev/null || echo read-only";
    let expected = ". directory 2711 3:4 120\n\
        deep/er/file regular file 4757 7:8 5\n\
        link symbolic link 777 0:0 9\n\
        null character special file 644 0:0 0\n\
        fifo fifo 644 0:0 0\n\
        deep 1777 9:9 1000\n1000\n/no/where\n300000\ntext\nmore\n700\nrefused\nread-only";
    assert_eq!(stage.prints(&mut bundle, look), expected);
    let kept = std::fs::read_to_string(place.join("deep/er/file")).unwrap();
    assert_eq!(kept, "text\n", "the image has changed");
    bundle.mount("/full/deep", "tmpfs", "tmpfs", &["tmpcopyup", "size=64k"]);
    let words = [
        "/mounts/10",
        "no space left on device",
        "larger than its size",
        "large",
    ];
    stage.run(&bundle).refuses(&words);
}

#[test]
fn tmpcopyup_keeps_names_of_one_file_and_extended_attributes() {
    use rustix::fs::{XattrFlags, getxattr, setxattr};
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    let script = r#"mkdir deep .names-0; echo text > one; ln one deep/two; ln one three; echo own > four
        mkfifo fifo; ln fifo deep/fifo; ln -s nowhere link; ln -P link deep/link"#;
    let place = fill(&bundle, script);
    // Version 2: cap_net_raw+ep.
    let capability = [
        1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let long = [b'x'; 3000];
    let kept: [(&str, &str, &[u8]); 3] = [
        ("one", "security.capability", &capability),
        ("deep", "trusted.mine", b"mine"),
        ("four", "trusted.long", &long),
    ];
    for (file, name, value) in kept {
        setxattr(place.join(file), name, value, XattrFlags::empty()).unwrap();
    }
    setxattr(
        place.join("four"),
        "security.other",
        b"left",
        XattrFlags::empty(),
    )
    .unwrap();
    bundle
        .mount("/full", "tmpfs", "tmpfs", &["tmpcopyup", "size=1m"])
        .sleeps();
    let container = stage.create(&bundle);
    container.start().ok();
    let look = "cd /full; stat -c '%n %h' one deep/two three four fifo link; ls -A; \
                stat -c %i one deep/two three | uniq | wc -l; stat -c %i fifo deep/fifo | uniq | wc -l";
    let expected = "one 3\ndeep/two 3\nthree 3\nfour 1\nfifo 2\nlink 2\n\
                    .names-0\ndeep\nfifo\nfour\nlink\none\nthree\n1\n1";
    assert_eq!(container.sh(look), expected);
    let copy = format!("/proc/{}/root/full", container.pid());
    let seen = |file: &str, name: &str| {
        let mut value = vec![0; 4096];
        let length = getxattr(Path::new(&copy).join(file), name, &mut value[..]).ok()?;
        value.truncate(length);
        Some(value)
    };
    for (file, name, value) in kept {
        assert_eq!(seen(file, name).as_deref(), Some(value), "{name} of {file}");
    }
    assert!(seen("deep/two", "security.capability").is_some());
    assert_eq!(seen("four", "security.other"), None);
}

#[test]
fn tmpcopyup_follows_no_link_of_the_image() {
    let stage = stage!();
    let secret = stage.path("secret");
    std::fs::create_dir(&secret).unwrap();
    std::fs::write(secret.join("key"), "secret").unwrap();
    let mut bundle = stage.own_bundle();
    let place = bundle.folder.join("rootfs/full");
    std::fs::create_dir(&place).unwrap();
    std::os::unix::fs::symlink(&secret, place.join("link")).unwrap();
    std::os::unix::fs::symlink(&secret, bundle.folder.join("rootfs/leads")).unwrap();
    bundle
        .mount("/full", "tmpfs", "tmpfs", &["tmpcopyup"])
        .mount("/leads", "tmpfs", "tmpfs", &["tmpcopyup"]);
    let look = "cat /full/link/key /leads/key 2>/dev/null; find /full /leads";
    let expected = "/full\n/full/link\n/leads";
    assert_eq!(stage.prints(&mut bundle, look), expected);
}

#[test]
fn tmpcopyup_makes_no_program_of_roots_of_one_whose_owner_has_no_id() {
    let stage = stage!();
    let volume = stage.path("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(volume.join("theirs"), "program").unwrap();
    std::os::unix::fs::chown(volume.join("theirs"), Some(54_321), Some(54_321)).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o6755);
    std::fs::set_permissions(volume.join("theirs"), mode).unwrap();
    let mut bundle = stage.bundle();
    bundle
        .user_namespace(100_000, 1000)
        .bind(&volume, "/mnt", &[])
        .mount("/mnt", "tmpfs", "tmpfs", &["tmpcopyup"]);
    let said = stage.prints(&mut bundle, "stat -c '%a %u' /mnt/theirs");
    assert_eq!(said, "755 0");
}
