//! Tar archives and images that no honest tool would write: every header is
//! made field by field, so a name may be anything.
#![allow(dead_code, reason = "each test file is a crate and uses its own part")]

use std::fs;
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

/// A tar archive in the making.
#[derive(Clone, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    /// What was put in, for a failed test to tell.
    pub log: Vec<String>,
}

impl Archive {
    pub fn new() -> Self {
        Self::default()
    }

    /// Any member; uid and gid are those of the tests.
    pub fn member(
        mut self,
        kind: EntryType,
        name: &str,
        link: &str,
        mode: u32,
        content: &[u8],
    ) -> Self {
        self.log.push(format!("{kind:?} {name} {link} {mode:o}"));
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(rustix::process::geteuid().as_raw().into());
        header.set_gid(rustix::process::getegid().as_raw().into());
        header.set_mtime(1_000_000_000);
        header.set_size(content.len() as u64);
        let bytes = header.as_mut_bytes();
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        bytes[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.bytes.extend(header.as_bytes());
        self.bytes.extend(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    /// The last member's header once more in the making: changed, and summed again.
    pub fn altered(mut self, change: impl FnOnce(&mut Header)) -> Self {
        let start = self.bytes.len() - 512;
        let mut header = Header::from_byte_slice(&self.bytes[start..]).clone();
        change(&mut header);
        header.set_cksum();
        self.bytes.truncate(start);
        self.bytes.extend(header.as_bytes());
        self
    }

    pub fn file(self, name: &str, content: &str) -> Self {
        self.member(EntryType::Regular, name, "", 0o644, content.as_bytes())
    }

    pub fn dir(self, name: &str) -> Self {
        self.dir_mode(name, 0o755)
    }

    pub fn dir_mode(self, name: &str, mode: u32) -> Self {
        self.member(EntryType::Directory, name, "", mode, b"")
    }

    pub fn symlink(self, name: &str, text: &str) -> Self {
        self.member(EntryType::Symlink, name, text, 0o777, b"")
    }

    pub fn hard_link(self, name: &str, existing: &str) -> Self {
        self.member(EntryType::Link, name, existing, 0o644, b"")
    }

    pub fn fifo(self, name: &str) -> Self {
        self.member(EntryType::Fifo, name, "", 0o600, b"")
    }

    pub fn device(self, name: &str, major: u32, minor: u32) -> Self {
        self.member(EntryType::Char, name, "", 0o666, b"")
            .altered(|header| {
                let set = header
                    .set_device_major(major)
                    .and_then(|()| header.set_device_minor(minor));
                assert!(set.is_ok(), "{set:?}");
            })
    }

    /// An extended header for the next member.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut text = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            // The length counts its own digits.
            let digits = (1..).find(|digits| (rest + digits).to_string().len() == *digits);
            let length = rest + digits.unwrap_or_default();
            text.extend(format!("{length} {key}=").as_bytes());
            text.extend(*value);
            text.push(b'\n');
        }
        self.member(EntryType::XHeader, "PaxHeaders/x", "", 0o644, &text)
    }

    /// The archive with the two empty blocks that end it.
    pub fn bytes(&self) -> Vec<u8> {
        [&self.bytes[..], &[0; 1024]].concat()
    }

    /// The archive without an end.
    pub fn raw(&self) -> &[u8] {
        &self.bytes
    }

    pub fn write(&self, path: &Path) {
        put(path, &self.bytes());
    }
}

pub fn put(path: &Path, bytes: &[u8]) {
    if let Some(parent) = path.parent() {
        let made = fs::create_dir_all(parent);
        assert!(made.is_ok(), "{}: {made:?}", parent.display());
    }
    let written = fs::write(path, bytes);
    assert!(written.is_ok(), "{}: {written:?}", path.display());
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    written.unwrap_or_else(|error| panic!("gzip: {error}"))
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}

/// An image in the making: how its layers are stored, and its configuration.
pub struct Image {
    pub layers: Vec<Archive>,
    pub compress: fn(&[u8]) -> Vec<u8>,
    pub config: Value,
}

impl Image {
    pub fn new(layers: Vec<Archive>) -> Self {
        Self {
            layers,
            compress: <[u8]>::to_vec,
            config: json!({}),
        }
    }

    fn configuration(&self) -> Vec<u8> {
        let contents = self.layers.iter().map(|layer| digest(&layer.bytes()));
        let contents: Vec<String> = contents.collect();
        let configuration = json!({
            "architecture": "amd64", "os": "linux", "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": contents },
        });
        configuration.to_string().into_bytes()
    }

    /// Every file of an OCI image layout, by its name.
    pub fn layout(&self) -> Vec<(String, Vec<u8>)> {
        let mut files = Vec::new();
        let mut blob = |bytes: Vec<u8>| {
            let row = json!({ "digest": digest(&bytes), "size": bytes.len() });
            let name = digest(&bytes).replace(':', "/");
            files.push((format!("blobs/{name}"), bytes));
            row
        };
        let layers = self
            .layers
            .iter()
            .map(|layer| (self.compress)(&layer.bytes()));
        let layers: Vec<Value> = layers.map(&mut blob).collect();
        let config = blob(self.configuration());
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers });
        let manifest = blob(manifest.to_string().into_bytes());
        let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
        files.push(("index.json".into(), index.to_string().into_bytes()));
        files.push((
            "oci-layout".into(),
            br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
        ));
        files
    }

    /// Every file of what `docker save` wrote before version 25.
    pub fn saved(&self) -> Archive {
        let configuration = self.configuration();
        let name = digest(&configuration).replace("sha256:", "") + ".json";
        let names = (0..self.layers.len()).map(|number| format!("{number}/layer.tar"));
        let names: Vec<String> = names.collect();
        let manifest = json!([{ "Config": name, "RepoTags": ["test:1"], "Layers": names }]);
        let mut archive = Archive::new();
        for (name, layer) in names.iter().zip(&self.layers) {
            archive = archive.member(EntryType::Regular, name, "", 0o644, &layer.bytes());
        }
        archive
            .member(EntryType::Regular, &name, "", 0o644, &configuration)
            .file("manifest.json", &manifest.to_string())
    }

    /// Writes the layout as a directory.
    pub fn write(&self, directory: &Path) {
        for (name, bytes) in self.layout() {
            put(&directory.join(name), &bytes);
        }
    }
}
