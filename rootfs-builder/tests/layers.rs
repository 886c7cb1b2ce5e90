//! Layers: whiteouts, opaque directories, hard links, attributes; and that the
//! layers kept apart, mounted as overlayfs, show what the merged tree shows.

mod scene;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use capsid_rootfs_builder::{Addition, Layout, Loss, Recipe, Source};
use scene::archive::{Archive, Image};
use scene::{has, is_root, scratch, skip, stdout, told};
use tar::EntryType;

/// An image built in both layouts.
struct Built {
    directory: tempfile::TempDir,
}

impl Built {
    fn new(layers: Vec<Archive>) -> Result<Self> {
        let directory = scratch();
        build(layers, directory.path())?;
        Ok(Self { directory })
    }

    fn merged(&self, path: &str) -> PathBuf {
        self.directory.path().join("merged/rootfs").join(path)
    }

    fn layer(&self, number: usize, path: &str) -> PathBuf {
        let layers = self.directory.path().join("apart/layers");
        layers.join(number.to_string()).join(path)
    }
}

/// Builds `merged` and `apart` below the directory.
fn build(layers: Vec<Archive>, directory: &Path) -> Result<()> {
    let layout = directory.join("image");
    Image::new(layers).write(&layout);
    let mut recipe = Recipe::new(Source::Oci {
        layout,
        reference: None,
    });
    recipe.bundle(&directory.join("merged"))?;
    recipe.layout = Layout::Layers;
    recipe.bundle(&directory.join("apart"))?;
    Ok(())
}

fn is_whiteout(path: &Path) -> bool {
    fs::symlink_metadata(path)
        .is_ok_and(|meta| meta.file_type().is_char_device() && meta.rdev() == 0)
}

fn is_opaque(path: &Path) -> bool {
    let mut value = [0_u8; 8];
    let names = ["trusted.overlay.opaque", "user.overlay.opaque"];
    names
        .iter()
        .any(|name| rustix::fs::lgetxattr(path, *name, &mut value[..]) == Ok(1))
}

#[test]
fn a_whiteout_removes_what_lies_below() -> Result<()> {
    let base = Archive::new()
        .dir("d")
        .file("d/a", "1")
        .file("d/b", "2")
        .file("top", "3");
    let upper = Archive::new()
        .dir("d")
        .file("d/.wh.a", "")
        .file(".wh.top", "");
    let built = Built::new(vec![base, upper])?;
    assert!(!built.merged("d/a").exists() && !built.merged("top").exists());
    assert!(built.merged("d/b").exists());
    assert!(is_whiteout(&built.layer(1, "d/a")) && is_whiteout(&built.layer(1, "top")));
    Ok(())
}

#[test]
fn a_whiteout_leaves_its_own_layer_alone() -> Result<()> {
    for whiteout_first in [true, false] {
        let base = Archive::new().dir("d").file("d/old", "1").file("f", "old");
        let whiteouts = |archive: Archive| archive.file(".wh.d", "").file(".wh.f", "");
        let content = |archive: Archive| archive.dir("d").file("d/new", "2").file("f", "new");
        let upper = if whiteout_first {
            content(whiteouts(Archive::new()))
        } else {
            whiteouts(content(Archive::new()))
        };
        let built = Built::new(vec![base, upper])?;
        assert!(!built.merged("d/old").exists());
        assert_eq!(fs::read_to_string(built.merged("d/new"))?, "2");
        assert_eq!(fs::read_to_string(built.merged("f"))?, "new");
        assert!(is_opaque(&built.layer(1, "d")));
        assert_eq!(fs::read_to_string(built.layer(1, "f"))?, "new");
    }
    Ok(())
}

#[test]
fn an_opaque_directory_hides_what_lies_below() -> Result<()> {
    let base = Archive::new()
        .dir("d")
        .file("d/a", "1")
        .dir("d/s")
        .file("d/s/b", "2");
    let upper = Archive::new()
        .dir("d")
        .file("d/before", "3")
        .file("d/.wh..wh..opq", "")
        .file("d/after", "4");
    let built = Built::new(vec![base, upper])?;
    let names: Vec<_> = fs::read_dir(built.merged("d"))?
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(built.merged("d/before").exists() && built.merged("d/after").exists());
    assert!(is_opaque(&built.layer(1, "d")));
    Ok(())
}

#[test]
fn a_whiteout_of_nothing_leaves_nothing() -> Result<()> {
    let base = Archive::new().dir("d").file(".wh.never", "");
    let upper = Archive::new()
        .file("d/.wh.never", "")
        .file("e/.wh.never", "");
    let built = Built::new(vec![base, upper])?;
    assert!(!is_whiteout(&built.layer(0, "never")));
    assert!(!built.layer(1, "d/never").exists());
    assert!(!built.layer(1, "e").exists());
    assert!(!built.merged("e").exists());
    Ok(())
}

