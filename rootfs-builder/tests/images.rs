//! Images in each of their forms: an OCI layout, a tar of it, an archive of
//! `docker save`, compressed or not; what is refused; and what the image's
//! configuration becomes.

mod scene;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use capsid_rootfs_builder::{Layout, Recipe, Settings, Source};
use scene::archive::{Archive, Image, digest, gzip, put, zstd};
use scene::{as_ordinary_user, copied, has, is_root, runc_run, scratch, skip, stdout, told};
use serde_json::{Value, json};
use tar::EntryType;

type Compress = fn(&[u8]) -> Vec<u8>;

const COMPRESSIONS: [Compress; 3] = [<[u8]>::to_vec, gzip, zstd];

fn oci(path: PathBuf) -> Recipe {
    Recipe::new(Source::Oci {
        layout: path,
        reference: None,
    })
}

fn sample() -> Image {
    Image::new(vec![
        Archive::new().dir("d").file("d/a", "old").file("gone", "1"),
        Archive::new().file("d/a", "new").file(".wh.gone", ""),
    ])
}

/// A tar of files, as archives of images are.
fn tar_of(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = Archive::new();
    for (name, bytes) in files {
        archive = archive.member(EntryType::Regular, name, "", 0o644, bytes);
    }
    archive.bytes()
}

fn assert_sample(rootfs: &Path) -> Result<()> {
    assert_eq!(fs::read_to_string(rootfs.join("d/a"))?, "new");
    assert!(!rootfs.join("gone").exists());
    Ok(())
}

fn refusal(recipe: &Recipe, directory: &Path) -> String {
    let bundle = directory.join("bundle");
    let text = match recipe.bundle(&bundle) {
        Ok(_) => "built".into(),
        Err(error) => format!("{error:#}"),
    };
    assert!(!bundle.exists(), "{text}");
    text
}

#[test]
fn every_form_of_an_image_gives_the_same_files() -> Result<()> {
    for compress in COMPRESSIONS {
        let mut image = sample();
        image.compress = compress;
        let directory = scratch();
        let path = |name: &str| directory.path().join(name);
        image.write(&path("layout"));
        put(&path("layout.tar"), &tar_of(&image.layout()));
        put(&path("layout.tar.z"), &compress(&tar_of(&image.layout())));
        image.saved().write(&path("saved.tar"));
        put(&path("saved.tar.z"), &compress(&image.saved().bytes()));
        for form in [
            "layout",
            "layout.tar",
            "layout.tar.z",
            "saved.tar",
            "saved.tar.z",
        ] {
            let bundle = path(&format!("bundle-{form}"));
            oci(path(form)).bundle(&bundle)?;
            assert_sample(&bundle.join("rootfs"))?;
        }
    }
    Ok(())
}

#[test]
fn a_tar_is_read_in_each_compression() -> Result<()> {
    let archive = Archive::new().file("f", &"content ".repeat(50_000)).bytes();
    for compress in COMPRESSIONS {
        let directory = scratch();
        let file = directory.path().join("image");
        put(&file, &compress(&archive));
        let rootfs = directory.path().join("rootfs");
        Recipe::new(Source::Tar(file)).rootfs(&rootfs)?;
        assert_eq!(
            fs::read_to_string(rootfs.join("f"))?,
            "content ".repeat(50_000)
        );
    }
    Ok(())
}

#[test]
fn layers_of_an_image_are_named_lowest_first() -> Result<()> {
    let directory = scratch();
    sample().write(&directory.path().join("layout"));
    let mut recipe = oci(directory.path().join("layout"));
    recipe.layout = Layout::Layers;
    let bundle = directory.path().join("bundle");
    recipe.bundle(&bundle)?;
    let list: Value = serde_json::from_str(&fs::read_to_string(bundle.join("layers.json"))?)?;
    assert_eq!(list, json!(["layers/0", "layers/1"]));
    assert_eq!(fs::read_to_string(bundle.join("layers/0/d/a"))?, "old");
    assert_eq!(fs::read_to_string(bundle.join("layers/1/d/a"))?, "new");
    Ok(())
}

#[test]
fn a_blob_that_is_not_what_its_digest_names_is_refused() {
    // Config, manifest and each layer, changed without changing the length.
    let files = sample().layout();
    let blobs = files.iter().filter(|(name, _)| name.starts_with("blobs/"));
    for (name, bytes) in blobs.clone() {
        let directory = scratch();
        let layout = directory.path().join("layout");
        sample().write(&layout);
        let mut changed = bytes.clone();
        if let Some(byte) = changed.last_mut() {
            *byte ^= 1;
        }
        put(&layout.join(name), &changed);
        let text = refusal(&oci(layout), directory.path());
        let hex = name.rsplit('/').next().unwrap_or_default();
        assert!(
            text.contains(&format!("sha256:{hex}: digest mismatch")),
            "{text}"
        );
    }
    assert_eq!(blobs.count(), 4);
}

