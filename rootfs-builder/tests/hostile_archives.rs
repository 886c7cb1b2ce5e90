//! Archives that try to write, link or read outside the root filesystem, or to
//! exhaust the builder. Each is refused, or stays inside; the decoys beside the
//! target never change.

mod scene;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use capsid_rootfs_builder::{Loss, Notices, Recipe, Source};
use scene::archive::{Archive, put};
use scene::{has, is_root, scratch, skip, told};
use tar::EntryType;

/// A target with a decoy beside it.
struct Stage {
    directory: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let directory = scratch();
        put(&directory.path().join("decoy/secret"), b"untouched");
        Self { directory }
    }

    fn rootfs(&self) -> PathBuf {
        self.directory.path().join("rootfs")
    }

    fn unpack_bytes(&self, bytes: &[u8]) -> Result<Notices> {
        let file = self.directory.path().join("layer.tar");
        put(&file, bytes);
        Recipe::new(Source::Tar(file)).rootfs(&self.rootfs())
    }

    fn unpack(&self, archive: &Archive) -> Result<Notices> {
        let result = self.unpack_bytes(&archive.bytes());
        self.assert_untouched();
        result
    }

    /// The archive is refused with this text, and no target is left.
    fn refused(&self, archive: &Archive, text: &str) {
        let message = match self.unpack(archive) {
            Ok(_) => "unpacked".into(),
            Err(error) => format!("{error:#}"),
        };
        assert!(message.contains(text), "{message:?} does not say {text:?}");
        assert_eq!(message.lines().count(), 1, "{message}");
        assert!(!self.rootfs().exists());
    }

    fn assert_untouched(&self) {
        let decoy = self.directory.path().join("decoy");
        let names = fs::read_dir(&decoy)
            .map(Iterator::count)
            .unwrap_or_default();
        assert_eq!(names, 1, "something was written into {}", decoy.display());
        let secret = decoy.join("secret");
        let content = fs::read_to_string(&secret).unwrap_or_default();
        assert_eq!(content, "untouched");
        let links = fs::metadata(&secret)
            .map(|meta| meta.nlink())
            .unwrap_or_default();
        assert_eq!(links, 1, "a hard link leads out");
    }

    fn text(&self, path: &str) -> String {
        let path = self.rootfs().join(path);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}

#[test]
fn a_name_with_dot_dot_is_refused() {
    for name in [
        "../decoy/x",
        "a/../../decoy/x",
        "..",
        "a/..",
        "./../decoy/x",
    ] {
        let stage = Stage::new();
        stage.refused(
            &Archive::new().dir("a").file(name, "x"),
            "leads out of the root filesystem",
        );
    }
}

#[test]
fn an_absolute_name_stays_inside() -> Result<()> {
    let stage = Stage::new();
    let decoy = stage.directory.path().join("decoy/x");
    let name = decoy.to_string_lossy().into_owned();
    stage.unpack(&Archive::new().file(&name, "x").file("//etc/passwd", "y"))?;
    assert_eq!(stage.text(name.trim_start_matches('/')), "x");
    assert_eq!(stage.text("etc/passwd"), "y");
    Ok(())
}

#[test]
fn writing_through_a_symlink_stays_inside() -> Result<()> {
    for text in ["../decoy", "/../../decoy", "../../../../../../decoy"] {
        let stage = Stage::new();
        stage.unpack(&Archive::new().symlink("out", text).file("out/x", "inside"))?;
        assert_eq!(stage.text("decoy/x"), "inside");
    }
    let stage = Stage::new();
    let decoy = stage
        .directory
        .path()
        .join("decoy")
        .to_string_lossy()
        .into_owned();
    stage.unpack(
        &Archive::new()
            .symlink("out", &decoy)
            .file("out/x", "inside"),
    )?;
    assert_eq!(
        stage.text(&format!("{}/x", decoy.trim_start_matches('/'))),
        "inside"
    );
    Ok(())
}

#[test]
fn a_file_over_a_symlink_replaces_it() -> Result<()> {
    let stage = Stage::new();
    let archive = Archive::new()
        .symlink("x", "../decoy/secret")
        .file("x", "mine");
    stage.unpack(&archive)?;
    assert_eq!(stage.text("x"), "mine");
    assert!(!fs::symlink_metadata(stage.rootfs().join("x"))?.is_symlink());
    Ok(())
}

