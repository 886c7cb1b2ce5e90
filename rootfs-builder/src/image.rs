//! Finds one image in an OCI image layout or an archive of `docker save`: its
//! layers in order, and what its configuration says of the process.

use std::io::Read;

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::blobs::{Blob, Blobs};
use crate::compression::plain;
use crate::digest::Digest;
use crate::errno::shown;
use crate::layer::Unpacker;

/// An index may name further indexes, up to here.
const MAX_DEPTH: usize = 4;

/// The name that an index gives an image (OCI image specification, annotations.md).
const REFERENCE: &str = "org.opencontainers.image.ref.name";

/// The names that images have for the machines that Rust names otherwise.
const ARCHITECTURES: &[(&str, &str)] = &[
    ("x86_64", "amd64"),
    ("x86", "386"),
    ("aarch64", "arm64"),
    ("powerpc64", "ppc64le"),
    ("loongarch64", "loong64"),
];

// Only the fields that are used: a type for all of them (oci-spec's) refuses an
// image for a field that a root filesystem does not need.

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    size: u64,
    platform: Option<Platform>,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Platform {
    os: String,
    architecture: String,
}

/// A manifest, or an index in its place.
#[derive(Deserialize)]
struct Manifest {
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

/// A row of the manifest.json of `docker save`.
#[derive(Deserialize)]
struct Saved {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "RepoTags", default)]
    tags: Option<Vec<String>>,
    #[serde(rename = "Layers")]
    layers: Vec<String>,
}

#[derive(Deserialize)]
struct Configuration {
    #[serde(default)]
    config: Option<Process>,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

/// What the image says of its process (OCI image specification, config.md).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Process {
    pub(crate) user: Option<String>,
    pub(crate) env: Option<Vec<String>>,
    pub(crate) entrypoint: Option<Vec<String>>,
    pub(crate) cmd: Option<Vec<String>>,
    pub(crate) working_dir: Option<String>,
}

/// A layer's blob, and the digest of what it unpacks to.
struct Layer {
    name: String,
    blob: Blob,
    content: Digest,
}

/// One image. Every blob but the layers of `docker save` was checked against
/// its digest; those are checked while they are applied.
pub(crate) struct Image {
    layers: Vec<Layer>,
    process: Process,
}

impl Image {
    /// `reference` chooses among several images: a name of the index, or a tag.
    ///
    /// # Errors
    /// A blob is missing, is not what its digest names, or there are several
    /// images and no reference.
    pub(crate) fn find(blobs: &Blobs, reference: Option<&str>) -> Result<Self> {
        if let Some(index) = blobs.get("index.json")? {
            let index: Index = parse(&index.json()?, "index.json")?;
            let named = named(index.manifests, reference)?;
            return Self::in_layout(blobs, named);
        }
        match blobs.get("manifest.json")? {
            Some(manifest) => Self::saved(blobs, &manifest, reference),
            None => bail!(
                "neither an OCI image layout (index.json) nor a docker archive (manifest.json)"
            ),
        }
    }

    /// Applies all layers; what the image says of its process.
    ///
    /// # Errors
    /// A layer is damaged, or does not unpack to what the configuration says.
    pub(crate) fn unpack(self, unpacker: &mut Unpacker) -> Result<Process> {
        for layer in &self.layers {
            apply(layer, unpacker).with_context(|| format!("layer {}", shown(&layer.name)))?;
        }
        Ok(self.process)
    }

    fn in_layout(blobs: &Blobs, mut candidates: Vec<Descriptor>) -> Result<Self> {
        for _ in 0..MAX_DEPTH {
            let chosen = for_this_machine(candidates)?;
            let (manifest, _) = fetch(blobs, &chosen)?;
            let manifest: Manifest = parse(&manifest.json()?, &chosen.digest)?;
            match manifest {
                Manifest {
                    manifests: Some(deeper),
                    ..
                } => candidates = deeper,
                Manifest {
                    config: Some(config),
                    layers: Some(layers),
                    ..
                } => {
                    return Self::assemble(blobs, &config, &layers);
                }
                _ => bail!("{}: not an image manifest", shown(&chosen.digest)),
            }
        }
        bail!("index.json: indexes within indexes, more than {MAX_DEPTH} deep")
    }

    fn assemble(blobs: &Blobs, config: &Descriptor, layers: &[Descriptor]) -> Result<Self> {
        let (blob, _) = fetch(blobs, config)?;
        let configuration: Configuration = parse(&blob.json()?, &config.digest)?;
        let mut found = Vec::new();
        for layer in layers {
            let (blob, digest) = fetch(blobs, layer)?;
            found.push((digest.to_string(), blob));
        }
        Self::with(configuration, found, &config.digest)
    }