#[test]
fn a_layer_that_unpacks_to_something_else_is_refused() {
    let directory = scratch();
    let saved = directory.path().join("saved.tar");
    let honest = sample().saved().bytes();
    let other = Archive::new()
        .dir("d")
        .file("d/a", "evil")
        .file("gone", "1")
        .bytes();
    let first = sample().layers[0].bytes();
    let changed: Vec<u8> = honest
        .iter()
        .copied()
        .take(512)
        .chain(other.iter().copied())
        .collect();
    assert_eq!(first.len(), other.len());
    put(&saved, &[&changed[..], &honest[changed.len()..]].concat());
    let text = refusal(&oci(saved), directory.path());
    assert!(
        text.contains("layer 0/layer.tar") && text.contains("digest mismatch"),
        "{text}"
    );
}

#[test]
fn a_blob_of_another_length_is_refused() {
    let directory = scratch();
    let layout = directory.path().join("layout");
    let image = sample();
    image.write(&layout);
    let layer = digest(&image.layers[0].bytes()).replace(':', "/");
    let mut longer = image.layers[0].bytes();
    longer.extend([0; 512]);
    put(&layout.join("blobs").join(layer), &longer);
    let text = refusal(&oci(layout), directory.path());
    assert!(text.contains("bytes, and its descriptor says"), "{text}");
}

#[test]
fn a_missing_blob_is_named() -> Result<()> {
    let directory = scratch();
    let layout = directory.path().join("layout");
    let image = sample();
    image.write(&layout);
    let layer = digest(&image.layers[1].bytes()).replace(':', "/");
    let blob = layout.join("blobs").join(&layer);
    fs::remove_file(&blob)?;
    let text = refusal(&oci(layout), directory.path());
    assert!(
        text.ends_with(&format!("{layer}: no such file or directory")),
        "{text}"
    );
    Ok(())
}

#[test]
fn a_blob_that_is_a_link_to_the_outside_or_a_fifo_is_refused() -> Result<()> {
    let image = sample();
    let layer = digest(&image.layers[0].bytes()).replace(':', "/");
    for replacement in ["link", "fifo"] {
        let directory = scratch();
        let layout = directory.path().join("layout");
        image.write(&layout);
        let blob = layout.join("blobs").join(&layer);
        let outside = directory.path().join("outside");
        fs::rename(&blob, &outside)?;
        if replacement == "link" {
            std::os::unix::fs::symlink(&outside, &blob)?;
        } else {
            let mode = rustix::fs::Mode::RUSR;
            let kind = rustix::fs::FileType::Fifo;
            rustix::fs::mknodat(rustix::fs::CWD, &blob, kind, mode, 0)?;
        }
        let text = refusal(&oci(layout), directory.path());
        let expected = ["invalid cross-device link", "not a regular file"];
        assert!(
            expected.iter().any(|reason| text.ends_with(reason)),
            "{text}"
        );
    }
    Ok(())
}

#[test]
fn digests_that_are_paths_are_refused() {
    let directory = scratch();
    let layout = directory.path().join("layout");
    sample().write(&layout);
    let index = json!({ "manifests": [{ "digest": "sha256:../../../etc/passwd", "size": 1 }] });
    put(&layout.join("index.json"), index.to_string().as_bytes());
    let text = refusal(&oci(layout), directory.path());
    assert!(
        text.ends_with("sha256:../../../etc/passwd: not a digest"),
        "{text}"
    );
}

#[test]
fn things_that_are_no_images_are_refused_in_one_line() {
    let directory = scratch();
    let path = |name: &str| directory.path().join(name);
    put(&path("text"), b"this is not an image");
    put(&path("empty"), b"");
    put(&path("directory/file"), b"x");
    put(&path("broken/index.json"), b"{");
    put(&path("deep/index.json"), "[".repeat(100_000).as_bytes());
    put(&path("huge/index.json"), &vec![b' '; 5 << 20]);
    for name in [
        "text",
        "empty",
        "directory",
        "broken",
        "deep",
        "huge",
        "absent",
    ] {
        let text = refusal(&oci(path(name)), directory.path());
        assert!(
            text.contains(name) && text.lines().count() == 1,
            "{name}: {text}"
        );
    }
    let text = refusal(&oci("/dev/null".into()), directory.path());
    assert_eq!(text, "/dev/null: neither a directory nor a file");
}