#[test]
fn a_name_through_a_link_of_a_lower_layer_lands_where_the_link_leads() -> Result<()> {
    let base = Archive::new()
        .dir("usr")
        .dir("usr/lib")
        .symlink("lib", "usr/lib");
    let upper = Archive::new().file("lib/x", "1");
    let built = Built::new(vec![base, upper])?;
    assert_eq!(fs::read_to_string(built.merged("usr/lib/x"))?, "1");
    assert_eq!(fs::read_to_string(built.layer(1, "usr/lib/x"))?, "1");
    assert!(fs::symlink_metadata(built.merged("lib"))?.is_symlink());
    Ok(())
}

#[test]
fn directories_that_a_layer_does_not_name_keep_their_mode() -> Result<()> {
    let base = Archive::new().dir_mode("d", 0o700).dir_mode("d/s", 0o1777);
    let upper = Archive::new().file("d/s/f", "1");
    let built = Built::new(vec![base, upper])?;
    for (path, mode) in [("d", 0o700), ("d/s", 0o1777)] {
        assert_eq!(fs::metadata(built.merged(path))?.mode() & 0o7777, mode);
        assert_eq!(fs::metadata(built.layer(1, path))?.mode() & 0o7777, mode);
    }
    Ok(())
}

#[test]
fn an_addition_lands_where_the_container_sees_it() -> Result<()> {
    let directory = scratch();
    let path = |name: &str| directory.path().join(name);
    let base = Archive::new()
        .dir("usr")
        .dir_mode("usr/bin", 0o711)
        .symlink("bin", "usr/bin");
    let image = Image::new(vec![base, Archive::new().file("f", "1")]);
    image.write(&path("image"));
    scene::archive::put(&path("tool"), b"tool");
    for (layout, name) in [(Layout::Merged, "merged"), (Layout::Layers, "apart")] {
        let mut recipe = Recipe::new(Source::Oci {
            layout: path("image"),
            reference: None,
        });
        recipe.layout = layout;
        recipe.additions = vec![Addition {
            file: path("tool"),
            path: "/bin/tool".into(),
        }];
        recipe.bundle(&path(name))?;
    }
    for top in ["merged/rootfs", "apart/layers/1"] {
        let tool = path(top).join("usr/bin/tool");
        assert_eq!(fs::read_to_string(&tool)?, "tool");
        assert_eq!(
            fs::metadata(path(top).join("usr/bin"))?.mode() & 0o777,
            0o711
        );
    }
    assert!(fs::symlink_metadata(path("merged/rootfs/bin"))?.is_symlink());
    let busybox = Recipe {
        additions: vec![Addition {
            file: path("tool"),
            path: "/usr/sbin/tool".into(),
        }],
        ..Recipe::new(Source::Busybox)
    };
    busybox.rootfs(&path("busybox"))?;
    assert_eq!(fs::read_to_string(path("busybox/bin/tool"))?, "tool");
    Ok(())
}

#[test]
fn the_root_keeps_its_mode_through_every_layer() -> Result<()> {
    let base = Archive::new().dir_mode("./", 0o711).file("f", "1");
    let built = Built::new(vec![base, Archive::new().file("g", "2")])?;
    let rootfs = built.directory.path().join("apart/rootfs");
    for path in [
        built.merged(""),
        built.layer(0, ""),
        built.layer(1, ""),
        rootfs,
    ] {
        let mode = fs::metadata(&path)?.mode() & 0o7777;
        assert_eq!(mode, 0o711, "{}", path.display());
    }
    Ok(())
}

#[test]
fn layers_of_an_ordinary_user_hide_what_lies_below() -> Result<()> {
    const TEST: &str = "layers_of_an_ordinary_user_hide_what_lies_below";
    if !is_root() || !has("unshare") {
        skip(TEST, "it needs root, to become someone else, and unshare");
        return Ok(());
    }
    let directory = scratch();
    let base = Archive::new().dir("d").file("d/old", "1").file("gone", "1");
    let upper = Archive::new()
        .dir("d")
        .file("d/.wh..wh..opq", "")
        .file("d/new", "2");
    let image = Image::new(vec![base, upper.file(".wh.gone", "")]);
    image.write(&directory.path().join("image"));
    let builder = scene::copied(directory.path(), env!("CARGO_BIN_EXE_rootfs-builder"));
    let bundle = directory.path().join("bundle");
    let mut build = scene::as_ordinary_user(directory.path(), builder);
    build
        .arg("bundle")
        .arg(&bundle)
        .arg("--oci")
        .arg(directory.path().join("image"));
    stdout(build.arg("--layers"));
    let mut mount = scene::as_ordinary_user(directory.path(), "unshare");
    let script = "mount -t overlay overlay -o userxattr,lowerdir=layers/1:layers/0 rootfs && \
        cd rootfs && find . | sort";
    mount.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
    let output = mount.current_dir(&bundle).output()?;
    if told(&output).contains("unshare failed") {
        skip(TEST, "ordinary users may not make user namespaces here");
        return Ok(());
    }
    assert!(output.status.success(), "{}", told(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), ".\n./d\n./d/new\n");
    Ok(())
}