#[test]
fn a_file_over_a_hard_link_leaves_the_other_name_alone() -> Result<()> {
    let stage = Stage::new();
    let archive = Archive::new()
        .file("a", "one")
        .hard_link("b", "a")
        .file("b", "two");
    stage.unpack(&archive)?;
    assert_eq!(
        (stage.text("a"), stage.text("b")),
        ("one".into(), "two".into())
    );
    Ok(())
}

#[test]
fn a_directory_over_a_symlink_replaces_it() -> Result<()> {
    let stage = Stage::new();
    let archive = Archive::new()
        .symlink("d", "../decoy")
        .dir_mode("d", 0o711)
        .file("d/x", "inside");
    stage.unpack(&archive)?;
    assert_eq!(stage.text("d/x"), "inside");
    assert_eq!(
        fs::metadata(stage.rootfs().join("d"))?.mode() & 0o777,
        0o711
    );
    Ok(())
}

#[test]
fn a_hard_link_to_the_outside_is_refused() {
    for existing in ["../decoy/secret", "a/../../decoy/secret"] {
        let stage = Stage::new();
        stage.refused(
            &Archive::new().hard_link("x", existing),
            "leads out of the root filesystem",
        );
    }
    let stage = Stage::new();
    let absolute = stage
        .directory
        .path()
        .join("decoy/secret")
        .to_string_lossy()
        .into_owned();
    stage.refused(
        &Archive::new().hard_link("x", &absolute),
        "no such file or directory",
    );
}

#[test]
fn a_hard_link_through_a_symlink_stays_inside() {
    let stage = Stage::new();
    let archive = Archive::new()
        .symlink("out", "../decoy")
        .hard_link("x", "out/secret");
    stage.refused(&archive, "no such file or directory");
}

#[test]
fn a_hard_link_to_a_symlink_is_a_name_of_the_link() -> Result<()> {
    let stage = Stage::new();
    let archive = Archive::new()
        .symlink("out", "../decoy/secret")
        .hard_link("x", "out")
        .file("x", "mine");
    stage.unpack(&archive)?;
    assert_eq!(stage.text("x"), "mine");
    Ok(())
}

#[test]
fn writing_through_a_hard_linked_symlink_stays_inside() {
    // Two names of one link: only the first is known to the builder as a link.
    let stage = Stage::new();
    let archive = Archive::new()
        .symlink("out", "../decoy")
        .hard_link("again", "out")
        .file("again/x", "x");
    stage.refused(&archive, "not a directory");
}

#[test]
fn symlinks_in_a_ring_are_refused() {
    let stage = Stage::new();
    let archive = Archive::new()
        .symlink("a", "b")
        .symlink("b", "a")
        .file("a/x", "x");
    stage.refused(&archive, "too many levels of symbolic links");
}

#[test]
fn a_file_below_a_file_is_refused() {
    let stage = Stage::new();
    stage.refused(
        &Archive::new().file("a", "x").file("a/b", "y"),
        "not a directory",
    );
}

#[test]
fn the_root_can_only_be_a_directory() {
    for name in ["/", "./", "."] {
        let stage = Stage::new();
        stage.refused(&Archive::new().symlink(name, "../decoy"), "not a directory");
    }
}

#[test]
fn whiteouts_of_the_parent_are_refused() {
    for name in [".wh...", ".wh..", ".wh.", "a/.wh..."] {
        let stage = Stage::new();
        stage.refused(
            &Archive::new().dir("a").file(name, ""),
            "a whiteout of no name",
        );
    }
    let stage = Stage::new();
    stage.refused(
        &Archive::new().file("../.wh.decoy", ""),
        "leads out of the root filesystem",
    );
}

#[test]
fn a_whiteout_through_a_symlink_stays_inside() -> Result<()> {
    let stage = Stage::new();
    stage.unpack(
        &Archive::new()
            .symlink("out", "../decoy")
            .file("out/.wh.secret", ""),
    )?;
    stage.unpack_again(
        &Archive::new()
            .symlink("out", "../decoy")
            .file("out/.wh..wh..opq", ""),
    )
}

impl Stage {
    fn unpack_again(&self, archive: &Archive) -> Result<()> {
        fs::remove_dir_all(self.rootfs())?;
        self.unpack(archive).map(drop)
    }
}