#[test]
fn the_configuration_of_the_image_becomes_the_one_of_the_bundle() -> Result<()> {
    let directory = scratch();
    let mut image = sample();
    let passwd = "root:x:0:0::/:/bin/sh\nweb:x:33:34::/:/bin/sh\n";
    let accounts = Archive::new()
        .dir("etc")
        .symlink("etc/passwd", "../lib/passwd")
        .dir("lib")
        .file("lib/passwd", passwd)
        .file("etc/group", "logs:x:4:root,web\n");
    image.layers.push(accounts);
    image.config = json!({
        "User": "web", "Env": ["A=1"], "Entrypoint": ["/bin/run"], "Cmd": ["-x"],
        "WorkingDir": "srv",
    });
    image.write(&directory.path().join("layout"));
    let mut recipe = oci(directory.path().join("layout"));
    let process = |recipe: &Recipe, name: &str| -> Result<Value> {
        let bundle = directory.path().join(name);
        recipe.bundle(&bundle)?;
        let text = fs::read_to_string(bundle.join("config.json"))?;
        let config: Value = serde_json::from_str(&text)?;
        Ok(config["process"].clone())
    };
    let found = process(&recipe, "image")?;
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(
        found["user"],
        json!({ "uid": 33, "gid": 34, "additionalGids": [4] })
    );
    assert_eq!(found["args"], json!(["/bin/run", "-x"]));
    assert_eq!(found["env"], json!(["A=1", path]));
    assert_eq!(found["cwd"], "/srv");
    recipe.settings = Settings {
        args: Some(vec!["other".into()]),
        user: Some((1, 2)),
        cwd: Some("/tmp".into()),
        ..Settings::default()
    };
    let found = process(&recipe, "mine")?;
    assert_eq!(found["user"], json!({ "uid": 1, "gid": 2 }));
    assert_eq!(
        (&found["args"], &found["cwd"]),
        (&json!(["other"]), &json!("/tmp"))
    );
    Ok(())
}

#[test]
fn a_user_that_the_image_does_not_know_is_refused() {
    let directory = scratch();
    let mut image = sample();
    image.config = json!({ "User": "nobody-here" });
    image.write(&directory.path().join("layout"));
    let text = refusal(&oci(directory.path().join("layout")), directory.path());
    assert_eq!(text, "user nobody-here: not in the image's /etc/passwd");
}

#[test]
fn an_account_file_that_is_a_fifo_or_a_device_is_not_read() -> Result<()> {
    for file in [
        Archive::new().fifo("etc/passwd"),
        Archive::new().device("etc/passwd", 1, 5),
    ] {
        let directory = scratch();
        let mut image = Image::new(vec![file]);
        image.config = json!({ "User": "12:34" });
        image.write(&directory.path().join("layout"));
        let recipe = oci(directory.path().join("layout"));
        recipe.bundle(&directory.path().join("bundle"))?;
    }
    Ok(())
}

