//! Copies of what others exchange meanwhile. Root only.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{RenameFlags, renameat2};

use super::*;
use crate::child::tests::skip;

type Make = fn(&Path, &str);

const FILE: Make = |path, text| fs::write(path, text).unwrap();
const FOLDER_WITH: Make = |path, text| {
    fs::create_dir(path).unwrap();
    fs::write(path.join("text"), text).unwrap();
};
const LINK: Make = |path, text| symlink(text, path).unwrap();
const TWO_NAMES: Make = |path, text| {
    fs::write(path, text).unwrap();
    fs::hard_link(path, path.with_extension("other")).unwrap();
};

/// What tells of whose an entry is: its text, its owner, and its mode.
fn seen(path: &Path) -> (String, u32, u32) {
    let stat = fs::symlink_metadata(path).unwrap();
    let text = match stat.file_type() {
        kind if kind.is_dir() => fs::read_to_string(path.join("text")).unwrap(),
        kind if kind.is_symlink() => fs::read_link(path).unwrap().display().to_string(),
        _ => fs::read_to_string(path).unwrap(),
    };
    (text, stat.uid(), stat.mode())
}

fn copy(from: &Path, to: &Path) -> Result<(), Errno> {
    let (from, to) = (File::open(from).unwrap(), File::open(to).unwrap());
    let mut names = Names::new(from.as_fd(), to.as_fd());
    directory(from.as_fd(), to.as_fd(), 0, &mut names)
        .and_then(|()| names.forget())
        .map_err(|refused| refused.errno)
}

/// Ends the exchanges, of a test that panics too.
struct End<'flag>(&'flag AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Copies two entries that change places all the time.
fn stays_together(good: Make, evil: Make) {
    let place = tempfile::tempdir().unwrap();
    let from = place.path().join("from");
    fs::create_dir(&from).unwrap();
    let (one, other) = (from.join("one"), from.join("two"));
    for (path, make, text, owner, mode) in [
        (&one, good, "good", 0, 0o4755),
        (&other, evil, "evil", 1000, 0o755),
    ] {
        make(path, text);
        lchown(path, Some(owner), Some(owner)).unwrap();
        if !path.is_symlink() {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        }
    }
    let whole = [seen(&one), seen(&other)];
    let (source, done) = (File::open(&from).unwrap(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let exchange = RenameFlags::RENAME_EXCHANGE;
                renameat2(&source, "one", &source, "two", exchange).unwrap();
            }
        });
        let end = End(&done);
        let copies = (0..500).map(|round| {
            let to = place.path().join(format!("to-{round}"));
            fs::create_dir(&to).unwrap();
            copy(&from, &to)?;
            let copied = ["one", "two"].map(|name| seen(&to.join(name)));
            fs::remove_dir_all(&to).unwrap();
            Ok::<_, Errno>(copied)
        });
        let mixed = copies
            .flat_map(|copied| {
                copied.map_or_else(|errno| vec![Err(errno)], |two| two.map(Ok).to_vec())
            })
            .find(|copied| !copied.as_ref().is_ok_and(|copied| whole.contains(copied)));
        drop(end);
        assert_eq!(mixed, None, "only {whole:?} were there");
    });
}

#[test]
fn the_copy_of_an_entry_that_is_being_exchanged_is_all_of_one_file() {
    if !nix::unistd::geteuid().is_root() {
        skip::<()>(
            "the_copy_of_an_entry_that_is_being_exchanged_is_all_of_one_file",
            "not root, who alone gives files away",
        );
        return;
    }
    for (good, evil) in [
        (FILE, FILE),
        (FOLDER_WITH, FOLDER_WITH),
        (LINK, LINK),
        (TWO_NAMES, TWO_NAMES),
        (FILE, FOLDER_WITH),
        (LINK, FILE),
    ] {
        stays_together(good, evil);
    }
}

#[test]
fn what_was_written_before_the_copy_takes_set_id_bits_away_in_it_too() {
    if !nix::unistd::geteuid().is_root() {
        skip::<()>(
            "what_was_written_before_the_copy_takes_set_id_bits_away_in_it_too",
            "not root, who alone gives files away",
        );
        return;
    }
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
    let (from, fresh) = (place.path().join("from"), place.path().join("fresh"));
    fs::create_dir(&from).unwrap();
    let renew = || {
        fs::write(&fresh, "good").unwrap();
        fs::set_permissions(&fresh, Permissions::from_mode(0o4777)).unwrap();
        fs::rename(&fresh, from.join("one")).unwrap();
    };
    renew();
    let mut writer = Command::new("sh")
        .args(["-c", "while [ -e one ]; do printf evil 1<>one; done"])
        .current_dir(&from)
        .uid(1000)
        .gid(1000)
        .spawn()
        .unwrap();
    let copies = (0..500).map(|round| {
        renew();
        let to = place.path().join(format!("to-{round}"));
        fs::create_dir(&to).unwrap();
        copy(&from, &to)?;
        let copied = seen(&to.join("one"));
        fs::remove_dir_all(&to).unwrap();
        Ok::<_, Errno>(copied)
    });
    let is_right = |(text, _, mode): &(String, u32, u32)| text == "good" || mode & 0o6000 == 0;
    let copies: Vec<_> = copies.collect();
    writer.kill().unwrap();
    writer.wait().unwrap();
    let wrong = copies
        .iter()
        .position(|copied| !copied.as_ref().is_ok_and(is_right));
    assert_eq!(wrong.map(|round| &copies[round]), None, "copy {wrong:?}");
    assert!(
        copies.iter().flatten().any(|(text, ..)| text == "evil"),
        "nobody wrote in time"
    );
}