#[test]
fn a_record_hidden_in_a_value_is_not_read() -> Result<()> {
    let stage = Stage::new();
    let value = b"x\n22 path=../decoy/evil\n18 linkpath=/etc\ny";
    let archive = Archive::new()
        .pax(&[("SCHILY.xattr.user.note", value)])
        .file("a", "x");
    stage.unpack(&archive)?;
    assert_eq!(stage.text("a"), "x");
    Ok(())
}

#[test]
fn names_of_extended_headers_are_checked_too() {
    let stage = Stage::new();
    let archive = Archive::new()
        .pax(&[("path", b"../decoy/x")])
        .file("a", "x");
    stage.refused(&archive, "leads out of the root filesystem");
    let archive = Archive::new().pax(&[("path", b"a\0b")]).file("a", "x");
    stage.refused(&archive, "a name with a NUL");
    let archive = Archive::new()
        .member(
            EntryType::GNULongName,
            "././@LongLink",
            "",
            0,
            b"../decoy/x\0",
        )
        .file("a", "x");
    stage.refused(&archive, "leads out of the root filesystem");
}

#[test]
fn an_endless_extended_header_is_refused() {
    let stage = Stage::new();
    let archive = Archive::new()
        .member(EntryType::XHeader, "x", "", 0, b"")
        .altered(|header| header.set_size(1 << 40));
    stage.refused(&archive, "a tar extension header of 1099511627776 bytes");
}

#[test]
fn control_characters_of_a_name_are_not_printed() {
    let stage = Stage::new();
    stage.refused(
        &Archive::new().file("../\x1b[31m\n", "x"),
        "../\\u{1b}[31m\\n",
    );
}

#[test]
fn an_archive_cut_anywhere_is_refused_and_nothing_is_left() {
    let archive = Archive::new()
        .pax(&[("SCHILY.xattr.user.x", b"1")])
        .file("a", &"x".repeat(700))
        .symlink("l", "a")
        .file("b", "y");
    let whole = archive.raw().len();
    // An archive may end after any member, and without the last one's padding.
    let ends = [
        3 * 512 + 700..=5 * 512,
        6 * 512..=6 * 512,
        7 * 512 + 1..=whole,
    ];
    let edges = [512, 1024, 1025, 1536, 2236, 2560, 3072, 3585];
    for length in (1..whole).step_by(97).chain(edges) {
        let stage = Stage::new();
        let result = stage.unpack_bytes(&archive.raw()[..length]);
        let whole_members = ends.iter().any(|end| end.contains(&length));
        assert_eq!(result.is_ok(), whole_members, "cut at {length}: {result:?}");
        assert_eq!(stage.rootfs().exists(), whole_members, "cut at {length}");
    }
}

/// Numbers that look random, and are the same in every run (Knuth's MMIX generator).
fn next(state: &mut u64) -> usize {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1);
    usize::try_from(*state >> 33).unwrap_or_default()
}

#[test]
fn an_archive_with_random_damage_never_writes_outside() {
    let whole = Archive::new()
        .dir("d")
        .pax(&[("SCHILY.xattr.user.x", b"1"), ("path", b"d/long")])
        .file("d/f", "content")
        .symlink("out", "../decoy")
        .file("out/x", "inside")
        .hard_link("h", "d/long")
        .file(".wh.d", "")
        .bytes();
    let mut state = 20_261_122;
    for _ in 0..300 {
        let stage = Stage::new();
        let mut bytes = whole.clone();
        for _ in 0..=next(&mut state) % 4 {
            let at = next(&mut state) % bytes.len();
            bytes[at] = [b'.', b'/', 0, b'5', 0xff, b'1'][next(&mut state) % 6];
        }
        // Sums that fit again: else every damaged header is refused at once.
        for block in bytes
            .chunks_exact_mut(512)
            .filter(|block| &block[257..262] == b"ustar")
        {
            let mut header = tar::Header::from_byte_slice(block).clone();
            header.set_cksum();
            block.copy_from_slice(header.as_bytes());
        }
        let result = stage.unpack_bytes(&bytes);
        stage.assert_untouched();
        if let Err(error) = result {
            assert_eq!(format!("{error:#}").lines().count(), 1, "{error:#}");
            assert!(!stage.rootfs().exists());
        }
    }
}

#[test]
fn damaged_headers_are_refused() {
    let good = Archive::new().file("a", "x").bytes();
    for offset in [0, 100, 124, 148, 156] {
        let stage = Stage::new();
        let mut bytes = good.clone();
        bytes[offset] ^= 0x55;
        assert!(stage.unpack_bytes(&bytes).is_err(), "byte {offset}");
    }
    let stage = Stage::new();
    assert!(stage.unpack_bytes(b"this is no archive at all").is_err());
}