#[test]
fn among_several_images_the_reference_chooses() -> Result<()> {
    let directory = scratch();
    let layout = directory.path().join("layout");
    let mut rows = Vec::new();
    for name in ["one", "two"] {
        let image = Image::new(vec![Archive::new().file("name", name)]);
        image.write(&layout);
        let text = fs::read_to_string(layout.join("index.json"))?;
        let mut index: Value = serde_json::from_str(&text)?;
        let mut row = index["manifests"][0].take();
        row["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        rows.push(row);
    }
    put(
        &layout.join("index.json"),
        json!({ "manifests": rows }).to_string().as_bytes(),
    );
    let text = refusal(&oci(layout.clone()), directory.path());
    assert!(
        text.ends_with("several images; choose one with --ref: one, two"),
        "{text}"
    );
    let builder = env!("CARGO_BIN_EXE_rootfs-builder");
    let bundle = directory.path().join("two");
    let mut command = Command::new(builder);
    command
        .arg("bundle")
        .arg(&bundle)
        .arg("--oci")
        .arg(&layout)
        .args(["--ref", "two"]);
    stdout(&mut command);
    assert_eq!(fs::read_to_string(bundle.join("rootfs/name"))?, "two");
    let absent = Recipe::new(Source::Oci {
        layout,
        reference: Some("three".into()),
    });
    let text = refusal(&absent, directory.path());
    assert!(
        text.ends_with("three: no such reference; there are: one, two"),
        "{text}"
    );
    Ok(())
}

#[test]
fn the_image_for_this_machine_is_chosen_out_of_an_index_in_an_index() -> Result<()> {
    let directory = scratch();
    let layout = directory.path().join("layout");
    let machine = if cfg!(target_arch = "x86_64") {
        "amd64"
    } else {
        "arm64"
    };
    let mut rows = Vec::new();
    for architecture in ["sparc", machine, "unknown"] {
        let image = Image::new(vec![Archive::new().file("for", architecture)]);
        image.write(&layout);
        let text = fs::read_to_string(layout.join("index.json"))?;
        let mut index: Value = serde_json::from_str(&text)?;
        let mut row = index["manifests"][0].take();
        row["platform"] = json!({ "os": "linux", "architecture": architecture });
        rows.push(row);
    }
    let inner = json!({ "manifests": rows }).to_string().into_bytes();
    let name = digest(&inner);
    put(&layout.join("blobs").join(name.replace(':', "/")), &inner);
    let index = json!({ "manifests": [{ "digest": name, "size": inner.len() }] });
    put(&layout.join("index.json"), index.to_string().as_bytes());
    let bundle = directory.path().join("bundle");
    oci(layout).bundle(&bundle)?;
    assert_eq!(fs::read_to_string(bundle.join("rootfs/for"))?, machine);
    Ok(())
}

#[test]
fn a_directory_made_for_an_image_is_for_its_owner_only() -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let directory = scratch();
    sample().write(&directory.path().join("layout"));
    let bundle = directory.path().join("bundle");
    oci(directory.path().join("layout")).bundle(&bundle)?;
    assert_eq!(fs::metadata(&bundle)?.mode() & 0o777, 0o700);
    Ok(())
}

/// An image of the host's busybox, made by the builder and packed by tar(1).
fn busybox_image(directory: &Path) -> Result<PathBuf> {
    let rootfs = directory.join("busybox");
    Recipe::new(Source::Busybox).rootfs(&rootfs)?;
    let file = directory.join("busybox.tar.gz");
    stdout(
        Command::new("tar")
            .arg("-C")
            .arg(&rootfs)
            .arg("-czf")
            .arg(&file)
            .arg("."),
    );
    Ok(file)
}

#[test]
fn a_bundle_of_a_tar_runs_under_runc() -> Result<()> {
    if !is_root() || !has("runc") || !has("tar") {
        skip(
            "a_bundle_of_a_tar_runs_under_runc",
            "it needs root, runc and tar",
        );
        return Ok(());
    }
    let directory = scratch();
    let mut recipe = Recipe::new(Source::Tar(busybox_image(directory.path())?));
    recipe.settings.args = Some(
        ["sh", "-c", "ls /bin | wc -l; exit 3"]
            .map(String::from)
            .into(),
    );
    let bundle = directory.path().join("bundle");
    recipe.bundle(&bundle)?;
    let output = runc_run(&bundle, "tar");
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    let applets: usize = String::from_utf8_lossy(&output.stdout).trim().parse()?;
    assert!(applets > 100, "{applets}");
    Ok(())
}

#[test]
fn a_rootless_bundle_runs_as_an_ordinary_user() -> Result<()> {
    const TEST: &str = "a_rootless_bundle_runs_as_an_ordinary_user";
    if !is_root() || !has("runc") {
        skip(TEST, "it needs root, to become someone else, and runc");
        return Ok(());
    }
    let directory = scratch();
    let path = |name: &str| directory.path().join(name);
    let builder = env!("CARGO_BIN_EXE_rootfs-builder");
    let builder = copied(directory.path(), builder);
    let mut build = as_ordinary_user(directory.path(), builder);
    build
        .arg("bundle")
        .arg(path("b"))
        .args(["--busybox", "--rootless"]);
    stdout(build.args(["--args", "sh", "-c", "id -u; cat /proc/self/uid_map"]));
    let mut run = as_ordinary_user(directory.path(), "runc");
    run.arg("--root")
        .arg(path("state"))
        .args(["run", "--bundle"])
        .arg(path("b"))
        .arg("rootless");
    let output = run.stdin(std::process::Stdio::null()).output()?;
    let refused = "operation not permitted";
    if !output.status.success() && told(&output).contains(refused) {
        skip(TEST, "ordinary users may not make user namespaces here");
        return Ok(());
    }
    assert!(output.status.success(), "{}", told(&output));
    let text = String::from_utf8_lossy(&output.stdout)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    assert_eq!(text, format!("0 0 {} 1", scene::ORDINARY));
    Ok(())
}