#[test]
fn hard_links_are_one_file() -> Result<()> {
    let base = Archive::new()
        .dir("d")
        .file("d/a", "1")
        .hard_link("d/b", "d/a");
    let upper = Archive::new().hard_link("c", "/d/a");
    let built = Built::new(vec![base, upper])?;
    let inode = |path: &str| fs::metadata(built.merged(path)).map(|meta| meta.ino());
    assert_eq!((inode("d/a")?, inode("d/a")?), (inode("d/b")?, inode("c")?));
    // Kept apart, the file is copied up, and both names are of the copy.
    let upper = |path: &str| fs::metadata(built.layer(1, path)).map(|meta| meta.ino());
    assert_eq!(upper("c")?, upper("d/a")?);
    assert_eq!(fs::read_to_string(built.layer(1, "c"))?, "1");
    Ok(())
}

#[test]
fn attributes_modes_and_times_are_kept() -> Result<()> {
    let layer = Archive::new()
        .pax(&[
            ("SCHILY.xattr.user.note", b"a\nb\0c"),
            ("mtime", b"1234567890.5"),
        ])
        .member(EntryType::Regular, "f", "", 0o4751, b"x")
        .pax(&[("SCHILY.xattr.user.note", b"dir")])
        .dir_mode("d", 0o555)
        .file("d/inside", "x")
        .fifo("p");
    let built = Built::new(vec![layer])?;
    let mut value = [0_u8; 64];
    let count = rustix::fs::getxattr(built.merged("f"), "user.note", &mut value[..])?;
    assert_eq!(&value[..count], b"a\nb\0c");
    let count = rustix::fs::getxattr(built.merged("d"), "user.note", &mut value[..])?;
    assert_eq!(&value[..count], b"dir");
    let file = fs::metadata(built.merged("f"))?;
    assert_eq!(
        (file.mode() & 0o7777, file.mtime()),
        (0o4751, 1_234_567_890)
    );
    let directory = fs::metadata(built.merged("d"))?;
    assert_eq!(
        (directory.mode() & 0o7777, directory.mtime()),
        (0o555, 1_000_000_000)
    );
    assert!(fs::metadata(built.merged("p"))?.file_type().is_fifo());
    // For the scratch directory to be removed by an ordinary user.
    for path in [built.merged("d"), built.layer(0, "d")] {
        scene::chmod(&path, 0o755);
    }
    Ok(())
}

#[test]
fn owners_and_devices_are_kept_by_root() -> Result<()> {
    if !is_root() {
        skip("owners_and_devices_are_kept_by_root", "it needs root");
        return Ok(());
    }
    let layer = Archive::new()
        .pax(&[("uid", b"1234"), ("gid", b"5678")])
        .member(EntryType::Regular, "f", "", 0o6755, b"x")
        .pax(&[("uid", b"1234")])
        .symlink("l", "f")
        .device("null", 1, 3);
    let built = Built::new(vec![layer])?;
    let file = fs::metadata(built.merged("f"))?;
    assert_eq!(
        (file.uid(), file.gid(), file.mode() & 0o7777),
        (1234, 5678, 0o6755)
    );
    assert_eq!(fs::symlink_metadata(built.merged("l"))?.uid(), 1234);
    let null = fs::metadata(built.merged("null"))?;
    assert!(null.file_type().is_char_device());
    assert_eq!(
        (null.rdev(), null.mode() & 0o777),
        (rustix::fs::makedev(1, 3), 0o666)
    );
    Ok(())
}

#[test]
fn what_an_ordinary_user_cannot_keep_is_told_once() -> Result<()> {
    let directory = scratch();
    let image = directory.path().join("image.tar");
    let mut archive = Archive::new().device("a", 1, 3).device("b", 1, 5);
    for name in ["x", "y", "z"] {
        archive = archive.pax(&[("uid", b"0"), ("gid", b"0")]).file(name, "1");
    }
    archive.write(&image);
    let rootfs = directory.path().join("rootfs");
    let output = if is_root() {
        let builder = env!("CARGO_BIN_EXE_rootfs-builder");
        scene::as_ordinary_user(directory.path(), scene::copied(directory.path(), builder))
    } else {
        Command::new(env!("CARGO_BIN_EXE_rootfs-builder"))
    }
    .arg("rootfs")
    .arg(&rootfs)
    .arg("--tar")
    .arg(&image)
    .output()?;
    assert!(output.status.success(), "{}", told(&output));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("/a and 1 more: device left out (not privileged)"),
        "{text}"
    );
    assert!(
        text.contains("/x and 2 more: owner not kept (not privileged)"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 2, "{text}");
    assert_eq!(fs::read_to_string(rootfs.join("z"))?, "1");
    Ok(())
}