#[test]
fn a_sparse_file_is_refused() {
    let stage = Stage::new();
    let archive = Archive::new().member(EntryType::GNUSparse, "huge", "", 0o644, b"");
    stage.refused(&archive, "huge: a sparse file");
    let archive = Archive::new()
        .pax(&[("GNU.sparse.major", b"1")])
        .file("huge", "x");
    stage.refused(&archive, "a sparse file");
}

#[test]
fn owners_out_of_range_are_refused() {
    for number in ["4294967295", "4294967296", "18446744073709551615"] {
        let stage = Stage::new();
        let archive = Archive::new()
            .pax(&[("uid", number.as_bytes())])
            .file("a", "x");
        stage.refused(&archive, "out of range");
    }
}

#[test]
fn deep_and_long_names_end_in_an_error() {
    let stage = Stage::new();
    let deep = "d/".repeat(3000) + "x";
    let archive = Archive::new()
        .pax(&[("path", deep.as_bytes())])
        .file("a", "x");
    stage.refused(&archive, "file name too long");
    let stage = Stage::new();
    let long = "n".repeat(300);
    let archive = Archive::new()
        .pax(&[("path", long.as_bytes())])
        .file("a", "x");
    stage.refused(&archive, "file name too long");
}

#[test]
fn overlayfs_attributes_and_whiteout_devices_are_left_out() -> Result<()> {
    let stage = Stage::new();
    let archive = Archive::new()
        .pax(&[
            ("SCHILY.xattr.trusted.overlay.redirect", b"/../decoy"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ])
        .dir("d")
        .device("hidden", 0, 0);
    let notices = stage.unpack(&archive)?;
    assert_eq!(
        (notices.count(Loss::Attribute), notices.count(Loss::Member)),
        (1, 1)
    );
    let mut names = [0_u8; 256];
    let count = rustix::fs::llistxattr(stage.rootfs().join("d"), &mut names[..])?;
    assert!(!String::from_utf8_lossy(&names[..count]).contains("overlay"));
    assert!(!stage.rootfs().join("hidden").exists());
    Ok(())
}

#[test]
fn a_target_that_is_a_symlink_is_refused() -> Result<()> {
    let stage = Stage::new();
    std::os::unix::fs::symlink("decoy", stage.rootfs())?;
    let result = stage.unpack(&Archive::new().file("x", "x"));
    let message = result.map_or_else(|error| format!("{error:#}"), |_| "unpacked".into());
    assert!(message.ends_with("rootfs: not a directory"), "{message}");
    Ok(())
}

#[test]
fn a_link_into_proc_leads_nowhere_outside() -> Result<()> {
    let stage = Stage::new();
    let decoy = stage
        .directory
        .path()
        .join("decoy")
        .to_string_lossy()
        .into_owned();
    let link = format!("/proc/self/root{decoy}");
    stage.unpack(&Archive::new().symlink("l", &link).file("l/x", "inside"))?;
    assert_eq!(stage.text(&format!("proc/self/root{decoy}/x")), "inside");
    Ok(())
}

#[test]
fn a_mount_below_the_target_is_not_written_into() -> Result<()> {
    const TEST: &str = "a_mount_below_the_target_is_not_written_into";
    if !is_root() || !has("unshare") {
        skip(TEST, "it needs root and unshare");
        return Ok(());
    }
    let stage = Stage::new();
    let builder = env!("CARGO_BIN_EXE_rootfs-builder");
    let image = stage.directory.path().join("image.tar");
    Archive::new().dir("d").file("d/x", "inside").write(&image);
    // The mount appears between two members: a fifo holds the second one back.
    let script = "mkfifo pipe; exec 3<>pipe; \
        head -c 512 image.tar >&3; \
        \"$0\" rootfs rootfs --tar pipe & \
        while [ ! -d rootfs/d ]; do :; done; \
        mount --bind decoy rootfs/d; \
        tail -c +513 image.tar >&3; exec 3>&-; wait $!; \
        status=$?; umount rootfs/d; exit $status";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, builder]);
    let output = command.current_dir(stage.directory.path()).output()?;
    assert!(
        told(&output).contains("rootfs/d: device or resource busy"),
        "{}",
        told(&output)
    );
    stage.assert_untouched();
    Ok(())
}