    fn saved(blobs: &Blobs, manifest: &Blob, reference: Option<&str>) -> Result<Self> {
        let rows: Vec<Saved> = parse(&manifest.json()?, "manifest.json")?;
        let chosen = |row: &&Saved| {
            let tags = row.tags.as_deref().unwrap_or_default();
            reference.is_none_or(|wanted| tags.iter().any(|tag| tag == wanted))
        };
        let found: Vec<&Saved> = rows.iter().filter(chosen).collect();
        let row = match found.as_slice() {
            [row] => row,
            [] => bail!(
                "{}: no such image in manifest.json",
                shown(reference.unwrap_or("image"))
            ),
            _ => bail!("manifest.json: several images; choose one with --ref"),
        };
        let blob = blobs.need(&row.config)?;
        // Its name is its digest, in the older form and the newer one.
        let name = row
            .config
            .trim_start_matches("blobs/sha256/")
            .trim_end_matches(".json");
        if let Ok(digest) = Digest::parse(&format!("sha256:{name}")) {
            digest
                .verify(blob.reader())
                .with_context(|| shown(&row.config))?;
        }
        let configuration: Configuration = parse(&blob.json()?, &row.config)?;
        let layers = row
            .layers
            .iter()
            .map(|name| Ok((name.clone(), blobs.need(name)?)));
        Self::with(configuration, layers.collect::<Result<_>>()?, &row.config)
    }

    fn with(configuration: Configuration, layers: Vec<(String, Blob)>, name: &str) -> Result<Self> {
        let contents = configuration.rootfs.diff_ids;
        if contents.len() != layers.len() {
            let (said, found) = (contents.len(), layers.len());
            bail!("{}: {said} diff_ids for {found} layers", shown(name));
        }
        if layers.is_empty() {
            bail!("{}: an image without layers", shown(name));
        }
        let pairs = layers.into_iter().zip(contents);
        let layers = pairs.map(|((name, blob), content)| {
            let content = Digest::parse(&content)?;
            Ok(Layer {
                name,
                blob,
                content,
            })
        });
        Ok(Self {
            layers: layers.collect::<Result<_>>()?,
            process: configuration.config.unwrap_or_default(),
        })
    }
}

fn apply(layer: &Layer, unpacker: &mut Unpacker) -> Result<()> {
    let (_, content) = plain(layer.blob.reader())?;
    let mut hashed = layer.content.reader(content);
    unpacker.apply(hashed.by_ref())?;
    hashed.finish()
}

/// The blob of a descriptor, checked before anything is made of it.
fn fetch(blobs: &Blobs, descriptor: &Descriptor) -> Result<(Blob, Digest)> {
    let digest = Digest::parse(&descriptor.digest)?;
    let blob = blobs.need(&digest.path())?;
    if blob.length() != descriptor.size {
        let (said, found) = (descriptor.size, blob.length());
        bail!("{digest}: {found} bytes, and its descriptor says {said}");
    }
    digest.verify(blob.reader())?;
    Ok((blob, digest))
}

/// The rows of an index that have that name; without a name, all that share one.
fn named(manifests: Vec<Descriptor>, reference: Option<&str>) -> Result<Vec<Descriptor>> {
    let name = |row: &Descriptor| row.annotations.get(REFERENCE).cloned();
    let mut names: Vec<String> = manifests.iter().filter_map(name).collect();
    names.sort_unstable();
    names.dedup();
    if let Some(wanted) = reference {
        let rows = manifests
            .into_iter()
            .filter(|row| name(row).as_deref() == Some(wanted));
        let rows: Vec<Descriptor> = rows.collect();
        if rows.is_empty() {
            bail!(
                "{}: no such reference; there are: {}",
                shown(wanted),
                shown(names.join(", "))
            );
        }
        return Ok(rows);
    }
    if names.len() > 1 {
        bail!(
            "several images; choose one with --ref: {}",
            shown(names.join(", "))
        );
    }
    Ok(manifests)
}

/// The only row, or else the one for Linux on this machine.
fn for_this_machine(rows: Vec<Descriptor>) -> Result<Descriptor> {
    let machine = std::env::consts::ARCH;
    let known = ARCHITECTURES.iter().find(|(ours, _)| *ours == machine);
    let machine = known.map_or(machine, |(_, theirs)| *theirs);
    let only = rows.len() == 1;
    let fits = |row: &Descriptor| {
        let platform = row.platform.as_ref();
        platform.is_some_and(|platform| platform.os == "linux" && platform.architecture == machine)
    };
    let found = rows.into_iter().find(|row| only || fits(row));
    found.ok_or_else(|| anyhow!("no image for linux/{machine}"))
}

fn parse<T: DeserializeOwned>(json: &[u8], name: &str) -> Result<T> {
    serde_json::from_slice(json).with_context(|| shown(name))
}