#[test]
fn members_of_unknown_kinds_are_left_out_with_a_notice() -> Result<()> {
    let directory = scratch();
    let image = directory.path().join("image.tar");
    Archive::new()
        .member(EntryType::new(b'V'), "label", "", 0o644, b"some content")
        .file("f", "1")
        .write(&image);
    let rootfs = directory.path().join("rootfs");
    let notices = Recipe::new(Source::Tar(image)).rootfs(&rootfs)?;
    assert_eq!(notices.count(Loss::Member), 1);
    assert!(rootfs.join("f").exists() && !rootfs.join("label").exists());
    Ok(())
}

/// Numbers that look random, and are the same in every run (Knuth's MMIX generator).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(self.0 >> 33).unwrap_or_default() % limit
    }

    fn path(&mut self) -> String {
        let depth = 1 + self.below(3);
        let names: Vec<&str> = (0..depth).map(|_| ["a", "b", "c"][self.below(3)]).collect();
        names.join("/")
    }

    /// A layer that may contradict itself and those below it.
    fn layer(&mut self) -> Archive {
        let mut archive = Archive::new();
        for _ in 0..=self.below(8) {
            let path = self.path();
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
            let parent = if parent.is_empty() {
                String::new()
            } else {
                format!("{parent}/")
            };
            archive = match self.below(8) {
                0 | 1 => archive.dir_mode(&path, [0o755, 0o700, 0o1777][self.below(3)]),
                2 | 3 => archive.file(&path, &format!("{}", self.below(1000))),
                4 => {
                    let text = format!("{}{}", ["", "/", "../"][self.below(3)], self.path());
                    archive.symlink(&path, &text)
                }
                5 => archive.hard_link(&path, &self.path()),
                6 => archive.file(&format!("{parent}.wh.{name}"), ""),
                _ => archive.file(&format!("{parent}.wh..wh..opq"), ""),
            };
        }
        archive
    }
}

/// Prints the tree at `.`: type, mode, link text, path and content. Times are
/// left out: overlayfs shows a directory's of the highest layer that names it.
const LIST: &str = "find . -printf '%p %y %m %l\\n' | sort; \
    find . -type f -print0 | sort -z | xargs -0r grep -H ''";

#[test]
fn layers_mounted_as_overlayfs_show_the_merged_tree() -> Result<()> {
    const TEST: &str = "layers_mounted_as_overlayfs_show_the_merged_tree";
    if !is_root() || !has("unshare") || !has("find") {
        skip(TEST, "it needs root, unshare and find");
        return Ok(());
    }
    // Thousands of small files: in memory where that can be.
    let memory = Path::new("/dev/shm");
    let directory = if memory.is_dir() {
        scene::scratch_in(memory)
    } else {
        scratch()
    };
    let mut numbers = Numbers(20_261_122);
    let mut cases = Vec::new();
    let wanted = std::env::var("CAPSID_CASES")
        .ok()
        .and_then(|text| text.parse().ok());
    while cases.len() < wanted.unwrap_or(60) {
        let case = directory.path().join(cases.len().to_string());
        let layers: Vec<Archive> = (0..2 + numbers.below(3)).map(|_| numbers.layer()).collect();
        // Layers that no order of application makes sense of are refused, in
        // both layouts or in neither.
        let log: Vec<_> = layers.iter().map(|layer| layer.log.clone()).collect();
        match build(layers, &case) {
            Ok(()) => cases.push((case, log)),
            Err(_) if !case.join("merged").exists() => fs::remove_dir_all(&case)?,
            Err(error) => panic!("only apart: {error:#}: {log:#?}"),
        }
    }
    let mount = "for case in */; do ( cd $case; mkdir view; lower=; \
         for layer in apart/layers/*/; do lower=${layer%/}${lower:+:$lower}; done; \
         mount -t overlay overlay -o lowerdir=$lower view; \
         (cd merged/rootfs; eval \"$0\") > merged.txt; (cd view; eval \"$0\") > view.txt ); done";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-ec", mount, LIST])
        .current_dir(directory.path());
    stdout(&mut command);
    for (case, log) in cases {
        let merged = fs::read_to_string(case.join("merged.txt"))?;
        let view = fs::read_to_string(case.join("view.txt"))?;
        assert_eq!(merged, view, "{log:#?}");
    }
    Ok(())
}
